// Those who lie. Each runs the real core, so that it knows what matters now, and spoils what comes
// out of it; what it can sign is only its own.
#include "sim_internal.h"

static void post(sim *s, sim_node *nd, uint32_t to, hm_buf *message)
{
    sim_blob *b = sim_blob_new(hm_buf_bytes(message));
    sim_note(s, "lie", nd->number, to, b->len > 0 ? b->b[0] : 0, b->len, NULL);
    sim_net_send(s, nd, to, SIM_MESSAGE, b, false);
    sim_blob_unref(b);
    hm_buf_free(message);
}

static hm_hash random_hash(sim *s)
{
    hm_hash h;
    const hm_random r = hm_random_prng(&s->rng);
    hm_random_fill(&r, h.b, sizeof h.b);
    return h;
}

static bool does(sim *s, const sim_node *nd, uint32_t how, uint32_t ppm)
{
    return (nd->byz & how) != 0 && sim_chance(s, ppm);
}

// ---- spoiling bytes -----------------------------------------------------------------------------

static void mutate(sim *s, hm_buf *m)
{
    switch (sim_between(s, 0, 3)) {
    case 0:
        m->len = (size_t)sim_between(s, 0, m->len);
        break;
    case 1:
        for (uint64_t n = sim_between(s, 1, 40); n > 0; n--)
            hm_wr_u8(m, (uint8_t)hm_prng_next(&s->rng));
        break;
    default:
        for (uint64_t n = sim_between(s, 1, 4); n > 0 && m->len > 0; n--)
            m->ptr[sim_between(s, 0, m->len - 1)] ^= (uint8_t)(1u << sim_between(s, 0, 7));
        break;
    }
}

// ---- votes --------------------------------------------------------------------------------------

static void write_vote(sim *s, const sim_node *nd, uint64_t view, hm_simplex_kind kind,
                       const hm_hash *id, hm_bytes prop, hm_buf *out)
{
    hm_buf sig = {0};
    static const hm_hash zero;
    const hm_hash *what = kind == HM_SIMPLEX_NULLIFY ? &zero : id;
    sim_sign(s, nd->index, view, kind, what, &sig);
    hm_wr_u8(out, MSG_VOTE);
    hm_wr_u8(out, (uint8_t)kind);
    hm_wr_u64(out, view);
    hm_wr_raw(out, what->b, HM_HASH_BYTES);
    hm_wr_bytes(out, hm_buf_bytes(&sig));
    hm_buf_free(&sig);
    if (kind != HM_SIMPLEX_NOTARIZE)
        return;
    // A leader signs anything; others can only show what the leader signed.
    if (hm_simplex_leader(&s->set, &s->seed, view) == nd->index)
        sim_sign(s, nd->index, view, HM_SIMPLEX_PROPOSE, what, &sig);
    else
        hm_buf_put(&sig, prop);
    hm_wr_bytes(out, hm_buf_bytes(&sig));
    hm_buf_free(&sig);
}

// The opposite of a vote, to those on the other side.
static void contradict(sim *s, sim_node *nd, uint32_t to, hm_bytes message)
{
    hm_rd r = hm_rd_of(message);
    hm_hash id;
    hm_buf m = {0};
    (void)hm_rd_u8(&r);
    hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(&r);
    uint64_t view = hm_rd_u64(&r);
    hm_rd_copy(&r, id.b, sizeof id.b);
    (void)hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    hm_bytes prop =
        kind == HM_SIMPLEX_NOTARIZE ? hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX) : (hm_bytes){0};
    hm_hash other = random_hash(s);
    if (kind == HM_SIMPLEX_NULLIFY)
        kind = HM_SIMPLEX_FINALIZE;
    else if (kind == HM_SIMPLEX_FINALIZE && sim_chance(s, 500000))
        kind = HM_SIMPLEX_NULLIFY;
    write_vote(s, nd, view, kind, &other, prop, &m);
    post(s, nd, to, &m);
}

// A vote of any view near by, for anything.
static void stray_vote(sim *s, sim_node *nd, uint32_t to)
{
    hm_buf m = {0};
    hm_hash id = random_hash(s);
    uint64_t now = nd->core->view, view = sim_between(s, now > 20 ? now - 20 : 1, now + 20);
    const sx_view *v = sx_find(nd->core, view);
    if (v != NULL && v->block.len > 0 && sim_chance(s, 700000))
        id = v->info.id;
    hm_bytes prop =
        v != NULL && sx_has(&v->prop) ? hm_bytes_of(v->prop.sig, v->prop.len) : (hm_bytes){0};
    write_vote(s, nd, view, (hm_simplex_kind)sim_between(s, 2, 4), &id, prop, &m);
    post(s, nd, to, &m);
}

// ---- certificates -------------------------------------------------------------------------------

// Of a view near by, with good signatures where there are some and worthless ones for the rest.
static void forge(sim *s, sim_node *nd, uint32_t to)
{
    uint64_t now = nd->core->view;
    uint64_t view =
        sim_between(s, now > 10 ? now - 10 : 1, now + (sim_chance(s, 100000) ? 5000 : 3));
    hm_simplex_kind kind = (hm_simplex_kind)sim_between(s, 2, 4);
    const sx_view *v = sx_find(nd->core, view);
    hm_hash id = kind == HM_SIMPLEX_NULLIFY      ? (hm_hash){0}
                 : v != NULL && v->block.len > 0 ? v->info.id
                                                 : random_hash(s);
    uint32_t count = (uint32_t)sim_between(s, 1, s->p.n);
    if (sim_chance(s, 700000))
        count = s->p.n;
    hm_buf m = {0};
    hm_wr_u8(&m, MSG_CERT);
    hm_wr_u8(&m, (uint8_t)kind);
    hm_wr_u64(&m, view);
    hm_wr_raw(&m, id.b, HM_HASH_BYTES);
    hm_wr_u32(&m, count);
    for (uint32_t i = 0; i < count; i++) {
        const sx_vote *vote = v == NULL ? NULL : &v->votes[kind - HM_SIMPLEX_NOTARIZE][i];
        hm_buf sig = {0};
        if (i == nd->index)
            sim_sign(s, i, view, kind, &id, &sig);
        else if (vote != NULL && sx_has(vote) && hm_hash_eq(&vote->id, &id))
            hm_buf_put(&sig, hm_bytes_of(vote->sig, vote->len));
        else
            hm_wr_u64(&sig, hm_prng_next(&s->rng));
        hm_wr_u32(&m, i);
        hm_wr_bytes(&m, hm_buf_bytes(&sig));
        hm_buf_free(&sig);
    }
    post(s, nd, to, &m);
}

// ---- status, requests ---------------------------------------------------------------------------

static uint64_t any_number(sim *s, uint64_t near)
{
    switch (sim_between(s, 0, 3)) {
    case 0:
        return hm_prng_next(&s->rng);
    case 1:
        return sim_between(s, 0, near);
    default:
        return near + sim_between(s, 0, 100);
    }
}

static void false_status(sim *s, sim_node *nd, uint32_t to)
{
    const hm_simplex *c = nd->core;
    uint64_t height = any_number(s, c->tip_height), final_view = height, gap, view;
    if (sim_chance(s, 500000))
        final_view = any_number(s, c->tip_view);
    gap = sim_chance(s, 500000) ? final_view + 1 : any_number(s, c->view);
    view = sim_chance(s, 500000) ? gap : any_number(s, c->view);
    hm_buf m = {0};
    hm_wr_u8(&m, MSG_STATUS);
    hm_wr_u64(&m, view);
    hm_wr_u64(&m, gap);
    hm_wr_u64(&m, height);
    hm_wr_u64(&m, final_view);
    hm_wr_bool(&m, sim_chance(s, 500000));
    post(s, nd, to, &m);
}

static void stray_get(sim *s, sim_node *nd, uint32_t to)
{
    uint64_t view = any_number(s, nd->core->view);
    const sx_view *v = sx_find(nd->core, view);
    hm_hash id = sim_chance(s, 300000)           ? (hm_hash){0}
                 : v != NULL && v->block.len > 0 ? v->info.id
                                                 : random_hash(s);
    hm_buf m = {0};
    hm_wr_u8(&m, MSG_GET);
    hm_wr_u64(&m, view);
    hm_wr_raw(&m, id.b, HM_HASH_BYTES);
    post(s, nd, to, &m);
}

// ---- blocks -------------------------------------------------------------------------------------

static void write_proposal(sim *s, const sim_node *nd, uint64_t view, hm_bytes block,
                           const hm_hash *id, hm_buf *out)
{
    hm_buf sig = {0};
    sim_sign(s, nd->index, view, HM_SIMPLEX_PROPOSE, id, &sig);
    hm_wr_u8(out, MSG_PROPOSAL);
    hm_wr_bytes(out, hm_buf_bytes(&sig));
    hm_wr_bytes(out, block);
    hm_buf_free(&sig);
}

// Its own proposal with something else in the header; false when the message is another's.
static bool false_proposal(sim *s, sim_node *nd, uint32_t to, hm_bytes message)
{
    hm_rd r = hm_rd_of(message);
    hm_simplex_block_info info;
    hm_buf block = {0}, m = {0};
    (void)hm_rd_u8(&r);
    (void)hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
    hm_buf_put(&block, hm_rd_bytes(&r, HM_SIMPLEX_BLOCK_MAX));
    bool own = s->ledger->block_info(s, hm_buf_bytes(&block), &info) == HM_OK &&
               hm_hash_eq(&info.proposer, &s->validators[nd->index].id);
    if (own) {
        s->ledger->tamper(s, &block);
        sim_must(s->ledger->block_info(s, hm_buf_bytes(&block), &info), "tampered block");
        write_proposal(s, nd, info.view, hm_buf_bytes(&block), &info.id, &m);
        post(s, nd, to, &m);
    }
    hm_buf_free(&block);
    return own;
}

static void send_blocks(sim *s, sim_node *nd, uint32_t to, hm_buf *blocks)
{
    sim_blob *b = sim_blob_new(hm_buf_bytes(blocks));
    sim_note(s, "lie-blocks", nd->number, to, b->len, 0, NULL);
    sim_net_send(s, nd, to, SIM_BLOCKS, b, false);
    sim_blob_unref(b);
    hm_buf_free(blocks);
}

void sim_byz_blocks(sim *s, sim_node *nd, uint32_t to, uint64_t from, uint64_t last)
{
    hm_buf out = {0};
    hm_bytes block, cert;
    bool lies = does(s, nd, SIM_BYZ_JUNK_BLOCKS, 700000);
    if ((nd->byz & SIM_BYZ_SILENT) != 0 || does(s, nd, SIM_BYZ_WITHHOLD, 500000))
        return;
    for (uint64_t h = from; h <= last && s->ledger->block_at(nd, h, &block, &cert); h++) {
        hm_buf b = {0}, c = {0};
        hm_buf_put(&b, block);
        hm_buf_put(&c, cert);
        if (lies && sim_chance(s, 200000))
            mutate(s, sim_chance(s, 500000) ? &b : &c);
        if (!lies || sim_chance(s, 900000)) {
            hm_wr_bytes(&out, hm_buf_bytes(&b));
            hm_wr_bytes(&out, hm_buf_bytes(&c));
        }
        hm_buf_free(&b);
        hm_buf_free(&c);
    }
    send_blocks(s, nd, to, &out);
}

// What nobody asked for: the next block of the receiver, or of this node, without a good
// certificate.
static void junk_blocks(sim *s, sim_node *nd, uint32_t to)
{
    const sim_node *at = &s->nodes[to];
    hm_buf out = {0}, b = {0}, c = {0};
    hm_bytes block, cert;
    sim_tip tip = at->up ? s->ledger->tip(at) : s->ledger->tip(nd);
    uint64_t cursor = at->up ? at->core->cursor_height : tip.height;
    if (s->ledger->block_at(nd, sim_chance(s, 500000) ? cursor + 1 : tip.height, &block, &cert)) {
        hm_buf_put(&b, block);
        hm_buf_put(&c, cert);
        if (sim_chance(s, 500000))
            mutate(s, &c);
        else
            s->ledger->tamper(s, &b);
    } else {
        for (uint64_t n = sim_between(s, 1, 300); n > 0; n--)
            hm_wr_u8(&b, (uint8_t)hm_prng_next(&s->rng));
    }
    hm_wr_bytes(&out, hm_buf_bytes(&b));
    hm_wr_bytes(&out, hm_buf_bytes(&c));
    hm_buf_free(&b);
    hm_buf_free(&c);
    send_blocks(s, nd, to, &out);
}

// ---- what the core says -------------------------------------------------------------------------

// Which kinds of messages somebody does not get changes with the weather.
static bool withheld(const sim *s, const sim_node *nd, uint32_t to, uint8_t type)
{
    uint64_t key[2] = {s->side, nd->index}, what = (uint64_t)to << 8 | type;
    return hm_siphash(key, &what, sizeof what) % 3 == 0;
}

void sim_byz_send(sim *s, sim_node *nd, uint32_t to, hm_bytes message)
{
    uint8_t type = message.ptr[0];
    if ((nd->byz & SIM_BYZ_SILENT) != 0)
        return;
    if ((nd->byz & SIM_BYZ_TWINS) != 0 && sim_honest(s, to) &&
        (s->side >> to & 1) != (uint32_t)nd->sides && !sim_chance(s, 50000))
        return;
    if ((nd->byz & SIM_BYZ_WITHHOLD) != 0 && withheld(s, nd, to, type))
        return;
    if (type == MSG_VOTE && does(s, nd, SIM_BYZ_CONTRADICT, 300000)) {
        contradict(s, nd, to, message);
        if (sim_chance(s, 500000))
            return;
    }
    if (type == MSG_STATUS && does(s, nd, SIM_BYZ_STATUS, 500000)) {
        false_status(s, nd, to);
        return;
    }
    if (type == MSG_PROPOSAL && does(s, nd, SIM_BYZ_BAD_BLOCKS, 400000) &&
        false_proposal(s, nd, to, message) && sim_chance(s, 700000))
        return;
    hm_buf m = {0};
    hm_buf_put(&m, message);
    if (does(s, nd, SIM_BYZ_MUTATE, 150000)) {
        mutate(s, &m);
        post(s, nd, to, &m);
        return;
    }
    sim_blob *b = sim_blob_new(hm_buf_bytes(&m));
    sim_net_send(s, nd, to, SIM_MESSAGE, b, false);
    sim_blob_unref(b);
    hm_buf_free(&m);
}

void sim_byz_block(sim *s, sim_node *nd, hm_buf *block)
{
    if (does(s, nd, SIM_BYZ_BAD_BLOCKS, 300000))
        s->ledger->spoil(s, block);
}

// ---- of its own accord --------------------------------------------------------------------------

static void replay(sim *s, sim_node *nd, uint32_t to)
{
    const sim_blob *b = s->recent[sim_between(s, 0, SIM_RECENT - 1)];
    hm_buf m = {0};
    if (b == NULL)
        return;
    hm_buf_put(&m, sim_blob_bytes(b));
    if (does(s, nd, SIM_BYZ_MUTATE, 300000))
        mutate(s, &m);
    post(s, nd, to, &m);
}

void sim_byz_lie(sim *s, sim_node *nd)
{
    sim_at(s, s->now + sim_around(s, 2 * s->p.delay_us + 2000), SIM_LIE, nd->number);
    if (!nd->up)
        return;
    if (does(s, nd, SIM_BYZ_AMNESIA, 30000)) {
        sim_node_crash(s, nd, sim_around(s, 50000));
        return;
    }
    uint32_t to = (uint32_t)sim_between(s, 0, s->p.n - 1);
    if (to == nd->index)
        return;
    uint32_t how = nd->byz & (1u << sim_between(s, 0, SIM_BYZ_KINDS - 1));
    if (how == SIM_BYZ_CONTRADICT)
        stray_vote(s, nd, to);
    else if (how == SIM_BYZ_REPLAY)
        replay(s, nd, to);
    else if (how == SIM_BYZ_STATUS)
        false_status(s, nd, to);
    else if (how == SIM_BYZ_WITHHOLD)
        stray_get(s, nd, to);
    else if (how == SIM_BYZ_JUNK_BLOCKS)
        junk_blocks(s, nd, to);
    else if (how == SIM_BYZ_FORGE)
        forge(s, nd, to);
}
