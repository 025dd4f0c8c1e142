// Four running nodes in one process change their authority, while operations go on being final.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "free_port.h"
#include "mesh/node_internal.h"
#include "mesh_fixture.h"

#define NODES FIXTURE_MEMBERS
#define GUARD_US 200000000u // only to end a test that would wait for ever

static mesh_fixture fx;
static uv_loop_t loop;
static hm_node *nodes[NODES];
static bool closed[NODES];
static uint16_t ports[NODES];

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        for (uint64_t began_ = node_now_us(); !(condition); uv_run(&loop, UV_RUN_ONCE))            \
            if (node_now_us() - began_ > GUARD_US)                                                 \
                fail_msg("never came true: %s", #condition);                                       \
    } while (0)

// ---- the mesh -----------------------------------------------------------------------------------

static void write_file(unsigned i, const char *name, hm_bytes bytes)
{
    char path[200];
    snprintf(path, sizeof path, "%s/node-%u/%s", fx.dir, i, name);
    OK(hm_file_write(path, bytes, 0600));
}

static void open_node(unsigned i)
{
    char dir[120];
    snprintf(dir, sizeof dir, "%s/node-%u", fx.dir, i);
    hm_node_config cfg = {.data_dir = dir,
                          .mesh_listen = {.sin6_family = AF_INET6,
                                          .sin6_port = htons(ports[i]),
                                          .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                          .loop = &loop,
                          .upload_keep_ms = 86400000};
    closed[i] = false;
    OK(hm_node_open(&cfg, &nodes[i]));
}

static void on_closed(void *ctx)
{
    *(bool *)ctx = true;
}

static void close_node(unsigned i)
{
    hm_node_close(nodes[i], on_closed, &closed[i]);
    UNTIL(closed[i]);
    nodes[i] = NULL;
}

static void close_all(void)
{
    for (unsigned i = 0; i < NODES; i++)
        hm_node_close(nodes[i], on_closed, &closed[i]);
    for (unsigned i = 0; i < NODES; i++)
        UNTIL(closed[i]);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void open_all(void)
{
    // Long epochs: blocks come faster here than members answer for their sectors.
    mesh_fixture_options o = {
        .now_ms = node_wall_ms() - 10000, .epoch_blocks = 100000, .beacon_blocks = 1000};
    for (unsigned i = 0; i < NODES; i++)
        o.ports[i] = ports[i] = ntohs(free_port(SOCK_DGRAM).sin6_port);
    mesh_fixture_make_for(&fx, &o);
    assert_int_equal(uv_loop_init(&loop), 0);
    for (unsigned i = 0; i < NODES; i++) {
        char path[200], sector[200];
        snprintf(path, sizeof path, "%s/node-%u", fx.dir, i);
        OK(hm_dir_make(path));
        snprintf(path, sizeof path, "%s/node-%u/node.key", fx.dir, i);
        OK(hm_key_save(fx.keys[i], path));
        write_file(i, "node.crt", hm_buf_bytes(&fx.chains[i]));
        write_file(i, "genesis.bin", hm_buf_bytes(&fx.genesis));
        snprintf(path, sizeof path, "%s/node-%u/sector-0", fx.dir, i);
        snprintf(sector, sizeof sector, "%s/sector-%u", fx.dir, i);
        assert_int_equal(link(sector, path), 0);
        open_node(i);
    }
}

static unsigned peers_up(unsigned i)
{
    hm_node_status s;
    hm_node_get_status(nodes[i], &s);
    return s.peers_connected;
}

static bool all_up(void)
{
    for (unsigned i = 0; i < NODES; i++)
        if (peers_up(i) != NODES - 1)
            return false;
    return true;
}

// ---- operations that never stop -----------------------------------------------------------------

typedef struct traffic {
    bool on, out;
    unsigned final, failed;
    char why[200];
} traffic;
static traffic traffics[NODES];
static unsigned registered;

static void traffic_next(unsigned i);

static void traffic_done(void *ctx, hm_err err, const char *detail, const hm_node_receipt *r)
{
    traffic *t = ctx;
    (void)r;
    t->out = false;
    if (err == HM_OK) {
        t->final++;
    } else {
        t->failed++;
        snprintf(t->why, sizeof t->why, "%s: %s", hm_err_text(err), detail);
    }
    if (t->on)
        traffic_next((unsigned)(t - traffics));
}

static void traffic_next(unsigned i)
{
    char name[32];
    hm_buf payload = {0};
    snprintf(name, sizeof name, "asset-%u", registered++);
    hm_asset_register r = {.kind = HM_ASSET_CPU, .name = hm_bytes_str(name)};
    OK(hm_asset_register_encode(&r, &payload));
    hm_node_request req = {.module = HM_MODULE_ASSET,
                           .kind = HM_ASSET_REGISTER,
                           .payload = hm_buf_bytes(&payload),
                           .patient = true};
    traffics[i].on = traffics[i].out = true;
    OK(hm_node_submit(nodes[i], &req, traffic_done, &traffics[i]));
    hm_buf_free(&payload);
}

static void traffic_stop(unsigned i)
{
    traffics[i].on = false;
    UNTIL(!traffics[i].out);
}

// So many more of every node's operations are final.
static void more_final(unsigned count)
{
    unsigned want[NODES];
    for (unsigned i = 0; i < NODES; i++)
        want[i] = traffics[i].final + count;
    for (unsigned i = 0; i < NODES; i++)
        UNTIL(!traffics[i].on || traffics[i].final >= want[i]);
}

typedef struct answer {
    bool there;
    hm_err err;
    hm_hash op;
    char detail[200];
} answer;

static void answered(void *ctx, hm_err err, const char *detail, const hm_node_receipt *r)
{
    answer *a = ctx;
    a->there = true;
    a->err = err;
    snprintf(a->detail, sizeof a->detail, "%s", detail);
    if (r)
        a->op = r->op_id;
}

static hm_err ask(unsigned i, uint8_t module, uint8_t kind, hm_bytes payload, hm_hash *op)
{
    answer a = {0};
    hm_node_request req = {.module = module, .kind = kind, .payload = payload, .patient = true};
    OK(hm_node_submit(nodes[i], &req, answered, &a));
    UNTIL(a.there);
    if (op)
        *op = a.op;
    return a.err;
}

// What is to be approved of may be final elsewhere first.
static hm_err vote(unsigned i, uint8_t kind, const hm_hash *id)
{
    hm_proposal p;
    if (kind == HM_TRUST_APPROVE)
        UNTIL(hm_trust_proposal(hm_ledger_tip(hm_node_ledger(nodes[i])), id, node_wall_ms(), &p) ==
              HM_OK);
    return ask(i, HM_MODULE_TRUST, kind, hm_hash_bytes(id), NULL);
}

static uint32_t authorities(unsigned i, hm_authority *out)
{
    uint32_t count = 0;
    OK(hm_trust_authorities(hm_ledger_tip(hm_node_ledger(nodes[i])), node_wall_ms(), out, &count));
    return count;
}

static bool all_have(uint32_t count)
{
    hm_authority now[HM_TRUST_AUTHORITIES_MAX];
    for (unsigned i = 0; i < NODES; i++)
        if (nodes[i] && authorities(i, now) != count)
            return false;
    return true;
}

// The node has its next certificate from this authority, as a renewal brings it.
static void renew(unsigned i, tc_authority *by, tc_issued *issued)
{
    char name[16];
    hm_buf csr = {0}, chain = {0}, der = {0};
    hm_member m;
    snprintf(name, sizeof name, "node-%u", i + 1);
    OK(tc_node_csr(fx.keys[i], name, &csr));
    OK(tc_issue_node(by, hm_buf_bytes(&csr), node_wall_ms() - 5000, &chain, issued));
    OK(tc_pem_to_der(hm_buf_bytes(&chain), &der));
    hm_hash fresh = hm_sha256(hm_buf_bytes(&der));
    write_file(i, "node.crt", hm_buf_bytes(&chain));
    OK(hm_node_cert_renewed(nodes[i]));
    for (unsigned k = 0; k < NODES; k++)
        UNTIL(!nodes[k] || (hm_member_at(hm_ledger_tip(hm_node_ledger(nodes[k])), i, &m) == HM_OK &&
                            hm_hash_eq(&m.cert, &fresh)));
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    hm_buf_free(&der);
}

static void chain_for(unsigned i, tc_authority *by)
{
    char name[16];
    hm_buf csr = {0}, chain = {0};
    snprintf(name, sizeof name, "node-%u", i + 1);
    OK(tc_node_csr(fx.keys[i], name, &csr));
    OK(tc_issue_node(by, hm_buf_bytes(&csr), node_wall_ms() - 5000, &chain, NULL));
    write_file(i, "node.crt", hm_buf_bytes(&chain));
    hm_buf_free(&csr);
    hm_buf_free(&chain);
}

static unsigned refused(unsigned i)
{
    return (unsigned)nodes[i]->counts[COUNT_REFUSED_PEER];
}

static void bring_list(tc_authority *by)
{
    hm_buf crl = {0}, payload = {0};
    OK(tc_authority_crl(by, TC_MESH, node_wall_ms(), &crl));
    hm_node_payload_encode(hm_buf_bytes(&crl), &payload);
    assert_int_equal(ask(0, HM_MODULE_NODE, HM_NODE_CRL, hm_buf_bytes(&payload), NULL), HM_OK);
    hm_buf_free(&crl);
    hm_buf_free(&payload);
}

// ---- the test -----------------------------------------------------------------------------------

static void test_change_under_way(void **state)
{
    (void)state;
    hm_authority now[HM_TRUST_AUTHORITIES_MAX];
    hm_buf issuing = {0}, payload = {0};
    tc_authority *next;
    tc_issued issued;
    hm_hash proposal, first;
    open_all();
    mesh_fixture_authority(&fx, "next", &(fixture_issuing){0}, &next, &issuing);
    for (unsigned i = 0; i < NODES; i++)
        traffic_next(i);
    more_final(2);
    assert_int_equal(authorities(0, now), 1);
    first = now[0].id;

    // In force with three of four, everywhere.
    hm_trust_propose_encode(hm_buf_bytes(&issuing), &payload);
    assert_int_equal(ask(0, HM_MODULE_TRUST, HM_TRUST_PROPOSE, hm_buf_bytes(&payload), &proposal),
                     HM_OK);
    assert_int_equal(vote(1, HM_TRUST_APPROVE, &proposal), HM_OK);
    assert_int_equal(authorities(1, now), 1);
    assert_int_equal(vote(2, HM_TRUST_APPROVE, &proposal), HM_OK);
    UNTIL(all_have(2));
    more_final(2);

    // One after another renews by the new key, and shows the certificate to the others: it comes
    // back from a restart with it, while they run on.
    UNTIL(all_up());
    renew(3, next, NULL);
    traffic_stop(3);
    close_node(3);
    more_final(2);
    open_node(3);
    UNTIL(all_up());
    traffic_next(3);
    more_final(2);
    for (unsigned i = 0; i < NODES; i++)
        assert_int_equal(refused(i), 0);
    renew(0, next, NULL);
    assert_int_equal(vote(0, HM_TRUST_WITHDRAW, &first), HM_OK);
    assert_int_equal(vote(1, HM_TRUST_WITHDRAW, &first), HM_OK);
    assert_int_equal(vote(3, HM_TRUST_WITHDRAW, &first), HM_E_OP_STATE); // two of four so far
    renew(1, next, NULL);
    assert_int_equal(vote(3, HM_TRUST_WITHDRAW, &first), HM_OK);
    UNTIL(authorities(0, now) == 1 && authorities(1, now) == 1 && authorities(3, now) == 1);
    assert_false(now[0].first);

    // Node 2 alone was left behind: it is refused until it has a certificate of the new authority,
    // and the others go on without it.
    traffics[2].on = false;
    UNTIL(peers_up(0) == 2 && peers_up(1) == 2 && peers_up(3) == 2);
    more_final(2);
    UNTIL(refused(0) > 0);
    chain_for(2, next);
    OK(hm_node_cert_renewed(nodes[2]));
    UNTIL(all_up());
    UNTIL(all_have(1));
    UNTIL(!traffics[2].out);
    traffic_next(2);
    more_final(2);

    // What the new authority revokes ends at once, and the old one's word is nothing any more.
    renew(3, next, &issued);
    OK(tc_revoke(next, &issued.serial, 1, node_wall_ms()));
    traffics[3].on = false;
    bring_list(next);
    hm_buf_reset(&payload);
    hm_buf crl = {0};
    OK(tc_authority_crl(fx.authority, TC_MESH, node_wall_ms(), &crl));
    hm_node_payload_encode(hm_buf_bytes(&crl), &payload);
    assert_int_equal(ask(0, HM_MODULE_NODE, HM_NODE_CRL, hm_buf_bytes(&payload), NULL),
                     HM_E_CERT_UNTRUSTED);
    more_final(2);
    for (unsigned i = 0; i < 3; i++) {
        traffic_stop(i);
        if (i != 2 && traffics[i].failed > 0)
            fail_msg("node %u: %s", i, traffics[i].why);
    }

    // All have the same in the end.
    uint64_t height = hm_ledger_height(hm_node_ledger(nodes[0]));
    for (unsigned i = 0; i < 3; i++)
        UNTIL(hm_ledger_height(hm_node_ledger(nodes[i])) >= height);
    close_all();
    tc_authority_close(next);
    hm_buf *all[] = {&issuing, &payload, &crl};
    for (size_t i = 0; i < 3; i++)
        hm_buf_free(all[i]);
    mesh_fixture_free(&fx);
}

// Node 3 was away during all of it: when it comes back, all others show certificates of an
// authority that it never heard of. And one that the mesh did not put in force does not become one
// so.
static void test_away_meanwhile(void **state)
{
    (void)state;
    hm_authority now[HM_TRUST_AUTHORITIES_MAX];
    hm_buf issuing = {0}, rogue_issuing = {0}, payload = {0};
    tc_authority *next, *rogue;
    hm_hash proposal, first;
    memset(traffics, 0, sizeof traffics);
    open_all();
    UNTIL(all_up());
    mesh_fixture_authority(&fx, "next", &(fixture_issuing){0}, &next, &issuing);
    authorities(0, now);
    first = now[0].id;
    close_node(3);
    hm_trust_propose_encode(hm_buf_bytes(&issuing), &payload);
    assert_int_equal(ask(0, HM_MODULE_TRUST, HM_TRUST_PROPOSE, hm_buf_bytes(&payload), &proposal),
                     HM_OK);
    assert_int_equal(vote(1, HM_TRUST_APPROVE, &proposal), HM_OK);
    assert_int_equal(vote(2, HM_TRUST_APPROVE, &proposal), HM_OK);
    UNTIL(all_have(2));
    for (unsigned i = 0; i < 3; i++)
        renew(i, next, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(vote(i, HM_TRUST_WITHDRAW, &first), HM_OK);
    UNTIL(all_have(1));
    chain_for(3, next);
    open_node(3);
    assert_int_equal(authorities(3, now), 1);
    assert_true(now[0].first);
    UNTIL(all_up() && authorities(3, now) == 1 && !now[0].first);
    UNTIL(!nodes[3]->peers[0].trial && !nodes[3]->peers[1].trial && !nodes[3]->peers[2].trial);
    UNTIL(all_up());

    close_node(3);
    mesh_fixture_authority(&fx, "rogue", &(fixture_issuing){0}, &rogue, &rogue_issuing);
    chain_for(3, rogue);
    open_node(3);
    UNTIL(refused(0) > 0 && refused(1) > 0 && refused(2) > 0);
    UNTIL(peers_up(0) == 2 && peers_up(1) == 2 && peers_up(2) == 2);
    close_all();
    tc_authority_close(next);
    tc_authority_close(rogue);
    hm_buf_free(&issuing);
    hm_buf_free(&rogue_issuing);
    hm_buf_free(&payload);
    mesh_fixture_free(&fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_change_under_way),
        cmocka_unit_test(test_away_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
