#include "stoq_bundle_world.h"

#include <stdlib.h>

#define SERVER_PORT 4433u
#define PACKET 1452u
#define TICK_US 3000u
#define PING_US 2000000u

typedef struct datagram {
    hm_heap_node node;
    unsigned to; // path, or BW_SERVER
    uint16_t from_port;
    size_t len;
    uint8_t bytes[PACKET];
} datagram;

// ---- paths --------------------------------------------------------------------------------------

static void fly(bw_path *p, bool up, const uint8_t *bytes, size_t len)
{
    bw *w = p->w;
    hm_assert(len <= PACKET);
    if (p->cut || hm_prng_below(&w->prng, 1000) < p->loss)
        return;
    uint64_t at = w->now;
    if (p->rate > 0) {
        p->busy_us = (p->busy_us > at ? p->busy_us : at) + len * 1000 / p->rate;
        if (p->busy_us > at + 200000)
            return; // the queue is full
        at = p->busy_us;
    }
    datagram *d = malloc(sizeof *d);
    hm_assert(d != NULL);
    *d = (datagram){.to = up ? BW_SERVER : (unsigned)(p - w->paths),
                    .from_port = (uint16_t)(up ? SERVER_PORT + 1 + (p - w->paths) : SERVER_PORT),
                    .len = len};
    memcpy(d->bytes, bytes, len);
    at += p->delay_us + (p->jitter_us > 0 ? hm_prng_below(&w->prng, p->jitter_us) : 0);
    hm_assert(hm_heap_set(&w->flying, &d->node, at) == HM_OK);
}

static void fly_all(bw_path *p, bool up, const uint8_t *bytes, size_t len, size_t segment)
{
    for (size_t at = 0; at < len; at += segment)
        fly(p, up, bytes + at, len - at < segment ? len - at : segment);
}

static void client_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    (void)to, (void)ecn;
    fly_all(ctx, true, bytes, len, segment);
}

static void server_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    bw *w = ctx;
    (void)ecn;
    fly_all(&w->paths[ntohs(to->sin6_port) - SERVER_PORT - 1], false, bytes, len, segment);
}

// ---- who uses the bundle ------------------------------------------------------------------------

static uint8_t pattern(unsigned side, uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16) * 3 + side * 101);
}

static void push(bw_side *s)
{
    uint8_t block[5000];
    unsigned side = (unsigned)(s - s->w->side);
    size_t n, took;
    do {
        n = s->size - s->sent < sizeof block ? (size_t)(s->size - s->sent) : sizeof block;
        for (size_t i = 0; i < n; i++)
            block[i] = pattern(side, s->sent + i);
        bool fin = s->sent + n == s->size;
        hm_assert(stoq_bundle_send(s->bundle, hm_bytes_of(block, n), fin, &took) == HM_OK);
        s->sent += took;
    } while (took == n && s->sent < s->size);
}

static void on_bundle_opened(void *user, stoq_bundle *b)
{
    bw_side *s = user;
    s->bundle = b;
    s->opened = true;
    if (s == &s->w->side[0])
        for (unsigned i = 1; i < s->w->count; i++)
            (void)bw_connect(s->w, i);
    push(s);
}

static void on_bundle_data(void *user, stoq_bundle *b, uint64_t offset, hm_bytes bytes)
{
    bw_side *s = user;
    const bw_side *other = &s->w->side[s == &s->w->side[0]];
    hm_assert(bytes.len > 0 && offset + bytes.len <= other->size);
    hm_assert(!s->ordered || offset == s->received);
    for (size_t i = 0; i < bytes.len; i++) {
        uint64_t at = offset + i;
        hm_assert(bytes.ptr[i] == pattern((unsigned)(other - s->w->side), at));
        hm_assert((s->seen[at / 8] >> (at % 8) & 1) == 0); // each once
        s->seen[at / 8] |= (uint8_t)(1u << (at % 8));
    }
    s->received += bytes.len;
    if (s->lazy)
        s->owed += bytes.len;
    else
        stoq_bundle_consume(b, bytes.len);
}

static void on_bundle_end(void *user, stoq_bundle *b)
{
    bw_side *s = user;
    (void)b;
    hm_assert(!s->ended && s->received == s->w->side[s == &s->w->side[0]].size);
    s->ended = true;
}

static void on_bundle_writable(void *user, stoq_bundle *b)
{
    (void)b;
    push(user);
}

static void on_bundle_closed(void *user, stoq_bundle *b, hm_err why)
{
    bw_side *s = user;
    (void)b;
    s->bundle = NULL;
    s->closed = true;
    s->why = why;
}

// ---- callbacks of the endpoints -----------------------------------------------------------------

static void server_stream_open(void *user, stoq_stream *st)
{
    bw *w = user;
    stoq_bundles_stream_open(w->side[1].set, st);
}

static void client_open(void *user, stoq_conn *c)
{
    bw_path *p = user;
    bw_side *s = &p->w->side[0];
    p->open = true;
    if (p->raw)
        return;
    if (p == p->w->paths)
        hm_assert(stoq_bundle_open(s->set, c, s, &s->bundle) == HM_OK);
    else if (s->bundle != NULL && stoq_bundle_add(s->bundle, c) != HM_OK)
        stoq_conn_close(c, 0, "");
}

static void client_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    bw_path *p = user;
    (void)c, (void)is_app, (void)reason;
    p->conn = NULL;
    p->closed = true;
    p->closed_code = code;
}

static void client_readable(void *user, stoq_stream *st)
{
    bw_path *p = user;
    hm_bytes v;
    bool fin;
    if (!p->raw)
        stoq_bundles_stream_readable(user, st);
    while (p->raw && stoq_stream_peek(st, &v, &fin) == HM_OK && v.len > 0) {
        hm_buf_put(&p->answer, v);
        stoq_stream_consume(st, v.len);
    }
}

static void client_writable(void *user, stoq_stream *st)
{
    const bw_path *p = user;
    if (!p->raw)
        stoq_bundles_stream_writable(user, st);
}

static void client_stream_closed(void *user, stoq_stream *st)
{
    bw_path *p = user;
    p->streams_closed++;
    if (!p->raw)
        stoq_bundles_stream_closed(user, st);
}

// ---- life ---------------------------------------------------------------------------------------

static void make_side(bw *w, unsigned side, const bw_config *k)
{
    bw_side *s = &w->side[side];
    uint64_t comes = side == 0 ? k->down : k->up;
    stoq_bundles_config c = {.ordered = k->ordered,
                             .window_bytes = k->window_bytes,
                             .send_bytes = k->send_bytes,
                             .max_bundles = k->max_bundles,
                             .max_connections = k->max_connections,
                             .random = &w->random,
                             .user = s,
                             .callbacks = {.opened = on_bundle_opened,
                                           .data = on_bundle_data,
                                           .end = on_bundle_end,
                                           .writable = on_bundle_writable,
                                           .closed = on_bundle_closed}};
    *s = (bw_side){.w = w,
                   .size = side == 0 ? k->up : k->down,
                   .ordered = k->ordered,
                   .lazy = k->lazy,
                   .seen = calloc(1, comes / 8 + 1)};
    hm_assert(s->seen != NULL && stoq_bundles_create(&c, &s->set) == HM_OK);
}

static stoq_endpoint *make_endpoint(bw *w, bw_path *p, const bw_config *k)
{
    static const stoq_callbacks client = {.conn_open = client_open,
                                          .conn_closed = client_closed,
                                          .stream_readable = client_readable,
                                          .stream_writable = client_writable,
                                          .stream_returned = stoq_bundles_stream_returned,
                                          .stream_closed = client_stream_closed};
    static const stoq_callbacks server = {.stream_open = server_stream_open,
                                          .stream_readable = stoq_bundles_stream_readable,
                                          .stream_writable = stoq_bundles_stream_writable,
                                          .stream_returned = stoq_bundles_stream_returned,
                                          .stream_closed = stoq_bundles_stream_closed};
    stoq_endpoint *ep;
    stoq_net net = {p != NULL ? client_send : server_send, p != NULL ? (void *)p : (void *)w};
    stoq_config config = {
        .bind = forge_address((uint16_t)(SERVER_PORT + (p != NULL ? 1 + (p - w->paths) : 0))),
        .net = &net,
        .server_tls = p == NULL ? k->server_tls : NULL,
        .client_tls = p != NULL ? k->client_tls : NULL,
        .alpn = {STOQ_ALPN_BUNDLE},
        .random = &w->random,
        .callbacks = p != NULL ? client : server,
        .user = p != NULL ? (void *)p : (void *)w,
        .secret = {1},
        .limits = {.max_udp_payload_bytes = PACKET, .max_idle_ms = 10000}};
    hm_assert(stoq_endpoint_create(&config, &ep) == HM_OK);
    stoq_endpoint_process(ep, w->now, false);
    return ep;
}

void bw_begin(bw *w, const bw_config *k)
{
    *w = (bw){.now = 1000000, .count = k->paths, .tick_us = 1000000};
    hm_assert(k->paths <= BW_PATHS_MAX);
    hm_prng_seed(&w->prng, k->seed);
    w->random = hm_random_prng(&w->prng);
    make_side(w, 0, k);
    make_side(w, 1, k);
    w->server = make_endpoint(w, NULL, k);
    for (unsigned i = 0; i < k->paths; i++) {
        w->paths[i] = (bw_path){.w = w, .delay_us = 5000};
        w->paths[i].ep = make_endpoint(w, &w->paths[i], k);
    }
}

stoq_conn *bw_connect(bw *w, unsigned path)
{
    bw_path *p = &w->paths[path];
    struct sockaddr_in6 to = forge_address(SERVER_PORT);
    hm_assert(stoq_connect(p->ep, &to, NULL, NULL, NULL, &p->conn) == HM_OK);
    return p->conn;
}

void bw_open(bw *w)
{
    (void)bw_connect(w, 0);
}

static void deliver(bw *w)
{
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL && n->key <= w->now) {
        datagram *d = hm_container_of(n, datagram, node);
        struct sockaddr_in6 from = forge_address(d->from_port);
        hm_heap_remove(&w->flying, n);
        stoq_endpoint_receive(d->to == BW_SERVER ? w->server : w->paths[d->to].ep, &from, d->bytes,
                              d->len, d->len, 0, w->now);
        free(d);
    }
}

static void tick(bw *w)
{
    if (w->now < w->tick_us)
        return;
    w->tick_us = w->now + TICK_US;
    for (unsigned i = 0; i < 2; i++) {
        bw_side *s = &w->side[i];
        uint64_t n = s->owed > 0 ? 1 + hm_prng_below(&w->prng, s->owed) : 0;
        s->owed -= n;
        if (s->bundle != NULL)
            stoq_bundle_consume(s->bundle, n);
    }
    if (w->now < w->ping_us)
        return;
    w->ping_us = w->now + PING_US;
    stoq_bundles_ping(w->side[0].set);
    stoq_bundles_ping(w->side[1].set);
}

static uint64_t process(stoq_endpoint *ep, uint64_t now)
{
    stoq_endpoint_process(ep, now, false);
    return stoq_endpoint_next_timeout_us(ep);
}

bool bw_run_until(bw *w, bool (*done)(const bw *w), uint64_t for_us)
{
    uint64_t end = w->now + for_us;
    while (w->now < end) {
        deliver(w);
        tick(w);
        uint64_t next = w->tick_us, t = process(w->server, w->now);
        next = t < next ? t : next;
        for (unsigned i = 0; i < w->count; i++) {
            t = process(w->paths[i].ep, w->now);
            next = t < next ? t : next;
        }
        if (done(w))
            return true;
        const hm_heap_node *n = hm_heap_min(&w->flying);
        next = n != NULL && n->key < next ? n->key : next;
        w->now = next > w->now ? next : w->now + 1;
    }
    return false;
}

bool bw_both_ended(const bw *w)
{
    return w->side[0].ended && w->side[1].ended;
}

bool bw_both_closed(const bw *w)
{
    return w->side[0].closed && w->side[1].closed;
}

void bw_end(bw *w)
{
    for (unsigned i = 0; i < w->count; i++) {
        stoq_endpoint_destroy(w->paths[i].ep);
        hm_buf_free(&w->paths[i].answer);
    }
    stoq_endpoint_destroy(w->server);
    for (unsigned i = 0; i < 2; i++) {
        stoq_bundles_free(w->side[i].set);
        free(w->side[i].seen);
    }
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL) {
        hm_heap_remove(&w->flying, n);
        free(hm_container_of(n, datagram, node));
    }
    hm_heap_free(&w->flying);
}
