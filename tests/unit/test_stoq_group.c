// Endpoints that share an address, each on its thread, over ::1.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>

#include "hypermesh/stoq_group.h"
#include "stoq_ids.h"

#define WORKERS 4u
#define CONNS 64u
#define LIMIT_US UINT64_C(30000000)

static stoq_ids ids;

// ---- the server ---------------------------------------------------------------------------------

typedef struct work {
    unsigned index;
    atomic_uint opened, begun, ended;
} work;

static work works[WORKERS];

static void *worker_begin(void *ctx, unsigned index)
{
    work *w = &((work *)ctx)[index];
    w->index = index;
    w->begun++;
    return w;
}

static void worker_end(void *ctx, unsigned index, void *user)
{
    (void)ctx, (void)index;
    ((work *)user)->ended++;
}

static void on_open(void *user, stoq_conn *c)
{
    (void)c;
    ((work *)user)->opened++;
}

// The answer: which worker it is.
static void on_readable(void *user, stoq_stream *s)
{
    hm_bytes view;
    bool fin = false;
    size_t took;
    uint8_t index = (uint8_t)((work *)user)->index;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin))
        stoq_stream_consume(s, view.len);
    if (fin && stoq_stream_send(s, hm_bytes_of(&index, 1), true, &took) != HM_OK)
        stoq_stream_reset(s, 1);
}

static stoq_group_config group_config(void)
{
    memset(works, 0, sizeof works);
    return (stoq_group_config){
        .endpoint = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                     .server_tls = ids.server,
                     .alpn = {STOQ_ALPN_MESH},
                     .callbacks = {.conn_open = on_open, .stream_readable = on_readable}},
        .workers = WORKERS,
        .pin = true,
        .worker_begin = worker_begin,
        .worker_end = worker_end,
        .ctx = works};
}

static stoq_group *start(unsigned workers)
{
    stoq_group *g;
    stoq_group_config config = group_config();
    config.workers = workers;
    assert_int_equal(stoq_group_start(&config, &g), HM_OK);
    return g;
}

// ---- the client ---------------------------------------------------------------------------------

typedef struct client {
    unsigned opened, answered, closed, by[WORKERS];
} client;

static void ask(void *user, stoq_conn *c)
{
    stoq_stream *s;
    size_t took;
    ((client *)user)->opened++;
    assert_int_equal(stoq_stream_open(c, false, &s), HM_OK);
    assert_int_equal(stoq_stream_send(s, hm_bytes_str("who"), true, &took), HM_OK);
}

// Every answer of a connection comes from the worker of its first one.
static void on_answer(void *user, stoq_stream *s)
{
    client *k = user;
    hm_bytes view;
    bool fin = false;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        if (view.len > 0) {
            stoq_conn *c = stoq_stream_conn(s);
            uintptr_t who = view.ptr[0] + 1u, before = (uintptr_t)stoq_conn_user(c);
            assert_true(who <= WORKERS && (before == 0 || before == who));
            stoq_conn_set_user(c, (void *)who);
            if (before == 0)
                k->by[who - 1]++;
            k->answered++;
        }
        stoq_stream_consume(s, view.len);
    }
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)c, (void)code, (void)is_app, (void)reason;
    ((client *)user)->closed++;
}

static stoq_endpoint *make_client(client *k)
{
    stoq_endpoint *ep;
    stoq_config config = {
        .bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
        .client_tls = ids.client,
        .alpn = {STOQ_ALPN_MESH},
        .callbacks = {.conn_open = ask, .conn_closed = on_closed, .stream_readable = on_answer},
        .user = k};
    assert_int_equal(stoq_endpoint_create(&config, &ep), HM_OK);
    return ep;
}

// ---- tests --------------------------------------------------------------------------------------

static void add_stats(void *arg, stoq_endpoint *ep)
{
    stoq_endpoint_stats *sum = arg, s;
    stoq_endpoint_get_stats(ep, &s);
    sum->passed_on += s.passed_on;
    sum->accepted += s.accepted;
    sum->connections += s.connections;
    sum->datagrams_received += s.datagrams_received;
    sum->datagrams_dropped += s.datagrams_dropped;
}

// One client socket, many connections: each is at one worker from its first packet to its last, new
// ids included, and every worker has some.
static void test_connections_are_spread(void **state)
{
    (void)state;
    stoq_group *g = start(WORKERS);
    struct sockaddr_in6 to;
    stoq_group_address(g, &to);
    assert_int_not_equal(to.sin6_port, 0);
    client k = {0};
    stoq_endpoint *ep = make_client(&k);
    stoq_conn *conns[CONNS];
    for (unsigned i = 0; i < CONNS; i++)
        assert_int_equal(stoq_connect(ep, &to, NULL, NULL, NULL, &conns[i]), HM_OK);
    for (uint64_t end = stoq_now_us() + LIMIT_US; k.answered < CONNS && stoq_now_us() < end;)
        stoq_endpoint_wait(ep, end);
    assert_int_equal(k.answered, CONNS);
    for (unsigned i = 0; i < CONNS; i++) { // and again, by the ids that came with the handshake
        stoq_stream *s;
        size_t took;
        assert_int_equal(stoq_stream_open(conns[i], false, &s), HM_OK);
        assert_int_equal(stoq_stream_send(s, hm_bytes_str("who"), true, &took), HM_OK);
    }
    for (uint64_t end = stoq_now_us() + LIMIT_US; k.answered < 2 * CONNS && stoq_now_us() < end;)
        stoq_endpoint_wait(ep, end);
    assert_int_equal(k.answered, 2 * CONNS);
    stoq_endpoint_stats sum = {0};
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_true(k.by[i] > 0);
        assert_int_equal(k.by[i], works[i].opened);
        assert_int_equal(stoq_group_call(g, i, add_stats, &sum), HM_OK);
    }
    assert_int_equal(sum.connections, CONNS);
    assert_int_equal(sum.passed_on, 0);
    assert_int_equal(k.closed, 0);
    stoq_group_stop(g); // says so to all
    for (uint64_t end = stoq_now_us() + LIMIT_US; k.closed < CONNS && stoq_now_us() < end;)
        stoq_endpoint_wait(ep, end);
    assert_int_equal(k.closed, CONNS);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(works[i].begun == 1 && works[i].ended == 1);
    stoq_endpoint_destroy(ep);
}

// A datagram that came to the wrong one goes on to the right one, once.
static void give_wrong(void *arg, stoq_endpoint *ep)
{
    uint8_t bytes[1200] = {0xc0, 0, 0, 0, 1, 8, 1};
    struct sockaddr_in6 from = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bytes[6] = *(const uint8_t *)arg; // of the id
    bytes[14] = 8;                    // the other id's length
    bytes[24] = 0x44;                 // two bytes of length
    from.sin6_port = htons(9);
    stoq_endpoint_receive(ep, &from, bytes, sizeof bytes, sizeof bytes, 0, stoq_now_us());
}

static void test_wrong_worker(void **state)
{
    (void)state;
    stoq_group *g = start(WORKERS);
    for (uint8_t to = 0; to < WORKERS; to++) {
        stoq_endpoint_stats first = {0}, right = {0};
        uint8_t id = (uint8_t)(25 * WORKERS + to);
        assert_int_equal(stoq_group_call(g, 0, give_wrong, &id), HM_OK);
        assert_int_equal(stoq_group_call(g, 0, add_stats, &first), HM_OK);
        assert_int_equal(stoq_group_call(g, to, add_stats, &right), HM_OK);
        assert_int_equal(first.passed_on, to);
        assert_int_equal(right.datagrams_dropped, 1); // it does not open, wherever it is looked at
    }
    stoq_group_stop(g);
}

// An address that somebody else has, with workers or without, is refused.
static void test_taken_address(void **state)
{
    (void)state;
    stoq_group *g = start(WORKERS), *other;
    stoq_group_config second = group_config(); // which forgets what the first one's workers did
    stoq_group_address(g, &second.endpoint.bind);
    assert_int_equal(stoq_group_start(&second, &other), HM_E_CONFIG);
    assert_true(works[0].begun == 1 && works[0].ended == 1 && works[1].begun == 0);
    stoq_endpoint *ep;
    stoq_config alone = second.endpoint;
    alone.user = &works[0];
    assert_int_equal(stoq_endpoint_create(&alone, &ep), HM_E_CONFIG);
    second.workers = STOQ_SHARE_MAX + 1;
    assert_int_equal(stoq_group_start(&second, &other), HM_E_CONFIG);
    stoq_group_stop(g);
}

static void count(void *arg, stoq_endpoint *ep)
{
    (void)ep;
    ++*(unsigned *)arg;
}

// Jobs are done in their order, those that wait at the end too; later ones are refused.
static void test_jobs(void **state)
{
    (void)state;
    stoq_group *g = start(1);
    unsigned n = 0;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(stoq_group_run(g, 0, count, &n), HM_OK);
    assert_int_equal(stoq_group_call(g, 0, count, &n), HM_OK);
    assert_int_equal(n, 1001);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(stoq_group_run(g, 0, count, &n), HM_OK);
    stoq_group_stop(g);
    assert_int_equal(n, 2001);
    stoq_group_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections_are_spread),
        cmocka_unit_test(test_wrong_worker),
        cmocka_unit_test(test_taken_address),
        cmocka_unit_test(test_jobs),
    };
    stoq_ids_make_plain(&ids);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    stoq_ids_free(&ids);
    return failed;
}
