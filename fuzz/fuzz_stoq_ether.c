// Frames from a ring: what parses lies within its bytes and, written again, parses to the same.
#include "stoq/ether.h"

#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t out[STOQ_ETHER_HEADERS + 65536];
    stoq_ether a, b;
    if (!stoq_ether_parse(hm_bytes_of(data, size), &a))
        return 0;
    hm_assert(a.payload.len > 0 && a.payload.ptr == data + STOQ_ETHER_HEADERS &&
              a.payload.len <= size - STOQ_ETHER_HEADERS && a.ecn <= 3);
    size_t len = stoq_ether_write(out, &a);
    hm_assert(len == STOQ_ETHER_HEADERS + a.payload.len);
    hm_assert(stoq_ether_parse(hm_bytes_of(out, len), &b));
    hm_assert(memcmp(&a, &b, offsetof(stoq_ether, ecn)) == 0 && a.ecn == b.ecn &&
              hm_bytes_eq(a.payload, b.payload));
    return 0;
}
