// hypermesh-server: one node of the mesh.
#include <arpa/inet.h>
#include <openssl/pem.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mesh/genesis.h"
#include "server/crl_watch.h"
#include "server/daemon.h"
#include "server/dns_server.h"
#include "server/enroll.h"
#include "server/ledger_check.h"
#include "server/node_api.h"
#include "server/options.h"
#include "server/renew.h"
#include "trustchain/trustchain.h"
#include "trustchain/witness.h"

#define VERSION "0.1.0"
#define GRACE_MS 5000u
#define PEM_MAX (256u << 10)
#define JOIN_MAX (8u << 20)

static void on_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    (void)ctx;
    fprintf(stderr, "\r%s %3u%%%s", what, total ? (unsigned)(done * 100 / total) : 0,
            done == total ? "\n" : "");
}

static void on_verified(void *ctx, uint64_t done, uint64_t total)
{
    if (done == total || done % 256 == 0)
        on_progress(ctx, "blocks", done, total);
}

static hm_err cmd_init(const hm_config *c)
{
    hm_node_init_args args = {.progress = on_progress};
    uint64_t port, log2;
    HM_TRY(daemon_need(c, "dir", &args.data_dir));
    HM_TRY(hm_config_u64(c, "mesh-port", 1, 65535, &port));
    HM_TRY(hm_config_u64(c, "sector-log2", 0, HM_SPACE_NODES_LOG2_MAX, &log2));
    args.mesh_host = hm_config_get(c, "mesh-host");
    args.mesh_port = (uint16_t)port;
    struct sockaddr_in6 api;
    HM_TRY(hm_config_addr(c, "api-listen", &api));
    args.api_host = hm_config_get(c, "api-host");
    args.api_port = ntohs(api.sin6_port);
    args.name = hm_config_get(c, "name");
    args.sector_log2 = (uint32_t)log2;
    return hm_node_init(&args);
}

static hm_err cmd_install(const hm_config *c)
{
    static const char *const names[] = {"node-chain", "edge-chain", "mesh-root", "edge-root"};
    const char *dir, *path;
    hm_buf pem[4] = {{0}};
    hm_err err;
    HM_TRY_OUT(daemon_need(c, "dir", &dir));
    for (size_t i = 0; i < 4; i++) {
        HM_TRY_OUT(daemon_need(c, names[i], &path));
        HM_TRY_OUT(hm_file_read(path, PEM_MAX, &pem[i]));
    }
    HM_TRY_OUT(hm_crypto_init());
    err = tc_dir_install(dir, hm_buf_bytes(&pem[0]), hm_buf_bytes(&pem[1]), hm_buf_bytes(&pem[2]),
                         hm_buf_bytes(&pem[3]), hm_clock_wall_ms(&hm_clock_system));
out:
    for (size_t i = 0; i < 4; i++)
        hm_buf_free(&pem[i]);
    return err;
}

static hm_err cmd_join(const hm_config *c)
{
    const char *dir;
    hm_buf json = {0};
    HM_TRY(daemon_need(c, "dir", &dir));
    hm_err err = hm_node_join(dir, &json);
    if (err == HM_OK && fwrite(json.ptr, 1, json.len, stdout) != json.len)
        err = hm_fail(HM_E_IO, "the output cannot be written");
    hm_buf_free(&json);
    return err;
}

// ---- run ----------------------------------------------------------------------------------------

typedef struct daemon {
    uv_loop_t loop;
    uv_signal_t signals[2];
    hm_node *node;
    hm_node_api *api;
    crl_watch *watch;
    renewal *renewal;
    tc_witness *witness; // NULL: none
    dns_server *dns;     // NULL: none
    bool stopping;
} daemon_state;

static void on_node_closed(void *ctx)
{
    daemon_state *d = ctx;
    d->node = NULL;
    hm_log(HM_LOG_INFO, "server", "stopped", "%s", "");
}

static void on_api_closed(void *ctx)
{
    daemon_state *d = ctx;
    d->api = NULL;
    tc_witness_close(d->witness);
    d->witness = NULL;
    crl_watch_close(d->watch);
    renewal_close(d->renewal);
    dns_server_close(d->dns);
    hm_node_close(d->node, on_node_closed, d);
}

static void on_signal(uv_signal_t *s, int number)
{
    daemon_state *d = s->data;
    if (d->stopping)
        return;
    d->stopping = true;
    hm_log(HM_LOG_INFO, "server", "stopping", "signal=%d", number);
    for (size_t i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&d->signals[i], NULL);
    hm_node_api_close(d->api, GRACE_MS, on_api_closed, d);
}

static void put_dns_metrics(void *ctx, hm_metrics *m)
{
    const daemon_state *d = ctx;
    if (d->dns)
        dns_server_metrics(d->dns, m);
}

static hm_err start_api(const hm_config *c, daemon_state *d, const char *dir)
{
    char cert[4096], key[4096], token[256];
    hm_node_api_config cfg = {
        .loop = &d->loop,
        .node = d->node,
        .data_dir = dir,
        .version = VERSION,
        .witness = d->witness,
        .more_metrics = put_dns_metrics,
        .more_ctx = d,
    };
    HM_TRY(daemon_http_limits(c, &cfg.limits));
    HM_TRY(hm_config_addr(c, "api-listen", &cfg.api.addr));
    HM_TRY(hm_config_addr(c, "page-listen", &cfg.page.addr));
    HM_TRY(daemon_token_read(dir, token));
    snprintf(cert, sizeof(cert), "%s/edge.crt", dir);
    snprintf(key, sizeof(key), "%s/edge.key", dir);
    cfg.token = token;
    cfg.api.cert_path = cert;
    cfg.api.key_path = key;
    cfg.api.http3 = hm_config_on(c, "http3");
    cfg.page.static_dir = hm_config_get(c, "page-dir");
    cfg.api.static_dir = cfg.page.static_dir; // where a token may change things from the page
    cfg.page.read_only = true;
    cfg.page.local_names = true;
    hm_err err = hm_node_api_open(&cfg, &d->api);
    hm_zero(token, sizeof(token));
    return err;
}

static hm_err start_watch(const hm_config *c, daemon_state *d, const char *dir)
{
    char root[4096];
    uint64_t wait;
    HM_TRY(hm_config_u64(c, "crl-seconds", 0, 60, &wait));
    if (wait == 0)
        return HM_OK;
    snprintf(root, sizeof root, "%s/edge-root.crt", dir);
    return crl_watch_open(&(crl_watch_config){.loop = &d->loop,
                                              .node = d->node,
                                              .authority = hm_config_get(c, "authority"),
                                              .root_path = root,
                                              .wait_s = (uint32_t)wait},
                          &d->watch);
}

// The DNS server sees by itself that its file is another.
static void on_renewed(void *ctx, tc_family f)
{
    daemon_state *d = ctx;
    hm_err err = HM_OK;
    if (f == TC_MESH)
        err = hm_node_cert_renewed(d->node);
    else if (d->api)
        err = hm_node_api_cert_renewed(d->api);
    if (err != HM_OK)
        hm_log(HM_LOG_ERROR, "server", "new certificate not taken", "reason=\"%s\"",
               hm_err_detail());
}

static hm_err start_renewal(const hm_config *c, daemon_state *d, const char *dir)
{
    return renewal_open(&(renewal_config){.loop = &d->loop,
                                          .dir = dir,
                                          .authority = hm_config_get(c, "authority"),
                                          .renewed = on_renewed,
                                          .ctx = d},
                        &d->renewal);
}

// --witness-log ORIGIN=FILE; the witness has the node's name.
static hm_err start_witness(const hm_config *c, daemon_state *d, const char *dir)
{
    const char *log = hm_config_get(c, "witness-log"), *file = log ? strchr(log, '=') : NULL;
    char origin[TC_NOTE_NAME_MAX + 1];
    hm_node_status s;
    hm_buf pem = {0};
    if (!log)
        return HM_OK;
    if (!file || file == log || (size_t)(file - log) >= sizeof origin)
        return hm_fail(HM_E_CONFIG, "--witness-log is ORIGIN=FILE, as in example/log=log.pem");
    snprintf(origin, sizeof origin, "%.*s", (int)(file - log), log);
    hm_node_get_status(d->node, &s);
    hm_err err = hm_file_read(file + 1, PEM_MAX, &pem);
    if (err == HM_OK)
        err = tc_witness_open(dir, s.name, origin, hm_buf_bytes(&pem), &d->witness);
    hm_buf_free(&pem);
    return err;
}

static bool is_off(const hm_config *c, const char *name)
{
    return strcmp(hm_config_get(c, name), "off") == 0;
}

static hm_err start_dns(const hm_config *c, daemon_state *d, const char *dir)
{
    struct sockaddr_in6 listen, local;
    uint64_t rate;
    const dns_upstream_config upstream = {.servers = hm_config_get(c, "dns-upstream"),
                                          .ca_path = hm_config_get(c, "dns-upstream-ca")};
    dns_server_config cfg = {.node = d->node, .data_dir = dir};
    HM_TRY(hm_config_u64(c, "dns-client-rate", 0, 1000000, &rate));
    if (!is_off(c, "dns-listen")) {
        HM_TRY(hm_config_addr(c, "dns-listen", &listen));
        cfg.listen = &listen;
    }
    if (!is_off(c, "dns-local")) {
        HM_TRY(hm_config_addr(c, "dns-local", &local));
        cfg.local = &local;
    }
    cfg.client_rate = (uint32_t)rate;
    cfg.upstream = upstream.servers ? &upstream : NULL;
    cfg.forwards = hm_config_get(c, "dns-forward");
    cfg.cert = hm_config_get(c, "dns-cert");
    cfg.key = hm_config_get(c, "dns-key");
    if ((cfg.cert == NULL) != (cfg.key == NULL))
        return hm_fail(HM_E_CONFIG, "--dns-cert and --dns-key go together");
    return cfg.listen || cfg.local ? dns_server_open(&cfg, &d->dns) : HM_OK;
}

static hm_err cmd_run(const hm_config *c)
{
    daemon_state d = {0};
    hm_node_config node = {.loop = &d.loop};
    HM_TRY(daemon_need(c, "dir", &node.data_dir));
    HM_TRY(hm_config_addr(c, "mesh-listen", &node.mesh_listen));
    uint64_t limit_mib, keep_s;
    HM_TRY(hm_config_u64(c, "upload-limit", 0, UINT64_C(1) << 40, &limit_mib));
    HM_TRY(hm_config_u64(c, "upload-keep-seconds", 60, 31536000, &keep_s));
    node.upload_bytes = limit_mib << 20;
    node.upload_keep_ms = keep_s * 1000;
    node.genesis_path = hm_config_get(c, "genesis");
    HM_TRY(hm_crypto_init());
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&d.loop);
    hm_err err = hm_node_open(&node, &d.node);
    if (err == HM_OK) {
        err = start_watch(c, &d, node.data_dir);
        if (err == HM_OK)
            err = start_renewal(c, &d, node.data_dir);
        if (err == HM_OK)
            err = start_dns(c, &d, node.data_dir);
        if (err == HM_OK)
            err = start_witness(c, &d, node.data_dir);
        if (err == HM_OK)
            err = start_api(c, &d, node.data_dir);
        if (err != HM_OK) {
            tc_witness_close(d.witness);
            dns_server_close(d.dns);
            crl_watch_close(d.watch);
            renewal_close(d.renewal);
            hm_node_close(d.node, on_node_closed, &d);
        }
    }
    if (err == HM_OK) {
        static const int numbers[] = {SIGTERM, SIGINT};
        for (size_t i = 0; i < 2; i++) {
            uv_signal_init(&d.loop, &d.signals[i]);
            d.signals[i].data = &d;
            uv_signal_start(&d.signals[i], on_signal, numbers[i]);
        }
        hm_log(HM_LOG_INFO, "server", "running", "api=%s mesh=%s", hm_config_get(c, "api-listen"),
               hm_config_get(c, "mesh-listen"));
    }
    char detail[512]; // closing may fail too; the first reason is the one to tell
    snprintf(detail, sizeof(detail), "%s", hm_err_detail());
    uv_run(&d.loop, UV_RUN_DEFAULT);
    uv_loop_close(&d.loop);
    uv_library_shutdown(); // ends the worker threads, and what OpenSSL keeps for each of them
    return err == HM_OK ? HM_OK : hm_fail(err, "%.500s", detail);
}

// ---- verify -------------------------------------------------------------------------------------

static hm_err cmd_verify(const hm_config *c)
{
    const char *dir;
    hm_ledger_verify_report report;
    char root[65];
    HM_TRY(daemon_need(c, "dir", &dir));
    HM_TRY(hm_crypto_init());
    HM_TRY(ledger_check_dir(dir, hm_config_get(c, "genesis"), on_verified, NULL, &report));
    hm_hex(root, report.state_root.b, 32);
    printf("good: %llu blocks, %llu operations, state root %s\n", (unsigned long long)report.blocks,
           (unsigned long long)report.ops, root);
    return HM_OK;
}

// ---- genesis ------------------------------------------------------------------------------------

static hm_err read_der(const char *path, hm_arena *arena, hm_bytes *out)
{
    unsigned char *der = NULL;
    FILE *f = fopen(path, "r");
    X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    int len = x ? i2d_X509(x, &der) : -1;
    if (f)
        fclose(f);
    X509_free(x);
    if (len <= 0)
        return hm_fail(HM_E_PARSE, "%s holds no certificate in PEM", path);
    *out = hm_arena_copy(arena, hm_bytes_of(der, (size_t)len));
    OPENSSL_free(der);
    return out->ptr ? HM_OK : HM_E_NOMEM;
}

// genesis NAME ROOT.pem ISSUING.pem OUT JOIN...: makes the genesis of a mesh from join files.
static hm_err cmd_genesis(const hm_config *c)
{
    size_t count = c->positional_count > 5 ? c->positional_count - 5 : 0;
    hm_genesis g = {0};
    hm_buf text = {0}, out = {0};
    hm_hash chain;
    char hex[65];
    struct timespec now;
    hm_err err = HM_OK;
    if (count == 0 || count > HM_GENESIS_VALIDATORS_MAX)
        return hm_fail(HM_E_USAGE, "genesis NAME ROOT.pem ISSUING.pem OUT JOIN.json...");
    HM_TRY(hm_crypto_init());
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(g.name, sizeof(g.name), "%s", c->positional[1]);
    g.time_ms = (uint64_t)now.tv_sec * 1000;
    g.params = hm_genesis_params_default();
    g.count = (uint32_t)count;
    g.validators = hm_arena_array(&g.arena, count, sizeof(*g.validators));
    if (!g.validators)
        return HM_E_NOMEM;
    HM_TRY_OUT(read_der(c->positional[2], &g.arena, &g.root_cert));
    HM_TRY_OUT(read_der(c->positional[3], &g.arena, &g.issuing_cert));
    for (size_t i = 0; i < count; i++) {
        hm_buf_reset(&text);
        HM_TRY_OUT(hm_file_read(c->positional[5 + i], JOIN_MAX, &text));
        HM_TRY_OUT(hm_join_from_json(hm_buf_bytes(&text), &g.arena, &g.validators[i]));
    }
    HM_TRY_OUT(hm_genesis_encode(&g, &out, &chain));
    HM_TRY_OUT(hm_file_write(c->positional[4], hm_buf_bytes(&out), 0644));
    hm_hex(hex, chain.b, 32);
    printf("%s\n", hex);
out:
    hm_buf_free(&text);
    hm_buf_free(&out);
    hm_arena_free(&g.arena);
    return err;
}

// ---- commands -----------------------------------------------------------------------------------

static const daemon_command commands[] = {
    {"init", "make the data directory: keys, certificate requests, sealed sector", cmd_init},
    {"enroll", "ask the authority for the node's certificates and keep them", enroll_command},
    {"install", "keep certificates that the authority gave by other ways", cmd_install},
    {"join", "print the node's part of a genesis", cmd_join},
    {"genesis", "NAME ROOT.pem ISSUING.pem OUT JOIN.json...: make a genesis", cmd_genesis},
    {"run", "run the node until SIGTERM", cmd_run},
    {"verify", "walk the stored ledger from its genesis, also beside a running node", cmd_verify},
};

int main(int argc, char **argv)
{
    const daemon_program program = {"hypermesh-server", hm_node_options, hm_node_option_count,
                                    commands, sizeof(commands) / sizeof(commands[0])};
    return daemon_main(&program, argc, argv);
}
