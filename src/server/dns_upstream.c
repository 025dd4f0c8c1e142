#include "server/dns_upstream.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/config.h"
#include "server/dns_doq.h"
#include "trustchain/trustchain.h"

#define TICK_MS 100u
#define GROUPS "X25519MLKEM768:X25519:P-256" // few resolvers know the first one today

typedef struct upstream {
    struct sockaddr_in6 addr;
    char name[256];
    stoq_conn *conn; // NULL: none
    unsigned out;    // streams of it that are under way
    unsigned opened; // and all that there were
    bool full;       // it allows no more streams: another connection is made when these are done
    bool failing;    // it was said in the log
} upstream;

// A question that is out.
typedef struct out_query {
    bool used;
    unsigned server;
    stoq_stream *stream;  // NULL until the connection is open
    hm_buf query, answer; // behind their lengths
} out_query;

struct dns_upstream {
    dns_core *core;
    dns_forward *forward; // owned
    dns_route *route;     // of core; NULL: for all zones without one
    char zone[TC_SCOPE_ZONE_MAX + 1];
    hm_buf root; // of the zone's organisation, DER; empty: none is believed
    tc_scope scope;
    uint64_t until_ms; // the root's end
    stoq_uv io;
    uv_timer_t tick;
    upstream servers[DNS_UPSTREAMS_MAX];
    unsigned count;
    bool closing;
    out_query queries[DNS_FORWARD_SLOTS];
};

static uint64_t now_ms(void)
{
    return hm_clock_wall_ms(&hm_clock_system);
}

// Some servers allow a connection so many streams and no more, ever.
static void end_if_full(upstream *s)
{
    if (s->full && s->out == 0 && s->conn != NULL)
        stoq_conn_close(s->conn, DOQ_NO_ERROR, "");
}

static void stream_gone(dns_upstream *u, out_query *q)
{
    upstream *s = &u->servers[q->server];
    stoq_stream_set_user(q->stream, NULL);
    q->stream = NULL;
    s->out--;
    end_if_full(s);
}

static void forget(void *ctx, unsigned slot)
{
    dns_upstream *u = ctx;
    out_query *q = &u->queries[slot];
    if (q->stream != NULL) {
        stoq_stream_stop(q->stream, DOQ_REQUEST_CANCELLED);
        stoq_stream_reset(q->stream, DOQ_REQUEST_CANCELLED);
        stream_gone(u, q);
    }
    hm_buf_free(&q->query);
    hm_buf_free(&q->answer);
    *q = (out_query){0};
}

static void failed(dns_upstream *u, out_query *q)
{
    unsigned slot = (unsigned)(q - u->queries);
    forget(u, slot);
    if (!u->closing)
        dns_forward_failed(u->forward, slot, now_ms());
}

// On a stream of its own; without room for one it waits for the next connection.
static hm_err put_on_stream(dns_upstream *u, out_query *q)
{
    size_t took = 0;
    stoq_stream *st;
    upstream *s = &u->servers[q->server];
    hm_err err = s->full ? HM_E_STOQ_BLOCKED : stoq_stream_open(s->conn, false, &st);
    if (err == HM_E_STOQ_BLOCKED && s->opened > 0) {
        s->full = true;
        end_if_full(s);
        return HM_OK;
    }
    HM_TRY(err);
    q->stream = st;
    s->out++;
    s->opened++;
    stoq_stream_set_user(st, q);
    return stoq_stream_send(st, hm_buf_bytes(&q->query), true, &took);
}

static hm_err connect_to(dns_upstream *u, upstream *s)
{
    if (s->conn != NULL)
        return HM_OK;
    return stoq_connect(u->io.ep, &s->addr, s->name, NULL, s, &s->conn);
}

static hm_err send_query(void *ctx, unsigned slot, unsigned server, hm_bytes query)
{
    dns_upstream *u = ctx;
    out_query *q = &u->queries[slot];
    upstream *s = &u->servers[server];
    forget(u, slot);
    HM_TRY(connect_to(u, s));
    q->used = true;
    q->server = server;
    hm_wr_u16(&q->query, (uint16_t)query.len);
    hm_buf_put(&q->query, query);
    hm_err err = hm_buf_status(&q->query);
    if (err == HM_OK && stoq_conn_is_open(s->conn))
        err = put_on_stream(u, q);
    if (err != HM_OK)
        forget(u, slot);
    return err;
}

// ---- what the endpoint tells --------------------------------------------------------------------

static void on_conn_open(void *user, stoq_conn *conn)
{
    dns_upstream *u = user;
    upstream *s = stoq_conn_user(conn);
    s->failing = false;
    for (unsigned i = 0; i < DNS_FORWARD_SLOTS; i++) {
        out_query *q = &u->queries[i];
        if (q->used && q->stream == NULL && &u->servers[q->server] == s)
            if (put_on_stream(u, q) != HM_OK)
                failed(u, q);
    }
}

static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    dns_upstream *u = user;
    upstream *s = stoq_conn_user(conn);
    char quoted[300], addr[HM_ADDR_TEXT_MAX];
    bool was_full = s->full, idle = true;
    (void)is_app;
    s->conn = NULL;
    s->full = false;
    s->opened = 0;
    for (unsigned i = 0; i < DNS_FORWARD_SLOTS; i++) {
        out_query *q = &u->queries[i];
        if (!q->used || &u->servers[q->server] != s)
            continue;
        if (was_full && !u->closing && connect_to(u, s) == HM_OK)
            continue; // it goes with the new one
        idle = false;
        failed(u, q);
    }
    if (idle || s->failing || u->closing)
        return;
    s->failing = true;
    hm_log(HM_LOG_WARN, "dns", "upstream lost",
           "server=%s name=%s why=\"%s\" code=0x%llx reason=%s", hm_addr_text(&s->addr, addr),
           s->name, hm_err_text(stoq_conn_why(conn)), (unsigned long long)code,
           hm_log_quote(quoted, sizeof quoted, reason));
}

static void take_answer(dns_upstream *u, out_query *q)
{
    hm_buf b = q->answer;
    unsigned slot = (unsigned)(q - u->queries);
    bool whole =
        hm_buf_status(&b) == HM_OK && b.len >= 2 && b.len == 2u + (b.ptr[0] << 8 | b.ptr[1]);
    q->answer = (hm_buf){0};
    if (whole) {
        stream_gone(u, q);
        forget(u, slot);
        dns_forward_answer(u->forward, slot, hm_bytes_of(b.ptr + 2, b.len - 2), now_ms());
    } else {
        failed(u, q);
    }
    hm_buf_free(&b);
}

static void on_readable(void *user, stoq_stream *st)
{
    dns_upstream *u = user;
    out_query *q = stoq_stream_user(st);
    hm_bytes view;
    bool fin = false;
    while (q != NULL && !fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK) {
            failed(u, q);
            return;
        }
        if (view.len == 0 && !fin)
            return;
        if (q->answer.len + view.len > 2 + DNS_MSG_MAX) {
            failed(u, q);
            return;
        }
        hm_buf_put(&q->answer, view);
        stoq_stream_consume(st, view.len);
    }
    if (q != NULL)
        take_answer(u, q);
}

static void on_stream_closed(void *user, stoq_stream *st)
{
    out_query *q = stoq_stream_user(st);
    if (q == NULL)
        return;
    stream_gone(user, q);
    failed(user, q);
}

// A DNS server opens no streams.
static void on_stream_open(void *user, stoq_stream *st)
{
    (void)user;
    stoq_conn_close(stoq_stream_conn(st), DOQ_PROTOCOL_ERROR, "a server opens no streams");
}

static void on_tick(uv_timer_t *t)
{
    dns_upstream *u = hm_container_of(t, dns_upstream, tick);
    if (u->root.len > 0 && now_ms() > u->until_ms) // blocks may come later
        dns_upstream_believe(u, NULL, 0);
    dns_forward_tick(u->forward, now_ms());
    dns_core_count_forwarded(u->core);
}

// ---- whom to believe ----------------------------------------------------------------------------

static hm_err check_server(void *ctx, const hm_bytes *chain, size_t count, const char *host)
{
    const dns_upstream *u = ctx;
    const tc_foreign root = {.root = hm_buf_bytes(&u->root), .scope = u->scope};
    const tc_foreign_ask ask = {.use = TC_SERVER, .host = host, .time_ms = now_ms()};
    char quoted[300], why[300];
    if (host == NULL)
        return HM_E_CERT_UNTRUSTED;
    hm_err err = tc_foreign_verify(&root, u->root.len > 0 ? 1 : 0, chain, count, &ask, NULL);
    if (err == HM_OK)
        return HM_OK;
    snprintf(why, sizeof why, "%s", hm_err_detail());
    hm_log(HM_LOG_WARN, "dns", "upstream not believed", "zone=%s name=%s reason=\"%s: %s\"",
           u->zone, host, hm_err_text(err), hm_log_quote(quoted, sizeof quoted, hm_bytes_str(why)));
    return err;
}

bool dns_upstream_is_for(const dns_upstream *u, const tc_scope *scope)
{
    return tc_scope_has_name(scope, hm_bytes_str(u->zone));
}

void dns_upstream_believe(dns_upstream *u, const tc_foreign *root, uint64_t until_ms)
{
    hm_bytes der = root ? root->root : (hm_bytes){0};
    hm_assert(u->route != NULL);
    if (hm_bytes_eq(der, hm_buf_bytes(&u->root)) &&
        (root == NULL || tc_scope_eq(&root->scope, &u->scope)))
        return;
    hm_buf_free(&u->root);
    hm_buf_put(&u->root, der);
    bool whole = hm_buf_status(&u->root) == HM_OK;
    u->scope = root ? root->scope : (tc_scope){0};
    u->until_ms = until_ms;
    u->route->believed = root != NULL && whole;
    dns_forward_drop(u->forward, now_ms());
    for (unsigned i = 0; i < u->count; i++) {
        u->servers[i].failing = false;
        if (u->servers[i].conn != NULL)
            stoq_conn_close(u->servers[i].conn, DOQ_NO_ERROR, "");
    }
    hm_log(HM_LOG_INFO, "dns", u->route->believed ? "foreign root believed" : "no foreign root",
           "zone=%s", u->zone);
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err parse_servers(dns_upstream *u, const char *text)
{
    while (*text) {
        char one[HM_ADDR_TEXT_MAX + 256];
        size_t len = strcspn(text, ",");
        if (u->count == DNS_UPSTREAMS_MAX || len >= sizeof one)
            return hm_fail(HM_E_CONFIG, "there are at most %u upstreams", DNS_UPSTREAMS_MAX);
        snprintf(one, sizeof one, "%.*s", (int)len, text);
        char *name = strchr(one, '#');
        if (name == NULL || strlen(name) < 2 || strlen(name) > sizeof u->servers[0].name)
            return hm_fail(HM_E_CONFIG, "an upstream is [ADDR]:PORT#NAME, not %.200s", one);
        *name++ = 0;
        upstream *s = &u->servers[u->count++];
        HM_TRY(hm_addr_parse(one, &s->addr));
        snprintf(s->name, sizeof s->name, "%s", name);
        text += len + (text[len] == ',');
    }
    return u->count > 0 ? HM_OK : hm_fail(HM_E_CONFIG, "no upstream is named");
}

static hm_err make_endpoint(dns_upstream *u, const char *ca_path)
{
    stoq_endpoint *ep = NULL;
    SSL_CTX *tls = NULL;
    const tc_tls_config tls_cfg = {
        .groups = GROUPS, .roots_path = ca_path, .clock = &hm_clock_system};
    HM_TRY(u->route != NULL ? tc_path_tls(GROUPS, check_server, u, &tls) : tc_tls(&tls_cfg, &tls));
    const stoq_config cfg = {
        .bind = {.sin6_family = AF_INET6},
        .client_tls = tls,
        .alpn = {DOQ_ALPN},
        .callbacks = {.conn_open = on_conn_open,
                      .conn_closed = on_conn_closed,
                      .stream_open = on_stream_open,
                      .stream_readable = on_readable,
                      .stream_closed = on_stream_closed},
        .user = u,
        .limits = {.max_connections = DNS_UPSTREAMS_MAX,
                   .max_streams_bidi = 1,
                   .max_streams_uni = 1,
                   .max_handshake_ms = DNS_FORWARD_TRY_MS},
    };
    hm_err err = stoq_endpoint_create(&cfg, &ep);
    SSL_CTX_free(tls);
    if (err == HM_OK)
        err = stoq_uv_start(&u->io, u->core->loop, ep);
    if (err != HM_OK)
        stoq_endpoint_destroy(ep);
    return err;
}

// A zone of somebody else: ours is answered here.
static hm_err parse_zone(dns_upstream *u, const char *text)
{
    tc_scope s;
    dns_name name;
    dns_route *r = &u->core->routes[u->core->route_count];
    hm_err err = tc_scope_parse(text, NULL, &s);
    if (err != HM_OK)
        return hm_fail(HM_E_CONFIG, "%s", hm_err_detail());
    HM_TRY(dns_name_parse(hm_bytes_str(s.zone), &name));
    if (dns_name_within(&name, &u->core->source.apex) ||
        dns_name_within(&u->core->source.apex, &name))
        return hm_fail(HM_E_CONFIG,
                       "questions about %s, which is or meets this mesh's own zone, "
                       "are not forwarded",
                       s.zone);
    if (u->core->route_count == DNS_ROUTES_MAX)
        return hm_fail(HM_E_CONFIG, "there are at most %u zones with upstreams of their own",
                       DNS_ROUTES_MAX);
    for (unsigned i = 0; i < u->core->route_count; i++)
        if (dns_name_eq(&name, &u->core->routes[i].zone))
            return hm_fail(HM_E_CONFIG, "the zone %s is written in two ways", s.zone);
    snprintf(u->zone, sizeof u->zone, "%s", s.zone);
    *r = (dns_route){.zone = name};
    u->route = r;
    return HM_OK;
}

static hm_err open_parts(dns_upstream *u, const dns_upstream_config *cfg)
{
    dns_forward_config forward = {
        .send = send_query, .forget = forget, .ctx = u, .random = &hm_random_system};
    if (cfg->zone != NULL)
        HM_TRY(parse_zone(u, cfg->zone));
    HM_TRY(parse_servers(u, cfg->servers));
    forward.servers = u->count;
    HM_TRY(dns_forward_open(&forward, &u->forward));
    return make_endpoint(u, cfg->ca_path);
}

hm_err dns_upstream_open(dns_core *core, const dns_upstream_config *cfg, dns_upstream **out)
{
    dns_upstream *u = calloc(1, sizeof *u);
    if (u == NULL)
        return HM_E_NOMEM;
    u->core = core;
    hm_err err = open_parts(u, cfg);
    if (err != HM_OK) {
        dns_forward_close(u->forward);
        free(u);
        return err;
    }
    if (u->route != NULL) {
        u->route->forward = u->forward;
        core->route_count++;
    } else {
        core->forward = u->forward;
    }
    uv_timer_init(core->loop, &u->tick);
    uv_timer_start(&u->tick, on_tick, TICK_MS, TICK_MS);
    *out = u;
    return HM_OK;
}

void dns_upstream_close(dns_upstream *u)
{
    if (u == NULL)
        return;
    u->closing = true;
    uv_close((uv_handle_t *)&u->tick, NULL);
    stoq_uv_close(&u->io, NULL);
}

void dns_upstream_free(dns_upstream *u)
{
    if (u == NULL)
        return;
    if (u->route != NULL) // all go together
        u->core->route_count = 0;
    else
        u->core->forward = NULL;
    dns_forward_close(u->forward);
    hm_buf_free(&u->root);
    for (unsigned i = 0; i < DNS_FORWARD_SLOTS; i++) {
        hm_buf_free(&u->queries[i].query);
        hm_buf_free(&u->queries[i].answer);
    }
    free(u);
}
