// DNS from outside: the first byte says as what. A query, which a small zone answers; another
// server's answer, which the cache takes; the records of a name; a name as text.
#include <openssl/ec.h>
#include <stdlib.h>

#include "base/random.h"
#include "dns/cache.h"
#include "dns/zone.h"

#define NOW_S UINT64_C(1800000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dns_source zone;
static dns_cache *cache;
static uint8_t out[DNS_MSG_MAX];

static bool get(void *ctx, const dns_name *name, hm_bytes *records)
{
    return dns_zone_get(ctx, name, records);
}

static void make_zone(void)
{
    static hm_prng prng;
    hm_prng_seed(&prng, 1);
    const hm_random random = hm_random_prng(&prng);
    const char *const names[] = {"dev.internal", "www.dev.internal", "lab.dev.internal"};
    hm_buf records[3] = {0}, data = {0};
    uint8_t soa[22] = {0};
    dns_zone *z;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    hm_assert(key && dns_name_parse(hm_bytes_str(names[0]), &zone.apex) == HM_OK);
    hm_assert(dns_zone_open(&zone.apex, &random, &z) == HM_OK);
    hm_assert(dns_cache_open(&random, &cache) == HM_OK);
    hm_assert(dns_signer_open(key, &zone.apex, &zone.signer) == HM_OK);
    hm_assert(dns_records_add(&records[0], &(dns_record){DNS_TYPE_SOA, 30, hm_bytes_of(soa, 22)}) ==
              HM_OK);
    hm_assert(dns_records_add(&records[1],
                              &(dns_record){DNS_TYPE_AAAA, 60, hm_bytes_of(soa, 16)}) == HM_OK);
    hm_assert(dns_rdata_parse(DNS_TYPE_NS, hm_bytes_str("ns.example.net"), &data) == HM_OK);
    hm_assert(dns_records_add(&records[2], &(dns_record){DNS_TYPE_NS, 60, hm_buf_bytes(&data)}) ==
              HM_OK);
    for (int i = 0; i < 3; i++) {
        dns_name n;
        hm_assert(dns_name_parse(hm_bytes_str(names[i]), &n) == HM_OK);
        hm_assert(dns_zone_set(z, &n, hm_buf_bytes(&records[i]), HM_TIME_NEVER) == HM_OK);
        hm_buf_free(&records[i]);
    }
    hm_buf_free(&data);
    zone.get = get;
    zone.ctx = z;
}

static void try_query(hm_bytes bytes)
{
    dns_msg q, a;
    hm_err err = dns_msg_read(bytes, &q);
    for (dns_way way = DNS_BY_UDP; way <= DNS_ENCRYPTED; way++) {
        if (err != HM_OK)
            q.has_question = q.has_edns = false;
        if (q.bytes.len == 0)
            return;
        size_t len = dns_answer(&zone, &q, way, NOW_S, out);
        if (len == 0)
            continue;
        hm_assert(len <= dns_answer_room(&q, way));
        hm_assert(dns_msg_read(hm_bytes_of(out, len), &a) == HM_OK && a.id == q.id);
    }
}

static void try_answer(hm_bytes bytes)
{
    dns_msg m, a;
    dns_cursor at = {0};
    dns_rr rr;
    size_t len;
    if (dns_msg_read(bytes, &m) != HM_OK)
        return;
    while (dns_msg_next(&m, &at, &rr)) {
        hm_buf data = {0}, text = {0};
        if (dns_rdata_expand(&m, &rr, &data) == HM_OK)
            dns_rdata_text(rr.type, hm_buf_bytes(&data), &text);
        hm_buf_free(&data);
        hm_buf_free(&text);
    }
    if (!m.has_question)
        return;
    dns_msg query = m; // to which it would be the answer
    query.bytes = (hm_bytes){0};
    if (dns_cache_take(cache, &query, bytes, DNS_BY_UDP, NOW_S, out, &len) != HM_OK)
        return;
    hm_assert(len <= DNS_UDP_MAX && dns_msg_read(hm_bytes_of(out, len), &a) == HM_OK);
    len = dns_cache_get(cache, &query, DNS_ENCRYPTED, NOW_S + 1, out);
    hm_assert(len == 0 || dns_msg_read(hm_bytes_of(out, len), &a) == HM_OK);
}

static void try_records(hm_bytes bytes)
{
    dns_name n;
    dns_record r;
    hm_buf again = {0};
    hm_assert(dns_name_parse(hm_bytes_str("lab.dev.internal"), &n) == HM_OK);
    if (dns_records_check(bytes, &n) == HM_OK) {
        for (size_t at = 0; dns_records_next(bytes, &at, &r);) {
            hm_buf text = {0}, data = {0};
            hm_assert(dns_records_add(&again, &r) == HM_OK);
            dns_rdata_text(r.type, r.rdata, &text);
            hm_assert(dns_rdata_parse(r.type, hm_buf_bytes(&text), &data) == HM_OK);
            hm_assert(hm_bytes_eq(hm_buf_bytes(&data), r.rdata));
            hm_buf_free(&text);
            hm_buf_free(&data);
        }
        hm_assert(hm_bytes_eq(hm_buf_bytes(&again), bytes)); // one set has one encoding
    }
    hm_buf_free(&again);
}

static void try_name(hm_bytes bytes)
{
    dns_name n, same;
    char text[DNS_NAME_TEXT_MAX];
    if (dns_name_parse(bytes, &n) != HM_OK)
        return;
    dns_name_text(&n, text);
    hm_assert(dns_name_parse(hm_bytes_str(text), &same) == HM_OK && same.len == n.len);
    hm_assert(memcmp(same.wire, n.wire, n.len) == 0);
    same = dns_name_next(&n);
    hm_assert(dns_name_read(hm_bytes_of(same.wire, same.len), &n, NULL) == HM_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const as[])(hm_bytes) = {try_query, try_answer, try_records, try_name};
    if (cache == NULL)
        make_zone();
    if (size > 0)
        as[data[0] % 4](hm_bytes_of(data + 1, size - 1));
    return 0;
}
