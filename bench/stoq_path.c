// The packet path without the kernel: two endpoints in one process, joined by memory. What a packet
// costs whom: the sender (streams, packets, sealing, acknowledgements taken), the receiver
// (opening, frames, the application's reading, acknowledgements made). One JSON line a figure.
//
//   stoq_path [BYTES OF A DATAGRAM] [MEGABYTES]
//
// Under callgrind, which bench/stoq_instructions does, send_side() and receive_side() are what it
// counts.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "hypermesh/stoq.h"
#include "server/json.h"
#include "stoq_ids.h"

#define QUEUE 64u
#define RTT_US 100u
#define HELD_US 1000000u

// A send on its way: datagrams of one length.
typedef struct burst {
    size_t len, segment;
    uint8_t bytes[65536];
} burst;

typedef struct side {
    stoq_endpoint *ep;
    burst queue[QUEUE]; // to the other side
    unsigned first, count;
    uint64_t ns, datagrams;
} side;

static side server, client;
static stoq_conn *conn;
static stoq_stream *stream;
static uint64_t now_us = 1000000, wanted, lent, received;
static bool opened;
static uint8_t data[65536];

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "stoq_path: %s failed: %s\n", what, hm_err_detail());
    exit(1);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// ---- the network --------------------------------------------------------------------------------

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                     size_t segment, uint8_t ecn)
{
    side *s = ctx;
    (void)to, (void)ecn;
    must(s->count < QUEUE && len <= sizeof s->queue[0].bytes, "the queue");
    burst *b = &s->queue[(s->first + s->count++) % QUEUE];
    b->len = len;
    b->segment = segment;
    memcpy(b->bytes, bytes, len);
    s->datagrams += (len + segment - 1) / segment;
}

static struct sockaddr_in6 address(uint16_t port)
{
    return (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
}

// What the other side sent arrives.
static void receive(side *s, side *from)
{
    struct sockaddr_in6 a = address(from == &client ? 5000 : 4433);
    while (from->count > 0) {
        burst *b = &from->queue[from->first];
        stoq_endpoint_receive(s->ep, &a, b->bytes, b->len, b->segment, 0, now_us);
        from->first = (from->first + 1) % QUEUE;
        from->count--;
    }
}

// ---- the application: the client sends ----------------------------------------------------------

static void push(void)
{
    while (lent < wanted) {
        size_t n = wanted - lent < sizeof data ? (size_t)(wanted - lent) : sizeof data;
        hm_err err = stoq_stream_lend(stream, hm_bytes_of(data, n), lent + n == wanted, NULL);
        if (err == HM_E_STOQ_BLOCKED)
            return;
        must(err == HM_OK, "lending");
        lent += n;
    }
}

static void on_open(void *user, stoq_conn *c)
{
    if (user != &client)
        return;
    conn = c;
    opened = true;
    must(stoq_stream_open(c, true, &stream) == HM_OK, "opening a stream");
}

static void on_readable(void *user, stoq_stream *s)
{
    hm_bytes view;
    bool fin = false;
    (void)user;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        received += view.len;
        stoq_stream_consume(s, view.len);
    }
}

static void on_writable(void *user, stoq_stream *s)
{
    (void)user;
    (void)s;
    push();
}

// ---- both sides ---------------------------------------------------------------------------------

__attribute__((noinline)) static void send_side(void)
{
    uint64_t before = cpu_ns();
    receive(&client, &server);
    stoq_endpoint_process(client.ep, now_us, false);
    client.ns += cpu_ns() - before;
}

__attribute__((noinline)) static void receive_side(void)
{
    uint64_t before = cpu_ns();
    receive(&server, &client);
    stoq_endpoint_process(server.ep, now_us, false);
    server.ns += cpu_ns() - before;
}

static void turn(void)
{
    send_side();
    now_us += RTT_US / 2;
    receive_side();
    now_us += RTT_US / 2;
}

static void make_endpoint(side *s, const stoq_ids *ids, bool is_server, uint32_t datagram)
{
    stoq_net net = {net_send, s};
    stoq_config config = {.bind = address(is_server ? 4433 : 5000),
                          .net = &net,
                          .server_tls = is_server ? ids->server : NULL,
                          .client_tls = is_server ? NULL : ids->client,
                          .alpn = {STOQ_ALPN_MESH},
                          .callbacks = {.conn_open = on_open,
                                        .stream_readable = on_readable,
                                        .stream_writable = on_writable},
                          .user = s,
                          .limits = {.max_udp_payload_bytes = datagram,
                                     .stream_window_bytes = 2u << 20,
                                     .conn_window_bytes = 2u << 20,
                                     .stream_send_bytes = 1u << 20}};
    must(stoq_endpoint_create(&config, &s->ep) == HM_OK, "an endpoint");
}

static void print(const char *name, const side *s, uint64_t packets, uint32_t mtu)
{
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "stoq-path");
    hm_jw_str(&b, "side", name);
    hm_jw_u64(&b, "datagram_bytes", mtu);
    hm_jw_u64(&b, "packets", packets);
    hm_jw_u64(&b, "picoseconds_a_packet", s->ns * 1000 / packets);
    hm_jw_close(&b, '}');
    must(hm_buf_status(&b) == HM_OK, "memory");
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    hm_buf_free(&b);
}

int main(int argc, char **argv)
{
    uint32_t datagram = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1452;
    wanted = (argc > 2 ? strtoull(argv[2], NULL, 10) : 1000) * 1000000;
    stoq_ids ids;
    stoq_ids_make_plain(&ids);
    make_endpoint(&server, &ids, true, datagram);
    make_endpoint(&client, &ids, false, datagram);
    stoq_ids_free(&ids);
    struct sockaddr_in6 to = address(4433);
    stoq_conn_stats st = {0};
    must(stoq_connect(client.ep, &to, NULL, NULL, NULL, &conn) == HM_OK, "connecting");
    for (uint64_t from = now_us; !opened && now_us < from + HELD_US;)
        turn();
    must(opened, "the handshake");
    push();
    for (uint64_t last = 0, since = now_us; received < wanted;) { // first to the size that it keeps
        turn();
        since = received > last ? now_us : since;
        last = received;
        must(now_us < since + HELD_US, "the transfer");
        stoq_conn_get_stats(conn, &st);
        if (st.mtu_bytes == datagram && client.ns > 0 && received * 20 < wanted)
            client.ns = server.ns = client.datagrams = 0;
    }
    print("send", &client, client.datagrams, st.mtu_bytes);
    print("receive", &server, client.datagrams, st.mtu_bytes);
    stoq_endpoint_destroy(client.ep);
    stoq_endpoint_destroy(server.ep);
    return 0;
}
