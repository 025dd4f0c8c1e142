#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static _Atomic int max_level = HM_LOG_INFO;
static const char *const level_names[] = {"error", "warn", "info", "debug"};

void hm_log_set_level(hm_log_level level)
{
    atomic_store(&max_level, (int)level);
}

hm_err hm_log_level_parse(const char *name, hm_log_level *out)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out = (hm_log_level)i;
            return HM_OK;
        }
    }
    return hm_fail(HM_E_CONFIG, "log level \"%s\": use error, warn, info or debug", name);
}

const char *hm_log_quote(char *out, size_t out_size, hm_bytes s)
{
    hm_assert(out_size >= 8);
    size_t n = 0;
    out[n++] = '"';
    for (size_t i = 0; i < s.len && n + 6 < out_size; i++) {
        uint8_t c = s.ptr[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\')
            out[n++] = (char)c;
        else
            n += (size_t)snprintf(out + n, out_size - n, "\\x%02x", c);
    }
    out[n++] = '"';
    out[n] = 0;
    return out;
}

void hm_log(hm_log_level level, const char *component, const char *message, const char *pairs, ...)
{
    if ((int)level > atomic_load(&max_level))
        return;
    char line[2048];
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %s %s \"%s\"", ts.tv_nsec / 1000000,
                          level_names[level], component, message);
    if (n < sizeof line - 2 && pairs[0] != 0) {
        line[n++] = ' ';
        va_list ap;
        va_start(ap, pairs);
        int m = vsnprintf(line + n, sizeof line - n, pairs, ap);
        va_end(ap);
        n += m > 0 ? (size_t)m : 0;
    }
    if (n > sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    // A log that cannot be written has nowhere to be reported.
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}
