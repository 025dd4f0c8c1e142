// Roots whose keys are never on a server: made and used on a machine without a network, where a
// person carries requests in and certificates out; and an authority that has issuing keys alone.
//
//   offline                                     the authority's server
//   tc_root_create(mesh), tc_root_create(edge)  tc_authority_init_issuing()
//   tc_root_sign() of each request        <---  FAMILY-ca.csr
//   the chain, and the cross-signature    --->  tc_authority_install()
#ifndef HM_TRUSTCHAIN_CEREMONY_H
#define HM_TRUSTCHAIN_CEREMONY_H

#include "trustchain/trustchain.h"

#define TC_PASSPHRASE_MIN 12u // characters
#define TC_PASSPHRASE_MAX 255u
#define TC_ISSUING_DAYS 1095u // of an issuing CA's life, unless somebody says otherwise
#define TC_ROOT_DAYS 3650u

// Makes DIR/FAMILY-root.key (PKCS#8 in PEM, encrypted: PBES2 of RFC 8018 with scrypt and AES-256)
// and DIR/FAMILY-root.crt. HM_E_EXISTS, HM_E_INVALID (the mesh's name, the passphrase).
HM_CHECK hm_err tc_root_create(tc_family f, const char *mesh_name, const char *dir,
                               const char *passphrase, uint64_t now_ms);
// Signs, with the root beside the key (FAMILY-root.key, FAMILY-root.crt), in PEM: a request of an
// issuing CA of the same family; or the certificate of an edge root, by a mesh root. Appends what
// it signed and its own root. days: 1 to TC_ROOT_DAYS; nothing lives longer than the root.
// edge_names: of an edge issuing CA, as for tc_authority_init_with(); NULL: all.
// HM_E_DENIED (the passphrase), HM_E_CSR, HM_E_RANGE, HM_E_CONFIG (the names).
HM_CHECK hm_err tc_root_sign(const char *key_path, const char *passphrase, hm_bytes pem,
                             uint32_t days, const char *edge_names, uint64_t now_ms,
                             hm_buf *chain_pem);

// tc_authority_init_with() without roots: the directory then has issuing keys and requests,
// FAMILY-ca.csr, and tc_authority_open() fails until both families are installed.
HM_CHECK hm_err tc_authority_init_issuing(const char *dir, const char *mesh_name,
                                          const char *hsm_uri, uint64_t now_ms);
// Takes what tc_root_sign() gave: both families' chains; the cross-signature, which comes after
// them and is not needed by the authority itself; and later another certificate of one of a
// family's issuing keys, which ends after the one that is there, or of the key that tc_rotate()
// made (issuing.h). An authority that is open sees these with tc_authority_reload(). HM_E_EXISTS,
// HM_E_CERT_PROFILE, HM_E_CERT_UNTRUSTED, HM_E_CERT_EXPIRED, HM_E_PARSE.
HM_CHECK hm_err tc_authority_install(const char *dir, hm_bytes pem, uint64_t now_ms);
// Is the family's issuing certificate there?
bool tc_authority_installed(const char *dir, tc_family f);

#endif
