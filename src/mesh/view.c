#include <stdlib.h>

#include "mesh/ledger_internal.h"

// ---- life ---------------------------------------------------------------------------------------

hm_err view_make(hm_ledger *l, hm_view *parent, hm_view **out)
{
    hm_view *v = calloc(1, sizeof *v);
    if (v == NULL)
        return HM_E_NOMEM;
    v->ledger = l;
    v->refs = 1;
    v->on_disk = parent == NULL;
    v->parent = parent == NULL ? NULL : hm_view_ref(parent);
    v->executing = parent != NULL;
    v->height = parent == NULL ? 0 : parent->height + 1;
    l->views++;
    *out = v;
    return HM_OK;
}

hm_view *hm_view_ref(hm_view *v)
{
    v->refs++;
    return v;
}

void hm_view_release(hm_view *v)
{
    while (v != NULL && --v->refs == 0) {
        hm_view *parent = v->parent;
        hm_overlay_free(&v->kv);
        hm_overlay_free(&v->nodes);
        hm_buf_free(&v->block);
        v->ledger->views--;
        free(v);
        v = parent;
    }
}

uint64_t hm_view_height(const hm_view *v)
{
    return v->height;
}

hm_hash hm_view_block_id(const hm_view *v)
{
    return v->id;
}

const hm_block_header *hm_view_header(const hm_view *v)
{
    return v->has_header ? &v->header : NULL;
}

const hm_genesis *hm_view_genesis(const hm_view *v)
{
    return &v->ledger->genesis;
}

size_t hm_view_bytes(const hm_view *v)
{
    return sizeof *v + v->kv.arena.used_bytes + v->nodes.arena.used_bytes + v->block.cap;
}

bool hm_view_is_leaf(const hm_view *v)
{
    return v->refs == 1;
}

hm_err view_alive(const hm_view *v)
{
    const hm_view *base = v;
    while (!base->on_disk)
        base = base->parent;
    if (base != v->ledger->tip)
        return hm_fail(HM_E_CLOSED, "the view at height %llu is of an abandoned branch",
                       (unsigned long long)v->height);
    return HM_OK;
}

// ---- entries ------------------------------------------------------------------------------------

static hm_err layered_get(const hm_view *v, bool nodes, hm_bytes key, hm_bytes *value)
{
    for (; !v->on_disk; v = v->parent) {
        const hm_overlay_entry *e = hm_overlay_get(nodes ? &v->nodes : &v->kv, key);
        if (e == NULL)
            continue;
        if (e->deleted)
            return HM_E_NOTFOUND;
        *value = e->value;
        return HM_OK;
    }
    const hm_ledger *l = v->ledger;
    return store_get(l->read, nodes ? l->nodes : l->kv, key, value);
}

hm_err hm_view_get(const hm_view *v, hm_bytes key, hm_bytes *value)
{
    HM_TRY(view_alive(v));
    return layered_get(v, false, key, value);
}

static hm_err view_write(hm_view *v, hm_bytes key, hm_bytes value, bool deleted)
{
    hm_assert(v->executing);
    if (key.len == 0 || key.len > HM_KEY_MAX || value.len > HM_VALUE_MAX)
        return hm_fail(HM_E_LIMIT, "an entry with a key of %zu and a value of %zu bytes", key.len,
                       value.len);
    return hm_overlay_put(&v->kv, key, value, deleted);
}

hm_err hm_view_put(hm_view *v, hm_bytes key, hm_bytes value)
{
    return view_write(v, key, value, false);
}

hm_err hm_view_del(hm_view *v, hm_bytes key)
{
    return view_write(v, key, (hm_bytes){0}, true);
}

static bool has_prefix(hm_bytes key, hm_bytes prefix)
{
    return key.len >= prefix.len && memcmp(key.ptr, prefix.ptr, prefix.len) == 0;
}

// One step over all layers: the least key after `at`, or the greatest before it. The newest layer
// that has the key decides what it holds, a deletion too.
static hm_err layered_step(const hm_view *v, hm_bytes at, bool inclusive, bool down, hm_bytes *key,
                           hm_bytes *value, bool *deleted)
{
    bool found = false;
    const hm_view *layer = v;
    for (; !layer->on_disk; layer = layer->parent) {
        const hm_overlay_entry *e =
            down ? hm_overlay_before(&layer->kv, at) : hm_overlay_seek(&layer->kv, at, !inclusive);
        if (e == NULL)
            continue;
        int order = found ? hm_bytes_cmp(e->key, *key) : 0;
        if (!found || (down ? order > 0 : order < 0)) {
            found = true;
            *key = e->key;
            *value = e->value;
            *deleted = e->deleted;
        }
    }
    const hm_ledger *l = layer->ledger;
    hm_bytes k, val;
    hm_err err = down ? store_before(l->read, l->kv, at, &k, &val)
                      : store_seek(l->read, l->kv, at, !inclusive, &k, &val);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    if (err == HM_OK) {
        int order = found ? hm_bytes_cmp(k, *key) : 0;
        if (!found || (down ? order > 0 : order < 0)) {
            found = true;
            *key = k;
            *value = val;
            *deleted = false;
        }
    }
    return found ? HM_OK : HM_E_NOTFOUND;
}

hm_err hm_view_next(const hm_view *v, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                    hm_bytes *value)
{
    HM_TRY(view_alive(v));
    bool inclusive = after.len == 0;
    hm_bytes at = inclusive ? prefix : after, k, val;
    bool deleted = false;
    for (;;) {
        HM_TRY(layered_step(v, at, inclusive, false, &k, &val, &deleted));
        if (!has_prefix(k, prefix))
            return HM_E_NOTFOUND;
        if (!deleted)
            break;
        at = k;
        inclusive = false;
    }
    *key = k;
    *value = val;
    return HM_OK;
}

hm_err hm_view_prev(const hm_view *v, hm_bytes prefix, hm_bytes before, hm_bytes *key,
                    hm_bytes *value)
{
    HM_TRY(view_alive(v));
    uint8_t mem[HM_KEY_MAX + 1];
    hm_bytes at = before, k, val;
    bool deleted = false;
    if (before.len == 0) {
        // Above all keys with the prefix: a key is at most HM_KEY_MAX long.
        if (prefix.len > HM_KEY_MAX)
            return HM_E_NOTFOUND;
        memcpy(mem, prefix.ptr, prefix.len);
        memset(mem + prefix.len, 0xff, sizeof mem - prefix.len);
        at = hm_bytes_of(mem, sizeof mem);
    }
    for (;;) {
        HM_TRY(layered_step(v, at, false, true, &k, &val, &deleted));
        if (!has_prefix(k, prefix))
            return HM_E_NOTFOUND;
        if (!deleted)
            break;
        at = k;
    }
    *key = k;
    *value = val;
    return HM_OK;
}

// ---- the tree -----------------------------------------------------------------------------------

static hm_err node_get(void *ctx, hm_bytes key, hm_bytes *value)
{
    return layered_get(ctx, true, key, value);
}
static hm_err node_put(void *ctx, hm_bytes key, hm_bytes value)
{
    return hm_overlay_put(&((hm_view *)ctx)->nodes, key, value, false);
}
static hm_err node_del(void *ctx, hm_bytes key)
{
    return hm_overlay_put(&((hm_view *)ctx)->nodes, key, (hm_bytes){0}, true);
}

static hm_tree_store tree_of(const hm_view *v)
{
    return (hm_tree_store){node_get, node_put, node_del, (void *)v};
}

hm_err view_seal(hm_view *v)
{
    hm_tree_change *changes = calloc(v->kv.count + 1, sizeof *changes);
    if (changes == NULL)
        return HM_E_NOMEM;
    size_t count = 0;
    for (const hm_overlay_entry *e = hm_overlay_first(&v->kv); e != NULL; e = e->next[0]) {
        if (e->key.ptr[0] & HM_KEY_DERIVED)
            continue;
        hm_tree_change *c = &changes[count++];
        c->path = hm_sha256(e->key);
        c->deleted = e->deleted;
        if (!e->deleted)
            c->value = hm_sha256(e->value);
    }
    hm_tree_store s = tree_of(v);
    hm_err err = hm_tree_update(&s, changes, count, &v->root);
    free(changes);
    if (err == HM_OK)
        v->executing = false;
    return err;
}

hm_err hm_view_root(const hm_view *v, hm_hash *root)
{
    if (v->executing)
        return hm_fail(HM_E_AGAIN, "the block of this view is being executed");
    *root = v->root;
    return HM_OK;
}

hm_err hm_view_prove(const hm_view *v, hm_bytes key, hm_buf *proof)
{
    HM_TRY(view_alive(v));
    if (v->executing)
        return hm_fail(HM_E_AGAIN, "the block of this view is being executed");
    if (key.len == 0 || (key.ptr[0] & HM_KEY_DERIVED))
        return hm_fail(HM_E_INVALID, "an index entry is not under the root");
    hm_tree_store s = tree_of(v);
    return hm_tree_prove(&s, key, proof);
}
