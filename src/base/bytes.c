#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int hm_bytes_cmp(hm_bytes a, hm_bytes b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    if (c != 0)
        return c;
    return (a.len > b.len) - (a.len < b.len);
}

void hm_buf_free(hm_buf *b)
{
    if (!b->fixed)
        free(b->ptr);
    *b = (hm_buf){0};
}

void hm_buf_free_secret(hm_buf *b)
{
    if (b->ptr)
        hm_zero(b->ptr, b->cap);
    hm_buf_free(b);
}

uint8_t *hm_buf_reserve(hm_buf *b, size_t n)
{
    if (b->status != HM_OK)
        return NULL;
    if (n <= b->cap - b->len && b->ptr)
        return b->ptr + b->len;
    if (b->fixed) {
        b->status = HM_E_LIMIT;
        return NULL;
    }
    if (n > SIZE_MAX / 4 || b->len > SIZE_MAX / 4) {
        b->status = HM_E_NOMEM;
        return NULL;
    }
    size_t cap = b->cap ? b->cap : 64;
    while (cap - b->len < n)
        cap *= 2;
    uint8_t *p = realloc(b->ptr, cap);
    if (!p) {
        b->status = HM_E_NOMEM;
        return NULL;
    }
    b->ptr = p;
    b->cap = cap;
    return p + b->len;
}

void hm_buf_append(hm_buf *b, const void *ptr, size_t len)
{
    if (len == 0)
        return;
    uint8_t *p = hm_buf_reserve(b, len);
    if (!p)
        return;
    memcpy(p, ptr, len);
    b->len += len;
}

void hm_buf_printf(hm_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    hm_assert(n >= 0);
    uint8_t *p = hm_buf_reserve(b, (size_t)n + 1);
    if (p) {
        vsnprintf((char *)p, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

const char *hm_buf_cstr(hm_buf *b)
{
    uint8_t *p = hm_buf_reserve(b, 1);
    if (!p)
        return "";
    *p = 0;
    return (const char *)b->ptr;
}

static const char hex_digits[] = "0123456789abcdef";

void hm_hex(char *out, const void *ptr, size_t len)
{
    const uint8_t *p = ptr;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = hex_digits[p[i] >> 4];
        out[2 * i + 1] = hex_digits[p[i] & 15];
    }
    out[2 * len] = 0;
}

void hm_buf_hex(hm_buf *b, hm_bytes s)
{
    uint8_t *p = hm_buf_reserve(b, 2 * s.len + 1);
    if (!p)
        return;
    hm_hex((char *)p, s.ptr, s.len);
    b->len += 2 * s.len;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

hm_err hm_unhex(void *out, size_t len, const char *hex, size_t hex_len)
{
    if (hex_len != 2 * len)
        return hm_fail(HM_E_PARSE, "%zu hex digits where %zu are needed", hex_len, 2 * len);
    for (size_t i = 0; i < hex_len; i++) {
        if (hex_value(hex[i]) < 0)
            return hm_fail(HM_E_PARSE, "character %zu is not a hex digit", i + 1);
    }
    uint8_t *p = out;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)(hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
    return HM_OK;
}

void hm_zero(void *ptr, size_t len)
{
    explicit_bzero(ptr, len);
}

bool hm_equal_ct(const void *a, const void *b, size_t len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t d = 0;
    for (size_t i = 0; i < len; i++)
        d |= (uint8_t)(x[i] ^ y[i]);
    return d == 0;
}

hm_err hm_file_read(const char *path, size_t max_bytes, hm_buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            return hm_fail(HM_E_NOTFOUND, "%s: no such file", path);
        return hm_fail(HM_E_IO, "%s: %s", path, strerror(errno));
    }
    hm_err err = HM_OK;
    size_t start = out->len;
    for (;;) {
        uint8_t *p = hm_buf_reserve(out, 65536);
        if (!p) {
            err = out->status;
            break;
        }
        ssize_t n = read(fd, p, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err = hm_fail(HM_E_IO, "%s: %s", path, strerror(errno));
            break;
        }
        if (n == 0)
            break;
        out->len += (size_t)n;
        if (out->len - start > max_bytes) {
            err = hm_fail(HM_E_LIMIT, "%s: larger than %zu bytes", path, max_bytes);
            break;
        }
    }
    close(fd);
    if (err != HM_OK)
        out->len = start;
    return err;
}

// systemd gives a service its credentials as root's files with an ACL for the service's user
// (LoadCredential= of systemd.exec(5)); the group's bits are then that ACL's mask (acl(5)), and no
// group reads them.
static bool is_credential(const char *path)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    size_t n = dir ? strlen(dir) : 0;
    return n > 0 && strncmp(path, dir, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

hm_err hm_file_read_secret(const char *path, size_t max_bytes, hm_buf *out)
{
    struct stat st;
    const mode_t others = is_credential(path) ? 07 : 077;
    if (stat(path, &st) == 0 && st.st_mode & others)
        return hm_fail(HM_E_DENIED, "%s can be read by others (mode %03o); chmod 600 it", path,
                       st.st_mode & 0777u);
    return hm_file_read(path, max_bytes, out);
}

static hm_err write_all(int fd, const char *path, hm_bytes data)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.ptr, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return hm_fail(hm_err_of_write(errno), "%s: %s", path, strerror(errno));
        data.ptr += n;
        data.len -= (size_t)n;
    }
    if (fsync(fd) != 0)
        return hm_fail(hm_err_of_write(errno), "%s: fsync: %s", path, strerror(errno));
    return HM_OK;
}

static hm_err sync_folder_of(const char *path)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash)
        strcpy(dir, ".");
    else if (slash == dir)
        dir[1] = 0;
    else
        *slash = 0;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return hm_fail(HM_E_IO, "%s: %s", dir, strerror(errno));
    int rc = fsync(fd);
    int saved = errno;
    close(fd);
    if (rc != 0)
        return hm_fail(HM_E_IO, "%s: fsync: %s", dir, strerror(saved));
    return HM_OK;
}

hm_err hm_file_write(const char *path, hm_bytes data, unsigned mode)
{
    char tmp[4096];
    int n = snprintf(tmp, sizeof tmp, "%s.tmp.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof tmp)
        return hm_fail(HM_E_INVALID, "path longer than %zu bytes", sizeof tmp);
    int fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0)
        return hm_fail(hm_err_of_write(errno), "%s: %s", tmp, strerror(errno));
    hm_err err = write_all(fd, tmp, data);
    if (err == HM_OK && fchmod(fd, (mode_t)mode) != 0)
        err = hm_fail(HM_E_IO, "%s: chmod: %s", tmp, strerror(errno));
    if (close(fd) != 0 && err == HM_OK)
        err = hm_fail(hm_err_of_write(errno), "%s: %s", tmp, strerror(errno));
    if (err == HM_OK && rename(tmp, path) != 0)
        err = hm_fail(hm_err_of_write(errno), "%s: %s", path, strerror(errno));
    if (err != HM_OK) {
        unlink(tmp);
        return err;
    }
    return sync_folder_of(path);
}

hm_err hm_dir_lock(const char *path, int *fd)
{
    char file[4096];
    int n = snprintf(file, sizeof file, "%s/lock", path);
    if (n <= 0 || (size_t)n >= sizeof file)
        return hm_fail(HM_E_INVALID, "unusable path");
    int lock = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0)
        return hm_fail(errno == ENOENT ? HM_E_NOTFOUND : hm_err_of_write(errno), "%s: %s", file,
                       strerror(errno));
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        close(lock);
        return hm_fail(HM_E_BUSY, "%s is in use by another process", path);
    }
    *fd = lock;
    return HM_OK;
}

hm_err hm_dir_make(const char *path)
{
    char dir[4096];
    int n = snprintf(dir, sizeof dir, "%s", path);
    if (n <= 0 || (size_t)n >= sizeof dir)
        return hm_fail(HM_E_INVALID, "unusable path");
    for (char *p = dir + 1;; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char c = *p;
        *p = 0;
        if (mkdir(dir, 0700) != 0 && errno != EEXIST)
            return hm_fail(hm_err_of_write(errno), "%s: %s", dir, strerror(errno));
        *p = c;
        if (c == 0)
            break;
    }
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return hm_fail(HM_E_IO, "%s: not a directory", path);
    return HM_OK;
}
