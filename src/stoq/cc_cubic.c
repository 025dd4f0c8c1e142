// CUBIC (RFC 9438) with HyStart++ (RFC 9406) for the first slow start. Constants and names are
// theirs. Losses and marks are answered alike (RFC 9002, section 7.3.1).
#include <math.h>

#include "stoq/cc.h"

#define C 0.4
#define BETA 0.7
#define ALPHA (3.0 * (1.0 - BETA) / (1.0 + BETA))
#define MIN_WINDOW 2 // segments
#define SLOW_START_GAIN 2.0
#define GAIN 1.25 // RFC 9002, section 7.7
#define MIN_RTT_THRESH_US 4000u
#define MAX_RTT_THRESH_US 16000u
#define MIN_RTT_DIVISOR 8
#define N_RTT_SAMPLE 8
#define CSS_GROWTH_DIVISOR 4
#define CSS_ROUNDS 5

static void start(stoq_cc *c, uint64_t now_us)
{
    (void)now_us;
    c->cubic = (cc_cubic){.ssthresh = CC_NEVER,
                          .round_end = c->delivered,
                          .round_min_us = CC_NEVER,
                          .last_round_min_us = CC_NEVER};
}

static void set_pacing(stoq_cc *c)
{
    if (c->srtt_us == 0)
        return;
    double gain = c->cwnd < c->cubic.ssthresh ? SLOW_START_GAIN : GAIN;
    c->pacing_bytes_s = (uint64_t)(gain * (double)c->cwnd * 1e6 / (double)c->srtt_us);
}

// ---- slow start ---------------------------------------------------------------------------------

static void new_round(stoq_cc *c)
{
    cc_cubic *q = &c->cubic;
    q->round_end = c->delivered;
    q->last_round_min_us = q->round_min_us;
    q->round_min_us = CC_NEVER;
    q->rtt_samples = 0;
    if (q->css && ++q->css_rounds == CSS_ROUNDS)
        q->ssthresh = c->cwnd; // congestion avoidance begins
}

// Delay that grows from round to round shows a queue (RFC 9406, section 4.2).
static void hystart(stoq_cc *c, const cc_sample *s)
{
    cc_cubic *q = &c->cubic;
    if (s->newest.delivered >= q->round_end)
        new_round(c);
    q->round_min_us = cc_min(q->round_min_us, s->rtt_us);
    if (q->rtt_samples < N_RTT_SAMPLE)
        q->rtt_samples++;
    if (q->rtt_samples < N_RTT_SAMPLE)
        return;
    if (q->css) {
        if (q->round_min_us < q->css_baseline_us)
            q->css = false; // it was no queue
        return;
    }
    if (q->last_round_min_us == CC_NEVER)
        return;
    uint64_t threshold = cc_max(MIN_RTT_THRESH_US,
                                cc_min(q->last_round_min_us / MIN_RTT_DIVISOR, MAX_RTT_THRESH_US));
    if (q->round_min_us >= q->last_round_min_us + threshold) {
        q->css = true;
        q->css_rounds = 0;
        q->css_baseline_us = q->round_min_us;
    }
}

static void slow_start(stoq_cc *c, const cc_sample *s)
{
    cc_cubic *q = &c->cubic;
    if (q->ssthresh == CC_NEVER)
        hystart(c, s);
    else
        q->css = false;
    c->cwnd += q->css ? s->grown / CSS_GROWTH_DIVISOR : s->grown;
}

// ---- congestion avoidance -----------------------------------------------------------------------

static double w_cubic(const cc_cubic *q, double seconds)
{
    double t = seconds - q->k;
    return C * t * t * t + q->w_max;
}

static void begin_epoch(stoq_cc *c, double w, uint64_t now_us)
{
    cc_cubic *q = &c->cubic;
    q->epoch_us = now_us;
    q->w_est = w;
    q->k = 0;
    if (w < q->w_max)
        q->k = cbrt((q->w_max - w) / C);
    else
        q->w_max = w;
}

static void avoid_congestion(stoq_cc *c, const cc_sample *s)
{
    cc_cubic *q = &c->cubic;
    double mss = (double)c->mss, w = (double)c->cwnd / mss, acked = (double)s->grown / mss;
    uint64_t gap = s->now_us - q->last_ack_us;
    // Time in which the window was not used does not count (RFC 9438, section 5.8).
    if (q->epoch_us != 0 && s->grown == 0)
        q->epoch_us += gap;
    else if (q->epoch_us != 0 && gap > c->srtt_us)
        q->epoch_us += gap - c->srtt_us;
    if (s->grown == 0)
        return;
    if (q->epoch_us == 0)
        begin_epoch(c, w, s->now_us);
    double t = (double)(s->now_us - q->epoch_us) / 1e6;
    q->w_est += (q->w_est < q->cwnd_prior ? ALPHA : 1.0) * acked / w;
    if (w_cubic(q, t) < q->w_est) { // the Reno-friendly region (section 4.3)
        w = w > q->w_est ? w : q->w_est;
    } else {
        double target = w_cubic(q, t + (double)c->srtt_us / 1e6);
        target = target < w ? w : target > 1.5 * w ? 1.5 * w : target;
        w += (target - w) / w * acked;
    }
    c->cwnd = (uint64_t)(w * mss);
}

// What was sent before a loss lets nothing grow (RFC 9002, section 7.3.2), not even what the ACK
// that told of the loss acknowledges: the epoch begins when recovery has ended.
static void on_ack(stoq_cc *c, const cc_sample *s)
{
    if (!c->in_recovery && c->cwnd < c->cubic.ssthresh)
        slow_start(c, s);
    else if (!c->in_recovery)
        avoid_congestion(c, s);
    c->cubic.last_ack_us = s->now_us;
    set_pacing(c);
}

// ---- congestion ---------------------------------------------------------------------------------

// Once a round trip. The window, not what is in flight, is reduced: it only grows when it is used,
// so the two differ little (section 4.6).
static void reduce(stoq_cc *c)
{
    cc_cubic *q = &c->cubic;
    double w = (double)c->cwnd / (double)c->mss;
    q->undo.cwnd = c->cwnd;
    q->undo.ssthresh = q->ssthresh;
    q->undo.epoch_us = q->epoch_us;
    q->undo.w_max = q->w_max;
    q->undo.k = q->k;
    q->undo.w_est = q->w_est;
    q->undo.cwnd_prior = q->cwnd_prior;
    q->undo.valid = true;
    q->cwnd_prior = w;
    q->w_max = w < q->w_max ? w * (1.0 + BETA) / 2.0 : w; // fast convergence (section 4.7)
    c->cwnd = q->ssthresh = cc_max((uint64_t)((double)c->cwnd * BETA), MIN_WINDOW * c->mss);
    q->epoch_us = 0;
    set_pacing(c);
}

static void on_lost(stoq_cc *c, const cc_packet *p, bool first, bool apart, uint64_t now_us)
{
    (void)p, (void)apart, (void)now_us;
    if (first)
        reduce(c);
}

static void on_ce(stoq_cc *c, const cc_sample *s, bool first)
{
    (void)s;
    if (first)
        reduce(c);
    c->cubic.undo.valid = false; // a mark is never spurious, whatever the losses beside it were
}

// Section 4.8: the cubic begins anew where slow start ends.
static void on_persistent(stoq_cc *c, uint64_t now_us)
{
    (void)now_us;
    c->cwnd = MIN_WINDOW * c->mss;
    c->cubic.w_max = 0;
    c->cubic.epoch_us = 0;
    c->cubic.undo.valid = false;
    set_pacing(c);
}

static bool on_spurious(stoq_cc *c, uint64_t now_us)
{
    (void)now_us;
    cc_cubic *q = &c->cubic;
    if (!q->undo.valid || c->cwnd >= q->undo.cwnd)
        return false;
    c->cwnd = q->undo.cwnd;
    q->ssthresh = q->undo.ssthresh;
    q->epoch_us = q->undo.epoch_us;
    q->w_max = q->undo.w_max;
    q->k = q->undo.k;
    q->w_est = q->undo.w_est;
    q->cwnd_prior = q->undo.cwnd_prior;
    q->undo.valid = false;
    set_pacing(c);
    return true;
}

// What is in segments stays the same in bytes.
static void on_mss(stoq_cc *c, double ratio)
{
    cc_cubic *q = &c->cubic;
    q->w_max *= ratio;
    q->w_est *= ratio;
    q->cwnd_prior *= ratio;
    q->k *= cbrt(ratio);
    q->undo.valid = false;
}

static void on_restart(stoq_cc *c, uint64_t now_us)
{
    (void)c, (void)now_us;
}

static const char *state(const stoq_cc *c)
{
    return c->in_recovery                 ? "recovery"
           : c->cwnd >= c->cubic.ssthresh ? "congestion_avoidance"
           : c->cubic.css                 ? "conservative_slow_start"
                                          : "slow_start";
}

const cc_algorithm cc_algorithm_cubic = {"cubic", start,  on_restart,    on_lost,     on_ce,
                                         on_ack,  on_mss, on_persistent, on_spurious, state};
