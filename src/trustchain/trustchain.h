// trustchain: who is who. An authority that issues certificates, and the checks that everybody else
// makes without asking it.
//
// One authority, two families of certificates (RFC 5280):
//   mesh  FALCON-1024. Root, issuing CA, node certificates. A node is named by the hash of its key:
//         SAN URI "hypermesh:node:" + 64 hex digits of its NodeID; CN is a label for people.
//   edge  ECDSA P-384. Root (also cross-signed by the mesh root), issuing CA, server certificates
//         for browsers, curl and other clients that know no FALCON.
//
// Times are milliseconds since 1970 UTC and always the caller's, so that checks are pure.
#ifndef HM_TRUSTCHAIN_TRUSTCHAIN_H
#define HM_TRUSTCHAIN_TRUSTCHAIN_H

#include <openssl/ssl.h>

#include "base/base.h"
#include "crypto/crypto.h"

#define TC_CERT_MAX 16384u      // bytes of a certificate in DER
#define TC_CRL_MAX 1048576u     // bytes of a revocation list in DER
#define TC_CSR_MAX 16384u       // bytes of a request in PEM
#define TC_SERIAL_BYTES 16u     // 127 random bits
#define TC_NAME_MAX 63u         // of a node: [a-z0-9-]
#define TC_SERVER_NAMES_MAX 32u // DNS names and addresses in a server certificate
#define TC_NODE_DAYS 30u        // life of node and server certificates
#define TC_CRL_DAYS 7u          // a list is good for so long; it is signed anew every day
#define TC_NODE_URI "hypermesh:node:"

typedef enum tc_family {
    TC_MESH,
    TC_EDGE,
} tc_family;

typedef struct tc_serial {
    uint8_t b[TC_SERIAL_BYTES];
} tc_serial;

// ---- checking: pure functions, any thread -------------------------------------------------------

typedef struct tc_node_cert {
    hm_node_id node;
    char name[TC_NAME_MAX + 1];
    tc_serial serial;
    uint64_t not_before_ms, not_after_ms;
    uint8_t public_key[HM_FALCON_PUBLIC_BYTES];
} tc_node_cert;

// Is the leaf a node certificate, issued by `issuing` under `root`, in force at time_ms and not in
// the list? All in DER; crl may be empty: then revocation is not looked at. HM_E_CERT_UNTRUSTED,
// HM_E_CERT_EXPIRED, HM_E_CERT_REVOKED, HM_E_CERT_PROFILE, HM_E_CRL_STALE, HM_E_PARSE.
HM_CHECK hm_err tc_node_cert_verify(hm_bytes leaf, hm_bytes issuing, hm_bytes root, hm_bytes crl,
                                    uint64_t time_ms, tc_node_cert *out);

typedef struct tc_crl_info {
    uint64_t number;
    uint64_t this_update_ms, next_update_ms;
    uint32_t count; // revoked certificates in it
} tc_crl_info;

// Is the list signed by `issuing`? HM_E_CERT_UNTRUSTED, HM_E_PARSE.
HM_CHECK hm_err tc_crl_verify(hm_bytes crl, hm_bytes issuing, tc_crl_info *out);
// Does the list name the serial (big endian)? The list is not verified here. HM_E_PARSE.
HM_CHECK hm_err tc_crl_contains(hm_bytes crl, hm_bytes serial, bool *revoked);

// The first certificate of a PEM text as DER, appended. HM_E_PARSE.
HM_CHECK hm_err tc_pem_to_der(hm_bytes pem, hm_buf *der);

// ---- requests -----------------------------------------------------------------------------------

// A certificate request (PKCS#10, PEM) of a node; appended.
HM_CHECK hm_err tc_node_csr(const hm_key *key, const char *name, hm_buf *pem);
// A fresh ECDSA P-256 key and its request for a server: names are DNS names or IPv6 addresses.
HM_CHECK hm_err tc_server_csr(const char *const *names, size_t count, hm_buf *key_pem,
                              hm_buf *csr_pem);

// ---- an identity in a data directory ------------------------------------------------------------

// Makes DIR/node.key and node.csr (FALCON-1024; name is the CN), DIR/edge.key and edge.csr (ECDSA;
// hosts are its names), all in PEM; what is there already stays. key may be NULL.
HM_CHECK hm_err tc_dir_make(const char *dir, const char *name, const char *const *hosts,
                            size_t host_count, hm_key **key);
// Checks the chains against the keys and keeps them as DIR/node.crt and DIR/edge.crt (PEM, leaf
// first), and the roots as DIR/mesh-root.crt and DIR/edge-root.crt.
HM_CHECK hm_err tc_dir_install(const char *dir, hm_bytes node_chain_pem, hm_bytes edge_chain_pem,
                               hm_bytes mesh_root_pem, hm_bytes edge_root_pem, uint64_t now_ms);

// ---- TLS between nodes --------------------------------------------------------------------------

// Decides about a peer by its certificate alone, in the middle of the handshake; any error ends it.
// The hook may count, log and remember.
typedef hm_err (*tc_peer_check)(void *ctx, hm_bytes leaf_der);

// A context for one role: TLS 1.3, X25519MLKEM768 and FALCON-1024 only, certificates both ways, no
// resumption. chain_pem: own certificate, then the issuing CA. ctx of the hook is borrowed.
HM_CHECK hm_err tc_node_tls(bool is_server, const hm_key *key, hm_bytes chain_pem,
                            tc_peer_check check, void *check_ctx, SSL_CTX **out);

// ---- TLS of other servers and clients -----------------------------------------------------------

#define TC_TLS_IDENTITIES 2u

typedef struct tc_tls_config {
    bool is_server;
    const char *groups; // in OpenSSL's words; NULL: X25519MLKEM768 alone
    struct {
        const char *cert_path, *key_path; // own certificate, then the issuing CA; the key; PEM
    } ids[TC_TLS_IDENTITIES];             // one of each family at most, NULL ends
    const char *roots_path; // PEM of whom to believe, of either family. A server with NULL asks
                            // nobody for a certificate; a client needs it
    const char *crl_path;   // DER; who stands in the list is refused; NULL: not looked at
    const hm_clock *clock;  // borrowed
} tc_tls_config;

// A context for one role: TLS 1.3, FALCON-1024 or classical certificates. It resumes nothing by
// itself; STOQ does where no certificate of the client and no revocation list is asked for. The
// peer's must reach a root by RFC 5280, be in force, for its role, and not in the list. The name
// that a client asks for must stand in a server's certificate; a node's must have it as its name or
// id, and any node may answer at an address. HM_E_CONFIG names the file that cannot be used.
HM_CHECK hm_err tc_tls(const tc_tls_config *cfg, SSL_CTX **out);
// Writes the secrets of the context's connections, with which all that they say can be read, to the
// file that the environment variable SSLKEYLOGFILE names (RFC 9850), for somebody who looks for a
// fault; *path is that file, and the person is to be told. NULL and nothing else without the
// variable. Before other threads are started.
HM_CHECK hm_err tc_tls_keylog(SSL_CTX *ctx, const char **path);

// ---- the authority: one thread ------------------------------------------------------------------
// A directory with the keys and a journal of everything issued and revoked. What was issued is in
// the journal, on disk, before the certificate leaves; a serial is never used twice.

typedef struct tc_authority tc_authority;

// Makes the directory with fresh keys and roots. Either whole or absent after a crash.
// mesh_name: [a-z0-9-]. HM_E_EXISTS when the directory is there. One at a time: the caller has the
// lock of the folder around it.
HM_CHECK hm_err tc_authority_init(const char *dir, const char *mesh_name, uint64_t now_ms);
// HM_E_BUSY when another process has it open; HM_E_CORRUPT.
HM_CHECK hm_err tc_authority_open(const char *dir, tc_authority **out);
void tc_authority_close(tc_authority *a); // NULL is fine

// PEM; borrowed until close.
hm_bytes tc_authority_root(const tc_authority *a, tc_family family);
hm_bytes tc_authority_issuing(const tc_authority *a, tc_family family);
// The edge root's key under the mesh root, for clients that trust only the latter.
hm_bytes tc_authority_cross(const tc_authority *a);

typedef struct tc_issued {
    tc_serial serial;
    tc_family family;
    char subject[256]; // CN of a node, names of a server
    uint64_t not_before_ms, not_after_ms;
    bool revoked;
    uint64_t revoked_ms;
    uint8_t reason; // RFC 5280, 5.3.1
} tc_issued;

// Certificate and issuing CA in PEM, appended; issued may be NULL. HM_E_CSR says what is wrong with
// the request. A node's request needs a FALCON-1024 key and a CN of [a-z0-9-]; a server's an ECDSA
// P-256 or P-384 key and DNS names or IPv6 addresses as subjectAltName.
HM_CHECK hm_err tc_issue_node(tc_authority *a, hm_bytes csr_pem, uint64_t now_ms, hm_buf *chain_pem,
                              tc_issued *issued);
HM_CHECK hm_err tc_issue_server(tc_authority *a, hm_bytes csr_pem, uint64_t now_ms,
                                hm_buf *chain_pem, tc_issued *issued);
// HM_E_NOTFOUND, HM_E_EXISTS (revoked already), HM_E_RANGE (reason).
HM_CHECK hm_err tc_revoke(tc_authority *a, const tc_serial *serial, uint8_t reason,
                          uint64_t now_ms);
// The newest revocation list in DER, appended; signed anew when something was revoked since or it
// is a day old. Its number grows with each signing.
HM_CHECK hm_err tc_authority_crl(tc_authority *a, tc_family family, uint64_t now_ms, hm_buf *der);

size_t tc_issued_count(const tc_authority *a);
const tc_issued *tc_issued_at(const tc_authority *a, size_t index); // in order of issue
const tc_issued *tc_issued_find(const tc_authority *a, const tc_serial *serial);
// The certificate in DER; borrowed until close.
HM_CHECK hm_err tc_issued_der(const tc_authority *a, const tc_serial *serial, hm_bytes *der);
// 32 hex digits.
HM_CHECK hm_err tc_serial_parse(hm_bytes hex, tc_serial *out);

#endif
