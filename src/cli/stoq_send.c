// hypermesh stoq send: a file, whole, checked by its hash on the other side.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/stoq.h"

#define BLOCK 65536u
#define SHOW_EVERY_US 250000u

typedef struct sending {
    session s;
    int fd;
    uint64_t size, left; // of the file, to be read
    uint8_t block[BLOCK];
    size_t len, at; // what was read, and of it what is on its way
    hm_sha256_ctx hash;
    hm_hash digest;
    bool last, ended; // the digest is in the block; no more is sent
    hm_err err;       // of reading
    uint8_t answer[1 + FILE_REASON_MAX];
    size_t answer_len;
    bool answered, over;
} sending;

// The next block: of the file, then its hash.
static hm_err fill(sending *x)
{
    x->at = x->len = 0;
    if (x->left == 0) {
        x->digest = hm_sha256_final(&x->hash);
        memcpy(x->block, x->digest.b, sizeof(x->digest.b));
        x->len = sizeof(x->digest.b);
        x->last = true;
        return HM_OK;
    }
    ssize_t n;
    do
        n = read(x->fd, x->block, x->left < BLOCK ? (size_t)x->left : BLOCK);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return hm_fail(HM_E_IO, "the file cannot be read: %s", strerror(errno));
    if (n == 0)
        return hm_fail(HM_E_IO, "the file has become shorter while it was sent");
    x->len = (size_t)n;
    x->left -= x->len;
    hm_sha256_update(&x->hash, hm_bytes_of(x->block, x->len));
    return HM_OK;
}

// By the stream, or without one by the bundle.
static hm_err hand_over(sending *x, stoq_stream *st, size_t *took)
{
    hm_bytes b = hm_bytes_of(x->block + x->at, x->len - x->at);
    if (st)
        return stoq_stream_send(st, b, x->last, took);
    return stoq_bundle_send(x->s.bundle, b, x->last, took);
}

static void push(void *ctx, stoq_stream *st)
{
    sending *x = ctx;
    while (!x->ended) {
        size_t took;
        if (x->at == x->len && (x->err = fill(x)) != HM_OK) {
            if (st)
                stoq_stream_reset(st, 1);
            x->ended = true;
            return;
        }
        if (hand_over(x, st, &took) != HM_OK) {
            x->ended = true; // the other side wants no more, and says why
            return;
        }
        x->at += took;
        if (x->at < x->len)
            return; // goes on when there is room
        x->ended = x->last;
    }
}

static void take_answer(sending *x, hm_bytes view)
{
    size_t n = sizeof(x->answer) - x->answer_len;
    if (n > view.len)
        n = view.len;
    memcpy(x->answer + x->answer_len, view.ptr, n);
    x->answer_len += n;
}

static void on_readable(void *ctx, stoq_stream *st)
{
    sending *x = ctx;
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK || (view.len == 0 && !fin))
            return;
        take_answer(x, view);
        stoq_stream_consume(st, view.len);
    }
    x->answered = x->answer_len > 0;
}

static void on_stream_closed(void *ctx, stoq_stream *st)
{
    sending *x = ctx;
    (void)st;
    x->over = true;
}

static void on_bundle_data(void *ctx, stoq_bundle *b, uint64_t offset, hm_bytes bytes)
{
    (void)offset; // they come in order
    take_answer(ctx, bytes);
    stoq_bundle_consume(b, bytes.len);
}

static void on_bundle_end(void *ctx, stoq_bundle *b)
{
    sending *x = ctx;
    (void)b;
    x->answered = x->answer_len > 0;
    x->over = true;
}

static void on_bundle_writable(void *ctx, stoq_bundle *b)
{
    (void)b;
    push(ctx, NULL);
}

static hm_err begin(sending *x, const char *name)
{
    uint8_t head[1 + FILE_NAME_MAX + 8];
    size_t n = strlen(name), took;
    stoq_stream *st;
    head[0] = (uint8_t)n;
    memcpy(head + 1, name, n);
    for (unsigned i = 0; i < 8; i++)
        head[1 + n + i] = (uint8_t)(x->size >> (8 * (7 - i)));
    hm_sha256_init(&x->hash);
    x->left = x->size;
    if (x->s.bundle) {
        HM_TRY(stoq_bundle_send(x->s.bundle, hm_bytes_of(head, 9 + n), false, &took));
        push(x, NULL);
        return HM_OK;
    }
    x->s.ctx = x;
    x->s.writable = push;
    x->s.readable = on_readable;
    x->s.stream_closed = on_stream_closed;
    HM_TRY(stoq_stream_open(x->s.conn, false, &st));
    HM_TRY(stoq_stream_send(st, hm_bytes_of(head, 9 + n), false, &took)); // there is room
    push(x, st);
    return HM_OK;
}

static hm_err wait_for_answer(sending *x)
{
    bool tty = isatty(STDERR_FILENO);
    uint64_t start = stoq_now_us(), show_at = start;
    bool going = true;
    while (!x->answered && !x->over && x->err == HM_OK && going) {
        going = session_turn(&x->s, tty ? show_at : HM_TIME_NEVER);
        uint64_t now = stoq_now_us(), sent = x->size - x->left;
        if (tty && now >= show_at) {
            fprintf(stderr, "\r\033[K%.3f of %.3f GB  %.2f Gbps", (double)sent / 1e9,
                    (double)x->size / 1e9, (double)sent * 8 / (double)(now - start + 1) / 1000);
            show_at = now + SHOW_EVERY_US;
        }
    }
    if (tty)
        fputs("\r\033[K", stderr);
    HM_TRY(x->err);
    if (x->answered && x->answer[0] == FILE_STORED && x->last)
        return HM_OK;
    if (x->answered && x->answer[0] == FILE_REFUSED) {
        char why[FILE_REASON_MAX + 8];
        return hm_fail(
            HM_E_EXISTS, "%s refuses the file: %s", x->s.target,
            hm_log_quote(why, sizeof(why), hm_bytes_of(x->answer + 1, x->answer_len - 1)));
    }
    if (!going)
        return session_end(&x->s);
    return hm_fail(HM_E_STOQ_RESET, "%s does not answer as a receiver of files", x->s.target);
}

static hm_err report(cli *c, const cli_command *cmd, sending *x, const char *name, uint64_t us)
{
    char hex[2 * HM_HASH_BYTES + 1];
    hm_buf b = {0};
    uint64_t bps = us ? (uint64_t)((double)x->size * 8e6 / (double)us) : 0;
    hm_hex(hex, x->digest.b, HM_HASH_BYTES);
    if (!c->json) {
        printf("%s  %llu bytes  %.2f s  %.3f Gbps  sha256 %s\n", name, (unsigned long long)x->size,
               (double)us / 1e6, (double)bps / 1e9, hex);
        return HM_OK;
    }
    hm_jw_open(&b, NULL, '{');
    session_json(&x->s, &b);
    hm_jw_str(&b, "name", name);
    hm_jw_u64(&b, "bytes", x->size);
    hm_jw_str(&b, "sha256", hex);
    hm_jw_u64(&b, "elapsed_us", us);
    hm_jw_u64(&b, "bits_per_second", bps);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    hm_err err = cli_answer(c, cmd, hm_buf_bytes(&b));
    hm_buf_free(&b);
    return err;
}

hm_err cli_stoq_send(cli *c, const cli_command *cmd)
{
    static sending x;
    static const stoq_bundle_callbacks bundle_callbacks = {
        .data = on_bundle_data, .end = on_bundle_end, .writable = on_bundle_writable};
    struct stat st;
    const char *path = hm_config_get(&c->cfg, "file"), *name = hm_config_get(&c->cfg, "name");
    const char *slash = strrchr(path, '/');
    hm_err err;
    if (!name)
        name = slash ? slash + 1 : path;
    if (!*name || strlen(name) > FILE_NAME_MAX)
        return hm_fail(HM_E_USAGE, "a name has 1 to %u bytes; --name gives one", FILE_NAME_MAX);
    x = (sending){.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (x.fd < 0 || fstat(x.fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        err = hm_fail(errno == ENOENT ? HM_E_NOTFOUND : HM_E_IO, "%s: %s", path,
                      x.fd < 0 ? strerror(errno) : "not a file");
        goto out;
    }
    x.size = (uint64_t)st.st_size;
    if (hm_config_get(&c->cfg, "connections"))
        HM_TRY_OUT(session_open_bundle(&x.s, c, FILE_BUNDLE_ALPN, &x, &bundle_callbacks));
    else
        HM_TRY_OUT(session_open(&x.s, c, FILE_ALPN));
    if (!c->json)
        session_print(&x.s);
    uint64_t start = stoq_now_us();
    HM_TRY_OUT(begin(&x, name));
    HM_TRY_OUT(wait_for_answer(&x));
    err = report(c, cmd, &x, name, stoq_now_us() - start);
out:
    session_close(&x.s);
    if (x.fd >= 0)
        close(x.fd);
    return err;
}
