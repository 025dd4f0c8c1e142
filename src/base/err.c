#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char detail[512];

const char *hm_err_text(hm_err err)
{
    switch (err) {
    case HM_OK:
        return "success";
#define X(name, value, text)                                                                       \
    case name:                                                                                     \
        return text;
        HM_ERR_LIST(X)
#undef X
    }
    return "unknown error";
}

const char *hm_err_name(hm_err err)
{
    switch (err) {
    case HM_OK:
        return "OK";
#define X(name, value, text)                                                                       \
    case name:                                                                                     \
        return #name + sizeof("HM_E_") - 1;
        HM_ERR_LIST(X)
#undef X
    }
    return "UNKNOWN";
}

hm_err hm_fail(hm_err err, const char *fmt, ...)
{
    // The arguments may point into the old detail line.
    char line[sizeof detail];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    memcpy(detail, line, sizeof detail);
    return err;
}

const char *hm_err_detail(void)
{
    return detail;
}

void hm_err_clear(void)
{
    detail[0] = 0;
}

hm_err hm_err_of_write(int err_no)
{
    return err_no == ENOSPC || err_no == EDQUOT ? HM_E_FULL : HM_E_IO;
}

void hm_assert_failed(const char *expr, const char *file, int line, const char *func)
{
    fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, func, expr);
    abort();
}
