// Two ledgers of the fixture's mesh that must agree after every operation. For tests with cmocka
// that have one such chain at a time; everything is of the including program.
#ifndef TRUST_CHAIN_H
#define TRUST_CHAIN_H

#include "mesh/asset.h"
#include "mesh/proof_module.h"
#include "mesh/trust_module.h"
#include "mesh_fixture.h"

static mesh_fixture fx;
static hm_ledger *a, *b;
static uint64_t nonce[FIXTURE_MEMBERS];
static uint64_t now_ms;

// ---- a chain ------------------------------------------------------------------------------------

static hm_ledger *open_one(const char *name, const char *which)
{
    static const hm_module *const modules[] = {&hm_module_node, &hm_module_proof, &hm_module_asset,
                                               &hm_module_trust};
    char dir[160];
    snprintf(dir, sizeof dir, "%s/%s-%s", fx.dir, name, which);
    hm_ledger_config cfg = {.dir = dir,
                            .genesis = hm_buf_bytes(&fx.genesis),
                            .modules = modules,
                            .module_count = 4,
                            .proofs = &hm_proof_rules_v1,
                            .no_sync = true};
    hm_ledger *l = NULL;
    OK(hm_ledger_open(&cfg, &l));
    return l;
}

static void chain_open(const char *name)
{
    a = open_one(name, "a");
    b = open_one(name, "b");
    memset(nonce, 0, sizeof nonce);
    now_ms = fx.time_ms + 1000;
}

static hm_err any_certificate(void *ctx, hm_view *parent, const hm_block_header *h,
                              const hm_hash *id, hm_bytes cert, bool tip)
{
    (void)ctx, (void)parent, (void)h, (void)id, (void)tip;
    return hm_bytes_eq(cert, hm_bytes_str("cert")) ? HM_OK : HM_E_QUORUM;
}

// The whole chain gives the same once more.
static void chain_close(void)
{
    char scratch[160];
    hm_ledger_verify_hooks hooks = {.certificate = any_certificate};
    hm_ledger_verify_report report;
    snprintf(scratch, sizeof scratch, "%s/again", fx.dir);
    OK(hm_ledger_verify(a, scratch, &hooks, &report));
    assert_int_equal(report.blocks, hm_ledger_height(a));
    hm_ledger_close(a);
    hm_ledger_close(b);
}

// An operation in a block of its own on one ledger, and the block on the other: what came of it.
static hm_err run_one(const hm_op *op, const hm_hash *stands_on, hm_hash *id)
{
    hm_buf bytes = {0}, block = {0};
    hm_view *va = NULL, *vb = NULL;
    hm_err outcome = HM_OK;
    hm_hash root_a, root_b;
    unsigned who = 0;
    while (!hm_hash_eq(&fx.ids[who], &op->owner))
        who++;
    hm_op_inputs in = {.key = fx.keys[who]};
    OK(hm_ledger_op_inputs(a, hm_ledger_tip(a), &op->owner, op->module, op->kind, &in));
    if (stands_on)
        in.cert = *stands_on;
    OK(hm_op_finish(op, &in, &bytes, id));
    hm_bytes one = hm_buf_bytes(&bytes);
    now_ms += 1000;
    hm_err checked = hm_ledger_check(a, hm_ledger_tip(a), one, now_ms);
    OK(hm_ledger_build(a, hm_ledger_tip(a), hm_ledger_height(a) + 1, &fx.ids[0], now_ms, &one, 1,
                       &outcome, &block, &va));
    assert_int_equal(checked, outcome);
    OK(hm_ledger_execute(b, hm_ledger_tip(b), hm_buf_bytes(&block), &vb));
    OK(hm_view_root(va, &root_a));
    OK(hm_view_root(vb, &root_b));
    assert_memory_equal(root_a.b, root_b.b, 32);
    OK(hm_ledger_commit(a, va, hm_bytes_str("cert")));
    OK(hm_ledger_commit(b, vb, hm_bytes_str("cert")));
    hm_view_release(va);
    hm_view_release(vb);
    hm_buf_free(&bytes);
    hm_buf_free(&block);
    return outcome;
}

static hm_err run(unsigned who, uint8_t module, uint8_t kind, hm_bytes payload,
                  const hm_hash *stands_on, hm_hash *id)
{
    hm_op op = {.chain_id = fx.chain_id,
                .module = module,
                .kind = kind,
                .owner = fx.ids[who],
                .nonce = nonce[who] + 1,
                .payload = payload};
    hm_err err = run_one(&op, stands_on, id);
    nonce[who] += err == HM_OK;
    return err;
}

static hm_err say(unsigned who, uint8_t kind, const hm_hash *id)
{
    return run(who, HM_MODULE_TRUST, kind, hm_hash_bytes(id), NULL, NULL);
}

static hm_err approve(unsigned who, const hm_hash *id)
{
    return say(who, HM_TRUST_APPROVE, id);
}

static hm_err withdraw(unsigned who, const hm_hash *id)
{
    return say(who, HM_TRUST_WITHDRAW, id);
}

static int chain_setup(void **state)
{
    (void)state;
    mesh_fixture_make(&fx);
    return 0;
}

static int chain_teardown(void **state)
{
    (void)state;
    mesh_fixture_free(&fx);
    return 0;
}

#endif
