// Two endpoints over a simulated network that loses, reorders, duplicates and corrupts. The
// generators are seeded, the clock is the simulation's.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/heap.h"
#include "hypermesh/stoq.h"
#include "trustchain/trustchain.h"

#define OK(e) assert_int_equal((e), HM_OK)

// ---- identities ---------------------------------------------------------------------------------

enum { CLIENT, SERVER };
static struct {
    char dir[64];
    tc_authority *authority;
    hm_key *keys[2];
    hm_buf chains[2];
    SSL_CTX *tls[2];
} ids;

static hm_err peer_ok(void *ctx, hm_bytes leaf)
{
    (void)ctx;
    (void)leaf;
    return HM_OK;
}

static hm_err peer_untrusted(void *ctx, hm_bytes leaf)
{
    (void)ctx;
    (void)leaf;
    return HM_E_CERT_UNTRUSTED;
}

static int make_ids(void **state)
{
    (void)state;
    OK(hm_crypto_init());
    hm_buf csr = {0};
    uint64_t now = hm_clock_wall_ms(&hm_clock_system);
    snprintf(ids.dir, sizeof ids.dir, "/tmp/hm-stoq-XXXXXX");
    assert_non_null(mkdtemp(ids.dir));
    char path[96];
    snprintf(path, sizeof path, "%s/authority", ids.dir);
    OK(tc_authority_init(path, "test", now));
    OK(tc_authority_open(path, &ids.authority));
    for (int i = 0; i < 2; i++) {
        OK(hm_key_generate(&ids.keys[i]));
        hm_buf_reset(&csr);
        OK(tc_node_csr(ids.keys[i], i == SERVER ? "server" : "client", &csr));
        OK(tc_issue_node(ids.authority, hm_buf_bytes(&csr), now, &ids.chains[i], NULL));
        OK(tc_node_tls(i == SERVER, ids.keys[i], hm_buf_bytes(&ids.chains[i]), peer_ok, NULL,
                       &ids.tls[i]));
    }
    hm_buf_free(&csr);
    return 0;
}

static int free_ids(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        SSL_CTX_free(ids.tls[i]);
        hm_key_free(ids.keys[i]);
        hm_buf_free(&ids.chains[i]);
    }
    tc_authority_close(ids.authority);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", ids.dir);
    return system(command);
}

// ---- the network --------------------------------------------------------------------------------

typedef struct world world;
typedef struct side {
    world *w;
    stoq_endpoint *ep;
    stoq_conn *conn;
    unsigned opened, closed, failed, streams_closed;
    uint64_t code;
    hm_err why;
    bool is_app;
    uint64_t received, to_send, sent;
    bool got_fin, bad_bytes;
    stoq_stream *out;
} side;

typedef struct datagram {
    hm_heap_node node;
    unsigned to;
    struct sockaddr_in6 from;
    size_t len;
    uint8_t ecn;
    uint8_t bytes[];
} datagram;

struct world {
    hm_prng prng;
    hm_random random;
    uint64_t now;
    unsigned loss, dup, corrupt, jitter; // per cent; jitter in microseconds
    bool cut;                            // nothing arrives
    size_t path_mtu;                     // longer datagrams do not; 0: no limit
    uint16_t client_port;
    hm_heap flying;
    side side[2];
};

static struct sockaddr_in6 address(uint16_t port)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    a.sin6_addr.s6_addr[15] = 1;
    return a;
}

static void fly(world *w, unsigned to, const uint8_t *bytes, size_t len, uint8_t ecn)
{
    if (w->cut || (w->path_mtu != 0 && len > w->path_mtu) || hm_prng_below(&w->prng, 100) < w->loss)
        return;
    datagram *d = calloc(1, sizeof *d + len);
    assert_non_null(d);
    d->to = to;
    d->ecn = ecn;
    d->len = len;
    d->from = address(to == SERVER ? w->client_port : 4433);
    memcpy(d->bytes, bytes, len);
    if (hm_prng_below(&w->prng, 100) < w->corrupt)
        d->bytes[hm_prng_below(&w->prng, len)] ^= (uint8_t)(1 + hm_prng_below(&w->prng, 255));
    OK(hm_heap_set(&w->flying, &d->node,
                   w->now + 5000 + (w->jitter ? hm_prng_below(&w->prng, w->jitter) : 0)));
}

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                     size_t segment, uint8_t ecn)
{
    side *s = ctx;
    world *w = s->w;
    unsigned dest = s == &w->side[CLIENT] ? SERVER : CLIENT;
    if (dest == CLIENT && ntohs(to->sin6_port) != w->client_port)
        return; // nobody is there any more
    for (size_t at = 0; at < len; at += segment) {
        size_t n = len - at < segment ? len - at : segment;
        fly(w, dest, bytes + at, n, ecn);
        if (hm_prng_below(&w->prng, 100) < w->dup)
            fly(w, dest, bytes + at, n, ecn);
    }
}

// ---- the application: sends a pattern and checks it ---------------------------------------------

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

static void push(side *s)
{
    uint8_t block[8192];
    while (s->out != NULL && s->sent < s->to_send) {
        size_t n = s->to_send - s->sent < sizeof block ? (size_t)(s->to_send - s->sent)
                                                       : sizeof block,
               accepted;
        for (size_t i = 0; i < n; i++)
            block[i] = pattern(s->sent + i);
        OK(stoq_stream_send(s->out, hm_bytes_of(block, n), s->sent + n == s->to_send, &accepted));
        s->sent += accepted;
        if (accepted < n)
            return;
    }
}

static void on_open(void *user, stoq_conn *c)
{
    side *s = user;
    s->opened++;
    s->conn = c;
    assert_string_equal(stoq_conn_alpn(c), STOQ_ALPN_MESH);
    assert_string_equal(stoq_conn_group(c), "X25519MLKEM768");
    assert_non_null(stoq_conn_peer_cert(c));
    if (s->to_send > 0 && !stoq_conn_is_server(c)) {
        OK(stoq_stream_open(c, false, &s->out));
        push(s);
    }
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    side *s = user;
    (void)reason;
    s->why = stoq_conn_why(c);
    s->closed++;
    s->code = code;
    s->is_app = is_app;
    s->conn = NULL;
}

static void on_failed(void *user, stoq_conn *c, hm_err why, uint64_t code, hm_bytes reason)
{
    side *s = user;
    struct sockaddr_in6 peer;
    (void)reason;
    stoq_conn_peer_address(c, &peer);
    assert_int_equal(ntohs(peer.sin6_port), s->w->client_port);
    s->failed++;
    s->why = why;
    s->code = code;
}

static void on_stream_open(void *user, stoq_stream *st)
{
    side *s = user;
    if (s->out == NULL) {
        s->out = st; // answer on the same stream
        push(s);
    }
}

static void on_readable(void *user, stoq_stream *st)
{
    side *s = user;
    for (;;) {
        hm_bytes v;
        bool fin;
        OK(stoq_stream_peek(st, &v, &fin));
        for (size_t i = 0; i < v.len; i++)
            s->bad_bytes |= v.ptr[i] != pattern(s->received + i);
        s->received += v.len;
        if (v.len > 0 || fin)
            stoq_stream_consume(st, v.len);
        s->got_fin |= fin;
        if (v.len == 0 || fin)
            return;
    }
}

static void on_writable(void *user, stoq_stream *st)
{
    (void)st;
    push(user);
}

static void on_stream_closed(void *user, stoq_stream *st)
{
    side *s = user;
    s->streams_closed++;
    if (s->out == st)
        s->out = NULL;
}

static void make_endpoint(world *w, unsigned which, SSL_CTX *tls, bool retry)
{
    side *s = &w->side[which];
    s->w = w;
    stoq_net net = {net_send, s};
    stoq_config config = {.bind = address(which == SERVER ? 4433 : w->client_port),
                          .net = &net,
                          .server_tls = which == SERVER ? tls : NULL,
                          .client_tls = which == CLIENT ? tls : NULL,
                          .alpn = {STOQ_ALPN_MESH},
                          .random = &w->random,
                          .callbacks = {on_open, on_closed, on_failed, on_stream_open, on_readable,
                                        on_writable, on_stream_closed},
                          .user = s,
                          .always_retry = retry,
                          .secret = {1 + (uint8_t)which}};
    OK(stoq_endpoint_create(&config, &s->ep));
}

static void world_begin(world *w, uint64_t seed)
{
    *w = (world){.now = 1000000, .client_port = 5000};
    hm_prng_seed(&w->prng, seed);
    w->random = hm_random_prng(&w->prng);
}

static void world_end(world *w)
{
    for (int i = 0; i < 2; i++)
        stoq_endpoint_destroy(w->side[i].ep);
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL) {
        hm_heap_remove(&w->flying, n);
        free(hm_container_of(n, datagram, node));
    }
    hm_heap_free(&w->flying);
}

static void deliver(world *w)
{
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL && n->key <= w->now) {
        datagram *d = hm_container_of(n, datagram, node);
        hm_heap_remove(&w->flying, n);
        if (w->side[d->to].ep != NULL)
            stoq_endpoint_receive(w->side[d->to].ep, &d->from, d->bytes, d->len, d->len, d->ecn,
                                  w->now);
        free(d);
    }
}

typedef bool (*condition)(const world *w);

// Runs until the condition holds; false when the time is over.
static bool run(world *w, condition done, uint64_t for_us)
{
    uint64_t end = w->now + for_us;
    while (w->now < end) {
        deliver(w);
        uint64_t next = end;
        for (int i = 0; i < 2; i++)
            if (w->side[i].ep != NULL)
                stoq_endpoint_process(w->side[i].ep, w->now, false);
        if (done != NULL && done(w))
            return true;
        for (int i = 0; i < 2; i++) {
            uint64_t t = w->side[i].ep != NULL ? stoq_endpoint_next_timeout_us(w->side[i].ep)
                                               : HM_TIME_NEVER;
            if (t < next)
                next = t;
        }
        hm_heap_node *n = hm_heap_min(&w->flying);
        if (n != NULL && n->key < next)
            next = n->key;
        w->now = next > w->now ? next : w->now + 1;
    }
    return false;
}

static bool both_open(const world *w)
{
    return w->side[0].opened && w->side[1].opened;
}
static bool exchanged(const world *w)
{
    return w->side[0].got_fin && w->side[1].got_fin && w->side[0].streams_closed &&
           w->side[1].streams_closed;
}
static bool client_closed(const world *w)
{
    return w->side[CLIENT].closed > 0;
}
static bool both_closed(const world *w)
{
    return w->side[0].closed && w->side[1].closed;
}

static void connect_to(world *w)
{
    struct sockaddr_in6 to = address(4433);
    stoq_conn *c;
    OK(stoq_connect(w->side[CLIENT].ep, &to, NULL, NULL, NULL, &c));
}

static void make_both(world *w, bool retry)
{
    make_endpoint(w, SERVER, ids.tls[SERVER], retry);
    make_endpoint(w, CLIENT, ids.tls[CLIENT], false);
    connect_to(w);
}

// ---- tests --------------------------------------------------------------------------------------

static void transfer(uint64_t seed, unsigned loss, unsigned dup, unsigned corrupt, unsigned jitter,
                     uint64_t bytes, bool retry)
{
    world w;
    world_begin(&w, seed);
    w.loss = loss;
    w.dup = dup;
    w.corrupt = corrupt;
    w.jitter = jitter;
    w.side[0].to_send = w.side[1].to_send = bytes;
    make_both(&w, retry);
    if (!run(&w, exchanged, UINT64_C(300000000)))
        fail_msg("seed %llu: open %u %u, received %llu %llu, closed %u (%llu) %u (%llu)",
                 (unsigned long long)seed, w.side[0].opened, w.side[1].opened,
                 (unsigned long long)w.side[0].received, (unsigned long long)w.side[1].received,
                 w.side[0].closed, (unsigned long long)w.side[0].code, w.side[1].closed,
                 (unsigned long long)w.side[1].code);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(w.side[i].received, bytes);
        assert_false(w.side[i].bad_bytes);
        assert_int_equal(w.side[i].opened, 1);
    }
    stoq_endpoint_stats st;
    stoq_endpoint_get_stats(w.side[SERVER].ep, &st);
    assert_true(retry == (st.retries_sent > 0));
    stoq_conn_close(w.side[CLIENT].conn, 77, "done");
    w.loss = w.corrupt = 0;
    assert_true(run(&w, both_closed, UINT64_C(120000000)));
    assert_true(w.side[CLIENT].code == 77 && w.side[CLIENT].is_app);
    assert_true(w.side[SERVER].code == 77 && w.side[SERVER].is_app);
    assert_true(w.side[CLIENT].why == HM_OK && w.side[SERVER].why == HM_E_CLOSED);
    run(&w, NULL, 10000000); // closing ends
    stoq_endpoint_get_stats(w.side[SERVER].ep, &st);
    assert_int_equal(st.connections, 0);
    assert_int_equal(st.half_open, 0);
    world_end(&w);
}

static void test_clean(void **state)
{
    (void)state;
    transfer(1, 0, 0, 0, 0, 10 << 20, false);
}

static void test_rough(void **state)
{
    (void)state;
    // Seeds 10 and 288 lost handshake packets while application data filled the window.
    for (uint64_t seed = 1; seed <= 300; seed += seed < 40 ? 1 : 8)
        transfer(seed, 3 + seed % 6, 3, 3, seed % 2 ? 8000 : 0, 300000, seed % 3 == 0);
}

static bool server_failed(const world *w)
{
    return w->side[SERVER].failed > 0;
}

// A handshake that fails at the server, which says why.
static void refused(SSL_CTX *server, SSL_CTX *client, const char *alpn, hm_err why, int alert)
{
    world w;
    stoq_conn *c;
    stoq_endpoint_stats st;
    struct sockaddr_in6 to = address(4433);
    world_begin(&w, 50);
    make_endpoint(&w, SERVER, server, false);
    make_endpoint(&w, CLIENT, client, false);
    OK(stoq_connect(w.side[CLIENT].ep, &to, NULL, alpn, NULL, &c));
    assert_true(run(&w, client_closed, 20000000));
    assert_int_equal(w.side[CLIENT].code, STOQ_CRYPTO_ERROR + alert);
    assert_true(w.side[SERVER].failed || run(&w, server_failed, 20000000));
    assert_int_equal(w.side[CLIENT].why, why == HM_E_CLOSED ? HM_E_CERT_UNTRUSTED : HM_E_CLOSED);
    assert_int_equal(w.side[SERVER].failed, 1);
    assert_int_equal(w.side[SERVER].opened + w.side[SERVER].closed, 0);
    assert_int_equal(w.side[SERVER].code, STOQ_CRYPTO_ERROR + alert);
    if (w.side[SERVER].why != why)
        fail_msg("%s, not %s", hm_err_name(w.side[SERVER].why), hm_err_name(why));
    stoq_endpoint_get_stats(w.side[SERVER].ep, &st);
    assert_int_equal(st.handshake_failed, 1);
    world_end(&w);
}

static void test_refused(void **state)
{
    (void)state;
    SSL_CTX *strict[2];
    for (int i = 0; i < 2; i++)
        OK(tc_node_tls(i == SERVER, ids.keys[i], hm_buf_bytes(&ids.chains[i]), peer_untrusted, NULL,
                       &strict[i]));
    refused(strict[SERVER], ids.tls[CLIENT], NULL, HM_E_CERT_UNTRUSTED, 48);
    refused(ids.tls[SERVER], strict[CLIENT], NULL, HM_E_CLOSED, 48); // the client refuses
    refused(ids.tls[SERVER], ids.tls[CLIENT], "other", HM_E_STOQ_ALPN, 120);
    SSL_CTX *plain = SSL_CTX_new(TLS_client_method());
    assert_non_null(plain);
    refused(ids.tls[SERVER], plain, NULL, HM_E_CERT_MISSING, 116);
    assert_int_equal(SSL_CTX_set1_groups_list(plain, "X25519"), 1);
    refused(ids.tls[SERVER], plain, NULL, HM_E_STOQ_GROUP, 40);
    SSL_CTX_free(plain);
    for (int i = 0; i < 2; i++)
        SSL_CTX_free(strict[i]);
}

static void test_server_tls_changes(void **state)
{
    (void)state;
    world w;
    SSL_CTX *strict;
    stoq_endpoint_stats before, after;
    OK(tc_node_tls(true, ids.keys[SERVER], hm_buf_bytes(&ids.chains[SERVER]), peer_untrusted, NULL,
                   &strict));
    world_begin(&w, 51);
    make_both(&w, false);
    assert_true(run(&w, both_open, 10000000));
    stoq_endpoint_set_server_tls(w.side[SERVER].ep, strict);
    SSL_CTX_free(strict);
    connect_to(&w);
    assert_true(run(&w, client_closed, 20000000));
    assert_int_equal(w.side[CLIENT].code, STOQ_CRYPTO_ERROR + 48);
    assert_int_equal(w.side[SERVER].why, HM_E_CERT_UNTRUSTED);
    // None at all any more; the first connection goes on.
    stoq_endpoint_set_server_tls(w.side[SERVER].ep, NULL);
    w.side[CLIENT].closed = 0;
    stoq_endpoint_get_stats(w.side[SERVER].ep, &before);
    connect_to(&w);
    assert_true(run(&w, client_closed, 20000000));
    assert_int_equal(w.side[CLIENT].code, STOQ_CLOSED_IDLE);
    stoq_endpoint_get_stats(w.side[SERVER].ep, &after);
    assert_true(after.datagrams_dropped > before.datagrams_dropped);
    assert_int_equal(w.side[SERVER].opened, 1);
    assert_int_equal(w.side[SERVER].closed, 0);
    world_end(&w);
}

// What is no packet is counted, answered with nothing larger, and starts nothing.
static void test_malformed(void **state)
{
    (void)state;
    world w;
    uint8_t bytes[1400];
    stoq_endpoint_stats st;
    struct sockaddr_in6 from = address(5000);
    world_begin(&w, 52);
    make_endpoint(&w, SERVER, ids.tls[SERVER], false);
    stoq_endpoint *ep = w.side[SERVER].ep;
    for (unsigned i = 0; i < 1000; i++) {
        size_t len = i % 4 == 0 ? sizeof bytes : 1 + hm_prng_below(&w.prng, sizeof bytes);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (uint8_t)hm_prng_below(&w.prng, 256);
        if (i % 4 == 0) // the head of an Initial and nothing that opens
            memcpy(bytes,
                   "\xc3\0\0\0\1\x08"
                   "12345678"
                   "\0\0\x44\x00",
                   18);
        stoq_endpoint_receive(ep, &from, bytes, len, len, 0, w.now);
        stoq_endpoint_process(ep, w.now, false);
        stoq_endpoint_get_stats(ep, &st);
        assert_int_equal(st.datagrams_received, i + 1);
        assert_int_equal(st.datagrams_dropped + st.versions_sent, i + 1);
        assert_int_equal(st.connections, 0);
    }
    assert_true(st.datagrams_dropped > 500);
    world_end(&w);
}

static void test_idle_and_reset(void **state)
{
    (void)state;
    world w;
    world_begin(&w, 60);
    make_both(&w, false);
    assert_true(run(&w, both_open, 10000000));
    run(&w, NULL, 2000000);
    // The server is made anew with the same secret: it answers by a stateless reset.
    w.cut = true;
    stoq_endpoint_destroy(w.side[SERVER].ep);
    w.cut = false;
    make_endpoint(&w, SERVER, ids.tls[SERVER], false);
    stoq_conn_ping(w.side[CLIENT].conn);
    assert_true(run(&w, client_closed, 20000000));
    assert_true(w.side[CLIENT].code == STOQ_CLOSED_RESET);
    world_end(&w);

    world_begin(&w, 61);
    make_both(&w, false);
    assert_true(run(&w, both_open, 10000000));
    w.cut = true;
    assert_true(run(&w, both_closed, 60000000));
    assert_true(w.side[CLIENT].code == STOQ_CLOSED_IDLE && w.side[CLIENT].why == HM_E_TIMEOUT);
    assert_true(w.side[SERVER].code == STOQ_CLOSED_IDLE && w.side[SERVER].why == HM_E_TIMEOUT);
    world_end(&w);

    world_begin(&w, 62); // nobody there at all
    w.cut = true;
    make_both(&w, false);
    assert_true(run(&w, client_closed, 11000000));
    assert_true(w.side[CLIENT].code == STOQ_CLOSED_IDLE);
    world_end(&w);
}

static bool some_received(const world *w)
{
    return w->side[SERVER].received > w->side[CLIENT].to_send / 40;
}

static void test_keys_and_path(void **state)
{
    (void)state;
    world w;
    world_begin(&w, 70);
    w.side[CLIENT].to_send = w.side[SERVER].to_send = 8 << 20;
    make_both(&w, false);
    assert_true(run(&w, some_received, 60000000));
    OK(stoq_conn_update_keys(w.side[CLIENT].conn));
    assert_int_equal(stoq_conn_update_keys(w.side[CLIENT].conn), HM_E_AGAIN);
    run(&w, NULL, 30000);
    w.client_port = 6000; // as behind an address translator
    assert_true(run(&w, exchanged, 60000000));
    stoq_conn_stats a, b;
    stoq_conn_get_stats(w.side[CLIENT].conn, &a);
    stoq_conn_get_stats(w.side[SERVER].conn, &b);
    assert_int_equal(a.key_updates, 1);
    assert_int_equal(b.key_updates, 1);
    struct sockaddr_in6 peer;
    stoq_conn_peer_address(w.side[SERVER].conn, &peer);
    assert_int_equal(ntohs(peer.sin6_port), 6000);
    assert_false(w.side[0].bad_bytes || w.side[1].bad_bytes);
    world_end(&w);
}

static uint32_t client_mtu(const world *w)
{
    stoq_conn_stats st;
    stoq_conn_get_stats(w->side[CLIENT].conn, &st);
    return st.mtu_bytes;
}

static bool half_received(const world *w)
{
    return w->side[SERVER].received > w->side[CLIENT].to_send / 2;
}

// Datagrams become as long as the path carries, and no longer; a path that becomes narrower in the
// middle holds nothing up for good.
static void test_path_mtu(void **state)
{
    (void)state;
    static const struct {
        size_t path, then;
        uint32_t proven;
    } cases[] = {{1200, 0, 1200},    {1300, 0, 1232},     {1452, 0, 1452},    {1500, 0, 1452},
                 {8952, 0, 8952},    {16383, 0, 16336},   {65488, 0, 65488},  {0, 0, 65527},
                 {1452, 1300, 1232}, {65488, 1452, 1452}, {8952, 1280, 1232}, {0, 1231, 1200}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        world w;
        world_begin(&w, 100 + i);
        w.path_mtu = cases[i].path;
        w.side[CLIENT].to_send = w.side[SERVER].to_send = 8000000;
        make_both(&w, false);
        assert_true(run(&w, half_received, UINT64_C(300000000)));
        if (cases[i].then != 0)
            w.path_mtu = cases[i].then;
        assert_true(run(&w, exchanged, UINT64_C(300000000)));
        if (cases[i].then != 0)
            run(&w, NULL, 5000000); // sizes are tried to the end, whatever there is to send
        assert_int_equal(client_mtu(&w), cases[i].proven);
        assert_false(w.side[0].bad_bytes || w.side[1].bad_bytes);
        stoq_conn_stats st;
        stoq_conn_get_stats(w.side[CLIENT].conn, &st);
        if (cases[i].then == 0)
            assert_int_equal(st.packets_lost, 0); // probes say nothing of congestion
        world_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_rough),
        cmocka_unit_test(test_path_mtu),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_idle_and_reset),
        cmocka_unit_test(test_keys_and_path),
        cmocka_unit_test(test_server_tls_changes),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, make_ids, free_ids);
}
