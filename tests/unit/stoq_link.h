// Flows of the transport through one bottleneck, in simulated time: every flow a connection of its
// own, whose client sends without end to one server. The link has a rate, a queue that drops what
// does not fit and marks what waits behind too much, a delay and random loss; what comes back has
// the delay alone. The same seed gives the same run. Aborts on failure.
#ifndef STOQ_LINK_H
#define STOQ_LINK_H

#include "stoq_forge.h"

#define LINK_FLOWS_MAX 8u
#define LINK_PACKET 1452u

typedef struct link_config {
    uint64_t rate_bytes_s; // of UDP payload
    uint64_t rtt_us;       // without the queue
    uint64_t queue_bytes;
    uint64_t
        mark_bytes; // packets that find so much in the queue are marked CE if they may be; 0: none
    uint32_t loss_ppm;   // before the queue
    uint32_t jitter_us;  // added to the delay at random, so that packets pass each other
    bool bleached;       // marks ECT(0) are wiped out
    uint32_t lent_bytes; // that the application keeps a flow supplied with; 0: more than any window
    bool default_limits; // of the endpoints; else windows and what is kept are never in the way
    uint64_t seed;
} link_config;

typedef struct link_flow {
    struct link *link;
    uint16_t port;
    stoq_endpoint *ep;
    stoq_conn *conn, *at_server;
    stoq_stream *stream;
    uint64_t received, lost,
        marked;              // bytes at the application, packets that the link dropped, marked
    uint64_t paused_from_us; // the application has nothing more from then on; 0: never
    bool poll;               // has work
    bool holds;              // the server reads only by link_read()
} link_flow;

typedef struct link {
    link_config config;
    hm_prng prng;
    hm_random random;
    uint64_t now_us, busy_ps; // when the last byte of the queue will be gone
    // since link_measure()
    uint64_t since_us, queue_max_bytes;
    double queue_byte_us; // integral over time, by packets that arrive
    uint64_t queue_at_us;
    uint64_t arrived, dropped, marked; // packets
    hm_heap flying;
    stoq_endpoint *server;
    bool server_poll;
    link_flow flows[LINK_FLOWS_MAX];
    unsigned count;
} link_sim;

void link_begin(link_sim *l, const link_config *config);
// A flow that sends from now on.
link_flow *link_add(link_sim *l, stoq_congestion congestion);
// As of now; the sender goes on with what it has lent.
void link_pause(link_flow *f);
void link_resume(link_flow *f);
void link_run(link_sim *l, uint64_t us);
// The server's application reads up to so many bytes.
void link_read(link_flow *f, uint64_t bytes);
// Forgets what was counted of the link, and what the flows have received.
void link_measure(link_sim *l);
uint64_t link_rate(const link_sim *l, const link_flow *f); // bytes a second since link_measure()
double link_mean_queue_us(const link_sim *l);              // that packets waited in the mean
void link_end(link_sim *l);

#endif
