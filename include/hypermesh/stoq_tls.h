// TLS contexts for STOQ out of files, for who has no reason to prepare an SSL_CTX by hand.
//
// TLS 1.3 with FALCON-1024 or classical certificates (ECDSA, Ed25519, RSA). The peer's must reach a
// root by RFC 5280, be in force, for its role, and not in the revocation list. A client refuses a
// server whose certificate does not name whom stoq_connect() asks for; a node of a mesh (FALCON) is
// asked for by its name or id, and any node may answer at a bare address.
//
// The first call of either adds OpenSSL's default provider and one for FALCON-1024 ("falcon1024")
// to the default library context. Any thread.
#ifndef HYPERMESH_STOQ_TLS_H
#define HYPERMESH_STOQ_TLS_H

#include <openssl/ssl.h>

#include "hypermesh/base.h"

#pragma GCC visibility push(default)

typedef struct stoq_tls_files { // NULL: none
    const char *cert_path;      // PEM: the own certificate, then the issuing CAs. A server needs it
    const char *key_path;       // PEM; a file that others than its owner may read is refused
    const char *roots_path; // PEM: whom to believe. A client needs it; a server without asks nobody
                            // for a certificate, and one with it takes nobody without
    const char *crl_path;   // DER; needs roots_path
    const char *groups;     // in OpenSSL's words; NULL: X25519MLKEM768 alone
} stoq_tls_files;

// The context is the caller's: an endpoint takes a reference of its own, so SSL_CTX_free() may
// follow stoq_endpoint_create(). HM_E_CONFIG names the file that cannot be used; HM_E_NOMEM,
// HM_E_CRYPTO.
HM_CHECK hm_err stoq_tls_server(const stoq_tls_files *files, SSL_CTX **out);
HM_CHECK hm_err stoq_tls_client(const stoq_tls_files *files, SSL_CTX **out);

#pragma GCC visibility pop

#endif
