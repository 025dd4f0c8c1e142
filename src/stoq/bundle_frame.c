#include "stoq/bundle_frame.h"

#include "base/wire.h"
#include "hypermesh/stoq_bundle.h"

// Of a frame without a piece's bytes, by type; the type is the first byte.
static const uint8_t lengths[] = {
    [BUNDLE_OPEN] = 1 + 1 + 8,
    [BUNDLE_JOIN] = 1 + 1 + 1 + BUNDLE_ID + BUNDLE_PROOF,
    [BUNDLE_OPENED] = 1 + BUNDLE_ID + 8,
    [BUNDLE_JOINED] = 1,
    [BUNDLE_PIECE] = BUNDLE_PIECE_HEAD,
    [BUNDLE_TAKEN] = 1 + 8,
    [BUNDLE_ALLOW] = 1 + 8,
    [BUNDLE_END] = 1 + 8,
    [BUNDLE_GONE] = 1 + 1,
    [BUNDLE_TAKEN_OF] = 1 + 1 + 8,
};

static bool has_version(bundle_type t)
{
    return t == BUNDLE_OPEN || t == BUNDLE_JOIN;
}
static bool has_index(bundle_type t)
{
    return t == BUNDLE_JOIN || t == BUNDLE_GONE || t == BUNDLE_TAKEN_OF;
}
static bool has_id(bundle_type t)
{
    return t == BUNDLE_JOIN || t == BUNDLE_OPENED;
}
static bool has_value(bundle_type t)
{
    return t != BUNDLE_JOIN && t != BUNDLE_JOINED && t != BUNDLE_GONE;
}

hm_err bundle_frame_parse(hm_bytes in, bundle_frame *out, size_t *used)
{
    if (in.len == 0)
        return HM_E_AGAIN;
    if (in.ptr[0] == 0 || in.ptr[0] >= sizeof lengths)
        return hm_fail(HM_E_PARSE, "a bundle's frame of type %u, which is none", in.ptr[0]);
    size_t len = lengths[in.ptr[0]];
    if (in.len < len)
        return HM_E_AGAIN;
    hm_rd r = hm_rd_of(hm_bytes_of(in.ptr, len));
    bundle_frame f = {.type = hm_rd_u8(&r)};
    if (has_version(f.type))
        f.version = hm_rd_u8(&r);
    if (has_index(f.type))
        f.index = hm_rd_u8(&r);
    if (has_id(f.type))
        hm_rd_copy(&r, f.id, sizeof f.id);
    if (f.type == BUNDLE_JOIN)
        hm_rd_copy(&r, f.proof, sizeof f.proof);
    if (has_value(f.type))
        f.value = hm_rd_u64(&r);
    if (f.type == BUNDLE_PIECE)
        f.len = hm_rd_u16(&r);
    if (f.value > BUNDLE_OFFSET_MAX)
        return hm_fail(HM_E_PARSE, "a bundle's frame with a number beyond 2^62");
    if (f.type == BUNDLE_PIECE && (f.len == 0 || f.len > STOQ_BUNDLE_PIECE_MAX))
        return hm_fail(HM_E_PARSE, "a piece of %u bytes; it has 1 to %u", f.len,
                       STOQ_BUNDLE_PIECE_MAX);
    HM_TRY(hm_rd_end(&r));
    *out = f;
    *used = len;
    return HM_OK;
}

size_t bundle_frame_write(const bundle_frame *f, uint8_t out[BUNDLE_FRAME_MAX])
{
    hm_buf b = hm_buf_fixed(out, BUNDLE_FRAME_MAX);
    hm_wr_u8(&b, (uint8_t)f->type);
    if (has_version(f->type))
        hm_wr_u8(&b, f->version);
    if (has_index(f->type))
        hm_wr_u8(&b, f->index);
    if (has_id(f->type))
        hm_wr_raw(&b, f->id, sizeof f->id);
    if (f->type == BUNDLE_JOIN)
        hm_wr_raw(&b, f->proof, sizeof f->proof);
    if (has_value(f->type))
        hm_wr_u64(&b, f->value);
    if (f->type == BUNDLE_PIECE)
        hm_wr_u16(&b, f->len);
    hm_assert(hm_buf_status(&b) == HM_OK && b.len == lengths[f->type]);
    return b.len;
}
