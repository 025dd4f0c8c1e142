// The life of bundles and of their connections.
#include <stdlib.h>

#include "base/err.h"
#include "base/random.h"
#include "stoq/bundle_leg.h"
#include "stoq/endpoint.h"

#define WINDOW_BYTES (8u << 20)
#define SEND_BYTES (8u << 20)
#define BUNDLES_MAX 64u

// ---- ends ---------------------------------------------------------------------------------------

static void close_conn(bundle_member *m, uint64_t code, const char *reason)
{
    if (m->leg != NULL)
        leg_close(m->leg, code, reason);
    else
        stoq_conn_close(stoq_stream_conn(m->stream), code, reason);
}

static void end(stoq_bundle *b, hm_err why, uint64_t code, const char *reason)
{
    if (b->closing)
        return;
    b->closing = true;
    b->why = why;
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (b->members[i] != NULL && b->members[i]->open)
            close_conn(b->members[i], code, reason);
}

void bundle_break(stoq_bundle *b, hm_err why, uint64_t code)
{
    end(b, why, code, hm_err_detail());
}

void bundle_refuse(bundle_member *m, uint64_t code)
{
    m->state = BUNDLE_LOST;
    m->set->refused++;
    stoq_conn_close(stoq_stream_conn(m->stream), code, hm_err_detail());
}

void bundle_lose(bundle_member *m)
{
    stoq_bundle *b = m->bundle;
    if (m->state == BUNDLE_LOST)
        return;
    b->live -= m->state == BUNDLE_LIVE;
    m->state = BUNDLE_LOST;
    if (m->open)
        close_conn(m, STOQ_BUNDLE_LEFT, "the other side left it");
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (b->members[i] != NULL && b->members[i]->state == BUNDLE_LIVE)
            b->members[i]->gone_due |= UINT32_C(1) << m->index;
    if (b->live == 0)
        end(b, HM_E_CLOSED, STOQ_BUNDLE_DONE, "the last connection is gone");
}

static void free_member(bundle_member *m)
{
    if (m == NULL)
        return;
    free(m->body);
    free(m);
}

static void finish(stoq_bundle *b)
{
    const stoq_bundles_config *k = &b->set->config;
    if (k->callbacks.closed != NULL)
        k->callbacks.closed(k->user, b, b->why);
    hm_list_remove(&b->link);
    b->set->count -= b->is_server;
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (b->members[i] != NULL && b->members[i]->leg != NULL)
            leg_let_go(b->members[i]->leg, b->members[i]);
    bundle_drop_pieces(b);
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        free_member(b->members[i]);
    bundle_rx_free(&b->rx);
    X509_free(b->peer);
    hm_zero(b->secret, sizeof b->secret);
    free(b);
}

static void on_closed(bundle_member *m)
{
    stoq_bundle *b = m->bundle;
    m->stream = NULL;
    m->open = false;
    b->streams--;
    bundle_lose(m);
    bundle_release(m);
    bundle_pump(b);
    if (b->closing && b->streams == 0)
        finish(b);
}

void stoq_bundles_stream_closed(void *user, stoq_stream *st)
{
    bundle_member *m = stoq_stream_user(st);
    (void)user;
    if (m == NULL)
        return;
    if (m->bundle != NULL) {
        on_closed(m);
        return;
    }
    if (m->leg != NULL)
        leg_on_closed(m->leg);
    free_member(m);
}

void bundle_on_window(bundle_member *m, uint64_t window, uint64_t returned, uint64_t bytes)
{
    m->leg_window = window;
    m->lent_bytes -= bytes;
    m->returned += returned;
    bundle_release(m);
}

void bundle_on_turn(bundle_member *m, bool ended, bool closed)
{
    if (ended)
        bundle_on_stream_end(m);
    if (closed && m->open)
        on_closed(m);
    else
        bundle_pump(m->bundle);
}

void stoq_bundle_close(stoq_bundle *b)
{
    end(b, HM_OK, STOQ_BUNDLE_DONE, "");
}

// ---- members ------------------------------------------------------------------------------------

hm_err bundle_make_member(stoq_bundles *set, stoq_stream *st, bundle_member **out)
{
    bundle_member *m = calloc(1, sizeof *m);
    if (m == NULL)
        return HM_E_NOMEM;
    m->set = set;
    m->stream = st;
    m->open = true;
    hm_list_init(&m->sent);
    stoq_stream_set_user(st, m);
    *out = m;
    return HM_OK;
}

void bundle_attach(stoq_bundle *b, bundle_member *m, uint8_t index)
{
    m->bundle = b;
    m->index = index;
    b->members[index] = m;
    b->streams++;
}

void bundle_enliven(bundle_member *m)
{
    stoq_bundle *b = m->bundle;
    m->state = BUNDLE_LIVE;
    b->live++;
    b->joined++;
    m->allow_due = true;
    m->end_due = b->fin;
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (b->members[i] != NULL && b->members[i]->state == BUNDLE_LOST &&
            !b->members[i]->answered)
            m->gone_due |= UINT32_C(1) << i;
}

// A bundle has one stream on each connection, the client's first one.
void stoq_bundles_stream_open(stoq_bundles *set, stoq_stream *st)
{
    bundle_member *m;
    if (stoq_conn_is_server(stoq_stream_conn(st)) && stoq_stream_id(st) == 0 &&
        bundle_make_member(set, st, &m) == HM_OK)
        return;
    stoq_stream_stop(st, STOQ_BUNDLE_MALFORMED);
    if (!stoq_stream_is_uni(st))
        stoq_stream_reset(st, STOQ_BUNDLE_MALFORMED);
}

hm_err bundle_make(stoq_bundles *set, stoq_conn *conn, stoq_bundle **out)
{
    const stoq_bundles_config *k = &set->config;
    stoq_bundle *b = calloc(1, sizeof *b);
    if (b == NULL)
        return HM_E_NOMEM;
    hm_err err = stoq_conn_export(conn, b->secret);
    if (err != HM_OK) {
        free(b);
        return err;
    }
    b->set = set;
    b->user = k->user;
    b->is_server = stoq_conn_is_server(conn);
    b->peer = stoq_conn_peer_cert(conn);
    if (b->peer != NULL)
        X509_up_ref(b->peer);
    hm_list_init(&b->queue);
    hm_list_init(&b->pool);
    b->pieces_max = (k->send_bytes + STOQ_BUNDLE_PIECE_MAX - 1) / STOQ_BUNDLE_PIECE_MAX;
    bundle_rx_init(&b->rx, k->ordered, k->window_bytes);
    b->number = ++set->number;
    hm_list_append(&set->bundles, &b->link);
    set->count += b->is_server;
    const stoq_endpoint *ep = stoq_conn_endpoint(conn);
    if (k->hub != NULL && ep->group != NULL) {
        set->worker = ep->share.index;
        set->in_hub = true;
        k->hub->sets[set->worker] = set;
    }
    *out = b;
    return HM_OK;
}

void bundle_discard(stoq_bundle *b)
{
    hm_list_remove(&b->link);
    b->set->count -= b->is_server;
    X509_free(b->peer);
    hm_zero(b->secret, sizeof b->secret);
    free(b);
}

// ---- sets ---------------------------------------------------------------------------------------

static uint32_t power_of_2(uint32_t n)
{
    uint32_t p = STOQ_BUNDLE_PIECE_MAX; // the window takes a piece at least
    while (p < n && p < 1u << 31)
        p *= 2;
    return p;
}

hm_err stoq_bundles_create(const stoq_bundles_config *config, stoq_bundles **out)
{
    if (config->max_connections > STOQ_BUNDLE_CONNS_MAX)
        return hm_fail(HM_E_CONFIG, "a bundle of %u connections; %u are the most",
                       config->max_connections, STOQ_BUNDLE_CONNS_MAX);
    stoq_bundles *set = calloc(1, sizeof *set);
    if (set == NULL)
        return HM_E_NOMEM;
    set->config = *config;
    stoq_bundles_config *k = &set->config;
    k->window_bytes = power_of_2(k->window_bytes > 0 ? k->window_bytes : WINDOW_BYTES);
    k->send_bytes = k->send_bytes > 0 ? k->send_bytes : SEND_BYTES;
    k->max_bundles = k->max_bundles > 0 ? k->max_bundles : BUNDLES_MAX;
    k->max_connections = k->max_connections > 0 ? k->max_connections : STOQ_BUNDLE_CONNS_MAX;
    set->random = config->random != NULL ? *config->random : hm_random_system;
    hm_list_init(&set->bundles);
    *out = set;
    return HM_OK;
}

// What is left of a bundle are connections of other workers, and those of this one are gone.
static void give_up(stoq_bundle *b)
{
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        hm_assert(b->members[i] == NULL || !b->members[i]->open || b->members[i]->leg != NULL);
    end(b, HM_E_CLOSED, STOQ_BUNDLE_DONE, "the bundle's worker ends");
    finish(b);
}

void stoq_bundles_free(stoq_bundles *set)
{
    if (set == NULL)
        return;
    hm_list_each(it, &set->bundles)
    {
        give_up(hm_container_of(it, stoq_bundle, link));
    }
    if (set->in_hub)
        set->config.hub->sets[set->worker] = NULL;
    free(set);
}

hm_err stoq_bundle_hub_create(stoq_bundle_hub **out)
{
    *out = calloc(1, sizeof **out);
    return *out != NULL ? HM_OK : HM_E_NOMEM;
}

void stoq_bundle_hub_free(stoq_bundle_hub *hub)
{
    for (unsigned i = 0; hub != NULL && i < STOQ_SHARE_MAX; i++)
        hm_assert(hub->sets[i] == NULL);
    free(hub);
}

static void ping(bundle_member *m)
{
    if (m->leg != NULL)
        leg_ping(m->leg);
    else
        stoq_conn_ping(stoq_stream_conn(m->stream));
}

void stoq_bundles_ping(stoq_bundles *set)
{
    hm_list_each(it, &set->bundles)
    {
        const stoq_bundle *b = hm_container_of(it, stoq_bundle, link);
        for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
            if (b->members[i] != NULL && b->members[i]->state == BUNDLE_LIVE)
                ping(b->members[i]);
    }
}

uint64_t stoq_bundles_refused(const stoq_bundles *set)
{
    return set->refused;
}

void stoq_bundle_get_stats(const stoq_bundle *b, stoq_bundle_stats *out)
{
    *out = (stoq_bundle_stats){.connections = b->live,
                               .joined = b->joined,
                               .bytes_sent = b->sent_bytes,
                               .bytes_taken = b->taken_bytes,
                               .bytes_received = b->rx.received,
                               .pieces_again = b->again};
}

void *stoq_bundle_user(const stoq_bundle *b)
{
    return b->user;
}

void stoq_bundle_set_user(stoq_bundle *b, void *user)
{
    b->user = user;
}

stoq_conn *stoq_bundle_conn(const stoq_bundle *b)
{
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (b->members[i] != NULL && b->members[i]->state == BUNDLE_LIVE &&
            b->members[i]->leg == NULL)
            return stoq_stream_conn(b->members[i]->stream);
    return NULL;
}

stoq_bundle_ref stoq_bundle_ref_of(const stoq_bundle *b)
{
    return (stoq_bundle_ref){.worker = b->set->worker, .number = b->number};
}
