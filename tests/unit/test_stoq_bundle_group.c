// Bundles whose connections are of several workers, on either side or both: every byte arrives
// once, whichever workers carry it; connections that die or fall silent, ends from each side at
// each moment, groups that stop in the middle, joins that are refused by another worker, and the
// limit of what is between two of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/err.h"
#include "stoq_bundle_groups.h"

// ---- transfers ----------------------------------------------------------------------------------

static unsigned workers_with_conns(const bg_side *s)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->workers; i++)
        n += s->here[i] > 0;
    return n;
}

static bool all_joined(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < bg_sides[1].workers; i++)
        n += bg_sides[1].here[i];
    return n == bg_now.conns;
}

// All sizes of both sides; of sixteen connections each worker has some, but for once in so many
// runs that nobody sees it (four workers: 0.04; two: 0.00003), so that alone is not asked for.
static void test_transfers(void **state)
{
    static const unsigned workers[][2] = {{1, 1}, {2, 2}, {4, 4}, {4, 1}, {1, 4}, {3, 2}};
    (void)state;
    for (size_t i = 0; i < sizeof workers / sizeof workers[0]; i++) {
        for (int ordered = 0; ordered < 2; ordered++) {
            bg_begin((bg_setup){.server_workers = workers[i][0],
                                .client_workers = workers[i][1],
                                .conns = 16,
                                .ordered = ordered,
                                .up = 12000000,
                                .down = 5000000});
            assert_true(bg_until(all_joined));
            assert_true(bg_until(bg_all_came));
            assert_int_equal(workers_with_conns(&bg_sides[0]), workers[i][1]);
            assert_true(workers_with_conns(&bg_sides[1]) > 1 || workers[i][0] == 1);
            assert_int_equal(
                stoq_group_run(bg_sides[0].group, bg_sides[0].home, bg_close_job, &bg_sides[0]),
                HM_OK);
            assert_true(bg_until(bg_both_closed));
            assert_int_equal(bg_sides[0].why, HM_OK);
            assert_int_equal(bg_sides[1].why, HM_E_CLOSED);
            bg_finish();
            for (unsigned w = 0; w < workers[i][0]; w++)
                assert_int_equal(bg_sides[1].parties[w].refused, 0);
        }
    }
}

// Until every connection carries the bundle, as both sides see it.
static void wait_for_all(void)
{
    while (bg_stats_of(&bg_sides[0]).connections != bg_now.conns ||
           bg_stats_of(&bg_sides[1]).connections != bg_now.conns)
        assert_false(bg_one_closed());
}

static void test_statistics(void **state)
{
    (void)state;
    bg_begin((bg_setup){
        .server_workers = 2, .client_workers = 2, .conns = 32, .up = 1000000, .down = 1});
    assert_true(bg_until(all_joined));
    assert_true(bg_until(bg_all_came));
    wait_for_all();
    stoq_bundle_stats st = bg_stats_of(&bg_sides[0]);
    assert_int_equal(st.joined, 32);
    assert_int_equal(st.bytes_sent, 1000000);
    assert_int_equal(st.bytes_received, 1);
    assert_int_equal(st.pieces_again, 0);
    bg_finish();
}

// ---- connections that die -----------------------------------------------------------------------

static bool some_came(void)
{
    return bg_sides[1].received >= 1000000 || bg_one_closed();
}

// One of this worker, unless it has none.
static void kill_one(void *arg, stoq_endpoint *ep)
{
    const bg_party *p = stoq_endpoint_user(ep);
    (void)arg;
    if (p->newest != NULL)
        stoq_conn_close(p->newest, 0x77, "the test ends it");
}

// In the middle of a transfer connections of other workers than the bundle's end, on the client and
// on the server; what they carried goes by the others.
static void test_connections_die(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        bg_side *s = &bg_sides[i % 2];
        bg_begin((bg_setup){.server_workers = 4,
                            .client_workers = 4,
                            .conns = 12,
                            .ordered = i & 2,
                            .up = 16000000,
                            .down = 4000000});
        assert_true(bg_until(bg_both_opened));
        assert_true(bg_until(some_came));
        for (unsigned w = 0; w < s->workers; w++)
            if (w != s->home)
                assert_int_equal(stoq_group_run(s->group, w, kill_one, NULL), HM_OK);
        assert_true(bg_until(bg_all_came));
        assert_false(bg_one_closed());
        bg_finish();
    }
}

// The first connection may die too: the bundle stays with its worker, carried by others alone.
static bool home_is_bare(void)
{
    stoq_bundle_stats st = bg_stats_of(&bg_sides[0]);
    return st.connections + 1 == st.joined && st.joined == bg_now.conns;
}

static void test_home_without_connections(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        bg_begin((bg_setup){.server_workers = 2,
                            .client_workers = 4,
                            .conns = 3, // the first of worker 3, the others of 1 and 2
                            .ordered = ordered,
                            .up = 30000000,
                            .down = 5000000});
        assert_true(bg_until(bg_both_opened));
        wait_for_all(); // or it was the last one
        assert_true(bg_until(some_came));
        assert_int_equal(stoq_group_run(bg_sides[0].group, 3, kill_one, NULL), HM_OK);
        assert_true(bg_until(bg_all_came));
        while (!home_is_bare())
            assert_false(bg_one_closed());
        assert_int_equal(stoq_group_run(bg_sides[0].group, 3, bg_close_job, &bg_sides[0]), HM_OK);
        assert_true(bg_until(bg_both_closed));
        bg_finish();
    }
}

// ---- connections that fall silent ---------------------------------------------------------------

// All that was sent has been confirmed, and the home knows what each connection may hold.
static void at_rest_job(void *arg, stoq_endpoint *ep)
{
    const stoq_bundle *b = bg_sides[0].bundle;
    bool *yes = arg;
    (void)ep;
    *yes = b != NULL;
    for (unsigned i = 0; *yes && i < STOQ_BUNDLE_CONNS_MAX; i++) {
        const bundle_member *m = b->members[i];
        if (m != NULL && (m->released < m->sent_count || (m->leg != NULL && m->leg_window == 0)))
            *yes = false;
    }
}

static bool at_rest(void)
{
    bool yes;
    assert_int_equal(stoq_group_call(bg_sides[0].group, bg_sides[0].home, at_rest_job, &yes),
                     HM_OK);
    return yes;
}

static bool first_came(void)
{
    return bg_sides[1].received == bg_now.first;
}

static bool silent_died(void)
{
    unsigned n = 0;
    for (unsigned i = 1; i <= bg_now.through; i++)
        n += bg_ended_with[i] != 0;
    return n == bg_now.through;
}

static void ping_job(void *arg, stoq_endpoint *ep)
{
    (void)arg;
    stoq_bundles_ping(((const bg_party *)stoq_endpoint_user(ep))->set);
}

// Half of the connections, of every worker, fall silent when all carry the bundle and nothing is
// under way: what is sent from then on is more than the others' congestion windows take at once, so
// it goes by them too, until the idle timeout says that they are dead, and then again by the
// others, which pings keep.
static void test_connections_fall_silent(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        bg_begin((bg_setup){.server_workers = 4,
                            .client_workers = 4,
                            .conns = 13,
                            .through = 6,
                            .idle_ms = 5000,
                            .ordered = ordered,
                            .up = 20000000,
                            .first = 100000,
                            .down = 1});
        assert_true(bg_until(bg_both_opened));
        wait_for_all();
        assert_true(bg_until(first_came));
        while (!at_rest())
            assert_false(bg_one_closed());
        bg_cut = true;
        assert_int_equal(
            stoq_group_run(bg_sides[0].group, bg_sides[0].home, bg_rest_job, &bg_sides[0]), HM_OK);
        for (unsigned s = 0; !(bg_within(1, bg_all_came) && bg_within(1, silent_died)); s++) {
            assert_true(s < BG_LIMIT_S);
            assert_int_equal(stoq_group_run(bg_sides[0].group, bg_sides[0].home, ping_job, NULL),
                             HM_OK);
        }
        for (unsigned i = 0; i < 2; i++)
            while (bg_stats_of(&bg_sides[i]).connections != bg_now.conns - bg_now.through)
                assert_false(bg_one_closed());
        assert_true(bg_stats_of(&bg_sides[0]).pieces_again > 0);
        for (unsigned i = 1; i < bg_now.conns; i++)
            if (i > bg_now.through)
                assert_int_equal(bg_ended_with[i], 0);
            else if (bg_ended_with[i] != STOQ_BUNDLE_LEFT) // or its own timeout, whichever is first
                assert_int_equal(bg_ended_with[i], 1);
        assert_false(bg_one_closed());
        bg_finish();
    }
}

// ---- ends ---------------------------------------------------------------------------------------

static const uint64_t moments[] = {0, 1, 20000, 300000, 2000000, 6000000};
#define MOMENTS (sizeof moments / sizeof moments[0])

// By a call on either side, when so much has come.
static void test_closing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4 * MOMENTS; i++) {
        bool on_server = i & 1;
        bg_begin((bg_setup){.server_workers = 3,
                            .client_workers = 3,
                            .conns = 9,
                            .ordered = i & 2,
                            .up = 8000000,
                            .down = 8000000,
                            .act_at = moments[i / 4],
                            .act = bg_close_it,
                            .act_on_server = on_server});
        assert_true(bg_until(bg_both_closed));
        assert_int_equal(bg_sides[on_server].why, HM_OK);
        assert_int_equal(bg_sides[!on_server].why, HM_E_CLOSED);
        bg_finish();
    }
}

static void mark(bg_side *s)
{
    s->marked = 1;
}
static bool marked(void)
{
    return bg_sides[0].marked || bg_sides[1].marked;
}

// By the end of a whole group, which has not closed it: all of its workers end at once.
static void test_groups_stop(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4 * MOMENTS; i++) {
        bool server = i & 1;
        bg_begin((bg_setup){.server_workers = 4,
                            .client_workers = 4,
                            .conns = 10,
                            .ordered = i & 2,
                            .up = 8000000,
                            .down = 8000000,
                            .act_at = moments[i / 4],
                            .act = mark,
                            .act_on_server = server});
        assert_true(bg_until(marked));
        bg_stop(&bg_sides[server]);
        assert_int_equal(bg_sides[server].closed, 1);
        assert_int_equal(bg_sides[server].why, HM_E_CLOSED);
        bg_finish();
    }
}

// ---- joins that are refused ---------------------------------------------------------------------

static unsigned asked, refused_code;

static bool all_refused(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < BG_CONNS_MAX; i++)
        n += bg_ended_with[i] == refused_code;
    return n == asked;
}

static uint64_t refused_by(const bg_side *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < s->workers; i++)
        n += s->parties[i].refused;
    return n;
}

// A server that lets in four of a bundle, whichever workers they come to.
static void test_server_limit(void **state)
{
    (void)state;
    bg_begin((bg_setup){.server_workers = 4,
                        .client_workers = 2,
                        .conns = 20,
                        .max_connections = 4,
                        .up = 3000000});
    asked = 16;
    refused_code = STOQ_BUNDLE_LIMIT;
    assert_true(bg_until(all_refused));
    assert_true(bg_until(bg_all_came));
    assert_false(bg_one_closed());
    bg_finish();
    assert_int_equal(refused_by(&bg_sides[1]), 16);
}

// A client's own worker lets in 32.
static void test_client_limit(void **state)
{
    (void)state;
    bg_begin((bg_setup){.server_workers = 2, .client_workers = 4, .conns = 36, .up = 3000000});
    asked = 4;
    refused_code = STOQ_BUNDLE_LIMIT;
    // Those of the home worker are refused by the call, and closed by this test as denied.
    assert_true(bg_until(bg_all_came));
    for (bool all = false; !all;) {
        unsigned n = 0;
        for (unsigned i = 0; i < BG_CONNS_MAX; i++)
            n += bg_ended_with[i] == STOQ_BUNDLE_LIMIT || bg_ended_with[i] == STOQ_BUNDLE_DENIED;
        all = n == asked;
        assert_false(bg_one_closed());
    }
    while (bg_stats_of(&bg_sides[0]).joined != 32)
        assert_false(bg_one_closed());
    bg_finish();
}

// A server without a hub, whose workers do not know each other's bundles: it says no to those that
// come to other workers, and goes on with the rest.
static void test_no_hub(void **state)
{
    (void)state;
    bg_begin((bg_setup){
        .server_workers = 4, .client_workers = 2, .conns = 16, .up = 3000000, .no_hub = true});
    assert_true(bg_until(all_joined));
    assert_true(bg_until(bg_all_came));
    asked = 16 - bg_sides[1].here[bg_sides[1].home];
    refused_code = STOQ_BUNDLE_DENIED;
    assert_true(bg_until(all_refused));
    assert_true(asked > 0);
    bg_finish();
    assert_int_equal(refused_by(&bg_sides[1]), asked);
}

// Frames by hand, from a client that has no part in the bundle: another id, and the right one with
// a proof that is none; whichever worker is asked, the answer is the same.
static atomic_uint strangers;

static void say(void *user, stoq_conn *c)
{
    uint8_t out[BUNDLE_FRAME_MAX];
    size_t took, n = (uintptr_t)stoq_conn_user(c);
    stoq_stream *st;
    (void)user;
    bundle_frame f = {.type = BUNDLE_JOIN, .version = BUNDLE_VERSION, .index = 1};
    memcpy(f.id, bg_id, sizeof f.id);
    if (n % 2 == 0)
        f.id[0] = (uint8_t)n; // every worker is asked
    hm_bytes frame = hm_bytes_of(out, bundle_frame_write(&f, out));
    assert_int_equal(stoq_stream_open(c, false, &st), HM_OK);
    assert_int_equal(stoq_stream_send(st, frame, false, &took), HM_OK);
    assert_int_equal(stoq_stream_send(st, hm_bytes_str("and what is behind it"), false, &took),
                     HM_OK);
}

static void stranger_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)user, (void)c;
    assert_true(is_app && code == STOQ_BUNDLE_DENIED);
    assert_memory_equal(reason.ptr, "no bundle of this peer has this id", reason.len);
    strangers++;
}

static void test_strangers(void **state)
{
    (void)state;
    bg_begin((bg_setup){.server_workers = 4, .client_workers = 1, .conns = 1, .up = 1, .down = 1});
    assert_true(bg_until(bg_both_opened));
    strangers = 0;
    stoq_endpoint *ep;
    stoq_config config = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                          .client_tls = bg_ids.client,
                          .alpn = {STOQ_ALPN_BUNDLE},
                          .callbacks = {.conn_open = say, .conn_closed = stranger_closed}};
    assert_int_equal(stoq_endpoint_create(&config, &ep), HM_OK);
    for (uintptr_t i = 0; i < 32; i++) {
        stoq_conn *c;
        assert_int_equal(stoq_connect(ep, &bg_target, NULL, NULL, (void *)i, &c), HM_OK);
    }
    for (uint64_t end = stoq_now_us() + UINT64_C(90000000); strangers < 32 && stoq_now_us() < end;)
        stoq_endpoint_wait(ep, end);
    assert_int_equal(strangers, 32);
    stoq_endpoint_destroy(ep);
    assert_true(bg_until(bg_all_came));
    assert_false(bg_one_closed());
    bg_finish();
    assert_int_equal(refused_by(&bg_sides[1]), 32);
}

// A client adds to a bundle that was ended, from another worker.
static void add_late(void *arg, stoq_endpoint *ep)
{
    stoq_conn *c;
    (void)arg;
    hm_assert(stoq_connect(ep, &bg_target, NULL, NULL, (void *)(uintptr_t)39, &c) == HM_OK);
}

static bool late_is_closed(void)
{
    return bg_ended_with[39] != 0;
}

static void test_late(void **state)
{
    (void)state;
    for (unsigned w = 0; w < 2; w++) { // the home worker is 1
        bg_begin((bg_setup){.server_workers = 2,
                            .client_workers = 2,
                            .conns = 2,
                            .up = 1,
                            .down = 1,
                            .act_at = 1,
                            .act = bg_close_it});
        assert_true(bg_until(bg_both_closed));
        assert_int_equal(stoq_group_run(bg_sides[0].group, w, add_late, NULL), HM_OK);
        assert_true(bg_until(late_is_closed));
        assert_int_equal(bg_ended_with[39], STOQ_BUNDLE_DENIED);
        bg_finish();
    }
}

// ---- limits -------------------------------------------------------------------------------------

static atomic_uint held;

// When all connections carry the bundle: the home worker does nothing until one of the others has
// brought all that it may; then nothing more is between them than the limit says, however much the
// peer would send.
static void hold(bg_side *s)
{
    bool full = false, flows = false;
    for (uint64_t end = stoq_now_us() + UINT64_C(60000000); !full && stoq_now_us() < end;) {
        for (unsigned i = 0; i < STOQ_BUNDLE_CONNS_MAX; i++) {
            const bundle_member *m = s->bundle->members[i];
            if (m == NULL || m->leg == NULL || m->taken == 0)
                continue;
            flows = true;
            pthread_mutex_lock(&m->leg->lock);
            full = full || m->leg->away_waits;
            hm_assert(m->leg->chunks <= LEG_CHUNKS_MAX && m->leg->out_len <= BUNDLE_OUT);
            pthread_mutex_unlock(&m->leg->lock);
        }
        if (!flows) { // not yet
            s->act_at = s->received + 1;
            return;
        }
    }
    hm_assert(full);
    held++;
}

static void test_limit_between(void **state)
{
    (void)state;
    held = 0;
    for (int on_server = 0; on_server < 2; on_server++) {
        bg_begin((bg_setup){.server_workers = 4,
                            .client_workers = 4,
                            .conns = 12, // six were of one worker once in a thousand
                            .window_bytes = 64u << 20,
                            .send_bytes = 64u << 20,
                            .up = on_server ? 60000000 : 1,
                            .down = on_server ? 1 : 60000000,
                            .first = 100000,
                            .act_at = 3000000,
                            .act = hold,
                            .act_on_server = on_server});
        assert_true(bg_until(bg_both_opened));
        wait_for_all();
        bg_side *sender = &bg_sides[on_server ? 0 : 1];
        assert_int_equal(stoq_group_run(sender->group, sender->home, bg_rest_job, sender), HM_OK);
        assert_true(bg_until(bg_all_came));
        bg_finish();
        assert_int_equal(held, on_server + 1);
    }
}

// The window is full, of which the application takes nothing.
static bool stands(void)
{
    return bg_sides[1].received > (1u << 20) - STOQ_BUNDLE_PIECE_MAX;
}

// An application that takes nothing: the bundle's window holds the peer, whoever carries it.
static void test_window(void **state)
{
    (void)state;
    bg_begin((bg_setup){.server_workers = 4,
                        .client_workers = 4,
                        .conns = 8,
                        .lazy = true,
                        .window_bytes = 1u << 20,
                        .up = 20000000});
    assert_true(bg_until(stands));
    stoq_bundle_stats st = bg_stats_of(&bg_sides[0]);
    assert_true(st.bytes_sent <= 1u << 20);
    assert_false(bg_one_closed());
    bg_finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transfers),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_connections_die),
        cmocka_unit_test(test_home_without_connections),
        cmocka_unit_test(test_connections_fall_silent),
        cmocka_unit_test(test_closing),
        cmocka_unit_test(test_groups_stop),
        cmocka_unit_test(test_server_limit),
        cmocka_unit_test(test_client_limit),
        cmocka_unit_test(test_no_hub),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_limit_between),
        cmocka_unit_test(test_window),
    };
    return cmocka_run_group_tests_name("stoq_bundle_group", tests, bg_make, bg_free);
}
