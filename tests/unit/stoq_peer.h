// A peer that has the keys of a connection and does what it likes: one connection under test, at an
// endpoint without a network. For tests with cmocka; include its headers first.
#ifndef STOQ_PEER_H
#define STOQ_PEER_H

#include "stoq_forge.h"

#define MS UINT64_C(1000)
#define PEER_TYPES 256

typedef struct peer {
    hm_prng prng;
    hm_random random;
    stoq_endpoint *ep;
    stoq_conn *c; // NULL once closed
    bool conn_is_server;
    stoq_keys tx, rx;
    uint64_t pn; // next to be sent
    bool phase;
    uint64_t now;
    uint16_t port; // where the peer is
    uint8_t ecn;   // of what it sends
    bool closed;
    uint64_t close_code;
    // What the connection has sent since the last peer_forget().
    unsigned datagrams, packets, seen[PEER_TYPES];
    size_t bytes, longest;
    uint16_t sent_to;
    stoq_packet packet;          // the last one's header
    stoq_frame last[PEER_TYPES]; // without data but for what is copied to `data`
    uint8_t data[PEER_TYPES][16];
    uint64_t largest; // packet number, ever
    stoq_ranges got;  // and all of them
} peer;

// Of what the peer and the connection send.
extern const uint8_t peer_secrets[2][32];

// An endpoint, without a connection.
void peer_make(peer *p, stoq_limits limits);
// With one of this role, open; what it says at first is sent already. A peer id of another length
// than ours cannot be parsed when it comes back, so then nothing is seen of what it sends.
void peer_begin_with(peer *p, bool conn_is_server, stoq_limits limits, uint8_t peer_cid_len);
void peer_begin(peer *p, bool conn_is_server);
void peer_end(peer *p);

// Lets the endpoint do what is due now; or for some time, timer by timer.
void peer_turn(peer *p);
void peer_pass(peer *p, uint64_t us);
// What was seen, but for packet numbers.
void peer_forget(peer *p);

// Sends a payload in the next packet, from where the peer is. Returns the datagram's length.
size_t peer_say(peer *p, const uint8_t *payload, size_t len);
size_t peer_say1(peer *p, uint8_t type);
// Acknowledges ranges {lowest, highest}, the last one first; or all that came.
void peer_ack(peer *p, const uint64_t ranges[][2], size_t count);
void peer_ack_all(peer *p);

#endif
