// hypermesh stoq perf --handshakes: how many connections a second come to be, each closed as soon
// as the server has confirmed it.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/stoq.h"

#define PARALLEL_MAX 1024u
#define SHOW_EVERY_US 250000u

typedef struct attempt {
    stoq_conn *conn; // NULL: none
    uint64_t start_us;
} attempt;

typedef struct handshakes {
    session s; // first: the callbacks' user
    attempt at[PARALLEL_MAX];
    unsigned parallel;
    bool failed;
    times times;
} handshakes;

static void on_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    handshakes *h = user;
    attempt *a = stoq_conn_user(conn);
    if (!a) // closed by this side
        return;
    a->conn = NULL;
    h->failed = true;
    session_note_end(&h->s, conn, code, is_app, reason);
}

// HM_E_LIMIT of the endpoint: those that were closed just now linger; later.
static hm_err begin(handshakes *h)
{
    for (unsigned i = 0; i < h->parallel; i++) {
        attempt *a = &h->at[i];
        if (a->conn)
            continue;
        *a = (attempt){.start_us = stoq_now_us()};
        hm_err err = stoq_connect(h->s.ep, &h->s.to, h->s.name, NULL, a, &a->conn);
        if (err == HM_E_LIMIT)
            return HM_OK;
        HM_TRY(err);
    }
    return HM_OK;
}

// Closes those that are confirmed, or all.
static hm_err end(handshakes *h, bool all)
{
    uint64_t now = stoq_now_us();
    for (unsigned i = 0; i < h->parallel; i++) {
        attempt *a = &h->at[i];
        bool confirmed = a->conn && stoq_conn_is_confirmed(a->conn);
        if (!a->conn || (!confirmed && !all))
            continue;
        if (!h->s.open && confirmed)
            session_note_peer(&h->s, a->conn);
        if (confirmed)
            HM_TRY(times_add(&h->times, now - a->start_us));
        stoq_conn_set_user(a->conn, NULL);
        stoq_conn_close(a->conn, 0, "");
        a->conn = NULL;
    }
    return HM_OK;
}

static hm_err run(handshakes *h, uint64_t seconds, uint64_t *elapsed_us)
{
    bool tty = isatty(STDERR_FILENO);
    uint64_t start = stoq_now_us(), until = start + seconds * 1000000, now = start, show = start;
    hm_err err = HM_OK;
    while (err == HM_OK && now < until && !h->failed && !session_interrupted()) {
        err = begin(h);
        (void)session_turn(&h->s, until);
        if (err == HM_OK)
            err = end(h, false);
        now = stoq_now_us();
        if (tty && now >= show) {
            fprintf(stderr, "\r\033[K%zu handshakes, %.0f a second", h->times.count,
                    (double)h->times.count * 1e6 / (double)(now - start + 1));
            show = now + SHOW_EVERY_US;
        }
    }
    if (tty)
        fputs("\r\033[K", stderr);
    *elapsed_us = now - start;
    if (err == HM_OK && h->failed)
        err = session_end(&h->s);
    return err;
}

static hm_err report(cli *c, const cli_command *cmd, handshakes *h, uint64_t elapsed_us)
{
    hm_buf b = {0};
    double rate = elapsed_us ? (double)h->times.count * 1e6 / (double)elapsed_us : 0;
    if (!c->json) {
        printf("%s  %s  %s  %s\n%zu handshakes, %u at a time, %.1f a second", h->s.target,
               h->s.peer, h->s.group, h->s.cipher, h->times.count, h->parallel, rate);
        times_print(&h->times);
        return HM_OK;
    }
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "target", h->s.target);
    hm_jw_str(&b, "peer", h->s.peer);
    hm_jw_str(&b, "group", h->s.group);
    hm_jw_str(&b, "cipher", h->s.cipher);
    hm_jw_u64(&b, "handshakes", h->times.count);
    hm_jw_u64(&b, "parallel", h->parallel);
    hm_jw_u64(&b, "elapsed_us", elapsed_us);
    hm_jw_u64(&b, "handshakes_per_second", (uint64_t)(rate + 0.5));
    times_json(&h->times, &b);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    hm_err err = cli_answer(c, cmd, hm_buf_bytes(&b));
    hm_buf_free(&b);
    return err;
}

hm_err stoq_handshakes(cli *c, const cli_command *cmd)
{
    static const stoq_callbacks callbacks = {.conn_closed = on_closed};
    uint64_t seconds, parallel, elapsed_us = 0;
    hm_err err;
    if (hm_config_get(&c->cfg, "down") || hm_config_get(&c->cfg, "up") ||
        hm_config_get(&c->cfg, "seconds"))
        return hm_fail(HM_E_USAGE, "either --handshakes or --down, --up and --seconds");
    HM_TRY(hm_config_u64(&c->cfg, "handshakes", 1, 3600, &seconds));
    HM_TRY(hm_config_u64(&c->cfg, "parallel", 1, PARALLEL_MAX, &parallel));
    handshakes *h = calloc(1, sizeof(*h));
    if (!h)
        return HM_E_NOMEM;
    HM_TRY_OUT(session_prepare(&h->s, c, "perf", &callbacks));
    h->parallel = (unsigned)parallel;
    err = run(h, seconds, &elapsed_us);
    if (err == HM_OK)
        err = end(h, true);
    if (err == HM_OK)
        err = report(c, cmd, h, elapsed_us);
out:
    session_close(&h->s);
    times_free(&h->times);
    free(h);
    return err;
}
