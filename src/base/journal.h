// Two files of a fixed size in turn, for what is durable at once and goes to a database later: a
// record is one write in a row to blocks that are there, and one flush. While one file, an epoch,
// goes to the database, the next records go to the other; when the database has it, and says so in
// the same transaction, the file is free for the epoch after next.
//
// journal.0 has the even epochs, journal.1 the odd ones. File: "HMJRNL1", a line feed, 8 random
// bytes, then records {u32 length, u32 CRC-32C of the random bytes and the other fields, u64 epoch,
// u32 number from 0 in the epoch, u32 how many the epoch before had, bytes}, big endian. The random
// bytes are known to nobody whose bytes are in records, so no such bytes are taken for a record.
// What lies after the last record is older or torn, and never read. A damaged record with an intact
// one after it, in its file or the other, is not a torn write but damage to the disk: HM_E_CORRUPT.
//
// A record whose append failed may be there all the same: what comes after must not follow it, so
// hm_journal_mend() first makes it none. A process that ended in between may find it. One thread.
#ifndef HM_BASE_JOURNAL_H
#define HM_BASE_JOURNAL_H

#include "base/base.h"

#define HM_JOURNAL_FILE_BYTES (2u << 20)
#define HM_JOURNAL_RECORD_MAX (HM_JOURNAL_FILE_BYTES - 40u)

typedef struct hm_journal hm_journal;
typedef hm_err (*hm_journal_each)(void *ctx, uint64_t epoch, hm_bytes record);

// Gives every record of the epochs above `applied`, which the database has, oldest first; each's
// error ends the opening. The files are made before the database has its first epoch. HM_E_CORRUPT
// also when one of them or an epoch is missing, HM_E_FULL, HM_E_IO, HM_E_NOMEM.
HM_CHECK hm_err hm_journal_open(const char *dir, uint64_t applied, hm_journal_each each, void *ctx,
                                hm_journal **out);
// The same records beside a process that has the journal open, without writing. `applied` is asked
// for when the files have been read, so that nothing is missed that goes to the database meanwhile.
HM_CHECK hm_err hm_journal_look(const char *dir, hm_err (*applied)(void *ctx, uint64_t *epoch),
                                hm_journal_each each, void *ctx);
void hm_journal_close(hm_journal *j); // NULL is fine

// Of the records to come; at first the newest that was found, or the one after `applied`.
uint64_t hm_journal_epoch(const hm_journal *j);
// Bytes of a record that still fits into this epoch.
size_t hm_journal_room(const hm_journal *j);
// Before an append or a turn: nothing unless the last append failed. HM_E_FULL, HM_E_IO.
HM_CHECK hm_err hm_journal_mend(hm_journal *j);
// Durable when it returns HM_OK. HM_E_LIMIT when it does not fit.
HM_CHECK hm_err hm_journal_append(hm_journal *j, hm_bytes record);
// Begins the next epoch, whose file the database must have the last epoch of.
void hm_journal_turn(hm_journal *j);

#endif
