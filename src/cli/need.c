// What an answer must hold to be believed. Fields that are not in these lists may be missing: an
// answer of a newer or older server is still shown.
#include <stdio.h>

#include "cli/cli.h"

static bool is_right(yyjson_val *v, char type)
{
    switch (type) {
    case '#':
        return yyjson_is_uint(v);
    case '?':
        return yyjson_is_bool(v);
    case '[':
        return yyjson_is_arr(v);
    case '~':
        return v != NULL;
    default:
        return yyjson_is_str(v);
    }
}

hm_err cli_need(const cli *c, yyjson_val *answer, const char *fields)
{
    const char *whose = c->authority.url ? "authority" : "node";
    for (const char *p = fields; *p;) {
        size_t n = strcspn(p, " "), len = strcspn(p, " #?[~");
        if (!is_right(yyjson_obj_getn(answer, p, len), p[len]))
            return hm_fail(HM_E_PARSE, "the %s's answer lacks \"%.*s\"%s", whose, (int)len, p,
                           p[len] == '#'   ? ", a number"
                           : p[len] == '?' ? ", true or false"
                           : p[len] == '[' ? ", a list"
                           : p[len] == '~' ? ""
                                           : ", a text");
        p += n + strspn(p + n, " ");
    }
    return HM_OK;
}

hm_err cli_need_items(const cli *c, yyjson_val *answer, const char *fields)
{
    size_t at, max;
    yyjson_val *item;
    HM_TRY(cli_need(c, answer, "items["));
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, item)
    {
        HM_TRY(cli_need(c, item, fields));
    }
    return HM_OK;
}

hm_err cli_need_answer(const cli *c, const cli_command *cmd, hm_bytes json)
{
    yyjson_doc *doc = NULL;
    HM_TRY(hm_json_parse(json, &doc));
    hm_err err = HM_OK;
    if (cmd->needs)
        err = cli_need(c, yyjson_doc_get_root(doc), cmd->needs);
    if (err == HM_OK && cmd->item_needs)
        err = cli_need_items(c, yyjson_doc_get_root(doc), cmd->item_needs);
    yyjson_doc_free(doc);
    return err;
}
