// For tests with cmocka: must be HM_OK, and the failure tells why it is not.
#ifndef OK_H
#define OK_H

#include "base/err.h"

#define OK(expr)                                                                                   \
    do {                                                                                           \
        hm_err ok_err_ = (expr);                                                                   \
        if (ok_err_ != HM_OK)                                                                      \
            fail_msg("%s: %s: %s", #expr, hm_err_text(ok_err_), hm_err_detail());                  \
    } while (0)

#endif
