// An OCSP request from outside.
#include <stdlib.h>

#include "trustchain/ocsp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ocsp_question q = {0};
    if (ocsp_question_read(hm_bytes_of(data, size), &q) != HM_OK)
        return 0;
    if (OCSP_request_onereq_count(q.request) != 1 || !q.id)
        abort();
    // The answer copies the nonce and the id.
    OCSP_BASICRESP *b = OCSP_BASICRESP_new();
    if (!b || (q.nonce && OCSP_copy_nonce(b, q.request) != 1) || i2d_OCSP_CERTID(q.id, NULL) <= 0)
        abort();
    OCSP_BASICRESP_free(b);
    ocsp_question_free(&q);
    return 0;
}
