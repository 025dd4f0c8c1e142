// Blocks: a header that names everything, and the operations.
//
// The id of a block is SHA-256 of its header, which holds the Merkle root over the operations and
// the root of the state after them. The parent of the first block (height 1) is the chain id.
#ifndef HM_MESH_BLOCK_H
#define HM_MESH_BLOCK_H

#include "mesh/op.h"

#define HM_BLOCK_VERSION 1
#define HM_BLOCK_OPS_MAX 2048u
#define HM_BLOCK_BYTES_MAX (4u << 20)
#define HM_BLOCK_HEADER_BYTES 197u

typedef struct hm_block_header {
    hm_hash chain_id;
    uint64_t height;
    uint64_t view;       // of the consensus, greater than the parent's
    hm_hash parent;      // id of the block before, or the chain id at height 1
    hm_node_id proposer; // a validator
    uint64_t time_ms;    // wall time, greater than the parent's
    uint64_t epoch;      // height / epoch_blocks of the genesis
    hm_hash ops_root;    // Merkle tree (RFC 9162) whose leaves are the ids of the operations
    uint32_t ops_count;
    hm_hash state_root; // of the authenticated state after this block
} hm_block_header;

// A block over its encoding. ops points to an array that hm_block_free() frees; each item borrows
// from the encoding.
typedef struct hm_block {
    hm_block_header header;
    hm_hash id;
    uint32_t count;
    hm_bytes *ops; // owned array of borrowed encodings
} hm_block;

void hm_block_header_encode(hm_buf *out, const hm_block_header *h);
HM_CHECK hm_err hm_block_header_decode(hm_bytes bytes, hm_block_header *h);
hm_hash hm_block_header_id(const hm_block_header *h);

// Appends header and operations (the header's count is `count`, asserted).
void hm_block_encode(hm_buf *out, const hm_block_header *h, const hm_bytes *ops, uint32_t count);
// Reads a whole block and checks limits, the count and the root of the operations; it does not
// look into the operations. Free with hm_block_free(). HM_E_BLOCK and the codec's errors.
HM_CHECK hm_err hm_block_decode(hm_bytes bytes, hm_block *out);
void hm_block_free(hm_block *b);
// Header only, from the start of an encoded block.
HM_CHECK hm_err hm_block_peek(hm_bytes block, hm_block_header *h);

// Root over operation ids.
HM_CHECK hm_err hm_block_ops_root(const hm_hash *ids, uint32_t count, hm_hash *out);

#endif
