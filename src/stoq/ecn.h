// Explicit congestion notification of one path (RFC 9000, section 13.4): packets are marked ECT(0),
// as long as the peer's counts show that marks come through (appendix A.4).
#ifndef HM_STOQ_ECN_H
#define HM_STOQ_ECN_H

#include <stdbool.h>
#include <stdint.h>

#define STOQ_ECN_ECT0 2 // the codepoint

typedef enum stoq_ecn_state {
    STOQ_ECN_TESTING, // the first packets are marked
    STOQ_ECN_UNKNOWN, // and the rest waits for what the peer says of them
    STOQ_ECN_CAPABLE,
    STOQ_ECN_FAILED, // nothing is marked any more
} stoq_ecn_state;

typedef struct stoq_ecn {
    stoq_ecn_state state;
    uint32_t tested; // packets sent
} stoq_ecn;

// Of a packet number space, whatever the path.
typedef struct stoq_ecn_space {
    uint64_t marked;  // packets sent
    uint64_t told[3]; // the peer's counts of ECT(0), ECT(1) and CE
} stoq_ecn_space;

// What the IP headers of the next datagrams are to say. again: they are probes; should it be the
// mark that stops packets, these come through.
uint8_t stoq_ecn_mark(const stoq_ecn *e, bool again);
#define STOQ_ECN_TESTS 10 // packets
// A packet was sent with this mark.
static inline void stoq_ecn_on_sent(stoq_ecn *e, stoq_ecn_space *s, uint8_t mark)
{
    if (mark != STOQ_ECN_ECT0)
        return;
    s->marked++;
    if (e->state == STOQ_ECN_TESTING && ++e->tested == STOQ_ECN_TESTS)
        e->state = STOQ_ECN_UNKNOWN;
}
// An ACK frame with a new largest packet came, with these counts (NULL: without any), and
// acknowledged so many marked packets for the first time. Returns how many more are marked CE.
uint64_t stoq_ecn_on_ack(stoq_ecn *e, stoq_ecn_space *s, const uint64_t counts[3],
                         uint64_t newly_acked);

#endif
