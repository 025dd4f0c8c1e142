// A checkpoint, the body of an add-checkpoint and a list of witnesses, from outside.
#include <stdlib.h>

#include "trustchain/witness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tc_checkpoint c;
    tc_add_checkpoint a;
    tc_witness_policy p;
    hm_buf again = {0};
    const hm_bytes in = hm_bytes_of(data, size);
    if (tc_checkpoint_parse(in, &c) == HM_OK) {
        uint64_t time = 0;
        static tc_witness_key k = {.name = "w"};
        if (c.text.len + 1 + c.signatures.len != size || c.signatures.len == 0)
            abort();
        if (tc_cosignature_verify(&c, &k, &time) == HM_OK)
            abort(); // of a key that is zero
    }
    if (tc_add_checkpoint_parse(in, &a) == HM_OK) {
        const tc_checkpoint *n = &a.checkpoint;
        const hm_bytes note = hm_bytes_of(n->text.ptr, n->text.len + 1 + n->signatures.len);
        if (tc_add_checkpoint_put(a.old_size, a.proof, a.count, note, &again) != HM_OK ||
            !hm_bytes_eq(hm_buf_bytes(&again), in))
            abort(); // one text for each
    }
    hm_buf_reset(&again);
    if (tc_witness_policy_parse(in, &p) == HM_OK) {
        tc_witness_key k;
        tc_witness_key_put(&p.witness[0].key, &again);
        if (tc_witness_key_parse(hm_buf_bytes(&again), &k) != HM_OK ||
            memcmp(&k, &p.witness[0].key, sizeof k) != 0)
            abort();
    }
    hm_buf_free(&again);
    return 0;
}
