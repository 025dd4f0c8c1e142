// A certificate request from outside, asked of an authority for each profile, and of a root as an
// issuing CA's.
#include <stdlib.h>
#include <unistd.h>

#include "trustchain/ceremony.h"
#include "trustchain/csr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    csr c = {0};
    if (hm_crypto_init() != HM_OK)
        abort();
    for (unsigned p = 0; p < TC_PROFILES; p++) {
        if (csr_read(hm_bytes_of(data, size), (tc_profile)p, &c) != HM_OK)
            continue;
        if (!c.subject[0] || (p == TC_NODE && !x509_name_ok(hm_bytes_str(c.name))) ||
            (p == TC_SERVER && sk_GENERAL_NAME_num(c.names) < 1) || (p == TC_CODE && c.names))
            abort();
        csr_free(&c);
    }
    // Without a root there is nothing to sign with once the request is read.
    hm_buf chain = {0};
    if (tc_root_sign("no.key", "", hm_bytes_of(data, size), 1, NULL, 0, &chain) == HM_OK)
        abort();
    return 0;
}
