#include "crypto/provider.h"

#include <openssl/prov_ssl.h>
#include <stdlib.h>

static const OSSL_ALGORITHM keymgmts[] = {
    {HM_FALCON_NAME ":" HM_FALCON_OID, FALCON_PROPS, falcon_keymgmt_functions, "FALCON-1024"},
    {NULL, NULL, NULL, NULL},
};
static const OSSL_ALGORITHM signatures[] = {
    {HM_FALCON_NAME ":" HM_FALCON_OID, FALCON_PROPS, falcon_signature_functions, "FALCON-1024"},
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM *provider_query(void *provctx, int operation, int *no_cache)
{
    (void)provctx;
    *no_cache = 0;
    switch (operation) {
    case OSSL_OP_KEYMGMT:
        return keymgmts;
    case OSSL_OP_SIGNATURE:
        return signatures;
    case OSSL_OP_ENCODER:
        return falcon_encoders;
    case OSSL_OP_DECODER:
        return falcon_decoders;
    default:
        return NULL;
    }
}

// provider-base(7), "CAPABILITIES": the signature scheme for TLS 1.3.
static int provider_capabilities(void *provctx, const char *capability, OSSL_CALLBACK *cb,
                                 void *arg)
{
    unsigned code_point = HM_FALCON_TLS, bits = FALCON_SECURITY_BITS;
    int min_tls = TLS1_3_VERSION, max_tls = 0, no_dtls = -1;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_SIGALG_IANA_NAME,
                                         (char *)HM_FALCON_NAME, 0),
        OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_SIGALG_NAME, (char *)HM_FALCON_NAME,
                                         0),
        OSSL_PARAM_construct_utf8_string(OSSL_CAPABILITY_TLS_SIGALG_OID, (char *)HM_FALCON_OID, 0),
        OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_SIGALG_CODE_POINT, &code_point),
        OSSL_PARAM_construct_uint(OSSL_CAPABILITY_TLS_SIGALG_SECURITY_BITS, &bits),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_SIGALG_MIN_TLS, &min_tls),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_SIGALG_MAX_TLS, &max_tls),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_SIGALG_MIN_DTLS, &no_dtls),
        OSSL_PARAM_construct_int(OSSL_CAPABILITY_TLS_SIGALG_MAX_DTLS, &no_dtls),
        OSSL_PARAM_construct_end(),
    };
    (void)provctx;
    // Having none of another capability is no failure: 0 would end the making of every SSL_CTX.
    return strcmp(capability, "TLS-SIGALG") == 0 ? cb(params, arg) : 1;
}

static const OSSL_PARAM *provider_gettable(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, NULL, 0),
        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL),
        OSSL_PARAM_END,
    };
    (void)provctx;
    return params;
}

static int provider_get(void *provctx, OSSL_PARAM params[])
{
    OSSL_PARAM *p;
    (void)provctx;
    p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_NAME);
    if (p && !OSSL_PARAM_set_utf8_ptr(p, "HyperMesh FALCON-1024"))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_VERSION);
    if (p && !OSSL_PARAM_set_utf8_ptr(p, HM_VERSION))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
    return !p || OSSL_PARAM_set_int(p, 1);
}

static void provider_teardown(void *provctx)
{
    free(provctx);
}

static const OSSL_DISPATCH provider_functions[] = {
    {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))provider_teardown},
    {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))provider_gettable},
    {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))provider_get},
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))provider_query},
    {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))provider_capabilities},
    OSSL_DISPATCH_END,
};

int falcon_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provctx)
{
    OSSL_FUNC_core_obj_create_fn *obj_create = NULL;
    OSSL_FUNC_core_obj_add_sigid_fn *obj_add_sigid = NULL;
    falcon_provider *p = calloc(1, sizeof *p);
    if (!p)
        return 0;
    p->handle = handle;
    for (; in->function_id != 0; in++) {
        switch (in->function_id) {
        case OSSL_FUNC_CORE_OBJ_CREATE:
            obj_create = OSSL_FUNC_core_obj_create(in);
            break;
        case OSSL_FUNC_CORE_OBJ_ADD_SIGID:
            obj_add_sigid = OSSL_FUNC_core_obj_add_sigid(in);
            break;
        case OSSL_FUNC_BIO_READ_EX:
            p->bio_read = OSSL_FUNC_BIO_read_ex(in);
            break;
        case OSSL_FUNC_BIO_WRITE_EX:
            p->bio_write = OSSL_FUNC_BIO_write_ex(in);
            break;
        default:
            break;
        }
    }
    // The OID as a signature algorithm without a digest of its own, so that X.509 finds the key
    // type from the signature's OID. Both calls are harmless when it is known already.
    if (!obj_create || !obj_add_sigid || !p->bio_read || !p->bio_write ||
        !obj_create(handle, HM_FALCON_OID, HM_FALCON_NAME, HM_FALCON_NAME) ||
        !obj_add_sigid(handle, HM_FALCON_OID, "", HM_FALCON_OID)) {
        free(p);
        return 0;
    }
    *provctx = p;
    *out = provider_functions;
    return 1;
}
