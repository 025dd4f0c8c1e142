#include "dns/answer.h"

#define OPT_ROOM (DNS_OPT_BYTES + DNS_EDE_BYTES)
#define BITMAP_MAX 64u // types up to 255: one window

typedef struct maker {
    const dns_source *zone;
    const dns_msg *query;
    dns_name name; // asked for, lower case
    uint64_t now_s;
    dns_writer w;
    uint16_t rcode;
    bool cut_off; // something that belongs in did not fit
    bool failed;  // no signature
} maker;

uint16_t dns_query_check(const dns_msg *q)
{
    if ((q->flags & DNS_OPCODE) != 0)
        return DNS_NOTIMP;
    if (!q->has_question || q->counts[DNS_ANSWER] != 0 || q->counts[DNS_AUTHORITY] != 0)
        return DNS_FORMERR;
    if (q->has_edns && q->edns_version != 0)
        return DNS_BADVERS;
    return q->klass == DNS_CLASS_IN ? DNS_NOERROR : DNS_REFUSED;
}

size_t dns_answer_room(const dns_msg *q, dns_way way)
{
    if (way != DNS_BY_UDP)
        return DNS_MSG_MAX;
    size_t room = q->has_edns ? q->udp_bytes : DNS_UDP_MIN;
    return room < DNS_UDP_MIN ? DNS_UDP_MIN : room > DNS_UDP_MAX ? DNS_UDP_MAX : room;
}

static void put_opt(dns_writer *w, const dns_msg *q, dns_way way, uint16_t rcode, int ede)
{
    if (q->has_edns)
        dns_writer_opt(w, DNS_UDP_MAX, rcode, q->dnssec_ok, ede,
                       way == DNS_ENCRYPTED && q->padding ? DNS_PAD_ANSWER : 0);
}

size_t dns_refuse(const dns_msg *q, dns_way way, uint16_t rcode, int ede, uint8_t *out)
{
    dns_writer w;
    uint16_t flags = DNS_QR | (q->flags & (DNS_OPCODE | DNS_RD | DNS_CD));
    dns_writer_begin(&w, out, dns_answer_room(q, way), OPT_ROOM, q->id, flags,
                     q->has_question ? &q->name : NULL, q->type, q->klass);
    put_opt(&w, q, way, rcode, ede);
    return dns_writer_end(&w, q->has_edns || rcode < 16 ? rcode : DNS_FORMERR);
}

// ---- sets ---------------------------------------------------------------------------------------

static void put_rr(maker *m, dns_section section, const dns_rrset *set, uint16_t type,
                   hm_bytes rdata)
{
    if (!dns_writer_rr(&m->w, section, &set->owner, type, DNS_CLASS_IN, set->ttl, rdata))
        m->cut_off |= section != DNS_ADDITIONAL;
}

static void put_signature(maker *m, dns_section section, const dns_rrset *set, bool absent)
{
    uint8_t rrsig[DNS_RRSIG_MAX];
    size_t len;
    if (!m->query->dnssec_ok || m->zone->signer == NULL)
        return;
    if (dns_sign(m->zone->signer, set, absent, m->now_s, rrsig, &len) == HM_OK)
        put_rr(m, section, set, DNS_TYPE_RRSIG, hm_bytes_of(rrsig, len));
    else
        m->failed = true;
}

static void put_set(maker *m, dns_section section, const dns_rrset *set)
{
    for (unsigned i = 0; i < set->count; i++)
        put_rr(m, section, set, set->type, set->rdata[i]);
    put_signature(m, section, set, false);
}

static bool is_signed(const maker *m)
{
    return m->query->dnssec_ok && m->zone->signer != NULL;
}

// ---- denial -------------------------------------------------------------------------------------

static void bit(uint8_t *map, uint16_t type)
{
    if (type < 256)
        map[type / 8] |= (uint8_t)(0x80 >> type % 8);
}

// The NSEC record of a name that has these records; NULL: the name is not there.
static void nsec_of(const dns_name *name, const hm_bytes *records, bool cut, uint8_t mem[],
                    dns_rrset *out)
{
    uint8_t map[32] = {0};
    dns_record r;
    dns_name next = dns_name_next(name);
    bit(map, DNS_TYPE_RRSIG);
    bit(map, DNS_TYPE_NSEC);
    if (records == NULL)
        bit(map, DNS_TYPE_NXNAME);
    for (size_t at = 0; records != NULL && dns_records_next(*records, &at, &r);)
        if (!cut || r.type == DNS_TYPE_NS || r.type == DNS_TYPE_DS)
            bit(map, r.type);
    unsigned bytes = sizeof map;
    while (bytes > 1 && map[bytes - 1] == 0)
        bytes--;
    memcpy(mem, next.wire, next.len);
    mem[next.len] = 0;
    mem[next.len + 1] = (uint8_t)bytes;
    memcpy(mem + next.len + 2, map, bytes);
    *out = (dns_rrset){.owner = *name, .type = DNS_TYPE_NSEC, .count = 1};
    out->rdata[0] = hm_bytes_of(mem, next.len + 2u + bytes);
}

static void put_soa(maker *m, uint32_t *ttl)
{
    hm_bytes apex;
    dns_rrset soa;
    if (!m->zone->get(m->zone->ctx, &m->zone->apex, &apex) ||
        !dns_rrset_of(apex, &m->zone->apex, DNS_TYPE_SOA, &soa)) {
        m->failed = true; // a zone without a SOA is none
        return;
    }
    *ttl = soa.ttl;
    put_set(m, DNS_AUTHORITY, &soa);
}

// The name is there without that type (records), or is not there at all (NULL).
static void put_denial(maker *m, const hm_bytes *records, bool cut)
{
    uint8_t mem[DNS_NAME_MAX + BITMAP_MAX];
    dns_rrset nsec;
    uint32_t ttl = 0;
    put_soa(m, &ttl);
    if (records == NULL && (!is_signed(m) || m->query->compact_ok))
        m->rcode = DNS_NXDOMAIN;
    if (!is_signed(m))
        return;
    nsec_of(&m->name, records, cut, mem, &nsec);
    nsec.ttl = ttl;
    put_rr(m, DNS_AUTHORITY, &nsec, DNS_TYPE_NSEC, nsec.rdata[0]);
    put_signature(m, DNS_AUTHORITY, &nsec, records == NULL);
}

// ---- answers ------------------------------------------------------------------------------------

// The first name from the apex down, not the apex itself, that is delegated.
static bool find_cut(const maker *m, dns_name *cut, hm_bytes *records)
{
    unsigned depth = dns_name_labels(&m->name) - dns_name_labels(&m->zone->apex);
    while (depth > 0) {
        *cut = dns_name_up(&m->name, --depth);
        if (!m->zone->get(m->zone->ctx, cut, records))
            return false; // what is not there has nothing below it
        if (dns_records_have(*records, DNS_TYPE_NS))
            return true;
    }
    return false;
}

static void put_referral(maker *m, const dns_name *cut, hm_bytes records)
{
    uint8_t mem[DNS_NAME_MAX + BITMAP_MAX];
    dns_rrset set, nsec;
    m->w.flags &= (uint16_t)~DNS_AA;
    if (dns_rrset_of(records, cut, DNS_TYPE_NS, &set))
        for (unsigned i = 0; i < set.count; i++) // not ours to sign
            put_rr(m, DNS_AUTHORITY, &set, DNS_TYPE_NS, set.rdata[i]);
    if (is_signed(m)) {
        uint32_t ttl = set.ttl;
        if (dns_rrset_of(records, cut, DNS_TYPE_DS, &set)) {
            put_set(m, DNS_AUTHORITY, &set);
        } else {
            nsec_of(cut, &records, true, mem, &nsec);
            nsec.ttl = ttl;
            put_set(m, DNS_AUTHORITY, &nsec);
        }
    }
    if (dns_rrset_of(records, cut, DNS_TYPE_AAAA, &set))
        for (unsigned i = 0; i < set.count; i++)
            put_rr(m, DNS_ADDITIONAL, &set, DNS_TYPE_AAAA, set.rdata[i]);
}

// One set of those that are there answers for all (RFC 8482); asked for signatures, its signature.
static bool put_some(maker *m, hm_bytes records, bool signature_alone)
{
    dns_record r;
    dns_rrset set;
    size_t at = 0;
    if (!dns_records_next(records, &at, &r) || !dns_rrset_of(records, &m->name, r.type, &set))
        return false;
    if (signature_alone)
        put_signature(m, DNS_ANSWER, &set, false);
    else
        put_set(m, DNS_ANSWER, &set);
    return true;
}

static void put_found(maker *m, hm_bytes records, bool cut)
{
    uint8_t mem[DNS_NAME_MAX + BITMAP_MAX];
    dns_rrset set;
    uint16_t type = m->query->type;
    if (!cut && (type == DNS_TYPE_ANY || (type == DNS_TYPE_RRSIG && is_signed(m)))) {
        if (put_some(m, records, type == DNS_TYPE_RRSIG))
            return;
    } else if (type == DNS_TYPE_NSEC && is_signed(m)) {
        nsec_of(&m->name, &records, cut, mem, &set);
        set.ttl = DNS_TTL_DEFAULT;
        put_set(m, DNS_ANSWER, &set);
        return;
    } else if (dns_rrset_of(records, &m->name, type, &set)) {
        put_set(m, DNS_ANSWER, &set);
        return;
    }
    put_denial(m, &records, cut);
}

static void make(maker *m)
{
    hm_bytes records;
    dns_name cut;
    if (find_cut(m, &cut, &records)) {
        bool at_cut = dns_name_eq(&cut, &m->name);
        if (at_cut && (m->query->type == DNS_TYPE_DS || m->query->type == DNS_TYPE_NSEC))
            put_found(m, records, true); // these two are the parent's
        else
            put_referral(m, &cut, records);
        return;
    }
    if (m->zone->get(m->zone->ctx, &m->name, &records))
        put_found(m, records, false);
    else
        put_denial(m, NULL, false);
}

size_t dns_answer(const dns_source *zone, const dns_msg *q, dns_way way, uint64_t now_s,
                  uint8_t *out)
{
    uint16_t wrong = dns_query_check(q);
    if (q->bytes.len == 0 || (q->flags & DNS_QR))
        return 0;
    if (wrong != DNS_NOERROR)
        return dns_refuse(q, way, wrong, -1, out);
    if (!dns_name_within(&q->name, &zone->apex))
        return dns_refuse(q, way, DNS_REFUSED, DNS_EDE_NOT_AUTHORITATIVE, out);
    if (q->type == DNS_TYPE_AXFR || q->type == DNS_TYPE_IXFR)
        return dns_refuse(q, way, DNS_REFUSED, DNS_EDE_PROHIBITED, out);
    if (q->type == DNS_TYPE_NXNAME || q->type == DNS_TYPE_OPT)
        return dns_refuse(q, way, DNS_FORMERR, DNS_EDE_INVALID_TYPE, out);
    maker m = {.zone = zone, .query = q, .name = q->name, .now_s = now_s};
    uint16_t flags = DNS_QR | DNS_AA | (q->flags & (DNS_RD | DNS_CD));
    dns_name_lower(&m.name);
    dns_writer_begin(&m.w, out, dns_answer_room(q, way), q->has_edns ? OPT_ROOM : 0, q->id, flags,
                     &q->name, q->type, q->klass);
    make(&m);
    if (m.failed)
        return dns_refuse(q, way, DNS_SERVFAIL, -1, out);
    if (m.cut_off)
        dns_writer_truncate(&m.w);
    put_opt(&m.w, q, way, m.rcode, -1);
    return dns_writer_end(&m.w, m.rcode);
}
