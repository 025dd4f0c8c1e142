#include "base/bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static unsigned take_all(hm_bucket *b, uint32_t rate, uint64_t now_us)
{
    unsigned n = 0;
    while (hm_bucket_take(b, rate, now_us))
        n++;
    return n;
}

static void test_burst_and_rate(void **state)
{
    (void)state;
    uint64_t now = 7000000;
    hm_bucket b = hm_bucket_full(10, now);
    assert_int_equal(take_all(&b, 10, now), 20); // twice the rate at once
    assert_false(hm_bucket_take(&b, 10, now + 99999));
    assert_true(
        hm_bucket_take(&b, 10, now + 100000)); // one a tenth of a second, to the microsecond
    assert_int_equal(take_all(&b, 10, now + 1100000), 10);
    assert_int_equal(take_all(&b, 10, now + 1000000000), 20); // and no more after any rest
    // Asked in small steps it gives as much as in large ones.
    unsigned n = 0;
    now += 1000000000;
    for (unsigned us = 0; us < 3000000; us += 333)
        n += hm_bucket_take(&b, 10, now + us);
    assert_in_range(n, 29, 30);
}

static void test_fresh_is_full_after_a_rest(void **state)
{
    (void)state;
    hm_bucket b = {0};
    assert_int_equal(take_all(&b, 3, UINT64_C(1764000000000000)), 6);
    b = (hm_bucket){0};
    assert_int_equal(take_all(&b, 3, 0), 0);
}

static void test_clock_set_back(void **state)
{
    (void)state;
    uint64_t now = 50000000;
    hm_bucket b = hm_bucket_full(5, now);
    assert_int_equal(take_all(&b, 5, now), 10);
    now -= 40000000;
    assert_int_equal(take_all(&b, 5, now), 0);
    assert_int_equal(take_all(&b, 5, now + 1000000), 5); // and goes on from there
}

static void test_wait(void **state)
{
    (void)state;
    uint64_t now = 9000000;
    hm_bucket b = hm_bucket_full(1, now);
    assert_int_equal(take_all(&b, 1, now), 2);
    assert_int_equal(hm_bucket_wait_s(&b, 1), 1);
    b = hm_bucket_full(1000, now);
    assert_int_equal(take_all(&b, 1000, now), 2000);
    assert_int_equal(hm_bucket_wait_s(&b, 1000), 1); // never "at once" to who was refused
    assert_false(hm_bucket_rested(&b, now + HM_BUCKET_BURST_US - 1));
    assert_true(hm_bucket_rested(&b, now + HM_BUCKET_BURST_US));
}

static void test_largest_rate(void **state)
{
    (void)state;
    hm_bucket b = hm_bucket_full(UINT32_MAX, 1);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(hm_bucket_take(&b, UINT32_MAX, 1));
    assert_true(hm_bucket_take(&b, UINT32_MAX, UINT64_MAX)); // no overflow
    assert_true(b.tokens_micro <= UINT32_MAX * HM_BUCKET_BURST_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_burst_and_rate), cmocka_unit_test(test_fresh_is_full_after_a_rest),
        cmocka_unit_test(test_clock_set_back), cmocka_unit_test(test_wait),
        cmocka_unit_test(test_largest_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
