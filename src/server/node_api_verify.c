// POST /v1/ledger/verify: walks the ledger from its genesis on a thread of its own and tells how
// far it is, one JSON object a line. One walk at a time; it ends early when nobody listens any more
// or the server stops.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/ledger_check.h"
#include "server/node_api_internal.h"

#define TELL_NS UINT64_C(250000000)

struct api_verify {
    hm_node_api *a;
    hm_http_req *r; // NULL once the peer left; the loop's
    uv_thread_t thread;
    uv_async_t wake;
    char scratch[4096];
    _Atomic uint64_t done, total;
    atomic_bool cancelled, ended;
    uint64_t told_ns; // the thread's
    // The thread's until `ended`.
    hm_err err;
    char detail[512];
    hm_ledger_verify_report report;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    api_verify *v = ctx;
    uint64_t now = uv_hrtime();
    atomic_store(&v->done, done);
    atomic_store(&v->total, total);
    if (now - v->told_ns < TELL_NS)
        return;
    v->told_ns = now;
    uv_async_send(&v->wake);
}

static hm_err check_certificate(void *ctx, hm_view *parent, const hm_block_header *header,
                                const hm_hash *block_id, hm_bytes certificate, bool tip)
{
    api_verify *v = ctx;
    if (atomic_load(&v->cancelled))
        return hm_fail(HM_E_CLOSED, "nobody waits for the answer");
    return ledger_check_certificate(NULL, parent, header, block_id, certificate, tip);
}

static void walk(void *ctx)
{
    api_verify *v = ctx;
    const hm_ledger_verify_hooks hooks = {
        .certificate = check_certificate, .progress = on_progress, .ctx = v};
    v->err = hm_ledger_verify(hm_node_ledger(v->a->node), v->scratch, &hooks, &v->report);
    snprintf(v->detail, sizeof(v->detail), "%s", v->err == HM_OK ? "" : hm_err_detail());
    atomic_store(&v->ended, true);
    uv_async_send(&v->wake);
}

static void say(api_verify *v, hm_buf *line)
{
    hm_buf_puts(line, "\n");
    // A few short lines a second: a peer that reads none of them is ended by the idle limit.
    hm_err err = hm_http_stream_write(v->r, hm_buf_bytes(line));
    if (err != HM_OK && err != HM_E_AGAIN)
        atomic_store(&v->cancelled, true);
}

static void say_end(api_verify *v)
{
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_bool(&b, "good", v->err == HM_OK);
    if (v->err == HM_OK) {
        hm_jw_u64(&b, "blocks", v->report.blocks);
        hm_jw_u64(&b, "ops", v->report.ops);
        hm_jw_hex(&b, "state_root", v->report.state_root.b, 32);
    } else {
        hm_jw_str(&b, "error", hm_err_name(v->err));
        hm_jw_str(&b, "detail", v->detail);
    }
    hm_jw_close(&b, '}');
    say(v, &b);
    hm_buf_free(&b);
    hm_http_stream_end(v->r);
}

static void on_closed(uv_handle_t *handle)
{
    api_verify *v = handle->data;
    hm_node_api *a = v->a;
    free(v);
    a->verify = NULL;
    api_work_done(a);
}

static void on_wake(uv_async_t *wake)
{
    api_verify *v = wake->data;
    if (!atomic_load(&v->ended)) {
        if (!v->r)
            return;
        hm_buf b = {0};
        hm_jw_open(&b, NULL, '{');
        hm_jw_u64(&b, "done", atomic_load(&v->done));
        hm_jw_u64(&b, "total", atomic_load(&v->total));
        hm_jw_close(&b, '}');
        say(v, &b);
        hm_buf_free(&b);
        return;
    }
    uv_thread_join(&v->thread);
    if (v->r)
        say_end(v);
    v->r = NULL;
    uv_close((uv_handle_t *)wake, on_closed);
}

static void on_gone(void *ctx)
{
    api_verify *v = ctx;
    v->r = NULL;
    atomic_store(&v->cancelled, true);
}

static void on_room(void *ctx)
{
    (void)ctx; // the next line comes by the clock
}

void api_verify_cancel(hm_node_api *a)
{
    if (a->verify)
        atomic_store(&a->verify->cancelled, true);
}

void api_ledger_verify(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    if (a->verify) {
        hm_http_reply_err(r, HM_E_BUSY, "the ledger is being verified already");
        return;
    }
    api_verify *v = calloc(1, sizeof(*v));
    if (!v) {
        hm_http_reply_err(r, HM_E_NOMEM, NULL);
        return;
    }
    v->a = a;
    v->r = r;
    snprintf(v->scratch, sizeof(v->scratch), "%s/ledger.verify", a->data_dir);
    if (uv_async_init(a->loop, &v->wake, on_wake) != 0) {
        free(v);
        hm_http_reply_err(r, HM_E_NOMEM, NULL);
        return;
    }
    v->wake.data = v;
    a->verify = v;
    a->work++;
    if (uv_thread_create(&v->thread, walk, v) != 0) {
        uv_close((uv_handle_t *)&v->wake, on_closed);
        hm_http_reply_err(r, HM_E_NOMEM, "no thread for it");
        return;
    }
    hm_http_on_abort(r, on_gone, v);
    hm_http_stream(r, 200, "application/x-ndjson", -1, on_room, v);
}
