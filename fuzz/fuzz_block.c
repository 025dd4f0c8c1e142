// A block's bytes: what decodes encodes to the same bytes, has the id of its header and the root of
// its operations.
#include <stdlib.h>

#include "mesh/block.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(hm_bytes in)
{
    hm_block b;
    hm_block_header h;
    hm_buf out = {0};
    bool peeked = hm_block_peek(in, &h) == HM_OK;
    if (peeked) {
        hm_block_header_encode(&out, &h);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&out), hm_bytes_of(in.ptr, HM_BLOCK_HEADER_BYTES)));
        hm_buf_reset(&out);
    }
    if (hm_block_decode(in, &b) == HM_OK) {
        hm_hash id = hm_block_header_id(&b.header);
        hm_assert(peeked && hm_hash_eq(&id, &b.id));
        hm_block_encode(&out, &b.header, b.ops, b.count);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&out), in));
        hm_block_free(&b);
    }
    hm_buf_free(&out);
}

// Puts the right root into the header, which no mutation finds.
static void mend(uint8_t *block, size_t size)
{
    static hm_hash ids[HM_BLOCK_OPS_MAX];
    hm_rd r = hm_rd_of(hm_bytes_of(block + HM_BLOCK_HEADER_BYTES, size - HM_BLOCK_HEADER_BYTES));
    uint32_t count = 0;
    while (hm_rd_ok(&r) && r.left > 0 && count < HM_BLOCK_OPS_MAX) {
        hm_bytes op = hm_rd_bytes(&r, HM_OP_BYTES_MAX);
        if (hm_rd_ok(&r))
            ids[count++] = hm_op_id(op);
    }
    hm_hash root;
    hm_assert(hm_block_ops_root(ids, count, &root) == HM_OK);
    hm_buf fixed = hm_buf_fixed(block + HM_BLOCK_HEADER_BYTES - 68, 36);
    hm_wr_raw(&fixed, root.b, HM_HASH_BYTES);
    hm_wr_u32(&fixed, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(hm_bytes_of(data, size));
    if (size < HM_BLOCK_HEADER_BYTES)
        return 0;
    uint8_t *copy = malloc(size);
    hm_assert(copy != NULL);
    memcpy(copy, data, size);
    mend(copy, size);
    check(hm_bytes_of(copy, size));
    free(copy);
    return 0;
}
