#include "mesh/block.h"

#include <stdlib.h>

void hm_block_header_encode(hm_buf *out, const hm_block_header *h)
{
    hm_wr_u8(out, HM_BLOCK_VERSION);
    hm_wr_raw(out, h->chain_id.b, HM_HASH_BYTES);
    hm_wr_u64(out, h->height);
    hm_wr_u64(out, h->view);
    hm_wr_raw(out, h->parent.b, HM_HASH_BYTES);
    hm_wr_raw(out, h->proposer.b, HM_HASH_BYTES);
    hm_wr_u64(out, h->time_ms);
    hm_wr_u64(out, h->epoch);
    hm_wr_raw(out, h->ops_root.b, HM_HASH_BYTES);
    hm_wr_u32(out, h->ops_count);
    hm_wr_raw(out, h->state_root.b, HM_HASH_BYTES);
}

static void header_read(hm_rd *r, hm_block_header *h)
{
    if (hm_rd_u8(r) != HM_BLOCK_VERSION)
        hm_rd_refuse(r, HM_E_UNSUPPORTED);
    hm_rd_copy(r, h->chain_id.b, HM_HASH_BYTES);
    h->height = hm_rd_u64(r);
    h->view = hm_rd_u64(r);
    hm_rd_copy(r, h->parent.b, HM_HASH_BYTES);
    hm_rd_copy(r, h->proposer.b, HM_HASH_BYTES);
    h->time_ms = hm_rd_u64(r);
    h->epoch = hm_rd_u64(r);
    hm_rd_copy(r, h->ops_root.b, HM_HASH_BYTES);
    h->ops_count = hm_rd_u32(r);
    hm_rd_copy(r, h->state_root.b, HM_HASH_BYTES);
    if (hm_rd_ok(r) && (h->height == 0 || h->ops_count > HM_BLOCK_OPS_MAX))
        hm_rd_refuse(r, HM_E_BLOCK);
}

hm_err hm_block_header_decode(hm_bytes bytes, hm_block_header *out)
{
    hm_rd r = hm_rd_of(bytes);
    hm_block_header h = {0};
    header_read(&r, &h);
    HM_TRY(hm_rd_end(&r));
    *out = h;
    return HM_OK;
}

hm_hash hm_block_header_id(const hm_block_header *h)
{
    uint8_t mem[HM_BLOCK_HEADER_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_block_header_encode(&b, h);
    hm_assert(b.len == sizeof mem);
    return hm_sha256(hm_buf_bytes(&b));
}

void hm_block_encode(hm_buf *out, const hm_block_header *h, const hm_bytes *ops, uint32_t count)
{
    hm_assert(h->ops_count == count);
    hm_block_header_encode(out, h);
    for (uint32_t i = 0; i < count; i++)
        hm_wr_bytes(out, ops[i]);
}

hm_err hm_block_peek(hm_bytes block, hm_block_header *out)
{
    if (block.len < HM_BLOCK_HEADER_BYTES)
        return hm_fail(HM_E_TRUNCATED, "a block of %zu bytes has no header", block.len);
    return hm_block_header_decode(hm_bytes_of(block.ptr, HM_BLOCK_HEADER_BYTES), out);
}

hm_err hm_block_ops_root(const hm_hash *ids, uint32_t count, hm_hash *out)
{
    hm_hash *leaves = malloc((count + 1u) * sizeof *leaves);
    if (leaves == NULL)
        return HM_E_NOMEM;
    for (uint32_t i = 0; i < count; i++)
        leaves[i] = hm_merkle_leaf(hm_hash_bytes(&ids[i]));
    *out = hm_merkle_root(leaves, count);
    free(leaves);
    return HM_OK;
}

hm_err hm_block_decode(hm_bytes bytes, hm_block *out)
{
    if (bytes.len > HM_BLOCK_BYTES_MAX)
        return hm_fail(HM_E_LIMIT, "a block of %zu bytes; at most %u", bytes.len,
                       HM_BLOCK_BYTES_MAX);
    hm_block b = {0};
    hm_rd r = hm_rd_of(bytes);
    header_read(&r, &b.header);
    if (!hm_rd_ok(&r))
        return hm_rd_end(&r);
    if ((size_t)b.header.ops_count * 4 > r.left)
        return hm_fail(HM_E_TRUNCATED, "the block ends before its %u operations",
                       b.header.ops_count);
    b.count = b.header.ops_count;
    b.ops = calloc(b.count + 1u, sizeof *b.ops);
    hm_hash *ids = calloc(b.count + 1u, sizeof *ids);
    hm_err err = b.ops != NULL && ids != NULL ? HM_OK : HM_E_NOMEM;
    hm_hash root;
    if (err != HM_OK)
        goto out;
    for (uint32_t i = 0; i < b.count; i++) {
        b.ops[i] = hm_rd_bytes(&r, HM_OP_BYTES_MAX);
        if (hm_rd_ok(&r))
            ids[i] = hm_op_id(b.ops[i]);
    }
    HM_TRY_OUT(hm_rd_end(&r));
    HM_TRY_OUT(hm_block_ops_root(ids, b.count, &root));
    if (!hm_hash_eq(&root, &b.header.ops_root))
        err = hm_fail(HM_E_BLOCK, "the header's operations root is not that of the operations");
out:
    free(ids);
    if (err != HM_OK) {
        free(b.ops);
        return err;
    }
    b.id = hm_sha256(hm_bytes_of(bytes.ptr, HM_BLOCK_HEADER_BYTES));
    *out = b;
    return HM_OK;
}

void hm_block_free(hm_block *b)
{
    free(b->ops);
    *b = (hm_block){0};
}
