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

// FAMILY.crl, FAMILY-delta.crl, FAMILY-ID.crl, FAMILY-ID-delta.crl; FAMILY.crt, FAMILY-ID.crt.
typedef struct file_name {
    tc_family family;
    char id[sizeof(tc_issuing_id)]; // empty: of the CA that issues
    bool delta;
} file_name;

static bool ends_with(const char *text, size_t *len, const char *end)
{
    size_t n = strlen(end);
    if (*len < n || memcmp(text + *len - n, end, n) != 0)
        return false;
    *len -= n;
    return true;
}

static bool file_name_read(const char *text, const char *end, bool deltas, file_name *out)
{
    file_name n = {.family = TC_MESH};
    size_t len = strlen(text);
    if (!ends_with(text, &len, end))
        return false;
    n.delta = deltas && ends_with(text, &len, "-delta");
    if (len < 4)
        return false;
    if (memcmp(text, "edge", 4) == 0)
        n.family = TC_EDGE;
    else if (memcmp(text, "mesh", 4) != 0)
        return false;
    if (len > 4 && (text[4] != '-' || len != 4 + sizeof n.id))
        return false;
    if (len > 4)
        memcpy(n.id, text + 5, sizeof n.id - 1);
    *out = n;
    return true;
}

static void no_file(hm_http_req *r)
{
    hm_http_reply_err(r, HM_E_NOTFOUND, "no issuing CA of that name is here");
}

static void on_crl(void *ctx, hm_http_req *r)
{
    const ocsp_api *a = ctx;
    file_name n;
    hm_buf der = {0};
    if (!file_name_read(hm_http_param(r, 0), ".crl", true, &n)) {
        no_file(r);
        return;
    }
    hm_err err = tc_issuing_crl(a->authority, n.family, n.id, n.delta, hm_clock_wall_ms(a->clock),
                                NULL, &der);
    reply(r, "application/pkix-crl", err, &der);
}

static void on_issuing(void *ctx, hm_http_req *r)
{
    const ocsp_api *a = ctx;
    file_name n;
    hm_bytes pem;
    hm_buf der = {0};
    if (!file_name_read(hm_http_param(r, 0), ".crt", false, &n)) {
        no_file(r);
        return;
    }
    hm_err err = tc_issuing_pem(a->authority, n.family, n.id, &pem);
    if (err == HM_OK)
        err = tc_pem_to_der(pem, &der);
    reply(r, "application/pkix-cert", err, &der);
}

static const hm_http_route routes[] = {
    {"POST", "/ocsp", on_post, 0, OCSP_REQUEST_MAX, NULL, 0},
    {"GET", "/ocsp/{request*}", on_get, 0, 0, NULL, 0},
    {"GET", "/crl/{file}", on_crl, 0, 0, NULL, 0},
    {"GET", "/ca/{file}", on_issuing, 0, 0, NULL, 0},
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
