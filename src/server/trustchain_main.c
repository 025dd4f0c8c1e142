// trustchain-server: the authority of a mesh behind an HTTPS API.
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/daemon.h"
#include "server/options.h"
#include "server/trust_api.h"

#define GRACE_MS 5000u
#define PATH_BYTES 4096
#define RENEW_BEFORE_MS (UINT64_C(10) * 86400000) // of the server's own certificate
#define RENEW_EVERY_MS 3600000u

typedef struct server_paths {
    char authority[PATH_BYTES], token[PATH_BYTES], cert[PATH_BYTES], key[PATH_BYTES];
    char mesh_root[PATH_BYTES], edge_root[PATH_BYTES];
} server_paths;

static hm_err paths_of(const hm_config *c, const char **dir, server_paths *p)
{
    HM_TRY(daemon_need(c, "dir", dir));
    if (strlen(*dir) > PATH_BYTES - 64)
        return hm_fail(HM_E_LIMIT, "the directory's name is too long");
    snprintf(p->authority, PATH_BYTES, "%s/authority", *dir);
    snprintf(p->token, PATH_BYTES, "%s/api.token", *dir);
    snprintf(p->cert, PATH_BYTES, "%s/server.crt", *dir);
    snprintf(p->key, PATH_BYTES, "%s/server.key", *dir);
    snprintf(p->mesh_root, PATH_BYTES, "%s/mesh-root.crt", *dir);
    snprintf(p->edge_root, PATH_BYTES, "%s/edge-root.crt", *dir);
    return HM_OK;
}

static uint64_t wall_ms(void)
{
    return hm_clock_wall_ms(&hm_clock_system);
}

// ---- init ---------------------------------------------------------------------------------------

static hm_err make_token(const char *path)
{
    uint8_t secret[32];
    char text[2 * sizeof(secret) + 2];
    hm_random_fill(&hm_random_system, secret, sizeof(secret));
    hm_hex(text, secret, sizeof(secret));
    strcat(text, "\n");
    hm_err err = hm_file_write(path, hm_bytes_str(text), 0600);
    hm_zero(secret, sizeof(secret));
    hm_zero(text, sizeof(text));
    return err;
}

// The token comes first and the copies of the roots last: an interrupted init is begun again where
// it was, and only a whole one counts as there.
static hm_err cmd_init(const hm_config *c)
{
    const char *dir;
    server_paths p;
    tc_authority *a = NULL;
    char token[DAEMON_TOKEN_MAX];
    hm_buf seen = {0};
    hm_err err;
    HM_TRY(paths_of(c, &dir, &p));
    HM_TRY(hm_crypto_init());
    HM_TRY(hm_dir_make(dir));
    int lock = -1; // two at once would mix their keys
    HM_TRY(hm_dir_lock(dir, &lock));
    if (hm_file_read(p.edge_root, TC_CERT_MAX, &seen) == HM_OK)
        HM_TRY_OUT(hm_fail(HM_E_EXISTS, "%s holds an authority already", dir));
    if (daemon_token_file(p.token, token) != HM_OK)
        HM_TRY_OUT(make_token(p.token));
    err = tc_authority_init(p.authority, hm_config_get(c, "mesh"), wall_ms());
    if (err != HM_OK && err != HM_E_EXISTS)
        goto out;
    HM_TRY_OUT(tc_authority_open(p.authority, &a));
    HM_TRY_OUT(hm_file_write(p.mesh_root, tc_authority_root(a, TC_MESH), 0644));
    HM_TRY_OUT(hm_file_write(p.edge_root, tc_authority_root(a, TC_EDGE), 0644));
    printf("mesh root: %s\nedge root: %s\ntoken:     %s\n", p.mesh_root, p.edge_root, p.token);
out:
    hm_zero(token, sizeof(token));
    hm_buf_free(&seen);
    tc_authority_close(a);
    close(lock);
    return err;
}

// ---- the server's own certificate ---------------------------------------------------------------

// Do certificate and key belong together, and is the certificate good for a while?
static bool cert_is_good(const server_paths *p, const tc_authority *a, const char *names)
{
    FILE *f = fopen(p->cert, "r"), *g = fopen(p->key, "r");
    X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = g ? PEM_read_PrivateKey(g, NULL, NULL, NULL) : NULL;
    const tc_issued *i = NULL;
    tc_serial serial;
    if (x && key && X509_check_private_key(x, key) == 1 &&
        ASN1_STRING_length(X509_get0_serialNumber(x)) == TC_SERIAL_BYTES) {
        memcpy(serial.b, ASN1_STRING_get0_data(X509_get0_serialNumber(x)), TC_SERIAL_BYTES);
        i = tc_issued_find(a, &serial);
    }
    EVP_PKEY_free(key);
    X509_free(x);
    if (f)
        fclose(f);
    if (g)
        fclose(g);
    return i && !i->revoked && strcmp(i->subject, names) == 0 &&
           i->not_after_ms > wall_ms() + RENEW_BEFORE_MS;
}

// The key is written before the certificate: a crash between leaves a pair that cert_is_good()
// refuses, and the next start makes a new one.
static hm_err ensure_cert(const hm_config *c, const server_paths *p, tc_authority *a, bool force,
                          bool *renewed)
{
    char names[1024], list[1024];
    const char *name[TC_SERVER_NAMES_MAX];
    hm_buf key = {0}, csr = {0}, chain = {0}, subject = {0};
    tc_issued issued;
    hm_err err = HM_OK;
    *renewed = false;
    size_t n =
        daemon_names(hm_config_get(c, "host"), names, sizeof(names), name, TC_SERVER_NAMES_MAX);
    for (size_t i = 0; i < n; i++)
        hm_buf_printf(&subject, "%s%s", i ? " " : "", name[i]);
    snprintf(list, sizeof(list), "%s", hm_buf_cstr(&subject));
    if (n == 0) {
        err = hm_fail(HM_E_CONFIG, "--host names nothing");
        goto out;
    }
    if (!force && cert_is_good(p, a, list))
        goto out;
    HM_TRY_OUT(tc_server_csr(name, n, &key, &csr));
    HM_TRY_OUT(tc_issue_server(a, hm_buf_bytes(&csr), wall_ms(), &chain, &issued));
    HM_TRY_OUT(hm_file_write(p->key, hm_buf_bytes(&key), 0600));
    HM_TRY_OUT(hm_file_write(p->cert, hm_buf_bytes(&chain), 0644));
    hm_trust_audit("own certificate issued", &issued);
    *renewed = true;
out:
    hm_buf_free_secret(&key);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    hm_buf_free(&subject);
    return err;
}

// ---- run ----------------------------------------------------------------------------------------

typedef struct daemon_state {
    uv_loop_t loop;
    uv_signal_t signals[3];
    uv_timer_t renewal;
    const hm_config *config;
    server_paths paths;
    tc_authority *authority;
    hm_trust_api *api;
    bool stopping;
} daemon_state;

static void on_api_closed(void *ctx)
{
    daemon_state *d = ctx;
    d->api = NULL;
    hm_log(HM_LOG_INFO, "server", "stopped", "%s", "");
}

static void renew(daemon_state *d, bool force)
{
    char why[512];
    bool renewed = false;
    hm_err err = ensure_cert(d->config, &d->paths, d->authority, force, &renewed);
    if (err == HM_OK && renewed)
        err = hm_trust_api_renewed(d->api);
    if (err != HM_OK)
        hm_log(HM_LOG_ERROR, "server", "own certificate not renewed", "why=%s",
               hm_log_quote(why, sizeof(why), hm_bytes_str(hm_err_detail())));
}

static void on_renewal(uv_timer_t *t)
{
    renew(t->data, false);
}

static void on_signal(uv_signal_t *s, int number)
{
    daemon_state *d = s->data;
    if (d->stopping)
        return;
    if (number == SIGHUP) {
        renew(d, true);
        return;
    }
    d->stopping = true;
    hm_log(HM_LOG_INFO, "server", "stopping", "signal=%d", number);
    for (size_t i = 0; i < 3; i++)
        uv_close((uv_handle_t *)&d->signals[i], NULL);
    uv_close((uv_handle_t *)&d->renewal, NULL);
    hm_trust_api_close(d->api, GRACE_MS, on_api_closed, d);
}

static hm_err start_api(const hm_config *c, daemon_state *d, const char *dir)
{
    char token[DAEMON_TOKEN_MAX];
    hm_trust_api_config cfg = {
        .loop = &d->loop, .authority = d->authority, .clock = &hm_clock_system};
    HM_TRY(daemon_http_limits(c, &cfg.limits));
    HM_TRY(hm_config_addr(c, "listen", &cfg.api.addr));
    HM_TRY(daemon_token_read(dir, token));
    cfg.token = token;
    cfg.api.cert_path = d->paths.cert;
    cfg.api.key_path = d->paths.key;
    hm_err err = hm_trust_api_open(&cfg, &d->api);
    hm_zero(token, sizeof(token));
    return err;
}

static void start_handles(daemon_state *d)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < 3; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&d->loop, &d->renewal);
    d->renewal.data = d;
    uv_timer_start(&d->renewal, on_renewal, RENEW_EVERY_MS, RENEW_EVERY_MS);
}

static hm_err cmd_run(const hm_config *c)
{
    static daemon_state d;
    const char *dir;
    bool renewed;
    hm_err err;
    d.config = c;
    HM_TRY(paths_of(c, &dir, &d.paths));
    HM_TRY(hm_crypto_init());
    signal(SIGPIPE, SIG_IGN);
    err = tc_authority_open(d.paths.authority, &d.authority);
    if (err != HM_OK) {
        hm_log(HM_LOG_ERROR, "server", "no authority", "hint=\"was init run, does another run?\"");
        return err;
    }
    uv_loop_init(&d.loop);
    err = ensure_cert(c, &d.paths, d.authority, false, &renewed);
    if (err == HM_OK)
        err = start_api(c, &d, dir);
    if (err == HM_OK) {
        start_handles(&d);
        hm_log(HM_LOG_INFO, "server", "running", "api=%s certificates=%zu",
               hm_config_get(c, "listen"), tc_issued_count(d.authority));
    }
    char detail[512]; // closing may fail too; the first reason is the one to tell
    snprintf(detail, sizeof(detail), "%s", hm_err_detail());
    uv_run(&d.loop, UV_RUN_DEFAULT);
    uv_loop_close(&d.loop);
    uv_library_shutdown(); // ends the worker threads, and what OpenSSL keeps for each of them
    tc_authority_close(d.authority);
    return err == HM_OK ? HM_OK : hm_fail(err, "%.500s", detail);
}

int main(int argc, char **argv)
{
    static const daemon_command commands[] = {
        {"init", "make the authority: keys, roots, the API's token", cmd_init},
        {"run", "serve the API until SIGTERM; SIGHUP renews the server's certificate", cmd_run},
    };
    const daemon_program program = {"trustchain-server", hm_trust_options, hm_trust_option_count,
                                    commands, sizeof(commands) / sizeof(commands[0])};
    return daemon_main(&program, argc, argv);
}
