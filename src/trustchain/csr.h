// Private to src/trustchain: what a certificate request (PKCS#10, RFC 2986) may ask for.
#ifndef HM_TRUSTCHAIN_CSR_H
#define HM_TRUSTCHAIN_CSR_H

#include "trustchain/x509.h"

typedef struct csr {
    X509_REQ *req;              // owned
    EVP_PKEY *key;              // borrowed from req
    char name[TC_NAME_MAX + 1]; // of a node
    GENERAL_NAMES *names;       // owned; of a server
    char subject[256];          // for lists: the node's name or the server's names
} csr;

// HM_E_CSR with the reason. Free with csr_free(), which takes a zeroed one as well.
HM_CHECK hm_err csr_read_node(hm_bytes pem, csr *out);
HM_CHECK hm_err csr_read_server(hm_bytes pem, csr *out);
void csr_free(csr *c);

#endif
