#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "trustchain/store.h"

static char base[] = "/tmp/hm-store-XXXXXX";
static tc_store *s;

static int setup(void **state)
{
    (void)state;
    return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

static void put(const char *key, const char *value)
{
    assert_int_equal(tc_store_put(s, TC_KV, hm_bytes_str(key), hm_bytes_str(value)), HM_OK);
}

static bool has(const char *key, const char *value)
{
    hm_bytes v;
    return tc_store_get(s, TC_KV, hm_bytes_str(key), &v) == HM_OK &&
           hm_bytes_eq(v, hm_bytes_str(value));
}

static void what_was_committed_is_there(void **state)
{
    (void)state;
    uint64_t n;
    hm_bytes v;
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("a/1", "one");
    put("a/2", "two");
    assert_true(has("a/1", "one")); // a transaction sees its own
    tc_store_abort(s);
    assert_int_equal(tc_store_get(s, TC_KV, hm_bytes_str("a/1"), &v), HM_E_NOTFOUND);
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("a/1", "one");
    put("a/2", "two");
    put("b/1", "three");
    assert_int_equal(tc_store_commit(s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("a/3", "lost");
    tc_store_close(s); // gives it up
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_true(has("a/1", "one") && has("a/2", "two") && has("b/1", "three"));
    assert_int_equal(tc_store_count(s, TC_KV, &n), HM_OK);
    assert_int_equal(n, 3);
    assert_int_equal(tc_store_count(s, TC_CERTS, &n), HM_OK);
    assert_int_equal(n, 0);
    assert_int_equal(tc_store_begin(s), HM_OK);
    assert_int_equal(tc_store_del(s, TC_KV, hm_bytes_str("b/1")), HM_OK);
    assert_int_equal(tc_store_del(s, TC_KV, hm_bytes_str("b/1")), HM_OK);
    assert_int_equal(tc_store_commit(s), HM_OK);
    assert_false(has("b/1", "three"));
    tc_store_close(s);
}

static void a_walk_stays_below_its_prefix(void **state)
{
    (void)state;
    const char *keys[] = {"p", "w/", "w/a", "w/b", "w/c", "x/a"};
    hm_bytes prefix = hm_bytes_str("w/"), key = {0}, value, none = {0};
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        put(keys[i], "v");
    assert_int_equal(tc_store_commit(s), HM_OK);
    for (size_t i = 1; i <= 4; i++) { // up, from nothing
        assert_int_equal(tc_store_next(s, TC_KV, prefix, i == 1 ? none : key, &key, &value), HM_OK);
        assert_true(hm_bytes_eq(key, hm_bytes_str(keys[i])));
    }
    assert_int_equal(tc_store_next(s, TC_KV, prefix, key, &key, &value), HM_E_NOTFOUND);
    key = hm_bytes_str("w/\xff");
    for (size_t i = 4; i >= 1; i--) { // down
        assert_int_equal(tc_store_prev(s, TC_KV, prefix, key, &key, &value), HM_OK);
        assert_true(hm_bytes_eq(key, hm_bytes_str(keys[i])));
    }
    assert_int_equal(tc_store_prev(s, TC_KV, prefix, key, &key, &value), HM_E_NOTFOUND);
    // Above the last key of all, and in an empty table.
    assert_int_equal(tc_store_prev(s, TC_KV, hm_bytes_str("x/"), hm_bytes_str("x/z"), &key, &value),
                     HM_OK);
    assert_int_equal(tc_store_next(s, TC_ORDER, none, none, &key, &value), HM_E_NOTFOUND);
    tc_store_close(s);
}

static void keys_have_a_limit(void **state)
{
    (void)state;
    char key[TC_STORE_KEY_MAX + 1];
    memset(key, 'k', sizeof key);
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    hm_bytes none = {0};
    assert_int_equal(tc_store_put(s, TC_KV, hm_bytes_of(key, sizeof key), none), HM_E_LIMIT);
    assert_int_equal(tc_store_put(s, TC_KV, none, none), HM_E_LIMIT);
    assert_int_equal(tc_store_put(s, TC_KV, hm_bytes_of(key, TC_STORE_KEY_MAX), none), HM_OK);
    assert_int_equal(tc_store_commit(s), HM_OK);
    tc_store_close(s);
}

static void a_transaction_within_another_is_taken_back_alone(void **state)
{
    (void)state;
    hm_bytes v;
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("n/1", "outer");
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("n/1", "inner");
    put("n/2", "inner");
    tc_store_abort(s);
    assert_true(has("n/1", "outer"));
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("n/3", "inner");
    assert_int_equal(tc_store_commit(s), HM_OK);
    assert_true(has("n/3", "inner"));
    assert_int_equal(tc_store_commit(s), HM_OK);
    assert_true(has("n/1", "outer") && has("n/3", "inner"));
    assert_int_equal(tc_store_get(s, TC_KV, hm_bytes_str("n/2"), &v), HM_E_NOTFOUND);
    // What the inner one committed goes with the outer one.
    assert_int_equal(tc_store_begin(s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("n/4", "inner");
    assert_int_equal(tc_store_commit(s), HM_OK);
    tc_store_abort(s);
    assert_int_equal(tc_store_get(s, TC_KV, hm_bytes_str("n/4"), &v), HM_E_NOTFOUND);
    assert_int_equal(tc_store_begin(s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("n/5", "inner");
    tc_store_close(s); // gives both up
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_int_equal(tc_store_get(s, TC_KV, hm_bytes_str("n/5"), &v), HM_E_NOTFOUND);
    tc_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_committed_is_there),
        cmocka_unit_test(a_walk_stays_below_its_prefix),
        cmocka_unit_test(keys_have_a_limit),
        cmocka_unit_test(a_transaction_within_another_is_taken_back_alone),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
