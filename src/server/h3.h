// HTTP/3 for servers (RFC 9114; QPACK, RFC 9204; priorities, RFC 9218): nghttp3 on connections of
// STOQ. Knows nothing of routes; an application is a table of functions.
//
// Life: whoever owns the endpoint gives each connection whose ALPN is H3_ALPN to h3_conn_open() in
// conn_open, passes on what the endpoint tells about its streams, and calls h3_conn_closed() in
// conn_closed. A request exists for the application from request() until pull() said that nothing
// follows, h3_respond() was given no body, or gone() was called; after one of these it is gone.
//
// Flow: an answer is pulled piece by piece as the peer takes it, and its bytes stay where they are
// until they are acknowledged. A body is pushed in slices of at most H3_SLICE bytes; h3_hold()
// stops reading it, and the peer runs into its window.
//
// What a peer can make this side keep, for each of the streams that the endpoint allows it:
// H3_HEAD_MAX bytes of head (the rest is counted; beyond H3_HEAD_READ the connection ends), a
// slice, and the pieces that wait for acknowledgement. Streams that wait for QPACK's table are not
// allowed. A connection that cancels or spoils H3_CANCEL_BURST requests more than it lets be
// answered ends with H3_EXCESSIVE_LOAD.
//
// One thread: the endpoint's. h3_wake(), h3_hold() and h3_cancel() may be called at any time and
// take effect in the next h3_flush(), which every h3_stream_*() call does for its connection.
#ifndef HM_SERVER_H3_H
#define HM_SERVER_H3_H

#include "base/list.h"
#include "hypermesh/stoq.h"

#define H3_ALPN "h3"
#define H3_NO_ERROR 0x100u
#define H3_UNI_STREAMS 8u
#define H3_HEAD_MAX 8192u // bytes of names and values that are kept
#define H3_HEAD_READ 61440u
#define H3_HEAD_MS 10000u // to the end of a head; to the end of a body that was answered already
#define H3_THROWN_MAX (1u << 20) // bytes of such a body that are read and thrown away
#define H3_SLICE 16384u
#define H3_CANCEL_BURST 200u
#define H3_CODES 20u

typedef struct hm_metrics hm_metrics;
typedef struct h3_conn h3_conn;
typedef struct h3_req h3_req;

// A piece's memory, kept until all bytes up to its end are acknowledged or given up.
typedef struct h3_kept {
    hm_list link;
    uint64_t end;
    void (*free)(struct h3_kept *k);
} h3_kept;

typedef struct h3_piece {
    hm_bytes bytes;
    h3_kept *kept; // NULL: the bytes are there for ever
    bool last;     // nothing follows; bytes may be empty
} h3_piece;

typedef struct h3_app {
    // A head is whole. h3_field() answers now and not later.
    void (*request)(void *ctx, h3_req *q);
    void (*body)(void *ctx, h3_req *q, hm_bytes data);
    // The body came to its end. May be NULL.
    void (*body_end)(void *ctx, h3_req *q);
    // After h3_wake(): the place to call h3_respond().
    void (*ready)(void *ctx, h3_req *q);
    // The next piece of the answer; leaves it empty when there is none now, h3_wake() then.
    void (*pull)(void *ctx, h3_req *q, h3_piece *piece);
    // The peer gave the request up or went away.
    void (*gone)(void *ctx, h3_req *q);
} h3_app;

typedef struct h3_counters {
    uint64_t connections;
    uint64_t requests;
    uint64_t cancelled;       // whose end came before that of their answer
    uint64_t malformed;       // streams reset for what came on them
    uint64_t ended[H3_CODES]; // connections that this side ended for an error
} h3_counters;

typedef struct h3 {
    const h3_app *app;
    void *ctx;
    uint32_t streams; // of a connection at a time
    hm_list conns;
    hm_list dirty; // connections with something to do
    bool draining;
    h3_counters n;
} h3;

// app is borrowed; streams is the endpoint's max_streams_bidi.
void h3_init(h3 *h, const h3_app *app, void *ctx, uint32_t streams);
// Sends the SETTINGS. On failure the connection is being closed and out is not set.
HM_CHECK hm_err h3_conn_open(h3 *h, stoq_conn *conn, void *user, h3_conn **out);
// Tells gone() for the requests that are left, and frees.
void h3_conn_closed(h3_conn *c);
void h3_conn_end(h3_conn *c, uint64_t code, const char *why);
void *h3_conn_user(const h3_conn *c);

// What the endpoint tells, for streams of this connection.
void h3_stream_open(h3_conn *c, stoq_stream *s);
void h3_stream_readable(h3_conn *c, stoq_stream *s);
void h3_stream_writable(h3_conn *c, stoq_stream *s);
void h3_stream_closed(h3_conn *c, stoq_stream *s);
void h3_stream_returned(h3_conn *c, stoq_stream *s, void *tag);

// Does what is due; to be called before stoq_endpoint_process() when h3_pending().
void h3_flush(h3 *h);
static inline bool h3_pending(const h3 *h)
{
    return !hm_list_empty(&h->dirty);
}
// Once a second or so: gives up heads that take longer than H3_HEAD_MS.
void h3_sweep(h3 *h, uint64_t now_ms);
// GOAWAY: requests that are there are answered, no new ones taken, and a connection ends with its
// last request.
void h3_drain(h3 *h);
void h3_add(const h3_counters *n, h3_counters *sum);
void h3_metrics(const h3_counters *n, hm_metrics *m);

// ---- a request ----------------------------------------------------------------------------------

void *h3_req_user(const h3_req *q);
void h3_req_set_user(h3_req *q, void *user);
h3_conn *h3_req_conn(const h3_req *q);
// Bytes of all names and values; above H3_HEAD_MAX some fields are missing.
size_t h3_head_bytes(const h3_req *q);
// The n-th field of that name (":method", ":path", "authorization"), or NULL. Ends with a NUL and
// has none inside.
const char *h3_field(const h3_req *q, const char *name, unsigned n);

typedef struct h3_out {
    const char *name, *value; // copied
} h3_out;
// Once, in ready(). no_body: the head is all, and the request is gone.
void h3_respond(h3_req *q, unsigned status, const h3_out *fields, size_t count, bool no_body);
void h3_wake(h3_req *q);
void h3_hold(h3_req *q, bool held);
// Gives the request up with this code; gone() is not called, and it is gone for the application.
void h3_cancel(h3_req *q, uint64_t code);

#endif
