// A client's move to another local address (RFC 9000, section 9): it goes where the way to the
// server is proven, stays where it is not, and says why where it cannot be.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_pair.h"
#include "stoq_forge.h"

#define OK(e) assert_int_equal((e), HM_OK)
#define PORTS 16u
#define SECOND UINT64_C(1000000)

static pair_world p;
static stoq_config config[2];
static unsigned count[2][PORTS]; // datagrams to [client or server] by a port of the client
static unsigned lost_first[2];   // of those to [client or server], by other ports than the first
static unsigned dead;            // ports from which nothing goes and to which nothing comes, bits
static unsigned moved, stayed;   // told

static bool watch(pair_world *at, unsigned to, uint8_t *bytes, size_t len)
{
    unsigned port = at->client_port - PAIR_CLIENT_PORT;
    (void)bytes, (void)len;
    assert_true(port < PORTS);
    count[to][port]++;
    if (port > 0 && lost_first[to] > 0) {
        lost_first[to]--;
        return false;
    }
    return !(dead >> port & 1);
}

static void on_moved(void *user, stoq_conn *c, bool there)
{
    (void)user;
    assert_ptr_equal(c, p.side[PAIR_CLIENT].conn);
    *(there ? &moved : &stayed) += 1;
}

static void begin(uint64_t seed)
{
    pair_begin(&p, seed);
    config[PAIR_CLIENT] =
        (stoq_config){.client_tls = pair_ids.open_client, .callbacks = {.conn_moved = on_moved}};
    config[PAIR_SERVER] = (stoq_config){.server_tls = pair_ids.open_server};
    memset(count, 0, sizeof count);
    lost_first[0] = lost_first[1] = dead = moved = stayed = 0;
    p.watch = watch;
}

static stoq_conn *client(void)
{
    return p.side[PAIR_CLIENT].conn;
}

static hm_err migrate(unsigned port)
{
    struct sockaddr_in6 at = forge_address((uint16_t)(PAIR_CLIENT_PORT + port));
    return stoq_conn_migrate(client(), &at);
}

static unsigned local_port(void)
{
    struct sockaddr_in6 at;
    stoq_conn_local_address(client(), &at);
    return ntohs(at.sin6_port) - PAIR_CLIENT_PORT;
}

static unsigned port_seen(void)
{
    struct sockaddr_in6 at;
    stoq_conn_peer_address(p.side[PAIR_SERVER].conn, &at);
    return ntohs(at.sin6_port) - PAIR_CLIENT_PORT;
}

// Another stream goes there and back.
static void echo(void)
{
    static const uint8_t bytes[50000] = {1};
    pair_side *s = &p.side[PAIR_CLIENT];
    unsigned ends = s->ends;
    stoq_stream *st;
    size_t took, before = s->received.len;
    OK(stoq_stream_open(client(), false, &st));
    OK(stoq_stream_send(st, hm_bytes_of(bytes, sizeof bytes), true, &took));
    assert_int_equal(took, sizeof bytes);
    for (int i = 0; i < 100 && s->ends == ends; i++)
        pair_run(&p, SECOND / 10);
    assert_int_equal(s->ends, ends + 1);
    assert_int_equal(s->received.len - before, sizeof bytes);
}

// All goes by this port of the client and no other.
static void expect_at(unsigned port)
{
    assert_int_equal(local_port(), port);
    assert_int_equal(port_seen(), port);
    memset(count, 0, sizeof count);
    echo();
    for (unsigned i = 0; i < PORTS; i++)
        for (int side = 0; side < 2; side++)
            assert_true((count[side][i] > 0) == (i == port));
}

static unsigned sockets(void)
{
    unsigned n = 0;
    hm_list_each(it, &p.side[PAIR_CLIENT].ep->sockets) n++;
    return n;
}

static void test_moves(void **state)
{
    (void)state;
    for (unsigned lost = 0; lost < 4; lost++) { // bits: the first one to the client, to the server
        begin(1 + lost);
        lost_first[PAIR_CLIENT] = lost & 1;
        lost_first[PAIR_SERVER] = lost >> 1;
        assert_true(pair_exchange(&p, config));
        stoq_cid before = *conn_dcid(client());
        OK(migrate(1));
        assert_int_equal(local_port(), 0);
        pair_run(&p, 2 * SECOND);
        assert_int_equal(moved, 1);
        assert_int_equal(stayed, 0);
        // Under another id on both sides, and the one before is retired (section 9.5).
        assert_false(stoq_cid_eq(&before, conn_dcid(client())));
        for (unsigned i = 0; i < STOQ_CIDS_MAX; i++)
            assert_false(client()->remote[i].active &&
                         stoq_cid_eq(&before, &client()->remote[i].cid));
        expect_at(1);
        assert_int_equal(sockets(), 1);
        pair_end(&p);
    }
}

// Congestion control and round trips are the new path's own (section 9.4), the old one's packets
// that are acknowledged afterwards notwithstanding.
static void test_path_begins_anew(void **state)
{
    (void)state;
    begin(10);
    assert_true(pair_exchange(&p, config));
    echo();
    stoq_conn_stats before = pair_stats(&p, PAIR_CLIENT);
    assert_true(before.cwnd_bytes > 30000 && before.mtu_bytes > STOQ_MIN_INITIAL);
    OK(migrate(1));
    while (moved == 0) {
        stoq_conn_ping(client());
        pair_run(&p, 1000);
    }
    stoq_conn_stats after = pair_stats(&p, PAIR_CLIENT);
    assert_true(after.cwnd_bytes <= 10 * after.mtu_bytes + STOQ_MIN_INITIAL);
    assert_int_equal(client()->mtu, STOQ_MIN_INITIAL);
    assert_int_equal(client()->first_rtt_us, 0);
    // A packet of the old path was under way: what acknowledges it makes no round trip.
    uint64_t path_pn = client()->path_pn;
    const stoq_space *app = &client()->spaces[STOQ_LEVEL_APP];
    assert_true(app->eliciting_out > 0);
    while (app->largest_acked < path_pn) {
        assert_int_equal(client()->first_rtt_us, 0);
        pair_run(&p, 100);
    }
    pair_run(&p, SECOND);
    assert_true(client()->first_rtt_us != 0);
    expect_at(1);
    pair_end(&p);
}

// Nobody answers there: three challenges, no sooner given up than a slow path may answer
// (section 8.2.4), and all goes on as before.
static void test_stays(void **state)
{
    (void)state;
    begin(20);
    assert_true(pair_exchange(&p, config));
    dead = 1u << 1;
    OK(migrate(1));
    uint64_t start = p.now;
    memset(count, 0, sizeof count);
    while (stayed == 0 && p.now < start + 10 * SECOND)
        pair_run(&p, SECOND / 10);
    assert_int_equal(stayed, 1);
    assert_int_equal(moved, 0);
    assert_true(p.now > start + 3 * SECOND);
    assert_int_equal(count[PAIR_SERVER][1], 3);
    assert_int_equal(pair_stats(&p, PAIR_CLIENT).packets_lost, 0);
    assert_int_equal(sockets(), 0);
    expect_at(0);
    // The next attempt has an id of its own all the same.
    OK(migrate(2));
    pair_run(&p, SECOND);
    assert_int_equal(moved, 1);
    expect_at(2);
    pair_end(&p);
}

// The address that it had is dead, with everything that was sent by it.
static void test_leaves_the_dead(void **state)
{
    static const uint8_t bytes[400000] = {2};
    stoq_stream *st;
    size_t took;
    (void)state;
    begin(30);
    assert_true(pair_exchange(&p, config));
    echo();
    size_t before = p.side[PAIR_CLIENT].received.len;
    OK(stoq_stream_open(client(), false, &st));
    OK(stoq_stream_send(st, hm_bytes_of(bytes, sizeof bytes), true, &took));
    assert_int_equal(took, sizeof bytes);
    pair_run(&p, 6000);
    dead = 1;
    pair_run(&p, 200000);
    OK(migrate(1));
    uint64_t start = p.now;
    while (p.side[PAIR_CLIENT].received.len - before < sizeof bytes && p.now < start + 5 * SECOND)
        pair_run(&p, 1000);
    assert_int_equal(p.side[PAIR_CLIENT].received.len - before, sizeof bytes);
    // Without waiting for the probe timeouts of a path that nothing is known of.
    assert_true(p.now < start + SECOND);
    expect_at(1);
    pair_end(&p);
}

// From place to place and back to the endpoint's own socket; what it left is closed.
static void test_goes_on(void **state)
{
    (void)state;
    begin(40);
    assert_true(pair_exchange(&p, config));
    for (unsigned i = 1; i < 3 * PORTS; i++) {
        OK(migrate(i % PORTS));
        pair_run(&p, SECOND);
        assert_int_equal(moved, i);
        expect_at(i % PORTS);
        assert_true(sockets() <= 2);
    }
    assert_int_equal(stayed, 0);
    assert_int_equal(migrate((3 * PORTS - 1) % PORTS), HM_E_EXISTS);
    // The last of several calls counts, and only it is told.
    OK(migrate(3));
    OK(migrate(4));
    pair_run(&p, SECOND);
    assert_int_equal(moved, 3 * PORTS);
    expect_at(4);
    stoq_conn_close(client(), 7, "");
    pair_run(&p, SECOND);
    assert_true(p.side[PAIR_SERVER].closed == 1 && p.side[PAIR_SERVER].code == 7);
    assert_int_equal(sockets(), 0);
    pair_end(&p);
}

static void test_at_preferred(void **state)
{
    (void)state;
    begin(50);
    config[PAIR_SERVER].preferred = forge_address(PAIR_PREFERRED_PORT);
    config[PAIR_CLIENT].ignore_preferred = false;
    assert_true(pair_exchange(&p, config));
    pair_run(&p, SECOND);
    assert_true(pair_stats(&p, PAIR_CLIENT).at_preferred);
    // What the server forbids is to move at the address of the handshake (section 18.2).
    client()->theirs.disable_active_migration = true;
    OK(migrate(1));
    pair_run(&p, SECOND);
    assert_int_equal(moved, 1);
    assert_true(pair_stats(&p, PAIR_CLIENT).at_preferred);
    assert_true(pair_stats(&p, PAIR_SERVER).at_preferred);
    expect_at(1);
    pair_end(&p);
}

static void test_refused(void **state)
{
    struct sockaddr_in6 at = forge_address(PAIR_CLIENT_PORT + 1);
    (void)state;
    begin(60);
    assert_true(pair_exchange(&p, config));
    assert_int_equal(stoq_conn_migrate(p.side[PAIR_SERVER].conn, &at), HM_E_INVALID);
    assert_int_equal(migrate(0), HM_E_EXISTS);
    client()->theirs.disable_active_migration = true;
    assert_int_equal(migrate(1), HM_E_UNSUPPORTED);
    client()->theirs.disable_active_migration = false;
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++) // the server gave none to spare
        client()->remote[i].active = i == client()->remote_at;
    assert_int_equal(migrate(1), HM_E_AGAIN);
    assert_non_null(strstr(hm_err_detail(), "id"));
    stoq_conn_close(client(), 0, "");
    assert_int_equal(migrate(1), HM_E_CLOSED);
    pair_run(&p, SECOND);
    assert_int_equal(sockets(), 0);
    assert_int_equal(moved + stayed, 0);
    pair_end(&p);
    begin(61); // before the handshake is over
    for (unsigned i = 0; i < 2; i++)
        pair_endpoint(&p, i, config[i]);
    stoq_conn *c = pair_connect(&p);
    assert_int_equal(stoq_conn_migrate(c, &at), HM_E_AGAIN);
    pair_end(&p);
}

// Real sockets: each address of loopback that there is has a port to spare.
static void test_sockets(void **state)
{
    stoq_endpoint *ep[2];
    stoq_conn *c;
    struct sockaddr_in6 to, any = forge_address(0), at = {0}, nobody = forge_address(0);
    stoq_config server = {.bind = any,
                          .server_tls = pair_ids.open_server,
                          .alpn = {STOQ_ALPN_MESH}},
                client_config = {
                    .bind = any, .client_tls = pair_ids.open_client, .alpn = {STOQ_ALPN_MESH}};
    (void)state;
    nobody.sin6_addr.s6_addr[0] = 0x20; // 2000::1
    OK(stoq_endpoint_create(&server, &ep[0]));
    OK(stoq_endpoint_create(&client_config, &ep[1]));
    stoq_endpoint_address(ep[0], &to);
    OK(stoq_connect(ep[1], &to, NULL, NULL, NULL, &c));
    uint64_t end = stoq_now_us() + 20 * SECOND;
    while (!stoq_conn_is_confirmed(c) && stoq_now_us() < end)
        for (int i = 0; i < 2; i++)
            stoq_endpoint_wait(ep[i], stoq_now_us() + 1000);
    assert_true(stoq_conn_is_confirmed(c));
    assert_int_equal(stoq_conn_migrate(c, &nobody), HM_E_CONFIG);
    any.sin6_port = to.sin6_port; // the server has it
    assert_int_equal(stoq_conn_migrate(c, &any), HM_E_CONFIG);
    struct sockaddr_in6 before;
    stoq_conn_local_address(c, &before);
    any.sin6_addr = in6addr_any; // is another socket than that of ::1
    any.sin6_port = 0;
    OK(stoq_conn_migrate(c, &any));
    do {
        for (int i = 0; i < 2; i++)
            stoq_endpoint_wait(ep[i], stoq_now_us() + 1000);
        stoq_conn_local_address(c, &at);
    } while (at.sin6_port == before.sin6_port && stoq_now_us() < end);
    assert_int_not_equal(at.sin6_port, before.sin6_port);
    assert_int_not_equal(at.sin6_port, 0);
    for (int i = 0; i < 2; i++)
        stoq_endpoint_destroy(ep[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),   cmocka_unit_test(test_path_begins_anew),
        cmocka_unit_test(test_stays),   cmocka_unit_test(test_leaves_the_dead),
        cmocka_unit_test(test_goes_on), cmocka_unit_test(test_at_preferred),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_sockets),
    };
    return cmocka_run_group_tests(tests, pair_make_ids, pair_free_ids);
}
