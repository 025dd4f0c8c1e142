// BBRv3: draft-ietf-ccwg-bbr, whose names and order of steps these are. Two things are not of the
// draft: a packet marked CE counts as one lost, and the short-term model answers losses only of
// rounds that lose more than LossThresh. As the draft has it, 1 % of loss at random takes a rate
// down by 1 % a round trip until the next probe (docs/decisions/0005-congestion-control.md).
#include "stoq/cc.h"

#define STARTUP_PACING_GAIN 2.77
#define DRAIN_PACING_GAIN 0.5
#define DOWN_PACING_GAIN 0.9
#define UP_PACING_GAIN 1.25
#define DEFAULT_CWND_GAIN 2.0
#define UP_CWND_GAIN 2.25
#define PROBE_RTT_CWND_GAIN 0.5
#define PACING_MARGIN 0.99
#define LOSS_THRESH 0.02
#define BETA 0.7
#define HEADROOM 0.15
#define MIN_PIPE_CWND 4 // packets
#define STARTUP_FULL_LOSS_COUNT 6
#define EXTRA_ACKED_ROUNDS 5 // of each of two windows
#define RENO_ROUNDS 63
#define MIN_RTT_FILTER_US 10000000u
#define PROBE_RTT_INTERVAL_US 5000000u
#define PROBE_RTT_US 200000u

static uint64_t random_below(stoq_cc *c, uint64_t n) // SplitMix64
{
    uint64_t z = c->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % n;
}

static bool in_probe_bw(const cc_bbr *b)
{
    return b->state >= CC_BBR_DOWN && b->state <= CC_BBR_UP;
}

static bool is_probing_bw(const cc_bbr *b)
{
    return b->state == CC_BBR_STARTUP || b->state == CC_BBR_REFILL || b->state == CC_BBR_UP;
}

// ---- volumes ------------------------------------------------------------------------------------

static uint64_t bdp_of(const stoq_cc *c, uint64_t bw, double gain)
{
    const cc_bbr *b = &c->bbr;
    if (b->min_rtt_us == CC_NEVER)
        return cc_initial_window(c->mss);
    return (uint64_t)(gain * (double)bw * (double)b->min_rtt_us / 1e6);
}

static uint64_t min_pipe(const stoq_cc *c)
{
    return MIN_PIPE_CWND * c->mss;
}

static uint64_t quantized(const stoq_cc *c, uint64_t inflight_cap)
{
    inflight_cap = cc_max(cc_max(inflight_cap, cc_send_quantum(c)), min_pipe(c));
    return c->bbr.state == CC_BBR_UP ? inflight_cap + 2 * c->mss : inflight_cap;
}

static uint64_t inflight_with_headroom(const stoq_cc *c)
{
    const cc_bbr *b = &c->bbr;
    if (b->inflight_longterm == CC_NEVER)
        return CC_NEVER;
    uint64_t headroom = cc_max(c->mss, (uint64_t)(HEADROOM * (double)b->inflight_longterm));
    return cc_max(b->inflight_longterm > headroom ? b->inflight_longterm - headroom : 0,
                  min_pipe(c));
}

static uint64_t target_inflight(const stoq_cc *c)
{
    return cc_min(bdp_of(c, c->bbr.bw, 1), c->cwnd);
}

static uint64_t probe_rtt_cwnd(const stoq_cc *c)
{
    return cc_max(bdp_of(c, c->bbr.bw, PROBE_RTT_CWND_GAIN), min_pipe(c));
}

static void save_cwnd(stoq_cc *c)
{
    cc_bbr *b = &c->bbr;
    if (!c->in_recovery && b->state != CC_BBR_PROBE_RTT)
        b->prior_cwnd = c->cwnd;
    else
        b->prior_cwnd = cc_max(b->prior_cwnd, c->cwnd);
}

static void restore_cwnd(stoq_cc *c)
{
    c->cwnd = cc_max(c->cwnd, c->bbr.prior_cwnd);
}

// A model made of one packet a minute, after an outage with the backoff of probes, would need ages
// to see that the path is good again. Two packets a round trip are what is fair after any timeout
// (RFC 9002, section 7.2), so no rate is less.
static void set_pacing_with_gain(stoq_cc *c, double gain)
{
    uint64_t rate = (uint64_t)(gain * (double)c->bbr.bw * PACING_MARGIN);
    if (c->srtt_us > 0)
        rate = cc_max(rate, 2 * c->mss * UINT64_C(1000000) / c->srtt_us);
    if (rate > 0 && (c->bbr.full_bw_reached || rate > c->pacing_bytes_s))
        c->pacing_bytes_s = rate;
}

// ---- states -------------------------------------------------------------------------------------

static void start_round(stoq_cc *c)
{
    c->bbr.next_round_delivered = c->delivered;
}

static void reset_full_bw(cc_bbr *b)
{
    b->full_bw = 0;
    b->full_bw_count = 0;
    b->full_bw_now = false;
}

static void reset_congestion_signals(cc_bbr *b)
{
    b->is_loss_in_round = b->is_ce_in_round = false;
    b->bw_latest = b->inflight_latest = 0;
}

static void reset_short_term_model(cc_bbr *b)
{
    b->bw_shortterm = b->inflight_shortterm = CC_NEVER;
}

static void enter(cc_bbr *b, cc_bbr_state state, double pacing_gain, double cwnd_gain)
{
    b->state = state;
    b->pacing_gain = pacing_gain;
    b->cwnd_gain = cwnd_gain;
}

static void enter_startup(cc_bbr *b)
{
    enter(b, CC_BBR_STARTUP, STARTUP_PACING_GAIN, DEFAULT_CWND_GAIN);
}

static void start_down(stoq_cc *c, uint64_t now_us)
{
    cc_bbr *b = &c->bbr;
    reset_congestion_signals(b);
    b->probe_up_acked_per_inc = CC_NEVER;
    b->rounds_since_probe_up = (uint32_t)random_below(c, 2);
    b->bw_probe_wait_us = 2000000 + random_below(c, 1000000);
    b->cycle_stamp_us = now_us;
    b->ack_phase = CC_BBR_ACKS_STOPPING;
    start_round(c);
    enter(b, CC_BBR_DOWN, DOWN_PACING_GAIN, DEFAULT_CWND_GAIN);
}

static void start_cruise(cc_bbr *b)
{
    enter(b, CC_BBR_CRUISE, 1, DEFAULT_CWND_GAIN);
}

static void start_refill(stoq_cc *c)
{
    cc_bbr *b = &c->bbr;
    reset_short_term_model(b);
    b->bw_probe_up_rounds = 0;
    b->bw_probe_up_acked = 0;
    b->prev_probe_precautionary = false;
    b->ack_phase = CC_BBR_ACKS_REFILLING;
    start_round(c);
    enter(b, CC_BBR_REFILL, 1, DEFAULT_CWND_GAIN);
}

static void raise_inflight_longterm_slope(stoq_cc *c)
{
    cc_bbr *b = &c->bbr;
    uint64_t growth_this_round = UINT64_C(1) << b->bw_probe_up_rounds;
    if (b->bw_probe_up_rounds < 30)
        b->bw_probe_up_rounds++;
    b->probe_up_acked_per_inc = cc_max(c->cwnd / growth_this_round, c->mss);
}

static void start_up(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    b->ack_phase = CC_BBR_ACKS_STARTING;
    start_round(c);
    reset_full_bw(b);
    b->full_bw = s->rate_bytes_s;
    enter(b, CC_BBR_UP, UP_PACING_GAIN, UP_CWND_GAIN);
    raise_inflight_longterm_slope(c);
}

// ---- congestion ---------------------------------------------------------------------------------

static bool is_inflight_too_high(uint64_t lost, uint64_t tx_in_flight)
{
    return (double)lost > (double)tx_in_flight * LOSS_THRESH;
}

static void handle_inflight_too_high(stoq_cc *c, uint64_t tx_in_flight, bool app_limited,
                                     uint64_t now_us)
{
    cc_bbr *b = &c->bbr;
    b->prev_probe_too_high = true;
    b->is_bw_probe_sample = false;
    if (!app_limited)
        b->inflight_longterm = cc_max(tx_in_flight, (uint64_t)((double)target_inflight(c) * BETA));
    if (b->state == CC_BBR_UP) {
        b->undo_state = CC_BBR_UP;
        start_down(c, now_us);
    }
}

static void save_state_upon_loss(stoq_cc *c)
{
    cc_bbr *b = &c->bbr;
    save_cwnd(c);
    b->undo_state = CC_BBR_NONE;
    b->undo_bw_shortterm = b->bw_shortterm;
    b->undo_inflight_shortterm = b->inflight_shortterm;
    b->undo_inflight_longterm = b->inflight_longterm;
}

static void note_loss(stoq_cc *c, bool first)
{
    cc_bbr *b = &c->bbr;
    if (first || !b->is_loss_in_round)
        save_state_upon_loss(c);
    if (!b->is_loss_in_round)
        b->loss_round_delivered = c->delivered;
    b->is_loss_in_round = true;
}

// The volume in flight at which the lost part passed the threshold, within the packet.
static uint64_t inflight_at_loss(uint64_t size, uint64_t tx_in_flight, uint64_t lost)
{
    double inflight_prev = (double)(tx_in_flight - size), lost_prev = (double)(lost - size);
    double prefix = (LOSS_THRESH * inflight_prev - lost_prev) / (1 - LOSS_THRESH);
    return (uint64_t)(inflight_prev + (prefix > 0 ? prefix : 0));
}

static void on_lost(stoq_cc *c, const cc_packet *p, bool first, bool apart, uint64_t now_us)
{
    cc_bbr *b = &c->bbr;
    note_loss(c, first);
    b->loss_ranges_in_round += apart;
    if (!b->is_bw_probe_sample)
        return;
    uint32_t lost = (uint32_t)c->lost - p->lost; // itself included
    if (is_inflight_too_high(lost, p->tx_in_flight))
        handle_inflight_too_high(c, inflight_at_loss(p->bytes, p->tx_in_flight, lost),
                                 p->app_limited, now_us);
}

static void on_ce(stoq_cc *c, const cc_sample *s, bool first)
{
    cc_bbr *b = &c->bbr;
    note_loss(c, first);
    b->loss_ranges_in_round++;
    b->is_ce_in_round = true;
    uint32_t lost = (uint32_t)c->lost - s->newest.lost;
    if (b->is_bw_probe_sample && is_inflight_too_high(lost, s->newest.tx_in_flight))
        handle_inflight_too_high(c, s->newest.tx_in_flight, s->newest.app_limited, s->now_us);
}

static void on_persistent(stoq_cc *c, uint64_t now_us)
{
    (void)now_us;
    save_state_upon_loss(c);
    c->cwnd = 2 * c->mss; // RFC 9002, section 7.6
}

static bool on_spurious(stoq_cc *c, uint64_t now_us)
{
    (void)now_us;
    cc_bbr *b = &c->bbr;
    restore_cwnd(c);
    b->is_loss_in_round = false;
    reset_full_bw(b);
    b->bw_shortterm = cc_max(b->bw_shortterm, b->undo_bw_shortterm);
    b->inflight_shortterm = cc_max(b->inflight_shortterm, b->undo_inflight_shortterm);
    b->inflight_longterm = cc_max(b->inflight_longterm, b->undo_inflight_longterm);
    if (b->undo_state == CC_BBR_STARTUP && b->state != CC_BBR_STARTUP) {
        b->full_bw_reached = false;
        if (b->state != CC_BBR_PROBE_RTT)
            enter_startup(b);
    } else if (b->undo_state == CC_BBR_UP && b->state != CC_BBR_UP &&
               b->state != CC_BBR_PROBE_RTT) {
        start_refill(c);
    }
    b->undo_state = CC_BBR_NONE;
    return true;
}

// ---- the model, on every ACK --------------------------------------------------------------------

static void update_latest_delivery_signals(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    b->loss_round_start = false;
    b->bw_latest = cc_max(b->bw_latest, s->rate_bytes_s);
    b->inflight_latest = cc_max(b->inflight_latest, s->delivered);
    if (s->newest.delivered >= b->loss_round_delivered) {
        b->loss_round_delivered = c->delivered;
        b->loss_round_start = true;
    }
}

static void update_max_bw(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    b->round_start = s->newest.delivered >= b->next_round_delivered;
    if (b->round_start) {
        start_round(c);
        b->round_count++;
        b->rounds_since_probe_up++;
    }
    if (s->rate_bytes_s >= b->max_bw || !s->newest.app_limited)
        b->max_bw_filter[1] = cc_max(b->max_bw_filter[1], s->rate_bytes_s);
    b->max_bw = cc_max(b->max_bw_filter[0], b->max_bw_filter[1]);
}

// A cycle without a sample leaves the window as it is.
static void advance_max_bw_filter(cc_bbr *b)
{
    if (b->max_bw_filter[1] == 0)
        return;
    b->max_bw_filter[0] = b->max_bw_filter[1];
    b->max_bw_filter[1] = 0;
}

static void adapt_lower_bounds(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    bool tolerated = !b->is_ce_in_round && !is_inflight_too_high(s->lost, s->newest.tx_in_flight);
    if (is_probing_bw(b) || !b->is_loss_in_round || tolerated)
        return;
    if (b->bw_shortterm == CC_NEVER)
        b->bw_shortterm = b->max_bw;
    if (b->inflight_shortterm == CC_NEVER)
        b->inflight_shortterm = c->cwnd;
    b->bw_shortterm = cc_max(b->bw_latest, (uint64_t)(BETA * (double)b->bw_shortterm));
    b->inflight_shortterm =
        cc_max(b->inflight_latest, (uint64_t)(BETA * (double)b->inflight_shortterm));
}

static void update_congestion_signals(stoq_cc *c, const cc_sample *s)
{
    update_max_bw(c, s);
    if (!c->bbr.loss_round_start)
        return;
    adapt_lower_bounds(c, s);
    c->bbr.is_loss_in_round = c->bbr.is_ce_in_round = false;
}

// The windowed maximum is of two windows of rounds, the newer one not yet whole.
static void update_ack_aggregation(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    double interval = (double)(s->now_us - b->extra_acked_start_us) / 1e6;
    uint64_t expected = (uint64_t)((double)b->bw * interval);
    if (b->round_start &&
        ++b->extra_acked_rounds >= (b->full_bw_reached ? EXTRA_ACKED_ROUNDS : 1)) {
        b->extra_acked_rounds = 0;
        b->extra_acked[0] = b->full_bw_reached ? b->extra_acked[1] : 0;
        b->extra_acked[1] = 0;
    }
    if (b->extra_acked_delivered <= expected) {
        b->extra_acked_delivered = 0;
        b->extra_acked_start_us = s->now_us;
        expected = 0;
    }
    b->extra_acked_delivered += s->acked;
    uint64_t extra = cc_min(b->extra_acked_delivered - expected, c->cwnd);
    b->extra_acked[1] = cc_max(b->extra_acked[1], extra);
}

static void check_full_bw_reached(cc_bbr *b, const cc_sample *s)
{
    if (b->full_bw_now || !b->round_start || s->newest.app_limited)
        return;
    if ((double)s->rate_bytes_s >= (double)b->full_bw * 1.25) {
        reset_full_bw(b);
        b->full_bw = s->rate_bytes_s;
        return;
    }
    b->full_bw_now = ++b->full_bw_count >= 3;
    b->full_bw_reached |= b->full_bw_now;
}

static void check_startup_high_loss(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (b->loss_round_start && !b->full_bw_reached && (c->in_recovery || s->recovery_ended) &&
        b->loss_ranges_in_round >= STARTUP_FULL_LOSS_COUNT &&
        is_inflight_too_high(s->lost, s->newest.tx_in_flight)) {
        b->undo_state = CC_BBR_STARTUP;
        b->full_bw_reached = true;
        b->inflight_longterm = cc_max(bdp_of(c, b->bw, 1), b->inflight_latest);
    }
    if (b->loss_round_start)
        b->loss_ranges_in_round = 0;
}

static void check_startup_done(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    check_startup_high_loss(c, s);
    if (b->state != CC_BBR_STARTUP || !b->full_bw_reached)
        return;
    enter(b, CC_BBR_DRAIN, DRAIN_PACING_GAIN, DEFAULT_CWND_GAIN);
    b->drain_start_round = b->round_count;
}

static void check_drain_done(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (b->state == CC_BBR_DRAIN && (c->in_flight <= quantized(c, bdp_of(c, b->bw, 1)) ||
                                     b->round_count > b->drain_start_round + 3))
        start_down(c, s->now_us);
}

static void probe_inflight_longterm_upward(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (!cc_is_cwnd_limited(c) || c->cwnd < b->inflight_longterm)
        return;
    b->bw_probe_up_acked += s->acked;
    uint64_t delta = b->bw_probe_up_acked / b->probe_up_acked_per_inc;
    b->bw_probe_up_acked -= delta * b->probe_up_acked_per_inc;
    b->inflight_longterm += delta * c->mss;
    if (b->round_start)
        raise_inflight_longterm_slope(c);
}

// True when it decided on a state.
static bool adapt_long_term_model(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (b->ack_phase == CC_BBR_ACKS_STARTING && b->round_start)
        b->ack_phase = CC_BBR_ACKS_FEEDBACK;
    if (b->ack_phase == CC_BBR_ACKS_STOPPING && b->round_start) {
        b->is_bw_probe_sample = false;
        b->ack_phase = CC_BBR_ACKS_INIT;
        if (in_probe_bw(b) && !s->newest.app_limited)
            advance_max_bw_filter(b);
        if (in_probe_bw(b) && b->prev_probe_precautionary && !b->prev_probe_too_high) {
            start_refill(c);
            return true;
        }
    }
    if (is_inflight_too_high(s->lost, s->newest.tx_in_flight) || b->inflight_longterm == CC_NEVER)
        return false;
    b->inflight_longterm = cc_max(b->inflight_longterm, s->newest.tx_in_flight);
    if (b->state == CC_BBR_UP)
        probe_inflight_longterm_upward(c, s);
    return false;
}

static bool is_time_to_probe_bw(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (s->now_us <= b->cycle_stamp_us + b->bw_probe_wait_us &&
        b->rounds_since_probe_up < cc_min(target_inflight(c) / c->mss, RENO_ROUNDS))
        return false;
    start_refill(c);
    return true;
}

static bool is_time_to_cruise(const stoq_cc *c)
{
    return c->in_flight <= inflight_with_headroom(c) &&
           c->in_flight <= quantized(c, bdp_of(c, c->bbr.max_bw, 1));
}

// Whether the level is reached is a question of what was in flight before this ACK: the window is
// no larger, so without the bytes acknowledged there is always less, and the probe would go on for
// the full round trip, in which it fills the queue, that this is to prevent.
static bool is_inflight_at_longterm(const stoq_cc *c, const cc_sample *s)
{
    return s->in_flight + c->mss > c->bbr.inflight_longterm; // no other packet fits
}

static bool is_time_to_go_down(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (b->prev_probe_too_high && is_inflight_at_longterm(c, s)) {
        b->prev_probe_precautionary = true;
        return true;
    }
    if (cc_is_cwnd_limited(c) && c->cwnd >= b->inflight_longterm) {
        reset_full_bw(b);
        b->full_bw = s->rate_bytes_s;
        return false;
    }
    return b->full_bw_now;
}

static void update_probe_bw_cycle_phase(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (!b->full_bw_reached || adapt_long_term_model(c, s))
        return;
    switch (b->state) {
    case CC_BBR_DOWN:
        if (!is_time_to_probe_bw(c, s) && is_time_to_cruise(c))
            start_cruise(b);
        break;
    case CC_BBR_CRUISE:
        (void)is_time_to_probe_bw(c, s);
        break;
    case CC_BBR_REFILL:
        if (b->round_start) {
            b->is_bw_probe_sample = true;
            start_up(c, s);
        }
        break;
    case CC_BBR_UP:
        if (is_time_to_go_down(c, s)) {
            b->prev_probe_too_high = false;
            start_down(c, s->now_us);
        }
        break;
    default:
        break;
    }
}

// ---- the round trip -----------------------------------------------------------------------------

static void update_min_rtt(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    b->probe_rtt_expired = s->now_us > b->probe_rtt_min_stamp_us + PROBE_RTT_INTERVAL_US;
    if (s->rtt_us < b->probe_rtt_min_delay_us || b->probe_rtt_expired) {
        b->probe_rtt_min_delay_us = s->rtt_us;
        b->probe_rtt_min_stamp_us = s->now_us;
    }
    if (b->probe_rtt_min_delay_us < b->min_rtt_us ||
        s->now_us > b->min_rtt_stamp_us + MIN_RTT_FILTER_US) {
        b->min_rtt_us = b->probe_rtt_min_delay_us;
        b->min_rtt_stamp_us = b->probe_rtt_min_stamp_us;
    }
}

static void check_probe_rtt_done(stoq_cc *c, uint64_t now_us)
{
    cc_bbr *b = &c->bbr;
    if (b->probe_rtt_done_us == 0 || now_us <= b->probe_rtt_done_us)
        return;
    b->probe_rtt_min_stamp_us = now_us;
    restore_cwnd(c);
    reset_short_term_model(b);
    if (!b->full_bw_reached) {
        enter_startup(b);
        return;
    }
    start_down(c, now_us);
    start_cruise(b);
}

static void handle_probe_rtt(stoq_cc *c, uint64_t now_us)
{
    cc_bbr *b = &c->bbr;
    cc_mark_app_limited(c); // low rates are not the path's
    if (b->probe_rtt_done_us == 0) {
        if (c->in_flight > probe_rtt_cwnd(c))
            return;
        b->probe_rtt_done_us = now_us + PROBE_RTT_US;
        b->probe_rtt_round_done = false;
        start_round(c);
        return;
    }
    b->probe_rtt_round_done |= b->round_start;
    if (b->probe_rtt_round_done)
        check_probe_rtt_done(c, now_us);
}

static void check_probe_rtt(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (b->state != CC_BBR_PROBE_RTT && b->probe_rtt_expired && !b->idle_restart) {
        save_cwnd(c);
        enter(b, CC_BBR_PROBE_RTT, 1, PROBE_RTT_CWND_GAIN);
        b->probe_rtt_done_us = 0;
        b->ack_phase = CC_BBR_ACKS_STOPPING;
        start_round(c);
    }
    if (b->state == CC_BBR_PROBE_RTT)
        handle_probe_rtt(c, s->now_us);
    b->idle_restart = false;
}

// ---- what is sent by ----------------------------------------------------------------------------

static uint64_t volume_cap(const stoq_cc *c)
{
    const cc_bbr *b = &c->bbr;
    uint64_t cap = CC_NEVER;
    if (in_probe_bw(b) && b->state != CC_BBR_CRUISE)
        cap = b->inflight_longterm;
    else if (b->state == CC_BBR_PROBE_RTT || b->state == CC_BBR_CRUISE)
        cap = inflight_with_headroom(c);
    return cc_max(cc_min(cap, b->inflight_shortterm), min_pipe(c));
}

static void set_cwnd(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    uint64_t extra = cc_max(b->extra_acked[0], b->extra_acked[1]);
    b->max_inflight = quantized(c, bdp_of(c, b->bw, b->cwnd_gain) + extra);
    if (b->full_bw_reached)
        c->cwnd = cc_min(c->cwnd + s->acked, b->max_inflight);
    else if (c->cwnd < b->max_inflight || c->delivered < cc_initial_window(c->mss))
        c->cwnd += s->acked;
    c->cwnd = cc_max(c->cwnd, min_pipe(c));
    if (b->state == CC_BBR_PROBE_RTT)
        c->cwnd = cc_min(c->cwnd, probe_rtt_cwnd(c));
    c->cwnd = cc_min(c->cwnd, volume_cap(c));
}

static void on_ack(stoq_cc *c, const cc_sample *s)
{
    cc_bbr *b = &c->bbr;
    if (!b->has_seen_rtt) { // the rate until now was a guess
        b->has_seen_rtt = true;
        c->pacing_bytes_s =
            (uint64_t)(STARTUP_PACING_GAIN * (double)c->cwnd * 1e6 / (double)s->rtt_us);
    }
    if (s->recovery_ended)
        restore_cwnd(c);
    update_latest_delivery_signals(c, s);
    update_congestion_signals(c, s);
    update_ack_aggregation(c, s);
    check_full_bw_reached(b, s);
    check_startup_done(c, s);
    check_drain_done(c, s);
    update_probe_bw_cycle_phase(c, s);
    update_min_rtt(c, s);
    check_probe_rtt(c, s);
    if (b->loss_round_start) {
        b->bw_latest = s->rate_bytes_s;
        b->inflight_latest = s->delivered;
    }
    b->bw = cc_min(b->max_bw, b->bw_shortterm);
    set_pacing_with_gain(c, b->pacing_gain);
    set_cwnd(c, s);
}

// ---- beginning ----------------------------------------------------------------------------------

static void start(stoq_cc *c, uint64_t now_us)
{
    cc_bbr *b = &c->bbr;
    *b = (cc_bbr){.min_rtt_us = CC_NEVER,
                  .min_rtt_stamp_us = now_us,
                  .inflight_longterm = CC_NEVER,
                  .probe_up_acked_per_inc = CC_NEVER,
                  .extra_acked_start_us = now_us,
                  .next_round_delivered = c->delivered,
                  .loss_round_delivered = c->delivered,
                  .probe_rtt_min_delay_us = CC_NEVER,
                  .probe_rtt_min_stamp_us = now_us};
    reset_short_term_model(b);
    enter_startup(b);
}

// Restarting from idle: at the rate of the path, and a pause is as good as ProbeRTT.
static void on_restart(stoq_cc *c, uint64_t now_us)
{
    cc_bbr *b = &c->bbr;
    if (c->app_limited_to == 0)
        return;
    b->idle_restart = true;
    b->extra_acked_start_us = now_us;
    if (in_probe_bw(b))
        set_pacing_with_gain(c, 1);
    else if (b->state == CC_BBR_PROBE_RTT)
        check_probe_rtt_done(c, now_us);
}

static void on_mss(stoq_cc *c, double ratio)
{
    (void)c, (void)ratio; // all is in bytes
}

static const char *state(const stoq_cc *c)
{
    static const char *const names[] = {
        [CC_BBR_NONE] = "start",
        [CC_BBR_STARTUP] = "startup",
        [CC_BBR_DRAIN] = "drain",
        [CC_BBR_DOWN] = "probe_bw_down",
        [CC_BBR_CRUISE] = "probe_bw_cruise",
        [CC_BBR_REFILL] = "probe_bw_refill",
        [CC_BBR_UP] = "probe_bw_up",
        [CC_BBR_PROBE_RTT] = "probe_rtt",
    };
    return names[c->bbr.state];
}

const cc_algorithm cc_algorithm_bbr = {"bbr",  start,  on_restart,    on_lost,     on_ce,
                                       on_ack, on_mss, on_persistent, on_spurious, state};
