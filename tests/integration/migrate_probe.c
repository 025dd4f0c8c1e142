// Sends a stream to echo_server, compares what comes back, and moves where it is told:
//   migrate_probe SERVER PORT ROOTS FROM BYTES
// FROM is the local address that it begins at. After each of the first two quarters it says "at N"
// and reads a line: a local address, to which it moves and says "moved" or "stayed" and reads
// another line, or "go". At the end it says "same", or "different".
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hypermesh/stoq.h"
#include "hypermesh/stoq_tls.h"

#define PATIENCE_US UINT64_C(180000000)

typedef struct probe {
    stoq_conn *conn;
    stoq_stream *stream;
    uint64_t bytes, sent, received;
    unsigned quarters;
    bool same, fin, closed, waits; // waits: for what becomes of a move
} probe;

static void fail(const char *what)
{
    fprintf(stderr, "migrate_probe: %s: %s\n", what, hm_err_detail());
    exit(1);
}

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16) * 3 + (at >> 24));
}

static void push(probe *p)
{
    uint8_t block[4096];
    while (p->sent < p->bytes) {
        size_t n = p->bytes - p->sent < sizeof block ? (size_t)(p->bytes - p->sent) : sizeof block;
        size_t took;
        for (size_t i = 0; i < n; i++)
            block[i] = pattern(p->sent + i);
        if (stoq_stream_send(p->stream, hm_bytes_of(block, n), p->sent + n == p->bytes, &took) !=
            HM_OK)
            fail("send");
        p->sent += took;
        if (took < n)
            return;
    }
}

static void on_open(void *user, stoq_conn *c)
{
    probe *p = user;
    if (stoq_stream_open(c, false, &p->stream) != HM_OK)
        fail("a stream");
    push(p);
}

static void on_writable(void *user, stoq_stream *s)
{
    (void)s;
    push(user);
}

static void on_readable(void *user, stoq_stream *s)
{
    probe *p = user;
    hm_bytes view;
    while (!p->fin && stoq_stream_peek(s, &view, &p->fin) == HM_OK && (view.len > 0 || p->fin)) {
        for (size_t i = 0; i < view.len; i++)
            p->same &= view.ptr[i] == pattern(p->received + i);
        p->received += view.len;
        stoq_stream_consume(s, view.len);
    }
}

static void on_moved(void *user, stoq_conn *c, bool moved)
{
    probe *p = user;
    (void)c;
    p->waits = false;
    puts(moved ? "moved" : "stayed");
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    probe *p = user;
    (void)is_app, (void)reason;
    p->closed = true;
    fprintf(stderr, "migrate_probe: closed, 0x%llx: %s\n", (unsigned long long)code,
            hm_err_text(stoq_conn_why(c)));
}

static void process(stoq_endpoint *ep, probe *p)
{
    static uint64_t end;
    end = end == 0 ? stoq_now_us() + PATIENCE_US : end;
    stoq_endpoint_wait(ep, end);
    if (stoq_now_us() >= end || p->closed)
        fail("it does not come to its end");
}

// What is under way meanwhile waits in the sockets, or is lost.
static void obey(stoq_endpoint *ep, probe *p)
{
    char line[64];
    for (;;) {
        struct sockaddr_in6 at = {.sin6_family = AF_INET6};
        if (fgets(line, sizeof line, stdin) == NULL)
            fail("nobody says what to do");
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "go") == 0)
            return;
        if (inet_pton(AF_INET6, line, &at.sin6_addr) != 1 ||
            stoq_conn_migrate(p->conn, &at) != HM_OK)
            fail(line);
        p->waits = true;
        while (p->waits)
            process(ep, p);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in6 to = {.sin6_family = AF_INET6}, from = to;
    if (argc != 6 || inet_pton(AF_INET6, argv[1], &to.sin6_addr) != 1 ||
        inet_pton(AF_INET6, argv[4], &from.sin6_addr) != 1)
        return 2;
    to.sin6_port = htons((uint16_t)atoi(argv[2]));
    probe p = {.bytes = strtoull(argv[5], NULL, 10), .same = true};
    const stoq_tls_files files = {.roots_path = argv[3]};
    SSL_CTX *tls;
    stoq_endpoint *ep;
    if (stoq_tls_client(&files, &tls) != HM_OK)
        fail("set-up");
    stoq_config config = {
        .bind = from,
        .client_tls = tls,
        .alpn = {"echo"},
        .callbacks = {.conn_open = on_open,
                      .conn_closed = on_closed,
                      .conn_moved = on_moved,
                      .stream_readable = on_readable,
                      .stream_writable = on_writable},
        .user = &p,
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (stoq_endpoint_create(&config, &ep) != HM_OK ||
        stoq_connect(ep, &to, "localhost", NULL, NULL, &p.conn) != HM_OK)
        fail("connect");
    while (!p.fin) {
        process(ep, &p);
        if (p.quarters < 2 && p.received > (p.quarters + 1) * p.bytes / 4) {
            printf("at %u\n", ++p.quarters);
            obey(ep, &p);
        }
    }
    puts(p.same && p.received == p.bytes ? "same" : "different");
    return 0;
}
