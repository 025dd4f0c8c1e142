// Issuing and revoking.
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

// Makes, records and hands out a certificate whose template lacks issuer, serial and times.
static hm_err issue(tc_authority *a, tc_profile p, x509_template *t, const char *subject,
                    const tc_terms *terms, const renewal_note *note, uint64_t now_ms,
                    hm_buf *chain_pem, tc_issued *out)
{
    const tc_profile_rules *rules = tc_profile_of(p);
    const tc_family f = rules->family;
    issuing_ca *ca = a->family[f].issuing[0];
    X509 *precert = NULL, *cert = NULL;
    EVP_PKEY *key = NULL;
    hm_buf der = {0}, chain = {0};
    public_places where;
    uint64_t ca_until_ms, life_s = terms->life_s ? terms->life_s : LIFE_S;
    hm_err err;

    if (life_s > rules->life_max_s)
        return hm_fail(HM_E_CSR, "a certificate of profile %s lives for %u s at most", rules->name,
                       rules->life_max_s);
    HM_TRY(x509_time_ms(X509_get0_notAfter(ca->cert), &ca_until_ms));
    if (now_ms >= ca_until_ms)
        return hm_fail(HM_E_CERT_EXPIRED, "the issuing CA has expired: it issues nothing more");
    t->key_usage = rules->key_usage;
    t->ext_key_usage = rules->ext_key_usage;
    t->issuer = ca->cert;
    t->precert = true;
    authority_places(a, ca, &where, t);
    HM_TRY(authority_serial(a, &t->serial));
    // Whole seconds, as certificates hold them.
    t->not_before_ms = (now_ms - TC_SKEW_MS) / 1000 * 1000;
    t->not_after_ms = (now_ms + life_s * 1000) / 1000 * 1000;
    if (t->not_after_ms > ca_until_ms)
        t->not_after_ms = ca_until_ms;
    tc_issued info = {.serial = t->serial,
                      .family = f,
                      .issuing = ca->number,
                      .not_before_ms = t->not_before_ms,
                      .not_after_ms = t->not_after_ms};
    snprintf(info.subject, sizeof info.subject, "%s", subject);

    HM_TRY_OUT(authority_key_open(a, ca, &key));
    t->issuer_key = key;
    // In one transaction, so that the log has what was issued and nothing else, whatever happens.
    HM_TRY_OUT(x509_cert_make(t, &precert));
    HM_TRY_OUT(authority_constraints_check(ca->cert, precert));
    HM_TRY_OUT(authority_begin(a));
    HM_TRY_OUT(authority_log_precert(a, ca, precert, now_ms, &cert));
    HM_TRY_OUT(x509_cert_sign(cert, key));
    HM_TRY_OUT(x509_cert_der(cert, &der));
    HM_TRY_OUT(authority_record_issued(a, &info, hm_buf_bytes(&der)));
    HM_TRY_OUT(record_terms(a, &info.serial, terms, note));
    HM_TRY_OUT(x509_cert_pem(cert, &chain));
    hm_buf_put(&chain, hm_buf_bytes(&ca->pem));
    HM_TRY_OUT(hm_buf_status(&chain));
    if (terms->beside)
        HM_TRY_OUT(terms->beside(terms->beside_ctx, a, &info, hm_buf_bytes(&chain)));
    HM_TRY_OUT(authority_commit(a));
    hm_buf_put(chain_pem, hm_buf_bytes(&chain));
    HM_TRY_OUT(hm_buf_status(chain_pem));
    if (out)
        *out = info;
out:
    err = authority_key_close(a, ca, key, err);
    authority_abort(a);
    hm_buf_free(&der);
    hm_buf_free(&chain);
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
