// The zone out of the ledger: everything once, then what each block changes. Also puts this
// member's zone key on the ledger when another one, or none, is there.
//
// Belongs to the node's thread; what it finds goes to push() there.
#ifndef HM_SERVER_DNS_FEED_H
#define HM_SERVER_DNS_FEED_H

#include "mesh/name.h"
#include "mesh/node.h"
#include "mesh/trust_module.h"

typedef struct dns_change {
    hm_list link;
    dns_name name;
    bool there;          // else it is gone
    uint64_t expires_ms; // HM_TIME_NEVER
    hm_buf records;      // owned by whoever has the change
} dns_change;
void dns_change_free(dns_change *c);

typedef struct dns_feed dns_feed;
typedef struct dns_feed_config {
    hm_node *node; // borrowed until close
    uint8_t public_key[DNS_PUBLIC_BYTES];
    // Takes the changes, in order, off the list; time_ms is the newest block's.
    void (*push)(void *ctx, hm_list *changes, uint64_t time_ms);
    // The foreign roots in force, once at first and whenever they are others; borrowed for the
    // call. May be NULL.
    void (*foreigns)(void *ctx, const hm_foreign *roots, uint32_t count);
    void *ctx; // borrowed until close
} dns_feed_config;

// Pushes the whole zone before it returns.
HM_CHECK hm_err dns_feed_open(const dns_feed_config *cfg, dns_feed **out);
void dns_feed_close(dns_feed *f); // nothing is pushed any more; NULL is fine
const dns_name *dns_feed_apex(const dns_feed *f);

#endif
