// Private to h3*.c.
#ifndef HM_SERVER_H3_INTERNAL_H
#define HM_SERVER_H3_INTERNAL_H

#include <nghttp3/nghttp3.h>

#include "base/base.h"
#include "server/h3.h"

#define H3_NO_CODE UINT64_MAX

struct h3_req {
    hm_list of_conn, of_woken;
    h3_conn *conn;
    stoq_stream *stream;
    int64_t id;
    void *user;
    hm_buf fields; // name NUL value NUL ..., while the head comes in
    size_t head_bytes;
    uint64_t since_ms; // when the sweep first saw it without its head, or answered without its end
    bool head_done, told, responded, answered, held, resume, counted, ended;
    uint64_t thrown; // bytes of the body that came after the answer
    uint64_t cancel; // or H3_NO_CODE
    hm_list kept;    // h3_kept
    uint64_t given;  // bytes pulled
    uint64_t acked;  // of them
};

struct h3_conn {
    hm_list of_h3, dirty;
    h3 *h;
    stoq_conn *conn;
    void *user;
    nghttp3_conn *http;
    hm_list reqs, woken;
    stoq_stream *own[3]; // control, QPACK encoder and decoder
    h3_req *last;        // that was looked for
    unsigned budget;     // of cancelled requests
    uint64_t over;       // requests whose stream is closed
    bool failed;         // closed by this side: nghttp3 must not be called any more
    bool drain_told;
    // What nghttp3 asks for while it reads a stream; done when it has returned.
    uint64_t stop, reset;
};

// h3.c
h3_req *h3_find(h3_conn *c, int64_t id);
void h3_fail(h3_conn *c, int err); // an error of nghttp3
// The request is the application's no longer; tell: it hears so.
void h3_leave(h3_req *q, bool tell);
// Both directions of a request's stream, outside of nghttp3.
void h3_abandon(h3_req *q, uint64_t code);
void h3_read(h3_conn *c, stoq_stream *s);

// h3_send.c
int h3_on_acked(nghttp3_conn *http, int64_t id, uint64_t n, void *user, void *stream_user);
void h3_touch(h3_conn *c);
void h3_flush_conn(h3_conn *c);

#endif
