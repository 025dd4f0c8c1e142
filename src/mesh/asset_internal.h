// Private to asset*.c.
#ifndef HM_MESH_ASSET_INTERNAL_H
#define HM_MESH_ASSET_INTERNAL_H

#include "mesh/asset.h"

#define ASSET_RECORD_MAX (512u + HM_ASSET_NAME_MAX + HM_ASSET_GRANTS_MAX * (HM_HASH_BYTES + 1))

void asset_policy_read(hm_rd *r, hm_asset_policy *p);
void asset_record_write(hm_buf *b, const hm_asset *a);
HM_CHECK hm_err asset_record_read(hm_bytes value, const hm_hash *id, hm_asset *a);

// name.c: what is more of a name than of any asset. The module's check has passed before an effect.
HM_CHECK hm_err name_check_register(const hm_exec *x, const hm_op *op, const hm_asset_register *r);
// Is it an asset of this owner, whose time is over, that makes room for the name?
HM_CHECK hm_err name_frees(const hm_exec *x, hm_bytes name, const hm_node_id *owner, bool *frees);
HM_CHECK hm_err name_check_op(const hm_exec *x, const hm_asset *a, const hm_op *op);
HM_CHECK hm_err name_check_zone_key(const hm_op *op);
// *old is to be retired if *had_old.
HM_CHECK hm_err name_apply_register(hm_exec *x, const hm_asset_register *r, hm_asset *a,
                                    hm_asset *old, bool *had_old);
HM_CHECK hm_err name_apply_op(hm_exec *x, const hm_op *op, hm_asset *a);
HM_CHECK hm_err name_apply_zone_key(hm_exec *x, const hm_op *op);

#endif
