// A hash map from byte-string keys of one fixed length to pointers. Open addressing, linear
// probing, backward-shift deletion. The hash is keyed (SipHash-2-4, Aumasson and Bernstein 2012) so
// that a peer who chooses the keys cannot make them collide. One thread.
#ifndef HM_BASE_MAP_H
#define HM_BASE_MAP_H

#include "base/bytes.h"
#include "base/random.h"

typedef struct hm_map {
    uint8_t *keys; // cap * key_len, owned
    void **values; // cap, owned; NULL marks a free slot
    size_t key_len;
    size_t cap; // a power of two, or 0
    size_t count;
    size_t max_count; // a limit that insertion honours; 0 = none
    uint64_t seed[2];
} hm_map;

void hm_map_init(hm_map *m, size_t key_len, size_t max_count, const hm_random *random);
void hm_map_free(hm_map *m);
// The value, or NULL.
void *hm_map_get(const hm_map *m, const void *key);
// Inserts or replaces; value is not NULL (asserted). HM_E_NOMEM, HM_E_LIMIT.
HM_CHECK hm_err hm_map_put(hm_map *m, const void *key, void *value);
// Removes and returns the value, or NULL.
void *hm_map_remove(hm_map *m, const void *key);
// Walks all slots: start with *pos = 0; false at the end. Do not change the map meanwhile.
bool hm_map_next(const hm_map *m, size_t *pos, const uint8_t **key, void **value);

uint64_t hm_siphash(const uint64_t seed[2], const void *ptr, size_t len);

#endif
