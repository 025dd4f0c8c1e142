#include "server/stoq_perf.h"

#include <stdlib.h>

#include "base/config.h"
#include "base/log.h"

#define HEAD_BYTES 8u
#define KEPT_MIN (STOQ_PERF_KEPT / STOQ_PERF_STREAMS)

typedef struct perf_conn {
    hm_list link; // in stoq_perf
    stoq_perf *perf;
    stoq_conn *conn;
    h3_conn *h3; // NULL: the performance protocol
    unsigned streams;
} perf_conn;

typedef struct perf_stream {
    perf_conn *conn;
    uint8_t head[HEAD_BYTES];
    unsigned head_len;
    uint64_t left; // to be sent
    bool ended;    // everything was handed over, or nothing more will be
} perf_stream;

// What an answer is made of.
static const uint8_t zeros[65536];

// ---- answers ------------------------------------------------------------------------------------

// A stream's share of what is kept for its connection.
static uint32_t share(const perf_conn *c)
{
    uint32_t bytes = STOQ_PERF_KEPT / (c->streams > 0 ? c->streams : 1);
    return bytes > KEPT_MIN ? bytes : KEPT_MIN;
}

static void fill(perf_stream *s, stoq_stream *st)
{
    stoq_stream_set_send_bytes(st, share(s->conn));
    while (!s->ended) {
        size_t n = s->left < sizeof zeros ? (size_t)s->left : sizeof zeros, took = 0;
        size_t room = stoq_stream_send_room(st);
        if (n > room && room > 0)
            n = room;
        hm_err err = n > 0 ? stoq_stream_lend(st, hm_bytes_of(zeros, n), n == s->left, NULL)
                           : stoq_stream_send(st, (hm_bytes){0}, true, &took);
        if (err == HM_E_STOQ_BLOCKED)
            return; // on_writable() goes on
        if (err != HM_OK) {
            if (err == HM_E_NOMEM)
                stoq_stream_reset(st, STOQ_PERF_MEMORY);
            s->ended = true; // or the client wants no more
            return;
        }
        s->left -= n;
        s->conn->perf->n.bytes_out += n;
        s->ended = s->left == 0;
    }
}

static void cancel(perf_stream *s, stoq_stream *st, uint64_t code)
{
    s->ended = true;
    stoq_stream_reset(st, code);
}

// Takes the length from what came; what follows it is upload.
static void take(perf_stream *s, stoq_stream *st, hm_bytes view)
{
    stoq_perf *p = s->conn->perf;
    size_t at = 0;
    bool begins = s->head_len < HEAD_BYTES;
    while (s->head_len < HEAD_BYTES && at < view.len)
        s->head[s->head_len++] = view.ptr[at++];
    p->n.bytes_in += view.len - at;
    if (!begins || s->head_len < HEAD_BYTES)
        return;
    for (unsigned i = 0; i < HEAD_BYTES; i++)
        s->left = s->left << 8 | s->head[i];
    p->n.requests++;
    fill(s, st);
}

// ---- HTTP/3 -------------------------------------------------------------------------------------

static h3_conn *h3_of(stoq_stream *st)
{
    const perf_conn *c = stoq_conn_user(stoq_stream_conn(st));
    return c ? c->h3 : NULL;
}

static void on_returned(void *user, stoq_stream *st, void *tag)
{
    (void)user;
    if (h3_of(st))
        h3_stream_returned(h3_of(st), st, tag);
}

static bool is_h3(const stoq_conn *conn)
{
    return strcmp(stoq_conn_alpn(conn), H3_ALPN) == 0;
}

// ---- streams ------------------------------------------------------------------------------------

static void on_stream_open(void *user, stoq_stream *st)
{
    stoq_perf *p = user;
    perf_conn *c = stoq_conn_user(stoq_stream_conn(st));
    perf_stream *s = NULL;
    if (c && c->h3) {
        h3_stream_open(c->h3, st);
        return;
    }
    if (stoq_stream_is_uni(st)) {
        p->n.refused_one_way++;
        stoq_stream_stop(st, STOQ_PERF_ONE_WAY);
        return;
    }
    if (c != NULL)
        s = calloc(1, sizeof *s);
    if (s == NULL) {
        stoq_stream_stop(st, STOQ_PERF_MEMORY);
        stoq_stream_reset(st, STOQ_PERF_MEMORY);
        return;
    }
    s->conn = c;
    c->streams++;
    p->n.streams++;
    stoq_stream_set_user(st, s);
}

static void on_readable(void *user, stoq_stream *st)
{
    stoq_perf *p = user;
    bool fin = false;
    if (h3_of(st)) {
        h3_stream_readable(h3_of(st), st);
        return;
    }
    perf_stream *s = stoq_stream_user(st);
    while (s != NULL && !fin) {
        hm_bytes view;
        if (stoq_stream_peek(st, &view, &fin) != HM_OK) {
            cancel(s, st, STOQ_PERF_CANCELED);
            return;
        }
        if (view.len == 0 && !fin)
            return;
        take(s, st, view);
        stoq_stream_consume(st, view.len);
    }
    if (s != NULL && s->head_len < HEAD_BYTES) {
        p->n.refused_short++;
        cancel(s, st, STOQ_PERF_SHORT);
    }
}

static void on_writable(void *user, stoq_stream *st)
{
    (void)user;
    if (h3_of(st)) {
        h3_stream_writable(h3_of(st), st);
        return;
    }
    perf_stream *s = stoq_stream_user(st);
    if (s != NULL && s->head_len == HEAD_BYTES)
        fill(s, st);
}

static void on_stream_closed(void *user, stoq_stream *st)
{
    stoq_perf *p = user;
    if (h3_of(st)) {
        h3_stream_closed(h3_of(st), st);
        return;
    }
    perf_stream *s = stoq_stream_user(st);
    if (s == NULL)
        return;
    perf_conn *c = s->conn;
    c->streams--;
    p->n.streams--;
    free(s);
    if (p->draining && c->streams == 0)
        stoq_conn_close(c->conn, STOQ_PERF_DONE, "shutting down");
}

// ---- connections --------------------------------------------------------------------------------

static void on_conn_open(void *user, stoq_conn *conn)
{
    stoq_perf *p = user;
    char from[HM_ADDR_TEXT_MAX];
    struct sockaddr_in6 addr;
    perf_conn *c = calloc(1, sizeof *c);
    p->n.accepted++;
    if (c == NULL) {
        stoq_conn_close(conn, STOQ_PERF_MEMORY, "out of memory");
        return;
    }
    c->perf = p;
    c->conn = conn;
    hm_list_append(&p->conns, &c->link);
    stoq_conn_set_user(conn, c);
    stoq_conn_peer_address(conn, &addr);
    hm_log(HM_LOG_DEBUG, "stoq", "connected", "peer=%s alpn=%s group=%s cipher=%s",
           hm_addr_text(&addr, from), stoq_conn_alpn(conn), stoq_conn_group(conn),
           stoq_conn_cipher(conn));
    if (is_h3(conn) && h3_conn_open(&p->h3, conn, c, &c->h3) != HM_OK)
        return; // it is being closed
    if (p->draining && c->h3 == NULL)
        stoq_conn_close(conn, STOQ_PERF_DONE, "shutting down");
}

static void add_traffic(stoq_perf_counters *n, const stoq_conn *conn)
{
    stoq_conn_stats s;
    stoq_conn_get_stats(conn, &s);
    n->packets_sent += s.packets_sent;
    n->packets_received += s.packets_received;
    n->packets_lost += s.packets_lost;
    n->packets_dropped += s.packets_dropped;
    n->udp_in += s.bytes_received;
    n->udp_out += s.bytes_sent;
}

static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    stoq_perf *p = user;
    perf_conn *c = stoq_conn_user(conn);
    char from[HM_ADDR_TEXT_MAX], quoted[300];
    struct sockaddr_in6 addr;
    stoq_conn_peer_address(conn, &addr);
    hm_log(HM_LOG_DEBUG, "stoq", "closed", "peer=%s app=%d code=0x%llx reason=%s",
           hm_addr_text(&addr, from), is_app, (unsigned long long)code,
           hm_log_quote(quoted, sizeof quoted, reason));
    p->n.closed++;
    add_traffic(&p->n, conn);
    if (c != NULL && c->h3 != NULL)
        h3_conn_closed(c->h3);
    if (c != NULL)
        hm_list_remove(&c->link);
    free(c);
}

// ---- refusals -----------------------------------------------------------------------------------

static const struct {
    hm_err why;
    const char *label;
} reasons[] = {
    {HM_E_STOQ_GROUP, "group"},
    {HM_E_STOQ_ALPN, "protocol"},
    {HM_E_CERT_MISSING, "certificate_missing"},
    {HM_E_CERT_UNTRUSTED, "certificate_untrusted"},
    {HM_E_CERT_EXPIRED, "certificate_expired"},
    {HM_E_CERT_REVOKED, "certificate_revoked"},
    {HM_E_CERT_PROFILE, "certificate_profile"},
    {HM_E_CRL_STALE, "revocation_list_stale"},
    {HM_E_STOQ_TLS, "tls"},
    {HM_E_STOQ_TRANSPORT, "transport"},
    {HM_E_CLOSED, "client_gave_up"},
    {HM_E_TIMEOUT, "timeout"},
};
#define REASONS (sizeof(reasons) / sizeof(reasons[0]))

static bool may_log(stoq_perf *p)
{
    uint64_t second = hm_clock_mono_us(p->clock) / 1000000;
    if (second != p->line_second) {
        p->line_second = second;
        p->lines = 0;
    }
    if (p->lines < STOQ_PERF_LINES) {
        p->lines++;
        return true;
    }
    p->unsaid++;
    return false;
}

static void on_conn_failed(void *user, stoq_conn *conn, hm_err why, uint64_t code, hm_bytes reason)
{
    stoq_perf *p = user;
    char from[HM_ADDR_TEXT_MAX], quoted[300];
    struct sockaddr_in6 addr;
    size_t i = 0;
    while (i + 1 < REASONS && reasons[i].why != why)
        i++;
    p->n.refused[i]++;
    add_traffic(&p->n, conn);
    if (!may_log(p))
        return;
    stoq_conn_peer_address(conn, &addr);
    hm_log(HM_LOG_WARN, "stoq", "refused", "peer=%s reason=%s code=0x%llx detail=%s unsaid=%u",
           hm_addr_text(&addr, from), reasons[i].label, (unsigned long long)code,
           hm_log_quote(quoted, sizeof quoted, reason), p->unsaid);
    p->unsaid = 0;
}

// ---- life, counters -----------------------------------------------------------------------------

const stoq_callbacks stoq_perf_callbacks = {
    .conn_open = on_conn_open,
    .conn_closed = on_conn_closed,
    .conn_failed = on_conn_failed,
    .stream_open = on_stream_open,
    .stream_readable = on_readable,
    .stream_writable = on_writable,
    .stream_closed = on_stream_closed,
    .stream_returned = on_returned,
};

void stoq_perf_init(stoq_perf *p, const hm_clock *clock)
{
    *p = (stoq_perf){.clock = clock};
    hm_list_init(&p->conns);
    h3_init(&p->h3, &stoq_perf_h3_app, p, STOQ_PERF_STREAMS);
}

static void close_conns(stoq_perf *p, bool idle_only)
{
    hm_list_each(it, &p->conns)
    {
        perf_conn *c = hm_container_of(it, perf_conn, link);
        if (c->h3 && !idle_only)
            h3_conn_end(c->h3, H3_NO_ERROR, "shutting down");
        else if (!c->h3 && (!idle_only || c->streams == 0))
            stoq_conn_close(c->conn, STOQ_PERF_DONE, "shutting down");
    }
}

void stoq_perf_drain(stoq_perf *p)
{
    p->draining = true;
    close_conns(p, true);
    h3_drain(&p->h3);
    h3_flush(&p->h3);
}

void stoq_perf_close(stoq_perf *p)
{
    close_conns(p, false);
}

void stoq_perf_sweep(stoq_perf *p, uint64_t now_us)
{
    h3_sweep(&p->h3, now_us / 1000);
    h3_flush(&p->h3);
}

void stoq_perf_add(const stoq_perf *p, const stoq_endpoint *ep, stoq_perf_totals *sum)
{
    stoq_endpoint_stats e;
    stoq_perf_counters n = p->n, *t = &sum->n;
    stoq_endpoint_get_stats(ep, &e);
    for (const hm_list *it = p->conns.next; it != &p->conns; it = it->next)
        add_traffic(&n, hm_container_of(it, perf_conn, link)->conn);
    t->accepted += n.accepted;
    t->closed += n.closed;
    t->requests += n.requests;
    t->refused_short += n.refused_short;
    t->refused_one_way += n.refused_one_way;
    t->bytes_in += n.bytes_in;
    t->bytes_out += n.bytes_out;
    t->packets_sent += n.packets_sent;
    t->packets_received += n.packets_received;
    t->packets_lost += n.packets_lost;
    t->packets_dropped += n.packets_dropped;
    t->udp_in += n.udp_in;
    t->udp_out += n.udp_out;
    t->streams += n.streams;
    for (size_t i = 0; i < REASONS; i++)
        t->refused[i] += n.refused[i];
    sum->ep.refused += e.refused;
    sum->ep.connections += e.connections;
    sum->ep.half_open += e.half_open;
    sum->ep.datagrams_received += e.datagrams_received;
    sum->ep.datagrams_dropped += e.datagrams_dropped;
    sum->ep.passed_on += e.passed_on;
    sum->ep.xdp_queues += e.xdp_queues;
    sum->ep.xdp_received += e.xdp_received;
    sum->ep.xdp_sent += e.xdp_sent;
    sum->ep.retries_sent += e.retries_sent;
    sum->ep.resumed += e.resumed;
    sum->ep.early += e.early;
    sum->ep.resets_sent += e.resets_sent;
    sum->ep.versions_sent += e.versions_sent;
    h3_add(&p->h3.n, &sum->h3);
}

static void put_endpoint(const stoq_endpoint_stats *e, hm_metrics *m)
{
    hm_metrics_value(m, "hm_stoq_refused_total", "Connections that were not to be",
                     "reason=\"limit\"", e->refused, false);
    hm_metrics_value(m, "hm_stoq_connections", "Connections open now", "", e->connections, true);
    hm_metrics_value(m, "hm_stoq_half_open", "Of them in their handshake", "", e->half_open, true);
    hm_metrics_value(m, "hm_stoq_datagrams_received_total", "UDP datagrams received", "",
                     e->datagrams_received, false);
    hm_metrics_value(m, "hm_stoq_datagrams_dropped_total",
                     "Datagrams that are malformed or belong to no connection", "",
                     e->datagrams_dropped, false);
    hm_metrics_value(m, "hm_stoq_passed_on_total",
                     "Datagrams that came to another worker than their connection's", "",
                     e->passed_on, false);
    hm_metrics_value(m, "hm_stoq_xdp_queues", "Queues whose packets come by AF_XDP; 0: sockets", "",
                     e->xdp_queues, true);
    hm_metrics_value(m, "hm_stoq_xdp_received_total", "Datagrams received by AF_XDP", "",
                     e->xdp_received, false);
    hm_metrics_value(m, "hm_stoq_xdp_sent_total", "Datagrams sent by AF_XDP", "", e->xdp_sent,
                     false);
    hm_metrics_value(m, "hm_stoq_retries_total", "Addresses asked to prove themselves", "",
                     e->retries_sent, false);
    hm_metrics_value(m, "hm_stoq_resumed_total", "Connections with a ticket", "", e->resumed,
                     false);
    hm_metrics_value(m, "hm_stoq_early_total", "Of these, with early data taken", "", e->early,
                     false);
    hm_metrics_value(m, "hm_stoq_resets_total", "Stateless resets sent", "", e->resets_sent, false);
    hm_metrics_value(m, "hm_stoq_versions_total", "Version negotiations sent", "", e->versions_sent,
                     false);
}

void stoq_perf_metrics(const stoq_perf_totals *t, hm_metrics *m)
{
    stoq_perf_counters n = t->n;
    char label[64];
    hm_metrics_value(m, "hm_stoq_accepted_total", "Connections whose handshake was completed", "",
                     n.accepted, false);
    hm_metrics_value(m, "hm_stoq_closed_total", "Of them closed since", "", n.closed, false);
    for (size_t i = 0; i < REASONS; i++) {
        snprintf(label, sizeof label, "reason=\"%s\"", reasons[i].label);
        hm_metrics_value(m, "hm_stoq_refused_total", "Connections that were not to be", label,
                         n.refused[i], false);
    }
    put_endpoint(&t->ep, m);
    hm_metrics_value(m, "hm_stoq_packets_sent_total", "QUIC packets sent", "", n.packets_sent,
                     false);
    hm_metrics_value(m, "hm_stoq_packets_received_total", "QUIC packets received", "",
                     n.packets_received, false);
    hm_metrics_value(m, "hm_stoq_packets_lost_total", "QUIC packets found lost", "", n.packets_lost,
                     false);
    hm_metrics_value(m, "hm_stoq_packets_dropped_total", "QUIC packets that did not open", "",
                     n.packets_dropped, false);
    hm_metrics_value(m, "hm_stoq_received_bytes_total", "UDP payload received", "", n.udp_in,
                     false);
    hm_metrics_value(m, "hm_stoq_sent_bytes_total", "UDP payload sent", "", n.udp_out, false);
    hm_metrics_value(m, "hm_stoq_streams", "Requests in progress", "", n.streams, true);
    hm_metrics_value(m, "hm_perf_requests_total", "Requests taken", "", n.requests, false);
    hm_metrics_value(m, "hm_perf_refused_total", "Streams refused", "reason=\"short\"",
                     n.refused_short, false);
    hm_metrics_value(m, "hm_perf_refused_total", "Streams refused", "reason=\"one_way\"",
                     n.refused_one_way, false);
    hm_metrics_value(m, "hm_perf_received_bytes_total", "Upload taken", "", n.bytes_in, false);
    hm_metrics_value(m, "hm_perf_sent_bytes_total", "Answers handed to the transport", "",
                     n.bytes_out, false);
    h3_metrics(&t->h3, m);
}
