#include <stdlib.h>

#include "mesh/tree_internal.h"

typedef enum tag { ABSENT, NODE, LEAF } tag;

typedef struct child {
    uint8_t tag;
    hm_hash hash;  // of the node or leaf
    hm_hash path;  // of a leaf
    hm_hash value; // of a leaf
} child;

typedef struct node {
    child at[16];
} node;

static unsigned nibble(const hm_hash *path, unsigned depth)
{
    return depth % 2 == 0 ? path->b[depth / 2] >> 4 : path->b[depth / 2] & 15;
}

static hm_hash leaf_hash(const hm_hash *path, const hm_hash *value)
{
    uint8_t mem[1 + 2 * HM_HASH_BYTES] = {0};
    memcpy(mem + 1, path->b, HM_HASH_BYTES);
    memcpy(mem + 1 + HM_HASH_BYTES, value->b, HM_HASH_BYTES);
    return hm_sha256(hm_bytes_of(mem, sizeof mem));
}

// Appends what is hashed for a node, without its tag byte: bitmap and hashes.
static void node_image(const node *n, hm_buf *out)
{
    uint16_t bitmap = 0;
    for (unsigned i = 0; i < 16; i++)
        if (n->at[i].tag != ABSENT)
            bitmap |= (uint16_t)(1u << i);
    hm_wr_u16(out, bitmap);
    for (unsigned i = 0; i < 16; i++)
        if (n->at[i].tag != ABSENT)
            hm_wr_raw(out, n->at[i].hash.b, HM_HASH_BYTES);
}

static hm_hash node_hash(const node *n)
{
    uint8_t mem[1 + 2 + 16 * HM_HASH_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u8(&b, 1);
    node_image(n, &b);
    return hm_sha256(hm_buf_bytes(&b));
}

hm_hash hm_tree_empty_root(void)
{
    node n = {0};
    return node_hash(&n);
}

// ---- storage of nodes ---------------------------------------------------------------------------

static hm_bytes node_key(const hm_hash *path, unsigned depth, uint8_t mem[HM_TREE_NODE_KEY_MAX])
{
    size_t bytes = (depth + 1) / 2;
    mem[0] = (uint8_t)depth;
    memcpy(mem + 1, path->b, bytes);
    if (depth % 2 != 0)
        mem[bytes] &= 0xf0;
    return hm_bytes_of(mem, 1 + bytes);
}

static hm_err node_load(const hm_tree_store *s, const hm_hash *path, unsigned depth, node *n)
{
    uint8_t key[HM_TREE_NODE_KEY_MAX];
    hm_bytes value = {0};
    *n = (node){0};
    HM_TRY(s->get(s->ctx, node_key(path, depth, key), &value));
    hm_rd r = hm_rd_of(value);
    uint16_t bitmap = hm_rd_u16(&r);
    for (unsigned i = 0; i < 16; i++) {
        if ((bitmap >> i & 1) == 0)
            continue;
        child *c = &n->at[i];
        if (hm_rd_bool(&r)) {
            c->tag = LEAF;
            hm_rd_copy(&r, c->path.b, HM_HASH_BYTES);
            hm_rd_copy(&r, c->value.b, HM_HASH_BYTES);
            c->hash = leaf_hash(&c->path, &c->value);
        } else {
            c->tag = NODE;
            hm_rd_copy(&r, c->hash.b, HM_HASH_BYTES);
        }
    }
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_CORRUPT, "a node of the state tree at depth %u is damaged", depth);
    return HM_OK;
}

static hm_err node_store(const hm_tree_store *s, const hm_hash *path, unsigned depth, const node *n)
{
    uint8_t key[HM_TREE_NODE_KEY_MAX], mem[HM_TREE_NODE_MAX];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    uint16_t bitmap = 0;
    for (unsigned i = 0; i < 16; i++)
        if (n->at[i].tag != ABSENT)
            bitmap |= (uint16_t)(1u << i);
    hm_wr_u16(&b, bitmap);
    for (unsigned i = 0; i < 16; i++) {
        const child *c = &n->at[i];
        if (c->tag == ABSENT)
            continue;
        hm_wr_bool(&b, c->tag == LEAF);
        if (c->tag == LEAF) {
            hm_wr_raw(&b, c->path.b, HM_HASH_BYTES);
            hm_wr_raw(&b, c->value.b, HM_HASH_BYTES);
        } else {
            hm_wr_raw(&b, c->hash.b, HM_HASH_BYTES);
        }
    }
    hm_assert(hm_buf_status(&b) == HM_OK);
    return s->put(s->ctx, node_key(path, depth, key), hm_buf_bytes(&b));
}

// ---- update -------------------------------------------------------------------------------------

static hm_err update(const hm_tree_store *s, const hm_tree_change *ch, size_t count, unsigned depth,
                     child *c);

static void set_leaf(child *c, const hm_hash *path, const hm_hash *value)
{
    *c = (child){.tag = LEAF, .path = *path, .value = *value, .hash = leaf_hash(path, value)};
}

// Sends each change to the child that its nibble names, then stores the node or folds it away.
static hm_err update_node(const hm_tree_store *s, const hm_tree_change *ch, size_t count,
                          unsigned depth, bool stored, node *n, child *c)
{
    hm_hash path = ch[0].path; // all share the first `depth` nibbles
    for (size_t from = 0; from < count;) {
        unsigned i = nibble(&ch[from].path, depth);
        size_t to = from + 1;
        while (to < count && nibble(&ch[to].path, depth) == i)
            to++;
        HM_TRY(update(s, ch + from, to - from, depth + 1, &n->at[i]));
        from = to;
    }
    unsigned present = 0, last = 0;
    for (unsigned i = 0; i < 16; i++)
        if (n->at[i].tag != ABSENT) {
            present++;
            last = i;
        }
    bool fold = depth > 0 && (present == 0 || (present == 1 && n->at[last].tag == LEAF));
    if (!fold) {
        *c = (child){.tag = NODE, .hash = node_hash(n)};
        return node_store(s, &path, depth, n);
    }
    if (present == 0)
        *c = (child){0};
    else
        *c = n->at[last];
    if (!stored)
        return HM_OK;
    uint8_t key[HM_TREE_NODE_KEY_MAX];
    return s->del(s->ctx, node_key(&path, depth, key));
}

static hm_err update(const hm_tree_store *s, const hm_tree_change *ch, size_t count, unsigned depth,
                     child *c)
{
    node n = {0};
    if (c->tag == NODE) {
        HM_TRY(node_load(s, &ch[0].path, depth, &n));
        return update_node(s, ch, count, depth, true, &n, c);
    }
    // A leaf or nothing. One change to the same path (or to nothing) makes or unmakes a leaf.
    if (count == 1 && (c->tag == ABSENT || hm_hash_eq(&c->path, &ch[0].path))) {
        if (ch[0].deleted)
            *c = (child){0};
        else
            set_leaf(c, &ch[0].path, &ch[0].value);
        return HM_OK;
    }
    hm_assert(depth < HM_TREE_DEPTH_MAX); // distinct paths part before their end
    if (c->tag == LEAF)
        n.at[nibble(&c->path, depth)] = *c;
    return update_node(s, ch, count, depth, false, &n, c);
}

static int change_order(const void *a, const void *b)
{
    return memcmp(((const hm_tree_change *)a)->path.b, ((const hm_tree_change *)b)->path.b,
                  HM_HASH_BYTES);
}

hm_err hm_tree_update(const hm_tree_store *s, hm_tree_change *changes, size_t count, hm_hash *root)
{
    if (count == 0)
        return hm_tree_root(s, root);
    qsort(changes, count, sizeof *changes, change_order);
    node n;
    hm_err err = node_load(s, &changes[0].path, 0, &n);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    child c;
    HM_TRY(update_node(s, changes, count, 0, err == HM_OK, &n, &c));
    *root = c.hash;
    return HM_OK;
}

hm_err hm_tree_root(const hm_tree_store *s, hm_hash *root)
{
    node n;
    hm_hash none = {0};
    hm_err err = node_load(s, &none, 0, &n);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    *root = node_hash(&n);
    return HM_OK;
}

// ---- proofs -------------------------------------------------------------------------------------
// u8 number of nodes, then each as bitmap and hashes from the root down, then u8 0 if the last one
// has no child on the path, or 1 and path and value hash of the leaf that is that child.

hm_err hm_tree_prove(const hm_tree_store *s, hm_bytes key, hm_buf *proof)
{
    hm_hash path = hm_sha256(key);
    hm_buf nodes = {0};
    uint8_t depth = 0;
    const child *c = NULL;
    node n;
    hm_err err = HM_OK;
    do {
        err = node_load(s, &path, depth, &n);
        if (err == HM_E_NOTFOUND && depth == 0)
            err = HM_OK; // the empty state has an empty root that is not stored
        HM_TRY_OUT(err);
        node_image(&n, &nodes);
        c = &n.at[nibble(&path, depth)];
        depth++;
    } while (c->tag == NODE && depth < HM_TREE_DEPTH_MAX);
    hm_wr_u8(proof, depth);
    hm_buf_put(proof, hm_buf_bytes(&nodes));
    hm_wr_bool(proof, c->tag == LEAF);
    if (c->tag == LEAF) {
        hm_wr_raw(proof, c->path.b, HM_HASH_BYTES);
        hm_wr_raw(proof, c->value.b, HM_HASH_BYTES);
    }
    err = hm_buf_status(&nodes) != HM_OK ? hm_buf_status(&nodes) : hm_buf_status(proof);
out:
    hm_buf_free(&nodes);
    return err;
}

static hm_err wrong(const char *why)
{
    return hm_fail(HM_E_STATE_ROOT, "the proof is not of this root and key: %s", why);
}

hm_err hm_tree_verify(const hm_hash *root, hm_bytes key, hm_bytes proof, bool *present,
                      hm_hash *value)
{
    hm_hash path = hm_sha256(key);
    hm_rd r = hm_rd_of(proof);
    unsigned depth = hm_rd_u8(&r);
    if (hm_rd_ok(&r) && (depth == 0 || depth > HM_TREE_DEPTH_MAX))
        return hm_fail(HM_E_RANGE, "a proof of %u nodes", depth);
    hm_hash want = *root;
    bool has_child = true;
    for (unsigned d = 0; d < depth && hm_rd_ok(&r); d++) {
        if (!has_child)
            return wrong("a node has no child on the path, yet one follows");
        const uint8_t *start = r.ptr;
        uint16_t bitmap = hm_rd_u16(&r);
        unsigned count = (unsigned)__builtin_popcount(bitmap);
        hm_bytes hashes = hm_rd_raw(&r, (size_t)count * HM_HASH_BYTES);
        if (!hm_rd_ok(&r))
            break;
        uint8_t one = 1;
        hm_hash got = hm_sha256_2(hm_bytes_of(&one, 1), hm_bytes_of(start, 2 + hashes.len));
        if (!hm_hash_eq(&got, &want))
            return wrong("a node's hash differs");
        unsigned i = nibble(&path, d);
        has_child = bitmap >> i & 1;
        if (has_child) {
            unsigned before = (unsigned)__builtin_popcount(bitmap & ((1u << i) - 1u));
            memcpy(want.b, hashes.ptr + (size_t)before * HM_HASH_BYTES, HM_HASH_BYTES);
        }
    }
    bool leaf = hm_rd_bool(&r);
    hm_hash leaf_path = {0}, leaf_value = {0};
    if (leaf) {
        hm_rd_copy(&r, leaf_path.b, HM_HASH_BYTES);
        hm_rd_copy(&r, leaf_value.b, HM_HASH_BYTES);
    }
    HM_TRY(hm_rd_end(&r));
    if (leaf != has_child)
        return wrong("the last node and the leaf do not go together");
    *present = false;
    if (!leaf)
        return HM_OK;
    hm_hash got = leaf_hash(&leaf_path, &leaf_value);
    if (!hm_hash_eq(&got, &want))
        return wrong("the leaf's hash differs");
    for (unsigned d = 0; d < depth; d++)
        if (nibble(&leaf_path, d) != nibble(&path, d))
            return wrong("the leaf belongs elsewhere");
    if (hm_hash_eq(&leaf_path, &path)) {
        *present = true;
        *value = leaf_value;
    }
    return HM_OK;
}
