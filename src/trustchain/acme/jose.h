// Signed requests of ACME: JSON Web Signature (RFC 7515) in its flattened form with everything in
// the protected header, keys as JWK (RFC 7517) with their thumbprint (RFC 7638). Pure; any thread;
// fuzzed.
//
// Reading is strict: base64url without padding and with one encoding a value (RFC 7515, 2), no
// member of a header or key twice, no unprotected header, no "crit". Errors say which word of ACME
// fits: HM_E_PARSE malformed, HM_E_UNSUPPORTED badSignatureAlgorithm, HM_E_KEY badPublicKey,
// HM_E_SIGNATURE.
#ifndef HM_TRUSTCHAIN_ACME_JOSE_H
#define HM_TRUSTCHAIN_ACME_JOSE_H

#include <openssl/evp.h>
#include <yyjson.h>

#include "base/base.h"
#include "crypto/crypto.h"

#define JOSE_JWS_MAX 65536u // bytes of a signed request
#define JOSE_JWK_MAX 1024u  // bytes of a key, canonical: RSA of 4096 bits needs 720
#define JOSE_THUMBPRINT_CHARS 43u
#define JOSE_ALGORITHMS "ES256", "ES384", "RS256", "EdDSA"

typedef enum jose_alg {
    JOSE_ES256,
    JOSE_ES384,
    JOSE_RS256,
    JOSE_EDDSA, // Ed25519, RFC 8037
    JOSE_HS256, // external account binding alone
} jose_alg;

// Appended. HM_E_PARSE for anything but the one encoding.
HM_CHECK hm_err jose_unbase64(hm_bytes text, hm_buf *out);
void jose_base64(hm_bytes data, hm_buf *out);

// A whole text that is one object. HM_E_PARSE. Free with yyjson_doc_free().
HM_CHECK hm_err jose_object(hm_bytes text, yyjson_doc **out);

typedef struct jose_jwk {
    char json[JOSE_JWK_MAX + 1]; // only the members that make the key, in their order: RFC 7638
    hm_hash thumbprint;          // of it
    jose_alg alg;                // the one that goes with the key
    EVP_PKEY *key;               // owned
} jose_jwk;

// Takes P-256, P-384, RSA of 2048 to 4096 bits, and Ed25519. Free with jose_jwk_free(), which takes
// a zeroed one as well.
HM_CHECK hm_err jose_jwk_read(yyjson_val *jwk, jose_jwk *out);
HM_CHECK hm_err jose_jwk_parse(hm_bytes json, jose_jwk *out);
void jose_jwk_free(jose_jwk *k);

typedef struct jose_jws {
    jose_alg alg;
    yyjson_doc *header;       // owned
    yyjson_val *jwk;          // of header, or NULL
    hm_bytes kid, nonce, url; // of header; ptr NULL: not there
    hm_buf payload;           // decoded
    hm_buf signed_text;       // what the signature is over
    hm_buf signature;
} jose_jws;

// The signature is not looked at. Free with jose_jws_free().
HM_CHECK hm_err jose_jws_parse(hm_bytes text, jose_jws *out);
// The same of an object that stands in another.
HM_CHECK hm_err jose_jws_read(yyjson_val *object, jose_jws *out);
void jose_jws_free(jose_jws *j);
// HM_E_UNSUPPORTED when the algorithm is not the key's, HM_E_SIGNATURE.
HM_CHECK hm_err jose_jws_verify(const jose_jws *j, const jose_jwk *k);
// The same for HS256.
HM_CHECK hm_err jose_jws_verify_mac(const jose_jws *j, hm_bytes secret);

#endif
