// Certificates after their issue: revocation (RFC 8555, 7.6) and when to renew (RFC 9773).
#include <openssl/err.h>
#include <stdio.h>

#include "trustchain/acme/internal.h"
#include "trustchain/x509.h"

#define ASK_AGAIN_S 21600u // RFC 9773, 4.3.1 leaves it to us
#define TC_REASONS_TAKEN "0, 1, 3, 4, 5 or 9"

// ---- revocation ---------------------------------------------------------------------------------

// The certificate that we issued with that serial, as DER; NULL: none.
static bool ours(acme_call *c, const tc_serial *serial, hm_bytes *der)
{
    const tc_issued *i = tc_issued_find(c->a->cfg.authority, serial);
    return i && i->family == TC_EDGE && tc_issued_der(c->a->cfg.authority, serial, der) == HM_OK;
}

static acme_error read_certificate(acme_call *c, hm_buf *der, tc_serial *serial)
{
    const char *text;
    X509 *x = NULL;
    hm_bytes issued;
    ACME_TRY(acme_need_payload(c));
    ACME_TRY(acme_payload_text(c, "certificate", &text));
    if (!text)
        return acme_fail(c, ACME_MALFORMED, "\"certificate\" is missing");
    hm_err err = jose_unbase64(hm_bytes_str(text), der);
    if (err == HM_OK)
        err = x509_cert_parse(hm_buf_bytes(der), &x);
    if (err == HM_OK)
        err = x509_serial(x, serial);
    X509_free(x);
    ERR_clear_error();
    if (err == HM_E_PARSE)
        return acme_fail(c, ACME_MALFORMED,
                         "\"certificate\" is not a certificate in DER and "
                         "base64url");
    if (err != HM_OK || !ours(c, serial, &issued) || !hm_bytes_eq(issued, hm_buf_bytes(der))) {
        c->out->status = 404;
        return acme_fail(c, ACME_MALFORMED, "this authority has not issued the certificate");
    }
    return ACME_OK;
}

static acme_error read_reason(acme_call *c, uint8_t *out)
{
    yyjson_val *v = yyjson_obj_get(yyjson_doc_get_root(c->payload), "reason");
    uint64_t n = yyjson_get_uint(v);
    *out = 0;
    if (!v)
        return ACME_OK;
    if (!yyjson_is_uint(v))
        return acme_fail(c, ACME_MALFORMED, "\"reason\" is a number");
    // What an end entity's certificate can be revoked for, and for good.
    if (n > 9 || n == 2 || n == 6 || n == 7 || n == 8)
        return acme_fail(c, ACME_BAD_REVOCATION_REASON, "\"reason\" is " TC_REASONS_TAKEN);
    *out = (uint8_t)n;
    return ACME_OK;
}

// Has the account shown that it controls every name of the certificate?
static acme_error right_to_all(acme_call *c, const acme_order *o, bool *right)
{
    *right = o->count > 0;
    for (uint32_t i = 0; i < o->count; i++) {
        uint64_t until;
        ACME_TRY_HM(c, acme_record_right_get(c->a->store, c->account.id, &o->names[i].id, &until));
        *right = *right && until > c->rq->now_ms;
    }
    return ACME_OK;
}

static acme_error may_revoke(acme_call *c, const tc_serial *serial, hm_bytes der)
{
    acme_cert cert;
    acme_order o;
    bool right = false;
    if (!c->account.id) { // signed with a key: it must be the certificate's
        X509 *x = NULL;
        ACME_TRY_HM(c, x509_cert_parse(der, &x));
        right = EVP_PKEY_eq(X509_get0_pubkey(x), c->key.key) == 1;
        X509_free(x);
    } else {
        hm_err err = acme_record_cert_get(c->a->store, serial, &cert);
        if (err == HM_OK)
            err = acme_record_order_get(c->a->store, cert.order, &o);
        right = err == HM_OK && cert.account == c->account.id;
        if (err == HM_OK && !right)
            ACME_TRY(right_to_all(c, &o, &right));
        if (err != HM_OK && err != HM_E_NOTFOUND)
            return acme_fail_err(c, err);
    }
    return right ? ACME_OK
                 : acme_fail(c, ACME_UNAUTHORIZED,
                             "the certificate is neither this key's nor this "
                             "account's, nor are all its names");
}

acme_error acme_op_revoke(acme_call *c)
{
    hm_buf der = {0};
    tc_serial serial;
    uint8_t reason = 0;
    acme_error e = read_certificate(c, &der, &serial);
    if (e == ACME_OK)
        e = may_revoke(c, &serial, hm_buf_bytes(&der));
    if (e == ACME_OK)
        e = read_reason(c, &reason);
    hm_buf_free(&der);
    ACME_TRY(e);
    hm_err err = tc_revoke(c->a->cfg.authority, &serial, reason, c->rq->now_ms);
    if (err == HM_E_EXISTS)
        return acme_fail(c, ACME_ALREADY_REVOKED, "the certificate is revoked already");
    ACME_TRY_HM(c, err);
    c->out->revoked = true;
    c->out->certificate = *tc_issued_find(c->a->cfg.authority, &serial);
    c->out->status = 200;
    return ACME_OK;
}

// ---- renewal ------------------------------------------------------------------------------------

// base64url of the issuer's key identifier, a dot, base64url of the serial: RFC 9773, 4.1.
acme_error acme_ari_serial(acme_call *c, const char *id, tc_serial *out)
{
    const char *dot = strchr(id, '.');
    uint8_t keyid[64], serial[TC_SERIAL_BYTES];
    hm_buf k = hm_buf_fixed(keyid, sizeof keyid), s = hm_buf_fixed(serial, sizeof serial);
    hm_bytes der;
    X509 *x = NULL;
    bool same = false;
    if (!dot || jose_unbase64(hm_bytes_of(id, (size_t)(dot - id)), &k) != HM_OK ||
        jose_unbase64(hm_bytes_str(dot + 1), &s) != HM_OK)
        return acme_fail(c, ACME_MALFORMED,
                         "a certificate is named by the identifier of its "
                         "issuer's key, a dot and its serial, in base64url");
    if (s.len == sizeof serial) {
        memcpy(out->b, serial, sizeof serial);
        if (ours(c, out, &der) && x509_cert_parse(der, &x) == HM_OK) {
            const ASN1_OCTET_STRING *issuer = X509_get0_authority_key_id(x);
            same = issuer && hm_bytes_eq(hm_bytes_of(ASN1_STRING_get0_data(issuer),
                                                     (size_t)ASN1_STRING_length(issuer)),
                                         hm_buf_bytes(&k));
        }
    }
    X509_free(x);
    if (same)
        return ACME_OK;
    c->out->status = 404;
    return acme_fail(c, ACME_MALFORMED, "this authority has not issued the certificate");
}

acme_error acme_op_renewal_info(acme_call *c)
{
    tc_serial serial;
    ACME_TRY(acme_ari_serial(c, c->rq->id, &serial));
    const tc_issued *i = tc_issued_find(c->a->cfg.authority, &serial);
    uint64_t life = i->not_after_ms - i->not_before_ms;
    // From two thirds of its life on, for a twelfth of it; at once when it was revoked.
    uint64_t start = i->not_before_ms + life * 2 / 3, end = start + life / 12;
    if (i->revoked) {
        start = i->revoked_ms - ACME_HOUR_MS;
        end = i->revoked_ms;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *window = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    acme_put_time(doc, window, "start", start);
    acme_put_time(doc, window, "end", end);
    yyjson_mut_obj_add_val(doc, root, "suggestedWindow", window);
    c->out->retry_after_s = ASK_AGAIN_S;
    return acme_reply(c, 200, doc);
}
