// trustchain-server: the authority of a mesh behind an HTTPS API.
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/daemon.h"
#include "server/issuing_command.h"
#include "server/ocsp_api.h"
#include "server/options.h"
#include "server/tokens.h"
#include "server/trust_api.h"
#include "trustchain/ceremony.h"
#include "trustchain/policy.h"

#define GRACE_MS 5000u
#define PATH_BYTES 4096
#define RENEW_BEFORE_MS (UINT64_C(10) * 86400000) // of the server's own certificate
#define RENEW_EVERY_MS 3600000u
#define AUDIT_SYNC_MS 1000u

typedef struct server_paths {
    char authority[PATH_BYTES], token[PATH_BYTES], cert[PATH_BYTES], key[PATH_BYTES];
    char mesh_root[PATH_BYTES], edge_root[PATH_BYTES];
    char tokens[PATH_BYTES], audit[PATH_BYTES];
    char acme[PATH_BYTES];
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
    snprintf(p->tokens, PATH_BYTES, "%s/tokens", *dir);
    snprintf(p->audit, PATH_BYTES, "%s/audit.log", *dir);
    snprintf(p->acme, PATH_BYTES, "%s/acme", *dir);
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

// The requests for the roots; the copies of these come with what they sign.
static hm_err init_issuing(const hm_config *c, const server_paths *p)
{
    if (hm_config_get(c, "edge-names"))
        return hm_fail(HM_E_USAGE, "--edge-names is said to `hypermesh cert root sign` then");
    hm_err err = tc_authority_init_issuing(p->authority, hm_config_get(c, "mesh"),
                                           hm_config_get(c, "hsm"), wall_ms());
    if (err != HM_OK && err != HM_E_EXISTS)
        return err;
    printf("requests:  %s/mesh-ca.csr\n           %s/edge-ca.csr\ntoken:     %s\n"
           "next: have them signed (hypermesh cert root sign), then install-issuing\n",
           p->authority, p->authority, p->token);
    return HM_OK;
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
    if (hm_config_on(c, "issuing-only")) {
        err = init_issuing(c, &p);
        goto out;
    }
    err =
        tc_authority_init_with(p.authority, hm_config_get(c, "mesh"),
                               hm_config_get(c, "edge-names"), hm_config_get(c, "hsm"), wall_ms());
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

static hm_err install_one(const char *authority, const char *file)
{
    hm_buf pem = {0};
    char why[400];
    hm_err err = hm_file_read(file, 16 * TC_CERT_MAX, &pem);
    if (err == HM_OK)
        err = tc_authority_install(authority, hm_buf_bytes(&pem), wall_ms());
    hm_buf_free(&pem);
    if (err == HM_OK)
        return HM_OK;
    snprintf(why, sizeof why, "%s", hm_err_detail());
    return hm_fail(err, "%s: %s", file, why[0] ? why : hm_err_text(err));
}

// install-issuing FILE...: what the roots signed. The copies of the roots come once all is there.
static hm_err cmd_install(const hm_config *c)
{
    const char *dir;
    server_paths p;
    tc_authority *a = NULL;
    int lock = -1;
    hm_err err;
    HM_TRY(paths_of(c, &dir, &p));
    if (c->positional_count < 2)
        return hm_fail(HM_E_USAGE, "install-issuing FILE...");
    HM_TRY(hm_crypto_init());
    HM_TRY(hm_dir_lock(dir, &lock)); // not the authority's, which may run
    for (size_t i = 1; i < c->positional_count; i++)
        HM_TRY_OUT(install_one(p.authority, c->positional[i]));
    if (access(p.edge_root, F_OK) == 0) {
        printf("installed; a server that runs takes it at SIGHUP\n");
        goto out;
    }
    for (int f = 0; f < 2; f++)
        if (!tc_authority_installed(p.authority, (tc_family)f)) {
            printf("the %s family's is still missing\n", tc_family_names[f]);
            goto out;
        }
    HM_TRY_OUT(tc_authority_open(p.authority, &a));
    HM_TRY_OUT(hm_file_write(p.mesh_root, tc_authority_root(a, TC_MESH), 0644));
    HM_TRY_OUT(hm_file_write(p.edge_root, tc_authority_root(a, TC_EDGE), 0644));
    printf("mesh root: %s\nedge root: %s\n", p.mesh_root, p.edge_root);
out:
    tc_authority_close(a);
    close(lock);
    return err;
}

// ---- other issuing keys -------------------------------------------------------------------------

typedef hm_err (*issuing_act)(const hm_config *c, const issuing_paths *p);

static hm_err issuing_do(const hm_config *c, issuing_act act)
{
    const char *dir;
    server_paths p;
    HM_TRY(paths_of(c, &dir, &p));
    const issuing_paths at = {.dir = dir, .authority = p.authority, .edge_root = p.edge_root};
    return act(c, &at);
}

static hm_err cmd_rotate(const hm_config *c)
{
    return issuing_do(c, issuing_rotate_command);
}

static hm_err cmd_issuing(const hm_config *c)
{
    return issuing_do(c, issuing_command);
}

// ---- tokens -------------------------------------------------------------------------------------

static hm_err token_add(const hm_config *c, const char *path, const char *name)
{
    char token[TOKEN_TEXT_MAX];
    hm_http_role role;
    uint64_t days;
    HM_TRY(token_role_parse(hm_config_get(c, "role"), &role));
    HM_TRY(hm_config_u64(c, "days", 0, 36500, &days));
    HM_TRY(tokens_add(path, name, role, days, wall_ms(), token));
    printf("%s\n", token); // alone, so that it can go into a file
    hm_zero(token, sizeof(token));
    return HM_OK;
}

static hm_err token_list_all(const char *path)
{
    token_list l;
    char made[DAEMON_TIME_MAX], ends[DAEMON_TIME_MAX];
    HM_TRY(tokens_load(path, &l));
    for (size_t i = 0; i < l.count; i++)
        printf("%-32s %-10s made %s ends %s\n", l.at[i].name, hm_http_role_word(l.at[i].role),
               daemon_time_text(l.at[i].made_ms, made), daemon_time_text(l.at[i].ends_ms, ends));
    tokens_free(&l);
    return HM_OK;
}

static hm_err cmd_token(const hm_config *c)
{
    const char *dir, *act = c->positional_count > 1 ? c->positional[1] : "";
    const char *name = c->positional_count > 2 ? c->positional[2] : NULL;
    server_paths p;
    int lock = -1;
    HM_TRY(paths_of(c, &dir, &p));
    if (strcmp(act, "list") == 0)
        return token_list_all(p.tokens);
    if (!name || (strcmp(act, "add") != 0 && strcmp(act, "remove") != 0))
        return hm_fail(HM_E_USAGE, "token add NAME, token list, or token remove NAME");
    HM_TRY(hm_dir_lock(dir, &lock));
    hm_err err =
        strcmp(act, "add") == 0 ? token_add(c, p.tokens, name) : tokens_remove(p.tokens, name);
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
static hm_err ensure_cert(const hm_config *c, const server_paths *p, tc_authority *a,
                          audit_log *audit, bool force, bool *renewed)
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
    audit_entry e = {.at_ms = wall_ms(), .who = "server", .act = "own certificate issued"};
    snprintf(e.subject, sizeof(e.subject), "%s", issued.subject);
    hm_hex(e.serial, issued.serial.b, TC_SERIAL_BYTES);
    *renewed = true;
    err = audit_add(audit, &e, true);
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
    uv_timer_t renewal, audit_timer;
    audit_log *audit;
    uv_work_t audit_work; // audit_sync(), which waits for the disk
    bool audit_at_work;
    hm_err audit_err; // of that
    char audit_why[512];
    const hm_config *config;
    server_paths paths;
    tc_authority *authority;
    tc_policy *policy; // NULL: none; for the life of the process
    hm_trust_api *api;
    tc_ocsp *ocsp;    // NULL: off, as public
    ocsp_api *public; // NULL: off
    bool stopping;
} daemon_state;

static void on_api_closed(void *ctx)
{
    daemon_state *d = ctx;
    d->api = NULL;
    hm_log(HM_LOG_INFO, "server", "stopped", "%s", "");
}

static void on_public_closed(void *ctx)
{
    daemon_state *d = ctx;
    d->public = NULL;
    hm_trust_api_close(d->api, GRACE_MS, on_api_closed, d);
}

static void renew(daemon_state *d, bool force)
{
    char why[512];
    bool renewed = false;
    hm_err err = ensure_cert(d->config, &d->paths, d->authority, d->audit, force, &renewed);
    if (err == HM_OK && renewed)
        err = hm_trust_api_renewed(d->api);
    if (err != HM_OK)
        hm_log(HM_LOG_ERROR, "server", "own certificate not renewed", "why=%s",
               hm_log_quote(why, sizeof(why), hm_bytes_str(hm_err_detail())));
}

// Who issues in a family, and of how many.
typedef struct issuing_seen {
    tc_issuing_id present;
    size_t count;
} issuing_seen;

static issuing_seen see_issuing(const daemon_state *d, tc_family f)
{
    return (issuing_seen){tc_issuing_id_at(d->authority, f, 0), tc_issuing_count(d->authority, f)};
}

static void audit_issuing(daemon_state *d, tc_family f, const issuing_seen *was)
{
    const issuing_seen now = see_issuing(d, f);
    audit_entry e = {.at_ms = wall_ms(), .who = "server", .act = "issuing CAs changed"};
    if (strcmp(was->present.hex, now.present.hex) == 0 && was->count == now.count)
        return;
    snprintf(e.detail, sizeof(e.detail), "%s-%s issues, of %zu", tc_family_names[f],
             now.present.hex, now.count);
    hm_log(HM_LOG_INFO, "audit", e.act, "detail=\"%s\"", e.detail);
    if (audit_add(d->audit, &e, true) != HM_OK)
        hm_log(HM_LOG_ERROR, "audit", "done, but not in the audit log", "act=\"%s\"", e.act);
}

// The issuing CAs first, so that the server's own certificate comes from the present one.
static void reload(daemon_state *d)
{
    char why[512];
    const issuing_seen was[2] = {see_issuing(d, TC_MESH), see_issuing(d, TC_EDGE)};
    if (tc_authority_reload(d->authority) != HM_OK)
        hm_log(HM_LOG_ERROR, "server", "issuing CAs not taken", "why=%s",
               hm_log_quote(why, sizeof(why), hm_bytes_str(hm_err_detail())));
    for (int f = 0; f < 2; f++)
        audit_issuing(d, (tc_family)f, &was[f]);
    renew(d, true);
}

static void on_renewal(uv_timer_t *t)
{
    renew(t->data, false);
}

static void sync_audit(uv_work_t *work)
{
    daemon_state *d = work->data;
    d->audit_err = audit_sync(d->audit);
    if (d->audit_err != HM_OK)
        snprintf(d->audit_why, sizeof(d->audit_why), "%s", hm_err_detail());
}

static void on_audit_synced(uv_work_t *work, int status)
{
    daemon_state *d = work->data;
    char why[512];
    (void)status; // nobody cancels it
    d->audit_at_work = false;
    if (d->audit_err != HM_OK)
        hm_log(HM_LOG_ERROR, "audit", "not on disk", "why=%s",
               hm_log_quote(why, sizeof(why), hm_bytes_str(d->audit_why)));
}

static void on_audit_timer(uv_timer_t *t)
{
    daemon_state *d = t->data;
    d->audit_work.data = d;
    if (!d->audit_at_work)
        d->audit_at_work =
            uv_queue_work(&d->loop, &d->audit_work, sync_audit, on_audit_synced) == 0;
}

static void on_signal(uv_signal_t *s, int number)
{
    daemon_state *d = s->data;
    if (d->stopping)
        return;
    if (number == SIGHUP) {
        reload(d);
        return;
    }
    d->stopping = true;
    hm_log(HM_LOG_INFO, "server", "stopping", "signal=%d", number);
    for (size_t i = 0; i < 3; i++)
        uv_close((uv_handle_t *)&d->signals[i], NULL);
    uv_close((uv_handle_t *)&d->renewal, NULL);
    uv_close((uv_handle_t *)&d->audit_timer, NULL);
    if (d->public)
        ocsp_api_close(d->public, GRACE_MS, on_public_closed, d);
    else
        on_public_closed(d);
}

static hm_err read_acme(const hm_config *c, acme_api_options *out)
{
    const char *eab = hm_config_get(c, "acme-eab");
    uint64_t accounts, orders, http_port, tls_port;
    HM_TRY(hm_config_u64(c, "acme-accounts", 0, UINT32_MAX, &accounts));
    HM_TRY(hm_config_u64(c, "acme-orders", 0, UINT32_MAX, &orders));
    HM_TRY(hm_config_u64(c, "acme-http-port", 1, 65535, &http_port));
    HM_TRY(hm_config_u64(c, "acme-tls-port", 1, 65535, &tls_port));
    if (hm_config_get(c, "acme-resolver"))
        HM_TRY(hm_config_addr(c, "acme-resolver", &out->probe.resolver));
    out->on = hm_config_on(c, "acme");
    out->eab_required = strcmp(eab, "required") == 0;
    if (!out->eab_required && strcmp(eab, "optional") != 0)
        return hm_fail(HM_E_CONFIG, "--acme-eab is required or optional, not %.60s", eab);
    out->accounts_an_hour = (uint32_t)accounts;
    out->orders_an_hour = (uint32_t)orders;
    out->probe.http_port = (uint16_t)http_port;
    out->probe.tls_port = (uint16_t)tls_port;
    return HM_OK;
}

static hm_err start_public(const hm_config *c, daemon_state *d)
{
    ocsp_api_config cfg = {.loop = &d->loop, .authority = d->authority, .clock = &hm_clock_system};
    if (strcmp(hm_config_get(c, "public-listen"), "off") == 0)
        return HM_OK;
    HM_TRY(daemon_http_limits(c, &cfg.limits));
    HM_TRY(hm_config_addr(c, "public-listen", &cfg.addr));
    HM_TRY(tc_ocsp_open(d->authority, &d->ocsp));
    cfg.ocsp = d->ocsp;
    return ocsp_api_open(&cfg, &d->public);
}

static hm_err start_api(const hm_config *c, daemon_state *d, const char *dir)
{
    char token[DAEMON_TOKEN_MAX];
    hm_trust_api_config cfg = {
        .loop = &d->loop, .authority = d->authority, .clock = &hm_clock_system};
    HM_TRY(daemon_http_limits(c, &cfg.limits));
    HM_TRY(read_acme(c, &cfg.acme));
    HM_TRY(hm_config_addr(c, "listen", &cfg.api.addr));
    HM_TRY(daemon_token_read(dir, token));
    cfg.token = token;
    cfg.tokens_path = d->paths.tokens;
    cfg.audit = d->audit;
    cfg.ocsp = d->ocsp;
    cfg.acme_dir = d->paths.acme;
    cfg.witnesses_path = hm_config_get(c, "witnesses");
    cfg.edge_root_path = d->paths.edge_root;
    cfg.api.cert_path = d->paths.cert;
    cfg.api.key_path = d->paths.key;
    cfg.api.static_dir = hm_config_get(c, "page-dir");
    cfg.api.index = "/authority.html";
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
    uv_timer_init(&d->loop, &d->audit_timer);
    d->audit_timer.data = d;
    uv_timer_start(&d->audit_timer, on_audit_timer, AUDIT_SYNC_MS, AUDIT_SYNC_MS);
}

// The server's own certificate is one of profile server like any other.
static hm_err own_names_check(const hm_config *c, const tc_policy *policy)
{
    char names[1024], why[400];
    const char *name[TC_SERVER_NAMES_MAX];
    size_t n =
        daemon_names(hm_config_get(c, "host"), names, sizeof(names), name, TC_SERVER_NAMES_MAX);
    for (size_t i = 0; i < n; i++)
        if (tc_policy_check(policy, TC_SERVER, name[i]) != HM_OK) {
            snprintf(why, sizeof(why), "%s", hm_err_detail());
            return hm_fail(HM_E_CONFIG, "--host: %s", why);
        }
    return HM_OK;
}

static hm_err read_policy(const hm_config *c, tc_policy **out)
{
    const char *path = hm_config_get(c, "policy");
    if (!path)
        return HM_OK;
    HM_TRY(tc_policy_read(path, out));
    return own_names_check(c, *out);
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
    HM_TRY(read_policy(c, &d.policy));
    signal(SIGPIPE, SIG_IGN);
    err = tc_authority_open(d.paths.authority, &d.authority);
    if (err != HM_OK) {
        hm_log(HM_LOG_ERROR, "server", "no authority", "hint=\"was init run, does another run?\"");
        return err;
    }
    err = audit_open(d.paths.audit, &d.audit);
    if (err != HM_OK) {
        tc_authority_close(d.authority);
        return err;
    }
    tc_authority_set_policy(d.authority, d.policy);
    uv_loop_init(&d.loop);
    if (hm_config_get(c, "public-url"))
        err = tc_authority_public_url(d.authority, hm_config_get(c, "public-url"));
    if (err == HM_OK)
        err = ensure_cert(c, &d.paths, d.authority, d.audit, false, &renewed);
    if (err == HM_OK)
        err = start_public(c, &d);
    if (err == HM_OK)
        err = start_api(c, &d, dir);
    if (err != HM_OK && d.public)
        ocsp_api_close(d.public, 0, NULL, NULL);
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
    tc_ocsp_close(d.ocsp);
    tc_authority_close(d.authority);
    tc_policy_free(d.policy);
    audit_close(d.audit);
    return err == HM_OK ? HM_OK : hm_fail(err, "%.500s", detail);
}

// ---- eab ----------------------------------------------------------------------------------------

static hm_err cmd_eab(const hm_config *c)
{
    const char *dir;
    server_paths p;
    acme_eab_key key;
    hm_buf root = {0};
    HM_TRY(paths_of(c, &dir, &p));
    hm_err err = hm_file_read(p.edge_root, TC_CERT_MAX, &root);
    hm_buf_free(&root);
    if (err != HM_OK)
        return hm_fail(err, "%s holds no authority; was init run?", dir);
    HM_TRY(acme_eab_make(p.acme, wall_ms(), &key));
    printf("key id: %s\nkey:    %s\n", key.id, key.secret);
    hm_zero(&key, sizeof(key));
    return HM_OK;
}

int main(int argc, char **argv)
{
    static const daemon_command commands[] = {
        {"init", "make the authority: keys, roots, the API's token", cmd_init},
        {"install-issuing", "FILE...: take what the roots signed, after init --issuing-only",
         cmd_install},
        {"rotate", "make a new issuing key for a family, beside the old one", cmd_rotate},
        {"issuing",
         "list: the issuing CAs, and how many certificates under each are not over; use ID: the "
         "mesh's that is ready issues, once the ledger has it; remove ID",
         cmd_issuing},
        {"token", "add NAME, list, remove NAME: tokens with a role, for people and programs",
         cmd_token},
        {"run",
         "serve the API until SIGTERM; SIGHUP renews the server's certificate and takes what "
         "rotate, install-issuing and issuing remove did",
         cmd_run},
        {"eab", "make a key that binds one ACME account, and print it", cmd_eab},
    };
    const daemon_program program = {"trustchain-server", hm_trust_options, hm_trust_option_count,
                                    commands, sizeof(commands) / sizeof(commands[0])};
    return daemon_main(&program, argc, argv);
}
