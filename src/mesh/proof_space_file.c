#include "mesh/proof_space_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char MAGIC[8] = "HMSECT01";

struct hm_space_sector {
    int fd;
    char *path; // owned, for messages
    hm_space_info info;
    hm_buf seal; // the parts as stored
};

// ---- writing ------------------------------------------------------------------------------------

static hm_err write_all(int fd, const char *path, const void *ptr, size_t len)
{
    const uint8_t *at = ptr;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hm_fail(hm_err_of_write(errno), "%s: cannot write: %s%s", path, strerror(errno),
                           errno == ENOSPC ? " (free some space or choose a smaller sector)" : "");
        at += n;
        len -= (size_t)n;
    }
    return HM_OK;
}

static void header_write(hm_buf *b, const hm_space_info *info, hm_bytes seal)
{
    hm_wr_raw(b, MAGIC, sizeof MAGIC);
    hm_space_params_write(b, &info->params);
    hm_wr_raw(b, info->node.b, 32);
    hm_wr_u32(b, info->sector);
    hm_space_commitment_write(b, &info->commitment);
    hm_wr_u64(b, seal.len);
    hm_hash h = hm_sha256(seal);
    hm_wr_raw(b, h.b, 32);
    h = hm_sha256(hm_buf_bytes(b));
    hm_wr_raw(b, h.b, 32);
}

static hm_err dir_sync(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash ? snprintf(dir, sizeof dir, "%.*s", (int)(slash - path) + 1, path)
                  : snprintf(dir, sizeof dir, ".");
    if (n < 0 || (size_t)n >= sizeof dir)
        return hm_fail(HM_E_INVALID, "%s: path too long", path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return hm_fail(HM_E_IO, "%s: %s", dir, strerror(errno));
    int rc = fsync(fd), saved = errno;
    close(fd);
    return rc == 0 ? HM_OK : hm_fail(HM_E_IO, "%s: cannot sync: %s", dir, strerror(saved));
}

hm_err space_file_write(const char *path, const hm_space_info *info, const hm_hash *labels,
                        const hm_hash *rows, hm_bytes seal)
{
    char tmp[PATH_MAX];
    int n = snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof tmp)
        return hm_fail(HM_E_INVALID, "%s: path too long", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return hm_fail(hm_err_of_write(errno), "%s: cannot create: %s", tmp, strerror(errno));
    hm_err err;
    uint8_t header[SPACE_HEADER_BYTES] = {0};
    hm_buf b = hm_buf_fixed(header, sizeof header);
    header_write(&b, info, seal);
    hm_assert(hm_buf_status(&b) == HM_OK);
    HM_TRY_OUT(write_all(fd, tmp, header, sizeof header));
    HM_TRY_OUT(write_all(fd, tmp, labels, hm_space_size_bytes(&info->params)));
    HM_TRY_OUT(write_all(fd, tmp, rows, 32 * space_rows_count(&info->params)));
    HM_TRY_OUT(write_all(fd, tmp, seal.ptr, seal.len));
    if (fsync(fd) != 0) {
        err = hm_fail(hm_err_of_write(errno), "%s: cannot sync: %s", tmp, strerror(errno));
        goto out;
    }
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) != 0) {
        err = errno == EEXIST ? hm_fail(HM_E_EXISTS, "%s: a sector is there already", path)
                              : hm_fail(HM_E_IO, "%s: cannot rename: %s", tmp, strerror(errno));
        goto out;
    }
    err = dir_sync(path);
out:
    close(fd);
    if (err != HM_OK)
        unlink(tmp);
    return err;
}

// ---- reading ------------------------------------------------------------------------------------

static hm_err read_at(hm_space_sector *s, uint64_t offset, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t n = pread(s->fd, at, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hm_fail(HM_E_IO, "%s: cannot read: %s", s->path, strerror(errno));
        if (n == 0)
            return hm_fail(HM_E_CORRUPT, "%s: ends too early; seal the sector again", s->path);
        at += n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return HM_OK;
}

static hm_err header_read(hm_space_sector *s, uint64_t *seal_len, hm_hash *seal_hash)
{
    uint8_t header[SPACE_HEADER_BYTES];
    HM_TRY(read_at(s, 0, header, sizeof header));
    hm_rd r = hm_rd_of(hm_bytes_of(header, sizeof header));
    hm_bytes magic = hm_rd_raw(&r, sizeof MAGIC);
    if (memcmp(magic.ptr, MAGIC, sizeof MAGIC) != 0)
        return hm_fail(HM_E_CORRUPT, "%s: not a sector file", s->path);
    hm_space_params_read(&r, &s->info.params);
    hm_rd_copy(&r, s->info.node.b, 32);
    s->info.sector = hm_rd_u32(&r);
    hm_space_commitment_read(&r, &s->info.commitment);
    *seal_len = hm_rd_u64(&r);
    hm_rd_copy(&r, seal_hash->b, 32);
    hm_hash want, have = hm_sha256(hm_bytes_of(header, sizeof header - r.left));
    hm_rd_copy(&r, want.b, 32);
    if (!hm_rd_ok(&r) || memcmp(want.b, have.b, 32) != 0 || *seal_len > SPACE_SEAL_MAX)
        return hm_fail(HM_E_CORRUPT, "%s: the header is damaged; seal the sector again", s->path);
    return HM_OK;
}

static hm_err sector_load(hm_space_sector *s)
{
    uint64_t seal_len = 0;
    hm_hash want = {0};
    HM_TRY(header_read(s, &seal_len, &want));
    uint64_t seal_at = space_seal_offset(&s->info.params);
    struct stat st;
    if (fstat(s->fd, &st) != 0)
        return hm_fail(HM_E_IO, "%s: %s", s->path, strerror(errno));
    if ((uint64_t)st.st_size != seal_at + seal_len)
        return hm_fail(HM_E_CORRUPT, "%s: has %llu bytes instead of %llu; seal the sector again",
                       s->path, (unsigned long long)st.st_size,
                       (unsigned long long)(seal_at + seal_len));
    uint8_t *at = hm_buf_reserve(&s->seal, seal_len);
    if (!at)
        return hm_buf_status(&s->seal);
    HM_TRY(read_at(s, seal_at, at, seal_len));
    s->seal.len = seal_len;
    hm_hash have = hm_sha256(hm_buf_bytes(&s->seal));
    if (memcmp(want.b, have.b, 32) != 0)
        return hm_fail(HM_E_CORRUPT, "%s: the seal proof is damaged; seal the sector again",
                       s->path);
    return HM_OK;
}

hm_err hm_space_open(const char *path, hm_space_sector **out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? hm_fail(HM_E_NOTFOUND, "%s: no such sector", path)
                               : hm_fail(HM_E_IO, "%s: %s", path, strerror(errno));
    hm_space_sector *s = calloc(1, sizeof *s);
    if (s)
        s->path = strdup(path);
    if (!s || !s->path) {
        free(s);
        close(fd);
        return HM_E_NOMEM;
    }
    s->fd = fd;
    hm_err err = sector_load(s);
    if (err != HM_OK) {
        hm_space_close(s);
        return err;
    }
    *out = s;
    return HM_OK;
}

void hm_space_close(hm_space_sector *s)
{
    if (!s)
        return;
    close(s->fd);
    hm_buf_free(&s->seal);
    free(s->path);
    free(s);
}

const hm_space_info *hm_space_sector_info(const hm_space_sector *s)
{
    return &s->info;
}

hm_err hm_space_sector_seal_part(hm_space_sector *s, uint32_t part, hm_buf *out)
{
    if (part >= hm_space_seal_parts(&s->info.params))
        return hm_fail(HM_E_RANGE, "seal part %u of %u", part,
                       hm_space_seal_parts(&s->info.params));
    hm_rd r = hm_rd_of(hm_buf_bytes(&s->seal));
    hm_bytes b = {0};
    for (uint32_t i = 0; i <= part; i++)
        b = hm_rd_bytes(&r, HM_SPACE_PART_MAX);
    if (!hm_rd_ok(&r))
        return hm_fail(HM_E_CORRUPT, "%s: the seal proof is damaged; seal the sector again",
                       s->path);
    hm_buf_put(out, b);
    return hm_buf_status(out);
}

// Label and path of one leaf, checked against the root.
static hm_err opening(hm_space_sector *s, uint32_t index, uint8_t *out)
{
    const hm_space_params *p = &s->info.params;
    hm_hash row[1u << SPACE_ROW_SKIP];
    uint32_t group = 1u << SPACE_ROW_SKIP, at = index % group;
    HM_TRY(read_at(s, SPACE_HEADER_BYTES + 32 * (uint64_t)(index - at), row, sizeof row));
    memcpy(out, row[at].b, 32);
    uint8_t *path = out + 32;
    for (uint32_t i = 0; i < group; i++)
        row[i] = space_leaf(row[i].b, 32);
    for (uint32_t n = group; n > 1; n /= 2, at /= 2, path += 32) {
        memcpy(path, row[at ^ 1].b, 32);
        for (uint32_t i = 0; i < n / 2; i++)
            row[i] = space_node(&row[2 * i], &row[2 * i + 1]);
    }
    for (uint32_t level = SPACE_ROW_SKIP; level < p->nodes_log2; level++, path += 32) {
        uint64_t node = space_row_start(p, level) + ((index >> level) ^ 1);
        HM_TRY(read_at(s, space_rows_offset(p) + 32 * node, path, 32));
    }
    hm_hash root = space_path_root(space_leaf(out, 32), index, out + 32, p->nodes_log2);
    if (memcmp(root.b, s->info.commitment.labels.b, 32) != 0)
        return hm_fail(HM_E_CORRUPT, "%s: label %u or its path is damaged; seal the sector again",
                       s->path, index);
    return HM_OK;
}

hm_err hm_space_answer(hm_space_sector *s, const hm_hash *seed, hm_buf *out)
{
    const hm_space_params *p = &s->info.params;
    hm_hash replica = space_replica_id(p, &s->info.node, s->info.sector);
    hm_hash picks = space_answer_seed(&replica, &s->info.commitment, seed);
    size_t each = 32 * (1u + (size_t)p->nodes_log2), len = hm_space_answer_bytes(p);
    uint8_t *at = hm_buf_reserve(out, len);
    if (!at)
        return hm_buf_status(out);
    for (uint32_t i = 0; i < p->answer_challenges; i++, at += each)
        HM_TRY(opening(s, space_answer_challenge(p, &picks, i), at));
    out->len += len;
    return HM_OK;
}

// The tree is built again, a group of 8 labels at a time, and each stored row compared.
hm_err hm_space_scrub(hm_space_sector *s)
{
    const hm_space_params *p = &s->info.params;
    uint64_t groups = space_nodes(p) >> SPACE_ROW_SKIP;
    hm_hash *row = malloc(groups * sizeof *row), stored;
    if (!row)
        return hm_fail(HM_E_NOMEM, "no memory for %llu hashes", (unsigned long long)groups);
    hm_err err = HM_OK;
    for (uint64_t g = 0; g < groups; g++) {
        hm_hash label[1u << SPACE_ROW_SKIP];
        HM_TRY_OUT(read_at(s, SPACE_HEADER_BYTES + g * sizeof label, label, sizeof label));
        for (uint32_t i = 0; i < 1u << SPACE_ROW_SKIP; i++)
            label[i] = space_leaf(label[i].b, 32);
        for (uint32_t n = 1u << SPACE_ROW_SKIP; n > 1; n /= 2)
            for (uint32_t i = 0; i < n / 2; i++)
                label[i] = space_node(&label[2 * i], &label[2 * i + 1]);
        row[g] = label[0];
    }
    for (uint32_t level = SPACE_ROW_SKIP; level <= p->nodes_log2; level++) {
        uint64_t n = space_nodes(p) >> level;
        for (uint64_t i = 0; i < n; i++) {
            if (level > SPACE_ROW_SKIP)
                row[i] = space_node(&row[2 * i], &row[2 * i + 1]);
            HM_TRY_OUT(read_at(s, space_rows_offset(p) + 32 * (space_row_start(p, level) + i),
                               stored.b, 32));
            if (memcmp(stored.b, row[i].b, 32) != 0) {
                err =
                    hm_fail(HM_E_CORRUPT,
                            "%s: damaged in labels %llu..%llu or their tree; seal the sector again",
                            s->path, (unsigned long long)(i << level),
                            (unsigned long long)(((i + 1) << level) - 1));
                goto out;
            }
        }
    }
    if (memcmp(row[0].b, s->info.commitment.labels.b, 32) != 0)
        err = hm_fail(HM_E_CORRUPT, "%s: the labels do not match their root", s->path);
out:
    free(row);
    return err;
}
