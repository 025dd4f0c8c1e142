// The transport over seeded networks from bad to dreadful: loss up to 30 %, reordering,
// duplication, corruption, delays up to 600 ms, black-outs, a client behind a NAT whose mappings
// change and that moves between four addresses of its own, to ones that are dead and from ones that
// died, windows of a few kilobytes, streams that are reset or stopped halfway, key updates in
// between, slow readers; bytes sent by copy and lent, datagrams that come alone and many at once.
//
// For every seed: bytes arrive exactly, every stream and connection comes to its end within a time
// that follows from the network, nothing is ever waited for that does not come, and nothing is
// left.
//
//   test_stoq_soak               seeds 1 to 600
//   test_stoq_soak FIRST COUNT   others, with a line for each that fails
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "stoq_forge.h"
#include "stoq_ids.h"

#define MS UINT64_C(1000)
#define SECOND UINT64_C(1000000)
#define CONNS 2u
#define FLOWS 24u // of a connection in each direction
#define SERVER 0u
#define CLIENT 1u
#define PLACES 4u // local addresses of the client
#define PLACE_PORT 5000u
#define LEAK_BYTES (1 << 20) // what caches of libraries may keep

// ---- the plan of a seed -------------------------------------------------------------------------

typedef enum fate { WHOLE, RESET, STOPPED } fate;

// Bytes on loan to the transport.
typedef struct loan {
    struct loan *next;
    size_t len;
    uint8_t bytes[];
} loan;

// One direction of a stream.
typedef struct flow {
    bool planned, ended; // ended: this sender is done with it
    fate fate;
    uint64_t size, at; // at: where a reset or a stop comes
    uint64_t sent, received;
    bool got_fin, got_reset;
    loan *lent, **last; // in the order in which they must come back
} flow;

typedef struct party {
    struct world *w;
    unsigned side;
    stoq_conn *conn; // NULL before and after
    bool opened, closed;
    bool moving; // to `target`
    unsigned target;
    flow out[4 * FLOWS]; // what this side sends, by stream id
    stoq_stream *streams[4 * FLOWS];
    unsigned to_open[2], open_count, close_count;
} party;

typedef struct datagram {
    hm_heap_node node;
    unsigned to;
    unsigned place; // of the client
    uint16_t from_port;
    size_t len;
    uint8_t ecn;
    uint8_t bytes[];
} datagram;

// A local address of the client as the server sees it.
typedef struct place {
    uint16_t outside; // a port of the NAT
    uint64_t dead_until_us;
} place;

typedef struct world {
    uint64_t seed;
    hm_prng prng;
    hm_random random;
    uint64_t now;
    // the network
    unsigned loss, dup, corrupt; // per mille
    unsigned ce, bleached;       // per mille of what is marked ECT(0)
    size_t path_mtu, narrow_mtu; // longer datagrams get lost; the second one from narrow_us on
    uint64_t narrow_us;
    bool together; // what arrives at one time does so in one piece
    uint64_t delay_us, jitter_us;
    uint64_t dark_from_us, dark_to_us;
    place places[PLACES];
    unsigned rebinds;       // changes of the NAT's mapping that are to come
    unsigned moves, deaths; // of the client, and of places
    unsigned moves_planned; // at the beginning
    uint64_t dead_us;       // of all deaths
    bool whole;             // nothing that is sent gets lost
    hm_heap flying;
    // the endpoints and who uses them
    stoq_endpoint *ep[2];
    unsigned conns;
    party parties[2][CONNS];
    size_t read_max; // bytes that a slow reader takes at a time; 0: everything
    uint64_t tick_us, next_tick_us;
    uint64_t bytes; // planned, of all flows
    bool finishing;
    const char *wrong;
} world;

static stoq_ids ids;

static uint64_t below(world *w, uint64_t n)
{
    return hm_prng_below(&w->prng, n);
}
static bool chance(world *w, unsigned per_mille)
{
    return below(w, 1000) < per_mille;
}
static bool is_dead(const world *w, unsigned at)
{
    return w->places[at].dead_until_us > w->now;
}
static void wrong(world *w, const char *what)
{
    if (w->wrong == NULL)
        w->wrong = what;
}

// ---- the network --------------------------------------------------------------------------------

static void fly(world *w, unsigned to, unsigned at_place, const uint8_t *bytes, size_t len,
                uint8_t ecn)
{
    if (is_dead(w, at_place) || len > (w->now < w->narrow_us ? w->path_mtu : w->narrow_mtu) ||
        chance(w, w->loss) || (w->now >= w->dark_from_us && w->now < w->dark_to_us))
        return;
    datagram *d = malloc(sizeof *d + len);
    hm_assert(d != NULL);
    *d = (datagram){.to = to,
                    .len = len,
                    .place = at_place,
                    .from_port = to == SERVER ? w->places[at_place].outside : 4433};
    if (ecn != 0)
        d->ecn = chance(w, w->ce) ? 3 : chance(w, w->bleached) ? 0 : ecn;
    memcpy(d->bytes, bytes, len);
    if (chance(w, w->corrupt))
        d->bytes[below(w, len)] ^= (uint8_t)(1 + below(w, 255));
    uint64_t at = w->now + w->delay_us + (w->jitter_us > 0 ? below(w, w->jitter_us) : 0);
    hm_assert(hm_heap_set(&w->flying, &d->node, at) == HM_OK);
}

typedef struct net {
    world *w;
    unsigned side;
} net;
static net nets[2];

static void send_all(net *n, unsigned at_place, const uint8_t *bytes, size_t len, size_t segment,
                     uint8_t ecn)
{
    world *w = n->w;
    for (size_t at = 0; at < len; at += segment) {
        size_t part = len - at < segment ? len - at : segment;
        fly(w, !n->side, at_place, bytes + at, part, ecn);
        if (chance(w, w->dup))
            fly(w, !n->side, at_place, bytes + at, part, ecn);
    }
}

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                     size_t segment, uint8_t ecn)
{
    net *n = ctx;
    unsigned at = 0;
    while (n->side == SERVER && n->w->places[at].outside != ntohs(to->sin6_port))
        if (++at == PLACES)
            return; // nobody is there any more
    send_all(n, at, bytes, len, segment, ecn);
}

static void net_send_from(void *ctx, const struct sockaddr_in6 *from, const struct sockaddr_in6 *to,
                          const uint8_t *bytes, size_t len, size_t segment, uint8_t ecn)
{
    (void)to;
    send_all(ctx, ntohs(from->sin6_port) - PLACE_PORT, bytes, len, segment, ecn);
}

// Of one length but for the last, as generic receive offload hands them over.
static bool joins(const world *w, const datagram *first, const datagram *last, const datagram *d)
{
    return w->together && d->to == first->to && d->place == first->place &&
           d->from_port == first->from_port && last->len == first->len && d->len <= first->len &&
           d->ecn == first->ecn;
}

static void deliver(world *w)
{
    static uint8_t joined[65536];
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL && n->key <= w->now) {
        datagram *first = hm_container_of(n, datagram, node), *last = first;
        struct sockaddr_in6 from = forge_address(first->from_port);
        size_t len = first->len;
        hm_heap_remove(&w->flying, n);
        memcpy(joined, first->bytes, first->len);
        while ((n = hm_heap_min(&w->flying)) != NULL && n->key <= w->now) {
            datagram *d = hm_container_of(n, datagram, node);
            if (!joins(w, first, last, d) || len + d->len > sizeof joined)
                break;
            hm_heap_remove(&w->flying, n);
            memcpy(joined + len, d->bytes, d->len);
            len += d->len;
            if (last != first)
                free(last);
            last = d;
        }
        struct sockaddr_in6 at =
            forge_address(first->to == SERVER ? 4433 : (uint16_t)(PLACE_PORT + first->place));
        stoq_endpoint_receive_at(w->ep[first->to], &at, &from, joined, len, first->len, first->ecn,
                                 w->now);
        memset(joined, 0xdd, len); // nobody may look at it any more
        if (last != first)
            free(last);
        free(first);
    }
}

// ---- the application ----------------------------------------------------------------------------

static uint8_t pattern(unsigned side, uint64_t id, uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16) + id * 5 + side * 101);
}

static flow *flow_of(party *p, const stoq_stream *s)
{
    uint64_t id = stoq_stream_id(s);
    hm_assert(id < 4 * FLOWS);
    return &p->out[id];
}

static party *other(party *p)
{
    return &p->w->parties[!p->side][p - p->w->parties[p->side]];
}

static void plan(party *p, uint64_t id)
{
    world *w = p->w;
    static const uint64_t sizes[] = {0, 1, 1000, 10000, 40000};
    uint64_t most = sizes[below(w, 5)];
    flow *f = &p->out[id];
    *f = (flow){.planned = true, .size = most == 0 ? 0 : 1 + below(w, most)};
    f->last = &f->lent;
    f->fate = f->size == 0 ? WHOLE : chance(w, 150) ? RESET : chance(w, 100) ? STOPPED : WHOLE;
    f->at = f->size / 2;
    w->bytes += f->size;
}

static void free_loan(loan *l)
{
    memset(l->bytes, 0xdd, l->len); // what is sent of it after this is wrong
    free(l);
}

static hm_err lend(flow *f, stoq_stream *s, hm_bytes block, bool fin, size_t *took)
{
    loan *l = malloc(sizeof *l + block.len);
    hm_assert(l != NULL);
    l->next = NULL;
    l->len = block.len;
    memcpy(l->bytes, block.ptr, block.len);
    hm_err err = stoq_stream_lend(s, hm_bytes_of(l->bytes, l->len), fin, l);
    *took = err == HM_OK ? l->len : 0;
    if (err != HM_OK) {
        free(l);
        return err == HM_E_STOQ_BLOCKED ? HM_OK : err;
    }
    *f->last = l;
    f->last = &l->next;
    return HM_OK;
}

static void on_returned(void *user, stoq_stream *s, void *tag)
{
    (void)user;
    party *p = stoq_conn_user(stoq_stream_conn(s));
    flow *f = flow_of(p, s);
    loan *l = f->lent;
    if (l == NULL || l != tag) {
        wrong(p->w, "bytes came back that were not the next");
        return;
    }
    f->lent = l->next;
    if (f->lent == NULL)
        f->last = &f->lent;
    free_loan(l);
}

static void push(party *p, stoq_stream *s)
{
    flow *f = flow_of(p, s);
    uint8_t block[2048];
    while (f->planned && !f->ended) {
        size_t n = f->size - f->sent < sizeof block ? (size_t)(f->size - f->sent) : sizeof block;
        size_t took;
        if (f->fate == RESET && f->sent >= f->at) {
            stoq_stream_reset(s, 1000 + stoq_stream_id(s));
            f->ended = true;
            return;
        }
        if (f->fate == RESET && n > f->at - f->sent)
            n = (size_t)(f->at - f->sent);
        for (size_t i = 0; i < n; i++)
            block[i] = pattern(p->side, stoq_stream_id(s), f->sent + i);
        bool fin = f->sent + n == f->size, lends = n > 0 && chance(p->w, 500);
        hm_bytes bytes = hm_bytes_of(block, n);
        hm_err err = lends ? lend(f, s, bytes, fin, &took) : stoq_stream_send(s, bytes, fin, &took);
        if (err == HM_E_STOQ_RESET) { // the other side said stop
            if (f->fate != STOPPED)
                wrong(p->w, "a stream was reset that nobody stopped");
            f->ended = true;
            return;
        }
        if (err != HM_OK)
            wrong(p->w, "a send failed");
        f->sent += took;
        if (took < n)
            return;
        f->ended = f->sent == f->size;
    }
}

static void read_some(party *p, stoq_stream *s, size_t most)
{
    flow *f = flow_of(other(p), s);
    for (size_t got = 0; got < most;) {
        hm_bytes v;
        bool fin;
        hm_err err = stoq_stream_peek(s, &v, &fin);
        if (err == HM_E_STOQ_RESET) {
            bool stopped = f->fate == STOPPED;
            if (f->fate == WHOLE)
                wrong(p->w, "a reset of a stream that was to be whole");
            if (!stopped && stoq_stream_reset_code(s) != 1000 + stoq_stream_id(s))
                wrong(p->w, "a reset with another code");
            f->got_reset = true;
            return;
        }
        if (err != HM_OK || (v.len == 0 && !fin))
            return;
        size_t n = v.len < most - got ? v.len : most - got;
        for (size_t i = 0; i < n; i++)
            if (v.ptr[i] != pattern(!p->side, stoq_stream_id(s), f->received + i))
                wrong(p->w, "a wrong byte");
        f->received += n;
        got += n;
        f->got_fin |= fin && n == v.len;
        stoq_stream_consume(s, n);
        if (f->fate == STOPPED && f->received >= f->at) {
            stoq_stream_stop(s, 7);
            return;
        }
        if (f->got_fin)
            return;
    }
}

static void on_readable(void *user, stoq_stream *s)
{
    (void)user;
    party *p = stoq_conn_user(stoq_stream_conn(s));
    if (p->w->read_max == 0)
        read_some(p, s, SIZE_MAX);
}

static void on_writable(void *user, stoq_stream *s)
{
    (void)user;
    push(stoq_conn_user(stoq_stream_conn(s)), s);
}

static void on_stream_open(void *user, stoq_stream *s)
{
    (void)user;
    party *p = stoq_conn_user(stoq_stream_conn(s));
    p->streams[stoq_stream_id(s)] = s;
    p->open_count++;
    if (!stoq_stream_is_uni(s)) {
        plan(p, stoq_stream_id(s)); // the answer
        push(p, s);
    }
}

static void on_stream_closed(void *user, stoq_stream *s)
{
    (void)user;
    party *p = stoq_conn_user(stoq_stream_conn(s));
    flow *f = flow_of(p, s);
    while (f->lent != NULL) {
        loan *l = f->lent;
        f->lent = l->next;
        free_loan(l);
    }
    p->streams[stoq_stream_id(s)] = NULL;
    p->close_count++;
}

static void open_streams(party *p)
{
    stoq_stream *s;
    for (int uni = 0; uni < 2; uni++)
        while (p->to_open[uni] > 0 && stoq_stream_open(p->conn, uni, &s) == HM_OK) {
            p->to_open[uni]--;
            p->open_count++;
            p->streams[stoq_stream_id(s)] = s;
            plan(p, stoq_stream_id(s));
            push(p, s);
        }
}

// The client's connections are told apart by the ids that they gave.
static party *party_of(world *w, const stoq_conn *c)
{
    for (unsigned i = 0; i < w->conns; i++) {
        const stoq_conn *k = w->parties[CLIENT][i].conn;
        if (k == c || (k != NULL && stoq_cid_eq(&c->peer_initial_scid, &k->local[0].cid)))
            return &w->parties[stoq_conn_is_server(c) ? SERVER : CLIENT][i];
    }
    hm_assert(!"a connection of nobody");
    return NULL;
}

static void on_open(void *user, stoq_conn *c)
{
    net *n = user;
    party *p = party_of(n->w, c);
    p->conn = c;
    p->opened = true;
    stoq_conn_set_user(c, p);
    open_streams(p);
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    net *n = user;
    party *p = stoq_conn_user(c);
    // Who moved at the end may not hear the close, and be told by a reset.
    bool expected = n->w->finishing && ((is_app && code == 99) || code == STOQ_CLOSED_RESET);
    if (p == NULL || !p->opened || !expected) {
        printf("# code 0x%llx, %.*s\n", (unsigned long long)code, (int)reason.len,
               (const char *)reason.ptr);
        wrong(n->w, "a connection was closed");
        return;
    }
    p->closed = true;
    p->conn = NULL;
}

static unsigned place_of(const stoq_conn *c)
{
    struct sockaddr_in6 at;
    stoq_conn_local_address(c, &at);
    return ntohs(at.sin6_port) - PLACE_PORT;
}

static unsigned moved_total, stayed_total;

static void on_moved(void *user, stoq_conn *c, bool moved)
{
    net *n = user;
    party *p = stoq_conn_user(c);
    if (!p->moving || (place_of(c) == p->target) != moved)
        wrong(n->w, "it is not where it says");
    if (!moved && n->w->whole)
        wrong(n->w, "it stayed, though the way was good");
    p->moving = false;
    *(moved ? &moved_total : &stayed_total) += 1;
}

static void move(party *p)
{
    world *w = p->w;
    unsigned target = (unsigned)below(w, PLACES), at = place_of(p->conn);
    struct sockaddr_in6 to = forge_address((uint16_t)(PLACE_PORT + target));
    hm_err err = stoq_conn_migrate(p->conn, &to);
    if (err == HM_OK) {
        p->moving = true;
        p->target = target;
    } else if (err != HM_E_AGAIN && !(err == HM_E_EXISTS && target == at)) {
        wrong(w, "a move failed");
    }
}

// The client moves as it likes, and soon from where nothing gets through any more.
static void wander(world *w)
{
    for (unsigned i = 0; i < w->conns; i++) {
        party *p = &w->parties[CLIENT][i];
        if (p->conn == NULL || w->moves_planned == 0)
            continue;
        if (w->moves > 0 && chance(w, 100)) {
            w->moves--;
            move(p);
        } else if (is_dead(w, place_of(p->conn)) && !p->moving && chance(w, 500)) {
            move(p);
        }
    }
    if (w->deaths > 0 && chance(w, 50)) {
        uint64_t us = below(w, 5 * SECOND);
        w->deaths--;
        w->dead_us += us;
        w->places[below(w, PLACES)].dead_until_us = w->now + us;
    }
    if (w->rebinds > 0 && chance(w, 50)) {
        w->rebinds--;
        w->places[chance(w, 500) ? 0 : below(w, PLACES)].outside++;
    }
}

static void tick(world *w)
{
    bool all_open = true; // an address that changes earlier ends a handshake
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < w->conns; i++) {
            party *p = &w->parties[side][i];
            all_open &= p->opened;
            if (p->conn == NULL || !p->opened)
                continue;
            open_streams(p);
            for (unsigned id = 0; id < 4 * FLOWS; id++)
                if (p->streams[id] != NULL && w->read_max > 0)
                    read_some(p, p->streams[id], w->read_max);
            if (side == CLIENT)
                stoq_conn_ping(p->conn); // so that a new address becomes known
            if (!w->finishing && chance(w, 50)) {
                hm_err err = stoq_conn_update_keys(p->conn);
                if (err != HM_OK && err != HM_E_AGAIN)
                    wrong(w, "a key update failed");
            }
        }
    if (all_open)
        wander(w);
}

// ---- a run --------------------------------------------------------------------------------------

static void make_endpoint(world *w, unsigned side, bool retry)
{
    static const uint32_t windows[] = {4096, 16384, 65536, 1 << 20};
    nets[side] = (net){w, side};
    stoq_net n = {.send = net_send, .ctx = &nets[side], .send_from = net_send_from};
    stoq_config config = {
        .bind = forge_address(side == SERVER ? 4433 : PLACE_PORT),
        .net = &n,
        .server_tls = side == SERVER ? ids.server : NULL,
        .client_tls = side == CLIENT ? ids.client : NULL,
        .alpn = {STOQ_ALPN_MESH},
        .random = &w->random,
        .callbacks = {.conn_open = on_open,
                      .conn_closed = on_closed,
                      .stream_open = on_stream_open,
                      .stream_readable = on_readable,
                      .stream_writable = on_writable,
                      .stream_closed = on_stream_closed,
                      .stream_returned = on_returned,
                      .conn_moved = on_moved},
        .user = &nets[side],
        .always_retry = retry,
        .congestion = STOQ_CONGESTION_CUBIC + (stoq_congestion)below(w, 2),
        .secret = {1},
        .limits = {.stream_window_bytes = windows[below(w, 4)],
                   .conn_window_bytes = windows[below(w, 4)] + (uint32_t)below(w, 3000),
                   .stream_send_bytes = windows[below(w, 4)],
                   .max_streams_bidi = 1 + (uint32_t)below(w, 8),
                   .max_streams_uni = 1 + (uint32_t)below(w, 8),
                   .max_udp_payload_bytes = chance(w, 500) ? 0 : 1200 + (uint32_t)below(w, 300),
                   .max_idle_ms = 3600000,
                   .max_handshake_ms = 3600000},
    };
    hm_assert(stoq_endpoint_create(&config, &w->ep[side]) == HM_OK);
}

static void begin(world *w, uint64_t seed)
{
    static const uint64_t delays[] = {500, 5 * MS, 40 * MS, 150 * MS, 600 * MS};
    *w = (world){.seed = seed, .now = SECOND};
    for (unsigned i = 0; i < PLACES; i++)
        w->places[i].outside = (uint16_t)(6000 + 100 * i);
    hm_prng_seed(&w->prng, seed);
    w->random = hm_random_prng(&w->prng);
    bool retry = chance(w, 250);
    // A Retry token lives for ten seconds, and a client takes only one.
    w->loss = chance(w, 200) ? 0 : (unsigned)below(w, retry ? 100 : 301);
    w->dup = chance(w, 500) ? 0 : (unsigned)below(w, 200);
    w->corrupt = chance(w, 500) ? 0 : (unsigned)below(w, 100);
    w->ce = chance(w, 500) ? 0 : (unsigned)below(w, 200);
    w->bleached = chance(w, 800) ? 0 : chance(w, 500) ? 1000 : (unsigned)below(w, 100);
    w->delay_us = delays[below(w, 5)];
    w->together = chance(w, 600);
    w->path_mtu = chance(w, 200) ? 65527 : 1200 + below(w, chance(w, 500) ? 300 : 10000);
    w->narrow_mtu = chance(w, 500) ? 1200 + below(w, 250) : w->path_mtu;
    w->narrow_us = w->now + below(w, 10 * SECOND);
    w->jitter_us = chance(w, 300) ? 0 : below(w, w->delay_us);
    if (chance(w, 200)) {
        w->dark_from_us = w->now + below(w, 20 * w->delay_us + SECOND);
        w->dark_to_us = w->dark_from_us + below(w, 3 * SECOND);
    }
    w->rebinds = chance(w, 200) ? 1 + (unsigned)below(w, 2) : 0;
    w->moves = w->moves_planned = chance(w, 400) ? 1 + (unsigned)below(w, 8) : 0;
    w->deaths = w->moves > 0 && chance(w, 500) ? 1 + (unsigned)below(w, 3) : 0;
    w->whole = w->loss + w->corrupt + w->rebinds + w->deaths + (unsigned)w->dark_to_us == 0;
    w->read_max = chance(w, 300) ? 500 + below(w, 4000) : 0;
    w->tick_us = w->delay_us > 20 * MS ? w->delay_us : 20 * MS;
    w->next_tick_us = w->now + w->tick_us;
    w->conns = 1 + (unsigned)below(w, CONNS);
    make_endpoint(w, SERVER, retry);
    make_endpoint(w, CLIENT, false);
    for (unsigned i = 0; i < w->conns; i++) {
        struct sockaddr_in6 to = forge_address(4433);
        for (unsigned side = 0; side < 2; side++) {
            party *p = &w->parties[side][i];
            p->w = w;
            p->side = side;
            p->to_open[0] = (unsigned)below(w, FLOWS / 2);
            p->to_open[1] = (unsigned)below(w, FLOWS / 2);
        }
        hm_assert(stoq_connect(w->ep[CLIENT], &to, NULL, NULL, NULL, &w->parties[CLIENT][i].conn) ==
                  HM_OK);
    }
}

static bool party_done(party *p)
{
    if (!p->opened || p->to_open[0] + p->to_open[1] > 0 || p->open_count > p->close_count)
        return false;
    party *o = other(p);
    return o->opened && o->to_open[0] + o->to_open[1] == 0 && p->open_count == o->open_count;
}

static bool all_done(world *w)
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < w->conns; i++)
            if (!party_done(&w->parties[side][i]))
                return false;
    return true;
}

static bool all_closed(world *w)
{
    return w->ep[SERVER]->stats.connections + w->ep[CLIENT]->stats.connections == 0;
}

static void check_flows(world *w)
{
    for (unsigned side = 0; side < 2; side++)
        for (unsigned i = 0; i < w->conns; i++)
            for (unsigned id = 0; id < 4 * FLOWS; id++) {
                const flow *f = &w->parties[side][i].out[id];
                if (!f->planned)
                    continue;
                if (f->fate == WHOLE && !(f->got_fin && f->received == f->size))
                    wrong(w, "a stream that did not come whole");
                if (f->fate == RESET && !f->got_reset)
                    wrong(w, "a reset that did not come");
                if (f->received > f->sent)
                    wrong(w, "more came than was sent");
            }
}

// A window of two packets moves two packets in a round trip that loses neither them nor what
// acknowledges them; a probe timeout is about three round trips, and doubles a few times.
static uint64_t time_allowed(const world *w)
{
    uint64_t rtt = 2 * (w->delay_us + w->jitter_us) + 30 * MS;
    uint64_t window = w->ep[0]->limits.stream_window_bytes < 16384 ? 2000 : 4000;
    uint64_t rounds = 100 + w->bytes / window + 4 * FLOWS * w->conns;
    double through = (1 - w->loss / 1000.0) * (1 - w->corrupt / 1000.0);
    return (uint64_t)((double)(rounds * rtt) * 2 / (through * through)) + 256 * rtt +
           4 * (w->dark_to_us - w->dark_from_us + w->dead_us) +
           w->moves_planned * (8 * rtt + 4 * SECOND) + 60 * SECOND;
}

// Turns the world until the condition holds.
static void run(world *w, bool (*done)(world *))
{
    uint64_t start = w->now;
    while (w->wrong == NULL) {
        deliver(w);
        uint64_t next = w->next_tick_us;
        if (w->now >= w->next_tick_us) {
            tick(w);
            next = w->next_tick_us = w->now + w->tick_us;
        }
        for (int i = 0; i < 2; i++)
            stoq_endpoint_process(w->ep[i], w->now, false);
        if (done(w))
            return;
        for (int i = 0; i < 2; i++) {
            uint64_t t = stoq_endpoint_next_timeout_us(w->ep[i]);
            next = t < next ? t : next;
        }
        hm_heap_node *n = hm_heap_min(&w->flying);
        next = n != NULL && n->key < next ? n->key : next;
        w->now = next > w->now ? next : w->now + 1;
        if (w->now > start + time_allowed(w))
            wrong(w, "it does not come to its end");
    }
}

static void finish(world *w)
{
    for (unsigned i = 0; i < w->conns && w->wrong == NULL; i++)
        stoq_conn_close(w->parties[below(w, 2)][i].conn, 99, "done");
    w->finishing = true;
    w->loss = w->corrupt = w->rebinds = w->deaths = w->moves_planned = 0; // a close is said once
    w->dark_to_us = 0;
    for (unsigned i = 0; i < PLACES; i++)
        w->places[i].dead_until_us = 0;
    if (w->wrong == NULL)
        run(w, all_closed);
    for (int i = 0; i < 2 && w->wrong == NULL; i++)
        if (w->ep[i]->by_cid.count + w->ep[i]->by_initial.count + w->ep[i]->by_token.count +
                w->ep[i]->timers.count + w->ep[i]->stats.half_open >
            0)
            wrong(w, "something is left in an endpoint");
    if (w->wrong != NULL) // what its destruction says is of no interest
        for (unsigned side = 0; side < 2; side++)
            w->ep[side]->callbacks = (stoq_callbacks){0};
    for (int i = 0; i < 2; i++)
        stoq_endpoint_destroy(w->ep[i]);
    hm_heap_node *n;
    while ((n = hm_heap_min(&w->flying)) != NULL) {
        hm_heap_remove(&w->flying, n);
        free(hm_container_of(n, datagram, node));
    }
    hm_heap_free(&w->flying);
}

static void describe(const world *w)
{
    printf("# seed %llu: %s; loss %u dup %u corrupt %u per mille, delay %llu jitter %llu us, dark "
           "%llu us, dead %llu us, %u moves, %u connections, %llu bytes, at %llu us\n",
           (unsigned long long)w->seed, w->wrong, w->loss, w->dup, w->corrupt,
           (unsigned long long)w->delay_us, (unsigned long long)w->jitter_us,
           (unsigned long long)(w->dark_to_us - w->dark_from_us), (unsigned long long)w->dead_us,
           w->moves_planned - w->moves, w->conns, (unsigned long long)w->bytes,
           (unsigned long long)w->now);
}

// True when all was well. *share: of the time allowed.
static bool one(uint64_t seed, double *share)
{
    static world w;
    begin(&w, seed);
    uint64_t start = w.now;
    run(&w, all_done);
    *share = (double)(w.now - start) / (double)time_allowed(&w);
    check_flows(&w);
    if (w.wrong != NULL)
        describe(&w);
    bool ok = w.wrong == NULL;
    finish(&w);
    if (ok && w.wrong != NULL)
        describe(&w);
    return w.wrong == NULL;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 2 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 600, bad = 0;
    double most = 0, share;
    stoq_ids_make(&ids);
    (void)one(first, &share); // fills the libraries' caches
    size_t before = mallinfo2().uordblks;
    for (uint64_t seed = first; seed < first + count; seed++) {
        bad += !one(seed, &share);
        most = share > most ? share : most;
    }
    size_t after = mallinfo2().uordblks;
    bool leaks = after > before + LEAK_BYTES;
    printf("# the clients moved %u times, and stayed %u times\n", moved_total, stayed_total);
    printf("1..2\n");
    printf("%s 1 - seeds %llu to %llu: %llu failed, the slowest took %.2f of the time allowed\n",
           bad == 0 ? "ok" : "not ok", (unsigned long long)first,
           (unsigned long long)(first + count - 1), (unsigned long long)bad, most);
    printf("%s 2 - %lld bytes more in use at the end\n", leaks ? "not ok" : "ok",
           (long long)after - (long long)before);
    stoq_ids_free(&ids);
    return bad > 0 || leaks;
}
