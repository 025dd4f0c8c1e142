// Payloads of operations on a ledger with members, assets, an answer and a beacon that are due.
// The first byte: the kind of operation, and (bit 7) whether the payload is given or is how a true
// one is changed. Then owner, asset and nonce, then payload or changes.
//
// Nothing is taken without its owner's signature. A changed answer, beacon, certificate or
// revocation list is refused. What a module takes, it can do, say in JSON, and (a registration)
// write again in the same bytes.
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "mesh/asset.h"
#include "mesh/ledger_internal.h"
#include "mesh/node_module.h"
#include "mesh/proof_module.h"
#include "mesh/proof_work.h"
#include "mesh_fixture.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    uint8_t module, kind;
} kinds[] = {
    {HM_MODULE_ASSET, HM_ASSET_REGISTER},
    {HM_MODULE_ASSET, HM_ASSET_TRANSFER},
    {HM_MODULE_ASSET, HM_ASSET_SET_STATE},
    {HM_MODULE_ASSET, HM_ASSET_RETIRE},
    {HM_MODULE_ASSET, HM_ASSET_SET_POLICY},
    {HM_MODULE_NODE, HM_NODE_CERT},
    {HM_MODULE_NODE, HM_NODE_CRL},
    {HM_MODULE_NODE, HM_NODE_EVIDENCE},
    {HM_MODULE_PROOF, HM_PROOF_SPACE_ANSWER},
    {HM_MODULE_PROOF, HM_PROOF_BEACON},
};
#define KINDS (sizeof kinds / sizeof kinds[0])
#define ASSETS 3u

static mesh_fixture fx;
static hm_ledger *ledger;
static hm_hash assets[ASSETS];
static hm_buf templates[KINDS];

static void must(hm_err err)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "set-up: %s: %s\n", hm_err_text(err), hm_err_detail());
    abort();
}

// ---- set-up -------------------------------------------------------------------------------------

static hm_err evidence_says(const hm_exec *x, hm_bytes evidence, uint32_t *offender)
{
    (void)x;
    if (evidence.len != 1 || evidence.ptr[0] >= FIXTURE_MEMBERS)
        return hm_fail(HM_E_VOTE, "no evidence");
    *offender = evidence.ptr[0];
    return HM_OK;
}

static void make_block(const hm_bytes *ops, size_t count)
{
    hm_buf block = {0};
    hm_view *v = NULL;
    hm_err outcome[8] = {0};
    uint64_t h = hm_ledger_height(ledger) + 1;
    must(hm_ledger_build(ledger, hm_ledger_tip(ledger), h, &fx.ids[0], fx.time_ms + 1000 * h, ops,
                         count, outcome, &block, &v));
    for (size_t i = 0; i < count; i++)
        must(outcome[i]);
    must(hm_ledger_commit(ledger, v, hm_bytes_str("certificate")));
    hm_view_release(v);
    hm_buf_free(&block);
}

static void make_assets(void)
{
    static const char *const names[ASSETS] = {"one", "two", "three"};
    for (unsigned i = 0; i < ASSETS; i++) {
        hm_buf payload = {0}, bytes = {0};
        hm_asset_register r = {.kind = HM_ASSET_CPU, .name = hm_bytes_str(names[i])};
        r.policy.is_public = i == 0;
        must(hm_asset_register_encode(&r, &payload));
        assets[i] = hm_asset_id(&fx.chain_id, &fx.ids[i], 1);
        hm_op op = {.chain_id = fx.chain_id,
                    .module = HM_MODULE_ASSET,
                    .kind = HM_ASSET_REGISTER,
                    .owner = fx.ids[i],
                    .asset = assets[i],
                    .nonce = 1,
                    .payload = hm_buf_bytes(&payload)};
        hm_op_inputs in = {.key = fx.keys[i]};
        must(hm_ledger_op_inputs(ledger, hm_ledger_tip(ledger), &fx.ids[i], op.module, op.kind,
                                 &in));
        must(hm_op_finish(&op, &in, &bytes, NULL));
        make_block(&(hm_bytes){bytes.ptr, bytes.len}, 1);
        hm_buf_free(&payload);
        hm_buf_free(&bytes);
    }
}

static void make_templates(void)
{
    hm_buf out = {0}, der = {0}, csr = {0};
    hm_hash seed, input;
    hm_time_group group;
    uint64_t epoch, index, since;
    must(tc_node_csr(fx.keys[0], "node-1", &csr));
    must(tc_issue_node(fx.authority, hm_buf_bytes(&csr), fx.time_ms, &out, NULL));
    must(tc_pem_to_der(hm_buf_bytes(&out), &der));
    hm_node_payload_encode(hm_buf_bytes(&der), &templates[5]);
    hm_buf_reset(&out);
    must(tc_revoke(fx.authority, &fx.issued[2].serial, 1, fx.time_ms + 100));
    must(tc_authority_crl(fx.authority, TC_MESH, fx.time_ms + 200, &out));
    hm_node_payload_encode(hm_buf_bytes(&out), &templates[6]);
    hm_buf_reset(&out);
    must(hm_proof_answer_due(hm_ledger_tip(ledger), &fx.ids[0], &epoch, &seed));
    must(hm_space_answer(fx.sectors[0], &seed, &out));
    hm_proof_answer_encode(0, epoch, hm_buf_bytes(&out), &templates[8]);
    hm_buf_reset(&out);
    must(hm_proof_beacon_due(hm_ledger_tip(ledger), &index, &input, &since));
    must(hm_proof_time_group(hm_ledger_genesis(ledger), &group));
    must(hm_time_eval(&group, &input, NULL, &out));
    hm_proof_beacon_encode(index, hm_buf_bytes(&out), &templates[9]);
    hm_buf_free(&out);
    hm_buf_free(&der);
    hm_buf_free(&csr);
}

static void clean_up(void)
{
    hm_ledger_close(ledger);
    mesh_fixture_free(&fx);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const hm_module *const modules[] = {&hm_module_node, &hm_module_proof, &hm_module_asset,
                                               &hm_module_trust};
    char dir[128];
    (void)argc, (void)argv;
    mesh_fixture_make(&fx);
    snprintf(dir, sizeof dir, "%s/ledger", fx.dir);
    hm_ledger_config cfg = {.dir = dir,
                            .genesis = hm_buf_bytes(&fx.genesis),
                            .modules = modules,
                            .module_count = 4,
                            .proofs = &hm_proof_rules_v1,
                            .evidence = evidence_says,
                            .no_sync = true};
    must(hm_ledger_open(&cfg, &ledger));
    atexit(clean_up);
    make_assets();
    while (hm_ledger_height(ledger) < hm_ledger_genesis(ledger)->params.epoch_blocks)
        make_block(NULL, 0);
    make_templates();
    return 0;
}

// ---- checks -------------------------------------------------------------------------------------

static void check_json(const hm_op *op)
{
    hm_buf json = {0};
    hm_err err = hm_ledger_describe(ledger, op, &json);
    hm_assert(err == HM_OK);
    yyjson_doc *doc = yyjson_read((const char *)json.ptr, json.len, 0);
    hm_assert(doc != NULL && yyjson_is_obj(yyjson_doc_get_root(doc)));
    yyjson_doc_free(doc);
    hm_buf_free(&json);
}

static void check_taken(const hm_module *m, const hm_op *op, uint64_t time_ms)
{
    hm_view *v = NULL, *tip = hm_ledger_tip(ledger);
    hm_asset a;
    must(view_make(ledger, tip, &v));
    hm_exec x = ledger_exec(ledger, v, tip, time_ms);
    x.op_id = hm_sha256(op->payload);
    hm_assert(m->check(&x, op) == HM_OK && m->apply(&x, op) == HM_OK);
    must(view_seal(v));
    if (op->module == HM_MODULE_ASSET) {
        hm_assert(hm_asset_get(v, &op->asset, &a) == HM_OK);
        hm_assert(hm_asset_kind_name(a.kind) != NULL && hm_asset_state_name(a.state) != NULL);
    }
    hm_view_release(v);
    check_json(op);
    if (op->module == HM_MODULE_ASSET && op->kind == HM_ASSET_REGISTER) {
        hm_asset_register r;
        hm_buf again = {0};
        hm_assert(hm_asset_register_decode(op->payload, &r) == HM_OK);
        hm_assert(hm_asset_register_encode(&r, &again) == HM_OK);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&again), op->payload));
        hm_buf_free(&again);
    }
}

// All but the signature is as it should be.
static void check_unsigned(hm_op *op, unsigned who, uint64_t time_ms)
{
    hm_op_inputs in = {0};
    hm_buf bytes = {0};
    hm_op_digests d;
    hm_op again;
    static const uint8_t no_signature[40] = {0x3a};
    must(hm_ledger_op_inputs(ledger, hm_ledger_tip(ledger), &fx.ids[who], op->module, op->kind,
                             &in));
    op->has_space = op->has_time = in.full;
    op->space = in.space;
    op->time = in.time;
    op->has_stake = op->has_work = true;
    op->stake_cert = in.cert;
    op->stake_signature = hm_bytes_of(no_signature, sizeof no_signature);
    hm_op_encode(&bytes, op);
    must(hm_op_decode(hm_buf_bytes(&bytes), &again, &d));
    must(hm_work_solve(&d.work, in.difficulty, NULL, &op->work_nonce, NULL));
    hm_buf_reset(&bytes);
    hm_op_encode(&bytes, op);
    hm_assert(hm_ledger_check(ledger, hm_ledger_tip(ledger), hm_buf_bytes(&bytes), time_ms) !=
              HM_OK);
    hm_buf_free(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t payload[HM_OP_PAYLOAD_MAX];
    if (size < 4 || size > HM_OP_PAYLOAD_MAX)
        return 0;
    unsigned k = (data[0] & 0x7f) % KINDS, who = data[1] % FIXTURE_MEMBERS;
    const hm_buf *good = &templates[k];
    size_t len = size - 4;
    bool templated = (data[0] & 0x80) && good->len > 0;
    if (templated) {
        len = good->len;
        memcpy(payload, good->ptr, len);
        for (size_t i = 4; i + 2 < size; i += 3)
            payload[((size_t)data[i] << 8 | data[i + 1]) % len] ^= data[i + 2];
        who = 0;
    } else if (len > 0) {
        memcpy(payload, data + 4, len);
    }
    const hm_module *m = ledger_module(ledger, kinds[k].module);
    uint64_t time_ms = fx.time_ms + 3600000;
    hm_op op = {.chain_id = fx.chain_id,
                .module = kinds[k].module,
                .kind = kinds[k].kind,
                .owner = fx.ids[who],
                .nonce = data[3],
                .payload = hm_bytes_of(payload, len)};
    if (op.module == HM_MODULE_ASSET)
        op.asset = op.kind == HM_ASSET_REGISTER ? hm_asset_id(&fx.chain_id, &op.owner, op.nonce)
                                                : assets[data[2] % ASSETS];
    hm_view *tip = hm_ledger_tip(ledger);
    hm_exec x = ledger_exec(ledger, tip, tip, time_ms);
    if (m->check(&x, &op) == HM_OK) {
        hm_assert(!templated || hm_bytes_eq(op.payload, hm_buf_bytes(good)));
        check_taken(m, &op, time_ms);
    } else {
        hm_assert(!templated || !hm_bytes_eq(op.payload, hm_buf_bytes(good)));
    }
    check_unsigned(&op, who, time_ms);
    return 0;
}
