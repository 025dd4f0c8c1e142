#include "stoq/ticket.h"

#include <stdlib.h>

void stoq_tickets_init(stoq_tickets *t, const hm_random *random, const uint64_t *now_us,
                       uint64_t life_us, uint32_t strikes_max)
{
    *t = (stoq_tickets){
        .random = *random, .life_us = life_us, .now_us = now_us, .strikes_max = strikes_max};
    if (strikes_max > 0)
        hm_map_init(&t->struck, STOQ_STRIKE_BYTES, strikes_max, random);
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

static struct stoq_strike *strike_at(const stoq_tickets *t, uint32_t i)
{
    return &t->strikes[(t->first + i) & (t->cap - 1)];
}

static bool strikes_grow(stoq_tickets *t)
{
    uint32_t cap = t->cap > 0 ? 2 * t->cap : 64;
    struct stoq_strike *bigger = malloc(cap * sizeof *bigger);
    if (bigger == NULL)
        return false;
    for (uint32_t i = 0; i < t->count; i++)
        bigger[i] = *strike_at(t, i);
    free(t->strikes);
    t->strikes = bigger;
    t->cap = cap;
    t->first = 0;
    return true;
}

bool stoq_tickets_strike(stoq_tickets *t, const uint8_t id[STOQ_STRIKE_BYTES])
{
    // All are kept equally long, so the first ones end first.
    while (t->count > 0 && strike_at(t, 0)->until_us <= *t->now_us) {
        (void)hm_map_remove(&t->struck, strike_at(t, 0)->id);
        t->first = (t->first + 1) & (t->cap - 1);
        t->count--;
    }
    if (t->count == t->strikes_max || hm_map_get(&t->struck, id) != NULL ||
        (t->count == t->cap && !strikes_grow(t)) || hm_map_put(&t->struck, id, t) != HM_OK)
        return false;
    struct stoq_strike *s = strike_at(t, t->count++);
    memcpy(s->id, id, STOQ_STRIKE_BYTES);
    s->until_us = *t->now_us + t->life_us;
    return true;
}

void stoq_tickets_forget(stoq_tickets *t)
{
    hm_zero(&t->now, sizeof t->now);
    hm_zero(&t->before, sizeof t->before);
}

void stoq_tickets_free(stoq_tickets *t)
{
    stoq_tickets_forget(t);
    hm_map_free(&t->struck);
    free(t->strikes);
}
