#include "stoq/tls.h"

#include <arpa/inet.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/wire.h"

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

// Keeps track of where messages after the handshake begin: a byte of type, three of length. False
// for one that is no ticket for a client.
static bool follow(stoq_tls *t, hm_bytes b)
{
    while (b.len > 0) {
        size_t n = 1;
        if (t->skip > 0) {
            n = b.len < t->skip ? b.len : t->skip;
            t->skip -= (uint32_t)n;
        } else {
            t->head[t->head_len++] = b.ptr[0];
            if (t->is_server || t->head[0] != NEW_SESSION_TICKET) {
                t->head_len = 0;
                return false;
            }
            if (t->head_len == sizeof t->head) {
                t->skip = (uint32_t)t->head[1] << 16 | (uint32_t)t->head[2] << 8 | t->head[3];
                t->head_len = 0;
            }
        }
        b = hm_bytes_of(b.ptr + n, b.len - n);
    }
    return true;
}

static int cb_release(SSL *ssl, size_t len, void *arg)
{
    stoq_tls *t = arg;
    (void)ssl;
    if (t->read_level == STOQ_LEVEL_APP) // what is no ticket OpenSSL answers itself
        (void)follow(t, hm_bytes_of(t->host->peek(t->ctx, STOQ_LEVEL_APP).ptr, len));
    t->host->consume(t->ctx, t->read_level, len);
    return 1;
}

static int cb_secret(SSL *ssl, uint32_t protection, int is_write, const unsigned char *secret,
                     size_t len, void *arg)
{
    stoq_tls *t = arg;
    bool early = protection == OSSL_RECORD_PROTECTION_LEVEL_EARLY;
    const SSL_CIPHER *c =
        early ? SSL_SESSION_get0_cipher(SSL_get0_session(ssl)) : SSL_get_pending_cipher(ssl);
    if (c == NULL)
        c = SSL_get_current_cipher(ssl);
    hm_aead_cipher cipher;
    if (c == NULL || stoq_cipher_of_suite(SSL_CIPHER_get_protocol_id(c), &cipher) != HM_OK)
        return 0;
    // A ClientHello after HelloRetryRequest must not offer early data again (RFC 8446,
    // section 4.1.2), which OpenSSL 3.5 does as long as the session says that it may.
    if (early && is_write)
        SSL_SESSION_set_max_early_data(SSL_get_session(ssl), 0);
    if (early)
        return t->host->early_secret(t->ctx, is_write, cipher, hm_bytes_of(secret, len)) == HM_OK;
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
static int list_index = -1;

static void make_index(void)
{
    list_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static int ex_index(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT; // endpoints have threads of their own
    pthread_once(&once, make_index);
    return list_index;
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

// ---- tickets ------------------------------------------------------------------------------------

// Seals a ticket or sets what opens it; 0: it is to be ignored.
static int ticket_key(SSL *ssl, unsigned char name[STOQ_TICKET_KEY_NAME], unsigned char *iv,
                      EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    const stoq_tls *t = SSL_get_ex_data(ssl, ex_index());
    stoq_ticket_key k;
    if (t == NULL || t->tickets == NULL ||
        !(seal ? stoq_tickets_seal(t->tickets, &k) : stoq_tickets_open(t->tickets, name, &k)))
        return 0;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k.mac, sizeof k.mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end()};
    bool ok = true;
    if (seal) {
        memcpy(name, k.name, sizeof k.name);
        ok = RAND_bytes(iv, 16) == 1;
    }
    ok = ok && EVP_MAC_CTX_set_params(mac, params) == 1 &&
         EVP_CipherInit_ex2(cipher, EVP_aes_256_cbc(), k.aes, iv, seal, NULL) == 1;
    OPENSSL_cleanse(&k, sizeof k);
    return ok ? 1 : -1;
}

// A ticket says by the endpoint's clock when it was given, and of which version it is.
static int ticket_begin(SSL *ssl, void *arg)
{
    const stoq_tls *t = SSL_get_ex_data(ssl, ex_index());
    SSL_SESSION *s = SSL_get_session(ssl);
    uint8_t mem[12];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    (void)arg;
    if (t == NULL || t->tickets == NULL)
        return 0;
    hm_wr_u64(&b, *t->tickets->now_us);
    hm_wr_u32(&b, t->version);
    SSL_SESSION_set_timeout(s, (long)(t->tickets->life_us / 1000000));
    return SSL_SESSION_set1_ticket_appdata(s, mem, sizeof mem);
}

static SSL_TICKET_RETURN ticket_opened(SSL *ssl, SSL_SESSION *s, const unsigned char *name,
                                       size_t name_len, SSL_TICKET_STATUS status, void *arg)
{
    const stoq_tls *t = SSL_get_ex_data(ssl, ex_index());
    void *data = NULL;
    size_t len = 0;
    (void)name, (void)name_len, (void)arg;
    if (status != SSL_TICKET_SUCCESS || t == NULL || t->tickets == NULL ||
        SSL_SESSION_get0_ticket_appdata(s, &data, &len) != 1)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    hm_rd r = hm_rd_of(hm_bytes_of(data, len));
    uint64_t given_us = hm_rd_u64(&r);
    uint32_t version = hm_rd_u32(&r);
    bool live = hm_rd_end(&r) == HM_OK && version == t->original_version &&
                stoq_tickets_age_us(t->tickets, given_us) < t->tickets->life_us;
    return live ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
}

static int new_session(SSL *ssl, SSL_SESSION *s)
{
    stoq_tls *t = SSL_get_ex_data(ssl, ex_index());
    if (t != NULL && t->sessions_wanted > 0) {
        t->sessions_wanted--;
        t->host->session(t->ctx, s);
    }
    return 0; // no reference is kept
}

// Asked when everything else about early data is well.
static int allow_early(SSL *ssl, void *arg)
{
    stoq_tls *t = arg;
    uint8_t psk[SSL_MAX_MASTER_KEY_LENGTH], id[EVP_MAX_MD_SIZE];
    // The key that a ticket stands for is its own, and says nothing once hashed.
    size_t len = SSL_SESSION_get_master_key(SSL_get0_session(ssl), psk, sizeof psk);
    bool ok = len > 0 && EVP_Digest(psk, len, id, NULL, EVP_sha256(), NULL) == 1 &&
              stoq_tickets_strike(t->tickets, id);
    OPENSSL_cleanse(psk, sizeof psk);
    return ok;
}

void stoq_tls_prepare(SSL_CTX *ctx, bool is_server)
{
    if (is_server) {
        SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key);
        SSL_CTX_set_session_ticket_cb(ctx, ticket_begin, ticket_opened, NULL);
    } else {
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ctx, new_session);
    }
}

bool stoq_tls_may_resume(const SSL_CTX *ctx, bool is_server)
{
    if (is_server)
        return !(SSL_CTX_get_verify_mode(ctx) & SSL_VERIFY_PEER);
    return SSL_CTX_get0_certificate(ctx) == NULL &&
           !(X509_VERIFY_PARAM_get_flags(SSL_CTX_get0_param((SSL_CTX *)ctx)) &
             X509_V_FLAG_CRL_CHECK);
}

// ---- life ---------------------------------------------------------------------------------------

hm_err stoq_tls_set_params(stoq_tls *t, hm_bytes params, uint32_t version)
{
    uint8_t *copy = malloc(params.len);
    if (copy == NULL)
        return HM_E_NOMEM;
    memcpy(copy, params.ptr, params.len);
    free(t->params);
    t->params = copy;
    t->version = version;
    return SSL_set_quic_tls_transport_params(t->ssl, copy, params.len) == 1
               ? HM_OK
               : openssl_fail("transport parameters");
}

hm_err stoq_tls_init(stoq_tls *t, SSL_CTX *ctx, const stoq_tls_config *config)
{
    const char *server_name = config->server_name;
    bool resumes = stoq_tls_may_resume(ctx, t->is_server);
    t->alpn_wire = config->alpn_wire;
    t->original_version = config->version;
    t->tickets = resumes ? config->tickets : NULL;
    t->sessions_wanted = resumes ? config->sessions : 0;
    t->ssl = SSL_new(ctx);
    if (t->ssl == NULL)
        goto fail;
    if (SSL_set_ex_data(t->ssl, ex_index(), t) != 1 ||
        SSL_set_min_proto_version(t->ssl, TLS1_3_VERSION) != 1 ||
        SSL_set_max_proto_version(t->ssl, TLS1_3_VERSION) != 1 ||
        SSL_set_quic_tls_cbs(t->ssl, callbacks, t) != 1 ||
        stoq_tls_set_params(t, config->params, config->version) != HM_OK)
        goto fail;
    if (t->is_server) {
        SSL_set_accept_state(t->ssl);
        if (SSL_set_num_tickets(t->ssl, t->tickets != NULL ? config->ticket_count : 0) != 1)
            goto fail;
        if (config->early && t->tickets != NULL) {
            // OpenSSL's own protection keeps every session; ours what came early.
            SSL_set_options(t->ssl, SSL_OP_NO_ANTI_REPLAY);
            SSL_set_allow_early_data_cb(t->ssl, allow_early, t);
            if (SSL_set_quic_tls_early_data_enabled(t->ssl, 1) != 1)
                goto fail;
        }
        return HM_OK;
    }
    SSL_set_connect_state(t->ssl);
    if (SSL_set_alpn_protos(t->ssl, t->alpn_wire.ptr, (unsigned)t->alpn_wire.len) != 0)
        goto fail;
    if (config->session != NULL && resumes) {
        if (SSL_set_session(t->ssl, config->session) != 1)
            goto fail;
        if (config->early && SSL_SESSION_get_max_early_data(config->session) == UINT32_MAX &&
            SSL_set_quic_tls_early_data_enabled(t->ssl, 1) != 1)
            goto fail;
    }
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

// Messages after the end.
static hm_err drop_messages(stoq_tls *t)
{
    hm_bytes b;
    while ((b = t->host->peek(t->ctx, STOQ_LEVEL_APP)).len > 0) {
        bool ticket_only = follow(t, b);
        if (!ticket_only || t->skip > TICKET_MAX) {
            t->failed = true;
            t->why = HM_E_STOQ_TLS;
            t->alert = ticket_only ? ALERT_DECODE_ERROR : ALERT_UNEXPECTED_MESSAGE;
            return hm_fail(HM_E_STOQ_TLS, "TLS after the handshake: %s",
                           ticket_only ? "a ticket without end" : "a message that is no ticket");
        }
        t->host->consume(t->ctx, STOQ_LEVEL_APP, b.len);
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
        // A server that accepts early data is told "done" before it has heard all.
        t->complete = r == 1 && SSL_is_init_finished(t->ssl);
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

bool stoq_tls_early_accepted(const stoq_tls *t)
{
    return SSL_get_early_data_status(t->ssl) == SSL_EARLY_DATA_ACCEPTED;
}

void stoq_tls_end(stoq_tls *t)
{
    SSL_free(t->ssl);
    free(t->params);
    t->ssl = NULL;
    t->params = NULL;
}
