// What a stoq-server tells over HTTPS: /metrics, /metrics/performance, /healthz, /readyz. Reads
// only, no token. Everything belongs to the loop's thread.
#ifndef HM_SERVER_STOQ_API_H
#define HM_SERVER_STOQ_API_H

#include "server/stoq_perf.h"

typedef struct stoq_api {
    hm_http *http;
    void (*totals)(void *ctx, stoq_perf_totals *out);
    void *ctx; // borrowed until close is done
    uint64_t started_us;
} stoq_api;

// The first failure leaves the loop with what is to be closed: run it. bound may be NULL.
HM_CHECK hm_err stoq_api_open(stoq_api *a, uv_loop_t *loop,
                              void (*totals)(void *ctx, stoq_perf_totals *out), void *ctx,
                              const hm_http_listen_config *listen, struct sockaddr_in6 *bound);
// Harmless when it is not open.
void stoq_api_close(stoq_api *a, uint64_t grace_ms);

#endif
