// Which version of QUIC is spoken (RFC 9368; RFC 9369, section 4). A server may answer the first
// packets of a client in another version, which it offers and which is compatible, as 1 and 2 are;
// or it says which ones it speaks, and the client begins anew.
#include <stdlib.h>

#include "stoq/endpoint.h"

static hm_err refuse(uint64_t *code, uint64_t what, const char *why)
{
    *code = what;
    return hm_fail(HM_E_STOQ_TRANSPORT, "%s", why);
}

// ---- a Version Negotiation packet ---------------------------------------------------------------

// Nothing of what was sent in the other version counts any more, but for our id.
static hm_err begin_anew(stoq_conn *c, const stoq_version *version)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    loss_discard(c, STOQ_LEVEL_INITIAL);
    stoq_keys_free(&s->rx);
    stoq_keys_free(&s->tx);
    stoq_sendbuf_free(&s->crypto_out);
    stoq_recvbuf_free(&s->crypto_in);
    conn_init_space(s);
    early_reject(c);
    stoq_tls_end(&c->tls);
    c->tls = (stoq_tls){.host = c->tls.host, .ctx = c};
    c->ecn = (stoq_ecn){0};
    c->began_anew = true;
    return conn_first_flight(c, version, NULL, false); // sessions are of one version
}

void version_on_packet(stoq_conn *c, const stoq_packet *pkt)
{
    // It must answer our packet, not only know of it (RFC 8999, section 6), and be the only one.
    if (c->is_server || c->has_peer_scid || c->has_retry || c->began_anew ||
        !stoq_cid_eq(&pkt->scid, &c->initial_dcid) ||
        stoq_version_packet_has(pkt, c->version->number)) // a forgery or a mistake
        return;
    for (int i = 0; i < STOQ_MAX_VERSIONS && c->ep->versions[i] != 0; i++) {
        if (!stoq_version_packet_has(pkt, c->ep->versions[i]))
            continue;
        if (begin_anew(c, stoq_version_of(c->ep->versions[i])) != HM_OK)
            conn_fail(c, STOQ_INTERNAL_ERROR, 0, "cannot begin anew in another version");
        return;
    }
    conn_drain(c, STOQ_CLOSED_VERSION, false, hm_bytes_str("no common version"));
}

// ---- the parameters -----------------------------------------------------------------------------

static bool offers(const stoq_transport_params *p, uint32_t version)
{
    for (int i = 0; i <= STOQ_MAX_VERSIONS; i++)
        if (version != 0 && p->available_versions[i] == version)
            return true;
    return false;
}

// A server answers in another version from now on. The client does not know that yet.
static hm_err change_to(stoq_conn *c, const stoq_version *version)
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    uint8_t mem[STOQ_TRANSPORT_PARAMS_MAX];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    if ((c->original_rx = malloc(sizeof *c->original_rx)) == NULL)
        return HM_E_NOMEM;
    *c->original_rx = s->rx;
    s->rx = (stoq_keys){0};
    c->version = version;
    HM_TRY(stoq_keys_init_initial(&s->rx, &s->tx, version, &c->initial_dcid));
    HM_TRY(conn_encode_params(c, &b));
    return stoq_tls_set_params(&c->tls, hm_buf_bytes(&b), version->number);
}

static hm_err choose(stoq_conn *c, const stoq_transport_params *p, uint64_t *code)
{
    if (p->chosen_version == 0)
        return HM_OK; // a client that knows one version only
    if (p->chosen_version != c->original->number)
        return refuse(code, STOQ_VERSION_NEGOTIATION_ERROR,
                      "the version of the packets is not the one that the client chose");
    for (int i = 0; i < STOQ_MAX_VERSIONS && c->ep->versions[i] != 0; i++) {
        uint32_t version = c->ep->versions[i];
        if (version == c->version->number)
            return HM_OK;
        if (!offers(p, version))
            continue;
        *code = STOQ_INTERNAL_ERROR;
        return change_to(c, stoq_version_of(version));
    }
    return HM_OK;
}

// Would the versions that the server says it speaks have led to the one that was begun anew with?
// Else somebody between has forged its Version Negotiation packet.
static bool downgraded(const stoq_conn *c, const stoq_transport_params *p)
{
    for (int i = 0; i < STOQ_MAX_VERSIONS && c->ep->versions[i] != 0; i++) {
        uint32_t version = c->ep->versions[i];
        if (version == c->version->number || offers(p, version))
            return version != c->original->number;
    }
    return true;
}

hm_err version_on_params(stoq_conn *c, const stoq_transport_params *p, uint64_t *code)
{
    if (c->is_server)
        return choose(c, p, code);
    stoq_transport_params t = *p;
    // Who speaks version 1 alone need not know of all this (RFC 9368, section 8).
    if (t.chosen_version == 0)
        t.chosen_version = t.available_versions[0] =
            c->began_anew ? STOQ_VERSION_1 : c->original->number;
    if (t.chosen_version != c->version->number)
        return refuse(code, STOQ_VERSION_NEGOTIATION_ERROR,
                      "the version of the packets is not the one that the server chose");
    if (c->began_anew && downgraded(c, &t))
        return refuse(code, STOQ_VERSION_NEGOTIATION_ERROR,
                      "the server speaks a better version than it was said to");
    return HM_OK;
}

// ---- packets of two versions --------------------------------------------------------------------

stoq_keys *version_keys(stoq_conn *c, const stoq_packet *pkt, stoq_level level, stoq_keys fresh[2])
{
    if (pkt->version == c->version->number)
        return &c->spaces[level].rx;
    if (level != STOQ_LEVEL_INITIAL)
        return NULL;
    if (c->original_rx != NULL && pkt->version == c->original->number)
        return c->original_rx;
    // A client learns the server's choice from its packets, until it has an answer in its own
    // version.
    if (c->is_server || c->version != c->original || c->tls.read_level != STOQ_LEVEL_INITIAL ||
        !endpoint_speaks(c->ep, pkt->version) ||
        stoq_keys_init_initial(&fresh[1], &fresh[0], stoq_version_of(pkt->version),
                               &c->initial_dcid) != HM_OK)
        return NULL;
    return fresh;
}

void version_settle(stoq_conn *c, const stoq_packet *pkt, bool opened, stoq_keys fresh[2])
{
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    if (!opened) {
        stoq_keys_free(&fresh[0]);
        stoq_keys_free(&fresh[1]);
        return;
    }
    stoq_keys_free(&s->rx);
    stoq_keys_free(&s->tx);
    s->rx = fresh[0];
    s->tx = fresh[1];
    c->version = stoq_version_of(pkt->version);
}
