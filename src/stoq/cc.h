// Congestion control of one path behind one interface: CUBIC (RFC 9438 with HyStart++, RFC 9406)
// and BBRv3 (draft-ietf-ccwg-bbr), with what both share: bytes in flight, delivery rate samples
// (section "Delivery Rate Samples" of that draft), recovery periods (RFC 9002, section 7.3.2) and
// pacing.
//
// A state machine without a clock and without allocation. Bytes, microseconds, bytes a second. The
// calls in order:
//
//   stoq_cc_allowance     how many bytes may go now; stoq_cc_next_us: when more may
//   stoq_cc_on_sent       for every packet that counts, after it was built
//   stoq_cc_sent_all      when sending pauses: had the connection more to send?
//   stoq_cc_ack_begin     an ACK frame comes; then
//     stoq_cc_on_acked    for every packet it acknowledges for the first time,
//     stoq_cc_on_lost     for every packet that is lost by it (or by a timer, without begin and
//     end), stoq_cc_on_ce       when it tells of marks,
//   stoq_cc_ack_end       then the window and the rate are those to send by
//
// A stoq_cc may be copied, to keep what is known of a path: stoq_cc_restore.
#ifndef HM_STOQ_CC_H
#define HM_STOQ_CC_H

#include "hypermesh/stoq.h"

#define CC_NEVER UINT64_MAX // no such time, no limit

// What is kept of a packet under way. Times are differences where that saves room.
typedef struct cc_packet {
    uint64_t sent_us : 48;
    uint64_t bytes : 16;
    uint64_t delivered : 62; // by the path when it was sent
    uint64_t app_limited : 1;
    uint64_t ect : 1;         // marked ECT(0)
    uint32_t send_elapsed_us; // from the sending of the packet delivered last before it
    uint32_t ack_elapsed_us;  // since that delivery
    uint32_t tx_in_flight;    // itself included
    uint32_t lost;            // so far, its low bits
} cc_packet;
_Static_assert(sizeof(cc_packet) <= 32, "a record of a packet stays small");

// What an ACK tells (the draft's RS).
typedef struct cc_sample {
    uint64_t now_us;
    cc_packet newest;   // of the packets acknowledged
    uint64_t in_flight; // bytes, before it: the most that were since the ACK before
    uint64_t acked;     // bytes that are newly acknowledged
    uint64_t grown;     // of the acknowledged, those that let a window grow: sent after
                        // recovery began, in a time when the window was used
    bool any;           // something was acknowledged; else the rest means nothing
    uint64_t rtt_us;    // of the newest packet acknowledged
    uint64_t delivered,
        rate_bytes_s;    // bytes over the sample's interval, bytes a second; 0: no sample
    uint64_t lost;       // bytes since the newest packet was sent
    bool recovery_ended; // by this ACK
} cc_sample;

typedef struct stoq_cc stoq_cc;

// An algorithm sets cwnd and pacing_bytes_s.
typedef struct cc_algorithm {
    const char *name;
    void (*start)(stoq_cc *c, uint64_t now_us);      // with the first packet
    void (*on_restart)(stoq_cc *c, uint64_t now_us); // nothing is under way, and a packet will be
    // first: a recovery begins with it; apart: the packet before it was not lost.
    void (*on_lost)(stoq_cc *c, const cc_packet *p, bool first, bool apart, uint64_t now_us);
    void (*on_ce)(stoq_cc *c, const cc_sample *s, bool first);
    void (*on_ack)(stoq_cc *c, const cc_sample *s); // s->any
    void (*on_mss)(stoq_cc *c, double ratio);       // old to new
    void (*on_persistent)(stoq_cc *c, uint64_t now_us);
    // All losses of the last recovery were none. Is it undone? Else the recovery stands, and what
    // was sent before it is answered by it.
    bool (*on_spurious)(stoq_cc *c, uint64_t now_us);
    const char *(*state)(const stoq_cc *c); // in a word
} cc_algorithm;

typedef struct cc_cubic {
    uint64_t ssthresh;
    double w_max, k, w_est, cwnd_prior; // segments, seconds, segments, segments
    uint64_t epoch_us;                  // 0: congestion avoidance has not begun
    uint64_t last_ack_us;
    // HyStart++
    bool css; // conservative slow start
    uint8_t css_rounds, rtt_samples;
    uint64_t round_end; // delivered bytes
    uint64_t round_min_us, last_round_min_us, css_baseline_us;
    struct {
        uint64_t cwnd, ssthresh, epoch_us;
        double w_max, k, w_est, cwnd_prior;
        bool valid;
    } undo;
} cc_cubic;

typedef enum cc_bbr_state {
    CC_BBR_NONE,
    CC_BBR_STARTUP,
    CC_BBR_DRAIN,
    CC_BBR_DOWN,
    CC_BBR_CRUISE,
    CC_BBR_REFILL,
    CC_BBR_UP,
    CC_BBR_PROBE_RTT,
} cc_bbr_state;

typedef enum cc_bbr_acks {
    CC_BBR_ACKS_INIT,
    CC_BBR_ACKS_REFILLING,
    CC_BBR_ACKS_STARTING,
    CC_BBR_ACKS_FEEDBACK,
    CC_BBR_ACKS_STOPPING,
} cc_bbr_acks;

// Names are the draft's.
typedef struct cc_bbr {
    cc_bbr_state state, undo_state;
    cc_bbr_acks ack_phase;
    double pacing_gain, cwnd_gain;
    // the model
    uint64_t max_bw_filter[2], max_bw, bw, bw_shortterm, bw_latest;
    uint64_t min_rtt_us, min_rtt_stamp_us;
    uint64_t inflight_longterm, inflight_shortterm, inflight_latest, max_inflight, prior_cwnd;
    uint64_t undo_bw_shortterm, undo_inflight_shortterm, undo_inflight_longterm;
    uint64_t extra_acked[2], extra_acked_start_us, extra_acked_delivered;
    uint32_t extra_acked_rounds;
    // rounds
    uint64_t next_round_delivered, loss_round_delivered;
    uint32_t round_count, drain_start_round, rounds_since_probe_up;
    uint32_t loss_ranges_in_round;
    bool round_start, loss_round_start, is_loss_in_round, is_ce_in_round;
    // full pipe
    bool full_bw_now, full_bw_reached;
    uint8_t full_bw_count;
    uint64_t full_bw;
    // probing
    bool is_bw_probe_sample, prev_probe_too_high, prev_probe_precautionary;
    uint8_t bw_probe_up_rounds;
    uint64_t bw_probe_up_acked, probe_up_acked_per_inc;
    uint64_t cycle_stamp_us, bw_probe_wait_us;
    // the round trip
    uint64_t probe_rtt_min_delay_us, probe_rtt_min_stamp_us, probe_rtt_done_us;
    bool probe_rtt_expired, probe_rtt_round_done, idle_restart, has_seen_rtt;
} cc_bbr;

struct stoq_cc {
    // The connection's counts, which another path does not change.
    uint64_t in_flight; // bytes
    uint64_t delivered, delivered_us, first_sent_us;
    uint64_t lost;           // bytes, and bytes of packets that were marked
    uint64_t app_limited_to; // bytes delivered when what was sent for want of data is gone; 0: none
    uint64_t used_to;        // packets up to here were under way when the window was used
    uint64_t full_to;        // and up to here when it was full
    uint64_t lost_end;       // where the packet lost last ended
    cc_sample sample;
    cc_packet stamp; // what packets sent now have in common
    bool stamped;    // which is so
    // The path's.
    const cc_algorithm *algorithm;
    bool started;
    uint64_t random;
    uint64_t mss;
    uint64_t cwnd, pacing_bytes_s; // in force
    uint64_t path_us;              // packets sent before are not the path's
    uint64_t recovery_us;          // packets sent until then belong to the last loss
    bool in_recovery, recovered;   // recovered: recovery_us means something
    uint64_t srtt_us, min_rtt_us;  // 0: not known
    int64_t tokens;                // bytes, times a million
    uint64_t tokens_us;
    union {
        cc_cubic cubic;
        cc_bbr bbr;
    };
};

extern const cc_algorithm cc_algorithm_cubic, cc_algorithm_bbr;

// seed: for the choices that BBR makes at random.
void stoq_cc_init(stoq_cc *c, stoq_congestion algorithm, uint64_t mss, uint64_t seed);
// Another path of the same connection; and back to the one that `before` is a copy of.
void stoq_cc_new_path(stoq_cc *c, uint64_t mss, uint64_t now_us);
void stoq_cc_restore(stoq_cc *c, const stoq_cc *before, uint64_t now_us);
// Datagrams may be longer or shorter from now on.
void stoq_cc_set_mss(stoq_cc *c, uint64_t mss);

// Bytes that may be sent now, with a fill of the token bucket; *paced: time alone will allow more.
uint64_t stoq_cc_allowance(stoq_cc *c, uint64_t now_us, bool *paced);
// When pacing allows the next burst: later than now.
uint64_t stoq_cc_next_us(const stoq_cc *c, uint64_t now_us);
static inline void stoq_cc_on_sent(stoq_cc *c, cc_packet *p, uint32_t bytes, bool ect,
                                   uint64_t now_us);
void stoq_cc_sent_all(stoq_cc *c, bool more);

void stoq_cc_ack_begin(stoq_cc *c, uint64_t now_us);
static inline void stoq_cc_on_acked(stoq_cc *c, const cc_packet *p);
void stoq_cc_on_lost(stoq_cc *c, const cc_packet *p, uint64_t now_us);
// More packets than before came with the mark CE (RFC 9002, section 7.1).
void stoq_cc_on_ce(stoq_cc *c, uint64_t packets);
// srtt_us: of the connection, with this ACK's sample; 0: none yet.
void stoq_cc_ack_end(stoq_cc *c, uint64_t srtt_us);
// Packets that are forgotten, neither delivered nor lost.
void stoq_cc_on_discarded(stoq_cc *c, const cc_packet *p);
void stoq_cc_on_persistent(stoq_cc *c, uint64_t now_us);
void stoq_cc_on_spurious(stoq_cc *c, uint64_t now_us);
// What it is doing: a static string.
const char *stoq_cc_state(const stoq_cc *c);

// ---- for the algorithms -------------------------------------------------------------------------

static inline uint64_t cc_initial_window(uint64_t mss) // RFC 9002, section 7.2
{
    uint64_t bytes = 2 * mss > 14720 ? 2 * mss : 14720;
    return 10 * mss < bytes ? 10 * mss : bytes;
}
static inline uint64_t cc_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}
static inline uint64_t cc_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
// The window is full, or was since a round trip ago (the draft's C.is_cwnd_limited).
static inline bool cc_is_cwnd_limited(const stoq_cc *c)
{
    return c->full_to >= c->delivered && c->full_to > 0;
}
// The most that is sent at once: what a millisecond carries, within what one system call takes.
static inline uint64_t cc_send_quantum(const stoq_cc *c)
{
    return cc_max(cc_min(c->pacing_bytes_s / 1000, 65536), 2 * c->mss);
}
// What is under way, and what is sent until it is gone, does not show what the path can carry.
static inline void cc_mark_app_limited(stoq_cc *c)
{
    c->stamped = false;
    c->app_limited_to = cc_max(c->delivered + c->in_flight, 1);
}

// ---- every packet -------------------------------------------------------------------------------

#define CC_TOKEN 1000000 // a byte: a byte a second for a microsecond is a millionth of it

void cc_make_stamp(stoq_cc *c, uint64_t now_us);

static inline uint32_t cc_saturated(uint64_t v)
{
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static inline bool cc_of_path(const stoq_cc *c, const cc_packet *p)
{
    return p->sent_us > c->path_us;
}

static inline bool cc_after_recovery(const stoq_cc *c, uint64_t sent_us)
{
    return !c->recovered || sent_us > c->recovery_us;
}

static inline void stoq_cc_on_sent(stoq_cc *c, cc_packet *p, uint32_t bytes, bool ect,
                                   uint64_t now_us)
{
    if (!c->stamped || c->stamp.sent_us != now_us || c->in_flight == 0)
        cc_make_stamp(c, now_us);
    c->in_flight += bytes;
    c->tokens -= (int64_t)bytes * CC_TOKEN;
    *p = c->stamp;
    p->bytes = bytes;
    p->ect = ect;
    p->tx_in_flight = cc_saturated(c->in_flight);
}

static inline void stoq_cc_on_acked(stoq_cc *c, const cc_packet *p)
{
    cc_sample *s = &c->sample;
    c->in_flight -= p->bytes;
    c->delivered += p->bytes;
    c->delivered_us = s->now_us;
    if (!cc_of_path(c, p))
        return;
    s->acked += p->bytes;
    if (cc_after_recovery(c, p->sent_us) && p->delivered + p->tx_in_flight <= c->used_to)
        s->grown += p->bytes;
    // The newest; of those that went at one time, the last.
    if (!s->any || p->sent_us > s->newest.sent_us ||
        (p->sent_us == s->newest.sent_us && p->tx_in_flight > s->newest.tx_in_flight)) {
        s->any = true;
        s->newest = *p;
    }
}

#endif
