// dns-01, and the addresses of names.
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/random.h"
#include "server/acme_dns.h"
#include "server/acme_probe_internal.h"

#define TRIES 3u
#define TRY_MS 2000u

// Reads one answer to the question by UDP; what is none is passed over.
static bool ask_udp(const acme_probe *once, hm_bytes question, hm_buf *message,
                    acme_dns_answer *out)
{
    bool got = false;
    int fd = probe_connect(once, &once->cfg->resolver, SOCK_DGRAM);
    if (fd < 0)
        return false;
    if (send(fd, question.ptr, question.len, MSG_NOSIGNAL) == (ssize_t)question.len) {
        while (!got && probe_wait(once, fd, POLLIN)) {
            hm_buf_reset(message);
            uint8_t *room = hm_buf_reserve(message, ACME_DNS_UDP_BYTES);
            ssize_t n = room ? recv(fd, room, ACME_DNS_UDP_BYTES, 0) : -1;
            if (n < 0 && errno != EAGAIN && errno != EINTR)
                break; // nobody is there
            message->len = n > 0 ? (size_t)n : 0;
            got = acme_dns_read(question, hm_buf_bytes(message), out) == HM_OK;
        }
    }
    close(fd);
    return got;
}

static bool io_all(const acme_probe *p, int fd, uint8_t *at, size_t len, bool writing)
{
    while (len > 0) {
        ssize_t n = writing ? send(fd, at, len, MSG_NOSIGNAL) : recv(fd, at, len, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n < 0 && !probe_wait(p, fd, writing ? POLLOUT : POLLIN))
            return false;
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool ask_tcp(acme_probe *p, hm_bytes question, hm_buf *message, acme_dns_answer *out)
{
    hm_buf framed = {0};
    uint8_t size[2];
    bool good = false;
    int fd = probe_connect(p, &p->cfg->resolver, SOCK_STREAM);
    if (fd < 0)
        return false;
    hm_wr_u16(&framed, (uint16_t)question.len);
    hm_wr_raw(&framed, question.ptr, question.len);
    if (hm_buf_status(&framed) == HM_OK && io_all(p, fd, framed.ptr, framed.len, true) &&
        io_all(p, fd, size, 2, false)) {
        size_t len = (size_t)(size[0] << 8 | size[1]);
        hm_buf_reset(message);
        uint8_t *room = hm_buf_reserve(message, len);
        if (room && io_all(p, fd, room, len, false)) {
            message->len = len;
            good = acme_dns_read(question, hm_buf_bytes(message), out) == HM_OK && !out->truncated;
        }
    }
    close(fd);
    hm_buf_free(&framed);
    return good;
}

static bool ask(acme_probe *p, const char *name, uint16_t type, hm_buf *message,
                acme_dns_answer *out)
{
    hm_buf question = {0};
    uint16_t id;
    bool got = false;
    hm_random_fill(&hm_random_system, &id, sizeof id);
    if (acme_dns_question(name, type, id, &question) != HM_OK) {
        hm_buf_free(&question);
        return probe_fail(p, ACME_DNS_FAULT, "%.200s: not a name to ask for", name);
    }
    for (unsigned i = 0; i < TRIES && !got && probe_left_ms(p); i++) {
        acme_probe once = *p;
        uint64_t until = p->until_us - (uint64_t)probe_left_ms(p) * 1000 + (uint64_t)TRY_MS * 1000;
        once.until_us = until < p->until_us ? until : p->until_us;
        got = ask_udp(&once, hm_buf_bytes(&question), message, out);
    }
    if (got && out->truncated)
        got = ask_tcp(p, hm_buf_bytes(&question), message, out);
    hm_buf_free(&question);
    if (!got)
        return probe_fail(p, ACME_DNS_FAULT, "%.180s: the resolver does not answer", name);
    if (out->code)
        return probe_fail(p, ACME_DNS_FAULT, "%.180s: %s", name,
                          out->code == 3   ? "there is no such name (NXDOMAIN)"
                          : out->code == 2 ? "the resolver failed (SERVFAIL)"
                                           : "the resolver refused");
    return true;
}

bool probe_dns(acme_probe *p)
{
    char name[ACME_NAME_MAX + 32], value[44];
    hm_buf message = {0};
    acme_dns_answer a = {0};
    bool good;
    snprintf(name, sizeof name, "_acme-challenge.%s", p->task->name.value);
    acme_dns_value(p->task->key_auth, value);
    good = ask(p, name, ACME_DNS_TXT, &message, &a);
    if (good) {
        good = false;
        for (uint32_t i = 0; i < a.count && !good; i++)
            good = acme_dns_text_is(a.data[i], value);
        if (!good)
            (void)probe_fail(p, ACME_UNAUTHORIZED,
                             a.count ? "%.180s: none of the TXT records is the challenge's"
                                     : "%.180s: there is no TXT record",
                             name);
    }
    hm_buf_free(&message);
    return good;
}

// ---- addresses ----------------------------------------------------------------------------------

static bool resolve_system(acme_probe *p, const char *host, struct in6_addr *out, size_t *count)
{
    const struct addrinfo hints = {.ai_family = AF_INET6, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0)
        return probe_fail(p, ACME_DNS_FAULT, "%.180s: %s", host, gai_strerror(rc));
    for (struct addrinfo *i = list; i && *count < ACME_PROBE_ADDRESSES; i = i->ai_next)
        out[(*count)++] = ((struct sockaddr_in6 *)(void *)i->ai_addr)->sin6_addr;
    freeaddrinfo(list);
    return true;
}

static bool resolve_asked(acme_probe *p, const char *host, struct in6_addr *out, size_t *count)
{
    hm_buf message = {0};
    acme_dns_answer a = {0};
    bool good = ask(p, host, ACME_DNS_AAAA, &message, &a);
    for (uint32_t i = 0; good && i < a.count && *count < ACME_PROBE_ADDRESSES; i++)
        if (a.data[i].len == 16)
            memcpy(&out[(*count)++], a.data[i].ptr, 16);
    hm_buf_free(&message);
    return good;
}

bool probe_resolve(acme_probe *p, const char *host, struct in6_addr out[ACME_PROBE_ADDRESSES],
                   size_t *count)
{
    size_t kept = 0, n = 0;
    *count = 0;
    if (inet_pton(AF_INET6, host, &out[0]) == 1)
        n = 1;
    else if (!(p->cfg->resolver.sin6_port ? resolve_asked(p, host, out, &n)
                                          : resolve_system(p, host, out, &n)))
        return false;
    if (n == 0)
        return probe_fail(p, ACME_DNS_FAULT, "%.180s: there is no AAAA record", host);
    for (size_t i = 0; i < n; i++)
        if (acme_address_ok(out[i].s6_addr))
            out[kept++] = out[i];
    if (kept == 0)
        return probe_fail(p, ACME_CONNECTION, "%.180s: is at no address that may be asked", host);
    *count = kept;
    return true;
}
