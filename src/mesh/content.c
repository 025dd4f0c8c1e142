#include "mesh/content.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "mesh/env.h"

struct hm_content {
    MDB_env *env;
    MDB_dbi chunks, manifests;
    MDB_txn *write; // open while there are unsynced writes
    bool lost;      // unsynced writes went with a transaction that failed
    char *dir;
    uint64_t reserve;
    uint64_t count, bytes;
    uint64_t count_new, bytes_new; // within the open transaction
};

static hm_err fail(int rc, const char *what)
{
    if (rc == MDB_NOTFOUND)
        return HM_E_NOTFOUND;
    return hm_fail(rc == ENOMEM ? HM_E_NOMEM : HM_E_IO, "content store: %s: %s", what,
                   mdb_strerror(rc));
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err open_tables(hm_content *c)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(c->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(rc, "begin");
    rc = mdb_dbi_open(txn, "chunks", MDB_CREATE, &c->chunks);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "manifests", MDB_CREATE, &c->manifests);
    MDB_cursor *cur = NULL;
    if (rc == 0)
        rc = mdb_cursor_open(txn, c->chunks, &cur);
    MDB_val k, v;
    if (rc == 0) {
        for (rc = mdb_cursor_get(cur, &k, &v, MDB_FIRST); rc == 0;
             rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) {
            c->count++;
            c->bytes += v.mv_size;
        }
        mdb_cursor_close(cur);
        rc = rc == MDB_NOTFOUND ? 0 : rc;
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return fail(rc, "open");
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? HM_OK : fail(rc, "open");
}

hm_err hm_content_open(const char *dir, uint64_t reserve_bytes, bool no_sync, hm_content **out)
{
    hm_content *c = calloc(1, sizeof *c);
    if (c == NULL)
        return HM_E_NOMEM;
    c->reserve = reserve_bytes;
    c->dir = strdup(dir);
    hm_err err = c->dir == NULL ? HM_E_NOMEM : HM_OK;
    if (err == HM_OK)
        err = hm_env_open(dir, 2, no_sync ? MDB_NOSYNC : 0, &c->env);
    if (err == HM_OK)
        err = open_tables(c);
    if (err != HM_OK) {
        hm_content_close(c);
        return err;
    }
    *out = c;
    return HM_OK;
}

void hm_content_close(hm_content *c)
{
    if (c == NULL)
        return;
    if (c->write != NULL)
        mdb_txn_abort(c->write);
    if (c->env != NULL)
        mdb_env_close(c->env);
    free(c->dir);
    free(c);
}

// ---- writing ------------------------------------------------------------------------------------

static hm_err writer(hm_content *c)
{
    if (c->write != NULL)
        return HM_OK;
    int rc = mdb_txn_begin(c->env, NULL, 0, &c->write);
    if (rc != 0) {
        c->write = NULL;
        return fail(rc, "begin");
    }
    c->count_new = c->bytes_new = 0;
    return HM_OK;
}

// After a failed write LMDB wants the transaction gone, with all that was written in it.
static void give_up(hm_content *c)
{
    mdb_txn_abort(c->write);
    c->write = NULL;
    c->lost = true;
}

// Reads through the open transaction, if any, so that unsynced writes are seen.
static hm_err load(hm_content *c, MDB_dbi dbi, const hm_hash *key, hm_buf *out)
{
    MDB_txn *txn = c->write;
    int rc = 0;
    if (txn == NULL)
        rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return fail(rc, "begin");
    MDB_val k = {HM_HASH_BYTES, (void *)key->b}, v;
    rc = mdb_get(txn, dbi, &k, &v);
    if (rc == 0 && out != NULL)
        hm_buf_append(out, v.mv_data, v.mv_size);
    if (c->write == NULL)
        mdb_txn_abort(txn);
    if (rc != 0)
        return fail(rc, "read");
    return out == NULL ? HM_OK : hm_buf_status(out);
}

static hm_err has_room(const hm_content *c, size_t bytes)
{
    struct statvfs fs;
    if (c->reserve == 0)
        return HM_OK;
    if (statvfs(c->dir, &fs) != 0)
        return hm_fail(HM_E_IO, "content store: %s: %s", c->dir, strerror(errno));
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (left < c->reserve || left - c->reserve < c->bytes_new + bytes)
        return hm_fail(HM_E_BUSY,
                       "the disk has %llu MiB left, and %llu are kept free: it takes no content",
                       (unsigned long long)(left >> 20), (unsigned long long)(c->reserve >> 20));
    return HM_OK;
}

static hm_err store(hm_content *c, MDB_dbi dbi, const hm_hash *key, hm_bytes bytes)
{
    HM_TRY(writer(c));
    hm_err err = has_room(c, bytes.len);
    if (err != HM_OK)
        return load(c, dbi, key, NULL) == HM_OK ? HM_OK : err;
    MDB_val k = {HM_HASH_BYTES, (void *)key->b}, v = {bytes.len, (void *)bytes.ptr};
    int rc = mdb_put(c->write, dbi, &k, &v, MDB_NOOVERWRITE);
    if (rc == MDB_KEYEXIST)
        return HM_OK;
    if (rc != 0) {
        give_up(c);
        return fail(rc, "write");
    }
    if (dbi == c->chunks) {
        c->count_new++;
        c->bytes_new += bytes.len;
    }
    return HM_OK;
}

hm_err hm_content_put(hm_content *c, const hm_hash *hash, hm_bytes chunk)
{
    if (chunk.len == 0 || chunk.len > HM_CONTENT_CHUNK_MAX)
        return hm_fail(HM_E_LIMIT, "a chunk of %zu bytes", chunk.len);
    HM_TRY(hm_chunk_is(hash, chunk));
    return store(c, c->chunks, hash, chunk);
}

hm_err hm_content_put_manifest(hm_content *c, const hm_hash *root, hm_bytes manifest)
{
    HM_TRY(hm_manifest_is(root, manifest));
    return store(c, c->manifests, root, manifest);
}

bool hm_content_dirty(const hm_content *c)
{
    return c->write != NULL || c->lost;
}

hm_err hm_content_sync(hm_content *c)
{
    bool lost = c->lost;
    c->lost = false;
    if (c->write != NULL) {
        int rc = mdb_txn_commit(c->write);
        c->write = NULL;
        if (rc != 0)
            return fail(rc, "commit");
        c->count += c->count_new;
        c->bytes += c->bytes_new;
    }
    if (lost)
        return hm_fail(HM_E_IO, "content store: a write failed, and others were lost with it");
    return HM_OK;
}

// ---- reading ------------------------------------------------------------------------------------

static void discard(hm_content *c, MDB_dbi dbi, const hm_hash *key)
{
    MDB_val k = {HM_HASH_BYTES, (void *)key->b};
    if (writer(c) == HM_OK && mdb_del(c->write, dbi, &k, NULL) != 0)
        give_up(c);
}

hm_err hm_content_get(hm_content *c, const hm_hash *hash, hm_buf *out)
{
    size_t start = out->len;
    HM_TRY(load(c, c->chunks, hash, out));
    if (hm_chunk_is(hash, hm_bytes_of(out->ptr + start, out->len - start)) == HM_OK)
        return HM_OK;
    out->len = start;
    discard(c, c->chunks, hash);
    return hm_fail(HM_E_CHUNK_HASH, "a stored chunk was damaged and is removed");
}

hm_err hm_content_get_manifest(hm_content *c, const hm_hash *root, hm_buf *out)
{
    size_t start = out->len;
    HM_TRY(load(c, c->manifests, root, out));
    hm_err err = hm_manifest_is(root, hm_bytes_of(out->ptr + start, out->len - start));
    if (err == HM_OK || err == HM_E_NOMEM)
        return err;
    out->len = start;
    discard(c, c->manifests, root);
    return hm_fail(HM_E_CHUNK_HASH, "a stored manifest was damaged and is removed");
}

bool hm_content_has(hm_content *c, const hm_hash *hash)
{
    return load(c, c->chunks, hash, NULL) == HM_OK;
}

bool hm_content_has_manifest(hm_content *c, const hm_hash *root)
{
    return load(c, c->manifests, root, NULL) == HM_OK;
}

size_t hm_content_list(hm_content *c, bool manifests, const hm_hash *after, hm_hash *out,
                       size_t max)
{
    MDB_txn *txn;
    MDB_cursor *cur;
    size_t n = 0;
    if (mdb_txn_begin(c->env, NULL, MDB_RDONLY, &txn) != 0)
        return 0;
    if (mdb_cursor_open(txn, manifests ? c->manifests : c->chunks, &cur) == 0) {
        MDB_val k = {HM_HASH_BYTES, after == NULL ? NULL : (void *)after->b}, v;
        int rc = mdb_cursor_get(cur, &k, &v, after == NULL ? MDB_FIRST : MDB_SET_RANGE);
        if (rc == 0 && after != NULL && memcmp(k.mv_data, after->b, HM_HASH_BYTES) == 0)
            rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT);
        for (; rc == 0 && n < max; rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT))
            memcpy(out[n++].b, k.mv_data, HM_HASH_BYTES);
        mdb_cursor_close(cur);
    }
    mdb_txn_abort(txn);
    return n;
}

void hm_content_stats(const hm_content *c, uint64_t *chunks, uint64_t *bytes)
{
    *chunks = c->count;
    *bytes = c->bytes;
}

// ---- pure ---------------------------------------------------------------------------------------

static hm_err manifest_root(hm_bytes manifest, hm_hash *root)
{
    if (manifest.len % HM_HASH_BYTES != 0 || manifest.len > HM_CONTENT_MANIFEST_MAX)
        return hm_fail(HM_E_LIMIT, "a manifest of %zu bytes", manifest.len);
    size_t count = manifest.len / HM_HASH_BYTES;
    hm_hash *leaves = malloc((count + 1) * sizeof *leaves);
    if (leaves == NULL)
        return HM_E_NOMEM;
    for (size_t i = 0; i < count; i++)
        leaves[i] = hm_merkle_leaf(hm_bytes_of(manifest.ptr + i * HM_HASH_BYTES, HM_HASH_BYTES));
    *root = hm_merkle_root(leaves, count);
    free(leaves);
    return HM_OK;
}

hm_err hm_chunk_is(const hm_hash *hash, hm_bytes chunk)
{
    hm_hash got = hm_sha256(chunk);
    if (!hm_hash_eq(&got, hash))
        return hm_fail(HM_E_CHUNK_HASH, "a chunk's bytes are not those of its address");
    return HM_OK;
}

hm_err hm_manifest_is(const hm_hash *root, hm_bytes manifest)
{
    hm_hash got;
    HM_TRY(manifest_root(manifest, &got));
    if (!hm_hash_eq(&got, root))
        return hm_fail(HM_E_CHUNK_HASH, "a manifest's bytes are not those of its root");
    return HM_OK;
}

hm_err hm_manifest_check(const hm_commitment *c, hm_bytes manifest)
{
    hm_hash root;
    HM_TRY(manifest_root(manifest, &root));
    if (manifest.len / HM_HASH_BYTES != c->chunk_count || !hm_hash_eq(&root, &c->root))
        return hm_fail(HM_E_CHUNK_HASH, "the manifest is not that of the content");
    return HM_OK;
}

hm_err hm_manifest_commit(hm_bytes manifest, uint64_t size, uint32_t chunk_bytes,
                          hm_commitment *out)
{
    hm_commitment c = {.size = size, .chunk_bytes = chunk_bytes};
    c.chunk_count = (uint32_t)(manifest.len / HM_HASH_BYTES);
    HM_TRY(manifest_root(manifest, &c.root));
    *out = c;
    return HM_OK;
}

uint32_t hm_commitment_chunk_len(const hm_commitment *c, uint32_t index)
{
    uint64_t start = (uint64_t)index * c->chunk_bytes;
    uint64_t left = c->size - start;
    return left < c->chunk_bytes ? (uint32_t)left : c->chunk_bytes;
}

void hm_placement(const hm_hash *address, const hm_node_id *nodes, uint32_t count, uint32_t *order)
{
    hm_hash weight[100];
    hm_assert(count <= 100);
    for (uint32_t i = 0; i < count; i++) {
        weight[i] = hm_sha256_2(hm_hash_bytes(address), hm_hash_bytes(&nodes[i]));
        uint32_t at = i;
        for (; at > 0 && memcmp(weight[order[at - 1]].b, weight[i].b, HM_HASH_BYTES) < 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}
