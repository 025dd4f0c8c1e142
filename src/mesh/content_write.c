// Writing to the content store, on whatever thread: it touches the environment, the batch and what
// it reports, and nothing else of the store.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/content_internal.h"

#define COLLECT_MAX 16384u // entries in a transaction

typedef struct writing {
    const hm_content *c;
    MDB_txn *txn;
    content_done *done;
} writing;

// ---- records ------------------------------------------------------------------------------------

bool content_upload_read(const MDB_val *v, content_upload *u)
{
    hm_rd r = hm_rd_of(hm_bytes_of(v->mv_data, v->mv_size));
    u->time_ms = hm_rd_u64(&r);
    u->member = hm_rd_u32(&r);
    u->cost = hm_rd_u32(&r);
    u->manifest = hm_rd_bool(&r);
    return hm_rd_end(&r) == HM_OK && u->member < HM_CONTENT_MEMBERS_MAX;
}

static hm_err put(writing *w, MDB_dbi dbi, const hm_hash *key, const void *ptr, size_t len)
{
    MDB_val k = content_key(key), v = {len, (void *)ptr};
    int rc = mdb_put(w->txn, dbi, &k, &v, 0);
    return rc == 0 ? HM_OK : content_fail(rc, "write");
}

static hm_err get(writing *w, MDB_dbi dbi, const hm_hash *key, hm_bytes *out)
{
    MDB_val k = content_key(key), v;
    int rc = mdb_get(w->txn, dbi, &k, &v);
    if (rc != 0)
        return content_fail(rc, "read");
    if (out != NULL)
        *out = hm_bytes_of(v.mv_data, v.mv_size);
    return HM_OK;
}

static hm_err del(writing *w, MDB_dbi dbi, const hm_hash *key)
{
    MDB_val k = content_key(key);
    int rc = mdb_del(w->txn, dbi, &k, NULL);
    return rc == 0 || rc == MDB_NOTFOUND ? HM_OK : content_fail(rc, "delete");
}

static hm_err upload_get(writing *w, const hm_hash *key, content_upload *u)
{
    hm_bytes value = {0};
    HM_TRY(get(w, w->c->uploads, key, &value));
    MDB_val v = {value.len, (void *)value.ptr};
    return content_upload_read(&v, u) ? HM_OK
                                      : hm_fail(HM_E_CORRUPT, "content store: a bad record");
}

static hm_err upload_put(writing *w, const hm_hash *key, const content_upload *u)
{
    uint8_t mem[CONTENT_UPLOAD_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, u->time_ms);
    hm_wr_u32(&b, u->member);
    hm_wr_u32(&b, u->cost);
    hm_wr_bool(&b, u->manifest);
    return put(w, w->c->uploads, key, mem, b.len);
}

// ---- assets refer to it -------------------------------------------------------------------------

static hm_err keep_one(writing *w, const hm_hash *hash)
{
    content_upload u;
    hm_err err = upload_get(w, hash, &u);
    if (err == HM_OK) {
        w->done->uploads[u.member] -= u.cost;
        err = del(w, w->c->uploads, hash);
    }
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    return put(w, w->c->kept, hash, "", 0);
}

static hm_hash hash_in(hm_bytes manifest, size_t i)
{
    hm_hash h;
    memcpy(h.b, manifest.ptr + i * HM_HASH_BYTES, HM_HASH_BYTES);
    return h;
}

// The manifest must not be borrowed from the transaction, which is written to.
static hm_err keep_all(writing *w, const hm_hash *root, hm_bytes manifest)
{
    for (size_t i = 0; i < manifest.len / HM_HASH_BYTES; i++) {
        hm_hash h = hash_in(manifest, i);
        HM_TRY(keep_one(w, &h));
    }
    HM_TRY(keep_one(w, root));
    return del(w, w->c->wanted, root);
}

static hm_err run_keep(writing *w, const content_job *j)
{
    hm_bytes stored = {0};
    hm_err err = get(w, w->c->kept, &j->hash, NULL);
    if (err != HM_E_NOTFOUND)
        return err;
    err = get(w, w->c->manifests, &j->hash, &stored);
    if (err == HM_OK) {
        hm_buf manifest = {0};
        hm_buf_put(&manifest, stored);
        err = hm_buf_status(&manifest);
        if (err == HM_OK)
            err = keep_all(w, &j->hash, hm_buf_bytes(&manifest));
        hm_buf_free(&manifest);
        return err;
    }
    if (err != HM_E_NOTFOUND || get(w, w->c->wanted, &j->hash, NULL) == HM_OK)
        return err == HM_E_NOTFOUND ? HM_OK : err;
    uint8_t mem[8 + 8 + 4 + 4];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, j->time_ms);
    hm_wr_u64(&b, j->content.size);
    hm_wr_u32(&b, j->content.chunk_bytes);
    hm_wr_u32(&b, j->content.chunk_count);
    return put(w, w->c->wanted, &j->hash, mem, b.len);
}

// ---- storing ------------------------------------------------------------------------------------

// What was put again stays for as long as if it were new; whose it is does not change.
static hm_err uploaded(writing *w, const content_job *j, const hm_hash *hash, size_t len,
                       bool manifest)
{
    content_upload u;
    hm_err err = upload_get(w, hash, &u);
    if (err == HM_E_NOTFOUND) {
        u = (content_upload){.member = j->member, .cost = content_cost(len), .manifest = manifest};
        w->done->uploads[u.member] += u.cost;
    } else if (err != HM_OK) {
        return err;
    }
    if (u.time_ms >= j->time_ms)
        return HM_OK;
    u.time_ms = j->time_ms;
    if (u.time_ms < w->done->oldest_ms)
        w->done->oldest_ms = u.time_ms;
    return upload_put(w, hash, &u);
}

// The chunks of a manifest that has come are as new as it is: a long upload ends with it.
static hm_err refresh(writing *w, const content_job *j)
{
    hm_bytes manifest = hm_buf_bytes(&j->bytes);
    for (size_t i = 0; i < manifest.len / HM_HASH_BYTES; i++) {
        content_upload u;
        hm_hash h = hash_in(manifest, i);
        hm_err err = upload_get(w, &h, &u);
        if (err == HM_OK)
            err = uploaded(w, j, &h, 0, u.manifest);
        if (err != HM_OK && err != HM_E_NOTFOUND)
            return err;
    }
    return HM_OK;
}

static hm_err run_put(writing *w, const content_job *j, bool manifest)
{
    MDB_dbi dbi = manifest ? w->c->manifests : w->c->chunks;
    hm_bytes bytes = hm_buf_bytes(&j->bytes), stored = {0};
    hm_err err = get(w, dbi, &j->hash, &stored);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    if (err == HM_E_NOTFOUND && !manifest) {
        w->done->chunks++;
        w->done->bytes += (int64_t)bytes.len;
    }
    // What is stored under the hash and is not this was damaged.
    if (err == HM_E_NOTFOUND || !hm_bytes_eq(stored, bytes))
        HM_TRY(put(w, dbi, &j->hash, bytes.ptr, bytes.len));
    if (manifest && get(w, w->c->wanted, &j->hash, NULL) == HM_OK)
        return keep_all(w, &j->hash, bytes);
    err = get(w, w->c->kept, &j->hash, NULL);
    if (err != HM_E_NOTFOUND)
        return err;
    HM_TRY(uploaded(w, j, &j->hash, bytes.len, manifest));
    return manifest ? refresh(w, j) : HM_OK;
}

// ---- taking away --------------------------------------------------------------------------------

static hm_err take_away(writing *w, const hm_hash *hash, bool manifest)
{
    hm_bytes stored = {0};
    MDB_dbi dbi = manifest ? w->c->manifests : w->c->chunks;
    hm_err err = get(w, dbi, hash, &stored);
    if (err == HM_OK && !manifest) {
        w->done->chunks--;
        w->done->bytes -= (int64_t)stored.len;
    }
    return err == HM_OK ? del(w, dbi, hash) : err == HM_E_NOTFOUND ? HM_OK : err;
}

static hm_err run_discard(writing *w, const content_job *j, bool manifest)
{
    hm_bytes stored = {0};
    hm_err err = get(w, manifest ? w->c->manifests : w->c->chunks, &j->hash, &stored);
    if (err != HM_OK)
        return err == HM_E_NOTFOUND ? HM_OK : err;
    err = manifest ? hm_manifest_is(&j->hash, stored) : hm_chunk_is(&j->hash, stored);
    return err == HM_OK || err == HM_E_NOMEM ? err : take_away(w, &j->hash, manifest);
}

// Forgets wanted contents that nobody could give for so long; is any left?
static hm_err any_wanted(writing *w, uint64_t before_ms, bool *any)
{
    MDB_cursor *cur;
    MDB_val k, v;
    *any = false;
    int rc = mdb_cursor_open(w->txn, w->c->wanted, &cur);
    if (rc != 0)
        return content_fail(rc, "cursor");
    while ((rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
        hm_rd r = hm_rd_of(hm_bytes_of(v.mv_data, v.mv_size));
        if (hm_rd_u64(&r) >= before_ms)
            *any = true;
        else if ((rc = mdb_cursor_del(cur, 0)) != 0)
            break;
    }
    mdb_cursor_close(cur);
    return rc == MDB_NOTFOUND ? HM_OK : content_fail(rc, "wanted");
}

static hm_err run_collect(writing *w, const content_job *j)
{
    bool held;
    MDB_cursor *cur;
    MDB_val k, v;
    uint32_t taken = 0;
    hm_err err = HM_OK;
    HM_TRY(any_wanted(w, j->held_ms, &held));
    uint64_t before = held ? j->held_ms : j->time_ms;
    int rc = mdb_cursor_open(w->txn, w->c->uploads, &cur);
    if (rc != 0)
        return content_fail(rc, "cursor");
    w->done->oldest_ms = UINT64_MAX;
    while (err == HM_OK && (rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
        content_upload u;
        hm_hash hash;
        if (k.mv_size != HM_HASH_BYTES || !content_upload_read(&v, &u)) {
            err = hm_fail(HM_E_CORRUPT, "content store: a bad record");
            break;
        }
        if (u.time_ms >= before || taken == COLLECT_MAX) {
            if (u.time_ms < w->done->oldest_ms)
                w->done->oldest_ms = u.time_ms;
            continue;
        }
        memcpy(hash.b, k.mv_data, HM_HASH_BYTES);
        rc = mdb_cursor_del(cur, 0);
        err = rc != 0 ? content_fail(rc, "delete") : take_away(w, &hash, u.manifest);
        w->done->uploads[u.member] -= u.cost;
        w->done->collected++;
        w->done->collected_bytes += u.cost;
        taken++;
    }
    mdb_cursor_close(cur);
    return err != HM_OK || rc == MDB_NOTFOUND ? err : content_fail(rc, "uploads");
}

// ---- a batch ------------------------------------------------------------------------------------

static hm_err run_followed(writing *w, const content_job *j)
{
    uint8_t mem[8];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    MDB_val k = {8, (void *)"followed"}, v = {sizeof mem, mem};
    hm_wr_u64(&b, j->number);
    int rc = mdb_put(w->txn, w->c->meta, &k, &v, 0);
    w->done->followed = j->number;
    return rc == 0 ? HM_OK : content_fail(rc, "write");
}

static hm_err run_job(writing *w, const content_job *j)
{
    switch (j->kind) {
    case JOB_PUT:
    case JOB_PUT_MANIFEST:
        return run_put(w, j, j->kind == JOB_PUT_MANIFEST);
    case JOB_KEEP:
        return run_keep(w, j);
    case JOB_FOLLOWED:
        return run_followed(w, j);
    case JOB_COLLECT:
        return run_collect(w, j);
    default:
        return run_discard(w, j, j->kind == JOB_DISCARD_MANIFEST);
    }
}

void content_write(hm_content *c, const content_batch *b, content_done *done)
{
    writing w = {.c = c, .done = done};
    hm_err err = HM_OK;
    hm_err_clear();
    int rc = mdb_txn_begin(c->env, NULL, 0, &w.txn);
    if (rc != 0)
        err = content_fail(rc, "begin");
    hm_list_each(it, &b->jobs)
    {
        if (err == HM_OK)
            err = run_job(&w, hm_container_of(it, content_job, link));
    }
    if (rc == 0 && err != HM_OK)
        mdb_txn_abort(w.txn);
    else if (rc == 0 && (rc = hm_env_commit(w.txn)) != 0)
        err = content_fail(rc, "commit");
    done->err = err;
    snprintf(done->detail, sizeof done->detail, "%.190s", err == HM_OK ? "" : hm_err_detail());
}
