// Strict reading of request bodies, and writing of JSON and metrics.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "server/api_json.h"
#include "server/metrics.h"

#define H "abababababababababababababababababababababababababababababababab"
#define G "0bababababababababababababababababababababababababababababababab"

static void refuse(const char *text, hm_err err, const char *says)
{
    api_register r;
    hm_err_clear();
    assert_int_equal(api_register_read(hm_bytes_str(text), &r), err);
    if (!strstr(hm_err_detail(), says))
        fail_msg("\"%s\" does not say \"%s\"", hm_err_detail(), says);
}

static void test_register(void **state)
{
    (void)state;
    api_register r;
    assert_int_equal(
        api_register_read(
            hm_bytes_str("{\"kind\":\"data\",\"name\":\"\xc3\xa4\",\"policy\":\"public\","
                         "\"grants\":[{\"node\":\"" H "\",\"rights\":[\"read\"]},{\"node\":\"" G
                         "\",\"rights\":[\"manage\",\"use\"]}],\"content\":{\"size\":5,"
                         "\"chunk_bytes\":4,\"chunks\":2,\"root\":\"" H "\"}}"),
            &r),
        HM_OK);
    assert_true(r.policy.is_public && r.has_content);
    assert_int_equal(r.policy.grant_count, 2);
    assert_int_equal(r.policy.grants[0].node[0], 0x0b); // sorted
    assert_int_equal(r.policy.grants[0].rights, 6);
    assert_int_equal(r.content.chunks, 2);
    assert_int_equal(api_register_read(hm_bytes_str("{\"kind\":\"cpu\",\"name\":\"x\"}"), &r),
                     HM_OK);
    assert_false(r.policy.is_public);
    refuse("", HM_E_PARSE, "empty");
    refuse("[]", HM_E_PARSE, "object");
    refuse("{\"kind\":\"cpu\"}", HM_E_PARSE, "\"name\"");
    refuse("{\"kind\":7,\"name\":\"x\"}", HM_E_PARSE, "\"kind\"");
    refuse("{\"kind\":\"cpu\",\"name\":\"x\",\"nmae\":1}", HM_E_PARSE, "nmae");
    refuse("{\"kind\":\"cpu\",\"name\":\"x\",\"name\":\"y\"}", HM_E_PARSE, "twice");
    refuse("{\"kind\":\"cpu\",\"name\":\"\"}", HM_E_RANGE, "\"name\"");
    refuse("{\"kind\":\"cpu\",\"name\":\"a\\u0000b\"}", HM_E_PARSE, "NUL");
    static const char *const bad[] = {" ",         "\\u3000\\u2003 \\u00a0",
                                      "a\\u202eb", "\\u200f",
                                      "\\u061c1",  "x\\u2066",
                                      "\\n",       "a\\u0085",
                                      "a\\u007fb", "\\u2028"};
    static const char *const good[] = {
        " lead",          "trail ",         "\\u00a0x", "gr\\u00f6\\u00dfe \\u20ac",
        "\\u05d0\\u05d1", "\\ud83d\\ude00", "\\u200d",  "\\u202f1"};
    char text[128];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "{\"kind\":\"cpu\",\"name\":\"%s\"}", bad[i]);
        refuse(text, HM_E_INVALID, "a name is");
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        snprintf(text, sizeof(text), "{\"kind\":\"cpu\",\"name\":\"%s\"}", good[i]);
        assert_int_equal(api_register_read(hm_bytes_str(text), &r), HM_OK);
    }
    refuse("{\"kind\":\"cpu\",\"name\":\"x\",\"policy\":\"open\"}", HM_E_PARSE, "\"policy\"");
    refuse("{\"kind\":\"cpu\",\"name\":\"x\",\"content\":{\"size\":-1}}", HM_E_PARSE, "\"size\"");
    refuse("{\"kind\":\"cpu\",\"name\":\"x\",\"grants\":[{\"node\":\"" H
           "\",\"rights\":[\"read\"]},{\"node\":\"" H "\",\"rights\":[\"use\"]}]}",
           HM_E_PARSE, "twice");
    refuse("{\"kind\":\"cpu\",\"name\":\"x\",\"grants\":[{\"node\":\"ab\",\"rights\":[\"read\"]}]}",
           HM_E_PARSE, "64 hex");
    refuse("{\"a\":[[[[[[[[[]]]]]]]]]}", HM_E_LIMIT, "nested");
    refuse("{\"kind\":\"cpu\",\"name\":\"x\"} x", HM_E_PARSE, "byte");
    refuse("{\"kind\":\"cpu\",\"name\":\"\xff\"}", HM_E_PARSE, "byte");
}

static void test_small(void **state)
{
    (void)state;
    uint8_t to[32];
    char word[32];
    api_csr csr;
    assert_int_equal(api_transfer_read(hm_bytes_str("{\"to\":\"" H "\"}"), to), HM_OK);
    assert_int_equal(to[31], 0xab);
    assert_int_equal(api_state_read(hm_bytes_str("{\"state\":\"failed\"}"), word), HM_OK);
    assert_string_equal(word, "failed");
    assert_int_equal(api_empty_read(hm_bytes_str("{\"x\":1}")), HM_E_PARSE);
    assert_int_equal(api_empty_read(hm_bytes_str("")), HM_OK);
    assert_int_equal(api_revoke_read(hm_bytes_str("{}"), word), HM_OK);
    assert_string_equal(word, "unspecified");
    assert_int_equal(api_csr_read(hm_bytes_str("{\"csr\":\"x\",\"profile\":7}"), &csr), HM_E_PARSE);
    assert_int_equal(api_csr_read(hm_bytes_str("{\"csr\":\"x\",\"profile\":\"node\"}"), &csr),
                     HM_OK);
}

static void test_write(void **state)
{
    (void)state;
    hm_buf b = {0};
    hm_metrics m;
    hm_jw_open(&b, NULL, '{');
    hm_jw_text(&b, "t", hm_bytes_of("\"\\\n\xff\xc3\xa4", 6));
    hm_jw_open(&b, "a", '[');
    hm_jw_u64(&b, NULL, 1);
    hm_jw_bool(&b, NULL, true);
    hm_jw_str(&b, NULL, NULL);
    hm_jw_close(&b, ']');
    hm_jw_open(&b, "o", '{');
    hm_jw_close(&b, '}');
    hm_jw_hex(&b, "h", "\x01\xfe", 2);
    hm_jw_close(&b, '}');
    assert_string_equal(hm_buf_cstr(&b),
                        "{\"t\":\"\\\"\\\\\\u000a\xef\xbf\xbd\xc3\xa4\",\"a\":[1,true,null],"
                        "\"o\":{},\"h\":\"01fe\"}");
    hm_buf_reset(&b);
    hm_metrics_begin(&m, &b, false);
    hm_metrics_value(&m, "hm_x_total", "Xs", "r=\"a\"", 1, false);
    hm_metrics_value(&m, "hm_x_total", "Xs", "r=\"b\"", 2, false);
    hm_metrics_value(&m, "hm_g", "G", "", 3, true);
    hm_metrics_end(&m);
    assert_string_equal(hm_buf_cstr(&b),
                        "# TYPE hm_x counter\n# HELP hm_x Xs\nhm_x_total{r=\"a\"} 1\n"
                        "hm_x_total{r=\"b\"} 2\n# TYPE hm_g gauge\n# HELP hm_g G\nhm_g 3\n# EOF\n");
    hm_buf_reset(&b);
    hm_metrics_begin(&m, &b, true);
    hm_metrics_value(&m, "hm_x_total", "Xs", "r=\"a\"", 1, false);
    hm_metrics_value(&m, "hm_g", "G", "", 3, true);
    hm_metrics_end(&m);
    assert_string_equal(hm_buf_cstr(&b), "{\"hm_x_total{r=\\\"a\\\"}\":1,\"hm_g\":3}\n");
    hm_buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_register),
                                       cmocka_unit_test(test_small), cmocka_unit_test(test_write)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
