// Proof of work: a client puzzle over an operation's bytes. docs/proofs/work.md.
//
// A nonce solves a digest at difficulty D when the first 8 bytes, big endian, of
// SHA-256("hypermesh/work/1" || 0x00 || digest || nonce) are at most (2^64 - 1) / D: D tries on
// average, one hash to check. D follows the load: see hm_work_next().
// Pure functions, any thread, integers only.
#ifndef HM_MESH_PROOF_WORK_H
#define HM_MESH_PROOF_WORK_H

#include <stdatomic.h>

#include "base/base.h"
#include "crypto/crypto.h"

#define HM_WORK_DIFFICULTY_MIN 64u        // an idle mesh asks for next to nothing
#define HM_WORK_DIFFICULTY_MAX (1u << 24) // some seconds on one core
#define HM_WORK_STEP 8u                   // at most 1/8 up or down a block
#define HM_WORK_WINDOW 64u                // blocks for which a solved puzzle stays good

// True when the nonce solves the digest.
bool hm_work_check(const hm_hash *digest, uint64_t difficulty, uint64_t nonce);
// Searches from a start that the digest fixes. HM_E_CLOSED once *cancel is set (may be NULL).
// tries (may be NULL) gets the number of hashes done.
HM_CHECK hm_err hm_work_solve(const hm_hash *digest, uint64_t difficulty,
                              const _Atomic bool *cancel, uint64_t *nonce, uint64_t *tries);
// The difficulty after a block that held `ops` operations, when `target_ops` is the load at which
// it stands still. Moves by at most 1/HM_WORK_STEP, within MIN..MAX. target_ops > 0 (asserted).
uint64_t hm_work_next(uint64_t difficulty, uint32_t ops, uint32_t target_ops);

#endif
