#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "trustchain/authority.h"
#include "trustchain/csr.h"
#include "trustchain/renew.h"

#define NOW UINT64_C(1800000000000)
#define DAY_S 86400u
#define OK(call) assert_int_equal(call, HM_OK)

static char base[] = "/tmp/hm-profile-XXXXXX";
static char dir[64], key_path[64];
static tc_authority *a;
static EVP_PKEY *key; // ECDSA P-256, in key_path as well

static int setup(void **state)
{
    (void)state;
    hm_buf pem = {0};
    if (!mkdtemp(base) || hm_crypto_init() != HM_OK || !(key = EVP_EC_gen("P-256")))
        return -1;
    snprintf(dir, sizeof dir, "%s/authority", base);
    snprintf(key_path, sizeof key_path, "%s/one.key", base);
    OK(x509_key_pem(key, &pem));
    OK(hm_file_write(key_path, hm_buf_bytes(&pem), 0600));
    hm_buf_free_secret(&pem);
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_authority_open(dir, &a));
    return 0;
}

static int teardown(void **state)
{
    char command[80];
    (void)state;
    tc_authority_close(a);
    EVP_PKEY_free(key);
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

// A request as openssl req makes it; cn and alt (OpenSSL's words) may be NULL.
static void request(const char *cn, const char *alt, hm_buf *pem)
{
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *all = NULL;
    BIO *mem = BIO_new(BIO_s_mem());
    char *text;
    if (cn)
        assert_int_equal(X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(req), "CN",
                                                    MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0),
                         1);
    if (alt) {
        X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, NULL, NID_subject_alt_name, alt);
        assert_non_null(e);
        assert_non_null(X509v3_add_ext(&all, e, -1));
        assert_int_equal(X509_REQ_add_extensions(req, all), 1);
        X509_EXTENSION_free(e);
        sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    }
    assert_int_equal(X509_REQ_set_pubkey(req, key), 1);
    assert_true(X509_REQ_sign(req, key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509_REQ(mem, req), 1);
    long len = BIO_get_mem_data(mem, &text);
    hm_buf_reset(pem);
    hm_buf_append(pem, text, (size_t)len);
    BIO_free(mem);
    X509_REQ_free(req);
}

static hm_err ask(tc_profile p, const char *cn, const char *alt, uint32_t life_s, tc_issued *out)
{
    const tc_terms terms = {.life_s = life_s, .renewable = true};
    hm_buf pem = {0}, chain = {0};
    request(cn, alt, &pem);
    hm_err err = tc_issue(a, p, hm_buf_bytes(&pem), &terms, NOW, &chain, out);
    hm_buf_free(&pem);
    hm_buf_free(&chain);
    return err;
}

static X509 *certificate(const tc_issued *i)
{
    hm_bytes der;
    X509 *x;
    OK(tc_issued_der(a, &i->serial, &der));
    OK(x509_cert_parse(der, &x));
    return x;
}

static void a_profile_has_its_uses_and_names(void **state)
{
    static const struct {
        tc_profile p;
        const char *cn, *alt, *subject; // subject NULL: refused
        uint32_t uses;
    } t[] = {
        {TC_SERVER, "ignored", "DNS:web.test", "web.test", XKU_SSL_SERVER},
        {TC_CLIENT, "alice@web.test", NULL, "alice@web.test", XKU_SSL_CLIENT},
        {TC_CLIENT, NULL, "DNS:web.test,IP:fd48::1", "web.test fd48::1", XKU_SSL_CLIENT},
        {TC_CLIENT, "Job_7", "DNS:web.test", "Job_7 web.test", XKU_SSL_CLIENT},
        {TC_CODE, "release+1.2", NULL, "release+1.2", XKU_CODE_SIGN},
        {TC_SERVER, "web.test", NULL, NULL, 0},
        {TC_SERVER, NULL, "email:a@web.test", NULL, 0},
        {TC_CLIENT, NULL, NULL, NULL, 0},
        {TC_CLIENT, "two words", NULL, NULL, 0},
        {TC_CLIENT, "two words", "DNS:web.test", NULL, 0},
        {TC_CLIENT, "alice", "IP:192.0.2.1", NULL, 0},
        {TC_CLIENT, "alice", "URI:hypermesh:node:00", NULL, 0},
        {TC_CODE, NULL, NULL, NULL, 0},
        {TC_CODE, "alice", "DNS:web.test", NULL, 0},
        {TC_CODE, "r\xc3\xa9lease", NULL, NULL, 0},
        {TC_NODE, "node-1", NULL, NULL, 0}, // its key is no FALCON key
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        tc_issued issued;
        hm_err err = ask(t[i].p, t[i].cn, t[i].alt, 0, &issued);
        if (!t[i].subject) {
            assert_int_equal(err, HM_E_CSR);
            continue;
        }
        OK(err);
        assert_string_equal(issued.subject, t[i].subject);
        assert_int_equal(issued.not_after_ms, NOW + 30 * UINT64_C(86400000));
        X509 *x = certificate(&issued);
        char cn[65];
        OK(x509_common_name(X509_get_subject_name(x), cn, sizeof cn));
        assert_int_equal(strncmp(cn, t[i].subject, strcspn(t[i].subject, " ")), 0);
        assert_int_equal(X509_get_extended_key_usage(x), t[i].uses);
        assert_int_equal(X509_get_key_usage(x), KU_DIGITAL_SIGNATURE);
        assert_int_equal(X509_check_ca(x), 0);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_SERVER, 0), t[i].p == TC_SERVER);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0), t[i].p == TC_CLIENT);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_CODE_SIGN, 0), t[i].p == TC_CODE);
        X509_free(x);
    }
}

static void a_profile_has_a_longest_life(void **state)
{
    static const struct {
        tc_profile p;
        uint32_t most_s;
        const char *cn, *alt;
    } t[] = {{TC_SERVER, 30 * DAY_S, NULL, "DNS:web.test"},
             {TC_CLIENT, 90 * DAY_S, "alice", NULL},
             {TC_CODE, 365 * DAY_S, "alice", NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        tc_issued issued;
        assert_int_equal(ask(t[i].p, t[i].cn, t[i].alt, t[i].most_s + 1, &issued), HM_E_CSR);
        OK(ask(t[i].p, t[i].cn, t[i].alt, t[i].most_s, &issued));
        assert_int_equal(issued.not_after_ms, NOW + UINT64_C(1000) * t[i].most_s);
        OK(ask(t[i].p, t[i].cn, t[i].alt, 1, &issued));
        assert_int_equal(issued.not_after_ms, NOW + 1000);
    }
}

static void a_profile_is_found_by_its_name(void **state)
{
    tc_profile p;
    (void)state;
    for (unsigned i = 0; i < TC_PROFILES; i++) {
        OK(tc_profile_named(tc_profile_of((tc_profile)i)->name, &p));
        assert_int_equal(p, i);
    }
    assert_int_equal(tc_profile_named("root", &p), HM_E_CSR);
    assert_non_null(strstr(hm_err_detail(), "node, server, client, code"));
}

// Renewed at half its life, by the key that it was issued for.
static hm_err renew(const tc_issued *old, const char *cn, const char *alt, tc_issued *out)
{
    hm_buf pem = {0}, sig = {0}, chain = {0};
    request(cn, alt, &pem);
    tc_renewal r = {.serial = old->serial,
                    .time_ms = NOW + 15 * UINT64_C(86400000),
                    .csr_pem = hm_buf_bytes(&pem)};
    OK(tc_renewal_sign(key_path, &r, &sig));
    r.signature = hm_buf_bytes(&sig);
    hm_err err = tc_renew(a, &r, r.time_ms, &chain, out);
    hm_buf_free(&pem);
    hm_buf_free(&sig);
    hm_buf_free(&chain);
    return err;
}

static void a_successor_keeps_profile_and_name(void **state)
{
    tc_issued old, next;
    (void)state;
    for (tc_profile p = TC_CLIENT; p <= TC_CODE; p++) {
        OK(ask(p, "alice", NULL, 0, &old));
        assert_int_equal(renew(&old, "mallory", NULL, &next), HM_E_CSR);
        assert_int_equal(renew(&old, "alice", "DNS:web.test", &next), HM_E_CSR);
        OK(renew(&old, "alice", NULL, &next));
        assert_string_equal(next.subject, "alice");
        X509 *x = certificate(&next);
        assert_int_equal(X509_get_extended_key_usage(x),
                         p == TC_CLIENT ? XKU_SSL_CLIENT : XKU_CODE_SIGN);
        X509_free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_has_its_uses_and_names),
        cmocka_unit_test(a_profile_has_a_longest_life),
        cmocka_unit_test(a_profile_is_found_by_its_name),
        cmocka_unit_test(a_successor_keeps_profile_and_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
