// Private to acme/: what the ACME server remembers, as keys and values in LMDB. One writing
// transaction at a time, which many requests may share: they are answered after its commit. What
// was committed is there after a crash at any instant. One thread; other processes may have the
// same store open (`trustchain-server eab`), and then wait for each other's transactions.
#ifndef HM_TRUSTCHAIN_ACME_STORE_H
#define HM_TRUSTCHAIN_ACME_STORE_H

#include "base/base.h"

#define STORE_KEY_MAX 400u

typedef struct acme_store acme_store;

// Makes the folder when it is missing. HM_E_CORRUPT, HM_E_IO, HM_E_FULL, HM_E_NOMEM.
HM_CHECK hm_err acme_store_open(const char *dir, acme_store **out);
void acme_store_close(acme_store *s); // NULL is fine; what is not committed is gone

// Begins unless there is one.
HM_CHECK hm_err acme_store_begin(acme_store *s);
// Durable when it gives HM_OK; otherwise nothing of the transaction is there. Without one it is
// HM_OK. HM_E_FULL, HM_E_IO.
HM_CHECK hm_err acme_store_commit(acme_store *s);
void acme_store_abort(acme_store *s);

// In the transaction, which is begun if there is none. Values are borrowed until the next call that
// changes something. HM_E_NOTFOUND; HM_E_FULL when the store has its largest size.
HM_CHECK hm_err acme_store_get(acme_store *s, hm_bytes key, hm_bytes *value);
HM_CHECK hm_err acme_store_put(acme_store *s, hm_bytes key, hm_bytes value);
HM_CHECK hm_err acme_store_del(acme_store *s, hm_bytes key); // what is not there is no error
// The first key after `after` that begins with prefix; after may be the prefix itself.
HM_CHECK hm_err acme_store_next(acme_store *s, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                                hm_bytes *value);

#endif
