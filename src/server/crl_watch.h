// A node's eye on the authority: asks for its revocation list now and then and, when it has grown,
// puts it into the ledger, from where every member honours it.
//
// One libuv loop's thread; the question runs on a worker thread.
#ifndef HM_SERVER_CRL_WATCH_H
#define HM_SERVER_CRL_WATCH_H

#include <uv.h>

#include "mesh/node.h"

typedef struct crl_watch crl_watch;

typedef struct crl_watch_config {
    uv_loop_t *loop;       // borrowed until it runs no more
    hm_node *node;         // borrowed until closed
    const char *authority; // URL; copied
    const char *root_path; // edge root that the authority must prove, PEM; copied
    uint32_t every_s;      // at least 1
} crl_watch_config;

// Asks first after a moment that differs from node to node, so that one of them brings a new list
// and the others find it there. HM_E_NOMEM, HM_E_LIMIT.
HM_CHECK hm_err crl_watch_open(const crl_watch_config *cfg, crl_watch **out);
// Ends by itself once no question is out; until then the loop has something to wait for. Before
// hm_node_close(), which gives back a list that was submitted. NULL is harmless.
void crl_watch_close(crl_watch *w);

#endif
