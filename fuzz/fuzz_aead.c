// Packet protection: every version that this machine has seals as OpenSSL's EVP does, from pieces
// and in place, opens what was sealed, and refuses it with one bit changed.
#include "crypto/aead.h"

#define TEXT_MAX 20000u
#define AAD_MAX 255u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const EVP_CIPHER *evp_cipher(hm_aead_cipher c)
{
    return c == HM_AES_128_GCM   ? EVP_aes_128_gcm()
           : c == HM_AES_256_GCM ? EVP_aes_256_gcm()
                                 : EVP_chacha20_poly1305();
}

static void reference(hm_aead_cipher c, const uint8_t *key, const uint8_t *iv, hm_bytes aad,
                      hm_bytes text, uint64_t pn, uint8_t *out)
{
    static EVP_CIPHER_CTX *ctx;
    uint8_t nonce[HM_AEAD_IV];
    int n = 0, m = 0;
    if (ctx == NULL)
        ctx = EVP_CIPHER_CTX_new();
    memcpy(nonce, iv, sizeof nonce);
    for (unsigned i = 0; i < 8; i++)
        nonce[11 - i] ^= (uint8_t)(pn >> (8 * i));
    hm_assert(EVP_EncryptInit_ex(ctx, evp_cipher(c), NULL, key, nonce) == 1);
    hm_assert(aad.len == 0 || EVP_EncryptUpdate(ctx, NULL, &n, aad.ptr, (int)aad.len) == 1);
    hm_assert(text.len == 0 || EVP_EncryptUpdate(ctx, out, &m, text.ptr, (int)text.len) == 1);
    hm_assert(EVP_EncryptFinal_ex(ctx, out + m, &n) == 1);
    hm_assert(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, HM_AEAD_TAG, out + text.len) == 1);
}

// Cuts text at the lengths that the input names; every third piece stands in place.
static size_t cut(hm_bytes text, const uint8_t cuts[8], uint8_t *in_place, hm_bytes pieces[9])
{
    size_t count = 0, at = 0;
    for (; count < 8; count++) {
        size_t n = (size_t)cuts[count] * cuts[count] / 16;
        n = n < text.len - at ? n : text.len - at;
        pieces[count] = hm_bytes_of(text.ptr + at, n);
        if (cuts[count] % 3 == 0) {
            memcpy(in_place + at, text.ptr + at, n);
            pieces[count].ptr = NULL;
        }
        at += n;
    }
    pieces[count++] = hm_bytes_of(text.ptr + at, text.len - at);
    return count;
}

// Input: cipher, header length, packet number, cuts, where to change a bit, key, IV; then header
// and text, the header's length at most that of what is there.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t want[TEXT_MAX + HM_AEAD_TAG], got[TEXT_MAX + HM_AEAD_TAG + 1];
    enum {
        PN = 2,
        CUTS = PN + 8,
        CHANGE = CUTS + 8,
        KEY = CHANGE + 4,
        IV = KEY + 32,
        FIXED = IV + HM_AEAD_IV
    };
    if (size < FIXED || size > FIXED + AAD_MAX + TEXT_MAX)
        return 0;
    hm_aead_cipher c = (hm_aead_cipher)(data[0] % 3);
    size_t aad_len = data[1] < size - FIXED ? data[1] : size - FIXED;
    hm_bytes aad = hm_bytes_of(data + FIXED, aad_len);
    hm_bytes text = hm_bytes_of(data + FIXED + aad_len, size - FIXED - aad_len), pieces[9];
    uint64_t pn;
    uint32_t change;
    if (text.len > TEXT_MAX)
        return 0;
    memcpy(&pn, data + PN, sizeof pn);
    memcpy(&change, data + CHANGE, sizeof change);
    reference(c, data + KEY, data + IV, aad, text, pn, want);
    for (int v = HM_AEAD_AVX512; v <= HM_AEAD_OPENSSL; v++) {
        hm_aead a = {0};
        uint8_t *to = got + (data[0] & 1);
        if (!hm_aead_available((hm_aead_version)v, c))
            continue;
        hm_assert(hm_aead_init(&a, c, (hm_aead_version)v, data + KEY, data + IV) == HM_OK);
        hm_aead_seal s = {aad, to, text.len, pn, pieces, cut(text, data + CUTS, to, pieces)};
        hm_assert(hm_aead_seal_batch(&a, &s, 1) == HM_OK);
        hm_assert(memcmp(to, want, text.len + HM_AEAD_TAG) == 0);
        hm_assert(hm_aead_open_one(&a, aad, to, text.len, pn));
        hm_assert(text.len == 0 || memcmp(to, text.ptr, text.len) == 0);
        hm_assert(hm_aead_seal_one(&a, aad, to, text.len, pn) == HM_OK);
        hm_assert(memcmp(to, want, text.len + HM_AEAD_TAG) == 0);
        size_t bit = change % (8 * (text.len + HM_AEAD_TAG));
        to[bit / 8] ^= (uint8_t)(1 << bit % 8);
        hm_assert(!hm_aead_open_one(&a, aad, to, text.len, pn));
        for (size_t i = 0; i < text.len; i++)
            hm_assert(to[i] == 0);
        hm_aead_clear(&a);
    }
    return 0;
}
