// Proofs of the state tree: the input is a key's number and a proof, or how the true proof is
// changed (first byte 0xff: number, two bytes of place, one to xor). What verifies is the one true
// proof, and says the truth.
#include "mesh/overlay.h"
#include "mesh/tree_internal.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define KEYS 256u
#define PRESENT 200u // the rest is absent

static hm_buf proofs[KEYS];
static hm_hash root, values[KEYS];

static hm_err get(void *ctx, hm_bytes key, hm_bytes *value)
{
    const hm_overlay_entry *e = hm_overlay_get(ctx, key);
    if (e == NULL || e->deleted)
        return HM_E_NOTFOUND;
    *value = e->value;
    return HM_OK;
}
static hm_err put(void *ctx, hm_bytes key, hm_bytes value)
{
    return hm_overlay_put(ctx, key, value, false);
}
static hm_err del(void *ctx, hm_bytes key)
{
    return hm_overlay_put(ctx, key, (hm_bytes){0}, true);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    hm_overlay nodes = {0};
    hm_tree_store s = {get, put, del, &nodes};
    hm_tree_change changes[PRESENT];
    for (unsigned i = 0; i < KEYS; i++) {
        uint8_t key = (uint8_t)i, value[2] = {1, (uint8_t)i};
        values[i] = hm_sha256(hm_bytes_of(value, 2));
        if (i < PRESENT)
            changes[i] =
                (hm_tree_change){.path = hm_sha256(hm_bytes_of(&key, 1)), .value = values[i]};
    }
    hm_assert(hm_tree_update(&s, changes, PRESENT, &root) == HM_OK);
    for (unsigned i = 0; i < KEYS; i++) {
        uint8_t key = (uint8_t)i;
        hm_assert(hm_tree_prove(&s, hm_bytes_of(&key, 1), &proofs[i]) == HM_OK);
    }
    hm_overlay_free(&nodes);
    return 0;
}

static void check(uint8_t key, hm_bytes proof)
{
    bool present = false;
    hm_hash value;
    hm_err err = hm_tree_verify(&root, hm_bytes_of(&key, 1), proof, &present, &value);
    hm_assert((err == HM_OK) == hm_bytes_eq(proof, hm_buf_bytes(&proofs[key])));
    if (err == HM_OK) {
        hm_assert(present == (key < PRESENT));
        hm_assert(!present || hm_hash_eq(&value, &values[key]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[HM_TREE_PROOF_MAX];
    if (size == 0)
        return 0;
    if (data[0] != 0xff || size < 5) {
        check(data[0], hm_bytes_of(data + 1, size - 1));
        return 0;
    }
    const hm_buf *p = &proofs[data[1]];
    memcpy(copy, p->ptr, p->len);
    copy[((size_t)data[2] << 8 | data[3]) % p->len] ^= data[4];
    check(data[1], hm_bytes_of(copy, p->len));
    return 0;
}
