#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/wal.h"

// Stands before the C library's, to count: what is written here need not reach a disk.
static unsigned syncs;

int fsync(int fd)
{
    (void)fd;
    syncs++;
    return 0;
}

static char dir[] = "/tmp/hm-wal-XXXXXX", path[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/votes", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static hm_err collect(void *ctx, hm_bytes record)
{
    hm_buf *b = ctx;
    hm_buf_put(b, record);
    hm_buf_puts(b, ";");
    return HM_OK;
}

static hm_err reopen(hm_buf *seen, hm_wal **w)
{
    hm_buf_reset(seen);
    return hm_wal_open(path, collect, seen, w);
}

static void every_cut_of_the_file_keeps_the_whole_records(void **state)
{
    (void)state;
    hm_buf seen = {0}, whole = {0};
    hm_wal *w;
    unlink(path);
    assert_int_equal(reopen(&seen, &w), HM_OK);
    assert_int_equal(hm_wal_append(w, hm_bytes_str("one")), HM_OK);
    uint64_t after_one = hm_wal_size_bytes(w);
    assert_int_equal(hm_wal_append(w, hm_bytes_str("twotwo")), HM_OK);
    uint64_t after_two = hm_wal_size_bytes(w);
    hm_wal_close(w);
    assert_int_equal(hm_file_read(path, 1000, &whole), HM_OK);
    assert_int_equal(whole.len, after_two);
    for (size_t n = 0; n <= whole.len; n++) {
        assert_int_equal(hm_file_write(path, hm_bytes_of(whole.ptr, n), 0600), HM_OK);
        assert_int_equal(reopen(&seen, &w), HM_OK);
        assert_string_equal(hm_buf_cstr(&seen), n >= after_two   ? "one;twotwo;"
                                                : n >= after_one ? "one;"
                                                                 : "");
        // What is appended after a cut is found by the next open.
        assert_int_equal(hm_wal_append(w, hm_bytes_str("x")), HM_OK);
        hm_wal_close(w);
        assert_int_equal(reopen(&seen, &w), HM_OK);
        hm_wal_close(w);
        assert_int_equal(seen.ptr[seen.len - 2], 'x');
    }
    hm_buf_free(&seen);
    hm_buf_free(&whole);
}

static void damage_before_a_whole_record_is_refused(void **state)
{
    (void)state;
    hm_buf seen = {0}, whole = {0};
    hm_wal *w;
    unlink(path);
    assert_int_equal(reopen(&seen, &w), HM_OK);
    assert_int_equal(hm_wal_append(w, hm_bytes_str("first")), HM_OK);
    assert_int_equal(hm_wal_append(w, hm_bytes_str("second")), HM_OK);
    hm_wal_close(w);
    assert_int_equal(hm_file_read(path, 1000, &whole), HM_OK);
    for (size_t i = 0; i < 8 + 8 + 5; i++) {
        whole.ptr[i] ^= 0x10;
        assert_int_equal(hm_file_write(path, hm_buf_bytes(&whole), 0600), HM_OK);
        assert_int_equal(reopen(&seen, &w), HM_E_CORRUPT);
        whole.ptr[i] ^= 0x10;
    }
    hm_buf_free(&seen);
    hm_buf_free(&whole);
}

static void rewrite_replaces_everything(void **state)
{
    (void)state;
    hm_buf seen = {0};
    hm_wal *w;
    unlink(path);
    assert_int_equal(reopen(&seen, &w), HM_OK);
    assert_int_equal(hm_wal_append(w, hm_bytes_str("old")), HM_OK);
    hm_bytes keep[] = {hm_bytes_str("a"), hm_bytes_str("b")};
    assert_int_equal(hm_wal_rewrite(w, keep, 2), HM_OK);
    assert_int_equal(hm_wal_append(w, hm_bytes_str("c")), HM_OK);
    hm_wal_close(w);
    assert_int_equal(reopen(&seen, &w), HM_OK);
    assert_string_equal(hm_buf_cstr(&seen), "a;b;c;");
    hm_wal_close(w);
    hm_buf_free(&seen);
}

// A process may end between write and sync. Its last record is in the page cache only; who reads it
// at the next start sends that vote, and a power cut must not take it back.
static void what_was_not_synced_is_synced_before_it_counts(void **state)
{
    (void)state;
    hm_buf seen = {0};
    hm_wal *w;
    unlink(path);
    assert_int_equal(reopen(&seen, &w), HM_OK);
    assert_int_equal(hm_wal_append(w, hm_bytes_str("vote")), HM_OK);
    hm_wal_close(w);
    syncs = 0;
    assert_int_equal(reopen(&seen, &w), HM_OK);
    assert_string_equal(hm_buf_cstr(&seen), "vote;");
    assert_true(syncs > 0);
    hm_wal_close(w);
    hm_buf_free(&seen);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_of_the_file_keeps_the_whole_records),
        cmocka_unit_test(damage_before_a_whole_record_is_refused),
        cmocka_unit_test(rewrite_replaces_everything),
        cmocka_unit_test(what_was_not_synced_is_synced_before_it_counts),
    };
    return cmocka_run_group_tests_name("wal", tests, setup, teardown);
}
