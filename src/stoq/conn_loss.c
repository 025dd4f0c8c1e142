// Loss detection (RFC 9002): acknowledgements, the loss timer and probes.
#include <stdlib.h>

#include "stoq/endpoint.h"

#define PACKET_THRESHOLD 3
#define GRANULARITY_US 1000u
#define INITIAL_RTT_US 333000u
#define SENT_FEW 8u            // records that a connection keeps when it is idle
#define SENT_QUIET_US 1000000u // how long the ring of a burst waits for another one
#define SKIP_EVERY 256u        // packets, at least; at most twice that

static stoq_sent *slot(const stoq_space *s, uint64_t at)
{
    return &s->sent[at & (s->sent_cap - 1)];
}

stoq_sent *loss_record(stoq_conn *c, stoq_level level)
{
    stoq_space *s = &c->spaces[level];
    if (s->sent_tail - s->sent_head == s->sent_cap) {
        uint32_t cap = s->sent_cap == 0 ? SENT_FEW : s->sent_cap * 2;
        if (cap > STOQ_SENT_MAX)
            return NULL;
        stoq_sent *bigger = calloc(cap, sizeof *bigger);
        if (bigger == NULL)
            return NULL;
        for (uint64_t at = s->sent_head; at < s->sent_tail; at++)
            bigger[at & (cap - 1)] = *slot(s, at);
        free(s->sent);
        s->sent = bigger;
        s->sent_cap = cap;
    }
    stoq_sent *p = slot(s, s->sent_tail);
    p->outstanding = p->acked = p->eliciting = p->mtu_probe = false;
    p->frame_count = 0;
    return p;
}

void loss_record_keep(stoq_conn *c, stoq_level level)
{
    stoq_space *s = &c->spaces[level];
    stoq_sent *p = slot(s, s->sent_tail++);
    p->pn = s->next_pn;
    p->outstanding = true;
}

void loss_next_pn(stoq_conn *c, stoq_level level)
{
    stoq_space *s = &c->spaces[level];
    s->next_pn++;
    if (level != STOQ_LEVEL_APP || s->next_pn < c->skip_pn)
        return;
    if (c->skip_pn != 0)
        c->skipped_pn = s->next_pn++;
    c->skip_pn = s->next_pn + SKIP_EVERY + hm_random_u64(&c->ep->random) % SKIP_EVERY;
}

// The first record of a packet with this number or a later one.
static uint64_t record_from(const stoq_space *s, uint64_t pn)
{
    uint64_t a = s->sent_head, b = s->sent_tail;
    while (a < b) {
        uint64_t m = a + (b - a) / 2;
        if (slot(s, m)->pn < pn)
            a = m + 1;
        else
            b = m;
    }
    return a;
}

// Takes a record out of the count of what is under way.
static void settle(stoq_space *s, stoq_sent *p)
{
    p->outstanding = false;
    if (p->eliciting)
        s->eliciting_out--;
}

static void advance_head(stoq_space *s)
{
    while (s->sent_head < s->sent_tail && !slot(s, s->sent_head)->outstanding)
        s->sent_head++;
}

static void frames_acked(stoq_conn *c, stoq_level level, const stoq_sent *p)
{
    for (unsigned i = 0; i < p->frame_count; i++) {
        const stoq_sent_frame *f = &p->frames[i];
        if (f->type == STOQ_FRAME_STREAM || f->type == STOQ_FRAME_RESET_STREAM)
            stream_on_acked(c, f);
        else if (f->type == STOQ_FRAME_CRYPTO)
            stoq_sendbuf_on_acked(&c->spaces[level].crypto_out, f->offset, f->len);
        else if (f->type == STOQ_FRAME_ACK_FREQUENCY)
            c->acks.asking = false;
    }
}

static void frames_lost(stoq_conn *c, stoq_level level, const stoq_sent *p)
{
    for (unsigned i = 0; i < p->frame_count; i++) {
        const stoq_sent_frame *f = &p->frames[i];
        switch (f->type) {
        case STOQ_FRAME_CRYPTO:
            stoq_sendbuf_on_lost(&c->spaces[level].crypto_out, f->offset, f->len);
            break;
        case STOQ_FRAME_MAX_DATA:
            c->max_data_pending = true;
            break;
        case STOQ_FRAME_MAX_STREAMS_BIDI:
        case STOQ_FRAME_MAX_STREAMS_UNI:
            c->max_streams_pending[f->type == STOQ_FRAME_MAX_STREAMS_UNI] = true;
            break;
        case STOQ_FRAME_HANDSHAKE_DONE:
            c->done_pending = true;
            break;
        case STOQ_FRAME_NEW_CONNECTION_ID:
            for (unsigned k = 0; k < STOQ_CIDS_MAX; k++)
                if (c->local[k].active && c->local[k].seq == f->id)
                    c->local[k].to_send = c->ids_to_send = true;
            break;
        case STOQ_FRAME_ACK_FREQUENCY:
            c->acks.pending = c->acks.asking;
            break;
        case STOQ_FRAME_RETIRE_CONNECTION_ID:
            conn_retire_remote(c, f->id);
            break;
        default:
            stream_on_lost(c, f);
        }
    }
}

// ---- round trips --------------------------------------------------------------------------------

static void rtt_sample(stoq_conn *c, uint64_t sample, uint64_t ack_delay, uint64_t now)
{
    c->rtt_latest_us = sample;
    if (c->first_rtt_us == 0) {
        c->first_rtt_us = now;
        c->rtt_min_us = c->rtt_smooth_us = sample;
        c->rtt_var_us = sample / 2;
        return;
    }
    if (sample < c->rtt_min_us)
        c->rtt_min_us = sample;
    if (c->confirmed && ack_delay > c->theirs.max_ack_delay_ms * 1000)
        ack_delay = c->theirs.max_ack_delay_ms * 1000;
    if (sample >= c->rtt_min_us + ack_delay)
        sample -= ack_delay;
    uint64_t diff =
        c->rtt_smooth_us > sample ? c->rtt_smooth_us - sample : sample - c->rtt_smooth_us;
    c->rtt_var_us = (3 * c->rtt_var_us + diff) / 4;
    c->rtt_smooth_us = (7 * c->rtt_smooth_us + sample) / 8;
}

uint64_t conn_pto_us(const stoq_conn *c, stoq_level level)
{
    uint64_t rtt = c->first_rtt_us == 0 ? INITIAL_RTT_US : c->rtt_smooth_us;
    uint64_t var = c->first_rtt_us == 0 ? INITIAL_RTT_US / 2 : c->rtt_var_us;
    uint64_t pto = rtt + (4 * var > GRANULARITY_US ? 4 * var : GRANULARITY_US);
    if (level == STOQ_LEVEL_APP && c->confirmed)
        pto += c->theirs.max_ack_delay_ms * 1000;
    return pto;
}

// ---- loss ---------------------------------------------------------------------------------------

typedef struct losses {
    bool any;
    uint64_t run_us;  // first eliciting one sent after the last acknowledged packet, 0: none
    uint64_t span_us; // longest time from there to another one
} losses;

// Only what was sent after the first round-trip sample counts (RFC 9002, section 7.6.2).
static void note_loss(stoq_conn *c, losses *lost, const stoq_sent *p)
{
    lost->any = true;
    if (!p->eliciting || p->cc.sent_us <= c->first_rtt_us || c->first_rtt_us == 0)
        return;
    if (lost->run_us == 0)
        lost->run_us = p->cc.sent_us;
    if (p->cc.sent_us - lost->run_us > lost->span_us)
        lost->span_us = p->cc.sent_us - lost->run_us;
}

// A recovery whose losses all turn out to be late packets is undone (RFC 9438, section 4.9). Kept
// are a few ranges of them; with more, it is taken for what it seems.
static void remember_gone(stoq_conn *c, uint64_t pn)
{
    if (c->gone_recovery_us != c->cc.recovery_us) {
        c->gone_recovery_us = c->cc.recovery_us;
        c->gone_count = 0;
    } else if (c->gone_count == 0) {
        return;
    }
    if (c->gone_count > 0 && c->gone[c->gone_count - 1].hi + 1 == pn) {
        c->gone[c->gone_count - 1].hi = pn;
        return;
    }
    if (c->gone_count == STOQ_GONE_MAX) {
        c->gone_count = 0;
        return;
    }
    c->gone[c->gone_count].lo = c->gone[c->gone_count].hi = pn;
    c->gone_count++;
}

static bool acknowledges(const stoq_frame *ack, uint64_t from, uint64_t to)
{
    uint64_t lo, hi;
    stoq_ack_walk w = stoq_ack_walk_of(ack);
    while (stoq_ack_next(&w, &lo, &hi))
        if (lo <= from)
            return hi >= to;
    return false;
}

static void check_spurious(stoq_conn *c, const stoq_frame *ack, uint64_t now)
{
    if (now > c->gone_recovery_us + 2 * conn_pto_us(c, STOQ_LEVEL_APP))
        c->gone_count = 0; // so late that the window is another one
    for (unsigned i = 0; i < c->gone_count; i++)
        if (!acknowledges(ack, c->gone[i].lo, c->gone[i].hi))
            return;
    if (c->gone_count > 0)
        stoq_cc_on_spurious(&c->cc, now);
    c->gone_count = 0;
}

static void tell_lost(const stoq_conn *c, stoq_level level, const stoq_sent *p)
{
    static const stoq_packet_type types[] = {STOQ_PACKET_INITIAL, STOQ_PACKET_HANDSHAKE,
                                             STOQ_PACKET_1RTT};
    bool reordered = c->spaces[level].largest_acked >= p->pn + PACKET_THRESHOLD;
    CONN_EVENT(c, .type = STOQ_EVENT_LOST, .packet = types[level], .number = p->pn,
               .probe = p->mtu_probe, .why = reordered ? "reordering_threshold" : "time_threshold");
}

static void detect(stoq_conn *c, stoq_level level, uint64_t now)
{
    stoq_space *s = &c->spaces[level];
    losses lost = {0};
    s->loss_time_us = 0;
    if (s->largest_acked == UINT64_MAX)
        return;
    uint64_t rtt = c->rtt_latest_us > c->rtt_smooth_us ? c->rtt_latest_us : c->rtt_smooth_us;
    uint64_t delay = rtt * 9 / 8 > GRANULARITY_US ? rtt * 9 / 8 : GRANULARITY_US;
    for (uint64_t at = s->sent_head; at < s->sent_tail; at++) {
        stoq_sent *p = slot(s, at);
        if (p->pn > s->largest_acked)
            break;
        if (p->acked)
            lost.run_us = 0;
        if (!p->outstanding)
            continue;
        if (p->cc.sent_us + delay > now && s->largest_acked < p->pn + PACKET_THRESHOLD) {
            if (s->loss_time_us == 0 || p->cc.sent_us + delay < s->loss_time_us)
                s->loss_time_us = p->cc.sent_us + delay;
            continue;
        }
        settle(s, p);
        tell_lost(c, level, p);
        mtu_on_lost(c, p, now);
        if (p->mtu_probe) { // which says nothing of congestion
            stoq_cc_on_discarded(&c->cc, &p->cc);
            continue;
        }
        stoq_cc_on_lost(&c->cc, &p->cc, now);
        if (level == STOQ_LEVEL_APP)
            remember_gone(c, p->pn);
        c->stats.packets_lost++;
        frames_lost(c, level, p);
        note_loss(c, &lost, p);
    }
    advance_head(s);
    if (!lost.any)
        return;
    // Persistent congestion (section 7.6): all lost over three probe timeouts.
    uint64_t period =
        3 * (c->rtt_smooth_us + 4 * c->rtt_var_us + c->theirs.max_ack_delay_ms * 1000);
    if (lost.span_us > period)
        stoq_cc_on_persistent(&c->cc, now);
    conn_wake(c);
}

static void acked_one(stoq_conn *c, stoq_level level, stoq_sent *p)
{
    settle(&c->spaces[level], p);
    p->acked = true;
    frames_acked(c, level, p);
    mtu_on_acked(c, p);
    stoq_cc_on_acked(&c->cc, &p->cc);
}

hm_err loss_on_ack(stoq_conn *c, stoq_level level, const stoq_frame *ack, uint64_t now,
                   uint64_t *code)
{
    stoq_space *s = &c->spaces[level];
    if (ack->ack_largest >= s->next_pn) {
        *code = STOQ_PROTOCOL_VIOLATION;
        return hm_fail(HM_E_STOQ_TRANSPORT, "acknowledges a packet that was not sent");
    }
    bool eliciting = false, any = false, largest_new = false;
    uint64_t sent_us = 0, marked = 0, lo, hi;
    stoq_cc_ack_begin(&c->cc, now);
    stoq_ack_walk w = stoq_ack_walk_of(ack);
    while (stoq_ack_next(&w, &lo, &hi)) {
        if (s->sent_head == s->sent_tail || hi < slot(s, s->sent_head)->pn)
            break; // the ranges go down
        if (level == STOQ_LEVEL_APP && lo <= c->skipped_pn && c->skipped_pn <= hi) {
            *code = STOQ_PROTOCOL_VIOLATION;
            return hm_fail(HM_E_STOQ_TRANSPORT, "acknowledges a packet that was left out");
        }
        for (uint64_t at = record_from(s, lo); at < s->sent_tail; at++) {
            stoq_sent *p = slot(s, at);
            if (p->pn > hi)
                break;
            if (!p->outstanding)
                continue;
            any = true;
            eliciting |= p->eliciting;
            if (p->pn == ack->ack_largest) {
                // What went by the path before says nothing of this one (RFC 9000, section 9.4).
                largest_new = level != STOQ_LEVEL_APP || p->pn >= c->path_pn;
                sent_us = p->cc.sent_us;
            }
            marked += p->cc.ect && p->cc.sent_us > c->cc.path_us; // on this path
            acked_one(c, level, p);
        }
    }
    if (level == STOQ_LEVEL_APP)
        check_spurious(c, ack, now);
    uint64_t ce = 0;
    if (s->largest_acked == UINT64_MAX || ack->ack_largest > s->largest_acked) {
        s->largest_acked = ack->ack_largest;
        ce = stoq_ecn_on_ack(&c->ecn, &s->ecn_sent,
                             ack->type == STOQ_FRAME_ACK_ECN ? ack->ecn : NULL, marked);
    }
    if (!any)
        return HM_OK;
    if (largest_new && eliciting) {
        uint64_t delay = level == STOQ_LEVEL_APP && ack->ack_delay < (UINT64_C(1) << 30)
                             ? ack->ack_delay << c->theirs.ack_delay_exponent
                             : 0;
        rtt_sample(c, now > sent_us ? now - sent_us : 1, delay, now);
    }
    advance_head(s);
    detect(c, level, now);
    if (ce > 0)
        stoq_cc_on_ce(&c->cc, ce);
    c->stats.ce_marked += ce;
    stoq_cc_ack_end(&c->cc, c->rtt_smooth_us);
    if (level == STOQ_LEVEL_HANDSHAKE)
        c->peer_may_be_blocked = false; // it has opened our Handshake packets
    // A client whose address may not be validated yet keeps backing off (section 6.2.1).
    if (level == STOQ_LEVEL_APP && ack->ack_largest >= c->one_rtt_pn)
        conn_confirmed(c); // RFC 9001, section 4.1.2
    if (level == STOQ_LEVEL_APP)
        ack_ask(c);
    if (!c->peer_may_be_blocked)
        c->pto_count = 0;
    CONN_EVENT(c, .type = STOQ_EVENT_METRICS);
    conn_wake(c);
    return HM_OK;
}

// ---- timer --------------------------------------------------------------------------------------

uint64_t loss_timer_us(const stoq_conn *c, stoq_level *level, bool *is_pto)
{
    uint64_t best = UINT64_MAX;
    *is_pto = false;
    for (int l = 0; l < STOQ_LEVELS; l++)
        if (c->spaces[l].loss_time_us != 0 && c->spaces[l].loss_time_us < best) {
            best = c->spaces[l].loss_time_us;
            *level = l;
        }
    if (best != UINT64_MAX)
        return best;
    *is_pto = true;
    unsigned shift = c->pto_count < 16 ? c->pto_count : 16;
    bool any = false;
    for (int l = 0; l < STOQ_LEVELS; l++) {
        const stoq_space *s = &c->spaces[l];
        if (s->eliciting_out == 0 || (l == STOQ_LEVEL_APP && !c->confirmed)) // section 6.2.1
            continue;
        any = true;
        uint64_t at = s->last_eliciting_us + (conn_pto_us(c, l) << shift);
        if (at < best) {
            best = at;
            *level = l;
        }
    }
    // Nothing is out, yet the server may wait for us to send more (section 6.2.2.1).
    const stoq_space *s = &c->spaces[STOQ_LEVEL_HANDSHAKE];
    bool handshake = stoq_keys_ready(&s->tx);
    if (!handshake)
        s = &c->spaces[STOQ_LEVEL_INITIAL];
    if (!any && c->peer_may_be_blocked && stoq_keys_ready(&s->tx)) {
        *level = handshake ? STOQ_LEVEL_HANDSHAKE : STOQ_LEVEL_INITIAL;
        uint64_t since = s->last_eliciting_us != 0 ? s->last_eliciting_us : c->created_us;
        best = since + (conn_pto_us(c, *level) << shift);
    }
    return best;
}

// Asks for probes, which carry the oldest data again; the packets themselves stay under way.
static void probe(stoq_conn *c, stoq_level level, uint8_t count)
{
    stoq_space *s = &c->spaces[level];
    unsigned again = 0;
    for (uint64_t at = s->sent_head; at < s->sent_tail && again < count; at++) {
        const stoq_sent *p = slot(s, at);
        if (!p->outstanding || !p->eliciting)
            continue;
        frames_lost(c, level, p);
        again++;
    }
    s->probes = count;
}

uint64_t loss_shrink_us(const stoq_conn *c)
{
    const stoq_space *s = &c->spaces[STOQ_LEVEL_APP];
    if (s->sent_head < s->sent_tail || s->sent_cap <= SENT_FEW)
        return HM_TIME_NEVER;
    return s->last_eliciting_us + SENT_QUIET_US;
}

static void shrink(stoq_conn *c, uint64_t now)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_APP];
    if (loss_shrink_us(c) > now)
        return;
    free(s->sent);
    s->sent = NULL;
    s->sent_cap = 0;
}

void loss_on_timer(stoq_conn *c, uint64_t now)
{
    shrink(c, now);
    stoq_level level = STOQ_LEVEL_INITIAL;
    bool is_pto;
    if (loss_timer_us(c, &level, &is_pto) > now)
        return;
    if (!is_pto) {
        detect(c, level, now);
        conn_wake(c);
        return;
    }
    c->pto_count++;
    CONN_EVENT(c, .type = STOQ_EVENT_METRICS);
    mtu_on_timeout(c);
    probe(c, level, 2);
    // The peer may have keys for one space only (section 6.2.4).
    for (int l = 0; l < STOQ_LEVELS; l++)
        if (l != (int)level && c->spaces[l].eliciting_out > 0)
            probe(c, l, 1);
    // A server that is through with the handshake has no keys for its packets any more. It knows a
    // client whose address changed meanwhile by a 1-RTT packet alone.
    stoq_space *app = &c->spaces[STOQ_LEVEL_APP];
    if (!c->is_server && c->handshake_complete && !c->confirmed && app->probes == 0)
        app->probes = 1;
    // So that the timer moves on even if nothing can be sent.
    c->spaces[level].last_eliciting_us = now;
    conn_wake(c);
}

void loss_take_back(stoq_conn *c, stoq_level level)
{
    stoq_space *s = &c->spaces[level];
    hm_assert(s->sent_tail > s->sent_head);
    stoq_sent *p = slot(s, --s->sent_tail);
    settle(s, p);
    stoq_cc_on_discarded(&c->cc, &p->cc);
}

void loss_send_again(stoq_conn *c, stoq_level level)
{
    stoq_space *s = &c->spaces[level];
    for (uint64_t at = s->sent_head; at < s->sent_tail; at++)
        if (slot(s, at)->outstanding)
            frames_lost(c, level, slot(s, at));
    loss_discard(c, level);
}

void loss_discard(stoq_conn *c, stoq_level level)
{
    stoq_space *s = &c->spaces[level];
    for (uint64_t at = s->sent_head; at < s->sent_tail; at++)
        if (slot(s, at)->outstanding) {
            settle(s, slot(s, at));
            stoq_cc_on_discarded(&c->cc, &slot(s, at)->cc);
        }
    free(s->sent);
    s->sent = NULL;
    s->sent_cap = 0;
    s->sent_head = s->sent_tail = 0;
    s->loss_time_us = 0;
    s->probes = 0;
    c->pto_count = 0;
}
