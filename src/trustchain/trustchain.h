// trustchain: who is who. An authority that issues certificates, and the checks that everybody else
// makes without asking it.
//
// One authority, two families of certificates (RFC 5280):
//   mesh  FALCON-1024. Root, issuing CA, node certificates. A node is named by the hash of its key:
//         SAN URI "hypermesh:node:" + 64 hex digits of its NodeID; CN is a label for people.
//   edge  ECDSA P-384. Root (also cross-signed by the mesh root), issuing CA, certificates of
//         servers, clients and signers of code for programs that know no FALCON.
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
#define TC_NODE_DAYS 30u        // life of a certificate unless another is asked for
#define TC_CRL_DAYS 7u          // a list is good for so long; it is signed anew every day
#define TC_DELTA_HOURS 25u      // and so long a delta, which comes with it
#define TC_ISSUING_MAX 8u       // issuing CAs of a family at a time
#define TC_ISSUING_NUMBERS 256u // and of both over all their time
#define TC_NODE_URI "hypermesh:node:"

typedef enum tc_family {
    TC_MESH,
    TC_EDGE,
} tc_family;
extern const char *const tc_family_names[2]; // "mesh", "edge"

// What a certificate is for (profile.c): its family, its uses and how long it may live. Who may
// have one is named by
//   node    a CN of [a-z0-9-], and the hash of its key
//   server  DNS names and IPv6 addresses
//   client  a CN of [A-Za-z0-9._@+-], or DNS names and IPv6 addresses, or both
//   code    a CN as a client's
typedef enum tc_profile {
    TC_NODE,
    TC_SERVER,
    TC_CLIENT,
    TC_CODE,
} tc_profile;
#define TC_PROFILES 4u

typedef struct tc_profile_rules {
    const char *name;
    tc_family family;
    const char *key_usage, *ext_key_usage; // in OpenSSL's words
    uint32_t life_max_s;
} tc_profile_rules;
const tc_profile_rules *tc_profile_of(tc_profile p);
// HM_E_CSR with the names that there are.
HM_CHECK hm_err tc_profile_named(const char *name, tc_profile *out);

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

// An issuing certificate of the mesh family.
typedef struct tc_issuing_cert {
    hm_hash key_id;              // SHA-256 of its SubjectPublicKeyInfo
    char name[TC_NAME_MAX + 33]; // CN
    uint64_t not_before_ms, not_after_ms;
} tc_issuing_cert;

// What the certificate (DER) says of itself; nothing is verified. HM_E_PARSE, HM_E_CERT_PROFILE.
HM_CHECK hm_err tc_issuing_read(hm_bytes der, tc_issuing_cert *out);
// May it issue for this mesh? Signed by the root and in force at time_ms, a CA of path length 0
// with a FALCON-1024 key for certificates and revocation lists alone, and bound to the zone and the
// addresses of the mesh, critically and byte for byte as the present issuing certificate is (RFC
// 5280, 4.2.1.10); when that is bound to nothing, as `mesh`, the mesh's name, asks for. All in DER.
// HM_E_CERT_UNTRUSTED, HM_E_CERT_EXPIRED, HM_E_CERT_PROFILE, HM_E_PARSE.
HM_CHECK hm_err tc_issuing_verify(hm_bytes der, hm_bytes root, hm_bytes present, const char *mesh,
                                  uint64_t time_ms, tc_issuing_cert *out);

typedef struct tc_crl_info {
    uint64_t number;
    uint64_t this_update_ms, next_update_ms;
    uint32_t count; // revoked certificates in it
} tc_crl_info;

// Is the list signed by `issuing`, and a whole one? A delta or a part of a list is none (RFC 5280,
// 5.2: what has a critical extension that is not known must not be used). HM_E_CERT_UNTRUSTED,
// HM_E_PARSE.
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

// The next chain of one family, in place of the one that is there: checked as above. The file is
// changed as a whole.
HM_CHECK hm_err tc_dir_renewed(const char *dir, tc_family f, hm_bytes chain_pem, uint64_t now_ms);

// ---- TLS between nodes --------------------------------------------------------------------------

// Decides about a peer by its certificate alone, in the middle of the handshake; any error ends it.
// The hook may count, log and remember.
typedef hm_err (*tc_peer_check)(void *ctx, hm_bytes leaf_der);

// A context for one role: TLS 1.3, X25519MLKEM768 and FALCON-1024 only, certificates both ways, no
// resumption. chain_pem: own certificate, then the issuing CA. ctx of the hook is borrowed.
HM_CHECK hm_err tc_node_tls(bool is_server, const hm_key *key, hm_bytes chain_pem,
                            tc_peer_check check, void *check_ctx, SSL_CTX **out);
// The same with the certificate that the peer showed behind its own, in DER, or empty.
typedef hm_err (*tc_chain_check)(void *ctx, hm_bytes leaf_der, hm_bytes issuing_der);
// Decides from now on in place of the check of tc_node_tls(), with the same ctx. Before the context
// is used.
void tc_node_tls_chain_check(SSL_CTX *ctx, tc_chain_check check);
// Connections from now on show this chain, of the same key; those that are there go on.
HM_CHECK hm_err tc_node_tls_renew(SSL_CTX *ctx, const hm_key *key, hm_bytes chain_pem);

// ---- TLS of a client that decides by itself -----------------------------------------------------

#define TC_PATH_SHOWN_MAX 5u
// Decides about a server by what it showed (DER, its own certificate first) in the middle of the
// handshake; any error ends it. host: the name or address that was asked for, NULL when none was.
typedef hm_err (*tc_path_check)(void *ctx, const hm_bytes *chain, size_t count, const char *host);
// A client's context, TLS 1.3, that asks nobody but the check, which says all that has to be said.
// groups as of tc_tls_config; ctx of the hook is borrowed. A server that shows more than
// TC_PATH_SHOWN_MAX certificates is refused.
HM_CHECK hm_err tc_path_tls(const char *groups, tc_path_check check, void *check_ctx,
                            SSL_CTX **out);

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
    const char *crl_path;   // DER, several lists behind each other if need be; who stands in one
                            // is refused; NULL: not looked at
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
// A directory with the keys, a store of everything issued and revoked, and a transparency log (RFC
// 6962, C2SP static-ct-api) in which every certificate has its precertificate. What was issued is
// in both, on disk, before the certificate leaves; a serial is never used twice, and no two trees
// of the log that disagree are ever signed.

typedef struct tc_authority tc_authority;

// Makes the directory with fresh keys and roots. Either whole or absent after a crash.
// mesh_name: [a-z0-9-]. HM_E_EXISTS when the directory is there. One at a time: the caller has the
// lock of the folder around it.
HM_CHECK hm_err tc_authority_init(const char *dir, const char *mesh_name, uint64_t now_ms);
// The same with an edge issuing CA that may give these names alone (DNS names, and all below them,
// and IPv6 prefixes, with commas between; NULL: all), and with its keys in the token that hsm_uri
// names (RFC 7512; NULL: in files): ECDSA keys are made there and stay, FALCON keys are kept
// wrapped by a key that stays there. docs/hsm.md. Also HM_E_CONFIG (the names, the URI),
// HM_E_DENIED (the PIN), HM_E_BUSY (no token).
HM_CHECK hm_err tc_authority_init_with(const char *dir, const char *mesh_name,
                                       const char *edge_names, const char *hsm_uri,
                                       uint64_t now_ms);
// HM_E_BUSY when another process has it open, or its token is not there; HM_E_CORRUPT. When the
// token goes away later, what needs a signature fails with HM_E_BUSY until it is back.
HM_CHECK hm_err tc_authority_open(const char *dir, tc_authority **out);
void tc_authority_close(tc_authority *a); // NULL is fine
// Can it sign? HM_E_BUSY when its token cannot be used, HM_E_DENIED when that refuses the PIN.
HM_CHECK hm_err tc_authority_ready(tc_authority *a);

// Takes what issuing.h and ceremony.h put into the directory or took out of it: issuing CAs, other
// certificates of issuing keys, the cross-signature. Of a family all or nothing.
// HM_E_CORRUPT, HM_E_BUSY (the token).
HM_CHECK hm_err tc_authority_reload(tc_authority *a);

#define TC_PUBLIC_URL_MAX 200u
// Certificates from now on say that url/crl/CA.crl, url/crl/CA-delta.crl, url/ocsp and
// url/ca/CA.crt are there (RFC 5280, 4.2.1.13, 4.2.1.15 and 4.2.2.1), and the next revocation
// lists where their deltas are (5.2.6); CA is mesh- or edge- and the id of who issued it.
// HM_E_CONFIG unless it is http:// and an authority or a path.
HM_CHECK hm_err tc_authority_public_url(tc_authority *a, const char *url);

// PEM; borrowed until close or reload.
hm_bytes tc_authority_root(const tc_authority *a, tc_family family);
hm_bytes tc_authority_issuing(const tc_authority *a, tc_family family);
// The edge root's key under the mesh root, for clients that trust only the latter; empty when there
// is none.
hm_bytes tc_authority_cross(const tc_authority *a);

// The first 8 bytes of the SHA-256 of an issuing CA's SubjectPublicKeyInfo, in hexadecimal.
typedef struct tc_issuing_id {
    char hex[17];
} tc_issuing_id;
// What an issuing CA does: the present one issues, an older one only revokes what it issued, and
// one that is ready has lists and answers of OCSP, and is to issue once the mesh believes it.
typedef enum tc_issuing_state {
    TC_ISSUING_PRESENT,
    TC_ISSUING_READY,
    TC_ISSUING_OLDER,
} tc_issuing_state;
extern const char *const tc_issuing_state_names[3]; // "present" and so on
// The same of any issuing CA of the family; id NULL or empty: the present. HM_E_NOTFOUND.
HM_CHECK hm_err tc_issuing_pem(const tc_authority *a, tc_family f, const char *id, hm_bytes *pem);
// How many there are, and the id of number n, from 0, which is the present one.
size_t tc_issuing_count(const tc_authority *a, tc_family f);
tc_issuing_id tc_issuing_id_at(const tc_authority *a, tc_family f, size_t n);
tc_issuing_state tc_issuing_state_at(const tc_authority *a, tc_family f, size_t n);

typedef struct tc_issued {
    tc_serial serial;
    tc_family family;
    uint8_t issuing;   // which issuing CA's: its number (authority.h)
    char subject[256]; // CN, then names, with spaces between; of a node and a server one of these
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
typedef struct tc_terms {
    uint32_t life_s; // at most the profile's, else HM_E_CSR; 0: TC_NODE_DAYS
    bool renewable;  // who has the certificate's key may ask for the next one: tc_renew()
    // NULL, or what is kept in the same transaction, by tc_kept_put() and tc_kept_del(): it is
    // there if the certificate is. When it fails, nothing is issued.
    hm_err (*beside)(void *ctx, tc_authority *a, const tc_issued *issued, hm_bytes chain_pem);
    void *beside_ctx; // borrowed
} tc_terms;
// The same for any profile and on other terms than TC_NODE_DAYS, once. The key of a client or a
// signer of code is as a server's.
HM_CHECK hm_err tc_issue(tc_authority *a, tc_profile p, hm_bytes csr_pem, const tc_terms *terms,
                         uint64_t now_ms, hm_buf *chain_pem, tc_issued *issued);
// Certificates that are issued between these two cost one fsync together. None of them may be given
// out before tc_batch_commit() says HM_OK; when it does not, none of them was issued. One that
// could not be issued takes no other with it. Nothing else is asked of the authority in between.
HM_CHECK hm_err tc_batch_begin(tc_authority *a);
HM_CHECK hm_err tc_batch_commit(tc_authority *a);
// What another part keeps with the authority, under keys that begin with its own name and '/'; put
// and del within tc_terms' beside. next: the first key above `after` that begins with prefix,
// borrowed until the next change; HM_E_NOTFOUND.
HM_CHECK hm_err tc_kept_put(tc_authority *a, hm_bytes key, hm_bytes value);
HM_CHECK hm_err tc_kept_del(tc_authority *a, hm_bytes key); // absent is fine
HM_CHECK hm_err tc_kept_next(tc_authority *a, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                             hm_bytes *value);
// HM_E_NOTFOUND, HM_E_EXISTS (revoked already), HM_E_RANGE (reason).
HM_CHECK hm_err tc_revoke(tc_authority *a, const tc_serial *serial, uint8_t reason,
                          uint64_t now_ms);
// The newest revocation list in DER, appended; signed anew when something was revoked since or it
// is a day old. Its number grows with each signing.
HM_CHECK hm_err tc_authority_crl(tc_authority *a, tc_family family, uint64_t now_ms, hm_buf *der);
// The delta to that list (RFC 5280, 5.2.4): the same number and times, and every revocation that
// the first list of its day, which it names, has not. Nothing is ever taken out of a list, so that
// the reason removeFromCRL does not occur.
HM_CHECK hm_err tc_authority_delta_crl(tc_authority *a, tc_family family, uint64_t now_ms,
                                       hm_buf *der);
// What the list says of itself.
HM_CHECK hm_err tc_authority_crl_info(tc_authority *a, tc_family family, uint64_t now_ms,
                                      tc_crl_info *out);
// These three of any issuing CA, each of which has lists of its own, of what it issued itself; id
// as of tc_issuing_pem(); info and der may be NULL. HM_E_NOTFOUND. The numbers of the present one's
// lists are above those that another's had when it took over.
HM_CHECK hm_err tc_issuing_crl(tc_authority *a, tc_family family, const char *id, bool delta,
                               uint64_t now_ms, tc_crl_info *info, hm_buf *der);

size_t tc_issued_count(const tc_authority *a);
// Since the authority was made, by family.
void tc_issued_totals(const tc_authority *a, uint64_t issued[2], uint64_t revoked[2]);
// In order of issue, which is the order of the log. NULL: there is none. What these two give is the
// authority's until the next of either.
const tc_issued *tc_issued_at(const tc_authority *a, size_t index);
const tc_issued *tc_issued_find(const tc_authority *a, const tc_serial *serial);
// The newest certificate before number `before` in order of issue that has this name: the CN of a
// node, or a name of a server, in lower case. An index finds it. HM_E_NOTFOUND.
HM_CHECK hm_err tc_issued_named(const tc_authority *a, const char *name, uint64_t before,
                                uint64_t *index);
// The certificate in DER; borrowed until something is issued or revoked.
HM_CHECK hm_err tc_issued_der(const tc_authority *a, const tc_serial *serial, hm_bytes *der);
// That of the CA which issued it, in DER, appended, also when that is no longer there.
HM_CHECK hm_err tc_issued_issuing(const tc_authority *a, const tc_issued *i, hm_buf *der);
// 32 hex digits.
HM_CHECK hm_err tc_serial_parse(hm_bytes hex, tc_serial *out);

// ---- the authority's transparency log -----------------------------------------------------------
// C2SP static-ct-api: log key ECDSA P-256, entries are precertificates, and an SCT with the index
// of its entry stands in each certificate. Everything is appended.

#define TC_LOG_NEWS_MS 1000u // between two checkpoints of a log that grows

// The newest checkpoint, a signed note. One is signed when the log grew and TC_LOG_NEWS_MS went by
// since the last; it is on disk before it is given.
HM_CHECK hm_err tc_log_checkpoint(tc_authority *a, uint64_t now_ms, hm_buf *note);
// The first `width` (1 to 256) hashes of tile `index` of a level. HM_E_NOTFOUND beyond the newest
// checkpoint.
HM_CHECK hm_err tc_log_tile(tc_authority *a, unsigned level, uint64_t index, unsigned width,
                            hm_buf *out);
// The entries (TileLeaf) below that tile of level 0.
HM_CHECK hm_err tc_log_entries(tc_authority *a, uint64_t index, unsigned width, hm_buf *out);
// A certificate, in DER, that signed logged ones, by its SHA-256. HM_E_NOTFOUND.
HM_CHECK hm_err tc_log_issuer(tc_authority *a, const hm_hash *fingerprint, hm_buf *der);
// The public key as SubjectPublicKeyInfo in PEM.
HM_CHECK hm_err tc_log_key(const tc_authority *a, hm_buf *pem);
// Proofs between committed sizes: log.h has what they say.
HM_CHECK hm_err tc_log_prove_inclusion(tc_authority *a, uint64_t index, uint64_t size,
                                       hm_hash *proof, size_t *count);
HM_CHECK hm_err tc_log_prove_consistency(tc_authority *a, uint64_t old_size, uint64_t size,
                                         hm_hash *proof, size_t *count);

#endif
