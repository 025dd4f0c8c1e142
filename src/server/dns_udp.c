#include "server/dns_udp.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/config.h"
#include "base/udp_local.h"

#define BATCH 32u
#define ROUNDS 4u // of a batch before others on the loop have their turn
#define QUERY_MAX 4096u

typedef union control {
    char bytes[HM_UDP_LOCAL_SPACE];
    struct cmsghdr align;
} control;

struct dns_udp {
    dns_core *core;
    int fd;
    uv_poll_t poll;
    hm_list waiting; // of udp_query
    struct sockaddr_in6 from[BATCH];
    struct iovec in[BATCH], out[BATCH];
    struct mmsghdr came[BATCH], goes[BATCH];
    hm_udp_local local[BATCH]; // where the queries came to
    control in_control[BATCH], out_control[BATCH];
    uint8_t queries[BATCH][QUERY_MAX];
    uint8_t answers[BATCH][DNS_UDP_MAX];
};

typedef struct udp_query {
    dns_wait wait;
    hm_list link;
    dns_udp *udp;
    struct sockaddr_in6 from;
    hm_udp_local local;
} udp_query;

// What goes from there to there. The parts are borrowed.
static struct msghdr message(struct iovec *bytes, const hm_udp_local *from, control *c,
                             struct sockaddr_in6 *to)
{
    size_t len = hm_udp_local_write(from, &c->align);
    return (struct msghdr){.msg_name = to,
                           .msg_namelen = sizeof *to,
                           .msg_iov = bytes,
                           .msg_iovlen = 1,
                           .msg_control = len > 0 ? c : NULL,
                           .msg_controllen = len};
}

static void on_forwarded(dns_wait *w, hm_bytes answer)
{
    udp_query *q = hm_container_of(w, udp_query, wait);
    struct iovec bytes = {(void *)answer.ptr, answer.len};
    control c;
    const struct msghdr m = message(&bytes, &q->local, &c, &q->from);
    ssize_t n = sendmsg(q->udp->fd, &m, MSG_DONTWAIT);
    (void)n; // lost as a datagram is: the client asks again
    hm_list_remove(&q->link);
    free(q);
}

static size_t forward(dns_udp *d, const dns_msg *query, unsigned i, uint8_t *out)
{
    udp_query *q = malloc(sizeof *q);
    if (q == NULL)
        return 0;
    q->wait.done = on_forwarded;
    q->udp = d;
    q->from = d->from[i];
    q->local = d->local[i];
    size_t len = dns_core_forward(d->core, query, DNS_WAY_UDP, &q->wait, out);
    if (len > 0)
        free(q);
    else
        hm_list_append(&d->waiting, &q->link);
    return len;
}

static void note_local(dns_udp *d, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct cmsghdr *c = CMSG_FIRSTHDR(&d->came[i].msg_hdr);
        if (c == NULL || !hm_udp_local_read(c, &d->local[i]))
            d->local[i] = (hm_udp_local){0};
    }
}

static unsigned answer_all(dns_udp *d, unsigned count)
{
    unsigned ready = 0;
    for (unsigned i = 0; i < count; i++) {
        dns_msg query;
        uint8_t *out = d->answers[ready];
        size_t len = dns_core_ask(d->core, hm_bytes_of(d->queries[i], d->came[i].msg_len),
                                  DNS_WAY_UDP, &query, out);
        if (len == DNS_LATER)
            len = forward(d, &query, i, out);
        if (len == 0)
            continue;
        d->out[ready] = (struct iovec){out, len};
        d->goes[ready].msg_hdr =
            message(&d->out[ready], &d->local[i], &d->out_control[ready], &d->from[i]);
        ready++;
    }
    return ready;
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    dns_udp *d = hm_container_of(p, dns_udp, poll);
    if (status != 0 || !(events & UV_READABLE))
        return;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < BATCH; i++) {
            d->in[i] = (struct iovec){d->queries[i], QUERY_MAX};
            d->came[i].msg_hdr = (struct msghdr){.msg_name = &d->from[i],
                                                 .msg_namelen = sizeof d->from[i],
                                                 .msg_iov = &d->in[i],
                                                 .msg_iovlen = 1,
                                                 .msg_control = &d->in_control[i],
                                                 .msg_controllen = sizeof d->in_control[i]};
        }
        int n = recvmmsg(d->fd, d->came, BATCH, MSG_DONTWAIT, NULL);
        if (n <= 0)
            return;
        note_local(d, (unsigned)n);
        unsigned ready = answer_all(d, (unsigned)n), sent = 0;
        while (sent < ready) {
            int m = sendmmsg(d->fd, d->goes + sent, ready - sent, MSG_DONTWAIT);
            sent += m > 0 ? (unsigned)m : 1; // the first one cannot be sent: it is lost
        }
        if ((unsigned)n < BATCH)
            return;
    }
}

hm_err dns_udp_open(dns_core *core, const struct sockaddr_in6 *at, dns_udp **out)
{
    const int one = 1, room = 4 << 20;
    dns_udp *d = calloc(1, sizeof *d);
    if (d == NULL)
        return HM_E_NOMEM;
    d->core = core;
    hm_list_init(&d->waiting);
    d->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    hm_err err = HM_OK;
    if (d->fd < 0 || setsockopt(d->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0 ||
        hm_udp_local_ask(d->fd, at) != 0 ||
        bind(d->fd, (const struct sockaddr *)at, sizeof *at) != 0)
        err = hm_addr_fail(at, "UDP", errno);
    else if (uv_poll_init(core->loop, &d->poll, d->fd) != 0)
        err = hm_fail(HM_E_IO, "the event loop does not take the socket");
    if (err != HM_OK) {
        if (d->fd >= 0)
            close(d->fd);
        free(d);
        return err;
    }
    (void)setsockopt(d->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room); // as much as is allowed
    uv_poll_start(&d->poll, UV_READABLE, on_poll);
    *out = d;
    return HM_OK;
}

void dns_udp_address(const dns_udp *d, struct sockaddr_in6 *out)
{
    socklen_t len = sizeof *out;
    if (getsockname(d->fd, (struct sockaddr *)out, &len) != 0)
        *out = (struct sockaddr_in6){.sin6_family = AF_INET6};
}

static void on_closed(uv_handle_t *h)
{
    dns_udp *d = hm_container_of((uv_poll_t *)h, dns_udp, poll);
    close(d->fd);
}

void dns_udp_close(dns_udp *d)
{
    if (d == NULL)
        return;
    hm_list_each(it, &d->waiting)
    {
        udp_query *q = hm_container_of(it, udp_query, link);
        dns_forward_leave(&q->wait);
        hm_list_remove(&q->link);
        free(q);
    }
    uv_poll_stop(&d->poll);
    uv_close((uv_handle_t *)&d->poll, on_closed);
}

void dns_udp_free(dns_udp *d)
{
    free(d);
}
