// Changes to tables of keys and values, in memory: what was put and what was deleted, each key
// once, in the order of tables and keys. A transaction is one, and so is what was committed but is
// not in a database yet. One thread, or many that only read.
#ifndef HM_BASE_CHANGES_H
#define HM_BASE_CHANGES_H

#include "base/base.h"

typedef struct hm_change {
    uint8_t table;
    bool gone;           // deleted: it hides what lies below
    hm_bytes key, value; // in the same allocation
} hm_change;

// All zeros: none. Freed with hm_changes_clear().
typedef struct hm_changes {
    hm_change **list; // owned, in order
    size_t count, room;
} hm_changes;

// What is put here goes before what was there. Copies; HM_E_NOMEM changes nothing.
HM_CHECK hm_err hm_changes_put(hm_changes *c, uint8_t table, hm_bytes key, hm_bytes value);
HM_CHECK hm_err hm_changes_del(hm_changes *c, uint8_t table, hm_bytes key);
// NULL: nothing of that key.
const hm_change *hm_changes_get(const hm_changes *c, uint8_t table, hm_bytes key);
// The index of the first one whose table and key are not below these; may be count.
size_t hm_changes_from(const hm_changes *c, uint8_t table, hm_bytes key);
// Room for so many more: then that many are merged without HM_E_NOMEM.
HM_CHECK hm_err hm_changes_reserve(hm_changes *c, size_t more);
// Moves all of `over` into c, where they go before what was there. HM_E_NOMEM changes nothing.
HM_CHECK hm_err hm_changes_merge(hm_changes *c, hm_changes *over);
void hm_changes_clear(hm_changes *c);

// As bytes, and from them: {u8 table, u8 gone, bytes key, bytes value}, each as base/wire.h writes
// it. HM_E_PARSE and others for what was not written so, or has a table of `tables` or above.
void hm_changes_write(const hm_changes *c, hm_buf *out);
HM_CHECK hm_err hm_changes_read(hm_changes *c, hm_bytes bytes, uint8_t tables);

#endif
