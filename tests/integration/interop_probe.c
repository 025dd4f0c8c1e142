// A client for servers of others: asks for one file by HTTP/3 (RFC 9114, with nothing in QPACK's
// table) and tells what the transport made of it.
//   interop_probe PORT ROOTS PATH VERSIONS [keys] [stay] [move]
// keys: changes keys in the middle; stay: ignores a preferred address; move: goes to another local
// address and back with every million bytes.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hypermesh/stoq.h"
#include "hypermesh/stoq_tls.h"

typedef struct probe {
    const char *path;
    bool keys, keys_changed, move, moving, away, ended, closed;
    uint64_t bytes, move_at; // move_at: bytes of the next move
    unsigned moved, stayed;
    stoq_conn_stats stats;
    uint32_t version;
} probe;

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "interop_probe: %s: %s\n", what, hm_err_detail());
    exit(1);
}

static void send_all(stoq_stream *st, const uint8_t *ptr, size_t len, bool fin)
{
    size_t took;
    if (stoq_stream_send(st, hm_bytes_of(ptr, len), fin, &took) != HM_OK || took != len)
        fail("send");
}

static void on_open(void *user, stoq_conn *c)
{
    static const uint8_t settings[] = {0x00, 0x04, 0x00}; // a control stream with an empty SETTINGS
    probe *p = user;
    stoq_stream *control, *request;
    uint8_t head[128] = {0x01, 0, 0, 0, 0xd1, 0xd7}; // HEADERS: no table; GET, https
    size_t n = 6, path = strlen(p->path);
    if (stoq_stream_open(c, true, &control) != HM_OK ||
        stoq_stream_open(c, false, &request) != HM_OK || path > 40)
        fail("a stream");
    send_all(control, settings, sizeof settings, false);
    head[n++] = 0x50; // :authority
    head[n++] = 9;
    memcpy(head + n, "localhost", 9);
    n += 9;
    head[n++] = 0x51; // :path
    head[n++] = (uint8_t)path;
    memcpy(head + n, p->path, path);
    n += path;
    head[1] = (uint8_t)(n - 2);
    if (n - 2 > 63)
        fail("the path is too long");
    send_all(request, head, n, true);
}

static void on_moved(void *user, stoq_conn *c, bool moved)
{
    probe *p = user;
    (void)c;
    *(moved ? &p->moved : &p->stayed) += 1;
    p->away ^= p->moving && moved; // else it went to the server's preferred address
    p->moving = false;
}

// Between the endpoint's socket at ::1 and another, of whose addresses the kernel takes one.
static void move(probe *p, stoq_conn *c)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6};
    if (p->away)
        at.sin6_addr = in6addr_loopback;
    hm_err err = stoq_conn_migrate(c, &at);
    if (err != HM_OK && err != HM_E_AGAIN)
        fail("move");
    if (err == HM_OK) {
        p->moving = true;
        p->move_at = p->bytes + 1000000;
    }
}

static void on_readable(void *user, stoq_stream *st)
{
    probe *p = user;
    hm_bytes view;
    bool fin = false;
    while (stoq_stream_peek(st, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        if (stoq_stream_is_local(st))
            p->bytes += view.len;
        stoq_stream_consume(st, view.len);
        if (fin)
            break;
    }
    stoq_conn *c = stoq_stream_conn(st);
    if (p->keys && !p->keys_changed && p->bytes > 100000)
        p->keys_changed = stoq_conn_update_keys(c) == HM_OK; // else later
    if (p->move && !p->moving && p->bytes >= p->move_at)
        move(p, c);
    p->ended |= fin && stoq_stream_is_local(st);
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    probe *p = user;
    p->closed = true;
    if (!p->ended)
        fprintf(stderr, "interop_probe: %s, %scode 0x%llx %.*s\n", hm_err_text(stoq_conn_why(c)),
                is_app ? "application " : "", (unsigned long long)code, (int)reason.len,
                (const char *)reason.ptr);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: interop_probe PORT ROOTS PATH VERSIONS [keys] [stay] [move]\n");
        return 2;
    }
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)atoi(argv[1])),
                              .sin6_addr = in6addr_loopback};
    probe p = {.path = argv[3]};
    const stoq_tls_files files = {.roots_path = argv[2], .groups = "X25519"};
    SSL_CTX *tls;
    stoq_endpoint *ep;
    stoq_conn *conn;
    stoq_config config = {
        .bind = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback},
        .alpn = {"h3"},
        .callbacks = {.conn_open = on_open,
                      .conn_closed = on_closed,
                      .stream_readable = on_readable,
                      .conn_moved = on_moved},
        .user = &p,
    };
    for (int i = 5; i < argc; i++) {
        p.keys |= strcmp(argv[i], "keys") == 0;
        p.move |= strcmp(argv[i], "move") == 0;
        config.ignore_preferred |= strcmp(argv[i], "stay") == 0;
    }
    if (stoq_versions_of(argv[4], config.versions) != HM_OK ||
        stoq_tls_client(&files, &tls) != HM_OK)
        fail("set-up");
    config.client_tls = tls;
    if (stoq_endpoint_create(&config, &ep) != HM_OK ||
        stoq_connect(ep, &to, "localhost", NULL, NULL, &conn) != HM_OK)
        fail("connect");
    while (!p.ended && !p.closed)
        stoq_endpoint_wait(ep, HM_TIME_NEVER);
    if (p.ended && !p.closed) {
        stoq_conn_get_stats(conn, &p.stats);
        printf("{\"bytes\":%llu,\"version\":%d,\"key_updates\":%u,\"at_preferred\":%s,"
               "\"moved\":%u,\"stayed\":%u,\"group\":\"%s\"}\n",
               (unsigned long long)p.bytes, stoq_conn_version(conn) == STOQ_VERSION_2 ? 2 : 1,
               p.stats.key_updates, p.stats.at_preferred ? "true" : "false", p.moved, p.stayed,
               stoq_conn_group(conn));
    }
    stoq_endpoint_destroy(ep);
    SSL_CTX_free(tls);
    return p.ended ? 0 : 1;
}
