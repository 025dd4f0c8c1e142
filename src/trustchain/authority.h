// Private to src/trustchain: the authority's insides, shared by authority.c (life cycle, journal),
// authority_init.c (making one) and issue.c (certificates and revocation lists).
#ifndef HM_TRUSTCHAIN_AUTHORITY_H
#define HM_TRUSTCHAIN_AUTHORITY_H

#include "base/base.h"
#include "trustchain/x509.h"

#define TC_PATH_MAX 4096
#define TC_ISSUED_MAX (1u << 20)
#define TC_REASON_MAX 10u // RFC 5280, 5.3.1; 7 is not used

// Keys and certificates of a family, in files named after it: mesh-root.key and so on.
typedef struct family_ca {
    EVP_PKEY *issuing_key; // owned
    X509 *issuing;         // owned
    hm_buf root_pem, issuing_pem;
    hm_buf crl;           // newest list in DER, or empty
    tc_crl_info crl_info; // of it
    bool crl_dirty;       // something was revoked since
} family_ca;

typedef struct issued_cert {
    tc_issued info;
    uint8_t *der; // owned
    uint32_t der_len;
} issued_cert;

struct tc_authority {
    char dir[TC_PATH_MAX];
    int lock_fd;
    hm_wal *journal; // owned
    family_ca family[2];
    hm_buf cross_pem;
    issued_cert *issued; // owned array
    size_t count, cap;
    hm_map by_serial; // serial -> index + 1 as a pointer
};

extern const char *const tc_family_names[2]; // "mesh", "edge"

// dir/family-what, such as mesh-root.key; HM_E_LIMIT when it is too long.
HM_CHECK hm_err authority_path(const char *dir, const char *family, const char *what,
                               char out[TC_PATH_MAX]);
// Durable in the journal, then in memory.
HM_CHECK hm_err authority_record_issued(tc_authority *a, const tc_issued *info, hm_bytes der);
HM_CHECK hm_err authority_record_revoked(tc_authority *a, issued_cert *i, uint8_t reason,
                                         uint64_t now_ms);
issued_cert *authority_find(const tc_authority *a, const tc_serial *serial);
// A serial that no certificate of ours has: 127 random bits, of which one is set so that all
// serials have the same length.
tc_serial authority_serial(const tc_authority *a);

#endif
