// Datagrams (RFC 9221), between a connection and a peer that does what it likes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_peer.h"

#define MOST 100u // that the connection takes

static struct {
    unsigned count;
    size_t len;
    uint8_t bytes[256];
} got;

static void on_datagram(void *user, stoq_conn *c, hm_bytes bytes)
{
    (void)user;
    (void)c;
    assert_true(bytes.len <= sizeof got.bytes);
    got.count++;
    got.len = bytes.len;
    if (bytes.len > 0)
        memcpy(got.bytes, bytes.ptr, bytes.len);
}

static void begin(peer *p, uint32_t most)
{
    stoq_limits limits = {.max_udp_payload_bytes = STOQ_MIN_INITIAL, .max_datagram_bytes = most};
    peer_begin_with(p, true, limits, STOQ_LOCAL_CID);
    p->ep->callbacks.datagram = on_datagram;
    memset(&got, 0, sizeof got);
}

// With the length, or up to the packet's end.
static size_t make(uint8_t *out, size_t len, bool to_end)
{
    uint8_t *q = out;
    *q++ = to_end ? STOQ_FRAME_DATAGRAM : STOQ_FRAME_DATAGRAM_LEN;
    if (!to_end)
        q = stoq_varint_write(q, len);
    for (size_t i = 0; i < len; i++)
        q[i] = (uint8_t)(i + 1);
    return (size_t)(q - out) + len;
}

static void test_received(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 63, 64, MOST};
    uint8_t mem[512];
    peer p;
    begin(&p, MOST);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int to_end = 0; to_end < 2; to_end++) {
            unsigned before = got.count;
            peer_say(&p, mem, make(mem, lengths[i], to_end));
            assert_int_equal(got.count, before + 1);
            assert_int_equal(got.len, lengths[i]);
            for (size_t k = 0; k < got.len; k++)
                assert_int_equal(got.bytes[k], (uint8_t)(k + 1));
        }
    }
    size_t one = make(mem, 10, false), two = make(mem + one, 20, true); // two of one packet
    unsigned before = got.count;
    peer_say(&p, mem, one + two);
    assert_int_equal(got.count, before + 2);
    assert_int_equal(got.len, 20);
    peer_pass(&p, 30 * MS);
    assert_int_equal(p.last[STOQ_FRAME_ACK].ack_largest, p.pn - 1); // they ask for one
    peer_end(&p);
}

static void test_refused(void **state)
{
    (void)state;
    uint8_t mem[512];
    peer p;
    for (int none = 0; none < 2; none++) {
        begin(&p, none ? 0 : MOST);
        peer_say(&p, mem, make(mem, none ? 0 : MOST + 8, false));
        peer_turn(&p);
        assert_int_equal(got.count, 0);
        assert_true(p.closed);
        assert_int_equal(p.close_code, STOQ_PROTOCOL_VIOLATION);
        peer_end(&p);
    }
}

// More than are kept between two looks of the application are dropped, and counted.
static void test_flood(void **state)
{
    (void)state;
    uint8_t mem[1000];
    peer p;
    begin(&p, MOST);
    for (size_t i = 0; i < sizeof mem; i += 2)
        (void)make(mem + i, 0, false);
    peer_say(&p, mem, sizeof mem);
    stoq_conn_stats st;
    stoq_conn_get_stats(p.c, &st);
    assert_int_equal(got.count, STOQ_DATAGRAMS_MAX);
    assert_int_equal(st.datagrams_received, STOQ_DATAGRAMS_MAX);
    assert_int_equal(st.datagrams_dropped, sizeof mem / 2 - STOQ_DATAGRAMS_MAX);
    peer_end(&p);
}

static void on_datagram_close(void *user, stoq_conn *c, hm_bytes bytes)
{
    on_datagram(user, c, bytes);
    stoq_conn_close(c, 5, "enough");
}

static void test_closed_by_one(void **state)
{
    (void)state;
    uint8_t mem[64];
    peer p;
    begin(&p, MOST);
    p.ep->callbacks.datagram = on_datagram_close;
    size_t one = make(mem, 3, false), two = make(mem + one, 4, true);
    peer_say(&p, mem, one + two);
    assert_int_equal(got.count, 1);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_CLOSE_APP], 1);
    peer_end(&p);
}

static void test_sent(void **state)
{
    (void)state;
    uint8_t bytes[2000] = {7, 8, 9};
    peer p;
    begin(&p, 0);
    assert_int_equal(stoq_conn_datagram_max(p.c), 0); // the peer takes none
    assert_int_equal(stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, 1)), HM_E_RANGE);
    p.c->theirs.max_datagram_frame_bytes = 500;
    assert_int_equal(stoq_conn_datagram_max(p.c), 495);
    assert_int_equal(stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, 496)), HM_E_RANGE);
    assert_int_equal(stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, 495)), HM_OK);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_DATAGRAM_LEN], 1);
    assert_int_equal(p.last[STOQ_FRAME_DATAGRAM_LEN].data.len, 495);
    assert_memory_equal(p.data[STOQ_FRAME_DATAGRAM_LEN], bytes, 16);
    peer_pass(&p, 5000 * MS); // not acknowledged, and not sent again
    assert_int_equal(p.seen[STOQ_FRAME_DATAGRAM_LEN], 1);
    peer_ack_all(&p);
    p.c->theirs.max_datagram_frame_bytes = 65535; // the path is the limit
    size_t most = stoq_conn_datagram_max(p.c);
    assert_true(most > STOQ_MIN_INITIAL - 50 && most < STOQ_MIN_INITIAL - 30);
    assert_int_equal(stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, most)), HM_OK);
    assert_int_equal(stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, most)), HM_OK);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_DATAGRAM_LEN], 3);
    peer_end(&p);
}

// What waits has a bound, and what was sent makes room.
static void test_waiting(void **state)
{
    (void)state;
    uint8_t bytes[1000] = {0};
    peer p;
    begin(&p, 0);
    p.c->theirs.max_datagram_frame_bytes = 65535;
    unsigned taken = 0;
    while (stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, sizeof bytes)) == HM_OK)
        taken++;
    assert_true(taken > 50 && taken < 66);
    assert_int_equal(stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, sizeof bytes)),
                     HM_E_STOQ_BLOCKED);
    for (unsigned i = 0; i < 200 && p.seen[STOQ_FRAME_DATAGRAM_LEN] < taken; i++) {
        peer_pass(&p, 10 * MS);
        peer_ack_all(&p);
    }
    assert_int_equal(p.seen[STOQ_FRAME_DATAGRAM_LEN], taken);
    assert_int_equal(stoq_conn_send_datagram(p.c, hm_bytes_of(bytes, sizeof bytes)), HM_OK);
    peer_end(&p); // one still waits
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_received), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_flood),    cmocka_unit_test(test_closed_by_one),
        cmocka_unit_test(test_sent),     cmocka_unit_test(test_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
