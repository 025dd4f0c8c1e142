// Signatures: provider-signature(7), in one shot over the whole message. The same context serves
// EVP_DigestSign() (without a digest), EVP_PKEY_sign_message_init() and their counterparts.
#include <stdlib.h>

#include "crypto/provider.h"

typedef struct sign_ctx {
    falcon_key *key; // a reference, or NULL
} sign_ctx;

static void *sign_new(void *provctx, const char *propq)
{
    (void)provctx;
    (void)propq;
    return calloc(1, sizeof(sign_ctx));
}

static void sign_free(void *ctx)
{
    sign_ctx *c = ctx;
    if (c)
        falcon_key_unref(c->key);
    free(c);
}

static void *sign_dup(void *ctx)
{
    sign_ctx *from = ctx, *c = calloc(1, sizeof *c);
    if (c && from->key)
        c->key = falcon_key_ref(from->key);
    return c;
}

// key is NULL when a context is used again with the key that it has.
static int sign_set_key(sign_ctx *c, void *key, bool needs_private)
{
    if (key) {
        falcon_key_unref(c->key);
        c->key = falcon_key_ref(key);
    }
    return c->key && (needs_private ? c->key->priv != NULL : c->key->has_public);
}

static int digest_sign_init(void *ctx, const char *digest, void *key, const OSSL_PARAM params[])
{
    (void)params;
    return (!digest || !digest[0]) && sign_set_key(ctx, key, true);
}

static int digest_verify_init(void *ctx, const char *digest, void *key, const OSSL_PARAM params[])
{
    (void)params;
    return (!digest || !digest[0]) && sign_set_key(ctx, key, false);
}

static int sign_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    (void)params;
    return sign_set_key(ctx, key, true);
}

static int verify_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    (void)params;
    return sign_set_key(ctx, key, false);
}

static int sign_message(void *ctx, uint8_t *sig, size_t *sig_len, size_t sig_size,
                        const uint8_t *msg, size_t msg_len)
{
    sign_ctx *c = ctx;
    const falcon_signer *signer;
    uint8_t raw[HM_FALCON_SIGNATURE_MAX];
    size_t len;
    if (!sig) { // asks for the size
        *sig_len = HM_FALCON_SIGNATURE_MAX;
        return 1;
    }
    if (!c->key || !(signer = falcon_key_signer(c->key)) ||
        falcon_sign(signer, hm_bytes_of(msg, msg_len), raw, &len) != HM_OK || len > sig_size)
        return 0;
    memcpy(sig, raw, len);
    *sig_len = len;
    return 1;
}

static int verify_message(void *ctx, const uint8_t *sig, size_t sig_len, const uint8_t *msg,
                          size_t msg_len)
{
    sign_ctx *c = ctx;
    return c->key && c->key->has_public &&
           falcon_verify(c->key->pub, hm_bytes_of(msg, msg_len), hm_bytes_of(sig, sig_len)) ==
               HM_OK;
}

// The AlgorithmIdentifier that goes into certificates: our OID, no parameters.
static int sign_get(void *ctx, OSSL_PARAM params[])
{
    static const uint8_t algorithm[] = {0x30, 0x07, 0x06, 0x05, 0x2b, 0xce, 0x0f, 0x03, 0x0e};
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);
    (void)ctx;
    return !p || OSSL_PARAM_set_octet_string(p, algorithm, sizeof algorithm);
}

static const OSSL_PARAM *sign_gettable(void *ctx, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)ctx;
    (void)provctx;
    return params;
}

const OSSL_DISPATCH falcon_signature_functions[] = {
    {OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))sign_new},
    {OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))sign_free},
    {OSSL_FUNC_SIGNATURE_DUPCTX, (void (*)(void))sign_dup},
    {OSSL_FUNC_SIGNATURE_SIGN_INIT, (void (*)(void))sign_init},
    {OSSL_FUNC_SIGNATURE_SIGN, (void (*)(void))sign_message},
    {OSSL_FUNC_SIGNATURE_VERIFY_INIT, (void (*)(void))verify_init},
    {OSSL_FUNC_SIGNATURE_VERIFY, (void (*)(void))verify_message},
    {OSSL_FUNC_SIGNATURE_SIGN_MESSAGE_INIT, (void (*)(void))sign_init},
    {OSSL_FUNC_SIGNATURE_VERIFY_MESSAGE_INIT, (void (*)(void))verify_init},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))digest_sign_init},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))sign_message},
    {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY_INIT, (void (*)(void))digest_verify_init},
    {OSSL_FUNC_SIGNATURE_DIGEST_VERIFY, (void (*)(void))verify_message},
    {OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))sign_get},
    {OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))sign_gettable},
    OSSL_DISPATCH_END,
};
