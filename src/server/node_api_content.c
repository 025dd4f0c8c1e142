// Contents of assets: taking, giving, and where their chunks are.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/content.h"
#include "server/node_api_internal.h"

// ---- taking -------------------------------------------------------------------------------------

typedef struct upload {
    hm_node_api *a;
    hm_http_req *r;   // NULL once the peer left
    hm_node_put *put; // NULL once it was finished or given up
} upload;

static void upload_gone(void *ctx)
{
    upload *u = ctx;
    u->r = NULL;
    if (!u->put)
        return; // the node is storing; upload_done() follows
    hm_node_put_abort(u->put);
    free(u);
}

static void upload_drained(void *ctx)
{
    upload *u = ctx;
    hm_http_body_resume(u->r);
}

static void upload_done(void *ctx, hm_err err, const char *detail, const hm_commitment *c)
{
    upload *u = ctx;
    hm_node_api *a = u->a;
    if (u->r && err != HM_OK) {
        hm_http_reply_err(u->r, err, detail);
    } else if (u->r) {
        hm_buf b = {0};
        api_put_commitment(&b, NULL, c);
        hm_http_reply_json(u->r, 201, &b);
    }
    free(u);
    api_work_done(a);
}

static hm_err upload_data(void *ctx, hm_bytes data, bool last)
{
    upload *u = ctx;
    hm_err err = data.len ? hm_node_put_write(u->put, data, upload_drained, u) : HM_OK;
    if (err != HM_OK && err != HM_E_AGAIN) {
        hm_http_req *r = u->r;
        hm_node_put_abort(u->put);
        free(u);
        hm_http_on_abort(r, NULL, NULL);
        api_refuse(r, err);
        return HM_OK;
    }
    if (!last)
        return err;
    hm_node_put *put = u->put;
    u->put = NULL;
    u->a->work++;
    hm_node_put_finish(put, upload_done, u);
    return HM_OK;
}

void api_content_put(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    // Refused before it comes, not once all of it has come.
    uint64_t max = (uint64_t)hm_ledger_genesis(hm_node_ledger(a->node))->params.chunk_bytes *
                   (HM_CONTENT_MANIFEST_MAX / HM_HASH_BYTES);
    if (hm_http_body_length(r) > max) {
        char detail[96];
        snprintf(detail, sizeof(detail), "a content may have %llu bytes, %llu were announced",
                 (unsigned long long)max, (unsigned long long)hm_http_body_length(r));
        hm_http_reply_error(r, 413, "LIMIT", "the body is too large", detail);
        return;
    }
    upload *u = calloc(1, sizeof(*u));
    hm_err err = u ? hm_node_put_begin(a->node, &u->put) : HM_E_NOMEM;
    if (err != HM_OK) {
        free(u);
        api_refuse(r, err);
        return;
    }
    u->a = a;
    u->r = r;
    hm_http_on_abort(r, upload_gone, u);
    hm_http_body_read(r, upload_data, u);
}

// ---- giving -------------------------------------------------------------------------------------

typedef struct download {
    hm_http_req *r;
    hm_node_get *get;
    uint64_t size;
    bool started, asking;
} download;

static void download_free(download *d)
{
    hm_node_get_close(d->get);
    free(d);
}

static void download_gone(void *ctx)
{
    download_free(ctx);
}

static void download_chunk(void *ctx, hm_err err, const char *detail, hm_bytes chunk, bool last);

static void download_next(void *ctx)
{
    download *d = ctx;
    if (d->asking)
        return;
    d->asking = true;
    hm_node_get_next(d->get, download_chunk, d);
}

static void download_chunk(void *ctx, hm_err err, const char *detail, hm_bytes chunk, bool last)
{
    download *d = ctx;
    d->asking = false;
    if (err != HM_OK) {
        if (d->started)
            hm_http_stream_fail(d->r);
        else
            hm_http_reply_err(d->r, err, detail);
        download_free(d);
        return;
    }
    if (!d->started) { // only now is it known that the content can be had
        d->started = true;
        hm_http_stream(d->r, 200, "application/octet-stream", (int64_t)d->size, download_next, d);
    }
    err = hm_http_stream_write(d->r, chunk);
    if (last) {
        hm_http_stream_end(d->r);
        download_free(d);
    } else if (err == HM_OK) {
        download_next(d);
    } else if (err != HM_E_AGAIN) {
        hm_http_stream_fail(d->r);
        download_free(d);
    }
}

// Answers and gives false unless the asset has a content that this reader may have.
static bool may_read(hm_node_api *a, hm_http_req *r, const hm_asset *x)
{
    hm_node_status s;
    hm_node_get_status(a->node, &s);
    if (!x->has_content) {
        hm_http_reply_err(r, HM_E_NOTFOUND, "the asset has no content");
    } else if (!(hm_asset_rights(x, &s.id) & HM_RIGHT_READ)) {
        hm_http_reply_err(r, HM_E_DENIED, "the asset is private and this node has no read right");
    } else if (!x->policy.is_public && !hm_http_authorized(r)) {
        hm_http_header(r, "www-authenticate", "Bearer");
        hm_http_reply_error(r, 401, "DENIED", "the asset is private",
                            "send Authorization: Bearer with the content of DIR/api.token");
    } else {
        return true;
    }
    return false;
}

void api_content_get(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_asset x;
    if (!api_find_asset(a, r, &x) || !may_read(a, r, &x))
        return;
    download *d = calloc(1, sizeof(*d));
    hm_err err = d ? hm_node_get_begin(a->node, &x.id, &x.content, &d->get) : HM_E_NOMEM;
    if (err != HM_OK) {
        free(d);
        api_refuse(r, err);
        return;
    }
    d->r = r;
    d->size = x.content.size;
    hm_http_on_abort(r, download_gone, d);
    download_next(d);
}

// ---- where chunks are ---------------------------------------------------------------------------

// First the list of the content's chunks, then every member's answer for those of the page.
typedef struct chunk_list {
    hm_node_api *a;
    hm_http_req *r;
    hm_node_get *get;
    hm_node_where *where; // NULL before
    hm_commitment content;
    bool with_hashes;
    uint64_t first, limit;
    uint32_t count;
    hm_hash hashes[HM_API_PAGE_MAX];
} chunk_list;
_Static_assert(HM_API_PAGE_MAX <= HM_NODE_WHERE_CHUNKS_MAX, "a page is one question");

static void chunk_list_free(chunk_list *l)
{
    hm_node_get_close(l->get);
    if (l->where)
        hm_node_where_close(l->where);
    free(l);
}

static void chunk_list_gone(void *ctx)
{
    chunk_list_free(ctx);
}

static void put_chunk_of(const chunk_list *l, hm_buf *b, uint32_t i, const hm_node_peer *peers,
                         size_t members)
{
    uint32_t order[HM_GENESIS_VALIDATORS_MAX], index = (uint32_t)l->first + i;
    uint32_t copies = hm_node_placement(l->a->node, &l->hashes[i], order);
    hm_jw_open(b, NULL, '{');
    hm_jw_u64(b, "index", index);
    if (l->with_hashes)
        hm_jw_hex(b, "hash", l->hashes[i].b, 32);
    else
        hm_jw_str(b, "hash", NULL);
    hm_jw_u64(b, "bytes", hm_commitment_chunk_len(&l->content, index));
    hm_jw_bool(b, "here", hm_node_holds(l->a->node, &l->hashes[i]));
    hm_jw_open(b, "nodes", '[');
    for (uint32_t k = 0; k < copies; k++)
        hm_jw_str(b, NULL, peers[order[k]].name);
    hm_jw_close(b, ']');
    hm_jw_open(b, "held_by", '[');
    for (uint32_t m = 0; m < members; m++)
        if (hm_node_where_holds(l->where, m, i))
            hm_jw_str(b, NULL, peers[m].name);
    hm_jw_close(b, ']');
    hm_jw_close(b, '}');
}

static void chunk_list_send(void *ctx)
{
    chunk_list *l = ctx;
    hm_node_peer peers[HM_GENESIS_VALIDATORS_MAX];
    size_t members = hm_node_get_peers(l->a->node, peers, HM_GENESIS_VALIDATORS_MAX);
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (uint32_t i = 0; i < l->count; i++)
        put_chunk_of(l, &b, i, peers, members);
    hm_jw_close(&b, ']');
    hm_jw_open(&b, "answered", '[');
    for (uint32_t m = 0; l->where && m < members; m++)
        if (hm_node_where_answered(l->where, m))
            hm_jw_str(&b, NULL, peers[m].name);
    hm_jw_close(&b, ']');
    char next[24];
    snprintf(next, sizeof(next), "%llu", (unsigned long long)l->first + l->count);
    hm_jw_str(&b, "next", l->first + l->count < l->content.chunk_count ? next : NULL);
    hm_jw_close(&b, '}');
    hm_http_reply_json(l->r, 200, &b);
    chunk_list_free(l);
}

static void chunk_list_ready(void *ctx, hm_err err, const char *detail, hm_bytes manifest,
                             bool last)
{
    chunk_list *l = ctx;
    (void)last;
    for (uint64_t i = l->first; err == HM_OK && i < manifest.len / HM_HASH_BYTES; i++) {
        if (l->count == l->limit)
            break;
        memcpy(l->hashes[l->count++].b, manifest.ptr + i * HM_HASH_BYTES, HM_HASH_BYTES);
    }
    if (err == HM_OK && l->count == 0) {
        chunk_list_send(l);
        return;
    }
    if (err == HM_OK) {
        err = hm_node_where_begin(l->a->node, l->hashes, l->count, chunk_list_send, l, &l->where);
        detail = hm_err_detail();
    }
    if (err == HM_OK)
        return;
    hm_http_reply_err(l->r, err, detail);
    chunk_list_free(l);
}

// Where chunks are is for all to see. Not so their hashes: the hash of a chunk tells who has
// guessed its bytes that the guess is right.
void api_asset_chunks(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_asset x;
    uint64_t first, limit;
    if (!api_query_limit(r, 100, HM_API_PAGE_MAX, &limit) ||
        !api_query_u64(r, "cursor", 0, HM_ASSET_CHUNKS_MAX, &first) || !api_find_asset(a, r, &x))
        return;
    if (!x.has_content) {
        hm_http_reply_err(r, HM_E_NOTFOUND, "the asset has no content");
        return;
    }
    chunk_list *l = calloc(1, sizeof(*l));
    hm_err err = l ? hm_node_get_begin(a->node, &x.id, &x.content, &l->get) : HM_E_NOMEM;
    if (err != HM_OK) {
        free(l);
        api_refuse(r, err);
        return;
    }
    l->a = a;
    l->r = r;
    l->content = x.content;
    l->with_hashes = x.policy.is_public || hm_http_authorized(r);
    l->first = first;
    l->limit = limit;
    hm_http_on_abort(r, chunk_list_gone, l);
    hm_node_get_manifest(l->get, chunk_list_ready, l);
}
