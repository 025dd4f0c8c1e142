// A ledger small enough for hundreds of thousands of blocks: accounts that pay each other, in
// memory. Committed blocks survive a crash, executed ones do not.
//
//   block  parent, u64 height, u64 view, proposer, SHA-256 of the operations, SHA-256 of the state
//          after them; then a list of operations (u8 account, u64 nonce). The id is SHA-256 of the
//          header, which is all before the list.
#include "sim_internal.h"

#define ACCOUNTS 8u
#define MONEY 1000u // of each account at first
#define HEADER (4 * HM_HASH_BYTES + 16)
#define OPS_MAX 64u
#define AHEAD 6u // operations of an account in flight

typedef struct state {
    uint64_t balance[ACCOUNTS], nonce[ACCOUNTS];
} state;

typedef struct executed {
    hm_hash id;
    uint64_t height;
    state after;
} executed;

typedef struct committed {
    sim_blob *block, *cert;
} committed;

typedef struct light {
    sim_tip tip;
    state now;
    committed *blocks; // [height - 1]
    size_t cap;
    executed *views; // that are not final
    size_t view_count, view_cap;
} light;

static hm_hash state_hash(const state *st)
{
    return hm_sha256(hm_bytes_of(st, sizeof *st));
}

static void genesis(state *st)
{
    *st = (state){0};
    for (uint32_t a = 0; a < ACCOUNTS; a++)
        st->balance[a] = MONEY;
}

// An operation is its account and number; what it pays to whom follows from them.
static bool apply(state *st, uint8_t account, uint64_t nonce)
{
    if (account >= ACCOUNTS || nonce != st->nonce[account] + 1)
        return false;
    uint64_t to = (account + 1 + nonce % (ACCOUNTS - 1)) % ACCOUNTS, sum = nonce * 37 % 100;
    st->nonce[account] = nonce;
    if (sum > st->balance[account])
        sum = st->balance[account];
    st->balance[account] -= sum;
    st->balance[to] += sum;
    return true;
}

// ---- life ---------------------------------------------------------------------------------------

static void light_open(sim *s, sim_node *nd)
{
    light *l = nd->ledger;
    if (l != NULL)
        return;
    nd->ledger = l = calloc(1, sizeof *l);
    hm_assert(l != NULL);
    l->tip.id = s->set.chain_id;
    genesis(&l->now);
}

static void light_close(sim *s, sim_node *nd)
{
    (void)s;
    light *l = nd->ledger;
    l->view_count = 0;
}

static void light_free(sim *s, sim_node *nd)
{
    (void)s;
    light *l = nd->ledger;
    if (l == NULL)
        return;
    for (uint64_t h = 0; h < l->tip.height; h++) {
        sim_blob_unref(l->blocks[h].block);
        sim_blob_unref(l->blocks[h].cert);
    }
    free(l->blocks);
    free(l->views);
    free(l);
}

static sim_tip light_tip(const sim_node *nd)
{
    const light *l = nd->ledger;
    return l->tip;
}

// ---- blocks -------------------------------------------------------------------------------------

typedef struct parsed {
    hm_simplex_block_info info;
    hm_hash state;
    hm_rd ops; // after their count
    uint32_t count;
} parsed;

static hm_err parse(hm_bytes block, parsed *out)
{
    hm_rd r = hm_rd_of(block);
    hm_hash ops_hash;
    hm_rd_copy(&r, out->info.parent.b, HM_HASH_BYTES);
    out->info.height = hm_rd_u64(&r);
    out->info.view = hm_rd_u64(&r);
    hm_rd_copy(&r, out->info.proposer.b, HM_HASH_BYTES);
    hm_rd_copy(&r, ops_hash.b, HM_HASH_BYTES);
    hm_rd_copy(&r, out->state.b, HM_HASH_BYTES);
    hm_hash have = hm_sha256(hm_bytes_of(r.ptr, r.left));
    out->count = hm_rd_count(&r, OPS_MAX, 9);
    out->ops = r;
    (void)hm_rd_raw(&r, (size_t)out->count * 9);
    HM_TRY(hm_rd_end(&r));
    if (!hm_hash_eq(&have, &ops_hash))
        return hm_fail(HM_E_BLOCK, "other operations than the header says");
    out->info.id = hm_sha256(hm_bytes_of(block.ptr, HEADER));
    return HM_OK;
}

static hm_err light_block_info(void *ctx, hm_bytes block, hm_simplex_block_info *out)
{
    (void)ctx;
    parsed p;
    HM_TRY(parse(block, &p));
    *out = p.info;
    return HM_OK;
}

static const state *state_after(const light *l, const hm_hash *id, uint64_t *height)
{
    if (hm_hash_eq(&l->tip.id, id)) {
        *height = l->tip.height;
        return &l->now;
    }
    for (size_t i = 0; i < l->view_count; i++)
        if (hm_hash_eq(&l->views[i].id, id)) {
            *height = l->views[i].height;
            return &l->views[i].after;
        }
    return NULL;
}

static void keep(light *l, const hm_hash *id, uint64_t height, const state *after)
{
    uint64_t have;
    if (state_after(l, id, &have) != NULL)
        return;
    if (l->view_count == l->view_cap) {
        l->view_cap = l->view_cap == 0 ? 16 : 2 * l->view_cap;
        l->views = realloc(l->views, l->view_cap * sizeof *l->views);
        hm_assert(l->views != NULL);
    }
    l->views[l->view_count++] = (executed){*id, height, *after};
}

static hm_err light_build(sim *s, sim_node *nd, const hm_hash *parent, uint64_t view, hm_buf *out)
{
    light *l = nd->ledger;
    uint64_t height;
    const state *before = state_after(l, parent, &height);
    if (before == NULL)
        return hm_fail(HM_E_NOTFOUND, "no state to build on");
    state after = *before;
    hm_buf ops = {0};
    uint32_t count = 0;
    hm_wr_u32(&ops, 0);
    // Twice, since they may have come in another order than that of their numbers.
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < nd->pool_count && count < OPS_MAX; i++) {
            hm_rd r = hm_rd_of(sim_blob_bytes(nd->pool[i]));
            uint8_t account = hm_rd_u8(&r);
            if (!apply(&after, account, hm_rd_u64(&r)))
                continue;
            hm_buf_put(&ops, sim_blob_bytes(nd->pool[i]));
            count++;
        }
    ops.ptr[3] = (uint8_t)count;
    hm_hash ops_hash = hm_sha256(hm_buf_bytes(&ops)), st = state_hash(&after);
    hm_wr_raw(out, parent->b, HM_HASH_BYTES);
    hm_wr_u64(out, height + 1);
    hm_wr_u64(out, view);
    hm_wr_raw(out, s->validators[nd->index].id.b, HM_HASH_BYTES);
    hm_wr_raw(out, ops_hash.b, HM_HASH_BYTES);
    hm_wr_raw(out, st.b, HM_HASH_BYTES);
    hm_buf_put(out, hm_buf_bytes(&ops));
    hm_buf_free(&ops);
    hm_hash id = hm_sha256(hm_bytes_of(out->ptr, HEADER));
    keep(l, &id, height + 1, &after);
    return HM_OK;
}

static hm_err light_execute(sim *s, sim_node *nd, const hm_hash *id, const hm_hash *parent,
                            hm_bytes block)
{
    (void)s;
    light *l = nd->ledger;
    uint64_t height;
    parsed p;
    if (state_after(l, id, &height) != NULL)
        return HM_OK;
    const state *before = state_after(l, parent, &height);
    if (before == NULL)
        return hm_fail(HM_E_NOTFOUND, "the parent was not executed");
    HM_TRY(parse(block, &p));
    state after = *before;
    for (uint32_t i = 0; i < p.count; i++) {
        uint8_t account = hm_rd_u8(&p.ops);
        if (!apply(&after, account, hm_rd_u64(&p.ops)))
            return hm_fail(HM_E_BLOCK, "an operation out of turn");
    }
    hm_hash st = state_hash(&after);
    if (!hm_hash_eq(&st, &p.state) || p.info.height != height + 1)
        return hm_fail(HM_E_STATE_ROOT, "another state than the header says");
    keep(l, id, height + 1, &after);
    return HM_OK;
}

static hm_err light_commit(sim *s, sim_node *nd, const hm_hash *id, const hm_hash *parent,
                           hm_bytes block, hm_bytes cert, hm_hash *st)
{
    light *l = nd->ledger;
    hm_simplex_block_info info;
    uint64_t height;
    if (!hm_hash_eq(parent, &l->tip.id))
        return hm_fail(HM_E_INVALID, "the parent is not the tip");
    HM_TRY(light_execute(s, nd, id, parent, block));
    HM_TRY(light_block_info(s, block, &info));
    l->now = *state_after(l, id, &height);
    if (height > s->final_count) {
        parsed p;
        HM_TRY(parse(block, &p));
        s->r.ops += p.count;
    }
    if (l->tip.height == l->cap) {
        l->cap = l->cap == 0 ? 64 : 2 * l->cap;
        l->blocks = realloc(l->blocks, l->cap * sizeof *l->blocks);
        hm_assert(l->blocks != NULL);
    }
    l->blocks[l->tip.height] = (committed){sim_blob_new(block), sim_blob_new(cert)};
    l->tip = (sim_tip){height, info.view, *id};
    size_t kept = 0;
    for (size_t i = 0; i < l->view_count; i++)
        if (l->views[i].height > height)
            l->views[kept++] = l->views[i];
    l->view_count = kept;
    *st = state_hash(&l->now);
    uint64_t money = 0;
    for (uint32_t a = 0; a < ACCOUNTS; a++)
        money += l->now.balance[a];
    if (money != (uint64_t)ACCOUNTS * MONEY)
        sim_fail(s, "money is conserved", "node %u has %llu", nd->number,
                 (unsigned long long)money);
    return HM_OK;
}

static bool light_block_at(const sim_node *nd, uint64_t height, hm_bytes *block, hm_bytes *cert)
{
    const light *l = nd->ledger;
    if (height == 0 || height > l->tip.height)
        return false;
    *block = sim_blob_bytes(l->blocks[height - 1].block);
    *cert = sim_blob_bytes(l->blocks[height - 1].cert);
    return true;
}

static void light_spoil(sim *s, hm_buf *block)
{
    block->ptr[HEADER - sim_between(s, 1, HM_HASH_BYTES)] ^= (uint8_t)sim_between(s, 1, 255);
}

static void light_tamper(sim *s, hm_buf *block)
{
    switch (sim_between(s, 0, 2)) {
    case 0:
        block->ptr[sim_between(s, 0, HM_HASH_BYTES - 1)] ^= 1; // parent
        break;
    case 1:
        block->ptr[HM_HASH_BYTES + 7] ^= (uint8_t)sim_between(s, 1, 3); // height
        break;
    default:
        light_spoil(s, block);
        break;
    }
}

// ---- operations ---------------------------------------------------------------------------------

// A client looks at the node's state and sends one of the next few numbers, perhaps once more.
static bool light_client(sim *s, sim_node *nd, hm_buf *out)
{
    const light *l = nd->ledger;
    uint8_t account = (uint8_t)sim_between(s, 0, ACCOUNTS - 1);
    hm_wr_u8(out, account);
    hm_wr_u64(out, l->now.nonce[account] + sim_between(s, 1, sim_between(s, 1, AHEAD)));
    return true;
}

static bool light_op_alive(const sim_node *nd, hm_bytes op)
{
    const light *l = nd->ledger;
    hm_rd r = hm_rd_of(op);
    uint8_t account = hm_rd_u8(&r);
    uint64_t nonce = hm_rd_u64(&r);
    return hm_rd_end(&r) == HM_OK && account < ACCOUNTS && nonce > l->now.nonce[account];
}

const sim_ledger_ops sim_light = {
    .open = light_open,
    .close = light_close,
    .free = light_free,
    .tip = light_tip,
    .block_info = light_block_info,
    .build = light_build,
    .execute = light_execute,
    .commit = light_commit,
    .block_at = light_block_at,
    .tamper = light_tamper,
    .spoil = light_spoil,
    .client = light_client,
    .op_alive = light_op_alive,
};
