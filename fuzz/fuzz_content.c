// A commitment and a manifest: what checks is what committing to that manifest gives. Where size
// and counts agree (the ledger sees to that), the lengths of the chunks sum up to the size.
#include "mesh/content.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(hm_commitment *c, hm_bytes manifest)
{
    hm_commitment again;
    if (hm_manifest_check(c, manifest) != HM_OK)
        return;
    hm_assert(manifest.len == (size_t)c->chunk_count * HM_HASH_BYTES);
    hm_assert(hm_manifest_commit(manifest, c->size, c->chunk_bytes, &again) == HM_OK);
    hm_assert(again.chunk_count == c->chunk_count && hm_hash_eq(&again.root, &c->root));
    if (c->chunk_bytes == 0 || c->size > UINT64_MAX / 2 ||
        c->chunk_count != (c->size + c->chunk_bytes - 1) / c->chunk_bytes)
        return;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->chunk_count; i++) {
        uint32_t len = hm_commitment_chunk_len(c, i);
        hm_assert(len > 0 && len <= c->chunk_bytes);
        sum += len;
    }
    hm_assert(sum == c->size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hm_rd r = hm_rd_of(hm_bytes_of(data, size));
    hm_commitment c = {.size = hm_rd_u64(&r)}, made;
    c.chunk_bytes = hm_rd_u32(&r);
    c.chunk_count = hm_rd_u32(&r);
    hm_rd_copy(&r, c.root.b, HM_HASH_BYTES);
    if (!hm_rd_ok(&r))
        return 0;
    hm_bytes manifest = hm_bytes_of(r.ptr, r.left);
    check(&c, manifest);
    if (hm_manifest_commit(manifest, c.size, c.chunk_bytes, &made) == HM_OK) {
        hm_assert(hm_manifest_check(&made, manifest) == HM_OK);
        check(&made, manifest);
    }
    return 0;
}
