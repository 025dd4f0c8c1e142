// hm_node: one running member of the mesh. It ties the consensus core, the ledger, the peers (over
// STOQ) and the content store together on one libuv loop.
//
// Life: hm_node_init() once makes the data directory with the node's keys, certificate requests and
// sealed sector; the authority answers the requests; tc_dir_install() keeps the answers;
// hm_node_join() writes the file from which a genesis is made; hm_node_open() runs the node until
// hm_node_close().
//
// Threads: every call and every callback belongs to the loop's thread. Signing, sealing, puzzles
// and beacons run on libuv's worker threads behind these calls. Callbacks are never made from
// inside the call that asked for them, except where said.
#ifndef HM_MESH_NODE_H
#define HM_MESH_NODE_H

#include <netinet/in.h>
#include <uv.h>

#include "base/base.h"
#include "crypto/crypto.h"
#include "mesh/asset.h"
#include "mesh/node_module.h"

typedef struct hm_node hm_node;

// ---- setting a node up (blocking, no loop) ------------------------------------------------------

typedef struct hm_node_init_args {
    const char *data_dir;
    const char *mesh_host; // IPv6 address that peers reach, as text without brackets
    uint16_t mesh_port;    // UDP
    const char *api_host;  // name or IPv6 address in the edge certificate
    uint16_t api_port;     // TCP, told to others in the genesis
    const char *name;      // a label for people, at most 63 bytes, [a-z0-9-]
    uint32_t sector_log2;  // sector size: 2^n labels of 32 bytes; 0 = default
    void (*progress)(void *ctx, const char *what, uint64_t done, uint64_t total); // may be NULL
    void *ctx;
} hm_node_init_args;

// Makes DIR/node.key, node.csr (FALCON-1024, PEM), edge.key, edge.csr (ECDSA P-256, PEM), the
// sealed sector DIR/sector-0, DIR/api.token and DIR/node.ini. HM_E_EXISTS when the directory holds
// a node; an interrupted init is resumed.
HM_CHECK hm_err hm_node_init(const hm_node_init_args *args);
// The node's part of a genesis as JSON: name, public key, certificates, address, sector and seal.
HM_CHECK hm_err hm_node_join(const char *data_dir, hm_buf *json);

// ---- running ------------------------------------------------------------------------------------

typedef struct hm_node_config {
    const char *data_dir;     // borrowed during open
    const char *genesis_path; // NULL = DIR/genesis.bin; copied to it at first start
    struct sockaddr_in6 mesh_listen;
    uv_loop_t *loop; // borrowed until close is done
    // What a member may upload, and how long it stays, without an asset that refers to it.
    uint64_t upload_bytes; // 0 = no limit
    uint64_t upload_keep_ms;
} hm_node_config;

HM_CHECK hm_err hm_node_open(const hm_node_config *cfg, hm_node **out);
// Closes peers and stores; closed(ctx) is called from the loop once all handles are gone. May be
// called from within any callback.
void hm_node_close(hm_node *n, void (*closed)(void *ctx), void *ctx);

typedef struct hm_node_status {
    hm_node_id id;
    char name[64];
    struct in6_addr overlay_addr;
    hm_hash chain_id;
    uint64_t height;        // final
    hm_hash state_root;     // after that block
    uint64_t view;          // consensus view now
    uint64_t final_time_ms; // wall time at which this node saw the newest block final
    uint64_t block_time_ms; // time in that block's header
    uint64_t epoch;
    uint32_t validators;
    uint32_t quorum;
    uint32_t peers_connected;
    uint32_t pending_ops;     // in the mempool
    bool syncing;             // fetching blocks that others hold final
    bool ready;               // a quorum is connected and the ledger moves
    uint64_t finality_p50_us; // submit-to-final of this node's own operations, last 1024
    uint64_t finality_p99_us;
    uint64_t ops_final; // since start
    uint64_t chunks_stored;
    uint64_t chunk_bytes_stored;
    uint64_t uptime_ms;
} hm_node_status;
void hm_node_get_status(const hm_node *n, hm_node_status *out);

typedef enum hm_peer_state {
    HM_PEER_DOWN, // not connected
    HM_PEER_CONNECTING,
    HM_PEER_UP,      // authenticated, messages flow
    HM_PEER_REFUSED, // last attempt ended in a refusal: see reason
} hm_peer_state;

typedef struct hm_node_peer {
    hm_node_id id;
    char name[64];
    struct sockaddr_in6 addr;
    struct in6_addr overlay_addr;
    hm_peer_state state;
    bool self;
    char reason[128];   // why it is not up, or ""
    uint64_t since_ms;  // wall time since which it is up, or is not
    uint64_t height;    // final height it last told
    hm_hash state_root; // state root at that height
    uint64_t rtt_us;    // smoothed, 0 when unknown
    uint64_t bytes_sent, bytes_received;
    uint64_t power; // voting power
} hm_node_peer;
// All validators of the genesis, self included, in validator order. Returns how many there are;
// fills at most max.
size_t hm_node_get_peers(const hm_node *n, hm_node_peer *out, size_t max);

// DIR/node.crt has another certificate of the node's key: connections from now on show it, those
// that are there go on, and the ledger gets it. HM_E_CONFIG, HM_E_IO.
HM_CHECK hm_err hm_node_cert_renewed(hm_node *n);

// The ledger for queries; never for writing. Borrowed, valid until close.
hm_ledger *hm_node_ledger(hm_node *n);

// ---- operations ---------------------------------------------------------------------------------

typedef struct hm_node_request {
    uint8_t module;   // HM_MODULE_*
    uint8_t kind;     // the module's operation kind
    hm_hash asset;    // the asset; for a registration, see ledger asset.h
    hm_bytes payload; // canonical payload, copied
    bool patient;     // waits for the operation's fate however long that takes
} hm_node_request;

typedef struct hm_node_receipt {
    hm_hash op_id;
    hm_hash asset;
    uint64_t height;
    uint32_t index;       // in the block
    uint64_t finality_us; // from hm_node_submit to final
} hm_node_receipt;

// done is called once: HM_OK with the receipt when the operation is final and durable here; else
// the reason, with detail naming it. HM_E_TIMEOUT, after HM_NODE_SUBMIT_WAIT_MS, means "not known":
// the operation waits on and may become final until its proofs are stale, whereupon it is
// forgotten; asking by its id, which the detail names, tells. HM_E_CLOSED: the node ends.
#define HM_NODE_SUBMIT_WAIT_MS 20000u
typedef void (*hm_node_submit_cb)(void *ctx, hm_err err, const char *detail,
                                  const hm_node_receipt *receipt);

// Adds the four proofs with this node's key, submits, and waits for finality. HM_E_BUSY when too
// many are in flight (HM_NODE_INFLIGHT_MAX): try again after one is done.
#define HM_NODE_INFLIGHT_MAX 4096
HM_CHECK hm_err hm_node_submit(hm_node *n, const hm_node_request *req, hm_node_submit_cb done,
                               void *ctx);
// Answers all who wait with HM_E_CLOSED, now: the node is about to end. The operations wait on.
void hm_node_submits_leave(hm_node *n);

// ---- content ------------------------------------------------------------------------------------

// Storing: bytes go in in order; chunks are stored here and on the nodes that placement names, and
// done says HM_OK once at least three nodes (or all, when fewer) say that every chunk is on their
// disks. Contents that no asset comes to refer to are given up after hm_node_config.upload_keep_ms;
// HM_E_FULL when too much of that kind is here already, or the disk is full.
typedef struct hm_node_put hm_node_put;
typedef void (*hm_node_put_cb)(void *ctx, hm_err err, const char *detail,
                               const hm_commitment *commitment);
HM_CHECK hm_err hm_node_put_begin(hm_node *n, hm_node_put **out);
// Takes all bytes. Returns HM_E_AGAIN, with the bytes taken, when the writer should pause until
// drained(ctx) is called.
HM_CHECK hm_err hm_node_put_write(hm_node_put *p, hm_bytes data, void (*drained)(void *ctx),
                                  void *ctx);
// Ends the content; p is gone once done was called.
void hm_node_put_finish(hm_node_put *p, hm_node_put_cb done, void *ctx);
// Gives up: the reader of the request has gone. No callback follows.
void hm_node_put_abort(hm_node_put *p);

// Reading: chunk by chunk, from here or from a peer, each checked against its address and the
// manifest against the commitment.
typedef struct hm_node_get hm_node_get;
typedef void (*hm_node_get_cb)(void *ctx, hm_err err, const char *detail, hm_bytes chunk,
                               bool last);
// Chunks that are not here are had from members who hold them, who give them if the asset's policy
// lets this node read it. Whether this node's user may is for the caller to see.
HM_CHECK hm_err hm_node_get_begin(hm_node *n, const hm_hash *asset, const hm_commitment *commitment,
                                  hm_node_get **out);
// Asks for the next chunk; the bytes are valid during the callback. One call at a time.
void hm_node_get_next(hm_node_get *g, hm_node_get_cb done, void *ctx);
// The manifest instead of a chunk: the hashes of all chunks, 32 bytes each, checked.
void hm_node_get_manifest(hm_node_get *g, hm_node_get_cb done, void *ctx);
// At any time; a pending callback is not made.
void hm_node_get_close(hm_node_get *g);
// Where a chunk belongs: the first of `order` (validator indices, room for all) keep it; returns
// how many do. And whether it is stored on this node.
uint32_t hm_node_placement(const hm_node *n, const hm_hash *chunk, uint32_t *order);
bool hm_node_holds(const hm_node *n, const hm_hash *chunk);

// Who holds which of some chunks, asked now: every member that is up answers for itself. done is
// called when all have, or after two seconds; the answers are there until close, which may come
// before and from within. HM_E_BUSY beyond HM_NODE_WHERES_MAX at a time.
#define HM_NODE_WHERE_CHUNKS_MAX 1024u
#define HM_NODE_WHERES_MAX 64u
typedef struct hm_node_where hm_node_where;
typedef void (*hm_node_where_cb)(void *ctx);
HM_CHECK hm_err hm_node_where_begin(hm_node *n, const hm_hash *chunks, uint32_t count,
                                    hm_node_where_cb done, void *ctx, hm_node_where **out);
// Members are validator indices.
bool hm_node_where_answered(const hm_node_where *w, uint32_t member);
bool hm_node_where_holds(const hm_node_where *w, uint32_t member, uint32_t chunk);
void hm_node_where_close(hm_node_where *w);

// ---- events -------------------------------------------------------------------------------------

typedef enum hm_node_event_type {
    HM_EVENT_FINAL,     // a block became final: height, hash (block id), count (operations)
    HM_EVENT_PEER_UP,   // peer
    HM_EVENT_PEER_DOWN, // peer, text
    HM_EVENT_REFUSED,   // something from outside was refused: text says what and why
    HM_EVENT_EVIDENCE,  // a validator contradicted itself: peer, text
    HM_EVENT_SYNC,      // catching up began or ended: text
    HM_EVENT_REPAIR,    // content was copied again to keep its copies: text
    HM_EVENT_NULLIFIED, // views passed without a block: count, peer (led the first), text, height
                        // of the block that came after them
    HM_EVENT_TYPES,
} hm_node_event_type;

typedef struct hm_node_event {
    uint64_t seq; // counts up from 1 at start
    uint64_t wall_ms;
    hm_node_event_type type;
    uint64_t height;
    uint32_t count;
    uint64_t finality_us; // HM_EVENT_FINAL: proposal to final as seen here, 0 when unknown (a
                          // block that others made final while this node was away)
    hm_hash hash;
    hm_node_id peer;
    char text[160];
} hm_node_event;

typedef void (*hm_node_event_cb)(void *ctx, const hm_node_event *e);
// The newest events, oldest first; returns how many were written. Of each type some are kept, so
// that the pulse of blocks does not wash away the loss of a node.
#define HM_NODE_EVENTS_FINAL 128u
#define HM_NODE_EVENTS_OTHER 32u
#define HM_NODE_EVENTS_MAX (HM_NODE_EVENTS_FINAL + (HM_EVENT_TYPES - 1) * HM_NODE_EVENTS_OTHER)
size_t hm_node_recent_events(const hm_node *n, hm_node_event *out, size_t max);
HM_CHECK hm_err hm_node_subscribe(hm_node *n, hm_node_event_cb cb, void *ctx, uint64_t *token);
void hm_node_unsubscribe(hm_node *n, uint64_t token);

// ---- counters -----------------------------------------------------------------------------------

// Walks all counters of the node (stable names such as "hm_mesh_refused_total", labels such as
// reason="op_nonce" or ""), for /metrics. Values only grow, except where gauge is true.
typedef void (*hm_node_counter_cb)(void *ctx, const char *name, const char *help,
                                   const char *labels, uint64_t value, bool gauge);
void hm_node_each_counter(const hm_node *n, hm_node_counter_cb cb, void *ctx);

#endif
