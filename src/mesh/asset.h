// Assets: what members contribute and use. Module HM_MODULE_ASSET of the ledger.
//
// An asset has an owner (a node), a name unique among the owner's assets, a kind, a state with
// legal transitions, a policy, an overlay address, perhaps a content, and a history of operations.
//
// Policy and rights. A public asset gives every member READ and USE. A private one gives nothing
// except to its owner and by its grants. READ: nodes hand out the content. USE: take the asset into
// use (available -> allocated, which makes the signer its holder) and, for the holder, move it
// among allocated, in use and available. MANAGE: every other change of state, and the policy. The
// owner has all rights; transfer and retirement are the owner's alone. The record itself (name,
// kind, state, owner) is on the ledger for all members to see.
#ifndef HM_MESH_ASSET_H
#define HM_MESH_ASSET_H

#include "mesh/ledger.h"

#define HM_ASSET_NAME_MAX 255u
#define HM_ASSET_GRANTS_MAX 32u
#define HM_ASSET_CHUNKS_MAX (1u << 26)

// Operation kinds. `asset` of the operation is the asset's id; for a registration it is
// hm_asset_id(chain, owner, nonce).
typedef enum hm_asset_op {
    HM_ASSET_REGISTER = 1,
    HM_ASSET_TRANSFER = 2,
    HM_ASSET_SET_STATE = 3,
    HM_ASSET_RETIRE = 4,
    HM_ASSET_SET_POLICY = 5,
    HM_ASSET_SET_RECORDS = 6, // of a name: name.h
    HM_ASSET_RENEW = 7,       // a name
    HM_ASSET_ZONE_KEY = 8,    // of a member, a system operation: name.h
} hm_asset_op;

typedef enum hm_asset_kind {
    HM_ASSET_CPU = 1,
    HM_ASSET_GPU,
    HM_ASSET_MEMORY,
    HM_ASSET_STORAGE,
    HM_ASSET_NETWORK,
    HM_ASSET_CONTAINER,
    HM_ASSET_SERVICE,
    HM_ASSET_NAME,
    HM_ASSET_DATA,
    HM_ASSET_ECONOMIC,
    HM_ASSET_KIND_MAX = HM_ASSET_ECONOMIC,
} hm_asset_kind;

typedef enum hm_asset_state {
    HM_ASSET_AVAILABLE = 1,
    HM_ASSET_ALLOCATED,
    HM_ASSET_IN_USE,
    HM_ASSET_SUSPENDED,
    HM_ASSET_MAINTENANCE,
    HM_ASSET_FAILED,
    HM_ASSET_RETIRED,
    HM_ASSET_STATE_MAX = HM_ASSET_RETIRED,
} hm_asset_state;

// Words such as "in_use"; NULL / 0 when there is none.
const char *hm_asset_kind_name(uint8_t kind);
const char *hm_asset_state_name(uint8_t state);
uint8_t hm_asset_kind_parse(hm_bytes word);
uint8_t hm_asset_state_parse(hm_bytes word);
bool hm_asset_transition_legal(uint8_t from, uint8_t to);

// What a content is: chunks of chunk_bytes each (the last one shorter), the hash of each being its
// address, under one Merkle root (RFC 9162, leaf data = the hash of the chunk).
typedef struct hm_commitment {
    uint64_t size;
    uint32_t chunk_bytes;
    uint32_t chunk_count; // size / chunk_bytes, rounded up
    hm_hash root;
} hm_commitment;
#define HM_COMMITMENT_BYTES 48u

enum {
    HM_RIGHT_READ = 1,
    HM_RIGHT_USE = 2,
    HM_RIGHT_MANAGE = 4,
    HM_RIGHT_OWN = 8, // never granted
};

typedef struct hm_asset_grant {
    hm_node_id node;
    uint8_t rights; // READ, USE, MANAGE
} hm_asset_grant;

typedef struct hm_asset_policy {
    bool is_public;
    uint32_t grant_count;
    hm_asset_grant grants[HM_ASSET_GRANTS_MAX]; // in rising order of node, each once
} hm_asset_policy;

typedef struct hm_asset {
    hm_hash id;
    uint8_t kind;  // hm_asset_kind
    uint8_t state; // hm_asset_state
    hm_node_id owner;
    hm_node_id registrar; // the first owner
    bool has_holder;      // allocated or in use
    hm_node_id holder;    // who took it
    uint8_t name_len;
    char name[HM_ASSET_NAME_MAX + 1]; // UTF-8 without control characters
    hm_asset_policy policy;
    uint32_t number;  // on its owner's node, from 1; changes with the owner
    uint8_t addr[16]; // fd48:4d00::/32 + 64 bits of the owner's NodeID + number
    bool has_content; // always for data; container and service may
    hm_commitment content;
    uint64_t expires_ms; // of a name, else 0
    uint64_t seq;        // order of registration, mesh-wide: height << 16 | index in the block
    uint64_t created_ms, updated_ms;
    uint64_t updated_height;
    uint32_t revision; // operations so far, from 1
} hm_asset;

// The overlay address of asset `number` on a node; number 0 is the node itself.
void hm_overlay_addr(const hm_node_id *node, uint32_t number, uint8_t addr[16]);
hm_hash hm_asset_id(const hm_hash *chain_id, const hm_node_id *owner, uint64_t nonce);
// The rights of a node on an asset (owner: all of them).
uint8_t hm_asset_rights(const hm_asset *a, const hm_node_id *node);

// ---- payloads: canonical bytes for hm_node_request.payload --------------------------------------

typedef struct hm_asset_register {
    uint8_t kind;
    hm_bytes name;
    hm_asset_policy policy;
    bool has_content;
    hm_commitment content;
    uint32_t life_s;  // of a name: name.h
    hm_bytes records; // of a name: dns/record.h
} hm_asset_register;

// HM_E_OP_PAYLOAD with the reason when the ledger would refuse it (name, kind, content).
HM_CHECK hm_err hm_asset_register_encode(const hm_asset_register *r, hm_buf *payload);
void hm_asset_transfer_encode(const hm_node_id *to, hm_buf *payload);
void hm_asset_set_state_encode(uint8_t state, hm_buf *payload);
HM_CHECK hm_err hm_asset_set_policy_encode(const hm_asset_policy *p, hm_buf *payload);
// A retirement has an empty payload.

HM_CHECK hm_err hm_asset_register_decode(hm_bytes payload, hm_asset_register *out);

// ---- queries on any view ------------------------------------------------------------------------

HM_CHECK hm_err hm_asset_get(const hm_view *v, const hm_hash *id, hm_asset *out);
// By owner and name.
HM_CHECK hm_err hm_asset_find(const hm_view *v, const hm_node_id *owner, hm_bytes name,
                              hm_asset *out);
// The key under which the asset's record stands, for hm_view_prove().
void hm_asset_key(const hm_hash *id, hm_buf *key);
HM_CHECK hm_err hm_asset_count(const hm_view *v, uint64_t *count); // registered so far

typedef struct hm_asset_filter {
    const hm_node_id *owner; // NULL = any
    uint8_t kind;            // 0 = any
    uint8_t state;           // 0 = any
    hm_bytes name;           // exact; len 0 = any
    hm_bytes name_contains;  // A to Z in either case; len 0 = any
    hm_bytes id_begins;      // hexadecimal digits, lower case; len 0 = any
} hm_asset_filter;

// A page in order of registration, newest first: assets with seq < *cursor (UINT64_MAX at first) go
// to each(), at most `limit`. *cursor is where to go on, 0 at the end. At most
// HM_ASSET_LIST_SCAN records are looked at in a call, so a page can be short, even empty, with
// more to come. each may return an error to stop.
#define HM_ASSET_LIST_SCAN 20000u
HM_CHECK hm_err hm_asset_list(const hm_view *v, const hm_asset_filter *filter, uint64_t *cursor,
                              uint32_t limit, hm_err (*each)(void *ctx, const hm_asset *a),
                              void *ctx);

typedef struct hm_asset_event {
    uint64_t height;
    uint32_t index;
    uint64_t time_ms;
    uint8_t kind; // hm_asset_op
    hm_hash op_id;
    hm_node_id by;
    uint8_t state;    // after it
    hm_node_id owner; // after it
} hm_asset_event;

// Oldest first, those after (height, index) = *after ({0, 0} at first), at most limit; *after is
// moved to the last one given.
HM_CHECK hm_err hm_asset_history(const hm_view *v, const hm_hash *id, hm_op_location *after,
                                 uint32_t limit, hm_err (*each)(void *ctx, const hm_asset_event *e),
                                 void *ctx);

#endif
