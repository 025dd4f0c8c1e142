// Private to the ledger: the store and the views. ledger.h and kv.h say what they mean.
#ifndef HM_MESH_LEDGER_INTERNAL_H
#define HM_MESH_LEDGER_INTERNAL_H

#include <lmdb.h>

#include "mesh/ledger.h"
#include "mesh/overlay.h"
#include "mesh/tree_internal.h"

#define HM_KEY_LEDGER 0u // first byte of the ledger's own keys: nonces
#define HM_VERIFIED_SLOTS 32768u

struct hm_view {
    hm_ledger *ledger;
    uint32_t refs;
    hm_view *parent;      // a reference; NULL once on disk
    bool on_disk;         // reads the store: right only while it is the ledger's tip
    bool executing;       // its block is being executed: written, and no root yet
    hm_overlay kv, nodes; // entries, and nodes of the authenticated tree
    uint64_t height;
    hm_hash id, root;
    bool has_header;
    hm_block_header header;
    hm_buf block; // encoded
};

struct hm_ledger {
    hm_ledger_config cfg; // without the genesis bytes
    hm_genesis genesis;
    MDB_env *env;
    MDB_dbi kv, nodes, blocks, certs, block_ids, op_ids, meta;
    MDB_txn *read; // the thread's snapshot, renewed at every commit
    hm_view *tip;  // on disk
    uint32_t views;
    hm_hash *verified; // HM_VERIFIED_SLOTS ids, each at the slot that its first bytes name
};

// ---- view.c -------------------------------------------------------------------------------------

// A new view over `parent` (referenced), or the one on disk when parent is NULL.
HM_CHECK hm_err view_make(hm_ledger *l, hm_view *parent, hm_view **out);
// Brings the tree up to date with the changed entries and fixes the root; ends the execution.
HM_CHECK hm_err view_seal(hm_view *v);
HM_CHECK hm_err view_alive(const hm_view *v);

// ---- store.c ------------------------------------------------------------------------------------

HM_CHECK hm_err store_open(hm_ledger *l);
void store_close(hm_ledger *l);
hm_err store_fail(int rc, const char *what);
// Starts the snapshot anew; borrowed bytes end here.
HM_CHECK hm_err store_refresh(hm_ledger *l);
// Entry of a table in a snapshot. HM_E_NOTFOUND.
HM_CHECK hm_err store_get(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, hm_bytes *value);
// The first key >= key (or > key with `after`), or the last one < key. HM_E_NOTFOUND.
HM_CHECK hm_err store_seek(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, bool after, hm_bytes *k,
                           hm_bytes *v);
HM_CHECK hm_err store_before(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, hm_bytes *k, hm_bytes *v);
// Height of the newest block and, above 0, its header.
HM_CHECK hm_err store_tip(hm_ledger *l, MDB_txn *txn, hm_view *v);
// Writes the changes of a view and, if block is not empty, the block, its certificate and indices.
HM_CHECK hm_err store_commit(hm_ledger *l, hm_view *v, hm_bytes certificate);
HM_CHECK hm_err store_block(const hm_ledger *l, MDB_txn *txn, uint64_t height, hm_bytes *block,
                            hm_bytes *certificate);

// ---- ledger.c -----------------------------------------------------------------------------------

const hm_module *ledger_module(const hm_ledger *l, uint8_t id);
const hm_op_kind *ledger_kind(const hm_ledger *l, uint8_t module, uint8_t kind);
// An execution context for the block after `parent`.
hm_exec ledger_exec(hm_ledger *l, hm_view *view, const hm_view *parent, uint64_t time_ms);

#endif
