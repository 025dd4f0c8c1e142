// Datagrams (RFC 9221): bytes that are sent once, in no order, and not again.
#include <stdlib.h>

#include "stoq/endpoint.h"

#define WAITING_MAX 65536u // bytes that wait to be sent; more would only be late

typedef struct waiting {
    hm_list link;
    size_t len;
    uint8_t bytes[];
} waiting;

// Bytes of a 1-RTT packet around its frames.
static size_t packet_overhead(const stoq_conn *c)
{
    return 1 + conn_dcid(c)->len + 4 + STOQ_AEAD_TAG;
}

size_t stoq_conn_datagram_max(const stoq_conn *c)
{
    uint64_t theirs = c->has_params ? c->theirs.max_datagram_frame_bytes : 0;
    uint64_t room = c->mtu - packet_overhead(c);
    uint64_t frame = theirs < room ? theirs : room;
    return frame > STOQ_DATAGRAM_HEAD ? (size_t)frame - STOQ_DATAGRAM_HEAD : 0;
}

hm_err stoq_conn_send_datagram(stoq_conn *c, hm_bytes bytes)
{
    if (c->state > STOQ_CONN_OPEN)
        return hm_fail(HM_E_CLOSED, "the connection is closed");
    if (bytes.len > stoq_conn_datagram_max(c))
        return hm_fail(HM_E_RANGE, "a datagram of %zu bytes, where %zu are possible", bytes.len,
                       stoq_conn_datagram_max(c));
    if (c->datagram_bytes + bytes.len + sizeof(waiting) > WAITING_MAX)
        return HM_E_STOQ_BLOCKED;
    waiting *w = malloc(sizeof *w + bytes.len);
    if (w == NULL)
        return HM_E_NOMEM;
    w->len = bytes.len;
    if (bytes.len > 0)
        memcpy(w->bytes, bytes.ptr, bytes.len);
    c->datagram_bytes += sizeof *w + w->len;
    hm_list_append(&c->datagrams, &w->link);
    conn_wake(c);
    return HM_OK;
}

static void drop(stoq_conn *c, waiting *w)
{
    hm_list_remove(&w->link);
    c->datagram_bytes -= sizeof *w + w->len;
    free(w);
}

void datagrams_free(stoq_conn *c)
{
    hm_list_each(it, &c->datagrams)
    {
        drop(c, hm_container_of(it, waiting, link));
    }
}

uint8_t *datagrams_write(stoq_conn *c, uint8_t *p, uint8_t *end, bool *any)
{
    hm_list_each(it, &c->datagrams)
    {
        waiting *w = hm_container_of(it, waiting, link);
        if (w->len > stoq_conn_datagram_max(c)) { // the path has become narrower
            c->stats.datagrams_dropped++;
            drop(c, w);
            continue;
        }
        if ((size_t)(end - p) < STOQ_DATAGRAM_HEAD + w->len)
            break; // in the next packet
        p = stoq_frame_write1(p, STOQ_FRAME_DATAGRAM_LEN, w->len);
        memcpy(p, w->bytes, w->len);
        p += w->len;
        *any = true;
        c->stats.datagrams_sent++;
        drop(c, w);
    }
    return p;
}

hm_err datagram_on_frame(stoq_conn *c, const stoq_frame *f, size_t frame_bytes, uint64_t *code)
{
    stoq_endpoint *ep = c->ep;
    uint32_t most = ep->limits.max_datagram_bytes;
    if (most == 0 || frame_bytes > (uint64_t)most + STOQ_DATAGRAM_HEAD) {
        *code = STOQ_PROTOCOL_VIOLATION;
        return hm_fail(HM_E_STOQ_TRANSPORT, "a datagram of %zu bytes, where %u may come",
                       f->data.len, most);
    }
    if (ep->datagram_count == STOQ_DATAGRAMS_MAX) {
        c->stats.datagrams_dropped++;
        return HM_OK;
    }
    ep->datagrams[ep->datagram_count].conn = c;
    ep->datagrams[ep->datagram_count++].bytes = f->data;
    return HM_OK;
}

void datagrams_tell(stoq_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->datagram_count; i++) {
        stoq_conn *c = ep->datagrams[i].conn;
        if (c->state > STOQ_CONN_OPEN || !c->handshake_complete)
            continue;
        conn_begin(c, ep->now_us);
        conn_tell(c); // that it is open comes before
        c->stats.datagrams_received++;
        if (c->state <= STOQ_CONN_OPEN && ep->callbacks.datagram != NULL)
            ep->callbacks.datagram(ep->user, c, ep->datagrams[i].bytes);
    }
    ep->datagram_count = 0;
}
