// An endpoint: where datagrams find their connection, stateless answers, and the turn of the loop.
#include "stoq/endpoint.h"

#include <errno.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "hypermesh/stoq_bundle.h"
#include "stoq/qlog.h"
#include "stoq/xdp.h"

#define RECEIVES_A_TURN 64 // system calls; each may bring dozens of datagrams
#define BATCHES_A_TURN 4   // of one connection before the next one's turn
#define RESET_MAX 42       // bytes of a stateless reset

// ---- stateless answers --------------------------------------------------------------------------

bool endpoint_send(stoq_endpoint *ep, stoq_socket *via, bool preferred, const hm_udp_local *local,
                   const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len, size_t segment,
                   uint8_t ecn)
{
    const stoq_net *net = &ep->net;
    if (!ep->has_net) {
        stoq_io *io = via != NULL ? &via->io : preferred ? &ep->io_preferred : &ep->io;
        return stoq_io_send(io, local, to, bytes, len, segment, ecn);
    }
    if (via != NULL)
        net->send_from(net->ctx, &via->bound, to, bytes, len, segment, ecn);
    else
        (preferred ? net->send_preferred : net->send)(net->ctx, to, bytes, len, segment, ecn);
    return true;
}

// To where what is being received came from, by the way that it came.
static void send_back(stoq_endpoint *ep, const struct sockaddr_in6 *to, const uint8_t *bytes,
                      size_t len)
{
    (void)endpoint_send(ep, ep->via, ep->at_preferred, &ep->local, to, bytes, len, len, 0);
}

void endpoint_reset_token(const stoq_endpoint *ep, const stoq_cid *cid,
                          uint8_t out[STOQ_RESET_TOKEN])
{
    uint8_t full[EVP_MAX_MD_SIZE], in[6 + STOQ_MAX_CID] = "reset:";
    memcpy(in + 6, cid->id, cid->len);
    hm_assert(HMAC(EVP_sha256(), ep->secret, sizeof ep->secret, in, 6u + cid->len, full, NULL) !=
              NULL);
    memcpy(out, full, STOQ_RESET_TOKEN);
}

uint8_t endpoint_steer(const stoq_share *share, uint8_t first)
{
    if (share->count <= 1)
        return first;
    unsigned right = first - first % share->count + share->index;
    return (uint8_t)(right < 256 ? right : right - share->count);
}

void endpoint_make_id(stoq_endpoint *ep, uint8_t id[STOQ_LOCAL_CID])
{
    hm_random_fill(&ep->random, id, STOQ_LOCAL_CID);
    id[0] = endpoint_steer(&ep->share, id[0]); // the io's filter gives it to this one
}

// Shorter than what it answers, so that two endpoints do not answer each other for ever
// (RFC 9000, section 10.3.3).
static void send_reset(stoq_endpoint *ep, const struct sockaddr_in6 *to, const stoq_cid *cid,
                       size_t received)
{
    uint8_t out[RESET_MAX];
    size_t len = received - 1 < sizeof out ? received - 1 : sizeof out;
    if (len < STOQ_RESET_MIN)
        return;
    hm_random_fill(&ep->random, out, len - STOQ_RESET_TOKEN);
    out[0] = (uint8_t)(0x40 | (out[0] & 0x3f));
    endpoint_reset_token(ep, cid, out + len - STOQ_RESET_TOKEN);
    ep->stats.resets_sent++;
    send_back(ep, to, out, len);
}

static void send_version(stoq_endpoint *ep, const struct sockaddr_in6 *to, const stoq_packet *pkt)
{
    uint8_t out[STOQ_VERSION_PACKET_MAX], noise;
    hm_random_fill(&ep->random, &noise, 1);
    size_t len =
        stoq_version_packet_write(out, ep->versions, hm_bytes_of(pkt->dcid.id, pkt->dcid.len),
                                  hm_bytes_of(pkt->scid.id, pkt->scid.len), noise);
    ep->stats.versions_sent++;
    send_back(ep, to, out, len);
}

static void send_retry(stoq_endpoint *ep, const struct sockaddr_in6 *to, const stoq_packet *pkt)
{
    uint8_t out[256], id[STOQ_LOCAL_CID], token[STOQ_TOKEN_MAX];
    const stoq_version *version = stoq_version_of(pkt->version);
    endpoint_make_id(ep, id);
    stoq_cid scid = stoq_cid_of(id, sizeof id);
    size_t token_len = token_make(ep->secret, to, &pkt->dcid, &scid, ep->now_us, token);
    uint8_t *p = stoq_retry_header_write(out, version, &pkt->scid, &scid);
    memcpy(p, token, token_len);
    p += token_len;
    if (stoq_retry_tag(version, &pkt->dcid, hm_bytes_of(out, (size_t)(p - out)), p) != HM_OK)
        return;
    p += STOQ_RETRY_TAG;
    ep->stats.retries_sent++;
    send_back(ep, to, out, (size_t)(p - out));
}

static void begin_log(stoq_endpoint *ep, stoq_conn *c)
{
    if (ep->qlog_dir == NULL)
        return;
    c->log = stoq_qlog_begin(ep->qlog_dir, c);
    CONN_EVENT(c, .type = STOQ_EVENT_STARTED);
    CONN_EVENT(c, .type = STOQ_EVENT_MTU, .length = c->mtu);
}

// ---- receiving ----------------------------------------------------------------------------------

// A client's first packet; NULL when it is not to be served, or not yet.
static stoq_conn *accept_client(stoq_endpoint *ep, const struct sockaddr_in6 *from,
                                const stoq_packet *pkt)
{
    stoq_cid odcid;
    bool proven = pkt->token.len > 0 &&
                  token_check(ep->secret, from, pkt->token, &pkt->dcid, ep->now_us, &odcid);
    // Those that failed at once count too: else forged addresses would fill the table.
    uint32_t half_open = ep->stats.half_open + ep->failed;
    if (!proven && (ep->always_retry || half_open >= ep->limits.retry_from_half_open)) {
        send_retry(ep, from, pkt);
        return NULL;
    }
    stoq_conn *c;
    if (half_open >= ep->limits.max_half_open || conn_make(ep, true, from, &c) != HM_OK) {
        ep->stats.refused++;
        return NULL;
    }
    if (conn_start_server(c, pkt, proven ? &odcid : NULL, proven ? &pkt->dcid : NULL) != HM_OK) {
        ep->stats.refused++;
        conn_free(c);
        return NULL;
    }
    c->own = ep->local;
    begin_log(ep, c);
    return c;
}

static void receive(stoq_endpoint *ep, const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                    uint8_t ecn)
{
    ep->stats.datagrams_received++;
    stoq_packet pkt;
    hm_err err = stoq_packet_parse(bytes, len, &pkt);
    stoq_conn *c = NULL;
    if (err == HM_OK || err == HM_E_UNSUPPORTED) {
        if (pkt.dcid.len == STOQ_LOCAL_CID)
            c = hm_map_get(&ep->by_cid, pkt.dcid.id);
        if (c == NULL && bytes[0] & 0x80)
            c = hm_map_get(&ep->by_initial, &pkt.dcid);
    }
    if (c != NULL) {
        conn_receive(c, from, bytes, len, ecn, ep->now_us);
        return;
    }
    unsigned owner = ep->share.count > 1 && pkt.dcid.len > 0 ? pkt.dcid.id[0] % ep->share.count
                                                             : ep->share.index;
    if ((err == HM_OK || err == HM_E_UNSUPPORTED) && owner != ep->share.index) {
        ep->stats.passed_on++;
        ep->share.pass_on(ep->share.ctx, owner, ep->at_preferred, from, bytes, len, ecn);
        return;
    }
    bool full = ep->server_tls != NULL && ep->via == NULL && len >= STOQ_MIN_INITIAL;
    bool other = bytes[0] & 0x80 && (err == HM_OK || err == HM_E_UNSUPPORTED) && pkt.version != 0 &&
                 !endpoint_speaks(ep, pkt.version);
    if (other && full) {
        send_version(ep, from, &pkt);
        return;
    }
    if (err == HM_OK && pkt.type == STOQ_PACKET_INITIAL && !other && full && pkt.dcid.len >= 8) {
        c = accept_client(ep, from, &pkt);
        if (c == NULL)
            return;
        conn_receive(c, from, bytes, len, ecn, ep->now_us);
        if (c->stats.packets_received == 0) { // not what it seemed
            ep->stats.datagrams_dropped++;
            conn_free(c);
        }
        return;
    }
    if (len >= STOQ_RESET_MIN)
        c = hm_map_get(&ep->by_token, bytes + len - STOQ_RESET_TOKEN);
    if (c != NULL && c->state <= STOQ_CONN_OPEN && conn_take_reset(c, from, bytes, len))
        return;
    ep->stats.datagrams_dropped++;
    if (err == HM_OK && pkt.type == STOQ_PACKET_1RTT)
        send_reset(ep, from, &pkt.dcid, len);
}

// The length of the datagrams at the start that are 1-RTT packets for the id of the first one.
static size_t run_length(const uint8_t *bytes, size_t len, size_t segment)
{
    size_t n = 0;
    for (; n < STOQ_RUN_MAX && n * segment < len; n++) {
        const uint8_t *p = bytes + n * segment;
        if (len - n * segment < STOQ_SHORT_MIN || segment < STOQ_SHORT_MIN ||
            (p[0] & 0xc0) != 0x40 || memcmp(p + 1, bytes + 1, STOQ_LOCAL_CID) != 0)
            break;
    }
    return n * segment < len ? n * segment : len;
}

// Datagrams of one length that came together.
static void receive_all(stoq_endpoint *ep, const struct sockaddr_in6 *from, uint8_t *bytes,
                        size_t len, size_t segment, uint8_t ecn)
{
    for (size_t at = 0; at < len;) {
        size_t n = run_length(bytes + at, len - at, segment);
        stoq_conn *c = n > segment ? hm_map_get(&ep->by_cid, bytes + at + 1) : NULL;
        if (c != NULL) {
            ep->stats.datagrams_received += (n + segment - 1) / segment;
            conn_receive_run(c, from, bytes + at, n, segment, ecn, ep->now_us);
        } else {
            n = len - at < segment ? len - at : segment;
            receive(ep, from, bytes + at, n, ecn);
        }
        at += n;
    }
}

// The datagrams go: applications read what they have, and the rest is copied.
static void end_loans(stoq_endpoint *ep)
{
    while (!hm_list_empty(&ep->lending)) {
        stoq_conn *c = hm_container_of(ep->lending.next, stoq_stream, lending)->conn;
        conn_begin(c, ep->now_us);
        conn_tell(c);
        hm_list_each(it, &ep->lending)
        {
            stoq_stream *s = hm_container_of(it, stoq_stream, lending);
            if (s->conn != c)
                continue;
            hm_list_remove(it);
            if (stoq_recvbuf_settle(&s->in) != HM_OK) {
                stoq_recvbuf_skip(&s->in, s->in.ready);
                conn_fail(c, STOQ_INTERNAL_ERROR, 0, "out of memory");
            }
        }
    }
    datagrams_tell(ep);
    ep->loans.count = 0;
    early_free_list(&ep->spent);
}

static bool receive_from_socket(stoq_endpoint *ep, stoq_io *io, bool preferred, stoq_socket *via)
{
    ep->at_preferred = preferred;
    ep->via = via;
    for (int i = 0; i < RECEIVES_A_TURN; i++) {
        struct sockaddr_in6 from;
        size_t len, segment;
        uint8_t ecn;
        if (!stoq_io_receive(io, &ep->local, &from, &len, &segment, &ecn))
            return false;
        bool handshake = len > 0 && io->buffer[0] & 0x80;
        receive_all(ep, &from, io->buffer, len, segment, ecn);
        end_loans(ep);
        // A handshake's step takes long: its answer leaves before the next one's work begins, so
        // that the other side has something to do meanwhile.
        if (handshake)
            break;
    }
    return true;
}

static bool receive_from_sockets(stoq_endpoint *ep)
{
    bool more = ep->io_preferred.fd >= 0 && receive_from_socket(ep, &ep->io_preferred, true, NULL);
    hm_list_each(it, &ep->sockets)
    {
        stoq_socket *s = hm_container_of(it, stoq_socket, link);
        more |= receive_from_socket(ep, &s->io, false, s);
    }
    return receive_from_socket(ep, &ep->io, false, NULL) || more;
}

static void receive_from_net(stoq_endpoint *ep, bool preferred, stoq_socket *via,
                             const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                             size_t segment, uint8_t ecn, uint64_t now_us)
{
    hm_assert((segment > 0 || len == 0) && !ep->inside);
    ep->inside = true;
    ep->now_us = now_us;
    ep->at_preferred = preferred;
    ep->via = via;
    ep->local = (hm_udp_local){0};
    receive_all(ep, from, bytes, len, segment, ecn);
    end_loans(ep);
    ep->via = NULL;
    ep->inside = false;
}

void stoq_endpoint_receive(stoq_endpoint *ep, const struct sockaddr_in6 *from, uint8_t *bytes,
                           size_t len, size_t segment, uint8_t ecn, uint64_t now_us)
{
    receive_from_net(ep, false, NULL, from, bytes, len, segment, ecn, now_us);
}

void stoq_endpoint_receive_at(stoq_endpoint *ep, const struct sockaddr_in6 *at,
                              const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                              size_t segment, uint8_t ecn, uint64_t now_us)
{
    stoq_socket *via;
    if (socket_find(ep, at, &via)) // else it is closed
        receive_from_net(ep, false, via, from, bytes, len, segment, ecn, now_us);
}

void stoq_endpoint_receive_preferred(stoq_endpoint *ep, const struct sockaddr_in6 *from,
                                     uint8_t *bytes, size_t len, size_t segment, uint8_t ecn,
                                     uint64_t now_us)
{
    hm_assert(ep->preferred.sin6_port != 0);
    receive_from_net(ep, true, NULL, from, bytes, len, segment, ecn, now_us);
}

// ---- the turn of the loop -----------------------------------------------------------------------

static bool send_for(stoq_endpoint *ep, const stoq_conn *c, size_t len, size_t segment)
{
    return endpoint_send(ep, c->via, c->is_server && c->at_preferred, &c->own, &c->peer, ep->batch,
                         len, segment, c->ecn_mark);
}

// Tells and sends what a connection has; false when it is gone.
static bool serve(stoq_endpoint *ep, stoq_conn *c, uint64_t now)
{
    conn_begin(c, now);
    conn_tell(c);
    // What the callbacks changed is sent now, so it needs no second turn.
    hm_list_remove(&c->ready);
    conn_begin(c, now);
    bool more = true;
    for (int i = 0; i < BATCHES_A_TURN && more; i++) {
        size_t segment = 0, len = conn_send(c, ep->batch, sizeof ep->batch, now, &segment);
        more = len > 0;
        if (more && !send_for(ep, c, len, segment) && segment == c->mtu_probe)
            mtu_unsendable(c, now);
    }
    size_t probe = other_send(c, ep->batch, now);
    const stoq_other *o = c->other;
    if (probe > 0)
        (void)endpoint_send(ep, o->via, c->is_server && o->at_preferred, &c->own, &o->to, ep->batch,
                            probe, probe, 0);
    bool to_tell = !hm_list_empty(&c->telling) || !hm_list_empty(&c->ended) ||
                   (c->state >= STOQ_CONN_CLOSING && !c->told_closed);
    if (more || to_tell)
        conn_wake(c);
    if (c->state == STOQ_CONN_DEAD && c->told_closed) {
        conn_free(c);
        return false;
    }
    return true;
}

void stoq_endpoint_process(stoq_endpoint *ep, uint64_t now_us, bool readable)
{
    hm_assert(!ep->inside);
    ep->inside = true;
    ep->now_us = now_us;
    if (!ep->has_net && (readable || ep->more_to_read))
        ep->more_to_read = receive_from_sockets(ep);
    hm_heap_node *n;
    for (uint32_t i = 0; i <= ep->stats.connections; i++) {
        n = hm_heap_min(&ep->timers);
        if (n == NULL || n->key > now_us)
            break;
        conn_on_timer(hm_container_of(n, stoq_conn, timer), now_us);
    }
    uint32_t turns = 2 * ep->stats.connections + 16;
    while (!hm_list_empty(&ep->ready) && turns-- > 0) {
        stoq_conn *c = hm_container_of(ep->ready.next, stoq_conn, ready);
        hm_list_remove(&c->ready);
        if (serve(ep, c, now_us))
            conn_set_timer(c);
    }
    sockets_close_unused(ep);
    ep->inside = false;
}

uint64_t stoq_endpoint_next_timeout_us(const stoq_endpoint *ep)
{
    if (ep->more_to_read || !hm_list_empty(&ep->ready))
        return 0;
    const hm_heap_node *n = hm_heap_min(&ep->timers);
    return n != NULL ? n->key : HM_TIME_NEVER;
}

// ---- life ---------------------------------------------------------------------------------------

static void or_default(uint32_t *v, uint32_t def)
{
    if (*v == 0)
        *v = def;
}

static uint32_t power_of_two(uint32_t v)
{
    uint32_t p = 4096;
    while (p < v && p < (1u << 30))
        p *= 2;
    return p;
}

static hm_err set_limits(stoq_limits *l)
{
    or_default(&l->max_connections, 4096);
    or_default(&l->max_half_open, 256);
    or_default(&l->retry_from_half_open, 64);
    or_default(&l->max_streams_bidi, 256);
    or_default(&l->max_streams_uni, 256);
    or_default(&l->stream_window_bytes, 16 << 20);
    or_default(&l->conn_window_bytes, 24 << 20);
    or_default(&l->stream_send_bytes, 16 << 20);
    or_default(&l->max_idle_ms, 30000);
    or_default(&l->max_handshake_ms, 10000);
    or_default(&l->max_udp_payload_bytes, STOQ_UDP_MAX);
    l->stream_window_bytes = power_of_two(l->stream_window_bytes);
    l->stream_send_bytes = power_of_two(l->stream_send_bytes);
    if (l->max_udp_payload_bytes < STOQ_MIN_INITIAL || l->max_udp_payload_bytes > STOQ_UDP_MAX)
        return hm_fail(HM_E_CONFIG, "max_udp_payload_bytes: from 1200 to 65527, not %u",
                       l->max_udp_payload_bytes);
    return HM_OK;
}

static hm_err set_alpn(stoq_endpoint *ep, const char *const *names)
{
    for (int i = 0; i < STOQ_MAX_ALPN && names[i] != NULL; i++) {
        size_t len = strlen(names[i]);
        if (len == 0 || len > 255)
            return hm_fail(HM_E_CONFIG, "an ALPN name has 1 to 255 bytes");
        ep->alpn_wire[ep->alpn_len++] = (uint8_t)len;
        memcpy(ep->alpn_wire + ep->alpn_len, names[i], len);
        ep->alpn_len += len;
    }
    return ep->alpn_len > 0 ? HM_OK : hm_fail(HM_E_CONFIG, "no ALPN name");
}

static hm_err set_tickets(stoq_endpoint *ep, const stoq_config *config)
{
    uint32_t life_s = config->ticket_lifetime_s;
    or_default(&life_s, 7200);
    if (config->tickets > STOQ_TICKETS_MAX || life_s > STOQ_TICKET_LIFETIME_MAX_S)
        return hm_fail(HM_E_CONFIG, "at most %u tickets, of at most %u seconds", STOQ_TICKETS_MAX,
                       STOQ_TICKET_LIFETIME_MAX_S);
    ep->ticket_count = config->tickets;
    ep->sessions = config->sessions > 0 ? config->sessions : 1;
    if (ep->sessions > STOQ_SESSIONS_MAX)
        return hm_fail(HM_E_CONFIG, "at most %u sessions of a connection", STOQ_SESSIONS_MAX);
    if (ep->callbacks.session == NULL)
        ep->sessions = 0;
    ep->early_data = config->early_data;
    if (ep->early_data && ep->ticket_count == 0)
        return hm_fail(HM_E_CONFIG, "early data comes with tickets");
    ep->tickets.now_us = &ep->now_us;
    ep->tickets.life_us = life_s * UINT64_C(1000000);
    return HM_OK;
}

bool endpoint_speaks(const stoq_endpoint *ep, uint32_t version)
{
    for (int i = 0; i < STOQ_MAX_VERSIONS && ep->versions[i] != 0; i++)
        if (ep->versions[i] == version)
            return true;
    return false;
}

static hm_err set_versions(stoq_endpoint *ep, const uint32_t *versions)
{
    static const uint32_t all[STOQ_MAX_VERSIONS] = {STOQ_VERSION_1, STOQ_VERSION_2};
    if (versions[0] == 0)
        versions = all;
    for (int i = 0; i < STOQ_MAX_VERSIONS && versions[i] != 0; i++) {
        if (stoq_version_of(versions[i]) == NULL || endpoint_speaks(ep, versions[i]))
            return hm_fail(HM_E_CONFIG, "versions of QUIC: 0x%08x is unknown or there twice",
                           versions[i]);
        ep->versions[i] = versions[i];
    }
    return HM_OK;
}

hm_err endpoint_wait_for(stoq_endpoint *ep, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (ep->all_fd < 0)
        ep->all_fd = epoll_create1(EPOLL_CLOEXEC);
    if (ep->all_fd < 0 || epoll_ctl(ep->all_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return hm_fail(HM_E_IO, "epoll: %s", strerror(errno));
    return HM_OK;
}

// Rings of AF_XDP beside the socket, or the reason why not in the log.
static hm_err open_xdp(stoq_endpoint *ep, const char *interface)
{
    char name[64], why[512];
    if (stoq_xdp_open(interface, &ep->bound, &ep->io.xdp) != HM_OK) {
        hm_log(HM_LOG_WARN, "stoq", "no AF_XDP: the socket carries all", "interface=%s why=%s",
               hm_log_quote(name, sizeof name, hm_bytes_str(interface)),
               hm_log_quote(why, sizeof why, hm_bytes_str(hm_err_detail())));
        return HM_OK;
    }
    ep->stats.xdp_queues = stoq_xdp_queues(ep->io.xdp);
    HM_TRY(endpoint_wait_for(ep, ep->io.fd));
    for (unsigned i = 0; i < ep->stats.xdp_queues; i++)
        HM_TRY(endpoint_wait_for(ep, stoq_xdp_fd(ep->io.xdp, i)));
    return HM_OK;
}

static hm_err open_sockets(stoq_endpoint *ep, const stoq_config *config)
{
    HM_TRY(stoq_io_open(&ep->io, &config->bind, ep->share.count, ep->share.index, &ep->bound));
    if (config->xdp != NULL)
        HM_TRY(open_xdp(ep, config->xdp));
    if (ep->preferred.sin6_port == 0)
        return HM_OK;
    HM_TRY(stoq_io_open(&ep->io_preferred, &ep->preferred, ep->share.count, ep->share.index,
                        &ep->preferred));
    if (ep->io.xdp == NULL)
        HM_TRY(endpoint_wait_for(ep, ep->io.fd));
    return endpoint_wait_for(ep, ep->io_preferred.fd);
}

static hm_err set_up(stoq_endpoint *ep, const stoq_config *config)
{
    static const uint8_t zero[32];
    HM_TRY(set_limits(&ep->limits));
    HM_TRY(set_tickets(ep, config));
    HM_TRY(set_alpn(ep, config->alpn));
    HM_TRY(set_versions(ep, config->versions));
    if (memcmp(ep->secret, zero, sizeof zero) == 0)
        hm_random_fill(&ep->random, ep->secret, sizeof ep->secret);
    stoq_endpoint_set_server_tls(ep, config->server_tls);
    if (config->qlog_dir != NULL) {
        if (access(config->qlog_dir, W_OK | X_OK) != 0)
            return hm_fail(HM_E_CONFIG, "%s: %s", config->qlog_dir, strerror(errno));
        if ((ep->qlog_dir = strdup(config->qlog_dir)) == NULL)
            return HM_E_NOMEM;
        ep->on_event = stoq_qlog_event;
    }
    if (config->client_tls != NULL) {
        SSL_CTX_up_ref(config->client_tls);
        ep->client_tls = config->client_tls;
        if (ep->sessions > 0)
            stoq_tls_prepare(ep->client_tls, false);
    }
    const stoq_share *share = &ep->share;
    if (share->count > STOQ_SHARE_MAX || (share->count > 1 && share->pass_on == NULL) ||
        (share->count > 0 && share->index >= share->count))
        return hm_fail(HM_E_CONFIG, "endpoint %u of %u with one address", share->index,
                       share->count);
    if (config->xdp != NULL && (share->count > 1 || ep->has_net))
        return hm_fail(HM_E_CONFIG, "AF_XDP is for one endpoint with its own socket");
    if (!ep->has_net)
        return open_sockets(ep, config);
    hm_assert(ep->preferred.sin6_port == 0 || ep->net.send_preferred != NULL);
    ep->bound = config->bind;
    return HM_OK;
}

hm_err endpoint_create(const stoq_config *config, stoq_ticket_store *tickets, stoq_endpoint **out)
{
    *out = NULL;
    stoq_endpoint *ep = calloc(1, sizeof *ep);
    if (ep == NULL)
        return HM_E_NOMEM;
    ep->limits = config->limits;
    ep->congestion = config->congestion;
    ep->callbacks = config->callbacks;
    ep->user = config->user;
    ep->random = config->random != NULL ? *config->random : hm_random_system;
    stoq_ticket_store_init(&ep->own_tickets, &ep->random,
                           config->early_data && tickets == NULL ? STOQ_STRIKES_MAX : 0);
    ep->tickets.store = tickets != NULL ? tickets : &ep->own_tickets;
    ep->always_retry = config->always_retry;
    ep->share = config->share;
    memcpy(ep->secret, config->secret, sizeof ep->secret);
    ep->io.fd = ep->io_preferred.fd = ep->all_fd = -1;
    ep->preferred = config->preferred;
    ep->ignore_preferred = config->ignore_preferred;
    ep->has_net = config->net != NULL;
    if (ep->has_net)
        ep->net = *config->net;
    hm_list_init(&ep->conns);
    hm_list_init(&ep->ready);
    hm_list_init(&ep->sockets);
    hm_list_init(&ep->lending);
    hm_list_init(&ep->spent);
    hm_map_init(&ep->by_cid, STOQ_LOCAL_CID, 0, &ep->random);
    hm_map_init(&ep->by_initial, sizeof(stoq_cid), 0, &ep->random);
    hm_map_init(&ep->by_token, STOQ_RESET_TOKEN, 0, &ep->random);
    hm_err err = set_up(ep, config);
    if (err != HM_OK) {
        stoq_endpoint_destroy(ep);
        return err;
    }
    *out = ep;
    return HM_OK;
}

hm_err stoq_endpoint_create(const stoq_config *config, stoq_endpoint **out)
{
    return endpoint_create(config, NULL, out);
}

void stoq_endpoint_destroy(stoq_endpoint *ep)
{
    if (ep == NULL)
        return;
    while (!hm_list_empty(&ep->conns)) {
        stoq_conn *c = hm_container_of(ep->conns.next, stoq_conn, link);
        size_t segment = 0, len;
        conn_fail(c, STOQ_NO_ERROR, 0, "");
        len = conn_send(c, ep->batch, sizeof ep->batch, ep->now_us, &segment);
        if (len > 0)
            (void)send_for(ep, c, len, segment);
        if (!c->told_closed && c->close_code == STOQ_NO_ERROR && !c->close_app)
            c->close_code = STOQ_CLOSED_ENDPOINT;
        conn_tell(c);
        conn_free(c);
    }
    sockets_close_unused(ep);
    hm_map_free(&ep->by_cid);
    hm_map_free(&ep->by_initial);
    hm_map_free(&ep->by_token);
    hm_heap_free(&ep->timers);
    stoq_io_close(&ep->io);
    stoq_io_close(&ep->io_preferred);
    if (ep->all_fd >= 0)
        close(ep->all_fd);
    SSL_CTX_free(ep->server_tls);
    SSL_CTX_free(ep->client_tls);
    stoq_ticket_store_free(&ep->own_tickets);
    OPENSSL_cleanse(ep->secret, sizeof ep->secret);
    free(ep->qlog_dir);
    free(ep);
}

void stoq_endpoint_set_server_tls(stoq_endpoint *ep, SSL_CTX *tls)
{
    if (tls != NULL) {
        SSL_CTX_up_ref(tls);
        stoq_tls_prepare(tls, true);
    }
    stoq_tickets_forget(&ep->tickets); // what the new context forbids no ticket gets around
    SSL_CTX_free(ep->server_tls);
    ep->server_tls = tls;
}

int stoq_endpoint_fd(const stoq_endpoint *ep)
{
    return ep->all_fd >= 0 ? ep->all_fd : ep->io.fd;
}
void stoq_endpoint_address(const stoq_endpoint *ep, struct sockaddr_in6 *out)
{
    *out = ep->bound;
}
void *stoq_endpoint_user(const stoq_endpoint *ep)
{
    return ep->user;
}
void stoq_endpoint_get_stats(const stoq_endpoint *ep, stoq_endpoint_stats *out)
{
    *out = ep->stats;
    if (ep->io.xdp != NULL)
        stoq_xdp_counts(ep->io.xdp, &out->xdp_received, &out->xdp_sent);
}

hm_err stoq_connect(stoq_endpoint *ep, const struct sockaddr_in6 *to, const char *server_name,
                    const char *alpn, void *user, stoq_conn **out)
{
    return endpoint_connect(ep, to, server_name, alpn, NULL, false, -1, user, out);
}

hm_err stoq_connect_beside(stoq_endpoint *ep, const stoq_conn *first, const struct sockaddr_in6 *to,
                           const char *server_name, void *user, stoq_conn **out)
{
    return endpoint_connect(ep, to, server_name, stoq_conn_alpn(first), NULL, false,
                            first->original_dcid.id[0], user, out);
}

hm_err endpoint_connect(stoq_endpoint *ep, const struct sockaddr_in6 *to, const char *server_name,
                        const char *alpn, const stoq_session *session, bool early, int beside,
                        void *user, stoq_conn **out)
{
    *out = NULL;
    if (ep->client_tls == NULL)
        return hm_fail(HM_E_CONFIG, "this endpoint makes no outgoing connections");
    stoq_conn *c;
    HM_TRY(conn_make(ep, false, to, &c));
    c->user = user;
    c->beside = beside;
    hm_err err = conn_start_client(c, server_name, alpn, session, early);
    if (err != HM_OK) {
        conn_free(c);
        return err;
    }
    begin_log(ep, c);
    *out = c;
    return HM_OK;
}
