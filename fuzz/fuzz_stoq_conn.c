// Two joined connections, and an input that is a program: it delivers, drops, doubles, reorders and
// damages datagrams, gives one side packets that the other never made but with its keys (so all of
// the code behind decryption sees hostile frames), raw datagrams, calls of the application, and
// time.
//
// Always: counts agree with what they count, limits hold, time goes on (no turn of the loop asks
// for another at once without end). Without forged frames: bytes arrive as they were sent; and once
// the network is good again everything arrives and both sides come to rest.
#include "stoq_forge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define QUEUE 256u
#define STREAMS 24u
#define SECOND_US UINT64_C(1000000)
#define ON_THE_WAY_MAX_US (2 * SECOND_US)

typedef struct datagram {
    size_t len;
    uint64_t sent_us;
    uint16_t from_port;
    uint8_t ecn;
    uint8_t bytes[1500];
} datagram;

typedef struct app_stream {
    stoq_stream *s; // NULL: free slot
    uint64_t sent, received;
} app_stream;

typedef struct side {
    struct pair *pair;
    unsigned which;
    stoq_endpoint *ep;
    stoq_conn *conn; // NULL once closed
    app_stream streams[STREAMS];
    datagram *queue[QUEUE]; // on their way to this side
    unsigned count;
} side;

typedef struct pair {
    side side[2]; // server, client
    hm_prng prng;
    hm_random random;
    uint64_t now;
    uint16_t client_port;
    bool forged, slow_reader, marks;
} pair;

typedef struct input {
    const uint8_t *at, *end;
} input;

static uint8_t u8(input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}
static unsigned u16(input *in)
{
    unsigned hi = u8(in);
    return hi << 8 | u8(in);
}
static hm_bytes bytes(input *in, size_t max)
{
    size_t n = (size_t)(in->end - in->at) < max ? (size_t)(in->end - in->at) : max;
    in->at += n;
    return hm_bytes_of(in->at - n, n);
}

// ---- the network --------------------------------------------------------------------------------

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *ptr, size_t len,
                     size_t segment, uint8_t ecn)
{
    side *from = ctx;
    pair *p = from->pair;
    side *dest = &p->side[!from->which];
    hm_assert(segment > 0 && segment <= 1500);
    if (dest->which == 1 && ntohs(to->sin6_port) != p->client_port)
        return; // nobody is there
    for (size_t at = 0; at < len && dest->count < QUEUE; at += segment) {
        datagram *d = malloc(sizeof *d);
        hm_assert(d != NULL);
        d->len = len - at < segment ? len - at : segment;
        d->sent_us = p->now;
        d->from_port = from->which == 1 ? p->client_port : 4433;
        d->ecn = ecn != 0 && p->marks && hm_prng_below(&p->prng, 4) == 0 ? 3 : ecn;
        memcpy(d->bytes, ptr + at, d->len);
        dest->queue[dest->count++] = d;
    }
}

static datagram *queue_take(side *s)
{
    if (s->count == 0)
        return NULL;
    datagram *d = s->queue[0];
    memmove(&s->queue[0], &s->queue[1], --s->count * sizeof s->queue[0]);
    return d;
}

static void receive(side *s, uint16_t from_port, const uint8_t *ptr, size_t len, uint8_t ecn)
{
    uint8_t copy[2048];
    struct sockaddr_in6 from = forge_address(from_port);
    memcpy(copy, ptr, len);
    stoq_endpoint_receive(s->ep, &from, copy, len, len, ecn, s->pair->now);
}

static void deliver(side *s)
{
    datagram *d = queue_take(s);
    if (d != NULL)
        receive(s, d->from_port, d->bytes, d->len, d->ecn);
    free(d);
}

// ---- the application ----------------------------------------------------------------------------

static uint8_t pattern(const stoq_stream *s, unsigned sender, uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + stoq_stream_id(s) * 5 + sender * 101);
}

static app_stream *slot_of(side *x, const stoq_stream *s)
{
    for (unsigned i = 0; i < STREAMS; i++)
        if (x->streams[i].s == s)
            return &x->streams[i];
    return NULL;
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    side *x = user;
    (void)code, (void)is_app, (void)reason;
    hm_assert(x->conn == c);
    for (unsigned i = 0; i < STREAMS; i++)
        hm_assert(x->streams[i].s == NULL); // each was closed before
    x->conn = NULL;
}

static void on_stream_open(void *user, stoq_stream *s)
{
    app_stream *a = slot_of(user, NULL);
    if (a == NULL) {
        stoq_stream_stop(s, 1);
        stoq_stream_reset(s, 2);
        return;
    }
    *a = (app_stream){.s = s};
}

static void read_some(side *x, app_stream *a, size_t max)
{
    for (size_t got = 0; got < max && a->s != NULL;) {
        hm_bytes v;
        bool fin;
        if (stoq_stream_peek(a->s, &v, &fin) != HM_OK || (v.len == 0 && !fin))
            return;
        size_t n = v.len < max - got ? v.len : max - got;
        for (size_t i = 0; i < n && !x->pair->forged; i++)
            hm_assert(v.ptr[i] == pattern(a->s, !x->which, a->received + i));
        a->received += n;
        got += n;
        stoq_stream_consume(a->s, n);
        if (fin && n == v.len)
            return;
    }
}

static void on_readable(void *user, stoq_stream *s)
{
    side *x = user;
    app_stream *a = slot_of(x, s);
    if (a != NULL && !x->pair->slow_reader)
        read_some(x, a, SIZE_MAX);
}

static void on_stream_closed(void *user, stoq_stream *s)
{
    app_stream *a = slot_of(user, s);
    if (a != NULL)
        *a = (app_stream){0};
}

static void send_some(side *x, app_stream *a, size_t n, bool fin)
{
    uint8_t block[4096];
    size_t accepted = 0;
    if (n > sizeof block)
        n = sizeof block;
    for (size_t i = 0; i < n; i++)
        block[i] = pattern(a->s, x->which, a->sent + i);
    hm_err err = stoq_stream_send(a->s, hm_bytes_of(block, n), fin, &accepted);
    hm_assert(err == HM_OK || accepted == 0);
    a->sent += accepted;
}

static void app_call(side *x, input *in)
{
    uint8_t what = u8(in), arg = u8(in);
    app_stream *a = &x->streams[arg % STREAMS], *free_slot = slot_of(x, NULL);
    stoq_stream *s;
    if (x->conn == NULL)
        return;
    switch (what % 10) {
    case 0:
    case 1:
        if (free_slot != NULL && stoq_stream_open(x->conn, what % 10 == 1, &s) == HM_OK)
            *free_slot = (app_stream){.s = s};
        return;
    case 2:
    case 3:
        if (a->s != NULL)
            send_some(x, a, (size_t)u8(in) * 16, what % 10 == 3);
        return;
    case 4:
        if (a->s != NULL)
            stoq_stream_reset(a->s, arg);
        return;
    case 5:
        if (a->s != NULL)
            stoq_stream_stop(a->s, arg);
        return;
    case 6:
        if (a->s != NULL)
            read_some(x, a, (size_t)u8(in) * 16);
        return;
    case 7:
        stoq_conn_ping(x->conn);
        return;
    case 8: {
        hm_err err = stoq_conn_update_keys(x->conn);
        (void)err; // HM_E_AGAIN while one is under way
        return;
    }
    default:
        if (arg >= 0xf0) // rarely: it ends the story
            stoq_conn_close(x->conn, arg, "enough");
    }
}

// ---- what always holds --------------------------------------------------------------------------

static void check_space(const stoq_conn *c, const stoq_space *s, uint64_t *in_flight)
{
    uint32_t eliciting = 0;
    for (uint64_t at = s->sent_head, last = 0; at < s->sent_tail; at++) {
        const stoq_sent *p = &s->sent[at & (s->sent_cap - 1)];
        hm_assert(p->pn < s->next_pn && (at == s->sent_head || p->pn > last));
        last = p->pn;
        if (!p->outstanding)
            continue;
        eliciting += p->eliciting;
        *in_flight += p->cc.bytes;
    }
    hm_assert(eliciting == s->eliciting_out);
    hm_assert(s->received.count <= STOQ_RANGES_MAX);
    (void)c;
}

static void check(const side *x)
{
    const stoq_conn *c = x->conn;
    uint64_t in_flight = 0;
    if (c == NULL || c->state > STOQ_CONN_OPEN)
        return;
    for (int i = 0; i < STOQ_LEVELS; i++)
        check_space(c, &c->spaces[i], &in_flight);
    hm_assert(in_flight == c->cc.in_flight);
    hm_assert(c->tx_used <= c->tx_max && c->rx_seen <= c->rx.max && c->rx_taken <= c->rx_seen);
    hm_assert(c->cc.cwnd >= 2 * c->cc.mss);
    const stoq_limits *l = conn_limits(c);
    hm_assert(c->peer_streams_open[0] <= l->max_streams_bidi);
    hm_assert(c->peer_streams_open[1] <= l->max_streams_uni);
    uint64_t seen = 0;
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    while (hm_map_next(&c->streams, &pos, &key, &value)) {
        const stoq_stream *s = value;
        hm_assert(s->out.next <= s->tx_max && s->rx_highest <= s->rx.max);
        hm_assert(s->out.cap <= l->stream_send_bytes && s->in.cap <= l->stream_window_bytes);
        seen += s->rx_highest;
    }
    hm_assert(seen <= c->rx_seen);
}

static void process(pair *p)
{
    for (unsigned i = 0; i < 2; i++) {
        side *x = &p->side[i];
        unsigned turns = 0;
        while (x->count > 0 && x->queue[0]->sent_us + ON_THE_WAY_MAX_US < p->now)
            free(queue_take(x));
        do {
            stoq_endpoint_process(x->ep, p->now, false);
            hm_assert(++turns < 100);
        } while (stoq_endpoint_next_timeout_us(x->ep) <= p->now);
        check(x);
    }
}

static uint64_t next_timeout(const pair *p)
{
    uint64_t a = stoq_endpoint_next_timeout_us(p->side[0].ep),
             b = stoq_endpoint_next_timeout_us(p->side[1].ep);
    return a < b ? a : b;
}

// ---- the program --------------------------------------------------------------------------------

static void inject(side *x, input *in)
{
    uint8_t flags = u8(in), out[FORGE_MAX];
    hm_bytes payload = bytes(in, flags & 1 ? 1 + u8(in) : 1 + u16(in) % 1200);
    stoq_conn *victim = x->conn, *peer = x->pair->side[!x->which].conn;
    if (victim == NULL || peer == NULL || victim->state > STOQ_CONN_OPEN)
        return;
    x->pair->forged = true;
    stoq_space *s = &peer->spaces[STOQ_LEVEL_APP];
    uint64_t pn = s->next_pn++ + (flags >> 6);
    const stoq_cid *dcid = &victim->local[(flags >> 3) % STOQ_CIDS_MAX].cid;
    size_t len = forge_short(&s->tx, dcid, pn, peer->phase_tx ^ (flags >> 1 & 1), payload, out);
    uint16_t port = x->which == 1 ? 4433 : x->pair->client_port;
    receive(x, flags & 4 ? 9999 : port, out, len, flags >> 6);
}

static void step(pair *p, input *in)
{
    uint8_t op = u8(in);
    side *x = &p->side[op & 1];
    datagram *d = x->count > 0 ? x->queue[0] : NULL;
    switch ((op >> 1) % 12) {
    case 0: { // time: to the next timer, or some milliseconds
        uint64_t ms = u8(in), t = next_timeout(p);
        p->now =
            ms == 0 && t < p->now + 60 * SECOND_US ? (t > p->now ? t : p->now) : p->now + ms * 1000;
        process(p);
        return;
    }
    case 1:
        deliver(x);
        return;
    case 2:
        while (x->count > 0)
            deliver(x);
        return;
    case 3:
        free(queue_take(x));
        return;
    case 4:
        if (d != NULL)
            receive(x, d->from_port, d->bytes, d->len, d->ecn);
        return;
    case 5: // the oldest goes behind the others
        if (d != NULL) {
            (void)queue_take(x);
            x->queue[x->count++] = d;
        }
        return;
    case 6: {
        unsigned at = u16(in), mask = u8(in);
        if (d != NULL)
            d->bytes[at % d->len] ^= (uint8_t)mask;
        return;
    }
    case 7:
    case 8:
        inject(x, in);
        return;
    case 9: {
        hm_bytes raw = bytes(in, u8(in));
        receive(x, p->client_port, raw.ptr, raw.len, 0);
        return;
    }
    case 10:
        app_call(x, in);
        return;
    default:
        if (op & 1)
            p->slow_reader = !p->slow_reader;
        else
            p->client_port = (uint16_t)(5000 + u8(in) % 4);
    }
}

static bool at_rest(const side *x)
{
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    while (hm_map_next(&x->conn->streams, &pos, &key, &value)) {
        const stoq_stream *s = value;
        if (s->reset ? !s->reset_acked : !stoq_sendbuf_all_acked(&s->out))
            return false;
        if (s->fin && !s->reset && !s->fin_acked)
            return false;
    }
    return x->conn->cc.in_flight == 0;
}

// The network is good from now on, and the application reads: all ends well. Timeouts double for as
// long as nothing arrives, so it may take twice the time that it was bad. A client whose address
// has changed must say something before the server can know, so it does now and then.
static void settle(pair *p)
{
    uint64_t end = 3 * p->now + 120 * SECOND_US, ping_us = 0;
    p->slow_reader = false;
    while (p->now < end) {
        for (unsigned i = 0; i < 2; i++) {
            side *x = &p->side[i];
            for (unsigned k = 0; k < STREAMS && x->conn != NULL; k++)
                if (x->streams[k].s != NULL)
                    read_some(x, &x->streams[k], SIZE_MAX);
            while (x->count > 0)
                deliver(x);
        }
        if (p->now >= ping_us && p->side[1].conn != NULL) {
            stoq_conn_ping(p->side[1].conn);
            ping_us = p->now + 5 * SECOND_US;
        }
        process(p);
        if (p->side[0].conn == NULL || p->side[1].conn == NULL)
            return; // closed by a call, or idle for too long
        if (p->side[0].conn->state != STOQ_CONN_OPEN || p->side[1].conn->state != STOQ_CONN_OPEN)
            return;
        if (p->side[0].count + p->side[1].count > 0)
            p->now += 1000;
        else if (at_rest(&p->side[0]) && at_rest(&p->side[1]))
            return;
        else
            p->now = next_timeout(p) < ping_us ? next_timeout(p) : ping_us;
    }
    hm_assert(!"everything arrives");
}

static void begin(pair *p, input *in)
{
    uint8_t a = u8(in), b = u8(in);
    *p = (pair){.now = SECOND_US, .client_port = 5000, .marks = b >> 7};
    hm_prng_seed(&p->prng, a);
    p->random = hm_random_prng(&p->prng);
    for (unsigned i = 0; i < 2; i++) {
        side *x = &p->side[i];
        x->pair = p;
        x->which = i;
        stoq_net net = {net_send, x};
        stoq_config config = {
            .bind = forge_address(i == 0 ? 4433 : 5000),
            .net = &net,
            .alpn = {STOQ_ALPN_MESH},
            .random = &p->random,
            .callbacks = {.conn_closed = on_closed,
                          .stream_open = on_stream_open,
                          .stream_readable = on_readable,
                          .stream_closed = on_stream_closed},
            .user = x,
            .secret = {1},
            .congestion = STOQ_CONGESTION_CUBIC + (b >> 6 & 1),
            .limits = {.stream_window_bytes = 4096u << (a & 3),
                       .conn_window_bytes = 6000u << (a >> 2 & 3),
                       .stream_send_bytes = 4096u << (a >> 4 & 3),
                       .max_streams_bidi = 1 + (b & 7),
                       .max_streams_uni = 1 + (b >> 3 & 7),
                       .max_datagram_bytes = b & 64 ? 300 : 0,
                       .max_udp_payload_bytes = 1452, // what the network here takes
                       .max_idle_ms = 3600000},
        };
        hm_assert(stoq_endpoint_create(&config, &x->ep) == HM_OK);
        x->ep->now_us = p->now;
    }
    struct sockaddr_in6 server = forge_address(4433), client = forge_address(5000);
    forge_pair(p->side[0].ep, &server, p->side[1].ep, &client, &p->side[0].conn, &p->side[1].conn);
    for (unsigned i = 0; i < 2; i++)
        p->side[i].conn->told_open = true;
    process(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    static pair p;
    begin(&p, &in);
    while (in.at < in.end)
        step(&p, &in);
    process(&p);
    if (!p.forged)
        settle(&p);
    for (unsigned i = 0; i < 2; i++)
        stoq_endpoint_destroy(p.side[i].ep);
    for (unsigned i = 0; i < 2; i++)
        while (p.side[i].count > 0)
            free(queue_take(&p.side[i]));
    return 0;
}
