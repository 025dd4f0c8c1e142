// Walking the chain again from its genesis.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mesh/ledger_internal.h"

typedef struct walk {
    hm_ledger *l;       // what is checked: only its environment and tables are used
    hm_ledger *scratch; // what is made anew
    MDB_txn *txn;       // snapshot of l
    const hm_ledger_verify_hooks *hooks;
    hm_ledger_verify_report report;
} walk;

static hm_err at_height(hm_err err, uint64_t height)
{
    char why[400];
    snprintf(why, sizeof why, "%s", hm_err_detail());
    return hm_fail(err, "block %llu: %s", (unsigned long long)height,
                   why[0] != 0 ? why : hm_err_text(err));
}

static hm_err index_check(walk *w, const hm_block *b)
{
    hm_bytes value = {0};
    uint8_t mem[12];
    hm_buf want = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&want, b->header.height);
    if (store_get(w->txn, w->l->block_ids, hm_hash_bytes(&b->id), &value) != HM_OK ||
        !hm_bytes_eq(value, hm_buf_bytes(&want)))
        return hm_fail(HM_E_CORRUPT, "the index of blocks does not lead to it");
    for (uint32_t i = 0; i < b->count; i++) {
        hm_hash id = hm_op_id(b->ops[i]);
        want.len = 8;
        hm_wr_u32(&want, i);
        if (store_get(w->txn, w->l->op_ids, hm_hash_bytes(&id), &value) != HM_OK ||
            !hm_bytes_eq(value, hm_buf_bytes(&want)))
            return hm_fail(HM_E_CORRUPT, "the index of operations does not lead to operation %u",
                           i);
    }
    return HM_OK;
}

static hm_err verify_block(walk *w, uint64_t height, bool tip)
{
    hm_bytes bytes = {0}, certificate = {0};
    hm_block b;
    HM_TRY(store_block(w->l, w->txn, height, &bytes, &certificate));
    HM_TRY(hm_block_decode(bytes, &b));
    hm_view *v = NULL;
    hm_err err = index_check(w, &b);
    if (err == HM_OK && w->hooks != NULL && w->hooks->certificate != NULL)
        err = w->hooks->certificate(w->hooks->ctx, hm_ledger_tip(w->scratch), &b.header, &b.id,
                                    certificate, tip);
    if (err == HM_OK)
        err = hm_ledger_execute(w->scratch, hm_ledger_tip(w->scratch), bytes, &v);
    if (err == HM_OK)
        err = hm_ledger_commit(w->scratch, v, certificate);
    hm_view_release(v);
    w->report.ops += b.count;
    hm_block_free(&b);
    return err;
}

// Every entry of one table against the other, both ways by walking them together.
static hm_err table_check(walk *w, MDB_dbi ours, MDB_dbi theirs, const char *what)
{
    hm_bytes ka = {0}, va, kb = {0}, vb;
    for (bool first = true;; first = false) {
        hm_err a = store_seek(w->txn, ours, ka, !first, &ka, &va);
        hm_err b = store_seek(w->scratch->read, theirs, kb, !first, &kb, &vb);
        if (a == HM_E_NOTFOUND && b == HM_E_NOTFOUND)
            return HM_OK;
        if ((a != HM_OK && a != HM_E_NOTFOUND) || (b != HM_OK && b != HM_E_NOTFOUND))
            return a != HM_OK && a != HM_E_NOTFOUND ? a : b;
        if (a != b || !hm_bytes_eq(ka, kb) || !hm_bytes_eq(va, vb))
            return hm_fail(HM_E_CORRUPT, "an entry of the %s differs from what the blocks make",
                           what);
    }
}

static hm_err verify_all(walk *w, uint64_t height)
{
    for (uint64_t h = 1; h <= height; h++) {
        hm_err err = verify_block(w, h, h == height);
        if (err != HM_OK)
            return at_height(err, h);
        w->report.blocks = h;
        if (w->hooks != NULL && w->hooks->progress != NULL)
            w->hooks->progress(w->hooks->ctx, h, height);
    }
    HM_TRY(table_check(w, w->l->kv, w->scratch->kv, "state"));
    HM_TRY(table_check(w, w->l->nodes, w->scratch->nodes, "state tree"));
    return hm_view_root(hm_ledger_tip(w->scratch), &w->report.state_root);
}

static void remove_scratch(const char *dir)
{
    const char *const files[] = {"data.mdb", "lock.mdb"};
    char path[4200];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
}

hm_err hm_ledger_verify(hm_ledger *l, const char *scratch_dir, const hm_ledger_verify_hooks *hooks,
                        hm_ledger_verify_report *report)
{
    walk w = {.l = l, .hooks = hooks};
    hm_buf genesis = {0};
    hm_hash chain;
    hm_view tip = {.ledger = l};
    remove_scratch(scratch_dir);
    hm_err err = hm_genesis_encode(&l->genesis, &genesis, &chain);
    if (err == HM_OK) {
        hm_ledger_config cfg = l->cfg;
        cfg.dir = scratch_dir;
        cfg.no_sync = true;
        cfg.genesis = hm_buf_bytes(&genesis);
        err = hm_ledger_open(&cfg, &w.scratch);
    }
    if (err == HM_OK) {
        int rc = mdb_txn_begin(l->env, NULL, MDB_RDONLY, &w.txn);
        err = rc == 0 ? store_tip(l, w.txn, &tip) : store_fail(rc, "begin");
    }
    if (err == HM_OK)
        err = verify_all(&w, tip.height);
    if (w.txn != NULL)
        mdb_txn_abort(w.txn);
    hm_ledger_close(w.scratch);
    remove_scratch(scratch_dir);
    hm_buf_free(&genesis);
    if (err == HM_OK)
        *report = w.report;
    return err;
}
