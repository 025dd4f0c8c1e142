#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mesh/proof_work.h"

static void solved_is_accepted_and_bound_to_its_digest(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        hm_hash d = {{(uint8_t)i}}, other = {{(uint8_t)i, 1}};
        uint64_t nonce, tries;
        assert_int_equal(hm_work_solve(&d, 20000, NULL, &nonce, &tries), HM_OK);
        assert_true(hm_work_check(&d, 20000, nonce));
        assert_true(hm_work_check(&d, 1, nonce));
        assert_false(hm_work_check(&other, 20000, nonce) && hm_work_check(&d, 20000, nonce + 1));
    }
}

static void difficulty_is_the_mean_number_of_tries(void **state)
{
    (void)state;
    uint64_t total = 0;
    for (int i = 0; i < 4000; i++) {
        hm_hash d = {{(uint8_t)i, (uint8_t)(i >> 8), 7}};
        uint64_t nonce, tries;
        assert_int_equal(hm_work_solve(&d, 500, NULL, &nonce, &tries), HM_OK);
        total += tries;
    }
    // 4000 draws of a geometric distribution: the mean is within 8 % (5 sigma).
    assert_in_range(total / 4000, 460, 540);
}

static void zero_and_excessive_difficulty_and_cancel(void **state)
{
    (void)state;
    hm_hash d = {{9}};
    uint64_t nonce = 0;
    assert_false(hm_work_check(&d, 0, 0));
    assert_false(hm_work_check(&d, UINT64_MAX, 1));
    assert_int_equal(hm_work_solve(&d, 0, NULL, &nonce, NULL), HM_E_RANGE);
    assert_int_equal(hm_work_solve(&d, HM_WORK_DIFFICULTY_MAX + 1ull, NULL, &nonce, NULL),
                     HM_E_RANGE);
    _Atomic bool cancel = true;
    assert_int_equal(hm_work_solve(&d, HM_WORK_DIFFICULTY_MAX, &cancel, &nonce, NULL), HM_E_CLOSED);
}

static void difficulty_follows_load_within_bounds(void **state)
{
    (void)state;
    hm_prng r;
    hm_prng_seed(&r, 3);
    uint64_t d = HM_WORK_DIFFICULTY_MIN;
    for (int i = 0; i < 100000; i++) {
        uint32_t target = 1 + (uint32_t)hm_prng_below(&r, 5000);
        uint32_t ops = (uint32_t)hm_prng_below(&r, i % 3 ? 3ull * target : 1ull << 32);
        uint64_t next = hm_work_next(d, ops, target);
        assert_in_range(next, HM_WORK_DIFFICULTY_MIN, HM_WORK_DIFFICULTY_MAX);
        uint64_t most = d / HM_WORK_STEP + 1;
        assert_true(next <= d + most && next + most >= d);
        if (ops > target + target / 512)
            assert_true(next > d || d == HM_WORK_DIFFICULTY_MAX);
        if (ops < target)
            assert_true(next < d || d == HM_WORK_DIFFICULTY_MIN);
        if (ops == target)
            assert_int_equal(next, d);
        d = next;
    }
    // Steady overload reaches the top, idling the bottom.
    int blocks = 0;
    for (d = HM_WORK_DIFFICULTY_MIN; d < HM_WORK_DIFFICULTY_MAX; blocks++)
        d = hm_work_next(d, UINT32_MAX, 1);
    assert_in_range(blocks, 90, 130);
    for (blocks = 0; d > HM_WORK_DIFFICULTY_MIN; blocks++)
        d = hm_work_next(d, 0, 1000);
    assert_in_range(blocks, 80, 130);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(solved_is_accepted_and_bound_to_its_digest),
        cmocka_unit_test(difficulty_is_the_mean_number_of_tries),
        cmocka_unit_test(zero_and_excessive_difficulty_and_cancel),
        cmocka_unit_test(difficulty_follows_load_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
