// AES-GCM with AES-NI and PCLMULQDQ; and the key set-up and header protection that the versions
// with wider registers have in common with it.
#define HM_AEAD_TARGET __attribute__((target("aes,pclmul,avx")))
#include "crypto/aead_gcm.h"

// ---- key schedule (FIPS 197, section 5.2) ------------------------------------------------------

// Four times SubWord() of the last word of k, rotated by RotWord() if so asked, with the round
// constant. AESENCLAST substitutes bytes, shifts rows, which equal columns do not notice, and adds.
INLINE __m128i key_word(__m128i k, bool rotated, int constant)
{
    __m128i last = rotated ? _mm_set1_epi32(0x0c0f0e0d) : _mm_set1_epi32(0x0f0e0d0c);
    return _mm_aesenclast_si128(_mm_shuffle_epi8(k, last), _mm_set1_epi32(constant));
}

// The round key a key's length behind k: each word is the xor of all of k's up to it and of word.
INLINE __m128i key_mix(__m128i k, __m128i word)
{
    k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
    k = _mm_xor_si128(k, _mm_slli_si128(k, 8));
    return _mm_xor_si128(k, word);
}

static const uint8_t round_constants[10] = {0x01, 0x02, 0x04, 0x08, 0x10,
                                            0x20, 0x40, 0x80, 0x1b, 0x36};

HM_AEAD_TARGET static void expand_128(uint8_t out[15][16], const uint8_t *key)
{
    __m128i k = load(key);
    store(out[0], k);
    for (int i = 0; i < 10; i++) {
        k = key_mix(k, key_word(k, true, round_constants[i]));
        store(out[i + 1], k);
    }
}

HM_AEAD_TARGET static void expand_256(uint8_t out[15][16], const uint8_t *key)
{
    __m128i a = load(key), b = load(key + 16);
    store(out[0], a);
    store(out[1], b);
    for (int i = 0; i < 7; i++) {
        a = key_mix(a, key_word(b, true, round_constants[i]));
        store(out[2 * i + 2], a);
        if (i == 6)
            break;
        b = key_mix(b, key_word(a, false, 0));
        store(out[2 * i + 3], b);
    }
}

// The product of a field element and x: a shift by one, and the polynomial when a bit falls out.
INLINE __m128i times_x(__m128i v)
{
    __m128i top = _mm_srai_epi32(_mm_shuffle_epi32(v, 0xff), 31); // all ones or zero
    __m128i carry = _mm_slli_si128(_mm_srli_epi64(v, 63), 8);
    __m128i poly = _mm_set_epi64x((long long)0xc200000000000000, 1);
    v = _mm_or_si128(_mm_slli_epi64(v, 1), carry);
    return _mm_xor_si128(v, _mm_and_si128(top, poly));
}

HM_AEAD_TARGET static void init_powers(hm_aead *a, int rounds)
{
    __m128i zero = _mm_setzero_si128();
    __m128i h = times_x(swap_bytes(encrypt_block(a->round_keys, rounds, zero))), p = h;
    for (size_t n = 1;; n++) {
        store(a->powers[HM_AEAD_POWERS - n], p);
        if (n == HM_AEAD_POWERS)
            break;
        product t = {zero, zero, zero};
        multiply_add(&t, p, h);
        p = reduce(&t);
    }
}

hm_err hm_aesni_init_128(hm_aead *a, const uint8_t *key)
{
    expand_128(a->round_keys, key);
    init_powers(a, 10);
    return HM_OK;
}

hm_err hm_aesni_init_256(hm_aead *a, const uint8_t *key)
{
    expand_256(a->round_keys, key);
    init_powers(a, 14);
    return HM_OK;
}

hm_err hm_aesni_hp_init_128(hm_hp *hp, const uint8_t *key)
{
    expand_128(hp->round_keys, key);
    return HM_OK;
}

hm_err hm_aesni_hp_init_256(hm_hp *hp, const uint8_t *key)
{
    expand_256(hp->round_keys, key);
    return HM_OK;
}

// ---- header protection -------------------------------------------------------------------------

INLINE void masks(const hm_hp *hp, int rounds, const uint8_t *const *samples,
                  uint8_t (*out)[HM_AEAD_SAMPLE], size_t count)
{
    __m128i b[8];
    size_t at = 0;
    for (; count - at >= 8; at += 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            b[i] = load(samples[at + (size_t)i]);
        encrypt_blocks(hp->round_keys, rounds, b, 8);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            store(out[at + (size_t)i], b[i]);
    }
    for (; at < count; at++)
        store(out[at], encrypt_block(hp->round_keys, rounds, load(samples[at])));
}

HM_AEAD_TARGET hm_err hm_aesni_masks_128(hm_hp *hp, const uint8_t *const *samples,
                                         uint8_t (*out)[HM_AEAD_SAMPLE], size_t count)
{
    masks(hp, 10, samples, out, count);
    return HM_OK;
}

HM_AEAD_TARGET hm_err hm_aesni_masks_256(hm_hp *hp, const uint8_t *const *samples,
                                         uint8_t (*out)[HM_AEAD_SAMPLE], size_t count)
{
    masks(hp, 14, samples, out, count);
    return HM_OK;
}

const hm_aead_ops hm_aead_aesni[2] = {
    [HM_AES_128_GCM] = {"aesni", hm_aesni_init_128, seal_128, open_128, hm_aesni_hp_init_128,
                        hm_aesni_masks_128},
    [HM_AES_256_GCM] = {"aesni", hm_aesni_init_256, seal_256, open_256, hm_aesni_hp_init_256,
                        hm_aesni_masks_256},
};
