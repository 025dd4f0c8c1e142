// A bundle of connections where the other commands have one.
#include <stdio.h>

#include "cli/stoq.h"

// Of each sender, on both sides: what is on its way, or waits for what is before it.
#define WINDOW_BYTES (4u << 20)
#define SENDERS_MAX 16u // bundles that one receiver takes at a time

static void on_bundle_closed(void *user, stoq_bundle *b, hm_err why)
{
    session *s = user;
    (void)b, (void)why; // the last connection says more
    s->bundle = NULL;
}

static void on_bundle_opened(void *user, stoq_bundle *b)
{
    session *s = user;
    s->bundle = b;
}

// The application's callbacks, whose user is another one.
static void on_data(void *user, stoq_bundle *b, uint64_t offset, hm_bytes bytes)
{
    const session *s = user;
    s->on_bundle.data(s->ctx, b, offset, bytes);
}
static void on_end(void *user, stoq_bundle *b)
{
    const session *s = user;
    s->on_bundle.end(s->ctx, b);
}
static void on_writable(void *user, stoq_bundle *b)
{
    const session *s = user;
    s->on_bundle.writable(s->ctx, b);
}

static void on_conn_open(void *user, stoq_conn *conn)
{
    session *s = user;
    stoq_bundle *opening; // it is told when it is open
    hm_err err;
    if (s->open) {
        err = s->bundle ? stoq_bundle_add(s->bundle, conn) : HM_E_CLOSED;
    } else {
        s->handshake_us = stoq_now_us() - s->started_us;
        session_note_peer(s, conn);
        err = stoq_bundle_open(s->set, conn, NULL, &opening);
    }
    if (err != HM_OK) {
        fprintf(stderr, "a connection does not join: %s\n", hm_err_detail());
        stoq_conn_close(conn, STOQ_BUNDLE_DONE, "");
    }
}

static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    session *s = user;
    s->failed += s->bundle != NULL;
    session_note_end(s, conn, code, is_app, reason);
    if (s->conn == conn || !s->bundle)
        s->conn = s->bundle ? stoq_bundle_conn(s->bundle) : NULL;
    if (s->conn)
        fprintf(stderr, "%u connections are left: %s\n", s->tried - s->failed, s->detail);
}

hm_err session_connections(const cli *c, unsigned *out)
{
    uint64_t n = 0;
    if (hm_config_get(&c->cfg, "connections"))
        HM_TRY(hm_config_u64(&c->cfg, "connections", 1, STOQ_BUNDLE_CONNS_MAX, &n));
    *out = (unsigned)n;
    return HM_OK;
}

// All of them carry the bundle, or are gone.
static bool settled(const session *s)
{
    stoq_bundle_stats st;
    if (!s->bundle)
        return false;
    stoq_bundle_get_stats(s->bundle, &st);
    return s->tried == s->connections && st.joined + s->failed >= s->connections;
}

static hm_err connect_more(session *s)
{
    stoq_endpoint **ep = &s->more[s->more_count];
    stoq_conn *conn;
    HM_TRY(stoq_endpoint_create(&s->config, ep));
    s->more_count++;
    s->tried++;
    return stoq_connect_beside(*ep, s->conn, &s->to, s->name, NULL, &conn);
}

hm_err session_open_bundle(session *s, cli *c, const char *alpn, void *ctx,
                           const stoq_bundle_callbacks *callbacks)
{
    static const stoq_callbacks endpoint = {.conn_open = on_conn_open,
                                            .conn_closed = on_conn_closed,
                                            .stream_readable = stoq_bundles_stream_readable,
                                            .stream_writable = stoq_bundles_stream_writable,
                                            .stream_returned = stoq_bundles_stream_returned,
                                            .stream_closed = stoq_bundles_stream_closed};
    const stoq_bundles_config config = {.ordered = true,
                                        .window_bytes = WINDOW_BYTES,
                                        .send_bytes = WINDOW_BYTES,
                                        .callbacks = {.opened = on_bundle_opened,
                                                      .data = on_data,
                                                      .end = on_end,
                                                      .writable = on_writable,
                                                      .closed = on_bundle_closed},
                                        .user = s};
    unsigned connections;
    HM_TRY(session_connections(c, &connections));
    if (hm_config_get(&c->cfg, "session") || hm_config_on(&c->cfg, "early"))
        return hm_fail(HM_E_USAGE, "either --connections or --session");
    HM_TRY(session_prepare(s, c, alpn, &endpoint));
    s->connections = connections;
    s->ctx = ctx;
    s->on_bundle = *callbacks;
    HM_TRY(stoq_bundles_create(&config, &s->set));
    s->started_us = stoq_now_us();
    HM_TRY(stoq_connect(s->ep, &s->to, s->name, NULL, NULL, &s->conn));
    s->tried = 1;
    while (!settled(s)) {
        while (s->bundle && s->conn && s->tried < s->connections)
            HM_TRY(connect_more(s));
        if (!session_turn(s, HM_TIME_NEVER))
            return session_end(s);
    }
    return HM_OK;
}

hm_err session_take_bundles(session *s, const cli *c, void *ctx,
                            const stoq_bundle_callbacks *callbacks)
{
    unsigned connections;
    HM_TRY(session_connections(c, &connections));
    const stoq_bundles_config config = {.ordered = true,
                                        .window_bytes = WINDOW_BYTES,
                                        .send_bytes = STOQ_BUNDLE_PIECE_MAX,
                                        .max_bundles = SENDERS_MAX,
                                        .max_connections = connections,
                                        .callbacks = *callbacks,
                                        .user = ctx};
    return stoq_bundles_create(&config, &s->set);
}
