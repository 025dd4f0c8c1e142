// Certificates and evidence: what is taken is in its one encoding, shows a quorum (a
// contradiction), and every signature in it was checked. The first byte says which; signatures are
// a hash that the input can name in short (an empty signature is replaced by the good one).
#include "mesh/simplex_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COUNT 4u
#define SIG 8u

static hm_simplex_validator validators[COUNT] = {
    {.power = 1}, {.power = 2}, {.power = 3}, {.power = 1}};

static void sign(uint32_t index, hm_bytes message, uint8_t sig[SIG])
{
    const uint64_t seed[2] = {index, 7};
    uint64_t h = hm_siphash(seed, message.ptr, message.len);
    memcpy(sig, &h, SIG);
}

static hm_err verify(void *ctx, uint32_t index, hm_bytes message, hm_bytes sig)
{
    uint8_t good[SIG];
    unsigned *checked = ctx;
    hm_assert(index < COUNT);
    sign(index, message, good);
    ++*checked;
    return hm_bytes_eq(sig, hm_bytes_of(good, SIG)) ? HM_OK : HM_E_SIGNATURE;
}

static void put_sig(hm_buf *out, const hm_simplex_set *set, uint32_t signer, uint64_t view,
                    hm_simplex_kind kind, const hm_hash *id, hm_bytes sig)
{
    uint8_t mem[SX_VOTE_BYTES], good[SIG];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_simplex_vote_bytes(set, view, kind, id, &b);
    sign(signer, hm_buf_bytes(&b), good);
    hm_wr_bytes(out, sig.len == 0 ? hm_bytes_of(good, SIG) : sig);
}

// The input again with its empty signatures filled in.
static void mend_cert(const hm_simplex_set *set, hm_bytes in, hm_buf *out)
{
    hm_rd r = hm_rd_of(in);
    hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(&r);
    uint64_t view = hm_rd_u64(&r);
    hm_hash id;
    hm_rd_copy(&r, id.b, HM_HASH_BYTES);
    uint32_t count = hm_rd_u32(&r);
    sx_cert_begin(out, kind, view, &id, count);
    for (uint32_t i = 0; i < count && hm_rd_ok(&r) && i < 8; i++) {
        uint32_t signer = hm_rd_u32(&r);
        hm_bytes sig = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
        hm_wr_u32(out, signer);
        put_sig(out, set, signer, view, kind, &id, sig);
    }
    hm_buf_append(out, r.ptr, r.left);
}

static void mend_evidence(const hm_simplex_set *set, hm_bytes in, hm_buf *out)
{
    hm_rd r = hm_rd_of(in);
    hm_wr_u64(out, hm_rd_u64(&r));
    uint32_t signer = hm_rd_u32(&r);
    uint64_t view = hm_rd_u64(&r);
    hm_wr_u32(out, signer);
    hm_wr_u64(out, view);
    for (int i = 0; i < 2; i++) {
        hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(&r);
        hm_hash id;
        hm_rd_copy(&r, id.b, HM_HASH_BYTES);
        hm_bytes sig = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
        hm_wr_u8(out, (uint8_t)kind);
        hm_wr_raw(out, id.b, HM_HASH_BYTES);
        put_sig(out, set, signer, view, kind, &id, sig);
    }
    hm_buf_append(out, r.ptr, r.left);
}

static void check_cert(const hm_simplex_set *set, hm_bytes in, unsigned *checked)
{
    sx_cert_view c;
    hm_simplex_kind kind;
    if (sx_cert_read(set, in, &c) != HM_OK)
        return;
    hm_buf again = {0};
    uint64_t power = 0;
    sx_cert_begin(&again, c.kind, c.view, &c.id, c.count);
    for (uint32_t i = 0; i < c.count; i++) {
        hm_wr_u32(&again, c.signers[i]);
        hm_wr_bytes(&again, c.sigs[i]);
        power += validators[c.signers[i]].power;
    }
    hm_assert(hm_bytes_eq(hm_buf_bytes(&again), in) && power * 3 > 7 * 2);
    hm_buf_free(&again);
    *checked = 0;
    if (hm_simplex_cert_verify(set, &c.id, c.view, in, &kind) == HM_OK) {
        hm_assert(*checked == c.count && kind == c.kind && kind != HM_SIMPLEX_NULLIFY);
        hm_assert(hm_simplex_cert_verify(set, &c.id, c.view + 1, in, NULL) != HM_OK);
    }
}

static void check_evidence(const hm_simplex_set *set, hm_bytes in, unsigned *checked)
{
    uint32_t offender = UINT32_MAX;
    uint64_t epoch;
    *checked = 0;
    if (hm_simplex_evidence_verify(set, in, &offender) != HM_OK)
        return;
    hm_assert(offender < COUNT && *checked == 2);
    hm_assert(hm_simplex_evidence_epoch(in, &epoch) == HM_OK && epoch == set->epoch);
    hm_rd r = hm_rd_of(in);
    sx_signed v[2];
    hm_buf again = {0};
    (void)hm_rd_u64(&r);
    (void)hm_rd_u32(&r);
    uint64_t view = hm_rd_u64(&r);
    for (int i = 0; i < 2; i++) {
        v[i].kind = (hm_simplex_kind)hm_rd_u8(&r);
        hm_rd_copy(&r, v[i].id.b, HM_HASH_BYTES);
        v[i].sig = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    }
    hm_assert(v[0].kind != v[1].kind || !hm_hash_eq(&v[0].id, &v[1].id));
    sx_evidence_write(set, offender, view, v[1], v[0], &again); // in whatever order it is given
    hm_assert(hm_bytes_eq(hm_buf_bytes(&again), in));
    hm_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned checked = 0;
    hm_simplex_set set = {
        .count = COUNT, .validators = validators, .verify = verify, .ctx = &checked};
    if (size == 0)
        return 0;
    hm_bytes in = hm_bytes_of(data + 1, size - 1);
    hm_buf mended = {0};
    if (data[0] & 1) {
        check_cert(&set, in, &checked);
        mend_cert(&set, in, &mended);
        check_cert(&set, hm_buf_bytes(&mended), &checked);
    } else {
        check_evidence(&set, in, &checked);
        mend_evidence(&set, in, &mended);
        check_evidence(&set, hm_buf_bytes(&mended), &checked);
    }
    hm_buf_free(&mended);
    return 0;
}
