// What the ways into the DNS service share: the zone, the forwarder, limits and counters. All of it
// belongs to the service's own thread; the counters alone may be read by others.
#ifndef HM_SERVER_DNS_CORE_H
#define HM_SERVER_DNS_CORE_H

#include <stdatomic.h>
#include <uv.h>

#include "dns/answer.h"
#include "dns/forward.h"
#include "dns/limit.h"
#include "dns/zone.h"

#define DNS_LATER SIZE_MAX

enum { DNS_WAY_UDP, DNS_WAY_TCP, DNS_WAY_TLS, DNS_WAY_QUIC, DNS_WAYS };

typedef struct dns_counters {
    _Atomic uint64_t queries[DNS_WAYS], rcodes[DNS_BADVERS + 1];
    _Atomic uint64_t truncated, malformed, limited, refused_connections, early;
    _Atomic uint64_t connections[DNS_WAYS]; // open now
    _Atomic uint64_t names, signatures;
    _Atomic uint64_t forwarded, from_cache, forward_failed, cached;
} dns_counters;

#define DNS_ROUTES_MAX 8u

// Of a zone whose names are asked of servers of its own, and of nobody else.
typedef struct dns_route {
    dns_name zone;
    dns_forward *forward;
    bool believed; // else its servers are not asked
} dns_route;

typedef struct dns_core {
    uv_loop_t *loop;
    dns_zone *zone;
    dns_source source;
    dns_forward *forward; // for zones that have no route; NULL: those are refused
    dns_route routes[DNS_ROUTES_MAX];
    unsigned route_count;
    dns_limit limit;
    dns_counters *n;                // borrowed
    uint8_t frame[2 + DNS_MSG_MAX]; // an answer behind its length, as streams carry it
} dns_core;

// May somebody there ask now? Counts.
bool dns_core_admits(dns_core *c, const struct sockaddr_in6 *from);
// Writes the answer to out, which has room for dns_answer_room() bytes, and returns its length; 0:
// there is none to be given (*query says whether even the header could be read); DNS_LATER: call
// dns_core_forward().
size_t dns_core_ask(dns_core *c, hm_bytes bytes, unsigned kind, dns_msg *query, uint8_t *out);
// As dns_forward_ask(), of whoever the name is asked of.
size_t dns_core_forward(dns_core *c, const dns_msg *query, unsigned kind, dns_wait *w,
                        uint8_t *out);
dns_way dns_way_of(unsigned kind);
// Puts what all forwarders together did into the counters.
void dns_core_count_forwarded(dns_core *c);

static inline void dns_count(_Atomic uint64_t *n)
{
    atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}
static inline void dns_uncount(_Atomic uint64_t *n)
{
    atomic_fetch_sub_explicit(n, 1, memory_order_relaxed);
}

#endif
