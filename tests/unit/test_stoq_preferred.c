// A server's preferred address (RFC 9000, section 9.6): the client goes there once the way is
// proven, stays where the way is not, and nobody gets more from there than he sent.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_forge.h"
#include "stoq_pair.h"

static pair_world p;
static stoq_config config[2];

static unsigned count[2][2]; // datagrams to [client or server] by [the first or preferred address]
static size_t passed[2];     // by the preferred one, before the client is seen to have moved
static bool deaf[2];         // what goes [to] by the preferred address is lost
static unsigned lost_first[2]; // so many of them

static bool watch(pair_world *at, unsigned to, uint8_t *bytes, size_t len)
{
    (void)bytes;
    count[to][at->preferred]++;
    if (!at->preferred)
        return true;
    const pair_side *s = &at->side[PAIR_SERVER];
    if (s->conn != NULL && !pair_stats(at, PAIR_SERVER).at_preferred) {
        passed[to] += len;
        assert_true(passed[PAIR_CLIENT] <= 3 * passed[PAIR_SERVER]);
    }
    if (lost_first[to] > 0) {
        lost_first[to]--;
        return false;
    }
    return !deaf[to];
}

static void begin(uint64_t seed)
{
    pair_begin(&p, seed);
    config[PAIR_CLIENT] = (stoq_config){.client_tls = pair_ids.client};
    config[PAIR_SERVER] = (stoq_config){.server_tls = pair_ids.server,
                                        .preferred = forge_address(PAIR_PREFERRED_PORT)};
    memset(count, 0, sizeof count);
    memset(passed, 0, sizeof passed);
    memset(deaf, 0, sizeof deaf);
    memset(lost_first, 0, sizeof lost_first);
    p.watch = watch;
}

static uint16_t client_sends_to(void)
{
    struct sockaddr_in6 to;
    stoq_conn_peer_address(p.side[PAIR_CLIENT].conn, &to);
    return ntohs(to.sin6_port);
}

static void expect(bool moved)
{
    assert_true(pair_stats(&p, PAIR_CLIENT).at_preferred == moved);
    assert_true(pair_stats(&p, PAIR_SERVER).at_preferred == moved);
    assert_int_equal(client_sends_to() == PAIR_PREFERRED_PORT, moved);
    // Everything goes one way from now on.
    memset(count, 0, sizeof count);
    stoq_conn_ping(p.side[PAIR_CLIENT].conn);
    stoq_conn_ping(p.side[PAIR_SERVER].conn);
    pair_run(&p, 1000000);
    for (int side = 0; side < 2; side++) {
        assert_true(count[side][moved] > 0);
        assert_int_equal(count[side][!moved], 0);
    }
}

static void test_moves(void **state)
{
    (void)state;
    for (unsigned lost = 0; lost < 4; lost++) { // bits: the first one to the client, to the server
        begin(1 + lost);
        lost_first[PAIR_CLIENT] = lost & 1;
        lost_first[PAIR_SERVER] = lost >> 1;
        assert_true(pair_exchange(&p, config));
        pair_run(&p, 3000000);
        expect(true);
        // The connection works as any: keys, another stream's bytes, the end.
        assert_int_equal(stoq_conn_update_keys(p.side[PAIR_CLIENT].conn), HM_OK);
        pair_run(&p, 100000);
        assert_int_equal(pair_stats(&p, PAIR_SERVER).key_updates, 1);
        stoq_conn_close(p.side[PAIR_CLIENT].conn, 7, "");
        pair_run(&p, 100000);
        assert_true(p.side[PAIR_SERVER].closed == 1 && p.side[PAIR_SERVER].code == 7);
        pair_end(&p);
    }
}

// Nobody answers there, or the answers get lost: three challenges, and all goes on as before.
static void test_stays(void **state)
{
    (void)state;
    for (int side = 0; side < 2; side++) {
        begin(10 + (unsigned)side);
        deaf[side] = true;
        assert_true(pair_exchange(&p, config));
        pair_run(&p, 10000000);
        assert_int_equal(count[PAIR_SERVER][1], 3);
        assert_int_equal(pair_stats(&p, PAIR_CLIENT).packets_lost, 0);
        expect(false);
        pair_end(&p);
    }
}

static void test_ignored(void **state)
{
    (void)state;
    begin(20);
    config[PAIR_CLIENT].ignore_preferred = true;
    assert_true(pair_exchange(&p, config));
    pair_run(&p, 1000000);
    assert_int_equal(count[PAIR_SERVER][1], 0);
    expect(false);
    pair_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_stays),
        cmocka_unit_test(test_ignored),
    };
    return cmocka_run_group_tests(tests, pair_make_ids, pair_free_ids);
}
