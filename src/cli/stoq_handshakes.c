// hypermesh stoq perf --handshakes: how many connections a second come to be, each closed as soon
// as the server has confirmed it. With --resume each goes on with the session of the one before it,
// and with --early its first packets bring a request.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/stoq.h"

#define PARALLEL_MAX 1024u
#define SHOW_EVERY_US 250000u

typedef struct attempt {
    stoq_conn *conn; // NULL: none
    uint64_t start_us;
    hm_buf session; // what this or the one before was told, secret; owned
} attempt;

typedef struct handshakes {
    session s; // first: the callbacks' user
    attempt at[PARALLEL_MAX];
    unsigned parallel;
    bool resume, early;
    bool failed;
    times times;           // with resume, of those that were
    size_t whole, early_n; // that were not; whose early data was taken
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

static void on_session(void *user, stoq_conn *conn, hm_bytes bytes)
{
    attempt *a = stoq_conn_user(conn);
    (void)user;
    if (!a)
        return;
    a->session.len = 0;
    hm_buf_put(&a->session, bytes);
}

static hm_err ask_early(stoq_conn *conn)
{
    static const uint8_t nothing[8]; // is to be answered
    stoq_stream *s;
    size_t taken;
    HM_TRY(stoq_stream_open(conn, false, &s));
    return stoq_stream_send(s, hm_bytes_of(nothing, sizeof(nothing)), true, &taken);
}

static hm_err begin_one(handshakes *h, attempt *a)
{
    a->start_us = stoq_now_us();
    if (a->session.len == 0)
        return stoq_connect(h->s.ep, &h->s.to, h->s.name, NULL, a, &a->conn);
    HM_TRY(hm_buf_status(&a->session));
    HM_TRY(stoq_resume(h->s.ep, &h->s.to, h->s.name, hm_buf_bytes(&a->session), h->early, a,
                       &a->conn));
    a->session.len = 0;
    return stoq_conn_early(a->conn) == STOQ_EARLY_OFFERED ? ask_early(a->conn) : HM_OK;
}

// HM_E_LIMIT of the endpoint: those that were closed just now linger; later.
static hm_err begin(handshakes *h)
{
    for (unsigned i = 0; i < h->parallel; i++) {
        attempt *a = &h->at[i];
        if (a->conn)
            continue;
        hm_err err = begin_one(h, a);
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
        if (confirmed && h->resume && !stoq_conn_resumed(a->conn))
            h->whole++;
        else if (confirmed)
            HM_TRY(times_add(&h->times, now - a->start_us));
        h->early_n += confirmed && stoq_conn_early(a->conn) == STOQ_EARLY_ACCEPTED;
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
        printf("%s  %s  %s  %s\n%zu %s, %u at a time, %.1f a second", h->s.target, h->s.peer,
               h->s.group, h->s.cipher, h->times.count,
               h->resume ? "resumed handshakes" : "handshakes", h->parallel, rate);
        if (h->resume)
            printf("; %zu with early data, %zu were whole", h->early_n, h->whole);
        times_print(&h->times);
        return HM_OK;
    }
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "target", h->s.target);
    hm_jw_str(&b, "peer", h->s.peer);
    hm_jw_str(&b, "group", h->s.group);
    hm_jw_str(&b, "cipher", h->s.cipher);
    hm_jw_u64(&b, "handshakes", h->times.count);
    if (h->resume) {
        hm_jw_u64(&b, "whole", h->whole);
        hm_jw_u64(&b, "early", h->early_n);
    }
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
    stoq_callbacks callbacks = {.conn_closed = on_closed};
    bool resume = hm_config_on(&c->cfg, "resume"), early = hm_config_on(&c->cfg, "early");
    uint64_t seconds, parallel, elapsed_us = 0;
    hm_err err;
    if (hm_config_get(&c->cfg, "down") || hm_config_get(&c->cfg, "up") ||
        hm_config_get(&c->cfg, "seconds"))
        return hm_fail(HM_E_USAGE, "either --handshakes or --down, --up and --seconds");
    if (early && !resume)
        return hm_fail(HM_E_USAGE, "--early needs --resume");
    if (resume && hm_config_get(&c->cfg, "cert"))
        return hm_fail(HM_E_USAGE, "--resume or --cert: who shows a certificate resumes nothing");
    if (resume)
        callbacks.session = on_session;
    HM_TRY(hm_config_u64(&c->cfg, "handshakes", 1, 3600, &seconds));
    HM_TRY(hm_config_u64(&c->cfg, "parallel", 1, PARALLEL_MAX, &parallel));
    handshakes *h = calloc(1, sizeof(*h));
    if (!h)
        return HM_E_NOMEM;
    HM_TRY_OUT(session_prepare(&h->s, c, "perf", &callbacks));
    h->parallel = (unsigned)parallel;
    h->resume = resume;
    h->early = early;
    err = run(h, seconds, &elapsed_us);
    if (err == HM_OK)
        err = end(h, true);
    if (err == HM_OK && resume && h->times.count == 0 && h->whole > 0)
        err = hm_fail(HM_E_UNSUPPORTED, "%s resumes nothing: does it give tickets?", h->s.target);
    if (err == HM_OK)
        err = report(c, cmd, h, elapsed_us);
out:
    session_close(&h->s);
    times_free(&h->times);
    for (unsigned i = 0; i < PARALLEL_MAX; i++)
        hm_buf_free_secret(&h->at[i].session);
    free(h);
    return err;
}
