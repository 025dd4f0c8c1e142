// stoq-server: a QUIC endpoint that answers the performance protocol.
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "hypermesh/stoq_group.h"
#include "server/daemon.h"
#include "server/enroll.h"
#include "server/options.h"
#include "server/renew.h"
#include "server/stoq_api.h"
#include "trustchain/trustchain.h"

#define GRACE_MS 5000u    // for requests in progress at SIGTERM
#define FAREWELL_MS 1000u // for clients to hear that their connections are closed
#define SECRET_BYTES 32u
#define PATH_BYTES 4096
#define SIGNALS 3u
#define SWEEP_MS 1000u
#define WATCH_MS 20u // while it shuts down

// ---- init ---------------------------------------------------------------------------------------

static hm_err cmd_init(const hm_config *c)
{
    const char *dir, *hosts[TC_SERVER_NAMES_MAX];
    char path[PATH_BYTES], names[1024];
    HM_TRY(daemon_need(c, "dir", &dir));
    size_t n =
        daemon_names(hm_config_get(c, "host"), names, sizeof(names), hosts, TC_SERVER_NAMES_MAX);
    if (n == 0)
        return hm_fail(HM_E_CONFIG, "--host names nothing");
    HM_TRY(hm_crypto_init());
    snprintf(path, sizeof(path), "%s/edge.csr", dir);
    if (access(path, F_OK) == 0) // it is written last
        return hm_fail(HM_E_EXISTS, "%s holds keys already", dir);
    HM_TRY(tc_dir_make(dir, hm_config_get(c, "name"), hosts, n, NULL));
    printf("keys and certificate requests: %s; next: enroll\n", dir);
    return HM_OK;
}

// ---- run ----------------------------------------------------------------------------------------

typedef struct daemon_state {
    const hm_config *config;
    const char *dir;
    uv_loop_t loop; // signals and HTTPS; the workers have their own
    uv_signal_t signals[SIGNALS];
    uv_timer_t sweep, watch;
    uv_timer_t deadline; // of shutting down
    stoq_group *group;
    stoq_perf *perf; // one a worker, which alone touches it
    stoq_api api;
    renewal *renewal; // NULL: --cert has its own ways
    bool farewell;
} daemon_state;

// The paths of certificate and key in the data directory; false when it holds no such certificate.
static bool own_pair(const char *dir, const char *family, char cert[PATH_BYTES],
                     char key[PATH_BYTES])
{
    snprintf(cert, PATH_BYTES, "%s/%s.crt", dir, family);
    snprintf(key, PATH_BYTES, "%s/%s.key", dir, family);
    return access(cert, F_OK) == 0;
}

// Says so once, however often the certificates are read.
static hm_err keylog(SSL_CTX *tls)
{
    static bool told;
    const char *path;
    HM_TRY(tc_tls_keylog(tls, &path));
    if (path && !told)
        hm_log(HM_LOG_WARN, "server", "secrets of all connections are written", "SSLKEYLOGFILE=%s",
               path);
    told |= path != NULL;
    return HM_OK;
}

static hm_err server_tls(const hm_config *c, const char *dir, SSL_CTX **out)
{
    static const char *const families[] = {"node", "edge"};
    char paths[2][2][PATH_BYTES];
    const char *cert = hm_config_get(c, "cert"), *key = hm_config_get(c, "key");
    tc_tls_config cfg = {.is_server = true,
                         .groups = hm_config_get(c, "groups"),
                         .roots_path = hm_config_get(c, "client-ca"),
                         .crl_path = hm_config_get(c, "client-crl"),
                         .clock = &hm_clock_system};
    if (!cert != !key)
        return hm_fail(HM_E_USAGE, "--cert and --key go together");
    if (cfg.crl_path && !cfg.roots_path)
        return hm_fail(HM_E_USAGE, "--client-crl needs --client-ca");
    size_t n = 0;
    if (cert) {
        cfg.ids[0].cert_path = cert;
        cfg.ids[0].key_path = key;
        n = 1;
    }
    for (size_t i = 0; !cert && i < 2; i++) {
        if (!own_pair(dir, families[i], paths[i][0], paths[i][1]))
            continue;
        cfg.ids[n].cert_path = paths[i][0];
        cfg.ids[n++].key_path = paths[i][1];
    }
    if (n == 0)
        return hm_fail(HM_E_CONFIG, "%s holds no certificate: run init and enroll, or give --cert",
                       dir);
    HM_TRY(tc_tls(&cfg, out));
    return keylog(*out);
}

// Keys stateless resets and tokens, so that clients of an earlier run learn at once that it is
// over.
static hm_err endpoint_secret(const char *dir, uint8_t out[SECRET_BYTES])
{
    char path[PATH_BYTES];
    hm_buf kept = {0};
    snprintf(path, sizeof(path), "%s/stoq.secret", dir);
    hm_err err = hm_file_read_secret(path, SECRET_BYTES, &kept);
    if (err == HM_E_NOTFOUND) {
        hm_random_fill(&hm_random_system, out, SECRET_BYTES);
        HM_TRY(hm_dir_make(dir)); // with --cert nobody else did
        err = hm_file_write(path, hm_bytes_of(out, SECRET_BYTES), 0600);
    } else if (err == HM_OK && kept.len == SECRET_BYTES) {
        memcpy(out, kept.ptr, SECRET_BYTES);
    } else if (err == HM_OK || err == HM_E_LIMIT) {
        err = hm_fail(HM_E_CORRUPT, "%s: not %u bytes; delete it, and a new one is made", path,
                      SECRET_BYTES);
    }
    hm_buf_free_secret(&kept);
    return err;
}

static void *worker_begin(void *ctx, unsigned worker)
{
    daemon_state *d = ctx;
    stoq_perf_init(&d->perf[worker], &hm_clock_system);
    return &d->perf[worker];
}

static hm_err start_workers(daemon_state *d)
{
    uint64_t workers, connections, tickets, ticket_s;
    SSL_CTX *tls = NULL;
    stoq_config cfg = {
        .alpn = {STOQ_PERF_ALPN, STOQ_ALPN_MESH, H3_ALPN},
        .callbacks = stoq_perf_callbacks,
        .limits = {.max_streams_bidi = STOQ_PERF_STREAMS, .stream_send_bytes = STOQ_PERF_KEPT},
    };
    HM_TRY(hm_config_addr(d->config, "listen", &cfg.bind));
    if (hm_config_get(d->config, "preferred"))
        HM_TRY(hm_config_addr(d->config, "preferred", &cfg.preferred));
    HM_TRY(hm_config_u64(d->config, "max-connections", 1, 100000, &connections));
    HM_TRY(hm_config_u64(d->config, "workers", 1, STOQ_SHARE_MAX, &workers));
    cfg.limits.max_connections = (uint32_t)((connections + workers - 1) / workers);
    HM_TRY(hm_config_u64(d->config, "tickets", 0, STOQ_TICKETS_MAX, &tickets));
    HM_TRY(hm_config_u64(d->config, "ticket-seconds", 1, STOQ_TICKET_LIFETIME_MAX_S, &ticket_s));
    cfg.tickets = (uint32_t)tickets;
    cfg.ticket_lifetime_s = (uint32_t)ticket_s;
    cfg.early_data = hm_config_on(d->config, "early-data");
    cfg.always_retry = hm_config_on(d->config, "retry");
    HM_TRY(stoq_congestion_of(hm_config_get(d->config, "congestion"), &cfg.congestion));
    HM_TRY(stoq_versions_of(hm_config_get(d->config, "quic"), cfg.versions));
    cfg.qlog_dir = hm_config_get(d->config, "qlog");
    cfg.xdp = hm_config_get(d->config, "xdp");
    if (cfg.xdp != NULL && workers > 1)
        return hm_fail(HM_E_CONFIG, "xdp is for one worker, not %u", (unsigned)workers);
    HM_TRY(server_tls(d->config, d->dir, &tls));
    hm_err err = endpoint_secret(d->dir, cfg.secret);
    if (err == HM_OK) {
        cfg.server_tls = tls;
        d->perf = calloc(workers, sizeof(*d->perf));
        err = d->perf ? HM_OK : HM_E_NOMEM;
    }
    if (err == HM_OK) {
        const stoq_group_config group = {.endpoint = cfg,
                                         .workers = (unsigned)workers,
                                         .pin = workers > 1,
                                         .worker_begin = worker_begin,
                                         .ctx = d};
        err = stoq_group_start(&group, &d->group);
    }
    SSL_CTX_free(tls);
    hm_zero(cfg.secret, sizeof(cfg.secret));
    return err;
}

// ---- what workers are asked to do ---------------------------------------------------------------

static stoq_perf *perf_of(const stoq_endpoint *ep)
{
    return stoq_endpoint_user(ep);
}

static void job_totals(void *arg, stoq_endpoint *ep)
{
    stoq_perf_add(perf_of(ep), ep, arg);
}

static void job_sweep(void *arg, stoq_endpoint *ep)
{
    (void)arg;
    stoq_perf_sweep(perf_of(ep), hm_clock_mono_us(&hm_clock_system));
}

static void job_tls(void *arg, stoq_endpoint *ep)
{
    stoq_endpoint_set_server_tls(ep, arg);
    SSL_CTX_free(arg);
}

static void job_drain(void *arg, stoq_endpoint *ep)
{
    (void)arg;
    stoq_endpoint_set_server_tls(ep, NULL);
    stoq_perf_drain(perf_of(ep));
}

static void job_close(void *arg, stoq_endpoint *ep)
{
    (void)arg;
    stoq_perf_close(perf_of(ep));
}

// All workers do it, soon. Memory that is missing now is there the next time that it is asked.
static void ask_all(daemon_state *d, void (*job)(void *arg, stoq_endpoint *ep))
{
    for (unsigned i = 0; i < stoq_group_workers(d->group); i++)
        if (stoq_group_run(d->group, i, job, NULL) != HM_OK)
            hm_log(HM_LOG_ERROR, "server", "no memory for a job", "worker=%u", i);
}

static void totals(void *ctx, stoq_perf_totals *out)
{
    daemon_state *d = ctx;
    for (unsigned i = 0; i < stoq_group_workers(d->group); i++)
        if (stoq_group_call(d->group, i, job_totals, out) != HM_OK)
            hm_log(HM_LOG_ERROR, "server", "no memory for a job", "worker=%u", i);
}

// The address of the metrics, or "none".
static hm_err start_api(daemon_state *d, char at[HM_ADDR_TEXT_MAX])
{
    char cert[PATH_BYTES], key[PATH_BYTES];
    struct sockaddr_in6 bound;
    hm_http_listen_config listen = {.cert_path = cert, .key_path = key};
    snprintf(at, HM_ADDR_TEXT_MAX, "none");
    if (!hm_config_on(d->config, "metrics-listen"))
        return HM_OK;
    HM_TRY(hm_config_addr(d->config, "metrics-listen", &listen.addr));
    if (!own_pair(d->dir, "edge", cert, key)) {
        listen.cert_path = hm_config_get(d->config, "cert");
        listen.key_path = hm_config_get(d->config, "key");
    }
    HM_TRY(stoq_api_open(&d->api, &d->loop, totals, d, &listen, &bound));
    hm_addr_text(&bound, at);
    return HM_OK;
}

// ---- the loop -----------------------------------------------------------------------------------

static void close_handles(daemon_state *d)
{
    uv_close((uv_handle_t *)&d->sweep, NULL);
    uv_close((uv_handle_t *)&d->watch, NULL);
    uv_close((uv_handle_t *)&d->deadline, NULL);
}

static void on_sweep(uv_timer_t *t)
{
    ask_all(t->data, job_sweep);
}

// Requests that did not end in time are cut off; then nobody is waited for any more.
static void on_deadline(uv_timer_t *t)
{
    daemon_state *d = t->data;
    if (d->farewell)
        close_handles(d);
    else
        ask_all(d, job_close);
}

// Ends when the last client has heard that it is over, or has had its time to.
static void on_watch(uv_timer_t *t)
{
    daemon_state *d = t->data;
    stoq_perf_totals now = {0};
    totals(d, &now);
    if (!d->farewell && now.n.closed == now.n.accepted) {
        d->farewell = true;
        uv_timer_start(&d->deadline, on_deadline, FAREWELL_MS, 0);
    }
    if (now.ep.connections == 0)
        close_handles(d);
}

static void reload(daemon_state *d, const char *reason)
{
    char why[512];
    SSL_CTX *tls = NULL;
    hm_err err = server_tls(d->config, d->dir, &tls);
    if (err == HM_OK) {
        for (unsigned i = 0; i < stoq_group_workers(d->group) && err == HM_OK; i++) {
            SSL_CTX_up_ref(tls);
            err = stoq_group_run(d->group, i, job_tls, tls);
            if (err != HM_OK)
                SSL_CTX_free(tls);
        }
        SSL_CTX_free(tls);
        if (err == HM_OK && d->api.http)
            err = hm_http_certs_renewed(d->api.http);
    }
    if (err == HM_OK)
        hm_log(HM_LOG_INFO, "server", "certificates and lists read again", "reason=%s", reason);
    else
        hm_log(HM_LOG_ERROR, "server", "certificates and lists not read again", "why=%s",
               hm_log_quote(why, sizeof(why), hm_bytes_str(hm_err_detail())));
}

static void on_renewed(void *ctx, tc_family f)
{
    (void)f;
    reload(ctx, "renewal");
}

static hm_err start_renewal(daemon_state *d)
{
    if (hm_config_get(d->config, "cert"))
        return HM_OK;
    return renewal_open(&(renewal_config){.loop = &d->loop,
                                          .dir = d->dir,
                                          .authority = hm_config_get(d->config, "authority"),
                                          .renewed = on_renewed,
                                          .ctx = d},
                        &d->renewal);
}

static void on_signal(uv_signal_t *s, int number)
{
    daemon_state *d = s->data;
    if (number == SIGHUP) {
        reload(d, "SIGHUP");
        return;
    }
    hm_log(HM_LOG_INFO, "server", "stopping", "signal=%d", number);
    for (size_t i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&d->signals[i], NULL);
    ask_all(d, job_drain);
    stoq_api_close(&d->api, GRACE_MS);
    renewal_close(d->renewal);
    uv_timer_start(&d->watch, on_watch, WATCH_MS, WATCH_MS);
    uv_timer_start(&d->deadline, on_deadline, GRACE_MS, 0);
}

static void start_handles(daemon_state *d)
{
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&d->loop, &d->sweep);
    uv_timer_init(&d->loop, &d->watch);
    uv_timer_init(&d->loop, &d->deadline);
    d->sweep.data = d->watch.data = d->deadline.data = d;
    uv_timer_start(&d->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

static hm_err cmd_run(const hm_config *c)
{
    static daemon_state d;
    char at[HM_ADDR_TEXT_MAX], metrics[HM_ADDR_TEXT_MAX], detail[512];
    struct sockaddr_in6 bound;
    d.config = c;
    HM_TRY(daemon_need(c, "dir", &d.dir));
    if (strlen(d.dir) > PATH_BYTES - 64)
        return hm_fail(HM_E_LIMIT, "the directory's name is too long");
    HM_TRY(hm_crypto_init());
    signal(SIGPIPE, SIG_IGN);
    HM_TRY(start_workers(&d));
    uv_loop_init(&d.loop);
    hm_err err = start_renewal(&d);
    if (err == HM_OK)
        err = start_api(&d, metrics);
    if (err != HM_OK)
        renewal_close(d.renewal);
    if (err == HM_OK) {
        start_handles(&d);
        stoq_group_address(d.group, &bound);
        hm_log(HM_LOG_INFO, "server", "running", "stoq=%s metrics=%s", hm_addr_text(&bound, at),
               metrics);
    }
    snprintf(detail, sizeof(detail), "%s", hm_err_detail()); // the first reason is the one to tell
    uv_run(&d.loop, UV_RUN_DEFAULT);
    uv_loop_close(&d.loop);
    stoq_perf_totals sum = {0};
    totals(&d, &sum);
    stoq_group_stop(d.group);
    free(d.perf);
    if (err != HM_OK)
        return hm_fail(err, "%.500s", detail);
    hm_log(HM_LOG_INFO, "server", "stopped", "requests=%llu sent_bytes=%llu received_bytes=%llu",
           (unsigned long long)sum.n.requests, (unsigned long long)sum.n.bytes_out,
           (unsigned long long)sum.n.bytes_in);
    return HM_OK;
}

int main(int argc, char **argv)
{
    static const daemon_command commands[] = {
        {"init", "make the data directory: keys and certificate requests", cmd_init},
        {"enroll", "ask the authority for the certificates and keep them", enroll_command},
        {"run", "serve until SIGTERM; SIGHUP reads certificates and lists again", cmd_run},
    };
    const daemon_program program = {"stoq-server", hm_stoq_options, hm_stoq_option_count, commands,
                                    sizeof(commands) / sizeof(commands[0])};
    return daemon_main(&program, argc, argv);
}
