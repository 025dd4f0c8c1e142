// The receiving half of HTTP/3: connections, streams, and what comes on them.
#include <stdio.h>
#include <stdlib.h>

#include "server/h3_internal.h"
#include "server/metrics.h"

// ---- ends ---------------------------------------------------------------------------------------

// Labels of the codes that are counted; the last one stands for all others.
static const struct {
    uint64_t code;
    const char *label;
} codes[] = {
    {NGHTTP3_H3_NO_ERROR, "none"},
    {NGHTTP3_H3_GENERAL_PROTOCOL_ERROR, "general_protocol_error"},
    {NGHTTP3_H3_INTERNAL_ERROR, "internal_error"},
    {NGHTTP3_H3_STREAM_CREATION_ERROR, "stream_creation_error"},
    {NGHTTP3_H3_CLOSED_CRITICAL_STREAM, "closed_critical_stream"},
    {NGHTTP3_H3_FRAME_UNEXPECTED, "frame_unexpected"},
    {NGHTTP3_H3_FRAME_ERROR, "frame_error"},
    {NGHTTP3_H3_EXCESSIVE_LOAD, "excessive_load"},
    {NGHTTP3_H3_ID_ERROR, "id_error"},
    {NGHTTP3_H3_SETTINGS_ERROR, "settings_error"},
    {NGHTTP3_H3_MISSING_SETTINGS, "missing_settings"},
    {NGHTTP3_H3_MESSAGE_ERROR, "message_error"},
    {NGHTTP3_QPACK_DECOMPRESSION_FAILED, "qpack_decompression_failed"},
    {NGHTTP3_QPACK_ENCODER_STREAM_ERROR, "qpack_encoder_stream_error"},
    {NGHTTP3_QPACK_DECODER_STREAM_ERROR, "qpack_decoder_stream_error"},
    {H3_NO_CODE, "other"},
};
#define CODES (sizeof(codes) / sizeof(codes[0]))
_Static_assert(CODES <= H3_CODES, "a counter for each");

void h3_conn_end(h3_conn *c, uint64_t code, const char *why)
{
    size_t i = 0;
    if (c->failed)
        return;
    c->failed = true;
    while (i + 1 < CODES && codes[i].code != code)
        i++;
    c->h->n.ended[i]++;
    stoq_conn_close(c->conn, code, why);
}

void h3_fail(h3_conn *c, int err)
{
    h3_conn_end(c, nghttp3_err_infer_quic_app_error_code(err), nghttp3_strerror(err));
}

// The request is the application's no longer.
void h3_leave(h3_req *q, bool tell)
{
    bool told = q->told;
    q->told = false;
    if (!told || !tell)
        return;
    q->conn->h->n.cancelled++;
    q->conn->h->app->gone(q->conn->h->ctx, q);
}

// One more that was not let be answered.
static void spend(h3_req *q)
{
    h3_conn *c = q->conn;
    if (q->answered || q->counted)
        return;
    q->counted = true;
    if (c->budget > 0)
        c->budget--;
    else
        h3_conn_end(c, NGHTTP3_H3_EXCESSIVE_LOAD, "too many requests were given up");
}

// Both directions of a request's stream, outside of nghttp3.
void h3_abandon(h3_req *q, uint64_t code)
{
    h3_conn *c = q->conn;
    stoq_stream_reset(q->stream, code);
    stoq_stream_stop(q->stream, code);
    if (c->failed)
        return;
    nghttp3_conn_shutdown_stream_write(c->http, q->id);
    int err = nghttp3_conn_shutdown_stream_read(c->http, q->id);
    if (err != 0)
        h3_fail(c, err);
}

// The peer reset its side, or wants no answer.
static void given_up(h3_req *q)
{
    h3_leave(q, true);
    spend(q);
    h3_abandon(q, NGHTTP3_H3_REQUEST_CANCELLED);
}

h3_req *h3_find(h3_conn *c, int64_t id)
{
    if (c->last && c->last->id == id)
        return c->last;
    hm_list_each(it, &c->reqs)
    {
        h3_req *q = hm_container_of(it, h3_req, of_conn);
        if (q->id == id)
            return c->last = q;
    }
    return NULL;
}

// ---- nghttp3 asks -------------------------------------------------------------------------------

static int on_begin_headers(nghttp3_conn *http, int64_t id, void *user, void *stream_user)
{
    h3_req *q = h3_find(user, id);
    (void)stream_user;
    if (q)
        return nghttp3_conn_set_stream_user_data(http, id, q);
    return NGHTTP3_ERR_CALLBACK_FAILURE;
}

static int on_header(nghttp3_conn *http, int64_t id, int32_t token, nghttp3_rcbuf *name,
                     nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream_user)
{
    h3_req *q = stream_user;
    nghttp3_vec n = nghttp3_rcbuf_get_buf(name), v = nghttp3_rcbuf_get_buf(value);
    (void)http, (void)id, (void)token, (void)flags;
    q->head_bytes += n.len + v.len;
    if (q->head_bytes > H3_HEAD_READ) {
        h3_conn_end(user, NGHTTP3_H3_EXCESSIVE_LOAD, "a head is too long");
        return NGHTTP3_ERR_CALLBACK_FAILURE;
    }
    if (q->head_bytes > H3_HEAD_MAX)
        return 0;
    hm_buf_append(&q->fields, n.base, n.len);
    hm_buf_append(&q->fields, "", 1);
    hm_buf_append(&q->fields, v.base, v.len);
    hm_buf_append(&q->fields, "", 1);
    return hm_buf_status(&q->fields) == HM_OK ? 0 : NGHTTP3_ERR_NOMEM;
}

static int on_end_headers(nghttp3_conn *http, int64_t id, int fin, void *user, void *stream_user)
{
    h3_req *q = stream_user;
    h3_conn *c = user;
    (void)http, (void)id, (void)fin;
    q->head_done = q->told = true;
    c->h->n.requests++;
    c->h->app->request(c->h->ctx, q);
    hm_buf_free_secret(&q->fields);
    return 0;
}

// Trailers are read and not used, up to the same limit as heads.
static int on_trailer(nghttp3_conn *http, int64_t id, int32_t token, nghttp3_rcbuf *name,
                      nghttp3_rcbuf *value, uint8_t flags, void *user, void *stream_user)
{
    h3_req *q = stream_user;
    (void)http, (void)id, (void)token, (void)flags;
    q->head_bytes += nghttp3_rcbuf_get_buf(name).len + nghttp3_rcbuf_get_buf(value).len;
    if (q->head_bytes <= H3_HEAD_READ)
        return 0;
    h3_conn_end(user, NGHTTP3_H3_EXCESSIVE_LOAD, "trailers are too long");
    return NGHTTP3_ERR_CALLBACK_FAILURE;
}

static int on_data(nghttp3_conn *http, int64_t id, const uint8_t *data, size_t len, void *user,
                   void *stream_user)
{
    h3_req *q = stream_user;
    h3_conn *c = user;
    (void)http, (void)id;
    if (q->told)
        c->h->app->body(c->h->ctx, q, hm_bytes_of(data, len));
    else if ((q->thrown += len) > H3_THROWN_MAX)
        c->stop = NGHTTP3_H3_NO_ERROR;
    return 0;
}

static int on_end_stream(nghttp3_conn *http, int64_t id, void *user, void *stream_user)
{
    h3_req *q = stream_user;
    const h3_conn *c = user;
    (void)http, (void)id;
    if (!q)
        return 0;
    q->ended = true;
    if (q->told && c->h->app->body_end)
        c->h->app->body_end(c->h->ctx, q);
    return 0;
}

static int on_stop(nghttp3_conn *http, int64_t id, uint64_t code, void *user, void *stream_user)
{
    h3_conn *c = user;
    (void)http, (void)id, (void)stream_user;
    c->stop = code;
    return 0;
}

static int on_reset(nghttp3_conn *http, int64_t id, uint64_t code, void *user, void *stream_user)
{
    h3_conn *c = user;
    (void)http, (void)id, (void)stream_user;
    c->reset = code;
    return 0;
}

static const nghttp3_callbacks callbacks = {
    .acked_stream_data = h3_on_acked,
    .recv_data = on_data,
    .begin_headers = on_begin_headers,
    .recv_header = on_header,
    .end_headers = on_end_headers,
    .recv_trailer = on_trailer,
    .stop_sending = on_stop,
    .end_stream = on_end_stream,
    .reset_stream = on_reset,
};

// ---- connections --------------------------------------------------------------------------------

void h3_init(h3 *h, const h3_app *app, void *ctx, uint32_t streams)
{
    *h = (h3){.app = app, .ctx = ctx, .streams = streams};
    hm_list_init(&h->conns);
    hm_list_init(&h->dirty);
}

static hm_err begin(h3_conn *c)
{
    nghttp3_settings set;
    nghttp3_settings_default(&set);
    set.max_field_section_size = H3_HEAD_MAX;
    set.qpack_max_dtable_capacity = 4096;
    set.qpack_blocked_streams = 0;
    for (size_t i = 0; i < 3; i++)
        HM_TRY(stoq_stream_open(c->conn, true, &c->own[i]));
    if (nghttp3_conn_server_new(&c->http, &callbacks, &set, nghttp3_mem_default(), c) != 0)
        return HM_E_NOMEM;
    nghttp3_conn_set_max_client_streams_bidi(c->http, c->h->streams);
    nghttp3_conn_set_max_concurrent_streams(c->http, c->h->streams);
    if (nghttp3_conn_bind_control_stream(c->http, (int64_t)stoq_stream_id(c->own[0])) != 0 ||
        nghttp3_conn_bind_qpack_streams(c->http, (int64_t)stoq_stream_id(c->own[1]),
                                        (int64_t)stoq_stream_id(c->own[2])) != 0)
        return HM_E_NOMEM;
    return HM_OK;
}

hm_err h3_conn_open(h3 *h, stoq_conn *conn, void *user, h3_conn **out)
{
    h3_conn *c = calloc(1, sizeof *c);
    if (!c) {
        stoq_conn_close(conn, NGHTTP3_H3_INTERNAL_ERROR, "out of memory");
        return HM_E_NOMEM;
    }
    c->h = h;
    c->conn = conn;
    c->user = user;
    c->budget = H3_CANCEL_BURST;
    c->stop = c->reset = H3_NO_CODE;
    hm_list_init(&c->of_h3);
    hm_list_init(&c->dirty);
    hm_list_init(&c->reqs);
    hm_list_init(&c->woken);
    h->n.connections++;
    hm_err err = begin(c);
    if (err != HM_OK) {
        // Three one-way streams are the least that a client must allow (RFC 9114, 6.2).
        h3_conn_end(
            c, err == HM_E_NOMEM ? NGHTTP3_H3_INTERNAL_ERROR : NGHTTP3_H3_GENERAL_PROTOCOL_ERROR,
            hm_err_text(err));
        nghttp3_conn_del(c->http);
        free(c);
        return err;
    }
    hm_list_append(&h->conns, &c->of_h3);
    h3_flush_conn(c);
    *out = c;
    return HM_OK;
}

static void req_free(h3_req *q)
{
    hm_list_remove(&q->of_conn);
    hm_list_remove(&q->of_woken);
    if (q->conn->last == q)
        q->conn->last = NULL;
    while (!hm_list_empty(&q->kept)) {
        h3_kept *k = hm_container_of(q->kept.next, h3_kept, link);
        hm_list_remove(&k->link);
        k->free(k);
    }
    hm_buf_free_secret(&q->fields);
    free(q);
}

void h3_conn_closed(h3_conn *c)
{
    c->failed = true;
    hm_list_each(it, &c->reqs)
    {
        h3_req *q = hm_container_of(it, h3_req, of_conn);
        h3_leave(q, true);
        req_free(q);
    }
    hm_list_remove(&c->dirty);
    hm_list_remove(&c->of_h3);
    nghttp3_conn_del(c->http);
    free(c);
}

void *h3_conn_user(const h3_conn *c)
{
    return c->user;
}

void h3_drain(h3 *h)
{
    h->draining = true;
    hm_list_each(it, &h->conns) h3_touch(hm_container_of(it, h3_conn, of_h3));
}

void h3_sweep(h3 *h, uint64_t now_ms)
{
    hm_list_each(it, &h->conns)
    {
        h3_conn *c = hm_container_of(it, h3_conn, of_h3);
        hm_list_each(at, &c->reqs)
        {
            h3_req *q = hm_container_of(at, h3_req, of_conn);
            if ((q->head_done && !q->answered) || q->ended || q->cancel != H3_NO_CODE)
                continue;
            if (!q->since_ms)
                q->since_ms = now_ms;
            else if (now_ms - q->since_ms < H3_HEAD_MS)
                continue;
            else if (q->answered)
                stoq_stream_stop(q->stream, NGHTTP3_H3_NO_ERROR);
            else
                h3_cancel(q, NGHTTP3_H3_REQUEST_INCOMPLETE);
        }
    }
}

void h3_add(const h3_counters *n, h3_counters *sum)
{
    sum->connections += n->connections;
    sum->requests += n->requests;
    sum->cancelled += n->cancelled;
    sum->malformed += n->malformed;
    for (size_t i = 0; i < H3_CODES; i++)
        sum->ended[i] += n->ended[i];
}

void h3_metrics(const h3_counters *n, hm_metrics *m)
{
    char label[64];
    hm_metrics_value(m, "hm_http3_connections_total", "HTTP/3 connections taken", "",
                     n->connections, false);
    hm_metrics_value(m, "hm_http3_requests_total", "Requests that came by HTTP/3", "", n->requests,
                     false);
    hm_metrics_value(m, "hm_http3_cancelled_total", "Of them ended before they were answered", "",
                     n->cancelled, false);
    hm_metrics_value(m, "hm_http3_malformed_total", "Streams reset for what came on them", "",
                     n->malformed, false);
    for (size_t i = 0; i < CODES; i++) {
        snprintf(label, sizeof label, "code=\"%s\"", codes[i].label);
        hm_metrics_value(m, "hm_http3_ended_total", "HTTP/3 connections ended for an error", label,
                         n->ended[i], false);
    }
}

// ---- streams ------------------------------------------------------------------------------------

void h3_stream_open(h3_conn *c, stoq_stream *s)
{
    if (c->failed || stoq_stream_is_uni(s))
        return;
    h3_req *q = calloc(1, sizeof *q);
    if (!q) {
        h3_fail(c, NGHTTP3_ERR_NOMEM);
        return;
    }
    q->conn = c;
    q->stream = s;
    q->id = (int64_t)stoq_stream_id(s);
    q->cancel = H3_NO_CODE;
    hm_list_init(&q->of_woken);
    hm_list_init(&q->kept);
    hm_list_append(&c->reqs, &q->of_conn);
    stoq_stream_set_user(s, q);
}

// The peer reset its side of a stream.
static void on_peer_reset(h3_conn *c, stoq_stream *s, h3_req *q)
{
    if (q) {
        if (!q->answered)
            given_up(q);
        return;
    }
    int err =
        nghttp3_conn_close_stream(c->http, (int64_t)stoq_stream_id(s), stoq_stream_reset_code(s));
    if (err != 0 && err != NGHTTP3_ERR_STREAM_NOT_FOUND)
        h3_fail(c, err);
}

// What nghttp3 asked for while it read from s.
static void do_asked(h3_conn *c, stoq_stream *s, h3_req *q)
{
    uint64_t stop = c->stop, reset = c->reset;
    c->stop = c->reset = H3_NO_CODE;
    if (q && reset != H3_NO_CODE) {
        c->h->n.malformed += reset == NGHTTP3_H3_MESSAGE_ERROR;
        h3_leave(q, true);
        spend(q);
        h3_abandon(q, reset);
    } else if (stop != H3_NO_CODE) {
        stoq_stream_stop(s, stop);
    }
}

void h3_read(h3_conn *c, stoq_stream *s)
{
    h3_req *q = stoq_stream_user(s);
    bool fin = false;
    while (!c->failed && !fin) {
        hm_bytes view;
        if (stoq_stream_peek(s, &view, &fin) != HM_OK) {
            on_peer_reset(c, s, q);
            return;
        }
        if ((view.len == 0 && !fin) || (q && (q->held || q->cancel != H3_NO_CODE)))
            return;
        if (view.len > H3_SLICE) {
            view.len = H3_SLICE;
            fin = false;
        }
        nghttp3_ssize n =
            nghttp3_conn_read_stream(c->http, (int64_t)stoq_stream_id(s), view.ptr, view.len, fin);
        if (n < 0) {
            h3_fail(c, (int)n);
            return;
        }
        stoq_stream_consume(s, view.len);
        do_asked(c, s, q);
    }
}

void h3_stream_readable(h3_conn *c, stoq_stream *s)
{
    h3_read(c, s);
    h3_touch(c);
    h3_flush_conn(c);
}

void h3_stream_writable(h3_conn *c, stoq_stream *s)
{
    size_t none;
    if (c->failed)
        return;
    h3_req *q = stoq_stream_user(s);
    // Sending nothing tells whether anything may be sent.
    hm_err err = stoq_stream_send(s, (hm_bytes){0}, false, &none);
    if (err == HM_E_STOQ_RESET && !q) {
        h3_fail(c, NGHTTP3_ERR_H3_CLOSED_CRITICAL_STREAM);
    } else if (err == HM_E_STOQ_RESET) {
        given_up(q);
    } else {
        int bad = nghttp3_conn_unblock_stream(c->http, (int64_t)stoq_stream_id(s));
        if (bad != 0)
            h3_fail(c, bad);
    }
    h3_flush_conn(c);
}

void h3_stream_returned(h3_conn *c, stoq_stream *s, void *tag)
{
    if (c->failed)
        return;
    int err = nghttp3_conn_add_ack_offset(c->http, (int64_t)stoq_stream_id(s), (uintptr_t)tag);
    if (err != 0 && err != NGHTTP3_ERR_STREAM_NOT_FOUND)
        h3_fail(c, err);
}

void h3_stream_closed(h3_conn *c, stoq_stream *s)
{
    h3_req *q = stoq_stream_user(s);
    if (q) {
        h3_leave(q, true);
        req_free(q);
        stoq_stream_set_user(s, NULL);
    }
    if (c->failed || (!q && !stoq_conn_is_open(c->conn)))
        return; // the streams of the connection itself end with it
    int err = nghttp3_conn_close_stream(c->http, (int64_t)stoq_stream_id(s), NGHTTP3_H3_NO_ERROR);
    if (err != 0 && err != NGHTTP3_ERR_STREAM_NOT_FOUND)
        h3_fail(c, err);
    else if (q)
        nghttp3_conn_set_max_client_streams_bidi(c->http, c->h->streams + ++c->over);
    h3_touch(c);
    h3_flush_conn(c);
}

// ---- the application ----------------------------------------------------------------------------

void *h3_req_user(const h3_req *q)
{
    return q->user;
}
void h3_req_set_user(h3_req *q, void *user)
{
    q->user = user;
}
h3_conn *h3_req_conn(const h3_req *q)
{
    return q->conn;
}
size_t h3_head_bytes(const h3_req *q)
{
    return q->head_bytes;
}

const char *h3_field(const h3_req *q, const char *name, unsigned n)
{
    const char *at = (const char *)q->fields.ptr, *end = at + q->fields.len;
    while (at < end) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, name) == 0 && n-- == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}
