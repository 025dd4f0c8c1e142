// The canonical wire codec: one value has one encoding, every read is bounds-checked.
//
// Integers are big endian and of fixed width. A byte string is a u32 length and the bytes; a list
// is a u32 count and the items; an optional value is a u8 0 or 1 and the value. There are no
// varints, no padding and no default fields, so decode(encode(x)) == x and encode(decode(b)) == b.
//
// Reading is sticky: after the first failure every read yields zero values, and hm_rd_end() gives
// the error, so a decoder reads straight through and checks once. Nothing is allocated; byte
// strings point into the input.
#ifndef HM_BASE_WIRE_H
#define HM_BASE_WIRE_H

#include "base/bytes.h"

typedef struct hm_rd {
    const uint8_t *ptr;
    size_t left;
    hm_err status;
} hm_rd;

static inline hm_rd hm_rd_of(hm_bytes b)
{
    return (hm_rd){b.ptr, b.len, HM_OK};
}
uint8_t hm_rd_u8(hm_rd *r);
uint16_t hm_rd_u16(hm_rd *r);
uint32_t hm_rd_u32(hm_rd *r);
uint64_t hm_rd_u64(hm_rd *r);
// A u8 that must be 0 or 1.
bool hm_rd_bool(hm_rd *r);
// An u8 that must be at most max (enumerations).
uint8_t hm_rd_enum(hm_rd *r, uint8_t max);
// len raw bytes, borrowed from the input.
hm_bytes hm_rd_raw(hm_rd *r, size_t len);
// len raw bytes copied to out (zeros on failure).
void hm_rd_copy(hm_rd *r, void *out, size_t len);
// A length-prefixed byte string of at most max bytes, borrowed from the input.
hm_bytes hm_rd_bytes(hm_rd *r, size_t max);
// A list count of at most max, each item at least min_item_bytes long (so that a hostile count can
// never make the reader allocate more than the input warrants).
uint32_t hm_rd_count(hm_rd *r, uint32_t max, size_t min_item_bytes);
// Marks the input as bad (a value that the caller refuses); the first failure stays.
void hm_rd_refuse(hm_rd *r, hm_err err);
static inline bool hm_rd_ok(const hm_rd *r)
{
    return r->status == HM_OK;
}
// HM_OK when everything was read well and nothing is left over.
HM_CHECK hm_err hm_rd_end(const hm_rd *r);

void hm_wr_u8(hm_buf *b, uint8_t v);
void hm_wr_u16(hm_buf *b, uint16_t v);
void hm_wr_u32(hm_buf *b, uint32_t v);
void hm_wr_u64(hm_buf *b, uint64_t v);
void hm_wr_bool(hm_buf *b, bool v);
void hm_wr_raw(hm_buf *b, const void *ptr, size_t len);
// A length-prefixed byte string; its length must be below 2^32 (asserted).
void hm_wr_bytes(hm_buf *b, hm_bytes s);

#endif
