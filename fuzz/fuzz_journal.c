// A journal's file, and the changes of its records: opening never crashes, gives the same records
// each time, and takes appends after them. The input lies at the front of the file.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/changes.h"
#include "base/journal.h"
#include "base/wire.h"

#define TABLES 8

static char dir[] = "/dev/shm/hm-fuzz-journal-XXXXXX", path[64];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void clean(void)
{
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/journal.%u", dir, i);
        unlink(path);
    }
    rmdir(dir);
}

static hm_err each(void *ctx, uint64_t epoch, hm_bytes record)
{
    hm_changes changes = {0};
    hm_buf again = {0};
    hm_wr_u64(ctx, epoch);
    hm_wr_bytes(ctx, record);
    if (hm_changes_read(&changes, record, TABLES) == HM_OK) {
        hm_changes back = {0};
        hm_changes_write(&changes, &again);
        hm_assert(hm_changes_read(&back, hm_buf_bytes(&again), TABLES) == HM_OK);
        hm_assert(back.count == changes.count);
        hm_changes_clear(&back);
    }
    hm_buf_free(&again);
    hm_changes_clear(&changes);
    return HM_OK;
}

static hm_err reopen(hm_buf *all, hm_journal **j)
{
    hm_journal_close(*j);
    *j = NULL;
    hm_buf_reset(all);
    return hm_journal_open(dir, 0, each, all, j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[HM_JOURNAL_FILE_BYTES];
    hm_buf first = {0}, second = {0};
    hm_journal *j = NULL;
    hm_log_set_level(HM_LOG_ERROR);
    if (size > sizeof file)
        return 0;
    if (path[0] == 0 && (!mkdtemp(dir) || atexit(clean) != 0))
        abort();
    snprintf(path, sizeof path, "%s/journal.1", dir);
    memset(file, 0, sizeof file);
    memcpy(file, data, size);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(file, 1, sizeof file, f) != sizeof file || fclose(f) != 0)
        abort();
    if (reopen(&first, &j) == HM_OK) {
        hm_assert(reopen(&second, &j) == HM_OK);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&first), hm_buf_bytes(&second)));
        if (hm_journal_append(j, hm_bytes_str("more")) == HM_OK) {
            hm_wr_u64(&first, hm_journal_epoch(j));
            hm_wr_bytes(&first, hm_bytes_str("more"));
        }
        hm_assert(reopen(&second, &j) == HM_OK);
        hm_assert(hm_bytes_eq(hm_buf_bytes(&first), hm_buf_bytes(&second)));
    }
    hm_journal_close(j);
    hm_buf_free(&first);
    hm_buf_free(&second);
    return 0;
}
