// A data tile of somebody's log: its entries, and the certificates in them.
#include <stdlib.h>

#include "trustchain/log_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hm_bytes rest = hm_bytes_of(data, size);
    tc_leaf l;
    for (size_t left = rest.len; rest.len > 0 && tc_leaf_next(&rest, &l) == HM_OK;) {
        X509 *x = NULL;
        if (rest.len >= left || rest.ptr + rest.len != data + size)
            abort();
        left = rest.len;
        if (l.index >= TC_LOG_SIZE_MAX || l.cert.len == 0)
            abort();
        if (tc_leaf_cert(&l, &x) == HM_OK)
            X509_free(x);
    }
    return 0;
}
