#include "trustchain/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/changes.h"
#include "base/env.h"
#include "base/journal.h"
#include "base/wire.h"

#define FLUSH_BYTES (HM_JOURNAL_FILE_BYTES / 2) // so much in the journal goes to LMDB
#define RETRY_MS 1000u                          // after LMDB could not take it

// From the top down. The thread reads what goes to LMDB, which nobody changes then.
enum {
    INNER,
    OUTER,
    COMMITTED, // and in the journal
    GOING,     // to LMDB, and in the journal
    LAYERS,
};

typedef enum flush_state {
    FLUSH_IDLE,
    FLUSH_ASKED,
    FLUSH_DONE,
    FLUSH_FAILED,
} flush_state;

struct tc_store {
    MDB_env *env;
    MDB_txn *read; // renewed when LMDB has more
    MDB_dbi table[TC_TABLES];
    hm_journal *journal; // NULL: to look alone
    hm_changes layer[LAYERS];
    unsigned depth; // of transactions
    hm_buf record;  // kept for its memory
    uint64_t going; // the epoch that goes to LMDB
    uint64_t failed_ms;

    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked, answered;
    flush_state flush; // with the lock
    bool stop;         // with the lock
    hm_err flush_err;
    char flush_detail[256];
};

static const char *const table_names[TC_TABLES] = {"certs",   "order", "names", "revoked",
                                                   "entries", "nodes", "state", "kv"};
static const char applied_key[] = "journal"; // in TC_STATE: the epoch that LMDB has

static hm_err fail(int rc, const char *what)
{
    if (rc == MDB_NOTFOUND)
        return HM_E_NOTFOUND;
    hm_err err = rc == ENOMEM         ? HM_E_NOMEM
                 : rc == MDB_MAP_FULL ? HM_E_FULL
                 : rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID
                     ? HM_E_CORRUPT
                     : hm_err_of_write(rc);
    return hm_fail(err, "the authority's store: %s: %s", what, mdb_strerror(rc));
}

static MDB_val val_of(hm_bytes b)
{
    return (MDB_val){.mv_size = b.len, .mv_data = (void *)b.ptr};
}

static hm_bytes bytes_of(MDB_val v)
{
    return hm_bytes_of(v.mv_data, v.mv_size);
}

static hm_err refresh(tc_store *s)
{
    mdb_txn_reset(s->read);
    int rc = mdb_txn_renew(s->read);
    return rc == 0 ? HM_OK : fail(rc, "renew");
}

// ---- to LMDB ------------------------------------------------------------------------------------

static int apply_one(const tc_store *s, MDB_txn *txn, const hm_change *c)
{
    MDB_val k = val_of(c->key), v = val_of(c->value);
    if (!c->gone)
        return mdb_put(txn, s->table[c->table], &k, &v, 0);
    int rc = mdb_del(txn, s->table[c->table], &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

// epoch 0: what was never in the journal.
static hm_err apply(const tc_store *s, const hm_changes *changes, uint64_t epoch)
{
    MDB_txn *txn;
    uint8_t mem[8];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(rc, "begin");
    for (size_t i = 0; rc == 0 && i < changes->count; i++)
        rc = apply_one(s, txn, changes->list[i]);
    hm_wr_u64(&b, epoch);
    MDB_val k = val_of(hm_bytes_str(applied_key)), v = val_of(hm_buf_bytes(&b));
    if (rc == 0 && epoch > 0)
        rc = mdb_put(txn, s->table[TC_STATE], &k, &v, 0);
    if (rc == 0)
        rc = hm_env_commit(txn);
    else
        mdb_txn_abort(txn);
    return rc == 0 ? HM_OK : fail(rc, "write");
}

static void *flusher(void *arg)
{
    tc_store *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (s->flush != FLUSH_ASKED && !s->stop)
            pthread_cond_wait(&s->asked, &s->lock);
        if (s->flush != FLUSH_ASKED)
            break;
        pthread_mutex_unlock(&s->lock);
        hm_err_clear();
        hm_err err = apply(s, &s->layer[GOING], s->going);
        pthread_mutex_lock(&s->lock);
        s->flush_err = err;
        snprintf(s->flush_detail, sizeof s->flush_detail, "%s", hm_err_detail());
        s->flush = err == HM_OK ? FLUSH_DONE : FLUSH_FAILED;
        pthread_cond_signal(&s->answered);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void flush_ask(tc_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->flush = FLUSH_ASKED;
    pthread_cond_signal(&s->asked);
    pthread_mutex_unlock(&s->lock);
}

// What the thread has done since it was asked last; its error, if it could not. HM_E_BUSY: it has
// not ended, and nobody waits for it.
static hm_err flush_settle(tc_store *s, bool wait)
{
    pthread_mutex_lock(&s->lock);
    while (wait && s->flush == FLUSH_ASKED)
        pthread_cond_wait(&s->answered, &s->lock);
    flush_state is = s->flush;
    if (is == FLUSH_DONE)
        s->flush = FLUSH_IDLE;
    pthread_mutex_unlock(&s->lock);
    if (is == FLUSH_ASKED)
        return HM_E_BUSY;
    if (is == FLUSH_FAILED)
        return hm_fail(s->flush_err, "%s", s->flush_detail);
    if (is == FLUSH_DONE) {
        hm_err err = refresh(s); // before what LMDB now has goes
        if (err != HM_OK) {      // it goes there once more
            pthread_mutex_lock(&s->lock);
            s->flush = FLUSH_FAILED;
            s->flush_err = err;
            snprintf(s->flush_detail, sizeof s->flush_detail, "%s", hm_err_detail());
            pthread_mutex_unlock(&s->lock);
            return err;
        }
        hm_changes_clear(&s->layer[GOING]);
    }
    return HM_OK;
}

// Lets the thread have what is committed; nothing else may be on its way.
static void flush_begin(tc_store *s)
{
    hm_assert(s->layer[GOING].count == 0);
    s->layer[GOING] = s->layer[COMMITTED];
    s->layer[COMMITTED] = (hm_changes){0};
    s->going = hm_journal_epoch(s->journal);
    hm_journal_turn(s->journal);
    flush_ask(s);
}

// After a commit, without waiting: what is enough goes to LMDB, and what it could not take before
// goes again.
static void flush_when_due(tc_store *s)
{
    hm_err err = flush_settle(s, false);
    uint64_t now_ms = hm_clock_mono_us(&hm_clock_system) / 1000;
    if (err == HM_OK && HM_JOURNAL_FILE_BYTES - hm_journal_room(s->journal) >= FLUSH_BYTES &&
        hm_journal_mend(s->journal) == HM_OK) {
        flush_begin(s);
        s->failed_ms = 0;
    } else if (err != HM_OK && err != HM_E_BUSY && now_ms >= s->failed_ms + RETRY_MS) {
        if (s->failed_ms == 0)
            hm_log(HM_LOG_WARN, "store", "what was committed waits in the journal", "reason=%s",
                   hm_err_detail());
        s->failed_ms = now_ms;
        flush_ask(s);
    }
    hm_err_clear();
}

// Waits until nothing is on its way to LMDB; what it could not take before goes once more.
static hm_err flush_end(tc_store *s)
{
    if (flush_settle(s, true) == HM_OK)
        return HM_OK;
    flush_ask(s);
    return flush_settle(s, true);
}

// Room for a record in the journal: waits for LMDB when both files are full.
static hm_err make_room(tc_store *s, size_t len)
{
    if (hm_journal_room(s->journal) >= len)
        return HM_OK;
    HM_TRY(flush_end(s));
    flush_begin(s);
    return HM_OK;
}

// All that is committed is in LMDB.
static hm_err drain(tc_store *s)
{
    HM_TRY(hm_journal_mend(s->journal));
    HM_TRY(flush_end(s));
    if (s->layer[COMMITTED].count == 0)
        return HM_OK;
    flush_begin(s);
    return flush_settle(s, true);
}

// ---- open ---------------------------------------------------------------------------------------

static hm_err applied_read(void *ctx, uint64_t *epoch)
{
    tc_store *s = ctx;
    MDB_val k = val_of(hm_bytes_str(applied_key)), v;
    HM_TRY(refresh(s));
    *epoch = 0;
    int rc = mdb_get(s->read, s->table[TC_STATE], &k, &v);
    if (rc == MDB_NOTFOUND)
        return HM_OK;
    if (rc != 0)
        return fail(rc, "read");
    hm_rd r = hm_rd_of(bytes_of(v));
    *epoch = hm_rd_u64(&r);
    return hm_rd_end(&r);
}

// A record of the journal. Of two epochs the older one goes to LMDB.
static hm_err replay(void *ctx, uint64_t epoch, hm_bytes record)
{
    tc_store *s = ctx;
    hm_err err = HM_OK;
    if (s->going != 0 && s->going != epoch && s->layer[GOING].count == 0) {
        s->layer[GOING] = s->layer[COMMITTED];
        s->layer[COMMITTED] = (hm_changes){0};
    } else if (s->going == 0) {
        s->going = epoch; // of the first record
    }
    hm_changes one = {0};
    HM_TRY_OUT(hm_changes_read(&one, record, TC_TABLES));
    HM_TRY_OUT(hm_changes_merge(&s->layer[COMMITTED], &one));
out:
    hm_changes_clear(&one);
    return err == HM_OK || err == HM_E_NOMEM
               ? err
               : hm_fail(HM_E_CORRUPT, "the authority's journal has a record that is none");
}

static hm_err tables_open(tc_store *s)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(rc, "begin");
    for (int t = 0; rc == 0 && t < TC_TABLES; t++)
        rc = mdb_dbi_open(txn, table_names[t], MDB_CREATE, &s->table[t]);
    if (rc == 0)
        rc = hm_env_commit(txn);
    else
        mdb_txn_abort(txn);
    if (rc == 0)
        rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->read);
    return rc == 0 ? HM_OK : fail(rc, "open");
}

static hm_err thread_start(tc_store *s)
{
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->asked, NULL);
    pthread_cond_init(&s->answered, NULL);
    if (pthread_create(&s->thread, NULL, flusher, s) != 0)
        return hm_fail(HM_E_LIMIT, "the authority's store: no thread can be started");
    s->threaded = true;
    return HM_OK;
}

static hm_err store_open(const char *dir, bool look, tc_store **out)
{
    hm_err err;
    uint64_t applied;
    tc_store *s = calloc(1, sizeof *s);
    if (!s)
        return HM_E_NOMEM;
    HM_TRY_OUT(hm_env_open(dir, TC_TABLES, 0, &s->env));
    HM_TRY_OUT(tables_open(s));
    if (look) {
        HM_TRY_OUT(hm_journal_look(dir, applied_read, replay, s));
    } else {
        HM_TRY_OUT(applied_read(s, &applied));
        HM_TRY_OUT(hm_journal_open(dir, applied, replay, s, &s->journal));
        HM_TRY_OUT(thread_start(s));
        if (s->layer[GOING].count > 0)
            flush_ask(s);
    }
    *out = s;
    s = NULL;
out:
    tc_store_close(s);
    return err;
}

hm_err tc_store_open(const char *dir, tc_store **out)
{
    return store_open(dir, false, out);
}

hm_err tc_store_look(const char *dir, tc_store **out)
{
    return store_open(dir, true, out);
}

void tc_store_close(tc_store *s)
{
    if (!s)
        return;
    tc_store_abort(s);
    tc_store_abort(s);
    if (s->threaded) {
        if (drain(s) != HM_OK)
            hm_log(HM_LOG_WARN, "store", "what was committed stays in the journal", "reason=%s",
                   hm_err_detail());
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->asked);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        pthread_cond_destroy(&s->asked);
        pthread_cond_destroy(&s->answered);
        pthread_mutex_destroy(&s->lock);
    }
    hm_journal_close(s->journal);
    for (int i = 0; i < LAYERS; i++)
        hm_changes_clear(&s->layer[i]);
    hm_buf_free(&s->record);
    if (s->read)
        mdb_txn_abort(s->read);
    if (s->env)
        mdb_env_close(s->env);
    free(s);
}

// ---- transactions -------------------------------------------------------------------------------

static unsigned top(const tc_store *s)
{
    return s->depth > 1 ? INNER : OUTER;
}

hm_err tc_store_begin(tc_store *s)
{
    hm_assert(s->journal && s->depth < 2);
    s->depth++;
    return HM_OK;
}

// What is too long for the journal waits for LMDB instead.
static hm_err commit_long(tc_store *s)
{
    HM_TRY(drain(s));
    HM_TRY(apply(s, &s->layer[OUTER], 0));
    hm_changes_clear(&s->layer[OUTER]);
    return refresh(s);
}

static hm_err commit_outer(tc_store *s)
{
    if (s->layer[OUTER].count == 0)
        return HM_OK;
    hm_buf_reset(&s->record);
    hm_changes_write(&s->layer[OUTER], &s->record);
    HM_TRY(hm_buf_status(&s->record));
    if (s->record.len > HM_JOURNAL_RECORD_MAX)
        return commit_long(s);
    HM_TRY(hm_journal_mend(s->journal));
    HM_TRY(make_room(s, s->record.len));
    HM_TRY(hm_changes_reserve(&s->layer[COMMITTED], s->layer[OUTER].count));
    HM_TRY(hm_journal_append(s->journal, hm_buf_bytes(&s->record)));
    return hm_changes_merge(&s->layer[COMMITTED], &s->layer[OUTER]);
}

hm_err tc_store_commit(tc_store *s)
{
    hm_assert(s->depth > 0);
    if (s->depth == 2) {
        hm_err err = hm_changes_merge(&s->layer[OUTER], &s->layer[INNER]);
        if (err == HM_OK)
            s->depth--;
        else
            tc_store_abort(s);
        return err;
    }
    hm_err err = commit_outer(s);
    tc_store_abort(s); // what is left after a failure
    if (err == HM_OK)
        flush_when_due(s);
    return err;
}

void tc_store_abort(tc_store *s)
{
    if (s->depth == 0)
        return;
    hm_changes_clear(&s->layer[top(s)]);
    s->depth--;
}

// ---- tables -------------------------------------------------------------------------------------

hm_err tc_store_get(tc_store *s, tc_table t, hm_bytes key, hm_bytes *value)
{
    for (int i = 0; i < LAYERS; i++) {
        const hm_change *c = hm_changes_get(&s->layer[i], t, key);
        if (c && c->gone)
            return HM_E_NOTFOUND;
        if (c) {
            *value = c->value;
            return HM_OK;
        }
    }
    MDB_val k = val_of(key), v;
    int rc = mdb_get(s->read, s->table[t], &k, &v);
    if (rc != 0)
        return fail(rc, "read");
    *value = bytes_of(v);
    return HM_OK;
}

static hm_err key_check(hm_bytes key)
{
    if (key.len == 0 || key.len > TC_STORE_KEY_MAX)
        return hm_fail(HM_E_LIMIT, "a key of the store has 1 to %u bytes", TC_STORE_KEY_MAX);
    return HM_OK;
}

hm_err tc_store_put(tc_store *s, tc_table t, hm_bytes key, hm_bytes value)
{
    hm_assert(s->depth > 0);
    HM_TRY(key_check(key));
    return hm_changes_put(&s->layer[top(s)], t, key, value);
}

hm_err tc_store_del(tc_store *s, tc_table t, hm_bytes key)
{
    hm_assert(s->depth > 0);
    HM_TRY(key_check(key));
    return hm_changes_del(&s->layer[top(s)], t, key);
}

// What stands beside `at` in LMDB; at itself too, going up, when it may be. *found: there is one.
static hm_err beside_in_lmdb(tc_store *s, tc_table t, hm_bytes at, bool up, bool itself,
                             hm_bytes *key, hm_bytes *value, bool *found)
{
    MDB_cursor *c;
    MDB_val k = val_of(at), v;
    int rc = mdb_cursor_open(s->read, s->table[t], &c);
    if (rc != 0)
        return fail(rc, "cursor");
    rc = at.len == 0 ? mdb_cursor_get(c, &k, &v, MDB_FIRST)
                     : mdb_cursor_get(c, &k, &v, MDB_SET_RANGE); // the first key >= at
    if (!up)
        rc = mdb_cursor_get(c, &k, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    else if (rc == 0 && !itself && hm_bytes_eq(bytes_of(k), at))
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    mdb_cursor_close(c);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return fail(rc, "walk");
    *found = rc == 0;
    if (*found) {
        *key = bytes_of(k);
        *value = bytes_of(v);
    }
    return HM_OK;
}

static const hm_change *beside_in_layer(const hm_changes *l, tc_table t, hm_bytes at, bool up,
                                        bool itself)
{
    size_t i = hm_changes_from(l, t, at);
    if (!up)
        i--; // below 0: SIZE_MAX
    else if (!itself && i < l->count && l->list[i]->table == t && hm_bytes_eq(l->list[i]->key, at))
        i++;
    return i < l->count && l->list[i]->table == t ? l->list[i] : NULL;
}

static bool begins_with(hm_bytes key, hm_bytes prefix)
{
    return key.len >= prefix.len && hm_bytes_eq(hm_bytes_of(key.ptr, prefix.len), prefix);
}

// The neighbour of `at`, above or below, that is in no layer as gone; at itself, when it may be.
static hm_err walk(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes at, bool up, bool itself,
                   hm_bytes *key, hm_bytes *value)
{
    hm_bytes k, v;
    bool found, gone;
    do {
        HM_TRY(beside_in_lmdb(s, t, at, up, itself, &k, &v, &found));
        gone = false;
        for (int i = LAYERS - 1; i >= 0; i--) { // of equals the topmost
            const hm_change *c = beside_in_layer(&s->layer[i], t, at, up, itself);
            int order = c && found ? hm_bytes_cmp(c->key, k) : 0;
            if (!c || (up ? order > 0 : order < 0))
                continue;
            found = true;
            k = c->key;
            v = c->value;
            gone = c->gone;
        }
        at = k;
        itself = false;
    } while (found && gone);
    if (!found || !begins_with(k, prefix))
        return HM_E_NOTFOUND;
    *key = k;
    *value = v;
    return HM_OK;
}

hm_err tc_store_next(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                     hm_bytes *value)
{
    bool inside = hm_bytes_cmp(after, prefix) >= 0 && after.len > 0;
    // The prefix itself may be a key.
    return walk(s, t, prefix, inside ? after : prefix, true, !inside, key, value);
}

hm_err tc_store_prev(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes before, hm_bytes *key,
                     hm_bytes *value)
{
    return walk(s, t, prefix, before, false, false, key, value);
}
