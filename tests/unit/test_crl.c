// Revocation lists and their deltas, over days.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "trustchain/authority.h"

#define NOW UINT64_C(1800000000000)
#define HOUR UINT64_C(3600000)
#define DAY UINT64_C(86400000)

static char base_dir[] = "/tmp/hm-crl-XXXXXX";
static char dir[64];

typedef struct lists {
    hm_buf full, delta;
    tc_crl_info info, delta_info;
    uint64_t base;
} lists;

static void lists_get(tc_authority *a, tc_family f, uint64_t now_ms, lists *out)
{
    hm_buf issuing = {0};
    hm_buf_reset(&out->full);
    hm_buf_reset(&out->delta);
    assert_int_equal(tc_authority_crl(a, f, now_ms, &out->full), HM_OK);
    assert_int_equal(tc_authority_delta_crl(a, f, now_ms, &out->delta), HM_OK);
    assert_int_equal(tc_pem_to_der(tc_authority_issuing(a, f), &issuing), HM_OK);
    hm_bytes der = hm_buf_bytes(&issuing);
    assert_int_equal(tc_crl_verify(hm_buf_bytes(&out->full), der, &out->info), HM_OK);
    assert_int_equal(
        x509_delta_verify(hm_buf_bytes(&out->delta), der, &out->delta_info, &out->base), HM_OK);
    // RFC 5280, 5.2.3: of one time, they have one number.
    assert_int_equal(out->info.number, out->delta_info.number);
    assert_int_equal(out->info.this_update_ms, out->delta_info.this_update_ms);
    assert_true(out->base <= out->info.number);
    // A delta is no list, nor a list a delta.
    tc_crl_info none;
    uint64_t number;
    assert_int_equal(tc_crl_verify(hm_buf_bytes(&out->delta), der, &none), HM_E_PARSE);
    assert_int_equal(x509_delta_verify(hm_buf_bytes(&out->full), der, &none, &number), HM_E_PARSE);
    hm_buf_free(&issuing);
}

static void lists_free(lists *l)
{
    hm_buf_free(&l->full);
    hm_buf_free(&l->delta);
}

static tc_issued issue(tc_authority *a, tc_family f, hm_buf *der)
{
    static const char *const names[] = {"web.test"};
    hm_buf key = {0}, csr = {0}, chain = {0};
    hm_key *node = NULL;
    tc_issued out;
    if (f == TC_MESH) {
        assert_int_equal(hm_key_generate(&node), HM_OK);
        assert_int_equal(tc_node_csr(node, "node-1", &csr), HM_OK);
        assert_int_equal(tc_issue_node(a, hm_buf_bytes(&csr), NOW, &chain, &out), HM_OK);
    } else {
        assert_int_equal(tc_server_csr(names, 1, &key, &csr), HM_OK);
        assert_int_equal(tc_issue_server(a, hm_buf_bytes(&csr), NOW, &chain, &out), HM_OK);
    }
    if (der)
        assert_int_equal(tc_pem_to_der(hm_buf_bytes(&chain), der), HM_OK);
    hm_key_free(node);
    hm_buf_free(&key);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    return out;
}

static bool names(const hm_buf *list, const tc_issued *i)
{
    bool yes = false;
    assert_int_equal(
        tc_crl_contains(hm_buf_bytes(list), hm_bytes_of(i->serial.b, TC_SERIAL_BYTES), &yes),
        HM_OK);
    return yes;
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(base_dir) || hm_crypto_init() != HM_OK)
        return -1;
    snprintf(dir, sizeof dir, "%s/authority", base_dir);
    return tc_authority_init(dir, "testmesh", NOW) == HM_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", base_dir);
    return system(command);
}

static void a_delta_has_what_came_after_the_first_list_of_its_day(void **state)
{
    (void)state;
    for (int n = 0; n < 2; n++) {
        const tc_family f = (tc_family)n;
        tc_authority *a = NULL;
        lists first = {0}, l = {0};
        assert_int_equal(tc_authority_open(dir, &a), HM_OK);
        tc_issued old = issue(a, f, NULL), x = issue(a, f, NULL), y = issue(a, f, NULL);
        assert_int_equal(tc_revoke(a, &old.serial, 1, NOW), HM_OK);
        lists_get(a, f, NOW, &first);
        assert_int_equal(first.base, first.info.number);
        assert_int_equal(first.delta_info.count, 0);
        assert_int_equal(first.delta_info.next_update_ms, NOW + 25 * HOUR);

        assert_int_equal(tc_revoke(a, &x.serial, 1, NOW + HOUR), HM_OK);
        lists_get(a, f, NOW + HOUR, &l);
        assert_int_equal(l.info.number, first.info.number + 1);
        assert_int_equal(l.base, first.info.number);
        assert_int_equal(l.info.count, 2);
        assert_int_equal(l.delta_info.count, 1);
        assert_true(names(&l.delta, &x) && !names(&l.delta, &old) && names(&l.full, &old));
        assert_int_equal(tc_revoke(a, &y.serial, 0, NOW + 2 * HOUR), HM_OK);
        lists_get(a, f, NOW + 2 * HOUR, &l);
        assert_int_equal(l.base, first.info.number);
        assert_true(l.delta_info.count == 2 && names(&l.delta, &x) && names(&l.delta, &y));

        // The clock of the revocation does not matter, only what the base has.
        tc_issued z = issue(a, f, NULL);
        assert_int_equal(tc_revoke(a, &z.serial, 0, NOW - HOUR), HM_OK);
        lists_get(a, f, NOW + 3 * HOUR, &l);
        assert_true(l.delta_info.count == 3 && names(&l.delta, &z));

        // The next day begins with a base of its own.
        lists_get(a, f, NOW + 3 * HOUR + DAY, &l);
        assert_int_equal(l.info.number, first.info.number + 4);
        assert_int_equal(l.base, l.info.number);
        assert_true(l.info.count == 4 && l.delta_info.count == 0);
        lists_free(&first);
        lists_free(&l);
        tc_authority_close(a);
    }
}

static void lists_and_their_numbers_outlive_the_process(void **state)
{
    (void)state;
    tc_authority *a = NULL;
    lists before = {0}, after = {0};
    const uint64_t now = NOW + 10 * DAY;
    assert_int_equal(tc_authority_open(dir, &a), HM_OK);
    tc_issued x = issue(a, TC_EDGE, NULL), y = issue(a, TC_EDGE, NULL);
    lists_get(a, TC_EDGE, now, &before);
    assert_int_equal(tc_revoke(a, &x.serial, 0, now), HM_OK);
    lists_get(a, TC_EDGE, now, &before);
    assert_int_equal(before.base, before.info.number - 1);
    tc_authority_close(a);
    assert_int_equal(tc_authority_open(dir, &a), HM_OK);
    lists_get(a, TC_EDGE, now + 1000, &after);
    assert_true(hm_bytes_eq(hm_buf_bytes(&before.full), hm_buf_bytes(&after.full)));
    assert_true(hm_bytes_eq(hm_buf_bytes(&before.delta), hm_buf_bytes(&after.delta)));
    assert_int_equal(tc_revoke(a, &y.serial, 0, now + HOUR), HM_OK);
    lists_get(a, TC_EDGE, now + HOUR, &after);
    assert_int_equal(after.base, before.base);
    assert_int_equal(after.delta_info.count, 2);
    tc_authority_close(a);
    lists_free(&before);
    lists_free(&after);
}

// A crash between two of the files, or an authority made before there were deltas.
static void what_is_missing_is_signed_anew_with_the_next_number(void **state)
{
    (void)state;
    static const char *const lost[] = {"edge-crl-delta.der", "edge-crl-base.der"};
    const uint64_t now = NOW + 20 * DAY;
    char path[128];
    for (size_t i = 0; i < 2; i++) {
        tc_authority *a = NULL;
        lists before = {0}, after = {0};
        assert_int_equal(tc_authority_open(dir, &a), HM_OK);
        lists_get(a, TC_EDGE, now, &before);
        tc_authority_close(a);
        snprintf(path, sizeof path, "%s/%s", dir, lost[i]);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(tc_authority_open(dir, &a), HM_OK);
        lists_get(a, TC_EDGE, now, &after);
        assert_int_equal(after.info.number, before.info.number + 1);
        assert_int_equal(after.base, i == 0 ? before.base : after.info.number);
        // An older delta in the newer one's place.
        tc_authority_close(a);
        snprintf(path, sizeof path, "%s/edge-crl-delta.der", dir);
        assert_int_equal(hm_file_write(path, hm_buf_bytes(&before.delta), 0644), HM_OK);
        assert_int_equal(tc_authority_open(dir, &a), HM_OK);
        lists_get(a, TC_EDGE, now, &after);
        assert_int_equal(after.info.number, before.info.number + 2);
        tc_authority_close(a);
        lists_free(&before);
        lists_free(&after);
    }
}

static void a_delta_is_taken_for_a_list_by_no_verifier(void **state)
{
    (void)state;
    const uint64_t now = NOW;
    char path[128], root[192], node_root[128];
    tc_authority *a = NULL;
    lists l = {0};
    hm_buf leaf = {0}, issuing = {0}, root_der = {0};
    tc_node_cert c;
    SSL_CTX *ctx = NULL;
    snprintf(node_root, sizeof node_root, "%s/again", base_dir);
    assert_int_equal(tc_authority_init(node_root, "testmesh", now), HM_OK);
    assert_int_equal(tc_authority_open(node_root, &a), HM_OK);
    tc_issued x = issue(a, TC_MESH, &leaf);
    assert_int_equal(tc_revoke(a, &x.serial, 1, now), HM_OK);
    lists_get(a, TC_MESH, now, &l); // x is in the base, and so not in the delta
    assert_int_equal(tc_pem_to_der(tc_authority_issuing(a, TC_MESH), &issuing), HM_OK);
    assert_int_equal(tc_pem_to_der(tc_authority_root(a, TC_MESH), &root_der), HM_OK);
    hm_bytes of[3] = {hm_buf_bytes(&leaf), hm_buf_bytes(&issuing), hm_buf_bytes(&root_der)};
    assert_int_equal(tc_node_cert_verify(of[0], of[1], of[2], hm_buf_bytes(&l.full), now, &c),
                     HM_E_CERT_REVOKED);
    assert_int_equal(tc_node_cert_verify(of[0], of[1], of[2], hm_buf_bytes(&l.delta), now, &c),
                     HM_E_PARSE);
    snprintf(path, sizeof path, "%s/list.crl", base_dir);
    snprintf(root, sizeof root, "%s/mesh-root.crt", node_root);
    const tc_tls_config cfg = {.roots_path = root, .crl_path = path, .clock = &hm_clock_system};
    assert_int_equal(hm_file_write(path, hm_buf_bytes(&l.full), 0644), HM_OK);
    assert_int_equal(tc_tls(&cfg, &ctx), HM_OK);
    SSL_CTX_free(ctx);
    assert_int_equal(hm_file_write(path, hm_buf_bytes(&l.delta), 0644), HM_OK);
    assert_int_equal(tc_tls(&cfg, &ctx), HM_E_CONFIG);
    tc_authority_close(a);
    lists_free(&l);
    hm_buf_free(&leaf);
    hm_buf_free(&issuing);
    hm_buf_free(&root_der);
}

// Of the places, certificates and whole lists say where the delta is; a delta does not (5.2.6).
static void pointers_to_the_delta(void **state)
{
    (void)state;
    char url[64];
    const uint64_t now = NOW + 40 * DAY;
    tc_authority *a = NULL;
    lists l = {0};
    hm_buf der = {0};
    assert_int_equal(tc_authority_open(dir, &a), HM_OK);
    (void)issue(a, TC_EDGE, &der);
    lists_get(a, TC_EDGE, now, &l);
    assert_null(memmem(der.ptr, der.len, "-delta.crl", 10));
    assert_null(memmem(l.full.ptr, l.full.len, "-delta.crl", 10));
    snprintf(url, sizeof url, "http://ca.test/crl/edge-%s-delta.crl",
             tc_issuing_id_at(a, TC_EDGE, 0).hex);
    assert_int_equal(tc_authority_public_url(a, "http://ca.test"), HM_OK);
    hm_buf_reset(&der);
    (void)issue(a, TC_EDGE, &der);
    lists_get(a, TC_EDGE, now + DAY, &l);
    assert_non_null(memmem(der.ptr, der.len, url, strlen(url)));
    assert_non_null(memmem(l.full.ptr, l.full.len, url, strlen(url)));
    assert_null(memmem(l.delta.ptr, l.delta.len, url, strlen(url)));
    tc_authority_close(a);
    hm_buf_free(&der);
    lists_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delta_has_what_came_after_the_first_list_of_its_day),
        cmocka_unit_test(lists_and_their_numbers_outlive_the_process),
        cmocka_unit_test(what_is_missing_is_signed_anew_with_the_next_number),
        cmocka_unit_test(a_delta_is_taken_for_a_list_by_no_verifier),
        cmocka_unit_test(pointers_to_the_delta),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
