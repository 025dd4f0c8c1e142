// What two workers share of a bundle's connection: away's half, then home's.
#include "stoq/bundle_leg.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "stoq/endpoint.h"

// As AHEAD of bundle_send.c, and longer: until the other worker has had its turn.
#define LEG_AHEAD (4 * 65536u)

static void free_chunks(hm_list *list)
{
    hm_list_each(it, list)
    {
        free(hm_container_of(it, leg_chunk, link));
    }
}

static void unref(bundle_leg *l)
{
    pthread_mutex_lock(&l->lock);
    bool last = --l->refs == 0;
    pthread_mutex_unlock(&l->lock);
    if (!last)
        return;
    free_chunks(&l->come);
    free_chunks(&l->spare);
    hm_list_each(it, &l->orphans)
    {
        free(hm_container_of(it, bundle_piece, link));
    }
    X509_free(l->peer);
    hm_zero(l->secret, sizeof l->secret);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

// ---- between them; the lock is held -------------------------------------------------------------

static void tell_home(bundle_leg *l)
{
    if (l->home_due || l->home_gone)
        return;
    l->home_due = true;
    l->refs++;
    group_post(l->group, l->away, l->home, &l->to_home);
}

static void tell_away(bundle_leg *l)
{
    if (l->away_due || l->closed)
        return;
    l->away_due = true;
    l->refs++;
    group_post(l->group, l->home, l->away, &l->to_away);
}

// ---- away ---------------------------------------------------------------------------------------

static void measure(bundle_leg *l)
{
    uint64_t before = l->window;
    l->window = bundle_may_hold(l->stream, LEG_AHEAD);
    if (before == 0 && l->window > 0)
        tell_home(l);
}

// Frames first: they are whole, so they may stand before any piece.
static void push(bundle_leg *l)
{
    size_t took = 0;
    if (l->out_len > 0) {
        hm_bytes out = hm_bytes_of(l->out, l->out_len);
        if (stoq_stream_send(l->stream, out, false, &took) != HM_OK)
            return; // the stream was stopped: the connection is about to end
        l->out_len -= took;
        memmove(l->out, l->out + took, l->out_len);
    }
    if (took > 0 && l->home_waits) {
        l->home_waits = false;
        tell_home(l);
    }
    while (l->out_len == 0 && !hm_list_empty(&l->pieces)) {
        bundle_piece *p = hm_container_of(l->pieces.next, bundle_piece, leg_link);
        hm_bytes bytes = hm_bytes_of(p->bytes, BUNDLE_PIECE_HEAD + p->len);
        if (stoq_stream_lend(l->stream, bytes, false, p) != HM_OK)
            break;
        hm_list_remove(&p->leg_link);
    }
    measure(l);
}

// One to be filled; NULL: home has them all.
static leg_chunk *take_chunk(bundle_leg *l)
{
    leg_chunk *c = NULL;
    pthread_mutex_lock(&l->lock);
    if (!hm_list_empty(&l->spare)) {
        c = hm_container_of(l->spare.next, leg_chunk, link);
        hm_list_remove(&c->link);
    } else if (l->chunks < LEG_CHUNKS_MAX && (c = malloc(sizeof *c)) != NULL) {
        hm_list_init(&c->link);
        l->chunks++;
    }
    l->away_waits = c == NULL;
    pthread_mutex_unlock(&l->lock);
    if (c != NULL)
        c->len = 0;
    return c;
}

// As much of the stream as it takes; false: the stream has no more.
static bool fill(bundle_leg *l, leg_chunk *c, bool *ended)
{
    while (c->len < LEG_CHUNK) {
        hm_bytes view;
        bool fin = false;
        hm_err err = stoq_stream_peek(l->stream, &view, &fin);
        if (err != HM_OK || (fin && view.len == 0)) {
            *ended = true;
            return false;
        }
        if (view.len == 0)
            return false;
        size_t n = LEG_CHUNK - c->len < view.len ? LEG_CHUNK - c->len : view.len;
        memcpy(c->bytes + c->len, view.ptr, n);
        c->len += n;
        stoq_stream_consume(l->stream, n);
        if (fin && n == view.len) {
            *ended = true;
            return false;
        }
    }
    return true;
}

void leg_on_readable(bundle_leg *l)
{
    leg_chunk *c;
    bool more = true, ended = false;
    while (more && (c = take_chunk(l)) != NULL) {
        more = fill(l, c, &ended);
        pthread_mutex_lock(&l->lock);
        hm_list_append(c->len > 0 ? &l->come : &l->spare, &c->link);
        l->ended |= ended;
        if (c->len > 0 || ended)
            tell_home(l);
        pthread_mutex_unlock(&l->lock);
    }
}

void leg_on_writable(bundle_leg *l)
{
    pthread_mutex_lock(&l->lock);
    push(l);
    pthread_mutex_unlock(&l->lock);
}

void leg_on_returned(bundle_leg *l, const bundle_piece *p)
{
    pthread_mutex_lock(&l->lock);
    l->returned++;
    l->returned_bytes += BUNDLE_PIECE_HEAD + p->len;
    measure(l);
    tell_home(l);
    pthread_mutex_unlock(&l->lock);
}

void leg_on_closed(bundle_leg *l)
{
    l->stream = NULL;
    pthread_mutex_lock(&l->lock);
    hm_list_init(&l->pieces); // they are in `sent` or among the orphans
    l->closed = true;
    tell_home(l);
    pthread_mutex_unlock(&l->lock);
    unref(l);
}

static void run_away(void *arg, stoq_endpoint *ep)
{
    bundle_leg *l = arg;
    char reason[LEG_REASON];
    pthread_mutex_lock(&l->lock);
    if (ep == NULL || l->stream == NULL) { // its worker ends, or it is closed
        pthread_mutex_unlock(&l->lock);
        unref(l);
        return;
    }
    l->away_due = false;
    bool ping = l->ping, close = l->close, refused = l->refused, read = l->away_waits;
    uint64_t code = l->code;
    l->ping = l->close = l->refused = false;
    memcpy(reason, l->reason, sizeof reason);
    if (!close)
        push(l);
    pthread_mutex_unlock(&l->lock);
    l->set->refused += refused;
    if (close)
        stoq_conn_close(stoq_stream_conn(l->stream), code, reason);
    else if (ping)
        stoq_conn_ping(stoq_stream_conn(l->stream));
    if (read && !close)
        leg_on_readable(l);
    unref(l);
}

static void run_home(void *arg, stoq_endpoint *ep);

hm_err leg_ask(bundle_member *m, unsigned home, const bundle_frame *join, uint64_t number)
{
    stoq_conn *conn = stoq_stream_conn(m->stream);
    const stoq_endpoint *ep = stoq_conn_endpoint(conn);
    bundle_leg *l = calloc(1, sizeof *l);
    leg_chunk *first = malloc(sizeof *first); // home gives it back, so that one is never missing
    hm_err err = l == NULL || first == NULL ? HM_E_NOMEM : stoq_conn_export(conn, l->secret);
    if (err != HM_OK) {
        free(first);
        free(l);
        return err;
    }
    l->group = ep->group;
    l->hub = m->set->config.hub;
    l->home = home;
    l->away = ep->share.index;
    l->is_server = join != NULL;
    l->join = join != NULL ? *join : (bundle_frame){0};
    l->number = number;
    l->peer = stoq_conn_peer_cert(conn);
    if (l->peer != NULL)
        X509_up_ref(l->peer);
    l->stream = m->stream;
    l->set = m->set;
    pthread_mutex_init(&l->lock, NULL);
    l->refs = 1;
    l->to_home = (group_job){.run = run_home, .arg = l};
    l->to_away = (group_job){.run = run_away, .arg = l};
    hm_list_init(&l->come);
    hm_list_init(&l->spare);
    hm_list_init(&l->pieces);
    hm_list_init(&l->orphans);
    hm_list_append(&l->spare, &first->link);
    l->chunks = 1;
    m->leg = l;
    m->state = BUNDLE_AWAY;
    pthread_mutex_lock(&l->lock);
    measure(l);
    tell_home(l);
    pthread_mutex_unlock(&l->lock);
    return HM_OK;
}

// ---- home ---------------------------------------------------------------------------------------

static void take_mail(bundle_leg *l, leg_mail *out)
{
    hm_list_init(&out->come);
    pthread_mutex_lock(&l->lock);
    l->home_due = false;
    hm_list_move_all(&l->come, &out->come);
    out->window = l->window;
    out->returned = l->returned;
    out->returned_bytes = l->returned_bytes;
    l->returned = l->returned_bytes = 0;
    out->ended = l->ended;
    out->closed = l->closed;
    pthread_mutex_unlock(&l->lock);
}

static void read_chunks(bundle_leg *l, leg_mail *mail)
{
    while (!hm_list_empty(&mail->come)) {
        leg_chunk *c = hm_container_of(mail->come.next, leg_chunk, link);
        hm_list_remove(&c->link);
        if (l->member != NULL)
            (void)bundle_take(l->member, hm_bytes_of(c->bytes, c->len));
        pthread_mutex_lock(&l->lock);
        hm_list_append(&l->spare, &c->link);
        if (l->away_waits)
            tell_away(l);
        pthread_mutex_unlock(&l->lock);
    }
}

static void run_home(void *arg, stoq_endpoint *ep)
{
    bundle_leg *l = arg;
    leg_mail mail;
    if (ep == NULL) { // its worker ends, and the bundle with it
        unref(l);
        return;
    }
    take_mail(l, &mail);
    if (!l->asked)
        bundle_on_ask(l->hub->sets[l->home], l);
    l->asked = true;
    hm_zero(l->secret, sizeof l->secret);
    if (l->member != NULL)
        bundle_on_window(l->member, mail.window, mail.returned, mail.returned_bytes);
    read_chunks(l, &mail);
    if (l->member != NULL)
        bundle_on_turn(l->member, mail.ended, mail.closed);
    unref(l);
}

void leg_join(bundle_leg *l, bundle_member *m)
{
    l->member = m;
    pthread_mutex_lock(&l->lock);
    l->refs++;
    pthread_mutex_unlock(&l->lock);
}

static void ask_close(bundle_leg *l, bool refused, uint64_t code, const char *reason)
{
    if (!l->closing) {
        l->closing = l->close = true;
        l->refused = refused;
        l->code = code;
        snprintf(l->reason, sizeof l->reason, "%s", reason);
    }
    tell_away(l);
}

void leg_close(bundle_leg *l, uint64_t code, const char *reason)
{
    pthread_mutex_lock(&l->lock);
    ask_close(l, false, code, reason);
    pthread_mutex_unlock(&l->lock);
}

void leg_refuse(bundle_leg *l, uint64_t code, const char *reason)
{
    pthread_mutex_lock(&l->lock);
    ask_close(l, true, code, reason);
    pthread_mutex_unlock(&l->lock);
}

size_t leg_send(bundle_leg *l, hm_bytes bytes)
{
    pthread_mutex_lock(&l->lock);
    bool fits = bytes.len <= sizeof l->out - l->out_len;
    if (fits) {
        memcpy(l->out + l->out_len, bytes.ptr, bytes.len);
        l->out_len += bytes.len;
        tell_away(l);
    } else {
        l->home_waits = true;
    }
    pthread_mutex_unlock(&l->lock);
    return fits ? bytes.len : 0;
}

void leg_lend(bundle_leg *l, bundle_piece *p)
{
    pthread_mutex_lock(&l->lock);
    if (!l->closed) {
        hm_list_append(&l->pieces, &p->leg_link);
        tell_away(l);
    }
    pthread_mutex_unlock(&l->lock);
}

void leg_ping(bundle_leg *l)
{
    pthread_mutex_lock(&l->lock);
    l->ping = true;
    tell_away(l);
    pthread_mutex_unlock(&l->lock);
}

void leg_let_go(bundle_leg *l, bundle_member *m)
{
    l->member = NULL;
    pthread_mutex_lock(&l->lock);
    l->home_gone = true;
    for (; !l->closed && m->sent_count > m->returned; m->sent_count--) {
        hm_list *it = m->sent.prev; // from the last: those at the front may be back
        hm_list_remove(it);
        hm_list_append(&l->orphans, it);
    }
    hm_list_init(&l->pieces);
    if (!l->closed)
        ask_close(l, false, STOQ_BUNDLE_DONE, "the bundle's worker ends");
    pthread_mutex_unlock(&l->lock);
    unref(l);
}
