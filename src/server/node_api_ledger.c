// Operations, blocks and the genesis.
#include <stdio.h>
#include <stdlib.h>

#include "server/node_api_internal.h"

#define OPERATIONS_SCAN 512u // blocks that one listing looks at

static hm_ledger *ledger(const hm_node_api *a)
{
    return hm_node_ledger(a->node);
}

// ---- operations ---------------------------------------------------------------------------------

bool api_find_op(const hm_node_api *a, hm_http_req *r, api_found_op *f)
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

static void put_operation(const hm_node_api *a, hm_buf *b, const hm_hash *id, hm_op_location at,
                          const hm_op *op, uint64_t time_ms)
{
    char owner[64];
    hm_buf payload = {0};
    const char *module = hm_ledger_module_name(ledger(a), op->module);
    const char *kind = hm_ledger_kind_name(ledger(a), op->module, op->kind);
    api_node_name(a, &op->owner, owner);
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "id", id->b, 32);
    hm_jw_u64(b, "height", at.height);
    hm_jw_u64(b, "index", at.index);
    hm_jw_str(b, "module", module ? module : "?");
    hm_jw_str(b, "kind", kind ? kind : "?");
    hm_jw_hex(b, "owner", op->owner.b, 32);
    hm_jw_str(b, "owner_name", owner);
    hm_jw_hex(b, "asset", op->asset.b, 32);
    hm_jw_u64(b, "nonce", op->nonce);
    hm_jw_u64(b, "time_ms", time_ms);
    if (hm_ledger_describe(ledger(a), op, &payload) == HM_OK && payload.len)
        hm_jw_raw(b, "payload", hm_buf_bytes(&payload));
    else
        hm_jw_str(b, "payload", NULL);
    hm_jw_close(b, '}');
    hm_buf_free(&payload);
}

void api_operation(void *ctx, hm_http_req *r)
{
    api_found_op f;
    hm_buf b = {0};
    if (!api_find_op(ctx, r, &f))
        return;
    put_operation(ctx, &b, &f.id, f.at, &f.op, f.header.time_ms);
    hm_http_reply_json(r, 200, &b);
}

static hm_err put_op_of(const hm_node_api *a, hm_buf *b, const hm_block *block, uint32_t index)
{
    hm_op op;
    hm_op_digests d;
    HM_TRY(hm_op_decode(block->ops[index], &op, &d));
    put_operation(a, b, &d.id, (hm_op_location){block->header.height, index}, &op,
                  block->header.time_ms);
    return HM_OK;
}

// Newest first; cursor is the place below which to go on.
void api_operations(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    uint64_t limit;
    hm_op_location place = {UINT64_MAX, 0};
    hm_buf b = {0};
    hm_err err = HM_OK;
    if (!api_query_limit(r, 20, 100, &limit) || !api_query_place(r, &place))
        return;
    uint64_t height = place.height;
    uint32_t below = place.index;
    if (height > hm_ledger_height(ledger(a))) {
        height = hm_ledger_height(ledger(a));
        below = UINT32_MAX;
    }
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (uint32_t seen = 0; height > 0 && limit > 0 && seen < OPERATIONS_SCAN; seen++) {
        hm_bytes bytes;
        hm_block block = {0};
        err = hm_ledger_block_at(ledger(a), height, &bytes, NULL);
        if (err == HM_OK)
            err = hm_block_decode(bytes, &block);
        uint32_t at = err == HM_OK && below > block.count ? block.count : below;
        for (; err == HM_OK && at > 0 && limit > 0; limit--)
            err = put_op_of(a, &b, &block, --at);
        hm_block_free(&block);
        if (err != HM_OK)
            break;
        below = at > 0 ? at : UINT32_MAX;
        height -= at == 0;
    }
    hm_jw_close(&b, ']');
    char next[40];
    // Below the whole of a block is below more operations than a block can have.
    snprintf(next, sizeof(next), "%llu.%u", (unsigned long long)height,
             below < HM_BLOCK_OPS_MAX ? below : HM_BLOCK_OPS_MAX);
    hm_jw_str(&b, "next", height ? next : NULL);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        api_refuse(r, err);
    }
}

// ---- blocks -------------------------------------------------------------------------------------

static hm_err put_block(const hm_node_api *a, hm_buf *b, uint64_t height, bool with_ops)
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
    if (with_ops) {
        hm_jw_open(b, "ops", '[');
        for (uint32_t i = 0; i < block.count; i++) {
            hm_hash id = hm_op_id(block.ops[i]);
            hm_jw_hex(b, NULL, id.b, 32);
        }
        hm_jw_close(b, ']');
    }
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
    if (!api_query_limit(r, 20, 100, &limit) ||
        !api_query_u64(r, "cursor", UINT64_MAX, UINT64_MAX, &cursor))
        return;
    uint64_t height = hm_ledger_height(ledger(a));
    if (cursor <= height)
        height = cursor ? cursor - 1 : 0;
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (; err == HM_OK && height > 0 && limit > 0; height--, limit--)
        err = put_block(a, &b, height, false);
    hm_jw_close(&b, ']');
    char next[24];
    snprintf(next, sizeof(next), "%llu", (unsigned long long)height + 1);
    hm_jw_str(&b, "next", height ? next : NULL);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
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
    hm_err err = put_block(ctx, &b, height, true);
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        api_refuse(r, err);
    }
}

// In the block's order; cursor is the place at which to go on.
void api_block_operations(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    uint64_t height, limit, cursor;
    hm_bytes bytes;
    hm_block block = {0};
    hm_buf b = {0};
    if (!block_height(a, r, &height) || !api_query_limit(r, 50, 100, &limit) ||
        !api_query_u64(r, "cursor", 0, HM_BLOCK_OPS_MAX, &cursor))
        return;
    hm_err err = hm_ledger_block_at(ledger(a), height, &bytes, NULL);
    if (err == HM_OK)
        err = hm_block_decode(bytes, &block);
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (; err == HM_OK && cursor < block.count && limit > 0; cursor++, limit--)
        err = put_op_of(a, &b, &block, (uint32_t)cursor);
    hm_jw_close(&b, ']');
    char next[24];
    snprintf(next, sizeof(next), "%llu", (unsigned long long)cursor);
    hm_jw_str(&b, "next", cursor < block.count ? next : NULL);
    hm_jw_close(&b, '}');
    hm_block_free(&block);
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
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
