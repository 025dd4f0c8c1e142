#include "stoq/session.h"

#include <openssl/err.h>

#include "base/wire.h"

#define VERSION 2 // of this form
#define SUM_BYTES 16

static void sum_of(hm_bytes body, uint8_t out[SUM_BYTES])
{
    uint8_t full[EVP_MAX_MD_SIZE];
    hm_assert(EVP_Digest(body.ptr, body.len, full, NULL, EVP_sha256(), NULL) == 1);
    memcpy(out, full, SUM_BYTES);
}

// What may be remembered.
static stoq_transport_params remembered(const stoq_transport_params *p)
{
    stoq_transport_params r = *p, def;
    stoq_transport_params_default(&def);
    r.has_original_dcid = r.has_initial_scid = r.has_retry_scid = r.has_reset_token = false;
    r.has_preferred = r.has_min_ack_delay = false;
    r.min_ack_delay_us = 0;
    r.ack_delay_exponent = def.ack_delay_exponent;
    r.max_ack_delay_ms = def.max_ack_delay_ms;
    return r;
}

hm_err stoq_session_encode(const stoq_session *s, hm_buf *out)
{
    uint8_t mem[STOQ_TRANSPORT_PARAMS_MAX], sum[SUM_BYTES], *der = NULL;
    hm_buf params = hm_buf_fixed(mem, sizeof mem);
    stoq_transport_params p = remembered(&s->params);
    size_t start = out->len;
    stoq_transport_params_encode(&p, &params);
    int len = i2d_SSL_SESSION(s->tls, &der);
    if (len <= 0 || (size_t)len > STOQ_SESSION_MAX / 2) {
        OPENSSL_free(der);
        ERR_clear_error();
        return hm_fail(HM_E_LIMIT, "a session of %d bytes is not kept", len);
    }
    hm_wr_u8(out, VERSION);
    hm_wr_u64(out, s->proven_s);
    hm_wr_bytes(out, s->server_name);
    hm_wr_bytes(out, s->alpn);
    hm_wr_bytes(out, hm_buf_bytes(&params));
    hm_wr_bytes(out, hm_bytes_of(der, (size_t)len));
    OPENSSL_clear_free(der, (size_t)len);
    HM_TRY(hm_buf_status(out));
    sum_of(hm_bytes_of(out->ptr + start, out->len - start), sum);
    hm_wr_raw(out, sum, sizeof sum);
    return hm_buf_status(out);
}

static hm_err unusable(const char *why)
{
    return hm_fail(HM_E_INVALID, "the session is not used: %s", why);
}

static hm_err check_times(const stoq_session *s, uint64_t now_s)
{
    const X509 *cert = SSL_SESSION_get0_peer(s->tls);
    time_t now = (time_t)now_s;
    uint64_t given = (uint64_t)SSL_SESSION_get_time_ex(s->tls);
    if (!SSL_SESSION_is_resumable(s->tls) ||
        SSL_SESSION_get_protocol_version(s->tls) != TLS1_3_VERSION || cert == NULL)
        return unusable("it cannot be resumed");
    if (now_s < s->proven_s || now_s - s->proven_s >= STOQ_SESSION_LIFE_S || now_s < given ||
        now_s - given >= SSL_SESSION_get_ticket_lifetime_hint(s->tls))
        return unusable("its time is over");
    if (X509_cmp_time(X509_get0_notAfter(cert), &now) <= 0)
        return unusable("the server's certificate has expired");
    return HM_OK;
}

hm_err stoq_session_decode(hm_bytes in, const char *server_name, uint64_t now_s, stoq_session *out)
{
    uint8_t sum[SUM_BYTES];
    stoq_session s = {0};
    hm_bytes asked = hm_bytes_str(server_name != NULL ? server_name : "");
    if (in.len < SUM_BYTES || in.len > STOQ_SESSION_MAX)
        return unusable("it is none");
    in.len -= SUM_BYTES;
    sum_of(in, sum);
    if (memcmp(sum, in.ptr + in.len, SUM_BYTES) != 0)
        return unusable("it is damaged");
    hm_rd r = hm_rd_of(in);
    bool known = hm_rd_u8(&r) == VERSION;
    s.proven_s = hm_rd_u64(&r);
    s.server_name = hm_rd_bytes(&r, STOQ_SESSION_MAX);
    s.alpn = hm_rd_bytes(&r, 255);
    hm_bytes params = hm_rd_bytes(&r, STOQ_TRANSPORT_PARAMS_MAX);
    hm_bytes der = hm_rd_bytes(&r, STOQ_SESSION_MAX);
    if (!known || hm_rd_end(&r) != HM_OK || s.alpn.len == 0 ||
        stoq_transport_params_decode(params, false, &s.params) != HM_OK)
        return unusable("it is of another version");
    if (!hm_bytes_eq(s.server_name, asked))
        return unusable("it is another server's");
    const uint8_t *at = der.ptr;
    s.tls = d2i_SSL_SESSION(NULL, &at, (long)der.len);
    ERR_clear_error();
    hm_err err = s.tls != NULL ? check_times(&s, now_s) : unusable("it is of another version");
    if (err != HM_OK)
        stoq_session_free(&s);
    else
        *out = s;
    return err;
}
