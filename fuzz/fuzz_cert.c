// A certificate and a revocation list as a peer or the ledger brings them. The first byte says
// which; nothing verifies against an authority that signed nothing like it.
#include <stdlib.h>

#include "trustchain/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hm_buf root_der;

// A self-signed authority made at start.
static void make_root(void)
{
    hm_key *key = NULL;
    X509 *x = NULL;
    if (hm_crypto_init() != HM_OK || hm_key_generate(&key) != HM_OK)
        abort();
    x509_template t = {.cn = "root",
                       .subject_key = hm_key_evp(key),
                       .issuer_key = hm_key_evp(key),
                       .serial = {{0x40}},
                       .not_before_ms = 0,
                       .not_after_ms = UINT64_C(4000000000000),
                       .ca = true,
                       .path_len = 1,
                       .key_usage = "critical,keyCertSign,cRLSign"};
    if (x509_cert_make(&t, &x) != HM_OK || x509_cert_der(x, &root_der) != HM_OK)
        abort();
    X509_free(x);
    hm_key_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tc_node_cert cert;
    tc_crl_info info;
    bool revoked;
    if (!root_der.ptr)
        make_root();
    if (size == 0)
        return 0;
    hm_bytes in = hm_bytes_of(data + 1, size - 1), root = hm_buf_bytes(&root_der), none = {0};
    if (data[0] & 1) {
        if (tc_crl_verify(in, root, &info) == HM_OK)
            abort();
        hm_err err = tc_crl_contains(in, hm_bytes_str("\x40serial"), &revoked);
        (void)err; // whatever the list says
    } else if (tc_node_cert_verify(in, root, root, none, UINT64_C(1800000000000), &cert) == HM_OK) {
        abort();
    }
    return 0;
}
