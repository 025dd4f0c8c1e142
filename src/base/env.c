#include "base/env.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

// Address space, not memory or disk: the file grows as it fills.
#define MAP_MAX_BYTES ((size_t)256 << 30)
#define MAP_MIN_BYTES ((size_t)1 << 30)
#define FREE_TABLE 0 // LMDB's own, of free pages
#define NAME_MAX_BYTES 64
#define FULL_BYTES 65536u // so little left is nothing

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

// ---- a file that was cut short ------------------------------------------------------------------

// Reads a byte of every page of every value.
static int walk_table(MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *c;
    MDB_val k, v;
    int rc = mdb_cursor_open(txn, dbi, &c);
    for (rc = rc != 0 ? rc : mdb_cursor_get(c, &k, &v, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) {
        const volatile uint8_t *p = v.mv_data;
        for (size_t i = 0; i < v.mv_size; i += 512)
            (void)p[i];
        if (v.mv_size > 0)
            (void)p[v.mv_size - 1];
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int walk(const char *dir, unsigned tables, size_t map)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi names, table;
    MDB_cursor *c;
    MDB_val k, v;
    int rc;
    if ((rc = open_with(dir, tables, MDB_RDONLY | MDB_NOLOCK, map, &env)) != 0 ||
        (rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn)) != 0 ||
        (rc = walk_table(txn, FREE_TABLE)) != 0 || (rc = mdb_dbi_open(txn, NULL, 0, &names)) != 0 ||
        (rc = mdb_cursor_open(txn, names, &c)) != 0)
        return rc;
    while ((rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0) {
        char name[NAME_MAX_BYTES];
        snprintf(name, sizeof name, "%.*s", (int)k.mv_size, (const char *)k.mv_data);
        if ((rc = mdb_dbi_open(txn, name, 0, &table)) != 0 || (rc = walk_table(txn, table)) != 0)
            return rc;
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

// Whether nothing in use is missing. A child looks: what is missing kills it.
static bool readable(const char *dir, unsigned tables, size_t map)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        static const int deadly[] = {SIGBUS, SIGSEGV, SIGABRT};
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
            signal(deadly[i], SIG_DFL);
        (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        (void)dup2(null, STDERR_FILENO);
        _exit(walk(dir, tables, map) == 0 ? 0 : 1);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Bytes up to the last page of the newest commit, and the file's. LMDB writes the pages before the
// commit that names them, so have is at least need unless the end was lost, or its last pages were
// given back in the very transaction that took them, which LMDB then leaves out. Part of a page is
// never left out, and reads as zeros without a signal.
static hm_err check_size(MDB_env *env, const char *dir, unsigned tables, size_t map)
{
    MDB_envinfo info;
    MDB_stat page;
    struct stat st;
    int fd;
    (void)mdb_env_info(env, &info);
    (void)mdb_env_stat(env, &page);
    if (mdb_env_get_fd(env, &fd) != 0 || fstat(fd, &st) != 0)
        return hm_fail(HM_E_IO, "%s: %s", dir, strerror(errno));
    uint64_t need = ((uint64_t)info.me_last_pgno + 1) * page.ms_psize, have = (uint64_t)st.st_size;
    if (have >= need || (have % page.ms_psize == 0 && readable(dir, tables, map)))
        return HM_OK;
    return hm_fail(
        HM_E_CORRUPT,
        "%s/data.mdb was cut short: it has %llu bytes, and its newest commit needs %llu; "
        "put it back from a copy",
        dir, (unsigned long long)have, (unsigned long long)need);
}

bool hm_env_exists(const char *dir)
{
    char path[4200];
    struct stat st;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    return stat(path, &st) == 0 && st.st_size > 0;
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
                                                                         : hm_err_of_write(rc),
                       "%s cannot be opened: %s", dir, mdb_strerror(rc));
    hm_err err = check_size(env, dir, tables, map);
    if (err != HM_OK) {
        mdb_env_close(env);
        return err;
    }
    if (map < MAP_MAX_BYTES)
        hm_log(HM_LOG_WARN, "store", "little address space", "store=%s can_grow_to_gib=%zu", dir,
               map >> 30);
    (void)mdb_reader_check(env, &dead);
    *out = env;
    return HM_OK;
}

int hm_env_commit(MDB_txn *txn)
{
    const char *dir;
    struct statvfs fs;
    MDB_env *env = mdb_txn_env(txn);
    int rc = mdb_txn_commit(txn);
    if (rc == EIO && mdb_env_get_path(env, &dir) == 0 && statvfs(dir, &fs) == 0 &&
        (uint64_t)fs.f_bavail * fs.f_frsize < FULL_BYTES)
        rc = ENOSPC;
    return rc;
}
