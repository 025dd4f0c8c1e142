// Session tickets and early data over seeded networks that lose, reorder, double and damage
// datagrams, at servers that are restarted between connections, with other settings, or get new
// certificates: sessions that are fresh, used before, over, or of a server that is gone.
//
// For every seed: every byte comes back as it was sent, early data is taken when the ticket is
// fresh and of this server and never else, each ticket's once, and whoever records a client's first
// packets and sends them again gets no connection. Nothing is left.
//
//   test_stoq_early_soak               seeds 1 to 300
//   test_stoq_early_soak FIRST COUNT   others, with a line for each that fails
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "stoq_forge.h"
#include "stoq_pair.h"

#define SECOND UINT64_C(1000000)
#define ROUNDS 6u
#define STREAMS 5u
#define KEPT 4u
#define RECORDED 24u
#define STRANGER_PORT 6000
#define LIFE_S 600u
#define HANDSHAKE_MS 60000u
#define IDLE_MS 100000u

// One stream of the client, which the server sends back.
typedef struct flow {
    uint64_t id, size, sent, received;
    bool ended;
} flow;

typedef struct kept {
    hm_buf session;
    unsigned life; // of the server that gave it; 0: none is kept here
    unsigned uses; // with early data
    bool early;    // that server takes early data
    uint64_t at_us;
} kept;

typedef struct record {
    size_t len;
    uint8_t bytes[STOQ_UDP_MAX];
} record;

typedef struct world {
    pair_world p;
    unsigned dup, corrupt; // per mille
    unsigned life;         // of the server: a new one does not know the tickets of the one before
    bool early_data;       // that it takes
    flow flows[STREAMS];
    unsigned flow_count, early_streams;
    kept kept[KEPT];
    unsigned kept_count; // since the beginning; a ring
    bool recording;
    unsigned recorded;
    record records[RECORDED];
    const char *wrong;
} world;

static world w;
static unsigned accepted_total, rejected_total, replayed_total, resumed_total;

static uint64_t below(uint64_t n)
{
    return hm_prng_below(&w.p.prng, n);
}
static bool chance(unsigned per_mille)
{
    return below(1000) < per_mille;
}
static void wrong(const char *what)
{
    if (w.wrong == NULL)
        w.wrong = what;
}

static bool watch(pair_world *p, unsigned to, uint8_t *bytes, size_t len)
{
    if (w.recording && to == PAIR_SERVER && w.recorded < RECORDED) {
        record *r = &w.records[w.recorded++];
        r->len = len;
        memcpy(r->bytes, bytes, len);
    }
    if (chance(w.dup))
        pair_fly(p, to, bytes, len);
    // Nothing protects a Version Negotiation packet, which ends the attempt if it names no version
    // of the client's (RFC 9000, section 6.2).
    static const uint8_t none[4];
    bool negotiates = bytes[0] & 0x80 && memcmp(bytes + 1, none, sizeof none) == 0;
    if (!negotiates && chance(w.corrupt))
        bytes[below(len)] ^= (uint8_t)(1 + below(255));
    return true;
}

// ---- the application ----------------------------------------------------------------------------

static uint8_t pattern(const flow *f, uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + f->id * 5 + f->size);
}

static void push(flow *f, stoq_stream *s)
{
    uint8_t block[2048];
    size_t took = 1;
    while (f->sent < f->size && took > 0) {
        size_t n = f->size - f->sent < sizeof block ? (size_t)(f->size - f->sent) : sizeof block;
        for (size_t i = 0; i < n; i++)
            block[i] = pattern(f, f->sent + i);
        if (stoq_stream_send(s, hm_bytes_of(block, n), f->sent + n == f->size, &took) != HM_OK) {
            wrong("a send failed");
            return;
        }
        f->sent += took;
    }
}

static void echo(stoq_stream *s)
{
    hm_bytes view;
    bool fin = false;
    size_t took;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        if (stoq_stream_send(s, view, fin, &took) != HM_OK)
            return;
        stoq_stream_consume(s, took);
        if (took < view.len)
            return;
    }
}

static void compare(flow *f, stoq_stream *s)
{
    hm_bytes view;
    while (!f->ended && stoq_stream_peek(s, &view, &f->ended) == HM_OK &&
           (view.len > 0 || f->ended)) {
        for (size_t i = 0; i < view.len; i++)
            if (view.ptr[i] != pattern(f, f->received + i))
                wrong("a wrong byte");
        f->received += view.len;
        stoq_stream_consume(s, view.len);
    }
    if (f->received > f->size || (f->ended && f->received != f->size))
        wrong("a stream of another length");
}

static void on_readable(void *user, stoq_stream *s)
{
    (void)user;
    if (stoq_stream_is_local(s))
        compare(stoq_stream_user(s), s);
    else
        echo(s);
}

static void on_writable(void *user, stoq_stream *s)
{
    (void)user;
    if (stoq_stream_is_local(s))
        push(stoq_stream_user(s), s);
    else
        echo(s);
}

static void on_stream_open(void *user, stoq_stream *s)
{
    (void)user;
    w.early_streams += stoq_stream_is_early(s);
    if (stoq_stream_is_early(s) && stoq_conn_early(stoq_stream_conn(s)) != STOQ_EARLY_ACCEPTED)
        wrong("a stream of early data that was not accepted");
}

static void speak(stoq_conn *c)
{
    static const uint64_t sizes[] = {1, 100, 5000, 60000};
    w.flow_count = 1 + (unsigned)below(STREAMS);
    for (unsigned i = 0; i < w.flow_count; i++) {
        flow *f = &w.flows[i];
        stoq_stream *s;
        if (stoq_stream_open(c, false, &s) != HM_OK) {
            wrong("no stream");
            return;
        }
        *f = (flow){.id = stoq_stream_id(s), .size = 1 + below(sizes[below(4)])};
        stoq_stream_set_user(s, f);
        push(f, s);
    }
}

// ---- a run --------------------------------------------------------------------------------------

static stoq_config config_of(bool server)
{
    static const uint32_t versions[][2] = {{STOQ_VERSION_1, STOQ_VERSION_2},
                                           {STOQ_VERSION_2, STOQ_VERSION_1},
                                           {STOQ_VERSION_1},
                                           {STOQ_VERSION_2}};
    static const uint32_t windows[] = {4096, 16384, 1 << 20};
    stoq_config config = {
        .callbacks = {.stream_open = on_stream_open,
                      .stream_readable = on_readable,
                      .stream_writable = on_writable},
        .congestion = STOQ_CONGESTION_CUBIC + (stoq_congestion)below(2),
        .secret = {1},
        .limits = {.stream_window_bytes = windows[below(3)],
                   .conn_window_bytes = windows[below(3)],
                   .stream_send_bytes = windows[below(3)],
                   .max_streams_bidi = STREAMS,
                   .max_idle_ms = IDLE_MS,
                   .max_handshake_ms = HANDSHAKE_MS},
    };
    if (server) {
        config.server_tls = pair_ids.open_server;
        config.tickets = 1 + (uint32_t)below(4);
        config.ticket_lifetime_s = LIFE_S;
        config.early_data = w.early_data;
        config.always_retry = chance(200);
        memcpy(config.versions, versions[below(4)], sizeof config.versions);
    } else {
        config.client_tls = pair_ids.open_client;
        config.sessions = 1 + (uint32_t)below(4);
    }
    return config;
}

static void start_server(void)
{
    pair_side *s = &w.p.side[PAIR_SERVER];
    stoq_endpoint_destroy(s->ep);
    s->conn = NULL;
    w.life++;
    w.early_data = chance(700);
    pair_endpoint(&w.p, PAIR_SERVER, config_of(true));
}

static bool round_over(const pair_world *p)
{
    bool over = p->side[PAIR_CLIENT].opened > 0;
    for (unsigned i = 0; i < w.flow_count; i++)
        over &= w.flows[i].ended;
    return over || p->side[PAIR_CLIENT].closed > 0 || w.wrong != NULL;
}

static bool open_or_wrong(const pair_world *p)
{
    return p->side[PAIR_CLIENT].opened > 0 || p->side[PAIR_CLIENT].closed > 0;
}

// What became of a connection with this session or none, which the client asked early data of.
static void judge(const stoq_conn *c, kept *k, bool offered)
{
    bool own = k != NULL && k->life == w.life && w.p.now - k->at_us < LIFE_S * SECOND / 2;
    bool gone = k == NULL || k->life != w.life;
    bool taken = stoq_conn_early(c) == STOQ_EARLY_ACCEPTED;
    if (stoq_conn_resumed(c) && gone)
        wrong("resumed with a ticket that this server did not give");
    if (own && !stoq_conn_resumed(c))
        wrong("a fresh ticket was not taken");
    if (taken && (gone || !offered || !k->early || k->uses > 1))
        wrong("early data was taken that is not to be");
    if (own && offered && k->uses == 1 && !taken)
        wrong("early data was not taken");
    if (!taken && w.early_streams > 0)
        wrong("streams came early");
    accepted_total += taken;
    rejected_total += stoq_conn_early(c) == STOQ_EARLY_REJECTED;
    resumed_total += stoq_conn_resumed(c);
}

static void keep_session(void)
{
    pair_side *s = &w.p.side[PAIR_CLIENT];
    if (s->sessions == 0)
        return;
    kept *k = &w.kept[w.kept_count++ % KEPT];
    hm_buf_reset(&k->session);
    hm_buf_put(&k->session, hm_buf_bytes(&s->session));
    k->life = w.life;
    k->uses = 0;
    k->early = w.early_data;
    k->at_us = w.p.now;
}

static kept *choose_session(void)
{
    unsigned held = w.kept_count < KEPT ? w.kept_count : KEPT;
    if (held == 0 || chance(100))
        return NULL;
    return &w.kept[chance(700) ? (w.kept_count - 1) % KEPT : below(held)];
}

// A connection from its beginning to its end.
static void one_connection(void)
{
    pair_side *s = &w.p.side[PAIR_CLIENT];
    kept *k = choose_session();
    bool early = chance(800);
    s->opened = s->closed = s->sessions = 0;
    w.flow_count = w.early_streams = w.recorded = 0;
    w.recording = true;
    stoq_conn *c =
        k != NULL ? pair_resume(&w.p, hm_buf_bytes(&k->session), early) : pair_connect(&w.p);
    bool offered = stoq_conn_early(c) == STOQ_EARLY_OFFERED;
    if (offered) {
        k->uses++;
        speak(c);
    } else if (pair_run_until(&w.p, open_or_wrong, 100 * SECOND) && s->opened > 0) {
        speak(c);
    }
    if (!pair_run_until(&w.p, round_over, 400 * SECOND) || s->opened == 0 || s->closed > 0) {
        printf("# %s connection, early data %d: %u times closed, code 0x%llx, %s\n",
               k != NULL ? "a resumed" : "a new", offered, s->closed, (unsigned long long)s->code,
               hm_err_text(s->why));
        wrong("a connection that does not come to its end");
    }
    w.recording = false;
    if (w.wrong != NULL)
        return;
    judge(c, k, offered);
    pair_run(&w.p, 5 * SECOND); // for tickets
    keep_session();
    stoq_conn_close(c, 0, "");
    pair_run(&w.p, 20 * SECOND);
}

// Somebody sends again what a client began with.
static void replay(void)
{
    const pair_side *s = &w.p.side[PAIR_SERVER];
    unsigned opened = s->opened;
    uint64_t early = s->ep->stats.early;
    w.p.client_port = STRANGER_PORT;
    for (unsigned i = 0; i < w.recorded; i++)
        pair_fly(&w.p, PAIR_SERVER, w.records[i].bytes, w.records[i].len);
    w.p.client_port = PAIR_CLIENT_PORT;
    pair_run(&w.p, SECOND);
    replayed_total += w.recorded;
    if (s->opened != opened || s->ep->stats.early != early)
        wrong("a replay opened a connection");
}

static void between(void)
{
    if (chance(500))
        replay();
    if (chance(250)) {
        start_server();
        if (chance(300)) // to the next one, which does not know the ticket
            replay();
    } else if (chance(150)) {
        stoq_endpoint_set_server_tls(w.p.side[PAIR_SERVER].ep, pair_ids.open_server);
        w.life++;
    } else if (chance(100)) {
        w.p.now += LIFE_S * SECOND + below(LIFE_S * SECOND);
    }
}

static void begin(uint64_t seed)
{
    w = (world){.life = 0};
    pair_begin(&w.p, seed);
    w.p.watch = watch;
    w.p.loss = chance(300) ? 0 : (unsigned)below(25);
    w.p.jitter_us = chance(300) ? 0 : (unsigned)below(60000);
    w.dup = chance(500) ? 0 : (unsigned)below(200);
    w.corrupt = chance(500) ? 0 : (unsigned)below(50);
    start_server();
    pair_endpoint(&w.p, PAIR_CLIENT, config_of(false));
}

static void finish(void)
{
    // Half-open ones of replays go, and those whose client's close was lost.
    pair_run(&w.p, 2000 * (uint64_t)(HANDSHAKE_MS + IDLE_MS));
    for (unsigned i = 0; i < 2 && w.wrong == NULL; i++) {
        const stoq_endpoint *ep = w.p.side[i].ep;
        if (ep->stats.connections + ep->by_cid.count + ep->by_initial.count + ep->by_token.count >
            0)
            wrong("something is left in an endpoint");
    }
    pair_end(&w.p);
    for (unsigned i = 0; i < KEPT; i++)
        hm_buf_free(&w.kept[i].session);
}

static bool one(uint64_t seed)
{
    begin(seed);
    for (unsigned i = 0; i < ROUNDS && w.wrong == NULL; i++) {
        one_connection();
        if (w.wrong == NULL)
            between();
    }
    finish();
    if (w.wrong != NULL)
        printf("# seed %llu: %s; loss %u per cent, dup %u corrupt %u per mille, jitter %u us, at "
               "%llu us\n",
               (unsigned long long)seed, w.wrong, w.p.loss, w.dup, w.corrupt, w.p.jitter_us,
               (unsigned long long)w.p.now);
    return w.wrong == NULL;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 2 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 300, bad = 0;
    (void)pair_make_ids(NULL);
    for (uint64_t seed = first; seed < first + count; seed++)
        bad += !one(seed);
    printf("# %u resumed, early data of %u taken and of %u refused, %u datagrams replayed\n",
           resumed_total, accepted_total, rejected_total, replayed_total);
    bool all = accepted_total > 0 && rejected_total > 0 && resumed_total > 0 && replayed_total > 0;
    printf("1..2\n%s 1 - seeds %llu to %llu: %llu failed\n", bad == 0 ? "ok" : "not ok",
           (unsigned long long)first, (unsigned long long)(first + count - 1),
           (unsigned long long)bad);
    printf("%s 2 - all of it came about\n", all ? "ok" : "not ok");
    (void)pair_free_ids(NULL);
    return bad > 0 || !all;
}
