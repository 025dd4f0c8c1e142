// The consensus core at work: its actions carried out on the ledger, the log of votes and the
// peers.
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "mesh/node_internal.h"
#include "mesh/node_module.h"

#define DELTA_US 150000u
#define DELTA_MIN_US 50000u
#define DELTA_MAX_US 5000000u
#define IDLE_US 1000000u
#define CANDIDATES_MAX 4096u
#define CLOCK_AHEAD_MS 3000u // a block's time may be so far ahead of this node's clock
#define WAL_REWRITE_BYTES (32u << 20)
#define BLOCKS_BYTES_MAX (8u << 20) // answers to one request for blocks
#define STALL_US 10000000u

// ---- calls of the core --------------------------------------------------------------------------

static hm_err core_sign(void *ctx, hm_bytes message, hm_buf *sig)
{
    hm_node *n = ctx;
    return hm_sign(n->key, HM_SIMPLEX_DOMAIN, message, sig);
}

static hm_err core_block_info(void *ctx, hm_bytes block, hm_simplex_block_info *out)
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

// ---- actions ------------------------------------------------------------------------------------

static void do_build(hm_node *n, const hm_simplex_action *a)
{
    hm_hash parent_id = a->parent;
    uint64_t view = a->view;
    hm_view *parent = views_find(n, &parent_id), *v = NULL;
    if (parent == NULL) {
        hm_log(HM_LOG_WARN, "mesh", "no state to build on", "view=%llu", (unsigned long long)view);
        return;
    }
    static hm_bytes ops[CANDIDATES_MAX];
    static node_pending *entries[CANDIDATES_MAX];
    static hm_err outcome[CANDIDATES_MAX];
    size_t count = pool_candidates(n, ops, entries, CANDIDATES_MAX);
    hm_buf block = {0};
    hm_err err = hm_ledger_build(n->ledger, parent, view, &n->id, node_wall_ms(), ops, count,
                                 outcome, &block, &v);
    if (err == HM_OK) {
        for (size_t i = 0; i < count; i++)
            entries[i]->suspect |= outcome[i] != HM_OK && outcome[i] != HM_E_AGAIN;
        views_keep(n, v);
        n->counts[COUNT_BLOCKS_PROPOSED]++;
        err = hm_simplex_proposal(n->simplex, node_now_us(), hm_buf_bytes(&block));
    }
    if (err != HM_OK)
        hm_log(HM_LOG_WARN, "mesh", "proposal not made", "view=%llu reason=\"%s: %s\"",
               (unsigned long long)view, hm_err_text(err), hm_err_detail());
    hm_buf_free(&block);
}

// Executes a block unless it was, and keeps its view.
static hm_err execute(hm_node *n, const hm_hash *id, const hm_hash *parent_id, hm_bytes bytes,
                      hm_view **out)
{
    hm_view *v = views_find(n, id);
    if (v == NULL) {
        hm_view *parent = views_find(n, parent_id);
        if (parent == NULL)
            return hm_fail(HM_E_NOTFOUND, "the block's parent is not known");
        HM_TRY(hm_ledger_execute(n->ledger, parent, bytes, &v));
        views_keep(n, v);
        v = views_find(n, id);
        if (v == NULL)
            return hm_fail(HM_E_LIMIT, "too many blocks wait to be final");
    }
    *out = v;
    return HM_OK;
}

static void do_validate(hm_node *n, const hm_simplex_action *a)
{
    hm_hash id = a->id, parent = a->parent;
    hm_view *v = NULL;
    hm_block_header h;
    hm_err err = hm_block_peek(a->bytes, &h);
    if (err == HM_OK && h.time_ms > node_wall_ms() + CLOCK_AHEAD_MS)
        err =
            hm_fail(HM_E_BLOCK, "block %llu is %llu ms ahead of this node's clock",
                    (unsigned long long)h.height, (unsigned long long)(h.time_ms - node_wall_ms()));
    if (err == HM_OK)
        err = execute(n, &id, &parent, a->bytes, &v);
    if (err != HM_OK)
        node_refused(n, COUNT_REFUSED_BLOCK, NULL, "%s", hm_err_detail());
    hm_simplex_validated(n->simplex, node_now_us(), &id, err == HM_OK);
}

static void fatal(hm_node *n, const char *what, hm_err err)
{
    (void)n;
    hm_log(HM_LOG_ERROR, "mesh", what, "reason=\"%s: %s\"", hm_err_text(err), hm_err_detail());
    // Going on could break a promise that others rely on; what is on disk is whole.
    _exit(70);
}

static void rewrite_wal(hm_node *n)
{
    hm_arena arena = {0};
    hm_bytes *records = NULL;
    size_t count = 0;
    hm_err err = hm_simplex_wal_snapshot(n->simplex, &arena, &records, &count);
    if (err == HM_OK)
        err = hm_wal_rewrite(n->wal, records, count);
    hm_arena_free(&arena);
    if (err != HM_OK)
        fatal(n, "the log of votes cannot be rewritten", err);
}

// Did this node take part when the block was made, or does it only hear of it now?
static bool was_here(const hm_node *n, const hm_block_header *h)
{
    return h->height > n->sync_to && n->quorum_since_ms != 0 && h->time_ms >= n->quorum_since_ms;
}

static void tell_final(hm_node *n, hm_view *v, uint32_t ops)
{
    uint64_t now = node_now_us();
    const hm_block_header *h = hm_view_header(v);
    uint64_t wall = node_wall_ms();
    hm_node_event e = {.height = h->height, .count = ops, .hash = hm_view_block_id(v)};
    if (was_here(n, h) && wall > h->time_ms)
        e.finality_us = (wall - h->time_ms) * 1000;
    n->counts[COUNT_BLOCKS_FINAL]++;
    n->counts[COUNT_OPS_FINAL] += ops;
    n->final_wall_ms = wall;
    n->final_mono_us = now;
    n->stalled = false;
    node_event(n, HM_EVENT_FINAL, &e, "block %llu is final", (unsigned long long)h->height);
}

// Views between a block and its parent had no block that a quorum took.
static void tell_nullified(hm_node *n, const hm_block_header *h, uint64_t parent_view)
{
    uint64_t first = parent_view + 1, count = h->view - first;
    if (count == 0 || !was_here(n, h))
        return;
    uint32_t leader = hm_simplex_leader(&n->set, &n->genesis->chain_id, first);
    hm_node_event e = {.height = h->height, .count = (uint32_t)count, .peer = n->ids[leader]};
    if (count == 1)
        node_event(n, HM_EVENT_NULLIFIED, &e, "view %llu, led by %s, gave no block",
                   (unsigned long long)first, n->genesis->validators[leader].name);
    else
        node_event(n, HM_EVENT_NULLIFIED, &e, "views %llu to %llu gave no block",
                   (unsigned long long)first, (unsigned long long)(h->view - 1));
}

// May a peer that was believed before the block be one no more?
static bool may_end_trust(const hm_block *block)
{
    for (uint32_t i = 0; i < block->count; i++) {
        hm_op op;
        if (hm_op_decode(block->ops[i], &op, NULL) == HM_OK &&
            (op.module == HM_MODULE_TRUST ||
             (op.module == HM_MODULE_NODE && op.kind == HM_NODE_CRL)))
            return true;
    }
    return false;
}

static void do_final(hm_node *n, const hm_simplex_action *a)
{
    const hm_block_header *tip = hm_view_header(hm_ledger_tip(n->ledger));
    uint64_t parent_view = tip == NULL ? 0 : tip->view;
    hm_hash id = a->id, parent = a->parent;
    hm_block block;
    hm_view *v = NULL;
    hm_err err = hm_block_decode(a->bytes, &block);
    if (err != HM_OK)
        fatal(n, "a final block cannot be read", err);
    err = execute(n, &id, &parent, a->bytes, &v);
    if (err == HM_OK)
        err = hm_ledger_commit(n->ledger, v, a->cert);
    if (err != HM_OK)
        fatal(n, "a final block cannot be written", err);
    hm_view_ref(v);
    views_prune(n);
    tell_nullified(n, &block.header, parent_view);
    tell_final(n, v, block.count);
    hm_view_release(v);
    pool_committed(n, &block);
    bool recheck = may_end_trust(&block);
    hm_block_free(&block);
    if (recheck)
        peers_recheck(n);
    if (hm_wal_size_bytes(n->wal) > WAL_REWRITE_BYTES)
        rewrite_wal(n);
    keep_committed(n);
    duty_committed(n);
    if (n->pending_count > 0)
        agree_nudge(n);
}

static void do_fetch(hm_node *n, const hm_simplex_action *a)
{
    node_message m = {.type = MSG_BLOCKS_GET, .height = a->height, .to_height = a->to_height};
    (void)peer_send(n, a->peer, LANE_BULK, &m);
}

static void evidence_done(void *ctx, hm_err err, const char *detail, const hm_node_receipt *receipt)
{
    (void)ctx, (void)receipt;
    if (err != HM_OK && err != HM_E_OP_DUPLICATE && err != HM_E_CLOSED)
        hm_log(HM_LOG_WARN, "mesh", "evidence not recorded", "reason=\"%s\"", detail);
}

static void do_evidence(hm_node *n, const hm_simplex_action *a)
{
    hm_node_event e = {.peer = n->ids[a->peer]};
    hm_buf payload = {0};
    node_event(n, HM_EVENT_EVIDENCE, &e, "%s contradicted itself",
               n->genesis->validators[a->peer].name);
    hm_node_payload_encode(a->bytes, &payload);
    if (hm_buf_status(&payload) != HM_OK ||
        pool_submit(n, HM_MODULE_NODE, HM_NODE_EVIDENCE, hm_buf_bytes(&payload), evidence_done,
                    NULL) != HM_OK)
        hm_log(HM_LOG_WARN, "mesh", "evidence not submitted", "reason=\"%s\"", hm_err_detail());
    hm_buf_free(&payload);
}

static void do_send(hm_node *n, const hm_simplex_action *a)
{
    node_message m = {.type = MSG_CONSENSUS, .bytes = a->bytes};
    if (a->peer == HM_SIMPLEX_ALL)
        peers_send_all(n, LANE_FAST, &m);
    else
        (void)peer_send(n, a->peer, LANE_FAST, &m);
}

static void do_action(hm_node *n, const hm_simplex_action *a)
{
    hm_err err;
    switch (a->kind) {
    case HM_SIMPLEX_PERSIST:
        if ((err = hm_wal_append(n->wal, a->bytes)) != HM_OK)
            fatal(n, "a vote cannot be written", err);
        break;
    case HM_SIMPLEX_SEND:
        do_send(n, a);
        break;
    case HM_SIMPLEX_BUILD:
        do_build(n, a);
        break;
    case HM_SIMPLEX_VALIDATE:
        do_validate(n, a);
        break;
    case HM_SIMPLEX_FETCH:
        do_fetch(n, a);
        break;
    case HM_SIMPLEX_FINAL:
        do_final(n, a);
        break;
    case HM_SIMPLEX_EVIDENCE:
        do_evidence(n, a);
        break;
    case HM_SIMPLEX_EVENT: {
        char quoted[300];
        hm_log(HM_LOG_DEBUG, "simplex", "event", "text=%s",
               hm_log_quote(quoted, sizeof quoted, a->bytes));
        break;
    }
    }
}

// Power of the members that told of a final block at this height or above.
static uint64_t power_at(const hm_node *n, uint64_t height)
{
    uint64_t power = 0;
    for (uint32_t i = 0; i < n->count; i++)
        power += hm_simplex_peer_height(n->simplex, i) >= height ? n->validators[i].power : 0;
    return power;
}

// The greatest final height that a third of the power told of, one honest member among them: what
// others say is not checked, and one could make this node think that it is behind for ever.
static uint64_t told_height(const hm_node *n)
{
    uint64_t best = 0, total = power_at(n, 0);
    for (uint32_t i = 0; i < n->count; i++) {
        uint64_t height = hm_simplex_peer_height(n->simplex, i);
        if (height > best && power_at(n, height) * 3 >= total)
            best = height;
    }
    return best;
}

static void watch_progress(hm_node *n, uint64_t now)
{
    hm_simplex_status s;
    hm_simplex_get_status(n->simplex, &s);
    uint64_t told = told_height(n);
    bool behind = told > s.final_height + 2;
    if (behind)
        n->sync_to = told;
    if (behind != n->syncing) {
        n->syncing = behind;
        node_event(n, HM_EVENT_SYNC, NULL,
                   behind ? "behind: others say that block %llu is final"
                          : "caught up at block %llu",
                   (unsigned long long)(behind ? told : s.final_height));
    }
    n->stalled = now > n->final_mono_us + STALL_US;
    bool quorum;
    (void)peers_connected(n, &quorum);
    if (!quorum)
        n->quorum_since_ms = 0;
    else if (n->quorum_since_ms == 0)
        n->quorum_since_ms = node_wall_ms();
}

void agree_run(hm_node *n, uint64_t now_us)
{
    hm_simplex_action a;
    uint64_t before = hm_ledger_height(n->ledger);
    if (hm_simplex_next_timeout(n->simplex) <= now_us)
        hm_simplex_timer(n->simplex, now_us);
    while (hm_simplex_next_action(n->simplex, &a))
        do_action(n, &a);
    if (hm_ledger_height(n->ledger) != before)
        peer_status(n, UINT32_MAX);
    watch_progress(n, now_us);
}

uint64_t agree_next_us(const hm_node *n)
{
    return hm_simplex_next_timeout(n->simplex);
}

void agree_nudge(hm_node *n)
{
    hm_simplex_nudge(n->simplex, node_now_us());
}

void agree_peer_up(hm_node *n, uint32_t index)
{
    hm_simplex_peer_up(n->simplex, node_now_us(), index);
}

void agree_peer_down(hm_node *n, uint32_t index)
{
    hm_simplex_peer_down(n->simplex, node_now_us(), index);
}

void agree_message(hm_node *n, uint32_t from, const node_message *m)
{
    hm_err err = hm_simplex_message(n->simplex, node_now_us(), from, m->bytes);
    if (err == HM_OK)
        return;
    peer_annoys(n, from);
    node_refused(n, COUNT_REFUSED_VOTE, &n->ids[from], "%s: %s", hm_err_text(err), hm_err_detail());
}

// ---- catching up --------------------------------------------------------------------------------

void agree_blocks_get(hm_node *n, uint32_t from, const node_message *asked)
{
    node_message m = {.type = MSG_BLOCK, .height = asked->height};
    for (size_t given = 0; m.height <= asked->to_height && given < BLOCKS_BYTES_MAX; m.height++) {
        if (peer_backlog(n, from, LANE_BULK) > BLOCKS_BYTES_MAX ||
            hm_ledger_block_at(n->ledger, m.height, &m.bytes, &m.cert) != HM_OK ||
            !peer_send(n, from, LANE_BULK, &m))
            return;
        given += m.bytes.len + m.cert.len;
    }
}

void agree_block(hm_node *n, uint32_t from, const node_message *m)
{
    hm_err err = hm_simplex_certified_block(n->simplex, node_now_us(), from, m->bytes, m->cert);
    if (err == HM_OK || err == HM_E_AGAIN)
        return;
    peer_annoys(n, from);
    node_refused(n, COUNT_REFUSED_BLOCK, &n->ids[from], "a block for catching up: %s: %s",
                 hm_err_text(err), hm_err_detail());
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err restore(void *ctx, hm_bytes record)
{
    hm_node *n = ctx;
    return hm_simplex_restore(n->simplex, record);
}

hm_err agree_open(hm_node *n)
{
    hm_view *tip = hm_ledger_tip(n->ledger);
    const hm_block_header *h = hm_view_header(tip);
    hm_simplex_config cfg = {
        .set = n->set,
        .self = n->self,
        .seed = n->genesis->chain_id,
        .tip_height = hm_view_height(tip),
        .tip_view = h == NULL ? 0 : h->view,
        .tip_id = hm_view_block_id(tip),
        .delta_us = DELTA_US,
        .delta_min_us = DELTA_MIN_US,
        .delta_max_us = DELTA_MAX_US,
        .idle_us = IDLE_US,
        .calls = {n, core_sign, core_block_info},
    };
    char path[4100];
    HM_TRY(hm_simplex_new(&cfg, &n->simplex));
    n->views.bytes_max = NODE_VIEWS_BYTES;
    snprintf(path, sizeof path, "%s/votes.wal", n->dir);
    struct stat st;
    if (cfg.tip_height > 0 && (stat(path, &st) != 0 || st.st_size == 0))
        return hm_fail(HM_E_CORRUPT,
                       "%s is gone: without its votes the node may contradict itself and lose its "
                       "stake; restore the disk or rejoin with a new key",
                       path);
    HM_TRY(hm_wal_open(path, restore, n, &n->wal));
    n->final_mono_us = node_now_us();
    hm_simplex_start(n->simplex, n->final_mono_us);
    return HM_OK;
}

void agree_close(hm_node *n)
{
    views_free(n);
    hm_simplex_free(n->simplex);
    hm_wal_close(n->wal);
}
