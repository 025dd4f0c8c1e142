#include "server/crl_watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "server/client.h"
#include "trustchain/trustchain.h"

#define ANSWER_S 10u    // beyond the wait that was asked for
#define SPREAD_MS 500u  // between the first and the last node that bring a new list
#define AGAIN_MS 1000u  // between two answers with the same list
#define FAILED_MS 1000u // after a question that failed, and up to four times that

struct crl_watch {
    uv_timer_t timer;  // until the next question
    uv_timer_t spread; // until the answer's list is brought
    uv_async_t answered;
    uv_thread_t thread; // while asking
    hm_node *node;
    char authority[256], root[4096], path[96];
    uint32_t wait_s;
    hm_buf answer; // of the question that is out
    hm_err err;
    char detail[200];
    atomic_bool cancel;
    uint64_t brought; // number of the list that is being submitted
    bool asking, failing, submitting, closing;
    unsigned handles; // open ones
};

static void free_when_idle(crl_watch *w)
{
    if (w->handles > 0 || w->submitting)
        return;
    hm_buf_free(&w->answer);
    free(w);
}

static void on_handle_closed(uv_handle_t *h)
{
    crl_watch *w = h->data;
    w->handles--;
    free_when_idle(w);
}

static void ask(void *ctx)
{
    crl_watch *w = ctx;
    const hm_client c = {.url = w->authority,
                         .ca_path = w->root,
                         .timeout_s = w->wait_s + ANSWER_S,
                         .cancel = &w->cancel};
    hm_err_clear();
    hm_buf_reset(&w->answer);
    w->err = hm_client_request(&c, "GET", w->path, (hm_bytes){0}, NULL, &w->answer);
    snprintf(w->detail, sizeof w->detail, "%.190s", hm_err_detail());
    uv_async_send(&w->answered);
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
    w->brought = info.number;
    hm_buf_free(&payload);
    return err;
}

static void tell(crl_watch *w)
{
    bool failing = w->err != HM_OK;
    if (failing && !w->failing)
        hm_log(HM_LOG_WARN, "server", "no revocation list from the authority",
               "authority=%s reason=\"%s: %s\"", w->authority, hm_err_text(w->err), w->detail);
    else if (!failing && w->failing)
        hm_log(HM_LOG_INFO, "server", "the authority answers again", "authority=%s", w->authority);
    w->failing = failing;
}

static void ask_later(crl_watch *w, uint64_t after_ms);

static void on_spread(uv_timer_t *t)
{
    crl_watch *w = t->data;
    w->err = submit_newer(w);
    snprintf(w->detail, sizeof w->detail, "%.190s", hm_err_detail());
    tell(w);
    ask_later(w, AGAIN_MS);
}

static void on_answer(uv_async_t *async)
{
    crl_watch *w = async->data;
    if (!w->asking)
        return;
    uv_thread_join(&w->thread);
    w->asking = false;
    if (w->closing) {
        uv_close((uv_handle_t *)&w->answered, on_handle_closed);
    } else if (w->err == HM_OK && w->answer.len > 0) {
        uv_timer_start(&w->spread, on_spread, hm_random_u64(&hm_random_system) % SPREAD_MS, 0);
    } else {
        uint64_t failed = FAILED_MS + hm_random_u64(&hm_random_system) % (3 * FAILED_MS);
        tell(w);
        ask_later(w, w->err == HM_OK ? 0 : failed);
    }
}

// For a list above the ledger's, and above the one that is on its way there.
static void on_timer(uv_timer_t *t)
{
    crl_watch *w = t->data;
    uint64_t number = 0;
    hm_bytes old;
    hm_err err = hm_node_crl(hm_ledger_tip(hm_node_ledger(w->node)), &number, &old);
    if (w->submitting && w->brought > number)
        number = w->brought;
    snprintf(w->path, sizeof w->path, "/v1/crl?family=mesh&after=%llu&wait=%u",
             (unsigned long long)number, w->wait_s);
    if (err == HM_OK && uv_thread_create(&w->thread, ask, w) != 0)
        err = hm_fail(HM_E_INTERNAL, "no thread");
    w->asking = err == HM_OK;
    if (w->asking)
        return; // err, detail and answer are the thread's until it is joined
    w->err = err;
    snprintf(w->detail, sizeof w->detail, "%.190s", hm_err_detail());
    tell(w);
    ask_later(w, FAILED_MS);
}

static void ask_later(crl_watch *w, uint64_t after_ms)
{
    uv_timer_start(&w->timer, on_timer, after_ms, 0);
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
    w->wait_s = cfg->wait_s;
    w->timer.data = w->spread.data = w->answered.data = w;
    if (uv_async_init(cfg->loop, &w->answered, on_answer) != 0) {
        free(w);
        return hm_fail(HM_E_INTERNAL, "the event loop takes no more handles");
    }
    uv_timer_init(cfg->loop, &w->timer);
    uv_timer_init(cfg->loop, &w->spread);
    w->handles = 3;
    ask_later(w, 0);
    *out = w;
    return HM_OK;
}

void crl_watch_close(crl_watch *w)
{
    if (w == NULL)
        return;
    w->closing = true;
    atomic_store(&w->cancel, true);
    uv_close((uv_handle_t *)&w->timer, on_handle_closed);
    uv_close((uv_handle_t *)&w->spread, on_handle_closed);
    if (!w->asking) // otherwise its thread has the answer brought first
        uv_close((uv_handle_t *)&w->answered, on_handle_closed);
}
