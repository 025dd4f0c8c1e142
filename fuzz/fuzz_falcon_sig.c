// Verification of a FALCON-1024 signature: the input is a signature over a fixed message, or, when
// it begins with 0xff, a public key followed by a signature. Nothing may crash; nothing verifies
// but what the key signed.
#include <stdlib.h>

#include "crypto/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static hm_key *key;
    if (!key && (hm_crypto_init() != HM_OK || hm_key_generate(&key) != HM_OK))
        abort();
    hm_bytes pub = hm_key_public(key), sig = hm_bytes_of(data, size);
    if (size > 1 + HM_FALCON_PUBLIC_BYTES && data[0] == 0xff) {
        pub = hm_bytes_of(data + 1, HM_FALCON_PUBLIC_BYTES);
        sig = hm_bytes_of(data + 1 + HM_FALCON_PUBLIC_BYTES, size - 1 - HM_FALCON_PUBLIC_BYTES);
        hm_err err = hm_verify(pub, "fuzz", hm_bytes_str("message"), sig);
        (void)err; // a key chosen by the input may verify
        return 0;
    }
    if (hm_verify(pub, "fuzz", hm_bytes_str("message"), sig) == HM_OK)
        abort();
    return 0;
}
