// What the authority remembers: tables of keys and values in the folder that the caller names.
// Memory does not grow with what is stored, and opening takes no longer.
//
// A transaction is durable when its record is in the journal (base/journal.h), which costs one
// flush of the disk. What is in the journal stands in memory too, and a thread of the store brings
// it to the LMDB environment, some hundred transactions at once, while the next ones go on.
// Readings see the last commit, or the running transaction when there is one; what was committed is
// there after a crash at any instant, what was not is gone as a whole. A disk that is full stops
// the thread, and commits are HM_E_FULL when the journal is full too: nothing of such a transaction
// is there, and those before it wait in the journal. Keys and values that come out are borrowed
// until the next change, commit or abort. One thread calls.
#ifndef HM_TRUSTCHAIN_STORE_H
#define HM_TRUSTCHAIN_STORE_H

#include "base/base.h"

#define TC_STORE_KEY_MAX 500u

typedef enum tc_table {
    TC_CERTS,   // serial -> what was issued
    TC_ORDER,   // u64 index -> serial
    TC_NAMES,   // name, 0, u64 index -> nothing
    TC_REVOKED, // u8 family, serial -> reason and time
    TC_ENTRIES, // u64 index -> entry of the log
    TC_NODES,   // u8 level, u64 index -> hash of the log's tree
    TC_STATE,   // counters, newest checkpoint, issuers
    TC_KV,      // other parts', each under a prefix of its own that ends with '/'
    TC_TABLES,
} tc_table;

typedef struct tc_store tc_store;

// Makes the folder when it is missing. One process at a time. HM_E_CORRUPT, HM_E_IO, HM_E_FULL,
// HM_E_NOMEM.
HM_CHECK hm_err tc_store_open(const char *dir, tc_store **out);
// To read, also beside a process that has it open: what that has committed until now. Never
// tc_store_begin().
HM_CHECK hm_err tc_store_look(const char *dir, tc_store **out);
// NULL is fine; a running transaction is given up. What the journal has goes to LMDB first, if it
// can.
void tc_store_close(tc_store *s);

// One transaction at a time, and one within it: what that commits is the outer one's to commit, and
// what it aborts is as if it had not been.
HM_CHECK hm_err tc_store_begin(tc_store *s);
HM_CHECK hm_err tc_store_commit(tc_store *s);
void tc_store_abort(tc_store *s); // the inner one first; without a transaction nothing happens

// HM_E_NOTFOUND has no detail line.
HM_CHECK hm_err tc_store_get(tc_store *s, tc_table t, hm_bytes key, hm_bytes *value);
// In a transaction only. A key has 1 to TC_STORE_KEY_MAX bytes.
HM_CHECK hm_err tc_store_put(tc_store *s, tc_table t, hm_bytes key, hm_bytes value);
HM_CHECK hm_err tc_store_del(tc_store *s, tc_table t, hm_bytes key); // absent is fine
// The first key above `after` (empty: the first of all) that begins with prefix; HM_E_NOTFOUND.
HM_CHECK hm_err tc_store_next(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes after,
                              hm_bytes *key, hm_bytes *value);
// The last key below `before` that begins with prefix; HM_E_NOTFOUND.
HM_CHECK hm_err tc_store_prev(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes before,
                              hm_bytes *key, hm_bytes *value);
#endif
