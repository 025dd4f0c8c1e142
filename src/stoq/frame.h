// Frames (RFC 9000, section 19): parsing in place and writing.
#ifndef HM_STOQ_FRAME_H
#define HM_STOQ_FRAME_H

#include "base/bytes.h"
#include "stoq/packet.h"

enum {
    STOQ_FRAME_PADDING = 0x00,
    STOQ_FRAME_PING = 0x01,
    STOQ_FRAME_ACK = 0x02,
    STOQ_FRAME_ACK_ECN = 0x03,
    STOQ_FRAME_RESET_STREAM = 0x04,
    STOQ_FRAME_STOP_SENDING = 0x05,
    STOQ_FRAME_CRYPTO = 0x06,
    STOQ_FRAME_NEW_TOKEN = 0x07,
    STOQ_FRAME_STREAM = 0x08, // to 0x0f
    STOQ_FRAME_MAX_DATA = 0x10,
    STOQ_FRAME_MAX_STREAM_DATA = 0x11,
    STOQ_FRAME_MAX_STREAMS_BIDI = 0x12,
    STOQ_FRAME_MAX_STREAMS_UNI = 0x13,
    STOQ_FRAME_DATA_BLOCKED = 0x14,
    STOQ_FRAME_STREAM_DATA_BLOCKED = 0x15,
    STOQ_FRAME_STREAMS_BLOCKED_BIDI = 0x16,
    STOQ_FRAME_STREAMS_BLOCKED_UNI = 0x17,
    STOQ_FRAME_NEW_CONNECTION_ID = 0x18,
    STOQ_FRAME_RETIRE_CONNECTION_ID = 0x19,
    STOQ_FRAME_PATH_CHALLENGE = 0x1a,
    STOQ_FRAME_PATH_RESPONSE = 0x1b,
    STOQ_FRAME_CLOSE = 0x1c,
    STOQ_FRAME_CLOSE_APP = 0x1d,
    STOQ_FRAME_HANDSHAKE_DONE = 0x1e,
    STOQ_FRAME_IMMEDIATE_ACK = 0x1f, // draft-ietf-quic-ack-frequency
    STOQ_FRAME_DATAGRAM = 0x30,      // to the packet's end (RFC 9221)
    STOQ_FRAME_DATAGRAM_LEN = 0x31,
    STOQ_FRAME_ACK_FREQUENCY = 0xaf,
};
#define STOQ_DATAGRAM_HEAD 5u // of a DATAGRAM frame at most: type and length
#define STOQ_STREAM_FIN 0x01
#define STOQ_STREAM_LEN 0x02
#define STOQ_STREAM_OFF 0x04

// One parsed frame. Which members count depends on the type; views point into the packet.
typedef struct stoq_frame {
    uint64_t type;      // STREAM frames: STOQ_FRAME_STREAM, flags folded into fin
    uint64_t stream_id; // stream frames; NEW_/RETIRE_CONNECTION_ID, ACK_FREQUENCY: sequence number
    uint64_t offset; // STREAM, CRYPTO; NEW_CONNECTION_ID: retire prior to; ACK_FREQUENCY: packets
                     // without an acknowledgement
    uint64_t value;  // limits, final size; CLOSE: type of the offending frame; ACK_FREQUENCY:
                     // delay in microseconds
    uint64_t code;   // RESET_STREAM, STOP_SENDING, CLOSE; ACK_FREQUENCY: reordering threshold
    hm_bytes data; // STREAM, CRYPTO, DATAGRAM, token, reason, path data (8 bytes), reset token (16)
    stoq_cid cid;  // NEW_CONNECTION_ID
    bool fin;
    // ACK: ranges are walked with stoq_ack_next().
    uint64_t ack_largest, ack_first, ack_count, ack_delay;
    hm_bytes ack_ranges; // encoded gap/length pairs, checked to be whole and in range
    uint64_t ecn[3];     // ACK_ECN: ECT(0), ECT(1), CE
} stoq_frame;

// Parses the frame at *p, advances past it. Runs of PADDING are taken as one frame. Otherwise
// HM_E_STOQ_TRANSPORT, and *code says with which transport error the connection is to be closed.
HM_CHECK hm_err stoq_frame_parse(const uint8_t **p, const uint8_t *end, stoq_frame *out,
                                 uint64_t *code);

// Walks the ranges of an ACK from the largest down; zero-initialise with the frame.
typedef struct stoq_ack_walk {
    const uint8_t *p, *end;
    uint64_t left;     // encoded ranges left
    uint64_t smallest; // of the range before
    bool started;
    uint64_t largest, first;
} stoq_ack_walk;

stoq_ack_walk stoq_ack_walk_of(const stoq_frame *ack);
// The next range, both ends included; false at the end.
bool stoq_ack_next(stoq_ack_walk *w, uint64_t *smallest, uint64_t *largest);

// Does a frame of this type ask for an acknowledgement?
static inline bool stoq_frame_elicits_ack(uint64_t type)
{
    return type != STOQ_FRAME_PADDING && type != STOQ_FRAME_ACK && type != STOQ_FRAME_ACK_ECN &&
           type != STOQ_FRAME_CLOSE && type != STOQ_FRAME_CLOSE_APP;
}
// May it be in a packet of this type (RFC 9000, table 3)?
bool stoq_frame_allowed(uint64_t type, stoq_packet_type packet);
// Does it probe a path only (section 9.1)?
static inline bool stoq_frame_is_probing(uint64_t type)
{
    return type == STOQ_FRAME_PADDING || type == STOQ_FRAME_NEW_CONNECTION_ID ||
           type == STOQ_FRAME_PATH_CHALLENGE || type == STOQ_FRAME_PATH_RESPONSE;
}

// Size of the header of a STREAM frame with these values, without a length.
static inline size_t stoq_stream_frame_header(uint64_t id, uint64_t offset)
{
    return 1 + stoq_varint_size(id) + (offset ? stoq_varint_size(offset) : 0);
}
// A frame made of its type and up to three integers.
static inline uint8_t *stoq_frame_write1(uint8_t *p, uint8_t type, uint64_t a)
{
    *p++ = type;
    return stoq_varint_write(p, a);
}
static inline uint8_t *stoq_frame_write2(uint8_t *p, uint8_t type, uint64_t a, uint64_t b)
{
    return stoq_varint_write(stoq_frame_write1(p, type, a), b);
}
static inline uint8_t *stoq_frame_write3(uint8_t *p, uint8_t type, uint64_t a, uint64_t b,
                                         uint64_t c)
{
    return stoq_varint_write(stoq_frame_write2(p, type, a, b), c);
}

#endif
