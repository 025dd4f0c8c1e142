#include "node_fixture.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

mesh_fixture fx;
hostile others[FIXTURE_MEMBERS];
uv_loop_t loop;
hm_node *node;
bool node_closed;
void (*mesh_before_open)(const char *dir);

// ---- the others ---------------------------------------------------------------------------------

static hm_err any_peer(void *ctx, hm_bytes leaf)
{
    (void)ctx, (void)leaf;
    return HM_OK;
}

static void on_closed(void *user, stoq_stream *s)
{
    hostile *h = user;
    for (int lane = 0; lane < LANES; lane++)
        if (h->lanes[lane] == s) {
            h->lanes[lane] = NULL;
            h->closed++;
            hm_buf_reset(&h->in[lane]);
            hm_buf_reset(&h->out[lane]);
        }
}

// The node may come back before it is noticed here that it was gone.
static void on_open(void *user, stoq_stream *s)
{
    hostile *h = user;
    int lane = stoq_stream_id(s) == 0 ? LANE_FAST : LANE_BULK;
    if (h->lanes[lane] != NULL)
        on_closed(h, h->lanes[lane]);
    h->lanes[lane] = s;
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

void say(hostile *h, node_lane lane, const node_message *m)
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
void hostile_join(unsigned index)
{
    hostile *h = &others[index];
    OK(tc_node_tls(true, fx.keys[index], hm_buf_bytes(&fx.chains[index]), any_peer, NULL, &h->tls));
    stoq_endpoint_set_server_tls(h->endpoint, h->tls);
}

// ---- the mesh -----------------------------------------------------------------------------------

void turn(void)
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

static void write_file(const char *dir, const char *name, hm_bytes bytes)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    OK(hm_file_write(path, bytes, 0600));
}

void mesh_open(uint64_t own_stake, uint32_t chunk_bytes)
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
    if (mesh_before_open != NULL)
        mesh_before_open(dir);
    assert_int_equal(uv_loop_init(&loop), 0);
    hm_node_config cfg = {
        .data_dir = dir,
        .mesh_listen = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
        .loop = &loop,
        .upload_keep_ms = 86400000};
    OK(hm_node_open(&cfg, &node));
    node_closed = false;
}

void on_node_closed(void *ctx)
{
    (void)ctx;
    node_closed = true;
}

void mesh_close(void)
{
    hm_node_close(node, on_node_closed, NULL);
    UNTIL(node_closed);
    mesh_closed();
}

void mesh_closed(void)
{
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

bool is_up(unsigned index)
{
    return peer_is_up(node, index);
}

// ---- operations ---------------------------------------------------------------------------------

// An operation of a member as things stand.
void make_op(unsigned who, uint8_t kind, uint64_t nonce, hm_hash asset, hm_bytes payload,
             hm_buf *out)
{
    hm_ledger *l = hm_node_ledger(node);
    hm_op_inputs in = {0};
    hm_op op = {.chain_id = fx.chain_id,
                .module = HM_MODULE_ASSET,
                .kind = kind,
                .owner = fx.ids[who],
                .asset = asset,
                .nonce = nonce,
                .payload = payload};
    if (kind == HM_ASSET_REGISTER)
        op.asset = hm_asset_id(&fx.chain_id, &fx.ids[who], nonce);
    OK(hm_ledger_op_inputs(l, hm_ledger_tip(l), &fx.ids[who], op.module, kind, &in));
    in.key = fx.keys[who];
    OK(hm_op_finish(&op, &in, out, NULL));
}

void registration(const char *name, hm_buf *payload)
{
    hm_asset_register r = {.kind = HM_ASSET_CPU, .name = hm_bytes_str(name)};
    OK(hm_asset_register_encode(&r, payload));
}

void send_op(hostile *h, const hm_buf *op)
{
    hm_buf list = {0};
    hm_wr_bytes(&list, hm_buf_bytes(op));
    say(h, LANE_FAST, &(node_message){.type = MSG_OPS, .count = 1, .list = hm_buf_bytes(&list)});
    hm_buf_free(&list);
}

// What was said before this is taken by the node when this turns true.
uint64_t mark(hostile *h)
{
    static uint64_t marks = 1000000;
    say(h, LANE_FAST, &(node_message){.type = MSG_STATUS, .height = ++marks});
    return marks;
}

bool marked(const hostile *h, uint64_t m)
{
    return node->peers[h->index].height == m;
}

static void on_submitted(void *ctx, hm_err err, const char *detail, const hm_node_receipt *receipt)
{
    submitted *s = ctx;
    s->left--;
    s->err = err;
    snprintf(s->detail, sizeof s->detail, "%s", detail);
    if (receipt != NULL)
        s->id = receipt->op_id;
}

void submit(uint8_t kind, const hm_hash *asset, hm_bytes payload, submitted *s)
{
    hm_node_request r = {.module = HM_MODULE_ASSET, .kind = kind, .payload = payload};
    if (asset != NULL)
        r.asset = *asset;
    s->left++;
    OK(hm_node_submit(node, &r, on_submitted, s));
}
