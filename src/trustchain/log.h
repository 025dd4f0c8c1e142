// The tree of a transparency log: pure functions (RFC 9162, section 2.1; C2SP tlog-tiles).
//
// A writer keeps tc_log_tree, which has the hashes of the complete subtrees on the right edge, and
// pushes leaf hashes; of the nodes that come into being those at heights 0, 8, 16... are given to
// the caller, who keeps them: they are what tiles hold, and all that proofs need.
#ifndef HM_TRUSTCHAIN_LOG_H
#define HM_TRUSTCHAIN_LOG_H

#include "crypto/crypto.h"

#define TC_TILE_HEIGHT 8u
#define TC_TILE_WIDTH 256u
#define TC_LOG_SIZE_MAX (UINT64_C(1) << 40) // an index has 40 bits (C2SP static-ct-api)
#define TC_PROOF_MAX 80u                    // hashes in a proof

typedef struct tc_log_tree {
    uint64_t size;
    hm_hash edge[40]; // complete subtrees, largest first: one for each bit that is set in size
} tc_log_tree;

// Keeps the node number index of a level: a tile's hash, at height level * TC_TILE_HEIGHT.
typedef hm_err (*tc_log_keep)(void *ctx, unsigned level, uint64_t index, const hm_hash *hash);
// Gives it back.
typedef hm_err (*tc_log_node)(void *ctx, unsigned level, uint64_t index, hm_hash *hash);

// Appends a leaf hash. HM_E_LIMIT above TC_LOG_SIZE_MAX; the tree is whole only on HM_OK.
HM_CHECK hm_err tc_log_push(tc_log_tree *t, const hm_hash *leaf, tc_log_keep keep, void *ctx);
hm_hash tc_log_root(const tc_log_tree *t);

// The root of the first `size` leaves. Errors are the callback's.
HM_CHECK hm_err tc_log_root_at(tc_log_node node, void *ctx, uint64_t size, hm_hash *root);
// That leaf `index` stands in the tree of `size`, for hm_merkle_verify(); HM_E_RANGE.
HM_CHECK hm_err tc_log_inclusion(tc_log_node node, void *ctx, uint64_t index, uint64_t size,
                                 hm_hash proof[TC_PROOF_MAX], size_t *count);
// That the tree of `size` begins with the tree of `old_size`; 1 <= old_size <= size, HM_E_RANGE.
HM_CHECK hm_err tc_log_consistency(tc_log_node node, void *ctx, uint64_t old_size, uint64_t size,
                                   hm_hash proof[TC_PROOF_MAX], size_t *count);
// RFC 9162, 2.1.4.2. A tree is consistent with itself by an empty proof.
bool tc_log_consistent(uint64_t old_size, const hm_hash *old_root, uint64_t size,
                       const hm_hash *root, const hm_hash *proof, size_t count);

#endif
