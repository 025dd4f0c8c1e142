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

#include "trustchain/authority.h"

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

static void certificates_are_found_by_name(void **state)
{
    (void)state;
    mesh m;
    hm_buf csr = {0}, key = {0}, chain = {0};
    const char *names[] = {"found.test", "also.found.test"};
    uint64_t issued[2], revoked[2], index;
    mesh_open(&m, dir);
    size_t before = tc_issued_count(m.a);
    for (int i = 0; i < 2; i++) {
        hm_buf_reset(&csr);
        hm_buf_reset(&key);
        assert_int_equal(tc_server_csr(names, 2, &key, &csr), HM_OK);
        assert_int_equal(tc_issue_server(m.a, hm_buf_bytes(&csr), NOW, &chain, NULL), HM_OK);
    }
    assert_int_equal(tc_issued_named(m.a, "found.test", before + 2, &index), HM_OK);
    assert_int_equal(index, before + 1);
    assert_int_equal(tc_issued_named(m.a, "also.found.test", index, &index), HM_OK);
    assert_int_equal(index, before);
    assert_int_equal(tc_issued_named(m.a, "found.test", index, &index), HM_E_NOTFOUND);
    assert_int_equal(tc_issued_named(m.a, "found.tes", before + 2, &index), HM_E_NOTFOUND);
    tc_issued_totals(m.a, issued, revoked);
    assert_int_equal(issued[0] + issued[1], before + 2);
    hm_buf_free(&csr);
    hm_buf_free_secret(&key);
    hm_buf_free(&chain);
    mesh_close(&m);
}

// ---- the transparency log -----------------------------------------------------------------------

// The entry of a TileLeaf: its bytes, and the leaf's hash by hand (RFC 6962, 3.4).
static size_t leaf_of(hm_bytes entries, hm_hash *leaf)
{
    const uint8_t *p = entries.ptr;
    uint8_t mem[TC_CERT_MAX] = {0, 0}; // v1, timestamped_entry
    size_t at = 8 + 2 + 32, tbs = (size_t)p[at] << 16 | (size_t)p[at + 1] << 8 | p[at + 2];
    assert_int_equal(p[9], 1); // precert_entry
    at += 3 + tbs;
    assert_memory_equal(p + at, "\0\x08\0\0\x05", 5); // leaf_index
    at += 10;
    memcpy(mem + 2, p, at);
    *leaf = hm_merkle_leaf(hm_bytes_of(mem, at + 2));
    at += 3 + ((size_t)p[at] << 16 | (size_t)p[at + 1] << 8 | p[at + 2]);
    assert_memory_equal(p + at, "\0\x20", 2); // one fingerprint
    return at + 2 + 32;
}

static void the_log_has_every_certificate(void **state)
{
    (void)state;
    mesh m;
    hm_buf chain = {0}, der = {0}, note = {0}, again = {0}, entries = {0}, tile = {0};
    tc_issued info;
    hm_hash leaf, proof[64 + 16];
    size_t count;
    mesh_open(&m, dir);
    issue_node(&m, node_key, "logged", &chain, &der, &info);
    size_t size = tc_issued_count(m.a);
    assert_int_equal(tc_log_tile(m.a, 0, 0, (unsigned)size, &tile), HM_E_NOTFOUND); // unsigned yet
    assert_int_equal(tc_log_checkpoint(m.a, NOW, &note), HM_OK);
    char want[64];
    snprintf(want, sizeof want, "testmesh/log\n%zu\n", size);
    assert_memory_equal(note.ptr, want, strlen(want));
    // The next is signed when the log grew and a second went by; after a restart it is the same.
    issue_node(&m, node_key, "later", &chain, &der, &info);
    assert_int_equal(tc_log_checkpoint(m.a, NOW + 999, &again), HM_OK);
    assert_true(hm_bytes_eq(hm_buf_bytes(&note), hm_buf_bytes(&again)));
    mesh_close(&m);
    mesh_open(&m, dir);
    hm_buf_reset(&again);
    assert_int_equal(tc_log_checkpoint(m.a, NOW + 999, &again), HM_OK);
    assert_true(hm_bytes_eq(hm_buf_bytes(&note), hm_buf_bytes(&again)));
    hm_buf_reset(&again);
    assert_int_equal(tc_log_checkpoint(m.a, NOW + 1000, &again), HM_OK);
    assert_false(hm_bytes_eq(hm_buf_bytes(&note), hm_buf_bytes(&again)));
    size++;
    assert_int_equal(tc_log_tile(m.a, 0, 0, (unsigned)size, &tile), HM_OK);
    assert_int_equal(tc_log_tile(m.a, 0, 0, (unsigned)size + 1, &again), HM_E_NOTFOUND);
    assert_int_equal(tc_log_tile(m.a, 0, UINT64_MAX / 256, 1, &again), HM_E_NOTFOUND);
    assert_int_equal(tc_log_tile(m.a, 1, 0, 1, &again), HM_E_NOTFOUND);
    assert_int_equal(tc_log_tile(m.a, 0, 0, 0, &again), HM_E_NOTFOUND);
    assert_int_equal(tc_log_entries(m.a, 0, (unsigned)size, &entries), HM_OK);
    assert_int_equal(tile.len, size * HM_HASH_BYTES);
    size_t at = 0;
    hm_hash root = hm_merkle_root((const hm_hash *)tile.ptr, size);
    for (size_t i = 0; i < size; i++) {
        at += leaf_of(hm_bytes_of(entries.ptr + at, entries.len - at), &leaf);
        assert_memory_equal(leaf.b, tile.ptr + i * HM_HASH_BYTES, HM_HASH_BYTES);
        assert_int_equal(tc_log_prove_inclusion(m.a, i, size, proof, &count), HM_OK);
        assert_true(hm_merkle_verify(&root, size, i, &leaf, proof, count));
    }
    assert_int_equal(at, entries.len);
    assert_int_equal(tc_log_prove_consistency(m.a, 1, size, proof, &count), HM_OK);
    assert_int_equal(tc_log_prove_inclusion(m.a, 0, size + 1, proof, &count), HM_E_RANGE);
    hm_buf *all[] = {&chain, &der, &note, &again, &entries, &tile};
    for (int i = 0; i < 6; i++)
        hm_buf_free(all[i]);
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

// True when both sides finish the handshake and the server reads a byte of the client, which asks
// for a name unless it is NULL. key gets the kind of the server's key, verified what the server
// found about the client; both may be NULL.
static bool handshake_named(SSL_CTX *client, SSL_CTX *server, const char *name, char key[32],
                            long *verified)
{
    SSL *c = SSL_new(client), *s = SSL_new(server);
    BIO *a, *b;
    bool ok = false;
    if (name)
        assert_int_equal(SSL_set1_host(c, name), 1);
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
    if (ok) { // what is left in the queue would end a handshake that goes on
        assert_int_equal(ERR_peek_error(), 0);
        assert_string_equal(SSL_group_to_name(s, (int)SSL_get_negotiated_group(s)),
                            "X25519MLKEM768");
    }
    if (ok && key)
        snprintf(key, 32, "%s",
                 EVP_PKEY_get0_type_name(X509_get0_pubkey(SSL_get0_peer_certificate(c))));
    if (verified)
        *verified = SSL_get_verify_result(s);
    ERR_clear_error();
    SSL_free(c);
    SSL_free(s);
    return ok;
}

static bool handshake(SSL_CTX *client, SSL_CTX *server)
{
    return handshake_named(client, server, NULL, NULL, NULL);
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

// ---- an identity in a directory, and TLS with it ------------------------------------------------

static uint64_t test_wall_ms = NOW;
static uint64_t test_clock(void *ctx)
{
    (void)ctx;
    return test_wall_ms;
}
static const hm_clock clock_of_test = {.mono_us = test_clock, .wall_ms = test_clock};

typedef struct own {
    char path[96];
    char node_cert[128], node_key[128], edge_cert[128], edge_key[128], mesh_root[128],
        edge_root[128];
    tc_issued node, edge;
} own;

// A directory with both identities, made as a daemon does it.
static void own_make(own *o, mesh *m, const char *name)
{
    static const char *const hosts[] = {"localhost", "::1"};
    char path[128];
    hm_buf csr = {0}, node = {0}, edge = {0};
    snprintf(o->path, sizeof o->path, "%s/%s", base, name);
    snprintf(o->node_cert, 128, "%s/node.crt", o->path);
    snprintf(o->node_key, 128, "%s/node.key", o->path);
    snprintf(o->edge_cert, 128, "%s/edge.crt", o->path);
    snprintf(o->edge_key, 128, "%s/edge.key", o->path);
    snprintf(o->mesh_root, 128, "%s/mesh-root.crt", o->path);
    snprintf(o->edge_root, 128, "%s/edge-root.crt", o->path);
    assert_int_equal(tc_dir_make(o->path, name, hosts, 2, NULL), HM_OK);
    snprintf(path, sizeof path, "%s/node.csr", o->path);
    assert_int_equal(hm_file_read(path, TC_CSR_MAX, &csr), HM_OK);
    assert_int_equal(tc_issue_node(m->a, hm_buf_bytes(&csr), NOW, &node, &o->node), HM_OK);
    hm_buf_reset(&csr);
    snprintf(path, sizeof path, "%s/edge.csr", o->path);
    assert_int_equal(hm_file_read(path, TC_CSR_MAX, &csr), HM_OK);
    assert_int_equal(tc_issue_server(m->a, hm_buf_bytes(&csr), NOW, &edge, &o->edge), HM_OK);
    hm_bytes mesh_root = tc_authority_root(m->a, TC_MESH);
    hm_bytes edge_root = tc_authority_root(m->a, TC_EDGE);
    // Not one for the other, and nothing is kept before all is well.
    assert_int_equal(tc_dir_install(o->path, hm_buf_bytes(&edge), hm_buf_bytes(&edge), mesh_root,
                                    edge_root, NOW),
                     HM_E_CERT_UNTRUSTED);
    assert_int_equal(tc_dir_install(o->path, hm_buf_bytes(&node), hm_buf_bytes(&node), mesh_root,
                                    edge_root, NOW),
                     HM_E_CERT_PROFILE);
    assert_int_equal(access(o->node_cert, F_OK), -1);
    assert_int_equal(access(o->edge_cert, F_OK), -1);
    assert_int_equal(tc_dir_install(o->path, hm_buf_bytes(&node), hm_buf_bytes(&edge), mesh_root,
                                    edge_root, NOW),
                     HM_OK);
    // A second time changes no key.
    hm_key *key = NULL;
    hm_buf before = {0}, after = {0};
    assert_int_equal(hm_file_read(o->edge_key, 65536, &before), HM_OK);
    assert_int_equal(tc_dir_make(o->path, name, hosts, 2, &key), HM_OK);
    assert_int_equal(hm_file_read(o->edge_key, 65536, &after), HM_OK);
    assert_true(hm_bytes_eq(hm_buf_bytes(&before), hm_buf_bytes(&after)));
    hm_key_free(key);
    hm_buf *all[] = {&csr, &node, &edge, &before, &after};
    for (int i = 0; i < 5; i++)
        hm_buf_free(all[i]);
}

static SSL_CTX *tls_of(bool is_server, const own *o, bool node, bool edge, const char *roots,
                       const char *crl)
{
    SSL_CTX *ctx = NULL;
    tc_tls_config cfg = {.is_server = is_server, .roots_path = roots, .crl_path = crl};
    unsigned n = 0;
    cfg.clock = &clock_of_test;
    if (node) {
        cfg.ids[n].cert_path = o->node_cert;
        cfg.ids[n++].key_path = o->node_key;
    }
    if (edge) {
        cfg.ids[n].cert_path = o->edge_cert;
        cfg.ids[n++].key_path = o->edge_key;
    }
    assert_int_equal(tc_tls(&cfg, &ctx), HM_OK);
    return ctx;
}

static void servers_prove_themselves_in_the_family_that_the_client_believes(void **state)
{
    (void)state;
    mesh m, other;
    own server, stranger;
    char key[32], id[65], roots[128];
    hm_buf both = {0};
    tc_node_cert node;
    hm_buf chain = {0}, der = {0};
    mesh_open(&m, dir);
    mesh_open(&other, other_dir);
    own_make(&server, &m, "server-1");
    own_make(&stranger, &other, "server-2");
    hm_buf_put(&both, tc_authority_root(m.a, TC_EDGE));
    hm_buf_put(&both, tc_authority_root(m.a, TC_MESH));
    snprintf(roots, sizeof roots, "%s/both.crt", base);
    assert_int_equal(hm_file_write(roots, hm_buf_bytes(&both), 0644), HM_OK);
    SSL_CTX *s = tls_of(true, &server, true, true, NULL, NULL);
    SSL_CTX *edge = tls_of(false, NULL, false, false, server.edge_root, NULL);
    SSL_CTX *meshy = tls_of(false, NULL, false, false, server.mesh_root, NULL);
    SSL_CTX *any = tls_of(false, NULL, false, false, roots, NULL);
    SSL_CTX *foreign = tls_of(false, NULL, false, false, stranger.mesh_root, NULL);
    SSL_CTX *edge_only = tls_of(true, &server, false, true, NULL, NULL);

    assert_true(handshake_named(edge, s, "localhost", key, NULL));
    assert_string_equal(key, "EC");
    assert_true(handshake_named(edge, s, "::1", key, NULL));
    assert_false(handshake_named(edge, s, "elsewhere", NULL, NULL));
    assert_false(handshake_named(edge, s, "::2", NULL, NULL));
    assert_true(handshake_named(meshy, s, "server-1", key, NULL));
    assert_string_equal(key, HM_FALCON_NAME);
    assert_true(handshake_named(meshy, s, "::1", NULL, NULL)); // whoever of the mesh is there
    assert_true(handshake_named(meshy, s, NULL, NULL, NULL));
    assert_false(handshake_named(meshy, s, "server-2", NULL, NULL));
    assert_int_equal(hm_file_read(server.node_cert, 65536, &chain), HM_OK);
    assert_int_equal(tc_pem_to_der(hm_buf_bytes(&chain), &der), HM_OK);
    assert_int_equal(verify(&m, &der, (hm_bytes){0}, NOW, &node), HM_OK);
    hm_hex(id, node.node.b, HM_HASH_BYTES);
    assert_true(handshake_named(meshy, s, id, NULL, NULL));
    id[0] = id[0] == '0' ? '1' : '0';
    assert_false(handshake_named(meshy, s, id, NULL, NULL));
    assert_true(handshake_named(any, s, "server-1", key, NULL));
    assert_string_equal(key, HM_FALCON_NAME);
    assert_true(handshake_named(any, edge_only, "localhost", key, NULL));
    assert_string_equal(key, "EC");
    assert_false(handshake_named(foreign, s, "::1", NULL, NULL));
    assert_false(handshake_named(meshy, edge_only, "::1", NULL, NULL));
    test_wall_ms = NOW + 31 * DAY;
    assert_false(handshake_named(edge, s, "localhost", NULL, NULL));
    assert_false(handshake_named(meshy, s, "server-1", NULL, NULL));
    test_wall_ms = NOW;

    SSL_CTX *contexts[] = {s, edge, meshy, any, foreign, edge_only};
    for (int i = 0; i < 6; i++)
        SSL_CTX_free(contexts[i]);
    hm_buf_free(&both);
    hm_buf_free(&chain);
    hm_buf_free(&der);
    mesh_close(&m);
    mesh_close(&other);
}

static void clients_are_refused_for_a_reason(void **state)
{
    (void)state;
    mesh m, other;
    own server, client, stranger;
    char crl_path[128];
    hm_buf crl = {0};
    long found;
    SSL_CTX *bad = NULL;
    mesh_open(&m, dir);
    mesh_open(&other, other_dir);
    own_make(&server, &m, "server-3");
    own_make(&client, &m, "client-3");
    own_make(&stranger, &other, "stranger-3");
    SSL_CTX *s = tls_of(true, &server, true, true, server.mesh_root, NULL);
    SSL_CTX *known = tls_of(false, &client, true, false, server.mesh_root, NULL);
    SSL_CTX *foreign = tls_of(false, &stranger, true, false, server.mesh_root, NULL);
    SSL_CTX *nobody = tls_of(false, NULL, false, false, server.mesh_root, NULL);
    SSL_CTX *edge = tls_of(false, &client, false, true, server.mesh_root, NULL);
    assert_true(handshake_named(known, s, NULL, NULL, &found));
    assert_int_equal(found, X509_V_OK);
    assert_false(handshake(nobody, s));
    assert_false(handshake(edge, s)); // of the other family
    assert_false(handshake_named(foreign, s, NULL, NULL, &found));
    assert_int_equal(found, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);

    // Revoked, once the server has the list.
    snprintf(crl_path, sizeof crl_path, "%s/mesh.crl", base);
    assert_int_equal(tc_revoke(m.a, &client.node.serial, 1, NOW), HM_OK);
    assert_int_equal(tc_authority_crl(m.a, TC_MESH, NOW, &crl), HM_OK);
    assert_int_equal(hm_file_write(crl_path, hm_buf_bytes(&crl), 0644), HM_OK);
    assert_true(handshake(known, s));
    SSL_CTX *s2 = tls_of(true, &server, true, false, server.mesh_root, crl_path);
    assert_false(handshake_named(known, s2, NULL, NULL, &found));
    assert_int_equal(found, X509_V_ERR_CERT_REVOKED);
    // With a list that is too old nobody is believed.
    test_wall_ms = NOW + (TC_CRL_DAYS + 1) * DAY;
    assert_false(handshake_named(known, s2, NULL, NULL, &found));
    assert_int_equal(found, X509_V_ERR_CRL_HAS_EXPIRED);
    test_wall_ms = NOW;

    // What cannot be used is said at the start.
    tc_tls_config cfg = {.is_server = true, .clock = &clock_of_test, .groups = "NOSUCHGROUP"};
    assert_int_equal(tc_tls(&cfg, &bad), HM_E_CONFIG);
    cfg.groups = NULL;
    cfg.roots_path = server.node_key;
    assert_int_equal(tc_tls(&cfg, &bad), HM_E_CONFIG);
    cfg.roots_path = server.mesh_root;
    cfg.crl_path = server.mesh_root;
    assert_int_equal(tc_tls(&cfg, &bad), HM_E_CONFIG);
    cfg.crl_path = NULL;
    cfg.ids[0].cert_path = server.node_cert;
    cfg.ids[0].key_path = client.node_key;
    assert_int_equal(tc_tls(&cfg, &bad), HM_E_CONFIG);
    cfg.ids[0].key_path = server.node_key;
    assert_int_equal(chmod(server.node_key, 0640), 0);
    assert_int_equal(tc_tls(&cfg, &bad), HM_E_CONFIG);
    assert_non_null(strstr(hm_err_detail(), "chmod 600"));
    cfg.ids[0].key_path = "/nonexistent";
    assert_int_equal(tc_tls(&cfg, &bad), HM_E_CONFIG);
    assert_null(bad);

    SSL_CTX *contexts[] = {s, known, foreign, nobody, edge, s2};
    for (int i = 0; i < 6; i++)
        SSL_CTX_free(contexts[i]);
    hm_buf_free(&crl);
    mesh_close(&m);
    mesh_close(&other);
}

static void a_batch_is_issued_as_a_whole(void **state)
{
    static const char *const host[] = {"batch.test"};
    const hm_bytes wrong = hm_bytes_str("no request");
    mesh m;
    tc_issued first, second;
    hm_buf key = {0}, csr = {0}, chain = {0};
    (void)state;
    mesh_open(&m, dir);
    size_t before = tc_issued_count(m.a);
    assert_int_equal(tc_server_csr(host, 1, &key, &csr), HM_OK);
    assert_int_equal(tc_batch_begin(m.a), HM_OK);
    assert_int_equal(tc_issue_server(m.a, hm_buf_bytes(&csr), NOW, &chain, &first), HM_OK);
    assert_int_equal(tc_issue_server(m.a, wrong, NOW, &chain, NULL), HM_E_CSR);
    // A step that fails with half of its changes made takes them back, and nothing else.
    assert_int_equal(authority_begin(m.a), HM_OK);
    m.a->next.issued[TC_EDGE] += 5;
    m.a->next.tree.size += 5;
    authority_abort(m.a);
    assert_int_equal(tc_issue_server(m.a, hm_buf_bytes(&csr), NOW, &chain, &second), HM_OK);
    assert_int_equal(tc_issued_count(m.a), before); // not yet
    assert_int_equal(tc_batch_commit(m.a), HM_OK);
    assert_int_equal(tc_issued_count(m.a), before + 2);
    assert_memory_equal(&tc_issued_at(m.a, before)->serial, &first.serial, TC_SERIAL_BYTES);
    assert_memory_equal(&tc_issued_at(m.a, before + 1)->serial, &second.serial, TC_SERIAL_BYTES);
    // Without its commit, as after a crash, none of it is there.
    assert_int_equal(tc_batch_begin(m.a), HM_OK);
    assert_int_equal(tc_issue_server(m.a, hm_buf_bytes(&csr), NOW, &chain, NULL), HM_OK);
    mesh_close(&m);
    mesh_open(&m, dir); // looks whether the tree fits its records
    assert_int_equal(tc_issued_count(m.a), before + 2);
    mesh_close(&m);
    hm_buf_free_secret(&key);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_authority_is_made_once_and_whole),
        cmocka_unit_test(a_node_certificate_verifies_in_its_time_and_under_its_root_only),
        cmocka_unit_test(revocation_is_honoured_and_survives),
        cmocka_unit_test(what_was_issued_is_remembered),
        cmocka_unit_test(certificates_are_found_by_name),
        cmocka_unit_test(the_log_has_every_certificate),
        cmocka_unit_test(a_batch_is_issued_as_a_whole),
        cmocka_unit_test(requests_that_are_wrong_are_refused),
        cmocka_unit_test(server_certificates_verify_as_any_client_does),
        cmocka_unit_test(nodes_talk_only_to_nodes_of_their_mesh),
        cmocka_unit_test(servers_prove_themselves_in_the_family_that_the_client_believes),
        cmocka_unit_test(clients_are_refused_for_a_reason),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
