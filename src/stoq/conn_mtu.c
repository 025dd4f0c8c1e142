// How long a datagram may be: packetisation-layer path MTU discovery (RFC 8899; RFC 9000,
// section 14.3). Sizes that links are known to have are tried, the largest first; a probe that is
// lost says nothing of congestion.
#include "stoq/endpoint.h"

#define TRIES 2u
#define AGAIN_US 600000000u // RFC 8899, section 5.1.1: PMTU_RAISE_TIMER
#define BLACK_HOLE_PTOS 3u

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
    c->mtu = (uint16_t)size;
    c->cc.mss = size;
    if (c->cc.cwnd < 2 * size) // the smallest window (RFC 9002, section 7.2)
        c->cc.cwnd = 2 * size;
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

void mtu_on_acked(stoq_conn *c, size_t size)
{
    if (size != c->mtu_probe)
        return; // of a path before
    c->mtu_probe = 0;
    c->mtu_tries = 0;
    set(c, size);
    conn_wake(c);
}

void mtu_on_lost(stoq_conn *c, size_t size, bool for_good, uint64_t now)
{
    if (size != c->mtu_probe)
        return;
    c->mtu_probe = 0;
    if (!for_good && ++c->mtu_tries < TRIES)
        return;
    c->mtu_tries = 0;
    mark_failed(c, size);
    c->mtu_again_us = now + AGAIN_US;
    conn_wake(c);
}

// Nothing gets through any more: perhaps because the path is another one now.
void mtu_on_timeout(stoq_conn *c, uint64_t now)
{
    if (c->pto_count != BLACK_HOLE_PTOS || c->mtu <= STOQ_MIN_INITIAL)
        return;
    size_t was = c->mtu;
    mtu_begin(c);
    mark_failed(c, was);
    c->mtu_again_us = now + AGAIN_US;
}
