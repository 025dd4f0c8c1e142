// Private to http*.c.
#ifndef HM_SERVER_HTTP_INTERNAL_H
#define HM_SERVER_HTTP_INTERNAL_H

#include <libwebsockets.h>

#include "server/h3.h"
#include "server/http.h"

#define HTTP_HEADERS_MAX 8u
#define HTTP_WRITE_MAX 16384u // one TLS record, one HTTP/2 frame
#define HTTP_STATIC_MAX (16u << 20)
#define HTTP_STATIC_FILES_MAX 512u
#define HTTP_PATH_MAX 2048u
#define HTTP_SSE_QUEUE_MAX (1u << 20)
// What the library takes; it ends a connection whose headers are longer without a word.
#define HTTP_LIBRARY_HEADERS_MAX 61440u
#define HTTP_PREFIX_BYTES 8u
#define HTTP_CLIENTS_MAX 65536u // addresses that are told apart
#define HTTP_OUT_MAX 20u        // header fields of an answer

typedef struct http_wire http_wire;
typedef struct http_h3 http_h3;

typedef struct http_file {
    char *path; // "/assets/x.js"; owned
    const char *type;
    hm_buf body;
    char etag[40];
} http_file;

typedef struct http_files {
    http_file *items; // owned
    size_t count;
    size_t bytes;
    const char *index; // of "/"; borrowed, for good
} http_files;

typedef struct http_listener {
    hm_http *server;
    struct lws_vhost *vhost;
    uv_poll_t poll;
    int fd;
    bool tls, read_only, local_names, has_static, open;
    char *cert_path, *key_path; // owned; NULL for plain HTTP
    http_files files;
    http_h3 *h3; // on the same port of UDP; NULL without
    char alt_svc[48];
} http_listener;

// Whoever has one address: what it holds and how often it may ask.
typedef struct http_client {
    uint8_t prefix[HTTP_PREFIX_BYTES];
    uint32_t count; // connections
    bool free_rate; // this machine's own
    hm_bucket bucket;
    hm_list connections; // of http_conn, who rests longest first
} http_client;

// A connection; the handle of it in its library points here.
typedef struct http_conn {
    hm_list of_client, of_server;
    http_listener *listener;
    http_client *client;
    struct sockaddr_in6 from;
    const http_wire *wire;
    struct lws *wsi;   // of HTTP/1.1 and 2
    h3_conn *h3;       // of HTTP/3
    uint64_t since_ms; // when its last request ended, or it began
    unsigned busy;     // requests in progress
    bool ending;
    bool refused; // it was no request of this protocol, and was told so
} http_conn;

struct hm_http {
    uv_loop_t *loop;
    struct lws_context *lws;
    const hm_http_route *routes;
    size_t route_count;
    void *ctx;
    char *token;
    void (*who)(void *ctx, hm_bytes token, hm_http_actor *out);
    hm_http_limits limits; // none is 0 but the rate
    uint32_t connection_count;
    hm_list connections;
    hm_map clients;    // prefix -> http_client, owned
    http_client crowd; // those who are not told apart
    http_listener listeners[HM_HTTP_LISTENERS_MAX];
    size_t listener_count;
    hm_list requests;
    hm_http_stats stats;
    uv_timer_t sweep; // once a second
    uv_idle_t idle;   // runs while the library lets go of its handles
    bool closing, destroyed;
    uint64_t close_at_ms;
    int handles; // own handles still open
    void (*closed)(void *ctx);
    void *closed_ctx;
    uint8_t out[LWS_PRE + HTTP_WRITE_MAX];
};

typedef struct http_session {
    hm_http_req *req;
} http_session;

struct hm_http_req {
    hm_list node;
    hm_http *server;
    http_listener *listener;
    const http_wire *wire; // NULL once the peer is gone
    struct lws *wsi;       // of HTTP/1.1 and 2
    http_session *session;
    h3_req *h3; // of HTTP/3
    http_conn *conn;
    const hm_http_route *route;
    const char *method;
    char path[HTTP_PATH_MAX];
    char params_text[HTTP_PATH_MAX];
    const char *params[HM_HTTP_PARAM_MAX];
    size_t param_count;
    char query_text[HTTP_PATH_MAX];
    const char *query[HM_HTTP_QUERY_MAX];
    size_t query_count;
    char if_none_match[64], host[256], body_type[256];
    bool head;
    hm_http_actor actor;
    bool h2; // of HTTP/1.1 and 2

    uint64_t body_length, body_got;
    hm_buf body; // buffered body, or what is held back during a pause
    bool paused, dispatched, last_given;
    bool completed; // the library told that the body is over
    hm_http_body_cb body_cb;
    void *body_ctx;

    void (*aborted)(void *ctx);
    void *abort_ctx;

    bool answered; // headers are decided
    bool finished; // the handler has nothing more to say
    bool drop, killed, headers_sent, sse, want_room, close_after;
    unsigned status;
    char content_type[96];
    int64_t length; // of the answer; -1 unknown
    char headers[HTTP_HEADERS_MAX][2][256];
    size_t header_count;
    const char *cache_control, *csp;
    hm_buf out;
    size_t out_at;
    uint64_t sent;
    void (*room)(void *ctx);
    void *room_ctx;
    uint64_t progress_ms; // uv_now of the peer's last step
};

// What carries requests: libwebsockets (http_lws.c) or STOQ (http_h3.c).
typedef enum http_field {
    HTTP_HOST,
    HTTP_AUTHORIZATION,
    HTTP_IF_NONE_MATCH,
    HTTP_CONTENT_LENGTH,
    HTTP_TRANSFER_ENCODING,
    HTTP_EXPECT,
    HTTP_CONTENT_TYPE,
    HTTP_FIELDS,
} http_field;

struct http_wire {
    // Copies a field of the request's head; its length, 0: there is none, -1: it does not fit.
    int (*field)(const hm_http_req *r, http_field which, char *out, size_t size);
    void (*go_on)(hm_http_req *r);           // 100 Continue; NULL where nobody waits for it
    void (*wake)(hm_http_req *r);            // there is something to be sent
    void (*hold)(hm_http_req *r, bool held); // stops and resumes the reading of the body
    void (*kill)(hm_http_req *r);            // from the loop, with http_req_gone()
    void (*end)(http_conn *x);               // the same for a connection
    void (*sse)(hm_http_req *r);             // an event stream begins; may be NULL
};

// What a request's head says.
typedef struct http_head {
    const char *method;
    const char *path; // decoded
    bool head;        // HEAD, which is a GET without the body
    bool readable;    // path and query could be decoded
    bool one_host;
    size_t bytes; // of all fields
} http_head;

// http_lws.c
extern const struct lws_protocols http_lws_protocols[];
extern const http_wire http_lws_wire;

// http_h3.c
HM_CHECK hm_err http_h3_open(http_listener *l, const struct sockaddr_in6 *at);
HM_CHECK hm_err http_h3_renew(const http_listener *l);
void http_h3_sweep(const http_listener *l);
// Requests that are there end; no new ones come.
void http_h3_drain(const http_listener *l);
bool http_h3_busy(const http_listener *l);
// Cuts off what is left; its handles are closed with `closed`, their data being the server.
void http_h3_close(const http_listener *l, uv_close_cb closed);
void http_h3_free(http_listener *l);
void http_h3_add(const http_listener *l, h3_counters *sum);

// http_req.c
hm_http_req *http_req_new(http_conn *x);
void http_req_free(hm_http_req *r);
void http_req_body(hm_http_req *r, hm_bytes data);
// The peer went away.
void http_req_gone(hm_http_req *r);
void http_req_wake(hm_http_req *r);
// The answer's header fields; number is room for its length.
size_t http_req_head(const hm_http_req *r, char number[24], h3_out out[HTTP_OUT_MAX]);
// There is room in what is queued.
void http_req_room(hm_http_req *r);

// http_peer.c
// The client at this address; NULL without memory.
http_client *http_client_of(hm_http *h, const struct sockaddr_in6 *from);
// May it have one more connection? May end another for that.
bool http_client_admit(hm_http *h, const http_client *c);
// Seconds until it may ask again; 0: it asks now.
unsigned http_client_wait_s(hm_http *h, http_client *c);
void http_clients_sweep(hm_http *h);
http_conn *http_conn_new(http_listener *l, http_client *c, const struct sockaddr_in6 *from,
                         const http_wire *wire);
void http_conn_free(http_conn *x);
// One of its requests ended.
void http_conn_rests(http_conn *x);

// http_route.c
// Finds the handler, checks token, name and length, and starts the request, whose query is filled
// in; every refusal is an answer.
void http_route_start(hm_http_req *r, const http_head *head);
// The method's name among those that are known, else "?".
const char *http_method_of(const char *text, bool *head);
void http_route_dispatch(hm_http_req *r);
HM_CHECK hm_err http_files_load(http_files *f, const char *dir);
void http_files_free(http_files *f);

#endif
