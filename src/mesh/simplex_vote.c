// The pure part: what votes say, who leads, certificates and evidence.
#include "mesh/simplex_internal.h"

void hm_simplex_vote_bytes(const hm_simplex_set *set, uint64_t view, hm_simplex_kind kind,
                           const hm_hash *block_id, hm_buf *out)
{
    hm_wr_raw(out, set->chain_id.b, HM_HASH_BYTES);
    hm_wr_u64(out, set->epoch);
    hm_wr_u64(out, view);
    hm_wr_u8(out, (uint8_t)kind);
    hm_wr_raw(out, block_id->b, HM_HASH_BYTES);
}

static uint64_t total_power(const hm_simplex_set *set)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < set->count; i++)
        total += set->validators[i].power;
    return total;
}

uint32_t hm_simplex_leader(const hm_simplex_set *set, const hm_hash *seed, uint64_t view)
{
    uint8_t mem[HM_HASH_BYTES + 8];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_raw(&b, seed->b, HM_HASH_BYTES);
    hm_wr_u64(&b, view);
    hm_hash h = hm_sha256(hm_buf_bytes(&b));
    // 128 bits, so that the remainder by a total below 2^60 is as good as even.
    unsigned __int128 x = 0;
    for (int i = 0; i < 16; i++)
        x = x << 8 | h.b[i];
    uint64_t at = (uint64_t)(x % total_power(set));
    uint32_t i = 0;
    while (at >= set->validators[i].power)
        at -= set->validators[i++].power;
    return i;
}

bool hm_simplex_is_quorum(uint64_t power, uint64_t total)
{
    return sx_forgets(SX_FORGET_QUORUM) ? power * 2 >= total : power * 3 > total * 2;
}

hm_err sx_verify(const hm_simplex_set *set, uint32_t signer, uint64_t view, hm_simplex_kind kind,
                 const hm_hash *id, hm_bytes sig)
{
    uint8_t mem[SX_VOTE_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_simplex_vote_bytes(set, view, kind, id, &b);
    if (set->verify != NULL)
        return set->verify(set->ctx, signer, hm_buf_bytes(&b), sig);
    return hm_verify(set->validators[signer].public_key, HM_SIMPLEX_DOMAIN, hm_buf_bytes(&b), sig);
}

// ---- certificates -------------------------------------------------------------------------------
// u8 kind, u64 view, id, list of (u32 signer, bytes signature), signers ascending.

void sx_cert_begin(hm_buf *out, hm_simplex_kind kind, uint64_t view, const hm_hash *id,
                   uint32_t count)
{
    hm_wr_u8(out, (uint8_t)kind);
    hm_wr_u64(out, view);
    hm_wr_raw(out, id->b, HM_HASH_BYTES);
    hm_wr_u32(out, count);
}

hm_err sx_cert_read(const hm_simplex_set *set, hm_bytes bytes, sx_cert_view *out)
{
    sx_cert_view c = {0};
    hm_rd r = hm_rd_of(bytes);
    c.kind = (hm_simplex_kind)hm_rd_enum(&r, HM_SIMPLEX_FINALIZE);
    if (c.kind < HM_SIMPLEX_NOTARIZE)
        hm_rd_refuse(&r, HM_E_VOTE);
    c.view = hm_rd_u64(&r);
    hm_rd_copy(&r, c.id.b, HM_HASH_BYTES);
    c.count = hm_rd_count(&r, set->count, 8);
    if ((c.kind == HM_SIMPLEX_NULLIFY) != hm_hash_is_zero(&c.id))
        hm_rd_refuse(&r, HM_E_NONCANONICAL);
    uint64_t power = 0;
    for (uint32_t i = 0; i < c.count && hm_rd_ok(&r); i++) {
        c.signers[i] = hm_rd_u32(&r);
        c.sigs[i] = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
        if (c.signers[i] >= set->count || (i > 0 && c.signers[i] <= c.signers[i - 1])) {
            hm_rd_refuse(&r, HM_E_NONCANONICAL);
            break;
        }
        power += set->validators[c.signers[i]].power;
    }
    HM_TRY(hm_rd_end(&r));
    if (!hm_simplex_is_quorum(power, total_power(set)))
        return hm_fail(HM_E_QUORUM, "the certificate of view %llu has power %llu of %llu",
                       (unsigned long long)c.view, (unsigned long long)power,
                       (unsigned long long)total_power(set));
    *out = c;
    return HM_OK;
}

hm_err hm_simplex_cert_verify(const hm_simplex_set *set, const hm_hash *block_id,
                              uint64_t block_view, hm_bytes cert, hm_simplex_kind *kind)
{
    sx_cert_view c;
    HM_TRY(sx_cert_read(set, cert, &c));
    if (c.kind == HM_SIMPLEX_NULLIFY || c.view != block_view || !hm_hash_eq(&c.id, block_id))
        return hm_fail(HM_E_QUORUM, "the certificate is for another block");
    for (uint32_t i = 0; i < c.count; i++)
        HM_TRY(sx_verify(set, c.signers[i], c.view, c.kind, &c.id, c.sigs[i]));
    if (kind != NULL)
        *kind = c.kind;
    return HM_OK;
}

// ---- evidence -----------------------------------------------------------------------------------
// u64 epoch, u32 signer, u64 view, then two of (u8 kind, id, bytes signature), the lesser by kind
// and id first.

static bool contradict(hm_simplex_kind ka, const hm_hash *a, hm_simplex_kind kb, const hm_hash *b)
{
    if (ka == kb)
        return ka != HM_SIMPLEX_NULLIFY && !hm_hash_eq(a, b);
    return ka == HM_SIMPLEX_NULLIFY && kb == HM_SIMPLEX_FINALIZE;
}

void sx_evidence_write(const hm_simplex_set *set, uint32_t signer, uint64_t view, sx_signed a,
                       sx_signed b, hm_buf *out)
{
    bool swap = a.kind > b.kind || (a.kind == b.kind && memcmp(a.id.b, b.id.b, HM_HASH_BYTES) > 0);
    const sx_signed order[2] = {swap ? b : a, swap ? a : b};
    hm_wr_u64(out, set->epoch);
    hm_wr_u32(out, signer);
    hm_wr_u64(out, view);
    for (int i = 0; i < 2; i++) {
        hm_wr_u8(out, (uint8_t)order[i].kind);
        hm_wr_raw(out, order[i].id.b, HM_HASH_BYTES);
        hm_wr_bytes(out, order[i].sig);
    }
}

hm_err hm_simplex_evidence_verify(const hm_simplex_set *set, hm_bytes evidence, uint32_t *offender)
{
    sx_signed v[2];
    if (evidence.len > HM_SIMPLEX_EVIDENCE_MAX)
        return hm_fail(HM_E_LIMIT, "evidence of %zu bytes", evidence.len);
    hm_rd r = hm_rd_of(evidence);
    uint64_t epoch = hm_rd_u64(&r);
    uint32_t signer = hm_rd_u32(&r);
    uint64_t view = hm_rd_u64(&r);
    for (int i = 0; i < 2; i++) {
        v[i].kind = (hm_simplex_kind)hm_rd_enum(&r, HM_SIMPLEX_FINALIZE);
        hm_rd_copy(&r, v[i].id.b, HM_HASH_BYTES);
        v[i].sig = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
        if (v[i].kind == 0)
            hm_rd_refuse(&r, HM_E_VOTE);
    }
    if (hm_rd_ok(&r) && v[0].kind == v[1].kind && memcmp(v[0].id.b, v[1].id.b, HM_HASH_BYTES) > 0)
        hm_rd_refuse(&r, HM_E_NONCANONICAL);
    HM_TRY(hm_rd_end(&r));
    if (epoch != set->epoch || signer >= set->count)
        return hm_fail(HM_E_VOTE, "the evidence is about no validator of this set");
    if (!contradict(v[0].kind, &v[0].id, v[1].kind, &v[1].id))
        return hm_fail(HM_E_VOTE, "the two votes do not contradict each other");
    for (int i = 0; i < 2; i++)
        HM_TRY(sx_verify(set, signer, view, v[i].kind, &v[i].id, v[i].sig));
    *offender = signer;
    return HM_OK;
}

hm_err hm_simplex_evidence_epoch(hm_bytes evidence, uint64_t *epoch)
{
    hm_rd r = hm_rd_of(evidence);
    uint64_t e = hm_rd_u64(&r);
    if (!hm_rd_ok(&r))
        return hm_fail(HM_E_TRUNCATED, "evidence of %zu bytes", evidence.len);
    *epoch = e;
    return HM_OK;
}
