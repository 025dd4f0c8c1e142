// Sends datagrams to echo_server, which may be lost, and counts what comes back within a second
// after the last one.
//   datagrams ADDRESS PORT ROOTS COUNT
#include <arpa/inet.h>
#include <hypermesh/stoq.h>
#include <hypermesh/stoq_tls.h>
#include <stdio.h>
#include <stdlib.h>

#define EVERY_US 1000u

typedef struct counts {
    stoq_conn *conn; // NULL once closed
    bool open;
    unsigned sent, came;
} counts;

static void on_open(void *user, stoq_conn *conn)
{
    counts *c = user;
    c->open = true;
    printf("datagrams of up to %zu bytes\n", stoq_conn_datagram_max(conn));
}

static void on_datagram(void *user, stoq_conn *conn, hm_bytes bytes)
{
    counts *c = user;
    (void)conn;
    if (bytes.len == sizeof c->sent)
        c->came++;
}

static void on_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    counts *c = user;
    (void)code, (void)is_app;
    c->conn = NULL;
    if (stoq_conn_why(conn) != HM_OK) // not by us
        fprintf(stderr, "datagrams: %s: %.*s\n", hm_err_text(stoq_conn_why(conn)), (int)reason.len,
                (const char *)reason.ptr);
}

int main(int argc, char **argv)
{
    counts c = {0};
    struct sockaddr_in6 to = {.sin6_family = AF_INET6};
    if (argc != 5 || inet_pton(AF_INET6, argv[1], &to.sin6_addr) != 1) {
        fprintf(stderr, "usage: datagrams ADDRESS PORT ROOTS COUNT\n");
        return 2;
    }
    to.sin6_port = htons((uint16_t)atoi(argv[2]));
    unsigned count = (unsigned)atoi(argv[4]);
    SSL_CTX *tls = NULL;
    stoq_endpoint *ep = NULL;
    stoq_config config = {
        .bind = {.sin6_family = AF_INET6},
        .alpn = {"echo"},
        .callbacks = {.conn_open = on_open, .conn_closed = on_closed, .datagram = on_datagram},
        .user = &c,
        .limits = {.max_datagram_bytes = 1200}, // else the peer may send none
    };
    hm_err err = stoq_tls_client(&(stoq_tls_files){.roots_path = argv[3]}, &tls);
    config.client_tls = tls;
    if (err == HM_OK)
        err = stoq_endpoint_create(&config, &ep);
    if (err == HM_OK)
        err = stoq_connect(ep, &to, argv[1], NULL, NULL, &c.conn);
    if (err != HM_OK)
        fprintf(stderr, "datagrams: %s: %s\n", hm_err_text(err), hm_err_detail());
    while (c.conn && !c.open)
        stoq_endpoint_wait(ep, HM_TIME_NEVER);
    // One a millisecond; a call made here is sent by the next process, which is due at once.
    for (uint64_t at = stoq_now_us(); c.conn && c.sent < count; at += EVERY_US) {
        if (stoq_conn_send_datagram(c.conn, hm_bytes_of(&c.sent, sizeof c.sent)) == HM_OK)
            c.sent++;
        while (c.conn && stoq_now_us() < at + EVERY_US)
            stoq_endpoint_wait(ep, at + EVERY_US);
    }
    uint64_t end = stoq_now_us() + 1000000;
    while (c.conn && c.came < c.sent && stoq_now_us() < end)
        stoq_endpoint_wait(ep, end);
    printf("%u sent, %u came back\n", c.sent, c.came);
    if (c.conn)
        stoq_conn_close(c.conn, 0, "");
    stoq_endpoint_destroy(ep);
    SSL_CTX_free(tls);
    return c.came > 0 ? 0 : 1;
}
