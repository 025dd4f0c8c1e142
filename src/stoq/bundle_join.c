// How a connection comes into a bundle: by its first frame, and on a client by a call; each of them
// here, or from another worker of the group by a leg.
#include <stdlib.h>

#include "base/err.h"
#include "base/random.h"
#include "stoq/bundle_leg.h"
#include "stoq/endpoint.h"

// Who asks: what its connection exports, and whom its peer showed.
typedef struct joining {
    const uint8_t *secret; // STOQ_EXPORT_BYTES
    const X509 *peer;
} joining;

static bool same_peer(const stoq_bundle *b, const X509 *x)
{
    return b->peer == NULL || x == NULL ? b->peer == x : X509_cmp(b->peer, x) == 0;
}

// Keyed by what only the ends of the first connection know, over what only those of this one know.
static hm_err prove(const stoq_bundle *b, const uint8_t secret[STOQ_EXPORT_BYTES], uint8_t index,
                    uint8_t out[BUNDLE_PROOF])
{
    uint8_t text[BUNDLE_ID + 1 + STOQ_EXPORT_BYTES];
    size_t len = 0;
    memcpy(text, b->id, BUNDLE_ID);
    text[BUNDLE_ID] = index;
    memcpy(text + BUNDLE_ID + 1, secret, STOQ_EXPORT_BYTES);
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

// The group's worker of this number is another one, whose bundles these connections may join.
static bool is_elsewhere(const stoq_bundles *set, stoq_conn *conn, unsigned worker)
{
    const stoq_endpoint *ep = stoq_conn_endpoint(conn);
    return set->config.hub != NULL && ep->group != NULL && worker != ep->share.index;
}

// The worker of a bundle as its server chose the id.
static unsigned worker_of_id(stoq_conn *conn, const uint8_t id[BUNDLE_ID])
{
    const stoq_share *share = &stoq_conn_endpoint(conn)->share;
    return share->count > 1 ? id[0] % share->count : share->index;
}

// A connection of another worker is a member here.
static hm_err add_leg(stoq_bundle *b, bundle_leg *leg, uint8_t index, bundle_member **out)
{
    bundle_member *m = calloc(1, sizeof *m);
    if (m == NULL)
        return HM_E_NOMEM;
    m->set = b->set;
    m->leg = leg;
    m->open = true;
    hm_list_init(&m->sent);
    leg_join(leg, m);
    bundle_attach(b, m, index);
    *out = m;
    return HM_OK;
}

// ---- a server's ---------------------------------------------------------------------------------

void bundle_on_open(bundle_member *m, const bundle_frame *f)
{
    stoq_bundles *set = m->set;
    stoq_conn *conn = stoq_stream_conn(m->stream);
    stoq_bundle *b;
    hm_err err;
    if (f->version != BUNDLE_VERSION) {
        hm_fail(HM_E_UNSUPPORTED, "bundles of version %u; this side speaks %u", f->version,
                BUNDLE_VERSION);
        bundle_refuse(m, STOQ_BUNDLE_UNSUPPORTED);
    } else if (set->count >= set->config.max_bundles) {
        hm_fail(HM_E_LIMIT, "more than %u bundles", set->config.max_bundles);
        bundle_refuse(m, STOQ_BUNDLE_LIMIT);
    } else if ((err = bundle_make(set, conn, &b)) != HM_OK) {
        bundle_refuse(m, err == HM_E_NOMEM ? STOQ_BUNDLE_MEMORY : STOQ_BUNDLE_DENIED);
    } else {
        hm_random_fill(&set->random, b->id, sizeof b->id);
        b->id[0] = endpoint_steer(&stoq_conn_endpoint(conn)->share, b->id[0]);
        b->allowed = f->value;
        bundle_attach(b, m, 0);
        m->greet_due = true;
        bundle_enliven(m);
        opened(b);
    }
}

// NULL, with one answer for all that is wrong, so that nobody learns which bundles there are.
static stoq_bundle *of_join(const stoq_bundles *set, const bundle_frame *f, const joining *who)
{
    uint8_t proof[BUNDLE_PROOF];
    hm_list_each(it, &set->bundles)
    {
        stoq_bundle *b = hm_container_of(it, stoq_bundle, link);
        if (b->is_server && !b->closing && hm_equal_ct(b->id, f->id, sizeof b->id) &&
            same_peer(b, who->peer) && prove(b, who->secret, f->index, proof) == HM_OK &&
            hm_equal_ct(proof, f->proof, sizeof proof))
            return b;
    }
    hm_fail(HM_E_DENIED, "no bundle of this peer has this id");
    return NULL;
}

// 0, or the code that it is refused with, and the detail line.
static uint64_t may_join(const stoq_bundles *set, const bundle_frame *f, const joining *who,
                         stoq_bundle **out)
{
    stoq_bundle *b = of_join(set, f, who);
    if (b == NULL)
        return STOQ_BUNDLE_DENIED;
    if (f->index >= set->config.max_connections) {
        hm_fail(HM_E_LIMIT, "a bundle has at most %u connections", set->config.max_connections);
        return STOQ_BUNDLE_LIMIT;
    }
    if (b->members[f->index] != NULL || (b->never >> f->index & 1) != 0) {
        hm_fail(HM_E_EXISTS, "the bundle had a connection of number %u", f->index);
        return STOQ_BUNDLE_MALFORMED;
    }
    *out = b;
    return 0;
}

static void join_here(bundle_member *m, const bundle_frame *f)
{
    stoq_conn *conn = stoq_stream_conn(m->stream);
    uint8_t secret[STOQ_EXPORT_BYTES];
    stoq_bundle *b;
    uint64_t code = STOQ_BUNDLE_DENIED;
    if (stoq_conn_export(conn, secret) == HM_OK)
        code = may_join(m->set, f, &(joining){secret, stoq_conn_peer_cert(conn)}, &b);
    hm_zero(secret, sizeof secret);
    if (code != 0) {
        bundle_refuse(m, code);
        return;
    }
    bundle_attach(b, m, f->index);
    m->greet_due = true;
    bundle_enliven(m);
}

void bundle_on_join(bundle_member *m, const bundle_frame *f)
{
    stoq_conn *conn = stoq_stream_conn(m->stream);
    unsigned worker = worker_of_id(conn, f->id);
    if (f->version != BUNDLE_VERSION) {
        hm_fail(HM_E_UNSUPPORTED, "bundles of version %u", f->version);
        bundle_refuse(m, STOQ_BUNDLE_UNSUPPORTED);
    } else if (!is_elsewhere(m->set, conn, worker)) {
        join_here(m, f);
    } else if (leg_ask(m, worker, f, 0) != HM_OK) {
        hm_fail(HM_E_NOMEM, "memory for a connection of another worker's bundle");
        bundle_refuse(m, STOQ_BUNDLE_MEMORY);
    }
}

static void on_ask_of_server(stoq_bundles *set, bundle_leg *leg)
{
    stoq_bundle *b;
    bundle_member *m;
    uint64_t code = may_join(set, &leg->join, &(joining){leg->secret, leg->peer}, &b);
    if (code == 0 && add_leg(b, leg, leg->join.index, &m) != HM_OK) {
        hm_fail(HM_E_NOMEM, "memory for a connection of a bundle");
        code = STOQ_BUNDLE_MEMORY;
    }
    if (code != 0) {
        leg_refuse(leg, code, hm_err_detail());
        return;
    }
    m->greet_due = true;
    bundle_enliven(m);
}

// ---- a client's ---------------------------------------------------------------------------------

void bundle_on_greeting(bundle_member *m, const bundle_frame *f)
{
    stoq_bundle *b = m->bundle;
    if ((f->type == BUNDLE_OPENED) != (m->index == 0)) {
        hm_fail(HM_E_PARSE, "the answer to another greeting");
        bundle_break(b, HM_E_PARSE, STOQ_BUNDLE_MALFORMED);
        return;
    }
    bundle_enliven(m);
    if (f->type == BUNDLE_JOINED)
        return;
    memcpy(b->id, f->id, sizeof b->id);
    b->allowed = f->value;
    opened(b);
}

// A stream of this side; given back when it comes to nothing.
static hm_err open_member(stoq_bundles *set, stoq_conn *conn, bundle_member **out)
{
    stoq_stream *st;
    HM_TRY(stoq_stream_open(conn, false, &st));
    hm_err err = bundle_make_member(set, st, out);
    if (err != HM_OK) {
        stoq_stream_reset(st, STOQ_BUNDLE_MEMORY);
        stoq_stream_stop(st, STOQ_BUNDLE_MEMORY);
    }
    return err;
}

static void drop_member(bundle_member *m)
{
    stoq_stream_set_user(m->stream, NULL);
    stoq_stream_reset(m->stream, STOQ_BUNDLE_MEMORY);
    stoq_stream_stop(m->stream, STOQ_BUNDLE_MEMORY);
    free(m);
}

// The first frame of a connection; its stream is new and has room.
static hm_err greet(stoq_bundle *b, stoq_conn *conn, uint8_t index, const bundle_frame *f)
{
    uint8_t out[BUNDLE_FRAME_MAX];
    size_t took;
    bundle_member *m;
    HM_TRY(open_member(b->set, conn, &m));
    hm_err err =
        stoq_stream_send(m->stream, hm_bytes_of(out, bundle_frame_write(f, out)), false, &took);
    if (err != HM_OK) {
        drop_member(m);
        return err;
    }
    bundle_attach(b, m, index);
    return HM_OK;
}

hm_err stoq_bundle_open(stoq_bundles *set, stoq_conn *conn, void *user, stoq_bundle **out)
{
    stoq_bundle *b;
    HM_TRY(bundle_make(set, conn, &b));
    hm_err err = greet(
        b, conn, 0,
        &(bundle_frame){.type = BUNDLE_OPEN, .version = BUNDLE_VERSION, .value = b->rx.limit});
    if (err != HM_OK) {
        bundle_discard(b);
        return err;
    }
    b->user = user;
    *out = b;
    return HM_OK;
}

// The frame with which this connection joins, under a number that is free.
static hm_err make_join(const stoq_bundle *b, const joining *who, bundle_frame *out)
{
    uint8_t index = 0;
    if (b->closing)
        return hm_fail(HM_E_CLOSED, "the bundle was ended");
    if (!b->opened)
        return hm_fail(HM_E_AGAIN, "the server has not made the bundle yet");
    if (!same_peer(b, who->peer))
        return hm_fail(HM_E_DENIED, "the peer shows another certificate than on the bundle's "
                                    "first connection");
    while (index < STOQ_BUNDLE_CONNS_MAX &&
           (b->members[index] != NULL || (b->never >> index & 1) != 0))
        index++;
    if (index == STOQ_BUNDLE_CONNS_MAX)
        return hm_fail(HM_E_LIMIT, "a bundle has at most %u connections", STOQ_BUNDLE_CONNS_MAX);
    bundle_frame f = {.type = BUNDLE_JOIN, .version = BUNDLE_VERSION, .index = index};
    memcpy(f.id, b->id, sizeof f.id);
    HM_TRY(prove(b, who->secret, index, f.proof));
    *out = f;
    return HM_OK;
}

hm_err stoq_bundle_add(stoq_bundle *b, stoq_conn *conn)
{
    uint8_t secret[STOQ_EXPORT_BYTES];
    bundle_frame f;
    HM_TRY(stoq_conn_export(conn, secret));
    hm_err err = make_join(b, &(joining){secret, stoq_conn_peer_cert(conn)}, &f);
    hm_zero(secret, sizeof secret);
    return err == HM_OK ? greet(b, conn, f.index, &f) : err;
}

static stoq_bundle *of_number(const stoq_bundles *set, uint64_t number)
{
    hm_list_each(it, &set->bundles)
    {
        stoq_bundle *b = hm_container_of(it, stoq_bundle, link);
        if (!b->is_server && b->number == number)
            return b;
    }
    hm_fail(HM_E_CLOSED, "the bundle was ended");
    return NULL;
}

hm_err stoq_bundles_add(stoq_bundles *set, stoq_bundle_ref ref, stoq_conn *conn)
{
    bundle_member *m;
    if (!is_elsewhere(set, conn, ref.worker)) {
        stoq_bundle *b = of_number(set, ref.number);
        return b != NULL ? stoq_bundle_add(b, conn) : HM_E_CLOSED;
    }
    HM_TRY(open_member(set, conn, &m));
    hm_err err = leg_ask(m, ref.worker, NULL, ref.number);
    if (err != HM_OK)
        drop_member(m);
    return err;
}

static void on_ask_of_client(const stoq_bundles *set, bundle_leg *leg)
{
    uint8_t out[BUNDLE_FRAME_MAX];
    bundle_frame f;
    bundle_member *m;
    stoq_bundle *b = of_number(set, leg->number);
    hm_err err = b != NULL ? make_join(b, &(joining){leg->secret, leg->peer}, &f) : HM_E_CLOSED;
    if (err == HM_OK)
        err = add_leg(b, leg, f.index, &m);
    if (err == HM_OK)
        (void)leg_send(leg, hm_bytes_of(out, bundle_frame_write(&f, out))); // there is room
    else
        leg_refuse(leg,
                   err == HM_E_LIMIT   ? STOQ_BUNDLE_LIMIT
                   : err == HM_E_NOMEM ? STOQ_BUNDLE_MEMORY
                                       : STOQ_BUNDLE_DENIED,
                   hm_err_detail());
}

void bundle_on_ask(stoq_bundles *set, bundle_leg *leg)
{
    if (set == NULL)
        leg_refuse(leg, STOQ_BUNDLE_DENIED, "no bundle of this peer has this id");
    else if (leg->is_server)
        on_ask_of_server(set, leg);
    else
        on_ask_of_client(set, leg);
}
