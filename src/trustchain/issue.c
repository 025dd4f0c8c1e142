// Issuing, revoking, and the list of what was revoked.
#include <openssl/err.h>

#include "trustchain/authority.h"
#include "trustchain/csr.h"
#include "trustchain/policy.h"

#define LIFE_S (TC_NODE_DAYS * 86400u)

// In the transaction that records a certificate: that it may be renewed, and which one it renews.
static hm_err record_terms(tc_authority *a, const tc_serial *serial, const tc_terms *terms,
                           const renewal_note *note)
{
    const renewal_note fresh = {.serial = *serial, .life_s = terms->life_s};
    if (terms->renewable)
        HM_TRY(authority_record_renewal(a, &fresh));
    return note ? authority_record_renewal(a, note) : HM_OK;
}

hm_err tc_authority_public_url(tc_authority *a, const char *url)
{
    static const char good[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/[]";
    size_t len = strlen(url);
    if (strncmp(url, "http://", 7) != 0 || len < 8 || len > TC_PUBLIC_URL_MAX ||
        strspn(url, good) != len || url[len - 1] == '/')
        return hm_fail(HM_E_CONFIG, "the public URL is http://NAME[:PORT], without a / at its end");
    memcpy(a->public_url, url, len + 1);
    return HM_OK;
}

typedef struct public_places {
    char crl[TC_PUBLIC_URL_MAX + 32], delta[TC_PUBLIC_URL_MAX + 32],
        info[2 * TC_PUBLIC_URL_MAX + 64];
} public_places;

static void places(const tc_authority *a, tc_family f, public_places *p, x509_template *t)
{
    const char *url = a->public_url, *name = tc_family_names[f];
    if (!url[0])
        return;
    snprintf(p->crl, sizeof p->crl, "URI:%s/crl/%s.crl", url, name);
    snprintf(p->delta, sizeof p->delta, "URI:%s/crl/%s-delta.crl", url, name);
    snprintf(p->info, sizeof p->info, "OCSP;URI:%s/ocsp,caIssuers;URI:%s/ca/%s.crt", url, url,
             name);
    t->crl_url = p->crl;
    t->delta_url = p->delta;
    t->info_access = p->info;
}

// Makes, records and hands out a certificate whose template lacks issuer, serial and times.
static hm_err issue(tc_authority *a, tc_profile p, x509_template *t, const char *subject,
                    const tc_terms *terms, const renewal_note *note, uint64_t now_ms,
                    hm_buf *chain_pem, tc_issued *out)
{
    const tc_profile_rules *rules = tc_profile_of(p);
    const tc_family f = rules->family;
    family_ca *ca = &a->family[f];
    X509 *precert = NULL, *cert = NULL;
    EVP_PKEY *key = NULL;
    hm_buf der = {0};
    public_places where;
    uint64_t ca_until_ms, life_s = terms->life_s ? terms->life_s : LIFE_S;
    hm_err err;

    if (life_s > rules->life_max_s)
        return hm_fail(HM_E_CSR, "a certificate of profile %s lives for %u s at most", rules->name,
                       rules->life_max_s);
    HM_TRY(x509_time_ms(X509_get0_notAfter(ca->issuing), &ca_until_ms));
    if (now_ms >= ca_until_ms)
        return hm_fail(HM_E_CERT_EXPIRED, "the issuing CA has expired: it issues nothing more");
    t->key_usage = rules->key_usage;
    t->ext_key_usage = rules->ext_key_usage;
    t->issuer = ca->issuing;
    t->precert = true;
    places(a, f, &where, t);
    HM_TRY(authority_serial(a, &t->serial));
    // Whole seconds, as certificates hold them.
    t->not_before_ms = (now_ms - TC_SKEW_MS) / 1000 * 1000;
    t->not_after_ms = (now_ms + life_s * 1000) / 1000 * 1000;
    if (t->not_after_ms > ca_until_ms)
        t->not_after_ms = ca_until_ms;
    tc_issued info = {.serial = t->serial,
                      .family = f,
                      .not_before_ms = t->not_before_ms,
                      .not_after_ms = t->not_after_ms};
    snprintf(info.subject, sizeof info.subject, "%s", subject);

    HM_TRY_OUT(authority_key_open(a, f, &key));
    t->issuer_key = key;
    // In one transaction, so that the log has what was issued and nothing else, whatever happens.
    HM_TRY_OUT(x509_cert_make(t, &precert));
    HM_TRY_OUT(authority_constraints_check(ca->issuing, precert));
    HM_TRY_OUT(authority_begin(a));
    HM_TRY_OUT(authority_log_precert(a, f, precert, now_ms, &cert));
    HM_TRY_OUT(x509_cert_sign(cert, key));
    HM_TRY_OUT(x509_cert_der(cert, &der));
    HM_TRY_OUT(authority_record_issued(a, &info, hm_buf_bytes(&der)));
    HM_TRY_OUT(record_terms(a, &info.serial, terms, note));
    HM_TRY_OUT(authority_commit(a));
    HM_TRY_OUT(x509_cert_pem(cert, chain_pem));
    hm_buf_put(chain_pem, hm_buf_bytes(&ca->issuing_pem));
    HM_TRY_OUT(hm_buf_status(chain_pem));
    if (out)
        *out = info;
out:
    err = authority_key_close(a, f, key, err);
    authority_abort(a);
    hm_buf_free(&der);
    X509_free(precert);
    X509_free(cert);
    return err;
}

// The one name of a node: its NodeID.
static hm_err node_names(EVP_PKEY *key, GENERAL_NAMES **out)
{
    uint8_t pub[HM_FALCON_PUBLIC_BYTES];
    char uri[sizeof TC_NODE_URI + 2 * HM_HASH_BYTES] = TC_NODE_URI;
    hm_node_id id;
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *n = GENERAL_NAME_new();
    ASN1_IA5STRING *s = ASN1_IA5STRING_new();
    hm_err err;
    HM_TRY_OUT(hm_falcon_public_of_evp(key, pub));
    HM_TRY_OUT(hm_node_id_of_public(hm_bytes_of(pub, sizeof pub), &id));
    hm_hex(uri + sizeof TC_NODE_URI - 1, id.b, HM_HASH_BYTES);
    if (!names || !n || !s || !ASN1_STRING_set(s, uri, -1) || !sk_GENERAL_NAME_push(names, n)) {
        err = HM_E_NOMEM;
        goto out;
    }
    GENERAL_NAME_set0_value(n, GEN_URI, s);
    *out = names;
    return HM_OK;
out:
    ASN1_IA5STRING_free(s);
    GENERAL_NAME_free(n);
    GENERAL_NAMES_free(names);
    return err;
}

static hm_err issue_node(tc_authority *a, const csr *c, const tc_terms *terms,
                         const renewal_note *note, uint64_t now_ms, hm_buf *chain_pem,
                         tc_issued *issued)
{
    GENERAL_NAMES *names = NULL;
    HM_TRY(node_names(c->key, &names));
    x509_template t = {
        .cn = c->name,
        .subject_key = c->key,
        .names = names,
    };
    hm_err err = issue(a, TC_NODE, &t, c->subject, terms, note, now_ms, chain_pem, issued);
    GENERAL_NAMES_free(names);
    return err;
}

static hm_err issue_edge(tc_authority *a, tc_profile p, const csr *c, const tc_terms *terms,
                         const renewal_note *note, uint64_t now_ms, hm_buf *chain_pem,
                         tc_issued *issued)
{
    char first[65]; // a common name has at most 64 characters
    size_t len = strcspn(c->subject, " ");
    snprintf(first, sizeof first, "%.*s", (int)len, c->subject);
    x509_template t = {
        // Clients on GnuTLS, kdig one of them, fail on an empty subject.
        .cn = len < sizeof first ? first : NULL, // its CN, if the profile has one
        .subject_key = c->key,
        .names = c->names,
    };
    return issue(a, p, &t, c->subject, terms, note, now_ms, chain_pem, issued);
}

typedef struct asked {
    const tc_authority *a;
    tc_profile profile;
} asked;

static hm_err name_check(void *ctx, const char *name)
{
    const asked *q = ctx;
    return tc_authority_allows(q->a, q->profile, name);
}

hm_err authority_issue(tc_authority *a, tc_profile p, const csr *c, const tc_terms *terms,
                       const renewal_note *note, uint64_t now_ms, hm_buf *chain_pem,
                       tc_issued *issued)
{
    asked q = {a, p};
    HM_TRY(csr_each_name(c, name_check, &q));
    return p == TC_NODE ? issue_node(a, c, terms, note, now_ms, chain_pem, issued)
                        : issue_edge(a, p, c, terms, note, now_ms, chain_pem, issued);
}

hm_err tc_issue(tc_authority *a, tc_profile p, hm_bytes csr_pem, const tc_terms *terms,
                uint64_t now_ms, hm_buf *chain_pem, tc_issued *issued)
{
    csr c = {0};
    hm_err err = csr_read(csr_pem, p, &c);
    if (err == HM_OK)
        err = authority_issue(a, p, &c, terms, NULL, now_ms, chain_pem, issued);
    csr_free(&c);
    return err;
}

static const tc_terms once;

hm_err tc_issue_node(tc_authority *a, hm_bytes csr_pem, uint64_t now_ms, hm_buf *chain_pem,
                     tc_issued *issued)
{
    return tc_issue(a, TC_NODE, csr_pem, &once, now_ms, chain_pem, issued);
}

hm_err tc_issue_server(tc_authority *a, hm_bytes csr_pem, uint64_t now_ms, hm_buf *chain_pem,
                       tc_issued *issued)
{
    return tc_issue(a, TC_SERVER, csr_pem, &once, now_ms, chain_pem, issued);
}

hm_err tc_revoke(tc_authority *a, const tc_serial *serial, uint8_t reason, uint64_t now_ms)
{
    const tc_issued *i = tc_issued_find(a, serial);
    if (reason > TC_REASON_MAX || reason == 7)
        return hm_fail(HM_E_RANGE, "%u is no reason of RFC 5280, section 5.3.1", reason);
    if (!i)
        return hm_fail(HM_E_NOTFOUND, "no certificate of this authority has that serial");
    if (i->revoked)
        return hm_fail(HM_E_EXISTS, "the certificate of %s is revoked already", i->subject);
    HM_TRY(authority_begin(a));
    hm_err err = authority_record_revoked(a, i, reason, now_ms);
    if (err == HM_OK)
        err = authority_commit(a);
    authority_abort(a);
    return err;
}

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

static hm_err crl_make(tc_authority *a, tc_family f, X509 *issuing, EVP_PKEY *key,
                       const crl_order *o, hm_buf *der)
{
    const EVP_MD *md = f == TC_MESH ? NULL : EVP_sha384();
    X509_CRL *crl = X509_CRL_new();
    crl_making m = {crl, o->base};
    ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)(o->now_ms / 1000));
    ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)(o->until_ms / 1000));
    hm_err err = HM_OK;
    uint8_t *at;
    int len = 0;
    if (!crl || !now || !next || !X509_CRL_set_version(crl, X509_CRL_VERSION_2) ||
        !X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuing)) ||
        !X509_CRL_set1_lastUpdate(crl, now) || !X509_CRL_set1_nextUpdate(crl, next)) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a revocation list");
        goto out;
    }
    HM_TRY_OUT(authority_each_revoked(a, f, crl_entry, &m));
    X509_CRL_sort(crl);
    HM_TRY_OUT(crl_extensions(crl, issuing, o));
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

static hm_err crl_pair_make(tc_authority *a, tc_family f, EVP_PKEY *key, uint64_t now_ms,
                            crl_pair *p)
{
    const family_ca *ca = &a->family[f];
    public_places where;
    x509_template t = {0};
    places(a, f, &where, &t);
    crl_order o = {.number = ca->crl_info.number + 1,
                   .now_ms = now_ms,
                   .until_ms = now_ms + TC_CRL_DAYS * TC_DAY_MS,
                   .delta_url = t.delta_url};
    HM_TRY(crl_make(a, f, ca->issuing, key, &o, &p->full));
    p->rolls = ca->crl_base.len == 0 || now_ms >= ca->crl_base_info.this_update_ms + TC_DAY_MS;
    const hm_buf *base = p->rolls ? &p->full : &ca->crl_base;
    const uint8_t *at = base->ptr;
    o.until_ms = now_ms + TC_DELTA_HOURS * UINT64_C(3600000);
    o.base_number = p->rolls ? o.number : ca->crl_base_info.number;
    o.delta_url = NULL; // RFC 5280, 5.2.6
    o.base = d2i_X509_CRL(NULL, &at, (long)base->len);
    if (!o.base)
        return hm_crypto_fail(HM_E_CORRUPT, "the base of the delta list cannot be read");
    hm_err err = crl_make(a, f, ca->issuing, key, &o, &p->delta);
    X509_CRL_free(o.base);
    return err;
}

static hm_err crl_write(const tc_authority *a, tc_family f, const char *what, const hm_buf *der)
{
    char path[TC_PATH_MAX];
    HM_TRY(authority_path(a->dir, tc_family_names[f], what, path));
    return hm_file_write(path, hm_buf_bytes(der), 0644);
}

// On disk before they leave: their number is then taken for good. In this order each crash in
// between shows at the next start: family_crl_load().
static hm_err crl_pair_keep(tc_authority *a, tc_family f, crl_pair *p)
{
    family_ca *ca = &a->family[f];
    hm_buf base = {0};
    hm_err err = crl_write(a, f, "crl.der", &p->full);
    if (err == HM_OK && p->rolls) {
        hm_buf_put(&base, hm_buf_bytes(&p->full));
        err = hm_buf_status(&base);
        if (err == HM_OK)
            err = crl_write(a, f, "crl-base.der", &base);
    }
    if (err == HM_OK)
        err = crl_write(a, f, "crl-delta.der", &p->delta);
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
static hm_err crl_current(tc_authority *a, tc_family f, uint64_t now_ms)
{
    family_ca *ca = &a->family[f];
    crl_pair p = {0};
    hm_buf issuing = {0};
    tc_crl_info delta;
    EVP_PKEY *key = NULL;
    uint64_t base;
    hm_err err;
    if (!ca->crl_dirty && now_ms < ca->crl_info.this_update_ms + TC_DAY_MS)
        return HM_OK;
    HM_TRY(authority_key_open(a, f, &key));
    err = crl_pair_make(a, f, key, now_ms, &p);
    HM_TRY_OUT(authority_key_close(a, f, key, err));
    HM_TRY_OUT(x509_cert_der(ca->issuing, &issuing));
    HM_TRY_OUT(tc_crl_verify(hm_buf_bytes(&p.full), hm_buf_bytes(&issuing), &p.info));
    HM_TRY_OUT(x509_delta_verify(hm_buf_bytes(&p.delta), hm_buf_bytes(&issuing), &delta, &base));
    err = crl_pair_keep(a, f, &p);
out:
    hm_buf_free(&p.full);
    hm_buf_free(&p.delta);
    hm_buf_free(&issuing);
    return err;
}

hm_err tc_authority_crl(tc_authority *a, tc_family f, uint64_t now_ms, hm_buf *out)
{
    HM_TRY(crl_current(a, f, now_ms));
    hm_buf_put(out, hm_buf_bytes(&a->family[f].crl));
    return hm_buf_status(out);
}

hm_err tc_authority_delta_crl(tc_authority *a, tc_family f, uint64_t now_ms, hm_buf *out)
{
    HM_TRY(crl_current(a, f, now_ms));
    hm_buf_put(out, hm_buf_bytes(&a->family[f].crl_delta));
    return hm_buf_status(out);
}

hm_err tc_authority_crl_info(tc_authority *a, tc_family f, uint64_t now_ms, tc_crl_info *out)
{
    HM_TRY(crl_current(a, f, now_ms));
    *out = a->family[f].crl_info;
    return HM_OK;
}
