#include "server/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct audit_log {
    int fd;
    uint64_t size, n; // bytes of whole lines; number of the last one
    hm_hash head;
    atomic_bool to_sync;
    char path[4096];
};

// ---- lines --------------------------------------------------------------------------------------

hm_err audit_line(const audit_entry *e, hm_buf *out, hm_hash *hash)
{
    size_t from = out->len;
    hm_jw_open(out, NULL, '{');
    hm_jw_u64(out, "n", e->n);
    hm_jw_u64(out, "at_ms", e->at_ms);
    hm_jw_str(out, "who", e->who);
    hm_jw_str(out, "from", e->from);
    hm_jw_str(out, "act", e->act);
    hm_jw_str(out, "subject", e->subject);
    hm_jw_str(out, "serial", e->serial);
    hm_jw_str(out, "detail", e->detail);
    hm_jw_hex(out, "prev", e->prev.b, HM_HASH_BYTES);
    hm_jw_close(out, '}');
    HM_TRY(hm_buf_status(out));
    if (out->len - from > AUDIT_LINE_MAX)
        return hm_fail(HM_E_LIMIT, "an act of %zu bytes for the audit log", out->len - from);
    *hash = hm_sha256(hm_bytes_of(out->ptr + from, out->len - from));
    return HM_OK;
}

static hm_err text_of(yyjson_val *root, const char *name, char *out, size_t size)
{
    hm_bytes t;
    HM_TRY(hm_json_text(root, name, 0, size - 1, &t));
    memcpy(out, t.ptr, t.len);
    out[t.len] = 0;
    return HM_OK;
}

hm_err audit_entry_read(yyjson_val *root, audit_entry *e)
{
    HM_TRY(hm_json_u64(root, "n", 1, UINT64_MAX, &e->n));
    HM_TRY(hm_json_u64(root, "at_ms", 0, UINT64_MAX, &e->at_ms));
    HM_TRY(text_of(root, "who", e->who, sizeof e->who));
    HM_TRY(text_of(root, "from", e->from, sizeof e->from));
    HM_TRY(text_of(root, "act", e->act, sizeof e->act));
    HM_TRY(text_of(root, "subject", e->subject, sizeof e->subject));
    HM_TRY(text_of(root, "serial", e->serial, sizeof e->serial));
    HM_TRY(text_of(root, "detail", e->detail, sizeof e->detail));
    return hm_json_hex(root, "prev", e->prev.b, HM_HASH_BYTES);
}

hm_err audit_line_read(hm_bytes line, audit_entry *out)
{
    yyjson_doc *doc = NULL;
    audit_entry e = {0};
    hm_buf again = {0};
    hm_hash hash;
    if (line.len > AUDIT_LINE_MAX)
        return hm_fail(HM_E_CORRUPT, "a line of %zu bytes is none of the audit log", line.len);
    hm_err err = hm_json_parse(line, &doc);
    if (err == HM_OK)
        err = audit_entry_read(yyjson_doc_get_root(doc), &e);
    if (err != HM_OK) {
        char why[256];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        err = hm_fail(HM_E_CORRUPT, "a line is none of the audit log: %s", why);
        goto out;
    }
    HM_TRY_OUT(audit_line(&e, &again, &hash));
    if (again.len != line.len || memcmp(again.ptr, line.ptr, line.len) != 0)
        err = hm_fail(HM_E_CORRUPT, "a line is not as the audit log writes it");
    if (err == HM_OK)
        *out = e;
out:
    hm_buf_free(&again);
    yyjson_doc_free(doc);
    return err;
}

// ---- the file -----------------------------------------------------------------------------------

static hm_err io_fail(const audit_log *a, const char *what)
{
    int e = errno;
    return hm_fail(hm_err_of_write(e), "%s: %s: %s", a->path, what, strerror(e));
}

// The whole line that ends before the byte `end`, which is a newline's successor; its bytes are in
// `buffer`.
static hm_err line_before(const audit_log *a, uint64_t end, uint8_t buffer[AUDIT_LINE_MAX + 2],
                          hm_bytes *line)
{
    size_t want = end < AUDIT_LINE_MAX + 2 ? (size_t)end : AUDIT_LINE_MAX + 2;
    ssize_t n = pread(a->fd, buffer, want, (off_t)(end - want));
    if (n != (ssize_t)want)
        return io_fail(a, "reading");
    if (want == 0 || buffer[want - 1] != '\n')
        return hm_fail(HM_E_RANGE, "no line of the audit log ends there");
    size_t begin = want - 1;
    while (begin > 0 && buffer[begin - 1] != '\n')
        begin--;
    if (begin == 0 && want < end)
        return hm_fail(HM_E_CORRUPT, "%s: a line is too long", a->path);
    *line = hm_bytes_of(buffer + begin, want - 1 - begin);
    return HM_OK;
}

// Where the last whole line ends.
static hm_err whole_size(const audit_log *a, uint64_t size, uint64_t *whole)
{
    uint8_t tail[AUDIT_LINE_MAX + 2];
    size_t want = size < sizeof tail ? (size_t)size : sizeof tail;
    if (pread(a->fd, tail, want, (off_t)(size - want)) != (ssize_t)want)
        return io_fail(a, "reading");
    size_t n = want;
    while (n > 0 && tail[n - 1] != '\n')
        n--;
    if (n == 0 && want < size)
        return hm_fail(HM_E_CORRUPT, "%s: a line is too long", a->path);
    *whole = size - (want - n);
    return HM_OK;
}

hm_err audit_open(const char *path, audit_log **out)
{
    uint8_t buffer[AUDIT_LINE_MAX + 2];
    struct stat st;
    hm_bytes line;
    audit_entry last;
    hm_err err = HM_OK;
    audit_log *a = calloc(1, sizeof *a);
    if (!a)
        return HM_E_NOMEM;
    snprintf(a->path, sizeof a->path, "%s", path);
    a->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (a->fd < 0 || fstat(a->fd, &st) != 0) {
        err = io_fail(a, "opening");
        goto out;
    }
    HM_TRY_OUT(whole_size(a, (uint64_t)st.st_size, &a->size));
    if (a->size < (uint64_t)st.st_size && ftruncate(a->fd, (off_t)a->size) != 0)
        HM_TRY_OUT(io_fail(a, "cutting a torn line"));
    if (a->size > 0) {
        HM_TRY_OUT(line_before(a, a->size, buffer, &line));
        HM_TRY_OUT(audit_line_read(line, &last));
        a->n = last.n;
        a->head = hm_sha256(line);
    }
    *out = a;
    a = NULL;
out:
    audit_close(a);
    return err;
}

void audit_close(audit_log *a)
{
    if (!a)
        return;
    if (a->fd >= 0) {
        (void)fdatasync(a->fd);
        close(a->fd);
    }
    free(a);
}

static hm_err to_disk(audit_log *a)
{
    if (fdatasync(a->fd) == 0)
        return HM_OK;
    atomic_store(&a->to_sync, true);
    return io_fail(a, "writing to disk");
}

hm_err audit_sync(audit_log *a)
{
    return atomic_exchange(&a->to_sync, false) ? to_disk(a) : HM_OK;
}

hm_err audit_add(audit_log *a, const audit_entry *entry, bool durable)
{
    audit_entry e = *entry;
    hm_buf line = {0};
    hm_hash hash;
    hm_err err;
    e.n = a->n + 1;
    e.prev = a->head;
    HM_TRY_OUT(audit_line(&e, &line, &hash));
    hm_buf_puts(&line, "\n");
    HM_TRY_OUT(hm_buf_status(&line));
    errno = ENOSPC; // what a short write means
    if (pwrite(a->fd, line.ptr, line.len, (off_t)a->size) != (ssize_t)line.len) {
        err = io_fail(a, "writing");
        if (ftruncate(a->fd, (off_t)a->size) != 0) {
            // The torn end is overwritten by the next act, or cut off by the next open.
        }
        goto out;
    }
    a->size += line.len;
    a->n = e.n;
    a->head = hash;
    atomic_store(&a->to_sync, !durable);
    if (durable) // whatever another thread is at
        err = to_disk(a);
out:
    hm_buf_free(&line);
    return err;
}

void audit_head(const audit_log *a, uint64_t *n, hm_hash *hash)
{
    *n = a->n;
    *hash = a->head;
}

hm_err audit_page(audit_log *a, uint64_t cursor, unsigned limit,
                  hm_err (*each)(void *ctx, hm_bytes line), void *ctx, uint64_t *next)
{
    uint8_t buffer[AUDIT_LINE_MAX + 2];
    if (cursor > a->size)
        return hm_fail(HM_E_RANGE, "the audit log ends before that cursor");
    uint64_t at = cursor ? cursor : a->size;
    for (unsigned i = 0; i < limit && at > 0; i++) {
        hm_bytes line;
        HM_TRY(line_before(a, at, buffer, &line));
        HM_TRY(each(ctx, line));
        at -= line.len + 1;
    }
    *next = at;
    return HM_OK;
}
