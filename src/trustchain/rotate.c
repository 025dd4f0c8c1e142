#include "trustchain/issuing.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <unistd.h>

#include "trustchain/authority.h"
#include "trustchain/ceremony.h"

#define ORIGIN_MAX 256u
#define CN_MESH_MAX 34 // a common name has at most 64 characters

// ---- a new key ----------------------------------------------------------------------------------

typedef struct rotating {
    const char *dir, *edge_names;
    uint64_t now_ms;
    issuing_index ix;
    authority_token *token;      // NULL: keys are in files
    char what[ISSUING_NAME_MAX]; // the new one's files: ca-N
    char mesh[TC_NAME_MAX + 1];
} rotating;

static bool file_there(const char *dir, const char *what)
{
    char path[TC_PATH_MAX];
    return authority_path(dir, "edge", what, path) == HM_OK && access(path, F_OK) == 0;
}

// The log is named after the mesh.
static hm_err mesh_name(const char *dir, char out[TC_NAME_MAX + 1])
{
    char path[TC_PATH_MAX];
    hm_buf line = {0};
    HM_TRY(authority_path(dir, "log", "origin", path));
    hm_err err = hm_file_read(path, ORIGIN_MAX, &line);
    if (err == HM_OK)
        snprintf(out, TC_NAME_MAX + 1, "%.*s", (int)strcspn(hm_buf_cstr(&line), "/"),
                 hm_buf_cstr(&line));
    hm_buf_free(&line);
    return err;
}

static hm_err key_id(EVP_PKEY *pub, tc_issuing_id *out)
{
    X509 *x = X509_new();
    hm_err err = x && X509_set_pubkey(x, pub) == 1
                     ? issuing_id_of(x, out)
                     : hm_crypto_fail(HM_E_CRYPTO, "cannot encode the new key");
    X509_free(x);
    return err;
}

// What the present CA may name, the next may too, and nothing else.
static hm_err inherit_names(const rotating *r, const authority_pair *root, X509 *fresh)
{
    char name[ISSUING_NAME_MAX], path[TC_PATH_MAX];
    X509 *present = NULL;
    hm_err err;
    issuing_name(r->ix.number[0], "ca", ".crt", name);
    HM_TRY_OUT(authority_path(r->dir, "edge", name, path));
    HM_TRY_OUT(x509_cert_load(path, &present));
    int at = X509_get_ext_by_NID(present, NID_name_constraints, -1);
    if (at < 0)
        goto out;
    if (X509_add_ext(fresh, X509_get_ext(present, at), -1) != 1)
        HM_TRY_OUT(hm_crypto_fail(HM_E_CRYPTO, "cannot add the name constraints"));
    err = x509_cert_sign(fresh, root->key);
out:
    X509_free(present);
    return err;
}

static hm_err sign_here(const rotating *r, const char *cn, authority_pair *p)
{
    authority_pair root = {0};
    hm_buf names = {0};
    uint32_t days = TC_ISSUING_DAYS;
    hm_err err;
    HM_TRY_OUT(authority_constraints(TC_EDGE, NULL, r->edge_names, &names));
    HM_TRY_OUT(authority_pair_load(r->token, r->dir, TC_EDGE, "root", &root));
    HM_TRY_OUT(authority_days_left(root.cert, r->now_ms, &days));
    HM_TRY_OUT(authority_ca_cert(cn, p, &root, 0, days, names.len ? hm_buf_cstr(&names) : NULL,
                                 r->now_ms, &p->cert));
    if (!r->edge_names)
        err = inherit_names(r, &root, p->cert);
out:
    authority_pair_free(&root);
    hm_buf_free(&names);
    return err;
}

// The request comes after the key, which it stands for, and the index last of all.
static hm_err key_make(const rotating *r, bool root_here, tc_rotation *out)
{
    authority_pair p = {0};
    char cn[65];
    hm_err err;
    snprintf(cn, sizeof cn, "%.*s edge issuing %u", CN_MESH_MAX, r->mesh, r->ix.next);
    HM_TRY_OUT(authority_pair_make(r->token, TC_EDGE, cn, &p));
    HM_TRY_OUT(key_id(p.pub, &out->id));
    // Another name than all others', by which lists of revocations belong to one of them alone.
    snprintf(cn, sizeof cn, "%.*s edge issuing %s", CN_MESH_MAX, r->mesh, out->id.hex);
    HM_TRY_OUT(authority_pair_write(r->token, r->dir, TC_EDGE, r->what, &p));
    if (root_here)
        HM_TRY_OUT(sign_here(r, cn, &p));
    HM_TRY_OUT(authority_request_write(r->dir, TC_EDGE, r->what, cn, &p));
    if (root_here)
        err = issuing_activate(r->dir, &r->ix, p.cert);
out:
    authority_pair_free(&p);
    return err;
}

static hm_err request_id(const char *path, tc_issuing_id *out)
{
    hm_buf pem = {0};
    HM_TRY(hm_file_read(path, TC_CSR_MAX, &pem));
    BIO *mem = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    X509_REQ *req = mem ? PEM_read_bio_X509_REQ(mem, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = req ? X509_REQ_get0_pubkey(req) : NULL;
    hm_err err = key ? key_id(key, out) : hm_crypto_fail(HM_E_CORRUPT, path);
    X509_REQ_free(req);
    BIO_free(mem);
    hm_buf_free(&pem);
    return err;
}

// What an interrupted call left of number next is made anew.
static hm_err rotate_with(rotating *r, bool root_here, tc_rotation *out)
{
    HM_TRY(mesh_name(r->dir, r->mesh));
    issuing_name(r->ix.next, "ca", "", r->what);
    HM_TRY(issuing_files_remove(r->dir, r->token ? r->token->hsm : NULL, r->ix.next));
    HM_TRY(key_make(r, root_here, out));
    out->active = root_here;
    return HM_OK;
}

hm_err tc_rotate(const char *dir, const char *edge_names, uint64_t now_ms, tc_rotation *out)
{
    rotating r = {.dir = dir, .edge_names = edge_names, .now_ms = now_ms};
    tc_rotation done = {0};
    authority_token token = {0};
    bool root_here = file_there(dir, "root.key") || file_there(dir, "root.hsm");
    hm_err err;
    if (!tc_authority_installed(dir, TC_EDGE))
        return hm_fail(HM_E_NOTFOUND, "the edge family has no issuing certificate yet");
    if (edge_names && !root_here)
        return hm_fail(HM_E_USAGE, "--edge-names is said to `hypermesh cert root sign` then");
    HM_TRY_OUT(issuing_index_read(dir, TC_EDGE, &r.ix));
    HM_TRY_OUT(issuing_room(&r.ix));
    if (!root_here) {
        HM_TRY_OUT(issuing_path(dir, r.ix.next, "ca", ".csr", done.request));
        if (issuing_pending(dir, &r.ix)) {
            HM_TRY_OUT(request_id(done.request, &done.id));
            *out = done;
            goto out;
        }
    }
    HM_TRY_OUT(authority_token_open(dir, &token.hsm));
    r.token = token.hsm ? &token : NULL;
    HM_TRY_OUT(rotate_with(&r, root_here, &done));
    *out = done;
out:
    hsm_close(token.hsm);
    return err;
}

// ---- which there are ----------------------------------------------------------------------------

static hm_err info_read(const char *dir, unsigned number, tc_issuing_info *out)
{
    char path[TC_PATH_MAX];
    X509 *x = NULL;
    hm_err err;
    out->family = number == 0 ? TC_MESH : TC_EDGE;
    HM_TRY_OUT(issuing_path(dir, number, "ca", ".crt", path));
    HM_TRY_OUT(x509_cert_load(path, &x));
    HM_TRY_OUT(issuing_id_of(x, &out->id));
    HM_TRY_OUT(x509_common_name(X509_get_subject_name(x), out->subject, sizeof out->subject));
    HM_TRY_OUT(x509_time_ms(X509_get0_notBefore(x), &out->not_before_ms));
    err = x509_time_ms(X509_get0_notAfter(x), &out->not_after_ms);
out:
    X509_free(x);
    return err;
}

static hm_err count_live(void *ctx, const tc_issued *info)
{
    ((uint64_t *)ctx)[info->issuing]++;
    return HM_OK;
}

// What the store says, beside the server that may have it open. present stays 0 when no server has
// said yet who issues.
static hm_err store_look(const char *dir, uint64_t now_ms, uint64_t live[TC_ISSUING_NUMBERS],
                         uint8_t *present)
{
    char path[TC_PATH_MAX];
    tc_store *s = NULL;
    HM_TRY(authority_path(dir, "", "store", path));
    HM_TRY(tc_store_open(path, &s));
    hm_err err = issued_present(s, present);
    if (err == HM_OK || err == HM_E_NOTFOUND)
        err = issued_each_live(s, now_ms, count_live, live);
    tc_store_close(s);
    return err;
}

hm_err tc_issuing_list(const char *dir, uint64_t now_ms, tc_issuing_info out[TC_ISSUING_LIST_MAX],
                       size_t *count)
{
    issuing_index ix;
    uint64_t live[TC_ISSUING_NUMBERS] = {0};
    uint8_t present = 0;
    tc_issuing_info all[TC_ISSUING_LIST_MAX] = {0};
    for (int f = 0; f < 2; f++)
        if (!tc_authority_installed(dir, (tc_family)f))
            return hm_fail(HM_E_NOTFOUND, "%s has no issuing certificate of the %s family", dir,
                           tc_family_names[f]);
    HM_TRY(issuing_index_read(dir, TC_EDGE, &ix));
    HM_TRY(store_look(dir, now_ms, live, &present));
    HM_TRY(info_read(dir, 0, &all[0]));
    all[0].present = true;
    all[0].live = live[0];
    for (size_t i = 0; i < ix.count; i++) {
        HM_TRY(info_read(dir, ix.number[i], &all[1 + i]));
        all[1 + i].present = i == 0;
        all[1 + i].live = live[ix.number[i]];
    }
    memcpy(out, all, sizeof all);
    *count = 1 + ix.count;
    return HM_OK;
}

// ---- removing one -------------------------------------------------------------------------------

static hm_err removable(const char *dir, const issuing_index *ix, size_t at, uint64_t now_ms)
{
    uint64_t live[TC_ISSUING_NUMBERS] = {0};
    uint8_t present = 0;
    if (at == 0)
        return hm_fail(HM_E_BUSY, "it is the one that issues: rotate first");
    HM_TRY(store_look(dir, now_ms, live, &present));
    // Once the server wrote down that another issues, none comes to this one's any more.
    if (present != ix->number[0])
        return hm_fail(HM_E_BUSY, "no server has taken over the present issuing CA yet: send it "
                                  "SIGHUP, or start it");
    if (live[ix->number[at]] > 0)
        return hm_fail(HM_E_BUSY,
                       "certificates under it that are not over: %llu; until then it is needed for "
                       "their revocation",
                       (unsigned long long)live[ix->number[at]]);
    return HM_OK;
}

hm_err tc_issuing_remove(const char *dir, const char *id, uint64_t now_ms, bool *later)
{
    issuing_index ix;
    tc_authority *a = NULL;
    size_t at = 0;
    HM_TRY(issuing_index_read(dir, TC_EDGE, &ix));
    for (; at < ix.count; at++) {
        tc_issuing_info info = {0};
        HM_TRY(info_read(dir, ix.number[at], &info));
        if (strcmp(info.id.hex, id) == 0)
            break;
    }
    if (at == ix.count)
        return hm_fail(HM_E_NOTFOUND, "the edge family has no issuing CA of the id %.40s", id);
    HM_TRY(removable(dir, &ix, at, now_ms));
    memmove(ix.number + at, ix.number + at + 1, ix.count - at - 1);
    ix.count--;
    HM_TRY(issuing_index_write(dir, &ix));
    // Who opens the authority removes what the index no longer names.
    hm_err err = tc_authority_open(dir, &a);
    tc_authority_close(a);
    *later = err == HM_E_BUSY;
    return *later ? HM_OK : err;
}
