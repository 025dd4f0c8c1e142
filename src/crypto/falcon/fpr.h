// The real numbers of PQClean's FALCON-1024 on the processor's IEEE 754 doubles.
//
// inner.h names this header as the place for another implementation of `fpr`; PQClean's own
// computes doubles with integers. Both round to nearest even, so both give the same bits and the
// same signatures (tests/unit/test_falcon_kat.c runs over both; docs/decisions/0001 has the figures
// and what is traded: division and square root need not take constant time on every processor;
// FALCON's own reference code for x86 makes the same choice). Bits travel as uint64_t as in the
// original, so its constants and tables serve unchanged.
#ifndef HM_FALCON_FPR_H
#define HM_FALCON_FPR_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if FLT_EVAL_METHOD != 0 || DBL_MANT_DIG != 53
#error "doubles are not IEEE 754 binary64 here: build with -Dfalcon=integer"
#endif

// The constants of the original; its functions stay away under other names.
#define fpr_of fpr_integer_of
#define fpr_rint fpr_integer_rint
#define fpr_floor fpr_integer_floor
#define fpr_trunc fpr_integer_trunc
#define fpr_sub fpr_integer_sub
#define fpr_half fpr_integer_half
#define fpr_double fpr_integer_double
#define fpr_sqr fpr_integer_sqr
#define fpr_inv fpr_integer_inv
#define fpr_lt fpr_integer_lt
#include "falcon-1024/clean/fpr.h"
#undef fpr_of
#undef fpr_rint
#undef fpr_floor
#undef fpr_trunc
#undef fpr_sub
#undef fpr_half
#undef fpr_double
#undef fpr_sqr
#undef fpr_inv
#undef fpr_lt
#undef fpr_scaled
#undef fpr_add
#undef fpr_mul
#undef fpr_div
#undef fpr_sqrt
#undef fpr_expm_p63

static inline double fpr_get(fpr x)
{
    double d;
    memcpy(&d, &x, sizeof d);
    return d;
}
static inline fpr fpr_put(double d)
{
    fpr x;
    memcpy(&x, &d, sizeof x);
    return x;
}

static inline fpr fpr_of(int64_t i)
{
    return fpr_put((double)i);
}
// i * 2^sc; the power is exact, and so is the product while it is a normal number.
static inline fpr fpr_scaled(int64_t i, int sc)
{
    return fpr_put((double)i * fpr_get((uint64_t)(1023 + sc) << 52));
}
static inline int64_t fpr_rint(fpr x)
{
    return llrint(fpr_get(x));
}
static inline int64_t fpr_trunc(fpr x)
{
    return (int64_t)fpr_get(x);
}
static inline int64_t fpr_floor(fpr x)
{
    int64_t i = fpr_trunc(x);
    return i - (fpr_get(x) < (double)i);
}
static inline fpr fpr_add(fpr x, fpr y)
{
    return fpr_put(fpr_get(x) + fpr_get(y));
}
static inline fpr fpr_sub(fpr x, fpr y)
{
    return fpr_put(fpr_get(x) - fpr_get(y));
}
static inline fpr fpr_half(fpr x)
{
    return fpr_put(fpr_get(x) * 0.5);
}
static inline fpr fpr_double(fpr x)
{
    return fpr_put(fpr_get(x) * 2.0);
}
static inline fpr fpr_mul(fpr x, fpr y)
{
    return fpr_put(fpr_get(x) * fpr_get(y));
}
static inline fpr fpr_sqr(fpr x)
{
    return fpr_mul(x, x);
}
static inline fpr fpr_div(fpr x, fpr y)
{
    return fpr_put(fpr_get(x) / fpr_get(y));
}
static inline fpr fpr_inv(fpr x)
{
    return fpr_put(1.0 / fpr_get(x));
}
static inline fpr fpr_sqrt(fpr x)
{
    return fpr_put(sqrt(fpr_get(x)));
}

// ccs * exp(-x) as a whole number of 2^-63, for 0 <= x < log 2: integer arithmetic in the original
// too, there with products of 32 bits. The coefficients: Zhao, Steinfeld, Sakzad, "FACCT: Fast,
// Compact, and Constant-Time Discrete Gaussian Sampler over Integers" (ePrint 2018/1234), times
// 2^63.
static inline uint64_t fpr_high(uint64_t a, uint64_t b)
{
    return (uint64_t)(((unsigned __int128)a * b) >> 64);
}
static inline uint64_t fpr_expm_p63(fpr x, fpr ccs)
{
    static const uint64_t c[13] = {
        0x00000004741183a3, 0x00000036548cfc06, 0x0000024fdcbf140a, 0x0000171d939de045,
        0x0000d00cf58f6f84, 0x000680681cf796e3, 0x002d82d8305b0fea, 0x011111110e066fd0,
        0x0555555555070f00, 0x155555555581ff00, 0x400000000002b400, 0x7fffffffffff4800,
        0x8000000000000000,
    };
    uint64_t z = (uint64_t)fpr_trunc(fpr_mul(x, fpr_ptwo63)) << 1, y = c[0];
    for (int i = 1; i < 13; i++)
        y = c[i] - fpr_high(z, y);
    z = (uint64_t)fpr_trunc(fpr_mul(ccs, fpr_ptwo63)) << 1;
    return fpr_high(z, y);
}
static inline int fpr_lt(fpr x, fpr y)
{
    return fpr_get(x) < fpr_get(y);
}

#endif
