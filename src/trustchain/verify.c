// The checks that a node makes on its own: RFC 5280 path validation by OpenSSL, then our profile.
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "trustchain/x509.h"

#define CHAIN_DEPTH 1 // one issuing CA between root and node

// leaf: whose certificate the first is, in words.
static hm_err path_error(int code, int depth, const char *leaf)
{
    const char *text = X509_verify_cert_error_string(code);
    switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return hm_fail(HM_E_CERT_EXPIRED, "%s (%s)", text, depth == 0 ? leaf : "of the authority");
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_EE_KEY_TOO_SMALL:
        return hm_fail(HM_E_CERT_PROFILE, "%s", text);
    default:
        return hm_fail(HM_E_CERT_UNTRUSTED, "%s", text);
    }
}

static void path_rules_set(X509_VERIFY_PARAM *param, const x509_path_rules *r)
{
    X509_VERIFY_PARAM_set_time(param, (time_t)(r->time_ms / 1000));
    X509_VERIFY_PARAM_set_depth(param, r->depth);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    if (r->level)
        X509_VERIFY_PARAM_set_auth_level(param, r->level);
    if (r->purpose)
        X509_VERIFY_PARAM_set_purpose(param, r->purpose);
}

// A host is an address or a name in subjectAltName: what a subject says is for people (RFC 9525).
static bool path_host_set(X509_VERIFY_PARAM *param, const char *host)
{
    if (!host || X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
        return true;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

hm_err x509_path_check(X509 *leaf, STACK_OF(X509) * more, X509 *root, const x509_path_rules *r,
                       STACK_OF(X509) * *path)
{
    hm_err err = HM_OK;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    if (!store || !ctx || !X509_STORE_add_cert(store, root) ||
        !X509_STORE_CTX_init(ctx, store, leaf, more) ||
        !path_host_set(X509_STORE_CTX_get0_param(ctx), r->host)) {
        err = hm_crypto_fail(HM_E_NOMEM, "cannot check a certificate");
        goto out;
    }
    path_rules_set(X509_STORE_CTX_get0_param(ctx), r);
    if (X509_verify_cert(ctx) <= 0)
        err =
            path_error(X509_STORE_CTX_get_error(ctx), X509_STORE_CTX_get_error_depth(ctx), r->leaf);
    else if (path && (*path = X509_STORE_CTX_get1_chain(ctx)) == NULL)
        err = HM_E_NOMEM;
out:
    ERR_clear_error();
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return err;
}

hm_err x509_path_verify(X509 *leaf, X509 *issuing, X509 *root, uint64_t time_ms)
{
    hm_err err;
    STACK_OF(X509) *more = sk_X509_new_null();
    const x509_path_rules rules = {.time_ms = time_ms,
                                   .depth = issuing ? CHAIN_DEPTH : 0,
                                   .leaf = issuing ? "the node's" : "of the issuing authority"};
    if (!more || (issuing && !sk_X509_push(more, issuing)))
        err = hm_crypto_fail(HM_E_NOMEM, "cannot check a certificate");
    else
        err = x509_path_check(leaf, more, root, &rules, NULL);
    sk_X509_free(more);
    return err;
}

// SAN is exactly one URI, which names the key.
static hm_err node_uri_check(X509 *leaf, const hm_node_id *id)
{
    char want[sizeof TC_NODE_URI + 2 * HM_HASH_BYTES] = TC_NODE_URI;
    bool ok = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    hm_hex(want + sizeof TC_NODE_URI - 1, id->b, HM_HASH_BYTES);
    if (names && sk_GENERAL_NAME_num(names) == 1) {
        GENERAL_NAME *n = sk_GENERAL_NAME_value(names, 0);
        ok = n->type == GEN_URI &&
             hm_bytes_eq(hm_bytes_str(want),
                         hm_bytes_of(ASN1_STRING_get0_data(n->d.uniformResourceIdentifier),
                                     (size_t)ASN1_STRING_length(n->d.uniformResourceIdentifier)));
    }
    GENERAL_NAMES_free(names);
    if (!ok)
        return hm_fail(HM_E_CERT_PROFILE, "the certificate does not name the node of its key");
    return HM_OK;
}

hm_err x509_node_profile(X509 *leaf, tc_node_cert *out)
{
    uint32_t use = X509_get_extended_key_usage(leaf);
    EVP_PKEY *key = X509_get0_pubkey(leaf);
    if (!key || hm_falcon_public_of_evp(key, out->public_key) != HM_OK)
        return hm_fail(HM_E_CERT_PROFILE, "a node certificate has a FALCON-1024 key");
    HM_TRY(hm_node_id_of_public(hm_bytes_of(out->public_key, sizeof out->public_key), &out->node));
    HM_TRY(node_uri_check(leaf, &out->node));
    if (X509_check_ca(leaf) != 0)
        return hm_fail(HM_E_CERT_PROFILE, "a certificate of an authority is none of a node");
    if (use == UINT32_MAX || !(use & XKU_SSL_SERVER) || !(use & XKU_SSL_CLIENT))
        return hm_fail(HM_E_CERT_PROFILE, "a node certificate is for TLS servers and clients");
    HM_TRY(x509_common_name(X509_get_subject_name(leaf), out->name, sizeof out->name));
    if (!x509_name_ok(hm_bytes_str(out->name)))
        return hm_fail(HM_E_CERT_PROFILE, "a node's name has 1 to %u of a-z, 0-9 and -",
                       TC_NAME_MAX);
    HM_TRY(x509_serial(leaf, &out->serial));
    HM_TRY(x509_time_ms(X509_get0_notBefore(leaf), &out->not_before_ms));
    return x509_time_ms(X509_get0_notAfter(leaf), &out->not_after_ms);
}

static hm_err crl_parse(hm_bytes der, X509_CRL **out)
{
    const uint8_t *at = der.ptr;
    X509_CRL *crl;
    if (der.len == 0 || der.len > TC_CRL_MAX)
        return hm_fail(HM_E_PARSE, "a revocation list has 1 to %u bytes, this has %zu", TC_CRL_MAX,
                       der.len);
    crl = d2i_X509_CRL(NULL, &at, (long)der.len);
    if (!crl || at != der.ptr + der.len) {
        X509_CRL_free(crl);
        return hm_crypto_fail(HM_E_PARSE, "not a revocation list in DER");
    }
    *out = crl;
    return HM_OK;
}

static hm_err crl_read(X509_CRL *crl, X509 *issuing, tc_crl_info *out)
{
    tc_crl_info info = {0};
    EVP_PKEY *key = X509_get0_pubkey(issuing);
    ASN1_INTEGER *number = NULL;
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(crl);
    bool ok;
    if (!key || X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuing)) != 0 ||
        X509_CRL_verify(crl, key) <= 0)
        return hm_crypto_fail(HM_E_CERT_UNTRUSTED,
                              "the revocation list is not signed by the issuing authority");
    number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    ok = number && ASN1_INTEGER_get_uint64(&info.number, number);
    ASN1_INTEGER_free(number);
    if (!ok)
        return hm_fail(HM_E_PARSE, "the revocation list has no number");
    HM_TRY(x509_time_ms(X509_CRL_get0_lastUpdate(crl), &info.this_update_ms));
    HM_TRY(x509_time_ms(X509_CRL_get0_nextUpdate(crl), &info.next_update_ms));
    info.count = revoked ? (uint32_t)sk_X509_REVOKED_num(revoked) : 0;
    *out = info;
    return HM_OK;
}

static hm_err crl_check(X509_CRL *crl, X509 *issuing, tc_crl_info *out)
{
    if (X509_CRL_get_ext_by_critical(crl, 1, -1) >= 0)
        return hm_fail(HM_E_PARSE, "not a whole revocation list but a delta or a part of one");
    return crl_read(crl, issuing, out);
}

hm_err x509_delta_verify(hm_bytes delta, hm_bytes issuing_der, tc_crl_info *out, uint64_t *base)
{
    hm_err err;
    X509_CRL *crl = NULL;
    X509 *issuing = NULL;
    ASN1_INTEGER *number = NULL;
    uint64_t n;
    HM_TRY_OUT(crl_parse(delta, &crl));
    HM_TRY_OUT(x509_cert_parse(issuing_der, &issuing));
    number = X509_CRL_get_ext_d2i(crl, NID_delta_crl, NULL, NULL);
    if (!number || !ASN1_INTEGER_get_uint64(&n, number)) {
        err = hm_fail(HM_E_PARSE, "not a delta revocation list");
        goto out;
    }
    HM_TRY_OUT(crl_read(crl, issuing, out));
    *base = n;
out:
    ASN1_INTEGER_free(number);
    X509_free(issuing);
    X509_CRL_free(crl);
    return err;
}

hm_err tc_crl_verify(hm_bytes crl_der, hm_bytes issuing_der, tc_crl_info *out)
{
    hm_err err;
    X509_CRL *crl = NULL;
    X509 *issuing = NULL;
    HM_TRY_OUT(crl_parse(crl_der, &crl));
    HM_TRY_OUT(x509_cert_parse(issuing_der, &issuing));
    err = crl_check(crl, issuing, out);
out:
    X509_free(issuing);
    X509_CRL_free(crl);
    return err;
}

hm_err tc_crl_contains(hm_bytes crl_der, hm_bytes serial, bool *revoked)
{
    X509_CRL *crl = NULL;
    X509_REVOKED *entry = NULL;
    ASN1_INTEGER *n;
    HM_TRY(crl_parse(crl_der, &crl));
    n = ASN1_INTEGER_new();
    if (!n || serial.len > 64 || !ASN1_STRING_set(n, serial.ptr, (int)serial.len)) {
        ASN1_INTEGER_free(n);
        X509_CRL_free(crl);
        return hm_fail(HM_E_LIMIT, "a serial number has at most 64 bytes");
    }
    *revoked = X509_CRL_get0_by_serial(crl, &entry, n) == 1;
    ASN1_INTEGER_free(n);
    X509_CRL_free(crl);
    return HM_OK;
}

static hm_err revocation_check(hm_bytes crl_der, X509 *issuing, X509 *leaf, uint64_t time_ms)
{
    hm_err err;
    X509_CRL *crl = NULL;
    X509_REVOKED *entry = NULL;
    tc_crl_info info;
    HM_TRY_OUT(crl_parse(crl_der, &crl));
    HM_TRY_OUT(crl_check(crl, issuing, &info));
    // A revocation stays one, however old the list.
    if (X509_CRL_get0_by_cert(crl, &entry, leaf) == 1)
        err = hm_fail(HM_E_CERT_REVOKED, "the certificate is in revocation list %llu",
                      (unsigned long long)info.number);
    else if (time_ms > info.next_update_ms)
        err = hm_fail(HM_E_CRL_STALE, "revocation list %llu is older than it says it may be",
                      (unsigned long long)info.number);
out:
    X509_CRL_free(crl);
    return err;
}

hm_err tc_node_cert_verify(hm_bytes leaf_der, hm_bytes issuing_der, hm_bytes root_der, hm_bytes crl,
                           uint64_t time_ms, tc_node_cert *out)
{
    hm_err err;
    X509 *leaf = NULL, *issuing = NULL, *root = NULL;
    tc_node_cert found = {0};
    HM_TRY_OUT(x509_cert_parse(leaf_der, &leaf));
    HM_TRY_OUT(x509_cert_parse(issuing_der, &issuing));
    HM_TRY_OUT(x509_cert_parse(root_der, &root));
    HM_TRY_OUT(x509_path_verify(leaf, issuing, root, time_ms));
    HM_TRY_OUT(x509_node_profile(leaf, &found));
    if (crl.len > 0)
        HM_TRY_OUT(revocation_check(crl, issuing, leaf, time_ms));
    *out = found;
out:
    ERR_clear_error();
    X509_free(leaf);
    X509_free(issuing);
    X509_free(root);
    return err;
}
