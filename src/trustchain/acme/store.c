#include "trustchain/acme/store.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <sys/statvfs.h>

// Address space, not memory or disk: the file grows as it fills.
#define MAP_MAX_BYTES ((size_t)64 << 30)
#define MAP_MIN_BYTES ((size_t)1 << 30)
#define FULL_BYTES 65536u // so little left is nothing

struct acme_store {
    MDB_env *env;
    MDB_dbi table;
    MDB_txn *txn; // NULL: none
};

static hm_err fail(int rc, const char *what)
{
    hm_err err = rc == ENOMEM         ? HM_E_NOMEM
                 : rc == MDB_MAP_FULL ? HM_E_FULL
                 : rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID ||
                         rc == MDB_VERSION_MISMATCH
                     ? HM_E_CORRUPT
                     : hm_err_of_write(rc);
    return hm_fail(err, "ACME store: %s: %s", what, mdb_strerror(rc));
}

static MDB_val val_of(hm_bytes b)
{
    return (MDB_val){.mv_size = b.len, .mv_data = (void *)(uintptr_t)b.ptr};
}

static int open_env(const char *dir, size_t map, MDB_env **out)
{
    int rc = mdb_env_create(out);
    if (rc != 0)
        return rc;
    if ((rc = mdb_env_set_mapsize(*out, map)) != 0 ||
        (rc = mdb_env_open(*out, dir, MDB_NOTLS | MDB_NORDAHEAD, 0600)) != 0)
        mdb_env_close(*out);
    return rc;
}

hm_err acme_store_open(const char *dir, acme_store **out)
{
    size_t map = MAP_MAX_BYTES;
    MDB_env *env = NULL;
    int rc, dead = 0;
    HM_TRY(hm_dir_make(dir));
    // valgrind says EINVAL where a kernel says ENOMEM.
    while (((rc = open_env(dir, map, &env)) == ENOMEM || rc == EINVAL) && map > MAP_MIN_BYTES)
        map /= 2;
    if (rc != 0)
        return fail(rc, dir);
    acme_store *s = calloc(1, sizeof *s);
    if (!s) {
        mdb_env_close(env);
        return HM_E_NOMEM;
    }
    s->env = env;
    (void)mdb_reader_check(env, &dead);
    hm_err err = acme_store_begin(s);
    if (err == HM_OK && (rc = mdb_dbi_open(s->txn, NULL, 0, &s->table)) != 0)
        err = fail(rc, "open the table");
    if (err == HM_OK)
        err = acme_store_commit(s);
    if (err != HM_OK) {
        acme_store_close(s);
        return err;
    }
    *out = s;
    return HM_OK;
}

void acme_store_close(acme_store *s)
{
    if (!s)
        return;
    acme_store_abort(s);
    mdb_env_close(s->env);
    free(s);
}

hm_err acme_store_begin(acme_store *s)
{
    if (s->txn)
        return HM_OK;
    int rc = mdb_txn_begin(s->env, NULL, 0, &s->txn);
    if (rc == 0)
        return HM_OK;
    s->txn = NULL;
    return fail(rc, "begin");
}

hm_err acme_store_commit(acme_store *s)
{
    const char *dir;
    struct statvfs fs;
    if (!s->txn)
        return HM_OK;
    int rc = mdb_txn_commit(s->txn);
    s->txn = NULL;
    // A disk that fills up in the middle of a write makes it a short one, which LMDB calls EIO.
    if (rc == EIO && mdb_env_get_path(s->env, &dir) == 0 && statvfs(dir, &fs) == 0 &&
        (uint64_t)fs.f_bavail * fs.f_frsize < FULL_BYTES)
        rc = ENOSPC;
    return rc == 0 ? HM_OK : fail(rc, "commit");
}

void acme_store_abort(acme_store *s)
{
    if (s->txn)
        mdb_txn_abort(s->txn);
    s->txn = NULL;
}

hm_err acme_store_get(acme_store *s, hm_bytes key, hm_bytes *value)
{
    HM_TRY(acme_store_begin(s));
    MDB_val k = val_of(key), v;
    int rc = mdb_get(s->txn, s->table, &k, &v);
    if (rc == MDB_NOTFOUND)
        return HM_E_NOTFOUND;
    if (rc != 0)
        return fail(rc, "read");
    *value = hm_bytes_of(v.mv_data, v.mv_size);
    return HM_OK;
}

hm_err acme_store_put(acme_store *s, hm_bytes key, hm_bytes value)
{
    hm_assert(key.len <= STORE_KEY_MAX);
    HM_TRY(acme_store_begin(s));
    MDB_val k = val_of(key), v = val_of(value);
    int rc = mdb_put(s->txn, s->table, &k, &v, 0);
    return rc == 0 ? HM_OK : fail(rc, "write");
}

hm_err acme_store_del(acme_store *s, hm_bytes key)
{
    HM_TRY(acme_store_begin(s));
    MDB_val k = val_of(key);
    int rc = mdb_del(s->txn, s->table, &k, NULL);
    return rc == 0 || rc == MDB_NOTFOUND ? HM_OK : fail(rc, "delete");
}

hm_err acme_store_next(acme_store *s, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                       hm_bytes *value)
{
    MDB_cursor *c;
    HM_TRY(acme_store_begin(s));
    int rc = mdb_cursor_open(s->txn, s->table, &c);
    if (rc != 0)
        return fail(rc, "cursor");
    MDB_val k = val_of(after), v;
    rc = mdb_cursor_get(c, &k, &v, MDB_SET_RANGE);
    if (rc == 0 && hm_bytes_eq(hm_bytes_of(k.mv_data, k.mv_size), after))
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    mdb_cursor_close(c);
    if (rc == MDB_NOTFOUND ||
        (rc == 0 && (k.mv_size < prefix.len || memcmp(k.mv_data, prefix.ptr, prefix.len) != 0)))
        return HM_E_NOTFOUND;
    if (rc != 0)
        return fail(rc, "walk");
    *key = hm_bytes_of(k.mv_data, k.mv_size);
    *value = hm_bytes_of(v.mv_data, v.mv_size);
    return HM_OK;
}
