// HTTP/3: requests and answers by h3.h, on an endpoint of STOQ beside a listener's TCP socket.
#include <nghttp3/nghttp3.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/http_internal.h"

#define TURNS 16u    // of the endpoint, before others have theirs
#define STREAMS 128u // requests of a connection at a time
#define STREAM_WINDOW (256u << 10)
#define CONN_WINDOW (1u << 20)
#define STREAM_KEPT (256u << 10)

struct http_h3 {
    http_listener *listener;
    stoq_endpoint *ep;
    h3 h3;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_prepare_t prepare;
    bool readable;
};

// The bytes of an answer until they are acknowledged.
typedef struct kept_buf {
    h3_kept kept;
    hm_buf buf;
} kept_buf;

// ---- the head of a request ----------------------------------------------------------------------

static int hex_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// Percent-decoding with a NUL after it; how many bytes with that, 0 when it cannot be done.
static size_t decode(const char *in, size_t len, char *out, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = in[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_of(in[i + 1]) : -1;
            int low = i + 2 < len ? hex_of(in[i + 2]) : -1;
            if (high < 0 || low < 0 || (high | low) == 0)
                return 0;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (n + 1 >= size)
            return 0;
        out[n++] = c;
    }
    if (n >= size)
        return 0;
    out[n] = 0;
    return n + 1;
}

static bool read_query(hm_http_req *r, const char *at)
{
    size_t used = 0;
    while (*at) {
        size_t len = strcspn(at, "&");
        char *out = r->query_text + used;
        size_t n = decode(at, len, out, sizeof(r->query_text) - used);
        if (n == 0 || r->query_count == HM_HTTP_QUERY_MAX)
            return false;
        r->query[r->query_count++] = out;
        used += n;
        at += len + (at[len] == '&');
    }
    return true;
}

// RFC 9114, 4.3.1: Host may be there beside :authority, and must be the same then.
static bool one_host(const h3_req *q)
{
    const char *authority = h3_field(q, ":authority", 0), *host = h3_field(q, "host", 0);
    return (authority || host) && !h3_field(q, "host", 1) &&
           (!authority || !host || strcmp(authority, host) == 0);
}

static void on_request(void *ctx, h3_req *q)
{
    char path[HTTP_PATH_MAX] = "";
    hm_http_req *r = http_req_new(h3_conn_user(h3_req_conn(q)));
    (void)ctx;
    if (!r) {
        h3_cancel(q, NGHTTP3_H3_INTERNAL_ERROR);
        return;
    }
    r->h3 = q;
    h3_req_set_user(q, r);
    const char *method = h3_field(q, ":method", 0), *uri = h3_field(q, ":path", 0);
    http_head head = {.path = path, .bytes = h3_head_bytes(q), .one_host = one_host(q)};
    head.method = http_method_of(method ? method : "", &head.head);
    if (uri) {
        size_t len = strcspn(uri, "?");
        head.readable =
            decode(uri, len, path, sizeof(path)) && read_query(r, uri + len + (uri[len] == '?'));
    }
    http_route_start(r, &head);
}

static int field(const hm_http_req *r, http_field which, char *out, size_t size)
{
    static const char *const names[HTTP_FIELDS] = {
        [HTTP_HOST] = ":authority",
        [HTTP_AUTHORIZATION] = "authorization",
        [HTTP_IF_NONE_MATCH] = "if-none-match",
        [HTTP_CONTENT_LENGTH] = "content-length",
        [HTTP_TRANSFER_ENCODING] = "transfer-encoding",
        [HTTP_EXPECT] = "expect",
        [HTTP_CONTENT_TYPE] = "content-type",
    };
    const char *value = h3_field(r->h3, names[which], 0);
    if (!value && which == HTTP_HOST)
        value = h3_field(r->h3, "host", 0);
    out[0] = 0;
    if (!value || !*value)
        return 0;
    // Two of a kind mean neither.
    if (strlen(value) >= size || h3_field(r->h3, names[which], 1))
        return -1;
    strcpy(out, value);
    return (int)strlen(value);
}

// ---- body and answer ----------------------------------------------------------------------------

static void on_body(void *ctx, h3_req *q, hm_bytes data)
{
    hm_http_req *r = h3_req_user(q);
    (void)ctx;
    if (r->body_got < r->body_length) // else it announced none
        http_req_body(r, data);
}

static void on_ready(void *ctx, h3_req *q)
{
    h3_out fields[HTTP_OUT_MAX];
    char number[24];
    hm_http_req *r = h3_req_user(q);
    (void)ctx;
    if (r->killed) {
        h3_cancel(q, NGHTTP3_H3_REQUEST_CANCELLED);
        http_req_gone(r);
        return;
    }
    if (r->drop) {
        h3_cancel(q, NGHTTP3_H3_INTERNAL_ERROR);
        http_req_free(r);
        return;
    }
    if (!r->answered || r->headers_sent)
        return;
    bool none = r->finished && r->out_at == r->out.len && r->length <= 0;
    none |= r->head || r->status == 304;
    size_t n = http_req_head(r, number, fields);
    r->headers_sent = true;
    r->progress_ms = uv_now(r->server->loop);
    h3_respond(q, r->status, fields, n, none && r->finished);
    if (none && r->finished)
        http_req_free(r);
}

static void kept_free(h3_kept *k)
{
    kept_buf *b = hm_container_of(k, kept_buf, kept);
    hm_buf_free(&b->buf);
    free(b);
}

// All that is queued goes as one piece.
static bool take_out(hm_http_req *r, h3_piece *piece)
{
    kept_buf *b = calloc(1, sizeof(*b));
    if (!b)
        return false;
    *b = (kept_buf){.kept.free = kept_free, .buf = r->out};
    piece->bytes = hm_bytes_of(r->out.ptr + r->out_at, r->out.len - r->out_at);
    piece->kept = &b->kept;
    r->out = (hm_buf){0};
    r->out_at = 0;
    r->sent += piece->bytes.len;
    r->server->stats.bytes_out += piece->bytes.len;
    r->progress_ms = uv_now(r->server->loop);
    return true;
}

static void on_pull(void *ctx, h3_req *q, h3_piece *piece)
{
    hm_http_req *r = h3_req_user(q);
    (void)ctx;
    if (r->drop || r->killed)
        return; // on_ready() sees to it
    if (r->out.len > r->out_at && !take_out(r, piece))
        r->drop = true;
    http_req_room(r);
    if (r->drop || !r->finished || r->out.len > r->out_at) {
        if (r->drop || r->out.len > r->out_at)
            h3_wake(q);
        return;
    }
    if (r->length >= 0 && !r->head && r->sent != (uint64_t)r->length) {
        r->drop = true; // less than was announced must not look whole
        h3_wake(q);
        return;
    }
    piece->last = true;
    http_req_free(r);
}

static void on_gone(void *ctx, h3_req *q)
{
    (void)ctx;
    http_req_gone(h3_req_user(q));
}

static const h3_app app = {
    .request = on_request,
    .body = on_body,
    .ready = on_ready,
    .pull = on_pull,
    .gone = on_gone,
};

static void wake(hm_http_req *r)
{
    h3_wake(r->h3);
}
static void hold(hm_http_req *r, bool held)
{
    h3_hold(r->h3, held);
}
static void kill_req(hm_http_req *r)
{
    r->killed = true;
    h3_wake(r->h3);
}
static void end(http_conn *x)
{
    h3_conn_end(x->h3, NGHTTP3_H3_NO_ERROR, "room for others");
}

static const http_wire h3_wire = {
    .field = field,
    .wake = wake,
    .hold = hold,
    .kill = kill_req,
    .end = end,
};

// ---- what the endpoint tells --------------------------------------------------------------------

static void on_conn_open(void *user, stoq_conn *conn)
{
    http_h3 *x = user;
    hm_http *h = x->listener->server;
    struct sockaddr_in6 from;
    stoq_conn_peer_address(conn, &from);
    http_client *c = http_client_of(h, &from);
    http_conn *hc =
        c && http_client_admit(h, c) ? http_conn_new(x->listener, c, &from, &h3_wire) : NULL;
    if (!hc) {
        stoq_conn_close(conn, NGHTTP3_H3_EXCESSIVE_LOAD, "too many connections");
        return;
    }
    if (h3_conn_open(&x->h3, conn, hc, &hc->h3) == HM_OK)
        stoq_conn_set_user(conn, hc);
    else
        http_conn_free(hc);
}

static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    http_conn *hc = stoq_conn_user(conn);
    (void)user, (void)code, (void)is_app, (void)reason;
    if (!hc)
        return;
    h3_conn_closed(hc->h3);
    http_conn_free(hc);
}

static h3_conn *conn_of(stoq_stream *s)
{
    const http_conn *hc = stoq_conn_user(stoq_stream_conn(s));
    return hc ? hc->h3 : NULL;
}

static void on_stream_open(void *user, stoq_stream *s)
{
    (void)user;
    if (conn_of(s))
        h3_stream_open(conn_of(s), s);
}
static void on_readable_stream(void *user, stoq_stream *s)
{
    (void)user;
    if (conn_of(s))
        h3_stream_readable(conn_of(s), s);
}
static void on_writable_stream(void *user, stoq_stream *s)
{
    (void)user;
    if (conn_of(s))
        h3_stream_writable(conn_of(s), s);
}
static void on_stream_closed(void *user, stoq_stream *s)
{
    (void)user;
    if (conn_of(s))
        h3_stream_closed(conn_of(s), s);
}
static void on_returned(void *user, stoq_stream *s, void *tag)
{
    (void)user;
    if (conn_of(s))
        h3_stream_returned(conn_of(s), s, tag);
}

// ---- life ---------------------------------------------------------------------------------------

static void on_poll(uv_poll_t *p, int status, int events)
{
    http_h3 *x = hm_container_of(p, http_h3, poll);
    if (status == 0 && (events & UV_READABLE))
        x->readable = true;
}

static void on_timer(uv_timer_t *t)
{
    (void)t; // waking up is enough: on_prepare() works
}

static uint64_t now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

// All that is due is done here, before the loop waits.
static void on_prepare(uv_prepare_t *p)
{
    http_h3 *x = hm_container_of(p, http_h3, prepare);
    uint64_t now = now_us(), next = stoq_endpoint_next_timeout_us(x->ep);
    for (unsigned i = 0; i < TURNS; i++) {
        if (!x->readable && !h3_pending(&x->h3) && next > now)
            break;
        bool readable = x->readable;
        x->readable = false;
        h3_flush(&x->h3);
        stoq_endpoint_process(x->ep, now, readable);
        now = now_us();
        next = stoq_endpoint_next_timeout_us(x->ep);
    }
    if (h3_pending(&x->h3))
        next = 0;
    uv_update_time(x->listener->server->loop);
    if (next == HM_TIME_NEVER)
        uv_timer_stop(&x->timer);
    else
        uv_timer_start(&x->timer, on_timer, next <= now ? 0 : (next - now + 999) / 1000, 0);
}

static hm_err make_tls(const http_listener *l, SSL_CTX **out)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (!tls)
        return HM_E_NOMEM;
    if (SSL_CTX_use_certificate_chain_file(tls, l->cert_path) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, l->key_path, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls) != 1) {
        SSL_CTX_free(tls);
        return hm_fail(HM_E_CONFIG, "certificate %s with key %s cannot be used", l->cert_path,
                       l->key_path);
    }
    *out = tls;
    return HM_OK;
}

static hm_err make_endpoint(http_h3 *x, const struct sockaddr_in6 *at)
{
    stoq_config cfg = {
        .bind = *at,
        .alpn = {H3_ALPN},
        .callbacks =
            {
                .conn_open = on_conn_open,
                .conn_closed = on_conn_closed,
                .stream_open = on_stream_open,
                .stream_readable = on_readable_stream,
                .stream_writable = on_writable_stream,
                .stream_closed = on_stream_closed,
                .stream_returned = on_returned,
            },
        .user = x,
        .limits =
            {
                .max_connections = x->listener->server->limits.connections,
                .max_streams_bidi = STREAMS,
                .max_streams_uni = H3_UNI_STREAMS,
                .stream_window_bytes = STREAM_WINDOW,
                .conn_window_bytes = CONN_WINDOW,
                .stream_send_bytes = STREAM_KEPT,
                .max_idle_ms = HM_HTTP_IDLE_MS,
                .max_handshake_ms = HM_HTTP_FIRST_MS,
            },
    };
    HM_TRY(make_tls(x->listener, &cfg.server_tls));
    hm_err err = stoq_endpoint_create(&cfg, &x->ep);
    SSL_CTX_free(cfg.server_tls);
    return err;
}

hm_err http_h3_open(http_listener *l, const struct sockaddr_in6 *at)
{
    hm_http *h = l->server;
    http_h3 *x = calloc(1, sizeof(*x));
    if (!x)
        return HM_E_NOMEM;
    x->listener = l;
    h3_init(&x->h3, &app, x, STREAMS);
    hm_err err = make_endpoint(x, at);
    if (err == HM_OK && uv_poll_init(h->loop, &x->poll, stoq_endpoint_fd(x->ep)) != 0)
        err = hm_fail(HM_E_IO, "the event loop does not take the socket");
    if (err != HM_OK) {
        stoq_endpoint_destroy(x->ep);
        free(x);
        return err;
    }
    uv_timer_init(h->loop, &x->timer);
    uv_prepare_init(h->loop, &x->prepare);
    x->poll.data = x->timer.data = x->prepare.data = h;
    uv_poll_start(&x->poll, UV_READABLE, on_poll);
    uv_prepare_start(&x->prepare, on_prepare);
    h->handles += 3;
    l->h3 = x;
    return HM_OK;
}

hm_err http_h3_renew(const http_listener *l)
{
    SSL_CTX *tls = NULL;
    HM_TRY(make_tls(l, &tls));
    stoq_endpoint_set_server_tls(l->h3->ep, tls);
    SSL_CTX_free(tls);
    return HM_OK;
}

void http_h3_sweep(const http_listener *l)
{
    h3_sweep(&l->h3->h3, uv_now(l->server->loop));
}

void http_h3_drain(const http_listener *l)
{
    stoq_endpoint_set_server_tls(l->h3->ep, NULL);
    h3_drain(&l->h3->h3);
}

bool http_h3_busy(const http_listener *l)
{
    return !hm_list_empty(&l->h3->h3.conns);
}

void http_h3_close(const http_listener *l, uv_close_cb closed)
{
    http_h3 *x = l->h3;
    uv_poll_stop(&x->poll);
    uv_close((uv_handle_t *)&x->poll, closed);
    uv_close((uv_handle_t *)&x->timer, closed);
    uv_close((uv_handle_t *)&x->prepare, closed);
    stoq_endpoint_destroy(x->ep);
    x->ep = NULL;
}

void http_h3_free(http_listener *l)
{
    free(l->h3);
    l->h3 = NULL;
}

void http_h3_add(const http_listener *l, h3_counters *sum)
{
    h3_add(&l->h3->h3.n, sum);
}
