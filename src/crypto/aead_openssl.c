// Packet protection by OpenSSL, with contexts that are kept for the life of a key, so that a packet
// costs no allocation and no key schedule.
#include "crypto/aead_internal.h"

static hm_err context(EVP_CIPHER_CTX **out, const EVP_CIPHER *cipher, const uint8_t *key,
                      const uint8_t *iv)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (ctx == NULL)
        return HM_E_NOMEM;
    if (EVP_EncryptInit_ex(ctx, cipher, NULL, key, iv) != 1) {
        EVP_CIPHER_CTX_free(ctx);
        return hm_fail(HM_E_CRYPTO, "OpenSSL refuses a key of packet protection");
    }
    *out = ctx;
    return HM_OK;
}

static hm_err init_128(hm_aead *a, const uint8_t *key)
{
    return context(&a->ctx, EVP_aes_128_gcm(), key, a->iv);
}
static hm_err init_256(hm_aead *a, const uint8_t *key)
{
    return context(&a->ctx, EVP_aes_256_gcm(), key, a->iv);
}
static hm_err init_chacha(hm_aead *a, const uint8_t *key)
{
    return context(&a->ctx, EVP_chacha20_poly1305(), key, a->iv);
}
static hm_err hp_init_aes(hm_hp *hp, const EVP_CIPHER *ecb, const uint8_t *key)
{
    HM_TRY(context(&hp->ctx, ecb, key, NULL));
    EVP_CIPHER_CTX_set_padding(hp->ctx, 0); // not for others: it would be set anew for each nonce
    return HM_OK;
}
static hm_err hp_init_128(hm_hp *hp, const uint8_t *key)
{
    return hp_init_aes(hp, EVP_aes_128_ecb(), key);
}
static hm_err hp_init_256(hm_hp *hp, const uint8_t *key)
{
    return hp_init_aes(hp, EVP_aes_256_ecb(), key);
}
static hm_err hp_init_chacha(hm_hp *hp, const uint8_t *key)
{
    return context(&hp->ctx, EVP_chacha20(), key, NULL);
}

static void make_nonce(const hm_aead *a, uint64_t pn, uint8_t out[HM_AEAD_IV])
{
    memcpy(out, a->iv, HM_AEAD_IV);
    for (int i = HM_AEAD_IV - 1; i >= 4; i--, pn >>= 8)
        out[i] ^= (uint8_t)pn;
}

static bool begin(hm_aead *a, uint64_t pn, hm_bytes aad, int seal)
{
    uint8_t nonce[HM_AEAD_IV];
    int n;
    make_nonce(a, pn, nonce);
    return EVP_CipherInit_ex(a->ctx, NULL, NULL, NULL, nonce, seal) == 1 &&
           (aad.len == 0 || EVP_CipherUpdate(a->ctx, NULL, &n, aad.ptr, (int)aad.len) == 1);
}

static bool seal_text(EVP_CIPHER_CTX *ctx, const hm_aead_seal *s)
{
    int n;
    if (s->piece_count == 0)
        return s->len == 0 || EVP_EncryptUpdate(ctx, s->text, &n, s->text, (int)s->len) == 1;
    uint8_t *to = s->text;
    for (size_t i = 0; i < s->piece_count; i++) {
        hm_bytes p = s->pieces[i];
        const uint8_t *from = p.ptr != NULL ? p.ptr : to;
        if (p.len != 0 && EVP_EncryptUpdate(ctx, to, &n, from, (int)p.len) != 1)
            return false;
        to += p.len;
    }
    return true;
}

static hm_err seal(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const hm_aead_seal *s = &batch[i];
        uint8_t *tag = s->text + s->len;
        int n;
        if (!begin(a, s->pn, s->aad, 1) || !seal_text(a->ctx, s) ||
            EVP_EncryptFinal_ex(a->ctx, tag, &n) != 1 ||
            EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, HM_AEAD_TAG, tag) != 1)
            return hm_fail(HM_E_CRYPTO, "OpenSSL failed to seal a packet");
    }
    return HM_OK;
}

static void open_batch(hm_aead *a, hm_aead_open *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        hm_aead_open *o = &batch[i];
        uint8_t tag[HM_AEAD_TAG], none[HM_AEAD_TAG];
        int n;
        memcpy(tag, o->text + o->len, sizeof tag);
        o->ok =
            begin(a, o->pn, o->aad, 0) &&
            (o->len == 0 || EVP_DecryptUpdate(a->ctx, o->text, &n, o->text, (int)o->len) == 1) &&
            EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, HM_AEAD_TAG, tag) == 1 &&
            EVP_DecryptFinal_ex(a->ctx, none, &n) == 1;
    }
}

static hm_err aes_masks(hm_hp *hp, const uint8_t *const *samples, uint8_t (*masks)[HM_AEAD_SAMPLE],
                        size_t count)
{
    int n;
    for (size_t i = 0; i < count; i++)
        if (EVP_EncryptUpdate(hp->ctx, masks[i], &n, samples[i], HM_AEAD_SAMPLE) != 1)
            return hm_fail(HM_E_CRYPTO, "OpenSSL failed to protect a header");
    return HM_OK;
}

// The sample is ChaCha20's counter and nonce (RFC 9001, section 5.4.4).
static hm_err chacha_masks(hm_hp *hp, const uint8_t *const *samples,
                           uint8_t (*masks)[HM_AEAD_SAMPLE], size_t count)
{
    static const uint8_t zeros[5];
    int n;
    for (size_t i = 0; i < count; i++) {
        memset(masks[i], 0, HM_AEAD_SAMPLE);
        if (EVP_EncryptInit_ex(hp->ctx, NULL, NULL, NULL, samples[i]) != 1 ||
            EVP_EncryptUpdate(hp->ctx, masks[i], &n, zeros, sizeof zeros) != 1)
            return hm_fail(HM_E_CRYPTO, "OpenSSL failed to protect a header");
    }
    return HM_OK;
}

const hm_aead_ops hm_aead_openssl[3] = {
    [HM_AES_128_GCM] = {"openssl", init_128, seal, open_batch, hp_init_128, aes_masks},
    [HM_AES_256_GCM] = {"openssl", init_256, seal, open_batch, hp_init_256, aes_masks},
    [HM_CHACHA20_POLY1305] = {"openssl", init_chacha, seal, open_batch, hp_init_chacha,
                              chacha_masks},
};
