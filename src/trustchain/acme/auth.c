// Who asks: nonces, the signature of a request, the account or key behind it.
#include <stdio.h>

#include "trustchain/acme/internal.h"

#define NONCE_BYTES 16u

void acme_nonce_make(acme *a, char out[32])
{
    uint8_t raw[NONCE_BYTES];
    hm_buf b = hm_buf_fixed(raw, sizeof raw), text = hm_buf_fixed(out, 31);
    uint64_t n = a->nonce_next++;
    a->nonce_used[n % ACME_NONCES / 8] &= (uint8_t)~(1u << n % 8);
    hm_wr_u64(&b, n);
    hm_wr_u64(&b, hm_siphash(a->nonce_seed, raw, 8));
    jose_base64(hm_buf_bytes(&b), &text);
    out[text.len] = 0;
}

bool acme_nonce_take(acme *a, hm_bytes nonce)
{
    uint8_t raw[NONCE_BYTES];
    hm_buf b = hm_buf_fixed(raw, sizeof raw);
    if (jose_unbase64(nonce, &b) != HM_OK || b.len != sizeof raw)
        return false;
    hm_rd r = hm_rd_of(hm_buf_bytes(&b));
    uint64_t n = hm_rd_u64(&r), tag = hm_rd_u64(&r);
    if (tag != hm_siphash(a->nonce_seed, raw, 8) || n >= a->nonce_next ||
        a->nonce_next - n > ACME_NONCES)
        return false;
    uint8_t bit = (uint8_t)(1u << n % 8), *at = &a->nonce_used[n % ACME_NONCES / 8];
    if (*at & bit)
        return false;
    *at |= bit;
    return true;
}

uint64_t acme_account_of_url(hm_bytes url)
{
    static const char path[] = ACME_PATH "account/";
    char text[ACME_URL_MAX];
    uint64_t n = 0;
    if (url.len >= sizeof text || url.len == 0 || memchr(url.ptr, 0, url.len))
        return 0;
    memcpy(text, url.ptr, url.len);
    text[url.len] = 0;
    const char *at = strncmp(text, "https://", 8) == 0 ? strchr(text + 8, '/') : NULL;
    if (!at || strncmp(at, path, sizeof path - 1) != 0)
        return 0;
    at += sizeof path - 1;
    if (*at == 0 || *at == '0' || strlen(at) > 18)
        return 0;
    for (; *at; at++) {
        if (*at < '0' || *at > '9')
            return 0;
        n = n * 10 + (uint64_t)(*at - '0');
    }
    return n;
}

// What an error of reading or verifying means to the client.
static acme_error fail_jose(acme_call *c, hm_err err)
{
    acme_error e = err == HM_E_UNSUPPORTED ? ACME_BAD_SIGNATURE_ALGORITHM
                   : err == HM_E_KEY       ? ACME_BAD_PUBLIC_KEY
                                           : ACME_MALFORMED;
    if (err != HM_E_UNSUPPORTED && err != HM_E_KEY && err != HM_E_PARSE && err != HM_E_SIGNATURE)
        return acme_fail_err(c, err);
    return acme_fail(c, e, "%s", hm_err_detail());
}

static acme_error signer_by_account(acme_call *c)
{
    uint64_t id = acme_account_of_url(c->jws.kid);
    hm_err err = id ? acme_record_account_get(c->a->store, id, &c->account) : HM_E_NOTFOUND;
    if (err == HM_E_NOTFOUND)
        return acme_fail(c, ACME_ACCOUNT_DOES_NOT_EXIST, "\"kid\" names no account of this server");
    ACME_TRY_HM(c, err);
    ACME_TRY_HM(c, jose_jwk_parse(hm_bytes_str(c->account.jwk), &c->key));
    return ACME_OK;
}

// Which of the two the resource takes: RFC 8555, 6.2.
static acme_error signer(acme_call *c)
{
    acme_op op = c->rq->op;
    bool by_key = c->jws.jwk != NULL, by_account = c->jws.kid.ptr != NULL;
    if (by_key == by_account)
        return acme_fail(c, ACME_MALFORMED, "the protected header needs either \"jwk\" or \"kid\"");
    if (by_key && op != ACME_OP_NEW_ACCOUNT && op != ACME_OP_REVOKE)
        return acme_fail(c, ACME_MALFORMED, "this resource needs \"kid\" in the protected header");
    if (by_account && op == ACME_OP_NEW_ACCOUNT)
        return acme_fail(c, ACME_MALFORMED, "a new account needs \"jwk\" in the protected header");
    if (by_account)
        return signer_by_account(c);
    hm_err err = jose_jwk_read(c->jws.jwk, &c->key);
    return err == HM_OK ? ACME_OK : fail_jose(c, err);
}

static acme_error check_url(acme_call *c)
{
    char url[2 * ACME_URL_MAX];
    if (!c->jws.url.ptr)
        return acme_fail(c, ACME_MALFORMED, "the protected header has no \"url\"");
    snprintf(url, sizeof url, "%s%s", c->rq->base, c->rq->path);
    if (!hm_bytes_eq(c->jws.url, hm_bytes_str(url)))
        return acme_fail(c, ACME_UNAUTHORIZED,
                         "\"url\" of the protected header is not that of "
                         "the request");
    return ACME_OK;
}

static acme_error check_nonce(acme_call *c)
{
    if (!c->jws.nonce.ptr)
        return acme_fail(c, ACME_BAD_NONCE, "the protected header has no \"nonce\"");
    if (!acme_nonce_take(c->a, c->jws.nonce))
        return acme_fail(c, ACME_BAD_NONCE, "the nonce is not fresh; take the newer one");
    return ACME_OK;
}

acme_error acme_authenticate(acme_call *c)
{
    hm_bytes payload;
    hm_err err;
    size_t type_len = strcspn(c->rq->content_type, "; ");
    if (type_len != 21 || strncasecmp(c->rq->content_type, "application/jose+json", 21) != 0) {
        c->out->status = 415;
        return acme_fail(c, ACME_MALFORMED, "Content-Type must be application/jose+json");
    }
    err = jose_jws_parse(c->rq->body, &c->jws);
    if (err != HM_OK)
        return fail_jose(c, err);
    if (c->jws.alg == JOSE_HS256)
        return acme_fail(c, ACME_BAD_SIGNATURE_ALGORITHM, "a request is not signed with a MAC");
    ACME_TRY(signer(c));
    err = jose_jws_verify(&c->jws, &c->key);
    if (err != HM_OK)
        return fail_jose(c, err);
    ACME_TRY(check_url(c));
    ACME_TRY(check_nonce(c));
    if (c->account.id && !c->account.active)
        return acme_fail(c, ACME_UNAUTHORIZED, "the account is deactivated");
    payload = hm_buf_bytes(&c->jws.payload);
    err = payload.len ? jose_object(payload, &c->payload) : HM_OK;
    return err == HM_OK ? ACME_OK : fail_jose(c, err);
}

// RFC 8555, 7.3.4.
acme_error acme_eab_check(acme_call *c, yyjson_val *binding, acme_eab *out)
{
    jose_jws inner = {0};
    jose_jwk bound = {0};
    acme_error e = ACME_OK;
    hm_err err = jose_jws_read(binding, &inner);
    if (err != HM_OK) {
        e = acme_fail(c, ACME_MALFORMED, "externalAccountBinding: %s", hm_err_detail());
    } else if (!inner.kid.ptr || inner.jwk || inner.nonce.ptr ||
               !hm_bytes_eq(inner.url, c->jws.url)) {
        e = acme_fail(c, ACME_MALFORMED,
                      "externalAccountBinding has \"kid\", the \"url\" of the "
                      "request around it, and no nonce");
    } else if ((err = acme_record_eab_get(c->a->store, inner.kid, out)) == HM_E_NOTFOUND) {
        e = acme_fail(c, ACME_UNAUTHORIZED,
                      "externalAccountBinding names a key that this server "
                      "has not given");
    } else if (err != HM_OK) {
        e = acme_fail_err(c, err);
    } else if ((err = jose_jws_verify_mac(
                    &inner, hm_bytes_of(out->secret, ACME_EAB_SECRET_BYTES))) != HM_OK) {
        e = acme_fail(c, err == HM_E_UNSUPPORTED ? ACME_BAD_SIGNATURE_ALGORITHM : ACME_UNAUTHORIZED,
                      "%s", hm_err_detail());
    } else if (jose_jwk_parse(hm_buf_bytes(&inner.payload), &bound) != HM_OK ||
               !hm_hash_eq(&bound.thumbprint, &c->key.thumbprint)) {
        e = acme_fail(c, ACME_MALFORMED, "externalAccountBinding is for another key");
    } else if (out->account) {
        e = acme_fail(c, ACME_UNAUTHORIZED, "externalAccountBinding: an account has used this key");
    }
    jose_jwk_free(&bound);
    jose_jws_free(&inner);
    return e;
}
