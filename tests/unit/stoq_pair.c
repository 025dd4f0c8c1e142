#include "stoq_pair.h"

#include <stdlib.h>

#include "base/clock.h"
#include "stoq_forge.h"

#define DELAY_US 5000u
#define LONG_US UINT64_C(10000000)
#define SERVER_PORT 4433

stoq_ids pair_ids;

int pair_make_ids(void **state)
{
    (void)state;
    stoq_ids_make(&pair_ids);
    return 0;
}

int pair_free_ids(void **state)
{
    (void)state;
    stoq_ids_free(&pair_ids);
    return 0;
}

typedef struct datagram {
    hm_heap_node node;
    unsigned to;
    bool preferred;
    uint16_t client_port;
    size_t len;
    uint8_t bytes[];
} datagram;

void pair_fly(pair_world *w, unsigned to, const uint8_t *bytes, size_t len)
{
    datagram *d = malloc(sizeof *d + len);
    hm_assert(d != NULL);
    *d = (datagram){.to = to, .preferred = w->preferred, .client_port = w->client_port, .len = len};
    memcpy(d->bytes, bytes, len);
    uint64_t at =
        w->now + DELAY_US + (w->jitter_us > 0 ? hm_prng_below(&w->prng, w->jitter_us) : 0);
    hm_assert(hm_heap_set(&w->flying, &d->node, at) == HM_OK);
}

static void send_all(pair_side *s, bool preferred, uint16_t client_port, const uint8_t *bytes,
                     size_t len, size_t segment)
{
    static uint8_t copy[STOQ_UDP_MAX];
    pair_world *w = s->w;
    unsigned dest = s == &w->side[PAIR_CLIENT] ? PAIR_SERVER : PAIR_CLIENT;
    w->preferred = preferred;
    w->client_port = client_port;
    for (size_t at = 0; at < len; at += segment) {
        size_t n = len - at < segment ? len - at : segment;
        memcpy(copy, bytes + at, n);
        if (w->watch != NULL && !w->watch(w, dest, copy, n))
            continue;
        if (hm_prng_below(&w->prng, 100) >= w->loss)
            pair_fly(w, dest, copy, n);
    }
    w->preferred = false;
    w->client_port = PAIR_CLIENT_PORT;
}

static uint16_t client_port_of(const pair_side *s, const struct sockaddr_in6 *to)
{
    return s == &s->w->side[PAIR_CLIENT] ? PAIR_CLIENT_PORT : ntohs(to->sin6_port);
}

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                     size_t segment, uint8_t ecn)
{
    (void)ecn;
    send_all(ctx, to->sin6_port == htons(PAIR_PREFERRED_PORT), client_port_of(ctx, to), bytes, len,
             segment);
}

static void net_send_preferred(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes,
                               size_t len, size_t segment, uint8_t ecn)
{
    (void)ecn;
    send_all(ctx, true, client_port_of(ctx, to), bytes, len, segment);
}

static void net_send_from(void *ctx, const struct sockaddr_in6 *from, const struct sockaddr_in6 *to,
                          const uint8_t *bytes, size_t len, size_t segment, uint8_t ecn)
{
    (void)ecn;
    send_all(ctx, to->sin6_port == htons(PAIR_PREFERRED_PORT), ntohs(from->sin6_port), bytes, len,
             segment);
}

static void on_open(void *user, stoq_conn *c)
{
    pair_side *s = user;
    s->opened++;
    s->conn = c;
    s->resumed += stoq_conn_resumed(c);
}

static void on_session(void *user, stoq_conn *c, hm_bytes session)
{
    pair_side *s = user;
    hm_assert(stoq_conn_is_open(c));
    s->sessions++;
    hm_buf_reset(&s->session);
    hm_buf_put(&s->session, session);
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    pair_side *s = user;
    (void)is_app, (void)reason;
    s->why = stoq_conn_why(c);
    s->closed++;
    s->code = code;
    s->conn = NULL;
}

static void on_failed(void *user, stoq_conn *c, hm_err why, uint64_t code, hm_bytes reason)
{
    pair_side *s = user;
    (void)c, (void)reason;
    s->failed++;
    s->why = why;
    s->code = code;
}

static void on_stream_open(void *user, stoq_stream *st)
{
    pair_side *s = user;
    s->streams++;
    s->early_streams += stoq_stream_is_early(st);
}

static void on_readable(void *user, stoq_stream *st)
{
    pair_side *s = user;
    hm_bytes v;
    bool fin;
    size_t took;
    for (;;) {
        hm_err err = stoq_stream_peek(st, &v, &fin);
        s->resets += err == HM_E_STOQ_RESET;
        if (err != HM_OK || (v.len == 0 && !fin))
            return;
        hm_buf_put(&s->received, v);
        if (s->echo)
            hm_assert(stoq_stream_send(st, v, fin, &took) != HM_OK || took == v.len);
        stoq_stream_consume(st, v.len);
        if (fin) {
            s->ends++;
            return;
        }
    }
}

void pair_begin(pair_world *w, uint64_t seed)
{
    *w = (pair_world){.now = 1000000, .client_port = PAIR_CLIENT_PORT};
    hm_prng_seed(&w->prng, seed);
    w->random = hm_random_prng(&w->prng);
}

void pair_endpoint(pair_world *w, unsigned side, stoq_config config)
{
    pair_side *s = &w->side[side];
    stoq_net net = {net_send, s, net_send_preferred, net_send_from};
    s->w = w;
    config.bind = forge_address(side == PAIR_SERVER ? SERVER_PORT : PAIR_CLIENT_PORT);
    config.net = &net;
    config.random = &w->random;
    config.user = s;
    if (config.alpn[0] == NULL)
        config.alpn[0] = STOQ_ALPN_MESH;
    config.callbacks.conn_open = on_open;
    config.callbacks.session = on_session;
    config.callbacks.conn_closed = on_closed;
    config.callbacks.conn_failed = on_failed;
    if (config.callbacks.stream_readable == NULL) {
        config.callbacks.stream_open = on_stream_open;
        config.callbacks.stream_readable = on_readable;
    }
    hm_assert(stoq_endpoint_create(&config, &s->ep) == HM_OK);
}

void pair_end(pair_world *w)
{
    for (int i = 0; i < 2; i++) {
        stoq_endpoint_destroy(w->side[i].ep);
        hm_buf_free(&w->side[i].received);
        hm_buf_free(&w->side[i].session);
    }
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL) {
        hm_heap_remove(&w->flying, n);
        free(hm_container_of(n, datagram, node));
    }
    hm_heap_free(&w->flying);
}

static void arrive(pair_world *w, datagram *d)
{
    stoq_endpoint *ep = w->side[d->to].ep;
    struct sockaddr_in6 client = forge_address(d->client_port),
                        server = forge_address(d->preferred ? PAIR_PREFERRED_PORT : SERVER_PORT);
    if (d->to == PAIR_CLIENT)
        stoq_endpoint_receive_at(ep, &client, &server, d->bytes, d->len, d->len, 0, w->now);
    else if (d->preferred)
        stoq_endpoint_receive_preferred(ep, &client, d->bytes, d->len, d->len, 0, w->now);
    else
        stoq_endpoint_receive(ep, &client, d->bytes, d->len, d->len, 0, w->now);
}

static void deliver(pair_world *w)
{
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL && n->key <= w->now) {
        datagram *d = hm_container_of(n, datagram, node);
        hm_heap_remove(&w->flying, n);
        if (w->side[d->to].ep != NULL)
            arrive(w, d);
        free(d);
    }
}

bool pair_run_until(pair_world *w, bool (*done)(const pair_world *w), uint64_t for_us)
{
    uint64_t end = w->now + for_us;
    while (w->now < end) {
        uint64_t next = end;
        deliver(w);
        for (int i = 0; i < 2; i++)
            if (w->side[i].ep != NULL)
                stoq_endpoint_process(w->side[i].ep, w->now, false);
        if (done != NULL && done(w))
            return true;
        for (int i = 0; i < 2; i++) {
            uint64_t t = w->side[i].ep != NULL ? stoq_endpoint_next_timeout_us(w->side[i].ep)
                                               : HM_TIME_NEVER;
            next = t < next ? t : next;
        }
        const hm_heap_node *n = hm_heap_min(&w->flying);
        next = n != NULL && n->key < next ? n->key : next;
        w->now = next > w->now ? next : w->now + 1;
    }
    return done == NULL;
}

void pair_run(pair_world *w, uint64_t us)
{
    (void)pair_run_until(w, NULL, us);
}

bool pair_both_open(const pair_world *w)
{
    return w->side[0].opened > 0 && w->side[1].opened > 0;
}

stoq_conn *pair_connect(pair_world *w)
{
    struct sockaddr_in6 to = forge_address(SERVER_PORT);
    stoq_conn *c;
    hm_assert(stoq_connect(w->side[PAIR_CLIENT].ep, &to, NULL, NULL, NULL, &c) == HM_OK);
    return c;
}

stoq_conn *pair_resume(pair_world *w, hm_bytes session, bool early)
{
    struct sockaddr_in6 to = forge_address(SERVER_PORT);
    stoq_conn *c;
    hm_assert(stoq_resume(w->side[PAIR_CLIENT].ep, &to, NULL, session, early, NULL, &c) == HM_OK);
    return c;
}

static bool echoed(const pair_world *w)
{
    return w->side[PAIR_CLIENT].ends > 0 || w->side[PAIR_CLIENT].closed > 0;
}
static bool open_or_closed(const pair_world *w)
{
    return pair_both_open(w) || w->side[PAIR_CLIENT].closed > 0;
}

bool pair_exchange(pair_world *w, const stoq_config config[2])
{
    static const uint8_t zeros[PAIR_BYTES];
    stoq_stream *st;
    size_t took;
    for (unsigned i = 0; i < 2; i++)
        pair_endpoint(w, i, config[i]);
    w->side[PAIR_SERVER].echo = true;
    (void)pair_connect(w);
    if (!pair_run_until(w, open_or_closed, LONG_US) || !pair_both_open(w))
        return false;
    hm_assert(stoq_stream_open(w->side[PAIR_CLIENT].conn, false, &st) == HM_OK);
    hm_assert(stoq_stream_send(st, hm_bytes_of(zeros, PAIR_BYTES), true, &took) == HM_OK);
    hm_assert(took == PAIR_BYTES);
    return pair_run_until(w, echoed, LONG_US) && w->side[PAIR_CLIENT].received.len == PAIR_BYTES;
}

stoq_conn_stats pair_stats(const pair_world *w, unsigned side)
{
    stoq_conn_stats st;
    stoq_conn_get_stats(w->side[side].conn, &st);
    return st;
}
