// Assets: reading from the ledger's tip, writing by operations that are answered once they are
// final.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/name.h"
#include "server/api_json.h"
#include "server/node_api_internal.h"

// ---- reading ------------------------------------------------------------------------------------

static hm_err first_op(void *ctx, const hm_asset_event *e)
{
    *(hm_hash *)ctx = e->op_id;
    return HM_OK;
}

void api_put_commitment(hm_buf *b, const char *name, const hm_commitment *c)
{
    hm_jw_open(b, name, '{');
    hm_jw_u64(b, "size", c->size);
    hm_jw_u64(b, "chunk_bytes", c->chunk_bytes);
    hm_jw_u64(b, "chunks", c->chunk_count);
    hm_jw_hex(b, "root", c->root.b, 32);
    hm_jw_close(b, '}');
}

static void put_grants(hm_buf *b, const hm_asset_policy *p)
{
    static const char *const words[] = {"read", "use", "manage"};
    hm_jw_open(b, "grants", '[');
    for (uint32_t i = 0; i < p->grant_count; i++) {
        hm_jw_open(b, NULL, '{');
        hm_jw_hex(b, "node", p->grants[i].node.b, 32);
        hm_jw_open(b, "rights", '[');
        for (unsigned k = 0; k < 3; k++)
            if (p->grants[i].rights & 1u << k)
                hm_jw_str(b, NULL, words[k]);
        hm_jw_close(b, ']');
        hm_jw_close(b, '}');
    }
    hm_jw_close(b, ']');
}

static hm_err put_asset(const hm_node_api *a, hm_buf *b, const hm_asset *x)
{
    char owner[64], addr[46];
    hm_hash op = {0};
    hm_op_location after = {0};
    HM_TRY(hm_asset_history(api_tip(a), &x->id, &after, 1, first_op, &op));
    api_node_name(a, &x->owner, owner);
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "id", x->id.b, 32);
    hm_jw_str(b, "kind", hm_asset_kind_name(x->kind));
    hm_jw_text(b, "name", hm_bytes_of(x->name, x->name_len));
    hm_jw_hex(b, "owner", x->owner.b, 32);
    hm_jw_str(b, "owner_name", owner);
    hm_jw_str(b, "state", hm_asset_state_name(x->state));
    if (x->has_holder)
        hm_jw_hex(b, "holder", x->holder.b, 32);
    else
        hm_jw_str(b, "holder", NULL);
    hm_jw_str(b, "policy", x->policy.is_public ? "public" : "private");
    put_grants(b, &x->policy);
    hm_jw_str(b, "addr", api_addr_text(x->addr, addr));
    hm_jw_u64(b, "registered_height", x->seq >> 16);
    hm_jw_u64(b, "registered_ms", x->created_ms);
    hm_jw_u64(b, "updated_height", x->updated_height);
    hm_jw_u64(b, "updated_ms", x->updated_ms);
    hm_jw_u64(b, "revision", x->revision);
    hm_jw_hex(b, "registered_op", op.b, 32);
    if (x->has_content)
        api_put_commitment(b, "content", &x->content);
    else
        hm_jw_str(b, "content", NULL);
    hm_jw_close(b, '}');
    return hm_buf_status(b);
}

struct list_ctx {
    const hm_node_api *a;
    hm_buf *b;
};

static hm_err list_each(void *ctx, const hm_asset *x)
{
    struct list_ctx *l = ctx;
    return put_asset(l->a, l->b, x);
}

static bool read_word(hm_http_req *r, const char *name, uint8_t (*parse)(hm_bytes), uint8_t *out)
{
    char detail[64];
    const char *word = hm_http_query(r, name);
    if (!word || !*word)
        return true;
    *out = parse(hm_bytes_str(word));
    if (*out)
        return true;
    snprintf(detail, sizeof(detail), "parameter %s is no known word", name);
    hm_http_reply_err(r, HM_E_PARSE, detail);
    return false;
}

bool api_query_owner(const hm_node_api *a, hm_http_req *r, hm_node_id *id, bool *given)
{
    hm_node_peer peers[HM_GENESIS_VALIDATORS_MAX];
    const char *word = hm_http_query(r, "owner");
    *given = word && *word;
    if (!*given || hm_unhex(id->b, 32, word, strlen(word)) == HM_OK)
        return true;
    size_t n = hm_node_get_peers(a->node, peers, HM_GENESIS_VALIDATORS_MAX);
    for (size_t i = 0; i < n && i < HM_GENESIS_VALIDATORS_MAX; i++)
        if (strcmp(peers[i].name, word) == 0) {
            *id = peers[i].id;
            return true;
        }
    hm_http_reply_err(r, HM_E_PARSE, "parameter owner is no node's id or name");
    return false;
}

static bool read_id_beginning(hm_http_req *r, char out[2 * HM_HASH_BYTES + 1])
{
    const char *text = hm_http_query(r, "id");
    size_t n = 0;
    for (; text && text[n] && n < 2 * HM_HASH_BYTES; n++)
        out[n] = (char)(text[n] >= 'A' && text[n] <= 'F' ? text[n] - 'A' + 'a' : text[n]);
    out[n] = 0;
    if (strspn(out, "0123456789abcdef") == n && !(text && text[n]))
        return true;
    hm_http_reply_err(r, HM_E_PARSE, "parameter id must be up to 64 hexadecimal digits");
    return false;
}

void api_assets_list(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_asset_filter f = {0};
    hm_node_id owner;
    bool has_owner;
    uint64_t cursor, limit;
    const char *q = hm_http_query(r, "q"), *name = hm_http_query(r, "name");
    char id[2 * HM_HASH_BYTES + 1];
    if (!read_word(r, "kind", hm_asset_kind_parse, &f.kind) ||
        !read_word(r, "state", hm_asset_state_parse, &f.state) ||
        !api_query_owner(a, r, &owner, &has_owner) || !read_id_beginning(r, id) ||
        !api_query_u64(r, "cursor", UINT64_MAX, UINT64_MAX, &cursor) ||
        !api_query_limit(r, 50, HM_API_PAGE_MAX, &limit))
        return;
    f.owner = has_owner ? &owner : NULL;
    f.name_contains = q ? hm_bytes_str(q) : (hm_bytes){0};
    f.name = name ? hm_bytes_str(name) : (hm_bytes){0};
    f.id_begins = hm_bytes_str(id);
    hm_buf b = {0};
    struct list_ctx l = {a, &b};
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    hm_err err = hm_asset_list(api_tip(a), &f, &cursor, (uint32_t)limit, list_each, &l);
    hm_jw_close(&b, ']');
    char next[24];
    snprintf(next, sizeof(next), "%llu", (unsigned long long)cursor);
    hm_jw_str(&b, "next", cursor ? next : NULL);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        api_refuse(r, err);
    }
}

bool api_find_asset(const hm_node_api *a, hm_http_req *r, hm_asset *x)
{
    hm_hash id;
    if (!api_param_id(r, 0, &id))
        return false;
    hm_err err = hm_asset_get(api_tip(a), &id, x);
    if (err == HM_OK)
        return true;
    hm_http_reply_err(r, err, err == HM_E_NOTFOUND ? "no asset has this id" : hm_err_detail());
    return false;
}

void api_asset_get(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_asset x;
    hm_buf b = {0};
    if (!api_find_asset(a, r, &x))
        return;
    hm_err err = put_asset(a, &b, &x);
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        api_refuse(r, err);
    }
}

struct history_ctx {
    const hm_node_api *a;
    hm_buf *b;
    uint32_t count;
};

static hm_err history_each(void *ctx, const hm_asset_event *e)
{
    struct history_ctx *l = ctx;
    hm_buf *b = l->b;
    char owner[64], actor[64], detail[160];
    const char *action = hm_ledger_kind_name(hm_node_ledger(l->a->node), HM_MODULE_ASSET, e->kind);
    api_node_name(l->a, &e->owner, owner);
    api_node_name(l->a, &e->by, actor);
    snprintf(detail, sizeof(detail), "%s, owner %s", hm_asset_state_name(e->state), owner);
    hm_jw_open(b, NULL, '{');
    hm_jw_u64(b, "height", e->height);
    hm_jw_u64(b, "index", e->index);
    hm_jw_u64(b, "time_ms", e->time_ms);
    hm_jw_hex(b, "op", e->op_id.b, 32);
    hm_jw_str(b, "action", action ? action : "?");
    hm_jw_hex(b, "actor", e->by.b, 32);
    hm_jw_str(b, "actor_name", actor);
    hm_jw_str(b, "state", hm_asset_state_name(e->state));
    hm_jw_hex(b, "owner", e->owner.b, 32);
    hm_jw_str(b, "detail", detail);
    hm_jw_close(b, '}');
    l->count++;
    return hm_buf_status(b);
}

void api_asset_history(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_asset x;
    hm_buf b = {0};
    struct history_ctx l = {a, &b, 0};
    hm_op_location after = {0};
    uint64_t limit;
    if (!api_query_limit(r, HM_API_PAGE_MAX, HM_API_PAGE_MAX, &limit) ||
        !api_query_place(r, &after) || !api_find_asset(a, r, &x))
        return;
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    hm_err err = hm_asset_history(api_tip(a), &x.id, &after, (uint32_t)limit, history_each, &l);
    hm_jw_close(&b, ']');
    char next[40];
    snprintf(next, sizeof(next), "%llu.%u", (unsigned long long)after.height, after.index);
    hm_jw_str(&b, "next", l.count == limit ? next : NULL);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        api_refuse(r, err);
    }
}

// ---- writing ------------------------------------------------------------------------------------

// A request that waits for an operation to become final. The peer may leave meanwhile: then r is
// NULL and the answer goes nowhere, but the operation stands. So it does when the answer is 504.
typedef struct submission {
    hm_node_api *a;
    hm_http_req *r;
} submission;

static void submission_gone(void *ctx)
{
    ((submission *)ctx)->r = NULL;
}

static void submission_done(void *ctx, hm_err err, const char *detail,
                            const hm_node_receipt *receipt)
{
    submission *s = ctx;
    hm_node_api *a = s->a;
    if (s->r && err != HM_OK) {
        hm_http_reply_err(s->r, err, detail);
    } else if (s->r) {
        hm_buf b = {0};
        hm_jw_open(&b, NULL, '{');
        hm_jw_hex(&b, "op", receipt->op_id.b, 32);
        hm_jw_hex(&b, "asset", receipt->asset.b, 32);
        hm_jw_u64(&b, "height", receipt->height);
        hm_jw_u64(&b, "index", receipt->index);
        hm_jw_u64(&b, "finality_us", receipt->finality_us);
        hm_jw_close(&b, '}');
        hm_http_reply_json(s->r, 201, &b);
    }
    free(s);
    api_work_done(a);
}

void api_submit(hm_node_api *a, hm_http_req *r, uint8_t module, uint8_t kind, const hm_hash *asset,
                const hm_buf *payload)
{
    hm_node_request req = {.module = module, .kind = kind};
    submission *s = calloc(1, sizeof(*s));
    hm_err err = s ? hm_buf_status(payload) : HM_E_NOMEM;
    if (asset)
        req.asset = *asset;
    req.payload = hm_buf_bytes(payload);
    if (err == HM_OK) {
        s->a = a;
        s->r = r;
        err = hm_node_submit(a->node, &req, submission_done, s);
    }
    if (err != HM_OK) {
        free(s);
        if (err == HM_E_BUSY)
            hm_http_header(r, "retry-after", "1");
        api_refuse(r, err);
        return;
    }
    a->work++;
    hm_http_on_abort(r, submission_gone, s);
}

void api_asset_submit(hm_node_api *a, hm_http_req *r, uint8_t kind, const hm_hash *asset,
                      const hm_buf *payload)
{
    api_submit(a, r, HM_MODULE_ASSET, kind, asset, payload);
}

void api_policy_of(const api_policy *in, hm_asset_policy *out)
{
    _Static_assert(API_GRANTS_MAX == HM_ASSET_GRANTS_MAX, "one limit");
    *out = (hm_asset_policy){.is_public = in->is_public, .grant_count = in->grant_count};
    for (uint32_t i = 0; i < in->grant_count; i++) {
        memcpy(out->grants[i].node.b, in->grants[i].node, 32);
        out->grants[i].rights = in->grants[i].rights;
    }
}

void api_assets_register(void *ctx, hm_http_req *r)
{
    api_register in;
    hm_asset_register reg = {0};
    hm_buf payload = {0};
    hm_err err = api_register_read(hm_http_body(r), &in);
    if (err == HM_OK) {
        reg.kind = hm_asset_kind_parse(hm_bytes_str(in.kind));
        reg.name = hm_bytes_str(in.name);
        api_policy_of(&in.policy, &reg.policy);
        reg.has_content = in.has_content;
        reg.life_s = HM_NAME_LIFE_DEFAULT_S; // for a name
        reg.content.size = in.content.size;
        reg.content.chunk_bytes = in.content.chunk_bytes;
        reg.content.chunk_count = in.content.chunks;
        memcpy(reg.content.root.b, in.content.root, 32);
        err = reg.kind ? hm_asset_register_encode(&reg, &payload)
                       : hm_fail(HM_E_PARSE, "field \"kind\" is no kind of asset");
    }
    if (err == HM_OK)
        api_asset_submit(ctx, r, HM_ASSET_REGISTER, NULL, &payload);
    else
        api_refuse(r, err);
    hm_buf_free(&payload);
}

void api_asset_transfer(void *ctx, hm_http_req *r)
{
    hm_asset x;
    hm_node_id to;
    hm_buf payload = {0};
    hm_err err = api_transfer_read(hm_http_body(r), to.b);
    if (err != HM_OK) {
        api_refuse(r, err);
    } else if (api_find_asset(ctx, r, &x)) {
        hm_asset_transfer_encode(&to, &payload);
        api_asset_submit(ctx, r, HM_ASSET_TRANSFER, &x.id, &payload);
    }
    hm_buf_free(&payload);
}

void api_asset_state(void *ctx, hm_http_req *r)
{
    hm_asset x;
    char word[32];
    uint8_t state = 0;
    hm_buf payload = {0};
    hm_err err = api_state_read(hm_http_body(r), word);
    if (err == HM_OK && (state = hm_asset_state_parse(hm_bytes_str(word))) == 0)
        err = hm_fail(HM_E_PARSE, "field \"state\" is no state of an asset");
    if (err != HM_OK) {
        api_refuse(r, err);
    } else if (api_find_asset(ctx, r, &x)) {
        hm_asset_set_state_encode(state, &payload);
        api_asset_submit(ctx, r, HM_ASSET_SET_STATE, &x.id, &payload);
    }
    hm_buf_free(&payload);
}

void api_asset_retire(void *ctx, hm_http_req *r)
{
    hm_asset x;
    hm_buf payload = {0};
    hm_err err = api_empty_read(hm_http_body(r));
    if (err != HM_OK)
        api_refuse(r, err);
    else if (api_find_asset(ctx, r, &x))
        api_asset_submit(ctx, r, HM_ASSET_RETIRE, &x.id, &payload);
}

void api_asset_policy(void *ctx, hm_http_req *r)
{
    hm_asset x;
    api_policy in;
    hm_asset_policy p;
    hm_buf payload = {0};
    hm_err err = api_policy_read(hm_http_body(r), &in);
    if (err == HM_OK) {
        api_policy_of(&in, &p);
        err = hm_asset_set_policy_encode(&p, &payload);
    }
    if (err != HM_OK)
        api_refuse(r, err);
    else if (api_find_asset(ctx, r, &x))
        api_asset_submit(ctx, r, HM_ASSET_SET_POLICY, &x.id, &payload);
    hm_buf_free(&payload);
}
