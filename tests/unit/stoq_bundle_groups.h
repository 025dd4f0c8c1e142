// Bundles between two groups of workers over ::1, each side with a pattern of bytes to send: what
// comes is compared, byte by byte, and each once. A side does something when so much has come, and
// the ways of some connections can be cut. What runs on workers' threads asserts by hm_assert(),
// which aborts.
#ifndef STOQ_BUNDLE_GROUPS_H
#define STOQ_BUNDLE_GROUPS_H

#include <stdatomic.h>
#include <time.h>

#include "hypermesh/stoq_group.h"
#include "stoq/bundle_leg.h"
#include "stoq_ids.h"

#define BG_WORKERS_MAX 4u
#define BG_CONNS_MAX 40u
#define BG_LIMIT_S 90

typedef struct bg_side bg_side;

typedef struct bg_party { // of a worker
    bg_side *of;
    unsigned index;
    stoq_bundles *set;
    stoq_conn *newest;        // the last one that opened here
    _Atomic uint64_t refused; // of the set, when it ended
} bg_party;

struct bg_side {
    bool is_server, ordered, lazy;
    stoq_group *group;
    stoq_bundle_hub *hub;
    bg_party parties[BG_WORKERS_MAX];
    unsigned workers;
    uint64_t size; // that it sends
    // The home worker's alone.
    stoq_bundle *bundle;
    uint64_t sent, may_send;
    uint8_t *seen; // by byte, 1: it came
    // What it does, on its home's thread, when so many bytes have come.
    uint64_t act_at;
    void (*act)(bg_side *s);
    // For all threads.
    _Atomic uint64_t received;
    atomic_uint home, opened, ended, closed, marked, here[BG_WORKERS_MAX];
    _Atomic hm_err why;
};

typedef struct bg_setup {
    unsigned server_workers, client_workers, conns;
    bool ordered, lazy;
    uint64_t up, down;
    uint64_t first; // 0: all, or at most so much a side until bg_rest_job()
    uint32_t window_bytes, send_bytes, max_connections;
    uint64_t act_at;
    void (*act)(bg_side *s); // NULL: nothing is done
    bool act_on_server;
    bool no_hub; // of the server
    uint32_t idle_ms;
    unsigned through; // connections 1 to this one go by the relay of their number
} bg_setup;

extern bg_side bg_sides[2]; // client, server
extern bg_setup bg_now;
extern stoq_ids bg_ids;
extern struct sockaddr_in6 bg_target; // the server
extern uint8_t bg_id[BUNDLE_ID];      // of the bundle
// How connections ended on the client, by the number that is their user pointer: 0: not yet, 1: not
// by an application, or its code.
extern atomic_uint bg_ended_with[BG_CONNS_MAX];
extern atomic_bool bg_cut; // the relays carry nothing more

// Of the program: setup and teardown of cmocka's.
int bg_make(void **state);
int bg_free(void **state);
// Both groups, and the first connection, of the client's last worker; the others follow when the
// bundle is open.
void bg_begin(bg_setup k);
void bg_stop(bg_side *s); // before bg_finish(), which stops what runs
void bg_finish(void);

// Waits until it is so, as long as a slow machine may need, or so long.
bool bg_until(bool (*done)(void));
bool bg_within(time_t seconds, bool (*done)(void));
bool bg_all_came(void);
bool bg_both_opened(void);
bool bg_one_closed(void);
bool bg_both_closed(void);

void bg_close_it(bg_side *s);                     // on its home's thread
void bg_close_job(void *side, stoq_endpoint *ep); // for its home
void bg_rest_job(void *side, stoq_endpoint *ep);
stoq_bundle_stats bg_stats_of(const bg_side *s); // from any other thread

#endif
