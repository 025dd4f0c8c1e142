// Encoders: SubjectPublicKeyInfo, PrivateKeyInfo and EncryptedPrivateKeyInfo in DER and PEM, and
// text for people (provider-encoder(7)).
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "crypto/provider.h"

typedef struct encode_ctx {
    falcon_provider *prov; // borrowed
    EVP_CIPHER *cipher;    // owned; for EncryptedPrivateKeyInfo
} encode_ctx;

static void *encode_new(void *provctx)
{
    encode_ctx *c = calloc(1, sizeof *c);
    if (c)
        c->prov = provctx;
    return c;
}

static void encode_free(void *ctx)
{
    encode_ctx *c = ctx;
    if (c)
        EVP_CIPHER_free(c->cipher);
    free(c);
}

static int encode_set(void *ctx, const OSSL_PARAM params[])
{
    encode_ctx *c = ctx;
    const OSSL_PARAM *name = OSSL_PARAM_locate_const(params, OSSL_ENCODER_PARAM_CIPHER);
    const OSSL_PARAM *props = OSSL_PARAM_locate_const(params, OSSL_ENCODER_PARAM_PROPERTIES);
    if (!name)
        return 1;
    if (name->data_type != OSSL_PARAM_UTF8_STRING)
        return 0;
    EVP_CIPHER_free(c->cipher);
    c->cipher = EVP_CIPHER_fetch(NULL, name->data, props ? props->data : NULL);
    return c->cipher != NULL;
}

static const OSSL_PARAM *encode_settable(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_ENCODER_PARAM_CIPHER, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_ENCODER_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return params;
}

static int encode_write(encode_ctx *c, OSSL_CORE_BIO *out, hm_bytes bytes)
{
    size_t done = 0;
    while (done < bytes.len) {
        size_t n = 0;
        if (!c->prov->bio_write(out, bytes.ptr + done, bytes.len - done, &n) || n == 0)
            return 0;
        done += n;
    }
    return 1;
}

static int encode_write_pem(encode_ctx *c, OSSL_CORE_BIO *out, const char *name, hm_bytes der)
{
    char *text = NULL;
    long len;
    BIO *mem = BIO_new(BIO_s_secmem());
    int ok = mem && PEM_write_bio(mem, name, "", der.ptr, (long)der.len) > 0 &&
             (len = BIO_get_mem_data(mem, &text)) > 0 &&
             encode_write(c, out, hm_bytes_of(text, (size_t)len));
    BIO_free(mem);
    return ok;
}

static int encode_out(encode_ctx *c, OSSL_CORE_BIO *out, const char *pem_name, hm_bytes der)
{
    return pem_name ? encode_write_pem(c, out, pem_name, der) : encode_write(c, out, der);
}

static int encode_spki(encode_ctx *c, OSSL_CORE_BIO *out, const falcon_key *k, bool pem)
{
    uint8_t der[HM_FALCON_SPKI_BYTES];
    if (!k || !k->has_public)
        return 0;
    falcon_spki_write(k->pub, der);
    return encode_out(c, out, pem ? PEM_STRING_PUBLIC : NULL, hm_bytes_of(der, sizeof der));
}

static int encode_pkcs8(encode_ctx *c, OSSL_CORE_BIO *out, const falcon_key *k, bool pem)
{
    uint8_t der[FALCON_PKCS8_BYTES];
    int ok;
    if (!k || !k->priv || !k->has_public)
        return 0;
    falcon_pkcs8_write(k->priv, k->pub, der);
    ok = encode_out(c, out, pem ? PEM_STRING_PKCS8INF : NULL, hm_bytes_of(der, sizeof der));
    hm_zero(der, sizeof der);
    return ok;
}

// PBES2 of RFC 8018 by OpenSSL; without a cipher the plain PrivateKeyInfo, as OpenSSL's own do.
static int encode_encrypted(encode_ctx *c, OSSL_CORE_BIO *out, const falcon_key *k, bool pem,
                            OSSL_PASSPHRASE_CALLBACK *pw, void *pw_arg)
{
    uint8_t der[FALCON_PKCS8_BYTES], *sealed = NULL;
    const uint8_t *at = der;
    char pass[1024];
    size_t pass_len = 0;
    int sealed_len = 0, ok = 0;
    PKCS8_PRIV_KEY_INFO *info = NULL;
    X509_SIG *sig = NULL;

    if (!c->cipher)
        return encode_pkcs8(c, out, k, pem);
    if (!k || !k->priv || !k->has_public || !pw || !pw(pass, sizeof pass, &pass_len, NULL, pw_arg))
        return 0;
    falcon_pkcs8_write(k->priv, k->pub, der);
    info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, sizeof der);
    if (info)
        sig = PKCS8_encrypt(-1, c->cipher, pass, (int)pass_len, NULL, 0, 0, info);
    if (sig && (sealed_len = i2d_X509_SIG(sig, &sealed)) > 0)
        ok = encode_out(c, out, pem ? PEM_STRING_PKCS8 : NULL,
                        hm_bytes_of(sealed, (size_t)sealed_len));
    OPENSSL_free(sealed);
    X509_SIG_free(sig);
    PKCS8_PRIV_KEY_INFO_free(info);
    hm_zero(der, sizeof der);
    hm_zero(pass, sizeof pass);
    return ok;
}

static void text_bytes(hm_buf *b, const char *title, const uint8_t *ptr, size_t len)
{
    hm_buf_printf(b, "%s:", title);
    for (size_t i = 0; i < len; i++)
        hm_buf_printf(b, "%s%02x%s", i % 15 == 0 ? "\n    " : "", ptr[i], i + 1 < len ? ":" : "");
    hm_buf_puts(b, "\n");
}

static int encode_text(encode_ctx *c, OSSL_CORE_BIO *out, const falcon_key *k, int selection)
{
    hm_buf b = {0};
    bool priv;
    int ok;
    if (!k)
        return 0;
    priv = (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && k->priv != NULL;
    hm_buf_printf(&b, "FALCON-1024 %s-Key:\n", priv ? "Private" : "Public");
    if (priv)
        text_bytes(&b, "priv", k->priv, HM_FALCON_PRIVATE_BYTES);
    if (k->has_public)
        text_bytes(&b, "pub", k->pub, sizeof k->pub);
    ok = hm_buf_status(&b) == HM_OK && encode_write(c, out, hm_buf_bytes(&b));
    hm_buf_free_secret(&b);
    return ok;
}

// The objects we encode are our own keys, or parameters from another provider's, which we import.
static void *encode_import(void *ctx, int selection, const OSSL_PARAM params[])
{
    const OSSL_DISPATCH *f;
    OSSL_FUNC_keymgmt_import_fn *import = NULL;
    falcon_key *k = falcon_key_new();
    (void)ctx;
    for (f = falcon_keymgmt_functions; f->function_id != 0; f++)
        if (f->function_id == OSSL_FUNC_KEYMGMT_IMPORT)
            import = OSSL_FUNC_keymgmt_import(f);
    if (k && import && import(k, selection, params))
        return k;
    falcon_key_unref(k);
    return NULL;
}

static void encode_free_object(void *key)
{
    falcon_key_unref(key);
}

static int select_public(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) &&
                              !(selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY));
}

static int select_private(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

static int select_any(void *provctx, int selection)
{
    (void)provctx;
    (void)selection;
    return 1;
}

#define ENCODER(name, does_selection, call)                                                        \
    static int name##_encode(void *ctx, OSSL_CORE_BIO *out, const void *key,                       \
                             const OSSL_PARAM abstract[], int selection,                           \
                             OSSL_PASSPHRASE_CALLBACK *pw, void *pw_arg)                           \
    {                                                                                              \
        (void)selection, (void)pw, (void)pw_arg;                                                   \
        return abstract ? 0 : call;                                                                \
    }                                                                                              \
    static const OSSL_DISPATCH name##_functions[] = {                                              \
        {OSSL_FUNC_ENCODER_NEWCTX, (void (*)(void))encode_new},                                    \
        {OSSL_FUNC_ENCODER_FREECTX, (void (*)(void))encode_free},                                  \
        {OSSL_FUNC_ENCODER_SET_CTX_PARAMS, (void (*)(void))encode_set},                            \
        {OSSL_FUNC_ENCODER_SETTABLE_CTX_PARAMS, (void (*)(void))encode_settable},                  \
        {OSSL_FUNC_ENCODER_DOES_SELECTION, (void (*)(void))does_selection},                        \
        {OSSL_FUNC_ENCODER_IMPORT_OBJECT, (void (*)(void))encode_import},                          \
        {OSSL_FUNC_ENCODER_FREE_OBJECT, (void (*)(void))encode_free_object},                       \
        {OSSL_FUNC_ENCODER_ENCODE, (void (*)(void))name##_encode},                                 \
        OSSL_DISPATCH_END,                                                                         \
    }
ENCODER(spki_der, select_public, encode_spki(ctx, out, key, false));
ENCODER(spki_pem, select_public, encode_spki(ctx, out, key, true));
ENCODER(pkcs8_der, select_private, encode_pkcs8(ctx, out, key, false));
ENCODER(pkcs8_pem, select_private, encode_pkcs8(ctx, out, key, true));
ENCODER(sealed_der, select_private, encode_encrypted(ctx, out, key, false, pw, pw_arg));
ENCODER(sealed_pem, select_private, encode_encrypted(ctx, out, key, true, pw, pw_arg));
ENCODER(text, select_any, encode_text(ctx, out, key, selection));

#define ROW(output, functions)                                                                     \
    {HM_FALCON_NAME ":" HM_FALCON_OID, FALCON_PROPS ",output=" output, functions, NULL}
const OSSL_ALGORITHM falcon_encoders[] = {
    ROW("der,structure=SubjectPublicKeyInfo", spki_der_functions),
    ROW("pem,structure=SubjectPublicKeyInfo", spki_pem_functions),
    ROW("der,structure=PrivateKeyInfo", pkcs8_der_functions),
    ROW("pem,structure=PrivateKeyInfo", pkcs8_pem_functions),
    ROW("der,structure=EncryptedPrivateKeyInfo", sealed_der_functions),
    ROW("pem,structure=EncryptedPrivateKeyInfo", sealed_pem_functions),
    ROW("text", text_functions),
    {NULL, NULL, NULL, NULL},
};
