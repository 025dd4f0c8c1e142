// An HTTP/1.1 and HTTP/2 server on libwebsockets, and an HTTP/3 server on STOQ and nghttp3, on the
// caller's libuv loop. IPv6 only: it opens its own listening sockets (AF_INET6 with IPV6_V6ONLY)
// and hands accepted connections to the library, so that no other family can appear.
//
// A route table maps method and pattern to a handler. A handler answers now or later: the request
// lives until it was answered whole, or until its abort callback was called because the peer went
// away; after either, it is gone. Everything belongs to the loop's thread.
//
// A peer's limits: HM_HTTP_HEADER_MAX bytes of headers (431 beyond, and without an answer beyond 60
// KiB), the route's body_max, the server's and its own connections, its requests a second (429 with
// Retry-After; this machine itself is not limited in that), HM_HTTP_FIRST_MS until a request is
// there, HM_HTTP_IDLE_MS without progress. A request that comes before the answer to
// the one before may end the connection (libwebsockets 4.3 mixes up the bodies of such requests).
// Pausing a body stops reading from an HTTP/1.1 connection. HTTP/2 in libwebsockets 4.3 cannot hold
// back one stream, so what arrives during a pause is kept up to HM_HTTP_HELD_MAX and the request
// refused beyond; and version 4.3.5 takes a DATA frame that arrives in two reads near the end of a
// body for too long a body. For both reasons HTTP/1.1 is chosen when a client offers both, and
// uploads belong there, or to HTTP/3, where a pause holds back one stream and nothing is kept.
//
// HTTP/3 has the same routes, answers and limits; h3.h has those that are its own.
#ifndef HM_SERVER_HTTP_H
#define HM_SERVER_HTTP_H

#include <netinet/in.h>
#include <uv.h>

#include "base/base.h"

#define HM_HTTP_HEADER_MAX 8192u
#define HM_HTTP_BODY_MAX (256u << 10) // of a buffered body, unless the route says otherwise
#define HM_HTTP_HELD_MAX (16u << 20)
#define HM_HTTP_IDLE_MS 30000u
#define HM_HTTP_FIRST_MS 10000u // of a connection: TLS and the first request
#define HM_HTTP_QUERY_MAX 16u
#define HM_HTTP_PARAM_MAX 4u
#define HM_HTTP_OUT_HIGH (256u << 10) // bytes queued at which a writer should pause
#define HM_HTTP_OUT_LOW (64u << 10)
#define HM_HTTP_LISTENERS_MAX 4u

typedef struct hm_http hm_http;
typedef struct hm_http_req hm_http_req;
typedef void (*hm_http_handler)(void *ctx, hm_http_req *r);

enum {
    HM_HTTP_AUTH = 1,   // a bearer token is needed, of the route's role or a higher one
    HM_HTTP_STREAM = 2, // called at once; the handler reads the body with hm_http_body_read()
};

// Whose token a request brings; each may do what the ones before it may.
typedef enum hm_http_role {
    HM_HTTP_NOBODY,
    HM_HTTP_VIEWER,
    HM_HTTP_OPERATOR,
    HM_HTTP_AUTHORITY,
} hm_http_role;

#define HM_HTTP_ACTOR_MAX 32u

typedef struct hm_http_actor {
    hm_http_role role;
    char name[HM_HTTP_ACTOR_MAX + 1]; // of the token
} hm_http_actor;

typedef struct hm_http_route {
    const char *method;  // "GET" also answers HEAD
    const char *pattern; // "/v1/assets/{id}/history"; {x} matches one segment, {x*} all the rest
    hm_http_handler handler;
    unsigned flags;
    uint64_t body_max; // 0 = HM_HTTP_BODY_MAX
    const char *query; // names of its parameters, separated by spaces; NULL = none. 400 for others
    hm_http_role role; // least, with HM_HTTP_AUTH; 0 = HM_HTTP_AUTHORITY
} hm_http_route;

typedef struct hm_http_limits {
    uint32_t connections;        // at a time; 0 = 1024
    uint32_t client_connections; // of one address (a /64); 0 = half of them
    uint32_t client_rate;        // requests a second of one address, twice that at once; 0 = any
} hm_http_limits;

typedef struct hm_http_config {
    uv_loop_t *loop;             // borrowed until close is done
    const hm_http_route *routes; // borrowed
    size_t route_count;
    void *ctx;         // for the handlers
    const char *token; // bearer token of HM_HTTP_AUTHORITY, copied; NULL: none is
    // Whose another bearer token is: fills out or leaves it as it is. NULL: nobody's.
    void (*who)(void *ctx, hm_bytes token, hm_http_actor *out);
    hm_http_limits limits;
} hm_http_config;

typedef struct hm_http_listen_config {
    struct sockaddr_in6 addr;
    const char *cert_path; // PEM chain, leaf first; NULL = plain HTTP
    const char *key_path;
    const char *static_dir; // read into memory at start (16 MiB at most); NULL = none
    const char *index;      // the file of it that "/" means; a literal; NULL = "/index.html"
    bool read_only;         // routes with HM_HTTP_AUTH are refused whatever the token
    bool http3;             // also on the same port of UDP; needs a certificate
    bool local_names;       // Host must be localhost or [::1]: no page of another name gets in
} hm_http_listen_config;

HM_CHECK hm_err hm_http_open(const hm_http_config *cfg, hm_http **out);
// HM_E_CONFIG names an address that is taken, or an unusable certificate. bound may be NULL and
// gets the address with its real port.
HM_CHECK hm_err hm_http_listen(hm_http *h, const hm_http_listen_config *cfg,
                               struct sockaddr_in6 *bound);
// The files of listeners' certificates have new content: connections from now on get it.
HM_CHECK hm_err hm_http_certs_renewed(hm_http *h);
// Stops accepting, lets requests in flight end for up to grace_ms (event streams end at once),
// closes what is left; closed(ctx) is called from the loop when all is gone.
void hm_http_close(hm_http *h, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx);

typedef struct h3_counters h3_counters; // h3.h
// False: no listener has HTTP/3.
bool hm_http_get_h3_counters(const hm_http *h, h3_counters *out);

typedef struct hm_http_stats {
    uint64_t requests, refused_auth, refused_limit, aborted;
    uint64_t refused_client, refused_rate; // connections and requests of one address
    uint64_t displaced;                    // resting connections that made room for new ones
    uint64_t status[6];                    // answers by class, [2] = 2xx
    uint64_t bytes_in, bytes_out;          // bodies
    uint32_t connections, in_flight;
} hm_http_stats;
void hm_http_get_stats(const hm_http *h, hm_http_stats *out);

// ---- the request --------------------------------------------------------------------------------

const char *hm_http_method(const hm_http_req *r);
const char *hm_http_path(const hm_http_req *r);
// The n-th {x} of the pattern, percent-decoded; n < number of them (asserted).
const char *hm_http_param(const hm_http_req *r, size_t n);
// A query parameter of the route, percent-decoded, or NULL. Each comes once at most: 400 otherwise.
const char *hm_http_query(const hm_http_req *r, const char *name);
// The whole body of a route without HM_HTTP_STREAM. Lives as long as the request.
hm_bytes hm_http_body(const hm_http_req *r);
uint64_t hm_http_body_length(const hm_http_req *r);
// Whose bearer token the request brought to an address that takes it.
const hm_http_actor *hm_http_actor_of(const hm_http_req *r);
// Is that HM_HTTP_AUTHORITY?
bool hm_http_authorized(const hm_http_req *r);
// "viewer", "operator", "authority".
const char *hm_http_role_word(hm_http_role role);
// The peer's address.
const struct sockaddr_in6 *hm_http_from(const hm_http_req *r);
bool hm_http_is_head(const hm_http_req *r); // HEAD, where hm_http_method() says GET
// The address as the client wrote it (Host), and the type of the body; "" when there is none, it is
// longer than 255 bytes or stands there twice.
const char *hm_http_host(const hm_http_req *r);
const char *hm_http_content_type(const hm_http_req *r);
// The first 8 bytes of the peer's address: its /64.
const uint8_t *hm_http_client(const hm_http_req *r);
// The handler's own pointer and what to call when the peer goes before the answer is whole.
void hm_http_on_abort(hm_http_req *r, void (*aborted)(void *ctx), void *ctx);

// Streams the body: data in order, last with the final piece (which may be empty). Returning
// HM_E_AGAIN, with the bytes taken, pauses until hm_http_body_resume(). May call back at once. An
// answer ends the reading.
typedef hm_err (*hm_http_body_cb)(void *ctx, hm_bytes data, bool last);
void hm_http_body_read(hm_http_req *r, hm_http_body_cb cb, void *ctx);
void hm_http_body_resume(hm_http_req *r);

// ---- answers: one of these, once ----------------------------------------------------------------

// Before the answer; at most 8, name and value at most 255 bytes without control characters.
void hm_http_header(hm_http_req *r, const char *name, const char *value);
// Before the answer, in place of no-store. value is borrowed until the answer is out: a literal.
void hm_http_cache_control(hm_http_req *r, const char *value);
void hm_http_reply(hm_http_req *r, unsigned status, const char *content_type, hm_bytes body);
// Frees json, to which a newline is added; when it could not be made, the answer says so.
void hm_http_reply_json(hm_http_req *r, unsigned status, hm_buf *json);
// {"error":{"code","message","detail"}}; detail may be NULL.
void hm_http_reply_error(hm_http_req *r, unsigned status, const char *code, const char *message,
                         const char *detail);
// The same from an error code; the status follows from it.
void hm_http_reply_err(hm_http_req *r, hm_err err, const char *detail);
unsigned hm_http_status_of(hm_err err);

// A body in pieces; length -1 = not known (the connection closes after it on HTTP/1.1).
// hm_http_stream_write copies; HM_E_AGAIN means taken, but wait for room(ctx) before more. After
// hm_http_stream_end() or hm_http_stream_fail() no callback comes.
void hm_http_stream(hm_http_req *r, unsigned status, const char *content_type, int64_t length,
                    void (*room)(void *ctx), void *ctx);
HM_CHECK hm_err hm_http_stream_write(hm_http_req *r, hm_bytes data);
void hm_http_stream_end(hm_http_req *r);
// Breaks the connection, so that the peer cannot take what it has for the whole.
void hm_http_stream_fail(hm_http_req *r);

// Server-sent events; lasts until the peer goes (the abort callback) or hm_http_stream_end().
void hm_http_sse(hm_http_req *r);
// HM_E_LIMIT when the reader is too slow: end the stream then, the browser comes back by itself.
HM_CHECK hm_err hm_http_sse_send(hm_http_req *r, const char *event, uint64_t id, hm_bytes json);

#endif
