// Private to node*.c: the parts of a running node and what each asks of the others.
//
//   node.c          life, status, events, counters        node_setup.c    init, certificates, join
//   node_peer.c     STOQ connections and their messages   node_agree.c    Simplex and the ledger
//   node_pool.c     pending and submitted operations      node_duty.c     answers and beacons
//   node_views.c    states after blocks that are not final
//   node_content.c  putting and reading contents          node_where.c    who holds which chunks
//   node_keep.c     what stays, and is copied again
//   node_msg.c      the bytes of messages between nodes
#ifndef HM_MESH_NODE_INTERNAL_H
#define HM_MESH_NODE_INTERNAL_H

#include <hypermesh/stoq.h>

#include "mesh/node.h"
#include "mesh/node_msg.h"
#include "mesh/proof_module.h"
#include "trustchain/trustchain.h"

#define NODE_LATENCIES 1024u
#define NODE_SUBSCRIBERS 64u

// ---- budgets ------------------------------------------------------------------------------------

// For what others may cause: so many at once, and so many a second after that.
#define NODE_BUDGET_AT_ONCE 256u
#define NODE_BUDGET_A_SECOND 32u

typedef struct node_budget {
    uint64_t spent_until_us; // when all that was spent will have come in again
} node_budget;

static inline bool node_budget_left(const node_budget *b, uint64_t now_us)
{
    return b->spent_until_us < now_us + NODE_BUDGET_AT_ONCE * 1000000ull / NODE_BUDGET_A_SECOND;
}
static inline void node_budget_spend(node_budget *b, uint64_t now_us)
{
    if (b->spent_until_us < now_us)
        b->spent_until_us = now_us;
    b->spent_until_us += 1000000u / NODE_BUDGET_A_SECOND;
}

// ---- peers --------------------------------------------------------------------------------------

typedef struct node_out {
    hm_buf bytes; // queued, from `sent` on not yet taken by the stream
    size_t sent;
} node_out;

typedef struct node_peer {
    struct hm_node *node;
    uint32_t index;
    hm_node_id id;
    struct sockaddr_in6 addr;
    hm_peer_state state;
    char reason[128];
    uint64_t since_ms;
    stoq_conn *conn; // up or connecting
    stoq_stream *lanes[LANES];
    node_out out[LANES];
    hm_buf in[LANES];         // bytes of a message that is not whole yet
    node_budget patience_ops; // for its operations that are refused
    node_budget patience;     // for all else of it that is
    const char *give_up;      // why the connection is ended at the next tick, or NULL
    uint64_t retry_at_us;
    uint64_t retry_wait_us; // for who cannot be reached
    uint64_t flap_wait_us;  // for who falls as soon as it is up, or is refused
    uint64_t up_us;         // since when it is up
    hm_hash on_word;        // certificate that the mesh root alone speaks for: see check_peer()
    bool trial;             // its connection began with that, and has to prove itself
    bool told;              // since it is up it told its height
    uint64_t height;        // what it last told
    hm_hash state_root;
    uint64_t bytes_sent, bytes_received; // of earlier connections
    uint64_t content_last_until_us;      // so long it is asked for contents after all others
    // Repair: which chunk was last offered to it, and whether an offer is out.
    hm_hash offered;
    hm_hash probe; // of the lot that is offered; zero: none
    bool offering, offer_manifests, offer_waits;
    uint64_t offer_at_us; // when all is offered again
} node_peer;

// ---- operations ---------------------------------------------------------------------------------

// Our own operation on its way to finality; the request is kept so that it can be signed again.
typedef struct node_submit {
    hm_list link; // in node.submits
    struct hm_node *node;
    uv_work_t work;
    uint8_t module, kind;
    hm_hash asset;
    hm_buf payload;
    uint64_t nonce;
    hm_op_inputs in;
    hm_buf encoding;
    hm_hash id;
    hm_err err;
    char detail[160];
    uint64_t began_us;
    unsigned tries;
    bool working; // on a worker thread
    bool patient; // never told that it takes too long
    hm_node_submit_cb done;
    void *ctx;
} node_submit;

// The pool knows an operation by what its owner signed: anybody can put another puzzle's answer on
// it, which gives it another id and the same effect.
typedef struct node_pending {
    hm_list link; // in its owner's list, in order of arrival
    hm_hash signed_hash;
    uint32_t owner;
    hm_buf bytes;
    bool suspect;        // a build left it out: check it again after the next block
    node_submit *submit; // ours, or NULL
} node_pending;

// One of a member that has blocks which this node has not: it may be good after those.
typedef struct node_early {
    hm_list link;    // in its owner's list
    uint64_t height; // what its owner has told
    hm_buf bytes;
} node_early;
#define NODE_EARLY_MAX 64u // of a member

typedef struct node_owner {
    hm_list pending;
    size_t count, bytes;
    hm_list early;
    uint32_t early_count;
} node_owner;
#define NODE_NONCES_KEPT 4096u

// ---- agreement ----------------------------------------------------------------------------------

typedef struct node_view {
    hm_hash id;
    hm_view *view;
    size_t bytes;
} node_view;
#define NODE_VIEWS_MAX 512u
#define NODE_VIEWS_BYTES (64u << 20)

typedef struct node_views {
    node_view at[NODE_VIEWS_MAX];
    size_t count;
    size_t bytes, bytes_max;
} node_views;

typedef enum node_count {
    COUNT_REFUSED_PEER,
    COUNT_REFUSED_MESSAGE,
    COUNT_REFUSED_OP,
    COUNT_REFUSED_BLOCK,
    COUNT_REFUSED_VOTE,
    COUNT_BLOCKS_FINAL,
    COUNT_OPS_FINAL,
    COUNT_BLOCKS_PROPOSED,
    COUNT_CHUNKS_SENT,
    COUNT_CHUNKS_RECEIVED,
    COUNT_CHUNKS_REPAIRED,
    COUNT_CLAIMS_TRUE,
    COUNT_CLAIMS_FALSE,
    COUNTS,
} node_count;

struct hm_node {
    uv_loop_t *loop;
    char dir[4000];
    int lock_fd; // of the directory, -1: not held
    hm_key *key;
    hm_node_id id;
    uint32_t self; // validator index
    hm_ledger *ledger;
    const hm_genesis *genesis;
    uint32_t count; // validators
    hm_node_id *ids;
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
    unsigned handles; // open handles
    unsigned works;   // jobs on worker threads

    // peers
    stoq_endpoint *endpoint;
    SSL_CTX *tls[2]; // client, server
    uv_poll_t poll;
    uv_timer_t net_timer, tick;
    uv_prepare_t prepare;
    uv_check_t check;
    bool net_dirty, readable;
    node_peer *peers; // count; the one of self is never up

    // operations
    hm_map pending_by_signed; // hash of what is signed -> node_pending
    node_owner *owners;       // count
    hm_list submits;
    hm_list submits_new; // to begin when the loop next turns
    size_t pending_count, pending_bytes, submit_count;
    uint64_t next_nonce;
    uint64_t nonces_back[NODE_NONCES_KEPT]; // given out, and not used by what they were given to
    size_t nonces_back_count;
    hm_buf gossip; // encodings of new operations of ours, as a list without its count
    uint32_t gossip_count;

    // agreement
    hm_simplex *simplex;
    hm_simplex_validator *validators;
    hm_simplex_set set;
    hm_wal *wal;
    node_views views;
    bool syncing, stalled;
    uint64_t sync_to;         // the greatest height that this node knew to have missed
    uint64_t quorum_since_ms; // wall time since which a quorum is connected; 0 = it is not
    uint64_t final_wall_ms, final_mono_us;
    uint64_t fetch_to; // last height asked for

    // duties
    hm_space_sector *sector;
    bool answering, proving;
    bool cert_recorded, cert_bringing;   // this node's certificate, on the ledger
    uint64_t answer_epoch, beacon_index; // last begun
    uint64_t beacon_due, beacon_due_us;  // the one that is due, and since when here
    hm_time_progress *proving_job;

    // content
    hm_content *content;
    hm_list puts, gets, wheres;
    hm_list unsynced, stored_acks; // asks whose copy here is not durable yet, answers that wait
    hm_list sync_asks, sync_acks;  // for it; and those that the running sync is for
    uv_work_t content_work;
    bool content_syncing;
    uint64_t content_followed; // hm_asset.seq of the newest that the store was told of
    uint64_t upload_keep_ms, collect_at_us;
    hm_node_get *wanted_get; // of the manifest of wanted_after, or NULL
    hm_hash wanted_after;
    uint64_t wanted_at_us;
    uint64_t next_request;
    hm_map requests; // u64 -> node_request

    // what happened
    uint64_t started_ms;
    hm_node_event finals[HM_NODE_EVENTS_FINAL], others[HM_EVENT_TYPES][HM_NODE_EVENTS_OTHER];
    uint64_t event_seq, event_counts[HM_EVENT_TYPES];
    struct {
        hm_node_event_cb cb;
        void *ctx;
        uint64_t token;
    } subscribers[NODE_SUBSCRIBERS];
    uint64_t next_token;
    uint64_t latencies[NODE_LATENCIES];
    uint64_t latency_count;
    uint64_t counts[COUNTS];
    node_budget refusals[COUNTS]; // that are told, of each kind
    uint64_t refusals_untold[COUNTS];
};

static inline uint64_t node_now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}
static inline uint64_t node_wall_ms(void)
{
    return hm_clock_wall_ms(&hm_clock_system);
}

// node.c
void node_event(hm_node *n, hm_node_event_type type, const hm_node_event *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
// Counts a refusal of something from outside; logs and shows it, unless there are too many.
void node_refused(hm_node *n, node_count what, const hm_node_id *peer, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

// node_peer.c
HM_CHECK hm_err peers_open(hm_node *n, const struct sockaddr_in6 *listen);
void peers_begin_close(hm_node *n);
void peers_free(hm_node *n);
void peers_tick(hm_node *n, uint64_t now_us);
// Shows DIR/node.crt as it is now, from the next handshake on.
HM_CHECK hm_err peers_cert_renewed(hm_node *n);
// Closes connections whose certificate the newest revocation list names.
void peers_recheck(hm_node *n);
bool peer_is_up(const hm_node *n, uint32_t index);
// How many are up, and whether they and this node are a quorum.
uint32_t peers_connected(const hm_node *n, bool *quorum);
// Queues a message; false when the peer is not up, too much waits for it already, or memory ends.
// Calls nothing of the other parts: who sends may be in the middle of anything.
bool peer_send(hm_node *n, uint32_t index, node_lane lane, const node_message *m);
void peers_send_all(hm_node *n, node_lane lane, const node_message *m);
void peer_status(hm_node *n, uint32_t index);
void peer_annoys(hm_node *n, uint32_t index); // something of it was refused, not an operation
// Bytes that wait on a lane.
size_t peer_backlog(const hm_node *n, uint32_t index, node_lane lane);

// node_pool.c
HM_CHECK hm_err pool_open(hm_node *n);
void pool_close(hm_node *n, hm_err why);
void pool_free(hm_node *n);
void pool_tick(hm_node *n, uint64_t now_us);
void pool_message(hm_node *n, uint32_t from, node_message *m);
void pool_peer_up(hm_node *n, uint32_t index);
void pool_flush(hm_node *n); // sends gathered operations
// After a commit: takes out what the block held, answers, checks suspects again.
void pool_committed(hm_node *n, const hm_block *block);
// Up to max candidates, one of each owner in turn, those of an owner in order of arrival; marks
// nothing.
size_t pool_candidates(hm_node *n, hm_bytes *out, node_pending **entries, size_t max);
// As hm_node_submit(), without the limit, for the node's own system operations.
HM_CHECK hm_err pool_submit(hm_node *n, uint8_t module, uint8_t kind, hm_bytes payload,
                            hm_node_submit_cb done, void *ctx);

// node_agree.c
HM_CHECK hm_err agree_open(hm_node *n);
void agree_close(hm_node *n);
void agree_message(hm_node *n, uint32_t from, const node_message *m);
void agree_blocks_get(hm_node *n, uint32_t from, const node_message *m);
void agree_block(hm_node *n, uint32_t from, const node_message *m);
void agree_peer_up(hm_node *n, uint32_t index);
void agree_peer_down(hm_node *n, uint32_t index);
void agree_nudge(hm_node *n);
void agree_run(hm_node *n, uint64_t now_us); // timers, then actions
uint64_t agree_next_us(const hm_node *n);

// node_views.c
hm_view *views_find(hm_node *n, const hm_hash *id); // borrowed; NULL
// Takes over the reference. Unless there is no room even so, it is there until its height is final,
// or more come than there is room for.
void views_keep(hm_node *n, hm_view *v);
void views_prune(hm_node *n); // those that are not above the newest final block
void views_free(hm_node *n);

// node_duty.c
HM_CHECK hm_err duty_open(hm_node *n);
void duty_close(hm_node *n);
void duty_committed(hm_node *n);
void duty_cancel(hm_node *n); // ends what runs on worker threads soon

// node_content.c
HM_CHECK hm_err content_open(hm_node *n, uint64_t upload_bytes);
void content_close(hm_node *n);
void content_message(hm_node *n, uint32_t from, const node_message *m);
void content_peer_down(hm_node *n, uint32_t index);
void content_flush(hm_node *n); // makes what was stored durable and answers for it
void content_tick(hm_node *n, uint64_t now_us);
uint32_t content_copies(const hm_node *n); // how many members hold a chunk
// Into and out of the store on this node.
HM_CHECK hm_err content_put(hm_node *n, uint32_t from, bool manifest, const hm_hash *hash,
                            hm_bytes bytes);
HM_CHECK hm_err content_get(hm_node *n, bool manifest, const hm_hash *hash, hm_buf *out);
// Asks one member for a chunk that it claims to have.
void content_probe(hm_node *n, uint32_t peer, const hm_hash *chunk);

// node_keep.c
void keep_send(hm_node *n, uint32_t to, bool manifest, const hm_hash *hash);
void keep_peer_up(hm_node *n, uint32_t index);
void keep_drained(hm_node *n, uint32_t index); // the bulk lane has room again
void keep_committed(hm_node *n);
// Is a member one of those that keep a chunk? All keep all manifests.
bool keep_should_hold(const hm_node *n, uint32_t index, bool manifest, const hm_hash *hash);
void keep_tick(hm_node *n, uint64_t now_us);
void keep_have_get(hm_node *n, uint32_t from, const node_message *m);
void keep_have(hm_node *n, uint32_t from, const node_message *m);

// node_where.c
void where_get(hm_node *n, uint32_t from, const node_message *m);
void where_answer(hm_node *n, uint32_t from, const node_message *m);
void where_peer_down(hm_node *n, uint32_t index);
void where_tick(hm_node *n, uint64_t now_us);

#endif
