// Operations: what a member asks of the ledger, as canonical bytes with the proofs on them.
//
// An operation is a body and up to four proofs, in this order on the wire, so that each proof
// covers all that stands before it:
//
//   body   version, chain id, module, kind, owner, asset, nonce, payload
//   space  WHERE: the owner's sector, the epoch and hash of its accepted answer, its address
//   time   WHEN: the index and value of a recent beacon
//   stake  WHO: the hash of the owner's certificate and its FALCON-1024 signature over
//          body + space + time + that hash
//   work   HOW: the nonce of a puzzle over everything before it
//
// The id of an operation is SHA-256 of the whole encoding. Each proof is optional on the wire, so
// that a missing one is a thing that can be said and refused by name. An operation on an asset
// needs all four; a system operation (space answers, beacons, evidence, certificates) needs stake
// and work and carries neither space nor time.
//
// Nonces: an owner numbers its operations from 1. Every number is good once. They may arrive out
// of order within a window: with H the highest number used, n is accepted when it was not used and
// H - HM_OP_NONCE_WINDOW < n <= H + HM_OP_NONCE_WINDOW. So an owner can have a window of operations
// in flight, and one that is never sent blocks nothing.
#ifndef HM_MESH_OP_H
#define HM_MESH_OP_H

#include "base/base.h"
#include "crypto/crypto.h"

#define HM_OP_VERSION 1
#define HM_OP_PAYLOAD_MAX 65536u
#define HM_OP_BYTES_MAX (HM_OP_PAYLOAD_MAX + 2048u) // body, proofs and signature around a payload
#define HM_OP_NONCE_WINDOW 4096u
#define HM_OP_SIGN_DOMAIN "hypermesh/op/1"

typedef enum hm_module_id {
    HM_MODULE_NODE = 1,  // node_module.h
    HM_MODULE_PROOF = 2, // proof_module.h
    HM_MODULE_ASSET = 3, // asset.h
    HM_MODULE_TRUST = 4, // trust_module.h
    HM_MODULE_MAX = 15,  // numbers up to here are reserved for modules
} hm_module_id;

typedef struct hm_op_space {
    uint32_t sector;
    uint64_t epoch;   // of the answer; 0 = the seal proof
    hm_hash answer;   // hash of the accepted answer (see proof_module.h)
    uint8_t addr[16]; // the owner's overlay address
} hm_op_space;

typedef struct hm_op_time {
    uint64_t index; // of the beacon
    hm_hash value;  // its value
} hm_op_time;

typedef struct hm_op {
    hm_hash chain_id;
    uint8_t module; // hm_module_id
    uint8_t kind;   // of the module
    hm_node_id owner;
    hm_hash asset; // zero for system operations
    uint64_t nonce;
    hm_bytes payload; // borrowed

    bool has_space, has_time, has_stake, has_work;
    hm_op_space space;
    hm_op_time time;
    hm_hash stake_cert;       // SHA-256 of the owner's certificate DER
    hm_bytes stake_signature; // borrowed
    uint64_t work_nonce;
} hm_op;

// What the checks need besides the fields; all are functions of the encoding. Filled by decoding.
typedef struct hm_op_digests {
    hm_bytes signed_bytes; // what the signature covers; borrowed from the encoding
    hm_hash work;          // digest of the puzzle: SHA-256 of everything before the work proof
    hm_hash id;
} hm_op_digests;

// Appends the encoding. The op is within its limits (asserted).
void hm_op_encode(hm_buf *out, const hm_op *op);
// Reads one whole operation; its byte strings point into bytes. digests may be NULL.
// HM_E_TRUNCATED, HM_E_TRAILING, HM_E_NONCANONICAL, HM_E_LIMIT, HM_E_UNSUPPORTED (version).
HM_CHECK hm_err hm_op_decode(hm_bytes bytes, hm_op *op, hm_op_digests *digests);
// SHA-256 of a whole encoding.
hm_hash hm_op_id(hm_bytes encoding);

// Does the signature verify under the owner's raw public key? Pure, any thread, about 0.1 ms: this
// is the dear part of a check. HM_E_PROOF_STAKE.
HM_CHECK hm_err hm_op_verify_signature(const hm_op *op, const hm_op_digests *digests,
                                       hm_bytes public_key);

// What finishing an operation needs; hm_ledger_op_inputs() in ledger.h fills all but the keys.
typedef struct hm_op_inputs {
    bool full; // an operation on an asset: space and time are put in
    hm_op_space space;
    hm_op_time time;
    uint64_t difficulty;        // of the puzzle
    hm_hash cert;               // SHA-256 of the certificate DER
    const hm_key *key;          // the owner's, borrowed
    const _Atomic bool *cancel; // ends the search of the puzzle with HM_E_CLOSED; may be NULL
} hm_op_inputs;

// Puts the proofs on a body (chain_id .. payload are set), and appends the encoding: space and
// time, signature, puzzle. About 1 ms of signing and the puzzle; pure, any thread. id may be NULL.
HM_CHECK hm_err hm_op_finish(const hm_op *body, const hm_op_inputs *in, hm_buf *out, hm_hash *id);

#endif
