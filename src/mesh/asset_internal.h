// Private to asset*.c.
#ifndef HM_MESH_ASSET_INTERNAL_H
#define HM_MESH_ASSET_INTERNAL_H

#include "mesh/asset.h"

#define ASSET_RECORD_MAX (512u + HM_ASSET_NAME_MAX + HM_ASSET_GRANTS_MAX * (HM_HASH_BYTES + 1))

void asset_policy_read(hm_rd *r, hm_asset_policy *p);
void asset_record_write(hm_buf *b, const hm_asset *a);
HM_CHECK hm_err asset_record_read(hm_bytes value, const hm_hash *id, hm_asset *a);

#endif
