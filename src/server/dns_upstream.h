// The forwarder's way out: DNS over QUIC (RFC 9250) to servers that prove their names. One
// connection to each, made when it is needed and kept while it is used; a query a stream.
//
// Either to servers for all zones that no other has, under roots in a file; or to those of another
// organisation's zone, under that organisation's foreign root (docs/trust.md), while there is one.
//
// One thread: the loop's.
#ifndef HM_SERVER_DNS_UPSTREAM_H
#define HM_SERVER_DNS_UPSTREAM_H

#include "server/dns_core.h"
#include "server/stoq_uv.h"
#include "trustchain/foreign.h"

#define DNS_UPSTREAMS_MAX 4u

typedef struct dns_upstream_config {
    const char *servers; // "[ADDR]:PORT#NAME", with commas between
    const char *ca_path; // roots, PEM, which the servers' certificates must reach
    const char *zone;    // NULL: all others. Else ca_path is not used: dns_upstream_believe()
} dns_upstream_config;

typedef struct dns_upstream dns_upstream;
// Makes core->forward, or one of core->routes, too. HM_E_CONFIG.
HM_CHECK hm_err dns_upstream_open(dns_core *core, const dns_upstream_config *cfg,
                                  dns_upstream **out);
// The foreign root that is believed from now on (its bytes are copied) until then, wall time; NULL:
// none, and nobody is asked. With another one than before nothing stays of what was: connections
// and answers. Of an upstream for a zone.
void dns_upstream_believe(dns_upstream *u, const tc_foreign *root, uint64_t until_ms);
// Of a zone: is that in this one's scope?
bool dns_upstream_is_for(const dns_upstream *u, const tc_scope *scope);
void dns_upstream_close(dns_upstream *u); // NULL is fine
void dns_upstream_free(dns_upstream *u);  // once the loop has run out and nobody waits

#endif
