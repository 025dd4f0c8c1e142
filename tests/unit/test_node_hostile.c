// A running node whose fellow members are this test: they have good keys and certificates, and do
// what no honest member does.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "mesh/node_internal.h"
#include "mesh_fixture.h"

#define GUARD_US 60000000u // only to end a test that would wait for ever

#define OK(expr)                                                                                   \
    do {                                                                                           \
        hm_err ok_err_ = (expr);                                                                   \
        if (ok_err_ != HM_OK)                                                                      \
            fail_msg("%s: %s: %s", #expr, hm_err_text(ok_err_), hm_err_detail());                  \
    } while (0)

// A member as the test plays it: it takes connections, and the node, being the first in the
// genesis, makes them.
typedef struct hostile {
    unsigned index;
    SSL_CTX *tls;
    stoq_endpoint *endpoint;
    stoq_stream *lanes[LANES];
    bool deaf; // takes nothing off its streams
    hm_buf in[LANES], out[LANES];
    void (*heard)(struct hostile *h, const node_message *m);
} hostile;

static mesh_fixture fx;
static hostile others[FIXTURE_MEMBERS]; // from 1 on
static uv_loop_t loop;
static hm_node *node;
static bool node_closed;

// ---- the others ---------------------------------------------------------------------------------

static hm_err any_peer(void *ctx, hm_bytes leaf)
{
    (void)ctx, (void)leaf;
    return HM_OK;
}

static void on_open(void *user, stoq_stream *s)
{
    hostile *h = user;
    h->lanes[stoq_stream_id(s) == 0 ? LANE_FAST : LANE_BULK] = s;
}

static void on_closed(void *user, stoq_stream *s)
{
    hostile *h = user;
    for (int lane = 0; lane < LANES; lane++)
        if (h->lanes[lane] == s) {
            h->lanes[lane] = NULL;
            hm_buf_reset(&h->in[lane]);
            hm_buf_reset(&h->out[lane]);
        }
}

static void take(hostile *h, hm_buf *in)
{
    size_t at = 0, used = 0;
    for (;; at += used) {
        uint8_t type = 0;
        hm_bytes body = {0};
        node_message m;
        OK(node_msg_frame(hm_bytes_of(in->ptr + at, in->len - at), &used, &type, &body));
        if (used == 0)
            break;
        OK(node_msg_read(type, body, &m));
        if (h->heard != NULL)
            h->heard(h, &m);
    }
    memmove(in->ptr, in->ptr + at, in->len - at);
    in->len -= at;
}

static void on_readable(void *user, stoq_stream *s)
{
    hostile *h = user;
    hm_bytes view;
    bool fin;
    int lane = stoq_stream_id(s) == 0 ? LANE_FAST : LANE_BULK;
    while (!h->deaf && stoq_stream_peek(s, &view, &fin) == HM_OK && view.len > 0) {
        hm_buf_put(&h->in[lane], view);
        stoq_stream_consume(s, view.len);
        take(h, &h->in[lane]);
    }
}

static void push(hostile *h, node_lane lane)
{
    size_t took = 0;
    hm_buf *out = &h->out[lane];
    if (h->lanes[lane] == NULL || out->len == 0 ||
        stoq_stream_send(h->lanes[lane], hm_buf_bytes(out), false, &took) != HM_OK)
        return;
    memmove(out->ptr, out->ptr + took, out->len - took);
    out->len -= took;
}

static void say(hostile *h, node_lane lane, const node_message *m)
{
    node_msg_write_framed(m, &h->out[lane]);
    OK(hm_buf_status(&h->out[lane]));
    push(h, lane);
}

static void hostile_open(hostile *h, unsigned index)
{
    *h = (hostile){.index = index};
    stoq_config cfg = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                       .alpn = {STOQ_ALPN_MESH},
                       .callbacks = {.stream_open = on_open,
                                     .stream_readable = on_readable,
                                     .stream_closed = on_closed},
                       .user = h};
    OK(stoq_endpoint_create(&cfg, &h->endpoint));
}

static uint16_t hostile_port(const hostile *h)
{
    struct sockaddr_in6 addr;
    stoq_endpoint_address(h->endpoint, &addr);
    return ntohs(addr.sin6_port);
}

// From here on it answers.
static void hostile_join(unsigned index)
{
    hostile *h = &others[index];
    OK(tc_node_tls(true, fx.keys[index], hm_buf_bytes(&fx.chains[index]), any_peer, NULL, &h->tls));
    stoq_endpoint_set_server_tls(h->endpoint, h->tls);
}

// ---- the mesh -----------------------------------------------------------------------------------

static void turn(void)
{
    struct pollfd fds[FIXTURE_MEMBERS];
    uv_run(&loop, UV_RUN_NOWAIT);
    fds[0] = (struct pollfd){.fd = uv_backend_fd(&loop), .events = POLLIN};
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++) {
        hostile *h = &others[i];
        for (int lane = 0; lane < LANES; lane++)
            push(h, (node_lane)lane);
        stoq_endpoint_process(h->endpoint, node_now_us(), true);
        fds[i] = (struct pollfd){.fd = stoq_endpoint_fd(h->endpoint), .events = POLLIN};
    }
    poll(fds, FIXTURE_MEMBERS, 1);
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        for (uint64_t began_ = node_now_us(); !(condition); turn())                                \
            if (node_now_us() - began_ > GUARD_US)                                                 \
                fail_msg("never came true: %s", #condition);                                       \
    } while (0)

static void write_file(const char *dir, const char *name, hm_bytes bytes)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    OK(hm_file_write(path, bytes, 0600));
}

static void mesh_open(uint64_t own_stake, uint32_t chunk_bytes)
{
    char dir[100], path[200], sector[200];
    mesh_fixture_options o = {.now_ms = node_wall_ms() - 10000, .chunk_bytes = chunk_bytes};
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++) {
        hostile_open(&others[i], i);
        o.ports[i] = hostile_port(&others[i]);
    }
    o.stakes[0] = own_stake;
    mesh_fixture_make_for(&fx, &o);
    snprintf(dir, sizeof dir, "%s/node", fx.dir);
    OK(hm_dir_make(dir));
    snprintf(path, sizeof path, "%s/node.key", dir);
    OK(hm_key_save(fx.keys[0], path));
    write_file(dir, "node.crt", hm_buf_bytes(&fx.chains[0]));
    write_file(dir, "genesis.bin", hm_buf_bytes(&fx.genesis));
    snprintf(path, sizeof path, "%s/sector-0", dir);
    snprintf(sector, sizeof sector, "%s/sector-0", fx.dir);
    assert_int_equal(link(sector, path), 0);
    assert_int_equal(uv_loop_init(&loop), 0);
    hm_node_config cfg = {
        .data_dir = dir,
        .mesh_listen = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
        .loop = &loop};
    OK(hm_node_open(&cfg, &node));
}

static void on_node_closed(void *ctx)
{
    (void)ctx;
    node_closed = true;
}

static void mesh_close(void)
{
    node_closed = false;
    hm_node_close(node, on_node_closed, NULL);
    UNTIL(node_closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (unsigned i = 1; i < FIXTURE_MEMBERS; i++) {
        hostile *h = &others[i];
        stoq_endpoint_destroy(h->endpoint);
        SSL_CTX_free(h->tls);
        for (int lane = 0; lane < LANES; lane++) {
            hm_buf_free(&h->in[lane]);
            hm_buf_free(&h->out[lane]);
        }
    }
    mesh_fixture_free(&fx);
}

static bool is_up(unsigned index)
{
    return peer_is_up(node, index);
}

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
    UNTIL(is_up(1));
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
    UNTIL(others[1].lanes[LANE_BULK] == NULL);
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

// The second member gives something else for every manifest; the third gives what it is asked for.
static void answer_gets(hostile *h, const node_message *m)
{
    node_message answer = {.type = MSG_CHUNK, .request = m->request, .ok = true};
    if (m->type != MSG_CHUNK_GET)
        return;
    answer.bytes = m->manifest ? hm_bytes_of(kept_manifest, sizeof kept_manifest)
                               : hm_bytes_of(kept_chunk, sizeof kept_chunk);
    if (h->index == 1 && m->manifest) {
        lies++;
        answer.bytes = hm_bytes_of(kept_chunk, HM_HASH_BYTES);
    }
    say(h, LANE_BULK, &answer);
}

// A lie about a manifest costs a question to another member, not the reading.
static void test_false_manifest(void **state)
{
    (void)state;
    hm_commitment com;
    uint32_t order[FIXTURE_MEMBERS], first;
    lies = 0;
    mesh_open(0, 0);
    do {
        kept_chunk[0]++;
        hm_hash h = hm_sha256(hm_bytes_of(kept_chunk, sizeof kept_chunk));
        memcpy(kept_manifest, h.b, sizeof kept_manifest);
        OK(hm_manifest_commit(hm_bytes_of(kept_manifest, sizeof kept_manifest), sizeof kept_chunk,
                              4096, &com));
        hm_placement(&com.root, fx.ids, FIXTURE_MEMBERS, order);
        for (first = 0; order[first] != 1 && order[first] != 2;)
            first++;
    } while (order[first] != 1);
    for (unsigned i = 1; i <= 2; i++) {
        hostile_join(i);
        others[i].heard = answer_gets;
    }
    UNTIL(is_up(1) && is_up(2));
    hm_node_get *get;
    get_result result = {0};
    OK(hm_node_get_begin(node, &com, &get));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deaf_member),
        cmocka_unit_test(test_false_manifest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
