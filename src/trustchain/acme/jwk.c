// Base64url, JSON Web Keys and their thumbprints.
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <stdio.h>

#include "trustchain/acme/jose.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096
#define POINT_MAX 48u // bytes of a coordinate on P-384

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void jose_base64(hm_bytes data, hm_buf *out)
{
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < data.len; i++) {
        bits = bits << 8 | data.ptr[i];
        for (have += 8; have >= 6; have -= 6)
            hm_buf_append(out, &alphabet[bits >> (have - 6) & 63], 1);
    }
    if (have)
        hm_buf_append(out, &alphabet[bits << (6 - have) & 63], 1);
}

hm_err jose_unbase64(hm_bytes text, hm_buf *out)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t before = out->len;
    for (size_t i = 0; i < text.len; i++) {
        const char *at = text.ptr[i] ? strchr(alphabet, text.ptr[i]) : NULL;
        if (!at)
            goto bad;
        bits = bits << 6 | (uint32_t)(at - alphabet);
        have += 6;
        if (have >= 8) {
            have -= 8;
            uint8_t byte = (uint8_t)(bits >> have);
            hm_buf_append(out, &byte, 1);
        }
    }
    if (have == 6 || (bits & ((1u << have) - 1)))
        goto bad;
    return hm_buf_status(out);
bad:
    out->len = before;
    return hm_fail(HM_E_PARSE, "not base64url without padding");
}

hm_err jose_object(hm_bytes text, yyjson_doc **out)
{
    yyjson_read_err e = {0};
    yyjson_doc *doc =
        text.len ? yyjson_read_opts((char *)(uintptr_t)text.ptr, text.len, 0, NULL, &e) : NULL;
    if (!doc)
        return hm_fail(HM_E_PARSE, "the JSON is wrong at byte %zu: %s", e.pos,
                       e.msg ? e.msg : "it is empty");
    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return hm_fail(HM_E_PARSE, "a JSON object is needed, not another value");
    }
    *out = doc;
    return HM_OK;
}

// ---- keys ---------------------------------------------------------------------------------------

static hm_err member(yyjson_val *jwk, const char *name, hm_bytes *text)
{
    yyjson_val *v = NULL, *key, *val;
    size_t at, max;
    yyjson_obj_foreach(jwk, at, max, key, val)
    {
        if (!yyjson_equals_str(key, name))
            continue;
        if (v)
            return hm_fail(HM_E_PARSE, "the key has \"%s\" twice", name);
        v = val;
    }
    if (!yyjson_is_str(v))
        return hm_fail(HM_E_PARSE, "the key has no text \"%s\"", name);
    *text = hm_bytes_of(yyjson_get_str(v), yyjson_get_len(v));
    return HM_OK;
}

static hm_err member_bytes(yyjson_val *jwk, const char *name, hm_bytes *text, hm_buf *out)
{
    HM_TRY(member(jwk, name, text));
    if (text->len > JOSE_JWK_MAX)
        return hm_fail(HM_E_KEY, "\"%s\" of the key is too long", name);
    hm_err err = jose_unbase64(*text, out);
    return err == HM_E_PARSE ? hm_fail(err, "\"%s\" of the key is not base64url", name) : err;
}

static hm_err key_of_params(const char *type, OSSL_PARAM_BLD *build, jose_jwk *out)
{
    hm_err err = HM_OK;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) <= 0 ||
        EVP_PKEY_fromdata(ctx, &out->key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        err = hm_fail(HM_E_KEY, "the numbers of the key make no %s key", type);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return err;
}

static hm_err read_ec(yyjson_val *jwk, jose_jwk *out)
{
    uint8_t point[1 + 2 * POINT_MAX];
    hm_buf at = hm_buf_fixed(point, sizeof point);
    hm_bytes crv, x, y;
    hm_err err;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    HM_TRY_OUT(member(jwk, "crv", &crv));
    bool p256 = hm_bytes_eq(crv, hm_bytes_str("P-256"));
    size_t size = p256 ? 32 : 48;
    if (!p256 && !hm_bytes_eq(crv, hm_bytes_str("P-384"))) {
        err = hm_fail(HM_E_KEY, "an EC key is on P-256 or P-384");
        goto out;
    }
    hm_wr_u8(&at, 4); // uncompressed
    err = member_bytes(jwk, "x", &x, &at);
    bool sized = at.len == 1 + size;
    if (err == HM_OK && sized)
        err = member_bytes(jwk, "y", &y, &at);
    if (err == HM_E_LIMIT || (err == HM_OK && (!sized || at.len != 1 + 2 * size)))
        err = hm_fail(HM_E_KEY, "\"x\" and \"y\" of the key have %zu bytes each", size);
    HM_TRY_OUT(err);
    if (!build ||
        !OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME,
                                         p256 ? "prime256v1" : "secp384r1", 0) ||
        !OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, at.len)) {
        err = HM_E_NOMEM;
        goto out;
    }
    HM_TRY_OUT(key_of_params("EC", build, out));
    out->alg = p256 ? JOSE_ES256 : JOSE_ES384;
    snprintf(out->json, sizeof out->json,
             "{\"crv\":\"%.5s\",\"kty\":\"EC\",\"x\":\"%.*s\",\"y\":\"%.*s\"}",
             (const char *)crv.ptr, (int)x.len, (const char *)x.ptr, (int)y.len,
             (const char *)y.ptr);
out:
    OSSL_PARAM_BLD_free(build);
    return err;
}

static hm_err check_rsa(const BIGNUM *n, const BIGNUM *e)
{
    if (BN_num_bits(n) < RSA_BITS_MIN || BN_num_bits(n) > RSA_BITS_MAX)
        return hm_fail(HM_E_KEY, "an RSA key has %d to %d bits, this has %d", RSA_BITS_MIN,
                       RSA_BITS_MAX, BN_num_bits(n));
    if (!BN_is_odd(n) || !BN_is_odd(e) || BN_num_bits(e) > 32 || BN_is_one(e))
        return hm_fail(HM_E_KEY, "the RSA key has a modulus or exponent that is not usable");
    return HM_OK;
}

static hm_err read_rsa(yyjson_val *jwk, jose_jwk *out)
{
    hm_buf n = {0}, e = {0};
    hm_bytes n_text, e_text;
    BIGNUM *bn = NULL, *be = NULL;
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    hm_err err;
    HM_TRY_OUT(member_bytes(jwk, "n", &n_text, &n));
    HM_TRY_OUT(member_bytes(jwk, "e", &e_text, &e));
    if (n.len == 0 || e.len == 0 || n.ptr[0] == 0 || e.ptr[0] == 0) { // RFC 7518, 6.3.1.1
        err = hm_fail(HM_E_KEY, "a number of the key is empty or begins with a zero byte");
        goto out;
    }
    bn = BN_bin2bn(n.ptr, (int)n.len, NULL);
    be = BN_bin2bn(e.ptr, (int)e.len, NULL);
    if (!build || !bn || !be) {
        err = HM_E_NOMEM;
        goto out;
    }
    HM_TRY_OUT(check_rsa(bn, be));
    if (!OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn) ||
        !OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, be)) {
        err = HM_E_NOMEM;
        goto out;
    }
    HM_TRY_OUT(key_of_params("RSA", build, out));
    out->alg = JOSE_RS256;
    snprintf(out->json, sizeof out->json, "{\"e\":\"%.*s\",\"kty\":\"RSA\",\"n\":\"%.*s\"}",
             (int)e_text.len, (const char *)e_text.ptr, (int)n_text.len, (const char *)n_text.ptr);
out:
    BN_free(bn);
    BN_free(be);
    OSSL_PARAM_BLD_free(build);
    hm_buf_free(&n);
    hm_buf_free(&e);
    return err;
}

static hm_err read_okp(yyjson_val *jwk, jose_jwk *out)
{
    uint8_t raw[32];
    hm_buf at = hm_buf_fixed(raw, sizeof raw);
    hm_bytes crv, x;
    HM_TRY(member(jwk, "crv", &crv));
    if (!hm_bytes_eq(crv, hm_bytes_str("Ed25519")))
        return hm_fail(HM_E_KEY, "an OKP key is Ed25519");
    hm_err err = member_bytes(jwk, "x", &x, &at);
    if (err == HM_E_LIMIT || (err == HM_OK && at.len != sizeof raw))
        err = hm_fail(HM_E_KEY, "\"x\" of the key has 32 bytes");
    HM_TRY(err);
    out->key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, raw, sizeof raw);
    if (!out->key)
        return hm_fail(HM_E_KEY, "the numbers of the key make no Ed25519 key");
    out->alg = JOSE_EDDSA;
    snprintf(out->json, sizeof out->json, "{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"%.*s\"}",
             (int)x.len, (const char *)x.ptr);
    return HM_OK;
}

hm_err jose_jwk_read(yyjson_val *jwk, jose_jwk *out)
{
    jose_jwk k = {0};
    hm_bytes kty;
    hm_err err;
    if (!yyjson_is_obj(jwk))
        return hm_fail(HM_E_PARSE, "a key is a JSON object");
    HM_TRY(member(jwk, "kty", &kty));
    if (yyjson_obj_get(jwk, "d"))
        return hm_fail(HM_E_KEY, "the key is a private one; it is not secret any more");
    if (hm_bytes_eq(kty, hm_bytes_str("EC")))
        err = read_ec(jwk, &k);
    else if (hm_bytes_eq(kty, hm_bytes_str("RSA")))
        err = read_rsa(jwk, &k);
    else if (hm_bytes_eq(kty, hm_bytes_str("OKP")))
        err = read_okp(jwk, &k);
    else
        err = hm_fail(HM_E_KEY, "a key is of type EC, RSA or OKP");
    ERR_clear_error();
    if (err != HM_OK) {
        jose_jwk_free(&k);
        return err;
    }
    k.thumbprint = hm_sha256(hm_bytes_str(k.json));
    *out = k;
    return HM_OK;
}

hm_err jose_jwk_parse(hm_bytes json, jose_jwk *out)
{
    yyjson_doc *doc = NULL;
    HM_TRY(jose_object(json, &doc));
    hm_err err = jose_jwk_read(yyjson_doc_get_root(doc), out);
    yyjson_doc_free(doc);
    return err;
}

void jose_jwk_free(jose_jwk *k)
{
    EVP_PKEY_free(k->key);
    *k = (jose_jwk){0};
}
