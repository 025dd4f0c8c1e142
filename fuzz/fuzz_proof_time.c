// Delay proofs of a small group: the input is a proof, or (first byte 0xff) how the true one is
// changed: places and what to xor. What verifies is the true one.
#include <stdlib.h>

#include "mesh/proof_time.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hm_time_group group;
static hm_hash input = {{3}}, value;
static hm_buf proof;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (hm_time_group_make(hm_bytes_str("fuzz"), 256, 100, &group) != HM_OK ||
        hm_time_eval(&group, &input, NULL, &proof) != HM_OK ||
        hm_time_verify(&group, &input, hm_buf_bytes(&proof), &value) != HM_OK)
        abort();
    return 0;
}

static void check(hm_bytes p)
{
    hm_hash got;
    hm_err err = hm_time_verify(&group, &input, p, &got);
    hm_assert((err == HM_OK) == hm_bytes_eq(p, hm_buf_bytes(&proof)));
    hm_assert(err != HM_OK || hm_hash_eq(&got, &value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[HM_TIME_PROOF_MAX];
    if (size == 0)
        return 0;
    if (data[0] != 0xff) {
        check(hm_bytes_of(data, size));
        return 0;
    }
    memcpy(copy, proof.ptr, proof.len);
    for (size_t i = 1; i + 1 < size; i += 2)
        copy[data[i] % proof.len] ^= data[i + 1];
    check(hm_bytes_of(copy, proof.len));
    return 0;
}
