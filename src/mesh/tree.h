// The authenticated state: a radix-16 sparse Merkle tree over SHA-256.
//
// A pair (key, value) is a leaf at the path SHA-256(key), read four bits at a time from the top. A
// subtree with no leaf is absent, one with a single leaf is that leaf, any other is a node; the
// root is always a node. So a set of pairs has one tree, whatever the order of the changes.
//
//   leaf  H(0x00 || SHA-256(key) || SHA-256(value))
//   node  H(0x01 || u16 bitmap of the children present || their hashes in order)
//
// A node names at most 16 children and is hashed at once: against a binary tree that is 2.2 KiB
// rather than 0.7 KiB for a proof at a million keys, and a fifth of the hashing at every block.
#ifndef HM_MESH_TREE_H
#define HM_MESH_TREE_H

#include "base/base.h"
#include "crypto/crypto.h"

#define HM_TREE_DEPTH_MAX 64
#define HM_TREE_PROOF_MAX (64u + HM_TREE_DEPTH_MAX * (2u + 16u * 32u))

// Checks a proof against a root with nothing else at hand. Pure, any thread. On success *present
// tells whether the root holds the key, and if so its value is the one whose SHA-256 is *value.
// HM_E_STATE_ROOT when the proof is not of this root and key; the codec's errors.
HM_CHECK hm_err hm_tree_verify(const hm_hash *root, hm_bytes key, hm_bytes proof, bool *present,
                               hm_hash *value);
// The root of the empty state.
hm_hash hm_tree_empty_root(void);

#endif
