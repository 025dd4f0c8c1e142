#include "server/renew.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "server/enroll.h"
#include "trustchain/renew.h"

#define ASK_TIMEOUT_S 10u // also the longest that it holds up the end of the daemon
#define PEM_MAX 65536u
#define LOOK_MAX_MS 60000u // the clock may be set, and a person may put another certificate there
#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 3600000u

typedef struct own_cert {
    tc_family family;
    tc_serial serial; // of the certificate that the times are of
    uint64_t due_ms, not_after_ms;
    bool there, over; // over: told already
} own_cert;

struct renewal {
    uv_timer_t timer;
    uv_work_t work;
    char dir[4000], authority[256];
    void (*renewed)(void *ctx, tc_family f);
    void *ctx;
    own_cert own[2];
    own_cert *asked; // whose question is out, or NULL
    hm_err err;
    char detail[300];
    bool closing, gone;
};

static const char *const stems[2] = {"node", "edge"};

static uint64_t wall_ms(void)
{
    return hm_clock_wall_ms(&hm_clock_system);
}

static void path_of(const renewal *r, tc_family f, const char *end, char out[4096])
{
    snprintf(out, 4096, "%s/%s.%s", r->dir, stems[f], end);
}

// ---- what is there ------------------------------------------------------------------------------

// A certificate that is another than before gets a moment of its own.
static void look(renewal *r, own_cert *own)
{
    char path[4096];
    tc_serial serial;
    uint64_t from, until;
    path_of(r, own->family, "crt", path);
    bool there = tc_renewal_look(path, &serial, &from, &until) == HM_OK;
    if (there && (!own->there || memcmp(own->serial.b, serial.b, sizeof serial.b) != 0)) {
        own->serial = serial;
        own->not_after_ms = until;
        own->due_ms = tc_renewal_due_ms(from, until, hm_random_u64(&hm_random_system));
        own->over = false;
    }
    own->there = there;
}

// ---- on a worker thread -------------------------------------------------------------------------

static hm_err ask_next(const renewal *r, const own_cert *own)
{
    char path[4096], root[4096];
    hm_buf csr = {0}, chain = {0};
    hm_err err;
    snprintf(root, sizeof root, "%s/edge-root.crt", r->dir);
    const hm_client c = {.url = r->authority, .ca_path = root, .timeout_s = ASK_TIMEOUT_S};
    path_of(r, own->family, "csr", path);
    HM_TRY_OUT(hm_file_read(path, PEM_MAX, &csr));
    path_of(r, own->family, "key", path);
    HM_TRY_OUT(enroll_renew(&c, path, &own->serial, hm_buf_bytes(&csr), &chain, NULL));
    err = tc_dir_renewed(r->dir, own->family, hm_buf_bytes(&chain), wall_ms());
out:
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    return err;
}

static void ask(uv_work_t *work)
{
    renewal *r = work->data;
    hm_err_clear();
    r->err = ask_next(r, r->asked);
    snprintf(r->detail, sizeof r->detail, "%.290s", hm_err_detail());
}

// ---- on the loop --------------------------------------------------------------------------------

static void free_when_idle(renewal *r)
{
    if (r->gone && !r->asked)
        free(r);
}

static void on_timer(uv_timer_t *t);

static void wait_for_next(renewal *r)
{
    uint64_t now = wall_ms(), wait = LOOK_MAX_MS;
    for (int f = 0; f < 2; f++) {
        const own_cert *own = &r->own[f];
        uint64_t left = own->due_ms > now ? own->due_ms - now : 0;
        if (own->there && !own->over && left < wait)
            wait = left;
    }
    uv_timer_start(&r->timer, on_timer, wait, 0);
}

// The shorter the time that is left, the sooner again; not all nodes at once.
static uint64_t retry_after_ms(const own_cert *own, uint64_t now)
{
    uint64_t wait = own->not_after_ms > now ? (own->not_after_ms - now) / 8 : 0;
    wait = wait < RETRY_MIN_MS ? RETRY_MIN_MS : wait > RETRY_MAX_MS ? RETRY_MAX_MS : wait;
    return wait / 2 + hm_random_u64(&hm_random_system) % wait;
}

static void on_answer(uv_work_t *work, int status)
{
    renewal *r = work->data;
    own_cert *own = r->asked;
    const char *name = stems[own->family];
    r->asked = NULL;
    if (r->closing) {
        free_when_idle(r);
        return;
    }
    if (status == 0 && r->err == HM_OK) {
        hm_log(HM_LOG_INFO, "server", "certificate renewed", "file=%s.crt", name);
        r->renewed(r->ctx, own->family);
    } else {
        hm_log(HM_LOG_WARN, "server", "certificate not renewed",
               "file=%s.crt authority=%s reason=\"%s: %s\"", name, r->authority,
               hm_err_text(r->err), r->detail);
        own->due_ms = wall_ms() + retry_after_ms(own, wall_ms());
    }
    look(r, own);
    wait_for_next(r);
}

// Once it is over, the authority renews it no more.
static bool is_over(own_cert *own, uint64_t now)
{
    if (now <= own->not_after_ms)
        return false;
    if (!own->over)
        hm_log(HM_LOG_ERROR, "server", "certificate is over", "file=%s.crt hint=\"run enroll\"",
               stems[own->family]);
    own->over = true;
    return true;
}

static void on_timer(uv_timer_t *t)
{
    renewal *r = t->data;
    uint64_t now = wall_ms();
    for (int f = 0; f < 2 && !r->asked; f++) {
        own_cert *own = &r->own[f];
        look(r, own);
        if (!own->there || now < own->due_ms || is_over(own, now))
            continue;
        r->work.data = r;
        r->asked = own;
        if (uv_queue_work(t->loop, &r->work, ask, on_answer) != 0)
            r->asked = NULL;
    }
    if (!r->asked)
        wait_for_next(r);
}

hm_err renewal_open(const renewal_config *cfg, renewal **out)
{
    renewal *r = calloc(1, sizeof *r);
    if (r == NULL)
        return HM_E_NOMEM;
    if ((size_t)snprintf(r->dir, sizeof r->dir, "%s", cfg->dir) >= sizeof r->dir ||
        (size_t)snprintf(r->authority, sizeof r->authority, "%s", cfg->authority) >=
            sizeof r->authority) {
        free(r);
        return hm_fail(HM_E_LIMIT, "the directory's path or the authority's URL is too long");
    }
    r->own[TC_MESH].family = TC_MESH;
    r->own[TC_EDGE].family = TC_EDGE;
    r->renewed = cfg->renewed;
    r->ctx = cfg->ctx;
    r->timer.data = r;
    uv_timer_init(cfg->loop, &r->timer);
    uv_timer_start(&r->timer, on_timer, 0, 0);
    *out = r;
    return HM_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    renewal *r = h->data;
    r->gone = true;
    free_when_idle(r);
}

void renewal_close(renewal *r)
{
    if (r == NULL)
        return;
    r->closing = true;
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}
