// A server that sends back what it gets, on streams and in datagrams, until it is told to end.
//   echo_server PORT CERT KEY [ROOTS]      ROOTS: only clients with a certificate of theirs
#include <hypermesh/stoq.h>
#include <hypermesh/stoq_tls.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

// What was read and could be sent is consumed; the rest stays with the transport, which lets the
// peer send no more than it has room for. Called again when there is more to read or to send.
static void echo(void *user, stoq_stream *s)
{
    bool fin = false;
    (void)user;
    while (!fin) {
        hm_bytes view;
        size_t took;
        if (stoq_stream_peek(s, &view, &fin) != HM_OK) { // the client gave up
            stoq_stream_reset(s, 0);
            return;
        }
        if (view.len == 0 && !fin)
            return;
        if (stoq_stream_is_uni(s) || stoq_stream_send(s, view, fin, &took) != HM_OK) {
            stoq_stream_stop(s, 0); // no way back
            return;
        }
        stoq_stream_consume(s, took);
        if (took < view.len)
            return;
    }
}

static void on_datagram(void *user, stoq_conn *conn, hm_bytes bytes)
{
    (void)user;
    if (stoq_conn_send_datagram(conn, bytes) != HM_OK)
        fprintf(stderr, "echo_server: a datagram of %zu bytes is lost\n", bytes.len);
}

static void on_failed(void *user, stoq_conn *conn, hm_err why, uint64_t code, hm_bytes reason)
{
    (void)user, (void)conn, (void)code, (void)reason;
    fprintf(stderr, "echo_server: a client is refused: %s\n", hm_err_text(why));
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: echo_server PORT CERT KEY [ROOTS]\n");
        return 2;
    }
    const stoq_tls_files files = {
        .cert_path = argv[2], .key_path = argv[3], .roots_path = argc > 4 ? argv[4] : NULL};
    SSL_CTX *tls = NULL;
    stoq_endpoint *ep = NULL;
    struct sockaddr_in6 at = {.sin6_family = AF_INET6,
                              .sin6_addr = in6addr_any,
                              .sin6_port = htons((uint16_t)atoi(argv[1]))};
    stoq_config config = {
        .bind = at,
        .alpn = {"echo"},
        .callbacks = {.stream_readable = echo,
                      .stream_writable = echo,
                      .datagram = on_datagram,
                      .conn_failed = on_failed},
        .limits = {.max_datagram_bytes = 65535},
    };
    hm_err err = stoq_tls_server(&files, &tls);
    config.server_tls = tls;
    if (err == HM_OK)
        err = stoq_endpoint_create(&config, &ep);
    SSL_CTX_free(tls);
    if (err != HM_OK) {
        fprintf(stderr, "echo_server: %s: %s\n", hm_err_text(err), hm_err_detail());
        return 1;
    }
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    stoq_endpoint_address(ep, &at);
    printf("port %u\n", ntohs(at.sin6_port));
    fflush(stdout);
    while (!ended) // a signal just before the wait is seen within a second
        stoq_endpoint_wait(ep, stoq_now_us() + 1000000);
    stoq_endpoint_destroy(ep);
    return 0;
}
