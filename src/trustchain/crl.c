// Lists of what was revoked, each with its delta (RFC 5280, 5.2.4): every issuing CA has its own.
#include <openssl/err.h>

#include "trustchain/authority.h"

// ---- as they are stored -------------------------------------------------------------------------

static hm_err list_path(const tc_authority *a, const issuing_ca *ca, const char *what,
                        char path[TC_PATH_MAX])
{
    char name[ISSUING_NAME_MAX];
    issuing_name(ca->number, what, ".der", name);
    return authority_path(a->dir, tc_family_names[ca->family], name, path);
}

static hm_err list_load(const tc_authority *a, const issuing_ca *ca, const char *what, hm_buf *der)
{
    char path[TC_PATH_MAX];
    HM_TRY(list_path(a, ca, what, path));
    hm_err err = hm_file_read(path, TC_CRL_MAX, der);
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

static hm_err count_one(void *ctx, const tc_issued *info)
{
    (void)info;
    ++*(uint64_t *)ctx;
    return HM_OK;
}

hm_err authority_crl_load(tc_authority *a, issuing_ca *ca)
{
    tc_crl_info delta;
    uint64_t base, revoked = 0;
    hm_buf issuing = {0};
    hm_err err;
    ca->crl_dirty = true;
    HM_TRY_OUT(list_load(a, ca, "crl", &ca->crl));
    HM_TRY_OUT(list_load(a, ca, "crl-base", &ca->crl_base));
    HM_TRY_OUT(list_load(a, ca, "crl-delta", &ca->crl_delta));
    HM_TRY_OUT(x509_cert_der(ca->cert, &issuing));
    hm_bytes ca_der = hm_buf_bytes(&issuing);
    if (ca->crl.len > 0)
        HM_TRY_OUT(tc_crl_verify(hm_buf_bytes(&ca->crl), ca_der, &ca->crl_info));
    if (ca->crl_base.len > 0)
        HM_TRY_OUT(tc_crl_verify(hm_buf_bytes(&ca->crl_base), ca_der, &ca->crl_base_info));
    if (ca->crl.len == 0 || ca->crl_base.len == 0 || ca->crl_delta.len == 0)
        goto out;
    HM_TRY_OUT(x509_delta_verify(hm_buf_bytes(&ca->crl_delta), ca_der, &delta, &base));
    HM_TRY_OUT(authority_each_revoked(a, ca->number, count_one, &revoked));
    ca->crl_dirty = revoked != ca->crl_info.count || delta.number != ca->crl_info.number ||
                    base != ca->crl_base_info.number;
out:
    hm_buf_free(&issuing);
    return err;
}

// ---- signing ------------------------------------------------------------------------------------

// A list to be signed.
typedef struct crl_order {
    uint64_t number, now_ms, until_ms;
    X509_CRL *base; // of a delta: what is in there is left out; NULL: all that is revoked
    uint64_t base_number;
    const char *delta_url; // freshestCRL of a whole list, in OpenSSL's words; NULL: none
} crl_order;

typedef struct crl_making {
    X509_CRL *crl, *base;
} crl_making;

static hm_err crl_entry(void *ctx, const tc_issued *info)
{
    const crl_making *m = ctx;
    X509_REVOKED *known, *r = X509_REVOKED_new();
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    ASN1_TIME *when = ASN1_TIME_set(NULL, (time_t)(info->revoked_ms / 1000));
    ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();
    bool ok =
        r && serial && when && reason && ASN1_STRING_set(serial, info->serial.b, TC_SERIAL_BYTES);
    bool left_out = ok && m->base && X509_CRL_get0_by_serial(m->base, &known, serial) == 1;
    ok = ok && !left_out && X509_REVOKED_set_serialNumber(r, serial) &&
         X509_REVOKED_set_revocationDate(r, when) && ASN1_ENUMERATED_set(reason, info->reason) &&
         // RFC 5280, 5.3.1: unspecified is said by saying nothing.
         (info->reason == 0 || X509_REVOKED_add1_ext_i2d(r, NID_crl_reason, reason, 0, 0) == 1) &&
         X509_CRL_add0_revoked(m->crl, r);
    ASN1_INTEGER_free(serial);
    ASN1_TIME_free(when);
    ASN1_ENUMERATED_free(reason);
    if (ok)
        return HM_OK;
    X509_REVOKED_free(r);
    return left_out ? HM_OK : hm_crypto_fail(HM_E_CRYPTO, "cannot add to the revocation list");
}

static bool crl_number_add(X509_CRL *crl, int nid, uint64_t number, int critical)
{
    ASN1_INTEGER *n = ASN1_INTEGER_new();
    bool ok = n && ASN1_INTEGER_set_uint64(n, number) &&
              X509_CRL_add1_ext_i2d(crl, nid, n, critical, 0) == 1;
    ASN1_INTEGER_free(n);
    return ok;
}

static bool crl_text_add(X509_CRL *crl, X509 *issuing, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuing, NULL, NULL, crl, 0);
    X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    bool ok = e && X509_CRL_add_ext(crl, e, -1);
    X509_EXTENSION_free(e);
    return ok;
}

static hm_err crl_extensions(X509_CRL *crl, X509 *issuing, const crl_order *o)
{
    if (crl_number_add(crl, NID_crl_number, o->number, 0) &&
        crl_text_add(crl, issuing, NID_authority_key_identifier, "keyid:always") &&
        (!o->base || crl_number_add(crl, NID_delta_crl, o->base_number, 1)) &&
        (!o->delta_url || crl_text_add(crl, issuing, NID_freshest_crl, o->delta_url)))
        return HM_OK;
    return hm_crypto_fail(HM_E_CRYPTO, "cannot finish the revocation list");
}

static hm_err crl_make(tc_authority *a, const issuing_ca *ca, EVP_PKEY *key, const crl_order *o,
                       hm_buf *der)
{
    const EVP_MD *md = ca->family == TC_MESH ? NULL : EVP_sha384();
    X509_CRL *crl = X509_CRL_new();
    crl_making m = {crl, o->base};
    ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)(o->now_ms / 1000));
    ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)(o->until_ms / 1000));
    hm_err err = HM_OK;
    uint8_t *at;
    int len = 0;
    if (!crl || !now || !next || !X509_CRL_set_version(crl, X509_CRL_VERSION_2) ||
        !X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->cert)) ||
        !X509_CRL_set1_lastUpdate(crl, now) || !X509_CRL_set1_nextUpdate(crl, next)) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a revocation list");
        goto out;
    }
    HM_TRY_OUT(authority_each_revoked(a, ca->number, crl_entry, &m));
    X509_CRL_sort(crl);
    HM_TRY_OUT(crl_extensions(crl, ca->cert, o));
    if (X509_CRL_sign(crl, key, md) <= 0 || (len = i2d_X509_CRL(crl, NULL)) <= 0)
        HM_TRY_OUT(hm_crypto_fail(HM_E_CRYPTO, "cannot sign the revocation list"));
    if ((unsigned)len > TC_CRL_MAX) {
        err = hm_fail(HM_E_LIMIT, "the revocation list has %d bytes, more than clients take", len);
        goto out;
    }
    at = hm_buf_reserve(der, (size_t)len);
    if (!at) {
        err = hm_buf_status(der);
        goto out;
    }
    der->len += (size_t)i2d_X509_CRL(crl, &at);
out:
    ASN1_TIME_free(now);
    ASN1_TIME_free(next);
    X509_CRL_free(crl);
    return err;
}

// Lists that are signed together: of one time, with one number, telling the same (RFC 5280, 5.2.3).
typedef struct crl_pair {
    hm_buf full, delta;
    tc_crl_info info;
    bool rolls; // the full list is the base of what follows
} crl_pair;

// Whoever follows the family's present list sees its numbers grow, whosever it is.
static uint64_t next_number(const tc_authority *a, const issuing_ca *ca)
{
    const family_ca *f = &a->family[ca->family];
    uint64_t number = ca->crl_info.number;
    bool leads = ca->crl.len == 0 || ca->state == TC_ISSUING_PRESENT;
    for (size_t i = 0; leads && i < f->count; i++)
        if (f->issuing[i]->crl_info.number > number)
            number = f->issuing[i]->crl_info.number;
    return number + 1;
}

static hm_err crl_pair_make(tc_authority *a, const issuing_ca *ca, EVP_PKEY *key, uint64_t now_ms,
                            crl_pair *p)
{
    public_places where;
    x509_template t = {0};
    authority_places(a, ca, &where, &t);
    crl_order o = {.number = next_number(a, ca),
                   .now_ms = now_ms,
                   .until_ms = now_ms + TC_CRL_DAYS * TC_DAY_MS,
                   .delta_url = t.delta_url};
    HM_TRY(crl_make(a, ca, key, &o, &p->full));
    p->rolls = ca->crl_base.len == 0 || now_ms >= ca->crl_base_info.this_update_ms + TC_DAY_MS;
    const hm_buf *base = p->rolls ? &p->full : &ca->crl_base;
    const uint8_t *at = base->ptr;
    o.until_ms = now_ms + TC_DELTA_HOURS * UINT64_C(3600000);
    o.base_number = p->rolls ? o.number : ca->crl_base_info.number;
    o.delta_url = NULL; // RFC 5280, 5.2.6
    o.base = d2i_X509_CRL(NULL, &at, (long)base->len);
    if (!o.base)
        return hm_crypto_fail(HM_E_CORRUPT, "the base of the delta list cannot be read");
    hm_err err = crl_make(a, ca, key, &o, &p->delta);
    X509_CRL_free(o.base);
    return err;
}

static hm_err crl_write(const tc_authority *a, const issuing_ca *ca, const char *what,
                        const hm_buf *der)
{
    char path[TC_PATH_MAX];
    HM_TRY(list_path(a, ca, what, path));
    return hm_file_write(path, hm_buf_bytes(der), 0644);
}

// On disk before they leave: their number is then taken for good. In this order each crash in
// between shows at the next start: authority_crl_load().
static hm_err crl_pair_keep(tc_authority *a, issuing_ca *ca, crl_pair *p)
{
    hm_buf base = {0};
    hm_err err = crl_write(a, ca, "crl", &p->full);
    if (err == HM_OK && p->rolls) {
        hm_buf_put(&base, hm_buf_bytes(&p->full));
        err = hm_buf_status(&base);
        if (err == HM_OK)
            err = crl_write(a, ca, "crl-base", &base);
    }
    if (err == HM_OK)
        err = crl_write(a, ca, "crl-delta", &p->delta);
    if (err != HM_OK) {
        hm_buf_free(&base);
        return err;
    }
    if (p->rolls) {
        hm_buf_free(&ca->crl_base);
        ca->crl_base = base;
        ca->crl_base_info = p->info;
    }
    hm_buf_free(&ca->crl);
    hm_buf_free(&ca->crl_delta);
    ca->crl = p->full;
    ca->crl_delta = p->delta;
    ca->crl_info = p->info;
    ca->crl_dirty = false;
    *p = (crl_pair){0};
    return HM_OK;
}

// Signs the lists anew unless those that are there are of today and have everything.
static hm_err crl_current(tc_authority *a, issuing_ca *ca, uint64_t now_ms)
{
    crl_pair p = {0};
    hm_buf issuing = {0};
    tc_crl_info delta;
    EVP_PKEY *key = NULL;
    uint64_t base;
    hm_err err;
    if (!ca->crl_dirty && now_ms < ca->crl_info.this_update_ms + TC_DAY_MS)
        return HM_OK;
    HM_TRY(authority_key_open(a, ca, &key));
    err = crl_pair_make(a, ca, key, now_ms, &p);
    HM_TRY_OUT(authority_key_close(a, ca, key, err));
    HM_TRY_OUT(x509_cert_der(ca->cert, &issuing));
    HM_TRY_OUT(tc_crl_verify(hm_buf_bytes(&p.full), hm_buf_bytes(&issuing), &p.info));
    HM_TRY_OUT(x509_delta_verify(hm_buf_bytes(&p.delta), hm_buf_bytes(&issuing), &delta, &base));
    err = crl_pair_keep(a, ca, &p);
out:
    hm_buf_free(&p.full);
    hm_buf_free(&p.delta);
    hm_buf_free(&issuing);
    return err;
}

hm_err tc_issuing_crl(tc_authority *a, tc_family family, const char *id, bool delta,
                      uint64_t now_ms, tc_crl_info *info, hm_buf *der)
{
    issuing_ca *ca = NULL;
    HM_TRY(authority_issuing_find(a, family, id, &ca));
    HM_TRY(crl_current(a, ca, now_ms));
    if (der) {
        hm_buf_put(der, hm_buf_bytes(delta ? &ca->crl_delta : &ca->crl));
        HM_TRY(hm_buf_status(der));
    }
    if (info)
        *info = ca->crl_info;
    return HM_OK;
}

hm_err tc_authority_crl(tc_authority *a, tc_family f, uint64_t now_ms, hm_buf *out)
{
    return tc_issuing_crl(a, f, NULL, false, now_ms, NULL, out);
}

hm_err tc_authority_delta_crl(tc_authority *a, tc_family f, uint64_t now_ms, hm_buf *out)
{
    return tc_issuing_crl(a, f, NULL, true, now_ms, NULL, out);
}

hm_err tc_authority_crl_info(tc_authority *a, tc_family f, uint64_t now_ms, tc_crl_info *out)
{
    return tc_issuing_crl(a, f, NULL, false, now_ms, out, NULL);
}
