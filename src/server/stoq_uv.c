#include "server/stoq_uv.h"

#include "base/base.h"

#define TURNS 16u // of the endpoint before others on the loop have theirs

static void on_poll(uv_poll_t *p, int status, int events)
{
    stoq_uv *x = hm_container_of(p, stoq_uv, poll);
    if (status == 0 && (events & UV_READABLE))
        x->readable = true;
}

static void on_timer(uv_timer_t *t)
{
    (void)t; // waking up is enough: on_prepare() works
}

static void on_prepare(uv_prepare_t *p)
{
    stoq_uv *x = hm_container_of(p, stoq_uv, prepare);
    uint64_t now = stoq_now_us(), next = stoq_endpoint_next_timeout_us(x->ep);
    for (unsigned i = 0; i < TURNS && (x->readable || next <= now); i++) {
        bool readable = x->readable;
        x->readable = false;
        stoq_endpoint_process(x->ep, now, readable);
        now = stoq_now_us();
        next = stoq_endpoint_next_timeout_us(x->ep);
    }
    uv_update_time(p->loop);
    if (next == HM_TIME_NEVER)
        uv_timer_stop(&x->timer);
    else
        uv_timer_start(&x->timer, on_timer, next <= now ? 0 : (next - now + 999) / 1000, 0);
}

hm_err stoq_uv_start(stoq_uv *x, uv_loop_t *loop, stoq_endpoint *ep)
{
    if (uv_poll_init(loop, &x->poll, stoq_endpoint_fd(ep)) != 0)
        return hm_fail(HM_E_IO, "the event loop does not take the socket");
    x->ep = ep;
    x->readable = false;
    uv_timer_init(loop, &x->timer);
    uv_prepare_init(loop, &x->prepare);
    uv_poll_start(&x->poll, UV_READABLE, on_poll);
    uv_prepare_start(&x->prepare, on_prepare);
    return HM_OK;
}

void stoq_uv_close(stoq_uv *x, uv_close_cb closed)
{
    uv_poll_stop(&x->poll);
    uv_close((uv_handle_t *)&x->poll, closed);
    uv_close((uv_handle_t *)&x->timer, closed);
    uv_close((uv_handle_t *)&x->prepare, closed);
    stoq_endpoint_destroy(x->ep);
    x->ep = NULL;
}
