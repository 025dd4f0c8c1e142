#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "mesh/content.h"

static char dir[] = "/tmp/hm-content-XXXXXX";

static void test_store(void **state)
{
    (void)state;
    hm_content *c = NULL;
    hm_buf out = {0}, manifest = {0};
    hm_hash hashes[3];
    const char *chunks[] = {"alpha", "beta", "gamma"};
    assert_int_equal(hm_content_open(dir, 0, true, &c), HM_OK);
    for (int i = 0; i < 3; i++) {
        hashes[i] = hm_sha256(hm_bytes_str(chunks[i]));
        assert_int_equal(hm_content_put(c, &hashes[i], hm_bytes_str(chunks[i])), HM_OK);
        hm_wr_raw(&manifest, hashes[i].b, 32);
    }
    assert_int_equal(hm_content_put(c, &hashes[0], hm_bytes_str("wrong")), HM_E_CHUNK_HASH);
    hm_commitment com;
    assert_int_equal(hm_manifest_commit(hm_buf_bytes(&manifest), 14, 5, &com), HM_OK);
    assert_int_equal(hm_content_put_manifest(c, &com.root, hm_buf_bytes(&manifest)), HM_OK);
    assert_int_equal(hm_content_put_manifest(c, &hashes[0], hm_buf_bytes(&manifest)),
                     HM_E_CHUNK_HASH);
    assert_int_equal(hm_manifest_check(&com, hm_buf_bytes(&manifest)), HM_OK);
    assert_int_equal(hm_manifest_check(&com, hm_bytes_of(manifest.ptr, 64)), HM_E_CHUNK_HASH);
    assert_true(hm_content_has(c, &hashes[1])); // before it is durable too
    assert_true(hm_content_dirty(c));
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_false(hm_content_dirty(c));
    hm_content_close(c);
    assert_int_equal(hm_content_open(dir, 0, true, &c), HM_OK);
    uint64_t count, bytes;
    hm_content_stats(c, &count, &bytes);
    assert_int_equal(count, 3);
    assert_int_equal(bytes, 14);
    assert_int_equal(hm_content_get(c, &hashes[2], &out), HM_OK);
    assert_memory_equal(out.ptr, "gamma", 5);
    hm_hash listed[4];
    assert_int_equal(hm_content_list(c, false, NULL, listed, 4), 3);
    assert_int_equal(hm_content_list(c, false, &listed[0], listed, 4), 2);
    assert_int_equal(hm_content_list(c, true, NULL, listed, 4), 1);
    hm_hash none = {{1}};
    assert_int_equal(hm_content_get(c, &none, &out), HM_E_NOTFOUND);
    assert_int_equal(hm_commitment_chunk_len(&com, 2), 4);
    hm_content_close(c);
    hm_buf_free(&out);
    hm_buf_free(&manifest);
}

// Each member holds about its share, and taking one away moves only what it held.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // they need memory to say so
// What was stored together with something that could not be is not called durable.
static void test_failed_write(void **state)
{
    (void)state;
    char own[] = "/tmp/hm-content-XXXXXX";
    hm_content *c = NULL;
    hm_hash small = hm_sha256(hm_bytes_str("small"));
    uint8_t *big = calloc(1, HM_CONTENT_CHUNK_MAX);
    assert_non_null(big);
    assert_non_null(mkdtemp(own));
    hm_hash hash = hm_sha256(hm_bytes_of(big, HM_CONTENT_CHUNK_MAX));
    assert_int_equal(hm_content_open(own, 0, true, &c), HM_OK);
    assert_int_equal(hm_content_put(c, &small, hm_bytes_str("small")), HM_OK);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    hm_err err = hm_content_put(c, &hash, hm_bytes_of(big, HM_CONTENT_CHUNK_MAX));
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(err, HM_E_NOMEM);
    assert_false(hm_content_has(c, &small));
    assert_true(hm_content_dirty(c));
    assert_int_equal(hm_content_sync(c), HM_E_IO);
    assert_int_equal(hm_content_put(c, &small, hm_bytes_str("small")), HM_OK); // and again
    assert_int_equal(hm_content_put(c, &hash, hm_bytes_of(big, HM_CONTENT_CHUNK_MAX)), HM_OK);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_true(hm_content_has(c, &small) && hm_content_has(c, &hash));
    hm_content_close(c);
    free(big);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}
#endif

// Others may fill the disk up to what is kept free, and no further.
static void test_reserve(void **state)
{
    (void)state;
    char own[] = "/tmp/hm-content-XXXXXX", command[64];
    hm_content *c = NULL;
    hm_hash hash = hm_sha256(hm_bytes_str("bytes"));
    assert_non_null(mkdtemp(own));
    assert_int_equal(hm_content_open(own, UINT64_MAX, true, &c), HM_OK);
    assert_int_equal(hm_content_put(c, &hash, hm_bytes_str("bytes")), HM_E_BUSY);
    assert_int_equal(hm_content_sync(c), HM_OK);
    assert_false(hm_content_has(c, &hash));
    hm_content_close(c);
    for (int i = 0; i < 2; i++) { // what is there already needs no room
        assert_int_equal(hm_content_open(own, i == 0 ? 1 : UINT64_MAX, true, &c), HM_OK);
        assert_int_equal(hm_content_put(c, &hash, hm_bytes_str("bytes")), HM_OK);
        assert_int_equal(hm_content_sync(c), HM_OK);
        hm_content_close(c);
    }
    snprintf(command, sizeof command, "rm -rf %s", own);
    assert_int_equal(system(command), 0);
}

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
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_reserve),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(test_failed_write),
#endif
    };
    if (mkdtemp(dir) == NULL)
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command) != 0 ? 1 : rc;
}
