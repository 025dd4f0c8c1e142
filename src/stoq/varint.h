// Variable-length integers of RFC 9000, section 16, inline because every frame is made of them.
#ifndef HM_STOQ_VARINT_H
#define HM_STOQ_VARINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define STOQ_VARINT_MAX ((UINT64_C(1) << 62) - 1)

// Reads at *p and advances it; false (and *p unmoved) when the bytes end too early.
static inline bool stoq_varint_read(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    const uint8_t *q = *p;
    if (q >= end)
        return false;
    size_t n = (size_t)1 << (*q >> 6);
    if ((size_t)(end - q) < n)
        return false;
    uint64_t v = *q & 0x3f;
    for (size_t i = 1; i < n; i++)
        v = v << 8 | q[i];
    *out = v;
    *p = q + n;
    return true;
}

static inline size_t stoq_varint_size(uint64_t v)
{
    return v < 0x40 ? 1 : v < 0x4000 ? 2 : v < 0x40000000 ? 4 : 8;
}

// Writes v in exactly n bytes (1, 2, 4 or 8, large enough) and returns the end.
static inline uint8_t *stoq_varint_write_n(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = n; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
    p[0] |= (uint8_t)(n == 1 ? 0 : n == 2 ? 0x40 : n == 4 ? 0x80 : 0xc0);
    return p + n;
}

// Writes v in the shortest form and returns the end; the caller has the room.
static inline uint8_t *stoq_varint_write(uint8_t *p, uint64_t v)
{
    return stoq_varint_write_n(p, v, stoq_varint_size(v));
}

#endif
