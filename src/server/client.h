// A small HTTPS client of the APIs: libcurl, IPv6 only, the edge root verified.
#ifndef HM_SERVER_CLIENT_H
#define HM_SERVER_CLIENT_H

#include <stdatomic.h>

#include "base/base.h"

typedef struct hm_client {
    const char *url;     // "https://[::1]:8444"
    const char *ca_path; // PEM of the edge root; NULL = the system's roots
    char *token;         // NULL = none
    uint32_t timeout_s;  // of a whole request; 0 = none
    void *kept;          // connection kept open between requests, or NULL
    // NULL, or what another thread sets to end hm_client_request() with HM_E_CLOSED within about a
    // second; borrowed.
    const atomic_bool *cancel;
} hm_client;

// Keeps the connection from now on; for many requests from one thread. End with
// hm_client_release().
HM_CHECK hm_err hm_client_keep(hm_client *c);
void hm_client_release(hm_client *c);

// Sends a request; the body of the answer is appended to out. HM_E_UNREACHABLE; HM_E_CERT_UNTRUSTED
// when the server's certificate does not lead to the root; HM_E_TIMEOUT when it is silent for
// HM_CLIENT_SILENCE_S; its refusals: HM_E_NOTFOUND 404, HM_E_DENIED 401 and 403, HM_E_EXISTS 409,
// HM_E_BUSY 429 and 503, HM_E_TIMEOUT 504, else HM_E_HTTP. file (may be NULL) is the path of a
// regular file to send instead of body; HM_E_IO when it cannot be read.
#define HM_CLIENT_SILENCE_S 120
HM_CHECK hm_err hm_client_request(const hm_client *c, const char *method, const char *path,
                                  hm_bytes body, const char *file, hm_buf *out);
// As hm_client_request() with an empty body, for answers of many lines: on_line is called for each,
// without its end.
HM_CHECK hm_err hm_client_lines(const hm_client *c, const char *method, const char *path,
                                void (*on_line)(void *ctx, hm_bytes line), void *ctx);
// Writes the answer to a new file; the file appears only when it is whole. "-" is the standard
// output; it, and what is there already and no regular file (a pipe, a link), is written to as the
// answer comes.
HM_CHECK hm_err hm_client_download(const hm_client *c, const char *path, const char *to);
// The server's own words, when it refused this thread's last request; else NULL.
typedef struct hm_client_refusal {
    char code[40], message[160], detail[512];
    char line[512]; // what hm_err_detail() said of it
    char text[64];  // the answer itself, when it is no Error, as far as it fits
} hm_client_refusal;
const hm_client_refusal *hm_client_refused(void);
// Percent-encodes text for a query.
void hm_client_escape(hm_buf *out, const char *text);

#endif
