// HTTP/1.1 and HTTP/2: requests and answers by libwebsockets.
#include <stdio.h>
#include <sys/socket.h>

#include "server/http_internal.h"

#define LINGER_S 2

// ---- the head of a request ----------------------------------------------------------------------

static const char *method_of(struct lws *wsi, bool *head)
{
    char *uri;
    int len;
    *head = false;
    switch (lws_http_get_uri_and_method(wsi, &uri, &len)) {
    case LWSHUMETH_GET:
        return "GET";
    case LWSHUMETH_HEAD:
        *head = true;
        return "GET";
    case LWSHUMETH_POST:
        return "POST";
    case LWSHUMETH_PUT:
        return "PUT";
    case LWSHUMETH_PATCH:
        return "PATCH";
    case LWSHUMETH_DELETE:
        return "DELETE";
    case LWSHUMETH_OPTIONS:
        return "OPTIONS";
    case LWSHUMETH_COLON_PATH: {
        char m[16] = "";
        (void)lws_hdr_copy(wsi, m, sizeof(m), WSI_TOKEN_HTTP_COLON_METHOD);
        return http_method_of(m, head);
    }
    default:
        return "?";
    }
}

static bool read_query(hm_http_req *r)
{
    size_t used = 0;
    for (int i = 0;; i++) {
        char *at = r->query_text + used;
        int n = lws_hdr_copy_fragment(r->wsi, at, (int)(sizeof(r->query_text) - used - 1),
                                      WSI_TOKEN_HTTP_URI_ARGS, i);
        if (n < 0)
            return lws_hdr_fragment_length(r->wsi, WSI_TOKEN_HTTP_URI_ARGS, i) == 0;
        if (r->query_count == HM_HTTP_QUERY_MAX)
            return false;
        at[n] = 0;
        r->query[r->query_count++] = at;
        used += (size_t)n + 1;
    }
}

typedef struct header_sum {
    struct lws *wsi;
    size_t bytes;
} header_sum;

static void add_custom(const char *name, int len, void *opaque)
{
    header_sum *sum = opaque;
    int value = lws_hdr_custom_length(sum->wsi, name, len);
    sum->bytes += (size_t)len + (size_t)(value > 0 ? value : 0);
}

// Names and values of those that the library does not know, values of the others.
static size_t header_bytes(struct lws *wsi)
{
    header_sum sum = {wsi, 0};
    for (int i = 0; i < WSI_TOKEN_COUNT; i++)
        sum.bytes += (size_t)lws_hdr_total_length(wsi, (enum lws_token_indexes)i);
    (void)lws_hdr_custom_name_foreach(wsi, add_custom, &sum);
    return sum.bytes;
}

// RFC 9112, 3.2: exactly one, though it may be empty.
static bool one_host(const hm_http_req *r)
{
    char version[16] = "", host[256];
    if (r->h2 || (lws_hdr_copy(r->wsi, version, sizeof(version), WSI_TOKEN_HTTP) > 0 &&
                  strcmp(version, "HTTP/1.0") == 0))
        return true;
    return lws_hdr_copy_fragment(r->wsi, host, sizeof(host), WSI_TOKEN_HOST, 0) >= 0 &&
           lws_hdr_fragment_length(r->wsi, WSI_TOKEN_HOST, 1) == 0;
}

static void start(hm_http_req *r, const char *uri)
{
    http_head head = {.path = uri, .bytes = header_bytes(r->wsi)};
    r->h2 = lws_hdr_total_length(r->wsi, WSI_TOKEN_HTTP_COLON_METHOD) > 0;
    head.method = method_of(r->wsi, &head.head);
    head.one_host = one_host(r);
    head.readable = read_query(r);
    http_route_start(r, &head);
}

// ---- the answer ---------------------------------------------------------------------------------

static bool add_header(hm_http_req *r, uint8_t **p, uint8_t *end, const char *name,
                       const char *value)
{
    char colon[256 + 1];
    snprintf(colon, sizeof(colon), "%s:", name);
    return lws_add_http_header_by_name(r->wsi, (const unsigned char *)colon,
                                       (const unsigned char *)value, (int)strlen(value), p,
                                       end) == 0;
}

static bool add_headers(hm_http_req *r, uint8_t **p, uint8_t *end)
{
    h3_out fields[HTTP_OUT_MAX];
    char number[24];
    size_t n = http_req_head(r, number, fields);
    bool ok = lws_add_http_header_status(r->wsi, r->status, p, end) == 0;
    for (size_t i = 0; i < n; i++)
        ok = ok && add_header(r, p, end, fields[i].name, fields[i].value);
    if (r->listener->alt_svc[0])
        ok = ok && add_header(r, p, end, "alt-svc", r->listener->alt_svc);
    if (!r->h2 && (r->length < 0 || r->close_after))
        ok = ok && add_header(r, p, end, "connection", "close");
    return ok && lws_finalize_http_header(r->wsi, p, end) == 0;
}

static bool body_ended(const hm_http_req *r)
{
    return r->finished && r->out_at == r->out.len;
}

static int end_exchange(hm_http_req *r)
{
    struct lws *wsi = r->wsi;
    bool whole = r->head || r->status == 304 || r->length < 0 || r->sent == (uint64_t)r->length;
    bool close = r->drop || !whole || (!r->h2 && r->length < 0);
    bool linger = r->close_after;
    http_req_free(r);
    if (close)
        return -1;
    int n = lws_http_transaction_completed(wsi); // throws away what is left of a refused body
    if (n == 0)
        lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_KEEPALIVE_IDLE,
                        linger ? 5 : HM_HTTP_IDLE_MS / 1000);
    return n ? -1 : 0;
}

static int write_body(hm_http_req *r)
{
    size_t n = r->out.len - r->out_at;
    if (n == 0 && !r->finished)
        return 0;
    if (n > HTTP_WRITE_MAX)
        n = HTTP_WRITE_MAX;
    if (r->h2 && n) {
        lws_fileofs_t room = lws_get_peer_write_allowance(r->wsi);
        if (room <= 0)
            return 0; // called again when the window opens
        if (room > 0 && (lws_fileofs_t)n > room)
            n = (size_t)room;
    }
    bool final = r->finished && r->out_at + n == r->out.len;
    if (n || r->h2) {
        if (n)
            memcpy(r->server->out + LWS_PRE, r->out.ptr + r->out_at, n);
        if (lws_write(r->wsi, r->server->out + LWS_PRE, n,
                      final ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)n)
            return -1;
    }
    r->out_at += n;
    r->sent += n;
    r->server->stats.bytes_out += n;
    r->progress_ms = uv_now(r->server->loop);
    if (final)
        return end_exchange(r);
    size_t left = r->out.len - r->out_at;
    if (left == 0) {
        r->out_at = 0;
        hm_buf_reset(&r->out);
    } else if (r->out_at >= HM_HTTP_OUT_HIGH) {
        memmove(r->out.ptr, r->out.ptr + r->out_at, left);
        r->out.len = left;
        r->out_at = 0;
    }
    if (left <= HM_HTTP_OUT_LOW)
        http_req_room(r);
    if (r->out.len > r->out_at || r->finished)
        http_req_wake(r);
    return 0;
}

// The body's first piece follows at once if the connection took all of the headers: the next turn
// of the loop may be one that issues certificates for others.
static int write_headers(hm_http_req *r)
{
    uint8_t *start = r->server->out + LWS_PRE, *p = start;
    uint8_t *end = r->server->out + sizeof(r->server->out) - 1;
    if (!add_headers(r, &p, end))
        return -1;
    bool none = body_ended(r);
    enum lws_write_protocol how = LWS_WRITE_HTTP_HEADERS;
    if (none)
        how = (enum lws_write_protocol)(how | LWS_WRITE_H2_STREAM_END);
    if (lws_write(r->wsi, start, (size_t)(p - start), how) < 0)
        return -1;
    r->headers_sent = true;
    r->progress_ms = uv_now(r->server->loop);
    if (none)
        return end_exchange(r);
    if (!r->h2 && !lws_partial_buffered(r->wsi))
        return write_body(r);
    http_req_wake(r);
    return 0;
}

// Writes what can be written; what the library's callback returns.
static int write_answer(hm_http_req *r)
{
    if (!r->answered)
        return 0;
    if (r->drop)
        return end_exchange(r);
    return r->headers_sent ? write_body(r) : write_headers(r);
}

// ---- connections --------------------------------------------------------------------------------

static http_conn *conn_of(struct lws *wsi)
{
    return lws_get_opaque_user_data(lws_get_network_wsi(wsi));
}

// A method that the library does not know, or no HTTP at all: told in our words. What follows is
// thrown away until the peer closes, which it does once it has read the answer.
static int refuse_raw(http_conn *x, hm_bytes data)
{
    static const char bodies[2][128] = {
        "{\"error\":{\"code\":\"PARSE\",\"message\":\"this is no HTTP "
        "request\",\"detail\":\"\"}}\n",
        "{\"error\":{\"code\":\"METHOD\",\"message\":\"the method is not known "
        "here\",\"detail\":\"\"}}\n"};
    size_t n = 0;
    if (!x)
        return -1;
    if (x->refused || data.len == 0)
        return 0;
    x->refused = true;
    while (n < data.len && data.ptr[n] >= 'A' && data.ptr[n] <= 'Z')
        n++;
    bool method = n > 0 && n < data.len && data.ptr[n] == ' ';
    hm_http *h = x->listener->server;
    char *p = (char *)h->out + LWS_PRE;
    int len = snprintf(p, HTTP_WRITE_MAX,
                       "HTTP/1.1 %s\r\ncontent-type: application/json\r\n"
                       "x-content-type-options: nosniff\r\ncache-control: no-store\r\n"
                       "content-length: %zu\r\nconnection: close\r\n\r\n%s",
                       method ? "501 Not Implemented" : "400 Bad Request", strlen(bodies[method]),
                       bodies[method]);
    h->stats.requests++;
    h->stats.status[method ? 5 : 4]++;
    if (lws_write(x->wsi, (uint8_t *)p, (size_t)len, LWS_WRITE_RAW) < len)
        return -1;
    (void)shutdown(lws_get_socket_fd(x->wsi), SHUT_WR);
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_CLOSE_ACK, LINGER_S);
    return 0;
}

// Adapts the library's callbacks: one protocol, whose session holds the request in progress.
static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len)
{
    http_session *s = user;
    switch (reason) {
    case LWS_CALLBACK_WSI_DESTROY:
        if (conn_of(wsi) && conn_of(wsi)->wsi == wsi)
            http_conn_free(conn_of(wsi));
        return 0;
    case LWS_CALLBACK_RAW_RX: // its parser gave up at the method
        return refuse_raw(conn_of(wsi), hm_bytes_of(in, len));
    case LWS_CALLBACK_HTTP: {
        // Not by the vhost: the library picks that again by name once it has read the headers.
        http_conn *x = conn_of(wsi);
        if (!x || !s || s->req)
            return -1;
        s->req = http_req_new(x);
        if (!s->req)
            return -1;
        s->req->wsi = wsi;
        s->req->session = s;
        lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0); // the sweep watches from here
        start(s->req, in);
        return 0;
    }
    case LWS_CALLBACK_HTTP_BODY:
        if (s && s->req) {
            lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
            http_req_body(s->req, hm_bytes_of(in, len));
        }
        return 0;
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        // Lengths are always known here, so the last byte has said it. Told again and again when
        // something follows the body before the answer: libwebsockets 4.3 makes no step then, in
        // one place for ever.
        if (s && s->req && s->req->body_length && s->req->completed)
            return -1;
        if (s && s->req)
            s->req->completed = true;
        return 0;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return s && s->req ? write_answer(s->req) : 0;
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
        if (s && s->req)
            http_req_gone(s->req);
        return 0;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return 1; // no WebSocket, no h2c upgrade
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
        return 1;
    default:
        return 0;
    }
}

const struct lws_protocols http_lws_protocols[] = {
    {"http", on_lws, sizeof(http_session), 0, 0, NULL, 0},
    LWS_PROTOCOL_LIST_TERM,
};

// ---- what requests ask of their connection ------------------------------------------------------

static int field(const hm_http_req *r, http_field which, char *out, size_t size)
{
    static const enum lws_token_indexes tokens[HTTP_FIELDS] = {
        [HTTP_HOST] = WSI_TOKEN_HOST,
        [HTTP_AUTHORIZATION] = WSI_TOKEN_HTTP_AUTHORIZATION,
        [HTTP_IF_NONE_MATCH] = WSI_TOKEN_HTTP_IF_NONE_MATCH,
        [HTTP_CONTENT_LENGTH] = WSI_TOKEN_HTTP_CONTENT_LENGTH,
        [HTTP_TRANSFER_ENCODING] = WSI_TOKEN_HTTP_TRANSFER_ENCODING,
        [HTTP_EXPECT] = WSI_TOKEN_HTTP_EXPECT,
        [HTTP_CONTENT_TYPE] = WSI_TOKEN_HTTP_CONTENT_TYPE,
    };
    out[0] = 0;
    if (lws_hdr_total_length(r->wsi, tokens[which]) <= 0)
        return 0;
    int n = lws_hdr_copy(r->wsi, out, (int)size, tokens[which]);
    return n > 0 ? n : -1;
}

static void go_on(hm_http_req *r)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uint8_t *p = r->server->out + LWS_PRE;
    if (r->h2)
        return;
    memcpy(p, line, sizeof(line) - 1);
    (void)lws_write(r->wsi, p, sizeof(line) - 1, LWS_WRITE_HTTP_HEADERS_CONTINUATION);
}

static void wake(hm_http_req *r)
{
    lws_callback_on_writable(r->wsi);
}

static void hold(hm_http_req *r, bool held)
{
    (void)lws_rx_flow_control(r->wsi, !held);
}

static void kill_req(hm_http_req *r)
{
    lws_set_timeout(r->wsi, PENDING_TIMEOUT_HTTP_CONTENT, LWS_TO_KILL_ASYNC);
}

static void end(http_conn *x)
{
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

static void sse(hm_http_req *r)
{
    if (r->h2)
        lws_http_mark_sse(r->wsi);
}

const http_wire http_lws_wire = {
    .field = field,
    .go_on = go_on,
    .wake = wake,
    .hold = hold,
    .kill = kill_req,
    .end = end,
    .sse = sse,
};
