#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "trustchain/log.h"

#define LEAVES 600u

static hm_hash leaves[LEAVES];
static hm_hash nodes[3][LEAVES]; // by level
static size_t kept[3];

static hm_err keep(void *ctx, unsigned level, uint64_t index, const hm_hash *hash)
{
    (void)ctx;
    assert_true(level < 3);
    assert_int_equal(index, kept[level]); // each once, in order
    nodes[level][kept[level]++] = *hash;
    return HM_OK;
}

static hm_err give(void *ctx, unsigned level, uint64_t index, hm_hash *hash)
{
    (void)ctx;
    assert_true(level < 3 && index < kept[level]);
    *hash = nodes[level][index];
    return HM_OK;
}

static hm_err refuse(void *ctx, unsigned level, uint64_t index, hm_hash *hash)
{
    (void)ctx;
    (void)level;
    (void)index;
    (void)hash;
    return HM_E_IO;
}

static void fill(tc_log_tree *t)
{
    *t = (tc_log_tree){0};
    memset(kept, 0, sizeof kept);
    for (uint32_t i = 0; i < LEAVES; i++) {
        uint8_t data[4] = {(uint8_t)(i >> 8), (uint8_t)i, 7, 9};
        leaves[i] = hm_merkle_leaf(hm_bytes_of(data, sizeof data));
        assert_int_equal(tc_log_push(t, &leaves[i], keep, NULL), HM_OK);
        hm_hash root = hm_merkle_root(leaves, i + 1), now = tc_log_root(t);
        assert_true(hm_hash_eq(&root, &now));
    }
    assert_int_equal(kept[0], LEAVES);
    assert_int_equal(kept[1], LEAVES / 256);
}

static void roots_are_those_of_the_whole_tree(void **state)
{
    (void)state;
    tc_log_tree t = {0};
    hm_hash a, b = tc_log_root(&t);
    assert_int_equal(tc_log_root_at(give, NULL, 0, &a), HM_OK);
    assert_true(hm_hash_eq(&a, &b));
    fill(&t);
    for (size_t n = 1; n <= LEAVES; n++) {
        a = hm_merkle_root(leaves, n);
        assert_int_equal(tc_log_root_at(give, NULL, n, &b), HM_OK);
        assert_true(hm_hash_eq(&a, &b));
    }
    assert_int_equal(tc_log_root_at(refuse, NULL, 5, &b), HM_E_IO);
}

static void inclusion_is_proven_for_every_entry(void **state)
{
    (void)state;
    tc_log_tree t;
    hm_hash proof[TC_PROOF_MAX], path[HM_MERKLE_PATH_MAX];
    size_t n, m;
    fill(&t);
    for (size_t size = 1; size <= LEAVES; size += size < 70 ? 1 : 97) {
        hm_hash root = hm_merkle_root(leaves, size);
        for (size_t i = 0; i < size; i += size < 70 ? 1 : 13) {
            assert_int_equal(tc_log_inclusion(give, NULL, i, size, proof, &n), HM_OK);
            hm_merkle_path(leaves, size, i, path, &m);
            assert_int_equal(n, m);
            assert_memory_equal(proof, path, n * sizeof *proof);
            assert_true(hm_merkle_verify(&root, size, i, &leaves[i], proof, n));
        }
    }
    assert_int_equal(tc_log_inclusion(give, NULL, 5, 5, proof, &n), HM_E_RANGE);
}

static void consistency_is_proven_for_every_pair(void **state)
{
    (void)state;
    tc_log_tree t;
    hm_hash proof[TC_PROOF_MAX];
    size_t n;
    fill(&t);
    for (size_t size = 1; size <= LEAVES; size += size < 70 ? 1 : 53) {
        hm_hash root = hm_merkle_root(leaves, size);
        for (size_t old = 1; old <= size; old += size < 70 ? 1 : 17) {
            hm_hash before = hm_merkle_root(leaves, old), other = root;
            assert_int_equal(tc_log_consistency(give, NULL, old, size, proof, &n), HM_OK);
            assert_true(tc_log_consistent(old, &before, size, &root, proof, n));
            other.b[5] ^= 1;
            assert_false(tc_log_consistent(old, &before, size, &other, proof, n));
            assert_false(tc_log_consistent(old, &other, size, &root, proof, n));
            if (n > 0) {
                assert_false(tc_log_consistent(old, &before, size, &root, proof, n - 1));
                proof[n / 2].b[0] ^= 1;
                assert_false(tc_log_consistent(old, &before, size, &root, proof, n));
            }
        }
    }
    assert_int_equal(tc_log_consistency(give, NULL, 0, 5, proof, &n), HM_E_RANGE);
    assert_int_equal(tc_log_consistency(give, NULL, 6, 5, proof, &n), HM_E_RANGE);
}

// RFC 9162, 2.1.5: the tree of seven leaves and its proofs.
static void the_example_of_the_rfc(void **state)
{
    (void)state;
    tc_log_tree t;
    hm_hash proof[TC_PROOF_MAX];
    size_t n;
    fill(&t);
    hm_hash *d = leaves, g = hm_merkle_node(&d[0], &d[1]), h = hm_merkle_node(&d[2], &d[3]),
            i = hm_merkle_node(&d[4], &d[5]), k = hm_merkle_node(&g, &h),
            l = hm_merkle_node(&i, &d[6]);
    const struct {
        bool inclusion;
        uint64_t from;
        size_t count;
        const hm_hash *want[4];
    } rows[] = {
        {true, 0, 3, {&d[1], &h, &l}},         {true, 3, 3, {&d[2], &g, &l}},
        {true, 4, 3, {&d[5], &d[6], &k}},      {true, 6, 2, {&i, &k}},
        {false, 3, 4, {&d[2], &d[3], &g, &l}}, {false, 4, 1, {&l}},
        {false, 6, 3, {&i, &d[6], &k}},
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (rows[r].inclusion)
            assert_int_equal(tc_log_inclusion(give, NULL, rows[r].from, 7, proof, &n), HM_OK);
        else
            assert_int_equal(tc_log_consistency(give, NULL, rows[r].from, 7, proof, &n), HM_OK);
        assert_int_equal(n, rows[r].count);
        for (size_t p = 0; p < n; p++)
            assert_true(hm_hash_eq(&proof[p], rows[r].want[p]));
    }
}

static void a_log_has_an_end(void **state)
{
    (void)state;
    tc_log_tree t = {.size = TC_LOG_SIZE_MAX};
    hm_hash leaf = {0};
    assert_int_equal(tc_log_push(&t, &leaf, keep, NULL), HM_E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_are_those_of_the_whole_tree),
        cmocka_unit_test(inclusion_is_proven_for_every_entry),
        cmocka_unit_test(consistency_is_proven_for_every_pair),
        cmocka_unit_test(the_example_of_the_rfc),
        cmocka_unit_test(a_log_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
