#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

static unsigned keys_in(tc_table t)
{
    hm_bytes none = {0}, key = none, value;
    unsigned n = 0;
    while (tc_store_next(s, t, none, key, &key, &value) == HM_OK)
        n++;
    return n;
}

static void what_was_committed_is_there(void **state)
{
    (void)state;
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
    assert_int_equal(keys_in(TC_KV), 3);
    assert_int_equal(keys_in(TC_CERTS), 0);
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
    assert_int_equal(tc_store_del(s, TC_KV, none), HM_E_LIMIT);
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

// ---- against a model ----------------------------------------------------------------------------

#define KEYS 64u
#define VALUE_MAX 60000u
static const tc_table model_tables[2] = {TC_NAMES, TC_KV};

typedef struct model {
    uint32_t value[2][KEYS]; // its seed; 0: not there
} model;

static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static hm_bytes key_of(unsigned k, char mem[16])
{
    snprintf(mem, 16, "k/%03u", k);
    return hm_bytes_str(mem);
}

// The bytes that belong to a seed: many of a page, some of many.
static hm_bytes value_of(uint32_t v)
{
    static uint8_t bytes[VALUE_MAX];
    size_t len = v % 7 == 0 ? v % VALUE_MAX : v % 300;
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(v + i * 31 + (i >> 8));
    return hm_bytes_of(bytes, len);
}

static void check(tc_store *of, const model *m)
{
    char mem[16], at[16];
    for (unsigned t = 0; t < 2; t++) {
        hm_bytes value, key = {0}, prefix = hm_bytes_str("k/");
        for (unsigned k = 0; k < KEYS; k++) {
            hm_err err = tc_store_get(of, model_tables[t], key_of(k, mem), &value);
            assert_int_equal(err, m->value[t][k] == 0 ? HM_E_NOTFOUND : HM_OK);
            if (err == HM_OK)
                assert_true(hm_bytes_eq(value, value_of(m->value[t][k])));
        }
        for (unsigned k = 0; k < KEYS; k++) { // up
            if (m->value[t][k] == 0)
                continue;
            assert_int_equal(tc_store_next(of, model_tables[t], prefix, key, &key, &value), HM_OK);
            assert_true(hm_bytes_eq(key, key_of(k, mem)));
            assert_true(hm_bytes_eq(value, value_of(m->value[t][k])));
            memcpy(at, key.ptr, key.len);
            key = hm_bytes_of(at, key.len);
        }
        assert_int_equal(tc_store_next(of, model_tables[t], prefix, key, &key, &value),
                         HM_E_NOTFOUND);
        key = hm_bytes_str("k/~");
        for (unsigned k = KEYS; k-- > 0;) { // down
            if (m->value[t][k] == 0)
                continue;
            assert_int_equal(tc_store_prev(of, model_tables[t], prefix, key, &key, &value), HM_OK);
            assert_true(hm_bytes_eq(key, key_of(k, mem)));
            memcpy(at, key.ptr, key.len);
            key = hm_bytes_of(at, key.len);
        }
        assert_int_equal(tc_store_prev(of, model_tables[t], prefix, key, &key, &value),
                         HM_E_NOTFOUND);
    }
}

// By another process, as LMDB wants it.
static void check_from_beside(const model *m)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        tc_store *beside;
        if (tc_store_look(base, &beside) != HM_OK)
            _exit(2);
        check(beside, m);
        tc_store_close(beside);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void change(model *m)
{
    char mem[16];
    for (unsigned n = draw(6); n > 0; n--) {
        unsigned t = draw(2), k = draw(KEYS);
        uint32_t v = draw(3) > 0 ? 1 + draw(1000000) : 0;
        if (v > 0)
            assert_int_equal(tc_store_put(s, model_tables[t], key_of(k, mem), value_of(v)), HM_OK);
        else
            assert_int_equal(tc_store_del(s, model_tables[t], key_of(k, mem)), HM_OK);
        m->value[t][k] = v;
    }
}

// Transactions, steps within them, what is taken back, openings anew and looks from beside: the
// journal turns some dozens of times meanwhile.
static void all_is_as_in_memory(void **state)
{
    (void)state;
    model m = {0};
    seed = 17;
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    for (unsigned i = 0; i < 1000; i++) {
        model outer = m;
        assert_int_equal(tc_store_begin(s), HM_OK);
        change(&outer);
        for (unsigned steps = draw(3); steps > 0; steps--) {
            model inner = outer;
            assert_int_equal(tc_store_begin(s), HM_OK);
            change(&inner);
            if (draw(10) == 0)
                check(s, &inner);
            if (draw(4) == 0) {
                tc_store_abort(s);
                continue;
            }
            assert_int_equal(tc_store_commit(s), HM_OK);
            outer = inner;
        }
        if (draw(5) == 0) {
            tc_store_abort(s);
        } else {
            assert_int_equal(tc_store_commit(s), HM_OK);
            m = outer;
        }
        if (i % 20 == 0)
            check(s, &m);
        if (i % 100 == 0)
            check_from_beside(&m);
        if (i % 500 == 0) {
            tc_store_close(s);
            assert_int_equal(tc_store_open(base, &s), HM_OK);
            check(s, &m);
        }
    }
    tc_store_close(s);
}

// What is longer than the journal's files.
static void a_long_transaction(void **state)
{
    (void)state;
    static uint8_t big[3 << 20];
    hm_bytes value, key = hm_bytes_str("big/1");
    memset(big, 7, sizeof big);
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("big/0", "before");
    assert_int_equal(tc_store_commit(s), HM_OK);
    assert_int_equal(tc_store_begin(s), HM_OK);
    assert_int_equal(tc_store_put(s, TC_KV, key, hm_bytes_of(big, sizeof big)), HM_OK);
    put("big/0", "with it");
    assert_int_equal(tc_store_commit(s), HM_OK);
    assert_true(has("big/0", "with it"));
    assert_int_equal(tc_store_begin(s), HM_OK);
    put("big/0", "after");
    assert_int_equal(tc_store_commit(s), HM_OK);
    for (int i = 0; i < 2; i++) {
        assert_true(has("big/0", "after"));
        assert_int_equal(tc_store_get(s, TC_KV, key, &value), HM_OK);
        assert_true(hm_bytes_eq(value, hm_bytes_of(big, sizeof big)));
        tc_store_close(s);
        assert_int_equal(tc_store_open(base, &s), HM_OK);
    }
    tc_store_close(s);
}

// What killed() committed last, whole; its number.
static uint32_t counted_whole(void)
{
    char mem[16];
    uint32_t n;
    hm_bytes a, b, value;
    assert_int_equal(tc_store_get(s, TC_KV, hm_bytes_str("n"), &a), HM_OK);
    assert_int_equal(tc_store_get(s, TC_STATE, hm_bytes_str("n"), &b), HM_OK);
    assert_true(a.len == sizeof n && hm_bytes_eq(a, b));
    memcpy(&n, a.ptr, sizeof n);
    for (uint32_t i = n < KEYS ? 1 : n - KEYS + 1; i <= n; i++) {
        assert_int_equal(tc_store_get(s, TC_NAMES, key_of(i % KEYS, mem), &value), HM_OK);
        assert_true(hm_bytes_eq(value, value_of(7 * i)));
    }
    return n;
}

// Killed at some instant, with or without something on its way to LMDB: what was committed is there
// and no more of what was not than one whole transaction.
static void killed(void **state)
{
    (void)state;
    char mem[16];
    for (unsigned run = 0; run < 20; run++) {
        int told[2];
        assert_int_equal(pipe(told), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); // a test that fails leaves nobody behind
            if (tc_store_open(base, &s) != HM_OK)
                _exit(2);
            for (uint32_t n = 1;; n++) {
                hm_bytes counted = hm_bytes_of((uint8_t *)&n, sizeof n);
                if (tc_store_begin(s) != HM_OK ||
                    tc_store_put(s, TC_KV, hm_bytes_str("n"), counted) != HM_OK ||
                    tc_store_put(s, TC_NAMES, key_of(n % KEYS, mem), value_of(7 * n)) != HM_OK ||
                    tc_store_put(s, TC_STATE, hm_bytes_str("n"), counted) != HM_OK ||
                    tc_store_commit(s) != HM_OK || write(told[1], &n, sizeof n) != sizeof n)
                    _exit(3);
            }
        }
        close(told[1]);
        uint32_t n = 0, last = 0;
        unsigned until = 40 * run + draw(40);
        while (last < until && read(told[0], &n, sizeof n) == sizeof n)
            last = n;
        if (last > 0) { // looked at while it goes on
            assert_int_equal(tc_store_look(base, &s), HM_OK);
            assert_true(counted_whole() >= last);
            tc_store_close(s);
        }
        kill(pid, SIGKILL);
        while (read(told[0], &n, sizeof n) == sizeof n)
            last = n;
        close(told[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(tc_store_open(base, &s), HM_OK);
        n = counted_whole();
        assert_true(n == last || n == last + 1);
        tc_store_close(s);
    }
}

// LMDB's file may not grow: what is committed stays in the journal until that is full, then commits
// fail; and all goes on when there is room.
static void a_disk_that_is_full(void **state)
{
    (void)state;
    char path[64], mem[16];
    struct stat st;
    struct rlimit old, little;
    uint32_t n = 0;
    hm_err err = HM_OK;
    signal(SIGXFSZ, SIG_IGN);
    snprintf(path, sizeof path, "%s/data.mdb", base);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    little = old;
    little.rlim_cur = st.st_size > (4 << 20) ? (rlim_t)st.st_size : 4 << 20;
    assert_int_equal(tc_store_open(base, &s), HM_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    for (uint32_t i = 1; err == HM_OK && i < 10000; i++) {
        assert_int_equal(tc_store_begin(s), HM_OK);
        snprintf(mem, sizeof mem, "full/%u", i);
        assert_int_equal(tc_store_put(s, TC_KV, hm_bytes_str(mem), value_of(49000)), HM_OK);
        err = tc_store_commit(s);
        n += err == HM_OK;
    }
    assert_true(err == HM_E_IO || err == HM_E_FULL);
    assert_true(n > 40); // both files of the journal
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 1; i <= n + 1; i++) {
            hm_bytes value;
            snprintf(mem, sizeof mem, "full/%u", i);
            err = tc_store_get(s, TC_KV, hm_bytes_str(mem), &value);
            assert_int_equal(err, i <= n ? HM_OK : HM_E_NOTFOUND);
        }
        if (round == 0) { // from the journal, without a write
            tc_store_close(s);
            assert_int_equal(tc_store_open(base, &s), HM_OK);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        } else if (round == 1) {
            assert_int_equal(tc_store_begin(s), HM_OK);
            put("full/0", "now");
            assert_int_equal(tc_store_commit(s), HM_OK);
            tc_store_close(s);
            assert_int_equal(tc_store_open(base, &s), HM_OK);
            assert_true(has("full/0", "now"));
        }
    }
    tc_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_committed_is_there),
        cmocka_unit_test(a_walk_stays_below_its_prefix),
        cmocka_unit_test(keys_have_a_limit),
        cmocka_unit_test(a_transaction_within_another_is_taken_back_alone),
        cmocka_unit_test(all_is_as_in_memory),
        cmocka_unit_test(a_long_transaction),
        cmocka_unit_test(killed),
        cmocka_unit_test(a_disk_that_is_full),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
