// The ledger: blocks of operations, executed against an authenticated state, kept in LMDB.
//
// Execution is speculative: hm_ledger_execute() makes a view of the state after a block over the
// view of its parent, in memory. When the block is final, hm_ledger_commit() writes the block, its
// certificate, the index of its operations and the changes of state in one transaction. So a crash
// at any instant leaves the state after some final block, whole.
//
// What operations mean is up to modules: pure, deterministic functions of (state, block header).
//
// Threads: a ledger and its views belong to one thread. Borrowed bytes (views, blocks) are valid
// until the next commit. The dear part of checking an operation, its signature, can be done on
// other threads beforehand: hm_op_verify_signature(), then hm_ledger_note_verified().
#ifndef HM_MESH_LEDGER_H
#define HM_MESH_LEDGER_H

#include "mesh/block.h"
#include "mesh/genesis.h"
#include "mesh/kv.h"
#include "mesh/tree.h"

typedef struct hm_ledger hm_ledger;

// ---- modules ------------------------------------------------------------------------------------

// What a module's functions are given. For a check outside a block (admission to the mempool) it
// describes the block that could come next.
typedef struct hm_exec {
    hm_ledger *ledger;
    hm_view *view; // state before the operation; apply writes here
    const hm_genesis *genesis;
    uint64_t height;
    uint64_t epoch;   // height / epoch_blocks
    uint64_t time_ms; // the block's
    hm_hash parent;   // id of the block before
    uint32_t index;   // of the operation in the block
    hm_hash op_id;    // of the operation
} hm_exec;

typedef enum hm_op_rule {
    HM_OP_RULE_FULL = 1,   // on an asset: all four proofs
    HM_OP_RULE_SYSTEM = 2, // stake signature and work; space and time must be absent
} hm_op_rule;

typedef struct hm_op_kind {
    uint8_t kind;
    hm_op_rule rule;
    const char *name; // such as "register"
} hm_op_kind;

typedef struct hm_module {
    uint8_t id;       // hm_module_id; first byte of all keys it writes
    const char *name; // such as "asset"
    const hm_op_kind *kinds;
    size_t kind_count;
    // Writes the module's first state. May be NULL.
    hm_err (*genesis)(hm_exec *x);
    // Is the operation legal here? Parses the payload, reads the state, writes nothing. Each
    // refusal calls hm_fail() with a line for people. Proofs, nonce and signature are not its task.
    hm_err (*check)(const hm_exec *x, const hm_op *op);
    // Does it. Called right after a check that passed; should fail only for want of memory or disk.
    // Another failure makes a block with the operation invalid, and leaves it out of those built.
    hm_err (*apply)(hm_exec *x, const hm_op *op);
    // Before the first and after the last operation of every block (x->index and op_id unset); ops
    // is the number of operations. May be NULL.
    hm_err (*begin_block)(hm_exec *x);
    hm_err (*end_block)(hm_exec *x, uint32_t ops);
    // Appends the payload as one JSON object, for people.
    hm_err (*describe)(const hm_op *op, hm_buf *json);
} hm_module;

// The checks of space, time and work against the state, by the proof module. Each refuses with
// HM_E_PROOF_* and a line that says what was wrong and what would be right.
typedef struct hm_proof_rules {
    // Does the nonce solve the digest at a difficulty that is still good? One hash and one read.
    hm_err (*check_work)(const hm_exec *x, const hm_hash *digest, uint64_t nonce);
    hm_err (*check_time)(const hm_exec *x, const hm_op_time *time);
    hm_err (*check_space)(const hm_exec *x, const hm_node_id *owner, const hm_op_space *space);
    // What an operation of this owner should carry now. HM_E_NOTFOUND when it has no accepted
    // answer. space and time may be NULL.
    hm_err (*current)(const hm_exec *x, const hm_node_id *owner, hm_op_space *space,
                      hm_op_time *time, uint64_t *difficulty);
} hm_proof_rules;

extern const hm_module hm_module_node;
extern const hm_module hm_module_asset;
extern const hm_module hm_module_trust;        // trust_module.h
extern const hm_module hm_module_proof;        // proof_module.h
extern const hm_proof_rules hm_proof_rules_v1; // proof_module.h

// ---- life cycle ---------------------------------------------------------------------------------

typedef struct hm_ledger_config {
    const char *dir;  // made if absent; holds data.mdb and lock.mdb
    hm_bytes genesis; // canonical bytes; HM_E_OP_CHAIN when the store is of another chain
    const hm_module *const *modules; // borrowed until close, in the order of their hooks
    size_t module_count;
    const hm_proof_rules *proofs; // borrowed until close
    // Checks one piece of consensus evidence against the validators of the state and names the
    // offender (an index). Pure. HM_E_EQUIVOCATION is not an error here: HM_OK means proven.
    hm_err (*evidence)(const hm_exec *x, hm_bytes evidence, uint32_t *offender);
    bool no_sync; // simulators and benches only: no fsync at commit
} hm_ledger_config;

// A new store is filled from the genesis; the committed height is 0 then.
HM_CHECK hm_err hm_ledger_open(const hm_ledger_config *cfg, hm_ledger **out);
// All views must be released (asserted).
void hm_ledger_close(hm_ledger *l);

const hm_genesis *hm_ledger_genesis(const hm_ledger *l);
uint64_t hm_ledger_height(const hm_ledger *l); // of the newest committed block; 0 = genesis
// The committed state. Borrowed; the same pointer only until the next commit.
hm_view *hm_ledger_tip(hm_ledger *l);

// ---- views --------------------------------------------------------------------------------------

// A view keeps its parent alive. Release each view that execute, build or ref gave.
hm_view *hm_view_ref(hm_view *v);
void hm_view_release(hm_view *v); // NULL is fine
uint64_t hm_view_height(const hm_view *v);
hm_hash hm_view_block_id(const hm_view *v); // the chain id at height 0
// The header of the view's block; NULL at height 0.
const hm_block_header *hm_view_header(const hm_view *v);
const hm_genesis *hm_view_genesis(const hm_view *v);
// The memory that is its own, without that of the views below it.
size_t hm_view_bytes(const hm_view *v);
// True when it has one reference: no other view stands on it.
bool hm_view_is_leaf(const hm_view *v);

// ---- operations ---------------------------------------------------------------------------------

// The whole check of an operation as if it were next after `view`, cheapest first: encoding, chain,
// kind, proofs present, work, nonce, certificate and stake, time, space, module, signature. now_ms
// stands in for the block's time. HM_OK, or the code, with hm_err_detail() saying what and why.
HM_CHECK hm_err hm_ledger_check(hm_ledger *l, hm_view *view, hm_bytes op, uint64_t now_ms);
// Remembers that hm_op_verify_signature() passed for this very encoding, so that check, build and
// execute skip it. A bounded table; forgetting only costs time.
void hm_ledger_note_verified(hm_ledger *l, const hm_hash *op_id);
// True when the signature need not be checked again.
bool hm_ledger_is_verified(const hm_ledger *l, const hm_hash *op_id);
// The raw public key that the state knows for a node. Borrowed. HM_E_NOTFOUND.
HM_CHECK hm_err hm_ledger_public_key(const hm_view *view, const hm_node_id *node,
                                     hm_bytes *public_key);
// Fills space, time, difficulty, cert and full for an operation of this owner made now on `view`.
HM_CHECK hm_err hm_ledger_op_inputs(hm_ledger *l, hm_view *view, const hm_node_id *owner,
                                    uint8_t module, uint8_t kind, hm_op_inputs *out);
// The highest nonce that the owner has used; 0 = none.
HM_CHECK hm_err hm_ledger_nonce(const hm_view *view, const hm_node_id *owner, uint64_t *highest);
// The module and kind of an operation in words, such as "asset" and "register"; NULL if unknown.
const char *hm_ledger_module_name(const hm_ledger *l, uint8_t module);
const char *hm_ledger_kind_name(const hm_ledger *l, uint8_t module, uint8_t kind);
// The payload as JSON. HM_E_OP_MODULE, HM_E_OP_PAYLOAD.
HM_CHECK hm_err hm_ledger_describe(const hm_ledger *l, const hm_op *op, hm_buf *json);

// ---- blocks -------------------------------------------------------------------------------------

// Makes the block after `parent` out of those candidates that are legal in turn, leaving the rest
// out, as if they had not been there: outcome[i] (may be NULL; filled on success) gets HM_OK or
// why; candidates past the block's limits get HM_E_AGAIN. Gives encoded block and view, so that the
// proposer need not execute it again. time_ms is raised above the parent's if it is not.
HM_CHECK hm_err hm_ledger_build(hm_ledger *l, hm_view *parent, uint64_t consensus_view,
                                const hm_node_id *proposer, uint64_t time_ms,
                                const hm_bytes *candidates, size_t count, hm_err *outcome,
                                hm_buf *block, hm_view **view);
// Checks a block and gives the state after it. HM_E_BLOCK, HM_E_STATE_ROOT, or the refusal of the
// operation named in the detail. The time of the block is compared with the parent's only; whether
// it is near the wall clock is for the voter to judge.
HM_CHECK hm_err hm_ledger_execute(hm_ledger *l, hm_view *parent, hm_bytes block, hm_view **view);
// Makes the view's block final, with the bytes of its certificate (opaque here). Its parent must be
// the tip (HM_E_INVALID). Durable when it returns HM_OK; afterwards `view` reads from disk and
// views of other branches answer HM_E_CLOSED.
HM_CHECK hm_err hm_ledger_commit(hm_ledger *l, hm_view *view, hm_bytes certificate);

// ---- queries ------------------------------------------------------------------------------------

typedef struct hm_op_location {
    uint64_t height;
    uint32_t index;
} hm_op_location;

// Block and certificate of a committed height >= 1; either may be NULL. HM_E_NOTFOUND.
HM_CHECK hm_err hm_ledger_block_at(const hm_ledger *l, uint64_t height, hm_bytes *block,
                                   hm_bytes *certificate);
HM_CHECK hm_err hm_ledger_block_find(const hm_ledger *l, const hm_hash *block_id, uint64_t *height);
HM_CHECK hm_err hm_ledger_op_find(const hm_ledger *l, const hm_hash *op_id, hm_op_location *out);
// The encoding of the operation there, and its block's header (either may be NULL).
HM_CHECK hm_err hm_ledger_op_at(const hm_ledger *l, hm_op_location at, hm_bytes *op,
                                hm_block_header *header);

// ---- verification -------------------------------------------------------------------------------

typedef struct hm_ledger_verify_report {
    uint64_t blocks, ops;
    hm_hash state_root; // at the end
} hm_ledger_verify_report;

typedef struct hm_ledger_verify_hooks {
    // Is the certificate good for this block, by the validators of the state before it? tip is true
    // for the newest block, whose certificate makes all before it final.
    hm_err (*certificate)(void *ctx, hm_view *parent, const hm_block_header *header,
                          const hm_hash *block_id, hm_bytes certificate, bool tip);
    void (*progress)(void *ctx, uint64_t done, uint64_t total); // may be NULL
    void *ctx;
} hm_ledger_verify_hooks;

// Walks the whole chain from the genesis, executing every block anew into a scratch store in
// scratch_dir (made, and removed at the end), and compares every root, every index entry, and at
// the end every entry of the state. HM_E_CORRUPT or the error of the first thing that is wrong,
// with height and reason in the detail. Works on a snapshot: may run on a thread of its own while
// the ledger is in use, up to the block that was newest when it began.
HM_CHECK hm_err hm_ledger_verify(hm_ledger *l, const char *scratch_dir,
                                 const hm_ledger_verify_hooks *hooks,
                                 hm_ledger_verify_report *report);

#endif
