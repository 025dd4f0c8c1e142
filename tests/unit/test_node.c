// A running node and those who use it, with the other members of the mesh in the test's hands.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/node_module.h"
#include "node_fixture.h"

// ---- submissions --------------------------------------------------------------------------------

// Without a quorum nothing becomes final. Who waits is told in the end that it is not known yet,
// and the operation waits on as it is.
static void test_submit_without_quorum(void **state)
{
    (void)state;
    submitted s = {0};
    hm_buf payload = {0};
    mesh_open(0, 0);
    registration("patience", &payload);
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &s);
    UNTIL(node->pending_count == 1);
    hm_bytes before, after;
    node_pending *entry;
    assert_int_equal(pool_candidates(node, &before, &entry, 1), 1);
    hm_hash id = hm_op_id(before);
    char hex[2 * HM_HASH_BYTES + 1];
    hm_hex(hex, id.b, HM_HASH_BYTES);
    for (int i = 0; i < 50; i++)
        turn();
    assert_int_equal(s.left, 1);
    entry->submit->began_us -= (uint64_t)HM_NODE_SUBMIT_WAIT_MS * 1000; // so long ago
    UNTIL(s.left == 0);
    assert_int_equal(s.err, HM_E_TIMEOUT);
    assert_non_null(strstr(s.detail, hex));
    assert_int_equal(node->submit_count, 1);
    assert_int_equal(pool_candidates(node, &after, &entry, 1), 1);
    assert_true(hm_bytes_eq(before, after));
    // It becomes final after all: nobody is told twice.
    hm_buf copy = {0}; // a block has bytes of its own
    hm_buf_put(&copy, after);
    hm_bytes ops[] = {hm_buf_bytes(&copy)};
    pool_committed(node, &(hm_block){.header = {.height = 1}, .count = 1, .ops = ops});
    hm_buf_free(&copy);
    assert_int_equal(node->submit_count, 0);
    assert_int_equal(s.left, 0);
    // One that was told of and went stale is not made anew under another id, but forgotten.
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &s);
    UNTIL(node->pending_count == 1);
    hm_node_submits_leave(node);
    assert_int_equal(s.left, 0);
    assert_int_equal(s.err, HM_E_CLOSED);
    assert_int_equal(pool_candidates(node, &after, &entry, 1), 1);
    entry->suspect = true;
    uint8_t *nonce = memmem(entry->bytes.ptr, entry->bytes.len, fx.chain_id.b, HM_HASH_BYTES);
    assert_non_null(nonce);
    nonce[0] ^= 1; // refused from here on
    hm_map_free(&node->pending_by_signed);
    pool_committed(node, &(hm_block){.header = {.height = 2}});
    assert_int_equal(node->pending_count, 0);
    assert_int_equal(node->submit_count, 0);
    hm_buf_free(&payload);
    mesh_close();
}

static void close_it(void *ctx, hm_err err, const char *detail, const hm_node_receipt *receipt)
{
    (void)err, (void)detail, (void)receipt;
    ++*(unsigned *)ctx;
    hm_node_close(node, on_node_closed, NULL);
}

// A callback may close the node, in the middle of whatever led to it.
static void test_close_within(void **state)
{
    (void)state;
    enum { COUNT = 8 };
    unsigned called = 0;
    mesh_open(0, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        hm_buf payload = {0};
        char name[16];
        snprintf(name, sizeof name, "asset-%u", i);
        registration(name, &payload);
        hm_node_request r = {.module = HM_MODULE_ASSET,
                             .kind = HM_ASSET_REGISTER,
                             .payload = hm_buf_bytes(&payload)};
        OK(hm_node_submit(node, &r, close_it, &called));
        hm_buf_free(&payload);
    }
    UNTIL(node->pending_count == COUNT);
    // All are refused when they are looked at again, one after the other.
    hm_list_each(it, &node->owners[0].pending)
    {
        node_pending *p = hm_container_of(it, node_pending, link);
        p->suspect = true;
        hm_buf_reset(&p->bytes);
    }
    node->owners[0].bytes = node->pending_bytes = 0;
    pool_committed(node, &(hm_block){.header = {.height = 1}});
    UNTIL(node_closed);
    assert_int_equal(called, COUNT);
    mesh_closed();
}

// A member one block ahead sends what is good after that block: it is no refusal, and taken as soon
// as the block is here. What is wrong even then is refused then.
static void test_early_operations(void **state)
{
    (void)state;
    hm_buf payload = {0}, reg = {0}, retire = {0}, wrong = {0}, bytes = {0};
    hm_view *v;
    hm_block block;
    mesh_open(0, 0);
    hostile_join(1);
    UNTIL(is_up(1));
    registration("early", &payload);
    hm_hash asset = hm_asset_id(&fx.chain_id, &fx.ids[1], 1);
    make_op(1, HM_ASSET_REGISTER, 1, asset, hm_buf_bytes(&payload), &reg);
    make_op(1, HM_ASSET_RETIRE, 2, asset, (hm_bytes){0}, &retire);
    make_op(1, HM_ASSET_RETIRE, 3, hm_sha256(hm_bytes_str("none")), (hm_bytes){0}, &wrong);
    say(&others[1], LANE_FAST, &(node_message){.type = MSG_STATUS, .height = 1});
    send_op(&others[1], &retire);
    send_op(&others[1], &wrong);
    UNTIL(node->owners[1].early_count == 2);
    assert_int_equal(node->counts[COUNT_REFUSED_OP], 0);
    hm_bytes ops[] = {hm_buf_bytes(&reg)};
    OK(hm_ledger_build(node->ledger, hm_ledger_tip(node->ledger), 1, &fx.ids[1], fx.time_ms + 1,
                       ops, 1, NULL, &bytes, &v));
    OK(hm_ledger_commit(node->ledger, v, hm_bytes_str("cert")));
    hm_view_release(v);
    OK(hm_block_decode(hm_buf_bytes(&bytes), &block));
    pool_committed(node, &block);
    assert_int_equal(node->owners[1].early_count, 0);
    assert_int_equal(node->counts[COUNT_REFUSED_OP], 1);
    hm_bytes kept;
    node_pending *entry;
    assert_int_equal(pool_candidates(node, &kept, &entry, 1), 1);
    assert_true(hm_bytes_eq(kept, hm_buf_bytes(&retire)));
    // However far ahead it claims to be, few of its operations are kept.
    say(&others[1], LANE_FAST, &(node_message){.type = MSG_STATUS, .height = 1000});
    for (unsigned i = 0; i < NODE_EARLY_MAX + 10; i++)
        send_op(&others[1], &wrong);
    UNTIL(node->counts[COUNT_REFUSED_OP] == 11);
    assert_int_equal(node->owners[1].early_count, NODE_EARLY_MAX);
    hm_block_free(&block);
    hm_buf *const all[] = {&payload, &reg, &retire, &wrong, &bytes};
    for (unsigned i = 0; i < 5; i++)
        hm_buf_free(all[i]);
    mesh_close();
}

// ---- the certificate ----------------------------------------------------------------------------

static hm_hash renewed;

static void renew(const char *dir)
{
    char path[200];
    hm_buf csr = {0}, chain = {0}, der = {0};
    OK(tc_node_csr(fx.keys[0], "node-1", &csr));
    OK(tc_issue_node(fx.authority, hm_buf_bytes(&csr), node_wall_ms() - 5000, &chain, NULL));
    OK(tc_pem_to_der(hm_buf_bytes(&chain), &der));
    renewed = hm_sha256(hm_buf_bytes(&der));
    snprintf(path, sizeof path, "%s/node.crt", dir);
    OK(hm_file_write(path, hm_buf_bytes(&chain), 0600));
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    hm_buf_free(&der);
}

// A node that starts with a renewed certificate brings it to the ledger by itself, and stands on it
// from then on.
static void test_certificate_is_brought(void **state)
{
    (void)state;
    hm_member m;
    submitted s = {0};
    hm_buf payload = {0};
    mesh_before_open = renew;
    mesh_open(10000, 0); // a quorum by itself
    mesh_before_open = NULL;
    UNTIL((hm_member_at(hm_ledger_tip(node->ledger), 0, &m) == HM_OK &&
           hm_hash_eq(&m.cert, &renewed)));
    registration("after", &payload);
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &s);
    UNTIL(s.left == 0);
    assert_int_equal(s.err, HM_OK);
    assert_true(node->cert_recorded);
    hm_buf_free(&payload);
    mesh_close();
}

// ---- contents -----------------------------------------------------------------------------------

typedef struct put_result {
    bool done;
    hm_err err;
    hm_commitment commitment;
} put_result;

static void on_put(void *ctx, hm_err err, const char *detail, const hm_commitment *c)
{
    put_result *p = ctx;
    (void)detail;
    p->done = true;
    p->err = err;
    if (c != NULL)
        p->commitment = *c;
}

static void on_drained(void *ctx)
{
    (void)ctx;
}

static void put_text(const char *text, put_result *result)
{
    hm_node_put *put;
    *result = (put_result){0};
    OK(hm_node_put_begin(node, &put));
    OK(hm_node_put_write(put, hm_bytes_str(text), on_drained, NULL));
    hm_node_put_finish(put, on_put, result);
}

static unsigned manifests_stored;
static uint8_t manifest[HM_HASH_BYTES];

// Says of all that it is given that it is stored.
static void store_all(hostile *h, const node_message *m)
{
    if (m->type != MSG_CHUNK_PUT)
        return;
    manifests_stored += m->manifest;
    if (m->request != 0)
        say(h, LANE_BULK,
            &(node_message){.type = MSG_CHUNK_STORED, .request = m->request, .ok = true});
}

static void give_manifest(hostile *h, const node_message *m)
{
    if (m->type == MSG_CHUNK_GET && m->manifest)
        say(h, LANE_BULK,
            &(node_message){.type = MSG_CHUNK,
                            .request = m->request,
                            .ok = true,
                            .bytes = hm_bytes_of(manifest, sizeof manifest)});
}

static uv_sem_t gate;
static bool held[4];

static void hold(uv_work_t *w)
{
    __atomic_store_n((bool *)w->data, true, __ATOMIC_SEQ_CST);
    uv_sem_wait(&gate);
}

static void released(uv_work_t *w, int status)
{
    (void)status;
    *(bool *)w->data = false;
}

static bool all_are(bool value)
{
    for (int i = 0; i < 4; i++)
        if (__atomic_load_n(&held[i], __ATOMIC_SEQ_CST) != value)
            return false;
    return true;
}

// The node does not wait for the disk: it makes blocks while a content is being written, and says
// that it is stored when it is, here too.
static void test_slow_disk(void **state)
{
    (void)state;
    uv_work_t works[4];
    put_result result;
    mesh_open(10000, 0); // a quorum by itself
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++) {
        hostile_join(i);
        others[i].heard = store_all;
    }
    UNTIL(is_up(1) && is_up(2) && is_up(3));
    assert_int_equal(uv_sem_init(&gate, 0), 0);
    for (int i = 0; i < 4; i++) { // all threads that could write
        works[i].data = &held[i];
        assert_int_equal(uv_queue_work(&loop, &works[i], hold, released), 0);
    }
    UNTIL(all_are(true));
    put_text("slowly", &result);
    UNTIL(node->content_syncing);
    uint64_t height = hm_ledger_height(node->ledger);
    UNTIL((agree_nudge(node), hm_ledger_height(node->ledger) > height + 2));
    assert_false(result.done);
    for (int i = 0; i < 4; i++)
        uv_sem_post(&gate);
    UNTIL(result.done && all_are(false));
    assert_int_equal(result.err, HM_OK);
    uv_sem_destroy(&gate);
    mesh_close();
}

// What is uploaded and never registered is given up in the end; what an asset refers to stays, and
// has its manifest with every member.
static void test_uploads_are_given_up(void **state)
{
    (void)state;
    put_result stays, goes;
    submitted s = {0};
    hm_buf payload = {0};
    mesh_open(10000, 0);
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++) {
        hostile_join(i);
        others[i].heard = store_all;
    }
    UNTIL(is_up(1) && is_up(2) && is_up(3));
    node->upload_keep_ms = 100000000;
    manifests_stored = 0;
    put_text("stays", &stays);
    put_text("goes", &goes);
    UNTIL(stays.done && goes.done && manifests_stored >= 6);
    assert_int_equal(stays.err, HM_OK);
    hm_asset_register r = {.kind = HM_ASSET_DATA,
                           .name = hm_bytes_str("data"),
                           .has_content = true,
                           .content = stays.commitment};
    OK(hm_asset_register_encode(&r, &payload));
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &s);
    UNTIL(s.left == 0);
    assert_int_equal(s.err, HM_OK);
    hm_hash kept = hm_sha256(hm_bytes_str("stays")), lost = hm_sha256(hm_bytes_str("goes"));
    UNTIL(hm_content_is_kept(node->content, &kept) && !node->content_syncing);
    assert_false(hm_content_is_kept(node->content, &lost));
    node->collect_at_us = 0;
    for (int i = 0; i < 100; i++)
        turn();
    assert_true(hm_content_has(node->content, &lost));
    node->upload_keep_ms = 0; // its time is over
    UNTIL((node->collect_at_us = 0, !hm_content_has(node->content, &lost)));
    assert_true(hm_content_has(node->content, &kept));
    assert_true(hm_content_has_manifest(node->content, &stays.commitment.root));
    assert_false(hm_content_has_manifest(node->content, &goes.commitment.root));
    hm_buf_free(&payload);
    mesh_close();
}

// A manifest that did not come with its content is asked for.
static void test_manifest_is_fetched(void **state)
{
    (void)state;
    submitted s = {0};
    hm_buf payload = {0};
    hm_commitment com;
    hm_hash h = hm_sha256(hm_bytes_str("elsewhere"));
    memcpy(manifest, h.b, sizeof manifest);
    OK(hm_manifest_commit(hm_bytes_of(manifest, sizeof manifest), 9, 4096, &com));
    mesh_open(10000, 0);
    hostile_join(2);
    others[2].heard = give_manifest;
    UNTIL(is_up(2));
    hm_asset_register r = {
        .kind = HM_ASSET_DATA, .name = hm_bytes_str("data"), .has_content = true, .content = com};
    OK(hm_asset_register_encode(&r, &payload));
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &s);
    UNTIL(s.left == 0);
    assert_int_equal(s.err, HM_OK);
    UNTIL((node->wanted_at_us = 0, hm_content_is_kept(node->content, &h)));
    assert_true(hm_content_has_manifest(node->content, &com.root));
    hm_buf_free(&payload);
    mesh_close();
}

static unsigned given, not_given, repaired;

static void count_chunks(hostile *h, const node_message *m)
{
    given += m->type == MSG_CHUNK && m->ok;
    not_given += m->type == MSG_CHUNK && !m->ok;
    repaired += m->type == MSG_CHUNK_PUT && m->request == 0;
    store_all(h, m);
    if (m->type == MSG_HAVE_GET) // "I lack all that you offer, and these"
        say(h, LANE_BULK,
            &(node_message){
                .type = MSG_HAVE, .count = 1, .list = hm_bytes_of(manifest, HM_HASH_BYTES)});
}

// Is the chunk given to a member who asks for it as a part of an asset?
static bool is_given(unsigned to, const hm_hash *chunk, const hm_hash *asset, uint32_t index)
{
    unsigned before = given, answers = given + not_given;
    say(&others[to], LANE_BULK,
        &(node_message){
            .type = MSG_CHUNK_GET, .request = 9, .hash = *chunk, .asset = *asset, .index = index});
    UNTIL(given + not_given > answers);
    return given > before;
}

static hm_hash register_content(const char *name, const hm_commitment *content, bool is_public)
{
    submitted s = {0};
    hm_buf payload = {0};
    hm_asset a;
    hm_asset_register r = {.kind = HM_ASSET_DATA,
                           .name = hm_bytes_str(name),
                           .policy.is_public = is_public,
                           .has_content = true,
                           .content = *content};
    OK(hm_asset_register_encode(&r, &payload));
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &s);
    UNTIL(s.left == 0);
    assert_int_equal(s.err, HM_OK);
    hm_buf_free(&payload);
    OK(hm_asset_find(hm_ledger_tip(node->ledger), &fx.ids[0], r.name, &a));
    return a.id;
}

// The member that need not hold a chunk, 0 being the node.
static unsigned left_over(const hm_hash *chunk)
{
    uint32_t order[FIXTURE_MEMBERS];
    hm_placement(chunk, fx.ids, FIXTURE_MEMBERS, order);
    return order[FIXTURE_MEMBERS - 1];
}

// A private content is given to those who should hold it and to those who may read it, and to
// nobody else, whatever they call it.
static void test_read_rights(void **state)
{
    (void)state;
    put_result secret, open;
    submitted s = {0};
    hm_buf payload = {0};
    char text[32];
    hm_hash chunk;
    unsigned reader, tries = 0;
    mesh_open(10000, 0);
    do {
        snprintf(text, sizeof text, "secret %u", tries++);
        chunk = hm_sha256(hm_bytes_str(text));
        reader = left_over(&chunk);
    } while (reader == 0);
    unsigned holder = reader == 1 ? 2 : 1;
    memcpy(manifest, chunk.b, sizeof manifest);
    repaired = 0;
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++) {
        hostile_join(i);
        others[i].heard = count_chunks;
    }
    UNTIL(is_up(1) && is_up(2) && is_up(3));
    put_text(text, &secret);
    put_text("open", &open);
    UNTIL(secret.done && open.done);
    hm_hash private_one = register_content("secret", &secret.commitment, false);
    hm_hash public_one = register_content("open", &open.commitment, true);
    hm_hash open_chunk = hm_sha256(hm_bytes_str("open"));
    uint64_t refused = node->counts[COUNT_REFUSED_MESSAGE];
    assert_true(is_given(holder, &chunk, &private_one, 0));
    assert_false(is_given(reader, &chunk, &private_one, 0));
    assert_false(is_given(reader, &chunk, &public_one, 0)); // it is not a part of that one
    assert_int_equal(node->counts[COUNT_REFUSED_MESSAGE], refused + 2);
    assert_false(is_given(reader, &chunk, &private_one, 1)); // there is none
    assert_false(is_given(reader, &chunk, &(hm_hash){0}, 0));
    assert_int_equal(node->counts[COUNT_REFUSED_MESSAGE], refused + 2);
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++)
        assert_true(is_given(i, &open_chunk, &public_one, 0));
    // Nor by saying that it lacks it.
    node->peers[reader].offer_at_us = 0;
    UNTIL(node->peers[reader].offer_at_us != 0 && !node->peers[reader].offering);
    assert_int_equal(repaired, 0);
    hm_asset_policy p = {.grant_count = 1, .grants = {{fx.ids[reader], HM_RIGHT_READ}}};
    OK(hm_asset_set_policy_encode(&p, &payload));
    submit(HM_ASSET_SET_POLICY, &private_one, hm_buf_bytes(&payload), &s);
    UNTIL(s.left == 0);
    assert_int_equal(s.err, HM_OK);
    assert_true(is_given(reader, &chunk, &private_one, 0));
    hm_buf_free(&payload);
    mesh_close();
}

static const uint8_t told[] = "told";

// Answers what was not asked, and then what was.
static void answer_beside(hostile *h, const node_message *m)
{
    const node_message chunk = {.type = MSG_CHUNK,
                                .request = m->request,
                                .ok = true,
                                .bytes = m->type == MSG_CHUNK_PUT ? m->bytes
                                         : m->manifest ? hm_bytes_of(manifest, sizeof manifest)
                                                       : hm_bytes_of(told, sizeof told)};
    node_message stored = {.type = MSG_CHUNK_STORED, .request = m->request};
    if (m->type == MSG_CHUNK_PUT) {
        say(h, LANE_BULK, &chunk);
        say(h, LANE_BULK, &stored);
    } else if (m->type == MSG_CHUNK_GET) {
        stored.ok = true;
        say(h, LANE_BULK, &stored);
        say(h, LANE_BULK, &chunk);
    }
}

typedef struct get_result {
    bool done;
    hm_err err;
} get_result;

static void on_get(void *ctx, hm_err err, const char *detail, hm_bytes chunk, bool last)
{
    get_result *g = ctx;
    (void)detail, (void)chunk, (void)last;
    g->done = true;
    g->err = err;
}

// An answer to another question than was asked is none: a chunk given back is not a chunk stored,
// and "stored" does not end the wait for one.
static void test_answers_of_another_kind(void **state)
{
    (void)state;
    put_result put;
    get_result got = {0};
    hm_node_get *get;
    hm_commitment com;
    hm_hash h = hm_sha256(hm_bytes_of(told, sizeof told));
    memcpy(manifest, h.b, sizeof manifest);
    OK(hm_manifest_commit(hm_bytes_of(manifest, sizeof manifest), sizeof told, 4096, &com));
    mesh_open(0, 0);
    hostile_join(1);
    others[1].heard = answer_beside;
    UNTIL(is_up(1));
    put_text("text", &put);
    UNTIL(put.done);
    assert_int_equal(put.err, HM_E_CHUNK_REPLICAS);
    OK(hm_node_get_begin(node, &(hm_hash){0}, &com, &get));
    hm_node_get_next(get, on_get, &got);
    UNTIL(got.done);
    assert_int_equal(got.err, HM_OK);
    hm_node_get_close(get);
    mesh_close();
}

static bool honest;
static char claimed[32];

// Claims to have all, and has it or not.
static void claim_all(hostile *h, const node_message *m)
{
    store_all(h, m);
    repaired += m->type == MSG_CHUNK_PUT && m->request == 0;
    if (m->type == MSG_HAVE_GET)
        say(h, LANE_BULK, &(node_message){.type = MSG_HAVE, .manifest = m->manifest});
    if (m->type == MSG_CHUNK_GET)
        say(h, LANE_BULK,
            &(node_message){.type = MSG_CHUNK,
                            .request = m->request,
                            .ok = honest,
                            .bytes = honest ? hm_bytes_str(claimed) : (hm_bytes){0}});
}

// A member that claims a chunk is asked for it; one that cannot give it is told of and sent it
// again.
static void test_claims_are_probed(void **state)
{
    (void)state;
    put_result put;
    hm_hash chunk;
    unsigned tries = 0;
    mesh_open(10000, 0);
    do { // one that this node should hold, and so may be given
        snprintf(claimed, sizeof claimed, "claimed %u", tries++);
        chunk = hm_sha256(hm_bytes_str(claimed));
    } while (left_over(&chunk) == 0);
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++) {
        hostile_join(i);
        others[i].heard = claim_all;
    }
    UNTIL(is_up(1) && is_up(2) && is_up(3));
    put_text(claimed, &put);
    UNTIL(put.done);
    (void)register_content("claimed", &put.commitment, false);
    UNTIL(hm_content_is_kept(node->content, &chunk));
    unsigned holder = left_over(&chunk) == 1 ? 2 : 1;
    honest = true;
    uint64_t refused = node->counts[COUNT_REFUSED_MESSAGE];
    node->peers[holder].offer_at_us = 0;
    UNTIL(node->counts[COUNT_CLAIMS_TRUE] == 1);
    assert_int_equal(node->counts[COUNT_CLAIMS_FALSE], 0);
    honest = false;
    repaired = 0;
    node->peers[holder].offer_at_us = 0;
    UNTIL(repaired == 1);
    assert_int_equal(node->counts[COUNT_CLAIMS_FALSE], 1);
    assert_int_equal(node->counts[COUNT_REFUSED_MESSAGE], refused + 1);
    mesh_close();
}

// ---- peers --------------------------------------------------------------------------------------

static void fall(unsigned index, uint64_t want_us)
{
    node_peer *p = &node->peers[index];
    p->retry_at_us = 0; // as if it had waited
    UNTIL(is_up(index) && others[index].lanes[LANE_BULK] != NULL);
    stoq_conn_close(stoq_stream_conn(others[index].lanes[LANE_BULK]), 0, "again");
    uint64_t now = node_now_us();
    UNTIL(!is_up(index));
    assert_int_equal(p->flap_wait_us, want_us);
    assert_true(p->retry_at_us - now >= want_us / 2);
}

// Who falls as soon as it is up costs a signature each time: it is asked less and less often, until
// a connection of it lived for a while. Who just is not there is asked every second.
static void test_flapping(void **state)
{
    (void)state;
    mesh_open(0, 0);
    hostile_join(1);
    for (int i = 0; i < 9; i++)
        fall(1, 250000u << i < 30000000u ? 250000u << i : 30000000u);
    node_peer *absent = &node->peers[2]; // has never been there
    UNTIL(absent->retry_wait_us == 1000000);
    node->peers[1].retry_at_us = 0;
    UNTIL(is_up(1));
    node->peers[1].up_us -= 10000000; // so long ago
    fall(1, 250000);
    mesh_close();
}

// ---- views --------------------------------------------------------------------------------------

// The state after an empty block on another.
static hm_hash grow(const hm_hash *parent, uint64_t view)
{
    hm_view *on = views_find(node, parent), *v;
    hm_buf block = {0};
    assert_non_null(on);
    OK(hm_ledger_build(node->ledger, on, view, &fx.ids[0], fx.time_ms + view, NULL, 0, NULL, &block,
                       &v));
    hm_buf_free(&block);
    hm_hash id = hm_view_block_id(v);
    views_keep(node, v);
    return id;
}

// What the states after blocks that are not final may take is bounded in bytes, and what is let go
// is what nothing stands on, the oldest first: the branch that grows is there whole.
static void test_views_are_bounded(void **state)
{
    (void)state;
    enum { LENGTH = 60, SIDES = 40, ROOM = 50 };
    hm_hash chain[LENGTH], sides[SIDES];
    mesh_open(0, 0);
    hm_hash tip = hm_view_block_id(hm_ledger_tip(node->ledger));
    chain[0] = grow(&tip, 1);
    size_t one = node->views.bytes;
    assert_true(one >= hm_view_bytes(views_find(node, &chain[0])));
    node->views.bytes_max = ROOM * one;
    for (unsigned i = 0; i < SIDES; i++)
        sides[i] = grow(i == 1 ? &sides[0] : &chain[0], 2 + i);
    assert_int_equal(node->views.count, 1 + SIDES);
    for (unsigned i = 1; i < LENGTH; i++)
        chain[i] = grow(&chain[i - 1], 100 + i);
    for (unsigned i = 0; i < LENGTH; i++)
        assert_non_null(views_find(node, &chain[i]));
    for (unsigned i = 0; i < SIDES; i++)
        assert_null(views_find(node, &sides[i]));
    assert_int_equal(node->views.count, LENGTH); // a branch that grows is not cut
    (void)grow(&chain[0], 50);                   // an old one has no room beside it
    hm_hash newest = grow(&chain[LENGTH - 1], 200);
    assert_int_equal(node->views.count, LENGTH + 1);
    assert_non_null(views_find(node, &newest));
    mesh_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_without_quorum),
        cmocka_unit_test(test_close_within),
        cmocka_unit_test(test_early_operations),
        cmocka_unit_test(test_flapping),
        cmocka_unit_test(test_views_are_bounded),
        cmocka_unit_test(test_certificate_is_brought),
        cmocka_unit_test(test_slow_disk),
        cmocka_unit_test(test_uploads_are_given_up),
        cmocka_unit_test(test_manifest_is_fetched),
        cmocka_unit_test(test_read_rights),
        cmocka_unit_test(test_answers_of_another_kind),
        cmocka_unit_test(test_claims_are_probed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
