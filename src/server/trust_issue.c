#include "server/trust_issue.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/list.h"
#include "server/api_json.h"
#include "server/gather.h"

typedef struct waiting {
    hm_list node;
    hm_http_req *r;
} waiting;

struct trust_issue {
    trust_issue_config cfg;
    hm_list queue; // of waiting, oldest first
    gather gather;
    uint64_t commits;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static hm_err issue_one(trust_issue *t, hm_bytes body, trust_issue_result *out)
{
    api_csr in;
    uint64_t now_ms = hm_clock_wall_ms(t->cfg.clock);
    HM_TRY(api_csr_read(body, &in));
    snprintf(out->profile, sizeof out->profile, "%s", in.profile);
    const tc_terms terms = {.life_s = in.life_s, .renewable = true};
    tc_profile p;
    HM_TRY(tc_profile_named(in.profile, &p));
    return tc_issue(t->cfg.authority, p, hm_bytes_str(in.csr), &terms, now_ms, &out->chain,
                    &out->issued);
}

static void on_gone(void *ctx)
{
    waiting *w = ctx;
    hm_list_remove(&w->node);
    free(w);
}

// An answer to another request of the same connection may end it.
static void on_result_gone(void *ctx)
{
    trust_issue_result *o = ctx;
    o->r = NULL;
}

// The oldest ones off the queue, issued within a batch that is open.
static size_t issue_some(trust_issue *t, trust_issue_result out[TRUST_ISSUE_BATCH],
                         char detail[TRUST_ISSUE_BATCH][256])
{
    size_t n = 0;
    for (; n < TRUST_ISSUE_BATCH && !hm_list_empty(&t->queue); n++) {
        waiting *w = hm_container_of(t->queue.next, waiting, node);
        trust_issue_result *o = &out[n];
        *o = (trust_issue_result){.r = w->r,
                                  .who = *hm_http_actor_of(w->r),
                                  .from = *hm_http_from(w->r),
                                  .detail = detail[n]};
        hm_http_on_abort(w->r, on_result_gone, o);
        hm_err_clear();
        o->err = issue_one(t, hm_http_body(w->r), o);
        snprintf(detail[n], sizeof detail[n], "%s", o->err == HM_OK ? "" : hm_err_detail());
        hm_list_remove(&w->node);
        free(w);
    }
    return n;
}

static void flush(void *ctx)
{
    trust_issue *t = ctx;
    static trust_issue_result results[TRUST_ISSUE_BATCH];
    static char detail[TRUST_ISSUE_BATCH][256];
    while (!hm_list_empty(&t->queue)) {
        hm_err begun = tc_batch_begin(t->cfg.authority), err = begun;
        size_t n = issue_some(t, results, detail);
        if (begun == HM_OK)
            err = tc_batch_commit(t->cfg.authority);
        t->commits += err == HM_OK;
        char why[256];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        for (size_t i = 0; i < n; i++) {
            if (err != HM_OK && results[i].err == HM_OK) {
                results[i].err = err;
                results[i].detail = why;
            }
            if (results[i].r)
                hm_http_on_abort(results[i].r, NULL, NULL);
            t->cfg.answer(t->cfg.ctx, &results[i]);
            hm_buf_free(&results[i].chain);
        }
    }
}

static uint64_t progress(void *ctx)
{
    const trust_issue *t = ctx;
    return t->cfg.progress(t->cfg.ctx);
}

void trust_issue_push(trust_issue *t, hm_http_req *r)
{
    waiting *w = calloc(1, sizeof *w);
    if (!w) {
        hm_http_reply_err(r, HM_E_NOMEM, NULL);
        return;
    }
    w->r = r;
    hm_list_append(&t->queue, &w->node);
    hm_http_on_abort(r, on_gone, w);
    gather_want(&t->gather);
}

uint64_t trust_issue_commits(const trust_issue *t)
{
    return t->commits;
}

// ---- life ---------------------------------------------------------------------------------------

static void on_closed(void *ctx)
{
    trust_issue *t = ctx;
    void (*closed)(void *) = t->closed;
    void *closed_ctx = t->closed_ctx;
    free(t);
    closed(closed_ctx);
}

void trust_issue_close(trust_issue *t, void (*closed)(void *ctx), void *ctx)
{
    t->closed = closed;
    t->closed_ctx = ctx;
    gather_close(&t->gather, on_closed);
}

hm_err trust_issue_open(const trust_issue_config *cfg, trust_issue **out)
{
    trust_issue *t = calloc(1, sizeof *t);
    if (!t)
        return HM_E_NOMEM;
    t->cfg = *cfg;
    hm_list_init(&t->queue);
    gather_open(&t->gather, cfg->loop, progress, flush, t);
    *out = t;
    return HM_OK;
}
