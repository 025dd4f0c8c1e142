// One request: its body coming in, its answer going out.
#include <stdio.h>
#include <stdlib.h>

#include "server/http_internal.h"

hm_http_req *http_req_new(http_conn *x)
{
    http_listener *l = x->listener;
    hm_http_req *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    x->busy++;
    r->conn = x;
    r->server = l->server;
    r->listener = l;
    r->wire = x->wire;
    r->length = -1;
    r->progress_ms = uv_now(l->server->loop);
    hm_list_append(&l->server->requests, &r->node);
    l->server->stats.requests++;
    return r;
}

void http_req_free(hm_http_req *r)
{
    if (r->session)
        r->session->req = NULL;
    http_conn_rests(r->conn);
    hm_list_remove(&r->node);
    hm_buf_free(&r->body);
    hm_buf_free(&r->out);
    free(r);
}

void http_req_gone(hm_http_req *r)
{
    r->wire = NULL;
    if (r->session)
        r->session->req = NULL;
    r->session = NULL;
    if (!r->finished) {
        r->server->stats.aborted++;
        if (r->aborted)
            r->aborted(r->abort_ctx);
    }
    http_req_free(r);
}

void http_req_wake(hm_http_req *r)
{
    if (r->wire)
        r->wire->wake(r);
}

// ---- body ---------------------------------------------------------------------------------------

static void give_body(hm_http_req *r, hm_bytes data)
{
    bool last = r->body_got == r->body_length;
    if (r->last_given || (!last && data.len == 0))
        return;
    r->last_given = last;
    if (r->body_cb(r->body_ctx, data, last) == HM_E_AGAIN && !last && !r->answered) {
        r->paused = true;
        if (r->wire)
            r->wire->hold(r, true);
    }
}

void http_req_body(hm_http_req *r, hm_bytes data)
{
    uint64_t left = r->body_length - r->body_got;
    if (data.len > left)
        data.len = (size_t)left;
    r->body_got += data.len;
    r->server->stats.bytes_in += data.len;
    r->progress_ms = uv_now(r->server->loop);
    if (r->answered)
        return; // refused already: the rest is thrown away
    if (r->dispatched && !(r->route->flags & HM_HTTP_STREAM))
        return; // a body of no bytes was over before the library told so
    if (r->route->flags & HM_HTTP_STREAM) {
        if (r->body_cb && !r->paused) {
            give_body(r, data);
            return;
        }
        if (r->body.len + data.len > HM_HTTP_HELD_MAX) {
            r->server->stats.refused_limit++;
            if (r->aborted)
                r->aborted(r->abort_ctx);
            r->aborted = NULL;
            hm_http_reply_error(r, 503, "BUSY", "the body came faster than it could be stored",
                                "use HTTP/1.1, which can wait");
            return;
        }
        hm_buf_put(&r->body, data);
        return;
    }
    hm_buf_put(&r->body, data);
    if (hm_buf_status(&r->body) != HM_OK)
        hm_http_reply_err(r, hm_buf_status(&r->body), NULL);
    else if (r->body_got == r->body_length)
        http_route_dispatch(r);
}

void hm_http_body_read(hm_http_req *r, hm_http_body_cb cb, void *ctx)
{
    hm_assert(!r->body_cb);
    r->body_cb = cb;
    r->body_ctx = ctx;
    hm_http_body_resume(r);
}

void hm_http_body_resume(hm_http_req *r)
{
    if (r->answered || !r->body_cb)
        return;
    r->paused = false;
    r->progress_ms = uv_now(r->server->loop);
    hm_buf held = r->body; // taken away first: the callback may come back here
    r->body = (hm_buf){0};
    give_body(r, hm_buf_bytes(&held));
    hm_buf_free(&held);
    if (!r->paused && r->wire)
        r->wire->hold(r, false);
}

const char *hm_http_method(const hm_http_req *r)
{
    return r->method;
}
const char *hm_http_path(const hm_http_req *r)
{
    return r->path;
}
const char *hm_http_param(const hm_http_req *r, size_t n)
{
    hm_assert(n < r->param_count);
    return r->params[n];
}
const char *hm_http_query(const hm_http_req *r, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < r->query_count; i++)
        if (strncmp(r->query[i], name, len) == 0 && r->query[i][len] == '=')
            return r->query[i] + len + 1;
    return NULL;
}
hm_bytes hm_http_body(const hm_http_req *r)
{
    return hm_buf_bytes(&r->body);
}
uint64_t hm_http_body_length(const hm_http_req *r)
{
    return r->body_length;
}
const hm_http_actor *hm_http_actor_of(const hm_http_req *r)
{
    return &r->actor;
}

const char *hm_http_role_word(hm_http_role role)
{
    static const char *const words[] = {"nobody", "viewer", "operator", "authority"};
    return words[role];
}

const struct sockaddr_in6 *hm_http_from(const hm_http_req *r)
{
    return &r->conn->from;
}

bool hm_http_is_head(const hm_http_req *r)
{
    return r->head;
}
const char *hm_http_host(const hm_http_req *r)
{
    return r->host;
}
const char *hm_http_content_type(const hm_http_req *r)
{
    return r->body_type;
}
const uint8_t *hm_http_client(const hm_http_req *r)
{
    return r->conn->client->prefix;
}
bool hm_http_authorized(const hm_http_req *r)
{
    return r->actor.role == HM_HTTP_AUTHORITY;
}
void hm_http_on_abort(hm_http_req *r, void (*aborted)(void *ctx), void *ctx)
{
    r->aborted = aborted;
    r->abort_ctx = ctx;
}

// ---- answer -------------------------------------------------------------------------------------

void hm_http_header(hm_http_req *r, const char *name, const char *value)
{
    hm_assert(r->header_count < HTTP_HEADERS_MAX && !r->answered);
    char(*h)[256] = r->headers[r->header_count++];
    snprintf(h[0], sizeof(h[0]), "%s", name);
    snprintf(h[1], sizeof(h[1]), "%s", value);
    for (char *p = h[1]; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

void hm_http_cache_control(hm_http_req *r, const char *value)
{
    hm_assert(!r->answered);
    r->cache_control = value;
}

static void begin_answer(hm_http_req *r, unsigned status, const char *content_type, int64_t length)
{
    hm_assert(!r->answered);
    r->answered = true;
    r->status = status;
    r->length = length;
    r->progress_ms = uv_now(r->server->loop);
    snprintf(r->content_type, sizeof(r->content_type), "%s", content_type ? content_type : "");
    r->server->stats.status[status / 100 < 6 ? status / 100 : 5]++;
    r->close_after = r->body_length - r->body_got > (1u << 20);
    if (r->paused && r->wire) {
        r->paused = false;
        r->wire->hold(r, false);
    }
    http_req_wake(r);
}

void hm_http_reply(hm_http_req *r, unsigned status, const char *content_type, hm_bytes body)
{
    begin_answer(r, status, content_type, (int64_t)body.len);
    if (!r->head)
        hm_buf_put(&r->out, body);
    r->drop = hm_buf_status(&r->out) != HM_OK;
    r->finished = true;
}

void hm_http_reply_json(hm_http_req *r, unsigned status, hm_buf *json)
{
    hm_buf_puts(json, "\n");
    if (hm_buf_status(json) == HM_OK)
        hm_http_reply(r, status, "application/json", hm_buf_bytes(json));
    else
        hm_http_reply_err(r, hm_buf_status(json), NULL);
    hm_buf_free(json);
}

// Text inside a JSON string; what is no valid character becomes '?'.
static void put_json_text(hm_buf *b, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            hm_buf_printf(b, "\\%c", c);
        else if (c < 0x20)
            hm_buf_printf(b, "\\u%04x", c);
        else
            hm_buf_append(b, c < 0x7f ? (const char *)s : "?", 1);
    }
}

void hm_http_reply_error(hm_http_req *r, unsigned status, const char *code, const char *message,
                         const char *detail)
{
    hm_buf b = {0};
    hm_buf_puts(&b, "{\"error\":{\"code\":\"");
    put_json_text(&b, code);
    hm_buf_puts(&b, "\",\"message\":\"");
    put_json_text(&b, message);
    hm_buf_puts(&b, "\",\"detail\":\"");
    put_json_text(&b, detail ? detail : "");
    hm_buf_puts(&b, "\"}}\n");
    hm_http_reply(r, status, "application/json", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

unsigned hm_http_status_of(hm_err err)
{
    switch (err) {
    case HM_E_NOTFOUND:
        return 404;
    case HM_E_EXISTS:
    case HM_E_OP_STATE:
    case HM_E_OP_DUPLICATE:
        return 409;
    case HM_E_DENIED:
    case HM_E_OP_RIGHT:
        return 403;
    case HM_E_LIMIT:
        return 413;
    case HM_E_INVALID:
    case HM_E_RANGE:
    case HM_E_TRUNCATED:
    case HM_E_TRAILING:
    case HM_E_NONCANONICAL:
    case HM_E_PARSE:
        return 400;
    case HM_E_AGAIN:
    case HM_E_BUSY:
    case HM_E_CLOSED:
    case HM_E_QUORUM:
    case HM_E_CHUNK_REPLICAS:
        return 503;
    case HM_E_TIMEOUT:
        return 504;
    case HM_E_FULL:
        return 507;
    default:
        return err >= 300 && err < 600 ? 422 : 500;
    }
}

void hm_http_reply_err(hm_http_req *r, hm_err err, const char *detail)
{
    hm_http_reply_error(r, hm_http_status_of(err), hm_err_name(err), hm_err_text(err), detail);
}

void hm_http_stream(hm_http_req *r, unsigned status, const char *content_type, int64_t length,
                    void (*room)(void *ctx), void *ctx)
{
    begin_answer(r, status, content_type, length);
    r->room = room;
    r->room_ctx = ctx;
}

hm_err hm_http_stream_write(hm_http_req *r, hm_bytes data)
{
    hm_assert(r->answered && !r->finished);
    if (!r->head)
        hm_buf_put(&r->out, data);
    HM_TRY(hm_buf_status(&r->out));
    http_req_wake(r);
    if (r->out.len - r->out_at < HM_HTTP_OUT_HIGH)
        return HM_OK;
    r->want_room = true;
    return HM_E_AGAIN;
}

void hm_http_stream_end(hm_http_req *r)
{
    hm_assert(r->answered && !r->finished);
    r->finished = true;
    r->want_room = false;
    r->progress_ms = uv_now(r->server->loop);
    http_req_wake(r);
}

void hm_http_stream_fail(hm_http_req *r)
{
    hm_assert(!r->finished);
    r->answered = r->finished = r->drop = true;
    http_req_wake(r);
}

void hm_http_sse(hm_http_req *r)
{
    begin_answer(r, 200, "text/event-stream", -1);
    r->sse = true;
    if (r->wire && r->wire->sse)
        r->wire->sse(r);
    hm_buf_puts(&r->out, "retry: 1000\n\n");
}

hm_err hm_http_sse_send(hm_http_req *r, const char *event, uint64_t id, hm_bytes json)
{
    hm_assert(r->sse && !r->finished);
    if (r->out.len - r->out_at + json.len > HTTP_SSE_QUEUE_MAX)
        return HM_E_LIMIT;
    hm_buf_printf(&r->out, "event: %s\nid: %llu\ndata: ", event, (unsigned long long)id);
    hm_buf_put(&r->out, json);
    hm_buf_puts(&r->out, "\n\n");
    http_req_wake(r);
    return hm_buf_status(&r->out);
}

static void add(h3_out *out, size_t *n, const char *name, const char *value)
{
    hm_assert(*n < HTTP_OUT_MAX);
    out[(*n)++] = (h3_out){name, value};
}

size_t http_req_head(const hm_http_req *r, char number[24], h3_out out[HTTP_OUT_MAX])
{
    size_t n = 0;
    add(out, &n, "x-content-type-options", "nosniff");
    add(out, &n, "referrer-policy", "no-referrer");
    add(out, &n, "cross-origin-resource-policy", "same-origin");
    add(out, &n, "content-security-policy",
        r->csp ? r->csp : "default-src 'none'; frame-ancestors 'none'");
    add(out, &n, "cache-control", r->cache_control ? r->cache_control : "no-store");
    if (r->content_type[0])
        add(out, &n, "content-type", r->content_type);
    if (r->listener->tls)
        add(out, &n, "strict-transport-security", "max-age=31536000");
    for (size_t i = 0; i < r->header_count; i++)
        add(out, &n, r->headers[i][0], r->headers[i][1]);
    if (r->length >= 0 && r->status != 304) {
        snprintf(number, 24, "%lld", (long long)r->length);
        add(out, &n, "content-length", number);
    }
    return n;
}

void http_req_room(hm_http_req *r)
{
    if (!r->want_room)
        return;
    r->want_room = false;
    if (r->room)
        r->room(r->room_ctx);
}
