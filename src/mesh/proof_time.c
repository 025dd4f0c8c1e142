#include "mesh/proof_time.h"

#include <flint/flint.h>
#include <flint/fmpz.h>
#include <flint/qfb.h>
#include <stdlib.h>

#define CHALLENGE_BYTES 32 // 256-bit primes: 2 * 128, for a non-interactive challenge
#define CHECKPOINTS_MAX 16384u
#define WINDOW_MAX 14u

// What a call works with: the discriminant and its fourth root, which bounds nucomp's partial
// Euclid.
typedef struct group {
    const hm_time_group *g;
    fmpz_t d;
    fmpz_t l;
} group;

static void fmpz_from_be(fmpz_t out, const uint8_t *bytes, size_t len)
{
    mpz_t z;
    mpz_init(z);
    mpz_import(z, len, 1, 1, 1, 0, bytes);
    fmpz_set_mpz(out, z);
    mpz_clear(z);
}

// len bytes, big endian; the value fits (asserted) and is not negative.
static void fmpz_to_be(uint8_t *out, size_t len, const fmpz_t v)
{
    hm_assert(fmpz_sgn(v) >= 0 && fmpz_sizeinbase(v, 2) <= 8 * len);
    memset(out, 0, len);
    mpz_t z;
    mpz_init(z);
    fmpz_get_mpz(z, v);
    size_t n = (mpz_sizeinbase(z, 2) + 7) / 8, written = 0;
    if (mpz_sgn(z) != 0)
        mpz_export(out + len - n, &written, 1, 1, 1, 0, z);
    mpz_clear(z);
}

static void group_init(group *x, const hm_time_group *g)
{
    x->g = g;
    fmpz_init(x->d);
    fmpz_init(x->l);
    fmpz_from_be(x->d, g->p, g->bits / 8);
    fmpz_root(x->l, x->d, 4);
    fmpz_neg(x->d, x->d);
}

static void group_clear(group *x)
{
    fmpz_clear(x->d);
    fmpz_clear(x->l);
}

static void form_mul(group *x, qfb_t r, const qfb_t f, const qfb_t g)
{
    qfb_nucomp(r, f, g, x->d, x->l);
    qfb_reduce(r, r, x->d);
}

static void form_square(group *x, qfb_t r, const qfb_t f)
{
    qfb_nudupl(r, f, x->d, x->l);
    qfb_reduce(r, r, x->d);
}

size_t hm_time_form_bytes(const hm_time_group *g)
{
    return 1 + 2 * (size_t)(g->bits / 16);
}

size_t hm_time_proof_bytes(const hm_time_group *g)
{
    return 2 * hm_time_form_bytes(g);
}

// Sign of b (1 = negative), a, |b|. In a reduced form |b| <= a <= sqrt(|d|/3), so both fit half of
// the discriminant's bits; c follows from d.
static void form_write(group *x, uint8_t *out, qfb_t f)
{
    size_t half = x->g->bits / 16;
    out[0] = fmpz_sgn(f->b) < 0;
    fmpz_to_be(out + 1, half, f->a);
    fmpz_t b;
    fmpz_init(b);
    fmpz_abs(b, f->b);
    fmpz_to_be(out + 1 + half, half, b);
    fmpz_clear(b);
}

static hm_err form_read(group *x, qfb_t f, const uint8_t *in, const char *what)
{
    size_t half = x->g->bits / 16;
    if (in[0] > 1)
        return hm_fail(HM_E_PROOF_TIME, "wrong: the sign byte of %s is neither 0 nor 1", what);
    fmpz_from_be(f->a, in + 1, half);
    fmpz_from_be(f->b, in + 1 + half, half);
    if (in[0] == 1)
        fmpz_neg(f->b, f->b);
    // b is odd because d is, so "minus zero" cannot pass.
    if (fmpz_sgn(f->a) <= 0 || fmpz_is_even(f->b))
        return hm_fail(HM_E_PROOF_TIME, "wrong: %s is not a form of the group", what);
    hm_err err = HM_OK;
    fmpz_t num, den, rest;
    fmpz_init(num);
    fmpz_init(den);
    fmpz_init(rest);
    fmpz_mul(num, f->b, f->b);
    fmpz_sub(num, num, x->d);
    fmpz_mul_2exp(den, f->a, 2);
    fmpz_fdiv_qr(f->c, rest, num, den);
    if (!fmpz_is_zero(rest))
        err = hm_fail(HM_E_PROOF_TIME, "wrong: %s does not have the group's discriminant", what);
    else if (!qfb_is_reduced(f))
        err = hm_fail(HM_E_PROOF_TIME, "wrong: %s is not reduced", what);
    else if (!qfb_is_primitive(f))
        err = hm_fail(HM_E_PROOF_TIME, "wrong: %s is not primitive", what);
    fmpz_clear(num);
    fmpz_clear(den);
    fmpz_clear(rest);
    return err;
}

// SHA-256 of domain, 0x00 and the parts.
static hm_hash hash_parts(const char *domain, const hm_bytes *parts, size_t count)
{
    hm_buf b = {0};
    hm_buf_append(&b, domain, strlen(domain) + 1);
    for (size_t i = 0; i < count; i++)
        hm_buf_put(&b, parts[i]);
    hm_assert(hm_buf_status(&b) == HM_OK); // a few kilobytes
    hm_hash h = hm_sha256(hm_buf_bytes(&b));
    hm_buf_free(&b);
    return h;
}

static hm_hash hash_counter(const char *domain, const hm_hash *seed, uint32_t counter)
{
    uint8_t be[4] = {(uint8_t)(counter >> 24), (uint8_t)(counter >> 16), (uint8_t)(counter >> 8),
                     (uint8_t)counter};
    return hash_parts(domain, (hm_bytes[]){hm_bytes_of(seed->b, 32), hm_bytes_of(be, 4)}, 2);
}

hm_err hm_time_group_make(hm_bytes seed, uint16_t bits, uint64_t iterations, hm_time_group *out)
{
    if (bits < HM_TIME_BITS_MIN || bits > HM_TIME_BITS_MAX || bits % 256 != 0)
        return hm_fail(HM_E_RANGE, "discriminant of %u bits: need a multiple of 256 in %u..%u",
                       bits, HM_TIME_BITS_MIN, HM_TIME_BITS_MAX);
    if (iterations == 0 || iterations > HM_TIME_ITERATIONS_MAX)
        return hm_fail(HM_E_RANGE, "a delay of %llu squarings: need 1..2^36",
                       (unsigned long long)iterations);
    uint8_t size[2] = {(uint8_t)(bits >> 8), (uint8_t)bits};
    hm_hash root = hash_parts("hypermesh/time/d/1", (hm_bytes[]){hm_bytes_of(size, 2), seed}, 2);
    uint8_t start[HM_TIME_BITS_MAX / 8];
    for (uint32_t i = 0; i < bits / 256u; i++) {
        hm_hash h = hash_counter("hypermesh/time/d/2", &root, i);
        memcpy(start + 32 * i, h.b, 32);
    }
    start[0] |= 0x80;
    start[bits / 8 - 1] |= 7;
    fmpz_t p;
    fmpz_init(p);
    fmpz_from_be(p, start, bits / 8);
    // The next prime that is 7 mod 8. Running past 2^bits has a chance of about 2^-bits; going on
    // from the bottom keeps the function total.
    while (!fmpz_is_probabprime(p)) {
        fmpz_add_ui(p, p, 8);
        if (fmpz_sizeinbase(p, 2) > bits) {
            fmpz_one(p);
            fmpz_mul_2exp(p, p, bits - 1u);
            fmpz_add_ui(p, p, 7);
        }
    }
    memset(out, 0, sizeof *out);
    out->bits = bits;
    out->iterations = iterations;
    fmpz_to_be(out->p, bits / 8, p);
    fmpz_clear(p);
    flint_cleanup();
    return HM_OK;
}

// The input as a form: the first prime q = H(seed, counter) for which d is a square modulo q gives
// (q, b, c) with the one odd root b in 1..q-1.
static void form_of_input(group *x, qfb_t f, const hm_hash *input)
{
    hm_hash seed = hash_parts(
        "hypermesh/time/x/1",
        (hm_bytes[]){hm_bytes_of(x->g->p, x->g->bits / 8), hm_bytes_of(input->b, 32)}, 2);
    fmpz_t q, r;
    fmpz_init(q);
    fmpz_init(r);
    for (uint32_t i = 0;; i++) {
        hm_hash h = hash_counter("hypermesh/time/x/2", &seed, i);
        h.b[31] |= 1;
        fmpz_from_be(q, h.b, 32);
        if (fmpz_cmp_ui(q, 3) < 0 || !fmpz_is_probabprime(q))
            continue;
        fmpz_mod(r, x->d, q);
        if (!fmpz_is_zero(r) && fmpz_sqrtmod(f->b, r, q))
            break;
    }
    if (fmpz_is_even(f->b))
        fmpz_sub(f->b, q, f->b);
    fmpz_set(f->a, q);
    fmpz_mul(f->c, f->b, f->b);
    fmpz_sub(f->c, f->c, x->d);
    fmpz_mul_2exp(r, q, 2);
    fmpz_divexact(f->c, f->c, r);
    qfb_reduce(f, f, x->d);
    fmpz_clear(q);
    fmpz_clear(r);
}

// The challenge: the first 256-bit prime of H(d, iterations, x, y), counter.
static void challenge(group *x, fmpz_t l, const uint8_t *fx, const uint8_t *fy)
{
    uint8_t t[8];
    for (int i = 0; i < 8; i++)
        t[i] = (uint8_t)(x->g->iterations >> (56 - 8 * i));
    size_t n = hm_time_form_bytes(x->g);
    hm_hash seed = hash_parts("hypermesh/time/l/1",
                              (hm_bytes[]){hm_bytes_of(x->g->p, x->g->bits / 8), hm_bytes_of(t, 8),
                                           hm_bytes_of(fx, n), hm_bytes_of(fy, n)},
                              4);
    for (uint32_t i = 0;; i++) {
        hm_hash h = hash_counter("hypermesh/time/l/2", &seed, i);
        h.b[0] |= 0x80;
        h.b[CHALLENGE_BYTES - 1] |= 1;
        fmpz_from_be(l, h.b, CHALLENGE_BYTES);
        if (fmpz_is_probabprime(l))
            return;
    }
}

// ---- evaluation ---------------------------------------------------------------------------------

// Wesolowski's trade-off (2019, section 4.1): with checkpoints x^(2^(window*stride*i)) kept during
// the squarings, the proof costs iterations/window + stride * 2^(window+1) multiplications.
typedef struct plan {
    uint64_t window; // bits of a digit of 2^iterations / l
    uint64_t stride; // digits between checkpoints
    uint64_t count;  // checkpoints
} plan;

static plan plan_make(uint64_t iterations)
{
    plan best = {0};
    uint64_t best_cost = UINT64_MAX;
    for (uint64_t w = 1; w <= WINDOW_MAX; w++) {
        uint64_t digits = (iterations + w - 1) / w;
        uint64_t stride = (digits + CHECKPOINTS_MAX - 1) / CHECKPOINTS_MAX;
        uint64_t cost = digits + stride * ((UINT64_C(2) << w) + w);
        if (cost < best_cost) {
            best_cost = cost;
            best = (plan){w, stride, (digits + stride - 1) / stride};
        }
    }
    return best;
}

static bool cancelled(const hm_time_progress *p)
{
    return p && atomic_load_explicit(&p->cancel, memory_order_relaxed);
}

static qfb *forms_make(size_t count)
{
    qfb *f = calloc(count, sizeof *f); // an fmpz of zero is all zero bytes: same as qfb_init
    return f;
}

static void forms_free(qfb *f, size_t count)
{
    for (size_t i = 0; f && i < count; i++)
        qfb_clear(&f[i]);
    free(f);
}

static hm_err square_all(group *x, const plan *pl, qfb_t y, qfb *checkpoints, hm_time_progress *pr)
{
    uint64_t every = pl->window * pl->stride;
    for (uint64_t i = 0; i < x->g->iterations; i++) {
        if (i % every == 0)
            qfb_set(&checkpoints[i / every], y);
        form_square(x, y, y);
        if (pr && i % 64 == 63) {
            atomic_store_explicit(&pr->done, i + 1, memory_order_relaxed);
            if (cancelled(pr))
                return hm_fail(HM_E_CLOSED, "the evaluation was cancelled");
        }
    }
    if (pr)
        atomic_store_explicit(&pr->done, x->g->iterations, memory_order_relaxed);
    return HM_OK;
}

// Digit k (base 2^window, from the lowest) of floor(2^iterations / l).
static uint64_t digit(uint64_t iterations, const plan *pl, uint64_t k, const fmpz_t l, fmpz_t t)
{
    fmpz_set_ui(t, 2);
    fmpz_powm_ui(t, t, iterations - pl->window * (k + 1), l);
    fmpz_mul_2exp(t, t, pl->window);
    fmpz_fdiv_q(t, t, l);
    return fmpz_get_ui(t);
}

// acc *= product over b of bucket[b]^b, by splitting b into a high and a low half so that each
// half costs its own few powers instead of one a bucket.
static void collect(group *x, const plan *pl, qfb_t acc, qfb *bucket)
{
    uint64_t lo_bits = pl->window / 2, hi_bits = pl->window - lo_bits;
    qfb_t z, w;
    qfb_init(z);
    qfb_init(w);
    fmpz_t e;
    fmpz_init(e);
    for (int half = 0; half < 2; half++) {
        uint64_t outer = UINT64_C(1) << (half ? lo_bits : hi_bits);
        uint64_t inner = UINT64_C(1) << (half ? hi_bits : lo_bits);
        for (uint64_t i = 1; i < outer; i++) {
            qfb_principal_form(z, x->d);
            for (uint64_t j = 0; j < inner; j++) {
                qfb *b = &bucket[half ? (j << lo_bits) | i : (i << lo_bits) | j];
                if (!fmpz_is_zero(b->a))
                    form_mul(x, z, z, b);
            }
            fmpz_set_ui(e, half ? i : i << lo_bits);
            qfb_pow_with_root(w, z, x->d, e, x->l);
            form_mul(x, acc, acc, w);
        }
    }
    fmpz_clear(e);
    qfb_clear(w);
    qfb_clear(z);
}

static hm_err prove(group *x, const plan *pl, const fmpz_t l, qfb *checkpoints, qfb_t pi,
                    hm_time_progress *pr)
{
    size_t buckets = (size_t)1 << pl->window;
    qfb *bucket = forms_make(buckets);
    if (!bucket)
        return hm_fail(HM_E_NOMEM, "no memory for %zu forms", buckets);
    hm_err err = HM_OK;
    fmpz_t t;
    fmpz_init(t);
    qfb_principal_form(pi, x->d);
    for (uint64_t j = pl->stride; j-- > 0;) {
        for (uint64_t k = 0; k < pl->window; k++)
            form_square(x, pi, pi);
        for (size_t b = 0; b < buckets; b++)
            fmpz_zero(bucket[b].a); // empty
        for (uint64_t i = 0; i < pl->count; i++) {
            uint64_t k = i * pl->stride + j;
            // The highest, partial digit is 0: l has more bits than a window.
            if (pl->window * (k + 1) > x->g->iterations)
                continue;
            uint64_t b = digit(x->g->iterations, pl, k, l, t);
            if (b != 0 && fmpz_is_zero(bucket[b].a))
                qfb_set(&bucket[b], &checkpoints[i]);
            else if (b != 0)
                form_mul(x, &bucket[b], &bucket[b], &checkpoints[i]);
            if (cancelled(pr)) {
                err = hm_fail(HM_E_CLOSED, "the evaluation was cancelled");
                goto out;
            }
        }
        collect(x, pl, pi, bucket);
    }
out:
    fmpz_clear(t);
    forms_free(bucket, buckets);
    return err;
}

hm_err hm_time_eval(const hm_time_group *g, const hm_hash *input, hm_time_progress *progress,
                    hm_buf *proof)
{
    plan pl = plan_make(g->iterations);
    qfb *checkpoints = forms_make(pl.count);
    if (!checkpoints)
        return hm_fail(HM_E_NOMEM, "no memory for %llu forms", (unsigned long long)pl.count);
    hm_err err;
    uint8_t fx[HM_TIME_FORM_MAX], fy[HM_TIME_FORM_MAX], fpi[HM_TIME_FORM_MAX];
    size_t n = hm_time_form_bytes(g);
    group x;
    qfb_t y, pi;
    fmpz_t l;
    group_init(&x, g);
    qfb_init(y);
    qfb_init(pi);
    fmpz_init(l);
    form_of_input(&x, y, input);
    form_write(&x, fx, y);
    HM_TRY_OUT(square_all(&x, &pl, y, checkpoints, progress));
    form_write(&x, fy, y);
    challenge(&x, l, fx, fy);
    HM_TRY_OUT(prove(&x, &pl, l, checkpoints, pi, progress));
    form_write(&x, fpi, pi);
    hm_buf_append(proof, fy, n);
    hm_buf_append(proof, fpi, n);
    err = hm_buf_status(proof);
out:
    fmpz_clear(l);
    qfb_clear(pi);
    qfb_clear(y);
    group_clear(&x);
    forms_free(checkpoints, pl.count);
    flint_cleanup();
    return err;
}

// ---- checking -----------------------------------------------------------------------------------

// r = a^i * b^j by one pass over the bits of both (Shamir's trick).
static void form_pow2(group *x, qfb_t r, qfb_t a, const fmpz_t i, qfb_t b, const fmpz_t j)
{
    qfb_t ab;
    qfb_init(ab);
    form_mul(x, ab, a, b);
    size_t bits_i = fmpz_sizeinbase(i, 2), bits_j = fmpz_sizeinbase(j, 2);
    qfb_principal_form(r, x->d);
    for (size_t k = bits_i > bits_j ? bits_i : bits_j; k-- > 0;) {
        form_square(x, r, r);
        int bi = fmpz_tstbit(i, k), bj = fmpz_tstbit(j, k);
        if (bi || bj)
            form_mul(x, r, r, bi && bj ? ab : bi ? a : b);
    }
    qfb_clear(ab);
}

hm_err hm_time_value(hm_bytes proof, hm_hash *output)
{
    if (proof.len == 0 || proof.len % 2 != 0)
        return hm_fail(HM_E_PROOF_TIME, "a proof of %zu bytes is not two forms", proof.len);
    hm_bytes y = hm_bytes_of(proof.ptr, proof.len / 2);
    *output = hash_parts("hypermesh/time/value/1", &y, 1);
    return HM_OK;
}

hm_err hm_time_verify(const hm_time_group *g, const hm_hash *input, hm_bytes proof, hm_hash *output)
{
    size_t n = hm_time_form_bytes(g);
    if (proof.len != 2 * n)
        return hm_fail(HM_E_PROOF_TIME, "wrong: the proof has %zu bytes instead of %zu", proof.len,
                       2 * n);
    hm_err err;
    group x;
    qfb_t fx, y, pi, r;
    fmpz_t l, e;
    group_init(&x, g);
    qfb_init(fx);
    qfb_init(y);
    qfb_init(pi);
    qfb_init(r);
    fmpz_init(l);
    fmpz_init(e);
    HM_TRY_OUT(form_read(&x, y, proof.ptr, "the output"));
    HM_TRY_OUT(form_read(&x, pi, proof.ptr + n, "the proof"));
    uint8_t x_bytes[HM_TIME_FORM_MAX];
    form_of_input(&x, fx, input);
    form_write(&x, x_bytes, fx);
    challenge(&x, l, x_bytes, proof.ptr);
    fmpz_set_ui(e, 2);
    fmpz_powm_ui(e, e, g->iterations, l);
    form_pow2(&x, r, pi, l, fx, e);
    if (!qfb_equal(r, y)) {
        err = hm_fail(HM_E_PROOF_TIME, "wrong: the output is not the input squared %llu times",
                      (unsigned long long)g->iterations);
        goto out;
    }
    if (output)
        err = hm_time_value(proof, output);
out:
    fmpz_clear(e);
    fmpz_clear(l);
    qfb_clear(r);
    qfb_clear(pi);
    qfb_clear(y);
    qfb_clear(fx);
    group_clear(&x);
    flint_cleanup();
    return err;
}

hm_hash hm_time_beacon_zero(const hm_hash *chain_id)
{
    return hash_parts("hypermesh/time/beacon/0", (hm_bytes[]){hm_bytes_of(chain_id->b, 32)}, 1);
}

hm_hash hm_time_beacon_input(const hm_hash *previous, uint64_t index, const hm_hash *anchor)
{
    uint8_t be[8];
    for (int i = 0; i < 8; i++)
        be[i] = (uint8_t)(index >> (56 - 8 * i));
    return hash_parts(
        "hypermesh/time/beacon/1",
        (hm_bytes[]){hm_bytes_of(previous->b, 32), hm_bytes_of(be, 8), hm_bytes_of(anchor->b, 32)},
        3);
}
