// Private to proof_space*.c: the layout of a sector file.
//
//   header  512 bytes: magic, parameters, NodeID, sector, commitment, length and SHA-256 of the
//           seal proof, SHA-256 of the header up to there, zeros
//   labels  the last layer, 32 << nodes_log2 bytes
//   rows    the tree over the labels from level 3 (one node for 8 labels) up to the root
//   seal    the parts of the seal proof, each as a length-prefixed byte string
//
// Levels 0 to 2 of the tree are computed from 8 labels when an answer needs them.
#ifndef HM_MESH_PROOF_SPACE_FILE_H
#define HM_MESH_PROOF_SPACE_FILE_H

#include "mesh/proof_space_graph.h"

#define SPACE_HEADER_BYTES 512u
#define SPACE_ROW_SKIP 3u
#define SPACE_SEAL_MAX (HM_SPACE_PARTS_MAX * (HM_SPACE_PART_MAX + 4u))

static inline uint64_t space_nodes(const hm_space_params *p)
{
    return UINT64_C(1) << p->nodes_log2;
}
// Nodes of the stored rows below a level (level >= SPACE_ROW_SKIP): N/8 + N/16 + ...
static inline uint64_t space_row_start(const hm_space_params *p, uint32_t level)
{
    return (space_nodes(p) >> (SPACE_ROW_SKIP - 1)) - (space_nodes(p) >> (level - 1));
}
static inline uint64_t space_rows_count(const hm_space_params *p)
{
    return space_row_start(p, p->nodes_log2 + 1u);
}
static inline uint64_t space_rows_offset(const hm_space_params *p)
{
    return SPACE_HEADER_BYTES + hm_space_size_bytes(p);
}
static inline uint64_t space_seal_offset(const hm_space_params *p)
{
    return space_rows_offset(p) + 32 * space_rows_count(p);
}

// Writes the whole file beside path, syncs it and gives it its name; HM_E_EXISTS if taken.
HM_CHECK hm_err space_file_write(const char *path, const hm_space_info *info, const hm_hash *labels,
                                 const hm_hash *rows, hm_bytes seal);

#endif
