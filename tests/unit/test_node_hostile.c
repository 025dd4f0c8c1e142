// A running node whose fellow members are this test: they have good keys and certificates, and do
// what no honest member does.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/proof_work.h"
#include "node_fixture.h"

// ---- what they do -------------------------------------------------------------------------------

typedef struct put_result {
    bool done;
    hm_err err;
} put_result;

static void on_put(void *ctx, hm_err err, const char *detail, const hm_commitment *c)
{
    put_result *p = ctx;
    (void)detail, (void)c;
    p->done = true;
    p->err = err;
}

static void on_drained(void *ctx)
{
    (void)ctx;
}

// One that takes nothing is let go once too much waits for it, and what was on its way to it ends
// with that; the node goes on.
static void test_deaf_member(void **state)
{
    (void)state;
    enum { PUTS = 3, CHUNK = 1 << 20 };
    mesh_open(0, CHUNK);
    hostile_join(1);
    UNTIL(is_up(1) && others[1].lanes[LANE_FAST] != NULL); // whose end counts as closed
    others[1].deaf = true;
    put_result results[PUTS] = {0};
    uint8_t *chunk = malloc(CHUNK);
    assert_non_null(chunk);
    for (uint32_t i = 0; i < PUTS; i++) {
        hm_node_put *put;
        OK(hm_node_put_begin(node, &put));
        hm_err err = HM_OK;
        for (uint32_t k = 0; err == HM_OK; k++) {
            memset(chunk, (int)(i + 1), CHUNK);
            memcpy(chunk, &k, sizeof k);
            err = hm_node_put_write(put, hm_bytes_of(chunk, CHUNK), on_drained, NULL);
        }
        assert_int_equal(err, HM_E_AGAIN);
        hm_node_put_finish(put, on_put, &results[i]);
    }
    free(chunk);
    UNTIL(results[0].done && results[1].done && results[2].done);
    for (uint32_t i = 0; i < PUTS; i++)
        assert_int_equal(results[i].err, HM_E_CHUNK_REPLICAS);
    UNTIL(others[1].closed > 0);
    mesh_close();
}

typedef struct get_result {
    bool done;
    hm_err err;
    hm_buf bytes;
} get_result;

static void on_get(void *ctx, hm_err err, const char *detail, hm_bytes chunk, bool last)
{
    get_result *g = ctx;
    (void)detail, (void)last;
    g->done = true;
    g->err = err;
    hm_buf_put(&g->bytes, chunk);
}

static uint8_t kept_chunk[100], kept_manifest[HM_HASH_BYTES];
static unsigned lies;

// The second member gives something else for all it is asked for; the third gives that.
static void answer_gets(hostile *h, const node_message *m)
{
    node_message answer = {.type = MSG_CHUNK, .request = m->request, .ok = true};
    if (m->type != MSG_CHUNK_GET)
        return;
    answer.bytes = m->manifest ? hm_bytes_of(kept_manifest, sizeof kept_manifest)
                               : hm_bytes_of(kept_chunk, sizeof kept_chunk);
    if (h->index == 1) {
        lies++;
        answer.bytes = hm_bytes_of(kept_chunk, HM_HASH_BYTES);
    }
    say(h, LANE_BULK, &answer);
}

// Of the second and the third member, is the second the first to be asked?
static bool second_is_first(const hm_hash *hash)
{
    uint32_t order[FIXTURE_MEMBERS], i = 0;
    hm_placement(hash, fx.ids, FIXTURE_MEMBERS, order);
    while (order[i] != 1 && order[i] != 2)
        i++;
    return order[i] == 1;
}

// A lie, about a manifest too, costs one question to another member, and who lied is asked last
// from then on.
static void test_false_answers(void **state)
{
    (void)state;
    hm_commitment com;
    hm_hash h;
    lies = 0;
    mesh_open(0, 0);
    do {
        if (++kept_chunk[0] == 0)
            kept_chunk[1]++;
        h = hm_sha256(hm_bytes_of(kept_chunk, sizeof kept_chunk));
        memcpy(kept_manifest, h.b, sizeof kept_manifest);
        OK(hm_manifest_commit(hm_bytes_of(kept_manifest, sizeof kept_manifest), sizeof kept_chunk,
                              4096, &com));
    } while (!second_is_first(&com.root) || !second_is_first(&h));
    for (unsigned i = 1; i <= 2; i++) {
        hostile_join(i);
        others[i].heard = answer_gets;
    }
    UNTIL(is_up(1) && is_up(2));
    hm_node_get *get;
    get_result result = {0};
    OK(hm_node_get_begin(node, &(hm_hash){0}, &com, &get));
    hm_node_get_next(get, on_get, &result);
    UNTIL(result.done);
    assert_int_equal(result.err, HM_OK);
    assert_int_equal(lies, 1);
    assert_true(
        hm_bytes_eq(hm_buf_bytes(&result.bytes), hm_bytes_of(kept_chunk, sizeof kept_chunk)));
    hm_buf_free(&result.bytes);
    hm_node_get_close(get);
    mesh_close();
}

typedef struct heard_content {
    unsigned stored, not_stored, puts, chunks;
} heard_content;
static heard_content heard;

static void count_content(hostile *h, const node_message *m)
{
    (void)h;
    heard.stored += m->type == MSG_CHUNK_STORED && m->ok;
    heard.not_stored += m->type == MSG_CHUNK_STORED && !m->ok;
    heard.puts += m->type == MSG_CHUNK_PUT;
    heard.chunks += m->type == MSG_CHUNK;
}

// A chunk that is not taken is answered for at once; what nobody offered is not sent.
static void test_false_content(void **state)
{
    (void)state;
    hm_hash hash = hm_sha256(hm_bytes_str("chunk"));
    node_message put = {.type = MSG_CHUNK_PUT, .request = 7, .hash = hash};
    heard = (heard_content){0};
    mesh_open(0, 0);
    hostile_join(1);
    others[1].heard = count_content;
    UNTIL(is_up(1) && others[1].lanes[LANE_BULK] != NULL);
    put.bytes = hm_bytes_str("other");
    say(&others[1], LANE_BULK, &put);
    UNTIL(heard.not_stored == 1);
    put.bytes = hm_bytes_str("chunk");
    say(&others[1], LANE_BULK, &put);
    UNTIL(heard.stored == 1);
    say(&others[1], LANE_BULK,
        &(node_message){.type = MSG_HAVE, .count = 1, .list = hm_hash_bytes(&hash)});
    say(&others[1], LANE_BULK, &(node_message){.type = MSG_CHUNK_GET, .request = 8, .hash = hash});
    UNTIL(heard.chunks == 1);
    assert_int_equal(heard.puts, 0);
    assert_int_equal(heard.not_stored, 1);
    mesh_close();
}

// ---- operations ---------------------------------------------------------------------------------

// A registration with everything but a signature, which counts as checked; the pool's limits are
// reached sooner so.
static void give_unsigned(unsigned who, uint64_t nonce, const char *name, hm_buf *out)
{
    hm_ledger *l = hm_node_ledger(node);
    hm_op_inputs in = {0};
    hm_op_digests d;
    hm_buf payload = {0}, list = {0};
    registration(name, &payload);
    OK(hm_ledger_op_inputs(l, hm_ledger_tip(l), &fx.ids[who], HM_MODULE_ASSET, HM_ASSET_REGISTER,
                           &in));
    hm_op op = {.chain_id = fx.chain_id,
                .module = HM_MODULE_ASSET,
                .kind = HM_ASSET_REGISTER,
                .owner = fx.ids[who],
                .asset = hm_asset_id(&fx.chain_id, &fx.ids[who], nonce),
                .nonce = nonce,
                .payload = hm_buf_bytes(&payload),
                .has_space = true,
                .has_time = true,
                .has_stake = true,
                .has_work = true,
                .space = in.space,
                .time = in.time,
                .stake_cert = in.cert,
                .stake_signature = hm_bytes_str("none")};
    hm_buf_reset(out);
    hm_op_encode(out, &op);
    OK(hm_op_decode(hm_buf_bytes(out), &op, &d));
    OK(hm_work_solve(&d.work, in.difficulty, NULL, &op.work_nonce, NULL));
    op.payload = hm_buf_bytes(&payload);
    op.stake_signature = hm_bytes_str("none");
    hm_buf_reset(out);
    hm_op_encode(out, &op);
    hm_hash id = hm_op_id(hm_buf_bytes(out));
    hm_ledger_note_verified(l, &id);
    hm_wr_bytes(&list, hm_buf_bytes(out));
    pool_message(node, who,
                 &(node_message){.type = MSG_OPS, .count = 1, .list = hm_buf_bytes(&list)});
    hm_buf_free(&list);
    hm_buf_free(&payload);
}

// One member cannot fill the pool: the others' parts stay theirs, and blocks are made of all.
static void test_pool_shares(void **state)
{
    (void)state;
    enum { HALF = 8192, MORE = 100 };
    mesh_open(0, 0);
    hm_buf op = {0};
    for (uint32_t i = 0; i < HALF + MORE; i++) {
        char name[32];
        snprintf(name, sizeof name, "many-%u", i);
        give_unsigned(1, 1 + i % HM_OP_NONCE_WINDOW, name, &op);
    }
    assert_int_equal(node->pending_count, HALF);
    give_unsigned(2, 1, "one", &op);
    assert_int_equal(node->pending_count, HALF + 1);
    hm_bytes first[2];
    node_pending *entries[2];
    assert_int_equal(pool_candidates(node, first, entries, 2), 2);
    assert_true(hm_bytes_eq(first[1], hm_buf_bytes(&op)));
    hm_buf_free(&op);
    mesh_close();
}

// Who sends operations that are refused, or others', is soon heard no more; and the log is not
// filled.
static void test_refused_operations(void **state)
{
    (void)state;
    enum { COPIES = 8000 };
    mesh_open(0, 0);
    hostile_join(1);
    UNTIL(is_up(1));
    hm_buf payload = {0}, op = {0};
    registration("another's", &payload);
    make_op(2, HM_ASSET_REGISTER, 1, (hm_hash){0}, hm_buf_bytes(&payload), &op);
    send_op(&others[1], &op);
    uint64_t m = mark(&others[1]);
    UNTIL(marked(&others[1], m));
    assert_int_equal(node->pending_count, 0);
    assert_int_equal(node->counts[COUNT_REFUSED_OP], 1);
    hm_buf_reset(&op);
    make_op(1, HM_ASSET_RETIRE, 1, hm_sha256(hm_bytes_str("no asset")), (hm_bytes){0}, &op);
    for (uint32_t i = 0; i < COPIES; i++) {
        send_op(&others[1], &op);
        if (i % 64 == 0)
            turn();
    }
    m = mark(&others[1]);
    UNTIL(marked(&others[1], m));
    assert_in_range(node->counts[COUNT_REFUSED_OP], 2, COPIES / 2);
    assert_true(is_up(1));
    hm_buf_free(&payload);
    hm_buf_free(&op);
    mesh_close();
}

// However many requests of its clients are refused, a node does not run out of nonces.
static void test_refused_requests(void **state)
{
    (void)state;
    hm_hash none = hm_sha256(hm_bytes_str("no asset"));
    submitted refused = {0}, good = {0};
    mesh_open(0, 0); // no quorum: no duty of its own takes a nonce meanwhile
    for (uint32_t i = 0; i < HM_OP_NONCE_WINDOW + 100; i++) {
        submit(HM_ASSET_RETIRE, &none, (hm_bytes){0}, &refused);
        UNTIL(refused.left < 64);
        if (refused.left == 0)
            assert_int_equal(refused.err, HM_E_OP_STATE);
    }
    UNTIL(refused.left == 0);
    hm_buf payload = {0};
    registration("wanted", &payload);
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &good);
    UNTIL(node->pending_count == 1 || good.left == 0);
    assert_int_equal(node->pending_count, 1);
    hm_buf_free(&payload);
    mesh_close();
}

// The puzzle is not under the signature: who makes a block can put an operation into it with
// another answer, and so with another id. It is the same operation all the same.
static void test_puzzle_solved_anew(void **state)
{
    (void)state;
    submitted s = {0};
    hm_buf payload = {0}, changed = {0};
    mesh_open(0, 0);
    registration("mine", &payload);
    submit(HM_ASSET_REGISTER, NULL, hm_buf_bytes(&payload), &s);
    UNTIL(node->pending_count == 1);
    hm_bytes op_bytes;
    node_pending *entry;
    assert_int_equal(pool_candidates(node, &op_bytes, &entry, 1), 1);
    hm_op op;
    OK(hm_op_decode(op_bytes, &op, NULL));
    op.work_nonce++;
    hm_op_encode(&changed, &op);
    hm_bytes ops[] = {hm_buf_bytes(&changed)};
    hm_block block = {.header = {.height = 1}, .count = 1, .ops = ops};
    pool_committed(node, &block);
    assert_int_equal(s.left, 0);
    assert_int_equal(s.err, HM_OK);
    hm_hash id = hm_op_id(hm_buf_bytes(&changed));
    assert_true(hm_hash_eq(&s.id, &id));
    hm_buf_free(&payload);
    hm_buf_free(&changed);
    mesh_close();
}

// A pool that is full when the answer for the sector is ready costs another try, not the epoch: the
// node could own no operation in it.
static void test_answer_again(void **state)
{
    (void)state;
    enum { FULL = 1 << 30 };
    mesh_open(10000, 0); // a quorum by itself
    node->pending_bytes += FULL;
    node->owners[0].bytes += FULL;
    UNTIL((agree_nudge(node), hm_ledger_height(node->ledger) >= 8)); // its first epoch
    UNTIL(!node->answering && node->submit_count == 0);
    assert_int_equal(node->answer_epoch, 0);
    node->pending_bytes -= FULL;
    node->owners[0].bytes -= FULL;
    mesh_close();
}

// One member's word for blocks that nobody has does not make a node unready.
static void test_false_height(void **state)
{
    (void)state;
    hm_node_status s = {0};
    hm_buf lie = {0};
    mesh_open(10000, 0); // a quorum by itself
    hostile_join(1);
    UNTIL(is_up(1));
    UNTIL((hm_node_get_status(node, &s), s.height > 2 && s.ready));
    hm_wr_u8(&lie, 4); // SX_STATUS
    static const uint64_t numbers[] = {1000003, 1000003, 1000001, 1000002};
    for (int i = 0; i < 4; i++) // view, first gap, final height and view
        hm_wr_u64(&lie, numbers[i]);
    hm_wr_bool(&lie, false);
    for (int i = 0; i < 5; i++) {
        say(&others[1], LANE_FAST,
            &(node_message){.type = MSG_CONSENSUS, .bytes = hm_buf_bytes(&lie)});
        uint64_t m = mark(&others[1]);
        UNTIL(marked(&others[1], m));
        hm_node_get_status(node, &s);
        assert_true(hm_simplex_peer_height(node->simplex, 1) > s.height + 1000);
        assert_false(s.syncing);
        assert_true(s.ready || node->stalled); // it stands still when this process does
    }
    assert_int_equal(node->counts[COUNT_REFUSED_VOTE], 0);
    hm_buf_free(&lie);
    mesh_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_shares),      cmocka_unit_test(test_refused_operations),
        cmocka_unit_test(test_refused_requests), cmocka_unit_test(test_puzzle_solved_anew),
        cmocka_unit_test(test_deaf_member),      cmocka_unit_test(test_false_answers),
        cmocka_unit_test(test_false_content),    cmocka_unit_test(test_false_height),
        cmocka_unit_test(test_answer_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
