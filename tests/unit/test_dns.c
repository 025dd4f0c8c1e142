// The DNS without a network: messages, records, signing, answers, the cache and the forwarder.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/random.h"
#include "dns/forward.h"
#include "dns/limit.h"
#include "dns/zone.h"
#include "ok.h"

#define NOW_S UINT64_C(1800000000)

static dns_name name_of(const char *text)
{
    dns_name n;
    OK(dns_name_parse(hm_bytes_str(text), &n));
    return n;
}

// ---- names --------------------------------------------------------------------------------------

static void test_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "..", "a..b", ".a", "\\", "a\\1", "\\256", "a.\\25"};
    char text[DNS_NAME_TEXT_MAX], label[130];
    dns_name n, m;
    size_t used;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(dns_name_parse(hm_bytes_str(bad[i]), &n), HM_E_PARSE);
    n = name_of("WWW.dev.internal.");
    assert_string_equal(dns_name_text(&n, text), "WWW.dev.internal");
    m = name_of("www.DEV.internal");
    assert_true(dns_name_eq(&n, &m));
    m = name_of("dev.internal");
    assert_true(dns_name_within(&n, &m) && dns_name_within(&m, &m) && !dns_name_within(&m, &n));
    m = name_of("ev.internal"); // the end of the bytes, but not of the labels
    assert_false(dns_name_within(&n, &m));
    n = name_of("a\\.b.\\000c");
    assert_string_equal(dns_name_text(&n, text), "a\\.b.\\000c");
    assert_int_equal(dns_name_labels(&n), 2);
    n = name_of(".");
    assert_true(n.len == 1 && dns_name_labels(&n) == 0);
    assert_string_equal(dns_name_text(&n, text), ".");
    memset(label, 'a', sizeof label);
    label[63] = 0;
    n = name_of(label);
    label[63] = 'a';
    label[64] = 0;
    assert_int_equal(dns_name_parse(hm_bytes_str(label), &n), HM_E_PARSE);
    // The first name behind another one, at every length.
    n = name_of("dev.internal");
    m = dns_name_next(&n);
    assert_string_equal(dns_name_text(&m, text), "\\000.dev.internal");
    for (unsigned len = 253; len <= 255; len++) {
        memset(&n, 0, sizeof n);
        for (unsigned at = 0; at < len - 1;) {
            unsigned left = len - 2 - at;
            n.wire[at] = (uint8_t)(left > 62 ? 62 : left);
            memset(n.wire + at + 1, 'a', n.wire[at]);
            at += n.wire[at] + 1u;
        }
        n.len = (uint8_t)len;
        m = dns_name_next(&n);
        OK(dns_name_read(hm_bytes_of(m.wire, m.len), &m, &used));
        assert_false(dns_name_eq(&n, &m));
        assert_int_equal(dns_name_join(&m, &n, &m), HM_E_RANGE);
    }
}

// ---- messages -----------------------------------------------------------------------------------

static void test_messages(void **state)
{
    (void)state;
    uint8_t out[1024];
    dns_writer w;
    dns_msg m;
    dns_cursor at = {0};
    dns_rr rr;
    dns_name www = name_of("www.dev.internal"), mail = name_of("mail.DEV.internal");
    const uint8_t addr[16] = {0xfd, 1};
    dns_writer_begin(&w, out, sizeof out, DNS_OPT_BYTES, 7, DNS_QR, &www, DNS_TYPE_AAAA,
                     DNS_CLASS_IN);
    for (unsigned i = 0; i < 3; i++)
        assert_true(dns_writer_rr(&w, DNS_ANSWER, i == 1 ? &mail : &www, DNS_TYPE_AAAA,
                                  DNS_CLASS_IN, 60, hm_bytes_of(addr, 16)));
    dns_writer_opt(&w, 1232, 0, true, -1, 128);
    size_t len = dns_writer_end(&w, DNS_NXDOMAIN);
    assert_int_equal(len % 128, 0);
    OK(dns_msg_read(hm_bytes_of(out, len), &m));
    assert_true(m.id == 7 && dns_msg_rcode(&m) == DNS_NXDOMAIN && m.dnssec_ok && m.padding);
    assert_true(dns_name_eq(&m.name, &www) && m.udp_bytes == 1232);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(dns_msg_next(&m, &at, &rr));
        assert_true(dns_name_eq(&rr.name, i == 1 ? &mail : &www) && rr.ttl == 60);
        assert_memory_equal(rr.rdata.ptr, addr, 16);
    }
    assert_true(dns_msg_next(&m, &at, &rr) && rr.type == DNS_TYPE_OPT);
    assert_false(dns_msg_next(&m, &at, &rr));
    // Names were compressed: 12 + 22 for the question, then 2, 7 and 2 bytes of name.
    assert_int_equal(out[34] & 0xc0, 0xc0);
    // A name that repeats itself does not point into itself, whatever lay in the memory before.
    uint8_t stale[512] = {0};
    dns_name twice = name_of("x.x");
    dns_msg again;
    dns_writer_begin(&w, stale, sizeof stale, 0, 7, DNS_QR, &twice, DNS_TYPE_AAAA, DNS_CLASS_IN);
    OK(dns_msg_read(hm_bytes_of(stale, dns_writer_end(&w, 0)), &again));
    assert_true(dns_name_eq(&again.name, &twice));
    // Cut off anywhere it is no message, and nothing is read behind its end.
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, out, cut);
        assert_int_equal(dns_msg_read(hm_bytes_of(copy, cut), &m), HM_E_PARSE);
        free(copy);
    }
}

static void test_hostile_messages(void **state)
{
    (void)state;
    dns_msg m;
    // A name that points to itself, one to the other, and forward.
    uint8_t loop[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 28, 0, 1};
    assert_int_equal(dns_msg_read(hm_bytes_of(loop, sizeof loop), &m), HM_E_PARSE);
    assert_int_equal(m.id, 1); // the header was there
    loop[13] = 16;
    assert_int_equal(dns_msg_read(hm_bytes_of(loop, sizeof loop), &m), HM_E_PARSE);
    uint8_t two[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0xc0, 12, 0, 28, 0, 1};
    assert_int_equal(dns_msg_read(hm_bytes_of(two, sizeof two), &m), HM_E_PARSE);
    two[15] = 14;
    assert_int_equal(dns_msg_read(hm_bytes_of(two, sizeof two), &m), HM_E_PARSE);
    // Labels of unknown kinds; two questions; more records than there are; bytes behind the end.
    uint8_t kinds[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40, 'a', 0, 0, 28, 0, 1};
    assert_int_equal(dns_msg_read(hm_bytes_of(kinds, sizeof kinds), &m), HM_E_PARSE);
    uint8_t fine[] = {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 28, 0, 1, 9};
    OK(dns_msg_read(hm_bytes_of(fine, sizeof fine - 1), &m));
    assert_int_equal(dns_msg_read(hm_bytes_of(fine, sizeof fine), &m), HM_E_PARSE);
    fine[5] = 2;
    assert_int_equal(dns_msg_read(hm_bytes_of(fine, sizeof fine - 1), &m), HM_E_PARSE);
    fine[5] = 1;
    fine[10] = fine[11] = 0xff;
    assert_int_equal(dns_msg_read(hm_bytes_of(fine, sizeof fine - 1), &m), HM_E_PARSE);
}

// ---- records ------------------------------------------------------------------------------------

static void put(hm_buf *records, uint16_t type, uint32_t ttl, const char *text)
{
    hm_buf data = {0};
    OK(dns_rdata_parse(type, hm_bytes_str(text), &data));
    OK(dns_records_add(records, &(dns_record){type, ttl, hm_buf_bytes(&data)}));
    hm_buf_free(&data);
}

static hm_err check(const hm_buf *records)
{
    dns_name n = name_of("lab.dev.internal");
    return dns_records_check(hm_buf_bytes(records), &n);
}

#define DS2 "4711 13 2 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static void test_records(void **state)
{
    (void)state;
    static const struct {
        uint16_t type;
        const char *in, *out;
    } texts[] = {
        {DNS_TYPE_AAAA, "FD48:0::1", "fd48::1"},
        {DNS_TYPE_TXT, "a \"b\" \\", "\"a \\\"b\\\" \\\\\""},
        {DNS_TYPE_TXT, "\"a\" \"\\000\\\"\"", "\"a\" \"\\000\\\"\""},
        {DNS_TYPE_TXT, "", "\"\""},
        {DNS_TYPE_NS, "NS.Example.net", "ns.example.net."},
        {DNS_TYPE_DS, DS2, DS2},
    };
    hm_buf a = {0}, b = {0}, data = {0};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        hm_buf text = {0};
        hm_buf_reset(&data);
        OK(dns_rdata_parse(texts[i].type, hm_bytes_str(texts[i].in), &data));
        dns_rdata_text(texts[i].type, hm_buf_bytes(&data), &text);
        assert_string_equal(hm_buf_cstr(&text), texts[i].out);
        hm_buf_free(&text);
    }
    assert_int_equal(dns_rdata_parse(DNS_TYPE_AAAA, hm_bytes_str("127.0.0.1"), &data), HM_E_PARSE);
    assert_int_equal(dns_rdata_parse(DNS_TYPE_DS, hm_bytes_str("1 2 3 zz"), &data), HM_E_PARSE);
    assert_int_equal(dns_rdata_parse(DNS_TYPE_DS, hm_bytes_str("1 13 2 aabb"), &data), HM_E_PARSE);
    assert_int_equal(dns_rdata_parse(DNS_TYPE_TXT, hm_bytes_str("\"a"), &data), HM_E_PARSE);
    assert_int_equal(dns_rdata_parse(DNS_TYPE_A, hm_bytes_str("1.2.3.4"), &data), HM_E_PARSE);
    // One set has one encoding, however it came about.
    put(&a, DNS_TYPE_TXT, 60, "t");
    put(&a, DNS_TYPE_AAAA, 60, "fd48::2");
    put(&a, DNS_TYPE_AAAA, 60, "fd48::1");
    put(&b, DNS_TYPE_AAAA, 60, "fd48::1");
    put(&b, DNS_TYPE_AAAA, 60, "fd48::2");
    put(&b, DNS_TYPE_TXT, 60, "t");
    put(&b, DNS_TYPE_TXT, 60, "t");
    assert_true(hm_bytes_eq(hm_buf_bytes(&a), hm_buf_bytes(&b)));
    OK(check(&a));
    dns_records_drop(&a, DNS_TYPE_TXT);
    assert_true(!dns_records_have(hm_buf_bytes(&a), DNS_TYPE_TXT) &&
                dns_records_have(hm_buf_bytes(&a), DNS_TYPE_AAAA));
    const uint8_t addr[16] = {1};
    assert_int_equal(dns_records_add(&a, &(dns_record){DNS_TYPE_AAAA, 61, hm_bytes_of(addr, 16)}),
                     HM_E_RANGE);
    hm_buf_free(&a);
    hm_buf_free(&b);
    hm_buf_free(&data);
}

static void test_records_refused(void **state)
{
    (void)state;
    hm_buf r = {0};
    char text[64];
    OK(check(&r)); // a name may have none
    put(&r, DNS_TYPE_AAAA, DNS_TTL_MAX + 1, "fd48::1");
    assert_int_equal(check(&r), HM_E_LIMIT);
    hm_buf_reset(&r);
    for (unsigned i = 0; i <= DNS_RECORDS_COUNT_MAX; i++) {
        snprintf(text, sizeof text, "fd48::%x", i + 1);
        put(&r, DNS_TYPE_AAAA, 60, text);
        assert_int_equal(check(&r), i < DNS_RECORDS_COUNT_MAX ? HM_OK : HM_E_LIMIT);
    }
    r.ptr[8] ^= 0xff; // out of order
    assert_int_not_equal(check(&r), HM_OK);
    hm_buf_reset(&r);
    put(&r, DNS_TYPE_DS, 60, DS2);
    assert_int_equal(check(&r), HM_E_PARSE); // without servers
    put(&r, DNS_TYPE_NS, 60, "ns.example.net");
    OK(check(&r));
    put(&r, DNS_TYPE_AAAA, 60, "fd48::1");
    assert_int_equal(check(&r), HM_E_PARSE); // whose address?
    put(&r, DNS_TYPE_NS, 60, "lab.dev.internal");
    OK(check(&r));
    put(&r, DNS_TYPE_TXT, 60, "t");
    assert_int_equal(check(&r), HM_E_PARSE);
    hm_buf_reset(&r);
    put(&r, DNS_TYPE_NS, 60, "ns.lab.dev.internal");
    assert_int_equal(check(&r), HM_E_PARSE); // below itself
    hm_buf_reset(&r);
    OK(dns_records_add(&r, &(dns_record){DNS_TYPE_A, 60, hm_bytes_of("\1\2\3\4", 4)}));
    assert_int_equal(check(&r), HM_E_UNSUPPORTED);
    hm_buf_reset(&r);
    hm_buf_puts(&r, "cut off");
    assert_int_equal(check(&r), HM_E_PARSE);
    hm_buf_free(&r);
}

// ---- a zone -------------------------------------------------------------------------------------

typedef struct world {
    dns_zone *zone;
    dns_source source;
    uint8_t dnskey[DNS_DNSKEY_BYTES];
} world;

static bool zone_get(void *ctx, const dns_name *name, hm_bytes *records)
{
    return dns_zone_get(ctx, name, records);
}

static void zone_put(world *w, const char *name, hm_buf *records, uint64_t expires_ms)
{
    dns_name n = name_of(name);
    OK(dns_zone_set(w->zone, &n, hm_buf_bytes(records), expires_ms));
    hm_buf_free(records);
    *records = (hm_buf){0};
}

static void world_make(world *w)
{
    char path[] = "/tmp/hm-dns-test-XXXXXX";
    int fd = mkstemp(path);
    EVP_PKEY *key = NULL, *again = NULL;
    uint8_t public_key[DNS_PUBLIC_BYTES], other[DNS_PUBLIC_BYTES], soa[128];
    hm_buf r = {0}, s = hm_buf_fixed(soa, sizeof soa);
    dns_name apex = name_of("dev.internal"), ns = name_of("node-1.nodes.dev.internal");
    close(fd);
    unlink(path);
    OK(dns_key_open(path, &key));
    OK(dns_key_open(path, &again)); // the same one
    OK(dns_key_public(key, public_key));
    OK(dns_key_public(again, other));
    assert_memory_equal(public_key, other, sizeof other);
    EVP_PKEY_free(again);
    unlink(path);
    dns_dnskey_rdata(public_key, w->dnskey);
    OK(dns_zone_open(&apex, &hm_random_system, &w->zone));
    w->source = (dns_source){.apex = apex, .get = zone_get, .ctx = w->zone};
    OK(dns_signer_open(key, &apex, &w->source.signer));
    hm_buf_append(&s, ns.wire, ns.len);
    hm_buf_append(&s, apex.wire, apex.len);
    for (unsigned i = 0; i < 5; i++)
        hm_wr_u32(&s, 30);
    OK(dns_records_add(&r, &(dns_record){DNS_TYPE_SOA, 30, hm_buf_bytes(&s)}));
    OK(dns_records_add(
        &r, &(dns_record){DNS_TYPE_DNSKEY, 60, hm_bytes_of(w->dnskey, sizeof w->dnskey)}));
    put(&r, DNS_TYPE_NS, 60, "node-1.nodes.dev.internal");
    zone_put(w, "dev.internal", &r, HM_TIME_NEVER);
    put(&r, DNS_TYPE_AAAA, 60, "fd48::1");
    put(&r, DNS_TYPE_AAAA, 60, "fd48::2");
    put(&r, DNS_TYPE_TXT, 60, "hello");
    zone_put(w, "www.dev.internal", &r, 5000);
    put(&r, DNS_TYPE_NS, 60, "ns.example.net");
    put(&r, DNS_TYPE_NS, 60, "lab.dev.internal");
    put(&r, DNS_TYPE_AAAA, 60, "fd48::53");
    put(&r, DNS_TYPE_DS, 60, DS2);
    zone_put(w, "lab.dev.internal", &r, HM_TIME_NEVER);
    put(&r, DNS_TYPE_NS, 60, "ns.example.net");
    zone_put(w, "plain.dev.internal", &r, HM_TIME_NEVER);
    put(&r, DNS_TYPE_TXT, 60, "deep");
    zone_put(w, "a.b.c.dev.internal", &r, HM_TIME_NEVER);
}

static void world_free(world *w)
{
    dns_signer_close(w->source.signer);
    dns_zone_close(w->zone);
}

static uint8_t answer[DNS_MSG_MAX], query[DNS_QUERY_MAX];

static void ask_by(world *w, const char *name, uint16_t type, bool signed_too, dns_way way,
                   dns_msg *out)
{
    dns_name n = name_of(name);
    dns_msg q;
    size_t len = dns_query_write(query, 9, DNS_RD, &n, type, signed_too, true);
    OK(dns_msg_read(hm_bytes_of(query, len), &q));
    len = dns_answer(&w->source, &q, way, NOW_S, answer);
    OK(dns_msg_read(hm_bytes_of(answer, len), out));
    assert_true(out->id == 9 && (out->flags & (DNS_QR | DNS_RD)) == (DNS_QR | DNS_RD));
    assert_true(dns_name_eq(&out->name, &n));
}

static unsigned count(const dns_msg *m, dns_section section, uint16_t type)
{
    dns_cursor at = {0};
    dns_rr rr;
    unsigned n = 0;
    while (dns_msg_next(m, &at, &rr))
        n += rr.section == section && rr.type == type;
    return n;
}

// Every set but the servers of a delegation and their addresses has a signature that holds.
static void all_signed(const world *w, const dns_msg *m)
{
    dns_cursor at = {0}, look;
    dns_rr rr, other;
    while (dns_msg_next(m, &at, &rr)) {
        dns_rrset set = {.owner = rr.name, .type = rr.type, .ttl = rr.ttl};
        bool ns_below = rr.type == DNS_TYPE_NS && rr.section == DNS_AUTHORITY;
        bool good = false;
        if (rr.section == DNS_ADDITIONAL || rr.type == DNS_TYPE_RRSIG || ns_below)
            continue;
        dns_name_lower(&set.owner);
        for (look = (dns_cursor){0}; dns_msg_next(m, &look, &other);)
            if (other.type == rr.type && other.section == rr.section &&
                dns_name_eq(&other.name, &rr.name))
                set.rdata[set.count++] = other.rdata;
        for (look = (dns_cursor){0}; dns_msg_next(m, &look, &other);)
            if (other.type == DNS_TYPE_RRSIG && dns_name_eq(&other.name, &rr.name))
                good |= dns_verify(&set, other.rdata, hm_bytes_of(w->dnskey, sizeof w->dnskey),
                                   NOW_S) == HM_OK;
        if (!good)
            fail_msg("type %u is not signed", rr.type);
    }
}

static void test_answers(void **state)
{
    (void)state;
    world w;
    dns_msg m;
    world_make(&w);
    ask_by(&w, "WwW.dev.internal", DNS_TYPE_AAAA, true, DNS_ENCRYPTED, &m);
    assert_true((m.flags & DNS_AA) && dns_msg_rcode(&m) == DNS_NOERROR);
    assert_int_equal(count(&m, DNS_ANSWER, DNS_TYPE_AAAA), 2);
    assert_int_equal(m.bytes.len, DNS_PAD_ANSWER);
    all_signed(&w, &m);
    ask_by(&w, "www.dev.internal", DNS_TYPE_AAAA, false, DNS_BY_UDP, &m);
    assert_int_equal(count(&m, DNS_ANSWER, DNS_TYPE_RRSIG), 0);
    // There are no A records, and what there is is said.
    ask_by(&w, "www.dev.internal", DNS_TYPE_A, true, DNS_BY_TCP, &m);
    assert_true(dns_msg_rcode(&m) == DNS_NOERROR && m.counts[DNS_ANSWER] == 0);
    assert_int_equal(count(&m, DNS_AUTHORITY, DNS_TYPE_SOA), 1);
    assert_int_equal(count(&m, DNS_AUTHORITY, DNS_TYPE_NSEC), 1);
    all_signed(&w, &m);
    // A name that is not there, for who checks and for who does not.
    ask_by(&w, "nope.dev.internal", DNS_TYPE_AAAA, true, DNS_BY_TCP, &m);
    assert_int_equal(dns_msg_rcode(&m), DNS_NOERROR);
    all_signed(&w, &m);
    ask_by(&w, "nope.dev.internal", DNS_TYPE_AAAA, false, DNS_BY_TCP, &m);
    assert_int_equal(dns_msg_rcode(&m), DNS_NXDOMAIN);
    assert_int_equal(count(&m, DNS_AUTHORITY, DNS_TYPE_SOA), 1);
    ask_by(&w, "*.dev.internal", DNS_TYPE_AAAA, true, DNS_BY_TCP, &m);
    all_signed(&w, &m);
    // A name that is there for those below it.
    ask_by(&w, "b.c.dev.internal", DNS_TYPE_TXT, false, DNS_BY_TCP, &m);
    assert_true(dns_msg_rcode(&m) == DNS_NOERROR && m.counts[DNS_ANSWER] == 0);
    ask_by(&w, "a.b.c.dev.internal", DNS_TYPE_TXT, true, DNS_BY_TCP, &m);
    assert_int_equal(count(&m, DNS_ANSWER, DNS_TYPE_TXT), 1);
    ask_by(&w, "dev.internal", DNS_TYPE_DNSKEY, true, DNS_BY_TCP, &m);
    all_signed(&w, &m);
    ask_by(&w, "www.dev.internal", DNS_TYPE_ANY, true, DNS_BY_TCP, &m);
    assert_true(m.counts[DNS_ANSWER] > 0);
    all_signed(&w, &m);
    ask_by(&w, "www.dev.internal", DNS_TYPE_NSEC, true, DNS_BY_TCP, &m);
    assert_int_equal(count(&m, DNS_ANSWER, DNS_TYPE_NSEC), 1);
    // Its time is over.
    dns_zone_set_time(w.zone, 5000);
    ask_by(&w, "www.dev.internal", DNS_TYPE_AAAA, false, DNS_BY_TCP, &m);
    assert_int_equal(dns_msg_rcode(&m), DNS_NXDOMAIN);
    // Signed once, asked again: out of the table.
    uint64_t made = dns_signer_made(w.source.signer);
    ask_by(&w, "dev.internal", DNS_TYPE_DNSKEY, true, DNS_BY_TCP, &m);
    assert_int_equal(dns_signer_made(w.source.signer), made);
    world_free(&w);
}

// Somebody asks for names that are not there, each another one, twice as many as are kept.
static void test_made_up_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint16_t type;
    } there[] = {{"www.dev.internal", DNS_TYPE_AAAA}, {"www.dev.internal", DNS_TYPE_A},
                 {"dev.internal", DNS_TYPE_SOA},      {"dev.internal", DNS_TYPE_DNSKEY},
                 {"b.c.dev.internal", DNS_TYPE_TXT},  {"a.b.c.dev.internal", DNS_TYPE_TXT}};
    world w;
    dns_msg m;
    char name[64];
    world_make(&w);
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++)
        ask_by(&w, there[i].name, there[i].type, true, DNS_BY_TCP, &m);
    uint64_t made = dns_signer_made(w.source.signer);
    const unsigned asked = 2 * DNS_SIGN_KEPT;
    for (unsigned i = 0; i < asked; i++) {
        snprintf(name, sizeof name, "made-up-%u.dev.internal", i);
        ask_by(&w, name, DNS_TYPE_AAAA, true, DNS_BY_TCP, &m);
    }
    all_signed(&w, &m);
    assert_int_equal(dns_signer_made(w.source.signer),
                     made + asked); // each name one, and the SOA's none
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++)
        ask_by(&w, there[i].name, there[i].type, true, DNS_BY_TCP, &m);
    assert_int_equal(dns_signer_made(w.source.signer), made + asked);
    ask_by(&w, name, DNS_TYPE_AAAA, true, DNS_BY_TCP, &m); // the last of them is kept too
    assert_int_equal(dns_signer_made(w.source.signer), made + asked);
    world_free(&w);
}

static void test_delegations(void **state)
{
    (void)state;
    world w;
    dns_msg m;
    world_make(&w);
    ask_by(&w, "x.y.lab.dev.internal", DNS_TYPE_AAAA, true, DNS_BY_TCP, &m);
    assert_true(!(m.flags & DNS_AA) && m.counts[DNS_ANSWER] == 0);
    assert_int_equal(count(&m, DNS_AUTHORITY, DNS_TYPE_NS), 2);
    assert_int_equal(count(&m, DNS_AUTHORITY, DNS_TYPE_DS), 1);
    assert_int_equal(count(&m, DNS_ADDITIONAL, DNS_TYPE_AAAA), 1);
    all_signed(&w, &m);
    ask_by(&w, "lab.dev.internal", DNS_TYPE_AAAA, true, DNS_BY_TCP, &m);
    assert_true(!(m.flags & DNS_AA) && m.counts[DNS_ANSWER] == 0);
    ask_by(&w, "lab.dev.internal", DNS_TYPE_DS, true, DNS_BY_TCP, &m); // the parent's to say
    assert_true((m.flags & DNS_AA) && count(&m, DNS_ANSWER, DNS_TYPE_DS) == 1);
    all_signed(&w, &m);
    ask_by(&w, "x.plain.dev.internal", DNS_TYPE_AAAA, true, DNS_BY_TCP, &m);
    assert_int_equal(count(&m, DNS_AUTHORITY, DNS_TYPE_NSEC), 1); // without DS: that is signed
    all_signed(&w, &m);
    ask_by(&w, "plain.dev.internal", DNS_TYPE_DS, true, DNS_BY_TCP, &m);
    assert_true(m.counts[DNS_ANSWER] == 0 && count(&m, DNS_AUTHORITY, DNS_TYPE_NSEC) == 1);
    all_signed(&w, &m);
    world_free(&w);
}

static void test_refusals(void **state)
{
    (void)state;
    world w;
    dns_msg m, q;
    dns_name n = name_of("www.dev.internal");
    world_make(&w);
    ask_by(&w, "example.org", DNS_TYPE_AAAA, true, DNS_BY_UDP, &m);
    assert_int_equal(dns_msg_rcode(&m), DNS_REFUSED);
    ask_by(&w, "dev.internal", DNS_TYPE_AXFR, true, DNS_BY_TCP, &m);
    assert_int_equal(dns_msg_rcode(&m), DNS_REFUSED);
    ask_by(&w, "www.dev.internal", DNS_TYPE_NXNAME, true, DNS_BY_TCP, &m);
    assert_int_equal(dns_msg_rcode(&m), DNS_FORMERR);
    size_t len = dns_query_write(query, 9, 5 << 11, &n, DNS_TYPE_AAAA, false, false); // UPDATE
    OK(dns_msg_read(hm_bytes_of(query, len), &q));
    len = dns_answer(&w.source, &q, DNS_BY_UDP, NOW_S, answer);
    OK(dns_msg_read(hm_bytes_of(answer, len), &m));
    assert_int_equal(dns_msg_rcode(&m), DNS_NOTIMP);
    len = dns_query_write(query, 9, 0, &n, DNS_TYPE_AAAA, false, false);
    query[len - DNS_OPT_BYTES + 6] = 1; // EDNS version 1
    OK(dns_msg_read(hm_bytes_of(query, len), &q));
    len = dns_answer(&w.source, &q, DNS_BY_UDP, NOW_S, answer);
    OK(dns_msg_read(hm_bytes_of(answer, len), &m));
    assert_int_equal(dns_msg_rcode(&m), DNS_BADVERS);
    // An answer is no question: nothing comes back.
    len = dns_query_write(query, 9, DNS_QR, &n, DNS_TYPE_AAAA, false, false);
    OK(dns_msg_read(hm_bytes_of(query, len), &q));
    assert_int_equal(dns_answer(&w.source, &q, DNS_BY_UDP, NOW_S, answer), 0);
    // What does not fit into 512 bytes says so; with EDNS it fits.
    hm_buf r = {0};
    char text[64];
    for (unsigned i = 0; i < 40; i++) {
        snprintf(text, sizeof text, "fd48::%x", i + 1);
        put(&r, DNS_TYPE_AAAA, 60, text);
    }
    zone_put(&w, "big.dev.internal", &r, HM_TIME_NEVER);
    ask_by(&w, "big.dev.internal", DNS_TYPE_AAAA, false, DNS_BY_UDP, &m);
    assert_true(!(m.flags & DNS_TC) && m.counts[DNS_ANSWER] == 40);
    n = name_of("big.dev.internal");
    len = dns_query_write(query, 9, 0, &n, DNS_TYPE_AAAA, false, false) - DNS_OPT_BYTES;
    query[11] = 0;
    OK(dns_msg_read(hm_bytes_of(query, len), &q));
    assert_false(q.has_edns);
    len = dns_answer(&w.source, &q, DNS_BY_UDP, NOW_S, answer);
    assert_true(len <= DNS_UDP_MIN);
    OK(dns_msg_read(hm_bytes_of(answer, len), &m));
    assert_true((m.flags & DNS_TC) && m.counts[DNS_ANSWER] == 0 && !m.has_edns);
    world_free(&w);
}

// However names came and went, the zone is the same.
static void test_zone(void **state)
{
    (void)state;
    dns_zone *z;
    dns_name apex = name_of("z"), n;
    hm_bytes r;
    OK(dns_zone_open(&apex, &hm_random_system, &z));
    n = name_of("a.b.c.z");
    OK(dns_zone_set(z, &n, hm_bytes_str("x"), 10));
    assert_int_equal(dns_zone_count(z), 4);
    n = name_of("B.c.Z");
    assert_true(dns_zone_get(z, &n, &r) && r.len == 0);
    OK(dns_zone_set(z, &n, hm_bytes_str("y"), 20));
    OK(dns_zone_set(z, &n, hm_bytes_str("yy"), 20));
    assert_true(dns_zone_get(z, &n, &r) && r.len == 2);
    n = name_of("a.b.c.z");
    dns_zone_remove(z, &n);
    dns_zone_remove(z, &n);
    assert_false(dns_zone_get(z, &n, &r));
    n = name_of("b.c.z");
    dns_zone_set_time(z, 19);
    assert_true(dns_zone_get(z, &n, &r) && r.len == 2);
    dns_zone_set_time(z, 20);
    assert_false(dns_zone_get(z, &n, &r));
    dns_zone_remove(z, &n);
    assert_int_equal(dns_zone_count(z), 0);
    dns_zone_close(z);
}

// ---- the cache and the forwarder ----------------------------------------------------------------

static size_t make_reply(const char *name, uint32_t ttl, uint16_t rcode, bool soa, uint8_t *out)
{
    dns_writer w;
    dns_name n = name_of(name);
    const uint8_t addr[16] = {0x20, 1};
    uint8_t data[32] = {0}; // root, root, five numbers
    data[21] = 7;           // the minimum
    dns_writer_begin(&w, out, 2048, DNS_OPT_BYTES, 0, DNS_QR | DNS_RD | DNS_RA, &n, DNS_TYPE_AAAA,
                     DNS_CLASS_IN);
    if (rcode == 0 && !soa)
        dns_writer_rr(&w, DNS_ANSWER, &n, DNS_TYPE_AAAA, DNS_CLASS_IN, ttl, hm_bytes_of(addr, 16));
    if (soa)
        dns_writer_rr(&w, DNS_AUTHORITY, &n, DNS_TYPE_SOA, DNS_CLASS_IN, ttl,
                      hm_bytes_of(data, 22));
    dns_writer_opt(&w, 1232, rcode, false, -1, 0);
    return dns_writer_end(&w, rcode);
}

static dns_msg question(const char *name)
{
    static uint8_t bytes[DNS_QUERY_MAX];
    dns_msg q;
    dns_name n = name_of(name);
    size_t len = dns_query_write(bytes, 77, DNS_RD, &n, DNS_TYPE_AAAA, false, false);
    OK(dns_msg_read(hm_bytes_of(bytes, len), &q));
    return q;
}

static void test_cache(void **state)
{
    (void)state;
    dns_cache *c;
    uint8_t reply[2048];
    size_t len, got;
    char name[32];
    dns_msg q = question("Example.org"), m;
    OK(dns_cache_open(&hm_random_system, &c));
    assert_int_equal(dns_cache_get(c, &q, DNS_BY_TCP, 100, answer), 0);
    len = make_reply("example.org", 60, 0, false, reply);
    OK(dns_cache_take(c, &q, hm_bytes_of(reply, len), DNS_BY_TCP, 100, answer, &got));
    got = dns_cache_get(c, &q, DNS_BY_TCP, 120, answer);
    OK(dns_msg_read(hm_bytes_of(answer, got), &m));
    dns_cursor at = {0};
    dns_rr rr;
    assert_true(dns_msg_next(&m, &at, &rr) && rr.ttl == 40 && m.id == 77);
    assert_int_equal(dns_cache_get(c, &q, DNS_BY_TCP, 160, answer), 0);
    assert_int_equal(dns_cache_count(c), 0);
    // What is not there is kept for as long as the zone's SOA says.
    q = question("no.example.org");
    len = make_reply("no.example.org", 60, DNS_NXDOMAIN, true, reply);
    OK(dns_cache_take(c, &q, hm_bytes_of(reply, len), DNS_BY_TCP, 100, answer, &got));
    assert_true(dns_cache_get(c, &q, DNS_BY_TCP, 106, answer) > 0);
    assert_int_equal(dns_cache_get(c, &q, DNS_BY_TCP, 107, answer), 0);
    len = make_reply("no.example.org", 60, DNS_NXDOMAIN, false, reply); // without: not at all
    OK(dns_cache_take(c, &q, hm_bytes_of(reply, len), DNS_BY_TCP, 100, answer, &got));
    assert_int_equal(dns_cache_get(c, &q, DNS_BY_TCP, 100, answer), 0);
    // An answer to another question.
    len = make_reply("other.example.org", 60, 0, false, reply);
    assert_int_equal(dns_cache_take(c, &q, hm_bytes_of(reply, len), DNS_BY_TCP, 100, answer, &got),
                     HM_E_PARSE);
    // It is never larger than it may be, and forgets what was used longest ago.
    for (unsigned i = 0; i < DNS_CACHE_ANSWERS + 10; i++) {
        snprintf(name, sizeof name, "n%u.example.org", i);
        q = question(name);
        len = make_reply(name, 60, 0, false, reply);
        OK(dns_cache_take(c, &q, hm_bytes_of(reply, len), DNS_BY_TCP, 100, answer, &got));
        assert_true(dns_cache_count(c) <= DNS_CACHE_ANSWERS &&
                    dns_cache_bytes(c) <= DNS_CACHE_BYTES);
    }
    q = question("n5.example.org");
    assert_int_equal(dns_cache_get(c, &q, DNS_BY_TCP, 100, answer), 0);
    assert_true(dns_cache_get(c, &q, DNS_BY_TCP, 100, answer) == 0);
    q = question("n100.example.org");
    assert_true(dns_cache_get(c, &q, DNS_BY_TCP, 100, answer) > 0);
    dns_cache_close(c);
}

typedef struct upstream {
    unsigned sent, forgotten, slot, server, answered;
    uint16_t rcode;
    bool refuse;
} upstream;

static hm_err up_send(void *ctx, unsigned slot, unsigned server, hm_bytes bytes)
{
    upstream *u = ctx;
    dns_msg m;
    OK(dns_msg_read(bytes, &m));
    assert_int_equal(m.id, 0);
    u->sent++;
    u->slot = slot;
    u->server = server;
    return u->refuse ? HM_E_UNREACHABLE : HM_OK;
}
static void up_forget(void *ctx, unsigned slot)
{
    (void)slot;
    ((upstream *)ctx)->forgotten++;
}

static upstream up;
static void on_done(dns_wait *w, hm_bytes bytes)
{
    dns_msg m;
    (void)w;
    OK(dns_msg_read(bytes, &m));
    up.answered++;
    up.rcode = dns_msg_rcode(&m);
    assert_int_equal(m.id, 77);
}

static void test_forwarder(void **state)
{
    (void)state;
    static dns_wait waits[DNS_FORWARD_WAITS + 1];
    dns_forward *f;
    uint8_t reply[2048];
    dns_forward_counters n;
    uint64_t now = 1000000;
    dns_msg q = question("example.org");
    up = (upstream){0};
    for (size_t i = 0; i <= DNS_FORWARD_WAITS; i++)
        waits[i].done = on_done;
    OK(dns_forward_open(&(dns_forward_config){.servers = 2,
                                              .send = up_send,
                                              .forget = up_forget,
                                              .ctx = &up,
                                              .random = &hm_random_system},
                        &f));
    // Two who ask the same wait for one answer; the third has it from the cache.
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[0], answer), 0);
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_TCP, now, &waits[1], answer), 0);
    assert_int_equal(up.sent, 1);
    size_t len = make_reply("example.org", 60, 0, false, reply);
    dns_forward_answer(f, up.slot, hm_bytes_of(reply, len), now);
    assert_true(up.answered == 2 && up.rcode == DNS_NOERROR);
    assert_true(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[0], answer) > 0);
    dns_forward_answer(f, up.slot, hm_bytes_of(reply, len), now); // late, of nobody
    // A server that fails, says nonsense or nothing: the next one; after three tries none is left.
    q = question("two.example.org");
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[0], answer), 0);
    assert_int_equal(up.server, 0);
    dns_forward_failed(f, up.slot, now);
    assert_int_equal(up.server, 1);
    dns_forward_answer(f, up.slot, hm_bytes_str("nonsense"), now);
    assert_int_equal(up.server, 0);
    dns_forward_tick(f, now + DNS_FORWARD_TRY_MS - 1);
    assert_int_equal(up.answered, 2);
    dns_forward_tick(f, now + DNS_FORWARD_TRY_MS);
    assert_true(up.answered == 3 && up.rcode == DNS_SERVFAIL && up.forgotten == 1);
    // One that cannot even be asked.
    up.refuse = true;
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[0], answer), 0);
    for (unsigned i = 0; i < DNS_FORWARD_TRIES; i++)
        dns_forward_tick(f, now);
    assert_true(up.answered == 4 && up.rcode == DNS_SERVFAIL);
    up.refuse = false;
    // Who leaves is not told.
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[0], answer), 0);
    dns_forward_leave(&waits[0]);
    len = make_reply("two.example.org", 60, 0, false, reply);
    dns_forward_answer(f, up.slot, hm_bytes_of(reply, len), now);
    assert_int_equal(up.answered, 4);
    // Servers that are believed no more: who waits is told, nothing that they said is kept, and who
    // asks anew has a new answer.
    q = question("drop.example.org");
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[0], answer), 0);
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[1], answer), 0);
    up.forgotten = 0;
    dns_forward_drop(f, now);
    assert_true(up.answered == 6 && up.rcode == DNS_SERVFAIL && up.forgotten == 1);
    len = make_reply("drop.example.org", 60, 0, false, reply);
    dns_forward_answer(f, up.slot, hm_bytes_of(reply, len), now); // late
    dns_forward_count(f, &n);
    assert_true(n.cached == 0 && n.under_way == 0);
    dns_msg first = question("example.org"); // which was kept
    assert_int_equal(dns_forward_ask(f, &first, DNS_BY_UDP, now, &waits[0], answer), 0);
    dns_forward_leave(&waits[0]);
    assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[0], answer), 0);
    dns_forward_answer(f, up.slot, hm_bytes_of(reply, len), now);
    assert_true(up.answered == 7 && up.rcode == DNS_NOERROR);
    dns_forward_drop(f, now); // the question that nobody waits for any more, too
    // No more wait than may, and no more questions are out than may be.
    q = question("many.example.org");
    for (unsigned i = 0; i < DNS_FORWARD_WAITS; i++)
        assert_int_equal(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[i], answer), 0);
    assert_true(dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[DNS_FORWARD_WAITS], answer) > 0);
    for (unsigned i = 0; i < DNS_FORWARD_WAITS; i++)
        dns_forward_leave(&waits[i]);
    for (unsigned i = 0; i < DNS_FORWARD_SLOTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "m%u.example.org", i);
        q = question(name);
        size_t at_once = dns_forward_ask(f, &q, DNS_BY_UDP, now, &waits[i], answer);
        assert_true((at_once > 0) == (i == DNS_FORWARD_SLOTS - 1)); // one is out already
    }
    for (unsigned i = 0; i + 1 < DNS_FORWARD_SLOTS; i++)
        dns_forward_leave(&waits[i]);
    dns_forward_count(f, &n);
    assert_int_equal(n.refused, 2);
    dns_forward_close(f);
}

static void test_limits(void **state)
{
    (void)state;
    static dns_limit l;
    struct in6_addr a = {.s6_addr = {0x20, 1, 0xd, 0xb8, 0, 1}}, b = a, c = a;
    b.s6_addr[15] = 9; // of the same /64
    c.s6_addr[7] = 9;  // of another
    const struct in6_addr here = IN6ADDR_LOOPBACK_INIT;
    uint64_t now = 5000000;
    dns_limit_init(&l, 10, 2, &hm_random_system);
    for (unsigned i = 0; i < 20; i++)
        assert_true(dns_limit_ask(&l, i & 1 ? &a : &b, now));
    assert_false(dns_limit_ask(&l, &a, now));
    assert_true(dns_limit_ask(&l, &c, now) && dns_limit_ask(&l, &here, now));
    assert_true(dns_limit_ask(&l, &a, now + 100000)); // one more each tenth of a second
    assert_false(dns_limit_ask(&l, &a, now + 100000));
    assert_true(dns_limit_opened(&l, &a, now) && dns_limit_opened(&l, &b, now));
    assert_false(dns_limit_opened(&l, &a, now));
    dns_limit_closed(&l, &b);
    assert_true(dns_limit_opened(&l, &a, now));
    // A crowd of addresses finds a table that does not grow, and those who ask on are served.
    unsigned served = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        struct in6_addr x = {.s6_addr = {0x20, 2}};
        memcpy(x.s6_addr + 4, &i, sizeof i);
        served += dns_limit_ask(&l, &x, now + 200000);
    }
    assert_true(served >= 1000 && served < 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_hostile_messages),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_records_refused),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_made_up_names),
        cmocka_unit_test(test_delegations),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_zone),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_forwarder),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
