#include "trustchain/issuing.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <unistd.h>

#include "trustchain/authority.h"
#include "trustchain/ceremony.h"

#define CN_MESH_MAX 34 // a common name has at most 64 characters

// ---- which there are ----------------------------------------------------------------------------

static hm_err info_read(const char *dir, const issuing_index *ix, unsigned number,
                        tc_issuing_info *out)
{
    X509 *x = NULL;
    tc_issuing_info i = {.family = ix->family, .state = issuing_state(ix, number)};
    hm_err err;
    HM_TRY_OUT(issuing_cert_load(dir, number, &x));
    HM_TRY_OUT(issuing_key_hash(x, &i.key));
    HM_TRY_OUT(issuing_id_of(x, &i.id));
    HM_TRY_OUT(x509_common_name(X509_get_subject_name(x), i.subject, sizeof i.subject));
    HM_TRY_OUT(x509_time_ms(X509_get0_notBefore(x), &i.not_before_ms));
    HM_TRY_OUT(x509_time_ms(X509_get0_notAfter(x), &i.not_after_ms));
    *out = i;
out:
    X509_free(x);
    return err;
}

static hm_err installed(const char *dir, tc_family f)
{
    if (!tc_authority_installed(dir, f))
        return hm_fail(HM_E_NOTFOUND, "%s has no issuing certificate of the %s family yet", dir,
                       tc_family_names[f]);
    return HM_OK;
}

// Where in the index; HM_E_NOTFOUND.
static hm_err find(const char *dir, const issuing_index *ix, const char *id, size_t *at,
                   tc_issuing_info *out)
{
    tc_issuing_info i;
    for (size_t n = 0; n < ix->count; n++) {
        HM_TRY(info_read(dir, ix, ix->number[n], &i));
        if (strcmp(i.id.hex, id) != 0)
            continue;
        *at = n;
        *out = i;
        return HM_OK;
    }
    return HM_E_NOTFOUND;
}

static hm_err find_in_family(const char *dir, tc_family f, const char *id, issuing_index *ix,
                             size_t *at, tc_issuing_info *out)
{
    issuing_index other;
    const tc_family g = f == TC_MESH ? TC_EDGE : TC_MESH;
    HM_TRY(installed(dir, f));
    HM_TRY(issuing_index_read(dir, f, ix));
    hm_err err = find(dir, ix, id, at, out);
    if (err != HM_E_NOTFOUND)
        return err;
    if (issuing_index_read(dir, g, &other) == HM_OK && find(dir, &other, id, at, out) == HM_OK)
        return hm_fail(HM_E_NOTFOUND,
                       "the %s family has no issuing CA of the id %.40s: it is of the %s family",
                       tc_family_names[f], id, tc_family_names[g]);
    return hm_fail(HM_E_NOTFOUND, "the %s family has no issuing CA of the id %.40s",
                   tc_family_names[f], id);
}

hm_err tc_issuing_look(const char *dir, tc_family f, const char *id, tc_issuing_info *out)
{
    issuing_index ix;
    size_t at = 0;
    return find_in_family(dir, f, id, &ix, &at, out);
}

static hm_err count_live(void *ctx, const tc_issued *info)
{
    ((uint64_t *)ctx)[info->issuing]++;
    return HM_OK;
}

#define NOBODY (-1) // no server has said yet who issues

// What the store says, beside the server that may have it open: how many certificates of each CA
// are not over, and who issues in each family, or NOBODY.
static hm_err store_look(const char *dir, uint64_t now_ms, uint64_t live[TC_ISSUING_NUMBERS],
                         int present[2])
{
    char path[TC_PATH_MAX];
    tc_store *s = NULL;
    hm_err err;
    HM_TRY(authority_path(dir, "", "store", path));
    HM_TRY(tc_store_look(path, &s));
    for (int f = 0; f < 2; f++) {
        uint8_t number = 0;
        err = issued_present(s, (tc_family)f, &number);
        present[f] = err == HM_OK ? number : NOBODY;
        if (err != HM_E_NOTFOUND)
            HM_TRY_OUT(err);
    }
    err = issued_each_live(s, now_ms, count_live, live);
out:
    tc_store_close(s);
    return err;
}

hm_err tc_issuing_list(const char *dir, uint64_t now_ms, tc_issuing_info out[TC_ISSUING_LIST_MAX],
                       size_t *count)
{
    issuing_index ix;
    uint64_t live[TC_ISSUING_NUMBERS] = {0};
    int present[2];
    size_t n = 0;
    tc_issuing_info all[TC_ISSUING_LIST_MAX] = {0};
    for (int f = 0; f < 2; f++)
        HM_TRY(installed(dir, (tc_family)f));
    HM_TRY(store_look(dir, now_ms, live, present));
    for (int f = 0; f < 2; f++) {
        HM_TRY(issuing_index_read(dir, (tc_family)f, &ix));
        for (size_t i = 0; i < ix.count; i++, n++) {
            HM_TRY(info_read(dir, &ix, ix.number[i], &all[n]));
            all[n].live = live[ix.number[i]];
        }
    }
    memcpy(out, all, sizeof all);
    *count = n;
    return HM_OK;
}

// ---- a new key ----------------------------------------------------------------------------------

typedef struct rotating {
    const char *dir, *edge_names;
    tc_family family;
    uint64_t now_ms;
    issuing_index ix;
    authority_token *token;      // NULL: keys are in files
    char what[ISSUING_NAME_MAX]; // the new one's files: ca-N, of which N is its count
    char mesh[TC_NAME_MAX + 1];
} rotating;

static bool file_there(const char *dir, tc_family f, const char *what)
{
    char path[TC_PATH_MAX];
    return authority_path(dir, tc_family_names[f], what, path) == HM_OK && access(path, F_OK) == 0;
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
static hm_err inherit_names(const X509 *present, const authority_pair *root, X509 *fresh)
{
    int at = X509_get_ext_by_NID(present, NID_name_constraints, -1);
    if (at < 0)
        return HM_OK;
    if (X509_add_ext(fresh, X509_get_ext(present, at), -1) != 1)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot add the name constraints");
    return x509_cert_sign(fresh, root->key);
}

// A mesh whose present CA may name everything has the next one bound, as the members ask for.
static hm_err names_of(const rotating *r, const X509 *present, hm_buf *out)
{
    if (r->family == TC_EDGE)
        return authority_constraints(TC_EDGE, NULL, r->edge_names, out);
    if (X509_get_ext_by_NID(present, NID_name_constraints, -1) >= 0)
        return HM_OK;
    return authority_constraints(TC_MESH, r->mesh, NULL, out);
}

// As long as any issuing CA, and as the mesh's that are here: the members take none that ends
// before one in force.
static hm_err days_of(const rotating *r, uint32_t *days)
{
    uint64_t end = 0;
    *days = TC_ISSUING_DAYS;
    if (r->family == TC_EDGE)
        return HM_OK;
    HM_TRY(issuing_last_end(r->dir, &r->ix, &end));
    uint64_t left = end > r->now_ms ? (end - r->now_ms) / TC_DAY_MS + 1 : 0;
    if (left > *days)
        *days = (uint32_t)left;
    return HM_OK;
}

static hm_err sign_here(const rotating *r, const char *cn, authority_pair *p)
{
    authority_pair root = {0};
    X509 *present = NULL;
    hm_buf names = {0};
    uint32_t days;
    hm_err err;
    HM_TRY_OUT(issuing_cert_load(r->dir, r->ix.number[0], &present));
    HM_TRY_OUT(names_of(r, present, &names));
    HM_TRY_OUT(authority_pair_load(r->token, r->dir, r->family, "root", &root));
    HM_TRY_OUT(days_of(r, &days));
    HM_TRY_OUT(authority_days_left(root.cert, r->now_ms, &days));
    HM_TRY_OUT(authority_ca_cert(cn, p, &root, 0, days, names.len ? hm_buf_cstr(&names) : NULL,
                                 r->now_ms, &p->cert));
    if (names.len == 0)
        HM_TRY_OUT(inherit_names(present, &root, p->cert));
    if (r->family == TC_MESH)
        err = issuing_may_follow(r->dir, &r->ix, p->cert, r->now_ms);
out:
    authority_pair_free(&root);
    X509_free(present);
    hm_buf_free(&names);
    return err;
}

// The request comes after the key, which it stands for, and the index last of all.
static hm_err key_make(const rotating *r, bool root_here, tc_rotation *out)
{
    authority_pair p = {0};
    const char *family = tc_family_names[r->family];
    char cn[65];
    hm_err err;
    snprintf(cn, sizeof cn, "%.*s %s issuing %s", CN_MESH_MAX, r->mesh, family, r->what + 3);
    HM_TRY_OUT(authority_pair_make(r->token, r->family, cn, &p));
    HM_TRY_OUT(key_id(p.pub, &out->id));
    // Another name than all others', by which lists of revocations belong to one of them alone.
    snprintf(cn, sizeof cn, "%.*s %s issuing %s", CN_MESH_MAX, r->mesh, family, out->id.hex);
    HM_TRY_OUT(authority_pair_write(r->token, r->dir, r->family, r->what, &p));
    if (root_here)
        HM_TRY_OUT(sign_here(r, cn, &p));
    HM_TRY_OUT(authority_request_write(r->dir, r->family, r->what, cn, &p));
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
    HM_TRY(issuing_mesh_name(r->dir, r->mesh));
    issuing_name(r->ix.next, "ca", "", r->what);
    // FALCON keys are all wrapped by the same key of the token.
    if (r->token && r->family == TC_MESH)
        HM_TRY(authority_token_id(r->dir, r->ix.number[0], &r->token->wrap_id));
    HM_TRY(issuing_files_remove(r->dir, r->token ? r->token->hsm : NULL, r->ix.next));
    HM_TRY(key_make(r, root_here, out));
    out->certified = root_here;
    if (root_here)
        HM_TRY(issuing_path(r->dir, r->ix.next, "ca", ".crt", out->file));
    return HM_OK;
}

static hm_err rotatable(const rotating *r, bool root_here)
{
    tc_issuing_info waiting = {0};
    HM_TRY(installed(r->dir, r->family));
    if (r->edge_names && r->family == TC_MESH)
        return hm_fail(HM_E_USAGE, "--edge-names is of the edge family");
    if (r->edge_names && !root_here)
        return hm_fail(HM_E_USAGE, "--edge-names is said to `hypermesh cert root sign` then");
    if (r->ix.ready == 0)
        return issuing_room(&r->ix);
    HM_TRY(info_read(r->dir, &r->ix, r->ix.ready, &waiting));
    return hm_fail(HM_E_EXISTS,
                   "a change is under way: %s is ready; once the members have put it in force, "
                   "`issuing use %s`, or give it up by `issuing remove %s`",
                   waiting.id.hex, waiting.id.hex, waiting.id.hex);
}

hm_err tc_rotate(const char *dir, tc_family f, const char *edge_names, uint64_t now_ms,
                 tc_rotation *out)
{
    rotating r = {.dir = dir, .edge_names = edge_names, .family = f, .now_ms = now_ms};
    tc_rotation done = {0};
    authority_token token = {0};
    bool root_here = file_there(dir, f, "root.key") || file_there(dir, f, "root.hsm");
    hm_err err;
    HM_TRY_OUT(issuing_index_read(dir, f, &r.ix));
    HM_TRY_OUT(rotatable(&r, root_here));
    if (!root_here) {
        HM_TRY_OUT(issuing_path(dir, r.ix.next, "ca", ".csr", done.file));
        if (issuing_pending(dir, &r.ix)) {
            HM_TRY_OUT(request_id(done.file, &done.id));
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

// ---- the one that is ready issues ---------------------------------------------------------------

hm_err tc_issuing_use(const char *dir, const char *id, uint64_t now_ms)
{
    issuing_index ix, now;
    tc_issuing_info info = {0};
    size_t at = 0;
    HM_TRY(find_in_family(dir, TC_MESH, id, &ix, &at, &info));
    if (info.state == TC_ISSUING_PRESENT)
        return hm_fail(HM_E_EXISTS, "it is the one that issues");
    if (info.state == TC_ISSUING_OLDER)
        return hm_fail(HM_E_EXISTS, "it issued before, and does not again: rotate");
    if (now_ms >= info.not_after_ms)
        return hm_fail(HM_E_CERT_EXPIRED, "its certificate is over");
    now = ix;
    memmove(now.number + 1, ix.number, at);
    now.number[0] = ix.number[at];
    now.ready = 0;
    return issuing_index_write(dir, &now);
}

// ---- removing one -------------------------------------------------------------------------------

static hm_err removable(const char *dir, const issuing_index *ix, size_t at, uint64_t now_ms)
{
    uint64_t live[TC_ISSUING_NUMBERS] = {0};
    int present[2];
    const tc_issuing_state state = issuing_state(ix, ix->number[at]);
    if (state == TC_ISSUING_PRESENT)
        return hm_fail(HM_E_BUSY, "it is the one that issues: rotate first");
    HM_TRY(store_look(dir, now_ms, live, present));
    // Once the server wrote down that another issues, none comes to this one's any more; and none
    // ever came to that of one that is ready.
    if (state == TC_ISSUING_OLDER && present[ix->family] != ix->number[0])
        return hm_fail(HM_E_BUSY, "no server has taken over the present issuing CA yet: send it "
                                  "SIGHUP, or start it");
    if (live[ix->number[at]] > 0)
        return hm_fail(HM_E_BUSY,
                       "certificates under it that are not over: %llu; until then it is needed for "
                       "their revocation",
                       (unsigned long long)live[ix->number[at]]);
    return HM_OK;
}

hm_err tc_issuing_remove(const char *dir, tc_family f, const char *id, uint64_t now_ms, bool *later)
{
    issuing_index ix;
    tc_issuing_info info = {0};
    tc_authority *a = NULL;
    size_t at = 0;
    HM_TRY(find_in_family(dir, f, id, &ix, &at, &info));
    HM_TRY(removable(dir, &ix, at, now_ms));
    if (ix.number[at] == ix.ready)
        ix.ready = 0;
    memmove(ix.number + at, ix.number + at + 1, ix.count - at - 1);
    ix.count--;
    HM_TRY(issuing_index_write(dir, &ix));
    // Who opens the authority removes what the index no longer names.
    hm_err err = tc_authority_open(dir, &a);
    tc_authority_close(a);
    *later = err == HM_E_BUSY;
    return *later ? HM_OK : err;
}
