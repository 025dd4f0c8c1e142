// An LMDB file that lost its end is refused, and one that only lacks unused pages is not.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/env.h"

#define PAGES 50u

static char dir[32], file[64];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/hm-env-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(file, sizeof file, "%s/data.mdb", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static off_t size_of(void)
{
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    return st.st_size;
}

// Values of a page each under the numbers from 0; the same again when they are there.
static void put(uint32_t count)
{
    static const uint8_t page[4096] = {7};
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    assert_int_equal(hm_env_open(dir, 2, MDB_NOSYNC, &env), HM_OK);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "table", MDB_CREATE, &dbi), 0);
    for (uint32_t i = 0; i < count; i++) {
        MDB_val k = {sizeof i, &i}, v = {sizeof page, (void *)page};
        assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    }
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void drop(void)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    assert_int_equal(hm_env_open(dir, 2, MDB_NOSYNC, &env), HM_OK);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "table", 0, &dbi), 0);
    assert_int_equal(mdb_drop(txn, dbi, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void test_cut_short(void **state)
{
    (void)state;
    MDB_env *env;
    assert_false(hm_env_exists(dir));
    put(PAGES);
    assert_true(hm_env_exists(dir));
    off_t whole = size_of();
    for (off_t size = whole - 1; size > 2 * 4096; size -= 4096 * 5 + 1) {
        assert_int_equal(truncate(file, size), 0);
        assert_int_equal(hm_env_open(dir, 2, 0, &env), HM_E_CORRUPT);
        assert_non_null(strstr(hm_err_detail(), "cut short"));
        assert_int_equal(size_of(), size); // left as it is, for whoever wants to look
    }
    for (off_t size = 4096; size > 0; size -= 2048) {
        assert_int_equal(truncate(file, size), 0);
        assert_int_equal(hm_env_open(dir, 2, 0, &env), HM_E_CORRUPT);
    }
    assert_int_equal(truncate(file, 0), 0);
    assert_false(hm_env_exists(dir));
}

static void test_unused_end(void **state)
{
    (void)state;
    put(PAGES);
    drop();
    for (int i = 0; i < 6; i++) // what is in use moves to the front
        put(2);
    assert_int_equal(truncate(file, size_of() - 4096), 0);
    put(2);
    MDB_env *env;
    MDB_envinfo info;
    assert_int_equal(hm_env_open(dir, 2, 0, &env), HM_OK);
    assert_int_equal(mdb_env_info(env, &info), 0);
    assert_true((off_t)(info.me_last_pgno + 1) * 4096 > size_of()); // it still is short
    mdb_env_close(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cut_short, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_unused_end, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
