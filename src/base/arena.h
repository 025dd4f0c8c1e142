// An arena: many small allocations freed at once (a request, a block). One thread.
#ifndef HM_BASE_ARENA_H
#define HM_BASE_ARENA_H

#include "base/bytes.h"

typedef struct hm_arena {
    struct hm_arena_block *head; // newest; owned
    size_t used_bytes;           // handed out since the last reset
    size_t limit_bytes;          // 0 = none; allocations beyond it yield NULL
} hm_arena;

// Zero-initialised is an empty arena without a limit.
// size bytes, zeroed, aligned for any type; NULL when memory or the limit is exhausted.
void *hm_arena_alloc(hm_arena *a, size_t size);
// count items of size bytes, overflow checked.
void *hm_arena_array(hm_arena *a, size_t count, size_t size);
// A copy; ptr is NULL on failure when s.len > 0.
hm_bytes hm_arena_copy(hm_arena *a, hm_bytes s);
// Frees everything but one block, which is kept for reuse.
void hm_arena_reset(hm_arena *a);
void hm_arena_free(hm_arena *a);

#endif
