#include "trustchain/csr.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>

void csr_free(csr *c)
{
    X509_REQ_free(c->req);
    GENERAL_NAMES_free(c->names);
    *c = (csr){0};
}

// Parses and checks the request's own signature: whoever asks holds the key.
static hm_err csr_parse(hm_bytes pem, csr *c)
{
    BIO *mem;
    if (pem.len == 0 || pem.len > TC_CSR_MAX)
        return hm_fail(HM_E_CSR, "a request has 1 to %u bytes, this has %zu", TC_CSR_MAX, pem.len);
    mem = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    c->req = mem ? PEM_read_bio_X509_REQ(mem, NULL, NULL, NULL) : NULL;
    BIO_free(mem);
    if (!c->req)
        return hm_crypto_fail(HM_E_CSR, "not a CERTIFICATE REQUEST in PEM");
    c->key = X509_REQ_get0_pubkey(c->req);
    if (!c->key)
        return hm_crypto_fail(HM_E_CSR, "the request has no key that we know");
    if (X509_REQ_verify(c->req, c->key) <= 0)
        return hm_crypto_fail(HM_E_CSR, "the request is not signed by its own key");
    return HM_OK;
}

static hm_err csr_node_checks(csr *c)
{
    if (!EVP_PKEY_is_a(c->key, HM_FALCON_NAME))
        return hm_fail(HM_E_CSR, "a node's key is FALCON-1024, this is %s",
                       EVP_PKEY_get0_type_name(c->key));
    if (x509_common_name(X509_REQ_get_subject_name(c->req), c->name, sizeof c->name) != HM_OK ||
        !x509_name_ok(hm_bytes_str(c->name)))
        return hm_fail(HM_E_CSR, "a node's request has one common name of 1 to %u of a-z, 0-9, -",
                       TC_NAME_MAX);
    memcpy(c->subject, c->name, sizeof c->name);
    return HM_OK;
}

bool csr_dns_name_ok(const uint8_t *s, int len)
{
    int label = 0;
    if (len < 1 || len > 253)
        return false;
    for (int i = 0; i < len; i++) {
        uint8_t c = s[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '.') {
            if (label == 0 || s[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        if (!(alnum || (c == '-' && label > 0)) || ++label > 63)
            return false;
    }
    return label > 0 && s[len - 1] != '-';
}

static hm_err csr_server_name(const GENERAL_NAME *n, char text[INET6_ADDRSTRLEN + 254])
{
    const ASN1_STRING *s;
    if (n->type == GEN_DNS) {
        s = n->d.dNSName;
        if (!csr_dns_name_ok(ASN1_STRING_get0_data(s), ASN1_STRING_length(s)))
            return hm_fail(HM_E_CSR, "a DNS name in the request is not a host name");
        memcpy(text, ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
        text[ASN1_STRING_length(s)] = 0;
        return HM_OK;
    }
    if (n->type == GEN_IPADD) {
        s = n->d.iPAddress;
        if (ASN1_STRING_length(s) != 16)
            return hm_fail(HM_E_CSR, "an address in the request is not IPv6");
        inet_ntop(AF_INET6, ASN1_STRING_get0_data(s), text, INET6_ADDRSTRLEN);
        return HM_OK;
    }
    return hm_fail(HM_E_CSR, "a subjectAltName here is a DNS name or an IPv6 address");
}

// subjectAltName of the request, if it has one.
static hm_err csr_alt_names(csr *c)
{
    int critical;
    STACK_OF(X509_EXTENSION) *extensions = X509_REQ_get_extensions(c->req);
    c->names =
        extensions ? X509V3_get_d2i(extensions, NID_subject_alt_name, &critical, NULL) : NULL;
    bool unreadable = extensions && !c->names && critical != -1; // -1: there is none
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    return unreadable ? hm_fail(HM_E_CSR, "the names of the request cannot be read") : HM_OK;
}

// Checks the alternative names and puts them behind what stands in the subject for lists.
static hm_err csr_names(csr *c)
{
    char text[INET6_ADDRSTRLEN + 254];
    size_t used = strlen(c->subject);
    int count = sk_GENERAL_NAME_num(c->names); // -1 for NULL
    if (count > (int)TC_SERVER_NAMES_MAX)
        return hm_fail(HM_E_CSR, "a request has at most %u names as subjectAltName, this %d",
                       TC_SERVER_NAMES_MAX, count);
    for (int i = 0; i < count; i++) {
        HM_TRY(csr_server_name(sk_GENERAL_NAME_value(c->names, i), text));
        int n =
            snprintf(c->subject + used, sizeof c->subject - used, "%s%s", used ? " " : "", text);
        used += used + (size_t)n < sizeof c->subject ? (size_t)n : sizeof c->subject - 1 - used;
    }
    return HM_OK;
}

static hm_err csr_edge_key(const csr *c)
{
    if (!x509_key_is_ec(c->key, "prime256v1") && !x509_key_is_ec(c->key, "secp384r1"))
        return hm_fail(HM_E_CSR, "a key of the edge family is ECDSA on P-256 or P-384");
    return HM_OK;
}

static hm_err csr_server_checks(csr *c)
{
    HM_TRY(csr_edge_key(c));
    HM_TRY(csr_alt_names(c));
    if (sk_GENERAL_NAME_num(c->names) < 1)
        return hm_fail(HM_E_CSR, "a server's request has 1 to %u names as subjectAltName, this 0",
                       TC_SERVER_NAMES_MAX);
    return csr_names(c);
}

// No space: lists have one between names.
static bool person_name_ok(const char *s)
{
    return *s && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@+-") ==
                     strlen(s);
}

static hm_err csr_common_name(csr *c)
{
    if (x509_common_name(X509_REQ_get_subject_name(c->req), c->name, sizeof c->name) != HM_OK ||
        !person_name_ok(c->name))
        return hm_fail(HM_E_CSR,
                       "the request has not one common name of 1 to %u of A-Z, a-z, "
                       "0-9 and . _ @ + -",
                       TC_NAME_MAX);
    memcpy(c->subject, c->name, sizeof c->name);
    return HM_OK;
}

static hm_err csr_client_checks(csr *c)
{
    HM_TRY(csr_edge_key(c));
    HM_TRY(csr_alt_names(c));
    if (X509_NAME_entry_count(X509_REQ_get_subject_name(c->req)) > 0 || !c->names)
        HM_TRY(csr_common_name(c));
    HM_TRY(csr_names(c));
    return c->subject[0] ? HM_OK : hm_fail(HM_E_CSR, "the request names nobody");
}

static hm_err csr_code_checks(csr *c)
{
    HM_TRY(csr_edge_key(c));
    HM_TRY(csr_alt_names(c));
    if (c->names)
        return hm_fail(HM_E_CSR, "who signs code is named by the common name alone, without a "
                                 "subjectAltName");
    return csr_common_name(c);
}

hm_err csr_read(hm_bytes pem, tc_profile p, csr *out)
{
    static hm_err (*const checks[TC_PROFILES])(csr *c) = {
        [TC_NODE] = csr_node_checks,
        [TC_SERVER] = csr_server_checks,
        [TC_CLIENT] = csr_client_checks,
        [TC_CODE] = csr_code_checks,
    };
    csr c = {0};
    hm_err err = csr_parse(pem, &c);
    if (err == HM_OK)
        err = checks[p](&c);
    if (err == HM_OK)
        *out = c;
    else
        csr_free(&c);
    ERR_clear_error();
    return err;
}

hm_err csr_each_name(const csr *c, hm_err (*each)(void *ctx, const char *name), void *ctx)
{
    char text[INET6_ADDRSTRLEN + 254];
    if (c->name[0])
        HM_TRY(each(ctx, c->name));
    for (int i = 0; i < sk_GENERAL_NAME_num(c->names); i++) { // -1 for NULL
        HM_TRY(csr_server_name(sk_GENERAL_NAME_value(c->names, i), text));
        HM_TRY(each(ctx, text));
    }
    return HM_OK;
}

// ---- making requests ----------------------------------------------------------------------------

static hm_err req_pem(X509_REQ *req, EVP_PKEY *pub, EVP_PKEY *key, const EVP_MD *md, hm_buf *pem)
{
    char *text = NULL;
    long len;
    hm_err err = HM_OK;
    BIO *mem = BIO_new(BIO_s_mem());
    if (!mem || !X509_REQ_set_pubkey(req, pub) || X509_REQ_sign(req, key, md) <= 0 ||
        !PEM_write_bio_X509_REQ(mem, req) || (len = BIO_get_mem_data(mem, &text)) <= 0)
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a certificate request");
    else
        hm_buf_append(pem, text, (size_t)len);
    BIO_free(mem);
    return err == HM_OK ? hm_buf_status(pem) : err;
}

static hm_err named_csr(const char *cn, EVP_PKEY *pub, EVP_PKEY *key, const EVP_MD *md, hm_buf *pem)
{
    hm_err err;
    X509_REQ *req = X509_REQ_new();
    if (!req || !X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN", MBSTRING_UTF8,
                                            (const uint8_t *)cn, -1, -1, 0))
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a certificate request");
    else
        err = req_pem(req, pub, key, md, pem);
    X509_REQ_free(req);
    return err;
}

hm_err tc_node_csr(const hm_key *key, const char *name, hm_buf *pem)
{
    if (!x509_name_ok(hm_bytes_str(name)))
        return hm_fail(HM_E_INVALID, "a node's name has 1 to %u of a-z, 0-9 and -", TC_NAME_MAX);
    return named_csr(name, hm_key_evp(key), hm_key_evp(key), NULL, pem);
}

hm_err csr_make_ca(EVP_PKEY *pub, EVP_PKEY *key, const char *cn, hm_buf *pem)
{
    return named_csr(cn, pub, key, EVP_PKEY_is_a(pub, HM_FALCON_NAME) ? NULL : EVP_sha384(), pem);
}

// One DNS name or IPv6 address, appended to names.
static hm_err names_add(GENERAL_NAMES *names, const char *text)
{
    uint8_t addr[16];
    bool is_addr = inet_pton(AF_INET6, text, addr) == 1;
    GENERAL_NAME *n;
    ASN1_STRING *s;
    if (!is_addr && !csr_dns_name_ok((const uint8_t *)text, (int)strnlen(text, 300)))
        return hm_fail(HM_E_INVALID, "'%.100s' is neither a host name nor an IPv6 address", text);
    n = GENERAL_NAME_new();
    s = is_addr ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
    if (!n || !s ||
        !ASN1_STRING_set(s, is_addr ? (const void *)addr : text,
                         is_addr ? 16 : (int)strlen(text)) ||
        !sk_GENERAL_NAME_push(names, n)) {
        ASN1_STRING_free(s);
        GENERAL_NAME_free(n);
        return HM_E_NOMEM;
    }
    GENERAL_NAME_set0_value(n, is_addr ? GEN_IPADD : GEN_DNS, s);
    return HM_OK;
}

hm_err csr_make_again(const X509 *cert, EVP_PKEY *key, hm_buf *pem)
{
    bool node = EVP_PKEY_is_a(key, HM_FALCON_NAME); // whose other name follows from its key
    int at = node ? -1 : X509_get_ext_by_NID(cert, NID_subject_alt_name, -1);
    STACK_OF(X509_EXTENSION) *names = sk_X509_EXTENSION_new_null(); // the certificate's own
    X509_REQ *req = X509_REQ_new();
    hm_err err;
    if (!req || !names || !X509_REQ_set_subject_name(req, X509_get_subject_name(cert)) ||
        (at >= 0 && (!sk_X509_EXTENSION_push(names, X509_get_ext(cert, at)) ||
                     !X509_REQ_add_extensions(req, names))))
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a certificate request");
    else
        err = req_pem(req, key, key, node ? NULL : EVP_sha256(), pem);
    sk_X509_EXTENSION_free(names);
    X509_REQ_free(req);
    return err;
}

hm_err tc_server_csr(const char *const *names, size_t count, hm_buf *key_pem, hm_buf *csr_pem)
{
    hm_err err = HM_OK;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_REQ *req = X509_REQ_new();
    GENERAL_NAMES *list = GENERAL_NAMES_new();
    STACK_OF(X509_EXTENSION) *extensions = NULL;
    if (!key || !req || !list) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a key");
        goto out;
    }
    for (size_t i = 0; i < count; i++)
        HM_TRY_OUT(names_add(list, names[i]));
    if (X509V3_add1_i2d(&extensions, NID_subject_alt_name, list, 0, 0) != 1 ||
        !X509_REQ_add_extensions(req, extensions)) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a certificate request");
        goto out;
    }
    HM_TRY_OUT(req_pem(req, key, key, EVP_sha256(), csr_pem));
    err = x509_key_pem(key, key_pem);
out:
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    GENERAL_NAMES_free(list);
    X509_REQ_free(req);
    EVP_PKEY_free(key);
    return err;
}
