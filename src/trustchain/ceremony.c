#include "trustchain/ceremony.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <unistd.h>

#include "trustchain/authority.h"

// As hard as N = 2^17, p = 1 by OWASP's table, in the 32 MiB that OpenSSL has for it when it reads
// a key (EVP_PBE_scrypt(3)).
#define SCRYPT_N 16384u
#define SCRYPT_R 8u
#define SCRYPT_P 5u
#define KEY_FILE_MAX 65536u
#define CHAIN_CERTS_MAX 8u

// ---- a root's key in its file -------------------------------------------------------------------

static hm_err key_write(const char *path, EVP_PKEY *key, const char *passphrase)
{
    PKCS8_PRIV_KEY_INFO *plain = EVP_PKEY2PKCS8(key);
    X509_ALGOR *how =
        PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), NULL, 0, NULL, SCRYPT_N, SCRYPT_R, SCRYPT_P);
    X509_SIG *sealed =
        plain && how ? PKCS8_set0_pbe(passphrase, (int)strlen(passphrase), plain, how) : NULL;
    BIO *mem = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len = 0;
    hm_err err;
    if (!sealed)
        X509_ALGOR_free(how);
    if (sealed && mem && PEM_write_bio_PKCS8(mem, sealed) == 1)
        len = BIO_get_mem_data(mem, &text);
    err = len > 0 ? hm_file_write(path, hm_bytes_of(text, (size_t)len), 0600)
                  : hm_crypto_fail(HM_E_CRYPTO, "cannot encrypt the root's key");
    BIO_free(mem);
    X509_SIG_free(sealed);
    PKCS8_PRIV_KEY_INFO_free(plain);
    return err;
}

static hm_err key_read(const char *path, const char *passphrase, EVP_PKEY **out)
{
    hm_buf file = {0};
    hm_err err = hm_file_read_secret(path, KEY_FILE_MAX, &file);
    if (err != HM_OK)
        return hm_fail(err, "%s: %s", path, hm_err_text(err));
    BIO *mem = BIO_new_mem_buf(file.ptr, (int)file.len);
    EVP_PKEY *key = mem ? PEM_read_bio_PrivateKey(mem, NULL, NULL, (void *)passphrase) : NULL;
    BIO_free(mem);
    hm_buf_free_secret(&file);
    ERR_clear_error();
    if (!key)
        return hm_fail(HM_E_DENIED, "%s cannot be read with that passphrase", path);
    *out = key;
    return HM_OK;
}

static hm_err passphrase_check(const char *passphrase)
{
    size_t len = strlen(passphrase);
    if (len < TC_PASSPHRASE_MIN || len > TC_PASSPHRASE_MAX)
        return hm_fail(HM_E_INVALID, "a passphrase has %u to %u characters", TC_PASSPHRASE_MIN,
                       TC_PASSPHRASE_MAX);
    return HM_OK;
}

hm_err tc_root_create(tc_family f, const char *mesh_name, const char *dir, const char *passphrase,
                      uint64_t now_ms)
{
    char key[TC_PATH_MAX], cn[TC_NAME_MAX + 32];
    authority_pair root = {0};
    hm_err err;
    HM_TRY(passphrase_check(passphrase));
    if (!x509_name_ok(hm_bytes_str(mesh_name)))
        return hm_fail(HM_E_INVALID, "a mesh's name has 1 to %u of a-z, 0-9 and -", TC_NAME_MAX);
    HM_TRY(authority_path(dir, tc_family_names[f], "root.key", key));
    if (access(key, F_OK) == 0)
        return hm_fail(HM_E_EXISTS, "%s is there already", key);
    HM_TRY(hm_dir_make(dir));
    snprintf(cn, sizeof cn, "%s %s root", mesh_name, tc_family_names[f]);
    HM_TRY_OUT(authority_pair_make(NULL, f, cn, &root));
    HM_TRY_OUT(authority_ca_cert(cn, &root, NULL, f == TC_MESH ? 2 : 1, TC_ROOT_DAYS, NULL, now_ms,
                                 &root.cert));
    HM_TRY_OUT(authority_cert_write(dir, tc_family_names[f], "root.crt", root.cert));
    err = key_write(key, root.key, passphrase); // last: without it the two are made anew
out:
    authority_pair_free(&root);
    return err;
}

// ---- signing ------------------------------------------------------------------------------------

static bool is_falcon(const EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, HM_FALCON_NAME);
}

static bool is_p384(const EVP_PKEY *key)
{
    return x509_key_is_ec(key, "secp384r1");
}

// The key and the name of what is to be signed; both are the caller's.
typedef struct subject {
    EVP_PKEY *key;
    char cn[TC_NAME_MAX + 32];
    bool is_root; // of the edge family, to be cross-signed
} subject;

static hm_err request_read(BIO *mem, subject *out)
{
    X509_REQ *req = PEM_read_bio_X509_REQ(mem, NULL, NULL, NULL);
    EVP_PKEY *key = req ? X509_REQ_get_pubkey(req) : NULL;
    hm_err err = HM_OK;
    if (!key)
        err = hm_crypto_fail(HM_E_CSR, "neither a certificate request nor a certificate in PEM");
    else if (X509_REQ_verify(req, key) <= 0)
        err = hm_fail(HM_E_CSR, "the request is not signed by its key");
    else
        err = x509_common_name(X509_REQ_get_subject_name(req), out->cn, sizeof out->cn);
    if (err == HM_OK)
        out->key = key;
    else
        EVP_PKEY_free(key);
    X509_REQ_free(req);
    return err;
}

static hm_err root_read(X509 *x, subject *out)
{
    EVP_PKEY *key = X509_get0_pubkey(x);
    if (!key || X509_check_ca(x) != 1 || X509_self_signed(x, 1) != 1)
        return hm_fail(HM_E_CSR, "the certificate is not that of a root");
    HM_TRY(x509_common_name(X509_get_subject_name(x), out->cn, sizeof out->cn));
    if (!EVP_PKEY_up_ref(key))
        return HM_E_NOMEM;
    out->key = key;
    out->is_root = true;
    return HM_OK;
}

static hm_err subject_read(hm_bytes pem, subject *out)
{
    static const char cert[] = "-----BEGIN CERTIFICATE-----";
    bool is_cert = memmem(pem.ptr, pem.len, cert, sizeof cert - 1) != NULL;
    if (pem.len == 0 || pem.len > 16 * TC_CERT_MAX)
        return hm_fail(HM_E_CSR, "a request has 1 to %u bytes", 16 * TC_CERT_MAX);
    BIO *mem = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    X509 *x = mem && is_cert ? PEM_read_bio_X509(mem, NULL, NULL, NULL) : NULL;
    hm_err err = x ? root_read(x, out) : mem ? request_read(mem, out) : HM_E_NOMEM;
    X509_free(x);
    BIO_free(mem);
    ERR_clear_error();
    return err;
}

// Each family's keys are of its own kind; across stands only the edge root under the mesh root.
static hm_err family_check(const subject *s, const EVP_PKEY *root)
{
    if (s->is_root && !(is_p384(s->key) && is_falcon(root)))
        return hm_fail(HM_E_CSR, "only a mesh root signs another root, and that is an edge root");
    if (!s->is_root && !(is_falcon(root) ? is_falcon(s->key) : is_p384(s->key)))
        return hm_fail(HM_E_CSR, "the request has a key of another family than the root");
    return HM_OK;
}

// The certificate beside the key, which must be the key's.
static hm_err root_load(const char *key_path, const char *passphrase, authority_pair *root,
                        hm_buf *pem)
{
    char path[TC_PATH_MAX];
    size_t len = strlen(key_path);
    hm_buf der = {0};
    hm_err err;
    if (len < 4 || len >= sizeof path || strcmp(key_path + len - 4, ".key") != 0)
        return hm_fail(HM_E_INVALID, "the root's key is in a file that ends with .key");
    snprintf(path, sizeof path, "%.*s.crt", (int)(len - 4), key_path);
    err = hm_file_read(path, 16 * TC_CERT_MAX, pem);
    if (err != HM_OK)
        return hm_fail(err, "%s: %s", path, hm_err_text(err));
    HM_TRY_OUT(tc_pem_to_der(hm_buf_bytes(pem), &der));
    HM_TRY_OUT(x509_cert_parse(hm_buf_bytes(&der), &root->cert));
    HM_TRY_OUT(key_read(key_path, passphrase, &root->key));
    if (X509_check_private_key(root->cert, root->key) != 1)
        err = hm_crypto_fail(HM_E_KEY, path);
out:
    hm_buf_free(&der);
    return err;
}

// The root's own name has the mesh's, and so the zone.
static hm_err constraints_of(const subject *s, const authority_pair *root, const char *edge_names,
                             hm_buf *out)
{
    static const char end[] = " mesh root";
    char mesh[TC_NAME_MAX + 32] = "";
    const bool edge = !s->is_root && !is_falcon(root->key);
    if (edge_names && !edge)
        return hm_fail(HM_E_INVALID, "--edge-names is for the request of an edge issuing CA");
    if (s->is_root)
        return HM_OK;
    if (!edge) {
        HM_TRY(x509_common_name(X509_get_subject_name(root->cert), mesh, sizeof mesh));
        size_t len = strlen(mesh), tail = sizeof end - 1;
        if (len < tail || strcmp(mesh + len - tail, end) != 0 ||
            !x509_name_ok(hm_bytes_of(mesh, len - tail)))
            return hm_fail(HM_E_CSR, "the root is not called \"MESH mesh root\"");
        mesh[len - tail] = 0;
    }
    return authority_constraints(edge ? TC_EDGE : TC_MESH, mesh, edge_names, out);
}

hm_err tc_root_sign(const char *key_path, const char *passphrase, hm_bytes pem, uint32_t days,
                    const char *edge_names, uint64_t now_ms, hm_buf *chain_pem)
{
    authority_pair root = {0}, signed_one = {0};
    subject s = {0};
    hm_buf root_pem = {0}, names = {0};
    hm_err err;
    if (days == 0 || days > TC_ROOT_DAYS)
        return hm_fail(HM_E_RANGE, "a CA lives for 1 to %u days", TC_ROOT_DAYS);
    HM_TRY_OUT(subject_read(pem, &s));
    HM_TRY_OUT(root_load(key_path, passphrase, &root, &root_pem));
    HM_TRY_OUT(family_check(&s, root.key));
    HM_TRY_OUT(authority_days_left(root.cert, now_ms, &days));
    HM_TRY_OUT(constraints_of(&s, &root, edge_names, &names));
    signed_one.pub = s.key;
    HM_TRY_OUT(authority_ca_cert(s.cn, &signed_one, &root, s.is_root ? 1 : 0, days,
                                 names.len ? hm_buf_cstr(&names) : NULL, now_ms, &signed_one.cert));
    HM_TRY_OUT(x509_cert_pem(signed_one.cert, chain_pem));
    hm_buf_put(chain_pem, hm_buf_bytes(&root_pem));
    err = hm_buf_status(chain_pem);
out:
    X509_free(signed_one.cert);
    EVP_PKEY_free(s.key);
    authority_pair_free(&root);
    hm_buf_free(&root_pem);
    hm_buf_free(&names);
    return err;
}

// ---- installing ---------------------------------------------------------------------------------

bool tc_authority_installed(const char *dir, tc_family f)
{
    char path[TC_PATH_MAX];
    if (issuing_index_there(dir, f))
        return true;
    return authority_path(dir, tc_family_names[f], "ca.crt", path) == HM_OK &&
           access(path, F_OK) == 0;
}

static hm_err chain_read(hm_bytes pem, X509 *certs[CHAIN_CERTS_MAX], size_t *count)
{
    BIO *mem = pem.len <= 16 * TC_CERT_MAX ? BIO_new_mem_buf(pem.ptr, (int)pem.len) : NULL;
    X509 *x;
    *count = 0;
    while (mem && *count < CHAIN_CERTS_MAX &&
           (x = PEM_read_bio_X509(mem, NULL, NULL, NULL)) != NULL)
        certs[(*count)++] = x;
    BIO_free(mem);
    ERR_clear_error();
    return *count == 2 ? HM_OK
                       : hm_fail(HM_E_PARSE,
                                 "what a root signed has two certificates: the signed "
                                 "one and the root; this has %zu",
                                 *count);
}

static hm_err cert_load(const char *dir, tc_family f, const char *what, X509 **out)
{
    char path[TC_PATH_MAX];
    HM_TRY(authority_path(dir, tc_family_names[f], what, path));
    return x509_cert_load(path, out);
}

// An issuing key of this authority that waits for its certificate.
static hm_err request_load(const char *dir, unsigned number, subject *out)
{
    char path[TC_PATH_MAX];
    hm_buf pem = {0};
    HM_TRY(issuing_path(dir, number, "ca", ".csr", path));
    hm_err err = hm_file_read(path, TC_CSR_MAX, &pem);
    if (err == HM_E_NOTFOUND)
        err = hm_fail(err, "%s is missing: was init --issuing-only run?", path);
    else if (err == HM_OK)
        err = subject_read(hm_buf_bytes(&pem), out);
    hm_buf_free(&pem);
    return err;
}

static hm_err is_own(const char *dir, unsigned number, const X509 *x, bool *own)
{
    X509 *ca = NULL;
    HM_TRY(issuing_cert_load(dir, number, &ca));
    *own = EVP_PKEY_eq(X509_get0_pubkey(x), X509_get0_pubkey(ca)) == 1;
    X509_free(ca);
    return HM_OK;
}

static hm_err is_requested(const char *dir, unsigned number, const X509 *x, bool *own)
{
    subject s = {0};
    HM_TRY(request_load(dir, number, &s));
    *own = EVP_PKEY_eq(X509_get0_pubkey(x), s.key) == 1;
    EVP_PKEY_free(s.key);
    return HM_OK;
}

// One CA below a root, that alone, in force and able to sign what an authority signs.
static hm_err under_root(X509 *x, X509 *root, uint64_t now_ms)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    uint32_t use = X509_get_key_usage(x), needed = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    hm_err err = HM_OK;
    if (!store || !ctx || !X509_STORE_add_cert(store, root) ||
        !X509_STORE_CTX_init(ctx, store, x, NULL)) {
        err = HM_E_NOMEM;
    } else if (X509_self_signed(root, 1) != 1 || X509_check_ca(x) != 1 ||
               X509_check_ca(root) != 1 || (use & needed) != needed) {
        err = hm_fail(HM_E_CERT_PROFILE, "not a CA's certificate and then its root's");
    } else {
        X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
        X509_VERIFY_PARAM_set_time(param, (time_t)(now_ms / 1000));
        X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
        if (X509_verify_cert(ctx) <= 0) {
            int code = X509_STORE_CTX_get_error(ctx);
            bool time =
                code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID;
            err = hm_fail(time ? HM_E_CERT_EXPIRED : HM_E_CERT_UNTRUSTED, "%s",
                          X509_verify_cert_error_string(code));
        }
    }
    ERR_clear_error();
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return err;
}

// A later certificate of the same key, name and root: what was issued and what revokes it goes on
// under either. Nodes take the mesh's when their ledger has it in force (mesh/trust_module.h),
// which may be before or after.
static hm_err prolong(const char *dir, unsigned number, X509 *x, X509 *root)
{
    const tc_family f = issuing_family(number);
    char name[ISSUING_NAME_MAX];
    X509 *old_root = NULL, *old = NULL;
    uint64_t end, old_end;
    hm_err err;
    HM_TRY_OUT(cert_load(dir, f, "root.crt", &old_root));
    issuing_name(number, "ca", ".crt", name);
    HM_TRY_OUT(cert_load(dir, f, name, &old));
    HM_TRY_OUT(x509_time_ms(X509_get0_notAfter(x), &end));
    HM_TRY_OUT(x509_time_ms(X509_get0_notAfter(old), &old_end));
    if (X509_cmp(root, old_root) != 0 ||
        X509_NAME_cmp(X509_get_subject_name(x), X509_get_subject_name(old)) != 0)
        err = hm_fail(HM_E_EXISTS, "the %s family has another root, or its CA another name",
                      tc_family_names[f]);
    else if (end <= old_end)
        err = hm_fail(HM_E_EXISTS, "the %s family has an issuing certificate that ends no sooner",
                      tc_family_names[f]);
    else
        err = authority_cert_write(dir, tc_family_names[f], name, x);
out:
    X509_free(old_root);
    X509_free(old);
    return err;
}

// The certificate of the new key that tc_rotate() made: its name is the request's, which no other
// issuing CA has; and the mesh's is one that the members can put in force.
static hm_err succeed(const char *dir, const issuing_index *ix, X509 *x, X509 *root,
                      uint64_t now_ms)
{
    char cn[TC_NAME_MAX + 32];
    X509 *own_root = NULL;
    subject s = {0};
    hm_err err;
    HM_TRY_OUT(cert_load(dir, ix->family, "root.crt", &own_root));
    HM_TRY_OUT(request_load(dir, ix->next, &s));
    HM_TRY_OUT(x509_common_name(X509_get_subject_name(x), cn, sizeof cn));
    if (X509_cmp(root, own_root) != 0 || strcmp(cn, s.cn) != 0)
        HM_TRY_OUT(hm_fail(HM_E_EXISTS,
                           "the %s family has another root, or its new CA's request another name",
                           tc_family_names[ix->family]));
    if (ix->family == TC_MESH)
        HM_TRY_OUT(issuing_may_follow(dir, ix, x, now_ms));
    err = issuing_activate(dir, ix, x);
out:
    EVP_PKEY_free(s.key);
    X509_free(own_root);
    return err;
}

static hm_err path_check(const X509 *x)
{
    if (X509_get_pathlen((X509 *)x) != 0)
        return hm_fail(HM_E_CERT_PROFILE, "the issuing CA may make CAs: its path length is not 0");
    return HM_OK;
}

// Is it for a key of the family, which has its certificate or waits for it? Then it is taken.
static hm_err install_family(const char *dir, tc_family f, X509 *x, X509 *root, uint64_t now_ms,
                             bool *taken)
{
    issuing_index ix;
    const char *name = tc_family_names[f];
    if (!tc_authority_installed(dir, f)) {
        HM_TRY(is_requested(dir, f == TC_MESH ? 0 : 1, x, taken));
        if (!*taken)
            return HM_OK;
        HM_TRY(path_check(x));
        // The root comes first: who finds the issuing certificate finds all of the family.
        HM_TRY(authority_cert_write(dir, name, "root.crt", root));
        return authority_cert_write(dir, name, "ca.crt", x);
    }
    HM_TRY(issuing_index_read(dir, f, &ix));
    for (size_t i = 0; i < ix.count; i++) {
        HM_TRY(is_own(dir, ix.number[i], x, taken));
        if (*taken) {
            HM_TRY(path_check(x));
            return prolong(dir, ix.number[i], x, root);
        }
    }
    if (!issuing_pending(dir, &ix))
        return HM_OK;
    HM_TRY(is_requested(dir, ix.next, x, taken));
    if (!*taken)
        return HM_OK;
    HM_TRY(path_check(x));
    return succeed(dir, &ix, x, root, now_ms);
}

static hm_err install_cross(const char *dir, X509 *x, X509 *root)
{
    X509 *edge = NULL, *mesh = NULL;
    if (cert_load(dir, TC_EDGE, "root.crt", &edge) != HM_OK ||
        cert_load(dir, TC_MESH, "root.crt", &mesh) != HM_OK) {
        X509_free(edge);
        return hm_fail(HM_E_CERT_PROFILE, "it is for neither issuing key of this authority; a "
                                          "cross-signature comes after both families");
    }
    bool ours = EVP_PKEY_eq(X509_get0_pubkey(x), X509_get0_pubkey(edge)) == 1 &&
                X509_NAME_cmp(X509_get_subject_name(x), X509_get_subject_name(edge)) == 0 &&
                X509_cmp(root, mesh) == 0;
    X509_free(edge);
    X509_free(mesh);
    if (!ours)
        return hm_fail(HM_E_CERT_PROFILE,
                       "it is for neither issuing key of this authority, nor its "
                       "edge root under its mesh root");
    return authority_cert_write(dir, "edge", "root-cross.crt", x);
}

hm_err tc_authority_install(const char *dir, hm_bytes pem, uint64_t now_ms)
{
    X509 *certs[CHAIN_CERTS_MAX] = {NULL};
    size_t count = 0;
    bool taken = false;
    hm_err err;
    HM_TRY_OUT(chain_read(pem, certs, &count));
    HM_TRY_OUT(under_root(certs[0], certs[1], now_ms));
    for (int f = 0; f < 2 && !taken; f++)
        HM_TRY_OUT(install_family(dir, (tc_family)f, certs[0], certs[1], now_ms, &taken));
    if (!taken)
        err = install_cross(dir, certs[0], certs[1]);
out:
    for (size_t i = 0; i < count; i++)
        X509_free(certs[i]);
    return err;
}
