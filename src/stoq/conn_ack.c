// How often packets are acknowledged (draft-ietf-quic-ack-frequency-14): what the peer asked of us,
// and what we ask of it.
#include "stoq/endpoint.h"

#define PACKET_THRESHOLD 3     // of loss detection (RFC 9002, section 6.1.1), which is asked for
#define ACKS_A_ROUND 16        // that are wanted at least; HyStart++ (RFC 9406) needs eight
#define ASKED_MAX 64u          // packets without an acknowledgement
#define ASKED_DELAYS_A_ROUND 4 // the delay that is asked for is this part of a round trip
#define MAX_DELAY_LIMIT_US 16384000 // RFC 9000, section 18.2
#define DELAY_MAX_US 1000000u       // that we take, whatever is asked for: sooner is always allowed
#define THRESHOLD_MAX 255u          // so that what one ACK tells of does not grow without end
#define STRAYS_MAX 16               // packets out of order, for the same reason

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void ack_init(stoq_conn *c)
{
    c->acks = (stoq_acks){.threshold = 1,
                          .delay_us = STOQ_MAX_ACK_DELAY_US,
                          .reordering = 1,
                          .asked_threshold = 1,
                          .asked_delay_us = STOQ_MAX_ACK_DELAY_US};
}

// ---- what the peer asked ------------------------------------------------------------------------

hm_err ack_on_frequency(stoq_conn *c, const stoq_frame *f, uint64_t *code)
{
    stoq_acks *a = &c->acks;
    if (f->value < STOQ_MIN_ACK_DELAY_US || f->value >= MAX_DELAY_LIMIT_US) {
        *code = STOQ_PROTOCOL_VIOLATION;
        return hm_fail(HM_E_STOQ_TRANSPORT, "acknowledgements cannot be %llu us late",
                       (unsigned long long)f->value);
    }
    if (f->stream_id < a->next_seq)
        return HM_OK; // a newer one came before
    a->next_seq = f->stream_id + 1;
    a->threshold = (uint32_t)least(f->offset, THRESHOLD_MAX);
    a->delay_us = (uint32_t)least(f->value, DELAY_MAX_US);
    a->reordering = (uint32_t)least(f->code, UINT32_MAX);
    return HM_OK;
}

// Is the packet so late, or a gap so old, that the peer takes something for lost when it hears of
// this (section 6.2 of the draft)?
static bool is_beyond_reordering(stoq_acks *a, const stoq_ranges *r, uint64_t pn)
{
    uint64_t first = a->told_largest >= a->reordering ? a->told_largest - a->reordering + 1 : 0;
    uint64_t missing = UINT64_MAX; // the smallest that the peer cannot know of
    if (pn < first)
        return true;
    for (uint32_t i = 0; i + 1 < r->count && r->at[i].lo > first; i++)
        missing = r->at[i + 1].hi + 1 > first ? r->at[i + 1].hi + 1 : first;
    a->gap = missing != UINT64_MAX;
    return a->gap && r->at[0].hi - missing >= a->reordering;
}

bool ack_out_of_order(stoq_conn *c, uint64_t pn, bool in_order)
{
    stoq_acks *a = &c->acks;
    if (a->reordering == 1)
        return !in_order;
    a->strays += !in_order;
    return a->strays > STRAYS_MAX ||
           (a->reordering > 0 && is_beyond_reordering(a, &c->spaces[STOQ_LEVEL_APP].received, pn));
}

// ---- what we ask --------------------------------------------------------------------------------

// Packets without an acknowledgement that leave so many of them in a round trip: of what is under
// way, which is less than the window where the application has no more. A power of two, so that
// little changes do not count.
static uint32_t wanted_threshold(const stoq_conn *c)
{
    uint64_t bytes = least(c->cc.cwnd, c->cc.sample.newest.tx_in_flight) / ACKS_A_ROUND;
    uint64_t packets = least(bytes, cc_send_quantum(&c->cc) / 2) / c->mtu;
    uint32_t threshold = 1;
    while (2 * threshold <= packets && threshold < ASKED_MAX)
        threshold *= 2;
    return threshold;
}

static uint32_t wanted_delay_us(const stoq_conn *c)
{
    uint64_t us = c->rtt_smooth_us / ASKED_DELAYS_A_ROUND, most = c->theirs.max_ack_delay_ms * 1000;
    if (us < c->theirs.min_ack_delay_us)
        us = c->theirs.min_ack_delay_us;
    return (uint32_t)least(us, most);
}

void ack_ask(stoq_conn *c)
{
    stoq_acks *a = &c->acks;
    if (!c->theirs.has_min_ack_delay || !c->confirmed || a->asking || !c->cc.sample.any)
        return;
    uint32_t threshold = wanted_threshold(c), delay_us = wanted_delay_us(c);
    bool other = threshold >= 2 * a->asked_threshold || 4 * threshold <= a->asked_threshold ||
                 (a->asked_threshold > 1 && (delay_us >= 2 * (uint64_t)a->asked_delay_us ||
                                             2 * (uint64_t)delay_us <= a->asked_delay_us));
    if (!other)
        return;
    a->asked_threshold = threshold;
    a->asked_delay_us = delay_us;
    a->asking = a->pending = true;
}

uint8_t *ack_write_frequency(stoq_conn *c, uint8_t *p)
{
    stoq_acks *a = &c->acks;
    a->pending = false;
    p = stoq_varint_write(p, STOQ_FRAME_ACK_FREQUENCY);
    p = stoq_varint_write(p, a->seq++);
    p = stoq_varint_write(p, a->asked_threshold);
    p = stoq_varint_write(p, a->asked_delay_us);
    return stoq_varint_write(p, PACKET_THRESHOLD);
}
