// A kept session (without its check sum, so that what is behind it is reached): what is taken is
// for the name and in its time, and the same after it was encoded.
#include <openssl/evp.h>

#include "stoq/session.h"

#define SUM_BYTES 16
#define NOW_S 1795661687u // just after the corpus was made

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[STOQ_SESSION_MAX + 1];
    uint8_t sum[EVP_MAX_MD_SIZE];
    stoq_session s, again;
    if (size > sizeof bytes - SUM_BYTES)
        return 0;
    memcpy(bytes, data, size);
    hm_assert(EVP_Digest(bytes, size, sum, NULL, EVP_sha256(), NULL) == 1);
    memcpy(bytes + size, sum, SUM_BYTES);
    if (stoq_session_decode(hm_bytes_of(bytes, size + SUM_BYTES), "localhost", NOW_S, &s) != HM_OK)
        return 0;
    hm_assert(hm_bytes_eq(s.server_name, hm_bytes_str("localhost")));
    hm_assert(s.alpn.len >= 1 && s.alpn.len <= 255 && s.tls != NULL && s.proven_s <= NOW_S);
    hm_buf out = {0};
    if (stoq_session_encode(&s, &out) == HM_OK) {
        hm_assert(stoq_session_decode(hm_buf_bytes(&out), "localhost", NOW_S, &again) == HM_OK);
        hm_assert(again.proven_s == s.proven_s && again.params.max_data == s.params.max_data);
        stoq_session_free(&again);
    }
    hm_buf_free(&out);
    stoq_session_free(&s);
    return 0;
}
