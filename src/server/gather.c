#include "server/gather.h"

static void on_again(uv_idle_t *h)
{
    (void)h; // that it is active is all
}

static void on_before(uv_prepare_t *h)
{
    gather *g = h->data;
    if (g->wanted)
        uv_idle_start(&g->again, on_again);
}

static void on_after(uv_check_t *h)
{
    gather *g = h->data;
    if (!g->wanted)
        return;
    uint64_t now = g->progress(g->ctx), was = g->seen;
    g->seen = now;
    if (now != was && ++g->turns < GATHER_TURNS_MAX)
        return;
    g->wanted = false;
    g->turns = 0;
    uv_idle_stop(&g->again);
    g->work(g->ctx);
}

void gather_want(gather *g)
{
    g->wanted = true;
}

void gather_open(gather *g, uv_loop_t *loop, uint64_t (*progress)(void *ctx),
                 void (*work)(void *ctx), void *ctx)
{
    *g = (gather){.progress = progress, .work = work, .ctx = ctx};
    uv_prepare_init(loop, &g->before);
    uv_check_init(loop, &g->after);
    uv_idle_init(loop, &g->again);
    g->before.data = g->after.data = g->again.data = g;
    uv_prepare_start(&g->before, on_before);
    uv_check_start(&g->after, on_after);
}

static void on_closed(uv_handle_t *h)
{
    gather *g = h->data;
    if (--g->handles == 0)
        g->closed(g->ctx);
}

void gather_close(gather *g, void (*closed)(void *ctx))
{
    g->closed = closed;
    g->handles = 3;
    uv_close((uv_handle_t *)&g->before, on_closed);
    uv_close((uv_handle_t *)&g->after, on_closed);
    uv_close((uv_handle_t *)&g->again, on_closed);
}
