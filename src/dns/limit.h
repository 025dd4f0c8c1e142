// How often a client may ask and how many connections it may hold. A client is a /64, which is what
// one subscriber has at the least (RFC 6177). A table of fixed size: when it is full of clients
// that are known, others share one place.
//
// One thread.
#ifndef HM_DNS_LIMIT_H
#define HM_DNS_LIMIT_H

#include <netinet/in.h>

#include "base/base.h"

#define DNS_LIMIT_PLACES 4096u

typedef struct dns_limit_place {
    uint64_t prefix;
    hm_bucket bucket; // of questions; of time 0: the place is free
    uint32_t connections;
} dns_limit_place;

typedef struct dns_limit {
    uint64_t seed[2];
    uint32_t rate;        // questions a second; 0: no limit
    uint32_t connections; // of a client at a time
    dns_limit_place places[DNS_LIMIT_PLACES];
    dns_limit_place crowd;
} dns_limit;

void dns_limit_init(dns_limit *l, uint32_t rate, uint32_t connections, const hm_random *random);
// May it ask now? This machine itself always may.
bool dns_limit_ask(dns_limit *l, const struct in6_addr *from, uint64_t now_us);
// May it have one more connection? Each true wants a dns_limit_closed().
bool dns_limit_opened(dns_limit *l, const struct in6_addr *from, uint64_t now_us);
void dns_limit_closed(dns_limit *l, const struct in6_addr *from);

#endif
