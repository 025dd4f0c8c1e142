#include "stoq/ticket.h"

#include <stdlib.h>

void stoq_ticket_store_init(stoq_ticket_store *store, const hm_random *random, uint32_t strikes_max)
{
    *store = (stoq_ticket_store){.random = *random, .strikes_max = strikes_max};
    pthread_mutex_init(&store->lock, NULL);
    if (strikes_max > 0)
        hm_map_init(&store->struck, STOQ_STRIKE_BYTES, strikes_max, random);
}

static void forget_keys(stoq_ticket_store *store)
{
    hm_zero(&store->now, sizeof store->now);
    hm_zero(&store->before, sizeof store->before);
}

void stoq_ticket_store_free(stoq_ticket_store *store)
{
    forget_keys(store);
    hm_map_free(&store->struck);
    free(store->strikes);
    pthread_mutex_destroy(&store->lock);
}

static void renew(stoq_ticket_store *store, uint64_t now_us)
{
    store->before = store->now;
    store->now = (stoq_ticket_key){.set = true, .made_us = now_us};
    hm_random_fill(&store->random, store->now.name, sizeof store->now.name);
    hm_random_fill(&store->random, store->now.aes, sizeof store->now.aes);
    hm_random_fill(&store->random, store->now.mac, sizeof store->now.mac);
}

bool stoq_tickets_seal(stoq_tickets *t, stoq_ticket_key *out)
{
    stoq_ticket_store *store = t->store;
    pthread_mutex_lock(&store->lock);
    bool current = t->generation == store->generation;
    if (current) {
        if (!store->now.set || stoq_tickets_age_us(t, store->now.made_us) >= t->life_us)
            renew(store, *t->now_us);
        *out = store->now;
    }
    pthread_mutex_unlock(&store->lock);
    return current;
}

bool stoq_tickets_open(stoq_tickets *t, const uint8_t name[STOQ_TICKET_KEY_NAME],
                       stoq_ticket_key *out)
{
    stoq_ticket_store *store = t->store;
    const stoq_ticket_key *keys[] = {&store->now, &store->before};
    bool found = false;
    pthread_mutex_lock(&store->lock);
    for (int i = 0; i < 2 && !found && t->generation == store->generation; i++) {
        // A key seals for one lifetime, and its last ticket lives for another.
        found = keys[i]->set && memcmp(keys[i]->name, name, STOQ_TICKET_KEY_NAME) == 0 &&
                stoq_tickets_age_us(t, keys[i]->made_us) < 2 * t->life_us;
        if (found)
            *out = *keys[i];
    }
    pthread_mutex_unlock(&store->lock);
    return found;
}

static struct stoq_strike *strike_at(const stoq_ticket_store *store, uint32_t i)
{
    return &store->strikes[(store->first + i) & (store->cap - 1)];
}

static bool strikes_grow(stoq_ticket_store *store)
{
    uint32_t cap = store->cap > 0 ? 2 * store->cap : 64;
    struct stoq_strike *bigger = malloc(cap * sizeof *bigger);
    if (bigger == NULL)
        return false;
    for (uint32_t i = 0; i < store->count; i++)
        bigger[i] = *strike_at(store, i);
    free(store->strikes);
    store->strikes = bigger;
    store->cap = cap;
    store->first = 0;
    return true;
}

static bool strike(stoq_ticket_store *store, const uint8_t id[STOQ_STRIKE_BYTES], uint64_t now_us,
                   uint64_t life_us)
{
    // All are kept equally long, so the first ones end first.
    while (store->count > 0 && strike_at(store, 0)->until_us <= now_us) {
        (void)hm_map_remove(&store->struck, strike_at(store, 0)->id);
        store->first = (store->first + 1) & (store->cap - 1);
        store->count--;
    }
    if (store->count == store->strikes_max || hm_map_get(&store->struck, id) != NULL ||
        (store->count == store->cap && !strikes_grow(store)) ||
        hm_map_put(&store->struck, id, store) != HM_OK)
        return false;
    struct stoq_strike *s = strike_at(store, store->count++);
    memcpy(s->id, id, STOQ_STRIKE_BYTES);
    s->until_us = now_us + life_us;
    return true;
}

bool stoq_tickets_strike(stoq_tickets *t, const uint8_t id[STOQ_STRIKE_BYTES])
{
    pthread_mutex_lock(&t->store->lock);
    bool struck = strike(t->store, id, *t->now_us, t->life_us);
    pthread_mutex_unlock(&t->store->lock);
    return struck;
}

void stoq_tickets_forget(stoq_tickets *t)
{
    stoq_ticket_store *store = t->store;
    pthread_mutex_lock(&store->lock);
    if (++t->generation > store->generation) {
        store->generation = t->generation;
        forget_keys(store);
    }
    pthread_mutex_unlock(&store->lock);
}
