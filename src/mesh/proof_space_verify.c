#include "mesh/proof_space_graph.h"

// Takes one column and its path from the proof and checks it against the commitment.
static hm_err column_open(const hm_space_params *p, const hm_space_commitment *c, hm_rd *r,
                          uint32_t node, const uint8_t **column)
{
    hm_bytes labels = hm_rd_raw(r, 32 * (size_t)p->layers);
    hm_bytes path = hm_rd_raw(r, 32 * (size_t)p->nodes_log2);
    if (!hm_rd_ok(r))
        return hm_fail(HM_E_PROOF_SPACE, "wrong: the seal proof ends too early");
    hm_hash root =
        space_path_root(space_leaf(labels.ptr, labels.len), node, path.ptr, p->nodes_log2);
    if (memcmp(root.b, c->columns.b, 32) != 0)
        return hm_fail(HM_E_PROOF_SPACE, "wrong: column %u is not under the sector's root", node);
    *column = labels.ptr;
    return HM_OK;
}

static hm_err challenge_verify(const hm_space_params *p, const hm_hash *replica,
                               const hm_space_commitment *c, hm_rd *r, uint32_t node)
{
    const uint8_t *own, *column[SPACE_PARENTS_MAX];
    space_parents parents;
    space_parents_of(p, node, &parents);
    HM_TRY(column_open(p, c, r, node, &own));
    uint32_t count = parents.drg_count + parents.exp_count;
    for (uint32_t k = 0; k < count; k++)
        HM_TRY(column_open(p, c, r, parents.node[k], &column[k]));
    hm_bytes path = hm_rd_raw(r, 32 * (size_t)p->nodes_log2);
    if (!hm_rd_ok(r))
        return hm_fail(HM_E_PROOF_SPACE, "wrong: the seal proof ends too early");
    for (uint32_t layer = 1; layer <= p->layers; layer++) {
        hm_hash in[SPACE_PARENTS_MAX];
        uint32_t used = layer == 1 ? parents.drg_count : count;
        for (uint32_t k = 0; k < used; k++) {
            uint32_t from = k < parents.drg_count ? layer : layer - 1;
            memcpy(in[k].b, column[k] + 32 * (size_t)(from - 1), 32);
        }
        hm_hash label = space_label(replica, layer, node, in, used);
        if (memcmp(label.b, own + 32 * (size_t)(layer - 1), 32) != 0)
            return hm_fail(HM_E_PROOF_SPACE,
                           "wrong: label %u of layer %u does not follow from its parents", node,
                           layer);
    }
    hm_hash root = space_path_root(space_leaf(own + 32 * (size_t)(p->layers - 1u), 32), node,
                                   path.ptr, p->nodes_log2);
    if (memcmp(root.b, c->labels.b, 32) != 0)
        return hm_fail(HM_E_PROOF_SPACE, "wrong: label %u is not under the sector's root", node);
    return HM_OK;
}

hm_err hm_space_seal_part_verify(const hm_space_params *p, const hm_node_id *node, uint32_t sector,
                                 const hm_space_commitment *c, uint32_t part, hm_bytes proof)
{
    if (hm_space_params_check(p) != HM_OK)
        return hm_fail(HM_E_PROOF_SPACE, "wrong: %s", hm_err_detail());
    if (part >= hm_space_seal_parts(p))
        return hm_fail(HM_E_PROOF_SPACE, "wrong: seal part %u of %u", part, hm_space_seal_parts(p));
    hm_hash replica = space_replica_id(p, node, sector), seed;
    if (!space_seal_seed(p, &replica, c, &seed))
        return hm_fail(HM_E_PROOF_SPACE, "wrong: the seal's nonce lacks %u bits of work",
                       p->seal_grind_bits);
    hm_rd r = hm_rd_of(proof);
    uint32_t first, end;
    space_part_range(p, part, &first, &end);
    for (uint32_t i = first; i < end; i++)
        HM_TRY(challenge_verify(p, &replica, c, &r, space_seal_challenge(p, &seed, i)));
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_PROOF_SPACE, "wrong: bytes after the end of the seal proof");
    return HM_OK;
}

hm_err hm_space_answer_verify(const hm_space_params *p, const hm_node_id *node, uint32_t sector,
                              const hm_space_commitment *c, const hm_hash *seed, hm_bytes answer)
{
    if (hm_space_params_check(p) != HM_OK)
        return hm_fail(HM_E_PROOF_SPACE, "wrong: %s", hm_err_detail());
    if (answer.len != hm_space_answer_bytes(p))
        return hm_fail(HM_E_PROOF_SPACE, "wrong: the answer has %zu bytes instead of %zu",
                       answer.len, hm_space_answer_bytes(p));
    hm_hash replica = space_replica_id(p, node, sector);
    hm_hash picks = space_answer_seed(&replica, c, seed);
    size_t each = 32 * (1u + (size_t)p->nodes_log2);
    for (uint32_t i = 0; i < p->answer_challenges; i++) {
        const uint8_t *at = answer.ptr + each * i;
        uint32_t index = space_answer_challenge(p, &picks, i);
        hm_hash root = space_path_root(space_leaf(at, 32), index, at + 32, p->nodes_log2);
        if (memcmp(root.b, c->labels.b, 32) != 0)
            return hm_fail(HM_E_PROOF_SPACE, "wrong: opening %u is not label %u of the sector", i,
                           index);
    }
    return HM_OK;
}
