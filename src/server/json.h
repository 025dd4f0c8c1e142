// JSON in and out. Reading is strict: one object, no duplicate or unknown fields, depth and sizes
// limited, and each refusal names the field. Writing appends to a buffer and cannot go wrong but
// for memory (sticky in the buffer).
#ifndef HM_SERVER_JSON_H
#define HM_SERVER_JSON_H

#include <yyjson.h>

#include "base/base.h"

#define HM_JSON_DEPTH_MAX 8u

// Parses a whole text whose root is an object. HM_E_PARSE with the place; HM_E_LIMIT for depth.
// Free with yyjson_doc_free().
HM_CHECK hm_err hm_json_parse(hm_bytes text, yyjson_doc **out);
// Every field of the object is one of these (NULL-terminated) and stands there once.
HM_CHECK hm_err hm_json_only(yyjson_val *obj, const char *const *names);

// Each: HM_E_PARSE naming the field when it is missing or of another type, HM_E_RANGE when out of
// bounds. The text is borrowed from the document; it may hold no NUL.
HM_CHECK hm_err hm_json_text(yyjson_val *obj, const char *name, size_t min, size_t max,
                             hm_bytes *out);
HM_CHECK hm_err hm_json_u64(yyjson_val *obj, const char *name, uint64_t min, uint64_t max,
                            uint64_t *out);
HM_CHECK hm_err hm_json_bool(yyjson_val *obj, const char *name, bool *out);
// Lower or upper case hexadecimal of exactly len bytes.
HM_CHECK hm_err hm_json_hex(yyjson_val *obj, const char *name, void *out, size_t len);
static inline bool hm_json_has(yyjson_val *obj, const char *name)
{
    return yyjson_obj_get(obj, name) != NULL;
}

// What the API and the command line take as the name of something new: UTF-8 text without control
// characters or those that turn the direction of writing (Unicode's Bidi_Control), and more than
// white space. HM_E_INVALID. The ledger itself refuses controls alone: what it took stays valid.
HM_CHECK hm_err hm_json_name_check(hm_bytes name);

// ---- writing ------------------------------------------------------------------------------------
// Commas are put where the last byte asks for one, so calls just follow each other:
//   hm_jw_open(b, NULL, '{'); hm_jw_u64(b, "height", 7); hm_jw_close(b, '}');
// name is NULL for items of an array and for the root.
void hm_jw_open(hm_buf *b, const char *name, char bracket);
void hm_jw_close(hm_buf *b, char bracket);
// Text of any bytes: what is not UTF-8 becomes U+FFFD.
void hm_jw_text(hm_buf *b, const char *name, hm_bytes text);
void hm_jw_str(hm_buf *b, const char *name, const char *text); // NULL writes null
void hm_jw_u64(hm_buf *b, const char *name, uint64_t v);
void hm_jw_bool(hm_buf *b, const char *name, bool v);
void hm_jw_hex(hm_buf *b, const char *name, const void *ptr, size_t len);
// Bytes that are JSON already.
void hm_jw_raw(hm_buf *b, const char *name, hm_bytes json);

#endif
