// How long a datagram may be: packetisation-layer path MTU discovery (RFC 8899; RFC 9000,
// section 14.3). Sizes that links are known to have are tried, the largest first; a probe that is
// lost says nothing of congestion.
#include "stoq/endpoint.h"

#define TRIES 2u
#define AGAIN_US 600000000u // RFC 8899, section 5.1.1: PMTU_RAISE_TIMER
// A black hole: so many probe timeouts without an answer, or so many long packets lost one after
// another within as long a time.
#define BLACK_HOLE_PTOS 3u
#define BLACK_HOLE_LOSSES 4u

// UDP payload over IPv6, which takes 48 bytes: of loopback, of jumbo frames of three sizes, of
// Ethernet, of PPPoE, and of tunnels in Ethernet.
static const uint16_t sizes[] = {65488, 16336, 8952, 8852, 4424, 1452, 1444, 1402, 1372, 1232};
#define SIZES (sizeof sizes / sizeof sizes[0])

static size_t most(const stoq_conn *c)
{
    uint64_t ours = c->ep->limits.max_udp_payload_bytes, theirs = c->theirs.max_udp_payload_bytes;
    return (size_t)(theirs < ours ? theirs : ours);
}

// The size at an index: one more than the list has is the limit of both sides.
static size_t size_at(const stoq_conn *c, unsigned i)
{
    return i < SIZES ? sizes[i] : most(c);
}

static void set(stoq_conn *c, size_t size)
{
    stoq_cc_set_mss(&c->cc, size);
    if (c->mtu != size)
        CONN_EVENT(c, .type = STOQ_EVENT_MTU, .length = size);
    c->mtu = (uint16_t)size;
    c->mtu_losses = 0;
}

void mtu_begin(stoq_conn *c)
{
    set(c, STOQ_MIN_INITIAL);
    c->mtu_failed = 0;
    c->mtu_tries = 0;
    c->mtu_probe = 0;
    c->mtu_again_us = 0;
}

// Sizes in falling order but for the limit, which is tried in its place among them.
static size_t next_size(const stoq_conn *c, uint64_t window)
{
    size_t best = 0;
    for (unsigned i = 0; i <= SIZES; i++) {
        size_t size = size_at(c, i);
        if (size > c->mtu && size <= most(c) && size <= window && size > best &&
            !(c->mtu_failed & 1u << i))
            best = size;
    }
    return best;
}

static void mark_failed(stoq_conn *c, size_t size)
{
    for (unsigned i = 0; i <= SIZES; i++)
        if (size_at(c, i) >= size)
            c->mtu_failed |= 1u << i;
}

size_t mtu_probe_due(stoq_conn *c, uint64_t window, uint64_t now)
{
    if (!c->confirmed || c->state != STOQ_CONN_OPEN || !c->address_validated || c->mtu_probe != 0)
        return 0;
    if (c->mtu_again_us != 0 && c->mtu_again_us <= now) {
        c->mtu_failed = 0;
        c->mtu_again_us = 0;
    }
    return next_size(c, window);
}

static void probe_failed(stoq_conn *c, bool for_good, uint64_t now)
{
    size_t size = c->mtu_probe;
    c->mtu_probe = 0;
    if (!for_good && ++c->mtu_tries < TRIES)
        return;
    c->mtu_tries = 0;
    mark_failed(c, size);
    c->mtu_again_us = now + AGAIN_US;
    conn_wake(c);
}

// A probe of a path before says nothing of this one.
static bool is_current(const stoq_conn *c, const stoq_sent *p)
{
    return c->mtu_probe != 0 && p->pn == c->mtu_probe_pn;
}

void mtu_on_acked(stoq_conn *c, const stoq_sent *p)
{
    if (p->cc.bytes > STOQ_MIN_INITIAL)
        c->mtu_losses = 0;
    if (!p->mtu_probe || !is_current(c, p))
        return;
    c->mtu_probe = 0;
    c->mtu_tries = 0;
    set(c, p->cc.bytes);
    conn_wake(c);
}

// Long packets get lost one after another while short ones get through: the path is another one
// now. What does not fit it fails as a probe.
void mtu_on_lost(stoq_conn *c, const stoq_sent *p, uint64_t now)
{
    if (p->mtu_probe) {
        if (is_current(c, p))
            probe_failed(c, false, now);
        return;
    }
    if (p->cc.bytes <= STOQ_MIN_INITIAL)
        return;
    if (c->mtu_losses++ == 0)
        c->mtu_lost_since_us = p->cc.sent_us;
    uint64_t period = BLACK_HOLE_PTOS * conn_pto_us(c, STOQ_LEVEL_APP);
    if (c->mtu_losses >= BLACK_HOLE_LOSSES && p->cc.sent_us >= c->mtu_lost_since_us + period)
        mtu_begin(c);
}

void mtu_on_timeout(stoq_conn *c)
{
    if (c->pto_count == BLACK_HOLE_PTOS && c->mtu > STOQ_MIN_INITIAL)
        mtu_begin(c);
}

void mtu_unsendable(stoq_conn *c, uint64_t now)
{
    loss_take_back(c, STOQ_LEVEL_APP);
    probe_failed(c, true, now);
}
