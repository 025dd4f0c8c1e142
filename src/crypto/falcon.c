#include "crypto/falcon.h"

#include "api.h"
#include "inner.h"

_Static_assert(HM_FALCON_PUBLIC_BYTES == PQCLEAN_FALCON1024_CLEAN_CRYPTO_PUBLICKEYBYTES, "");
_Static_assert(HM_FALCON_PRIVATE_BYTES == PQCLEAN_FALCON1024_CLEAN_CRYPTO_SECRETKEYBYTES, "");
_Static_assert(HM_FALCON_SIGNATURE_MAX == PQCLEAN_FALCON1024_CLEAN_CRYPTO_BYTES, "");

#define LOGN 10u
#define N (1u << LOGN)

hm_err falcon_keypair(uint8_t pub[HM_FALCON_PUBLIC_BYTES], uint8_t priv[HM_FALCON_PRIVATE_BYTES])
{
    if (PQCLEAN_FALCON1024_CLEAN_crypto_sign_keypair(pub, priv) != 0)
        return hm_fail(HM_E_CRYPTO, "FALCON-1024 key generation failed");
    return HM_OK;
}

hm_err falcon_sign(const uint8_t priv[HM_FALCON_PRIVATE_BYTES], hm_bytes msg, uint8_t *sig,
                   size_t *sig_len)
{
    // A signature whose compressed form is too long is drawn again; the specification's bound makes
    // even one such draw unlikely (below 2^-20).
    for (int i = 0; i < 8; i++) {
        if (PQCLEAN_FALCON1024_CLEAN_crypto_sign_signature(sig, sig_len, msg.ptr, msg.len, priv) ==
            0)
            return HM_OK;
    }
    return hm_fail(HM_E_KEY, "the private key does not sign");
}

hm_err falcon_verify(const uint8_t pub[HM_FALCON_PUBLIC_BYTES], hm_bytes msg, hm_bytes sig)
{
    if (sig.len <= 1 + FALCON_NONCE_BYTES || sig.len > HM_FALCON_SIGNATURE_MAX)
        return hm_fail(HM_E_SIGNATURE, "a FALCON-1024 signature has 42 to %d bytes, this has %zu",
                       HM_FALCON_SIGNATURE_MAX, sig.len);
    // PQClean also takes signatures padded with zeros. Each coefficient ends with a 1 bit, so the
    // last byte of an unpadded one is never 0: one signature, one encoding.
    if (sig.ptr[sig.len - 1] == 0)
        return hm_fail(HM_E_SIGNATURE, "the signature is padded");
    if (PQCLEAN_FALCON1024_CLEAN_crypto_sign_verify(sig.ptr, sig.len, msg.ptr, msg.len, pub) != 0)
        return hm_fail(HM_E_SIGNATURE, "the signature is not this key's over these bytes");
    return HM_OK;
}

hm_err falcon_public_check(hm_bytes pub)
{
    uint16_t h[N];
    if (pub.len != HM_FALCON_PUBLIC_BYTES)
        return hm_fail(HM_E_KEY, "a FALCON-1024 public key has %d bytes, this has %zu",
                       HM_FALCON_PUBLIC_BYTES, pub.len);
    if (pub.ptr[0] != LOGN)
        return hm_fail(HM_E_KEY, "not a FALCON-1024 public key: it begins with 0x%02x", pub.ptr[0]);
    if (PQCLEAN_FALCON1024_CLEAN_modq_decode(h, LOGN, pub.ptr + 1, pub.len - 1) != pub.len - 1)
        return hm_fail(HM_E_KEY, "the FALCON-1024 public key has a coefficient out of range");
    return HM_OK;
}

hm_err falcon_public_of_private(const uint8_t priv[HM_FALCON_PRIVATE_BYTES],
                                uint8_t pub[HM_FALCON_PUBLIC_BYTES])
{
    union {
        uint8_t b[4 * N];
        uint64_t align;
    } tmp;
    int8_t f[N], g[N];
    uint16_t h[N];
    unsigned bits = PQCLEAN_FALCON1024_CLEAN_max_fg_bits[LOGN];
    size_t at = 1, n;
    hm_err err = HM_E_KEY;

    if (priv[0] != 0x50 + LOGN)
        goto out;
    n = PQCLEAN_FALCON1024_CLEAN_trim_i8_decode(f, LOGN, bits, priv + at,
                                                HM_FALCON_PRIVATE_BYTES - at);
    if (n == 0)
        goto out;
    at += n;
    n = PQCLEAN_FALCON1024_CLEAN_trim_i8_decode(g, LOGN, bits, priv + at,
                                                HM_FALCON_PRIVATE_BYTES - at);
    if (n == 0 || !PQCLEAN_FALCON1024_CLEAN_compute_public(h, f, g, LOGN, tmp.b))
        goto out;
    pub[0] = LOGN;
    if (PQCLEAN_FALCON1024_CLEAN_modq_encode(pub + 1, HM_FALCON_PUBLIC_BYTES - 1, h, LOGN) ==
        HM_FALCON_PUBLIC_BYTES - 1)
        err = HM_OK;
out:
    hm_zero(f, sizeof f);
    hm_zero(g, sizeof g);
    hm_zero(tmp.b, sizeof tmp.b);
    return err == HM_OK ? HM_OK : hm_fail(err, "the FALCON-1024 private key is malformed");
}
