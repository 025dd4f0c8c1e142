#include "server/stoq_api.h"

#include "base/clock.h"

#define CONNECTIONS_MAX 64u

static uint64_t now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

static void put_metrics(stoq_api *a, hm_http_req *r, bool json)
{
    hm_buf b = {0};
    hm_metrics m;
    hm_metrics_begin(&m, &b, json);
    stoq_perf_totals totals = {0};
    a->totals(a->ctx, &totals);
    stoq_perf_metrics(&totals, &m);
    hm_metrics_value(&m, "hm_stoq_uptime_milliseconds", "Since start", "",
                     (now_us() - a->started_us) / 1000, true);
    hm_metrics_reply(&m, a->http, r);
}

static void on_metrics(void *ctx, hm_http_req *r)
{
    put_metrics(ctx, r, false);
}

static void on_performance(void *ctx, hm_http_req *r)
{
    put_metrics(ctx, r, true);
}

// Who answers here has its socket and its certificates: there is nothing more to wait for.
static void on_health(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "text/plain; charset=utf-8", hm_bytes_str("ok\n"));
}

static const hm_http_route routes[] = {
    {"GET", "/metrics", on_metrics, 0, 0, NULL},
    {"GET", "/metrics/performance", on_performance, 0, 0, NULL},
    {"GET", "/healthz", on_health, 0, 0, NULL},
    {"GET", "/readyz", on_health, 0, 0, NULL},
};

static void on_http_closed(void *ctx)
{
    (void)ctx;
}

void stoq_api_close(stoq_api *a, uint64_t grace_ms)
{
    if (a->http)
        hm_http_close(a->http, grace_ms, on_http_closed, NULL);
    a->http = NULL;
}

hm_err stoq_api_open(stoq_api *a, uv_loop_t *loop, void (*totals)(void *ctx, stoq_perf_totals *out),
                     void *ctx, const hm_http_listen_config *listen, struct sockaddr_in6 *bound)
{
    *a = (stoq_api){.totals = totals, .ctx = ctx, .started_us = now_us()};
    hm_http_config http = {.loop = loop,
                           .routes = routes,
                           .route_count = sizeof(routes) / sizeof(routes[0]),
                           .ctx = a,
                           .limits = {.connections = CONNECTIONS_MAX}};
    HM_TRY(hm_http_open(&http, &a->http));
    hm_err err = hm_http_listen(a->http, listen, bound);
    if (err != HM_OK)
        stoq_api_close(a, 0);
    return err;
}
