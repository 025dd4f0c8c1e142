// A signed request of ACME from outside: read, its key, its signature; and the key alone. What is
// taken as a key must make the same key from its canonical form.
#include <stdlib.h>

#include "trustchain/acme/jose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(const jose_jwk *k)
{
    jose_jwk again = {0};
    if (jose_jwk_parse(hm_bytes_str(k->json), &again) != HM_OK ||
        !hm_hash_eq(&again.thumbprint, &k->thumbprint) || EVP_PKEY_eq(again.key, k->key) != 1)
        abort();
    jose_jwk_free(&again);
}

static void check_base64(hm_bytes text)
{
    hm_buf raw = {0}, back = {0};
    if (jose_unbase64(text, &raw) == HM_OK) {
        jose_base64(hm_buf_bytes(&raw), &back);
        if (!hm_bytes_eq(hm_buf_bytes(&back), text))
            abort();
    }
    hm_buf_free(&raw);
    hm_buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    jose_jws j = {0};
    jose_jwk k = {0};
    hm_bytes in = hm_bytes_of(data, size);
    check_base64(in);
    if (jose_jwk_parse(in, &k) == HM_OK)
        check_key(&k);
    jose_jwk_free(&k);
    if (jose_jws_parse(in, &j) != HM_OK)
        return 0;
    if (j.jwk && jose_jwk_read(j.jwk, &k) == HM_OK) {
        check_key(&k);
        (void)!jose_jws_verify(&j, &k);
    }
    (void)!jose_jws_verify_mac(&j, hm_bytes_str("secret"));
    jose_jwk_free(&k);
    jose_jws_free(&j);
    return 0;
}
