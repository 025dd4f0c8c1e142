// Issuing, revoking, and the list of what was revoked.
#include <openssl/err.h>

#include "trustchain/authority.h"
#include "trustchain/csr.h"

// Makes, records and hands out a certificate whose template lacks issuer, serial and times.
static hm_err issue(tc_authority *a, tc_family f, x509_template *t, const char *subject,
                    uint64_t now_ms, hm_buf *chain_pem, tc_issued *out)
{
    family_ca *ca = &a->family[f];
    X509 *cert = NULL;
    hm_buf der = {0};
    uint64_t ca_until_ms;
    hm_err err;

    HM_TRY(x509_time_ms(X509_get0_notAfter(ca->issuing), &ca_until_ms));
    if (now_ms >= ca_until_ms)
        return hm_fail(HM_E_CERT_EXPIRED, "the issuing CA has expired: it issues nothing more");
    t->issuer = ca->issuing;
    t->issuer_key = ca->issuing_key;
    t->serial = authority_serial(a);
    // Whole seconds, as certificates hold them.
    t->not_before_ms = (now_ms - TC_SKEW_MS) / 1000 * 1000;
    t->not_after_ms = (now_ms + TC_NODE_DAYS * TC_DAY_MS) / 1000 * 1000;
    if (t->not_after_ms > ca_until_ms)
        t->not_after_ms = ca_until_ms;
    tc_issued info = {.serial = t->serial,
                      .family = f,
                      .not_before_ms = t->not_before_ms,
                      .not_after_ms = t->not_after_ms};
    snprintf(info.subject, sizeof info.subject, "%s", subject);

    HM_TRY_OUT(x509_cert_make(t, &cert));
    HM_TRY_OUT(x509_cert_der(cert, &der));
    HM_TRY_OUT(authority_record_issued(a, &info, hm_buf_bytes(&der)));
    HM_TRY_OUT(x509_cert_pem(cert, chain_pem));
    hm_buf_put(chain_pem, hm_buf_bytes(&ca->issuing_pem));
    HM_TRY_OUT(hm_buf_status(chain_pem));
    if (out)
        *out = info;
out:
    hm_buf_free(&der);
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

hm_err tc_issue_node(tc_authority *a, hm_bytes csr_pem, uint64_t now_ms, hm_buf *chain_pem,
                     tc_issued *issued)
{
    csr c = {0};
    GENERAL_NAMES *names = NULL;
    hm_err err;
    HM_TRY_OUT(csr_read_node(csr_pem, &c));
    HM_TRY_OUT(node_names(c.key, &names));
    x509_template t = {
        .cn = c.name,
        .subject_key = c.key,
        .key_usage = "critical,digitalSignature",
        .ext_key_usage = "serverAuth,clientAuth",
        .names = names,
    };
    err = issue(a, TC_MESH, &t, c.subject, now_ms, chain_pem, issued);
out:
    GENERAL_NAMES_free(names);
    csr_free(&c);
    return err;
}

hm_err tc_issue_server(tc_authority *a, hm_bytes csr_pem, uint64_t now_ms, hm_buf *chain_pem,
                       tc_issued *issued)
{
    csr c = {0};
    hm_err err;
    HM_TRY_OUT(csr_read_server(csr_pem, &c));
    x509_template t = {
        .subject_key = c.key,
        .key_usage = "critical,digitalSignature",
        .ext_key_usage = "serverAuth",
        .names = c.names,
    };
    err = issue(a, TC_EDGE, &t, c.subject, now_ms, chain_pem, issued);
out:
    csr_free(&c);
    return err;
}

hm_err tc_revoke(tc_authority *a, const tc_serial *serial, uint8_t reason, uint64_t now_ms)
{
    issued_cert *i = authority_find(a, serial);
    if (reason > TC_REASON_MAX || reason == 7)
        return hm_fail(HM_E_RANGE, "%u is no reason of RFC 5280, section 5.3.1", reason);
    if (!i)
        return hm_fail(HM_E_NOTFOUND, "no certificate of this authority has that serial");
    if (i->info.revoked)
        return hm_fail(HM_E_EXISTS, "the certificate of %s is revoked already", i->info.subject);
    return authority_record_revoked(a, i, reason, now_ms);
}

static hm_err crl_entry(X509_CRL *crl, const tc_issued *info)
{
    X509_REVOKED *r = X509_REVOKED_new();
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    ASN1_TIME *when = ASN1_TIME_set(NULL, (time_t)(info->revoked_ms / 1000));
    ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();
    bool ok =
        r && serial && when && reason && ASN1_STRING_set(serial, info->serial.b, TC_SERIAL_BYTES) &&
        X509_REVOKED_set_serialNumber(r, serial) && X509_REVOKED_set_revocationDate(r, when) &&
        ASN1_ENUMERATED_set(reason, info->reason) &&
        // RFC 5280, 5.3.1: unspecified is said by saying nothing.
        (info->reason == 0 || X509_REVOKED_add1_ext_i2d(r, NID_crl_reason, reason, 0, 0) == 1) &&
        X509_CRL_add0_revoked(crl, r);
    ASN1_INTEGER_free(serial);
    ASN1_TIME_free(when);
    ASN1_ENUMERATED_free(reason);
    if (ok)
        return HM_OK;
    X509_REVOKED_free(r);
    return hm_crypto_fail(HM_E_CRYPTO, "cannot add to the revocation list");
}

static hm_err crl_extensions(X509_CRL *crl, X509 *issuing, uint64_t number)
{
    X509V3_CTX ctx;
    hm_err err = HM_OK;
    ASN1_INTEGER *n = ASN1_INTEGER_new();
    X509_EXTENSION *akid;
    X509V3_set_ctx(&ctx, issuing, NULL, NULL, crl, 0);
    akid = X509V3_EXT_nconf_nid(NULL, &ctx, NID_authority_key_identifier, "keyid:always");
    if (!n || !akid || !ASN1_INTEGER_set_uint64(n, number) ||
        X509_CRL_add1_ext_i2d(crl, NID_crl_number, n, 0, 0) != 1 ||
        !X509_CRL_add_ext(crl, akid, -1))
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot finish the revocation list");
    X509_EXTENSION_free(akid);
    ASN1_INTEGER_free(n);
    return err;
}

static hm_err crl_make(tc_authority *a, tc_family f, uint64_t now_ms, hm_buf *der)
{
    family_ca *ca = &a->family[f];
    const EVP_MD *md = f == TC_MESH ? NULL : EVP_sha384();
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)(now_ms / 1000));
    ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)((now_ms + TC_CRL_DAYS * TC_DAY_MS) / 1000));
    hm_err err = HM_OK;
    uint8_t *at;
    int len;
    if (!crl || !now || !next || !X509_CRL_set_version(crl, X509_CRL_VERSION_2) ||
        !X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->issuing)) ||
        !X509_CRL_set1_lastUpdate(crl, now) || !X509_CRL_set1_nextUpdate(crl, next)) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a revocation list");
        goto out;
    }
    for (size_t i = 0; i < a->count; i++) {
        const tc_issued *info = &a->issued[i].info;
        if (info->family == f && info->revoked)
            HM_TRY_OUT(crl_entry(crl, info));
    }
    X509_CRL_sort(crl);
    HM_TRY_OUT(crl_extensions(crl, ca->issuing, ca->crl_info.number + 1));
    if (X509_CRL_sign(crl, ca->issuing_key, md) <= 0 || (len = i2d_X509_CRL(crl, NULL)) <= 0) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot sign the revocation list");
        goto out;
    }
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

hm_err tc_authority_crl(tc_authority *a, tc_family f, uint64_t now_ms, hm_buf *out)
{
    family_ca *ca = &a->family[f];
    hm_buf der = {0}, issuing = {0};
    tc_crl_info info;
    char path[TC_PATH_MAX];
    hm_err err = HM_OK;
    if (!ca->crl_dirty && now_ms < ca->crl_info.this_update_ms + TC_DAY_MS)
        goto give;
    HM_TRY_OUT(crl_make(a, f, now_ms, &der));
    HM_TRY_OUT(x509_cert_der(ca->issuing, &issuing));
    HM_TRY_OUT(tc_crl_verify(hm_buf_bytes(&der), hm_buf_bytes(&issuing), &info));
    // On disk before it leaves: its number is then taken for good.
    HM_TRY_OUT(authority_path(a->dir, tc_family_names[f], "crl.der", path));
    HM_TRY_OUT(hm_file_write(path, hm_buf_bytes(&der), 0644));
    hm_buf_free(&ca->crl);
    ca->crl = der;
    der = (hm_buf){0};
    ca->crl_info = info;
    ca->crl_dirty = false;
give:
    hm_buf_put(out, hm_buf_bytes(&ca->crl));
    err = hm_buf_status(out);
out:
    hm_buf_free(&der);
    hm_buf_free(&issuing);
    return err;
}
