// Contents of assets: chunks stored under their SHA-256, manifests under the root of a commitment.
//
// A manifest is the list of a content's chunk hashes, 32 bytes each; its root is the RFC 9162 tree
// over leaves that are these hashes. What is stored is checked on the way in and again on every
// read. Writes are gathered in one transaction until hm_content_sync(): what it returned HM_OK for
// is durable; an error means that anything stored since the last one may be gone. One thread.
#ifndef HM_MESH_CONTENT_H
#define HM_MESH_CONTENT_H

#include "mesh/asset.h"

#define HM_CONTENT_CHUNK_MAX (1u << 20)
#define HM_CONTENT_MANIFEST_MAX (1u << 20) // so a content has at most 32,768 chunks

typedef struct hm_content hm_content;

// reserve_bytes: so much of the disk is left to others, the ledger above all.
HM_CHECK hm_err hm_content_open(const char *dir, uint64_t reserve_bytes, bool no_sync,
                                hm_content **out);
void hm_content_close(hm_content *c); // NULL is fine; unsynced writes are dropped

// Storing what is there already is cheap. HM_E_CHUNK_HASH when the bytes are not those of the hash
// (of the root, for a manifest). HM_E_BUSY when the disk is full up to the reserve.
HM_CHECK hm_err hm_content_put(hm_content *c, const hm_hash *hash, hm_bytes chunk);
HM_CHECK hm_err hm_content_put_manifest(hm_content *c, const hm_hash *root, hm_bytes manifest);
bool hm_content_dirty(const hm_content *c);
HM_CHECK hm_err hm_content_sync(hm_content *c);

// Appends. HM_E_NOTFOUND; HM_E_CHUNK_HASH when the stored bytes are damaged (they are removed).
HM_CHECK hm_err hm_content_get(hm_content *c, const hm_hash *hash, hm_buf *out);
HM_CHECK hm_err hm_content_get_manifest(hm_content *c, const hm_hash *root, hm_buf *out);
bool hm_content_has(hm_content *c, const hm_hash *hash);
bool hm_content_has_manifest(hm_content *c, const hm_hash *root);
// Synced chunks after `after` (NULL: from the first), at most max; returns how many.
size_t hm_content_list(hm_content *c, bool manifests, const hm_hash *after, hm_hash *out,
                       size_t max);
void hm_content_stats(const hm_content *c, uint64_t *chunks, uint64_t *bytes);

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
