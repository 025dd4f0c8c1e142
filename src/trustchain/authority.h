// Private to src/trustchain: the authority's insides, shared by authority.c (life cycle),
// authority_init.c (making one), authority_key.c (keys, in files or in a token), issue.c
// (certificates and revocation lists), constraint.c (what a CA may name), renew.c (renewals),
// issued.c (what the store knows of them) and log_entry.c (the transparency log).
#ifndef HM_TRUSTCHAIN_AUTHORITY_H
#define HM_TRUSTCHAIN_AUTHORITY_H

#include "base/base.h"
#include "trustchain/hsm.h"
#include "trustchain/log.h"
#include "trustchain/store.h"
#include "trustchain/x509.h"

#define TC_PATH_MAX 4096
#define TC_REASON_MAX 10u // RFC 5280, 5.3.1; 7 is not used

// Keys and certificates of a family, in files named after it: mesh-root.key and so on.
typedef struct family_ca {
    EVP_PKEY *issuing_key; // owned; NULL when a token has it
    hsm_id token_id;       // in the token: of the ECDSA key, or of the key that unwraps FALCON's
    hm_buf wrapped;        // the FALCON key, by that
    X509 *issuing;         // owned
    hm_buf root_pem, issuing_pem;
    hm_buf crl;           // newest list in DER, or empty
    tc_crl_info crl_info; // of it
    hm_buf crl_base;      // the list that deltas continue (RFC 5280, 5.2.4): the first of its day
    tc_crl_info crl_base_info;
    hm_buf crl_delta; // what crl has and crl_base has not, with crl's number
    bool crl_dirty;   // something was revoked since, or one of the three is missing
} family_ca;

// What the store says in one record: how much was issued and what the log's tree is.
typedef struct authority_totals {
    uint64_t issued[2], revoked[2]; // by family
    tc_log_tree tree;               // its size is the number of certificates
} authority_totals;

typedef struct authority_checkpoint {
    uint64_t size, time_ms;
    hm_buf note; // as it is published; empty: none yet
} authority_checkpoint;

struct tc_authority {
    char dir[TC_PATH_MAX];
    int lock_fd;
    tc_store *store;                // owned
    hsm *hsm;                       // owned; NULL: keys are in files
    const struct tc_policy *policy; // borrowed; NULL: all names are given
    family_ca family[2];
    hm_buf cross_pem;
    char public_url[TC_PUBLIC_URL_MAX + 1]; // "": certificates name none
    authority_totals totals;                // committed
    authority_totals next;                  // of the running transaction
    authority_totals before;                // of a batch: what next was when the running step began
    bool batch, in_step;                    // steps are transactions within the batch's
    EVP_PKEY *log_key;                      // owned, ECDSA P-256
    hm_hash log_id;
    hm_buf log_origin; // a line of text
    authority_checkpoint checkpoint;
    tc_issued *found; // owned; what the last look-up gave
};

extern const char *const tc_family_names[2]; // "mesh", "edge"

// dir/family-what, such as mesh-root.key; HM_E_LIMIT when it is too long.
HM_CHECK hm_err authority_path(const char *dir, const char *family, const char *what,
                               char out[TC_PATH_MAX]);
// The key of that name in the directory, a file in PEM.
HM_CHECK hm_err authority_key_file(const char *dir, const char *family, const char *what,
                                   EVP_PKEY **key);

// ---- changes: begin, any of the following, commit or abort --------------------------------------
HM_CHECK hm_err authority_begin(tc_authority *a);
// Durable when it gives HM_OK; otherwise nothing of the transaction happened.
HM_CHECK hm_err authority_commit(tc_authority *a);
// Without a transaction nothing happens; of a batch it takes back the running step alone.
void authority_abort(tc_authority *a);
// The certificate to issue for a precertificate (RFC 6962, 3.1): its entry is put in the log, and
// what comes back is to be signed with the issuing key and recorded in the same transaction.
HM_CHECK hm_err authority_log_precert(tc_authority *a, tc_family f, const X509 *precert,
                                      uint64_t now_ms, X509 **unsigned_cert);
HM_CHECK hm_err authority_record_issued(tc_authority *a, const tc_issued *info, hm_bytes der);
HM_CHECK hm_err authority_record_revoked(tc_authority *a, const tc_issued *info, uint8_t reason,
                                         uint64_t now_ms);
struct csr;
// How often a certificate was renewed, and what for: kept of each that may be (renew.c).
typedef struct renewal_note {
    tc_serial serial;
    uint32_t life_s;
    uint8_t count;
    uint64_t asked_ms; // the newest request's own time
} renewal_note;
HM_CHECK hm_err authority_record_renewal(tc_authority *a, const renewal_note *note);
// tc_issue() of what csr.h read, in one transaction with the note, which may be NULL.
HM_CHECK hm_err authority_issue(tc_authority *a, tc_profile p, const struct csr *c,
                                const tc_terms *terms, const renewal_note *note, uint64_t now_ms,
                                hm_buf *chain_pem, tc_issued *issued);
// ---- keys (authority_key.c)
// ----------------------------------------------------------------------

// A token and the key in it that wraps; the token is borrowed.
typedef struct authority_token {
    hsm *hsm;
    hsm_id wrap_id;
} authority_token;

// A CA that is being made.
typedef struct authority_pair {
    EVP_PKEY *key, *pub; // owned: to sign with; public half
    hsm_id token_id;
    X509 *cert; // owned
} authority_pair;

// A fresh key, without a certificate; t may be NULL. label names it in the token.
HM_CHECK hm_err authority_pair_make(const authority_token *t, tc_family f, const char *label,
                                    authority_pair *p);
// Keeps the key as dir/family-what.key, or what leads to it as .hsm.
HM_CHECK hm_err authority_pair_write(const authority_token *t, const char *dir, tc_family f,
                                     const char *what, const authority_pair *p);
void authority_pair_free(authority_pair *p);
// The certificate of a CA under issuer (NULL: under itself), from now on. constraints: in OpenSSL's
// words, of authority_constraints(); NULL: none.
HM_CHECK hm_err authority_ca_cert(const char *cn, const authority_pair *subject,
                                  const authority_pair *issuer, int path_len, uint32_t days,
                                  const char *constraints, uint64_t now_ms, X509 **out);
// Those of an issuing CA, appended (constraint.c): the mesh's zone and addresses, or edge_names,
// which are DNS names and IPv6 prefixes with commas between; nothing for NULL. HM_E_CONFIG.
HM_CHECK hm_err authority_constraints(tc_family f, const char *mesh, const char *edge_names,
                                      hm_buf *out);
// HM_E_DENIED when a verifier would refuse the certificate for the names that it has.
HM_CHECK hm_err authority_constraints_check(const X509 *issuing, X509 *cert);
HM_CHECK hm_err authority_cert_write(const char *dir, const char *family, const char *what,
                                     const X509 *cert);

// Logs in to the token that the directory's hsm.uri names, if it names one.
HM_CHECK hm_err authority_token_open(tc_authority *a);
// Loads the issuing key, or what leads to it, and checks it against the certificate.
HM_CHECK hm_err authority_key_load(tc_authority *a, tc_family f);
// The issuing key to sign with once: HM_E_BUSY when it is in a token that cannot be used now.
// authority_key_close() takes it back (NULL is fine) with the result of the signing, and gives
// that, or HM_E_BUSY when it was the token that failed.
HM_CHECK hm_err authority_key_open(tc_authority *a, tc_family f, EVP_PKEY **out);
HM_CHECK hm_err authority_key_close(tc_authority *a, tc_family f, EVP_PKEY *key, hm_err err);

// ---- looking ------------------------------------------------------------------------------------
HM_CHECK hm_err authority_totals_load(tc_authority *a);
// Opens the log's key and newest checkpoint, and checks that the tree goes on from it.
HM_CHECK hm_err authority_log_open(tc_authority *a);
// Every revoked certificate of a family, in no order; each's error ends the walk.
HM_CHECK hm_err authority_each_revoked(tc_authority *a, tc_family f,
                                       hm_err (*each)(void *ctx, const tc_issued *info), void *ctx);
// A serial that no certificate of ours has (a NULL: there is none yet): 127 random bits, of which
// one is set so that all serials have the same length.
HM_CHECK hm_err authority_serial(tc_authority *a, tc_serial *out);

#endif
