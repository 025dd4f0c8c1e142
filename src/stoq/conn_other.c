// A path besides the one in use: one that a client probes before it moves (RFC 9000, section 9.1),
// seen from either side, or a server's preferred address (section 9.6), where the client proves the
// way there before it goes it and the server the way back. What cannot be proven changes nothing.
// There is one at a time, the newest, and each takes an id that the peer must have given.
#include <stdlib.h>

#include "stoq/endpoint.h"

#define TRIES 3u
// Three probe timeouts of a path that nothing is known of (section 8.2.4).
#define NEW_PATH_US 3000000u

// An id of the peer for another path, where it gave one (section 9.5); the one in use if ids are
// empty.
static bool spare_remote(const stoq_conn *c, unsigned *out)
{
    *out = c->remote_at;
    if (conn_dcid(c)->len == 0)
        return true;
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) {
        const stoq_peer_cid *r = &c->remote[i];
        bool taken = c->other != NULL && c->other->used && c->other->remote_seq == r->seq;
        if (r->active && !taken && i != c->remote_at && r->seq >= c->retire_prior_to &&
            (*out == c->remote_at || r->seq < c->remote[*out].seq))
            *out = i;
    }
    return *out != c->remote_at;
}

static unsigned remote_of(const stoq_conn *c, uint64_t seq)
{
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++)
        if (c->remote[i].active && c->remote[i].seq == seq)
            return i;
    return STOQ_CIDS_MAX; // retired meanwhile
}

// The id that was used there is for no other path (section 9.5).
static void give_up(stoq_conn *c)
{
    unsigned remote = STOQ_CIDS_MAX;
    if (c->other != NULL && c->other->used)
        remote = remote_of(c, c->other->remote_seq);
    if (remote != STOQ_CIDS_MAX && remote != c->remote_at) {
        c->spent[c->spent_count++ % STOQ_CIDS_MAX] = c->remote[remote].seq;
        c->remote[remote].active = false;
        conn_retire_remote(c, c->remote[remote].seq);
    }
    if (c->other != NULL && c->other->asked) {
        c->move = STOQ_MOVE_FAILED;
        conn_wake(c);
    }
    other_free(c);
}

void other_free(stoq_conn *c)
{
    if (c->other != NULL)
        socket_give_back(c->other->via);
    free(c->other);
    c->other = NULL;
}

static bool challenge(stoq_conn *c, const stoq_other *path, uint64_t now)
{
    unsigned remote;
    stoq_other *o;
    // The peer is to hear of those before.
    if (c->retire_count >= STOQ_CIDS_MAX || !spare_remote(c, &remote) ||
        (o = malloc(sizeof *o)) == NULL)
        return false;
    give_up(c);
    *o = *path;
    o->remote_seq = c->remote[remote].seq;
    o->challenge_pending = true;
    o->until_us = now + 3 * conn_pto_us(c, STOQ_LEVEL_APP);
    hm_random_fill(&c->ep->random, o->challenge, sizeof o->challenge);
    c->other = o;
    conn_wake(c);
    return true;
}

void preferred_begin(stoq_conn *c)
{
    if (c->is_server || c->ep->ignore_preferred || c->theirs.preferred_address.sin6_port == 0 ||
        conn_same_address(&c->theirs.preferred_address, &c->peer))
        return;
    stoq_other path = {.to = c->theirs.preferred_address, .at_preferred = true};
    (void)challenge(c, &path, c->ep->now_us);
}

static hm_err may_migrate(const stoq_conn *c)
{
    if (c->is_server)
        return hm_fail(HM_E_INVALID, "servers do not move");
    if (c->state > STOQ_CONN_OPEN)
        return hm_fail(HM_E_CLOSED, "the connection is closed");
    if (!c->confirmed) // section 9
        return hm_fail(HM_E_AGAIN, "the handshake is not confirmed yet");
    // It holds for the address of the handshake (section 18.2).
    if (c->theirs.disable_active_migration && !c->at_preferred)
        return hm_fail(HM_E_UNSUPPORTED, "the server lets no client move");
    if (conn_dcid(c)->len == 0) // both paths would have one name (section 9.5)
        return hm_fail(HM_E_UNSUPPORTED, "the server has no connection ids");
    if (c->other != NULL && c->other->state == STOQ_PATH_PROBED && !c->other->asked)
        return hm_fail(HM_E_AGAIN, "the server's preferred address is being tried");
    return HM_OK;
}

hm_err stoq_conn_migrate(stoq_conn *c, const struct sockaddr_in6 *local)
{
    stoq_other path = {.to = c->peer, .at_preferred = c->at_preferred, .asked = true};
    HM_TRY(may_migrate(c));
    HM_TRY(socket_take(c->ep, local, &path.via));
    hm_err err = HM_OK;
    if (path.via == c->via)
        err = hm_fail(HM_E_EXISTS, "the connection is at that address");
    else if (!challenge(c, &path, c->ep->now_us))
        err = hm_fail(HM_E_AGAIN, "the server has not given an id for another path yet");
    if (err != HM_OK)
        socket_give_back(path.via);
    else
        c->move = STOQ_MOVE_NONE; // of a call before
    return err;
}

static void move(stoq_conn *c)
{
    unsigned remote = remote_of(c, c->other->remote_seq);
    struct sockaddr_in6 to = c->other->to;
    bool at_preferred = c->other->at_preferred, asked = c->other->asked;
    stoq_socket *via = c->other->via;
    if (remote == STOQ_CIDS_MAX) {
        give_up(c);
        return;
    }
    path_leave(c, remote);
    *c->other = (stoq_other){.state = STOQ_PATH_LEFT, .to = c->peer, .via = c->via};
    c->peer = to;
    c->via = via;
    if (asked)
        c->move = STOQ_MOVE_DONE;
    c->at_preferred = at_preferred;
    if (c->is_server)
        give_up(c); // which takes packets from everywhere
    else
        stoq_conn_ping(c); // by which the server sees it
}

void other_on_timer(stoq_conn *c, uint64_t now)
{
    if (c->other == NULL || c->other->until_us == 0 || c->other->until_us > now)
        return;
    if (++c->other->tries == TRIES) {
        give_up(c);
        return;
    }
    uint64_t wait_us = 3 * conn_pto_us(c, STOQ_LEVEL_APP) << c->other->tries;
    if (c->other->tries + 1 == TRIES && wait_us < NEW_PATH_US)
        wait_us = NEW_PATH_US;
    c->other->challenge_pending = true;
    c->other->until_us = now + wait_us;
    conn_wake(c);
}

bool other_on_response(stoq_conn *c, const uint8_t data[8])
{
    if (c->other == NULL || c->other->state != STOQ_PATH_PROBED ||
        !hm_equal_ct(c->other->challenge, data, 8))
        return false;
    c->other->state = STOQ_PATH_PROVEN;
    c->other->until_us = 0;
    c->other->challenge_pending = false;
    if (!c->is_server || c->other->moved)
        move(c);
    return true;
}

static bool is_other(const stoq_conn *c, const struct sockaddr_in6 *from)
{
    return c->other != NULL && conn_same_address(from, &c->other->to) &&
           (c->is_server ? c->other->at_preferred == c->ep->at_preferred
                         : c->other->via == c->ep->via);
}

void other_forget(stoq_conn *c)
{
    stoq_other *o = c->other;
    if (is_other(c, &c->peer)) { // what it has is for the path that is in use now
        o->used = false;
        c->amp_received += o->credit / 3;
        if (o->response_pending && c->response_count < STOQ_PENDING_PATH_MAX)
            memcpy(c->responses[c->response_count++], o->response, 8);
    }
    give_up(c);
}

bool other_takes(const stoq_conn *c, const struct sockaddr_in6 *from, bool probing, bool asks)
{
    if (!c->is_server)
        return is_other(c, from) && c->other->state != STOQ_PATH_LEFT;
    bool same = conn_same_address(from, &c->peer);
    if (c->ep->at_preferred != c->at_preferred)
        return c->ep->at_preferred; // what comes to the first one afterwards is only late
    if (same || !is_other(c, from))
        return !same && probing && asks;
    return probing || c->other->state == STOQ_PATH_PROVEN;
}

bool other_on_arrival(stoq_conn *c, const struct sockaddr_in6 *from, size_t len,
                      const uint8_t *response, bool moves, uint64_t now)
{
    stoq_other path = {.to = *from, .at_preferred = c->ep->at_preferred};
    if (!is_other(c, from) && !challenge(c, &path, now))
        return false;
    c->other->credit += 3 * len;
    if (response != NULL) {
        memcpy(c->other->response, response, 8);
        c->other->response_pending = true;
    }
    c->other->moved |= moves;
    conn_wake(c);
    if (!c->other->moved || c->other->state != STOQ_PATH_PROVEN)
        return false;
    move(c);
    return true;
}

// A challenge that is not of full size proves no more than the address (section 8.2.1), so a
// server waits until it may send one that is.
size_t other_send(stoq_conn *c, uint8_t *out, uint64_t now)
{
    if (c->other == NULL || (!c->other->challenge_pending && !c->other->response_pending))
        return 0;
    unsigned remote = remote_of(c, c->other->remote_seq);
    size_t room = STOQ_MIN_INITIAL;
    if (c->is_server && c->other->credit < room)
        room = (size_t)c->other->credit;
    if (c->state != STOQ_CONN_OPEN || remote == STOQ_CIDS_MAX) {
        give_up(c);
        return 0;
    }
    if (room < STOQ_MIN_INITIAL && !c->other->response_pending)
        return 0;
    size_t len = conn_send_path(c, remote, out, room, now);
    c->other->used |= len > 0;
    c->other->credit -= c->is_server ? len : 0;
    return len;
}
