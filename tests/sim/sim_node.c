// A node: it carries out what its core asks, as src/mesh/node_agree.c does, falls and starts again.
#include <unistd.h>

#include "sim_internal.h"

#define RESTART_ALWAYS_US 3000000u

// ---- clock --------------------------------------------------------------------------------------

uint64_t sim_node_clock(const sim *s, const sim_node *nd)
{
    return nd->clock_base + (s->now - nd->clock_since) * nd->clock_ppm / 1000000;
}

// The time for an input to the core, which forgets at that what lies behind the last FINAL.
static uint64_t input_time(const sim *s, sim_node *nd)
{
    nd->given_before = nd->core->given_view;
    return sim_node_clock(s, nd);
}

// The first moment of the run at which the node's clock shows `local`.
static uint64_t when_clock_shows(const sim *s, const sim_node *nd, uint64_t local)
{
    if (local <= sim_node_clock(s, nd))
        return s->now;
    if (local == SIM_NEVER)
        return SIM_NEVER;
    uint64_t at = nd->clock_since + (local - nd->clock_base) * 1000000 / nd->clock_ppm;
    while (nd->clock_base + (at - nd->clock_since) * nd->clock_ppm / 1000000 < local)
        at++;
    return at;
}

// ---- ids that this life knows -------------------------------------------------------------------

static bool knows(const hm_map *m, const hm_hash *id)
{
    return hm_map_get(m, id->b) != NULL;
}

static void learn(hm_map *m, const hm_hash *id)
{
    sim_must(hm_map_put(m, id->b, m), "map");
}

static bool executed(const sim *s, const sim_node *nd, const hm_hash *id)
{
    sim_tip tip = s->ledger->tip(nd);
    return knows(&nd->validated, id) || hm_hash_eq(&tip.id, id);
}

// ---- calls of the core --------------------------------------------------------------------------

typedef struct core_ctx {
    sim *s;
    sim_node *nd;
} core_ctx;

static core_ctx contexts[SIM_NODES_MAX];

static hm_err core_sign(void *ctx, hm_bytes message, hm_buf *sig)
{
    core_ctx *c = ctx;
    hm_rd r = hm_rd_of(message);
    hm_hash id;
    if (c->s->chaos && c->s->p.fault_us > 0 && sim_chance(c->s, 500))
        return hm_fail(HM_E_CRYPTO, "the key is out of reach");
    (void)hm_rd_raw(&r, HM_HASH_BYTES + 8);
    uint64_t view = hm_rd_u64(&r);
    hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(&r);
    hm_rd_copy(&r, id.b, sizeof id.b);
    sim_sign(c->s, c->nd->index, view, kind, &id, sig);
    return HM_OK;
}

static hm_err core_block_info(void *ctx, hm_bytes block, hm_simplex_block_info *out)
{
    core_ctx *c = ctx;
    return c->s->ledger->block_info(c->s, block, out);
}

// ---- life ---------------------------------------------------------------------------------------

void sim_node_init(sim *s, uint32_t number, uint32_t index)
{
    sim_node *nd = &s->nodes[number];
    nd->number = number;
    nd->index = index;
    nd->byz = s->p.byz[index];
    nd->wake.what = SIM_WAKE;
    nd->wake.node = number;
    snprintf(nd->wal_path, sizeof nd->wal_path, "%s/%u.wal", sim_dir(s), number);
    nd->seen = calloc((size_t)s->p.n * SIM_SEEN_VIEWS, sizeof *nd->seen);
    hm_assert(nd->seen != NULL);
    hm_map_init(&nd->validated, HM_HASH_BYTES, 0, &hm_random_system);
    hm_map_init(&nd->asked, HM_HASH_BYTES, 0, &hm_random_system);
    contexts[number] = (core_ctx){s, nd};
}

static void forget_life(sim *s, sim_node *nd)
{
    hm_map_free(&nd->validated);
    hm_map_free(&nd->asked);
    hm_map_init(&nd->validated, HM_HASH_BYTES, 0, &hm_random_system);
    hm_map_init(&nd->asked, HM_HASH_BYTES, 0, &hm_random_system);
    memset(nd->seen, 0, (size_t)s->p.n * SIM_SEEN_VIEWS * sizeof *nd->seen);
    for (uint32_t i = 0; i < nd->pool_count; i++)
        sim_blob_unref(nd->pool[i]);
    nd->pool_count = 0;
    nd->acting = false;
    nd->crash_in = 0;
}

typedef struct restored {
    sim *s;
    sim_node *nd;
    hm_buf records;
} restored;

static hm_err restore(void *ctx, hm_bytes record)
{
    restored *r = ctx;
    hm_wr_bytes(&r->records, record);
    return hm_simplex_restore(r->nd->core, record);
}

// What the log gives back will be sent: it must be on the disk, not only in a cache.
static hm_err open_wal(sim *s, sim_node *nd)
{
    restored back = {.s = s, .nd = nd};
    uint64_t syncs = sim_os_syncs();
    HM_TRY(hm_wal_open(nd->wal_path, restore, &back, &nd->wal));
    hm_rd r = hm_rd_of(hm_buf_bytes(&back.records));
    while (r.left > 0 && sim_os_syncs() != syncs && nd->byz == 0)
        sim_check_durable(s, nd, hm_rd_bytes(&r, HM_WAL_RECORD_MAX));
    hm_buf_free(&back.records);
    return HM_OK;
}

void sim_node_start(sim *s, sim_node *nd)
{
    nd->up = true;
    nd->clock_base = sim_between(s, 1, UINT64_C(1) << 40);
    nd->clock_since = s->now;
    nd->clock_ppm = (uint32_t)sim_between(s, 1000000 - s->p.skew_ppm, 1000000 + s->p.skew_ppm);
    nd->paused_until = 0;
    if ((nd->byz & SIM_BYZ_AMNESIA) != 0)
        (void)unlink(nd->wal_path);
    s->ledger->open(s, nd);
    sim_tip tip = s->ledger->tip(nd);
    hm_simplex_config cfg = {.set = s->set,
                             .self = nd->index,
                             .seed = s->seed,
                             .tip_height = tip.height,
                             .tip_view = tip.view,
                             .tip_id = tip.id,
                             .delta_us = s->p.delta_us,
                             .delta_min_us = s->p.delta_min_us,
                             .delta_max_us = s->p.delta_max_us,
                             .idle_us = s->p.idle_us,
                             .calls = {&contexts[nd->number], core_sign, core_block_info}};
    sim_must(hm_simplex_new(&cfg, &nd->core), "core");
    hm_err err = open_wal(s, nd);
    if (err != HM_OK) {
        sim_fail(s, "what was durable can be read again", "node %u: %s: %s", nd->number,
                 hm_err_text(err), hm_err_detail());
        hm_simplex_free(nd->core);
        nd->core = NULL;
        nd->up = false;
        return;
    }
    nd->wal_limit = s->p.wal_rewrite_bytes;
    nd->restored = nd->core->high;
    nd->given_before = tip.view;
    sim_note(s, "start", nd->number, UINT32_MAX, tip.height, tip.view, &tip.id);
    if (nd->byz == 0)
        sim_check_started(s, nd);
    hm_simplex_start(nd->core, input_time(s, nd));
    for (uint32_t v = 0; v < s->p.n; v++)
        if (v != nd->index && sim_chance(s, 800000)) {
            sim_at(s, s->now + sim_between(s, 0, 20000), SIM_PEER_UP, nd->number)->from = v;
            for (uint32_t i = 0; i < s->node_count; i++)
                if (s->nodes[i].index == v && s->nodes[i].up)
                    sim_at(s, s->now + sim_between(s, 0, 20000), SIM_PEER_UP, i)->from = nd->index;
        }
    sim_node_settle(s, nd);
}

void sim_node_crash(sim *s, sim_node *nd, uint64_t restart_us)
{
    uint64_t synced = hm_wal_size_bytes(nd->wal);
    sim_note(s, "crash", nd->number, UINT32_MAX, restart_us, synced, NULL);
    nd->up = false;
    nd->life++;
    s->r.crashes++;
    hm_simplex_free(nd->core);
    nd->core = NULL;
    hm_wal_close(nd->wal);
    nd->wal = NULL;
    s->ledger->close(s, nd);
    hm_heap_remove(&s->heap, &nd->wake.heap);
    forget_life(s, nd);
    for (uint32_t i = 0; i < s->node_count; i++)
        if (s->nodes[i].up && sim_chance(s, 700000))
            sim_at(s, s->now + sim_between(s, 0, 1000000), SIM_PEER_DOWN, i)->from = nd->index;
    if (restart_us != SIM_NEVER)
        sim_at(s, s->now + restart_us, SIM_RESTART, nd->number);
}

void sim_node_free(sim *s, sim_node *nd)
{
    if (nd->up) {
        hm_simplex_free(nd->core);
        hm_wal_close(nd->wal);
        s->ledger->close(s, nd);
    }
    forget_life(s, nd);
    hm_map_free(&nd->validated);
    hm_map_free(&nd->asked);
    s->ledger->free(s, nd);
    free(nd->seen);
}

// ---- actions ------------------------------------------------------------------------------------

static void do_persist(sim *s, sim_node *nd, const hm_simplex_action *a, bool crash)
{
    uint64_t synced = hm_wal_size_bytes(nd->wal), syncs = sim_os_syncs();
    bool fails = crash || nd->disk_fails;
    nd->disk_fails = false;
    sim_os_fail_sync(fails);
    hm_err err = hm_wal_append(nd->wal, a->bytes);
    sim_os_fail_sync(false);
    sim_note(s, fails ? "persist-fails" : "persist", nd->number, UINT32_MAX, a->bytes.len, synced,
             NULL);
    if (fails) {
        if (err == HM_OK)
            sim_fail(s, "a failed sync is an error", "node %u", nd->number);
        // As fatal() of the node: what is on disk is not known, so it starts again.
        sim_node_crash(s, nd, sim_around(s, 200000));
        sim_disk_tear(s, nd->wal_path, synced);
        return;
    }
    sim_must(err, "log of votes");
    if (sim_os_syncs() == syncs)
        sim_fail(s, "votes are durable before they are sent", "node %u: no sync", nd->number);
    if (nd->byz == 0)
        sim_check_durable(s, nd, a->bytes);
}

static void do_send(sim *s, sim_node *nd, const hm_simplex_action *a)
{
    if (a->peer != HM_SIMPLEX_ALL && (a->peer >= s->p.n || a->peer == nd->index))
        sim_fail(s, "a message has a receiver", "node %u: %u", nd->number, a->peer);
    if (a->bytes.len > HM_SIMPLEX_MESSAGE_MAX)
        sim_fail(s, "messages are bounded", "node %u: %zu bytes", nd->number, a->bytes.len);
    sim_note(s, "send", nd->number, a->peer, a->bytes.ptr[0], a->bytes.len, NULL);
    if (nd->byz == 0)
        sim_check_sent(s, nd, a->bytes);
    sim_blob *b = nd->byz == 0 ? sim_blob_new(a->bytes) : NULL;
    for (uint32_t v = 0; v < s->p.n; v++) {
        if (v == nd->index || (a->peer != HM_SIMPLEX_ALL && a->peer != v))
            continue;
        if (b != NULL)
            sim_net_send(s, nd, v, SIM_MESSAGE, b, true);
        else
            sim_byz_send(s, nd, v, a->bytes);
    }
    sim_blob_unref(b);
}

static void answer_build(sim *s, sim_node *nd, const hm_hash *parent, uint64_t view)
{
    hm_buf block = {0};
    hm_simplex_block_info info;
    hm_err err = s->ledger->build(s, nd, parent, view, &block);
    if (err == HM_OK && nd->byz != 0)
        sim_byz_block(s, nd, &block);
    if (err == HM_OK)
        err = hm_simplex_proposal(nd->core, input_time(s, nd), hm_buf_bytes(&block));
    if (err == HM_OK && s->ledger->block_info(s, hm_buf_bytes(&block), &info) == HM_OK) {
        learn(&nd->validated, &info.id);
        sim_note(s, "proposed", nd->number, UINT32_MAX, view, info.height, &info.id);
    }
    hm_buf_free(&block);
}

static void do_build(sim *s, sim_node *nd, const hm_simplex_action *a)
{
    hm_hash parent = a->parent;
    uint64_t view = a->view;
    sim_note(s, "build", nd->number, UINT32_MAX, a->view, a->height, &a->parent);
    if (nd->byz == 0 && !executed(s, nd, &parent))
        sim_fail(s, "BUILD stands on what was validated", "node %u, view %llu", nd->number,
                 (unsigned long long)view);
    if (s->p.answer_us == 0) {
        answer_build(s, nd, &parent, view);
        return;
    }
    sim_event *e = sim_at(s, s->now + sim_between(s, 0, s->p.answer_us), SIM_BUILD, nd->number);
    e->a = view;
    e->id = parent;
}

static void do_validate(sim *s, sim_node *nd, const hm_simplex_action *a)
{
    hm_hash id = a->id, parent = a->parent;
    if (nd->byz == 0 && !executed(s, nd, &parent))
        sim_fail(s, "VALIDATE stands on what was validated", "node %u, view %llu", nd->number,
                 (unsigned long long)a->view);
    if (nd->byz == 0 && knows(&nd->asked, &id))
        sim_fail(s, "VALIDATE is asked once", "node %u, view %llu", nd->number,
                 (unsigned long long)a->view);
    learn(&nd->asked, &id);
    bool ok = s->ledger->execute(s, nd, &id, &parent, a->bytes) == HM_OK;
    sim_note(s, ok ? "valid" : "invalid", nd->number, UINT32_MAX, a->view, a->height, &id);
    if (ok)
        learn(&nd->validated, &id);
    if (s->p.answer_us == 0) {
        hm_simplex_validated(nd->core, input_time(s, nd), &id, ok);
        return;
    }
    sim_event *e = sim_at(s, s->now + sim_between(s, 0, s->p.answer_us), SIM_VALIDATED, nd->number);
    e->id = id;
    e->ok = ok;
}

static void pool_prune(sim *s, sim_node *nd)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < nd->pool_count; i++) {
        if (s->ledger->op_alive(nd, sim_blob_bytes(nd->pool[i])))
            nd->pool[kept++] = nd->pool[i];
        else
            sim_blob_unref(nd->pool[i]);
    }
    nd->pool_count = kept;
}

static void do_final(sim *s, sim_node *nd, const hm_simplex_action *a)
{
    hm_hash state, id = a->id, parent = a->parent;
    sim_note(s, "final", nd->number, UINT32_MAX, a->height, a->view, &a->id);
    hm_err err = s->ledger->commit(s, nd, &id, &parent, a->bytes, a->cert, &state);
    if (nd->byz != 0)
        return;
    if (err != HM_OK)
        sim_fail(s, "a final block can be executed", "node %u, height %llu: %s: %s", nd->number,
                 (unsigned long long)a->height, hm_err_text(err), hm_err_detail());
    else
        sim_check_final(s, nd, a, &state);
    pool_prune(s, nd);
    if (nd->wal_limit > 0 && hm_wal_size_bytes(nd->wal) > nd->wal_limit) {
        hm_arena arena = {0};
        hm_bytes *records;
        size_t count;
        sim_must(hm_simplex_wal_snapshot(nd->core, &arena, &records, &count), "snapshot");
        sim_must(hm_wal_rewrite(nd->wal, records, count), "rewrite");
        sim_note(s, "rewrite", nd->number, UINT32_MAX, count, hm_wal_size_bytes(nd->wal), NULL);
        hm_arena_free(&arena);
    }
    if (nd->pool_count > 0)
        hm_simplex_nudge(nd->core, input_time(s, nd));
}

static void do_fetch(sim *s, sim_node *nd, const hm_simplex_action *a)
{
    uint8_t mem[16];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    sim_note(s, "fetch", nd->number, a->peer, a->height, a->to_height, NULL);
    s->r.fetches++;
    if (nd->byz == 0 &&
        (a->peer >= s->p.n || a->peer == nd->index || a->height == 0 || a->to_height < a->height ||
         a->to_height - a->height >= HM_SIMPLEX_FETCH_MAX))
        sim_fail(s, "FETCH asks for what can be", "node %u: %u for %llu..%llu", nd->number, a->peer,
                 (unsigned long long)a->height, (unsigned long long)a->to_height);
    hm_wr_u64(&b, a->height);
    hm_wr_u64(&b, a->to_height);
    sim_blob *blob = sim_blob_new(hm_buf_bytes(&b));
    sim_net_send(s, nd, a->peer, SIM_BLOCKS_GET, blob, true);
    sim_blob_unref(blob);
}

static void act(sim *s, sim_node *nd, const hm_simplex_action *a)
{
    bool crash = nd->crash_in > 0 && --nd->crash_in == 0;
    if (crash && (a->kind != HM_SIMPLEX_PERSIST || sim_chance(s, 300000))) {
        sim_node_crash(s, nd, sim_around(s, 200000));
        return;
    }
    switch (a->kind) {
    case HM_SIMPLEX_PERSIST:
        do_persist(s, nd, a, crash);
        break;
    case HM_SIMPLEX_SEND:
        do_send(s, nd, a);
        break;
    case HM_SIMPLEX_BUILD:
        do_build(s, nd, a);
        break;
    case HM_SIMPLEX_VALIDATE:
        do_validate(s, nd, a);
        break;
    case HM_SIMPLEX_FETCH:
        do_fetch(s, nd, a);
        break;
    case HM_SIMPLEX_FINAL:
        do_final(s, nd, a);
        break;
    case HM_SIMPLEX_EVIDENCE:
        if (nd->byz == 0)
            sim_check_evidence(s, nd, a);
        break;
    case HM_SIMPLEX_EVENT:
        sim_note(s, "event", nd->number, UINT32_MAX, a->bytes.len, 0, NULL);
        if (s->p.verbose)
            fprintf(stderr, "                        \"%.*s\"\n", (int)a->bytes.len,
                    (const char *)a->bytes.ptr);
        break;
    }
}

static void act_all(sim *s, sim_node *nd)
{
    hm_simplex_action a;
    nd->acting = false;
    while (nd->core != NULL && !s->failed && hm_simplex_next_action(nd->core, &a))
        act(s, nd, &a);
    if (nd->core != NULL)
        sim_node_schedule(s, nd);
}

void sim_node_schedule(sim *s, sim_node *nd)
{
    uint64_t at = when_clock_shows(s, nd, hm_simplex_next_timeout(nd->core));
    if (at != SIM_NEVER)
        at += sim_between(s, 0, 300); // the machine has other things to do
    if (nd->acting)
        return; // the end of the batch comes first, and schedules again
    if (at == SIM_NEVER)
        hm_heap_remove(&s->heap, &nd->wake.heap);
    else
        sim_must(hm_heap_set(&s->heap, &nd->wake.heap, at), "wake");
}

void sim_node_settle(sim *s, sim_node *nd)
{
    nd->wake.life = nd->life;
    if (!s->p.batch || sim_chance(s, 300000)) {
        act_all(s, nd);
        return;
    }
    if (nd->acting)
        return;
    nd->acting = true;
    sim_must(hm_heap_set(&s->heap, &nd->wake.heap, s->now + sim_between(s, 0, 1500)), "wake");
}

// ---- inputs -------------------------------------------------------------------------------------

static void wake(sim *s, sim_node *nd)
{
    uint64_t now = sim_node_clock(s, nd);
    bool due = hm_simplex_next_timeout(nd->core) <= now;
    if (due)
        hm_simplex_timer(nd->core, input_time(s, nd));
    act_all(s, nd);
    if (nd->core != NULL && due && nd->byz == 0 && hm_simplex_next_timeout(nd->core) <= now)
        sim_fail(s, "a timer that was served is not due again", "node %u", nd->number);
}

void sim_node_submit(sim *s, sim_node *nd, hm_bytes op)
{
    sim_blob *b = sim_blob_new(op);
    sim_event *e = sim_at(s, s->now, SIM_OPS, nd->number);
    e->from = nd->index;
    e->blob = sim_blob_ref(b);
    for (uint32_t v = 0; v < s->p.n; v++)
        if (v != nd->index)
            sim_net_send(s, nd, v, SIM_OPS, b, true);
    sim_blob_unref(b);
}

static void take_op(sim *s, sim_node *nd, const sim_event *e)
{
    hm_bytes op = sim_blob_bytes(e->blob);
    if (nd->pool_count == SIM_POOL_MAX || !s->ledger->op_alive(nd, op))
        return;
    for (uint32_t i = 0; i < nd->pool_count; i++)
        if (hm_bytes_eq(sim_blob_bytes(nd->pool[i]), op))
            return;
    nd->pool[nd->pool_count++] = sim_blob_ref(e->blob);
    if (nd->pool_count == 1)
        hm_simplex_nudge(nd->core, input_time(s, nd));
}

static void give_blocks(sim *s, sim_node *nd, const sim_event *e)
{
    hm_rd r = hm_rd_of(sim_blob_bytes(e->blob));
    uint64_t from = hm_rd_u64(&r), to = hm_rd_u64(&r);
    if (nd->byz != 0) {
        sim_byz_blocks(s, nd, e->from, from, to);
        return;
    }
    hm_buf out = {0};
    hm_bytes block, cert;
    for (uint64_t h = from; h <= to && s->ledger->block_at(nd, h, &block, &cert); h++) {
        hm_wr_bytes(&out, block);
        hm_wr_bytes(&out, cert);
        if (s->chaos && sim_chance(s, 20000))
            break; // the connection ends here
    }
    if (out.len > 0) {
        sim_blob *b = sim_blob_new(hm_buf_bytes(&out));
        sim_net_send(s, nd, e->from, SIM_BLOCKS, b, true);
        sim_blob_unref(b);
    }
    hm_buf_free(&out);
}

static void take_blocks(sim *s, sim_node *nd, const sim_event *e)
{
    hm_rd r = hm_rd_of(sim_blob_bytes(e->blob));
    while (r.left > 0) {
        hm_bytes block = hm_rd_bytes(&r, HM_SIMPLEX_BLOCK_MAX);
        hm_bytes cert = hm_rd_bytes(&r, HM_SIMPLEX_CERT_MAX);
        if (!hm_rd_ok(&r))
            return;
        hm_err err = hm_simplex_certified_block(nd->core, input_time(s, nd), e->from, block, cert);
        if (err != HM_OK && err != HM_E_AGAIN)
            s->r.refused++;
    }
}

void sim_node_event(sim *s, sim_node *nd, sim_event *e)
{
    hm_err err;
    switch (e->what) {
    case SIM_WAKE:
        wake(s, nd);
        return;
    case SIM_MESSAGE:
        err = hm_simplex_message(nd->core, input_time(s, nd), e->from, sim_blob_bytes(e->blob));
        sim_note(s, "message", nd->number, e->from, e->blob->len > 0 ? e->blob->b[0] : 0, err,
                 NULL);
        if (nd->byz == 0)
            sim_check_delivered(s, nd, e, err);
        break;
    case SIM_OPS:
        take_op(s, nd, e);
        break;
    case SIM_BLOCKS_GET:
        give_blocks(s, nd, e);
        return;
    case SIM_BLOCKS:
        take_blocks(s, nd, e);
        break;
    case SIM_BUILD:
        answer_build(s, nd, &e->id, e->a);
        break;
    case SIM_VALIDATED:
        hm_simplex_validated(nd->core, input_time(s, nd), &e->id, e->ok);
        break;
    case SIM_PEER_UP:
        hm_simplex_peer_up(nd->core, input_time(s, nd), e->from);
        break;
    case SIM_PEER_DOWN:
        hm_simplex_peer_down(nd->core, input_time(s, nd), e->from);
        break;
    default:
        return;
    }
    sim_node_settle(s, nd);
}
