#include "trustchain/store.h"

#include <errno.h>
#include <stdlib.h>

#include "base/env.h"

struct tc_store {
    MDB_env *env;
    MDB_txn *read;  // renewed after each commit
    MDB_txn *write; // NULL: none
    MDB_txn *outer; // of write; NULL: it is none within another
    MDB_dbi table[TC_TABLES];
};

static const char *const table_names[TC_TABLES] = {"certs",   "order", "names", "revoked",
                                                   "entries", "nodes", "state", "kv"};

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

static MDB_txn *current(const tc_store *s)
{
    return s->write ? s->write : s->read;
}

static hm_err refresh(tc_store *s)
{
    mdb_txn_reset(s->read);
    int rc = mdb_txn_renew(s->read);
    return rc == 0 ? HM_OK : fail(rc, "renew");
}

hm_err tc_store_open(const char *dir, tc_store **out)
{
    hm_err err;
    int rc;
    tc_store *s = calloc(1, sizeof *s);
    if (!s)
        return HM_E_NOMEM;
    HM_TRY_OUT(hm_env_open(dir, TC_TABLES, 0, &s->env));
    HM_TRY_OUT(tc_store_begin(s));
    for (int t = 0; t < TC_TABLES; t++)
        if ((rc = mdb_dbi_open(s->write, table_names[t], MDB_CREATE, &s->table[t])) != 0)
            HM_TRY_OUT(fail(rc, "open a table"));
    rc = hm_env_commit(s->write);
    s->write = NULL;
    if (rc == 0)
        rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->read);
    err = rc == 0 ? HM_OK : fail(rc, "open");
out:
    if (err == HM_OK)
        *out = s;
    else
        tc_store_close(s);
    return err;
}

void tc_store_close(tc_store *s)
{
    if (!s)
        return;
    tc_store_abort(s);
    tc_store_abort(s);
    if (s->read)
        mdb_txn_abort(s->read);
    if (s->env)
        mdb_env_close(s->env);
    free(s);
}

hm_err tc_store_begin(tc_store *s)
{
    MDB_txn *txn;
    hm_assert(!s->outer);
    int rc = mdb_txn_begin(s->env, s->write, 0, &txn);
    if (rc != 0)
        return fail(rc, "begin");
    s->outer = s->write;
    s->write = txn;
    return HM_OK;
}

hm_err tc_store_commit(tc_store *s)
{
    hm_assert(s->write);
    bool inner = s->outer != NULL;
    int rc = inner ? mdb_txn_commit(s->write) : hm_env_commit(s->write);
    s->write = s->outer;
    s->outer = NULL;
    if (rc != 0)
        return fail(rc, "commit");
    return inner ? HM_OK : refresh(s);
}

void tc_store_abort(tc_store *s)
{
    if (s->write)
        mdb_txn_abort(s->write);
    s->write = s->outer;
    s->outer = NULL;
}

hm_err tc_store_get(tc_store *s, tc_table t, hm_bytes key, hm_bytes *value)
{
    MDB_val k = val_of(key), v;
    int rc = mdb_get(current(s), s->table[t], &k, &v);
    if (rc != 0)
        return fail(rc, "read");
    *value = bytes_of(v);
    return HM_OK;
}

hm_err tc_store_put(tc_store *s, tc_table t, hm_bytes key, hm_bytes value)
{
    hm_assert(s->write);
    if (key.len == 0 || key.len > TC_STORE_KEY_MAX)
        return hm_fail(HM_E_LIMIT, "a key of the store has 1 to %u bytes", TC_STORE_KEY_MAX);
    MDB_val k = val_of(key), v = val_of(value);
    int rc = mdb_put(s->write, s->table[t], &k, &v, 0);
    return rc == 0 ? HM_OK : fail(rc, "write");
}

hm_err tc_store_del(tc_store *s, tc_table t, hm_bytes key)
{
    hm_assert(s->write);
    MDB_val k = val_of(key);
    int rc = mdb_del(s->write, s->table[t], &k, NULL);
    return rc == 0 || rc == MDB_NOTFOUND ? HM_OK : fail(rc, "delete");
}

static bool begins_with(hm_bytes key, hm_bytes prefix)
{
    return key.len >= prefix.len && hm_bytes_eq(hm_bytes_of(key.ptr, prefix.len), prefix);
}

// The neighbour of `at`, above or below; what of it begins with the prefix.
static hm_err walk(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes at, bool up, hm_bytes *key,
                   hm_bytes *value)
{
    MDB_cursor *c;
    MDB_val k = val_of(at), v;
    int rc = mdb_cursor_open(current(s), s->table[t], &c);
    if (rc != 0)
        return fail(rc, "cursor");
    rc = at.len == 0 ? mdb_cursor_get(c, &k, &v, MDB_FIRST)
                     : mdb_cursor_get(c, &k, &v, MDB_SET_RANGE); // the first key >= at
    if (!up)
        rc = mdb_cursor_get(c, &k, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    else if (rc == 0 && at.len > 0 && hm_bytes_eq(bytes_of(k), at))
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    mdb_cursor_close(c);
    if (rc != 0)
        return fail(rc, "walk");
    if (!begins_with(bytes_of(k), prefix))
        return HM_E_NOTFOUND;
    *key = bytes_of(k);
    *value = bytes_of(v);
    return HM_OK;
}

hm_err tc_store_next(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                     hm_bytes *value)
{
    hm_bytes v;
    if (hm_bytes_cmp(after, prefix) >= 0)
        return walk(s, t, prefix, after, true, key, value);
    // The prefix itself may be a key.
    if (tc_store_get(s, t, prefix, &v) != HM_OK)
        return walk(s, t, prefix, prefix, true, key, value);
    *key = prefix;
    *value = v;
    return HM_OK;
}

hm_err tc_store_prev(tc_store *s, tc_table t, hm_bytes prefix, hm_bytes before, hm_bytes *key,
                     hm_bytes *value)
{
    return walk(s, t, prefix, before, false, key, value);
}

hm_err tc_store_count(tc_store *s, tc_table t, uint64_t *count)
{
    MDB_stat st;
    int rc = mdb_stat(current(s), s->table[t], &st);
    if (rc != 0)
        return fail(rc, "count");
    *count = st.ms_entries;
    return HM_OK;
}
