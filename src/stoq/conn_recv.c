// Taking packets apart: keys, duplicates, frames.
#include "stoq/endpoint.h"

#define CLOSE_EVERY 8u // packets of the peer that make us say CONNECTION_CLOSE again

// The datagram that a packet came in.
typedef struct arrival {
    const struct sockaddr_in6 *from;
    size_t len;
    uint8_t ecn;
    uint64_t now;
} arrival;

static stoq_level level_of(stoq_packet_type t)
{
    return t == STOQ_PACKET_INITIAL     ? STOQ_LEVEL_INITIAL
           : t == STOQ_PACKET_HANDSHAKE ? STOQ_LEVEL_HANDSHAKE
                                        : STOQ_LEVEL_APP;
}

// ---- frames -------------------------------------------------------------------------------------

static hm_err violation(uint64_t *code, uint64_t what, const char *why)
{
    *code = what;
    return hm_fail(HM_E_STOQ_TRANSPORT, "%s", why);
}

static hm_err on_crypto(stoq_conn *c, stoq_level level, const stoq_frame *f, uint64_t *code)
{
    stoq_recvbuf *b = &c->spaces[level].crypto_in;
    if (c->spaces[level].discarded)
        return HM_OK; // by a frame before this one
    if (level < c->tls.read_level && f->offset + f->data.len > b->ready) // RFC 9001, section 4.1.3
        return violation(code, STOQ_PROTOCOL_VIOLATION, "more handshake bytes of a level before");
    hm_err err = stoq_recvbuf_write(b, f->offset, f->data, NULL);
    if (err == HM_E_LIMIT)
        return violation(code, STOQ_CRYPTO_BUFFER_EXCEEDED, "too many handshake bytes");
    HM_TRY(err);
    conn_tls_advance(c);
    return HM_OK;
}

static hm_err on_frame(stoq_conn *c, stoq_level level, const stoq_frame *f, size_t frame_bytes,
                       const stoq_cid *dcid, uint64_t now, uint64_t *code)
{
    switch (f->type) {
    case STOQ_FRAME_PADDING:
    case STOQ_FRAME_PING:
    case STOQ_FRAME_DATA_BLOCKED:
    case STOQ_FRAME_STREAMS_BLOCKED_BIDI:
    case STOQ_FRAME_STREAMS_BLOCKED_UNI:
        return HM_OK;
    case STOQ_FRAME_NEW_TOKEN:
        return c->is_server ? violation(code, STOQ_PROTOCOL_VIOLATION, "NEW_TOKEN of a client")
                            : HM_OK; // not kept: every connection proves its address anew
    case STOQ_FRAME_ACK:
    case STOQ_FRAME_ACK_ECN:
        return loss_on_ack(c, level, f, now, code);
    case STOQ_FRAME_CRYPTO:
        return on_crypto(c, level, f, code);
    case STOQ_FRAME_MAX_DATA:
        if (f->value > c->tx_max) {
            bool blocked = c->tx_used == c->tx_max;
            c->tx_max = f->value;
            if (blocked)
                streams_unblock(c);
        }
        return HM_OK;
    case STOQ_FRAME_MAX_STREAMS_BIDI:
    case STOQ_FRAME_MAX_STREAMS_UNI: {
        uint64_t *allowed = &c->streams_allowed[f->type == STOQ_FRAME_MAX_STREAMS_UNI];
        if (f->value > *allowed)
            *allowed = f->value;
        if (c->early == STOQ_EARLY_REJECTED)
            streams_unblock(c);
        return HM_OK;
    }
    case STOQ_FRAME_NEW_CONNECTION_ID:
    case STOQ_FRAME_RETIRE_CONNECTION_ID:
    case STOQ_FRAME_PATH_CHALLENGE:
    case STOQ_FRAME_PATH_RESPONSE:
        return path_on_frame(c, f, dcid, code);
    case STOQ_FRAME_CLOSE:
    case STOQ_FRAME_CLOSE_APP:
        conn_drain(c, f->code, f->type == STOQ_FRAME_CLOSE_APP, f->data);
        return HM_OK;
    case STOQ_FRAME_DATAGRAM:
    case STOQ_FRAME_DATAGRAM_LEN:
        return datagram_on_frame(c, f, frame_bytes, code);
    case STOQ_FRAME_ACK_FREQUENCY:
        return ack_on_frequency(c, f, code);
    case STOQ_FRAME_IMMEDIATE_ACK:
        c->spaces[STOQ_LEVEL_APP].ack_now = true;
        conn_wake(c);
        return HM_OK;
    case STOQ_FRAME_HANDSHAKE_DONE:
        if (c->is_server)
            return violation(code, STOQ_PROTOCOL_VIOLATION, "HANDSHAKE_DONE of a client");
        conn_confirmed(c);
        return HM_OK;
    default:
        return stream_on_frame(c, f, code);
    }
}

// All frames of an opened packet. eliciting and probing tell what kind it was.
static bool on_payload(stoq_conn *c, const stoq_packet *pkt, stoq_level level, hm_bytes payload,
                       uint64_t now, bool *eliciting, bool *probing)
{
    const uint8_t *p = payload.ptr, *end = p + payload.len;
    uint64_t code = STOQ_INTERNAL_ERROR;
    *eliciting = false;
    *probing = true;
    if (payload.len == 0) {
        conn_fail(c, STOQ_PROTOCOL_VIOLATION, 0, "a packet without frames");
        return false;
    }
    while (p < end && c->state <= STOQ_CONN_OPEN) {
        stoq_frame f;
        const uint8_t *start = p;
        hm_err err = stoq_frame_parse(&p, end, &f, &code);
        if (err == HM_OK && !stoq_frame_allowed(f.type, pkt->type))
            err = violation(&code, STOQ_PROTOCOL_VIOLATION, "a frame in the wrong kind of packet");
        if (err == HM_OK) {
            *eliciting |= stoq_frame_elicits_ack(f.type);
            *probing &= stoq_frame_is_probing(f.type);
            err = on_frame(c, level, &f, (size_t)(p - start), &pkt->dcid, now, &code);
        }
        if (err == HM_E_STOQ_DROPPED)
            return false; // not acknowledged: as if it had been lost
        if (err != HM_OK) {
            conn_fail(c, err == HM_E_STOQ_TRANSPORT ? code : STOQ_INTERNAL_ERROR, f.type,
                      hm_err_detail());
            return false;
        }
    }
    return true;
}

// ---- packets ------------------------------------------------------------------------------------

// Opens a 1-RTT packet in this key phase, the one before, or the next (RFC 9001, section 6).
static bool try_app(stoq_conn *c, stoq_open *o, bool phase, uint64_t now)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_APP];
    if (phase == c->phase_rx) {
        stoq_open_batch(&s->rx.aead, o, 1);
        return o->ok;
    }
    if (c->rx_old.key != NULL && o->pn < c->rx_phase_first_pn) {
        if (now > c->rx_old_until_us)
            return false;
        stoq_open_batch(&c->rx_old, o, 1);
        return o->ok;
    }
    if (!c->has_rx_next)
        return false;
    stoq_open_batch(&c->rx_next, o, 1);
    if (!o->ok)
        return false;
    // A peer that begins an update has an acknowledgement of the phase before; one that follows
    // ours needs none.
    bool follow = c->phase_tx == c->phase_rx;
    if (follow && c->rx_old.key != NULL && !c->rx_phase_acked) {
        conn_fail(c, STOQ_KEY_UPDATE_ERROR, 0, "keys changed twice without an acknowledgement");
        return false;
    }
    stoq_aead_free(&c->rx_old);
    stoq_aead_free(&c->rx_next);
    c->has_rx_next = false;
    if (stoq_keys_update(&s->rx, &c->rx_old) != HM_OK ||
        (follow && stoq_keys_update(&s->tx, NULL) != HM_OK) || conn_prepare_rx_next(c) != HM_OK) {
        conn_fail(c, STOQ_INTERNAL_ERROR, 0, "key update failed");
        return false;
    }
    c->phase_rx = !c->phase_rx;
    c->rx_phase_acked = false;
    if (follow) {
        c->phase_tx = c->phase_rx;
        c->tx_phase_first_pn = s->next_pn;
    }
    c->key_updates++;
    for (int local = 0; local <= follow; local++)
        CONN_EVENT(c, .type = STOQ_EVENT_KEYS, .local = local, .packet = STOQ_PACKET_1RTT,
                   .phase = c->key_updates, .why = follow ? "remote_update" : "local_update");
    c->rx_phase_first_pn = o->pn;
    c->rx_old_until_us = now + 3 * conn_pto_us(c, STOQ_LEVEL_APP);
    return true;
}

// A 1-RTT packet did not open. So many forgeries that one may pass next (section 6.6): nothing
// more is said, to anybody.
static void forged(stoq_conn *c)
{
    if (++c->forged_packets >= stoq_cipher_open_limit(c->spaces[STOQ_LEVEL_APP].rx.cipher))
        conn_drain(c, STOQ_AEAD_LIMIT_REACHED, false, hm_bytes_str("too many forged packets"));
}

// Of a 1-RTT packet that asks for an acknowledgement. When few are sent, only the first of packets
// that are marked one after another counts (draft-ietf-quic-ack-frequency, section 6.4).
static bool is_ack_due(stoq_conn *c, uint64_t pn, bool in_order, bool ce)
{
    stoq_acks *a = &c->acks;
    bool marked = ce && (a->threshold <= 1 || !a->ce);
    a->ce = ce;
    return marked || c->spaces[STOQ_LEVEL_APP].unacked > a->threshold ||
           ((!in_order || a->gap) && ack_out_of_order(c, pn, in_order));
}

static void note_received(stoq_conn *c, stoq_level level, uint64_t pn, bool eliciting, uint8_t ecn,
                          uint64_t now)
{
    stoq_space *s = &c->spaces[level];
    bool in_order = s->largest_received == UINT64_MAX || pn == s->largest_received + 1;
    stoq_ranges_add(&s->received, pn);
    if (s->largest_received == UINT64_MAX || pn > s->largest_received) {
        s->largest_received = pn;
        s->largest_time_us = now;
    }
    if (ecn != 0)
        s->ecn[ecn == 2 ? 0 : ecn == 1 ? 1 : 2]++;
    if (!eliciting)
        return;
    s->unacked++;
    if (level != STOQ_LEVEL_APP || is_ack_due(c, pn, in_order, ecn == 3)) {
        s->ack_now = true;
        conn_wake(c);
    } else if (s->ack_deadline_us == 0) {
        s->ack_deadline_us = now + c->acks.delay_us;
    }
}

// What can be said of a packet by its header alone.
static bool is_welcome(const stoq_conn *c, const stoq_packet *pkt, size_t datagram)
{
    if (pkt->type == STOQ_PACKET_1RTT)
        return true;
    if (pkt->type == STOQ_PACKET_0RTT && !c->is_server)
        return false;
    if (pkt->type == STOQ_PACKET_INITIAL &&
        (c->is_server ? datagram < STOQ_MIN_INITIAL : pkt->token.len > 0))
        return false; // sections 14.1 and 17.2.2
    // The first packet tells the peer's id, which stays (section 7.2).
    return !c->has_peer_scid || stoq_cid_eq(&pkt->scid, &c->peer_initial_scid);
}

static void learn_scid(stoq_conn *c, const stoq_packet *pkt)
{
    if (c->has_peer_scid || pkt->type == STOQ_PACKET_1RTT)
        return;
    c->has_peer_scid = true;
    c->peer_initial_scid = pkt->scid;
    c->remote[0] = (stoq_peer_cid){.cid = pkt->scid, .active = true};
}

static void on_retry(stoq_conn *c, const stoq_packet *pkt, const uint8_t *bytes)
{
    uint8_t tag[STOQ_RETRY_TAG];
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    if (c->is_server || c->has_retry || c->has_peer_scid || pkt->token.len == 0 ||
        pkt->version != c->version->number || stoq_cid_eq(&pkt->scid, &c->initial_dcid))
        return;
    if (stoq_retry_tag(c->version, &c->initial_dcid, hm_bytes_of(bytes, pkt->len - STOQ_RETRY_TAG),
                       tag) != HM_OK ||
        !hm_equal_ct(tag, bytes + pkt->len - STOQ_RETRY_TAG, STOQ_RETRY_TAG))
        return;
    hm_buf_reset(&c->token);
    hm_buf_put(&c->token, pkt->token);
    c->has_retry = true;
    c->retry_scid = c->initial_dcid = pkt->scid;
    c->remote[0].cid = pkt->scid;
    stoq_keys_free(&s->rx);
    stoq_keys_free(&s->tx);
    if (stoq_keys_init_initial(&s->tx, &s->rx, c->version, &c->initial_dcid) != HM_OK) {
        conn_fail(c, STOQ_INTERNAL_ERROR, 0, "keys after Retry");
        return;
    }
    // What was sent is sent again under the new keys; packet numbers go on.
    loss_discard(c, STOQ_LEVEL_INITIAL);
    stoq_sendbuf_on_lost(&s->crypto_out, 0, (size_t)s->crypto_out.next);
    if (c->early_tx)
        loss_send_again(c, STOQ_LEVEL_APP);
    conn_wake(c);
}

static bool is_from_peer(const stoq_conn *c, const struct sockaddr_in6 *from)
{
    return c->is_server || conn_same_address(from, &c->peer) ||
           (c->other != NULL && conn_same_address(from, &c->other->to));
}

bool conn_take_reset(stoq_conn *c, const struct sockaddr_in6 *from, const uint8_t *bytes,
                     size_t len)
{
    if (len < STOQ_RESET_MIN || !c->watching || !conn_same_address(from, &c->peer) ||
        !hm_equal_ct(c->watched, bytes + len - STOQ_RESET_TOKEN, STOQ_RESET_TOKEN))
        return false;
    conn_drain(c, STOQ_CLOSED_RESET, false, hm_bytes_str("stateless reset"));
    return true;
}

// What has come counts, whatever it is.
static void count_arrival(stoq_conn *c, const struct sockaddr_in6 *from, size_t len)
{
    c->stats.bytes_received += len;
    if (!c->address_validated && conn_same_address(from, &c->peer)) {
        c->amp_received += len;
        conn_wake(c); // what was held back may go now
    }
}

static void drop(stoq_conn *c, const stoq_packet *pkt, size_t len, const char *why)
{
    c->stats.packets_dropped++;
    CONN_EVENT(c, .type = STOQ_EVENT_DROPPED, .packet = pkt->type, .length = len, .why = why);
}

// Where a packet came from, with PATH_CHALLENGE frames after so many that wait already.
static void note_path(stoq_conn *c, unsigned responses, bool newest, bool probing, const arrival *a)
{
    bool here = c->is_server ? c->ep->at_preferred == c->at_preferred : c->ep->via == c->via;
    if (here && conn_same_address(a->from, &c->peer))
        return;
    unsigned all = c->response_count;
    const uint8_t *response = all > responses ? c->responses[responses] : NULL;
    bool moves = c->is_server && newest && !probing;
    c->response_count = responses; // each path is answered on itself
    if (other_takes(c, a->from, probing, response != NULL)) {
        if (other_on_arrival(c, a->from, a->len, response, moves, a->now))
            c->response_count = all;
    } else if (here && moves) {
        c->response_count = all;
        path_on_move(c, a->from, a->len, a->now);
        if (!conn_same_address(a->from, &c->peer))
            c->response_count = responses;
    }
}

// A packet that was opened.
static void on_opened(stoq_conn *c, const stoq_packet *pkt, stoq_level level, const stoq_open *o,
                      const arrival *a)
{
    stoq_space *s = &c->spaces[level];
    if (o->packet[0] & (pkt->type == STOQ_PACKET_1RTT ? 0x18 : 0x0c)) { // reserved bits
        conn_fail(c, STOQ_PROTOCOL_VIOLATION, 0, "reserved bits are set");
        return;
    }
    if (stoq_ranges_has(&s->received, o->pn)) {
        drop(c, pkt, a->len, "duplicate");
        return;
    }
    c->stats.packets_received++;
    if (!c->is_server)
        learn_scid(c, pkt);
    if (c->is_server && level == STOQ_LEVEL_HANDSHAKE) {
        c->address_validated = true; // RFC 9000, section 8.1
        conn_discard_space(c, STOQ_LEVEL_INITIAL);
    }
    bool eliciting, probing;
    hm_bytes payload = hm_bytes_of(o->packet + o->header_len, o->payload_len - STOQ_AEAD_TAG);
    CONN_EVENT(c, .type = STOQ_EVENT_RECEIVED, .packet = pkt->type, .number = o->pn,
               .length = o->header_len + o->payload_len, .frames = payload, .dcid = &pkt->dcid,
               .scid = &pkt->scid);
    bool newest = s->largest_received == UINT64_MAX || o->pn > s->largest_received;
    unsigned responses = c->response_count;
    c->rx_early = pkt->type == STOQ_PACKET_0RTT;
    bool ok = on_payload(c, pkt, level, payload, a->now, &eliciting, &probing);
    c->rx_early = false;
    if (!ok)
        return;
    if (!s->discarded)
        note_received(c, level, o->pn, eliciting, a->ecn, a->now);
    if (level == STOQ_LEVEL_APP && c->state == STOQ_CONN_OPEN)
        note_path(c, responses, newest, probing, a);
}

static uint64_t expected_pn(const stoq_space *s)
{
    return s->largest_received == UINT64_MAX ? 0 : s->largest_received + 1;
}

static bool unmask(const stoq_space *s, stoq_keys *rx, const stoq_packet *pkt, uint8_t *bytes,
                   stoq_open *o)
{
    uint32_t truncated;
    size_t pn_len;
    if (stoq_unmask_header(&rx->hp, bytes, pkt->pn_offset, &truncated, &pn_len) != HM_OK)
        return false;
    *o = (stoq_open){.packet = bytes,
                     .header_len = (uint32_t)(pkt->pn_offset + pn_len),
                     .payload_len = (uint32_t)(pkt->len - pkt->pn_offset - pn_len),
                     .pn = stoq_pn_decode(expected_pn(s), truncated, pn_len)};
    return true;
}

// Opens a packet of the handshake, which may be the first one of another version.
static bool open_long(stoq_conn *c, const stoq_packet *pkt, stoq_level level, uint8_t *bytes,
                      stoq_open *o)
{
    stoq_keys fresh[2] = {0};
    stoq_keys *rx =
        pkt->type == STOQ_PACKET_0RTT ? c->early_rx : version_keys(c, pkt, level, fresh);
    if (rx != NULL && unmask(&c->spaces[level], rx, pkt, bytes, o))
        stoq_open_batch(&rx->aead, o, 1);
    if (rx == fresh)
        version_settle(c, pkt, o->ok, fresh);
    return o->ok;
}

// One packet; false when it could not be opened.
static bool on_packet(stoq_conn *c, const stoq_packet *pkt, uint8_t *bytes, const arrival *a)
{
    stoq_level level = level_of(pkt->type);
    stoq_space *s = &c->spaces[level];
    bool early = pkt->type == STOQ_PACKET_0RTT;
    stoq_keys *rx = early ? c->early_rx : &s->rx;
    stoq_open o = {.ok = false};
    if (early && pkt->version != c->original->number)
        return false;
    if (rx == NULL)
        return early_hold(c, a->from, hm_bytes_of(bytes, pkt->len), a->ecn);
    if (s->discarded || !stoq_keys_ready(rx) ||
        (level == STOQ_LEVEL_APP && !early && !c->handshake_complete))
        return false;
    if (early || level != STOQ_LEVEL_APP) {
        if (!open_long(c, pkt, level, bytes, &o))
            return false;
    } else if (!unmask(s, rx, pkt, bytes, &o)) {
        return false;
    } else if (!try_app(c, &o, bytes[0] & STOQ_KEY_PHASE, a->now)) {
        forged(c);
        return false;
    }
    conn_touch_idle(c, a->now);
    on_opened(c, pkt, level, &o, a);
    return true;
}

// 0-RTT packets that came before the packet with the rest of the ClientHello.
static void receive_held(stoq_conn *c, uint64_t now)
{
    while (c->early_rx != NULL && !hm_list_empty(&c->held) && c->state <= STOQ_CONN_OPEN) {
        stoq_held *h = hm_container_of(c->held.next, stoq_held, link);
        arrival a = {&h->from, h->len, h->ecn, now};
        stoq_packet pkt;
        hm_list_remove(&h->link);
        c->held_count--;
        c->held_bytes -= h->len;
        if (stoq_packet_parse(h->bytes, h->len, &pkt) != HM_OK || !on_packet(c, &pkt, h->bytes, &a))
            c->stats.packets_dropped++;
        hm_list_append(&c->ep->spent, &h->link); // what it brought may be read in place
    }
}

void conn_receive(stoq_conn *c, const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                  uint8_t ecn, uint64_t now)
{
    if (!is_from_peer(c, from))
        return; // servers do not move but to their preferred address
    if (c->state == STOQ_CONN_CLOSING) {
        if (++c->close_packets % CLOSE_EVERY == 1) {
            c->close_pending = true;
            conn_wake(c);
        }
        return;
    }
    if (c->state >= STOQ_CONN_DRAINING)
        return;
    count_arrival(c, from, len);
    bool opened = false;
    arrival a = {from, len, ecn, now};
    stoq_cid first = {0};
    for (size_t at = 0; at < len && c->state <= STOQ_CONN_OPEN;) {
        stoq_packet pkt;
        hm_err err = stoq_packet_parse(bytes + at, len - at, &pkt);
        if (err != HM_OK)
            break;
        if (pkt.type == STOQ_PACKET_RETRY || pkt.type == STOQ_PACKET_VERSION) {
            if (pkt.type == STOQ_PACKET_RETRY)
                on_retry(c, &pkt, bytes + at);
            else
                version_on_packet(c, &pkt);
            opened = true;
            break;
        }
        if (at == 0)
            first = pkt.dcid;
        // Packets of one datagram are for one connection (section 12.2).
        if (stoq_cid_eq(&pkt.dcid, &first) && is_welcome(c, &pkt, len) &&
            on_packet(c, &pkt, bytes + at, &a))
            opened = true;
        else
            drop(c, &pkt, pkt.len, "general");
        at += pkt.len;
    }
    receive_held(c, now);
    if (!opened)
        (void)conn_take_reset(c, from, bytes, len);
    conn_set_timer(c);
}

// Opens a run of packets as far as they are of one key phase; returns how many.
static size_t open_phase(stoq_conn *c, stoq_open *o, size_t count, uint64_t now)
{
    size_t n = 0;
    while (n < count && !(o[n].packet[0] & STOQ_KEY_PHASE) == !c->phase_rx)
        n++;
    if (n > 0) {
        stoq_open_batch(&c->spaces[STOQ_LEVEL_APP].rx.aead, o, n);
        return n;
    }
    o->ok = try_app(c, o, o->packet[0] & STOQ_KEY_PHASE, now);
    return 1;
}

static void after_run(stoq_conn *c, const stoq_open *o, const stoq_packet *pkt, const arrival *a)
{
    if (o->ok) {
        on_opened(c, pkt, STOQ_LEVEL_APP, o, a);
        return;
    }
    drop(c, pkt, a->len, "decryption_failure");
    forged(c);
    (void)conn_take_reset(c, a->from, o->packet, a->len);
}

void conn_receive_run(stoq_conn *c, const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                      size_t segment, uint8_t ecn, uint64_t now)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_APP];
    stoq_open run[STOQ_RUN_MAX];
    uint32_t truncated[STOQ_RUN_MAX];
    uint8_t pn_len[STOQ_RUN_MAX];
    size_t count = (len + segment - 1) / segment;
    if (c->state != STOQ_CONN_OPEN || !c->handshake_complete || !stoq_keys_ready(&s->rx) ||
        !is_from_peer(c, from)) {
        for (size_t at = 0; at < len; at += segment)
            conn_receive(c, from, bytes + at, len - at < segment ? len - at : segment, ecn, now);
        return;
    }
    count_arrival(c, from, len);
    if (stoq_unmask_headers(&s->rx.hp, bytes, segment, count, STOQ_SHORT_PN, truncated, pn_len) !=
        HM_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        size_t size = i + 1 < count ? segment : len - i * segment;
        // Whatever a sender may count on to be received is so already: one base serves all.
        run[i] = (stoq_open){.packet = bytes + i * segment,
                             .header_len = STOQ_SHORT_PN + pn_len[i],
                             .payload_len = (uint32_t)(size - STOQ_SHORT_PN) - pn_len[i],
                             .pn = stoq_pn_decode(expected_pn(s), truncated[i], pn_len[i])};
    }
    stoq_packet pkt = {.type = STOQ_PACKET_1RTT, .dcid = stoq_cid_of(bytes + 1, STOQ_LOCAL_CID)};
    arrival a = {from, segment, ecn, now};
    bool any = false;
    for (size_t i = 0; i < count && c->state == STOQ_CONN_OPEN;) {
        size_t opened = open_phase(c, run + i, count - i, now);
        for (size_t end = i + opened; i < end && c->state == STOQ_CONN_OPEN; i++) {
            a.len = run[i].header_len + run[i].payload_len;
            any |= run[i].ok;
            after_run(c, &run[i], &pkt, &a);
        }
    }
    if (any && c->state == STOQ_CONN_OPEN)
        conn_touch_idle(c, now);
    conn_set_timer(c);
}
