#include "trustchain/hsm.h"

#include <dlfcn.h>
#include <openssl/core_names.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/store.h>
#include <p11-kit/pkcs11.h>
#include <p11-kit/uri.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/crypto.h"

#define PATH_BYTES 4096
#define PIN_MAX 256u
#define SLOTS_MAX 64u
#define NONCE_BYTES 12u
#define TAG_BYTES 16u
#define POINT_BYTES 97u // an uncompressed point of P-384

struct hsm {
    char token[33]; // PKCS #11 labels have 32 bytes at most
    char module[PATH_BYTES], pin_path[PATH_BYTES];
    void *library; // of the module; loaded until close
    CK_FUNCTION_LIST *f;
    bool initialised; // C_Initialize() was called
    CK_SESSION_HANDLE session;
    bool logged_in;     // session is one
    bool pin_refused;   // never tried again
    OSSL_LIB_CTX *ossl; // owned; with pkcs11-provider in it, made at the first need
    OSSL_PROVIDER *providers[2];
};

// ---- connection ---------------------------------------------------------------------------------

static hm_err gone(const hsm *h, const char *what, CK_RV rv)
{
    return hm_fail(HM_E_BUSY,
                   "the token %s cannot be used: %s (PKCS #11 error 0x%lx); is it there?", h->token,
                   what, (unsigned long)rv);
}

// Forgets all that the module and OpenSSL know of the token, so that the next call begins anew.
static void drop(hsm *h)
{
    for (int i = 0; i < 2; i++) {
        if (h->providers[i])
            OSSL_PROVIDER_unload(h->providers[i]);
        h->providers[i] = NULL;
    }
    OSSL_LIB_CTX_free(h->ossl);
    h->ossl = NULL;
    if (h->initialised)
        h->f->C_Finalize(NULL);
    h->initialised = h->logged_in = false;
}

static hm_err find_slot(hsm *h, CK_SLOT_ID *out)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    size_t len = strlen(h->token);
    CK_RV rv = h->f->C_GetSlotList(CK_TRUE, slots, &count);
    if (rv != CKR_OK)
        return gone(h, "its module lists no slots", rv);
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (h->f->C_GetTokenInfo(slots[i], &info) != CKR_OK ||
            memcmp(info.label, h->token, len) != 0)
            continue;
        size_t end = len;
        while (end < sizeof info.label && info.label[end] == ' ')
            end++;
        if (end == sizeof info.label) {
            *out = slots[i];
            return HM_OK;
        }
    }
    return gone(h, "no slot holds it", CKR_TOKEN_NOT_PRESENT);
}

static hm_err login(hsm *h)
{
    hm_buf pin = {0};
    hm_err err;
    HM_TRY_OUT(hm_file_read_secret(h->pin_path, PIN_MAX, &pin));
    while (pin.len > 0 && (pin.ptr[pin.len - 1] == '\n' || pin.ptr[pin.len - 1] == '\r'))
        pin.len--;
    CK_RV rv = h->f->C_Login(h->session, CKU_USER, pin.ptr, pin.len);
    if (rv == CKR_PIN_INCORRECT || rv == CKR_PIN_LOCKED || rv == CKR_PIN_LEN_RANGE ||
        rv == CKR_PIN_INVALID) {
        h->pin_refused = true;
        err = hm_fail(HM_E_DENIED, "the token %s refuses the PIN in %s", h->token, h->pin_path);
    } else if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN) {
        err = gone(h, "no login", rv);
    }
out:
    hm_buf_free_secret(&pin);
    return err;
}

static hm_err connect_token(hsm *h)
{
    CK_SLOT_ID slot;
    CK_RV rv;
    hm_err err;
    if (h->pin_refused)
        return hm_fail(HM_E_DENIED,
                       "the token %s refused the PIN in %s: not tried again until the "
                       "server is restarted",
                       h->token, h->pin_path);
    rv = h->f->C_Initialize(&(CK_C_INITIALIZE_ARGS){.flags = CKF_OS_LOCKING_OK});
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return gone(h, "its module does not start", rv);
    h->initialised = true;
    HM_TRY_OUT(find_slot(h, &slot));
    rv = h->f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &h->session);
    if (rv != CKR_OK)
        HM_TRY_OUT(gone(h, "no session", rv));
    HM_TRY_OUT(login(h));
    h->logged_in = true;
out:
    if (err != HM_OK)
        drop(h);
    return err;
}

typedef hm_err (*token_act)(hsm *h, void *arg);

// A connection that an absent token has made stale is made anew once.
static hm_err with_token(hsm *h, token_act act, void *arg)
{
    bool fresh = !h->logged_in;
    if (fresh)
        HM_TRY(connect_token(h));
    hm_err err = act(h, arg);
    if (err == HM_E_BUSY && !fresh) {
        drop(h);
        HM_TRY(connect_token(h));
        err = act(h, arg);
    }
    if (err == HM_E_BUSY)
        drop(h);
    return err;
}

hm_err hsm_lost(hsm *h)
{
    drop(h);
    return gone(h, "it did not sign", CKR_DEVICE_REMOVED);
}

// ---- life cycle ---------------------------------------------------------------------------------

static hm_err copy_text(char *out, size_t size, const char *text, size_t len, const char *what)
{
    if (!text || len == 0 || len >= size)
        return hm_fail(HM_E_CONFIG, "the HSM's URI has no %s, or a very long one", what);
    memcpy(out, text, len);
    out[len] = 0;
    return HM_OK;
}

static hm_err pin_path_of(hsm *h, const char *source)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (source) {
        if (strncmp(source, "file:", 5) == 0)
            source += 5;
        if (source[0] != '/')
            return hm_fail(HM_E_CONFIG, "the URI's pin-source must be file:/FILE");
        return copy_text(h->pin_path, sizeof h->pin_path, source, strlen(source), "pin-source");
    }
    if (!dir ||
        (size_t)snprintf(h->pin_path, sizeof h->pin_path, "%s/hsm-pin", dir) >= sizeof h->pin_path)
        return hm_fail(HM_E_CONFIG,
                       "where is the PIN? name pin-source=file:/FILE in the HSM's URI, "
                       "or give the credential hsm-pin");
    return HM_OK;
}

static hm_err parse(hsm *h, const char *text)
{
    P11KitUri *uri = p11_kit_uri_new();
    hm_err err;
    if (!uri)
        return HM_E_NOMEM;
    if (strlen(text) > HSM_URI_MAX ||
        p11_kit_uri_parse(text, P11_KIT_URI_FOR_TOKEN | P11_KIT_URI_FOR_MODULE, uri) !=
            P11_KIT_URI_OK ||
        p11_kit_uri_any_unrecognized(uri))
        HM_TRY_OUT(hm_fail(HM_E_CONFIG, "the HSM's URI is not one of RFC 7512 that names a token"));
    if (p11_kit_uri_get_pin_value(uri))
        HM_TRY_OUT(hm_fail(HM_E_CONFIG, "no PIN may stand in the HSM's URI, where others see it: "
                                        "put it into a file and name that as pin-source"));
    const CK_TOKEN_INFO *info = p11_kit_uri_get_token_info(uri);
    size_t len = info->label[0] ? sizeof info->label : 0;
    while (len > 0 && info->label[len - 1] == ' ')
        len--;
    HM_TRY_OUT(copy_text(h->token, sizeof h->token, (const char *)info->label, len, "token"));
    const char *module = p11_kit_uri_get_module_path(uri);
    HM_TRY_OUT(
        copy_text(h->module, sizeof h->module, module, module ? strlen(module) : 0, "module-path"));
    err = pin_path_of(h, p11_kit_uri_get_pin_source(uri));
out:
    p11_kit_uri_free(uri);
    return err;
}

static hm_err load(hsm *h)
{
    CK_C_GetFunctionList get = NULL;
    h->library = dlopen(h->module, RTLD_NOW | RTLD_LOCAL);
    if (h->library)
        *(void **)&get = dlsym(h->library, "C_GetFunctionList");
    if (!get || get(&h->f) != CKR_OK)
        return hm_fail(HM_E_CONFIG, "%s is no PKCS #11 module that can be loaded", h->module);
    return HM_OK;
}

hm_err hsm_open(const char *uri, hsm **out)
{
    hm_err err;
    hsm *h = calloc(1, sizeof *h);
    if (!h)
        return HM_E_NOMEM;
    HM_TRY_OUT(parse(h, uri));
    HM_TRY_OUT(load(h));
    HM_TRY_OUT(connect_token(h));
    *out = h;
    h = NULL;
out:
    hsm_close(h);
    return err;
}

void hsm_close(hsm *h)
{
    if (!h)
        return;
    drop(h);
    if (h->library)
        dlclose(h->library);
    free(h);
}

// ---- objects ------------------------------------------------------------------------------------

typedef struct object_query {
    const hsm_id *id;
    CK_OBJECT_CLASS class;
    CK_OBJECT_HANDLE found;
} object_query;

static hm_err find_object(hsm *h, void *arg)
{
    object_query *q = arg;
    CK_ATTRIBUTE match[] = {{CKA_CLASS, &q->class, sizeof q->class},
                            {CKA_ID, (void *)q->id->b, sizeof q->id->b}};
    CK_ULONG count = 0;
    CK_RV rv = h->f->C_FindObjectsInit(h->session, match, 2);
    if (rv == CKR_OK) {
        rv = h->f->C_FindObjects(h->session, &q->found, 1, &count);
        h->f->C_FindObjectsFinal(h->session);
    }
    if (rv == CKR_OK && count == 0)
        rv = CKR_OBJECT_HANDLE_INVALID;
    return rv == CKR_OK ? HM_OK : gone(h, "it does not show our key", rv);
}

static hm_err check(hsm *h, void *arg)
{
    object_query q = {.id = arg, .class = CKO_SECRET_KEY};
    if (find_object(h, &q) == HM_OK)
        return HM_OK;
    q.class = CKO_PRIVATE_KEY;
    return find_object(h, &q);
}

hm_err hsm_check(hsm *h, const hsm_id *id)
{
    return with_token(h, check, (void *)id);
}

static hm_err destroy(hsm *h, void *arg)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    const hsm_id *id = arg;
    for (size_t i = 0; i < 2; i++) {
        CK_ATTRIBUTE match[] = {{CKA_CLASS, (void *)&classes[i], sizeof classes[i]},
                                {CKA_ID, (void *)id->b, sizeof id->b}};
        CK_OBJECT_HANDLE found;
        CK_ULONG count = 0;
        CK_RV rv = h->f->C_FindObjectsInit(h->session, match, 2);
        if (rv == CKR_OK) {
            rv = h->f->C_FindObjects(h->session, &found, 1, &count);
            h->f->C_FindObjectsFinal(h->session);
        }
        if (rv == CKR_OK && count == 1)
            rv = h->f->C_DestroyObject(h->session, found);
        if (rv != CKR_OK)
            return gone(h, "it does not remove a key", rv);
    }
    return HM_OK;
}

hm_err hsm_destroy(hsm *h, const hsm_id *id)
{
    return with_token(h, destroy, (void *)id);
}

typedef struct make_args {
    const char *label;
    hsm_id *id;
} make_args;

static hm_err ec_make(hsm *h, void *arg)
{
    make_args *m = arg;
    static const uint8_t p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}; // its OID in DER
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE pub, priv;
    CK_ATTRIBUTE of_pub[] = {
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_VERIFY, &yes, sizeof yes},
        {CKA_EC_PARAMS, (void *)p384, sizeof p384},
        {CKA_ID, m->id->b, sizeof m->id->b},
        {CKA_LABEL, (void *)m->label, strlen(m->label)},
    };
    CK_ATTRIBUTE of_priv[] = {
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_SIGN, &yes, sizeof yes},
        {CKA_ID, m->id->b, sizeof m->id->b},
        {CKA_LABEL, (void *)m->label, strlen(m->label)},
    };
    CK_RV rv = h->f->C_GenerateKeyPair(h->session, &mechanism, of_pub, 5, of_priv, 7, &pub, &priv);
    return rv == CKR_OK ? HM_OK : gone(h, "it makes no ECDSA key", rv);
}

hm_err hsm_ec_make(hsm *h, const char *label, hsm_id *id)
{
    hm_random_fill(&hm_random_system, id->b, sizeof id->b);
    return with_token(h, ec_make, &(make_args){label, id});
}

static hm_err aes_make(hsm *h, void *arg)
{
    make_args *m = arg;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG len = 32;
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_OBJECT_HANDLE key;
    CK_ATTRIBUTE of_key[] = {
        {CKA_TOKEN, &yes, sizeof yes},
        {CKA_PRIVATE, &yes, sizeof yes},
        {CKA_SENSITIVE, &yes, sizeof yes},
        {CKA_EXTRACTABLE, &no, sizeof no},
        {CKA_ENCRYPT, &yes, sizeof yes},
        {CKA_DECRYPT, &yes, sizeof yes},
        {CKA_VALUE_LEN, &len, sizeof len},
        {CKA_ID, m->id->b, sizeof m->id->b},
        {CKA_LABEL, (void *)m->label, strlen(m->label)},
    };
    CK_RV rv = h->f->C_GenerateKey(h->session, &mechanism, of_key, 9, &key);
    return rv == CKR_OK ? HM_OK : gone(h, "it makes no AES key", rv);
}

hm_err hsm_aes_make(hsm *h, const char *label, hsm_id *id)
{
    hm_random_fill(&hm_random_system, id->b, sizeof id->b);
    return with_token(h, aes_make, &(make_args){label, id});
}

// ---- ECDSA --------------------------------------------------------------------------------------

typedef struct ec_args {
    const hsm_id *id;
    EVP_PKEY *key;
} ec_args;

static hm_err ec_public(hsm *h, void *arg)
{
    ec_args *e = arg;
    uint8_t point[POINT_BYTES + 2]; // an OCTET STRING in DER
    CK_ATTRIBUTE want = {CKA_EC_POINT, point, sizeof point};
    object_query q = {.id = e->id, .class = CKO_PUBLIC_KEY};
    HM_TRY(find_object(h, &q));
    CK_RV rv = h->f->C_GetAttributeValue(h->session, q.found, &want, 1);
    if (rv != CKR_OK)
        return gone(h, "it does not tell a public key", rv);
    if (want.ulValueLen != sizeof point || point[0] != 0x04 || point[1] != POINT_BYTES)
        return hm_fail(HM_E_KEY, "the token %s tells no point of P-384", h->token);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){"P-384"}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point + 2, POINT_BYTES),
        OSSL_PARAM_construct_end(),
    };
    bool ok = ctx && EVP_PKEY_fromdata_init(ctx) > 0 &&
              EVP_PKEY_fromdata(ctx, &e->key, EVP_PKEY_PUBLIC_KEY, params) > 0;
    EVP_PKEY_CTX_free(ctx);
    return ok ? HM_OK : hm_crypto_fail(HM_E_KEY, "the token's public key cannot be used");
}

hm_err hsm_ec_public(hsm *h, const hsm_id *id, EVP_PKEY **out)
{
    ec_args e = {.id = id};
    HM_TRY(with_token(h, ec_public, &e));
    *out = e.key;
    return HM_OK;
}

static hm_err provider_load(hsm *h)
{
    char pin[PATH_BYTES + 8];
    snprintf(pin, sizeof pin, "file:%s", h->pin_path);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("pkcs11-module-path", h->module, 0),
        OSSL_PARAM_construct_utf8_string("pkcs11-module-token-pin", pin, 0),
        OSSL_PARAM_construct_end(),
    };
    if (h->ossl)
        return HM_OK;
    h->ossl = OSSL_LIB_CTX_new();
    if (h->ossl) {
        h->providers[0] = OSSL_PROVIDER_load(h->ossl, "default");
        h->providers[1] = OSSL_PROVIDER_load_ex(h->ossl, "pkcs11", params);
    }
    if (!h->ossl || !h->providers[0] || !h->providers[1])
        return hm_crypto_fail(HM_E_CONFIG,
                              "OpenSSL cannot load pkcs11-provider (is the package installed?)");
    return HM_OK;
}

static hm_err ec_signer(hsm *h, void *arg)
{
    ec_args *e = arg;
    char uri[256];
    size_t n;
    object_query q = {.id = e->id, .class = CKO_PRIVATE_KEY};
    HM_TRY(find_object(h, &q));
    HM_TRY(provider_load(h));
    n = (size_t)snprintf(uri, sizeof uri, "pkcs11:type=private;token=");
    for (const char *c = h->token; *c; c++)
        n += (size_t)snprintf(uri + n, sizeof uri - n, "%%%02x", (uint8_t)*c);
    n += (size_t)snprintf(uri + n, sizeof uri - n, ";id=");
    for (size_t i = 0; i < sizeof e->id->b; i++)
        n += (size_t)snprintf(uri + n, sizeof uri - n, "%%%02x", e->id->b[i]);
    OSSL_STORE_CTX *store =
        OSSL_STORE_open_ex(uri, h->ossl, "provider=pkcs11", NULL, NULL, NULL, NULL, NULL);
    while (store && !e->key && !OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        if (!info)
            break;
        if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
            e->key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
    }
    OSSL_STORE_close(store);
    return e->key ? HM_OK : hm_crypto_fail(HM_E_BUSY, "OpenSSL does not find the token's key");
}

hm_err hsm_ec_signer(hsm *h, const hsm_id *id, EVP_PKEY **out)
{
    ec_args e = {.id = id};
    HM_TRY(with_token(h, ec_signer, &e));
    *out = e.key;
    return HM_OK;
}

// ---- wrapping -----------------------------------------------------------------------------------

typedef struct wrap_args {
    const hsm_id *id;
    const uint8_t *nonce, *in;
    uint8_t *out;
    size_t in_len, out_len;
    bool wraps;
} wrap_args;

// C_WrapKey() takes only keys that the token itself holds: FALCON's are data to it.
static hm_err crypt(hsm *h, void *arg)
{
    wrap_args *w = arg;
    CK_GCM_PARAMS gcm = {.pIv = (uint8_t *)w->nonce,
                         .ulIvLen = NONCE_BYTES,
                         .ulIvBits = 8 * NONCE_BYTES,
                         .ulTagBits = 8 * TAG_BYTES};
    CK_MECHANISM mechanism = {CKM_AES_GCM, &gcm, sizeof gcm};
    object_query q = {.id = w->id, .class = CKO_SECRET_KEY};
    CK_ULONG len = w->wraps ? w->out_len : w->in_len;
    CK_RV rv;
    HM_TRY(find_object(h, &q));
    if (w->wraps) {
        rv = h->f->C_EncryptInit(h->session, &mechanism, q.found);
        if (rv == CKR_OK)
            rv = h->f->C_Encrypt(h->session, (uint8_t *)w->in, w->in_len, w->out, &len);
    } else {
        rv = h->f->C_DecryptInit(h->session, &mechanism, q.found);
        if (rv == CKR_OK)
            rv = h->f->C_Decrypt(h->session, (uint8_t *)w->in, w->in_len, w->out, &len);
    }
    if (rv == CKR_ENCRYPTED_DATA_INVALID ||
        (rv == CKR_GENERAL_ERROR && !w->wraps && check(h, (void *)w->id) == HM_OK))
        return hm_fail(HM_E_UNSEAL, "the token %s does not unwrap a key: it or its file is another",
                       h->token);
    if (rv == CKR_OK && len != w->out_len)
        return hm_fail(HM_E_CRYPTO, "the token %s gives %lu bytes instead of %zu", h->token,
                       (unsigned long)len, w->out_len);
    return rv == CKR_OK ? HM_OK : gone(h, "it does not wrap or unwrap", rv);
}

hm_err hsm_wrap(hsm *h, const hsm_id *id, hm_bytes plain, hm_buf *out)
{
    uint8_t *at = hm_buf_reserve(out, plain.len + HSM_WRAP_OVERHEAD);
    if (!at)
        return hm_buf_status(out);
    hm_random_fill(&hm_random_system, at, NONCE_BYTES);
    HM_TRY(with_token(h, crypt,
                      &(wrap_args){.id = id,
                                   .nonce = at,
                                   .in = plain.ptr,
                                   .in_len = plain.len,
                                   .out = at + NONCE_BYTES,
                                   .out_len = plain.len + TAG_BYTES,
                                   .wraps = true}));
    out->len += plain.len + HSM_WRAP_OVERHEAD;
    return HM_OK;
}

hm_err hsm_unwrap(hsm *h, const hsm_id *id, hm_bytes wrapped, uint8_t *out, size_t len)
{
    if (wrapped.len != len + HSM_WRAP_OVERHEAD)
        return hm_fail(HM_E_UNSEAL, "a wrapped key has %zu bytes, not %zu", wrapped.len,
                       len + HSM_WRAP_OVERHEAD);
    return with_token(h, crypt,
                      &(wrap_args){.id = id,
                                   .nonce = wrapped.ptr,
                                   .in = wrapped.ptr + NONCE_BYTES,
                                   .in_len = wrapped.len - NONCE_BYTES,
                                   .out = out,
                                   .out_len = len});
}
