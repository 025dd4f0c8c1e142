#include "mesh/env.h"

#include <errno.h>

// Address space, not memory or disk: the file grows as it fills.
#define MAP_MAX_BYTES ((size_t)256 << 30)
#define MAP_MIN_BYTES ((size_t)1 << 30)

static int open_with(const char *dir, unsigned tables, unsigned flags, size_t map, MDB_env **out)
{
    int rc = mdb_env_create(out);
    if (rc != 0)
        return rc;
    if ((rc = mdb_env_set_maxdbs(*out, tables)) != 0 ||
        (rc = mdb_env_set_mapsize(*out, map)) != 0 ||
        (rc = mdb_env_open(*out, dir, flags | MDB_NOTLS | MDB_NORDAHEAD, 0600)) != 0)
        mdb_env_close(*out);
    return rc;
}

hm_err hm_env_open(const char *dir, unsigned tables, unsigned flags, MDB_env **out)
{
    MDB_env *env = NULL;
    size_t map = MAP_MAX_BYTES;
    int rc, dead = 0;
    HM_TRY(hm_dir_make(dir));
    // valgrind says EINVAL where a kernel says ENOMEM.
    while (((rc = open_with(dir, tables, flags, map, &env)) == ENOMEM || rc == EINVAL) &&
           map > MAP_MIN_BYTES)
        map /= 2;
    if (rc != 0)
        return hm_fail(rc == ENOMEM                                      ? HM_E_NOMEM
                       : rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH ? HM_E_CORRUPT
                                                                         : HM_E_IO,
                       "%s cannot be opened: %s", dir, mdb_strerror(rc));
    if (map < MAP_MAX_BYTES)
        hm_log(HM_LOG_WARN, "mesh", "little address space", "store=%s can_grow_to_gib=%zu", dir,
               map >> 30);
    (void)mdb_reader_check(env, &dead);
    *out = env;
    return HM_OK;
}
