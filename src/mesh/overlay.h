// An ordered map in memory over something below it: what a block changes before it is final. A skip
// list (Pugh 1990) in an arena; an entry without a value is a deletion. One thread.
#ifndef HM_MESH_OVERLAY_H
#define HM_MESH_OVERLAY_H

#include "base/base.h"

#define HM_OVERLAY_LEVELS 14

typedef struct hm_overlay_entry {
    hm_bytes key, value;
    size_t value_cap;
    bool deleted;
    uint8_t levels;
    struct hm_overlay_entry *next[]; // `levels` of them
} hm_overlay_entry;

typedef struct hm_overlay {
    hm_arena arena; // owns all entries
    hm_overlay_entry *head[HM_OVERLAY_LEVELS];
    uint64_t rng;
    size_t count;
} hm_overlay; // zero-initialised is empty

void hm_overlay_free(hm_overlay *o);
// deleted: value is ignored. HM_E_NOMEM.
HM_CHECK hm_err hm_overlay_put(hm_overlay *o, hm_bytes key, hm_bytes value, bool deleted);
// The entry, a deletion included, or NULL.
const hm_overlay_entry *hm_overlay_get(const hm_overlay *o, hm_bytes key);
// The first entry with key >= `key` (or > with `after`), or NULL.
const hm_overlay_entry *hm_overlay_seek(const hm_overlay *o, hm_bytes key, bool after);
// The last entry with key < `key`, or NULL.
const hm_overlay_entry *hm_overlay_before(const hm_overlay *o, hm_bytes key);
static inline const hm_overlay_entry *hm_overlay_first(const hm_overlay *o)
{
    return o->head[0];
}

#endif
