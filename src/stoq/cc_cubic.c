#include <math.h>

#include "stoq/cc.h"

#define CUBIC_C 0.4
#define CUBIC_BETA 0.7
#define MIN_WINDOW 2 // segments
#define INITIAL_WINDOW 10

void stoq_cc_init(stoq_cc *c, uint64_t mss)
{
    *c = (stoq_cc){.mss = mss, .cwnd = INITIAL_WINDOW * mss, .ssthresh = UINT64_MAX};
}

void stoq_cc_set_mss(stoq_cc *c, uint64_t mss)
{
    double ratio = (double)c->mss / (double)mss;
    c->w_max *= ratio;
    c->w_est *= ratio;
    c->k = cbrt(ratio) * c->k;
    c->mss = mss;
}

static bool before_recovery(const stoq_cc *c, uint64_t sent_us)
{
    return c->in_recovery_ever && sent_us <= c->recovery_start_us;
}

void stoq_cc_on_acked(stoq_cc *c, uint64_t bytes, uint64_t sent_us, bool limited, uint64_t rtt_us,
                      uint64_t now_us)
{
    if (before_recovery(c, sent_us) || limited)
        return;
    if (c->cwnd < c->ssthresh) {
        c->cwnd += bytes;
        return;
    }
    double mss = (double)c->mss, w = (double)c->cwnd / mss;
    if (c->epoch_start_us == 0) { // congestion avoidance begins (RFC 9438, section 4.2)
        c->epoch_start_us = now_us;
        if (w >= c->w_max) {
            c->w_max = w;
            c->k = 0;
        } else {
            c->k = cbrt((c->w_max - w) / CUBIC_C);
        }
        c->w_est = w;
    }
    double t = (double)(now_us - c->epoch_start_us + rtt_us) / 1e6 - c->k;
    double target = CUBIC_C * t * t * t + c->w_max;
    double acked = (double)bytes / mss;
    // Reno-friendly region (section 4.3)
    double alpha = c->w_est < c->w_max ? 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA) : 1.0;
    c->w_est += alpha * acked / w;
    if (target > 1.5 * w)
        target = 1.5 * w;
    if (target > w)
        w += (target - w) / w * acked;
    if (w < c->w_est)
        w = c->w_est;
    c->cwnd = (uint64_t)(w * mss);
}

void stoq_cc_on_congestion(stoq_cc *c, uint64_t sent_us, uint64_t now_us)
{
    if (before_recovery(c, sent_us))
        return;
    double w = (double)c->cwnd / (double)c->mss;
    c->in_recovery_ever = true;
    c->recovery_start_us = now_us;
    // Fast convergence (section 4.7)
    c->w_max = w < c->w_max ? w * (1.0 + CUBIC_BETA) / 2.0 : w;
    uint64_t reduced = (uint64_t)((double)c->cwnd * CUBIC_BETA);
    uint64_t least = MIN_WINDOW * c->mss;
    c->cwnd = c->ssthresh = reduced > least ? reduced : least;
    c->epoch_start_us = 0;
}

void stoq_cc_on_persistent(stoq_cc *c)
{
    c->cwnd = MIN_WINDOW * c->mss;
    c->epoch_start_us = 0;
    c->in_recovery_ever = false;
}
