// Private to src/trustchain: X.509 pieces over OpenSSL.
#ifndef HM_TRUSTCHAIN_X509_H
#define HM_TRUSTCHAIN_X509_H

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "trustchain/trustchain.h"

#define TC_DAY_MS UINT64_C(86400000)
#define TC_SKEW_MS UINT64_C(300000) // certificates begin that much before they are made

// HM_E_PARSE unless der is one certificate, all of it, and within TC_CERT_MAX.
HM_CHECK hm_err x509_cert_parse(hm_bytes der, X509 **out);
// The first certificate of a PEM file. Errors as of hm_file_read(), and HM_E_PARSE.
HM_CHECK hm_err x509_cert_load(const char *path, X509 **out);
HM_CHECK hm_err x509_cert_der(const X509 *x, hm_buf *der);
HM_CHECK hm_err x509_cert_pem(const X509 *x, hm_buf *pem);
HM_CHECK hm_err x509_key_pem(EVP_PKEY *key, hm_buf *pem);
// A private key of any kind, in PEM, that others than the file's owner may not read.
HM_CHECK hm_err x509_key_load(const char *path, EVP_PKEY **out);
// ECDSA on that curve, in OpenSSL's words.
bool x509_key_is_ec(const EVP_PKEY *key, const char *group);
// md NULL: the key's algorithm has its own.
bool x509_signature_good(EVP_PKEY *key, const EVP_MD *md, hm_bytes covered, hm_bytes signature);
// The leaf under the issuing CA under the root (or right under the root: issuing NULL), by RFC
// 5280, all in force at time_ms. HM_E_CERT_EXPIRED, HM_E_CERT_PROFILE, HM_E_CERT_UNTRUSTED.
HM_CHECK hm_err x509_path_verify(X509 *leaf, X509 *issuing, X509 *root, uint64_t time_ms);
typedef struct x509_path_rules {
    uint64_t time_ms; // when all are in force
    int depth;        // certificates between the leaf and the root, at most
    int level;        // of strength, in OpenSSL's words; 0: any
    int purpose;      // likewise
    const char *host; // that subjectAltName must have, a DNS name or an address; NULL: any
    const char *leaf; // whose certificate the first is, in words
} x509_path_rules;
// The leaf under the root by way of any of the others, by RFC 5280. *path, if path is not NULL: all
// of these, the leaf first and the root last; the caller's. Errors as x509_path_verify().
HM_CHECK hm_err x509_path_check(X509 *leaf, STACK_OF(X509) * more, X509 *root,
                                const x509_path_rules *r, STACK_OF(X509) * *path);
// The rules of a node's certificate beyond RFC 5280.
HM_CHECK hm_err x509_node_profile(X509 *leaf, tc_node_cert *out);
HM_CHECK hm_err x509_time_ms(const ASN1_TIME *t, uint64_t *ms);
HM_CHECK hm_err x509_serial(const X509 *x, tc_serial *out); // HM_E_CERT_PROFILE for other lengths
HM_CHECK hm_err x509_serial_set(X509 *x, const tc_serial *serial);
// From the configuration syntax of OpenSSL; value is ours, or was checked letter by letter.
HM_CHECK hm_err x509_extension_add(X509 *x, X509 *issuer, int nid, const char *value);
// True for 1..TC_NAME_MAX characters of [a-z0-9-].
bool x509_name_ok(hm_bytes name);
// ADDRESS or ADDRESS/BITS, IPv6, with nothing set beyond the bits. HM_E_CONFIG.
HM_CHECK hm_err x509_prefix_parse(const char *text, uint8_t addr[16], unsigned *bits);
// Is the delta list signed by `issuing`? base: the number of the list that it continues.
// HM_E_CERT_UNTRUSTED, HM_E_PARSE.
HM_CHECK hm_err x509_delta_verify(hm_bytes delta, hm_bytes issuing, tc_crl_info *out,
                                  uint64_t *base);
// The CN of a name as UTF-8; HM_E_CERT_PROFILE when there is not exactly one that fits.
HM_CHECK hm_err x509_common_name(const X509_NAME *name, char *out, size_t size);

typedef struct x509_template {
    const char *cn;        // NULL: no subject name
    EVP_PKEY *subject_key; // public half
    X509 *issuer;          // NULL: self-signed
    EVP_PKEY *issuer_key;
    tc_serial serial;
    uint64_t not_before_ms, not_after_ms;
    bool ca;
    int path_len;                 // of a CA
    const char *name_constraints; // of a CA, in OpenSSL's words; NULL: none
    const char *key_usage;
    const char *ext_key_usage;  // NULL: none
    const GENERAL_NAMES *names; // subjectAltName; NULL: none
    const char *crl_url;        // cRLDistributionPoints, in OpenSSL's words; NULL: none
    const char *delta_url;      // freshestCRL, likewise
    const char *info_access;    // authorityInfoAccess, likewise
    bool precert;               // with the poison of RFC 6962, 3.1, as its last extension
} x509_template;
HM_CHECK hm_err x509_cert_make(const x509_template *t, X509 **out);
// Signs anew what was changed.
HM_CHECK hm_err x509_cert_sign(X509 *x, EVP_PKEY *key);

#endif
