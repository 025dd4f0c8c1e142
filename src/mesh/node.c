#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "mesh/node_internal.h"
#include "mesh/node_module.h"

#define TICK_MS 250

// ---- events -------------------------------------------------------------------------------------

static void event_emit(hm_node *n, hm_node_event *e)
{
    e->seq = ++n->event_seq;
    e->wall_ms = node_wall_ms();
    uint64_t i = n->event_counts[e->type]++;
    if (e->type == HM_EVENT_FINAL)
        n->finals[i % HM_NODE_EVENTS_FINAL] = *e;
    else
        n->others[e->type][i % HM_NODE_EVENTS_OTHER] = *e;
    for (size_t k = 0; k < NODE_SUBSCRIBERS; k++)
        if (n->subscribers[k].cb != NULL)
            n->subscribers[k].cb(n->subscribers[k].ctx, e);
}

void node_event(hm_node *n, hm_node_event_type type, const hm_node_event *e, const char *fmt, ...)
{
    hm_node_event event = {0};
    if (e != NULL)
        event = *e;
    event.type = type;
    va_list args;
    va_start(args, fmt);
    vsnprintf(event.text, sizeof event.text, fmt, args);
    va_end(args);
    event_emit(n, &event);
}

void node_refused(hm_node *n, node_count what, const hm_node_id *peer, const char *fmt, ...)
{
    static const char *const names[] = {"peer", "message", "operation", "block", "vote"};
    hm_node_event event = {.type = HM_EVENT_REFUSED};
    char quoted[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(event.text, sizeof event.text, fmt, args);
    va_end(args);
    if (peer != NULL)
        event.peer = *peer;
    n->counts[what]++;
    if (!node_budget_left(&n->refusals[what], node_now_us())) {
        n->refusals_untold[what]++;
        return;
    }
    node_budget_spend(&n->refusals[what], node_now_us());
    if (n->refusals_untold[what] > 0)
        hm_log(HM_LOG_WARN, "mesh", "refusals not told", "what=%s count=%llu", names[what],
               (unsigned long long)n->refusals_untold[what]);
    n->refusals_untold[what] = 0;
    hm_log(HM_LOG_WARN, "mesh", "refused", "what=%s reason=%s", names[what],
           hm_log_quote(quoted, sizeof quoted, hm_bytes_str(event.text)));
    event_emit(n, &event);
}

static int newer_first(const void *a, const void *b)
{
    const hm_node_event *const *x = a, *const *y = b;
    return (*x)->seq < (*y)->seq ? 1 : -1;
}

size_t hm_node_recent_events(const hm_node *n, hm_node_event *out, size_t max)
{
    const hm_node_event *kept[HM_NODE_EVENTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < HM_NODE_EVENTS_FINAL; i++)
        if (n->finals[i].seq != 0)
            kept[count++] = &n->finals[i];
    for (size_t type = 0; type < HM_EVENT_TYPES; type++)
        for (size_t i = 0; i < HM_NODE_EVENTS_OTHER; i++)
            if (n->others[type][i].seq != 0)
                kept[count++] = &n->others[type][i];
    qsort(kept, count, sizeof kept[0], newer_first);
    if (count > max)
        count = max;
    for (size_t i = 0; i < count; i++)
        out[i] = *kept[count - 1 - i];
    return count;
}

hm_err hm_node_subscribe(hm_node *n, hm_node_event_cb cb, void *ctx, uint64_t *token)
{
    for (size_t i = 0; i < NODE_SUBSCRIBERS; i++)
        if (n->subscribers[i].cb == NULL) {
            n->subscribers[i].cb = cb;
            n->subscribers[i].ctx = ctx;
            n->subscribers[i].token = *token = ++n->next_token;
            return HM_OK;
        }
    return hm_fail(HM_E_LIMIT, "%u listeners for events already", NODE_SUBSCRIBERS);
}

void hm_node_unsubscribe(hm_node *n, uint64_t token)
{
    for (size_t i = 0; i < NODE_SUBSCRIBERS; i++)
        if (n->subscribers[i].token == token)
            n->subscribers[i].cb = NULL;
}

// ---- the loop -----------------------------------------------------------------------------------

static void on_timer(uv_timer_t *t)
{
    (void)t; // waking up is enough: the work is done before the loop waits again
}

static void pump(hm_node *n, uint64_t now)
{
    for (unsigned i = 0; i < 16; i++) {
        if (!n->readable && !n->net_dirty && stoq_endpoint_next_timeout_us(n->endpoint) > now)
            return;
        bool readable = n->readable;
        n->readable = n->net_dirty = false;
        stoq_endpoint_process(n->endpoint, now, readable);
    }
}

// Everything that is due now is done here, before the loop waits.
static void on_prepare(uv_prepare_t *p)
{
    hm_node *n = p->data;
    uint64_t now = node_now_us();
    pump(n, now);
    agree_run(n, now);
    pool_flush(n);
    content_flush(n);
    now = node_now_us();
    pump(n, now);
    uint64_t next = stoq_endpoint_next_timeout_us(n->endpoint);
    uint64_t agree = agree_next_us(n);
    if (agree < next)
        next = agree;
    if (n->net_dirty)
        next = 0;
    uv_update_time(n->loop);
    if (next == HM_TIME_NEVER)
        uv_timer_stop(&n->net_timer);
    else
        uv_timer_start(&n->net_timer, on_timer, next <= now ? 0 : (next - now + 999) / 1000, 0);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    hm_node *n = p->data;
    if (status == 0 && (events & UV_READABLE))
        n->readable = true;
}

static void on_tick(uv_timer_t *t)
{
    hm_node *n = t->data;
    uint64_t now = node_now_us();
    peers_tick(n, now);
    content_tick(n, now);
    where_tick(n, now);
    pool_tick(n, now);
}

static void start_loop(hm_node *n)
{
    uv_poll_init(n->loop, &n->poll, stoq_endpoint_fd(n->endpoint));
    uv_timer_init(n->loop, &n->net_timer);
    uv_timer_init(n->loop, &n->tick);
    uv_prepare_init(n->loop, &n->prepare);
    n->poll.data = n->net_timer.data = n->tick.data = n->prepare.data = n;
    n->handles = 4;
    uv_poll_start(&n->poll, UV_READABLE, on_poll);
    uv_timer_start(&n->tick, on_tick, 0, TICK_MS);
    uv_prepare_start(&n->prepare, on_prepare);
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err load_genesis(hm_node *n, const char *given, hm_buf *out)
{
    char own[4100];
    snprintf(own, sizeof own, "%s/genesis.bin", n->dir);
    hm_err err = hm_file_read(own, HM_GENESIS_BYTES_MAX, out);
    if (err != HM_E_NOTFOUND) {
        if (err != HM_OK || given == NULL)
            return err;
        hm_buf other = {0};
        err = hm_file_read(given, HM_GENESIS_BYTES_MAX, &other);
        bool same = err == HM_OK && hm_bytes_eq(hm_buf_bytes(&other), hm_buf_bytes(out));
        hm_buf_free(&other);
        if (err == HM_E_NOTFOUND)
            return HM_OK; // the node's own copy counts
        if (err == HM_OK && !same)
            return hm_fail(HM_E_OP_CHAIN, "%s is another genesis than the one this node began with",
                           given);
        return err;
    }
    if (given == NULL)
        return hm_fail(HM_E_NOTFOUND, "no genesis: give one with --genesis at the first start");
    HM_TRY(hm_file_read(given, HM_GENESIS_BYTES_MAX, out));
    hm_genesis g = {0};
    HM_TRY(hm_genesis_decode(hm_buf_bytes(out), &g));
    hm_genesis_free(&g);
    return hm_file_write(own, hm_buf_bytes(out), 0644);
}

// The log of votes and the contents are made after the ledger: with one of them there, a ledger
// that is not was lost, and a node that began at the genesis again would vote on what it voted on.
static hm_err ledger_was_kept(const hm_node *n, const char *dir)
{
    static const char *const later[] = {"votes.wal", "content/data.mdb"};
    struct stat st;
    char path[4200];
    if (hm_env_exists(dir))
        return HM_OK;
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", n->dir, later[i]);
        if (stat(path, &st) == 0 && st.st_size > 0)
            return hm_fail(HM_E_CORRUPT,
                           "%s/data.mdb is gone or empty, and this node has taken part (%s is "
                           "there): put the ledger back from a copy, or from another member's that "
                           "was made after this node stopped; do not delete the votes",
                           dir, later[i]);
    }
    return HM_OK;
}

static hm_err evidence_verify(const hm_exec *x, hm_bytes evidence, uint32_t *offender);

static hm_err open_ledger(hm_node *n, hm_bytes genesis)
{
    static const hm_module *const modules[] = {&hm_module_node, &hm_module_proof, &hm_module_asset,
                                               &hm_module_trust};
    char dir[4100];
    snprintf(dir, sizeof dir, "%s/ledger", n->dir);
    HM_TRY(ledger_was_kept(n, dir));
    hm_ledger_config cfg = {.dir = dir,
                            .genesis = genesis,
                            .modules = modules,
                            .module_count = sizeof modules / sizeof modules[0],
                            .proofs = &hm_proof_rules_v1,
                            .evidence = evidence_verify};
    HM_TRY(hm_ledger_open(&cfg, &n->ledger));
    n->genesis = hm_ledger_genesis(n->ledger);
    n->count = n->genesis->count;
    n->ids = calloc(n->count, sizeof *n->ids);
    n->validators = calloc(n->count, sizeof *n->validators);
    if (n->ids == NULL || n->validators == NULL)
        return HM_E_NOMEM;
    n->self = UINT32_MAX;
    for (uint32_t i = 0; i < n->count; i++) {
        const hm_genesis_validator *v = &n->genesis->validators[i];
        HM_TRY(hm_genesis_node_id(v, &n->ids[i]));
        n->validators[i] = (hm_simplex_validator){n->ids[i], v->public_key, v->stake};
        if (hm_hash_eq(&n->ids[i], &n->id))
            n->self = i;
    }
    if (n->self == UINT32_MAX)
        return hm_fail(HM_E_CONFIG, "this node's key is not among the validators of the genesis");
    n->set = (hm_simplex_set){
        .chain_id = n->genesis->chain_id, .count = n->count, .validators = n->validators};
    return HM_OK;
}

// The validators are those of the genesis for the life of the chain, so any genesis will do.
static hm_err evidence_verify(const hm_exec *x, hm_bytes evidence, uint32_t *offender)
{
    const hm_genesis *g = x->genesis;
    hm_simplex_validator *v = calloc(g->count, sizeof *v);
    if (v == NULL)
        return HM_E_NOMEM;
    hm_err err = HM_OK;
    for (uint32_t i = 0; i < g->count && err == HM_OK; i++) {
        v[i].public_key = g->validators[i].public_key;
        v[i].power = g->validators[i].stake;
        err = hm_genesis_node_id(&g->validators[i], &v[i].id);
    }
    hm_simplex_set set = {.chain_id = g->chain_id, .count = g->count, .validators = v};
    if (err == HM_OK)
        err = hm_simplex_evidence_verify(&set, evidence, offender);
    free(v);
    return err;
}

static void node_free(hm_node *n)
{
    agree_close(n);
    duty_close(n);
    content_close(n);
    pool_free(n);
    peers_free(n);
    hm_ledger_close(n->ledger);
    hm_key_free(n->key);
    free(n->ids);
    free(n->validators);
    if (n->lock_fd >= 0)
        close(n->lock_fd);
    free(n);
}

static hm_err node_open(hm_node *n, const hm_node_config *cfg)
{
    char path[4100];
    hm_buf genesis = {0};
    HM_TRY(hm_crypto_init());
    snprintf(path, sizeof path, "%s/node.key", n->dir);
    hm_err err = hm_key_load(path, &n->key);
    if (err == HM_E_NOTFOUND)
        return hm_fail(err, "%s is not a node's directory: run init first", n->dir);
    HM_TRY(err);
    // Two with one key and one log of votes would contradict each other.
    HM_TRY(hm_dir_lock(n->dir, &n->lock_fd));
    HM_TRY(hm_node_id_of_public(hm_key_public(n->key), &n->id));
    err = load_genesis(n, cfg->genesis_path, &genesis);
    if (err == HM_OK)
        err = open_ledger(n, hm_buf_bytes(&genesis));
    hm_buf_free(&genesis);
    HM_TRY(err);
    HM_TRY(pool_open(n));
    n->upload_keep_ms = cfg->upload_keep_ms;
    HM_TRY(content_open(n, cfg->upload_bytes));
    HM_TRY(duty_open(n));
    HM_TRY(peers_open(n, &cfg->mesh_listen));
    return agree_open(n);
}

hm_err hm_node_open(const hm_node_config *cfg, hm_node **out)
{
    hm_node *n = calloc(1, sizeof *n);
    if (n == NULL)
        return HM_E_NOMEM;
    if (strlen(cfg->data_dir) >= sizeof n->dir) {
        free(n);
        return hm_fail(HM_E_LIMIT, "the path of the data directory is too long");
    }
    strcpy(n->dir, cfg->data_dir);
    n->lock_fd = -1;
    n->loop = cfg->loop;
    n->started_ms = node_wall_ms();
    hm_list_init(&n->submits);
    hm_list_init(&n->submits_new);
    hm_list_init(&n->puts);
    hm_list_init(&n->gets);
    hm_list_init(&n->stored_acks);
    hm_list_init(&n->unsynced);
    hm_list_init(&n->sync_asks);
    hm_list_init(&n->sync_acks);
    hm_list_init(&n->wheres);
    hm_err err = node_open(n, cfg);
    if (err != HM_OK) {
        node_free(n);
        return err;
    }
    start_loop(n);
    keep_committed(n);
    duty_committed(n);
    *out = n;
    return HM_OK;
}

static void on_handle_closed(uv_handle_t *h)
{
    hm_node *n = h->data;
    if (--n->handles > 0)
        return;
    void (*closed)(void *) = n->closed;
    void *ctx = n->closed_ctx;
    node_free(n);
    closed(ctx);
}

static void on_drained(uv_timer_t *t)
{
    hm_node *n = t->data;
    if (n->works > 0)
        return; // jobs on worker threads still use the node
    uv_close((uv_handle_t *)&n->poll, on_handle_closed);
    uv_close((uv_handle_t *)&n->net_timer, on_handle_closed);
    uv_close((uv_handle_t *)&n->tick, on_handle_closed);
    uv_close((uv_handle_t *)&n->prepare, on_handle_closed);
}

static void on_closing(uv_timer_t *t)
{
    hm_node *n = t->data;
    pool_close(n, HM_E_CLOSED);
    duty_cancel(n);
    uv_prepare_stop(&n->prepare);
    uv_poll_stop(&n->poll);
    uv_timer_stop(&n->net_timer);
    peers_begin_close(n);
    uv_timer_start(&n->tick, on_drained, 0, 5);
}

// Who calls may be in the middle of anything, so nothing is taken apart before the loop turns.
void hm_node_close(hm_node *n, void (*closed)(void *ctx), void *ctx)
{
    if (n->closing)
        return;
    n->closing = true;
    n->closed = closed;
    n->closed_ctx = ctx;
    uv_timer_start(&n->tick, on_closing, 0, 0);
}

// ---- status -------------------------------------------------------------------------------------

hm_ledger *hm_node_ledger(hm_node *n)
{
    return n->ledger;
}

static int order_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void latency_percentiles(const hm_node *n, uint64_t *p50, uint64_t *p99)
{
    uint64_t sorted[NODE_LATENCIES];
    size_t have = n->latency_count < NODE_LATENCIES ? (size_t)n->latency_count : NODE_LATENCIES;
    *p50 = *p99 = 0;
    if (have == 0)
        return;
    memcpy(sorted, n->latencies, have * sizeof sorted[0]);
    qsort(sorted, have, sizeof sorted[0], order_u64);
    *p50 = sorted[have / 2];
    *p99 = sorted[(have * 99) / 100];
}

void hm_node_get_status(const hm_node *n, hm_node_status *out)
{
    *out = (hm_node_status){.id = n->id};
    hm_view *tip = hm_ledger_tip(n->ledger);
    const hm_block_header *h = hm_view_header(tip);
    hm_simplex_status s;
    bool quorum;
    hm_simplex_get_status(n->simplex, &s);
    snprintf(out->name, sizeof out->name, "%s", n->genesis->validators[n->self].name);
    hm_overlay_addr(&n->id, 0, out->overlay_addr.s6_addr);
    out->chain_id = n->genesis->chain_id;
    out->height = hm_view_height(tip);
    if (hm_view_root(tip, &out->state_root) != HM_OK)
        out->state_root = (hm_hash){0};
    out->view = s.view;
    out->final_time_ms = n->final_wall_ms;
    out->block_time_ms = h != NULL ? h->time_ms : n->genesis->time_ms;
    out->epoch = h != NULL ? h->epoch : 0;
    out->validators = n->count;
    out->peers_connected = peers_connected(n, &quorum);
    uint32_t q = 1;
    while (q < n->count && !hm_simplex_is_quorum(q, n->count))
        q++;
    out->quorum = q;
    out->pending_ops = (uint32_t)n->pending_count;
    out->syncing = n->syncing;
    out->ready = quorum && !n->syncing && !n->stalled;
    latency_percentiles(n, &out->finality_p50_us, &out->finality_p99_us);
    out->ops_final = n->counts[COUNT_OPS_FINAL];
    hm_content_stats content;
    hm_content_get_stats(n->content, &content);
    out->chunks_stored = content.chunks;
    out->chunk_bytes_stored = content.bytes;
    out->uptime_ms = node_wall_ms() - n->started_ms;
}

size_t hm_node_get_peers(const hm_node *n, hm_node_peer *out, size_t max)
{
    for (uint32_t i = 0; i < n->count && i < max; i++) {
        const node_peer *p = &n->peers[i];
        hm_node_peer *o = &out[i];
        *o = (hm_node_peer){.id = p->id, .addr = p->addr, .state = p->state};
        snprintf(o->name, sizeof o->name, "%s", n->genesis->validators[i].name);
        hm_overlay_addr(&p->id, 0, o->overlay_addr.s6_addr);
        snprintf(o->reason, sizeof o->reason, "%s", p->reason);
        o->self = i == n->self;
        o->since_ms = p->since_ms;
        o->height = p->height;
        o->state_root = p->state_root;
        o->power = n->validators[i].power;
        o->bytes_sent = p->bytes_sent;
        o->bytes_received = p->bytes_received;
        if (o->self) {
            o->state = HM_PEER_UP;
            o->height = hm_ledger_height(n->ledger);
            if (hm_view_root(hm_ledger_tip(n->ledger), &o->state_root) != HM_OK)
                o->state_root = (hm_hash){0};
        } else if (p->conn != NULL) {
            stoq_conn_stats s;
            stoq_conn_get_stats(p->conn, &s);
            o->rtt_us = s.rtt_us;
            o->bytes_sent += s.bytes_sent;
            o->bytes_received += s.bytes_received;
        }
    }
    return n->count;
}

static const struct {
    const char *name, *help, *labels;
} count_names[COUNTS] = {
    [COUNT_REFUSED_PEER] = {"hm_mesh_refused_total", "things from outside that were refused",
                            "what=\"peer\""},
    [COUNT_REFUSED_MESSAGE] = {"hm_mesh_refused_total", "", "what=\"message\""},
    [COUNT_REFUSED_OP] = {"hm_mesh_refused_total", "", "what=\"operation\""},
    [COUNT_REFUSED_BLOCK] = {"hm_mesh_refused_total", "", "what=\"block\""},
    [COUNT_REFUSED_VOTE] = {"hm_mesh_refused_total", "", "what=\"vote\""},
    [COUNT_BLOCKS_FINAL] = {"hm_mesh_blocks_final_total", "blocks that became final here", ""},
    [COUNT_OPS_FINAL] = {"hm_mesh_operations_final_total", "operations that became final here", ""},
    [COUNT_BLOCKS_PROPOSED] = {"hm_mesh_blocks_proposed_total", "blocks that this node built", ""},
    [COUNT_CHUNKS_SENT] = {"hm_content_chunks_sent_total", "chunks sent to peers", ""},
    [COUNT_CHUNKS_RECEIVED] = {"hm_content_chunks_received_total", "chunks taken from peers", ""},
    [COUNT_CHUNKS_REPAIRED] = {"hm_content_chunks_repaired_total",
                               "chunks sent again to keep their copies", ""},
    [COUNT_CLAIMS_TRUE] = {"hm_content_claims_total", "chunks asked of members that claim them",
                           "held=\"true\""},
    [COUNT_CLAIMS_FALSE] = {"hm_content_claims_total", "", "held=\"false\""},
};

void hm_node_each_counter(const hm_node *n, hm_node_counter_cb cb, void *ctx)
{
    for (unsigned i = 0; i < COUNTS; i++)
        cb(ctx, count_names[i].name, count_names[i].help, count_names[i].labels, n->counts[i],
           false);
    stoq_endpoint_stats e;
    stoq_endpoint_get_stats(n->endpoint, &e);
    cb(ctx, "hm_stoq_datagrams_received_total", "UDP datagrams received", "", e.datagrams_received,
       false);
    cb(ctx, "hm_stoq_datagrams_dropped_total", "datagrams that belong to no connection", "",
       e.datagrams_dropped, false);
    cb(ctx, "hm_stoq_handshakes_failed_total", "connections that never were", "",
       e.handshake_failed, false);
    cb(ctx, "hm_stoq_connections", "connections open now", "", e.connections, true);
    hm_content_stats content;
    hm_content_get_stats(n->content, &content);
    cb(ctx, "hm_content_collected_total", "chunks and manifests that no asset referred to", "",
       content.collected, false);
    cb(ctx, "hm_content_collected_bytes_total", "bytes of them", "", content.collected_bytes,
       false);
    cb(ctx, "hm_content_upload_bytes", "bytes stored here to which no asset refers yet", "",
       content.upload_bytes, true);
    cb(ctx, "hm_mesh_pending_operations", "operations that wait for a block", "", n->pending_count,
       true);
}
