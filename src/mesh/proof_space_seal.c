#include "mesh/proof_space_file.h"

#include <stdlib.h>
#include <unistd.h>

// A sector in the making. Everything is indexed by node; trees hold level after level, leaves
// first, so that level k starts at 2N - 2N/2^k.
typedef struct sealing {
    const hm_space_params *p;
    hm_hash replica;
    uint32_t nodes;
    hm_hash *layer[HM_SPACE_LAYERS_MAX]; // owned
    hm_hash *label_tree, *column_tree;   // owned, 2N - 1 each
    hm_space_progress *progress;
} sealing;

static hm_err step(sealing *s, uint64_t done)
{
    if (!s->progress)
        return HM_OK;
    atomic_fetch_add_explicit(&s->progress->done, done, memory_order_relaxed);
    if (atomic_load_explicit(&s->progress->cancel, memory_order_relaxed))
        return hm_fail(HM_E_CLOSED, "sealing was cancelled");
    return HM_OK;
}

static hm_err layer_make(sealing *s, uint32_t layer)
{
    hm_hash *out = s->layer[layer - 1], in[SPACE_PARENTS_MAX];
    const hm_hash *below = layer > 1 ? s->layer[layer - 2] : NULL;
    for (uint32_t v = 0; v < s->nodes; v++) {
        space_parents parents;
        space_parents_of(s->p, v, &parents);
        uint32_t n = parents.drg_count;
        for (uint32_t k = 0; k < n; k++)
            in[k] = out[parents.node[k]];
        if (below) {
            for (uint32_t k = 0; k < parents.exp_count; k++, n++)
                in[n] = below[parents.node[n]];
        }
        out[v] = space_label(&s->replica, layer, v, in, n);
        if (v % 1024 == 1023)
            HM_TRY(step(s, 1024));
    }
    return HM_OK;
}

static void tree_finish(hm_hash *tree, uint32_t leaves)
{
    hm_hash *from = tree;
    for (uint32_t n = leaves; n > 1; n /= 2) {
        hm_hash *to = from + n;
        for (uint32_t i = 0; i < n / 2; i++)
            to[i] = space_node(&from[2 * i], &from[2 * i + 1]);
        from = to;
    }
}

static void tree_path(const hm_hash *tree, uint32_t leaves, uint32_t index, hm_buf *out)
{
    for (uint32_t n = leaves; n > 1; n /= 2, index /= 2) {
        hm_wr_raw(out, tree[index ^ 1].b, 32);
        tree += n;
    }
}

static hm_err trees_make(sealing *s)
{
    const hm_hash *last = s->layer[s->p->layers - 1];
    for (uint32_t v = 0; v < s->nodes; v++) {
        hm_hash column[HM_SPACE_LAYERS_MAX];
        for (uint32_t k = 0; k < s->p->layers; k++)
            column[k] = s->layer[k][v];
        s->column_tree[v] = space_leaf(column, 32 * (size_t)s->p->layers);
        s->label_tree[v] = space_leaf(last[v].b, 32);
        if (v % 1024 == 1023)
            HM_TRY(step(s, 1024));
    }
    tree_finish(s->column_tree, s->nodes);
    tree_finish(s->label_tree, s->nodes);
    return HM_OK;
}

static void column_write(sealing *s, uint32_t v, hm_buf *out)
{
    for (uint32_t k = 0; k < s->p->layers; k++)
        hm_wr_raw(out, s->layer[k][v].b, 32);
    tree_path(s->column_tree, s->nodes, v, out);
}

static hm_err proof_make(sealing *s, hm_space_commitment *c, hm_buf *out)
{
    hm_hash seed;
    c->nonce = 0;
    while (!space_seal_seed(s->p, &s->replica, c, &seed))
        c->nonce++;
    hm_buf part = {0};
    for (uint32_t k = 0; k < hm_space_seal_parts(s->p); k++) {
        uint32_t first, end;
        space_part_range(s->p, k, &first, &end);
        hm_buf_reset(&part);
        for (uint32_t i = first; i < end; i++) {
            uint32_t v = space_seal_challenge(s->p, &seed, i);
            space_parents parents;
            space_parents_of(s->p, v, &parents);
            column_write(s, v, &part);
            for (uint32_t j = 0; j < parents.drg_count + parents.exp_count; j++)
                column_write(s, parents.node[j], &part);
            tree_path(s->label_tree, s->nodes, v, &part);
        }
        if (hm_buf_status(&part) != HM_OK)
            break;
        hm_wr_bytes(out, hm_buf_bytes(&part));
    }
    hm_err err = hm_buf_status(&part);
    hm_buf_free(&part);
    return err != HM_OK ? err : hm_buf_status(out);
}

static hm_err sealing_alloc(sealing *s)
{
    size_t tree = 2 * (size_t)s->nodes - 1;
    s->label_tree = malloc(tree * sizeof(hm_hash));
    s->column_tree = malloc(tree * sizeof(hm_hash));
    bool ok = s->label_tree && s->column_tree;
    for (uint32_t k = 0; k < s->p->layers; k++) {
        s->layer[k] = malloc((size_t)s->nodes * sizeof(hm_hash));
        ok = ok && s->layer[k];
    }
    if (!ok)
        return hm_fail(HM_E_NOMEM, "sealing needs %llu MiB of memory",
                       (unsigned long long)((s->p->layers + 4u) * hm_space_size_bytes(s->p) >> 20));
    return HM_OK;
}

hm_err hm_space_seal(const hm_space_params *p, const hm_node_id *node, uint32_t sector,
                     const char *path, hm_space_progress *progress, hm_space_commitment *out)
{
    HM_TRY(hm_space_params_check(p));
    if (access(path, F_OK) == 0)
        return hm_fail(HM_E_EXISTS, "%s: a sector is there already", path);
    sealing s = {.p = p, .nodes = UINT32_C(1) << p->nodes_log2, .progress = progress};
    s.replica = space_replica_id(p, node, sector);
    if (progress) {
        atomic_store(&progress->done, 0);
        atomic_store(&progress->total, (uint64_t)s.nodes * (p->layers + 1u));
    }
    hm_buf seal = {0};
    hm_err err;
    HM_TRY_OUT(sealing_alloc(&s));
    for (uint32_t layer = 1; layer <= p->layers; layer++)
        HM_TRY_OUT(layer_make(&s, layer));
    HM_TRY_OUT(trees_make(&s));
    hm_space_info info = {.params = *p, .node = *node, .sector = sector};
    info.commitment.columns = s.column_tree[2 * (size_t)s.nodes - 2];
    info.commitment.labels = s.label_tree[2 * (size_t)s.nodes - 2];
    HM_TRY_OUT(proof_make(&s, &info.commitment, &seal));
    const hm_hash *rows =
        s.label_tree + 2 * (size_t)s.nodes - (2 * (size_t)s.nodes >> SPACE_ROW_SKIP);
    HM_TRY_OUT(space_file_write(path, &info, s.layer[p->layers - 1], rows, hm_buf_bytes(&seal)));
    *out = info.commitment;
out:
    hm_buf_free(&seal);
    for (uint32_t k = 0; k < p->layers; k++)
        free(s.layer[k]);
    free(s.label_tree);
    free(s.column_tree);
    return err;
}
