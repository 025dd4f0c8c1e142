// A server's preferred address (RFC 9000, section 9.6): the client proves the way there before it
// goes it, the server proves the way back, and then all goes that way. If either cannot be proven,
// everything stays as it was.
#include <stdlib.h>

#include "stoq/endpoint.h"

#define TRIES 3u

// An id of the peer for another path, where it gave one (section 9.5); the one in use if ids are
// empty.
static bool spare_remote(const stoq_conn *c, unsigned *out)
{
    *out = c->remote_at;
    if (conn_dcid(c)->len == 0)
        return true;
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) {
        const stoq_peer_cid *r = &c->remote[i];
        if (r->active && i != c->remote_at && r->seq >= c->retire_prior_to &&
            (*out == c->remote_at || r->seq < c->remote[*out].seq))
            *out = i;
    }
    return *out != c->remote_at;
}

static void give_up(stoq_conn *c)
{
    free(c->other);
    c->other = NULL;
}

static bool challenge(stoq_conn *c, const struct sockaddr_in6 *to, uint64_t now)
{
    unsigned remote;
    give_up(c);
    if (!spare_remote(c, &remote) || (c->other = malloc(sizeof *c->other)) == NULL)
        return false;
    *c->other = (stoq_other){.to = *to,
                             .remote_seq = c->remote[remote].seq,
                             .challenge_pending = true,
                             .until_us = now + 3 * conn_pto_us(c, STOQ_LEVEL_APP)};
    hm_random_fill(&c->ep->random, c->other->challenge, sizeof c->other->challenge);
    conn_wake(c);
    return true;
}

void preferred_begin(stoq_conn *c)
{
    if (c->is_server || c->ep->ignore_preferred || c->theirs.preferred_address.sin6_port == 0 ||
        conn_same_address(&c->theirs.preferred_address, &c->peer))
        return;
    (void)challenge(c, &c->theirs.preferred_address, c->ep->now_us);
}

static unsigned remote_of(const stoq_conn *c, uint64_t seq)
{
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++)
        if (c->remote[i].active && c->remote[i].seq == seq)
            return i;
    return STOQ_CIDS_MAX; // retired meanwhile
}

static void move(stoq_conn *c)
{
    unsigned remote = remote_of(c, c->other->remote_seq);
    struct sockaddr_in6 to = c->other->to;
    if (remote == STOQ_CIDS_MAX) {
        give_up(c);
        return;
    }
    path_leave(c, remote);
    *c->other = (stoq_other){.state = STOQ_PATH_LEFT, .to = c->peer};
    c->peer = to;
    c->at_preferred = true;
    if (c->is_server)
        give_up(c); // which takes packets from everywhere
    else
        stoq_conn_ping(c); // by which the server sees it
}

void preferred_on_timer(stoq_conn *c, uint64_t now)
{
    if (c->other == NULL || c->other->until_us == 0 || c->other->until_us > now)
        return;
    if (++c->other->tries == TRIES) {
        give_up(c);
        return;
    }
    c->other->challenge_pending = true;
    c->other->until_us = now + (3 * conn_pto_us(c, STOQ_LEVEL_APP) << c->other->tries);
    conn_wake(c);
}

bool preferred_on_response(stoq_conn *c, const uint8_t data[8])
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

// A packet came by the other path, while all goes by the first: a client's, or a server's
// challenge.
void preferred_on_arrival(stoq_conn *c, const struct sockaddr_in6 *from, size_t len,
                          const uint8_t *response, bool moves, uint64_t now)
{
    if ((c->other == NULL || !conn_same_address(from, &c->other->to)) && !challenge(c, from, now))
        return;
    c->other->credit += 3 * len;
    if (response != NULL) {
        memcpy(c->other->response, response, 8);
        c->other->response_pending = true;
        conn_wake(c);
    }
    c->other->moved |= moves;
    if (c->other->moved && c->other->state == STOQ_PATH_PROVEN)
        move(c);
}

size_t preferred_send(stoq_conn *c, uint8_t *out, uint64_t now, struct sockaddr_in6 *to)
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
    *to = c->other->to;
    size_t len = conn_send_path(c, remote, out, room, now);
    c->other->credit -= c->is_server ? len : 0;
    return len;
}
