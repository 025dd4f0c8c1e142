// The sending half of HTTP/3: what is to be done for a connection, and answers.
#include <stdio.h>

#include "server/h3_internal.h"

#define VECS 16u
#define FIELDS_OUT_MAX 32u

void h3_touch(h3_conn *c)
{
    if (hm_list_empty(&c->dirty))
        hm_list_append(&c->h->dirty, &c->dirty);
}

int h3_on_acked(nghttp3_conn *http, int64_t id, uint64_t n, void *user, void *stream_user)
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
        h3_leave(q, false);
        *flags |= NGHTTP3_DATA_FLAG_EOF;
    }
    vec[0] = (nghttp3_vec){(uint8_t *)p.bytes.ptr, p.bytes.len};
    if (p.bytes.len == 0)
        return p.last ? 0 : NGHTTP3_ERR_WOULDBLOCK;
    return 1;
}

static stoq_stream *stream_of(h3_conn *c, int64_t id)
{
    for (size_t i = 0; i < 3; i++)
        if ((int64_t)stoq_stream_id(c->own[i]) == id)
            return c->own[i];
    h3_req *q = h3_find(c, id);
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
        h3_fail(c, NGHTTP3_ERR_NOMEM);
        return false;
    }
    if (err == HM_OK || given > 0) {
        int bad = nghttp3_conn_add_write_offset(c->http, id, given);
        if (bad != 0) {
            h3_fail(c, bad);
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

static void run_woken(h3_conn *c)
{
    while (!c->failed && !hm_list_empty(&c->woken)) {
        h3_req *q = hm_container_of(c->woken.next, h3_req, of_woken);
        hm_list_remove(&q->of_woken);
        if (q->cancel != H3_NO_CODE) {
            h3_abandon(q, q->cancel);
            continue;
        }
        if (q->told)
            c->h->app->ready(c->h->ctx, q);
        if (q->told && q->responded && !c->failed) {
            int err = nghttp3_conn_resume_stream(c->http, q->id);
            if (err != 0)
                h3_fail(c, err);
        }
        if (q->resume && !c->failed) {
            q->resume = false;
            h3_read(c, q->stream);
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
            h3_fail(c, (int)n);
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
            h3_fail(c, err);
        write_out(c);
    }
    if (hm_list_empty(&c->reqs) && !c->failed) {
        c->failed = true;
        stoq_conn_close(c->conn, NGHTTP3_H3_NO_ERROR, "shutting down");
    }
}

void h3_flush_conn(h3_conn *c)
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
        h3_flush_conn(hm_container_of(h->dirty.next, h3_conn, dirty));
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
        h3_leave(q, false);
    if (c->failed)
        return;
    int err = nghttp3_conn_submit_response(c->http, q->id, nv, count + 1, no_body ? NULL : &reader);
    if (err != 0)
        h3_fail(c, err);
}

void h3_wake(h3_req *q)
{
    if (hm_list_empty(&q->of_woken))
        hm_list_append(&q->conn->woken, &q->of_woken);
    h3_touch(q->conn);
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
    h3_leave(q, false);
    q->cancel = code;
    h3_wake(q);
}
