// A genesis in its bytes, or a member's join file in JSON (which begins with a brace): what is
// taken comes out as the same bytes, or as JSON that is read to the same.
#include "mesh/genesis.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void binary(hm_bytes in)
{
    hm_genesis g = {0};
    hm_hash id;
    hm_buf out = {0};
    if (hm_genesis_decode(in, &g) != HM_OK)
        return;
    hm_assert(hm_genesis_encode(&g, &out, &id) == HM_OK);
    hm_assert(hm_bytes_eq(hm_buf_bytes(&out), in) && hm_hash_eq(&id, &g.chain_id));
    hm_buf_reset(&out);
    hm_assert(hm_genesis_to_json(&g, &out) == HM_OK);
    hm_buf_free(&out);
    hm_genesis_free(&g);
}

static void join(hm_bytes in)
{
    hm_arena arena[2] = {{.limit_bytes = 16u << 20}, {.limit_bytes = 16u << 20}};
    hm_genesis_validator a, b;
    hm_buf out[2] = {0};
    if (hm_join_from_json(in, &arena[0], &a) == HM_OK) {
        hm_assert(hm_join_to_json(&a, &out[0]) == HM_OK);
        hm_assert(hm_join_from_json(hm_buf_bytes(&out[0]), &arena[1], &b) == HM_OK);
        hm_assert(hm_join_to_json(&b, &out[1]) == HM_OK);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&out[0]), hm_buf_bytes(&out[1])));
        hm_assert(hm_bytes_eq(a.public_key, b.public_key) && hm_bytes_eq(a.cert, b.cert));
    }
    for (int i = 0; i < 2; i++) {
        hm_buf_free(&out[i]);
        hm_arena_free(&arena[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{')
        join(hm_bytes_of(data, size));
    else
        binary(hm_bytes_of(data, size));
    return 0;
}
