// What a server endpoint keeps for the session tickets that it gives (RFC 8446, section 4.6.1): the
// keys that seal them, and which tickets came with early data. Keys are random, live in memory
// alone, and change once in the lifetime of a ticket; those before are taken until the last of
// their tickets has ended. Times are the endpoint's.
//
// A ticket is taken with early data once (RFC 8446, section 8.2): it is struck off until it has
// ended. When as many are as are kept, early data is refused until some have, and the handshake
// goes on without it.
#ifndef HM_STOQ_TICKET_H
#define HM_STOQ_TICKET_H

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

typedef struct stoq_tickets {
    hm_random random;
    uint64_t life_us;
    const uint64_t *now_us; // borrowed
    stoq_ticket_key now, before;
    // Tickets that are struck off, in the order in which they were: a ring, owned, `cap` is a power
    // of two, or 0.
    struct stoq_strike {
        uint8_t id[STOQ_STRIKE_BYTES];
        uint64_t until_us;
    } *strikes;
    uint32_t strikes_max, cap, first, count;
    hm_map struck; // id -> not NULL
} stoq_tickets;

// strikes_max: at most STOQ_STRIKES_MAX, 0 for a server that takes no early data.
void stoq_tickets_init(stoq_tickets *t, const hm_random *random, const uint64_t *now_us,
                       uint64_t life_us, uint32_t strikes_max);
// The key for a new ticket.
const stoq_ticket_key *stoq_tickets_seal(stoq_tickets *t);
// The key of a ticket; NULL: it is not ours, or too old.
const stoq_ticket_key *stoq_tickets_open(const stoq_tickets *t,
                                         const uint8_t name[STOQ_TICKET_KEY_NAME]);
// Strikes a ticket off; false: it is already, or there is no room.
bool stoq_tickets_strike(stoq_tickets *t, const uint8_t id[STOQ_STRIKE_BYTES]);
// No ticket given until now is taken any more.
void stoq_tickets_forget(stoq_tickets *t);
void stoq_tickets_free(stoq_tickets *t);

#endif
