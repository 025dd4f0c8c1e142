// The content store as its owner's thread has it: reading, and what waits to be written.
#include <errno.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "mesh/content_internal.h"

hm_err content_fail(int rc, const char *what)
{
    if (rc == MDB_NOTFOUND)
        return HM_E_NOTFOUND;
    return hm_fail(rc == ENOMEM ? HM_E_NOMEM : hm_err_of_write(rc), "content store: %s: %s", what,
                   mdb_strerror(rc));
}

// ---- batches ------------------------------------------------------------------------------------

static void batch_init(content_batch *b)
{
    *b = (content_batch){0};
    hm_list_init(&b->jobs);
    for (int i = 0; i < 2; i++)
        hm_map_init(&b->by_address[i], HM_HASH_BYTES, 0, &hm_random_system);
}

static void job_free(content_job *j)
{
    hm_buf_free(&j->bytes);
    free(j);
}

static void batch_free(content_batch *b)
{
    hm_list_each(it, &b->jobs)
    {
        hm_list_remove(it);
        job_free(hm_container_of(it, content_job, link));
    }
    for (int i = 0; i < 2; i++)
        hm_map_free(&b->by_address[i]);
}

static hm_err queue_add(hm_content *c, const content_job *job)
{
    content_job *j = malloc(sizeof *j);
    if (j == NULL)
        return HM_E_NOMEM;
    *j = *job;
    hm_list_append(&c->queue.jobs, &j->link);
    return HM_OK;
}

// What waits to be written or is being written under an address; NULL.
static const content_job *unsynced(const hm_content *c, bool manifest, const hm_hash *hash)
{
    const content_job *j = hm_map_get(&c->queue.by_address[manifest], hash->b);
    return j != NULL || !c->is_running ? j : hm_map_get(&c->running.by_address[manifest], hash->b);
}

// ---- life ---------------------------------------------------------------------------------------

static int count_chunks(hm_content *c, MDB_txn *txn)
{
    MDB_cursor *cur;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn, c->chunks, &cur);
    if (rc != 0)
        return rc;
    while ((rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
        c->stats.chunks++;
        c->stats.bytes += v.mv_size;
    }
    mdb_cursor_close(cur);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int count_uploads(hm_content *c, MDB_txn *txn)
{
    MDB_cursor *cur;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn, c->uploads, &cur);
    if (rc != 0)
        return rc;
    while ((rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT)) == 0) {
        content_upload u;
        if (!content_upload_read(&v, &u)) {
            rc = MDB_CORRUPTED;
            break;
        }
        c->upload_bytes[u.member] += u.cost;
        c->stats.upload_bytes += u.cost;
        if (u.time_ms < c->oldest_ms)
            c->oldest_ms = u.time_ms;
    }
    mdb_cursor_close(cur);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int read_followed(hm_content *c, MDB_txn *txn)
{
    MDB_val k = {8, (void *)"followed"}, v;
    int rc = mdb_get(txn, c->meta, &k, &v);
    if (rc == 0 && v.mv_size == 8) {
        hm_rd r = hm_rd_of(hm_bytes_of(v.mv_data, v.mv_size));
        c->followed = hm_rd_u64(&r);
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static hm_err open_tables(hm_content *c)
{
    const struct {
        const char *name;
        MDB_dbi *dbi;
    } tables[] = {{"chunks", &c->chunks},   {"manifests", &c->manifests}, {"kept", &c->kept},
                  {"uploads", &c->uploads}, {"wanted", &c->wanted},       {"meta", &c->meta}};
    MDB_txn *txn;
    int rc = mdb_txn_begin(c->env, NULL, 0, &txn);
    if (rc != 0)
        return content_fail(rc, "begin");
    for (size_t i = 0; rc == 0 && i < sizeof tables / sizeof tables[0]; i++)
        rc = mdb_dbi_open(txn, tables[i].name, MDB_CREATE, tables[i].dbi);
    if (rc == 0)
        rc = count_chunks(c, txn);
    if (rc == 0)
        rc = count_uploads(c, txn);
    if (rc == 0)
        rc = read_followed(c, txn);
    if (rc == 0)
        rc = hm_env_commit(txn);
    else
        mdb_txn_abort(txn);
    if (rc == 0)
        rc = mdb_txn_begin(c->env, NULL, MDB_RDONLY, &c->read);
    if (rc != 0)
        return content_fail(rc, "open");
    mdb_txn_reset(c->read);
    return HM_OK;
}

hm_err hm_content_open(const hm_content_config *cfg, hm_content **out)
{
    hm_content *c = calloc(1, sizeof *c);
    if (c == NULL)
        return HM_E_NOMEM;
    c->cfg = *cfg;
    c->cfg.dir = strdup(cfg->dir);
    c->oldest_ms = UINT64_MAX;
    batch_init(&c->queue);
    batch_init(&c->running);
    hm_err err = c->cfg.dir == NULL ? HM_E_NOMEM : HM_OK;
    if (err == HM_OK)
        err = hm_env_open(cfg->dir, 6, cfg->no_sync ? MDB_NOSYNC : 0, &c->env);
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
    hm_assert(!c->is_running);
    batch_free(&c->queue);
    batch_free(&c->running);
    if (c->read != NULL)
        mdb_txn_abort(c->read);
    if (c->env != NULL)
        mdb_env_close(c->env);
    free((char *)c->cfg.dir);
    free(c);
}

// ---- the store as it is on disk -----------------------------------------------------------------

// HM_E_NOTFOUND. out may be NULL.
static hm_err load(hm_content *c, MDB_dbi dbi, const hm_hash *key, hm_buf *out)
{
    int rc = mdb_txn_renew(c->read);
    if (rc != 0)
        return content_fail(rc, "begin");
    MDB_val k = content_key(key), v;
    rc = mdb_get(c->read, dbi, &k, &v);
    if (rc == 0 && out != NULL)
        hm_buf_append(out, v.mv_data, v.mv_size);
    mdb_txn_reset(c->read);
    if (rc != 0)
        return content_fail(rc, "read");
    return out == NULL ? HM_OK : hm_buf_status(out);
}

// ---- putting ------------------------------------------------------------------------------------

static hm_err disk_has_room(const hm_content *c, size_t bytes)
{
    struct statvfs fs;
    if (c->cfg.reserve_bytes == 0)
        return HM_OK;
    if (statvfs(c->cfg.dir, &fs) != 0)
        return hm_fail(HM_E_IO, "content store: %s: %s", c->cfg.dir, strerror(errno));
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize, reserve = c->cfg.reserve_bytes;
    uint64_t waiting = c->queue.bytes + (c->is_running ? c->running.bytes : 0);
    if (left < reserve || left - reserve < waiting + bytes)
        return hm_fail(HM_E_FULL,
                       "the disk has %llu MiB left, and %llu are kept free: it takes no content",
                       (unsigned long long)(left >> 20), (unsigned long long)(reserve >> 20));
    return HM_OK;
}

static hm_err upload_has_room(const hm_content *c, size_t bytes, uint32_t member)
{
    uint64_t have = c->upload_bytes[member] + c->queue.uploads[member] +
                    (c->is_running ? c->running.uploads[member] : 0);
    uint64_t limit = c->cfg.upload_bytes;
    if (limit == 0 || have + content_cost(bytes) <= limit)
        return HM_OK;
    return hm_fail(HM_E_FULL,
                   "%llu MiB are uploaded to which no asset refers yet, of %llu: register them, or "
                   "wait until they are given up",
                   (unsigned long long)(have >> 20), (unsigned long long)(limit >> 20));
}

static hm_err put(hm_content *c, bool manifest, const hm_hash *hash, hm_bytes bytes,
                  uint32_t member, uint64_t now_ms)
{
    content_batch *q = &c->queue;
    hm_assert(member < HM_CONTENT_MEMBERS_MAX);
    if (hm_map_get(&q->by_address[manifest], hash->b) != NULL)
        return HM_OK;
    bool known = load(c, manifest ? c->manifests : c->chunks, hash, NULL) == HM_OK;
    bool kept = load(c, c->kept, hash, NULL) == HM_OK;
    bool is_new = !known && unsynced(c, manifest, hash) == NULL;
    if (is_new)
        HM_TRY(disk_has_room(c, bytes.len));
    if (is_new && !kept)
        HM_TRY(upload_has_room(c, bytes.len, member));
    if (member != c->cfg.self && q->bytes_of_others + bytes.len > HM_CONTENT_QUEUE_MAX)
        return hm_fail(HM_E_BUSY, "%llu MiB wait for the disk already",
                       (unsigned long long)(q->bytes_of_others >> 20));
    content_job j = {.kind = manifest ? JOB_PUT_MANIFEST : JOB_PUT,
                     .hash = *hash,
                     .member = member,
                     .time_ms = now_ms};
    hm_buf_put(&j.bytes, bytes);
    hm_err err = hm_buf_status(&j.bytes);
    if (err == HM_OK)
        err = queue_add(c, &j);
    if (err != HM_OK) {
        hm_buf_free(&j.bytes);
        return err;
    }
    content_job *last = hm_container_of(q->jobs.prev, content_job, link);
    err = hm_map_put(&q->by_address[manifest], hash->b, last);
    if (err != HM_OK) {
        hm_list_remove(&last->link);
        job_free(last);
        return err;
    }
    q->bytes += is_new ? bytes.len : 0;
    q->bytes_of_others += member != c->cfg.self ? bytes.len : 0;
    q->uploads[member] += is_new && !kept ? content_cost(bytes.len) : 0;
    return HM_OK;
}

hm_err hm_content_put(hm_content *c, const hm_hash *hash, hm_bytes chunk, uint32_t member,
                      uint64_t now_ms)
{
    if (chunk.len == 0 || chunk.len > HM_CONTENT_CHUNK_MAX)
        return hm_fail(HM_E_LIMIT, "a chunk of %zu bytes", chunk.len);
    HM_TRY(hm_chunk_is(hash, chunk));
    return put(c, false, hash, chunk, member, now_ms);
}

hm_err hm_content_put_manifest(hm_content *c, const hm_hash *root, hm_bytes manifest,
                               uint32_t member, uint64_t now_ms)
{
    HM_TRY(hm_manifest_is(root, manifest));
    return put(c, true, root, manifest, member, now_ms);
}

hm_err hm_content_keep(hm_content *c, const hm_commitment *content, uint64_t now_ms)
{
    return queue_add(
        c, &(content_job){
               .kind = JOB_KEEP, .hash = content->root, .content = *content, .time_ms = now_ms});
}

hm_err hm_content_followed_set(hm_content *c, uint64_t seq)
{
    return queue_add(c, &(content_job){.kind = JOB_FOLLOWED, .number = seq});
}

uint64_t hm_content_followed(const hm_content *c)
{
    return c->followed;
}

hm_err hm_content_collect(hm_content *c, uint64_t now_ms, uint64_t grace_ms)
{
    uint64_t before = now_ms > grace_ms ? now_ms - grace_ms : 0;
    uint64_t held = now_ms > 2 * grace_ms ? now_ms - 2 * grace_ms : 0;
    if (c->oldest_ms >= before)
        return HM_OK;
    return queue_add(c, &(content_job){.kind = JOB_COLLECT, .time_ms = before, .held_ms = held});
}

// ---- to disk ------------------------------------------------------------------------------------

bool hm_content_dirty(const hm_content *c)
{
    return !hm_list_empty(&c->queue.jobs);
}

void hm_content_sync_begin(hm_content *c)
{
    hm_assert(!c->is_running);
    batch_free(&c->running);
    c->running = c->queue;
    hm_list_init(&c->running.jobs);
    hm_list_move_all(&c->queue.jobs, &c->running.jobs);
    batch_init(&c->queue);
    c->done = (content_done){.followed = c->followed, .oldest_ms = c->oldest_ms};
    c->is_running = true;
}

void hm_content_sync_run(hm_content *c)
{
    if (!hm_list_empty(&c->running.jobs))
        content_write(c, &c->running, &c->done);
}

hm_err hm_content_sync_end(hm_content *c)
{
    const content_done *d = &c->done;
    hm_assert(c->is_running);
    c->is_running = false;
    batch_free(&c->running);
    batch_init(&c->running);
    if (d->err != HM_OK)
        return hm_fail(d->err, "%s", d->detail);
    c->followed = d->followed;
    c->oldest_ms = d->oldest_ms;
    c->stats.chunks = (uint64_t)((int64_t)c->stats.chunks + d->chunks);
    c->stats.bytes = (uint64_t)((int64_t)c->stats.bytes + d->bytes);
    c->stats.collected += d->collected;
    c->stats.collected_bytes += d->collected_bytes;
    for (uint32_t i = 0; i < HM_CONTENT_MEMBERS_MAX; i++) {
        c->upload_bytes[i] = (uint64_t)((int64_t)c->upload_bytes[i] + d->uploads[i]);
        c->stats.upload_bytes = (uint64_t)((int64_t)c->stats.upload_bytes + d->uploads[i]);
    }
    return HM_OK;
}

hm_err hm_content_sync(hm_content *c)
{
    hm_content_sync_begin(c);
    hm_content_sync_run(c);
    return hm_content_sync_end(c);
}

// ---- reading ------------------------------------------------------------------------------------

static hm_err get_bytes(hm_content *c, bool manifest, const hm_hash *hash, hm_buf *out)
{
    const content_job *j = unsynced(c, manifest, hash);
    if (j != NULL) {
        hm_buf_put(out, hm_buf_bytes(&j->bytes));
        return hm_buf_status(out);
    }
    return load(c, manifest ? c->manifests : c->chunks, hash, out);
}

static hm_err damaged(hm_content *c, bool manifest, const hm_hash *hash)
{
    HM_TRY(queue_add(
        c, &(content_job){.kind = manifest ? JOB_DISCARD_MANIFEST : JOB_DISCARD, .hash = *hash}));
    return hm_fail(HM_E_CHUNK_HASH, "a stored %s was damaged and is removed",
                   manifest ? "manifest" : "chunk");
}

hm_err hm_content_get(hm_content *c, const hm_hash *hash, hm_buf *out)
{
    size_t start = out->len;
    HM_TRY(get_bytes(c, false, hash, out));
    if (hm_chunk_is(hash, hm_bytes_of(out->ptr + start, out->len - start)) == HM_OK)
        return HM_OK;
    out->len = start;
    return damaged(c, false, hash);
}

hm_err hm_content_get_manifest(hm_content *c, const hm_hash *root, hm_buf *out)
{
    size_t start = out->len;
    HM_TRY(get_bytes(c, true, root, out));
    hm_err err = hm_manifest_is(root, hm_bytes_of(out->ptr + start, out->len - start));
    if (err == HM_OK || err == HM_E_NOMEM)
        return err;
    out->len = start;
    return damaged(c, true, root);
}

hm_err hm_content_chunk_at(hm_content *c, const hm_hash *root, uint32_t index, hm_hash *chunk)
{
    hm_bytes manifest = {0};
    const content_job *j = unsynced(c, true, root);
    hm_err err = HM_OK;
    int rc = mdb_txn_renew(c->read);
    if (rc != 0)
        return content_fail(rc, "begin");
    MDB_val k = content_key(root), v;
    if (j != NULL)
        manifest = hm_buf_bytes(&j->bytes);
    else if ((rc = mdb_get(c->read, c->manifests, &k, &v)) == 0)
        manifest = hm_bytes_of(v.mv_data, v.mv_size);
    else
        err = content_fail(rc, "read");
    if (err == HM_OK && index >= manifest.len / HM_HASH_BYTES)
        err = HM_E_NOTFOUND;
    if (err == HM_OK)
        memcpy(chunk->b, manifest.ptr + (size_t)index * HM_HASH_BYTES, HM_HASH_BYTES);
    mdb_txn_reset(c->read);
    return err;
}

bool hm_content_has(hm_content *c, const hm_hash *hash)
{
    return unsynced(c, false, hash) != NULL || load(c, c->chunks, hash, NULL) == HM_OK;
}

bool hm_content_has_manifest(hm_content *c, const hm_hash *root)
{
    return unsynced(c, true, root) != NULL || load(c, c->manifests, root, NULL) == HM_OK;
}

bool hm_content_is_kept(hm_content *c, const hm_hash *hash)
{
    return load(c, c->kept, hash, NULL) == HM_OK;
}

// The first key after `after`, from the first when it is NULL.
static int seek(MDB_cursor *cur, const hm_hash *after, MDB_val *k, MDB_val *v)
{
    if (after == NULL)
        return mdb_cursor_get(cur, k, v, MDB_FIRST);
    *k = content_key(after);
    int rc = mdb_cursor_get(cur, k, v, MDB_SET_RANGE);
    if (rc == 0 && memcmp(k->mv_data, after->b, HM_HASH_BYTES) == 0)
        rc = mdb_cursor_get(cur, k, v, MDB_NEXT);
    return rc;
}

size_t hm_content_list(hm_content *c, bool manifests, const hm_hash *after, hm_hash *out,
                       size_t max)
{
    MDB_cursor *cur;
    MDB_val k, v, none;
    size_t n = 0;
    if (mdb_txn_renew(c->read) != 0)
        return 0;
    if (mdb_cursor_open(c->read, manifests ? c->manifests : c->chunks, &cur) == 0) {
        for (int rc = seek(cur, after, &k, &v); rc == 0 && n < max;
             rc = mdb_cursor_get(cur, &k, &v, MDB_NEXT))
            if (mdb_get(c->read, c->kept, &k, &none) == 0)
                memcpy(out[n++].b, k.mv_data, HM_HASH_BYTES);
        mdb_cursor_close(cur);
    }
    mdb_txn_reset(c->read);
    return n;
}

hm_err hm_content_wanted(hm_content *c, const hm_hash *after, hm_commitment *out)
{
    MDB_cursor *cur;
    MDB_val k, v;
    int rc = mdb_txn_renew(c->read);
    if (rc != 0)
        return content_fail(rc, "begin");
    rc = mdb_cursor_open(c->read, c->wanted, &cur);
    if (rc == 0) {
        rc = seek(cur, after, &k, &v);
        mdb_cursor_close(cur);
    }
    if (rc == 0) {
        hm_rd r = hm_rd_of(hm_bytes_of(v.mv_data, v.mv_size));
        (void)hm_rd_u64(&r);
        out->size = hm_rd_u64(&r);
        out->chunk_bytes = hm_rd_u32(&r);
        out->chunk_count = hm_rd_u32(&r);
        memcpy(out->root.b, k.mv_data, HM_HASH_BYTES);
    }
    mdb_txn_reset(c->read);
    return rc == 0 ? HM_OK : content_fail(rc, "wanted");
}

void hm_content_get_stats(const hm_content *c, hm_content_stats *out)
{
    *out = c->stats;
}
