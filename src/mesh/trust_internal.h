// Private to trust_module.c (authorities, votes) and trust_foreign.c (foreign roots).
#ifndef HM_MESH_TRUST_INTERNAL_H
#define HM_MESH_TRUST_INTERNAL_H

#include "mesh/trust_module.h"

#define TRUST_RECORD_BYTES (HM_CERT_DER_MAX + TC_SCOPE_ZONE_MAX + 160u)

typedef struct trust_key {
    uint8_t mem[2 + HM_HASH_BYTES];
} trust_key;

hm_bytes trust_key_of(trust_key *k, char what, const hm_hash *id);
// The next entry of a table after that of an id (zero: the first), and its id.
HM_CHECK hm_err trust_next(const hm_view *v, char what, const hm_hash *after, hm_hash *id,
                           hm_bytes *value);
// HM_E_OP_STATE when the key is that of the mesh's root or of an authority, present or past.
HM_CHECK hm_err trust_check_not_ours(const hm_exec *x, const hm_hash *key_id);

void trust_scope_put(hm_buf *b, const tc_scope *s);
// What is not one of tc_scope_parse() makes the reader fail.
void trust_scope_read(hm_rd *r, tc_scope *out);
HM_CHECK hm_err trust_foreign_decode(hm_bytes payload, hm_bytes *cert, tc_scope *scope);
// Could it be put in force, or leave, now?
HM_CHECK hm_err trust_foreign_check(const hm_exec *x, hm_bytes cert, const tc_scope *scope,
                                    tc_foreign_root *root);
HM_CHECK hm_err trust_foreign_check_leave(const hm_exec *x, const hm_hash *id);
HM_CHECK hm_err trust_foreign_apply(hm_exec *x, const hm_proposal *p);
HM_CHECK hm_err trust_foreign_apply_leave(hm_exec *x, const hm_hash *id);

#endif
