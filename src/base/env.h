// Opening an LMDB environment: what all our stores have in common.
#ifndef HM_BASE_ENV_H
#define HM_BASE_ENV_H

#include <lmdb.h>

#include "base/base.h"

// Makes the folder when it is missing and drops the reader slots that killed processes left. flags
// are LMDB's, beside those set always. The map takes 256 GiB of address space, or as much less as
// the machine gives (then the log says how much: the store can grow no further). The caller ends it
// with mdb_env_close(). HM_E_NOMEM, HM_E_CORRUPT, HM_E_IO with a detail line; HM_E_CORRUPT also for
// a file that was cut short, which LMDB would read until it is killed by SIGBUS. A missing or empty
// file is a new store: who knows that there was one asks hm_env_exists() first.
HM_CHECK hm_err hm_env_open(const char *dir, unsigned tables, unsigned flags, MDB_env **out);
// Is there a file with anything in it?
bool hm_env_exists(const char *dir);
// mdb_txn_commit(). A disk that fills up in the middle of a write makes it a short one, which LMDB
// calls EIO: here that is ENOSPC, as it is between writes.
HM_CHECK int hm_env_commit(MDB_txn *txn);

#endif
