#include "mesh/json_out.h"

#include <openssl/evp.h>
#include <stdlib.h>

bool mesh_json_base64(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, hm_bytes s)
{
    size_t cap = 4 * ((s.len + 2) / 3) + 1;
    char *text = malloc(cap);
    if (text == NULL)
        return false;
    int n = EVP_EncodeBlock((unsigned char *)text, s.ptr, (int)s.len);
    bool ok = yyjson_mut_obj_add_strncpy(doc, obj, key, text, (size_t)n);
    free(text);
    return ok;
}

bool mesh_json_hash(yyjson_mut_doc *doc, yyjson_mut_val *obj, const char *key, const hm_hash *h)
{
    char hex[2 * HM_HASH_BYTES + 1];
    hm_hex(hex, h->b, HM_HASH_BYTES);
    return yyjson_mut_obj_add_strcpy(doc, obj, key, hex);
}

hm_err mesh_json_end(yyjson_mut_doc *doc, bool ok, hm_buf *json)
{
    size_t len = 0;
    char *text = ok ? yyjson_mut_write(doc, YYJSON_WRITE_PRETTY_TWO_SPACES, &len) : NULL;
    yyjson_mut_doc_free(doc);
    if (text == NULL)
        return HM_E_NOMEM;
    hm_buf_append(json, text, len);
    free(text);
    return hm_buf_status(json);
}
