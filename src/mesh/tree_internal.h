// Private to the ledger: changing the authenticated tree. tree.h has its definition.
//
// A node is stored under its path: one byte of depth, then its nibbles, two a byte. Its record is
// the bitmap of its children and for each a tag: 0 a node and its hash, 1 a leaf, its path and the
// hash of its value.
#ifndef HM_MESH_TREE_INTERNAL_H
#define HM_MESH_TREE_INTERNAL_H

#include "mesh/tree.h"

#define HM_TREE_NODE_KEY_MAX 33u
#define HM_TREE_NODE_MAX (2u + 16u * 65u)

// Where nodes are kept.
typedef struct hm_tree_store {
    hm_err (*get)(void *ctx, hm_bytes key, hm_bytes *value); // HM_E_NOTFOUND; borrowed
    hm_err (*put)(void *ctx, hm_bytes key, hm_bytes value);
    hm_err (*del)(void *ctx, hm_bytes key);
    void *ctx;
} hm_tree_store;

typedef struct hm_tree_change {
    hm_hash path;  // SHA-256 of the key
    hm_hash value; // SHA-256 of the value
    bool deleted;
} hm_tree_change;

// Applies the changes (each path once; they are sorted in place) and gives the new root.
HM_CHECK hm_err hm_tree_update(const hm_tree_store *s, hm_tree_change *changes, size_t count,
                               hm_hash *root);
HM_CHECK hm_err hm_tree_root(const hm_tree_store *s, hm_hash *root);
HM_CHECK hm_err hm_tree_prove(const hm_tree_store *s, hm_bytes key, hm_buf *proof);

#endif
