#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "mesh/content.h"

static char dir[] = "/tmp/hm-content-XXXXXX";

#define T0 UINT64_C(1800000000000)
#define GRACE 1000u

static hm_content *open_at(const char *at, uint64_t reserve, uint64_t upload)
{
    hm_content *c = NULL;
    assert_int_equal(hm_content_open(&(hm_content_config){.dir = at,
                                                          .reserve_bytes = reserve,
                                                          .upload_bytes = upload,
                                                          .no_sync = true},
                                     &c),
                     HM_OK);
    return c;
}

static hm_err put_text(hm_content *c, const char *text, uint32_t member, uint64_t now)
{
    hm_hash h = hm_sha256(hm_bytes_str(text));
    return hm_content_put(c, &h, hm_bytes_str(text), member, now);
}

static bool has_text(hm_content *c, const char *text)
{
    hm_hash h = hm_sha256(hm_bytes_str(text));
    return hm_content_has(c, &h);
}

// A content of some texts: its manifest and its commitment.
static hm_commitment content_of(const char *const *texts, size_t count, hm_buf *manifest)
{
    hm_commitment com;
    uint64_t size = 0;
    hm_buf_reset(manifest);
    for (size_t i = 0; i < count; i++) {
        hm_hash h = hm_sha256(hm_bytes_str(texts[i]));
        hm_wr_raw(manifest, h.b, 32);
        size += strlen(texts[i]);
    }
    assert_int_equal(hm_manifest_commit(hm_buf_bytes(manifest), size, 5, &com), HM_OK);
    return com;
}

static hm_content_stats stats_of(const hm_content *c)
{
    hm_content_stats s;
    hm_content_get_stats(c, &s);
    return s;
}

static void test_store(void **state)
{
    (void)state;
    static const char *const texts[] = {"alpha", "beta", "gamma"};
    hm_buf out = {0}, manifest = {0};
    hm_content *c = open_at(dir, 0, 0);
    hm_hash hashes[3];
    for (int i = 0; i < 3; i++) {
        hashes[i] = hm_sha256(hm_bytes_str(texts[i]));
        assert_int_equal(put_text(c, texts[i], 0, T0), HM_OK);
    }
    assert_int_equal(hm_content_put(c, &hashes[0], hm_bytes_str("wrong"), 0, T0), HM_E_CHUNK_HASH);
    hm_commitment com = content_of(texts, 3, &manifest);
    assert_int_equal(hm_content_put_manifest(c, &com.root, hm_buf_bytes(&manifest), 0, T0), HM_OK);
    assert_int_equal(hm_content_put_manifest(c, &hashes[0], hm_buf_bytes(&manifest), 0, T0),
                     HM_E_CHUNK_HASH);
    assert_int_equal(hm_manifest_check(&com, hm_buf_bytes(&manifest)), HM_OK);
    assert_int_equal(hm_manifest_check(&com, hm_bytes_of(manifest.ptr, 64)), HM_E_CHUNK_HASH);
    assert_true(hm_content_has(c, &hashes[1])); // before it is durable too
    assert_int_equal(hm_content_get(c, &hashes[1], &out), HM_OK);
    assert_true(hm_content_dirty(c));
    // While it is being written it is there as well, and so is what comes meanwhile.
    hm_content_sync_begin(c);
    assert_false(hm_content_dirty(c));
    assert_true(hm_content_has(c, &hashes[1]) && hm_content_has_manifest(c, &com.root));
    assert_int_equal(put_text(c, "delta", 0, T0), HM_OK);
    assert_true(has_text(c, "delta"));
    hm_content_sync_run(c);
    assert_int_equal(hm_content_sync_end(c), HM_OK);
    assert_int_equal(stats_of(c).chunks, 3);
    assert_int_equal(hm_content_keep(c, &com, T0), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_false(hm_content_dirty(c));
    hm_content_close(c);
    c = open_at(dir, 0, 0);
    assert_int_equal(stats_of(c).chunks, 4);
    assert_int_equal(stats_of(c).bytes, 19);
    hm_buf_reset(&out);
    assert_int_equal(hm_content_get(c, &hashes[2], &out), HM_OK);
    assert_memory_equal(out.ptr, "gamma", 5);
    hm_hash listed[5]; // without the one that no asset refers to
    assert_int_equal(hm_content_list(c, false, NULL, listed, 5), 3);
    assert_int_equal(hm_content_list(c, false, &listed[0], listed, 5), 2);
    assert_int_equal(hm_content_list(c, true, NULL, listed, 5), 1);
    hm_hash none = {{1}};
    assert_int_equal(hm_content_get(c, &none, &out), HM_E_NOTFOUND);
    assert_int_equal(hm_commitment_chunk_len(&com, 2), 4);
    hm_content_close(c);
    hm_buf_free(&out);
    hm_buf_free(&manifest);
}

// What no asset refers to goes when its time is over, and not before; what one refers to stays,
// also where it was uploaded again by another, or is a part of another content that goes.
static void test_collect(void **state)
{
    (void)state;
    static const char *const kept[] = {"one", "both"}, *const lost[] = {"both", "two"};
    char own[] = "/tmp/hm-content-XXXXXX", command[64];
    hm_buf manifest = {0};
    assert_non_null(mkdtemp(own));
    hm_content *c = open_at(own, 0, 0);
    hm_commitment a = content_of(kept, 2, &manifest);
    for (int i = 0; i < 2; i++)
        assert_int_equal(put_text(c, kept[i], 0, T0), HM_OK);
    assert_int_equal(hm_content_put_manifest(c, &a.root, hm_buf_bytes(&manifest), 0, T0), HM_OK);
    assert_int_equal(hm_content_keep(c, &a, T0), HM_OK);
    hm_commitment b = content_of(lost, 2, &manifest);
    for (int i = 0; i < 2; i++)
        assert_int_equal(put_text(c, lost[i], 1, T0), HM_OK);
    assert_int_equal(hm_content_put_manifest(c, &b.root, hm_buf_bytes(&manifest), 1, T0), HM_OK);
    assert_int_equal(put_text(c, "late", 1, T0 + 500), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_int_equal(stats_of(c).upload_bytes, 3 * HM_CONTENT_ENTRY_MIN);
    hm_content_close(c); // all this is on disk
    c = open_at(own, 0, 0);
    assert_int_equal(stats_of(c).upload_bytes, 3 * HM_CONTENT_ENTRY_MIN);
    assert_int_equal(hm_content_collect(c, T0 + GRACE, GRACE), HM_OK);
    assert_false(hm_content_dirty(c)); // nothing to do yet
    assert_int_equal(hm_content_collect(c, T0 + GRACE + 1, GRACE), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_true(has_text(c, "one") && has_text(c, "both") && has_text(c, "late"));
    assert_true(hm_content_has_manifest(c, &a.root));
    assert_false(has_text(c, "two") || hm_content_has_manifest(c, &b.root));
    assert_int_equal(stats_of(c).chunks, 3);
    assert_int_equal(stats_of(c).bytes, 11);
    assert_int_equal(stats_of(c).collected, 2);
    assert_int_equal(stats_of(c).upload_bytes, HM_CONTENT_ENTRY_MIN);
    // Put again, it stays as if it were new; a manifest that ends a long upload does that for all.
    assert_int_equal(put_text(c, "late", 1, T0 + 900), HM_OK);
    assert_int_equal(put_text(c, "two", 1, T0 + 600), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_int_equal(hm_content_put_manifest(c, &b.root, hm_buf_bytes(&manifest), 1, T0 + 2000),
                     HM_OK);
    assert_int_equal(hm_content_collect(c, T0 + 1700, GRACE), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_true(has_text(c, "two") && has_text(c, "late"));
    assert_int_equal(hm_content_collect(c, T0 + 2000, GRACE), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_true(has_text(c, "two") && !has_text(c, "late"));
    assert_int_equal(hm_content_keep(c, &b, T0 + 2100), HM_OK);
    assert_int_equal(hm_content_collect(c, T0 + 100000, GRACE), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_true(has_text(c, "two") && hm_content_has_manifest(c, &b.root));
    assert_int_equal(stats_of(c).upload_bytes, 0);
    hm_content_close(c);
    hm_buf_free(&manifest);
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}

// While the manifest of a content that an asset refers to is not here, nobody knows whose the
// chunks are: they stay twice as long. It is known at once when it comes.
static void test_wanted(void **state)
{
    (void)state;
    static const char *const texts[] = {"red", "green"};
    char own[] = "/tmp/hm-content-XXXXXX", command[64];
    hm_buf manifest = {0};
    hm_commitment found;
    assert_non_null(mkdtemp(own));
    for (int comes = 0; comes < 2; comes++) {
        hm_content *c = open_at(own, 0, 0);
        hm_commitment com = content_of(texts, 2, &manifest);
        assert_int_equal(put_text(c, "red", 1, T0), HM_OK);
        assert_int_equal(hm_content_keep(c, &com, T0), HM_OK);
        assert_int_equal(hm_content_followed_set(c, 7 + comes), HM_OK);
        assert_int_equal(hm_content_sync(c), HM_OK);
        assert_int_equal(hm_content_followed(c), 7 + comes);
        assert_int_equal(hm_content_wanted(c, NULL, &found), HM_OK);
        assert_memory_equal(&found, &com, sizeof com);
        assert_int_equal(hm_content_wanted(c, &com.root, &found), HM_E_NOTFOUND);
        hm_content_close(c);
        c = open_at(own, 0, 0);
        assert_int_equal(hm_content_followed(c), 7 + comes);
        assert_int_equal(hm_content_collect(c, T0 + GRACE + 1, GRACE), HM_OK);
        assert_int_equal(hm_content_sync(c), HM_OK);
        assert_true(has_text(c, "red"));
        if (comes) {
            assert_int_equal(hm_content_put_manifest(c, &com.root, hm_buf_bytes(&manifest), 2, T0),
                             HM_OK);
            assert_int_equal(hm_content_sync(c), HM_OK);
            assert_int_equal(hm_content_wanted(c, NULL, &found), HM_E_NOTFOUND);
            hm_hash green = hm_sha256(hm_bytes_str("green")); // though it is not here
            assert_true(hm_content_is_kept(c, &green));
            assert_int_equal(put_text(c, "green", 2, T0), HM_OK);
        }
        assert_int_equal(hm_content_collect(c, T0 + 2 * GRACE + 1, GRACE), HM_OK);
        assert_int_equal(hm_content_sync(c), HM_OK);
        assert_int_equal(has_text(c, "red"), comes);
        assert_int_equal(has_text(c, "green"), comes);
        assert_int_equal(hm_content_wanted(c, NULL, &found), HM_E_NOTFOUND);
        assert_int_equal(stats_of(c).upload_bytes, 0);
        hm_content_close(c);
    }
    hm_buf_free(&manifest);
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}

// Each member has its limit; what an asset refers to does not count, nor what is there already.
static void test_upload_limit(void **state)
{
    (void)state;
    static const char *const texts[] = {"1", "2"};
    char own[] = "/tmp/hm-content-XXXXXX", command[64];
    hm_buf manifest = {0};
    assert_non_null(mkdtemp(own));
    hm_content *c = open_at(own, 0, 2 * HM_CONTENT_ENTRY_MIN);
    for (int synced = 0; synced < 2; synced++) {
        for (int i = 0; i < 2; i++)
            assert_int_equal(put_text(c, texts[i], 1, T0), HM_OK);
        assert_int_equal(put_text(c, "3", 1, T0), HM_E_FULL);
        if (synced == 0)
            hm_content_sync_begin(c);
        assert_int_equal(put_text(c, "3", 1, T0), HM_E_FULL);
        assert_int_equal(put_text(c, "2", 1, T0), HM_OK);
        if (synced == 0) {
            hm_content_sync_run(c);
            assert_int_equal(hm_content_sync_end(c), HM_OK);
        }
        assert_int_equal(hm_content_sync(c), HM_OK);
    }
    assert_int_equal(put_text(c, "3", 2, T0), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    hm_content_close(c);
    c = open_at(own, 0, 2 * HM_CONTENT_ENTRY_MIN);
    assert_int_equal(put_text(c, "4", 1, T0), HM_E_FULL);
    hm_commitment com = content_of(texts, 2, &manifest);
    assert_int_equal(hm_content_put_manifest(c, &com.root, hm_buf_bytes(&manifest), 2, T0), HM_OK);
    assert_int_equal(hm_content_keep(c, &com, T0), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_int_equal(put_text(c, "4", 1, T0), HM_OK);
    assert_int_equal(put_text(c, "1", 2, T0), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_int_equal(stats_of(c).upload_bytes, 2 * HM_CONTENT_ENTRY_MIN);
    hm_content_close(c);
    hm_buf_free(&manifest);
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}

// Of others no more is taken in than memory can hold while the disk is slow; one's own uploads have
// their window.
static void test_slow_disk(void **state)
{
    (void)state;
    char own[] = "/tmp/hm-content-XXXXXX", command[64];
    assert_non_null(mkdtemp(own));
    hm_content *c = open_at(own, 0, 0);
    uint8_t *big = calloc(1, HM_CONTENT_CHUNK_MAX);
    assert_non_null(big);
    hm_err err = HM_OK;
    uint32_t taken = 0;
    for (; err == HM_OK; taken++) {
        memcpy(big, &taken, sizeof taken);
        hm_hash h = hm_sha256(hm_bytes_of(big, HM_CONTENT_CHUNK_MAX));
        err = hm_content_put(c, &h, hm_bytes_of(big, HM_CONTENT_CHUNK_MAX), 1, T0);
    }
    assert_int_equal(err, HM_E_BUSY);
    assert_int_equal(taken, HM_CONTENT_QUEUE_MAX / HM_CONTENT_CHUNK_MAX + 1);
    assert_int_equal(put_text(c, "own", 0, T0), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_int_equal(put_text(c, "others", 1, T0), HM_OK);
    hm_content_close(c);
    free(big);
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}

// What was to be stored together with something that could not be is not called durable, nor
// counted.
static void test_failed_write(void **state)
{
    (void)state;
    char own[] = "/tmp/hm-content-XXXXXX", command[64];
    assert_non_null(mkdtemp(own));
    hm_content *c = open_at(own, 0, 1 << 20);
    assert_int_equal(put_text(c, "small", 0, T0), HM_OK);
    assert_int_equal(hm_content_followed_set(c, 3), HM_OK);
    hm_content_sync_begin(c);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    none = before;
    none.rlim_cur = 0; // no file may grow
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    hm_content_sync_run(c);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(hm_content_sync_end(c), HM_E_IO);
    assert_false(has_text(c, "small"));
    assert_int_equal(stats_of(c).chunks, 0);
    assert_int_equal(stats_of(c).upload_bytes, 0);
    assert_int_equal(hm_content_followed(c), 0);
    assert_int_equal(put_text(c, "small", 0, T0), HM_OK); // and again
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_true(has_text(c, "small"));
    assert_int_equal(stats_of(c).chunks, 1);
    hm_content_close(c);
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}

// Others may fill the disk up to what is kept free, and no further.
static void test_reserve(void **state)
{
    (void)state;
    char own[] = "/tmp/hm-content-XXXXXX", command[64];
    assert_non_null(mkdtemp(own));
    hm_content *c = open_at(own, UINT64_MAX, 0);
    assert_int_equal(put_text(c, "bytes", 0, T0), HM_E_FULL);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_false(has_text(c, "bytes"));
    hm_content_close(c);
    for (int i = 0; i < 2; i++) { // what is there already needs no room
        c = open_at(own, i == 0 ? 1 : UINT64_MAX, 0);
        assert_int_equal(put_text(c, "bytes", 0, T0), HM_OK);
        assert_int_equal(hm_content_sync(c), HM_OK);
        hm_content_close(c);
    }
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}

// Each member holds about its share, and taking one away moves only what it held.
static void test_placement(void **state)
{
    (void)state;
    hm_node_id ids[5];
    uint32_t order[5], fewer[5], held[5] = {0};
    for (uint32_t i = 0; i < 5; i++)
        ids[i] = hm_sha256(hm_bytes_of(&i, 4));
    for (uint32_t k = 0; k < 2000; k++) {
        hm_hash address = hm_sha256(hm_bytes_of(&k, 4));
        hm_placement(&address, ids, 5, order);
        hm_placement(&address, ids, 4, fewer);
        uint32_t seen = 0, at = 0;
        for (uint32_t i = 0; i < 5; i++) {
            seen |= 1u << order[i];
            if (order[i] != 4)
                assert_int_equal(order[i], fewer[at++]);
        }
        assert_int_equal(seen, 31);
        held[order[0]]++;
    }
    for (uint32_t i = 0; i < 5; i++)
        assert_in_range(held[i], 300, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store),     cmocka_unit_test(test_collect),
        cmocka_unit_test(test_wanted),    cmocka_unit_test(test_upload_limit),
        cmocka_unit_test(test_slow_disk), cmocka_unit_test(test_placement),
        cmocka_unit_test(test_reserve),   cmocka_unit_test(test_failed_write),
    };
    if (mkdtemp(dir) == NULL)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) != 0 ? 1 : rc;
}
