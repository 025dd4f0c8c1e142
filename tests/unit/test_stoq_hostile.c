// A peer that has the keys and does what it likes, one connection under test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "stoq_forge.h"

#define MS UINT64_C(1000)
#define TYPES 32

// ---- the peer -----------------------------------------------------------------------------------

typedef struct peer {
    hm_prng prng;
    hm_random random;
    stoq_endpoint *ep;
    stoq_conn *c; // NULL once closed
    bool conn_is_server;
    stoq_keys tx, rx;
    uint64_t pn; // next to be sent
    bool phase;
    uint64_t now;
    uint16_t port; // where the peer is
    bool closed;
    uint64_t close_code;
    // What the connection has sent since the last forget().
    unsigned datagrams, packets, seen[TYPES];
    size_t bytes, longest;
    uint16_t sent_to;
    stoq_packet packet;     // the last one's header
    stoq_frame last[TYPES]; // without data but for what is copied to `data`
    uint8_t data[TYPES][16];
    uint64_t largest; // packet number, ever
    stoq_ranges got;  // and all of them
} peer;

static const uint8_t secrets[2][32] = {{1}, {2}};

static void note_frames(peer *p, hm_bytes payload)
{
    const uint8_t *at = payload.ptr, *end = at + payload.len;
    while (at < end) {
        stoq_frame f = {0};
        uint64_t code;
        if (stoq_frame_parse(&at, end, &f, &code) != HM_OK)
            fail_msg("the connection sent a malformed frame");
        if (f.type >= TYPES)
            fail_msg("the connection sent a frame of type %llu", (unsigned long long)f.type);
        p->seen[f.type]++;
        memcpy(p->data[f.type], f.data.ptr, f.data.len < 16 ? f.data.len : 16);
        p->last[f.type] = f;
    }
}

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                     size_t segment)
{
    peer *p = ctx;
    for (size_t at = 0; at < len; at += segment) {
        uint8_t copy[2048];
        hm_bytes payload;
        uint64_t pn;
        size_t n = len - at < segment ? len - at : segment;
        p->datagrams++;
        p->bytes += n;
        p->longest = n > p->longest ? n : p->longest;
        p->sent_to = ntohs(to->sin6_port);
        memcpy(copy, bytes + at, n);
        if (stoq_packet_parse(copy, n, &p->packet) != HM_OK || !stoq_keys_ready(&p->rx) ||
            !forge_open(&p->rx, copy, n, p->largest + 1, &p->packet, &pn, &payload))
            continue;
        p->packets++;
        p->largest = pn;
        stoq_ranges_add(&p->got, pn);
        note_frames(p, payload);
    }
}

static void forget(peer *p)
{
    p->datagrams = p->packets = 0;
    p->bytes = p->longest = 0;
    memset(p->seen, 0, sizeof p->seen);
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    peer *p = user;
    (void)c, (void)reason, (void)is_app;
    p->closed = true;
    p->close_code = code;
    p->c = NULL;
}

static void on_readable(void *user, stoq_stream *s)
{
    hm_bytes v;
    bool fin;
    (void)user;
    while (stoq_stream_peek(s, &v, &fin) == HM_OK && (v.len > 0 || fin)) {
        stoq_stream_consume(s, v.len);
        if (fin)
            return;
    }
}

static void turn(peer *p)
{
    unsigned turns = 0;
    do {
        stoq_endpoint_process(p->ep, p->now, false);
        assert_true(++turns < 100); // else it would never wait
    } while (stoq_endpoint_next_timeout_us(p->ep) <= p->now);
}

// Lets time pass, timer by timer.
static void pass(peer *p, uint64_t us)
{
    uint64_t end = p->now + us;
    for (;;) {
        turn(p);
        uint64_t t = stoq_endpoint_next_timeout_us(p->ep);
        if (t > end)
            break;
        p->now = t;
    }
    p->now = end;
}

static void make_endpoint(peer *p, stoq_limits limits)
{
    *p = (peer){.now = 1000 * MS, .port = 5000};
    hm_prng_seed(&p->prng, 1);
    p->random = hm_random_prng(&p->prng);
    stoq_net net = {net_send, p};
    stoq_config config = {.bind = forge_address(4433),
                          .net = &net,
                          .alpn = {STOQ_ALPN_MESH},
                          .random = &p->random,
                          .callbacks = {.conn_closed = on_closed, .stream_readable = on_readable},
                          .user = p,
                          .limits = limits,
                          .secret = {1}};
    assert_int_equal(stoq_endpoint_create(&config, &p->ep), HM_OK);
    p->ep->now_us = p->now;
}

// A connection of this role, open; what it says at first is forgotten.
static void begin_with(peer *p, bool conn_is_server, stoq_limits limits, uint8_t peer_cid_len)
{
    make_endpoint(p, limits);
    stoq_transport_params params = forge_params(p->ep);
    static const uint8_t id[STOQ_LOCAL_CID] = {7, 7, 7};
    stoq_cid cid = stoq_cid_of(id, peer_cid_len);
    struct sockaddr_in6 from = forge_address(p->port);
    p->conn_is_server = conn_is_server;
    p->c = forge_conn(p->ep, conn_is_server, &from, &cid, secrets[0], secrets[1], &params);
    p->c->told_open = true;
    assert_int_equal(stoq_keys_init(&p->tx, STOQ_AES_128_GCM, secrets[0], 32, true), HM_OK);
    if (peer_cid_len == STOQ_LOCAL_CID) // else what comes back cannot be parsed here
        assert_int_equal(stoq_keys_init(&p->rx, STOQ_AES_128_GCM, secrets[1], 32, false), HM_OK);
    turn(p);
}

static void begin(peer *p, bool conn_is_server)
{
    begin_with(p, conn_is_server, (stoq_limits){0}, STOQ_LOCAL_CID);
}

static void end(peer *p)
{
    stoq_endpoint_destroy(p->ep);
    stoq_keys_free(&p->tx);
    stoq_keys_free(&p->rx);
}

// Sends a payload in the next packet, from where the peer is. Returns the datagram's length.
static size_t say(peer *p, const uint8_t *payload, size_t len)
{
    uint8_t out[FORGE_MAX];
    struct sockaddr_in6 from = forge_address(p->port);
    if (p->c == NULL)
        return 0;
    size_t n =
        forge_short(&p->tx, &p->c->local[0].cid, p->pn++, p->phase, hm_bytes_of(payload, len), out);
    stoq_endpoint_receive(p->ep, &from, out, n, 0, p->now);
    return n;
}

static size_t say1(peer *p, uint8_t type)
{
    return say(p, &type, 1);
}

// Acknowledges ranges {lowest, highest}, the last one first.
static void ack(peer *p, const uint64_t ranges[][2], size_t count)
{
    uint8_t mem[64], *q = stoq_frame_write3(mem, STOQ_FRAME_ACK, ranges[0][1], 0, count - 1);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            q = stoq_varint_write(q, ranges[i - 1][0] - ranges[i][1] - 2);
        q = stoq_varint_write(q, ranges[i][1] - ranges[i][0]);
    }
    say(p, mem, (size_t)(q - mem));
}

// Acknowledges all that came.
static void ack_all(peer *p)
{
    uint64_t ranges[8][2];
    uint32_t n = 0;
    for (; n < p->got.count && n < 8; n++) {
        ranges[n][0] = p->got.at[n].lo;
        ranges[n][1] = p->got.at[n].hi;
    }
    ack(p, ranges, n);
}

// ---- paths --------------------------------------------------------------------------------------

// A client that has moved and says one small thing is asked to prove its new address at once, with
// no more than three times what came from there.
static void test_new_path_is_challenged(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    ack_all(&p);
    turn(&p);
    forget(&p);
    p.port = 6000;
    size_t sent = say1(&p, STOQ_FRAME_PING);
    turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 1);
    assert_int_equal(p.sent_to, 6000);
    assert_true(p.bytes <= 3 * sent);
    // The answer proves it.
    uint8_t response[9] = {STOQ_FRAME_PATH_RESPONSE};
    memcpy(response + 1, p.data[STOQ_FRAME_PATH_CHALLENGE], 8);
    say(&p, response, sizeof response);
    assert_true(p.c->address_validated);
    end(&p);
}

// Only what comes from the address that is to be proven counts for how much may be sent there.
static void test_credit_is_of_the_address(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    ack_all(&p);
    turn(&p);
    p.port = 6000;
    size_t sent = say1(&p, STOQ_FRAME_PING);
    p.port = 5001; // somebody else who saw the id
    uint8_t noise[1200] = {0x40};
    memcpy(noise + 1, p.c->local[0].cid.id, STOQ_LOCAL_CID);
    struct sockaddr_in6 from = forge_address(p.port);
    for (int i = 0; i < 20; i++) {
        uint8_t copy[sizeof noise];
        memcpy(copy, noise, sizeof noise);
        stoq_endpoint_receive(p.ep, &from, copy, sizeof copy, 0, p.now);
    }
    assert_int_equal(p.c->amp_received, sent);
    end(&p);
}

// Where nobody answers: three challenges, then back to the address that was proven.
static void test_false_path_is_left(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    ack_all(&p);
    turn(&p);
    forget(&p);
    p.port = 6000;
    say1(&p, STOQ_FRAME_PING);
    pass(&p, 20000 * MS);
    assert_true(p.seen[STOQ_FRAME_PATH_CHALLENGE] >= 1 && p.seen[STOQ_FRAME_PATH_CHALLENGE] <= 3);
    assert_true(p.c->address_validated);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    end(&p);
}

// ---- flow control -------------------------------------------------------------------------------

// A stream's bytes [offset, offset + len), all zero.
static void say_data(peer *p, uint64_t id, uint64_t offset, size_t len, bool fin)
{
    uint8_t mem[1500] = {0}, *q = mem;
    *q++ = (uint8_t)(STOQ_FRAME_STREAM | STOQ_STREAM_OFF | (fin ? STOQ_STREAM_FIN : 0));
    q = stoq_varint_write(stoq_varint_write(q, id), offset);
    say(p, mem, (size_t)(q - mem) + len);
}

// Acknowledgements are not paced, so that a fast sender on a long path gets its new limits: what a
// round trip's worth of them takes is more than the pace of a new connection.
static void test_limits_are_raised_under_load(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    p.now += 200 * MS; // a long round trip
    ack_all(&p);
    turn(&p);
    forget(&p);
    uint64_t sent = 0, window = p.c->rx_max;
    while (sent + 2000 <= window) { // on streams that need no new limit of their own
        for (int i = 0; i < 2; i++, sent += 1000)
            say_data(&p, sent / 400000 * 4, sent % 400000, 1000, false);
        turn(&p);
    }
    pass(&p, 1000 * MS);
    assert_true(p.seen[STOQ_FRAME_MAX_DATA] > 0);
    assert_true(p.last[STOQ_FRAME_MAX_DATA].value > sent);
    end(&p);
}

// Somebody who sends on the peer's packets from elsewhere turns the connection away for no longer
// than until the peer is heard again: its address is proven (section 9.3).
static void test_return_to_the_proven_path(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    ack_all(&p);
    turn(&p);
    p.c->cc.cwnd = 12345;
    p.port = 6000;
    say1(&p, STOQ_FRAME_PING);
    assert_false(p.c->address_validated);
    p.port = 5000;
    say1(&p, STOQ_FRAME_PING);
    assert_true(p.c->address_validated);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    assert_int_equal(p.c->cc.cwnd, 12345);
    forget(&p);
    pass(&p, 20000 * MS);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 0);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    end(&p);
}

// This side does not answer on a path that the peer only probes, least of all on the other one.
static void test_probes_of_other_paths(void **state)
{
    (void)state;
    peer p;
    static const uint8_t challenge[9] = {STOQ_FRAME_PATH_CHALLENGE, 1, 2, 3};
    uint8_t with_ping[10] = {STOQ_FRAME_PING};
    memcpy(with_ping + 1, challenge, sizeof challenge);
    begin(&p, true);
    ack_all(&p);
    turn(&p);
    forget(&p);
    p.port = 6000;
    say(&p, challenge, sizeof challenge);
    turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 0);
    p.port = 5000; // on the path in use it is answered
    say(&p, challenge, sizeof challenge);
    turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 1);
    assert_int_equal(p.sent_to, 5000);
    p.port = 6000; // and so it is when the peer moves
    say(&p, with_ping, sizeof with_ping);
    turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 2);
    assert_int_equal(p.sent_to, 6000);
    end(&p);
}

// ---- acknowledgements ---------------------------------------------------------------------------

// A peer that acknowledges nothing and sends without end makes neither records grow nor the
// acknowledgements for it stop.
static void test_unacknowledged_costs_little(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    for (int i = 0; i < 140000; i++) { // more than records may be
        say1(&p, STOQ_FRAME_PING);
        if (i % 2 == 1)
            turn(&p);
    }
    assert_int_equal(p.last[STOQ_FRAME_ACK].ack_largest, p.pn - 1);
    assert_true(p.c->spaces[STOQ_LEVEL_APP].sent_cap <= 64);
    end(&p);
}

// Only losses without anything acknowledged between them are persistent congestion (RFC 9002,
// section 7.6.2).
static void test_persistent_congestion(void **state)
{
    (void)state;
    for (int between = 0; between < 2; between++) {
        peer p;
        begin(&p, true);
        p.now += 10 * MS;
        ack_all(&p);
        turn(&p);
        uint64_t first = p.largest + 1;
        for (int i = 0; i < 100; i++) { // over two seconds, its own probes among them
            pass(&p, 20 * MS);
            stoq_conn_ping(p.c);
            turn(&p);
        }
        uint64_t last = p.largest;
        if (between) // lost: the first one, and the fourth from the end
            ack(&p, (const uint64_t[][2]){{last - 2, last}, {first + 1, last - 4}, {0, first - 1}},
                3);
        else
            ack(&p, (const uint64_t[][2]){{last - 2, last}, {0, first - 1}}, 2);
        assert_true(p.c->stats.packets_lost >= 2);
        assert_true((p.c->cc.cwnd == 2 * p.c->cc.mss) == !between);
        end(&p);
    }
}

static void say_limits(peer *p, uint64_t id, uint64_t conn, uint64_t stream)
{
    uint8_t mem[32], *q = stoq_frame_write1(mem, STOQ_FRAME_MAX_DATA, conn);
    q = stoq_frame_write2(q, STOQ_FRAME_MAX_STREAM_DATA, id, stream);
    say(p, mem, (size_t)(q - mem));
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
        begin_with(&p, false, (stoq_limits){.conn_window_bytes = 65536}, STOQ_LOCAL_CID);
        ack_all(&p);
        assert_int_equal(stoq_stream_open(p.c, false, &s), HM_OK);
        for (int i = 0; i < 300; i++) {
            size_t took;
            do
                assert_int_equal(
                    stoq_stream_send(s, hm_bytes_of(zeros, sizeof zeros), false, &took), HM_OK);
            while (took == sizeof zeros);
            pass(&p, 10 * MS);
            ack_all(&p);
            uint64_t more = p.c->tx_used + (full ? 1 << 20 : 65536);
            say_limits(&p, stoq_stream_id(s), more, more);
        }
        assert_true(full ? p.c->cc.cwnd > 8 * 65536 : p.c->cc.cwnd < 4 * 65536);
        end(&p);
    }
}

// Who acknowledges what it did not get, to be sent more, is found out: some numbers are left out.
static void test_optimistic_ack(void **state)
{
    (void)state;
    for (int honest = 0; honest < 2; honest++) {
        peer p;
        begin(&p, true);
        for (int i = 0; i < 5000 && !p.closed; i++) {
            stoq_conn_ping(p.c);
            pass(&p, 1 * MS);
            if (honest)
                ack_all(&p);
            else
                ack(&p, (const uint64_t[][2]){{0, p.largest}}, 1);
            turn(&p);
        }
        assert_true(p.closed == !honest);
        assert_true(honest || p.close_code == STOQ_PROTOCOL_VIOLATION);
        end(&p);
    }
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
    begin(&p, true);
    p.ep->callbacks.stream_writable = on_stream_stop;
    uint8_t mem[32], *q = stoq_frame_write3(mem, STOQ_FRAME_RESET_STREAM, 0, 9, 0);
    q = stoq_frame_write2(q, STOQ_FRAME_STOP_SENDING, 0, 7);
    say(&p, mem, (size_t)(q - mem));
    turn(&p);
    assert_int_equal(p.last[STOQ_FRAME_RESET_STREAM].code, 7);
    end(&p);
}

// ---- connection ids -----------------------------------------------------------------------------

static void say_new_id(peer *p, uint64_t seq, uint64_t retire_prior_to)
{
    uint8_t mem[64] = {0}, *q = mem;
    q = stoq_frame_write2(q, STOQ_FRAME_NEW_CONNECTION_ID, seq, retire_prior_to);
    *q++ = STOQ_LOCAL_CID;
    *q = (uint8_t)(100 + seq);
    memset(q + STOQ_LOCAL_CID, (int)(0x11 * seq & 0xff), STOQ_RESET_TOKEN);
    say(p, mem, (size_t)(q - mem) + STOQ_LOCAL_CID + STOQ_RESET_TOKEN);
}

static bool holds_id(const peer *p, uint64_t seq)
{
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++)
        if (p->c->remote[i].active && p->c->remote[i].seq == seq)
            return true;
    return false;
}

// An id that was retired stays so, when the frame that gave it comes again or late.
static void test_retired_ids_stay_retired(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    say_new_id(&p, 2, 0);
    say_new_id(&p, 1, 0);
    p.port = 6000;
    say1(&p, STOQ_FRAME_PING);
    turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 1);
    p.port = 7000;
    say1(&p, STOQ_FRAME_PING);
    turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 2);
    forget(&p);
    say_new_id(&p, 1, 0);
    assert_false(holds_id(&p, 0) || holds_id(&p, 1));
    end(&p);

    begin(&p, true);
    say_new_id(&p, 2, 0);
    p.port = 6000;
    say1(&p, STOQ_FRAME_PING);
    turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 2);
    say_new_id(&p, 1, 0); // overtaken
    assert_false(holds_id(&p, 1));
    end(&p);
}

// A datagram that ends with these bytes, of which nothing else can be read.
static void say_reset(peer *p, const uint8_t token[STOQ_RESET_TOKEN])
{
    uint8_t bytes[40] = {0x41, 1, 2, 3};
    struct sockaddr_in6 from = forge_address(p->port);
    memcpy(bytes + sizeof bytes - STOQ_RESET_TOKEN, token, STOQ_RESET_TOKEN);
    stoq_endpoint_receive(p->ep, &from, bytes, sizeof bytes, 0, p->now);
    turn(p);
}

// A stateless reset is by the token of the id in use, from the address in use (section 10.3.1).
static void test_stateless_reset(void **state)
{
    (void)state;
    peer p;
    begin(&p, false); // a client's peer does not move
    say_new_id(&p, 1, 0);
    say_new_id(&p, 2, 0);
    uint8_t tokens[3][STOQ_RESET_TOKEN];
    for (int i = 0; i < 3; i++)
        memset(tokens[i], 0x11 * i, STOQ_RESET_TOKEN);
    say_reset(&p, tokens[1]); // of an id that was never used
    assert_false(p.closed);
    say_new_id(&p, 3, 2); // now 2 is in use, 1 is retired
    turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 2);
    say_reset(&p, tokens[1]);
    assert_false(p.closed);
    p.port = 5001;
    say_reset(&p, tokens[2]);
    assert_false(p.closed);
    p.port = 5000;
    say_reset(&p, tokens[2]);
    assert_true(p.closed);
    assert_true(p.close_code == STOQ_CLOSED_RESET);
    end(&p);
}

// A peer without an id of its own gives no new ones (RFC 9000, section 19.15).
static void test_no_new_ids_without_an_id(void **state)
{
    (void)state;
    peer p;
    begin_with(&p, true, (stoq_limits){0}, 0);
    say_new_id(&p, 1, 0);
    turn(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_code, STOQ_PROTOCOL_VIOLATION);
    end(&p);
}

// As many as were agreed, and one who wants them all retired at once is told so.
static void test_id_limits(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    for (uint64_t seq = 1; seq < STOQ_CIDS_MAX; seq++)
        say_new_id(&p, seq, 0);
    turn(&p);
    assert_false(p.closed);
    say_new_id(&p, STOQ_CIDS_MAX, 0);
    turn(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_code, STOQ_CONNECTION_ID_LIMIT_ERROR);
    end(&p);

    begin(&p, true); // ids that are retired as they come, faster than this side may answer
    for (uint64_t seq = 1; seq < 10000 && !p.closed; seq++) {
        say_new_id(&p, seq, seq);
        if (seq % 64 == 0)
            turn(&p);
    }
    turn(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_code, STOQ_CONNECTION_ID_LIMIT_ERROR);
    end(&p);
}

// ---- the handshake ------------------------------------------------------------------------------

static const stoq_cid client_id = {.len = 4, .id = {0xc1}}, server_id = {.len = 8, .id = {0x5e}};

// A connection that has begun, with the keys that everybody can compute; the peer has the others.
static void begin_initial(peer *p, bool conn_is_server)
{
    stoq_conn *c;
    stoq_cid dcid = {.len = 8, .id = {0xd0}};
    make_endpoint(p, (stoq_limits){0});
    struct sockaddr_in6 from = forge_address(p->port);
    assert_int_equal(conn_make(p->ep, conn_is_server, &from, &c), HM_OK);
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    p->c = c;
    p->conn_is_server = conn_is_server;
    c->initial_dcid = c->original_dcid = dcid;
    c->address_validated = !conn_is_server;
    c->has_peer_scid = conn_is_server;
    c->peer_initial_scid = client_id;
    c->remote[0] = (stoq_peer_cid){.cid = conn_is_server ? client_id : dcid, .active = true};
    if (conn_is_server) {
        assert_int_equal(hm_map_put(&p->ep->by_initial, &dcid, c), HM_OK);
        assert_int_equal(stoq_keys_init_initial(&s->rx, &s->tx, &dcid, true), HM_OK);
        assert_int_equal(stoq_keys_init_initial(&p->tx, &p->rx, &dcid, false), HM_OK);
    } else {
        assert_int_equal(stoq_keys_init_initial(&s->tx, &s->rx, &dcid, false), HM_OK);
        assert_int_equal(stoq_keys_init_initial(&p->rx, &p->tx, &dcid, true), HM_OK);
    }
}

// An Initial packet with a PING, to this id; `size` bytes long with its padding.
static size_t initial(peer *p, const stoq_cid *dcid, const stoq_cid *scid, hm_bytes token,
                      size_t size, uint8_t out[FORGE_MAX])
{
    uint8_t payload[1400] = {STOQ_FRAME_PING};
    size_t header = stoq_long_header_size(STOQ_PACKET_INITIAL, dcid, scid, token.len);
    return forge_long(&p->tx, STOQ_PACKET_INITIAL, dcid, scid, token, p->pn++,
                      hm_bytes_of(payload, size - header - 4 - STOQ_AEAD_TAG), out);
}

static uint64_t give(peer *p, uint8_t *bytes, size_t len)
{
    struct sockaddr_in6 from = forge_address(p->port);
    uint64_t before = p->c->stats.packets_received;
    stoq_endpoint_receive(p->ep, &from, bytes, len, 0, p->now);
    return p->c->stats.packets_received - before;
}

// An Initial packet that asks for an answer leaves in a full-sized datagram or not at all: a server
// that may send less waits (section 14.1).
static void test_no_small_initials_are_sent(void **state)
{
    (void)state;
    peer p;
    uint8_t hello[300] = {1};
    begin_initial(&p, true);
    p.c->amp_received = 350;
    assert_int_equal(stoq_sendbuf_append(&p.c->spaces[STOQ_LEVEL_INITIAL].crypto_out,
                                         hm_bytes_of(hello, sizeof hello)),
                     HM_OK);
    conn_wake(p.c);
    pass(&p, 5000 * MS);
    assert_int_equal(p.seen[STOQ_FRAME_CRYPTO] + p.seen[STOQ_FRAME_PING], 0);
    p.c->amp_received = 400;
    conn_wake(p.c);
    turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_CRYPTO], 1);
    assert_int_equal(p.longest, 1200);
    end(&p);
}

// Clients whose handshake fails at once count as in handshake until they are forgotten: somebody
// who forges addresses must pass a Retry before the table is full of them.
static void test_failed_handshakes_count(void **state)
{
    (void)state;
    peer p;
    stoq_endpoint_stats st;
    make_endpoint(&p, (stoq_limits){.retry_from_half_open = 4, .max_half_open = 8});
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    stoq_endpoint_set_server_tls(p.ep, tls);
    SSL_CTX_free(tls);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t out[FORGE_MAX], payload[1180] = {STOQ_FRAME_CRYPTO, 0, 4, 0xff, 0xff, 0xff, 0xff};
        stoq_cid dcid = {.len = 8, .id = {(uint8_t)i}};
        stoq_keys client = {0}, server = {0};
        struct sockaddr_in6 from = forge_address((uint16_t)(6000 + i));
        assert_int_equal(stoq_keys_init_initial(&client, &server, &dcid, false), HM_OK);
        size_t n = forge_long(&client, STOQ_PACKET_INITIAL, &dcid, &client_id, (hm_bytes){0}, 0,
                              hm_bytes_of(payload, sizeof payload), out);
        stoq_endpoint_receive(p.ep, &from, out, n, 0, p.now);
        turn(&p);
        stoq_keys_free(&client);
        stoq_keys_free(&server);
    }
    stoq_endpoint_get_stats(p.ep, &st);
    assert_int_equal(st.connections, 4);
    assert_int_equal(st.retries_sent, 96);
    pass(&p, 20000 * MS);
    stoq_endpoint_get_stats(p.ep, &st);
    assert_int_equal(st.connections, 0);
    assert_int_equal(st.half_open, 0);
    end(&p);
}

// RFC 9000, section 14.1: an Initial packet comes in a datagram of 1200 bytes, whoever sends it.
static void test_small_initials_are_dropped(void **state)
{
    (void)state;
    peer p;
    uint8_t out[FORGE_MAX];
    begin_initial(&p, true);
    stoq_cid ids[2] = {p.c->initial_dcid, p.c->local[0].cid};
    for (int i = 0; i < 2; i++) {
        size_t n = initial(&p, &ids[i], &client_id, (hm_bytes){0}, 1199, out);
        assert_int_equal(give(&p, out, n), 0);
        n = initial(&p, &ids[i], &client_id, (hm_bytes){0}, 1200, out);
        assert_int_equal(give(&p, out, n), 1);
    }
    end(&p);
}

// A peer's id does not change while the handshake lasts (section 7.2); a server's Initial packet
// has no token (section 17.2.2).
static void test_initials_of_another_id(void **state)
{
    (void)state;
    for (int is_server = 0; is_server < 2; is_server++) {
        peer p;
        uint8_t out[FORGE_MAX];
        begin_initial(&p, is_server);
        stoq_cid to = p.c->local[0].cid, from = is_server ? client_id : server_id, other = from;
        other.id[3] ^= 1;
        hm_bytes token = hm_bytes_str("token");
        if (!is_server)
            assert_int_equal(give(&p, out, initial(&p, &to, &from, token, 1200, out)), 0);
        assert_int_equal(give(&p, out, initial(&p, &to, &from, (hm_bytes){0}, 1200, out)), 1);
        assert_int_equal(give(&p, out, initial(&p, &to, &other, (hm_bytes){0}, 1200, out)), 0);
        assert_int_equal(give(&p, out, initial(&p, &to, &from, (hm_bytes){0}, 1200, out)), 1);
        end(&p);
    }
}

// Handshake bytes of a level that TLS has left are old ones come again, or a violation.
static void test_crypto_of_a_level_before(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        peer p;
        uint8_t out[FORGE_MAX], payload[1180] = {STOQ_FRAME_CRYPTO, 0, 4};
        begin_initial(&p, true);
        p.c->spaces[STOQ_LEVEL_INITIAL].crypto_in.ready = old ? 4 : 3;
        p.c->spaces[STOQ_LEVEL_INITIAL].crypto_in.read = old ? 4 : 3;
        p.c->tls.read_level = STOQ_LEVEL_HANDSHAKE;
        size_t n = forge_long(&p.tx, STOQ_PACKET_INITIAL, &p.c->local[0].cid, &client_id,
                              (hm_bytes){0}, p.pn++, hm_bytes_of(payload, sizeof payload), out);
        assert_int_equal(give(&p, out, n), 1);
        assert_int_equal(p.c->state, old ? STOQ_CONN_HANDSHAKE : STOQ_CONN_CLOSING);
        end(&p);
    }
}

// Packets of one datagram are for one connection (section 12.2).
static void test_coalesced_for_another(void **state)
{
    (void)state;
    peer p;
    uint8_t out[2 * FORGE_MAX];
    begin_initial(&p, true);
    for (int same = 0; same < 2; same++) {
        size_t n = initial(&p, &p.c->local[0].cid, &client_id, (hm_bytes){0}, 700, out);
        n += initial(&p, same ? &p.c->local[0].cid : &p.c->initial_dcid, &client_id, (hm_bytes){0},
                     700, out + n);
        assert_int_equal(give(&p, out, n), 1 + same);
    }
    end(&p);
}

// Version negotiation is believed if it answers our packet, by both ids (RFC 8999, section 6).
static void test_version_negotiation(void **state)
{
    (void)state;
    for (int ours = 0; ours < 2; ours++) {
        peer p;
        uint8_t out[7 + 2 * 255 + 8];
        begin_initial(&p, false);
        turn(&p);
        stoq_cid dcid = p.c->initial_dcid;
        dcid.id[7] ^= !ours;
        const stoq_cid *scid = &p.c->local[0].cid;
        size_t n = stoq_version_packet_write(out, hm_bytes_of(dcid.id, dcid.len),
                                             hm_bytes_of(scid->id, scid->len), 0x12);
        memset(out + n - 8, 0x6b, 4); // not version 1
        give(&p, out, n);
        turn(&p);
        assert_true(p.closed == ours);
        if (ours)
            assert_true(p.close_code == STOQ_CLOSED_VERSION);
        end(&p);
    }
}

// A server's answer to a version that it does not speak is for who sent it.
static void test_version_answer(void **state)
{
    (void)state;
    peer p;
    uint8_t strange[1200] = {0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 3, 9, 9, 9};
    make_endpoint(&p, (stoq_limits){0});
    struct sockaddr_in6 from = forge_address(p.port);
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    stoq_endpoint_set_server_tls(p.ep, tls);
    SSL_CTX_free(tls);
    stoq_endpoint_receive(p.ep, &from, strange, sizeof strange, 0, p.now);
    assert_int_equal(p.datagrams, 1);
    assert_int_equal(p.sent_to, p.port);
    assert_int_equal(p.packet.type, STOQ_PACKET_VERSION);
    assert_true(p.packet.dcid.len == 3 && p.packet.dcid.id[0] == 9);
    assert_true(p.packet.scid.len == 8 && p.packet.scid.id[0] == 1);
    end(&p);
}

// ---- ends ---------------------------------------------------------------------------------------

// Keys are worn out by what they sealed and by what they failed to open (RFC 9001, section 6.6).
static void test_key_limits(void **state)
{
    (void)state;
    for (int forged = 0; forged < 2; forged++) {
        peer p;
        begin(&p, true);
        stoq_space *s = &p.c->spaces[STOQ_LEVEL_APP];
        if (forged) {
            p.c->forged_packets = stoq_cipher_open_limit(STOQ_AES_128_GCM) - 2;
        } else {
            s->tx.aead.packets = stoq_cipher_seal_limit(STOQ_AES_128_GCM) - 1;
        }
        for (int i = 0; i < 2; i++) {
            assert_false(p.closed);
            if (forged) {
                stoq_cid id = p.c->local[0].cid;
                uint8_t out[60] = {0x40};
                struct sockaddr_in6 from = forge_address(p.port);
                memcpy(out + 1, id.id, id.len);
                stoq_endpoint_receive(p.ep, &from, out, sizeof out, 0, p.now);
            } else {
                stoq_conn_ping(p.c);
            }
            turn(&p);
        }
        assert_true(p.closed);
        assert_int_equal(p.close_code, STOQ_AEAD_LIMIT_REACHED);
        forget(&p);
        pass(&p, 10000 * MS);
        assert_int_equal(p.datagrams, 0);
        end(&p);
    }
}

// Keys are changed once for each acknowledgement at most (RFC 9001, section 6.1), for each change
// costs something.
static void test_key_updates_without_pause(void **state)
{
    (void)state;
    for (int patient = 0; patient < 2; patient++) {
        peer p;
        begin(&p, true);
        for (int i = 0; i < 3 && !p.closed; i++) {
            assert_int_equal(stoq_keys_update(&p.tx, true, NULL), HM_OK);
            p.phase = !p.phase;
            say1(&p, STOQ_FRAME_PING);
            if (!patient)
                continue;
            // The connection follows at once, and acknowledges with its new keys.
            assert_int_equal(stoq_keys_update(&p.rx, false, NULL), HM_OK);
            pass(&p, 30 * MS);
            assert_int_equal(p.last[STOQ_FRAME_ACK].ack_largest, p.pn - 1);
        }
        turn(&p);
        assert_true(p.closed == !patient);
        assert_true(patient || p.close_code == STOQ_KEY_UPDATE_ERROR);
        assert_true(!patient || p.c->key_updates == 3);
        end(&p);
    }
}

// A server may change keys as soon as its handshake is complete, before the client knows that it is
// confirmed: all that tells the client so comes under the new keys then.
static void test_key_update_before_confirmed(void **state)
{
    (void)state;
    peer p;
    begin(&p, false);
    p.c->confirmed = false;
    assert_int_equal(stoq_keys_update(&p.tx, true, NULL), HM_OK);
    p.phase = true;
    say1(&p, STOQ_FRAME_HANDSHAKE_DONE);
    assert_true(p.c->confirmed);
    assert_int_equal(p.c->key_updates, 1);
    end(&p);
}

// Who follows an update needs no acknowledgement of its own packets before.
static void test_key_update_is_followed(void **state)
{
    (void)state;
    peer p;
    begin(&p, true);
    ack_all(&p);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(stoq_conn_update_keys(p.c), HM_OK);
        assert_int_equal(stoq_keys_update(&p.rx, false, NULL), HM_OK);
        turn(&p);
        assert_int_equal(stoq_conn_update_keys(p.c), HM_E_AGAIN);
        assert_int_equal(stoq_keys_update(&p.tx, true, NULL), HM_OK);
        p.phase = !p.phase;
        ack_all(&p); // asks for no acknowledgement itself
        turn(&p);
    }
    assert_false(p.closed);
    end(&p);
}

// A server's long Retry token leaves no room for the client's close at every level in one datagram:
// what fits is said, once.
static void test_close_with_long_token(void **state)
{
    (void)state;
    peer p;
    stoq_conn *c;
    static const uint8_t id[STOQ_LOCAL_CID] = {9}, token[1050] = {1};
    char why[251] = {0};
    make_endpoint(&p, (stoq_limits){0});
    struct sockaddr_in6 to = forge_address(p.port);
    stoq_cid dcid = stoq_cid_of(id, sizeof id);
    assert_int_equal(conn_make(p.ep, false, &to, &c), HM_OK);
    stoq_space *initial = &c->spaces[STOQ_LEVEL_INITIAL];
    assert_int_equal(stoq_keys_init_initial(&initial->tx, &initial->rx, &dcid, false), HM_OK);
    assert_int_equal(
        stoq_keys_init(&c->spaces[STOQ_LEVEL_HANDSHAKE].tx, STOQ_AES_128_GCM, secrets[1], 32, true),
        HM_OK);
    c->remote[0] = (stoq_peer_cid){.cid = dcid, .active = true};
    c->address_validated = true;
    hm_buf_append(&c->token, token, sizeof token);
    memset(why, 'x', sizeof why - 1);
    conn_fail(c, STOQ_PROTOCOL_VIOLATION, 0, why);
    pass(&p, 10 * MS);
    assert_int_equal(p.datagrams, 1);
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_path_is_challenged),
        cmocka_unit_test(test_credit_is_of_the_address),
        cmocka_unit_test(test_false_path_is_left),
        cmocka_unit_test(test_return_to_the_proven_path),
        cmocka_unit_test(test_probes_of_other_paths),
        cmocka_unit_test(test_limits_are_raised_under_load),
        cmocka_unit_test(test_codes_of_both_directions),
        cmocka_unit_test(test_unacknowledged_costs_little),
        cmocka_unit_test(test_persistent_congestion),
        cmocka_unit_test(test_window_grows_by_use),
        cmocka_unit_test(test_optimistic_ack),
        cmocka_unit_test(test_retired_ids_stay_retired),
        cmocka_unit_test(test_stateless_reset),
        cmocka_unit_test(test_no_new_ids_without_an_id),
        cmocka_unit_test(test_id_limits),
        cmocka_unit_test(test_no_small_initials_are_sent),
        cmocka_unit_test(test_failed_handshakes_count),
        cmocka_unit_test(test_small_initials_are_dropped),
        cmocka_unit_test(test_initials_of_another_id),
        cmocka_unit_test(test_crypto_of_a_level_before),
        cmocka_unit_test(test_coalesced_for_another),
        cmocka_unit_test(test_version_negotiation),
        cmocka_unit_test(test_version_answer),
        cmocka_unit_test(test_key_limits),
        cmocka_unit_test(test_key_updates_without_pause),
        cmocka_unit_test(test_key_update_before_confirmed),
        cmocka_unit_test(test_key_update_is_followed),
        cmocka_unit_test(test_close_with_long_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
