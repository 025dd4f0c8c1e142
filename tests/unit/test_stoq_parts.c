#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "stoq/window.h"
#include "stoq/endpoint.h"

// Against a plain table of numbers, in random order, until the oldest ranges are forgotten.
static void test_ranges(void **state)
{
    (void)state;
    hm_prng p;
    hm_prng_seed(&p, 7);
    for (int round = 0; round < 50; round++) {
        stoq_ranges r = {0};
        bool seen[400] = {0};
        for (int i = 0; i < 300; i++) {
            uint64_t pn = hm_prng_below(&p, 400);
            bool has = stoq_ranges_has(&r, pn);
            assert_int_equal(has, seen[pn] || pn < r.floor);
            if (has)
                continue;
            stoq_ranges_add(&r, pn);
            seen[pn] = true;
            assert_true(stoq_ranges_has(&r, pn));
            for (uint32_t k = 0; k < r.count; k++) {
                assert_true(r.at[k].lo <= r.at[k].hi);
                assert_true(k == 0 || r.at[k - 1].lo > r.at[k].hi + 1);
            }
        }
    }
}

static void test_token(void **state)
{
    (void)state;
    uint8_t secret[32] = {1}, other[32] = {2}, token[STOQ_TOKEN_MAX];
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = 5}, b = a;
    b.sin6_port = 6;
    stoq_cid odcid = stoq_cid_of((const uint8_t *)"abcdefghijklmnop", 16), got;
    stoq_cid scid = stoq_cid_of((const uint8_t *)"12345678", 8);
    stoq_cid wrong = stoq_cid_of((const uint8_t *)"12345679", 8);
    size_t len = token_make(secret, &a, &odcid, &scid, 1000, token);
    hm_bytes t = hm_bytes_of(token, len);
    assert_true(token_check(secret, &a, t, &scid, 2000, &got));
    assert_true(stoq_cid_eq(&got, &odcid));
    assert_false(token_check(other, &a, t, &scid, 2000, &got));
    assert_false(token_check(secret, &b, t, &scid, 2000, &got));
    assert_false(token_check(secret, &a, t, &wrong, 2000, &got));
    assert_false(token_check(secret, &a, t, &scid, 1000 + STOQ_TOKEN_LIFE_US + 1, &got));
    assert_false(token_check(secret, &a, hm_bytes_of(token, len - 1), &scid, 2000, &got));
    for (size_t i = 0; i < len; i++) {
        token[i] ^= 1;
        assert_false(token_check(secret, &a, t, &scid, 2000, &got));
        token[i] ^= 1;
    }
}

// Several datagrams by one call, over ::1, with a mark.
static void test_socket(void **state)
{
    (void)state;
    stoq_io a, b;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in6 at_a, at_b, from;
    hm_udp_local local;
    uint8_t data[3000], got[3000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31);
    assert_int_equal(stoq_io_open(&a, &any, 1, 0, &at_a), HM_OK);
    assert_int_equal(stoq_io_open(&b, &any, 1, 0, &at_b), HM_OK);
    assert_true(
        stoq_io_send(&a, &(hm_udp_local){0}, &at_b, data, sizeof data, 1200, STOQ_ECN_ECT0));
    size_t total = 0, len, segment;
    uint8_t ecn;
    while (stoq_io_receive(&b, &local, &from, &len, &segment, &ecn)) {
        assert_true(segment <= 1200 && total + len <= sizeof got);
        assert_int_equal(from.sin6_port, at_a.sin6_port);
        assert_int_equal(ecn, STOQ_ECN_ECT0);
        assert_true(IN6_IS_ADDR_UNSPECIFIED(&local.info.ipi6_addr));
        memcpy(got + total, b.buffer, len);
        total += len;
    }
    assert_int_equal(total, sizeof data);
    assert_memory_equal(got, data, sizeof data);
    stoq_io taken;
    assert_int_equal(stoq_io_open(&taken, &at_a, 1, 0, &from), HM_E_CONFIG);
    stoq_io_close(&a);
    stoq_io_close(&b);
}

// A window doubles when half of it was read within two round trips, up to its limit; it never
// shrinks, and the peer hears of more at most once for each step.
static void test_window(void **state)
{
    (void)state;
    stoq_window w;
    uint64_t now = 1000000, read = 0, rtt = 100000;
    stoq_window_init(&w, 1 << 16, 100000, now);
    assert_int_equal(w.max, 1 << 16);
    assert_false(stoq_window_open(&w, read += 1 << 14, now, rtt)); // most of it is still there
    assert_true(stoq_window_open(&w, read += 1, now += rtt + 100, rtt));
    assert_int_equal(w.size, 1 << 16); // half would take more than two round trips
    assert_int_equal(w.max, read + w.size);
    assert_true(stoq_window_open(&w, read += (1 << 14) + 1, now += 100, 0));
    assert_int_equal(w.size, 1 << 16); // of what length is not known
    assert_true(stoq_window_open(&w, read += (1 << 14) + 1, now += rtt, rtt));
    assert_int_equal(w.size, 100000); // not 1 << 17
    assert_int_equal(w.max, read + w.size);
    assert_false(stoq_window_open(&w, read += 50000, now, rtt)); // half, for it grows no more
    for (int i = 0; i < 100; i++)
        assert_true(stoq_window_open(&w, read = w.max, now, rtt));
    assert_int_equal(w.size, 100000);
    assert_true(stoq_window_open(&w, read = w.max, now += 1000 * rtt, rtt));
    assert_int_equal(w.size, 100000);
    stoq_window_init(&w, 1 << 16, 4096, now);
    assert_int_equal(w.size, 4096); // a limit below what windows begin with
    stoq_window_init(&w, 1 << 16, UINT32_MAX, now);
    for (read = 0; w.size < UINT32_MAX; read = w.max)
        (void)stoq_window_open(&w, read, now, rtt);
    assert_true(stoq_window_open(&w, read = w.max, now, rtt));
    assert_int_equal(w.max, read + UINT32_MAX);
    assert_false(stoq_window_open(&w, read += STOQ_WINDOW_STEP, now, rtt));
    assert_true(stoq_window_open(&w, read += 1, now, rtt)); // long before half of it
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranges), cmocka_unit_test(test_token),
                                       cmocka_unit_test(test_socket),
                                       cmocka_unit_test(test_window)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
