// Key management: provider-keymgmt(7).
#include <stdlib.h>

#include "crypto/provider.h"

falcon_key *falcon_key_new(void)
{
    falcon_key *k = calloc(1, sizeof *k);
    if (k)
        atomic_init(&k->refs, 1);
    return k;
}

bool falcon_key_private(falcon_key *k, const uint8_t priv[HM_FALCON_PRIVATE_BYTES])
{
    if (!k->priv)
        k->priv = falcon_pages(HM_FALCON_PRIVATE_BYTES);
    if (!k->priv)
        return false;
    memcpy(k->priv, priv, HM_FALCON_PRIVATE_BYTES);
    falcon_signer_free(atomic_exchange(&k->signer, NULL));
    return true;
}

const falcon_signer *falcon_key_signer(falcon_key *k)
{
    falcon_signer *made, *have = atomic_load(&k->signer);
    if (have || !k->priv || falcon_signer_new(k->priv, &made) != HM_OK)
        return have;
    if (atomic_compare_exchange_strong(&k->signer, &have, made))
        return made;
    falcon_signer_free(made);
    return have;
}

falcon_key *falcon_key_ref(falcon_key *k)
{
    atomic_fetch_add(&k->refs, 1);
    return k;
}

void falcon_key_unref(falcon_key *k)
{
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    falcon_pages_free(k->priv, HM_FALCON_PRIVATE_BYTES);
    falcon_signer_free(atomic_load(&k->signer));
    free(k);
}

static void *key_new(void *provctx)
{
    (void)provctx;
    return falcon_key_new();
}

static void key_free(void *key)
{
    falcon_key_unref(key);
}

static void *key_dup(const void *key, int selection)
{
    const falcon_key *from = key;
    falcon_key *k = falcon_key_new();
    if (!k)
        return NULL;
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) && from->has_public) {
        memcpy(k->pub, from->pub, sizeof k->pub);
        k->has_public = true;
    }
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && from->priv) {
        if (!falcon_key_private(k, from->priv)) {
            falcon_key_unref(k);
            return NULL;
        }
    }
    return k;
}

// Takes the key that a decoder made: reference holds a pointer to it.
static void *key_load(const void *reference, size_t size)
{
    falcon_key *k;
    if (size != sizeof k)
        return NULL;
    k = *(falcon_key **)reference;
    *(falcon_key **)reference = NULL;
    return k;
}

static int key_has(const void *key, int selection)
{
    const falcon_key *k = key;
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) && !k->has_public)
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && !k->priv)
        return 0;
    return 1;
}

static int key_match(const void *a, const void *b, int selection)
{
    const falcon_key *x = a, *y = b;
    if (selection & OSSL_KEYMGMT_SELECT_KEYPAIR) {
        // Each private key has one public key, so comparing these is enough.
        return x->has_public && y->has_public && memcmp(x->pub, y->pub, sizeof x->pub) == 0;
    }
    return 1;
}

static const OSSL_PARAM key_types[] = {
    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, NULL, 0),
    OSSL_PARAM_END,
};

static const OSSL_PARAM *key_import_types(int selection)
{
    return selection & OSSL_KEYMGMT_SELECT_KEYPAIR ? key_types : NULL;
}

static int key_import(void *key, int selection, const OSSL_PARAM params[])
{
    falcon_key *k = key;
    const OSSL_PARAM *pub = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY);
    const OSSL_PARAM *priv = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PRIV_KEY);
    uint8_t computed[HM_FALCON_PUBLIC_BYTES];

    if (!(selection & OSSL_KEYMGMT_SELECT_KEYPAIR))
        return 0;
    if (priv && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)) {
        if (priv->data_type != OSSL_PARAM_OCTET_STRING ||
            priv->data_size != HM_FALCON_PRIVATE_BYTES ||
            falcon_public_of_private(priv->data, computed) != HM_OK ||
            !falcon_key_private(k, priv->data))
            return 0;
        memcpy(k->pub, computed, sizeof k->pub);
        k->has_public = true;
    }
    if (pub) {
        if (pub->data_type != OSSL_PARAM_OCTET_STRING ||
            falcon_public_check(hm_bytes_of(pub->data, pub->data_size)) != HM_OK)
            return 0;
        if (k->priv && memcmp(k->pub, pub->data, sizeof k->pub) != 0)
            return 0;
        memcpy(k->pub, pub->data, sizeof k->pub);
        k->has_public = true;
    }
    return k->has_public;
}

static int key_export(void *key, int selection, OSSL_CALLBACK *cb, void *arg)
{
    falcon_key *k = key;
    OSSL_PARAM params[3];
    size_t n = 0;
    if (!(selection & OSSL_KEYMGMT_SELECT_KEYPAIR))
        return 0;
    if ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) && k->has_public)
        params[n++] =
            OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, k->pub, sizeof k->pub);
    if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) && k->priv)
        params[n++] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, k->priv,
                                                        HM_FALCON_PRIVATE_BYTES);
    params[n] = OSSL_PARAM_construct_end();
    return cb(params, arg);
}

static const OSSL_PARAM *key_gettable(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return params;
}

static int key_get(void *key, OSSL_PARAM params[])
{
    falcon_key *k = key;
    OSSL_PARAM *p;
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_BITS)) &&
        !OSSL_PARAM_set_int(p, 8 * HM_FALCON_PUBLIC_BYTES))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_SECURITY_BITS)) &&
        !OSSL_PARAM_set_int(p, FALCON_SECURITY_BITS))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MAX_SIZE)) &&
        !OSSL_PARAM_set_int(p, HM_FALCON_SIGNATURE_MAX))
        return 0;
    // FALCON hashes by itself: no digest may be named.
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MANDATORY_DIGEST)) &&
        !OSSL_PARAM_set_utf8_string(p, ""))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_PUB_KEY)) &&
        (!k->has_public || !OSSL_PARAM_set_octet_string(p, k->pub, sizeof k->pub)))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_PRIV_KEY)) &&
        (!k->priv || !OSSL_PARAM_set_octet_string(p, k->priv, HM_FALCON_PRIVATE_BYTES)))
        return 0;
    return 1;
}

// Generation has no parameters; the context only remembers that it was asked for.
static void *key_gen_init(void *provctx, int selection, const OSSL_PARAM params[])
{
    (void)params;
    return selection & OSSL_KEYMGMT_SELECT_KEYPAIR ? provctx : NULL;
}

static void *key_gen(void *genctx, OSSL_CALLBACK *cb, void *arg)
{
    uint8_t priv[HM_FALCON_PRIVATE_BYTES];
    falcon_key *k = falcon_key_new();
    (void)genctx;
    (void)cb;
    (void)arg;
    if (!k)
        return NULL;
    k->has_public = falcon_keypair(k->pub, priv) == HM_OK && falcon_key_private(k, priv);
    hm_zero(priv, sizeof priv);
    if (k->has_public)
        return k;
    falcon_key_unref(k);
    return NULL;
}

static void key_gen_cleanup(void *genctx)
{
    (void)genctx;
}

static const char *key_operation_name(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? HM_FALCON_NAME : NULL;
}

const OSSL_DISPATCH falcon_keymgmt_functions[] = {
    {OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))key_new},
    {OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))key_free},
    {OSSL_FUNC_KEYMGMT_DUP, (void (*)(void))key_dup},
    {OSSL_FUNC_KEYMGMT_LOAD, (void (*)(void))key_load},
    {OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))key_has},
    {OSSL_FUNC_KEYMGMT_MATCH, (void (*)(void))key_match},
    {OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))key_import},
    {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))key_import_types},
    {OSSL_FUNC_KEYMGMT_EXPORT, (void (*)(void))key_export},
    {OSSL_FUNC_KEYMGMT_EXPORT_TYPES, (void (*)(void))key_import_types},
    {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))key_gettable},
    {OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))key_get},
    {OSSL_FUNC_KEYMGMT_GEN_INIT, (void (*)(void))key_gen_init},
    {OSSL_FUNC_KEYMGMT_GEN, (void (*)(void))key_gen},
    {OSSL_FUNC_KEYMGMT_GEN_CLEANUP, (void (*)(void))key_gen_cleanup},
    {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))key_operation_name},
    OSSL_DISPATCH_END,
};
