// A bundle against a peer that breaks its rules: every frame by hand, over real connections. What
// is refused ends with the code that says so, and the bundle of somebody else goes on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq/bundle_frame.h"
#include "stoq/bundle_rx.h"
#include "stoq_bundle_world.h"

#define SECOND UINT64_C(1000000)

static bw w;
static stoq_ids ids;
static unsigned watched; // path

static bool watched_open(const bw *x)
{
    return x->paths[watched].open;
}
static bool watched_closed(const bw *x)
{
    return x->paths[watched].closed;
}
static bool watched_answer(const bw *x)
{
    return x->paths[watched].answer.len > 0;
}
static bool opened(const bw *x)
{
    return x->side[0].opened && x->side[1].opened;
}

static void begin(bw_config k)
{
    k.seed = 1;
    k.server_tls = k.server_tls != NULL ? k.server_tls : ids.server;
    k.client_tls = k.client_tls != NULL ? k.client_tls : ids.client;
    bw_begin(&w, &k);
}

// A connection whose stream is the test's.
static stoq_stream *raw(unsigned path)
{
    stoq_stream *st;
    w.paths[path].raw = true;
    watched = path;
    stoq_conn *c = bw_connect(&w, path);
    assert_true(bw_run_until(&w, watched_open, SECOND));
    assert_int_equal(stoq_stream_open(c, false, &st), HM_OK);
    return st;
}

static void send_bytes(stoq_stream *st, const void *bytes, size_t len)
{
    size_t took;
    assert_int_equal(stoq_stream_send(st, hm_bytes_of(bytes, len), false, &took), HM_OK);
    assert_int_equal(took, len);
}

static void send_frame(stoq_stream *st, bundle_frame f)
{
    uint8_t out[BUNDLE_FRAME_MAX];
    send_bytes(st, out, bundle_frame_write(&f, out));
}

static void send_piece(stoq_stream *st, uint64_t offset, uint16_t len)
{
    static uint8_t bytes[STOQ_BUNDLE_PIECE_MAX];
    for (unsigned i = 0; i < len; i++) { // what the world's client would send
        uint64_t at = offset + i;
        bytes[i] = (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16) * 3);
    }
    send_frame(st, (bundle_frame){.type = BUNDLE_PIECE, .value = offset, .len = len});
    send_bytes(st, bytes, len);
}

static void send_open(stoq_stream *st)
{
    send_frame(st, (bundle_frame){.type = BUNDLE_OPEN, .version = 1, .value = 1 << 20});
}

static void refused(unsigned path, uint64_t code)
{
    watched = path;
    assert_true(bw_run_until(&w, watched_closed, SECOND));
    assert_int_equal(w.paths[path].closed_code, code);
}

// A bundle opened by hand on path 0, of which the server takes 200,000 bytes at most.
static stoq_stream *begin_raw(bool ordered)
{
    begin((bw_config){
        .paths = 1, .ordered = ordered, .lazy = true, .up = 200000, .window_bytes = 65536});
    stoq_stream *st = raw(0);
    send_open(st);
    assert_true(bw_run_until(&w, watched_answer, SECOND));
    return st;
}

// ---- pieces -------------------------------------------------------------------------------------

static void test_twice(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        static const uint64_t second[] = {1000, 500, 1999, 900};
        for (unsigned i = 0; i < 4; i++) { // the same, across its start, its end, all around
            stoq_stream *st = begin_raw(ordered);
            send_piece(st, 1000, 1000);
            send_piece(st, second[i], i == 3 ? 2000 : 1000);
            refused(0, STOQ_BUNDLE_TWICE);
            assert_int_equal(w.side[1].why, HM_E_EXISTS);
            bw_end(&w);
        }
        // One that was handed on already.
        stoq_stream *st = begin_raw(ordered);
        send_piece(st, 0, 1000);
        send_piece(st, 0, 1000);
        refused(0, STOQ_BUNDLE_TWICE);
        assert_int_equal(w.side[1].received, 1000);
        bw_end(&w);
    }
}

static void test_window(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        stoq_stream *st = begin_raw(ordered);
        send_piece(st, 65536 - 1000, 1001);
        refused(0, STOQ_BUNDLE_WINDOW);
        assert_int_equal(w.side[1].why, HM_E_RANGE);
        bw_end(&w);
        // Beyond an end that was told, and an end before what came.
        st = begin_raw(ordered);
        send_frame(st, (bundle_frame){.type = BUNDLE_END, .value = 100});
        send_piece(st, 50, 51);
        refused(0, STOQ_BUNDLE_WINDOW);
        bw_end(&w);
        st = begin_raw(ordered);
        send_piece(st, 50, 51);
        send_frame(st, (bundle_frame){.type = BUNDLE_END, .value = 100});
        refused(0, STOQ_BUNDLE_WINDOW);
        bw_end(&w);
        st = begin_raw(ordered);
        send_frame(st, (bundle_frame){.type = BUNDLE_END, .value = 200000});
        send_frame(st, (bundle_frame){.type = BUNDLE_END, .value = 200001});
        refused(0, STOQ_BUNDLE_WINDOW);
        bw_end(&w);
    }
}

// Every second byte: after 1,024 gaps it is over.
static void test_gaps(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        stoq_stream *st = begin_raw(ordered);
        for (unsigned i = 0; i < STOQ_BUNDLE_GAPS_MAX; i++)
            send_piece(st, 1 + 2 * i, 1);
        assert_false(bw_run_until(&w, watched_closed, SECOND / 2));
        send_piece(st, 1 + 2 * STOQ_BUNDLE_GAPS_MAX, 1);
        refused(0, STOQ_BUNDLE_WINDOW);
        assert_int_equal(w.side[1].why, HM_E_LIMIT);
        bw_end(&w);
    }
}

// The limit follows what the application is done with, and the window is never passed.
static void test_memory_is_the_window(void **state)
{
    (void)state;
    bundle_rx rx;
    static uint8_t bytes[4096];
    bundle_rx_init(&rx, true, 65536);
    for (uint64_t at = 4096; at < 65536; at += 4096) // all but the first
        assert_int_equal(bundle_rx_take(&rx, at, hm_bytes_of(bytes, 4096)), HM_OK);
    assert_int_equal(bundle_rx_take(&rx, 65536, hm_bytes_of(bytes, 1)), HM_E_RANGE);
    assert_int_equal(bundle_rx_ready(&rx, 0, (hm_bytes){0}).len, 0);
    assert_int_equal(bundle_rx_take(&rx, 0, hm_bytes_of(bytes, 4096)), HM_OK);
    size_t all = 0, n;
    while ((n = bundle_rx_ready(&rx, 0, hm_bytes_of(bytes, 4096)).len) > 0) {
        bundle_rx_told(&rx, n);
        all += n;
    }
    assert_int_equal(all, 65536);
    assert_int_equal(bundle_rx_take(&rx, 65536, hm_bytes_of(bytes, 1)), HM_E_RANGE);
    assert_false(bundle_rx_consume(&rx, 16383));
    assert_true(bundle_rx_consume(&rx, 1));
    assert_int_equal(rx.limit, 65536 + 16384);
    assert_int_equal(bundle_rx_take(&rx, 65536, hm_bytes_of(bytes, 1)), HM_OK);
    bundle_rx_free(&rx);
}

// ---- frames -------------------------------------------------------------------------------------

static void test_malformed(void **state)
{
    (void)state;
    static const bundle_frame frames[] = {
        {.type = BUNDLE_OPEN, .version = 1, .value = 1},
        {.type = BUNDLE_JOIN, .version = 1, .index = 1},
        {.type = BUNDLE_OPENED},
        {.type = BUNDLE_JOINED},
        {.type = BUNDLE_TAKEN, .value = 1}, // nothing was sent
        {.type = BUNDLE_GONE, .index = 0},  // itself
        {.type = BUNDLE_GONE, .index = 32},
        {.type = BUNDLE_TAKEN_OF, .index = 0}, // nobody asked
        {.type = BUNDLE_TAKEN_OF, .index = 5},
        {.type = BUNDLE_TAKEN_OF, .index = 32},
        {.type = BUNDLE_ALLOW, .value = BUNDLE_OFFSET_MAX + 1},
        {.type = BUNDLE_PIECE, .len = 0},
        {.type = BUNDLE_PIECE, .len = STOQ_BUNDLE_PIECE_MAX + 1},
    };
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        stoq_stream *st = begin_raw(false);
        send_frame(st, frames[i]);
        refused(0, STOQ_BUNDLE_MALFORMED);
        assert_true(w.side[1].closed);
        bw_end(&w);
    }
    for (unsigned type = 0; type < 256; type = type == 0 ? 11 : type + 49) {
        stoq_stream *st = begin_raw(false);
        send_bytes(st, &(uint8_t){(uint8_t)type}, 1);
        refused(0, STOQ_BUNDLE_MALFORMED);
        bw_end(&w);
    }
}

// Before it is in a bundle a connection may say one thing only; a second stream is not listened to.
static void test_first_frame(void **state)
{
    (void)state;
    begin((bw_config){.paths = 5, .up = 1000, .down = 1000});
    send_piece(raw(0), 0, 10);
    refused(0, STOQ_BUNDLE_MALFORMED);
    send_frame(raw(1), (bundle_frame){.type = BUNDLE_OPENED});
    refused(1, STOQ_BUNDLE_MALFORMED);
    send_frame(raw(2), (bundle_frame){.type = BUNDLE_OPEN, .version = 2, .value = 1});
    refused(2, STOQ_BUNDLE_UNSUPPORTED);
    size_t took;
    stoq_stream *st = raw(3);
    assert_int_equal(stoq_stream_send(st, (hm_bytes){0}, true, &took), HM_OK);
    refused(3, STOQ_BUNDLE_MALFORMED);
    assert_int_equal(stoq_bundles_refused(w.side[1].set), 4);
    assert_false(w.side[1].opened);
    st = raw(4);
    assert_int_equal(stoq_stream_open(stoq_stream_conn(st), false, &st), HM_OK); // the second
    send_open(st);
    assert_false(bw_run_until(&w, watched_closed, SECOND / 2));
    assert_false(w.side[1].opened);
    assert_int_equal(w.paths[4].streams_closed, 1); // that one alone
    bw_end(&w);
}

// ---- joining ------------------------------------------------------------------------------------

// What the client of a bundle knows, from the answer to BUNDLE_OPEN.
static void learn_id(unsigned path, uint8_t id[BUNDLE_ID])
{
    bundle_frame f;
    size_t used;
    watched = path;
    assert_true(bw_run_until(&w, watched_answer, SECOND));
    assert_int_equal(bundle_frame_parse(hm_buf_bytes(&w.paths[path].answer), &f, &used), HM_OK);
    assert_int_equal(f.type, BUNDLE_OPENED);
    memcpy(id, f.id, BUNDLE_ID);
}

static bundle_frame join_frame(const uint8_t id[BUNDLE_ID], const stoq_conn *first,
                               const stoq_conn *conn, uint8_t index)
{
    bundle_frame f = {.type = BUNDLE_JOIN, .version = 1, .index = index};
    uint8_t key[STOQ_EXPORT_BYTES], text[BUNDLE_ID + 1 + STOQ_EXPORT_BYTES];
    size_t len;
    memcpy(f.id, id, BUNDLE_ID);
    memcpy(text, id, BUNDLE_ID);
    text[BUNDLE_ID] = index;
    assert_int_equal(stoq_conn_export(first, key), HM_OK);
    assert_int_equal(stoq_conn_export(conn, text + BUNDLE_ID + 1), HM_OK);
    assert_non_null(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, sizeof key, text,
                              sizeof text, f.proof, sizeof f.proof, &len));
    return f;
}

static void test_join(void **state)
{
    (void)state;
    uint8_t id[BUNDLE_ID];
    begin((bw_config){.paths = 8, .up = 1000, .down = 1000});
    stoq_stream *first = raw(0);
    send_open(first);
    learn_id(0, id);
    const stoq_conn *c0 = w.paths[0].conn;
    // A stranger who has seen nothing, and one who has the id but not the first connection.
    send_frame(raw(1), (bundle_frame){.type = BUNDLE_JOIN, .version = 1, .index = 1});
    refused(1, STOQ_BUNDLE_DENIED);
    stoq_stream *st = raw(2);
    send_frame(st, join_frame(id, w.paths[2].conn, w.paths[2].conn, 1));
    refused(2, STOQ_BUNDLE_DENIED);
    // A proof is good for the connection that it was made for, and for its number.
    stoq_stream *fourth = raw(4);
    st = raw(3);
    send_frame(st, join_frame(id, c0, w.paths[4].conn, 1));
    refused(3, STOQ_BUNDLE_DENIED);
    bundle_frame f = join_frame(id, c0, w.paths[4].conn, 1);
    f.index = 2;
    send_frame(fourth, f);
    refused(4, STOQ_BUNDLE_DENIED);
    assert_int_equal(stoq_bundles_refused(w.side[1].set), 4);
    // With a whole one it is let in; a number is given once.
    st = raw(5);
    send_frame(st, join_frame(id, c0, w.paths[5].conn, 1));
    watched = 5;
    assert_true(bw_run_until(&w, watched_answer, SECOND));
    assert_int_equal(w.paths[5].answer.ptr[0], BUNDLE_JOINED);
    stoq_stream *again = raw(6);
    send_frame(again, join_frame(id, c0, w.paths[6].conn, 1));
    refused(6, STOQ_BUNDLE_MALFORMED);
    stoq_stream *late = raw(7);
    send_frame(late, join_frame(id, c0, w.paths[7].conn, 32)); // the 33rd
    refused(7, STOQ_BUNDLE_LIMIT);
    assert_false(w.side[1].closed);
    send_piece(first, 0, 500);
    send_piece(st, 500, 500);
    send_frame(st, (bundle_frame){.type = BUNDLE_END, .value = 1000});
    (void)bw_run_until(&w, bw_both_ended, SECOND / 2);
    assert_true(w.side[1].ended);
    bw_end(&w);
}

// What a connection carried that its peer did not take goes again; a number that never joined is
// answered with none, and used up.
static void test_gone(void **state)
{
    (void)state;
    uint8_t id[BUNDLE_ID];
    bundle_frame f;
    size_t used;
    begin((bw_config){.paths = 3, .up = 3000});
    stoq_stream *first = raw(0);
    send_open(first);
    learn_id(0, id);
    const stoq_conn *c0 = w.paths[0].conn;
    stoq_stream *st = raw(1);
    send_frame(st, join_frame(id, c0, w.paths[1].conn, 1));
    send_piece(st, 0, 1000);
    send_piece(st, 1000, 1000);
    watched = 1;
    assert_true(bw_run_until(&w, watched_answer, SECOND));
    hm_buf_reset(&w.paths[0].answer);
    send_frame(first, (bundle_frame){.type = BUNDLE_GONE, .index = 1});
    refused(1, STOQ_BUNDLE_LEFT);
    hm_bytes left = hm_buf_bytes(&w.paths[0].answer);
    bool told = false, asked = false;
    while (left.len > 0) {
        assert_int_equal(bundle_frame_parse(left, &f, &used), HM_OK);
        told |= f.type == BUNDLE_TAKEN_OF && f.index == 1 && f.value == 2;
        asked |= f.type == BUNDLE_GONE && f.index == 1;
        left = hm_bytes_of(left.ptr + used, left.len - used);
    }
    assert_true(told && asked);
    send_frame(first, (bundle_frame){.type = BUNDLE_GONE, .index = 2});
    stoq_stream *late = raw(2);
    send_frame(late, join_frame(id, c0, w.paths[2].conn, 2));
    refused(2, STOQ_BUNDLE_MALFORMED);
    send_frame(first, (bundle_frame){.type = BUNDLE_TAKEN_OF, .index = 1, .value = 1});
    refused(0, STOQ_BUNDLE_MALFORMED); // it was sent none
    bw_end(&w);
}

static void test_max_bundles(void **state)
{
    (void)state;
    begin((bw_config){.paths = 2, .max_bundles = 1, .up = 10});
    send_open(raw(0));
    assert_true(bw_run_until(&w, watched_answer, SECOND));
    send_open(raw(1));
    refused(1, STOQ_BUNDLE_LIMIT);
    bw_end(&w);
    begin((bw_config){.paths = 3, .max_connections = 2, .up = 10});
    bw_open(&w);
    watched = 2;
    assert_true(bw_run_until(&w, watched_closed, SECOND));
    assert_true(w.paths[2].closed_code == STOQ_BUNDLE_LIMIT ||
                w.paths[1].closed_code == STOQ_BUNDLE_LIMIT);
    assert_true(opened(&w) && !w.side[1].closed);
    bw_end(&w);
}

static bool all_carry(const bw *x)
{
    stoq_bundle_stats s;
    if (x->side[0].bundle == NULL)
        return false;
    stoq_bundle_get_stats(x->side[0].bundle, &s);
    return s.connections == STOQ_BUNDLE_CONNS_MAX;
}

// 32 are carried; a client's own 33rd is refused before anything is sent.
static void test_32(void **state)
{
    (void)state;
    begin((bw_config){.paths = 33, .up = 2000000, .down = 2000000});
    w.paths[32].raw = true; // not added by itself
    bw_open(&w);
    assert_true(bw_run_until(&w, all_carry, SECOND));
    watched = 32;
    assert_true(bw_run_until(&w, watched_open, SECOND));
    assert_int_equal(stoq_bundle_add(w.side[0].bundle, w.paths[32].conn), HM_E_LIMIT);
    assert_true(bw_run_until(&w, bw_both_ended, 10 * SECOND));
    bw_end(&w);
}

// ---- who the peer is ----------------------------------------------------------------------------

// With certificates on both sides: the same client may join, another one not, whatever it knows;
// and a client adds no connection to another server.
static void test_identity(void **state)
{
    (void)state;
    uint8_t id[BUNDLE_ID];
    stoq_ids mutual, other;
    stoq_ids_make(&mutual);
    stoq_ids_make(&other);
    begin((bw_config){
        .paths = 2, .up = 10, .server_tls = mutual.server, .client_tls = mutual.client});
    send_open(raw(0));
    learn_id(0, id);
    stoq_stream *st = raw(1);
    send_frame(st, join_frame(id, w.paths[0].conn, w.paths[1].conn, 1));
    assert_true(bw_run_until(&w, watched_answer, SECOND));
    assert_int_equal(w.paths[1].answer.ptr[0], BUNDLE_JOINED);
    bw_end(&w);

    begin((bw_config){
        .paths = 2, .up = 10, .server_tls = mutual.server, .client_tls = mutual.client});
    stoq_endpoint *own = w.paths[1].ep;
    stoq_net net = own->net;
    stoq_config config = {.bind = forge_address(4435),
                          .net = &net,
                          .client_tls = other.client,
                          .alpn = {STOQ_ALPN_BUNDLE},
                          .callbacks = own->callbacks,
                          .user = own->user,
                          .random = &w.random};
    assert_int_equal(stoq_endpoint_create(&config, &w.paths[1].ep), HM_OK);
    stoq_endpoint_destroy(own);
    send_open(raw(0));
    learn_id(0, id);
    st = raw(1);
    send_frame(st, join_frame(id, w.paths[0].conn, w.paths[1].conn, 1));
    refused(1, STOQ_BUNDLE_DENIED);
    bw_end(&w);

    begin((bw_config){
        .paths = 2, .up = 10, .server_tls = mutual.server, .client_tls = mutual.client});
    w.paths[1].raw = true;
    bw_open(&w);
    assert_true(bw_run_until(&w, opened, SECOND));
    stoq_endpoint_set_server_tls(w.server, other.server); // somebody else answers there now
    watched = 1;
    w.paths[1].open = false;
    stoq_conn_close(w.paths[1].conn, 0, "");
    assert_true(bw_run_until(&w, watched_closed, SECOND));
    (void)bw_connect(&w, 1);
    assert_true(bw_run_until(&w, watched_open, SECOND));
    assert_int_equal(stoq_bundle_add(w.side[0].bundle, w.paths[1].conn), HM_E_DENIED);
    bw_end(&w);
    stoq_ids_free(&mutual);
    stoq_ids_free(&other);
}

static int make_ids(void **state)
{
    (void)state;
    stoq_ids_make_plain(&ids);
    return 0;
}

static int free_ids(void **state)
{
    (void)state;
    stoq_ids_free(&ids);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twice),       cmocka_unit_test(test_window),
        cmocka_unit_test(test_gaps),        cmocka_unit_test(test_memory_is_the_window),
        cmocka_unit_test(test_malformed),   cmocka_unit_test(test_first_frame),
        cmocka_unit_test(test_join),        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_max_bundles), cmocka_unit_test(test_32),
        cmocka_unit_test(test_identity),
    };
    return cmocka_run_group_tests_name("stoq_bundle", tests, make_ids, free_ids);
}
