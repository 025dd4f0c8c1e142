// JSON Web Signatures: reading and verifying.
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>

#include "trustchain/acme/jose.h"
#include "trustchain/x509.h"

#define SIGNATURE_MAX 512u // RSA of 4096 bits

static const char *const alg_names[] = {"ES256", "ES384", "RS256", "EdDSA", "HS256"};
#define ALG_COUNT (sizeof alg_names / sizeof alg_names[0])

// The members of an object, each once at most; others are left alone unless strict.
static hm_err members(yyjson_val *object, const char *const *names, size_t count, bool strict,
                      const char *what, yyjson_val **out)
{
    size_t at, max, i;
    yyjson_val *key, *val;
    yyjson_obj_foreach(object, at, max, key, val)
    {
        for (i = 0; i < count && !yyjson_equals_str(key, names[i]); i++)
            ;
        if (i == count && strict)
            return hm_fail(HM_E_PARSE, "%s has other members than payload, protected, signature",
                           what);
        if (i == count)
            continue;
        if (out[i])
            return hm_fail(HM_E_PARSE, "%s has \"%s\" twice", what, names[i]);
        out[i] = val;
    }
    return HM_OK;
}

static hm_err header_text(yyjson_val *v, const char *name, hm_bytes *out)
{
    if (!v)
        return HM_OK;
    if (!yyjson_is_str(v))
        return hm_fail(HM_E_PARSE, "\"%s\" of the protected header is not a text", name);
    *out = hm_bytes_of(yyjson_get_str(v), yyjson_get_len(v));
    return HM_OK;
}

static hm_err read_header(hm_bytes json, jose_jws *j)
{
    static const char *const names[] = {"alg", "jwk", "kid", "nonce", "url", "crit"};
    yyjson_val *v[6] = {0};
    hm_bytes alg = {0};
    size_t i;
    HM_TRY(jose_object(json, &j->header));
    HM_TRY(members(yyjson_doc_get_root(j->header), names, 6, false, "the protected header", v));
    HM_TRY(header_text(v[0], "alg", &alg));
    HM_TRY(header_text(v[2], "kid", &j->kid));
    HM_TRY(header_text(v[3], "nonce", &j->nonce));
    HM_TRY(header_text(v[4], "url", &j->url));
    j->jwk = v[1];
    if (v[5])
        return hm_fail(HM_E_PARSE, "the protected header has \"crit\", which nobody here knows");
    if (!v[0])
        return hm_fail(HM_E_PARSE, "the protected header has no \"alg\"");
    for (i = 0; i < ALG_COUNT; i++)
        if (hm_bytes_eq(alg, hm_bytes_str(alg_names[i])))
            break;
    if (i == ALG_COUNT)
        return hm_fail(HM_E_UNSUPPORTED, "the signature's algorithm is none of ES256, ES384, "
                                         "RS256, EdDSA");
    j->alg = (jose_alg)i;
    return HM_OK;
}

static hm_err decode(yyjson_val *v, const char *name, hm_buf *out)
{
    if (!yyjson_is_str(v))
        return hm_fail(HM_E_PARSE, "the signed request has no text \"%s\"", name);
    hm_err err = jose_unbase64(hm_bytes_of(yyjson_get_str(v), yyjson_get_len(v)), out);
    return err == HM_E_PARSE ? hm_fail(err, "\"%s\" is not base64url without padding", name) : err;
}

static hm_err read_parts(yyjson_val *object, jose_jws *j)
{
    static const char *const names[] = {"protected", "payload", "signature"};
    yyjson_val *v[3] = {0};
    hm_buf header = {0};
    hm_err err;
    if (!yyjson_is_obj(object))
        return hm_fail(HM_E_PARSE, "a signed request is a JSON object");
    if (yyjson_obj_get(object, "header") || yyjson_obj_get(object, "signatures"))
        return hm_fail(HM_E_PARSE, "a signed request has no \"header\" and no \"signatures\"");
    HM_TRY(members(object, names, 3, true, "the signed request", v));
    HM_TRY_OUT(decode(v[0], names[0], &header));
    HM_TRY_OUT(decode(v[1], names[1], &j->payload));
    HM_TRY_OUT(decode(v[2], names[2], &j->signature));
    if (j->signature.len > SIGNATURE_MAX) {
        err = hm_fail(HM_E_PARSE, "the signature is longer than that of any key");
        goto out;
    }
    hm_buf_append(&j->signed_text, yyjson_get_str(v[0]), yyjson_get_len(v[0]));
    hm_buf_puts(&j->signed_text, ".");
    hm_buf_append(&j->signed_text, yyjson_get_str(v[1]), yyjson_get_len(v[1]));
    HM_TRY_OUT(hm_buf_status(&j->signed_text));
    err = read_header(hm_buf_bytes(&header), j);
out:
    hm_buf_free(&header);
    return err;
}

hm_err jose_jws_read(yyjson_val *object, jose_jws *out)
{
    jose_jws j = {0};
    hm_err err = read_parts(object, &j);
    if (err == HM_OK)
        *out = j;
    else
        jose_jws_free(&j);
    return err;
}

hm_err jose_jws_parse(hm_bytes text, jose_jws *out)
{
    yyjson_doc *doc = NULL;
    if (text.len > JOSE_JWS_MAX)
        return hm_fail(HM_E_PARSE, "a signed request has at most %u bytes", JOSE_JWS_MAX);
    HM_TRY(jose_object(text, &doc));
    hm_err err = jose_jws_read(yyjson_doc_get_root(doc), out);
    yyjson_doc_free(doc);
    return err;
}

void jose_jws_free(jose_jws *j)
{
    yyjson_doc_free(j->header);
    hm_buf_free(&j->payload);
    hm_buf_free(&j->signed_text);
    hm_buf_free(&j->signature);
    *j = (jose_jws){0};
}

// ECDSA's two numbers side by side (RFC 7518, 3.4) as OpenSSL wants them.
static bool ecdsa_der(hm_bytes raw, size_t size, uint8_t **der, size_t *len)
{
    ECDSA_SIG *sig = raw.len == 2 * size ? ECDSA_SIG_new() : NULL;
    BIGNUM *r = sig ? BN_bin2bn(raw.ptr, (int)size, NULL) : NULL;
    BIGNUM *s = sig ? BN_bin2bn(raw.ptr + size, (int)size, NULL) : NULL;
    int n = 0;
    if (r && s && ECDSA_SIG_set0(sig, r, s)) {
        r = s = NULL;
        n = i2d_ECDSA_SIG(sig, der);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    *len = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool verify_with(const jose_jws *j, EVP_PKEY *key, hm_bytes signature)
{
    const EVP_MD *md = j->alg == JOSE_EDDSA   ? NULL
                       : j->alg == JOSE_ES384 ? EVP_sha384()
                                              : EVP_sha256();
    return x509_signature_good(key, md, hm_buf_bytes(&j->signed_text), signature);
}

hm_err jose_jws_verify(const jose_jws *j, const jose_jwk *k)
{
    hm_bytes signature = hm_buf_bytes(&j->signature);
    uint8_t *der = NULL;
    size_t len;
    bool good = true;
    if (j->alg != k->alg)
        return hm_fail(HM_E_UNSUPPORTED, "the key signs with %s, the header says %s",
                       alg_names[k->alg], alg_names[j->alg]);
    if (j->alg == JOSE_ES256 || j->alg == JOSE_ES384) {
        good = ecdsa_der(signature, j->alg == JOSE_ES256 ? 32 : 48, &der, &len);
        signature = good ? hm_bytes_of(der, len) : signature;
    }
    good = good && verify_with(j, k->key, signature);
    OPENSSL_free(der);
    return good ? HM_OK : hm_fail(HM_E_SIGNATURE, "the request is not signed by its key");
}

hm_err jose_jws_verify_mac(const jose_jws *j, hm_bytes secret)
{
    uint8_t mac[32];
    unsigned len = sizeof mac;
    if (j->alg != JOSE_HS256)
        return hm_fail(HM_E_UNSUPPORTED, "an external account binding is signed with HS256");
    if (!HMAC(EVP_sha256(), secret.ptr, (int)secret.len, j->signed_text.ptr, j->signed_text.len,
              mac, &len))
        return hm_crypto_fail(HM_E_CRYPTO, "HMAC");
    if (j->signature.len != sizeof mac || !hm_equal_ct(mac, j->signature.ptr, sizeof mac))
        return hm_fail(HM_E_SIGNATURE, "the external account binding is not signed with its key");
    return HM_OK;
}
