// hypermesh cert audit: the authority's audit log, read and checked.
#include "server/audit.h"

#include <stdio.h>

#include "cli/cli.h"

#define FILE_MAX (1u << 30)

hm_err cli_audit_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *x;
    (void)c;
    cli_table_begin(&t, "N>|WHEN|WHO|FROM|ACT|SUBJECT|DETAIL");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, x)
    {
        cli_cell_u64(&t, cli_u64(x, "n"));
        cli_cell_of(&t, cli_put_time, cli_u64(x, "at_ms"));
        cli_cell(&t, cli_str(x, "who"));
        cli_cell(&t, cli_str(x, "from"));
        cli_cell(&t, cli_str(x, "act"));
        cli_cell(&t, cli_str(x, "subject"));
        cli_cell(&t, cli_str(x, "detail"));
    }
    return cli_table_end(&t);
}

// ---- checking, from the newest line to the first
// --------------------------------------------------

typedef struct check {
    bool begun, has_wanted, found;
    hm_hash head, next; // of the newest line; of the line that must follow, downwards
    hm_hash wanted;     // --head
    uint64_t newest, n; // numbers of the newest and of the last line seen
} check;

static hm_err check_entry(check *k, const audit_entry *e)
{
    hm_buf line = {0};
    hm_hash hash;
    hm_err err;
    HM_TRY_OUT(audit_line(e, &line, &hash));
    if (!k->begun) {
        k->begun = true;
        k->newest = e->n;
        k->head = hash;
    } else if (e->n != k->n - 1) {
        err = hm_fail(HM_E_CORRUPT, "line %llu is followed by line %llu: some are missing",
                      (unsigned long long)e->n, (unsigned long long)k->n);
    } else if (!hm_hash_eq(&hash, &k->next)) {
        err = hm_fail(HM_E_CORRUPT, "line %llu is not the one that line %llu was written after",
                      (unsigned long long)e->n, (unsigned long long)k->n);
    }
    k->n = e->n;
    k->next = e->prev;
    k->found |= k->has_wanted && hm_hash_eq(&hash, &k->wanted);
out:
    hm_buf_free(&line);
    return err;
}

static hm_err check_end(const check *k)
{
    if (k->begun && (k->n != 1 || !hm_hash_is_zero(&k->next)))
        return hm_fail(HM_E_CORRUPT, "the log begins with line %llu: earlier ones are missing",
                       (unsigned long long)k->n);
    if (k->has_wanted && !k->found)
        return hm_fail(HM_E_CORRUPT, "no line has the hash of --head: the log was written anew");
    return HM_OK;
}

static hm_err check_page(check *k, yyjson_val *answer)
{
    yyjson_val *x, *head = yyjson_obj_get(answer, "head");
    size_t at, max;
    bool first = !k->begun;
    hm_hash told;
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, x)
    {
        audit_entry e;
        HM_TRY(audit_entry_read(x, &e));
        HM_TRY(check_entry(k, &e));
        if (first) { // later ones may be newer
            HM_TRY(hm_json_hex(head, "hash", told.b, HM_HASH_BYTES));
            if (!hm_hash_eq(&told, &k->head))
                return hm_fail(HM_E_CORRUPT, "the newest line is not the head that is told");
            first = false;
        }
    }
    return HM_OK;
}

static hm_err check_authority(cli *c, const cli_command *cmd, check *k)
{
    hm_buf path = {0};
    char next[32] = "";
    hm_err err;
    do {
        yyjson_doc *doc = NULL;
        hm_buf_reset(&path);
        hm_buf_printf(&path, "%s?limit=%u%s%s", cmd->path, AUDIT_PAGE_MAX,
                      next[0] ? "&cursor=" : "", next);
        err = hm_buf_status(&path);
        if (err == HM_OK)
            err = cli_ask(&c->authority, "GET", hm_buf_cstr(&path), (hm_bytes){0}, &doc);
        if (err == HM_OK)
            err = cli_need_items(c, yyjson_doc_get_root(doc), cmd->item_needs);
        if (err == HM_OK)
            err = check_page(k, yyjson_doc_get_root(doc));
        if (err == HM_OK)
            snprintf(next, sizeof next, "%s", cli_str(yyjson_doc_get_root(doc), "next"));
        yyjson_doc_free(doc);
    } while (err == HM_OK && next[0] && k->n > 1);
    hm_buf_free(&path);
    return err;
}

static hm_err check_file(const char *path, check *k)
{
    hm_buf text = {0};
    hm_err err;
    HM_TRY_OUT(cli_read_file(path, FILE_MAX, &text));
    const uint8_t *begin = text.ptr;
    size_t end = text.len;
    if (end > 0 && begin[end - 1] != '\n')
        err = hm_fail(HM_E_CORRUPT, "%s: the last line is cut off", path);
    while (err == HM_OK && end > 0) {
        audit_entry e;
        size_t from = end - 1;
        while (from > 0 && begin[from - 1] != '\n')
            from--;
        err = audit_line_read(hm_bytes_of(begin + from, end - 1 - from), &e);
        if (err == HM_OK)
            err = check_entry(k, &e);
        end = from;
    }
out:
    hm_buf_free(&text);
    return err;
}

static hm_err put_result(cli *c, const check *k)
{
    char head[2 * HM_HASH_BYTES + 1];
    hm_hex(head, k->head.b, HM_HASH_BYTES);
    if (!c->json) {
        cli_fact("lines", "%llu", (unsigned long long)k->newest);
        cli_fact("head", "%s", head);
        cli_fact("checked", "every line follows the one before it");
        return HM_OK;
    }
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_bool(&b, "good", true);
    hm_jw_u64(&b, "lines", k->newest);
    hm_jw_str(&b, "head", head);
    hm_jw_close(&b, '}');
    hm_err err = hm_buf_status(&b);
    if (err == HM_OK)
        printf("%s\n", hm_buf_cstr(&b));
    hm_buf_free(&b);
    return err;
}

hm_err cli_cert_audit(cli *c, const cli_command *cmd)
{
    const char *file = hm_config_get(&c->cfg, "file"), *head = hm_config_get(&c->cfg, "head");
    check k = {.has_wanted = head != NULL};
    if (!hm_config_on(&c->cfg, "verify")) {
        if (file || head)
            return hm_fail(HM_E_USAGE, "--file and --head belong to --verify");
        return cli_list(c, cmd);
    }
    if (head && hm_unhex(k.wanted.b, HM_HASH_BYTES, head, strlen(head)) != HM_OK)
        return hm_fail(HM_E_USAGE, "--head: a hash has %u hexadecimal digits", 2 * HM_HASH_BYTES);
    HM_TRY(file ? check_file(file, &k) : check_authority(c, cmd, &k));
    HM_TRY(check_end(&k));
    return put_result(c, &k);
}
