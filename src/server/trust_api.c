#include "server/trust_api.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/api_json.h"
#include "server/metrics.h"

// The definition as it stands in docs/api, made into a string at build time.
static const char trust_openapi[] =
#include "server/trustchain_yaml.h"
    ;

struct hm_trust_api {
    hm_http *http;
    tc_authority *authority;
    const hm_clock *clock;
    uint64_t started_ms;
    uint64_t issued[2], revoked[2]; // by family, since the authority was made
    uint64_t refused;               // requests for certificates, since start
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static const char *const family_names[2] = {"mesh", "edge"};

// Words of RFC 5280, 5.3.1, that make sense for an end entity; the others a serial cannot leave.
static const struct {
    const char *word;
    uint8_t code;
} reasons[] = {
    {"unspecified", 0}, {"keyCompromise", 1},        {"affiliationChanged", 3},
    {"superseded", 4},  {"cessationOfOperation", 5}, {"privilegeWithdrawn", 9},
};
#define REASON_COUNT (sizeof(reasons) / sizeof(reasons[0]))

static uint64_t now_ms(const hm_trust_api *a)
{
    return hm_clock_wall_ms(a->clock);
}

static void send_json(hm_http_req *r, unsigned status, hm_buf *json)
{
    hm_buf_puts(json, "\n");
    if (hm_buf_status(json) != HM_OK)
        hm_http_reply_err(r, hm_buf_status(json), NULL);
    else
        hm_http_reply(r, status, "application/json", hm_buf_bytes(json));
    hm_buf_free(json);
}

static void refuse(hm_http_req *r, hm_err err)
{
    hm_http_reply_err(r, err, hm_err_detail());
}

void hm_trust_audit(const char *act, const tc_issued *i)
{
    char serial[2 * TC_SERIAL_BYTES + 1], subject[300];
    hm_hex(serial, i->serial.b, TC_SERIAL_BYTES);
    hm_log_quote(subject, sizeof(subject), hm_bytes_str(i->subject));
    hm_log(HM_LOG_INFO, "audit", act, "serial=%s family=%s subject=%s reason=%u", serial,
           family_names[i->family], subject, i->reason);
}

// ---- certificates -------------------------------------------------------------------------------

static const char *reason_word(uint8_t code)
{
    for (size_t i = 0; i < REASON_COUNT; i++)
        if (reasons[i].code == code)
            return reasons[i].word;
    return "unspecified";
}

static void put_issued(hm_buf *b, const tc_issued *i, uint64_t at_ms)
{
    hm_jw_hex(b, "serial", i->serial.b, TC_SERIAL_BYTES);
    hm_jw_str(b, "family", family_names[i->family]);
    hm_jw_str(b, "subject", i->subject);
    hm_jw_u64(b, "not_before_ms", i->not_before_ms);
    hm_jw_u64(b, "not_after_ms", i->not_after_ms);
    hm_jw_str(b, "state", i->revoked ? "revoked" : at_ms > i->not_after_ms ? "expired" : "valid");
    if (i->revoked) {
        hm_jw_u64(b, "revoked_ms", i->revoked_ms);
        hm_jw_str(b, "reason", reason_word(i->reason));
    }
}

static void on_issue(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    api_csr in;
    tc_issued issued;
    hm_buf chain = {0}, b = {0};
    hm_err err = api_csr_read(hm_http_body(r), &in);
    if (err == HM_OK) {
        hm_bytes pem = hm_bytes_str(in.csr);
        err = strcmp(in.profile, "node") == 0
                  ? tc_issue_node(a->authority, pem, now_ms(a), &chain, &issued)
                  : tc_issue_server(a->authority, pem, now_ms(a), &chain, &issued);
    }
    if (err != HM_OK) {
        char why[512];
        hm_log(HM_LOG_WARN, "audit", "certificate refused", "why=%s",
               hm_log_quote(why, sizeof(why), hm_bytes_str(hm_err_detail())));
        a->refused++;
        refuse(r, err);
    } else {
        a->issued[issued.family]++;
        hm_trust_audit("certificate issued", &issued);
        hm_jw_open(&b, NULL, '{');
        put_issued(&b, &issued, now_ms(a));
        hm_jw_text(&b, "chain", hm_buf_bytes(&chain));
        hm_jw_close(&b, '}');
        send_json(r, 201, &b);
    }
    hm_buf_free(&chain);
}

static bool query_u64(hm_http_req *r, const char *name, uint64_t def, uint64_t min, uint64_t max,
                      uint64_t *out)
{
    const char *text = hm_http_query(r, name);
    char *end, detail[96];
    *out = def;
    if (!text || !*text)
        return true;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && n >= min && n <= max && strlen(text) < 20) {
        *out = n;
        return true;
    }
    snprintf(detail, sizeof(detail), "parameter %s must be a number from %llu to %llu", name,
             (unsigned long long)min, (unsigned long long)max);
    hm_http_reply_err(r, HM_E_PARSE, detail);
    return false;
}

// 0 and 1 are families, 2 is any; answers and gives false for another word.
static bool query_family(hm_http_req *r, unsigned def, unsigned *out)
{
    const char *word = hm_http_query(r, "family");
    *out = def;
    if (!word || !*word)
        return true;
    for (*out = 0; *out < 2; ++*out)
        if (strcmp(word, family_names[*out]) == 0)
            return true;
    hm_http_reply_err(r, HM_E_PARSE, "parameter family must be mesh or edge");
    return false;
}

static void on_list(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    uint64_t cursor, limit, n = 0, count = tc_issued_count(a->authority);
    unsigned family;
    const char *q = hm_http_query(r, "q");
    char next[24];
    hm_buf b = {0};
    if (!query_u64(r, "cursor", count, 0, UINT64_MAX, &cursor) ||
        !query_u64(r, "limit", 50, 1, HM_TRUST_PAGE_MAX, &limit) || !query_family(r, 2, &family))
        return;
    if (cursor > count)
        cursor = count;
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    while (cursor > 0 && n < limit) { // newest first; the cursor is how many older ones there are
        const tc_issued *i = tc_issued_at(a->authority, (size_t)--cursor);
        if ((family != 2 && i->family != (tc_family)family) || (q && !strstr(i->subject, q)))
            continue;
        hm_jw_open(&b, NULL, '{');
        put_issued(&b, i, now_ms(a));
        hm_jw_close(&b, '}');
        n++;
    }
    hm_jw_close(&b, ']');
    snprintf(next, sizeof(next), "%llu", (unsigned long long)cursor);
    hm_jw_str(&b, "next", cursor ? next : NULL);
    hm_jw_close(&b, '}');
    send_json(r, 200, &b);
}

static const tc_issued *find(hm_trust_api *a, hm_http_req *r, tc_serial *serial)
{
    const tc_issued *i;
    if (tc_serial_parse(hm_bytes_str(hm_http_param(r, 0)), serial) != HM_OK) {
        hm_http_reply_err(r, HM_E_PARSE, "a serial is 32 hexadecimal digits");
        return NULL;
    }
    i = tc_issued_find(a->authority, serial);
    if (!i)
        hm_http_reply_err(r, HM_E_NOTFOUND, "no certificate of this authority has that serial");
    return i;
}

static hm_err put_pem(hm_buf *b, const char *name, hm_bytes der)
{
    const uint8_t *at = der.ptr;
    char *text = NULL;
    long len = 0;
    X509 *x = d2i_X509(NULL, &at, (long)der.len);
    BIO *mem = BIO_new(BIO_s_mem());
    if (x && mem && PEM_write_bio_X509(mem, x) == 1)
        len = BIO_get_mem_data(mem, &text);
    if (len > 0)
        hm_jw_text(b, name, hm_bytes_of(text, (size_t)len));
    BIO_free(mem);
    X509_free(x);
    return len > 0 ? HM_OK : hm_crypto_fail(HM_E_CORRUPT, "the stored certificate cannot be read");
}

static void on_show(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    tc_serial serial;
    hm_bytes der = {0};
    hm_buf b = {0};
    const tc_issued *i = find(a, r, &serial);
    if (!i)
        return;
    hm_jw_open(&b, NULL, '{');
    put_issued(&b, i, now_ms(a));
    hm_err err = tc_issued_der(a->authority, &serial, &der);
    if (err == HM_OK)
        err = put_pem(&b, "certificate", der);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        send_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        refuse(r, err);
    }
}

static hm_err reason_read(hm_bytes body, uint8_t *code)
{
    char word[32];
    HM_TRY(api_revoke_read(body, word));
    for (size_t i = 0; i < REASON_COUNT; i++)
        if (strcmp(reasons[i].word, word) == 0) {
            *code = reasons[i].code;
            return HM_OK;
        }
    return hm_fail(HM_E_PARSE, "field \"reason\" must be unspecified, keyCompromise, "
                               "affiliationChanged, superseded, cessationOfOperation or "
                               "privilegeWithdrawn");
}

static void on_revoke(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    tc_serial serial;
    uint8_t reason = 0;
    hm_buf b = {0};
    const tc_issued *i = find(a, r, &serial);
    if (!i)
        return;
    hm_err err = reason_read(hm_http_body(r), &reason);
    if (err == HM_OK)
        err = tc_revoke(a->authority, &serial, reason, now_ms(a));
    if (err != HM_OK) {
        refuse(r, err);
        return;
    }
    i = tc_issued_find(a->authority, &serial);
    a->revoked[i->family]++;
    hm_trust_audit("certificate revoked", i);
    hm_jw_open(&b, NULL, '{');
    put_issued(&b, i, now_ms(a));
    hm_jw_close(&b, '}');
    send_json(r, 200, &b);
}

// ---- lists, roots -------------------------------------------------------------------------------

static void on_crl(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    unsigned family;
    hm_buf der = {0};
    if (!query_family(r, TC_MESH, &family))
        return;
    hm_err err = tc_authority_crl(a->authority, (tc_family)family, now_ms(a), &der);
    if (err == HM_OK)
        hm_http_reply(r, 200, "application/pkix-crl", hm_buf_bytes(&der)); // RFC 2585, 4.2
    else
        refuse(r, err);
    hm_buf_free(&der);
}

static void on_roots(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    const struct {
        const char *name;
        hm_bytes pem;
    } all[] = {
        {"mesh", tc_authority_root(a->authority, TC_MESH)},
        {"edge", tc_authority_root(a->authority, TC_EDGE)},
        {"cross", tc_authority_cross(a->authority)},
        {"mesh-issuing", tc_authority_issuing(a->authority, TC_MESH)},
        {"edge-issuing", tc_authority_issuing(a->authority, TC_EDGE)},
    };
    const char *name = hm_http_query(r, "name");
    hm_buf b = {0};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (name && *name ? strcmp(name, all[i].name) == 0 : i < 2)
            hm_buf_put(&b, all[i].pem);
    if (b.len == 0)
        hm_http_reply_err(r, HM_E_PARSE,
                          "parameter name must be mesh, edge, cross, mesh-issuing or edge-issuing");
    else if (hm_buf_status(&b) != HM_OK)
        hm_http_reply_err(r, hm_buf_status(&b), NULL);
    else
        hm_http_reply(r, 200, "application/x-pem-file", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

// ---- health, metrics, definition ----------------------------------------------------------------

static void on_healthz(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "text/plain; charset=utf-8", hm_bytes_str("ok\n"));
}

// Ready means that both families have a current list to give: that needs keys in force and a disk
// that takes writes.
static void on_readyz(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    hm_buf b = {0};
    hm_err err = tc_authority_crl(a->authority, TC_MESH, now_ms(a), &b);
    if (err == HM_OK)
        err = tc_authority_crl(a->authority, TC_EDGE, now_ms(a), &b);
    hm_buf_reset(&b);
    if (err == HM_OK)
        hm_buf_puts(&b, "ready\n");
    else
        hm_buf_printf(&b, "not ready: %s\n", hm_err_detail());
    hm_http_reply(r, err == HM_OK ? 200 : 503, "text/plain; charset=utf-8", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static void put_metrics(hm_trust_api *a, hm_http_req *r, bool json)
{
    hm_buf b = {0};
    hm_metrics m;
    char label[32];
    hm_metrics_begin(&m, &b, json);
    for (unsigned f = 0; f < 2; f++) {
        snprintf(label, sizeof(label), "family=\"%s\"", family_names[f]);
        hm_metrics_value(&m, "hm_trust_issued_total", "Certificates issued", label, a->issued[f],
                         false);
    }
    for (unsigned f = 0; f < 2; f++) {
        snprintf(label, sizeof(label), "family=\"%s\"", family_names[f]);
        hm_metrics_value(&m, "hm_trust_revoked_total", "Certificates revoked", label, a->revoked[f],
                         false);
    }
    hm_metrics_value(&m, "hm_trust_refused_total", "Requests for certificates refused", "",
                     a->refused, false);
    hm_metrics_value(&m, "hm_trust_uptime_milliseconds", "Since start", "",
                     now_ms(a) - a->started_ms, true);
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

static void on_openapi(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "application/yaml", hm_bytes_of(trust_openapi, sizeof trust_openapi - 1));
}

// ---- life ---------------------------------------------------------------------------------------

static const hm_http_route routes[] = {
    {"GET", "/v1/certificates", on_list, 0, 0, "q family cursor limit"},
    {"POST", "/v1/certificates", on_issue, HM_HTTP_AUTH, 0, NULL},
    {"GET", "/v1/certificates/{serial}", on_show, 0, 0, NULL},
    {"POST", "/v1/certificates/{serial}/revoke", on_revoke, HM_HTTP_AUTH, 0, NULL},
    {"GET", "/v1/crl", on_crl, 0, 0, "family"},
    {"GET", "/v1/roots", on_roots, 0, 0, "name"},
    {"GET", "/openapi.yaml", on_openapi, 0, 0, NULL},
    {"GET", "/metrics", on_metrics, 0, 0, NULL},
    {"GET", "/metrics/performance", on_performance, 0, 0, NULL},
    {"GET", "/healthz", on_healthz, 0, 0, NULL},
    {"GET", "/readyz", on_readyz, 0, 0, NULL},
};

const hm_http_route *hm_trust_api_routes(size_t *count)
{
    *count = sizeof(routes) / sizeof(routes[0]);
    return routes;
}

static void on_http_closed(void *ctx)
{
    hm_trust_api *a = ctx;
    void (*closed)(void *) = a->closed;
    void *closed_ctx = a->closed_ctx;
    free(a);
    if (closed)
        closed(closed_ctx);
}

hm_err hm_trust_api_open(const hm_trust_api_config *cfg, hm_trust_api **out)
{
    hm_trust_api *a = calloc(1, sizeof(*a));
    if (!a)
        return HM_E_NOMEM;
    a->authority = cfg->authority;
    a->clock = cfg->clock;
    a->started_ms = now_ms(a);
    for (size_t i = 0; i < tc_issued_count(a->authority); i++) {
        const tc_issued *c = tc_issued_at(a->authority, i);
        a->issued[c->family]++;
        a->revoked[c->family] += c->revoked;
    }
    hm_http_config http = {.loop = cfg->loop,
                           .routes = routes,
                           .route_count = sizeof(routes) / sizeof(routes[0]),
                           .ctx = a,
                           .token = cfg->token,
                           .limits = cfg->limits};
    hm_err err = hm_http_open(&http, &a->http);
    if (err != HM_OK) {
        free(a);
        return err;
    }
    err = hm_http_listen(a->http, &cfg->api, NULL);
    if (err != HM_OK) {
        hm_http_close(a->http, 0, on_http_closed, a); // the loop frees it
        return err;
    }
    *out = a;
    return HM_OK;
}

void hm_trust_api_close(hm_trust_api *a, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx)
{
    a->closed = closed;
    a->closed_ctx = ctx;
    hm_http_close(a->http, grace_ms, on_http_closed, a);
}

hm_err hm_trust_api_renewed(hm_trust_api *a)
{
    return hm_http_certs_renewed(a->http);
}
