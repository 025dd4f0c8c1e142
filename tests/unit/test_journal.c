// The journal's two files, the changes that its records hold, and the checksum.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/changes.h"
#include "base/crc.h"
#include "base/journal.h"

#define OK(e) assert_int_equal(e, HM_OK)

static char dir[] = "/tmp/hm-journal-XXXXXX";
static hm_buf seen; // "epoch:record " each
static hm_journal *j;

static void name(unsigned i, char path[64])
{
    snprintf(path, 64, "%s/journal.%u", dir, i);
}

static void clean(void)
{
    char path[64];
    for (unsigned i = 0; i < 2; i++) {
        name(i, path);
        unlink(path);
    }
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    clean();
    hm_buf_free(&seen);
    return rmdir(dir);
}

static hm_err collect(void *ctx, uint64_t epoch, hm_bytes record)
{
    (void)ctx;
    hm_buf_printf(&seen, "%llu:%.*s ", (unsigned long long)epoch, (int)record.len,
                  (const char *)record.ptr);
    return HM_OK;
}

static hm_err reopen(uint64_t applied)
{
    hm_journal_close(j);
    j = NULL;
    hm_buf_reset(&seen);
    return hm_journal_open(dir, applied, collect, NULL, &j);
}

static void has(uint64_t applied, const char *records, uint64_t epoch)
{
    OK(reopen(applied));
    assert_true(hm_bytes_eq(hm_buf_bytes(&seen), hm_bytes_str(records)));
    assert_int_equal(hm_journal_epoch(j), epoch);
}

static void append(const char *record)
{
    OK(hm_journal_append(j, hm_bytes_str(record)));
}

// Changes a byte of a file, from its end when at is below 0.
static void damage(unsigned i, off_t at)
{
    char path[64];
    uint8_t byte;
    name(i, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void records_come_back(void **state)
{
    (void)state;
    clean();
    has(0, "", 1);
    append("a");
    append("b");
    has(0, "1:a 1:b ", 1);
    append("c"); // goes on where it ended
    hm_journal_turn(j);
    append("d");
    has(0, "1:a 1:b 1:c 2:d ", 2);
    append("e");
    has(1, "2:d 2:e ", 2); // the database has the first
    hm_journal_turn(j);
    append("f"); // in the first one's file, over it
    has(1, "2:d 2:e 3:f ", 3);
    has(2, "3:f ", 3);
    has(3, "", 4);
    hm_journal_turn(j); // an epoch without a record was none
    has(3, "", 4);
}

static void what_is_torn_is_not_there(void **state)
{
    (void)state;
    clean();
    has(0, "", 1);
    append("first");
    append("second");
    damage(1, 16 + 24 + 5 + 24 + 3); // in "second"
    has(0, "1:first ", 1);
    append("again"); // in its place
    has(0, "1:first 1:again ", 1);
    damage(1, 16 + 24 + 2); // in "first", which has an intact one after it
    assert_int_equal(reopen(0), HM_E_CORRUPT);
    clean();
    has(0, "", 1);
    append("only");
    hm_journal_turn(j);
    append("torn");
    damage(0, 16 + 24);
    has(0, "1:only ", 1); // the first epoch goes on
    append("more");
    has(0, "1:only 1:more ", 1);
    hm_journal_turn(j);
    append("later");
    damage(1, 16 + 24 + 4 + 24); // in "more", the last of its epoch
    assert_int_equal(reopen(0), HM_E_CORRUPT);
}

// Bytes of a record that are one of another store's are none here: a file's own random bytes are in
// each checksum.
static void a_record_within_a_record_is_none(void **state)
{
    (void)state;
    char path[64];
    hm_buf b = {0};
    clean();
    has(0, "", 1);
    append("other");
    name(1, path);
    OK(hm_file_read(path, HM_JOURNAL_FILE_BYTES, &b));
    clean();
    has(0, "", 1);
    OK(hm_journal_append(j, hm_bytes_of(b.ptr + 16, 24 + 5)));
    append("torn");
    damage(1, 16 + 24);                        // the record around it
    assert_int_equal(reopen(0), HM_E_CORRUPT); // for "torn", after it
    damage(1, 16 + 24 + 29 + 24);
    has(0, "", 1); // and now for nothing
    hm_buf_free(&b);
}

static void what_is_not_of_the_same_time_is_refused(void **state)
{
    (void)state;
    char path[64];
    clean();
    has(0, "", 1);
    append("a");
    hm_journal_turn(j);
    append("b");
    hm_journal_close(j);
    j = NULL;
    name(1, path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(reopen(1), HM_E_CORRUPT); // is gone
    assert_int_equal(reopen(0), HM_E_CORRUPT); // lacks the first
    has(1, "2:b ", 2);                         // which made the file
    name(0, path);
    OK(hm_file_write(path, hm_bytes_str("HMJRNL1\n"), 0600));
    assert_int_equal(reopen(0), HM_E_CORRUPT); // cut short
    clean();
    has(0, "", 1);
    for (int i = 0; i < 4; i++)
        hm_journal_turn(j);
    append("e");
    assert_int_equal(reopen(0), HM_E_CORRUPT); // a database from before
    has(4, "5:e ", 5);
}

static bool sync_fails;

int fdatasync(int fd)
{
    if (sync_fails) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

// What was written, but not told of as durable, is not there before what comes after it.
static void a_failed_append_is_mended(void **state)
{
    (void)state;
    clean();
    has(0, "", 1);
    append("a");
    sync_fails = true;
    assert_int_equal(hm_journal_append(j, hm_bytes_str("failed")), HM_E_IO);
    assert_int_equal(hm_journal_mend(j), HM_E_IO);
    sync_fails = false;
    OK(hm_journal_mend(j));
    hm_journal_turn(j);
    append("b");
    has(0, "1:a 2:b ", 2);
    sync_fails = true;
    assert_int_equal(hm_journal_append(j, hm_bytes_str("failed")), HM_E_IO);
    sync_fails = false;
    has(0, "1:a 2:b 2:failed ", 2); // the process ended: nothing came after it
    OK(hm_journal_mend(j));
    append("c");
    has(0, "1:a 2:b 2:failed 2:c ", 2);
}

static void a_record_has_a_limit(void **state)
{
    (void)state;
    clean();
    has(0, "", 1);
    uint8_t *big = calloc(1, HM_JOURNAL_RECORD_MAX + 1);
    assert_non_null(big);
    assert_int_equal(hm_journal_append(j, hm_bytes_of(big, HM_JOURNAL_RECORD_MAX + 1)), HM_E_LIMIT);
    OK(hm_journal_append(j, hm_bytes_of(big, HM_JOURNAL_RECORD_MAX)));
    assert_int_equal(hm_journal_room(j), 0);
    assert_int_equal(hm_journal_append(j, hm_bytes_of(big, 1)), HM_E_LIMIT);
    OK(reopen(0));
    assert_int_equal(seen.len, 3); // "1:" and a text that ends at once
    free(big);
}

static uint64_t applied_now;

static hm_err applied_is(void *ctx, uint64_t *epoch)
{
    (void)ctx;
    *epoch = applied_now;
    return HM_OK;
}

static void a_look_changes_nothing(void **state)
{
    (void)state;
    clean();
    hm_buf_reset(&seen);
    applied_now = 0;
    OK(hm_journal_look(dir, applied_is, collect, NULL)); // nobody has opened it yet
    assert_int_equal(seen.len, 0);
    applied_now = 1;
    assert_int_equal(hm_journal_look(dir, applied_is, collect, NULL), HM_E_CORRUPT);
    has(0, "", 1);
    append("applied");
    hm_journal_turn(j);
    append("a");
    hm_journal_turn(j);
    append("b");
    hm_buf_reset(&seen);
    OK(hm_journal_look(dir, applied_is, collect, NULL));
    assert_true(hm_bytes_eq(hm_buf_bytes(&seen), hm_bytes_str("2:a 3:b ")));
    append("c");
    has(1, "2:a 3:b 3:c ", 3);
    hm_journal_close(j);
    j = NULL;
}

// ---- changes ------------------------------------------------------------------------------------

static void changes_are_in_order(void **state)
{
    (void)state;
    hm_changes c = {0}, over = {0}, back = {0};
    hm_buf b = {0};
    hm_bytes none = {0};
    OK(hm_changes_put(&c, 1, hm_bytes_str("b"), hm_bytes_str("1")));
    OK(hm_changes_put(&c, 1, hm_bytes_str("a"), none));
    OK(hm_changes_put(&c, 0, hm_bytes_str("z"), hm_bytes_str("2")));
    OK(hm_changes_put(&c, 1, hm_bytes_str("b"), hm_bytes_str("3")));
    OK(hm_changes_del(&over, 1, hm_bytes_str("b")));
    OK(hm_changes_put(&over, 2, hm_bytes_str("b"), hm_bytes_str("4")));
    assert_int_equal(c.count, 3);
    assert_int_equal(hm_changes_from(&c, 1, hm_bytes_str("aa")), 2);
    OK(hm_changes_merge(&c, &over));
    assert_int_equal(over.count, 0);
    assert_int_equal(c.count, 4);
    assert_true(hm_changes_get(&c, 1, hm_bytes_str("b"))->gone);
    assert_null(hm_changes_get(&c, 2, hm_bytes_str("a")));
    hm_changes_write(&c, &b);
    OK(hm_buf_status(&b));
    OK(hm_changes_read(&back, hm_buf_bytes(&b), 3));
    assert_int_equal(back.count, c.count);
    for (size_t i = 0; i < c.count; i++) {
        assert_int_equal(back.list[i]->table, c.list[i]->table);
        assert_int_equal(back.list[i]->gone, c.list[i]->gone);
        assert_true(hm_bytes_eq(back.list[i]->key, c.list[i]->key));
        assert_true(hm_bytes_eq(back.list[i]->value, c.list[i]->value));
    }
    hm_changes_clear(&back);
    assert_int_not_equal(hm_changes_read(&back, hm_buf_bytes(&b), 2), HM_OK); // no such table
    hm_changes_clear(&back);
    for (size_t cut = 1; cut < b.len; cut++) { // whole changes, or none
        (void)!hm_changes_read(&back, hm_bytes_of(b.ptr, cut), 3);
        hm_changes_clear(&back);
    }
    hm_changes_clear(&c);
    hm_buf_free(&b);
}

// RFC 3720, appendix B.4, and the text that CRCs are checked with.
static void checksum(void **state)
{
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(hm_crc32c(0, hm_bytes_str("123456789")), 0xe3069283);
    assert_int_equal(hm_crc32c(hm_crc32c(0, hm_bytes_str("1234")), hm_bytes_str("56789")),
                     0xe3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(hm_crc32c(0, hm_bytes_of(bytes, sizeof bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(hm_crc32c(0, hm_bytes_of(bytes, sizeof bytes)), 0x62a8ab43);
    for (uint8_t i = 0; i < sizeof bytes; i++)
        bytes[i] = i;
    assert_int_equal(hm_crc32c(0, hm_bytes_of(bytes, sizeof bytes)), 0x46dd794e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(what_is_torn_is_not_there),
        cmocka_unit_test(a_record_within_a_record_is_none),
        cmocka_unit_test(what_is_not_of_the_same_time_is_refused),
        cmocka_unit_test(a_failed_append_is_mended),
        cmocka_unit_test(a_record_has_a_limit),
        cmocka_unit_test(a_look_changes_nothing),
        cmocka_unit_test(changes_are_in_order),
        cmocka_unit_test(checksum),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
