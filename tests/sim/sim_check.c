// What must hold, whatever happens. The formats are read here anew, not with the core's readers.
#include "sim_internal.h"

// ---- what honest validators sign ----------------------------------------------------------------

static sim_signed_view *signed_in(sim *s, uint32_t v, uint64_t view)
{
    size_t cap = s->signed_cap[v];
    hm_assert(view < 1000000);
    if (view >= cap) {
        size_t want = cap == 0 ? 64 : cap;
        while (want <= view)
            want *= 2;
        s->signed_views[v] = realloc(s->signed_views[v], want * sizeof(sim_signed_view));
        hm_assert(s->signed_views[v] != NULL);
        memset(s->signed_views[v] + cap, 0, (want - cap) * sizeof(sim_signed_view));
        s->signed_cap[v] = want;
    }
    return &s->signed_views[v][view];
}

// ---- what votes rest on -------------------------------------------------------------------------

void sim_check_free(sim *s)
{
    size_t pos = 0;
    void *block;
    while (hm_map_next(&s->blocks, &pos, NULL, &block))
        free(block);
    hm_map_free(&s->blocks);
}

static void learn_block(sim *s, hm_bytes bytes)
{
    hm_simplex_block_info info;
    if (bytes.len == 0 || s->ledger->block_info(s, bytes, &info) != HM_OK ||
        hm_map_get(&s->blocks, info.id.b) != NULL)
        return;
    sim_block *b = malloc(sizeof *b);
    hm_assert(b != NULL);
    *b = (sim_block){info.parent, info.view, info.height};
    sim_must(hm_map_put(&s->blocks, info.id.b, b), "blocks");
}

// Could there be a certificate: have honest validators, with the help of all liars, voted so?
static bool certifiable(sim *s, uint64_t view, hm_simplex_kind kind, const hm_hash *id)
{
    uint64_t power = 0;
    for (uint32_t v = 0; v < s->p.n; v++) {
        const sim_signed_view *x = sim_honest(s, v) ? signed_in(s, v, view) : NULL;
        if (x == NULL || (x->durable[kind] && hm_hash_eq(&x->durable_id[kind], id)))
            power += s->p.power[v];
    }
    return power * 3 > s->total * 2;
}

static void check_basis(sim *s, const sim_node *nd, uint64_t view, hm_simplex_kind kind,
                        const hm_hash *id)
{
    static const hm_hash none;
    uint64_t liars = 0;
    for (uint32_t v = 0; v < s->p.n; v++)
        liars += sim_honest(s, v) ? 0 : s->p.power[v];
    if (liars * 3 >= s->total)
        return; // a test of one core, to which the others may say anything
    if (kind == HM_SIMPLEX_FINALIZE && !certifiable(s, view, HM_SIMPLEX_NOTARIZE, id))
        sim_fail(s, "what is voted final is certified", "node %u, view %llu", nd->number,
                 (unsigned long long)view);
    const sim_block *b = kind == HM_SIMPLEX_NOTARIZE ? hm_map_get(&s->blocks, id->b) : NULL;
    if (b == NULL)
        return;
    const sim_block *parent = hm_map_get(&s->blocks, b->parent.b);
    uint64_t parent_view = parent == NULL ? 0 : parent->view;
    if (parent == NULL && !hm_hash_eq(&b->parent, &s->set.chain_id)) {
        sim_fail(s, "a block stands on one that was voted for", "node %u, view %llu", nd->number,
                 (unsigned long long)view);
        return;
    }
    if (b->height != (parent == NULL ? 0 : parent->height) + 1 || b->view != view ||
        (parent != NULL && !certifiable(s, parent_view, HM_SIMPLEX_NOTARIZE, &b->parent)))
        sim_fail(s, "a block stands on a certified one", "node %u, view %llu on %llu", nd->number,
                 (unsigned long long)view, (unsigned long long)parent_view);
    for (uint64_t n = parent_view + 1; n < view; n++)
        if (!certifiable(s, n, HM_SIMPLEX_NULLIFY, &none))
            sim_fail(s, "views between block and parent are nullified", "node %u, view %llu: %llu",
                     nd->number, (unsigned long long)view, (unsigned long long)n);
}

void sim_check_durable(sim *s, sim_node *nd, hm_bytes record)
{
    hm_rd r = hm_rd_of(record);
    hm_hash id;
    (void)hm_rd_u64(&r);
    uint64_t view = hm_rd_u64(&r);
    uint8_t kind = hm_rd_enum(&r, HM_SIMPLEX_FINALIZE);
    hm_rd_copy(&r, id.b, HM_HASH_BYTES);
    (void)hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    (void)hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    learn_block(s, hm_rd_bytes(&r, HM_SIMPLEX_BLOCK_MAX));
    sim_signed_view *v = signed_in(s, nd->index, view);
    // In the order in which they were cast; a restart may send them in another.
    if (kind == HM_SIMPLEX_NOTARIZE && !v->durable[kind] && v->durable[HM_SIMPLEX_NULLIFY])
        sim_fail(s, "never notarize after nullify", "node %u, view %llu", nd->number,
                 (unsigned long long)view);
    bool first = !v->durable[kind];
    v->durable_id[kind] = id;
    v->durable[kind] = true;
    if (!hm_rd_ok(&r) || kind == 0)
        sim_fail(s, "the log holds votes", "node %u", nd->number);
    else if (first)
        check_basis(s, nd, view, (hm_simplex_kind)kind, &id);
}

static void sent(sim *s, sim_node *nd, uint64_t view, hm_simplex_kind kind, const hm_hash *id)
{
    sim_signed_view *v = signed_in(s, nd->index, view);
    unsigned long long n = view;
    if (!v->durable[kind] || !hm_hash_eq(&v->durable_id[kind], id))
        sim_fail(s, "votes are durable before they are sent", "node %u, view %llu, kind %d",
                 nd->number, n, (int)kind);
    if (v->has[kind] && !hm_hash_eq(&v->id[kind], id))
        sim_fail(s, "one vote of a kind in a view", "node %u, view %llu, kind %d", nd->number, n,
                 (int)kind);
    bool first = !v->has[kind];
    v->has[kind] = true;
    v->id[kind] = *id;
    if (!first)
        return;
    if (v->has[HM_SIMPLEX_FINALIZE] && v->has[HM_SIMPLEX_NULLIFY])
        sim_fail(s, "never finalize and nullify", "node %u, view %llu", nd->number, n);
}

void sim_check_sent(sim *s, sim_node *nd, hm_bytes message)
{
    hm_rd r = hm_rd_of(message);
    uint8_t type = hm_rd_u8(&r);
    if (type == MSG_VOTE) {
        hm_hash id;
        hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(&r);
        uint64_t view = hm_rd_u64(&r);
        hm_rd_copy(&r, id.b, HM_HASH_BYTES);
        sent(s, nd, view, kind, &id);
    } else if (type == MSG_PROPOSAL) {
        hm_simplex_block_info info;
        (void)hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
        hm_bytes block = hm_rd_bytes(&r, HM_SIMPLEX_BLOCK_MAX);
        if (s->ledger->block_info(s, block, &info) != HM_OK)
            sim_fail(s, "an honest node sends whole blocks", "node %u", nd->number);
        else if (hm_hash_eq(&info.proposer, &s->validators[nd->index].id))
            sent(s, nd, info.view, HM_SIMPLEX_PROPOSE, &info.id);
    }
}

// ---- finality -----------------------------------------------------------------------------------

void sim_check_final(sim *s, sim_node *nd, const hm_simplex_action *a, const hm_hash *state)
{
    unsigned long long h = a->height;
    if (a->height != nd->told.height + 1)
        sim_fail(s, "each height is final once and in order", "node %u: %llu after %llu",
                 nd->number, h, (unsigned long long)nd->told.height);
    if (a->view <= nd->told.view && a->height > 1)
        sim_fail(s, "views grow with height", "node %u, height %llu", nd->number, h);
    if (hm_simplex_cert_verify(&s->set, &a->id, a->view, a->cert, NULL) != HM_OK)
        sim_fail(s, "a final block has a certificate", "node %u, height %llu: %s", nd->number, h,
                 hm_err_detail());
    nd->told = (sim_tip){a->height, a->view, a->id};
    if (a->height <= s->final_count) {
        const sim_final *f = &s->finals[a->height - 1];
        if (!hm_hash_eq(&f->id, &a->id))
            sim_fail(s, "one final block at a height", "node %u, height %llu", nd->number, h);
        else if (!hm_hash_eq(&f->state, state))
            sim_fail(s, "one state at a height", "node %u, height %llu", nd->number, h);
        return;
    }
    if (s->final_count == s->final_cap) {
        s->final_cap = s->final_cap == 0 ? 64 : 2 * s->final_cap;
        s->finals = realloc(s->finals, s->final_cap * sizeof *s->finals);
        hm_assert(s->finals != NULL);
    }
    s->finals[s->final_count++] = (sim_final){a->id, *state};
}

void sim_check_started(sim *s, sim_node *nd)
{
    sim_tip tip = s->ledger->tip(nd);
    if (tip.height != nd->told.height || (tip.height > 0 && !hm_hash_eq(&tip.id, &nd->told.id)))
        sim_fail(s, "what was final is final after a restart", "node %u: %llu, was %llu",
                 nd->number, (unsigned long long)tip.height, (unsigned long long)nd->told.height);
}

// ---- bounds -------------------------------------------------------------------------------------

void sim_check_core(sim *s, sim_node *nd)
{
    const hm_simplex *c = nd->core;
    hm_simplex_status st;
    if (c == NULL)
        return;
    hm_simplex_get_status(c, &st);
    // Some behind what was given, and some ahead of the view or of the own votes in the log.
    uint64_t top = (c->view > nd->restored ? c->view : nd->restored) + HM_SIMPLEX_VIEWS_AHEAD;
    if (c->views.count > top - nd->given_before + HM_SIMPLEX_VIEWS_BEHIND ||
        c->by_block.count > c->views.count || c->high > top)
        sim_fail(s, "what is held is bounded", "node %u holds %zu views to %llu, %zu blocks",
                 nd->number, c->views.count, (unsigned long long)c->high, c->by_block.count);
    // Far behind, little is held of what others do meanwhile; what was given goes at the next
    // input.
    uint64_t fetched = c->cursor_height > c->tip_height ? c->cursor_height - c->tip_height : 0;
    if (nd->far_behind && sx_far_behind(c) &&
        c->by_block.count > fetched + 2 * HM_SIMPLEX_FETCH_MAX + 2 * HM_SIMPLEX_VIEWS_AHEAD)
        sim_fail(s, "what a node far behind holds is bounded", "node %u holds %zu blocks",
                 nd->number, c->by_block.count);
    nd->far_behind = sx_far_behind(c);
    if (st.view <= st.final_view)
        sim_fail(s, "the view is past the final one", "node %u", nd->number);
    if (st.view > s->r.views)
        s->r.views = st.view;
}

// ---- evidence -----------------------------------------------------------------------------------

static sim_seen *seen(sim_node *nd, uint32_t signer, uint64_t view)
{
    return &nd->seen[signer * SIM_SEEN_VIEWS + view % SIM_SEEN_VIEWS];
}

static bool signature_ok(sim *s, uint32_t signer, uint64_t view, hm_simplex_kind kind,
                         const hm_hash *id, hm_bytes sig)
{
    return sx_verify(&s->set, signer, view, kind, id, sig) == HM_OK;
}

static void guilty(sim *s, sim_node *nd, sim_seen *x, uint32_t signer)
{
    if (x->guilty)
        return;
    x->guilty = true;
    s->r.equivocations++;
    sim_event *e = sim_at(s, s->now + SIM_EVIDENCE_US, SIM_EVIDENCE_DUE, nd->number);
    e->from = signer;
    e->a = x->view;
}

// A good signature of a liar has come to a node that still keeps that view.
static void saw(sim *s, sim_node *nd, uint64_t view, hm_simplex_kind kind, uint32_t signer,
                const hm_hash *id)
{
    const hm_simplex *c = nd->core;
    sim_seen *x = seen(nd, signer, view);
    if (view == 0 || view > c->view + HM_SIMPLEX_VIEWS_AHEAD || sx_find(c, view) == NULL ||
        (view > c->tip_view && view <= c->thinned))
        return;
    if (x->view != view)
        *x = (sim_seen){.view = view};
    if (x->has[kind] && !hm_hash_eq(&x->id[kind], id))
        guilty(s, nd, x, signer);
    x->has[kind] = true;
    x->id[kind] = *id;
    if (x->has[HM_SIMPLEX_NULLIFY] && x->has[HM_SIMPLEX_FINALIZE])
        guilty(s, nd, x, signer);
}

static void saw_vote(sim *s, sim_node *nd, uint32_t from, hm_rd *r)
{
    hm_hash id;
    hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(r);
    uint64_t view = hm_rd_u64(r);
    hm_rd_copy(r, id.b, HM_HASH_BYTES);
    hm_bytes sig = hm_rd_bytes(r, HM_FALCON_SIGNATURE_MAX);
    uint32_t leader = hm_simplex_leader(&s->set, &s->seed, view);
    if (kind == HM_SIMPLEX_NOTARIZE && !sim_honest(s, leader))
        saw(s, nd, view, HM_SIMPLEX_PROPOSE, leader, &id); // the core took its signature
    if (!sim_honest(s, from) && signature_ok(s, from, view, kind, &id, sig))
        saw(s, nd, view, kind, from, &id);
}

static void saw_proposal(sim *s, sim_node *nd, hm_rd *r)
{
    hm_simplex_block_info info;
    hm_bytes sig = hm_rd_bytes(r, HM_FALCON_SIGNATURE_MAX);
    hm_bytes block = hm_rd_bytes(r, HM_SIMPLEX_BLOCK_MAX);
    if (s->ledger->block_info(s, block, &info) != HM_OK)
        return;
    uint32_t leader = hm_simplex_leader(&s->set, &s->seed, info.view);
    if (!sim_honest(s, leader) &&
        signature_ok(s, leader, info.view, HM_SIMPLEX_PROPOSE, &info.id, sig))
        saw(s, nd, info.view, HM_SIMPLEX_PROPOSE, leader, &info.id);
}

static void saw_cert(sim *s, sim_node *nd, hm_rd *r)
{
    hm_hash id;
    hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(r);
    uint64_t view = hm_rd_u64(r);
    hm_rd_copy(r, id.b, HM_HASH_BYTES);
    uint32_t count = hm_rd_u32(r);
    uint32_t liars[SIM_VALIDATORS_MAX], found = 0;
    for (uint32_t i = 0; i < count && hm_rd_ok(r); i++) {
        uint32_t signer = hm_rd_u32(r);
        hm_bytes sig = hm_rd_bytes(r, HM_FALCON_SIGNATURE_MAX);
        // One bad signature makes the whole certificate worthless, and the core may stop there.
        if (signer >= s->p.n || !signature_ok(s, signer, view, kind, &id, sig))
            return;
        if (!sim_honest(s, signer))
            liars[found++] = signer;
    }
    while (hm_rd_ok(r) && found > 0)
        saw(s, nd, view, kind, liars[--found], &id);
}

void sim_check_delivered(sim *s, sim_node *nd, const sim_event *e, hm_err err)
{
    if (err != HM_OK) {
        s->r.refused++;
        if (e->honest)
            sim_fail(s, "what an honest node sends is not refused", "node %u, from %u: %s: %s",
                     nd->number, e->from, hm_err_text(err), hm_err_detail());
        return;
    }
    hm_rd r = hm_rd_of(sim_blob_bytes(e->blob));
    switch (hm_rd_u8(&r)) {
    case MSG_PROPOSAL:
        saw_proposal(s, nd, &r);
        break;
    case MSG_VOTE:
        saw_vote(s, nd, e->from, &r);
        break;
    case MSG_CERT:
        saw_cert(s, nd, &r);
        break;
    default:
        break;
    }
}

void sim_check_evidence(sim *s, sim_node *nd, const hm_simplex_action *a)
{
    uint32_t offender = UINT32_MAX;
    sim_note(s, "evidence", nd->number, a->peer, 0, 0, NULL);
    s->r.evidence++;
    if (hm_simplex_evidence_verify(&s->set, a->bytes, &offender) != HM_OK || offender != a->peer) {
        sim_fail(s, "evidence holds", "node %u: %s", nd->number, hm_err_detail());
        return;
    }
    if (sim_honest(s, offender))
        sim_fail(s, "no evidence against the honest", "node %u accuses %u", nd->number, offender);
    hm_rd r = hm_rd_of(a->bytes);
    (void)hm_rd_u64(&r);
    (void)hm_rd_u32(&r);
    uint64_t view = hm_rd_u64(&r);
    sim_seen *x = seen(nd, offender, view);
    if (x->view != view)
        *x = (sim_seen){.view = view};
    x->accused = true;
    hm_buf op = {0};
    if (s->ledger->evidence != NULL && s->ledger->evidence(s, nd, a->bytes, &op)) {
        s->accused |= s->chaos ? 0 : 1u << offender;
        sim_node_submit(s, nd, hm_buf_bytes(&op));
    }
    hm_buf_free(&op);
}

void sim_check_evidence_due(sim *s, sim_node *nd, const sim_event *e)
{
    const sim_seen *x = seen(nd, e->from, e->a);
    if (x->view == e->a && x->guilty && !x->accused)
        sim_fail(s, "a contradiction is told within a second", "node %u, of %u in view %llu",
                 nd->number, e->from, (unsigned long long)e->a);
}

// ---- for people ---------------------------------------------------------------------------------

static void print_view(const hm_simplex *c, const sx_view *v, FILE *out)
{
    static const char *const states[] = {"unchecked", "asked", "valid", "invalid"};
    fprintf(out, "    view %llu leader %u", (unsigned long long)v->view, v->leader);
    if (sx_has(&v->prop))
        fprintf(out, "  proposed %02x%02x", v->prop.id.b[0], v->prop.id.b[1]);
    if (v->block.len > 0)
        fprintf(out, "  block %02x%02x on %02x%02x height %llu %s", v->info.id.b[0],
                v->info.id.b[1], v->info.parent.b[0], v->info.parent.b[1],
                (unsigned long long)v->info.height, states[v->state]);
    for (int k = 0; k < SX_KINDS; k++) {
        uint32_t votes = 0;
        for (uint32_t i = 0; i < c->set.count; i++)
            votes |= (uint32_t)sx_has(&v->votes[k][i]) << i;
        if (votes != 0 || sx_certified(v, k))
            fprintf(out, "  %s%s%s by %x", (const char *[]){"notarize", "nullify", "finalize"}[k],
                    sx_has(sx_own(c, v, k)) ? "+" : "", sx_certified(v, k) ? " CERT" : "", votes);
    }
    fprintf(out, "\n");
}

void sim_print_cores(const sim *s, FILE *out)
{
    for (uint32_t i = 0; i < s->node_count; i++) {
        const sim_node *nd = &s->nodes[i];
        const hm_simplex *c = nd->core;
        fprintf(out, "node %u: validator %u%s%s", i, nd->index, nd->byz != 0 ? ", lies" : "",
                c == NULL ? ", down\n" : "");
        if (c == NULL)
            continue;
        fprintf(out,
                ", view %llu, tip %llu in view %llu (%02x%02x), finalized view %llu, certified "
                "view %llu",
                (unsigned long long)c->view, (unsigned long long)c->tip_height,
                (unsigned long long)c->tip_view, c->tip_id.b[0], c->tip_id.b[1],
                (unsigned long long)c->finalized_view, (unsigned long long)c->certified_view);
        fprintf(out, ", delta %llu us, fetching %d from %u to %llu, cursor %llu, target %llu\n",
                (unsigned long long)c->delta_us, c->fetching, c->fetch_peer,
                (unsigned long long)c->fetch_to, (unsigned long long)c->cursor_height,
                (unsigned long long)c->target_height);
        if (nd->byz != 0)
            continue;
        int shown = 0;
        for (uint64_t n = c->tip_view; n <= c->high && shown < 40; n++) {
            const sx_view *v = sx_find(c, n);
            if (v == NULL || (shown >= 12 && n + 20 < c->view))
                continue;
            print_view(c, v, out);
            shown++;
        }
    }
}
