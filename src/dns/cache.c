#include "dns/cache.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/map.h"

#define KEY_BYTES 16u

typedef struct kept {
    hm_list link; // the newest use last
    uint8_t key[KEY_BYTES];
    uint64_t made_s, until_s;
    uint16_t rcode;
    bool authentic; // AD
    hm_buf records; // as put_record() writes them
} kept;

struct dns_cache {
    hm_map map;
    hm_list uses;
    size_t bytes;
    uint64_t seed[2];
};

hm_err dns_cache_open(const hm_random *random, dns_cache **out)
{
    dns_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return HM_E_NOMEM;
    hm_map_init(&c->map, KEY_BYTES, DNS_CACHE_ANSWERS, random);
    hm_list_init(&c->uses);
    hm_random_fill(random, c->seed, sizeof c->seed);
    *out = c;
    return HM_OK;
}

static size_t cost(const kept *k)
{
    return sizeof *k + k->records.len;
}

static void drop(dns_cache *c, kept *k)
{
    hm_map_remove(&c->map, k->key);
    hm_list_remove(&k->link);
    c->bytes -= cost(k);
    hm_buf_free(&k->records);
    free(k);
}

void dns_cache_clear(dns_cache *c)
{
    hm_list_each(it, &c->uses) drop(c, hm_container_of(it, kept, link));
}

void dns_cache_close(dns_cache *c)
{
    if (c == NULL)
        return;
    dns_cache_clear(c);
    hm_map_free(&c->map);
    free(c);
}

size_t dns_cache_count(const dns_cache *c)
{
    return c->map.count;
}

size_t dns_cache_bytes(const dns_cache *c)
{
    return c->bytes;
}

static void key_of(const dns_cache *c, const dns_msg *q, uint8_t key[KEY_BYTES])
{
    uint8_t mem[DNS_NAME_MAX + 3];
    dns_name lower = q->name;
    dns_name_lower(&lower);
    memcpy(mem, lower.wire, lower.len);
    mem[lower.len] = (uint8_t)(q->type >> 8);
    mem[lower.len + 1] = (uint8_t)q->type;
    mem[lower.len + 2] = (uint8_t)((q->dnssec_ok ? 1 : 0) | (q->flags & DNS_CD ? 2 : 0));
    const uint64_t other[2] = {~c->seed[0], c->seed[1]};
    uint64_t h[2] = {hm_siphash(c->seed, mem, lower.len + 3u),
                     hm_siphash(other, mem, lower.len + 3u)};
    memcpy(key, h, KEY_BYTES);
}

// ---- records ------------------------------------------------------------------------------------

static hm_err put_record(const dns_msg *m, const dns_rr *rr, hm_buf *out)
{
    hm_buf data = {0};
    hm_err err = dns_rdata_expand(m, rr, &data);
    if (err == HM_OK) {
        hm_wr_u8(out, (uint8_t)rr->section);
        hm_wr_u8(out, rr->name.len);
        hm_buf_append(out, rr->name.wire, rr->name.len);
        hm_wr_u16(out, rr->type);
        hm_wr_u16(out, rr->klass);
        hm_wr_u32(out, rr->ttl);
        hm_wr_bytes(out, hm_buf_bytes(&data));
        err = hm_buf_status(out);
    }
    hm_buf_free(&data);
    return err;
}

static bool next_record(hm_rd *r, dns_rr *rr)
{
    if (r->left == 0)
        return false;
    rr->section = (dns_section)hm_rd_u8(r);
    rr->name.len = hm_rd_u8(r);
    hm_rd_copy(r, rr->name.wire, rr->name.len);
    rr->type = hm_rd_u16(r);
    rr->klass = hm_rd_u16(r);
    rr->ttl = hm_rd_u32(r);
    rr->rdata = hm_rd_bytes(r, UINT16_MAX);
    return hm_rd_ok(r);
}

// How long it may be kept, in seconds.
static uint32_t life_of(const dns_msg *m)
{
    dns_cursor c = {0};
    dns_rr rr;
    uint32_t least = DNS_CACHE_TTL_MAX, negative = 0;
    bool answers = false;
    uint16_t rcode = dns_msg_rcode(m);
    if (m->flags & DNS_TC)
        return 0;
    if (rcode != DNS_NOERROR && rcode != DNS_NXDOMAIN)
        return rcode == DNS_SERVFAIL ? DNS_CACHE_FAILURE_S : 0;
    while (dns_msg_next(m, &c, &rr)) {
        if (rr.type == DNS_TYPE_OPT)
            continue;
        uint32_t ttl = rr.ttl > INT32_MAX ? 0 : rr.ttl;
        least = ttl < least ? ttl : least;
        answers |= rr.section == DNS_ANSWER && rr.type == m->type;
        if (rr.section == DNS_AUTHORITY && rr.type == DNS_TYPE_SOA && rr.rdata.len >= 22) {
            const uint8_t *p = rr.rdata.ptr + rr.rdata.len - 4;
            negative = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
    }
    if (answers || m->type == DNS_TYPE_ANY)
        return least;
    negative = negative < DNS_CACHE_NEGATIVE_MAX ? negative : DNS_CACHE_NEGATIVE_MAX;
    return least < negative ? least : negative;
}

// ---- the asker's answer -------------------------------------------------------------------------

static size_t write_answer(const kept *k, const dns_msg *q, dns_way way, uint64_t now_s,
                           uint8_t *out)
{
    dns_writer w;
    dns_rr rr;
    bool fits = true;
    uint64_t age = now_s > k->made_s ? now_s - k->made_s : 0;
    size_t opt = q->has_edns ? DNS_OPT_BYTES + DNS_EDE_BYTES : 0;
    uint16_t flags = DNS_QR | DNS_RA | (q->flags & (DNS_RD | DNS_CD));
    if (k->authentic && (q->dnssec_ok || (q->flags & DNS_AD)))
        flags |= DNS_AD;
    dns_writer_begin(&w, out, dns_answer_room(q, way), opt, q->id, flags, &q->name, q->type,
                     q->klass);
    hm_rd r = hm_rd_of(hm_buf_bytes(&k->records));
    while (fits && next_record(&r, &rr))
        fits = dns_writer_rr(&w, rr.section, &rr.name, rr.type, rr.klass,
                             rr.ttl > age ? rr.ttl - (uint32_t)age : 0, rr.rdata) ||
               rr.section == DNS_ADDITIONAL;
    if (!fits)
        dns_writer_truncate(&w);
    if (q->has_edns)
        dns_writer_opt(&w, DNS_UDP_MAX, k->rcode, q->dnssec_ok, -1,
                       way == DNS_ENCRYPTED && q->padding ? DNS_PAD_ANSWER : 0);
    return dns_writer_end(&w, k->rcode);
}

// ---- in and out ---------------------------------------------------------------------------------

static hm_err pack(const dns_msg *query, hm_bytes bytes, uint64_t now_s, kept *k)
{
    dns_msg m;
    dns_cursor at = {0};
    dns_rr rr;
    HM_TRY(dns_msg_read(bytes, &m));
    if (!(m.flags & DNS_QR) || !m.has_question || m.type != query->type ||
        m.klass != query->klass || !dns_name_eq(&m.name, &query->name))
        return hm_fail(HM_E_PARSE, "the answer is to another question");
    while (dns_msg_next(&m, &at, &rr))
        if (rr.type != DNS_TYPE_OPT)
            HM_TRY(put_record(&m, &rr, &k->records));
    k->rcode = dns_msg_rcode(&m);
    k->authentic = m.flags & DNS_AD;
    k->made_s = now_s;
    k->until_s = now_s + life_of(&m);
    return HM_OK;
}

static void keep(dns_cache *c, kept *k)
{
    kept *old = hm_map_get(&c->map, k->key);
    if (old != NULL)
        drop(c, old);
    while (!hm_list_empty(&c->uses) &&
           (c->map.count >= DNS_CACHE_ANSWERS || c->bytes + cost(k) > DNS_CACHE_BYTES))
        drop(c, hm_container_of(c->uses.next, kept, link));
    if (hm_map_put(&c->map, k->key, k) != HM_OK) {
        hm_buf_free(&k->records);
        free(k);
        return;
    }
    hm_list_append(&c->uses, &k->link);
    c->bytes += cost(k);
}

hm_err dns_cache_take(dns_cache *c, const dns_msg *query, hm_bytes answer, dns_way way,
                      uint64_t now_s, uint8_t *out, size_t *len)
{
    kept *k = calloc(1, sizeof *k);
    hm_err err = k == NULL ? HM_E_NOMEM : pack(query, answer, now_s, k);
    if (err == HM_OK)
        *len = write_answer(k, query, way, now_s, out);
    if (err == HM_OK && k->until_s > now_s) {
        key_of(c, query, k->key);
        keep(c, k);
        return HM_OK;
    }
    if (k != NULL)
        hm_buf_free(&k->records);
    free(k);
    return err;
}

size_t dns_cache_get(dns_cache *c, const dns_msg *query, dns_way way, uint64_t now_s, uint8_t *out)
{
    uint8_t key[KEY_BYTES];
    key_of(c, query, key);
    kept *k = hm_map_get(&c->map, key);
    if (k == NULL)
        return 0;
    if (k->until_s <= now_s) {
        drop(c, k);
        return 0;
    }
    hm_list_remove(&k->link);
    hm_list_append(&c->uses, &k->link);
    return write_answer(k, query, way, now_s, out);
}
