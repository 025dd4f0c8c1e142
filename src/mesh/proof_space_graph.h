// Private to proof_space*.c: the graph, the labels and the trees that sealing and checking share.
#ifndef HM_MESH_PROOF_SPACE_GRAPH_H
#define HM_MESH_PROOF_SPACE_GRAPH_H

#include "mesh/proof_space.h"

#define SPACE_PARENTS_MAX (HM_SPACE_DRG_PARENTS_MAX + (1u << HM_SPACE_EXP_LOG2_MAX))

// Parents of a node: drg_count in its own layer (none for node 0), then exp_count in the layer
// before. The same in every layer; layer 1 has no use for the second kind.
typedef struct space_parents {
    uint32_t node[SPACE_PARENTS_MAX];
    uint32_t drg_count;
    uint32_t exp_count;
} space_parents;
void space_parents_of(const hm_space_params *p, uint32_t node, space_parents *out);

// What all labels of a sector start from.
hm_hash space_replica_id(const hm_space_params *p, const hm_node_id *node, uint32_t sector);

// The label of a node in a layer (from 1) from its parents' labels, in order.
hm_hash space_label(const hm_hash *replica, uint32_t layer, uint32_t node, const hm_hash *parents,
                    uint32_t count);

// Merkle trees over 2^n leaves as in RFC 9162: leaf 0x00 || content, node 0x01 || left || right.
hm_hash space_leaf(const void *content, size_t len);
hm_hash space_node(const hm_hash *left, const hm_hash *right);
// The root that a leaf with its path (n siblings, from the lowest) leads to.
hm_hash space_path_root(hm_hash leaf, uint32_t index, const uint8_t *path, uint32_t n);

// Fiat-Shamir seed of the seal challenges; true when it has the bits of work that p asks for.
bool space_seal_seed(const hm_space_params *p, const hm_hash *replica, const hm_space_commitment *c,
                     hm_hash *out);
uint32_t space_seal_challenge(const hm_space_params *p, const hm_hash *seed, uint32_t i);
hm_hash space_answer_seed(const hm_hash *replica, const hm_space_commitment *c,
                          const hm_hash *seed);
uint32_t space_answer_challenge(const hm_space_params *p, const hm_hash *seed, uint32_t i);

// Challenges first..end-1 belong to a part.
void space_part_range(const hm_space_params *p, uint32_t part, uint32_t *first, uint32_t *end);

#endif
