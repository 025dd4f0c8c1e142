// Operations that wait for a block, and our own on their way to finality.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/node_internal.h"
#include "mesh/node_module.h"

// Half of the pool is for who comes first; of the other half each member has its part, so that none
// can keep the others out.
#define PENDING_MAX 16384u
#define PENDING_BYTES_MAX (64u << 20)
#define SUBMIT_TRIES 4u
#define NONCE_SKIP 128u // past what an earlier run may have in flight

hm_err pool_open(hm_node *n)
{
    uint64_t highest;
    hm_map_init(&n->pending_by_signed, HM_HASH_BYTES, PENDING_MAX, &hm_random_system);
    n->owners = calloc(n->count, sizeof *n->owners);
    if (n->owners == NULL)
        return HM_E_NOMEM;
    for (uint32_t i = 0; i < n->count; i++) {
        hm_list_init(&n->owners[i].pending);
        hm_list_init(&n->owners[i].early);
    }
    HM_TRY(hm_ledger_nonce(hm_ledger_tip(n->ledger), &n->id, &highest));
    n->next_nonce = highest == 0 ? 1 : highest + NONCE_SKIP;
    return HM_OK;
}

// ---- pending ------------------------------------------------------------------------------------

static void pending_remove(hm_node *n, node_pending *p)
{
    (void)hm_map_remove(&n->pending_by_signed, p->signed_hash.b);
    hm_list_remove(&p->link);
    n->owners[p->owner].count--;
    n->owners[p->owner].bytes -= p->bytes.len;
    n->pending_count--;
    n->pending_bytes -= p->bytes.len;
    hm_buf_free(&p->bytes);
    free(p);
}

static hm_err has_room(const hm_node *n, uint32_t owner, size_t bytes)
{
    const node_owner *o = &n->owners[owner];
    if (n->pending_count < PENDING_MAX / 2 && n->pending_bytes + bytes <= PENDING_BYTES_MAX / 2)
        return HM_OK;
    if (o->count < PENDING_MAX / 2 / n->count &&
        o->bytes + bytes <= PENDING_BYTES_MAX / 2 / n->count)
        return HM_OK;
    return hm_fail(HM_E_BUSY, "%zu operations wait for a block already, %zu of this owner",
                   n->pending_count, o->count);
}

static uint32_t owner_index(const hm_node *n, const hm_node_id *id)
{
    uint32_t i = 0;
    while (i < n->count && !hm_hash_eq(&n->ids[i], id))
        i++;
    return i;
}

static node_pending *pending_find(const hm_node *n, hm_bytes bytes, uint32_t *owner, hm_hash *hash)
{
    hm_op op;
    hm_op_digests d;
    *owner = n->count;
    if (hm_op_decode(bytes, &op, &d) != HM_OK)
        return NULL;
    *owner = owner_index(n, &op.owner);
    *hash = hm_sha256(d.signed_bytes);
    return hm_map_get(&n->pending_by_signed, hash->b);
}

static hm_err pending_keep(hm_node *n, uint32_t owner, const hm_hash *hash, hm_bytes bytes,
                           node_submit *submit)
{
    node_pending *p = calloc(1, sizeof *p);
    if (p == NULL)
        return HM_E_NOMEM;
    p->signed_hash = *hash;
    p->owner = owner;
    p->submit = submit;
    hm_buf_put(&p->bytes, bytes);
    hm_err err = hm_buf_status(&p->bytes);
    if (err == HM_OK)
        err = hm_map_put(&n->pending_by_signed, hash->b, p);
    if (err != HM_OK) {
        hm_buf_free(&p->bytes);
        free(p);
        return err;
    }
    hm_list_append(&n->owners[owner].pending, &p->link);
    n->owners[owner].count++;
    n->owners[owner].bytes += bytes.len;
    n->pending_bytes += bytes.len;
    if (n->pending_count++ == 0)
        agree_nudge(n);
    return HM_OK;
}

// Checks an operation of member `from` against the newest final state and keeps it.
static hm_err pending_add(hm_node *n, uint32_t from, hm_bytes bytes, node_submit *submit)
{
    hm_hash hash = {0};
    uint32_t owner;
    if (pending_find(n, bytes, &owner, &hash) != NULL)
        return HM_OK;
    if (owner < n->count && owner != from)
        return hm_fail(HM_E_DENIED, "an operation of %s: a member sends its own only",
                       n->genesis->validators[owner].name);
    HM_TRY(has_room(n, from, bytes.len));
    HM_TRY(hm_ledger_check(n->ledger, hm_ledger_tip(n->ledger), bytes, node_wall_ms()));
    return pending_keep(n, from, &hash, bytes, submit);
}

size_t pool_candidates(hm_node *n, hm_bytes *out, node_pending **entries, size_t max)
{
    hm_list *at[HM_GENESIS_VALIDATORS_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < n->count; i++)
        at[i] = n->owners[i].pending.next;
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < n->count && count < max; i++) {
            if (at[i] == &n->owners[i].pending)
                continue;
            node_pending *p = hm_container_of(at[i], node_pending, link);
            at[i] = at[i]->next;
            entries[count] = p;
            out[count++] = hm_buf_bytes(&p->bytes);
            more = true;
        }
    }
    return count;
}

// ---- between nodes ------------------------------------------------------------------------------
// Who signs an operation sends it to all; nobody passes it on.

static void submit_start(node_submit *s);

// New submissions begin here and not in the call that made them, so that no callback comes out of
// that call.
static void start_new(hm_node *n)
{
    hm_list_each(it, &n->submits_new)
    {
        hm_list_remove(it);
        hm_list_append(&n->submits, it);
        submit_start(hm_container_of(it, node_submit, link));
    }
}

static void gossip_send(hm_node *n)
{
    if (n->gossip_count == 0)
        return;
    node_message m = {.type = MSG_OPS, .count = n->gossip_count, .list = hm_buf_bytes(&n->gossip)};
    peers_send_all(n, LANE_FAST, &m);
    hm_buf_reset(&n->gossip);
    n->gossip_count = 0;
}

void pool_flush(hm_node *n)
{
    start_new(n);
    gossip_send(n);
}

static void gossip_add(hm_node *n, hm_bytes op)
{
    hm_wr_bytes(&n->gossip, op);
    if (hm_buf_status(&n->gossip) == HM_OK)
        n->gossip_count++;
    if (n->gossip_count >= MSG_OPS_MAX || n->gossip.len > (1u << 20))
        gossip_send(n);
}

void pool_peer_up(hm_node *n, uint32_t index)
{
    hm_buf list = {0};
    node_message m = {.type = MSG_OPS};
    hm_list_each(it, &n->owners[n->self].pending)
    {
        node_pending *p = hm_container_of(it, node_pending, link);
        if (p->submit == NULL)
            continue;
        hm_wr_bytes(&list, hm_buf_bytes(&p->bytes));
        if (++m.count < MSG_OPS_MAX && list.len < (1u << 20))
            continue;
        m.list = hm_buf_bytes(&list);
        if (hm_buf_status(&list) == HM_OK)
            (void)peer_send(n, index, LANE_FAST, &m);
        hm_buf_reset(&list);
        m.count = 0;
    }
    m.list = hm_buf_bytes(&list);
    if (m.count > 0 && hm_buf_status(&list) == HM_OK)
        (void)peer_send(n, index, LANE_FAST, &m);
    hm_buf_free(&list);
}

static void early_remove(node_owner *o, node_early *e)
{
    hm_list_remove(&e->link);
    o->early_count--;
    hm_buf_free(&e->bytes);
    free(e);
}

// An answer for an epoch, say, comes as soon as its owner has the epoch's first block, which may
// well be before this node has it. True when it is kept until then; the check was made all the
// same.
static bool early_keep(hm_node *n, uint32_t from, hm_bytes op)
{
    node_owner *o = &n->owners[from];
    uint64_t told = n->peers[from].height;
    if (told <= hm_ledger_height(n->ledger) || o->early_count == NODE_EARLY_MAX)
        return false;
    node_early *e = calloc(1, sizeof *e);
    if (e == NULL)
        return false;
    hm_list_append(&o->early, &e->link);
    o->early_count++;
    e->height = told;
    hm_buf_put(&e->bytes, op);
    if (hm_buf_status(&e->bytes) == HM_OK)
        return true;
    early_remove(o, e);
    return false;
}

static void op_refused(hm_node *n, uint32_t from, hm_err err)
{
    node_refused(n, COUNT_REFUSED_OP, &n->ids[from], "%s: %s", hm_err_name(err), hm_err_detail());
}

static void early_check(hm_node *n)
{
    for (uint32_t i = 0; i < n->count; i++)
        hm_list_each(it, &n->owners[i].early)
        {
            node_early *e = hm_container_of(it, node_early, link);
            if (e->height > hm_ledger_height(n->ledger))
                continue;
            hm_hash id = hm_op_id(hm_buf_bytes(&e->bytes));
            hm_op_location at;
            hm_err err = hm_ledger_op_find(n->ledger, &id, &at) == HM_OK
                             ? HM_OK
                             : pending_add(n, i, hm_buf_bytes(&e->bytes), NULL);
            if (err != HM_OK && err != HM_E_BUSY)
                op_refused(n, i, err);
            early_remove(&n->owners[i], e);
        }
}

void pool_message(hm_node *n, uint32_t from, node_message *m)
{
    hm_bytes op;
    node_budget *patience = &n->peers[from].patience_ops;
    // Each refusal costs checks. What goes unseen meanwhile its sender can put into its own blocks.
    while (node_budget_left(patience, node_now_us()) && node_msg_next_op(m, &op)) {
        hm_hash id = hm_op_id(op);
        hm_op_location at;
        if (hm_ledger_op_find(n->ledger, &id, &at) == HM_OK)
            continue; // final already: it took a slower way here than its block
        hm_err err = pending_add(n, from, op, NULL);
        if (err == HM_OK || err == HM_E_BUSY)
            continue;
        node_budget_spend(patience, node_now_us());
        if (!early_keep(n, from, op))
            op_refused(n, from, err);
    }
}

// ---- our own ------------------------------------------------------------------------------------

static void submit_free(node_submit *s)
{
    hm_buf_free(&s->payload);
    hm_buf_free(&s->encoding);
    free(s);
}

static void submit_end(node_submit *s, hm_err err, const char *detail,
                       const hm_node_receipt *receipt)
{
    hm_node *n = s->node;
    hm_list_remove(&s->link);
    n->submit_count--;
    if (s->done != NULL)
        s->done(s->ctx, err, detail, receipt);
    submit_free(s);
}

// Answers who waits for a submission; the operation itself goes on as it is, and is not made anew:
// it would have another id than the one that was told.
static void submit_leave(node_submit *s, hm_err err, const char *why)
{
    char id[2 * HM_HASH_BYTES + 1] = "", detail[200];
    hm_node_submit_cb done = s->done;
    if (done == NULL)
        return;
    if (!s->working && !hm_hash_is_zero(&s->id))
        hm_hex(id, s->id.b, HM_HASH_BYTES);
    snprintf(detail, sizeof detail, "%s: operation %s may become final later", why,
             id[0] == 0 ? "(not signed yet)" : id);
    s->done = NULL;
    s->tries = SUBMIT_TRIES;
    done(s->ctx, err, detail, NULL);
}

// Answers those that began before a time; a callback may submit anew, or close the node.
static void submits_leave(hm_node *n, uint64_t before_us, bool patient, hm_err err, const char *why)
{
    hm_list *const lists[] = {&n->submits, &n->submits_new};
    for (int i = 0; i < 2; i++)
        hm_list_each(it, lists[i])
        {
            node_submit *s = hm_container_of(it, node_submit, link);
            if (s->began_us < before_us && (patient || !s->patient))
                submit_leave(s, err, why);
        }
}

void pool_tick(hm_node *n, uint64_t now_us)
{
    uint64_t wait = (uint64_t)HM_NODE_SUBMIT_WAIT_MS * 1000;
    if (now_us > wait)
        submits_leave(n, now_us - wait, false, HM_E_TIMEOUT, "no block took it in time");
}

void hm_node_submits_leave(hm_node *n)
{
    submits_leave(n, UINT64_MAX, true, HM_E_CLOSED, "the node is shutting down");
}

// Proofs and nonces go stale while an operation waits; then it is made anew, not given up.
static bool worth_another_try(const node_submit *s, hm_err err)
{
    return s->tries < SUBMIT_TRIES && !s->node->closing &&
           (err == HM_E_OP_NONCE || err == HM_E_PROOF_WORK || err == HM_E_PROOF_TIME ||
            err == HM_E_PROOF_SPACE);
}

// A nonce that its operation did not use goes to another, so that operations which are refused do
// not lead out of the window of nonces.
static void nonce_give_back(node_submit *s, hm_err err)
{
    hm_node *n = s->node;
    uint64_t highest = 0;
    if (s->nonce == 0 || n->nonces_back_count == NODE_NONCES_KEPT ||
        hm_ledger_nonce(hm_ledger_tip(n->ledger), &n->id, &highest) != HM_OK ||
        (err == HM_E_OP_NONCE && s->nonce <= highest))
        return;
    n->nonces_back[n->nonces_back_count++] = s->nonce;
    s->nonce = 0;
}

static hm_err nonce_take(hm_node *n, uint64_t *nonce)
{
    uint64_t highest;
    HM_TRY(hm_ledger_nonce(hm_ledger_tip(n->ledger), &n->id, &highest));
    while (n->nonces_back_count > 0) {
        *nonce = n->nonces_back[--n->nonces_back_count];
        if (*nonce > highest || highest - *nonce < HM_OP_NONCE_WINDOW)
            return HM_OK;
    }
    if (n->next_nonce <= highest)
        n->next_nonce = highest + 1;
    *nonce = n->next_nonce++;
    return HM_OK;
}

static void submit_failed(node_submit *s, hm_err err, const char *detail)
{
    nonce_give_back(s, err);
    if (worth_another_try(s, err)) {
        submit_start(s);
        return;
    }
    char why[400];
    snprintf(why, sizeof why, "%s", detail);
    submit_end(s, err, why, NULL);
}

// On a worker thread: signature and puzzle.
static void submit_work(uv_work_t *w)
{
    node_submit *s = w->data;
    hm_op op = {.chain_id = s->node->genesis->chain_id,
                .module = s->module,
                .kind = s->kind,
                .owner = s->node->id,
                .asset = s->asset,
                .nonce = s->nonce,
                .payload = hm_buf_bytes(&s->payload)};
    hm_err_clear();
    hm_buf_reset(&s->encoding);
    s->err = hm_op_finish(&op, &s->in, &s->encoding, &s->id);
    snprintf(s->detail, sizeof s->detail, "%s", hm_err_detail());
}

static void submit_signed(uv_work_t *w, int status)
{
    node_submit *s = w->data;
    hm_node *n = s->node;
    n->works--;
    s->working = false;
    if (n->closing) {
        submit_end(s, HM_E_CLOSED, "the node is shutting down", NULL);
        return;
    }
    hm_err err = status != 0 ? HM_E_CLOSED : s->err;
    if (err == HM_OK) {
        hm_ledger_note_verified(n->ledger, &s->id); // our own signature
        err = pending_add(n, n->self, hm_buf_bytes(&s->encoding), s);
        snprintf(s->detail, sizeof s->detail, "%.150s", hm_err_detail());
    }
    if (err != HM_OK) {
        char why[160];
        snprintf(why, sizeof why, "%s", s->detail);
        submit_failed(s, err, why);
        return;
    }
    gossip_add(n, hm_buf_bytes(&s->encoding));
    hm_buf_free(&s->encoding);
    s->encoding = (hm_buf){0};
}

static void submit_start(node_submit *s)
{
    hm_node *n = s->node;
    s->tries++;
    hm_err err = nonce_take(n, &s->nonce);
    if (s->module == HM_MODULE_ASSET && s->kind == HM_ASSET_REGISTER)
        s->asset = hm_asset_id(&n->genesis->chain_id, &n->id, s->nonce);
    if (err == HM_OK)
        err = hm_ledger_op_inputs(n->ledger, hm_ledger_tip(n->ledger), &n->id, s->module, s->kind,
                                  &s->in);
    if (err == HM_OK && s->module == HM_MODULE_NODE && s->kind == HM_NODE_CERT)
        err = hm_node_payload_cert(hm_buf_bytes(&s->payload), &s->in.cert);
    s->in.key = n->key;
    s->work.data = s;
    // Once it is queued, s is the worker's until submit_signed().
    if (err == HM_OK && uv_queue_work(n->loop, &s->work, submit_work, submit_signed) != 0)
        err = hm_fail(HM_E_INTERNAL, "no worker thread");
    if (err != HM_OK) {
        char why[160];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        nonce_give_back(s, err);
        submit_end(s, err, why, NULL);
        return;
    }
    s->working = true;
    n->works++;
}

hm_err pool_submit(hm_node *n, uint8_t module, uint8_t kind, hm_bytes payload,
                   hm_node_submit_cb done, void *ctx)
{
    if (n->closing)
        return hm_fail(HM_E_CLOSED, "the node is shutting down");
    if (hm_ledger_kind_name(n->ledger, module, kind) == NULL)
        return hm_fail(HM_E_OP_MODULE, "no operation has module %u and kind %u", module, kind);
    if (payload.len > HM_OP_PAYLOAD_MAX)
        return hm_fail(HM_E_LIMIT, "a payload of %zu bytes", payload.len);
    node_submit *s = calloc(1, sizeof *s);
    if (s == NULL)
        return HM_E_NOMEM;
    *s = (node_submit){
        .node = n, .module = module, .kind = kind, .patient = true, .done = done, .ctx = ctx};
    s->began_us = node_now_us();
    hm_buf_put(&s->payload, payload);
    hm_err err = hm_buf_status(&s->payload);
    if (err != HM_OK) {
        submit_free(s);
        return err;
    }
    hm_list_append(&n->submits_new, &s->link);
    n->submit_count++;
    return HM_OK;
}

hm_err hm_node_submit(hm_node *n, const hm_node_request *req, hm_node_submit_cb done, void *ctx)
{
    if (n->submit_count >= HM_NODE_INFLIGHT_MAX)
        return hm_fail(HM_E_BUSY, "%zu operations of this node are under way already",
                       n->submit_count);
    HM_TRY(pool_submit(n, req->module, req->kind, req->payload, done, ctx));
    node_submit *s = hm_container_of(n->submits_new.prev, node_submit, link);
    s->asset = req->asset;
    s->patient = req->patient;
    return HM_OK;
}

// ---- after a block ------------------------------------------------------------------------------

static void answer_final(hm_node *n, node_submit *s, const hm_node_receipt *base)
{
    hm_node_receipt receipt = *base;
    receipt.asset = s->asset;
    receipt.finality_us = node_now_us() - s->began_us;
    n->latencies[n->latency_count++ % NODE_LATENCIES] = receipt.finality_us;
    submit_end(s, HM_OK, "", &receipt);
}

static void recheck(hm_node *n, node_pending *p)
{
    p->suspect = false;
    hm_err err = hm_ledger_check(n->ledger, hm_ledger_tip(n->ledger), hm_buf_bytes(&p->bytes),
                                 node_wall_ms());
    if (err == HM_OK)
        return;
    node_submit *s = p->submit;
    char why[400];
    snprintf(why, sizeof why, "%s", hm_err_detail());
    pending_remove(n, p);
    if (s != NULL)
        submit_failed(s, err, why);
}

static void recheck_suspects(hm_node *n)
{
    for (uint32_t i = 0; i < n->count; i++)
        hm_list_each(it, &n->owners[i].pending)
        {
            node_pending *p = hm_container_of(it, node_pending, link);
            if (p->suspect)
                recheck(n, p);
        }
}

void pool_committed(hm_node *n, const hm_block *block)
{
    for (uint32_t i = 0; i < block->count; i++) {
        hm_hash hash;
        uint32_t owner;
        node_pending *p = pending_find(n, block->ops[i], &owner, &hash);
        if (p == NULL)
            continue;
        node_submit *s = p->submit;
        pending_remove(n, p);
        if (s != NULL)
            answer_final(n, s,
                         &(hm_node_receipt){.op_id = hm_op_id(block->ops[i]),
                                            .height = block->header.height,
                                            .index = i});
    }
    recheck_suspects(n);
    early_check(n);
}

static void pending_clear(hm_node *n)
{
    for (uint32_t i = 0; n->owners != NULL && i < n->count; i++) {
        hm_list_each(it, &n->owners[i].pending)
        {
            pending_remove(n, hm_container_of(it, node_pending, link));
        }
        hm_list_each(it, &n->owners[i].early)
        {
            early_remove(&n->owners[i], hm_container_of(it, node_early, link));
        }
    }
}

void pool_close(hm_node *n, hm_err why)
{
    hm_list *const lists[] = {&n->submits, &n->submits_new};
    for (int i = 0; i < 2; i++)
        hm_list_each(it, lists[i])
        {
            node_submit *s = hm_container_of(it, node_submit, link);
            if (!s->working)
                submit_end(s, why, "the node is shutting down", NULL);
        }
    pending_clear(n);
}

void pool_free(hm_node *n)
{
    pending_clear(n);
    free(n->owners);
    hm_map_free(&n->pending_by_signed);
    hm_buf_free(&n->gossip);
}
