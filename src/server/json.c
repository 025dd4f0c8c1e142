#include "server/json.h"

#include <stdio.h>

// Depth by counting brackets outside strings, before the parser builds anything.
static hm_err check_depth(hm_bytes t)
{
    size_t depth = 0;
    bool in_text = false;
    for (size_t i = 0; i < t.len; i++) {
        uint8_t c = t.ptr[i];
        if (in_text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_text = false;
        } else if (c == '"') {
            in_text = true;
        } else if (c == '{' || c == '[') {
            if (++depth > HM_JSON_DEPTH_MAX)
                return hm_fail(HM_E_LIMIT, "the JSON is nested deeper than %u levels",
                               HM_JSON_DEPTH_MAX);
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return HM_OK;
}

hm_err hm_json_parse(hm_bytes text, yyjson_doc **out)
{
    yyjson_read_err e = {0};
    HM_TRY(check_depth(text));
    if (text.len == 0)
        return hm_fail(HM_E_PARSE, "a JSON object is needed, the body is empty");
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)text.ptr, text.len, 0, NULL, &e);
    if (!doc)
        return hm_fail(HM_E_PARSE, "the JSON is wrong at byte %zu: %s", e.pos,
                       e.msg ? e.msg : "unreadable");
    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return hm_fail(HM_E_PARSE, "a JSON object is needed, not another value");
    }
    *out = doc;
    return HM_OK;
}

hm_err hm_json_only(yyjson_val *obj, const char *const *names)
{
    size_t at, max;
    yyjson_val *key, *val;
    uint64_t seen = 0;
    yyjson_obj_foreach(obj, at, max, key, val)
    {
        size_t i = 0;
        while (names[i] && !yyjson_equals_str(key, names[i]))
            i++;
        hm_assert(i < 64);
        char quoted[64];
        if (!names[i])
            return hm_fail(HM_E_PARSE, "unknown field %s",
                           hm_log_quote(quoted, sizeof(quoted),
                                        hm_bytes_of(yyjson_get_str(key), yyjson_get_len(key))));
        if (seen & UINT64_C(1) << i)
            return hm_fail(HM_E_PARSE, "field \"%s\" stands there twice", names[i]);
        seen |= UINT64_C(1) << i;
    }
    return HM_OK;
}

static hm_err need(yyjson_val *obj, const char *name, bool (*is)(yyjson_val *), const char *what,
                   yyjson_val **out)
{
    yyjson_val *v = yyjson_obj_get(obj, name);
    if (!v)
        return hm_fail(HM_E_PARSE, "field \"%s\" is missing: %s", name, what);
    if (!is(v))
        return hm_fail(HM_E_PARSE, "field \"%s\" must be %s", name, what);
    *out = v;
    return HM_OK;
}

static bool is_text(yyjson_val *v)
{
    return yyjson_is_str(v);
}
static bool is_number(yyjson_val *v)
{
    return yyjson_is_uint(v);
}
static bool is_truth(yyjson_val *v)
{
    return yyjson_is_bool(v);
}

hm_err hm_json_text(yyjson_val *obj, const char *name, size_t min, size_t max, hm_bytes *out)
{
    yyjson_val *v = NULL;
    HM_TRY(need(obj, name, is_text, "a text", &v));
    hm_bytes t = hm_bytes_of(yyjson_get_str(v), yyjson_get_len(v));
    if (t.len < min || t.len > max)
        return hm_fail(HM_E_RANGE, "field \"%s\" has %zu bytes; %zu to %zu are allowed", name,
                       t.len, min, max);
    if (t.len && memchr(t.ptr, 0, t.len))
        return hm_fail(HM_E_PARSE, "field \"%s\" holds a NUL", name);
    *out = t;
    return HM_OK;
}

hm_err hm_json_u64(yyjson_val *obj, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
    yyjson_val *v = NULL;
    HM_TRY(need(obj, name, is_number, "a whole number", &v));
    uint64_t n = yyjson_get_uint(v);
    if (n < min || n > max)
        return hm_fail(HM_E_RANGE, "field \"%s\" is %llu; %llu to %llu is allowed", name,
                       (unsigned long long)n, (unsigned long long)min, (unsigned long long)max);
    *out = n;
    return HM_OK;
}

hm_err hm_json_bool(yyjson_val *obj, const char *name, bool *out)
{
    yyjson_val *v = NULL;
    HM_TRY(need(obj, name, is_truth, "true or false", &v));
    *out = yyjson_get_bool(v);
    return HM_OK;
}

hm_err hm_json_hex(yyjson_val *obj, const char *name, void *out, size_t len)
{
    yyjson_val *v = NULL;
    HM_TRY(need(obj, name, is_text, "a text of hexadecimal digits", &v));
    if (hm_unhex(out, len, yyjson_get_str(v), yyjson_get_len(v)) != HM_OK)
        return hm_fail(HM_E_PARSE, "field \"%s\" must be %zu hexadecimal digits", name, 2 * len);
    return HM_OK;
}

// ---- writing ------------------------------------------------------------------------------------

static void put_quoted(hm_buf *b, hm_bytes t);

static void begin(hm_buf *b, const char *name)
{
    uint8_t last = b->len ? b->ptr[b->len - 1] : '{';
    if (last != '{' && last != '[' && last != ':' && last != '\n')
        hm_buf_puts(b, ",");
    if (name) {
        put_quoted(b, hm_bytes_str(name));
        hm_buf_puts(b, ":");
    }
}

// Length of the valid UTF-8 sequence at the start of t, 0 when there is none (RFC 3629).
static size_t utf8_len(hm_bytes t)
{
    uint8_t c = t.ptr[0];
    size_t n = c < 0x80                ? 1
               : c >= 0xc2 && c < 0xe0 ? 2
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xf0 && c < 0xf5 ? 4
                                       : 0;
    if (n == 0 || n > t.len)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((t.ptr[i] & 0xc0) != 0x80)
            return 0;
    if (n > 2 && ((c == 0xe0 && t.ptr[1] < 0xa0) || (c == 0xed && t.ptr[1] > 0x9f) ||
                  (c == 0xf0 && t.ptr[1] < 0x90) || (c == 0xf4 && t.ptr[1] > 0x8f)))
        return 0;
    return n;
}

static bool in_ranges(uint32_t c, const uint32_t ranges[][2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

hm_err hm_json_name_check(hm_bytes name)
{
    static const uint32_t bad[][2] = {// Cc, and Bidi_Control of Unicode 16
                                      {0, 0x1f},        {0x7f, 0x9f},     {0x61c, 0x61c},
                                      {0x200e, 0x200f}, {0x202a, 0x202e}, {0x2066, 0x2069}};
    static const uint32_t space[][2] = {// White_Space that is no control
                                        {0x20, 0x20},     {0xa0, 0xa0},     {0x1680, 0x1680},
                                        {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                                        {0x205f, 0x205f}, {0x3000, 0x3000}};
    bool good = true, shown = false;
    for (size_t n; good && name.len > 0; name.ptr += n, name.len -= n) {
        n = utf8_len(name);
        uint32_t c = n == 1 ? name.ptr[0] : n ? name.ptr[0] & (0x7fu >> n) : 0;
        for (size_t i = 1; i < n; i++)
            c = c << 6 | (name.ptr[i] & 0x3fu);
        good = n > 0 && !in_ranges(c, bad, sizeof(bad) / sizeof(bad[0]));
        shown = shown || !in_ranges(c, space, sizeof(space) / sizeof(space[0]));
    }
    if (good && shown)
        return HM_OK;
    return hm_fail(HM_E_INVALID, "a name is UTF-8 text without control characters or any that turn "
                                 "the direction of writing, and more than white space");
}

// How much of it stands for itself between quotes: printable ASCII, nearly all there is.
static size_t plain_len(hm_bytes t)
{
    size_t n = 0;
    while (n < t.len && t.ptr[n] >= 0x20 && t.ptr[n] < 0x80 && t.ptr[n] != '"' && t.ptr[n] != '\\')
        n++;
    return n;
}

static void put_quoted(hm_buf *b, hm_bytes t)
{
    hm_buf_puts(b, "\"");
    while (t.len) {
        uint8_t c = t.ptr[0];
        size_t n = plain_len(t);
        if (n == 0)
            n = utf8_len(t);
        if (n == 0)
            hm_buf_puts(b, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            hm_buf_printf(b, "\\%c", c);
        else if (c < 0x20)
            hm_buf_printf(b, "\\u%04x", c);
        else
            hm_buf_append(b, t.ptr, n);
        n = n ? n : 1;
        t = hm_bytes_of(t.ptr + n, t.len - n);
    }
    hm_buf_puts(b, "\"");
}

void hm_jw_open(hm_buf *b, const char *name, char bracket)
{
    begin(b, name);
    hm_buf_append(b, &bracket, 1);
}
void hm_jw_close(hm_buf *b, char bracket)
{
    hm_buf_append(b, &bracket, 1);
}
void hm_jw_text(hm_buf *b, const char *name, hm_bytes text)
{
    begin(b, name);
    put_quoted(b, text);
}
void hm_jw_str(hm_buf *b, const char *name, const char *text)
{
    begin(b, name);
    if (text)
        put_quoted(b, hm_bytes_str(text));
    else
        hm_buf_puts(b, "null");
}
void hm_jw_u64(hm_buf *b, const char *name, uint64_t v)
{
    begin(b, name);
    hm_buf_printf(b, "%llu", (unsigned long long)v);
}
void hm_jw_bool(hm_buf *b, const char *name, bool v)
{
    begin(b, name);
    hm_buf_puts(b, v ? "true" : "false");
}
void hm_jw_hex(hm_buf *b, const char *name, const void *ptr, size_t len)
{
    begin(b, name);
    hm_buf_puts(b, "\"");
    hm_buf_hex(b, hm_bytes_of(ptr, len));
    hm_buf_puts(b, "\"");
}
void hm_jw_raw(hm_buf *b, const char *name, hm_bytes json)
{
    begin(b, name);
    hm_buf_put(b, json);
}
