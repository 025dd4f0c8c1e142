// Making an authority: keys, roots, issuing CAs, the cross-signature. Everything is made in a
// folder beside and renamed into place, so a crash leaves nothing half made.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trustchain/authority.h"
#include "trustchain/ceremony.h"
#include "trustchain/csr.h"

hm_err authority_ca_cert(const char *cn, const authority_pair *subject,
                         const authority_pair *issuer, int path_len, uint32_t days,
                         const char *constraints, uint64_t now_ms, X509 **out)
{
    x509_template t = {
        .cn = cn,
        .subject_key = subject->pub,
        .issuer = issuer ? issuer->cert : NULL,
        .issuer_key = issuer ? issuer->key : subject->key,
        .not_before_ms = now_ms - TC_SKEW_MS,
        .not_after_ms = now_ms + days * TC_DAY_MS,
        .ca = true,
        .path_len = path_len,
        .name_constraints = constraints,
        .key_usage = "critical,keyCertSign,cRLSign",
    };
    HM_TRY(authority_serial(NULL, &t.serial));
    return x509_cert_make(&t, out);
}

hm_err authority_days_left(const X509 *root, uint64_t now_ms, uint32_t *days)
{
    uint64_t end;
    HM_TRY(x509_time_ms(X509_get0_notAfter(root), &end));
    if (end < now_ms + TC_DAY_MS)
        return hm_fail(HM_E_CERT_EXPIRED, "the root has less than a day left");
    if (*days > (end - now_ms) / TC_DAY_MS)
        *days = (uint32_t)((end - now_ms) / TC_DAY_MS);
    return HM_OK;
}

hm_err authority_cert_write(const char *dir, const char *family, const char *what, const X509 *cert)
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

hm_err authority_request_write(const char *dir, tc_family f, const char *what, const char *cn,
                               const authority_pair *p)
{
    char path[TC_PATH_MAX], name[ISSUING_NAME_MAX];
    hm_buf request = {0};
    hm_err err;
    snprintf(name, sizeof name, "%s.csr", what);
    HM_TRY_OUT(csr_make_ca(p->pub, p->key, cn, &request));
    HM_TRY_OUT(authority_path(dir, tc_family_names[f], name, path));
    err = hm_file_write(path, hm_buf_bytes(&request), 0644);
out:
    hm_buf_free(&request);
    return err;
}

// What an authority is made with.
typedef struct making {
    const char *mesh, *edge_names; // edge_names NULL: all
    uint64_t now_ms;
} making;

static hm_err make_family(const authority_token *t, const char *dir, const making *m, tc_family f,
                          authority_pair *root)
{
    const char *name = tc_family_names[f];
    authority_pair issuing = {0};
    hm_buf names = {0};
    char cn[TC_NAME_MAX + 32];
    hm_err err;
    HM_TRY_OUT(authority_constraints(f, m->mesh, m->edge_names, &names));
    snprintf(cn, sizeof cn, "%s %s root", m->mesh, name);
    HM_TRY_OUT(authority_pair_make(t, f, cn, root));
    // Below the mesh root stand the cross-signed edge root and its issuing CA, below the edge root
    // only the latter.
    HM_TRY_OUT(authority_ca_cert(cn, root, NULL, f == TC_MESH ? 2 : 1, TC_ROOT_DAYS, NULL,
                                 m->now_ms, &root->cert));
    snprintf(cn, sizeof cn, "%s %s issuing", m->mesh, name);
    HM_TRY_OUT(authority_pair_make(t, f, cn, &issuing));
    HM_TRY_OUT(authority_ca_cert(cn, &issuing, root, 0, TC_ISSUING_DAYS,
                                 names.len ? hm_buf_cstr(&names) : NULL, m->now_ms, &issuing.cert));
    HM_TRY_OUT(authority_pair_write(t, dir, f, "root", root));
    HM_TRY_OUT(authority_cert_write(dir, name, "root.crt", root->cert));
    HM_TRY_OUT(authority_pair_write(t, dir, f, "ca", &issuing));
    HM_TRY_OUT(authority_request_write(dir, f, "ca", cn, &issuing));
    err = authority_cert_write(dir, name, "ca.crt", issuing.cert);
out:
    authority_pair_free(&issuing);
    hm_buf_free(&names);
    return err;
}

// The issuing key of a family whose root is elsewhere, and the request for that.
static hm_err make_issuing(const authority_token *t, const char *dir, const char *mesh, tc_family f)
{
    authority_pair issuing = {0};
    char cn[TC_NAME_MAX + 32];
    hm_err err;
    snprintf(cn, sizeof cn, "%s %s issuing", mesh, tc_family_names[f]);
    HM_TRY_OUT(authority_pair_make(t, f, cn, &issuing));
    HM_TRY_OUT(authority_pair_write(t, dir, f, "ca", &issuing));
    err = authority_request_write(dir, f, "ca", cn, &issuing);
out:
    authority_pair_free(&issuing);
    return err;
}

// The log's key, and the line that names it in checkpoints.
static hm_err make_log(const char *dir, const char *mesh)
{
    char path[TC_PATH_MAX], origin[TC_NAME_MAX + 16];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    hm_buf pem = {0};
    hm_err err;
    if (!key)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot make a key");
    HM_TRY_OUT(x509_key_pem(key, &pem));
    HM_TRY_OUT(authority_path(dir, "log", "key", path));
    HM_TRY_OUT(hm_file_write(path, hm_buf_bytes(&pem), 0600));
    snprintf(origin, sizeof origin, "%s/log\n", mesh);
    HM_TRY_OUT(authority_path(dir, "log", "origin", path));
    err = hm_file_write(path, hm_bytes_str(origin), 0644);
out:
    hm_buf_free_secret(&pem);
    EVP_PKEY_free(key);
    return err;
}

static hm_err make_issuing_only(const authority_token *t, const char *dir, const making *m)
{
    HM_TRY(make_issuing(t, dir, m->mesh, TC_MESH));
    HM_TRY(make_issuing(t, dir, m->mesh, TC_EDGE));
    return make_log(dir, m->mesh);
}

static hm_err make_all(const authority_token *t, const char *dir, const making *m)
{
    authority_pair mesh_root = {0}, edge_root = {0};
    X509 *cross = NULL;
    char cn[TC_NAME_MAX + 32];
    hm_err err;
    HM_TRY_OUT(make_family(t, dir, m, TC_MESH, &mesh_root));
    HM_TRY_OUT(make_family(t, dir, m, TC_EDGE, &edge_root));
    snprintf(cn, sizeof cn, "%s edge root", m->mesh);
    HM_TRY_OUT(
        authority_ca_cert(cn, &edge_root, &mesh_root, 1, TC_ISSUING_DAYS, NULL, m->now_ms, &cross));
    HM_TRY_OUT(authority_cert_write(dir, "edge", "root-cross.crt", cross));
    err = make_log(dir, m->mesh);
out:
    X509_free(cross);
    authority_pair_free(&mesh_root);
    authority_pair_free(&edge_root);
    return err;
}

typedef hm_err (*make_fn)(const authority_token *t, const char *dir, const making *m);

static hm_err make_in_token(const char *uri, make_fn make, const char *dir, const making *m)
{
    authority_token t = {0};
    char path[TC_PATH_MAX], label[TC_NAME_MAX + 32];
    hm_err err;
    HM_TRY_OUT(hsm_open(uri, &t.hsm));
    snprintf(label, sizeof label, "%s wrapping", m->mesh);
    HM_TRY_OUT(hsm_aes_make(t.hsm, label, &t.wrap_id));
    HM_TRY_OUT(make(&t, dir, m));
    HM_TRY_OUT(authority_path(dir, "", "hsm.uri", path));
    err = hm_file_write(path, hm_bytes_str(uri), 0600);
out:
    hsm_close(t.hsm);
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

static hm_err init_with(make_fn make, const char *dir, const making *m, const char *hsm_uri)
{
    char fresh[TC_PATH_MAX];
    struct stat st;
    hm_err err;
    if (!x509_name_ok(hm_bytes_str(m->mesh)))
        return hm_fail(HM_E_INVALID, "a mesh's name has 1 to %u of a-z, 0-9 and -", TC_NAME_MAX);
    if (stat(dir, &st) == 0)
        return hm_fail(HM_E_EXISTS, "%s is there already", dir);
    if ((size_t)snprintf(fresh, sizeof fresh, "%s.new", dir) >= sizeof fresh)
        return hm_fail(HM_E_LIMIT, "the path of the directory is too long");
    remove_leftover(fresh);
    HM_TRY(hm_dir_make(fresh));
    if (hsm_uri)
        HM_TRY_OUT(make_in_token(hsm_uri, make, fresh, m));
    else
        HM_TRY_OUT(make(NULL, fresh, m));
    if (rename(fresh, dir) != 0)
        err = hm_fail(HM_E_IO, "cannot rename %s to %s: %s", fresh, dir, strerror(errno));
out:
    if (err != HM_OK)
        remove_leftover(fresh);
    return err;
}

hm_err tc_authority_init(const char *dir, const char *mesh_name, uint64_t now_ms)
{
    return tc_authority_init_with(dir, mesh_name, NULL, NULL, now_ms);
}

hm_err tc_authority_init_with(const char *dir, const char *mesh_name, const char *edge_names,
                              const char *hsm_uri, uint64_t now_ms)
{
    const making m = {mesh_name, edge_names, now_ms};
    return init_with(make_all, dir, &m, hsm_uri);
}

hm_err tc_authority_init_issuing(const char *dir, const char *mesh_name, const char *hsm_uri,
                                 uint64_t now_ms)
{
    const making m = {mesh_name, NULL, now_ms};
    return init_with(make_issuing_only, dir, &m, hsm_uri);
}
