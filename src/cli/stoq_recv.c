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

typedef struct incoming { // of a stream
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

static void tell(incoming *f, stoq_stream *st, hm_err err)
{
    receiving *r = f->r;
    char from[HM_ADDR_TEXT_MAX], hex[2 * HM_HASH_BYTES + 1], quoted[300];
    struct sockaddr_in6 addr;
    uint64_t us = stoq_now_us() - f->start_us;
    stoq_conn_peer_address(stoq_stream_conn(st), &addr);
    hm_addr_text(&addr, from);
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

static void answer(incoming *f, stoq_stream *st, hm_err err)
{
    uint8_t out[1 + FILE_REASON_MAX] = {FILE_STORED};
    size_t len = 1, took;
    f->done = true;
    tell(f, st, err);
    if (err != HM_OK) {
        file_drop(f);
        out[0] = FILE_REFUSED;
        len += (size_t)snprintf((char *)out + 1, FILE_REASON_MAX, "%.190s", hm_err_detail());
        stoq_stream_stop(st, 1);
    }
    // A new stream has room for this; one that the sender gave up needs no answer.
    if (stoq_stream_send(st, hm_bytes_of(out, len), true, &took) != HM_OK)
        stoq_stream_reset(st, 1);
}

static void on_stream_open(void *user, stoq_stream *st)
{
    incoming *f = stoq_stream_is_uni(st) ? NULL : calloc(1, sizeof(*f));
    if (!f) {
        stoq_stream_stop(st, 1);
        stoq_stream_reset(st, 1);
        return;
    }
    f->r = user;
    f->fd = -1;
    f->start_us = stoq_now_us();
    hm_sha256_init(&f->hash);
    stoq_stream_set_user(st, f);
}

static void on_readable(void *user, stoq_stream *st)
{
    incoming *f = stoq_stream_user(st);
    hm_bytes view;
    bool fin = false;
    (void)user;
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
    receiving *r = user;
    incoming *f = stoq_stream_user(st);
    if (!f)
        return;
    if (!f->done) {
        hm_fail(HM_E_CLOSED, "the connection was lost");
        tell(f, st, HM_E_CLOSED);
    }
    r->stored += f->stored; // and the sender knows, or is gone
    file_drop(f);
    free(f);
}

// ---- the command --------------------------------------------------------------------------------

hm_err cli_stoq_recv(cli *c, const cli_command *cmd)
{
    static const stoq_callbacks callbacks = {.stream_open = on_stream_open,
                                             .stream_readable = on_readable,
                                             .stream_closed = on_stream_closed};
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
    HM_TRY_OUT(session_listen(&r.s, c, FILE_ALPN, &callbacks));
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
