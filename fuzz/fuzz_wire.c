// The codec under arbitrary bytes: the first byte of each step picks the read. What was read is
// written again and must be the bytes that were consumed.
#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hm_rd r = hm_rd_of(hm_bytes_of(data, size));
    hm_buf again = {0};
    while (hm_rd_ok(&r) && r.left > 0) {
        uint8_t what = hm_rd_enum(&r, 6);
        const uint8_t *from = r.ptr;
        hm_buf_reset(&again);
        switch (what) {
        case 0:
            hm_wr_u8(&again, hm_rd_u8(&r));
            break;
        case 1:
            hm_wr_u16(&again, hm_rd_u16(&r));
            break;
        case 2:
            hm_wr_u32(&again, hm_rd_u32(&r));
            break;
        case 3:
            hm_wr_u64(&again, hm_rd_u64(&r));
            break;
        case 4:
            hm_wr_bool(&again, hm_rd_bool(&r));
            break;
        case 5:
            hm_wr_bytes(&again, hm_rd_bytes(&r, 1024));
            break;
        default:
            hm_wr_u32(&again, hm_rd_count(&r, 1000, 3));
            break;
        }
        if (hm_rd_ok(&r)) {
            hm_assert((size_t)(r.ptr - from) == again.len);
            hm_assert(memcmp(from, again.ptr, again.len) == 0);
        }
    }
    hm_buf_free(&again);
    return 0;
}
