#include "server/crl_wait.h"

#include <stdlib.h>

#define SWEEP_MS 1000u

typedef struct waiter {
    hm_list node;
    crl_wait *all;
    hm_http_req *req;
    crl_question q;
    uint64_t until_ms; // of the loop's clock
} waiter;

struct crl_wait {
    uv_loop_t *loop;
    uv_timer_t sweep; // runs while somebody waits
    tc_authority *authority;
    const hm_clock *clock;
    hm_list waiters; // owned
    uint32_t count;
    bool ending;
};

// Answers when there is something newer, or why there is nothing to be had.
static bool give_newer(crl_wait *w, hm_http_req *r, const crl_question *q)
{
    tc_crl_info info;
    hm_buf der = {0};
    uint64_t now_ms = hm_clock_wall_ms(w->clock);
    const char *id = q->issuing.hex;
    hm_err err = tc_issuing_crl(w->authority, q->family, id, q->delta, now_ms, &info, NULL);
    if (err == HM_OK && info.number <= q->after)
        return false;
    if (err == HM_OK)
        err = tc_issuing_crl(w->authority, q->family, id, q->delta, now_ms, NULL, &der);
    hm_http_on_abort(r, NULL, NULL);
    if (err == HM_OK)
        hm_http_reply(r, 200, "application/pkix-crl", hm_buf_bytes(&der)); // RFC 2585, 4.2
    else
        hm_http_reply_err(r, err, hm_err_detail());
    hm_buf_free(&der);
    return true;
}

static void give_nothing(hm_http_req *r)
{
    hm_http_on_abort(r, NULL, NULL);
    hm_http_reply(r, 204, NULL, (hm_bytes){0});
}

static void forget(waiter *x)
{
    crl_wait *w = x->all;
    hm_list_remove(&x->node);
    w->count--;
    free(x);
    if (w->count == 0)
        uv_timer_stop(&w->sweep);
}

static void on_gone(void *ctx)
{
    forget(ctx);
}

// A list is signed anew by age as well, so that the look at it belongs here, too.
static void on_sweep(uv_timer_t *t)
{
    crl_wait *w = t->data;
    uint64_t now = uv_now(w->loop);
    hm_list_each(it, &w->waiters)
    {
        waiter *x = hm_container_of(it, waiter, node);
        if (give_newer(w, x->req, &x->q)) {
            forget(x);
        } else if (now >= x->until_ms || w->ending) {
            give_nothing(x->req);
            forget(x);
        }
    }
}

static uint32_t of_client(const crl_wait *w, const uint8_t *client)
{
    uint32_t n = 0;
    for (const hm_list *it = w->waiters.next; it != &w->waiters; it = it->next) {
        const waiter *x = hm_container_of(it, waiter, node);
        n += memcmp(hm_http_client(x->req), client, 8) == 0;
    }
    return n;
}

void crl_wait_ask(crl_wait *w, hm_http_req *r, const crl_question *q, uint32_t wait_s)
{
    if (give_newer(w, r, q))
        return;
    if (wait_s == 0 || w->ending) {
        give_nothing(r);
        return;
    }
    if (w->count >= CRL_WAITERS_MAX || of_client(w, hm_http_client(r)) >= CRL_WAITERS_MAX / 2) {
        hm_http_reply_err(r, HM_E_BUSY, "too many wait for a revocation list: ask without wait");
        return;
    }
    waiter *x = calloc(1, sizeof *x);
    if (!x) {
        hm_http_reply_err(r, HM_E_NOMEM, NULL);
        return;
    }
    uv_update_time(w->loop);
    *x = (waiter){
        .all = w, .req = r, .q = *q, .until_ms = uv_now(w->loop) + (uint64_t)wait_s * 1000};
    hm_list_append(&w->waiters, &x->node);
    if (w->count++ == 0)
        uv_timer_start(&w->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    hm_http_on_abort(r, on_gone, x);
}

void crl_wait_wake(crl_wait *w)
{
    if (w->count > 0)
        on_sweep(&w->sweep);
}

uint32_t crl_wait_count(const crl_wait *w)
{
    return w->count;
}

void crl_wait_end(crl_wait *w)
{
    w->ending = true;
    on_sweep(&w->sweep);
}

hm_err crl_wait_open(uv_loop_t *loop, tc_authority *a, const hm_clock *clock, crl_wait **out)
{
    crl_wait *w = calloc(1, sizeof *w);
    if (!w)
        return HM_E_NOMEM;
    w->loop = loop;
    w->authority = a;
    w->clock = clock;
    hm_list_init(&w->waiters);
    uv_timer_init(loop, &w->sweep);
    w->sweep.data = w;
    *out = w;
    return HM_OK;
}

static void on_closed(uv_handle_t *h)
{
    free(h->data);
}

void crl_wait_close(crl_wait *w)
{
    if (!w)
        return;
    hm_assert(w->count == 0);
    uv_close((uv_handle_t *)&w->sweep, on_closed);
}
