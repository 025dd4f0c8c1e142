// Private to simplex*.c.
//
//   simplex.c       life, views, the rules of voting, proposing and finalizing
//   simplex_log.c   the log of votes
//   simplex_book.c  what is known of each view: votes, certificates, blocks; evidence
//   simplex_msg.c   messages of other validators; asking for what is missing; catching up
//   simplex_vote.c  the pure part: votes, leaders, certificates, evidence
#ifndef HM_MESH_SIMPLEX_INTERNAL_H
#define HM_MESH_SIMPLEX_INTERNAL_H

#include "base/list.h"
#include "base/map.h"
#include "base/wire.h"
#include "mesh/simplex.h"

#define SX_VOTE_BYTES (HM_HASH_BYTES + 8 + 8 + 1 + HM_HASH_BYTES)
#define SX_WANTS_MAX 64u // things asked for at a time
#define SX_REPLY_BYTES_MAX (1u << 20)
#define SX_REPLY_EVERY_US 50000u // to one peer, of status and of blocks asked for
#define SX_RESEND_MIN_US 200000u
#define SX_RESEND_MAX_US 2000000u
#define SX_FETCH_MIN_US 1000000u // without a block of those that were asked for
#define SX_FETCH_MAX_US 4000000u
#define SX_FETCH_NEXT_US 500000u // the same, after the first one
#define SX_THIN 64u              // views below the final one that a node far behind keeps whole

// ---- rules that can be forgotten ----------------------------------------------------------------
// tests/sim builds cores that forget one of these, to see that the simulator notices. Every other
// build keeps them all, and the compiler leaves no trace of the question.

enum {
    SX_FORGET_NOTHING,
    SX_FORGET_VOTE_ONCE,       // one notarize a view
    SX_FORGET_NULLIFY_ENDS,    // no notarize after nullify
    SX_FORGET_FINALIZE_RULE,   // no finalize after nullify
    SX_FORGET_NULLIFY_RULE,    // no nullify after finalize
    SX_FORGET_DISK_FIRST,      // votes on disk before they are sent
    SX_FORGET_LOG,             // votes restored from it
    SX_FORGET_QUORUM,          // two thirds, not half
    SX_FORGET_PARENT,          // nullifications between a block and its parent
    SX_FORGET_CERT_SIGNATURES, // checked before a certificate counts
    SX_FORGET_VALIDATE,        // before a block is voted for
    SX_FORGET_EVIDENCE,        // of nullify with finalize
    SX_FORGET_LOG_CERTS,       // with the votes that rest on them
    SX_FORGET_GAPS,            // views that were jumped over get nullified
    SX_FORGET_AHEAD,           // votes for far views are dropped
    SX_FORGET_PRUNE,           // of what is final
    SX_FORGET_RESEND,          // of what may have been lost
};
#ifndef SX_FORGETS
#define SX_FORGETS SX_FORGET_NOTHING
#endif
static inline bool sx_forgets(int rule)
{
    return SX_FORGETS == rule;
}

// ---- pure ---------------------------------------------------------------------------------------

typedef struct sx_signed {
    hm_simplex_kind kind;
    hm_hash id;
    hm_bytes sig;
} sx_signed;

typedef struct sx_cert_view {
    hm_simplex_kind kind;
    uint64_t view;
    hm_hash id;
    uint32_t count;
    uint32_t signers[HM_SIMPLEX_VALIDATORS_MAX];
    hm_bytes sigs[HM_SIMPLEX_VALIDATORS_MAX]; // borrowed
} sx_cert_view;

HM_CHECK hm_err sx_verify(const hm_simplex_set *set, uint32_t signer, uint64_t view,
                          hm_simplex_kind kind, const hm_hash *id, hm_bytes sig);
void sx_cert_begin(hm_buf *out, hm_simplex_kind kind, uint64_t view, const hm_hash *id,
                   uint32_t count);
// Checks form and quorum, not the signatures.
HM_CHECK hm_err sx_cert_read(const hm_simplex_set *set, hm_bytes bytes, sx_cert_view *out);
void sx_evidence_write(const hm_simplex_set *set, uint32_t signer, uint64_t view, sx_signed a,
                       sx_signed b, hm_buf *out);

// ---- what is known of a view --------------------------------------------------------------------

typedef struct sx_vote {
    hm_hash id;
    uint8_t *sig; // owned; NULL: no such vote
    uint16_t len;
    bool verified;
} sx_vote;

typedef struct sx_cert {
    hm_hash id;
    hm_buf bytes; // empty: none
} sx_cert;

typedef enum sx_block_state { SX_UNCHECKED, SX_ASKED, SX_VALID, SX_INVALID } sx_block_state;

enum { SX_NOTARIZE, SX_NULLIFY, SX_FINALIZE, SX_KINDS };

typedef struct sx_view {
    uint64_t view;
    uint32_t leader;
    sx_vote prop;             // the leader's signature over its block
    sx_vote *votes[SX_KINDS]; // one of each validator
    sx_cert certs[SX_KINDS];  // at most one of each kind
    bool logged;              // the certificate of the block is in the log of votes
    bool *accused;            // validators against whom evidence was given
    hm_buf block;             // empty: none held
    hm_simplex_block_info info;
    sx_block_state state;
    uint64_t notarized_us; // own vote; 0: none in this run
} sx_view;

typedef struct sx_want {
    bool used;
    uint64_t view;
    hm_hash id; // of a block; zero: the nullification of the view
    uint64_t again_us;
    uint32_t peer; // last asked
} sx_want;

typedef struct sx_action {
    hm_list link;
    hm_simplex_action a;
    hm_buf bytes, cert; // owned
} sx_action;

struct hm_simplex {
    hm_simplex_set set;
    hm_simplex_validator *validators; // owned, keys in arena
    hm_arena arena;
    uint64_t total;
    uint32_t self;
    hm_hash seed;
    hm_simplex_calls calls;
    bool started, dirty;
    uint64_t now_us;

    // views
    hm_map views;       // u64 -> sx_view
    hm_map by_block;    // id -> sx_view that holds the block
    uint64_t low, high; // bounds of the numbers in views
    uint64_t thinned;   // up to there a node far behind has kept its own votes only
    uint64_t view;
    bool work; // somebody waits for a block
    uint64_t entered_us;
    uint64_t propose_by_us, certify_by_us; // then the view is nullified
    uint64_t idle_until_us;                // a leader without work proposes then
    uint64_t resend_us;
    bool building;
    hm_hash build_parent;
    uint64_t build_height;

    // final
    uint64_t tip_height, tip_view;
    hm_hash tip_id;
    uint64_t given_view;     // of the last FINAL that was given
    uint64_t finalized_view; // greatest with a finalization
    uint64_t certified_view; // greatest with any certificate
    uint64_t jump_after_us;  // views were jumped over: when that may be told again

    // timing
    uint64_t delta_us, delta_min_us, delta_max_us, idle_us, hop_us;

    // peers
    uint64_t *peer_height;
    uint64_t *reply_after_us, *block_after_us;
    bool *absent; // the connection to it is lost
    sx_want wants[SX_WANTS_MAX];
    uint64_t target_height; // of a block that is final and cannot be reached from the tip
    bool fetching;
    uint32_t fetch_peer;
    uint64_t fetch_to, fetch_until_us;
    uint64_t fetch_heard_us;             // a block, or the asking
    bool fetch_gave;                     // one block at least
    uint64_t cursor_height, cursor_view; // of the last block that was fetched
    hm_hash cursor_id;
    uint64_t fetched_view; // of the last one fetched that has a finalization

    hm_list actions;
    sx_action *given; // the last one, whose bytes are still borrowed
};

// ---- simplex.c ----------------------------------------------------------------------------------

hm_simplex_action *sx_act(hm_simplex *s, hm_simplex_action_kind kind, hm_bytes bytes,
                          hm_bytes cert);
void sx_send(hm_simplex *s, uint32_t peer, const hm_buf *message);
void sx_event(hm_simplex *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Own signature; stored, made durable and sent. False when it cannot be made.
bool sx_cast(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const hm_hash *id);
uint64_t sx_resend_after(const hm_simplex *s);
// Puts a vote into the log, with what it rests on.
void sx_persist(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const sx_vote *vote);
// A certificate has come to be held.
void sx_on_cert(hm_simplex *s, sx_view *v, hm_simplex_kind kind);
// Does all that the state allows: enters views, votes, asks to build, makes blocks final.
void sx_evaluate(hm_simplex *s);

// ---- simplex_book.c -----------------------------------------------------------------------------

sx_view *sx_find(const hm_simplex *s, uint64_t view);
sx_view *sx_get(hm_simplex *s, uint64_t view); // makes it
void sx_view_free(hm_simplex *s, sx_view *v);
// Forgets what lies behind the last FINAL that was given, and what a node far behind cannot use.
void sx_prune(hm_simplex *s);
// A block is final that more than one answer of blocks lies ahead of the tip. Votes, certificates
// and blocks of the views in between would pile up meanwhile, and come with the blocks anyway.
static inline bool sx_far_behind(const hm_simplex *s)
{
    return s->target_height > s->tip_height + HM_SIMPLEX_FETCH_MAX;
}
// Views up to there need nothing more from others, or only with the blocks.
static inline uint64_t sx_floor(const hm_simplex *s)
{
    return s->thinned > s->tip_view ? s->thinned : s->tip_view;
}
static inline sx_vote *sx_own(const hm_simplex *s, const sx_view *v, int kind)
{
    return &v->votes[kind][s->self];
}
static inline bool sx_has(const sx_vote *v)
{
    return v->sig != NULL;
}
static inline bool sx_certified(const sx_view *v, int kind)
{
    return v->certs[kind].bytes.len > 0;
}
// The block that is certified in the view, or NULL.
const hm_hash *sx_certified_block(const sx_view *v);
// Takes a vote of a validator: HM_E_SIGNATURE. Makes the certificate when a quorum is there.
HM_CHECK hm_err sx_add_vote(hm_simplex *s, sx_view *v, hm_simplex_kind kind, uint32_t signer,
                            const hm_hash *id, hm_bytes sig, bool verified);
// Takes the leader's signature over a block.
HM_CHECK hm_err sx_add_proposal(hm_simplex *s, sx_view *v, const hm_hash *id, hm_bytes sig,
                                bool verified);
// tell: to all others, when it was not held before.
HM_CHECK hm_err sx_add_cert(hm_simplex *s, hm_bytes bytes, bool tell);
// One that this node has checked and logged in an earlier life.
HM_CHECK hm_err sx_restore_cert(hm_simplex *s, hm_bytes bytes);
void sx_try_cert(hm_simplex *s, sx_view *v, hm_simplex_kind kind, const hm_hash *id);
// Keeps a block unless the view has another one that may matter; false then.
bool sx_hold_block(hm_simplex *s, sx_view *v, const hm_simplex_block_info *info, hm_bytes block);
void sx_drop_block(hm_simplex *s, sx_view *v);
static inline sx_view *sx_block(const hm_simplex *s, const hm_hash *id)
{
    return hm_map_get(&s->by_block, id->b);
}

// ---- simplex_msg.c ------------------------------------------------------------------------------

void sx_msg_proposal(const sx_view *v, hm_buf *out);
void sx_msg_vote(const sx_view *v, hm_simplex_kind kind, const sx_vote *vote, hm_buf *out);
void sx_send_cert(hm_simplex *s, uint32_t peer, const sx_cert *c);
// The first view after the tip, up to this node's, that nothing is certified of.
uint64_t sx_first_gap(const hm_simplex *s);
void sx_send_status(hm_simplex *s, uint32_t peer, bool want);
// Own votes of all views that are not final.
void sx_send_votes(hm_simplex *s, uint32_t peer, uint64_t from_view);
// Asks for a block, or for a nullification (id zero), now and again until it is there.
void sx_ask(hm_simplex *s, uint64_t view, const hm_hash *id, uint32_t hint);
uint64_t sx_wants_due(const hm_simplex *s);
bool sx_still_wanted(const hm_simplex *s, const sx_want *w);
// Goes on with what is to be fetched.
void sx_fetch(hm_simplex *s);
uint64_t sx_fetch_due(const hm_simplex *s);

#endif
