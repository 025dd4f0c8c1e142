// Private to src/trustchain: what a certificate request (PKCS#10, RFC 2986) may ask for.
#ifndef HM_TRUSTCHAIN_CSR_H
#define HM_TRUSTCHAIN_CSR_H

#include "trustchain/x509.h"

typedef struct csr {
    X509_REQ *req;              // owned
    EVP_PKEY *key;              // borrowed from req
    char name[TC_NAME_MAX + 1]; // CN of a node, a client, a signer of code; empty: none
    GENERAL_NAMES *names;       // owned; of a server or a client; NULL: none
    char subject[256];          // for lists: name, then names
} csr;

// HM_E_CSR with the reason. Free with csr_free(), which takes a zeroed one as well.
HM_CHECK hm_err csr_read(hm_bytes pem, tc_profile p, csr *out);
// The common name and each alternative name as text; each's error ends it.
HM_CHECK hm_err csr_each_name(const csr *c, hm_err (*each)(void *ctx, const char *name), void *ctx);
// LDH labels (RFC 1034, 3.5), no wildcard, no trailing dot.
bool csr_dns_name_ok(const uint8_t *s, int len);
void csr_free(csr *c);
// The request of a CA, in PEM, appended. pub and key are the halves of its key.
HM_CHECK hm_err csr_make_ca(EVP_PKEY *pub, EVP_PKEY *key, const char *cn, hm_buf *pem);
// For the names of a certificate, as csr_read() takes them again, with any key.
HM_CHECK hm_err csr_make_again(const X509 *cert, EVP_PKEY *key, hm_buf *pem);

#endif
