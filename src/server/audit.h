// The audit log: who did what to the authority and when, one line of JSON an act, each with the
// hash of the line before it. Who changes, drops or adds a line without making all later ones anew
// is found out by anybody who reads it; who makes them anew, by anybody who kept a later head.
//
//   {"n":7,"at_ms":1764158400000,"who":"alice","from":"2001:db8::7","act":"certificate issued",
//    "subject":"node-1","serial":"4f…","detail":"","prev":"9c…"}
//
// The hash of a line is the SHA-256 of its bytes without the newline; the first has 64 zeros as
// "prev". A line is complete on disk or, after a crash or on a full disk, cut off whole.
// One thread, but for audit_sync(). The reading functions are pure and for any thread.
#ifndef HM_SERVER_AUDIT_H
#define HM_SERVER_AUDIT_H

#include <netinet/in.h>

#include "crypto/crypto.h"
#include "server/json.h"

#define AUDIT_LINE_MAX 4096u
#define AUDIT_PAGE_MAX 500u

typedef struct audit_entry {
    uint64_t n; // from 1
    uint64_t at_ms;
    char who[40];  // the token's name, or a part of the server itself
    char from[48]; // address; empty: this machine
    char act[64];
    char subject[320];
    char serial[40]; // hexadecimal; empty: it is about no certificate
    char detail[512];
    hm_hash prev;
} audit_entry;

// From the fields of an object; HM_E_PARSE.
HM_CHECK hm_err audit_entry_read(yyjson_val *object, audit_entry *out);
// One line, without its newline; HM_E_CORRUPT with the reason unless it is just as audit_line()
// writes it.
HM_CHECK hm_err audit_line_read(hm_bytes line, audit_entry *out);
// Appends the line without a newline, and tells its hash. What is no UTF-8 becomes U+FFFD.
HM_CHECK hm_err audit_line(const audit_entry *e, hm_buf *out, hm_hash *hash);

typedef struct audit_log audit_log;

// Opens or makes the file. A torn line at its end is cut off; HM_E_CORRUPT when the last line is
// none of ours. Other lines are not looked at: `hypermesh cert audit --verify` does that.
HM_CHECK hm_err audit_open(const char *path, audit_log **out);
void audit_close(audit_log *a); // NULL is fine

// Writes an act; n and prev are filled in. With durable it is on disk when this returns, else after
// the next audit_sync(). HM_E_IO: it is not in the file.
HM_CHECK hm_err audit_add(audit_log *a, const audit_entry *e, bool durable);
// Any thread until audit_close(), also while lines are added: what was added before is on disk
// then, or another call is about it.
HM_CHECK hm_err audit_sync(audit_log *a);
// Number and hash of the newest line; 0 and zeros for none.
void audit_head(const audit_log *a, uint64_t *n, hm_hash *hash);

// Up to `limit` entries newest first, from `cursor` (0: the newest), each given to `each`, whose
// error ends it. *next is the cursor to go on with, 0 at the end. HM_E_RANGE for a cursor that is
// none; HM_E_CORRUPT.
HM_CHECK hm_err audit_page(audit_log *a, uint64_t cursor, unsigned limit,
                           hm_err (*each)(void *ctx, hm_bytes line), void *ctx, uint64_t *next);

#endif
