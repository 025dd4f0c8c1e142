#include "stoq/packet.h"

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static hm_err parse_long(const uint8_t *bytes, size_t len, stoq_packet *out)
{
    const uint8_t *p = bytes + 5, *end = bytes + len;
    if (len < 7)
        return HM_E_STOQ_DROPPED;
    out->version = read_u32(bytes + 1);
    size_t dcid_len = *p++;
    if (dcid_len > STOQ_MAX_CID || (size_t)(end - p) < dcid_len + 1)
        return HM_E_STOQ_DROPPED;
    out->dcid = stoq_cid_of(p, dcid_len);
    p += dcid_len;
    size_t scid_len = *p++;
    if (scid_len > STOQ_MAX_CID || (size_t)(end - p) < scid_len)
        return HM_E_STOQ_DROPPED;
    out->scid = stoq_cid_of(p, scid_len);
    p += scid_len;
    out->token = hm_bytes_of(NULL, 0);
    out->pn_offset = 0;
    out->len = len;
    if (out->version == 0) {
        out->type = STOQ_PACKET_VERSION;
        out->token = hm_bytes_of(p, (size_t)(end - p));
        return out->token.len % 4 == 0 && out->token.len > 0 ? HM_OK : HM_E_STOQ_DROPPED;
    }
    const stoq_version *version = stoq_version_of(out->version);
    if (version == NULL)
        return HM_E_UNSUPPORTED;
    if (!(bytes[0] & 0x40)) // the fixed bit
        return HM_E_STOQ_DROPPED;
    static const stoq_packet_type types[] = {STOQ_PACKET_INITIAL, STOQ_PACKET_0RTT,
                                             STOQ_PACKET_HANDSHAKE, STOQ_PACKET_RETRY};
    out->type = types[((bytes[0] >> 4) - version->first_type) & 3];
    if (out->type == STOQ_PACKET_RETRY) {
        if ((size_t)(end - p) <= STOQ_RETRY_TAG) // a Retry without a token is void
            return HM_E_STOQ_DROPPED;
        out->token = hm_bytes_of(p, (size_t)(end - p) - STOQ_RETRY_TAG);
        return HM_OK;
    }
    uint64_t n;
    if (out->type == STOQ_PACKET_INITIAL) {
        if (!stoq_varint_read(&p, end, &n) || n > (uint64_t)(end - p))
            return HM_E_STOQ_DROPPED;
        out->token = hm_bytes_of(p, (size_t)n);
        p += n;
    }
    if (!stoq_varint_read(&p, end, &n) || n > (uint64_t)(end - p))
        return HM_E_STOQ_DROPPED;
    out->pn_offset = (size_t)(p - bytes);
    out->len = out->pn_offset + (size_t)n;
    // Enough for the header-protection sample, and so for a packet number and a tag.
    return n >= 4 + STOQ_AEAD_TAG ? HM_OK : HM_E_STOQ_DROPPED;
}

hm_err stoq_packet_parse(const uint8_t *bytes, size_t len, stoq_packet *out)
{
    if (len == 0)
        return HM_E_STOQ_DROPPED;
    if (bytes[0] & 0x80)
        return parse_long(bytes, len, out);
    if (!(bytes[0] & 0x40) || len < STOQ_SHORT_MIN)
        return HM_E_STOQ_DROPPED;
    out->type = STOQ_PACKET_1RTT;
    out->version = 0;
    out->dcid = stoq_cid_of(bytes + 1, STOQ_LOCAL_CID);
    out->scid = (stoq_cid){0};
    out->token = hm_bytes_of(NULL, 0);
    out->pn_offset = STOQ_SHORT_PN;
    out->len = len;
    return HM_OK;
}

size_t stoq_long_header_size(stoq_packet_type type, const stoq_cid *dcid, const stoq_cid *scid,
                             size_t token_len)
{
    size_t n = 1 + 4 + 1 + (size_t)dcid->len + 1 + (size_t)scid->len + 2;
    if (type == STOQ_PACKET_INITIAL)
        n += stoq_varint_size(token_len) + token_len;
    return n;
}

static uint8_t *write_bytes(uint8_t *p, const void *ptr, size_t len)
{
    if (len > 0)
        memcpy(p, ptr, len);
    return p + len;
}

static uint8_t *write_u32(uint8_t *p, uint32_t v)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *p++ = (uint8_t)(v >> shift);
    return p;
}

static uint8_t *write_long(uint8_t *p, const stoq_version *v, stoq_packet_type type,
                           const stoq_cid *dcid, const stoq_cid *scid, size_t low_bits)
{
    *p++ = (uint8_t)(0xc0 | ((unsigned)type + v->first_type) % 4 << 4 | low_bits);
    p = write_u32(p, v->number);
    *p++ = dcid->len;
    p = write_bytes(p, dcid->id, dcid->len);
    *p++ = scid->len;
    return write_bytes(p, scid->id, scid->len);
}

uint8_t *stoq_long_header_write(uint8_t *p, const stoq_version *version, stoq_packet_type type,
                                const stoq_cid *dcid, const stoq_cid *scid, hm_bytes token,
                                size_t pn_len, uint8_t **length_at)
{
    p = write_long(p, version, type, dcid, scid, pn_len - 1);
    if (type == STOQ_PACKET_INITIAL) {
        p = stoq_varint_write(p, token.len);
        p = write_bytes(p, token.ptr, token.len);
    }
    *length_at = p;
    return stoq_varint_write_n(p, 0, 2);
}

uint8_t *stoq_retry_header_write(uint8_t *p, const stoq_version *version, const stoq_cid *dcid,
                                 const stoq_cid *scid)
{
    return write_long(p, version, STOQ_PACKET_RETRY, dcid, scid, 0);
}

uint8_t *stoq_short_header_write(uint8_t *p, const stoq_cid *dcid, bool key_phase, size_t pn_len)
{
    *p++ = (uint8_t)(0x40 | (key_phase ? STOQ_KEY_PHASE : 0) | (pn_len - 1));
    return write_bytes(p, dcid->id, dcid->len);
}

size_t stoq_pn_length(uint64_t pn, uint64_t largest_acked)
{
    uint64_t unacked = largest_acked == UINT64_MAX ? pn + 1 : pn - largest_acked;
    // The receiver needs twice the range (appendix A.2).
    return unacked < 0x80 ? 1 : unacked < 0x8000 ? 2 : unacked < 0x800000 ? 3 : 4;
}

uint64_t stoq_pn_decode(uint64_t expected, uint64_t truncated, size_t pn_len)
{
    uint64_t win = UINT64_C(1) << (pn_len * 8), half = win / 2;
    uint64_t pn = (expected & ~(win - 1)) | truncated;
    if (pn + half <= expected && pn < (UINT64_C(1) << 62) - win)
        return pn + win;
    if (pn > expected + half && pn >= win)
        return pn - win;
    return pn;
}

size_t stoq_version_packet_write(uint8_t out[STOQ_VERSION_PACKET_MAX],
                                 const uint32_t versions[STOQ_MAX_VERSIONS], hm_bytes dcid,
                                 hm_bytes scid, uint8_t random)
{
    uint8_t *p = out;
    *p++ = (uint8_t)(0x80 | random);
    p = write_bytes(p, "\0\0\0\0", 4);
    *p++ = (uint8_t)scid.len; // the peer's source is our destination
    p = write_bytes(p, scid.ptr, scid.len);
    *p++ = (uint8_t)dcid.len;
    p = write_bytes(p, dcid.ptr, dcid.len);
    for (int i = 0; i < STOQ_MAX_VERSIONS && versions[i] != 0; i++)
        p = write_u32(p, versions[i]);
    // A reserved version 0x?a?a?a?a, so that clients keep ignoring what they do not know.
    uint8_t grease = (uint8_t)((random & 0xf0) | 0x0a);
    for (int i = 0; i < 4; i++)
        *p++ = grease;
    return (size_t)(p - out);
}

bool stoq_version_packet_has(const stoq_packet *packet, uint32_t version)
{
    for (size_t at = 0; at + 4 <= packet->token.len; at += 4)
        if (read_u32(packet->token.ptr + at) == version)
            return true;
    return false;
}
