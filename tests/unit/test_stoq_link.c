// What congestion control does to a bottleneck: the whole transport, in simulated time, so that all
// of it depends on the seed alone. Rates are of stream bytes: of 1452 bytes of a datagram 1420 are,
// so a full link gives 0.978 of its rate.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "stoq_link.h"

#define MS UINT64_C(1000)
#define SECOND UINT64_C(1000000)
#define PAYLOAD 0.978
#define MBIT (UINT64_C(1000000) / 8) // bytes a second

static link_sim l;

static void begin(uint64_t mbit, uint64_t rtt_ms, double queue_bdp)
{
    link_config k = {.rate_bytes_s = mbit * MBIT, .rtt_us = rtt_ms * MS, .seed = 1};
    k.queue_bytes = (uint64_t)(queue_bdp * (double)(k.rate_bytes_s * rtt_ms / 1000));
    link_begin(&l, &k);
}

// Of the link's rate, as if stream bytes were all that it carries.
static double share(const link_flow *f)
{
    return (double)link_rate(&l, f) / ((double)l.config.rate_bytes_s * PAYLOAD);
}

static void assert_between(double value, double least, double most)
{
    if (!(value >= least && value <= most))
        fail_msg("%.4f is not between %.4f and %.4f", value, least, most);
}

static void measure(uint64_t after_us, uint64_t us)
{
    link_run(&l, after_us);
    link_measure(&l);
    link_run(&l, us);
}

static void test_full_link(void **state)
{
    (void)state;
    for (int bbr = 0; bbr < 2; bbr++) {
        begin(200, 50, 1);
        link_flow *f = link_add(&l, bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        measure(2 * SECOND, 12 * SECOND);
        assert_between(share(f), 0.95, 1.001);
        link_end(&l);
    }
}

// Two flows of a kind have half of the link each, within 10 %.
static void test_fair_shares(void **state)
{
    (void)state;
    for (int bbr = 0; bbr < 2; bbr++) {
        stoq_congestion congestion = bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC;
        begin(50, 20, 0.5);
        link_flow *a = link_add(&l, congestion);
        link_run(&l, 3 * SECOND); // alone first
        assert_true(link_rate(&l, a) > 20 * MBIT);
        link_flow *b = link_add(&l, congestion);
        measure(20 * SECOND, 60 * SECOND);
        assert_between(share(a), 0.45, 0.55);
        assert_between(share(b), 0.45, 0.55);
        assert_between(share(a) + share(b), 0.95, 1.001);
        link_end(&l);
    }
}

// Beside each other neither starves.
static void test_coexistence(void **state)
{
    (void)state;
    begin(50, 20, 1);
    link_flow *a = link_add(&l, STOQ_CONGESTION_CUBIC), *b = link_add(&l, STOQ_CONGESTION_BBR);
    measure(10 * SECOND, 60 * SECOND);
    assert_between(share(a), 0.25, 0.75);
    assert_between(share(b), 0.25, 0.75);
    link_end(&l);
}

// A gigabit over 50 ms of which 1 % of the packets get lost: BBR fills it. So many simulated
// packets take their time, so it is three seconds of it.
static void test_random_loss_bbr(void **state)
{
    (void)state;
    begin(1000, 50, 1);
    l.config.loss_ppm = 10000;
    link_flow *f = link_add(&l, STOQ_CONGESTION_BBR);
    measure(SECOND, 3 * SECOND);
    assert_between(share(f), 0.9, 1);
    link_end(&l);
}

// CUBIC has what its response functions say, which at this round trip is Reno's (RFC 9438,
// section 5.1): sqrt(1.5 / p) segments in the mean. They take one loss after every 1/p packets,
// where these come at random, and more of them than one in a round trip count once.
static void test_random_loss_cubic(void **state)
{
    (void)state;
    static const uint32_t ppm[] = {10000, 2500};
    for (int i = 0; i < 2; i++) {
        begin(1000, 50, 1);
        l.config.loss_ppm = ppm[i];
        link_flow *f = link_add(&l, STOQ_CONGESTION_CUBIC);
        measure(20 * SECOND, 200 * SECOND);
        double window = sqrt(1.5 / (ppm[i] / 1e6)) * LINK_PACKET * PAYLOAD;
        assert_between((double)link_rate(&l, f) / (window * 20), 0.8, 1.2);
        link_end(&l);
    }
}

// Over a deep queue slow start ends because delay grows, not because the queue overflows.
static void test_hystart(void **state)
{
    (void)state;
    begin(100, 50, 10);
    link_flow *f = link_add(&l, STOQ_CONGESTION_CUBIC);
    do
        link_run(&l, 10 * MS);
    while (f->conn->cc.cubic.ssthresh == CC_NEVER && l.now_us < 10 * SECOND);
    assert_true(f->conn->cc.cubic.ssthresh < CC_NEVER);
    assert_int_equal(f->lost, 0);
    assert_int_equal(f->conn->stats.packets_lost, 0);
    assert_true(f->conn->cc.cwnd > l.config.rate_bytes_s / 20); // and the link is full
    link_end(&l);
}

// The same deep queue, for ever: BBR leaves it all but empty.
static void test_bufferbloat(void **state)
{
    (void)state;
    double queue_us[2];
    for (int bbr = 0; bbr < 2; bbr++) {
        begin(50, 50, 10);
        link_flow *f = link_add(&l, bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        measure(2 * SECOND, 30 * SECOND);
        assert_between(share(f), 0.95, 1.001);
        queue_us[bbr] = link_mean_queue_us(&l);
        link_end(&l);
    }
    assert_between(queue_us[1], 0, 5000); // a tenth of the round trip
    assert_true(queue_us[0] > 100000);
}

// A queue that marks keeps short of overflowing: nothing is lost, and the link is used.
static void test_marking_queue(void **state)
{
    (void)state;
    for (int bbr = 0; bbr < 2; bbr++) {
        begin(50, 20, 2);
        l.config.mark_bytes = l.config.queue_bytes / 6;
        link_flow *f = link_add(&l, bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        measure(5 * SECOND, 20 * SECOND);
        assert_true(f->conn->ecn.state == STOQ_ECN_CAPABLE && f->marked > 0);
        assert_int_equal(f->lost, 0);
        assert_between(share(f), 0.93, 1.001);
        assert_true(link_mean_queue_us(&l) < 8000);
        stoq_conn_stats st;
        stoq_conn_get_stats(f->conn, &st);
        assert_true(st.ecn && st.ce_marked > 0);
        link_end(&l);
    }
}

// Where marks are wiped out they are given up, and all goes on.
static void test_bleached_marks(void **state)
{
    (void)state;
    begin(50, 20, 1);
    l.config.bleached = true;
    link_flow *f = link_add(&l, STOQ_CONGESTION_CUBIC);
    measure(SECOND, 3 * SECOND);
    assert_int_equal(f->conn->ecn.state, STOQ_ECN_FAILED);
    assert_between(share(f), 0.9, 1.001);
    link_end(&l);
}

// A shallow queue, a twentieth of what the path holds.
static void test_shallow_queue(void **state)
{
    (void)state;
    for (int bbr = 0; bbr < 2; bbr++) {
        begin(100, 30, 0.05);
        link_flow *f = link_add(&l, bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        measure(5 * SECOND, 20 * SECOND);
        assert_between(share(f), 0.75, 1.001);
        link_end(&l);
    }
}

// Packets that pass each other are taken for lost, and the window is as it was once they are there.
static void test_reordering(void **state)
{
    (void)state;
    begin(100, 40, 2);
    link_flow *f = link_add(&l, STOQ_CONGESTION_CUBIC);
    link_run(&l, 8 * SECOND);
    link_measure(&l);
    uint64_t window = f->conn->cc.cwnd;
    l.config.jitter_us = 1000;
    link_run(&l, 3 * MS); // some packets
    l.config.jitter_us = 0;
    uint64_t least = window;
    for (int i = 0; i < 200; i++) {
        link_run(&l, MS);
        least = cc_min(least, f->conn->cc.cwnd);
    }
    assert_true(least <= window * 7 / 10 + LINK_PACKET);
    assert_true(f->conn->cc.cwnd >= window);
    assert_int_equal(f->lost, 0);
    link_end(&l);
}

// The link becomes ten times as fast, and as slow again.
static void test_changing_link(void **state)
{
    (void)state;
    for (int bbr = 0; bbr < 2; bbr++) {
        begin(10, 40, 20);
        link_flow *f = link_add(&l, bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        link_run(&l, 5 * SECOND);
        l.config.rate_bytes_s *= 10;
        measure(15 * SECOND, 5 * SECOND);
        assert_between(share(f), 0.9, 1.001);
        l.config.rate_bytes_s /= 10;
        measure(15 * SECOND, 10 * SECOND);
        assert_between(share(f), 0.9, 1.001);
        link_end(&l);
    }
}

// BBR looks for the round trip every five seconds by itself, for a fifth of one.
static void test_probe_rtt(void **state)
{
    (void)state;
    begin(20, 40, 2);
    link_flow *f = link_add(&l, STOQ_CONGESTION_BBR);
    unsigned probes = 0, time_ms = 0;
    bool in = false;
    for (int i = 0; i < 3000; i++) {
        link_run(&l, 10 * MS);
        bool now = f->conn->cc.bbr.state == CC_BBR_PROBE_RTT;
        probes += now && !in;
        time_ms += now ? 10 : 0;
        in = now;
    }
    assert_between(probes, 4, 6);
    assert_between(time_ms / probes, 200, 330);
    assert_true(f->conn->cc.bbr.min_rtt_us < 42 * MS);
    link_end(&l);
}

// An application that pauses when it would be time has done it already; and goes on at the rate
// that it had.
static void test_pause(void **state)
{
    (void)state;
    begin(20, 40, 2);
    l.config.lent_bytes = 262144;
    link_flow *f = link_add(&l, STOQ_CONGESTION_BBR);
    link_run(&l, 4 * SECOND);
    link_pause(f);
    link_run(&l, 3 * SECOND);
    assert_int_equal(f->conn->cc.in_flight, 0);
    link_resume(f);
    link_measure(&l);
    for (int i = 0; i < 400; i++) {
        link_run(&l, 10 * MS);
        assert_true(f->conn->cc.bbr.state != CC_BBR_PROBE_RTT);
    }
    assert_between(share(f), 0.9, 1.001);
    link_end(&l);
}

// ---- acknowledgements ---------------------------------------------------------------------------

// A sender that fills a window asks for few acknowledgements, and sends as well with them. Without
// the offer of its peer there is one for every other packet.
static void test_few_acknowledgements(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool offered = i & 1;
        begin(100, 40, 1);
        link_flow *f = link_add(&l, i & 2 ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        f->conn->theirs.has_min_ack_delay = offered;
        link_run(&l, 3 * SECOND);
        uint64_t acks = f->at_server->stats.packets_sent, packets = f->conn->stats.packets_sent;
        link_measure(&l);
        link_run(&l, 5 * SECOND);
        acks = f->at_server->stats.packets_sent - acks;
        packets = f->conn->stats.packets_sent - packets;
        assert_between((double)packets / (double)acks, offered ? 3.9 : 1.9, offered ? 65 : 2.1);
        assert_between(share(f), 0.94, 1.001);
        link_end(&l);
    }
}

// ---- windows of the receiver --------------------------------------------------------------------

// By default, one stream fills a path that holds more than a window begins with: its own 2.5 MB,
// and that of a short one.
static void test_windows_grow(void **state)
{
    (void)state;
    static const unsigned rtt_ms[] = {100, 2};
    for (int i = 0; i < 2; i++) {
        link_config k = {.rate_bytes_s = 200 * MBIT,
                         .rtt_us = rtt_ms[i] * MS,
                         .queue_bytes = 25000 * rtt_ms[i],
                         .default_limits = true,
                         .seed = 1};
        link_begin(&l, &k);
        link_flow *f = link_add(&l, STOQ_CONGESTION_DEFAULT);
        measure(3 * SECOND, 5 * SECOND);
        assert_between(share(f), 0.93, 1.001);
        const stoq_stream *s = stream_find(f->at_server, stoq_stream_id(f->stream));
        assert_true(s->rx.size <= s->rx.limit && f->at_server->rx.size <= f->at_server->rx.limit);
        link_end(&l);
    }
}

// While the sender doubles its window every round trip, those of the receiver are ahead of it.
static void test_windows_lead_slow_start(void **state)
{
    (void)state;
    for (int bbr = 0; bbr < 2; bbr++) {
        link_config k = {.rate_bytes_s = 1000 * MBIT,
                         .rtt_us = 50 * MS,
                         .queue_bytes = 6250000,
                         .default_limits = true,
                         .seed = 1};
        link_begin(&l, &k);
        link_flow *f = link_add(&l, bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        for (int i = 0; i < 120 && f->conn->cc.cwnd < 6250000; i++) {
            link_run(&l, 5 * MS);
            assert_true(f->stream->out.next < f->stream->tx_max);
            assert_true(f->conn->tx_used < f->conn->tx_max);
        }
        assert_true(f->conn->cc.cwnd > 4000000);
        link_end(&l);
    }
}

// What is kept for a reader that is slow, or stops: the window that it had use for, never more than
// the limit.
static void test_windows_of_a_slow_reader(void **state)
{
    (void)state;
    link_config k = {.rate_bytes_s = 200 * MBIT,
                     .rtt_us = 100 * MS,
                     .queue_bytes = 2500000,
                     .default_limits = true,
                     .seed = 1};
    link_begin(&l, &k);
    link_flow *f = link_add(&l, STOQ_CONGESTION_DEFAULT);
    f->holds = true;
    const stoq_conn *c = f->at_server;
    for (int i = 0; i < 400; i++) { // a quarter of the first window takes one round trip and a half
        link_read(f, 4000);
        link_run(&l, 10 * MS);
        assert_true(c->rx_seen - c->rx_taken <= STOQ_STREAM_WINDOW);
    }
    const stoq_stream *s = stream_find(f->at_server, stoq_stream_id(f->stream));
    assert_int_equal(s->rx.size, STOQ_STREAM_WINDOW);
    assert_true(s->in.cap <= STOQ_STREAM_WINDOW);
    f->holds = false; // now it reads all, and the windows grow
    link_read(f, UINT64_MAX);
    link_run(&l, 5 * SECOND);
    assert_true(s->rx.size > 2500000 && c->rx.size > 2500000);
    f->holds = true;
    for (int i = 0; i < 200; i++) {
        link_run(&l, 10 * MS);
        assert_true(c->rx_seen - c->rx_taken <= s->rx.limit);
        assert_true(s->in.cap <= s->rx.limit);
    }
    assert_true(c->rx_seen - c->rx_taken > 2500000); // it did not stop before the window ended
    assert_int_equal(s->rx_highest, s->rx.max);
    link_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_link),
        cmocka_unit_test(test_fair_shares),
        cmocka_unit_test(test_coexistence),
        cmocka_unit_test(test_random_loss_bbr),
        cmocka_unit_test(test_random_loss_cubic),
        cmocka_unit_test(test_hystart),
        cmocka_unit_test(test_bufferbloat),
        cmocka_unit_test(test_marking_queue),
        cmocka_unit_test(test_bleached_marks),
        cmocka_unit_test(test_shallow_queue),
        cmocka_unit_test(test_reordering),
        cmocka_unit_test(test_changing_link),
        cmocka_unit_test(test_probe_rtt),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_few_acknowledgements),
        cmocka_unit_test(test_windows_grow),
        cmocka_unit_test(test_windows_lead_slow_start),
        cmocka_unit_test(test_windows_of_a_slow_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
