// Private to sim*.c.
#ifndef SIM_INTERNAL_H
#define SIM_INTERNAL_H

#include <stdlib.h>

#include "mesh/simplex_internal.h" // the invariants look into the core
#include "sim.h"

#define SIM_BLOCKS_MAX 64u // in one answer
#define SIM_POOL_MAX 128u  // operations that wait at a node
#define SIM_RECENT 64u     // messages that a liar may send again
#define SIM_SEEN_VIEWS 256u
#define SIM_EVIDENCE_US 1000000u

// The first byte of the core's messages, written here anew: what checks the core does not use its
// readers.
enum { MSG_PROPOSAL = 1, MSG_VOTE, MSG_CERT, MSG_STATUS, MSG_GET };

// ---- bytes that several events share ------------------------------------------------------------

typedef struct sim_blob {
    uint32_t refs;
    size_t len;
    uint8_t b[];
} sim_blob;

sim_blob *sim_blob_new(hm_bytes bytes);
sim_blob *sim_blob_ref(sim_blob *b);
void sim_blob_unref(sim_blob *b); // NULL is fine
static inline hm_bytes sim_blob_bytes(const sim_blob *b)
{
    return hm_bytes_of(b->b, b->len);
}

// ---- events -------------------------------------------------------------------------------------

typedef enum sim_what {
    SIM_MESSAGE = 1, // of the consensus, to a node
    SIM_OPS,         // an operation
    SIM_BLOCKS_GET,
    SIM_BLOCKS,
    SIM_WAKE,      // a node's timer, or the end of its batch
    SIM_BUILD,     // a late answer to BUILD
    SIM_VALIDATED, // a late answer to VALIDATE
    SIM_PEER_UP,
    SIM_PEER_DOWN, // also by mistake; then up again soon
    SIM_RESTART,
    SIM_WEATHER,
    SIM_FAULT,
    SIM_CLIENT,
    SIM_EVIDENCE_DUE,
    SIM_LIE, // a liar's own idea
    SIM_WHATS,
} sim_what;

typedef struct sim_event {
    hm_heap_node heap;
    sim_what what;
    uint32_t node, from; // node number; validator number
    uint32_t life;       // of the node when it was made; events of an earlier life are void
    bool honest;         // as an honest validator sent it
    bool ok;
    uint64_t a;
    hm_hash id;
    sim_blob *blob; // may be NULL
} sim_event;

// ---- trace --------------------------------------------------------------------------------------

typedef struct sim_line {
    uint64_t step, time_us;
    char what[16];
    uint32_t node, other;
    uint64_t a, b;
    uint32_t id;
} sim_line;

// ---- ledgers ------------------------------------------------------------------------------------

typedef struct sim_tip {
    uint64_t height, view;
    hm_hash id;
} sim_tip;

typedef struct sim_node sim_node;

// A node's ledger, of two kinds. What is committed survives close().
typedef struct sim_ledger_ops {
    void (*setup)(sim *s); // once a run: validators' ids and keys, chain id
    void (*cleanup)(sim *s);
    void (*open)(sim *s, sim_node *nd);
    void (*close)(sim *s, sim_node *nd);
    void (*free)(sim *s, sim_node *nd);
    sim_tip (*tip)(const sim_node *nd);
    hm_err (*block_info)(void *ctx, hm_bytes block, hm_simplex_block_info *out);
    // HM_E_NOTFOUND: the parent was not executed here.
    hm_err (*build)(sim *s, sim_node *nd, const hm_hash *parent, uint64_t view, hm_buf *out);
    hm_err (*execute)(sim *s, sim_node *nd, const hm_hash *id, const hm_hash *parent,
                      hm_bytes block);
    // Executes it if need be. Gives the state's hash.
    hm_err (*commit)(sim *s, sim_node *nd, const hm_hash *id, const hm_hash *parent, hm_bytes block,
                     hm_bytes cert, hm_hash *state);
    bool (*block_at)(const sim_node *nd, uint64_t height, hm_bytes *block, hm_bytes *cert);
    // Changes what a block's header says, so that it is another block: tamper() anything but view
    // and proposer, spoil() the state alone.
    void (*tamper)(sim *s, hm_buf *block);
    void (*spoil)(sim *s, hm_buf *block);
    // The next operation of a client, as it comes to a node that is up; false when there is none.
    bool (*client)(sim *s, sim_node *nd, hm_buf *out);
    // May an operation still come into a block?
    bool (*op_alive)(const sim_node *nd, hm_bytes op);
    // Below, NULL for a ledger that has none of it. An operation that brings evidence to a block:
    bool (*evidence)(sim *s, sim_node *nd, hm_bytes bytes, hm_buf *out);
    // Has it cost the offender its stake, in a final block?
    bool (*slashed)(const sim_node *nd, uint32_t offender);
    void (*verify)(sim *s, sim_node *nd); // the whole chain, at the end
} sim_ledger_ops;

extern const sim_ledger_ops sim_light, sim_lmdb;

// ---- nodes --------------------------------------------------------------------------------------

// What an honest node has seen of one liar in one view.
typedef struct sim_seen {
    uint64_t view;
    bool has[5]; // by hm_simplex_kind
    hm_hash id[5];
    bool guilty, accused;
} sim_seen;

struct sim_node {
    uint32_t number, index; // of the node; of its validator
    uint32_t byz;
    bool up;
    uint32_t life;
    hm_simplex *core; // NULL when down
    // clock: local = base + (now - since) * rate / 10^6
    uint64_t clock_base, clock_since;
    uint32_t clock_ppm;
    uint64_t paused_until;
    sim_event wake;  // in the heap, not owned by it
    bool acting;     // actions wait until the wake
    bool far_behind; // after the last event
    uint64_t timer_spin_at;
    // disk
    char wal_path[160];
    hm_wal *wal;
    bool disk_fails;   // the next sync fails
    uint32_t crash_in; // actions from now; 0 = no crash planned
    uint64_t wal_limit;
    uint64_t given_before; // final view that was given when the last input came
    uint64_t restored;     // greatest view of the votes that the log gave back
    // ledger
    void *ledger;
    sim_blob *pool[SIM_POOL_MAX];
    uint32_t pool_count;
    sim_tip told;     // newest that was reported final, over all lives
    hm_map validated; // ids that this life validated or built
    hm_map asked;     // ids that this life was asked to validate
    // what it has seen, this life
    sim_seen *seen; // [validators][SIM_SEEN_VIEWS]
    bool sides;     // of a twin
};

// What an honest validator has signed in a view, over all its lives.
typedef struct sim_signed_view {
    bool has[5];
    hm_hash id[5];
    bool durable[5];
    hm_hash durable_id[5];
} sim_signed_view;

// A block that an honest validator proposed or voted for.
typedef struct sim_block {
    hm_hash parent;
    uint64_t view, height;
} sim_block;

typedef struct sim_link {
    bool cut;
    uint32_t loss_ppm, dup_ppm, spike_ppm;
    uint64_t delay_us, jitter_us;
} sim_link;

typedef struct sim_final {
    hm_hash id, state;
} sim_final;

struct sim {
    sim_params p;
    hm_prng rng;
    uint64_t now, step;
    hm_heap heap;
    bool chaos; // before the healing
    bool failed;
    sim_report r;

    hm_hash seed; // of the leaders
    hm_simplex_set set;
    hm_simplex_validator validators[SIM_VALIDATORS_MAX];
    uint64_t total;
    uint64_t secret[SIM_VALIDATORS_MAX][2]; // of the cheap signatures
    const hm_key *keys[SIM_VALIDATORS_MAX];

    const sim_ledger_ops *ledger;
    void *ledger_world;
    char dir[128]; // for files; made on demand, removed at the end
    sim_node nodes[SIM_NODES_MAX];
    uint32_t node_count;

    // network; by validator
    sim_link links[SIM_VALIDATORS_MAX][SIM_VALIDATORS_MAX];
    bool hold;     // what a cut keeps back comes later
    uint32_t side; // of each validator, a bit, as those with twins see it
    sim_blob *recent[SIM_RECENT];
    uint32_t recent_at;

    // what is known to be final, and signed
    uint32_t accused;  // a bit each, by a node since the healing
    sim_final *finals; // [height - 1]
    size_t final_count, final_cap;
    sim_signed_view *signed_views[SIM_VALIDATORS_MAX]; // [view]
    size_t signed_cap[SIM_VALIDATORS_MAX];
    hm_map blocks; // id -> sim_block, owned

    sim_line lines[SIM_TRACE_LINES];
};

// ---- sim.c --------------------------------------------------------------------------------------

// The newest world that is not freed, for the last words of a program that dies; or NULL.
const sim *sim_current(void);
void sim_fail(sim *s, const char *invariant, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void sim_note(sim *s, const char *what, uint32_t node, uint32_t other, uint64_t a, uint64_t b,
              const hm_hash *id);
sim_event *sim_at(sim *s, uint64_t time_us, sim_what what, uint32_t node);
void sim_must(hm_err err, const char *what); // of the simulator itself
// Uniform in [lo, hi].
uint64_t sim_between(sim *s, uint64_t lo, uint64_t hi);
bool sim_chance(sim *s, uint32_t ppm);
// Mean `mean`, at most eight times that.
uint64_t sim_around(sim *s, uint64_t mean);
const char *sim_dir(sim *s);
static inline bool sim_honest(const sim *s, uint32_t validator)
{
    return s->p.byz[validator] == 0;
}

// ---- sim_node.c ---------------------------------------------------------------------------------

void sim_node_init(sim *s, uint32_t number, uint32_t index);
void sim_node_free(sim *s, sim_node *nd);
void sim_node_start(sim *s, sim_node *nd);
// A new operation of this node: to its own pool, and as gossip to the others.
void sim_node_submit(sim *s, sim_node *nd, hm_bytes op);
// restart_us after now it starts again; SIM_NEVER: it does not.
void sim_node_crash(sim *s, sim_node *nd, uint64_t restart_us);
void sim_node_event(sim *s, sim_node *nd, sim_event *e);
uint64_t sim_node_clock(const sim *s, const sim_node *nd);
// After an input: acts now or at the end of the batch.
void sim_node_settle(sim *s, sim_node *nd);
void sim_node_schedule(sim *s, sim_node *nd);

// ---- sim_net.c ----------------------------------------------------------------------------------

void sim_net_calm(sim *s);
void sim_net_weather(sim *s);
// To a validator: to all or some of its nodes.
void sim_net_send(sim *s, const sim_node *from, uint32_t to, sim_what what, sim_blob *blob,
                  bool honest);

// ---- sim_disk.c ---------------------------------------------------------------------------------

// Randomness of OpenSSL and of hash tables follows the seed from here on.
void sim_os_seed(uint64_t seed);
// Syncs so far, and whether the next one fails.
uint64_t sim_os_syncs(void);
void sim_os_fail_sync(bool fail);
// What a crash leaves of a file whose first `synced` bytes are durable.
void sim_disk_tear(sim *s, const char *path, uint64_t synced);
void sim_disk_remove(const char *dir);

// ---- sim_check.c --------------------------------------------------------------------------------

void sim_check_sent(sim *s, sim_node *nd, hm_bytes message);
void sim_check_durable(sim *s, sim_node *nd, hm_bytes record);
void sim_check_free(sim *s);
void sim_check_final(sim *s, sim_node *nd, const hm_simplex_action *a, const hm_hash *state);
void sim_check_evidence(sim *s, sim_node *nd, const hm_simplex_action *a);
// After a message was given to the core of an honest node.
void sim_check_delivered(sim *s, sim_node *nd, const sim_event *e, hm_err err);
void sim_check_evidence_due(sim *s, sim_node *nd, const sim_event *e);
void sim_check_core(sim *s, sim_node *nd);
void sim_check_started(sim *s, sim_node *nd);

void sim_print_cores(const sim *s, FILE *out);

// ---- sim_byz.c ----------------------------------------------------------------------------------

void sim_byz_send(sim *s, sim_node *nd, uint32_t to, hm_bytes message);
void sim_byz_blocks(sim *s, sim_node *nd, uint32_t to, uint64_t from_height, uint64_t to_height);
void sim_byz_lie(sim *s, sim_node *nd);
// Changes a block that this node proposes.
void sim_byz_block(sim *s, sim_node *nd, hm_buf *block);

#endif
