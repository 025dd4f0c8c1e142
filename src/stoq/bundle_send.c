// A bundle's pieces: cut, given to the connection that has the most room in its congestion window,
// kept until the peer has them, and given to another when their connection dies.
#include <stdlib.h>

#include "stoq/bundle_leg.h"

// Beyond its congestion window a connection is given so much, one batch of segmentation offload, so
// that it never waits for this side's next turn.
#define AHEAD 65536u

static bool live(const bundle_member *m)
{
    return m != NULL && m->state == BUNDLE_LIVE && m->open;
}

// ---- frames other than pieces -------------------------------------------------------------------

static bool put(bundle_member *m, const bundle_frame *f)
{
    if (m->out_len + BUNDLE_FRAME_MAX > sizeof m->out)
        return false;
    m->out_len += bundle_frame_write(f, m->out + m->out_len);
    return true;
}

static void put_of(bundle_member *m, uint32_t *due, bundle_type type)
{
    for (unsigned i = 0; *due != 0 && i < STOQ_BUNDLE_CONNS_MAX; i++) {
        const bundle_member *of = m->bundle->members[i];
        bundle_frame f = {.type = type, .index = (uint8_t)i, .value = of != NULL ? of->taken : 0};
        if ((*due >> i & 1) == 0)
            continue;
        if (!put(m, &f))
            return;
        *due &= ~(UINT32_C(1) << i);
    }
}

// What is due is kept as numbers and bits and not as frames, so that a peer that reads nothing
// makes nothing grow.
static void put_due(bundle_member *m)
{
    const stoq_bundle *b = m->bundle;
    bundle_frame greeting = {.type = m->index == 0 ? BUNDLE_OPENED : BUNDLE_JOINED,
                             .value = b->rx.limit};
    memcpy(greeting.id, b->id, sizeof greeting.id);
    if (m->greet_due)
        m->greet_due = !put(m, &greeting);
    if (m->taken != m->taken_told &&
        put(m, &(bundle_frame){.type = BUNDLE_TAKEN, .value = m->taken}))
        m->taken_told = m->taken;
    if (m->allow_due)
        m->allow_due = !put(m, &(bundle_frame){.type = BUNDLE_ALLOW, .value = b->rx.limit});
    if (m->end_due)
        m->end_due = !put(m, &(bundle_frame){.type = BUNDLE_END, .value = b->end});
    put_of(m, &m->gone_due, BUNDLE_GONE);
    put_of(m, &m->answer_due, BUNDLE_TAKEN_OF);
}

// Sends what is due; false when some of it has to wait.
static bool flush(bundle_member *m)
{
    for (;;) {
        size_t took = 0;
        if (m->out_at == m->out_len) {
            m->out_at = m->out_len = 0;
            put_due(m);
        }
        if (m->out_len == 0)
            return true;
        hm_bytes rest = hm_bytes_of(m->out + m->out_at, m->out_len - m->out_at);
        if (m->leg != NULL)
            took = leg_send(m->leg, rest);
        else if (stoq_stream_send(m->stream, rest, false, &took) != HM_OK)
            return false; // the stream was stopped: the connection is about to end
        m->out_at += took;
        if (m->out_at < m->out_len)
            return false;
    }
}

// ---- striping -----------------------------------------------------------------------------------

uint64_t bundle_may_hold(stoq_stream *st, uint64_t ahead)
{
    uint64_t window = stoq_conn_window(stoq_stream_conn(st));
    return stoq_stream_send_room(st) == 0 ? 0 : window + (window < ahead ? window : ahead);
}

// Bytes that it may be given now.
static uint64_t room_of(const bundle_member *m)
{
    if (!live(m) || m->out_at < m->out_len)
        return 0;
    uint64_t most = m->leg != NULL ? m->leg_window : bundle_may_hold(m->stream, AHEAD);
    return most > m->lent_bytes ? most - m->lent_bytes : 0;
}

static bool give(bundle_member *m, bundle_piece *p)
{
    size_t len = BUNDLE_PIECE_HEAD + p->len;
    if (m->leg != NULL)
        leg_lend(m->leg, p);
    else if (stoq_stream_lend(m->stream, hm_bytes_of(p->bytes, len), false, p) != HM_OK)
        return false;
    hm_list_remove(&p->link);
    hm_list_append(&m->sent, &p->link);
    m->sent_count++;
    m->lent_bytes += len;
    return true;
}

static void stripe(stoq_bundle *b)
{
    uint64_t room[STOQ_BUNDLE_CONNS_MAX];
    if (hm_list_empty(&b->queue))
        return;
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        room[i] = room_of(b->members[i]);
    while (!hm_list_empty(&b->queue)) {
        bundle_piece *p = hm_container_of(b->queue.next, bundle_piece, link);
        unsigned best = 0;
        for (unsigned i = 1; i < STOQ_BUNDLE_CONNS_MAX; i++)
            best = room[i] > room[best] ? i : best;
        if (room[best] == 0 || p->offset + p->len > b->allowed)
            return;
        uint64_t len = BUNDLE_PIECE_HEAD + p->len;
        bool given = give(b->members[best], p);
        if (given)
            b->sent_bytes += p->len;
        room[best] = given && room[best] > len ? room[best] - len : 0;
    }
}

void bundle_pump(stoq_bundle *b)
{
    if (b->pumping || b->closing)
        return; // who pumps goes on
    b->pumping = true;
    for (;;) {
        for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
            if (live(b->members[i]))
                (void)flush(b->members[i]);
        stripe(b);
        if (!b->blocked || b->closing || (b->in_pool == 0 && b->pieces == b->pieces_max))
            break;
        b->blocked = false;
        if (b->set->config.callbacks.writable != NULL)
            b->set->config.callbacks.writable(b->set->config.user, b);
    }
    b->pumping = false;
}

// ---- what becomes of pieces ---------------------------------------------------------------------

static void free_piece(stoq_bundle *b, bundle_piece *p)
{
    b->taken_bytes += p->len;
    hm_list_remove(&p->link);
    hm_list_append(&b->pool, &p->link);
    b->in_pool++;
}

void bundle_release(bundle_member *m)
{
    stoq_bundle *b = m->bundle;
    if (!m->open)
        m->returned = m->sent_count;
    while (m->released < m->returned && m->released < m->taken_by_peer) {
        free_piece(b, hm_container_of(m->sent.next, bundle_piece, link));
        m->released++;
    }
    if (!m->answered || m->open || m->settled)
        return;
    m->settled = true;
    while (!hm_list_empty(&m->sent)) { // from the last, so that they keep their order
        bundle_piece *p = hm_container_of(m->sent.prev, bundle_piece, link);
        hm_list_remove(&p->link);
        hm_list_prepend(&b->queue, &p->link);
        b->sent_bytes -= p->len;
        b->again++;
    }
}

void stoq_bundles_stream_returned(void *user, stoq_stream *st, void *tag)
{
    bundle_member *m = stoq_stream_user(st);
    const bundle_piece *p = tag;
    (void)user;
    if (m == NULL)
        return;
    if (m->state == BUNDLE_AWAY)
        leg_on_returned(m->leg, p);
    if (m->bundle == NULL)
        return;
    m->lent_bytes -= BUNDLE_PIECE_HEAD + p->len;
    m->returned++;
    bundle_release(m);
    bundle_pump(m->bundle);
}

void stoq_bundles_stream_writable(void *user, stoq_stream *st)
{
    bundle_member *m = stoq_stream_user(st);
    (void)user;
    if (m != NULL && m->state == BUNDLE_AWAY)
        leg_on_writable(m->leg);
    else if (m != NULL && m->bundle != NULL)
        bundle_pump(m->bundle);
}

static void free_list(hm_list *list)
{
    hm_list_each(it, list)
    {
        free(hm_container_of(it, bundle_piece, link));
    }
}

void bundle_drop_pieces(stoq_bundle *b)
{
    free_list(&b->queue);
    free_list(&b->pool);
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (b->members[i] != NULL)
            free_list(&b->members[i]->sent);
}

// ---- the application's calls --------------------------------------------------------------------

// One to be filled: the last of the queue while it has room, or another one; NULL: there is none.
static bundle_piece *open_piece(stoq_bundle *b, hm_err *err)
{
    bundle_piece *p;
    if (!hm_list_empty(&b->queue)) {
        p = hm_container_of(b->queue.prev, bundle_piece, link);
        if (p->offset + p->len == b->end && p->len < STOQ_BUNDLE_PIECE_MAX)
            return p;
    }
    if (b->in_pool > 0) {
        p = hm_container_of(b->pool.next, bundle_piece, link);
        hm_list_remove(&p->link);
        b->in_pool--;
    } else if (b->pieces == b->pieces_max) {
        b->blocked = true;
        return NULL;
    } else if ((p = malloc(sizeof *p)) == NULL) {
        *err = HM_E_NOMEM;
        return NULL;
    } else {
        b->pieces++; // grows to what is under way, and then stays
    }
    p->offset = b->end;
    p->len = 0;
    hm_list_append(&b->queue, &p->link);
    return p;
}

hm_err stoq_bundle_send(stoq_bundle *b, hm_bytes bytes, bool fin, size_t *accepted)
{
    hm_err err = HM_OK;
    size_t at = 0;
    bundle_piece *p;
    *accepted = 0;
    if (b->closing || b->fin)
        return hm_fail(HM_E_CLOSED, "the bundle was ended");
    while (at < bytes.len && (p = open_piece(b, &err)) != NULL) {
        size_t n = STOQ_BUNDLE_PIECE_MAX - p->len;
        if (n > bytes.len - at)
            n = bytes.len - at;
        memcpy(p->bytes + BUNDLE_PIECE_HEAD + p->len, bytes.ptr + at, n);
        p->len += (uint32_t)n;
        b->end += n;
        at += n;
        // Only whole bytes of it count, so the header may be written each time.
        (void)bundle_frame_write(
            &(bundle_frame){.type = BUNDLE_PIECE, .value = p->offset, .len = (uint16_t)p->len},
            p->bytes);
    }
    *accepted = at;
    b->fin = fin && at == bytes.len;
    for (unsigned i = 0; b->fin && i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (live(b->members[i]))
            b->members[i]->end_due = true;
    bundle_pump(b);
    return at > 0 ? HM_OK : err;
}

void stoq_bundle_consume(stoq_bundle *b, uint64_t n)
{
    if (b->closing || !bundle_rx_consume(&b->rx, n))
        return;
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (live(b->members[i]))
            b->members[i]->allow_due = true;
    bundle_pump(b);
}
