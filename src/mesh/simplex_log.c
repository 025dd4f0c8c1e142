// The log of votes: what goes into it, and what comes back at a start.
//
// A record is u64 epoch, u64 view, u8 kind, id, bytes signature, bytes signature of the leader,
// bytes block, bytes certificate. After all fell at once, what was certified must still be shown to
// be so, though those who lie vote no more:
//   the block, with the first vote for it, so that those who certified it can give it to others;
//   the certificate of the view, with finalize: who has voted that does not help to nullify it;
//   the certificate of the parent, with notarize: it may become final below this block.
#include "mesh/simplex_internal.h"

static bool block_goes_with(const hm_simplex *s, const sx_view *v, hm_simplex_kind kind,
                            const sx_vote *vote)
{
    bool carries = v->leader == s->self ? kind == HM_SIMPLEX_PROPOSE : kind == HM_SIMPLEX_NOTARIZE;
    return carries && v->block.len > 0 && hm_hash_eq(&v->info.id, &vote->id);
}

// The view whose certificate goes with a vote; NULL when there is none.
static sx_view *cert_goes_with(const hm_simplex *s, sx_view *v, hm_simplex_kind kind,
                               const sx_vote *vote)
{
    sx_view *of = NULL;
    if (kind == HM_SIMPLEX_FINALIZE)
        of = v;
    else if (kind == HM_SIMPLEX_NOTARIZE && v->block.len > 0 && hm_hash_eq(&v->info.id, &vote->id))
        of = sx_block(s, &v->info.parent);
    return of != NULL && sx_certified_block(of) != NULL ? of : NULL;
}

static void record_write(const hm_simplex *s, const sx_view *v, hm_simplex_kind kind,
                         const sx_vote *vote, const sx_view *certified, hm_buf *out)
{
    bool with_block = block_goes_with(s, v, kind, vote);
    bool with_prop =
        kind == HM_SIMPLEX_NOTARIZE && v->leader != s->self && hm_hash_eq(&v->prop.id, &vote->id);
    int k = certified != NULL && sx_certified(certified, SX_NOTARIZE) ? SX_NOTARIZE : SX_FINALIZE;
    hm_wr_u64(out, s->set.epoch);
    hm_wr_u64(out, v->view);
    hm_wr_u8(out, (uint8_t)kind);
    hm_wr_raw(out, vote->id.b, HM_HASH_BYTES);
    hm_wr_bytes(out, hm_bytes_of(vote->sig, vote->len));
    hm_wr_bytes(out, hm_bytes_of(v->prop.sig, with_prop ? v->prop.len : 0));
    hm_wr_bytes(out, hm_bytes_of(v->block.ptr, with_block ? v->block.len : 0));
    hm_wr_bytes(out, certified == NULL ? (hm_bytes){0} : hm_buf_bytes(&certified->certs[k].bytes));
    hm_assert(hm_buf_status(out) == HM_OK);
}

void sx_persist(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const sx_vote *vote)
{
    hm_buf rec = {0};
    sx_view *certified = cert_goes_with(s, v, kind, vote);
    if (certified != NULL && (certified->logged || sx_forgets(SX_FORGET_LOG_CERTS)))
        certified = NULL;
    record_write(s, v, kind, vote, certified, &rec);
    if (certified != NULL)
        certified->logged = true;
    sx_act(s, HM_SIMPLEX_PERSIST, hm_buf_bytes(&rec), (hm_bytes){0});
    hm_buf_free(&rec);
}

typedef struct record {
    uint64_t epoch, view;
    hm_simplex_kind kind;
    hm_hash id;
    hm_bytes sig, prop, block, cert;
} record;

static hm_err record_read(hm_bytes bytes, record *out)
{
    hm_rd r = hm_rd_of(bytes);
    out->epoch = hm_rd_u64(&r);
    out->view = hm_rd_u64(&r);
    out->kind = (hm_simplex_kind)hm_rd_enum(&r, HM_SIMPLEX_FINALIZE);
    hm_rd_copy(&r, out->id.b, HM_HASH_BYTES);
    out->sig = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    out->prop = hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    out->block = hm_rd_bytes(&r, HM_SIMPLEX_BLOCK_MAX);
    out->cert = hm_rd_bytes(&r, HM_SIMPLEX_CERT_MAX);
    if (hm_rd_end(&r) != HM_OK || out->kind == 0)
        return hm_fail(HM_E_CORRUPT, "the log of votes holds what is no vote");
    return HM_OK;
}

hm_err hm_simplex_restore(hm_simplex *s, hm_bytes bytes)
{
    record rec;
    hm_assert(!s->started);
    HM_TRY(record_read(bytes, &rec));
    if (rec.epoch != s->set.epoch || rec.view <= s->tip_view || sx_forgets(SX_FORGET_LOG))
        return HM_OK;
    sx_view *v = sx_get(s, rec.view);
    // Own signatures are as good as on the day they were made, and so is what was checked then.
    if (rec.kind == HM_SIMPLEX_PROPOSE) {
        if (v->leader != s->self)
            return hm_fail(HM_E_CORRUPT, "the log of votes is another validator's");
        HM_TRY(sx_add_proposal(s, v, &rec.id, rec.sig, true));
    } else {
        if (rec.kind == HM_SIMPLEX_NOTARIZE && rec.prop.len > 0)
            HM_TRY(sx_add_proposal(s, v, &rec.id, rec.prop, true));
        HM_TRY(sx_add_vote(s, v, rec.kind, s->self, &rec.id, rec.sig, true));
    }
    if (rec.block.len > 0) {
        hm_simplex_block_info info;
        if (s->calls.block_info(s->calls.ctx, rec.block, &info) != HM_OK ||
            !hm_hash_eq(&info.id, &rec.id) || info.view != rec.view)
            return hm_fail(HM_E_CORRUPT, "the log of votes holds another block than it says");
        (void)sx_hold_block(s, v, &info, rec.block);
    }
    return rec.cert.len > 0 ? sx_restore_cert(s, rec.cert) : HM_OK;
}

hm_err hm_simplex_wal_snapshot(const hm_simplex *s, hm_arena *arena, hm_bytes **records,
                               size_t *count)
{
    size_t cap = 0, n = 0;
    for (uint64_t view = s->given_view + 1; view <= s->high; view++)
        cap += sx_find(s, view) != NULL ? 1 + SX_KINDS : 0;
    hm_bytes *list = hm_arena_array(arena, cap + 1, sizeof *list);
    if (list == NULL)
        return HM_E_NOMEM;
    for (uint64_t view = s->given_view + 1; view <= s->high; view++) {
        sx_view *v = sx_find(s, view);
        if (v == NULL)
            continue;
        for (int k = -1; k < SX_KINDS; k++) {
            hm_simplex_kind kind = (hm_simplex_kind)(HM_SIMPLEX_NOTARIZE + k);
            const sx_vote *vote = k >= 0 ? sx_own(s, v, k) : v->leader == s->self ? &v->prop : NULL;
            hm_buf b = {0};
            if (vote == NULL || !sx_has(vote))
                continue;
            record_write(s, v, kind, vote, cert_goes_with(s, v, kind, vote), &b);
            list[n] = hm_arena_copy(arena, hm_buf_bytes(&b));
            hm_buf_free(&b);
            if (list[n++].ptr == NULL)
                return HM_E_NOMEM;
        }
    }
    *records = list;
    *count = n;
    return HM_OK;
}
