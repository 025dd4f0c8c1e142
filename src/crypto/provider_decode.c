// Decoders: DER of SubjectPublicKeyInfo and PrivateKeyInfo to a key (provider-decoder(7)). PEM and
// encrypted PKCS#8 reach us as DER through OpenSSL's own decoders.
#include <openssl/core_object.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "crypto/provider.h"

#define DECODE_MAX 65536u

typedef struct decode_ctx {
    falcon_provider *prov; // borrowed
} decode_ctx;

static void *decode_new(void *provctx)
{
    decode_ctx *c = calloc(1, sizeof *c);
    if (c)
        c->prov = provctx;
    return c;
}

static void decode_free(void *ctx)
{
    free(ctx);
}

static hm_err decode_read_all(falcon_provider *prov, OSSL_CORE_BIO *in, hm_buf *out)
{
    for (;;) {
        size_t n = 0;
        uint8_t *room = hm_buf_reserve(out, 4096);
        if (!room)
            return hm_buf_status(out);
        if (!prov->bio_read(in, room, 4096, &n) || n == 0)
            return HM_OK;
        out->len += n;
        if (out->len > DECODE_MAX)
            return HM_E_LIMIT;
    }
}

// Hands the key on; the receiver takes it by the reference, or it is released.
static int decode_give(falcon_key *key, OSSL_CALLBACK *cb, void *arg)
{
    int type = OSSL_OBJECT_PKEY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE, (char *)HM_FALCON_NAME, 0),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, (void *)&key, sizeof key),
        OSSL_PARAM_construct_end(),
    };
    int ok = cb(params, arg);
    falcon_key_unref(key);
    return ok;
}

static falcon_key *decode_spki(hm_bytes der)
{
    hm_bytes pub;
    falcon_key *k;
    if (falcon_spki_read(der, &pub) != HM_OK || falcon_public_check(pub) != HM_OK ||
        !(k = falcon_key_new()))
        return NULL;
    memcpy(k->pub, pub.ptr, sizeof k->pub);
    k->has_public = true;
    return k;
}

static falcon_key *decode_pkcs8(hm_bytes der)
{
    hm_bytes priv, pub;
    falcon_key *k;
    if (falcon_pkcs8_read(der, &priv, &pub) != HM_OK || !(k = falcon_key_new()))
        return NULL;
    if (falcon_public_of_private(priv.ptr, k->pub) != HM_OK ||
        memcmp(k->pub, pub.ptr, sizeof k->pub) != 0 || !falcon_key_private(k, priv.ptr)) {
        falcon_key_unref(k);
        return NULL;
    }
    k->has_public = true;
    return k;
}

// Answers 1 when the bytes are not ours: another decoder may know them.
static int decode(decode_ctx *c, OSSL_CORE_BIO *in, OSSL_CALLBACK *cb, void *arg,
                  falcon_key *(*parse)(hm_bytes der))
{
    hm_buf der = {0};
    falcon_key *key = NULL;
    if (decode_read_all(c->prov, in, &der) == HM_OK)
        key = parse(hm_buf_bytes(&der));
    hm_buf_free_secret(&der);
    return key ? decode_give(key, cb, arg) : 1;
}

static int spki_decode(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *arg,
                       OSSL_PASSPHRASE_CALLBACK *pw, void *pw_arg)
{
    (void)selection;
    (void)pw;
    (void)pw_arg;
    return decode(ctx, in, cb, arg, decode_spki);
}

static int pkcs8_decode(void *ctx, OSSL_CORE_BIO *in, int selection, OSSL_CALLBACK *cb, void *arg,
                        OSSL_PASSPHRASE_CALLBACK *pw, void *pw_arg)
{
    (void)selection;
    (void)pw;
    (void)pw_arg;
    return decode(ctx, in, cb, arg, decode_pkcs8);
}

static int spki_selection(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) &&
                              !(selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY));
}

static int pkcs8_selection(void *provctx, int selection)
{
    (void)provctx;
    return selection == 0 || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
}

// For a key that ends in another provider's key management.
static int decode_export(void *ctx, const void *reference, size_t size, OSSL_CALLBACK *cb,
                         void *arg)
{
    falcon_key *k;
    OSSL_PARAM params[3];
    size_t n = 0;
    (void)ctx;
    if (size != sizeof k || !(k = *(falcon_key *const *)reference))
        return 0;
    if (k->has_public)
        params[n++] =
            OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, k->pub, sizeof k->pub);
    if (k->priv)
        params[n++] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, k->priv,
                                                        HM_FALCON_PRIVATE_BYTES);
    params[n] = OSSL_PARAM_construct_end();
    return cb(params, arg);
}

#define DECODER(name)                                                                              \
    static const OSSL_DISPATCH name##_functions[] = {                                              \
        {OSSL_FUNC_DECODER_NEWCTX, (void (*)(void))decode_new},                                    \
        {OSSL_FUNC_DECODER_FREECTX, (void (*)(void))decode_free},                                  \
        {OSSL_FUNC_DECODER_DOES_SELECTION, (void (*)(void))name##_selection},                      \
        {OSSL_FUNC_DECODER_DECODE, (void (*)(void))name##_decode},                                 \
        {OSSL_FUNC_DECODER_EXPORT_OBJECT, (void (*)(void))decode_export},                          \
        OSSL_DISPATCH_END,                                                                         \
    }
DECODER(spki);
DECODER(pkcs8);

const OSSL_ALGORITHM falcon_decoders[] = {
    {HM_FALCON_NAME ":" HM_FALCON_OID, FALCON_PROPS ",input=der,structure=SubjectPublicKeyInfo",
     spki_functions, NULL},
    {HM_FALCON_NAME ":" HM_FALCON_OID, FALCON_PROPS ",input=der,structure=PrivateKeyInfo",
     pkcs8_functions, NULL},
    {NULL, NULL, NULL, NULL},
};
