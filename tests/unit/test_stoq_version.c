// Which version of QUIC two ends agree on (RFC 9368, RFC 9369), and that nobody between them has a
// say in it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_pair.h"

#define V1 STOQ_VERSION_1
#define V2 STOQ_VERSION_2

static stoq_ids ids;
static pair_world p;
static stoq_config config[2];

static int make_ids(void **state)
{
    (void)state;
    stoq_ids_make(&ids);
    return 0;
}

static int free_ids(void **state)
{
    (void)state;
    stoq_ids_free(&ids);
    return 0;
}

// Versions of long packets that were sent, by side: bit 0 is version 1, bit 1 version 2; and of
// those that are not Initial.
static unsigned seen[2], seen_handshake[2];

static bool watch(pair_world *at, unsigned to, uint8_t *bytes, size_t len)
{
    unsigned from = !to;
    (void)at;
    for (size_t k = 0; k < len && bytes[k] & 0x80;) {
        stoq_packet pkt;
        if (stoq_packet_parse(bytes + k, len - k, &pkt) != HM_OK || pkt.type == STOQ_PACKET_VERSION)
            break;
        unsigned bit = pkt.version == V1 ? 1 : 2;
        seen[from] |= bit;
        if (pkt.type != STOQ_PACKET_INITIAL)
            seen_handshake[from] |= bit;
        k += pkt.len;
    }
    return true;
}

static void begin(uint32_t c0, uint32_t c1, uint32_t s0, uint32_t s1)
{
    pair_begin(&p, 1);
    config[PAIR_CLIENT] = (stoq_config){.client_tls = ids.client, .versions = {c0, c1}};
    config[PAIR_SERVER] = (stoq_config){.server_tls = ids.server, .versions = {s0, s1}};
    memset(seen, 0, sizeof seen);
    memset(seen_handshake, 0, sizeof seen_handshake);
    p.watch = watch;
}

// Every pair of lists: what is spoken in the end, and whether it took another first flight.
static void test_agreement(void **state)
{
    static const struct {
        uint32_t client[2], server[2], version;
        bool answered; // by a Version Negotiation packet
    } cases[] = {
        {{0}, {0}, V1, false},                                            // the default
        {{V1, V2}, {V1, V2}, V1, false}, {{V1, V2}, {V2, V1}, V2, false}, // the server changes
        {{V2, V1}, {V1, V2}, V1, false}, {{V2, V1}, {V2, V1}, V2, false}, {{V2}, {V2}, V2, false},
        {{V2}, {V1, V2}, V2, false}, // the client offers nothing else
        {{V1}, {V2, V1}, V1, false},     {{V1, V2}, {V2}, V2, true}, // the client begins anew
        {{V2, V1}, {V1}, V1, true},
    };
    (void)state;
    for (int retry = 0; retry < 2; retry++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            stoq_endpoint_stats st;
            begin(cases[i].client[0], cases[i].client[1], cases[i].server[0], cases[i].server[1]);
            config[PAIR_SERVER].always_retry = retry;
            if (!pair_exchange(&p, config))
                fail_msg("case %zu: closed with %llx", i,
                         (unsigned long long)p.side[PAIR_CLIENT].code);
            for (int k = 0; k < 2; k++) {
                assert_int_equal(stoq_conn_version(p.side[k].conn), cases[i].version);
                // Only Initial packets are in the version that is left (RFC 9369, section 4.1), and
                // Retry packets.
                if (!retry)
                    assert_int_equal(seen_handshake[k], cases[i].version == V1 ? 1 : 2);
            }
            stoq_endpoint_get_stats(p.side[PAIR_SERVER].ep, &st);
            assert_true((st.versions_sent > 0) ==
                        cases[i].answered); // a first flight is two datagrams
            assert_true((st.retries_sent > 0) == (retry > 0));
            assert_int_equal(stoq_conn_update_keys(p.side[PAIR_CLIENT].conn), HM_OK);
            pair_run(&p, 100000);
            for (int k = 0; k < 2; k++)
                assert_int_equal(pair_stats(&p, (unsigned)k).key_updates, 1);
            pair_end(&p);
        }
}

static void test_nothing_in_common(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        begin(i ? V2 : V1, 0, i ? V1 : V2, 0);
        assert_false(pair_exchange(&p, config));
        assert_int_equal(p.side[PAIR_CLIENT].closed, 1);
        assert_true(p.side[PAIR_CLIENT].code == STOQ_CLOSED_VERSION);
        pair_end(&p);
    }
}

// ---- somebody between ---------------------------------------------------------------------------

static unsigned forgeries;

// Answers the client's first packet in the server's place: it speaks only version 1, or 2.
static bool forge_answer(pair_world *at, unsigned to, uint8_t *bytes, size_t len)
{
    static const uint32_t lists[2][STOQ_MAX_VERSIONS] = {{V1}, {V2}};
    stoq_packet pkt;
    if (to == PAIR_SERVER && forgeries++ == 0) {
        uint8_t out[STOQ_VERSION_PACKET_MAX];
        assert_int_equal(stoq_packet_parse(bytes, len, &pkt), HM_OK);
        size_t n = stoq_version_packet_write(out, lists[pkt.version == V1],
                                             hm_bytes_of(pkt.dcid.id, pkt.dcid.len),
                                             hm_bytes_of(pkt.scid.id, pkt.scid.len), 7);
        pair_fly(at, PAIR_CLIENT, out, n);
        return false;
    }
    return true;
}

// The client begins anew as it was told, and finds in the handshake that it was told wrongly.
static void test_downgrade(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        begin(i ? V2 : V1, i ? V1 : V2, V1, V2);
        forgeries = 0;
        p.watch = forge_answer;
        assert_false(pair_exchange(&p, config));
        assert_int_equal(p.side[PAIR_CLIENT].opened, 0);
        // Even where the server changes back: what it was begun anew with is not what the client
        // would have taken.
        assert_true(p.side[PAIR_CLIENT].code == STOQ_VERSION_NEGOTIATION_ERROR);
        pair_run(&p, 1000000);
        assert_int_equal(p.side[PAIR_SERVER].failed, 1);
        assert_true(p.side[PAIR_SERVER].code == STOQ_VERSION_NEGOTIATION_ERROR);
        pair_end(&p);
    }
}

static uint32_t rewritten;

// Rewrites the version in a server's first packets, which no key of that version opens.
static bool rewrite(pair_world *at, unsigned to, uint8_t *bytes, size_t len)
{
    (void)at, (void)len;
    if (to == PAIR_CLIENT && bytes[0] & 0x80 && rewritten < 3) {
        rewritten++;
        memcpy(bytes + 1, (uint8_t[]){0x6b, 0x33, 0x43, 0xcf}, 4);
        bytes[0] ^= 0x10;
    }
    return true;
}

static void test_rewritten_packets(void **state)
{
    (void)state;
    begin(V1, V2, V1, V2);
    rewritten = 0;
    p.watch = rewrite;
    assert_true(pair_exchange(&p, config));
    assert_int_equal(rewritten, 3);
    assert_int_equal(stoq_conn_version(p.side[PAIR_CLIENT].conn), V1);
    pair_end(&p);
}

// A server answers a version that it does not speak, in full datagrams only.
static void test_small_first_packets(void **state)
{
    uint8_t bytes[1200] = {0xc0, 0x6b, 0x33, 0x43, 0xcf, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0};
    stoq_endpoint_stats st;
    (void)state;
    begin(V1, 0, V1, 0);
    pair_fly(&p, PAIR_SERVER, bytes, 1199);
    assert_true(pair_exchange(&p, config));
    stoq_endpoint_get_stats(p.side[PAIR_SERVER].ep, &st);
    assert_int_equal(st.versions_sent, 0);
    pair_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agreement),           cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_downgrade),           cmocka_unit_test(test_rewritten_packets),
        cmocka_unit_test(test_small_first_packets),
    };
    return cmocka_run_group_tests(tests, make_ids, free_ids);
}
