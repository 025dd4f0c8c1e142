// Sends a line to echo_server and prints what comes back.
//   echo_client ADDRESS PORT ROOTS TEXT [CERT KEY]
#include <arpa/inet.h>
#include <hypermesh/stoq.h>
#include <hypermesh/stoq_tls.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct client {
    const char *text;
    bool answered, closed;
} client;

static void on_open(void *user, stoq_conn *conn)
{
    client *c = user;
    stoq_stream *s;
    size_t took;
    fprintf(stderr, "connected: %s, %s\n", stoq_conn_group(conn), stoq_conn_cipher(conn));
    // A new stream has room for a line; a longer text would go on in stream_writable.
    if (stoq_stream_open(conn, false, &s) != HM_OK ||
        stoq_stream_send(s, hm_bytes_str(c->text), true, &took) != HM_OK || took < strlen(c->text))
        stoq_conn_close(conn, 1, "cannot send");
}

static void on_readable(void *user, stoq_stream *s)
{
    client *c = user;
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(s, &view, &fin) != HM_OK || (view.len == 0 && !fin))
            break;
        fwrite(view.ptr, 1, view.len, stdout);
        stoq_stream_consume(s, view.len);
    }
    if (fin) {
        c->answered = true;
        stoq_conn_close(stoq_stream_conn(s), 0, "");
    }
}

static void on_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    client *c = user;
    c->closed = true;
    if (!c->answered)
        fprintf(stderr, "echo_client: %s (%scode 0x%llx): %.*s\n", hm_err_text(stoq_conn_why(conn)),
                is_app ? "application " : "", (unsigned long long)code, (int)reason.len,
                (const char *)reason.ptr);
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 7) {
        fprintf(stderr, "usage: echo_client ADDRESS PORT ROOTS TEXT [CERT KEY]\n");
        return 2;
    }
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(argv[2]))};
    if (inet_pton(AF_INET6, argv[1], &to.sin6_addr) != 1) {
        fprintf(stderr, "echo_client: %s is no IPv6 address\n", argv[1]);
        return 2;
    }
    client c = {.text = argv[4]};
    const stoq_tls_files files = {.roots_path = argv[3],
                                  .cert_path = argc == 7 ? argv[5] : NULL,
                                  .key_path = argc == 7 ? argv[6] : NULL};
    SSL_CTX *tls = NULL;
    stoq_endpoint *ep = NULL;
    stoq_conn *conn;
    stoq_config config = {
        .bind = {.sin6_family = AF_INET6}, // any address, any port
        .alpn = {"echo"},
        .callbacks = {.conn_open = on_open,
                      .conn_closed = on_closed,
                      .stream_readable = on_readable},
        .user = &c,
    };
    hm_err err = stoq_tls_client(&files, &tls);
    config.client_tls = tls;
    if (err == HM_OK)
        err = stoq_endpoint_create(&config, &ep);
    if (err == HM_OK)
        err = stoq_connect(ep, &to, argv[1], NULL, NULL, &conn);
    if (err != HM_OK)
        fprintf(stderr, "echo_client: %s: %s\n", hm_err_text(err), hm_err_detail());
    while (err == HM_OK && !c.closed)
        stoq_endpoint_wait(ep, HM_TIME_NEVER);
    stoq_endpoint_destroy(ep);
    SSL_CTX_free(tls);
    return c.answered ? 0 : 1;
}
