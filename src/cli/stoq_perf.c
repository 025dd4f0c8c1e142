// hypermesh stoq perf: how fast bytes go to a STOQ server and come back.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "cli/stoq.h"

#define HEAD_BYTES 8u
#define STREAMS_MAX 4096u // of all connections
#define KEPT (16u << 20)  // unacknowledged upload of all streams
#define KEPT_MIN 16384u   // of one
#define SHOW_EVERY_US 250000u
#define DEFAULT_SECONDS 5u
#define STOP_CODE 0u

typedef struct run {
    session *s;
    bool up;
    uint64_t bytes;    // wanted in all; UINT64_MAX: until the time is over
    uint64_t until_us; // HM_TIME_NEVER: until the bytes are through
    unsigned streams;  // wanted; connections take turns
    unsigned opened, ended, refused;
    bool stopping;
    hm_list flows; // open
    uint64_t started_us, elapsed_us, moved;
    stoq_conn_stats before, after; // see total()
} run;

typedef struct flow { // of a stream
    hm_list link;
    run *r;
    stoq_stream *st;
    uint64_t left; // to be sent
    bool ended;
} flow;

static const uint8_t zeros[65536];

// ---- streams ------------------------------------------------------------------------------------

static void push(flow *f)
{
    while (!f->ended) {
        size_t n = f->left < sizeof(zeros) ? (size_t)f->left : sizeof(zeros);
        hm_err err = stoq_stream_lend(f->st, hm_bytes_of(zeros, n), n == f->left, NULL);
        if (err == HM_E_STOQ_BLOCKED)
            return;
        if (err != HM_OK) {
            f->ended = true;
            return;
        }
        f->left -= n;
        f->r->moved += n;
        f->ended = f->left == 0;
    }
}

static void on_writable(void *ctx, stoq_stream *st)
{
    flow *f = stoq_stream_user(st);
    (void)ctx;
    push(f);
}

static void on_readable(void *ctx, stoq_stream *st)
{
    run *r = ctx;
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK) {
            r->refused += !r->stopping;
            stoq_stream_reset(st, STOP_CODE);
            return;
        }
        if (view.len == 0 && !fin)
            return;
        if (!r->up)
            r->moved += view.len;
        stoq_stream_consume(st, view.len);
    }
}

static void on_stream_closed(void *ctx, stoq_stream *st)
{
    run *r = ctx;
    flow *f = stoq_stream_user(st);
    hm_list_remove(&f->link);
    free(f);
    r->ended++;
}

static uint64_t part_of(const run *r, unsigned index)
{
    if (r->bytes == UINT64_MAX)
        return UINT64_MAX;
    return r->bytes / r->streams + (index < r->bytes % r->streams);
}

// HM_E_STOQ_BLOCKED: the server allows no more at present.
static hm_err open_one(run *r)
{
    uint8_t head[HEAD_BYTES];
    size_t took;
    uint64_t part = part_of(r, r->opened), wanted = r->up ? 0 : part;
    uint32_t kept = KEPT / r->streams;
    flow *f = calloc(1, sizeof(*f));
    if (!f)
        return HM_E_NOMEM;
    f->r = r;
    stoq_conn *conn = session_conn(r->s, r->opened % r->s->connections);
    hm_err err = stoq_stream_open(conn, false, &f->st);
    if (err != HM_OK) {
        free(f);
        return err;
    }
    r->opened++;
    hm_list_append(&r->flows, &f->link);
    stoq_stream_set_user(f->st, f);
    stoq_stream_set_send_bytes(f->st, kept > KEPT_MIN ? kept : KEPT_MIN);
    for (unsigned i = 0; i < HEAD_BYTES; i++)
        head[i] = (uint8_t)(wanted >> (8 * (HEAD_BYTES - 1 - i)));
    f->left = r->up ? part : 0;
    f->ended = f->left == 0;
    HM_TRY(stoq_stream_send(f->st, hm_bytes_of(head, sizeof(head)), f->ended, &took));
    push(f);
    return HM_OK;
}

static hm_err open_streams(run *r)
{
    while (r->opened < r->streams && !r->stopping) {
        hm_err err = open_one(r);
        if (err == HM_E_STOQ_BLOCKED)
            return HM_OK; // the server will allow more as streams end
        HM_TRY(err);
    }
    return HM_OK;
}

// The time is over: no more is asked for, and what was sent is waited for.
static void stop(run *r)
{
    r->stopping = true;
    hm_list_each(it, &r->flows)
    {
        flow *f = hm_container_of(it, flow, link);
        size_t took;
        if (!r->up)
            stoq_stream_stop(f->st, STOP_CODE);
        else if (!f->ended && stoq_stream_send(f->st, (hm_bytes){0}, true, &took) == HM_OK)
            f->ended = true;
    }
    if (!r->up)
        r->elapsed_us = stoq_now_us() - r->started_us;
}

// ---- a run --------------------------------------------------------------------------------------

// What adds up is of all connections, the rest of the first.
static void total(const session *s, stoq_conn_stats *out)
{
    stoq_conn_get_stats(s->conn, out);
    for (unsigned i = 1; i < s->connections; i++) {
        stoq_conn_stats of;
        stoq_conn_get_stats(session_conn(s, i), &of);
        out->packets_sent += of.packets_sent;
        out->packets_received += of.packets_received;
        out->packets_lost += of.packets_lost;
        out->cwnd_bytes += of.cwnd_bytes;
        out->pacing_bytes_s += of.pacing_bytes_s;
        out->ce_marked += of.ce_marked;
    }
}

static double gbps(uint64_t bytes, uint64_t us)
{
    return us ? (double)bytes * 8 / (double)us / 1000 : 0;
}

static void show(const run *r, uint64_t now)
{
    double seconds = (double)(now - r->started_us) / 1e6;
    fprintf(stderr, "\r\033[K%s  %.1f s  %.3f GB  %.2f Gbps", r->up ? "up  " : "down", seconds,
            (double)r->moved / 1e9, gbps(r->moved, now - r->started_us));
}

static hm_err run_it(run *r)
{
    bool tty = isatty(STDERR_FILENO);
    uint64_t show_at = 0;
    session *s = r->s;
    hm_err err = HM_OK;
    hm_list_init(&r->flows);
    s->ctx = r;
    s->readable = on_readable;
    s->writable = on_writable;
    s->stream_closed = on_stream_closed;
    if (!s->conn)
        return session_end(s);
    total(s, &r->before);
    r->started_us = stoq_now_us();
    if (r->until_us != HM_TIME_NEVER)
        r->until_us += r->started_us;
    for (;;) {
        HM_TRY_OUT(open_streams(r));
        if (r->ended == r->opened && (r->stopping || r->opened == r->streams))
            break;
        uint64_t now = stoq_now_us(), next = r->stopping ? HM_TIME_NEVER : r->until_us;
        if (!r->stopping && now >= r->until_us) {
            stop(r);
            continue;
        }
        if (tty && now >= show_at) {
            show(r, now);
            show_at = now + SHOW_EVERY_US;
        }
        if (!session_turn(s, tty && show_at < next ? show_at : next)) {
            err = session_end(s);
            goto out;
        }
    }
    if (r->up || !r->stopping)
        r->elapsed_us = stoq_now_us() - r->started_us;
    total(s, &r->after);
    if (r->refused)
        err =
            hm_fail(HM_E_STOQ_RESET, "%s reset %u of %u streams", s->target, r->refused, r->opened);
out:
    if (tty)
        fputs("\r\033[K", stderr);
    return err;
}

static void print_run(const run *r)
{
    printf("%s  %.2f s  %llu bytes  %.3f Gbps  %u connections  %u streams  packets %llu sent, %llu "
           "received, "
           "%llu lost, of up to %u bytes  rtt %.3f ms\n",
           r->up ? "up  " : "down", (double)r->elapsed_us / 1e6, (unsigned long long)r->moved,
           gbps(r->moved, r->elapsed_us), r->s->connections, r->opened,
           (unsigned long long)(r->after.packets_sent - r->before.packets_sent),
           (unsigned long long)(r->after.packets_received - r->before.packets_received),
           (unsigned long long)(r->after.packets_lost - r->before.packets_lost), r->after.mtu_bytes,
           (double)r->after.rtt_us / 1000);
    fflush(stdout);
}

static void json_run(const run *r, hm_buf *b)
{
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "direction", r->up ? "up" : "down");
    hm_jw_u64(b, "bytes", r->moved);
    hm_jw_u64(b, "elapsed_us", r->elapsed_us);
    hm_jw_u64(b, "bits_per_second", (uint64_t)(gbps(r->moved, r->elapsed_us) * 1e9));
    hm_jw_u64(b, "streams", r->opened);
    hm_jw_u64(b, "packets_sent", r->after.packets_sent - r->before.packets_sent);
    hm_jw_u64(b, "packets_received", r->after.packets_received - r->before.packets_received);
    hm_jw_u64(b, "packets_lost", r->after.packets_lost - r->before.packets_lost);
    hm_jw_u64(b, "mtu_bytes", r->after.mtu_bytes);
    hm_jw_bool(b, "at_preferred", r->after.at_preferred);
    hm_jw_u64(b, "rtt_us", r->after.rtt_us);
    hm_jw_u64(b, "min_rtt_us", r->after.min_rtt_us);
    hm_jw_str(b, "congestion", r->after.congestion);
    hm_jw_u64(b, "cwnd_bytes", r->after.cwnd_bytes);
    hm_jw_u64(b, "pacing_bytes_s", r->after.pacing_bytes_s);
    hm_jw_bool(b, "ecn", r->after.ecn);
    hm_jw_u64(b, "ce_marked", r->after.ce_marked - r->before.ce_marked);
    hm_jw_close(b, '}');
}

// ---- the command --------------------------------------------------------------------------------

hm_err stoq_size_of(const cli *c, const char *name, uint64_t *out)
{
    const char *text = hm_config_get(&c->cfg, name);
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (text[0] < '0' || text[0] > '9' || (*end && (!shift || end[1])) || n == 0 ||
        n > (UINT64_C(1) << 60 >> shift))
        return hm_fail(HM_E_USAGE,
                       "--%s is \"%.40s\"; a number of bytes such as 1000, 64K, 10M or "
                       "4G is needed",
                       name, text);
    *out = n << shift;
    return HM_OK;
}

// One run for each direction that is asked for; without any, both for a time.
static hm_err plan(const cli *c, unsigned connections, run runs[2], size_t *count)
{
    static const char *const names[] = {"down", "up"};
    uint64_t seconds = DEFAULT_SECONDS, streams;
    bool sized = hm_config_get(&c->cfg, "down") || hm_config_get(&c->cfg, "up");
    HM_TRY(hm_config_u64(&c->cfg, "streams", 1, STREAMS_MAX, &streams));
    streams *= connections;
    if (streams > STREAMS_MAX)
        return hm_fail(HM_E_USAGE, "--streams of all --connections are at most %u together",
                       STREAMS_MAX);
    if (hm_config_get(&c->cfg, "seconds")) {
        if (sized)
            return hm_fail(HM_E_USAGE, "either --seconds or the bytes of --down and --up");
        HM_TRY(hm_config_u64(&c->cfg, "seconds", 1, 86400, &seconds));
    }
    *count = 0;
    for (size_t i = 0; i < 2; i++) {
        run *r = &runs[*count];
        *r = (run){.up = i == 1, .streams = (unsigned)streams, .bytes = UINT64_MAX};
        r->until_us = sized ? HM_TIME_NEVER : seconds * 1000000;
        if (sized && !hm_config_get(&c->cfg, names[i]))
            continue;
        if (sized)
            HM_TRY(stoq_size_of(c, names[i], &r->bytes));
        (*count)++;
    }
    return HM_OK;
}

hm_err cli_stoq_perf(cli *c, const cli_command *cmd)
{
    session s = {.conn = NULL};
    run runs[2];
    size_t count = 0;
    unsigned connections;
    hm_buf b = {0};
    hm_err err;
    HM_TRY(session_connections(c, &connections));
    if (hm_config_get(&c->cfg, "handshakes")) {
        if (hm_config_get(&c->cfg, "session"))
            return hm_fail(HM_E_USAGE, "either --handshakes or --session");
        if (connections > 0)
            return hm_fail(HM_E_USAGE, "either --handshakes, with --parallel, or --connections");
        return stoq_handshakes(c, cmd);
    }
    if (connections > 0 && hm_config_get(&c->cfg, "session"))
        return hm_fail(HM_E_USAGE, "either --connections or --session");
    connections = connections > 0 ? connections : 1;
    if (hm_config_on(&c->cfg, "resume"))
        return hm_fail(HM_E_USAGE, "--resume goes with --handshakes");
    HM_TRY(plan(c, connections, runs, &count));
    HM_TRY_OUT(session_open(&s, c, "perf"));
    s.connections = 1;
    if (connections > 1) // not with early data, which need not wait for the handshake
        HM_TRY_OUT(session_widen(&s, connections));
    if (!c->json)
        session_print(&s);
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "runs", '[');
    for (size_t i = 0; i < count; i++) {
        runs[i].s = &s;
        HM_TRY_OUT(run_it(&runs[i]));
        json_run(&runs[i], &b);
        if (!c->json) {
            session_print(&s);
            print_run(&runs[i]);
        }
    }
    hm_jw_close(&b, ']');
    session_json(&s, &b); // known now, also after early data
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    if (c->json)
        err = cli_answer(c, cmd, hm_buf_bytes(&b));
out:
    session_close(&s);
    hm_buf_free(&b);
    return err;
}
