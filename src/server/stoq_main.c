// stoq-server: a QUIC endpoint that answers the performance protocol.
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "server/daemon.h"
#include "server/enroll.h"
#include "server/options.h"
#include "server/stoq_api.h"
#include "trustchain/trustchain.h"

#define GRACE_MS 5000u    // for requests in progress at SIGTERM
#define FAREWELL_MS 1000u // for clients to hear that their connections are closed
#define PUMPS_A_TURN 16u  // of the endpoint, before HTTP has its turn
#define SECRET_BYTES 32u
#define PATH_BYTES 4096
#define SIGNALS 3u
#define SWEEP_US 1000000u

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
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS];
    uv_poll_t poll;
    uv_timer_t timer;    // of the endpoint
    uv_timer_t deadline; // of shutting down
    uv_prepare_t prepare;
    stoq_endpoint *ep;
    stoq_perf perf;
    stoq_api api;
    bool readable, stopping, farewell;
    uint64_t swept_us;
} daemon_state;

// The paths of certificate and key in the data directory; false when it holds no such certificate.
static bool own_pair(const char *dir, const char *family, char cert[PATH_BYTES],
                     char key[PATH_BYTES])
{
    snprintf(cert, PATH_BYTES, "%s/%s.crt", dir, family);
    snprintf(key, PATH_BYTES, "%s/%s.key", dir, family);
    return access(cert, F_OK) == 0;
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
    return tc_tls(&cfg, out);
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

static hm_err start_endpoint(daemon_state *d)
{
    uint64_t connections, tickets, ticket_s;
    SSL_CTX *tls = NULL;
    stoq_config cfg = {
        .alpn = {STOQ_PERF_ALPN, STOQ_ALPN_MESH, H3_ALPN},
        .callbacks = stoq_perf_callbacks,
        .user = &d->perf,
        .limits = {.max_streams_bidi = STOQ_PERF_STREAMS, .stream_send_bytes = STOQ_PERF_KEPT},
    };
    HM_TRY(hm_config_addr(d->config, "listen", &cfg.bind));
    HM_TRY(hm_config_u64(d->config, "max-connections", 1, 100000, &connections));
    cfg.limits.max_connections = (uint32_t)connections;
    HM_TRY(hm_config_u64(d->config, "tickets", 0, STOQ_TICKETS_MAX, &tickets));
    HM_TRY(hm_config_u64(d->config, "ticket-seconds", 1, STOQ_TICKET_LIFETIME_MAX_S, &ticket_s));
    cfg.tickets = (uint32_t)tickets;
    cfg.ticket_lifetime_s = (uint32_t)ticket_s;
    cfg.early_data = hm_config_on(d->config, "early-data");
    HM_TRY(stoq_congestion_of(hm_config_get(d->config, "congestion"), &cfg.congestion));
    HM_TRY(server_tls(d->config, d->dir, &tls));
    hm_err err = endpoint_secret(d->dir, cfg.secret);
    if (err == HM_OK) {
        cfg.server_tls = tls;
        err = stoq_endpoint_create(&cfg, &d->ep);
    }
    SSL_CTX_free(tls);
    hm_zero(cfg.secret, sizeof(cfg.secret));
    return err;
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
    HM_TRY(stoq_api_open(&d->api, &d->loop, &d->perf, d->ep, &listen, &bound));
    hm_addr_text(&bound, at);
    return HM_OK;
}

// ---- the loop -----------------------------------------------------------------------------------

static uint64_t now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

static void close_handles(daemon_state *d)
{
    uv_close((uv_handle_t *)&d->poll, NULL);
    uv_close((uv_handle_t *)&d->timer, NULL);
    uv_close((uv_handle_t *)&d->deadline, NULL);
    uv_close((uv_handle_t *)&d->prepare, NULL);
}

static void on_timer(uv_timer_t *t)
{
    (void)t; // waking up is enough: on_prepare() works
}

// Requests that did not end in time are cut off; then nobody is waited for any more.
static void on_deadline(uv_timer_t *t)
{
    daemon_state *d = t->data;
    if (d->farewell)
        close_handles(d);
    else
        stoq_perf_close(&d->perf);
}

// True when the last client has heard that it is over, or has had its time to.
static bool stopped(daemon_state *d)
{
    stoq_endpoint_stats e;
    stoq_endpoint_get_stats(d->ep, &e);
    if (!d->farewell && hm_list_empty(&d->perf.conns)) {
        d->farewell = true;
        uv_timer_start(&d->deadline, on_deadline, FAREWELL_MS, 0);
    }
    return e.connections == 0;
}

// All that is due is done here, before the loop waits.
static void on_prepare(uv_prepare_t *p)
{
    daemon_state *d = p->data;
    uint64_t now = now_us(), next = 0;
    for (unsigned i = 0; i < PUMPS_A_TURN; i++) {
        bool readable = d->readable;
        d->readable = false;
        stoq_endpoint_process(d->ep, now, readable);
        now = now_us();
        next = stoq_endpoint_next_timeout_us(d->ep);
        if (next > now)
            break;
    }
    if (d->stopping && stopped(d)) {
        close_handles(d);
        return;
    }
    if (now - d->swept_us >= SWEEP_US) {
        d->swept_us = now;
        stoq_perf_sweep(&d->perf, now);
        next = stoq_endpoint_next_timeout_us(d->ep);
    }
    uv_update_time(&d->loop);
    if (next == HM_TIME_NEVER)
        uv_timer_stop(&d->timer);
    else
        uv_timer_start(&d->timer, on_timer, next <= now ? 0 : (next - now + 999) / 1000, 0);
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    daemon_state *d = p->data;
    if (status == 0 && (events & UV_READABLE))
        d->readable = true;
}

static void reload(daemon_state *d)
{
    char why[512];
    SSL_CTX *tls = NULL;
    hm_err err = server_tls(d->config, d->dir, &tls);
    if (err == HM_OK) {
        stoq_endpoint_set_server_tls(d->ep, tls);
        SSL_CTX_free(tls);
        if (d->api.http)
            err = hm_http_certs_renewed(d->api.http);
    }
    if (err == HM_OK)
        hm_log(HM_LOG_INFO, "server", "certificates and lists read again", "signal=%d", SIGHUP);
    else
        hm_log(HM_LOG_ERROR, "server", "certificates and lists not read again", "why=%s",
               hm_log_quote(why, sizeof(why), hm_bytes_str(hm_err_detail())));
}

static void on_signal(uv_signal_t *s, int number)
{
    daemon_state *d = s->data;
    if (number == SIGHUP) {
        reload(d);
        return;
    }
    d->stopping = true;
    hm_log(HM_LOG_INFO, "server", "stopping", "signal=%d", number);
    for (size_t i = 0; i < SIGNALS; i++)
        uv_close((uv_handle_t *)&d->signals[i], NULL);
    stoq_endpoint_set_server_tls(d->ep, NULL);
    stoq_perf_drain(&d->perf);
    stoq_api_close(&d->api, GRACE_MS);
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
    uv_poll_init(&d->loop, &d->poll, stoq_endpoint_fd(d->ep));
    uv_timer_init(&d->loop, &d->timer);
    uv_timer_init(&d->loop, &d->deadline);
    uv_prepare_init(&d->loop, &d->prepare);
    d->poll.data = d->deadline.data = d->prepare.data = d;
    uv_poll_start(&d->poll, UV_READABLE, on_poll);
    uv_prepare_start(&d->prepare, on_prepare);
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
    stoq_perf_init(&d.perf, &hm_clock_system);
    HM_TRY(start_endpoint(&d));
    uv_loop_init(&d.loop);
    hm_err err = start_api(&d, metrics);
    if (err == HM_OK) {
        start_handles(&d);
        stoq_endpoint_address(d.ep, &bound);
        hm_log(HM_LOG_INFO, "server", "running", "stoq=%s metrics=%s", hm_addr_text(&bound, at),
               metrics);
    }
    snprintf(detail, sizeof(detail), "%s", hm_err_detail()); // the first reason is the one to tell
    uv_run(&d.loop, UV_RUN_DEFAULT);
    uv_loop_close(&d.loop);
    stoq_endpoint_destroy(d.ep);
    if (err != HM_OK)
        return hm_fail(err, "%.500s", detail);
    hm_log(HM_LOG_INFO, "server", "stopped", "requests=%llu sent_bytes=%llu received_bytes=%llu",
           (unsigned long long)d.perf.n.requests, (unsigned long long)d.perf.n.bytes_out,
           (unsigned long long)d.perf.n.bytes_in);
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
