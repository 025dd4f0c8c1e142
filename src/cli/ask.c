// Asking the API, and finding what a person means by a name or the beginning of an id.
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cli/cli.h"

#define ID_BEGINNING_MIN 4u
#define HEIGHT_DIGITS_MAX 19u
#define SERIAL_DIGITS 32u

hm_err cli_answer(cli *c, const cli_command *cmd, hm_bytes json)
{
    yyjson_doc *doc = NULL;
    if (c->json) {
        c->answered = true;
        fwrite(json.ptr, 1, json.len, stdout);
        return HM_OK; // main() looks whether it could be written
    }
    HM_TRY(hm_json_parse(json, &doc));
    hm_err err = cmd->show(c, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return err;
}

hm_err cli_read_file(const char *path, size_t max, hm_buf *out)
{
    hm_err err = hm_file_read(path, max, out);
    return err == HM_E_NOTFOUND ? hm_fail(HM_E_IO, "%s: no such file", path) : err;
}

hm_err cli_ask(const hm_client *to, const char *method, const char *path, hm_bytes body,
               yyjson_doc **out)
{
    hm_buf answer = {0};
    hm_err err = hm_client_request(to, method, path, body, NULL, &answer);
    if (err == HM_OK)
        err = hm_json_parse(hm_buf_bytes(&answer), out);
    hm_buf_free(&answer);
    return err;
}

// What is asked about certificates is the authority's to answer.
static const hm_client *client_of(const cli *c)
{
    return c->authority.url ? &c->authority : &c->client;
}

// ---- what is meant ------------------------------------------------------------------------------

static bool is_hex(const char *text, size_t min, size_t max)
{
    size_t n = strspn(text, "0123456789abcdefABCDEF");
    return !text[n] && n >= min && n <= max;
}

// The assets of one filter, all pages: the first one's id, and how many there are (2 = several).
static hm_err look_for(cli *c, const char *filter, const char *what, char id[65], unsigned *count,
                       hm_buf *several)
{
    char cursor[32] = "";
    hm_err err = HM_OK;
    do {
        hm_buf path = {0};
        yyjson_doc *doc = NULL;
        hm_buf_printf(&path, "/v1/assets?limit=3&%s=", filter);
        hm_client_escape(&path, what);
        if (cursor[0])
            hm_buf_printf(&path, "&cursor=%s", cursor);
        err = cli_ask(&c->client, "GET", hm_buf_cstr(&path), (hm_bytes){0}, &doc);
        yyjson_val *root = yyjson_doc_get_root(doc);
        if (err == HM_OK)
            err = cli_need(c, root, "next~");
        if (err == HM_OK)
            err = cli_need_items(c, root, "id name owner_name");
        for (size_t at = 0; err == HM_OK && at < yyjson_arr_size(yyjson_obj_get(root, "items"));
             at++) {
            yyjson_val *item = yyjson_arr_get(yyjson_obj_get(root, "items"), at);
            if (!*count)
                snprintf(id, 65, "%s", cli_str(item, "id"));
            hm_buf_printf(several, "%s%.12s (%s of %s)", *count ? ", " : "", cli_str(item, "id"),
                          cli_str(item, "name"), cli_str(item, "owner_name"));
            *count += 1;
        }
        snprintf(cursor, sizeof(cursor), "%s", cli_str(root, "next"));
        yyjson_doc_free(doc);
        hm_buf_free(&path);
    } while (err == HM_OK && *count < 2 && cursor[0]);
    return err;
}

hm_err cli_find_asset(cli *c, const char *what, char id[65])
{
    unsigned count = 0;
    hm_buf several = {0};
    hm_err err = HM_OK;
    if (is_hex(what, 64, 64)) {
        snprintf(id, 65, "%s", what);
        return HM_OK;
    }
    HM_TRY_OUT(look_for(c, "name", what, id, &count, &several));
    if (!count && is_hex(what, ID_BEGINNING_MIN, 63))
        HM_TRY_OUT(look_for(c, "id", what, id, &count, &several));
    if (!count && is_hex(what, 1, ID_BEGINNING_MIN - 1))
        err = hm_fail(HM_E_NOTFOUND,
                      "no asset has the name %s; the beginning of an id needs %u digits or more",
                      what, ID_BEGINNING_MIN);
    else if (!count)
        err = hm_fail(HM_E_NOTFOUND, "no asset has the name, the id or this beginning of one: %s",
                      what);
    if (count > 1)
        err = hm_fail(HM_E_USAGE, "%s may be several, such as %s: take the id", what,
                      hm_buf_cstr(&several));
out:
    hm_buf_free(&several);
    return err;
}

hm_err cli_find_op(cli *c, const char *what, char id[65])
{
    unsigned long long height;
    unsigned index;
    int end = 0;
    char path[64];
    yyjson_doc *doc = NULL;
    if (is_hex(what, 64, 64)) {
        snprintf(id, 65, "%s", what);
        return HM_OK;
    }
    if (strspn(what, "0123456789/") != strlen(what) ||
        sscanf(what, "%19llu/%9u%n", &height, &index, &end) != 2 || what[end])
        return hm_fail(HM_E_USAGE,
                       "\"%.80s\" is no operation: an id of 64 digits, or "
                       "HEIGHT/INDEX",
                       what);
    snprintf(path, sizeof(path), "/v1/blocks/%llu", height);
    HM_TRY(cli_ask(&c->client, "GET", path, (hm_bytes){0}, &doc));
    yyjson_val *ops = yyjson_obj_get(yyjson_doc_get_root(doc), "ops");
    const char *found = yyjson_get_str(yyjson_arr_get(ops, index));
    hm_err err = cli_need(c, yyjson_doc_get_root(doc), "ops[");
    if (found)
        snprintf(id, 65, "%s", found);
    else if (err == HM_OK)
        err = hm_fail(HM_E_NOTFOUND, "block %llu has %zu operations, counted from 0", height,
                      yyjson_arr_size(ops));
    yyjson_doc_free(doc);
    return err;
}

hm_err cli_find_node(cli *c, const char *what, char id[65])
{
    yyjson_doc *doc = NULL;
    yyjson_val *item;
    size_t at, max, several = 0, len = strlen(what);
    const char *found = NULL;
    hm_err err = HM_OK;
    HM_TRY(cli_ask(&c->client, "GET", "/v1/nodes", (hm_bytes){0}, &doc));
    yyjson_val *items = yyjson_obj_get(yyjson_doc_get_root(doc), "items");
    HM_TRY_OUT(cli_need_items(c, yyjson_doc_get_root(doc), "id name"));
    yyjson_arr_foreach(items, at, max, item)
    {
        if (strcmp(cli_str(item, "name"), what) == 0) {
            found = cli_str(item, "id");
            several = 1;
            break;
        }
        if (len >= ID_BEGINNING_MIN && strncasecmp(cli_str(item, "id"), what, len) == 0) {
            found = cli_str(item, "id");
            several++;
        }
    }
    if (!found && is_hex(what, 1, ID_BEGINNING_MIN - 1))
        err = hm_fail(HM_E_NOTFOUND,
                      "no node of the mesh has the name %s; the beginning of an id needs %u digits "
                      "or more",
                      what, ID_BEGINNING_MIN);
    else if (!found)
        err = hm_fail(HM_E_NOTFOUND,
                      "no node of the mesh has the name, the id or this beginning "
                      "of one: %s",
                      what);
    else if (several > 1)
        err = hm_fail(HM_E_USAGE, "%zu nodes have an id that begins with %s", several, what);
    else
        snprintf(id, 65, "%s", found);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err cli_put_path(cli *c, const cli_command *cmd, hm_buf *path)
{
    char id[65];
    const char *arg = c->arg, *at = strstr(cmd->path, "%s");
    if (!at) {
        hm_buf_puts(path, cmd->path);
        return hm_buf_status(path);
    }
    if (strcmp(cmd->arg, "ASSET") == 0) {
        HM_TRY(cli_find_asset(c, arg, id));
        arg = id;
    } else if (strcmp(cmd->arg, "OP") == 0) {
        HM_TRY(cli_find_op(c, arg, id));
        arg = id;
    } else if (strcmp(cmd->arg, "NODE") == 0) {
        HM_TRY(cli_find_node(c, arg, id));
        arg = id;
    } else if (strcmp(cmd->arg, "TRUST") == 0) {
        HM_TRY(cli_find_trust(c, arg, id));
        arg = id;
    } else if (strcmp(cmd->arg, "HEIGHT") == 0 &&
               (strspn(arg, "0123456789") != strlen(arg) || strlen(arg) > HEIGHT_DIGITS_MAX)) {
        return hm_fail(HM_E_USAGE, "\"%.80s\" is no height of a block, a number from 1", arg);
    } else if (strcmp(cmd->arg, "SERIAL") == 0 && !is_hex(arg, SERIAL_DIGITS, SERIAL_DIGITS)) {
        return hm_fail(HM_E_USAGE, "\"%.80s\" is no serial of 32 hex digits", arg);
    }
    hm_buf_append(path, cmd->path, (size_t)(at - cmd->path));
    hm_client_escape(path, arg);
    hm_buf_puts(path, at + 2);
    return hm_buf_status(path);
}

// ---- one thing, and lists -----------------------------------------------------------------------

hm_err cli_get(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, answer = {0};
    hm_err err = cli_put_path(c, cmd, &path);
    if (err == HM_OK)
        err = hm_client_request(client_of(c), "GET", hm_buf_cstr(&path), (hm_bytes){0}, NULL,
                                &answer);
    if (err == HM_OK)
        err = cli_need_answer(c, cmd, hm_buf_bytes(&answer));
    if (err == HM_OK)
        err = cli_answer(c, cmd, hm_buf_bytes(&answer));
    hm_buf_free(&path);
    hm_buf_free(&answer);
    return err;
}

// The filters that the command has.
static hm_err put_filters(cli *c, const cli_command *cmd, hm_buf *path)
{
    char id[65];
    for (const cli_option *o = cmd->options; o && o->name; o++) {
        const char *v = hm_config_get(&c->cfg, o->name);
        if (!v || strcmp(o->name, "authority") == 0 || strcmp(o->name, "limit") == 0)
            continue;
        if (strcmp(o->name, "owner") == 0) {
            HM_TRY(cli_find_node(c, v, id));
            v = id;
        }
        hm_buf_printf(path, "&%s=", strcmp(o->name, "search") == 0 ? "q" : o->name);
        hm_client_escape(path, v);
    }
    return hm_buf_status(path);
}

// One page: its items go behind those that are there; next gets where to go on, "" at the end.
static hm_err list_page(cli *c, const char *path, const char *needs, hm_buf *items, uint64_t *count,
                        char next[96])
{
    hm_err err;
    yyjson_doc *doc = NULL;
    size_t at, max;
    yyjson_val *item;
    HM_TRY(cli_ask(client_of(c), "GET", path, (hm_bytes){0}, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    HM_TRY_OUT(cli_need(c, root, "next~"));
    HM_TRY_OUT(cli_need_items(c, root, needs));
    yyjson_arr_foreach(yyjson_obj_get(root, "items"), at, max, item)
    {
        size_t len;
        char *text = yyjson_val_write(item, 0, &len);
        if (text)
            hm_jw_raw(items, NULL, hm_bytes_of(text, len));
        else
            items->status = HM_E_NOMEM;
        free(text);
        *count += 1;
    }
    snprintf(next, 96, "%s", cli_str(root, "next"));
    err = hm_buf_status(items);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err cli_pages(cli *c, const char *base, const char *filters, const char *needs,
                 uint64_t page_max, uint64_t limit, hm_buf *out, bool *more)
{
    char next[96] = "";
    uint64_t count = 0;
    hm_err err;
    hm_jw_open(out, NULL, '{');
    hm_jw_open(out, "items", '[');
    do {
        hm_buf path = {0};
        uint64_t left = limit - count;
        hm_buf_printf(&path, "%s?limit=%llu%s", base,
                      (unsigned long long)(left < page_max ? left : page_max), filters);
        if (next[0]) {
            hm_buf_puts(&path, "&cursor=");
            hm_client_escape(&path, next);
        }
        err = list_page(c, hm_buf_cstr(&path), needs, out, &count, next);
        hm_buf_free(&path);
    } while (err == HM_OK && next[0] && count < limit);
    hm_jw_close(out, ']');
    hm_jw_str(out, "next", next[0] ? next : NULL);
    hm_jw_close(out, '}');
    hm_buf_puts(out, "\n");
    *more = next[0] != 0;
    return err == HM_OK ? hm_buf_status(out) : err;
}

hm_err cli_list(cli *c, const cli_command *cmd)
{
    hm_buf all = {0}, filters = {0}, base = {0};
    uint64_t limit = UINT64_MAX;
    bool more = false;
    hm_err err;
    for (const cli_option *o = cmd->options; o && o->name; o++)
        if (strcmp(o->name, "limit") == 0 && hm_config_get(&c->cfg, "limit"))
            HM_TRY(hm_config_u64(&c->cfg, "limit", 1, UINT64_MAX, &limit));
    HM_TRY_OUT(cli_put_path(c, cmd, &base));
    HM_TRY_OUT(put_filters(c, cmd, &filters));
    HM_TRY_OUT(cli_pages(c, hm_buf_cstr(&base), hm_buf_cstr(&filters), cmd->item_needs,
                         cmd->page_max, limit, &all, &more));
    HM_TRY_OUT(cli_answer(c, cmd, hm_buf_bytes(&all)));
    if (more && !c->json)
        fprintf(stderr, "more follow: --limit was %llu\n", (unsigned long long)limit);
out:
    hm_buf_free(&all);
    hm_buf_free(&filters);
    hm_buf_free(&base);
    return err;
}
