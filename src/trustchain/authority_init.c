// Making an authority: keys, roots, issuing CAs, the cross-signature. Everything is made in a
// folder beside and renamed into place, so a crash leaves nothing half made.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trustchain/authority.h"

#define ROOT_DAYS 3650u
#define ISSUING_DAYS 1095u

typedef struct ca_pair {
    EVP_PKEY *key; // owned
    X509 *cert;    // owned
} ca_pair;

static void pair_free(ca_pair *p)
{
    EVP_PKEY_free(p->key);
    X509_free(p->cert);
}

static EVP_PKEY *falcon_gen(void)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, HM_FALCON_NAME, NULL);
    if (!ctx || EVP_PKEY_keygen_init(ctx) <= 0 || EVP_PKEY_generate(ctx, &key) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static hm_err pair_key(tc_family f, ca_pair *p)
{
    p->key = f == TC_MESH ? falcon_gen() : EVP_EC_gen("P-384");
    return p->key ? HM_OK : hm_crypto_fail(HM_E_CRYPTO, "cannot make a key");
}

// The certificate of subject under issuer (NULL: under itself).
static hm_err ca_cert(const char *cn, EVP_PKEY *subject_key, const ca_pair *issuer, int path_len,
                      uint32_t days, uint64_t now_ms, X509 **out)
{
    static const tc_authority fresh; // no serial is taken yet
    x509_template t = {
        .cn = cn,
        .subject_key = subject_key,
        .issuer = issuer ? issuer->cert : NULL,
        .issuer_key = issuer ? issuer->key : subject_key,
        .serial = authority_serial(&fresh),
        .not_before_ms = now_ms - TC_SKEW_MS,
        .not_after_ms = now_ms + days * TC_DAY_MS,
        .ca = true,
        .path_len = path_len,
        .key_usage = "critical,keyCertSign,cRLSign",
    };
    return x509_cert_make(&t, out);
}

static hm_err write_key(const char *dir, const char *family, const char *what, EVP_PKEY *key)
{
    char path[TC_PATH_MAX];
    hm_buf pem = {0};
    hm_err err;
    HM_TRY_OUT(authority_path(dir, family, what, path));
    HM_TRY_OUT(x509_key_pem(key, &pem));
    err = hm_file_write(path, hm_buf_bytes(&pem), 0600);
out:
    hm_buf_free_secret(&pem);
    return err;
}

static hm_err write_cert(const char *dir, const char *family, const char *what, const X509 *cert)
{
    char path[TC_PATH_MAX];
    hm_buf pem = {0};
    hm_err err;
    HM_TRY_OUT(authority_path(dir, family, what, path));
    HM_TRY_OUT(x509_cert_pem(cert, &pem));
    err = hm_file_write(path, hm_buf_bytes(&pem), 0644);
out:
    hm_buf_free(&pem);
    return err;
}

static hm_err make_family(const char *dir, const char *mesh, tc_family f, uint64_t now_ms,
                          ca_pair *root)
{
    const char *name = tc_family_names[f];
    ca_pair issuing = {0};
    char cn[TC_NAME_MAX + 32];
    hm_err err;
    HM_TRY_OUT(pair_key(f, root));
    snprintf(cn, sizeof cn, "%s %s root", mesh, name);
    // Below the mesh root stand the cross-signed edge root and its issuing CA, below the edge root
    // only the latter.
    HM_TRY_OUT(ca_cert(cn, root->key, NULL, f == TC_MESH ? 2 : 1, ROOT_DAYS, now_ms, &root->cert));
    HM_TRY_OUT(pair_key(f, &issuing));
    snprintf(cn, sizeof cn, "%s %s issuing", mesh, name);
    HM_TRY_OUT(ca_cert(cn, issuing.key, root, 0, ISSUING_DAYS, now_ms, &issuing.cert));
    HM_TRY_OUT(write_key(dir, name, "root.key", root->key));
    HM_TRY_OUT(write_cert(dir, name, "root.crt", root->cert));
    HM_TRY_OUT(write_key(dir, name, "ca.key", issuing.key));
    err = write_cert(dir, name, "ca.crt", issuing.cert);
out:
    pair_free(&issuing);
    return err;
}

static hm_err make_all(const char *dir, const char *mesh, uint64_t now_ms)
{
    ca_pair mesh_root = {0}, edge_root = {0};
    X509 *cross = NULL;
    char cn[TC_NAME_MAX + 32];
    hm_err err;
    HM_TRY_OUT(make_family(dir, mesh, TC_MESH, now_ms, &mesh_root));
    HM_TRY_OUT(make_family(dir, mesh, TC_EDGE, now_ms, &edge_root));
    snprintf(cn, sizeof cn, "%s edge root", mesh);
    HM_TRY_OUT(ca_cert(cn, edge_root.key, &mesh_root, 1, ISSUING_DAYS, now_ms, &cross));
    err = write_cert(dir, "edge", "root-cross.crt", cross);
out:
    X509_free(cross);
    pair_free(&mesh_root);
    pair_free(&edge_root);
    return err;
}

// Empties and removes what an interrupted run left: a flat folder of our own files.
static void remove_leftover(const char *dir)
{
    char path[TC_PATH_MAX];
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL) {
        if (e->d_name[0] != '.' && authority_path(dir, "", e->d_name, path) == HM_OK)
            unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

hm_err tc_authority_init(const char *dir, const char *mesh_name, uint64_t now_ms)
{
    char fresh[TC_PATH_MAX];
    struct stat st;
    hm_err err;
    if (!x509_name_ok(hm_bytes_str(mesh_name)))
        return hm_fail(HM_E_INVALID, "a mesh's name has 1 to %u of a-z, 0-9 and -", TC_NAME_MAX);
    if (stat(dir, &st) == 0)
        return hm_fail(HM_E_EXISTS, "%s is there already", dir);
    if ((size_t)snprintf(fresh, sizeof fresh, "%s.new", dir) >= sizeof fresh)
        return hm_fail(HM_E_LIMIT, "the path of the directory is too long");
    remove_leftover(fresh);
    HM_TRY(hm_dir_make(fresh));
    HM_TRY_OUT(make_all(fresh, mesh_name, now_ms));
    if (rename(fresh, dir) != 0)
        err = hm_fail(HM_E_IO, "cannot rename %s to %s: %s", fresh, dir, strerror(errno));
out:
    if (err != HM_OK)
        remove_leftover(fresh);
    return err;
}
