#include "server/node_api.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/config.h"
#include "server/metrics.h"
#include "server/node_api_internal.h"
#include "trustchain/witness.h"

// The definition as it stands in docs/api, made into a string at build time.
static const char api_openapi[] =
#include "server/openapi_yaml.h"
    ;

typedef struct api_stream {
    hm_list node;
    hm_node_api *api;
    hm_http_req *r;
} api_stream;

hm_view *api_tip(const hm_node_api *a)
{
    return hm_ledger_tip(hm_node_ledger(a->node));
}

uint64_t api_block_time(const hm_view *v)
{
    const hm_block_header *h = hm_view_header(v);
    return h ? h->time_ms : hm_view_genesis(v)->time_ms;
}

void api_refuse(hm_http_req *r, hm_err err)
{
    hm_http_reply_err(r, err, hm_err_detail());
}

void api_reply_or_refuse(hm_http_req *r, hm_err err, hm_buf *b)
{
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, b);
        return;
    }
    hm_buf_free(b);
    api_refuse(r, err);
}

bool api_param_id(hm_http_req *r, size_t n, hm_hash *out)
{
    const char *text = hm_http_param(r, n);
    if (hm_unhex(out->b, sizeof(out->b), text, strlen(text)) == HM_OK)
        return true;
    hm_http_reply_err(r, HM_E_PARSE, "an id is 64 hexadecimal digits");
    return false;
}

static bool query_number(hm_http_req *r, const char *name, uint64_t min, uint64_t max,
                         uint64_t *out)
{
    const char *text = hm_http_query(r, name);
    char *end, detail[96];
    if (!text || !*text)
        return true;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && n >= min && n <= max && strlen(text) < 20) {
        *out = n;
        return true;
    }
    snprintf(detail, sizeof(detail), "parameter %s must be a number from %llu to %llu", name,
             (unsigned long long)min, (unsigned long long)max);
    hm_http_reply_err(r, HM_E_PARSE, detail);
    return false;
}

bool api_query_u64(hm_http_req *r, const char *name, uint64_t def, uint64_t max, uint64_t *out)
{
    *out = def;
    return query_number(r, name, 0, max, out);
}

bool api_query_limit(hm_http_req *r, uint64_t def, uint64_t max, uint64_t *out)
{
    *out = def;
    return query_number(r, "limit", 1, max, out);
}

bool api_query_place(hm_http_req *r, hm_op_location *out)
{
    const char *text = hm_http_query(r, "cursor");
    unsigned long long height;
    unsigned index;
    char canonical[40];
    if (!text || !*text)
        return true;
    if (sscanf(text, "%19llu.%9u", &height, &index) == 2) {
        snprintf(canonical, sizeof(canonical), "%llu.%u", height, index);
        if (strcmp(canonical, text) == 0) {
            *out = (hm_op_location){height, index};
            return true;
        }
    }
    hm_http_reply_err(r, HM_E_PARSE, "parameter cursor must be what a page gave as next");
    return false;
}

const char *api_addr_text(const uint8_t addr[16], char out[46])
{
    if (!inet_ntop(AF_INET6, addr, out, 46))
        out[0] = 0;
    return out;
}

void api_node_name(const hm_node_api *a, const hm_node_id *id, char out[64])
{
    hm_node_peer peers[HM_GENESIS_VALIDATORS_MAX];
    size_t n = hm_node_get_peers(a->node, peers, HM_GENESIS_VALIDATORS_MAX);
    hm_hex(out, id->b, 4);
    for (size_t i = 0; i < n && i < HM_GENESIS_VALIDATORS_MAX; i++)
        if (hm_hash_eq(&peers[i].id, id))
            snprintf(out, 64, "%s", peers[i].name);
}

// ---- events -------------------------------------------------------------------------------------

static const char *event_word(hm_node_event_type type)
{
    static const char *const words[HM_EVENT_TYPES] = {
        "final", "peer_up", "peer_down", "refused", "evidence", "sync", "repair", "nullified"};
    return words[type];
}

static void put_event(hm_buf *b, const hm_node_event *e)
{
    hm_jw_open(b, NULL, '{');
    hm_jw_u64(b, "seq", e->seq);
    hm_jw_u64(b, "wall_ms", e->wall_ms);
    hm_jw_str(b, "type", event_word(e->type));
    hm_jw_u64(b, "height", e->height);
    hm_jw_u64(b, "count", e->count);
    hm_jw_u64(b, "finality_us", e->finality_us);
    hm_jw_hex(b, "hash", e->hash.b, 32);
    hm_jw_hex(b, "peer", e->peer.b, 32);
    hm_jw_str(b, "text", e->text);
    hm_jw_close(b, '}');
}

static void stream_free(api_stream *s)
{
    hm_list_remove(&s->node);
    s->api->stream_count--;
    free(s);
}

static void on_stream_gone(void *ctx)
{
    stream_free(ctx);
}

static void stream_send(api_stream *s, const hm_node_event *e, hm_bytes json)
{
    if (hm_http_sse_send(s->r, event_word(e->type), e->seq, json) == HM_OK)
        return;
    hm_http_stream_end(s->r); // too slow: it comes back and reads what it missed
    stream_free(s);
}

static void on_event(void *ctx, const hm_node_event *e)
{
    hm_node_api *a = ctx;
    hm_buf b = {0};
    put_event(&b, e);
    if (hm_buf_status(&b) == HM_OK)
        hm_list_each(it, &a->streams)
            stream_send(hm_container_of(it, api_stream, node), e, hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static void on_events(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    static hm_node_event recent[HM_NODE_EVENTS_MAX];
    if (a->stream_count >= HM_API_EVENT_STREAMS_MAX) {
        hm_http_reply_err(r, HM_E_BUSY, "too many event streams are open");
        return;
    }
    api_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        hm_http_reply_err(r, HM_E_NOMEM, NULL);
        return;
    }
    s->api = a;
    s->r = r;
    hm_list_append(&a->streams, &s->node);
    a->stream_count++;
    hm_http_on_abort(r, on_stream_gone, s);
    hm_http_sse(r);
    size_t n = hm_node_recent_events(a->node, recent, HM_NODE_EVENTS_MAX);
    for (size_t i = 0; i < n; i++) {
        hm_buf b = {0};
        put_event(&b, &recent[i]);
        // Some hundred short events: far below what an event stream may hold back.
        hm_err err =
            hm_http_sse_send(r, event_word(recent[i].type), recent[i].seq, hm_buf_bytes(&b));
        hm_buf_free(&b);
        if (err != HM_OK)
            break;
    }
}

// ---- health, metrics, definition ----------------------------------------------------------------

static void on_healthz(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "text/plain; charset=utf-8", hm_bytes_str("ok\n"));
}

static void on_readyz(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_node_status s;
    hm_node_get_status(a->node, &s);
    hm_http_reply(r, s.ready ? 200 : 503, "text/plain; charset=utf-8",
                  hm_bytes_str(s.ready     ? "ready\n"
                               : s.syncing ? "not ready: catching up\n"
                                           : "not ready: no quorum is connected\n"));
}

static void on_counter(void *ctx, const char *name, const char *help, const char *labels,
                       uint64_t value, bool gauge)
{
    hm_metrics_value(ctx, name, help, labels, value, gauge);
}

static void put_metrics(hm_node_api *a, hm_http_req *r, bool json)
{
    hm_buf b = {0};
    hm_metrics m;
    hm_node_status s;
    hm_node_get_status(a->node, &s);
    hm_metrics_begin(&m, &b, json);
    hm_metrics_value(&m, "hm_node_height", "Final height", "", s.height, true);
    hm_metrics_value(&m, "hm_node_peers", "Connected peers", "", s.peers_connected, true);
    hm_metrics_value(&m, "hm_node_pending_ops", "Operations waiting", "", s.pending_ops, true);
    hm_metrics_value(&m, "hm_node_ready", "1 when the ledger moves", "", s.ready, true);
    hm_metrics_value(&m, "hm_node_finality_microseconds", "Submit to final, last 1024 operations",
                     "quantile=\"0.5\"", s.finality_p50_us, true);
    hm_metrics_value(&m, "hm_node_finality_microseconds", "Submit to final, last 1024 operations",
                     "quantile=\"0.99\"", s.finality_p99_us, true);
    hm_metrics_value(&m, "hm_node_ops_final_total", "Operations made final since start", "",
                     s.ops_final, false);
    hm_metrics_value(&m, "hm_node_chunks_stored", "Chunks kept here", "", s.chunks_stored, true);
    hm_metrics_value(&m, "hm_node_chunk_stored_bytes", "Bytes of chunks kept here", "",
                     s.chunk_bytes_stored, true);
    hm_metrics_value(&m, "hm_node_uptime_milliseconds", "Since start", "", s.uptime_ms, true);
    hm_metrics_value(&m, "hm_witness_cosigned_total", "Checkpoints of a log cosigned since start",
                     "", a->cosigned, false);
    hm_metrics_value(&m, "hm_witness_refused_total",
                     "Checkpoints that the log signed and that are no continuation of the last", "",
                     a->not_cosigned, false);
    hm_node_each_counter(a->node, on_counter, &m);
    if (a->more_metrics)
        a->more_metrics(a->more_ctx, &m);
    hm_metrics_reply(&m, a->http, r);
}

static void on_metrics(void *ctx, hm_http_req *r)
{
    put_metrics(ctx, r, false);
}
static void on_performance(void *ctx, hm_http_req *r)
{
    put_metrics(ctx, r, true);
}

static void on_openapi(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "application/yaml", hm_bytes_of(api_openapi, sizeof api_openapi - 1));
}

// ---- life ---------------------------------------------------------------------------------------

static const hm_http_route routes[] = {
    {"GET", "/v1/status", api_status, 0, 0, NULL},
    {"GET", "/v1/nodes", api_nodes, 0, 0, NULL},
    {"GET", "/v1/nodes/{id}", api_node, 0, 0, NULL},
    {"GET", "/v1/assets", api_assets_list, 0, 0, "q kind state owner name id cursor limit"},
    {"POST", "/v1/assets", api_assets_register, HM_HTTP_AUTH, 0, NULL},
    {"GET", "/v1/assets/{id}", api_asset_get, 0, 0, NULL},
    {"GET", "/v1/assets/{id}/history", api_asset_history, 0, 0, "cursor limit"},
    {"GET", "/v1/assets/{id}/content", api_content_get, 0, 0, NULL},
    {"GET", "/v1/assets/{id}/chunks", api_asset_chunks, 0, 0, "cursor limit"},
    {"POST", "/v1/assets/{id}/transfer", api_asset_transfer, HM_HTTP_AUTH, 0, NULL},
    {"POST", "/v1/assets/{id}/state", api_asset_state, HM_HTTP_AUTH, 0, NULL},
    {"POST", "/v1/assets/{id}/retire", api_asset_retire, HM_HTTP_AUTH, 0, NULL},
    {"POST", "/v1/assets/{id}/policy", api_asset_policy, HM_HTTP_AUTH, 0, NULL},
    {"GET", "/v1/zone", api_zone, 0, 0, NULL},
    {"GET", "/v1/names", api_names_list, 0, 0, "q owner cursor limit"},
    {"POST", "/v1/names", api_names_register, HM_HTTP_AUTH, 0, NULL},
    {"GET", "/v1/names/{name}", api_name_get, 0, 0, NULL},
    {"POST", "/v1/names/{name}/records", api_name_records, HM_HTTP_AUTH, 0, NULL},
    {"POST", "/v1/names/{name}/renew", api_name_renew, HM_HTTP_AUTH, 0, NULL},
    {"GET", "/v1/trust", api_trust_list, 0, 0, NULL},
    {"POST", "/v1/trust", api_trust_propose, HM_HTTP_AUTH, 0, NULL},
    {"GET", "/v1/trust/{id}", api_trust_get, 0, 0, NULL},
    {"POST", "/v1/trust/{id}/approve", api_trust_approve, HM_HTTP_AUTH, 0, NULL},
    {"POST", "/v1/trust/{id}/withdraw", api_trust_withdraw, HM_HTTP_AUTH, 0, NULL},
    {"POST", "/v1/content", api_content_put, HM_HTTP_AUTH | HM_HTTP_STREAM, HM_API_CONTENT_MAX,
     NULL},
    {"GET", "/v1/operations", api_operations, 0, 0, "cursor limit"},
    {"GET", "/v1/operations/{id}", api_operation, 0, 0, NULL},
    {"GET", "/v1/operations/{id}/proofs", api_operation_proofs, 0, 0, NULL},
    {"GET", "/v1/blocks", api_blocks, 0, 0, "cursor limit"},
    {"GET", "/v1/blocks/{height}", api_block, 0, 0, NULL},
    {"GET", "/v1/blocks/{height}/operations", api_block_operations, 0, 0, "cursor limit"},
    {"GET", "/v1/blocks/{height}/raw", api_block_raw, 0, 0, NULL},
    {"GET", "/v1/genesis", api_genesis, 0, 0, "format"},
    {"POST", "/v1/ledger/verify", api_ledger_verify, HM_HTTP_AUTH, 0, NULL},
    {"POST", "/witness/add-checkpoint", api_witness_add, 0, TC_WITNESS_BODY_MAX, NULL},
    {"GET", "/witness/key", api_witness_key, 0, 0, NULL},
    {"GET", "/witness/{origin}/checkpoint", api_witness_checkpoint, 0, 0, NULL},
    {"GET", "/v1/events", on_events, 0, 0, NULL},
    {"GET", "/v1/openapi.yaml", on_openapi, 0, 0, NULL},
    {"GET", "/metrics", on_metrics, 0, 0, NULL},
    {"GET", "/metrics/performance", on_performance, 0, 0, NULL},
    {"GET", "/healthz", on_healthz, 0, 0, NULL},
    {"GET", "/readyz", on_readyz, 0, 0, NULL},
};

const hm_http_route *hm_node_api_routes(size_t *count)
{
    *count = sizeof(routes) / sizeof(routes[0]);
    return routes;
}

static void close_step(hm_node_api *a)
{
    if (!a->http_closed || a->work)
        return;
    void (*closed)(void *) = a->closed;
    void *ctx = a->closed_ctx;
    free(a);
    if (closed)
        closed(ctx);
}

static void on_http_closed(void *ctx)
{
    hm_node_api *a = ctx;
    a->http_closed = true;
    a->work++; // so that the last of them does not end it from within
    hm_node_submits_leave(a->node);
    api_work_done(a);
}

void api_work_done(hm_node_api *a)
{
    hm_assert(a->work > 0);
    a->work--;
    close_step(a);
}

hm_err hm_node_api_open(const hm_node_api_config *cfg, hm_node_api **out)
{
    hm_node_api *a = calloc(1, sizeof(*a));
    if (!a)
        return HM_E_NOMEM;
    a->node = cfg->node;
    a->loop = cfg->loop;
    a->more_metrics = cfg->more_metrics;
    a->more_ctx = cfg->more_ctx;
    a->witness = cfg->witness;
    if (snprintf(a->data_dir, sizeof(a->data_dir), "%s", cfg->data_dir) >=
        (int)sizeof(a->data_dir)) {
        free(a);
        return hm_fail(HM_E_LIMIT, "the directory's name is too long");
    }
    snprintf(a->version, sizeof(a->version), "%s", cfg->version);
    hm_list_init(&a->streams);
    hm_http_config http = {.loop = cfg->loop,
                           .routes = routes,
                           .route_count = sizeof(routes) / sizeof(routes[0]),
                           .ctx = a,
                           .token = cfg->token,
                           .limits = cfg->limits};
    hm_err err = hm_http_open(&http, &a->http);
    if (err != HM_OK) {
        free(a);
        return err;
    }
    HM_TRY_OUT(hm_http_listen(a->http, &cfg->api, NULL));
    if (cfg->page.static_dir)
        HM_TRY_OUT(hm_http_listen(a->http, &cfg->page, NULL));
    HM_TRY_OUT(hm_node_subscribe(a->node, on_event, a, &a->subscription));
    *out = a;
    return HM_OK;
out:
    hm_http_close(a->http, 0, on_http_closed, a); // the loop frees it
    return err;
}

hm_err hm_node_api_cert_renewed(hm_node_api *a)
{
    return hm_http_certs_renewed(a->http);
}

void hm_node_api_close(hm_node_api *a, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx)
{
    a->closed = closed;
    a->closed_ctx = ctx;
    hm_node_unsubscribe(a->node, a->subscription);
    api_verify_cancel(a);
    hm_http_close(a->http, grace_ms, on_http_closed, a);
}
