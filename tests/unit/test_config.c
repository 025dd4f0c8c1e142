// Options: order of the sources, what is refused, and the text made from the table.
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/config.h"

static const hm_option options[] = {
    {"config", "T_CONFIG", NULL, "FILE", "/nonexistent/t.ini", "the file"},
    {"listen", "T_LISTEN", "server.listen", "ADDR", "[::]:8444", "where"},
    {"limit", "T_LIMIT", "server.limit", "N", NULL, "how many", 'l'},
    {"quiet", NULL, "quiet", NULL, NULL, "say less"},
};
#define COUNT (sizeof(options) / sizeof(options[0]))
#define LOAD(c, ...)                                                                               \
    load(c, (int)(sizeof((const char *[]){"t", __VA_ARGS__}) / sizeof(char *)),                    \
         (const char *[]){"t", __VA_ARGS__})

static hm_err load(hm_config *c, int argc, const char **argv)
{
    return hm_config_load(c, options, COUNT, argc, (char *const *)argv);
}

static void write_ini(char *path, const char *text)
{
    strcpy(path, "/tmp/hm-config-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void test_order(void **state)
{
    (void)state;
    hm_config c;
    char path[64];
    write_ini(path, "quiet = yes\n[server]\nlisten = [::1]:1\nlimit = 5\n");
    assert_int_equal(LOAD(&c, "run", "--config", path, "--", "--x"), HM_OK);
    assert_string_equal(hm_config_get(&c, "listen"), "[::1]:1");
    assert_true(hm_config_on(&c, "quiet"));
    assert_int_equal(c.positional_count, 2);
    assert_string_equal(c.positional[1], "--x");
    hm_config_free(&c);
    setenv("T_LISTEN", "[::1]:2", 1);
    assert_int_equal(LOAD(&c, "--config", path), HM_OK);
    assert_string_equal(hm_config_get(&c, "listen"), "[::1]:2");
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "--config", path, "--listen=[::1]:3", "--limit", "7"), HM_OK);
    assert_string_equal(hm_config_get(&c, "listen"), "[::1]:3");
    uint64_t n = 0;
    assert_int_equal(hm_config_u64(&c, "limit", 1, 7, &n), HM_OK);
    assert_int_equal(n, 7);
    assert_int_equal(hm_config_u64(&c, "limit", 1, 6, &n), HM_E_CONFIG);
    hm_config_free(&c);
    unsetenv("T_LISTEN");
    unlink(path);
    assert_int_equal(LOAD(&c, "run"), HM_OK);
    assert_string_equal(hm_config_get(&c, "listen"), "[::]:8444");
    assert_null(hm_config_get(&c, "limit"));
    assert_false(hm_config_on(&c, "quiet"));
    hm_config_free(&c);
}

static void test_refused(void **state)
{
    (void)state;
    hm_config c;
    char path[64];
    assert_int_equal(LOAD(&c, "--nonsense"), HM_E_USAGE);
    assert_non_null(strstr(hm_err_detail(), "--nonsense"));
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "-x"), HM_E_USAGE);
    assert_non_null(strstr(hm_err_detail(), "-x"));
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "-l"), HM_E_USAGE);
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "-l", "7", "-"), HM_OK);
    assert_string_equal(hm_config_get(&c, "limit"), "7");
    assert_string_equal(c.positional[0], "-");
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "-l8"), HM_OK);
    assert_string_equal(hm_config_get(&c, "limit"), "8");
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "--limit"), HM_E_USAGE);
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "--quiet=1"), HM_E_USAGE);
    hm_config_free(&c);
    assert_int_equal(LOAD(&c, "--config", "/nonexistent/u.ini"), HM_E_NOTFOUND);
    hm_config_free(&c);
    write_ini(path, "[server]\nlimit = 5\nlisten_on = x\n");
    assert_int_equal(LOAD(&c, "--config", path), HM_E_CONFIG);
    assert_non_null(strstr(hm_err_detail(), "line 3"));
    assert_non_null(strstr(hm_err_detail(), "listen_on"));
    hm_config_free(&c);
    unlink(path);
    static const char *const bad[] = {"12x", "-1", "", "99999999999999999999", " 5"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t n = 3;
        assert_int_equal(LOAD(&c, "--limit", bad[i]), HM_OK);
        assert_int_equal(hm_config_u64(&c, "limit", 0, UINT64_MAX, &n), HM_E_CONFIG);
        assert_int_equal(n, 3);
        hm_config_free(&c);
    }
}

static void test_addr(void **state)
{
    (void)state;
    struct sockaddr_in6 a = {0};
    char text[HM_ADDR_TEXT_MAX];
    assert_int_equal(hm_addr_parse("[2001:db8::1]:8443", &a), HM_OK);
    assert_int_equal(ntohs(a.sin6_port), 8443);
    assert_string_equal(hm_addr_text(&a, text), "[2001:db8::1]:8443");
    static const char *const bad[] = {"127.0.0.1:80", "[::ffff:127.0.0.1]:80",
                                      "[::1]",        "::1:80",
                                      "[::1]:70000",  "[::1]:x",
                                      "[zz]:1",       "",
                                      "[::1]:",       "[::1%nosuchif]:1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(hm_addr_parse(bad[i], &a), HM_E_CONFIG);
}

static void test_help(void **state)
{
    (void)state;
    hm_buf out = {0};
    hm_config_help(options, COUNT, &out);
    hm_config_markdown(options, COUNT, &out);
    for (size_t i = 0; i < COUNT; i++)
        assert_non_null(strstr(hm_buf_cstr(&out), options[i].help));
    assert_non_null(strstr(hm_buf_cstr(&out), "--listen ADDR"));
    hm_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_addr), cmocka_unit_test(test_help)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
