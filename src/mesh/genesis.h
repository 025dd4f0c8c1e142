// The genesis: what all members agree on before the first block. Its canonical bytes are the file
// genesis.bin; the chain id is their SHA-256. A JSON view of the same is for people.
#ifndef HM_MESH_GENESIS_H
#define HM_MESH_GENESIS_H

#include "base/base.h"
#include "crypto/crypto.h"
#include "mesh/proof_space.h"

#define HM_GENESIS_VERSION 1
#define HM_GENESIS_BYTES_MAX (64u << 20)
#define HM_GENESIS_VALIDATORS_MAX 100u
#define HM_CERT_DER_MAX 16384u
#define HM_NODE_NAME_MAX 63u

// The rules of the mesh, fixed for its life.
typedef struct hm_genesis_params {
    uint32_t epoch_blocks;    // blocks an epoch; borders of space answers and validator changes
    uint32_t beacon_blocks;   // from a beacon to the anchor of the next
    uint16_t time_bits;       // discriminant of the delay function
    uint64_t time_iterations; // its squarings
    uint32_t time_max_age;    // an operation names one of the newest this many beacons
    uint32_t target_ops;      // operations a block at which the puzzle stands still
    uint64_t min_stake;       // bonded stake that an operation's owner needs
    uint32_t chunk_bytes;     // of data assets
    uint8_t replicas;         // nodes that keep a chunk, or all when fewer
    hm_space_params space;    // of every sector
} hm_genesis_params;

// A member at the start, and the content of the join file it made.
typedef struct hm_genesis_validator {
    char name[HM_NODE_NAME_MAX + 1]; // for people: [a-z0-9-]
    hm_bytes public_key;             // FALCON-1024, raw; the NodeID follows from it
    hm_bytes cert;                   // DER of the node certificate, issued under the mesh root
    uint64_t stake;                  // bonded; voting power is stake
    uint8_t host[16];                // IPv6 address of the mesh endpoint
    uint16_t port;                   // UDP
    char api[256];                   // URL of its HTTPS API, or ""
    uint32_t sector;                 // number of its sealed sector
    hm_space_commitment commitment;
    hm_bytes *seal_parts; // the seal proof, in order
    uint32_t seal_count;  // hm_space_seal_parts() of the params
} hm_genesis_validator;

typedef struct hm_genesis {
    char name[HM_NODE_NAME_MAX + 1]; // of the mesh
    uint64_t time_ms;                // earlier than any block
    hm_bytes root_cert;              // DER of the mesh root
    hm_bytes issuing_cert;           // DER of the mesh's issuing CA; it signs revocation lists
    hm_genesis_params params;
    uint32_t count;
    hm_genesis_validator *validators; // in this order they are numbered, from 0
    hm_hash chain_id;                 // filled by decoding; not encoded
    hm_arena arena;                   // owns what the pointers above point to
} hm_genesis;

// Parameters of a small mesh on one machine.
hm_genesis_params hm_genesis_params_default(void);
HM_CHECK hm_err hm_genesis_params_check(const hm_genesis_params *p);

// Appends the canonical bytes and gives the chain id. HM_E_RANGE names what is out of its limits,
// such as two validators with one key.
HM_CHECK hm_err hm_genesis_encode(const hm_genesis *g, hm_buf *out, hm_hash *chain_id);
// Takes a copy of everything; zero-initialise, free with hm_genesis_free().
HM_CHECK hm_err hm_genesis_decode(hm_bytes bytes, hm_genesis *out);
void hm_genesis_free(hm_genesis *g);
// NodeID of a validator.
HM_CHECK hm_err hm_genesis_node_id(const hm_genesis_validator *v, hm_node_id *out);

// A member's join file: the JSON of one validator entry ("seal" holds the parts), and back. Byte
// strings are base64. HM_E_PARSE names the field.
HM_CHECK hm_err hm_join_to_json(const hm_genesis_validator *v, hm_buf *json);
HM_CHECK hm_err hm_join_from_json(hm_bytes json, hm_arena *arena, hm_genesis_validator *out);
// The whole genesis as JSON, for people; the seal proofs are given by their hash only.
HM_CHECK hm_err hm_genesis_to_json(const hm_genesis *g, hm_buf *json);

#endif
