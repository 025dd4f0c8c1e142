// Authorizations and their challenges: RFC 8555, 7.5 and 8.
#include <stdio.h>

#include "trustchain/acme/internal.h"

static const char *const challenge_words[] = {"http-01", "dns-01", "tls-alpn-01"};

static bool fits(const acme *a, const acme_authz *z, acme_challenge type)
{
    if (z->chosen != ACME_NO_CHALLENGE)
        return type == z->chosen; // once one was tried, it is the only one
    return type != ACME_DNS_01 || (a->cfg.dns_01 && z->name.type == ACME_DNS); // RFC 8738, 7
}

static void token_text(const acme_authz *z, char out[40])
{
    hm_buf b = hm_buf_fixed(out, 39);
    jose_base64(hm_bytes_of(z->token, ACME_TOKEN_BYTES), &b);
    out[b.len] = 0;
}

static void fill_challenge(acme_call *c, yyjson_mut_doc *doc, yyjson_mut_val *object,
                           const acme_authz *z, acme_challenge type)
{
    char token[40];
    acme_status status = z->chosen == type ? z->status : ACME_PENDING;
    token_text(z, token);
    yyjson_mut_obj_add_str(doc, object, "type", challenge_words[type]);
    acme_put_url(c, doc, object, "url", "challenge/%llu/%s", (unsigned long long)z->id,
                 challenge_words[type]);
    yyjson_mut_obj_add_str(doc, object, "status",
                           acme_status_word(status == ACME_DEACTIVATED ? ACME_INVALID : status));
    yyjson_mut_obj_add_strcpy(doc, object, "token", token);
    if (z->chosen == type && z->validated_ms)
        acme_put_time(doc, object, "validated", z->validated_ms);
    if (z->chosen == type)
        acme_put_fault(doc, object, "error", &z->fault);
}

static acme_error reply_authz(acme_call *c, const acme_authz *z)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *name = yyjson_mut_obj(doc);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    acme_status status = z->status == ACME_PROCESSING ? ACME_PENDING : z->status;
    bool open = status == ACME_PENDING || status == ACME_VALID;
    if (open && c->rq->now_ms >= z->expires_ms)
        status = status == ACME_VALID ? ACME_EXPIRED : ACME_INVALID;
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, name, "type", z->name.type == ACME_DNS ? "dns" : "ip");
    yyjson_mut_obj_add_strcpy(doc, name, "value", z->name.value);
    yyjson_mut_obj_add_val(doc, root, "identifier", name);
    yyjson_mut_obj_add_str(doc, root, "status", acme_status_word(status));
    acme_put_time(doc, root, "expires", z->expires_ms);
    for (int type = ACME_HTTP_01; type < ACME_NO_CHALLENGE; type++)
        if (fits(c->a, z, (acme_challenge)type))
            fill_challenge(c, doc, yyjson_mut_arr_add_obj(doc, list), z, (acme_challenge)type);
    yyjson_mut_obj_add_val(doc, root, "challenges", list);
    if (z->status == ACME_PROCESSING)
        c->out->retry_after_s = 1;
    return acme_reply(c, 200, doc);
}

static acme_error find(acme_call *c, acme_authz *out)
{
    uint64_t id;
    ACME_TRY(acme_id(c, &id));
    hm_err err = acme_record_authz_get(c->a->store, id, out);
    if (err == HM_E_NOTFOUND) {
        c->out->status = 404;
        return acme_fail(c, ACME_MALFORMED, "there is no such authorization, or it has expired");
    }
    ACME_TRY_HM(c, err);
    if (out->account != c->account.id)
        return acme_fail(c, ACME_UNAUTHORIZED, "the authorization is another account's");
    return ACME_OK;
}

acme_error acme_op_authorization(acme_call *c)
{
    acme_authz z;
    const char *status = NULL;
    ACME_TRY(find(c, &z));
    if (c->payload) {
        ACME_TRY(acme_payload_text(c, "status", &status));
        if (!status || strcmp(status, "deactivated") != 0)
            return acme_fail(c, ACME_MALFORMED, "an authorization can only be deactivated");
        if (z.status != ACME_PENDING && z.status != ACME_VALID)
            return acme_fail(c, ACME_MALFORMED, "the authorization is %s",
                             acme_status_word(z.status));
        z.status = ACME_DEACTIVATED;
        ACME_TRY_HM(c, acme_record_authz_put(c->a->store, &z));
        ACME_TRY_HM(c, acme_record_right_put(c->a->store, z.account, &z.name, 0));
    }
    return reply_authz(c, &z);
}

// ---- challenges ---------------------------------------------------------------------------------

hm_err acme_task_push(acme *a, const acme_authz *z, const hm_hash *thumbprint)
{
    acme_task *t = &a->tasks[(a->task_first + a->task_count) % ACME_VALIDATIONS_MAX];
    hm_buf key = {0};
    hm_assert(a->task_count < ACME_VALIDATIONS_MAX);
    *t = (acme_task){.authorization = z->id, .challenge = z->chosen, .name = z->name};
    token_text(z, t->token);
    jose_base64(hm_hash_bytes(thumbprint), &key);
    hm_err err = hm_buf_status(&key);
    if (err == HM_OK) {
        snprintf(t->key_auth, sizeof t->key_auth, "%s.%s", t->token, hm_buf_cstr(&key));
        a->task_count++;
    }
    hm_buf_free(&key);
    return err;
}

static acme_error begin(acme_call *c, acme_authz *z, acme_challenge type)
{
    acme *a = c->a;
    if (c->rq->now_ms >= z->expires_ms)
        return acme_fail(c, ACME_MALFORMED, "the authorization has expired");
    if (a->task_count + a->validating >= ACME_VALIDATIONS_MAX) {
        c->out->retry_after_s = 5;
        return acme_fail(c, ACME_RATE_LIMITED, "%u validations are under way",
                         ACME_VALIDATIONS_MAX);
    }
    z->chosen = type;
    z->status = ACME_PROCESSING;
    ACME_TRY_HM(c, acme_record_authz_put(a->store, z));
    ACME_TRY_HM(c, acme_task_push(a, z, &c->key.thumbprint));
    return ACME_OK;
}

acme_error acme_op_challenge(acme_call *c)
{
    acme_authz z;
    int type = ACME_HTTP_01;
    ACME_TRY(find(c, &z));
    while (type < ACME_NO_CHALLENGE && strcmp(c->rq->sub, challenge_words[type]) != 0)
        type++;
    if (type == ACME_NO_CHALLENGE || !fits(c->a, &z, (acme_challenge)type)) {
        c->out->status = 404;
        return acme_fail(c, ACME_MALFORMED, "the authorization has no such challenge");
    }
    if (c->payload && z.status == ACME_PENDING)
        ACME_TRY(begin(c, &z, (acme_challenge)type));
    return acme_challenge_reply(c, &z, (acme_challenge)type);
}

acme_error acme_challenge_reply(acme_call *c, const acme_authz *z, acme_challenge type)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    fill_challenge(c, doc, root, z, type);
    c->out->deciding = z->status == ACME_PROCESSING ? z->id : 0;
    c->out->retry_after_s = c->out->deciding ? 1 : 0;
    snprintf(c->out->link[1], ACME_URL_MAX, "<%.400s" ACME_PATH "authorization/%llu>;rel=\"up\"",
             c->rq->base, (unsigned long long)z->id);
    return acme_reply(c, 200, doc);
}

bool acme_answer_decided(acme *a, const acme_request *rq, acme_answer *out)
{
    acme_call c = {.a = a, .rq = rq, .out = out};
    acme_authz z;
    hm_err err = acme_record_authz_get(a->store, out->deciding, &z);
    if (err == HM_OK && z.status == ACME_PROCESSING)
        return false;
    out->deciding = 0;
    if (err == HM_OK && acme_challenge_reply(&c, &z, z.chosen) != ACME_OK)
        acme_answer_failed(a, rq, out);
    return true;
}

bool acme_next_task(acme *a, acme_task *out)
{
    if (a->task_count == 0)
        return false;
    *out = a->tasks[a->task_first];
    a->task_first = (a->task_first + 1) % ACME_VALIDATIONS_MAX;
    a->task_count--;
    a->task_committed -= a->task_committed > 0; // those are the older ones
    a->validating++;
    return true;
}

static hm_err record_result(acme *a, uint64_t authorization, const char *token, acme_error error,
                            const char *detail, uint64_t now_ms)
{
    acme_authz z;
    char own[40];
    hm_err err = acme_record_authz_get(a->store, authorization, &z);
    if (err == HM_E_NOTFOUND)
        return HM_OK; // it expired meanwhile
    HM_TRY(err);
    token_text(&z, own);
    if (z.status != ACME_PROCESSING || strcmp(own, token) != 0)
        return HM_OK; // its request was never stored
    z.status = error == ACME_OK ? ACME_VALID : ACME_INVALID;
    z.validated_ms = now_ms;
    z.fault.type = error;
    snprintf(z.fault.detail, sizeof z.fault.detail, "%s", detail);
    if (error == ACME_OK)
        HM_TRY(acme_record_right_put(a->store, z.account, &z.name, z.expires_ms));
    return acme_record_authz_put(a->store, &z);
}

hm_err acme_task_done(acme *a, uint64_t authorization, const char *token, acme_error error,
                      const char *detail, uint64_t now_ms)
{
    if (a->validating)
        a->validating--;
    hm_err err = record_result(a, authorization, token, error, detail, now_ms);
    a->spoilt = a->spoilt || err != HM_OK;
    return err;
}
