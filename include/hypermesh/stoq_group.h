// STOQ on many processors: workers, each a thread with an endpoint, a socket and timers of its own,
// that share one address. The kernel gives each worker the packets of its connections
// (stoq_share in stoq.h), so that nothing is shared on the packet path. A ticket that one gave all
// take, and with early data one of them once.
//
// Threads: callbacks of a worker's endpoint run on the worker's thread, and its connections and
// streams are for that thread only. From elsewhere come jobs: stoq_group_run(). The calls below are
// for any thread but a worker's, except stoq_group_run(), which is for all.
#ifndef HYPERMESH_STOQ_GROUP_H
#define HYPERMESH_STOQ_GROUP_H

#include "hypermesh/stoq.h"

#pragma GCC visibility push(default)

typedef struct stoq_group stoq_group;

typedef struct stoq_group_config {
    // Of every worker. net must be NULL; share is set here; random must bear many threads.
    stoq_config endpoint;
    unsigned workers; // 0: one for each processor that this process may run on
    bool pin;         // each to a processor of its own, in turn; its memory is then of that node
    // The user pointer of a worker's callbacks. Called on the worker's thread before its endpoint
    // is made. NULL: endpoint.user for all.
    void *(*worker_begin)(void *ctx, unsigned worker);
    // On the worker's thread, after its endpoint is gone. NULL: nothing.
    void (*worker_end)(void *ctx, unsigned worker, void *user);
    void *ctx; // borrowed
} stoq_group_config;

// Starts the workers; all of them serve when this returns. Errors as of stoq_endpoint_create(), and
// HM_E_CONFIG for more than STOQ_SHARE_MAX.
HM_CHECK hm_err stoq_group_start(const stoq_group_config *config, stoq_group **out);
unsigned stoq_group_workers(const stoq_group *g);
void stoq_group_address(const stoq_group *g, struct sockaddr_in6 *out);
// Calls the job on the worker's thread, between turns of its endpoint, after the jobs before it.
// Returns at once. HM_E_NOMEM. After stoq_group_stop() has begun no job is taken: HM_E_CLOSED.
HM_CHECK hm_err stoq_group_run(stoq_group *g, unsigned worker,
                               void (*job)(void *arg, stoq_endpoint *ep), void *arg);
// The same, and waits until it is done. Not from a worker's thread.
HM_CHECK hm_err stoq_group_call(stoq_group *g, unsigned worker,
                                void (*job)(void *arg, stoq_endpoint *ep), void *arg);
// Ends all workers, with their connections, as stoq_endpoint_destroy() does, when the jobs that
// wait are done, and frees the group. NULL is harmless.
void stoq_group_stop(stoq_group *g);

#pragma GCC visibility pop

#endif
