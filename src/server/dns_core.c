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
    } else if (c->forward != NULL && dns_query_check(query) == DNS_NOERROR &&
               (query->flags & DNS_RD) && !dns_name_within(&query->name, &c->source.apex)) {
        return DNS_LATER;
    } else {
        len = dns_answer(&c->source, query, way, hm_clock_wall_ms(&hm_clock_system) / 1000, out);
    }
    atomic_store_explicit(&c->n->signatures, dns_signer_made(c->source.signer),
                          memory_order_relaxed);
    if (len > 0 && c->forward != NULL)
        out[3] |= DNS_RA;
    if (len > 0)
        count_answer(c, out);
    return len;
}

size_t dns_core_forward(dns_core *c, const dns_msg *query, unsigned kind, dns_wait *w, uint8_t *out)
{
    size_t len = dns_forward_ask(c->forward, query, dns_way_of(kind),
                                 hm_clock_wall_ms(&hm_clock_system), w, out);
    if (len > 0)
        count_answer(c, out);
    return len;
}
