#include "server/h3.h"

#include <nghttp3/nghttp3.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/metrics.h"

#define VECS 16u
#define FIELDS_OUT_MAX 32u
#define NO_CODE UINT64_MAX

struct h3_req {
    hm_list of_conn, of_woken;
    h3_conn *conn;
    stoq_stream *stream;
    int64_t id;
    void *user;
    hm_buf fields; // name NUL value NUL ..., while the head comes in
    size_t head_bytes;
    uint64_t since_ms; // when the sweep first saw it without its head, or answered without its end
    bool head_done, told, responded, answered, held, resume, counted, ended;
    uint64_t thrown; // bytes of the body that came after the answer
    uint64_t cancel; // or NO_CODE
    hm_list kept;    // h3_kept
    uint64_t given;  // bytes pulled
    uint64_t acked;  // of them
};

struct h3_conn {
    hm_list of_h3, dirty;
    h3 *h;
    stoq_conn *conn;
    void *user;
    nghttp3_conn *http;
    hm_list reqs, woken;
    stoq_stream *own[3]; // control, QPACK encoder and decoder
    h3_req *last;        // that was looked for
    unsigned budget;     // of cancelled requests
    uint64_t over;       // requests whose stream is closed
    bool failed;         // closed by this side: nghttp3 must not be called any more
    bool drain_told;
    // What nghttp3 asks for while it reads a stream; done when it has returned.
    uint64_t stop, reset;
};

static void touch(h3_conn *c)
{
    if (hm_list_empty(&c->dirty))
        hm_list_append(&c->h->dirty, &c->dirty);
}

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
    {NO_CODE, "other"},
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

static void fail(h3_conn *c, int err)
{
    h3_conn_end(c, nghttp3_err_infer_quic_app_error_code(err), nghttp3_strerror(err));
}

// The request is the application's no longer.
static void leave(h3_req *q, bool tell)
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
static void abandon(h3_req *q, uint64_t code)
{
    h3_conn *c = q->conn;
    stoq_stream_reset(q->stream, code);
    stoq_stream_stop(q->stream, code);
    if (c->failed)
        return;
    nghttp3_conn_shutdown_stream_write(c->http, q->id);
    int err = nghttp3_conn_shutdown_stream_read(c->http, q->id);
    if (err != 0)
        fail(c, err);
}

// The peer reset its side, or wants no answer.
static void given_up(h3_req *q)
{
    leave(q, true);
    spend(q);
    abandon(q, NGHTTP3_H3_REQUEST_CANCELLED);
}

static h3_req *find(h3_conn *c, int64_t id)
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
    h3_req *q = find(user, id);
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

static int on_acked(nghttp3_conn *http, int64_t id, uint64_t n, void *user, void *stream_user)
{
    h3_req *q = stream_user;
    (void)http, (void)id, (void)user;
    q->acked += n;
    while (!hm_list_empty(&q->kept)) {
        h3_kept *k = hm_container_of(q->kept.next, h3_kept, link);
        if (k->end > q->acked)
            break;
        hm_list_remove(&k->link);
        k->free(k);
    }
    return 0;
}

static nghttp3_ssize on_pull(nghttp3_conn *http, int64_t id, nghttp3_vec *vec, size_t count,
                             uint32_t *flags, void *user, void *stream_user)
{
    h3_req *q = stream_user;
    const h3_conn *c = user;
    h3_piece p = {0};
    (void)http, (void)id, (void)count;
    if (!q->told)
        return NGHTTP3_ERR_WOULDBLOCK; // given up meanwhile
    c->h->app->pull(c->h->ctx, q, &p);
    q->given += p.bytes.len;
    if (p.kept) {
        p.kept->end = q->given;
        hm_list_append(&q->kept, &p.kept->link);
    }
    if (p.last) {
        leave(q, false);
        *flags |= NGHTTP3_DATA_FLAG_EOF;
    }
    vec[0] = (nghttp3_vec){(uint8_t *)p.bytes.ptr, p.bytes.len};
    if (p.bytes.len == 0)
        return p.last ? 0 : NGHTTP3_ERR_WOULDBLOCK;
    return 1;
}

static const nghttp3_callbacks callbacks = {
    .acked_stream_data = on_acked,
    .recv_data = on_data,
    .begin_headers = on_begin_headers,
    .recv_header = on_header,
    .end_headers = on_end_headers,
    .recv_trailer = on_trailer,
    .stop_sending = on_stop,
    .end_stream = on_end_stream,
    .reset_stream = on_reset,
};

// ---- sending ------------------------------------------------------------------------------------

static stoq_stream *stream_of(h3_conn *c, int64_t id)
{
    for (size_t i = 0; i < 3; i++)
        if ((int64_t)stoq_stream_id(c->own[i]) == id)
            return c->own[i];
    h3_req *q = find(c, id);
    return q ? q->stream : NULL;
}

// The whole answer is with the transport. Who still sends a body may stop (RFC 9114, 4.1.1), but is
// told so only when it does not do it by itself: curl 8.14 on OpenSSL's QUIC takes a STOP_SENDING
// that comes before the answer for a failure.
static void answer_ended(h3_req *q)
{
    q->answered = true;
    if (!q->counted && q->conn->budget < H3_CANCEL_BURST)
        q->conn->budget++;
    q->since_ms = 0;
}

// Lends what nghttp3 has for a stream; false when the connection failed.
static bool send_vecs(h3_conn *c, int64_t id, const nghttp3_vec *vec, size_t count, bool fin)
{
    stoq_stream *s = stream_of(c, id);
    size_t given = 0, none;
    hm_err err = s ? HM_OK : HM_E_STOQ_RESET;
    size_t used = count;
    while (used > 0 && vec[used - 1].len == 0)
        used--;
    for (size_t i = 0; err == HM_OK && i < used; i++) {
        if (vec[i].len == 0)
            continue;
        err = stoq_stream_lend(s, hm_bytes_of(vec[i].base, vec[i].len), fin && i + 1 == used,
                               (void *)(uintptr_t)vec[i].len);
        if (err == HM_OK)
            given += vec[i].len;
    }
    if (err == HM_OK && used == 0 && fin)
        err = stoq_stream_send(s, (hm_bytes){0}, true, &none);
    if (err == HM_E_NOMEM) {
        fail(c, NGHTTP3_ERR_NOMEM);
        return false;
    }
    if (err == HM_OK || given > 0) {
        int bad = nghttp3_conn_add_write_offset(c->http, id, given);
        if (bad != 0) {
            fail(c, bad);
            return false;
        }
    }
    if (err == HM_E_STOQ_BLOCKED)
        nghttp3_conn_block_stream(c->http, id);
    else if (err != HM_OK)
        nghttp3_conn_shutdown_stream_write(c->http, id);
    else if (fin && !stoq_stream_is_uni(s))
        answer_ended(stoq_stream_user(s));
    return true;
}

static void read_stream(h3_conn *c, stoq_stream *s);

static void run_woken(h3_conn *c)
{
    while (!c->failed && !hm_list_empty(&c->woken)) {
        h3_req *q = hm_container_of(c->woken.next, h3_req, of_woken);
        hm_list_remove(&q->of_woken);
        if (q->cancel != NO_CODE) {
            abandon(q, q->cancel);
            continue;
        }
        if (q->told)
            c->h->app->ready(c->h->ctx, q);
        if (q->told && q->responded && !c->failed) {
            int err = nghttp3_conn_resume_stream(c->http, q->id);
            if (err != 0)
                fail(c, err);
        }
        if (q->resume && !c->failed) {
            q->resume = false;
            read_stream(c, q->stream);
        }
    }
}

static void write_out(h3_conn *c)
{
    while (!c->failed) {
        nghttp3_vec vec[VECS];
        int64_t id = -1;
        int fin = 0;
        nghttp3_ssize n = nghttp3_conn_writev_stream(c->http, &id, &fin, vec, VECS);
        if (n < 0) {
            fail(c, (int)n);
            return;
        }
        if (id < 0 || !send_vecs(c, id, vec, (size_t)n, fin))
            return;
    }
}

static void drain_step(h3_conn *c)
{
    if (!c->h->draining || c->failed)
        return;
    if (!c->drain_told) {
        c->drain_told = true;
        int err = nghttp3_conn_shutdown(c->http);
        if (err != 0)
            fail(c, err);
        write_out(c);
    }
    if (hm_list_empty(&c->reqs) && !c->failed) {
        c->failed = true;
        stoq_conn_close(c->conn, NGHTTP3_H3_NO_ERROR, "shutting down");
    }
}

static void flush(h3_conn *c)
{
    hm_list_remove(&c->dirty);
    do {
        run_woken(c);
        write_out(c);
    } while (!c->failed && !hm_list_empty(&c->woken));
    drain_step(c);
    hm_list_remove(&c->dirty); // what was woken meanwhile has had its turn
}

void h3_flush(h3 *h)
{
    while (h3_pending(h))
        flush(hm_container_of(h->dirty.next, h3_conn, dirty));
}

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
    c->stop = c->reset = NO_CODE;
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
    flush(c);
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
        leave(q, true);
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
    hm_list_each(it, &h->conns) touch(hm_container_of(it, h3_conn, of_h3));
}

void h3_sweep(h3 *h, uint64_t now_ms)
{
    hm_list_each(it, &h->conns)
    {
        h3_conn *c = hm_container_of(it, h3_conn, of_h3);
        hm_list_each(at, &c->reqs)
        {
            h3_req *q = hm_container_of(at, h3_req, of_conn);
            if ((q->head_done && !q->answered) || q->ended || q->cancel != NO_CODE)
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
        fail(c, NGHTTP3_ERR_NOMEM);
        return;
    }
    q->conn = c;
    q->stream = s;
    q->id = (int64_t)stoq_stream_id(s);
    q->cancel = NO_CODE;
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
        fail(c, err);
}

// What nghttp3 asked for while it read from s.
static void do_asked(h3_conn *c, stoq_stream *s, h3_req *q)
{
    uint64_t stop = c->stop, reset = c->reset;
    c->stop = c->reset = NO_CODE;
    if (q && reset != NO_CODE) {
        c->h->n.malformed += reset == NGHTTP3_H3_MESSAGE_ERROR;
        leave(q, true);
        spend(q);
        abandon(q, reset);
    } else if (stop != NO_CODE) {
        stoq_stream_stop(s, stop);
    }
}

static void read_stream(h3_conn *c, stoq_stream *s)
{
    h3_req *q = stoq_stream_user(s);
    bool fin = false;
    while (!c->failed && !fin) {
        hm_bytes view;
        if (stoq_stream_peek(s, &view, &fin) != HM_OK) {
            on_peer_reset(c, s, q);
            return;
        }
        if ((view.len == 0 && !fin) || (q && (q->held || q->cancel != NO_CODE)))
            return;
        if (view.len > H3_SLICE) {
            view.len = H3_SLICE;
            fin = false;
        }
        nghttp3_ssize n =
            nghttp3_conn_read_stream(c->http, (int64_t)stoq_stream_id(s), view.ptr, view.len, fin);
        if (n < 0) {
            fail(c, (int)n);
            return;
        }
        stoq_stream_consume(s, view.len);
        do_asked(c, s, q);
    }
}

void h3_stream_readable(h3_conn *c, stoq_stream *s)
{
    read_stream(c, s);
    touch(c);
    flush(c);
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
        fail(c, NGHTTP3_ERR_H3_CLOSED_CRITICAL_STREAM);
    } else if (err == HM_E_STOQ_RESET) {
        given_up(q);
    } else {
        int bad = nghttp3_conn_unblock_stream(c->http, (int64_t)stoq_stream_id(s));
        if (bad != 0)
            fail(c, bad);
    }
    flush(c);
}

void h3_stream_returned(h3_conn *c, stoq_stream *s, void *tag)
{
    if (c->failed)
        return;
    int err = nghttp3_conn_add_ack_offset(c->http, (int64_t)stoq_stream_id(s), (uintptr_t)tag);
    if (err != 0 && err != NGHTTP3_ERR_STREAM_NOT_FOUND)
        fail(c, err);
}

void h3_stream_closed(h3_conn *c, stoq_stream *s)
{
    h3_req *q = stoq_stream_user(s);
    if (q) {
        leave(q, true);
        req_free(q);
        stoq_stream_set_user(s, NULL);
    }
    if (c->failed || !stoq_conn_is_open(c->conn))
        return;
    int err = nghttp3_conn_close_stream(c->http, (int64_t)stoq_stream_id(s), NGHTTP3_H3_NO_ERROR);
    if (err != 0 && err != NGHTTP3_ERR_STREAM_NOT_FOUND)
        fail(c, err);
    else if (q)
        nghttp3_conn_set_max_client_streams_bidi(c->http, c->h->streams + ++c->over);
    touch(c);
    flush(c);
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

void h3_respond(h3_req *q, unsigned status, const h3_out *fields, size_t count, bool no_body)
{
    h3_conn *c = q->conn;
    char text[16];
    nghttp3_nv nv[FIELDS_OUT_MAX];
    const nghttp3_data_reader reader = {on_pull};
    hm_assert(q->told && !q->responded && status >= 200 && count < FIELDS_OUT_MAX);
    snprintf(text, sizeof text, "%u", status);
    nv[0] = (nghttp3_nv){.name = (const uint8_t *)":status",
                         .value = (const uint8_t *)text,
                         .namelen = 7,
                         .valuelen = strlen(text)};
    for (size_t i = 0; i < count; i++)
        nv[i + 1] = (nghttp3_nv){.name = (const uint8_t *)fields[i].name,
                                 .value = (const uint8_t *)fields[i].value,
                                 .namelen = strlen(fields[i].name),
                                 .valuelen = strlen(fields[i].value)};
    q->responded = true;
    if (no_body)
        leave(q, false);
    if (c->failed)
        return;
    int err = nghttp3_conn_submit_response(c->http, q->id, nv, count + 1, no_body ? NULL : &reader);
    if (err != 0)
        fail(c, err);
}

void h3_wake(h3_req *q)
{
    if (hm_list_empty(&q->of_woken))
        hm_list_append(&q->conn->woken, &q->of_woken);
    touch(q->conn);
}

void h3_hold(h3_req *q, bool held)
{
    q->resume |= q->held && !held;
    q->held = held;
    if (q->resume)
        h3_wake(q);
}

void h3_cancel(h3_req *q, uint64_t code)
{
    leave(q, false);
    q->cancel = code;
    h3_wake(q);
}
