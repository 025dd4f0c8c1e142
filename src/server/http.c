#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/config.h"
#include "server/http_internal.h"

static void on_lws_log(int level, const char *line)
{
    char text[512];
    size_t len = strlen(line);
    while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    hm_log(level & LLL_ERR ? HM_LOG_WARN : HM_LOG_DEBUG, "http", "library", "text=%s",
           hm_log_quote(text, sizeof(text), hm_bytes_of(line, len)));
}

// Ends requests whose peer makes no step, keeps event streams warm, and ends a slow shutdown.
static void on_sweep(uv_timer_t *timer)
{
    hm_http *h = timer->data;
    uint64_t now = uv_now(h->loop);
    http_clients_sweep(h);
    for (size_t i = 0; i < h->listener_count; i++)
        if (h->listeners[i].h3)
            http_h3_sweep(&h->listeners[i]);
    hm_list_each(it, &h->requests)
    {
        hm_http_req *r = hm_container_of(it, hm_http_req, node);
        bool peer_owes = (r->body_got < r->body_length && !r->paused && !r->answered) ||
                         r->out.len > r->out_at || (r->finished && r->wire);
        if (r->sse && !r->finished && r->out.len == r->out_at && now - r->progress_ms >= 15000) {
            hm_buf_puts(&r->out, ":\n\n");
            r->progress_ms = now;
            http_req_wake(r);
        } else if (peer_owes && now - r->progress_ms >= HM_HTTP_IDLE_MS) {
            h->stats.refused_limit++;
            r->wire->kill(r);
        }
    }
}

static void on_own_handle_closed(uv_handle_t *handle)
{
    hm_http *h = handle->data;
    if (--h->handles > 0)
        return;
    void (*closed)(void *) = h->closed;
    void *ctx = h->closed_ctx;
    for (size_t i = 0; i < h->listener_count; i++) {
        http_files_free(&h->listeners[i].files);
        free(h->listeners[i].cert_path);
        free(h->listeners[i].key_path);
        http_h3_free(&h->listeners[i]);
    }
    http_clients_sweep(h);
    hm_map_free(&h->clients);
    if (h->token)
        hm_zero(h->token, strlen(h->token));
    free(h->token);
    free(h);
    if (closed)
        closed(ctx);
}

static void on_listener_closed(uv_handle_t *handle)
{
    http_listener *l = handle->data;
    hm_http *h = l->server;
    close(l->fd);
    handle->data = h;
    on_own_handle_closed(handle);
}

// Drives a shutdown: first the requests end, then the library, then our own handles.
static void on_idle(uv_idle_t *idle)
{
    hm_http *h = idle->data;
    if (!h->destroyed) {
        bool busy = !hm_list_empty(&h->requests);
        for (size_t i = 0; i < h->listener_count; i++)
            busy |= h->listeners[i].h3 && http_h3_busy(&h->listeners[i]);
        if (busy && uv_now(h->loop) < h->close_at_ms)
            return;
        h->destroyed = true;
        for (size_t i = 0; i < h->listener_count; i++)
            if (h->listeners[i].h3)
                http_h3_close(&h->listeners[i], on_own_handle_closed);
        lws_context_destroy(h->lws);
        return;
    }
    // With a loop of ours, the library waits for its handles to close and then for one more call,
    // which clears h->lws; before that the call does nothing.
    if (h->lws)
        lws_context_destroy(h->lws);
    if (h->lws)
        return;
    uv_idle_stop(idle);
    uv_timer_stop(&h->sweep);
    uv_close((uv_handle_t *)&h->sweep, on_own_handle_closed);
    uv_close((uv_handle_t *)idle, on_own_handle_closed);
}

hm_err hm_http_open(const hm_http_config *cfg, hm_http **out)
{
    hm_http *h = calloc(1, sizeof(*h));
    if (!h)
        return HM_E_NOMEM;
    h->loop = cfg->loop;
    h->routes = cfg->routes;
    h->route_count = cfg->route_count;
    h->ctx = cfg->ctx;
    h->who = cfg->who;
    h->limits = cfg->limits;
    if (!h->limits.connections)
        h->limits.connections = 1024;
    if (!h->limits.client_connections)
        h->limits.client_connections = (h->limits.connections + 1) / 2;
    hm_list_init(&h->connections);
    hm_list_init(&h->crowd.connections);
    hm_map_init(&h->clients, HTTP_PREFIX_BYTES, HTTP_CLIENTS_MAX, &hm_random_system);
    h->token = cfg->token ? strdup(cfg->token) : NULL;
    hm_list_init(&h->requests);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_lws_log);
    void *loops[1] = {cfg->loop};
    struct lws_context_creation_info info = {0};
    info.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    info.foreign_loops = loops;
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    info.user = h;
    info.pcontext = &h->lws;
    info.max_http_header_data2 = HTTP_LIBRARY_HEADERS_MAX;
    info.max_http_header_pool =
        (unsigned short)(h->limits.connections < 512 ? h->limits.connections + 1 : 512);
    info.pt_serv_buf_size = 65536;
    info.timeout_secs = HM_HTTP_FIRST_MS / 1000;
    info.gid = (gid_t)-1;
    info.uid = (uid_t)-1;
    h->lws = lws_create_context(&info);
    if (!h->lws || (cfg->token && !h->token)) {
        if (h->lws)
            lws_context_destroy(h->lws);
        free(h->token);
        free(h);
        return hm_fail(HM_E_INTERNAL, "the HTTP library did not start (is "
                                      "libwebsockets-evlib-uv installed?)");
    }
    uv_timer_init(h->loop, &h->sweep);
    h->sweep.data = h;
    uv_timer_start(&h->sweep, on_sweep, 1000, 1000);
    uv_idle_init(h->loop, &h->idle);
    h->idle.data = h;
    h->handles = 2;
    *out = h;
    return HM_OK;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    http_listener *l = poll->data;
    hm_http *h = l->server;
    if (status < 0 || !(events & UV_READABLE))
        return;
    for (int i = 0; i < 64; i++) {
        struct sockaddr_in6 from = {0};
        socklen_t size = sizeof(from);
        int fd = accept4(l->fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return; // EAGAIN, or an error of the one connection
        http_client *c = http_client_of(h, &from);
        if (!c || !http_client_admit(h, c)) {
            close(fd);
            continue;
        }
        struct lws *wsi = lws_adopt_socket_vhost(l->vhost, fd); // closes it itself on failure
        http_conn *x = wsi ? http_conn_new(l, c, &from, &http_lws_wire) : NULL;
        if (x) {
            x->wsi = wsi;
            lws_set_opaque_user_data(wsi, x);
        } else if (wsi)
            lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
    }
}

static hm_err open_socket(const struct sockaddr_in6 *addr, int *out, struct sockaddr_in6 *bound)
{
    int on = 1;
    socklen_t len = sizeof(*bound);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return hm_fail(HM_E_IO, "no IPv6 socket: %s", strerror(errno));
    if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on)) != 0 ||
        bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0 || listen(fd, 512) != 0 ||
        getsockname(fd, (struct sockaddr *)bound, &len) != 0) {
        int e = errno;
        close(fd);
        return hm_addr_fail(addr, "TCP", e);
    }
    *out = fd;
    return HM_OK;
}

hm_err hm_http_listen(hm_http *h, const hm_http_listen_config *cfg, struct sockaddr_in6 *bound)
{
    struct sockaddr_in6 at;
    char name[16];
    hm_err err;
    if (h->listener_count == HM_HTTP_LISTENERS_MAX)
        return hm_fail(HM_E_LIMIT, "more than %u listeners", HM_HTTP_LISTENERS_MAX);
    http_listener *l = &h->listeners[h->listener_count];
    *l = (http_listener){.server = h, .fd = -1};
    l->tls = cfg->cert_path != NULL;
    if (l->tls) {
        l->cert_path = strdup(cfg->cert_path);
        l->key_path = strdup(cfg->key_path);
        if (!l->cert_path || !l->key_path) {
            err = HM_E_NOMEM;
            goto out;
        }
    }
    l->read_only = cfg->read_only;
    l->local_names = cfg->local_names;
    if (cfg->static_dir) {
        HM_TRY_OUT(http_files_load(&l->files, cfg->static_dir));
        l->files.index = cfg->index ? cfg->index : "/index.html";
        l->has_static = true;
    }
    HM_TRY_OUT(open_socket(&cfg->addr, &l->fd, &at));
    snprintf(name, sizeof(name), "v%zu", h->listener_count);
    struct lws_context_creation_info info = {0};
    info.vhost_name = name;
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    info.protocols = http_lws_protocols;
    info.user = l;
    info.timeout_secs = HM_HTTP_FIRST_MS / 1000;
    info.keepalive_timeout = HM_HTTP_IDLE_MS / 1000;
    info.server_string = "hypermesh";
    info.options = LWS_SERVER_OPTION_FALLBACK_TO_APPLY_LISTEN_ACCEPT_CONFIG;
    if (l->tls) {
        info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
        info.ssl_cert_filepath = cfg->cert_path;
        info.ssl_private_key_filepath = cfg->key_path;
        info.ssl_options_set = SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 |
                               SSL_OP_NO_TLSv1_2 | SSL_OP_NO_RENEGOTIATION;
        info.alpn = "http/1.1,h2";
    }
    l->vhost = lws_create_vhost(h->lws, &info);
    if (!l->vhost) {
        err = hm_fail(HM_E_CONFIG, "certificate %s with key %s cannot be used",
                      cfg->cert_path ? cfg->cert_path : "-", cfg->key_path ? cfg->key_path : "-");
        goto out;
    }
    if (cfg->http3 && l->tls) {
        HM_TRY_OUT(http_h3_open(l, &at));
        snprintf(l->alt_svc, sizeof(l->alt_svc), "h3=\":%u\"; ma=86400", ntohs(at.sin6_port));
    }
    l->poll.data = l;
    if (uv_poll_init(h->loop, &l->poll, l->fd) != 0) {
        err = hm_fail(HM_E_IO, "the event loop does not take the socket");
        goto out;
    }
    h->handles++;
    h->listener_count++;
    l->open = true;
    uv_poll_start(&l->poll, UV_READABLE, on_connection);
    if (bound)
        *bound = at;
    return HM_OK;
out:
    if (l->fd >= 0)
        close(l->fd);
    http_files_free(&l->files);
    free(l->cert_path);
    free(l->key_path);
    return err;
}

hm_err hm_http_certs_renewed(hm_http *h)
{
    for (size_t i = 0; i < h->listener_count; i++) {
        const http_listener *l = &h->listeners[i];
        if (l->tls && lws_tls_cert_updated(h->lws, l->cert_path, l->key_path, NULL, 0, NULL, 0))
            return hm_fail(HM_E_CONFIG, "the new certificate %s cannot be used", l->cert_path);
        if (l->h3)
            HM_TRY(http_h3_renew(l));
    }
    return HM_OK;
}

void hm_http_close(hm_http *h, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx)
{
    hm_assert(!h->closing);
    h->closing = true;
    h->closed = closed;
    h->closed_ctx = ctx;
    uv_update_time(h->loop);
    h->close_at_ms = uv_now(h->loop) + grace_ms;
    for (size_t i = 0; i < h->listener_count; i++) {
        uv_poll_stop(&h->listeners[i].poll);
        uv_close((uv_handle_t *)&h->listeners[i].poll, on_listener_closed);
        if (h->listeners[i].h3)
            http_h3_drain(&h->listeners[i]);
    }
    hm_list_each(it, &h->requests)
    {
        hm_http_req *r = hm_container_of(it, hm_http_req, node);
        if (r->sse && !r->finished) {
            void (*aborted)(void *) = r->aborted;
            r->aborted = NULL;
            hm_http_stream_end(r);
            if (aborted)
                aborted(r->abort_ctx);
        }
    }
    uv_idle_start(&h->idle, on_idle);
}

bool hm_http_get_h3_counters(const hm_http *h, h3_counters *out)
{
    bool any = false;
    *out = (h3_counters){0};
    for (size_t i = 0; i < h->listener_count; i++)
        if (h->listeners[i].h3) {
            http_h3_add(&h->listeners[i], out);
            any = true;
        }
    return any;
}

void hm_http_get_stats(const hm_http *h, hm_http_stats *out)
{
    *out = h->stats;
    out->connections = h->connection_count;
    out->in_flight = 0;
    for (const hm_list *it = h->requests.next; it != &h->requests; it = it->next)
        out->in_flight++;
}
