// Where the peer is and by which names it is called: connection ids of both sides and their reset
// tokens (RFC 9000, section 5.1), moves to other addresses and their validation (sections 8.2, 9).
#include <stdlib.h>

#include "stoq/endpoint.h"

#define CHALLENGE_TRIES 3

static hm_err refuse(uint64_t *code, uint64_t what, const char *why)
{
    *code = what;
    return hm_fail(HM_E_STOQ_TRANSPORT, "%s", why);
}

// ---- connection ids -----------------------------------------------------------------------------

hm_err conn_new_local_cid(stoq_conn *c)
{
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) {
        stoq_local_cid *l = &c->local[i];
        if (l->active)
            continue;
        uint8_t id[STOQ_LOCAL_CID];
        do
            endpoint_make_id(c->ep, id);
        while (hm_map_get(&c->ep->by_cid, id) != NULL);
        HM_TRY(hm_map_put(&c->ep->by_cid, id, c));
        // The first one is told by the handshake.
        *l = (stoq_local_cid){.seq = c->next_local_seq,
                              .cid = stoq_cid_of(id, sizeof id),
                              .active = true,
                              .to_send = c->next_local_seq > 0};
        c->ids_to_send |= l->to_send;
        c->next_local_seq++;
        conn_wake(c);
        return HM_OK;
    }
    return HM_OK;
}

void conn_retire_remote(stoq_conn *c, uint64_t seq)
{
    for (unsigned i = 0; i < c->retire_count; i++)
        if (c->retire[i] == seq)
            return;
    if (c->retire_count == 2 * STOQ_CIDS_MAX) {
        conn_fail(c, STOQ_CONNECTION_ID_LIMIT_ERROR, 0, "too many ids to retire");
        return;
    }
    c->retire[c->retire_count++] = seq;
    conn_wake(c);
}

void conn_watch_token(stoq_conn *c)
{
    hm_map *m = &c->ep->by_token;
    const stoq_peer_cid *r = &c->remote[c->remote_at];
    if (c->watching && hm_map_get(m, c->watched) == c)
        (void)hm_map_remove(m, c->watched);
    memcpy(c->watched, r->token, STOQ_RESET_TOKEN);
    // Without memory for it a reset is not seen, and the idle timeout ends the connection.
    c->watching = r->active && r->has_token && hm_map_put(m, c->watched, c) == HM_OK;
}

static bool next_remote(stoq_conn *c)
{
    stoq_peer_cid *now = &c->remote[c->remote_at], *next = NULL;
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) {
        stoq_peer_cid *r = &c->remote[i];
        if (r->active && r->seq > now->seq && r->seq >= c->retire_prior_to &&
            (next == NULL || r->seq < next->seq))
            next = r;
    }
    if (next == NULL)
        return false;
    conn_retire_remote(c, now->seq);
    now->active = false;
    c->remote_at = (unsigned)(next - c->remote);
    // In order, so that all before it is known to be retired, should it come again or late.
    c->retire_prior_to = next->seq;
    conn_watch_token(c);
    return true;
}

// Another path is in use, of which this is known: the time of its first round trip, or 0.
static void begin_path(stoq_conn *c, uint64_t first_rtt_us)
{
    mtu_begin(c);
    c->ecn = (stoq_ecn){0};
    c->first_rtt_us = first_rtt_us;
    c->path_pn = c->spaces[STOQ_LEVEL_APP].next_pn;
    c->pto_count = 0; // of the other path
    conn_wake(c);
}

// What is under way by the path before may fill the window of a new one that is proven: a packet
// goes all the same, and what acknowledges it shows which of those are lost. (A peer that moves and
// moves and acknowledges nothing gets no more than two windows.)
static void ask_at_once(stoq_conn *c, bool room)
{
    stoq_space *app = &c->spaces[STOQ_LEVEL_APP];
    if (room && app->eliciting_out > 0 && app->probes == 0)
        app->probes = 1;
    conn_wake(c);
}

void path_leave(stoq_conn *c, unsigned remote)
{
    if (remote != c->remote_at) {
        for (unsigned i = 0; i < STOQ_CIDS_MAX; i++)
            if (c->remote[i].active && c->remote[i].seq < c->remote[remote].seq) {
                conn_retire_remote(c, c->remote[i].seq);
                c->remote[i].active = false;
            }
        c->remote_at = remote;
        if (c->retire_prior_to < c->remote[remote].seq)
            c->retire_prior_to = c->remote[remote].seq;
        conn_watch_token(c);
    }
    c->challenge_until_us = 0;
    c->challenge_out = c->challenge_pending = false;
    c->address_validated = true;
    bool room = c->cc.in_flight < 2 * c->cc.cwnd;
    stoq_cc_new_path(&c->cc, STOQ_MIN_INITIAL, c->ep->now_us);
    begin_path(c, 0);
    ask_at_once(c, room);
}

static hm_err on_new_cid(stoq_conn *c, const stoq_frame *f, uint64_t *code)
{
    if (conn_dcid(c)->len == 0) // section 19.15
        return refuse(code, STOQ_PROTOCOL_VIOLATION, "a new id of a peer that has none");
    stoq_peer_cid *slot = NULL;
    bool known = false;
    if (f->offset > c->retire_prior_to)
        c->retire_prior_to = f->offset;
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) {
        stoq_peer_cid *r = &c->remote[i];
        if (r->active && r->seq == f->stream_id) {
            if (!stoq_cid_eq(&r->cid, &f->cid))
                return refuse(code, STOQ_PROTOCOL_VIOLATION, "one number for two ids");
            known = true;
        }
    }
    for (unsigned i = 0; i < STOQ_CIDS_MAX && i < c->spent_count; i++)
        known |= c->spent[i] == f->stream_id;
    if (!known && f->stream_id < c->retire_prior_to) {
        conn_retire_remote(c, f->stream_id);
        known = true;
    }
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) {
        stoq_peer_cid *r = &c->remote[i];
        if (r->active && r->seq < c->retire_prior_to && i != c->remote_at) {
            conn_retire_remote(c, r->seq);
            r->active = false;
        }
        if (!r->active && slot == NULL)
            slot = r;
    }
    if (!known) {
        if (slot == NULL)
            return refuse(code, STOQ_CONNECTION_ID_LIMIT_ERROR, "more ids than agreed");
        *slot =
            (stoq_peer_cid){.seq = f->stream_id, .cid = f->cid, .has_token = true, .active = true};
        memcpy(slot->token, f->data.ptr, STOQ_RESET_TOKEN);
    }
    if (c->remote[c->remote_at].seq < c->retire_prior_to && !next_remote(c))
        return refuse(code, STOQ_PROTOCOL_VIOLATION, "retires all ids");
    return HM_OK;
}

static hm_err on_retire_cid(stoq_conn *c, const stoq_frame *f, const stoq_cid *dcid, uint64_t *code)
{
    if (f->stream_id >= c->next_local_seq)
        return refuse(code, STOQ_PROTOCOL_VIOLATION, "retires an id that was not given");
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) {
        stoq_local_cid *l = &c->local[i];
        if (!l->active || l->seq != f->stream_id)
            continue;
        if (stoq_cid_eq(&l->cid, dcid))
            return refuse(code, STOQ_PROTOCOL_VIOLATION, "retires the id that it uses");
        uint8_t *oldest = c->retired[c->retired_count % STOQ_RETIRED_MAX];
        if (c->retired_count++ >= STOQ_RETIRED_MAX)
            (void)hm_map_remove(&c->ep->by_cid, oldest);
        memcpy(oldest, l->cid.id, STOQ_LOCAL_CID);
        l->active = false;
        return conn_new_local_cid(c);
    }
    return HM_OK;
}

// ---- addresses ----------------------------------------------------------------------------------

static void forget_proven(stoq_conn *c)
{
    free(c->proven);
    c->proven = NULL;
}

static void return_to_proven(stoq_conn *c)
{
    c->challenge_until_us = 0;
    c->challenge_out = c->challenge_pending = false;
    c->peer = c->proven->peer;
    begin_path(c, c->proven->rtt_us);
    stoq_cc_restore(&c->cc, &c->proven->cc, c->ep->now_us);
    c->mtu = (uint16_t)c->cc.mss;
    c->address_validated = true;
    forget_proven(c);
}

void path_on_timer(stoq_conn *c, uint64_t now)
{
    other_on_timer(c, now);
    if (c->challenge_until_us == 0 || c->challenge_until_us > now)
        return;
    if (++c->challenge_tries < CHALLENGE_TRIES) {
        c->challenge_pending = true;
        c->challenge_until_us = now + (3 * conn_pto_us(c, STOQ_LEVEL_APP) << c->challenge_tries);
        conn_wake(c);
        return;
    }
    return_to_proven(c); // nobody answers there (section 9.3.2)
}

// The peer speaks from another address (section 9.3): answer there, but little until it is proven.
void path_on_move(stoq_conn *c, const struct sockaddr_in6 *from, size_t len, uint64_t now)
{
    if (c->address_validated) {
        if (c->proven == NULL && (c->proven = malloc(sizeof *c->proven)) == NULL)
            return; // it is answered where it was
        *c->proven = (stoq_proven){.peer = c->peer, .cc = c->cc, .rtt_us = c->first_rtt_us};
    } else if (conn_same_address(from, &c->proven->peer)) {
        return_to_proven(c);
        return;
    }
    c->peer = *from;
    c->address_validated = false;
    c->amp_received = len;
    c->amp_sent = 0;
    hm_random_fill(&c->ep->random, c->challenge, sizeof c->challenge);
    c->challenge_pending = c->challenge_out = true;
    c->challenge_tries = 0;
    c->challenge_until_us = now + 3 * conn_pto_us(c, STOQ_LEVEL_APP);
    stoq_cc_new_path(&c->cc, STOQ_MIN_INITIAL, now);
    begin_path(c, 0);
    other_forget(c);
    (void)next_remote(c); // another id for another path, where the peer gave one
}

static void on_path_challenge(stoq_conn *c, const stoq_frame *f)
{
    if (c->response_count < STOQ_PENDING_PATH_MAX) // a flood is answered in part
        memcpy(c->responses[c->response_count++], f->data.ptr, 8);
    conn_wake(c);
}

static void on_path_response(stoq_conn *c, const stoq_frame *f)
{
    if (other_on_response(c, f->data.ptr))
        return;
    if (!c->challenge_out || !hm_equal_ct(c->challenge, f->data.ptr, 8))
        return;
    c->challenge_out = c->challenge_pending = false;
    c->challenge_until_us = 0;
    c->address_validated = true;
    ask_at_once(c, c->proven != NULL && c->cc.in_flight < 2 * c->proven->cc.cwnd);
    forget_proven(c);
}

hm_err path_on_frame(stoq_conn *c, const stoq_frame *f, const stoq_cid *dcid, uint64_t *code)
{
    switch (f->type) {
    case STOQ_FRAME_NEW_CONNECTION_ID:
        return on_new_cid(c, f, code);
    case STOQ_FRAME_RETIRE_CONNECTION_ID:
        return on_retire_cid(c, f, dcid, code);
    case STOQ_FRAME_PATH_CHALLENGE:
        on_path_challenge(c, f);
        return HM_OK;
    default:
        on_path_response(c, f);
        return HM_OK;
    }
}
