#include "trustchain/x509.h"

#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <time.h>

#define KEY_FILE_MAX 65536u

hm_err x509_cert_parse(hm_bytes der, X509 **out)
{
    const uint8_t *at = der.ptr;
    X509 *x;
    if (der.len == 0 || der.len > TC_CERT_MAX)
        return hm_fail(HM_E_PARSE, "a certificate has 1 to %u bytes, this has %zu", TC_CERT_MAX,
                       der.len);
    x = d2i_X509(NULL, &at, (long)der.len);
    if (!x)
        return hm_crypto_fail(HM_E_PARSE, "not a certificate in DER");
    if (at != der.ptr + der.len) {
        X509_free(x);
        return hm_fail(HM_E_PARSE, "bytes after the end of the certificate");
    }
    *out = x;
    return HM_OK;
}

hm_err x509_cert_load(const char *path, X509 **out)
{
    hm_buf pem = {0}, der = {0};
    hm_err err;
    HM_TRY_OUT(hm_file_read(path, 16 * TC_CERT_MAX, &pem));
    HM_TRY_OUT(tc_pem_to_der(hm_buf_bytes(&pem), &der));
    err = x509_cert_parse(hm_buf_bytes(&der), out);
out:
    hm_buf_free(&pem);
    hm_buf_free(&der);
    return err;
}

hm_err x509_cert_der(const X509 *x, hm_buf *der)
{
    int len = i2d_X509(x, NULL);
    uint8_t *at = len > 0 ? hm_buf_reserve(der, (size_t)len) : NULL;
    if (!at)
        return len > 0 ? hm_buf_status(der) : hm_crypto_fail(HM_E_CRYPTO, "cannot encode");
    der->len += (size_t)i2d_X509(x, &at);
    return HM_OK;
}

static hm_err bio_take(BIO *mem, bool ok, hm_buf *out)
{
    char *text = NULL;
    long len = ok ? BIO_get_mem_data(mem, &text) : 0;
    hm_err err = HM_OK;
    if (len > 0)
        hm_buf_append(out, text, (size_t)len);
    else
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot encode as PEM");
    BIO_free(mem);
    return err == HM_OK ? hm_buf_status(out) : err;
}

hm_err x509_cert_pem(const X509 *x, hm_buf *pem)
{
    BIO *mem = BIO_new(BIO_s_mem());
    return bio_take(mem, mem && PEM_write_bio_X509(mem, x) > 0, pem);
}

hm_err x509_key_pem(EVP_PKEY *key, hm_buf *pem)
{
    BIO *mem = BIO_new(BIO_s_secmem());
    return bio_take(
        mem, mem && PEM_write_bio_PKCS8PrivateKey(mem, key, NULL, NULL, 0, NULL, NULL) > 0, pem);
}

hm_err x509_key_load(const char *path, EVP_PKEY **out)
{
    hm_err err;
    hm_buf file = {0};
    BIO *mem = NULL;
    EVP_PKEY *key = NULL;
    HM_TRY_OUT(hm_file_read_secret(path, KEY_FILE_MAX, &file));
    mem = BIO_new_mem_buf(file.ptr, (int)file.len);
    key = mem ? PEM_read_bio_PrivateKey(mem, NULL, NULL, NULL) : NULL;
    if (!key)
        err = hm_crypto_fail(HM_E_CORRUPT, path);
    else
        *out = key;
out:
    BIO_free(mem);
    hm_buf_free_secret(&file);
    return err;
}

hm_err tc_pem_to_der(hm_bytes pem, hm_buf *der)
{
    hm_err err;
    BIO *mem = pem.len <= 16 * TC_CERT_MAX ? BIO_new_mem_buf(pem.ptr, (int)pem.len) : NULL;
    X509 *x = mem ? PEM_read_bio_X509(mem, NULL, NULL, NULL) : NULL;
    if (x)
        err = x509_cert_der(x, der);
    else
        err = hm_crypto_fail(HM_E_PARSE, "no certificate in PEM");
    X509_free(x);
    BIO_free(mem);
    return err;
}

bool x509_key_is_ec(const EVP_PKEY *key, const char *group)
{
    char name[32] = "";
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, name, sizeof name, NULL) == 1 &&
           strcmp(name, group) == 0;
}

bool x509_signature_good(EVP_PKEY *key, const EVP_MD *md, hm_bytes covered, hm_bytes signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) == 1 &&
                EVP_DigestVerify(ctx, signature.ptr, signature.len, covered.ptr, covered.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

hm_err x509_time_ms(const ASN1_TIME *t, uint64_t *ms)
{
    struct tm tm;
    time_t s;
    if (!t || !ASN1_TIME_to_tm(t, &tm) || (s = timegm(&tm)) < 0)
        return hm_fail(HM_E_PARSE, "a time in the certificate is not one after 1970");
    *ms = (uint64_t)s * 1000;
    return HM_OK;
}

hm_err x509_serial(const X509 *x, tc_serial *out)
{
    const ASN1_INTEGER *n = X509_get0_serialNumber(x);
    if (ASN1_STRING_type(n) != V_ASN1_INTEGER || ASN1_STRING_length(n) != TC_SERIAL_BYTES)
        return hm_fail(HM_E_CERT_PROFILE, "the serial number has not %u bytes", TC_SERIAL_BYTES);
    memcpy(out->b, ASN1_STRING_get0_data(n), TC_SERIAL_BYTES);
    return HM_OK;
}

hm_err x509_serial_set(X509 *x, const tc_serial *serial)
{
    if (!ASN1_STRING_set(X509_get_serialNumber(x), serial->b, TC_SERIAL_BYTES))
        return HM_E_NOMEM;
    return HM_OK;
}

hm_err x509_extension_add(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;
    hm_err err = HM_OK;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    e = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    if (!e || !X509_add_ext(x, e, -1))
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot add an extension");
    X509_EXTENSION_free(e);
    return err;
}

bool x509_name_ok(hm_bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return false;
    }
    return name.len >= 1 && name.len <= TC_NAME_MAX;
}

hm_err x509_common_name(const X509_NAME *name, char *out, size_t size)
{
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    ASN1_STRING *s;
    unsigned char *utf8 = NULL;
    int len;
    if (at < 0 || X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0)
        return hm_fail(HM_E_CERT_PROFILE, "the subject has not exactly one common name");
    s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
    len = ASN1_STRING_to_UTF8(&utf8, s);
    if (len < 0 || (size_t)len >= size || memchr(utf8, 0, (size_t)len)) {
        OPENSSL_free(utf8);
        return hm_fail(HM_E_CERT_PROFILE, "the common name is too long or not text");
    }
    memcpy(out, utf8, (size_t)len);
    out[len] = 0;
    OPENSSL_free(utf8);
    return HM_OK;
}

static hm_err cert_subject(X509 *x, const x509_template *t)
{
    X509_NAME *subject = X509_get_subject_name(x);
    if (t->cn && !X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)t->cn,
                                             -1, -1, 0))
        return hm_crypto_fail(HM_E_CRYPTO, "cannot set the subject");
    if (!X509_set_issuer_name(x, t->issuer ? X509_get_subject_name(t->issuer) : subject))
        return hm_crypto_fail(HM_E_CRYPTO, "cannot set the issuer");
    return HM_OK;
}

static hm_err add_poison(X509 *x)
{
    ASN1_NULL *null = ASN1_NULL_new();
    int ok = null ? X509_add1_ext_i2d(x, NID_ct_precert_poison, null, 1, 0) : 0;
    ASN1_NULL_free(null);
    return ok == 1 ? HM_OK : hm_crypto_fail(HM_E_CRYPTO, "cannot add an extension");
}

static hm_err cert_extensions(X509 *x, const x509_template *t)
{
    X509 *issuer = t->issuer ? t->issuer : x;
    char constraints[64];
    snprintf(constraints, sizeof constraints,
             t->ca ? "critical,CA:TRUE,pathlen:%d" : "critical,CA:FALSE", t->path_len);
    HM_TRY(x509_extension_add(x, issuer, NID_basic_constraints, constraints));
    HM_TRY(x509_extension_add(x, issuer, NID_key_usage, t->key_usage));
    HM_TRY(x509_extension_add(x, issuer, NID_subject_key_identifier, "hash"));
    HM_TRY(x509_extension_add(x, issuer, NID_authority_key_identifier, "keyid:always"));
    if (t->ext_key_usage)
        HM_TRY(x509_extension_add(x, issuer, NID_ext_key_usage, t->ext_key_usage));
    if (t->name_constraints)
        HM_TRY(x509_extension_add(x, issuer, NID_name_constraints, t->name_constraints));
    // RFC 5280, 4.2.1.6: critical when the subject is empty.
    if (t->names &&
        X509_add1_ext_i2d(x, NID_subject_alt_name, (void *)t->names, t->cn == NULL, 0) != 1)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot add the names");
    if (t->crl_url)
        HM_TRY(x509_extension_add(x, issuer, NID_crl_distribution_points, t->crl_url));
    if (t->delta_url)
        HM_TRY(x509_extension_add(x, issuer, NID_freshest_crl, t->delta_url));
    if (t->info_access)
        HM_TRY(x509_extension_add(x, issuer, NID_info_access, t->info_access));
    if (t->precert)
        HM_TRY(add_poison(x));
    return HM_OK;
}

hm_err x509_cert_sign(X509 *x, EVP_PKEY *key)
{
    // FALCON brings its own hash; ECDSA P-384 goes with SHA-384.
    const EVP_MD *md = EVP_PKEY_is_a(key, HM_FALCON_NAME) ? NULL : EVP_sha384();
    if (X509_sign(x, key, md) <= 0)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot sign the certificate");
    return HM_OK;
}

// As X509_set_pubkey(), which for a provider's key asks every encoder whether it is the one: 70 us.
static bool subject_key_set(X509 *x, const EVP_PKEY *key)
{
    uint8_t pub[HM_FALCON_PUBLIC_BYTES];
    if (!EVP_PKEY_is_a(key, HM_FALCON_NAME))
        return X509_set_pubkey(x, (EVP_PKEY *)key) == 1;
    if (hm_falcon_public_of_evp(key, pub) != HM_OK)
        return false;
    ASN1_OBJECT *oid = OBJ_txt2obj(HM_FALCON_OID, 1);
    uint8_t *copy = OPENSSL_memdup(pub, sizeof pub);
    if (oid && copy &&
        X509_PUBKEY_set0_param(X509_get_X509_PUBKEY(x), oid, V_ASN1_UNDEF, NULL, copy, sizeof pub))
        return true;
    ASN1_OBJECT_free(oid);
    OPENSSL_free(copy);
    return false;
}

hm_err x509_cert_make(const x509_template *t, X509 **out)
{
    hm_err err;
    X509 *x = X509_new();
    if (!x)
        return HM_E_NOMEM;
    if (!X509_set_version(x, X509_VERSION_3) || !subject_key_set(x, t->subject_key) ||
        !ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(t->not_before_ms / 1000)) ||
        !ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(t->not_after_ms / 1000))) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make a certificate");
        goto out;
    }
    HM_TRY_OUT(x509_serial_set(x, &t->serial));
    HM_TRY_OUT(cert_subject(x, t));
    HM_TRY_OUT(cert_extensions(x, t));
    HM_TRY_OUT(x509_cert_sign(x, t->issuer_key));
    *out = x;
    x = NULL;
out:
    X509_free(x);
    return err;
}
