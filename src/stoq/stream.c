// Streams: sending, receiving, flow control (RFC 9000, sections 2 to 4).
#include <stdlib.h>

#include "stoq/endpoint.h"

#define SEND_FEW (1u << 20) // unacknowledged bytes that a stream may have on any path

static bool id_is_uni(uint64_t id)
{
    return id & 2;
}
static bool id_is_server(uint64_t id)
{
    return id & 1;
}
static bool is_local(const stoq_conn *c, uint64_t id)
{
    return id_is_server(id) == c->is_server;
}

stoq_stream *stream_find(stoq_conn *c, uint64_t id)
{
    if (c->last_stream == NULL || c->last_stream->id != id)
        c->last_stream = hm_map_get(&c->streams, &id);
    return c->last_stream;
}

// ---- life ---------------------------------------------------------------------------------------

static uint64_t initial_tx_max(const stoq_conn *c, uint64_t id)
{
    if (id_is_uni(id))
        return c->theirs.max_stream_data_uni;
    return is_local(c, id) ? c->theirs.max_stream_data_bidi_remote
                           : c->theirs.max_stream_data_bidi_local;
}

// Two congestion windows are enough for a path to be filled by what is kept: one under way and one
// that waits its turn. Streams that are open together share them, so that a peer that stops
// acknowledging has only so much more kept than SEND_FEW bytes of each.
static uint32_t send_max(const stoq_stream *s)
{
    const stoq_conn *c = s->conn;
    uint32_t open = c->stats.streams_open;
    uint64_t share = 2 * c->cc.cwnd / (open > 0 ? open : 1);
    uint64_t bytes = share > SEND_FEW ? share : SEND_FEW;
    return bytes < s->send_most ? (uint32_t)bytes : s->send_most;
}

static hm_err make(stoq_conn *c, uint64_t id, stoq_stream **out)
{
    stoq_stream *s = calloc(1, sizeof *s);
    if (s == NULL)
        return HM_E_NOMEM;
    const stoq_limits *l = conn_limits(c);
    s->conn = c;
    s->id = id;
    hm_list_init(&s->sending);
    hm_list_init(&s->telling);
    hm_list_init(&s->ended);
    hm_list_init(&s->lending);
    s->has_tx = !id_is_uni(id) || is_local(c, id);
    s->has_rx = !id_is_uni(id) || !is_local(c, id);
    s->send_most = l->stream_send_bytes;
    stoq_sendbuf_init(&s->out, send_max(s));
    stoq_recvbuf_init(&s->in, conn_stream_window(c));
    s->tx_max = initial_tx_max(c, id);
    stoq_window_init(&s->rx, s->in.max, l->stream_window_bytes, c->ep->now_us);
    s->final_size = UINT64_MAX;
    s->fin_acked = !s->has_tx;
    s->rx_done = !s->has_rx;
    hm_err err = hm_map_put(&c->streams, &id, s);
    if (err != HM_OK) {
        free(s);
        return err;
    }
    c->stats.streams_open++;
    *out = s;
    return HM_OK;
}

static void tell(stoq_stream *s)
{
    if (hm_list_empty(&s->telling))
        hm_list_append(&s->conn->telling, &s->telling);
    conn_wake(s->conn);
}

static void want_send(stoq_stream *s)
{
    if (hm_list_empty(&s->sending))
        hm_list_append(&s->conn->sending, &s->sending);
    conn_wake(s->conn);
}

static bool tx_done(const stoq_stream *s)
{
    return !s->has_tx || s->reset_acked || (!s->reset && s->fin_acked);
}

// Both directions over: the stream leaves once its callbacks are made.
static void maybe_end(stoq_stream *s)
{
    if (tx_done(s) && s->rx_done && hm_list_empty(&s->ended)) {
        hm_list_append(&s->conn->ended, &s->ended);
        conn_wake(s->conn);
    }
}

static void stream_free(stoq_stream *s)
{
    stoq_conn *c = s->conn;
    (void)hm_map_remove(&c->streams, &s->id);
    if (c->last_stream == s)
        c->last_stream = NULL;
    hm_list_remove(&s->sending);
    hm_list_remove(&s->telling);
    hm_list_remove(&s->ended);
    hm_list_remove(&s->lending);
    stoq_sendbuf_free(&s->out);
    stoq_recvbuf_free(&s->in);
    c->stats.streams_open--;
    if (!is_local(c, s->id)) {
        int uni = id_is_uni(s->id);
        c->peer_streams_open[uni]--;
        c->peer_streams_limit[uni]++; // one more may come
        c->max_streams_pending[uni] = true;
        conn_wake(c);
    }
    free(s);
}

// ---- receiving ----------------------------------------------------------------------------------

static hm_err refuse(uint64_t *code, uint64_t what, const char *why)
{
    *code = what;
    return hm_fail(HM_E_STOQ_TRANSPORT, "%s", why);
}

// The stream of a frame, made if the peer opens it by this; NULL when it is over.
static hm_err get(stoq_conn *c, uint64_t id, bool for_rx, uint64_t *code, stoq_stream **out)
{
    int uni = id_is_uni(id);
    uint64_t number = id >> 2;
    *out = stream_find(c, id);
    if (uni && is_local(c, id) == for_rx)
        return refuse(code, STOQ_STREAM_STATE_ERROR, "a frame against a stream's direction");
    if (*out != NULL)
        return HM_OK;
    if (is_local(c, id))
        return number < c->streams_opened[uni]
                   ? HM_OK
                   : refuse(code, STOQ_STREAM_STATE_ERROR, "a stream that was not opened");
    if (number >= c->peer_streams_limit[uni])
        return refuse(code, STOQ_STREAM_LIMIT_ERROR, "more streams than allowed");
    // Opening a stream opens all of its kind before it.
    while (c->peer_streams_opened[uni] <= number) {
        uint64_t next = c->peer_streams_opened[uni] << 2 | (uint64_t)uni << 1 | !c->is_server;
        stoq_stream *s;
        HM_TRY(make(c, next, &s));
        c->peer_streams_opened[uni]++;
        c->peer_streams_open[uni]++;
        s->tell_open = true;
        s->early = c->rx_early;
        tell(s);
    }
    *out = stream_find(c, id);
    return HM_OK;
}

// Checks an end of data against limits and the final size, and counts it.
static hm_err take_credit(stoq_stream *s, uint64_t end, bool final, uint64_t *code)
{
    stoq_conn *c = s->conn;
    if ((s->final_size != UINT64_MAX && (end > s->final_size || (final && end != s->final_size))) ||
        (final && end < s->rx_highest))
        return refuse(code, STOQ_FINAL_SIZE_ERROR, "the final size changes");
    if (end > s->rx_highest) {
        uint64_t more = end - s->rx_highest;
        if (end > s->rx.max || c->rx_seen + more > c->rx.max)
            return refuse(code, STOQ_FLOW_CONTROL_ERROR, "more data than allowed");
        c->rx_seen += more;
        s->rx_highest = end;
    }
    if (final)
        s->final_size = end;
    return HM_OK;
}

static void conn_credit(stoq_conn *c, uint64_t n)
{
    c->rx_taken += n;
    if (stoq_window_open(&c->rx, c->rx_taken, c->ep->now_us, c->rtt_smooth_us)) {
        c->max_data_pending = true;
        conn_wake(c);
    }
}

// Data that nobody will read counts as read.
static void discard_rest(stoq_stream *s)
{
    conn_credit(s->conn, s->rx_highest - s->in.read);
    stoq_recvbuf_skip(&s->in, s->rx_highest);
}

static hm_err on_data(stoq_conn *c, const stoq_frame *f, uint64_t *code)
{
    stoq_stream *s;
    HM_TRY(get(c, f->stream_id, true, code, &s));
    if (s == NULL)
        return HM_OK;
    HM_TRY(take_credit(s, f->offset + f->data.len, f->fin, code));
    if (s->rx_done || s->reset_received)
        return HM_OK;
    if (s->stopped) {
        discard_rest(s);
        if (s->final_size != UINT64_MAX && s->in.read >= s->final_size) {
            s->rx_done = true;
            maybe_end(s);
        }
        return HM_OK;
    }
    uint64_t before = s->in.ready;
    hm_err err = stoq_recvbuf_write(&s->in, f->offset, f->data, &c->ep->loans);
    if (err != HM_OK)
        return err == HM_E_LIMIT ? refuse(code, STOQ_FLOW_CONTROL_ERROR, "beyond the window") : err;
    if (s->in.loans != NULL && hm_list_empty(&s->lending))
        hm_list_append(&c->ep->lending, &s->lending);
    c->stats.stream_bytes_received += s->in.ready - before;
    if (s->in.ready > before || (f->fin && s->in.ready == s->final_size)) {
        s->tell_readable = true;
        tell(s);
    }
    return HM_OK;
}

static hm_err on_reset(stoq_conn *c, const stoq_frame *f, uint64_t *code)
{
    stoq_stream *s;
    HM_TRY(get(c, f->stream_id, true, code, &s));
    if (s == NULL)
        return HM_OK;
    HM_TRY(take_credit(s, f->value, true, code));
    if (s->rx_done || s->reset_received)
        return HM_OK;
    s->reset_received = true;
    s->peer_reset_code = f->code;
    discard_rest(s);
    if (s->stopped) {
        s->rx_done = true;
        maybe_end(s);
        return HM_OK;
    }
    s->tell_readable = true;
    tell(s);
    return HM_OK;
}

static hm_err on_stop(stoq_conn *c, const stoq_frame *f, uint64_t *code)
{
    stoq_stream *s;
    HM_TRY(get(c, f->stream_id, false, code, &s));
    if (s == NULL || s->reset || s->fin_acked)
        return HM_OK;
    s->stop_received = true;
    s->peer_stop_code = f->code;
    stoq_stream_reset(s, f->code);
    s->tell_writable = true;
    tell(s);
    return HM_OK;
}

hm_err stream_on_frame(stoq_conn *c, const stoq_frame *f, uint64_t *code)
{
    stoq_stream *s;
    switch (f->type) {
    case STOQ_FRAME_STREAM:
        return on_data(c, f, code);
    case STOQ_FRAME_RESET_STREAM:
        return on_reset(c, f, code);
    case STOQ_FRAME_STOP_SENDING:
        return on_stop(c, f, code);
    case STOQ_FRAME_MAX_STREAM_DATA:
        HM_TRY(get(c, f->stream_id, false, code, &s));
        if (s != NULL && f->value > s->tx_max) {
            s->tx_max = f->value;
            want_send(s);
        }
        return HM_OK;
    case STOQ_FRAME_STREAM_DATA_BLOCKED:
        return get(c, f->stream_id, true, code, &s);
    default:
        return refuse(code, STOQ_FRAME_ENCODING_ERROR, "a frame of an unknown type");
    }
}

// ---- sending ------------------------------------------------------------------------------------

// The next bytes to send: lost ones first, new ones as both windows allow.
static void next_data(const stoq_stream *s, size_t max, uint64_t *offset, size_t *len)
{
    const stoq_conn *c = s->conn;
    uint64_t room = c->tx_max - c->tx_used;
    uint64_t limit = s->out.next + room < s->tx_max ? s->out.next + room : s->tx_max;
    stoq_sendbuf_next(&s->out, limit, max, offset, len);
}

static bool fin_due(const stoq_stream *s)
{
    return s->fin && !s->fin_seen && (!s->fin_sent || s->fin_lost);
}

static bool has_data(const stoq_stream *s)
{
    uint64_t offset;
    size_t len;
    if (!s->has_tx || s->reset)
        return false;
    next_data(s, 1, &offset, &len);
    return len > 0 || (fin_due(s) && s->out.next == s->out.end && s->out.lost.count == 0);
}

// Early data was rejected, and the server allows fewer streams now than when it gave the ticket.
static bool held_back(const stoq_stream *s)
{
    const stoq_conn *c = s->conn;
    return c->early == STOQ_EARLY_REJECTED && is_local(c, s->id) &&
           s->id >> 2 >= c->streams_allowed[id_is_uni(s->id)];
}

static bool has_work(const stoq_stream *s)
{
    if (held_back(s))
        return false;
    return s->reset_pending || s->stop_pending || s->max_pending || has_data(s);
}

bool streams_pending(const stoq_conn *c)
{
    // Streams that have nothing leave the list when their turn comes; one with work is enough.
    for (const hm_list *it = c->sending.next; it != &c->sending; it = it->next)
        if (has_work(hm_container_of(it, stoq_stream, sending)))
            return true;
    return false;
}

static void note(stoq_sent *sent, uint8_t type, uint64_t id)
{
    sent->frames[sent->frame_count++] = (stoq_sent_frame){.type = type, .id = id};
}

static uint8_t *write_control(stoq_stream *s, uint8_t *p, uint8_t *end, stoq_sent *sent, bool *any)
{
    if (s->reset_pending && end - p >= 25 && sent->frame_count < STOQ_SENT_FRAMES) {
        s->reset_pending = false;
        p = stoq_frame_write3(p, STOQ_FRAME_RESET_STREAM, s->id, s->reset_code, s->out.next);
        note(sent, STOQ_FRAME_RESET_STREAM, s->id);
        *any = true;
    }
    if (s->stop_pending && end - p >= 17 && sent->frame_count < STOQ_SENT_FRAMES) {
        s->stop_pending = false;
        p = stoq_frame_write2(p, STOQ_FRAME_STOP_SENDING, s->id, s->stop_code);
        note(sent, STOQ_FRAME_STOP_SENDING, s->id);
        *any = true;
    }
    if (s->max_pending && end - p >= 17 && sent->frame_count < STOQ_SENT_FRAMES) {
        s->max_pending = false;
        p = stoq_frame_write2(p, STOQ_FRAME_MAX_STREAM_DATA, s->id, s->rx.max);
        note(sent, STOQ_FRAME_MAX_STREAM_DATA, s->id);
        *any = true;
    }
    return p;
}

// The data of a frame that fills its packet stay where they are, to be sealed from there.
static void put_data(stoq_stream *s, uint64_t offset, size_t len, bool fills, uint8_t *p,
                     hm_bytes *tail)
{
    const uint8_t *at = fills ? stoq_sendbuf_view(&s->out, offset, len) : NULL;
    if (at != NULL)
        *tail = hm_bytes_of(at, len);
    else
        stoq_sendbuf_copy(&s->out, offset, len, p);
    stoq_sendbuf_sent(&s->out, offset, len);
}

static uint8_t *write_data(stoq_stream *s, uint8_t *p, uint8_t *end, stoq_sent *sent,
                           hm_bytes *tail, bool *any)
{
    stoq_conn *c = s->conn;
    if (!has_data(s) || sent->frame_count == STOQ_SENT_FRAMES)
        return p;
    uint64_t offset;
    size_t len, room = (size_t)(end - p);
    next_data(s, room, &offset, &len);
    if (len == 0)
        offset = s->out.end; // the end alone
    // A frame that reaches the packet's end needs no length.
    size_t header = stoq_stream_frame_header(s->id, offset), len_bytes = room < 16384 ? 2 : 4;
    if (room < header + len_bytes + 1)
        return p;
    bool fills = len >= room - header;
    if (fills)
        len = room - header;
    else if (len > room - header - len_bytes)
        len = room - header - len_bytes;
    uint64_t before = s->out.next;
    bool fin = s->fin && offset + len == s->out.end;
    *p++ = (uint8_t)(STOQ_FRAME_STREAM | (fills ? 0 : STOQ_STREAM_LEN) |
                     (offset > 0 ? STOQ_STREAM_OFF : 0) | (fin ? STOQ_STREAM_FIN : 0));
    p = stoq_varint_write(p, s->id);
    if (offset > 0)
        p = stoq_varint_write(p, offset);
    if (!fills)
        p = stoq_varint_write_n(p, len, len_bytes);
    if (len > 0)
        put_data(s, offset, len, fills, p, tail);
    p += len;
    c->tx_used += s->out.next - before;
    c->stats.stream_bytes_sent += s->out.next - before;
    if (fin) {
        s->fin_sent = true;
        s->fin_lost = false;
    }
    sent->frames[sent->frame_count++] = (stoq_sent_frame){
        .type = STOQ_FRAME_STREAM, .fin = fin, .len = (uint32_t)len, .id = s->id, .offset = offset};
    *any = true;
    return p;
}

uint8_t *streams_write(stoq_conn *c, uint8_t *p, uint8_t *end, stoq_sent *sent, hm_bytes *tail,
                       bool *any)
{
    hm_list *last = c->sending.prev;
    hm_list_each(it, &c->sending)
    {
        stoq_stream *s = hm_container_of(it, stoq_stream, sending);
        bool is_last = it == last;
        uint8_t *before = p;
        if (held_back(s)) {
            hm_list_remove(it);
            if (is_last)
                break;
            continue;
        }
        p = write_control(s, p, end, sent, any);
        p = write_data(s, p, end, sent, tail, any);
        if (!has_work(s)) {
            hm_list_remove(it);
        } else if (p != before && it != c->sending.prev) { // its turn is over
            hm_list_remove(it);
            hm_list_append(&c->sending, it);
        }
        if (is_last || sent->frame_count == STOQ_SENT_FRAMES || end - p < 32)
            break;
    }
    return p;
}

void streams_unblock(stoq_conn *c)
{
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    while (hm_map_next(&c->streams, &pos, &key, &value))
        if (has_work(value))
            want_send(value);
}

void streams_rewind(stoq_conn *c)
{
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    while (hm_map_next(&c->streams, &pos, &key, &value)) {
        stoq_stream *s = value;
        stoq_sendbuf_rewind(&s->out);
        s->fin_sent = s->fin_lost = false;
        s->reset_pending = s->reset;
        s->stop_pending = s->stopped;
        want_send(s);
    }
    c->tx_used = 0;
    c->stats.stream_bytes_sent = 0;
}

void streams_on_params(stoq_conn *c)
{
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    while (hm_map_next(&c->streams, &pos, &key, &value)) {
        stoq_stream *s = value;
        s->tx_max = initial_tx_max(c, s->id);
    }
    streams_unblock(c);
}

void stream_on_acked(stoq_conn *c, const stoq_sent_frame *f)
{
    stoq_stream *s = stream_find(c, f->id);
    if (s == NULL)
        return;
    if (f->type == STOQ_FRAME_RESET_STREAM) {
        s->reset_acked = true;
    } else if (!s->reset) {
        stoq_sendbuf_on_acked(&s->out, f->offset, f->len);
        if (f->fin) {
            s->fin_seen = true;
            s->fin_lost = false;
        }
        s->fin_acked |= s->fin_seen && stoq_sendbuf_all_acked(&s->out);
        if (s->app_blocked && stoq_sendbuf_room(&s->out) > 0) {
            s->app_blocked = false;
            s->tell_writable = true;
            tell(s);
        }
        if (stoq_sendbuf_returns(&s->out))
            tell(s);
    }
    maybe_end(s);
}

void stream_on_lost(stoq_conn *c, const stoq_sent_frame *f)
{
    stoq_stream *s = stream_find(c, f->id);
    if (s == NULL)
        return;
    switch (f->type) {
    case STOQ_FRAME_STREAM:
        if (s->reset)
            return;
        stoq_sendbuf_on_lost(&s->out, f->offset, f->len);
        s->fin_lost |= f->fin && !s->fin_seen;
        break;
    case STOQ_FRAME_RESET_STREAM:
        s->reset_pending = !s->reset_acked;
        break;
    case STOQ_FRAME_STOP_SENDING:
        s->stop_pending = !s->rx_done;
        break;
    case STOQ_FRAME_MAX_STREAM_DATA:
        s->max_pending = !s->rx_done;
        break;
    default:
        return;
    }
    want_send(s);
}

// ---- callbacks ----------------------------------------------------------------------------------

static void give_back(stoq_stream *s)
{
    const stoq_callbacks *cb = conn_callbacks(s->conn);
    void *tag;
    while (stoq_sendbuf_returned(&s->out, &tag))
        if (cb->stream_returned != NULL)
            cb->stream_returned(conn_endpoint_user(s->conn), s, tag);
}

void streams_tell(stoq_conn *c)
{
    const stoq_callbacks *cb = conn_callbacks(c);
    void *user = conn_endpoint_user(c);
    while (!hm_list_empty(&c->telling)) {
        stoq_stream *s = hm_container_of(c->telling.next, stoq_stream, telling);
        hm_list_remove(&s->telling);
        if (s->tell_open && cb->stream_open != NULL)
            cb->stream_open(user, s);
        s->tell_open = false;
        bool readable = s->tell_readable && !s->rx_done, writable = s->tell_writable;
        s->tell_readable = s->tell_writable = false;
        if (readable && cb->stream_readable != NULL)
            cb->stream_readable(user, s);
        give_back(s);
        if (writable && cb->stream_writable != NULL)
            cb->stream_writable(user, s);
    }
    while (!hm_list_empty(&c->ended)) {
        stoq_stream *s = hm_container_of(c->ended.next, stoq_stream, ended);
        hm_list_remove(&s->ended);
        if (cb->stream_closed != NULL)
            cb->stream_closed(user, s);
        stream_free(s);
    }
}

void streams_close_all(stoq_conn *c)
{
    const stoq_callbacks *cb = conn_callbacks(c);
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    while (pos = 0, hm_map_next(&c->streams, &pos, &key, &value)) {
        const stoq_stream *s = value;
        bool known = is_local(c, s->id) || (c->told_open && !s->tell_open);
        if (known && cb->stream_closed != NULL)
            cb->stream_closed(conn_endpoint_user(c), value);
        stream_free(value);
    }
}

// ---- the application's calls --------------------------------------------------------------------

hm_err stoq_stream_open(stoq_conn *c, bool unidirectional, stoq_stream **out)
{
    int uni = unidirectional;
    if (c->state > STOQ_CONN_OPEN)
        return hm_fail(HM_E_CLOSED, "the connection is closed");
    if (c->streams_opened[uni] >= c->streams_allowed[uni])
        return hm_fail(HM_E_STOQ_BLOCKED, "the peer allows %llu streams at present",
                       (unsigned long long)c->streams_allowed[uni]);
    uint64_t id = c->streams_opened[uni] << 2 | (uint64_t)uni << 1 | c->is_server;
    HM_TRY(make(c, id, out));
    c->streams_opened[uni]++;
    return HM_OK;
}

static hm_err may_write(const stoq_stream *s)
{
    if (!s->has_tx)
        return hm_fail(HM_E_INVALID, "the peer's one-way stream");
    if (s->reset)
        return hm_fail(HM_E_STOQ_RESET, "the stream was reset");
    return s->fin ? hm_fail(HM_E_CLOSED, "the stream was ended") : HM_OK;
}

hm_err stoq_stream_send(stoq_stream *s, hm_bytes bytes, bool fin, size_t *accepted)
{
    *accepted = 0;
    HM_TRY(may_write(s));
    s->out.max = send_max(s);
    size_t take = stoq_sendbuf_room(&s->out);
    if (take >= bytes.len)
        take = bytes.len;
    else
        s->app_blocked = true;
    HM_TRY(stoq_sendbuf_append(&s->out, hm_bytes_of(bytes.ptr, take)));
    *accepted = take;
    s->fin = fin && take == bytes.len;
    if (take > 0 || s->fin)
        want_send(s);
    return HM_OK;
}

hm_err stoq_stream_lend(stoq_stream *s, hm_bytes bytes, bool fin, void *tag)
{
    HM_TRY(may_write(s));
    if (bytes.len == 0 || bytes.len > UINT32_MAX)
        return hm_fail(HM_E_INVALID, "%zu bytes cannot be lent", bytes.len);
    s->out.max = send_max(s);
    if (stoq_sendbuf_room(&s->out) == 0) {
        s->app_blocked = true;
        return HM_E_STOQ_BLOCKED;
    }
    HM_TRY(stoq_sendbuf_lend(&s->out, bytes, tag));
    s->fin = fin;
    want_send(s);
    return HM_OK;
}

size_t stoq_stream_send_room(const stoq_stream *s)
{
    uint64_t used = s->out.end - s->out.base, most = send_max(s);
    return !s->has_tx || s->reset || s->fin || used >= most ? 0 : (size_t)(most - used);
}

void stoq_stream_set_send_bytes(stoq_stream *s, uint32_t bytes)
{
    uint32_t most = conn_limits(s->conn)->stream_send_bytes;
    s->send_most = bytes < most ? bytes : most;
    s->out.max = send_max(s);
}

hm_err stoq_stream_peek(stoq_stream *s, hm_bytes *view, bool *fin)
{
    *view = (hm_bytes){0};
    *fin = false;
    if (s->reset_received) {
        s->rx_done = true;
        maybe_end(s);
        return hm_fail(HM_E_STOQ_RESET, "the peer reset the stream");
    }
    if (s->rx_done || s->stopped)
        return HM_OK;
    *view = stoq_recvbuf_peek(&s->in);
    *fin = s->final_size != UINT64_MAX && s->in.read + view->len == s->final_size;
    return HM_OK;
}

void stoq_stream_consume(stoq_stream *s, size_t n)
{
    if (s->rx_done || s->stopped || s->reset_received)
        return;
    stoq_recvbuf_consume(&s->in, n);
    conn_credit(s->conn, n);
    if (s->final_size != UINT64_MAX) {
        if (s->in.read == s->final_size) {
            s->rx_done = true;
            maybe_end(s);
        }
    } else if (stoq_window_open(&s->rx, s->in.read, s->conn->ep->now_us, s->conn->rtt_smooth_us)) {
        s->in.max = s->rx.size;
        s->max_pending = true;
        want_send(s);
    }
}

void stoq_stream_reset(stoq_stream *s, uint64_t app_code)
{
    if (!s->has_tx || s->reset || s->fin_acked)
        return;
    s->reset = s->reset_pending = true;
    s->reset_code = app_code;
    stoq_sendbuf_abandon(&s->out);
    if (stoq_sendbuf_returns(&s->out))
        tell(s);
    want_send(s);
}

void stoq_stream_stop(stoq_stream *s, uint64_t app_code)
{
    if (!s->has_rx || s->rx_done || s->stopped)
        return;
    s->stopped = true;
    s->stop_code = app_code;
    discard_rest(s);
    if (s->reset_received || (s->final_size != UINT64_MAX && s->rx_highest == s->final_size)) {
        s->rx_done = true;
        maybe_end(s);
        return;
    }
    s->stop_pending = true;
    want_send(s);
}

uint64_t stoq_stream_id(const stoq_stream *s)
{
    return s->id;
}
bool stoq_stream_is_local(const stoq_stream *s)
{
    return is_local(s->conn, s->id);
}
bool stoq_stream_is_uni(const stoq_stream *s)
{
    return id_is_uni(s->id);
}
bool stoq_stream_is_early(const stoq_stream *s)
{
    return s->early;
}
uint64_t stoq_stream_reset_code(const stoq_stream *s)
{
    return s->peer_reset_code;
}
uint64_t stoq_stream_stop_code(const stoq_stream *s)
{
    return s->peer_stop_code;
}
stoq_conn *stoq_stream_conn(stoq_stream *s)
{
    return s->conn;
}
void *stoq_stream_user(const stoq_stream *s)
{
    return s->user;
}
void stoq_stream_set_user(stoq_stream *s, void *user)
{
    s->user = user;
}
