#include "h3_pair.h"

#include <stdlib.h>

#define TURNS_MAX 200000u // without an end

struct h3_pair_datagram {
    h3_pair_datagram *next;
    bool to_server;
    size_t len;
    uint8_t bytes[];
};

// ---- the network --------------------------------------------------------------------------------

static void put(h3_pair *p, bool to_server, const uint8_t *bytes, size_t len, size_t segment)
{
    for (size_t at = 0; at < len; at += segment) {
        size_t n = len - at < segment ? len - at : segment;
        h3_pair_datagram *d = malloc(sizeof *d + n);
        hm_assert(d != NULL);
        *d = (h3_pair_datagram){.to_server = to_server, .len = n};
        memcpy(d->bytes, bytes + at, n);
        *p->last = d;
        p->last = &d->next;
    }
}
static void client_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    (void)to, (void)ecn;
    put(ctx, true, bytes, len, segment);
}
static void server_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                        size_t segment, uint8_t ecn)
{
    (void)to, (void)ecn;
    put(ctx, false, bytes, len, segment);
}

static uint64_t deliver(h3_pair *p)
{
    while (p->first != NULL) {
        h3_pair_datagram *d = p->first;
        struct sockaddr_in6 from = forge_address(d->to_server ? 5000 : 4433);
        p->first = d->next;
        if (p->first == NULL)
            p->last = &p->first;
        stoq_endpoint_receive(d->to_server ? p->server : p->client, &from, d->bytes, d->len, d->len,
                              0, p->now_us);
        free(d);
    }
    h3_flush(&p->perf.h3);
    stoq_endpoint_process(p->client, p->now_us, false);
    stoq_endpoint_process(p->server, p->now_us, false);
    uint64_t a = stoq_endpoint_next_timeout_us(p->client);
    uint64_t b = stoq_endpoint_next_timeout_us(p->server);
    return p->first != NULL ? 0 : a < b ? a : b;
}

void h3_pair_run(h3_pair *p, uint64_t us)
{
    uint64_t end = p->now_us + us;
    for (unsigned turns = 0; p->now_us <= end; turns++) {
        hm_assert(turns < TURNS_MAX);
        uint64_t next = deliver(p);
        if (next > end) {
            p->now_us = end;
            return;
        }
        p->now_us = next > p->now_us ? next : p->now_us + 10;
    }
    p->now_us = end;
}

// ---- the server ---------------------------------------------------------------------------------

static void on_server_closed(void *user, stoq_conn *conn, uint64_t code, bool app, hm_bytes reason)
{
    h3_pair *p = user;
    (void)conn, (void)code, (void)app, (void)reason;
    if (p->h3)
        h3_conn_closed(p->h3);
    p->h3 = NULL;
}
static void on_server_open(void *user, stoq_stream *s)
{
    h3_pair *p = user;
    if (p->h3)
        h3_stream_open(p->h3, s);
}
static void on_server_readable(void *user, stoq_stream *s)
{
    h3_pair *p = user;
    if (p->h3)
        h3_stream_readable(p->h3, s);
}
static void on_server_writable(void *user, stoq_stream *s)
{
    h3_pair *p = user;
    if (p->h3)
        h3_stream_writable(p->h3, s);
}
static void on_server_stream_closed(void *user, stoq_stream *s)
{
    h3_pair *p = user;
    if (p->h3)
        h3_stream_closed(p->h3, s);
}
static void on_server_returned(void *user, stoq_stream *s, void *tag)
{
    h3_pair *p = user;
    if (p->h3)
        h3_stream_returned(p->h3, s, tag);
}

// ---- the client ---------------------------------------------------------------------------------

static void on_client_closed(void *user, stoq_conn *conn, uint64_t code, bool app, hm_bytes reason)
{
    h3_pair *p = user;
    (void)conn, (void)app, (void)reason;
    p->conn = NULL;
    p->close_code = code;
}

static void on_client_readable(void *user, stoq_stream *s)
{
    const h3_pair *p = user;
    h3_pair_stream *st = stoq_stream_user(s);
    bool fin = false;
    while (p->keeps_reading && !fin) {
        hm_bytes view;
        if (stoq_stream_peek(s, &view, &fin) != HM_OK) {
            if (st) {
                st->reset = true;
                st->reset_code = stoq_stream_reset_code(s);
            }
            return;
        }
        if (view.len == 0 && !fin)
            return;
        if (st) {
            st->got += view.len;
            st->fin = fin;
        }
        stoq_stream_consume(s, view.len);
    }
}

static void on_client_writable(void *user, stoq_stream *s)
{
    h3_pair_stream *st = stoq_stream_user(s);
    size_t none;
    (void)user;
    if (st && stoq_stream_send(s, (hm_bytes){0}, false, &none) == HM_E_STOQ_RESET) {
        st->stopped = true;
        st->stop_code = stoq_stream_stop_code(s);
    }
}

static void on_client_stream_closed(void *user, stoq_stream *s)
{
    h3_pair_stream *st = stoq_stream_user(s);
    (void)user;
    if (st)
        st->s = NULL;
}

bool h3_pair_open(h3_pair *p, bool one_way, h3_pair_stream *out)
{
    *out = (h3_pair_stream){0};
    if (p->conn == NULL || stoq_stream_open(p->conn, one_way, &out->s) != HM_OK)
        return false;
    stoq_stream_set_user(out->s, out);
    return true;
}

void h3_pair_say(h3_pair_stream *st, hm_bytes bytes, bool fin)
{
    size_t took;
    if (st->s && stoq_stream_send(st->s, bytes, fin, &took) == HM_E_NOMEM)
        abort();
}

// ---- life ---------------------------------------------------------------------------------------

static uint64_t clock_us(void *ctx)
{
    return ((const h3_pair *)ctx)->now_us;
}

static stoq_endpoint *make(h3_pair *p, bool is_server)
{
    stoq_net net = {is_server ? server_send : client_send, p};
    const stoq_callbacks of_server = {
        .conn_closed = on_server_closed,
        .stream_open = on_server_open,
        .stream_readable = on_server_readable,
        .stream_writable = on_server_writable,
        .stream_closed = on_server_stream_closed,
        .stream_returned = on_server_returned,
    };
    const stoq_callbacks of_client = {
        .conn_closed = on_client_closed,
        .stream_readable = on_client_readable,
        .stream_writable = on_client_writable,
        .stream_closed = on_client_stream_closed,
    };
    stoq_config config = {
        .bind = forge_address(is_server ? 4433 : 5000),
        .net = &net,
        .alpn = {H3_ALPN},
        .random = &p->random,
        .callbacks = is_server ? of_server : of_client,
        .user = p,
        .limits = {.max_streams_bidi = STOQ_PERF_STREAMS, .stream_send_bytes = STOQ_PERF_KEPT},
        .secret = {1},
    };
    stoq_endpoint *ep;
    hm_assert(stoq_endpoint_create(&config, &ep) == HM_OK);
    ep->now_us = p->now_us;
    return ep;
}

void h3_pair_begin(h3_pair *p)
{
    struct sockaddr_in6 at_server = forge_address(4433), at_client = forge_address(5000);
    stoq_conn *server;
    *p = (h3_pair){.now_us = 1000000, .keeps_reading = true};
    p->last = &p->first;
    hm_prng_seed(&p->prng, 1);
    p->random = hm_random_prng(&p->prng);
    p->clock = (hm_clock){.mono_us = clock_us, .ctx = p};
    stoq_perf_init(&p->perf, &p->clock);
    p->server = make(p, true);
    p->client = make(p, false);
    forge_pair(p->server, &at_server, p->client, &at_client, &server, &p->conn);
    server->told_open = p->conn->told_open = true;
    hm_assert(h3_conn_open(&p->perf.h3, server, NULL, &p->h3) == HM_OK);
}

void h3_pair_end(h3_pair *p)
{
    stoq_endpoint_destroy(p->client);
    stoq_endpoint_destroy(p->server);
    while (p->first != NULL) {
        h3_pair_datagram *d = p->first;
        p->first = d->next;
        free(d);
    }
    hm_assert(p->h3 == NULL);
}
