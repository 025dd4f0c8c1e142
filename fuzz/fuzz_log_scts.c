// The list of SCTs in a certificate.
#include <stdlib.h>

#include "trustchain/log_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tc_sct scts[TC_SCTS_MAX];
    size_t count = 0;
    if (tc_sct_list(hm_bytes_of(data, size), scts, &count) != HM_OK)
        return 0;
    if (count == 0 || count > TC_SCTS_MAX)
        abort();
    for (size_t i = 0; i < count; i++) {
        const tc_sct *s = &scts[i];
        if (s->signature.ptr < data || s->signature.ptr + s->signature.len > data + size ||
            (s->has_index && s->index >= TC_LOG_SIZE_MAX))
            abort();
    }
    return 0;
}
