#include "stoq_forge.h"

#include <stdio.h>
#include <stdlib.h>

static void must(hm_err err, const char *what)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "forge: %s: %s: %s\n", what, hm_err_text(err), hm_err_detail());
    abort();
}

struct sockaddr_in6 forge_address(uint16_t port)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    a.sin6_addr.s6_addr[15] = 1;
    return a;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

stoq_transport_params forge_params(const stoq_endpoint *ep)
{
    stoq_transport_params p;
    stoq_transport_params_default(&p);
    p.max_idle_timeout_ms = ep->limits.max_idle_ms;
    p.max_data = least(ep->limits.conn_window_bytes, STOQ_CONN_WINDOW);
    p.max_stream_data_bidi_local = p.max_stream_data_bidi_remote = p.max_stream_data_uni =
        least(ep->limits.stream_window_bytes, STOQ_STREAM_WINDOW);
    p.max_streams_bidi = ep->limits.max_streams_bidi;
    p.max_streams_uni = ep->limits.max_streams_uni;
    p.has_min_ack_delay = true;
    p.min_ack_delay_us = STOQ_MIN_ACK_DELAY_US;
    p.active_cid_limit = STOQ_CIDS_MAX - 1;
    return p;
}

stoq_conn *forge_conn(stoq_endpoint *ep, bool is_server, const struct sockaddr_in6 *peer,
                      const stoq_cid *peer_cid, const uint8_t rx_secret[32],
                      const uint8_t tx_secret[32], const stoq_transport_params *theirs)
{
    stoq_conn *c;
    must(conn_make(ep, is_server, peer, &c), "connection");
    conn_discard_space(c, STOQ_LEVEL_INITIAL);
    conn_discard_space(c, STOQ_LEVEL_HANDSHAKE);
    stoq_space *s = &c->spaces[STOQ_LEVEL_APP];
    must(stoq_keys_init(&s->rx, &stoq_versions[0], HM_AES_128_GCM, rx_secret, 32), "keys");
    must(stoq_keys_init(&s->tx, &stoq_versions[0], HM_AES_128_GCM, tx_secret, 32), "keys");
    c->created_us = ep->now_us;
    c->has_peer_scid = c->has_params = c->address_validated = true;
    c->handshake_complete = c->confirmed = c->tls.complete = true;
    c->tls.read_level = c->tls.write_level = STOQ_LEVEL_APP;
    c->state = STOQ_CONN_OPEN;
    c->peer_initial_scid = *peer_cid;
    c->remote[0] = (stoq_peer_cid){.cid = *peer_cid, .active = true};
    c->theirs = *theirs;
    c->tx_max = theirs->max_data;
    c->streams_allowed[0] = theirs->max_streams_bidi;
    c->streams_allowed[1] = theirs->max_streams_uni;
    mtu_begin(c);
    must(conn_prepare_rx_next(c), "next keys");
    must(conn_new_local_cid(c), "id");
    must(conn_new_local_cid(c), "id");
    conn_touch_idle(c, ep->now_us);
    conn_wake(c);
    return c;
}

void forge_pair(stoq_endpoint *server, const struct sockaddr_in6 *server_address,
                stoq_endpoint *client, const struct sockaddr_in6 *client_address,
                stoq_conn **at_server, stoq_conn **at_client)
{
    static const uint8_t to_client[32] = {1}, to_server[32] = {2};
    stoq_transport_params of_server = forge_params(server), of_client = forge_params(client);
    stoq_cid none = {0};
    stoq_conn *s =
        forge_conn(server, true, client_address, &none, to_server, to_client, &of_client);
    stoq_conn *c = forge_conn(client, false, server_address, &s->local[0].cid, to_client, to_server,
                              &of_server);
    s->remote[0].cid = s->peer_initial_scid = c->local[0].cid;
    *at_server = s;
    *at_client = c;
}

static size_t finish(stoq_keys *k, uint8_t *out, uint8_t *pn_at, uint64_t pn, hm_bytes payload)
{
    uint8_t *p = stoq_pn_write(pn_at, pn, 4);
    if (payload.len > 0)
        memcpy(p, payload.ptr, payload.len);
    stoq_seal seal = {.packet = out,
                      .header_len = (uint32_t)(p - out),
                      .payload_len = (uint32_t)payload.len,
                      .pn = pn,
                      .pn_len = 4};
    must(stoq_seal_batch(k, &seal, 1), "seal");
    return seal.header_len + seal.payload_len + STOQ_AEAD_TAG;
}

size_t forge_short(stoq_keys *k, const stoq_cid *dcid, uint64_t pn, bool phase, hm_bytes payload,
                   uint8_t out[FORGE_MAX])
{
    hm_assert(payload.len <= 1800);
    return finish(k, out, stoq_short_header_write(out, dcid, phase, 4), pn, payload);
}

size_t forge_long(stoq_keys *k, stoq_packet_type type, const stoq_cid *dcid, const stoq_cid *scid,
                  hm_bytes token, uint64_t pn, hm_bytes payload, uint8_t out[FORGE_MAX])
{
    uint8_t *length_at;
    hm_assert(payload.len + token.len <= 1800);
    uint8_t *pn_at =
        stoq_long_header_write(out, k->version, type, dcid, scid, token, 4, &length_at);
    stoq_long_header_set_length(length_at, 4 + payload.len + STOQ_AEAD_TAG);
    return finish(k, out, pn_at, pn, payload);
}

bool forge_open(stoq_keys *k, uint8_t *bytes, size_t len, uint64_t expected, stoq_packet *packet,
                uint64_t *pn, hm_bytes *payload)
{
    uint32_t truncated;
    size_t pn_len;
    if (stoq_packet_parse(bytes, len, packet) != HM_OK ||
        stoq_unmask_header(&k->hp, bytes, packet->pn_offset, &truncated, &pn_len) != HM_OK)
        return false;
    stoq_open o = {.packet = bytes,
                   .header_len = (uint32_t)(packet->pn_offset + pn_len),
                   .payload_len = (uint32_t)(packet->len - packet->pn_offset - pn_len),
                   .pn = stoq_pn_decode(expected, truncated, pn_len)};
    stoq_open_batch(&k->aead, &o, 1);
    *pn = o.pn;
    *payload = hm_bytes_of(bytes + o.header_len, o.payload_len - STOQ_AEAD_TAG);
    return o.ok;
}
