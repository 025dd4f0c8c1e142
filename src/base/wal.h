// A write-ahead log of small records: what was appended with sync is there after a crash at any
// instant; a record torn by a crash at the end of the file is cut off at the next open.
//
// File: "HMWAL1\0\0", then records {u32 length, u32 CRC-32C of length and bytes, bytes}, big
// endian. A damaged record that is followed by an intact one is not a torn write but damage to the
// disk: open refuses with HM_E_CORRUPT instead of forgetting votes. One thread.
#ifndef HM_BASE_WAL_H
#define HM_BASE_WAL_H

#include "base/base.h"

#define HM_WAL_RECORD_MAX (8u << 20)

typedef struct hm_wal hm_wal;

// Opens or makes the log and gives every record, oldest first; each's error ends the open.
HM_CHECK hm_err hm_wal_open(const char *path, hm_err (*each)(void *ctx, hm_bytes record), void *ctx,
                            hm_wal **out);
// Durable when it returns HM_OK. After an error the log refuses further appends, since what is on
// disk is not known; the process must restart.
HM_CHECK hm_err hm_wal_append(hm_wal *w, hm_bytes record);
// Replaces the whole content by these records, atomically.
HM_CHECK hm_err hm_wal_rewrite(hm_wal *w, const hm_bytes *records, size_t count);
uint64_t hm_wal_size_bytes(const hm_wal *w);
void hm_wal_close(hm_wal *w);

#endif
