// The core: life, views, and the rules of voting, proposing and finalizing.
#include "mesh/simplex.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "mesh/simplex_internal.h"

#define POWER_MAX (UINT64_C(1) << 60)

// ---- actions ------------------------------------------------------------------------------------

static void action_free(sx_action *x)
{
    if (x == NULL)
        return;
    hm_buf_free(&x->bytes);
    hm_buf_free(&x->cert);
    free(x);
}

hm_simplex_action *sx_act(hm_simplex *s, hm_simplex_action_kind kind, hm_bytes bytes, hm_bytes cert)
{
    sx_action *x = calloc(1, sizeof *x);
    hm_assert(x != NULL);
    hm_buf_put(&x->bytes, bytes);
    hm_buf_put(&x->cert, cert);
    hm_assert(hm_buf_status(&x->bytes) == HM_OK && hm_buf_status(&x->cert) == HM_OK);
    x->a.kind = kind;
    x->a.bytes = hm_buf_bytes(&x->bytes);
    x->a.cert = hm_buf_bytes(&x->cert);
    hm_list_append(&s->actions, &x->link);
    return &x->a;
}

static void act_block(hm_simplex *s, hm_simplex_action_kind kind, const sx_view *v, hm_bytes cert)
{
    hm_simplex_action *a = sx_act(s, kind, hm_buf_bytes(&v->block), cert);
    a->id = v->info.id;
    a->parent = v->info.parent;
    a->view = v->view;
    a->height = v->info.height;
}

void sx_send(hm_simplex *s, uint32_t peer, const hm_buf *message)
{
    hm_assert(hm_buf_status(message) == HM_OK);
    if (s->set.count > 1)
        sx_act(s, HM_SIMPLEX_SEND, hm_buf_bytes(message), (hm_bytes){0})->peer = peer;
}

void sx_event(hm_simplex *s, const char *fmt, ...)
{
    char text[200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    sx_act(s, HM_SIMPLEX_EVENT, hm_bytes_str(text), (hm_bytes){0});
}

bool hm_simplex_next_action(hm_simplex *s, hm_simplex_action *out)
{
    action_free(s->given);
    s->given = NULL;
    if (hm_list_empty(&s->actions))
        return false;
    s->given = hm_container_of(s->actions.next, sx_action, link);
    hm_list_remove(&s->given->link);
    *out = s->given->a;
    if (out->kind == HM_SIMPLEX_FINAL)
        s->given_view = out->view;
    return true;
}

// ---- signing ------------------------------------------------------------------------------------

static bool sign(hm_simplex *s, uint64_t view, hm_simplex_kind kind, const hm_hash *id, hm_buf *sig)
{
    uint8_t mem[SX_VOTE_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_simplex_vote_bytes(&s->set, view, kind, id, &b);
    hm_err err = s->calls.sign(s->calls.ctx, hm_buf_bytes(&b), sig);
    if (err == HM_OK && (hm_buf_status(sig) != HM_OK || sig->len > HM_FALCON_SIGNATURE_MAX))
        err = HM_E_CRYPTO;
    if (err != HM_OK)
        sx_event(s, "a vote cannot be signed: %s", hm_err_text(err));
    return err == HM_OK;
}

bool sx_cast(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const hm_hash *id)
{
    hm_buf sig = {0}, m = {0};
    hm_hash copy = *id;
    if (!sign(s, v->view, kind, &copy, &sig)) {
        hm_buf_free(&sig);
        return false;
    }
    // Made durable and sent before it counts, so that what follows from it comes after it.
    sx_vote vote = {.id = copy, .sig = sig.ptr, .len = (uint16_t)sig.len, .verified = true};
    if (!sx_forgets(SX_FORGET_DISK_FIRST))
        sx_persist(s, v, kind, &vote);
    sx_msg_vote(v, kind, &vote, &m);
    sx_send(s, HM_SIMPLEX_ALL, &m);
    hm_buf_free(&m);
    if (sx_forgets(SX_FORGET_DISK_FIRST))
        sx_persist(s, v, kind, &vote);
    hm_err err = sx_add_vote(s, v, kind, s->self, &copy, hm_buf_bytes(&sig), true);
    hm_assert(err == HM_OK);
    hm_buf_free(&sig);
    return true;
}

// ---- views --------------------------------------------------------------------------------------

uint64_t sx_resend_after(const hm_simplex *s)
{
    uint64_t t = 4 * s->delta_us;
    return t < SX_RESEND_MIN_US ? SX_RESEND_MIN_US : t > SX_RESEND_MAX_US ? SX_RESEND_MAX_US : t;
}

static uint64_t clamp(uint64_t x, uint64_t lo, uint64_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

// While a view before this one is open no block can stand, and views may go by faster than what is
// to be said again would be due.
static void resend_later(hm_simplex *s)
{
    uint64_t at = s->certify_by_us + sx_resend_after(s);
    if (s->resend_us == 0 || at < s->resend_us || sx_first_gap(s) == s->view)
        s->resend_us = at;
}

static void enter(hm_simplex *s, uint64_t view)
{
    uint64_t idle = s->work ? 0 : s->idle_us;
    s->view = view;
    s->entered_us = s->now_us;
    s->building = false;
    s->idle_until_us = s->now_us + idle;
    s->propose_by_us = s->idle_until_us + 2 * s->delta_us;
    s->certify_by_us = s->idle_until_us + 3 * s->delta_us;
    resend_later(s);
    if (s->absent[hm_simplex_leader(&s->set, &s->seed, view)])
        s->propose_by_us = s->now_us; // no proposal will come: do not wait for it
    s->dirty = true;
}

void sx_on_cert(hm_simplex *s, sx_view *v, hm_simplex_kind kind)
{
    bool current = v->view >= s->view;
    if (v->view > s->certified_view)
        s->certified_view = v->view;
    // What came only after this node had given it up tells that it waits too short a time, as much
    // as what never came does; who is away says nothing of the network.
    bool late = sx_has(sx_own(s, v, SX_NULLIFY));
    if (current && !s->absent[v->leader] &&
        (kind == HM_SIMPLEX_NULLIFY || (kind == HM_SIMPLEX_NOTARIZE && late)))
        s->delta_us = clamp(s->delta_us * 3 / 2, s->delta_min_us, s->delta_max_us);
    if (kind != HM_SIMPLEX_NOTARIZE)
        return;
    // What was waiting is in the block, as far as this node knows; FINAL brings a nudge if not.
    if (current)
        s->work = false;
    if (v->notarized_us > 0 && !late) {
        // From the own vote to the quorum is about one message's way, with its work.
        uint64_t hop = s->now_us - v->notarized_us;
        s->hop_us = s->hop_us == 0 ? hop : (7 * s->hop_us + hop) / 8;
        uint64_t target = clamp(6 * s->hop_us, s->delta_min_us, s->delta_max_us);
        if (target < s->delta_us)
            s->delta_us -= (s->delta_us - target) / 4;
    }
    if ((!late || sx_forgets(SX_FORGET_FINALIZE_RULE)) && !sx_has(sx_own(s, v, SX_FINALIZE)) &&
        v->view + HM_SIMPLEX_VIEWS_AHEAD >= s->view)
        (void)sx_cast(s, v, HM_SIMPLEX_FINALIZE, &v->certs[SX_NOTARIZE].id);
}

// Past the newest certificate. Views that were jumped over are asked for.
static void advance(hm_simplex *s)
{
    uint64_t past = s->certified_view > s->tip_view ? s->certified_view : s->tip_view;
    if (past < s->view)
        return;
    bool jumped = past > s->view;
    enter(s, past + 1);
    if (jumped && s->now_us >= s->jump_after_us) {
        s->jump_after_us = s->now_us + s->delta_min_us;
        sx_send_status(s, HM_SIMPLEX_ALL, true);
    }
}

// ---- blocks -------------------------------------------------------------------------------------

// Sees to it that a held block gets validated, its ancestors first.
static sx_block_state ensure_valid(hm_simplex *s, sx_view *v)
{
    sx_view *ask = NULL;
    for (sx_view *b = v; b->state != SX_VALID;) {
        if (b->state != SX_UNCHECKED)
            return b->state;
        ask = b;
        if (hm_hash_eq(&b->info.parent, &s->tip_id))
            break;
        sx_view *parent = sx_block(s, &b->info.parent);
        if (parent == NULL || parent->view >= b->view) {
            sx_ask(s, b->view, &b->info.parent, UINT32_MAX);
            return SX_UNCHECKED;
        }
        b = parent;
    }
    if (ask == NULL)
        return SX_VALID;
    ask->state = SX_ASKED;
    act_block(s, HM_SIMPLEX_VALIDATE, ask, (hm_bytes){0});
    return SX_ASKED;
}

// Are all views between two nullified? Asks for what is missing.
static bool skipped(hm_simplex *s, uint64_t after, uint64_t before)
{
    bool all = true;
    if (sx_forgets(SX_FORGET_PARENT))
        return true;
    for (uint64_t n = after + 1; n < before; n++) {
        const sx_view *v = sx_find(s, n);
        if (v != NULL && sx_certified(v, SX_NULLIFY))
            continue;
        sx_ask(s, n, &(hm_hash){0}, UINT32_MAX);
        all = false;
    }
    return all;
}

// May the block of the current view be voted for, by the rules of views?
static bool extends_certified(hm_simplex *s, sx_view *v)
{
    uint64_t view = s->tip_view, height = s->tip_height;
    if (!hm_hash_eq(&v->info.parent, &s->tip_id)) {
        const sx_view *p = sx_block(s, &v->info.parent);
        const hm_hash *id = p == NULL ? NULL : sx_certified_block(p);
        if (id == NULL || !hm_hash_eq(id, &v->info.parent)) {
            sx_ask(s, v->view, &v->info.parent, UINT32_MAX);
            return false;
        }
        view = p->view;
        height = p->info.height;
    }
    if (view >= v->view || v->info.height != height + 1) {
        sx_event(s, "the block of view %llu does not fit its parent", (unsigned long long)v->view);
        v->state = SX_INVALID;
        return false;
    }
    return skipped(s, view, v->view);
}

// The certificate of a view that was jumped over may be gone with those who held it. Without one no
// block can stand on the far side, and only its nullification is left to make. Called only when
// there was time enough for it to come: who nullifies a view cannot help to make it final.
static void nullify_gaps(hm_simplex *s)
{
    unsigned gaps = 0;
    uint64_t settled = s->finalized_view > sx_floor(s) ? s->finalized_view : sx_floor(s);
    for (uint64_t n = settled + 1; n < s->view && gaps < HM_SIMPLEX_VIEWS_AHEAD; n++) {
        sx_view *v = sx_get(s, n);
        if ((sx_certified_block(v) != NULL && !sx_forgets(SX_FORGET_NULLIFY_RULE)) ||
            sx_certified(v, SX_NULLIFY))
            continue;
        gaps++;
        if (!sx_has(sx_own(s, v, SX_NULLIFY)) &&
            (!sx_has(sx_own(s, v, SX_FINALIZE)) || sx_forgets(SX_FORGET_NULLIFY_RULE)))
            (void)sx_cast(s, v, HM_SIMPLEX_NULLIFY, &(hm_hash){0});
    }
}

static void vote(hm_simplex *s)
{
    sx_view *v = sx_get(s, s->view);
    if (sx_has(sx_own(s, v, SX_NULLIFY)) && !sx_forgets(SX_FORGET_NULLIFY_ENDS))
        return;
    bool held = v->block.len > 0 && sx_has(&v->prop) && hm_hash_eq(&v->prop.id, &v->info.id);
    const sx_vote *own = sx_own(s, v, SX_NOTARIZE);
    bool voted =
        sx_has(own) && (!sx_forgets(SX_FORGET_VOTE_ONCE) || hm_hash_eq(&own->id, &v->info.id));
    if (!voted && held && v->state != SX_INVALID && extends_certified(s, v) &&
        (ensure_valid(s, v) == SX_VALID || sx_forgets(SX_FORGET_VALIDATE))) {
        v->notarized_us = s->now_us;
        (void)sx_cast(s, v, HM_SIMPLEX_NOTARIZE, &v->info.id);
    }
    if (s->now_us < (v->block.len > 0 ? s->certify_by_us : s->propose_by_us) ||
        sx_has(sx_own(s, v, SX_NULLIFY)) || sx_has(sx_own(s, v, SX_FINALIZE)) ||
        s->view != v->view || s->certified_view >= s->view)
        return;
    if (!sx_cast(s, v, HM_SIMPLEX_NULLIFY, &(hm_hash){0}))
        s->propose_by_us = s->certify_by_us = s->now_us + 2 * s->delta_us;
    if (s->now_us >= s->entered_us + 2 * s->delta_us && !sx_forgets(SX_FORGET_GAPS))
        nullify_gaps(s);
}

// ---- leading ------------------------------------------------------------------------------------

static bool leading(const hm_simplex *s)
{
    const sx_view *v = sx_find(s, s->view);
    return v != NULL && v->leader == s->self && !sx_has(&v->prop) &&
           !sx_has(sx_own(s, v, SX_NULLIFY)) && !s->building;
}

static void build_on(hm_simplex *s, const hm_hash *parent, uint64_t height)
{
    hm_simplex_action *a = sx_act(s, HM_SIMPLEX_BUILD, (hm_bytes){0}, (hm_bytes){0});
    s->building = true;
    s->build_parent = a->parent = *parent;
    s->build_height = a->height = height;
    a->view = s->view;
}

static void lead(hm_simplex *s)
{
    if (!leading(s) || (!s->work && s->now_us < s->idle_until_us))
        return;
    for (uint64_t n = s->view - 1; n > s->tip_view; n--) {
        sx_view *v = sx_find(s, n);
        const hm_hash *id = v == NULL ? NULL : sx_certified_block(v);
        if (id == NULL) {
            if ((v == NULL || !sx_certified(v, SX_NULLIFY)) && !sx_forgets(SX_FORGET_PARENT))
                return; // jumped over: asked for
            continue;
        }
        if (v->block.len == 0)
            sx_ask(s, n, id, UINT32_MAX);
        else if (ensure_valid(s, v) == SX_VALID)
            build_on(s, &v->info.id, v->info.height + 1);
        return;
    }
    build_on(s, &s->tip_id, s->tip_height + 1);
}

hm_err hm_simplex_proposal(hm_simplex *s, uint64_t now_us, hm_bytes block)
{
    hm_simplex_block_info info;
    s->now_us = now_us;
    sx_prune(s);
    if (!s->building)
        return hm_fail(HM_E_PROPOSAL, "no block is asked for any more");
    HM_TRY(s->calls.block_info(s->calls.ctx, block, &info));
    if (block.len > HM_SIMPLEX_BLOCK_MAX || info.view != s->view ||
        info.height != s->build_height || !hm_hash_eq(&info.parent, &s->build_parent) ||
        !hm_hash_eq(&info.proposer, &s->set.validators[s->self].id))
        return hm_fail(HM_E_PROPOSAL, "the block is not the one that was asked for");
    s->building = false;
    sx_view *v = sx_get(s, s->view);
    hm_buf sig = {0}, m = {0};
    if (sx_has(&v->prop) || sx_has(sx_own(s, v, SX_NULLIFY)) ||
        !sign(s, v->view, HM_SIMPLEX_PROPOSE, &info.id, &sig)) {
        hm_buf_free(&sig);
        return hm_fail(HM_E_PROPOSAL, "too late for view %llu", (unsigned long long)s->view);
    }
    hm_assert(sx_add_proposal(s, v, &info.id, hm_buf_bytes(&sig), true) == HM_OK);
    hm_buf_free(&sig);
    if (sx_hold_block(s, v, &info, block)) {
        v->state = SX_VALID;
        sx_persist(s, v, HM_SIMPLEX_PROPOSE, &v->prop);
        sx_msg_proposal(v, &m);
        sx_send(s, HM_SIMPLEX_ALL, &m);
        hm_buf_free(&m);
    }
    sx_evaluate(s);
    return HM_OK;
}

void hm_simplex_validated(hm_simplex *s, uint64_t now_us, const hm_hash *id, bool ok)
{
    s->now_us = now_us;
    sx_prune(s);
    sx_view *v = sx_block(s, id);
    if (v == NULL || v->state != SX_ASKED)
        return;
    v->state = ok ? SX_VALID : SX_INVALID;
    s->dirty = true;
    sx_evaluate(s);
}

// ---- finality -----------------------------------------------------------------------------------

// The blocks from the one that is finalized in a view down to the tip, that one first; NULL when
// not all are here with their certificates.
static sx_view **chain_to_tip(hm_simplex *s, uint64_t view, size_t *count)
{
    sx_view *v = sx_find(s, view), **chain = NULL;
    size_t n = 0, cap = 0;
    if (v->block.len == 0) {
        if (!sx_far_behind(s))
            sx_ask(s, v->view, &v->certs[SX_FINALIZE].id, UINT32_MAX);
        return NULL;
    }
    uint64_t height = v->info.height;
    for (;;) {
        if (n == cap) {
            cap = cap == 0 ? 16 : 2 * cap;
            chain = realloc(chain, cap * sizeof(sx_view *));
            hm_assert(chain != NULL);
        }
        chain[n++] = v;
        if (hm_hash_eq(&v->info.parent, &s->tip_id))
            break;
        sx_view *p = sx_block(s, &v->info.parent);
        const hm_hash *id = p == NULL ? NULL : sx_certified_block(p);
        if (id == NULL || p->view >= v->view || p->view <= s->tip_view) {
            if (height > s->target_height)
                s->target_height = height; // others have these blocks in their ledgers
            if (!sx_far_behind(s))
                sx_ask(s, v->view, &v->info.parent, UINT32_MAX);
            free(chain);
            return NULL;
        }
        v = p;
    }
    *count = n;
    return chain;
}

static void try_final(hm_simplex *s)
{
    size_t count = 0;
    sx_view **chain = NULL;
    if (s->finalized_view > s->tip_view)
        chain = chain_to_tip(s, s->finalized_view, &count);
    if (chain == NULL && s->fetched_view > s->tip_view)
        chain = chain_to_tip(s, s->fetched_view, &count); // the newest is out of reach as yet
    if (chain == NULL)
        return;
    while (count-- > 0) {
        sx_view *v = chain[count];
        int k = sx_certified(v, SX_FINALIZE) ? SX_FINALIZE : SX_NOTARIZE;
        act_block(s, HM_SIMPLEX_FINAL, v, hm_buf_bytes(&v->certs[k].bytes));
        s->tip_height = v->info.height;
        s->tip_view = v->view;
        s->tip_id = v->info.id;
    }
    free(chain);
    s->dirty = true;
}

void sx_evaluate(hm_simplex *s)
{
    if (!s->started)
        return;
    do {
        s->dirty = false;
        try_final(s);
        advance(s);
        vote(s);
        lead(s);
        sx_fetch(s);
    } while (s->dirty);
}

// ---- inputs -------------------------------------------------------------------------------------

void hm_simplex_start(hm_simplex *s, uint64_t now_us)
{
    s->now_us = now_us;
    s->started = true;
    enter(s, s->tip_view + 1);
    // What was certified before is so now, and restored votes may be a quorum of their own.
    for (uint64_t n = s->tip_view + 1; n <= s->high; n++) {
        sx_view *v = sx_find(s, n);
        for (int k = 0; v != NULL && k < SX_KINDS; k++) {
            sx_vote own = *sx_own(s, v, k);
            if (sx_certified(v, k))
                sx_on_cert(s, v, (hm_simplex_kind)(HM_SIMPLEX_NOTARIZE + k));
            if (sx_has(&own))
                sx_try_cert(s, v, (hm_simplex_kind)(HM_SIMPLEX_NOTARIZE + k), &own.id);
        }
    }
    sx_evaluate(s);
}

void hm_simplex_timer(hm_simplex *s, uint64_t now_us)
{
    s->now_us = now_us;
    sx_prune(s);
    if (now_us >= s->resend_us && !sx_forgets(SX_FORGET_RESEND)) {
        s->resend_us = now_us + sx_resend_after(s);
        sx_send_status(s, HM_SIMPLEX_ALL, true);
        sx_send_votes(s, HM_SIMPLEX_ALL, s->view);
    }
    for (size_t i = 0; i < SX_WANTS_MAX; i++) {
        sx_want *w = &s->wants[i];
        if (sx_still_wanted(s, w) && now_us >= w->again_us) {
            hm_hash id = w->id;
            sx_ask(s, w->view, &id, UINT32_MAX);
        }
    }
    sx_evaluate(s);
}

uint64_t hm_simplex_next_timeout(const hm_simplex *s)
{
    uint64_t t = s->set.count > 1 && !sx_forgets(SX_FORGET_RESEND) ? s->resend_us : UINT64_MAX;
    const sx_view *v = sx_find(s, s->view);
    if (!s->started)
        return UINT64_MAX;
    if (v == NULL || (!sx_has(sx_own(s, v, SX_NULLIFY)) && !sx_has(sx_own(s, v, SX_FINALIZE)))) {
        uint64_t by = v != NULL && v->block.len > 0 ? s->certify_by_us : s->propose_by_us;
        t = by < t ? by : t;
    }
    if (leading(s) && s->idle_until_us > s->now_us && s->idle_until_us < t)
        t = s->idle_until_us;
    uint64_t due = sx_wants_due(s);
    t = due < t ? due : t;
    due = sx_fetch_due(s);
    return due < t ? due : t;
}

void hm_simplex_nudge(hm_simplex *s, uint64_t now_us)
{
    s->now_us = now_us;
    sx_prune(s);
    if (s->work)
        return;
    s->work = true;
    if (now_us + 2 * s->delta_us < s->propose_by_us)
        s->propose_by_us = now_us + 2 * s->delta_us;
    if (now_us + 3 * s->delta_us < s->certify_by_us) {
        s->certify_by_us = now_us + 3 * s->delta_us;
        resend_later(s);
    }
    s->idle_until_us = now_us;
    sx_evaluate(s);
}

void hm_simplex_peer_up(hm_simplex *s, uint64_t now_us, uint32_t peer)
{
    s->now_us = now_us;
    sx_prune(s);
    if (peer >= s->set.count || peer == s->self)
        return;
    s->absent[peer] = false;
    s->reply_after_us[peer] = 0;
    sx_send_status(s, peer, true);
    sx_send_votes(s, peer, 0);
    sx_evaluate(s);
}

void hm_simplex_peer_down(hm_simplex *s, uint64_t now_us, uint32_t peer)
{
    s->now_us = now_us;
    sx_prune(s);
    if (peer >= s->set.count || peer == s->self)
        return;
    s->absent[peer] = true;
    if (s->started && hm_simplex_leader(&s->set, &s->seed, s->view) == peer)
        s->propose_by_us = now_us;
    sx_evaluate(s);
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err check_config(const hm_simplex_config *cfg, uint64_t *total)
{
    if (cfg->set.count == 0 || cfg->set.count > HM_SIMPLEX_VALIDATORS_MAX ||
        cfg->self >= cfg->set.count)
        return hm_fail(HM_E_INVALID, "%u validators, of which this is number %u", cfg->set.count,
                       cfg->self);
    *total = 0;
    for (uint32_t i = 0; i < cfg->set.count; i++) {
        if (cfg->set.validators[i].power >= POWER_MAX)
            return hm_fail(HM_E_RANGE, "a validator's power is too great");
        *total += cfg->set.validators[i].power;
    }
    if (*total == 0 || *total >= POWER_MAX)
        return hm_fail(HM_E_RANGE, "the validators' power is %llu", (unsigned long long)*total);
    if (cfg->delta_us == 0 || cfg->delta_min_us == 0 || cfg->delta_max_us < cfg->delta_min_us)
        return hm_fail(HM_E_INVALID, "bad bounds on the message delay");
    return HM_OK;
}

static hm_err copy_set(hm_simplex *s, const hm_simplex_set *set)
{
    s->set = *set;
    s->validators = hm_arena_array(&s->arena, set->count, sizeof *s->validators);
    if (s->validators == NULL)
        return HM_E_NOMEM;
    for (uint32_t i = 0; i < set->count; i++) {
        hm_bytes key = set->validators[i].public_key;
        s->validators[i] = set->validators[i];
        s->validators[i].public_key = hm_arena_copy(&s->arena, key);
        if (key.len > 0 && s->validators[i].public_key.ptr == NULL)
            return HM_E_NOMEM;
    }
    s->set.validators = s->validators;
    s->peer_height = hm_arena_array(&s->arena, set->count, sizeof *s->peer_height);
    s->reply_after_us = hm_arena_array(&s->arena, set->count, sizeof *s->reply_after_us);
    s->block_after_us = hm_arena_array(&s->arena, set->count, sizeof *s->block_after_us);
    s->absent = hm_arena_array(&s->arena, set->count, sizeof *s->absent);
    return s->peer_height != NULL && s->reply_after_us != NULL && s->block_after_us != NULL &&
                   s->absent != NULL
               ? HM_OK
               : HM_E_NOMEM;
}

hm_err hm_simplex_new(const hm_simplex_config *cfg, hm_simplex **out)
{
    uint64_t total = 0;
    HM_TRY(check_config(cfg, &total));
    hm_simplex *s = calloc(1, sizeof *s);
    if (s == NULL)
        return HM_E_NOMEM;
    hm_list_init(&s->actions);
    hm_map_init(&s->views, sizeof(uint64_t), 0, &hm_random_system);
    hm_map_init(&s->by_block, HM_HASH_BYTES, 0, &hm_random_system);
    s->total = total;
    s->self = cfg->self;
    s->seed = cfg->seed;
    s->calls = cfg->calls;
    s->tip_height = cfg->tip_height;
    s->tip_view = s->given_view = cfg->tip_view;
    s->tip_id = cfg->tip_id;
    s->low = s->view = cfg->tip_view + 1;
    s->high = cfg->tip_view;
    s->delta_min_us = cfg->delta_min_us;
    s->delta_max_us = cfg->delta_max_us;
    s->delta_us = clamp(cfg->delta_us, cfg->delta_min_us, cfg->delta_max_us);
    s->idle_us = cfg->idle_us;
    s->cursor_height = cfg->tip_height;
    s->cursor_view = cfg->tip_view;
    s->cursor_id = cfg->tip_id;
    hm_err err = copy_set(s, &cfg->set);
    if (err != HM_OK) {
        hm_simplex_free(s);
        return err;
    }
    *out = s;
    return HM_OK;
}

void hm_simplex_free(hm_simplex *s)
{
    if (s == NULL)
        return;
    for (uint64_t n = s->low; n <= s->high; n++) {
        sx_view *v = hm_map_remove(&s->views, &n);
        if (v != NULL)
            sx_view_free(s, v);
    }
    hm_list_each(it, &s->actions)
    {
        action_free(hm_container_of(it, sx_action, link));
    }
    action_free(s->given);
    hm_map_free(&s->views);
    hm_map_free(&s->by_block);
    hm_arena_free(&s->arena);
    free(s);
}

void hm_simplex_get_status(const hm_simplex *s, hm_simplex_status *out)
{
    *out = (hm_simplex_status){.view = s->view,
                               .final_height = s->tip_height,
                               .final_view = s->tip_view,
                               .final_id = s->tip_id,
                               .delta_us = s->delta_us,
                               .leader = hm_simplex_leader(&s->set, &s->seed, s->view)};
    for (uint32_t i = 0; i < s->set.count; i++)
        if (s->peer_height[i] > out->known_height)
            out->known_height = s->peer_height[i];
}

uint64_t hm_simplex_peer_height(const hm_simplex *s, uint32_t peer)
{
    return peer < s->set.count ? s->peer_height[peer] : 0;
}
