// A bundle between a client, each of whose connections is of an endpoint and a path of its own, and
// a server, in simulated time: paths have a delay, a rate, loss, jitter, and can be cut. What each
// side sends is a pattern by offset; what comes is compared, byte by byte, and each once. Aborts
// on failure.
#ifndef STOQ_BUNDLE_WORLD_H
#define STOQ_BUNDLE_WORLD_H

#include "base/heap.h"
#include "base/random.h"
#include "hypermesh/stoq_bundle.h"
#include "stoq_forge.h"
#include "stoq_ids.h"

#define BW_PATHS_MAX 33u
#define BW_SERVER BW_PATHS_MAX

typedef struct bw_path {
    struct bw *w;
    stoq_endpoint *ep;
    stoq_conn *conn; // NULL once closed
    bool raw;        // its streams are the test's
    bool open, cut;
    uint64_t delay_us, jitter_us;
    unsigned loss;    // per mille
    uint32_t rate;    // bytes a millisecond; 0: no limit
    uint64_t busy_us; // the rate's queue, of both directions
    unsigned streams_closed;
    uint64_t closed_code;
    bool closed;
    hm_buf answer; // raw: what came
} bw_path;

typedef struct bw_side {
    struct bw *w;
    stoq_bundles *set;
    stoq_bundle *bundle;     // NULL before and after
    uint64_t size, sent;     // that it sends
    uint64_t received, owed; // owed: not consumed yet
    uint8_t *seen;           // a bit a byte of what the other side sends
    bool ordered, lazy;      // lazy: consumes at ticks
    bool opened, ended, closed;
    hm_err why;
} bw_side;

typedef struct bw {
    hm_prng prng;
    hm_random random;
    uint64_t now, tick_us, ping_us;
    hm_heap flying;
    stoq_endpoint *server;
    bw_path paths[BW_PATHS_MAX];
    unsigned count;  // paths
    bw_side side[2]; // client, server
} bw;

typedef struct bw_config {
    uint64_t seed;
    unsigned paths;
    bool ordered;
    bool lazy;
    uint32_t window_bytes, send_bytes, max_bundles, max_connections;
    uint64_t up, down; // bytes
    SSL_CTX *server_tls, *client_tls;
} bw_config;

void bw_begin(bw *w, const bw_config *k);
stoq_conn *bw_connect(bw *w, unsigned path);
// Opens the bundle on the first path; the others join when it is opened.
void bw_open(bw *w);
// Runs until it is done, or so long.
bool bw_run_until(bw *w, bool (*done)(const bw *w), uint64_t for_us);
bool bw_both_ended(const bw *w);
bool bw_both_closed(const bw *w);
void bw_end(bw *w);

#endif
