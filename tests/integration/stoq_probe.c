// A client of HTTP/3 that is just enough to ask another's server for its first page and come back:
//   stoq_probe PORT ROOTS SESSION
// asks [::1]:PORT, with early data when the file SESSION holds a session that allows it, keeps
// there what the server gives, and says what became of it.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "hypermesh/stoq.h"
#include "trustchain/trustchain.h"

#define PATIENCE_US UINT64_C(60000000)

typedef struct probe {
    const char *session_path;
    stoq_conn *conn;
    bool open, ended, kept;
    size_t bytes;
} probe;

static void must(hm_err err)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "stoq_probe: %s: %s\n", hm_err_text(err), hm_err_detail());
    exit(1);
}

static void say(stoq_conn *c, bool uni, hm_bytes bytes)
{
    stoq_stream *s;
    size_t took;
    must(stoq_stream_open(c, uni, &s));
    must(stoq_stream_send(s, bytes, !uni, &took));
}

// A control stream with empty SETTINGS, and GET https://localhost/ in names of QPACK's static
// table.
static void ask(stoq_conn *c)
{
    static const uint8_t control[] = {0, 4, 0};
    static const uint8_t request[] = {1,   16,  0,   0,   0xd1, 0xd7, 0xc1, 0x50, 9,
                                      'l', 'o', 'c', 'a', 'l',  'h',  'o',  's',  't'};
    say(c, true, hm_bytes_of(control, sizeof control));
    say(c, false, hm_bytes_of(request, sizeof request));
}

static void on_open(void *user, stoq_conn *c)
{
    probe *p = user;
    p->open = true;
    if (stoq_conn_early(c) == STOQ_EARLY_NONE)
        ask(c);
}

static void on_readable(void *user, stoq_stream *s)
{
    probe *p = user;
    hm_bytes view;
    bool fin = false;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        if (!stoq_stream_is_uni(s))
            p->bytes += view.len;
        stoq_stream_consume(s, view.len);
    }
    p->ended |= fin && !stoq_stream_is_uni(s);
}

static void on_session(void *user, stoq_conn *c, hm_bytes session)
{
    probe *p = user;
    (void)c;
    p->kept = true;
    must(hm_file_write(p->session_path, session, 0600));
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)user, (void)is_app;
    fprintf(stderr, "stoq_probe: closed, 0x%llx %.*s, %s\n", (unsigned long long)code,
            (int)reason.len, (const char *)reason.ptr, hm_err_text(stoq_conn_why(c)));
    exit(1);
}

int main(int argc, char **argv)
{
    static const char *const words[] = {"none", "offered", "rejected", "accepted"};
    if (argc != 4)
        return 2;
    probe p = {.session_path = argv[3]};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                              .sin6_port = htons((uint16_t)atoi(argv[1]))};
    // What GnuTLS has. (For a group that it has not it asks again, and ngtcp2 1.11 ends in an
    // assertion when early data came with the first ClientHello.)
    tc_tls_config files = {.groups = "X25519", .roots_path = argv[2], .clock = &hm_clock_system};
    stoq_config config = {.bind = {.sin6_family = AF_INET6},
                          .alpn = {"h3"},
                          .callbacks = {.conn_open = on_open,
                                        .conn_closed = on_closed,
                                        .stream_readable = on_readable,
                                        .session = on_session},
                          .user = &p};
    stoq_endpoint *ep;
    hm_buf session = {0};
    must(hm_crypto_init());
    must(tc_tls(&files, &config.client_tls));
    must(stoq_endpoint_create(&config, &ep));
    if (hm_file_read(p.session_path, 1 << 20, &session) == HM_OK)
        must(stoq_resume(ep, &to, "localhost", hm_buf_bytes(&session), true, NULL, &p.conn));
    else
        must(stoq_connect(ep, &to, "localhost", NULL, NULL, &p.conn));
    if (stoq_conn_early(p.conn) == STOQ_EARLY_OFFERED)
        ask(p.conn);
    uint64_t end = hm_clock_mono_us(&hm_clock_system) + PATIENCE_US, now, next;
    while (!p.open || !p.ended || !p.kept) {
        struct pollfd fd = {.fd = stoq_endpoint_fd(ep), .events = POLLIN};
        now = hm_clock_mono_us(&hm_clock_system);
        next = stoq_endpoint_next_timeout_us(ep);
        next = next < end ? next : end;
        int n = poll(&fd, 1, next > now ? (int)((next - now) / 1000) + 1 : 0);
        now = hm_clock_mono_us(&hm_clock_system);
        if (now >= end) {
            fprintf(stderr, "stoq_probe: open %d, answered %d, %zu bytes, session %d\n", p.open,
                    p.ended, p.bytes, p.kept);
            return 1;
        }
        stoq_endpoint_process(ep, now, n > 0);
    }
    printf("%s %s %zu\n", stoq_conn_resumed(p.conn) ? "resumed" : "whole",
           words[stoq_conn_early(p.conn)], p.bytes);
    config.callbacks.conn_closed = NULL;
    fflush(stdout);
    _exit(0); // the end is of no interest
}
