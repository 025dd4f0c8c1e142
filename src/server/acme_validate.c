#include "server/acme_validate.h"

#include <curl/curl.h>
#include <stdlib.h>

typedef struct ring {
    uint32_t first, count;
} ring;

struct acme_validate {
    acme_validate_config cfg;
    uv_async_t wake;
    uv_mutex_t lock; // of the two queues, which threads and loop share
    uv_cond_t more;
    acme_task tasks[ACME_VALIDATIONS_MAX];
    acme_probe_result results[ACME_VALIDATIONS_MAX];
    ring waiting, done;
    uint32_t under_way; // the loop's: pushed and not given back
    atomic_bool stop;
    uv_thread_t threads[ACME_VALIDATE_THREADS];
    unsigned thread_count;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static uint32_t ring_add(ring *r)
{
    hm_assert(r->count < ACME_VALIDATIONS_MAX);
    return (r->first + r->count++) % ACME_VALIDATIONS_MAX;
}

static uint32_t ring_take(ring *r)
{
    uint32_t at = r->first;
    r->first = (r->first + 1) % ACME_VALIDATIONS_MAX;
    r->count--;
    return at;
}

static void work(void *arg)
{
    acme_validate *v = arg;
    uv_mutex_lock(&v->lock);
    for (;;) {
        while (v->waiting.count == 0 && !atomic_load(&v->stop))
            uv_cond_wait(&v->more, &v->lock);
        if (atomic_load(&v->stop))
            break;
        acme_task task = v->tasks[ring_take(&v->waiting)];
        acme_probe_result result;
        uv_mutex_unlock(&v->lock);
        acme_probe_run(&v->cfg.probe, &task, &v->stop, &result);
        uv_mutex_lock(&v->lock);
        v->results[ring_add(&v->done)] = result;
        uv_async_send(&v->wake);
    }
    uv_mutex_unlock(&v->lock);
}

static void on_wake(uv_async_t *h)
{
    acme_validate *v = h->data;
    for (;;) {
        acme_probe_result result;
        uv_mutex_lock(&v->lock);
        bool any = v->done.count > 0;
        if (any)
            result = v->results[ring_take(&v->done)];
        uv_mutex_unlock(&v->lock);
        if (!any)
            return;
        v->under_way--;
        v->cfg.done(v->cfg.ctx, &result);
    }
}

static void end_threads(acme_validate *v)
{
    uv_mutex_lock(&v->lock);
    atomic_store(&v->stop, true);
    uv_cond_broadcast(&v->more);
    uv_mutex_unlock(&v->lock);
    for (unsigned i = 0; i < v->thread_count; i++)
        uv_thread_join(&v->threads[i]);
    v->thread_count = 0;
}

static void on_closed(uv_handle_t *h)
{
    acme_validate *v = h->data;
    void (*closed)(void *) = v->closed;
    void *ctx = v->closed_ctx;
    uv_cond_destroy(&v->more);
    uv_mutex_destroy(&v->lock);
    free(v);
    if (closed)
        closed(ctx);
}

void acme_validate_close(acme_validate *v, void (*closed)(void *ctx), void *ctx)
{
    v->closed = closed;
    v->closed_ctx = ctx;
    end_threads(v);
    uv_close((uv_handle_t *)&v->wake, on_closed);
}

hm_err acme_validate_open(const acme_validate_config *cfg, acme_validate **out)
{
    acme_validate *v = calloc(1, sizeof *v);
    if (!v)
        return HM_E_NOMEM;
    v->cfg = *cfg;
    v->wake.data = v;
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); // before the threads
    if (uv_mutex_init(&v->lock) != 0 || uv_cond_init(&v->more) != 0 ||
        uv_async_init(cfg->loop, &v->wake, on_wake) != 0) {
        free(v);
        return hm_fail(HM_E_NOMEM, "no threads for validations");
    }
    while (v->thread_count < ACME_VALIDATE_THREADS &&
           uv_thread_create(&v->threads[v->thread_count], work, v) == 0)
        v->thread_count++;
    if (v->thread_count == 0) {
        acme_validate_close(v, NULL, NULL);
        return hm_fail(HM_E_NOMEM, "no threads for validations");
    }
    *out = v;
    return HM_OK;
}

void acme_validate_push(acme_validate *v, const acme_task *task)
{
    hm_assert(v->under_way < ACME_VALIDATIONS_MAX);
    v->under_way++;
    uv_mutex_lock(&v->lock);
    v->tasks[ring_add(&v->waiting)] = *task;
    uv_cond_signal(&v->more);
    uv_mutex_unlock(&v->lock);
}
