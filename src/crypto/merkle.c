// Merkle trees of RFC 9162 section 2.1: for n > 1 leaves the left subtree holds the largest power
// of two smaller than n.
#include "crypto/crypto.h"

hm_hash hm_merkle_leaf(hm_bytes data)
{
    static const uint8_t prefix = 0x00;
    return hm_sha256_2(hm_bytes_of(&prefix, 1), data);
}

hm_hash hm_merkle_node(const hm_hash *left, const hm_hash *right)
{
    uint8_t both[1 + 2 * HM_HASH_BYTES];
    both[0] = 0x01;
    memcpy(both + 1, left->b, HM_HASH_BYTES);
    memcpy(both + 1 + HM_HASH_BYTES, right->b, HM_HASH_BYTES);
    return hm_sha256(hm_bytes_of(both, sizeof both));
}

// The largest power of two smaller than n, for n > 1.
static size_t split(size_t n)
{
    size_t k = 1;
    while (k < n - k)
        k *= 2;
    return k;
}

hm_hash hm_merkle_root(const hm_hash *leaves, size_t count)
{
    if (count == 0)
        return hm_sha256(hm_bytes_of(NULL, 0));
    // A stack of complete subtrees, largest first: push a leaf, then join equals, as a binary
    // counter carries; what is left is joined from the right.
    hm_hash stack[HM_MERKLE_PATH_MAX];
    size_t depth = 0;
    for (size_t i = 0; i < count; i++) {
        stack[depth++] = leaves[i];
        for (size_t carry = i; carry & 1; carry >>= 1) {
            stack[depth - 2] = hm_merkle_node(&stack[depth - 2], &stack[depth - 1]);
            depth--;
        }
    }
    while (depth > 1) {
        stack[depth - 2] = hm_merkle_node(&stack[depth - 2], &stack[depth - 1]);
        depth--;
    }
    return stack[0];
}

void hm_merkle_path(const hm_hash *leaves, size_t count, size_t index, hm_hash *path,
                    size_t *path_len)
{
    hm_assert(index < count);
    // Walked from the root down, so the entries come highest first and are turned round.
    size_t n = 0;
    while (count > 1) {
        size_t k = split(count);
        if (index < k) {
            path[n++] = hm_merkle_root(leaves + k, count - k);
            count = k;
        } else {
            path[n++] = hm_merkle_root(leaves, k);
            leaves += k;
            index -= k;
            count -= k;
        }
    }
    for (size_t i = 0; i < n / 2; i++) {
        hm_hash t = path[i];
        path[i] = path[n - 1 - i];
        path[n - 1 - i] = t;
    }
    *path_len = n;
}

bool hm_merkle_verify(const hm_hash *root, uint64_t count, uint64_t index, const hm_hash *leaf,
                      const hm_hash *path, size_t path_len)
{
    // RFC 9162 section 2.1.3.2.
    if (index >= count || path_len > HM_MERKLE_PATH_MAX)
        return false;
    uint64_t fn = index;
    uint64_t sn = count - 1;
    hm_hash r = *leaf;
    for (size_t i = 0; i < path_len; i++) {
        if (sn == 0)
            return false;
        if ((fn & 1) || fn == sn) {
            r = hm_merkle_node(&path[i], &r);
            while (!(fn & 1) && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            r = hm_merkle_node(&r, &path[i]);
        }
        fn >>= 1;
        sn >>= 1;
    }
    return sn == 0 && hm_hash_eq(&r, root);
}
