// The seam between aead.c and the versions of packet protection, and what versions share.
#ifndef HM_CRYPTO_AEAD_INTERNAL_H
#define HM_CRYPTO_AEAD_INTERNAL_H

#include "crypto/aead.h"

// A version for one cipher. Key set-up cannot fail but in OpenSSL's version.
typedef struct hm_aead_ops {
    const char *name;
    hm_err (*init)(hm_aead *a, const uint8_t *key);
    hm_err (*seal)(hm_aead *a, const hm_aead_seal *batch, size_t count);
    void (*open)(hm_aead *a, hm_aead_open *batch, size_t count);
    hm_err (*hp_init)(hm_hp *hp, const uint8_t *key);
    hm_err (*masks)(hm_hp *hp, const uint8_t *const *samples, uint8_t (*masks)[HM_AEAD_SAMPLE],
                    size_t count);
} hm_aead_ops;

extern const hm_aead_ops hm_aead_openssl[3]; // by hm_aead_cipher

// GHASH is a polynomial in the hash key H with the blocks as coefficients. A run of blocks is
// multiplied by H^n .. H^1 and reduced once. hm_aead.powers[HM_AEAD_POWERS - n] is H^n in the form
// of RFC 8452's POLYVAL: bytes reversed and multiplied by x, so that a product needs no shift.
static inline const uint8_t *hm_aead_power(const hm_aead *a, size_t n)
{
    return a->powers[HM_AEAD_POWERS - n];
}

#ifdef __x86_64__
extern const hm_aead_ops hm_aead_avx512[2], hm_aead_vaes[2], hm_aead_aesni[2];

// Of the version for AES-NI, the same for all three.
hm_err hm_aesni_init_128(hm_aead *a, const uint8_t *key);
hm_err hm_aesni_init_256(hm_aead *a, const uint8_t *key);
hm_err hm_aesni_hp_init_128(hm_hp *hp, const uint8_t *key);
hm_err hm_aesni_hp_init_256(hm_hp *hp, const uint8_t *key);
hm_err hm_aesni_masks_128(hm_hp *hp, const uint8_t *const *samples,
                          uint8_t (*masks)[HM_AEAD_SAMPLE], size_t count);
hm_err hm_aesni_masks_256(hm_hp *hp, const uint8_t *const *samples,
                          uint8_t (*masks)[HM_AEAD_SAMPLE], size_t count);
#endif

#endif
