// Proof of space: a sector is a file of pseudo-random labels that are slow to make and quick to
// check. docs/proofs/space.md has the definition, the parameters, the measured cost, and what it
// does and does not prove.
//
// A sector has `layers` layers of 2^nodes_log2 labels of 32 bytes. Layer 1 is a depth-robust graph
// (DRSample; Alwen, Blocki, Harsha 2017); each further layer is the same graph plus edges of a
// bipartite expander (Chung 1979) from the layer before it: the stacked construction of Fisch,
// "Tight Proofs of Space and Replication", 2018. Labels are SHA-256 over the replica id (from
// NodeID, sector number and parameters), layer, index and the parents' labels. The file keeps the
// last layer and the upper rows of its Merkle tree.
//
// Commitment: `labels`, the Merkle root over the last layer; `columns`, the Merkle root over the
// columns (column i = the labels of node i in all layers). The seal proof opens, for Fiat-Shamir
// challenges, columns together with all their parents' columns. It comes in parts that verify on
// their own, each small enough for one operation. An answer opens labels that a seed picks.
//
// All functions are pure but for the file they name, and may be called from any thread; a
// hm_space_sector belongs to one thread at a time.
#ifndef HM_MESH_PROOF_SPACE_H
#define HM_MESH_PROOF_SPACE_H

#include <stdatomic.h>

#include "base/base.h"
#include "crypto/crypto.h"

#define HM_SPACE_NODES_LOG2_MIN 6
#define HM_SPACE_NODES_LOG2_MAX 26
#define HM_SPACE_NODES_LOG2_DEFAULT 16
#define HM_SPACE_LAYERS_MAX 16
#define HM_SPACE_DRG_PARENTS_MAX 8
#define HM_SPACE_EXP_LOG2_MAX 3
#define HM_SPACE_SEAL_CHALLENGES_MAX 1024
#define HM_SPACE_ANSWER_CHALLENGES_MAX 256
#define HM_SPACE_GRIND_BITS_MAX 24
#define HM_SPACE_PART_MAX 60000u   // bytes of a seal part
#define HM_SPACE_ANSWER_MAX 60000u // bytes of an answer
#define HM_SPACE_PARTS_MAX 64      // parts of a seal proof

typedef struct hm_space_params {
    uint8_t nodes_log2;         // labels a layer = 2^this
    uint8_t layers;             // 2..HM_SPACE_LAYERS_MAX
    uint8_t drg_parents;        // parents in the same layer, the predecessor included, 2..
    uint8_t exp_log2;           // 2^this parents in the layer before, 1..
    uint16_t seal_challenges;   // columns opened with their parents by the seal proof
    uint8_t seal_grind_bits;    // work that each try at the seal challenges costs, in bits
    uint16_t answer_challenges; // labels opened by an answer
} hm_space_params;

// Default graph and challenges for a size; nodes_log2 0 means HM_SPACE_NODES_LOG2_DEFAULT.
hm_space_params hm_space_params_default(uint8_t nodes_log2);
// HM_E_RANGE naming the field that is out of its limits (a part or an answer too large included).
HM_CHECK hm_err hm_space_params_check(const hm_space_params *p);
// Canonical encoding, HM_SPACE_PARAMS_BYTES long; reading checks the limits.
#define HM_SPACE_PARAMS_BYTES 9
void hm_space_params_write(hm_buf *out, const hm_space_params *p);
void hm_space_params_read(hm_rd *r, hm_space_params *p);
// Bytes of the stored labels: 32 << nodes_log2.
uint64_t hm_space_size_bytes(const hm_space_params *p);
// How many parts the seal proof has.
uint32_t hm_space_seal_parts(const hm_space_params *p);

typedef struct hm_space_commitment {
    hm_hash columns; // Merkle root over the columns
    hm_hash labels;  // Merkle root over the last layer: answers open against this
    uint64_t nonce;  // makes the seal challenges cost seal_grind_bits of work a try
} hm_space_commitment;
#define HM_SPACE_COMMITMENT_BYTES 72
void hm_space_commitment_write(hm_buf *out, const hm_space_commitment *c);
void hm_space_commitment_read(hm_rd *r, hm_space_commitment *c);

// Seen and set from other threads while a sector is being sealed; zero-initialise.
typedef struct hm_space_progress {
    _Atomic uint64_t done;  // labels made
    _Atomic uint64_t total; // labels to make
    _Atomic bool cancel;    // set: sealing returns HM_E_CLOSED soon and leaves no file
} hm_space_progress;

// Makes the sector file (labels, tree rows, seal proof) at path, replacing nothing that is whole:
// HM_E_EXISTS if a sector is there already. Written beside it as path.tmp, synced and renamed, so
// after a crash the path is either absent or whole; a leftover path.tmp is written over. Needs
// layers * size_bytes of memory while it runs. progress may be NULL.
HM_CHECK hm_err hm_space_seal(const hm_space_params *p, const hm_node_id *node, uint32_t sector,
                              const char *path, hm_space_progress *progress,
                              hm_space_commitment *out);

// ---- the sealed file ----------------------------------------------------------------------------

typedef struct hm_space_sector hm_space_sector; // an open file; free with hm_space_close()
typedef struct hm_space_info {
    hm_space_params params;
    hm_node_id node;
    uint32_t sector;
    hm_space_commitment commitment;
} hm_space_info;

// HM_E_NOTFOUND; HM_E_CORRUPT when header, length or seal proof are damaged.
HM_CHECK hm_err hm_space_open(const char *path, hm_space_sector **out);
void hm_space_close(hm_space_sector *s); // NULL is fine
const hm_space_info *hm_space_sector_info(const hm_space_sector *s);
// Appends part `part` of the stored seal proof.
HM_CHECK hm_err hm_space_sector_seal_part(hm_space_sector *s, uint32_t part, hm_buf *out);
// Appends the answer to the seed. Each opening is checked against the root before it leaves:
// HM_E_CORRUPT names the damaged label.
HM_CHECK hm_err hm_space_answer(hm_space_sector *s, const hm_hash *seed, hm_buf *out);
// Reads everything and compares with the roots: HM_E_CORRUPT names the first damaged place.
HM_CHECK hm_err hm_space_scrub(hm_space_sector *s);

// ---- checking -----------------------------------------------------------------------------------

// One part of a seal proof. HM_E_PROOF_SPACE with the reason.
HM_CHECK hm_err hm_space_seal_part_verify(const hm_space_params *p, const hm_node_id *node,
                                          uint32_t sector, const hm_space_commitment *c,
                                          uint32_t part, hm_bytes proof);
// An answer to a seed. HM_E_PROOF_SPACE with the reason.
HM_CHECK hm_err hm_space_answer_verify(const hm_space_params *p, const hm_node_id *node,
                                       uint32_t sector, const hm_space_commitment *c,
                                       const hm_hash *seed, hm_bytes answer);
// The exact length of every answer under these parameters.
size_t hm_space_answer_bytes(const hm_space_params *p);

#endif
