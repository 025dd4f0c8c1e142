// Sessions: what a client keeps of a connection for the next one, and early data (0-RTT), which the
// next one may begin with.
#include <stdlib.h>

#include "base/clock.h"
#include "stoq/endpoint.h"

// Certificates and tickets have their times of the day.
static uint64_t wall_s(void)
{
    return hm_clock_wall_ms(&hm_clock_system) / 1000;
}

void conn_tls_end(stoq_conn *c)
{
    if (c->confirmed && c->tls.sessions_wanted == 0)
        stoq_tls_end(&c->tls);
}

hm_err session_on_complete(stoq_conn *c)
{
    static const char label[] = "EXPORTER-hypermesh-stoq";
    c->resumed = SSL_session_reused(c->tls.ssl) == 1;
    c->ep->stats.resumed += c->is_server && c->resumed;
    if (!c->resumed)
        c->proven_s = wall_s();
    if (SSL_export_keying_material(c->tls.ssl, c->exported, sizeof c->exported, label,
                                   sizeof label - 1, NULL, 0, 0) != 1)
        return hm_fail(HM_E_STOQ_TLS, "no exporter");
    return HM_OK;
}

hm_err stoq_conn_export(const stoq_conn *c, uint8_t out[STOQ_EXPORT_BYTES])
{
    if (!c->handshake_complete)
        return hm_fail(HM_E_AGAIN, "the handshake is not complete");
    memcpy(out, c->exported, sizeof c->exported);
    return HM_OK;
}

void session_on_ticket(stoq_conn *c, SSL_SESSION *tls)
{
    stoq_session s = {.tls = tls,
                      .proven_s = c->proven_s,
                      .server_name = hm_bytes_str(c->server_name != NULL ? c->server_name : ""),
                      .alpn = hm_bytes_str(c->alpn),
                      .params = c->theirs};
    s.params.chosen_version = c->version->number;
    uint32_t early = SSL_SESSION_get_max_early_data(tls);
    if (early != 0 && early != UINT32_MAX) { // RFC 9001, section 4.6.1
        conn_fail(c, STOQ_PROTOCOL_VIOLATION, STOQ_FRAME_CRYPTO, "a ticket for some early data");
        return;
    }
    if (c->sessions == NULL)
        c->sessions = calloc(STOQ_SESSIONS_MAX, sizeof *c->sessions);
    if (c->sessions == NULL || c->session_count == STOQ_SESSIONS_MAX)
        return;
    hm_buf *b = &c->sessions[c->session_count];
    if (stoq_session_encode(&s, b) == HM_OK)
        c->session_count++;
    else
        hm_buf_free_secret(b); // it is gone, and the next connection takes a whole handshake
    conn_wake(c);
}

void sessions_tell(stoq_conn *c)
{
    const stoq_callbacks *cb = conn_callbacks(c);
    for (unsigned i = 0; i < c->session_count; i++)
        cb->session(conn_endpoint_user(c), c, hm_buf_bytes(&c->sessions[i]));
    sessions_free(c);
}

void sessions_free(stoq_conn *c)
{
    for (unsigned i = 0; i < c->session_count; i++)
        hm_buf_free_secret(&c->sessions[i]);
    free(c->sessions);
    c->sessions = NULL;
    c->session_count = 0;
}

// ---- early data ---------------------------------------------------------------------------------

void early_free_list(hm_list *held)
{
    while (!hm_list_empty(held)) {
        stoq_held *h = hm_container_of(held->next, stoq_held, link);
        hm_list_remove(&h->link);
        free(h);
    }
}

static void free_held(stoq_conn *c)
{
    early_free_list(&c->held);
    c->held_count = 0;
    c->held_bytes = 0;
}

hm_err early_on_secret(stoq_conn *c, bool seal, hm_aead_cipher cipher, hm_bytes secret)
{
    stoq_keys *k = seal ? &c->spaces[STOQ_LEVEL_APP].tx : calloc(1, sizeof *k);
    if (k == NULL)
        return HM_E_NOMEM;
    if (!seal)
        c->early_rx = k;
    HM_TRY(stoq_keys_init(k, c->original, cipher, secret.ptr, secret.len));
    c->early_tx = seal;
    c->early = seal ? STOQ_EARLY_OFFERED : STOQ_EARLY_ACCEPTED;
    c->ep->stats.early += !seal;
    return HM_OK;
}

void early_begin(stoq_conn *c, const stoq_transport_params *remembered)
{
    c->theirs = *remembered;
    c->tx_max = remembered->max_data;
    c->streams_allowed[0] = remembered->max_streams_bidi;
    c->streams_allowed[1] = remembered->max_streams_uni;
}

// RFC 9000, section 7.4.1, and RFC 9221, section 3.
static bool keeps_word(const stoq_transport_params *old, const stoq_transport_params *p)
{
    return p->max_data >= old->max_data &&
           p->max_stream_data_bidi_local >= old->max_stream_data_bidi_local &&
           p->max_stream_data_bidi_remote >= old->max_stream_data_bidi_remote &&
           p->max_stream_data_uni >= old->max_stream_data_uni &&
           p->max_streams_bidi >= old->max_streams_bidi &&
           p->max_streams_uni >= old->max_streams_uni &&
           p->active_cid_limit >= old->active_cid_limit &&
           p->max_datagram_frame_bytes >= old->max_datagram_frame_bytes;
}

hm_err early_on_params(stoq_conn *c, const stoq_transport_params *p)
{
    if (stoq_tls_early_accepted(&c->tls)) {
        c->early = STOQ_EARLY_ACCEPTED;
        if (keeps_word(&c->theirs, p))
            return HM_OK;
        conn_fail(c, STOQ_PROTOCOL_VIOLATION, STOQ_FRAME_CRYPTO,
                  "early data under limits that are lower now");
        return hm_fail(HM_E_STOQ_TRANSPORT, "early data under limits that are lower now");
    }
    early_reject(c);
    return HM_OK;
}

// None of it was taken (RFC 9001, section 4.6.2): all is sent again once there are keys.
void early_reject(stoq_conn *c)
{
    if (c->early != STOQ_EARLY_OFFERED)
        return;
    c->early = STOQ_EARLY_REJECTED;
    c->early_tx = false;
    stoq_keys_free(&c->spaces[STOQ_LEVEL_APP].tx);
    loss_discard(c, STOQ_LEVEL_APP);
    c->one_rtt_pn = c->tx_phase_first_pn = c->spaces[STOQ_LEVEL_APP].next_pn;
    streams_rewind(c);
}

void early_on_complete(stoq_conn *c, uint64_t now)
{
    free_held(c);
    // Packets that are late are opened for a while (RFC 9001, section 4.9.3).
    if (c->early_rx != NULL)
        c->early_rx_until_us = now + 3 * conn_pto_us(c, STOQ_LEVEL_APP);
}

bool early_hold(stoq_conn *c, const struct sockaddr_in6 *from, hm_bytes packet, uint8_t ecn)
{
    // With the client's parameters comes what decides.
    if (!c->ep->early_data || c->has_params || c->held_count == STOQ_HELD_MAX ||
        c->held_bytes + packet.len > STOQ_HELD_BYTES)
        return false;
    stoq_held *h = malloc(sizeof *h + packet.len);
    if (h == NULL)
        return false;
    h->from = *from;
    h->ecn = ecn;
    h->len = packet.len;
    memcpy(h->bytes, packet.ptr, packet.len);
    hm_list_init(&h->link);
    hm_list_append(&c->held, &h->link);
    c->held_count++;
    c->held_bytes += packet.len;
    return true;
}

void early_forget_keys(stoq_conn *c)
{
    if (c->early_rx != NULL)
        stoq_keys_free(c->early_rx);
    free(c->early_rx);
    c->early_rx = NULL;
}

void early_free(stoq_conn *c)
{
    free_held(c);
    early_forget_keys(c);
}

// ---- the application's call ---------------------------------------------------------------------

hm_err stoq_resume(stoq_endpoint *ep, const struct sockaddr_in6 *to, const char *server_name,
                   hm_bytes session, bool early, void *user, stoq_conn **out)
{
    stoq_session s;
    *out = NULL;
    if (stoq_session_decode(session, server_name, wall_s(), &s) != HM_OK)
        return stoq_connect(ep, to, server_name, NULL, user, out);
    if (!endpoint_speaks(ep, s.params.chosen_version)) {
        stoq_session_free(&s);
        return stoq_connect(ep, to, server_name, NULL, user, out);
    }
    char alpn[256];
    memcpy(alpn, s.alpn.ptr, s.alpn.len);
    alpn[s.alpn.len] = 0;
    hm_err err = endpoint_connect(ep, to, server_name, alpn, &s, early, -1, user, out);
    stoq_session_free(&s);
    return err;
}
