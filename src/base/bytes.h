// Byte strings: a view (hm_bytes, borrowed) and a growing buffer (hm_buf, owned).
#ifndef HM_BASE_BYTES_H
#define HM_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

static inline bool hm_bytes_eq(hm_bytes a, hm_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
// Order by content, then by length: <0, 0, >0.
int hm_bytes_cmp(hm_bytes a, hm_bytes b);

// A growing buffer. Zero-initialised is empty and valid. Growth failure is sticky: further appends
// do nothing and hm_buf_status() says HM_E_NOMEM (or HM_E_LIMIT for a fixed buffer), so a writer
// checks once at the end.
typedef struct hm_buf {
    uint8_t *ptr; // owned unless fixed
    size_t len;
    size_t cap;
    bool fixed;    // ptr is the caller's memory and never grows
    hm_err status; // first failure
} hm_buf;

// A buffer over the caller's memory; hm_buf_free() leaves the memory alone.
static inline hm_buf hm_buf_fixed(void *mem, size_t cap)
{
    return (hm_buf){.ptr = (uint8_t *)mem, .cap = cap, .fixed = true};
}
void hm_buf_free(hm_buf *b);
// As hm_buf_free(), but the bytes are zeroed first.
void hm_buf_free_secret(hm_buf *b);
static inline void hm_buf_reset(hm_buf *b)
{
    b->len = 0;
    b->status = HM_OK;
}
static inline hm_bytes hm_buf_bytes(const hm_buf *b)
{
    return hm_bytes_of(b->ptr, b->len);
}
static inline hm_err hm_buf_status(const hm_buf *b)
{
    return b->status;
}
// Room for n more bytes, or NULL (sticky failure). The bytes count only after b->len is raised.
uint8_t *hm_buf_reserve(hm_buf *b, size_t n);
void hm_buf_append(hm_buf *b, const void *ptr, size_t len);
static inline void hm_buf_put(hm_buf *b, hm_bytes s)
{
    hm_buf_append(b, s.ptr, s.len);
}
static inline void hm_buf_puts(hm_buf *b, const char *s)
{
    hm_buf_append(b, s, strlen(s));
}
void hm_buf_printf(hm_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// The content as a C string (a NUL is kept after the bytes, not counted); "" on failure.
const char *hm_buf_cstr(hm_buf *b);

// Hexadecimal, lower case. out has 2*len+1 bytes.
void hm_hex(char *out, const void *ptr, size_t len);
void hm_buf_hex(hm_buf *b, hm_bytes s);
// Exactly len bytes from 2*len hex digits (either case); HM_E_PARSE otherwise.
HM_CHECK hm_err hm_unhex(void *out, size_t len, const char *hex, size_t hex_len);

// Zeroes memory in a way that the compiler keeps.
void hm_zero(void *ptr, size_t len);
// Equality in time that depends on len only.
bool hm_equal_ct(const void *a, const void *b, size_t len);

// A whole file. max_bytes is a limit: HM_E_LIMIT above it, HM_E_NOTFOUND, HM_E_IO. Appends to out.
HM_CHECK hm_err hm_file_read(const char *path, size_t max_bytes, hm_buf *out);
// The same for a file with a secret: HM_E_DENIED when others than its owner may read it. The group
// may in $CREDENTIALS_DIRECTORY, where systemd puts what a service is given.
HM_CHECK hm_err hm_file_read_secret(const char *path, size_t max_bytes, hm_buf *out);
// Replaces a file atomically and durably: temporary beside it, fsync, rename, fsync of the folder.
HM_CHECK hm_err hm_file_write(const char *path, hm_bytes data, unsigned mode);
// mkdir -p with mode 0700 for what is made.
HM_CHECK hm_err hm_dir_make(const char *path);
// Keeps other processes off a folder: an exclusive lock on path/lock, held while *fd is open and
// ended with close() or with the process. HM_E_BUSY when another process has it; HM_E_IO.
HM_CHECK hm_err hm_dir_lock(const char *path, int *fd);

#endif
