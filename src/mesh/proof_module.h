// The proofs of space, time and work against the state. Module HM_MODULE_PROOF of the ledger.
//
// System operations:
//   SPACE_ANSWER  u32 sector, u64 epoch, bytes answer: the owner's sector still holds what it was
//                 sealed with. The seed of an epoch is fixed by the block before it and the newest
//                 beacon; an answer is taken until HM_PROOF_DEADLINE of the epoch has passed.
//   BEACON        u64 index, bytes proof: the next beacon of the chain of proof_time.h. Its anchor
//                 is the block that stands beacon_blocks above the one with the beacon before.
//
// An operation on an asset names the newest accepted answer of its owner's sector, which must be of
// the current epoch or, until the deadline, of the one before; before the first answer it is the
// seal proof in the genesis, as of epoch 0. It names one of the newest time_max_age beacons. Its
// puzzle is solved at the least difficulty of the last HM_WORK_WINDOW blocks or above.
//
// The state: difficulties, beacons, epoch seed, answers. Beside it, as indices, what is needed to
// check an old operation again: see hm_proof_explain().
#ifndef HM_MESH_PROOF_MODULE_H
#define HM_MESH_PROOF_MODULE_H

#include "mesh/ledger.h"
#include "mesh/proof_time.h"

typedef enum hm_proof_op {
    HM_PROOF_SPACE_ANSWER = 1,
    HM_PROOF_BEACON = 2,
} hm_proof_op;

// Blocks of an epoch within which its answer must be in a block.
static inline uint64_t hm_proof_deadline(const hm_genesis_params *p)
{
    return p->epoch_blocks / 2;
}

void hm_proof_answer_encode(uint32_t sector, uint64_t epoch, hm_bytes answer, hm_buf *payload);
void hm_proof_beacon_encode(uint64_t index, hm_bytes proof, hm_buf *payload);

// ---- what is to be done now ---------------------------------------------------------------------

// The answer that a node owes for its sector in the current epoch of the view (of its block; 0 at
// genesis): HM_OK with epoch and seed; HM_E_NOTFOUND when none is due (epoch 0, given already, or
// the deadline has passed).
HM_CHECK hm_err hm_proof_answer_due(const hm_view *v, const hm_node_id *node, uint64_t *epoch,
                                    hm_hash *seed);
// The newest beacon and, unless NULL, the height of the block that it is in (0 for beacon 0).
HM_CHECK hm_err hm_proof_beacon_newest(const hm_view *v, uint64_t *index, uint64_t *height);
// The beacon that comes next: HM_OK with index and input when its anchor is there; HM_E_NOTFOUND.
// since_height is the height of its anchor.
HM_CHECK hm_err hm_proof_beacon_due(const hm_view *v, uint64_t *index, hm_hash *input,
                                    uint64_t *since_height);
// The group of a mesh's beacons, from its genesis. Slow: tens of milliseconds or more; kept by the
// last caller's thread for one chain.
HM_CHECK hm_err hm_proof_time_group(const hm_genesis *g, hm_time_group *out);
// The puzzle's difficulty now.
HM_CHECK hm_err hm_proof_difficulty(const hm_view *v, uint64_t *difficulty);

// ---- checking again -----------------------------------------------------------------------------

typedef struct hm_proof_finding {
    const char *name; // "space", "stake", "work", "time"
    bool present;     // a system operation carries stake and work only
    bool ok;
    char checked[240]; // what was checked and found, for people
} hm_proof_finding;

// Checks the proofs of an operation in a final block again from what the ledger keeps: the
// signature under the owner's key and the certificate's life at the block's time; the puzzle; the
// delay proof of the beacon it names; the labels opened by the answer it names, or its seal proof.
HM_CHECK hm_err hm_proof_explain(hm_ledger *l, hm_op_location at, hm_proof_finding out[4]);

#endif
