#include "server/dns_core.h"

#include "base/clock.h"

dns_way dns_way_of(unsigned kind)
{
    return kind == DNS_WAY_UDP ? DNS_BY_UDP : kind == DNS_WAY_TCP ? DNS_BY_TCP : DNS_ENCRYPTED;
}

bool dns_core_admits(dns_core *c, const struct sockaddr_in6 *from)
{
    if (dns_limit_ask(&c->limit, &from->sin6_addr, hm_clock_mono_us(&hm_clock_system)))
        return true;
    dns_count(&c->n->limited);
    return false;
}

// The longest zone that the name is in; NULL: none of them.
static dns_route *route_of(dns_core *c, const dns_name *name)
{
    dns_route *found = NULL;
    for (unsigned i = 0; i < c->route_count; i++)
        if (dns_name_within(name, &c->routes[i].zone) &&
            (found == NULL || c->routes[i].zone.len > found->zone.len))
            found = &c->routes[i];
    return found;
}

static bool is_forwarded(dns_core *c, const dns_msg *query)
{
    return (c->forward != NULL || route_of(c, &query->name) != NULL) &&
           dns_query_check(query) == DNS_NOERROR && (query->flags & DNS_RD) &&
           !dns_name_within(&query->name, &c->source.apex);
}

static void count_answer(dns_core *c, const uint8_t *out)
{
    dns_count(&c->n->rcodes[out[3] & DNS_RCODE]);
    if (out[2] & DNS_TC >> 8)
        dns_count(&c->n->truncated);
}

size_t dns_core_ask(dns_core *c, hm_bytes bytes, unsigned kind, dns_msg *query, uint8_t *out)
{
    size_t len;
    dns_way way = dns_way_of(kind);
    hm_err err = dns_msg_read(bytes, query);
    dns_count(&c->n->queries[kind]);
    if (err != HM_OK)
        dns_count(&c->n->malformed);
    if (query->bytes.len == 0 || (query->flags & DNS_QR))
        return 0;
    if (err != HM_OK) {
        query->has_question = query->has_edns = false;
        len = dns_refuse(query, way, DNS_FORMERR, -1, out);
    } else if (is_forwarded(c, query)) {
        return DNS_LATER;
    } else {
        len = dns_answer(&c->source, query, way, hm_clock_wall_ms(&hm_clock_system) / 1000, out);
    }
    atomic_store_explicit(&c->n->signatures, dns_signer_made(c->source.signer),
                          memory_order_relaxed);
    if (len > 0 && (c->forward != NULL || c->route_count > 0))
        out[3] |= DNS_RA;
    if (len > 0)
        count_answer(c, out);
    return len;
}

size_t dns_core_forward(dns_core *c, const dns_msg *query, unsigned kind, dns_wait *w, uint8_t *out)
{
    const dns_route *route = route_of(c, &query->name);
    size_t len =
        route != NULL && !route->believed
            ? dns_refuse(query, dns_way_of(kind), DNS_SERVFAIL, DNS_EDE_NETWORK, out)
            : dns_forward_ask(route != NULL ? route->forward : c->forward, query, dns_way_of(kind),
                              hm_clock_wall_ms(&hm_clock_system), w, out);
    if (len > 0)
        count_answer(c, out);
    return len;
}

void dns_core_count_forwarded(dns_core *c)
{
    dns_forward_counters all = {0}, n;
    for (unsigned i = 0; i <= c->route_count; i++) {
        const dns_forward *f = i < c->route_count ? c->routes[i].forward : c->forward;
        if (f == NULL)
            continue;
        dns_forward_count(f, &n);
        all.asked += n.asked;
        all.from_cache += n.from_cache;
        all.failed += n.failed;
        all.cached += n.cached;
    }
    atomic_store_explicit(&c->n->forwarded, all.asked, memory_order_relaxed);
    atomic_store_explicit(&c->n->from_cache, all.from_cache, memory_order_relaxed);
    atomic_store_explicit(&c->n->forward_failed, all.failed, memory_order_relaxed);
    atomic_store_explicit(&c->n->cached, all.cached, memory_order_relaxed);
}
