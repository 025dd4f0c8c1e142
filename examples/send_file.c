// Sends a file to echo_server without copying it, and compares in place what comes back.
//   send_file ADDRESS PORT ROOTS FILE
#include <arpa/inet.h>
#include <fcntl.h>
#include <hypermesh/stoq.h>
#include <hypermesh/stoq_tls.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (1u << 20) // lent at a time

typedef struct transfer {
    hm_bytes file; // mapped; lent to the transport until the stream is over
    size_t lent, returned, compared;
    bool same, closed;
} transfer;

// Lends pieces until the send buffer is full; stream_writable comes when it has room again.
static void push(void *user, stoq_stream *s)
{
    transfer *t = user;
    while (t->lent < t->file.len) {
        size_t left = t->file.len - t->lent, n = left < PIECE ? left : PIECE;
        // The tag is the piece's length, which stream_returned gives back.
        if (stoq_stream_lend(s, hm_bytes_of(t->file.ptr + t->lent, n), n == left,
                             (void *)(uintptr_t)n) != HM_OK)
            return;
        t->lent += n;
    }
}

static void on_returned(void *user, stoq_stream *s, void *tag)
{
    transfer *t = user;
    (void)s;
    t->returned += (uintptr_t)tag; // from here on these bytes might be changed
}

static void on_open(void *user, stoq_conn *conn)
{
    stoq_stream *s;
    if (stoq_stream_open(conn, false, &s) == HM_OK)
        push(user, s);
    else
        stoq_conn_close(conn, 1, "no stream");
}

static void on_readable(void *user, stoq_stream *s)
{
    transfer *t = user;
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(s, &view, &fin) != HM_OK) {
            stoq_conn_close(stoq_stream_conn(s), 1, "the server gave up");
            return;
        }
        if (view.len == 0 && !fin)
            return;
        if (view.len > t->file.len - t->compared ||
            memcmp(view.ptr, t->file.ptr + t->compared, view.len) != 0) {
            stoq_conn_close(stoq_stream_conn(s), 1, "not what was sent");
            return;
        }
        t->compared += view.len;
        stoq_stream_consume(s, view.len);
    }
    t->same = t->compared == t->file.len;
}

static void on_stream_closed(void *user, stoq_stream *s)
{
    (void)user; // all was acknowledged and read
    stoq_conn_close(stoq_stream_conn(s), 0, "");
}

static void on_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    transfer *t = user;
    (void)code, (void)is_app;
    t->closed = true;
    if (!t->same)
        fprintf(stderr, "send_file: %s: %.*s\n", hm_err_text(stoq_conn_why(conn)), (int)reason.len,
                (const char *)reason.ptr);
}

static bool map_file(const char *path, hm_bytes *out)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    void *at = MAP_FAILED;
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
        at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (at == MAP_FAILED)
        return false;
    *out = hm_bytes_of(at, (size_t)st.st_size);
    return true;
}

int main(int argc, char **argv)
{
    transfer t = {0};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6};
    if (argc != 5 || inet_pton(AF_INET6, argv[1], &to.sin6_addr) != 1 ||
        !map_file(argv[4], &t.file)) {
        fprintf(stderr, "usage: send_file ADDRESS PORT ROOTS FILE (not an empty one)\n");
        return 2;
    }
    to.sin6_port = htons((uint16_t)atoi(argv[2]));
    SSL_CTX *tls = NULL;
    stoq_endpoint *ep = NULL;
    stoq_conn *conn;
    stoq_config config = {
        .bind = {.sin6_family = AF_INET6},
        .alpn = {"echo"},
        .callbacks = {.conn_open = on_open,
                      .conn_closed = on_closed,
                      .stream_readable = on_readable,
                      .stream_writable = push,
                      .stream_returned = on_returned,
                      .stream_closed = on_stream_closed},
        .user = &t,
    };
    hm_err err = stoq_tls_client(&(stoq_tls_files){.roots_path = argv[3]}, &tls);
    config.client_tls = tls;
    if (err == HM_OK)
        err = stoq_endpoint_create(&config, &ep);
    if (err == HM_OK)
        err = stoq_connect(ep, &to, argv[1], NULL, NULL, &conn);
    if (err != HM_OK)
        fprintf(stderr, "send_file: %s: %s\n", hm_err_text(err), hm_err_detail());
    while (err == HM_OK && !t.closed)
        stoq_endpoint_wait(ep, HM_TIME_NEVER);
    stoq_endpoint_destroy(ep); // before the file is unmapped: it may still be lent
    SSL_CTX_free(tls);
    munmap((void *)t.file.ptr, t.file.len);
    printf("%zu bytes lent, %zu returned, %zu the same\n", t.lent, t.returned, t.compared);
    return t.same ? 0 : 1;
}
