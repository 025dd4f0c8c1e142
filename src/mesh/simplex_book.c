// What is known of each view: votes, certificates, blocks; and evidence against those who
// contradict themselves.
#include <stdlib.h>

#include "mesh/simplex_internal.h"

static void *must_alloc(size_t count, size_t size)
{
    void *p = calloc(count, size);
    hm_assert(p != NULL);
    return p;
}

// ---- views --------------------------------------------------------------------------------------

sx_view *sx_find(const hm_simplex *s, uint64_t view)
{
    return hm_map_get(&s->views, &view);
}

sx_view *sx_get(hm_simplex *s, uint64_t view)
{
    sx_view *v = sx_find(s, view);
    if (v != NULL)
        return v;
    v = must_alloc(1, sizeof *v);
    v->view = view;
    v->leader = hm_simplex_leader(&s->set, &s->seed, view);
    v->accused = must_alloc(s->set.count, sizeof *v->accused);
    for (int k = 0; k < SX_KINDS; k++)
        v->votes[k] = must_alloc(s->set.count, sizeof *v->votes[k]);
    hm_assert(hm_map_put(&s->views, &view, v) == HM_OK);
    if (s->low > view)
        s->low = view;
    if (s->high < view)
        s->high = view;
    return v;
}

static void vote_clear(sx_vote *vote)
{
    free(vote->sig);
    *vote = (sx_vote){0};
}

static void vote_set(sx_vote *vote, const hm_hash *id, hm_bytes sig, bool verified)
{
    vote_clear(vote);
    vote->id = *id;
    vote->sig = must_alloc(1, sig.len + 1);
    memcpy(vote->sig, sig.ptr, sig.len);
    vote->len = (uint16_t)sig.len;
    vote->verified = verified;
}

void sx_view_free(hm_simplex *s, sx_view *v)
{
    sx_drop_block(s, v);
    for (int k = 0; k < SX_KINDS; k++) {
        for (uint32_t i = 0; i < s->set.count; i++)
            vote_clear(&v->votes[k][i]);
        free(v->votes[k]);
        hm_buf_free(&v->certs[k].bytes);
    }
    vote_clear(&v->prop);
    free(v->accused);
    free(v);
}

// Own votes stay: the log may be rewritten from them.
static void thin(hm_simplex *s, uint64_t view)
{
    sx_view *v = sx_find(s, view);
    bool voted = v != NULL && v->leader == s->self && sx_has(&v->prop);
    for (int k = 0; v != NULL && k < SX_KINDS; k++) {
        voted |= sx_has(sx_own(s, v, k));
        for (uint32_t i = 0; i < s->set.count; i++)
            if (i != s->self)
                vote_clear(&v->votes[k][i]);
        hm_buf_free(&v->certs[k].bytes);
        v->certs[k].bytes = (hm_buf){0};
    }
    if (v == NULL)
        return;
    sx_drop_block(s, v);
    if (!voted) {
        (void)hm_map_remove(&s->views, &view);
        sx_view_free(s, v);
    }
}

void sx_prune(hm_simplex *s)
{
    uint64_t behind = sx_forgets(SX_FORGET_PRUNE) ? UINT32_MAX : HM_SIMPLEX_VIEWS_BEHIND;
    for (; s->low + behind <= s->given_view && s->low <= s->high; s->low++) {
        uint64_t gone = s->low;
        sx_view *v = hm_map_remove(&s->views, &gone);
        if (v != NULL)
            sx_view_free(s, v);
    }
    uint64_t from =
        s->given_view > HM_SIMPLEX_VIEWS_BEHIND ? s->given_view - HM_SIMPLEX_VIEWS_BEHIND : 1;
    for (uint64_t n = s->given_view; n >= from && n > 0; n--) {
        sx_view *v = sx_find(s, n);
        if (v == NULL || v->block.len == 0)
            continue;
        sx_drop_block(s, v);
    }
    if (!sx_far_behind(s) || sx_forgets(SX_FORGET_PRUNE))
        return;
    if (s->thinned < s->cursor_view)
        s->thinned = s->cursor_view;
    while (s->thinned + SX_THIN < s->finalized_view)
        thin(s, ++s->thinned);
}

// ---- blocks -------------------------------------------------------------------------------------

const hm_hash *sx_certified_block(const sx_view *v)
{
    if (sx_certified(v, SX_FINALIZE))
        return &v->certs[SX_FINALIZE].id;
    return sx_certified(v, SX_NOTARIZE) ? &v->certs[SX_NOTARIZE].id : NULL;
}

void sx_drop_block(hm_simplex *s, sx_view *v)
{
    if (v->block.len > 0)
        (void)hm_map_remove(&s->by_block, v->info.id.b);
    hm_buf_free(&v->block);
    v->block = (hm_buf){0};
    v->state = SX_UNCHECKED;
}

bool sx_hold_block(hm_simplex *s, sx_view *v, const hm_simplex_block_info *info, hm_bytes block)
{
    const hm_hash *certified = sx_certified_block(v);
    if (certified != NULL && !hm_hash_eq(certified, &info->id))
        return false;
    if (v->block.len > 0) {
        if (hm_hash_eq(&v->info.id, &info->id))
            return true;
        if (certified == NULL && !sx_forgets(SX_FORGET_VOTE_ONCE))
            return false; // the first one stays
        sx_drop_block(s, v);
    }
    hm_buf_put(&v->block, block);
    hm_assert(hm_buf_status(&v->block) == HM_OK);
    v->info = *info;
    v->state = SX_UNCHECKED;
    hm_assert(hm_map_put(&s->by_block, info->id.b, v) == HM_OK);
    s->dirty = true;
    return true;
}

// ---- evidence -----------------------------------------------------------------------------------

static hm_err check(hm_simplex *s, const sx_view *v, hm_simplex_kind kind, uint32_t signer,
                    sx_vote *vote)
{
    if (vote->verified)
        return HM_OK;
    HM_TRY(sx_verify(&s->set, signer, v->view, kind, &vote->id, hm_bytes_of(vote->sig, vote->len)));
    vote->verified = true;
    return HM_OK;
}

static void accuse(hm_simplex *s, sx_view *v, uint32_t signer, sx_signed a, sx_signed b)
{
    hm_buf bytes = {0};
    if (v->accused[signer] || signer == s->self)
        return;
    v->accused[signer] = true;
    sx_evidence_write(&s->set, signer, v->view, a, b, &bytes);
    hm_assert(hm_buf_status(&bytes) == HM_OK);
    sx_act(s, HM_SIMPLEX_EVIDENCE, hm_buf_bytes(&bytes), (hm_bytes){0})->peer = signer;
    hm_buf_free(&bytes);
}

// A second signature that contradicts one that is held. Either may be worth nothing: the first was
// perhaps never checked.
static hm_err conflict(hm_simplex *s, sx_view *v, uint32_t signer, hm_simplex_kind held_kind,
                       sx_vote *held, hm_simplex_kind kind, const hm_hash *id, hm_bytes sig,
                       bool verified)
{
    if (v->accused[signer] || signer == s->self)
        return HM_OK;
    if (!verified)
        HM_TRY(sx_verify(&s->set, signer, v->view, kind, id, sig));
    if (check(s, v, held_kind, signer, held) != HM_OK) {
        vote_clear(held);
        return HM_OK;
    }
    accuse(s, v, signer, (sx_signed){held_kind, held->id, hm_bytes_of(held->sig, held->len)},
           (sx_signed){kind, *id, sig});
    return HM_OK;
}

// ---- votes --------------------------------------------------------------------------------------

hm_err sx_add_proposal(hm_simplex *s, sx_view *v, const hm_hash *id, hm_bytes sig, bool verified)
{
    if (sx_has(&v->prop)) {
        if (hm_hash_eq(&v->prop.id, id))
            return HM_OK;
        hm_err err = conflict(s, v, v->leader, HM_SIMPLEX_PROPOSE, &v->prop, HM_SIMPLEX_PROPOSE, id,
                              sig, verified);
        if (err != HM_OK || !sx_forgets(SX_FORGET_VOTE_ONCE))
            return err;
    }
    if (!verified)
        HM_TRY(sx_verify(&s->set, v->leader, v->view, HM_SIMPLEX_PROPOSE, id, sig));
    vote_set(&v->prop, id, sig, true);
    s->dirty = true;
    return HM_OK;
}

hm_err sx_add_vote(hm_simplex *s, sx_view *v, hm_simplex_kind kind, uint32_t signer,
                   const hm_hash *id, hm_bytes sig, bool verified)
{
    int k = (int)kind - HM_SIMPLEX_NOTARIZE;
    sx_vote *held = &v->votes[k][signer];
    if (sx_has(held) && !hm_hash_eq(&held->id, id)) {
        HM_TRY(conflict(s, v, signer, kind, held, kind, id, sig, verified));
        if (sx_has(held))
            return HM_OK;
        verified = true; // conflict() has checked it
    } else if (sx_has(held)) {
        // The one that is held may have come, unchecked, from another than its signer.
        if (held->verified || hm_bytes_eq(hm_bytes_of(held->sig, held->len), sig) ||
            check(s, v, kind, signer, held) == HM_OK)
            return HM_OK;
    }
    if (!verified && v->view > s->tip_view && !sx_certified(v, k)) {
        HM_TRY(sx_verify(&s->set, signer, v->view, kind, id, sig));
        verified = true;
    }
    if (kind != HM_SIMPLEX_NOTARIZE) {
        hm_simplex_kind other =
            kind == HM_SIMPLEX_NULLIFY ? HM_SIMPLEX_FINALIZE : HM_SIMPLEX_NULLIFY;
        sx_vote *o = &v->votes[(int)other - HM_SIMPLEX_NOTARIZE][signer];
        if (sx_has(o) && !sx_forgets(SX_FORGET_EVIDENCE))
            HM_TRY(conflict(s, v, signer, other, o, kind, id, sig, verified));
    }
    vote_set(held, id, sig, verified);
    s->dirty = true;
    sx_try_cert(s, v, kind, id);
    return HM_OK;
}

// ---- certificates -------------------------------------------------------------------------------

static void keep_cert(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const hm_hash *id,
                      hm_bytes bytes)
{
    int k = (int)kind - HM_SIMPLEX_NOTARIZE;
    v->certs[k].id = *id;
    hm_buf_put(&v->certs[k].bytes, bytes);
    hm_assert(hm_buf_status(&v->certs[k].bytes) == HM_OK);
    s->dirty = true;
    if (k == SX_FINALIZE && v->view > s->finalized_view)
        s->finalized_view = v->view;
    if (k != SX_NULLIFY && v->block.len > 0 && !hm_hash_eq(&v->info.id, id))
        sx_drop_block(s, v);
}

// Takes a certificate that holds.
static void install(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const hm_hash *id,
                    hm_bytes bytes, bool tell)
{
    int k = (int)kind - HM_SIMPLEX_NOTARIZE;
    const hm_hash *other = kind == HM_SIMPLEX_NULLIFY ? NULL : sx_certified_block(v);
    if (other != NULL && !hm_hash_eq(other, id)) {
        // Needs a third of the power to lie: nothing here can mend it.
        sx_event(s, "two blocks are certified in view %llu", (unsigned long long)v->view);
        return;
    }
    keep_cert(s, v, kind, id, bytes);
    if (tell && v->view > s->tip_view)
        sx_send_cert(s, HM_SIMPLEX_ALL, &v->certs[k]);
    sx_on_cert(s, v, kind);
}

void sx_try_cert(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const hm_hash *id)
{
    int k = (int)kind - HM_SIMPLEX_NOTARIZE;
    uint64_t power = 0;
    uint32_t count = 0;
    if (!s->started || sx_certified(v, k) || v->view <= s->tip_view)
        return;
    for (uint32_t i = 0; i < s->set.count; i++) {
        sx_vote *vote = &v->votes[k][i];
        if (!sx_has(vote) || !hm_hash_eq(&vote->id, id))
            continue;
        if (check(s, v, kind, i, vote) != HM_OK) {
            vote_clear(vote);
            continue;
        }
        power += s->set.validators[i].power;
        count++;
    }
    if (!hm_simplex_is_quorum(power, s->total))
        return;
    hm_buf bytes = {0};
    hm_hash copy = *id;
    sx_cert_begin(&bytes, kind, v->view, &copy, count);
    for (uint32_t i = 0; i < s->set.count; i++) {
        const sx_vote *vote = &v->votes[k][i];
        if (!sx_has(vote) || !hm_hash_eq(&vote->id, &copy))
            continue;
        hm_wr_u32(&bytes, i);
        hm_wr_bytes(&bytes, hm_bytes_of(vote->sig, vote->len));
    }
    hm_assert(hm_buf_status(&bytes) == HM_OK);
    install(s, v, kind, &copy, hm_buf_bytes(&bytes), true);
    hm_buf_free(&bytes);
}

hm_err sx_restore_cert(hm_simplex *s, hm_bytes bytes)
{
    sx_cert_view c;
    HM_TRY(sx_cert_read(&s->set, bytes, &c));
    sx_view *v = c.view > s->tip_view ? sx_get(s, c.view) : NULL;
    if (v == NULL || c.kind == HM_SIMPLEX_NULLIFY || sx_certified_block(v) != NULL)
        return HM_OK;
    keep_cert(s, v, c.kind, &c.id, bytes);
    v->logged = true;
    return HM_OK;
}

// Was this very signature checked already?
static bool known_good(const sx_vote *vote, const hm_hash *id, hm_bytes sig)
{
    return sx_has(vote) && vote->verified && hm_hash_eq(&vote->id, id) &&
           hm_bytes_eq(hm_bytes_of(vote->sig, vote->len), sig);
}

hm_err sx_add_cert(hm_simplex *s, hm_bytes bytes, bool tell)
{
    sx_cert_view c;
    HM_TRY(sx_cert_read(&s->set, bytes, &c));
    int k = (int)c.kind - HM_SIMPLEX_NOTARIZE;
    sx_view *v = sx_find(s, c.view);
    // What was fetched counts anywhere above the tip.
    if ((c.view <= s->tip_view && v == NULL) ||
        (tell && c.view > s->tip_view && c.view <= s->thinned))
        return HM_OK;
    bool want = c.view > s->tip_view && (v == NULL || !sx_certified(v, k));
    if (want)
        for (uint32_t i = 0; i < c.count; i++)
            if ((v == NULL || !known_good(&v->votes[k][c.signers[i]], &c.id, c.sigs[i])) &&
                !sx_forgets(SX_FORGET_CERT_SIGNATURES))
                HM_TRY(sx_verify(&s->set, c.signers[i], c.view, c.kind, &c.id, c.sigs[i]));
    v = sx_get(s, c.view);
    if (want)
        install(s, v, c.kind, &c.id, bytes, tell);
    // Its votes may contradict what those signers told this node. Those of a certificate that was
    // not wanted are unchecked, and only a contradiction makes them worth a check. What this node
    // has voted, it knows from itself alone.
    for (uint32_t i = 0; i < c.count; i++)
        if (c.signers[i] != s->self &&
            sx_add_vote(s, v, c.kind, c.signers[i], &c.id, c.sigs[i], want) != HM_OK)
            return hm_fail(HM_E_SIGNATURE, "a certificate of view %llu names a signer in vain",
                           (unsigned long long)c.view);
    return HM_OK;
}
