// What a server endpoint keeps for the session tickets that it gives (RFC 8446, section 4.6.1): the
// keys that seal them. They are random, live in memory alone, and change once in the lifetime of a
// ticket; those before are taken until the last of their tickets has ended. Times are the
// endpoint's.
#ifndef HM_STOQ_TICKET_H
#define HM_STOQ_TICKET_H

#include "base/bytes.h"
#include "base/random.h"

#define STOQ_TICKET_KEY_NAME 16

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
} stoq_tickets;

void stoq_tickets_init(stoq_tickets *t, const hm_random *random, const uint64_t *now_us,
                       uint64_t life_us);
// The key for a new ticket.
const stoq_ticket_key *stoq_tickets_seal(stoq_tickets *t);
// The key of a ticket; NULL: it is not ours, or too old.
const stoq_ticket_key *stoq_tickets_open(const stoq_tickets *t,
                                         const uint8_t name[STOQ_TICKET_KEY_NAME]);
// No ticket given until now is taken any more.
void stoq_tickets_forget(stoq_tickets *t);
void stoq_tickets_free(stoq_tickets *t);

#endif
