// Sessions: what a client keeps of a connection for the next one.
#include <stdlib.h>

#include "base/clock.h"
#include "stoq/endpoint.h"

// Certificates and tickets have their times of the day.
static uint64_t wall_s(void)
{
    return hm_clock_wall_ms(&hm_clock_system) / 1000;
}

void conn_tls_end(stoq_conn *c)
{
    if (c->confirmed && c->tls.sessions_wanted == 0)
        stoq_tls_end(&c->tls);
}

void session_on_complete(stoq_conn *c)
{
    c->resumed = SSL_session_reused(c->tls.ssl) == 1;
    if (!c->resumed)
        c->proven_s = wall_s();
}

void session_on_ticket(stoq_conn *c, SSL_SESSION *tls)
{
    stoq_session s = {.tls = tls,
                      .proven_s = c->proven_s,
                      .server_name = hm_bytes_str(c->server_name != NULL ? c->server_name : ""),
                      .alpn = hm_bytes_str(c->alpn),
                      .params = c->theirs};
    hm_buf *b = &c->sessions[c->session_count];
    if (c->session_count == STOQ_SESSIONS_MAX)
        return;
    if (stoq_session_encode(&s, b) == HM_OK)
        c->session_count++;
    else
        hm_buf_free_secret(b); // it is gone, and the next connection takes a whole handshake
    conn_wake(c);
}

void sessions_tell(stoq_conn *c)
{
    const stoq_callbacks *cb = conn_callbacks(c);
    for (unsigned i = 0; i < c->session_count; i++)
        cb->session(conn_endpoint_user(c), c, hm_buf_bytes(&c->sessions[i]));
    sessions_free(c);
}

void sessions_free(stoq_conn *c)
{
    for (unsigned i = 0; i < c->session_count; i++)
        hm_buf_free_secret(&c->sessions[i]);
    c->session_count = 0;
}

hm_err stoq_resume(stoq_endpoint *ep, const struct sockaddr_in6 *to, const char *server_name,
                   hm_bytes session, void *user, stoq_conn **out)
{
    stoq_session s;
    *out = NULL;
    if (stoq_session_decode(session, server_name, wall_s(), &s) != HM_OK)
        return stoq_connect(ep, to, server_name, NULL, user, out);
    char alpn[256];
    memcpy(alpn, s.alpn.ptr, s.alpn.len);
    alpn[s.alpn.len] = 0;
    hm_err err = endpoint_connect(ep, to, server_name, alpn, &s, user, out);
    stoq_session_free(&s);
    return err;
}
