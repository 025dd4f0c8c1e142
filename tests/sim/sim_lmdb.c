// The real ledger: LMDB, the modules, operations with all proofs, the chores of the mesh.
#include <stdio.h>

#include "../unit/mesh_fixture.h"
#include "mesh/asset.h"
#include "mesh/ledger.h"
#include "mesh/node_module.h"
#include "mesh/proof_module.h"
#include "sim_internal.h"

#define VIEWS_MAX 64u
#define CLOCK_AHEAD_MS 3000u // as a node allows

typedef struct executed {
    hm_hash id;
    hm_view *view;
} executed;

typedef struct lmdb {
    hm_ledger *ledger; // NULL while the node is down
    executed views[VIEWS_MAX];
    size_t view_count;
    uint64_t nonce; // of its next operation
    sim_tip tip;
} lmdb;

static const hm_module *const modules[] = {&hm_module_node, &hm_module_proof, &hm_module_asset,
                                           &hm_module_trust};
static mesh_fixture fx; // of this process; made for the first run that needs it

static void fixture_free(void)
{
    mesh_fixture_free(&fx);
}

static void lmdb_setup(sim *s)
{
    if (fx.dir[0] == '\0') {
        sim_os_seed(2); // the same keys and certificates in every process
        mesh_fixture_make(&fx);
        hm_assert(atexit(fixture_free) == 0);
    }
    hm_assert(s->p.n == FIXTURE_MEMBERS);
    s->set.chain_id = fx.chain_id;
    for (uint32_t v = 0; v < s->p.n; v++) {
        s->validators[v].id = fx.ids[v];
        s->validators[v].public_key = hm_key_public(fx.keys[v]);
        s->keys[v] = fx.keys[v];
    }
}

static hm_err evidence(const hm_exec *x, hm_bytes bytes, uint32_t *offender)
{
    (void)x;
    return hm_simplex_evidence_verify(&sim_current()->set, bytes, offender);
}

static uint64_t wall_ms(const sim *s, const sim_node *nd)
{
    return fx.time_ms + 1000 + s->now / 1000 + nd->number * 97; // they do not quite agree
}

// ---- life ---------------------------------------------------------------------------------------

static void note_tip(lmdb *l)
{
    hm_view *tip = hm_ledger_tip(l->ledger);
    const hm_block_header *h = hm_view_header(tip);
    l->tip = (sim_tip){hm_view_height(tip), h == NULL ? 0 : h->view, hm_view_block_id(tip)};
}

static void lmdb_open(sim *s, sim_node *nd)
{
    char dir[200];
    lmdb *l = nd->ledger;
    if (l == NULL)
        nd->ledger = l = calloc(1, sizeof *l);
    hm_assert(l != NULL);
    snprintf(dir, sizeof dir, "%s/ledger-%u", sim_dir(s), nd->number);
    hm_ledger_config cfg = {.dir = dir,
                            .genesis = hm_buf_bytes(&fx.genesis),
                            .modules = modules,
                            .module_count = 4,
                            .proofs = &hm_proof_rules_v1,
                            .evidence = evidence,
                            .no_sync = true};
    sim_must(hm_ledger_open(&cfg, &l->ledger), "ledger");
    note_tip(l);
    sim_must(hm_ledger_nonce(hm_ledger_tip(l->ledger), &fx.ids[nd->index], &l->nonce), "nonce");
    l->nonce += l->nonce == 0 ? 1 : 32; // past what an earlier life has in flight
}

static void lmdb_close(sim *s, sim_node *nd)
{
    (void)s;
    lmdb *l = nd->ledger;
    while (l->view_count > 0)
        hm_view_release(l->views[--l->view_count].view);
    hm_ledger_close(l->ledger);
    l->ledger = NULL;
}

static void lmdb_free(sim *s, sim_node *nd)
{
    (void)s;
    free(nd->ledger);
}

static sim_tip lmdb_tip(const sim_node *nd)
{
    const lmdb *l = nd->ledger;
    return l->tip;
}

// ---- blocks -------------------------------------------------------------------------------------

static hm_err lmdb_block_info(void *ctx, hm_bytes block, hm_simplex_block_info *out)
{
    (void)ctx;
    hm_block b;
    HM_TRY(hm_block_decode(block, &b));
    *out = (hm_simplex_block_info){.id = b.id,
                                   .parent = b.header.parent,
                                   .height = b.header.height,
                                   .view = b.header.view,
                                   .proposer = b.header.proposer};
    hm_block_free(&b);
    return HM_OK;
}

static hm_view *view_find(lmdb *l, const hm_hash *id)
{
    if (hm_hash_eq(&l->tip.id, id))
        return hm_ledger_tip(l->ledger);
    for (size_t i = 0; i < l->view_count; i++)
        if (hm_hash_eq(&l->views[i].id, id))
            return l->views[i].view;
    return NULL;
}

// Takes over the reference.
static void view_keep(lmdb *l, hm_view *v)
{
    hm_hash id = hm_view_block_id(v);
    if (view_find(l, &id) != NULL) {
        hm_view_release(v);
        return;
    }
    hm_assert(l->view_count < VIEWS_MAX);
    l->views[l->view_count++] = (executed){id, v};
}

static hm_err lmdb_build(sim *s, sim_node *nd, const hm_hash *parent, uint64_t view, hm_buf *out)
{
    lmdb *l = nd->ledger;
    hm_view *before = view_find(l, parent), *after = NULL;
    hm_bytes ops[SIM_POOL_MAX];
    if (before == NULL)
        return hm_fail(HM_E_NOTFOUND, "no state to build on");
    for (uint32_t i = 0; i < nd->pool_count; i++)
        ops[i] = sim_blob_bytes(nd->pool[i]);
    HM_TRY(hm_ledger_build(l->ledger, before, view, &fx.ids[nd->index], wall_ms(s, nd), ops,
                           nd->pool_count, NULL, out, &after));
    view_keep(l, after);
    return HM_OK;
}

static hm_err execute(lmdb *l, const hm_hash *id, const hm_hash *parent, hm_bytes block,
                      hm_view **out)
{
    hm_view *v = view_find(l, id);
    if (v == NULL) {
        hm_view *before = view_find(l, parent);
        if (before == NULL)
            return hm_fail(HM_E_NOTFOUND, "the parent was not executed");
        HM_TRY(hm_ledger_execute(l->ledger, before, block, &v));
        view_keep(l, v);
    }
    *out = v;
    return HM_OK;
}

static hm_err lmdb_execute(sim *s, sim_node *nd, const hm_hash *id, const hm_hash *parent,
                           hm_bytes block)
{
    hm_block_header h;
    hm_view *v;
    HM_TRY(hm_block_peek(block, &h));
    if (h.time_ms > wall_ms(s, nd) + CLOCK_AHEAD_MS)
        return hm_fail(HM_E_BLOCK, "the block is ahead of the clock");
    return execute(nd->ledger, id, parent, block, &v);
}

static hm_err lmdb_commit(sim *s, sim_node *nd, const hm_hash *id, const hm_hash *parent,
                          hm_bytes block, hm_bytes cert, hm_hash *state)
{
    lmdb *l = nd->ledger;
    hm_view *v = NULL;
    HM_TRY(execute(l, id, parent, block, &v));
    if (hm_view_height(v) > s->final_count)
        s->r.ops += hm_view_header(v)->ops_count;
    HM_TRY(hm_ledger_commit(l->ledger, v, cert));
    for (size_t i = l->view_count; i-- > 0;)
        if (hm_view_height(l->views[i].view) <= hm_ledger_height(l->ledger)) {
            hm_view_release(l->views[i].view);
            l->views[i] = l->views[--l->view_count];
        }
    note_tip(l);
    return hm_view_root(hm_ledger_tip(l->ledger), state);
}

static bool lmdb_block_at(const sim_node *nd, uint64_t height, hm_bytes *block, hm_bytes *cert)
{
    const lmdb *l = nd->ledger;
    return hm_ledger_block_at(l->ledger, height, block, cert) == HM_OK;
}

static void header_change(hm_buf *block, void (*change)(sim *, hm_block_header *), sim *s)
{
    hm_block_header h;
    hm_buf b = {0};
    sim_must(hm_block_peek(hm_buf_bytes(block), &h), "header");
    change(s, &h);
    hm_block_header_encode(&b, &h);
    hm_assert(b.len == HM_BLOCK_HEADER_BYTES);
    memcpy(block->ptr, b.ptr, b.len);
    hm_buf_free(&b);
}

static void other_state(sim *s, hm_block_header *h)
{
    h->state_root.b[sim_between(s, 0, HM_HASH_BYTES - 1)] ^= (uint8_t)sim_between(s, 1, 255);
}

static void other_header(sim *s, hm_block_header *h)
{
    switch (sim_between(s, 0, 3)) {
    case 0:
        h->parent.b[0] ^= 1;
        break;
    case 1:
        h->height += sim_between(s, 1, 3); // not to zero, which is no block
        break;
    case 2:
        h->time_ms += sim_between(s, 0, 1000000);
        break;
    default:
        other_state(s, h);
        break;
    }
}

static void lmdb_spoil(sim *s, hm_buf *block)
{
    header_change(block, other_state, s);
}

static void lmdb_tamper(sim *s, hm_buf *block)
{
    header_change(block, other_header, s);
}

// ---- operations ---------------------------------------------------------------------------------

static bool finish(sim_node *nd, uint8_t module, uint8_t kind, hm_hash asset, hm_buf *payload,
                   hm_buf *out)
{
    lmdb *l = nd->ledger;
    hm_op op = {.chain_id = fx.chain_id,
                .module = module,
                .kind = kind,
                .owner = fx.ids[nd->index],
                .asset = asset,
                .nonce = l->nonce,
                .payload = hm_buf_bytes(payload)};
    hm_op_inputs in = {.key = fx.keys[nd->index]};
    hm_err err =
        hm_ledger_op_inputs(l->ledger, hm_ledger_tip(l->ledger), &op.owner, module, kind, &in);
    if (err == HM_OK) {
        sim_must(hm_op_finish(&op, &in, out, NULL), "operation");
        l->nonce++;
    }
    hm_buf_free(payload);
    return err == HM_OK; // without an accepted answer it can own no asset for now
}

// An answer or a beacon that is due.
static bool chore(sim_node *nd, hm_buf *out)
{
    const lmdb *l = nd->ledger;
    hm_view *tip = hm_ledger_tip(l->ledger);
    uint64_t number, since;
    hm_hash seed;
    hm_buf proof = {0}, payload = {0};
    if (hm_proof_answer_due(tip, &fx.ids[nd->index], &number, &seed) == HM_OK) {
        sim_must(hm_space_answer(fx.sectors[nd->index], &seed, &proof), "answer");
        hm_proof_answer_encode(0, number, hm_buf_bytes(&proof), &payload);
        hm_buf_free(&proof);
        return finish(nd, HM_MODULE_PROOF, HM_PROOF_SPACE_ANSWER, (hm_hash){0}, &payload, out);
    }
    if (hm_proof_beacon_due(tip, &number, &seed, &since) == HM_OK) {
        hm_time_group g;
        sim_must(hm_proof_time_group(hm_ledger_genesis(l->ledger), &g), "group");
        sim_must(hm_time_eval(&g, &seed, NULL, &proof), "beacon");
        hm_proof_beacon_encode(number, hm_buf_bytes(&proof), &payload);
        hm_buf_free(&proof);
        return finish(nd, HM_MODULE_PROOF, HM_PROOF_BEACON, (hm_hash){0}, &payload, out);
    }
    return false;
}

static bool lmdb_client(sim *s, sim_node *nd, hm_buf *out)
{
    lmdb *l = nd->ledger;
    hm_asset found = {0};
    hm_buf payload = {0};
    if (sim_chance(s, 500000) && chore(nd, out))
        return true;
    char name[40];
    snprintf(name, sizeof name, "asset-%llu", (unsigned long long)l->nonce);
    bool some = l->nonce > 2 && sim_chance(s, 600000);
    if (some) { // one that it registered, perhaps in an earlier life, perhaps not yet final
        char old[40];
        snprintf(old, sizeof old, "asset-%llu",
                 (unsigned long long)sim_between(s, 1, l->nonce - 1));
        some = hm_asset_find(hm_ledger_tip(l->ledger), &fx.ids[nd->index], hm_bytes_str(old),
                             &found) == HM_OK;
    }
    if (some && sim_chance(s, 500000)) {
        hm_asset_transfer_encode(&fx.ids[sim_between(s, 0, FIXTURE_MEMBERS - 1)], &payload);
        return finish(nd, HM_MODULE_ASSET, HM_ASSET_TRANSFER, found.id, &payload, out);
    }
    if (some) {
        hm_asset_set_state_encode((uint8_t)sim_between(s, 1, HM_ASSET_STATE_MAX), &payload);
        return finish(nd, HM_MODULE_ASSET, HM_ASSET_SET_STATE, found.id, &payload, out);
    }
    hm_asset_register r = {.kind = (uint8_t)sim_between(s, HM_ASSET_CPU, HM_ASSET_NETWORK),
                           .name = hm_bytes_str(name)};
    r.policy.is_public = sim_chance(s, 500000);
    sim_must(hm_asset_register_encode(&r, &payload), "payload");
    return finish(nd, HM_MODULE_ASSET, HM_ASSET_REGISTER,
                  hm_asset_id(&fx.chain_id, &fx.ids[nd->index], l->nonce), &payload, out);
}

static bool lmdb_evidence(sim *s, sim_node *nd, hm_bytes bytes, hm_buf *out)
{
    (void)s;
    hm_buf payload = {0};
    hm_node_payload_encode(bytes, &payload);
    return finish(nd, HM_MODULE_NODE, HM_NODE_EVIDENCE, (hm_hash){0}, &payload, out);
}

static bool lmdb_op_alive(const sim_node *nd, hm_bytes op)
{
    const lmdb *l = nd->ledger;
    hm_view *tip = hm_ledger_tip(l->ledger);
    const hm_block_header *h = hm_view_header(tip);
    return hm_ledger_check(l->ledger, tip, op, h == NULL ? fx.time_ms + 1 : h->time_ms + 1) ==
           HM_OK;
}

// ---- judgement ----------------------------------------------------------------------------------

static hm_err certificate(void *ctx, hm_view *parent, const hm_block_header *header,
                          const hm_hash *id, hm_bytes cert, bool tip)
{
    (void)parent;
    const sim *s = ctx;
    hm_simplex_kind kind;
    HM_TRY(hm_simplex_cert_verify(&s->set, id, header->view, cert, &kind));
    return tip && kind != HM_SIMPLEX_FINALIZE ? HM_E_QUORUM : HM_OK;
}

// The whole chain again, from the genesis, and the offenders without stake.
static void lmdb_verify(sim *s, sim_node *nd)
{
    lmdb *l = nd->ledger;
    char scratch[200];
    hm_ledger_verify_report report;
    hm_ledger_verify_hooks hooks = {.certificate = certificate, .ctx = s};
    snprintf(scratch, sizeof scratch, "%s/scratch", sim_dir(s));
    hm_err err = hm_ledger_verify(l->ledger, scratch, &hooks, &report);
    if (err != HM_OK)
        sim_fail(s, "the ledger verifies", "node %u: %s: %s", nd->number, hm_err_text(err),
                 hm_err_detail());
}

static bool lmdb_slashed(const sim_node *nd, uint32_t offender)
{
    const lmdb *l = nd->ledger;
    hm_member m;
    sim_must(hm_member_at(hm_ledger_tip(l->ledger), offender, &m), "member");
    return m.slashed_height != 0;
}

const sim_ledger_ops sim_lmdb = {
    .setup = lmdb_setup,
    .open = lmdb_open,
    .close = lmdb_close,
    .free = lmdb_free,
    .tip = lmdb_tip,
    .block_info = lmdb_block_info,
    .build = lmdb_build,
    .execute = lmdb_execute,
    .commit = lmdb_commit,
    .block_at = lmdb_block_at,
    .tamper = lmdb_tamper,
    .spoil = lmdb_spoil,
    .client = lmdb_client,
    .op_alive = lmdb_op_alive,
    .evidence = lmdb_evidence,
    .verify = lmdb_verify,
    .slashed = lmdb_slashed,
};
