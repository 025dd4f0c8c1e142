// A STOQ endpoint on a libuv loop: its socket, its timer, and a turn before the loop waits.
//
// Life: stoq_uv_start() after the endpoint was made; stoq_uv_close() destroys it and closes the
// handles; the memory may go once the loop has told closed() three times. One thread: the loop's.
#ifndef HM_SERVER_STOQ_UV_H
#define HM_SERVER_STOQ_UV_H

#include <uv.h>

#include "hypermesh/stoq.h"

#define STOQ_UV_HANDLES 3u

typedef struct stoq_uv {
    stoq_endpoint *ep; // owned from start on
    uv_poll_t poll;
    uv_timer_t timer;
    uv_prepare_t prepare;
    bool readable;
} stoq_uv;

HM_CHECK hm_err stoq_uv_start(stoq_uv *x, uv_loop_t *loop, stoq_endpoint *ep);
void stoq_uv_close(stoq_uv *x, uv_close_cb closed); // closed may be NULL

#endif
