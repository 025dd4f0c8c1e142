// What a content's addresses are, and who keeps what: pure functions.
#include <stdlib.h>

#include "mesh/content.h"

static hm_err manifest_root(hm_bytes manifest, hm_hash *root)
{
    if (manifest.len % HM_HASH_BYTES != 0 || manifest.len > HM_CONTENT_MANIFEST_MAX)
        return hm_fail(HM_E_LIMIT, "a manifest of %zu bytes", manifest.len);
    size_t count = manifest.len / HM_HASH_BYTES;
    hm_hash *leaves = malloc((count + 1) * sizeof *leaves);
    if (leaves == NULL)
        return HM_E_NOMEM;
    for (size_t i = 0; i < count; i++)
        leaves[i] = hm_merkle_leaf(hm_bytes_of(manifest.ptr + i * HM_HASH_BYTES, HM_HASH_BYTES));
    *root = hm_merkle_root(leaves, count);
    free(leaves);
    return HM_OK;
}

hm_err hm_chunk_is(const hm_hash *hash, hm_bytes chunk)
{
    hm_hash got = hm_sha256(chunk);
    if (!hm_hash_eq(&got, hash))
        return hm_fail(HM_E_CHUNK_HASH, "a chunk's bytes are not those of its address");
    return HM_OK;
}

hm_err hm_manifest_is(const hm_hash *root, hm_bytes manifest)
{
    hm_hash got;
    HM_TRY(manifest_root(manifest, &got));
    if (!hm_hash_eq(&got, root))
        return hm_fail(HM_E_CHUNK_HASH, "a manifest's bytes are not those of its root");
    return HM_OK;
}

hm_err hm_manifest_check(const hm_commitment *c, hm_bytes manifest)
{
    hm_hash root;
    HM_TRY(manifest_root(manifest, &root));
    if (manifest.len / HM_HASH_BYTES != c->chunk_count || !hm_hash_eq(&root, &c->root))
        return hm_fail(HM_E_CHUNK_HASH, "the manifest is not that of the content");
    return HM_OK;
}

hm_err hm_manifest_commit(hm_bytes manifest, uint64_t size, uint32_t chunk_bytes,
                          hm_commitment *out)
{
    hm_commitment c = {.size = size, .chunk_bytes = chunk_bytes};
    c.chunk_count = (uint32_t)(manifest.len / HM_HASH_BYTES);
    HM_TRY(manifest_root(manifest, &c.root));
    *out = c;
    return HM_OK;
}

uint32_t hm_commitment_chunk_len(const hm_commitment *c, uint32_t index)
{
    uint64_t start = (uint64_t)index * c->chunk_bytes;
    uint64_t left = c->size - start;
    return left < c->chunk_bytes ? (uint32_t)left : c->chunk_bytes;
}

void hm_placement(const hm_hash *address, const hm_node_id *nodes, uint32_t count, uint32_t *order)
{
    hm_hash weight[100];
    hm_assert(count <= 100);
    for (uint32_t i = 0; i < count; i++) {
        weight[i] = hm_sha256_2(hm_hash_bytes(address), hm_hash_bytes(&nodes[i]));
        uint32_t at = i;
        for (; at > 0 && memcmp(weight[order[at - 1]].b, weight[i].b, HM_HASH_BYTES) < 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}
