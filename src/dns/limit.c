#include "dns/limit.h"

#include "base/map.h"

#define WAYS 4u

void dns_limit_init(dns_limit *l, uint32_t rate, uint32_t connections, const hm_random *random)
{
    memset(l, 0, sizeof *l);
    l->rate = rate;
    l->connections = connections;
    l->crowd.bucket.at_us = 1;
    hm_random_fill(random, l->seed, sizeof l->seed);
}

static bool idle(const dns_limit_place *p, uint64_t now_us)
{
    return p->connections == 0 && hm_bucket_rested(&p->bucket, now_us);
}

static dns_limit_place *place_of(dns_limit *l, const struct in6_addr *from, uint64_t now_us)
{
    uint64_t prefix;
    memcpy(&prefix, from, sizeof prefix);
    size_t row = hm_siphash(l->seed, &prefix, sizeof prefix) % (DNS_LIMIT_PLACES / WAYS) * WAYS;
    dns_limit_place *spare = NULL;
    for (size_t i = row; i < row + WAYS; i++) {
        dns_limit_place *p = &l->places[i];
        if (p->bucket.at_us != 0 && p->prefix == prefix)
            return p;
        if (spare == NULL && (p->bucket.at_us == 0 || idle(p, now_us)))
            spare = p;
    }
    if (spare == NULL)
        return &l->crowd;
    *spare = (dns_limit_place){.prefix = prefix, .bucket = hm_bucket_full(l->rate, now_us)};
    return spare;
}

bool dns_limit_ask(dns_limit *l, const struct in6_addr *from, uint64_t now_us)
{
    if (l->rate == 0 || IN6_IS_ADDR_LOOPBACK(from))
        return true;
    return hm_bucket_take(&place_of(l, from, now_us)->bucket, l->rate, now_us);
}

bool dns_limit_opened(dns_limit *l, const struct in6_addr *from, uint64_t now_us)
{
    dns_limit_place *p = place_of(l, from, now_us);
    if (p->connections >= l->connections)
        return false;
    p->connections++;
    return true;
}

void dns_limit_closed(dns_limit *l, const struct in6_addr *from)
{
    dns_limit_place *p = place_of(l, from, 0);
    if (p->connections > 0)
        p->connections--;
}
