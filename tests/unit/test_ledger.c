#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mesh/asset.h"
#include "mesh/ledger.h"
#include "mesh/node_module.h"
#include "mesh/proof_module.h"
#include "mesh/proof_work.h"
#include "mesh/tree_internal.h"
#include "mesh/overlay.h"
#include "mesh_fixture.h"

static mesh_fixture fx;
static const hm_module *const modules[] = {&hm_module_node, &hm_module_proof, &hm_module_asset,
                                           &hm_module_trust};

// ---- the tree -----------------------------------------------------------------------------------

static hm_err t_get(void *ctx, hm_bytes key, hm_bytes *value)
{
    const hm_overlay_entry *e = hm_overlay_get(ctx, key);
    if (e == NULL || e->deleted)
        return HM_E_NOTFOUND;
    *value = e->value;
    return HM_OK;
}
static hm_err t_put(void *ctx, hm_bytes key, hm_bytes value)
{
    return hm_overlay_put(ctx, key, value, false);
}
static hm_err t_del(void *ctx, hm_bytes key)
{
    return hm_overlay_put(ctx, key, (hm_bytes){0}, true);
}

static uint64_t rng = 1;
static uint32_t rnd(uint32_t n)
{
    rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(rng >> 33) % n;
}

static hm_tree_change change_of(uint32_t key, uint32_t value)
{
    hm_tree_change c = {.path = hm_sha256(hm_bytes_of(&key, 4)),
                        .value = hm_sha256(hm_bytes_of(&value, 4)),
                        .deleted = value == 0};
    return c;
}

// However a set came about, its root is that of the set built at once, and no stale node remains.
static void test_tree_is_history_independent(void **state)
{
    (void)state;
    uint32_t values[300] = {0};
    hm_overlay nodes = {0};
    hm_tree_store s = {t_get, t_put, t_del, &nodes};
    hm_hash root = hm_tree_empty_root(), fresh_root;
    for (int round = 0; round < 120; round++) {
        hm_tree_change changes[40];
        size_t count = 0;
        bool used[300] = {0};
        uint32_t batch = 1 + rnd(40), span = round % 3 == 0 ? 12 : 300;
        for (uint32_t i = 0; i < batch; i++) {
            uint32_t k = rnd(span);
            if (used[k])
                continue;
            used[k] = true;
            values[k] = rnd(2) == 0 ? 0 : 1 + rnd(1000);
            changes[count++] = change_of(k, values[k]);
        }
        OK(hm_tree_update(&s, changes, count, &root));
        hm_overlay fresh = {0};
        hm_tree_store fs = {t_get, t_put, t_del, &fresh};
        hm_tree_change all[300];
        size_t n = 0, live = 0;
        for (uint32_t k = 0; k < 300; k++)
            if (values[k] != 0)
                all[n++] = change_of(k, values[k]);
        if (n == 0)
            fresh_root = hm_tree_empty_root();
        else
            OK(hm_tree_update(&fs, all, n, &fresh_root));
        assert_memory_equal(root.b, fresh_root.b, 32);
        for (const hm_overlay_entry *e = hm_overlay_first(&nodes); e != NULL; e = e->next[0])
            live += !e->deleted;
        if (n > 0)
            assert_int_equal(live, fresh.count);
        hm_overlay_free(&fresh);
        for (uint32_t i = 0; i < 8; i++) {
            uint32_t k = rnd(300);
            hm_buf proof = {0};
            bool present = false;
            hm_hash value, want = change_of(k, values[k]).value;
            OK(hm_tree_prove(&s, hm_bytes_of(&k, 4), &proof));
            OK(hm_tree_verify(&root, hm_bytes_of(&k, 4), hm_buf_bytes(&proof), &present, &value));
            assert_int_equal(present, values[k] != 0);
            if (present)
                assert_memory_equal(value.b, want.b, 32);
            proof.ptr[rnd((uint32_t)proof.len)] ^= (uint8_t)(1u << rnd(8));
            bool lied = false;
            if (hm_tree_verify(&root, hm_bytes_of(&k, 4), hm_buf_bytes(&proof), &lied, &value) ==
                HM_OK)
                assert_int_equal(lied, present);
            hm_buf_free(&proof);
        }
    }
    hm_overlay_free(&nodes);
}

// ---- the ledger ---------------------------------------------------------------------------------

static hm_ledger *ledger_open_with(const char *name, const hm_module *const *with)
{
    static char dir[160];
    snprintf(dir, sizeof dir, "%s/%s", fx.dir, name);
    hm_ledger_config cfg = {.dir = dir,
                            .genesis = hm_buf_bytes(&fx.genesis),
                            .modules = with,
                            .module_count = 4,
                            .proofs = &hm_proof_rules_v1,
                            .no_sync = true};
    hm_ledger *l = NULL;
    OK(hm_ledger_open(&cfg, &l));
    return l;
}

static hm_ledger *ledger_open(const char *name)
{
    return ledger_open_with(name, modules);
}

static void make_op(hm_ledger *l, unsigned who, uint8_t module, uint8_t kind, hm_hash asset,
                    uint64_t nonce, hm_bytes payload, hm_buf *out, hm_hash *id)
{
    hm_op op = {.chain_id = fx.chain_id,
                .module = module,
                .kind = kind,
                .owner = fx.ids[who],
                .asset = asset,
                .nonce = nonce,
                .payload = payload};
    hm_op_inputs in = {.key = fx.keys[who]};
    OK(hm_ledger_op_inputs(l, hm_ledger_tip(l), &fx.ids[who], module, kind, &in));
    OK(hm_op_finish(&op, &in, out, id));
}

static hm_hash register_op(hm_ledger *l, unsigned who, uint64_t nonce, const char *name,
                           hm_buf *out, hm_hash *op_id)
{
    hm_buf payload = {0};
    hm_asset_register r = {.kind = HM_ASSET_CPU, .name = hm_bytes_str(name)};
    r.policy.is_public = true;
    OK(hm_asset_register_encode(&r, &payload));
    hm_hash asset = hm_asset_id(&fx.chain_id, &fx.ids[who], nonce);
    make_op(l, who, HM_MODULE_ASSET, HM_ASSET_REGISTER, asset, nonce, hm_buf_bytes(&payload), out,
            op_id);
    hm_buf_free(&payload);
    return asset;
}

// Builds the next block on a, executes it on b, commits it on both; gives the outcomes.
static void step(hm_ledger *a, hm_ledger *b, const hm_bytes *ops, size_t count, hm_err *outcome)
{
    hm_buf block = {0};
    hm_view *va = NULL, *vb = NULL;
    uint64_t h = hm_ledger_height(a) + 1;
    OK(hm_ledger_build(a, hm_ledger_tip(a), h, &fx.ids[h % 4], fx.time_ms + 1000 * h, ops, count,
                       outcome, &block, &va));
    hm_hash root_a, root_b;
    OK(hm_view_root(va, &root_a));
    OK(hm_ledger_commit(a, va, hm_bytes_str("cert")));
    hm_view_release(va);
    if (b != NULL) {
        OK(hm_ledger_execute(b, hm_ledger_tip(b), hm_buf_bytes(&block), &vb));
        OK(hm_view_root(vb, &root_b));
        assert_memory_equal(root_a.b, root_b.b, 32);
        OK(hm_ledger_commit(b, vb, hm_bytes_str("cert")));
        hm_view_release(vb);
    }
    hm_buf_free(&block);
}

static void step_one(hm_ledger *a, hm_ledger *b, const hm_buf *op, hm_err want)
{
    hm_bytes bytes = hm_buf_bytes(op);
    hm_err outcome = HM_OK;
    step(a, b, &bytes, 1, &outcome);
    if (outcome != want)
        fail_msg("outcome %s (%s)", hm_err_name(outcome), hm_err_detail());
}

// The chores of the mesh: whatever answers and beacons are due now.
static void chores(hm_ledger *a, hm_ledger *b, uint64_t nonce[4])
{
    hm_bytes ops[5];
    hm_buf bufs[5] = {0};
    size_t n = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t epoch;
        hm_hash seed;
        if (hm_proof_answer_due(hm_ledger_tip(a), &fx.ids[i], &epoch, &seed) != HM_OK)
            continue;
        hm_buf answer = {0}, payload = {0};
        OK(hm_space_answer(fx.sectors[i], &seed, &answer));
        hm_proof_answer_encode(0, epoch, hm_buf_bytes(&answer), &payload);
        make_op(a, i, HM_MODULE_PROOF, HM_PROOF_SPACE_ANSWER, (hm_hash){0}, ++nonce[i],
                hm_buf_bytes(&payload), &bufs[n], NULL);
        ops[n] = hm_buf_bytes(&bufs[n]);
        n++;
        hm_buf_free(&answer);
        hm_buf_free(&payload);
    }
    uint64_t index, since;
    hm_hash input;
    if (hm_proof_beacon_due(hm_ledger_tip(a), &index, &input, &since) == HM_OK) {
        hm_time_group g;
        hm_buf proof = {0}, payload = {0};
        OK(hm_proof_time_group(hm_ledger_genesis(a), &g));
        OK(hm_time_eval(&g, &input, NULL, &proof));
        hm_proof_beacon_encode(index, hm_buf_bytes(&proof), &payload);
        make_op(a, 0, HM_MODULE_PROOF, HM_PROOF_BEACON, (hm_hash){0}, ++nonce[0],
                hm_buf_bytes(&payload), &bufs[n], NULL);
        ops[n] = hm_buf_bytes(&bufs[n]);
        n++;
        hm_buf_free(&proof);
        hm_buf_free(&payload);
    }
    hm_err outcome[5] = {0};
    step(a, b, ops, n, outcome);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(outcome[i], HM_OK);
        hm_buf_free(&bufs[i]);
    }
}

static hm_err any_certificate(void *ctx, hm_view *parent, const hm_block_header *h,
                              const hm_hash *id, hm_bytes cert, bool tip)
{
    (void)ctx, (void)parent, (void)h, (void)id, (void)tip;
    return hm_bytes_eq(cert, hm_bytes_str("cert")) ? HM_OK : HM_E_QUORUM;
}

static void test_life_of_an_asset(void **state)
{
    (void)state;
    hm_ledger *a = ledger_open("a"), *b = ledger_open("b");
    hm_buf op = {0};
    hm_hash op_id;
    hm_asset asset;
    hm_hash id = register_op(a, 0, 1, "first", &op, &op_id);
    step_one(a, b, &op, HM_OK);
    step_one(a, b, &op, HM_E_OP_NONCE); // a replay
    OK(hm_asset_get(hm_ledger_tip(b), &id, &asset));
    assert_string_equal(asset.name, "first");
    assert_int_equal(asset.state, HM_ASSET_AVAILABLE);
    OK(hm_asset_find(hm_ledger_tip(b), &fx.ids[0], hm_bytes_str("first"), &asset));

    // Node 2 takes it into use; it is public.
    hm_buf payload = {0};
    hm_asset_set_state_encode(HM_ASSET_ALLOCATED, &payload);
    hm_buf_reset(&op);
    make_op(a, 1, HM_MODULE_ASSET, HM_ASSET_SET_STATE, id, 1, hm_buf_bytes(&payload), &op, NULL);
    step_one(a, b, &op, HM_OK);
    // Node 3 does not hold it and may not manage it.
    hm_buf_reset(&payload);
    hm_asset_set_state_encode(HM_ASSET_AVAILABLE, &payload);
    hm_buf_reset(&op);
    make_op(a, 2, HM_MODULE_ASSET, HM_ASSET_SET_STATE, id, 1, hm_buf_bytes(&payload), &op, NULL);
    step_one(a, b, &op, HM_E_OP_RIGHT);
    // A transfer is illegal while it is allocated, and fine afterwards.
    hm_buf_reset(&op);
    make_op(a, 1, HM_MODULE_ASSET, HM_ASSET_SET_STATE, id, 2, hm_buf_bytes(&payload), &op, NULL);
    hm_buf transfer = {0}, top = {0};
    hm_asset_transfer_encode(&fx.ids[3], &transfer);
    make_op(a, 0, HM_MODULE_ASSET, HM_ASSET_TRANSFER, id, 2, hm_buf_bytes(&transfer), &top, NULL);
    step_one(a, b, &top, HM_E_OP_STATE);
    step_one(a, b, &op, HM_OK);
    step_one(a, b, &top, HM_OK);
    OK(hm_asset_get(hm_ledger_tip(b), &id, &asset));
    assert_memory_equal(asset.owner.b, fx.ids[3].b, 32);
    assert_int_equal(asset.revision, 4);

    // Its record is provable against the root in the header alone.
    hm_buf key = {0}, proof = {0};
    bool present = false;
    hm_hash value;
    hm_asset_key(&id, &key);
    OK(hm_view_prove(hm_ledger_tip(b), hm_buf_bytes(&key), &proof));
    OK(hm_tree_verify(&hm_view_header(hm_ledger_tip(a))->state_root, hm_buf_bytes(&key),
                      hm_buf_bytes(&proof), &present, &value));
    assert_true(present);
    hm_proof_finding findings[4];
    hm_op_location at;
    OK(hm_ledger_op_find(a, &op_id, &at));
    OK(hm_proof_explain(a, at, findings));
    for (int i = 0; i < 4; i++)
        assert_true(findings[i].ok);
    hm_ledger_verify_report report;
    hm_ledger_verify_hooks hooks = {.certificate = any_certificate};
    char scratch[128];
    snprintf(scratch, sizeof scratch, "%s/scratch", fx.dir);
    OK(hm_ledger_verify(a, scratch, &hooks, &report));
    assert_int_equal(report.blocks, hm_ledger_height(a));
    hm_buf_free(&key);
    hm_buf_free(&proof);
    hm_buf_free(&payload);
    hm_buf_free(&transfer);
    hm_buf_free(&top);
    hm_buf_free(&op);
    uint64_t height = hm_ledger_height(a);
    hm_ledger_close(a);
    a = ledger_open("a");
    assert_int_equal(hm_ledger_height(a), height);
    hm_ledger_close(a);
    hm_ledger_close(b);
}

// Each proof missing, wrong or stale is refused by its name.
static void test_proofs_are_all_needed(void **state)
{
    (void)state;
    hm_ledger *l = ledger_open("proofs");
    hm_buf whole = {0}, op = {0};
    uint64_t now = fx.time_ms + 5000;
    register_op(l, 0, 1, "x", &whole, NULL);
    OK(hm_ledger_check(l, hm_ledger_tip(l), hm_buf_bytes(&whole), now));
    hm_op good;
    OK(hm_op_decode(hm_buf_bytes(&whole), &good, NULL));
    static const struct {
        int what;
        hm_err want;
    } cases[] = {
        {0, HM_E_PROOF_SPACE},  {1, HM_E_PROOF_TIME},  {2, HM_E_PROOF_STAKE}, {3, HM_E_PROOF_WORK},
        {4, HM_E_PROOF_SPACE},  {5, HM_E_PROOF_TIME},  {6, HM_E_PROOF_STAKE}, {7, HM_E_PROOF_STAKE},
        {8, HM_E_OP_CHAIN},     {9, HM_E_OP_MODULE},   {10, HM_E_OP_NONCE},   {11, HM_E_OP_PAYLOAD},
        {12, HM_E_PROOF_SPACE}, {13, HM_E_PROOF_TIME},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hm_op bad = good;
        hm_hash garbage = hm_sha256(hm_bytes_str("garbage"));
        uint8_t sig[HM_FALCON_SIGNATURE_MAX];
        memcpy(sig, good.stake_signature.ptr, good.stake_signature.len);
        switch (cases[i].what) {
        case 0:
            bad.has_space = false;
            break;
        case 1:
            bad.has_time = false;
            break;
        case 2:
            bad.has_stake = false;
            break;
        case 3:
            bad.has_work = false;
            break;
        case 4:
            bad.space.answer = garbage;
            break;
        case 5:
            bad.time.value = garbage;
            break;
        case 6:
            bad.stake_cert = garbage;
            break;
        case 7:
            sig[100] ^= 1;
            bad.stake_signature.ptr = sig;
            break;
        case 8:
            bad.chain_id = garbage;
            break;
        case 9:
            bad.kind = 99;
            break;
        case 10:
            bad.nonce = HM_OP_NONCE_WINDOW + 7;
            break;
        case 11:
            bad.payload.len--;
            break;
        case 12:
            bad.space.addr[4] ^= 1;
            break;
        default:
            bad.time.index = 7;
            break;
        }
        hm_buf_reset(&op);
        // With a solved puzzle, so that the check gets as far as what is wrong.
        for (uint64_t nonce = 0;; nonce++) {
            hm_op_digests d;
            hm_buf_reset(&op);
            bad.work_nonce = nonce;
            hm_op_encode(&op, &bad);
            OK(hm_op_decode(hm_buf_bytes(&op), &(hm_op){0}, &d));
            if (!bad.has_work || hm_work_check(&d.work, HM_WORK_DIFFICULTY_MIN, nonce))
                break;
        }
        hm_err err = hm_ledger_check(l, hm_ledger_tip(l), hm_buf_bytes(&op), now);
        if (err != cases[i].want)
            fail_msg("case %d: %s (%s)", cases[i].what, hm_err_name(err), hm_err_detail());
    }
    // An operation of no known kind has no words.
    hm_op unknown = good;
    unknown.module = HM_MODULE_NODE;
    unknown.kind = 200;
    hm_buf_reset(&op);
    assert_int_equal(hm_ledger_describe(l, &unknown, &op), HM_E_OP_MODULE);
    // Truncations and trailing bytes.
    for (size_t n = 0; n < whole.len; n += 61)
        assert_int_not_equal(hm_ledger_check(l, hm_ledger_tip(l), hm_bytes_of(whole.ptr, n), now),
                             HM_OK);
    hm_buf_free(&op);
    hm_buf_free(&whole);
    hm_ledger_close(l);
}

// Through epochs: answers keep an owner in good standing, and without one it is refused.
static void test_epochs_and_beacons(void **state)
{
    (void)state;
    hm_ledger *a = ledger_open("epochs-a"), *b = ledger_open("epochs-b");
    uint64_t nonce[4] = {0};
    for (int i = 0; i < 40; i++)
        chores(a, b, nonce);
    hm_buf op = {0};
    hm_hash op_id;
    register_op(a, 1, ++nonce[1], "late", &op, &op_id);
    step_one(a, b, &op, HM_OK);
    hm_op_location at;
    hm_proof_finding findings[4];
    OK(hm_ledger_op_find(b, &op_id, &at));
    OK(hm_proof_explain(b, at, findings));
    for (int i = 0; i < 4; i++)
        if (!findings[i].ok)
            fail_msg("%s: %s", findings[i].name, findings[i].checked);
    // Nobody answers for an epoch and a half: operations are refused for want of space.
    for (int i = 0; i < 12; i++)
        step(a, b, NULL, 0, NULL);
    hm_buf_reset(&op);
    register_op(a, 1, ++nonce[1], "stale", &op, NULL);
    step_one(a, b, &op, HM_E_PROOF_SPACE);
    hm_buf_free(&op);
    hm_ledger_close(a);
    hm_ledger_close(b);
}

// A revoked certificate and a slashed member own no operation any more.
static hm_err evidence_says(const hm_exec *x, hm_bytes evidence, uint32_t *offender)
{
    (void)x;
    if (evidence.len != 1)
        return HM_E_VOTE;
    *offender = evidence.ptr[0];
    return HM_OK;
}

static void test_revocation_and_evidence(void **state)
{
    (void)state;
    char dir[160];
    snprintf(dir, sizeof dir, "%s/revoke", fx.dir);
    hm_ledger_config cfg = {.dir = dir,
                            .genesis = hm_buf_bytes(&fx.genesis),
                            .modules = modules,
                            .module_count = 4,
                            .proofs = &hm_proof_rules_v1,
                            .evidence = evidence_says,
                            .no_sync = true};
    hm_ledger *l = NULL;
    OK(hm_ledger_open(&cfg, &l));
    hm_buf crl = {0}, payload = {0}, op = {0}, mine = {0};
    OK(tc_revoke(fx.authority, &fx.issued[2].serial, 1, fx.time_ms + 100));
    // A delta, signed and new as it is, is not all that was revoked.
    OK(tc_authority_delta_crl(fx.authority, TC_MESH, fx.time_ms + 200, &crl));
    hm_node_payload_encode(hm_buf_bytes(&crl), &payload);
    make_op(l, 0, HM_MODULE_NODE, HM_NODE_CRL, (hm_hash){0}, 1, hm_buf_bytes(&payload), &op, NULL);
    step_one(l, NULL, &op, HM_E_PARSE);
    hm_buf *all[] = {&crl, &payload, &op};
    for (size_t i = 0; i < 3; i++)
        hm_buf_reset(all[i]);
    OK(tc_authority_crl(fx.authority, TC_MESH, fx.time_ms + 200, &crl));
    hm_node_payload_encode(hm_buf_bytes(&crl), &payload);
    make_op(l, 0, HM_MODULE_NODE, HM_NODE_CRL, (hm_hash){0}, 1, hm_buf_bytes(&payload), &op, NULL);
    register_op(l, 2, 1, "revoked", &mine, NULL);
    step_one(l, NULL, &op, HM_OK);
    step_one(l, NULL, &mine, HM_E_PROOF_STAKE);
    // The same list again is no news.
    hm_buf_reset(&op);
    make_op(l, 0, HM_MODULE_NODE, HM_NODE_CRL, (hm_hash){0}, 2, hm_buf_bytes(&payload), &op, NULL);
    step_one(l, NULL, &op, HM_E_OP_STATE);

    const uint8_t offender = 3;
    hm_buf_reset(&payload);
    hm_buf_reset(&op);
    hm_buf_reset(&mine);
    hm_node_payload_encode(hm_bytes_of(&offender, 1), &payload);
    make_op(l, 0, HM_MODULE_NODE, HM_NODE_EVIDENCE, (hm_hash){0}, 3, hm_buf_bytes(&payload), &op,
            NULL);
    register_op(l, 3, 1, "slashed", &mine, NULL);
    step_one(l, NULL, &op, HM_OK);
    step_one(l, NULL, &mine, HM_E_PROOF_STAKE);
    hm_member m;
    OK(hm_member_at(hm_ledger_tip(l), 3, &m));
    assert_int_equal(m.stake, 0);
    hm_buf_free(&crl);
    hm_buf_free(&payload);
    hm_buf_free(&op);
    hm_buf_free(&mine);
    hm_ledger_close(l);
}

// The outcome of one operation in a block at a time.
static void step_at(hm_ledger *l, uint64_t time_ms, const hm_buf *op, hm_err want)
{
    hm_buf block = {0};
    hm_bytes bytes = hm_buf_bytes(op);
    hm_view *v = NULL, *same = NULL;
    hm_err outcome = HM_OK;
    OK(hm_ledger_build(l, hm_ledger_tip(l), hm_ledger_height(l) + 1, &fx.ids[0], time_ms, &bytes, 1,
                       &outcome, &block, &v));
    if (outcome != want)
        fail_msg("outcome %s (%s)", hm_err_name(outcome), hm_err_detail());
    OK(hm_ledger_execute(l, hm_ledger_tip(l), hm_buf_bytes(&block), &same));
    hm_view_release(same);
    OK(hm_ledger_commit(l, v, hm_bytes_str("cert")));
    hm_view_release(v);
    hm_buf_free(&block);
}

static void make_cert_op(unsigned who, uint64_t nonce, hm_bytes der, const hm_hash *stands_on,
                         hm_ledger *l, hm_buf *out)
{
    hm_buf payload = {0};
    hm_node_payload_encode(der, &payload);
    hm_op op = {.chain_id = fx.chain_id,
                .module = HM_MODULE_NODE,
                .kind = HM_NODE_CERT,
                .owner = fx.ids[who],
                .nonce = nonce,
                .payload = hm_buf_bytes(&payload)};
    hm_op_inputs in = {.key = fx.keys[who]};
    OK(hm_ledger_op_inputs(l, hm_ledger_tip(l), &fx.ids[who], op.module, op.kind, &in));
    in.cert = *stands_on;
    hm_buf_reset(out);
    OK(hm_op_finish(&op, &in, out, NULL));
    hm_buf_free(&payload);
}

// A member whose certificate is over comes back with a new one, which must be its own, in force,
// and from the mesh's authority.
static void test_certificate_renewed(void **state)
{
    (void)state;
    hm_ledger *l = ledger_open("renew");
    uint64_t over = fx.issued[1].not_after_ms + 60000;
    hm_buf csr = {0}, op = {0}, mine = {0};
    hm_buf ders[3] = {0}; // of members 1 and 2 now, and of member 1 for later
    const uint64_t from[] = {over - 1000, over - 1000, over + 40000000};
    for (unsigned i = 0; i < 3; i++) {
        hm_buf chain = {0};
        hm_buf_reset(&csr);
        OK(tc_node_csr(fx.keys[i == 1 ? 2 : 1], "node", &csr));
        OK(tc_issue_node(fx.authority, hm_buf_bytes(&csr), from[i], &chain, NULL));
        OK(tc_pem_to_der(hm_buf_bytes(&chain), &ders[i]));
        hm_buf_free(&chain);
    }
    hm_hash fresh = hm_sha256(hm_buf_bytes(&ders[0])), others = hm_sha256(hm_buf_bytes(&ders[1])),
            later = hm_sha256(hm_buf_bytes(&ders[2]));
    hm_member m;
    OK(hm_member_at(hm_ledger_tip(l), 1, &m));
    hm_hash old = m.cert;
    make_cert_op(1, 1, hm_buf_bytes(&ders[0]), &old, l, &op);
    step_at(l, over, &op, HM_E_PROOF_STAKE);
    make_cert_op(1, 1, hm_buf_bytes(&ders[0]), &others, l, &op);
    step_at(l, over + 1, &op, HM_E_PROOF_STAKE);
    make_cert_op(1, 1, hm_buf_bytes(&ders[1]), &others, l, &op);
    step_at(l, over + 2, &op, HM_E_OP_RIGHT);
    make_cert_op(1, 1, hm_buf_bytes(&ders[2]), &later, l, &op);
    step_at(l, over + 3, &op, HM_E_CERT_EXPIRED);
    make_cert_op(1, 1, hm_buf_bytes(&ders[0]), &fresh, l, &op);
    step_at(l, over + 4, &op, HM_OK);
    make_cert_op(1, 2, hm_buf_bytes(&ders[0]), &fresh, l, &op);
    step_at(l, over + 5, &op, HM_E_OP_DUPLICATE);
    register_op(l, 1, 3, "back", &mine, NULL);
    step_at(l, over + 6, &mine, HM_OK);
    hm_buf_free(&csr);
    hm_buf_free(&op);
    hm_buf_free(&mine);
    for (unsigned i = 0; i < 3; i++)
        hm_buf_free(&ders[i]);
    hm_ledger_close(l);
}

// Views over views: a child sees its parent's entries, another branch does not, and is closed once
// it cannot become final any more.
static void test_branches(void **state)
{
    (void)state;
    hm_ledger *l = ledger_open("branches");
    hm_buf op = {0}, block = {0};
    hm_view *left = NULL, *right = NULL, *child = NULL;
    hm_asset asset;
    hm_hash id = register_op(l, 0, 1, "left", &op, NULL);
    hm_bytes ops = hm_buf_bytes(&op);
    OK(hm_ledger_build(l, hm_ledger_tip(l), 1, &fx.ids[0], fx.time_ms + 10, &ops, 1, NULL, &block,
                       &left));
    OK(hm_ledger_build(l, hm_ledger_tip(l), 2, &fx.ids[1], fx.time_ms + 10, NULL, 0, NULL, &block,
                       &right));
    hm_buf_reset(&block);
    OK(hm_ledger_build(l, left, 3, &fx.ids[2], fx.time_ms + 20, &ops, 1, &(hm_err){0}, &block,
                       &child));
    OK(hm_asset_get(left, &id, &asset));
    OK(hm_asset_get(child, &id, &asset));
    assert_int_equal(hm_asset_get(right, &id, &asset), HM_E_NOTFOUND);
    assert_int_equal(hm_view_header(child)->ops_count, 0); // the replay was left out
    assert_int_equal(hm_ledger_commit(l, child, (hm_bytes){0}), HM_E_INVALID);
    OK(hm_ledger_commit(l, left, hm_bytes_str("cert")));
    assert_int_equal(hm_asset_get(right, &id, &asset), HM_E_CLOSED);
    OK(hm_asset_get(child, &id, &asset));
    OK(hm_ledger_commit(l, child, hm_bytes_str("cert")));
    // A block whose root is not that of its operations.
    hm_view *v = NULL;
    hm_buf_reset(&block);
    OK(hm_ledger_build(l, hm_ledger_tip(l), 4, &fx.ids[0], fx.time_ms + 30, NULL, 0, NULL, &block,
                       &v));
    hm_view_release(v);
    block.ptr[HM_BLOCK_HEADER_BYTES - 1] ^= 1;
    assert_int_equal(hm_ledger_execute(l, hm_ledger_tip(l), hm_buf_bytes(&block), &v),
                     HM_E_STATE_ROOT);
    hm_view_release(left);
    hm_view_release(right);
    hm_view_release(child);
    hm_buf_free(&op);
    hm_buf_free(&block);
    hm_ledger_close(l);
}

static void test_genesis_json(void **state)
{
    (void)state;
    hm_genesis g;
    OK(hm_genesis_decode(hm_buf_bytes(&fx.genesis), &g));
    hm_buf json = {0};
    hm_arena arena = {0};
    hm_genesis_validator v;
    OK(hm_join_to_json(&g.validators[2], &json));
    OK(hm_join_from_json(hm_buf_bytes(&json), &arena, &v));
    assert_string_equal(v.name, "node-3");
    assert_true(hm_bytes_eq(v.public_key, g.validators[2].public_key));
    assert_true(hm_bytes_eq(v.cert, g.validators[2].cert));
    assert_int_equal(v.seal_count, g.validators[2].seal_count);
    for (uint32_t i = 0; i < v.seal_count; i++)
        assert_true(hm_bytes_eq(v.seal_parts[i], g.validators[2].seal_parts[i]));
    hm_buf_reset(&json);
    OK(hm_genesis_to_json(&g, &json));
    assert_int_equal(hm_join_from_json(hm_bytes_str("{\"name\":1}"), &arena, &v), HM_E_PARSE);
    // A key of the right length that is none.
    hm_buf bytes = {0};
    hm_buf_put(&bytes, hm_buf_bytes(&fx.genesis));
    uint8_t *at = memmem(bytes.ptr, bytes.len, g.validators[2].public_key.ptr, 64);
    assert_non_null(at);
    at[0] ^= 1;
    hm_genesis no_key;
    assert_int_equal(hm_genesis_decode(hm_buf_bytes(&bytes), &no_key), HM_E_RANGE);
    hm_buf_free(&bytes);
    for (size_t n = 0; n < fx.genesis.len; n += 997) {
        hm_genesis bad;
        assert_int_not_equal(hm_genesis_decode(hm_bytes_of(fx.genesis.ptr, n), &bad), HM_OK);
    }
    hm_buf_free(&json);
    hm_arena_free(&arena);
    hm_genesis_free(&g);
}

// ---- an operation that fails half way -----------------------------------------------------------

static hm_err asset_fails_half_way(hm_exec *x, const hm_op *op)
{
    hm_asset_register r;
    HM_TRY(hm_module_asset.apply(x, op));
    HM_TRY(hm_asset_register_decode(op->payload, &r));
    return r.name.ptr[0] == 'x'   ? hm_fail(HM_E_OP_STATE, "half way")
           : r.name.ptr[0] == 'f' ? hm_fail(HM_E_FULL, "no space left")
                                  : HM_OK;
}

// Of a candidate whose effect fails half way nothing stays in the block that is built: others, who
// execute it, come to the same state, and its nonce and name are free.
static void test_half_way(void **state)
{
    (void)state;
    enum { COUNT = 6 };
    static const char *const names[COUNT] = {"one", "x-one", "two", "x-two", "three", "x-one"};
    static const uint64_t nonces[COUNT] = {1, 2, 3, 4, 2, 5};
    hm_module failing = hm_module_asset;
    failing.apply = asset_fails_half_way;
    const hm_module *const with[] = {&hm_module_node, &hm_module_proof, &failing, &hm_module_trust};
    hm_ledger *a = ledger_open_with("half-a", with), *b = ledger_open("half-b");
    hm_buf ops[COUNT] = {0};
    hm_bytes candidates[COUNT];
    hm_err outcome[COUNT];
    hm_hash id;
    for (unsigned i = 0; i < COUNT; i++) {
        (void)register_op(a, 0, nonces[i], names[i], &ops[i], &id);
        candidates[i] = hm_buf_bytes(&ops[i]);
    }
    step(a, b, candidates, COUNT, outcome); // compares the roots
    static const hm_err want[COUNT] = {HM_OK,         HM_E_OP_STATE, HM_OK,
                                       HM_E_OP_STATE, HM_OK,         HM_E_OP_STATE};
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(outcome[i], want[i]);
    // Past what a build starts anew for, the block ends.
    enum { MANY = 12 };
    hm_buf many[MANY] = {0};
    hm_bytes all[MANY];
    hm_err how[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        (void)register_op(a, 1, 1 + i, i == 0 || i == MANY - 1 ? "good" : "x", &many[i], &id);
        all[i] = hm_buf_bytes(&many[i]);
    }
    step(a, b, all, MANY, how);
    assert_int_equal(how[0], HM_OK);
    for (unsigned i = 1; i <= 8; i++)
        assert_int_equal(how[i], HM_E_OP_STATE);
    for (unsigned i = 9; i < MANY; i++)
        assert_int_equal(how[i], HM_E_AGAIN);
    for (unsigned i = 0; i < MANY; i++)
        hm_buf_free(&many[i]);
    for (unsigned i = 0; i < COUNT; i++)
        hm_buf_free(&ops[i]);
    hm_ledger_close(a);
    hm_ledger_close(b);
}

static int setup(void **state)
{
    (void)state;
    mesh_fixture_make(&fx);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    mesh_fixture_free(&fx);
    return 0;
}

// A full disk is this machine's failure: it makes no operation illegal and no block invalid.
static void test_full_disk(void **state)
{
    (void)state;
    hm_module failing = hm_module_asset;
    failing.apply = asset_fails_half_way;
    const hm_module *const with[] = {&hm_module_node, &hm_module_proof, &failing, &hm_module_trust};
    hm_ledger *a = ledger_open_with("full-a", with), *b = ledger_open("full-b");
    hm_buf op = {0}, block = {0}, other = {0};
    hm_view *v = NULL;
    hm_hash id;
    (void)register_op(a, 0, 1, "full", &op, &id);
    hm_bytes candidate = hm_buf_bytes(&op);
    uint64_t time_ms = fx.time_ms + 1000;
    assert_int_equal(hm_ledger_build(a, hm_ledger_tip(a), 1, &fx.ids[0], time_ms, &candidate, 1,
                                     NULL, &block, &v),
                     HM_E_FULL);
    OK(hm_ledger_build(b, hm_ledger_tip(b), 1, &fx.ids[0], time_ms, &candidate, 1, NULL, &other,
                       &v));
    hm_view_release(v);
    assert_int_equal(hm_ledger_execute(a, hm_ledger_tip(a), hm_buf_bytes(&other), &v), HM_E_FULL);
    hm_buf_free(&op);
    hm_buf_free(&block);
    hm_buf_free(&other);
    hm_ledger_close(a);
    hm_ledger_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_is_history_independent),
        cmocka_unit_test(test_life_of_an_asset),
        cmocka_unit_test(test_proofs_are_all_needed),
        cmocka_unit_test(test_epochs_and_beacons),
        cmocka_unit_test(test_branches),
        cmocka_unit_test(test_genesis_json),
        cmocka_unit_test(test_revocation_and_evidence),
        cmocka_unit_test(test_half_way),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_certificate_renewed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
