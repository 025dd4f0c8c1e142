// The performance responder by HTTP/3.
#include <nghttp3/nghttp3.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/stoq_perf.h"

typedef struct perf_req {
    stoq_perf *perf;
    unsigned status; // 0: the body is not over
    bool head;       // no body in the answer
    uint64_t length; // of the answer
    uint64_t left;
    uint64_t got;  // bytes of the body
    bool counting; // the answer says how many
} perf_req;

typedef struct kept_text {
    h3_kept kept;
    char text[24];
} kept_text;

static const uint8_t zeros[65536];

// "/N"
static bool length_of(const char *path, uint64_t *out)
{
    uint64_t n = 0;
    if (!path || path[0] != '/' || !path[1] || strlen(path) > 20)
        return false;
    for (const char *p = path + 1; *p; p++) {
        if (*p < '0' || *p > '9' || n > (INT64_MAX - 9) / 10)
            return false;
        n = n * 10 + (uint64_t)(*p - '0');
    }
    *out = n;
    return true;
}

static void on_request(void *ctx, h3_req *q)
{
    stoq_perf *p = ctx;
    perf_req *r = calloc(1, sizeof *r);
    if (!r) {
        h3_cancel(q, NGHTTP3_H3_INTERNAL_ERROR);
        return;
    }
    const char *method = h3_field(q, ":method", 0);
    r->perf = p;
    h3_req_set_user(q, r);
    r->head = method && strcmp(method, "HEAD") == 0;
    if (h3_head_bytes(q) > H3_HEAD_MAX) {
        r->status = 431;
    } else if (method && strcmp(method, "POST") == 0) {
        r->counting = true;
    } else if (!r->head && (!method || strcmp(method, "GET") != 0)) {
        r->status = 405;
    } else {
        r->status = length_of(h3_field(q, ":path", 0), &r->length) ? 200 : 404;
        r->left = r->length;
    }
    if (r->status == 200 || r->counting)
        p->n.requests++;
    if (r->status)
        h3_wake(q);
}

static void on_body(void *ctx, h3_req *q, hm_bytes data)
{
    perf_req *r = h3_req_user(q);
    (void)ctx;
    r->got += data.len;
    r->perf->n.bytes_in += data.len;
}

static void on_body_end(void *ctx, h3_req *q)
{
    perf_req *r = h3_req_user(q);
    (void)ctx;
    if (!r->counting)
        return;
    r->status = 200;
    h3_wake(q);
}

static void on_ready(void *ctx, h3_req *q)
{
    char text[24];
    perf_req *r = h3_req_user(q);
    (void)ctx;
    if (r->counting)
        r->length = r->left =
            (uint64_t)snprintf(text, sizeof text, "%llu\n", (unsigned long long)r->got);
    bool none = r->head || r->length == 0;
    snprintf(text, sizeof text, "%llu", (unsigned long long)r->length);
    const h3_out fields[] = {
        {"content-length", text},
        {"content-type", r->counting ? "text/plain" : "application/octet-stream"},
        {"allow", "GET, HEAD, POST"},
    };
    h3_respond(q, r->status, fields, r->status == 405 ? 3 : 2, none);
    if (none)
        free(r);
}

static void kept_free(h3_kept *k)
{
    free(hm_container_of(k, kept_text, kept));
}

static void on_pull(void *ctx, h3_req *q, h3_piece *piece)
{
    perf_req *r = h3_req_user(q);
    stoq_perf *p = ctx;
    size_t n = r->left < sizeof zeros ? (size_t)r->left : sizeof zeros;
    piece->bytes = hm_bytes_of(zeros, n);
    if (r->counting) {
        kept_text *k = calloc(1, sizeof *k);
        if (!k) {
            h3_cancel(q, NGHTTP3_H3_INTERNAL_ERROR);
            *piece = (h3_piece){0};
            free(r);
            return;
        }
        k->kept.free = kept_free;
        snprintf(k->text, sizeof k->text, "%llu\n", (unsigned long long)r->got);
        piece->bytes = hm_bytes_of(k->text, n);
        piece->kept = &k->kept;
    }
    r->left -= n;
    p->n.bytes_out += n;
    piece->last = r->left == 0;
    if (piece->last)
        free(r);
}

static void on_gone(void *ctx, h3_req *q)
{
    (void)ctx;
    free(h3_req_user(q));
}

const h3_app stoq_perf_h3_app = {
    .request = on_request,
    .body = on_body,
    .body_end = on_body_end,
    .ready = on_ready,
    .pull = on_pull,
    .gone = on_gone,
};
