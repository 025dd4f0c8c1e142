// Endpoints that share an address, each on its thread, over ::1.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>

#include "free_port.h"
#include "hypermesh/stoq_group.h"
#include "stoq_ids.h"

#define WORKERS 4u
#define CONNS 64u
#define LIMIT_US UINT64_C(90000000)

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
    unsigned resumed, early, sessions;
    hm_buf session; // the last one, owned
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

// ---- tickets ------------------------------------------------------------------------------------

static void note_open(void *user, stoq_conn *c)
{
    client *k = user;
    k->resumed += stoq_conn_resumed(c);
    k->early += stoq_conn_early(c) == STOQ_EARLY_ACCEPTED;
    k->opened++;
}

static void keep(void *user, stoq_conn *c, hm_bytes bytes)
{
    client *k = user;
    (void)c;
    k->session.len = 0;
    hm_buf_put(&k->session, bytes);
    k->sessions++;
}

static stoq_group *start_with_tickets(void)
{
    stoq_group *g;
    stoq_group_config config = group_config();
    config.endpoint.tickets = 1;
    config.endpoint.early_data = true;
    assert_int_equal(stoq_group_start(&config, &g), HM_OK);
    return g;
}

static stoq_endpoint *make_keeper(client *k)
{
    stoq_endpoint *ep;
    stoq_config config = {
        .bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
        .client_tls = ids.client,
        .alpn = {STOQ_ALPN_MESH},
        .callbacks = {.conn_open = note_open, .conn_closed = on_closed, .session = keep},
        .user = k};
    assert_int_equal(stoq_endpoint_create(&config, &ep), HM_OK);
    return ep;
}

// So many connections at once, with the session of before or without one, until each has told a new
// one; the last one stays.
static void come(client *k, stoq_endpoint *ep, const stoq_group *g, unsigned n, hm_bytes session)
{
    struct sockaddr_in6 to;
    stoq_conn *c;
    unsigned sessions = k->sessions + n;
    stoq_group_address(g, &to);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(session.len > 0 ? stoq_resume(ep, &to, NULL, session, true, NULL, &c)
                                         : stoq_connect(ep, &to, NULL, NULL, NULL, &c),
                         HM_OK);
    for (uint64_t end = stoq_now_us() + LIMIT_US; k->sessions < sessions && stoq_now_us() < end;)
        stoq_endpoint_wait(ep, end);
    assert_int_equal(k->sessions, sessions);
}

static hm_buf taken(client *k)
{
    hm_buf out = k->session;
    k->session = (hm_buf){0};
    return out;
}

// A ticket is taken by whichever worker its client comes to.
static void test_tickets_are_shared(void **state)
{
    (void)state;
    stoq_group *g = start_with_tickets();
    client k = {0};
    stoq_endpoint *ep = make_keeper(&k);
    come(&k, ep, g, 1, hm_bytes_of(NULL, 0));
    for (unsigned i = 0; i < CONNS; i++) {
        hm_buf s = taken(&k);
        come(&k, ep, g, 1, hm_buf_bytes(&s));
        hm_buf_free(&s);
    }
    assert_int_equal(k.resumed, CONNS);
    assert_int_equal(k.early, CONNS);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(works[i].opened > 0);
    stoq_endpoint_destroy(ep);
    hm_buf_free(&k.session);
    stoq_group_stop(g);
}

// One ticket many times, at once and at all workers: early data is taken of one.
static void test_early_data_once(void **state)
{
    (void)state;
    stoq_group *g = start_with_tickets();
    client k = {0};
    stoq_endpoint *ep = make_keeper(&k);
    come(&k, ep, g, 1, hm_bytes_of(NULL, 0));
    hm_buf s = taken(&k);
    for (unsigned i = 0; i < 2; i++) {
        come(&k, ep, g, CONNS, hm_buf_bytes(&s));
        assert_int_equal(k.early, 1);
    }
    assert_int_equal(k.resumed, 2 * CONNS);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(works[i].opened > 0);
    hm_buf_free(&s);
    stoq_endpoint_destroy(ep);
    hm_buf_free(&k.session);
    stoq_group_stop(g);
}

static void renew(void *arg, stoq_endpoint *ep)
{
    stoq_endpoint_set_server_tls(ep, arg);
}

// One worker with a new context voids the tickets of all.
static void test_context_changes(void **state)
{
    (void)state;
    stoq_group *g = start_with_tickets();
    client k = {0};
    stoq_endpoint *ep = make_keeper(&k);
    come(&k, ep, g, 1, hm_bytes_of(NULL, 0));
    hm_buf s = taken(&k);
    assert_int_equal(stoq_group_call(g, 0, renew, ids.server), HM_OK);
    struct sockaddr_in6 to;
    stoq_group_address(g, &to);
    client early_bird = {0}; // comes before the others have it
    stoq_endpoint *its = make_keeper(&early_bird);
    stoq_conn *c;
    for (unsigned i = 0; i < CONNS; i++)
        assert_int_equal(stoq_resume(its, &to, NULL, hm_buf_bytes(&s), false, NULL, &c), HM_OK);
    for (uint64_t end = stoq_now_us() + LIMIT_US; early_bird.opened < CONNS && stoq_now_us() < end;)
        stoq_endpoint_wait(its, end);
    assert_int_equal(early_bird.opened, CONNS);
    assert_int_equal(early_bird.resumed, 0);
    assert_int_equal(early_bird.closed, 0);
    stoq_endpoint_destroy(its);
    hm_buf_free(&early_bird.session);
    for (unsigned i = 1; i < WORKERS; i++)
        assert_int_equal(stoq_group_call(g, i, renew, ids.server), HM_OK);
    come(&k, ep, g, CONNS, hm_buf_bytes(&s));
    assert_int_equal(k.resumed, 0);
    hm_buf_free(&s);
    s = taken(&k); // of one of these
    come(&k, ep, g, CONNS, hm_buf_bytes(&s));
    assert_int_equal(k.resumed, CONNS);
    hm_buf_free(&s);
    stoq_endpoint_destroy(ep);
    hm_buf_free(&k.session);
    stoq_group_stop(g);
}

// ---- a preferred address ------------------------------------------------------------------------

// All clients move there, and each stays with its worker.
static void test_preferred_address(void **state)
{
    (void)state;
    stoq_group *g;
    stoq_group_config config = group_config();
    config.endpoint.preferred = free_port(SOCK_DGRAM);
    assert_int_equal(stoq_group_start(&config, &g), HM_OK);
    struct sockaddr_in6 to;
    stoq_group_address(g, &to);
    client k = {0};
    stoq_endpoint *ep = make_client(&k);
    stoq_conn *conns[CONNS];
    for (unsigned i = 0; i < CONNS; i++)
        assert_int_equal(stoq_connect(ep, &to, NULL, NULL, NULL, &conns[i]), HM_OK);
    unsigned moved = 0;
    for (uint64_t end = stoq_now_us() + LIMIT_US; moved < CONNS && stoq_now_us() < end;) {
        stoq_endpoint_wait(ep, end);
        moved = 0;
        for (unsigned i = 0; i < CONNS; i++) {
            stoq_conn_stats s;
            stoq_conn_get_stats(conns[i], &s);
            moved += s.at_preferred;
        }
    }
    assert_int_equal(moved, CONNS);
    for (unsigned i = 0; i < CONNS; i++) {
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
        assert_int_equal(stoq_group_call(g, i, add_stats, &sum), HM_OK);
    }
    assert_int_equal(sum.passed_on, 0);
    assert_int_equal(k.closed, 0);
    stoq_endpoint_destroy(ep);
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
        cmocka_unit_test(test_connections_are_spread), cmocka_unit_test(test_wrong_worker),
        cmocka_unit_test(test_taken_address),          cmocka_unit_test(test_tickets_are_shared),
        cmocka_unit_test(test_early_data_once),        cmocka_unit_test(test_context_changes),
        cmocka_unit_test(test_preferred_address),      cmocka_unit_test(test_jobs),
    };
    stoq_ids_make_plain(&ids);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    stoq_ids_free(&ids);
    return failed;
}
