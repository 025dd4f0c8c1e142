// Contents of assets: chunks stored under their SHA-256, manifests under the root of a commitment.
//
// A manifest is the list of a content's chunk hashes, 32 bytes each; its root is the RFC 9162 tree
// over leaves that are these hashes. What is stored is checked on the way in and again on every
// read.
//
// What is stored was uploaded by some member, and counts towards that member's limit until an asset
// on the ledger refers to its content: then hm_content_keep() is told of it, and it stays. What no
// asset refers to is collected some time later. A content that an asset refers to and whose
// manifest is not here is wanted: of such a content it is not known which chunks are its own, so
// for a while nothing is collected.
//
// Writes are gathered in memory and written in one transaction by hm_content_sync(): what was put
// before it began is durable when it returned HM_OK, and may be missing when it did not. Reads see
// what was put at once. Everything belongs to one thread, but for hm_content_sync_run(), which is
// where all writing and waiting for the disk is done: on any thread, while the owner goes on.
#ifndef HM_MESH_CONTENT_H
#define HM_MESH_CONTENT_H

#include "mesh/asset.h"

#define HM_CONTENT_CHUNK_MAX (1u << 20)
#define HM_CONTENT_MANIFEST_MAX (1u << 20) // so a content has at most 32,768 chunks
#define HM_CONTENT_MEMBERS_MAX 100u
#define HM_CONTENT_ENTRY_MIN 4096u       // what a small one counts as: it takes a page
#define HM_CONTENT_QUEUE_MAX (64u << 20) // bytes of others that wait for the disk

typedef struct hm_content hm_content;

typedef struct hm_content_config {
    const char *dir;
    uint64_t reserve_bytes; // so much of the disk is left to others, the ledger above all
    uint64_t upload_bytes;  // what a member may upload that no asset refers to; 0 = no limit
    uint32_t self; // the member whose uploads are never turned away because the disk is slow
    bool no_sync;  // tests only
} hm_content_config;

HM_CHECK hm_err hm_content_open(const hm_content_config *cfg, hm_content **out);
// No sync may be running. NULL is fine; unsynced writes are dropped.
void hm_content_close(hm_content *c);

// Storing what is there already is cheap, and makes it stay for as long as if it were new.
// HM_E_CHUNK_HASH when the bytes are not those of the hash (of the root, for a manifest). HM_E_FULL
// when the disk is full up to the reserve, or the member's limit is reached. HM_E_BUSY when too
// much waits for the disk.
HM_CHECK hm_err hm_content_put(hm_content *c, const hm_hash *hash, hm_bytes chunk, uint32_t member,
                               uint64_t now_ms);
HM_CHECK hm_err hm_content_put_manifest(hm_content *c, const hm_hash *root, hm_bytes manifest,
                                        uint32_t member, uint64_t now_ms);
// An asset refers to this content: it stays.
HM_CHECK hm_err hm_content_keep(hm_content *c, const hm_commitment *content, uint64_t now_ms);
// All assets up to this one (hm_asset.seq) were told of; durable with what was told before.
HM_CHECK hm_err hm_content_followed_set(hm_content *c, uint64_t seq);
uint64_t hm_content_followed(const hm_content *c); // durable
// Takes away what no asset refers to and was put before now - grace; twice as long while a content
// is wanted. Cheap when there is nothing to do.
HM_CHECK hm_err hm_content_collect(hm_content *c, uint64_t now_ms, uint64_t grace_ms);

// ---- to disk ------------------------------------------------------------------------------------

bool hm_content_dirty(const hm_content *c); // something waits to be written
// begin, run, end.
HM_CHECK hm_err hm_content_sync(hm_content *c);
void hm_content_sync_begin(hm_content *c); // not while one is running (asserted)
void hm_content_sync_run(hm_content *c);   // on any thread
HM_CHECK hm_err hm_content_sync_end(hm_content *c);

// ---- reading ------------------------------------------------------------------------------------

// Appends. HM_E_NOTFOUND; HM_E_CHUNK_HASH when the stored bytes are damaged (they are removed).
HM_CHECK hm_err hm_content_get(hm_content *c, const hm_hash *hash, hm_buf *out);
HM_CHECK hm_err hm_content_get_manifest(hm_content *c, const hm_hash *root, hm_buf *out);
// The hash of chunk `index` in a manifest that is here. HM_E_NOTFOUND.
HM_CHECK hm_err hm_content_chunk_at(hm_content *c, const hm_hash *root, uint32_t index,
                                    hm_hash *chunk);
bool hm_content_has(hm_content *c, const hm_hash *hash);
bool hm_content_has_manifest(hm_content *c, const hm_hash *root);
// Does an asset that this store was told of refer to it, as a chunk or a manifest?
bool hm_content_is_kept(hm_content *c, const hm_hash *hash);
// Synced chunks that assets refer to, after `after` (NULL: from the first), at most max; returns
// how many.
size_t hm_content_list(hm_content *c, bool manifests, const hm_hash *after, hm_hash *out,
                       size_t max);
// The first wanted content whose root is after `after`. HM_E_NOTFOUND.
HM_CHECK hm_err hm_content_wanted(hm_content *c, const hm_hash *after, hm_commitment *out);

typedef struct hm_content_stats {
    uint64_t chunks, bytes;   // of chunks
    uint64_t upload_bytes;    // of all members that no asset refers to, as it counts
    uint64_t collected_bytes; // since open
    uint64_t collected;       // chunks and manifests
} hm_content_stats;
void hm_content_get_stats(const hm_content *c, hm_content_stats *out);

// ---- pure ---------------------------------------------------------------------------------------

// HM_E_CHUNK_HASH when the bytes are not those of the address: of a chunk, of a manifest.
HM_CHECK hm_err hm_chunk_is(const hm_hash *hash, hm_bytes chunk);
HM_CHECK hm_err hm_manifest_is(const hm_hash *root, hm_bytes manifest);
// HM_E_CHUNK_HASH when the manifest is not that of the commitment.
HM_CHECK hm_err hm_manifest_check(const hm_commitment *c, hm_bytes manifest);
// The commitment of a manifest.
HM_CHECK hm_err hm_manifest_commit(hm_bytes manifest, uint64_t size, uint32_t chunk_bytes,
                                   hm_commitment *out);
// Bytes that chunk `index` has.
uint32_t hm_commitment_chunk_len(const hm_commitment *c, uint32_t index);
// Ranks nodes for an address by highest random weight (Thaler and Ravishankar 1998): order[0] is
// the first to keep it. order has room for count; count <= 100.
void hm_placement(const hm_hash *address, const hm_node_id *nodes, uint32_t count, uint32_t *order);

#endif
