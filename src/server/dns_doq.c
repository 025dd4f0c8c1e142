#include "server/dns_doq.h"

#include <stdlib.h>

struct dns_doq {
    dns_core *core;
    stoq_uv io;
};

// A query that did not come in one piece, or waits for another server.
typedef struct doq_query {
    dns_wait wait;
    dns_doq *doq;
    stoq_stream *stream;
    hm_buf bytes; // so far, with the length in front
    bool waits;
} doq_query;

static void violation(stoq_stream *st, const char *why)
{
    stoq_conn_close(stoq_stream_conn(st), DOQ_PROTOCOL_ERROR, why);
}

static void give_up(stoq_stream *st, uint64_t code)
{
    stoq_stream_reset(st, code);
    stoq_stream_stop(st, code);
}

// Answer is in core->frame behind its two bytes of length.
static void send_frame(dns_doq *d, stoq_stream *st, size_t len)
{
    uint8_t *frame = d->core->frame;
    size_t took = 0;
    frame[0] = (uint8_t)(len >> 8);
    frame[1] = (uint8_t)len;
    hm_err err = stoq_stream_send(st, hm_bytes_of(frame, len + 2), true, &took);
    if (err != HM_OK || took != len + 2) // the client wants it no more
        stoq_stream_reset(st, DOQ_INTERNAL_ERROR);
}

static void on_forwarded(dns_wait *w, hm_bytes answer)
{
    doq_query *q = hm_container_of(w, doq_query, wait);
    q->waits = false;
    memcpy(q->doq->core->frame + 2, answer.ptr, answer.len);
    send_frame(q->doq, q->stream, answer.len);
}

static doq_query *query_need(dns_doq *d, stoq_stream *st)
{
    doq_query *q = stoq_stream_user(st);
    if (q != NULL)
        return q;
    q = calloc(1, sizeof *q);
    if (q == NULL) {
        give_up(st, DOQ_INTERNAL_ERROR);
        return NULL;
    }
    q->doq = d;
    q->stream = st;
    stoq_stream_set_user(st, q);
    return q;
}

static void forward(dns_doq *d, stoq_stream *st, const dns_msg *query)
{
    doq_query *q = query_need(d, st);
    if (q == NULL)
        return;
    q->wait.done = on_forwarded;
    size_t len = dns_core_forward(d->core, query, DNS_WAY_QUIC, &q->wait, d->core->frame + 2);
    q->waits = len == 0;
    if (len > 0)
        send_frame(d, st, len);
}

// The whole of what came on a stream.
static void answer(dns_doq *d, stoq_stream *st, hm_bytes all)
{
    struct sockaddr_in6 from;
    dns_msg query;
    if (all.len < 2 + DNS_HEADER_BYTES || all.len != 2u + (all.ptr[0] << 8 | all.ptr[1])) {
        violation(st, "a stream carries one message behind its length");
        return;
    }
    if (all.ptr[2] != 0 || all.ptr[3] != 0) {
        violation(st, "the message id is not 0");
        return;
    }
    stoq_conn_peer_address(stoq_stream_conn(st), &from);
    if (!dns_core_admits(d->core, &from)) {
        give_up(st, DOQ_EXCESSIVE_LOAD);
        return;
    }
    if (stoq_stream_is_early(st))
        dns_count(&d->core->n->early);
    size_t len = dns_core_ask(d->core, hm_bytes_of(all.ptr + 2, all.len - 2), DNS_WAY_QUIC, &query,
                              d->core->frame + 2);
    if (query.keepalive)
        violation(st, "the keepalive option is not for QUIC");
    else if (len == 0)
        violation(st, "not a query");
    else if (len == DNS_LATER)
        forward(d, st, &query);
    else
        send_frame(d, st, len);
}

static void on_readable(void *user, stoq_stream *st)
{
    dns_doq *d = user;
    doq_query *q = stoq_stream_user(st);
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK) {
            stoq_stream_reset(st, DOQ_REQUEST_CANCELLED);
            return;
        }
        if (view.len == 0 && !fin)
            return;
        if (fin && q == NULL) {
            answer(d, st, view);
        } else if (view.len > 0) {
            q = query_need(d, st);
            if (q == NULL)
                return;
            if (q->bytes.len + view.len > 2 + DNS_MSG_MAX) {
                violation(st, "more than one message on a stream");
                return;
            }
            hm_buf_put(&q->bytes, view);
        }
        if (fin && q != NULL && !q->waits) {
            if (hm_buf_status(&q->bytes) == HM_OK)
                answer(d, st, hm_buf_bytes(&q->bytes));
            else
                give_up(st, DOQ_INTERNAL_ERROR);
        }
        stoq_stream_consume(st, view.len);
    }
}

static void on_stream_open(void *user, stoq_stream *st)
{
    (void)user;
    if (stoq_stream_is_uni(st))
        violation(st, "queries come on streams of two directions");
}

static void on_stream_closed(void *user, stoq_stream *st)
{
    doq_query *q = stoq_stream_user(st);
    if (q == NULL)
        return;
    (void)user;
    if (q->waits)
        dns_forward_leave(&q->wait);
    hm_buf_free(&q->bytes);
    free(q);
}

static void on_conn_open(void *user, stoq_conn *conn)
{
    dns_doq *d = user;
    struct sockaddr_in6 from;
    stoq_conn_peer_address(conn, &from);
    if (!dns_limit_opened(&d->core->limit, &from.sin6_addr, stoq_now_us())) {
        dns_count(&d->core->n->refused_connections);
        stoq_conn_close(conn, DOQ_EXCESSIVE_LOAD, "too many connections");
        return;
    }
    stoq_conn_set_user(conn, d); // counted
    dns_count(&d->core->n->connections[DNS_WAY_QUIC]);
}

static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    dns_doq *d = user;
    struct sockaddr_in6 from;
    (void)code, (void)is_app, (void)reason;
    if (stoq_conn_user(conn) == NULL)
        return;
    stoq_conn_peer_address(conn, &from);
    dns_limit_closed(&d->core->limit, &from.sin6_addr);
    dns_uncount(&d->core->n->connections[DNS_WAY_QUIC]);
}

hm_err dns_doq_open(dns_core *core, const struct sockaddr_in6 *at, SSL_CTX *tls, dns_doq **out)
{
    stoq_endpoint *ep = NULL;
    dns_doq *d = calloc(1, sizeof *d);
    if (d == NULL)
        return HM_E_NOMEM;
    d->core = core;
    const stoq_config cfg = {
        .bind = *at,
        .server_tls = tls,
        .alpn = {DOQ_ALPN},
        .callbacks = {.conn_open = on_conn_open,
                      .conn_closed = on_conn_closed,
                      .stream_open = on_stream_open,
                      .stream_readable = on_readable,
                      .stream_closed = on_stream_closed},
        .user = d,
        .limits = {.max_connections = DOQ_CONNECTIONS,
                   .max_streams_bidi = DOQ_STREAMS,
                   .max_streams_uni = 1,
                   .stream_window_bytes = 131072,
                   .conn_window_bytes = 262144,
                   .stream_send_bytes = 131072,
                   .max_idle_ms = DOQ_IDLE_MS},
        .tickets = 2,
        .early_data = true,
    };
    hm_err err = stoq_endpoint_create(&cfg, &ep);
    if (err == HM_OK)
        err = stoq_uv_start(&d->io, core->loop, ep);
    if (err != HM_OK) {
        stoq_endpoint_destroy(ep);
        free(d);
        return err;
    }
    *out = d;
    return HM_OK;
}

void dns_doq_address(const dns_doq *d, struct sockaddr_in6 *out)
{
    stoq_endpoint_address(d->io.ep, out);
}

void dns_doq_renew(dns_doq *d, SSL_CTX *tls)
{
    stoq_endpoint_set_server_tls(d->io.ep, tls);
}

void dns_doq_close(dns_doq *d)
{
    if (d != NULL)
        stoq_uv_close(&d->io, NULL);
}

void dns_doq_free(dns_doq *d)
{
    free(d);
}
