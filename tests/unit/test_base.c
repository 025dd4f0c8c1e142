#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

static void err_detail_is_kept_and_may_quote_itself(void **state)
{
    (void)state;
    assert_int_equal(hm_fail(HM_E_RANGE, "inner %d", 7), HM_E_RANGE);
    assert_int_equal(hm_fail(HM_E_IO, "outer: %s", hm_err_detail()), HM_E_IO);
    assert_string_equal(hm_err_detail(), "outer: inner 7");
    assert_string_equal(hm_err_name(HM_E_OP_NONCE), "OP_NONCE");
    assert_string_equal(hm_err_text(HM_OK), "success");
}

static void buf_grows_and_fixed_buf_refuses(void **state)
{
    (void)state;
    hm_buf b = {0};
    for (int i = 0; i < 10000; i++)
        hm_buf_printf(&b, "%d,", i);
    assert_int_equal(hm_buf_status(&b), HM_OK);
    assert_int_equal(b.len, 48890);
    assert_int_equal(strlen(hm_buf_cstr(&b)), 48890);
    hm_buf_free(&b);

    uint8_t mem[4];
    hm_buf f = hm_buf_fixed(mem, sizeof mem);
    hm_buf_append(&f, "abcd", 4);
    assert_int_equal(hm_buf_status(&f), HM_OK);
    hm_buf_append(&f, "e", 1);
    assert_int_equal(hm_buf_status(&f), HM_E_LIMIT);
    assert_int_equal(f.len, 4);
}

static void hex_round_trip_and_bad_digits(void **state)
{
    (void)state;
    uint8_t in[3] = {0x00, 0xaf, 0xff}, out[3];
    char text[7];
    hm_hex(text, in, 3);
    assert_string_equal(text, "00afff");
    assert_int_equal(hm_unhex(out, 3, "00AFff", 6), HM_OK);
    assert_memory_equal(in, out, 3);
    assert_int_equal(hm_unhex(out, 3, "00afg0", 6), HM_E_PARSE);
    assert_int_equal(hm_unhex(out, 3, "00af", 4), HM_E_PARSE);
}

static void wire_round_trip(void **state)
{
    (void)state;
    hm_buf b = {0};
    hm_wr_u8(&b, 1);
    hm_wr_u16(&b, 0x0203);
    hm_wr_u32(&b, 0x04050607);
    hm_wr_u64(&b, 0x08090a0b0c0d0e0f);
    hm_wr_bool(&b, true);
    hm_wr_bytes(&b, hm_bytes_str("hello"));
    assert_int_equal(b.len, 1 + 2 + 4 + 8 + 1 + 4 + 5);
    assert_int_equal(b.ptr[1], 2); // big endian

    hm_rd r = hm_rd_of(hm_buf_bytes(&b));
    assert_int_equal(hm_rd_u8(&r), 1);
    assert_int_equal(hm_rd_u16(&r), 0x0203);
    assert_int_equal(hm_rd_u32(&r), 0x04050607);
    assert_true(hm_rd_u64(&r) == 0x08090a0b0c0d0e0f);
    assert_true(hm_rd_bool(&r));
    assert_true(hm_bytes_eq(hm_rd_bytes(&r, 5), hm_bytes_str("hello")));
    assert_int_equal(hm_rd_end(&r), HM_OK);

    // Every proper prefix fails, and fails as truncated.
    for (size_t n = 0; n < b.len; n++) {
        r = hm_rd_of(hm_bytes_of(b.ptr, n));
        hm_rd_u8(&r), hm_rd_u16(&r), hm_rd_u32(&r), hm_rd_u64(&r), hm_rd_bool(&r);
        hm_rd_bytes(&r, 5);
        assert_int_equal(hm_rd_end(&r), HM_E_TRUNCATED);
    }
    hm_buf_free(&b);
}

static void wire_refuses_hostile_lengths(void **state)
{
    (void)state;
    const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 0};
    hm_rd r = hm_rd_of(hm_bytes_of(huge, sizeof huge));
    assert_int_equal(hm_rd_bytes(&r, 100).len, 0);
    assert_int_equal(hm_rd_end(&r), HM_E_LIMIT);
    r = hm_rd_of(hm_bytes_of(huge, sizeof huge));
    assert_int_equal(hm_rd_count(&r, UINT32_MAX, 1), 0);
    assert_int_equal(hm_rd_end(&r), HM_E_TRUNCATED);
    const uint8_t two[] = {2};
    r = hm_rd_of(hm_bytes_of(two, 1));
    assert_false(hm_rd_bool(&r));
    assert_int_equal(hm_rd_end(&r), HM_E_NONCANONICAL);
    r = hm_rd_of(hm_bytes_of(huge, 5));
    hm_rd_u32(&r);
    assert_int_equal(hm_rd_end(&r), HM_E_TRAILING);
}

static void files_are_replaced_whole(void **state)
{
    (void)state;
    char dir[] = "/tmp/hm-test-XXXXXX", path[64], deep[96];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/f", dir);
    snprintf(deep, sizeof deep, "%s/a/b/c", dir);
    assert_int_equal(hm_dir_make(deep), HM_OK);
    assert_int_equal(hm_dir_make(deep), HM_OK);
    hm_buf b = {0};
    assert_int_equal(hm_file_read(path, 100, &b), HM_E_NOTFOUND);
    assert_int_equal(hm_file_write(path, hm_bytes_str("one"), 0600), HM_OK);
    assert_int_equal(hm_file_write(path, hm_bytes_str("three"), 0600), HM_OK);
    assert_int_equal(hm_file_read(path, 100, &b), HM_OK);
    assert_true(hm_bytes_eq(hm_buf_bytes(&b), hm_bytes_str("three")));
    hm_buf_reset(&b);
    assert_int_equal(hm_file_read(path, 4, &b), HM_E_LIMIT);
    assert_int_equal(b.len, 0);
    hm_buf_free(&b);
    char cmd[160];
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    assert_int_equal(system(cmd), 0);
}

static void secrets_of_others_are_refused_but_credentials_may_have_a_mask(void **state)
{
    (void)state;
    char dir[] = "/tmp/hm-base-XXXXXX", path[64], inner[64];
    hm_buf b = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/pin", dir);
    snprintf(inner, sizeof(inner), "%s/../%s/pin", dir, dir + 5);
    assert_int_equal(hm_file_write(path, hm_bytes_str("1234"), 0600), HM_OK);
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(hm_file_read_secret(path, 100, &b), HM_OK);
    assert_int_equal(chmod(path, 0440), 0);
    assert_int_equal(hm_file_read_secret(path, 100, &b), HM_E_DENIED);
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
    assert_int_equal(hm_file_read_secret(path, 100, &b), HM_OK);
    assert_int_equal(hm_file_read_secret(inner, 100, &b), HM_E_DENIED);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(hm_file_read_secret(path, 100, &b), HM_E_DENIED);
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", "/tmp/hm-base", 1), 0);
    assert_int_equal(chmod(path, 0440), 0);
    assert_int_equal(hm_file_read_secret(path, 100, &b), HM_E_DENIED);
    unsetenv("CREDENTIALS_DIRECTORY");
    unlink(path);
    rmdir(dir);
    hm_buf_free(&b);
}

static void arena_aligns_zeroes_and_limits(void **state)
{
    (void)state;
    hm_arena a = {.limit_bytes = 100000};
    for (int i = 1; i < 300; i++) {
        uint8_t *p = hm_arena_alloc(&a, (size_t)i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
        for (int j = 0; j < i; j++)
            assert_int_equal(p[j], 0);
        memset(p, 0xff, (size_t)i);
    }
    assert_null(hm_arena_alloc(&a, 100000));
    assert_null(hm_arena_array(&a, SIZE_MAX / 2, 4));
    hm_arena_reset(&a);
    uint8_t *p = hm_arena_alloc(&a, 16);
    assert_int_equal(p[0], 0);
    hm_arena_free(&a);
}

static void pool_gives_each_object_once(void **state)
{
    (void)state;
    hm_pool p;
    assert_int_equal(hm_pool_init(&p, 24, 8, 3), HM_OK);
    void *a = hm_pool_get(&p), *b = hm_pool_get(&p), *c = hm_pool_get(&p);
    assert_true(a && b && c && a != b && b != c && a != c);
    assert_null(hm_pool_get(&p));
    hm_pool_put(&p, b);
    assert_ptr_equal(hm_pool_get(&p), b);
    hm_pool_put(&p, a), hm_pool_put(&p, b), hm_pool_put(&p, c);
    hm_pool_free(&p);
}

static void siphash_reference_vector(void **state)
{
    (void)state;
    // SipHash-2-4 reference implementation, key 00..0f, input 00..0e.
    uint8_t in[15];
    for (uint8_t i = 0; i < 15; i++)
        in[i] = i;
    const uint64_t seed[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    assert_true(hm_siphash(seed, in, 15) == 0xa129ca6149be45e5u);
}

// Random operations against an array.
static void map_agrees_with_a_model(void **state)
{
    (void)state;
    hm_prng prng;
    hm_prng_seed(&prng, 1);
    hm_random random = hm_random_prng(&prng);
    hm_map m;
    hm_map_init(&m, 2, 0, &random);
    static char model[1024];
    size_t count = 0;
    for (int i = 0; i < 200000; i++) {
        uint16_t k = (uint16_t)hm_prng_below(&prng, 1024);
        if (hm_prng_below(&prng, 2)) {
            assert_int_equal(hm_map_put(&m, &k, &model[k]), HM_OK);
            count += !model[k];
            model[k] = 1;
        } else {
            void *v = hm_map_remove(&m, &k);
            assert_ptr_equal(v, model[k] ? &model[k] : NULL);
            count -= (size_t)model[k];
            model[k] = 0;
        }
        assert_int_equal(m.count, count);
        uint16_t q = (uint16_t)hm_prng_below(&prng, 1024);
        assert_ptr_equal(hm_map_get(&m, &q), model[q] ? &model[q] : NULL);
    }
    size_t pos = 0, seen = 0;
    while (hm_map_next(&m, &pos, NULL, NULL))
        seen++;
    assert_int_equal(seen, count);
    hm_map_free(&m);

    hm_map_init(&m, 2, 1, &random);
    assert_int_equal(hm_map_put(&m, "aa", &m), HM_OK);
    assert_int_equal(hm_map_put(&m, "bb", &m), HM_E_LIMIT);
    assert_int_equal(hm_map_put(&m, "aa", &random), HM_OK);
    hm_map_free(&m);
}

static void heap_sorts_and_is_stable(void **state)
{
    (void)state;
    enum { N = 1000 };
    static hm_heap_node nodes[N];
    hm_heap h = {0};
    hm_prng prng;
    hm_prng_seed(&prng, 2);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < N; i++)
            assert_int_equal(hm_heap_set(&h, &nodes[i], hm_prng_below(&prng, 50)), HM_OK);
        for (int i = 0; i < N; i += 3)
            hm_heap_remove(&h, &nodes[i]);
        uint64_t key = 0, seq = 0;
        for (hm_heap_node *n; (n = hm_heap_min(&h));) {
            assert_true(n->key > key || (n->key == key && n->seq >= seq));
            key = n->key;
            seq = n->seq;
            hm_heap_remove(&h, n);
        }
    }
    hm_heap_free(&h);
}

static void list_keeps_order(void **state)
{
    (void)state;
    hm_list head, n[4];
    hm_list_init(&head);
    for (int i = 0; i < 4; i++)
        hm_list_append(&head, &n[i]);
    hm_list_remove(&n[1]);
    hm_list_remove(&n[1]);
    hm_list_prepend(&head, &n[1]);
    hm_list *want[] = {&n[1], &n[0], &n[2], &n[3]};
    int i = 0;
    hm_list_each(it, &head)
    {
        assert_ptr_equal(it, want[i++]);
        hm_list_remove(it);
    }
    assert_int_equal(i, 4);
    assert_true(hm_list_empty(&head));
}

static void list_moves_all(void **state)
{
    (void)state;
    for (int here = 0; here < 3; here++) {
        for (int there = 0; there < 3; there++) {
            hm_list from, to, n[4];
            hm_list_init(&from);
            hm_list_init(&to);
            for (int i = 0; i < there; i++)
                hm_list_append(&to, &n[i]);
            for (int i = there; i < there + here; i++)
                hm_list_append(&from, &n[i]);
            hm_list_move_all(&from, &to);
            assert_true(hm_list_empty(&from));
            hm_list *it = &to;
            for (int i = 0; i < there + here; i++) {
                assert_ptr_equal(it->next, &n[i]);
                assert_ptr_equal(n[i].prev, it);
                it = it->next;
            }
            assert_ptr_equal(it->next, &to);
            assert_ptr_equal(to.prev, it);
        }
    }
}

static void prng_repeats_and_log_quotes(void **state)
{
    (void)state;
    hm_prng a, b;
    hm_prng_seed(&a, 42);
    hm_prng_seed(&b, 42);
    for (int i = 0; i < 100; i++)
        assert_true(hm_prng_next(&a) == hm_prng_next(&b));
    char q[16];
    assert_string_equal(hm_log_quote(q, sizeof q, hm_bytes_of("a\"\n", 3)), "\"a\\x22\\x0a\"");
    assert_string_equal(hm_log_quote(q, sizeof q, hm_bytes_str("0123456789abcdef")),
                        "\"012345678\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_detail_is_kept_and_may_quote_itself),
        cmocka_unit_test(buf_grows_and_fixed_buf_refuses),
        cmocka_unit_test(hex_round_trip_and_bad_digits),
        cmocka_unit_test(wire_round_trip),
        cmocka_unit_test(wire_refuses_hostile_lengths),
        cmocka_unit_test(files_are_replaced_whole),
        cmocka_unit_test(secrets_of_others_are_refused_but_credentials_may_have_a_mask),
        cmocka_unit_test(arena_aligns_zeroes_and_limits),
        cmocka_unit_test(pool_gives_each_object_once),
        cmocka_unit_test(siphash_reference_vector),
        cmocka_unit_test(map_agrees_with_a_model),
        cmocka_unit_test(heap_sorts_and_is_stable),
        cmocka_unit_test(list_keeps_order),
        cmocka_unit_test(list_moves_all),
        cmocka_unit_test(prng_repeats_and_log_quotes),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
