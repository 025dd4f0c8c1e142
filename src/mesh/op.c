#include "mesh/op.h"

#include "mesh/proof_work.h"

static void body_encode(hm_buf *out, const hm_op *op)
{
    hm_wr_u8(out, HM_OP_VERSION);
    hm_wr_raw(out, op->chain_id.b, HM_HASH_BYTES);
    hm_wr_u8(out, op->module);
    hm_wr_u8(out, op->kind);
    hm_wr_raw(out, op->owner.b, HM_HASH_BYTES);
    hm_wr_raw(out, op->asset.b, HM_HASH_BYTES);
    hm_wr_u64(out, op->nonce);
    hm_wr_bytes(out, op->payload);
    hm_wr_bool(out, op->has_space);
    if (op->has_space) {
        hm_wr_u32(out, op->space.sector);
        hm_wr_u64(out, op->space.epoch);
        hm_wr_raw(out, op->space.answer.b, HM_HASH_BYTES);
        hm_wr_raw(out, op->space.addr, sizeof op->space.addr);
    }
    hm_wr_bool(out, op->has_time);
    if (op->has_time) {
        hm_wr_u64(out, op->time.index);
        hm_wr_raw(out, op->time.value.b, HM_HASH_BYTES);
    }
    hm_wr_bool(out, op->has_stake);
    if (op->has_stake)
        hm_wr_raw(out, op->stake_cert.b, HM_HASH_BYTES);
}

void hm_op_encode(hm_buf *out, const hm_op *op)
{
    hm_assert(op->payload.len <= HM_OP_PAYLOAD_MAX);
    hm_assert(op->stake_signature.len <= HM_FALCON_SIGNATURE_MAX);
    body_encode(out, op);
    if (op->has_stake)
        hm_wr_bytes(out, op->stake_signature);
    hm_wr_bool(out, op->has_work);
    if (op->has_work)
        hm_wr_u64(out, op->work_nonce);
}

static size_t rd_offset(const hm_rd *r, hm_bytes whole)
{
    return whole.len - r->left;
}

hm_err hm_op_decode(hm_bytes bytes, hm_op *out, hm_op_digests *digests)
{
    if (bytes.len > HM_OP_BYTES_MAX)
        return hm_fail(HM_E_LIMIT, "an operation of %zu bytes; at most %u", bytes.len,
                       HM_OP_BYTES_MAX);
    hm_rd r = hm_rd_of(bytes);
    hm_op op = {0};
    if (hm_rd_u8(&r) != HM_OP_VERSION)
        hm_rd_refuse(&r, HM_E_UNSUPPORTED);
    hm_rd_copy(&r, op.chain_id.b, HM_HASH_BYTES);
    op.module = hm_rd_u8(&r);
    op.kind = hm_rd_u8(&r);
    hm_rd_copy(&r, op.owner.b, HM_HASH_BYTES);
    hm_rd_copy(&r, op.asset.b, HM_HASH_BYTES);
    op.nonce = hm_rd_u64(&r);
    op.payload = hm_rd_bytes(&r, HM_OP_PAYLOAD_MAX);
    op.has_space = hm_rd_bool(&r);
    if (op.has_space) {
        op.space.sector = hm_rd_u32(&r);
        op.space.epoch = hm_rd_u64(&r);
        hm_rd_copy(&r, op.space.answer.b, HM_HASH_BYTES);
        hm_rd_copy(&r, op.space.addr, sizeof op.space.addr);
    }
    op.has_time = hm_rd_bool(&r);
    if (op.has_time) {
        op.time.index = hm_rd_u64(&r);
        hm_rd_copy(&r, op.time.value.b, HM_HASH_BYTES);
    }
    op.has_stake = hm_rd_bool(&r);
    size_t signed_len = 0;
    if (op.has_stake) {
        hm_rd_copy(&r, op.stake_cert.b, HM_HASH_BYTES);
        signed_len = rd_offset(&r, bytes);
        op.stake_signature = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    }
    size_t work_len = rd_offset(&r, bytes);
    op.has_work = hm_rd_bool(&r);
    if (op.has_work)
        op.work_nonce = hm_rd_u64(&r);
    HM_TRY(hm_rd_end(&r));
    *out = op;
    if (digests != NULL) {
        digests->signed_bytes = hm_bytes_of(bytes.ptr, signed_len);
        digests->work = hm_sha256(hm_bytes_of(bytes.ptr, work_len));
        digests->id = hm_sha256(bytes);
    }
    return HM_OK;
}

hm_hash hm_op_id(hm_bytes encoding)
{
    return hm_sha256(encoding);
}

hm_err hm_op_verify_signature(const hm_op *op, const hm_op_digests *digests, hm_bytes public_key)
{
    if (!op->has_stake)
        return hm_fail(HM_E_PROOF_STAKE, "proof of stake is missing: the operation has no "
                                         "certificate and signature");
    hm_err err =
        hm_verify(public_key, HM_OP_SIGN_DOMAIN, digests->signed_bytes, op->stake_signature);
    if (err != HM_OK)
        return hm_fail(HM_E_PROOF_STAKE,
                       "proof of stake: the signature is not the owner's over this operation");
    return HM_OK;
}

hm_err hm_op_finish(const hm_op *body, const hm_op_inputs *in, hm_buf *out, hm_hash *id)
{
    hm_op op = *body;
    op.has_space = op.has_time = in->full;
    if (in->full) {
        op.space = in->space;
        op.time = in->time;
    }
    op.has_stake = true;
    op.stake_cert = in->cert;
    op.has_work = true;
    op.work_nonce = 0;
    hm_buf bytes = {0};
    hm_buf sig = {0};
    hm_err err;
    body_encode(&bytes, &op);
    HM_TRY_OUT(hm_buf_status(&bytes));
    HM_TRY_OUT(hm_sign(in->key, HM_OP_SIGN_DOMAIN, hm_buf_bytes(&bytes), &sig));
    hm_wr_bytes(&bytes, hm_buf_bytes(&sig));
    HM_TRY_OUT(hm_buf_status(&bytes));
    hm_hash digest = hm_sha256(hm_buf_bytes(&bytes));
    HM_TRY_OUT(hm_work_solve(&digest, in->difficulty, in->cancel, &op.work_nonce, NULL));
    hm_wr_bool(&bytes, true);
    hm_wr_u64(&bytes, op.work_nonce);
    HM_TRY_OUT(hm_buf_status(&bytes));
    if (id != NULL)
        *id = hm_op_id(hm_buf_bytes(&bytes));
    hm_buf_put(out, hm_buf_bytes(&bytes));
    err = hm_buf_status(out);
out:
    hm_buf_free(&bytes);
    hm_buf_free(&sig);
    return err;
}
