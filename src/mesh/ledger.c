#include <stdlib.h>

#include "mesh/ledger_internal.h"
#include "mesh/node_module.h"

// ---- modules ------------------------------------------------------------------------------------

const hm_module *ledger_module(const hm_ledger *l, uint8_t id)
{
    for (size_t i = 0; i < l->cfg.module_count; i++)
        if (l->cfg.modules[i]->id == id)
            return l->cfg.modules[i];
    return NULL;
}

const hm_op_kind *ledger_kind(const hm_ledger *l, uint8_t module, uint8_t kind)
{
    const hm_module *m = ledger_module(l, module);
    for (size_t i = 0; m != NULL && i < m->kind_count; i++)
        if (m->kinds[i].kind == kind)
            return &m->kinds[i];
    return NULL;
}

const char *hm_ledger_module_name(const hm_ledger *l, uint8_t module)
{
    const hm_module *m = ledger_module(l, module);
    return m == NULL ? NULL : m->name;
}

const char *hm_ledger_kind_name(const hm_ledger *l, uint8_t module, uint8_t kind)
{
    const hm_op_kind *k = ledger_kind(l, module, kind);
    return k == NULL ? NULL : k->name;
}

hm_err hm_ledger_describe(const hm_ledger *l, const hm_op *op, hm_buf *json)
{
    if (ledger_kind(l, op->module, op->kind) == NULL)
        return hm_fail(HM_E_OP_MODULE, "no operation has module %u and kind %u", op->module,
                       op->kind);
    return ledger_module(l, op->module)->describe(op, json);
}

// ---- life cycle ---------------------------------------------------------------------------------

hm_exec ledger_exec(hm_ledger *l, hm_view *view, const hm_view *parent, uint64_t time_ms)
{
    uint64_t height = parent->height + 1;
    return (hm_exec){
        .ledger = l,
        .view = view,
        .genesis = &l->genesis,
        .height = height,
        .epoch = height / l->genesis.params.epoch_blocks,
        .time_ms = time_ms,
        .parent = parent->id,
    };
}

static hm_err fill_from_genesis(hm_ledger *l)
{
    hm_view *v;
    HM_TRY(view_make(l, l->tip, &v));
    v->height = 0;
    v->id = l->genesis.chain_id;
    hm_exec x = {.ledger = l,
                 .view = v,
                 .genesis = &l->genesis,
                 .time_ms = l->genesis.time_ms,
                 .parent = v->id};
    hm_err err = HM_OK;
    for (size_t i = 0; err == HM_OK && i < l->cfg.module_count; i++)
        if (l->cfg.modules[i]->genesis != NULL)
            err = l->cfg.modules[i]->genesis(&x);
    if (err == HM_OK)
        err = view_seal(v);
    if (err == HM_OK)
        err = store_commit(l, v, (hm_bytes){0});
    if (err == HM_OK) {
        l->tip->id = v->id;
        l->tip->root = v->root;
    }
    hm_view_release(v);
    return err;
}

static hm_err load_tip(hm_ledger *l)
{
    hm_bytes chain = {0};
    hm_err err = store_get(l->read, l->meta, hm_bytes_str("chain"), &chain);
    if (err == HM_E_NOTFOUND)
        return fill_from_genesis(l);
    HM_TRY(err);
    if (!hm_bytes_eq(chain, hm_hash_bytes(&l->genesis.chain_id)))
        return hm_fail(HM_E_OP_CHAIN, "the ledger in %s is of another chain than this genesis",
                       l->cfg.dir);
    HM_TRY(store_tip(l, l->read, l->tip));
    hm_hash stored = l->tip->root;
    HM_TRY(view_seal(l->tip)); // reads the root of the tree; nothing was changed
    if (!hm_hash_eq(&stored, &l->tip->root) ||
        (l->tip->has_header && !hm_hash_eq(&stored, &l->tip->header.state_root)))
        return hm_fail(HM_E_CORRUPT, "the state in %s does not have the root of its newest block",
                       l->cfg.dir);
    return HM_OK;
}

hm_err hm_ledger_open(const hm_ledger_config *cfg, hm_ledger **out)
{
    hm_ledger *l = calloc(1, sizeof *l);
    if (l == NULL)
        return HM_E_NOMEM;
    l->cfg = *cfg;
    l->cfg.genesis = (hm_bytes){0};
    hm_err err = hm_genesis_decode(cfg->genesis, &l->genesis);
    l->verified = err == HM_OK ? calloc(HM_VERIFIED_SLOTS, sizeof *l->verified) : NULL;
    if (err == HM_OK && l->verified == NULL)
        err = HM_E_NOMEM;
    if (err == HM_OK)
        err = store_open(l);
    if (err == HM_OK)
        err = view_make(l, NULL, &l->tip);
    if (err == HM_OK)
        err = load_tip(l);
    if (err != HM_OK) {
        hm_ledger_close(l);
        return err;
    }
    l->cfg.dir = NULL;
    *out = l;
    return HM_OK;
}

void hm_ledger_close(hm_ledger *l)
{
    if (l == NULL)
        return;
    hm_view_release(l->tip);
    hm_assert(l->views == 0);
    store_close(l);
    hm_genesis_free(&l->genesis);
    free(l->verified);
    free(l);
}

const hm_genesis *hm_ledger_genesis(const hm_ledger *l)
{
    return &l->genesis;
}

uint64_t hm_ledger_height(const hm_ledger *l)
{
    return l->tip->height;
}

hm_view *hm_ledger_tip(hm_ledger *l)
{
    return l->tip;
}

// ---- nonces -------------------------------------------------------------------------------------
// Per owner: the highest number used and a bit for each of the window below it, bit i for
// highest - i.

#define NONCE_BITMAP_BYTES (HM_OP_NONCE_WINDOW / 8)

typedef struct nonces {
    uint64_t highest;
    uint8_t used[NONCE_BITMAP_BYTES];
} nonces;

static hm_bytes nonce_key(const hm_node_id *owner, uint8_t mem[34])
{
    mem[0] = HM_KEY_LEDGER;
    mem[1] = 'n';
    memcpy(mem + 2, owner->b, HM_HASH_BYTES);
    return hm_bytes_of(mem, 34);
}

static hm_err nonces_load(const hm_view *v, const hm_node_id *owner, nonces *n)
{
    uint8_t mem[34];
    hm_bytes value = {0};
    *n = (nonces){0};
    hm_err err = hm_view_get(v, nonce_key(owner, mem), &value);
    if (err == HM_E_NOTFOUND)
        return HM_OK;
    HM_TRY(err);
    hm_rd r = hm_rd_of(value);
    n->highest = hm_rd_u64(&r);
    hm_rd_copy(&r, n->used, sizeof n->used);
    return hm_rd_end(&r) == HM_OK ? HM_OK : hm_fail(HM_E_CORRUPT, "a nonce record is damaged");
}

static hm_err nonce_check(const nonces *n, uint64_t nonce)
{
    if (nonce == 0)
        return hm_fail(HM_E_OP_NONCE, "nonce 0: an owner's operations are numbered from 1");
    if (nonce > n->highest) {
        if (nonce - n->highest > HM_OP_NONCE_WINDOW)
            return hm_fail(HM_E_OP_NONCE, "nonce %llu is more than %u above the highest used, %llu",
                           (unsigned long long)nonce, HM_OP_NONCE_WINDOW,
                           (unsigned long long)n->highest);
        return HM_OK;
    }
    uint64_t below = n->highest - nonce;
    if (below >= HM_OP_NONCE_WINDOW)
        return hm_fail(HM_E_OP_NONCE, "nonce %llu is more than %u below the highest used, %llu",
                       (unsigned long long)nonce, HM_OP_NONCE_WINDOW,
                       (unsigned long long)n->highest);
    if (n->used[below / 8] >> below % 8 & 1)
        return hm_fail(HM_E_OP_NONCE, "nonce %llu was used before: the operation is a replay",
                       (unsigned long long)nonce);
    return HM_OK;
}

static void shift_up(nonces *n, uint64_t by)
{
    if (by >= HM_OP_NONCE_WINDOW) {
        memset(n->used, 0, sizeof n->used);
        return;
    }
    size_t bytes = by / 8, bits = by % 8;
    for (size_t i = sizeof n->used; i-- > 0;) {
        unsigned v = i >= bytes ? n->used[i - bytes] : 0u;
        unsigned low = i >= bytes + 1 ? n->used[i - bytes - 1] : 0u;
        n->used[i] = (uint8_t)(v << bits | low >> (8 - bits));
    }
}

static hm_err nonce_use(hm_view *v, const hm_op *op)
{
    nonces n;
    HM_TRY(nonces_load(v, &op->owner, &n));
    if (op->nonce > n.highest) {
        shift_up(&n, op->nonce - n.highest);
        n.highest = op->nonce;
    }
    uint64_t below = n.highest - op->nonce;
    n.used[below / 8] |= (uint8_t)(1u << below % 8);
    uint8_t key[34], mem[8 + NONCE_BITMAP_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, n.highest);
    hm_wr_raw(&b, n.used, sizeof n.used);
    return hm_view_put(v, nonce_key(&op->owner, key), hm_buf_bytes(&b));
}

hm_err hm_ledger_nonce(const hm_view *view, const hm_node_id *owner, uint64_t *highest)
{
    nonces n;
    HM_TRY(nonces_load(view, owner, &n));
    *highest = n.highest;
    return HM_OK;
}

// ---- operations ---------------------------------------------------------------------------------

static hm_hash *verified_slot(const hm_ledger *l, const hm_hash *op_id)
{
    uint32_t slot;
    memcpy(&slot, op_id->b, sizeof slot);
    return &l->verified[slot % HM_VERIFIED_SLOTS];
}

void hm_ledger_note_verified(hm_ledger *l, const hm_hash *op_id)
{
    *verified_slot(l, op_id) = *op_id;
}

bool hm_ledger_is_verified(const hm_ledger *l, const hm_hash *op_id)
{
    return hm_hash_eq(verified_slot(l, op_id), op_id);
}

hm_err hm_ledger_public_key(const hm_view *view, const hm_node_id *node, hm_bytes *public_key)
{
    hm_member m;
    HM_TRY(hm_member_find(view, node, &m));
    *public_key = m.public_key;
    return HM_OK;
}

static hm_err presence_check(const hm_op_kind *kind, const hm_op *op)
{
    bool full = kind->rule == HM_OP_RULE_FULL;
    if (!op->has_work)
        return hm_fail(HM_E_PROOF_WORK, "proof of work is missing");
    if (!op->has_stake)
        return hm_fail(HM_E_PROOF_STAKE, "proof of stake is missing");
    if (full && !op->has_space)
        return hm_fail(HM_E_PROOF_SPACE, "proof of space is missing");
    if (full && !op->has_time)
        return hm_fail(HM_E_PROOF_TIME, "proof of time is missing");
    if (!full && op->has_space)
        return hm_fail(HM_E_PROOF_SPACE, "a system operation carries no proof of space");
    if (!full && op->has_time)
        return hm_fail(HM_E_PROOF_TIME, "a system operation carries no proof of time");
    if (full == hm_hash_is_zero(&op->asset))
        return hm_fail(HM_E_OP_PAYLOAD,
                       full ? "the operation names no asset" : "a system operation names no asset");
    return HM_OK;
}

// Does the operation stand on the certificate that it brings? Then the module's check is that of
// the certificate: who could only stand on an old one could not come back once that one is over.
static bool brings_its_cert(const hm_op *op)
{
    hm_hash hash;
    return op->module == HM_MODULE_NODE && op->kind == HM_NODE_CERT &&
           hm_node_payload_cert(op->payload, &hash) == HM_OK && hm_hash_eq(&hash, &op->stake_cert);
}

// Certificate in force and enough bonded stake; the signature comes last of all.
static hm_err stake_check(const hm_exec *x, const hm_op *op, hm_bytes *public_key)
{
    hm_member m;
    hm_member_cert cert;
    hm_err err = hm_member_find(x->view, &op->owner, &m);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_PROOF_STAKE, "proof of stake: the owner is not a member of the mesh");
    HM_TRY(err);
    if (m.stake < x->genesis->params.min_stake)
        return hm_fail(HM_E_PROOF_STAKE, "proof of stake: the owner has %llu bonded, needs %llu%s",
                       (unsigned long long)m.stake,
                       (unsigned long long)x->genesis->params.min_stake,
                       m.slashed_height > 0 ? " (it lost its stake by contradicting itself)" : "");
    *public_key = m.public_key;
    if (brings_its_cert(op))
        return HM_OK;
    err = hm_member_cert_find(x->view, &op->stake_cert, &cert);
    if (err == HM_E_NOTFOUND || (err == HM_OK && !hm_hash_eq(&cert.node, &op->owner)))
        return hm_fail(HM_E_PROOF_STAKE,
                       "proof of stake: the certificate is not one of the owner's "
                       "on this ledger");
    HM_TRY(err);
    if (cert.revoked)
        return hm_fail(HM_E_PROOF_STAKE, "proof of stake: the owner's certificate is revoked");
    if (x->time_ms < cert.not_before_ms || x->time_ms > cert.not_after_ms)
        return hm_fail(HM_E_PROOF_STAKE, "proof of stake: the owner's certificate is not in force "
                                         "at the block's time");
    return HM_OK;
}

// All of an operation, cheapest first. op and digests are filled.
static hm_err op_check(const hm_exec *x, hm_bytes bytes, hm_op *op, hm_op_digests *digests)
{
    hm_ledger *l = x->ledger;
    hm_err err = hm_op_decode(bytes, op, digests);
    if (err != HM_OK)
        return hm_fail(err, "the operation's encoding is refused: %s", hm_err_text(err));
    if (!hm_hash_eq(&op->chain_id, &l->genesis.chain_id))
        return hm_fail(HM_E_OP_CHAIN, "the operation is for another chain");
    const hm_op_kind *kind = ledger_kind(l, op->module, op->kind);
    if (kind == NULL)
        return hm_fail(HM_E_OP_MODULE, "no operation has module %u and kind %u", op->module,
                       op->kind);
    HM_TRY(presence_check(kind, op));
    HM_TRY(l->cfg.proofs->check_work(x, &digests->work, op->work_nonce));
    nonces n;
    HM_TRY(nonces_load(x->view, &op->owner, &n));
    HM_TRY(nonce_check(&n, op->nonce));
    hm_bytes public_key = {0};
    HM_TRY(stake_check(x, op, &public_key));
    if (kind->rule == HM_OP_RULE_FULL) {
        HM_TRY(l->cfg.proofs->check_time(x, &op->time));
        HM_TRY(l->cfg.proofs->check_space(x, &op->owner, &op->space));
    }
    HM_TRY(ledger_module(l, op->module)->check(x, op));
    if (hm_ledger_is_verified(l, &digests->id))
        return HM_OK;
    HM_TRY(hm_op_verify_signature(op, digests, public_key));
    hm_ledger_note_verified(l, &digests->id);
    return HM_OK;
}

static uint64_t parent_time(const hm_view *parent)
{
    return parent->has_header ? parent->header.time_ms : parent->ledger->genesis.time_ms;
}

hm_err hm_ledger_check(hm_ledger *l, hm_view *view, hm_bytes bytes, uint64_t now_ms)
{
    HM_TRY(view_alive(view));
    uint64_t least = parent_time(view) + 1;
    hm_exec x = ledger_exec(l, view, view, now_ms > least ? now_ms : least);
    hm_op op;
    hm_op_digests digests;
    return op_check(&x, bytes, &op, &digests);
}

hm_err hm_ledger_op_inputs(hm_ledger *l, hm_view *view, const hm_node_id *owner, uint8_t module,
                           uint8_t kind, hm_op_inputs *out)
{
    const hm_op_kind *k = ledger_kind(l, module, kind);
    if (k == NULL)
        return hm_fail(HM_E_OP_MODULE, "no operation has module %u and kind %u", module, kind);
    hm_exec x = ledger_exec(l, view, view, parent_time(view) + 1);
    hm_member m;
    HM_TRY(hm_member_find(view, owner, &m));
    out->full = k->rule == HM_OP_RULE_FULL;
    out->cert = m.cert;
    return l->cfg.proofs->current(&x, owner, out->full ? &out->space : NULL,
                                  out->full ? &out->time : NULL, &out->difficulty);
}

// ---- blocks -------------------------------------------------------------------------------------

static hm_err hooks(hm_ledger *l, hm_exec *x, bool begin, uint32_t ops)
{
    for (size_t i = 0; i < l->cfg.module_count; i++) {
        const hm_module *m = l->cfg.modules[i];
        if (begin && m->begin_block != NULL)
            HM_TRY(m->begin_block(x));
        if (!begin && m->end_block != NULL)
            HM_TRY(m->end_block(x, ops));
    }
    return HM_OK;
}

// *wrote: the check passed, so that a failure may leave a part of the operation in the view.
static hm_err op_run(hm_exec *x, uint32_t index, hm_bytes bytes, hm_hash *id, bool *wrote)
{
    hm_op op;
    hm_op_digests digests;
    x->index = index;
    *wrote = false;
    HM_TRY(op_check(x, bytes, &op, &digests));
    x->op_id = digests.id;
    *id = digests.id;
    *wrote = true;
    HM_TRY(nonce_use(x->view, &op));
    return ledger_module(x->ledger, op.module)->apply(x, &op);
}

#define BUILD_SPOILS 8u

// A failure that speaks of this machine, not of the operation.
static bool is_local_failure(hm_err err)
{
    return err == HM_E_NOMEM || err == HM_E_IO || err == HM_E_FULL || err == HM_E_CORRUPT ||
           err == HM_E_CLOSED;
}

// What a block is built of.
typedef struct build {
    const hm_bytes *candidates;
    size_t count;     // those from here on wait for another block
    hm_err *outcome;  // of each candidate
    hm_bytes *chosen; // as many as fit a block
    hm_hash *ids;
    uint32_t n;                // chosen
    size_t left[BUILD_SPOILS]; // candidates whose effect failed half way
    unsigned left_count;
} build;

static bool left_out(const build *b, size_t i)
{
    for (unsigned k = 0; k < b->left_count; k++)
        if (b->left[k] == i)
            return true;
    return false;
}

// HM_E_AGAIN: a candidate failed half way and spoiled the view; it is left out from here on, and
// when too many are, the block ends before it.
static hm_err build_ops(hm_exec *x, build *b)
{
    size_t bytes = HM_BLOCK_HEADER_BYTES;
    b->n = 0;
    for (size_t i = 0; i < b->count; i++) {
        hm_err err;
        bool wrote = false;
        if (left_out(b, i))
            continue;
        if (b->n >= HM_BLOCK_OPS_MAX || bytes + 4 + b->candidates[i].len > HM_BLOCK_BYTES_MAX)
            err = HM_E_AGAIN;
        else if (b->candidates[i].len > HM_OP_BYTES_MAX)
            err = HM_E_TRAILING;
        else
            err = op_run(x, b->n, b->candidates[i], &b->ids[b->n], &wrote);
        b->outcome[i] = err;
        if (err == HM_OK) {
            bytes += 4 + b->candidates[i].len;
            b->chosen[b->n++] = b->candidates[i];
        } else if (is_local_failure(err)) {
            return err;
        } else if (wrote) {
            if (b->left_count < BUILD_SPOILS)
                b->left[b->left_count++] = i;
            else
                b->count = i;
            return HM_E_AGAIN;
        }
    }
    return HM_OK;
}

// The view after the chosen operations, without the marks of any other.
static hm_err build_view(hm_ledger *l, hm_view *parent, uint64_t time_ms, build *b, hm_exec *x,
                         hm_view **out)
{
    hm_err err;
    hm_view *v;
    do {
        v = NULL;
        HM_TRY_OUT(view_make(l, parent, &v));
        *x = ledger_exec(l, v, parent, time_ms);
        HM_TRY_OUT(hooks(l, x, true, 0));
        err = build_ops(x, b);
        if (err == HM_E_AGAIN)
            hm_view_release(v);
    } while (err == HM_E_AGAIN);
    if (err != HM_OK)
        goto out;
    HM_TRY_OUT(hooks(l, x, false, b->n));
    HM_TRY_OUT(view_seal(v));
    *out = v;
    v = NULL;
out:
    hm_view_release(v);
    return err;
}

hm_err hm_ledger_build(hm_ledger *l, hm_view *parent, uint64_t consensus_view,
                       const hm_node_id *proposer, uint64_t time_ms, const hm_bytes *candidates,
                       size_t count, hm_err *outcome, hm_buf *block, hm_view **view)
{
    HM_TRY(view_alive(parent));
    hm_view *v = NULL;
    hm_err err = HM_OK;
    hm_exec x;
    uint64_t least = parent_time(parent) + 1;
    size_t room = count < HM_BLOCK_OPS_MAX ? count : HM_BLOCK_OPS_MAX;
    build b = {.candidates = candidates, .count = count};
    b.outcome = calloc(count + 1, sizeof *b.outcome);
    b.chosen = calloc(room + 1, sizeof *b.chosen);
    b.ids = calloc(room + 1, sizeof *b.ids);
    if (b.outcome == NULL || b.chosen == NULL || b.ids == NULL) {
        err = HM_E_NOMEM;
        goto out;
    }
    HM_TRY_OUT(build_view(l, parent, time_ms > least ? time_ms : least, &b, &x, &v));
    v->header = (hm_block_header){
        .chain_id = l->genesis.chain_id,
        .height = x.height,
        .view = consensus_view,
        .parent = parent->id,
        .proposer = *proposer,
        .time_ms = x.time_ms,
        .epoch = x.epoch,
        .ops_count = b.n,
        .state_root = v->root,
    };
    HM_TRY_OUT(hm_block_ops_root(b.ids, b.n, &v->header.ops_root));
    v->has_header = true;
    v->id = hm_block_header_id(&v->header);
    hm_block_encode(&v->block, &v->header, b.chosen, b.n);
    HM_TRY_OUT(hm_buf_status(&v->block));
    hm_buf_put(block, hm_buf_bytes(&v->block));
    HM_TRY_OUT(hm_buf_status(block));
    for (size_t i = 0; outcome != NULL && i < count; i++)
        outcome[i] = i < b.count ? b.outcome[i] : HM_E_AGAIN;
    *view = v;
    v = NULL;
out:
    hm_view_release(v);
    free(b.outcome);
    free(b.chosen);
    free(b.ids);
    return err;
}

static hm_err header_check(hm_ledger *l, const hm_view *parent, const hm_block_header *h)
{
    uint64_t last_view = parent->has_header ? parent->header.view : 0;
    if (!hm_hash_eq(&h->chain_id, &l->genesis.chain_id))
        return hm_fail(HM_E_OP_CHAIN, "the block is of another chain");
    if (h->height != parent->height + 1 || !hm_hash_eq(&h->parent, &parent->id))
        return hm_fail(HM_E_BLOCK, "block %llu does not follow its parent",
                       (unsigned long long)h->height);
    if (h->view <= last_view)
        return hm_fail(HM_E_BLOCK, "block %llu has view %llu, not above its parent's %llu",
                       (unsigned long long)h->height, (unsigned long long)h->view,
                       (unsigned long long)last_view);
    if (h->time_ms <= parent_time(parent))
        return hm_fail(HM_E_BLOCK, "block %llu is not later than its parent",
                       (unsigned long long)h->height);
    if (h->epoch != h->height / l->genesis.params.epoch_blocks)
        return hm_fail(HM_E_BLOCK, "block %llu names a wrong epoch", (unsigned long long)h->height);
    hm_member m;
    hm_err err = hm_member_find(parent, &h->proposer, &m);
    if (err == HM_E_NOTFOUND || (err == HM_OK && m.power == 0))
        return hm_fail(HM_E_BLOCK, "the proposer of block %llu is no validator",
                       (unsigned long long)h->height);
    return err;
}

static hm_err execute_ops(hm_exec *x, const hm_block *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        hm_hash id;
        bool wrote;
        hm_err err = op_run(x, i, b->ops[i], &id, &wrote);
        if (err != HM_OK) {
            char why[400];
            snprintf(why, sizeof why, "%s", hm_err_detail());
            return hm_fail(is_local_failure(err) ? err : HM_E_BLOCK,
                           "operation %u of block %llu: %s", i, (unsigned long long)x->height, why);
        }
    }
    return HM_OK;
}

hm_err hm_ledger_execute(hm_ledger *l, hm_view *parent, hm_bytes bytes, hm_view **view)
{
    HM_TRY(view_alive(parent));
    hm_block b;
    hm_err err = hm_block_decode(bytes, &b);
    if (err != HM_OK)
        return err;
    hm_view *v = NULL;
    HM_TRY_OUT(header_check(l, parent, &b.header));
    HM_TRY_OUT(view_make(l, parent, &v));
    hm_exec x = ledger_exec(l, v, parent, b.header.time_ms);
    HM_TRY_OUT(hooks(l, &x, true, 0));
    HM_TRY_OUT(execute_ops(&x, &b));
    HM_TRY_OUT(hooks(l, &x, false, b.count));
    HM_TRY_OUT(view_seal(v));
    if (!hm_hash_eq(&v->root, &b.header.state_root)) {
        err = hm_fail(HM_E_STATE_ROOT, "block %llu names another state than its operations make",
                      (unsigned long long)b.header.height);
        goto out;
    }
    v->header = b.header;
    v->has_header = true;
    v->id = b.id;
    hm_buf_put(&v->block, bytes);
    HM_TRY_OUT(hm_buf_status(&v->block));
    *view = v;
    v = NULL;
out:
    hm_view_release(v);
    hm_block_free(&b);
    return err;
}

hm_err hm_ledger_commit(hm_ledger *l, hm_view *v, hm_bytes certificate)
{
    if (v->on_disk || v->executing || v->parent != l->tip)
        return hm_fail(HM_E_INVALID, "block %llu does not follow the newest final block, %llu",
                       (unsigned long long)v->height, (unsigned long long)l->tip->height);
    HM_TRY(store_commit(l, v, certificate));
    hm_view *old = l->tip;
    l->tip = hm_view_ref(v);
    v->on_disk = true;
    v->parent = NULL;
    hm_overlay_free(&v->kv);
    hm_overlay_free(&v->nodes);
    hm_buf_free(&v->block);
    v->block = (hm_buf){0};
    hm_view_release(old); // the tip's reference
    hm_view_release(old); // v's reference
    return HM_OK;
}

// ---- queries ------------------------------------------------------------------------------------

hm_err hm_ledger_block_at(const hm_ledger *l, uint64_t height, hm_bytes *block,
                          hm_bytes *certificate)
{
    return store_block(l, l->read, height, block, certificate);
}

hm_err hm_ledger_block_find(const hm_ledger *l, const hm_hash *block_id, uint64_t *height)
{
    hm_bytes value = {0};
    HM_TRY(store_get(l->read, l->block_ids, hm_hash_bytes(block_id), &value));
    hm_rd r = hm_rd_of(value);
    *height = hm_rd_u64(&r);
    return hm_rd_end(&r);
}

hm_err hm_ledger_op_find(const hm_ledger *l, const hm_hash *op_id, hm_op_location *out)
{
    hm_bytes value = {0};
    HM_TRY(store_get(l->read, l->op_ids, hm_hash_bytes(op_id), &value));
    hm_rd r = hm_rd_of(value);
    hm_op_location at = {.height = hm_rd_u64(&r)};
    at.index = hm_rd_u32(&r);
    HM_TRY(hm_rd_end(&r));
    *out = at;
    return HM_OK;
}

hm_err hm_ledger_op_at(const hm_ledger *l, hm_op_location at, hm_bytes *op, hm_block_header *header)
{
    hm_bytes bytes = {0};
    HM_TRY(hm_ledger_block_at(l, at.height, &bytes, NULL));
    hm_block b;
    HM_TRY(hm_block_decode(bytes, &b));
    hm_err err = at.index < b.count ? HM_OK : HM_E_NOTFOUND;
    if (err == HM_OK && op != NULL)
        *op = b.ops[at.index];
    if (err == HM_OK && header != NULL)
        *header = b.header;
    hm_block_free(&b);
    return err;
}
