// Counters and gauges as OpenMetrics text (for /metrics) or as one JSON object (for
// /metrics/performance). A family's values must follow each other.
#ifndef HM_SERVER_METRICS_H
#define HM_SERVER_METRICS_H

#include "server/http.h"

typedef struct hm_metrics {
    hm_buf *out;
    bool json;
    char family[96]; // of the last value
} hm_metrics;

#define HM_OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

void hm_metrics_begin(hm_metrics *m, hm_buf *out, bool json);
// name ends in "_total" for a counter; labels such as reason="op_nonce", or "".
void hm_metrics_value(hm_metrics *m, const char *name, const char *help, const char *labels,
                      uint64_t value, bool gauge);
void hm_metrics_http(hm_metrics *m, const hm_http *http);
void hm_metrics_end(hm_metrics *m);
// Adds the HTTP server's own, ends, answers the request and frees the buffer.
void hm_metrics_reply(hm_metrics *m, const hm_http *http, hm_http_req *r);

#endif
