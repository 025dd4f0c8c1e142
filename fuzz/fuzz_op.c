// An operation's bytes: what decodes encodes to the same bytes, and its digests are of them.
#include "mesh/op.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hm_bytes in = hm_bytes_of(data, size);
    hm_op op, same;
    hm_op_digests d;
    if (hm_op_decode(in, &op, &d) != HM_OK)
        return 0;
    hm_buf out = {0};
    hm_op_encode(&out, &op);
    hm_assert(hm_bytes_eq(hm_buf_bytes(&out), in));
    hm_hash id = hm_op_id(in);
    hm_assert(hm_hash_eq(&id, &d.id) && hm_op_decode(in, &same, NULL) == HM_OK);
    // The signature covers all that stands before it.
    hm_assert(op.has_stake == (d.signed_bytes.len > 0) && d.signed_bytes.len <= size);
    if (op.has_stake)
        hm_assert(d.signed_bytes.ptr == data && op.stake_signature.len + d.signed_bytes.len < size);
    hm_buf_free(&out);
    return 0;
}
