// Private to src/cli: where the commands of `hypermesh log` read a log from, and the newest
// checkpoint of it, checked.
#ifndef HM_CLI_LOG_SOURCE_H
#define HM_CLI_LOG_SOURCE_H

#include "cli/cli.h"
#include "trustchain/log_read.h"
#include "trustchain/witness.h"

#define LOG_TILE_CACHE 16u // tiles kept for proofs

typedef struct log_tile {
    unsigned level;
    uint64_t index;
    hm_buf hashes; // empty: nothing is kept here
} log_tile;

typedef struct log_source {
    char where[300];   // for people
    const char *dir;   // a folder of tiles; NULL: by HTTPS
    const char *below; // what comes before "checkpoint" in a URL
    hm_client client;  // kept open
    tc_log_pub key;    // owned
    hm_buf note;
    tc_checkpoint checkpoint; // in note; the key's, for time_ms
    uint64_t time_ms;
    tc_witness_policy policy;
    unsigned witnesses; // of the policy that cosigned it
    log_tile cache[LOG_TILE_CACHE];
    unsigned next;  // to be put there
    uint64_t tiles; // read
} log_source;

// Reads the key and the newest checkpoint, and checks its signatures: HM_E_SIGNATURE, HM_E_QUORUM.
HM_CHECK hm_err log_source_open(cli *c, log_source *s);
void log_source_close(log_source *s);
// A checkpoint that was kept in a file; the note is its memory. HM_E_SIGNATURE.
HM_CHECK hm_err log_source_kept(const log_source *s, const char *path, hm_buf *note,
                                tc_checkpoint *out, uint64_t *time_ms);
// What of a tile the newest checkpoint covers, in place of what was in out. level TC_TILE_DATA:
// entries. HM_E_NOTFOUND.
HM_CHECK hm_err log_source_tile(log_source *s, unsigned level, uint64_t index, hm_buf *out);
// A tc_log_node of the source: for tc_log_root_at() and the like.
HM_CHECK hm_err log_source_node(void *source, unsigned level, uint64_t index, hm_hash *hash);
// The tree that the log had at a size, of which the root is checked. HM_E_CORRUPT: it is not the
// beginning of the tree that the log has now.
HM_CHECK hm_err log_source_tree(log_source *s, uint64_t size, const hm_hash *root,
                                tc_log_tree *out);
// A file below the log's address, at most max bytes.
HM_CHECK hm_err log_source_file(log_source *s, const char *name, size_t max, hm_buf *out);
// Entry `index`, whose inclusion is proven; it borrows from data.
HM_CHECK hm_err log_source_entry(log_source *s, uint64_t index, hm_buf *data, tc_leaf *out);
// Proves that a leaf stands at index of the checkpoint's tree. HM_E_CORRUPT.
HM_CHECK hm_err log_source_included(log_source *s, uint64_t index, const hm_hash *leaf);

// Each entry from `from` on is read, hashed and pushed to the tree, which has `from` entries; each
// is given to `each` (NULL: to nobody) and every tile that is complete in between is compared. At
// the end the tree's root is the checkpoint's. HM_E_CORRUPT: it is not.
typedef hm_err (*log_each)(void *ctx, uint64_t index, const tc_leaf *leaf, const tc_log_tree *tree);
HM_CHECK hm_err log_source_walk(log_source *s, tc_log_tree *tree, log_each each, void *ctx);

#endif
