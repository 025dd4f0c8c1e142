// Private to acme_probe*.c.
#ifndef HM_SERVER_ACME_PROBE_INTERNAL_H
#define HM_SERVER_ACME_PROBE_INTERNAL_H

#include "server/acme_probe.h"

typedef struct acme_probe {
    const acme_probe_config *cfg;
    const acme_task *task;
    const atomic_bool *stop;
    uint64_t until_us; // on the monotonic clock
    acme_probe_result *out;
} acme_probe;

// Fills the result and gives false.
bool probe_fail(acme_probe *p, acme_error e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// Milliseconds left; 0 also when the probe is to stop.
uint32_t probe_left_ms(const acme_probe *p);
// The addresses of a host name, or the one that it is. At least one, all of which may be asked.
bool probe_resolve(acme_probe *p, const char *host, struct in6_addr out[ACME_PROBE_ADDRESSES],
                   size_t *count);
bool probe_dns(acme_probe *p);  // acme_probe_dns.c
bool probe_http(acme_probe *p); // acme_probe_http.c
bool probe_tls(acme_probe *p);  // acme_probe.c
// A connected socket that does not block, or -1; or any with SOCK_DGRAM.
int probe_connect(const acme_probe *p, const struct sockaddr_in6 *to, int type);
// Until the socket is readable or writable; false: the time is over.
bool probe_wait(const acme_probe *p, int fd, short events);

#endif
