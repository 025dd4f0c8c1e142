// Congestion control behind one interface; CUBIC (RFC 9438) is the one there is. Bytes and
// microseconds. RFC 9002, section 7 says when each call is made.
#ifndef HM_STOQ_CC_H
#define HM_STOQ_CC_H

#include <stdbool.h>
#include <stdint.h>

typedef struct stoq_cc {
    uint64_t mss;
    uint64_t cwnd, ssthresh; // bytes
    uint64_t recovery_start_us;
    bool in_recovery_ever;
    // CUBIC
    double w_max; // segments
    double k;     // seconds
    uint64_t epoch_start_us;
    double w_est; // Reno-friendly window, segments
} stoq_cc;

void stoq_cc_init(stoq_cc *c, uint64_t mss);
// A packet sent at sent_us was acknowledged; limited: the window was not full while it was under
// way.
void stoq_cc_on_acked(stoq_cc *c, uint64_t bytes, uint64_t sent_us, bool limited, uint64_t rtt_us,
                      uint64_t now_us);
// Loss (or an ECN mark) of a packet sent at sent_us: at most one reduction a round trip.
void stoq_cc_on_congestion(stoq_cc *c, uint64_t sent_us, uint64_t now_us);
// Packets have another size from now on; the window in bytes stays.
void stoq_cc_set_mss(stoq_cc *c, uint64_t mss);
void stoq_cc_on_persistent(stoq_cc *c);

#endif
