#include "stoq_link.h"

#include <stdlib.h>

#include "base/clock.h"

#define PS 1000000u // in a microsecond
#define SERVER_PORT 4433u
#define WINDOW (64u << 20)
#define LOAN 65536u
#define ECN_CE 3u

typedef struct datagram {
    hm_heap_node node;
    unsigned to; // flow, or LINK_FLOWS_MAX: the server
    uint16_t from_port;
    uint8_t ecn;
    size_t len;
    uint8_t bytes[LINK_PACKET];
} datagram;

static uint8_t zeros[LOAN];

static void fly(link_sim *l, unsigned to, uint16_t from_port, const uint8_t *bytes, size_t len,
                uint8_t ecn, uint64_t at_us)
{
    datagram *d = malloc(sizeof *d);
    hm_assert(d != NULL && len <= LINK_PACKET);
    d->node = (hm_heap_node){0};
    d->to = to;
    d->from_port = from_port;
    d->ecn = ecn;
    d->len = len;
    memcpy(d->bytes, bytes, len);
    hm_assert(hm_heap_set(&l->flying, &d->node, at_us) == HM_OK);
}

static uint64_t jitter(link_sim *l)
{
    return l->config.jitter_us > 0 ? hm_prng_below(&l->prng, l->config.jitter_us) : 0;
}

// One datagram at the bottleneck.
static void enqueue(link_sim *l, link_flow *f, const uint8_t *bytes, size_t len, uint8_t ecn)
{
    const link_config *k = &l->config;
    uint64_t now_ps = l->now_us * PS, ps_a_byte = UINT64_C(1000000000000) / k->rate_bytes_s;
    uint64_t waits_ps = l->busy_ps > now_ps ? l->busy_ps - now_ps : 0;
    uint64_t queued = waits_ps / ps_a_byte;
    l->arrived++;
    l->queue_byte_us += (double)queued * (double)(l->now_us - l->queue_at_us);
    l->queue_at_us = l->now_us;
    l->queue_max_bytes = queued > l->queue_max_bytes ? queued : l->queue_max_bytes;
    bool lost = k->loss_ppm > 0 && hm_prng_below(&l->prng, 1000000) < k->loss_ppm;
    if (lost || queued + len > k->queue_bytes) {
        f->lost++;
        l->dropped++;
        return;
    }
    ecn = k->bleached ? 0 : ecn;
    if (k->mark_bytes > 0 && queued > k->mark_bytes && ecn != 0) {
        ecn = ECN_CE;
        f->marked++;
        l->marked++;
    }
    l->busy_ps = now_ps + waits_ps + len * ps_a_byte;
    fly(l, LINK_FLOWS_MAX, f->port, bytes, len, ecn,
        (l->busy_ps + PS - 1) / PS + k->rtt_us / 2 + jitter(l));
}

static void client_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    link_flow *f = ctx;
    (void)to;
    for (size_t at = 0; at < len; at += segment)
        enqueue(f->link, f, bytes + at, len - at < segment ? len - at : segment, ecn);
}

static void server_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    link_sim *l = ctx;
    unsigned flow = ntohs(to->sin6_port) - SERVER_PORT - 1;
    for (size_t at = 0; at < len; at += segment)
        fly(l, flow, SERVER_PORT, bytes + at, len - at < segment ? len - at : segment, ecn,
            l->now_us + l->config.rtt_us - l->config.rtt_us / 2);
}

// ---- the application ----------------------------------------------------------------------------

static void push(link_flow *f)
{
    hm_err err = HM_OK;
    while (err == HM_OK && f->paused_from_us == 0)
        err = stoq_stream_lend(f->stream, hm_bytes_of(zeros, sizeof zeros), false, NULL);
    hm_assert(err == HM_OK || err == HM_E_STOQ_BLOCKED);
}

static void on_writable(void *user, stoq_stream *s)
{
    (void)s;
    push(user);
}

static void read_some(link_flow *f, stoq_stream *s, uint64_t most)
{
    hm_bytes view;
    bool fin;
    while (most > 0 && stoq_stream_peek(s, &view, &fin) == HM_OK && view.len > 0) {
        size_t n = view.len < most ? view.len : (size_t)most;
        f->received += n;
        most -= n;
        stoq_stream_consume(s, n);
    }
}

static void on_readable(void *user, stoq_stream *s)
{
    link_flow *f = stoq_conn_user(stoq_stream_conn(s));
    (void)user;
    if (!f->holds)
        read_some(f, s, UINT64_MAX);
}

void link_read(link_flow *f, uint64_t bytes)
{
    stoq_stream *s = stream_find(f->at_server, stoq_stream_id(f->stream));
    if (s != NULL)
        read_some(f, s, bytes);
    f->link->server_poll = true;
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)user, (void)c, (void)is_app;
    if (code == STOQ_CLOSED_ENDPOINT)
        return;
    fprintf(stderr, "link: closed with 0x%llx %.*s\n", (unsigned long long)code, (int)reason.len,
            (const char *)reason.ptr);
    abort();
}

// ---- life ---------------------------------------------------------------------------------------

static stoq_endpoint *make_endpoint(link_sim *l, const stoq_net *net, uint16_t port,
                                    stoq_congestion congestion, void *user)
{
    stoq_endpoint *ep;
    stoq_config config = {.bind = forge_address(port),
                          .net = net,
                          .alpn = {STOQ_ALPN_MESH},
                          .random = &l->random,
                          .callbacks = {.stream_readable = on_readable,
                                        .stream_writable = on_writable,
                                        .conn_closed = on_closed},
                          .user = user,
                          .congestion = congestion,
                          .secret = {1},
                          .limits = {.max_udp_payload_bytes = LINK_PACKET}};
    if (!l->config.default_limits) {
        config.limits.stream_window_bytes = config.limits.conn_window_bytes = WINDOW;
        config.limits.stream_send_bytes = l->config.lent_bytes ? l->config.lent_bytes : WINDOW;
    }
    hm_assert(stoq_endpoint_create(&config, &ep) == HM_OK);
    stoq_endpoint_process(ep, l->now_us, false);
    return ep;
}

void link_begin(link_sim *l, const link_config *config)
{
    *l = (link_sim){.config = *config, .now_us = 1000000};
    hm_prng_seed(&l->prng, config->seed);
    l->random = hm_random_prng(&l->prng);
    stoq_net net = {server_send, l};
    l->server = make_endpoint(l, &net, SERVER_PORT, STOQ_CONGESTION_DEFAULT, l);
    link_measure(l);
}

link_flow *link_add(link_sim *l, stoq_congestion congestion)
{
    hm_assert(l->count < LINK_FLOWS_MAX);
    link_flow *f = &l->flows[l->count++];
    *f = (link_flow){.link = l, .port = (uint16_t)(SERVER_PORT + l->count), .poll = true};
    stoq_net net = {client_send, f};
    struct sockaddr_in6 client = forge_address(f->port), server = forge_address(SERVER_PORT);
    f->ep = make_endpoint(l, &net, f->port, congestion, f);
    forge_pair(l->server, &server, f->ep, &client, &f->at_server, &f->conn);
    f->conn->told_open = f->at_server->told_open = true;
    stoq_conn_set_user(f->at_server, f);
    hm_assert(stoq_stream_open(f->conn, true, &f->stream) == HM_OK);
    push(f);
    return f;
}

void link_pause(link_flow *f)
{
    f->paused_from_us = f->link->now_us;
}

void link_resume(link_flow *f)
{
    f->paused_from_us = 0;
    f->poll = true;
    push(f);
}

static void deliver(link_sim *l)
{
    hm_heap_node *n;
    while ((n = hm_heap_min(&l->flying)) != NULL && n->key <= l->now_us) {
        datagram *d = hm_container_of(n, datagram, node);
        bool up = d->to == LINK_FLOWS_MAX;
        struct sockaddr_in6 from = forge_address(d->from_port);
        hm_heap_remove(&l->flying, n);
        stoq_endpoint_receive(up ? l->server : l->flows[d->to].ep, &from, d->bytes, d->len, d->len,
                              d->ecn, l->now_us);
        *(up ? &l->server_poll : &l->flows[d->to].poll) = true;
        free(d);
    }
}

// Lets an endpoint do what is due; returns when it has more.
static uint64_t process(stoq_endpoint *ep, bool poll, uint64_t now_us)
{
    if (poll || stoq_endpoint_next_timeout_us(ep) <= now_us)
        do
            stoq_endpoint_process(ep, now_us, false);
        while (stoq_endpoint_next_timeout_us(ep) <= now_us);
    return stoq_endpoint_next_timeout_us(ep);
}

void link_run(link_sim *l, uint64_t us)
{
    uint64_t end = l->now_us + us;
    while (l->now_us < end) {
        uint64_t next = end;
        deliver(l);
        uint64_t t = process(l->server, l->server_poll, l->now_us);
        l->server_poll = false;
        next = t < next ? t : next;
        for (unsigned i = 0; i < l->count; i++) {
            t = process(l->flows[i].ep, l->flows[i].poll, l->now_us);
            l->flows[i].poll = false;
            next = t < next ? t : next;
        }
        hm_heap_node *n = hm_heap_min(&l->flying);
        next = n != NULL && n->key < next ? n->key : next;
        l->now_us = next > l->now_us ? next : l->now_us + 1;
    }
}

void link_measure(link_sim *l)
{
    l->since_us = l->queue_at_us = l->now_us;
    l->queue_byte_us = 0;
    l->queue_max_bytes = l->arrived = l->dropped = l->marked = 0;
    for (unsigned i = 0; i < l->count; i++)
        l->flows[i].received = l->flows[i].lost = l->flows[i].marked = 0;
}

uint64_t link_rate(const link_sim *l, const link_flow *f)
{
    return f->received * 1000000 / (l->now_us - l->since_us);
}

double link_mean_queue_us(const link_sim *l)
{
    return l->queue_byte_us / (double)(l->now_us - l->since_us) / (double)l->config.rate_bytes_s *
           1e6;
}

void link_end(link_sim *l)
{
    for (unsigned i = 0; i < l->count; i++)
        stoq_endpoint_destroy(l->flows[i].ep);
    stoq_endpoint_destroy(l->server);
    hm_heap_node *n;
    while ((n = hm_heap_min(&l->flying)) != NULL) {
        hm_heap_remove(&l->flying, n);
        free(hm_container_of(n, datagram, node));
    }
    hm_heap_free(&l->flying);
}
