// Renewal: the next certificate for who has the key of the one before, and for nobody else.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "trustchain/renew.h"

#define NOW UINT64_C(1800000000000)
#define LIFE_S 60u
#define HALF (NOW + LIFE_S * 500u) // of the first certificate

static char base[] = "/tmp/hm-renew-XXXXXX";
static char dir[64], own[64];
static tc_authority *a;
static hm_buf csr[2];
static const char *const stems[2] = {"node", "edge"};

#define OK(x) assert_int_equal(x, HM_OK)

static void path_of(tc_family f, const char *end, char out[128])
{
    snprintf(out, 128, "%s/%s.%s", own, stems[f], end);
}

static int setup(void **state)
{
    static const char *const hosts[] = {"localhost", "::1"};
    char path[128];
    (void)state;
    if (!mkdtemp(base) || hm_crypto_init() != HM_OK)
        return -1;
    snprintf(dir, sizeof dir, "%s/authority", base);
    snprintf(own, sizeof own, "%s/own", base);
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_authority_open(dir, &a));
    OK(tc_dir_make(own, "one", hosts, 2, NULL));
    for (int f = 0; f < 2; f++) {
        path_of((tc_family)f, "csr", path);
        OK(hm_file_read(path, TC_CSR_MAX, &csr[f]));
    }
    return 0;
}

static int teardown(void **state)
{
    char command[80];
    (void)state;
    tc_authority_close(a);
    hm_buf_free(&csr[0]);
    hm_buf_free(&csr[1]);
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

static void issue(tc_family f, bool renewable, tc_issued *out)
{
    const tc_terms terms = {.life_s = LIFE_S, .renewable = renewable};
    hm_buf chain = {0};
    OK(tc_issue(a, f == TC_MESH ? TC_NODE : TC_SERVER, hm_buf_bytes(&csr[f]), &terms, NOW, &chain,
                out));
    assert_int_equal(out->not_after_ms, NOW + LIFE_S * 1000);
    hm_buf_free(&chain);
}

// Asks with the key of family `signer` and what else is given.
static hm_err ask_with(tc_family signer, const tc_serial *serial, hm_bytes csr_pem, uint64_t at_ms,
                       uint64_t now_ms, hm_buf *chain, tc_issued *out)
{
    char key[128];
    hm_buf sig = {0};
    tc_renewal r = {.serial = *serial, .time_ms = at_ms, .csr_pem = csr_pem};
    path_of(signer, "key", key);
    OK(tc_renewal_sign(key, &r, &sig));
    assert_true(sig.len <= TC_RENEW_SIGNATURE_MAX);
    r.signature = hm_buf_bytes(&sig);
    hm_err err = tc_renew(a, &r, now_ms, chain, out);
    hm_buf_free(&sig);
    return err;
}

static hm_err ask(tc_family f, const tc_issued *old, uint64_t now_ms, tc_issued *out)
{
    hm_buf chain = {0};
    hm_err err = ask_with(f, &old->serial, hm_buf_bytes(&csr[f]), now_ms, now_ms, &chain, out);
    assert_int_equal(chain.len > 0, err == HM_OK);
    hm_buf_free(&chain);
    return err;
}

static void its_key_is_enough(void **state)
{
    (void)state;
    for (int f = 0; f < 2; f++) {
        tc_issued old, next;
        uint64_t now = NOW;
        issue((tc_family)f, true, &old);
        for (int i = 0; i < 3; i++) { // a renewed one can be renewed, and lives as long
            now += LIFE_S * 500;
            OK(ask((tc_family)f, &old, now, &next));
            assert_string_equal(next.subject, old.subject);
            assert_int_equal(next.family, f);
            assert_int_equal(next.not_after_ms, now + LIFE_S * 1000);
            assert_memory_not_equal(next.serial.b, old.serial.b, TC_SERIAL_BYTES);
            old = next;
        }
    }
}

static void what_comes_is_kept_in_the_directory(void **state)
{
    (void)state;
    tc_issued old[2], next;
    hm_buf chain[2] = {{0}}, there = {0};
    char path[128];
    for (int f = 0; f < 2; f++) {
        issue((tc_family)f, true, &old[f]);
        OK(ask_with((tc_family)f, &old[f].serial, hm_buf_bytes(&csr[f]), HALF, HALF, &chain[f],
                    &next));
    }
    OK(tc_dir_install(own, hm_buf_bytes(&chain[0]), hm_buf_bytes(&chain[1]),
                      tc_authority_root(a, TC_MESH), tc_authority_root(a, TC_EDGE), HALF));
    for (int f = 0; f < 2; f++) {
        // The other family's is refused, and the file stays.
        assert_int_not_equal(tc_dir_renewed(own, (tc_family)f, hm_buf_bytes(&chain[!f]), HALF),
                             HM_OK);
        OK(tc_dir_renewed(own, (tc_family)f, hm_buf_bytes(&chain[f]), HALF));
        path_of((tc_family)f, "crt", path);
        hm_buf_reset(&there);
        OK(hm_file_read(path, 1 << 20, &there));
        assert_true(hm_bytes_eq(hm_buf_bytes(&there), hm_buf_bytes(&chain[f])));
    }
    // One that is over is none to keep.
    assert_int_equal(
        tc_dir_renewed(own, TC_MESH, hm_buf_bytes(&chain[0]), HALF + 2 * LIFE_S * 1000),
        HM_E_CERT_EXPIRED);
    hm_buf_free(&chain[0]);
    hm_buf_free(&chain[1]);
    hm_buf_free(&there);
}

static void another_key_is_refused(void **state)
{
    (void)state;
    tc_issued old, next;
    hm_buf chain = {0};
    tc_renewal r = {.csr_pem = hm_buf_bytes(&csr[TC_MESH]), .time_ms = HALF};
    issue(TC_MESH, true, &old);
    assert_int_equal(ask_with(TC_EDGE, &old.serial, r.csr_pem, HALF, HALF, &chain, &next),
                     HM_E_DENIED);
    r.serial = old.serial;
    assert_int_equal(tc_renew(a, &r, HALF, &chain, &next), HM_E_DENIED); // none at all
    uint8_t junk[TC_RENEW_SIGNATURE_MAX];
    memset(junk, 7, sizeof junk);
    r.signature = hm_bytes_of(junk, sizeof junk);
    assert_int_equal(tc_renew(a, &r, HALF, &chain, &next), HM_E_DENIED);
    // A signature is for one serial, one time and one request.
    char key[128];
    hm_buf sig = {0};
    path_of(TC_MESH, "key", key);
    OK(tc_renewal_sign(key, &r, &sig));
    r.signature = hm_buf_bytes(&sig);
    r.time_ms++;
    assert_int_equal(tc_renew(a, &r, HALF, &chain, &next), HM_E_DENIED);
    r.time_ms--;
    r.csr_pem.len--;
    assert_int_equal(tc_renew(a, &r, HALF, &chain, &next), HM_E_DENIED);
    assert_int_equal(chain.len, 0);
    hm_buf_free(&sig);
}

static void who_may_not_is_told_why(void **state)
{
    (void)state;
    tc_issued old, next;
    tc_serial nobody = {{0x40}};
    hm_buf chain = {0};
    for (int f = 0; f < 2; f++) {
        hm_bytes request = hm_buf_bytes(&csr[f]);
        assert_int_equal(ask_with((tc_family)f, &nobody, request, HALF, HALF, &chain, &next),
                         HM_E_NOTFOUND);
        // ACME's and the authority's own are not for this: their names are proved each time.
        issue((tc_family)f, false, &old);
        assert_int_equal(ask((tc_family)f, &old, HALF, &next), HM_E_DENIED);
        issue((tc_family)f, true, &old);
        assert_int_equal(ask((tc_family)f, &old, NOW + LIFE_S * 1000 / 3 - 1, &next), HM_E_EXISTS);
        assert_int_equal(ask((tc_family)f, &old, NOW + LIFE_S * 1000 + 1, &next),
                         HM_E_CERT_EXPIRED);
        // The clocks.
        assert_int_equal(ask_with((tc_family)f, &old.serial, request, HALF + TC_RENEW_CLOCKS_MS + 1,
                                  HALF, &chain, &next),
                         HM_E_INVALID);
        assert_int_equal(ask_with((tc_family)f, &old.serial, request, HALF - TC_RENEW_CLOCKS_MS - 1,
                                  HALF, &chain, &next),
                         HM_E_INVALID);
        OK(tc_revoke(a, &old.serial, 1, HALF));
        assert_int_equal(ask((tc_family)f, &old, HALF, &next), HM_E_CERT_REVOKED);
    }
    assert_int_equal(chain.len, 0);
}

static void a_request_is_answered_once_and_eight_at_most(void **state)
{
    (void)state;
    tc_issued old, next;
    issue(TC_EDGE, true, &old);
    for (uint64_t i = 0; i < TC_RENEWALS_MAX; i++) {
        OK(ask(TC_EDGE, &old, HALF + i, &next));
        assert_int_equal(ask(TC_EDGE, &old, HALF + i, &next), HM_E_EXISTS);
    }
    assert_int_equal(ask(TC_EDGE, &old, HALF + 100, &next), HM_E_EXISTS);
    // That is remembered.
    tc_authority_close(a);
    OK(tc_authority_open(dir, &a));
    assert_int_equal(ask(TC_EDGE, &old, HALF + 101, &next), HM_E_EXISTS);
}

static void names_and_a_nodes_key_stay(void **state)
{
    (void)state;
    static const char *const other[] = {"other.test"}, *const same[] = {"localhost", "::1"};
    tc_issued old, next;
    hm_key *stranger = NULL;
    hm_buf key = {0}, request = {0}, chain = {0};
    char path[128];
    hm_key *mine = NULL;
    issue(TC_MESH, true, &old);
    OK(hm_key_generate(&stranger));
    OK(tc_node_csr(stranger, "one", &request));
    assert_int_equal(
        ask_with(TC_MESH, &old.serial, hm_buf_bytes(&request), HALF, HALF, &chain, &next),
        HM_E_CSR);
    path_of(TC_MESH, "key", path);
    OK(hm_key_load(path, &mine));
    hm_buf_reset(&request);
    OK(tc_node_csr(mine, "two", &request));
    assert_int_equal(
        ask_with(TC_MESH, &old.serial, hm_buf_bytes(&request), HALF, HALF, &chain, &next),
        HM_E_CSR);
    issue(TC_EDGE, true, &old);
    hm_buf_reset(&request);
    OK(tc_server_csr(other, 1, &key, &request));
    assert_int_equal(
        ask_with(TC_EDGE, &old.serial, hm_buf_bytes(&request), HALF, HALF, &chain, &next),
        HM_E_CSR);
    assert_int_equal(chain.len, 0);
    // A server's fresh key is welcome: the old one says so.
    hm_buf_reset(&request);
    hm_buf_reset(&key);
    OK(tc_server_csr(same, 2, &key, &request));
    OK(ask_with(TC_EDGE, &old.serial, hm_buf_bytes(&request), HALF, HALF, &chain, &next));
    hm_key_free(stranger);
    hm_key_free(mine);
    hm_buf_free_secret(&key);
    hm_buf_free(&request);
    hm_buf_free(&chain);
}

static void a_life_has_its_limits(void **state)
{
    (void)state;
    tc_issued i;
    hm_buf chain = {0};
    tc_terms terms = {.life_s = TC_NODE_DAYS * 86400 + 1};
    assert_int_equal(tc_issue(a, TC_SERVER, hm_buf_bytes(&csr[1]), &terms, NOW, &chain, &i),
                     HM_E_CSR);
    assert_int_equal(chain.len, 0);
    terms.life_s--;
    OK(tc_issue(a, TC_SERVER, hm_buf_bytes(&csr[1]), &terms, NOW, &chain, &i));
    assert_int_equal(i.not_after_ms, NOW + TC_NODE_DAYS * UINT64_C(86400000));
    hm_buf_free(&chain);
    // Its holder begins when the authority lets it, and before the last third.
    for (uint64_t r = 0; r < 1000; r++) {
        uint64_t due = tc_renewal_due_ms(i.not_before_ms, i.not_after_ms, r * UINT64_C(7919999));
        uint64_t left = i.not_after_ms - due, life = tc_life_ms(i.not_before_ms, i.not_after_ms);
        assert_true(left <= life / 2 && left + 1 >= life / 3);
    }
    assert_int_equal(tc_life_ms(i.not_before_ms, i.not_after_ms),
                     TC_NODE_DAYS * UINT64_C(86400000));
    assert_int_equal(tc_life_ms(5, 5), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_key_is_enough),
        cmocka_unit_test(what_comes_is_kept_in_the_directory),
        cmocka_unit_test(another_key_is_refused),
        cmocka_unit_test(who_may_not_is_told_why),
        cmocka_unit_test(a_request_is_answered_once_and_eight_at_most),
        cmocka_unit_test(names_and_a_nodes_key_stay),
        cmocka_unit_test(a_life_has_its_limits),
    };
    return cmocka_run_group_tests_name("renew", tests, setup, teardown);
}
