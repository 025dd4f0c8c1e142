#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <gmp.h>
#include <pthread.h>
#include <sched.h>

#include "mesh/proof_time.h"

static hm_time_group group_of(uint16_t bits, uint64_t iterations)
{
    hm_time_group g;
    assert_int_equal(hm_time_group_make(hm_bytes_str("test"), bits, iterations, &g), HM_OK);
    return g;
}

// ---- an independent, slow composition of forms (Cohen 1993, algorithms 5.4.2 and 5.4.7) ---------

typedef struct form {
    mpz_t a, b, c;
} form;

static void form_reduce(form *f)
{
    mpz_t t, q;
    mpz_inits(t, q, NULL);
    for (;;) {
        // b into (-a, a]: b -= 2a * ceil((b - a) / 2a)
        mpz_sub(t, f->b, f->a);
        mpz_mul_ui(q, f->a, 2);
        mpz_cdiv_q(q, t, q);
        mpz_mul(t, q, f->a); // c := a q^2 - b q + c
        mpz_sub(t, t, f->b);
        mpz_addmul(f->c, t, q);
        mpz_mul_ui(t, f->a, 2);
        mpz_submul(f->b, t, q);
        int cmp = mpz_cmp(f->a, f->c);
        if (cmp > 0) {
            mpz_swap(f->a, f->c);
            mpz_neg(f->b, f->b);
            continue;
        }
        if (cmp == 0 && mpz_sgn(f->b) < 0)
            mpz_neg(f->b, f->b);
        break;
    }
    mpz_clears(t, q, NULL);
}

// f := f composed with itself.
static void form_double(form *f)
{
    mpz_t d, x, y, v, r, t;
    mpz_inits(d, x, y, v, r, t, NULL);
    // a1 = a2 = a, s = b, n = 0: d = a, y1 = 0; x b + y a = d1
    mpz_gcdext(d, x, y, f->b, f->a);
    mpz_divexact(v, f->a, d);
    mpz_mul(r, x, f->c); // r = -x c mod v
    mpz_neg(r, r);
    mpz_mod(r, r, v);
    // c3 = (c d + r (b + v r)) / v, b3 = b + 2 v r, a3 = v^2
    mpz_mul(t, v, r);
    mpz_add(t, t, f->b);
    mpz_mul(t, t, r);
    mpz_addmul(t, f->c, d);
    mpz_divexact(f->c, t, v);
    mpz_mul(t, v, r);
    mpz_mul_ui(t, t, 2);
    mpz_add(f->b, f->b, t);
    mpz_mul(f->a, v, v);
    form_reduce(f);
    mpz_clears(d, x, y, v, r, t, NULL);
}

static void form_load(form *f, const hm_time_group *g, const uint8_t *in)
{
    size_t half = g->bits / 16;
    mpz_t d;
    mpz_inits(f->a, f->b, f->c, d, NULL);
    mpz_import(f->a, half, 1, 1, 1, 0, in + 1);
    mpz_import(f->b, half, 1, 1, 1, 0, in + 1 + half);
    if (in[0])
        mpz_neg(f->b, f->b);
    mpz_import(d, g->bits / 8, 1, 1, 1, 0, g->p);
    mpz_mul(f->c, f->b, f->b);
    mpz_add(f->c, f->c, d);
    mpz_divexact_ui(f->c, f->c, 4);
    mpz_divexact(f->c, f->c, f->a);
    mpz_clear(d);
}

static void squarings_agree_with_naive_composition(void **state)
{
    (void)state;
    hm_hash in = {{1, 2, 3}};
    hm_time_group first = group_of(256, 1), last = group_of(256, 600);
    assert_memory_equal(first.p, last.p, 32);
    hm_buf a = {0}, b = {0};
    assert_int_equal(hm_time_eval(&first, &in, NULL, &a), HM_OK);
    assert_int_equal(hm_time_eval(&last, &in, NULL, &b), HM_OK);
    form f, want;
    form_load(&f, &first, a.ptr);
    form_load(&want, &last, b.ptr);
    for (int i = 1; i < 600; i++)
        form_double(&f);
    assert_int_equal(mpz_cmp(f.a, want.a), 0);
    assert_int_equal(mpz_cmp(f.b, want.b), 0);
    assert_int_equal(mpz_cmp(f.c, want.c), 0);
    mpz_clears(f.a, f.b, f.c, want.a, want.b, want.c, NULL);
    hm_buf_free(&a);
    hm_buf_free(&b);
}

static void discriminant_is_a_prime_7_mod_8(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        uint8_t seed[1] = {(uint8_t)i};
        uint16_t bits = (uint16_t)(256 * (1 + i % 3));
        hm_time_group g, again;
        assert_int_equal(hm_time_group_make(hm_bytes_of(seed, 1), bits, 5, &g), HM_OK);
        assert_int_equal(hm_time_group_make(hm_bytes_of(seed, 1), bits, 5, &again), HM_OK);
        assert_memory_equal(&g, &again, sizeof g);
        mpz_t p;
        mpz_init(p);
        mpz_import(p, bits / 8, 1, 1, 1, 0, g.p);
        assert_int_equal(mpz_sizeinbase(p, 2), bits);
        assert_int_equal(mpz_fdiv_ui(p, 8), 7);
        assert_true(mpz_probab_prime_p(p, 30));
        mpz_clear(p);
    }
    hm_time_group g;
    assert_int_equal(hm_time_group_make(hm_bytes_str("x"), 100, 1, &g), HM_E_RANGE);
    assert_int_equal(hm_time_group_make(hm_bytes_str("x"), 4352, 1, &g), HM_E_RANGE);
    assert_int_equal(hm_time_group_make(hm_bytes_str("x"), 256, 0, &g), HM_E_RANGE);
    assert_int_equal(hm_time_group_make(hm_bytes_str("x"), 256, HM_TIME_ITERATIONS_MAX + 1, &g),
                     HM_E_RANGE);
}

static void proofs_of_all_lengths_verify(void **state)
{
    (void)state;
    // 20000 and 70000 squarings use several digits a checkpoint and windows of different width.
    const uint64_t lengths[] = {1, 2, 3, 7, 64, 255, 256, 257, 300, 1000, 4097, 20000, 70000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        hm_time_group g = group_of(256, lengths[i]);
        hm_hash in = {{(uint8_t)i}}, out = {0};
        hm_buf proof = {0};
        hm_time_progress progress = {0};
        assert_int_equal(hm_time_eval(&g, &in, &progress, &proof), HM_OK);
        assert_int_equal(proof.len, hm_time_proof_bytes(&g));
        assert_int_equal(progress.done, lengths[i]);
        assert_int_equal(hm_time_verify(&g, &in, hm_buf_bytes(&proof), &out), HM_OK);
        assert_int_equal(hm_time_verify(&g, &in, hm_buf_bytes(&proof), NULL), HM_OK);
        // A delay one longer, another input and another group refuse it.
        hm_time_group longer = group_of(256, lengths[i] + 1), wider = group_of(512, lengths[i]);
        hm_hash other = {{(uint8_t)i, 1}};
        assert_int_equal(hm_time_verify(&longer, &in, hm_buf_bytes(&proof), &out), HM_E_PROOF_TIME);
        assert_int_equal(hm_time_verify(&g, &other, hm_buf_bytes(&proof), &out), HM_E_PROOF_TIME);
        assert_int_equal(hm_time_verify(&wider, &in, hm_buf_bytes(&proof), &out), HM_E_PROOF_TIME);
        hm_buf_free(&proof);
    }
}

static void every_changed_byte_is_refused(void **state)
{
    (void)state;
    hm_time_group g = group_of(256, 50);
    hm_hash in = {{5}}, out = {0};
    hm_buf proof = {0};
    assert_int_equal(hm_time_eval(&g, &in, NULL, &proof), HM_OK);
    for (size_t i = 0; i < proof.len; i++) {
        for (int bit = 0; bit < 8; bit += 3) {
            proof.ptr[i] ^= (uint8_t)(1 << bit);
            hm_err_clear();
            assert_int_equal(hm_time_verify(&g, &in, hm_buf_bytes(&proof), &out), HM_E_PROOF_TIME);
            assert_true(strncmp(hm_err_detail(), "wrong: ", 7) == 0);
            proof.ptr[i] ^= (uint8_t)(1 << bit);
        }
    }
    for (size_t len = 0; len < proof.len; len++)
        assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(proof.ptr, len), &out),
                         HM_E_PROOF_TIME);
    hm_buf_append(&proof, "", 1);
    assert_int_equal(hm_time_verify(&g, &in, hm_buf_bytes(&proof), &out), HM_E_PROOF_TIME);
    hm_buf_free(&proof);
}

// Forms that are of the group but not the canonical ones, and values that swap roles.
static void hostile_forms_are_refused(void **state)
{
    (void)state;
    hm_time_group g = group_of(256, 50);
    size_t n = hm_time_form_bytes(&g), half = g.bits / 16;
    hm_hash in = {{6}}, out = {0};
    hm_buf proof = {0};
    assert_int_equal(hm_time_eval(&g, &in, NULL, &proof), HM_OK);
    uint8_t bad[2 * HM_TIME_FORM_MAX];

    // y and pi exchanged
    memcpy(bad, proof.ptr + n, n);
    memcpy(bad + n, proof.ptr, n);
    assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(bad, 2 * n), &out), HM_E_PROOF_TIME);
    // the inverse of y
    memcpy(bad, proof.ptr, 2 * n);
    bad[0] ^= 1;
    assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(bad, 2 * n), &out), HM_E_PROOF_TIME);
    // the identity for both: y = 1 would say that the input has order 2^50
    memset(bad, 0, sizeof bad);
    bad[half] = bad[2 * half] = bad[n + half] = bad[n + 2 * half] = 1;
    assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(bad, 2 * n), &out), HM_E_PROOF_TIME);
    // the identity with b = -1: the same class, not reduced
    bad[0] = 1;
    assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(bad, 2 * n), &out), HM_E_PROOF_TIME);
    assert_non_null(strstr(hm_err_detail(), "not reduced"));
    // a = 0, everything zero, everything ones
    memset(bad, 0, sizeof bad);
    assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(bad, 2 * n), &out), HM_E_PROOF_TIME);
    memset(bad, 0xff, sizeof bad);
    assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(bad, 2 * n), &out), HM_E_PROOF_TIME);

    // y as the equivalent form (a, b + 2a): right discriminant, not reduced
    mpz_t a, b;
    mpz_inits(a, b, NULL);
    mpz_import(a, half, 1, 1, 1, 0, proof.ptr + 1);
    mpz_import(b, half, 1, 1, 1, 0, proof.ptr + 1 + half);
    if (proof.ptr[0])
        mpz_neg(b, b);
    mpz_addmul_ui(b, a, 2);
    memcpy(bad, proof.ptr, 2 * n);
    bad[0] = 0;
    if (mpz_sizeinbase(b, 2) <= 8 * half) {
        size_t size = (mpz_sizeinbase(b, 2) + 7) / 8;
        memset(bad + 1 + half, 0, half);
        mpz_export(bad + 1 + 2 * half - size, NULL, 1, 1, 1, 0, b);
        assert_int_equal(hm_time_verify(&g, &in, hm_bytes_of(bad, 2 * n), &out), HM_E_PROOF_TIME);
        assert_non_null(strstr(hm_err_detail(), "not reduced"));
    }
    mpz_clears(a, b, NULL);
    hm_buf_free(&proof);
}

struct long_eval {
    hm_time_group g;
    hm_time_progress progress;
    hm_err err;
};

static void *long_eval_run(void *arg)
{
    struct long_eval *e = arg;
    hm_hash in = {{8}};
    hm_buf proof = {0};
    e->err = hm_time_eval(&e->g, &in, &e->progress, &proof);
    hm_buf_free(&proof);
    return NULL;
}

static void evaluation_reports_and_is_cancelled_from_another_thread(void **state)
{
    (void)state;
    struct long_eval e = {.g = group_of(256, UINT64_C(1) << 30)};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, long_eval_run, &e), 0);
    while (atomic_load(&e.progress.done) < 1000)
        sched_yield();
    atomic_store(&e.progress.cancel, true);
    pthread_join(t, NULL);
    assert_int_equal(e.err, HM_E_CLOSED);
    assert_true(e.progress.done < UINT64_C(1) << 30);
}

static void beacon_inputs_depend_on_everything(void **state)
{
    (void)state;
    hm_hash a = {{1}}, b = {{2}};
    hm_hash zero = hm_time_beacon_zero(&a), x = hm_time_beacon_input(&zero, 1, &a);
    hm_hash y[] = {hm_time_beacon_input(&b, 1, &a), hm_time_beacon_input(&zero, 2, &a),
                   hm_time_beacon_input(&zero, 1, &b), zero, hm_time_beacon_zero(&b)};
    for (size_t i = 0; i < sizeof y / sizeof *y; i++)
        assert_memory_not_equal(x.b, y[i].b, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(squarings_agree_with_naive_composition),
        cmocka_unit_test(discriminant_is_a_prime_7_mod_8),
        cmocka_unit_test(proofs_of_all_lengths_verify),
        cmocka_unit_test(every_changed_byte_is_refused),
        cmocka_unit_test(hostile_forms_are_refused),
        cmocka_unit_test(evaluation_reports_and_is_cancelled_from_another_thread),
        cmocka_unit_test(beacon_inputs_depend_on_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
