// Peers that withhold, or give too much: flow control, acknowledgements, congestion, keys.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_peer.h"

// ---- flow control -------------------------------------------------------------------------------

// A stream's bytes [offset, offset + len), all zero.
static void say_data(peer *p, uint64_t id, uint64_t offset, size_t len, bool fin)
{
    uint8_t mem[1500] = {0}, *q = mem;
    *q++ = (uint8_t)(STOQ_FRAME_STREAM | STOQ_STREAM_OFF | (fin ? STOQ_STREAM_FIN : 0));
    q = stoq_varint_write(stoq_varint_write(q, id), offset);
    peer_say(p, mem, (size_t)(q - mem) + len);
}

// Acknowledgements are not paced, so that a fast sender on a long path gets its new limits: what a
// round trip's worth of them takes is more than the pace of a new connection.
static void test_limits_are_raised_under_load(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    p.now += 200 * MS; // a long round trip
    peer_ack_all(&p);
    peer_turn(&p);
    peer_forget(&p);
    uint64_t sent = 0, window = p.c->rx.max;
    while (sent + 2000 <= window) { // on streams that need no new limit of their own
        for (int i = 0; i < 2; i++, sent += 1000)
            say_data(&p, sent / 400000 * 4, sent % 400000, 1000, false);
        peer_turn(&p);
    }
    peer_pass(&p, 1000 * MS);
    assert_true(p.seen[STOQ_FRAME_MAX_DATA] > 0);
    assert_true(p.last[STOQ_FRAME_MAX_DATA].value > sent);
    peer_end(&p);
}

static void on_stream_stop(void *user, stoq_stream *s)
{
    (void)user;
    assert_int_equal(stoq_stream_stop_code(s), 7);
    assert_int_equal(stoq_stream_reset_code(s), 9);
}

// The codes of a reset of the one direction and of a stop of the other are two.
static void test_codes_of_both_directions(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    p.ep->callbacks.stream_writable = on_stream_stop;
    uint8_t mem[32], *q = stoq_frame_write3(mem, STOQ_FRAME_RESET_STREAM, 0, 9, 0);
    q = stoq_frame_write2(q, STOQ_FRAME_STOP_SENDING, 0, 7);
    peer_say(&p, mem, (size_t)(q - mem));
    peer_turn(&p);
    assert_int_equal(p.last[STOQ_FRAME_RESET_STREAM].code, 7);
    peer_end(&p);
}

// ---- acknowledgements ---------------------------------------------------------------------------

// A peer that acknowledges nothing and sends without end makes neither records grow nor the
// acknowledgements for it stop.
static void test_unacknowledged_costs_little(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    for (int i = 0; i < 140000; i++) { // more than records may be
        peer_say1(&p, STOQ_FRAME_PING);
        if (i % 2 == 1)
            peer_turn(&p);
    }
    assert_int_equal(p.last[STOQ_FRAME_ACK].ack_largest, p.pn - 1);
    assert_true(p.c->spaces[STOQ_LEVEL_APP].sent_cap <= 64);
    peer_end(&p);
}

// The records of a burst are kept for the next one, and given back when there is none for a while:
// memory that is given back and taken again between two bursts costs more than the packets do.
static void test_records_outlive_a_burst(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    const stoq_space *app = &p.c->spaces[STOQ_LEVEL_APP];
    for (int burst = 0; burst < 3; burst++) {
        const stoq_sent *before = app->sent;
        for (int i = 0; i < 100; i++) {
            stoq_conn_ping(p.c);
            peer_turn(&p);
        }
        assert_int_equal(app->sent_cap, 128);
        assert_true(burst == 0 || app->sent == before);
        peer_ack_all(&p);
        peer_say1(&p, STOQ_FRAME_PING); // the delay of its acknowledgement is a timer
        peer_pass(&p, 30 * MS);
        assert_true(app->sent_head == app->sent_tail);
    }
    peer_pass(&p, 2000 * MS);
    assert_true(app->sent_cap <= 8);
    peer_end(&p);
}

// Only losses without anything acknowledged between them are persistent congestion (RFC 9002,
// section 7.6.2).
static void test_persistent_congestion(void **state)
{
    (void)state;
    for (int between = 0; between < 2; between++) {
        peer p;
        peer_begin(&p, true);
        p.now += 10 * MS;
        peer_ack_all(&p);
        peer_turn(&p);
        uint64_t first = p.largest + 1;
        for (int i = 0; i < 100; i++) { // over two seconds, its own probes among them
            peer_pass(&p, 20 * MS);
            stoq_conn_ping(p.c);
            peer_turn(&p);
        }
        uint64_t last = p.largest;
        if (between) // lost: the first one, and the fourth from the end
            peer_ack(&p,
                     (const uint64_t[][2]){{last - 2, last}, {first + 1, last - 4}, {0, first - 1}},
                     3);
        else
            peer_ack(&p, (const uint64_t[][2]){{last - 2, last}, {0, first - 1}}, 2);
        assert_true(p.c->stats.packets_lost >= 2);
        assert_true((p.c->cc.cwnd <= 4 * p.c->cc.mss) == !between);
        peer_end(&p);
    }
}

static void say_limits(peer *p, uint64_t id, uint64_t conn, uint64_t stream)
{
    uint8_t mem[32], *q = stoq_frame_write1(mem, STOQ_FRAME_MAX_DATA, conn);
    q = stoq_frame_write2(q, STOQ_FRAME_MAX_STREAM_DATA, id, stream);
    peer_say(p, mem, (size_t)(q - mem));
}

// A congestion window that is never full does not grow (RFC 9002, section 7.8): else it would allow
// any burst once the peer's window opens.
static void test_window_grows_by_use(void **state)
{
    (void)state;
    for (int full = 0; full < 2; full++) {
        peer p;
        stoq_stream *s;
        static const uint8_t zeros[65536];
        peer_begin_with(&p, false, (stoq_limits){.conn_window_bytes = 65536}, STOQ_LOCAL_CID);
        peer_ack_all(&p);
        assert_int_equal(stoq_stream_open(p.c, false, &s), HM_OK);
        for (int i = 0; i < 300; i++) {
            size_t took;
            do
                assert_int_equal(
                    stoq_stream_send(s, hm_bytes_of(zeros, sizeof zeros), false, &took), HM_OK);
            while (took == sizeof zeros);
            peer_pass(&p, 10 * MS);
            peer_ack_all(&p);
            uint64_t more = p.c->tx_used + (full ? 1 << 20 : 65536);
            say_limits(&p, stoq_stream_id(s), more, more);
        }
        assert_true(full ? p.c->cc.cwnd > 8 * 65536 : p.c->cc.cwnd < 4 * 65536);
        peer_end(&p);
    }
}

// Who acknowledges what it did not get, to be sent more, is found out: some numbers are left out.
static void test_optimistic_ack(void **state)
{
    (void)state;
    for (int honest = 0; honest < 2; honest++) {
        peer p;
        peer_begin(&p, true);
        for (int i = 0; i < 5000 && !p.closed; i++) {
            stoq_conn_ping(p.c);
            peer_pass(&p, 1 * MS);
            if (honest)
                peer_ack_all(&p);
            else
                peer_ack(&p, (const uint64_t[][2]){{0, p.largest}}, 1);
            peer_turn(&p);
        }
        assert_true(p.closed == !honest);
        assert_true(honest || p.close_code == STOQ_PROTOCOL_VIOLATION);
        peer_end(&p);
    }
}

// A client whose handshake is complete and not confirmed: its server may have no keys any more for
// what it repeats of the handshake, so each probe goes in both spaces (RFC 9002, section 6.2.4); an
// acknowledgement of a 1-RTT packet confirms the handshake (RFC 9001, section 4.1.2).
static void test_probes_of_both_spaces(void **state)
{
    (void)state;
    peer p;
    uint8_t finished[100] = {1};
    peer_begin(&p, false);
    peer_ack_all(&p);
    stoq_space *s = &p.c->spaces[STOQ_LEVEL_HANDSHAKE];
    p.c->confirmed = s->discarded = false;
    assert_int_equal(stoq_keys_init(&s->tx, &stoq_versions[0], HM_AES_128_GCM, peer_secrets[0], 32),
                     HM_OK);
    assert_int_equal(stoq_sendbuf_append(&s->crypto_out, hm_bytes_of(finished, sizeof finished)),
                     HM_OK);
    stoq_conn_ping(p.c);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PING], 1);
    for (int i = 0; i < 3; i++) {
        peer_forget(&p);
        peer_pass(&p, 1500 * MS << i);
        assert_true(p.seen[STOQ_FRAME_PING] > 0);
    }
    peer_ack_all(&p);
    assert_true(p.c->confirmed);
    peer_end(&p);
}

// ---- keys ---------------------------------------------------------------------------------------

// Keys are worn out by what they sealed and by what they failed to open (RFC 9001, section 6.6).
static void test_key_limits(void **state)
{
    (void)state;
    for (int forged = 0; forged < 2; forged++) {
        peer p;
        peer_begin(&p, true);
        stoq_space *s = &p.c->spaces[STOQ_LEVEL_APP];
        if (forged) {
            p.c->forged_packets = stoq_cipher_open_limit(HM_AES_128_GCM) - 2;
        } else {
            s->tx.aead.packets = stoq_cipher_seal_limit(HM_AES_128_GCM) - 1;
        }
        for (int i = 0; i < 2; i++) {
            assert_false(p.closed);
            if (forged) {
                stoq_cid id = p.c->local[0].cid;
                uint8_t out[60] = {0x40};
                struct sockaddr_in6 from = forge_address(p.port);
                memcpy(out + 1, id.id, id.len);
                stoq_endpoint_receive(p.ep, &from, out, sizeof out, sizeof out, 0, p.now);
            } else {
                stoq_conn_ping(p.c);
            }
            peer_turn(&p);
        }
        assert_true(p.closed);
        assert_int_equal(p.close_code, STOQ_AEAD_LIMIT_REACHED);
        peer_forget(&p);
        peer_pass(&p, 10000 * MS);
        assert_int_equal(p.datagrams, 0);
        peer_end(&p);
    }
}

// Keys are changed once for each acknowledgement at most (RFC 9001, section 6.1), for each change
// costs something.
static void test_key_updates_without_pause(void **state)
{
    (void)state;
    for (int patient = 0; patient < 2; patient++) {
        peer p;
        peer_begin(&p, true);
        for (int i = 0; i < 3 && !p.closed; i++) {
            assert_int_equal(stoq_keys_update(&p.tx, NULL), HM_OK);
            p.phase = !p.phase;
            peer_say1(&p, STOQ_FRAME_PING);
            if (!patient)
                continue;
            // The connection follows at once, and acknowledges with its new keys.
            assert_int_equal(stoq_keys_update(&p.rx, NULL), HM_OK);
            peer_pass(&p, 30 * MS);
            assert_int_equal(p.last[STOQ_FRAME_ACK].ack_largest, p.pn - 1);
        }
        peer_turn(&p);
        assert_true(p.closed == !patient);
        assert_true(patient || p.close_code == STOQ_KEY_UPDATE_ERROR);
        assert_true(!patient || p.c->key_updates == 3);
        peer_end(&p);
    }
}

// A server may change keys as soon as its handshake is complete, before the client knows that it is
// confirmed: all that tells the client so comes under the new keys then.
static void test_key_update_before_confirmed(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, false);
    p.c->confirmed = false;
    assert_int_equal(stoq_keys_update(&p.tx, NULL), HM_OK);
    p.phase = true;
    peer_say1(&p, STOQ_FRAME_HANDSHAKE_DONE);
    assert_true(p.c->confirmed);
    assert_int_equal(p.c->key_updates, 1);
    peer_end(&p);
}

// Who follows an update needs no acknowledgement of its own packets before.
static void test_key_update_is_followed(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    peer_ack_all(&p);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stoq_conn_update_keys(p.c), HM_OK);
        assert_int_equal(stoq_keys_update(&p.rx, NULL), HM_OK);
        peer_turn(&p);
        assert_int_equal(stoq_conn_update_keys(p.c), HM_E_AGAIN);
        assert_int_equal(stoq_keys_update(&p.tx, NULL), HM_OK);
        p.phase = !p.phase;
        peer_ack_all(&p); // asks for no acknowledgement itself
        peer_turn(&p);
    }
    assert_false(p.closed);
    peer_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_are_raised_under_load),
        cmocka_unit_test(test_codes_of_both_directions),
        cmocka_unit_test(test_unacknowledged_costs_little),
        cmocka_unit_test(test_records_outlive_a_burst),
        cmocka_unit_test(test_persistent_congestion),
        cmocka_unit_test(test_window_grows_by_use),
        cmocka_unit_test(test_optimistic_ack),
        cmocka_unit_test(test_probes_of_both_spaces),
        cmocka_unit_test(test_key_limits),
        cmocka_unit_test(test_key_updates_without_pause),
        cmocka_unit_test(test_key_update_before_confirmed),
        cmocka_unit_test(test_key_update_is_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
