// Whom the mesh believes: every rule of the trust module, on two ledgers that must agree.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mesh/node_module.h"
#include "trust_chain.h"
#include "trustchain/authority.h"
#include "trustchain/ceremony.h"

static hm_err propose(unsigned who, const hm_buf *cert, hm_hash *id)
{
    hm_buf payload = {0};
    hm_trust_propose_encode(hm_buf_bytes(cert), &payload);
    hm_err err = run(who, HM_MODULE_TRUST, HM_TRUST_PROPOSE, hm_buf_bytes(&payload), NULL, id);
    hm_buf_free(&payload);
    return err;
}

static hm_err bring(unsigned who, uint8_t kind, const hm_buf *der)
{
    hm_buf payload = {0};
    hm_hash hash = hm_sha256(hm_buf_bytes(der));
    hm_node_payload_encode(hm_buf_bytes(der), &payload);
    hm_err err = run(who, HM_MODULE_NODE, kind, hm_buf_bytes(&payload),
                     kind == HM_NODE_CERT ? &hash : NULL, NULL);
    hm_buf_free(&payload);
    return err;
}

static uint32_t in_force(hm_authority *out)
{
    uint32_t count = 0;
    OK(hm_trust_authorities(hm_ledger_tip(a), now_ms, out, &count));
    return count;
}

static hm_hash id_of(const hm_buf *issuing)
{
    tc_issuing_cert info;
    OK(tc_issuing_read(hm_buf_bytes(issuing), &info));
    return info.key_id;
}

// A certificate for a member, by an authority.
static void leaf_of(tc_authority *by, unsigned who, hm_buf *der, tc_issued *issued)
{
    char name[16];
    hm_buf csr = {0}, chain = {0};
    snprintf(name, sizeof name, "node-%u", who + 1);
    OK(tc_node_csr(fx.keys[who], name, &csr));
    OK(tc_issue_node(by, hm_buf_bytes(&csr), now_ms, &chain, issued));
    hm_buf_reset(der);
    OK(tc_pem_to_der(hm_buf_bytes(&chain), der));
    hm_buf_free(&csr);
    hm_buf_free(&chain);
}

static void put_in_force(const hm_buf *issuing)
{
    hm_hash id;
    assert_int_equal(propose(0, issuing, &id), HM_OK);
    assert_int_equal(approve(1, &id), HM_OK);
    assert_int_equal(approve(2, &id), HM_OK);
}

static bool is_good(const hm_buf *leaf)
{
    tc_node_cert c;
    return hm_trust_node_cert(hm_ledger_tip(b), hm_buf_bytes(leaf), now_ms, &c, NULL) == HM_OK;
}

// ---- tests --------------------------------------------------------------------------------------

// From the proposal of a new issuing certificate to the end of the old one.
static void test_change_of_authority(void **state)
{
    (void)state;
    chain_open("change");
    hm_authority now[HM_TRUST_AUTHORITIES_MAX], other;
    hm_buf issuing = {0}, leaf = {0}, old_leaf = {0}, crl = {0};
    tc_authority *next;
    tc_issued issued;
    hm_hash id;
    tc_node_cert c;
    mesh_fixture_authority(&fx, "next", &(fixture_issuing){0}, &next, &issuing);
    assert_int_equal(in_force(now), 1);
    hm_hash first = now[0].id, second = id_of(&issuing);
    leaf_of(next, 3, &leaf, &issued);
    leaf_of(fx.authority, 3, &old_leaf, NULL);
    assert_int_equal(bring(3, HM_NODE_CERT, &leaf), HM_E_CERT_UNTRUSTED);

    // Three of four are more than two thirds; two are not.
    assert_int_equal(propose(0, &issuing, &id), HM_OK);
    assert_int_equal(approve(1, &id), HM_OK);
    assert_int_equal(in_force(now), 1);
    assert_false(is_good(&leaf));
    hm_proposal p;
    uint64_t power, total;
    OK(hm_trust_proposal(hm_ledger_tip(b), &id, now_ms, &p));
    OK(hm_proposal_power(hm_ledger_tip(b), &p, &power, &total));
    assert_int_equal(power, 200);
    assert_int_equal(total, 400);
    assert_true(hm_proposal_has(&p, 0) && hm_proposal_has(&p, 1) && !hm_proposal_has(&p, 2));
    assert_int_equal(approve(2, &id), HM_OK);
    assert_int_equal(in_force(now), 2);
    assert_true(now[0].first && !now[1].first);
    assert_memory_equal(now[1].id.b, second.b, 32);
    assert_int_equal(now[1].since_height, hm_ledger_height(a));
    assert_int_equal(hm_trust_proposal(hm_ledger_tip(b), &id, now_ms, &p), HM_E_NOTFOUND);
    assert_int_equal(approve(3, &id), HM_E_OP_STATE);

    // Certificates of both are good, and each has its own list.
    assert_true(is_good(&leaf) && is_good(&old_leaf));
    OK(hm_trust_node_cert(hm_ledger_tip(b), hm_buf_bytes(&leaf), now_ms, &c, &other));
    assert_memory_equal(other.id.b, second.b, 32);
    assert_int_equal(bring(3, HM_NODE_CERT, &leaf), HM_OK);
    assert_int_equal(bring(3, HM_NODE_CERT, &leaf), HM_E_OP_DUPLICATE);
    OK(tc_revoke(next, &issued.serial, 1, now_ms));
    OK(tc_authority_crl(next, TC_MESH, now_ms, &crl));
    assert_int_equal(bring(0, HM_NODE_CRL, &crl), HM_OK);
    assert_int_equal(bring(0, HM_NODE_CRL, &crl), HM_E_OP_STATE);
    assert_false(is_good(&leaf));
    assert_true(is_good(&old_leaf));
    hm_hash hash = hm_sha256(hm_buf_bytes(&leaf));
    hm_member_cert mine;
    OK(hm_member_cert_find(hm_ledger_tip(b), &hash, &mine));
    assert_true(mine.revoked);
    uint64_t number;
    hm_bytes list;
    OK(hm_node_crl(hm_ledger_tip(b), &now[0], &number, &list));
    assert_int_equal(number, 0);
    OK(hm_node_crl(hm_ledger_tip(b), &now[1], &number, &list));
    assert_true(number > 0 && hm_bytes_eq(list, hm_buf_bytes(&crl)));
    hm_buf_reset(&crl);
    OK(tc_authority_crl(fx.authority, TC_MESH, now_ms, &crl));
    assert_int_equal(bring(0, HM_NODE_CRL, &crl), HM_OK);

    // The old one leaves once more than two thirds stand on the new one.
    assert_int_equal(withdraw(0, &first), HM_OK);
    assert_int_equal(withdraw(0, &first), HM_E_OP_DUPLICATE);
    assert_int_equal(withdraw(1, &first), HM_OK);
    assert_int_equal(withdraw(2, &first), HM_E_OP_STATE);
    for (unsigned i = 0; i < FIXTURE_MEMBERS; i++) {
        if (i == 3)
            assert_int_equal(withdraw(2, &first), HM_OK);
        leaf_of(next, i, &leaf, NULL);
        assert_int_equal(bring(i, HM_NODE_CERT, &leaf), HM_OK);
    }
    assert_int_equal(in_force(now), 1);
    assert_memory_equal(now[0].id.b, second.b, 32);
    assert_true(is_good(&leaf));
    assert_false(is_good(&old_leaf));
    hm_member_cert old;
    hm_hash genesis_cert;
    hm_buf der = {0};
    OK(tc_pem_to_der(hm_buf_bytes(&fx.chains[1]), &der));
    genesis_cert = hm_sha256(hm_buf_bytes(&der));
    OK(hm_member_cert_find(hm_ledger_tip(b), &genesis_cert, &old));
    assert_true(old.revoked);
    hm_buf_free(&der);

    // For good; and the last one stays.
    assert_int_equal(withdraw(0, &first), HM_E_OP_STATE);
    hm_buf genesis_issuing = {0};
    mesh_fixture_issuing(&fx, "authority", "mesh-ca.key", &(fixture_issuing){.days = 1200},
                         &genesis_issuing);
    assert_int_equal(propose(1, &genesis_issuing, NULL), HM_E_OP_STATE);
    assert_int_equal(withdraw(0, &second), HM_OK);
    assert_int_equal(withdraw(1, &second), HM_OK);
    assert_int_equal(withdraw(2, &second), HM_E_OP_STATE);
    assert_int_equal(in_force(now), 1);
    hm_buf *all[] = {&issuing, &leaf, &old_leaf, &crl, &genesis_issuing};
    for (size_t i = 0; i < 5; i++)
        hm_buf_free(all[i]);
    tc_authority_close(next);
    chain_close();
}

// What may not be put in force.
static void test_refused_certificates(void **state)
{
    (void)state;
    chain_open("refused");
    hm_buf good = {0}, der = {0};
    tc_authority *next;
    mesh_fixture_authority(&fx, "other", &(fixture_issuing){0}, &next, &good);
    const struct {
        const char *key;
        fixture_issuing like;
        hm_err want;
    } bad[] = {
        {"mesh-ca.key", {.now_ms = fx.time_ms + 86400000}, HM_E_CERT_EXPIRED}, // not yet in force
        {"mesh-ca.key", {.now_ms = fx.time_ms - 2 * TC_DAY_MS, .days = 1}, HM_E_CERT_EXPIRED},
        {"mesh-ca.key",
         {.days = TC_ISSUING_DAYS - 1},
         HM_E_OP_STATE}, // ends before the present one
        {"mesh-ca.key", {.path_len = 1}, HM_E_CERT_PROFILE},
        {"mesh-ca.key", {.key_usage = "critical,keyCertSign"}, HM_E_CERT_PROFILE},
        {"mesh-ca.key",
         {.key_usage = "critical,keyCertSign,cRLSign,digitalSignature"},
         HM_E_CERT_PROFILE},
        {"mesh-ca.key", {.constraints = ""}, HM_E_CERT_PROFILE},
        {"mesh-ca.key",
         {.constraints =
              "critical,permitted;DNS:other.internal,permitted;IP:fd48:4d00::/ffff:ffff::"},
         HM_E_CERT_PROFILE},
        {"mesh-ca.key", {.constraints = "critical,permitted;DNS:test.internal"}, HM_E_CERT_PROFILE},
        {"mesh-ca.key",
         {.constraints = "permitted;DNS:test.internal,permitted;IP:fd48:4d00::/ffff:ffff::"},
         HM_E_CERT_PROFILE},
        {"edge-ca.key", {0}, HM_E_CERT_PROFILE}, // not FALCON
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hm_buf_reset(&der);
        mesh_fixture_issuing(&fx, "other", bad[i].key, &bad[i].like, &der);
        hm_err got = propose(0, &der, NULL);
        if (got != bad[i].want)
            fail_msg("case %zu: %s (%s)", i, hm_err_name(got), hm_err_detail());
    }
    // Another mesh's root signed it.
    char dir[160];
    tc_authority *foreign;
    snprintf(dir, sizeof dir, "%s/foreign", fx.dir);
    OK(tc_authority_init(dir, "test", fx.time_ms));
    OK(tc_authority_open(dir, &foreign));
    hm_buf_reset(&der);
    OK(tc_pem_to_der(tc_authority_issuing(foreign, TC_MESH), &der));
    assert_int_equal(propose(0, &der, NULL), HM_E_CERT_UNTRUSTED);
    // The root itself, a member's certificate, the one in force, and what is none.
    hm_buf_reset(&der);
    OK(tc_pem_to_der(tc_authority_root(fx.authority, TC_MESH), &der));
    assert_int_equal(propose(0, &der, NULL), HM_E_CERT_PROFILE);
    hm_buf_reset(&der);
    OK(tc_pem_to_der(hm_buf_bytes(&fx.chains[0]), &der));
    assert_int_equal(propose(0, &der, NULL), HM_E_CERT_UNTRUSTED);
    hm_buf_reset(&der);
    OK(tc_pem_to_der(tc_authority_issuing(fx.authority, TC_MESH), &der));
    assert_int_equal(propose(0, &der, NULL), HM_E_OP_DUPLICATE);
    hm_buf_reset(&der);
    hm_buf_puts(&der, "no certificate");
    assert_int_equal(propose(0, &der, NULL), HM_E_PARSE);
    hm_buf_put(&good, hm_bytes_str("x"));
    assert_int_equal(propose(0, &good, NULL), HM_E_PARSE);
    good.len--;
    // The same key under another name.
    put_in_force(&good);
    hm_buf_reset(&der);
    mesh_fixture_issuing(&fx, "other", "mesh-ca.key",
                         &(fixture_issuing){.cn = "test mesh issuing 2", .days = 1200}, &der);
    assert_int_equal(propose(0, &der, NULL), HM_E_OP_STATE);
    tc_authority_close(foreign);
    tc_authority_close(next);
    hm_buf_free(&good);
    hm_buf_free(&der);
    chain_close();
}

// Payloads, double votes, other members' proposals, limits, time.
static void test_refused_votes(void **state)
{
    (void)state;
    chain_open("votes");
    hm_buf certs[4] = {0}, payload = {0};
    hm_hash ids[4], none = {{1}};
    hm_authority now[HM_TRUST_AUTHORITIES_MAX];
    for (int i = 0; i < 4; i++) {
        char name[16];
        tc_authority *more;
        snprintf(name, sizeof name, "more-%d", i);
        mesh_fixture_authority(&fx, name, &(fixture_issuing){0}, &more, &certs[i]);
        tc_authority_close(more);
    }
    for (uint8_t kind = HM_TRUST_PROPOSE; kind <= HM_TRUST_WITHDRAW; kind++) {
        const char *const bytes[] = {"", "\0\0\0\0", "0123456789012345678901234567890"};
        const size_t lens[] = {0, 4, 31};
        for (int i = 0; i < 3; i++)
            assert_int_equal(
                run(0, HM_MODULE_TRUST, kind, hm_bytes_of(bytes[i], lens[i]), NULL, NULL),
                HM_E_OP_PAYLOAD);
    }
    hm_trust_propose_encode(hm_buf_bytes(&certs[0]), &payload);
    hm_buf_put(&payload, hm_bytes_str("x")); // one value, one encoding
    assert_int_equal(run(0, HM_MODULE_TRUST, HM_TRUST_PROPOSE, hm_buf_bytes(&payload), NULL, NULL),
                     HM_E_OP_PAYLOAD);
    assert_int_equal(approve(0, &none), HM_E_OP_STATE);
    assert_int_equal(withdraw(0, &none), HM_E_OP_STATE);

    assert_int_equal(propose(0, &certs[0], &ids[0]), HM_OK);
    assert_int_equal(approve(0, &ids[0]), HM_E_OP_DUPLICATE);
    assert_int_equal(propose(1, &certs[0], NULL), HM_E_OP_DUPLICATE);
    assert_int_equal(approve(1, &ids[0]), HM_OK);
    assert_int_equal(approve(1, &ids[0]), HM_E_OP_DUPLICATE);
    assert_int_equal(withdraw(1, &ids[0]), HM_E_OP_RIGHT);

    // So many of a member, and no more until one of them is gone.
    assert_int_equal(propose(0, &certs[1], &ids[1]), HM_OK);
    assert_int_equal(propose(0, &certs[2], NULL), HM_E_LIMIT);
    in_force(now);
    assert_int_equal(withdraw(0, &now[0].id), HM_E_LIMIT);
    assert_int_equal(withdraw(0, &ids[1]), HM_OK);
    assert_int_equal(approve(2, &ids[1]), HM_E_OP_STATE);
    assert_int_equal(propose(0, &certs[2], &ids[2]), HM_OK);
    assert_int_equal(propose(1, &certs[3], &ids[3]), HM_OK);

    // After a week it is too late; what is left of it goes with the next.
    now_ms += HM_TRUST_OPEN_MS;
    assert_int_equal(approve(2, &ids[0]), HM_E_OP_STATE);
    assert_int_equal(in_force(now), 1);
    hm_proposal p;
    assert_int_equal(hm_trust_proposal_next(hm_ledger_tip(a), &(hm_hash){0}, now_ms, &p),
                     HM_E_NOTFOUND);
    assert_int_equal(propose(0, &certs[0], &ids[0]), HM_OK);
    OK(hm_trust_proposal_next(hm_ledger_tip(a), &(hm_hash){0}, 0, &p)); // also those that ended
    assert_memory_equal(p.id.b, ids[0].b, 32);
    assert_int_equal(hm_trust_proposal_next(hm_ledger_tip(a), &p.id, 0, &p), HM_E_NOTFOUND);
    assert_int_equal(approve(1, &ids[0]), HM_OK);
    assert_int_equal(approve(2, &ids[0]), HM_OK);
    assert_int_equal(in_force(now), 2);
    for (int i = 0; i < 4; i++)
        hm_buf_free(&certs[i]);
    hm_buf_free(&payload);
    chain_close();
}

// A new certificate for the same key takes the place of the old one, and with it certificates and
// the list go on; and an authority leaves when its certificate is over.
static void test_same_key_and_end(void **state)
{
    (void)state;
    chain_open("same");
    hm_buf issuing = {0}, renewed = {0}, leaf = {0}, crl = {0};
    hm_authority now[HM_TRUST_AUTHORITIES_MAX];
    tc_authority *next;
    tc_issued issued;
    uint64_t number;
    hm_bytes list;
    mesh_fixture_authority(&fx, "long", &(fixture_issuing){0}, &next, &issuing);
    put_in_force(&issuing);
    leaf_of(next, 1, &leaf, &issued);
    OK(tc_authority_crl(next, TC_MESH, now_ms, &crl));
    assert_int_equal(bring(1, HM_NODE_CRL, &crl), HM_OK);
    mesh_fixture_issuing(&fx, "long", "mesh-ca.key", &(fixture_issuing){.days = 1500}, &renewed);
    put_in_force(&renewed);
    assert_int_equal(in_force(now), 2);
    assert_true(hm_bytes_eq(now[1].cert, hm_buf_bytes(&renewed)));
    assert_int_equal(now[1].since_height, hm_ledger_height(a));
    OK(hm_node_crl(hm_ledger_tip(a), &now[1], &number, &list));
    assert_true(number > 0);
    assert_true(is_good(&leaf));
    assert_int_equal(bring(1, HM_NODE_CERT, &leaf), HM_OK);

    // The genesis' own, too: it stays the first.
    hm_hash first = now[0].id;
    hm_buf_reset(&renewed);
    mesh_fixture_issuing(&fx, "authority", "mesh-ca.key", &(fixture_issuing){.days = 1600},
                         &renewed);
    put_in_force(&renewed);
    assert_int_equal(in_force(now), 2);
    assert_memory_equal(now[0].id.b, first.b, 32);
    assert_true(now[0].first && hm_bytes_eq(now[0].cert, hm_buf_bytes(&renewed)));
    hm_buf_reset(&crl);
    OK(tc_authority_crl(fx.authority, TC_MESH, now_ms, &crl));
    assert_int_equal(bring(1, HM_NODE_CRL, &crl), HM_OK);

    // The other is over before it.
    uint64_t over = now[1].not_after_ms + 1;
    uint32_t count;
    OK(hm_trust_authorities(hm_ledger_tip(a), over - 1, now, &count));
    assert_int_equal(count, 2);
    OK(hm_trust_authorities(hm_ledger_tip(a), over, now, &count));
    assert_int_equal(count, 1);
    assert_true(now[0].first);
    hm_buf *all[] = {&issuing, &renewed, &leaf, &crl};
    for (size_t i = 0; i < 4; i++)
        hm_buf_free(all[i]);
    tc_authority_close(next);
    chain_close();
}

// As many as there may be, also when two proposals come to their ends together.
static void test_limit(void **state)
{
    (void)state;
    chain_open("limit");
    hm_authority now[HM_TRUST_AUTHORITIES_MAX];
    hm_buf certs[HM_TRUST_AUTHORITIES_MAX] = {0};
    hm_hash ids[2];
    for (unsigned i = 0; i < HM_TRUST_AUTHORITIES_MAX; i++) {
        char name[16];
        tc_authority *more;
        snprintf(name, sizeof name, "lim-%u", i);
        mesh_fixture_authority(&fx, name, &(fixture_issuing){0}, &more, &certs[i]);
        tc_authority_close(more);
        if (i < HM_TRUST_AUTHORITIES_MAX - 2)
            put_in_force(&certs[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(propose(i, &certs[HM_TRUST_AUTHORITIES_MAX - 2 + i], &ids[i]), HM_OK);
        assert_int_equal(approve(3, &ids[i]), HM_OK);
    }
    assert_int_equal(approve(2, &ids[0]), HM_OK);
    assert_int_equal(in_force(now), HM_TRUST_AUTHORITIES_MAX);
    assert_int_equal(approve(2, &ids[1]), HM_E_OP_STATE);
    assert_int_equal(propose(2, &certs[HM_TRUST_AUTHORITIES_MAX - 1], NULL), HM_E_OP_STATE);
    // One of the others leaves, and there is room.
    hm_hash out = id_of(&certs[0]);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(withdraw(i, &out), HM_OK);
    assert_int_equal(approve(2, &ids[1]), HM_OK);
    assert_int_equal(in_force(now), HM_TRUST_AUTHORITIES_MAX);
    for (unsigned i = 0; i < HM_TRUST_AUTHORITIES_MAX; i++)
        hm_buf_free(&certs[i]);
    chain_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_certificates), cmocka_unit_test(test_refused_votes),
        cmocka_unit_test(test_same_key_and_end),     cmocka_unit_test(test_limit),
        cmocka_unit_test(test_change_of_authority),
    };
    return cmocka_run_group_tests(tests, chain_setup, chain_teardown);
}
