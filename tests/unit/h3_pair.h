// A server of HTTP/3 (the performance responder) and a client that says on its streams what it
// likes: two endpoints joined without a handshake, datagrams handed over at once, time of its own.
// For tests and fuzzing. Aborts when it cannot do what it is asked.
#ifndef H3_PAIR_H
#define H3_PAIR_H

#include "server/stoq_perf.h"
#include "stoq_forge.h"

typedef struct h3_pair_datagram h3_pair_datagram;

typedef struct h3_pair {
    hm_prng prng;
    hm_random random;
    hm_clock clock;
    uint64_t now_us;
    h3_pair_datagram *first, **last;
    stoq_endpoint *server, *client;
    stoq_conn *conn; // the client's; NULL once closed
    stoq_perf perf;
    h3_conn *h3; // the server's; NULL once closed
    uint64_t close_code;
    bool keeps_reading; // the client reads what comes
} h3_pair;

// What came on a stream of the client.
typedef struct h3_pair_stream {
    stoq_stream *s; // NULL once closed
    uint64_t got;
    bool fin, reset, stopped;
    uint64_t reset_code, stop_code;
} h3_pair_stream;

void h3_pair_begin(h3_pair *p);
void h3_pair_end(h3_pair *p);
// Time goes on; returns when nothing is to be done before its end.
void h3_pair_run(h3_pair *p, uint64_t us);
// A stream of the client; false when the connection is closed or the server allows no more now.
bool h3_pair_open(h3_pair *p, bool one_way, h3_pair_stream *out);
// Says as much as is taken.
void h3_pair_say(h3_pair_stream *st, hm_bytes bytes, bool fin);

#endif
