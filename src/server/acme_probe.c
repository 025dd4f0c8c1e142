#include "server/acme_probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/acme_probe_internal.h"

#define SLICE_MS 200 // how soon an end of the server is noticed

bool probe_fail(acme_probe *p, acme_error e, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->out->detail, sizeof p->out->detail, fmt, args);
    va_end(args);
    p->out->error = e;
    return false;
}

uint32_t probe_left_ms(const acme_probe *p)
{
    uint64_t now = hm_clock_mono_us(&hm_clock_system);
    if (atomic_load(p->stop) || now >= p->until_us)
        return 0;
    return (uint32_t)((p->until_us - now) / 1000);
}

bool probe_wait(const acme_probe *p, int fd, short events)
{
    struct pollfd f = {.fd = fd, .events = events};
    for (uint32_t left; (left = probe_left_ms(p)) > 0;) {
        int n = poll(&f, 1, left < SLICE_MS ? (int)left : SLICE_MS);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
    return false;
}

int probe_connect(const acme_probe *p, const struct sockaddr_in6 *to, int type)
{
    int one = 1, why = 0;
    socklen_t len = sizeof why;
    int fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)to, sizeof *to) == 0)
        return fd;
    if (errno != EINPROGRESS || !probe_wait(p, fd, POLLOUT) ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0 || why != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

// ---- tls-alpn-01 --------------------------------------------------------------------------------

static bool handshake(acme_probe *p, SSL *ssl, int fd)
{
    for (;;) {
        int rc = SSL_connect(ssl), why = SSL_get_error(ssl, rc);
        if (rc == 1)
            return true;
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            return probe_fail(p, ACME_TLS, "the TLS handshake failed: %s",
                              ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error())
                                               : "the server ended it");
        if (!probe_wait(p, fd, why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT))
            return probe_fail(p, ACME_CONNECTION, "the server did not answer in time");
    }
}

static bool check_peer(acme_probe *p, SSL *ssl)
{
    const unsigned char *alpn = NULL;
    unsigned len = 0;
    uint8_t *der = NULL;
    SSL_get0_alpn_selected(ssl, &alpn, &len);
    if (len != 10 || memcmp(alpn, "acme-tls/1", 10) != 0)
        return probe_fail(p, ACME_UNAUTHORIZED, "the server did not choose acme-tls/1");
    X509 *x = SSL_get0_peer_certificate(ssl);
    int n = x ? i2d_X509(x, &der) : 0;
    hm_err err =
        acme_alpn_check(hm_bytes_of(der, n > 0 ? (size_t)n : 0), &p->task->name, p->task->key_auth);
    OPENSSL_free(der);
    return err == HM_OK || probe_fail(p, ACME_UNAUTHORIZED, "%.200s", hm_err_detail());
}

static bool tls_with(acme_probe *p, SSL_CTX *ctx, int fd)
{
    static const unsigned char alpn[] = "\012acme-tls/1";
    char sni[ACME_NAME_MAX + 1];
    SSL *ssl = SSL_new(ctx);
    acme_alpn_sni(&p->task->name, sni);
    bool good = ssl && SSL_set_fd(ssl, fd) == 1 && SSL_set_tlsext_host_name(ssl, sni) == 1 &&
                SSL_set_alpn_protos(ssl, alpn, sizeof alpn - 1) == 0;
    if (!good)
        (void)probe_fail(p, ACME_SERVER_INTERNAL, "no TLS for the validation");
    good = good && handshake(p, ssl, fd) && check_peer(p, ssl);
    SSL_free(ssl);
    ERR_clear_error();
    return good;
}

bool probe_tls(acme_probe *p)
{
    struct in6_addr addr[ACME_PROBE_ADDRESSES];
    size_t count;
    int fd = -1;
    if (!probe_resolve(p, p->task->name.value, addr, &count))
        return false;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION)) {
        SSL_CTX_free(ctx);
        return probe_fail(p, ACME_SERVER_INTERNAL, "no TLS for the validation");
    }
    for (size_t i = 0; i < count && fd < 0; i++) {
        struct sockaddr_in6 to = {
            .sin6_family = AF_INET6, .sin6_port = htons(p->cfg->tls_port), .sin6_addr = addr[i]};
        fd = probe_connect(p, &to, SOCK_STREAM);
    }
    bool good = fd >= 0 ? tls_with(p, ctx, fd)
                        : probe_fail(p, ACME_CONNECTION, "%s: port %u cannot be reached",
                                     p->task->name.value, p->cfg->tls_port);
    if (fd >= 0)
        close(fd);
    SSL_CTX_free(ctx);
    return good;
}

void acme_probe_run(const acme_probe_config *cfg, const acme_task *task, const atomic_bool *stop,
                    acme_probe_result *out)
{
    acme_probe p = {.cfg = cfg, .task = task, .stop = stop, .out = out};
    p.until_us = hm_clock_mono_us(&hm_clock_system) + (uint64_t)ACME_PROBE_MS * 1000;
    *out = (acme_probe_result){.authorization = task->authorization};
    memcpy(out->token, task->token, sizeof out->token);
    bool good = task->challenge == ACME_HTTP_01  ? probe_http(&p)
                : task->challenge == ACME_DNS_01 ? probe_dns(&p)
                                                 : probe_tls(&p);
    hm_assert(good == (out->error == ACME_OK));
}
