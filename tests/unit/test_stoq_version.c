// Which version of QUIC two ends agree on (RFC 9368, RFC 9369), and that nobody between them has a
// say in it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "stoq/session.h"
#include "stoq_pair.h"

#define V1 STOQ_VERSION_1
#define V2 STOQ_VERSION_2

static pair_world p;
static stoq_config config[2];

#define LONG UINT64_C(10000000) // microseconds

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
    config[PAIR_CLIENT] = (stoq_config){.client_tls = pair_ids.client, .versions = {c0, c1}};
    config[PAIR_SERVER] = (stoq_config){.server_tls = pair_ids.server, .versions = {s0, s1}};
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

// ---- sessions -----------------------------------------------------------------------------------

static bool opened_twice(const pair_world *w)
{
    return w->side[PAIR_CLIENT].opened > 1 && w->side[PAIR_SERVER].opened > 1;
}
static bool opened_again(const pair_world *w)
{
    return opened_twice(w) && w->side[PAIR_SERVER].received.len > 0;
}

// A first connection, in version 2 by the server's choice, and one that hands in its ticket, with
// early data, at a server and by a client that speak these versions then.
static unsigned resume(uint32_t c0, uint32_t c1, uint32_t s0, uint32_t s1)
{
    stoq_stream *st;
    size_t took;
    pair_begin(&p, 3);
    p.watch = watch;
    pair_endpoint(&p, PAIR_SERVER,
                  (stoq_config){.server_tls = pair_ids.open_server,
                                .tickets = 1,
                                .early_data = true,
                                .versions = {V2, V1}});
    pair_endpoint(&p, PAIR_CLIENT, (stoq_config){.client_tls = pair_ids.open_client});
    (void)pair_connect(&p);
    assert_true(pair_run_until(&p, pair_both_open, LONG));
    pair_run(&p, LONG / 10);
    assert_int_equal(p.side[PAIR_CLIENT].sessions, 1);
    const uint32_t lists[2][2] = {{c0, c1}, {s0, s1}};
    for (int i = 0; i < 2; i++)
        memcpy(p.side[i].ep->versions, lists[i], sizeof lists[i]);
    memset(seen, 0, sizeof seen);
    stoq_conn *c = pair_resume(&p, hm_buf_bytes(&p.side[PAIR_CLIENT].session), true);
    if (stoq_stream_open(c, false, &st) != HM_OK) { // there was no session to hand in
        assert_true(pair_run_until(&p, opened_twice, LONG));
        assert_int_equal(stoq_stream_open(c, false, &st), HM_OK);
    }
    assert_int_equal(stoq_stream_send(st, hm_bytes_str("early"), true, &took), HM_OK);
    assert_true(pair_run_until(&p, opened_again, LONG));
    assert_true(hm_bytes_eq(hm_buf_bytes(&p.side[PAIR_SERVER].received), hm_bytes_str("early")));
    return p.side[PAIR_CLIENT].resumed;
}

// A ticket is for the version that it was given in (RFC 9369, section 5): the client begins in it,
// or without the ticket.
static void test_sessions(void **state)
{
    static const struct {
        uint32_t client[2], server[2], version;
        unsigned resumed, first; // bits of the versions in the client's long packets
    } cases[] = {
        {{V1, V2}, {V2, V1}, V2, 1, 2},
        {{V1}, {V2, V1}, V1, 0, 1},     // the client has forgotten version 2
        {{V1, V2}, {V1}, V1, 0, 3},     // so has the server: the client begins anew
        {{V1, V2}, {V1, V2}, V1, 1, 3}, // the server changes back, after the early data
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(
            resume(cases[i].client[0], cases[i].client[1], cases[i].server[0], cases[i].server[1]),
            cases[i].resumed);
        for (int k = 0; k < 2; k++)
            assert_int_equal(stoq_conn_version(p.side[k].conn), cases[i].version);
        assert_int_equal(seen[PAIR_CLIENT], cases[i].first);
        pair_end(&p);
    }
}

// A client that does hand in a ticket of version 2 in version 1 gets a whole handshake.
static void test_foreign_session(void **state)
{
    stoq_session s;
    hm_buf forged = {0};
    (void)state;
    (void)resume(V1, V2, V2, V1);
    hm_buf session = p.side[PAIR_CLIENT].session;
    assert_int_equal(stoq_session_decode(hm_buf_bytes(&session), NULL,
                                         hm_clock_wall_ms(&hm_clock_system) / 1000, &s),
                     HM_OK);
    assert_int_equal(s.params.chosen_version, V2);
    s.params.chosen_version = V1;
    assert_int_equal(stoq_session_encode(&s, &forged), HM_OK);
    stoq_session_free(&s);
    memcpy(p.side[PAIR_SERVER].ep->versions, (uint32_t[]){V1, V2}, sizeof(uint32_t[2]));
    p.side[0].opened = p.side[1].opened = 1;
    unsigned before = p.side[PAIR_CLIENT].resumed;
    (void)pair_resume(&p, hm_buf_bytes(&forged), false);
    assert_true(pair_run_until(&p, opened_again, LONG));
    assert_int_equal(p.side[PAIR_CLIENT].resumed, before);
    assert_int_equal(stoq_conn_version(p.side[PAIR_SERVER].conn), V1);
    hm_buf_free(&forged);
    pair_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agreement),           cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_downgrade),           cmocka_unit_test(test_rewritten_packets),
        cmocka_unit_test(test_small_first_packets), cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_foreign_session),
    };
    return cmocka_run_group_tests(tests, pair_make_ids, pair_free_ids);
}
