// Small helpers for writing JSON with yyjson.
#ifndef HM_MESH_JSON_OUT_H
#define HM_MESH_JSON_OUT_H

#include <yyjson.h>

#include "crypto/crypto.h"

bool mesh_json_base64(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, hm_bytes s);
bool mesh_json_hash(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, const hm_hash *h);
// Appends the text if ok and frees the document. HM_E_NOMEM.
HM_CHECK hm_err mesh_json_end(yyjson_mut_doc *doc, bool ok, hm_buf *json);

#endif
