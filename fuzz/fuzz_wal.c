// A log file: opening never crashes, gives the same records each time, and takes appends after
// them; what was cut off is gone for good.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hm_err each(void *ctx, hm_bytes record)
{
    hm_buf *all = ctx;
    hm_wr_bytes(all, record);
    return HM_OK;
}

static hm_err reopen(const char *path, hm_buf *all, hm_wal **out)
{
    hm_buf_reset(all);
    return hm_wal_open(path, each, all, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    hm_buf first = {0}, second = {0};
    hm_wal *w = NULL;
    int fd = memfd_create("wal", 0);
    hm_log_set_level(HM_LOG_ERROR);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (reopen(path, &first, &w) == HM_OK) {
        hm_wal_close(w);
        w = NULL;
        hm_assert(reopen(path, &second, &w) == HM_OK);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&first), hm_buf_bytes(&second)));
        hm_assert(hm_wal_append(w, hm_bytes_str("more")) == HM_OK);
        hm_wal_close(w);
        w = NULL;
        hm_wr_bytes(&first, hm_bytes_str("more"));
        hm_assert(reopen(path, &second, &w) == HM_OK);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&first), hm_buf_bytes(&second)));
        hm_wal_close(w);
    }
    close(fd);
    hm_buf_free(&first);
    hm_buf_free(&second);
    return 0;
}
