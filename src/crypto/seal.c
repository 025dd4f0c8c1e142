// Sealing to an ML-KEM-768 key (FIPS 203) through OpenSSL; the construction stands in crypto.h.
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "crypto/crypto.h"

#define KEM_NAME "ML-KEM-768"
#define KEM_CIPHERTEXT 1088u
#define KEM_SECRET 32u
#define TAG 16u
#define SEAL_INFO "hypermesh seal v1"

typedef struct seal_keys {
    uint8_t key[32];
    uint8_t nonce[12];
} seal_keys;

hm_err hm_seal_keygen(uint8_t public_out[HM_SEAL_PUBLIC_BYTES],
                      uint8_t seed_out[HM_SEAL_SEED_BYTES])
{
    size_t pub_len = 0, seed_len = 0;
    uint8_t pub[HM_SEAL_PUBLIC_BYTES], seed[HM_SEAL_SEED_BYTES];
    hm_err err = HM_OK;
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, KEM_NAME);
    if (!key ||
        EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, pub, sizeof pub, &pub_len) <=
            0 ||
        EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_ML_KEM_SEED, seed, sizeof seed,
                                        &seed_len) <= 0 ||
        pub_len != sizeof pub || seed_len != sizeof seed)
        err = hm_crypto_fail(HM_E_CRYPTO, "ML-KEM key generation failed");
    if (err == HM_OK) {
        memcpy(public_out, pub, sizeof pub);
        memcpy(seed_out, seed, sizeof seed);
    }
    hm_zero(seed, sizeof seed);
    EVP_PKEY_free(key);
    return err;
}

static hm_err seal_key_of(const char *param, int selection, hm_bytes raw, EVP_PKEY **out)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, KEM_NAME, NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(param, (void *)raw.ptr, raw.len),
        OSSL_PARAM_construct_end(),
    };
    hm_err err = HM_OK;
    if (!ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, out, selection, params) <= 0)
        err = hm_crypto_fail(HM_E_KEY, "not an ML-KEM-768 key");
    EVP_PKEY_CTX_free(ctx);
    return err;
}

// HKDF-SHA256 (RFC 5869) of the shared secret, bound to the ciphertext and the receiver.
static hm_err seal_derive(const uint8_t secret[KEM_SECRET], const uint8_t *ciphertext,
                          hm_bytes public_raw, seal_keys *out)
{
    hm_hash salt = hm_sha256(hm_bytes_of(ciphertext, KEM_CIPHERTEXT));
    hm_hash pub = hm_sha256(public_raw);
    uint8_t info[sizeof SEAL_INFO + HM_HASH_BYTES];
    hm_err err = HM_OK;
    memcpy(info, SEAL_INFO, sizeof SEAL_INFO); // with its 0x00
    memcpy(info + sizeof SEAL_INFO, pub.b, HM_HASH_BYTES);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, KEM_SECRET),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt.b, HM_HASH_BYTES),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info),
        OSSL_PARAM_construct_end(),
    };
    if (!ctx || EVP_KDF_derive(ctx, (uint8_t *)out, sizeof *out, params) <= 0)
        err = hm_crypto_fail(HM_E_CRYPTO, "HKDF failed");
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return err;
}

// AES-256-GCM over data in one call. Sealing writes data.len + TAG bytes to out; opening reads a
// data that ends with the tag and writes data.len - TAG.
static hm_err seal_gcm(bool seal, const seal_keys *k, hm_bytes aad, hm_bytes data, uint8_t *out)
{
    size_t text = seal ? data.len : data.len - TAG;
    int n = 0;
    hm_err err = HM_OK;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (data.len > INT32_MAX || aad.len > INT32_MAX) {
        err = hm_fail(HM_E_LIMIT, "too long to seal");
        goto out;
    }
    if (!ctx || EVP_CipherInit_ex2(ctx, EVP_aes_256_gcm(), k->key, k->nonce, seal, NULL) <= 0 ||
        (aad.len > 0 && EVP_CipherUpdate(ctx, NULL, &n, aad.ptr, (int)aad.len) <= 0) ||
        (text > 0 && EVP_CipherUpdate(ctx, out, &n, data.ptr, (int)text) <= 0)) {
        err = hm_crypto_fail(HM_E_CRYPTO, "AES-256-GCM failed");
        goto out;
    }
    if (!seal &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(data.ptr + text)) <= 0)
        err = hm_crypto_fail(HM_E_CRYPTO, "AES-256-GCM failed");
    else if (EVP_CipherFinal_ex(ctx, out + text, &n) <= 0)
        err = hm_fail(HM_E_UNSEAL,
                      "the sealed bytes, their purpose or the key are not what they were");
    else if (seal && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, out + text) <= 0)
        err = hm_crypto_fail(HM_E_CRYPTO, "AES-256-GCM failed");
out:
    EVP_CIPHER_CTX_free(ctx);
    return err;
}

hm_err hm_seal(hm_bytes public_raw, hm_bytes aad, hm_bytes data, hm_buf *out)
{
    hm_err err;
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    uint8_t secret[KEM_SECRET], *room;
    size_t ct_len = KEM_CIPHERTEXT, secret_len = sizeof secret;
    seal_keys keys;

    HM_TRY(seal_key_of(OSSL_PKEY_PARAM_PUB_KEY, EVP_PKEY_PUBLIC_KEY, public_raw, &key));
    room = hm_buf_reserve(out, data.len + HM_SEAL_OVERHEAD);
    if (!room) {
        err = hm_buf_status(out);
        goto out;
    }
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (!ctx || EVP_PKEY_encapsulate_init(ctx, NULL) <= 0 ||
        EVP_PKEY_encapsulate(ctx, room, &ct_len, secret, &secret_len) <= 0 ||
        ct_len != KEM_CIPHERTEXT || secret_len != sizeof secret) {
        err = hm_crypto_fail(HM_E_CRYPTO, "ML-KEM encapsulation failed");
        goto out;
    }
    HM_TRY_OUT(seal_derive(secret, room, public_raw, &keys));
    HM_TRY_OUT(seal_gcm(true, &keys, aad, data, room + KEM_CIPHERTEXT));
    out->len += data.len + HM_SEAL_OVERHEAD;
out:
    hm_zero(secret, sizeof secret);
    hm_zero(&keys, sizeof keys);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return err;
}

hm_err hm_open(hm_bytes seed, hm_bytes aad, hm_bytes sealed, hm_buf *out)
{
    hm_err err;
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    uint8_t secret[KEM_SECRET], pub[HM_SEAL_PUBLIC_BYTES], *room;
    size_t secret_len = sizeof secret, pub_len = 0;
    seal_keys keys;

    if (sealed.len < HM_SEAL_OVERHEAD)
        return hm_fail(HM_E_UNSEAL, "sealed data have at least %d bytes, these have %zu",
                       HM_SEAL_OVERHEAD, sealed.len);
    if (seed.len != HM_SEAL_SEED_BYTES)
        return hm_fail(HM_E_KEY, "an ML-KEM-768 seed has %d bytes", HM_SEAL_SEED_BYTES);
    HM_TRY(seal_key_of(OSSL_PKEY_PARAM_ML_KEM_SEED, EVP_PKEY_KEYPAIR, seed, &key));
    room = hm_buf_reserve(out, sealed.len);
    if (!room) {
        err = hm_buf_status(out);
        goto out;
    }
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (!ctx || EVP_PKEY_decapsulate_init(ctx, NULL) <= 0 ||
        EVP_PKEY_decapsulate(ctx, secret, &secret_len, sealed.ptr, KEM_CIPHERTEXT) <= 0 ||
        secret_len != sizeof secret ||
        EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, pub, sizeof pub, &pub_len) <=
            0) {
        err = hm_crypto_fail(HM_E_CRYPTO, "ML-KEM decapsulation failed");
        goto out;
    }
    HM_TRY_OUT(seal_derive(secret, sealed.ptr, hm_bytes_of(pub, pub_len), &keys));
    HM_TRY_OUT(seal_gcm(false, &keys, aad,
                        hm_bytes_of(sealed.ptr + KEM_CIPHERTEXT, sealed.len - KEM_CIPHERTEXT),
                        room));
    out->len += sealed.len - HM_SEAL_OVERHEAD;
out:
    hm_zero(secret, sizeof secret);
    hm_zero(&keys, sizeof keys);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return err;
}
