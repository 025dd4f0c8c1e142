// What a crash leaves of a file, and chance: this program's own fsync(), fdatasync() and
// getrandom() stand before those of the C library, for everything that is linked into it.
#include <errno.h>
#include <ftw.h>
#include <openssl/rand.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim_internal.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations" // RAND_METHOD: the only whole seam

static uint64_t syncs;
static bool sync_fails;
static hm_prng os_rng;

uint64_t sim_os_syncs(void)
{
    return syncs;
}

void sim_os_fail_sync(bool fail)
{
    sync_fails = fail;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    (void)fd;
    if (sync_fails) {
        errno = EIO;
        return -1;
    }
    syncs++;
    return 0;
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return fdatasync(fd);
}

__attribute__((visibility("default"))) ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
    (void)flags;
    const hm_random r = hm_random_prng(&os_rng);
    hm_random_fill(&r, buf, len);
    return (ssize_t)len;
}

static int rand_bytes(unsigned char *buf, int len)
{
    return getrandom(buf, (size_t)len, 0) == len;
}

static int rand_ready(void)
{
    return 1;
}

void sim_os_seed(uint64_t seed)
{
    static const RAND_METHOD method = {
        .bytes = rand_bytes, .pseudorand = rand_bytes, .status = rand_ready};
    hm_assert(RAND_set_rand_method(&method) == 1);
    hm_prng_seed(&os_rng, seed ^ UINT64_C(0x6f73));
}

// Of what was not synced any first part may be there, with any of its bytes never written.
void sim_disk_tear(sim *s, const char *path, uint64_t synced)
{
    struct stat st;
    hm_buf content = {0};
    hm_assert(stat(path, &st) == 0 && (uint64_t)st.st_size >= synced);
    uint64_t keep = sim_between(s, synced, (uint64_t)st.st_size);
    s->r.torn++;
    sim_note(s, "torn", 0, UINT32_MAX, synced, keep, NULL);
    hm_assert(truncate(path, (off_t)keep) == 0);
    if (keep == synced || !sim_chance(s, 400000))
        return;
    sim_must(hm_file_read(path, SIZE_MAX / 8, &content), "file");
    uint64_t from = sim_between(s, synced, keep - 1), to = sim_between(s, from + 1, keep);
    bool zero = sim_chance(s, 500000);
    for (uint64_t i = from; i < to; i++)
        content.ptr[i] = zero ? 0 : (uint8_t)hm_prng_next(&s->rng);
    sim_must(hm_file_write(path, hm_buf_bytes(&content), 0600), "file");
    hm_buf_free(&content);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void sim_disk_remove(const char *dir)
{
    (void)nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
