#include "base/crc.h"

// Bit by bit.
static uint32_t slow(uint32_t crc, hm_bytes b)
{
    for (size_t i = 0; i < b.len; i++) {
        crc ^= b.ptr[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t fast(uint32_t crc, hm_bytes b)
{
    uint64_t c = crc;
    for (; b.len >= 8; b.ptr += 8, b.len -= 8) {
        uint64_t word;
        memcpy(&word, b.ptr, 8);
        c = __builtin_ia32_crc32di(c, word);
    }
    for (; b.len > 0; b.ptr++, b.len--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *b.ptr);
    return (uint32_t)c;
}
#endif

uint32_t hm_crc32c(uint32_t before, hm_bytes b)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return ~fast(~before, b);
#endif
    return ~slow(~before, b);
}
