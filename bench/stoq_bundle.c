// What one bundle carries over more and more connections, which are spread over the workers: one
// process, a group that serves and a group that sends over ::1, each worker on a processor of its
// own, which those of the same number share. The channel's two ends are each of one worker.
//
//   stoq_bundle [WORKERS] [SECONDS] [CONNECTIONS...]      (default: 2, 4, 1 2 4 8 16 32)
//
// Datagrams of at most 1452 bytes; DATAGRAM=65527 in the environment for others. One JSON line a
// figure: bytes of the channel that the serving side was handed, a second.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "hypermesh/stoq_bundle.h"
#include "hypermesh/stoq_group.h"
#include "server/json.h"
#include "stoq_ids.h"

typedef struct party { // of a worker
    stoq_bundles *set;
    unsigned worker;
} party;

static uint8_t data[65536];
static struct sockaddr_in6 target;
static stoq_group *senders;
static stoq_bundle *bundle; // the sending worker's alone
static stoq_bundle_ref ref; // set before connections but the first are made
static unsigned wanted;
static bool ordered;
static _Atomic uint64_t received;
static atomic_uint carried;
static atomic_bool stopping;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "stoq_bundle: %s failed: %s\n", what, hm_err_detail());
    exit(1);
}

static void push(void *user, stoq_bundle *b)
{
    size_t took = sizeof data;
    (void)user;
    while (!stopping && took == sizeof data)
        must(stoq_bundle_send(b, hm_bytes_of(data, sizeof data), false, &took) == HM_OK, "sending");
}

static void connect_more(void *arg, stoq_endpoint *ep)
{
    const party *p = stoq_endpoint_user(ep);
    stoq_conn *c;
    (void)arg;
    for (unsigned i = 1; i < wanted; i++)
        if (i % stoq_group_workers(senders) == p->worker)
            must(stoq_connect(ep, &target, NULL, NULL, NULL, &c) == HM_OK, "connecting");
}

static void on_opened(void *user, stoq_bundle *b)
{
    if (stoq_conn_is_server(stoq_bundle_conn(b)))
        return;
    ref = stoq_bundle_ref_of(b);
    for (unsigned i = 0; i < stoq_group_workers(senders); i++)
        must(stoq_group_run(senders, i, connect_more, NULL) == HM_OK, "a job");
    push(user, b);
}

static void on_data(void *user, stoq_bundle *b, uint64_t offset, hm_bytes bytes)
{
    stoq_bundle_stats st;
    (void)user, (void)offset;
    received += bytes.len;
    stoq_bundle_get_stats(b, &st);
    carried = st.connections;
    stoq_bundle_consume(b, bytes.len);
}

static void on_closed(void *user, stoq_bundle *b, hm_err why)
{
    (void)user, (void)b, (void)why;
    must(stopping, "keeping the bundle");
}

static void on_conn_open(void *user, stoq_conn *c)
{
    const party *p = user;
    if (stoq_conn_is_server(c))
        return;
    if (stoq_conn_user(c) != NULL)
        must(stoq_bundle_open(p->set, c, user, &bundle) == HM_OK, "a bundle");
    else
        must(stoq_bundles_add(p->set, ref, c) == HM_OK, "joining");
}

static void on_stream_open(void *user, stoq_stream *st)
{
    const party *p = user;
    stoq_bundles_stream_open(p->set, st);
}

static void *worker_begin(void *ctx, unsigned worker)
{
    party *p = calloc(1, sizeof *p);
    must(p != NULL, "memory");
    p->worker = worker;
    stoq_bundles_config config = {
        .ordered = ordered,
        .hub = ctx,
        .callbacks = {.opened = on_opened, .data = on_data, .writable = push, .closed = on_closed},
        .user = p};
    must(stoq_bundles_create(&config, &p->set) == HM_OK, "a set of bundles");
    return p;
}

static void worker_end(void *ctx, unsigned worker, void *user)
{
    party *p = user;
    (void)ctx, (void)worker;
    stoq_bundles_free(p->set);
    free(p);
}

static void connect_first(void *arg, stoq_endpoint *ep)
{
    stoq_conn *c;
    must(stoq_connect(ep, &target, NULL, NULL, arg, &c) == HM_OK, "connecting");
}

static stoq_group *start(const stoq_ids *ids, bool is_server, unsigned workers,
                         stoq_bundle_hub *hub)
{
    const char *datagram = getenv("DATAGRAM");
    uint32_t most = datagram != NULL ? (uint32_t)strtoul(datagram, NULL, 10) : 1452;
    stoq_group *g;
    stoq_group_config config = {
        .endpoint = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                     .server_tls = is_server ? ids->server : NULL,
                     .client_tls = is_server ? NULL : ids->client,
                     .alpn = {STOQ_ALPN_BUNDLE},
                     .limits = {.max_udp_payload_bytes = most},
                     .callbacks = {.conn_open = on_conn_open,
                                   .stream_open = on_stream_open,
                                   .stream_readable = stoq_bundles_stream_readable,
                                   .stream_writable = stoq_bundles_stream_writable,
                                   .stream_returned = stoq_bundles_stream_returned,
                                   .stream_closed = stoq_bundles_stream_closed}},
        .workers = workers,
        .pin = true,
        .worker_begin = worker_begin,
        .worker_end = worker_end,
        .ctx = hub};
    must(stoq_group_start(&config, &g) == HM_OK, "a group");
    return g;
}

static void measure(const stoq_ids *ids, unsigned workers, unsigned seconds, unsigned n)
{
    wanted = n;
    stopping = false;
    carried = 0;
    stoq_bundle_hub *hubs[2];
    must(stoq_bundle_hub_create(&hubs[0]) == HM_OK && stoq_bundle_hub_create(&hubs[1]) == HM_OK,
         "memory");
    stoq_group *s = start(ids, true, workers, hubs[0]);
    stoq_group_address(s, &target);
    senders = start(ids, false, workers, hubs[1]);
    must(stoq_group_run(senders, 0, connect_first, &target) == HM_OK, "a job"); // known by its user
    uint64_t limit = stoq_now_us() + 30000000;
    while (carried < n && stoq_now_us() < limit)
        usleep(1000);
    must(carried == n, "opening all connections");
    sleep(1); // windows and datagrams grow
    uint64_t first = received, from = stoq_now_us();
    sleep(seconds);
    uint64_t last = received, us = stoq_now_us() - from;
    stopping = true;
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "stoq-bundle");
    hm_jw_u64(&b, "workers", stoq_group_workers(s));
    hm_jw_u64(&b, "connections", n);
    hm_jw_bool(&b, "ordered", ordered);
    hm_jw_u64(&b, "megabits_per_second", (last - first) * 8 / us);
    hm_jw_close(&b, '}');
    must(hm_buf_status(&b) == HM_OK, "memory");
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    fflush(stdout);
    hm_buf_free(&b);
    stoq_group_stop(senders);
    stoq_group_stop(s);
    stoq_bundle_hub_free(hubs[0]);
    stoq_bundle_hub_free(hubs[1]);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"1", "2", "4", "8", "16", "32"};
    unsigned workers = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 2;
    unsigned seconds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 4;
    const char *const *counts = argc > 3 ? (const char *const *)argv + 3 : usual;
    size_t n = argc > 3 ? (size_t)argc - 3 : sizeof usual / sizeof *usual;
    if (workers == 0 || seconds == 0) {
        fprintf(stderr, "usage: stoq_bundle [WORKERS] [SECONDS] [CONNECTIONS...]\n");
        return 2;
    }
    stoq_ids ids;
    stoq_ids_make_plain(&ids);
    for (size_t i = 0; i < n; i++) {
        unsigned conns = (unsigned)strtoul(counts[i], NULL, 10);
        must(conns > 0 && conns <= STOQ_BUNDLE_CONNS_MAX, "a number of connections up to 32");
        for (int o = 0; o < 2; o++) {
            ordered = o;
            measure(&ids, workers, seconds, conns);
        }
    }
    stoq_ids_free(&ids);
    return 0;
}
