// The authority's keys: in files, or in a token (hsm.h). Everything else of the authority asks
// here.
#include <openssl/core_names.h>
#include <stdio.h>
#include <sys/mman.h>

#include "trustchain/authority.h"

#define KEY_MAX (HM_FALCON_PRIVATE_BYTES + HSM_WRAP_OVERHEAD)

// ---- a page for a private key on its way
// ---------------------------------------------------------

static hm_err page_make(uint8_t **out)
{
    void *page = mmap(NULL, KEY_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return HM_E_NOMEM;
    if (mlock(page, KEY_MAX) != 0 || madvise(page, KEY_MAX, MADV_DONTDUMP) != 0) {
        munmap(page, KEY_MAX);
        return hm_fail(HM_E_LIMIT, "no page can be locked for a key: raise RLIMIT_MEMLOCK");
    }
    *out = page;
    return HM_OK;
}

static void page_free(uint8_t *page)
{
    if (!page)
        return;
    hm_zero(page, KEY_MAX);
    munmap(page, KEY_MAX);
}

// ---- wrapped FALCON keys
// -------------------------------------------------------------------------

static hm_err falcon_wrap(hsm *h, const hsm_id *wrap, EVP_PKEY *key, hm_buf *out)
{
    uint8_t *page = NULL;
    size_t len = 0;
    hm_err err;
    HM_TRY_OUT(page_make(&page));
    if (EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PRIV_KEY, page,
                                        HM_FALCON_PRIVATE_BYTES, &len) <= 0 ||
        len != HM_FALCON_PRIVATE_BYTES)
        HM_TRY_OUT(hm_crypto_fail(HM_E_KEY, "the key has no private half"));
    err = hsm_wrap(h, wrap, hm_bytes_of(page, len), out);
out:
    page_free(page);
    return err;
}

static hm_err falcon_unwrap(hsm *h, const hsm_id *wrap, const hm_buf *wrapped, EVP_PKEY **out)
{
    uint8_t *page = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    hm_err err;
    HM_TRY_OUT(page_make(&page));
    HM_TRY_OUT(hsm_unwrap(h, wrap, hm_buf_bytes(wrapped), page, HM_FALCON_PRIVATE_BYTES));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PRIV_KEY, page, HM_FALCON_PRIVATE_BYTES),
        OSSL_PARAM_construct_end(),
    };
    ctx = EVP_PKEY_CTX_new_from_name(NULL, HM_FALCON_NAME, NULL);
    if (!ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, out, EVP_PKEY_KEYPAIR, params) <= 0)
        err = hm_crypto_fail(HM_E_CORRUPT, "what the token unwraps is no key");
out:
    EVP_PKEY_CTX_free(ctx);
    page_free(page);
    return err;
}

// ---- making
// --------------------------------------------------------------------------------------

static EVP_PKEY *falcon_gen(void)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, HM_FALCON_NAME, NULL);
    if (!ctx || EVP_PKEY_keygen_init(ctx) <= 0 || EVP_PKEY_generate(ctx, &key) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

void authority_pair_free(authority_pair *p)
{
    EVP_PKEY_free(p->key);
    EVP_PKEY_free(p->pub);
    X509_free(p->cert);
}

hm_err authority_pair_make(const authority_token *t, tc_family f, const char *label,
                           authority_pair *p)
{
    if (t && f == TC_EDGE) {
        HM_TRY(hsm_ec_make(t->hsm, label, &p->token_id));
        HM_TRY(hsm_ec_public(t->hsm, &p->token_id, &p->pub));
        return hsm_ec_signer(t->hsm, &p->token_id, &p->key);
    }
    p->key = f == TC_MESH ? falcon_gen() : EVP_EC_gen("P-384");
    if (!p->key || !EVP_PKEY_up_ref(p->key))
        return hm_crypto_fail(HM_E_CRYPTO, "cannot make a key");
    p->pub = p->key;
    if (t)
        p->token_id = t->wrap_id;
    return HM_OK;
}

// In a file of a key in a token: the id of the ECDSA key and nothing, or that of the key that
// unwraps and what it wrapped.
hm_err authority_pair_write(const authority_token *t, const char *dir, tc_family f,
                            const char *what, const authority_pair *p)
{
    char path[TC_PATH_MAX], file[16];
    hm_buf body = {0}, wrapped = {0};
    hm_err err;
    snprintf(file, sizeof file, "%s.%s", what, t ? "hsm" : "key");
    HM_TRY_OUT(authority_path(dir, tc_family_names[f], file, path));
    if (t) {
        if (f == TC_MESH)
            HM_TRY_OUT(falcon_wrap(t->hsm, &p->token_id, p->key, &wrapped));
        hm_wr_raw(&body, p->token_id.b, sizeof p->token_id.b);
        hm_wr_bytes(&body, hm_buf_bytes(&wrapped));
        HM_TRY_OUT(hm_buf_status(&body));
    } else {
        HM_TRY_OUT(x509_key_pem(p->key, &body));
    }
    err = hm_file_write(path, hm_buf_bytes(&body), 0600);
out:
    hm_buf_free_secret(&body);
    hm_buf_free(&wrapped);
    return err;
}

// ---- using
// ---------------------------------------------------------------------------------------

hm_err authority_token_open(const char *dir, hsm **out)
{
    char path[TC_PATH_MAX];
    hm_buf uri = {0};
    hm_err err;
    HM_TRY_OUT(authority_path(dir, "", "hsm.uri", path));
    err = hm_file_read(path, HSM_URI_MAX + 1, &uri);
    if (err == HM_E_NOTFOUND) {
        err = HM_OK;
        goto out;
    }
    HM_TRY_OUT(err);
    if (uri.len > 0 && uri.ptr[uri.len - 1] == '\n')
        uri.len--;
    hm_buf_append(&uri, "", 1);
    HM_TRY_OUT(hm_buf_status(&uri));
    err = hsm_open((const char *)uri.ptr, out);
out:
    hm_buf_free(&uri);
    return err;
}

static hm_err token_file_read(const char *dir, tc_family f, const char *name, hsm_id *id,
                              hm_buf *wrapped)
{
    char path[TC_PATH_MAX];
    hm_buf file = {0};
    hm_err err;
    HM_TRY_OUT(authority_path(dir, tc_family_names[f], name, path));
    HM_TRY_OUT(hm_file_read_secret(path, KEY_MAX + 64, &file));
    hm_rd r = hm_rd_of(hm_buf_bytes(&file));
    hm_rd_copy(&r, id->b, sizeof id->b);
    hm_buf_put(wrapped, hm_rd_bytes(&r, KEY_MAX));
    if (hm_rd_end(&r) != HM_OK || (wrapped->len == KEY_MAX) != (f == TC_MESH))
        HM_TRY_OUT(hm_fail(HM_E_CORRUPT, "%s is not a key of a token", path));
    err = hm_buf_status(wrapped);
out:
    hm_buf_free(&file);
    return err;
}

hm_err authority_token_id(const char *dir, unsigned number, hsm_id *id)
{
    char name[ISSUING_NAME_MAX];
    hm_buf wrapped = {0};
    issuing_name(number, "ca", ".hsm", name);
    hm_err err = token_file_read(dir, issuing_family(number), name, id, &wrapped);
    hm_buf_free(&wrapped);
    return err;
}

hm_err authority_pair_load(const authority_token *t, const char *dir, tc_family f, const char *what,
                           authority_pair *p)
{
    char name[ISSUING_NAME_MAX], path[TC_PATH_MAX];
    hm_buf wrapped = {0};
    hm_err err;
    snprintf(name, sizeof name, "%s.%s", what, t ? "hsm" : "key");
    if (t)
        HM_TRY_OUT(token_file_read(dir, f, name, &p->token_id, &wrapped));
    if (t && f == TC_EDGE) {
        HM_TRY_OUT(hsm_ec_public(t->hsm, &p->token_id, &p->pub));
        HM_TRY_OUT(hsm_ec_signer(t->hsm, &p->token_id, &p->key));
    } else {
        if (t)
            HM_TRY_OUT(falcon_unwrap(t->hsm, &p->token_id, &wrapped, &p->key));
        else
            HM_TRY_OUT(authority_key_file(dir, tc_family_names[f], name, &p->key));
        if (!EVP_PKEY_up_ref(p->key))
            HM_TRY_OUT(HM_E_NOMEM);
        p->pub = p->key;
    }
    snprintf(name, sizeof name, "%s.crt", what);
    HM_TRY_OUT(authority_path(dir, tc_family_names[f], name, path));
    HM_TRY_OUT(x509_cert_load(path, &p->cert));
    if (EVP_PKEY_eq(X509_get0_pubkey(p->cert), p->pub) != 1)
        err = hm_crypto_fail(HM_E_CORRUPT, "a root's certificate is not for its key");
out:
    hm_buf_free(&wrapped);
    return err;
}

hm_err authority_key_load(tc_authority *a, issuing_ca *ca)
{
    char name[ISSUING_NAME_MAX], path[TC_PATH_MAX];
    EVP_PKEY *key = NULL;
    hm_err err;
    issuing_name(ca->number, "ca", a->hsm ? ".hsm" : ".key", name);
    if (!a->hsm) {
        HM_TRY_OUT(authority_path(a->dir, tc_family_names[ca->family], name, path));
        HM_TRY_OUT(x509_key_load(path, &ca->key));
        HM_TRY_OUT(authority_key_open(a, ca, &key));
    } else {
        HM_TRY_OUT(token_file_read(a->dir, ca->family, name, &ca->token_id, &ca->wrapped));
        if (ca->family == TC_EDGE)
            HM_TRY_OUT(hsm_ec_public(a->hsm, &ca->token_id, &key));
        else
            HM_TRY_OUT(authority_key_open(a, ca, &key));
    }
    if (EVP_PKEY_eq(X509_get0_pubkey(ca->cert), key) != 1)
        err = hm_crypto_fail(HM_E_CORRUPT, "an issuing certificate is not for its key");
out:
    EVP_PKEY_free(key);
    return err;
}

hm_err authority_key_open(tc_authority *a, const issuing_ca *ca, EVP_PKEY **out)
{
    if (a->hsm)
        return ca->family == TC_MESH ? falcon_unwrap(a->hsm, &ca->token_id, &ca->wrapped, out)
                                     : hsm_ec_signer(a->hsm, &ca->token_id, out);
    if (!EVP_PKEY_up_ref(ca->key))
        return HM_E_NOMEM;
    *out = ca->key;
    return HM_OK;
}

hm_err authority_key_close(tc_authority *a, const issuing_ca *ca, EVP_PKEY *key, hm_err err)
{
    EVP_PKEY_free(key);
    return key && a->hsm && ca->family == TC_EDGE && err == HM_E_CRYPTO ? hsm_lost(a->hsm) : err;
}

hm_err tc_authority_ready(tc_authority *a)
{
    for (int f = 0; a->hsm && f < 2; f++)
        for (size_t i = 0; i < a->family[f].count; i++)
            HM_TRY(hsm_check(a->hsm, &a->family[f].issuing[i]->token_id));
    return HM_OK;
}
