// Building packets: straight into the batch that one system call sends.
#include "stoq/conn.h"
#include "stoq/endpoint.h"

#define PN_MAX 4
#define BATCH_PACKETS 48

// One packet in the making.
typedef struct maker {
    stoq_conn *c;
    stoq_level level;
    stoq_sent *sent;
    uint8_t *start, *payload, *p, *end; // end leaves room for the tag
    uint8_t *length_at;                 // long headers
    hm_bytes tail;                      // the last bytes before p, which are not there yet
    size_t pn_len;
    bool quiet; // nothing that asks for an answer
    bool eliciting, padded;
} maker;

static void note(maker *m, uint8_t type, uint64_t id)
{
    m->sent->frames[m->sent->frame_count++] = (stoq_sent_frame){.type = type, .id = id};
}

static bool can_note(const maker *m, size_t bytes)
{
    return m->sent->frame_count < STOQ_SENT_FRAMES && (size_t)(m->end - m->p) >= bytes;
}

// ---- frames -------------------------------------------------------------------------------------

static void write_ack(maker *m, uint64_t now)
{
    stoq_space *s = &m->c->spaces[m->level];
    const stoq_ranges *r = &s->received;
    if (r->count == 0 || (size_t)(m->end - m->p) < 64)
        return;
    bool ecn = s->ecn[0] + s->ecn[1] + s->ecn[2] > 0;
    uint64_t delay = now > s->largest_time_us ? now - s->largest_time_us : 0;
    // Ranges that fit: each takes at most 16 bytes; the newest matter most.
    uint32_t count = r->count, room = (uint32_t)((m->end - m->p - 60) / 16);
    if (count > room + 1)
        count = room + 1;
    if (count > 24)
        count = 24;
    uint8_t *p = m->p;
    *p++ = ecn ? STOQ_FRAME_ACK_ECN : STOQ_FRAME_ACK;
    p = stoq_varint_write(p, r->at[0].hi);
    p = stoq_varint_write(p, m->level == STOQ_LEVEL_APP ? delay >> 3 : 0);
    p = stoq_varint_write(p, count - 1);
    p = stoq_varint_write(p, r->at[0].hi - r->at[0].lo);
    for (uint32_t i = 1; i < count; i++) {
        p = stoq_varint_write(p, r->at[i - 1].lo - r->at[i].hi - 2);
        p = stoq_varint_write(p, r->at[i].hi - r->at[i].lo);
    }
    for (int i = 0; ecn && i < 3; i++)
        p = stoq_varint_write(p, s->ecn[i]);
    m->p = p;
    if (m->level == STOQ_LEVEL_APP) {
        m->c->rx_phase_acked |= r->at[0].hi >= m->c->rx_phase_first_pn;
        m->c->acks.told_largest = r->at[0].hi;
        m->c->acks.strays = 0;
    }
    s->unacked = 0;
    s->ack_now = false;
    s->ack_deadline_us = 0;
}

static void write_crypto(maker *m)
{
    stoq_sendbuf *b = &m->c->spaces[m->level].crypto_out;
    for (;;) {
        uint64_t offset;
        size_t len, room = (size_t)(m->end - m->p);
        if (!can_note(m, 16))
            return;
        stoq_sendbuf_next(b, UINT64_MAX, room - 12, &offset, &len);
        if (len == 0)
            return;
        m->p = stoq_frame_write1(m->p, STOQ_FRAME_CRYPTO, offset);
        m->p = stoq_varint_write(m->p, len);
        stoq_sendbuf_take(b, offset, len, m->p);
        m->p += len;
        m->sent->frames[m->sent->frame_count++] =
            (stoq_sent_frame){.type = STOQ_FRAME_CRYPTO, .offset = offset, .len = (uint32_t)len};
        m->eliciting = true;
    }
}

static void write_new_cids(maker *m)
{
    stoq_conn *c = m->c;
    unsigned i = 0;
    for (; c->ids_to_send && i < STOQ_CIDS_MAX && can_note(m, 50); i++) {
        stoq_local_cid *l = &c->local[i];
        if (!l->active || !l->to_send)
            continue;
        l->to_send = false;
        m->p = stoq_frame_write2(m->p, STOQ_FRAME_NEW_CONNECTION_ID, l->seq, 0);
        *m->p++ = l->cid.len;
        memcpy(m->p, l->cid.id, l->cid.len);
        m->p += l->cid.len;
        endpoint_reset_token(c->ep, &l->cid, m->p);
        m->p += STOQ_RESET_TOKEN;
        note(m, STOQ_FRAME_NEW_CONNECTION_ID, l->seq);
        m->eliciting = true;
    }
    if (i == STOQ_CIDS_MAX)
        c->ids_to_send = false;
    while (c->retire_count > 0 && can_note(m, 10)) {
        uint64_t seq = c->retire[--c->retire_count];
        m->p = stoq_frame_write1(m->p, STOQ_FRAME_RETIRE_CONNECTION_ID, seq);
        note(m, STOQ_FRAME_RETIRE_CONNECTION_ID, seq);
        m->eliciting = true;
    }
}

static void write_path(maker *m)
{
    stoq_conn *c = m->c;
    while (c->response_count > 0 && m->end - m->p >= 9) {
        *m->p++ = STOQ_FRAME_PATH_RESPONSE;
        memcpy(m->p, c->responses[--c->response_count], 8);
        m->p += 8;
        m->eliciting = m->padded = true;
    }
    if (c->challenge_pending && m->end - m->p >= 9) {
        c->challenge_pending = false;
        *m->p++ = STOQ_FRAME_PATH_CHALLENGE;
        memcpy(m->p, c->challenge, 8);
        m->p += 8;
        m->eliciting = m->padded = true;
    }
}

static void write_limits(maker *m)
{
    stoq_conn *c = m->c;
    if (!(c->acks.pending | c->max_data_pending | c->max_streams_pending[0] |
          c->max_streams_pending[1]))
        return; // as for all packets but a few
    if (c->acks.pending && can_note(m, STOQ_ACK_FREQUENCY_BYTES)) {
        note(m, STOQ_FRAME_ACK_FREQUENCY, c->acks.seq);
        m->p = ack_write_frequency(c, m->p);
        m->eliciting = true;
    }
    if (c->max_data_pending && can_note(m, 10)) {
        c->max_data_pending = false;
        m->p = stoq_frame_write1(m->p, STOQ_FRAME_MAX_DATA, c->rx.max);
        note(m, STOQ_FRAME_MAX_DATA, 0);
        m->eliciting = true;
    }
    for (int uni = 0; uni < 2; uni++) {
        uint8_t type = uni ? STOQ_FRAME_MAX_STREAMS_UNI : STOQ_FRAME_MAX_STREAMS_BIDI;
        if (!c->max_streams_pending[uni] || !can_note(m, 10))
            continue;
        c->max_streams_pending[uni] = false;
        m->p = stoq_frame_write1(m->p, type, c->peer_streams_limit[uni]);
        note(m, type, 0);
        m->eliciting = true;
    }
}

static void write_app(maker *m)
{
    stoq_conn *c = m->c;
    if (c->done_pending && can_note(m, 1)) {
        c->done_pending = false;
        *m->p++ = STOQ_FRAME_HANDSHAKE_DONE;
        note(m, STOQ_FRAME_HANDSHAKE_DONE, 0);
        m->eliciting = true;
    }
    write_path(m);
    write_limits(m);
    write_new_cids(m);
    if (!conn_usable(c))
        return;
    if (c->handshake_complete)
        m->p = datagrams_write(c, m->p, m->end, &m->eliciting);
    m->p = streams_write(c, m->p, m->end, m->sent, &m->tail, &m->eliciting);
}

static void write_close(maker *m)
{
    stoq_conn *c = m->c;
    bool app = c->close_app && m->level == STOQ_LEVEL_APP;
    // What an application says is not for a peer that is not known yet (section 10.2.3).
    uint64_t code = c->close_app && !app ? STOQ_APPLICATION_ERROR : c->close_code;
    size_t len = c->close_app && !app ? 0 : c->close_reason_len;
    *m->p++ = app ? STOQ_FRAME_CLOSE_APP : STOQ_FRAME_CLOSE;
    m->p = stoq_varint_write(m->p, code);
    if (!app)
        m->p = stoq_varint_write(m->p, c->close_frame);
    size_t room = (size_t)(m->end - m->p) - 4;
    if (len > room)
        len = room;
    m->p = stoq_varint_write(m->p, len);
    memcpy(m->p, c->close_reason, len);
    m->p += len;
}

// ---- packets ------------------------------------------------------------------------------------

// A level of the handshake with nothing under way may always send a packet: application data that
// wait for the end of the handshake may fill the window, and then nothing else makes room for it.
static bool may_send_data(const stoq_space *s, stoq_level level, bool data_allowed)
{
    return data_allowed || (level != STOQ_LEVEL_APP && s->eliciting_out == 0);
}

// Answers about paths do not wait for the congestion window, so that a new path is known soon; a
// peer that asks without end and acknowledges nothing gets one window of them.
static bool may_send_path(const stoq_conn *c)
{
    return c->cc.in_flight < 2 * c->cc.cwnd;
}

static bool level_has_work(const stoq_conn *c, stoq_level level, bool data_allowed, uint64_t now)
{
    const stoq_space *s = &c->spaces[level];
    data_allowed = may_send_data(s, level, data_allowed);
    if (s->discarded || !stoq_keys_ready(&s->tx))
        return false;
    if (c->state == STOQ_CONN_CLOSING)
        return c->close_pending;
    if (s->ack_now || (s->ack_deadline_us != 0 && s->ack_deadline_us <= now) || s->probes > 0)
        return true;
    if (!data_allowed)
        return level == STOQ_LEVEL_APP && (c->response_count > 0 || c->challenge_pending) &&
               may_send_path(c);
    uint64_t offset;
    size_t len;
    stoq_sendbuf_next(&s->crypto_out, UINT64_MAX, 1, &offset, &len);
    if (len > 0)
        return true;
    if (level != STOQ_LEVEL_APP)
        return false;
    return c->ids_to_send || c->retire_count > 0 || c->done_pending || c->response_count > 0 ||
           c->challenge_pending || c->ping_pending || c->max_data_pending ||
           c->max_streams_pending[0] || c->max_streams_pending[1] ||
           (c->handshake_complete && !hm_list_empty(&c->datagrams)) ||
           (conn_usable(c) && streams_pending(c));
}

static bool begin(maker *m, stoq_conn *c, stoq_level level, uint8_t *at, uint8_t *limit)
{
    stoq_space *s = &c->spaces[level];
    *m = (maker){.c = c, .level = level, .start = at};
    m->sent = loss_record(c, level);
    if (m->sent == NULL)
        return false;
    m->pn_len = stoq_pn_length(s->next_pn, s->largest_acked);
    const stoq_cid *dcid = conn_dcid(c);
    uint8_t *pn_at;
    if (level == STOQ_LEVEL_APP && !c->early_tx) {
        if (limit - at < 1 + dcid->len + PN_MAX + 16 + STOQ_AEAD_TAG)
            return false;
        pn_at = stoq_short_header_write(at, dcid, c->phase_tx, m->pn_len);
    } else {
        stoq_packet_type type = level == STOQ_LEVEL_INITIAL ? STOQ_PACKET_INITIAL
                                : level == STOQ_LEVEL_APP   ? STOQ_PACKET_0RTT
                                                            : STOQ_PACKET_HANDSHAKE;
        hm_bytes token = level == STOQ_LEVEL_INITIAL ? hm_buf_bytes(&c->token) : (hm_bytes){0};
        size_t header = stoq_long_header_size(type, dcid, &c->local[0].cid, token.len);
        if ((size_t)(limit - at) < header + PN_MAX + 64 + STOQ_AEAD_TAG)
            return false;
        pn_at =
            stoq_long_header_write(at, type == STOQ_PACKET_0RTT ? c->original : c->version, type,
                                   dcid, &c->local[0].cid, token, m->pn_len, &m->length_at);
    }
    m->payload = m->p = stoq_pn_write(pn_at, s->next_pn, m->pn_len);
    m->end = limit - STOQ_AEAD_TAG;
    return true;
}

static void fill(maker *m, bool data_allowed, uint64_t now)
{
    stoq_conn *c = m->c;
    stoq_space *s = &c->spaces[m->level];
    if (c->state == STOQ_CONN_CLOSING) {
        write_close(m);
        return;
    }
    bool probe = s->probes > 0;
    if (s->ack_now || s->ack_deadline_us != 0 || s->unacked > 0)
        write_ack(m, now);
    if (m->quiet)
        return;
    if (may_send_data(s, m->level, data_allowed) || probe) {
        write_crypto(m);
        if (m->level == STOQ_LEVEL_APP)
            write_app(m);
    } else if (m->level == STOQ_LEVEL_APP && may_send_path(c)) {
        write_path(m);
    }
    if (!m->eliciting && (probe || (m->level == STOQ_LEVEL_APP && c->ping_pending)) &&
        m->p < m->end) {
        *m->p++ = STOQ_FRAME_PING;
        m->eliciting = true;
    }
    if (m->level == STOQ_LEVEL_APP && m->eliciting) {
        c->ping_pending = false;
        // A packet that is not full is the last one for now: its acknowledgement need not wait.
        if (m->p < m->end && c->acks.asked_threshold > 1)
            *m->p++ = STOQ_FRAME_IMMEDIATE_ACK;
    }
    if (probe && m->eliciting)
        s->probes--;
}

static void tell_sent(const maker *m, size_t len)
{
    static const stoq_packet_type types[] = {STOQ_PACKET_INITIAL, STOQ_PACKET_HANDSHAKE,
                                             STOQ_PACKET_1RTT};
    const stoq_conn *c = m->c;
    CONN_EVENT(c, .type = STOQ_EVENT_SENT,
               .packet =
                   m->level == STOQ_LEVEL_APP && c->early_tx ? STOQ_PACKET_0RTT : types[m->level],
               .number = c->spaces[m->level].next_pn, .length = len, .probe = m->sent->mtu_probe,
               .frames = hm_bytes_of(m->payload, (size_t)(m->p - m->payload)), .dcid = conn_dcid(c),
               .scid = &c->local[0].cid);
}

// Ends the packet: padding up to the wanted end of the datagram, header fields, bookkeeping.
static void finish(maker *m, uint8_t *pad_to, uint64_t now, stoq_seal *seal)
{
    stoq_conn *c = m->c;
    stoq_space *s = &c->spaces[m->level];
    uint8_t *least = m->payload + (m->pn_len < 4 ? 4 - m->pn_len : 0); // header protection samples
    bool padding = false;
    if (pad_to != NULL && pad_to - STOQ_AEAD_TAG > least)
        least = pad_to - STOQ_AEAD_TAG;
    if (m->p < least) {
        hm_assert(m->tail.len == 0); // what reaches the end leaves nothing to pad
        memset(m->p, 0, (size_t)(least - m->p));
        m->p = least;
        padding = true;
    }
    size_t len = (size_t)(m->p - m->start) + STOQ_AEAD_TAG;
    if (m->length_at != NULL)
        stoq_long_header_set_length(m->length_at,
                                    (size_t)(m->p - m->payload) + m->pn_len + STOQ_AEAD_TAG);
    *seal = (stoq_seal){.packet = m->start,
                        .header_len = (uint32_t)(m->payload - m->start),
                        .payload_len = (uint32_t)(m->p - m->payload),
                        .tail = m->tail,
                        .pn = s->next_pn,
                        .pn_len = (uint8_t)m->pn_len};
    m->sent->eliciting = m->eliciting;
    stoq_ecn_on_sent(&c->ecn, &s->ecn_sent, c->ecn_mark);
    if (m->eliciting || padding) { // acknowledgements alone are neither counted nor paced
        loss_record_keep(c, m->level);
        stoq_cc_on_sent(&c->cc, &m->sent->cc, (uint32_t)len, c->ecn_mark != 0, now);
    }
    if (c->log != NULL)
        tell_sent(m, len);
    loss_next_pn(c, m->level);
    if (m->eliciting) {
        if (s->eliciting_out == 0 && c->handshake_complete)
            conn_touch_idle(c, now); // RFC 9000, section 10.1
        s->eliciting_out++;
        s->last_eliciting_us = now;
    }
    c->stats.packets_sent++;
}

static bool seal_now(stoq_conn *c, stoq_level level, const stoq_seal *seals, size_t count)
{
    if (count == 0)
        return true;
    stoq_space *s = &c->spaces[level];
    if (s->tx.aead.packets + count > stoq_cipher_seal_limit(s->tx.cipher)) {
        conn_drain(c, STOQ_AEAD_LIMIT_REACHED, false, hm_bytes_str("the keys are worn out"));
        return false;
    }
    hm_err err = stoq_seal_batch(&s->tx, seals, count);
    if (err == HM_OK && s->tx.aead.packets >= stoq_cipher_seal_limit(s->tx.cipher) / 2 &&
        level == STOQ_LEVEL_APP && conn_keys_acked(c))
        err = stoq_conn_update_keys(c);
    if (err == HM_OK || err == HM_E_AGAIN)
        return true;
    conn_drain(c, STOQ_INTERNAL_ERROR, false, hm_bytes_str("encryption failed"));
    return false;
}

// ---- datagrams ----------------------------------------------------------------------------------

// One datagram of the handshake: packets of several levels together.
static size_t build_coalesced(stoq_conn *c, uint8_t *out, size_t cap, bool data_allowed,
                              uint64_t now)
{
    uint8_t *p = out, *limit = out + cap;
    int last = -1;
    bool initial = false;
    for (int l = 0; l < STOQ_LEVELS; l++)
        if (level_has_work(c, l, data_allowed, now))
            last = l;
    for (int l = 0; l <= last; l++) {
        if (!level_has_work(c, l, data_allowed, now))
            continue;
        maker m;
        if (!begin(&m, c, l, p, limit))
            break;
        // A server's Initial that asks for an answer needs a full-sized datagram (section 14.1):
        // when only less may go to an address that is not proven, it waits.
        m.quiet = l == STOQ_LEVEL_INITIAL && c->is_server && cap < STOQ_MIN_INITIAL;
        fill(&m, data_allowed, now);
        if (m.p == m.payload)
            continue;
        // A datagram with an Initial that asks for an answer is full-sized, and so is every one of
        // a client's (section 14.1); the last packet takes the padding.
        initial |= l == STOQ_LEVEL_INITIAL && (!c->is_server || m.eliciting);
        bool more = false;
        for (int k = l + 1; k <= last; k++)
            more |= level_has_work(c, k, data_allowed, now) && limit - m.p > 200;
        bool pad = (initial || m.padded) && !more;
        uint8_t *pad_to = pad && cap >= STOQ_MIN_INITIAL ? out + STOQ_MIN_INITIAL : NULL;
        stoq_seal seal;
        finish(&m, pad_to, now, &seal);
        if (!seal_now(c, l, &seal, 1))
            return 0;
        p = m.p + STOQ_AEAD_TAG;
        // The client's first Handshake packet ends the Initial keys (RFC 9001, section 4.9.1).
        if (!c->is_server && l == STOQ_LEVEL_HANDSHAKE)
            conn_discard_space(c, STOQ_LEVEL_INITIAL);
    }
    if (c->state == STOQ_CONN_CLOSING && p > out)
        c->close_pending = false; // at as many levels as there was room for
    return (size_t)(p - out);
}

// Many packets of the application's data, sealed in one batch.
static size_t build_batch(stoq_conn *c, uint8_t *out, size_t cap, uint64_t allowed, uint64_t now,
                          size_t *segment)
{
    stoq_seal seals[BATCH_PACKETS];
    size_t count = 0, total = 0, mss = c->mtu;
    *segment = mss;
    while (count < BATCH_PACKETS && cap - total >= mss) {
        bool data = total + mss <= allowed;
        if (count == 0 ? !level_has_work(c, STOQ_LEVEL_APP, data, now) : !data)
            break;
        maker m;
        if (!begin(&m, c, STOQ_LEVEL_APP, out + total, out + total + mss))
            break;
        fill(&m, data, now);
        if (m.p == m.payload)
            break;
        bool full = m.end - m.p < 64;
        // Segments must be equal: a nearly full packet is filled up, a short one ends the batch.
        bool more = full && count + 1 < BATCH_PACKETS;
        uint8_t *pad = m.padded || more ? out + total + (more ? mss : STOQ_MIN_INITIAL) : NULL;
        if (pad > out + total + mss)
            pad = out + total + mss;
        finish(&m, pad, now, &seals[count++]);
        size_t len = (size_t)(m.p - m.start) + STOQ_AEAD_TAG;
        total += len;
        if (len < mss) {
            if (count == 1)
                *segment = len;
            break;
        }
    }
    return seal_now(c, STOQ_LEVEL_APP, seals, count) ? total : 0;
}

// A datagram of the length that is to be tried, with nothing in it that would be missed.
static size_t build_probe(stoq_conn *c, uint8_t *out, size_t size, uint64_t now)
{
    maker m;
    stoq_seal seal;
    if (!begin(&m, c, STOQ_LEVEL_APP, out, out + size))
        return 0;
    *m.p++ = STOQ_FRAME_PING;
    m.eliciting = true;
    m.sent->mtu_probe = true;
    c->mtu_probe_pn = c->spaces[STOQ_LEVEL_APP].next_pn;
    finish(&m, out + size, now, &seal);
    c->mtu_probe = (uint16_t)size;
    return seal_now(c, STOQ_LEVEL_APP, &seal, 1) ? size : 0;
}

// The loss of such a packet says nothing of the path in use, as that of a probe.
size_t conn_send_path(stoq_conn *c, unsigned remote, uint8_t *out, size_t room, uint64_t now)
{
    maker m;
    stoq_seal seal;
    unsigned in_use = c->remote_at;
    c->remote_at = remote;
    bool begun = begin(&m, c, STOQ_LEVEL_APP, out, out + room);
    c->remote_at = in_use;
    if (!begun || !may_send_path(c))
        return 0;
    if (c->other->response_pending) {
        *m.p++ = STOQ_FRAME_PATH_RESPONSE;
        memcpy(m.p, c->other->response, 8);
        m.p += 8;
    }
    if (c->other->challenge_pending && room >= STOQ_MIN_INITIAL) {
        *m.p++ = STOQ_FRAME_PATH_CHALLENGE;
        memcpy(m.p, c->other->challenge, 8);
        m.p += 8;
        c->other->challenge_pending = false;
    }
    c->other->response_pending = false;
    m.eliciting = m.sent->mtu_probe = true;
    c->ecn_mark = 0;
    finish(&m, out + room, now, &seal);
    c->stats.bytes_sent += room;
    return seal_now(c, STOQ_LEVEL_APP, &seal, 1) ? room : 0;
}

// ---- how much may be sent -----------------------------------------------------------------------

static bool amp_allows(const stoq_conn *c, size_t bytes)
{
    return c->address_validated || c->amp_sent + bytes <= 3 * c->amp_received;
}

size_t conn_send(stoq_conn *c, uint8_t *out, size_t cap, uint64_t now, size_t *segment)
{
    if (c->state >= STOQ_CONN_DRAINING)
        return 0;
    size_t mss = c->mtu, total = 0;
    bool paced = false;
    uint64_t allowed = stoq_cc_allowance(&c->cc, now, &paced);
    c->ecn_mark = stoq_ecn_mark(&c->ecn, c->pto_count > 0);
    bool handshake = !c->spaces[STOQ_LEVEL_INITIAL].discarded ||
                     !c->spaces[STOQ_LEVEL_HANDSHAKE].discarded || c->state == STOQ_CONN_CLOSING ||
                     !c->address_validated;
    c->pace_wait_us = 0;
    size_t probe = handshake ? 0 : mtu_probe_due(c, allowed < cap ? allowed : cap, now);
    if (probe > 0) {
        total = *segment = build_probe(c, out, probe, now);
    } else if (handshake) {
        size_t room = mss;
        if (!c->address_validated && 3 * c->amp_received - c->amp_sent < room)
            room = (size_t)(3 * c->amp_received - c->amp_sent);
        if (room < 64 || !amp_allows(c, room))
            return 0;
        *segment = mss;
        total = build_coalesced(c, out, room < cap ? room : cap, allowed >= mss, now);
        *segment = total;
    } else {
        total = build_batch(c, out, cap, allowed, now, segment);
    }
    bool waits = false;
    for (int l = 0; l < STOQ_LEVELS; l++)
        waits |= level_has_work(c, l, true, now);
    stoq_cc_sent_all(&c->cc, waits);
    if (total == 0 && paced && waits)
        c->pace_wait_us = stoq_cc_next_us(&c->cc, now);
    c->amp_sent += c->address_validated ? 0 : total;
    c->stats.bytes_sent += total;
    return total;
}
