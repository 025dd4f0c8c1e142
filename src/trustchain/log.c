#include "trustchain/log.h"

hm_err tc_log_push(tc_log_tree *t, const hm_hash *leaf, tc_log_keep keep, void *ctx)
{
    hm_hash h = *leaf;
    unsigned height = 0, depth = (unsigned)__builtin_popcountll(t->size);
    if (t->size >= TC_LOG_SIZE_MAX)
        return hm_fail(HM_E_LIMIT, "the transparency log holds as much as it can");
    HM_TRY(keep(ctx, 0, t->size, &h));
    for (uint64_t carry = t->size; carry & 1; carry >>= 1) {
        h = hm_merkle_node(&t->edge[--depth], &h);
        if (++height % TC_TILE_HEIGHT == 0)
            HM_TRY(keep(ctx, height / TC_TILE_HEIGHT, t->size >> height, &h));
    }
    t->edge[depth] = h;
    t->size++;
    return HM_OK;
}

hm_hash tc_log_root(const tc_log_tree *t)
{
    unsigned depth = (unsigned)__builtin_popcountll(t->size);
    if (depth == 0)
        return hm_sha256(hm_bytes_of(NULL, 0));
    hm_hash h = t->edge[--depth];
    while (depth > 0)
        h = hm_merkle_node(&t->edge[--depth], &h);
    return h;
}

typedef struct source {
    tc_log_node node;
    void *ctx;
} source;

// The complete subtree number index of a height.
static hm_err subtree(const source *s, unsigned height, uint64_t index, hm_hash *out)
{
    hm_hash left, right;
    if (height % TC_TILE_HEIGHT == 0)
        return s->node(s->ctx, height / TC_TILE_HEIGHT, index, out);
    HM_TRY(subtree(s, height - 1, 2 * index, &left));
    HM_TRY(subtree(s, height - 1, 2 * index + 1, &right));
    *out = hm_merkle_node(&left, &right);
    return HM_OK;
}

// The largest power of two smaller than n > 1, as an exponent.
static unsigned split(uint64_t n)
{
    return 63u - (unsigned)__builtin_clzll(n - 1);
}

// MTH(D[begin:begin + n]), n > 0; begin is a multiple of the power of two that is at least n.
static hm_err range(const source *s, uint64_t begin, uint64_t n, hm_hash *out)
{
    hm_hash right, left;
    if ((n & (n - 1)) == 0) {
        unsigned height = (unsigned)__builtin_ctzll(n);
        return subtree(s, height, begin >> height, out);
    }
    unsigned height = split(n);
    uint64_t k = UINT64_C(1) << height;
    HM_TRY(subtree(s, height, begin >> height, &left));
    HM_TRY(range(s, begin + k, n - k, &right));
    *out = hm_merkle_node(&left, &right);
    return HM_OK;
}

hm_err tc_log_root_at(tc_log_node node, void *ctx, uint64_t size, hm_hash *root)
{
    const source s = {node, ctx};
    if (size > 0)
        return range(&s, 0, size, root);
    *root = hm_sha256(hm_bytes_of(NULL, 0));
    return HM_OK;
}

static void turn_round(hm_hash *h, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        hm_hash t = h[i];
        h[i] = h[n - 1 - i];
        h[n - 1 - i] = t;
    }
}

hm_err tc_log_inclusion(tc_log_node node, void *ctx, uint64_t index, uint64_t size,
                        hm_hash proof[TC_PROOF_MAX], size_t *count)
{
    const source s = {node, ctx};
    uint64_t begin = 0;
    size_t n = 0;
    if (index >= size)
        return hm_fail(HM_E_RANGE, "no entry %llu in a tree of %llu", (unsigned long long)index,
                       (unsigned long long)size);
    while (size > 1) { // from the root down, so the highest comes first
        uint64_t k = UINT64_C(1) << split(size);
        if (index < k) {
            HM_TRY(range(&s, begin + k, size - k, &proof[n++]));
            size = k;
        } else {
            HM_TRY(range(&s, begin, k, &proof[n++]));
            begin += k;
            index -= k;
            size -= k;
        }
    }
    turn_round(proof, n);
    *count = n;
    return HM_OK;
}

hm_err tc_log_consistency(tc_log_node node, void *ctx, uint64_t old_size, uint64_t size,
                          hm_hash proof[TC_PROOF_MAX], size_t *count)
{
    const source s = {node, ctx};
    uint64_t begin = 0;
    size_t n = 0;
    bool whole = true; // the subtree that is left has the old root as its own
    if (old_size == 0 || old_size > size)
        return hm_fail(HM_E_RANGE, "a tree of %llu does not begin with one of %llu",
                       (unsigned long long)size, (unsigned long long)old_size);
    while (old_size < size) {
        uint64_t k = UINT64_C(1) << split(size);
        if (old_size <= k) {
            HM_TRY(range(&s, begin + k, size - k, &proof[n++]));
            size = k;
        } else {
            HM_TRY(range(&s, begin, k, &proof[n++]));
            begin += k;
            old_size -= k;
            size -= k;
            whole = false;
        }
    }
    if (!whole)
        HM_TRY(range(&s, begin, size, &proof[n++]));
    turn_round(proof, n);
    *count = n;
    return HM_OK;
}

bool tc_log_consistent(uint64_t old_size, const hm_hash *old_root, uint64_t size,
                       const hm_hash *root, const hm_hash *proof, size_t count)
{
    if (old_size == size)
        return count == 0 && hm_hash_eq(old_root, root);
    if (old_size == 0 || old_size > size || size > TC_LOG_SIZE_MAX || count > TC_PROOF_MAX)
        return false;
    uint64_t fn = old_size - 1, sn = size - 1;
    size_t i = 0;
    while (fn & 1) {
        fn >>= 1;
        sn >>= 1;
    }
    // An old tree that is complete is its own first hash.
    if (fn != 0 && count == 0)
        return false;
    hm_hash old = fn != 0 ? proof[i++] : *old_root, now = old;
    for (; i < count; i++) {
        if (sn == 0)
            return false;
        if ((fn & 1) || fn == sn) {
            old = hm_merkle_node(&proof[i], &old);
            now = hm_merkle_node(&proof[i], &now);
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            now = hm_merkle_node(&now, &proof[i]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    return sn == 0 && hm_hash_eq(&old, old_root) && hm_hash_eq(&now, root);
}
