// Requests for a revocation list that is newer than the one the asker has: held until there is one,
// or until their time is over. CRL_WAITERS_MAX at a time, and half of that from one address (a
// /64). Everything belongs to the loop's thread.
#ifndef HM_SERVER_CRL_WAIT_H
#define HM_SERVER_CRL_WAIT_H

#include "base/clock.h"
#include "server/http.h"
#include "trustchain/trustchain.h"

#define CRL_WAITERS_MAX 512u
#define CRL_WAIT_MAX_S 60u

typedef struct crl_wait crl_wait;

// All borrowed until the crl_wait is closed.
HM_CHECK hm_err crl_wait_open(uv_loop_t *loop, tc_authority *a, const hm_clock *clock,
                              crl_wait **out);
typedef struct crl_question {
    tc_family family;
    tc_issuing_id issuing; // of which CA; empty: of the one that issues
    bool delta;            // the delta to the newest list, which has its number
    uint64_t after;
} crl_question;

// Answers the request: with the list, 200, once its number is above `after`, or with
// nothing, 204, when wait_s seconds went by; 503 when too many wait, 404 for a CA that is not
// there.
void crl_wait_ask(crl_wait *w, hm_http_req *r, const crl_question *q, uint32_t wait_s);
// Something was revoked.
void crl_wait_wake(crl_wait *w);
uint32_t crl_wait_count(const crl_wait *w);
// Answers all of them, and those that still come, at once. Before hm_http_close().
void crl_wait_end(crl_wait *w);
// Once no request is left; the loop frees it. NULL is harmless.
void crl_wait_close(crl_wait *w);

#endif
