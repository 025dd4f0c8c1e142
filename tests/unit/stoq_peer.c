#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_peer.h"

const uint8_t peer_secrets[2][32] = {{1}, {2}};

static void note_frames(peer *p, hm_bytes payload)
{
    const uint8_t *at = payload.ptr, *end = at + payload.len;
    while (at < end) {
        stoq_frame f = {0};
        uint64_t code;
        if (stoq_frame_parse(&at, end, &f, &code) != HM_OK)
            fail_msg("the connection sent a malformed frame");
        if (f.type >= PEER_TYPES)
            fail_msg("the connection sent a frame of type %llu", (unsigned long long)f.type);
        p->seen[f.type]++;
        if (f.data.len > 0)
            memcpy(p->data[f.type], f.data.ptr, f.data.len < 16 ? f.data.len : 16);
        p->last[f.type] = f;
    }
}

// The packets of a datagram that are under the peer's keys; others are passed over.
static void note_packets(peer *p, uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len && stoq_packet_parse(bytes + at, len - at, &p->packet) == HM_OK;) {
        hm_bytes payload;
        uint64_t pn;
        size_t packet = p->packet.len;
        if (stoq_keys_ready(&p->rx) &&
            forge_open(&p->rx, bytes + at, packet, p->largest + 1, &p->packet, &pn, &payload)) {
            p->packets++;
            p->largest = pn;
            stoq_ranges_add(&p->got, pn);
            note_frames(p, payload);
        }
        at += packet;
    }
}

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                     size_t segment, uint8_t ecn)
{
    (void)ecn;
    peer *p = ctx;
    for (size_t at = 0; at < len; at += segment) {
        static uint8_t copy[STOQ_UDP_MAX];
        size_t n = len - at < segment ? len - at : segment;
        p->datagrams++;
        p->bytes += n;
        p->longest = n > p->longest ? n : p->longest;
        p->sent_to = ntohs(to->sin6_port);
        memcpy(copy, bytes + at, n);
        note_packets(p, copy, n);
    }
}

void peer_forget(peer *p)
{
    p->datagrams = p->packets = 0;
    p->bytes = p->longest = 0;
    memset(p->seen, 0, sizeof p->seen);
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    peer *p = user;
    (void)c, (void)reason, (void)is_app;
    p->closed = true;
    p->close_code = code;
    p->c = NULL;
}

static void on_readable(void *user, stoq_stream *s)
{
    hm_bytes v;
    bool fin;
    (void)user;
    while (stoq_stream_peek(s, &v, &fin) == HM_OK && (v.len > 0 || fin)) {
        stoq_stream_consume(s, v.len);
        if (fin)
            return;
    }
}

void peer_turn(peer *p)
{
    unsigned turns = 0;
    do {
        stoq_endpoint_process(p->ep, p->now, false);
        assert_true(++turns < 100); // else it would never wait
    } while (stoq_endpoint_next_timeout_us(p->ep) <= p->now);
}

void peer_pass(peer *p, uint64_t us)
{
    uint64_t end = p->now + us;
    for (;;) {
        peer_turn(p);
        uint64_t t = stoq_endpoint_next_timeout_us(p->ep);
        if (t > end)
            break;
        p->now = t;
    }
    p->now = end;
}

void peer_make(peer *p, stoq_limits limits)
{
    *p = (peer){.now = 1000 * MS, .port = 5000};
    hm_prng_seed(&p->prng, 1);
    p->random = hm_random_prng(&p->prng);
    stoq_net net = {net_send, p};
    stoq_config config = {.bind = forge_address(4433),
                          .net = &net,
                          .alpn = {STOQ_ALPN_MESH},
                          .random = &p->random,
                          .callbacks = {.conn_closed = on_closed, .stream_readable = on_readable},
                          .user = p,
                          .limits = limits,
                          .secret = {1}};
    assert_int_equal(stoq_endpoint_create(&config, &p->ep), HM_OK);
    p->ep->now_us = p->now;
}

void peer_begin_with(peer *p, bool conn_is_server, stoq_limits limits, uint8_t peer_cid_len)
{
    peer_make(p, limits);
    stoq_transport_params params = forge_params(p->ep);
    static const uint8_t id[STOQ_LOCAL_CID] = {7, 7, 7};
    stoq_cid cid = stoq_cid_of(id, peer_cid_len);
    struct sockaddr_in6 from = forge_address(p->port);
    p->conn_is_server = conn_is_server;
    p->c =
        forge_conn(p->ep, conn_is_server, &from, &cid, peer_secrets[0], peer_secrets[1], &params);
    p->c->told_open = true;
    assert_int_equal(stoq_keys_init(&p->tx, &stoq_versions[0], HM_AES_128_GCM, peer_secrets[0], 32),
                     HM_OK);
    if (peer_cid_len == STOQ_LOCAL_CID) // else what comes back cannot be parsed here
        assert_int_equal(
            stoq_keys_init(&p->rx, &stoq_versions[0], HM_AES_128_GCM, peer_secrets[1], 32), HM_OK);
    peer_turn(p);
}

void peer_begin(peer *p, bool conn_is_server)
{
    // Without probes of the path's MTU, which would be packets that tests do not expect.
    stoq_limits limits = {.max_udp_payload_bytes = STOQ_MIN_INITIAL};
    peer_begin_with(p, conn_is_server, limits, STOQ_LOCAL_CID);
}

void peer_end(peer *p)
{
    stoq_endpoint_destroy(p->ep);
    stoq_keys_free(&p->tx);
    stoq_keys_free(&p->rx);
}

size_t peer_say(peer *p, const uint8_t *payload, size_t len)
{
    uint8_t out[FORGE_MAX];
    struct sockaddr_in6 from = forge_address(p->port);
    if (p->c == NULL)
        return 0;
    size_t n =
        forge_short(&p->tx, &p->c->local[0].cid, p->pn++, p->phase, hm_bytes_of(payload, len), out);
    stoq_endpoint_receive(p->ep, &from, out, n, n, p->ecn, p->now);
    return n;
}

size_t peer_say1(peer *p, uint8_t type)
{
    return peer_say(p, &type, 1);
}

void peer_ack(peer *p, const uint64_t ranges[][2], size_t count)
{
    uint8_t mem[64], *q = stoq_frame_write3(mem, STOQ_FRAME_ACK, ranges[0][1], 0, count - 1);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            q = stoq_varint_write(q, ranges[i - 1][0] - ranges[i][1] - 2);
        q = stoq_varint_write(q, ranges[i][1] - ranges[i][0]);
    }
    peer_say(p, mem, (size_t)(q - mem));
}

void peer_ack_all(peer *p)
{
    uint64_t ranges[8][2];
    uint32_t n = 0;
    for (; n < p->got.count && n < 8; n++) {
        ranges[n][0] = p->got.at[n].lo;
        ranges[n][1] = p->got.at[n].hi;
    }
    peer_ack(p, ranges, n);
}
