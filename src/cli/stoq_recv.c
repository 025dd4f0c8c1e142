// hypermesh stoq recv: files from hypermesh stoq send. A file gets its name when all of it is on
// disk and has the hash that its sender says; until then, or if not, nothing of it is seen.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/stoq.h"

#define HEAD_MAX (1 + FILE_NAME_MAX + 8)
#define SYNC_EVERY (64u << 20)
#define TEMPORARY ".hypermesh-recv-XXXXXX"

typedef struct receiving {
    session s; // first: the callbacks' user
    const char *dir;
    int dir_fd;
    uint64_t limit; // bytes of a file
    uint64_t wanted, stored;
    bool json;
    hm_buf report;
} receiving;

typedef struct incoming { // of a stream or a bundle
    receiving *r;
    uint8_t head[HEAD_MAX];
    size_t head_len;
    char name[FILE_NAME_MAX + 1], temporary[4096];
    int fd; // -1: none
    uint64_t size, left, start_us;
    hm_sha256_ctx hash;
    uint8_t digest[HM_HASH_BYTES];
    size_t digest_len;
    bool done, stored;
} incoming;

// ---- files --------------------------------------------------------------------------------------

static hm_err file_open(incoming *f)
{
    receiving *r = f->r;
    size_t n = f->head[0];
    memcpy(f->name, f->head + 1, n);
    for (unsigned i = 0; i < 8; i++)
        f->size = f->size << 8 | f->head[1 + n + i];
    f->left = f->size;
    if (n == 0 || strlen(f->name) != n || f->name[0] == '.' || strchr(f->name, '/'))
        return hm_fail(HM_E_DENIED, "the name is no plain one");
    HM_TRY(cli_check_name(f->name));
    if (f->size > r->limit)
        return hm_fail(HM_E_LIMIT, "%llu bytes are more than the %llu that are taken",
                       (unsigned long long)f->size, (unsigned long long)r->limit);
    if (faccessat(r->dir_fd, f->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return hm_fail(HM_E_EXISTS, "a file of this name exists");
    snprintf(f->temporary, sizeof(f->temporary), "%s/" TEMPORARY, r->dir);
    f->fd = mkostemp(f->temporary, O_CLOEXEC);
    if (f->fd < 0)
        return hm_fail(hm_err_of_write(errno), "no file can be made: %s", strerror(errno));
    return HM_OK;
}

static hm_err file_write(incoming *f, hm_bytes bytes)
{
    uint64_t before = f->size - f->left, after = before + bytes.len;
    hm_sha256_update(&f->hash, bytes);
    while (bytes.len > 0) {
        ssize_t n = write(f->fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hm_fail(hm_err_of_write(errno), "cannot be written: %s", strerror(errno));
        bytes = hm_bytes_of(bytes.ptr + n, bytes.len - (size_t)n);
    }
    // From time to time, so that the sender need not wait for all of it at the end.
    if (before / SYNC_EVERY != after / SYNC_EVERY && fdatasync(f->fd) != 0)
        return hm_fail(hm_err_of_write(errno), "cannot be written: %s", strerror(errno));
    return HM_OK;
}

static void file_drop(incoming *f)
{
    if (f->fd < 0)
        return;
    close(f->fd);
    unlink(f->temporary);
    f->fd = -1;
}

// Its name comes last, and never in another file's place.
static hm_err file_keep(incoming *f)
{
    hm_hash got = hm_sha256_final(&f->hash);
    if (memcmp(got.b, f->digest, sizeof(f->digest)) != 0)
        return hm_fail(HM_E_CHUNK_HASH, "what came is not what was sent: the hashes differ");
    if (fchmod(f->fd, 0644) != 0 || fsync(f->fd) != 0)
        return hm_fail(hm_err_of_write(errno), "cannot be written: %s", strerror(errno));
    if (linkat(AT_FDCWD, f->temporary, f->r->dir_fd, f->name, 0) != 0)
        return errno == EEXIST ? hm_fail(HM_E_EXISTS, "a file of this name exists")
                               : hm_fail(HM_E_IO, "cannot be named: %s", strerror(errno));
    file_drop(f);
    if (fsync(f->r->dir_fd) != 0)
        return hm_fail(hm_err_of_write(errno), "cannot be written: %s", strerror(errno));
    f->stored = true;
    return HM_OK;
}

// ---- streams ------------------------------------------------------------------------------------

static hm_err take(incoming *f, hm_bytes b)
{
    while (b.len > 0) {
        size_t want = f->head_len == 0 ? 1 : 9 + (size_t)f->head[0], n;
        if (f->head_len < want) {
            n = want - f->head_len < b.len ? want - f->head_len : b.len;
            memcpy(f->head + f->head_len, b.ptr, n);
            f->head_len += n;
            if (f->head_len >= 9 && f->head_len == 9 + (size_t)f->head[0])
                HM_TRY(file_open(f));
        } else if (f->left > 0) {
            n = f->left < b.len ? (size_t)f->left : b.len;
            HM_TRY(file_write(f, hm_bytes_of(b.ptr, n)));
            f->left -= n;
        } else {
            n = sizeof(f->digest) - f->digest_len;
            if (n > b.len)
                n = b.len;
            if (n == 0)
                return hm_fail(HM_E_TRAILING, "bytes after the end of the file");
            memcpy(f->digest + f->digest_len, b.ptr, n);
            f->digest_len += n;
        }
        b = hm_bytes_of(b.ptr + n, b.len - n);
    }
    return HM_OK;
}

static void tell(incoming *f, const stoq_conn *conn, hm_err err)
{
    receiving *r = f->r;
    char from[HM_ADDR_TEXT_MAX], hex[2 * HM_HASH_BYTES + 1], quoted[300];
    struct sockaddr_in6 addr;
    uint64_t us = stoq_now_us() - f->start_us;
    snprintf(from, sizeof(from), "a sender who is gone");
    if (conn) {
        stoq_conn_peer_address(conn, &addr);
        hm_addr_text(&addr, from);
    }
    hm_log_quote(quoted, sizeof(quoted), hm_bytes_str(f->name));
    if (err != HM_OK) {
        fprintf(stderr, "%s from %s: refused: %s\n", quoted, from, hm_err_detail());
        return;
    }
    hm_hex(hex, f->digest, sizeof(f->digest));
    if (!r->json) {
        printf("%s  from %s  %llu bytes  %.2f s  sha256 %s\n", f->name, from,
               (unsigned long long)f->size, (double)us / 1e6, hex);
        fflush(stdout);
        return;
    }
    hm_jw_open(&r->report, NULL, '{');
    hm_jw_str(&r->report, "name", f->name);
    hm_jw_str(&r->report, "from", from);
    hm_jw_u64(&r->report, "bytes", f->size);
    hm_jw_str(&r->report, "sha256", hex);
    hm_jw_u64(&r->report, "elapsed_us", us);
    hm_jw_close(&r->report, '}');
}

// What became of it, and in so many bytes for the sender.
static size_t conclude(incoming *f, const stoq_conn *conn, hm_err err,
                       uint8_t out[1 + FILE_REASON_MAX])
{
    f->done = true;
    tell(f, conn, err);
    out[0] = err == HM_OK ? FILE_STORED : FILE_REFUSED;
    if (err == HM_OK)
        return 1;
    file_drop(f);
    return 1 + (size_t)snprintf((char *)out + 1, FILE_REASON_MAX, "%.190s", hm_err_detail());
}

static void answer(incoming *f, stoq_stream *st, hm_err err)
{
    uint8_t out[1 + FILE_REASON_MAX];
    size_t took, len = conclude(f, stoq_stream_conn(st), err, out);
    if (err != HM_OK)
        stoq_stream_stop(st, 1);
    // A new stream has room for this; one that the sender gave up needs no answer.
    if (stoq_stream_send(st, hm_bytes_of(out, len), true, &took) != HM_OK)
        stoq_stream_reset(st, 1);
}

static incoming *begin(receiving *r)
{
    incoming *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->r = r;
    f->fd = -1;
    f->start_us = stoq_now_us();
    hm_sha256_init(&f->hash);
    return f;
}

static void end(incoming *f, const stoq_conn *conn)
{
    if (!f->done) {
        hm_fail(HM_E_CLOSED, "the connection was lost");
        tell(f, conn, HM_E_CLOSED);
    }
    f->r->stored += f->stored; // and the sender knows, or is gone
    file_drop(f);
    free(f);
}

static bool is_bundle(stoq_stream *st)
{
    return strcmp(stoq_conn_alpn(stoq_stream_conn(st)), FILE_BUNDLE_ALPN) == 0;
}

static void on_stream_open(void *user, stoq_stream *st)
{
    receiving *r = user;
    if (is_bundle(st)) {
        stoq_bundles_stream_open(r->s.set, st);
        return;
    }
    incoming *f = stoq_stream_is_uni(st) ? NULL : begin(r);
    if (!f) {
        stoq_stream_stop(st, 1);
        stoq_stream_reset(st, 1);
        return;
    }
    stoq_stream_set_user(st, f);
}

static void on_readable(void *user, stoq_stream *st)
{
    incoming *f = stoq_stream_user(st);
    hm_bytes view;
    bool fin = false;
    if (is_bundle(st)) {
        stoq_bundles_stream_readable(user, st);
        return;
    }
    while (f && !fin) {
        hm_err err = stoq_stream_peek(st, &view, &fin);
        if (err == HM_OK && view.len == 0 && !fin)
            return;
        if (err == HM_OK && !f->done)
            err = take(f, view);
        if (err != HM_OK) {
            if (!f->done)
                answer(f, st, err);
            return;
        }
        stoq_stream_consume(st, view.len);
        if (!f->done && f->digest_len == sizeof(f->digest))
            answer(f, st, file_keep(f));
    }
    if (f && !f->done)
        answer(f, st, hm_fail(HM_E_TRUNCATED, "it ends before its hash"));
}

static void on_stream_closed(void *user, stoq_stream *st)
{
    if (is_bundle(st))
        stoq_bundles_stream_closed(user, st);
    else if (stoq_stream_user(st))
        end(stoq_stream_user(st), stoq_stream_conn(st));
}

// ---- bundles ------------------------------------------------------------------------------------

static void on_stream_writable(void *user, stoq_stream *st)
{
    if (is_bundle(st))
        stoq_bundles_stream_writable(user, st);
}

static void on_stream_returned(void *user, stoq_stream *st, void *tag)
{
    if (is_bundle(st)) // nothing is lent by others
        stoq_bundles_stream_returned(user, st, tag);
}

static void on_bundle_opened(void *user, stoq_bundle *b)
{
    incoming *f = begin(user);
    if (!f)
        stoq_bundle_close(b);
    stoq_bundle_set_user(b, f);
}

static void answer_bundle(incoming *f, stoq_bundle *b, hm_err err)
{
    uint8_t out[1 + FILE_REASON_MAX];
    size_t took, len = conclude(f, stoq_bundle_conn(b), err, out);
    if (stoq_bundle_send(b, hm_bytes_of(out, len), true, &took) != HM_OK)
        stoq_bundle_close(b);
}

static void on_bundle_data(void *user, stoq_bundle *b, uint64_t offset, hm_bytes bytes)
{
    incoming *f = stoq_bundle_user(b);
    (void)user, (void)offset; // they come in order
    if (f && !f->done) {
        hm_err err = take(f, bytes);
        if (err != HM_OK)
            answer_bundle(f, b, err);
        else if (f->digest_len == sizeof(f->digest))
            answer_bundle(f, b, file_keep(f));
    }
    stoq_bundle_consume(b, bytes.len);
}

static void on_bundle_end(void *user, stoq_bundle *b)
{
    incoming *f = stoq_bundle_user(b);
    (void)user;
    if (f && !f->done)
        answer_bundle(f, b, hm_fail(HM_E_TRUNCATED, "it ends before its hash"));
}

static void on_bundle_closed(void *user, stoq_bundle *b, hm_err why)
{
    (void)user, (void)why;
    if (stoq_bundle_user(b))
        end(stoq_bundle_user(b), NULL);
}

// ---- the command --------------------------------------------------------------------------------

hm_err cli_stoq_recv(cli *c, const cli_command *cmd)
{
    static const stoq_callbacks callbacks = {.stream_open = on_stream_open,
                                             .stream_readable = on_readable,
                                             .stream_writable = on_stream_writable,
                                             .stream_returned = on_stream_returned,
                                             .stream_closed = on_stream_closed};
    static const stoq_bundle_callbacks bundles = {.opened = on_bundle_opened,
                                                  .data = on_bundle_data,
                                                  .end = on_bundle_end,
                                                  .closed = on_bundle_closed};
    receiving r = {.dir = c->arg, .json = c->json, .dir_fd = -1};
    hm_err err;
    HM_TRY(hm_config_u64(&c->cfg, "count", 1, 1000000, &r.wanted));
    HM_TRY(stoq_size_of(c, "limit", &r.limit));
    if (strlen(r.dir) > sizeof(((incoming *)0)->temporary) - sizeof(TEMPORARY) - 1)
        return hm_fail(HM_E_USAGE, "the folder's name is too long");
    r.dir_fd = open(r.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r.dir_fd < 0)
        return hm_fail(errno == ENOENT ? HM_E_NOTFOUND : HM_E_IO, "%s: %s", r.dir, strerror(errno));
    hm_jw_open(&r.report, NULL, '{');
    HM_TRY_OUT(session_listen(&r.s, c, FILE_ALPN, FILE_BUNDLE_ALPN, &callbacks));
    HM_TRY_OUT(session_take_bundles(&r.s, c, &r, &bundles));
    fprintf(stderr, "listening at %s\n", r.s.target);
    hm_jw_str(&r.report, "listen", r.s.target);
    hm_jw_open(&r.report, "files", '[');
    while (r.stored < r.wanted && !session_interrupted())
        (void)session_turn(&r.s, HM_TIME_NEVER);
    err = r.stored < r.wanted ? session_end(&r.s) : HM_OK;
    hm_jw_close(&r.report, ']');
    hm_jw_close(&r.report, '}');
    hm_buf_puts(&r.report, "\n");
    if (c->json && err == HM_OK)
        err = cli_answer(c, cmd, hm_buf_bytes(&r.report));
out:
    session_close(&r.s); // and what ends with it leaves another line
    if (err != HM_OK && session_interrupted())
        err = session_end(&r.s);
    hm_buf_free(&r.report);
    close(r.dir_fd);
    return err;
}
