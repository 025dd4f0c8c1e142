// ACME's core and what belongs to it, without a network: known answers of RFC 7515, 7638, 8037 and
// 8555, strict reading, limits, and that what was committed is there after a restart. Each fault a
// client can make is asked for over HTTP by tests/integration/acme_faults.py.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ecdsa.h>

#include "server/acme_dns.h"
#include "trustchain/acme/internal.h"

#define NOW UINT64_C(1790000000000)

// ---- JOSE ---------------------------------------------------------------------------------------

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

// ---- a client -----------------------------------------------------------------------------------

typedef struct world {
    char dir[64], path[96];
    tc_authority *authority;
    acme *server;
    acme_config cfg;
    EVP_PKEY *key; // of the account, P-256
    char jwk[400], kid[ACME_URL_MAX];
    acme_answer answer;
} world;

static void reopen(world *w)
{
    acme_close(w->server);
    w->server = NULL;
    assert_int_equal(acme_open(&w->cfg, &w->server), HM_OK);
}

static void new_key(world *w)
{
    uint8_t point[65];
    size_t len;
    hm_buf x = {0}, y = {0};
    EVP_PKEY_free(w->key);
    w->key = EVP_EC_gen("P-256");
    assert_int_equal(EVP_PKEY_get_octet_string_param(w->key, "encoded-pub-key", point, 65, &len),
                     1);
    jose_base64(hm_bytes_of(point + 1, 32), &x);
    jose_base64(hm_bytes_of(point + 33, 32), &y);
    snprintf(w->jwk, sizeof w->jwk, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}",
             hm_buf_cstr(&x), hm_buf_cstr(&y));
    w->kid[0] = 0;
    hm_buf_free(&x);
    hm_buf_free(&y);
}

static int setup(void **state)
{
    world *w = calloc(1, sizeof *w);
    char path[80];
    assert_int_equal(hm_crypto_init(), HM_OK);
    snprintf(w->dir, sizeof w->dir, "/tmp/hm-acme-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(path, sizeof path, "%s/authority", w->dir);
    snprintf(w->path, sizeof w->path, "%s/acme", w->dir);
    assert_int_equal(tc_authority_init(path, "test", NOW), HM_OK);
    assert_int_equal(tc_authority_open(path, &w->authority), HM_OK);
    w->cfg =
        (acme_config){.dir = w->path, .authority = w->authority, .dns_01 = true, .now_ms = NOW};
    new_key(w);
    reopen(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    char command[128];
    acme_answer_free(&w->answer);
    acme_close(w->server);
    tc_authority_close(w->authority);
    EVP_PKEY_free(w->key);
    snprintf(command, sizeof command, "rm -rf '%s'", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static void sign(world *w, hm_bytes text, hm_buf *out)
{
    uint8_t der[80], raw[64];
    size_t len = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const uint8_t *at = der;
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, w->key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &len, text.ptr, text.len), 1);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)len);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32);
    jose_base64(hm_bytes_of(raw, 64), out);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

// Sends a signed request with that nonce; the answer is in w->answer.
static unsigned post_nonce(world *w, acme_op op, const char *path, const char *id, const char *sub,
                           const char *payload, const char *nonce, uint64_t at_ms)
{
    char header[1200];
    hm_buf p = {0}, b = {0}, text = {0}, s = {0}, body = {0};
    snprintf(header, sizeof header,
             "{\"alg\":\"ES256\",\"nonce\":\"%s\",\"url\":\"https://[::1]%s\",%s%s%s}", nonce, path,
             w->kid[0] ? "\"kid\":\"" : "\"jwk\":", w->kid[0] ? w->kid : w->jwk,
             w->kid[0] ? "\"" : "");
    jose_base64(hm_bytes_str(header), &p);
    jose_base64(hm_bytes_str(payload), &b);
    hm_buf_printf(&text, "%s.%s", hm_buf_cstr(&p), hm_buf_cstr(&b));
    sign(w, hm_buf_bytes(&text), &s);
    hm_buf_printf(&body, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}",
                  hm_buf_cstr(&p), hm_buf_cstr(&b), hm_buf_cstr(&s));
    const acme_request rq = {.op = op,
                             .id = id,
                             .sub = sub,
                             .base = "https://[::1]",
                             .path = path,
                             .content_type = "application/jose+json",
                             .body = hm_buf_bytes(&body),
                             .now_ms = at_ms};
    acme_answer_free(&w->answer);
    acme_handle(w->server, &rq, &w->answer);
    hm_buf *all[] = {&p, &b, &text, &s, &body};
    for (size_t i = 0; i < 5; i++)
        hm_buf_free(all[i]);
    return w->answer.status;
}

static unsigned post(world *w, acme_op op, const char *path, const char *id, const char *sub,
                     const char *payload)
{
    char nonce[32];
    acme_nonce_make(w->server, nonce);
    return post_nonce(w, op, path, id, sub, payload, nonce, NOW);
}

static void account(world *w)
{
    assert_int_equal(post(w, ACME_OP_NEW_ACCOUNT, "/acme/new-account", "", "", "{}"), 201);
    snprintf(w->kid, sizeof w->kid, "%s", w->answer.location);
    assert_int_equal(acme_commit(w->server), HM_OK);
}

static unsigned order(world *w)
{
    return post(w, ACME_OP_NEW_ORDER, "/acme/new-order", "", "",
                "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}]}");
}

static bool says(world *w, const char *words)
{
    return strstr(hm_buf_cstr(&w->answer.body), words) != NULL;
}

// ---- the core -----------------------------------------------------------------------------------

static void test_nonces(void **state)
{
    world *w = *state;
    char first[32], other[32];
    acme_nonce_make(w->server, first);
    assert_true(acme_nonce_take(w->server, hm_bytes_str(first)));
    assert_false(acme_nonce_take(w->server, hm_bytes_str(first)));
    acme_nonce_make(w->server, first);
    snprintf(other, sizeof other, "%s", first);
    other[3] = other[3] == 'A' ? 'B' : 'A';
    assert_false(acme_nonce_take(w->server, hm_bytes_str(other)));
    // The oldest goes when there are ACME_NONCES newer ones.
    for (uint32_t i = 0; i < ACME_NONCES - 1; i++)
        acme_nonce_make(w->server, other);
    acme_nonce_make(w->server, other);
    assert_false(acme_nonce_take(w->server, hm_bytes_str(first)));
    assert_true(acme_nonce_take(w->server, hm_bytes_str(other)));
    // Another start, other nonces.
    acme_nonce_make(w->server, other);
    reopen(w);
    assert_false(acme_nonce_take(w->server, hm_bytes_str(other)));
}

// A validation that was under way is a task again after a restart, and its result counts.
static void test_restart(void **state)
{
    world *w = *state;
    acme_task task, again;
    account(w);
    assert_int_equal(order(w), 201);
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     200);
    assert_true(says(w, "processing"));
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_true(acme_next_task(w->server, &task));
    assert_false(acme_next_task(w->server, &again));
    reopen(w);
    assert_true(acme_next_task(w->server, &again));
    assert_string_equal(task.key_auth, again.key_auth);
    assert_string_equal(task.name.value, "a.test");
    assert_int_equal(acme_task_done(w->server, again.authorization, again.token, ACME_OK, "", NOW),
                     HM_OK);
    assert_int_equal(acme_commit(w->server), HM_OK);
    reopen(w);
    assert_false(acme_next_task(w->server, &again));
    assert_int_equal(post(w, ACME_OP_ORDER, "/acme/order/1", "1", "", ""), 200);
    assert_true(says(w, "\"ready\""));
}

static void fail_commit(world *w)
{
    w->server->spoilt = true;
    assert_int_equal(acme_commit(w->server), HM_E_IO);
}

// A validation begins beside the commit. When that fails, its result is no authorization's: neither
// the one's of before, nor another's that has its number since.
static void test_early(void **state)
{
    world *w = *state;
    acme_task task, other, none;
    account(w);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(order(w), 201);
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     200);
    assert_true(acme_next_task(w->server, &task));
    assert_int_equal(task.authorization, 1);
    fail_commit(w);
    assert_int_equal(order(w), 201);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     200);
    assert_true(acme_next_task(w->server, &other));
    assert_int_equal(other.authorization, 1);
    assert_string_not_equal(task.token, other.token);
    assert_int_equal(acme_task_done(w->server, 1, task.token, ACME_OK, "", NOW), HM_OK);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(post(w, ACME_OP_AUTHORIZATION, "/acme/authorization/1", "1", "", ""), 200);
    assert_false(says(w, "\"valid\""));
    // A result that is not stored is asked for again after the next start.
    assert_int_equal(acme_task_done(w->server, 1, other.token, ACME_OK, "", NOW), HM_OK);
    fail_commit(w);
    assert_int_equal(acme_commit(w->server), HM_OK);
    reopen(w);
    assert_true(acme_next_task(w->server, &other)); // resumed
    assert_false(acme_next_task(w->server, &none));
    assert_int_equal(acme_task_done(w->server, 1, other.token, ACME_OK, "", NOW), HM_OK);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(post(w, ACME_OP_AUTHORIZATION, "/acme/authorization/1", "1", "", ""), 200);
    assert_true(says(w, "\"valid\""));
}

// What is not committed is not there.
static void test_uncommitted(void **state)
{
    world *w = *state;
    account(w);
    assert_int_equal(order(w), 201);
    reopen(w);
    assert_int_equal(post(w, ACME_OP_ORDER, "/acme/order/1", "1", "", ""), 404);
    assert_int_equal(w->answer.error, ACME_MALFORMED);
}

static void test_limits(void **state)
{
    world *w = *state;
    acme_task task;
    w->cfg.accounts_an_hour = 3;
    w->cfg.orders_an_hour = 2;
    reopen(w);
    for (int i = 0; i < 3; i++) {
        new_key(w);
        account(w);
    }
    char kid[ACME_URL_MAX];
    snprintf(kid, sizeof kid, "%s", w->kid);
    EVP_PKEY *kept = w->key;
    EVP_PKEY_up_ref(kept);
    new_key(w);
    assert_int_equal(post(w, ACME_OP_NEW_ACCOUNT, "/acme/new-account", "", "", "{}"), 429);
    assert_int_equal(w->answer.error, ACME_RATE_LIMITED);
    assert_int_equal(w->answer.retry_after_s, 3601);
    EVP_PKEY_free(w->key);
    w->key = kept;
    snprintf(w->kid, sizeof w->kid, "%s", kid);
    assert_int_equal(order(w), 201);
    assert_int_equal(order(w), 201);
    assert_int_equal(order(w), 429);
    // An hour later it may go on.
    char nonce[32];
    acme_nonce_make(w->server, nonce);
    assert_int_equal(post_nonce(w, ACME_OP_NEW_ORDER, "/acme/new-order", "", "",
                                "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}]}",
                                nonce, NOW + ACME_HOUR_MS),
                     201);
    // Validations at a time.
    w->server->validating = ACME_VALIDATIONS_MAX;
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     429);
    assert_int_equal(w->answer.error, ACME_RATE_LIMITED);
    assert_int_equal(w->answer.retry_after_s, 5);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_false(acme_next_task(w->server, &task));
}

// Rates of more accounts than are told apart: they share one.
static void test_crowd(void **state)
{
    world *w = *state;
    acme_answer answer = {0};
    const acme_request rq = {.now_ms = NOW, .op = ACME_OP_NEW_ACCOUNT};
    acme_call c = {.a = w->server, .rq = &rq, .out = &answer};
    for (uint64_t i = 0; i < ACME_WINDOWS_MAX; i++)
        assert_int_equal(acme_rate(&c, 'c', &i, 1, "x"), ACME_OK);
    uint64_t more = ACME_WINDOWS_MAX;
    assert_int_equal(acme_rate(&c, 'c', &more, 1, "x"), ACME_OK);
    more++;
    assert_int_equal(acme_rate(&c, 'c', &more, 1, "x"), ACME_RATE_LIMITED);
    const acme_request later = {.now_ms = NOW + ACME_HOUR_MS, .op = ACME_OP_NEW_ACCOUNT};
    c.rq = &later;
    assert_int_equal(acme_rate(&c, 'c', &more, 1, "x"), ACME_OK);
}

// Orders that have ended go, with everything of theirs.
static void test_sweep(void **state)
{
    world *w = *state;
    uint64_t left = 9;
    acme_authz z;
    account(w);
    for (int i = 0; i < 5; i++)
        assert_int_equal(order(w), 201);
    assert_int_equal(acme_sweep(w->server, NOW + ACME_ORDER_MS - 1, 100), HM_OK);
    assert_int_equal(acme_record_count(w->server->store, 'o', 0, &left), HM_OK);
    assert_int_equal(left, 5);
    assert_int_equal(acme_sweep(w->server, NOW + ACME_ORDER_MS, 3), HM_OK);
    assert_int_equal(acme_record_count(w->server->store, 'o', 0, &left), HM_OK);
    assert_int_equal(left, 2);
    assert_int_equal(acme_sweep(w->server, NOW + ACME_ORDER_MS, 3), HM_OK);
    assert_int_equal(acme_record_authz_get(w->server->store, 5, &z), HM_E_NOTFOUND);
    assert_int_equal(post(w, ACME_OP_ORDERS, "/acme/account/1/orders", "1", "", ""), 200);
    assert_true(says(w, "\"orders\":[]"));
}

static void test_expired_order(void **state)
{
    world *w = *state;
    char nonce[32];
    account(w);
    assert_int_equal(order(w), 201);
    acme_nonce_make(w->server, nonce);
    assert_int_equal(
        post_nonce(w, ACME_OP_ORDER, "/acme/order/1", "1", "", "", nonce, NOW + ACME_ORDER_MS),
        200);
    assert_true(says(w, "\"status\":\"invalid\""));
    acme_nonce_make(w->server, nonce);
    assert_int_equal(post_nonce(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01",
                                "{}", nonce, NOW + ACME_ORDER_MS),
                     400);
}

// Half of a change is never stored: the whole commit fails, and says so.
static void test_spoilt(void **state)
{
    world *w = *state;
    account(w);
    assert_int_equal(order(w), 201);
    acme_call c = {.a = w->server, .out = &w->answer};
    (void)acme_fail_err(&c, HM_E_IO);
    w->server->spoilt = true;
    assert_int_equal(acme_commit(w->server), HM_E_IO);
    assert_int_equal(acme_commit(w->server), HM_OK);
    const acme_request rq = {.op = ACME_OP_NEW_ORDER, .base = "https://[::1]"};
    acme_answer_failed(w->server, &rq, &w->answer);
    assert_int_equal(w->answer.status, 500);
    assert_true(says(w, "urn:ietf:params:acme:error:serverInternal"));
    assert_int_equal(post(w, ACME_OP_ORDER, "/acme/order/1", "1", "", ""), 404);
}

static void test_eab(void **state)
{
    world *w = *state;
    acme_eab_key k;
    acme_eab e;
    assert_int_equal(acme_eab_make(w->path, NOW, &k), HM_OK); // beside the server
    assert_int_equal(strlen(k.id), ACME_EAB_ID_CHARS);
    assert_int_equal(strlen(k.secret), 43);
    assert_int_equal(acme_record_eab_get(w->server->store, hm_bytes_str(k.id), &e), HM_OK);
    assert_int_equal(e.account, 0);
    assert_int_equal(acme_record_eab_get(w->server->store, hm_bytes_str("x"), &e), HM_E_NOTFOUND);
    w->cfg.eab_required = true;
    reopen(w);
    assert_int_equal(post(w, ACME_OP_NEW_ACCOUNT, "/acme/new-account", "", "", "{}"), 403);
    assert_int_equal(w->answer.error, ACME_EXTERNAL_ACCOUNT_REQUIRED);
}

// ---- validations --------------------------------------------------------------------------------

static void test_addresses(void **state)
{
    static const struct {
        uint8_t addr[16];
        bool ok;
    } all[] = {
        {{0}, false},
        {{[15] = 1}, false},
        {{[10] = 0xff, 0xff, 127, 0, 0, 1}, false},
        {{0xfe, 0x80, [15] = 1}, false},
        {{0xff, 0x02, [15] = 1}, false},
        {{0, 0x64, 0xff, 0x9b, [12] = 127, 0, 0, 1}, false},
        {{0xfd, 0x48, 0x4d, [15] = 1}, true},
        {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        assert_int_equal(acme_address_ok(all[i].addr), all[i].ok);
}

static void test_expected(void **state)
{
    // RFC 8738, 6.
    const acme_identifier ip = {ACME_IP, "2001:db8::1"}, dns = {ACME_DNS, "a.test"};
    char sni[ACME_NAME_MAX + 1], value[44];
    (void)state;
    acme_alpn_sni(&ip, sni);
    assert_string_equal(sni,
                        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    acme_alpn_sni(&dns, sni);
    assert_string_equal(sni, "a.test");
    acme_dns_value("foo", value); // SHA-256 of "foo"
    assert_string_equal(value, "LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564");
    assert_true(acme_http_body_is(hm_bytes_str("a.b"), "a.b"));
    assert_true(acme_http_body_is(hm_bytes_str("a.b \r\n"), "a.b"));
    assert_false(acme_http_body_is(hm_bytes_str(" a.b"), "a.b"));
    assert_false(acme_http_body_is(hm_bytes_str("a.bc"), "a.b"));
    assert_false(acme_http_body_is(hm_bytes_of("a.b\0", 4), "a.b"));
    assert_int_equal(acme_alpn_check(hm_bytes_str("x"), &dns, "a.b"), HM_E_CERT_PROFILE);
}

static void test_dns(void **state)
{
    hm_buf q = {0}, m = {0};
    acme_dns_answer a;
    (void)state;
    assert_int_equal(acme_dns_question("", ACME_DNS_TXT, 1, &q), HM_E_INVALID);
    hm_buf_reset(&q);
    assert_int_equal(acme_dns_question("a..b", ACME_DNS_TXT, 1, &q), HM_E_INVALID);
    hm_buf_reset(&q);
    assert_int_equal(acme_dns_question("a.test", ACME_DNS_TXT, 0x1234, &q), HM_OK);
    // Answer: an alias, then the text in two parts.
    static const uint8_t head[] = {0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0};
    static const uint8_t rest[] = {0xc0, 12, 0,  5, 0, 1, 0, 0, 0, 0, 0, 3, 1,   'b', 0,   0xc0,
                                   12,   0,  16, 0, 1, 0, 0, 0, 0, 0, 5, 1, 'x', 2,   'y', 'z'};
    hm_buf_append(&m, head, sizeof head);
    hm_buf_append(&m, q.ptr + 12, q.len - 12 - 11);
    hm_buf_append(&m, rest, sizeof rest);
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_OK);
    assert_int_equal(a.count, 1);
    assert_true(acme_dns_text_is(a.data[0], "xyz"));
    assert_false(acme_dns_text_is(a.data[0], "xy"));
    assert_false(acme_dns_text_is(a.data[0], "xyzz"));
    for (size_t n = 0; n < m.len; n++)
        assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_bytes_of(m.ptr, n), &a), HM_E_PARSE);
    m.ptr[13] = 'A'; // letters may change their case, and nothing else
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_OK);
    m.ptr[13] = 'c';
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_E_PARSE);
    m.ptr[13] = 'a';
    m.ptr[0] = 0; // another question's
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_E_PARSE);
    hm_buf_free(&q);
    hm_buf_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_thumbprints),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_mac),
        cmocka_unit_test(test_bad_jws),
        cmocka_unit_test(test_bad_jwk),
        cmocka_unit_test_setup_teardown(test_nonces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uncommitted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crowd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expired_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spoilt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eab, setup, teardown),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_expected),
        cmocka_unit_test(test_dns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
