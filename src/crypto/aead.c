// Packet protection: which version serves a key.
#include "crypto/aead_internal.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <stdatomic.h>
#endif

size_t hm_aead_key_len(hm_aead_cipher cipher)
{
    return cipher == HM_AES_128_GCM ? 16 : 32;
}

#ifdef __x86_64__
// __builtin_cpu_supports() also asks whether the system saves the registers (XCR0).
static bool have_aesni(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("avx");
}

// clang 14 does not know its name. CPUID costs microseconds in a virtual machine, so it is asked
// once.
static bool have_vaes(void)
{
    static atomic_int answer; // 0: not asked yet, else 1 more than the answer
    int known = atomic_load_explicit(&answer, memory_order_relaxed);
    if (known == 0) {
        unsigned a, b, c = 0, d;
        known = 1 + (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & bit_VAES) != 0);
        atomic_store_explicit(&answer, known, memory_order_relaxed);
    }
    return known == 2;
}

static bool have_avx512(void)
{
    return have_aesni() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("vpclmulqdq") &&
           have_vaes();
}

static bool have_vaes_avx2(void)
{
    return have_aesni() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("vpclmulqdq") &&
           have_vaes();
}
#endif

// NULL when this machine does not have the version.
static const hm_aead_ops *find(hm_aead_version version, hm_aead_cipher cipher)
{
    bool best = version == HM_AEAD_BEST;
#ifdef __x86_64__
    bool aes = cipher != HM_CHACHA20_POLY1305;
    if (aes && (best || version == HM_AEAD_AVX512) && have_avx512())
        return &hm_aead_avx512[cipher];
    if (aes && (best || version == HM_AEAD_VAES) && have_vaes_avx2())
        return &hm_aead_vaes[cipher];
    if (aes && (best || version == HM_AEAD_AESNI) && have_aesni())
        return &hm_aead_aesni[cipher];
#endif
    return best || version == HM_AEAD_OPENSSL ? &hm_aead_openssl[cipher] : NULL;
}

bool hm_aead_available(hm_aead_version version, hm_aead_cipher cipher)
{
    return find(version, cipher) != NULL;
}

const char *hm_aead_version_name(hm_aead_version version, hm_aead_cipher cipher)
{
    const hm_aead_ops *ops = find(version, cipher);
    return ops != NULL ? ops->name : "none";
}

static hm_err not_here(void)
{
    return hm_fail(HM_E_UNSUPPORTED, "this processor lacks that version of packet protection");
}

hm_err hm_aead_init(hm_aead *a, hm_aead_cipher cipher, hm_aead_version version, const uint8_t *key,
                    const uint8_t iv[HM_AEAD_IV])
{
    const hm_aead_ops *ops = find(version, cipher);
    if (ops == NULL)
        return not_here();
    hm_aead_clear(a);
    memcpy(a->iv, iv, HM_AEAD_IV);
    hm_err err = ops->init(a, key);
    if (err == HM_OK)
        a->ops = ops;
    else
        hm_aead_clear(a);
    return err;
}

void hm_aead_clear(hm_aead *a)
{
    EVP_CIPHER_CTX_free(a->ctx);
    hm_zero(a, sizeof *a);
}

hm_err hm_aead_seal_batch(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const hm_aead_seal *s = &batch[i];
        size_t pieces = 0;
        for (size_t j = 0; j < s->piece_count; j++)
            pieces += s->pieces[j].len;
        hm_assert(s->len <= HM_AEAD_TEXT_MAX && s->aad.len <= HM_AEAD_TEXT_MAX);
        hm_assert(s->piece_count == 0 || pieces == s->len);
    }
    return a->ops->seal(a, batch, count);
}

void hm_aead_open_batch(hm_aead *a, hm_aead_open *batch, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hm_assert(batch[i].len <= HM_AEAD_TEXT_MAX && batch[i].aad.len <= HM_AEAD_TEXT_MAX);
    a->ops->open(a, batch, count);
    for (size_t i = 0; i < count; i++)
        if (!batch[i].ok)
            hm_zero(batch[i].text, batch[i].len);
}

hm_err hm_hp_init(hm_hp *hp, hm_aead_cipher cipher, hm_aead_version version, const uint8_t *key)
{
    const hm_aead_ops *ops = find(version, cipher);
    if (ops == NULL)
        return not_here();
    hm_hp_clear(hp);
    hm_err err = ops->hp_init(hp, key);
    if (err == HM_OK)
        hp->ops = ops;
    else
        hm_hp_clear(hp);
    return err;
}

void hm_hp_clear(hm_hp *hp)
{
    EVP_CIPHER_CTX_free(hp->ctx);
    hm_zero(hp, sizeof *hp);
}

hm_err hm_hp_masks(hm_hp *hp, const uint8_t *const *samples, uint8_t (*masks)[HM_AEAD_SAMPLE],
                   size_t count)
{
    return hp->ops->masks(hp, samples, masks, count);
}
