// Early data (0-RTT): accepted, refused and sent again, replayed, out of order.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "stoq_forge.h"
#include "stoq_pair.h"

#define OK(e) assert_int_equal((e), HM_OK)
#define SECOND UINT64_C(1000000)
#define MS UINT64_C(1000)
#define FLIGHT (5 * MS) // one way

static stoq_config server_config(void)
{
    return (stoq_config){.server_tls = pair_ids.open_server, .tickets = 1, .early_data = true};
}

static pair_side *client_of(pair_world *w)
{
    return &w->side[PAIR_CLIENT];
}
static pair_side *server_of(pair_world *w)
{
    return &w->side[PAIR_SERVER];
}

static void forget(pair_world *w)
{
    for (int i = 0; i < 2; i++) {
        pair_side *s = &w->side[i];
        s->opened = s->closed = s->resumed = s->streams = s->early_streams = s->ends = s->sessions =
            0;
        hm_buf_reset(&s->received);
    }
}

// A first connection, whose session goes to `session`.
static void first(pair_world *w, stoq_config server, hm_buf *session)
{
    pair_begin(w, 1);
    pair_endpoint(w, PAIR_SERVER, server);
    pair_endpoint(w, PAIR_CLIENT, (stoq_config){.client_tls = pair_ids.open_client});
    pair_connect(w);
    assert_true(pair_run_until(w, pair_both_open, 10 * SECOND));
    pair_run(w, SECOND);
    assert_int_equal(client_of(w)->sessions, 1);
    *session = (hm_buf){0};
    hm_buf_put(session, hm_buf_bytes(&client_of(w)->session));
    server_of(w)->echo = true;
    forget(w);
}

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 7);
}

// Opens a stream and writes so many bytes and its end.
static stoq_stream *speak(stoq_conn *c, size_t len)
{
    static uint8_t bytes[1 << 18];
    stoq_stream *s;
    size_t took;
    assert_true(len <= sizeof bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(i);
    OK(stoq_stream_open(c, false, &s));
    OK(stoq_stream_send(s, hm_bytes_of(bytes, len), true, &took));
    assert_int_equal(took, len);
    return s;
}

static void check_bytes(const hm_buf *b, size_t len)
{
    assert_int_equal(b->len, len);
    for (size_t i = 0; i < len; i++)
        if (b->ptr[i] != pattern(i))
            fail_msg("byte %zu of %zu is wrong", i, len);
}

static bool echoed(const pair_world *w)
{
    return w->side[PAIR_CLIENT].ends >= 1;
}

// The server has the request after one flight, the client the answer after two.
static void test_accepted(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    uint64_t start = w.now;
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_OFFERED);
    speak(c, 1000);
    pair_run(&w, FLIGHT + 100);
    check_bytes(&server_of(&w)->received, 1000);
    assert_int_equal(server_of(&w)->opened, 1);
    assert_int_equal(server_of(&w)->early_streams, 1);
    assert_int_equal(stoq_conn_early(server_of(&w)->conn), STOQ_EARLY_ACCEPTED);
    assert_false(stoq_conn_is_open(server_of(&w)->conn));
    assert_string_equal(stoq_conn_alpn(server_of(&w)->conn), STOQ_ALPN_MESH);
    assert_string_equal(stoq_conn_group(server_of(&w)->conn), "X25519MLKEM768");
    assert_true(pair_run_until(&w, echoed, SECOND));
    assert_in_range(w.now - start, 2 * FLIGHT, 2 * FLIGHT + MS);
    check_bytes(&client_of(&w)->received, 1000);
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_ACCEPTED);
    assert_true(stoq_conn_resumed(c) && stoq_conn_is_open(c));
    pair_run(&w, SECOND);
    // It goes on as any other, with keys updated on both sides.
    OK(stoq_conn_update_keys(c));
    forget(&w);
    speak(c, 100000);
    assert_true(pair_run_until(&w, echoed, SECOND));
    check_bytes(&client_of(&w)->received, 100000);
    assert_int_equal(server_of(&w)->early_streams, 0);
    assert_true(stoq_conn_is_open(server_of(&w)->conn));
    pair_run(&w, 10 * SECOND);
    assert_null(server_of(&w)->conn->early_rx); // RFC 9001, section 4.9.3
    assert_int_equal(server_of(&w)->ep->stats.half_open, 0);
    assert_null(server_of(&w)->conn->tls.ssl);
    hm_buf_free(&session);
    pair_end(&w);
}

// More than a window, so that the rest follows in 1-RTT packets.
static void test_long(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    speak(pair_resume(&w, hm_buf_bytes(&session), true), 200000);
    assert_true(pair_run_until(&w, echoed, 10 * SECOND));
    check_bytes(&client_of(&w)->received, 200000);
    hm_buf_free(&session);
    pair_end(&w);
}

static void expect_rejected(pair_world *w, hm_bytes session, size_t len)
{
    forget(w);
    stoq_conn *c = pair_resume(w, session, true);
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_OFFERED);
    speak(c, len);
    assert_true(pair_run_until(w, echoed, 20 * SECOND));
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_REJECTED);
    assert_int_equal(server_of(w)->streams, 1);
    assert_int_equal(server_of(w)->early_streams, 0);
    check_bytes(&server_of(w)->received, len); // once
    check_bytes(&client_of(w)->received, len);
    pair_run(w, SECOND);
    assert_int_equal(client_of(w)->closed + server_of(w)->closed, 0);
}

// A ticket is good for early data once, and resumes all the same.
static void test_once(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    speak(pair_resume(&w, hm_buf_bytes(&session), true), 10);
    assert_true(pair_run_until(&w, echoed, SECOND));
    assert_int_equal(server_of(&w)->early_streams, 1);
    expect_rejected(&w, hm_buf_bytes(&session), 5000);
    assert_int_equal(client_of(&w)->resumed, 1);
    expect_rejected(&w, hm_buf_bytes(&session), 100000);
    hm_buf_free(&session);
    pair_end(&w);
}

static void test_rejected(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    // No longer taken at all: what was under way when the answer came is sent again.
    first(&w, server_config(), &session);
    server_of(&w)->ep->early_data = false;
    expect_rejected(&w, hm_buf_bytes(&session), 60000);
    assert_int_equal(client_of(&w)->resumed, 1);
    hm_buf_free(&session);
    pair_end(&w);
    // Keys that the server does not know: no session, and no early data.
    first(&w, server_config(), &session);
    stoq_endpoint_set_server_tls(server_of(&w)->ep, pair_ids.open_server);
    expect_rejected(&w, hm_buf_bytes(&session), 60000);
    assert_int_equal(client_of(&w)->resumed, 0);
    hm_buf_free(&session);
    pair_end(&w);
}

// A server that asks for another group (HelloRetryRequest) takes no early data.
static void test_other_group(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    stoq_config server = server_config();
    assert_int_equal(SSL_CTX_set1_groups_list(pair_ids.open_server, "X25519"), 1);
    assert_int_equal(SSL_CTX_set1_groups_list(pair_ids.open_client, "X25519MLKEM768:X25519"), 1);
    first(&w, server, &session);
    expect_rejected(&w, hm_buf_bytes(&session), 20000);
    assert_int_equal(client_of(&w)->resumed, 1);
    assert_string_equal(stoq_conn_group(client_of(&w)->conn), "x25519");
    hm_buf_free(&session);
    pair_end(&w);
    assert_int_equal(SSL_CTX_set1_groups_list(pair_ids.open_server, "X25519MLKEM768"), 1);
    assert_int_equal(SSL_CTX_set1_groups_list(pair_ids.open_client, "X25519MLKEM768"), 1);
}

// A ticket without early data offers none, whatever the application asks for.
static void test_not_offered(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    stoq_stream *s;
    stoq_config server = server_config();
    server.early_data = false;
    first(&w, server, &session);
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_NONE);
    assert_int_equal(stoq_stream_open(c, false, &s), HM_E_STOQ_BLOCKED);
    assert_true(pair_run_until(&w, pair_both_open, SECOND));
    assert_true(stoq_conn_resumed(c));
    speak(c, 10);
    assert_true(pair_run_until(&w, echoed, SECOND));
    assert_int_equal(server_of(&w)->early_streams, 0);
    // Nor does one that is damaged.
    session.ptr[20] ^= 1;
    c = pair_resume(&w, hm_buf_bytes(&session), true);
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_NONE);
    hm_buf_free(&session);
    pair_end(&w);
}

// A reset and a stop of early streams, when it all has to be said again.
static void test_rejected_control(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    server_of(&w)->ep->early_data = false;
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
    stoq_stream *a = speak(c, 3000), *b;
    pair_run(&w, 100);
    stoq_stream_reset(a, 7);
    OK(stoq_stream_open(c, false, &b));
    stoq_stream_stop(b, 8);
    size_t took;
    OK(stoq_stream_send(b, hm_bytes_str("x"), true, &took));
    pair_run(&w, 5 * SECOND);
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_REJECTED);
    assert_int_equal(server_of(&w)->resets, 1);
    assert_int_equal(server_of(&w)->streams, 2);
    assert_int_equal(client_of(&w)->closed + server_of(&w)->closed, 0);
    assert_int_equal(c->stats.streams_open, 1); // the server's answer to the first one
    hm_buf_free(&session);
    pair_end(&w);
}

// ---- replay -------------------------------------------------------------------------------------

#define KEPT 64

typedef struct recording {
    unsigned count;
    struct {
        uint8_t bytes[1500];
        size_t len;
    } at[KEPT];
} recording;

static bool record(pair_world *w, unsigned to, uint8_t *bytes, size_t len)
{
    recording *r = w->watcher;
    if (to == PAIR_SERVER && r->count < KEPT) {
        assert_true(len <= sizeof r->at[0].bytes);
        memcpy(r->at[r->count].bytes, bytes, len);
        r->at[r->count++].len = len;
    }
    return true;
}

// The very packets of a client, sent again while its connection lives, after it and after an hour.
static void test_replayed(void **state)
{
    (void)state;
    static recording r;
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    r.count = 0;
    w.watch = record;
    w.watcher = &r;
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
    speak(c, 2000);
    pair_run(&w, FLIGHT + 100);
    check_bytes(&server_of(&w)->received, 2000);
    unsigned flight = r.count;
    assert_in_range(flight, 2, KEPT - 1);
    w.watch = NULL;
    for (unsigned pass = 0; pass < 3; pass++) {
        if (pass == 1) { // its end is forgotten
            stoq_conn_close(c, 0, "");
            pair_run(&w, 5 * SECOND);
            assert_int_equal(server_of(&w)->ep->stats.connections, 1); // the first one's
        } else if (pass == 2) {
            pair_run(&w, 3600 * SECOND);
        }
        forget(&w);
        for (unsigned i = 0; i < flight; i++)
            pair_fly(&w, PAIR_SERVER, r.at[i].bytes, r.at[i].len);
        pair_run(&w, 2 * FLIGHT);
        assert_int_equal(server_of(&w)->received.len, 0);
        assert_int_equal(server_of(&w)->streams, 0);
        if (pass > 0) // a handshake has begun all the same
            assert_true(server_of(&w)->ep->stats.half_open == 1);
        pair_run(&w, 15 * SECOND);
        assert_int_equal(server_of(&w)->ep->stats.half_open, 0);
    }
    hm_buf_free(&session);
    pair_end(&w);
}

static void test_strikes(void **state)
{
    (void)state;
    uint64_t now = 5 * SECOND;
    stoq_ticket_store store;
    uint8_t id[STOQ_STRIKE_BYTES] = {0};
    stoq_ticket_store_init(&store, &hm_random_system, 1000);
    stoq_tickets t = {.store = &store, .now_us = &now, .life_us = 100 * SECOND};
    for (unsigned i = 0; i < 1000; i++) {
        memcpy(id, &i, sizeof i);
        now = 5 * SECOND + i * (SECOND / 100);
        assert_true(stoq_tickets_strike(&t, id));
        assert_false(stoq_tickets_strike(&t, id));
    }
    unsigned more = 5000;
    memcpy(id, &more, sizeof more);
    assert_false(stoq_tickets_strike(&t, id)); // full
    assert_int_equal(store.count, 1000);
    now = 105 * SECOND - 1;
    assert_false(stoq_tickets_strike(&t, id));
    now = 105 * SECOND; // the first one is over
    assert_true(stoq_tickets_strike(&t, id));
    assert_false(stoq_tickets_strike(&t, id));
    now += 99 * SECOND;
    for (unsigned i = 0; i < 3000; i++) {
        unsigned k = 10000 + i;
        memcpy(id, &k, sizeof k);
        (void)stoq_tickets_strike(&t, id);
    }
    assert_int_equal(store.count, 1000);
    assert_true(store.cap == 1024 && store.struck.count == 1000);
    now += 1000 * SECOND;
    assert_true(stoq_tickets_strike(&t, id));
    assert_int_equal(store.count, 1);
    stoq_ticket_store_free(&store);
}

// With the register full early data is refused, and the connection is made without it.
static void test_full(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    server_of(&w)->ep->tickets.store->strikes_max = 0;
    expect_rejected(&w, hm_buf_bytes(&session), 3000);
    assert_int_equal(client_of(&w)->resumed, 1);
    hm_buf_free(&session);
    pair_end(&w);
}

// ---- transport parameters -----------------------------------------------------------------------

static void remove_server(pair_world *w)
{
    stoq_endpoint_destroy(server_of(w)->ep);
    server_of(w)->ep = NULL;
    pair_run(w, SECOND);
}

// A server that has the ticket's keys but other limits.
static void changed(stoq_limits limits, uint64_t code, bool early)
{
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    stoq_ticket_key key = server_of(&w)->ep->tickets.store->now;
    stoq_config server = server_config();
    server.limits = limits;
    remove_server(&w);
    pair_endpoint(&w, PAIR_SERVER, server);
    server_of(&w)->ep->tickets.store->now = key;
    forget(&w);
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), early);
    if (early)
        speak(c, 100);
    pair_run(&w, 2 * SECOND);
    assert_int_equal(client_of(&w)->closed, code != 0);
    if (code != 0) {
        assert_int_equal(client_of(&w)->code, code);
    } else {
        assert_true(stoq_conn_resumed(c));
    }
    hm_buf_free(&session);
    pair_end(&w);
}

static void test_params(void **state)
{
    (void)state;
    changed((stoq_limits){0}, 0, true);
    changed((stoq_limits){.conn_window_bytes = 8 << 20, .max_streams_uni = 300}, 0, true);
    changed((stoq_limits){.conn_window_bytes = 1 << 18}, STOQ_PROTOCOL_VIOLATION, true);
    changed((stoq_limits){.stream_window_bytes = 1 << 17}, STOQ_PROTOCOL_VIOLATION, true);
    changed((stoq_limits){.max_streams_bidi = 255}, STOQ_PROTOCOL_VIOLATION, true);
    changed((stoq_limits){.max_streams_uni = 255}, STOQ_PROTOCOL_VIOLATION, true);
    changed((stoq_limits){.conn_window_bytes = 1 << 18}, 0, false);
}

// Rejected by a server that allows less now: streams and bytes wait for their turn.
static void test_rejected_lower(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    first(&w, server_config(), &session);
    stoq_config server = server_config();
    server.limits = (stoq_limits){.max_streams_bidi = 2, .conn_window_bytes = 4096};
    remove_server(&w);
    pair_endpoint(&w, PAIR_SERVER, server);
    server_of(&w)->echo = true;
    forget(&w);
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
    for (int i = 0; i < 10; i++)
        speak(c, 3000);
    pair_run(&w, 20 * SECOND);
    assert_int_equal(stoq_conn_early(c), STOQ_EARLY_REJECTED);
    assert_int_equal(server_of(&w)->ends, 10);
    assert_int_equal(client_of(&w)->ends, 10);
    assert_int_equal(server_of(&w)->received.len, 30000);
    assert_int_equal(client_of(&w)->closed + server_of(&w)->closed, 0);
    hm_buf_free(&session);
    pair_end(&w);
}

// ---- the network --------------------------------------------------------------------------------

// Loss and order: whatever comes first, all comes once.
static void test_rough(void **state)
{
    (void)state;
    unsigned early = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        pair_world w;
        hm_buf session;
        stoq_config server = server_config();
        server.always_retry = seed % 4 == 0;
        first(&w, server, &session);
        hm_prng_seed(&w.prng, seed);
        w.loss = seed % 3 == 0 ? 0 : 5 + (unsigned)(seed % 20);
        w.jitter_us = seed % 2 == 0 ? 20000 : 0;
        if (seed % 5 == 0)
            server_of(&w)->ep->early_data = false;
        stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
        speak(c, 30000);
        if (!pair_run_until(&w, echoed, 60 * SECOND))
            fail_msg("seed %llu: received %zu and %zu", (unsigned long long)seed,
                     server_of(&w)->received.len, client_of(&w)->received.len);
        check_bytes(&server_of(&w)->received, 30000);
        check_bytes(&client_of(&w)->received, 30000);
        early += server_of(&w)->early_streams;
        hm_buf_free(&session);
        pair_end(&w);
    }
    assert_true(early > 60);
}

static bool early_first(pair_world *w, unsigned to, uint8_t *bytes, size_t len)
{
    // The first datagram, with the ClientHello's beginning, comes; those with Initial packets that
    // follow are late.
    unsigned *count = w->watcher;
    if (to != PAIR_SERVER || (*count)++ == 0 || (bytes[0] & 0xf0) != 0xc0)
        return true;
    uint64_t now = w->now;
    w->now += 3 * MS;
    pair_fly(w, to, bytes, len);
    w->now = now;
    return false;
}

// Packets that come before their keys are held, so many and no more.
static void test_held(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    unsigned count = 0;
    first(&w, server_config(), &session);
    w.watch = early_first;
    w.watcher = &count;
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
    speak(c, 10000);
    pair_run(&w, FLIGHT + MS);
    assert_int_equal(server_of(&w)->received.len, 0);
    const stoq_conn *s = hm_container_of(server_of(&w)->ep->conns.prev, stoq_conn, link);
    assert_in_range(s->held_count, 5, STOQ_HELD_MAX);
    assert_in_range(s->held_bytes, 5000, STOQ_HELD_BYTES);
    pair_run(&w, 3 * MS);
    assert_in_range(server_of(&w)->received.len, 5000, 10000);
    assert_int_equal(s->held_count, 0);
    assert_true(pair_run_until(&w, echoed, SECOND));
    check_bytes(&client_of(&w)->received, 10000);
    hm_buf_free(&session);
    pair_end(&w);
}

// A flood of 0-RTT packets for a connection whose ClientHello never becomes whole.
static void test_flood(void **state)
{
    (void)state;
    pair_world w;
    hm_buf session;
    static recording r;
    first(&w, server_config(), &session);
    r.count = 0;
    w.watch = record;
    w.watcher = &r;
    stoq_conn *c = pair_resume(&w, hm_buf_bytes(&session), true);
    stoq_endpoint_process(client_of(&w)->ep, w.now, false);
    stoq_cid dcid = *conn_dcid(c), scid = c->local[0].cid;
    assert_in_range(r.count, 2, 4);
    w.watch = NULL;
    stoq_endpoint *ep = server_of(&w)->ep;
    struct sockaddr_in6 from = forge_address(5000);
    stoq_endpoint_receive(ep, &from, r.at[0].bytes, r.at[0].len, r.at[0].len, 0, w.now);
    assert_int_equal(ep->stats.half_open, 1);
    const stoq_conn *s = hm_container_of(ep->conns.prev, stoq_conn, link);
    stoq_keys keys = {0};
    OK(stoq_keys_init(&keys, &stoq_versions[0], HM_AES_128_GCM, (const uint8_t[32]){9}, 32));
    for (unsigned i = 0; i < 200; i++) {
        uint8_t out[FORGE_MAX], payload[1000] = {STOQ_FRAME_PING};
        size_t n = forge_long(&keys, STOQ_PACKET_0RTT, &dcid, &scid, (hm_bytes){0}, i,
                              hm_bytes_of(payload, 1 + i * 5 % 1000), out);
        stoq_endpoint_receive(ep, &from, out, n, n, 0, w.now);
        assert_true(s->held_count <= STOQ_HELD_MAX && s->held_bytes <= STOQ_HELD_BYTES);
    }
    assert_true(s->held_count > 0);
    stoq_keys_free(&keys);
    hm_buf_free(&session);
    pair_end(&w); // and what is held is freed
}

// Frames that have no place in 0-RTT packets (RFC 9000, section 12.5).
static void test_frames(void **state)
{
    (void)state;
    static const uint8_t none[] = {STOQ_FRAME_ACK,
                                   STOQ_FRAME_ACK_ECN,
                                   STOQ_FRAME_CRYPTO,
                                   STOQ_FRAME_HANDSHAKE_DONE,
                                   STOQ_FRAME_NEW_TOKEN,
                                   STOQ_FRAME_PATH_RESPONSE,
                                   STOQ_FRAME_RETIRE_CONNECTION_ID,
                                   STOQ_FRAME_ACK_FREQUENCY,
                                   STOQ_FRAME_IMMEDIATE_ACK};
    static const uint8_t some[] = {STOQ_FRAME_PADDING,       STOQ_FRAME_PING,
                                   STOQ_FRAME_STREAM,        STOQ_FRAME_RESET_STREAM,
                                   STOQ_FRAME_STOP_SENDING,  STOQ_FRAME_MAX_DATA,
                                   STOQ_FRAME_CLOSE,         STOQ_FRAME_CLOSE_APP,
                                   STOQ_FRAME_DATAGRAM,      STOQ_FRAME_NEW_CONNECTION_ID,
                                   STOQ_FRAME_PATH_CHALLENGE};
    for (size_t i = 0; i < sizeof none; i++)
        assert_false(stoq_frame_allowed(none[i], STOQ_PACKET_0RTT));
    for (size_t i = 0; i < sizeof some; i++)
        assert_true(stoq_frame_allowed(some[i], STOQ_PACKET_0RTT));
}

static void test_config(void **state)
{
    (void)state;
    stoq_endpoint *ep;
    stoq_net net = {0};
    stoq_config c = {.net = &net, .alpn = {"x"}, .early_data = true};
    assert_int_equal(stoq_endpoint_create(&c, &ep), HM_E_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_rejected),
        cmocka_unit_test(test_other_group),
        cmocka_unit_test(test_not_offered),
        cmocka_unit_test(test_rejected_control),
        cmocka_unit_test(test_replayed),
        cmocka_unit_test(test_strikes),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_rejected_lower),
        cmocka_unit_test(test_rough),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, pair_make_ids, pair_free_ids);
}
