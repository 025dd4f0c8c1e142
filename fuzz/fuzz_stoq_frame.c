// Frames: each that parses, written in its shortest form, parses to the same again; the ranges of
// an ACK go down without touching.
#include "stoq/frame.h"

#include "hypermesh/stoq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *put(uint8_t *p, hm_bytes b)
{
    if (b.len > 0)
        memcpy(p, b.ptr, b.len);
    return p + b.len;
}

static uint8_t *write_ack(uint8_t *p, const stoq_frame *f)
{
    p = stoq_frame_write3(p, (uint8_t)f->type, f->ack_largest, f->ack_delay, f->ack_count);
    stoq_ack_walk w = stoq_ack_walk_of(f);
    uint64_t lo, hi, below = 0, ranges = 0;
    while (stoq_ack_next(&w, &lo, &hi)) {
        hm_assert(lo <= hi && hi <= f->ack_largest);
        if (ranges++ == 0) {
            hm_assert(hi == f->ack_largest);
        } else {
            hm_assert(hi + 2 <= below);
            p = stoq_varint_write(p, below - hi - 2);
        }
        p = stoq_varint_write(p, hi - lo);
        below = lo;
    }
    hm_assert(ranges == f->ack_count + 1);
    for (int i = 0; f->type == STOQ_FRAME_ACK_ECN && i < 3; i++)
        p = stoq_varint_write(p, f->ecn[i]);
    return p;
}

static uint8_t *write(uint8_t *p, const stoq_frame *f)
{
    uint8_t type = (uint8_t)f->type;
    switch (f->type) {
    case STOQ_FRAME_PADDING:
    case STOQ_FRAME_PING:
    case STOQ_FRAME_HANDSHAKE_DONE:
    case STOQ_FRAME_IMMEDIATE_ACK:
        *p++ = type;
        return p;
    case STOQ_FRAME_ACK:
    case STOQ_FRAME_ACK_ECN:
        return write_ack(p, f);
    case STOQ_FRAME_RESET_STREAM:
        return stoq_frame_write3(p, type, f->stream_id, f->code, f->value);
    case STOQ_FRAME_STOP_SENDING:
        return stoq_frame_write2(p, type, f->stream_id, f->code);
    case STOQ_FRAME_CRYPTO:
        return put(stoq_frame_write2(p, type, f->offset, f->data.len), f->data);
    case STOQ_FRAME_NEW_TOKEN:
        return put(stoq_frame_write1(p, type, f->data.len), f->data);
    case STOQ_FRAME_STREAM:
        *p++ = (uint8_t)(type | STOQ_STREAM_OFF | STOQ_STREAM_LEN | (f->fin ? STOQ_STREAM_FIN : 0));
        p = stoq_varint_write(stoq_varint_write(p, f->stream_id), f->offset);
        return put(stoq_varint_write(p, f->data.len), f->data);
    case STOQ_FRAME_MAX_STREAM_DATA:
    case STOQ_FRAME_STREAM_DATA_BLOCKED:
        return stoq_frame_write2(p, type, f->stream_id, f->value);
    case STOQ_FRAME_ACK_FREQUENCY:
        p = stoq_varint_write(stoq_varint_write(p, f->type), f->stream_id);
        p = stoq_varint_write(stoq_varint_write(p, f->offset), f->value);
        return stoq_varint_write(p, f->code);
    case STOQ_FRAME_NEW_CONNECTION_ID:
        p = stoq_frame_write2(p, type, f->stream_id, f->offset);
        *p++ = f->cid.len;
        p = put(p, hm_bytes_of(f->cid.id, f->cid.len));
        return put(p, f->data);
    case STOQ_FRAME_RETIRE_CONNECTION_ID:
        return stoq_frame_write1(p, type, f->stream_id);
    case STOQ_FRAME_PATH_CHALLENGE:
    case STOQ_FRAME_PATH_RESPONSE:
        *p++ = type;
        return put(p, f->data);
    case STOQ_FRAME_DATAGRAM:
    case STOQ_FRAME_DATAGRAM_LEN:
        *p++ = type;
        if (type == STOQ_FRAME_DATAGRAM_LEN)
            p = stoq_varint_write(p, f->data.len);
        return put(p, f->data);
    case STOQ_FRAME_CLOSE:
        return put(stoq_frame_write3(p, type, f->code, f->value, f->data.len), f->data);
    case STOQ_FRAME_CLOSE_APP:
        return put(stoq_frame_write2(p, type, f->code, f->data.len), f->data);
    default: // the limits and what is blocked at them
        hm_assert(f->type >= STOQ_FRAME_MAX_DATA && f->type <= STOQ_FRAME_STREAMS_BLOCKED_UNI);
        return stoq_frame_write1(p, type, f->value);
    }
}

static void same(const stoq_frame *a, const stoq_frame *b)
{
    hm_assert(a->type == b->type && hm_bytes_eq(a->data, b->data));
    hm_assert(a->stream_id == b->stream_id && a->offset == b->offset && a->value == b->value);
    hm_assert(a->code == b->code && a->fin == b->fin && stoq_cid_eq(&a->cid, &b->cid));
    hm_assert(a->ack_largest == b->ack_largest && a->ack_count == b->ack_count &&
              a->ack_first == b->ack_first && a->ack_delay == b->ack_delay &&
              memcmp(a->ecn, b->ecn, sizeof a->ecn) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[1 << 17];
    const uint8_t *p = data, *end = data + size;
    if (size > 65536)
        return 0;
    while (p < end) {
        const uint8_t *from = p;
        uint64_t code = 0;
        stoq_frame a = {0}, b = {0};
        if (stoq_frame_parse(&p, end, &a, &code) != HM_OK) {
            hm_assert(code == STOQ_FRAME_ENCODING_ERROR || code == STOQ_PROTOCOL_VIOLATION);
            break;
        }
        hm_assert(p > from && p <= end);
        uint8_t *stop = write(out, &a);
        const uint8_t *q = out;
        hm_assert(stoq_frame_parse(&q, stop, &b, &code) == HM_OK && q == stop);
        same(&a, &b);
        for (int t = STOQ_PACKET_INITIAL; t <= STOQ_PACKET_VERSION; t++)
            hm_assert(stoq_frame_allowed(a.type, t) || t != STOQ_PACKET_1RTT);
    }
    return 0;
}
