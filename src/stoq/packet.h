// Packet headers (RFC 9000, section 17) and packet numbers. Nothing here is protected or
// unprotected: that is protect.h.
#ifndef HM_STOQ_PACKET_H
#define HM_STOQ_PACKET_H

#include "base/bytes.h"
#include "stoq/varint.h"
#include "stoq/version.h"

#define STOQ_MAX_CID 20
#define STOQ_LOCAL_CID 8 // length of the connection ids that we issue
#define STOQ_RESET_TOKEN 16
#define STOQ_RESET_MIN 21     // bytes of a stateless reset
#define STOQ_MIN_INITIAL 1200 // a datagram with an Initial packet is at least so long
#define STOQ_UDP_MAX 65527u   // bytes of a UDP payload
#define STOQ_AEAD_TAG 16
#define STOQ_RETRY_TAG 16
#define STOQ_KEY_PHASE 0x04 // in the first byte of a 1-RTT packet
// Of a 1-RTT packet to us: where its number is, and its least length, for what comes after the id
// is sampled for header protection.
#define STOQ_SHORT_PN (1 + STOQ_LOCAL_CID)
#define STOQ_SHORT_MIN (STOQ_SHORT_PN + 4 + STOQ_AEAD_TAG)

typedef struct stoq_cid {
    uint8_t len;
    uint8_t id[STOQ_MAX_CID]; // zero beyond len, so that the struct can be a map key
} stoq_cid;

static inline stoq_cid stoq_cid_of(const uint8_t *ptr, size_t len)
{
    stoq_cid c = {.len = (uint8_t)len};
    if (len > 0)
        memcpy(c.id, ptr, len);
    return c;
}
static inline bool stoq_cid_eq(const stoq_cid *a, const stoq_cid *b)
{
    return a->len == b->len && memcmp(a->id, b->id, a->len) == 0;
}

typedef enum stoq_packet_type {
    STOQ_PACKET_INITIAL,
    STOQ_PACKET_0RTT,
    STOQ_PACKET_HANDSHAKE,
    STOQ_PACKET_RETRY,
    STOQ_PACKET_1RTT,
    STOQ_PACKET_VERSION, // version negotiation
} stoq_packet_type;

// A parsed header, before header protection is removed. Views point into the datagram.
typedef struct stoq_packet {
    stoq_packet_type type;
    uint32_t version; // long headers; 1-RTT: 0
    stoq_cid dcid, scid;
    hm_bytes token;   // Initial: token; Retry: token; version negotiation: the versions
    size_t pn_offset; // of the protected packet number from the packet's start
    size_t len;       // of the whole packet; the next coalesced one starts there
} stoq_packet;

// Parses the packet at the start of the bytes. Short headers have connection ids of
// STOQ_LOCAL_CID bytes. HM_E_STOQ_DROPPED for anything that cannot be a packet of the versions
// spoken here; HM_E_UNSUPPORTED for a long header of another version (version, dcid, scid are then
// valid).
HM_CHECK hm_err stoq_packet_parse(const uint8_t *bytes, size_t len, stoq_packet *out);

// Bytes of a long header of this type before the packet number, with a two-byte length field.
size_t stoq_long_header_size(stoq_packet_type type, const stoq_cid *dcid, const stoq_cid *scid,
                             size_t token_len);
// Writes it (type Initial, 0-RTT or Handshake) with packet number length pn_len in the first byte
// and a length field of zero at *length_at, to be set with stoq_long_header_set_length(). Returns
// the end, where the packet number goes.
uint8_t *stoq_long_header_write(uint8_t *p, const stoq_version *version, stoq_packet_type type,
                                const stoq_cid *dcid, const stoq_cid *scid, hm_bytes token,
                                size_t pn_len, uint8_t **length_at);
// Writes the header of a Retry packet, up to its token; scid is the id that the server chose.
uint8_t *stoq_retry_header_write(uint8_t *p, const stoq_version *version, const stoq_cid *dcid,
                                 const stoq_cid *scid);
// len: bytes from the packet number to the end of the AEAD tag, below 16384.
static inline void stoq_long_header_set_length(uint8_t *length_at, size_t len)
{
    stoq_varint_write_n(length_at, len, 2);
}
uint8_t *stoq_short_header_write(uint8_t *p, const stoq_cid *dcid, bool key_phase, size_t pn_len);

// Packet number length (1 to 4) for pn when the peer has acknowledged up to largest_acked
// (UINT64_MAX: nothing), RFC 9000, appendix A.2.
size_t stoq_pn_length(uint64_t pn, uint64_t largest_acked);
static inline uint8_t *stoq_pn_write(uint8_t *p, uint64_t pn, size_t pn_len)
{
    for (size_t i = pn_len; i-- > 0; pn >>= 8)
        p[i] = (uint8_t)pn;
    return p + pn_len;
}
// The full packet number from a truncated one; expected = largest received + 1 (appendix A.3).
uint64_t stoq_pn_decode(uint64_t expected, uint64_t truncated, size_t pn_len);

// Version negotiation packet with these versions (0 ends) answering a packet with these ids;
// returns its length. random is one byte of noise for the first byte and the greased version.
#define STOQ_VERSION_PACKET_MAX (7 + 2 * 255 + 4 * (STOQ_MAX_VERSIONS + 1))
size_t stoq_version_packet_write(uint8_t out[STOQ_VERSION_PACKET_MAX],
                                 const uint32_t versions[STOQ_MAX_VERSIONS], hm_bytes dcid,
                                 hm_bytes scid, uint8_t random);
// Does a version negotiation packet name this one?
bool stoq_version_packet_has(const stoq_packet *packet, uint32_t version);

#endif
