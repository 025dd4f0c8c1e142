#include "server/ocsp_api.h"

#include <stdlib.h>

#include "base/clock.h"

struct ocsp_api {
    hm_http *http;
    tc_authority *authority;
    const hm_clock *clock;
    tc_ocsp *ocsp;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void reply(hm_http_req *r, const char *type, hm_err err, hm_buf *body)
{
    if (err != HM_OK)
        hm_http_reply_err(r, err, hm_err_detail());
    else
        hm_http_reply(r, 200, type, hm_buf_bytes(body));
    hm_buf_free(body);
}

static void on_post(void *ctx, hm_http_req *r)
{
    ocsp_api *a = ctx;
    hm_buf der = {0};
    hm_err err = tc_ocsp_answer(a->ocsp, hm_http_body(r), hm_clock_wall_ms(a->clock), &der);
    reply(r, "application/ocsp-response", err, &der);
}

static void on_get(void *ctx, hm_http_req *r)
{
    ocsp_api *a = ctx;
    hm_buf der = {0};
    hm_err err =
        tc_ocsp_answer_text(a->ocsp, hm_http_param(r, 0), hm_clock_wall_ms(a->clock), &der);
    reply(r, "application/ocsp-response", err, &der);
}

static void send_crl(const ocsp_api *a, hm_http_req *r, tc_family f)
{
    hm_buf der = {0};
    hm_err err = tc_authority_crl(a->authority, f, hm_clock_wall_ms(a->clock), &der);
    reply(r, "application/pkix-crl", err, &der);
}

static void send_delta(const ocsp_api *a, hm_http_req *r, tc_family f)
{
    hm_buf der = {0};
    hm_err err = tc_authority_delta_crl(a->authority, f, hm_clock_wall_ms(a->clock), &der);
    reply(r, "application/pkix-crl", err, &der);
}

static void send_issuing(const ocsp_api *a, hm_http_req *r, tc_family f)
{
    hm_buf der = {0};
    hm_err err = tc_pem_to_der(tc_authority_issuing(a->authority, f), &der);
    reply(r, "application/pkix-cert", err, &der);
}

static void on_mesh_crl(void *ctx, hm_http_req *r)
{
    send_crl(ctx, r, TC_MESH);
}
static void on_edge_crl(void *ctx, hm_http_req *r)
{
    send_crl(ctx, r, TC_EDGE);
}
static void on_mesh_delta(void *ctx, hm_http_req *r)
{
    send_delta(ctx, r, TC_MESH);
}
static void on_edge_delta(void *ctx, hm_http_req *r)
{
    send_delta(ctx, r, TC_EDGE);
}
static void on_mesh_issuing(void *ctx, hm_http_req *r)
{
    send_issuing(ctx, r, TC_MESH);
}
static void on_edge_issuing(void *ctx, hm_http_req *r)
{
    send_issuing(ctx, r, TC_EDGE);
}

static const hm_http_route routes[] = {
    {"POST", "/ocsp", on_post, 0, OCSP_REQUEST_MAX, NULL, 0},
    {"GET", "/ocsp/{request*}", on_get, 0, 0, NULL, 0},
    {"GET", "/crl/mesh.crl", on_mesh_crl, 0, 0, NULL, 0},
    {"GET", "/crl/mesh-delta.crl", on_mesh_delta, 0, 0, NULL, 0},
    {"GET", "/crl/edge-delta.crl", on_edge_delta, 0, 0, NULL, 0},
    {"GET", "/crl/edge.crl", on_edge_crl, 0, 0, NULL, 0},
    {"GET", "/ca/mesh.crt", on_mesh_issuing, 0, 0, NULL, 0},
    {"GET", "/ca/edge.crt", on_edge_issuing, 0, 0, NULL, 0},
};

static void on_http_closed(void *ctx)
{
    ocsp_api *a = ctx;
    void (*closed)(void *) = a->closed;
    void *closed_ctx = a->closed_ctx;
    free(a);
    if (closed)
        closed(closed_ctx);
}

hm_err ocsp_api_open(const ocsp_api_config *cfg, ocsp_api **out)
{
    ocsp_api *a = calloc(1, sizeof(*a));
    if (!a)
        return HM_E_NOMEM;
    a->authority = cfg->authority;
    a->ocsp = cfg->ocsp;
    a->clock = cfg->clock;
    const hm_http_config http = {.loop = cfg->loop,
                                 .routes = routes,
                                 .route_count = sizeof(routes) / sizeof(routes[0]),
                                 .ctx = a,
                                 .limits = cfg->limits};
    const hm_http_listen_config at = {.addr = cfg->addr};
    hm_err err = hm_http_open(&http, &a->http);
    if (err != HM_OK) {
        free(a);
        return err;
    }
    err = hm_http_listen(a->http, &at, NULL);
    if (err != HM_OK) {
        hm_http_close(a->http, 0, on_http_closed, a); // the loop frees it
        return err;
    }
    *out = a;
    return HM_OK;
}

void ocsp_api_close(ocsp_api *a, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx)
{
    a->closed = closed;
    a->closed_ctx = ctx;
    hm_http_close(a->http, grace_ms, on_http_closed, a);
}
