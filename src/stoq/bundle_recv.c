// Frames of a bundle's connections.
#include <stdlib.h>

#include "stoq/bundle_leg.h"

// Application code for what bundle_rx said.
static uint64_t code_of(hm_err err)
{
    switch (err) {
    case HM_E_EXISTS:
        return STOQ_BUNDLE_TWICE;
    case HM_E_RANGE:
    case HM_E_LIMIT:
        return STOQ_BUNDLE_WINDOW;
    case HM_E_NOMEM:
        return STOQ_BUNDLE_MEMORY;
    default:
        return STOQ_BUNDLE_MALFORMED;
    }
}

static void malformed(bundle_member *m, const char *what)
{
    hm_err err = hm_fail(HM_E_PARSE, "%s", what);
    if (m->bundle != NULL)
        bundle_break(m->bundle, err, STOQ_BUNDLE_MALFORMED);
    else
        bundle_refuse(m, STOQ_BUNDLE_MALFORMED);
}

// ---- the channel --------------------------------------------------------------------------------

static void tell_end(stoq_bundle *b)
{
    const stoq_bundles_config *k = &b->set->config;
    if (b->closing || b->rx.ended || !bundle_rx_all(&b->rx))
        return;
    b->rx.ended = true;
    if (k->callbacks.end != NULL)
        k->callbacks.end(k->user, b);
}

static void tell(stoq_bundle *b, uint64_t offset, hm_bytes bytes)
{
    const stoq_bundles_config *k = &b->set->config;
    if (k->callbacks.data != NULL)
        k->callbacks.data(k->user, b, offset, bytes);
}

static void on_piece(bundle_member *m, hm_bytes bytes)
{
    stoq_bundle *b = m->bundle;
    uint64_t offset = m->piece.value;
    hm_err err = bundle_rx_take(&b->rx, offset, bytes);
    if (err != HM_OK) {
        bundle_break(b, err, code_of(err));
        return;
    }
    m->taken++;
    if (!b->rx.ordered) {
        tell(b, offset, bytes);
    } else {
        hm_bytes ready;
        while (!b->closing && (ready = bundle_rx_ready(&b->rx, offset, bytes)).len > 0) {
            uint64_t at = b->rx.told;
            bundle_rx_told(&b->rx, ready.len);
            tell(b, at, ready);
        }
    }
    tell_end(b);
}

static void on_end(stoq_bundle *b, uint64_t final)
{
    hm_err err = bundle_rx_end(&b->rx, final);
    if (err != HM_OK)
        bundle_break(b, err, STOQ_BUNDLE_WINDOW);
    else
        tell_end(b);
}

// ---- what the peer has --------------------------------------------------------------------------

static void on_taken(bundle_member *m, uint64_t count)
{
    if (count < m->taken_by_peer || count > m->sent_count) {
        malformed(m, "the peer takes pieces that it was not sent");
        return;
    }
    m->taken_by_peer = count;
    bundle_release(m);
}

// The peer holds one for dead, and asks what was taken from it.
static void on_gone(bundle_member *m, uint8_t index)
{
    stoq_bundle *b = m->bundle;
    bundle_member *of = index < STOQ_BUNDLE_CONNS_MAX ? b->members[index] : NULL;
    if (index >= STOQ_BUNDLE_CONNS_MAX || of == m) {
        malformed(m, "a connection that cannot be gone");
        return;
    }
    if (of == NULL)
        b->never |= UINT32_C(1) << index;
    else if (of->state != BUNDLE_LOST)
        bundle_lose(of);
    m->answer_due |= UINT32_C(1) << index;
}

static void on_taken_of(bundle_member *m, const bundle_frame *f)
{
    stoq_bundle *b = m->bundle;
    bundle_member *of = f->index < STOQ_BUNDLE_CONNS_MAX ? b->members[f->index] : NULL;
    if (of == NULL || of->state != BUNDLE_LOST || f->value < of->taken_by_peer ||
        f->value > of->sent_count || (of->answered && f->value != of->taken_by_peer)) {
        malformed(m, "an answer about a connection that cannot be");
        return;
    }
    of->answered = true;
    of->taken_by_peer = f->value;
    bundle_release(of);
}

// ---- frames -------------------------------------------------------------------------------------

static void on_frame(bundle_member *m, const bundle_frame *f)
{
    stoq_bundle *b = m->bundle;
    if (m->state == BUNDLE_NEW) {
        bool server = b != NULL ? b->is_server : stoq_conn_is_server(stoq_stream_conn(m->stream));
        if (server && f->type == BUNDLE_OPEN)
            bundle_on_open(m, f);
        else if (server && f->type == BUNDLE_JOIN)
            bundle_on_join(m, f);
        else if (!server && (f->type == BUNDLE_OPENED || f->type == BUNDLE_JOINED))
            bundle_on_greeting(m, f);
        else
            malformed(m, "a frame before the connection is in a bundle");
        return;
    }
    switch (f->type) {
    case BUNDLE_PIECE:
        m->piece = *f;
        m->body_len = 0;
        return;
    case BUNDLE_TAKEN:
        on_taken(m, f->value);
        return;
    case BUNDLE_ALLOW:
        b->allowed = f->value > b->allowed ? f->value : b->allowed;
        return;
    case BUNDLE_END:
        on_end(b, f->value);
        return;
    case BUNDLE_GONE:
        on_gone(m, f->index);
        return;
    case BUNDLE_TAKEN_OF:
        on_taken_of(m, f);
        return;
    default:
        malformed(m, "a first frame where the connection is in a bundle");
    }
}

// Bytes of a piece; returns how many were used.
static size_t take_body(bundle_member *m, hm_bytes v)
{
    size_t want = m->piece.len - m->body_len, n = want < v.len ? want : v.len;
    if (m->body_len == 0 && v.len >= want) { // whole, where it is
        on_piece(m, hm_bytes_of(v.ptr, want));
        m->piece.len = 0;
        return want;
    }
    if (m->body == NULL && (m->body = malloc(STOQ_BUNDLE_PIECE_MAX)) == NULL) {
        bundle_break(m->bundle, HM_E_NOMEM, STOQ_BUNDLE_MEMORY);
        return n;
    }
    memcpy(m->body + m->body_len, v.ptr, n);
    m->body_len += n;
    if (m->body_len == m->piece.len) {
        on_piece(m, hm_bytes_of(m->body, m->body_len));
        m->piece.len = 0;
    }
    return n;
}

static size_t take_head(bundle_member *m, hm_bytes v)
{
    bundle_frame f;
    size_t had = m->head_len, n = sizeof m->head - had, used;
    if (n > v.len)
        n = v.len;
    memcpy(m->head + had, v.ptr, n);
    hm_err err = bundle_frame_parse(hm_bytes_of(m->head, had + n), &f, &used);
    if (err == HM_E_AGAIN) {
        m->head_len += n;
        return n;
    }
    m->head_len = 0;
    if (err != HM_OK) {
        if (m->bundle != NULL)
            bundle_break(m->bundle, err, STOQ_BUNDLE_MALFORMED);
        else
            bundle_refuse(m, STOQ_BUNDLE_MALFORMED);
        return n;
    }
    on_frame(m, &f);
    return used - had;
}

// Nobody here reads it any more.
static bool deaf(const bundle_member *m)
{
    return m->state == BUNDLE_LOST || m->state == BUNDLE_AWAY ||
           (m->bundle != NULL && m->bundle->closing);
}

size_t bundle_take(bundle_member *m, hm_bytes bytes)
{
    size_t at = 0;
    while (at < bytes.len && !deaf(m)) {
        hm_bytes rest = hm_bytes_of(bytes.ptr + at, bytes.len - at);
        at += m->piece.len > 0 ? take_body(m, rest) : take_head(m, rest);
    }
    return at;
}

void bundle_on_stream_end(bundle_member *m)
{
    if (!deaf(m))
        malformed(m, "a stream that ends before its connection");
}

void stoq_bundles_stream_readable(void *user, stoq_stream *st)
{
    bundle_member *m = stoq_stream_user(st);
    hm_bytes view;
    bool fin = false;
    (void)user;
    while (m != NULL && !deaf(m)) {
        hm_err err = stoq_stream_peek(st, &view, &fin);
        if (err == HM_OK && view.len == 0 && !fin)
            break;
        size_t n = err == HM_OK ? bundle_take(m, view) : 0;
        if (m->state == BUNDLE_AWAY) { // by a frame in it; the rest is the other worker's
            stoq_stream_consume(st, n);
            break;
        }
        if (err == HM_OK)
            stoq_stream_consume(st, view.len);
        if (err != HM_OK || fin) {
            bundle_on_stream_end(m);
            break;
        }
    }
    if (m != NULL && m->state == BUNDLE_AWAY)
        leg_on_readable(m->leg);
    else if (m != NULL && m->bundle != NULL)
        bundle_pump(m->bundle);
}
