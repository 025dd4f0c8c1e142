// Many idle connections in one process: what each one costs the server's memory, whether all are
// alive after longer than the idle timeout, and whether each answers then.
//
//   stoq_idle [--mutual] [CONNECTIONS] [SECONDS IDLE]      (default 10000 and 40)
//
// A server and a client process over ::1. With --mutual both sides have FALCON-1024 certificates,
// else the server has an ECDSA one and the client none. The idle timeout is 30 s; a client sends a
// PING every 10. One JSON line at the end, progress on standard error.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "hypermesh/stoq.h"
#include "server/json.h"
#include "stoq_ids.h"

#define HALF_OPEN 64u
#define PING_EVERY_US 10000000u
#define MESSAGE 8u

typedef struct client_conn {
    hm_list link;    // in alive
    stoq_conn *conn; // NULL once closed
    uint64_t ping_us;
} client_conn;

static client_conn *conns;
static hm_list alive = {&alive, &alive}; // open, by the time of their next ping
static size_t wanted = 10000, started, opened, lost, answered;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "stoq_idle: %s failed: %s\n", what, hm_err_detail());
    exit(1);
}

static stoq_endpoint *make(stoq_ids *ids, bool is_server, stoq_callbacks callbacks)
{
    stoq_endpoint *ep;
    stoq_config config = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                          .server_tls = is_server ? ids->server : NULL,
                          .client_tls = is_server ? NULL : ids->client,
                          .alpn = {STOQ_ALPN_MESH},
                          .callbacks = callbacks,
                          .limits = {.max_connections = (uint32_t)wanted + HALF_OPEN,
                                     .max_half_open = 4 * HALF_OPEN,
                                     .retry_from_half_open = 4 * HALF_OPEN}};
    must(stoq_endpoint_create(&config, &ep) == HM_OK, "an endpoint");
    return ep;
}

// ---- the server: says what it hears -------------------------------------------------------------

static void echo(void *user, stoq_stream *s)
{
    hm_bytes view;
    bool fin = false;
    size_t took;
    (void)user;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        must(stoq_stream_send(s, view, fin, &took) == HM_OK && took == view.len, "an answer");
        stoq_stream_consume(s, view.len);
    }
}

static void serve(stoq_ids *ids, int to_parent)
{
    struct sockaddr_in6 a;
    stoq_endpoint *ep = make(ids, true, (stoq_callbacks){.stream_readable = echo});
    stoq_endpoint_address(ep, &a);
    must(write(to_parent, &a, sizeof a) == sizeof a, "telling the port");
    for (;;)
        stoq_endpoint_wait(ep, HM_TIME_NEVER);
}

// ---- the client ---------------------------------------------------------------------------------

static void on_open(void *user, stoq_conn *c)
{
    (void)user;
    client_conn *k = stoq_conn_user(c);
    opened++;
    k->ping_us = stoq_now_us() + PING_EVERY_US;
    hm_list_append(&alive, &k->link);
}

static void on_closed(void *user, stoq_conn *c, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)user, (void)is_app;
    client_conn *k = stoq_conn_user(c);
    if (code != STOQ_CLOSED_ENDPOINT && lost++ < 5)
        fprintf(stderr, "stoq_idle: a connection is lost: %llx %.*s\n", (unsigned long long)code,
                (int)reason.len, (const char *)reason.ptr);
    k->conn = NULL;
    hm_list_remove(&k->link);
}

static void on_answer(void *user, stoq_stream *s)
{
    hm_bytes view;
    bool fin = false;
    (void)user;
    while (!fin && stoq_stream_peek(s, &view, &fin) == HM_OK && (view.len > 0 || fin)) {
        uint64_t index = (uint64_t)((client_conn *)stoq_conn_user(stoq_stream_conn(s)) - conns);
        answered += view.len == MESSAGE && memcmp(view.ptr, &index, MESSAGE) == 0;
        stoq_stream_consume(s, view.len);
    }
}

static uint64_t resident_bytes(pid_t pid)
{
    char path[64];
    unsigned long long size, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");
    must(f != NULL && fscanf(f, "%llu %llu", &size, &resident) == 2, "reading statm");
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void progress(const char *what, size_t n, bool last)
{
    if (isatty(2) || last)
        fprintf(stderr, "%sstoq_idle: %s %zu of %zu%s", isatty(2) ? "\r\033[K" : "", what, n,
                wanted, last ? "\n" : "");
}

// Keeps all alive. Returns when the next is due.
static uint64_t ping_due(void)
{
    uint64_t now = stoq_now_us();
    for (unsigned n = 0; n < 256 && !hm_list_empty(&alive); n++) {
        client_conn *k = hm_container_of(alive.next, client_conn, link);
        if (k->ping_us > now)
            return k->ping_us;
        stoq_conn_ping(k->conn);
        k->ping_us = now + PING_EVERY_US;
        hm_list_remove(&k->link);
        hm_list_append(&alive, &k->link);
    }
    return hm_list_empty(&alive) ? HM_TIME_NEVER : now;
}

static void connect_all(stoq_endpoint *ep, const struct sockaddr_in6 *to)
{
    uint64_t tell_us = 0;
    while (opened + lost < wanted) {
        while (started < wanted && started - opened - lost < HALF_OPEN) {
            client_conn *k = &conns[started++];
            hm_list_init(&k->link);
            must(stoq_connect(ep, to, NULL, NULL, k, &k->conn) == HM_OK, "connecting");
        }
        stoq_endpoint_wait(ep, ping_due());
        if (stoq_now_us() > tell_us) {
            progress("open:", opened, false);
            tell_us = stoq_now_us() + 500000;
        }
    }
    progress("open:", opened, true);
}

static void hold(stoq_endpoint *ep, uint64_t seconds)
{
    uint64_t until = stoq_now_us() + seconds * 1000000;
    while (stoq_now_us() < until) {
        uint64_t next = ping_due();
        stoq_endpoint_wait(ep, next < until ? next : until);
    }
}

// A message on each; false if answers stop coming.
static bool ask_all(stoq_endpoint *ep)
{
    size_t asked = 0, had = 0;
    uint64_t since = stoq_now_us();
    while (answered + lost < wanted) {
        for (; asked < wanted && asked < answered + 1000; asked++) {
            stoq_stream *s;
            uint64_t index = asked;
            size_t took;
            if (conns[asked].conn == NULL)
                continue;
            must(stoq_stream_open(conns[asked].conn, false, &s) == HM_OK &&
                     stoq_stream_send(s, hm_bytes_of(&index, MESSAGE), true, &took) == HM_OK,
                 "asking");
        }
        stoq_endpoint_wait(ep, ping_due());
        uint64_t now = stoq_now_us();
        since = answered > had ? now : since;
        had = answered;
        if (now > since + 10000000)
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    bool mutual = argc > 1 && strcmp(argv[1], "--mutual") == 0;
    argv += mutual, argc -= mutual;
    if (argc > 1 && strtoull(argv[1], NULL, 10) == 0) {
        fprintf(stderr, "usage: stoq_idle [--mutual] [CONNECTIONS] [SECONDS IDLE]\n");
        return 2;
    }
    wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : wanted;
    uint64_t idle_s = argc > 2 ? strtoull(argv[2], NULL, 10) : 40;
    stoq_ids ids;
    (mutual ? stoq_ids_make : stoq_ids_make_plain)(&ids);
    int pipes[2];
    must(pipe(pipes) == 0, "pipe");
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0)
        serve(&ids, pipes[1]);
    struct sockaddr_in6 to;
    must(read(pipes[0], &to, sizeof to) == sizeof to, "hearing the port");
    conns = calloc(wanted, sizeof *conns);
    must(conns != NULL, "memory");
    stoq_endpoint *ep =
        make(&ids, false,
             (stoq_callbacks){
                 .conn_open = on_open, .conn_closed = on_closed, .stream_readable = on_answer});
    uint64_t before = resident_bytes(pid), begun = stoq_now_us();
    connect_all(ep, &to);
    uint64_t open_us = stoq_now_us() - begun, open_bytes = resident_bytes(pid) - before;
    hold(ep, idle_s);
    uint64_t idle_bytes = resident_bytes(pid) - before;
    size_t kept = wanted - lost;
    ask_all(ep);
    progress("answered:", answered, true);
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "stoq-idle");
    hm_jw_str(&b, "certificates", mutual ? "mutual FALCON-1024" : "ECDSA P-256 of the server");
    hm_jw_u64(&b, "connections", wanted);
    hm_jw_u64(&b, "handshakes_per_second", wanted * 1000000 / open_us);
    hm_jw_u64(&b, "resident_bytes_a_connection_opened", open_bytes / wanted);
    hm_jw_u64(&b, "resident_bytes_a_connection_idle", idle_bytes / wanted);
    hm_jw_u64(&b, "idle_seconds", idle_s);
    hm_jw_u64(&b, "alive", kept);
    hm_jw_u64(&b, "answered", answered);
    hm_jw_close(&b, '}');
    must(hm_buf_status(&b) == HM_OK, "memory");
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    hm_buf_free(&b);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    stoq_endpoint_destroy(ep);
    free(conns);
    stoq_ids_free(&ids);
    return answered == wanted ? 0 : 1;
}
