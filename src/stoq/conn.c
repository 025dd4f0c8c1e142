// The life of a connection: identities, the handshake, timers, the end.
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "stoq/endpoint.h"

#define NOT_STARTED UINT64_MAX
#define CIDS_GIVEN 3 // connection ids that the peer holds of ours, if it takes so many
#define ALERT_MISSING_EXTENSION 109
#define ALERT_NO_APPLICATION_PROTOCOL 120

const stoq_limits *conn_limits(const stoq_conn *c)
{
    return &c->ep->limits;
}
uint32_t conn_stream_window(const stoq_conn *c)
{
    uint32_t limit = c->ep->limits.stream_window_bytes;
    return limit < STOQ_STREAM_WINDOW ? limit : STOQ_STREAM_WINDOW;
}
const stoq_callbacks *conn_callbacks(const stoq_conn *c)
{
    return &c->ep->callbacks;
}
void *conn_endpoint_user(const stoq_conn *c)
{
    return c->ep->user;
}

void conn_wake(stoq_conn *c)
{
    if (hm_list_empty(&c->ready))
        hm_list_append(&c->ep->ready, &c->ready);
}

void conn_event(const stoq_conn *c, const stoq_event *e)
{
    c->ep->on_event(c->log, c, e);
}

// ---- TLS ----------------------------------------------------------------------------------------

static hm_err host_send(void *ctx, stoq_level level, hm_bytes data)
{
    stoq_conn *c = ctx;
    stoq_sendbuf *b = &c->spaces[level].crypto_out;
    if (c->spaces[level].discarded)
        return HM_OK;
    if (data.len > stoq_sendbuf_room(b))
        return hm_fail(HM_E_LIMIT, "the handshake is longer than %u bytes", STOQ_CRYPTO_WINDOW);
    conn_wake(c);
    return stoq_sendbuf_append(b, data);
}

static hm_bytes host_peek(void *ctx, stoq_level level)
{
    const stoq_conn *c = ctx;
    return stoq_recvbuf_peek(&c->spaces[level].crypto_in);
}

static void host_consume(void *ctx, stoq_level level, size_t n)
{
    stoq_conn *c = ctx;
    stoq_recvbuf_consume(&c->spaces[level].crypto_in, n);
}

static hm_err host_secret(void *ctx, stoq_level level, bool seal, hm_aead_cipher cipher,
                          hm_bytes secret)
{
    stoq_conn *c = ctx;
    stoq_space *s = &c->spaces[level];
    if (seal && level == STOQ_LEVEL_APP && c->early_tx) {
        c->early_tx = false;
        stoq_keys_free(&s->tx);
        c->one_rtt_pn = c->tx_phase_first_pn = s->next_pn;
    }
    HM_TRY(stoq_keys_init(seal ? &s->tx : &s->rx, c->version, cipher, secret.ptr, secret.len));
    CONN_EVENT(c, .type = STOQ_EVENT_KEYS, .local = seal,
               .packet = level == STOQ_LEVEL_APP ? STOQ_PACKET_1RTT : STOQ_PACKET_HANDSHAKE,
               .why = "tls");
    return HM_OK;
}

static hm_err host_early_secret(void *ctx, bool seal, hm_aead_cipher cipher, hm_bytes secret)
{
    return early_on_secret(ctx, seal, cipher, secret);
}

static void host_session(void *ctx, SSL_SESSION *s)
{
    session_on_ticket(ctx, s);
}

static const stoq_tls_host tls_host = {host_send,         host_peek,      host_consume, host_secret,
                                       host_early_secret, conn_on_params, host_session};

static hm_err start_tls(stoq_conn *c, SSL_CTX *ctx, stoq_tls_config *config)
{
    uint8_t mem[STOQ_TRANSPORT_PARAMS_MAX];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    HM_TRY(conn_encode_params(c, &b));
    config->params = hm_buf_bytes(&b);
    config->version = c->version->number;
    return stoq_tls_init(&c->tls, ctx, config);
}

static void end_half_open(stoq_conn *c)
{
    if (c->counted_half_open)
        c->ep->stats.half_open--;
    c->counted_half_open = false;
}

bool conn_learn_names(stoq_conn *c)
{
    SSL *ssl = c->tls.ssl;
    const unsigned char *name;
    unsigned len;
    if (!c->has_params) {
        conn_fail(c, STOQ_CRYPTO_ERROR + ALERT_MISSING_EXTENSION, STOQ_FRAME_CRYPTO,
                  "no transport parameters");
        return false;
    }
    SSL_get0_alpn_selected(ssl, &name, &len);
    if (len == 0) {
        conn_fail(c, STOQ_CRYPTO_ERROR + ALERT_NO_APPLICATION_PROTOCOL, STOQ_FRAME_CRYPTO,
                  "no application protocol in common");
        return false;
    }
    if (c->alpn == NULL && (c->alpn = calloc(1, len + 1)) == NULL) {
        conn_fail(c, STOQ_INTERNAL_ERROR, STOQ_FRAME_CRYPTO, "no memory");
        return false;
    }
    memcpy(c->alpn, name, len);
    const char *group = SSL_group_to_name(ssl, SSL_get_negotiated_group(ssl));
    snprintf(c->group, sizeof c->group, "%s", group != NULL ? group : "");
    c->cipher = SSL_get_cipher_name(ssl);
    return true;
}

static void on_handshake_complete(stoq_conn *c)
{
    if (!conn_learn_names(c))
        return;
    c->peer_cert = SSL_get1_peer_certificate(c->tls.ssl);
    if (session_on_complete(c) != HM_OK) {
        conn_fail(c, STOQ_INTERNAL_ERROR, 0, hm_err_detail());
        return;
    }
    c->handshake_complete = true;
    c->state = STOQ_CONN_OPEN;
    CONN_EVENT(c, .type = STOQ_EVENT_OPEN);
    end_half_open(c);
    early_on_complete(c, c->ep->now_us);
    // A server may change keys before its client knows that the handshake is confirmed.
    if (conn_prepare_rx_next(c) != HM_OK)
        conn_fail(c, STOQ_INTERNAL_ERROR, 0, "no keys for the next phase");
    for (uint64_t i = c->next_local_seq; i < CIDS_GIVEN && i < c->theirs.active_cid_limit; i++)
        if (conn_new_local_cid(c) != HM_OK)
            break; // fewer will do
    if (c->is_server) {
        c->done_pending = true;
        c->address_validated = true;
        conn_confirmed(c);
    }
    conn_touch_idle(c, c->ep->now_us);
    conn_wake(c);
}

void conn_tls_advance(stoq_conn *c)
{
    if (c->state > STOQ_CONN_OPEN)
        return;
    if (stoq_tls_advance(&c->tls) != HM_OK) {
        conn_fail(c, STOQ_CRYPTO_ERROR + c->tls.alert, STOQ_FRAME_CRYPTO, hm_err_detail());
        return;
    }
    if (c->tls.complete && !c->handshake_complete)
        on_handshake_complete(c);
    else if (c->is_server && c->early == STOQ_EARLY_ACCEPTED && !c->told_open &&
             conn_learn_names(c))
        conn_wake(c);
    conn_tls_end(c);
}

hm_err conn_prepare_rx_next(stoq_conn *c)
{
    HM_TRY(stoq_keys_next(&c->spaces[STOQ_LEVEL_APP].rx, &c->rx_next));
    c->has_rx_next = true;
    return HM_OK;
}

void conn_discard_space(stoq_conn *c, stoq_level level)
{
    stoq_space *s = &c->spaces[level];
    if (s->discarded)
        return;
    s->discarded = true;
    loss_discard(c, level);
    stoq_keys_free(&s->rx);
    stoq_keys_free(&s->tx);
    stoq_sendbuf_free(&s->crypto_out);
    stoq_recvbuf_free(&s->crypto_in);
    if (level == STOQ_LEVEL_INITIAL && c->original_rx != NULL) {
        stoq_keys_free(c->original_rx);
        free(c->original_rx);
        c->original_rx = NULL;
    }
    s->ack_now = false;
    s->ack_deadline_us = 0;
    s->unacked = 0;
}

void conn_confirmed(stoq_conn *c)
{
    if (c->confirmed)
        return;
    if (!c->handshake_complete) {
        conn_fail(c, STOQ_PROTOCOL_VIOLATION, STOQ_FRAME_HANDSHAKE_DONE, "too early");
        return;
    }
    c->confirmed = true;
    c->peer_may_be_blocked = false;
    conn_discard_space(c, STOQ_LEVEL_INITIAL);
    conn_discard_space(c, STOQ_LEVEL_HANDSHAKE);
    conn_tls_end(c);
    preferred_begin(c);
    conn_wake(c);
}

// ---- beginning and end --------------------------------------------------------------------------

void conn_init_space(stoq_space *s)
{
    *s = (stoq_space){.largest_acked = UINT64_MAX, .largest_received = UINT64_MAX};
    stoq_sendbuf_init(&s->crypto_out, STOQ_CRYPTO_WINDOW);
    stoq_recvbuf_init(&s->crypto_in, STOQ_CRYPTO_WINDOW);
}

hm_err conn_make(stoq_endpoint *ep, bool is_server, const struct sockaddr_in6 *peer,
                 stoq_conn **out)
{
    *out = NULL;
    if (ep->stats.connections >= ep->limits.max_connections)
        return hm_fail(HM_E_LIMIT, "%u connections are open", ep->stats.connections);
    stoq_conn *c = calloc(1, sizeof *c);
    if (c == NULL)
        return HM_E_NOMEM;
    const stoq_limits *l = &ep->limits;
    c->ep = ep;
    c->is_server = is_server;
    c->peer = *peer;
    c->created_us = is_server ? ep->now_us : NOT_STARTED;
    c->cipher = "";
    c->beside = -1;
    c->tls = (stoq_tls){.host = &tls_host, .ctx = c, .is_server = is_server};
    hm_list_init(&c->ready);
    hm_list_init(&c->held);
    hm_list_init(&c->datagrams);
    hm_list_init(&c->sending);
    hm_list_init(&c->telling);
    hm_list_init(&c->ended);
    hm_map_init(&c->streams, sizeof(uint64_t), 0, &ep->random);
    stoq_transport_params_default(&c->theirs);
    for (int i = 0; i < STOQ_LEVELS; i++)
        conn_init_space(&c->spaces[i]);
    c->version = c->original = stoq_version_of(ep->versions[0]);
    stoq_cc_init(&c->cc, ep->congestion, STOQ_MIN_INITIAL, hm_random_u64(&ep->random));
    mtu_begin(c);
    ack_init(c);
    c->skipped_pn = UINT64_MAX;
    stoq_window_init(&c->rx, STOQ_CONN_WINDOW, l->conn_window_bytes, ep->now_us);
    c->peer_streams_limit[0] = l->max_streams_bidi;
    c->peer_streams_limit[1] = l->max_streams_uni;
    hm_list_append(&ep->conns, &c->link);
    ep->stats.connections++;
    // The timer stays in the heap for the connection's life, so that setting it cannot fail.
    hm_err err = hm_heap_set(&ep->timers, &c->timer, HM_TIME_NEVER);
    if (err == HM_OK)
        err = conn_new_local_cid(c);
    if (err != HM_OK) {
        conn_free(c);
        return err;
    }
    *out = c;
    return HM_OK;
}

hm_err conn_start_server(stoq_conn *c, const stoq_packet *first, const stoq_cid *odcid,
                         const stoq_cid *retry_scid)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    c->version = c->original = stoq_version_of(first->version);
    c->initial_dcid = first->dcid;
    c->original_dcid = odcid != NULL ? *odcid : first->dcid;
    c->has_retry = retry_scid != NULL;
    if (retry_scid != NULL)
        c->retry_scid = *retry_scid;
    c->address_validated = retry_scid != NULL;
    c->has_peer_scid = true;
    c->peer_initial_scid = first->scid;
    c->remote[0] = (stoq_peer_cid){.cid = first->scid, .active = true};
    c->counted_half_open = true;
    c->ep->stats.half_open++;
    c->at_preferred = c->ep->at_preferred;
    if (c->ep->preferred.sin6_port != 0 && !c->at_preferred) { // the parameters tell its id
        HM_TRY(conn_new_local_cid(c));
        c->local[1].to_send = c->ids_to_send = false;
    }
    HM_TRY(hm_map_put(&c->ep->by_initial, &c->initial_dcid, c));
    HM_TRY(stoq_keys_init_initial(&s->rx, &s->tx, c->version, &c->initial_dcid));
    stoq_tls_config config = {.alpn_wire = hm_bytes_of(c->ep->alpn_wire, c->ep->alpn_len),
                              .tickets = c->ep->ticket_count > 0 ? &c->ep->tickets : NULL,
                              .ticket_count = c->ep->ticket_count,
                              .early = c->ep->early_data};
    return start_tls(c, c->ep->server_tls, &config);
}

hm_err conn_start_client(stoq_conn *c, const char *server_name, const char *alpn,
                         const stoq_session *session, bool early)
{
    if (server_name != NULL && (c->server_name = strdup(server_name)) == NULL)
        return HM_E_NOMEM;
    c->address_validated = true;
    c->peer_may_be_blocked = true;
    if (alpn != NULL) {
        size_t len = strlen(alpn);
        if (len == 0 || len > 255)
            return hm_fail(HM_E_CONFIG, "an ALPN name has 1 to 255 bytes");
        uint8_t prefix = (uint8_t)len;
        hm_buf_append(&c->client_alpn, &prefix, 1);
        hm_buf_append(&c->client_alpn, alpn, len);
        HM_TRY(hm_buf_status(&c->client_alpn));
    }
    c->proven_s = session != NULL ? session->proven_s : 0;
    const stoq_version *version =
        session != NULL ? stoq_version_of(session->params.chosen_version) : c->version;
    return conn_first_flight(c, version, session, early);
}

hm_err conn_first_flight(stoq_conn *c, const stoq_version *version, const stoq_session *session,
                         bool early)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    uint8_t id[STOQ_LOCAL_CID];
    hm_random_fill(&c->ep->random, id, sizeof id);
    if (c->beside >= 0)
        id[0] = (uint8_t)c->beside;
    c->version = c->original = version;
    c->initial_dcid = c->original_dcid = stoq_cid_of(id, sizeof id);
    c->remote[0] = (stoq_peer_cid){.cid = c->initial_dcid, .active = true};
    stoq_tls_config config = {.server_name = c->server_name,
                              .alpn_wire = c->client_alpn.len > 0
                                               ? hm_buf_bytes(&c->client_alpn)
                                               : hm_bytes_of(c->ep->alpn_wire, c->ep->alpn_len),
                              .sessions = c->ep->sessions,
                              .session = session != NULL ? session->tls : NULL,
                              .early = early};
    HM_TRY(stoq_keys_init_initial(&s->tx, &s->rx, c->version, &c->initial_dcid));
    HM_TRY(start_tls(c, c->ep->client_tls, &config));
    hm_err err = stoq_tls_advance(&c->tls);
    if (c->early == STOQ_EARLY_OFFERED)
        early_begin(c, &session->params);
    conn_wake(c);
    return err;
}

void conn_free(stoq_conn *c)
{
    stoq_endpoint *ep = c->ep;
    CONN_EVENT(c, .type = STOQ_EVENT_END);
    c->log = NULL;
    end_half_open(c);
    ep->failed -= c->counted_failed;
    streams_close_all(c);
    hm_zero(c->exported, sizeof c->exported);
    datagrams_free(c);
    hm_map_free(&c->streams);
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++)
        if (c->local[i].active)
            (void)hm_map_remove(&ep->by_cid, c->local[i].cid.id);
    for (unsigned i = 0; i < STOQ_RETIRED_MAX && i < c->retired_count; i++)
        (void)hm_map_remove(&ep->by_cid, c->retired[i]);
    c->remote[c->remote_at].active = false;
    conn_watch_token(c);
    if (c->is_server && hm_map_get(&ep->by_initial, &c->initial_dcid) == c)
        (void)hm_map_remove(&ep->by_initial, &c->initial_dcid);
    hm_list_remove(&c->link);
    hm_list_remove(&c->ready);
    hm_heap_remove(&ep->timers, &c->timer);
    ep->stats.connections--;
    for (int i = 0; i < STOQ_LEVELS; i++)
        conn_discard_space(c, i);
    stoq_aead_free(&c->rx_next);
    stoq_aead_free(&c->rx_old);
    stoq_tls_end(&c->tls);
    X509_free(c->peer_cert);
    hm_buf_free(&c->token);
    hm_buf_free(&c->client_alpn);
    free(c->alpn);
    free(c->proven);
    sessions_free(c);
    early_free(c);
    free(c->server_name);
    other_free(c);
    socket_give_back(c->via);
    free(c);
}

static void set_end(stoq_conn *c, uint64_t code, bool app, hm_bytes reason)
{
    c->close_code = code;
    c->close_app = app;
    c->close_reason_len = reason.len < STOQ_REASON_MAX ? reason.len : STOQ_REASON_MAX;
    if (c->close_reason_len > 0)
        memcpy(c->close_reason, reason.ptr, c->close_reason_len);
    CONN_EVENT(c, .type = STOQ_EVENT_CLOSED, .local = c->state == STOQ_CONN_CLOSING);
}

static void begin_closing(stoq_conn *c, uint64_t code, bool app, uint64_t frame, hm_bytes reason)
{
    if (c->state >= STOQ_CONN_CLOSING)
        return;
    c->state = STOQ_CONN_CLOSING;
    set_end(c, code, app, reason);
    c->close_frame = frame;
    c->close_pending = true;
    conn_wake(c);
}

void conn_fail(stoq_conn *c, uint64_t code, uint64_t frame, const char *reason)
{
    begin_closing(c, code, false, frame, hm_bytes_str(reason));
}

void conn_drain(stoq_conn *c, uint64_t code, bool app, hm_bytes reason)
{
    if (c->state < STOQ_CONN_CLOSING)
        set_end(c, code, app, reason);
    c->state = STOQ_CONN_DRAINING;
    c->close_pending = false;
    conn_wake(c);
}

hm_err stoq_conn_why(const stoq_conn *c)
{
    if (c->tls.failed)
        return c->tls.why;
    if (c->close_code == STOQ_CLOSED_IDLE)
        return HM_E_TIMEOUT;
    if (c->state != STOQ_CONN_CLOSING)
        return HM_E_CLOSED;
    return c->close_app || c->close_code == STOQ_CLOSED_ENDPOINT ? HM_OK : HM_E_STOQ_TRANSPORT;
}

void conn_tell(stoq_conn *c)
{
    stoq_endpoint *ep = c->ep;
    const stoq_callbacks *cb = &ep->callbacks;
    bool open = c->handshake_complete || (c->is_server && c->early == STOQ_EARLY_ACCEPTED);
    if (open && !c->told_open && c->alpn != NULL) {
        c->told_open = true;
        ep->stats.accepted += c->is_server;
        if (cb->conn_open != NULL)
            cb->conn_open(ep->user, c);
    }
    if (c->session_count > 0 && c->told_open && !c->told_closed)
        sessions_tell(c);
    if (c->move != STOQ_MOVE_NONE && c->state == STOQ_CONN_OPEN) {
        bool moved = c->move == STOQ_MOVE_DONE;
        c->move = STOQ_MOVE_NONE;
        if (cb->conn_moved != NULL)
            cb->conn_moved(ep->user, c, moved);
    }
    // What arrived before the peer closed is still given to the application.
    if (c->told_open && !c->told_closed && c->state != STOQ_CONN_CLOSING)
        streams_tell(c);
    if (c->state < STOQ_CONN_CLOSING || c->told_closed)
        return;
    c->told_closed = true;
    if (c->counted_half_open) {
        end_half_open(c);
        c->counted_failed = true;
        ep->failed++;
    }
    if (c->told_open)
        ep->stats.closed++;
    else
        ep->stats.handshake_failed++;
    streams_close_all(c);
    if (!c->told_open && c->is_server && cb->conn_failed != NULL)
        cb->conn_failed(ep->user, c, stoq_conn_why(c), c->close_code,
                        hm_bytes_of(c->close_reason, c->close_reason_len));
    if ((c->told_open || !c->is_server) && cb->conn_closed != NULL)
        cb->conn_closed(ep->user, c, c->close_code, c->close_app,
                        hm_bytes_of(c->close_reason, c->close_reason_len));
}

// ---- timers -------------------------------------------------------------------------------------

void conn_begin(stoq_conn *c, uint64_t now)
{
    if (c->created_us == NOT_STARTED)
        c->created_us = now;
    if (c->state == STOQ_CONN_CLOSING || c->state == STOQ_CONN_DRAINING) {
        // Three probe timeouts (section 10.2), in which late packets meet somebody who knows them.
        if (c->close_until_us == 0)
            c->close_until_us = now + 3 * conn_pto_us(c, STOQ_LEVEL_APP);
    }
}

void conn_touch_idle(stoq_conn *c, uint64_t now)
{
    uint64_t ours = c->ep->limits.max_idle_ms, theirs = c->theirs.max_idle_timeout_ms;
    uint64_t idle = (theirs != 0 && theirs < ours ? theirs : ours) * 1000;
    uint64_t least = 3 * conn_pto_us(c, STOQ_LEVEL_APP);
    c->idle_at_us = now + (idle > least ? idle : least);
}

static uint64_t handshake_deadline(const stoq_conn *c)
{
    if (c->handshake_complete || c->created_us == NOT_STARTED)
        return HM_TIME_NEVER;
    return c->created_us + (uint64_t)c->ep->limits.max_handshake_ms * 1000;
}

static void earlier(uint64_t *at, uint64_t t)
{
    if (t != 0 && t < *at)
        *at = t;
}

void conn_set_timer(stoq_conn *c)
{
    uint64_t at = HM_TIME_NEVER;
    if (c->state >= STOQ_CONN_CLOSING) {
        earlier(&at, c->close_until_us);
    } else {
        stoq_level level;
        bool is_pto;
        earlier(&at, loss_timer_us(c, &level, &is_pto));
        earlier(&at, loss_shrink_us(c));
        for (int i = 0; i < STOQ_LEVELS; i++)
            earlier(&at, c->spaces[i].ack_deadline_us);
        earlier(&at, c->pace_wait_us);
        earlier(&at, c->idle_at_us);
        earlier(&at, handshake_deadline(c));
        earlier(&at, c->challenge_until_us);
        if (c->other != NULL)
            earlier(&at, c->other->until_us);
    }
    hm_assert(hm_heap_set(&c->ep->timers, &c->timer, at) == HM_OK);
}

void conn_on_timer(stoq_conn *c, uint64_t now)
{
    if (c->state >= STOQ_CONN_CLOSING) {
        if (c->close_until_us != 0 && c->close_until_us <= now) {
            c->state = STOQ_CONN_DEAD;
            conn_wake(c);
        }
    } else if ((c->idle_at_us != 0 && c->idle_at_us <= now) || handshake_deadline(c) <= now) {
        bool open = c->handshake_complete;
        conn_drain(c, STOQ_CLOSED_IDLE, false,
                   hm_bytes_str(open ? "nothing came from the peer" : "handshake timeout"));
        c->close_until_us = now;
    } else {
        for (int i = 0; i < STOQ_LEVELS; i++) {
            stoq_space *s = &c->spaces[i];
            if (s->ack_deadline_us == 0 || s->ack_deadline_us > now)
                continue;
            s->ack_now = true;
            s->ack_deadline_us = 0;
            conn_wake(c);
        }
        loss_on_timer(c, now);
        if (c->pace_wait_us != 0 && c->pace_wait_us <= now) {
            c->pace_wait_us = 0;
            conn_wake(c);
        }
        path_on_timer(c, now);
        if (c->rx_old.key != NULL && c->rx_old_until_us <= now)
            stoq_aead_free(&c->rx_old);
        if (c->early_rx_until_us != 0 && c->early_rx_until_us <= now)
            early_forget_keys(c);
    }
    conn_set_timer(c);
}

// ---- the application's calls --------------------------------------------------------------------

void stoq_conn_close(stoq_conn *c, uint64_t app_code, const char *reason)
{
    begin_closing(c, app_code, true, 0, hm_bytes_str(reason != NULL ? reason : ""));
}

bool stoq_conn_is_open(const stoq_conn *c)
{
    return c->state == STOQ_CONN_OPEN;
}
bool stoq_conn_is_confirmed(const stoq_conn *c)
{
    return c->confirmed;
}
bool stoq_conn_is_server(const stoq_conn *c)
{
    return c->is_server;
}
stoq_endpoint *stoq_conn_endpoint(stoq_conn *c)
{
    return c->ep;
}
void *stoq_conn_user(const stoq_conn *c)
{
    return c->user;
}
void stoq_conn_set_user(stoq_conn *c, void *user)
{
    c->user = user;
}
bool stoq_conn_resumed(const stoq_conn *c)
{
    return c->resumed;
}
stoq_early stoq_conn_early(const stoq_conn *c)
{
    return c->early;
}
X509 *stoq_conn_peer_cert(const stoq_conn *c)
{
    return c->peer_cert;
}
const char *stoq_conn_alpn(const stoq_conn *c)
{
    return c->alpn != NULL ? c->alpn : "";
}
const char *stoq_conn_group(const stoq_conn *c)
{
    return c->group;
}
const char *stoq_conn_cipher(const stoq_conn *c)
{
    return c->cipher;
}
uint32_t stoq_conn_version(const stoq_conn *c)
{
    return c->version->number;
}
void stoq_conn_peer_address(const stoq_conn *c, struct sockaddr_in6 *out)
{
    *out = c->peer;
}
void stoq_conn_local_address(const stoq_conn *c, struct sockaddr_in6 *out)
{
    *out = c->via != NULL                    ? c->via->bound
           : c->is_server && c->at_preferred ? c->ep->preferred
                                             : c->ep->bound;
    if (!IN6_IS_ADDR_UNSPECIFIED(&c->own.info.ipi6_addr) && !c->at_preferred) {
        out->sin6_addr = c->own.info.ipi6_addr;
        out->sin6_scope_id = c->own.info.ipi6_ifindex;
    }
}

void stoq_conn_get_stats(const stoq_conn *c, stoq_conn_stats *out)
{
    *out = c->stats;
    out->rtt_us = c->rtt_smooth_us;
    out->rtt_var_us = c->rtt_var_us;
    out->min_rtt_us = c->rtt_min_us;
    out->cwnd_bytes = c->cc.cwnd;
    out->in_flight_bytes = c->cc.in_flight;
    out->pacing_bytes_s = c->cc.pacing_bytes_s;
    out->congestion = c->cc.algorithm->name;
    out->ecn = c->ecn.state == STOQ_ECN_CAPABLE;
    out->key_updates = c->key_updates;
    out->mtu_bytes = c->mtu;
    out->at_preferred = c->at_preferred;
}

uint64_t stoq_conn_window(const stoq_conn *c)
{
    return c->cc.cwnd;
}

hm_err stoq_conn_update_keys(stoq_conn *c)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_APP];
    if (c->state > STOQ_CONN_OPEN)
        return hm_fail(HM_E_CLOSED, "the connection is closed");
    if (!c->confirmed || !conn_keys_acked(c) || c->phase_tx != c->phase_rx)
        return hm_fail(HM_E_AGAIN, "a handshake or key update is under way");
    HM_TRY(stoq_keys_update(&s->tx, NULL));
    c->phase_tx = !c->phase_tx;
    c->tx_phase_first_pn = s->next_pn;
    CONN_EVENT(c, .type = STOQ_EVENT_KEYS, .local = true, .packet = STOQ_PACKET_1RTT,
               .phase = c->key_updates + 1, .why = "local_update");
    stoq_conn_ping(c); // the peer follows on the next packet
    return HM_OK;
}

void stoq_conn_ping(stoq_conn *c)
{
    c->ping_pending = true;
    conn_wake(c);
}
