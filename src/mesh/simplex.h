// Simplex consensus (Chan and Pass, "Simplex Consensus: A Simple and Fast Consensus Protocol",
// TCC 2023) among weighted validators: the core, without I/O, clock, ledger or network.
//
// Views count up; each has one leader, who proposes one block on the newest certified one. A quorum
// (power * 3 > total * 2) of notarize votes certifies the block, a quorum of nullify votes skips
// the view, a quorum of finalize votes makes the block and its ancestors final. A node never sends
// both finalize and nullify for a view; on that rests safety.
//
// Use: give inputs (a message, the time, an answer), then drain hm_simplex_next_action() and carry
// the actions out in order, then arrange to call hm_simplex_timer() at hm_simplex_next_timeout().
// Answers to PROPOSE and VALIDATE may come at any later time, in any order, or never.
//
// One instance serves one set of validators.
//
// One thread. Running out of memory aborts the process: the votes are in the WAL, and a restart is
// sound where going on with half a state is not.
#ifndef HM_MESH_SIMPLEX_H
#define HM_MESH_SIMPLEX_H

#include "crypto/crypto.h"

#define HM_SIMPLEX_DOMAIN "hypermesh simplex v1" // of every signature, see hm_sign()
#define HM_SIMPLEX_VALIDATORS_MAX 100u
#define HM_SIMPLEX_BLOCK_MAX (4u << 20)
#define HM_SIMPLEX_MESSAGE_MAX (HM_SIMPLEX_BLOCK_MAX + 65536u)
#define HM_SIMPLEX_CERT_MAX (64u + 100u * (HM_FALCON_SIGNATURE_MAX + 8u))
#define HM_SIMPLEX_EVIDENCE_MAX 4096u
#define HM_SIMPLEX_VIEWS_AHEAD 16u  // votes and proposals for later views than that are dropped
#define HM_SIMPLEX_FETCH_MAX 64u    // heights a FETCH asks for
#define HM_SIMPLEX_VIEWS_BEHIND 16u // of final views the votes are kept, for late evidence
#define HM_SIMPLEX_ALL UINT32_MAX   // SEND to every other validator

// ---- validators, votes, certificates, evidence (pure) -------------------------------------------

typedef struct hm_simplex_validator {
    hm_node_id id;
    hm_bytes public_key; // raw; borrowed for the life of the set
    uint64_t power;      // 0: a member without a vote
} hm_simplex_validator;

// The validators of an epoch, and how their signatures are checked. Validators are numbered by
// their place; sum of powers below 2^60 (hm_simplex_new() checks).
typedef struct hm_simplex_set {
    hm_hash chain_id;
    uint64_t epoch;
    uint32_t count;
    const hm_simplex_validator *validators; // borrowed
    // Checks a signature under HM_SIMPLEX_DOMAIN; NULL = hm_verify() with the public key.
    hm_err (*verify)(void *ctx, uint32_t index, hm_bytes message, hm_bytes sig);
    void *ctx;
} hm_simplex_set;

typedef enum hm_simplex_kind {
    HM_SIMPLEX_PROPOSE = 1, // the leader's signature over its block
    HM_SIMPLEX_NOTARIZE = 2,
    HM_SIMPLEX_NULLIFY = 3, // block id is zero
    HM_SIMPLEX_FINALIZE = 4,
} hm_simplex_kind;

// Appends what a vote's signature covers: chain id, epoch, view, kind, block id.
void hm_simplex_vote_bytes(const hm_simplex_set *set, uint64_t view, hm_simplex_kind kind,
                           const hm_hash *block_id, hm_buf *out);
// The leader of a view: drawn by power from SHA-256 of seed and view.
uint32_t hm_simplex_leader(const hm_simplex_set *set, const hm_hash *seed, uint64_t view);
bool hm_simplex_is_quorum(uint64_t power, uint64_t total);

// Checks that the certificate shows a quorum for the block: a notarization or finalization of the
// block in its view. *kind may be NULL. A block with a notarization is final only if it stands
// below one with a finalization in the same chain: who verifies a chain wants finalization at the
// tip. HM_E_QUORUM, HM_E_SIGNATURE, codec errors.
HM_CHECK hm_err hm_simplex_cert_verify(const hm_simplex_set *set, const hm_hash *block_id,
                                       uint64_t block_view, hm_bytes cert, hm_simplex_kind *kind);

// Evidence is two signed votes of one validator in one view that no honest node signs both of: two
// proposals, two notarize or two finalize for different blocks, or finalize with nullify. Checks it
// and gives the offender's index in the set. The set's epoch must be the evidence's (HM_E_VOTE).
HM_CHECK hm_err hm_simplex_evidence_verify(const hm_simplex_set *set, hm_bytes evidence,
                                           uint32_t *offender);
// The epoch that a piece of evidence is about, so that the right set can be found.
HM_CHECK hm_err hm_simplex_evidence_epoch(hm_bytes evidence, uint64_t *epoch);

// ---- the core -----------------------------------------------------------------------------------

typedef struct hm_simplex hm_simplex;

// What the core needs to know of a block.
typedef struct hm_simplex_block_info {
    hm_hash id, parent;
    uint64_t height, view;
    hm_node_id proposer;
} hm_simplex_block_info;

typedef struct hm_simplex_calls {
    void *ctx;
    // Signs under HM_SIMPLEX_DOMAIN with this node's key; appends to sig. Called only for own votes
    // and proposals: two or three times a view. A failure is told as an EVENT; no vote is sent.
    hm_err (*sign)(void *ctx, hm_bytes message, hm_buf *sig);
    // Reads a block's header and checks that the rest is what the header commits to: a block comes
    // from whoever has it, and its id is that of the header.
    hm_err (*block_info)(void *ctx, hm_bytes block, hm_simplex_block_info *out);
} hm_simplex_calls;

typedef struct hm_simplex_config {
    hm_simplex_set set; // copied, keys too
    uint32_t self;      // own index
    hm_hash seed;       // of the epoch, for the leaders
    uint64_t tip_height, tip_view;
    hm_hash tip_id; // newest final block; height 0, view 0 and the chain id at the start
    // Bound on message delay: first value, and the bounds within which it adapts.
    uint64_t delta_us, delta_min_us, delta_max_us;
    uint64_t idle_us; // a leader without work waits this long with an empty block
    hm_simplex_calls calls;
} hm_simplex_config;

HM_CHECK hm_err hm_simplex_new(const hm_simplex_config *cfg, hm_simplex **out);
void hm_simplex_free(hm_simplex *s);

typedef enum hm_simplex_action_kind {
    // bytes must be durable in the WAL before any later action is carried out.
    HM_SIMPLEX_PERSIST = 1,
    // bytes to validator `peer`, or to all others; may be lost or come twice.
    HM_SIMPLEX_SEND,
    // Build a block of `view`, on block `parent` (which is validated or the tip), at `height`;
    // answer with hm_simplex_proposal(). An earlier request that is not yet answered is void.
    HM_SIMPLEX_BUILD,
    // Check block `bytes` (id, parent, view, height), whose parent is validated or the tip; answer
    // with hm_simplex_validated(). Asked once for a block, but again after a restart.
    HM_SIMPLEX_VALIDATE,
    // Ask `peer` for its final blocks `height`..`to_height` with their certificates and give each,
    // in order, to hm_simplex_certified_block(). An unanswered one is repeated, with another peer.
    HM_SIMPLEX_FETCH,
    // Block `bytes` (id, parent, height, view) is final; commit it with `cert`. In order of height,
    // each height once. The block may not have been validated here before.
    HM_SIMPLEX_FINAL,
    // Proof `bytes` against validator `peer`, see hm_simplex_evidence_verify(); put it in a block.
    HM_SIMPLEX_EVIDENCE,
    // A line of text `bytes` for the log.
    HM_SIMPLEX_EVENT,
} hm_simplex_action_kind;

// Borrowed bytes are valid until the next call with this instance.
typedef struct hm_simplex_action {
    hm_simplex_action_kind kind;
    uint32_t peer;
    hm_bytes bytes;
    hm_bytes cert;
    hm_hash id, parent;
    uint64_t view, height, to_height;
} hm_simplex_action;

// Gives the oldest action not yet given; false when there is none.
bool hm_simplex_next_action(hm_simplex *s, hm_simplex_action *out);
// When hm_simplex_timer() wants to be called; UINT64_MAX = not at all.
uint64_t hm_simplex_next_timeout(const hm_simplex *s);

// ---- inputs; time is monotonic and never goes back ----------------------------------------------

// Before start, once for each record of the WAL, oldest first. HM_E_CORRUPT for what is no record
// (do not start then: votes may be lost). Records of other epochs or final views are skipped.
HM_CHECK hm_err hm_simplex_restore(hm_simplex *s, hm_bytes record);
void hm_simplex_start(hm_simplex *s, uint64_t now_us);
// A message from validator `from`, as its SEND gave it. The error says why it was refused, for
// counters; the state is sound in any case, and a late or repeated message is no error.
HM_CHECK hm_err hm_simplex_message(hm_simplex *s, uint64_t now_us, uint32_t from, hm_bytes bytes);
void hm_simplex_timer(hm_simplex *s, uint64_t now_us);
// Work is pending here: a leader proposes at once, others expect a proposal soon. Call it at each
// change from no work to some, and after each FINAL that leaves work.
void hm_simplex_nudge(hm_simplex *s, uint64_t now_us);
// Validator `peer` is connected (again): tell it where we are.
void hm_simplex_peer_up(hm_simplex *s, uint64_t now_us, uint32_t peer);
// The connection to validator `peer` is lost: until it is up again or is heard, views that it leads
// are nullified without waiting for its proposal. A mistake costs such views and nothing else.
void hm_simplex_peer_down(hm_simplex *s, uint64_t now_us, uint32_t peer);
// Answer to BUILD. HM_E_PROPOSAL when the block is not what was asked for or comes too late.
HM_CHECK hm_err hm_simplex_proposal(hm_simplex *s, uint64_t now_us, hm_bytes block);
// Answer to VALIDATE.
void hm_simplex_validated(hm_simplex *s, uint64_t now_us, const hm_hash *id, bool ok);
// Answer to FETCH by validator `from`. Checked: an error means that it gave something wrong
// (another is asked then), except HM_E_AGAIN: not the next height, or not asked of that one.
HM_CHECK hm_err hm_simplex_certified_block(hm_simplex *s, uint64_t now_us, uint32_t from,
                                           hm_bytes block, hm_bytes cert);

// The records that are still needed: once the FINALs given so far are durable, the WAL may be
// rewritten to these (hm_wal_rewrite()). Allocated from the arena.
HM_CHECK hm_err hm_simplex_wal_snapshot(const hm_simplex *s, hm_arena *arena, hm_bytes **records,
                                        size_t *count);

typedef struct hm_simplex_status {
    uint64_t view, final_height, final_view;
    hm_hash final_id;
    uint64_t known_height; // greatest final height that a peer told; not checked
    uint64_t delta_us;
    uint32_t leader; // of the view
} hm_simplex_status;
void hm_simplex_get_status(const hm_simplex *s, hm_simplex_status *out);
// The newest final height that a validator told; not checked.
uint64_t hm_simplex_peer_height(const hm_simplex *s, uint32_t peer);

#endif
