#include "stoq/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

#define ALERT_UNEXPECTED_MESSAGE 10
#define ALERT_HANDSHAKE_FAILURE 40
#define ALERT_DECODE_ERROR 50
#define ALERT_INTERNAL 80
#define NEW_SESSION_TICKET 4
#define TICKET_MAX 65536u // bytes of the message; more is nobody's ticket

static stoq_level level_of(uint32_t protection)
{
    return protection == OSSL_RECORD_PROTECTION_LEVEL_NONE        ? STOQ_LEVEL_INITIAL
           : protection == OSSL_RECORD_PROTECTION_LEVEL_HANDSHAKE ? STOQ_LEVEL_HANDSHAKE
                                                                  : STOQ_LEVEL_APP;
}

static int cb_send(SSL *ssl, const unsigned char *buf, size_t len, size_t *consumed, void *arg)
{
    stoq_tls *t = arg;
    (void)ssl;
    if (t->host->send(t->ctx, t->write_level, hm_bytes_of(buf, len)) != HM_OK)
        return 0;
    *consumed = len;
    return 1;
}

static int cb_recv(SSL *ssl, const unsigned char **buf, size_t *len, void *arg)
{
    stoq_tls *t = arg;
    (void)ssl;
    hm_bytes b = t->host->peek(t->ctx, t->read_level);
    *buf = b.ptr;
    *len = b.len;
    return 1;
}

static int cb_release(SSL *ssl, size_t len, void *arg)
{
    stoq_tls *t = arg;
    (void)ssl;
    t->host->consume(t->ctx, t->read_level, len);
    return 1;
}

static int cb_secret(SSL *ssl, uint32_t protection, int is_write, const unsigned char *secret,
                     size_t len, void *arg)
{
    stoq_tls *t = arg;
    if (protection == OSSL_RECORD_PROTECTION_LEVEL_EARLY)
        return 1; // 0-RTT is not offered; a server ignores its keys
    const SSL_CIPHER *c = SSL_get_pending_cipher(ssl);
    if (c == NULL)
        c = SSL_get_current_cipher(ssl);
    hm_aead_cipher cipher;
    if (c == NULL || stoq_cipher_of_suite(SSL_CIPHER_get_protocol_id(c), &cipher) != HM_OK)
        return 0;
    stoq_level level = level_of(protection);
    if (is_write)
        t->write_level = level;
    else
        t->read_level = level;
    return t->host->secret(t->ctx, level, is_write, cipher, hm_bytes_of(secret, len)) == HM_OK;
}

static int cb_params(SSL *ssl, const unsigned char *params, size_t len, void *arg)
{
    stoq_tls *t = arg;
    (void)ssl;
    return t->host->params(t->ctx, hm_bytes_of(params, len)) == HM_OK;
}

static int cb_alert(SSL *ssl, unsigned char code, void *arg)
{
    stoq_tls *t = arg;
    (void)ssl;
    t->alert = code;
    return 1;
}

static const OSSL_DISPATCH callbacks[] = {
    {OSSL_FUNC_SSL_QUIC_TLS_CRYPTO_SEND, (void (*)(void))cb_send},
    {OSSL_FUNC_SSL_QUIC_TLS_CRYPTO_RECV_RCD, (void (*)(void))cb_recv},
    {OSSL_FUNC_SSL_QUIC_TLS_CRYPTO_RELEASE_RCD, (void (*)(void))cb_release},
    {OSSL_FUNC_SSL_QUIC_TLS_YIELD_SECRET, (void (*)(void))cb_secret},
    {OSSL_FUNC_SSL_QUIC_TLS_GOT_TRANSPORT_PARAMS, (void (*)(void))cb_params},
    {OSSL_FUNC_SSL_QUIC_TLS_ALERT, (void (*)(void))cb_alert},
    {0, NULL},
};

// The newest OpenSSL error as our detail line; the queue is left empty.
static hm_err openssl_fail(const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(e);
    ERR_clear_error();
    return hm_fail(HM_E_STOQ_TLS, "%s: %s", what, reason ? reason : "TLS error");
}

static hm_err certificate_error(long code)
{
    switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return HM_E_CERT_EXPIRED;
    case X509_V_ERR_CERT_REVOKED:
        return HM_E_CERT_REVOKED;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_NOT_YET_VALID:
        return HM_E_CRL_STALE;
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
    case X509_V_ERR_CERT_REJECTED:
        return HM_E_CERT_PROFILE;
    default:
        return HM_E_CERT_UNTRUSTED;
    }
}

// Ends the handshake: the detail line says why in words, t->why in a code.
static hm_err handshake_fail(stoq_tls *t)
{
    unsigned long e = ERR_peek_last_error();
    long verify = SSL_get_verify_result(t->ssl);
    char more[208] = "";
    t->failed = true;
    t->why = HM_E_STOQ_TLS;
    if (ERR_GET_LIB(e) != ERR_LIB_SSL)
        return openssl_fail("TLS handshake");
    switch (ERR_GET_REASON(e)) {
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
        t->why = HM_E_STOQ_GROUP;
        break;
    case SSL_R_NO_APPLICATION_PROTOCOL:
        t->why = HM_E_STOQ_ALPN;
        break;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        t->why = HM_E_CERT_MISSING;
        break;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
        t->why = certificate_error(verify);
        ERR_clear_error();
        if (verify == X509_V_ERR_CERT_REJECTED) // by a hook, which said why
            snprintf(more, sizeof more, ": %.200s", hm_err_detail());
        return hm_fail(HM_E_STOQ_TLS, "TLS handshake: %s%s", X509_verify_cert_error_string(verify),
                       more);
    default:
        break;
    }
    return openssl_fail("TLS handshake");
}

// The SSL_CTX is the caller's and may serve several endpoints, so the list hangs on the SSL.
static int ex_index(void)
{
    static int index = -1;
    if (index < 0)
        index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    return index;
}

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    (void)arg;
    const stoq_tls *t = SSL_get_ex_data(ssl, ex_index());
    unsigned char *chosen;
    if (t == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, out_len, t->alpn_wire.ptr, (unsigned)t->alpn_wire.len, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

void stoq_tls_prepare_server(SSL_CTX *ctx)
{
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
}

hm_err stoq_tls_init(stoq_tls *t, SSL_CTX *ctx, const char *server_name, hm_bytes alpn_wire,
                     hm_bytes params)
{
    t->alpn_wire = alpn_wire;
    t->ssl = SSL_new(ctx);
    t->params = malloc(params.len);
    if (t->ssl == NULL || t->params == NULL)
        goto fail;
    memcpy(t->params, params.ptr, params.len);
    if (SSL_set_ex_data(t->ssl, ex_index(), t) != 1 ||
        SSL_set_min_proto_version(t->ssl, TLS1_3_VERSION) != 1 ||
        SSL_set_max_proto_version(t->ssl, TLS1_3_VERSION) != 1 ||
        SSL_set_quic_tls_cbs(t->ssl, callbacks, t) != 1 ||
        SSL_set_quic_tls_transport_params(t->ssl, t->params, params.len) != 1)
        goto fail;
    if (t->is_server) {
        SSL_set_accept_state(t->ssl);
        // Every connection proves both identities anew: there is nothing to resume.
        if (SSL_set_num_tickets(t->ssl, 0) != 1)
            goto fail;
        return HM_OK;
    }
    SSL_set_connect_state(t->ssl);
    if (SSL_set_alpn_protos(t->ssl, alpn_wire.ptr, (unsigned)alpn_wire.len) != 0)
        goto fail;
    struct in6_addr address; // is no name for SNI (RFC 6066, section 3)
    if (server_name != NULL && ((inet_pton(AF_INET6, server_name, &address) != 1 &&
                                 SSL_set_tlsext_host_name(t->ssl, server_name) != 1) ||
                                SSL_set1_host(t->ssl, server_name) != 1))
        goto fail;
    return HM_OK;
fail:
    stoq_tls_end(t);
    return openssl_fail("TLS set-up");
}

static hm_err late_fail(stoq_tls *t, uint8_t alert, const char *what)
{
    t->failed = true;
    t->why = HM_E_STOQ_TLS;
    t->alert = alert;
    return hm_fail(HM_E_STOQ_TLS, "TLS after the handshake: %s", what);
}

// Messages after the end: a byte of type, three of length.
static hm_err drop_messages(stoq_tls *t)
{
    hm_bytes b;
    while ((b = t->host->peek(t->ctx, STOQ_LEVEL_APP)).len > 0) {
        size_t n = 1;
        if (t->skip > 0) {
            n = b.len < t->skip ? b.len : t->skip;
            t->skip -= (uint32_t)n;
        } else {
            t->head[t->head_len++] = b.ptr[0];
            if (t->is_server || t->head[0] != NEW_SESSION_TICKET)
                return late_fail(t, ALERT_UNEXPECTED_MESSAGE, "a message that is no ticket");
            if (t->head_len == sizeof t->head) {
                t->skip = (uint32_t)t->head[1] << 16 | (uint32_t)t->head[2] << 8 | t->head[3];
                t->head_len = 0;
            }
            if (t->skip > TICKET_MAX)
                return late_fail(t, ALERT_DECODE_ERROR, "a ticket without end");
        }
        t->host->consume(t->ctx, STOQ_LEVEL_APP, n);
    }
    return HM_OK;
}

hm_err stoq_tls_advance(stoq_tls *t)
{
    if (t->failed)
        return HM_E_STOQ_TLS;
    if (t->ssl == NULL)
        return drop_messages(t);
    ERR_clear_error();
    int r;
    if (!t->complete) {
        r = SSL_do_handshake(t->ssl);
        if (r == 1)
            t->complete = true;
    } else {
        uint8_t none; // post-handshake messages are handled inside; there is no TLS record data
        r = SSL_read(t->ssl, &none, 1);
    }
    if (r > 0)
        return HM_OK;
    int e = SSL_get_error(t->ssl, r);
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
        return HM_OK;
    if (t->alert == 0)
        t->alert = e == SSL_ERROR_SSL ? ALERT_HANDSHAKE_FAILURE : ALERT_INTERNAL;
    return handshake_fail(t);
}

void stoq_tls_end(stoq_tls *t)
{
    SSL_free(t->ssl);
    free(t->params);
    t->ssl = NULL;
    t->params = NULL;
}
