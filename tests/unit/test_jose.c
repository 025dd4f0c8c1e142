// Signed requests: known answers of RFC 7515, 7638 and 8037, and strict reading.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "trustchain/acme/jose.h"

static void assert_base64(const char *raw, const char *text)
{
    hm_buf b = {0}, back = {0};
    jose_base64(hm_bytes_str(raw), &b);
    assert_string_equal(hm_buf_cstr(&b), text);
    assert_int_equal(jose_unbase64(hm_bytes_str(text), &back), HM_OK);
    assert_true(hm_bytes_eq(hm_buf_bytes(&back), hm_bytes_str(raw)));
    hm_buf_free(&b);
    hm_buf_free(&back);
}

static void test_base64(void **state)
{
    // Each of the last is another way to write what has one encoding, or none.
    static const char *const bad[] = {"A",   "AA=", "AA==", "AB",   "AAB",
                                      "A+A", "A/A", "AA\n", "AAAAA"};
    hm_buf b = {0};
    (void)state;
    assert_base64("", "");
    assert_base64("f", "Zg");
    assert_base64("fo", "Zm8");
    assert_base64("foo", "Zm9v");
    assert_base64("\xff\xef\xfe", "_-_-");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(jose_unbase64(hm_bytes_str(bad[i]), &b), HM_E_PARSE);
    hm_buf_free(&b);
}

// RFC 7638, 3.1.
static const char rsa_jwk[] =
    "{\"kty\":\"RSA\",\"n\":"
    "\"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aP"
    "FFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-"
    "65"
    "YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-"
    "bFTWhAI4"
    "vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw\",\"e\":"
    "\"AQAB\","
    "\"alg\":\"RS256\",\"kid\":\"2011-04-29\"}";

static void assert_thumbprint(const char *jwk, const char *expected)
{
    jose_jwk k = {0};
    hm_buf text = {0};
    assert_int_equal(jose_jwk_parse(hm_bytes_str(jwk), &k), HM_OK);
    jose_base64(hm_hash_bytes(&k.thumbprint), &text);
    assert_string_equal(hm_buf_cstr(&text), expected);
    hm_buf_free(&text);
    jose_jwk_free(&k);
}

static void test_thumbprints(void **state)
{
    (void)state;
    assert_thumbprint(rsa_jwk, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    // RFC 8037, A.3.
    assert_thumbprint("{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":"
                      "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
                      "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

static const char ec_jwk[] = "{\"kty\":\"EC\",\"crv\":\"P-256\","
                             "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
                             "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}";

// RFC 7515, A.3: ES256 over that key. The same with one bit changed is refused.
static void test_signature(void **state)
{
    static const char text[] = "{\"protected\":\"eyJhbGciOiJFUzI1NiJ9\",\"payload\":"
                               "\"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtc"
                               "GxlLmNvbS9pc19yb290Ijp0cnVlfQ\","
                               "\"signature\":\"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-"
                               "F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q\"}";
    jose_jws j = {0};
    jose_jwk k = {0}, rsa = {0};
    (void)state;
    assert_int_equal(jose_jwk_parse(hm_bytes_str(ec_jwk), &k), HM_OK);
    assert_int_equal(jose_jwk_parse(hm_bytes_str(rsa_jwk), &rsa), HM_OK);
    assert_int_equal(jose_jws_parse(hm_bytes_str(text), &j), HM_OK);
    assert_int_equal(jose_jws_verify(&j, &k), HM_OK);
    assert_int_equal(jose_jws_verify(&j, &rsa), HM_E_UNSUPPORTED);
    j.signature.ptr[10] ^= 1;
    assert_int_equal(jose_jws_verify(&j, &k), HM_E_SIGNATURE);
    j.signature.ptr[10] ^= 1;
    j.signature.len--;
    assert_int_equal(jose_jws_verify(&j, &k), HM_E_SIGNATURE);
    j.signature.len++;
    j.signed_text.ptr[30] ^= 1;
    assert_int_equal(jose_jws_verify(&j, &k), HM_E_SIGNATURE);
    jose_jws_free(&j);
    jose_jwk_free(&k);
    jose_jwk_free(&rsa);
}

// RFC 7515, A.1.
static void test_mac(void **state)
{
    static const char text[] =
        "{\"protected\":\"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\",\"payload\":"
        "\"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
        "cnVlfQ\","
        "\"signature\":\"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk\"}";
    hm_buf key = {0};
    jose_jws j = {0};
    (void)state;
    assert_int_equal(
        jose_unbase64(hm_bytes_str("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH"
                                   "75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"),
                      &key),
        HM_OK);
    assert_int_equal(jose_jws_parse(hm_bytes_str(text), &j), HM_OK);
    assert_int_equal(jose_jws_verify_mac(&j, hm_buf_bytes(&key)), HM_OK);
    key.ptr[0] ^= 1;
    assert_int_equal(jose_jws_verify_mac(&j, hm_buf_bytes(&key)), HM_E_SIGNATURE);
    jose_jws_free(&j);
    hm_buf_free(&key);
}

static void test_bad_jws(void **state)
{
    static const struct {
        const char *text;
        hm_err err;
    } bad[] = {
        {"", HM_E_PARSE},
        {"{}", HM_E_PARSE},
        {"{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"\"}", HM_E_PARSE}, // no alg
        {"{\"protected\":\"e30\",\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"\"}",
         HM_E_PARSE},
        {"{\"protected\":\"e30\",\"payload\":\"\",\"signature\":\"\",\"header\":{}}", HM_E_PARSE},
        {"{\"protected\":\"e30\",\"payload\":\"\",\"signatures\":[]}", HM_E_PARSE},
        {"{\"protected\":1,\"payload\":\"\",\"signature\":\"\"}", HM_E_PARSE},
        // {"alg":"none"}, {"alg":"ES256","alg":"ES256"}, {"alg":"ES256","crit":[]}
        {"{\"protected\":\"eyJhbGciOiJub25lIn0\",\"payload\":\"\",\"signature\":\"\"}",
         HM_E_UNSUPPORTED},
        {"{\"protected\":\"eyJhbGciOiJFUzI1NiIsImFsZyI6IkVTMjU2In0\",\"payload\":\"\","
         "\"signature\":\"\"}",
         HM_E_PARSE},
        {"{\"protected\":\"eyJhbGciOiJFUzI1NiIsImNyaXQiOltdfQ\",\"payload\":\"\",\"signature\":"
         "\"\"}",
         HM_E_PARSE},
    };
    char *big = malloc(JOSE_JWS_MAX + 2);
    jose_jws j = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(jose_jws_parse(hm_bytes_str(bad[i].text), &j), bad[i].err);
    memset(big, ' ', JOSE_JWS_MAX + 1);
    assert_int_equal(jose_jws_parse(hm_bytes_of(big, JOSE_JWS_MAX + 1), &j), HM_E_PARSE);
    free(big);
}

static void test_bad_jwk(void **state)
{
    static const struct {
        const char *text;
        hm_err err;
    } bad[] = {
        {"[]", HM_E_PARSE},
        {"{}", HM_E_PARSE},
        {"{\"kty\":\"oct\",\"k\":\"AA\"}", HM_E_KEY},
        {"{\"kty\":\"EC\",\"kty\":\"EC\"}", HM_E_PARSE},
        {"{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AA\",\"y\":\"AA\"}", HM_E_KEY},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}", HM_E_KEY},
        // The whole point in "x": it took the "y" that is not there from the stack (FIPS 186-4, G).
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"
         "\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li_h"
         "p_m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q\"}",
         HM_E_KEY},
        // Not on the curve.
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
         "\"y\":"
         "\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}",
         HM_E_KEY},
        {"{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}", HM_E_KEY},
        {"{\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\"}", HM_E_KEY},
        {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"AA\"}", HM_E_KEY},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}", HM_E_KEY},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"A\"}", HM_E_PARSE},
    };
    jose_jwk k = {0};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(jose_jwk_parse(hm_bytes_str(bad[i].text), &k), bad[i].err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),    cmocka_unit_test(test_thumbprints),
        cmocka_unit_test(test_signature), cmocka_unit_test(test_mac),
        cmocka_unit_test(test_bad_jws),   cmocka_unit_test(test_bad_jwk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
