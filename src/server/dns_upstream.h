// The forwarder's way out: DNS over QUIC (RFC 9250) to servers that prove their names. One
// connection to each, made when it is needed and kept while it is used; a query a stream.
//
// One thread: the loop's.
#ifndef HM_SERVER_DNS_UPSTREAM_H
#define HM_SERVER_DNS_UPSTREAM_H

#include "server/dns_core.h"
#include "server/stoq_uv.h"

#define DNS_UPSTREAMS_MAX 4u

typedef struct dns_upstream_config {
    const char *servers; // "[ADDR]:PORT#NAME", with commas between
    const char *ca_path; // roots, PEM, which the servers' certificates must reach
} dns_upstream_config;

typedef struct dns_upstream dns_upstream;
// Makes core->forward too. HM_E_CONFIG.
HM_CHECK hm_err dns_upstream_open(dns_core *core, const dns_upstream_config *cfg,
                                  dns_upstream **out);
void dns_upstream_close(dns_upstream *u); // NULL is fine
void dns_upstream_free(dns_upstream *u);  // once the loop has run out and nobody waits

#endif
