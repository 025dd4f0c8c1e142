#include "base/wire.h"

void hm_rd_refuse(hm_rd *r, hm_err err)
{
    hm_assert(err != HM_OK);
    if (r->status == HM_OK)
        r->status = err;
}

hm_bytes hm_rd_raw(hm_rd *r, size_t len)
{
    if (r->status != HM_OK)
        return (hm_bytes){0};
    if (len > r->left) {
        r->status = HM_E_TRUNCATED;
        return (hm_bytes){0};
    }
    hm_bytes out = {r->ptr, len};
    r->ptr = len ? r->ptr + len : r->ptr;
    r->left -= len;
    return out;
}

void hm_rd_copy(hm_rd *r, void *out, size_t len)
{
    hm_bytes b = hm_rd_raw(r, len);
    if (b.len == len && len > 0)
        memcpy(out, b.ptr, len);
    else
        memset(out, 0, len);
}

static uint64_t rd_be(hm_rd *r, size_t width)
{
    hm_bytes b = hm_rd_raw(r, width);
    uint64_t v = 0;
    for (size_t i = 0; i < b.len; i++)
        v = v << 8 | b.ptr[i];
    return v;
}

uint8_t hm_rd_u8(hm_rd *r)
{
    return (uint8_t)rd_be(r, 1);
}

uint16_t hm_rd_u16(hm_rd *r)
{
    return (uint16_t)rd_be(r, 2);
}

uint32_t hm_rd_u32(hm_rd *r)
{
    return (uint32_t)rd_be(r, 4);
}

uint64_t hm_rd_u64(hm_rd *r)
{
    return rd_be(r, 8);
}

bool hm_rd_bool(hm_rd *r)
{
    return hm_rd_enum(r, 1) == 1;
}

uint8_t hm_rd_enum(hm_rd *r, uint8_t max)
{
    uint8_t v = hm_rd_u8(r);
    if (v > max) {
        hm_rd_refuse(r, HM_E_NONCANONICAL);
        return 0;
    }
    return v;
}

hm_bytes hm_rd_bytes(hm_rd *r, size_t max)
{
    uint32_t len = hm_rd_u32(r);
    if (len > max) {
        hm_rd_refuse(r, HM_E_LIMIT);
        return (hm_bytes){0};
    }
    return hm_rd_raw(r, len);
}

uint32_t hm_rd_count(hm_rd *r, uint32_t max, size_t min_item_bytes)
{
    uint32_t n = hm_rd_u32(r);
    if (n > max) {
        hm_rd_refuse(r, HM_E_LIMIT);
        return 0;
    }
    if (min_item_bytes > 0 && n > r->left / min_item_bytes) {
        hm_rd_refuse(r, HM_E_TRUNCATED);
        return 0;
    }
    return r->status == HM_OK ? n : 0;
}

hm_err hm_rd_end(const hm_rd *r)
{
    if (r->status != HM_OK)
        return r->status;
    return r->left == 0 ? HM_OK : HM_E_TRAILING;
}

static void wr_be(hm_buf *b, uint64_t v, size_t width)
{
    uint8_t *p = hm_buf_reserve(b, width);
    if (!p)
        return;
    for (size_t i = 0; i < width; i++)
        p[i] = (uint8_t)(v >> (8 * (width - 1 - i)));
    b->len += width;
}

void hm_wr_u8(hm_buf *b, uint8_t v)
{
    wr_be(b, v, 1);
}

void hm_wr_u16(hm_buf *b, uint16_t v)
{
    wr_be(b, v, 2);
}

void hm_wr_u32(hm_buf *b, uint32_t v)
{
    wr_be(b, v, 4);
}

void hm_wr_u64(hm_buf *b, uint64_t v)
{
    wr_be(b, v, 8);
}

void hm_wr_bool(hm_buf *b, bool v)
{
    hm_wr_u8(b, v ? 1 : 0);
}

void hm_wr_raw(hm_buf *b, const void *ptr, size_t len)
{
    hm_buf_append(b, ptr, len);
}

void hm_wr_bytes(hm_buf *b, hm_bytes s)
{
    hm_assert(s.len <= UINT32_MAX);
    hm_wr_u32(b, (uint32_t)s.len);
    hm_buf_put(b, s);
}
