// Errors: one code space for all modules, one line of text a code, and a detail line a thread.
//
// A function that can fail returns hm_err and is marked HM_CHECK; outputs are untouched on failure.
// Where the cause is known, it calls hm_fail() so that the person at the end reads what was wrong,
// where, and what to do. Programming errors are hm_assert(): they stay on in release builds.
#ifndef HM_BASE_ERR_H
#define HM_BASE_ERR_H

#include "hypermesh/base.h" // the codes

// Sets this thread's detail line (at most 511 bytes, longer is cut) and returns err.
hm_err hm_fail(hm_err err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void hm_err_clear(void); // the detail line

// Return on failure, keeping the code.
#define HM_TRY(expr)                                                                               \
    do {                                                                                           \
        hm_err hm_try_err_ = (expr);                                                               \
        if (hm_try_err_ != HM_OK)                                                                  \
            return hm_try_err_;                                                                    \
    } while (0)

// goto out on failure; the function has `hm_err err` and a label `out`.
#define HM_TRY_OUT(expr)                                                                           \
    do {                                                                                           \
        err = (expr);                                                                              \
        if (err != HM_OK)                                                                          \
            goto out;                                                                              \
    } while (0)

// The code of a failed write: HM_E_FULL for a disk or a quota that is full, else HM_E_IO.
hm_err hm_err_of_write(int err_no);

_Noreturn void hm_assert_failed(const char *expr, const char *file, int line, const char *func);
#define hm_assert(expr) ((expr) ? (void)0 : hm_assert_failed(#expr, __FILE__, __LINE__, __func__))

#endif
