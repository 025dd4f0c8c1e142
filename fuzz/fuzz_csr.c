// A certificate request from outside, asked of an authority as a node's and as a server's.
#include <stdlib.h>
#include <unistd.h>

#include "trustchain/csr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    csr c = {0};
    if (hm_crypto_init() != HM_OK)
        abort();
    if (csr_read_node(hm_bytes_of(data, size), &c) == HM_OK) {
        if (!x509_name_ok(hm_bytes_str(c.name)))
            abort();
        csr_free(&c);
    }
    if (csr_read_server(hm_bytes_of(data, size), &c) == HM_OK) {
        if (sk_GENERAL_NAME_num(c.names) < 1)
            abort();
        csr_free(&c);
    }
    return 0;
}
