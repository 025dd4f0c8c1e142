// How often packets are acknowledged (draft-ietf-quic-ack-frequency-14): what a peer asks of a
// connection, and what a connection asks of its peer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_peer.h"

static void begin(peer *p)
{
    peer_begin(p, true);
    peer_ack_all(p);
    peer_turn(p);
    peer_forget(p);
}

static void ask(peer *p, uint64_t seq, uint64_t threshold, uint64_t delay_us, uint64_t reordering)
{
    uint8_t mem[64], *q = stoq_varint_write(mem, STOQ_FRAME_ACK_FREQUENCY);
    q = stoq_varint_write(stoq_varint_write(q, seq), threshold);
    q = stoq_varint_write(stoq_varint_write(q, delay_us), reordering);
    *q++ = STOQ_FRAME_IMMEDIATE_ACK; // so that all begins anew
    peer_say(p, mem, (size_t)(q - mem));
    peer_turn(p);
    peer_forget(p);
}

// A packet that asks for an acknowledgement: did it come?
static bool ping(peer *p)
{
    peer_forget(p);
    peer_say1(p, STOQ_FRAME_PING);
    peer_turn(p);
    return p->seen[STOQ_FRAME_ACK] > 0;
}

// How many packets it takes.
static unsigned pings(peer *p)
{
    unsigned n = 1;
    while (!ping(p))
        n++;
    return n;
}

static void test_threshold(void **state)
{
    (void)state;
    peer p;
    begin(&p);
    assert_int_equal(pings(&p), 2); // RFC 9000, section 13.2.2
    ask(&p, 0, 9, 5000, 3);
    assert_int_equal(pings(&p), 10);
    assert_int_equal(pings(&p), 10);
    ask(&p, 1, 0, 5000, 3);
    assert_int_equal(pings(&p), 1);
    ask(&p, 1, 5, 5000, 3); // of a number that was there, and of a smaller one
    ask(&p, 0, 5, 5000, 3);
    assert_int_equal(pings(&p), 1);
    ask(&p, 7, 5, 5000, 3);
    assert_int_equal(pings(&p), 6);
    ask(&p, 8, STOQ_VARINT_MAX, 5000, STOQ_VARINT_MAX); // what is too much is bounded
    assert_int_equal(pings(&p), 256);
    ask(&p, STOQ_VARINT_MAX, 2, 5000, 3);
    assert_int_equal(pings(&p), 3);
    peer_end(&p);
}

static uint64_t delay(peer *p)
{
    uint64_t from = p->now;
    assert_false(ping(p));
    while (p->seen[STOQ_FRAME_ACK] == 0)
        peer_pass(p, 100);
    return p->now - from;
}

static void test_delay(void **state)
{
    (void)state;
    peer p;
    begin(&p);
    assert_in_range(delay(&p), 25000, 25100);
    ask(&p, 0, 9, STOQ_MIN_ACK_DELAY_US, 3);
    assert_in_range(delay(&p), 1000, 1100);
    ask(&p, 1, 9, 80000, 3);
    assert_in_range(delay(&p), 80000, 80100);
    ask(&p, 2, 9, 16383999, 3); // the most that may be asked for is more than we wait
    assert_in_range(delay(&p), 1000000, 1000100);
    peer_end(&p);
}

static void test_immediate(void **state)
{
    (void)state;
    peer p;
    begin(&p);
    ask(&p, 0, 100, 80000, 0);
    assert_false(ping(&p));
    peer_say1(&p, STOQ_FRAME_IMMEDIATE_ACK);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_ACK], 1);
    assert_int_equal(p.last[STOQ_FRAME_ACK].ack_largest, p.pn - 1);
    peer_end(&p);
}

static bool ping_number(peer *p, uint64_t pn)
{
    p->pn = pn;
    return ping(p);
}

// The draft's examples (section 6.2.1): numbers that arrive, and those that are answered.
static void example(uint64_t reordering, const uint8_t *numbers, const uint8_t *answered,
                    size_t count)
{
    peer p;
    begin(&p);
    ask(&p, 0, 100, 80000, reordering);
    uint64_t first = p.pn;
    for (size_t i = 0; i < count; i++)
        assert_int_equal(ping_number(&p, first + numbers[i]), answered[i]);
    peer_end(&p);
}

static void test_reordering(void **state)
{
    (void)state;
    // That of ask() is acknowledged before: the draft's tables begin with nothing acknowledged,
    // which changes no row of them.
    example(3, (uint8_t[]){0, 1, 3, 4, 5, 8, 9, 10}, (uint8_t[]){0, 0, 0, 0, 1, 0, 1, 1}, 8);
    example(5, (uint8_t[]){0, 1, 3, 5, 6, 7, 8, 9}, (uint8_t[]){0, 0, 0, 0, 0, 1, 0, 1}, 8);
    example(1, (uint8_t[]){0, 2, 3, 5, 4}, (uint8_t[]){0, 1, 0, 1, 1}, 5);
    // A gap that is filled in time is none; a packet that is later than the threshold is told of.
    example(3, (uint8_t[]){0, 2, 1, 3, 4, 5}, (uint8_t[]){0, 0, 0, 0, 0, 0}, 6);
    example(3, (uint8_t[]){0, 2, 3, 4, 1}, (uint8_t[]){0, 0, 0, 1, 1}, 5);
    // Of no interest, until there is more of it than one ACK should tell of.
    example(0, (uint8_t[]){0, 2, 4, 6, 8, 3}, (uint8_t[]){0, 0, 0, 0, 0, 0}, 6);
    peer p;
    begin(&p);
    ask(&p, 0, 200, 80000, 0);
    unsigned n = 1;
    while (!ping_number(&p, p.pn + 1))
        n++;
    assert_int_equal(n, 17);
    peer_end(&p);
}

// The first of packets that are marked is told of at once, others are when it is time.
static void test_marks(void **state)
{
    (void)state;
    peer p;
    begin(&p);
    ask(&p, 0, 9, 80000, 3);
    static const bool marked[] = {false, true, true, true, false, true};
    static const bool answered[] = {false, true, false, false, false, true};
    for (size_t i = 0; i < sizeof marked; i++) {
        p.ecn = marked[i] ? 3 : 2;
        peer_forget(&p);
        peer_say1(&p, STOQ_FRAME_PING);
        peer_turn(&p);
        assert_int_equal(p.seen[STOQ_FRAME_ACK_ECN] > 0, answered[i]);
    }
    peer_end(&p);
}

static void refused(const char *hex, size_t len, uint64_t code)
{
    peer p;
    begin(&p);
    peer_say(&p, (const uint8_t *)hex, len);
    peer_pass(&p, 10000 * MS);
    assert_int_equal(p.closed, code != 0);
    if (code != 0)
        assert_int_equal(p.close_code, code);
    peer_end(&p);
}

static void test_refused(void **state)
{
    (void)state;
#define REFUSED(bytes, code) refused(bytes, sizeof bytes - 1, code)
    REFUSED("\x40\xaf\x00\x01\x43\xe8\x03", 0);                               // 1,000 us
    REFUSED("\x40\xaf\x00\x01\x43\xe7\x03", STOQ_PROTOCOL_VIOLATION);         // 999 us
    REFUSED("\x40\xaf\x00\x01\x00\x03", STOQ_PROTOCOL_VIOLATION);             // none
    REFUSED("\x40\xaf\x00\x01\x80\xf9\xff\xff\x03", 0);                       // 16,383,999 us
    REFUSED("\x40\xaf\x00\x01\x80\xfa\x00\x00\x03", STOQ_PROTOCOL_VIOLATION); // 2^14 ms
    REFUSED("\x40\xaf\x00\x01\x43\xe8", STOQ_FRAME_ENCODING_ERROR);           // ends too early
    REFUSED("\x40\xaf", STOQ_FRAME_ENCODING_ERROR);                           // the same
    REFUSED("\x80\x00\x00\xaf\x00\x01\x43\xe8\x03", STOQ_PROTOCOL_VIOLATION); // a long type
    REFUSED("\x40\xaf\x00\x01\x43\xe8\x03\x40\xaf\x00\x01\x00\x03", STOQ_PROTOCOL_VIOLATION); // old
#undef REFUSED
}

// ---- what the connection asks -------------------------------------------------------------------

typedef struct sender {
    peer p;
    stoq_stream *s;
} sender;

static void sender_begin(sender *x, bool offered)
{
    peer *p = &x->p;
    begin(p);
    p->c->theirs.has_min_ack_delay = offered;
    uint8_t mem[32], *q = stoq_frame_write1(mem, STOQ_FRAME_MAX_DATA, 1u << 30);
    peer_say(p, mem, (size_t)(q - mem));
    assert_int_equal(stoq_stream_open(p->c, true, &x->s), HM_OK);
    q = stoq_frame_write2(mem, STOQ_FRAME_MAX_STREAM_DATA, stoq_stream_id(x->s), 1u << 30);
    peer_say(p, mem, (size_t)(q - mem));
}

// Round trips of 100 ms in which all that came is acknowledged, with data for a window each, or for
// one packet.
static void rounds(sender *x, unsigned count, bool much)
{
    static const uint8_t data[1u << 20];
    peer *p = &x->p;
    for (unsigned i = 0; i < count; i++) {
        size_t took;
        assert_int_equal(
            stoq_stream_send(x->s, hm_bytes_of(data, much ? sizeof data : 100), false, &took),
            HM_OK);
        peer_pass(p, 100 * MS);
        peer_ack_all(p);
    }
}

static void test_asks(void **state)
{
    (void)state;
    sender x;
    sender_begin(&x, false);
    rounds(&x, 20, true);
    assert_true(x.p.c->cc.cwnd > 100 * x.p.c->mtu);
    assert_int_equal(x.p.seen[STOQ_FRAME_ACK_FREQUENCY], 0); // nobody offered it
    peer_end(&x.p);
    sender_begin(&x, true);
    rounds(&x, 1, true);
    assert_int_equal(x.p.seen[STOQ_FRAME_ACK_FREQUENCY], 0); // the window is small
    rounds(&x, 20, true);
    const stoq_frame *f = &x.p.last[STOQ_FRAME_ACK_FREQUENCY];
    assert_in_range(x.p.seen[STOQ_FRAME_ACK_FREQUENCY], 1, 12); // not with every change
    assert_in_range(f->offset, 4, 64);
    assert_true(f->offset * 16 * x.p.c->mtu <= x.p.c->cc.cwnd);
    assert_in_range(f->value, STOQ_MIN_ACK_DELAY_US, STOQ_MAX_ACK_DELAY_US);
    assert_int_equal(f->code, 3);
    assert_true(x.p.c->acks.asked_threshold > 1);
    // When little is under way, few packets are to wait.
    peer_forget(&x.p);
    rounds(&x, 1500, false);
    assert_int_equal(x.p.c->acks.asked_threshold, 1);
    assert_int_equal(f->offset, 1);
    peer_end(&x.p);
}

// What is lost goes again, as a newer one. And the end of what there is to send asks at once.
static void test_asks_again(void **state)
{
    (void)state;
    sender x;
    sender_begin(&x, true);
    peer *p = &x.p;
    while (p->seen[STOQ_FRAME_ACK_FREQUENCY] == 0)
        rounds(&x, 1, true);
    uint64_t seq = p->last[STOQ_FRAME_ACK_FREQUENCY].stream_id;
    assert_true(p->c->acks.asking);
    for (unsigned i = 0; i < 100 && p->last[STOQ_FRAME_ACK_FREQUENCY].stream_id == seq; i++)
        peer_pass(p, 100 * MS); // nothing is acknowledged, so probes say it again
    assert_true(p->last[STOQ_FRAME_ACK_FREQUENCY].stream_id > seq);
    peer_ack_all(p);
    rounds(&x, 60, true); // till all is sent
    assert_true(p->c->acks.asked_threshold > 1);
    while (!stoq_sendbuf_all_acked(&x.s->out)) {
        peer_pass(p, 100 * MS);
        peer_ack_all(p);
    }
    peer_forget(p);
    rounds(&x, 1, false);
    assert_true(p->seen[STOQ_FRAME_IMMEDIATE_ACK] > 0);
    peer_end(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threshold), cmocka_unit_test(test_delay),
        cmocka_unit_test(test_immediate), cmocka_unit_test(test_reordering),
        cmocka_unit_test(test_marks),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_asks),      cmocka_unit_test(test_asks_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
