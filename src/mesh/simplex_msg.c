// Messages between validators, asking for what is missing, and catching up.
//
//   PROPOSAL  bytes signature of the leader, bytes block
//   VOTE      u8 kind, u64 view, id, bytes signature; notarize: bytes signature of the leader
//   CERT      a certificate
//   STATUS    u64 view, u64 first view without a certificate, u64 final height, u64 final view,
//             bool answer wanted
//   GET       u64 view, id of a block, or zero for the nullification of the view
#include "mesh/simplex_internal.h"

typedef enum sx_type { SX_PROPOSAL = 1, SX_VOTE, SX_CERT, SX_STATUS, SX_GET } sx_type;

// ---- writing ------------------------------------------------------------------------------------

void sx_msg_proposal(const sx_view *v, hm_buf *out)
{
    hm_wr_u8(out, SX_PROPOSAL);
    hm_wr_bytes(out, hm_bytes_of(v->prop.sig, v->prop.len));
    hm_wr_bytes(out, hm_buf_bytes(&v->block));
}

void sx_msg_vote(const sx_view *v, hm_simplex_kind kind, const sx_vote *vote, hm_buf *out)
{
    hm_wr_u8(out, SX_VOTE);
    hm_wr_u8(out, (uint8_t)kind);
    hm_wr_u64(out, v->view);
    hm_wr_raw(out, vote->id.b, HM_HASH_BYTES);
    hm_wr_bytes(out, hm_bytes_of(vote->sig, vote->len));
    if (kind == HM_SIMPLEX_NOTARIZE)
        hm_wr_bytes(out, hm_bytes_of(v->prop.sig, v->prop.len));
}

void sx_send_cert(hm_simplex *s, uint32_t peer, const sx_cert *c)
{
    hm_buf m = {0};
    hm_wr_u8(&m, SX_CERT);
    hm_buf_put(&m, hm_buf_bytes(&c->bytes));
    sx_send(s, peer, &m);
    hm_buf_free(&m);
}

uint64_t sx_first_gap(const hm_simplex *s)
{
    uint64_t n = s->tip_view + 1;
    for (; n < s->view; n++) {
        const sx_view *v = sx_find(s, n);
        if (v == NULL || (sx_certified_block(v) == NULL && !sx_certified(v, SX_NULLIFY)))
            break;
    }
    return n;
}

void sx_send_status(hm_simplex *s, uint32_t peer, bool want)
{
    hm_buf m = {0};
    hm_wr_u8(&m, SX_STATUS);
    hm_wr_u64(&m, s->view);
    hm_wr_u64(&m, sx_first_gap(s));
    hm_wr_u64(&m, s->tip_height);
    hm_wr_u64(&m, s->tip_view);
    hm_wr_bool(&m, want);
    sx_send(s, peer, &m);
    hm_buf_free(&m);
}

void sx_send_votes(hm_simplex *s, uint32_t peer, uint64_t from_view)
{
    if (from_view <= sx_floor(s))
        from_view = sx_floor(s) + 1;
    for (uint64_t n = from_view; n <= s->high; n++) {
        const sx_view *v = sx_find(s, n);
        for (int k = 0; v != NULL && k < SX_KINDS; k++) {
            const sx_vote *own = sx_own(s, v, k);
            hm_buf m = {0};
            if (!sx_has(own))
                continue;
            sx_msg_vote(v, (hm_simplex_kind)(HM_SIMPLEX_NOTARIZE + k), own, &m);
            sx_send(s, peer, &m);
            hm_buf_free(&m);
        }
    }
}

static void send_block(hm_simplex *s, uint32_t peer, const sx_view *v)
{
    hm_buf m = {0};
    if (v->block.len == 0 || !sx_has(&v->prop) || !hm_hash_eq(&v->prop.id, &v->info.id))
        return;
    sx_msg_proposal(v, &m);
    sx_send(s, peer, &m);
    hm_buf_free(&m);
}

// ---- reading ------------------------------------------------------------------------------------

// A vote or proposal of a view that this node may still want: HM_E_AGAIN when it does not.
static hm_err view_for(hm_simplex *s, uint64_t view, sx_view **out)
{
    uint64_t ahead = sx_forgets(SX_FORGET_AHEAD) ? 1000 : HM_SIMPLEX_VIEWS_AHEAD;
    if (view == 0 || view > s->view + ahead)
        return HM_E_AGAIN;
    if (view > s->tip_view && view <= s->thinned)
        return HM_E_AGAIN;
    *out = view > s->tip_view ? sx_get(s, view) : sx_find(s, view);
    return *out != NULL ? HM_OK : HM_E_AGAIN;
}

static hm_err on_proposal(hm_simplex *s, uint32_t from, hm_rd *r)
{
    hm_bytes sig = hm_rd_bytes(r, HM_FALCON_SIGNATURE_MAX);
    hm_bytes block = hm_rd_bytes(r, HM_SIMPLEX_BLOCK_MAX);
    hm_simplex_block_info info;
    sx_view *v;
    HM_TRY(hm_rd_end(r));
    HM_TRY(s->calls.block_info(s->calls.ctx, block, &info));
    if (view_for(s, info.view, &v) != HM_OK)
        return HM_OK;
    if (!hm_hash_eq(&info.proposer, &s->set.validators[v->leader].id))
        return hm_fail(HM_E_PROPOSAL, "view %llu has another leader",
                       (unsigned long long)info.view);
    HM_TRY(sx_add_proposal(s, v, &info.id, sig, false));
    const hm_hash *certified = sx_certified_block(v);
    if (v->view <= s->tip_view ||
        !hm_hash_eq(certified != NULL ? certified : &v->prop.id, &info.id))
        return HM_OK;
    if (sx_far_behind(s) && s->by_block.count >= HM_SIMPLEX_FETCH_MAX)
        return HM_OK;
    (void)sx_hold_block(s, v, &info, block);
    if (sx_block(s, &info.parent) == NULL && !hm_hash_eq(&info.parent, &s->tip_id) &&
        v->view == s->view)
        sx_ask(s, v->view, &info.parent, from);
    return HM_OK;
}

static hm_err on_vote(hm_simplex *s, uint32_t from, hm_rd *r)
{
    hm_simplex_kind kind = (hm_simplex_kind)hm_rd_enum(r, HM_SIMPLEX_FINALIZE);
    uint64_t view = hm_rd_u64(r);
    hm_hash id;
    hm_rd_copy(r, id.b, HM_HASH_BYTES);
    hm_bytes sig = hm_rd_bytes(r, HM_FALCON_SIGNATURE_MAX), prop = {0};
    if (kind < HM_SIMPLEX_NOTARIZE)
        hm_rd_refuse(r, HM_E_VOTE);
    if ((kind == HM_SIMPLEX_NULLIFY) != hm_hash_is_zero(&id))
        hm_rd_refuse(r, HM_E_NONCANONICAL);
    if (kind == HM_SIMPLEX_NOTARIZE)
        prop = hm_rd_bytes(r, HM_FALCON_SIGNATURE_MAX);
    HM_TRY(hm_rd_end(r));
    sx_view *v;
    if (view_for(s, view, &v) != HM_OK)
        return HM_OK;
    if (kind == HM_SIMPLEX_NOTARIZE)
        HM_TRY(sx_add_proposal(s, v, &id, prop, false));
    return sx_add_vote(s, v, kind, from, &id, sig, false);
}

// Certificates that a peer lacks, this node's votes, and where this node is.
static void help(hm_simplex *s, uint32_t peer, uint64_t gap, uint64_t peer_final_view)
{
    size_t bytes = 0;
    uint64_t from = gap > sx_floor(s) ? gap : sx_floor(s) + 1;
    for (uint64_t n = from; n <= s->high && bytes < SX_REPLY_BYTES_MAX; n++) {
        const sx_view *v = sx_find(s, n);
        for (int k = 0; v != NULL && k < SX_KINDS; k++)
            if (sx_certified(v, k)) {
                sx_send_cert(s, peer, &v->certs[k]);
                bytes += v->certs[k].bytes.len;
            }
    }
    sx_send_votes(s, peer, from);
    const sx_view *v = sx_find(s, s->view);
    if (v != NULL && v->leader == s->self)
        send_block(s, peer, v);
    if (peer_final_view < s->tip_view)
        sx_send_status(s, peer, false);
}

static hm_err on_status(hm_simplex *s, uint32_t from, hm_rd *r)
{
    uint64_t view = hm_rd_u64(r), gap = hm_rd_u64(r);
    uint64_t height = hm_rd_u64(r), final_view = hm_rd_u64(r);
    bool want = hm_rd_bool(r);
    HM_TRY(hm_rd_end(r));
    if (gap > view || final_view >= gap || height > final_view)
        return hm_fail(HM_E_VOTE, "a status that cannot be");
    s->peer_height[from] = height;
    s->dirty = true;
    if (want && s->now_us >= s->reply_after_us[from]) {
        s->reply_after_us[from] = s->now_us + SX_REPLY_EVERY_US;
        help(s, from, gap, final_view);
    }
    return HM_OK;
}

// The view in which a block is held, or certified without being held.
static const sx_view *view_of(const hm_simplex *s, const hm_hash *id)
{
    const sx_view *v = sx_block(s, id);
    for (uint64_t n = sx_floor(s) + 1; v == NULL && n <= s->high; n++) {
        const sx_view *x = sx_find(s, n);
        const hm_hash *certified = x == NULL ? NULL : sx_certified_block(x);
        if (certified != NULL && hm_hash_eq(certified, id))
            v = x;
    }
    return v;
}

static hm_err on_get(hm_simplex *s, uint32_t from, hm_rd *r)
{
    uint64_t view = hm_rd_u64(r);
    hm_hash id;
    hm_rd_copy(r, id.b, HM_HASH_BYTES);
    HM_TRY(hm_rd_end(r));
    if (hm_hash_is_zero(&id)) {
        const sx_view *v = sx_find(s, view);
        if (v != NULL && sx_certified(v, SX_NULLIFY))
            sx_send_cert(s, from, &v->certs[SX_NULLIFY]);
        return HM_OK;
    }
    const sx_view *v = view_of(s, &id);
    if (v == NULL) {
        // It may be final here already: then this tells where to fetch it.
        sx_send_status(s, from, false);
        return HM_OK;
    }
    if (s->now_us < s->block_after_us[from])
        return HM_OK; // it asks again
    s->block_after_us[from] = s->now_us + SX_REPLY_EVERY_US / 10;
    send_block(s, from, v);
    for (int k = 0; k < SX_KINDS; k++)
        if (sx_certified(v, k))
            sx_send_cert(s, from, &v->certs[k]);
    return HM_OK;
}

static hm_err dispatch(hm_simplex *s, uint32_t from, hm_bytes bytes)
{
    hm_rd r = hm_rd_of(bytes);
    switch (hm_rd_u8(&r)) {
    case SX_PROPOSAL:
        return on_proposal(s, from, &r);
    case SX_VOTE:
        return on_vote(s, from, &r);
    case SX_CERT:
        return sx_add_cert(s, hm_bytes_of(r.ptr, r.left), true);
    case SX_STATUS:
        return on_status(s, from, &r);
    case SX_GET:
        return on_get(s, from, &r);
    default:
        return hm_fail(HM_E_UNSUPPORTED, "a consensus message of an unknown type");
    }
}

hm_err hm_simplex_message(hm_simplex *s, uint64_t now_us, uint32_t from, hm_bytes bytes)
{
    s->now_us = now_us;
    sx_prune(s);
    if (from >= s->set.count || from == s->self)
        return hm_fail(HM_E_INVALID, "a message of no other validator");
    s->absent[from] = false;
    hm_err err = dispatch(s, from, bytes);
    sx_evaluate(s);
    return err;
}

// ---- asking -------------------------------------------------------------------------------------

bool sx_still_wanted(const hm_simplex *s, const sx_want *w)
{
    if (!w->used || w->view <= s->tip_view)
        return false;
    if (!hm_hash_is_zero(&w->id)) {
        const sx_view *v = sx_block(s, &w->id);
        return v == NULL || sx_certified_block(v) == NULL;
    }
    const sx_view *v = sx_find(s, w->view);
    return v == NULL || !sx_certified(v, SX_NULLIFY);
}

static uint32_t next_peer(const hm_simplex *s, uint32_t peer)
{
    do
        peer = (peer + 1) % s->set.count;
    while (peer == s->self && s->set.count > 1);
    return peer;
}

void sx_ask(hm_simplex *s, uint64_t view, const hm_hash *id, uint32_t hint)
{
    sx_want *w = NULL;
    if (s->set.count == 1)
        return;
    for (size_t i = 0; i < SX_WANTS_MAX; i++) {
        sx_want *x = &s->wants[i];
        if (x->used && x->view == view && hm_hash_eq(&x->id, id)) {
            w = x;
            break;
        }
        if (w == NULL && !sx_still_wanted(s, x))
            w = x;
    }
    if (w == NULL)
        return; // so many are asked for already; this one's turn comes when it is asked again
    if (!w->used || w->view != view || !hm_hash_eq(&w->id, id)) {
        uint32_t first = hint < s->set.count && hint != s->self ? hint : next_peer(s, s->self);
        *w = (sx_want){.used = true, .view = view, .id = *id, .peer = first};
    } else if (s->now_us < w->again_us) {
        return;
    } else {
        w->peer = next_peer(s, w->peer);
    }
    w->again_us = s->now_us + sx_resend_after(s);
    hm_buf m = {0};
    hm_wr_u8(&m, SX_GET);
    hm_wr_u64(&m, view);
    hm_wr_raw(&m, id->b, HM_HASH_BYTES);
    sx_send(s, w->peer, &m);
    hm_buf_free(&m);
}

uint64_t sx_wants_due(const hm_simplex *s)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < SX_WANTS_MAX; i++)
        if (sx_still_wanted(s, &s->wants[i]) && s->wants[i].again_us < due)
            due = s->wants[i].again_us;
    return due;
}

// ---- catching up --------------------------------------------------------------------------------
// Blocks come in order from the tip on, each with its certificate; the cursor is the last one. What
// is final by one of these certificates is given at once, so that a long chain needs little room
// and a peer that fails costs no more than its answer.

static void cursor_reset(hm_simplex *s)
{
    s->cursor_height = s->tip_height;
    s->cursor_view = s->tip_view;
    s->cursor_id = s->tip_id;
}

static uint64_t wanted_height(const hm_simplex *s)
{
    uint64_t height = s->target_height;
    for (uint32_t i = 0; i < s->set.count; i++)
        if (s->peer_height[i] > height)
            height = s->peer_height[i];
    return height;
}

// The next peer in turn that told of blocks past the cursor, or else the next in turn.
static uint32_t fetch_from(const hm_simplex *s)
{
    uint32_t peer = s->fetch_peer;
    for (uint32_t i = 0; i < s->set.count; i++) {
        peer = next_peer(s, peer);
        if (s->peer_height[peer] > s->cursor_height)
            return peer;
    }
    return next_peer(s, s->fetch_peer);
}

// The first block has its way and its making before it; from then on a pause of twice as long is
// more likely the end of an answer that was cut short.
static void fetch_wait(hm_simplex *s)
{
    uint64_t heard = s->now_us - s->fetch_heard_us;
    uint64_t least = s->fetch_gave ? SX_FETCH_NEXT_US : SX_FETCH_MIN_US;
    uint64_t t = s->fetch_gave ? 2 * heard : 8 * s->delta_us;
    t = t < least ? least : t > SX_FETCH_MAX_US ? SX_FETCH_MAX_US : t;
    s->fetch_heard_us = s->now_us;
    s->fetch_until_us = s->now_us + t;
}

static void fetch_failed(hm_simplex *s, bool blame)
{
    s->fetching = false;
    // Its word counts no more until it is told again.
    if (blame && s->peer_height[s->fetch_peer] > s->tip_height)
        s->peer_height[s->fetch_peer] = s->tip_height;
}

void sx_fetch(hm_simplex *s)
{
    uint64_t target = wanted_height(s);
    if (s->cursor_height < s->tip_height)
        cursor_reset(s);
    if (s->fetching && (s->cursor_height >= s->fetch_to || target <= s->tip_height))
        s->fetching = false;
    if (s->fetching && s->now_us >= s->fetch_until_us)
        fetch_failed(s, !s->fetch_gave);
    target = wanted_height(s);
    if (s->fetching || target <= s->tip_height || s->set.count == 1)
        return;
    if (s->cursor_height >= target) {
        // All that was told is here, but nothing says that it is final: begin anew, later.
        if (s->now_us < s->fetch_until_us)
            return;
        cursor_reset(s);
    }
    uint64_t to = s->cursor_height + HM_SIMPLEX_FETCH_MAX;
    s->fetch_peer = fetch_from(s);
    s->fetch_to = to < target ? to : target;
    s->fetching = true;
    s->fetch_gave = false;
    fetch_wait(s);
    hm_simplex_action *a = sx_act(s, HM_SIMPLEX_FETCH, (hm_bytes){0}, (hm_bytes){0});
    a->peer = s->fetch_peer;
    a->height = s->cursor_height + 1;
    a->to_height = s->fetch_to;
}

uint64_t sx_fetch_due(const hm_simplex *s)
{
    bool due = s->set.count > 1 && (s->fetching || wanted_height(s) > s->tip_height);
    return due ? s->fetch_until_us : UINT64_MAX;
}

static hm_err take_certified(hm_simplex *s, const hm_simplex_block_info *info, hm_bytes block,
                             hm_bytes cert)
{
    sx_cert_view c;
    if (!hm_hash_eq(&info->parent, &s->cursor_id) || info->view <= s->cursor_view) {
        cursor_reset(s); // the one or the other is of a branch that was given up
        return hm_fail(HM_E_PROPOSAL, "block %llu does not follow the one before",
                       (unsigned long long)info->height);
    }
    HM_TRY(sx_cert_read(&s->set, cert, &c));
    if (c.kind == HM_SIMPLEX_NULLIFY || c.view != info->view || !hm_hash_eq(&c.id, &info->id))
        return hm_fail(HM_E_QUORUM, "the certificate is for another block");
    HM_TRY(sx_add_cert(s, cert, false));
    sx_view *v = sx_find(s, info->view);
    const hm_hash *certified = v == NULL ? NULL : sx_certified_block(v);
    if (certified == NULL || !hm_hash_eq(certified, &info->id) || !sx_hold_block(s, v, info, block))
        return hm_fail(HM_E_PROPOSAL, "view %llu has another block",
                       (unsigned long long)info->view);
    if (sx_certified(v, SX_FINALIZE))
        s->fetched_view = v->view;
    s->cursor_height = info->height;
    s->cursor_view = info->view;
    s->cursor_id = info->id;
    return HM_OK;
}

hm_err hm_simplex_certified_block(hm_simplex *s, uint64_t now_us, uint32_t from, hm_bytes block,
                                  hm_bytes cert)
{
    hm_simplex_block_info info;
    s->now_us = now_us;
    sx_prune(s);
    if (!s->fetching || from != s->fetch_peer)
        return hm_fail(HM_E_AGAIN, "no block was asked for there");
    if (s->cursor_height < s->tip_height)
        cursor_reset(s);
    hm_err err = block.len > HM_SIMPLEX_BLOCK_MAX
                     ? hm_fail(HM_E_LIMIT, "a block of %zu bytes", block.len)
                     : s->calls.block_info(s->calls.ctx, block, &info);
    if (err == HM_OK && info.height != s->cursor_height + 1)
        return hm_fail(HM_E_AGAIN, "block %llu is not the next one",
                       (unsigned long long)info.height);
    if (err == HM_OK)
        err = take_certified(s, &info, block, cert);
    if (err == HM_OK) {
        s->fetch_gave = true;
        fetch_wait(s);
    } else {
        fetch_failed(s, true);
    }
    s->dirty = true;
    sx_evaluate(s);
    return err;
}
