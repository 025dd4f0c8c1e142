#include "server/crl_watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "server/client.h"
#include "trustchain/trustchain.h"

#define ASK_TIMEOUT_S 10u // also the longest that it holds up the end of the daemon

struct crl_watch {
    uv_timer_t timer;
    uv_work_t work;
    hm_node *node;
    char authority[256], root[4096];
    uint32_t every_s;
    hm_buf answer; // of the question that is out
    hm_err err;
    char detail[200];
    bool asking, failing, submitting, closing, gone;
};

static void free_when_idle(crl_watch *w)
{
    if (!w->gone || w->asking || w->submitting)
        return;
    hm_buf_free(&w->answer);
    free(w);
}

static void ask(uv_work_t *work)
{
    crl_watch *w = work->data;
    hm_client c = {.url = w->authority, .ca_path = w->root, .timeout_s = ASK_TIMEOUT_S};
    hm_err_clear();
    hm_buf_reset(&w->answer);
    w->err = hm_client_request(&c, "GET", "/v1/crl?family=mesh", (hm_bytes){0}, NULL, &w->answer);
    snprintf(w->detail, sizeof w->detail, "%.190s", hm_err_detail());
}

static void submitted(void *ctx, hm_err err, const char *detail, const hm_node_receipt *receipt)
{
    crl_watch *w = ctx;
    w->submitting = false;
    if (err == HM_OK)
        hm_log(HM_LOG_INFO, "server", "revocation list recorded", "height=%llu",
               (unsigned long long)receipt->height);
    else if (err != HM_E_OP_STATE && err != HM_E_CLOSED) // another member was first
        hm_log(HM_LOG_WARN, "server", "revocation list not recorded", "reason=\"%s: %s\"",
               hm_err_text(err), detail);
    free_when_idle(w);
}

// Into the ledger, if it is the issuing CA's and newer than the ledger's.
static hm_err submit_newer(crl_watch *w)
{
    hm_ledger *l = hm_node_ledger(w->node);
    tc_crl_info info;
    uint64_t number;
    hm_bytes old;
    HM_TRY(hm_node_crl(hm_ledger_tip(l), &number, &old));
    HM_TRY(tc_crl_verify(hm_buf_bytes(&w->answer), hm_ledger_genesis(l)->issuing_cert, &info));
    if (info.number <= number || w->submitting)
        return HM_OK;
    hm_buf payload = {0};
    hm_node_payload_encode(hm_buf_bytes(&w->answer), &payload);
    hm_err err = hm_buf_status(&payload);
    const hm_node_request req = {.module = HM_MODULE_NODE,
                                 .kind = HM_NODE_CRL,
                                 .payload = hm_buf_bytes(&payload),
                                 .patient = true};
    if (err == HM_OK)
        err = hm_node_submit(w->node, &req, submitted, w);
    w->submitting = err == HM_OK;
    hm_buf_free(&payload);
    return err;
}

static void on_answer(uv_work_t *work, int status)
{
    crl_watch *w = work->data;
    w->asking = false;
    if (!w->closing && status == 0) {
        if (w->err == HM_OK) {
            w->err = submit_newer(w);
            snprintf(w->detail, sizeof w->detail, "%.190s", hm_err_detail());
        }
        bool failing = w->err != HM_OK;
        if (failing && !w->failing)
            hm_log(HM_LOG_WARN, "server", "no revocation list from the authority",
                   "authority=%s reason=\"%s: %s\"", w->authority, hm_err_text(w->err), w->detail);
        else if (!failing && w->failing)
            hm_log(HM_LOG_INFO, "server", "the authority answers again", "authority=%s",
                   w->authority);
        w->failing = failing;
    }
    free_when_idle(w);
}

static void on_timer(uv_timer_t *t)
{
    crl_watch *w = t->data;
    if (w->asking)
        return;
    w->work.data = w;
    w->asking = uv_queue_work(t->loop, &w->work, ask, on_answer) == 0;
}

hm_err crl_watch_open(const crl_watch_config *cfg, crl_watch **out)
{
    crl_watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return HM_E_NOMEM;
    if ((size_t)snprintf(w->authority, sizeof w->authority, "%s", cfg->authority) >=
            sizeof w->authority ||
        (size_t)snprintf(w->root, sizeof w->root, "%s", cfg->root_path) >= sizeof w->root) {
        free(w);
        return hm_fail(HM_E_LIMIT, "the authority's URL or the root's path is too long");
    }
    w->node = cfg->node;
    w->every_s = cfg->every_s;
    w->timer.data = w;
    uint64_t period_ms = (uint64_t)cfg->every_s * 1000;
    uv_timer_init(cfg->loop, &w->timer);
    uv_timer_start(&w->timer, on_timer, hm_random_u64(&hm_random_system) % period_ms, period_ms);
    *out = w;
    return HM_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    crl_watch *w = h->data;
    w->gone = true;
    free_when_idle(w);
}

void crl_watch_close(crl_watch *w)
{
    if (w == NULL)
        return;
    w->closing = true;
    uv_close((uv_handle_t *)&w->timer, on_timer_closed);
}
