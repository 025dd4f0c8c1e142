#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "trustchain/trustchain.h"

#define NOW UINT64_C(1800000000000)
#define DAY UINT64_C(86400000)

static char base[] = "/tmp/hm-tc-XXXXXX";
static char dir[64], other_dir[64];
static hm_key *node_key, *second_key;

typedef struct mesh {
    tc_authority *a;
    hm_buf issuing, root; // DER
} mesh;

static void mesh_open(mesh *m, const char *path)
{
    *m = (mesh){0};
    assert_int_equal(tc_authority_open(path, &m->a), HM_OK);
    assert_int_equal(tc_pem_to_der(tc_authority_issuing(m->a, TC_MESH), &m->issuing), HM_OK);
    assert_int_equal(tc_pem_to_der(tc_authority_root(m->a, TC_MESH), &m->root), HM_OK);
}

static void mesh_close(mesh *m)
{
    tc_authority_close(m->a);
    hm_buf_free(&m->issuing);
    hm_buf_free(&m->root);
}

static hm_err verify(const mesh *m, const hm_buf *leaf, hm_bytes crl, uint64_t at,
                     tc_node_cert *out)
{
    return tc_node_cert_verify(hm_buf_bytes(leaf), hm_buf_bytes(&m->issuing),
                               hm_buf_bytes(&m->root), crl, at, out);
}

static void issue_node(mesh *m, const hm_key *key, const char *name, hm_buf *chain, hm_buf *der,
                       tc_issued *info)
{
    hm_buf csr = {0};
    assert_int_equal(tc_node_csr(key, name, &csr), HM_OK);
    assert_int_equal(tc_issue_node(m->a, hm_buf_bytes(&csr), NOW, chain, info), HM_OK);
    assert_int_equal(tc_pem_to_der(hm_buf_bytes(chain), der), HM_OK);
    hm_buf_free(&csr);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(base) || hm_crypto_init() != HM_OK || hm_key_generate(&node_key) != HM_OK ||
        hm_key_generate(&second_key) != HM_OK)
        return -1;
    snprintf(dir, sizeof dir, "%s/authority", base);
    snprintf(other_dir, sizeof other_dir, "%s/other", base);
    return tc_authority_init(dir, "testmesh", NOW) == HM_OK &&
                   tc_authority_init(other_dir, "testmesh", NOW) == HM_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    hm_key_free(node_key);
    hm_key_free(second_key);
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

static void an_authority_is_made_once_and_whole(void **state)
{
    (void)state;
    char path[128], leftover[160];
    tc_authority *a = NULL, *b = NULL;
    struct stat st;
    assert_int_equal(tc_authority_init(dir, "testmesh", NOW), HM_E_EXISTS);
    snprintf(path, sizeof path, "%s/third", base);
    assert_int_equal(tc_authority_init(path, "No Name", NOW), HM_E_INVALID);
    // What a crash left beside is cleared away.
    snprintf(leftover, sizeof leftover, "%s.new", path);
    assert_int_equal(mkdir(leftover, 0700), 0);
    strcat(leftover, "/mesh-root.key");
    assert_int_equal(hm_file_write(leftover, hm_bytes_str("half"), 0600), HM_OK);
    assert_int_equal(tc_authority_open(path, &a), HM_E_NOTFOUND);
    assert_int_equal(tc_authority_init(path, "third", NOW), HM_OK);
    assert_int_not_equal(stat(leftover, &st), 0);
    assert_int_equal(tc_authority_open(path, &a), HM_OK);
    assert_int_equal(tc_authority_open(path, &b), HM_E_BUSY);
    tc_authority_close(a);
    strcat(path, "/mesh-ca.key");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(chmod(path, 0644), 0);
    path[strlen(path) - strlen("/mesh-ca.key")] = 0;
    assert_int_equal(tc_authority_open(path, &b), HM_E_DENIED);
    assert_null(b);
}

static void a_node_certificate_verifies_in_its_time_and_under_its_root_only(void **state)
{
    (void)state;
    mesh m, other;
    hm_buf chain = {0}, der = {0};
    tc_issued info;
    tc_node_cert c = {0};
    hm_bytes none = {0};
    hm_node_id id;
    mesh_open(&m, dir);
    mesh_open(&other, other_dir);
    issue_node(&m, node_key, "node-1", &chain, &der, &info);
    assert_int_equal(verify(&m, &der, none, NOW, &c), HM_OK);
    assert_string_equal(c.name, "node-1");
    assert_int_equal(hm_node_id_of_public(hm_key_public(node_key), &id), HM_OK);
    assert_true(hm_hash_eq(&c.node, &id));
    assert_memory_equal(c.serial.b, info.serial.b, TC_SERIAL_BYTES);
    assert_int_equal(c.not_after_ms, NOW + 30 * DAY);
    assert_int_equal(verify(&m, &der, none, c.not_after_ms - 1000, &c), HM_OK);
    assert_int_equal(verify(&m, &der, none, c.not_after_ms + 1000, &c), HM_E_CERT_EXPIRED);
    assert_int_equal(verify(&m, &der, none, NOW - DAY, &c), HM_E_CERT_EXPIRED);
    assert_int_equal(verify(&other, &der, none, NOW, &c), HM_E_CERT_UNTRUSTED);

    // Each byte counts: a damaged certificate is refused, whatever the reason.
    for (size_t i = 0; i < der.len; i += 13) {
        der.ptr[i] ^= 0x20;
        assert_int_not_equal(verify(&m, &der, none, NOW, &c), HM_OK);
        der.ptr[i] ^= 0x20;
    }
    hm_buf_append(&der, "", 1);
    assert_int_equal(verify(&m, &der, none, NOW, &c), HM_E_PARSE);
    der.len -= 2;
    assert_int_equal(verify(&m, &der, none, NOW, &c), HM_E_PARSE);
    // An authority's certificate is none of a node.
    assert_int_equal(tc_node_cert_verify(hm_buf_bytes(&m.issuing), hm_buf_bytes(&m.issuing),
                                         hm_buf_bytes(&m.root), none, NOW, &c),
                     HM_E_CERT_PROFILE);
    hm_buf_free(&chain);
    hm_buf_free(&der);
    mesh_close(&m);
    mesh_close(&other);
}

static void revocation_is_honoured_and_survives(void **state)
{
    (void)state;
    mesh m;
    hm_buf chain = {0}, der = {0}, crl = {0}, crl2 = {0}, again = {0};
    tc_issued info;
    tc_node_cert c;
    tc_crl_info ci, ci2;
    bool revoked = false;
    mesh_open(&m, dir);
    issue_node(&m, second_key, "node-2", &chain, &der, &info);
    assert_int_equal(tc_authority_crl(m.a, TC_MESH, NOW, &crl), HM_OK);
    assert_int_equal(tc_crl_verify(hm_buf_bytes(&crl), hm_buf_bytes(&m.issuing), &ci), HM_OK);
    assert_int_equal(ci.count, 0);
    assert_int_equal(verify(&m, &der, hm_buf_bytes(&crl), NOW, &c), HM_OK);
    // Not signed anew without need, but after a day it is.
    assert_int_equal(tc_authority_crl(m.a, TC_MESH, NOW + DAY - 1000, &again), HM_OK);
    assert_true(hm_bytes_eq(hm_buf_bytes(&crl), hm_buf_bytes(&again)));
    assert_int_equal(verify(&m, &der, hm_buf_bytes(&crl), NOW + 8 * DAY, &c), HM_E_CRL_STALE);

    assert_int_equal(tc_revoke(m.a, &info.serial, 7, NOW), HM_E_RANGE);
    assert_int_equal(tc_revoke(m.a, &info.serial, 1, NOW), HM_OK);
    assert_int_equal(tc_revoke(m.a, &info.serial, 1, NOW), HM_E_EXISTS);
    tc_serial unknown = info.serial;
    unknown.b[3] ^= 1;
    assert_int_equal(tc_revoke(m.a, &unknown, 1, NOW), HM_E_NOTFOUND);
    // The process dies before a new list was signed: it is signed on demand after the restart.
    mesh_close(&m);
    mesh_open(&m, dir);
    assert_true(tc_issued_find(m.a, &info.serial)->revoked);
    assert_int_equal(tc_authority_crl(m.a, TC_MESH, NOW, &crl2), HM_OK);
    assert_int_equal(tc_crl_verify(hm_buf_bytes(&crl2), hm_buf_bytes(&m.issuing), &ci2), HM_OK);
    assert_int_equal(ci2.count, 1);
    assert_int_equal(ci2.number, ci.number + 1);
    assert_int_equal(verify(&m, &der, hm_buf_bytes(&crl2), NOW, &c), HM_E_CERT_REVOKED);
    assert_int_equal(verify(&m, &der, hm_buf_bytes(&crl2), NOW + 20 * DAY, &c), HM_E_CERT_REVOKED);
    hm_bytes serial = hm_bytes_of(info.serial.b, TC_SERIAL_BYTES);
    assert_int_equal(tc_crl_contains(hm_buf_bytes(&crl2), serial, &revoked), HM_OK);
    assert_true(revoked);
    serial = hm_bytes_of(unknown.b, TC_SERIAL_BYTES);
    assert_int_equal(tc_crl_contains(hm_buf_bytes(&crl2), serial, &revoked), HM_OK);
    assert_false(revoked);
    // A list that somebody changed is none.
    crl2.ptr[crl2.len / 4] ^= 1;
    assert_int_not_equal(tc_crl_verify(hm_buf_bytes(&crl2), hm_buf_bytes(&m.issuing), &ci2), HM_OK);
    assert_int_not_equal(verify(&m, &der, hm_buf_bytes(&crl2), NOW, &c), HM_OK);
    hm_buf *all[] = {&chain, &der, &crl, &crl2, &again};
    for (int i = 0; i < 5; i++)
        hm_buf_free(all[i]);
    mesh_close(&m);
}

static void what_was_issued_is_remembered(void **state)
{
    (void)state;
    mesh m;
    hm_buf chain = {0}, der = {0};
    tc_issued info;
    hm_bytes kept;
    mesh_open(&m, dir);
    size_t before = tc_issued_count(m.a);
    issue_node(&m, node_key, "kept", &chain, &der, &info);
    mesh_close(&m);
    mesh_open(&m, dir);
    assert_int_equal(tc_issued_count(m.a), before + 1);
    const tc_issued *last = tc_issued_at(m.a, before);
    assert_string_equal(last->subject, "kept");
    assert_memory_equal(last->serial.b, info.serial.b, TC_SERIAL_BYTES);
    assert_int_equal(tc_issued_der(m.a, &info.serial, &kept), HM_OK);
    assert_true(hm_bytes_eq(kept, hm_buf_bytes(&der)));
    assert_null(tc_issued_at(m.a, before + 1));
    tc_serial parsed;
    char hex[2 * TC_SERIAL_BYTES + 1];
    hm_hex(hex, info.serial.b, TC_SERIAL_BYTES);
    assert_int_equal(tc_serial_parse(hm_bytes_str(hex), &parsed), HM_OK);
    assert_memory_equal(parsed.b, info.serial.b, TC_SERIAL_BYTES);
    assert_int_equal(tc_serial_parse(hm_bytes_str("12"), &parsed), HM_E_PARSE);
    hm_buf_free(&chain);
    hm_buf_free(&der);
    mesh_close(&m);
}

static void requests_that_are_wrong_are_refused(void **state)
{
    (void)state;
    mesh m;
    hm_buf csr = {0}, key = {0}, chain = {0};
    const char *good[] = {"node.test", "::1"};
    const char *bad[] = {"*.test", "-a.test", "a..b", "", "a_b", "127.0.0.1.", "a b"};
    mesh_open(&m, dir);
    size_t before = tc_issued_count(m.a);
    assert_int_equal(tc_node_csr(node_key, "Upper", &csr), HM_E_INVALID);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tc_server_csr(&bad[i], 1, &key, &csr), HM_E_INVALID);
    assert_int_equal(csr.len, 0);
    assert_int_equal(tc_issue_node(m.a, hm_bytes_str(""), NOW, &chain, NULL), HM_E_CSR);
    assert_int_equal(tc_issue_node(m.a, hm_bytes_str("hello"), NOW, &chain, NULL), HM_E_CSR);
    // A server's request is none of a node, and the other way round.
    assert_int_equal(tc_server_csr(good, 2, &key, &csr), HM_OK);
    assert_int_equal(tc_issue_node(m.a, hm_buf_bytes(&csr), NOW, &chain, NULL), HM_E_CSR);
    hm_buf_reset(&csr);
    assert_int_equal(tc_node_csr(node_key, "a", &csr), HM_OK);
    assert_int_equal(tc_issue_server(m.a, hm_buf_bytes(&csr), NOW, &chain, NULL), HM_E_CSR);
    // A request changed on its way no longer has its key's signature.
    csr.ptr[csr.len / 2] = csr.ptr[csr.len / 2] == 'A' ? 'B' : 'A';
    assert_int_equal(tc_issue_node(m.a, hm_buf_bytes(&csr), NOW, &chain, NULL), HM_E_CSR);
    assert_int_equal(chain.len, 0);
    assert_int_equal(tc_issued_count(m.a), before);
    hm_buf_free(&csr);
    hm_buf_free_secret(&key);
    mesh_close(&m);
}

// RFC 5280 path validation by OpenSSL alone, as a browser's library would do it.
static int edge_verify(hm_bytes chain, hm_bytes root_pem, hm_bytes cross_pem, const char *host)
{
    BIO *mem = BIO_new_mem_buf(chain.ptr, (int)chain.len);
    X509 *leaf = PEM_read_bio_X509(mem, NULL, NULL, NULL);
    X509 *issuing = PEM_read_bio_X509(mem, NULL, NULL, NULL);
    BIO *r = BIO_new_mem_buf(root_pem.ptr, (int)root_pem.len);
    X509 *root = PEM_read_bio_X509(r, NULL, NULL, NULL), *cross = NULL;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *extra = sk_X509_new_null();
    sk_X509_push(extra, issuing);
    if (cross_pem.len) {
        BIO *c = BIO_new_mem_buf(cross_pem.ptr, (int)cross_pem.len);
        cross = PEM_read_bio_X509(c, NULL, NULL, NULL);
        sk_X509_push(extra, cross);
        BIO_free(c);
    }
    X509_STORE_add_cert(store, root);
    assert_int_equal(X509_STORE_CTX_init(ctx, store, leaf, extra), 1);
    X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(p, (time_t)(NOW / 1000));
    X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_X509_STRICT);
    X509_VERIFY_PARAM_set1_host(p, host, 0);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    int ok = X509_verify_cert(ctx);
    ERR_clear_error();
    sk_X509_free(extra);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(cross);
    X509_free(root);
    X509_free(issuing);
    X509_free(leaf);
    BIO_free(r);
    BIO_free(mem);
    return ok;
}

static void server_certificates_verify_as_any_client_does(void **state)
{
    (void)state;
    mesh m, other;
    hm_buf csr = {0}, key = {0}, chain = {0};
    const char *names[] = {"node.test", "::1"};
    tc_issued info;
    mesh_open(&m, dir);
    mesh_open(&other, other_dir);
    assert_int_equal(tc_server_csr(names, 2, &key, &csr), HM_OK);
    assert_int_equal(tc_issue_server(m.a, hm_buf_bytes(&csr), NOW, &chain, &info), HM_OK);
    assert_string_equal(info.subject, "node.test ::1");
    hm_bytes c = hm_buf_bytes(&chain), none = {0};
    assert_int_equal(edge_verify(c, tc_authority_root(m.a, TC_EDGE), none, "node.test"), 1);
    assert_int_not_equal(edge_verify(c, tc_authority_root(m.a, TC_EDGE), none, "evil.test"), 1);
    assert_int_not_equal(edge_verify(c, tc_authority_root(other.a, TC_EDGE), none, "node.test"), 1);
    // Through the cross-signature the mesh root alone is enough.
    assert_int_equal(
        edge_verify(c, tc_authority_root(m.a, TC_MESH), tc_authority_cross(m.a), "node.test"), 1);
    hm_buf_free(&csr);
    hm_buf_free_secret(&key);
    hm_buf_free(&chain);
    mesh_close(&m);
    mesh_close(&other);
}

// ---- TLS in memory ------------------------------------------------------------------------------

typedef struct peer {
    const mesh *m;
    hm_bytes crl;
    hm_err seen;
    int calls;
} peer;

static hm_err check_peer(void *ctx, hm_bytes leaf)
{
    peer *p = ctx;
    tc_node_cert c;
    p->calls++;
    p->seen = tc_node_cert_verify(leaf, hm_buf_bytes(&p->m->issuing), hm_buf_bytes(&p->m->root),
                                  p->crl, NOW, &c);
    return p->seen;
}

// True when both sides finish the handshake and the server reads a byte of the client.
static bool handshake(SSL_CTX *client, SSL_CTX *server)
{
    SSL *c = SSL_new(client), *s = SSL_new(server);
    BIO *a, *b;
    bool ok = false;
    assert_int_equal(BIO_new_bio_pair(&a, 1 << 17, &b, 1 << 17), 1);
    SSL_set_bio(c, a, a);
    SSL_set_bio(s, b, b);
    SSL_set_connect_state(c);
    SSL_set_accept_state(s);
    for (int i = 0; i < 20 && !ok; i++) {
        char byte = 'x';
        SSL_do_handshake(c);
        SSL_do_handshake(s);
        if (SSL_is_init_finished(c))
            SSL_write(c, &byte, 1);
        ok = SSL_is_init_finished(s) && SSL_read(s, &byte, 1) == 1;
    }
    if (ok)
        assert_string_equal(SSL_group_to_name(s, (int)SSL_get_negotiated_group(s)),
                            "X25519MLKEM768");
    ERR_clear_error();
    SSL_free(c);
    SSL_free(s);
    return ok;
}

static void nodes_talk_only_to_nodes_of_their_mesh(void **state)
{
    (void)state;
    mesh m, other;
    hm_buf chain1 = {0}, der1 = {0}, chain2 = {0}, der2 = {0}, rogue = {0}, rogue_der = {0},
           crl = {0};
    tc_issued i1, i2;
    SSL_CTX *client, *server, *rogue_client, *anonymous, *classic;
    mesh_open(&m, dir);
    mesh_open(&other, other_dir);
    issue_node(&m, node_key, "one", &chain1, &der1, &i1);
    issue_node(&m, second_key, "two", &chain2, &der2, &i2);
    issue_node(&other, second_key, "two", &rogue, &rogue_der, NULL);
    peer at_server = {.m = &m}, at_client = {.m = &m};
    assert_int_equal(
        tc_node_tls(true, node_key, hm_buf_bytes(&chain1), check_peer, &at_server, &server), HM_OK);
    assert_int_equal(
        tc_node_tls(false, second_key, hm_buf_bytes(&chain2), check_peer, &at_client, &client),
        HM_OK);
    assert_true(handshake(client, server));
    assert_int_equal(at_server.calls, 1);
    assert_int_equal(at_client.calls, 1);

    // Of another root.
    assert_int_equal(
        tc_node_tls(false, second_key, hm_buf_bytes(&rogue), check_peer, &at_client, &rogue_client),
        HM_OK);
    assert_false(handshake(rogue_client, server));
    assert_int_equal(at_server.seen, HM_E_CERT_UNTRUSTED);
    // Revoked, as the server knows.
    assert_int_equal(tc_revoke(m.a, &i2.serial, 1, NOW), HM_OK);
    assert_int_equal(tc_authority_crl(m.a, TC_MESH, NOW, &crl), HM_OK);
    at_server.crl = hm_buf_bytes(&crl);
    assert_false(handshake(client, server));
    assert_int_equal(at_server.seen, HM_E_CERT_REVOKED);
    // None at all.
    at_server.calls = 0;
    anonymous = SSL_CTX_new(TLS_client_method());
    assert_false(handshake(anonymous, server));
    assert_int_equal(at_server.calls, 0);
    // Classical key agreement only.
    assert_int_equal(
        tc_node_tls(false, second_key, hm_buf_bytes(&chain2), check_peer, &at_client, &classic),
        HM_OK);
    assert_int_equal(SSL_CTX_set1_groups_list(classic, "X25519"), 1);
    assert_false(handshake(classic, server));
    assert_int_equal(at_server.calls, 0);
    // A certificate that is not for the key is found at once.
    SSL_CTX *wrong = NULL;
    assert_int_equal(
        tc_node_tls(true, node_key, hm_buf_bytes(&chain2), check_peer, &at_server, &wrong),
        HM_E_CONFIG);
    assert_null(wrong);

    SSL_CTX *contexts[] = {client, server, rogue_client, anonymous, classic};
    for (int i = 0; i < 5; i++)
        SSL_CTX_free(contexts[i]);
    hm_buf *all[] = {&chain1, &der1, &chain2, &der2, &rogue, &rogue_der, &crl};
    for (int i = 0; i < 7; i++)
        hm_buf_free(all[i]);
    mesh_close(&m);
    mesh_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_authority_is_made_once_and_whole),
        cmocka_unit_test(a_node_certificate_verifies_in_its_time_and_under_its_root_only),
        cmocka_unit_test(revocation_is_honoured_and_survives),
        cmocka_unit_test(what_was_issued_is_remembered),
        cmocka_unit_test(requests_that_are_wrong_are_refused),
        cmocka_unit_test(server_certificates_verify_as_any_client_does),
        cmocka_unit_test(nodes_talk_only_to_nodes_of_their_mesh),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
