#include "trustchain/ocsp.h"

#include <openssl/err.h>
#include <stdlib.h>

#include "trustchain/authority.h"
#include "trustchain/ocsp_text.h"

// What an answer says, as it is kept.
typedef struct verdict {
    uint8_t issuing; // number of the CA
    int status;      // V_OCSP_CERTSTATUS_*
    uint64_t revoked_ms;
    uint8_t reason;
} verdict;

typedef struct kept_answer {
    hm_buf id; // the CertID in DER
    hm_buf der;
    verdict is;
    uint64_t made_ms;
} kept_answer;

struct tc_ocsp {
    tc_authority *authority;
    kept_answer kept[OCSP_KEPT_MAX]; // by a keyed hash of the id: a newcomer takes the place
    uint64_t seed[2];
    hm_bucket signatures; // that may be made now
    tc_ocsp_counters counters;
};

const char *const tc_ocsp_result_names[TC_OCSP_RESULTS] = {
    "good", "revoked", "unknown", "malformedRequest", "internalError", "tryLater", "unauthorized",
};

// ---- the request --------------------------------------------------------------------------------

// RFC 9654, 2.1: 1 to 128 bytes. RFC 6960, 4.4: a critical extension that is not known refuses.
static bool extensions_good(OCSP_REQUEST *r, bool *nonce)
{
    *nonce = false;
    for (int i = 0; i < OCSP_REQUEST_get_ext_count(r); i++) {
        X509_EXTENSION *x = OCSP_REQUEST_get_ext(r, i);
        if (OBJ_obj2nid(X509_EXTENSION_get_object(x)) != NID_id_pkix_OCSP_Nonce) {
            if (X509_EXTENSION_get_critical(x))
                return false;
            continue;
        }
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(x);
        const uint8_t *at = ASN1_STRING_get0_data(value), *end = at + ASN1_STRING_length(value);
        ASN1_OCTET_STRING *text = d2i_ASN1_OCTET_STRING(NULL, &at, ASN1_STRING_length(value));
        int len = text ? ASN1_STRING_length(text) : 0;
        ASN1_OCTET_STRING_free(text);
        if (*nonce || at != end || len < 1 || len > (int)OCSP_NONCE_MAX)
            return false;
        *nonce = true;
    }
    return true;
}

hm_err ocsp_question_read(hm_bytes der, ocsp_question *out)
{
    const uint8_t *at = der.ptr;
    if (der.len == 0 || der.len > OCSP_REQUEST_MAX)
        return hm_fail(HM_E_PARSE, "an OCSP request has 1 to %u bytes", OCSP_REQUEST_MAX);
    ocsp_question q = {.request = d2i_OCSP_REQUEST(NULL, &at, (long)der.len)};
    if (!q.request)
        return hm_crypto_fail(HM_E_PARSE, "not an OCSP request in DER");
    OCSP_ONEREQ *one = OCSP_request_onereq_get0(q.request, 0);
    bool good = at == der.ptr + der.len && OCSP_request_onereq_count(q.request) == 1 &&
                extensions_good(q.request, &q.nonce);
    for (int i = 0; good && i < OCSP_ONEREQ_get_ext_count(one); i++)
        good = !X509_EXTENSION_get_critical(OCSP_ONEREQ_get_ext(one, i));
    if (!good) {
        ocsp_question_free(&q);
        return hm_fail(HM_E_PARSE, "not an OCSP request for one certificate");
    }
    q.id = OCSP_onereq_get0_id(one);
    *out = q;
    return HM_OK;
}

void ocsp_question_free(ocsp_question *q)
{
    OCSP_REQUEST_free(q->request);
    *q = (ocsp_question){0};
}

// ---- what is so ---------------------------------------------------------------------------------

// Is the id's issuer this issuing CA?
static bool issued_by(OCSP_CERTID *id, const X509 *issuing)
{
    ASN1_OBJECT *name;
    if (OCSP_id_get0_info(NULL, &name, NULL, NULL, id) != 1)
        return false;
    const EVP_MD *md = EVP_get_digestbyobj(name);
    OCSP_CERTID *own = md ? OCSP_cert_to_id(md, NULL, issuing) : NULL;
    bool same = own && OCSP_id_issuer_cmp(id, own) == 0;
    OCSP_CERTID_free(own);
    return same;
}

static const issuing_ca *issuer_of(const tc_authority *a, OCSP_CERTID *id)
{
    for (int f = 0; f < 2; f++)
        for (size_t i = 0; i < a->family[f].count; i++)
            if (issued_by(id, a->family[f].issuing[i]->cert))
                return a->family[f].issuing[i];
    return NULL;
}

// HM_E_DENIED: the issuer is none of ours.
static hm_err judge(const tc_ocsp *o, OCSP_CERTID *id, verdict *out)
{
    ASN1_INTEGER *number;
    tc_serial serial;
    verdict v = {.status = V_OCSP_CERTSTATUS_UNKNOWN};
    const issuing_ca *ca = issuer_of(o->authority, id);
    if (!ca)
        return HM_E_DENIED;
    v.issuing = ca->number;
    if (OCSP_id_get0_info(NULL, NULL, NULL, &number, id) != 1)
        return HM_E_PARSE;
    const tc_issued *i = NULL;
    if (ASN1_STRING_type(number) == V_ASN1_INTEGER &&
        ASN1_STRING_length(number) == TC_SERIAL_BYTES) {
        memcpy(serial.b, ASN1_STRING_get0_data(number), TC_SERIAL_BYTES);
        i = tc_issued_find(o->authority, &serial);
    }
    if (i && i->issuing == v.issuing) {
        v.status = i->revoked ? V_OCSP_CERTSTATUS_REVOKED : V_OCSP_CERTSTATUS_GOOD;
        v.revoked_ms = i->revoked_ms;
        v.reason = i->reason;
    }
    *out = v;
    return HM_OK;
}

// ---- the answer ---------------------------------------------------------------------------------

static hm_err put_response(OCSP_RESPONSE *r, hm_buf *der)
{
    int len = r ? i2d_OCSP_RESPONSE(r, NULL) : 0;
    uint8_t *at = len > 0 ? hm_buf_reserve(der, (size_t)len) : NULL;
    if (!at)
        return HM_E_NOMEM;
    der->len += (size_t)i2d_OCSP_RESPONSE(r, &at);
    return HM_OK;
}

static hm_err put_error(int status, hm_buf *der)
{
    OCSP_RESPONSE *r = OCSP_response_create(status, NULL);
    hm_err err = put_response(r, der);
    OCSP_RESPONSE_free(r);
    return err;
}

static bool add_status(OCSP_BASICRESP *b, OCSP_CERTID *id, const verdict *v, uint64_t now_ms)
{
    bool revoked = v->status == V_OCSP_CERTSTATUS_REVOKED;
    ASN1_TIME *now = ASN1_TIME_set(NULL, (time_t)(now_ms / 1000));
    ASN1_TIME *next = ASN1_TIME_set(NULL, (time_t)((now_ms + OCSP_LIFE_MS) / 1000));
    ASN1_TIME *when = revoked ? ASN1_TIME_set(NULL, (time_t)(v->revoked_ms / 1000)) : NULL;
    // As in the revocation list: unspecified is said by saying nothing.
    int reason = v->reason ? v->reason : OCSP_REVOKED_STATUS_NOSTATUS;
    bool ok = now && next && (when || !revoked) &&
              OCSP_basic_add1_status(b, id, v->status, reason, when, now, next) != NULL;
    ASN1_TIME_free(now);
    ASN1_TIME_free(next);
    ASN1_TIME_free(when);
    return ok;
}

static hm_err sign(const tc_ocsp *o, const ocsp_question *q, const verdict *v, uint64_t now_ms,
                   hm_buf *der)
{
    const issuing_ca *ca = authority_issuing_numbered(o->authority, v->issuing);
    const EVP_MD *md = ca->family == TC_MESH ? NULL : EVP_sha384(); // FALCON brings its own hash
    OCSP_BASICRESP *b = OCSP_BASICRESP_new();
    OCSP_RESPONSE *r = NULL;
    EVP_PKEY *key = NULL;
    hm_err err;
    if (!b || !add_status(b, q->id, v, now_ms) ||
        (q->nonce && OCSP_copy_nonce(b, q->request) != 1)) {
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot make an OCSP answer");
        goto out;
    }
    HM_TRY_OUT(authority_key_open(o->authority, ca, &key));
    if (OCSP_basic_sign(b, ca->cert, key, md, NULL, OCSP_NOCERTS | OCSP_RESPID_KEY) != 1)
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot sign an OCSP answer");
    HM_TRY_OUT(authority_key_close(o->authority, ca, key, err));
    r = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, b);
    err = put_response(r, der);
out:
    OCSP_RESPONSE_free(r);
    OCSP_BASICRESP_free(b);
    return err;
}

// ---- what is kept, and how much is signed -------------------------------------------------------

static bool still_good(const kept_answer *k, hm_bytes id, const verdict *v, uint64_t now_ms)
{
    return k->der.len > 0 && hm_bytes_eq(hm_buf_bytes(&k->id), id) && now_ms >= k->made_ms &&
           now_ms < k->made_ms + OCSP_LIFE_MS / 2 && k->is.issuing == v->issuing &&
           k->is.status == v->status;
}

static void keep(kept_answer *k, hm_buf *id, hm_bytes der, const verdict *v, uint64_t now_ms)
{
    hm_buf_free(&k->id);
    hm_buf_free(&k->der);
    hm_buf_put(&k->der, der);
    if (hm_buf_status(&k->der) != HM_OK) { // then it is signed again next time
        hm_buf_free(&k->der);
        return;
    }
    k->id = *id;
    *id = (hm_buf){0};
    k->is = *v;
    k->made_ms = now_ms;
}

static hm_err id_der(OCSP_CERTID *id, hm_buf *out)
{
    int len = i2d_OCSP_CERTID(id, NULL);
    uint8_t *at = len > 0 ? hm_buf_reserve(out, (size_t)len) : NULL;
    if (!at)
        return HM_E_NOMEM;
    out->len += (size_t)i2d_OCSP_CERTID(id, &at);
    return HM_OK;
}

// HM_E_BUSY: nothing more may be signed now.
static hm_err answer(tc_ocsp *o, const ocsp_question *q, const verdict *v, uint64_t now_ms,
                     hm_buf *der)
{
    hm_buf id = {0}, fresh = {0};
    hm_err err;
    HM_TRY_OUT(id_der(q->id, &id));
    kept_answer *k = &o->kept[hm_siphash(o->seed, id.ptr, id.len) % OCSP_KEPT_MAX];
    bool there = still_good(k, hm_buf_bytes(&id), v, now_ms);
    if ((there && !q->nonce) || !hm_bucket_take(&o->signatures, OCSP_SIGN_RATE, now_ms * 1000)) {
        if (!there) {
            err = HM_E_BUSY;
            goto out;
        }
        hm_buf_put(der, hm_buf_bytes(&k->der));
        HM_TRY_OUT(hm_buf_status(der));
        o->counters.kept++;
        goto out;
    }
    HM_TRY_OUT(sign(o, q, v, now_ms, &fresh));
    hm_buf_put(der, hm_buf_bytes(&fresh));
    HM_TRY_OUT(hm_buf_status(der));
    o->counters.made++;
    if (!q->nonce)
        keep(k, &id, hm_buf_bytes(&fresh), v, now_ms);
out:
    hm_buf_free(&id);
    hm_buf_free(&fresh);
    return err;
}

static tc_ocsp_result result_of(hm_err err, const verdict *v)
{
    switch (err) {
    case HM_OK:
        return v->status == V_OCSP_CERTSTATUS_GOOD      ? TC_OCSP_GOOD
               : v->status == V_OCSP_CERTSTATUS_REVOKED ? TC_OCSP_REVOKED
                                                        : TC_OCSP_UNKNOWN;
    case HM_E_PARSE:
        return TC_OCSP_MALFORMED;
    case HM_E_DENIED: // RFC 5019, 2.2.3: of certificates that are not ours we know nothing
        return TC_OCSP_UNAUTHORIZED;
    case HM_E_BUSY: // enough was signed, or the token is away
        return TC_OCSP_TRY_LATER;
    default:
        return TC_OCSP_INTERNAL;
    }
}

static hm_err answer_der(tc_ocsp *o, hm_bytes request, bool nonce_sure, uint64_t now_ms,
                         hm_buf *der)
{
    static const int errors[TC_OCSP_RESULTS] = {
        [TC_OCSP_MALFORMED] = OCSP_RESPONSE_STATUS_MALFORMEDREQUEST,
        [TC_OCSP_INTERNAL] = OCSP_RESPONSE_STATUS_INTERNALERROR,
        [TC_OCSP_TRY_LATER] = OCSP_RESPONSE_STATUS_TRYLATER,
        [TC_OCSP_UNAUTHORIZED] = OCSP_RESPONSE_STATUS_UNAUTHORIZED,
    };
    ocsp_question q = {0};
    verdict v = {0};
    hm_err err = ocsp_question_read(request, &q);
    q.nonce = q.nonce && nonce_sure;
    if (err == HM_OK)
        err = judge(o, q.id, &v);
    if (err == HM_OK)
        err = answer(o, &q, &v, now_ms, der);
    ocsp_question_free(&q);
    ERR_clear_error();
    if (err == HM_E_NOMEM)
        return err;
    tc_ocsp_result result = result_of(err, &v);
    if (err != HM_OK)
        HM_TRY(put_error(errors[result], der));
    o->counters.answers[result]++;
    return HM_OK;
}

hm_err tc_ocsp_answer(tc_ocsp *o, hm_bytes request, uint64_t now_ms, hm_buf *der)
{
    return answer_der(o, request, true, now_ms, der);
}

typedef struct guess {
    const tc_ocsp *o;
    bool exact;   // no slash is missing
    hm_buf first; // that fits
    size_t count; // of those that fit
} guess;

// One that was issued is what was asked: by chance no other text leads to its serial and issuer.
static bool guess_fits(void *ctx, hm_bytes request)
{
    guess *g = ctx;
    ocsp_question q = {0};
    verdict v = {.status = V_OCSP_CERTSTATUS_UNKNOWN};
    bool fits =
        g->exact || (ocsp_question_read(request, &q) == HM_OK && judge(g->o, q.id, &v) == HM_OK);
    bool issued = v.status != V_OCSP_CERTSTATUS_UNKNOWN;
    ocsp_question_free(&q);
    ERR_clear_error();
    if (!fits)
        return false;
    if (g->count == 0 || issued) {
        hm_buf_reset(&g->first);
        hm_buf_put(&g->first, request);
    }
    g->count = issued ? 1 : g->count + 1;
    return g->exact || issued;
}

hm_err tc_ocsp_answer_text(tc_ocsp *o, const char *text, uint64_t now_ms, hm_buf *der)
{
    guess g = {.o = o};
    ocsp_text t;
    hm_err err = ocsp_text_read(text, &t);
    if (err == HM_OK) {
        g.exact = t.missing == 0;
        (void)ocsp_text_each(&t, guess_fits, &g);
        err = hm_buf_status(&g.first);
    }
    if (err != HM_E_NOMEM) {
        if (g.count != 1)
            hm_buf_reset(&g.first);
        err = answer_der(o, hm_buf_bytes(&g.first), g.exact, now_ms, der);
    }
    hm_buf_free(&g.first);
    return err;
}

void tc_ocsp_get_counters(const tc_ocsp *o, tc_ocsp_counters *out)
{
    *out = o->counters;
}

hm_err tc_ocsp_open(tc_authority *a, tc_ocsp **out)
{
    tc_ocsp *o = calloc(1, sizeof *o);
    if (!o)
        return HM_E_NOMEM;
    o->authority = a;
    hm_random_fill(&hm_random_system, o->seed, sizeof o->seed);
    *out = o;
    return HM_OK;
}

void tc_ocsp_close(tc_ocsp *o)
{
    for (size_t i = 0; o && i < OCSP_KEPT_MAX; i++) {
        hm_buf_free(&o->kept[i].id);
        hm_buf_free(&o->kept[i].der);
    }
    free(o);
}
