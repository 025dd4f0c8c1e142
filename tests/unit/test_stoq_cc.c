// Congestion control against values worked out by hand from RFC 9438 (CUBIC), RFC 9406 (HyStart++),
// RFC 9002, RFC 9000 (ECN) and draft-ietf-ccwg-bbr.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq/cc.h"
#include "stoq/ecn.h"

#define MSS 1200u
#define MS UINT64_C(1000)
#define WINDOW 4096u // packets

// A path that delivers in order, with nothing but a round-trip time.
typedef struct path {
    stoq_cc c;
    cc_packet sent[WINDOW];
    uint64_t first, next; // of those under way
    uint64_t now;
} path;

static path p;

static void begin(stoq_congestion algorithm)
{
    p = (path){.now = 1000 * MS};
    stoq_cc_init(&p.c, algorithm, MSS, 1);
}

static void emit(unsigned packets)
{
    for (unsigned i = 0; i < packets; i++)
        stoq_cc_on_sent(&p.c, &p.sent[p.next++ % WINDOW], MSS, false, p.now);
}

static void fill(void)
{
    if (p.c.cwnd > p.c.in_flight)
        emit((unsigned)((p.c.cwnd - p.c.in_flight) / MSS));
    stoq_cc_sent_all(&p.c, true);
}

static void ack(unsigned packets, uint64_t rtt_us)
{
    stoq_cc_ack_begin(&p.c, p.now);
    for (unsigned i = 0; i < packets; i++)
        stoq_cc_on_acked(&p.c, &p.sent[p.first++ % WINDOW]);
    stoq_cc_ack_end(&p.c, rtt_us);
}

static void lose(unsigned packets)
{
    for (unsigned i = 0; i < packets; i++)
        stoq_cc_on_lost(&p.c, &p.sent[p.first++ % WINDOW], p.now);
}

// A round trip in which the whole window is sent and acknowledged, ACK by ACK of two packets.
static void round_trip(uint64_t rtt_us)
{
    fill();
    unsigned count = (unsigned)(p.next - p.first);
    p.now += rtt_us;
    for (unsigned i = 0; i < count; i += 2)
        ack(count - i < 2 ? 1 : 2, rtt_us);
}

static double segments(void)
{
    return (double)p.c.cwnd / MSS;
}

static void assert_near(double value, double wanted, double by)
{
    if (value < wanted - by || value > wanted + by)
        fail_msg("%f is not %f", value, wanted);
}

// A window of so many segments in congestion avoidance, nothing under way.
static void avoid(double window)
{
    begin(STOQ_CONGESTION_CUBIC);
    fill();
    p.now += 50 * MS;
    ack(10, 50 * MS);
    p.c.cwnd = (uint64_t)(window * MSS);
}

// ---- CUBIC --------------------------------------------------------------------------------------

static void test_slow_start(void **state)
{
    (void)state;
    begin(STOQ_CONGESTION_CUBIC);
    assert_int_equal(p.c.cwnd, 10 * MSS); // RFC 9002, section 7.2
    round_trip(50 * MS);
    assert_int_equal(p.c.cwnd, 20 * MSS);
    round_trip(50 * MS);
    assert_int_equal(p.c.cwnd, 40 * MSS);
    // Twice the window a round trip.
    assert_int_equal(p.c.pacing_bytes_s, 2 * 40 * MSS * 20);
    // A window that is not used does not grow.
    emit(4);
    stoq_cc_sent_all(&p.c, false);
    p.now += 50 * MS;
    ack(4, 50 * MS);
    assert_int_equal(p.c.cwnd, 40 * MSS);
    assert_int_equal(cc_initial_window(9000), 18000);
    assert_int_equal(cc_initial_window(1472), 14720);
}

// 100 segments lost to: 70 are left, W_max = 100, K = cbrt(100 * 0.3 / 0.4) = 4.217 s. After t
// seconds W_cubic(t) = 0.4 (t - K)^3 + 100.
static void test_cubic_function(void **state)
{
    (void)state;
    avoid(100);
    fill();
    lose(1);
    assert_near(segments(), 70, 0.01);
    assert_near(p.c.cubic.w_max, 100, 0.01);
    uint64_t window = p.c.cwnd;
    lose(3); // of the same round trip
    assert_int_equal(p.c.cwnd, window);
    p.now += 100 * MS;
    ack((unsigned)(p.next - p.first), 100 * MS); // sent before the loss
    assert_int_equal(p.c.cwnd, window);
    round_trip(100 * MS); // the epoch begins here, at 70 segments
    uint64_t start = p.c.cubic.epoch_us;
    assert_int_equal(start, p.now);
    assert_near(p.c.cubic.k, 4.2172, 0.001);
    while (p.now < start + 2000 * MS)
        round_trip(100 * MS);
    // Between W_cubic(2.0) = 95.64 and W_cubic(2.1) = 96.20.
    assert_near(segments(), 95.9, 0.4);
    while (p.now < start + 4200 * MS)
        round_trip(100 * MS);
    assert_near(segments(), 100, 0.1); // the plateau
    while (p.now < start + 6000 * MS)
        round_trip(100 * MS);
    // W_cubic is 102.3; Reno, by 0.529 a round trip up to 100 and by 1 from there on, at 103.3.
    assert_near(segments(), 103.3, 0.6);
    // Time in which the window is not used does not count (RFC 9438, section 5.8).
    double before = segments();
    p.now += 60000 * MS;
    for (int i = 0; i < 3; i++)
        round_trip(100 * MS);
    assert_near(segments(), before + 3, 0.2); // Reno's three
}

// An ACK that tells of a loss lets nothing grow, whatever it acknowledges besides (RFC 9002,
// section 7.3.2), in slow start neither; and the epoch begins with the first ACK after recovery.
static void test_no_growth_with_a_loss(void **state)
{
    (void)state;
    for (int slow_start = 0; slow_start < 2; slow_start++) {
        avoid(100);
        if (!slow_start)
            p.c.cubic.ssthresh = p.c.cwnd;
        fill();
        p.now += 100 * MS;
        stoq_cc_ack_begin(&p.c, p.now);
        for (int i = 0; i < 10; i++)
            stoq_cc_on_acked(&p.c, &p.sent[p.first++ % WINDOW]);
        lose(1);
        stoq_cc_ack_end(&p.c, 100 * MS);
        assert_int_equal(p.c.cwnd, 70 * MSS);
        assert_int_equal(p.c.cubic.epoch_us, 0);
        p.now += 50 * MS;
        ack(89, 100 * MS);
        assert_int_equal(p.c.cwnd, 70 * MSS);
        assert_int_equal(p.c.cubic.epoch_us, 0);
        round_trip(100 * MS);
        assert_int_equal(p.c.cubic.epoch_us, p.now);
        assert_near(p.c.cubic.k, 4.2172, 0.001);
    }
}

// A loss below the last W_max gives up some more (section 4.7): 0.85 * 70 = 59.5.
static void test_fast_convergence(void **state)
{
    (void)state;
    avoid(100);
    fill();
    lose(1);
    p.now += 100 * MS;
    ack((unsigned)(p.next - p.first), 100 * MS);
    fill();
    lose(1);
    assert_near(segments(), 49, 0.01);
    assert_near(p.c.cubic.w_max, 59.5, 0.01);
}

// Over a short round trip Reno's growth is the faster one (section 4.3): from 14 segments by
// 3 * 0.3 / 1.7 = 0.529 segments a round trip up to the 20 of before, by 1 from there on. After 50
// round trips of 10 ms: 20 + (50 - 6 / 0.529) = 58.7, where W_cubic is 17.
static void test_reno_friendly(void **state)
{
    (void)state;
    avoid(20);
    fill();
    lose(1);
    p.now += 10 * MS;
    ack((unsigned)(p.next - p.first), 10 * MS);
    for (int i = 0; i < 50; i++)
        round_trip(10 * MS);
    assert_near(segments(), 58.7, 1.5);
}

// Longer datagrams change no window in bytes, nor the function's way back to it.
static void test_other_mss(void **state)
{
    (void)state;
    avoid(100);
    fill();
    lose(1);
    p.now += 100 * MS;
    ack((unsigned)(p.next - p.first), 100 * MS);
    round_trip(100 * MS);
    double k = p.c.cubic.k;
    stoq_cc_set_mss(&p.c, 8 * MSS);
    assert_near((double)p.c.cwnd, 70 * MSS, MSS);
    assert_near(p.c.cubic.w_max, 12.5, 0.01);
    assert_near(p.c.cubic.k, k / 2, 0.001);
    stoq_cc_set_mss(&p.c, MSS);
    assert_near(p.c.cubic.k, k, 0.001);
    stoq_cc_set_mss(&p.c, 60 * MSS); // and two of them always fit
    assert_int_equal(p.c.cwnd, 120 * MSS);
}

static void test_persistent_congestion(void **state)
{
    (void)state;
    avoid(100);
    fill();
    lose(100);
    stoq_cc_on_persistent(&p.c, p.now);
    assert_int_equal(p.c.cwnd, 2 * MSS);
    p.now += 100 * MS;
    round_trip(100 * MS);
    assert_int_equal(p.c.cwnd, 4 * MSS); // slow start, up to the 70 that the loss left
    for (int i = 0; i < 5; i++)
        round_trip(100 * MS);
    assert_near(segments(), 70, 3);
}

static void test_spurious_recovery(void **state)
{
    (void)state;
    avoid(100);
    fill();
    lose(1);
    assert_near(segments(), 70, 0.01);
    stoq_cc_on_spurious(&p.c, p.now);
    assert_near(segments(), 100, 0.01);
    assert_true(p.c.cubic.ssthresh == CC_NEVER);
}

// Marks are answered like losses, once a round trip, and are never spurious.
static void test_marks(void **state)
{
    (void)state;
    avoid(100);
    fill();
    p.now += 50 * MS;
    for (int i = 0; i < 3; i++) {
        stoq_cc_ack_begin(&p.c, p.now);
        stoq_cc_on_acked(&p.c, &p.sent[p.first++ % WINDOW]);
        stoq_cc_on_ce(&p.c, 1);
        stoq_cc_ack_end(&p.c, 50 * MS);
        assert_near(segments(), 70.7, 0.8);
    }
    stoq_cc_on_spurious(&p.c, p.now);
    assert_true(segments() < 72);
}

static void mark_one(void)
{
    stoq_cc_ack_begin(&p.c, p.now);
    stoq_cc_on_acked(&p.c, &p.sent[p.first++ % WINDOW]);
    stoq_cc_on_ce(&p.c, 1);
    stoq_cc_ack_end(&p.c, 50 * MS);
}

// Of what was under way one packet seemed lost and another was marked, in either order. The packet
// comes after all: the mark remains, and is answered once.
static void test_marks_beside_spurious_losses(void **state)
{
    (void)state;
    for (int marked_first = 0; marked_first < 2; marked_first++) {
        avoid(100);
        fill();
        p.now += 50 * MS;
        if (marked_first)
            mark_one();
        lose(1);
        if (!marked_first)
            mark_one();
        assert_near(segments(), 70, 1);
        stoq_cc_on_spurious(&p.c, p.now);
        assert_near(segments(), 70, 1);
        mark_one();
        lose(1);
        assert_near(segments(), 70, 1);
    }
}

// ---- HyStart++ ----------------------------------------------------------------------------------

// Round trips of 50 ms, then one longer by `more`.
static void delayed_round(uint64_t more)
{
    begin(STOQ_CONGESTION_CUBIC);
    round_trip(50 * MS);
    round_trip(50 * MS);
    round_trip(50 * MS + more);
}

// The threshold is max(4, min(50 / 8, 16)) = 6.25 ms over the round before.
static void test_hystart(void **state)
{
    (void)state;
    delayed_round(6250 - 1);
    assert_false(p.c.cubic.css);
    assert_int_equal(p.c.cwnd, 80 * MSS);
    delayed_round(6250);
    assert_true(p.c.cubic.css);
    // Conservative slow start grows by a quarter; after five rounds of it slow start is over.
    uint64_t before = p.c.cwnd;
    round_trip(56250);
    assert_near((double)p.c.cwnd, (double)before * 1.25, 2 * MSS);
    for (int i = 0; i < 5; i++)
        round_trip(56250);
    assert_true(p.c.cubic.ssthresh < CC_NEVER);
    assert_true(p.c.cwnd >= p.c.cubic.ssthresh);
    // A shorter round trip shows that it was no queue.
    delayed_round(6250);
    round_trip(50 * MS);
    assert_false(p.c.cubic.css);
    round_trip(50 * MS);
    assert_true(p.c.cubic.ssthresh == CC_NEVER);
}

// ---- delivery rates -----------------------------------------------------------------------------

// A packet a millisecond and a round trip of 50 ms: 1,200,000 bytes a second.
static void test_rate_samples(void **state)
{
    (void)state;
    begin(STOQ_CONGESTION_BBR);
    for (int i = 0; i < 200; i++, p.now += MS) {
        emit(1);
        if (i < 50)
            continue;
        ack(1, 50 * MS);
        if (i < 110)
            continue;
        assert_int_equal(p.c.sample.rate_bytes_s, 1200000);
        assert_int_equal(p.c.sample.delivered, 51 * MSS); // in 51 ms
        assert_int_equal(p.c.sample.newest.tx_in_flight, 51 * MSS);
    }
    // Ten at once, nine of them early, are no faster path: the packets were sent in 51 ms.
    ack(10, 50 * MS);
    assert_int_equal(p.c.sample.rate_bytes_s, 1200000);
    // After a pause for want of data, samples say so until what was sent then is gone.
    stoq_cc_sent_all(&p.c, false);
    uint64_t left = p.next - p.first;
    emit(1);
    assert_true(p.sent[(p.next - 1) % WINDOW].app_limited);
    ack((unsigned)left, 60 * MS);
    emit(1);
    assert_true(p.sent[(p.next - 1) % WINDOW].app_limited);
    ack(1, 60 * MS);
    emit(1);
    assert_false(p.sent[(p.next - 1) % WINDOW].app_limited);
}

// ---- pacing -------------------------------------------------------------------------------------

// At a million bytes a second: bursts of two packets, 2.4 ms apart.
static void test_pacing(void **state)
{
    (void)state;
    bool paced;
    begin(STOQ_CONGESTION_CUBIC);
    p.c.cwnd = 1000 * MSS;
    p.c.pacing_bytes_s = 1000000;
    assert_int_equal(cc_send_quantum(&p.c), 2 * MSS);
    // The bucket is full: a burst, and a millisecond's worth.
    assert_int_equal(stoq_cc_allowance(&p.c, p.now, &paced), 3400);
    assert_false(paced);
    emit(2);
    assert_int_equal(stoq_cc_allowance(&p.c, p.now, &paced), 0);
    assert_true(paced);
    assert_int_equal(stoq_cc_next_us(&p.c, p.now), p.now + 1401);
    uint64_t sent = 0, end = p.now + 1000 * MS;
    while (p.now < end) {
        while (stoq_cc_allowance(&p.c, p.now, &paced) >= MSS) {
            emit(1);
            sent += MSS;
            ack(1, 50 * MS);
            p.c.cwnd = 1000 * MSS;
            p.c.pacing_bytes_s = 1000000;
        }
        assert_true(paced);
        p.now = stoq_cc_next_us(&p.c, p.now);
    }
    assert_near((double)sent, 1000000, 3000);
    // As fast as a segmentation offload needs it: 64 KiB at once.
    p.c.pacing_bytes_s = 3000000000;
    p.c.cwnd = 10000 * MSS;
    assert_int_equal(cc_send_quantum(&p.c), 65536);
    p.now += 1000;
    assert_true(stoq_cc_allowance(&p.c, p.now, &paced) >= 65536);
    // A full window is not a matter of time.
    p.c.cwnd = p.c.in_flight;
    assert_int_equal(stoq_cc_allowance(&p.c, p.now, &paced), 0);
    assert_false(paced);
}

// ---- paths --------------------------------------------------------------------------------------

// What was sent on another path changes the count of what is under way, and nothing else.
static void test_paths(void **state)
{
    (void)state;
    avoid(100);
    fill();
    stoq_cc before = p.c;
    stoq_cc_new_path(&p.c, MSS, p.now);
    assert_int_equal(p.c.cwnd, 10 * MSS);
    p.now += 50 * MS;
    lose(10);
    ack(10, 50 * MS);
    assert_int_equal(p.c.cwnd, 10 * MSS);
    assert_int_equal(p.c.in_flight, 80 * MSS);
    ack(80, 50 * MS);
    round_trip(20 * MS);
    assert_int_equal(p.c.cwnd, 20 * MSS);
    stoq_cc_restore(&p.c, &before, p.now);
    assert_int_equal(p.c.cwnd, 100 * MSS);
    assert_int_equal(p.c.in_flight, 0);
}

// ---- BBR ----------------------------------------------------------------------------------------

// ProbeBW_UP, with 100 packets under way, of which the last three are lost: 3 % is more than 2 %,
// and the threshold was passed with the one before last, at 98 packets and
// (0.02 * 98 * 1200 - 1200) / 0.98 bytes.
static void test_bbr_inflight_too_high(void **state)
{
    (void)state;
    begin(STOQ_CONGESTION_BBR);
    p.c.cwnd = 200 * MSS;
    emit(100);
    p.c.bbr.state = CC_BBR_UP;
    p.c.bbr.is_bw_probe_sample = true;
    p.c.bbr.bw = 1000000;
    p.c.bbr.min_rtt_us = 50 * MS;
    p.first = 98;
    lose(1); // 1200 of 99 packets
    assert_true(p.c.bbr.inflight_longterm == CC_NEVER);
    lose(1); // 2400 of 100 packets: not more than 2 %
    assert_int_equal(p.c.bbr.state, CC_BBR_UP);
    p.first = 97;
    lose(1); // 3600 of 98 packets, of which 2400 are too many
    assert_int_equal(p.c.bbr.state, CC_BBR_DOWN);
    assert_int_equal(p.c.bbr.inflight_longterm, 97 * MSS);
    assert_true(p.c.bbr.prev_probe_too_high);
    // Once a probe.
    p.first = 96;
    lose(1);
    assert_int_equal(p.c.bbr.inflight_longterm, 97 * MSS);
}

// ProbeBW_UP after one that lost too much, with a level of 100 packets from there, and so many
// under way.
static void probe_again(unsigned packets)
{
    begin(STOQ_CONGESTION_BBR);
    emit(1);
    p.now += 50 * MS;
    ack(1, 50 * MS);
    cc_bbr *b = &p.c.bbr;
    b->state = CC_BBR_UP;
    b->full_bw_reached = b->is_bw_probe_sample = b->prev_probe_too_high = true;
    b->ack_phase = CC_BBR_ACKS_FEEDBACK;
    b->max_bw = b->max_bw_filter[1] = b->bw = 2000000;
    b->inflight_longterm = 100 * MSS;
    p.c.cwnd = 100 * MSS;
    emit(packets);
    stoq_cc_sent_all(&p.c, true);
    p.now += 50 * MS;
}

// Precautionary probing: the probe after one that lost too much ends where that one's level is
// reached. The ACK that shows it makes room in the window, which is no larger than the level, so
// what counts is what was under way before it.
static void test_bbr_precaution(void **state)
{
    (void)state;
    probe_again(99);
    ack(2, 50 * MS);
    assert_int_equal(p.c.bbr.state, CC_BBR_UP);
    probe_again(100);
    ack(2, 50 * MS);
    assert_int_equal(p.c.bbr.state, CC_BBR_DOWN);
    assert_true(p.c.bbr.prev_probe_precautionary && !p.c.bbr.prev_probe_too_high);
    assert_int_equal(p.c.bbr.inflight_longterm, 100 * MSS);
    // A round trip later nothing is lost: the next probe is at once, and may stay at the level.
    emit(1);
    ack(98, 50 * MS);
    assert_true(p.c.bbr.state == CC_BBR_DOWN || p.c.bbr.state == CC_BBR_CRUISE);
    p.now += 50 * MS;
    ack(1, 50 * MS);
    assert_int_equal(p.c.bbr.state, CC_BBR_REFILL);
    assert_false(p.c.bbr.prev_probe_precautionary);
    // A level within a packet of what is under way is reached as well.
    probe_again(100);
    p.c.bbr.inflight_longterm += MSS / 2;
    ack(2, 50 * MS);
    assert_int_equal(p.c.bbr.state, CC_BBR_DOWN);
}

// Startup ends when three round trips bring no quarter more; what is too much is drained at half
// the rate.
static void test_bbr_startup(void **state)
{
    (void)state;
    begin(STOQ_CONGESTION_BBR);
    assert_int_equal(p.c.pacing_bytes_s, (uint64_t)(2.77 * 12000 * 1000));
    for (int i = 0; i < 3000 && p.c.bbr.state != CC_BBR_DRAIN; i++, p.now += MS) {
        if (i < 50) // then a packet a millisecond is all that there is
            emit(1);
        else
            ack(1, 50 * MS);
        if (i >= 50)
            fill();
        if (i == 50)
            assert_int_equal(p.c.pacing_bytes_s, (uint64_t)(2.77 * 12000 * 20));
    }
    assert_int_equal(p.c.bbr.state, CC_BBR_DRAIN);
    assert_true(p.c.bbr.full_bw_reached);
    assert_near((double)p.c.bbr.max_bw, 1200000, 60000);
    assert_near((double)p.c.pacing_bytes_s, 0.5 * 0.99 * (double)p.c.bbr.max_bw, 10);
}

// After an outage in which one packet a minute came through, the rate is still two packets a round
// trip: by the model alone the next packet would wait for more than a minute.
static void test_bbr_outage(void **state)
{
    (void)state;
    begin(STOQ_CONGESTION_BBR);
    emit(50);
    for (int i = 0; i < 3000 && !p.c.bbr.full_bw_reached; i++, p.now += MS) {
        ack(1, 50 * MS);
        fill();
    }
    assert_true(p.c.bbr.full_bw_reached);
    while (p.first < p.next)
        ack(1, 50 * MS);
    p.c.bbr.max_bw_filter[0] = p.c.bbr.max_bw_filter[1] = p.c.bbr.bw_shortterm = 100;
    emit(1);
    p.now += 60000 * MS;
    ack(1, 50 * MS);
    assert_true(p.c.bbr.bw < MSS);
    assert_true(p.c.pacing_bytes_s >= 2 * MSS * 20);
}

// ---- ECN ----------------------------------------------------------------------------------------

static void test_ecn(void **state)
{
    (void)state;
    const struct {
        uint64_t counts[3], newly;
        bool told, capable;
        uint64_t ce;
    } cases[] = {
        {{5, 0, 0}, 5, true, true, 0},   {{3, 0, 2}, 5, true, true, 2},
        {{0, 0, 5}, 5, true, true, 5},   {{0, 0, 0}, 5, false, false, 0}, // not told of
        {{4, 0, 0}, 5, true, false, 0},                                   // wiped out
        {{0, 5, 0}, 5, true, false, 0},  {{5, 1, 0}, 5, true, false, 0},  // changed
        {{11, 0, 0}, 5, true, false, 0},                                  // more than were sent
        {{5, 0, 11}, 5, true, false, 0}, {{7, 0, 0}, 5, true, true, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stoq_ecn e = {0};
        stoq_ecn_space s = {0};
        for (int k = 0; k < 10; k++) {
            assert_int_equal(stoq_ecn_mark(&e, true), 0); // never of a probe until it is known
            assert_int_equal(stoq_ecn_mark(&e, false), STOQ_ECN_ECT0);
            stoq_ecn_on_sent(&e, &s, STOQ_ECN_ECT0);
        }
        assert_int_equal(stoq_ecn_mark(&e, false), 0); // the answer is awaited
        stoq_ecn_on_sent(&e, &s, 0);
        assert_int_equal(s.marked, 10);
        uint64_t ce =
            stoq_ecn_on_ack(&e, &s, cases[i].told ? cases[i].counts : NULL, cases[i].newly);
        assert_int_equal(ce, cases[i].ce);
        assert_int_equal(stoq_ecn_mark(&e, true), cases[i].capable ? STOQ_ECN_ECT0 : 0);
        if (!cases[i].capable)
            continue;
        // Counts never fall.
        assert_int_equal(stoq_ecn_on_ack(&e, &s, (const uint64_t[]){0, 0, 0}, 0), 0);
        assert_int_equal(stoq_ecn_mark(&e, false), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_start),
        cmocka_unit_test(test_cubic_function),
        cmocka_unit_test(test_no_growth_with_a_loss),
        cmocka_unit_test(test_fast_convergence),
        cmocka_unit_test(test_reno_friendly),
        cmocka_unit_test(test_other_mss),
        cmocka_unit_test(test_persistent_congestion),
        cmocka_unit_test(test_spurious_recovery),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_marks_beside_spurious_losses),
        cmocka_unit_test(test_hystart),
        cmocka_unit_test(test_rate_samples),
        cmocka_unit_test(test_pacing),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_bbr_inflight_too_high),
        cmocka_unit_test(test_bbr_precaution),
        cmocka_unit_test(test_bbr_startup),
        cmocka_unit_test(test_bbr_outage),
        cmocka_unit_test(test_ecn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
