// Proof of time: Wesolowski's verifiable delay function (2019) in the class group of an imaginary
// quadratic field. docs/proofs/time.md.
//
// The group: reduced binary quadratic forms of discriminant d = -p, p a prime of exactly `bits`
// bits with p = 7 mod 8, found from a public seed, so that nobody knows its class number. The
// input of 32 bytes is hashed to a form x; the output is y = x^(2^iterations), which takes
// `iterations` squarings one after the other; the proof is pi = x^floor(2^iterations / l) for the
// prime l hashed from (d, x, y, iterations). Checking pi^l * x^(2^iterations mod l) == y takes a
// few hundred group operations, whatever the number of iterations.
//
// Everything from outside is validated: a form is the bytes of a and b of its one reduced form, c
// is computed, and it must be reduced, primitive and of the group's discriminant.
//
// Pure functions, any thread. FLINT keeps caches per thread: no FLINT object outlives a call, and
// each call ends by dropping its thread's caches.
#ifndef HM_MESH_PROOF_TIME_H
#define HM_MESH_PROOF_TIME_H

#include <stdatomic.h>

#include "base/base.h"
#include "crypto/crypto.h"

#define HM_TIME_BITS_MIN 256 // tests only; a mesh uses 1024 (dev) or 2048
#define HM_TIME_BITS_MAX 4096
#define HM_TIME_ITERATIONS_MAX (UINT64_C(1) << 36)
#define HM_TIME_FORM_MAX (1 + 2 * (HM_TIME_BITS_MAX / 16))
#define HM_TIME_PROOF_MAX (2 * HM_TIME_FORM_MAX)

// A group with its delay: made once from the genesis and copied freely (plain bytes).
typedef struct hm_time_group {
    uint16_t bits;                   // of the discriminant, a multiple of 256
    uint64_t iterations;             // squarings
    uint8_t p[HM_TIME_BITS_MAX / 8]; // |d|, big endian, bits/8 bytes
} hm_time_group;

// Finds the discriminant of the seed (tens of milliseconds at 1024 bits, a second or so at 2048).
HM_CHECK hm_err hm_time_group_make(hm_bytes seed, uint16_t bits, uint64_t iterations,
                                   hm_time_group *out);
// Bytes of one form and of a whole proof (y, then pi).
size_t hm_time_form_bytes(const hm_time_group *g);
size_t hm_time_proof_bytes(const hm_time_group *g);

// Seen and set from other threads during an evaluation; zero-initialise.
typedef struct hm_time_progress {
    _Atomic uint64_t done; // squarings made so far, of g->iterations
    _Atomic bool cancel;   // set: the evaluation returns HM_E_CLOSED soon
} hm_time_progress;

// The delay: appends y || pi. progress may be NULL.
HM_CHECK hm_err hm_time_eval(const hm_time_group *g, const hm_hash *input,
                             hm_time_progress *progress, hm_buf *proof);
// HM_E_PROOF_TIME with the reason. On success output (may be NULL) is the beacon's value: SHA-256
// over domain and y.
HM_CHECK hm_err hm_time_verify(const hm_time_group *g, const hm_hash *input, hm_bytes proof,
                               hm_hash *output);

// The value that a verified proof stands for, without verifying it. HM_E_PROOF_TIME when its length
// is not even.
HM_CHECK hm_err hm_time_value(hm_bytes proof, hm_hash *output);

// ---- the chain of beacons -----------------------------------------------------------------------
// Beacon 0 is the hash of the chain id alone and has no proof. Beacon i has the input
// H(value of beacon i-1 || id of the anchor block), the anchor being a final block after which the
// beacon's work could not have begun earlier.
hm_hash hm_time_beacon_zero(const hm_hash *chain_id);
hm_hash hm_time_beacon_input(const hm_hash *previous, uint64_t index, const hm_hash *anchor);

#endif
