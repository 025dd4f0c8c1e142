// A handshake over a network that the input governs: it delivers, drops, doubles, reorders and
// damages datagrams, and forges Initial packets with the keys that everybody on the way can
// compute, and Version Negotiation packets. Each side has its list of versions.
//
// Always: time goes on, and each side comes to an end or opens. When nothing was forged and no time
// was lost, both sides open.
#include "stoq_forge.h"
#include "stoq_ids.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define QUEUE 64u
#define SECOND_US UINT64_C(1000000)

typedef struct datagram {
    size_t len;
    uint8_t bytes[1500];
} datagram;

typedef struct side {
    struct pair *pair;
    unsigned which; // 0: server
    stoq_endpoint *ep;
    bool opened, closed;
    datagram *queue[QUEUE];
    unsigned count;
} side;

typedef struct pair {
    side side[2];
    hm_prng prng;
    hm_random random;
    uint64_t now;
    bool forged;
    stoq_cid dcid, scid; // of the client's newest Initial
} pair;

typedef struct input {
    const uint8_t *at, *end;
} input;

static stoq_ids ids;

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

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *ptr, size_t len,
                     size_t segment, uint8_t ecn)
{
    side *from = ctx;
    side *dest = &from->pair->side[!from->which];
    stoq_packet packet;
    (void)to, (void)ecn;
    if (from->which == 1 && stoq_packet_parse(ptr, len, &packet) == HM_OK &&
        packet.type == STOQ_PACKET_INITIAL) {
        from->pair->dcid = packet.dcid;
        from->pair->scid = packet.scid;
    }
    for (size_t at = 0; at < len && dest->count < QUEUE; at += segment) {
        datagram *d = malloc(sizeof *d);
        hm_assert(d != NULL);
        d->len = len - at < segment ? len - at : segment;
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

static void receive(side *s, const uint8_t *ptr, size_t len)
{
    uint8_t copy[FORGE_MAX];
    struct sockaddr_in6 from = forge_address(s->which == 0 ? 5000 : 4433);
    memcpy(copy, ptr, len);
    stoq_endpoint_receive(s->ep, &from, copy, len, len, 0, s->pair->now);
}

static void deliver(side *s)
{
    datagram *d = queue_take(s);
    if (d != NULL)
        receive(s, d->bytes, d->len);
    free(d);
}

static void on_open(void *user, stoq_conn *c)
{
    (void)c;
    ((side *)user)->opened = true;
}
static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)c, (void)code, (void)is_app, (void)reason;
    ((side *)user)->closed = true;
}

static void process(pair *p)
{
    for (unsigned i = 0; i < 2; i++) {
        unsigned turns = 0;
        do {
            stoq_endpoint_process(p->side[i].ep, p->now, false);
            hm_assert(++turns < 100);
        } while (stoq_endpoint_next_timeout_us(p->side[i].ep) <= p->now);
    }
}

static uint64_t next_timeout(const pair *p)
{
    uint64_t a = stoq_endpoint_next_timeout_us(p->side[0].ep),
             b = stoq_endpoint_next_timeout_us(p->side[1].ep);
    return a < b ? a : b;
}

static const uint32_t lists[4][STOQ_MAX_VERSIONS] = {
    {STOQ_VERSION_1, STOQ_VERSION_2},
    {STOQ_VERSION_2, STOQ_VERSION_1},
    {STOQ_VERSION_1},
    {STOQ_VERSION_2},
};

static void forge_version(pair *p, uint8_t flags)
{
    uint8_t out[STOQ_VERSION_PACKET_MAX];
    p->forged = true;
    size_t len =
        stoq_version_packet_write(out, lists[flags >> 4 & 3], hm_bytes_of(p->dcid.id, p->dcid.len),
                                  hm_bytes_of(p->scid.id, p->scid.len), flags);
    receive(&p->side[1], out, len);
}

// An Initial packet in a full-sized datagram, of the client or of the server.
static void forge(pair *p, side *x, input *in)
{
    uint8_t flags = u8(in), payload[1300] = {0}, out[FORGE_MAX];
    if (flags & 8) {
        forge_version(p, flags);
        return;
    }
    hm_bytes frames = bytes(in, u16(in) % 1100);
    uint64_t pn = 1000 + u8(in);
    stoq_keys client = {0}, server = {0};
    p->forged = true;
    if (frames.len > 0)
        memcpy(payload, frames.ptr, frames.len);
    bool to_server = x->which == 0;
    // For the client the keys of sending are the server's.
    hm_assert(stoq_keys_init_initial(&client, &server, &stoq_versions[flags >> 2 & 1], &p->dcid) ==
              HM_OK);
    stoq_cid dcid = to_server ? p->dcid : p->scid, scid = to_server ? p->scid : p->dcid;
    scid.id[0] ^= flags & 2;
    size_t len =
        forge_long(to_server ? &client : &server, STOQ_PACKET_INITIAL, &dcid, &scid, (hm_bytes){0},
                   pn, hm_bytes_of(payload, flags & 1 ? 1160 : frames.len + 4), out);
    receive(x, out, len);
    stoq_keys_free(&client);
    stoq_keys_free(&server);
}

static void step(pair *p, input *in)
{
    uint8_t op = u8(in);
    side *x = &p->side[op & 1];
    datagram *d = x->count > 0 ? x->queue[0] : NULL;
    switch ((op >> 1) % 9) {
    case 0: {
        uint64_t ms = u8(in) % 64, t = next_timeout(p);
        p->now = ms == 0 && t < p->now + SECOND_US ? (t > p->now ? t : p->now) : p->now + ms * 1000;
        process(p);
        return;
    }
    case 1:
        deliver(x);
        process(p);
        return;
    case 2:
        deliver(x);
        return;
    case 3:
        free(queue_take(x));
        return;
    case 4:
        if (d != NULL)
            receive(x, d->bytes, d->len);
        return;
    case 5:
        if (d != NULL) {
            (void)queue_take(x);
            x->queue[x->count++] = d;
        }
        return;
    case 6: {
        unsigned at = u16(in), mask = u8(in);
        if (d != NULL)
            d->bytes[at % d->len] ^= (uint8_t)mask;
        stoq_packet packet;
        p->forged |= d != NULL && stoq_packet_parse(d->bytes, d->len, &packet) == HM_OK &&
                     packet.type == STOQ_PACKET_VERSION; // which nothing protects
        return;
    }
    case 7:
        forge(p, x, in);
        return;
    default: {
        hm_bytes raw = bytes(in, u16(in) % 1300);
        p->forged = true; // it may be a Retry, whose integrity tag everybody can compute
        receive(x, raw.ptr, raw.len);
    }
    }
}

static void begin(pair *p, uint8_t kind)
{
    struct sockaddr_in6 to = forge_address(4433);
    stoq_conn *c;
    *p = (pair){.now = SECOND_US};
    // One speaks version 1 alone and the other version 2: that ends as if somebody had forged.
    p->forged = (kind >> 1 & 3) + (kind >> 3 & 3) == 5;
    hm_prng_seed(&p->prng, 1);
    p->random = hm_random_prng(&p->prng);
    for (unsigned i = 0; i < 2; i++) {
        side *x = &p->side[i];
        x->pair = p;
        x->which = i;
        stoq_net net = {net_send, x};
        stoq_config config = {.bind = forge_address(i == 0 ? 4433 : 5000),
                              .net = &net,
                              .server_tls = i == 0 ? ids.server : NULL,
                              .client_tls = i == 1 ? ids.client : NULL,
                              .alpn = {STOQ_ALPN_MESH},
                              .random = &p->random,
                              .callbacks = {.conn_open = on_open, .conn_closed = on_closed},
                              .user = x,
                              .always_retry = kind & 1,
                              .secret = {1},
                              .limits = {.max_udp_payload_bytes = 1452}};
        memcpy(config.versions, lists[kind >> (i == 0 ? 1 : 3) & 3], sizeof config.versions);
        hm_assert(stoq_endpoint_create(&config, &x->ep) == HM_OK);
        x->ep->now_us = p->now;
    }
    hm_assert(stoq_connect(p->side[1].ep, &to, NULL, NULL, NULL, &c) == HM_OK);
    process(p);
}

// The network is good: the client opens or learns that it cannot, and the server keeps nothing that
// is neither open nor ending.
static void settle(pair *p, bool in_time)
{
    uint64_t end = p->now + 60 * SECOND_US;
    side *server = &p->side[0], *client = &p->side[1];
    while (p->now < end &&
           !((server->opened || client->closed) && (client->opened || client->closed))) {
        for (unsigned i = 0; i < 2; i++)
            while (p->side[i].count > 0)
                deliver(&p->side[i]);
        process(p);
        uint64_t t = next_timeout(p);
        p->now = server->count + client->count > 0 || t <= p->now ? p->now + 1000 : t;
    }
    hm_assert(client->opened || client->closed);
    hm_assert(p->forged || !in_time || (client->opened && server->opened));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    stoq_ids_make(&ids);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    static pair p;
    begin(&p, u8(&in));
    while (in.at < in.end)
        step(&p, &in);
    settle(&p, p.now < 4 * SECOND_US);
    for (unsigned i = 0; i < 2; i++)
        stoq_endpoint_destroy(p.side[i].ep);
    for (unsigned i = 0; i < 2; i++)
        while (p.side[i].count > 0)
            free(queue_take(&p.side[i]));
    return 0;
}
