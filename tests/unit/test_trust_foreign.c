// Foreign roots on the ledger: proposed, approved, refused, withdrawn, over; and what they vouch
// for.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "trust_chain.h"
#include "trustchain/authority.h"

// ---- roots --------------------------------------------------------------------------------------

typedef struct foreign_root {
    EVP_PKEY *key;
    X509 *cert;
    hm_buf der;
    hm_hash id;
} foreign_root;

// Another certificate for its key when there is one.
static void root_make(foreign_root *r, uint32_t days)
{
    static uint8_t serial = 1;
    tc_foreign_root facts;
    if (!r->key)
        r->key = EVP_EC_gen("P-256");
    x509_template t = {.cn = "b root",
                       .subject_key = r->key,
                       .issuer_key = r->key,
                       .serial = {{0x40, serial++}},
                       .not_before_ms = fx.time_ms - TC_DAY_MS,
                       .not_after_ms = fx.time_ms + days * TC_DAY_MS,
                       .ca = true,
                       .path_len = 1,
                       .key_usage = "critical,keyCertSign,cRLSign"};
    X509_free(r->cert);
    hm_buf_reset(&r->der);
    OK(x509_cert_make(&t, &r->cert));
    OK(x509_cert_der(r->cert, &r->der));
    OK(tc_foreign_root_read(hm_buf_bytes(&r->der), &facts));
    r->id = facts.key_id;
}

static void root_free(foreign_root *r)
{
    EVP_PKEY_free(r->key);
    X509_free(r->cert);
    hm_buf_free(&r->der);
}

static hm_err propose_der(unsigned who, const hm_buf *der, const char *zone, const char *prefix,
                          hm_hash *id)
{
    hm_buf payload = {0};
    tc_scope scope;
    OK(tc_scope_parse(zone, prefix, &scope));
    hm_trust_foreign_encode(hm_buf_bytes(der), &scope, &payload);
    hm_err err = run(who, HM_MODULE_TRUST, HM_TRUST_FOREIGN, hm_buf_bytes(&payload), NULL, id);
    hm_buf_free(&payload);
    return err;
}

static hm_err propose(unsigned who, const foreign_root *r, const char *zone, const char *prefix,
                      hm_hash *id)
{
    return propose_der(who, &r->der, zone, prefix, id);
}

static void put_in_force(const foreign_root *r, const char *zone, const char *prefix)
{
    hm_hash id;
    assert_int_equal(propose(0, r, zone, prefix, &id), HM_OK);
    assert_int_equal(approve(1, &id), HM_OK);
    assert_int_equal(approve(2, &id), HM_OK);
}

static uint32_t in_force(hm_foreign *out)
{
    hm_foreign all[HM_TRUST_FOREIGN_MAX];
    uint32_t count = 0;
    OK(hm_trust_foreigns(hm_ledger_tip(a), now_ms, out ? out : all, &count));
    return count;
}

// Of a server's certificate right under a root, by the ledger; by may be NULL.
static hm_err vouched(const foreign_root *r, const char *name, hm_hash *by)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    hm_buf der = {0};
    hm_foreign all[HM_TRUST_FOREIGN_MAX];
    tc_foreign roots[HM_TRUST_FOREIGN_MAX];
    uint32_t count = 0;
    size_t which;
    X509 *x = NULL;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    GENERAL_NAME *n = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    ASN1_STRING_set(text, name, -1);
    GENERAL_NAME_set0_value(n, GEN_DNS, text);
    sk_GENERAL_NAME_push(names, n);
    x509_template t = {.subject_key = key,
                       .issuer = r->cert,
                       .issuer_key = r->key,
                       .serial = {{0x41}},
                       .not_before_ms = now_ms - 1000,
                       .not_after_ms = now_ms + TC_DAY_MS,
                       .names = names,
                       .key_usage = "critical,digitalSignature"};
    OK(x509_cert_make(&t, &x));
    OK(x509_cert_der(x, &der));
    const hm_bytes chain = hm_buf_bytes(&der);
    OK(hm_trust_foreigns(hm_ledger_tip(b), now_ms, all, &count));
    for (uint32_t i = 0; i < count; i++)
        roots[i] = (tc_foreign){.root = all[i].cert, .scope = all[i].scope};
    hm_err err = tc_foreign_verify(roots, count, &chain, 1,
                                   &(tc_foreign_ask){.use = TC_SERVER, .time_ms = now_ms}, &which);
    if (err == HM_OK && by)
        *by = all[which].id;
    hm_buf_free(&der);
    X509_free(x);
    EVP_PKEY_free(key);
    GENERAL_NAMES_free(names);
    return err;
}

// ---- tests --------------------------------------------------------------------------------------

static void test_life(void **state)
{
    (void)state;
    chain_open("life");
    hm_foreign now[HM_TRUST_FOREIGN_MAX];
    foreign_root b_root = {0}, c_root = {0};
    hm_hash id, again, by;
    hm_proposal p;
    root_make(&b_root, 100);
    root_make(&c_root, 20); // within the lives of the members' certificates
    assert_int_equal(in_force(now), 0);
    assert_int_equal(vouched(&b_root, "www.b.example", NULL), HM_E_CERT_UNTRUSTED);

    // Three of four are more than two thirds; two are not.
    assert_int_equal(propose(0, &b_root, "b.example", "2001:db8:b::/48", &id), HM_OK);
    assert_int_equal(propose(1, &b_root, "b.example", "2001:db8:b::/48", NULL), HM_E_OP_DUPLICATE);
    assert_int_equal(approve(1, &id), HM_OK);
    assert_int_equal(approve(1, &id), HM_E_OP_DUPLICATE);
    OK(hm_trust_proposal(hm_ledger_tip(b), &id, now_ms, &p));
    assert_int_equal(p.what, HM_TRUST_FOREIGN_ADD);
    assert_string_equal(p.scope.zone, "b.example");
    assert_true(hm_bytes_eq(p.cert, hm_buf_bytes(&b_root.der)));
    assert_memory_equal(p.authority.b, b_root.id.b, 32);
    assert_int_equal(in_force(now), 0);
    assert_int_equal(vouched(&b_root, "www.b.example", NULL), HM_E_CERT_UNTRUSTED);
    assert_int_equal(approve(2, &id), HM_OK);
    assert_int_equal(in_force(now), 1);
    assert_memory_equal(now[0].id.b, b_root.id.b, 32);
    assert_int_equal(now[0].since_height, hm_ledger_height(a));
    assert_int_equal(now[0].scope.bits, 48);

    // It vouches for its zone, and not for ours or another's.
    assert_int_equal(vouched(&b_root, "www.b.example", &by), HM_OK);
    assert_memory_equal(by.b, b_root.id.b, 32);
    assert_int_equal(vouched(&b_root, "www.test.internal", NULL), HM_E_CERT_PROFILE);
    assert_int_equal(vouched(&b_root, "www.c.example", NULL), HM_E_CERT_PROFILE);
    assert_int_equal(vouched(&c_root, "www.b.example", NULL), HM_E_CERT_UNTRUSTED);
    put_in_force(&c_root, "c.example", NULL);
    assert_int_equal(in_force(now), 2);
    assert_int_equal(vouched(&c_root, "www.c.example", &by), HM_OK);
    assert_memory_equal(by.b, c_root.id.b, 32);
    assert_int_equal(vouched(&b_root, "www.c.example", NULL), HM_E_CERT_PROFILE);
    assert_int_equal(vouched(&c_root, "www.b.example", NULL), HM_E_CERT_PROFILE);

    // A new certificate for the key takes the place of the old one, with what it is for.
    assert_int_equal(propose(0, &b_root, "b.example", "2001:db8:b::/48", NULL), HM_E_OP_DUPLICATE);
    root_make(&b_root, 200);
    put_in_force(&b_root, "b2.example", NULL);
    assert_int_equal(in_force(now), 2);
    assert_int_equal(vouched(&b_root, "www.b2.example", NULL), HM_OK);
    assert_int_equal(vouched(&b_root, "www.b.example", NULL), HM_E_CERT_PROFILE);

    // Withdrawn by as many, and proposed again.
    assert_int_equal(withdraw(0, &b_root.id), HM_OK);
    assert_int_equal(withdraw(0, &b_root.id), HM_E_OP_DUPLICATE);
    assert_int_equal(withdraw(1, &b_root.id), HM_OK);
    assert_int_equal(vouched(&b_root, "www.b2.example", NULL), HM_OK);
    assert_int_equal(withdraw(3, &b_root.id), HM_OK);
    assert_int_equal(in_force(now), 1);
    assert_int_equal(vouched(&b_root, "www.b2.example", NULL), HM_E_CERT_UNTRUSTED);
    assert_int_equal(withdraw(0, &b_root.id), HM_E_OP_STATE);
    put_in_force(&b_root, "b.example", NULL);
    assert_int_equal(vouched(&b_root, "www.b.example", NULL), HM_OK);

    // One's own proposal, and another member's.
    assert_int_equal(propose(0, &c_root, "c.example", "2001:db8:c::/48", &again), HM_OK);
    assert_int_equal(withdraw(1, &again), HM_E_OP_RIGHT);
    assert_int_equal(withdraw(0, &again), HM_OK);
    assert_int_equal(approve(1, &again), HM_E_OP_STATE);
    assert_int_equal(in_force(now), 2);

    // It ends with its certificate, and what is left of it goes with the next: the same zone is
    // another's then, also by a clock that is behind.
    uint64_t until = 0;
    for (int i = 0; i < 2; i++)
        if (hm_hash_eq(&now[i].id, &c_root.id))
            until = now[i].not_after_ms;
    now_ms = until - 5000;
    assert_int_equal(vouched(&c_root, "www.c.example", NULL), HM_OK);
    now_ms = until + 1000;
    assert_int_equal(in_force(now), 1);
    assert_int_equal(vouched(&c_root, "www.c.example", NULL), HM_E_CERT_UNTRUSTED);
    foreign_root d_root = {0};
    root_make(&d_root, 300);
    put_in_force(&d_root, "c.example", NULL);
    uint32_t count;
    OK(hm_trust_foreigns(hm_ledger_tip(a), until - 1000, now, &count));
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++)
        assert_false(hm_hash_eq(&now[i].id, &c_root.id));
    root_free(&b_root);
    root_free(&c_root);
    root_free(&d_root);
    chain_close();
}

// What may not be proposed: roots, zones and prefixes that meet others, payloads.
static void test_refused(void **state)
{
    (void)state;
    chain_open("refused");
    foreign_root b_root = {0}, c_root = {0};
    hm_buf der = {0}, payload = {0}, csr = {0}, pem = {0};
    hm_hash id;
    root_make(&b_root, 100);
    root_make(&c_root, 100);

    // Ours, and above and below it.
    assert_int_equal(propose(0, &b_root, "test.internal", NULL, NULL), HM_E_OP_STATE);
    assert_int_equal(propose(0, &b_root, "x.test.internal", NULL, NULL), HM_E_OP_STATE);
    assert_int_equal(propose(0, &b_root, NULL, "fd48:4d00::/32", NULL), HM_E_OP_STATE);
    assert_int_equal(propose(0, &b_root, "b.example", "fd48:4d00:1::/48", NULL), HM_E_OP_STATE);
    // Another's.
    put_in_force(&c_root, "c.example", "2001:db8:c::/48");
    assert_int_equal(propose(0, &b_root, "c.example", NULL, NULL), HM_E_OP_STATE);
    assert_int_equal(propose(0, &b_root, "x.c.example", NULL, NULL), HM_E_OP_STATE);
    assert_int_equal(propose(0, &b_root, "b.example", "2001:db8::/32", NULL), HM_E_OP_STATE);
    assert_int_equal(propose(0, &b_root, NULL, "2001:db8:c:1::/64", NULL), HM_E_OP_STATE);
    // Seen again when it is decided.
    foreign_root d_root = {0};
    root_make(&d_root, 100);
    assert_int_equal(propose(3, &d_root, "b.example", NULL, &id), HM_OK);
    assert_int_equal(approve(1, &id), HM_OK);
    put_in_force(&b_root, "x.b.example", NULL);
    assert_int_equal(approve(2, &id), HM_E_OP_STATE);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(withdraw(i, &b_root.id), HM_OK);
    assert_int_equal(approve(2, &id), HM_OK);
    assert_int_equal(in_force(NULL), 2);

    // Our own root, an authority of ours, a member's certificate, another root's issuing CA, no
    // root.
    OK(tc_pem_to_der(tc_authority_root(fx.authority, TC_MESH), &der));
    assert_int_equal(propose_der(0, &der, "e.example", NULL, NULL), HM_E_OP_STATE);
    hm_buf_reset(&der);
    OK(tc_pem_to_der(tc_authority_issuing(fx.authority, TC_MESH), &der));
    assert_int_equal(propose_der(0, &der, "e.example", NULL, NULL), HM_E_CERT_PROFILE);
    hm_buf_reset(&der);
    OK(tc_pem_to_der(hm_buf_bytes(&fx.chains[0]), &der));
    assert_int_equal(propose_der(0, &der, "e.example", NULL, NULL), HM_E_CERT_PROFILE);
    hm_buf_reset(&der);
    hm_buf_puts(&der, "no certificate");
    assert_int_equal(propose_der(0, &der, "e.example", NULL, NULL), HM_E_PARSE);
    foreign_root over = {0};
    root_make(&over, 0);
    now_ms = fx.time_ms + 10000;
    assert_int_equal(propose(0, &over, "e.example", NULL, NULL), HM_E_CERT_EXPIRED);
    // The issuing key of the genesis, with a certificate that it signed itself.
    char dir[160];
    EVP_PKEY *ours = NULL;
    snprintf(dir, sizeof dir, "%s/authority", fx.dir);
    OK(authority_key_file(dir, "mesh", "ca.key", &ours));
    foreign_root mine = {.key = ours};
    root_make(&mine, 100);
    assert_int_equal(propose(0, &mine, "e.example", NULL, NULL), HM_E_OP_STATE);

    // One value, one encoding; and scopes that tc_scope_parse() never gives.
    static const struct {
        const char *zone;
        size_t zone_len;
        uint8_t bits, prefix[16];
        size_t tail;
        hm_err want;
    } bad[] = {
        {"e.example", 9, 0, {0}, 0, HM_OK},
        {"E.example", 9, 0, {0}, 0, HM_E_OP_PAYLOAD},
        {"e.example.", 10, 0, {0}, 0, HM_E_OP_PAYLOAD},
        {"e.example\0x", 11, 0, {0}, 0, HM_E_OP_PAYLOAD},
        {"example", 7, 0, {0}, 0, HM_E_OP_PAYLOAD},
        {"", 0, 0, {0}, 0, HM_E_OP_PAYLOAD},
        {"e.example", 9, 0, {0x20}, 0, HM_E_OP_PAYLOAD},
        {"e.example", 9, 16, {0x20, 0x01}, 0, HM_E_OP_PAYLOAD},
        {"e.example", 9, 32, {0x20, 0x01, 0x0d, 0xb8, 1}, 0, HM_E_OP_PAYLOAD},
        {"e.example", 9, 200, {0x20, 0x01, 0x0d, 0xb8}, 0, HM_E_OP_PAYLOAD},
        {"e.example", 9, 0, {0}, 1, HM_E_OP_PAYLOAD},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hm_buf_reset(&payload);
        hm_wr_bytes(&payload, hm_buf_bytes(&b_root.der));
        hm_wr_bytes(&payload, hm_bytes_of(bad[i].zone, bad[i].zone_len));
        hm_wr_u8(&payload, bad[i].bits);
        hm_wr_raw(&payload, bad[i].prefix, 16);
        hm_wr_raw(&payload, "x", bad[i].tail);
        hm_err got = run(0, HM_MODULE_TRUST, HM_TRUST_FOREIGN, hm_buf_bytes(&payload), NULL, NULL);
        if (got != bad[i].want)
            fail_msg("case %zu: %s (%s)", i, hm_err_name(got), hm_err_detail());
    }
    // So many of a member, of both kinds together.
    assert_int_equal(propose(0, &b_root, "f.example", NULL, NULL), HM_OK);
    assert_int_equal(propose(0, &b_root, "g.example", NULL, NULL), HM_E_LIMIT);
    assert_int_equal(withdraw(0, &c_root.id), HM_E_LIMIT);
    root_free(&b_root);
    root_free(&c_root);
    root_free(&d_root);
    root_free(&over);
    root_free(&mine);
    hm_buf *all[] = {&der, &payload, &csr, &pem};
    for (size_t i = 0; i < 4; i++)
        hm_buf_free(all[i]);
    chain_close();
}

// The key of a foreign root is none of an authority, whichever was there first.
static void test_one_key(void **state)
{
    (void)state;
    chain_open("key");
    hm_buf issuing = {0}, payload = {0};
    tc_authority *next;
    EVP_PKEY *key = NULL;
    char dir[160];
    mesh_fixture_authority(&fx, "same-key", &(fixture_issuing){0}, &next, &issuing);
    snprintf(dir, sizeof dir, "%s/same-key", fx.dir);
    OK(authority_key_file(dir, "mesh", "ca.key", &key));
    foreign_root r = {.key = key};
    root_make(&r, 100);
    put_in_force(&r, "b.example", NULL);
    hm_trust_propose_encode(hm_buf_bytes(&issuing), &payload);
    assert_int_equal(run(0, HM_MODULE_TRUST, HM_TRUST_PROPOSE, hm_buf_bytes(&payload), NULL, NULL),
                     HM_E_OP_STATE);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(withdraw(i, &r.id), HM_OK);
    hm_hash id;
    assert_int_equal(run(0, HM_MODULE_TRUST, HM_TRUST_PROPOSE, hm_buf_bytes(&payload), NULL, &id),
                     HM_OK);
    assert_int_equal(approve(1, &id), HM_OK);
    assert_int_equal(approve(2, &id), HM_OK);
    assert_int_equal(propose(0, &r, "b.example", NULL, NULL), HM_E_OP_STATE);
    // Nor once that authority was withdrawn.
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(withdraw(i, &r.id), HM_OK);
    assert_int_equal(propose(0, &r, "b.example", NULL, NULL), HM_E_OP_STATE);
    root_free(&r);
    tc_authority_close(next);
    hm_buf_free(&issuing);
    hm_buf_free(&payload);
    chain_close();
}

// As many as there may be, also when two proposals come to their ends together.
static void test_limit(void **state)
{
    (void)state;
    chain_open("limit");
    foreign_root roots[HM_TRUST_FOREIGN_MAX + 1] = {0};
    char zone[32];
    hm_hash ids[2];
    for (unsigned i = 0; i <= HM_TRUST_FOREIGN_MAX; i++) {
        root_make(&roots[i], 100);
        snprintf(zone, sizeof zone, "z%u.example", i);
        if (i < HM_TRUST_FOREIGN_MAX - 1) {
            put_in_force(&roots[i], zone, NULL);
            continue;
        }
        unsigned at = i - (HM_TRUST_FOREIGN_MAX - 1);
        assert_int_equal(propose(at, &roots[i], zone, NULL, &ids[at]), HM_OK);
        assert_int_equal(approve(3, &ids[at]), HM_OK);
    }
    assert_int_equal(approve(2, &ids[0]), HM_OK);
    assert_int_equal(in_force(NULL), HM_TRUST_FOREIGN_MAX);
    assert_int_equal(approve(2, &ids[1]), HM_E_OP_STATE);
    // One that is there can change still, and one of the others makes room.
    put_in_force(&roots[0], "y.example", NULL);
    assert_int_equal(in_force(NULL), HM_TRUST_FOREIGN_MAX);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(withdraw(i, &roots[1].id), HM_OK);
    assert_int_equal(approve(2, &ids[1]), HM_OK);
    assert_int_equal(in_force(NULL), HM_TRUST_FOREIGN_MAX);
    for (unsigned i = 0; i <= HM_TRUST_FOREIGN_MAX; i++)
        root_free(&roots[i]);
    chain_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_one_key),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, chain_setup, chain_teardown);
}
