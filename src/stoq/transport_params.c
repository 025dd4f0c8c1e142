#include "stoq/transport_params.h"

#include "base/wire.h"

enum {
    ORIGINAL_DCID = 0x00,
    MAX_IDLE_TIMEOUT = 0x01,
    RESET_TOKEN = 0x02,
    MAX_UDP_PAYLOAD = 0x03,
    MAX_DATA = 0x04,
    MAX_STREAM_DATA_BIDI_LOCAL = 0x05,
    MAX_STREAM_DATA_BIDI_REMOTE = 0x06,
    MAX_STREAM_DATA_UNI = 0x07,
    MAX_STREAMS_BIDI = 0x08,
    MAX_STREAMS_UNI = 0x09,
    ACK_DELAY_EXPONENT = 0x0a,
    MAX_ACK_DELAY = 0x0b,
    DISABLE_ACTIVE_MIGRATION = 0x0c,
    PREFERRED_ADDRESS = 0x0d,
    ACTIVE_CID_LIMIT = 0x0e,
    INITIAL_SCID = 0x0f,
    RETRY_SCID = 0x10,
    VERSION_INFORMATION = 0x11,
    MAX_DATAGRAM_FRAME = 0x20, // RFC 9221
    KNOWN_COUNT
};
#define MIN_ACK_DELAY 0xff04de1b // draft-ietf-quic-ack-frequency

// The integer parameters: where they are kept, their default and their legal range.
static const struct {
    size_t offset;
    uint64_t def, min, max;
} integers[KNOWN_COUNT] = {
#define FIELD(f) offsetof(stoq_transport_params, f)
    [MAX_IDLE_TIMEOUT] = {FIELD(max_idle_timeout_ms), 0, 0, STOQ_VARINT_MAX},
    [MAX_UDP_PAYLOAD] = {FIELD(max_udp_payload_bytes), 65527, 1200, STOQ_VARINT_MAX},
    [MAX_DATA] = {FIELD(max_data), 0, 0, STOQ_VARINT_MAX},
    [MAX_STREAM_DATA_BIDI_LOCAL] = {FIELD(max_stream_data_bidi_local), 0, 0, STOQ_VARINT_MAX},
    [MAX_STREAM_DATA_BIDI_REMOTE] = {FIELD(max_stream_data_bidi_remote), 0, 0, STOQ_VARINT_MAX},
    [MAX_STREAM_DATA_UNI] = {FIELD(max_stream_data_uni), 0, 0, STOQ_VARINT_MAX},
    [MAX_STREAMS_BIDI] = {FIELD(max_streams_bidi), 0, 0, UINT64_C(1) << 60},
    [MAX_STREAMS_UNI] = {FIELD(max_streams_uni), 0, 0, UINT64_C(1) << 60},
    [ACK_DELAY_EXPONENT] = {FIELD(ack_delay_exponent), 3, 0, 20},
    [MAX_ACK_DELAY] = {FIELD(max_ack_delay_ms), 25, 0, (1 << 14) - 1},
    [ACTIVE_CID_LIMIT] = {FIELD(active_cid_limit), 2, 2, STOQ_VARINT_MAX},
    [MAX_DATAGRAM_FRAME] = {FIELD(max_datagram_frame_bytes), 0, 0, STOQ_VARINT_MAX},
#undef FIELD
};

static bool is_integer(uint64_t id)
{
    return id < KNOWN_COUNT && integers[id].max != 0;
}

static uint64_t *integer_at(stoq_transport_params *p, uint64_t id)
{
    return (uint64_t *)((char *)p + integers[id].offset);
}

void stoq_transport_params_default(stoq_transport_params *p)
{
    *p = (stoq_transport_params){0};
    for (uint64_t id = 0; id < KNOWN_COUNT; id++)
        if (is_integer(id))
            *integer_at(p, id) = integers[id].def;
}

static void put_varint(hm_buf *out, uint64_t v)
{
    uint8_t b[8];
    hm_buf_append(out, b, (size_t)(stoq_varint_write(b, v) - b));
}

static void put_bytes(hm_buf *out, uint64_t id, const void *ptr, size_t len)
{
    put_varint(out, id);
    put_varint(out, len);
    hm_buf_append(out, ptr, len);
}

// No address of IPv4; then one of IPv6, an id of 1 to 20 bytes and its reset token.
static void put_preferred_address(hm_buf *out, const stoq_transport_params *p)
{
    static const uint8_t no_ipv4[6];
    uint8_t mem[25 + STOQ_MAX_CID + STOQ_RESET_TOKEN];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_raw(&b, no_ipv4, sizeof no_ipv4);
    hm_wr_raw(&b, &p->preferred_address.sin6_addr, 16);
    hm_wr_u16(&b, ntohs(p->preferred_address.sin6_port));
    hm_wr_u8(&b, p->preferred_cid.len);
    hm_wr_raw(&b, p->preferred_cid.id, p->preferred_cid.len);
    hm_wr_raw(&b, p->preferred_token, STOQ_RESET_TOKEN);
    put_bytes(out, PREFERRED_ADDRESS, b.ptr, b.len);
}

static void put_version_information(hm_buf *out, const stoq_transport_params *p)
{
    uint8_t mem[4 * (STOQ_MAX_VERSIONS + 2)];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u32(&b, p->chosen_version);
    for (int i = 0; i <= STOQ_MAX_VERSIONS && p->available_versions[i] != 0; i++)
        hm_wr_u32(&b, p->available_versions[i]);
    put_bytes(out, VERSION_INFORMATION, b.ptr, b.len);
}

void stoq_transport_params_encode(const stoq_transport_params *p, hm_buf *out)
{
    stoq_transport_params copy = *p;
    for (uint64_t id = 0; id < KNOWN_COUNT; id++) {
        if (!is_integer(id) || *integer_at(&copy, id) == integers[id].def)
            continue;
        put_varint(out, id);
        put_varint(out, stoq_varint_size(*integer_at(&copy, id)));
        put_varint(out, *integer_at(&copy, id));
    }
    if (p->has_original_dcid)
        put_bytes(out, ORIGINAL_DCID, p->original_dcid.id, p->original_dcid.len);
    if (p->has_initial_scid)
        put_bytes(out, INITIAL_SCID, p->initial_scid.id, p->initial_scid.len);
    if (p->has_retry_scid)
        put_bytes(out, RETRY_SCID, p->retry_scid.id, p->retry_scid.len);
    if (p->has_reset_token)
        put_bytes(out, RESET_TOKEN, p->reset_token, STOQ_RESET_TOKEN);
    if (p->has_preferred)
        put_preferred_address(out, p);
    if (p->disable_active_migration)
        put_bytes(out, DISABLE_ACTIVE_MIGRATION, NULL, 0);
    if (p->has_min_ack_delay) {
        put_varint(out, MIN_ACK_DELAY);
        put_varint(out, stoq_varint_size(p->min_ack_delay_us));
        put_varint(out, p->min_ack_delay_us);
    }
    if (p->chosen_version != 0)
        put_version_information(out, p);
}

static hm_err decode_cid(hm_bytes v, bool *has, stoq_cid *out)
{
    if (v.len > STOQ_MAX_CID)
        return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameters: connection id of %zu bytes",
                       v.len);
    *has = true;
    *out = stoq_cid_of(v.ptr, v.len);
    return HM_OK;
}

static hm_err decode_integer(uint64_t id, hm_bytes v, stoq_transport_params *out)
{
    const uint8_t *p = v.ptr, *end = v.ptr + v.len;
    uint64_t n;
    if (v.len == 0 || !stoq_varint_read(&p, end, &n) || p != end || n < integers[id].min ||
        n > integers[id].max)
        return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameter 0x%x: value out of range",
                       (unsigned)id);
    *integer_at(out, id) = n;
    return HM_OK;
}

static hm_err decode_min_ack_delay(hm_bytes v, stoq_transport_params *out)
{
    const uint8_t *p = v.ptr, *end = v.ptr + v.len;
    if (out->has_min_ack_delay || v.len == 0 ||
        !stoq_varint_read(&p, end, &out->min_ack_delay_us) || p != end)
        return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameters: min_ack_delay is void or twice");
    out->has_min_ack_delay = true;
    return HM_OK;
}

// 4 + 2 + 16 + 2 bytes of addresses, a connection id of 1 to 20 bytes, a reset token.
static bool preferred_address_ok(hm_bytes v)
{
    return v.len > 24 && v.ptr[24] >= 1 && v.ptr[24] <= STOQ_MAX_CID &&
           v.len == 25u + v.ptr[24] + STOQ_RESET_TOKEN;
}

static void keep_preferred_address(const uint8_t *p, stoq_transport_params *out)
{
    out->has_preferred = true;
    out->preferred_address = (struct sockaddr_in6){.sin6_family = AF_INET6};
    memcpy(&out->preferred_address.sin6_addr, p + 6, 16);
    out->preferred_address.sin6_port = htons((uint16_t)(p[22] << 8 | p[23]));
    out->preferred_cid = stoq_cid_of(p + 25, p[24]);
    memcpy(out->preferred_token, p + 25 + p[24], STOQ_RESET_TOKEN);
}

static bool keep_version(stoq_transport_params *p, uint32_t version)
{
    uint32_t *v = p->available_versions;
    if (version != p->chosen_version && stoq_version_of(version) == NULL)
        return version != 0;
    while (*v != 0 && *v != version)
        v++;
    *v = version; // of those that pass here there are no more than places
    return true;
}

static hm_err decode_version_information(hm_bytes in, bool from_client, stoq_transport_params *out)
{
    hm_rd r = hm_rd_of(in);
    bool ok = in.len >= 4 && in.len % 4 == 0, listed = !from_client;
    out->chosen_version = ok ? hm_rd_u32(&r) : 0;
    ok = ok && out->chosen_version != 0;
    for (size_t i = 4; ok && i < in.len; i += 4) {
        uint32_t version = hm_rd_u32(&r);
        listed |= version == out->chosen_version;
        ok = keep_version(out, version);
    }
    if (!ok || !listed)
        return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameters: version_information is void");
    return HM_OK;
}

static hm_err decode_one(uint64_t id, hm_bytes v, bool from_client, stoq_transport_params *out)
{
    if (is_integer(id))
        return decode_integer(id, v, out);
    if (from_client &&
        (id == ORIGINAL_DCID || id == RESET_TOKEN || id == PREFERRED_ADDRESS || id == RETRY_SCID))
        return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameter 0x%x from a client", (unsigned)id);
    switch (id) {
    case ORIGINAL_DCID:
        return decode_cid(v, &out->has_original_dcid, &out->original_dcid);
    case INITIAL_SCID:
        return decode_cid(v, &out->has_initial_scid, &out->initial_scid);
    case RETRY_SCID:
        return decode_cid(v, &out->has_retry_scid, &out->retry_scid);
    case RESET_TOKEN:
        if (v.len != STOQ_RESET_TOKEN)
            break;
        out->has_reset_token = true;
        memcpy(out->reset_token, v.ptr, STOQ_RESET_TOKEN);
        return HM_OK;
    case DISABLE_ACTIVE_MIGRATION:
        if (v.len != 0)
            break;
        out->disable_active_migration = true;
        return HM_OK;
    case VERSION_INFORMATION:
        return decode_version_information(v, from_client, out);
    case MIN_ACK_DELAY:
        return decode_min_ack_delay(v, out);
    case PREFERRED_ADDRESS:
        if (!preferred_address_ok(v))
            break;
        keep_preferred_address(v.ptr, out);
        return HM_OK;
    default:
        return HM_OK; // section 7.4.2: unknown parameters are ignored
    }
    return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameter 0x%x: wrong length", (unsigned)id);
}

hm_err stoq_transport_params_decode(hm_bytes in, bool from_client, stoq_transport_params *out)
{
    stoq_transport_params t;
    stoq_transport_params_default(&t);
    const uint8_t *p = in.ptr, *end = in.len ? in.ptr + in.len : in.ptr;
    uint64_t seen = 0;
    while (p < end) {
        uint64_t id, len;
        if (!stoq_varint_read(&p, end, &id) || !stoq_varint_read(&p, end, &len) ||
            len > (uint64_t)(end - p))
            return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameters end too early");
        if (id < 64) { // of the unknown ones twice is not worth a table
            if (seen & UINT64_C(1) << id)
                return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameter 0x%x twice", (unsigned)id);
            seen |= UINT64_C(1) << id;
        }
        HM_TRY(decode_one(id, hm_bytes_of(p, (size_t)len), from_client, &t));
        p += len;
    }
    if (t.min_ack_delay_us > t.max_ack_delay_ms * 1000)
        return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameters: min_ack_delay above the other");
    *out = t;
    return HM_OK;
}
