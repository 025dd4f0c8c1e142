// What a server keeps for the session tickets that it gives (RFC 8446, section 4.6.1): the keys
// that seal them, and which tickets came with early data. Keys are random, live in memory alone,
// and change once in the lifetime of a ticket; those before are taken until the last of their
// tickets has ended.
//
// A ticket is taken with early data once (RFC 8446, section 8.2): it is struck off until it has
// ended. When as many are as are kept, early data is refused until some have, and the handshake
// goes on without it.
//
// Life: a store is an endpoint's own, or a group's, whose workers all take what one of them gave;
// each endpoint has a view of it with its own clock. The store outlives its views.
//
// Threads: a view is its endpoint's. The store has a lock: whether a ticket was struck off must be
// known at once and to all, and what it is held for is a thousandth of a handshake.
#ifndef HM_STOQ_TICKET_H
#define HM_STOQ_TICKET_H

#include <pthread.h>

#include "base/map.h"

#define STOQ_TICKET_KEY_NAME 16
#define STOQ_STRIKES_MAX 262144u // 56 bytes each, at most
#define STOQ_STRIKE_BYTES 16

typedef struct stoq_ticket_key {
    bool set;
    uint64_t made_us;
    uint8_t name[STOQ_TICKET_KEY_NAME];
    uint8_t aes[32], mac[32];
} stoq_ticket_key;

typedef struct stoq_ticket_store {
    pthread_mutex_t lock; // of what follows
    hm_random random;
    uint64_t generation; // how often all was forgotten
    stoq_ticket_key now, before;
    // Tickets that are struck off, in the order in which they were: a ring, owned, `cap` is a power
    // of two, or 0.
    struct stoq_strike {
        uint8_t id[STOQ_STRIKE_BYTES];
        uint64_t until_us;
    } *strikes;
    uint32_t strikes_max, cap, first, count;
    hm_map struck; // id -> not NULL
} stoq_ticket_store;

typedef struct stoq_tickets {
    stoq_ticket_store *store; // borrowed
    const uint64_t *now_us;   // borrowed
    uint64_t life_us;
    uint64_t generation; // of the last stoq_tickets_forget() here
} stoq_tickets;

// strikes_max: at most STOQ_STRIKES_MAX, 0 for a server that takes no early data.
void stoq_ticket_store_init(stoq_ticket_store *store, const hm_random *random,
                            uint32_t strikes_max);
void stoq_ticket_store_free(stoq_ticket_store *store);

// How long ago it was; nothing for a time of another worker that is a moment ahead.
static inline uint64_t stoq_tickets_age_us(const stoq_tickets *t, uint64_t then_us)
{
    return *t->now_us > then_us ? *t->now_us - then_us : 0;
}
// The key for a new ticket; false: none is to be given. out is secret.
bool stoq_tickets_seal(stoq_tickets *t, stoq_ticket_key *out);
// The key of a ticket; false: it is not ours, or too old.
bool stoq_tickets_open(stoq_tickets *t, const uint8_t name[STOQ_TICKET_KEY_NAME],
                       stoq_ticket_key *out);
// Strikes a ticket off; false: it is already, or there is no room.
bool stoq_tickets_strike(stoq_tickets *t, const uint8_t id[STOQ_STRIKE_BYTES]);
// No ticket given until now is taken any more, by any view. Other views neither give nor take any
// until they have forgotten as often: each worker does when it gets a new context, and what the new
// one forbids must not be had by way of a worker that still has the old one.
void stoq_tickets_forget(stoq_tickets *t);

#endif
