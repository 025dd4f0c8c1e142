// The end of an order: its request for a certificate, and the certificate (RFC 8555, 7.4
// and 7.4.2).
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>

#include "trustchain/acme/internal.h"
#include "trustchain/x509.h"

static bool in_order(const acme_order *o, acme_identifier_type type, const char *value, bool *seen)
{
    for (uint32_t i = 0; i < o->count; i++)
        if (o->names[i].id.type == type && strcasecmp(o->names[i].id.value, value) == 0) {
            seen[i] = true;
            return true;
        }
    return false;
}

// One name of the request, which must be one of the order's.
static bool name_in_order(const acme_order *o, const GENERAL_NAME *n, bool *seen)
{
    char text[ACME_NAME_MAX + 1];
    if (n->type == GEN_DNS) {
        int len = ASN1_STRING_length(n->d.dNSName);
        if (len < 1 || len > (int)ACME_NAME_MAX)
            return false;
        memcpy(text, ASN1_STRING_get0_data(n->d.dNSName), (size_t)len);
        text[len] = 0;
        return strlen(text) == (size_t)len && in_order(o, ACME_DNS, text, seen);
    }
    if (n->type != GEN_IPADD || ASN1_STRING_length(n->d.iPAddress) != 16)
        return false;
    inet_ntop(AF_INET6, ASN1_STRING_get0_data(n->d.iPAddress), text, sizeof text);
    return in_order(o, ACME_IP, text, seen);
}

// The common name may only repeat a name.
static bool subject_in_order(const acme_order *o, X509_REQ *req, bool *seen)
{
    const X509_NAME *subject = X509_REQ_get_subject_name(req);
    char text[ACME_NAME_MAX + 1];
    if (X509_NAME_get_index_by_NID(subject, NID_commonName, -1) < 0)
        return true;
    if (x509_common_name(subject, text, sizeof text) != HM_OK)
        return false;
    return in_order(o, ACME_DNS, text, seen) || in_order(o, ACME_IP, text, seen);
}

static acme_error check_names(acme_call *c, const acme_order *o, X509_REQ *req)
{
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(req);
    GENERAL_NAMES *names =
        extensions ? X509V3_get_d2i(extensions, NID_subject_alt_name, NULL, NULL) : NULL;
    bool seen[TC_SERVER_NAMES_MAX] = {0}, in_subject[TC_SERVER_NAMES_MAX] = {0};
    bool good = names && subject_in_order(o, req, in_subject);
    for (int i = 0; good && i < sk_GENERAL_NAME_num(names); i++)
        good = name_in_order(o, sk_GENERAL_NAME_value(names, i), seen);
    for (uint32_t i = 0; i < o->count; i++)
        good = good && seen[i];
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return good ? ACME_OK
                : acme_fail(c, ACME_BAD_CSR,
                            "the names in the request's subjectAltName are not "
                            "exactly those of the order");
}

static acme_error check_csr(acme_call *c, const acme_order *o, X509_REQ *req)
{
    EVP_PKEY *key = X509_REQ_get0_pubkey(req);
    if (!key || X509_REQ_verify(req, key) <= 0)
        return acme_fail(c, ACME_BAD_CSR, "the request is not signed by its own key");
    if (EVP_PKEY_eq(key, c->key.key) == 1) // RFC 8555, 11.1
        return acme_fail(c, ACME_BAD_CSR, "the request has the account's own key");
    return check_names(c, o, req);
}

static acme_error read_csr(acme_call *c, const acme_order *o, hm_buf *pem)
{
    const char *text;
    hm_buf der = {0};
    ACME_TRY(acme_need_payload(c));
    ACME_TRY(acme_payload_text(c, "csr", &text));
    if (!text)
        return acme_fail(c, ACME_MALFORMED, "\"csr\" is missing");
    acme_error e = ACME_OK;
    X509_REQ *req = NULL;
    BIO *mem = BIO_new(BIO_s_mem());
    char *at;
    long len;
    hm_err err = strlen(text) <= TC_CSR_MAX ? jose_unbase64(hm_bytes_str(text), &der) : HM_E_PARSE;
    const uint8_t *p = der.ptr;
    if (err == HM_OK && der.len)
        req = d2i_X509_REQ(NULL, &p, (long)der.len);
    if (!req || p != der.ptr + der.len)
        e = acme_fail(c, err == HM_OK ? ACME_BAD_CSR : ACME_MALFORMED,
                      "\"csr\" is not a PKCS#10 request in DER and base64url, at most %u bytes",
                      TC_CSR_MAX);
    else
        e = check_csr(c, o, req);
    if (e == ACME_OK && mem && PEM_write_bio_X509_REQ(mem, req) &&
        (len = BIO_get_mem_data(mem, &at)) > 0)
        hm_buf_append(pem, at, (size_t)len);
    BIO_free(mem);
    X509_REQ_free(req);
    hm_buf_free(&der);
    ERR_clear_error();
    return e;
}

static acme_error issue(acme_call *c, acme_order *o, hm_bytes csr_pem)
{
    tc_issued issued;
    hm_err err = acme_ended_issue(c->a, o, csr_pem, c->rq->now_ms, &issued);
    if (err != HM_OK)
        return err == HM_E_CSR      ? acme_fail(c, ACME_BAD_CSR, "%s", hm_err_detail())
               : err == HM_E_DENIED ? acme_fail(c, ACME_REJECTED_IDENTIFIER, "%s", hm_err_detail())
                                    : acme_fail_err(c, err);
    c->out->issued = true;
    c->out->certificate = issued;
    return ACME_OK;
}

acme_error acme_op_finalize(acme_call *c)
{
    acme_order o;
    acme_status status;
    hm_buf pem = {0};
    ACME_TRY(acme_order_find(c, &o));
    ACME_TRY(acme_order_status(c, &o, &status));
    // One that is not stored yet was told nobody, and may never be: its number is another's then.
    if (status == ACME_READY && c->a->orders_new && o.id >= c->a->orders_new)
        status = ACME_PENDING;
    if (status != ACME_READY)
        return acme_fail(c, ACME_ORDER_NOT_READY, "the order is %s, not ready",
                         acme_status_word(status));
    acme_error e = read_csr(c, &o, &pem);
    if (e == ACME_OK)
        e = issue(c, &o, hm_buf_bytes(&pem));
    hm_buf_free(&pem);
    ACME_TRY(e);
    return acme_order_reply(c, 200, &o);
}

acme_error acme_op_certificate(acme_call *c)
{
    acme_order o;
    hm_bytes pem;
    ACME_TRY(acme_order_find(c, &o));
    ACME_TRY(acme_no_payload(c));
    if (o.status != ACME_VALID) {
        c->out->status = 404;
        return acme_fail(c, ACME_MALFORMED, "the order has no certificate yet");
    }
    if (!acme_ended_chain(c->a, &o, &pem))
        ACME_TRY_HM(c, acme_record_chain_get(c->a->store, o.id, &pem));
    c->out->status = 200;
    c->out->content_type = "application/pem-certificate-chain";
    hm_buf_put(&c->out->body, pem);
    ACME_TRY_HM(c, hm_buf_status(&c->out->body));
    return ACME_OK;
}
