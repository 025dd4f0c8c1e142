#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "trustchain/authority.h"

#define NOW UINT64_C(1800000000000)
#define OK(call) assert_int_equal(call, HM_OK)

static char base[] = "/tmp/hm-constraint-XXXXXX";
static char free_dir[64], tied_dir[64];
static EVP_PKEY *key;

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(base) || hm_crypto_init() != HM_OK || !(key = EVP_EC_gen("P-256")))
        return -1;
    snprintf(free_dir, sizeof free_dir, "%s/free", base);
    snprintf(tied_dir, sizeof tied_dir, "%s/tied", base);
    OK(tc_authority_init(free_dir, "testmesh", NOW));
    OK(tc_authority_init_with(tied_dir, "testmesh", "example.org, b.test", NULL, NOW));
    return 0;
}

static int teardown(void **state)
{
    char command[80];
    (void)state;
    EVP_PKEY_free(key);
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

// What OpenSSL says of a certificate that somebody signs with the issuing key, asking nobody: an
// error of X509_verify_cert(), or X509_V_OK.
static int verdict(tc_authority *a, tc_family f, const char *alt)
{
    issuing_ca *ca = a->family[f].issuing[0];
    X509V3_CTX v3;
    X509 *x = NULL, *root = NULL;
    hm_buf der = {0};
    X509V3_set_ctx_nodb(&v3);
    X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &v3, NID_subject_alt_name, alt);
    assert_non_null(e);
    GENERAL_NAMES *names = X509V3_EXT_d2i(e);
    x509_template t = {.cn = "one",
                       .subject_key = key,
                       .issuer = ca->cert,
                       .issuer_key = ca->key,
                       .serial = {{0x40}},
                       .not_before_ms = NOW - 1000,
                       .not_after_ms = NOW + TC_DAY_MS,
                       .key_usage = "critical,digitalSignature",
                       .names = names};
    OK(x509_cert_make(&t, &x));
    hm_err own = authority_constraints_check(ca->cert, x); // before OpenSSL looked at it
    OK(tc_pem_to_der(tc_authority_root(a, f), &der));
    OK(x509_cert_parse(hm_buf_bytes(&der), &root));
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *more = sk_X509_new_null();
    sk_X509_push(more, ca->cert);
    X509_STORE_add_cert(store, root);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, x, more), 1);
    X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(p, (time_t)(NOW / 1000));
    X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_X509_STRICT);
    int code = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
    // The authority itself judges the same.
    assert_int_equal(own, code == X509_V_OK ? HM_OK : HM_E_DENIED);
    ERR_clear_error();
    sk_X509_free(more);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(root);
    X509_free(x);
    X509_EXTENSION_free(e);
    GENERAL_NAMES_free(names);
    hm_buf_free(&der);
    return code;
}

static void check(const char *dir, tc_family f, const char *const good[], const char *const bad[])
{
    tc_authority *a = NULL;
    OK(tc_authority_open(dir, &a));
    for (; *good; good++)
        if (verdict(a, f, *good) != X509_V_OK)
            fail_msg("refused: %s", *good);
    for (; *bad; bad++) {
        int code = verdict(a, f, *bad);
        if (code != X509_V_ERR_PERMITTED_VIOLATION && code != X509_V_ERR_EXCLUDED_VIOLATION)
            fail_msg("%s: %s", *bad, X509_verify_cert_error_string(code));
    }
    tc_authority_close(a);
}

static void the_mesh_names_its_zone_and_its_addresses_alone(void **state)
{
    static const char *const good[] = {"DNS:testmesh.internal",
                                       "DNS:a.b.testmesh.internal",
                                       "IP:fd48:4d00::1",
                                       "URI:hypermesh:node:00",
                                       "DNS:x.testmesh.internal,IP:fd48:4d00:ffff::",
                                       NULL};
    static const char *const bad[] = {"DNS:other.internal",
                                      "DNS:eviltestmesh.internal",
                                      "DNS:internal",
                                      "DNS:www.example.org",
                                      "IP:fd48:4d01::1",
                                      "IP:2001:db8::1",
                                      "IP:192.0.2.1",
                                      "DNS:x.testmesh.internal,DNS:www.example.org",
                                      NULL};
    (void)state;
    check(free_dir, TC_MESH, good, bad);
    check(tied_dir, TC_MESH, good, bad);
}

static void the_edge_is_tied_to_the_names_of_its_init(void **state)
{
    static const char *const all[] = {"DNS:www.example.net", "IP:2001:db8::1", NULL};
    static const char *const none[] = {NULL};
    static const char *const good[] = {"DNS:example.org", "DNS:a.example.org", "DNS:b.test", NULL};
    static const char *const bad[] = {
        "DNS:www.example.net", "DNS:badexample.org", "DNS:test", "IP:2001:db8::1",
        "IP:192.0.2.1",        "DNS:b.test,IP:::1",  NULL};
    (void)state;
    check(free_dir, TC_EDGE, all, none);
    check(tied_dir, TC_EDGE, good, bad);
}

static void names_beyond_are_not_issued(void **state)
{
    static const char *const good[] = {"a.example.org"}, *const bad[] = {"b.test", "a.test"};
    tc_authority *a = NULL;
    hm_buf secret = {0}, pem = {0}, chain = {0};
    (void)state;
    OK(tc_authority_open(tied_dir, &a));
    OK(tc_server_csr(good, 1, &secret, &pem));
    OK(tc_issue_server(a, hm_buf_bytes(&pem), NOW, &chain, NULL));
    size_t count = tc_issued_count(a), len = chain.len;
    hm_buf_reset(&pem);
    OK(tc_server_csr(bad, 2, &secret, &pem));
    assert_int_equal(tc_issue_server(a, hm_buf_bytes(&pem), NOW, &chain, NULL), HM_E_DENIED);
    assert_non_null(strstr(hm_err_detail(), "name constraints"));
    assert_int_equal(tc_issued_count(a), count);
    assert_int_equal(chain.len, len);
    tc_authority_close(a);
    hm_buf_free_secret(&secret);
    hm_buf_free(&pem);
    hm_buf_free(&chain);
}

static void names_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      ",",
                                      "fd48::/16", // no DNS name: what of these?
                                      "*.example.org",
                                      ".example.org",
                                      "example.org.",
                                      "example.org,fd48::1/16",
                                      "example.org,fd48::/129",
                                      "example.org;IP",
                                      "192.0.2.0/24",
                                      NULL};
    char path[96];
    hm_buf many = {0};
    (void)state;
    snprintf(path, sizeof path, "%s/bad", base);
    for (size_t i = 0; bad[i]; i++)
        if (tc_authority_init_with(path, "testmesh", bad[i], NULL, NOW) != HM_E_CONFIG)
            fail_msg("taken: %s", bad[i]);
    for (unsigned i = 0; i <= TC_SERVER_NAMES_MAX; i++)
        hm_buf_printf(&many, "n%u.test,", i);
    assert_int_equal(tc_authority_init_with(path, "testmesh", hm_buf_cstr(&many), NULL, NOW),
                     HM_E_CONFIG);
    assert_int_not_equal(access(path, F_OK), 0);
    hm_buf_free(&many);
}

static void a_prefix_is_a_whole_one(void **state)
{
    hm_buf out = {0};
    (void)state;
    OK(authority_constraints(TC_EDGE, NULL, "a.test,fd48::/13,::1", &out));
    assert_string_equal(hm_buf_cstr(&out),
                        "critical,permitted;DNS:a.test,permitted;IP:fd48::/fff8::,"
                        "permitted;IP:::1/ffff:ffff:ffff:ffff:ffff:ffff:ffff:"
                        "ffff");
    hm_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mesh_names_its_zone_and_its_addresses_alone),
        cmocka_unit_test(the_edge_is_tied_to_the_names_of_its_init),
        cmocka_unit_test(names_beyond_are_not_issued),
        cmocka_unit_test(names_that_are_none_are_refused),
        cmocka_unit_test(a_prefix_is_a_whole_one),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
