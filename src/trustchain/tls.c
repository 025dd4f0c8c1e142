// TLS between nodes: whom we are willing to talk to is decided by one function of the certificate.
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "trustchain/x509.h"

typedef struct peer_hook {
    tc_peer_check check;
    void *ctx; // borrowed
} peer_hook;

// Where an SSL_CTX keeps its hook, so that it is freed with it.
static int hook_index;
static CRYPTO_ONCE hook_once = CRYPTO_ONCE_STATIC_INIT;

static void hook_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    (void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
    free(ptr);
}

static void hook_index_make(void)
{
    hook_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, hook_free);
}

// The X.509 code that makes TLS send the alert that says what was wrong.
static int verify_code(hm_err err)
{
    switch (err) {
    case HM_E_CERT_EXPIRED:
        return X509_V_ERR_CERT_HAS_EXPIRED;
    case HM_E_CERT_REVOKED:
        return X509_V_ERR_CERT_REVOKED;
    case HM_E_CERT_UNTRUSTED:
        return X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT;
    default:
        return X509_V_ERR_CERT_REJECTED;
    }
}

static int peer_verify(X509_STORE_CTX *store, void *arg)
{
    const peer_hook *hook = arg;
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    hm_buf der = {0};
    hm_err err = leaf ? x509_cert_der(leaf, &der) : HM_E_CERT_MISSING;
    if (err == HM_OK)
        err = hook->check(hook->ctx, hm_buf_bytes(&der));
    hm_buf_free(&der);
    X509_STORE_CTX_set_error(store, err == HM_OK ? X509_V_OK : verify_code(err));
    return err == HM_OK;
}

static hm_err tls_chain(SSL_CTX *ctx, hm_bytes chain_pem)
{
    BIO *mem = BIO_new_mem_buf(chain_pem.ptr, (int)chain_pem.len);
    X509 *x = mem ? PEM_read_bio_X509(mem, NULL, NULL, NULL) : NULL;
    bool ok = x && SSL_CTX_use_certificate(ctx, x) == 1;
    X509_free(x);
    while (ok && (x = PEM_read_bio_X509(mem, NULL, NULL, NULL)) != NULL) {
        ok = SSL_CTX_add1_chain_cert(ctx, x) == 1;
        X509_free(x);
    }
    BIO_free(mem);
    if (!ok)
        return hm_crypto_fail(HM_E_CONFIG, "the node's certificate chain cannot be used");
    ERR_clear_error(); // the end of the PEM text
    return HM_OK;
}

hm_err tc_node_tls(bool is_server, const hm_key *key, hm_bytes chain_pem, tc_peer_check check,
                   void *check_ctx, SSL_CTX **out)
{
    hm_err err;
    peer_hook *hook = NULL;
    SSL_CTX *ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (!ctx || !CRYPTO_THREAD_run_once(&hook_once, hook_index_make) ||
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set1_groups_list(ctx, "X25519MLKEM768") != 1 ||
        SSL_CTX_set1_sigalgs_list(ctx, HM_FALCON_NAME) != 1 ||
        SSL_CTX_set1_client_sigalgs_list(ctx, HM_FALCON_NAME) != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot prepare TLS (was hm_crypto_init() called?)");
        goto out;
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    HM_TRY_OUT(tls_chain(ctx, chain_pem));
    if (SSL_CTX_use_PrivateKey(ctx, hm_key_evp(key)) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        err = hm_crypto_fail(HM_E_CONFIG, "the node's certificate is not for its key");
        goto out;
    }
    hook = malloc(sizeof *hook);
    if (!hook || !SSL_CTX_set_ex_data(ctx, hook_index, hook)) {
        free(hook);
        err = HM_E_NOMEM;
        goto out;
    }
    *hook = (peer_hook){check, check_ctx};
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, peer_verify, hook);
    *out = ctx;
    ctx = NULL;
out:
    SSL_CTX_free(ctx);
    return err;
}
