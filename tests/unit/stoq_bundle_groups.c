#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/random.h"
#include "stoq_bundle_groups.h"

#define NEVER UINT64_MAX

bg_side bg_sides[2];
bg_setup bg_now;
stoq_ids bg_ids;
struct sockaddr_in6 bg_target;
uint8_t bg_id[BUNDLE_ID];
atomic_uint bg_ended_with[BG_CONNS_MAX];
atomic_bool bg_cut;

static struct sockaddr_in6 relayed[BG_CONNS_MAX];
static stoq_bundle_ref ref;

// ---- waiting ------------------------------------------------------------------------------------

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void tell(void)
{
    pthread_mutex_lock(&lock);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

bool bg_within(time_t seconds, bool (*done)(void))
{
    struct timespec end;
    bool yes;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += seconds;
    pthread_mutex_lock(&lock);
    while (!(yes = done()) && pthread_cond_timedwait(&changed, &lock, &end) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&lock);
    return yes;
}

bool bg_until(bool (*done)(void))
{
    return bg_within(BG_LIMIT_S, done);
}

bool bg_all_came(void)
{
    return bg_sides[0].ended && bg_sides[1].ended;
}
bool bg_one_closed(void)
{
    return bg_sides[0].closed || bg_sides[1].closed;
}
bool bg_both_closed(void)
{
    return bg_sides[0].closed && bg_sides[1].closed;
}
bool bg_both_opened(void)
{
    return bg_sides[0].opened && bg_sides[1].opened;
}

// ---- the application ----------------------------------------------------------------------------

#define PATTERN 999983u // bytes, a prime, so that no piece looks like its neighbour

static uint8_t patterns[2]
                       [PATTERN + STOQ_BUNDLE_PIECE_MAX]; // of each side, its start again behind it

static hm_bytes pattern(bool by_server, uint64_t at, size_t len)
{
    hm_assert(len <= STOQ_BUNDLE_PIECE_MAX);
    return hm_bytes_of(&patterns[by_server][at % PATTERN], len);
}

static void make_patterns(void)
{
    hm_prng prng;
    hm_prng_seed(&prng, 1);
    hm_random random = hm_random_prng(&prng);
    for (unsigned i = 0; i < 2; i++) {
        hm_random_fill(&random, patterns[i], PATTERN);
        memcpy(patterns[i] + PATTERN, patterns[i], STOQ_BUNDLE_PIECE_MAX);
    }
}

static void push(bg_side *s)
{
    size_t n, took;
    do {
        n = s->may_send - s->sent < 10000 ? (size_t)(s->may_send - s->sent) : 10000;
        bool fin = s->sent + n == s->size;
        hm_err err = stoq_bundle_send(s->bundle, pattern(s->is_server, s->sent, n), fin, &took);
        if (err == HM_E_CLOSED)
            return; // by what the test did
        hm_assert(err == HM_OK);
        s->sent += took;
    } while (took == n && s->sent < s->may_send);
}

static void on_writable(void *user, stoq_bundle *b)
{
    bg_side *s = ((bg_party *)user)->of;
    (void)b;
    push(s);
}

static void act(bg_side *s)
{
    uint64_t at = s->act_at;
    s->act_at = NEVER;
    if (at != NEVER && s->act != NULL)
        s->act(s);
}

// Connections with these numbers, of this worker.
static void connect_some(void *arg, stoq_endpoint *ep)
{
    const bg_party *p = stoq_endpoint_user(ep);
    stoq_conn *c;
    for (uintptr_t i = 1; i < bg_now.conns; i++)
        if (i % bg_sides[0].workers == p->index)
            hm_assert(stoq_connect(ep, i <= bg_now.through ? &relayed[i] : &bg_target, NULL, NULL,
                                   (void *)i, &c) == HM_OK);
    (void)arg;
}

static void on_opened(void *user, stoq_bundle *b)
{
    bg_party *p = user;
    bg_side *s = p->of;
    hm_assert(s->bundle == NULL || s->bundle == b);
    s->bundle = b;
    s->home = p->index;
    if (!s->is_server) {
        ref = stoq_bundle_ref_of(b);
        memcpy(bg_id, b->id, sizeof bg_id);
        for (unsigned i = 0; i < s->workers; i++) {
            hm_err err = stoq_group_run(s->group, i, connect_some, NULL);
            hm_assert(err == HM_OK || err == HM_E_CLOSED); // the test stops it
        }
    }
    push(s);
    if (s->act_at == 0)
        act(s);
    s->opened = 1;
    tell();
}

static void on_data(void *user, stoq_bundle *b, uint64_t offset, hm_bytes bytes)
{
    bg_side *s = ((bg_party *)user)->of;
    const bg_side *other = &bg_sides[s->is_server ? 0 : 1];
    hm_assert(bytes.len > 0 && offset + bytes.len <= other->size);
    hm_assert(!s->ordered || offset == s->received);
    for (size_t at = 0, n; at < bytes.len; at += n) {
        n = bytes.len - at < STOQ_BUNDLE_PIECE_MAX ? bytes.len - at : STOQ_BUNDLE_PIECE_MAX;
        hm_assert(
            hm_bytes_eq(pattern(other->is_server, offset + at, n), hm_bytes_of(bytes.ptr + at, n)));
    }
    hm_assert(memchr(s->seen + offset, 1, bytes.len) == NULL); // each once
    memset(s->seen + offset, 1, bytes.len);
    s->received += bytes.len;
    if (!s->lazy)
        stoq_bundle_consume(b, bytes.len);
    if (s->received >= s->act_at)
        act(s);
    tell();
}

static void on_end(void *user, stoq_bundle *b)
{
    bg_side *s = ((bg_party *)user)->of;
    (void)b;
    hm_assert(s->received == bg_sides[s->is_server ? 0 : 1].size);
    s->ended++;
    tell();
}

static void on_bundle_closed(void *user, stoq_bundle *b, hm_err why)
{
    bg_side *s = ((bg_party *)user)->of;
    hm_assert(s->bundle == NULL || b == s->bundle); // NULL: the server never made it
    s->bundle = NULL;
    s->why = why;
    s->closed++;
    tell();
}

// ---- relays -------------------------------------------------------------------------------------

// A way to the server for one connection, that can be cut without a word to either end.
typedef struct relay {
    int front, back; // to the client, to the server
    struct sockaddr_in6 client;
    pthread_t thread;
} relay;

static relay relays[BG_CONNS_MAX]; // by the number of the connection
static atomic_bool relays_end;

static int udp_socket(void)
{
    const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&any, sizeof any), 0);
    return fd;
}

// What is sent and lost by a full socket is lost as on any way.
static void *relay_run(void *arg)
{
    relay *r = arg;
    uint8_t *packet = malloc(65536);
    struct pollfd fds[2] = {{.fd = r->front, .events = POLLIN}, {.fd = r->back, .events = POLLIN}};
    hm_assert(packet != NULL);
    while (!relays_end) {
        if (poll(fds, 2, 100) <= 0) // or the test may have ended
            continue;
        for (unsigned i = 0; i < 2; i++) {
            if (!(fds[i].revents & POLLIN))
                continue;
            socklen_t len = sizeof r->client;
            ssize_t n = i == 0 ? recvfrom(r->front, packet, 65536, MSG_DONTWAIT,
                                          (struct sockaddr *)&r->client, &len)
                               : recv(r->back, packet, 65536, MSG_DONTWAIT);
            if (n <= 0 || bg_cut)
                continue;
            if (i == 0)
                n = send(r->back, packet, (size_t)n, 0);
            else
                n = sendto(r->front, packet, (size_t)n, 0, (const struct sockaddr *)&r->client,
                           sizeof r->client);
        }
    }
    free(packet);
    return NULL;
}

static void start_relays(void)
{
    bg_cut = relays_end = false;
    for (unsigned i = 1; i <= bg_now.through; i++) {
        relay *r = &relays[i];
        socklen_t len = sizeof relayed[i];
        *r = (relay){.front = udp_socket(), .back = udp_socket()};
        assert_int_equal(getsockname(r->front, (struct sockaddr *)&relayed[i], &len), 0);
        assert_int_equal(connect(r->back, (const struct sockaddr *)&bg_target, sizeof bg_target),
                         0);
        assert_int_equal(pthread_create(&r->thread, NULL, relay_run, r), 0);
    }
}

static void end_relays(void)
{
    relays_end = true;
    for (unsigned i = 1; i <= bg_now.through; i++) {
        pthread_join(relays[i].thread, NULL);
        close(relays[i].front);
        close(relays[i].back);
    }
}

// ---- the endpoints ------------------------------------------------------------------------------

static void on_conn_open(void *user, stoq_conn *c)
{
    bg_party *p = user;
    p->newest = c;
    p->of->here[p->index]++;
    tell();
    if (stoq_conn_is_server(c))
        return;
    if (stoq_conn_user(c) == NULL)
        hm_assert(stoq_bundle_open(p->set, c, NULL, &p->of->bundle) == HM_OK);
    else if (stoq_bundles_add(p->set, ref, c) != HM_OK)
        stoq_conn_close(c, STOQ_BUNDLE_DENIED, "");
}

static void on_conn_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    bg_party *p = user;
    (void)reason;
    if (p->newest == c)
        p->newest = NULL;
    if (!stoq_conn_is_server(c))
        bg_ended_with[(uintptr_t)stoq_conn_user(c)] = is_app ? (unsigned)code : 1;
    tell();
}

static void on_stream_open(void *user, stoq_stream *st)
{
    stoq_bundles_stream_open(((bg_party *)user)->set, st);
}

static void *worker_begin(void *ctx, unsigned index)
{
    bg_side *s = ctx;
    bg_party *p = &s->parties[index];
    *p = (bg_party){.of = s, .index = index};
    stoq_bundles_config config = {.ordered = s->ordered,
                                  .window_bytes = bg_now.window_bytes,
                                  .send_bytes = bg_now.send_bytes,
                                  .max_connections = s->is_server ? bg_now.max_connections : 0,
                                  .hub = s->hub,
                                  .callbacks = {.opened = on_opened,
                                                .data = on_data,
                                                .end = on_end,
                                                .writable = on_writable,
                                                .closed = on_bundle_closed},
                                  .user = p};
    hm_assert(stoq_bundles_create(&config, &p->set) == HM_OK);
    return p;
}

static void worker_end(void *ctx, unsigned index, void *user)
{
    bg_party *p = user;
    (void)ctx, (void)index;
    p->refused = stoq_bundles_refused(p->set);
    stoq_bundles_free(p->set);
}

static void start(bg_side *s, bool is_server)
{
    const stoq_callbacks callbacks = {.conn_open = on_conn_open,
                                      .conn_closed = on_conn_closed,
                                      .stream_open = on_stream_open,
                                      .stream_readable = stoq_bundles_stream_readable,
                                      .stream_writable = stoq_bundles_stream_writable,
                                      .stream_returned = stoq_bundles_stream_returned,
                                      .stream_closed = stoq_bundles_stream_closed};
    uint64_t comes = is_server ? bg_now.up : bg_now.down;
    s->is_server = is_server;
    s->ordered = bg_now.ordered;
    s->lazy = bg_now.lazy;
    s->size = is_server ? bg_now.down : bg_now.up;
    s->may_send = bg_now.first > 0 && bg_now.first < s->size ? bg_now.first : s->size;
    s->workers = is_server ? bg_now.server_workers : bg_now.client_workers;
    s->seen = calloc(1, comes + 1);
    assert_non_null(s->seen);
    s->act_at = bg_now.act_on_server == is_server ? bg_now.act_at : NEVER;
    s->act = bg_now.act;
    if (!(is_server && bg_now.no_hub))
        assert_int_equal(stoq_bundle_hub_create(&s->hub), HM_OK);
    stoq_group_config config = {
        .endpoint = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                     .server_tls = is_server ? bg_ids.server : NULL,
                     .client_tls = is_server ? NULL : bg_ids.client,
                     .alpn = {STOQ_ALPN_BUNDLE},
                     .limits.max_idle_ms = bg_now.idle_ms,
                     .callbacks = callbacks},
        .workers = s->workers,
        .worker_begin = worker_begin,
        .worker_end = worker_end,
        .ctx = s};
    assert_int_equal(stoq_group_start(&config, &s->group), HM_OK);
}

static void connect_first(void *arg, stoq_endpoint *ep)
{
    stoq_conn *c;
    (void)arg;
    hm_assert(stoq_connect(ep, &bg_target, NULL, NULL, NULL, &c) == HM_OK);
}

void bg_begin(bg_setup k)
{
    memset(bg_sides, 0, sizeof bg_sides);
    memset(bg_ended_with, 0, sizeof bg_ended_with);
    if (k.act == NULL)
        k.act_at = NEVER;
    bg_now = k;
    start(&bg_sides[1], true);
    stoq_group_address(bg_sides[1].group, &bg_target);
    start_relays();
    start(&bg_sides[0], false);
    // Its home is the last worker.
    assert_int_equal(
        stoq_group_run(bg_sides[0].group, bg_sides[0].workers - 1, connect_first, NULL), HM_OK);
}

void bg_stop(bg_side *s)
{
    stoq_group_stop(s->group);
    s->group = NULL;
}

void bg_finish(void)
{
    for (unsigned i = 0; i < 2; i++) {
        bg_stop(&bg_sides[i]);
        stoq_bundle_hub_free(bg_sides[i].hub);
        free(bg_sides[i].seen);
        assert_true(bg_sides[i].closed <= 1);
        assert_null(bg_sides[i].bundle);
    }
    end_relays();
}

void bg_close_it(bg_side *s)
{
    stoq_bundle_close(s->bundle);
}

void bg_close_job(void *arg, stoq_endpoint *ep)
{
    bg_side *s = arg;
    (void)ep;
    if (s->bundle != NULL)
        stoq_bundle_close(s->bundle);
}

void bg_rest_job(void *arg, stoq_endpoint *ep)
{
    bg_side *s = arg;
    (void)ep;
    s->may_send = s->size;
    push(s);
}

static void stats_job(void *arg, stoq_endpoint *ep)
{
    const bg_party *p = stoq_endpoint_user(ep);
    if (p->of->bundle != NULL)
        stoq_bundle_get_stats(p->of->bundle, arg);
}

stoq_bundle_stats bg_stats_of(const bg_side *s)
{
    stoq_bundle_stats st = {0};
    assert_int_equal(stoq_group_call(s->group, s->home, stats_job, &st), HM_OK);
    return st;
}

int bg_make(void **state)
{
    (void)state;
    stoq_ids_make_plain(&bg_ids);
    make_patterns();
    return 0;
}

int bg_free(void **state)
{
    (void)state;
    stoq_ids_free(&bg_ids);
    return 0;
}
