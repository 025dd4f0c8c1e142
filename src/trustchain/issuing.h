// A new issuing key while everything goes on: these calls work on the directory, beside a server
// that runs, which takes what is new with tc_authority_reload(). Each issuing CA revokes what it
// issued itself, with lists, deltas and OCSP answers of its own, until it is removed.
//
//   tc_rotate()                               the root's key is here: the new CA has a certificate
//   tc_rotate()          ---> FAMILY-ca-N.csr  it is elsewhere: tc_root_sign() there, then
//                        <--- chain            tc_authority_install()   (ceremony.h)
//
// The edge family's new CA issues from then on, as everybody believes its root. The mesh's does not
// yet: its members believe the authorities that are in force on their ledger (mesh/trust_module.h).
// It is ready, has lists and answers, and waits for their votes; then
//
//   tc_issuing_use()                          it issues
//
// The caller has the lock of the folder around the directory, and is another process than the one
// that has the authority open (the store is LMDB's: a process opens it once). A process that is
// killed in any of them leaves the old state or the new.
#ifndef HM_TRUSTCHAIN_ISSUING_H
#define HM_TRUSTCHAIN_ISSUING_H

#include "trustchain/trustchain.h"

typedef struct tc_rotation {
    tc_issuing_id id;
    bool certified;  // its certificate is there
    char file[4096]; // that, or the request for it
} tc_rotation;

// edge_names: as of tc_authority_init_with(), NULL: what the present CA may name; with the root
// elsewhere these are said to tc_root_sign(), and HM_E_USAGE here. A request that waits already is
// given again. The mesh's certificate is one that its members can put in force, or HM_E_CERT_*.
// HM_E_EXISTS: one of the mesh is ready already. HM_E_LIMIT beyond TC_ISSUING_MAX;
// HM_E_CERT_EXPIRED (the root), HM_E_CONFIG, HM_E_NOTFOUND (no issuing CA yet), HM_E_BUSY,
// HM_E_DENIED (the token).
HM_CHECK hm_err tc_rotate(const char *dir, tc_family f, const char *edge_names, uint64_t now_ms,
                          tc_rotation *out);

typedef struct tc_issuing_info {
    tc_issuing_id id;
    hm_hash key; // SHA-256 of its SubjectPublicKeyInfo: what the mesh's ledger calls it
    tc_family family;
    tc_issuing_state state;
    char subject[96];
    uint64_t not_before_ms, not_after_ms;
    uint64_t
        live; // of tc_issuing_list(): certificates under it that are not over, revoked ones too
} tc_issuing_info;
#define TC_ISSUING_LIST_MAX (2u * TC_ISSUING_MAX)

// The mesh's, then the edge family's, the present one first. Time grows with what was issued in
// the last two years.
HM_CHECK hm_err tc_issuing_list(const char *dir, uint64_t now_ms,
                                tc_issuing_info out[TC_ISSUING_LIST_MAX], size_t *count);
// One of the family. HM_E_NOTFOUND.
HM_CHECK hm_err tc_issuing_look(const char *dir, tc_family f, const char *id, tc_issuing_info *out);
// The mesh's CA that is ready issues, and the one that did is an older one. That the members accept
// it is for the caller to see. HM_E_NOTFOUND; HM_E_EXISTS: it issues already, or did before;
// HM_E_CERT_EXPIRED.
HM_CHECK hm_err tc_issuing_use(const char *dir, const char *id, uint64_t now_ms);
// Its key, certificate and lists go: at once, or with the reload of a server that runs, when *later
// is set. Records and log stay. HM_E_NOTFOUND; HM_E_BUSY: it issues, also in the server that was
// not told yet, or a certificate under it is not over.
HM_CHECK hm_err tc_issuing_remove(const char *dir, tc_family f, const char *id, uint64_t now_ms,
                                  bool *later);

#endif
