// The DNS service of a node (docs/dns.md): authoritative for the mesh's zone out of the ledger,
// and, with upstreams, a forwarder for everything else and for zones of other organisations. By
// QUIC and TLS to everybody, by plain UDP and TCP to this machine's own programs.
//
// It has a thread of its own with a loop of its own, so that questions do not hold up the node.
// What changes in the zone comes to it from the node's thread by a queue, right after the block
// that makes it final.
//
// Every call belongs to the node's thread.
#ifndef HM_SERVER_DNS_SERVER_H
#define HM_SERVER_DNS_SERVER_H

#include "mesh/node.h"
#include "server/dns_upstream.h"
#include "server/metrics.h"

typedef struct dns_server dns_server;

typedef struct dns_server_config {
    hm_node *node; // borrowed until close is done
    const char *data_dir;
    const char *cert, *key;              // PEM; NULL: the node's own, DIR/edge.crt and edge.key
    const struct sockaddr_in6 *listen;   // QUIC by UDP, TLS by TCP; NULL: none
    const struct sockaddr_in6 *local;    // plain, an address of this machine alone; NULL: none
    uint32_t client_rate;                // questions a second of one client; 0: no limit
    const dns_upstream_config *upstream; // NULL: none. Borrowed for the call
    // "ZONE=[ADDR]:PORT#NAME", with commas between: servers of other organisations' zones, believed
    // by the foreign roots on the ledger. NULL: none
    const char *forwards;
} dns_server_config;

HM_CHECK hm_err dns_server_open(const dns_server_config *cfg, dns_server **out);
// Ends the thread, with everything under way. It waits on the node for no longer than an operation
// of its own is under way there: call hm_node_submits_leave() or close the node afterwards. NULL is
// fine.
void dns_server_close(dns_server *s);
void dns_server_metrics(const dns_server *s, hm_metrics *m);

#endif
