// A node's eye on the authority: for each issuing key that the mesh believes (trust_module.h) it
// always has a question there for a newer revocation list than the ledger's, which is answered when
// something is revoked, and puts the list into the ledger, from where every member honours it.
//
// One libuv loop's thread; each question, which may take a minute, runs on a thread of its own.
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
    uint32_t wait_s;       // 1 to 60: how long a question waits there
} crl_watch_config;

// Nodes bring a new list after a moment that differs from node to node, so that one of them does
// and the others find it there. HM_E_NOMEM, HM_E_LIMIT, HM_E_INTERNAL.
HM_CHECK hm_err crl_watch_open(const crl_watch_config *cfg, crl_watch **out);
// Ends by itself once no question is out, about a second later at most; until then the loop has
// something to wait for. Before hm_node_close(), which gives back a list that was submitted. NULL
// is harmless.
void crl_watch_close(crl_watch *w);

#endif
