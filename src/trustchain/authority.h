// Private to src/trustchain: the authority's insides, shared by authority.c (life cycle),
// authority_init.c (making one), authority_key.c (keys, in files or in a token), issuing.c (the
// issuing CAs that a family has, and their files), issue.c (certificates), crl.c (revocation
// lists), constraint.c (what a CA may name), renew.c (renewals), issued.c (what the store knows of
// them) and log_entry.c (the transparency log).
#ifndef HM_TRUSTCHAIN_AUTHORITY_H
#define HM_TRUSTCHAIN_AUTHORITY_H

#include "base/base.h"
#include "trustchain/hsm.h"
#include "trustchain/log.h"
#include "trustchain/store.h"
#include "trustchain/x509.h"

#define TC_PATH_MAX 4096
#define TC_REASON_MAX 10u // RFC 5280, 5.3.1; 7 is not used

// A key that issues or did, with its certificate and the list of what it issued and was revoked.
typedef struct issuing_ca {
    tc_family family;
    uint8_t number; // in its files' names and the store's records: issuing.c
    tc_issuing_id id;
    EVP_PKEY *key;   // owned; NULL when a token has it
    hsm_id token_id; // in the token: of the ECDSA key, or of the key that unwraps FALCON's
    hm_buf wrapped;  // the FALCON key, by that
    X509 *cert;      // owned
    hm_buf pem;      // of it
    tc_issuing_state state;
    hm_buf crl;           // newest list in DER, or empty
    tc_crl_info crl_info; // of it
    hm_buf crl_base;      // the list that deltas continue (RFC 5280, 5.2.4): the first of its day
    tc_crl_info crl_base_info;
    hm_buf crl_delta; // what crl has and crl_base has not, with crl's number
    bool crl_dirty;   // something was revoked since, or one of the three is missing
} issuing_ca;

// Keys and certificates of a family, in files named after it: mesh-root.key and so on.
typedef struct family_ca {
    hm_buf root_pem;
    issuing_ca *issuing[TC_ISSUING_MAX]; // owned; the first issues
    size_t count;
} family_ca;

// What the store says in one record: how much was issued and what the log's tree is.
typedef struct authority_totals {
    uint64_t issued[2], revoked[2];   // by family
    tc_log_tree tree;                 // its size is the number of certificates
    bool touched[TC_ISSUING_NUMBERS]; // not kept: whose list the running transaction changes
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
HM_CHECK hm_err authority_log_precert(tc_authority *a, const issuing_ca *ca, const X509 *precert,
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
// The one of dir/family-what.key, or that what.hsm leads to, with what.crt, to sign with; t as
// above.
HM_CHECK hm_err authority_pair_load(const authority_token *t, const char *dir, tc_family f,
                                    const char *what, authority_pair *p);
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
// What a root is asked to sign, now or for a longer life: dir/family-what.csr.
HM_CHECK hm_err authority_request_write(const char *dir, tc_family f, const char *what,
                                        const char *cn, const authority_pair *p);
// No more days than the root has; HM_E_CERT_EXPIRED when that is less than one.
HM_CHECK hm_err authority_days_left(const X509 *root, uint64_t now_ms, uint32_t *days);

// Which key of the token a CA's file names: its own, or the one that unwraps it.
HM_CHECK hm_err authority_token_id(const char *dir, unsigned number, hsm_id *id);
// Logs in to the token that the directory's hsm.uri names; *out stays NULL if it names none.
HM_CHECK hm_err authority_token_open(const char *dir, hsm **out);
// Loads the CA's key, or what leads to it, and checks it against the certificate.
HM_CHECK hm_err authority_key_load(tc_authority *a, issuing_ca *ca);
// The CA's key to sign with once: HM_E_BUSY when it is in a token that cannot be used now.
// authority_key_close() takes it back (NULL is fine) with the result of the signing, and gives
// that, or HM_E_BUSY when it was the token that failed.
HM_CHECK hm_err authority_key_open(tc_authority *a, const issuing_ca *ca, EVP_PKEY **out);
HM_CHECK hm_err authority_key_close(tc_authority *a, const issuing_ca *ca, EVP_PKEY *key,
                                    hm_err err);

// ---- issuing CAs (issuing.c) --------------------------------------------------------------------
// Each family's are counted from 1, and no count is used again. Files of the edge family's first:
// edge-ca.key, .csr, .crt, edge-crl.der, edge-crl-base.der, edge-crl-delta.der; of its second:
// edge-ca-2.key, edge-crl-2.der and so on. Which there are says the file edge-issuing, in whose
// place another is put at once: so the old state or the new is there, whenever it is looked at.
// Without it there is the first alone. The mesh's as well.
// In the store and in these calls a CA is known by its number: 1 to 127 those of the edge family as
// they are counted; 0 the mesh's first, 128 and its count each later one of the mesh.

typedef struct issuing_index {
    tc_family family;
    unsigned next;                  // number of the one that comes, or waits for its certificate
    size_t count;                   // 1 to TC_ISSUING_MAX
    uint8_t number[TC_ISSUING_MAX]; // the first issues
    unsigned ready;                 // number of the one that is to issue next; 0: none
} issuing_index;

tc_family issuing_family(unsigned number);

HM_CHECK hm_err issuing_index_read(const char *dir, tc_family f, issuing_index *out);
// What authority_path() takes: "ca" and ".crt" give ca.crt, or ca-2.crt.
#define ISSUING_NAME_MAX 32u
void issuing_name(unsigned number, const char *stem, const char *end, char out[ISSUING_NAME_MAX]);
HM_CHECK hm_err issuing_path(const char *dir, unsigned number, const char *stem, const char *end,
                             char out[TC_PATH_MAX]);
// Is there the request of a key that has no certificate yet?
bool issuing_pending(const char *dir, const issuing_index *ix);
HM_CHECK hm_err issuing_index_write(const char *dir, const issuing_index *ix);
bool issuing_index_there(const char *dir, tc_family f);
// May there be one more? HM_E_LIMIT.
HM_CHECK hm_err issuing_room(const issuing_index *ix);
// All files of that number, and its key in the token (NULL: there is none); absent is fine.
HM_CHECK hm_err issuing_files_remove(const char *dir, hsm *h, unsigned number);
// Number ix->next has this certificate from now on: the edge family's issues, the mesh's is ready.
// HM_E_LIMIT.
HM_CHECK hm_err issuing_activate(const char *dir, const issuing_index *ix, const X509 *cert);
// May the members put a certificate in force beside those of the mesh that are here? The rules of
// tc_issuing_verify(), and it ends no sooner than any of them. HM_E_CERT_PROFILE,
// HM_E_CERT_UNTRUSTED, HM_E_CERT_EXPIRED.
HM_CHECK hm_err issuing_may_follow(const char *dir, const issuing_index *ix, const X509 *cert,
                                   uint64_t now_ms);
// When the last of those that are here ends.
HM_CHECK hm_err issuing_last_end(const char *dir, const issuing_index *ix, uint64_t *end_ms);
// As the mesh is called in the names of its certificates: the log is named after it.
HM_CHECK hm_err issuing_mesh_name(const char *dir, char out[TC_NAME_MAX + 1]);
HM_CHECK hm_err issuing_cert_load(const char *dir, unsigned number, X509 **out);
HM_CHECK hm_err issuing_id_of(const X509 *cert, tc_issuing_id *out);
// SHA-256 of its SubjectPublicKeyInfo, of which the id is the beginning.
HM_CHECK hm_err issuing_key_hash(const X509 *cert, hm_hash *out);
// Of one that the index names.
tc_issuing_state issuing_state(const issuing_index *ix, unsigned number);

// All that the index names, as it is in the files; the lists too, which need the store. The family
// is as before when it fails. What is loaded is known to the store from then on.
HM_CHECK hm_err authority_issuing_load(tc_authority *a, tc_family f);
void authority_issuing_free(family_ca *f);
// NULL: no longer there.
issuing_ca *authority_issuing_numbered(const tc_authority *a, uint8_t number);
// id NULL or empty: the one that issues. HM_E_NOTFOUND.
HM_CHECK hm_err authority_issuing_find(const tc_authority *a, tc_family f, const char *id,
                                       issuing_ca **out);
// The stored lists; what is not there yet, older than the store or does not fit together, as after
// a crash between two of them, is signed anew when asked, with the next number (crl.c).
HM_CHECK hm_err authority_crl_load(tc_authority *a, issuing_ca *ca);
// Where what a CA gives is: "edge-4f2a…".
typedef struct issuing_label {
    char text[sizeof(tc_issuing_id) + 8];
} issuing_label;
issuing_label authority_issuing_label(const issuing_ca *ca);
// What is for everybody at the public URL, as certificates of the CA name it; t's are set to it,
// or left alone when there is no URL.
typedef struct public_places {
    char crl[TC_PUBLIC_URL_MAX + 64], delta[TC_PUBLIC_URL_MAX + 64],
        info[2 * TC_PUBLIC_URL_MAX + 96];
} public_places;
void authority_places(const tc_authority *a, const issuing_ca *ca, public_places *p,
                      x509_template *t);

// ---- looking ------------------------------------------------------------------------------------
HM_CHECK hm_err authority_totals_load(tc_authority *a);
// Opens the log's key and newest checkpoint, and checks that the tree goes on from it.
HM_CHECK hm_err authority_log_open(tc_authority *a);
// Every revoked certificate of an issuing CA, in no order; each's error ends the walk.
HM_CHECK hm_err authority_each_revoked(tc_authority *a, uint8_t issuing,
                                       hm_err (*each)(void *ctx, const tc_issued *info), void *ctx);
// What a certificate's record says, without its revocation; der may be NULL. HM_E_NOTFOUND.
HM_CHECK hm_err issued_record(tc_store *s, const tc_serial *serial, tc_issued *info, hm_bytes *der);
// Each certificate that is not over yet, revoked or not, the newest first.
HM_CHECK hm_err issued_each_live(tc_store *s, uint64_t now_ms,
                                 hm_err (*each)(void *ctx, const tc_issued *info), void *ctx);
// Which CA of the family issues, as the authority itself wrote it down before it did.
// HM_E_NOTFOUND.
HM_CHECK hm_err issued_present(tc_store *s, tc_family f, uint8_t *number);
// Writes that down, and the certificates of all that are there, unless it is so already.
HM_CHECK hm_err issued_present_put(tc_authority *a, tc_family f, const family_ca *now);
// A serial that no certificate of ours has (a NULL: there is none yet): 127 random bits, of which
// one is set so that all serials have the same length.
HM_CHECK hm_err authority_serial(tc_authority *a, tc_serial *out);

#endif
