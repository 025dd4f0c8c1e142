#include "stoq/ticket.h"

void stoq_tickets_init(stoq_tickets *t, const hm_random *random, const uint64_t *now_us,
                       uint64_t life_us)
{
    *t = (stoq_tickets){.random = *random, .life_us = life_us, .now_us = now_us};
}

const stoq_ticket_key *stoq_tickets_seal(stoq_tickets *t)
{
    if (t->now.set && *t->now_us - t->now.made_us < t->life_us)
        return &t->now;
    t->before = t->now;
    t->now = (stoq_ticket_key){.set = true, .made_us = *t->now_us};
    hm_random_fill(&t->random, t->now.name, sizeof t->now.name);
    hm_random_fill(&t->random, t->now.aes, sizeof t->now.aes);
    hm_random_fill(&t->random, t->now.mac, sizeof t->now.mac);
    return &t->now;
}

const stoq_ticket_key *stoq_tickets_open(const stoq_tickets *t,
                                         const uint8_t name[STOQ_TICKET_KEY_NAME])
{
    const stoq_ticket_key *keys[] = {&t->now, &t->before};
    for (int i = 0; i < 2; i++)
        // A key seals for one lifetime, and its last ticket lives for another.
        if (keys[i]->set && memcmp(keys[i]->name, name, STOQ_TICKET_KEY_NAME) == 0 &&
            *t->now_us - keys[i]->made_us < 2 * t->life_us)
            return keys[i];
    return NULL;
}

void stoq_tickets_forget(stoq_tickets *t)
{
    hm_zero(&t->now, sizeof t->now);
    hm_zero(&t->before, sizeof t->before);
}

void stoq_tickets_free(stoq_tickets *t)
{
    stoq_tickets_forget(t);
}
