#include "base/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crc.h"

#define WAL_HEADER_BYTES 8u
static const uint8_t wal_magic[WAL_HEADER_BYTES] = "HMWAL1\0";

struct hm_wal {
    int fd;
    bool broken;
    uint64_t size;
    char *path; // owned
};

static void put_record(hm_buf *out, hm_bytes record)
{
    uint8_t len[4];
    hm_buf l = hm_buf_fixed(len, sizeof len);
    hm_wr_u32(&l, (uint32_t)record.len);
    hm_buf_append(out, len, 4);
    hm_wr_u32(out, hm_crc32c(hm_crc32c(0, hm_bytes_of(len, 4)), record));
    hm_buf_put(out, record);
}

// Reads one record at the front of r. HM_E_TRUNCATED or HM_E_CORRUPT when there is none whole.
static hm_err get_record(hm_rd *r, hm_bytes *out)
{
    const uint8_t *start = r->ptr;
    uint32_t len = hm_rd_u32(r), crc = hm_rd_u32(r);
    if (len > HM_WAL_RECORD_MAX)
        return HM_E_CORRUPT;
    hm_bytes b = hm_rd_raw(r, len);
    if (!hm_rd_ok(r))
        return r->status;
    if (hm_crc32c(hm_crc32c(0, hm_bytes_of(start, 4)), b) != crc)
        return HM_E_CORRUPT;
    *out = b;
    return HM_OK;
}

// Whether an intact, non-empty record starts anywhere in b.
static bool holds_record(hm_bytes b)
{
    for (size_t i = 0; i + 8 < b.len; i++) {
        hm_rd r = hm_rd_of(hm_bytes_of(b.ptr + i, b.len - i));
        hm_bytes record;
        // Only a plausible length is worth a checksum.
        uint32_t len = (uint32_t)b.ptr[i] << 24 | (uint32_t)b.ptr[i + 1] << 16 |
                       (uint32_t)b.ptr[i + 2] << 8 | b.ptr[i + 3];
        if (len == 0 || len > b.len - i - 8)
            continue;
        if (get_record(&r, &record) == HM_OK)
            return true;
    }
    return false;
}

// Gives every whole record of content; *good is the length up to the end of the last one.
static hm_err replay(const char *path, hm_bytes content, hm_err (*each)(void *, hm_bytes),
                     void *ctx, uint64_t *good)
{
    if (content.len < WAL_HEADER_BYTES) {
        *good = 0;
        return HM_OK;
    }
    if (memcmp(content.ptr, wal_magic, WAL_HEADER_BYTES) != 0)
        return hm_fail(HM_E_CORRUPT, "%s: not a log of this program", path);
    hm_rd r = hm_rd_of(hm_bytes_of(content.ptr + WAL_HEADER_BYTES, content.len - WAL_HEADER_BYTES));
    *good = WAL_HEADER_BYTES;
    while (r.left > 0) {
        hm_rd at = r;
        hm_bytes record;
        if (get_record(&r, &record) != HM_OK) {
            if (holds_record(hm_bytes_of(at.ptr + 1, at.left - 1)))
                return hm_fail(
                    HM_E_CORRUPT,
                    "%s: damaged at byte %llu with records after it; restore the disk or "
                    "rejoin with a new key",
                    path, (unsigned long long)*good);
            return HM_OK; // a torn tail
        }
        HM_TRY(each(ctx, record));
        *good = (uint64_t)(r.ptr - content.ptr);
    }
    return HM_OK;
}

static hm_err write_synced(hm_wal *w, hm_bytes data)
{
    while (data.len > 0) {
        ssize_t n = write(w->fd, data.ptr, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            w->broken = true;
            return hm_fail(hm_err_of_write(errno), "%s: %s", w->path, strerror(errno));
        }
        data.ptr += n;
        data.len -= (size_t)n;
        w->size += (uint64_t)n;
    }
    if (fdatasync(w->fd) != 0) {
        w->broken = true;
        return hm_fail(hm_err_of_write(errno), "%s: fdatasync: %s", w->path, strerror(errno));
    }
    return HM_OK;
}

static hm_err open_file(hm_wal *w)
{
    w->fd = open(w->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (w->fd < 0)
        return hm_fail(HM_E_IO, "%s: %s", w->path, strerror(errno));
    return HM_OK;
}

hm_err hm_wal_open(const char *path, hm_err (*each)(void *ctx, hm_bytes record), void *ctx,
                   hm_wal **out)
{
    hm_err err;
    hm_buf content = {0};
    uint64_t good = 0;
    hm_wal *w = calloc(1, sizeof *w);
    if (!w)
        return HM_E_NOMEM;
    w->fd = -1;
    w->path = strdup(path);
    if (!w->path) {
        err = HM_E_NOMEM;
        goto out;
    }
    err = hm_file_read(path, SIZE_MAX / 8, &content);
    if (err == HM_OK)
        HM_TRY_OUT(replay(path, hm_buf_bytes(&content), each, ctx, &good));
    else if (err != HM_E_NOTFOUND)
        goto out;
    if (good < content.len)
        hm_log(HM_LOG_WARN, "wal", "cut a record torn by a crash", "path=%s bytes=%llu", path,
               (unsigned long long)(content.len - good));
    if (good < WAL_HEADER_BYTES) {
        hm_buf_reset(&content);
        hm_buf_append(&content, wal_magic, WAL_HEADER_BYTES);
        HM_TRY_OUT(hm_buf_status(&content));
        good = WAL_HEADER_BYTES;
    }
    // Its last record may stand in the page cache alone, written by a process that ended, or was
    // told of a failure, before it was on the disk. Who reads it will act on it, so it goes to the
    // disk first, in a new file: a second sync of the old one may skip what the first one lost.
    HM_TRY_OUT(hm_file_write(path, hm_bytes_of(content.ptr, (size_t)good), 0600));
    HM_TRY_OUT(open_file(w));
    w->size = good;
    *out = w;
    w = NULL;
    err = HM_OK;
out:
    hm_buf_free(&content);
    hm_wal_close(w);
    return err;
}

hm_err hm_wal_append(hm_wal *w, hm_bytes record)
{
    if (w->broken)
        return hm_fail(HM_E_IO, "%s: an earlier write failed", w->path);
    if (record.len > HM_WAL_RECORD_MAX)
        return HM_E_LIMIT;
    hm_buf b = {0};
    put_record(&b, record);
    hm_err err = hm_buf_status(&b);
    if (err == HM_OK)
        err = write_synced(w, hm_buf_bytes(&b));
    hm_buf_free(&b);
    return err;
}

hm_err hm_wal_rewrite(hm_wal *w, const hm_bytes *records, size_t count)
{
    hm_buf b = {0};
    hm_buf_append(&b, wal_magic, WAL_HEADER_BYTES);
    for (size_t i = 0; i < count; i++) {
        hm_assert(records[i].len <= HM_WAL_RECORD_MAX);
        put_record(&b, records[i]);
    }
    hm_err err = hm_buf_status(&b);
    if (err == HM_OK)
        err = hm_file_write(w->path, hm_buf_bytes(&b), 0600);
    if (err == HM_OK) {
        close(w->fd);
        w->fd = -1;
        w->size = b.len;
        err = open_file(w);
        w->broken = err != HM_OK;
    }
    hm_buf_free(&b);
    return err;
}

uint64_t hm_wal_size_bytes(const hm_wal *w)
{
    return w->size;
}

void hm_wal_close(hm_wal *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    free(w->path);
    free(w);
}
