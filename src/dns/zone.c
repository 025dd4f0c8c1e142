#include "dns/zone.h"

#include <stdlib.h>

#include "base/map.h"

#define KEY_BYTES 16u

typedef struct entry {
    dns_name name;
    bool own;          // set; else only names below it are
    unsigned children; // entries one label below
    uint64_t expires_ms;
    hm_buf records;
} entry;

struct dns_zone {
    dns_name apex;
    hm_map map; // of entry, by two keyed hashes of the name
    uint64_t seed[2];
    uint64_t now_ms;
};

static void key_of(const dns_zone *z, const dns_name *name, uint64_t key[2])
{
    dns_name lower = *name;
    dns_name_lower(&lower);
    const uint64_t other[2] = {~z->seed[0], z->seed[1]};
    key[0] = hm_siphash(z->seed, lower.wire, lower.len);
    key[1] = hm_siphash(other, lower.wire, lower.len);
}

static entry *find(const dns_zone *z, const dns_name *name)
{
    uint64_t key[2];
    _Static_assert(sizeof key == KEY_BYTES, "a key is two hashes");
    key_of(z, name, key);
    return hm_map_get(&z->map, key);
}

hm_err dns_zone_open(const dns_name *apex, const hm_random *random, dns_zone **out)
{
    dns_zone *z = calloc(1, sizeof *z);
    if (z == NULL)
        return HM_E_NOMEM;
    z->apex = *apex;
    dns_name_lower(&z->apex);
    hm_random_fill(random, z->seed, sizeof z->seed);
    hm_map_init(&z->map, KEY_BYTES, DNS_ZONE_NAMES, random);
    *out = z;
    return HM_OK;
}

void dns_zone_close(dns_zone *z)
{
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    if (z == NULL)
        return;
    while (hm_map_next(&z->map, &pos, &key, &value)) {
        hm_buf_free(&((entry *)value)->records);
        free(value);
    }
    hm_map_free(&z->map);
    free(z);
}

const dns_name *dns_zone_apex(const dns_zone *z)
{
    return &z->apex;
}

static hm_err entry_add(dns_zone *z, const dns_name *name, entry **out)
{
    uint64_t key[2];
    entry *e = calloc(1, sizeof *e);
    if (e == NULL)
        return HM_E_NOMEM;
    e->name = *name;
    dns_name_lower(&e->name);
    key_of(z, name, key);
    hm_err err = hm_map_put(&z->map, key, e);
    if (err != HM_OK) {
        free(e);
        return hm_fail(err, "the zone holds %u names, which is all it takes", DNS_ZONE_NAMES);
    }
    *out = e;
    return HM_OK;
}

// Takes the entry away unless something keeps it, and then those above that stood for it alone.
static void prune(dns_zone *z, entry *e)
{
    while (e != NULL && !e->own && e->children == 0) {
        uint64_t key[2];
        entry *above = NULL;
        key_of(z, &e->name, key);
        if (!dns_name_eq(&e->name, &z->apex)) {
            dns_name up = dns_name_up(&e->name, 1);
            above = find(z, &up);
        }
        hm_map_remove(&z->map, key);
        hm_buf_free(&e->records);
        free(e);
        if (above != NULL)
            above->children--;
        e = above;
    }
}

// Takes away what entry_need() made, from the name up to `last`.
static void undo(dns_zone *z, const dns_name *name, const entry *last)
{
    dns_name at = *name;
    for (bool more = last != NULL; more;) {
        uint64_t key[2];
        key_of(z, &at, key);
        entry *e = hm_map_remove(&z->map, key);
        more = e != last;
        free(e);
        if (more)
            at = dns_name_up(&at, 1);
    }
}

// The entry of a name, made with those above it when it is missing.
static hm_err entry_need(dns_zone *z, const dns_name *name, entry **out)
{
    entry *first = NULL, *below = NULL;
    dns_name at = *name;
    for (;;) {
        entry *e = find(z, &at);
        bool there = e != NULL;
        hm_err err = there ? HM_OK : entry_add(z, &at, &e);
        if (err != HM_OK) {
            undo(z, name, below);
            return err;
        }
        if (below != NULL)
            e->children++;
        first = first ? first : e;
        below = e;
        if (there || dns_name_eq(&at, &z->apex))
            break;
        at = dns_name_up(&at, 1);
    }
    *out = first;
    return HM_OK;
}

hm_err dns_zone_set(dns_zone *z, const dns_name *name, hm_bytes records, uint64_t expires_ms)
{
    entry *e;
    hm_buf copy = {0};
    hm_assert(dns_name_within(name, &z->apex));
    hm_buf_put(&copy, records);
    hm_err err = hm_buf_status(&copy);
    if (err == HM_OK)
        err = entry_need(z, name, &e);
    if (err != HM_OK) {
        hm_buf_free(&copy);
        return err;
    }
    hm_buf_free(&e->records);
    e->records = copy;
    e->own = true;
    e->expires_ms = expires_ms;
    return HM_OK;
}

void dns_zone_remove(dns_zone *z, const dns_name *name)
{
    entry *e = find(z, name);
    if (e == NULL)
        return;
    e->own = false;
    hm_buf_free(&e->records);
    e->records = (hm_buf){0};
    prune(z, e);
}

void dns_zone_set_time(dns_zone *z, uint64_t now_ms)
{
    z->now_ms = now_ms;
}

bool dns_zone_get(const dns_zone *z, const dns_name *name, hm_bytes *records)
{
    const entry *e = find(z, name);
    bool lives = e != NULL && e->own && e->expires_ms > z->now_ms;
    *records = lives ? hm_buf_bytes(&e->records) : (hm_bytes){0};
    return lives || (e != NULL && e->children > 0);
}

size_t dns_zone_count(const dns_zone *z)
{
    return z->map.count;
}
