#include "base/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/wire.h"

#define MAGIC_BYTES 8u
#define SALT_BYTES 8u
#define START (MAGIC_BYTES + SALT_BYTES) // of the records
#define HEAD_BYTES 24u
#define EPOCH_AT 8u // in the head
#define LOOKS_MAX 100u
static const uint8_t magic[MAGIC_BYTES] = "HMJRNL1\n";
_Static_assert(HM_JOURNAL_RECORD_MAX == HM_JOURNAL_FILE_BYTES - START - HEAD_BYTES, "");

struct hm_journal {
    int fd[2];
    uint8_t salt[2][SALT_BYTES];
    uint64_t epoch;
    uint32_t next;   // number of the record to come
    uint32_t before; // how many the epoch before had
    size_t end;      // where it goes
    bool failed;     // something may be there
    hm_buf record;   // kept for its memory
};

static void file_name(const char *dir, unsigned i, char path[4200])
{
    snprintf(path, 4200, "%s/journal.%u", dir, i);
}

// ---- records ------------------------------------------------------------------------------------

typedef struct head {
    uint32_t len;
    uint64_t epoch;
    uint32_t number, before;
} head;

static uint32_t checksum(const uint8_t salt[SALT_BYTES], const head *h, hm_bytes record)
{
    uint8_t mem[SALT_BYTES + HEAD_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_raw(&b, salt, SALT_BYTES);
    hm_wr_u32(&b, h->len);
    hm_wr_u64(&b, h->epoch);
    hm_wr_u32(&b, h->number);
    hm_wr_u32(&b, h->before);
    return hm_crc32c(hm_crc32c(0, hm_buf_bytes(&b)), record);
}

static void record_write(hm_buf *out, const uint8_t salt[SALT_BYTES], const head *h,
                         hm_bytes record)
{
    hm_wr_u32(out, h->len);
    hm_wr_u32(out, checksum(salt, h, record));
    hm_wr_u64(out, h->epoch);
    hm_wr_u32(out, h->number);
    hm_wr_u32(out, h->before);
    hm_buf_put(out, record);
}

// An intact record at the front of b; its length with the head, or 0.
static size_t record_read(hm_bytes b, const uint8_t salt[SALT_BYTES], head *h, hm_bytes *record)
{
    hm_rd r = hm_rd_of(b);
    h->len = hm_rd_u32(&r);
    uint32_t crc = hm_rd_u32(&r);
    h->epoch = hm_rd_u64(&r);
    h->number = hm_rd_u32(&r);
    h->before = hm_rd_u32(&r);
    *record = hm_rd_raw(&r, h->len);
    return hm_rd_ok(&r) && checksum(salt, h, *record) == crc ? HEAD_BYTES + h->len : 0;
}

// ---- a file as it was found ---------------------------------------------------------------------

typedef struct found {
    hm_buf content;
    uint64_t epoch; // 0: nothing above what is applied
    uint32_t count, before;
    size_t end;
} found;

static const uint8_t *salt_of(const found *f)
{
    return f->content.ptr + MAGIC_BYTES;
}

// Whether an intact record of an epoch that is not applied begins in what lies after the last one.
static bool holds_record(const found *f, uint64_t applied)
{
    static const uint8_t zeros[4096];
    const uint8_t *from = f->content.ptr + f->end, *end = f->content.ptr + f->content.len;
    const uint8_t *last = end; // most of a young file is zeros
    while (last >= from + sizeof zeros && memcmp(last - sizeof zeros, zeros, sizeof zeros) == 0)
        last -= sizeof zeros;
    last = last + 8 < end ? last + 8 : end; // an epoch may end with zeros
    for (uint64_t epoch = applied + 1; epoch <= applied + 2; epoch++) {
        uint8_t mem[8];
        hm_buf wanted = hm_buf_fixed(mem, sizeof mem);
        hm_wr_u64(&wanted, epoch);
        for (const uint8_t *at = from + EPOCH_AT;
             at < last && (at = memmem(at, (size_t)(last - at), mem, sizeof mem)); at++) {
            const uint8_t *start = at - EPOCH_AT;
            head h;
            hm_bytes record;
            if (record_read(hm_bytes_of(start, (size_t)(end - start)), salt_of(f), &h, &record) > 0)
                return true;
        }
    }
    return false;
}

// Beside a writer a record may come after its place was read, and the one after it before.
static hm_err scan(const char *path, unsigned i, uint64_t applied, bool beside, found *f)
{
    hm_bytes all = hm_buf_bytes(&f->content), record;
    head h;
    if (all.len != HM_JOURNAL_FILE_BYTES || memcmp(all.ptr, magic, MAGIC_BYTES) != 0)
        return hm_fail(HM_E_CORRUPT, "%s: not a journal of this program", path);
    f->end = START;
    for (;;) {
        hm_bytes rest = hm_bytes_of(all.ptr + f->end, all.len - f->end);
        size_t len = record_read(rest, salt_of(f), &h, &record);
        if (len == 0 || h.epoch <= applied || h.number != f->count ||
            (f->epoch != 0 && h.epoch != f->epoch))
            break;
        if (f->count == 0)
            f->before = h.before;
        f->epoch = h.epoch;
        f->count++;
        f->end += len;
    }
    if (!beside && holds_record(f, applied))
        return hm_fail(HM_E_CORRUPT,
                       "%s: damaged at byte %zu with records after it; put it back from a copy",
                       path, f->end);
    if (f->epoch != 0 && (f->epoch % 2 != i || f->epoch > applied + 2))
        return hm_fail(HM_E_CORRUPT,
                       "%s and the database beside it are not of the same time: this has epoch "
                       "%llu, that was given up to %llu",
                       path, (unsigned long long)f->epoch, (unsigned long long)applied);
    return HM_OK;
}

// Whether the newer of two epochs is there without all of the older.
static bool gap(const found f[2], uint64_t applied)
{
    const found *older = &f[(applied + 1) % 2], *newer = &f[applied % 2];
    return newer->epoch != 0 && (older->epoch == 0 || older->count != newer->before);
}

static hm_err gone(const char *path)
{
    return hm_fail(HM_E_CORRUPT, "%s is gone: put it back from a copy", path);
}

static hm_err give(uint64_t applied, const found f[2], hm_journal_each each, void *ctx)
{
    for (uint64_t epoch = applied + 1; epoch <= applied + 2; epoch++) {
        const found *one = &f[epoch % 2];
        size_t at = START;
        for (uint32_t i = 0; one->epoch == epoch && i < one->count; i++) {
            head h;
            hm_bytes record;
            at += record_read(hm_bytes_of(one->content.ptr + at, one->end - at), salt_of(one), &h,
                              &record);
            HM_TRY(each(ctx, epoch, record));
        }
    }
    return HM_OK;
}

static void found_free(found f[2])
{
    for (unsigned i = 0; i < 2; i++) {
        hm_buf_free(&f[i].content);
        f[i] = (found){0};
    }
}

hm_err hm_journal_look(const char *dir, hm_err (*applied)(void *ctx, uint64_t *epoch),
                       hm_journal_each each, void *ctx)
{
    found f[2] = {0};
    char path[4200];
    uint64_t epoch = 0;
    hm_err err = HM_OK;
    for (unsigned tries = 0; tries == 0 || gap(f, epoch); tries++) {
        // Again: a file was read before the epoch that the database lacks began in it.
        if (tries == LOOKS_MAX) {
            err = hm_fail(HM_E_CORRUPT, "%s: a file of the journal was lost or put back", dir);
            goto out;
        }
        found_free(f);
        for (unsigned i = 0; i < 2; i++) {
            file_name(dir, i, path);
            err = hm_file_read(path, HM_JOURNAL_FILE_BYTES, &f[i].content);
            if (err == HM_E_NOTFOUND)
                err = HM_OK; // nobody has opened it yet
            else
                HM_TRY_OUT(err);
        }
        HM_TRY_OUT(applied(ctx, &epoch));
        for (unsigned i = 0; i < 2; i++) {
            file_name(dir, i, path);
            if (f[i].content.len > 0) {
                HM_TRY_OUT(scan(path, i, epoch, true, &f[i]));
            } else if (epoch > 0) {
                err = gone(path);
                goto out;
            }
        }
    }
    HM_TRY_OUT(give(epoch, f, each, ctx));
out:
    found_free(f);
    return err;
}

// ---- open ---------------------------------------------------------------------------------------

static hm_err write_at(int fd, const char *path, hm_bytes data, size_t at)
{
    while (data.len > 0) {
        ssize_t n = pwrite(fd, data.ptr, data.len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hm_fail(hm_err_of_write(errno), "%s: %s", path, strerror(errno));
        data = hm_bytes_of(data.ptr + n, data.len - (size_t)n);
        at += (size_t)n;
    }
    if (fdatasync(fd) != 0)
        return hm_fail(hm_err_of_write(errno), "%s: fdatasync: %s", path, strerror(errno));
    return HM_OK;
}

// All of it is written, so that a record is a write to blocks that are there.
static hm_err make(const char *path)
{
    uint8_t *zeros = calloc(1, HM_JOURNAL_FILE_BYTES);
    if (!zeros)
        return HM_E_NOMEM;
    memcpy(zeros, magic, MAGIC_BYTES);
    hm_random_fill(&hm_random_system, zeros + MAGIC_BYTES, SALT_BYTES);
    hm_err err = hm_file_write(path, hm_bytes_of(zeros, HM_JOURNAL_FILE_BYTES), 0600);
    free(zeros);
    return err;
}

static hm_err open_one(hm_journal *j, const char *dir, unsigned i, uint64_t applied, found *f)
{
    char path[4200];
    file_name(dir, i, path);
    if (access(path, F_OK) != 0) {
        if (applied > 0)
            return gone(path);
        HM_TRY(make(path));
    }
    HM_TRY(hm_file_read(path, HM_JOURNAL_FILE_BYTES, &f->content));
    HM_TRY(scan(path, i, applied, false, f));
    memcpy(j->salt[i], salt_of(f), SALT_BYTES);
    j->fd[i] = open(path, O_WRONLY | O_CLOEXEC);
    if (j->fd[i] < 0)
        return hm_fail(HM_E_IO, "%s: %s", path, strerror(errno));
    // The last record may stand in the page cache alone, written by a process that ended before it
    // was on the disk. Who reads it will act on it; and what was lost once, a second sync skips.
    return f->epoch == 0 ? HM_OK : write_at(j->fd[i], path, hm_bytes_of(f->content.ptr, f->end), 0);
}

hm_err hm_journal_open(const char *dir, uint64_t applied, hm_journal_each each, void *ctx,
                       hm_journal **out)
{
    found f[2] = {0};
    hm_err err;
    hm_journal *j = calloc(1, sizeof *j);
    if (!j)
        return HM_E_NOMEM;
    j->fd[0] = j->fd[1] = -1;
    for (unsigned i = 0; i < 2; i++)
        HM_TRY_OUT(open_one(j, dir, i, applied, &f[i]));
    if (gap(f, applied)) {
        err = hm_fail(HM_E_CORRUPT,
                      "%s/journal.%u was lost, damaged or put back: it lacks records of epoch %llu",
                      dir, (unsigned)((applied + 1) % 2), (unsigned long long)applied + 1);
        goto out;
    }
    HM_TRY_OUT(give(applied, f, each, ctx));
    j->epoch = f[applied % 2].epoch != 0 ? applied + 2 : applied + 1;
    j->next = f[j->epoch % 2].count;
    j->end = f[j->epoch % 2].end;
    *out = j;
    j = NULL;
out:
    found_free(f);
    hm_journal_close(j);
    return err;
}

void hm_journal_close(hm_journal *j)
{
    if (!j)
        return;
    for (unsigned i = 0; i < 2; i++)
        if (j->fd[i] >= 0)
            close(j->fd[i]);
    hm_buf_free(&j->record);
    free(j);
}

// ---- use ----------------------------------------------------------------------------------------

uint64_t hm_journal_epoch(const hm_journal *j)
{
    return j->epoch;
}

size_t hm_journal_room(const hm_journal *j)
{
    size_t left = HM_JOURNAL_FILE_BYTES - j->end;
    return left > HEAD_BYTES ? left - HEAD_BYTES : 0;
}

hm_err hm_journal_append(hm_journal *j, hm_bytes record)
{
    if (record.len > hm_journal_room(j))
        return hm_fail(HM_E_LIMIT, "the journal's file has no room for %zu bytes", record.len);
    hm_assert(!j->failed);
    hm_buf_reset(&j->record);
    const head h = {(uint32_t)record.len, j->epoch, j->next, j->before};
    record_write(&j->record, j->salt[j->epoch % 2], &h, record);
    HM_TRY(hm_buf_status(&j->record));
    hm_err err = write_at(j->fd[j->epoch % 2], "the journal", hm_buf_bytes(&j->record), j->end);
    j->failed = err != HM_OK;
    HM_TRY(err);
    j->end += j->record.len;
    j->next++;
    return HM_OK;
}

hm_err hm_journal_mend(hm_journal *j)
{
    static const uint8_t none[HEAD_BYTES];
    if (!j->failed)
        return HM_OK;
    HM_TRY(write_at(j->fd[j->epoch % 2], "the journal", hm_bytes_of(none, sizeof none), j->end));
    j->failed = false;
    return HM_OK;
}

void hm_journal_turn(hm_journal *j)
{
    hm_assert(!j->failed);
    j->epoch++;
    j->before = j->next;
    j->next = 0;
    j->end = START;
}
