// Renewal: who has the key of a certificate asks for the next one, with the same names, the same
// life and, in the mesh, the same key; nothing else is needed and nothing else is given. The proof
// is a signature by the old certificate's key over the request and the time.
//
// A certificate can be renewed once a third of its life is over, TC_RENEWALS_MAX times, while it is
// in force and not revoked. Nodes begin later, between the half and two thirds of it.
#ifndef HM_TRUSTCHAIN_RENEW_H
#define HM_TRUSTCHAIN_RENEW_H

#include "trustchain/trustchain.h"

#define TC_RENEWALS_MAX 8u         // of one certificate: for answers that were lost
#define TC_RENEW_CLOCKS_MS 300000u // the asker's clock may differ by that
#define TC_RENEW_SIGNATURE_MAX 2048u

typedef struct tc_renewal {
    tc_serial serial; // of the certificate to renew
    uint64_t time_ms; // when this was asked, later than each request before
    hm_bytes csr_pem;
    hm_bytes signature;
} tc_renewal;

// Whose turn it is: serial and times of the first certificate in a PEM file. Errors as of
// hm_file_read(); HM_E_PARSE; HM_E_CERT_PROFILE for a serial that is not of this authority.
HM_CHECK hm_err tc_renewal_look(const char *path, tc_serial *serial, uint64_t *not_before_ms,
                                uint64_t *not_after_ms);
// A request for the names of the first certificate in a PEM file, with the key of another, which is
// to be its own (HM_E_KEY); appended. Errors of the first as above.
HM_CHECK hm_err tc_renewal_csr(const char *cert_path, const char *key_path, hm_buf *csr_pem);
// Signs r (all but its signature) with the key of the file; appended.
HM_CHECK hm_err tc_renewal_sign(const char *key_path, const tc_renewal *r, hm_buf *signature);
// Certificate and issuing CA in PEM, appended. HM_E_NOTFOUND, HM_E_CERT_REVOKED, HM_E_CERT_EXPIRED,
// HM_E_DENIED (not issued to be renewed; another key's signature), HM_E_INVALID (the clock),
// HM_E_EXISTS (too early, too often, or asked before), HM_E_CSR (other names, another key).
HM_CHECK hm_err tc_renew(tc_authority *a, const tc_renewal *r, uint64_t now_ms, hm_buf *chain_pem,
                         tc_issued *issued);

// The life of a certificate as its holder sees it: from the moment that it was made.
uint64_t tc_life_ms(uint64_t not_before_ms, uint64_t not_after_ms);
// When its holder begins: between a half and a third of the life before its end; random chooses.
uint64_t tc_renewal_due_ms(uint64_t not_before_ms, uint64_t not_after_ms, uint64_t random);

#endif
