// The authority's OCSP responder (RFC 6960), without a network: a request in DER in, an answer in
// DER out. Both families, each answer signed by the very key that issued the certificate (RFC 6960,
// 4.2.2.2), by which the responder is named. One certificate a request, as in the profile of RFC
// 5019.
//
// An answer without a nonce is kept and given again for half of its life, as long as it is still
// true. OCSP_SIGN_RATE answers a second are signed, of twice as many at once; beyond, a request
// with a nonce gets the kept answer (RFC 9654 lets a responder leave the nonce out), and who asks
// for what is not kept is told to try later. Everything belongs to the authority's thread.
#ifndef HM_TRUSTCHAIN_OCSP_H
#define HM_TRUSTCHAIN_OCSP_H

#include <openssl/ocsp.h>

#include "trustchain/trustchain.h"

#define OCSP_REQUEST_MAX 2048u // bytes in DER; RFC 5019, 5, speaks of 255
#define OCSP_NONCE_MAX 128u    // bytes (RFC 9654, 2.1)
#define OCSP_LIFE_MS UINT64_C(3600000)
#define OCSP_SIGN_RATE 100u
#define OCSP_KEPT_MAX 4096u // answers

typedef struct ocsp_question {
    OCSP_REQUEST *request; // owned
    OCSP_CERTID *id;       // borrowed from it
    bool nonce;
} ocsp_question;

// HM_E_PARSE unless der is a request, all of it, for one certificate, that the rules above allow.
HM_CHECK hm_err ocsp_question_read(hm_bytes der, ocsp_question *out);
void ocsp_question_free(ocsp_question *q);

typedef struct tc_ocsp tc_ocsp;

// What a request got: the state of its certificate, or an error of RFC 6960, 2.3.
typedef enum tc_ocsp_result {
    TC_OCSP_GOOD,
    TC_OCSP_REVOKED,
    TC_OCSP_UNKNOWN,
    TC_OCSP_MALFORMED,
    TC_OCSP_INTERNAL,
    TC_OCSP_TRY_LATER,
    TC_OCSP_UNAUTHORIZED,
} tc_ocsp_result;
#define TC_OCSP_RESULTS 7u
extern const char *const tc_ocsp_result_names[TC_OCSP_RESULTS]; // in the words of RFC 6960

// Since it was opened. Those with a state were signed for the request or had been kept.
typedef struct tc_ocsp_counters {
    uint64_t answers[TC_OCSP_RESULTS];
    uint64_t made, kept;
} tc_ocsp_counters;

// a is borrowed.
HM_CHECK hm_err tc_ocsp_open(tc_authority *a, tc_ocsp **out);
void tc_ocsp_close(tc_ocsp *o); // NULL is fine
// Every request has an answer, appended, and be it the error malformedRequest. HM_E_NOMEM.
HM_CHECK hm_err tc_ocsp_answer(tc_ocsp *o, hm_bytes request, uint64_t now_ms, hm_buf *der);
// The same for the base64 of a GET, as the HTTP library leaves it (ocsp_text.h). When slashes are
// missing it is the certificate of ours that fits, and the answer is without a nonce; when none
// fits, or several that were never issued, it is malformedRequest.
HM_CHECK hm_err tc_ocsp_answer_text(tc_ocsp *o, const char *text, uint64_t now_ms, hm_buf *der);
void tc_ocsp_get_counters(const tc_ocsp *o, tc_ocsp_counters *out);

#endif
