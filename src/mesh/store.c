// The ledger on disk: one LMDB environment, one transaction a block.
//
//   kv         state and index entries              nodes      the authenticated tree
//   blocks     u64 height -> block                  certs      u64 height -> certificate
//   block_ids  block id -> u64 height               op_ids     op id -> u64 height, u32 index
//   meta       "chain" -> chain id, "tip" -> u64 height, block id
#include <stdlib.h>
#include <errno.h>

#include "base/env.h"
#include "mesh/ledger_internal.h"

hm_err store_fail(int rc, const char *what)
{
    if (rc == MDB_NOTFOUND)
        return HM_E_NOTFOUND;
    hm_err err = rc == ENOMEM         ? HM_E_NOMEM
                 : rc == MDB_MAP_FULL ? HM_E_LIMIT
                 : rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID
                     ? HM_E_CORRUPT
                     : hm_err_of_write(rc);
    return hm_fail(err, "ledger store: %s: %s", what, mdb_strerror(rc));
}

static MDB_val val_of(hm_bytes b)
{
    return (MDB_val){.mv_size = b.len, .mv_data = (void *)b.ptr};
}

static hm_err open_tables(hm_ledger *l)
{
    const struct {
        const char *name;
        MDB_dbi *dbi;
    } tables[] = {
        {"kv", &l->kv},       {"nodes", &l->nodes},         {"blocks", &l->blocks},
        {"certs", &l->certs}, {"block_ids", &l->block_ids}, {"op_ids", &l->op_ids},
        {"meta", &l->meta},
    };
    MDB_txn *txn;
    int rc = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (rc != 0)
        return store_fail(rc, "begin");
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        rc = mdb_dbi_open(txn, tables[i].name, MDB_CREATE, tables[i].dbi);
        if (rc != 0) {
            mdb_txn_abort(txn);
            return store_fail(rc, "open a table");
        }
    }
    rc = hm_env_commit(txn);
    return rc == 0 ? HM_OK : store_fail(rc, "commit");
}

hm_err store_open(hm_ledger *l)
{
    HM_TRY(hm_env_open(l->cfg.dir, 8, l->cfg.no_sync ? MDB_NOSYNC | MDB_NOMETASYNC : 0, &l->env));
    HM_TRY(open_tables(l));
    int rc = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &l->read);
    return rc == 0 ? HM_OK : store_fail(rc, "begin");
}

void store_close(hm_ledger *l)
{
    if (l->read != NULL)
        mdb_txn_abort(l->read);
    if (l->env != NULL)
        mdb_env_close(l->env);
    l->read = NULL;
    l->env = NULL;
}

hm_err store_refresh(hm_ledger *l)
{
    mdb_txn_reset(l->read);
    int rc = mdb_txn_renew(l->read);
    return rc == 0 ? HM_OK : store_fail(rc, "renew");
}

hm_err store_get(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, hm_bytes *value)
{
    MDB_val k = val_of(key), v;
    int rc = mdb_get(txn, dbi, &k, &v);
    if (rc != 0)
        return store_fail(rc, "read");
    *value = hm_bytes_of(v.mv_data, v.mv_size);
    return HM_OK;
}

static hm_err cursor_step(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, bool after, bool before,
                          hm_bytes *k, hm_bytes *v)
{
    MDB_cursor *c;
    int rc = mdb_cursor_open(txn, dbi, &c);
    if (rc != 0)
        return store_fail(rc, "cursor");
    MDB_val mk = val_of(key), mv;
    if (key.len == 0)
        rc = mdb_cursor_get(c, &mk, &mv, before ? MDB_LAST : MDB_FIRST);
    else
        rc = mdb_cursor_get(c, &mk, &mv, MDB_SET_RANGE); // the first key >= key
    if (before && key.len > 0)
        rc = mdb_cursor_get(c, &mk, &mv, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    else if (rc == 0 && after && hm_bytes_eq(hm_bytes_of(mk.mv_data, mk.mv_size), key))
        rc = mdb_cursor_get(c, &mk, &mv, MDB_NEXT);
    mdb_cursor_close(c);
    if (rc != 0)
        return store_fail(rc, "walk");
    *k = hm_bytes_of(mk.mv_data, mk.mv_size);
    *v = hm_bytes_of(mv.mv_data, mv.mv_size);
    return HM_OK;
}

hm_err store_seek(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, bool after, hm_bytes *k, hm_bytes *v)
{
    return cursor_step(txn, dbi, key, after, false, k, v);
}

hm_err store_before(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, hm_bytes *k, hm_bytes *v)
{
    return cursor_step(txn, dbi, key, false, true, k, v);
}

static hm_bytes height_key(uint64_t height, uint8_t mem[8])
{
    hm_buf b = hm_buf_fixed(mem, 8);
    hm_wr_u64(&b, height);
    return hm_buf_bytes(&b);
}

hm_err store_block(const hm_ledger *l, MDB_txn *txn, uint64_t height, hm_bytes *block,
                   hm_bytes *certificate)
{
    uint8_t mem[8];
    hm_bytes key = height_key(height, mem), b, c;
    HM_TRY(store_get(txn, l->blocks, key, &b));
    HM_TRY(store_get(txn, l->certs, key, &c));
    if (block != NULL)
        *block = b;
    if (certificate != NULL)
        *certificate = c;
    return HM_OK;
}

hm_err store_tip(hm_ledger *l, MDB_txn *txn, hm_view *v)
{
    hm_bytes value = {0}, block = {0};
    HM_TRY(store_get(txn, l->meta, hm_bytes_str("tip"), &value));
    hm_rd r = hm_rd_of(value);
    v->height = hm_rd_u64(&r);
    hm_rd_copy(&r, v->id.b, HM_HASH_BYTES);
    hm_rd_copy(&r, v->root.b, HM_HASH_BYTES);
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_CORRUPT, "ledger store: the record of the newest block is damaged");
    v->has_header = v->height > 0;
    if (!v->has_header)
        return HM_OK;
    HM_TRY(store_block(l, txn, v->height, &block, NULL));
    return hm_block_peek(block, &v->header);
}

// ---- commit -------------------------------------------------------------------------------------

static int put(MDB_txn *txn, MDB_dbi dbi, hm_bytes key, hm_bytes value, unsigned flags)
{
    MDB_val k = val_of(key), v = val_of(value);
    return mdb_put(txn, dbi, &k, &v, flags);
}

static int put_overlay(MDB_txn *txn, MDB_dbi dbi, const hm_overlay *o)
{
    for (const hm_overlay_entry *e = hm_overlay_first(o); e != NULL; e = e->next[0]) {
        int rc;
        if (e->deleted) {
            MDB_val k = val_of(e->key);
            rc = mdb_del(txn, dbi, &k, NULL);
            if (rc == MDB_NOTFOUND)
                rc = 0;
        } else {
            rc = put(txn, dbi, e->key, e->value, 0);
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int put_ops(hm_ledger *l, MDB_txn *txn, const hm_block *b)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < b->count; i++) {
        uint8_t mem[12];
        hm_buf at = hm_buf_fixed(mem, sizeof mem);
        hm_wr_u64(&at, b->header.height);
        hm_wr_u32(&at, i);
        hm_hash id = hm_op_id(b->ops[i]);
        rc = put(txn, l->op_ids, hm_hash_bytes(&id), hm_buf_bytes(&at), 0);
    }
    return rc;
}

static int put_block(hm_ledger *l, MDB_txn *txn, hm_view *v, const hm_block *b,
                     hm_bytes certificate)
{
    uint8_t mem[8];
    hm_bytes key = height_key(v->height, mem);
    int rc = put(txn, l->blocks, key, hm_buf_bytes(&v->block), MDB_APPEND);
    if (rc == 0)
        rc = put(txn, l->certs, key, certificate, MDB_APPEND);
    if (rc == 0)
        rc = put(txn, l->block_ids, hm_hash_bytes(&v->id), key, 0);
    if (rc == 0)
        rc = put_ops(l, txn, b);
    return rc;
}

hm_err store_commit(hm_ledger *l, hm_view *v, hm_bytes certificate)
{
    hm_block block = {0};
    if (v->has_header)
        HM_TRY(hm_block_decode(hm_buf_bytes(&v->block), &block));
    uint8_t mem[8 + 2 * HM_HASH_BYTES];
    hm_buf tip = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&tip, v->height);
    hm_wr_raw(&tip, v->id.b, HM_HASH_BYTES);
    hm_wr_raw(&tip, v->root.b, HM_HASH_BYTES);
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(l->env, NULL, 0, &txn);
    if (rc == 0)
        rc = put_overlay(txn, l->kv, &v->kv);
    if (rc == 0)
        rc = put_overlay(txn, l->nodes, &v->nodes);
    if (rc == 0 && v->has_header)
        rc = put_block(l, txn, v, &block, certificate);
    if (rc == 0)
        rc = put(txn, l->meta, hm_bytes_str("tip"), hm_buf_bytes(&tip), 0);
    if (rc == 0)
        rc = put(txn, l->meta, hm_bytes_str("chain"), hm_hash_bytes(&l->genesis.chain_id), 0);
    hm_block_free(&block);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return store_fail(rc, "write a block");
    }
    rc = hm_env_commit(txn);
    if (rc != 0)
        return store_fail(rc, "commit a block");
    return store_refresh(l);
}
