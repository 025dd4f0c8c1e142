// Views: the key-value state as it is after some block, whether that block is final (then it is on
// disk) or only proposed (then it is an overlay in memory over the view of its parent).
//
// A key is 1..HM_KEY_MAX bytes. Its first byte is the number of the module that owns it. With
// HM_KEY_DERIVED added to that byte, the entry is an index: kept beside the state, made from it,
// not under its root, and never read by a module's check or apply. Everything else is under the
// root in the block header.
//
// A view is written only while its block is executed, by the one thread that owns the ledger. It
// stays readable until it is released or a block of another branch becomes final.
#ifndef HM_MESH_KV_H
#define HM_MESH_KV_H

#include "base/base.h"
#include "crypto/crypto.h"

#define HM_KEY_MAX 200u
#define HM_VALUE_MAX (1u << 20)
#define HM_KEY_DERIVED 0x80u

typedef struct hm_view hm_view;

// The value of a key. It is borrowed: valid until the next write to this view or the next commit
// of the ledger, whichever comes first. HM_E_NOTFOUND; HM_E_CLOSED when the view's branch was
// abandoned; HM_E_IO.
HM_CHECK hm_err hm_view_get(const hm_view *v, hm_bytes key, hm_bytes *value);
// HM_E_NOMEM, HM_E_LIMIT.
HM_CHECK hm_err hm_view_put(hm_view *v, hm_bytes key, hm_bytes value);
// Harmless when the key is not there.
HM_CHECK hm_err hm_view_del(hm_view *v, hm_bytes key);

// Walks keys in order: gives the first key that begins with prefix and is greater than `after`
// (after.len == 0 starts at the first; with `prefix` itself as after the key equal to the prefix
// is left out). Key and value are borrowed as above. HM_E_NOTFOUND at the end.
//   hm_bytes k = {0}, val;
//   while ((err = hm_view_next(v, prefix, k, &k, &val)) == HM_OK) ...
// Take a copy of k if the loop writes to the view.
HM_CHECK hm_err hm_view_next(const hm_view *v, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                             hm_bytes *value);
// As hm_view_next(), downwards: the last key that begins with prefix and is less than `before`
// (before.len == 0 starts at the last).
HM_CHECK hm_err hm_view_prev(const hm_view *v, hm_bytes prefix, hm_bytes before, hm_bytes *key,
                             hm_bytes *value);

// The root of the authenticated state of this view (of a view in execution: HM_E_AGAIN).
HM_CHECK hm_err hm_view_root(const hm_view *v, hm_hash *root);
// Appends a proof that the key has its value, or that it has none, in this view's root; see tree.h
// for the check that needs nothing but the root.
HM_CHECK hm_err hm_view_prove(const hm_view *v, hm_bytes key, hm_buf *proof);

#endif
