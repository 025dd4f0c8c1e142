#include "stoq/frame.h"

#include "hypermesh/stoq.h"

static bool read_data(const uint8_t **p, const uint8_t *end, uint64_t len, hm_bytes *out)
{
    if (len > (uint64_t)(end - *p))
        return false;
    *out = hm_bytes_of(*p, (size_t)len);
    *p += len;
    return true;
}

static bool parse_ack(const uint8_t **p, const uint8_t *end, stoq_frame *f)
{
    if (!stoq_varint_read(p, end, &f->ack_largest) || !stoq_varint_read(p, end, &f->ack_delay) ||
        !stoq_varint_read(p, end, &f->ack_count) || !stoq_varint_read(p, end, &f->ack_first) ||
        f->ack_first > f->ack_largest)
        return false;
    const uint8_t *start = *p;
    uint64_t smallest = f->ack_largest - f->ack_first;
    // The count cannot make this loop longer than the packet: each turn reads two bytes or ends.
    for (uint64_t i = 0; i < f->ack_count; i++) {
        uint64_t gap, len;
        if (!stoq_varint_read(p, end, &gap) || !stoq_varint_read(p, end, &len))
            return false;
        if (smallest < gap + 2 || smallest - gap - 2 < len)
            return false;
        smallest -= gap + 2 + len;
    }
    f->ack_ranges = hm_bytes_of(start, (size_t)(*p - start));
    if (f->type == STOQ_FRAME_ACK_ECN)
        for (int i = 0; i < 3; i++)
            if (!stoq_varint_read(p, end, &f->ecn[i]))
                return false;
    return true;
}

static bool parse_stream(const uint8_t **p, const uint8_t *end, stoq_frame *f)
{
    uint64_t flags = f->type, len = 0;
    f->type = STOQ_FRAME_STREAM;
    f->fin = flags & STOQ_STREAM_FIN;
    f->offset = 0;
    if (!stoq_varint_read(p, end, &f->stream_id) ||
        ((flags & STOQ_STREAM_OFF) && !stoq_varint_read(p, end, &f->offset)))
        return false;
    if (!(flags & STOQ_STREAM_LEN))
        len = (uint64_t)(end - *p);
    else if (!stoq_varint_read(p, end, &len))
        return false;
    return read_data(p, end, len, &f->data) && len <= STOQ_VARINT_MAX - f->offset;
}

static bool parse_new_cid(const uint8_t **p, const uint8_t *end, stoq_frame *f)
{
    if (!stoq_varint_read(p, end, &f->stream_id) || !stoq_varint_read(p, end, &f->offset) ||
        *p >= end)
        return false;
    size_t len = *(*p)++;
    if (len < 1 || len > STOQ_MAX_CID || (size_t)(end - *p) < len || f->offset > f->stream_id)
        return false;
    f->cid = stoq_cid_of(*p, len);
    *p += len;
    return read_data(p, end, STOQ_RESET_TOKEN, &f->data);
}

static bool parse_close(const uint8_t **p, const uint8_t *end, stoq_frame *f)
{
    uint64_t len;
    f->value = 0;
    if (!stoq_varint_read(p, end, &f->code) ||
        (f->type == STOQ_FRAME_CLOSE && !stoq_varint_read(p, end, &f->value)))
        return false;
    return stoq_varint_read(p, end, &len) && read_data(p, end, len, &f->data);
}

static bool parse_body(const uint8_t **p, const uint8_t *end, stoq_frame *f, uint64_t *code)
{
    uint64_t len;
    switch (f->type) {
    case STOQ_FRAME_PADDING:
        while (*p < end && **p == 0)
            (*p)++;
        return true;
    case STOQ_FRAME_PING:
    case STOQ_FRAME_HANDSHAKE_DONE:
    case STOQ_FRAME_IMMEDIATE_ACK:
        return true;
    case STOQ_FRAME_ACK:
    case STOQ_FRAME_ACK_ECN:
        return parse_ack(p, end, f);
    case STOQ_FRAME_RESET_STREAM:
        return stoq_varint_read(p, end, &f->stream_id) && stoq_varint_read(p, end, &f->code) &&
               stoq_varint_read(p, end, &f->value);
    case STOQ_FRAME_STOP_SENDING:
        return stoq_varint_read(p, end, &f->stream_id) && stoq_varint_read(p, end, &f->code);
    case STOQ_FRAME_CRYPTO:
        return stoq_varint_read(p, end, &f->offset) && stoq_varint_read(p, end, &len) &&
               read_data(p, end, len, &f->data) && len <= STOQ_VARINT_MAX - f->offset;
    case STOQ_FRAME_NEW_TOKEN:
        return stoq_varint_read(p, end, &len) && len > 0 && read_data(p, end, len, &f->data);
    case STOQ_FRAME_MAX_DATA:
    case STOQ_FRAME_DATA_BLOCKED:
        return stoq_varint_read(p, end, &f->value);
    case STOQ_FRAME_MAX_STREAM_DATA:
    case STOQ_FRAME_STREAM_DATA_BLOCKED:
        return stoq_varint_read(p, end, &f->stream_id) && stoq_varint_read(p, end, &f->value);
    case STOQ_FRAME_MAX_STREAMS_BIDI:
    case STOQ_FRAME_MAX_STREAMS_UNI:
    case STOQ_FRAME_STREAMS_BLOCKED_BIDI:
    case STOQ_FRAME_STREAMS_BLOCKED_UNI:
        return stoq_varint_read(p, end, &f->value) && f->value <= UINT64_C(1) << 60;
    case STOQ_FRAME_NEW_CONNECTION_ID:
        return parse_new_cid(p, end, f);
    case STOQ_FRAME_RETIRE_CONNECTION_ID:
        return stoq_varint_read(p, end, &f->stream_id);
    case STOQ_FRAME_PATH_CHALLENGE:
    case STOQ_FRAME_PATH_RESPONSE:
        return read_data(p, end, 8, &f->data);
    case STOQ_FRAME_ACK_FREQUENCY:
        return stoq_varint_read(p, end, &f->stream_id) && stoq_varint_read(p, end, &f->offset) &&
               stoq_varint_read(p, end, &f->value) && stoq_varint_read(p, end, &f->code);
    case STOQ_FRAME_CLOSE:
    case STOQ_FRAME_CLOSE_APP:
        return parse_close(p, end, f);
    case STOQ_FRAME_DATAGRAM:
        return read_data(p, end, (uint64_t)(end - *p), &f->data);
    case STOQ_FRAME_DATAGRAM_LEN:
        return stoq_varint_read(p, end, &len) && read_data(p, end, len, &f->data);
    default:
        if (f->type >= STOQ_FRAME_STREAM && f->type < STOQ_FRAME_STREAM + 8)
            return parse_stream(p, end, f);
        *code = STOQ_FRAME_ENCODING_ERROR; // an unknown type
        return false;
    }
}

hm_err stoq_frame_parse(const uint8_t **p, const uint8_t *end, stoq_frame *out, uint64_t *code)
{
    const uint8_t *start = *p;
    *code = STOQ_FRAME_ENCODING_ERROR;
    if (!stoq_varint_read(p, end, &out->type))
        return HM_E_STOQ_TRANSPORT;
    if ((size_t)(*p - start) != stoq_varint_size(out->type)) { // section 12.4: shortest form
        *code = STOQ_PROTOCOL_VIOLATION;
        return HM_E_STOQ_TRANSPORT;
    }
    return parse_body(p, end, out, code) ? HM_OK : HM_E_STOQ_TRANSPORT;
}

stoq_ack_walk stoq_ack_walk_of(const stoq_frame *ack)
{
    return (stoq_ack_walk){
        .p = ack->ack_ranges.ptr,
        .end = ack->ack_ranges.ptr + ack->ack_ranges.len,
        .left = ack->ack_count,
        .largest = ack->ack_largest,
        .first = ack->ack_first,
    };
}

bool stoq_ack_next(stoq_ack_walk *w, uint64_t *smallest, uint64_t *largest)
{
    if (!w->started) {
        w->started = true;
        *largest = w->largest;
        *smallest = w->smallest = w->largest - w->first;
        return true;
    }
    uint64_t gap, len;
    if (w->left == 0 || !stoq_varint_read(&w->p, w->end, &gap) ||
        !stoq_varint_read(&w->p, w->end, &len))
        return false;
    w->left--;
    *largest = w->smallest - gap - 2;
    *smallest = w->smallest = *largest - len;
    return true;
}

bool stoq_frame_allowed(uint64_t type, stoq_packet_type packet)
{
    switch (packet) {
    case STOQ_PACKET_1RTT:
        return true;
    case STOQ_PACKET_INITIAL:
    case STOQ_PACKET_HANDSHAKE:
        return type == STOQ_FRAME_PADDING || type == STOQ_FRAME_PING || type == STOQ_FRAME_ACK ||
               type == STOQ_FRAME_ACK_ECN || type == STOQ_FRAME_CRYPTO || type == STOQ_FRAME_CLOSE;
    case STOQ_PACKET_0RTT:
        return type != STOQ_FRAME_ACK && type != STOQ_FRAME_ACK_ECN && type != STOQ_FRAME_CRYPTO &&
               type != STOQ_FRAME_HANDSHAKE_DONE && type != STOQ_FRAME_NEW_TOKEN &&
               type != STOQ_FRAME_PATH_RESPONSE && type != STOQ_FRAME_RETIRE_CONNECTION_ID &&
               type != STOQ_FRAME_ACK_FREQUENCY && type != STOQ_FRAME_IMMEDIATE_ACK;
    default:
        return false;
    }
}
