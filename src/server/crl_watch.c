#include "server/crl_watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "mesh/trust_module.h"
#include "server/client.h"
#include "trustchain/trustchain.h"

#define ANSWER_S 10u     // beyond the wait that was asked for
#define SPREAD_MS 500u   // between the first and the last node that bring a new list
#define AGAIN_MS 1000u   // between two answers with the same list
#define FAILED_MS 1000u  // after a question that failed, and up to four times that
#define ABSENT_MS 60000u // after one about an issuer that the authority does not know
#define ISSUING_BYTES 8u // of an authority's id: what its server calls it
#define LOOK_MS 1000u    // between two looks at whom the mesh believes

struct crl_watch {
    uv_timer_t look; // at the authorities in force
    uv_loop_t *loop;
    hm_node *node;
    char authority[256], root[4096];
    uint32_t wait_s;
    struct line *lines[HM_TRUST_AUTHORITIES_MAX]; // owned; NULL: free
    unsigned alive;                               // lines, those that are ending too
    bool closed;
};

// The questions about one authority's list.
typedef struct line {
    crl_watch *all;
    hm_hash issuer;    // the authority
    uv_timer_t timer;  // until the next question
    uv_timer_t spread; // until the answer's list is brought
    uv_async_t answered;
    uv_thread_t thread; // while asking
    char path[192];
    hm_buf answer; // of the question that is out
    hm_err err;
    char detail[200];
    atomic_bool cancel;
    uint64_t brought; // number of the list that is being submitted
    bool asking, failing, submitting, closing;
    unsigned handles; // open ones
} line;

static void free_watch(crl_watch *w)
{
    if (w->closed && w->alive == 0)
        free(w);
}

static void free_when_idle(line *w)
{
    crl_watch *all = w->all;
    if (w->handles > 0 || w->submitting)
        return;
    hm_buf_free(&w->answer);
    free(w);
    all->alive--;
    free_watch(all);
}

static void on_handle_closed(uv_handle_t *h)
{
    line *w = h->data;
    w->handles--;
    free_when_idle(w);
}

static void ask(void *ctx)
{
    line *w = ctx;
    const hm_client c = {.url = w->all->authority,
                         .ca_path = w->all->root,
                         .timeout_s = w->all->wait_s + ANSWER_S,
                         .cancel = &w->cancel};
    hm_err_clear();
    hm_buf_reset(&w->answer);
    w->err = hm_client_request(&c, "GET", w->path, (hm_bytes){0}, NULL, &w->answer);
    snprintf(w->detail, sizeof w->detail, "%.190s", hm_err_detail());
    uv_async_send(&w->answered);
}

static void submitted(void *ctx, hm_err err, const char *detail, const hm_node_receipt *receipt)
{
    line *w = ctx;
    w->submitting = false;
    if (err == HM_OK)
        hm_log(HM_LOG_INFO, "server", "revocation list recorded", "height=%llu",
               (unsigned long long)receipt->height);
    else if (err != HM_E_OP_STATE && err != HM_E_CLOSED) // another member was first
        hm_log(HM_LOG_WARN, "server", "revocation list not recorded", "reason=\"%s: %s\"",
               hm_err_text(err), detail);
    free_when_idle(w);
}

static uint64_t wall_ms(void)
{
    return hm_clock_wall_ms(&hm_clock_system);
}

// Of the list that the ledger has. HM_E_NOTFOUND: the authority is in force no more.
static hm_err ledger_number(const line *w, hm_authority *a, uint64_t *number)
{
    hm_bytes old;
    hm_view *tip = hm_ledger_tip(hm_node_ledger(w->all->node));
    HM_TRY(hm_trust_authority(tip, &w->issuer, wall_ms(), a));
    return hm_node_crl(tip, a, number, &old);
}

// Into the ledger, if it is this authority's and newer than the ledger's.
static hm_err submit_newer(line *w)
{
    tc_crl_info info;
    hm_authority a;
    uint64_t number = 0;
    HM_TRY(ledger_number(w, &a, &number));
    HM_TRY(tc_crl_verify(hm_buf_bytes(&w->answer), a.cert, &info));
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
        err = hm_node_submit(w->all->node, &req, submitted, w);
    w->submitting = err == HM_OK;
    w->brought = info.number;
    hm_buf_free(&payload);
    return err;
}

static void tell(line *w)
{
    bool failing = w->err != HM_OK;
    char issuer[17];
    hm_hex(issuer, w->issuer.b, 8);
    if (failing && !w->failing)
        hm_log(HM_LOG_WARN, "server", "no revocation list from the authority",
               "authority=%s issuer=%s reason=\"%s: %s\"", w->all->authority, issuer,
               hm_err_text(w->err), w->detail);
    else if (!failing && w->failing)
        hm_log(HM_LOG_INFO, "server", "the authority answers again", "authority=%s issuer=%s",
               w->all->authority, issuer);
    w->failing = failing;
}

static void ask_later(line *w, uint64_t after_ms);

static void on_spread(uv_timer_t *t)
{
    line *w = t->data;
    w->err = submit_newer(w);
    snprintf(w->detail, sizeof w->detail, "%.190s", hm_err_detail());
    tell(w);
    ask_later(w, AGAIN_MS);
}

static void on_answer(uv_async_t *async)
{
    line *w = async->data;
    if (!w->asking)
        return;
    uv_thread_join(&w->thread);
    w->asking = false;
    if (w->closing) {
        uv_close((uv_handle_t *)&w->answered, on_handle_closed);
    } else if (w->err == HM_OK && w->answer.len > 0) {
        uv_timer_start(&w->spread, on_spread, hm_random_u64(&hm_random_system) % SPREAD_MS, 0);
    } else {
        uint64_t failed = w->err == HM_E_NOTFOUND ? ABSENT_MS : FAILED_MS;
        failed += hm_random_u64(&hm_random_system) % (3 * FAILED_MS);
        tell(w);
        ask_later(w, w->err == HM_OK ? 0 : failed);
    }
}

// For a list above the ledger's, and above the one that is on its way there. The authority is
// always named: without that the question is for the one that issues, which may change while it
// waits.
static void on_timer(uv_timer_t *t)
{
    line *w = t->data;
    uint64_t number = 0;
    hm_authority a;
    hm_err err = ledger_number(w, &a, &number);
    if (w->submitting && w->brought > number)
        number = w->brought;
    snprintf(w->path, sizeof w->path,
             "/v1/crl?family=mesh&after=%llu&wait=%u&issuing=", (unsigned long long)number,
             w->all->wait_s);
    hm_hex(w->path + strlen(w->path), w->issuer.b, ISSUING_BYTES);
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

static void ask_later(line *w, uint64_t after_ms)
{
    uv_timer_start(&w->timer, on_timer, after_ms, 0);
}

static hm_err line_open(crl_watch *all, const hm_hash *issuer, line **out)
{
    line *w = calloc(1, sizeof *w);
    if (w == NULL)
        return HM_E_NOMEM;
    w->all = all;
    w->issuer = *issuer;
    w->timer.data = w->spread.data = w->answered.data = w;
    if (uv_async_init(all->loop, &w->answered, on_answer) != 0) {
        free(w);
        return hm_fail(HM_E_INTERNAL, "the event loop takes no more handles");
    }
    uv_timer_init(all->loop, &w->timer);
    uv_timer_init(all->loop, &w->spread);
    w->handles = 3;
    all->alive++;
    ask_later(w, 0);
    *out = w;
    return HM_OK;
}

static void line_close(line *w)
{
    w->closing = true;
    atomic_store(&w->cancel, true);
    uv_close((uv_handle_t *)&w->timer, on_handle_closed);
    uv_close((uv_handle_t *)&w->spread, on_handle_closed);
    if (!w->asking) // otherwise its thread has the answer brought first
        uv_close((uv_handle_t *)&w->answered, on_handle_closed);
}

// ---- whose lists --------------------------------------------------------------------------------

static bool is_among(const hm_hash *id, const hm_authority *all, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (hm_hash_eq(&all[i].id, id))
            return true;
    return false;
}

static bool has_line(const crl_watch *w, const hm_hash *id)
{
    for (uint32_t i = 0; i < HM_TRUST_AUTHORITIES_MAX; i++)
        if (w->lines[i] && hm_hash_eq(&w->lines[i]->issuer, id))
            return true;
    return false;
}

// A line for each authority in force, and for no other.
static hm_err match_lines(crl_watch *w)
{
    hm_authority now[HM_TRUST_AUTHORITIES_MAX];
    uint32_t count = 0;
    HM_TRY(hm_trust_authorities(hm_ledger_tip(hm_node_ledger(w->node)), wall_ms(), now, &count));
    for (uint32_t i = 0; i < HM_TRUST_AUTHORITIES_MAX; i++)
        if (w->lines[i] && !is_among(&w->lines[i]->issuer, now, count)) {
            line_close(w->lines[i]);
            w->lines[i] = NULL;
        }
    for (uint32_t i = 0, at = 0; i < count; i++) {
        if (has_line(w, &now[i].id))
            continue;
        while (w->lines[at]) // there are as many places as authorities can be in force
            at++;
        HM_TRY(line_open(w, &now[i].id, &w->lines[at]));
    }
    return HM_OK;
}

static void on_look(uv_timer_t *t)
{
    crl_watch *w = t->data;
    if (match_lines(w) != HM_OK)
        hm_log(HM_LOG_WARN, "server", "not all revocation lists are watched", "reason=\"%s\"",
               hm_err_detail());
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
    w->loop = cfg->loop;
    w->node = cfg->node;
    w->wait_s = cfg->wait_s;
    w->look.data = w;
    uv_timer_init(cfg->loop, &w->look);
    hm_err err = match_lines(w);
    if (err != HM_OK) {
        crl_watch_close(w);
        return err;
    }
    uv_timer_start(&w->look, on_look, LOOK_MS, LOOK_MS);
    *out = w;
    return HM_OK;
}

static void on_look_closed(uv_handle_t *h)
{
    crl_watch *w = h->data;
    w->closed = true;
    free_watch(w);
}

void crl_watch_close(crl_watch *w)
{
    if (w == NULL)
        return;
    for (uint32_t i = 0; i < HM_TRUST_AUTHORITIES_MAX; i++)
        if (w->lines[i])
            line_close(w->lines[i]);
    uv_close((uv_handle_t *)&w->look, on_look_closed);
}
