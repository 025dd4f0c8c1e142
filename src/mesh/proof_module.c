#include "mesh/proof_module.h"

#include <stdio.h>

#include "mesh/asset.h"
#include "mesh/json_out.h"
#include "mesh/ledger_internal.h"
#include "mesh/node_module.h"
#include "mesh/proof_work.h"

// Keys: 'w' -> puzzle difficulties, 'b' index -> beacon value, 'B' -> newest beacon's index and the
// height it was recorded at, 'a' -> height and id of the next beacon's anchor block, 'S' -> seed of
// the epoch, 's' NodeID -> accepted answers.
// Indices: 'A' answer hash -> where its operation is, 'E' epoch -> seed, 'I' beacon index -> its
// input, value, where its operation is, and its anchor's height.

typedef struct key {
    uint8_t mem[2 + HM_HASH_BYTES];
} key;

static hm_bytes key_of(key *k, bool derived, char what, const void *rest, size_t len)
{
    k->mem[0] = HM_MODULE_PROOF | (derived ? HM_KEY_DERIVED : 0);
    k->mem[1] = (uint8_t)what;
    if (len > 0)
        memcpy(k->mem + 2, rest, len);
    return hm_bytes_of(k->mem, 2 + len);
}

static hm_bytes key_u64(key *k, bool derived, char what, uint64_t n)
{
    uint8_t be[8];
    hm_buf b = hm_buf_fixed(be, sizeof be);
    hm_wr_u64(&b, n);
    return key_of(k, derived, what, be, sizeof be);
}

static hm_err hash_get(const hm_view *v, hm_bytes k, hm_hash *out)
{
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, k, &value));
    if (value.len != HM_HASH_BYTES)
        return hm_fail(HM_E_CORRUPT, "a proof record of the ledger is damaged");
    memcpy(out->b, value.ptr, HM_HASH_BYTES);
    return HM_OK;
}

// ---- work ---------------------------------------------------------------------------------------

typedef struct puzzle {
    uint64_t now, least;
    uint64_t ring[HM_WORK_WINDOW]; // by height modulo the window
} puzzle;

static hm_err puzzle_load(const hm_view *v, puzzle *p)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_of(&k, false, 'w', NULL, 0), &value));
    hm_rd r = hm_rd_of(value);
    p->now = hm_rd_u64(&r);
    p->least = hm_rd_u64(&r);
    for (unsigned i = 0; i < HM_WORK_WINDOW; i++)
        p->ring[i] = hm_rd_u64(&r);
    return hm_rd_end(&r);
}

static hm_err puzzle_put(hm_view *v, puzzle *p)
{
    key k;
    uint8_t mem[8 * (2 + HM_WORK_WINDOW)];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    p->least = p->now;
    for (unsigned i = 0; i < HM_WORK_WINDOW; i++)
        if (p->ring[i] < p->least)
            p->least = p->ring[i];
    hm_wr_u64(&b, p->now);
    hm_wr_u64(&b, p->least);
    for (unsigned i = 0; i < HM_WORK_WINDOW; i++)
        hm_wr_u64(&b, p->ring[i]);
    return hm_view_put(v, key_of(&k, false, 'w', NULL, 0), hm_buf_bytes(&b));
}

static hm_err puzzle_end_block(hm_exec *x, uint32_t ops)
{
    puzzle p;
    HM_TRY(puzzle_load(x->view, &p));
    p.ring[x->height % HM_WORK_WINDOW] = p.now; // what this block's operations were asked for
    p.now = hm_work_next(p.now, ops, x->genesis->params.target_ops);
    return puzzle_put(x->view, &p);
}

static hm_err check_work(const hm_exec *x, const hm_hash *digest, uint64_t nonce)
{
    puzzle p;
    HM_TRY(puzzle_load(x->view, &p));
    if (!hm_work_check(digest, p.least, nonce))
        return hm_fail(HM_E_PROOF_WORK,
                       "proof of work: the nonce does not solve the puzzle at difficulty %llu, the "
                       "least of the last %u blocks (now %llu)",
                       (unsigned long long)p.least, HM_WORK_WINDOW, (unsigned long long)p.now);
    return HM_OK;
}

hm_err hm_proof_difficulty(const hm_view *v, uint64_t *difficulty)
{
    puzzle p;
    HM_TRY(puzzle_load(v, &p));
    *difficulty = p.now;
    return HM_OK;
}

// ---- time ---------------------------------------------------------------------------------------

hm_err hm_proof_time_group(const hm_genesis *g, hm_time_group *out)
{
    static _Thread_local hm_hash chain;
    static _Thread_local hm_time_group group;
    static _Thread_local bool made;
    if (!made || !hm_hash_eq(&chain, &g->chain_id)) {
        made = false;
        HM_TRY(hm_time_group_make(hm_hash_bytes(&g->chain_id), g->params.time_bits,
                                  g->params.time_iterations, &group));
        chain = g->chain_id;
        made = true;
    }
    *out = group;
    return HM_OK;
}

hm_err hm_proof_beacon_newest(const hm_view *v, uint64_t *index, uint64_t *height)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_of(&k, false, 'B', NULL, 0), &value));
    hm_rd r = hm_rd_of(value);
    *index = hm_rd_u64(&r);
    uint64_t at = hm_rd_u64(&r);
    if (height != NULL)
        *height = at;
    return hm_rd_end(&r);
}

static hm_err beacon_newest_put(hm_view *v, uint64_t index, uint64_t height)
{
    key k;
    uint8_t mem[16];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, index);
    hm_wr_u64(&b, height);
    return hm_view_put(v, key_of(&k, false, 'B', NULL, 0), hm_buf_bytes(&b));
}

static hm_err anchor_get(const hm_view *v, uint64_t *height, hm_hash *id)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_of(&k, false, 'a', NULL, 0), &value));
    hm_rd r = hm_rd_of(value);
    *height = hm_rd_u64(&r);
    hm_rd_copy(&r, id->b, HM_HASH_BYTES);
    return hm_rd_end(&r);
}

// The next beacon's anchor is the first block that stands beacon_blocks above the newest beacon's,
// so that beacons never fall behind the blocks, however fast those come.
static hm_err anchor_set(hm_exec *x)
{
    key k;
    uint64_t newest, at, anchor = x->height - 1;
    HM_TRY(hm_proof_beacon_newest(x->view, &newest, &at));
    if (anchor != at + x->genesis->params.beacon_blocks)
        return HM_OK;
    uint8_t mem[8 + HM_HASH_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, anchor);
    hm_wr_raw(&b, x->parent.b, HM_HASH_BYTES);
    return hm_view_put(x->view, key_of(&k, false, 'a', NULL, 0), hm_buf_bytes(&b));
}

hm_err hm_proof_beacon_due(const hm_view *v, uint64_t *index, hm_hash *input,
                           uint64_t *since_height)
{
    key k;
    uint64_t newest, since;
    hm_hash previous, anchor;
    HM_TRY(hm_proof_beacon_newest(v, &newest, NULL));
    HM_TRY(hash_get(v, key_u64(&k, false, 'b', newest), &previous));
    HM_TRY(anchor_get(v, &since, &anchor));
    *index = newest + 1;
    *input = hm_time_beacon_input(&previous, newest + 1, &anchor);
    *since_height = since;
    return HM_OK;
}

static hm_err check_time(const hm_exec *x, const hm_op_time *time)
{
    key k;
    uint64_t newest;
    hm_hash value;
    uint32_t max_age = x->genesis->params.time_max_age;
    HM_TRY(hm_proof_beacon_newest(x->view, &newest, NULL));
    if (time->index > newest)
        return hm_fail(HM_E_PROOF_TIME,
                       "proof of time: beacon %llu is not known yet; the newest is %llu",
                       (unsigned long long)time->index, (unsigned long long)newest);
    if (newest - time->index >= max_age)
        return hm_fail(
            HM_E_PROOF_TIME,
            "proof of time: beacon %llu is stale; the newest is %llu and at most %u back "
            "are taken",
            (unsigned long long)time->index, (unsigned long long)newest, max_age - 1);
    HM_TRY(hash_get(x->view, key_u64(&k, false, 'b', time->index), &value));
    if (!hm_hash_eq(&value, &time->value))
        return hm_fail(HM_E_PROOF_TIME, "proof of time: that is not the value of beacon %llu",
                       (unsigned long long)time->index);
    return HM_OK;
}

static hm_err beacon_read(const hm_op *op, uint64_t *index, hm_bytes *proof)
{
    hm_rd r = hm_rd_of(op->payload);
    *index = hm_rd_u64(&r);
    *proof = hm_rd_bytes(&r, HM_TIME_PROOF_MAX);
    return hm_rd_end(&r) == HM_OK
               ? HM_OK
               : hm_fail(HM_E_OP_PAYLOAD, "the payload is not a beacon's index and proof");
}

static hm_err beacon_check(const hm_exec *x, const hm_op *op, hm_hash *input, hm_hash *value)
{
    uint64_t index, due, since;
    hm_bytes proof = {0};
    hm_time_group group;
    HM_TRY(beacon_read(op, &index, &proof));
    hm_err err = hm_proof_beacon_due(x->view, &due, input, &since);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_OP_STATE, "no beacon is due before its anchor block");
    HM_TRY(err);
    if (index != due)
        return hm_fail(HM_E_OP_STATE, "beacon %llu is given, but %llu is the next",
                       (unsigned long long)index, (unsigned long long)due);
    HM_TRY(hm_proof_time_group(x->genesis, &group));
    return hm_time_verify(&group, input, proof, value);
}

#define BEACON_RECORD (2 * HM_HASH_BYTES + 12 + 8)

static void location_write(hm_buf *b, const hm_exec *x)
{
    hm_wr_u64(b, x->height);
    hm_wr_u32(b, x->index);
}

static hm_err beacon_apply(hm_exec *x, const hm_op *op)
{
    key k;
    uint64_t index, since;
    hm_hash input, value;
    hm_bytes proof = {0};
    uint32_t max_age = x->genesis->params.time_max_age;
    HM_TRY(beacon_read(op, &index, &proof));
    HM_TRY(hm_proof_beacon_due(x->view, &index, &input, &since));
    // The check has just verified the proof: its value is the hash of the output in it.
    HM_TRY(hm_time_value(proof, &value));
    HM_TRY(hm_view_put(x->view, key_u64(&k, false, 'b', index), hm_hash_bytes(&value)));
    HM_TRY(beacon_newest_put(x->view, index, x->height));
    HM_TRY(hm_view_del(x->view, key_of(&k, false, 'a', NULL, 0)));
    if (index >= max_age)
        HM_TRY(hm_view_del(x->view, key_u64(&k, false, 'b', index - max_age)));
    uint8_t mem[BEACON_RECORD];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_raw(&b, input.b, HM_HASH_BYTES);
    hm_wr_raw(&b, value.b, HM_HASH_BYTES);
    location_write(&b, x);
    hm_wr_u64(&b, since);
    return hm_view_put(x->view, key_u64(&k, true, 'I', index), hm_buf_bytes(&b));
}

void hm_proof_beacon_encode(uint64_t index, hm_bytes proof, hm_buf *payload)
{
    hm_wr_u64(payload, index);
    hm_wr_bytes(payload, proof);
}

// ---- space --------------------------------------------------------------------------------------

typedef struct answers {
    uint32_t sector;
    uint64_t epoch, epoch_before;
    hm_hash answer, answer_before; // of the epoch before; zero when there is none
} answers;

static hm_err answers_load(const hm_view *v, const hm_node_id *node, answers *a)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_of(&k, false, 's', node->b, HM_HASH_BYTES), &value));
    hm_rd r = hm_rd_of(value);
    a->sector = hm_rd_u32(&r);
    a->epoch = hm_rd_u64(&r);
    hm_rd_copy(&r, a->answer.b, HM_HASH_BYTES);
    a->epoch_before = hm_rd_u64(&r);
    hm_rd_copy(&r, a->answer_before.b, HM_HASH_BYTES);
    return hm_rd_end(&r);
}

static hm_err answers_put(hm_view *v, const hm_node_id *node, const answers *a)
{
    key k;
    uint8_t mem[4 + 2 * (8 + HM_HASH_BYTES)];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u32(&b, a->sector);
    hm_wr_u64(&b, a->epoch);
    hm_wr_raw(&b, a->answer.b, HM_HASH_BYTES);
    hm_wr_u64(&b, a->epoch_before);
    hm_wr_raw(&b, a->answer_before.b, HM_HASH_BYTES);
    return hm_view_put(v, key_of(&k, false, 's', node->b, HM_HASH_BYTES), hm_buf_bytes(&b));
}

static hm_hash seal_hash(const hm_genesis_validator *v)
{
    hm_sha256_ctx sha;
    hm_sha256_init(&sha);
    for (uint32_t i = 0; i < v->seal_count; i++)
        hm_sha256_update(&sha, v->seal_parts[i]);
    return hm_sha256_final(&sha);
}

static bool answer_is_fresh(const hm_exec *x, uint64_t epoch)
{
    uint64_t into = x->height % x->genesis->params.epoch_blocks;
    return epoch == x->epoch ||
           (epoch + 1 == x->epoch && into < hm_proof_deadline(&x->genesis->params));
}

static hm_err check_space(const hm_exec *x, const hm_node_id *owner, const hm_op_space *space)
{
    uint8_t addr[16];
    answers a;
    hm_overlay_addr(owner, 0, addr);
    if (memcmp(addr, space->addr, sizeof addr) != 0)
        return hm_fail(HM_E_PROOF_SPACE, "proof of space: the address is not the owner's");
    hm_err err = answers_load(x->view, owner, &a);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_PROOF_SPACE, "proof of space: the owner has no sector");
    HM_TRY(err);
    bool newest = a.epoch == space->epoch && hm_hash_eq(&a.answer, &space->answer);
    bool before = a.epoch_before == space->epoch && !hm_hash_is_zero(&a.answer_before) &&
                  hm_hash_eq(&a.answer_before, &space->answer);
    if (space->sector != a.sector || (!newest && !before))
        return hm_fail(HM_E_PROOF_SPACE,
                       "proof of space: the answer named is not the newest accepted one of the "
                       "owner's sector, that of epoch %llu",
                       (unsigned long long)a.epoch);
    if (!answer_is_fresh(x, space->epoch))
        return hm_fail(HM_E_PROOF_SPACE,
                       "proof of space: the answer of epoch %llu is stale in epoch %llu: the owner "
                       "must answer for its sector first",
                       (unsigned long long)space->epoch, (unsigned long long)x->epoch);
    return HM_OK;
}

static hm_err answer_read(const hm_op *op, uint32_t *sector, uint64_t *epoch, hm_bytes *answer)
{
    hm_rd r = hm_rd_of(op->payload);
    *sector = hm_rd_u32(&r);
    *epoch = hm_rd_u64(&r);
    *answer = hm_rd_bytes(&r, HM_SPACE_ANSWER_MAX);
    return hm_rd_end(&r) == HM_OK
               ? HM_OK
               : hm_fail(HM_E_OP_PAYLOAD, "the payload is not a sector, an epoch and an answer");
}

// The challenges of each node differ.
static hm_hash node_seed(const hm_hash *epoch_seed, const hm_node_id *node)
{
    return hm_sha256_2(hm_hash_bytes(epoch_seed), hm_hash_bytes(node));
}

static hm_err answer_check(const hm_exec *x, const hm_op *op)
{
    uint32_t sector;
    uint64_t epoch;
    hm_bytes answer = {0};
    answers a;
    hm_member m;
    key k;
    hm_hash seed;
    HM_TRY(answer_read(op, &sector, &epoch, &answer));
    if (epoch != x->epoch || epoch == 0)
        return hm_fail(HM_E_OP_STATE, "an answer for epoch %llu in epoch %llu",
                       (unsigned long long)epoch, (unsigned long long)x->epoch);
    if (x->height % x->genesis->params.epoch_blocks >= hm_proof_deadline(&x->genesis->params))
        return hm_fail(HM_E_OP_EXPIRED, "the answer for epoch %llu comes after its deadline",
                       (unsigned long long)epoch);
    HM_TRY(hm_member_find(x->view, &op->owner, &m));
    HM_TRY(answers_load(x->view, &op->owner, &a));
    if (a.sector != sector)
        return hm_fail(HM_E_OP_STATE, "the owner has no sector %u", sector);
    if (a.epoch >= epoch)
        return hm_fail(HM_E_OP_DUPLICATE, "the answer for epoch %llu was accepted already",
                       (unsigned long long)epoch);
    HM_TRY(hash_get(x->view, key_of(&k, false, 'S', NULL, 0), &seed));
    seed = node_seed(&seed, &op->owner);
    return hm_space_answer_verify(&x->genesis->params.space, &op->owner, sector,
                                  &x->genesis->validators[m.index].commitment, &seed, answer);
}

static hm_err answer_apply(hm_exec *x, const hm_op *op)
{
    uint32_t sector;
    uint64_t epoch;
    hm_bytes answer = {0};
    answers a;
    key k;
    HM_TRY(answer_read(op, &sector, &epoch, &answer));
    HM_TRY(answers_load(x->view, &op->owner, &a));
    a.epoch_before = a.epoch;
    a.answer_before = a.answer;
    a.epoch = epoch;
    a.answer = hm_sha256(answer);
    HM_TRY(answers_put(x->view, &op->owner, &a));
    uint8_t mem[12];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    location_write(&b, x);
    return hm_view_put(x->view, key_of(&k, true, 'A', a.answer.b, HM_HASH_BYTES), hm_buf_bytes(&b));
}

void hm_proof_answer_encode(uint32_t sector, uint64_t epoch, hm_bytes answer, hm_buf *payload)
{
    hm_wr_u32(payload, sector);
    hm_wr_u64(payload, epoch);
    hm_wr_bytes(payload, answer);
}

hm_err hm_proof_answer_due(const hm_view *v, const hm_node_id *node, uint64_t *epoch, hm_hash *seed)
{
    const hm_genesis_params *p = &hm_view_genesis(v)->params;
    uint64_t height = hm_view_height(v) + 1; // where it could stand
    answers a;
    key k;
    hm_hash s;
    // The seed of an epoch is set at its first block, so the view must be inside the epoch.
    if (height / p->epoch_blocks == 0 ||
        hm_view_height(v) / p->epoch_blocks != height / p->epoch_blocks)
        return HM_E_NOTFOUND;
    if (height % p->epoch_blocks >= hm_proof_deadline(p))
        return HM_E_NOTFOUND;
    HM_TRY(answers_load(v, node, &a));
    if (a.epoch >= height / p->epoch_blocks)
        return HM_E_NOTFOUND;
    HM_TRY(hash_get(v, key_of(&k, false, 'S', NULL, 0), &s));
    *epoch = height / p->epoch_blocks;
    *seed = node_seed(&s, node);
    return HM_OK;
}

static hm_err seed_of_epoch(hm_exec *x)
{
    key k;
    uint64_t newest;
    hm_hash beacon;
    HM_TRY(hm_proof_beacon_newest(x->view, &newest, NULL));
    HM_TRY(hash_get(x->view, key_u64(&k, false, 'b', newest), &beacon));
    hm_buf b = {0};
    hm_buf_puts(&b, "hypermesh/space/seed/1");
    hm_wr_u64(&b, x->epoch);
    hm_wr_raw(&b, beacon.b, HM_HASH_BYTES);
    hm_wr_raw(&b, x->parent.b, HM_HASH_BYTES);
    hm_err err = hm_buf_status(&b);
    hm_hash seed = hm_sha256(hm_buf_bytes(&b));
    hm_buf_free(&b);
    HM_TRY(err);
    HM_TRY(hm_view_put(x->view, key_of(&k, false, 'S', NULL, 0), hm_hash_bytes(&seed)));
    return hm_view_put(x->view, key_u64(&k, true, 'E', x->epoch), hm_hash_bytes(&seed));
}

// ---- the module ---------------------------------------------------------------------------------

static hm_err current(const hm_exec *x, const hm_node_id *owner, hm_op_space *space,
                      hm_op_time *time, uint64_t *difficulty)
{
    key k;
    answers a;
    HM_TRY(hm_proof_difficulty(x->view, difficulty));
    if (time != NULL) {
        HM_TRY(hm_proof_beacon_newest(x->view, &time->index, NULL));
        HM_TRY(hash_get(x->view, key_u64(&k, false, 'b', time->index), &time->value));
    }
    if (space != NULL) {
        HM_TRY(answers_load(x->view, owner, &a));
        space->sector = a.sector;
        space->epoch = a.epoch;
        space->answer = a.answer;
        hm_overlay_addr(owner, 0, space->addr);
    }
    return HM_OK;
}

static hm_err proof_genesis(hm_exec *x)
{
    key k;
    const hm_genesis *g = x->genesis;
    hm_hash zero = hm_time_beacon_zero(&g->chain_id);
    puzzle p = {.now = HM_WORK_DIFFICULTY_MIN};
    for (unsigned i = 0; i < HM_WORK_WINDOW; i++)
        p.ring[i] = p.now;
    HM_TRY(puzzle_put(x->view, &p));
    HM_TRY(hm_view_put(x->view, key_u64(&k, false, 'b', 0), hm_hash_bytes(&zero)));
    HM_TRY(beacon_newest_put(x->view, 0, 0));
    for (uint32_t i = 0; i < g->count; i++) {
        const hm_genesis_validator *v = &g->validators[i];
        hm_node_id id;
        HM_TRY(hm_genesis_node_id(v, &id));
        for (uint32_t part = 0; part < v->seal_count; part++)
            HM_TRY(hm_space_seal_part_verify(&g->params.space, &id, v->sector, &v->commitment, part,
                                             v->seal_parts[part]));
        answers a = {.sector = v->sector, .answer = seal_hash(v)};
        HM_TRY(answers_put(x->view, &id, &a));
    }
    return HM_OK;
}

static hm_err proof_begin_block(hm_exec *x)
{
    HM_TRY(anchor_set(x));
    return x->height % x->genesis->params.epoch_blocks == 0 ? seed_of_epoch(x) : HM_OK;
}

static hm_err proof_check(const hm_exec *x, const hm_op *op)
{
    hm_hash input, value;
    if (op->kind == HM_PROOF_BEACON)
        return beacon_check(x, op, &input, &value);
    return answer_check(x, op);
}

static hm_err proof_apply(hm_exec *x, const hm_op *op)
{
    return op->kind == HM_PROOF_BEACON ? beacon_apply(x, op) : answer_apply(x, op);
}

static hm_err proof_describe(const hm_op *op, hm_buf *json)
{
    uint32_t sector = 0;
    uint64_t number = 0;
    hm_bytes bytes = {0};
    bool beacon = op->kind == HM_PROOF_BEACON;
    HM_TRY(beacon ? beacon_read(op, &number, &bytes) : answer_read(op, &sector, &number, &bytes));
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL)
        return HM_E_NOMEM;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, o);
    hm_hash hash = hm_sha256(bytes);
    bool ok = yyjson_mut_obj_add_uint(doc, o, beacon ? "index" : "epoch", number) &&
              (beacon || yyjson_mut_obj_add_uint(doc, o, "sector", sector)) &&
              yyjson_mut_obj_add_uint(doc, o, "proof_bytes", bytes.len) &&
              mesh_json_hash(doc, o, "proof_sha256", &hash);
    return mesh_json_end(doc, ok, json);
}

static const hm_op_kind proof_kinds[] = {
    {HM_PROOF_SPACE_ANSWER, HM_OP_RULE_SYSTEM, "space_answer"},
    {HM_PROOF_BEACON, HM_OP_RULE_SYSTEM, "beacon"},
};

const hm_module hm_module_proof = {
    .id = HM_MODULE_PROOF,
    .name = "proof",
    .kinds = proof_kinds,
    .kind_count = sizeof proof_kinds / sizeof proof_kinds[0],
    .genesis = proof_genesis,
    .check = proof_check,
    .apply = proof_apply,
    .begin_block = proof_begin_block,
    .end_block = puzzle_end_block,
    .describe = proof_describe,
};

const hm_proof_rules hm_proof_rules_v1 = {check_work, check_time, check_space, current};

// ---- checking again -----------------------------------------------------------------------------

static void found(hm_proof_finding *f, hm_err err, const char *good)
{
    f->ok = err == HM_OK;
    snprintf(f->checked, sizeof f->checked, "%s", err == HM_OK ? good : hm_err_detail());
    if (f->checked[0] == 0)
        snprintf(f->checked, sizeof f->checked, "%s", hm_err_text(err));
}

static hm_err location_op(hm_ledger *l, hm_bytes at_bytes, uint8_t kind, hm_op *op)
{
    hm_rd r = hm_rd_of(at_bytes);
    hm_op_location at = {.height = hm_rd_u64(&r)};
    at.index = hm_rd_u32(&r);
    HM_TRY(hm_rd_end(&r));
    hm_bytes bytes = {0};
    HM_TRY(hm_ledger_op_at(l, at, &bytes, NULL));
    HM_TRY(hm_op_decode(bytes, op, NULL));
    if (op->module != HM_MODULE_PROOF || op->kind != kind)
        return hm_fail(HM_E_CORRUPT, "the index of proofs leads to another operation");
    return HM_OK;
}

static hm_err explain_space(hm_ledger *l, const hm_op *op, hm_proof_finding *f)
{
    const hm_genesis *g = hm_ledger_genesis(l);
    const hm_view *v = hm_ledger_tip(l);
    char good[200];
    hm_member m;
    HM_TRY(hm_member_find(v, &op->owner, &m));
    const hm_genesis_validator *val = &g->validators[m.index];
    if (op->space.epoch == 0) {
        hm_hash seal = seal_hash(val);
        if (!hm_hash_eq(&seal, &op->space.answer))
            return hm_fail(HM_E_PROOF_SPACE, "it does not name the owner's seal proof");
        for (uint32_t i = 0; i < val->seal_count; i++)
            HM_TRY(hm_space_seal_part_verify(&g->params.space, &op->owner, val->sector,
                                             &val->commitment, i, val->seal_parts[i]));
        snprintf(good, sizeof good,
                 "seal proof of sector %u: %u columns of %u layers opened with all their parents",
                 val->sector, g->params.space.seal_challenges, g->params.space.layers);
        found(f, HM_OK, good);
        return HM_OK;
    }
    key k;
    hm_bytes at = {0};
    hm_hash seed;
    hm_op answer_op;
    uint32_t sector;
    uint64_t epoch;
    hm_bytes answer = {0};
    HM_TRY(hm_view_get(v, key_of(&k, true, 'A', op->space.answer.b, HM_HASH_BYTES), &at));
    HM_TRY(location_op(l, at, HM_PROOF_SPACE_ANSWER, &answer_op));
    HM_TRY(answer_read(&answer_op, &sector, &epoch, &answer));
    HM_TRY(hash_get(v, key_u64(&k, true, 'E', op->space.epoch), &seed));
    seed = node_seed(&seed, &op->owner);
    hm_hash hash = hm_sha256(answer);
    if (epoch != op->space.epoch || sector != op->space.sector ||
        !hm_hash_eq(&hash, &op->space.answer) || !hm_hash_eq(&answer_op.owner, &op->owner))
        return hm_fail(HM_E_PROOF_SPACE, "it does not name an answer of the owner");
    HM_TRY(hm_space_answer_verify(&g->params.space, &op->owner, sector, &val->commitment, &seed,
                                  answer));
    snprintf(good, sizeof good,
             "answer of sector %u for epoch %llu: %u of %llu labels opened against its commitment",
             sector, (unsigned long long)epoch, g->params.space.answer_challenges,
             1ULL << g->params.space.nodes_log2);
    found(f, HM_OK, good);
    return HM_OK;
}

static hm_err explain_time(hm_ledger *l, const hm_op *op, hm_proof_finding *f)
{
    const hm_genesis *g = hm_ledger_genesis(l);
    const hm_view *v = hm_ledger_tip(l);
    char good[200];
    if (op->time.index == 0) {
        hm_hash zero = hm_time_beacon_zero(&g->chain_id);
        if (!hm_hash_eq(&zero, &op->time.value))
            return hm_fail(HM_E_PROOF_TIME, "it does not name the value of beacon 0");
        found(f, HM_OK, "beacon 0, the hash of the chain id");
        return HM_OK;
    }
    key k;
    hm_bytes record = {0};
    hm_hash input, value;
    hm_op beacon_op;
    uint64_t index, anchor;
    hm_bytes proof = {0};
    hm_time_group group;
    HM_TRY(hm_view_get(v, key_u64(&k, true, 'I', op->time.index), &record));
    if (record.len != BEACON_RECORD)
        return hm_fail(HM_E_CORRUPT, "the index of beacons is damaged");
    memcpy(input.b, record.ptr, HM_HASH_BYTES);
    HM_TRY(location_op(l, hm_bytes_of(record.ptr + 2 * HM_HASH_BYTES, 12), HM_PROOF_BEACON,
                       &beacon_op));
    hm_rd r = hm_rd_of(hm_bytes_of(record.ptr + BEACON_RECORD - 8, 8));
    anchor = hm_rd_u64(&r);
    HM_TRY(beacon_read(&beacon_op, &index, &proof));
    HM_TRY(hm_proof_time_group(g, &group));
    HM_TRY(hm_time_verify(&group, &input, proof, &value));
    if (index != op->time.index || !hm_hash_eq(&value, &op->time.value))
        return hm_fail(HM_E_PROOF_TIME, "it does not name the value of beacon %llu",
                       (unsigned long long)op->time.index);
    snprintf(good, sizeof good,
             "beacon %llu: Wesolowski proof of %llu squarings at %u bits after block %llu",
             (unsigned long long)index, (unsigned long long)group.iterations, group.bits,
             (unsigned long long)anchor);
    found(f, HM_OK, good);
    return HM_OK;
}

static hm_err explain_stake(hm_ledger *l, const hm_op *op, const hm_op_digests *d,
                            const hm_block_header *h, hm_proof_finding *f)
{
    const hm_view *v = hm_ledger_tip(l);
    char good[200];
    hm_member m;
    hm_member_cert cert;
    HM_TRY(hm_member_find(v, &op->owner, &m));
    HM_TRY(hm_op_verify_signature(op, d, m.public_key));
    HM_TRY(hm_member_cert_find(v, &op->stake_cert, &cert));
    if (!hm_hash_eq(&cert.node, &op->owner))
        return hm_fail(HM_E_PROOF_STAKE, "the certificate is another node's");
    if (h->time_ms < cert.not_before_ms || h->time_ms > cert.not_after_ms)
        return hm_fail(HM_E_PROOF_STAKE, "the certificate was not in force at the block's time");
    snprintf(
        good, sizeof good,
        "FALCON-1024 signature of %zu bytes, certificate in force at the block's time%s; bonded "
        "now: %llu",
        op->stake_signature.len, cert.revoked ? " (revoked since)" : "",
        (unsigned long long)m.stake);
    found(f, HM_OK, good);
    return HM_OK;
}

static hm_err explain_work(const hm_op *op, const hm_op_digests *d, hm_proof_finding *f)
{
    uint64_t solved = HM_WORK_DIFFICULTY_MIN;
    char good[200];
    if (!hm_work_check(&d->work, solved, op->work_nonce))
        return hm_fail(HM_E_PROOF_WORK, "the nonce does not solve the puzzle at any difficulty");
    while (solved < UINT64_MAX / 2 && hm_work_check(&d->work, solved * 2, op->work_nonce))
        solved *= 2;
    snprintf(
        good, sizeof good,
        "nonce %llu solves the operation's puzzle at difficulty %llu or more (least asked: %u)",
        (unsigned long long)op->work_nonce, (unsigned long long)solved, HM_WORK_DIFFICULTY_MIN);
    found(f, HM_OK, good);
    return HM_OK;
}

hm_err hm_proof_explain(hm_ledger *l, hm_op_location at, hm_proof_finding out[4])
{
    hm_bytes bytes = {0};
    hm_block_header h;
    hm_op op;
    hm_op_digests d;
    HM_TRY(hm_ledger_op_at(l, at, &bytes, &h));
    HM_TRY(hm_op_decode(bytes, &op, &d));
    memset(out, 0, 4 * sizeof *out);
    out[0] = (hm_proof_finding){.name = "space", .present = op.has_space};
    out[1] = (hm_proof_finding){.name = "stake", .present = op.has_stake};
    out[2] = (hm_proof_finding){.name = "work", .present = op.has_work};
    out[3] = (hm_proof_finding){.name = "time", .present = op.has_time};
    for (unsigned i = 0; i < 4; i++) {
        if (!out[i].present) {
            snprintf(out[i].checked, sizeof out[i].checked,
                     "none: a system operation carries stake and work only");
            continue;
        }
        hm_err_clear();
        hm_err err = i == 0   ? explain_space(l, &op, &out[0])
                     : i == 1 ? explain_stake(l, &op, &d, &h, &out[1])
                     : i == 2 ? explain_work(&op, &d, &out[2])
                              : explain_time(l, &op, &out[3]);
        if (err != HM_OK)
            found(&out[i], err, "");
    }
    return HM_OK;
}
