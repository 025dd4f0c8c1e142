// A pool of equal objects taken at start: get and put are O(1) and never allocate. One thread.
#ifndef HM_BASE_POOL_H
#define HM_BASE_POOL_H

#include "base/bytes.h"

typedef struct hm_pool {
    uint8_t *mem;       // owned
    void *free_list;    // threaded through the free objects
    size_t object_size; // rounded up to the alignment
    size_t capacity;
    size_t in_use;
} hm_pool;

HM_CHECK hm_err hm_pool_init(hm_pool *p, size_t object_size, size_t align, size_t capacity);
// NULL when all are in use. The content is what the last user left.
void *hm_pool_get(hm_pool *p);
// obj came from this pool's get (asserted) and is not used after.
void hm_pool_put(hm_pool *p, void *obj);
// All objects must be back (asserted).
void hm_pool_free(hm_pool *p);

#endif
