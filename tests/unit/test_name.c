// Names on the ledger: who may have one, what it may carry, when it ends.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mesh/name.h"
#include "mesh/node_module.h"
#include "mesh/proof_module.h"
#include "mesh_fixture.h"

#define TICK 100u // ms: blocks come at different times

static mesh_fixture fx;
static uint64_t nonces[FIXTURE_MEMBERS];

static hm_ledger *open_ledger(const char *name)
{
    static const hm_module *const modules[] = {&hm_module_node, &hm_module_proof, &hm_module_asset,
                                               &hm_module_trust};
    static char dir[160];
    snprintf(dir, sizeof dir, "%s/%s", fx.dir, name);
    const hm_ledger_config cfg = {.dir = dir,
                                  .genesis = hm_buf_bytes(&fx.genesis),
                                  .modules = modules,
                                  .module_count = 4,
                                  .proofs = &hm_proof_rules_v1,
                                  .no_sync = true};
    hm_ledger *l = NULL;
    OK(hm_ledger_open(&cfg, &l));
    memset(nonces, 0, sizeof nonces);
    return l;
}

// The next block, at a time; the last operation's outcome is that.
static void step(hm_ledger *l, uint64_t time_ms, const hm_bytes *ops, size_t count, hm_err want)
{
    hm_buf block = {0};
    hm_view *v = NULL, *same = NULL;
    hm_err outcome[FIXTURE_MEMBERS] = {HM_OK};
    OK(hm_ledger_build(l, hm_ledger_tip(l), hm_ledger_height(l) + 1, &fx.ids[0], time_ms, ops,
                       count, outcome, &block, &v));
    if (count > 0 && outcome[count - 1] != want)
        fail_msg("height %llu: outcome %s (%s), not %s",
                 (unsigned long long)hm_ledger_height(l) + 1, hm_err_name(outcome[count - 1]),
                 hm_err_detail(), hm_err_name(want));
    OK(hm_ledger_execute(l, hm_ledger_tip(l), hm_buf_bytes(&block), &same));
    hm_view_release(same);
    OK(hm_ledger_commit(l, v, hm_bytes_str("cert")));
    hm_view_release(v);
    hm_buf_free(&block);
}

static void make_op(hm_ledger *l, unsigned who, uint8_t module, uint8_t kind, const hm_hash *asset,
                    hm_bytes payload, const hm_hash *cert, hm_buf *out)
{
    hm_op op = {.chain_id = fx.chain_id,
                .module = module,
                .kind = kind,
                .owner = fx.ids[who],
                .nonce = ++nonces[who],
                .payload = payload};
    hm_op_inputs in = {.key = fx.keys[who]};
    if (asset)
        op.asset = *asset;
    OK(hm_ledger_op_inputs(l, hm_ledger_tip(l), &fx.ids[who], module, kind, &in));
    if (cert)
        in.cert = *cert;
    OK(hm_op_finish(&op, &in, out, NULL));
}

// What members owe the mesh: at the beginning of an epoch, all answers about their sectors.
static void chores(hm_ledger *l, uint64_t time_ms)
{
    uint64_t blocks = hm_ledger_genesis(l)->params.epoch_blocks, epoch;
    hm_hash seed;
    hm_bytes ops[FIXTURE_MEMBERS];
    hm_buf bytes[FIXTURE_MEMBERS] = {0};
    size_t n = 0;
    while ((hm_ledger_height(l) + 1) % blocks == 0)
        step(l, time_ms, NULL, 0, HM_OK);
    for (unsigned who = 0; who < FIXTURE_MEMBERS; who++) {
        hm_buf answer = {0}, payload = {0};
        if (hm_proof_answer_due(hm_ledger_tip(l), &fx.ids[who], &epoch, &seed) != HM_OK)
            continue;
        OK(hm_space_answer(fx.sectors[who], &seed, &answer));
        hm_proof_answer_encode(0, epoch, hm_buf_bytes(&answer), &payload);
        make_op(l, who, HM_MODULE_PROOF, HM_PROOF_SPACE_ANSWER, NULL, hm_buf_bytes(&payload), NULL,
                &bytes[n]);
        ops[n] = hm_buf_bytes(&bytes[n]);
        n++;
        hm_buf_free(&answer);
        hm_buf_free(&payload);
    }
    if (n > 0)
        step(l, time_ms, ops, n, HM_OK);
    for (size_t i = 0; i < n; i++)
        hm_buf_free(&bytes[i]);
}

// *payload is freed.
static void operate(hm_ledger *l, uint64_t time_ms, unsigned who, uint8_t module, uint8_t kind,
                    const hm_hash *asset, hm_buf *payload, const hm_hash *cert, hm_err want)
{
    hm_buf bytes = {0};
    make_op(l, who, module, kind, asset, hm_buf_bytes(payload), cert, &bytes);
    const hm_bytes op = hm_buf_bytes(&bytes);
    step(l, time_ms, &op, 1, want);
    nonces[who] -= want != HM_OK;
    hm_buf_free(&bytes);
    hm_buf_free(payload);
    *payload = (hm_buf){0};
    if (module == HM_MODULE_ASSET)
        chores(l, time_ms);
}

static void put(hm_buf *records, uint16_t type, const char *text)
{
    hm_buf data = {0};
    OK(dns_rdata_parse(type, hm_bytes_str(text), &data));
    OK(dns_records_add(records, &(dns_record){type, 60, hm_buf_bytes(&data)}));
    hm_buf_free(&data);
}

static hm_hash enroll(hm_ledger *l, uint64_t time_ms, unsigned who, const char *name,
                      uint32_t life_s, hm_err want)
{
    hm_buf payload = {0}, records = {0};
    put(&records, DNS_TYPE_AAAA, "fd48::1");
    const hm_asset_register r = {.kind = HM_ASSET_NAME,
                                 .name = hm_bytes_str(name),
                                 .life_s = life_s,
                                 .records = hm_buf_bytes(&records)};
    OK(hm_asset_register_encode(&r, &payload));
    hm_hash id = hm_asset_id(&fx.chain_id, &fx.ids[who], nonces[who] + 1);
    operate(l, time_ms, who, HM_MODULE_ASSET, HM_ASSET_REGISTER, &id, &payload, NULL, want);
    hm_buf_free(&records);
    return id;
}

static void set(hm_ledger *l, uint64_t time_ms, unsigned who, const hm_hash *id, uint16_t type,
                const char *text, hm_err want)
{
    hm_buf payload = {0}, records = {0};
    put(&records, type, text);
    hm_name_set_records_encode(hm_buf_bytes(&records), &payload);
    operate(l, time_ms, who, HM_MODULE_ASSET, HM_ASSET_SET_RECORDS, id, &payload, NULL, want);
    hm_buf_free(&records);
}

static void renew(hm_ledger *l, uint64_t time_ms, unsigned who, const hm_hash *id, uint32_t life_s,
                  hm_err want)
{
    hm_buf payload = {0};
    hm_name_renew_encode(life_s, &payload);
    operate(l, time_ms, who, HM_MODULE_ASSET, HM_ASSET_RENEW, id, &payload, NULL, want);
}

static bool has(hm_ledger *l, const char *name, unsigned who)
{
    hm_asset a;
    hm_bytes records;
    hm_err err = hm_name_find(hm_ledger_tip(l), hm_bytes_str(name), &a, &records);
    return err == HM_OK && hm_hash_eq(&a.owner, &fx.ids[who]);
}

static void test_rules_of_names(void **state)
{
    (void)state;
    static const char *const good[] = {"www", "a.b.c", "_acme-challenge.www",
                                       "x-1", "0",     "nodes.a"};
    static const char *const bad[] = {"",    ".",  "www.",  "Www",   "-a",      "a-", "a..b",
                                      "a b", "a*", "\\065", "nodes", "x.nodes", ".a", "\xc3\xa4"};
    char longest[300];
    dns_name apex, whole;
    OK(hm_zone_apex("dev", &apex));
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        OK(hm_name_check(hm_bytes_str(good[i]), &apex, &whole));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (hm_name_check(hm_bytes_str(bad[i]), &apex, NULL) != HM_E_OP_PAYLOAD)
            fail_msg("\"%s\" is taken", bad[i]);
    memset(longest, 'a', sizeof longest);
    longest[64] = 0;
    assert_int_equal(hm_name_check(hm_bytes_str(longest), &apex, NULL), HM_E_OP_PAYLOAD);
    for (size_t i = 50; i < 250; i += 51)
        longest[i] = '.';
    longest[64] = 'a';
    longest[240] = 0; // 240 characters, 242 bytes, and 13 of the zone without its root
    OK(hm_name_check(hm_bytes_str(longest), &apex, &whole));
    assert_int_equal(whole.len, 255);
    longest[240] = 'a';
    longest[241] = 0;
    assert_int_equal(hm_name_check(hm_bytes_str(longest), &apex, NULL), HM_E_OP_PAYLOAD);
}

static void test_life_of_a_name(void **state)
{
    (void)state;
    hm_ledger *l = open_ledger("life");
    uint64_t t = fx.time_ms + 1000;
    hm_asset a;
    hm_bytes records;
    hm_buf payload = {0};
    hm_hash www = enroll(l, t, 0, "www", 3600, HM_OK);
    (void)enroll(l, t + 1 * TICK, 1, "www", 3600, HM_E_OP_STATE); // one of each in the mesh
    (void)enroll(l, t + 2 * TICK, 0, "www", 3600, HM_E_OP_STATE);
    (void)enroll(l, t + 3 * TICK, 1, "short", HM_NAME_LIFE_MIN_S - 1, HM_E_OP_PAYLOAD);
    (void)enroll(l, t + 4 * TICK, 1, "long", HM_NAME_LIFE_MAX_S + 1, HM_E_OP_PAYLOAD);
    (void)enroll(l, t + 5 * TICK, 1, "Bad", 3600, HM_E_OP_PAYLOAD);
    OK(hm_name_find(hm_ledger_tip(l), hm_bytes_str("www"), &a, &records));
    assert_int_equal(a.expires_ms, t + 3600000);
    assert_true(dns_records_have(records, DNS_TYPE_AAAA));
    assert_true(hm_name_is_published(&a, t + 3599999) && !hm_name_is_published(&a, t + 3600000));

    // Below another's name nobody registers, and below none neither.
    (void)enroll(l, t + 6 * TICK, 1, "a.www", 3600, HM_E_OP_RIGHT);
    (void)enroll(l, t + 7 * TICK, 0, "a.nobody", 3600, HM_E_OP_STATE);
    hm_hash below = enroll(l, t + 8 * TICK, 0, "a.b.www", 3600, HM_OK);

    set(l, t + 9 * TICK, 1, &www, DNS_TYPE_TXT, "mine", HM_E_OP_RIGHT);
    set(l, t + 10 * TICK, 0, &www, DNS_TYPE_TXT, "mine", HM_OK);
    OK(hm_name_find(hm_ledger_tip(l), hm_bytes_str("www"), &a, &records));
    assert_true(dns_records_have(records, DNS_TYPE_TXT) &&
                !dns_records_have(records, DNS_TYPE_AAAA));
    set(l, t + 11 * TICK, 0, &below, DNS_TYPE_NS, "ns.example.net", HM_OK); // delegated
    (void)enroll(l, t + 12 * TICK, 0, "x.a.b.www", 3600, HM_E_OP_STATE);
    set(l, t + 13 * TICK, 0, &www, DNS_TYPE_NS, "ns.www.mesh.internal", HM_OK); // another zone's

    // Its owner alone transfers it; then the new one has it.
    hm_asset_transfer_encode(&fx.ids[2], &payload);
    operate(l, t + 14 * TICK, 0, HM_MODULE_ASSET, HM_ASSET_TRANSFER, &www, &payload, NULL, HM_OK);
    assert_true(has(l, "www", 2));
    set(l, t + 15 * TICK, 0, &www, DNS_TYPE_TXT, "late", HM_E_OP_RIGHT);
    renew(l, t + 16 * TICK, 2, &www, 3500, HM_E_OP_STATE);
    renew(l, t + 17 * TICK, 2, &www, 7200, HM_OK);
    OK(hm_asset_get(hm_ledger_tip(l), &www, &a));
    assert_int_equal(a.expires_ms, t + 17 * TICK + 7200000);

    // A retired name is free at once.
    operate(l, t + 18 * TICK, 2, HM_MODULE_ASSET, HM_ASSET_RETIRE, &www, &payload, NULL, HM_OK);
    assert_int_equal(hm_name_find(hm_ledger_tip(l), hm_bytes_str("www"), &a, NULL), HM_E_NOTFOUND);
    (void)enroll(l, t + 19 * TICK, 1, "www", 3600, HM_OK);
    assert_true(has(l, "www", 1));
    hm_ledger_close(l);
}

static hm_hash new_certificate(hm_ledger *l, unsigned who, uint64_t now_ms)
{
    hm_buf csr = {0}, chain = {0}, der = {0}, payload = {0};
    OK(tc_node_csr(fx.keys[who], "node", &csr));
    OK(tc_issue_node(fx.authority, hm_buf_bytes(&csr), now_ms - 1000, &chain, NULL));
    OK(tc_pem_to_der(hm_buf_bytes(&chain), &der));
    hm_hash cert = hm_sha256(hm_buf_bytes(&der));
    hm_node_payload_encode(hm_buf_bytes(&der), &payload);
    operate(l, now_ms, who, HM_MODULE_NODE, HM_NODE_CERT, NULL, &payload, &cert, HM_OK);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    hm_buf_free(&der);
    return cert;
}

// After its end a name is its owner's to renew for a while; then it is anybody's.
static void test_the_end_of_a_name(void **state)
{
    (void)state;
    hm_ledger *l = open_ledger("end");
    uint64_t t = fx.time_ms + 1000, end = t + 3600000;
    hm_asset a;
    hm_hash first = enroll(l, t, 0, "one", 3600, HM_OK);
    hm_hash second = enroll(l, t, 0, "two", 3600, HM_OK);
    set(l, end, 0, &first, DNS_TYPE_TXT, "late", HM_E_OP_STATE);
    (void)enroll(l, end + 1 * TICK, 1, "one", 3600, HM_E_OP_STATE);
    renew(l, end + 2 * TICK, 1, &first, 3600, HM_E_OP_RIGHT);
    renew(l, end + 3 * TICK, 0, &first, 3600, HM_OK);
    set(l, end + 4 * TICK, 0, &first, DNS_TYPE_TXT, "again", HM_OK);
    uint64_t over = t + 2 * TICK + 3600000 + HM_NAME_GRACE_MS;
    (void)new_certificate(l, 1, over);
    (void)enroll(l, over + 1 * TICK, 1, "two", 3600, HM_OK);
    assert_true(has(l, "two", 1));
    OK(hm_asset_get(hm_ledger_tip(l), &second, &a));
    assert_int_equal(a.state, HM_ASSET_RETIRED);
    renew(l, over + 2 * TICK, 1, &second, 7200, HM_E_OP_STATE);
    // One's own, too.
    (void)new_certificate(l, 0, over + 3 * TICK);
    uint64_t later = end + 4 * TICK + 3600000 + HM_NAME_GRACE_MS;
    (void)enroll(l, later, 0, "one", 3600, HM_OK);
    OK(hm_asset_get(hm_ledger_tip(l), &first, &a));
    assert_int_equal(a.state, HM_ASSET_RETIRED);
    assert_true(has(l, "one", 0));
    hm_ledger_close(l);
}

static hm_err count_name(void *ctx, hm_bytes name)
{
    unsigned *counts = ctx;
    counts[name.len == 0 ? 0 : 1]++;
    return HM_OK;
}

static hm_err count_each(void *ctx, const hm_asset *a, hm_bytes records)
{
    (void)a, (void)records;
    ++*(unsigned *)ctx;
    return HM_OK;
}

static void test_keys_and_changes(void **state)
{
    (void)state;
    hm_ledger *l = open_ledger("keys");
    uint64_t t = fx.time_ms + 1000;
    uint8_t key[DNS_PUBLIC_BYTES];
    char path[160];
    unsigned counts[2] = {0}, all = 0;
    uint32_t n;
    hm_bytes got;
    hm_buf payload = {0};
    EVP_PKEY *pkey = NULL;
    hm_op_location after = {0}, newest;
    snprintf(path, sizeof path, "%s/dns.key", fx.dir);
    OK(dns_key_open(path, &pkey));
    OK(dns_key_public(pkey, key));
    EVP_PKEY_free(pkey);
    hm_buf_puts(&payload, "no key");
    operate(l, t, 3, HM_MODULE_ASSET, HM_ASSET_ZONE_KEY, NULL, &payload, NULL, HM_E_OP_PAYLOAD);
    assert_int_equal(hm_zone_key(hm_ledger_tip(l), &fx.ids[3], &got), HM_E_NOTFOUND);
    hm_zone_key_encode(key, &payload);
    operate(l, t + 1 * TICK, 3, HM_MODULE_ASSET, HM_ASSET_ZONE_KEY, NULL, &payload, NULL, HM_OK);
    OK(hm_zone_key(hm_ledger_tip(l), &fx.ids[3], &got));
    assert_true(hm_bytes_eq(got, hm_bytes_of(key, sizeof key)));
    (void)enroll(l, t + 2 * TICK, 0, "one", 3600, HM_OK);
    (void)enroll(l, t + 3 * TICK, 0, "two", 3600, HM_OK);
    OK(hm_name_changes(hm_ledger_tip(l), &after, 2, &n, count_name, counts));
    assert_int_equal(n, 2);
    OK(hm_name_changes(hm_ledger_tip(l), &after, 2, &n, count_name, counts));
    assert_int_equal(n, 1);
    assert_true(counts[0] == 1 && counts[1] == 2);
    OK(hm_name_newest(hm_ledger_tip(l), &newest));
    assert_true(newest.height == after.height && newest.height == hm_ledger_height(l));
    OK(hm_name_each(hm_ledger_tip(l), count_each, &all));
    assert_int_equal(all, 2);
    hm_ledger_close(l);
}

static int setup(void **state)
{
    (void)state;
    mesh_fixture_make(&fx);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    mesh_fixture_free(&fx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_of_names),
        cmocka_unit_test(test_life_of_a_name),
        cmocka_unit_test(test_the_end_of_a_name),
        cmocka_unit_test(test_keys_and_changes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
