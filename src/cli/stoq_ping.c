// hypermesh stoq ping: requests and their answers, one after another.
#include <stdio.h>
#include <stdlib.h>

#include "cli/stoq.h"

#define HEAD_BYTES 8u
#define REQUEST_MAX (1u << 20)
#define RESPONSE_MAX (1u << 30)

typedef struct ping {
    session s;
    uint8_t *request; // owned; lent to the transport
    uint64_t request_bytes, response_bytes;
    uint64_t came; // of this answer
    bool answered, refused;
    times times;
    size_t sent;
} ping;

static void on_pong(void *ctx, stoq_stream *st)
{
    ping *p = ctx;
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK) {
            p->refused = true;
            return;
        }
        if (view.len == 0 && !fin)
            return;
        p->came += view.len;
        stoq_stream_consume(st, view.len);
    }
    p->answered = true;
}

static hm_err ping_once(ping *p, bool tell)
{
    stoq_stream *st;
    uint64_t start = stoq_now_us();
    p->answered = false;
    p->came = 0;
    if (!p->s.conn)
        return session_end(&p->s);
    HM_TRY(stoq_stream_open(p->s.conn, false, &st));
    HM_TRY(stoq_stream_lend(st, hm_bytes_of(p->request, p->request_bytes), true, NULL));
    p->sent++;
    while (!p->answered && !p->refused)
        if (!session_turn(&p->s, HM_TIME_NEVER))
            return session_end(&p->s);
    if (p->refused || p->came != p->response_bytes)
        return hm_fail(HM_E_STOQ_RESET, "%s does not answer such requests", p->s.target);
    uint64_t us = stoq_now_us() - start;
    if (tell) {
        session_print(&p->s);
        printf("answer %zu: %.3f ms\n", p->sent, (double)us / 1000);
        fflush(stdout);
    }
    return times_add(&p->times, us);
}

static hm_err ping_report(cli *c, const cli_command *cmd, ping *p, uint64_t elapsed_us)
{
    hm_buf b = {0};
    size_t answers = p->times.count;
    if (!c->json) {
        printf("%zu requests, %zu answers", p->sent, answers);
        times_print(&p->times);
        return HM_OK;
    }
    hm_jw_open(&b, NULL, '{');
    session_json(&p->s, &b);
    if (p->s.conn) {
        stoq_conn_stats stats;
        stoq_conn_get_stats(p->s.conn, &stats);
        hm_jw_bool(&b, "at_preferred", stats.at_preferred);
    }
    hm_jw_u64(&b, "requests", p->sent);
    hm_jw_u64(&b, "answers", answers);
    hm_jw_u64(&b, "request_bytes", p->request_bytes);
    hm_jw_u64(&b, "response_bytes", p->response_bytes);
    hm_jw_u64(&b, "elapsed_us", elapsed_us);
    hm_jw_u64(&b, "requests_per_second", elapsed_us ? answers * 1000000 / elapsed_us : 0);
    times_json(&p->times, &b);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    hm_err err = cli_answer(c, cmd, hm_buf_bytes(&b));
    hm_buf_free(&b);
    return err;
}

// The request: how many bytes are wanted, and zeros.
static hm_err make_request(cli *c, ping *p)
{
    HM_TRY(hm_config_u64(&c->cfg, "request", HEAD_BYTES, REQUEST_MAX, &p->request_bytes));
    HM_TRY(hm_config_u64(&c->cfg, "response", 0, RESPONSE_MAX, &p->response_bytes));
    p->request = calloc(1, p->request_bytes);
    if (!p->request)
        return HM_E_NOMEM;
    for (unsigned i = 0; i < HEAD_BYTES; i++)
        p->request[i] = (uint8_t)(p->response_bytes >> (8 * (HEAD_BYTES - 1 - i)));
    return HM_OK;
}

hm_err cli_stoq_ping(cli *c, const cli_command *cmd)
{
    uint64_t count, interval_ms;
    ping p = {.sent = 0};
    hm_err err;
    HM_TRY(hm_config_u64(&c->cfg, "count", 1, 10000000, &count));
    HM_TRY(hm_config_u64(&c->cfg, "interval", 0, 3600000, &interval_ms));
    HM_TRY_OUT(make_request(c, &p));
    HM_TRY_OUT(session_open(&p.s, c, "perf"));
    p.s.readable = on_pong;
    p.s.ctx = &p;
    if (!c->json)
        session_print(&p.s);
    uint64_t start = stoq_now_us();
    for (uint64_t i = 0, at; i < count && err == HM_OK && !session_interrupted(); i++) {
        at = stoq_now_us() + interval_ms * 1000;
        err = ping_once(&p, !c->json);
        while (err == HM_OK && i + 1 < count && stoq_now_us() < at)
            if (!session_turn(&p.s, at))
                break;
    }
    uint64_t elapsed_us = stoq_now_us() - start;
    if (session_interrupted())
        err = HM_OK; // ended by the person: what there is counts
    hm_err told = ping_report(c, cmd, &p, elapsed_us);
    if (err == HM_OK)
        err = told;
out:
    session_close(&p.s);
    times_free(&p.times);
    free(p.request);
    return err;
}
