// Packet headers: what parses lies within its bytes and, written again, parses to the same. Packet
// numbers come back from every length that the sender may choose.
#include "stoq/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void written_again(const stoq_packet *a)
{
    static uint8_t out[65536];
    uint8_t *length_at;
    size_t payload = a->len - a->pn_offset;
    uint8_t *p = stoq_long_header_write(out, stoq_version_of(a->version), a->type, &a->dcid,
                                        &a->scid, a->token, 1, &length_at);
    hm_assert((size_t)(p - out) ==
              stoq_long_header_size(a->type, &a->dcid, &a->scid, a->token.len));
    if (payload >= 16384)
        return;
    stoq_long_header_set_length(length_at, payload);
    memset(p, 0, payload);
    stoq_packet b;
    hm_assert(stoq_packet_parse(out, (size_t)(p - out) + payload, &b) == HM_OK);
    hm_assert(a->type == b.type && a->version == b.version && stoq_cid_eq(&a->dcid, &b.dcid) &&
              stoq_cid_eq(&a->scid, &b.scid) && hm_bytes_eq(a->token, b.token));
    hm_assert(b.pn_offset == (size_t)(p - out) && b.len - b.pn_offset == payload);
}

static void version_answer(const stoq_packet *a)
{
    uint8_t out[STOQ_VERSION_PACKET_MAX];
    stoq_packet b;
    static const uint32_t ours[STOQ_MAX_VERSIONS] = {STOQ_VERSION_1, STOQ_VERSION_2};
    hm_assert(a->version != 0 && stoq_version_of(a->version) == NULL);
    size_t len = stoq_version_packet_write(out, ours, hm_bytes_of(a->dcid.id, a->dcid.len),
                                           hm_bytes_of(a->scid.id, a->scid.len), 0x5a);
    hm_assert(len <= sizeof out && stoq_packet_parse(out, len, &b) == HM_OK);
    hm_assert(b.type == STOQ_PACKET_VERSION && stoq_cid_eq(&a->dcid, &b.scid) &&
              stoq_cid_eq(&a->scid, &b.dcid) && b.token.len == 12 &&
              stoq_version_packet_has(&b, STOQ_VERSION_2));
}

static void packet_numbers(const uint8_t *data)
{
    uint64_t v[3]; // acknowledged <= received < sent, none more than 2^30 before the next
    for (int i = 0; i < 3; i++) {
        memcpy(&v[i], data + 8 * i, 8);
        v[i] = i == 0 ? v[0] >> 2 : v[i - 1] + (v[i] & 0x3fffffff) + (i == 2);
    }
    uint64_t pn = v[2];
    if (pn > STOQ_VARINT_MAX)
        return;
    bool none = v[0] == 0;
    size_t len = stoq_pn_length(pn, none ? UINT64_MAX : v[0]);
    if (none && pn >= UINT64_C(1) << 31) // nobody sends so many without an acknowledgement
        return;
    uint8_t bytes[4];
    hm_assert(len >= 1 && len <= 4 && stoq_pn_write(bytes, pn, len) == bytes + len);
    uint64_t truncated = 0;
    for (size_t i = 0; i < len; i++)
        truncated = truncated << 8 | bytes[i];
    hm_assert(stoq_pn_decode(v[1] + 1, truncated, len) == pn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        stoq_packet p;
        hm_err err = stoq_packet_parse(data + at, size - at, &p);
        if (err == HM_E_UNSUPPORTED)
            version_answer(&p);
        if (err != HM_OK)
            break;
        hm_assert(p.len > 0 && p.len <= size - at);
        hm_assert(p.dcid.len <= STOQ_MAX_CID && p.scid.len <= STOQ_MAX_CID);
        if (p.type == STOQ_PACKET_RETRY || p.type == STOQ_PACKET_VERSION) {
            hm_assert(p.len == size - at && p.token.len > 0);
            break;
        }
        hm_assert(p.pn_offset > 0 && p.len - p.pn_offset >= 4 + STOQ_AEAD_TAG);
        if (p.type != STOQ_PACKET_1RTT)
            written_again(&p);
        at += p.len;
    }
    if (size >= 24)
        packet_numbers(data);
    return 0;
}
