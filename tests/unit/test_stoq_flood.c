// Floods: everything that a peer can make a connection keep has a limit, and nothing that it sends
// without end makes this side send more than it got. One row of the table a kind.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <malloc.h>
#include <string.h>

#include <cmocka.h>

#include "stoq_peer.h"

#define KIB 1024u
#define FLOOD 20000u  // packets
#define PAYLOAD 1100u // bytes of one, at most
#define STREAMS 64u   // limits of the connections under test
#define STREAM_KIB 64u
#define CONN_KIB 256u

#if defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED
#endif

#ifdef SANITIZED
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

static size_t allocated(void)
{
#ifdef SANITIZED
    return __sanitizer_get_current_allocated_bytes();
#else
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
#endif
}

typedef struct flood {
    const char *name;
    // Writes packet i; returns its end.
    uint8_t *(*write)(peer *p, unsigned i, uint8_t *at);
    uint64_t code;     // what the connection ends with, 0: it goes on
    size_t kib;        // memory that the peer can make it keep
    double amplified;  // bytes sent for each byte received, at most
    bool as_client;    // the connection under test is a client
    bool acknowledges; // what the connection says
    uint64_t pn_step;  // packet numbers left out, plus one; 0: 1
    unsigned turn;     // packets between turns of this side; 0: 16
} flood;

static uint8_t *stream_data(uint8_t *at, uint64_t id, uint64_t offset, size_t len)
{
    *at++ = STOQ_FRAME_STREAM | STOQ_STREAM_OFF | STOQ_STREAM_LEN;
    at = stoq_varint_write(at, id);
    at = stoq_varint_write(at, offset);
    at = stoq_varint_write(at, len);
    memset(at, 0, len);
    return at + len;
}

// ---- what is kept for reassembly ----------------------------------------------------------------

// Every other byte of a stream: a gap each.
static uint8_t *gaps(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    for (unsigned k = 0; k < 100; k++)
        at = stream_data(at, 0, 1 + 2 * ((100 * i + k) % (STREAM_KIB * KIB / 2 - 1)), 1);
    return at;
}

// The same in as many streams as are allowed.
static uint8_t *gaps_everywhere(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    unsigned window = CONN_KIB * KIB / STREAMS / 2 - 1;
    for (unsigned k = 0; k < 100; k++)
        at = stream_data(at, 4 * (i % STREAMS), 1 + 2 * ((100 * (i / STREAMS) + k) % window), 1);
    return at;
}

// The last byte that each stream may have, until the connection's window is full.
static uint8_t *last_bytes(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    unsigned k = i % (CONN_KIB / STREAM_KIB);
    return stream_data(at, 4 * k, STREAM_KIB * KIB - 1, 1);
}

static uint8_t *beyond_stream_window(peer *p, unsigned i, uint8_t *at)
{
    (void)p, (void)i;
    return stream_data(at, 0, STREAM_KIB * KIB, 1);
}

static uint8_t *beyond_conn_window(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    return stream_data(at, 4 * (i % STREAMS), STREAM_KIB * KIB - 1, 1);
}

static uint8_t *crypto_gaps(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    for (unsigned k = 0; k < 100; k++) {
        *at++ = STOQ_FRAME_CRYPTO;
        at = stoq_varint_write(at, 1 + 2 * ((100 * i + k) % (STOQ_CRYPTO_WINDOW / 2 - 1)));
        at = stoq_varint_write(at, 1);
        *at++ = 0;
    }
    return at;
}

static uint8_t *crypto_beyond(peer *p, unsigned i, uint8_t *at)
{
    (void)p, (void)i;
    *at++ = STOQ_FRAME_CRYPTO;
    at = stoq_varint_write(at, STOQ_CRYPTO_WINDOW);
    at = stoq_varint_write(at, 1);
    *at++ = 0;
    return at;
}

// ---- streams ------------------------------------------------------------------------------------

static uint8_t *too_many_streams(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    return stream_data(at, 4 * (uint64_t)i, 0, 1);
}

static uint8_t *all_streams_at_once(peer *p, unsigned i, uint8_t *at)
{
    (void)p, (void)i;
    return stream_data(at, 4 * (UINT64_C(1) << 40), 0, 1);
}

// Streams that are opened and reset at once, as many as may be open each time (CVE-2023-44487).
static uint8_t *rapid_reset(peer *p, unsigned i, uint8_t *at)
{
    for (unsigned k = 0; k < 20 && p->c != NULL; k++) {
        uint64_t number = p->c->peer_streams_limit[1] - p->c->peer_streams_limit[1] % 20 + k;
        if (number >= p->c->peer_streams_limit[1])
            number = k;
        at = stoq_frame_write3(at, STOQ_FRAME_RESET_STREAM, number << 2 | 2, i, 0);
    }
    return at;
}

// Both ends of a stream given up, and what this side says of it not acknowledged.
static uint8_t *reset_and_stop(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    at = stoq_frame_write3(at, STOQ_FRAME_RESET_STREAM, 4 * (uint64_t)i, 1, 0);
    return stoq_frame_write2(at, STOQ_FRAME_STOP_SENDING, 4 * (uint64_t)i, 1);
}

static uint8_t *stop_sending(peer *p, unsigned i, uint8_t *at)
{
    (void)p, (void)i;
    for (unsigned k = 0; k < STREAMS; k++)
        at = stoq_frame_write2(at, STOQ_FRAME_STOP_SENDING, 4 * (uint64_t)k, i);
    return at;
}

static uint8_t *limits(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    for (unsigned k = 0; k < 20; k++) {
        uint64_t v = 20 * (uint64_t)i + k;
        at = stoq_frame_write1(at, STOQ_FRAME_MAX_DATA, v);
        at = stoq_frame_write2(at, STOQ_FRAME_MAX_STREAM_DATA, 4 * (v % STREAMS), v);
        at = stoq_frame_write1(at, STOQ_FRAME_MAX_STREAMS_BIDI, v);
        at = stoq_frame_write1(at, STOQ_FRAME_DATA_BLOCKED, v);
        at = stoq_frame_write2(at, STOQ_FRAME_STREAM_DATA_BLOCKED, 4 * (v % STREAMS), v);
        at = stoq_frame_write1(at, STOQ_FRAME_STREAMS_BLOCKED_UNI, v);
    }
    return at;
}

// ---- acknowledgements, paths, ids, the rest -----------------------------------------------------

static uint8_t *pings(peer *p, unsigned i, uint8_t *at)
{
    (void)p, (void)i;
    *at++ = STOQ_FRAME_PING;
    return at;
}

static uint8_t *immediate_acks(peer *p, unsigned i, uint8_t *at)
{
    (void)p, (void)i;
    memset(at, STOQ_FRAME_IMMEDIATE_ACK, 100);
    return at + 100;
}

// Every one another than before, and gaps in the numbers that are not to be told of.
static uint8_t *frequencies(peer *p, unsigned i, uint8_t *at)
{
    p->pn += 2;
    for (unsigned k = 0; k < 50; k++) {
        at = stoq_varint_write(stoq_varint_write(at, STOQ_FRAME_ACK_FREQUENCY), 50 * i + k);
        at = stoq_varint_write(stoq_varint_write(at, STOQ_VARINT_MAX), 16383999);
        at = stoq_varint_write(at, k % 2 * (k + i));
    }
    return at;
}

// What was acknowledged before, again and again.
static uint8_t *acks(peer *p, unsigned i, uint8_t *at)
{
    (void)i;
    for (unsigned k = 0; k < 100; k++)
        at = stoq_varint_write(stoq_frame_write3(at, STOQ_FRAME_ACK, p->largest, 0, 0), p->largest);
    return at;
}

// Of packets that were never sent.
static uint8_t *optimistic_acks(peer *p, unsigned i, uint8_t *at)
{
    (void)i;
    at = stoq_frame_write3(at, STOQ_FRAME_ACK, p->largest + 1000, 0, 0);
    return stoq_varint_write(at, 0);
}

static uint8_t *path_challenges(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    for (unsigned k = 0; k < 100; k++) {
        *at++ = STOQ_FRAME_PATH_CHALLENGE;
        memset(at, (int)(i + k), 8);
        at += 8;
    }
    return at;
}

static uint8_t *path_challenge(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    *at++ = STOQ_FRAME_PATH_CHALLENGE;
    memset(at, (int)i, 8);
    return at + 8;
}

static uint8_t *path_responses(peer *p, unsigned i, uint8_t *at)
{
    at = path_challenges(p, i, at);
    for (uint8_t *f = at - 900; f < at; f += 9)
        *f = STOQ_FRAME_PATH_RESPONSE;
    return at;
}

// A new address a packet.
static uint8_t *moves(peer *p, unsigned i, uint8_t *at)
{
    p->port = (uint16_t)(5000 + i % 60000);
    return pings(p, i, at);
}

// A probe from a new address a packet, with as many ids as are taken.
static uint8_t *probes(peer *p, unsigned i, uint8_t *at)
{
    static uint64_t seq;
    unsigned held = 0;
    seq = i == 0 ? 0 : seq;
    p->port = (uint16_t)(6000 + i % 50000);
    at = path_challenge(p, i, at);
    for (unsigned k = 0; k < STOQ_CIDS_MAX; k++)
        held += p->c->remote[k].active;
    if (held == STOQ_CIDS_MAX - 1)
        return at;
    at = stoq_frame_write2(at, STOQ_FRAME_NEW_CONNECTION_ID, ++seq, 0);
    *at++ = STOQ_LOCAL_CID;
    memset(at, 1, STOQ_LOCAL_CID);
    memcpy(at, &seq, sizeof seq);
    at += STOQ_LOCAL_CID;
    memset(at, 2, STOQ_RESET_TOKEN);
    return at + STOQ_RESET_TOKEN;
}

// The ids of this side, as fast as it gives new ones.
static uint8_t *retired_ids(peer *p, unsigned i, uint8_t *at)
{
    (void)i;
    uint64_t used = p->c->local[0].seq;
    for (unsigned k = 0; k < STOQ_CIDS_MAX; k++)
        if (p->c->local[k].active && p->c->local[k].seq != used)
            at = stoq_frame_write1(at, STOQ_FRAME_RETIRE_CONNECTION_ID, p->c->local[k].seq);
    *at++ = STOQ_FRAME_PING;
    return at;
}

static uint8_t *tokens(peer *p, unsigned i, uint8_t *at)
{
    (void)p;
    at = stoq_frame_write1(at, STOQ_FRAME_NEW_TOKEN, 1000);
    memset(at, (int)i, 1000);
    return at + 1000;
}

static uint8_t *datagrams(peer *p, unsigned i, uint8_t *at)
{
    (void)p, (void)i;
    for (unsigned k = 0; k < 300; k++) {
        at = stoq_frame_write1(at, STOQ_FRAME_DATAGRAM_LEN, 1);
        *at++ = 0;
    }
    return at;
}

// ---- the table ----------------------------------------------------------------------------------

static const flood floods[] = {
    {.name = "gaps of a stream", .write = gaps, .kib = 2 * STREAM_KIB, .amplified = 0.5},
    {.name = "gaps of all", .write = gaps_everywhere, .kib = 8 * CONN_KIB, .amplified = 0.5},
    {.name = "last bytes", .write = last_bytes, .kib = 2 * CONN_KIB, .amplified = 1.2},
    {.name = "beyond a stream's window",
     .write = beyond_stream_window,
     .kib = 8,
     .code = STOQ_FLOW_CONTROL_ERROR},
    {.name = "beyond the connection's window",
     .write = beyond_conn_window,
     .kib = 2 * CONN_KIB,
     .code = STOQ_FLOW_CONTROL_ERROR},
    {.name = "gaps of the handshake",
     .write = crypto_gaps,
     .kib = 2 * STOQ_CRYPTO_WINDOW / KIB,
     .amplified = 0.5},
    {.name = "beyond the handshake",
     .write = crypto_beyond,
     .kib = 8,
     .code = STOQ_CRYPTO_BUFFER_EXCEEDED},
    {.name = "too many streams",
     .write = too_many_streams,
     .kib = 2 * CONN_KIB,
     .code = STOQ_STREAM_LIMIT_ERROR},
    {.name = "all streams at once",
     .write = all_streams_at_once,
     .kib = 8,
     .code = STOQ_STREAM_LIMIT_ERROR},
    {.name = "rapid reset", .write = rapid_reset, .kib = 64, .amplified = 1, .acknowledges = true},
    {.name = "reset and stop",
     .write = reset_and_stop,
     .kib = 128,
     .code = STOQ_STREAM_LIMIT_ERROR},
    {.name = "stop sending", .write = stop_sending, .kib = 128, .amplified = 1},
    {.name = "limits", .write = limits, .kib = 128, .amplified = 0.5},
    {.name = "pings", .write = pings, .kib = 16, .amplified = 1.2},
    {.name = "pings with gaps",
     .write = pings,
     .kib = 16,
     .amplified = 4,
     .pn_step = 1000,
     .turn = 1},
    {.name = "immediate acknowledgements",
     .write = immediate_acks,
     .kib = 16,
     .amplified = 1,
     .turn = 1},
    {.name = "acknowledgement frequencies", .write = frequencies, .kib = 16, .amplified = 0.5},
    {.name = "acknowledgements", .write = acks, .kib = 16, .amplified = 0.1},
    {.name = "optimistic acknowledgements",
     .write = optimistic_acks,
     .kib = 8,
     .code = STOQ_PROTOCOL_VIOLATION},
    {.name = "path challenges", .write = path_challenges, .kib = 16, .amplified = 1.1},
    {.name = "a path challenge a turn",
     .write = path_challenge,
     .kib = 16,
     .amplified = 1.2,
     .turn = 1},
    {.name = "path responses", .write = path_responses, .kib = 16, .amplified = 0.5},
    {.name = "moves", .write = moves, .kib = 256, .amplified = 3},
    {.name = "probes", .write = probes, .kib = 64, .amplified = 1, .acknowledges = true, .turn = 1},
    {.name = "retired ids",
     .write = retired_ids,
     .kib = 32,
     .amplified = 3,
     .acknowledges = true,
     .turn = 1},
    {.name = "tokens", .write = tokens, .kib = 16, .amplified = 0.5, .as_client = true},
    {.name = "datagrams", .write = datagrams, .kib = 16, .amplified = 0.5},
};

static void run(const flood *f)
{
    peer p;
    peer_begin_with(&p, !f->as_client,
                    (stoq_limits){.max_udp_payload_bytes = STOQ_MIN_INITIAL,
                                  .max_streams_bidi = STREAMS,
                                  .max_streams_uni = STREAMS,
                                  .stream_window_bytes = STREAM_KIB * KIB,
                                  .conn_window_bytes = CONN_KIB * KIB,
                                  .max_datagram_bytes = 1000},
                    STOQ_LOCAL_CID);
    peer_ack_all(&p);
    peer_turn(&p);
    peer_forget(&p);
    size_t before = allocated(), most = before, said = 0;
    for (unsigned i = 0; i < FLOOD && !p.closed; i++) {
        uint8_t payload[PAYLOAD + 200];
        size_t len = (size_t)(f->write(&p, i, payload) - payload);
        assert_in_range(len, 1, PAYLOAD + 100);
        p.pn += f->pn_step > 0 ? f->pn_step - 1 : 0;
        said += peer_say(&p, payload, len);
        p.now += 10;
        if (i % (f->turn > 0 ? f->turn : 16) == 0)
            peer_turn(&p);
        if (f->acknowledges && i % 64 == 63)
            peer_ack_all(&p);
        size_t now = allocated();
        most = now > most ? now : most;
    }
    peer_turn(&p);
    size_t grown = most - before;
    print_message("# %-32s %6zu KiB, %5.2f bytes sent for one received\n", f->name, grown / KIB,
                  (double)p.bytes / (double)said);
    assert_true(p.closed == (f->code != 0));
    if (p.closed)
        assert_int_equal(p.close_code, f->code);
    assert_true(grown <= f->kib * KIB);
    if (p.closed) {
        assert_true(p.bytes <= said + 100);
    } else {
        assert_true((double)p.bytes <= f->amplified * (double)said);
        // It still listens.
        uint64_t pn = p.pn;
        for (int i = 0; i < 4; i++)
            peer_say1(&p, STOQ_FRAME_IMMEDIATE_ACK);
        peer_turn(&p);
        assert_true(p.last[STOQ_FRAME_ACK].ack_largest >= pn);
    }
    peer_end(&p);
}

static void test_floods(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof floods / sizeof *floods; i++)
        run(&floods[i]);
}

// ---- readers and strangers ----------------------------------------------------------------------

// A peer that asks for much, allows all of it, and acknowledges every other packet: what is kept
// for it is what the streams' send buffers hold.
static void test_slow_reader(void **state)
{
    (void)state;
    static const uint8_t bytes[STREAM_KIB * KIB];
    peer p;
    peer_begin_with(&p, true,
                    (stoq_limits){.max_udp_payload_bytes = STOQ_MIN_INITIAL,
                                  .stream_send_bytes = STREAM_KIB * KIB},
                    STOQ_LOCAL_CID);
    uint64_t first = p.largest + 1;
    peer_ack_all(&p);
    size_t before = allocated(), most = before;
    uint8_t mem[64], *q = stoq_frame_write1(mem, STOQ_FRAME_MAX_DATA, UINT64_C(1) << 50);
    peer_say(&p, mem, (size_t)(q - mem));
    stoq_stream *s[STREAMS];
    for (unsigned i = 0; i < STREAMS; i++) {
        assert_int_equal(stoq_stream_open(p.c, true, &s[i]), HM_OK);
        q = stoq_frame_write2(mem, STOQ_FRAME_MAX_STREAM_DATA, stoq_stream_id(s[i]),
                              UINT64_C(1) << 50);
        peer_say(&p, mem, (size_t)(q - mem));
    }
    for (unsigned round = 0; round < 300 && !p.closed; round++) {
        for (unsigned i = 0; i < STREAMS; i++) {
            size_t took;
            assert_int_equal(stoq_stream_send(s[i], hm_bytes_of(bytes, sizeof bytes), false, &took),
                             HM_OK);
        }
        peer_pass(&p, 20 * MS);
        uint64_t ranges[8][2], last = p.largest;
        size_t n = 0;
        for (uint64_t pn = last; n < 8 && pn > first; pn -= 2)
            if (stoq_ranges_has(&p.got, pn)) { // some numbers are left out on purpose
                ranges[n][0] = ranges[n][1] = pn;
                n++;
            }
        if (n > 0)
            peer_ack(&p, ranges, n);
        size_t now = allocated();
        most = now > most ? now : most;
    }
    print_message("# a slow reader: %zu KiB for %u streams of %u\n", (most - before) / KIB, STREAMS,
                  STREAM_KIB);
    assert_false(p.closed);
    assert_true(most - before <= 2 * STREAMS * STREAM_KIB * KIB);
    peer_end(&p);
}

// Packets of no connection are answered with less than they are, and leave nothing behind.
static void test_strangers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t first;
        uint32_t version;
        size_t len;
    } kinds[] = {
        {"short headers", 0x40, 0, 0},    {"unknown versions", 0xc0, 0x1a2a3a4a, 1200},
        {"first packets", 0xc0, 1, 1200}, {"handshake packets", 0xe0, 1, 1200},
        {"early data", 0xd0, 1, 1200},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        peer p;
        peer_make(&p, (stoq_limits){0});
        SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
        assert_non_null(tls);
        stoq_endpoint_set_server_tls(p.ep, tls);
        SSL_CTX_free(tls);
        p.ep->always_retry = true;
        peer_turn(&p);
        size_t before = allocated(), said = 0;
        for (unsigned i = 0; i < FLOOD; i++) {
            uint8_t bytes[1200];
            size_t len = kinds[k].len > 0 ? kinds[k].len : 21 + i % 100;
            struct sockaddr_in6 from = forge_address((uint16_t)(1024 + i % 60000));
            hm_random_fill(&p.random, bytes, len);
            bytes[0] = kinds[k].first | (bytes[0] & 0x0f);
            if (kinds[k].len > 0) {
                for (int b = 0; b < 4; b++)
                    bytes[1 + b] = (uint8_t)(kinds[k].version >> (24 - 8 * b));
                bytes[5] = 8, bytes[14] = 8, bytes[23] = 0; // ids, no token
                bytes[24] = 0x44, bytes[25] = 0x00;         // length
            }
            size_t sent = p.bytes;
            stoq_endpoint_receive(p.ep, &from, bytes, len, len, 0, p.now);
            assert_true(p.bytes - sent <= len);
            said += len;
            p.now += 10;
        }
        peer_turn(&p);
        print_message("# %-20s %.3f bytes sent for one received\n", kinds[k].name,
                      (double)p.bytes / (double)said);
        assert_true(allocated() - before <= 16 * KIB);
        assert_int_equal(p.ep->stats.connections, 0);
        peer_end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_strangers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
