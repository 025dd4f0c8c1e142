// Two endpoints with TLS over a network in memory, for tests of what happens around the handshake:
// every datagram takes five milliseconds and may be watched, changed or dropped on its way.
#ifndef STOQ_PAIR_H
#define STOQ_PAIR_H

#include "base/heap.h"
#include "stoq/endpoint.h"
#include "stoq_ids.h"

// The identities of a program's tests, and what makes and frees them: a group's set-up and end for
// cmocka.
extern stoq_ids pair_ids;
int pair_make_ids(void **state);
int pair_free_ids(void **state);

enum { PAIR_CLIENT, PAIR_SERVER };
#define PAIR_PREFERRED_PORT 4434 // of ::1; the server's, if its config says so
#define PAIR_CLIENT_PORT 5000

typedef struct pair_world pair_world;

typedef struct pair_side {
    pair_world *w;
    stoq_endpoint *ep;
    stoq_conn *conn; // the last one that was made, NULL once closed
    unsigned opened, closed, failed;
    uint64_t code;
    hm_err why;
    unsigned streams, early_streams, resets; // of the peer
    hm_buf received;                         // on all streams
    unsigned ends;                           // streams that came to their end
    unsigned sessions;                       // told
    hm_buf session;                          // the last one
    unsigned resumed;                        // connections
    bool echo;                               // sends back what it got
} pair_side;

struct pair_world {
    hm_prng prng;
    hm_random random;
    uint64_t now;
    unsigned loss;      // per cent
    unsigned jitter_us; // so that datagrams pass each other
    // Called for each datagram; false: it is lost.
    bool (*watch)(pair_world *w, unsigned to, uint8_t *bytes, size_t len);
    void *watcher;
    bool preferred;       // it goes to or comes from the server's preferred address
    uint16_t client_port; // and to or from this one of the client
    hm_heap flying;
    pair_side side[2];
};

void pair_begin(pair_world *w, uint64_t seed);
// The rest of the config is filled in; who reads streams by a callback of his own opens them too.
void pair_endpoint(pair_world *w, unsigned side, stoq_config config);
void pair_end(pair_world *w);
// A datagram that arrives later on.
void pair_fly(pair_world *w, unsigned to, const uint8_t *bytes, size_t len);
void pair_run(pair_world *w, uint64_t us);
bool pair_run_until(pair_world *w, bool (*done)(const pair_world *w), uint64_t for_us);
stoq_conn *pair_connect(pair_world *w);
stoq_conn *pair_resume(pair_world *w, hm_bytes session, bool early);
bool pair_both_open(const pair_world *w);
// Makes both endpoints and a connection, and sends a stream of so many bytes there and back; false
// when it is closed before or takes ten seconds.
#define PAIR_BYTES 100000u
bool pair_exchange(pair_world *w, const stoq_config config[2]);
stoq_conn_stats pair_stats(const pair_world *w, unsigned side);

#endif
