// The life of bundles, and how connections come into them.
#include "stoq/bundle.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/random.h"

#define WINDOW_BYTES (8u << 20)
#define SEND_BYTES (8u << 20)
#define BUNDLES_MAX 64u

// ---- ends ---------------------------------------------------------------------------------------

static void end(stoq_bundle *b, hm_err why, uint64_t code, const char *reason)
{
    if (b->closing)
        return;
    b->closing = true;
    b->why = why;
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        if (b->members[i] != NULL && b->members[i]->stream != NULL)
            stoq_conn_close(stoq_stream_conn(b->members[i]->stream), code, reason);
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
    if (m->stream != NULL)
        stoq_conn_close(stoq_stream_conn(m->stream), STOQ_BUNDLE_LEFT, "the other side left it");
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
    bundle_drop_pieces(b);
    for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
        free_member(b->members[i]);
    bundle_rx_free(&b->rx);
    X509_free(b->peer);
    hm_zero(b->secret, sizeof b->secret);
    free(b);
}

void stoq_bundles_stream_closed(void *user, stoq_stream *st)
{
    bundle_member *m = stoq_stream_user(st);
    (void)user;
    if (m == NULL)
        return;
    stoq_bundle *b = m->bundle;
    if (b == NULL) {
        free_member(m);
        return;
    }
    m->stream = NULL;
    b->streams--;
    bundle_lose(m);
    bundle_release(m);
    bundle_pump(b);
    if (b->closing && b->streams == 0)
        finish(b);
}

void stoq_bundle_close(stoq_bundle *b)
{
    end(b, HM_OK, STOQ_BUNDLE_DONE, "");
}

// ---- members ------------------------------------------------------------------------------------

static hm_err make_member(stoq_bundles *set, stoq_stream *st, bundle_member **out)
{
    bundle_member *m = calloc(1, sizeof *m);
    if (m == NULL)
        return HM_E_NOMEM;
    m->set = set;
    m->stream = st;
    hm_list_init(&m->sent);
    stoq_stream_set_user(st, m);
    *out = m;
    return HM_OK;
}

static void attach(stoq_bundle *b, bundle_member *m, uint8_t index)
{
    m->bundle = b;
    m->index = index;
    b->members[index] = m;
    b->streams++;
}

// It carries the channel from now on, and tells what the others were told before.
static void enliven(bundle_member *m)
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
        make_member(set, st, &m) == HM_OK)
        return;
    stoq_stream_stop(st, STOQ_BUNDLE_MALFORMED);
    if (!stoq_stream_is_uni(st))
        stoq_stream_reset(st, STOQ_BUNDLE_MALFORMED);
}

static hm_err make(stoq_bundles *set, stoq_conn *conn, stoq_bundle **out)
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
    hm_list_append(&set->bundles, &b->link);
    set->count += b->is_server;
    *out = b;
    return HM_OK;
}

static bool same_peer(const stoq_bundle *b, const stoq_conn *conn)
{
    const X509 *x = stoq_conn_peer_cert(conn);
    return b->peer == NULL || x == NULL ? b->peer == x : X509_cmp(b->peer, x) == 0;
}

// ---- greetings ----------------------------------------------------------------------------------

// Keyed by what only the ends of the first connection know, over what only those of this one know.
static hm_err prove(const stoq_bundle *b, const stoq_conn *conn, uint8_t index,
                    uint8_t out[BUNDLE_PROOF])
{
    uint8_t text[BUNDLE_ID + 1 + BUNDLE_SECRET];
    size_t len = 0;
    memcpy(text, b->id, BUNDLE_ID);
    text[BUNDLE_ID] = index;
    HM_TRY(stoq_conn_export(conn, text + BUNDLE_ID + 1));
    bool ok = EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, b->secret, sizeof b->secret, text,
                        sizeof text, out, BUNDLE_PROOF, &len) != NULL &&
              len == BUNDLE_PROOF;
    hm_zero(text, sizeof text);
    return ok ? HM_OK : hm_fail(HM_E_CRYPTO, "HMAC-SHA256 of a bundle's connection");
}

static void opened(stoq_bundle *b)
{
    const stoq_bundles_config *k = &b->set->config;
    b->opened = true;
    if (k->callbacks.opened != NULL)
        k->callbacks.opened(k->user, b);
}

void bundle_on_open(bundle_member *m, const bundle_frame *f)
{
    stoq_bundles *set = m->set;
    stoq_bundle *b;
    hm_err err;
    if (f->version != BUNDLE_VERSION) {
        hm_fail(HM_E_UNSUPPORTED, "bundles of version %u; this side speaks %u", f->version,
                BUNDLE_VERSION);
        bundle_refuse(m, STOQ_BUNDLE_UNSUPPORTED);
    } else if (set->count >= set->config.max_bundles) {
        hm_fail(HM_E_LIMIT, "more than %u bundles", set->config.max_bundles);
        bundle_refuse(m, STOQ_BUNDLE_LIMIT);
    } else if ((err = make(set, stoq_stream_conn(m->stream), &b)) != HM_OK) {
        bundle_refuse(m, err == HM_E_NOMEM ? STOQ_BUNDLE_MEMORY : STOQ_BUNDLE_DENIED);
    } else {
        hm_random_fill(&set->random, b->id, sizeof b->id);
        b->allowed = f->value;
        attach(b, m, 0);
        m->greet_due = true;
        enliven(m);
        opened(b);
    }
}

// NULL, with one answer for all that is wrong, so that nobody learns which bundles there are.
static stoq_bundle *of_join(const bundle_member *m, const bundle_frame *f)
{
    const stoq_conn *conn = stoq_stream_conn(m->stream);
    uint8_t proof[BUNDLE_PROOF];
    hm_list_each(it, &m->set->bundles)
    {
        stoq_bundle *b = hm_container_of(it, stoq_bundle, link);
        if (b->is_server && !b->closing && hm_equal_ct(b->id, f->id, sizeof b->id) &&
            same_peer(b, conn) && prove(b, conn, f->index, proof) == HM_OK &&
            hm_equal_ct(proof, f->proof, sizeof proof))
            return b;
    }
    hm_fail(HM_E_DENIED, "no bundle of this peer has this id");
    return NULL;
}

void bundle_on_join(bundle_member *m, const bundle_frame *f)
{
    stoq_bundle *b;
    if (f->version != BUNDLE_VERSION) {
        hm_fail(HM_E_UNSUPPORTED, "bundles of version %u", f->version);
        bundle_refuse(m, STOQ_BUNDLE_UNSUPPORTED);
    } else if ((b = of_join(m, f)) == NULL) {
        bundle_refuse(m, STOQ_BUNDLE_DENIED);
    } else if (f->index >= m->set->config.max_connections) {
        hm_fail(HM_E_LIMIT, "a bundle has at most %u connections", m->set->config.max_connections);
        bundle_refuse(m, STOQ_BUNDLE_LIMIT);
    } else if (b->members[f->index] != NULL || (b->never >> f->index & 1) != 0) {
        hm_fail(HM_E_EXISTS, "the bundle had a connection of number %u", f->index);
        bundle_refuse(m, STOQ_BUNDLE_MALFORMED);
    } else {
        attach(b, m, f->index);
        m->greet_due = true;
        enliven(m);
    }
}

void bundle_on_greeting(bundle_member *m, const bundle_frame *f)
{
    stoq_bundle *b = m->bundle;
    if ((f->type == BUNDLE_OPENED) != (m->index == 0)) {
        hm_fail(HM_E_PARSE, "the answer to another greeting");
        bundle_break(b, HM_E_PARSE, STOQ_BUNDLE_MALFORMED);
        return;
    }
    enliven(m);
    if (f->type == BUNDLE_JOINED)
        return;
    memcpy(b->id, f->id, sizeof b->id);
    b->allowed = f->value;
    opened(b);
}

// ---- a client's calls ---------------------------------------------------------------------------

// The first frame of a connection; its stream is new and has room.
static hm_err greet(stoq_bundle *b, stoq_conn *conn, uint8_t index, const bundle_frame *f)
{
    uint8_t out[BUNDLE_FRAME_MAX];
    size_t took;
    stoq_stream *st;
    bundle_member *m;
    HM_TRY(stoq_stream_open(conn, false, &st));
    hm_err err = stoq_stream_send(st, hm_bytes_of(out, bundle_frame_write(f, out)), false, &took);
    if (err == HM_OK)
        err = make_member(b->set, st, &m);
    if (err != HM_OK) {
        stoq_stream_reset(st, STOQ_BUNDLE_MEMORY);
        stoq_stream_stop(st, STOQ_BUNDLE_MEMORY);
        return err;
    }
    attach(b, m, index);
    return HM_OK;
}

hm_err stoq_bundle_open(stoq_bundles *set, stoq_conn *conn, void *user, stoq_bundle **out)
{
    stoq_bundle *b;
    HM_TRY(make(set, conn, &b));
    hm_err err = greet(
        b, conn, 0,
        &(bundle_frame){.type = BUNDLE_OPEN, .version = BUNDLE_VERSION, .value = b->rx.limit});
    if (err != HM_OK) {
        hm_list_remove(&b->link);
        X509_free(b->peer);
        free(b);
        return err;
    }
    b->user = user;
    *out = b;
    return HM_OK;
}

hm_err stoq_bundle_add(stoq_bundle *b, stoq_conn *conn)
{
    uint8_t index = 0;
    if (b->closing)
        return hm_fail(HM_E_CLOSED, "the bundle was ended");
    if (!b->opened)
        return hm_fail(HM_E_AGAIN, "the server has not made the bundle yet");
    if (!same_peer(b, conn))
        return hm_fail(HM_E_DENIED, "the peer shows another certificate than on the bundle's "
                                    "first connection");
    while (index < STOQ_BUNDLE_CONNS_MAX &&
           (b->members[index] != NULL || (b->never >> index & 1) != 0))
        index++;
    if (index == STOQ_BUNDLE_CONNS_MAX)
        return hm_fail(HM_E_LIMIT, "a bundle has at most %u connections", STOQ_BUNDLE_CONNS_MAX);
    bundle_frame f = {.type = BUNDLE_JOIN, .version = BUNDLE_VERSION, .index = index};
    memcpy(f.id, b->id, sizeof f.id);
    HM_TRY(prove(b, conn, index, f.proof));
    return greet(b, conn, index, &f);
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

void stoq_bundles_free(stoq_bundles *set)
{
    hm_assert(set == NULL || hm_list_empty(&set->bundles));
    free(set);
}

void stoq_bundles_ping(stoq_bundles *set)
{
    hm_list_each(it, &set->bundles)
    {
        const stoq_bundle *b = hm_container_of(it, stoq_bundle, link);
        for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++)
            if (b->members[i] != NULL && b->members[i]->state == BUNDLE_LIVE)
                stoq_conn_ping(stoq_stream_conn(b->members[i]->stream));
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
        if (b->members[i] != NULL && b->members[i]->state == BUNDLE_LIVE)
            return stoq_stream_conn(b->members[i]->stream);
    return NULL;
}
