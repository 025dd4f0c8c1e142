#include "server/acme_api.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/list.h"
#include "server/gather.h"

#define HOST_MAX 150u // so that every URL of ours fits a header field
#define HOLD_MS 250u  // an answer about a challenge waits for the validation's end
#define SWEEP_MS 60000u
#define SWEEP_ORDERS 1000u // at most, each time

typedef struct pending { // an answer that waits for the commit
    hm_list node;
    hm_http_req *r; // NULL: the peer is gone
    acme_op op;
    uint64_t since_ms; // the loop's
    char base[280];
    acme_answer answer;
} pending;

struct acme_api {
    acme_api_config cfg;
    acme *core;
    acme_validate *validate;
    hm_list pending; // of pending, oldest first
    gather gather;   // of the commit
    uv_timer_t sweep, hold;
    acme_api_counters counters;
    int handles; // to be closed
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static uint64_t now_ms(const acme_api *a)
{
    return hm_clock_wall_ms(a->cfg.clock);
}

// ---- answers ------------------------------------------------------------------------------------

static void send_answer(hm_http_req *r, const acme_answer *w)
{
    char number[16];
    if (w->nonce[0])
        hm_http_header(r, "replay-nonce", w->nonce);
    if (w->location[0])
        hm_http_header(r, "location", w->location);
    for (size_t i = 0; i < 2; i++)
        if (w->link[i][0])
            hm_http_header(r, "link", w->link[i]);
    if (w->retry_after_s) {
        snprintf(number, sizeof number, "%u", w->retry_after_s);
        hm_http_header(r, "retry-after", number);
    }
    hm_http_reply(r, w->status, w->content_type, hm_buf_bytes(&w->body));
}

static void count(acme_api *a, const acme_answer *w)
{
    a->counters.refused += w->error != ACME_OK;
    if (w->issued || w->revoked)
        a->cfg.changed(a->cfg.ctx, &w->certificate);
}

static void on_hold(uv_timer_t *t)
{
    acme_api *a = t->data;
    gather_want(&a->gather);
}

static void start_tasks(acme_api *a)
{
    acme_task task;
    while (a->validate && acme_next_task(a->core, &task)) {
        a->counters.under_way++;
        acme_validate_push(a->validate, &task);
    }
}

// Does the answer wait for the end of a validation? Says how that ended, if it did.
static bool holds(acme_api *a, pending *p)
{
    const acme_request rq = {.op = p->op, .base = p->base, .now_ms = now_ms(a)};
    return p->answer.deciding && !acme_answer_decided(a->core, &rq, &p->answer) && a->validate &&
           p->r && uv_now(a->cfg.loop) < p->since_ms + HOLD_MS;
}

static void flush(void *ctx)
{
    acme_api *a = ctx;
    hm_list held;
    hm_list_init(&held);
    hm_list_each(it, &a->pending)
    {
        if (!holds(a, hm_container_of(it, pending, node)))
            continue;
        hm_list_remove(it);
        hm_list_append(&held, it);
    }
    hm_err err = acme_commit(a->core);
    a->counters.commits++;
    if (err != HM_OK) {
        char why[512];
        hm_log(HM_LOG_ERROR, "acme", "nothing stored", "why=%s",
               hm_log_quote(why, sizeof why, hm_bytes_str(hm_err_detail())));
        hm_list_move_all(&held, &a->pending); // what they are about may not be there
    }
    while (!hm_list_empty(&a->pending)) {
        pending *p = hm_container_of(a->pending.next, pending, node);
        hm_list_remove(&p->node);
        // A certificate is the authority's, whether the order that asked for it was stored or not.
        count(a, &p->answer);
        if (err != HM_OK) {
            const acme_request rq = {.op = p->op, .base = p->base, .now_ms = now_ms(a)};
            acme_answer_failed(a->core, &rq, &p->answer);
        }
        if (p->r)
            send_answer(p->r, &p->answer);
        acme_answer_free(&p->answer);
        free(p);
    }
    hm_list_move_all(&held, &a->pending);
    if (!hm_list_empty(&a->pending)) {
        const pending *oldest = hm_container_of(a->pending.next, pending, node);
        uint64_t now = uv_now(a->cfg.loop), due = oldest->since_ms + HOLD_MS;
        uv_timer_start(&a->hold, on_hold, due > now ? due - now : 0, 0);
    }
}

static void on_gone(void *ctx)
{
    pending *p = ctx;
    p->r = NULL;
}

// ---- requests -----------------------------------------------------------------------------------

// A host and a port, as a client may write them in a Host field: nothing that would end a URL.
static bool host_good(const char *host)
{
    size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.:[]_");
    return n > 0 && n <= HOST_MAX && host[n] == 0;
}

void acme_api_handle(acme_api *a, hm_http_req *r, acme_op op)
{
    char path[512];
    const char *host = hm_http_host(r), *cursor = NULL;
    if (!a) {
        hm_http_reply_error(r, 404, "NOTFOUND", "there is nothing under this address",
                            "ACME is off: --acme on");
        return;
    }
    if (op == ACME_OP_ORDERS)
        cursor = hm_http_query(r, "cursor");
    if (!host_good(host) || strlen(hm_http_path(r)) > 400 || (cursor && strlen(cursor) > 20)) {
        hm_http_reply_err(r, HM_E_PARSE, "the Host, the path or the cursor cannot be one of ours");
        return;
    }
    pending *p = calloc(1, sizeof *p);
    if (!p) {
        hm_http_reply_err(r, HM_E_NOMEM, NULL);
        return;
    }
    snprintf(p->base, sizeof p->base, "https://%s", host);
    snprintf(path, sizeof path, "%s%s%s", hm_http_path(r), cursor ? "?cursor=" : "",
             cursor ? cursor : "");
    bool named = op >= ACME_OP_ACCOUNT;
    acme_request rq = {.op = op,
                       .id = named ? hm_http_param(r, 0) : "",
                       .sub = op == ACME_OP_CHALLENGE ? hm_http_param(r, 1) : "",
                       .base = p->base,
                       .path = path,
                       .content_type = hm_http_content_type(r),
                       .body = hm_http_body(r),
                       .cursor = cursor ? strtoull(cursor, NULL, 10) : 0,
                       .now_ms = now_ms(a)};
    memcpy(rq.client, hm_http_client(r), sizeof rq.client);
    p->r = r;
    p->op = op;
    p->since_ms = uv_now(a->cfg.loop);
    a->counters.requests++;
    acme_handle(a->core, &rq, &p->answer);
    if (op == ACME_OP_NEW_NONCE && hm_http_is_head(r))
        p->answer.status = 200; // RFC 8555, 7.2
    hm_list_append(&a->pending, &p->node);
    hm_http_on_abort(r, on_gone, p);
    if (!p->answer.deciding)
        gather_want(&a->gather);
    else if (!uv_is_active((uv_handle_t *)&a->hold))
        uv_timer_start(&a->hold, on_hold, HOLD_MS, 0);
    start_tasks(a); // beside the commit
}

static void on_validated(void *ctx, const acme_probe_result *result)
{
    acme_api *a = ctx;
    char why[600];
    a->counters.under_way--;
    a->counters.validations++;
    a->counters.validations_failed += result->error != ACME_OK;
    hm_log(HM_LOG_INFO, "acme", "validated", "authorization=%llu result=%s why=%s",
           (unsigned long long)result->authorization,
           result->error == ACME_OK ? "valid" : acme_error_word(result->error),
           hm_log_quote(why, sizeof why, hm_bytes_str(result->detail)));
    hm_err err = acme_task_done(a->core, result->authorization, result->token, result->error,
                                result->detail, now_ms(a));
    if (err != HM_OK) // it is asked again after the next start
        hm_log(HM_LOG_ERROR, "acme", "result not stored", "why=\"%s\"", hm_err_text(err));
    gather_want(&a->gather);
}

static void on_sweep(uv_timer_t *t)
{
    acme_api *a = t->data;
    hm_err err = acme_sweep(a->core, now_ms(a), SWEEP_ORDERS);
    if (err != HM_OK)
        hm_log(HM_LOG_ERROR, "acme", "old orders not removed", "why=\"%s\"", hm_err_text(err));
    gather_want(&a->gather);
}

void acme_api_get_counters(const acme_api *a, acme_api_counters *out)
{
    *out = a ? a->counters : (acme_api_counters){0};
}

// ---- life ---------------------------------------------------------------------------------------

static void release(acme_api *a)
{
    void (*closed)(void *) = a->closed;
    void *ctx = a->closed_ctx;
    if (--a->handles > 0)
        return;
    acme_close(a->core);
    free(a);
    if (closed)
        closed(ctx);
}

static void on_handle_closed(uv_handle_t *h)
{
    release(h->data);
}

static void on_gather_closed(void *ctx)
{
    release(ctx);
}

static void on_validate_closed(void *ctx)
{
    release(ctx);
}

void acme_api_close(acme_api *a, void (*closed)(void *ctx), void *ctx)
{
    a->closed = closed;
    a->closed_ctx = ctx;
    a->handles = a->validate ? 4 : 3;
    acme_validate *v = a->validate;
    a->validate = NULL; // nothing is begun any more
    flush(a);
    gather_close(&a->gather, on_gather_closed);
    uv_close((uv_handle_t *)&a->sweep, on_handle_closed);
    uv_close((uv_handle_t *)&a->hold, on_handle_closed);
    if (v)
        acme_validate_close(v, on_validate_closed, a);
}

static uint64_t progress(void *ctx)
{
    const acme_api *a = ctx;
    return a->cfg.progress(a->cfg.ctx);
}

static void start_handles(acme_api *a, uv_loop_t *loop)
{
    gather_open(&a->gather, loop, progress, flush, a);
    uv_timer_init(loop, &a->sweep);
    uv_timer_init(loop, &a->hold);
    a->sweep.data = a->hold.data = a;
    uv_timer_start(&a->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
}

hm_err acme_api_open(const acme_api_config *cfg, acme_api **out)
{
    acme_api *a = calloc(1, sizeof *a);
    if (!a)
        return HM_E_NOMEM;
    a->cfg = *cfg;
    hm_list_init(&a->pending);
    const acme_config core = {.dir = cfg->dir,
                              .authority = cfg->authority,
                              .eab_required = cfg->options.eab_required,
                              .dns_01 = cfg->options.probe.resolver.sin6_port != 0,
                              .accounts_an_hour = cfg->options.accounts_an_hour,
                              .orders_an_hour = cfg->options.orders_an_hour,
                              .now_ms = now_ms(a)};
    hm_err err = acme_open(&core, &a->core);
    if (err != HM_OK) {
        free(a);
        return err;
    }
    const acme_validate_config validate = {
        .loop = cfg->loop, .probe = cfg->options.probe, .done = on_validated, .ctx = a};
    err = acme_validate_open(&validate, &a->validate);
    if (err != HM_OK) {
        acme_close(a->core);
        free(a);
        return err;
    }
    start_handles(a, cfg->loop);
    start_tasks(a);
    *out = a;
    return HM_OK;
}
