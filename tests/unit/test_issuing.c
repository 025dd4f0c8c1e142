// New issuing keys: who issues, who revokes, what is left, over days.
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
static hm_key *node_key;

static int setup(void **state)
{
    (void)state;
    return mkdtemp(base) && hm_crypto_init() == HM_OK && hm_key_generate(&node_key) == HM_OK ? 0
                                                                                             : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[80];
    hm_key_free(node_key);
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

static tc_issued issue(tc_authority *a, tc_family f, uint64_t now_ms)
{
    static const char *const names[] = {"web.test"};
    hm_buf key = {0}, csr = {0}, chain = {0};
    tc_issued out;
    if (f == TC_MESH) {
        OK(tc_node_csr(node_key, "node", &csr));
        OK(tc_issue_node(a, hm_buf_bytes(&csr), now_ms, &chain, &out));
    } else {
        OK(tc_server_csr(names, 1, &key, &csr));
        OK(tc_issue_server(a, hm_buf_bytes(&csr), now_ms, &chain, &out));
    }
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
static tc_crl_info list(tc_authority *a, tc_family f, const char *id, bool delta, uint64_t now_ms,
                        hm_buf *out)
{
    hm_buf issuing = {0};
    hm_bytes pem;
    tc_crl_info info, said;
    uint64_t number;
    hm_buf_reset(out);
    OK(tc_issuing_crl(a, f, id, delta, now_ms, &info, out));
    OK(tc_issuing_pem(a, f, id, &pem));
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
    tc_issued old = issue(a, TC_EDGE, NOW), gone = issue(a, TC_EDGE, NOW);
    OK(tc_revoke(a, &gone.serial, 1, NOW));
    const tc_crl_info before = list(a, TC_EDGE, NULL, false, NOW, &l);

    // Beside the open authority, which goes on as it was until it is told.
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &r));
    assert_true(r.certified && strcmp(r.id.hex, first.hex) != 0);
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 1);
    assert_int_equal(issue(a, TC_EDGE, NOW).issuing, old.issuing);
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 2);
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 0).hex, r.id.hex);
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 1).hex, first.hex);
    tc_issued fresh = issue(a, TC_EDGE, NOW);
    X509 *ca[2] = {issuer_of(a, &old), issuer_of(a, &fresh)};
    assert_true(signed_by(a, &old, ca[0]) && signed_by(a, &fresh, ca[1]));
    assert_true(X509_NAME_cmp(X509_get_subject_name(ca[0]), X509_get_subject_name(ca[1])) != 0);

    // Two lists, each with its own; the number of what everybody asks for has grown.
    assert_true(list(a, TC_EDGE, NULL, false, NOW, &l).number > before.number);
    assert_true(!names(&l, &gone));
    OK(tc_revoke(a, &old.serial, 1, NOW));
    OK(tc_revoke(a, &fresh.serial, 1, NOW));
    assert_int_equal(list(a, TC_EDGE, r.id.hex, false, NOW, &l).count, 1);
    assert_true(names(&l, &fresh) && !names(&l, &old));
    assert_int_equal(list(a, TC_EDGE, r.id.hex, true, NOW, &l).count, 1);
    const tc_crl_info olds = list(a, TC_EDGE, first.hex, false, NOW, &l);
    assert_true(olds.number == before.number + 1 && olds.count == 2);
    assert_true(names(&l, &old) && names(&l, &gone) && !names(&l, &fresh));
    assert_int_equal(list(a, TC_EDGE, first.hex, true, NOW, &l).count, 1);
    assert_true(names(&l, &old) && !names(&l, &gone));
    const uint64_t number = list(a, TC_EDGE, NULL, false, NOW, &l).number;

    // It is all so after a start, and nothing is signed without a reason.
    tc_authority_close(a);
    OK(tc_authority_open(dir, &a));
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 0).hex, r.id.hex);
    assert_int_equal(list(a, TC_EDGE, NULL, false, NOW, &l).number, number);
    assert_int_equal(list(a, TC_EDGE, first.hex, false, NOW, &l).number, olds.number);
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
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &r));
    OK(tc_authority_open(dir, &a));
    snprintf(root, sizeof root, "%s/edge-root.crt", dir);
    snprintf(path, sizeof path, "%s/lists.crl", base);
    for (size_t i = 0; i < 2; i++) {
        (void)list(a, TC_EDGE, tc_issuing_id_at(a, TC_EDGE, i).hex, false, NOW, &one);
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
            if (strcmp(all[i].id.hex, id) == 0 && all[0].family == TC_MESH &&
                all[0].state == TC_ISSUING_PRESENT)
                return all[i].live;
    return UINT64_MAX;
}

static beside look(const char *dir, tc_family f, const char *id, uint64_t now_ms, bool removes)
{
    beside b = {0};
    int way[2];
    assert_int_equal(pipe(way), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (removes)
            b.err = tc_issuing_remove(dir, f, id, now_ms, &b.later);
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

static void refused(const char *dir, tc_family f, const char *id, uint64_t now_ms, hm_err err,
                    const char *word)
{
    beside b = look(dir, f, id, now_ms, true);
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
    tc_issued old = issue(a, TC_EDGE, NOW);
    refused(dir, TC_EDGE, first.hex, NOW, HM_E_BUSY, "rotate first");
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &r));
    // Whoever has it open may still issue with the old one.
    refused(dir, TC_EDGE, first.hex, NOW + 365 * DAY, HM_E_BUSY, "SIGHUP");
    OK(tc_authority_reload(a));
    OK(tc_revoke(a, &old.serial, 1, NOW)); // that is what the list is for
    assert_int_equal(look(dir, TC_EDGE, first.hex, NOW, false).live, 1);
    refused(dir, TC_EDGE, first.hex, NOW + 29 * DAY, HM_E_BUSY, "not over: 1");
    refused(dir, TC_EDGE, "0000000000000000", NOW, HM_E_NOTFOUND, "no issuing CA");
    assert_int_equal(look(dir, TC_EDGE, first.hex, NOW + 31 * DAY, false).live, 0);
    beside b = look(dir, TC_EDGE, first.hex, NOW + 31 * DAY, true);
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
    assert_int_equal(issue(a, TC_EDGE, NOW + 31 * DAY).issuing, 2);
    tc_authority_close(a);

    // With nobody there it is done at once.
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW + 31 * DAY, &r));
    OK(tc_authority_open(dir, &a));
    const tc_issuing_id second = tc_issuing_id_at(a, TC_EDGE, 1);
    tc_authority_close(a);
    OK(tc_issuing_remove(dir, TC_EDGE, second.hex, NOW + 62 * DAY, &later));
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
        OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &r));
    assert_int_equal(tc_rotate(dir, TC_EDGE, NULL, NOW, &r), HM_E_LIMIT);
    assert_non_null(strstr(hm_err_detail(), "remove one"));
    OK(tc_authority_open(dir, &a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), TC_ISSUING_MAX);
    assert_int_equal(issue(a, TC_EDGE, NOW).issuing, TC_ISSUING_MAX);
    tc_authority_close(a);
}

static void names_that_bind_one_bind_the_next(void **state)
{
    (void)state;
    const char *dir = dir_of("tied");
    tc_authority *a = NULL;
    tc_rotation r;
    OK(tc_authority_init_with(dir, "testmesh", "web.test", NULL, NOW));
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &r));
    OK(tc_authority_open(dir, &a));
    const issuing_ca *const *ca = (const issuing_ca *const *)a->family[TC_EDGE].issuing;
    for (unsigned i = 0; i < 2; i++)
        assert_true(X509_get_ext_by_NID(ca[i]->cert, NID_name_constraints, -1) >= 0);
    (void)issue(a, TC_EDGE, NOW);
    OK(tc_rotate(dir, TC_EDGE, "other.test", NOW, &r));
    OK(tc_authority_reload(a));
    static const char *const host[] = {"web.test"};
    hm_buf key = {0}, csr = {0}, chain = {0};
    OK(tc_server_csr(host, 1, &key, &csr));
    assert_int_equal(tc_issue_server(a, hm_buf_bytes(&csr), NOW, &chain, NULL), HM_E_DENIED);
    assert_int_equal(tc_rotate(dir, TC_EDGE, ".bad", NOW, &r), HM_E_CONFIG);
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 3);
    tc_authority_close(a);
    hm_buf_free(&key);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
}

static void sign_and_install(const char *dir, const char *offline, const char *family,
                             const char *request, uint32_t days, hm_err want)
{
    char key[160];
    hm_buf csr = {0}, chain = {0};
    snprintf(key, sizeof key, "%s/%s-root.key", offline, family);
    OK(hm_file_read(request, TC_CSR_MAX, &csr));
    OK(tc_root_sign(key, "correct horse battery", hm_buf_bytes(&csr), days, NULL, NOW, &chain));
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
    assert_int_equal(tc_rotate(dir, TC_EDGE, NULL, NOW, &r), HM_E_NOTFOUND);
    for (int f = 0; f < 2; f++) {
        snprintf(request, sizeof request, "%s/%s-ca.csr", dir, tc_family_names[f]);
        sign_and_install(dir, offline, tc_family_names[f], request, 900, HM_OK);
    }
    assert_int_equal(tc_rotate(dir, TC_EDGE, "web.test", NOW, &r), HM_E_USAGE);
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &r));
    assert_false(r.certified);
    OK(tc_authority_open(dir, &a));
    assert_int_equal(tc_issuing_count(a, TC_EDGE), 1); // until it is signed
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &again));    // the same one
    assert_string_equal(r.id.hex, again.id.hex);
    assert_string_equal(r.file, again.file);
    sign_and_install(dir, stranger, "edge", r.file, 900, HM_E_EXISTS);
    sign_and_install(dir, offline, "edge", r.file, 900, HM_OK);
    sign_and_install(dir, offline, "edge", r.file, 900, HM_E_EXISTS); // it ends no later
    OK(tc_authority_reload(a));
    assert_string_equal(tc_issuing_id_at(a, TC_EDGE, 0).hex, r.id.hex);
    assert_int_equal(issue(a, TC_EDGE, NOW).issuing, 2);
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &again));
    assert_string_not_equal(r.id.hex, again.id.hex);
    tc_authority_close(a);
}

static void a_damaged_index_is_told(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "next 3\n",
                                      "next 2\n2\n",
                                      "next 3\n2\n2\n",
                                      "2\n1\n",
                                      "next 3\n0\n",
                                      "next 3\n2\nx\n",
                                      "next 128\n1\n",
                                      "next 3\n1\n2 readyy\n",
                                      "next 3\n1\n2"};
    // That of the mesh says more.
    static const char *const bad_ready[] = {"next 3\n2 ready\n1\n", "next 3\n2\n1 ready\n",
                                            "next 4\n1\n2 ready\n3 ready\n", "next 3\n1 ready\n"};
    const char *dir = dir_of("index");
    char path[160], mesh[160];
    tc_authority *a = NULL;
    OK(tc_authority_init(dir, "testmesh", NOW));
    snprintf(path, sizeof path, "%s/edge-issuing", dir);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        OK(hm_file_write(path, hm_bytes_str(bad[i]), 0644));
        assert_int_equal(tc_authority_open(dir, &a), HM_E_CORRUPT);
    }
    OK(hm_file_write(path, hm_bytes_str("next 3\n1\n2 ready\n"), 0644));
    assert_int_equal(tc_authority_open(dir, &a), HM_E_CORRUPT);    // only the mesh's waits
    OK(hm_file_write(path, hm_bytes_str("next 3\n2\n1\n"), 0644)); // number 2 is not there
    assert_int_equal(tc_authority_open(dir, &a), HM_E_NOTFOUND);
    snprintf(mesh, sizeof mesh, "%s/mesh-issuing", dir);
    for (size_t i = 0; i < sizeof bad_ready / sizeof bad_ready[0]; i++) {
        OK(hm_file_write(mesh, hm_bytes_str(bad_ready[i]), 0644));
        assert_int_equal(tc_authority_open(dir, &a), HM_E_CORRUPT);
    }
    OK(hm_file_write(mesh, hm_bytes_str("next 2\n1\n"), 0644));
    OK(hm_file_write(path, hm_bytes_str("next 3\n1\n"), 0644));
    OK(tc_authority_open(dir, &a));
    // What cannot be taken changes nothing.
    OK(hm_file_write(path, hm_bytes_str("next 3\n2\n1\n"), 0644));
    assert_int_equal(tc_authority_reload(a), HM_E_NOTFOUND);
    assert_int_equal(issue(a, TC_EDGE, NOW).issuing, 1);
    tc_authority_close(a);
}

static void kill_at_any_instant(const char *dir, tc_family f)
{
    tc_authority *a = NULL;
    unsigned count = 1;
    OK(tc_authority_init(dir, "testmesh", NOW));
    for (unsigned i = 0; i < 100 && count < TC_ISSUING_MAX; i++) {
        tc_rotation r;
        int ready[2];
        char byte;
        assert_int_equal(pipe(ready), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)!write(ready[1], "x", 1);
            if (tc_rotate(dir, f, NULL, NOW, &r) == HM_OK && f == TC_MESH)
                (void)!tc_issuing_use(dir, r.id.hex, NOW);
            _exit(0);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        usleep(i * i * 100); // from not begun to long over, on a busy machine too
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(ready[0]);
        close(ready[1]);
        OK(tc_authority_open(dir, &a));
        size_t now = tc_issuing_count(a, f);
        assert_true(now == count || now == count + 1);
        if (now > 1 && tc_issuing_state_at(a, f, now - 1) == TC_ISSUING_READY) {
            // The one that was begun is taken to its end.
            const tc_issuing_id id = tc_issuing_id_at(a, f, now - 1);
            const uint8_t was = issue(a, f, NOW).issuing;
            assert_int_equal(tc_rotate(dir, f, NULL, NOW, &r), HM_E_EXISTS);
            OK(tc_issuing_use(dir, id.hex, NOW));
            OK(tc_authority_reload(a));
            assert_string_equal(tc_issuing_id_at(a, f, 0).hex, id.hex);
            assert_int_not_equal(issue(a, f, NOW).issuing, was);
        }
        count = (unsigned)now;
        assert_int_equal(issue(a, f, NOW).issuing, a->family[f].issuing[0]->number);
        assert_int_equal(a->family[f].issuing[0]->number, f == TC_EDGE ? count
                                                          : count == 1 ? 0
                                                                       : 128 + count);
        tc_authority_close(a);
    }
    assert_true(count > 1);
}

static void killed_at_any_instant_it_is_the_old_or_the_new(void **state)
{
    (void)state;
    kill_at_any_instant(dir_of("killed"), TC_EDGE);
}

static void killed_at_any_instant_the_meshs_is_taken_to_its_end(void **state)
{
    (void)state;
    kill_at_any_instant(dir_of("meshkilled"), TC_MESH);
}

// ---- the mesh's ---------------------------------------------------------------------------------

static void the_meshs_new_key_waits_until_it_is_to_be_used(void **state)
{
    (void)state;
    const char *dir = dir_of("mesh");
    tc_authority *a = NULL;
    tc_rotation r, again;
    tc_issuing_info info;
    hm_buf l = {0};
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_authority_open(dir, &a));
    const tc_issuing_id first = tc_issuing_id_at(a, TC_MESH, 0);
    tc_issued old = issue(a, TC_MESH, NOW), gone = issue(a, TC_MESH, NOW);
    OK(tc_revoke(a, &gone.serial, 1, NOW));
    (void)list(a, TC_MESH, NULL, false, NOW, &l);
    OK(tc_rotate(dir, TC_MESH, NULL, NOW, &r));
    assert_true(r.certified);
    assert_int_equal(tc_issuing_count(a, TC_MESH), 1);
    assert_int_equal(tc_rotate(dir, TC_MESH, NULL, NOW, &again), HM_E_EXISTS);
    assert_non_null(strstr(hm_err_detail(), r.id.hex));
    assert_int_equal(tc_rotate(dir, TC_MESH, "web.test", NOW, &again), HM_E_USAGE);
    OK(tc_rotate(dir, TC_EDGE, NULL, NOW, &again)); // the families have nothing to do with another

    // It has lists, and issues nothing.
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_count(a, TC_MESH), 2);
    assert_string_equal(tc_issuing_id_at(a, TC_MESH, 0).hex, first.hex);
    assert_int_equal(tc_issuing_state_at(a, TC_MESH, 0), TC_ISSUING_PRESENT);
    assert_int_equal(tc_issuing_state_at(a, TC_MESH, 1), TC_ISSUING_READY);
    assert_int_equal(list(a, TC_MESH, r.id.hex, false, NOW, &l).count, 0);
    assert_int_equal(list(a, TC_MESH, r.id.hex, true, NOW, &l).count, 0);
    assert_int_equal(issue(a, TC_MESH, NOW).issuing, 0);
    // The list of the one that issues gets ahead.
    for (unsigned i = 0; i < 3; i++) {
        tc_issued one = issue(a, TC_MESH, NOW);
        OK(tc_revoke(a, &one.serial, 1, NOW));
        (void)list(a, TC_MESH, NULL, false, NOW, &l);
    }
    const uint64_t before = list(a, TC_MESH, NULL, false, NOW, &l).number;
    assert_true(before > list(a, TC_MESH, r.id.hex, false, NOW, &l).number);

    OK(tc_issuing_look(dir, TC_MESH, r.id.hex, &info));
    assert_int_equal(info.state, TC_ISSUING_READY);
    assert_memory_equal(info.id.hex, r.id.hex, sizeof info.id.hex);
    assert_int_equal(tc_issuing_use(dir, first.hex, NOW), HM_E_EXISTS);
    assert_int_equal(tc_issuing_use(dir, again.id.hex, NOW), HM_E_NOTFOUND);
    assert_non_null(strstr(hm_err_detail(), "edge family"));
    assert_int_equal(tc_issuing_use(dir, r.id.hex, info.not_after_ms), HM_E_CERT_EXPIRED);
    OK(tc_issuing_use(dir, r.id.hex, NOW));
    assert_int_equal(tc_issuing_use(dir, r.id.hex, NOW), HM_E_EXISTS);
    assert_int_equal(issue(a, TC_MESH, NOW).issuing, 0); // it was not told yet
    OK(tc_authority_reload(a));
    assert_string_equal(tc_issuing_id_at(a, TC_MESH, 0).hex, r.id.hex);
    assert_int_equal(tc_issuing_state_at(a, TC_MESH, 0), TC_ISSUING_PRESENT);
    assert_int_equal(tc_issuing_state_at(a, TC_MESH, 1), TC_ISSUING_OLDER);
    assert_int_equal(tc_issuing_use(dir, first.hex, NOW), HM_E_EXISTS);
    tc_issued fresh = issue(a, TC_MESH, NOW);
    assert_int_equal(fresh.family, TC_MESH);
    X509 *ca[2] = {issuer_of(a, &old), issuer_of(a, &fresh)};
    assert_true(signed_by(a, &old, ca[0]) && signed_by(a, &fresh, ca[1]));
    assert_true(list(a, TC_MESH, NULL, false, NOW, &l).number > before);

    // Each revokes its own, also after a restart.
    OK(tc_revoke(a, &old.serial, 1, NOW));
    OK(tc_revoke(a, &fresh.serial, 1, NOW));
    for (unsigned round = 0; round < 2; round++) {
        (void)list(a, TC_MESH, r.id.hex, false, NOW, &l);
        assert_true(names(&l, &fresh) && !names(&l, &old) && !names(&l, &gone));
        assert_int_equal(list(a, TC_MESH, first.hex, false, NOW, &l).count, 5);
        assert_true(names(&l, &old) && names(&l, &gone) && !names(&l, &fresh));
        tc_authority_close(a);
        OK(tc_authority_open(dir, &a));
    }
    assert_string_equal(tc_issuing_id_at(a, TC_MESH, 0).hex, r.id.hex);
    uint64_t issued[2], revoked[2];
    tc_issued_totals(a, issued, revoked);
    assert_int_equal(issued[TC_MESH], 8);
    assert_int_equal(revoked[TC_MESH], 6);
    tc_authority_close(a);
    X509_free(ca[0]);
    X509_free(ca[1]);
    hm_buf_free(&l);
}

static void what_waits_can_be_given_up_and_the_old_one_removed(void **state)
{
    (void)state;
    const char *dir = dir_of("meshremoved");
    tc_authority *a = NULL;
    tc_rotation r, second;
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_authority_open(dir, &a));
    const tc_issuing_id first = tc_issuing_id_at(a, TC_MESH, 0);
    tc_issued old = issue(a, TC_MESH, NOW);
    OK(tc_rotate(dir, TC_MESH, NULL, NOW, &r));
    OK(tc_authority_reload(a));
    refused(dir, TC_EDGE, r.id.hex, NOW, HM_E_NOTFOUND, "it is of the mesh family");
    refused(dir, TC_MESH, first.hex, NOW, HM_E_BUSY, "rotate first");
    beside b = look(dir, TC_MESH, r.id.hex, NOW, true);
    assert_true(b.err == HM_OK && b.later);
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_count(a, TC_MESH), 1);
    assert_false(there(dir, "mesh-ca-2.key") || there(dir, "mesh-ca-2.crt"));

    OK(tc_rotate(dir, TC_MESH, NULL, NOW, &second));
    assert_true(there(dir, "mesh-ca-3.key") && strcmp(second.id.hex, r.id.hex) != 0);
    OK(tc_issuing_use(dir, second.id.hex, NOW));
    refused(dir, TC_MESH, first.hex, NOW + 365 * DAY, HM_E_BUSY, "SIGHUP");
    OK(tc_authority_reload(a));
    assert_int_equal(look(dir, TC_MESH, first.hex, NOW, false).live, 1);
    refused(dir, TC_MESH, first.hex, NOW + 29 * DAY, HM_E_BUSY, "not over: 1");
    b = look(dir, TC_MESH, first.hex, NOW + 31 * DAY, true);
    assert_true(b.err == HM_OK && b.later);
    OK(tc_authority_reload(a));
    static const char *const files[] = {"mesh-ca.key", "mesh-ca.csr", "mesh-ca.crt",
                                        "mesh-crl.der"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_false(there(dir, files[i]));
    X509 *ca = issuer_of(a, &old);
    assert_true(signed_by(a, &old, ca));
    X509_free(ca);
    tc_authority_close(a);
    OK(tc_authority_open(dir, &a)); // without the first one's files
    assert_int_equal(issue(a, TC_MESH, NOW).issuing, 128 + 3);
    tc_authority_close(a);
}

static void the_meshs_certificate_is_one_that_the_members_can_take(void **state)
{
    (void)state;
    char dir[96], offline[96], request[160], root[160], pem_path[160];
    tc_authority *a = NULL;
    tc_rotation r;
    hm_buf pem = {0}, present = {0}, fresh = {0}, root_der = {0};
    tc_issuing_cert facts, was;
    snprintf(dir, sizeof dir, "%s", dir_of("meshalone"));
    snprintf(offline, sizeof offline, "%s", dir_of("meshoffline"));
    for (int f = 0; f < 2; f++)
        OK(tc_root_create((tc_family)f, "test", offline, "correct horse battery", NOW));
    OK(tc_authority_init_issuing(dir, "test", NULL, NOW));
    assert_int_equal(tc_rotate(dir, TC_MESH, NULL, NOW, &r), HM_E_NOTFOUND);
    for (int f = 0; f < 2; f++) {
        snprintf(request, sizeof request, "%s/%s-ca.csr", dir, tc_family_names[f]);
        sign_and_install(dir, offline, tc_family_names[f], request, 900, HM_OK);
    }
    OK(tc_rotate(dir, TC_MESH, NULL, NOW, &r));
    assert_false(r.certified);
    // The ledger takes none that ends before one in force.
    sign_and_install(dir, offline, "mesh", r.file, 899, HM_E_CERT_PROFILE);
    OK(tc_authority_open(dir, &a));
    assert_int_equal(tc_issuing_count(a, TC_MESH), 1);
    sign_and_install(dir, offline, "mesh", r.file, 900, HM_OK);
    OK(tc_authority_reload(a));
    assert_int_equal(tc_issuing_state_at(a, TC_MESH, 1), TC_ISSUING_READY);
    sign_and_install(dir, offline, "mesh", r.file, 1000, HM_OK); // a longer life, as for any
    tc_authority_close(a);

    // With the root here it lives as long as the one that has the longest life, by itself.
    snprintf(dir, sizeof dir, "%s", dir_of("meshlong"));
    OK(tc_authority_init(dir, "testmesh", NOW));
    OK(tc_rotate(dir, TC_MESH, NULL, NOW + 1, &r));
    snprintf(root, sizeof root, "%s/mesh-root.crt", dir);
    snprintf(pem_path, sizeof pem_path, "%s/mesh-ca.crt", dir);
    OK(hm_file_read(root, TC_CERT_MAX, &pem));
    OK(tc_pem_to_der(hm_buf_bytes(&pem), &root_der));
    hm_buf_reset(&pem);
    OK(hm_file_read(pem_path, TC_CERT_MAX, &pem));
    OK(tc_pem_to_der(hm_buf_bytes(&pem), &present));
    hm_buf_reset(&pem);
    OK(hm_file_read(r.file, TC_CERT_MAX, &pem));
    OK(tc_pem_to_der(hm_buf_bytes(&pem), &fresh));
    OK(tc_issuing_verify(hm_buf_bytes(&fresh), hm_buf_bytes(&root_der), hm_buf_bytes(&present),
                         "testmesh", NOW + 1, &facts));
    OK(tc_issuing_read(hm_buf_bytes(&present), &was));
    assert_true(facts.not_after_ms >= was.not_after_ms);
    hm_buf_free(&pem);
    hm_buf_free(&present);
    hm_buf_free(&fresh);
    hm_buf_free(&root_der);
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
        cmocka_unit_test(the_meshs_new_key_waits_until_it_is_to_be_used),
        cmocka_unit_test(what_waits_can_be_given_up_and_the_old_one_removed),
        cmocka_unit_test(the_meshs_certificate_is_one_that_the_members_can_take),
        cmocka_unit_test(killed_at_any_instant_the_meshs_is_taken_to_its_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
