// Decoding of FALCON-1024 keys from DER, by us and by OpenSSL through the provider. What decodes
// must encode to the same bytes.
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "crypto/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const uint8_t *data, size_t size, uint8_t *again, int len)
{
    if (len < 0 || (size_t)len > size || memcmp(data, again, (size_t)len) != 0)
        abort();
    OPENSSL_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (hm_crypto_init() != HM_OK)
        abort();
    hm_key *key = NULL;
    if (hm_key_of_der(hm_bytes_of(data, size), &key) == HM_OK) {
        uint8_t *again = NULL;
        int len = i2d_PrivateKey(hm_key_evp(key), &again);
        same(data, size, again, len);
        hm_key_free(key);
    }
    const uint8_t *at = data;
    EVP_PKEY *pub = size < 65536 ? d2i_PUBKEY(NULL, &at, (long)size) : NULL;
    uint8_t raw[HM_FALCON_PUBLIC_BYTES];
    if (pub && hm_falcon_public_of_evp(pub, raw) == HM_OK) {
        uint8_t *again = NULL;
        int len = i2d_PUBKEY(pub, &again);
        same(data, size, again, len);
    }
    EVP_PKEY_free(pub);
    ERR_clear_error();
    return 0;
}
