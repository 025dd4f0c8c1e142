#include "server/dns_tcp.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "base/config.h"

#define SWEEP_MS 1000u
#define READ_BYTES 16384u

struct dns_tcp {
    dns_core *core;
    SSL_CTX *tls;
    unsigned kind; // DNS_WAY_TLS or DNS_WAY_TCP
    uv_tcp_t listener;
    uv_timer_t sweep;
    hm_list conns;
    unsigned count;
    bool closing;
    uint8_t in[READ_BYTES];
};

typedef struct tcp_conn {
    hm_list link;
    dns_tcp *d;
    uv_tcp_t tcp;
    struct sockaddr_in6 from;
    SSL *ssl;              // NULL: plain
    BIO *net_in, *net_out; // of ssl
    hm_buf in;             // of queries, so far
    hm_buf out;            // answers to be written
    hm_list waits;
    unsigned wait_count, writes;
    uint64_t at_ms; // when something came
    bool ended, paused;
} tcp_conn;

typedef struct tcp_query {
    dns_wait wait;
    hm_list link;
    tcp_conn *conn;
} tcp_query;

typedef struct tcp_write {
    uv_write_t req;
    hm_buf bytes;
    tcp_conn *conn;
} tcp_write;

// ---- the end ------------------------------------------------------------------------------------

static void on_closed(uv_handle_t *h)
{
    tcp_conn *c = h->data;
    dns_tcp *d = c->d;
    hm_list_remove(&c->link);
    d->count--;
    dns_limit_closed(&d->core->limit, &c->from.sin6_addr);
    dns_uncount(&d->core->n->connections[d->kind]);
    SSL_free(c->ssl);
    hm_buf_free(&c->in);
    hm_buf_free(&c->out);
    free(c);
}

static void end(tcp_conn *c)
{
    if (c->ended)
        return;
    c->ended = true;
    hm_list_each(it, &c->waits)
    {
        tcp_query *q = hm_container_of(it, tcp_query, link);
        dns_forward_leave(&q->wait);
        hm_list_remove(&q->link);
        free(q);
    }
    uv_close((uv_handle_t *)&c->tcp, on_closed);
}

// ---- writing ------------------------------------------------------------------------------------

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf);
static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    tcp_conn *c = h->data;
    (void)suggested;
    *buf = uv_buf_init((char *)c->d->in, READ_BYTES);
}

static void on_written(uv_write_t *req, int status)
{
    tcp_write *w = hm_container_of(req, tcp_write, req);
    tcp_conn *c = w->conn;
    hm_buf_free(&w->bytes);
    free(w);
    if (status != 0) {
        end(c);
        return;
    }
    if (!c->ended && c->paused &&
        uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) < DNS_TCP_QUEUE / 2) {
        c->paused = false;
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    }
}

static void take_ciphertext(tcp_conn *c, hm_buf *out)
{
    int n;
    size_t have = BIO_ctrl_pending(c->net_out);
    uint8_t *room = have > 0 ? hm_buf_reserve(out, have) : NULL;
    if (room != NULL && (n = BIO_read(c->net_out, room, (int)have)) > 0)
        out->len += (size_t)n;
}

// Sends what is in c->out, by TLS or as it is.
static void flush(tcp_conn *c)
{
    hm_buf bytes = {0};
    if (c->ended)
        return;
    if (c->ssl == NULL) {
        bytes = c->out;
        c->out = (hm_buf){0};
    } else {
        if (c->out.len > 0 && SSL_is_init_finished(c->ssl) &&
            SSL_write(c->ssl, c->out.ptr, (int)c->out.len) <= 0) {
            end(c);
            return;
        }
        if (SSL_is_init_finished(c->ssl))
            hm_buf_reset(&c->out);
        take_ciphertext(c, &bytes);
    }
    if (bytes.len == 0) {
        hm_buf_free(&bytes);
        return;
    }
    tcp_write *w = malloc(sizeof *w);
    if (w == NULL || hm_buf_status(&bytes) != HM_OK) {
        free(w);
        hm_buf_free(&bytes);
        end(c);
        return;
    }
    *w = (tcp_write){.bytes = bytes, .conn = c};
    uv_buf_t b = uv_buf_init((char *)w->bytes.ptr, (unsigned)w->bytes.len);
    if (uv_write(&w->req, (uv_stream_t *)&c->tcp, &b, 1, on_written) != 0) {
        hm_buf_free(&w->bytes);
        free(w);
        end(c);
        return;
    }
    if (uv_stream_get_write_queue_size((uv_stream_t *)&c->tcp) > DNS_TCP_QUEUE && !c->paused) {
        c->paused = true;
        uv_read_stop((uv_stream_t *)&c->tcp);
    }
}

static void put_answer(tcp_conn *c, hm_bytes answer)
{
    hm_wr_u16(&c->out, (uint16_t)answer.len);
    hm_buf_put(&c->out, answer);
}

// ---- queries ------------------------------------------------------------------------------------

static void on_forwarded(dns_wait *w, hm_bytes answer)
{
    tcp_query *q = hm_container_of(w, tcp_query, wait);
    tcp_conn *c = q->conn;
    hm_list_remove(&q->link);
    c->wait_count--;
    free(q);
    put_answer(c, answer);
    flush(c);
}

static size_t forward(tcp_conn *c, const dns_msg *query, uint8_t *out)
{
    tcp_query *q = c->wait_count < DNS_TCP_WAITS ? malloc(sizeof *q) : NULL;
    if (q == NULL)
        return dns_refuse(query, dns_way_of(c->d->kind), DNS_SERVFAIL, -1, out);
    q->wait.done = on_forwarded;
    q->conn = c;
    size_t len = dns_core_forward(c->d->core, query, c->d->kind, &q->wait, out);
    if (len > 0) {
        free(q);
    } else {
        hm_list_append(&c->waits, &q->link);
        c->wait_count++;
    }
    return len;
}

static bool answer(tcp_conn *c, hm_bytes bytes)
{
    dns_msg query;
    dns_core *core = c->d->core;
    uint8_t *out = core->frame + 2;
    size_t len = 0;
    if (!dns_core_admits(core, &c->from))
        return false;
    len = dns_core_ask(core, bytes, c->d->kind, &query, out);
    if (len == 0)
        return false; // no query: who sends that has nothing to say here
    if (len == DNS_LATER)
        len = forward(c, &query, out);
    if (len > 0)
        put_answer(c, hm_bytes_of(out, len));
    return true;
}

static void answer_all(tcp_conn *c)
{
    size_t at = 0;
    while (c->in.len - at >= 2) {
        size_t len = (size_t)c->in.ptr[at] << 8 | c->in.ptr[at + 1];
        if (c->in.len - at - 2 < len)
            break;
        if (!answer(c, hm_bytes_of(c->in.ptr + at + 2, len))) {
            end(c);
            return;
        }
        at += 2 + len;
        if (c->out.len > DNS_TCP_QUEUE / 4)
            flush(c);
        if (c->ended)
            return;
    }
    if (at > 0) {
        memmove(c->in.ptr, c->in.ptr + at, c->in.len - at);
        c->in.len -= at;
    }
}

// The handshake goes on, and what comes out of it is read.
static bool take_tls(tcp_conn *c, hm_bytes bytes)
{
    if (BIO_write(c->net_in, bytes.ptr, (int)bytes.len) != (int)bytes.len)
        return false;
    if (!SSL_is_init_finished(c->ssl)) {
        int rc = SSL_accept(c->ssl);
        if (rc != 1)
            return SSL_get_error(c->ssl, rc) == SSL_ERROR_WANT_READ;
    }
    for (;;) {
        uint8_t *room = hm_buf_reserve(&c->in, READ_BYTES);
        int n = room ? SSL_read(c->ssl, room, READ_BYTES) : 0;
        if (n <= 0)
            return room != NULL && SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        c->in.len += (size_t)n;
    }
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    tcp_conn *c = s->data;
    if (n == 0)
        return;
    bool good = n > 0;
    if (good) {
        hm_bytes bytes = hm_bytes_of(buf->base, (size_t)n);
        c->at_ms = uv_now(c->d->core->loop);
        if (c->ssl != NULL)
            good = take_tls(c, bytes);
        else
            hm_buf_put(&c->in, bytes);
        good = good && hm_buf_status(&c->in) == HM_OK;
        if (good)
            answer_all(c);
        ERR_clear_error();
        flush(c); // an alert too
    }
    if (!good)
        end(c);
}

// ---- connections --------------------------------------------------------------------------------

static bool start_tls(tcp_conn *c)
{
    c->ssl = SSL_new(c->d->tls);
    c->net_in = BIO_new(BIO_s_mem());
    c->net_out = BIO_new(BIO_s_mem());
    if (c->ssl == NULL || c->net_in == NULL || c->net_out == NULL) {
        BIO_free(c->net_in);
        BIO_free(c->net_out);
        return false;
    }
    SSL_set_bio(c->ssl, c->net_in, c->net_out);
    SSL_set_accept_state(c->ssl);
    return true;
}

static void on_refused(uv_handle_t *h)
{
    free(h->data);
}

static void on_connection(uv_stream_t *s, int status)
{
    dns_tcp *d = hm_container_of((uv_tcp_t *)s, dns_tcp, listener);
    tcp_conn *c = status == 0 ? calloc(1, sizeof *c) : NULL;
    int len = sizeof c->from;
    if (c == NULL)
        return;
    c->d = d;
    hm_list_init(&c->waits);
    uv_tcp_init(d->core->loop, &c->tcp);
    c->tcp.data = c;
    bool taken = uv_accept(s, (uv_stream_t *)&c->tcp) == 0 &&
                 uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&c->from, &len) == 0;
    if (!taken || d->count >= DNS_TCP_CONNECTIONS ||
        !dns_limit_opened(&d->core->limit, &c->from.sin6_addr, uv_hrtime() / 1000)) {
        dns_count(&d->core->n->refused_connections);
        uv_close((uv_handle_t *)&c->tcp, on_refused);
        return;
    }
    d->count++;
    dns_count(&d->core->n->connections[d->kind]);
    hm_list_append(&d->conns, &c->link);
    c->at_ms = uv_now(d->core->loop);
    uv_tcp_nodelay(&c->tcp, 1);
    if ((d->tls != NULL && !start_tls(c)) ||
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read) != 0)
        end(c);
}

static void on_sweep(uv_timer_t *t)
{
    dns_tcp *d = hm_container_of(t, dns_tcp, sweep);
    hm_list_each(it, &d->conns)
    {
        tcp_conn *c = hm_container_of(it, tcp_conn, link);
        if (c->wait_count == 0 && uv_now(d->core->loop) - c->at_ms > DNS_TCP_IDLE_MS)
            end(c);
    }
}

// ---- life ---------------------------------------------------------------------------------------

void dns_tcp_renew(dns_tcp *d, SSL_CTX *tls)
{
    SSL_CTX_up_ref(tls);
    SSL_CTX_free(d->tls);
    d->tls = tls;
}

hm_err dns_tcp_open(dns_core *core, const struct sockaddr_in6 *at, SSL_CTX *tls, dns_tcp **out)
{
    dns_tcp *d = calloc(1, sizeof *d);
    if (d == NULL)
        return HM_E_NOMEM;
    d->core = core;
    d->kind = tls ? DNS_WAY_TLS : DNS_WAY_TCP;
    hm_list_init(&d->conns);
    uv_timer_init(core->loop, &d->sweep);
    uv_tcp_init(core->loop, &d->listener);
    int rc = uv_tcp_bind(&d->listener, (const struct sockaddr *)at, UV_TCP_IPV6ONLY);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&d->listener, 128, on_connection);
    if (rc == 0)
        rc = uv_timer_start(&d->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    *out = d;
    if (tls != NULL)
        SSL_CTX_up_ref(tls);
    d->tls = tls;
    return rc == 0 ? HM_OK : hm_addr_fail(at, "TCP", -rc);
}

void dns_tcp_close(dns_tcp *d)
{
    if (d == NULL)
        return;
    hm_list_each(it, &d->conns) end(hm_container_of(it, tcp_conn, link));
    uv_close((uv_handle_t *)&d->listener, NULL);
    uv_close((uv_handle_t *)&d->sweep, NULL);
}

void dns_tcp_free(dns_tcp *d)
{
    if (d != NULL)
        SSL_CTX_free(d->tls);
    free(d);
}
