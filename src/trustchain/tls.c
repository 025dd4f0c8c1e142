// TLS: between nodes, where one function of the certificate decides whom we are willing to talk to,
// and of other servers and clients, where roots and a revocation list do.
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "trustchain/x509.h"

#define GROUPS "X25519MLKEM768"
#define CLASSIC_SIGALGS                                                                            \
    "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:rsa_pss_rsae_sha256:"                   \
    "rsa_pss_rsae_sha384:rsa_pss_rsae_sha512"
#define CHAIN_DEPTH_MAX 4
#define CHAIN_FILE_MAX (1u << 20)
#define ROOTS_FILE_MAX (4u << 20)

typedef struct peer_hook {
    tc_peer_check check;
    tc_chain_check chain; // in its place; NULL: none
    void *ctx;            // borrowed
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

// What stands behind the leaf in what the peer showed, or NULL.
static X509 *behind(X509_STORE_CTX *store, const X509 *leaf)
{
    STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(store);
    for (int i = 0; i < sk_X509_num(shown); i++) // -1 for NULL
        if (X509_cmp(sk_X509_value(shown, i), leaf) != 0)
            return sk_X509_value(shown, i);
    return NULL;
}

static int peer_verify(X509_STORE_CTX *store, void *arg)
{
    const peer_hook *hook = arg;
    X509 *leaf = X509_STORE_CTX_get0_cert(store), *issuing = leaf ? behind(store, leaf) : NULL;
    hm_buf der = {0}, issuing_der = {0};
    hm_err err = leaf ? x509_cert_der(leaf, &der) : HM_E_CERT_MISSING;
    if (err == HM_OK && hook->chain && issuing)
        err = x509_cert_der(issuing, &issuing_der);
    if (err == HM_OK)
        err = hook->chain ? hook->chain(hook->ctx, hm_buf_bytes(&der), hm_buf_bytes(&issuing_der))
                          : hook->check(hook->ctx, hm_buf_bytes(&der));
    hm_buf_free(&der);
    hm_buf_free(&issuing_der);
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
        return hm_crypto_fail(HM_E_CONFIG, "the certificate chain cannot be used");
    ERR_clear_error(); // the end of the PEM text
    return HM_OK;
}

static hm_err tls_identity(SSL_CTX *ctx, EVP_PKEY *key, hm_bytes chain_pem)
{
    HM_TRY(tls_chain(ctx, chain_pem));
    if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1)
        return hm_crypto_fail(HM_E_CONFIG, "the certificate is not for its key");
    return HM_OK;
}

// TLS 1.3 without resumption, with these groups and signature algorithms: own is what this side may
// sign with, theirs what it takes.
static hm_err tls_new(bool is_server, const char *groups, const char *own, const char *theirs,
                      SSL_CTX **out)
{
    SSL_CTX *ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    if (!ctx || !CRYPTO_THREAD_run_once(&hook_once, hook_index_make) ||
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set1_groups_list(ctx, groups) != 1 ||
        SSL_CTX_set1_sigalgs_list(ctx, is_server ? own : theirs) != 1 ||
        SSL_CTX_set1_client_sigalgs_list(ctx, is_server ? theirs : own) != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1) {
        SSL_CTX_free(ctx);
        return hm_crypto_fail(HM_E_CRYPTO, "cannot prepare TLS (was hm_crypto_init() called?)");
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    *out = ctx;
    return HM_OK;
}

// The hook is freed with the context.
static hm_err tls_hook(SSL_CTX *ctx, const void *hook, size_t size,
                       int (*verify)(X509_STORE_CTX *, void *))
{
    void *copy = malloc(size);
    if (!copy || !SSL_CTX_set_ex_data(ctx, hook_index, copy)) {
        free(copy);
        return HM_E_NOMEM;
    }
    memcpy(copy, hook, size);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, verify, copy);
    return HM_OK;
}

hm_err tc_node_tls(bool is_server, const hm_key *key, hm_bytes chain_pem, tc_peer_check check,
                   void *check_ctx, SSL_CTX **out)
{
    SSL_CTX *ctx;
    peer_hook hook = {.check = check, .ctx = check_ctx};
    HM_TRY(tls_new(is_server, GROUPS, HM_FALCON_NAME, HM_FALCON_NAME, &ctx));
    hm_err err = tls_identity(ctx, hm_key_evp(key), chain_pem);
    if (err == HM_OK)
        err = tls_hook(ctx, &hook, sizeof hook, peer_verify);
    if (err != HM_OK) {
        SSL_CTX_free(ctx);
        return err;
    }
    *out = ctx;
    return HM_OK;
}

void tc_node_tls_chain_check(SSL_CTX *ctx, tc_chain_check check)
{
    peer_hook *hook = SSL_CTX_get_ex_data(ctx, hook_index);
    hm_assert(hook);
    hook->chain = check;
}

// SSL_new() takes references to what the context has then, so connections that are there keep
// theirs.
hm_err tc_node_tls_renew(SSL_CTX *ctx, const hm_key *key, hm_bytes chain_pem)
{
    BIO *mem = BIO_new_mem_buf(chain_pem.ptr, (int)chain_pem.len);
    STACK_OF(X509) *more = sk_X509_new_null();
    X509 *leaf = mem ? PEM_read_bio_X509(mem, NULL, NULL, NULL) : NULL, *x;
    bool ok = leaf && more;
    while (ok && (x = PEM_read_bio_X509(mem, NULL, NULL, NULL)) != NULL)
        if (!sk_X509_push(more, x)) {
            X509_free(x);
            ok = false;
        }
    // All at once, or nothing.
    ok = ok && SSL_CTX_use_cert_and_key(ctx, leaf, hm_key_evp(key), more, 1) == 1;
    sk_X509_pop_free(more, X509_free);
    X509_free(leaf);
    BIO_free(mem);
    if (!ok)
        return hm_crypto_fail(HM_E_CONFIG, "the new certificate chain cannot be used");
    ERR_clear_error(); // the end of the PEM text
    return HM_OK;
}

// ---- a client that is told what the server showed
// ------------------------------------------------

typedef struct path_hook {
    tc_path_check check;
    void *ctx; // borrowed
} path_hook;

static hm_err path_ask(const path_hook *hook, X509_STORE_CTX *store)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(store);
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
    char *address = X509_VERIFY_PARAM_get1_ip_asc(param);
    hm_buf der[TC_PATH_SHOWN_MAX] = {0};
    hm_bytes chain[TC_PATH_SHOWN_MAX];
    size_t n = 0;
    hm_err err = leaf ? x509_cert_der(leaf, &der[n++]) : HM_E_CERT_MISSING;
    for (int i = 0; err == HM_OK && i < sk_X509_num(shown); i++) { // -1 for NULL
        X509 *x = sk_X509_value(shown, i);
        if (X509_cmp(x, leaf) == 0)
            continue;
        err = n < TC_PATH_SHOWN_MAX
                  ? x509_cert_der(x, &der[n++])
                  : hm_fail(HM_E_CERT_UNTRUSTED, "more than %u certificates were shown",
                            TC_PATH_SHOWN_MAX);
    }
    for (size_t i = 0; i < n; i++)
        chain[i] = hm_buf_bytes(&der[i]);
    if (err == HM_OK)
        err = hook->check(hook->ctx, chain, n,
                          address ? address : X509_VERIFY_PARAM_get0_host(param, 0));
    for (size_t i = 0; i < n; i++)
        hm_buf_free(&der[i]);
    OPENSSL_free(address);
    return err;
}

static int path_hook_verify(X509_STORE_CTX *store, void *arg)
{
    ERR_set_mark();
    hm_err err = path_ask(arg, store);
    ERR_pop_to_mark();
    X509_STORE_CTX_set_error(store, err == HM_OK ? X509_V_OK : verify_code(err));
    return err == HM_OK;
}

hm_err tc_path_tls(const char *groups, tc_path_check check, void *check_ctx, SSL_CTX **out)
{
    static const char all[] = HM_FALCON_NAME ":" CLASSIC_SIGALGS;
    SSL_CTX *ctx = NULL;
    const path_hook hook = {.check = check, .ctx = check_ctx};
    HM_TRY(tls_new(false, groups ? groups : GROUPS, all, all, &ctx));
    hm_err err = tls_hook(ctx, &hook, sizeof hook, path_hook_verify);
    if (err != HM_OK) {
        SSL_CTX_free(ctx);
        return err;
    }
    *out = ctx;
    return HM_OK;
}

// ---- other servers and clients ------------------------------------------------------------------

static bool is_falcon(const X509 *x)
{
    EVP_PKEY *key = X509_get0_pubkey(x);
    return key && EVP_PKEY_is_a(key, HM_FALCON_NAME);
}

// A node has no DNS name: what was asked for must be its label or id, or an address, which says
// nothing about who answers there.
static int node_verify(X509_STORE_CTX *store, X509 *leaf)
{
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
    char *address = X509_VERIFY_PARAM_get1_ip_asc(param), id[2 * HM_HASH_BYTES + 1];
    const char *asked = address ? NULL : X509_VERIFY_PARAM_get0_host(param, 0);
    char *name = asked ? OPENSSL_strdup(asked) : NULL;
    tc_node_cert node;
    int code = X509_V_OK;
    if (X509_VERIFY_PARAM_set1_host(param, NULL, 0) != 1 ||
        X509_VERIFY_PARAM_set1_ip(param, NULL, 0) != 1 || (asked && !name)) {
        code = X509_V_ERR_OUT_OF_MEM;
    } else if (X509_verify_cert(store) != 1) {
        code = X509_STORE_CTX_get_error(store);
    } else if (x509_node_profile(leaf, &node) != HM_OK) {
        code = X509_V_ERR_CERT_REJECTED;
    } else if (name) {
        hm_hex(id, node.node.b, HM_HASH_BYTES);
        if (strcmp(name, node.name) != 0 && strcmp(name, id) != 0)
            code = X509_V_ERR_HOSTNAME_MISMATCH;
    }
    OPENSSL_free(address);
    OPENSSL_free(name);
    X509_STORE_CTX_set_error(store, code);
    return code == X509_V_OK;
}

static int chain_verify(X509_STORE_CTX *store, void *arg)
{
    const hm_clock *const *clock = arg;
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    ERR_set_mark(); // questions whose answer is no leave errors that are none of the handshake's
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(store),
                               (time_t)(hm_clock_wall_ms(*clock) / 1000));
    int ok = leaf && is_falcon(leaf) ? node_verify(store, leaf) : X509_verify_cert(store);
    ERR_pop_to_mark();
    return ok;
}

// Reads all certificates of a PEM file into the store; which kinds of key they have.
static hm_err roots_read(SSL_CTX *ctx, const char *path, bool *falcon, bool *classic)
{
    hm_buf pem = {0};
    X509 *x;
    hm_err err = hm_file_read(path, ROOTS_FILE_MAX, &pem);
    if (err != HM_OK)
        return err;
    BIO *mem = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    while (err == HM_OK && mem && (x = PEM_read_bio_X509(mem, NULL, NULL, NULL)) != NULL) {
        *(is_falcon(x) ? falcon : classic) = true;
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), x) != 1 ||
            SSL_CTX_add_client_CA(ctx, x) != 1)
            err = hm_crypto_fail(HM_E_CONFIG, path);
        X509_free(x);
    }
    BIO_free(mem);
    hm_buf_free(&pem);
    ERR_clear_error();
    if (err == HM_OK && !*falcon && !*classic)
        err = hm_fail(HM_E_CONFIG, "%s holds no certificate in PEM", path);
    return err;
}

// One list, or several behind each other: each issuing CA has its own.
static hm_err crl_load(SSL_CTX *ctx, const char *path)
{
    hm_buf der = {0};
    hm_err err = hm_file_read(path, TC_ISSUING_MAX * TC_CRL_MAX, &der);
    if (err != HM_OK)
        return err;
    const uint8_t *at = der.ptr, *end = der.ptr + der.len;
    do {
        X509_CRL *crl = d2i_X509_CRL(NULL, &at, end - at);
        if (!crl || X509_STORE_add_crl(SSL_CTX_get_cert_store(ctx), crl) != 1 ||
            X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_CRL_CHECK) != 1)
            err = hm_fail(HM_E_CONFIG, "%s is not a revocation list in DER", path);
        // OpenSSL makes nothing of it alone, and would refuse every peer.
        else if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
            err = hm_fail(HM_E_CONFIG, "%s is a delta: give the whole revocation list", path);
        X509_CRL_free(crl);
    } while (err == HM_OK && at < end);
    hm_buf_free(&der);
    ERR_clear_error();
    return err;
}

static hm_err trust_load(SSL_CTX *ctx, const tc_tls_config *cfg)
{
    bool falcon = false, classic = false;
    HM_TRY(roots_read(ctx, cfg->roots_path, &falcon, &classic));
    // Asking for what no root here vouches for would let the peer choose a certificate in vain.
    const char *sigalgs = !falcon    ? CLASSIC_SIGALGS
                          : !classic ? HM_FALCON_NAME
                                     : HM_FALCON_NAME ":" CLASSIC_SIGALGS;
    if ((cfg->is_server ? SSL_CTX_set1_client_sigalgs_list(ctx, sigalgs)
                        : SSL_CTX_set1_sigalgs_list(ctx, sigalgs)) != 1)
        return hm_crypto_fail(HM_E_CRYPTO, "signature algorithms");
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
    SSL_CTX_set_verify_depth(ctx, CHAIN_DEPTH_MAX);
    if (cfg->crl_path)
        HM_TRY(crl_load(ctx, cfg->crl_path));
    return tls_hook(ctx, &cfg->clock, sizeof cfg->clock, chain_verify);
}

static hm_err identity_load(SSL_CTX *ctx, const char *cert_path, const char *key_path)
{
    EVP_PKEY *key = NULL;
    hm_buf chain = {0};
    hm_err err;
    HM_TRY_OUT(hm_file_read(cert_path, CHAIN_FILE_MAX, &chain));
    HM_TRY_OUT(x509_key_load(key_path, &key));
    err = tls_identity(ctx, key, hm_buf_bytes(&chain));
    if (err != HM_OK) {
        char why[200];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        hm_fail(err, "%s, %s: %s", cert_path, key_path, why);
    }
out:
    EVP_PKEY_free(key);
    hm_buf_free(&chain);
    return err;
}

hm_err tc_tls(const tc_tls_config *cfg, SSL_CTX **out)
{
    static const char all[] = HM_FALCON_NAME ":" CLASSIC_SIGALGS;
    SSL_CTX *ctx = NULL;
    hm_assert(cfg->is_server || cfg->roots_path);
    hm_err err = tls_new(cfg->is_server, cfg->groups ? cfg->groups : GROUPS, all, all, &ctx);
    if (err != HM_OK)
        return cfg->groups ? hm_fail(HM_E_CONFIG, "\"%.100s\" are no TLS groups", cfg->groups)
                           : err;
    for (size_t i = 0; err == HM_OK && i < TC_TLS_IDENTITIES && cfg->ids[i].cert_path; i++)
        err = identity_load(ctx, cfg->ids[i].cert_path, cfg->ids[i].key_path);
    if (err == HM_OK && cfg->roots_path)
        err = trust_load(ctx, cfg);
    if (err != HM_OK) { // a file that is missing, private, or something else than was said
        char why[400];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        SSL_CTX_free(ctx);
        return err == HM_E_NOMEM ? err : hm_fail(HM_E_CONFIG, "%s", why);
    }
    *out = ctx;
    return HM_OK;
}
