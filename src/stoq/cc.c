// What the algorithms share: counts, delivery rate samples, recovery periods, pacing.
#include "stoq/cc.h"

#include "base/err.h"

#define INITIAL_GAIN 2.77     // of the first window's rate, in which windows double
#define INITIAL_RTT_US 1000   // for that rate, until there is a sample
#define TIMER_LATE_US 1000    // what a timer may be late without loss of throughput
#define REFILL_MAX_US 1000000 // more time than this fills any bucket
#define TOKEN 1000000u        // a byte: a byte a second for a microsecond is a millionth of it

static void begin_path(stoq_cc *c, uint64_t mss)
{
    c->mss = mss;
    c->cwnd = cc_initial_window(mss);
    c->pacing_bytes_s = (uint64_t)(INITIAL_GAIN * (double)c->cwnd * 1e6 / INITIAL_RTT_US);
    c->srtt_us = c->min_rtt_us = 0;
    c->in_recovery = c->recovered = false;
    c->tokens = 0;
    c->tokens_us = 0;
    c->stamped = false;
}

void stoq_cc_init(stoq_cc *c, stoq_congestion algorithm, uint64_t mss, uint64_t seed)
{
    *c = (stoq_cc){.random = seed};
    c->algorithm = algorithm == STOQ_CONGESTION_CUBIC ? &cc_algorithm_cubic : &cc_algorithm_bbr;
    begin_path(c, mss);
}

hm_err stoq_congestion_of(const char *name, stoq_congestion *out)
{
    bool bbr = strcmp(name, cc_algorithm_bbr.name) == 0;
    if (!bbr && strcmp(name, cc_algorithm_cubic.name) != 0)
        return hm_fail(HM_E_CONFIG, "congestion control \"%.40s\" is neither cubic nor bbr", name);
    *out = bbr ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC;
    return HM_OK;
}

void stoq_cc_new_path(stoq_cc *c, uint64_t mss, uint64_t now_us)
{
    begin_path(c, mss);
    c->path_us = now_us;
    c->started = false;
}

void stoq_cc_restore(stoq_cc *c, const stoq_cc *before, uint64_t now_us)
{
    stoq_cc after = *before;
    after.in_flight = c->in_flight;
    after.delivered = c->delivered;
    after.delivered_us = c->delivered_us;
    after.first_sent_us = c->first_sent_us;
    after.lost = c->lost;
    after.app_limited_to = c->app_limited_to;
    after.used_to = c->used_to;
    after.full_to = c->full_to;
    after.lost_end = c->lost_end;
    after.sample = c->sample;
    after.stamped = false;
    after.path_us = now_us;
    *c = after;
}

void stoq_cc_set_mss(stoq_cc *c, uint64_t mss)
{
    if (c->cwnd == cc_initial_window(c->mss))
        c->cwnd = cc_initial_window(mss);
    c->cwnd = cc_max(c->cwnd, 2 * mss); // the smallest window (RFC 9002, section 7.2)
    c->algorithm->on_mss(c, (double)c->mss / (double)mss);
    c->mss = mss;
}

// ---- sending ------------------------------------------------------------------------------------

static uint64_t window(const stoq_cc *c)
{
    return c->cwnd > c->in_flight ? c->cwnd - c->in_flight : 0;
}

// Nothing goes before so much may go: else a busy sender would send a packet a call.
static uint64_t burst(const stoq_cc *c)
{
    return cc_min(window(c), cc_send_quantum(c));
}

uint64_t stoq_cc_allowance(stoq_cc *c, uint64_t now_us, bool *paced)
{
    int64_t depth = (int64_t)(cc_send_quantum(c) * CC_TOKEN + c->pacing_bytes_s * TIMER_LATE_US);
    if (now_us > c->tokens_us) {
        uint64_t us = cc_min(now_us - c->tokens_us, REFILL_MAX_US);
        c->tokens += (int64_t)(c->pacing_bytes_s * us);
        c->tokens_us = now_us;
    }
    if (c->tokens > depth)
        c->tokens = depth;
    *paced = false;
    if (window(c) < c->mss)
        return 0;
    *paced = c->tokens < (int64_t)(burst(c) * CC_TOKEN);
    return *paced ? 0 : cc_min(window(c), (uint64_t)c->tokens / CC_TOKEN);
}

uint64_t stoq_cc_next_us(const stoq_cc *c, uint64_t now_us)
{
    int64_t lacking = (int64_t)(burst(c) * CC_TOKEN) - c->tokens;
    return now_us + 1 + (lacking > 0 ? (uint64_t)lacking / c->pacing_bytes_s : 0);
}

// What the packets of a batch have in common is worked out once.
void cc_make_stamp(stoq_cc *c, uint64_t now_us)
{
    if (!c->started) {
        c->started = true;
        c->algorithm->start(c, now_us);
    }
    if (c->in_flight == 0) {
        c->algorithm->on_restart(c, now_us);
        c->first_sent_us = c->delivered_us = now_us;
    }
    c->stamp = (cc_packet){.sent_us = now_us,
                           .delivered = c->delivered,
                           .app_limited = c->app_limited_to != 0,
                           .send_elapsed_us = cc_saturated(now_us - c->first_sent_us),
                           .ack_elapsed_us = cc_saturated(now_us - c->delivered_us),
                           .lost = (uint32_t)c->lost};
    c->stamped = true;
}

void stoq_cc_sent_all(stoq_cc *c, bool more)
{
    uint64_t end = c->delivered + c->in_flight;
    bool full = c->in_flight + c->mss > c->cwnd;
    // Half full, with more that only waits its turn, is used too (RFC 9002, section 7.8).
    if (more && 2 * c->in_flight > c->cwnd)
        c->used_to = cc_max(c->used_to, end);
    if (more && full)
        c->full_to = cc_max(c->full_to, end);
    if (!more && !full)
        cc_mark_app_limited(c);
}

// ---- acknowledgements ---------------------------------------------------------------------------

void stoq_cc_ack_begin(stoq_cc *c, uint64_t now_us)
{
    c->sample = (cc_sample){.now_us = now_us, .in_flight = c->in_flight};
    c->stamped = false;
}

static void begin_recovery(stoq_cc *c, uint64_t now_us)
{
    c->in_recovery = c->recovered = true;
    c->recovery_us = now_us;
}

void stoq_cc_on_lost(stoq_cc *c, const cc_packet *p, uint64_t now_us)
{
    c->in_flight -= p->bytes;
    if (!cc_of_path(c, p))
        return;
    c->stamped = false;
    uint64_t end = p->delivered + p->tx_in_flight;
    bool first = cc_after_recovery(c, p->sent_us), apart = end - p->bytes != c->lost_end;
    c->lost += p->bytes;
    c->lost_end = end;
    c->algorithm->on_lost(c, p, first, apart, now_us);
    if (first)
        begin_recovery(c, now_us);
}

void stoq_cc_on_ce(stoq_cc *c, uint64_t packets)
{
    const cc_sample *s = &c->sample;
    if (!s->any)
        return;
    bool first = cc_after_recovery(c, s->newest.sent_us);
    c->stamped = false;
    c->lost += cc_min(packets * c->mss, s->acked);
    c->algorithm->on_ce(c, s, first);
    if (first)
        begin_recovery(c, s->now_us);
}

void stoq_cc_ack_end(stoq_cc *c, uint64_t srtt_us)
{
    cc_sample *s = &c->sample;
    if (c->app_limited_to != 0 && c->delivered > c->app_limited_to)
        c->app_limited_to = 0;
    if (!s->any)
        return;
    const cc_packet *p = &s->newest;
    c->srtt_us = srtt_us;
    c->first_sent_us = p->sent_us;
    s->rtt_us = cc_max(s->now_us - p->sent_us, 1);
    if (c->min_rtt_us == 0 || s->rtt_us < c->min_rtt_us)
        c->min_rtt_us = s->rtt_us;
    s->delivered = c->delivered - p->delivered;
    s->lost = (uint32_t)((uint32_t)c->lost - p->lost);
    // Bytes cannot have been delivered faster than they were sent, nor than they were acknowledged.
    uint64_t interval = cc_max(p->send_elapsed_us, s->now_us - p->sent_us + p->ack_elapsed_us);
    if (interval >= c->min_rtt_us)
        s->rate_bytes_s = s->delivered * 1000000 / interval;
    s->recovery_ended = c->in_recovery && p->sent_us > c->recovery_us;
    if (s->recovery_ended)
        c->in_recovery = false;
    c->algorithm->on_ack(c, s);
}

void stoq_cc_on_discarded(stoq_cc *c, const cc_packet *p)
{
    c->in_flight -= p->bytes;
}

void stoq_cc_on_persistent(stoq_cc *c, uint64_t now_us)
{
    c->algorithm->on_persistent(c, now_us);
    begin_recovery(c, now_us);
}

void stoq_cc_on_spurious(stoq_cc *c, uint64_t now_us)
{
    if (c->algorithm->on_spurious(c, now_us))
        c->in_recovery = c->recovered = false;
}

const char *stoq_cc_state(const stoq_cc *c)
{
    return c->started ? c->algorithm->state(c) : "start";
}
