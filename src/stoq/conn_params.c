// Transport parameters: what we tell, and what is made of what the peer tells.
#include "stoq/endpoint.h"

// What we tell the peer.
static stoq_transport_params own_params(const stoq_conn *c)
{
    const stoq_limits *l = conn_limits(c);
    stoq_transport_params p;
    stoq_transport_params_default(&p);
    p.has_initial_scid = true;
    p.initial_scid = c->local[0].cid;
    if (c->is_server) {
        p.has_original_dcid = p.has_reset_token = true;
        p.original_dcid = c->original_dcid;
        p.has_retry_scid = c->has_retry;
        p.retry_scid = c->retry_scid;
        endpoint_reset_token(c->ep, &c->local[0].cid, p.reset_token);
        p.has_preferred = c->local[1].active;
        p.preferred_address = c->ep->preferred;
        p.preferred_cid = c->local[1].cid;
        endpoint_reset_token(c->ep, &c->local[1].cid, p.preferred_token);
    }
    p.max_idle_timeout_ms = l->max_idle_ms;
    p.max_udp_payload_bytes = l->max_udp_payload_bytes;
    if (l->max_datagram_bytes > 0)
        p.max_datagram_frame_bytes = (uint64_t)l->max_datagram_bytes + STOQ_DATAGRAM_HEAD;
    p.max_data = c->rx.max;
    p.max_stream_data_bidi_local = p.max_stream_data_bidi_remote = p.max_stream_data_uni =
        conn_stream_window(c);
    p.max_streams_bidi = l->max_streams_bidi;
    p.max_streams_uni = l->max_streams_uni;
    p.has_min_ack_delay = true;
    p.min_ack_delay_us = STOQ_MIN_ACK_DELAY_US;
    p.active_cid_limit = STOQ_CIDS_MAX - 1; // one slot more for a change of all
    p.chosen_version = c->version->number;
    memcpy(p.available_versions, c->ep->versions, sizeof c->ep->versions);
    return p;
}

hm_err conn_encode_params(const stoq_conn *c, hm_buf *out)
{
    stoq_transport_params p = own_params(c);
    stoq_transport_params_encode(&p, out);
    return hm_buf_status(out);
}

static void tell_params(const stoq_conn *c)
{
    stoq_transport_params own = own_params(c);
    CONN_EVENT(c, .type = STOQ_EVENT_PARAMS, .local = true, .params = &own);
    CONN_EVENT(c, .type = STOQ_EVENT_PARAMS, .params = &c->theirs);
}

static hm_err bad_params(stoq_conn *c, uint64_t code, const char *why)
{
    conn_fail(c, code, 0, why);
    return hm_fail(HM_E_STOQ_TRANSPORT, "transport parameters: %s", why);
}

// Binds the ids of the handshake's packets to the handshake (RFC 9000, section 7.3).
static const char *wrong_ids(const stoq_conn *c, const stoq_transport_params *p)
{
    if (!p->has_initial_scid || !stoq_cid_eq(&p->initial_scid, &c->peer_initial_scid))
        return "initial_source_connection_id does not match";
    if (c->is_server)
        return NULL;
    if (!p->has_original_dcid || !stoq_cid_eq(&p->original_dcid, &c->original_dcid))
        return "original_destination_connection_id does not match";
    if (p->has_retry_scid != c->has_retry ||
        (c->has_retry && !stoq_cid_eq(&p->retry_scid, &c->retry_scid)))
        return "retry_source_connection_id does not match";
    return NULL;
}

hm_err conn_on_params(void *ctx, hm_bytes encoded)
{
    stoq_conn *c = ctx;
    stoq_transport_params p;
    uint64_t code = STOQ_TRANSPORT_PARAMETER_ERROR;
    if (stoq_transport_params_decode(encoded, c->is_server, &p) != HM_OK)
        return bad_params(c, code, hm_err_detail());
    const char *wrong = wrong_ids(c, &p);
    if (wrong != NULL)
        return bad_params(c, code, wrong);
    if (version_on_params(c, &p, &code) != HM_OK)
        return bad_params(c, code, hm_err_detail());
    if (c->early == STOQ_EARLY_OFFERED && early_on_params(c, &p) != HM_OK)
        return HM_E_STOQ_TRANSPORT;
    c->theirs = p;
    c->has_params = true;
    if (c->log != NULL)
        tell_params(c);
    c->tx_max = p.max_data;
    c->streams_allowed[0] = p.max_streams_bidi;
    c->streams_allowed[1] = p.max_streams_uni;
    if (p.has_reset_token) {
        memcpy(c->remote[0].token, p.reset_token, STOQ_RESET_TOKEN);
        c->remote[0].has_token = true;
        conn_watch_token(c);
    }
    if (p.has_preferred) { // whether or not it is gone to
        if (p.initial_scid.len == 0)
            return bad_params(c, code, "a preferred address of a server without ids");
        c->remote[1] =
            (stoq_peer_cid){.seq = 1, .cid = p.preferred_cid, .has_token = true, .active = true};
        memcpy(c->remote[1].token, p.preferred_token, STOQ_RESET_TOKEN);
    }
    streams_on_params(c);
    return HM_OK;
}
