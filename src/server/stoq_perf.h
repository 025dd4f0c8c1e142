// The QUIC performance protocol (draft-banks-quic-performance) as the application of a STOQ
// endpoint: the first eight bytes of a client's stream say, big endian, how many bytes it wants
// back; whatever follows is upload and is thrown away. The answer begins as soon as the length is
// known. UINT64_MAX wants bytes until the client says STOP_SENDING.
//
// Connections whose ALPN is h3 get the same by HTTP/3: GET /N answers N bytes, POST to any path
// throws its body away and answers how many bytes it had.
//
// What a client can make this side keep: STOQ_PERF_KEPT bytes for its first stream and never more
// than STOQ_PERF_KEPT * (1 + ln(streams)) in all, until it acknowledges them; a client that stops
// reading costs that and nothing more. It also counts what becomes of connections and logs every
// refusal, at most STOQ_PERF_LINES a second.
//
// One thread: the endpoint's.
#ifndef HM_SERVER_STOQ_PERF_H
#define HM_SERVER_STOQ_PERF_H

#include "base/clock.h"
#include "base/list.h"
#include "hypermesh/stoq.h"
#include "server/h3.h"
#include "server/metrics.h"

#define STOQ_PERF_ALPN "perf"
#define STOQ_PERF_KEPT (16u << 20) // for a connection's only stream
#define STOQ_PERF_STREAMS 256u     // of a client at a time; the endpoint's limit
#define STOQ_PERF_LINES 20u

// Application codes of resets and of STOP_SENDING.
enum {
    STOQ_PERF_DONE = 0,     // also: the server shuts down
    STOQ_PERF_SHORT = 1,    // the stream ended before its eight bytes
    STOQ_PERF_ONE_WAY = 2,  // requests come on streams of two directions
    STOQ_PERF_CANCELED = 3, // the client reset its side
    STOQ_PERF_MEMORY = 4,
};

typedef struct stoq_perf_counters {
    uint64_t accepted, closed;
    uint64_t requests, refused_short, refused_one_way;
    uint64_t bytes_in, bytes_out; // of streams, without the eight
    uint64_t packets_sent, packets_received, packets_lost, packets_dropped, udp_in, udp_out;
    uint32_t streams;
    uint64_t refused[16]; // by reason: stoq_perf_reasons
} stoq_perf_counters;

typedef struct stoq_perf {
    hm_list conns; // perf_conn
    const hm_clock *clock;
    stoq_perf_counters n;
    h3 h3;
    bool draining;
    uint64_t line_second; // of the last line about a refusal
    unsigned lines, unsaid;
} stoq_perf;

void stoq_perf_init(stoq_perf *p, const hm_clock *clock); // borrowed
// The endpoint's callbacks; their user is the stoq_perf.
extern const stoq_callbacks stoq_perf_callbacks;
// From now on a connection ends with its last stream; those without streams end at once. Take no
// new ones any more: stoq_endpoint_set_server_tls(ep, NULL).
void stoq_perf_drain(stoq_perf *p);
void stoq_perf_close(stoq_perf *p); // all that is left
// From time to time: what takes too long to begin is given up.
void stoq_perf_sweep(stoq_perf *p, uint64_t now_us);

// What one endpoint or several have counted.
typedef struct stoq_perf_totals {
    stoq_perf_counters n;
    stoq_endpoint_stats ep;
    h3_counters h3;
} stoq_perf_totals;
void stoq_perf_add(const stoq_perf *p, const stoq_endpoint *ep, stoq_perf_totals *sum);
void stoq_perf_metrics(const stoq_perf_totals *t, hm_metrics *m);

// stoq_perf_h3.c: the application of HTTP/3, whose context is the stoq_perf.
extern const h3_app stoq_perf_h3_app;

#endif
