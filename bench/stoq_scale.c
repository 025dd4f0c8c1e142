// How throughput grows with connections when both sides have workers on all processors: one
// process, a group that serves and a group that sends over ::1, each worker on a processor of its
// own.
//
//   stoq_scale [WORKERS] [SECONDS] [CONNECTIONS...]      (default: all processors, 4, 1 2 4 8 16
//   32)
//
// Datagrams of at most 1452 bytes; DATAGRAM=65527 in the environment for others. One JSON line a
// figure: payload of streams that the serving side has read, a second, and how even the connections
// share it (the least of them by the mean).
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hypermesh/stoq_group.h"
#include "server/json.h"
#include "stoq_ids.h"

#define CONNS_MAX 256u

static uint8_t data[65536];
static atomic_uint opened, lost;
static atomic_bool stopping;

typedef struct flow {
    _Alignas(128) _Atomic uint64_t received; // written by one worker
} flow;

static flow flows[CONNS_MAX];
static atomic_uint flow_count;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "stoq_scale: %s failed: %s\n", what, hm_err_detail());
    exit(1);
}

// ---- who serves ---------------------------------------------------------------------------------

static void on_stream(void *user, stoq_stream *s)
{
    (void)user;
    stoq_stream_set_user(s, &flows[flow_count++ % CONNS_MAX]);
}

static void on_readable(void *user, stoq_stream *s)
{
    flow *f = stoq_stream_user(s);
    hm_bytes view;
    bool fin = false;
    uint64_t n = 0;
    (void)user;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        n += view.len;
        stoq_stream_consume(s, view.len);
    }
    atomic_store_explicit(&f->received,
                          atomic_load_explicit(&f->received, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

// ---- who sends ----------------------------------------------------------------------------------

static void push(void *user, stoq_stream *s)
{
    (void)user;
    while (!stopping && stoq_stream_lend(s, hm_bytes_of(data, sizeof data), false, NULL) == HM_OK)
        ;
}

static void on_open(void *user, stoq_conn *c)
{
    stoq_stream *s;
    must(stoq_stream_open(c, true, &s) == HM_OK, "a stream");
    opened++;
    push(user, s);
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)user, (void)c, (void)code, (void)is_app, (void)reason;
    lost += !stopping;
}

static struct sockaddr_in6 target;

static void connect_one(void *arg, stoq_endpoint *ep)
{
    stoq_conn *c;
    (void)arg;
    must(stoq_connect(ep, &target, NULL, NULL, NULL, &c) == HM_OK, "connecting");
}

// ---- one figure ---------------------------------------------------------------------------------

static stoq_group *start(const stoq_ids *ids, bool is_server, unsigned workers)
{
    const char *datagram = getenv("DATAGRAM");
    stoq_group *g;
    stoq_group_config config = {
        .endpoint = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                     .server_tls = is_server ? ids->server : NULL,
                     .client_tls = is_server ? NULL : ids->client,
                     .alpn = {STOQ_ALPN_MESH},
                     .limits = {.max_udp_payload_bytes =
                                    datagram != NULL ? (uint32_t)strtoul(datagram, NULL, 10) : 1452,
                                .stream_window_bytes = 2u << 20,
                                .conn_window_bytes = 2u << 20,
                                .retry_from_half_open = CONNS_MAX + 1,
                                .max_half_open = CONNS_MAX + 1}},
        .workers = workers,
        .pin = true};
    if (is_server)
        config.endpoint.callbacks =
            (stoq_callbacks){.stream_open = on_stream, .stream_readable = on_readable};
    else
        config.endpoint.callbacks = (stoq_callbacks){
            .conn_open = on_open, .conn_closed = on_closed, .stream_writable = push};
    must(stoq_group_start(&config, &g) == HM_OK, "a group");
    return g;
}

static uint64_t received(unsigned n, uint64_t each[CONNS_MAX])
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += each[i] = atomic_load_explicit(&flows[i].received, memory_order_relaxed);
    return sum;
}

static void measure(const stoq_ids *ids, unsigned workers, unsigned seconds, unsigned n)
{
    static uint64_t before[CONNS_MAX], after[CONNS_MAX];
    opened = lost = flow_count = 0;
    stopping = false;
    for (unsigned i = 0; i < CONNS_MAX; i++)
        flows[i].received = 0;
    stoq_group *s = start(ids, true, workers), *c = start(ids, false, workers);
    stoq_group_address(s, &target);
    for (unsigned i = 0; i < n; i++)
        must(stoq_group_run(c, i % stoq_group_workers(c), connect_one, NULL) == HM_OK, "a job");
    uint64_t limit = stoq_now_us() + 30000000;
    while (flow_count < n && lost == 0 && stoq_now_us() < limit)
        usleep(1000);
    must(opened == n && flow_count == n && lost == 0, "opening all connections");
    sleep(1); // windows and datagrams grow
    uint64_t first = received(n, before), from = stoq_now_us();
    sleep(seconds);
    uint64_t last = received(n, after), us = stoq_now_us() - from, least = UINT64_MAX;
    for (unsigned i = 0; i < n; i++)
        least = after[i] - before[i] < least ? after[i] - before[i] : least;
    stopping = true;
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "stoq-scale");
    hm_jw_u64(&b, "workers", stoq_group_workers(s));
    hm_jw_u64(&b, "connections", n);
    hm_jw_u64(&b, "megabits_per_second", (last - first) * 8 / us);
    hm_jw_u64(&b, "least_percent_of_mean", last > first ? least * n * 100 / (last - first) : 0);
    hm_jw_u64(&b, "lost", lost);
    hm_jw_close(&b, '}');
    must(hm_buf_status(&b) == HM_OK, "memory");
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    fflush(stdout);
    hm_buf_free(&b);
    stoq_group_stop(c);
    stoq_group_stop(s);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"1", "2", "4", "8", "16", "32"};
    unsigned workers = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    unsigned seconds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 4;
    const char *const *counts = argc > 3 ? (const char *const *)argv + 3 : usual;
    size_t n = argc > 3 ? (size_t)argc - 3 : sizeof usual / sizeof *usual;
    if (seconds == 0 || (argc > 1 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: stoq_scale [WORKERS] [SECONDS] [CONNECTIONS...]\n");
        return 2;
    }
    stoq_ids ids;
    stoq_ids_make_plain(&ids);
    for (size_t i = 0; i < n; i++) {
        unsigned conns = (unsigned)strtoul(counts[i], NULL, 10);
        must(conns > 0 && conns <= CONNS_MAX, "a number of connections up to 256");
        measure(&ids, workers, seconds, conns);
    }
    stoq_ids_free(&ids);
    return 0;
}
