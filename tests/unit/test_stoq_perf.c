// The performance protocol between two endpoints whose datagrams are handed over at once. The clock
// is the test's.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/stoq_perf.h"
#include "trustchain/trustchain.h"

#define OK(e) assert_int_equal((e), HM_OK)
#define FLOWS_MAX STOQ_PERF_STREAMS

enum { CLIENT, SERVER };
static struct {
    char dir[64];
    hm_key *key;
    hm_buf chain;
    SSL_CTX *tls[2];
} ids;

static hm_err peer_ok(void *ctx, hm_bytes leaf)
{
    (void)ctx;
    (void)leaf;
    return HM_OK;
}

static int make_ids(void **state)
{
    (void)state;
    tc_authority *authority;
    hm_buf csr = {0};
    char path[96];
    uint64_t now = hm_clock_wall_ms(&hm_clock_system);
    OK(hm_crypto_init());
    snprintf(ids.dir, sizeof ids.dir, "/tmp/hm-perf-XXXXXX");
    assert_non_null(mkdtemp(ids.dir));
    snprintf(path, sizeof path, "%s/authority", ids.dir);
    OK(tc_authority_init(path, "test", now));
    OK(tc_authority_open(path, &authority));
    OK(hm_key_generate(&ids.key));
    OK(tc_node_csr(ids.key, "both", &csr));
    OK(tc_issue_node(authority, hm_buf_bytes(&csr), now, &ids.chain, NULL));
    for (int i = 0; i < 2; i++)
        OK(tc_node_tls(i == SERVER, ids.key, hm_buf_bytes(&ids.chain), peer_ok, NULL, &ids.tls[i]));
    tc_authority_close(authority);
    hm_buf_free(&csr);
    return 0;
}

static int free_ids(void **state)
{
    (void)state;
    char command[96];
    for (int i = 0; i < 2; i++)
        SSL_CTX_free(ids.tls[i]);
    hm_key_free(ids.key);
    hm_buf_free(&ids.chain);
    snprintf(command, sizeof command, "rm -rf %s", ids.dir);
    return system(command);
}

// ---- two endpoints ------------------------------------------------------------------------------

typedef struct datagram {
    struct datagram *next;
    unsigned to;
    size_t len;
    uint8_t bytes[];
} datagram;

typedef struct flow { // of the client
    stoq_stream *stream;
    uint64_t wanted, got, to_send;
    bool fin, closed, reset;
    uint64_t code;
} flow;

typedef struct world {
    uint64_t now;
    datagram *first, **last;
    stoq_endpoint *ep[2];
    stoq_perf perf;
    stoq_conn *conn; // the client's, while it is open
    bool opened, closed, keeps_reading;
    uint64_t close_code;
    flow flows[FLOWS_MAX];
    unsigned count;
} world;

static uint64_t world_us(void *ctx)
{
    return ((const world *)ctx)->now;
}

static struct sockaddr_in6 address(unsigned who)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)(5000 + who))};
    a.sin6_addr.s6_addr[15] = 1;
    return a;
}

static void send_to(world *w, unsigned to, const uint8_t *bytes, size_t len, size_t segment)
{
    for (size_t at = 0; at < len; at += segment) {
        size_t n = len - at < segment ? len - at : segment;
        datagram *d = malloc(sizeof *d + n);
        assert_non_null(d);
        *d = (datagram){.to = to, .len = n};
        memcpy(d->bytes, bytes + at, n);
        *w->last = d;
        w->last = &d->next;
    }
}
static void client_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    (void)to, (void)ecn;
    send_to(ctx, SERVER, bytes, len, segment);
}
static void server_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    (void)to, (void)ecn;
    send_to(ctx, CLIENT, bytes, len, segment);
}

static void turn(world *w, uint64_t end)
{
    uint64_t next = end;
    while (w->first != NULL) {
        datagram *d = w->first;
        struct sockaddr_in6 from = address(!d->to);
        w->first = d->next;
        if (w->first == NULL)
            w->last = &w->first;
        stoq_endpoint_receive(w->ep[d->to], &from, d->bytes, d->len, d->len, 0, w->now);
        free(d);
    }
    for (int i = 0; i < 2; i++) {
        stoq_endpoint_process(w->ep[i], w->now, false);
        uint64_t t = stoq_endpoint_next_timeout_us(w->ep[i]);
        next = t < next ? t : next;
    }
    w->now = w->first != NULL || next <= w->now ? w->now + 10 : next;
}

static void run_until(world *w, const bool *done, uint64_t for_us)
{
    for (uint64_t end = w->now + for_us; w->now < end && !*done;)
        turn(w, w->now + 1000);
    assert_true(*done);
}

static void run_for(world *w, uint64_t for_us)
{
    for (uint64_t end = w->now + for_us; w->now < end;)
        turn(w, end);
}

// ---- the client ---------------------------------------------------------------------------------

static void on_open(void *user, stoq_conn *c)
{
    world *w = user;
    (void)c;
    w->opened = true;
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    world *w = user;
    (void)reason;
    (void)is_app;
    if (c == w->conn)
        w->conn = NULL;
    w->closed = true;
    w->close_code = code;
}

static void on_readable(void *user, stoq_stream *s)
{
    world *w = user;
    flow *f = stoq_stream_user(s);
    while (w->keeps_reading && !f->fin) {
        hm_bytes v;
        if (stoq_stream_peek(s, &v, &f->fin) != HM_OK) {
            f->reset = true;
            f->code = stoq_stream_reset_code(s);
            return;
        }
        if (v.len == 0 && !f->fin)
            return;
        f->got += v.len;
        stoq_stream_consume(s, v.len);
    }
}

static void push(flow *f)
{
    static const uint8_t block[10000];
    size_t took = 1;
    while (f->to_send > 0 && took > 0) {
        size_t n = f->to_send < sizeof block ? (size_t)f->to_send : sizeof block;
        if (stoq_stream_send(f->stream, hm_bytes_of(block, n), n == f->to_send, &took) != HM_OK)
            return;
        f->to_send -= took;
    }
}

static void on_writable(void *user, stoq_stream *s)
{
    (void)user;
    push(stoq_stream_user(s));
    if (stoq_stream_stop_code(s) != 0)
        ((flow *)stoq_stream_user(s))->code = stoq_stream_stop_code(s);
}

static void on_stream_closed(void *user, stoq_stream *s)
{
    (void)user;
    flow *f = stoq_stream_user(s);
    f->closed = true;
    f->stream = NULL;
}

// Asks for `wanted` bytes and sends `upload`, or only `head` bytes of the length.
static flow *ask(world *w, uint64_t wanted, uint64_t upload, size_t head)
{
    uint8_t bytes[8];
    size_t took;
    assert_true(w->count < FLOWS_MAX);
    flow *f = &w->flows[w->count++];
    *f = (flow){.wanted = wanted, .to_send = upload};
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(wanted >> (56 - 8 * i));
    OK(stoq_stream_open(w->conn, false, &f->stream));
    stoq_stream_set_user(f->stream, f);
    OK(stoq_stream_send(f->stream, hm_bytes_of(bytes, head), upload == 0, &took));
    assert_int_equal(took, head);
    push(f);
    return f;
}

static void client_begin(world *w, SSL_CTX *tls)
{
    struct sockaddr_in6 to = address(SERVER);
    stoq_net net = {client_send, w};
    stoq_config cfg = {.bind = address(CLIENT),
                       .net = &net,
                       .client_tls = tls,
                       .alpn = {STOQ_PERF_ALPN},
                       .callbacks = {.conn_open = on_open,
                                     .conn_closed = on_closed,
                                     .stream_readable = on_readable,
                                     .stream_writable = on_writable,
                                     .stream_closed = on_stream_closed},
                       .user = w,
                       .limits = {.conn_window_bytes = 65536}};
    OK(stoq_endpoint_create(&cfg, &w->ep[CLIENT]));
    OK(stoq_connect(w->ep[CLIENT], &to, NULL, NULL, NULL, &w->conn));
}

static hm_clock clock_of_test;

static void world_begin(world *w)
{
    stoq_net net = {server_send, w};
    *w = (world){.now = 1000000, .keeps_reading = true};
    w->last = &w->first;
    clock_of_test = (hm_clock){.mono_us = world_us, .wall_ms = world_us, .ctx = w};
    stoq_perf_init(&w->perf, &clock_of_test);
    stoq_config cfg = {
        .bind = address(SERVER),
        .net = &net,
        .server_tls = ids.tls[SERVER],
        .alpn = {STOQ_PERF_ALPN},
        .callbacks = stoq_perf_callbacks,
        .user = &w->perf,
        .limits = {.max_streams_bidi = STOQ_PERF_STREAMS, .stream_send_bytes = STOQ_PERF_KEPT}};
    OK(stoq_endpoint_create(&cfg, &w->ep[SERVER]));
}

static void world_open(world *w)
{
    world_begin(w);
    client_begin(w, ids.tls[CLIENT]);
    run_until(w, &w->opened, 10000000);
}

static void world_end(world *w)
{
    for (int i = 0; i < 2; i++)
        stoq_endpoint_destroy(w->ep[i]);
    while (w->first != NULL) {
        datagram *d = w->first;
        w->first = d->next;
        free(d);
    }
    assert_true(hm_list_empty(&w->perf.conns));
    assert_int_equal(w->perf.n.streams, 0);
}

// ---- tests --------------------------------------------------------------------------------------

static void every_length_is_answered(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 7, 1452, 65536, 3000001};
    world w;
    uint64_t down = 0, up = 0;
    world_open(&w);
    for (unsigned i = 0; i < 36; i++) { // all at once, each length both ways
        uint64_t wanted = lengths[i % 6], upload = lengths[i / 6];
        ask(&w, wanted, upload, 8);
        down += wanted;
        up += upload;
    }
    for (unsigned i = 0; i < w.count; i++) {
        run_until(&w, &w.flows[i].closed, 60000000);
        assert_true(w.flows[i].fin && !w.flows[i].reset);
        assert_int_equal(w.flows[i].got, w.flows[i].wanted);
    }
    assert_int_equal(w.perf.n.requests, 36);
    assert_int_equal(w.perf.n.bytes_out, down);
    assert_int_equal(w.perf.n.bytes_in, up);
    run_for(&w, 100000); // the last acknowledgements
    assert_int_equal(w.perf.n.streams, 0);
    world_end(&w);
}

static void what_is_no_request_is_refused(void **state)
{
    (void)state;
    world w;
    stoq_stream *one_way;
    size_t took;
    world_open(&w);
    for (size_t head = 0; head < 8; head++) {
        flow *f = ask(&w, 1000, 0, head);
        run_until(&w, &f->closed, 10000000);
        assert_true(f->reset);
        assert_int_equal(f->code, STOQ_PERF_SHORT);
    }
    assert_int_equal(w.perf.n.refused_short, 8);
    // On a stream of one direction.
    flow *f = &w.flows[w.count++];
    OK(stoq_stream_open(w.conn, true, &one_way));
    stoq_stream_set_user(one_way, f);
    OK(stoq_stream_send(one_way, hm_bytes_of("12345678", 8), false, &took));
    run_until(&w, &f->closed, 10000000);
    assert_int_equal(f->code, STOQ_PERF_ONE_WAY);
    assert_int_equal(w.perf.n.refused_one_way, 1);
    // The client resets its side: the answer ends too.
    f = ask(&w, UINT64_MAX, 1u << 30, 8);
    run_for(&w, 2000);
    stoq_stream_reset(f->stream, 9);
    run_until(&w, &f->closed, 10000000);
    assert_true(f->reset);
    assert_int_equal(f->code, STOQ_PERF_CANCELED);
    assert_int_equal(w.perf.n.requests, 1);
    assert_non_null(w.conn);
    world_end(&w);
}

static void who_does_not_read_costs_no_more_than_is_kept(void **state)
{
    (void)state;
    world w;
    world_open(&w);
    w.keeps_reading = false;
    ask(&w, UINT64_MAX, 0, 8);
    run_for(&w, 1000000);
    assert_in_range(w.perf.n.bytes_out, 1u << 20, STOQ_PERF_KEPT + 65536);
    for (unsigned i = 1; i < STOQ_PERF_STREAMS; i++)
        ask(&w, UINT64_MAX, 0, 8);
    run_for(&w, 1000000);
    assert_int_equal(w.perf.n.streams, STOQ_PERF_STREAMS);
    uint64_t most =
        65536 + (uint64_t)((double)STOQ_PERF_KEPT * (1 + log((double)STOQ_PERF_STREAMS)));
    uint64_t kept = w.perf.n.bytes_out;
    assert_in_range(kept, 1u << 20, most);
    run_for(&w, 5000000);
    assert_int_equal(w.perf.n.bytes_out, kept);
    // Asked to stop, everything goes.
    for (unsigned i = 0; i < w.count; i++)
        stoq_stream_stop(w.flows[i].stream, 0);
    for (unsigned i = 0; i < w.count; i++)
        run_until(&w, &w.flows[i].closed, 10000000);
    run_for(&w, 1000000);
    assert_int_equal(w.perf.n.streams, 0);
    // And one who reads again gets it all.
    w.keeps_reading = true;
    w.count = 0;
    flow *f = ask(&w, 5000000, 0, 8);
    run_until(&w, &f->closed, 60000000);
    assert_int_equal(f->got, 5000000);
    world_end(&w);
}

static void draining_ends_with_the_last_stream(void **state)
{
    (void)state;
    world w;
    world_open(&w); // without a stream: at once
    stoq_endpoint_set_server_tls(w.ep[SERVER], NULL);
    stoq_perf_drain(&w.perf);
    run_until(&w, &w.closed, 1000000);
    assert_int_equal(w.close_code, STOQ_PERF_DONE);
    world_end(&w);

    world_open(&w);
    flow *f = ask(&w, 2000000, 0, 8);
    run_for(&w, 500);
    assert_false(f->closed);
    stoq_perf_drain(&w.perf);
    run_until(&w, &f->closed, 60000000);
    assert_int_equal(f->got, 2000000);
    run_until(&w, &w.closed, 1000000);
    world_end(&w);

    world_open(&w); // one that would never end
    ask(&w, UINT64_MAX, 0, 8);
    run_for(&w, 100000);
    stoq_perf_drain(&w.perf);
    run_for(&w, 100000);
    assert_false(w.closed);
    stoq_perf_close(&w.perf);
    run_until(&w, &w.closed, 1000000);
    world_end(&w);
}

static void refusals_are_counted_and_not_all_logged(void **state)
{
    (void)state;
    world w;
    hm_buf text = {0};
    hm_metrics m;
    SSL_CTX *classic = SSL_CTX_new(TLS_client_method());
    assert_non_null(classic);
    assert_int_equal(SSL_CTX_set1_groups_list(classic, "X25519"), 1);
    world_begin(&w);
    client_begin(&w, classic);
    for (unsigned i = 0;; i++) {
        w.closed = false;
        run_until(&w, &w.closed, 100000);
        if (i == 29)
            break;
        struct sockaddr_in6 to = address(SERVER);
        OK(stoq_connect(w.ep[CLIENT], &to, NULL, NULL, NULL, &w.conn));
    }
    assert_in_range(w.now, 1000000, 1999999); // all within a second
    assert_int_equal(w.perf.lines, STOQ_PERF_LINES);
    assert_int_equal(w.perf.unsaid, 30 - STOQ_PERF_LINES);
    hm_metrics_begin(&m, &text, false);
    stoq_perf_totals totals = {0};
    stoq_perf_add(&w.perf, w.ep[SERVER], &totals);
    stoq_perf_metrics(&totals, &m);
    hm_metrics_end(&m);
    assert_non_null(strstr(hm_buf_cstr(&text), "hm_stoq_refused_total{reason=\"group\"} 30\n"));
    assert_non_null(strstr(hm_buf_cstr(&text), "hm_stoq_refused_total{reason=\"limit\"} 0\n"));
    hm_buf_free(&text);
    world_end(&w);
    SSL_CTX_free(classic);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_is_answered),
        cmocka_unit_test(what_is_no_request_is_refused),
        cmocka_unit_test(who_does_not_read_costs_no_more_than_is_kept),
        cmocka_unit_test(draining_ends_with_the_last_stream),
        cmocka_unit_test(refusals_are_counted_and_not_all_logged),
    };
    return cmocka_run_group_tests(tests, make_ids, free_ids);
}
