#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "trustchain/policy.h"
#include "trustchain/renew.h"

#define NOW UINT64_C(1800000000000)
#define OK(call) assert_int_equal(call, HM_OK)

static char base[] = "/tmp/hm-policy-XXXXXX";
static char dir[64], own[64], file[64];
static tc_authority *a;

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(base) || hm_crypto_init() != HM_OK)
        return -1;
    snprintf(dir, sizeof dir, "%s/authority", base);
    snprintf(own, sizeof own, "%s/own", base);
    snprintf(file, sizeof file, "%s/policy.ini", base);
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_authority_open(dir, &a));
    return 0;
}

static int teardown(void **state)
{
    char command[80];
    (void)state;
    tc_authority_close(a);
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

static hm_err read_text(hm_bytes text, tc_policy **out)
{
    OK(hm_file_write(file, text, 0600));
    return tc_policy_read(file, out);
}

static void names_are_given_by_the_rules(void **state)
{
    static const char text[] = "; what may be named\n"
                               "[server]\n"
                               "allow = .example.org, www.example.net\n"
                               "allow = fd48:4d00::/33, fd00::7 ; and more\n"
                               "deny = Secret.example.org, .dark.example.org\n"
                               "deny = fd48:4d00:1::/48\n"
                               "[client]\n"
                               "allow = @example.org, root\n"
                               "[node]\n"
                               "deny = node-9\n"
                               "[code]\n"
                               "deny = *\n";
    static const struct {
        tc_profile p;
        const char *name;
        bool given;
    } t[] = {
        {TC_SERVER, "a.example.org", true},
        {TC_SERVER, "A.B.EXAMPLE.ORG", true},
        {TC_SERVER, "example.org", false},
        {TC_SERVER, "badexample.org", false},
        {TC_SERVER, ".example.org", false},
        {TC_SERVER, "www.example.net", true},
        {TC_SERVER, "x.www.example.net", false},
        {TC_SERVER, "secret.example.org", false},
        {TC_SERVER, "SECRET.EXAMPLE.ORG", false},
        {TC_SERVER, "very.secret.example.org", true},
        {TC_SERVER, "x.dark.example.org", false},
        {TC_SERVER, "fd48:4d00::1", true},
        {TC_SERVER, "fd48:4d00:7fff:ffff::", true},
        {TC_SERVER, "fd48:4d00:8000::", false}, // bit 33
        {TC_SERVER, "fd48:4d00:0001::5", false},
        {TC_SERVER, "fd00::7", true},
        {TC_SERVER, "fd00::8", false},
        {TC_CLIENT, "alice@example.org", true},
        {TC_CLIENT, "alice@mail.example.org", false},
        {TC_CLIENT, "root", true},
        {TC_CLIENT, "a.example.org", false},
        {TC_NODE, "node-1", true},
        {TC_NODE, "node-9", false},
        {TC_CODE, "release", false},
        {TC_CODE, "fd00::7", false},
    };
    tc_policy *p = NULL;
    (void)state;
    OK(read_text(hm_bytes_str(text), &p));
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        hm_err err = tc_policy_check(p, t[i].p, t[i].name);
        if (err != (t[i].given ? HM_OK : HM_E_DENIED))
            fail_msg("%s %s", tc_profile_of(t[i].p)->name, t[i].name);
        if (!t[i].given)
            assert_non_null(strstr(hm_err_detail(), t[i].name));
    }
    tc_policy_free(p);
    OK(read_text(hm_bytes_str(""), &p));
    OK(tc_policy_check(p, TC_CODE, "release"));
    tc_policy_free(p);
    OK(tc_policy_check(NULL, TC_SERVER, "a.test"));
}

static void a_bad_file_is_refused_with_line_and_reason(void **state)
{
    static const struct {
        const char *text, *line, *reason;
    } t[] = {
        {"allow = a.test\n", "line 1", "section []"},
        {"[server]\nallow = a.test\n[sever]\nallow = b.test\n", "line 4", "[sever]"},
        {"[server]\n\nallows = a.test\n", "line 3", "\"allows\""},
        {"[server]\nallow =\n", "line 2", "names nothing"},
        {"[server]\nallow = , ,\n", "line 2", "names nothing"},
        {"[server]\nallow a.test\n", "line 2", "key = value"},
        {"[server\nallow = a.test\n", "line 1", "key = value"},
        {"[server]\nallow = *.test\n", "line 2", "\"*.test\""},
        {"[server]\nallow = a.test.\n", "line 2", "\"a.test.\""},
        {"[server]\nallow = a.test, .\n", "line 2", "\".\""},
        {"[server]\nallow = 192.0.2.1\n", "line 2", "IPv4"},
        {"[server]\nallow = 192.0.2.0/24\n", "line 2", "192.0.2.0/24"},
        {"[server]\nallow = fd48::/129\n", "line 2", "fd48::/129"},
        {"[server]\nallow = fd48::/\n", "line 2", "fd48::/"},
        {"[server]\nallow = fd48::/-1\n", "line 2", "fd48::/-1"},
        {"[server]\nallow = fd48::/3x\n", "line 2", "fd48::/3x"},
        {"[server]\nallow = fd48:::1\n", "line 2", "fd48:::1"},
        {"[server]\nallow = fd48::1/32\n", "line 2", "beyond"},
    };
    tc_policy *p = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        assert_int_equal(read_text(hm_bytes_str(t[i].text), &p), HM_E_CONFIG);
        if (!strstr(hm_err_detail(), t[i].line) || !strstr(hm_err_detail(), t[i].reason))
            fail_msg("%s: %s", t[i].text, hm_err_detail());
    }
    // What stands behind a NUL must not be left out unseen, nor the rest of a long line.
    assert_int_equal(read_text(hm_bytes_of("[server]\n\0deny = *\n", 19), &p), HM_E_CONFIG);
    assert_non_null(strstr(hm_err_detail(), "line 2"));
    char line[300];
    snprintf(line, sizeof line, "[server]\ndeny = %0180d, a.test\n", 7);
    assert_int_equal(read_text(hm_bytes_str(line), &p), HM_OK);
    assert_int_equal(tc_policy_check(p, TC_SERVER, "a.test"), HM_E_DENIED);
    tc_policy_free(p);
    p = NULL;
    snprintf(line, sizeof line, "[server]\ndeny = %0184d, a.test\n", 7);
    assert_int_equal(read_text(hm_bytes_str(line), &p), HM_E_CONFIG);
    assert_non_null(strstr(hm_err_detail(), "line 2"));
    OK(hm_file_write(file, hm_bytes_str("x"), 0600));
    assert_int_equal(unlink(file), 0);
    assert_int_equal(tc_policy_read(file, &p), HM_E_CONFIG);
    assert_null(p);
}

static void a_policy_has_a_limit(void **state)
{
    hm_buf text = {0};
    tc_policy *p = NULL;
    (void)state;
    hm_buf_puts(&text, "[server]\n");
    for (unsigned i = 0; i < TC_POLICY_RULES_MAX; i++)
        hm_buf_printf(&text, "allow = n%u.test\n", i);
    OK(read_text(hm_buf_bytes(&text), &p));
    tc_policy_free(p);
    p = NULL;
    hm_buf_puts(&text, "allow = one.more\n");
    assert_int_equal(read_text(hm_buf_bytes(&text), &p), HM_E_CONFIG);
    assert_non_null(strstr(hm_err_detail(), "line 4098"));
    hm_buf_free(&text);
}

// Every name of a request counts, wherever it stands, and of a renewal too.
static void an_authority_asks_its_policy(void **state)
{
    static const char *const hosts[] = {"a.example.org", "fd48::1", "b.example.net"};
    const tc_terms terms = {.renewable = true};
    char path[96];
    hm_buf csr[2] = {{0}, {0}}, key = {0}, chain = {0}, sig = {0};
    tc_policy *p = NULL, *narrow = NULL;
    tc_issued issued;
    (void)state;
    OK(tc_dir_make(own, "node-1", hosts, 3, NULL));
    for (int f = 0; f < 2; f++) {
        snprintf(path, sizeof path, "%s/%s.csr", own, f == TC_MESH ? "node" : "edge");
        OK(hm_file_read(path, TC_CSR_MAX, &csr[f]));
    }
    OK(read_text(hm_bytes_str("[server]\nallow = .example.org, fd48::/16, .example.net\n"), &p));
    OK(read_text(hm_bytes_str("[server]\nallow = .example.org, fd48::/16\n[node]\ndeny = node-1\n"),
                 &narrow));
    tc_authority_set_policy(a, p);
    OK(tc_issue(a, TC_SERVER, hm_buf_bytes(&csr[1]), &terms, NOW, &chain, &issued));
    OK(tc_issue_node(a, hm_buf_bytes(&csr[0]), NOW, &chain, NULL));
    size_t count = tc_issued_count(a), len = chain.len;
    tc_authority_set_policy(a, narrow);
    assert_int_equal(tc_issue_server(a, hm_buf_bytes(&csr[1]), NOW, &chain, NULL), HM_E_DENIED);
    assert_non_null(strstr(hm_err_detail(), "b.example.net"));
    assert_int_equal(tc_issue_node(a, hm_buf_bytes(&csr[0]), NOW, &chain, NULL), HM_E_DENIED);
    tc_renewal r = {.serial = issued.serial,
                    .time_ms = NOW + 15 * UINT64_C(86400000),
                    .csr_pem = hm_buf_bytes(&csr[1])};
    snprintf(path, sizeof path, "%s/edge.key", own);
    OK(tc_renewal_sign(path, &r, &sig));
    r.signature = hm_buf_bytes(&sig);
    assert_int_equal(tc_renew(a, &r, r.time_ms, &chain, &issued), HM_E_DENIED);
    assert_int_equal(tc_issued_count(a), count);
    assert_int_equal(chain.len, len);
    tc_authority_set_policy(a, p);
    OK(tc_renew(a, &r, r.time_ms, &chain, &issued));
    // The 32nd name, which the list of names has no room for.
    char names[TC_SERVER_NAMES_MAX][40];
    const char *list[TC_SERVER_NAMES_MAX];
    for (unsigned i = 0; i < TC_SERVER_NAMES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "a-rather-long-name-%u.%s", i,
                 i + 1 < TC_SERVER_NAMES_MAX ? "example.org" : "evil.test");
        list[i] = names[i];
    }
    hm_buf_reset(&csr[1]);
    OK(tc_server_csr(list, TC_SERVER_NAMES_MAX, &key, &csr[1]));
    assert_int_equal(tc_issue_server(a, hm_buf_bytes(&csr[1]), NOW, &chain, NULL), HM_E_DENIED);
    assert_non_null(strstr(hm_err_detail(), "evil.test"));
    tc_authority_set_policy(a, NULL);
    OK(tc_issue_server(a, hm_buf_bytes(&csr[1]), NOW, &chain, NULL));
    tc_policy_free(p);
    tc_policy_free(narrow);
    hm_buf_free(&csr[0]);
    hm_buf_free(&csr[1]);
    hm_buf_free_secret(&key);
    hm_buf_free(&chain);
    hm_buf_free(&sig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_given_by_the_rules),
        cmocka_unit_test(a_bad_file_is_refused_with_line_and_reason),
        cmocka_unit_test(a_policy_has_a_limit),
        cmocka_unit_test(an_authority_asks_its_policy),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
