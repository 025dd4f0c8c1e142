// An OCSP request in base64, as it stands in the address of a GET (RFC 6960, A.1.1), of which the
// HTTP library has made one slash of several beside each other, escaped or not, and a space of each
// plus. How many slashes are missing follows from the request's own length; where, from what fits.
#ifndef HM_TRUSTCHAIN_OCSP_TEXT_H
#define HM_TRUSTCHAIN_OCSP_TEXT_H

#include "trustchain/ocsp.h"

#define OCSP_TEXT_MAX (OCSP_REQUEST_MAX / 3u * 4u + 4u)
#define OCSP_TEXT_SITES_MAX 64u // slashes that others may have stood beside
#define OCSP_TEXT_TRIES_MAX 64u

typedef struct ocsp_text {
    char text[OCSP_TEXT_MAX]; // without the = at the end
    size_t len;
    size_t missing; // slashes
} ocsp_text;

// HM_E_PARSE unless text is base64 of a length that fits the DER in it.
HM_CHECK hm_err ocsp_text_read(const char *text, ocsp_text *out);
// Calls fits with what may have been asked, one after the other, OCSP_TEXT_TRIES_MAX at most, until
// it says true, and says whether it did. What is not missing a slash is one thing alone.
bool ocsp_text_each(const ocsp_text *t, bool (*fits)(void *ctx, hm_bytes der), void *ctx);

#endif
