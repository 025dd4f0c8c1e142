// Life of the server's core, requests to their handlers, answers.
#include "trustchain/acme/acme.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "trustchain/acme/internal.h"

#define SWEEP_MS 1000u // between two looks at all rates

static const struct {
    const char *word;
    unsigned status;
} errors[] = {
#define X(symbol, word, status) {word, status},
    ACME_ERROR_LIST(X)
#undef X
};

const char *acme_error_word(acme_error e)
{
    return errors[e].word;
}

const char *acme_status_word(acme_status s)
{
    static const char *const words[] = {"pending", "ready",       "processing", "valid",
                                        "invalid", "deactivated", "expired"};
    return words[s];
}

acme_error acme_fail(acme_call *c, acme_error e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, args);
    va_end(args);
    c->error = e;
    return e;
}

acme_error acme_fail_err(acme_call *c, hm_err err)
{
    char why[400];
    if (err == HM_E_FULL)
        c->out->retry_after_s = 60;
    hm_log(HM_LOG_ERROR, "acme", "request failed", "error=\"%s\" why=%s", hm_err_text(err),
           hm_log_quote(why, sizeof why, hm_bytes_str(hm_err_detail())));
    return acme_fail(c, ACME_SERVER_INTERNAL, "%s",
                     err == HM_E_FULL ? "the server's disk is full" : "the server failed");
}

// ---- parts of answers ---------------------------------------------------------------------------

void acme_answer_free(acme_answer *out)
{
    hm_buf_free(&out->body);
    *out = (acme_answer){0};
}

static void put_json(acme_answer *out, yyjson_mut_doc *doc)
{
    size_t len = 0;
    char *text = doc ? yyjson_mut_write(doc, YYJSON_WRITE_NOFLAG, &len) : NULL;
    hm_buf_reset(&out->body);
    hm_buf_append(&out->body, text, len);
    if (!text)
        out->body.status = HM_E_NOMEM;
    free(text);
    yyjson_mut_doc_free(doc);
}

acme_error acme_reply(acme_call *c, unsigned status, yyjson_mut_doc *doc)
{
    c->out->status = status;
    c->out->content_type = "application/json";
    put_json(c->out, doc);
    ACME_TRY_HM(c, hm_buf_status(&c->out->body));
    return ACME_OK;
}

void acme_put_url(acme_call *c, yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                  const char *fmt, ...)
{
    char url[ACME_URL_MAX];
    int n = snprintf(url, sizeof url, "%s" ACME_PATH, c->rq->base);
    va_list args;
    va_start(args, fmt);
    if (n > 0 && n < (int)sizeof url)
        vsnprintf(url + n, sizeof url - (size_t)n, fmt, args);
    va_end(args);
    if (name)
        yyjson_mut_obj_add_strcpy(doc, object, name, url);
    else
        yyjson_mut_arr_add_strcpy(doc, object, url);
}

void acme_location(acme_call *c, const char *fmt, ...)
{
    int n = snprintf(c->out->location, ACME_URL_MAX, "%s" ACME_PATH, c->rq->base);
    va_list args;
    va_start(args, fmt);
    if (n > 0 && n < (int)ACME_URL_MAX)
        vsnprintf(c->out->location + n, ACME_URL_MAX - (size_t)n, fmt, args);
    va_end(args);
}

void acme_put_time(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, uint64_t ms)
{
    char text[40];
    struct tm tm;
    time_t s = (time_t)(ms / 1000);
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    yyjson_mut_obj_add_strcpy(doc, object, name, text);
}

// Text that a peer may have had a part in: what is no JSON text becomes '?'.
static void put_detail(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *detail)
{
    char text[ACME_DETAIL_MAX + 1];
    snprintf(text, sizeof text, "%s", detail);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p >= 0x7f || (unsigned char)*p < 0x20)
            *p = '?';
    yyjson_mut_obj_add_strcpy(doc, object, "detail", text);
}

static void put_problem(yyjson_mut_doc *doc, yyjson_mut_val *object, acme_error e,
                        const char *detail)
{
    char urn[64];
    snprintf(urn, sizeof urn, "urn:ietf:params:acme:error:%s", errors[e].word);
    yyjson_mut_obj_add_strcpy(doc, object, "type", urn);
    put_detail(doc, object, detail);
    yyjson_mut_obj_add_uint(doc, object, "status", errors[e].status);
}

void acme_put_fault(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                    const acme_fault *f)
{
    yyjson_mut_val *problem = yyjson_mut_obj(doc);
    if (f->type == ACME_OK)
        return;
    put_problem(doc, problem, f->type, f->detail);
    yyjson_mut_obj_add_val(doc, object, name, problem);
}

static void reply_problem(acme_answer *out, acme_error e, const char *detail)
{
    static const char *const algorithms[] = {JOSE_ALGORITHMS};
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    put_problem(doc, root, e, detail);
    if (e == ACME_BAD_SIGNATURE_ALGORITHM) // RFC 8555, 6.2
        yyjson_mut_obj_add_val(
            doc, root, "algorithms",
            yyjson_mut_arr_with_str(doc, (const char **)(uintptr_t)algorithms, 4));
    out->error = e;
    out->status = errors[e].status;
    out->content_type = "application/problem+json";
    put_json(out, doc);
}

// ---- parts of requests --------------------------------------------------------------------------

acme_error acme_id(acme_call *c, uint64_t *out)
{
    const char *text = c->rq->id;
    size_t len = strlen(text);
    uint64_t n = 0;
    for (size_t i = 0; i < len && len <= 18; i++) {
        if (text[i] < '0' || text[i] > '9')
            len = 0;
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    if (len == 0 || len > 18 || n == 0 || text[0] == '0') {
        c->error = acme_fail(c, ACME_MALFORMED, "there is nothing under this address");
        c->out->status = 404;
        return c->error;
    }
    *out = n;
    return ACME_OK;
}

acme_error acme_no_payload(acme_call *c)
{
    if (!c->payload)
        return ACME_OK;
    return acme_fail(c, ACME_MALFORMED, "this resource is read with an empty payload");
}

acme_error acme_need_payload(acme_call *c)
{
    if (c->payload)
        return ACME_OK;
    return acme_fail(c, ACME_MALFORMED, "this resource needs a JSON object as payload");
}

acme_error acme_payload_text(acme_call *c, const char *name, const char **out)
{
    yyjson_val *v = yyjson_obj_get(yyjson_doc_get_root(c->payload), name);
    *out = NULL;
    if (!v)
        return ACME_OK;
    *out = yyjson_get_str(v);
    if (!*out || strlen(*out) != yyjson_get_len(v))
        return acme_fail(c, ACME_MALFORMED, "\"%s\" is not a text", name);
    return ACME_OK;
}

// ---- rates --------------------------------------------------------------------------------------

static void windows_sweep(acme *a, uint64_t now_ms, bool all)
{
    size_t pos = 0, n = 0;
    const uint8_t *key;
    void *value;
    uint8_t(*ended)[9] = malloc((a->windows.count + 1) * sizeof *ended);
    while (ended && hm_map_next(&a->windows, &pos, &key, &value)) {
        const acme_window *w = value;
        if (all || now_ms >= w->began_ms + ACME_HOUR_MS)
            memcpy(ended[n++], key, sizeof *ended);
    }
    for (size_t i = 0; i < n; i++)
        free(hm_map_remove(&a->windows, ended[i]));
    free(ended);
}

static acme_window *window_of(acme *a, char kind, const void *key8, uint64_t now_ms)
{
    uint8_t key[9] = {(uint8_t)kind};
    memcpy(key + 1, key8, 8);
    acme_window *w = hm_map_get(&a->windows, key);
    if (w)
        return w;
    if (a->windows.count >= ACME_WINDOWS_MAX && now_ms >= a->swept_ms + SWEEP_MS) {
        a->swept_ms = now_ms;
        windows_sweep(a, now_ms, false);
    }
    w = calloc(1, sizeof *w);
    if (!w || hm_map_put(&a->windows, key, w) != HM_OK) {
        free(w);
        return &a->crowd; // they share one
    }
    return w;
}

acme_error acme_rate(acme_call *c, char kind, const void *key8, uint32_t most, const char *what)
{
    uint64_t now = c->rq->now_ms;
    if (most == 0)
        return ACME_OK;
    acme_window *w = window_of(c->a, kind, key8, now);
    if (now >= w->began_ms + ACME_HOUR_MS || now < w->began_ms)
        *w = (acme_window){.began_ms = now};
    if (w->count < most) {
        w->count++;
        return ACME_OK;
    }
    c->out->retry_after_s = (uint32_t)((w->began_ms + ACME_HOUR_MS - now) / 1000 + 1);
    return acme_fail(c, ACME_RATE_LIMITED, "%u %s an hour; try again in %u s", most, what,
                     c->out->retry_after_s);
}

// ---- requests -----------------------------------------------------------------------------------

static acme_error op_directory(acme_call *c)
{
    static const char *const members[][2] = {
        {"newNonce", "new-nonce"},   {"newAccount", "new-account"},
        {"newOrder", "new-order"},   {"revokeCert", "revoke-cert"},
        {"keyChange", "key-change"}, {"renewalInfo", "renewal-info"},
    };
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *meta = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, root);
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        acme_put_url(c, doc, root, members[i][0], "%s", members[i][1]);
    yyjson_mut_obj_add_bool(doc, meta, "externalAccountRequired", c->a->cfg.eab_required);
    yyjson_mut_obj_add_val(doc, root, "meta", meta);
    return acme_reply(c, 200, doc);
}

static acme_error op_new_nonce(acme_call *c)
{
    c->out->status = 204;
    return ACME_OK;
}

static acme_error dispatch(acme_call *c)
{
    static acme_error (*const ops[])(acme_call *) = {
        [ACME_OP_DIRECTORY] = op_directory,
        [ACME_OP_NEW_NONCE] = op_new_nonce,
        [ACME_OP_NEW_ACCOUNT] = acme_op_new_account,
        [ACME_OP_NEW_ORDER] = acme_op_new_order,
        [ACME_OP_REVOKE] = acme_op_revoke,
        [ACME_OP_KEY_CHANGE] = acme_op_key_change,
        [ACME_OP_ACCOUNT] = acme_op_account,
        [ACME_OP_ORDERS] = acme_op_orders,
        [ACME_OP_ORDER] = acme_op_order,
        [ACME_OP_FINALIZE] = acme_op_finalize,
        [ACME_OP_CERTIFICATE] = acme_op_certificate,
        [ACME_OP_AUTHORIZATION] = acme_op_authorization,
        [ACME_OP_CHALLENGE] = acme_op_challenge,
        [ACME_OP_RENEWAL_INFO] = acme_op_renewal_info,
    };
    acme_op op = c->rq->op;
    if (op != ACME_OP_DIRECTORY && op != ACME_OP_NEW_NONCE && op != ACME_OP_RENEWAL_INFO)
        ACME_TRY(acme_authenticate(c));
    if (op == ACME_OP_NEW_ORDER || op == ACME_OP_REVOKE) // they look for certificates, and commit
        ACME_TRY_HM(c, acme_ended_take(c->a));
    return ops[op](c);
}

static void finish(acme_call *c, acme_error e)
{
    acme_answer *out = c->out;
    acme_op op = c->rq->op;
    unsigned status = out->status;
    if (e == ACME_SERVER_INTERNAL)
        c->a->spoilt = true; // half of a change may be there
    if (e != ACME_OK) {
        reply_problem(out, e, c->detail);
        if (status == 404 || status == 415 || status == 409) // what HTTP has a word of its own for
            out->status = status;
    }
    if (op != ACME_OP_DIRECTORY && op != ACME_OP_RENEWAL_INFO)
        acme_nonce_make(c->a, out->nonce);
    if (op != ACME_OP_DIRECTORY) // RFC 8555, 7.1
        snprintf(out->link[0], ACME_URL_MAX, "<%.400s" ACME_PATH "directory>;rel=\"index\"",
                 c->rq->base);
}

void acme_handle(acme *a, const acme_request *rq, acme_answer *out)
{
    acme_call c = {.a = a, .rq = rq, .out = out};
    *out = (acme_answer){0};
    acme_error e = dispatch(&c);
    finish(&c, e);
    yyjson_doc_free(c.payload);
    jose_jwk_free(&c.key);
    jose_jws_free(&c.jws);
}

void acme_answer_failed(acme *a, const acme_request *rq, acme_answer *out)
{
    acme_call c = {.a = a, .rq = rq, .out = out};
    acme_answer_free(out);
    finish(&c, acme_fail(&c, ACME_SERVER_INTERNAL, "the server cannot store what it does"));
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err resume_tasks(acme *a)
{
    uint64_t id = 0;
    hm_err err;
    while (a->task_count < ACME_VALIDATIONS_MAX &&
           (err = acme_record_authz_next(a->store, id, &id)) == HM_OK) {
        acme_authz z;
        acme_account account;
        jose_jwk key;
        HM_TRY(acme_record_authz_get(a->store, id, &z));
        HM_TRY(acme_record_account_get(a->store, z.account, &account));
        HM_TRY(jose_jwk_parse(hm_bytes_str(account.jwk), &key));
        err = acme_task_push(a, &z, &key.thumbprint);
        jose_jwk_free(&key);
        HM_TRY(err);
    }
    return acme_commit(a);
}

hm_err acme_open(const acme_config *cfg, acme **out)
{
    hm_err err;
    acme *a = calloc(1, sizeof *a);
    if (!a)
        return HM_E_NOMEM;
    a->cfg = *cfg;
    a->cfg.dir = NULL;
    hm_list_init(&a->ended);
    hm_map_init(&a->windows, 9, ACME_WINDOWS_MAX, &hm_random_system);
    hm_random_fill(&hm_random_system, a->nonce_seed, sizeof a->nonce_seed);
    a->nonce_used = calloc(ACME_NONCES / 8, 1);
    a->tasks = calloc(ACME_VALIDATIONS_MAX, sizeof *a->tasks);
    if (!a->nonce_used || !a->tasks) {
        err = HM_E_NOMEM;
        goto out;
    }
    HM_TRY_OUT(acme_store_open(cfg->dir, &a->store));
    HM_TRY_OUT(acme_ended_load(a));
    HM_TRY_OUT(resume_tasks(a));
    *out = a;
    return HM_OK;
out:
    acme_close(a);
    return err;
}

void acme_close(acme *a)
{
    if (!a)
        return;
    acme_store_close(a->store);
    acme_ended_free(a);
    windows_sweep(a, 0, true);
    hm_map_free(&a->windows);
    free(a->nonce_used);
    free(a->tasks);
    free(a);
}

hm_err acme_commit(acme *a)
{
    hm_err err = HM_OK;
    if (a->spoilt) {
        acme_store_abort(a->store);
        err = hm_fail(HM_E_IO, "a request failed in the middle of its changes");
    } else {
        err = acme_store_commit(a->store);
    }
    a->spoilt = false;
    a->orders_new = 0;
    acme_ended_committed(a, err == HM_OK);
    if (err == HM_OK)
        a->task_committed = a->task_count;
    else
        a->task_count = a->task_committed; // what they are about is not there
    return err;
}

static hm_err sweep_order(acme *a, uint64_t id, uint64_t now_ms)
{
    acme_order o;
    uint64_t left;
    HM_TRY(acme_record_order_get(a->store, id, &o));
    for (uint32_t i = 0; i < o.count; i++) {
        uint64_t until;
        HM_TRY(acme_record_right_get(a->store, o.account, &o.names[i].id, &until));
        if (until && until <= now_ms)
            HM_TRY(acme_record_right_put(a->store, o.account, &o.names[i].id, 0));
    }
    HM_TRY(acme_record_order_del(a->store, &o));
    return acme_record_count(a->store, 'o', -1, &left);
}

hm_err acme_sweep(acme *a, uint64_t now_ms, size_t most)
{
    uint64_t id;
    hm_err err = acme_ended_take(a);
    while (err == HM_OK && most-- &&
           (err = acme_record_order_expired(a->store, now_ms, &id)) == HM_OK)
        err = sweep_order(a, id, now_ms);
    if (err == HM_E_NOTFOUND)
        err = HM_OK;
    a->spoilt = a->spoilt || err != HM_OK;
    return err;
}

hm_err acme_eab_make(const char *dir, uint64_t now_ms, acme_eab_key *out)
{
    acme_store *s = NULL;
    acme_eab e = {.created_ms = now_ms};
    uint8_t id[16];
    hm_buf text = {0};
    uint64_t count;
    hm_err err;
    HM_TRY_OUT(acme_store_open(dir, &s));
    hm_random_fill(&hm_random_system, id, sizeof id);
    hm_random_fill(&hm_random_system, e.secret, sizeof e.secret);
    jose_base64(hm_bytes_of(id, sizeof id), &text);
    snprintf(e.id, sizeof e.id, "%s", hm_buf_cstr(&text));
    hm_buf_reset(&text);
    jose_base64(hm_bytes_of(e.secret, sizeof e.secret), &text);
    HM_TRY_OUT(hm_buf_status(&text));
    HM_TRY_OUT(acme_record_count(s, 'e', 1, &count));
    if (count > ACME_EABS_MAX) {
        err = hm_fail(HM_E_LIMIT, "there are %u keys for external accounts already", ACME_EABS_MAX);
        goto out;
    }
    HM_TRY_OUT(acme_record_eab_put(s, &e));
    HM_TRY_OUT(acme_store_commit(s));
    snprintf(out->id, sizeof out->id, "%s", e.id);
    snprintf(out->secret, sizeof out->secret, "%s", hm_buf_cstr(&text));
out:
    acme_store_close(s);
    hm_buf_free_secret(&text);
    hm_zero(&e, sizeof e);
    return err;
}
