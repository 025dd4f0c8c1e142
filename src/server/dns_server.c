#include "server/dns_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/config.h"
#include "server/dns_doq.h"
#include "server/dns_feed.h"
#include "server/dns_tcp.h"
#include "server/dns_udp.h"

#define RENEW_LOOK_MS 30000u

// As the ledger has it, with bytes of our own.
typedef struct foreign_root {
    hm_buf der;
    tc_scope scope;
    uint64_t until_ms;
} foreign_root;

struct dns_server {
    // The node's thread.
    dns_feed *feed;
    uv_thread_t thread;
    bool running;

    // Between the threads: a queue of changes and a bell. The lock is held for a few instructions.
    uv_mutex_t lock;
    hm_list changes;
    uint64_t time_ms;
    bool stop;
    bool foreigns_changed;
    foreign_root foreigns[HM_TRUST_FOREIGN_MAX]; // those in force
    uint32_t foreign_count;
    uv_async_t bell;

    // The service's thread, once it runs.
    uv_loop_t loop;
    dns_core core;
    dns_counters n;
    dns_doq *doq;
    dns_udp *udp;
    dns_tcp *tls, *tcp;
    dns_upstream *upstream;
    dns_upstream *forwards[DNS_ROUTES_MAX];
    unsigned forward_count;
    uv_timer_t renew;
    char cert[4096], key[4096];
    struct timespec cert_time;
};

// ---- certificates -------------------------------------------------------------------------------

// RFC 7858 needs no ALPN; who offers some must mean DNS.
static int choose_dot(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                      const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char dot[] = "\x03"
                                       "dot";
    unsigned char *chosen;
    (void)ssl, (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, dot, sizeof dot - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static hm_err make_tls(const dns_server *s, bool dot, SSL_CTX **out)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL)
        return HM_E_NOMEM;
    if (SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(tls, s->cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, s->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(tls) != 1) {
        SSL_CTX_free(tls);
        return hm_fail(HM_E_CONFIG, "certificate %.200s with key %.200s cannot be used", s->cert,
                       s->key);
    }
    if (dot)
        SSL_CTX_set_alpn_select_cb(tls, choose_dot, NULL);
    *out = tls;
    return HM_OK;
}

static struct timespec changed_at(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

static void on_renew(uv_timer_t *t)
{
    dns_server *s = hm_container_of(t, dns_server, renew);
    struct timespec now = changed_at(s->cert);
    SSL_CTX *doq = NULL, *dot = NULL;
    if (now.tv_sec == s->cert_time.tv_sec && now.tv_nsec == s->cert_time.tv_nsec)
        return;
    if (make_tls(s, false, &doq) == HM_OK && make_tls(s, true, &dot) == HM_OK) {
        dns_doq_renew(s->doq, doq);
        dns_tcp_renew(s->tls, dot);
        s->cert_time = now;
    } else { // the old one serves on; its files may be half written
        hm_log(HM_LOG_WARN, "dns", "new certificate not taken", "reason=\"%s\"", hm_err_detail());
    }
    SSL_CTX_free(doq);
    SSL_CTX_free(dot);
}

// ---- changes ------------------------------------------------------------------------------------

// On the node's thread.
static void push(void *ctx, hm_list *changes, uint64_t time_ms)
{
    dns_server *s = ctx;
    uv_mutex_lock(&s->lock);
    hm_list_move_all(changes, &s->changes);
    s->time_ms = time_ms;
    uv_mutex_unlock(&s->lock);
    uv_async_send(&s->bell);
}

// On the node's thread.
static void push_foreigns(void *ctx, const hm_foreign *roots, uint32_t count)
{
    dns_server *s = ctx;
    uv_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < count; i++) {
        foreign_root *r = &s->foreigns[i];
        hm_buf_reset(&r->der);
        hm_buf_put(&r->der, roots[i].cert);
        if (hm_buf_status(&r->der) != HM_OK) // believed is what is there whole
            hm_buf_free(&r->der);
        r->scope = roots[i].scope;
        r->until_ms = roots[i].not_after_ms;
    }
    s->foreign_count = count;
    s->foreigns_changed = true;
    uv_mutex_unlock(&s->lock);
    uv_async_send(&s->bell);
}

// Holds the lock, which the node's thread wants only when the foreign roots change.
static void believe_foreigns(dns_server *s)
{
    for (unsigned i = 0; i < s->forward_count; i++) {
        const foreign_root *found = NULL;
        for (uint32_t k = 0; k < s->foreign_count; k++)
            if (s->foreigns[k].der.len > 0 &&
                dns_upstream_is_for(s->forwards[i], &s->foreigns[k].scope))
                found = &s->foreigns[k];
        tc_foreign root = {0};
        if (found != NULL)
            root = (tc_foreign){.root = hm_buf_bytes(&found->der), .scope = found->scope};
        dns_upstream_believe(s->forwards[i], found != NULL ? &root : NULL,
                             found != NULL ? found->until_ms : 0);
    }
    s->foreigns_changed = false;
}

static void apply(dns_server *s, const dns_change *c)
{
    hm_err err = HM_OK;
    if (c->there)
        err = dns_zone_set(s->core.zone, &c->name, hm_buf_bytes(&c->records), c->expires_ms);
    else
        dns_zone_remove(s->core.zone, &c->name);
    if (err != HM_OK)
        hm_log(HM_LOG_ERROR, "dns", "a name is not served", "reason=\"%s: %s\"", hm_err_text(err),
               hm_err_detail());
}

static void close_all(dns_server *s)
{
    dns_doq_close(s->doq);
    dns_udp_close(s->udp);
    dns_tcp_close(s->tls);
    dns_tcp_close(s->tcp);
    dns_upstream_close(s->upstream);
    for (unsigned i = 0; i < s->forward_count; i++)
        dns_upstream_close(s->forwards[i]);
    uv_close((uv_handle_t *)&s->renew, NULL);
    uv_close((uv_handle_t *)&s->bell, NULL);
}

static void on_bell(uv_async_t *a)
{
    dns_server *s = hm_container_of(a, dns_server, bell);
    hm_list mine;
    hm_list_init(&mine);
    uv_mutex_lock(&s->lock);
    hm_list_move_all(&s->changes, &mine);
    uint64_t time_ms = s->time_ms;
    bool stop = s->stop;
    if (s->foreigns_changed && !stop)
        believe_foreigns(s);
    uv_mutex_unlock(&s->lock);
    hm_list_each(it, &mine)
    {
        dns_change *c = hm_container_of(it, dns_change, link);
        hm_list_remove(it);
        apply(s, c);
        dns_change_free(c);
    }
    dns_zone_set_time(s->core.zone, time_ms);
    atomic_store_explicit(&s->n.names, dns_zone_count(s->core.zone), memory_order_relaxed);
    if (stop)
        close_all(s);
}

// ---- life ---------------------------------------------------------------------------------------

static bool zone_get(void *ctx, const dns_name *name, hm_bytes *records)
{
    return dns_zone_get(ctx, name, records);
}

static void run(void *arg)
{
    dns_server *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
    OPENSSL_thread_stop();
}

static hm_err open_zone(dns_server *s, const dns_server_config *cfg)
{
    char path[4096];
    EVP_PKEY *key = NULL;
    dns_name apex;
    dns_feed_config feed = {.node = cfg->node, .push = push, .ctx = s};
    if (cfg->forwards != NULL)
        feed.foreigns = push_foreigns;
    hm_ledger *l = hm_node_ledger(cfg->node);
    HM_TRY(hm_zone_apex(hm_ledger_genesis(l)->name, &apex));
    snprintf(path, sizeof path, "%s/dns.key", cfg->data_dir);
    HM_TRY(dns_key_open(path, &key));
    hm_err err = dns_key_public(key, feed.public_key);
    if (err == HM_OK)
        err = dns_signer_open(key, &apex, &s->core.source.signer);
    if (err != HM_OK) {
        EVP_PKEY_free(key);
        return err;
    }
    HM_TRY(dns_zone_open(&apex, &hm_random_system, &s->core.zone));
    s->core.source.apex = apex;
    s->core.source.get = zone_get;
    s->core.source.ctx = s->core.zone;
    return dns_feed_open(&feed, &s->feed);
}

// The first zone's servers out of the list, as dns_upstream_open() has them; what is left of the
// others is in *rest.
static hm_err take_zone(hm_buf *rest, hm_buf *zone, hm_buf *servers)
{
    hm_buf others = {0};
    const char *text = hm_buf_cstr(rest);
    while (*text) {
        size_t len = strcspn(text, ","), is = strcspn(text, "=");
        if (is == 0 || is >= len) {
            hm_buf_free(&others);
            return hm_fail(HM_E_CONFIG, "--dns-forward is ZONE=[ADDR]:PORT#NAME, not %.200s", text);
        }
        if (zone->len == 0)
            hm_buf_append(zone, text, is);
        bool same = is == zone->len && strncasecmp(text, hm_buf_cstr(zone), is) == 0;
        hm_buf *to = same ? servers : &others;
        if (to->len > 0)
            hm_buf_puts(to, ",");
        hm_buf_append(to, text + (same ? is + 1 : 0), len - (same ? is + 1 : 0));
        text += len + (text[len] == ',');
    }
    hm_buf_free(rest);
    *rest = others;
    return hm_buf_status(rest);
}

static hm_err open_forwards(dns_server *s, const char *list)
{
    hm_buf rest = {0}, zone = {0}, servers = {0};
    hm_err err;
    hm_buf_puts(&rest, list);
    do {
        hm_buf_reset(&zone);
        hm_buf_reset(&servers);
        HM_TRY_OUT(take_zone(&rest, &zone, &servers));
        const dns_upstream_config cfg = {.servers = hm_buf_cstr(&servers),
                                         .zone = hm_buf_cstr(&zone)};
        HM_TRY_OUT(hm_buf_status(&zone));
        HM_TRY_OUT(hm_buf_status(&servers));
        HM_TRY_OUT(dns_upstream_open(&s->core, &cfg, &s->forwards[s->forward_count]));
        s->forward_count++;
    } while (rest.len > 0);
    uv_mutex_lock(&s->lock);
    believe_foreigns(s);
    uv_mutex_unlock(&s->lock);
    err = HM_OK;
out:
    hm_buf_free(&rest);
    hm_buf_free(&zone);
    hm_buf_free(&servers);
    return err;
}

static hm_err open_ways(dns_server *s, const dns_server_config *cfg)
{
    SSL_CTX *doq = NULL, *dot = NULL;
    hm_err err = HM_OK;
    s->core.loop = &s->loop;
    s->core.n = &s->n;
    uint32_t connections = DOQ_CONNECTIONS / 2;
    dns_limit_init(&s->core.limit, cfg->client_rate, connections, &hm_random_system);
    if (cfg->listen != NULL) {
        s->cert_time = changed_at(s->cert);
        HM_TRY_OUT(make_tls(s, false, &doq));
        HM_TRY_OUT(make_tls(s, true, &dot));
        HM_TRY_OUT(dns_doq_open(&s->core, cfg->listen, doq, &s->doq));
        HM_TRY_OUT(dns_tcp_open(&s->core, cfg->listen, dot, &s->tls));
        uv_timer_start(&s->renew, on_renew, RENEW_LOOK_MS, RENEW_LOOK_MS);
    }
    if (cfg->local != NULL) {
        HM_TRY_OUT(dns_udp_open(&s->core, cfg->local, &s->udp));
        HM_TRY_OUT(dns_tcp_open(&s->core, cfg->local, NULL, &s->tcp));
    }
    if (cfg->upstream != NULL)
        HM_TRY_OUT(dns_upstream_open(&s->core, cfg->upstream, &s->upstream));
    if (cfg->forwards != NULL)
        err = open_forwards(s, cfg->forwards);
out:
    SSL_CTX_free(doq);
    SSL_CTX_free(dot);
    return err;
}

static void free_all(dns_server *s)
{
    dns_doq_free(s->doq);
    dns_udp_free(s->udp);
    dns_tcp_free(s->tls);
    dns_tcp_free(s->tcp);
    dns_upstream_free(s->upstream);
    for (unsigned i = 0; i < s->forward_count; i++)
        dns_upstream_free(s->forwards[i]);
    for (unsigned i = 0; i < HM_TRUST_FOREIGN_MAX; i++)
        hm_buf_free(&s->foreigns[i].der);
    dns_zone_close(s->core.zone);
    dns_signer_close(s->core.source.signer);
    hm_list_each(it, &s->changes) dns_change_free(hm_container_of(it, dns_change, link));
    int busy = uv_loop_close(&s->loop);
    hm_assert(busy == 0);
    uv_mutex_destroy(&s->lock);
    free(s);
}

static void stop(dns_server *s)
{
    dns_feed_close(s->feed);
    uv_mutex_lock(&s->lock);
    s->stop = true;
    uv_mutex_unlock(&s->lock);
    uv_async_send(&s->bell);
    if (s->running)
        uv_thread_join(&s->thread);
    else
        uv_run(&s->loop, UV_RUN_DEFAULT); // until everything that was opened is closed
    free_all(s);
}

hm_err dns_server_open(const dns_server_config *cfg, dns_server **out)
{
    char addr[HM_ADDR_TEXT_MAX], zone[DNS_NAME_TEXT_MAX];
    dns_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return HM_E_NOMEM;
    if (cfg->local != NULL && !IN6_IS_ADDR_LOOPBACK(&cfg->local->sin6_addr)) {
        free(s);
        return hm_fail(HM_E_CONFIG,
                       "%s is not this machine's own address: plain DNS is for [::1] "
                       "alone",
                       hm_addr_text(cfg->local, addr));
    }
    if (cfg->cert != NULL) {
        snprintf(s->cert, sizeof s->cert, "%s", cfg->cert);
        snprintf(s->key, sizeof s->key, "%s", cfg->key);
    } else {
        snprintf(s->cert, sizeof s->cert, "%s/edge.crt", cfg->data_dir);
        snprintf(s->key, sizeof s->key, "%s/edge.key", cfg->data_dir);
    }
    hm_list_init(&s->changes);
    uv_loop_init(&s->loop);
    uv_mutex_init(&s->lock);
    uv_async_init(&s->loop, &s->bell, on_bell);
    uv_timer_init(&s->loop, &s->renew);
    hm_err err = open_zone(s, cfg);
    if (err == HM_OK)
        on_bell(&s->bell); // the zone is whole before the first question
    if (err == HM_OK)
        err = open_ways(s, cfg);
    if (err == HM_OK && uv_thread_create(&s->thread, run, s) != 0)
        err = hm_fail(HM_E_IO, "the DNS service gets no thread");
    if (err != HM_OK) {
        char detail[512];
        snprintf(detail, sizeof detail, "%s", hm_err_detail());
        stop(s);
        return hm_fail(err, "%.500s", detail);
    }
    s->running = true;
    hm_log(HM_LOG_INFO, "dns", "serving", "zone=%s", dns_name_text(dns_feed_apex(s->feed), zone));
    *out = s;
    return HM_OK;
}

void dns_server_close(dns_server *s)
{
    if (s != NULL)
        stop(s);
}

// ---- metrics ------------------------------------------------------------------------------------

static uint64_t get(const _Atomic uint64_t *n)
{
    return atomic_load_explicit(n, memory_order_relaxed);
}

void dns_server_metrics(const dns_server *s, hm_metrics *m)
{
    static const char *const ways[DNS_WAYS] = {"way=\"udp\"", "way=\"tcp\"", "way=\"tls\"",
                                               "way=\"quic\""};
    const dns_counters *n = &s->n;
    char label[64];
    for (unsigned i = 0; i < DNS_WAYS; i++)
        hm_metrics_value(m, "hm_dns_queries_total", "DNS queries taken", ways[i],
                         get(&n->queries[i]), false);
    for (uint16_t i = 0; i <= DNS_REFUSED; i++) {
        snprintf(label, sizeof label, "rcode=\"%s\"", dns_rcode_text(i));
        hm_metrics_value(m, "hm_dns_answers_total", "DNS answers by their code", label,
                         get(&n->rcodes[i]), false);
    }
    hm_metrics_value(m, "hm_dns_truncated_total", "Answers that did not fit", "",
                     get(&n->truncated), false);
    hm_metrics_value(m, "hm_dns_refused_total", "What was not answered", "reason=\"malformed\"",
                     get(&n->malformed), false);
    hm_metrics_value(m, "hm_dns_refused_total", "What was not answered", "reason=\"rate\"",
                     get(&n->limited), false);
    hm_metrics_value(m, "hm_dns_refused_total", "What was not answered", "reason=\"connections\"",
                     get(&n->refused_connections), false);
    hm_metrics_value(m, "hm_dns_early_total", "Queries in early data", "", get(&n->early), false);
    for (unsigned i = DNS_WAY_TCP; i < DNS_WAYS; i++)
        hm_metrics_value(m, "hm_dns_connections", "Connections open now", ways[i],
                         get(&n->connections[i]), true);
    hm_metrics_value(m, "hm_dns_names", "Names in the zone", "", get(&n->names), true);
    hm_metrics_value(m, "hm_dns_signatures_total", "Signatures made", "", get(&n->signatures),
                     false);
    hm_metrics_value(m, "hm_dns_forwarded_total", "Queries about other zones", "",
                     get(&n->forwarded), false);
    hm_metrics_value(m, "hm_dns_forwarded_cached_total", "Of these, answered out of the cache", "",
                     get(&n->from_cache), false);
    hm_metrics_value(m, "hm_dns_forwarded_failed_total", "Of these, that no upstream answered", "",
                     get(&n->forward_failed), false);
    hm_metrics_value(m, "hm_dns_cached", "Answers in the cache", "", get(&n->cached), true);
}
