// Operations with their proofs, blocks and the genesis.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/proof_work.h"
#include "server/node_api_internal.h"

static hm_ledger *ledger(const hm_node_api *a)
{
    return hm_node_ledger(a->node);
}

typedef struct found_op {
    hm_hash id;
    hm_op_location at;
    hm_block_header header;
    hm_op op;
    hm_op_digests digests;
} found_op;

static bool find_op(const hm_node_api *a, hm_http_req *r, found_op *f)
{
    hm_bytes bytes;
    if (!api_param_id(r, 0, &f->id))
        return false;
    hm_err err = hm_ledger_op_find(ledger(a), &f->id, &f->at);
    if (err == HM_E_NOTFOUND) {
        hm_http_reply_err(r, err, "no operation with this id is final");
        return false;
    }
    if (err == HM_OK)
        err = hm_ledger_op_at(ledger(a), f->at, &bytes, &f->header);
    if (err == HM_OK)
        err = hm_op_decode(bytes, &f->op, &f->digests);
    if (err == HM_OK)
        return true;
    api_refuse(r, err);
    return false;
}

void api_operation(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    found_op f;
    hm_buf b = {0}, payload = {0};
    if (!find_op(a, r, &f))
        return;
    const char *module = hm_ledger_module_name(ledger(a), f.op.module);
    const char *kind = hm_ledger_kind_name(ledger(a), f.op.module, f.op.kind);
    hm_jw_open(&b, NULL, '{');
    hm_jw_hex(&b, "id", f.id.b, 32);
    hm_jw_u64(&b, "height", f.at.height);
    hm_jw_u64(&b, "index", f.at.index);
    hm_jw_str(&b, "module", module ? module : "?");
    hm_jw_str(&b, "kind", kind ? kind : "?");
    hm_jw_hex(&b, "owner", f.op.owner.b, 32);
    hm_jw_hex(&b, "asset", f.op.asset.b, 32);
    hm_jw_u64(&b, "nonce", f.op.nonce);
    hm_jw_u64(&b, "time_ms", f.header.time_ms);
    if (hm_ledger_describe(ledger(a), &f.op, &payload) == HM_OK && payload.len)
        hm_jw_raw(&b, "payload", hm_buf_bytes(&payload));
    else
        hm_jw_str(&b, "payload", NULL);
    hm_jw_close(&b, '}');
    hm_buf_free(&payload);
    api_send(r, 200, &b);
}

// ---- proofs -------------------------------------------------------------------------------------

// A proof is written as its checks come; its own result is that of all of them.
typedef struct proof_out {
    hm_buf checks;
    bool passed;
} proof_out;

static void check(proof_out *p, const char *what, bool passed, const char *detail)
{
    p->passed = p->passed && passed;
    hm_jw_open(&p->checks, NULL, '{');
    hm_jw_str(&p->checks, "what", what);
    hm_jw_bool(&p->checks, "passed", passed);
    hm_jw_str(&p->checks, "detail", detail);
    hm_jw_close(&p->checks, '}');
}

static proof_out proof_begin(void)
{
    proof_out p = {.passed = true};
    hm_jw_open(&p.checks, NULL, '[');
    return p;
}

static void proof_end(proof_out *p, hm_buf *b, const char *name, const char *summary)
{
    hm_jw_close(&p->checks, ']');
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "name", name);
    hm_jw_bool(b, "passed", p->passed);
    hm_jw_str(b, "summary", summary);
    hm_jw_raw(b, "checks", hm_buf_bytes(&p->checks));
    hm_jw_close(b, '}');
    hm_buf_free(&p->checks);
}

// What needs the state as it was then (the accepted answer, the beacon, the difficulty) was checked
// by every validator before it voted; the block's certificate is the witness of that.
static void put_witness(proof_out *p, const found_op *f, const char *what)
{
    char detail[128];
    snprintf(detail, sizeof(detail), "in block %llu, certified by a quorum of validators",
             (unsigned long long)f->at.height);
    check(p, what, true, detail);
}

static void put_space(hm_buf *b, const found_op *f)
{
    proof_out p = proof_begin();
    char detail[160], given[46], want[46], hex[65];
    uint8_t addr[16];
    const hm_op_space *s = &f->op.space;
    if (f->op.has_space) {
        hm_overlay_addr(&f->op.owner, 0, addr);
        snprintf(detail, sizeof(detail), "%s; the owner's is %s", api_addr_text(s->addr, given),
                 api_addr_text(addr, want));
        check(&p, "the address is the owner's", memcmp(addr, s->addr, 16) == 0, detail);
        hm_hex(hex, s->answer.b, 32);
        snprintf(detail, sizeof(detail), "sector %u, epoch %llu, answer %s", s->sector,
                 (unsigned long long)s->epoch, hex);
        check(&p, "it names an answer", !hm_hash_is_zero(&s->answer), detail);
        put_witness(&p, f, "the answer was the owner's accepted one");
    }
    proof_end(&p, b, "space",
              f->op.has_space ? "WHERE: the owner holds its sealed sector"
                              : "not asked of a system operation");
}

static void put_time(hm_buf *b, const found_op *f)
{
    proof_out p = proof_begin();
    char detail[160], hex[65];
    if (f->op.has_time) {
        hm_hex(hex, f->op.time.value.b, 32);
        snprintf(detail, sizeof(detail), "beacon %llu, value %s",
                 (unsigned long long)f->op.time.index, hex);
        check(&p, "it names a beacon", !hm_hash_is_zero(&f->op.time.value), detail);
        put_witness(&p, f, "the beacon was a recent one with that value");
    }
    proof_end(&p, b, "time",
              f->op.has_time ? "WHEN: made after the beacon, final with the block"
                             : "not asked of a system operation");
}

static void put_stake(hm_node_api *a, hm_buf *b, const found_op *f)
{
    proof_out p = proof_begin();
    hm_view *tip = hm_ledger_tip(ledger(a));
    hm_bytes key;
    hm_member_cert cert;
    hm_member member;
    char detail[160];
    check(&p, "it is signed", f->op.has_stake, "");
    hm_err err = hm_ledger_public_key(tip, &f->op.owner, &key);
    if (err == HM_OK)
        err = hm_op_verify_signature(&f->op, &f->digests, key);
    check(&p, "the FALCON-1024 signature verifies now", err == HM_OK,
          err == HM_OK ? "under the owner's key" : hm_err_text(err));
    bool mine = hm_member_cert_find(tip, &f->op.stake_cert, &cert) == HM_OK &&
                hm_hash_eq(&cert.node, &f->op.owner);
    check(&p, "the certificate is the owner's", mine,
          !mine          ? "the ledger does not hold it"
          : cert.revoked ? "revoked since"
                         : "in force");
    bool in_time =
        mine && cert.not_before_ms <= f->header.time_ms && f->header.time_ms <= cert.not_after_ms;
    check(&p, "the certificate was in its time", in_time, "at the time of the block");
    if (hm_member_find(tip, &f->op.owner, &member) == HM_OK) {
        snprintf(detail, sizeof(detail), "%llu bonded now", (unsigned long long)member.stake);
        check(&p, "the owner is a member", true, detail);
    } else {
        check(&p, "the owner is a member", false, "the ledger does not know it");
    }
    put_witness(&p, f, "stake and rights were enough");
    proof_end(&p, b, "stake", "WHO: the owner signed with its certified key and has stake");
}

static void put_work(hm_buf *b, const found_op *f)
{
    proof_out p = proof_begin();
    char detail[160];
    uint64_t low = 1, high = HM_WORK_DIFFICULTY_MAX;
    while (low < high) { // the highest difficulty that the nonce meets
        uint64_t mid = low + (high - low + 1) / 2;
        if (hm_work_check(&f->digests.work, mid, f->op.work_nonce))
            low = mid;
        else
            high = mid - 1;
    }
    snprintf(detail, sizeof(detail), "nonce %llu meets difficulty %llu; the least is %u",
             (unsigned long long)f->op.work_nonce, (unsigned long long)low, HM_WORK_DIFFICULTY_MIN);
    check(&p, "the puzzle is solved",
          f->op.has_work &&
              hm_work_check(&f->digests.work, HM_WORK_DIFFICULTY_MIN, f->op.work_nonce),
          detail);
    put_witness(&p, f, "the difficulty was the one of that block");
    proof_end(&p, b, "work", "HOW: a puzzle over the whole operation was solved");
}

void api_operation_proofs(void *ctx, hm_http_req *r)
{
    found_op f;
    hm_buf b = {0};
    if (!find_op(ctx, r, &f))
        return;
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    put_space(&b, &f);
    put_stake(ctx, &b, &f);
    put_work(&b, &f);
    put_time(&b, &f);
    hm_jw_close(&b, ']');
    hm_jw_close(&b, '}');
    api_send(r, 200, &b);
}

// ---- blocks -------------------------------------------------------------------------------------

static hm_err put_block(const hm_node_api *a, hm_buf *b, uint64_t height)
{
    hm_bytes bytes;
    hm_block block;
    char name[64];
    HM_TRY(hm_ledger_block_at(ledger(a), height, &bytes, NULL));
    HM_TRY(hm_block_decode(bytes, &block));
    const hm_block_header *h = &block.header;
    api_node_name(a, &h->proposer, name);
    hm_jw_open(b, NULL, '{');
    hm_jw_u64(b, "height", h->height);
    hm_jw_hex(b, "id", block.id.b, 32);
    hm_jw_hex(b, "parent", h->parent.b, 32);
    hm_jw_u64(b, "view", h->view);
    hm_jw_hex(b, "proposer", h->proposer.b, 32);
    hm_jw_str(b, "proposer_name", name);
    hm_jw_u64(b, "time_ms", h->time_ms);
    hm_jw_u64(b, "epoch", h->epoch);
    hm_jw_hex(b, "ops_root", h->ops_root.b, 32);
    hm_jw_u64(b, "ops_count", h->ops_count);
    hm_jw_hex(b, "state_root", h->state_root.b, 32);
    hm_jw_open(b, "ops", '[');
    for (uint32_t i = 0; i < block.count; i++) {
        hm_hash id = hm_op_id(block.ops[i]);
        hm_jw_hex(b, NULL, id.b, 32);
    }
    hm_jw_close(b, ']');
    hm_jw_close(b, '}');
    hm_block_free(&block);
    return hm_buf_status(b);
}

// Newest first; cursor is the height below which to go on.
void api_blocks(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    uint64_t limit, cursor;
    hm_buf b = {0};
    hm_err err = HM_OK;
    if (!api_query_u64(r, "limit", 20, 100, &limit) ||
        !api_query_u64(r, "cursor", UINT64_MAX, UINT64_MAX, &cursor))
        return;
    uint64_t height = hm_ledger_height(ledger(a));
    if (cursor <= height)
        height = cursor ? cursor - 1 : 0;
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (; err == HM_OK && height > 0 && limit > 0; height--, limit--)
        err = put_block(a, &b, height);
    hm_jw_close(&b, ']');
    char next[24];
    snprintf(next, sizeof(next), "%llu", (unsigned long long)height + 1);
    hm_jw_str(&b, "next", height ? next : NULL);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        api_send(r, 200, &b);
    } else {
        hm_buf_free(&b);
        api_refuse(r, err);
    }
}

static bool block_height(const hm_node_api *a, hm_http_req *r, uint64_t *out)
{
    const char *text = hm_http_param(r, 0);
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || strlen(text) > 19) {
        hm_http_reply_err(r, HM_E_PARSE, "a block is named by its height, a number from 1");
        return false;
    }
    if (n == 0 || n > hm_ledger_height(ledger(a))) {
        hm_http_reply_err(r, HM_E_NOTFOUND, "no block of this height is final here");
        return false;
    }
    *out = n;
    return true;
}

void api_block(void *ctx, hm_http_req *r)
{
    uint64_t height;
    hm_buf b = {0};
    if (!block_height(ctx, r, &height))
        return;
    hm_err err = put_block(ctx, &b, height);
    if (err == HM_OK) {
        api_send(r, 200, &b);
    } else {
        hm_buf_free(&b);
        api_refuse(r, err);
    }
}

// The block and its certificate as two length-prefixed byte strings (base/wire.h).
void api_block_raw(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    uint64_t height;
    hm_bytes block, certificate;
    hm_buf b = {0};
    if (!block_height(a, r, &height))
        return;
    hm_err err = hm_ledger_block_at(ledger(a), height, &block, &certificate);
    if (err == HM_OK) {
        hm_wr_bytes(&b, block);
        hm_wr_bytes(&b, certificate);
        err = hm_buf_status(&b);
    }
    if (err == HM_OK)
        hm_http_reply(r, 200, "application/octet-stream", hm_buf_bytes(&b));
    else
        api_refuse(r, err);
    hm_buf_free(&b);
}

// Canonical bytes, or with ?format=json the view for people.
void api_genesis(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    const hm_genesis *g = hm_ledger_genesis(ledger(a));
    const char *format = hm_http_query(r, "format");
    bool json = format && strcmp(format, "json") == 0;
    hm_buf b = {0};
    hm_hash id;
    hm_err err = json ? hm_genesis_to_json(g, &b) : hm_genesis_encode(g, &b, &id);
    if (err == HM_OK)
        hm_http_reply(r, 200, json ? "application/json" : "application/octet-stream",
                      hm_buf_bytes(&b));
    else
        api_refuse(r, err);
    hm_buf_free(&b);
}
