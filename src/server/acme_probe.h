// One validation of a challenge: is the key authorization where only who controls the name can have
// put it? http-01 (RFC 8555, 8.3), dns-01 (8.4), tls-alpn-01 (RFC 8737), over IPv6 alone. Blocks;
// any thread.
//
// Limits: ACME_PROBE_MS in all, ACME_PROBE_ADDRESSES addresses of a name, ACME_PROBE_BODY_MAX bytes
// of a body, ACME_PROBE_REDIRECTS redirections, to the standard ports and those configured alone.
// No address of this machine itself, of a link or a group is asked (acme_address_ok()).
#ifndef HM_SERVER_ACME_PROBE_H
#define HM_SERVER_ACME_PROBE_H

#include <netinet/in.h>
#include <stdatomic.h>

#include "trustchain/acme/acme.h"

#define ACME_PROBE_MS 10000u
#define ACME_PROBE_ADDRESSES 4u
#define ACME_PROBE_BODY_MAX 1024u
#define ACME_PROBE_REDIRECTS 10u

typedef struct acme_probe_config {
    struct sockaddr_in6 resolver; // port 0: the system's; then there is no dns-01
    uint16_t http_port, tls_port; // 80 and 443
} acme_probe_config;

typedef struct acme_probe_result {
    uint64_t authorization;
    char token[sizeof((acme_task *)NULL)->token]; // the task's
    acme_error error;                             // ACME_OK: the client controls the name
    char detail[256];
} acme_probe_result;

// Ends early, with any result, once *stop is set.
void acme_probe_run(const acme_probe_config *cfg, const acme_task *task, const atomic_bool *stop,
                    acme_probe_result *out);

#endif
