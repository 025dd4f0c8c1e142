// Names: assets of kind "name", which make the zone of the mesh in the DNS.
//
// The zone is the mesh's name below "internal", the top-level domain that is set aside for private
// use: dev.internal. A name asset called "www" is www.dev.internal. There is one of each name in
// the mesh, whoever has it. It carries records (AAAA, TXT; NS and DS when it is delegated) and
// lives until a time that its registration says, by the time in the blocks; its owner can renew it,
// also within HM_NAME_GRACE_MS after its end, when it is published no more but nobody else's yet.
// Then whoever registers it next has it, and the old asset is retired.
//
// A name of several labels, "a.www", is registered by who may manage the closest name above it that
// is there; a name below one that is delegated cannot be. Names in "nodes" are the members' own:
// node-1.nodes.dev.internal is the address of that member, as the genesis has it.
//
// Suspended names, and those in maintenance or failed, are not published.
//
// Every member that serves the zone signs its answers with a key of its own, which it puts on the
// ledger by a HM_ASSET_ZONE_KEY operation.
#ifndef HM_MESH_NAME_H
#define HM_MESH_NAME_H

#include "dns/record.h"
#include "dns/sign.h"
#include "mesh/asset.h"

#define HM_NAME_TLD "internal"
#define HM_NAME_NODES "nodes"
#define HM_NAME_LIFE_MIN_S 60u
#define HM_NAME_LIFE_MAX_S (2u * 366u * 86400u)
#define HM_NAME_LIFE_DEFAULT_S (366u * 86400u)
#define HM_NAME_GRACE_MS (UINT64_C(30) * 86400 * 1000)

// The zone of a mesh of that name.
HM_CHECK hm_err hm_zone_apex(const char *mesh_name, dns_name *out);
// Is this what a name asset may be called? Labels of a-z, 0-9, "-" (not first or last) and "_",
// with dots between. *whole, with the zone, may be NULL. HM_E_OP_PAYLOAD.
HM_CHECK hm_err hm_name_check(hm_bytes name, const dns_name *apex, dns_name *whole);

// ---- payloads -----------------------------------------------------------------------------------

// Records as of dns/record.h.
void hm_name_set_records_encode(hm_bytes records, hm_buf *payload);
void hm_name_renew_encode(uint32_t life_s, hm_buf *payload);
void hm_zone_key_encode(const uint8_t key[DNS_PUBLIC_BYTES], hm_buf *payload);

// ---- queries on any view ------------------------------------------------------------------------

// The asset that has the name now, and its records (borrowed from the view). HM_E_NOTFOUND.
HM_CHECK hm_err hm_name_find(const hm_view *v, hm_bytes name, hm_asset *out, hm_bytes *records);
// May the DNS show it at that time?
bool hm_name_is_published(const hm_asset *a, uint64_t time_ms);
// Every name, in no order that means anything.
HM_CHECK hm_err hm_name_each(const hm_view *v,
                             hm_err (*each)(void *ctx, const hm_asset *a, hm_bytes records),
                             void *ctx);
// What was changed by operations after that place, oldest first, at most limit: the name, or an
// empty one for a zone key. *after moves on, {0, 0} at first; *count says how many there were.
HM_CHECK hm_err hm_name_changes(const hm_view *v, hm_op_location *after, uint32_t limit,
                                uint32_t *count, hm_err (*each)(void *ctx, hm_bytes name),
                                void *ctx);
// Where the newest change is; {0, 0} when there is none.
HM_CHECK hm_err hm_name_newest(const hm_view *v, hm_op_location *out);
// The member's key, DNS_PUBLIC_BYTES, borrowed. HM_E_NOTFOUND.
HM_CHECK hm_err hm_zone_key(const hm_view *v, const hm_node_id *member, hm_bytes *key);

#endif
