#include "base/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/wire.h"

#define MAGIC_BYTES 8u
#define HEAD_BYTES 20u
#define EPOCH_AT 8u // in the head
static const uint8_t magic[MAGIC_BYTES] = "HMJRNL1\n";
_Static_assert(HM_JOURNAL_RECORD_MAX == HM_JOURNAL_FILE_BYTES - MAGIC_BYTES - HEAD_BYTES, "");

struct hm_journal {
    int fd[2];
    uint64_t epoch;
    uint32_t next; // number of the record to come
    size_t end;    // where it goes
    hm_buf record; // kept for its memory
};

static void file_name(const char *dir, unsigned i, char path[4200])
{
    snprintf(path, 4200, "%s/journal.%u", dir, i);
}

// ---- records ------------------------------------------------------------------------------------

static void record_write(hm_buf *out, uint64_t epoch, uint32_t number, hm_bytes record)
{
    uint8_t mem[HEAD_BYTES];
    hm_buf head = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u32(&head, (uint32_t)record.len);
    hm_wr_u64(&head, epoch);
    hm_wr_u32(&head, number);
    uint32_t crc = hm_crc32c(hm_crc32c(0, hm_buf_bytes(&head)), record);
    hm_wr_u32(out, (uint32_t)record.len);
    hm_wr_u32(out, crc);
    hm_wr_u64(out, epoch);
    hm_wr_u32(out, number);
    hm_buf_put(out, record);
}

// An intact record at the front of b; its length with the head, or 0.
static size_t record_read(hm_bytes b, uint64_t *epoch, uint32_t *number, hm_bytes *record)
{
    uint8_t mem[HEAD_BYTES];
    hm_buf head = hm_buf_fixed(mem, sizeof mem);
    hm_rd r = hm_rd_of(b);
    uint32_t len = hm_rd_u32(&r), crc = hm_rd_u32(&r);
    *epoch = hm_rd_u64(&r);
    *number = hm_rd_u32(&r);
    *record = hm_rd_raw(&r, len);
    if (!hm_rd_ok(&r))
        return 0;
    hm_wr_u32(&head, len);
    hm_wr_u64(&head, *epoch);
    hm_wr_u32(&head, *number);
    return hm_crc32c(hm_crc32c(0, hm_buf_bytes(&head)), *record) == crc ? HEAD_BYTES + len : 0;
}

// ---- a file as it was found ---------------------------------------------------------------------

typedef struct found {
    hm_buf content;
    uint64_t epoch; // 0: nothing above what is applied
    uint32_t count;
    size_t end;
} found;

// Whether an intact record of an epoch that is not applied begins anywhere in b.
static bool holds_record(hm_bytes b, uint64_t applied)
{
    for (uint64_t epoch = applied + 1; epoch <= applied + 2; epoch++) {
        uint8_t mem[8];
        hm_buf wanted = hm_buf_fixed(mem, sizeof mem);
        hm_wr_u64(&wanted, epoch);
        const uint8_t *at = b.ptr + EPOCH_AT, *end = b.ptr + b.len;
        while (b.len >= HEAD_BYTES && at < end &&
               (at = memmem(at, (size_t)(end - at), mem, sizeof mem))) {
            const uint8_t *start = at++ - EPOCH_AT;
            uint64_t e;
            uint32_t number;
            hm_bytes record;
            if (record_read(hm_bytes_of(start, (size_t)(end - start)), &e, &number, &record) > 0)
                return true;
        }
    }
    return false;
}

// Beside a writer a record may come after its place was read, and the one after it before.
static hm_err scan(const char *path, unsigned i, uint64_t applied, bool beside, found *f)
{
    hm_bytes all = hm_buf_bytes(&f->content), record;
    uint64_t epoch;
    uint32_t number;
    if (all.len != HM_JOURNAL_FILE_BYTES || memcmp(all.ptr, magic, MAGIC_BYTES) != 0)
        return hm_fail(HM_E_CORRUPT, "%s: not a journal of this program", path);
    f->end = MAGIC_BYTES;
    for (;;) {
        hm_bytes rest = hm_bytes_of(all.ptr + f->end, all.len - f->end);
        size_t len = record_read(rest, &epoch, &number, &record);
        if (len == 0 || epoch <= applied || number != f->count ||
            (f->epoch != 0 && epoch != f->epoch))
            break;
        f->epoch = epoch;
        f->count++;
        f->end += len;
    }
    hm_bytes rest = hm_bytes_of(all.ptr + f->end, all.len - f->end);
    if (!beside && holds_record(rest, applied))
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

// Whether the newer of two epochs is there without the older.
static bool gap(const found f[2], uint64_t applied)
{
    return f[applied % 2].epoch != 0 && f[(applied + 1) % 2].epoch == 0;
}

static hm_err give(uint64_t applied, const found f[2], hm_journal_each each, void *ctx)
{
    for (uint64_t epoch = applied + 1; epoch <= applied + 2; epoch++) {
        const found *one = &f[epoch % 2];
        size_t at = MAGIC_BYTES;
        for (uint32_t i = 0; one->epoch == epoch && i < one->count; i++) {
            uint64_t e;
            uint32_t number;
            hm_bytes record;
            at += record_read(hm_bytes_of(one->content.ptr + at, one->end - at), &e, &number,
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
    uint64_t epoch;
    hm_err err;
    do { // again when a file was read before the epoch that the database lacks began in it
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
            if (f[i].content.len > 0)
                HM_TRY_OUT(scan(path, i, epoch, true, &f[i]));
        }
    } while (gap(f, epoch));
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
    hm_err err = hm_file_write(path, hm_bytes_of(zeros, HM_JOURNAL_FILE_BYTES), 0600);
    free(zeros);
    return err;
}

static hm_err open_one(hm_journal *j, const char *dir, unsigned i, uint64_t applied, found *f)
{
    char path[4200];
    file_name(dir, i, path);
    if (access(path, F_OK) != 0)
        HM_TRY(make(path));
    HM_TRY(hm_file_read(path, HM_JOURNAL_FILE_BYTES, &f->content));
    HM_TRY(scan(path, i, applied, false, f));
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
        err = hm_fail(HM_E_CORRUPT, "%s/journal.%u was lost or put back: it lacks epoch %llu", dir,
                      (unsigned)((applied + 1) % 2), (unsigned long long)applied + 1);
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
    hm_buf_reset(&j->record);
    record_write(&j->record, j->epoch, j->next, record);
    HM_TRY(hm_buf_status(&j->record));
    HM_TRY(write_at(j->fd[j->epoch % 2], "the journal", hm_buf_bytes(&j->record), j->end));
    j->end += j->record.len;
    j->next++;
    return HM_OK;
}

void hm_journal_turn(hm_journal *j)
{
    j->epoch++;
    j->next = 0;
    j->end = MAGIC_BYTES;
}
