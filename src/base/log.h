// Structured log lines on stderr: time, level, component, message, then key=value pairs.
//
//   hm_log(HM_LOG_INFO, "mesh", "block final", "height=%llu txs=%u", height, n);
//
// prints 2026-11-24T02:25:05.123Z info mesh "block final" height=12 txs=3
// The pairs are a printf format of `key=value` words; a value that may hold spaces or anything a
// peer chose goes through hm_log_quote(). Secrets are never logged. Any thread; a line is one
// write.
#ifndef HM_BASE_LOG_H
#define HM_BASE_LOG_H

#include "base/bytes.h"

typedef enum hm_log_level {
    HM_LOG_ERROR,
    HM_LOG_WARN,
    HM_LOG_INFO,
    HM_LOG_DEBUG,
} hm_log_level;

// Lines above this level are dropped; HM_LOG_INFO at start.
void hm_log_set_level(hm_log_level level);
HM_CHECK hm_err hm_log_level_parse(const char *name, hm_log_level *out);
// pairs may be "" for none.
void hm_log(hm_log_level level, const char *component, const char *message, const char *pairs, ...)
    __attribute__((format(printf, 4, 5)));
// Writes s quoted, with everything but printable ASCII as \xHH, cut to fit; returns out.
const char *hm_log_quote(char *out, size_t out_size, hm_bytes s);

#endif
