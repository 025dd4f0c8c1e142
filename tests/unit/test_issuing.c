// New issuing keys of the edge family: who issues, who revokes, what is left, over days.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "trustchain/authority.h"
#include "trustchain/ceremony.h"
#include "trustchain/issuing.h"

#define NOW UINT64_C(1800000000000)
#define DAY UINT64_C(86400000)
#define OK(call) assert_int_equal(call, HM_OK)

static char base[] = "/tmp/hm-issuing-XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(base) && hm_crypto_init() == HM_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[80];
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

static const char *dir_of(const char *name)
{
    static char dir[96];
    snprintf(dir, sizeof dir, "%s/%s", base, name);
    return dir;
}

static bool there(const char *dir, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static tc_issued issue(tc_authority *a, uint64_t now_ms)
{
    static const char *const names[] = {"web.test"};
    hm_buf key = {0}, csr = {0}, chain = {0};
    tc_issued out;
    OK(tc_server_csr(names, 1, &key, &csr));
    OK(tc_issue_server(a, hm_buf_bytes(&csr), now_ms, &chain, &out));
    hm_buf_free(&key);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    return out;
}

static X509 *issuer_of(const tc_authority *a, const tc_issued *i)
{
    hm_buf der = {0};
    X509 *x = NULL;
    OK(tc_issued_issuing(a, i, &der));
    OK(x509_cert_parse(hm_buf_bytes(&der), &x));
    hm_buf_free(&der);
    return x;
}

static bool signed_by(const tc_authority *a, const tc_issued *i, X509 *issuing)
{
    hm_bytes der;
    X509 *x = NULL;
    OK(tc_issued_der(a, &i->serial, &der));
    OK(x509_cert_parse(der, &x));
    bool yes = X509_verify(x, X509_get0_pubkey(issuing)) == 1 &&
               X509_NAME_cmp(X509_get_issuer_name(x), X509_get_subject_name(issuing)) == 0;
    X509_free(x);
    return yes;
}

// The list (or delta) of one CA, its signature checked.
static tc_crl_info list(tc_authority *a, const char *id, bool delta, uint64_t now_ms, hm_buf *out)
{
    hm_buf issuing = {0};
    hm_bytes pem;
    tc_crl_info info, said;
    uint64_t number;
    hm_buf_reset(out);
    OK(tc_issuing_crl(a, TC_EDGE, id, delta, now_ms, &info, out));
    OK(tc_issuing_pem(a, TC_EDGE, id, &pem));
    OK(tc_pem_to_der(pem, &issuing));
    if (delta)
        OK(x509_delta_verify(hm_buf_bytes(out), hm_buf_bytes(&issuing), &said, &number));
    else
        OK(tc_crl_verify(hm_buf_bytes(out), hm_buf_bytes(&issuing), &said));
    assert_int_equal(info.number, said.number);
    hm_buf_free(&issuing);
    return said;
}

static bool names(const hm_buf *l, const tc_issued *i)
{
    bool yes = false;
    OK(tc_crl_contains(hm_buf_bytes(l), hm_bytes_of(i->serial.b, TC_SERIAL_BYTES), &yes));
    return yes;
}

static void the_new_key_issues_and_the_old_one_revokes(void **state)
{
    (void)state;
    const char *dir = dir_of("one");
    tc_authority *a = NULL;
    tc_rotation r;
    hm_buf l = {0};
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_authority_open(dir, &a));
    const tc_issuing_id first = tc_issuing_id_at(a, TC_EDGE, 0);
    tc_issued old = issue(a, NOW), gone = issue(a, NOW);
    OK(tc_revoke(a, &gone.serial, 1, NOW));
    const tc_crl_info before = list(a, NULL, false, NOW, &l);

    // Beside the open authority, which goes on as it was until it is told.
    OK(tc_rotate(dir, NULL, NOW, &r));
    assert_true(r.active && strcmp(r.id.hex, first.hex) != 0);
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 1);
    assert_int_equal(issue(a, NOW).issuing, old.issuing);
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 2);
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 0).hex, r.id.hex);
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 1).hex, first.hex);
    tc_issued fresh = issue(a, NOW);
    X509 *ca[2] = {issuer_of(a, &old), issuer_of(a, &fresh)};
    assert_true(signed_by(a, &old, ca[0]) && signed_by(a, &fresh, ca[1]));
    assert_true(X509_NAME_cmp(X509_get_subject_name(ca[0]), X509_get_subject_name(ca[1])) != 0);

    // Two lists, each with its own; the number of what everybody asks for has grown.
    assert_true(list(a, NULL, false, NOW, &l).number > before.number);
    assert_true(!names(&l, &gone));
    OK(tc_revoke(a, &old.serial, 1, NOW));
    OK(tc_revoke(a, &fresh.serial, 1, NOW));
    assert_int_equal(list(a, r.id.hex, false, NOW, &l).count, 1);
    assert_true(names(&l, &fresh) && !names(&l, &old));
    assert_int_equal(list(a, r.id.hex, true, NOW, &l).count, 1);
    const tc_crl_info olds = list(a, first.hex, false, NOW, &l);
    assert_true(olds.number == before.number + 1 && olds.count == 2);
    assert_true(names(&l, &old) && names(&l, &gone) && !names(&l, &fresh));
    assert_int_equal(list(a, first.hex, true, NOW, &l).count, 1);
    assert_true(names(&l, &old) && !names(&l, &gone));
    const uint64_t number = list(a, NULL, false, NOW, &l).number;

    // It is all so after a start, and nothing is signed without a reason.
    tc_authority_close(a);
    OK(tc_authority_open(dir, &a));
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 0).hex, r.id.hex);
    assert_int_equal(list(a, NULL, false, NOW, &l).number, number);
    assert_int_equal(list(a, first.hex, false, NOW, &l).number, olds.number);
    tc_issued one = *tc_issued_find(a, &gone.serial);
    assert_true(one.revoked && one.issuing == old.issuing);
    hm_bytes pem;
    assert_int_equal(tc_issuing_pem(a, TC_EDGE, "0000000000000000", &pem), HM_E_NOTFOUND);
    assert_int_equal(tc_issuing_pem(a, TC_MESH, first.hex, &pem), HM_E_NOTFOUND);
    tc_authority_close(a);
    X509_free(ca[0]);
    X509_free(ca[1]);
    hm_buf_free(&l);
}

static void a_verifier_takes_the_lists_of_both_in_one_file(void **state)
{
    (void)state;
    const char *dir = dir_of("lists");
    char path[128], root[192];
    tc_authority *a = NULL;
    tc_rotation r;
    hm_buf all = {0}, one = {0};
    SSL_CTX *ctx = NULL;
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_rotate(dir, NULL, NOW, &r));
    OK(tc_authority_open(dir, &a));
    snprintf(root, sizeof root, "%s/edge-root.crt", dir);
    snprintf(path, sizeof path, "%s/lists.crl", base);
    for (size_t i = 0; i < 2; i++) {
        (void)list(a, tc_issuing_id_at(a, TC_EDGE, i).hex, false, NOW, &one);
        hm_buf_put(&all, hm_buf_bytes(&one));
    }
    const tc_tls_config cfg = {.roots_path = root, .crl_path = path, .clock = &hm_clock_system};
    OK(hm_file_write(path, hm_buf_bytes(&all), 0644));
    OK(tc_tls(&cfg, &ctx));
    STACK_OF(X509_OBJECT) *known = X509_STORE_get1_objects(SSL_CTX_get_cert_store(ctx));
    unsigned lists = 0;
    for (int i = 0; i < sk_X509_OBJECT_num(known); i++)
        lists += X509_OBJECT_get_type(sk_X509_OBJECT_value(known, i)) == X509_LU_CRL;
    assert_int_equal(lists, 2);
    sk_X509_OBJECT_pop_free(known, X509_OBJECT_free);
    SSL_CTX_free(ctx);
    hm_buf_append(&all, "x", 1);
    OK(hm_file_write(path, hm_buf_bytes(&all), 0644));
    assert_int_equal(tc_tls(&cfg, &ctx), HM_E_CONFIG);
    tc_authority_close(a);
    hm_buf_free(&all);
    hm_buf_free(&one);
}

// What the command beside a server does, in a process of its own: LMDB asks for that.
typedef struct beside {
    hm_err err;
    bool later;
    uint64_t live;
    char detail[300];
} beside;

static uint64_t live_of(const char *dir, const char *id, uint64_t now_ms)
{
    tc_issuing_info all[TC_ISSUING_LIST_MAX];
    size_t n;
    if (tc_issuing_list(dir, now_ms, all, &n) == HM_OK)
        for (size_t i = 0; i < n; i++)
            if (strcmp(all[i].id.hex, id) == 0 && all[0].family == TC_MESH && all[1].present)
                return all[i].live;
    return UINT64_MAX;
}

static beside look(const char *dir, const char *id, uint64_t now_ms, bool removes)
{
    beside b = {0};
    int way[2];
    assert_int_equal(pipe(way), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (removes)
            b.err = tc_issuing_remove(dir, id, now_ms, &b.later);
        else
            b.live = live_of(dir, id, now_ms);
        snprintf(b.detail, sizeof b.detail, "%s", b.err == HM_OK ? "" : hm_err_detail());
        _exit(write(way[1], &b, sizeof b) == sizeof b ? 0 : 1);
    }
    assert_int_equal(read(way[0], &b, sizeof b), sizeof b);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(way[0]);
    close(way[1]);
    return b;
}

static void refused(const char *dir, const char *id, uint64_t now_ms, hm_err err, const char *word)
{
    beside b = look(dir, id, now_ms, true);
    assert_int_equal(b.err, err);
    assert_non_null(strstr(b.detail, word));
}

static void one_that_is_needed_is_not_removed(void **state)
{
    (void)state;
    const char *dir = dir_of("two");
    tc_authority *a = NULL;
    tc_rotation r;
    bool later;
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_authority_open(dir, &a));
    const tc_issuing_id first = tc_issuing_id_at(a, TC_EDGE, 0);
    tc_issued old = issue(a, NOW);
    refused(dir, first.hex, NOW, HM_E_BUSY, "rotate first");
    OK(tc_rotate(dir, NULL, NOW, &r));
    // Whoever has it open may still issue with the old one.
    refused(dir, first.hex, NOW + 365 * DAY, HM_E_BUSY, "SIGHUP");
    OK(tc_authority_reload(a));
    OK(tc_revoke(a, &old.serial, 1, NOW)); // that is what the list is for
    assert_int_equal(look(dir, first.hex, NOW, false).live, 1);
    refused(dir, first.hex, NOW + 29 * DAY, HM_E_BUSY, "not over: 1");
    refused(dir, "0000000000000000", NOW, HM_E_NOTFOUND, "no issuing CA");
    assert_int_equal(look(dir, first.hex, NOW + 31 * DAY, false).live, 0);
    beside b = look(dir, first.hex, NOW + 31 * DAY, true);
    assert_true(b.err == HM_OK && b.later);
    assert_true(there(dir, "edge-ca.key")); // who has it open may use it
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 2);
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 1);
    static const char *const files[] = {"edge-ca.key",  "edge-ca.csr",       "edge-ca.crt",
                                        "edge-crl.der", "edge-crl-base.der", "edge-crl-delta.der"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_false(there(dir, files[i]));
    // The record stays, and who signed it.
    X509 *ca = issuer_of(a, &old);
    assert_true(tc_issued_find(a, &old.serial)->revoked && signed_by(a, &old, ca));
    X509_free(ca);
    assert_int_equal(issue(a, NOW + 31 * DAY).issuing, 2);
    tc_authority_close(a);

    // With nobody there it is done at once.
    OK(tc_rotate(dir, NULL, NOW + 31 * DAY, &r));
    OK(tc_authority_open(dir, &a));
    const tc_issuing_id second = tc_issuing_id_at(a, TC_EDGE, 1);
    tc_authority_close(a);
    OK(tc_issuing_remove(dir, second.hex, NOW + 62 * DAY, &later));
    assert_false(later || there(dir, "edge-ca-2.key") || there(dir, "edge-ca-2.crt"));
    assert_true(there(dir, "edge-ca-3.key"));
}

static void there_are_eight_at_most(void **state)
{
    (void)state;
    const char *dir = dir_of("many");
    tc_authority *a = NULL;
    tc_rotation r;
    OK(tc_authority_init(dir, "testmesh", NOW));
    for (unsigned i = 1; i < TC_ISSUING_MAX; i++)
        OK(tc_rotate(dir, NULL, NOW, &r));
    assert_int_equal(tc_rotate(dir, NULL, NOW, &r), HM_E_LIMIT);
    assert_non_null(strstr(hm_err_detail(), "remove one"));
    OK(tc_authority_open(dir, &a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), TC_ISSUING_MAX);
    assert_int_equal(issue(a, NOW).issuing, TC_ISSUING_MAX);
    tc_authority_close(a);
}

static void names_that_bind_one_bind_the_next(void **state)
{
    (void)state;
    const char *dir = dir_of("tied");
    tc_authority *a = NULL;
    tc_rotation r;
    OK(tc_authority_init_with(dir, "testmesh", "web.test", NULL, NOW));
    OK(tc_rotate(dir, NULL, NOW, &r));
    OK(tc_authority_open(dir, &a));
    const issuing_ca *const *ca = (const issuing_ca *const *)a->family[TC_EDGE].issuing;
    for (unsigned i = 0; i < 2; i++)
        assert_true(X509_get_ext_by_NID(ca[i]->cert, NID_name_constraints, -1) >= 0);
    (void)issue(a, NOW);
    OK(tc_rotate(dir, "other.test", NOW, &r));
    OK(tc_authority_reload(a));
    static const char *const host[] = {"web.test"};
    hm_buf key = {0}, csr = {0}, chain = {0};
    OK(tc_server_csr(host, 1, &key, &csr));
    assert_int_equal(tc_issue_server(a, hm_buf_bytes(&csr), NOW, &chain, NULL), HM_E_DENIED);
    assert_int_equal(tc_rotate(dir, ".bad", NOW, &r), HM_E_CONFIG);
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 3);
    tc_authority_close(a);
    hm_buf_free(&key);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
}

static void sign_and_install(const char *dir, const char *offline, const char *family,
                             const char *request, hm_err want)
{
    char key[160];
    hm_buf csr = {0}, chain = {0};
    snprintf(key, sizeof key, "%s/%s-root.key", offline, family);
    OK(hm_file_read(request, TC_CSR_MAX, &csr));
    OK(tc_root_sign(key, "correct horse battery", hm_buf_bytes(&csr), 900, NULL, NOW, &chain));
    assert_int_equal(tc_authority_install(dir, hm_buf_bytes(&chain), NOW), want);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
}

static void a_root_elsewhere_signs_the_request(void **state)
{
    (void)state;
    char dir[96], offline[96], stranger[96], request[160];
    tc_authority *a = NULL;
    tc_rotation r, again;
    snprintf(dir, sizeof dir, "%s", dir_of("alone"));
    snprintf(offline, sizeof offline, "%s", dir_of("offline"));
    snprintf(stranger, sizeof stranger, "%s", dir_of("stranger"));
    for (int f = 0; f < 2; f++) {
        OK(tc_root_create((tc_family)f, "test", offline, "correct horse battery", NOW));
        OK(tc_root_create((tc_family)f, "test", stranger, "correct horse battery", NOW));
    }
    OK(tc_authority_init_issuing(dir, "test", NULL, NOW));
    assert_int_equal(tc_rotate(dir, NULL, NOW, &r), HM_E_NOTFOUND);
    for (int f = 0; f < 2; f++) {
        snprintf(request, sizeof request, "%s/%s-ca.csr", dir, tc_family_names[f]);
        sign_and_install(dir, offline, tc_family_names[f], request, HM_OK);
    }
    assert_int_equal(tc_rotate(dir, "web.test", NOW, &r), HM_E_USAGE);
    OK(tc_rotate(dir, NULL, NOW, &r));
    assert_false(r.active);
    OK(tc_authority_open(dir, &a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 1); // until it is signed
    OK(tc_rotate(dir, NULL, NOW, &again));             // the same one
    assert_string_equal(r.id.hex, again.id.hex);
    assert_string_equal(r.request, again.request);
    sign_and_install(dir, stranger, "edge", r.request, HM_E_EXISTS);
    sign_and_install(dir, offline, "edge", r.request, HM_OK);
    sign_and_install(dir, offline, "edge", r.request, HM_E_EXISTS); // it ends no later
    OK(tc_authority_reload(a));
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 0).hex, r.id.hex);
    assert_int_equal(issue(a, NOW).issuing, 2);
    OK(tc_rotate(dir, NULL, NOW, &again));
    assert_string_not_equal(r.id.hex, again.id.hex);
    tc_authority_close(a);
}

static void a_damaged_index_is_told(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "next 3\n",    "next 2\n2\n",    "next 3\n2\n2\n",
                                      "2\n1\n", "next 3\n0\n", "next 3\n2\nx\n", "next 257\n1\n"};
    const char *dir = dir_of("index");
    char path[160];
    tc_authority *a = NULL;
    OK(tc_authority_init(dir, "testmesh", NOW));
    snprintf(path, sizeof path, "%s/edge-issuing", dir);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        OK(hm_file_write(path, hm_bytes_str(bad[i]), 0644));
        assert_int_equal(tc_authority_open(dir, &a), HM_E_CORRUPT);
    }
    OK(hm_file_write(path, hm_bytes_str("next 3\n2\n1\n"), 0644)); // number 2 is not there
    assert_int_equal(tc_authority_open(dir, &a), HM_E_NOTFOUND);
    OK(hm_file_write(path, hm_bytes_str("next 3\n1\n"), 0644));
    OK(tc_authority_open(dir, &a));
    // What cannot be taken changes nothing.
    OK(hm_file_write(path, hm_bytes_str("next 3\n2\n1\n"), 0644));
    assert_int_equal(tc_authority_reload(a), HM_E_NOTFOUND);
    assert_int_equal(issue(a, NOW).issuing, 1);
    tc_authority_close(a);
}

static void killed_at_any_instant_it_is_the_old_or_the_new(void **state)
{
    (void)state;
    const char *dir = dir_of("killed");
    tc_authority *a = NULL;
    unsigned count = 1;
    OK(tc_authority_init(dir, "testmesh", NOW));
    for (unsigned i = 0; i < 40 && count < TC_ISSUING_MAX; i++) {
        tc_rotation r;
        int ready[2];
        char byte;
        assert_int_equal(pipe(ready), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)!write(ready[1], "x", 1);
            (void)!tc_rotate(dir, NULL, NOW, &r);
            _exit(0);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        usleep(i * 250);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(ready[0]);
        close(ready[1]);
        OK(tc_authority_open(dir, &a));
        size_t now = tc_issuing_count(a, TC_EDGE);
        assert_true(now == count || now == count + 1);
        count = (unsigned)now;
        assert_int_equal(issue(a, NOW).issuing, count);
        tc_authority_close(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_new_key_issues_and_the_old_one_revokes),
        cmocka_unit_test(a_verifier_takes_the_lists_of_both_in_one_file),
        cmocka_unit_test(one_that_is_needed_is_not_removed),
        cmocka_unit_test(there_are_eight_at_most),
        cmocka_unit_test(names_that_bind_one_bind_the_next),
        cmocka_unit_test(a_root_elsewhere_signs_the_request),
        cmocka_unit_test(a_damaged_index_is_told),
        cmocka_unit_test(killed_at_any_instant_it_is_the_old_or_the_new),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
