// FALCON-1024 keys of our own code: raw signing and verifying, files, and the same key for OpenSSL.
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <stdlib.h>

#include "crypto/provider.h"

#define KEY_FILE_MAX 65536u

struct hm_key {
    uint8_t pub[HM_FALCON_PUBLIC_BYTES];
    uint8_t priv[HM_FALCON_PRIVATE_BYTES];
    EVP_PKEY *evp; // owned
};

hm_err hm_crypto_fail(hm_err err, const char *what)
{
    char text[200] = "";
    unsigned long code = ERR_peek_last_error();
    if (code != 0)
        ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return hm_fail(err, "%s%s%s", what, text[0] ? ": " : "", text);
}

static OSSL_PROVIDER *providers[2]; // loaded once, until OpenSSL cleans up at exit
static CRYPTO_ONCE providers_once = CRYPTO_ONCE_STATIC_INIT;

static void providers_unload(void)
{
    for (int i = 0; i < 2; i++) {
        if (providers[i])
            OSSL_PROVIDER_unload(providers[i]);
        providers[i] = NULL;
    }
}

static void providers_load(void)
{
    if (!OSSL_PROVIDER_add_builtin(NULL, "falcon", falcon_provider_init))
        return;
    providers[0] = OSSL_PROVIDER_load(NULL, "falcon");
    providers[1] = OSSL_PROVIDER_load(NULL, "default");
    OPENSSL_atexit(providers_unload);
}

hm_err hm_crypto_init(void)
{
    if (!CRYPTO_THREAD_run_once(&providers_once, providers_load) || !providers[0] || !providers[1])
        return hm_crypto_fail(HM_E_CRYPTO, "cannot load OpenSSL's default and our FALCON provider");
    return HM_OK;
}

// Fills in the OpenSSL side of a key whose raw halves are set.
static hm_err key_make_evp(hm_key *k)
{
    hm_err err = HM_OK;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, HM_FALCON_NAME, NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, k->pub, sizeof k->pub),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, k->priv, sizeof k->priv),
        OSSL_PARAM_construct_end(),
    };
    if (!ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &k->evp, EVP_PKEY_KEYPAIR, params) <= 0)
        err = hm_crypto_fail(HM_E_KEY, "the key pair is not usable (was hm_crypto_init() called?)");
    EVP_PKEY_CTX_free(ctx);
    return err;
}

void hm_key_free(hm_key *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->evp);
    hm_zero(key, sizeof *key);
    free(key);
}

hm_err hm_key_generate(hm_key **out)
{
    hm_err err;
    hm_key *k = calloc(1, sizeof *k);
    if (!k)
        return HM_E_NOMEM;
    HM_TRY_OUT(falcon_keypair(k->pub, k->priv));
    HM_TRY_OUT(key_make_evp(k));
    *out = k;
    k = NULL;
out:
    hm_key_free(k);
    return err;
}

hm_err hm_key_of_der(hm_bytes pkcs8, hm_key **out)
{
    hm_err err;
    hm_bytes priv, pub;
    uint8_t computed[HM_FALCON_PUBLIC_BYTES];
    hm_key *k = NULL;

    HM_TRY(falcon_pkcs8_read(pkcs8, &priv, &pub));
    HM_TRY(falcon_public_of_private(priv.ptr, computed));
    if (memcmp(computed, pub.ptr, sizeof computed) != 0)
        return hm_fail(HM_E_KEY, "the public half does not belong to the private one");
    k = calloc(1, sizeof *k);
    if (!k)
        return HM_E_NOMEM;
    memcpy(k->priv, priv.ptr, sizeof k->priv);
    memcpy(k->pub, pub.ptr, sizeof k->pub);
    HM_TRY_OUT(key_make_evp(k));
    *out = k;
    k = NULL;
out:
    hm_key_free(k);
    return err;
}

hm_err hm_key_save(const hm_key *key, const char *path)
{
    hm_err err = HM_OK;
    uint8_t der[FALCON_PKCS8_BYTES];
    BIO *mem = BIO_new(BIO_s_secmem());
    char *pem = NULL;
    long len;

    falcon_pkcs8_write(key->priv, key->pub, der);
    if (!mem || PEM_write_bio(mem, PEM_STRING_PKCS8INF, "", der, sizeof der) <= 0 ||
        (len = BIO_get_mem_data(mem, &pem)) <= 0) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot encode the key");
        goto out;
    }
    err = hm_file_write(path, hm_bytes_of(pem, (size_t)len), 0600);
out:
    hm_zero(der, sizeof der);
    BIO_free(mem);
    return err;
}

hm_err hm_key_load(const char *path, hm_key **out)
{
    hm_err err;
    hm_buf file = {0};
    BIO *mem = NULL;
    char *name = NULL, *header = NULL;
    uint8_t *der = NULL;
    long der_len = 0;

    HM_TRY_OUT(hm_file_read_secret(path, KEY_FILE_MAX, &file));
    mem = BIO_new_mem_buf(file.ptr, (int)file.len);
    if (!mem || PEM_read_bio(mem, &name, &header, &der, &der_len) <= 0 ||
        strcmp(name, PEM_STRING_PKCS8INF) != 0) {
        ERR_clear_error();
        err = hm_fail(HM_E_PARSE, "%s: not an unencrypted PRIVATE KEY in PEM", path);
        goto out;
    }
    err = hm_key_of_der(hm_bytes_of(der, (size_t)der_len), out);
out:
    OPENSSL_clear_free(der, (size_t)der_len);
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(mem);
    hm_buf_free_secret(&file);
    return err;
}

hm_bytes hm_key_public(const hm_key *key)
{
    return hm_bytes_of(key->pub, sizeof key->pub);
}

EVP_PKEY *hm_key_evp(const hm_key *key)
{
    return key->evp;
}

// domain || 0x00 || msg, which is what is signed.
static hm_err key_message(const char *domain, hm_bytes msg, hm_buf *out)
{
    hm_buf_append(out, domain, strlen(domain) + 1);
    hm_buf_put(out, msg);
    return hm_buf_status(out);
}

hm_err hm_sign(const hm_key *key, const char *domain, hm_bytes msg, hm_buf *sig)
{
    hm_err err;
    hm_buf whole = {0};
    uint8_t raw[HM_FALCON_SIGNATURE_MAX];
    size_t len = sizeof raw;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    HM_TRY_OUT(key_message(domain, msg, &whole));
    // Through OpenSSL, whose key keeps what it derived for the signatures before this one.
    if (!ctx || EVP_DigestSignInit_ex(ctx, NULL, NULL, NULL, NULL, key->evp, NULL) <= 0 ||
        EVP_DigestSign(ctx, raw, &len, whole.ptr, whole.len) <= 0) {
        err = hm_crypto_fail(HM_E_KEY, "the private key does not sign");
        goto out;
    }
    hm_buf_append(sig, raw, len);
    err = hm_buf_status(sig);
out:
    EVP_MD_CTX_free(ctx);
    hm_buf_free(&whole);
    return err;
}

hm_err hm_verify(hm_bytes public_raw, const char *domain, hm_bytes msg, hm_bytes sig)
{
    hm_err err;
    hm_buf whole = {0};

    HM_TRY(falcon_public_check(public_raw));
    HM_TRY_OUT(key_message(domain, msg, &whole));
    err = falcon_verify(public_raw.ptr, hm_buf_bytes(&whole), sig);
out:
    hm_buf_free(&whole);
    return err;
}

hm_err hm_falcon_spki(hm_bytes public_raw, uint8_t out[HM_FALCON_SPKI_BYTES])
{
    HM_TRY(falcon_public_check(public_raw));
    falcon_spki_write(public_raw.ptr, out);
    return HM_OK;
}

hm_err hm_falcon_public_of_evp(const EVP_PKEY *pkey, uint8_t out[HM_FALCON_PUBLIC_BYTES])
{
    uint8_t pub[HM_FALCON_PUBLIC_BYTES];
    size_t len = 0;
    if (!EVP_PKEY_is_a(pkey, HM_FALCON_NAME))
        return hm_fail(HM_E_KEY, "not a FALCON-1024 key");
    if (EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, pub, sizeof pub, &len) <=
            0 ||
        len != sizeof pub)
        return hm_crypto_fail(HM_E_KEY, "the key has no public half");
    memcpy(out, pub, sizeof pub);
    return HM_OK;
}

hm_err hm_node_id_of_public(hm_bytes public_raw, hm_node_id *out)
{
    uint8_t spki[HM_FALCON_SPKI_BYTES];
    HM_TRY(hm_falcon_spki(public_raw, spki));
    *out = hm_sha256(hm_bytes_of(spki, sizeof spki));
    return HM_OK;
}
