// hypermesh dns: all of it but resolve.
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

#define DAY_S 86400u

// ---- what people see ----------------------------------------------------------------------------

static void put_records(hm_buf *b, yyjson_val *name)
{
    size_t at, max;
    yyjson_val *r;
    yyjson_arr_foreach(yyjson_obj_get(name, "records"), at, max, r)
    {
        hm_buf_printf(b, "%s%s ", at ? ", " : "", cli_str(r, "type"));
        cli_put_text(b, cli_str(r, "data"));
    }
}

hm_err cli_names_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *n;
    (void)c;
    cli_table_begin(&t, "NAME|OWNER|STATE|UNTIL|RECORDS");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, n)
    {
        hm_buf records = {0};
        cli_cell(&t, cli_str(n, "full"));
        cli_cell(&t, cli_str(n, "owner_name"));
        cli_cell(&t, cli_true(n, "published") ? "published" : "not published");
        cli_cell_of(&t, cli_put_time, cli_u64(n, "expires_ms"));
        put_records(&records, n);
        cli_cell_buf(&t, &records);
    }
    return cli_table_end(&t);
}

hm_err cli_name_facts(cli *c, yyjson_val *n)
{
    size_t at, max;
    yyjson_val *r;
    hm_buf until = {0};
    (void)c;
    cli_fact("name", "%s", cli_str(n, "full"));
    cli_fact("asset", "%s", cli_str(n, "asset"));
    cli_fact("owner", "%s, %s", cli_str(n, "owner_name"), cli_str(n, "owner"));
    cli_fact("state", "%s, %s", cli_str(n, "state"),
             cli_true(n, "published") ? "published" : "not published");
    cli_put_time(&until, cli_u64(n, "expires_ms"));
    cli_fact_buf("until", &until);
    yyjson_arr_foreach(yyjson_obj_get(n, "records"), at, max, r)
        cli_fact(at ? "" : "records", "%s %s, kept for %llu s", cli_str(r, "type"),
                 cli_str(r, "data"), (unsigned long long)cli_u64(r, "ttl"));
    return HM_OK;
}

hm_err cli_zone_show(cli *c, yyjson_val *z)
{
    size_t at, max;
    yyjson_val *k;
    (void)c;
    cli_fact("zone", "%s", cli_str(z, "zone"));
    cli_fact("serial", "%llu", (unsigned long long)cli_u64(z, "serial"));
    yyjson_arr_foreach(yyjson_obj_get(z, "keys"), at, max, k)
        cli_fact(at ? "" : "keys", "%s: %s. DS %s", cli_str(k, "name"), cli_str(z, "zone"),
                 cli_str(k, "ds"));
    return HM_OK;
}

// ---- changes ------------------------------------------------------------------------------------

// What is given in the option, each as a record.
static hm_err put_option(cli *c, hm_buf *b, const char *option, const char *type, bool list,
                         uint64_t ttl)
{
    const char *value = hm_config_get(&c->cfg, option);
    while (value && *value) {
        size_t len = list ? strcspn(value, ",") : strlen(value);
        hm_jw_open(b, NULL, '{');
        hm_jw_str(b, "type", type);
        hm_jw_u64(b, "ttl", ttl);
        hm_jw_text(b, "data", hm_bytes_of(value, len));
        hm_jw_close(b, '}');
        value += len + (value[len] == ',');
    }
    return hm_buf_status(b);
}

static hm_err put_days(cli *c, hm_buf *b)
{
    uint64_t days;
    HM_TRY(hm_config_u64(&c->cfg, "days", 1, 732, &days));
    hm_jw_u64(b, "life_s", days * DAY_S);
    return hm_buf_status(b);
}

hm_err cli_dns_register(cli *c, const cli_command *cmd)
{
    hm_buf body = {0};
    uint64_t ttl;
    hm_err err;
    hm_jw_open(&body, NULL, '{');
    hm_jw_str(&body, "name", c->arg);
    HM_TRY_OUT(hm_config_u64(&c->cfg, "ttl", 0, UINT32_MAX, &ttl));
    HM_TRY_OUT(put_days(c, &body));
    hm_jw_open(&body, "records", '[');
    HM_TRY_OUT(put_option(c, &body, "aaaa", "AAAA", true, ttl));
    HM_TRY_OUT(put_option(c, &body, "txt", "TXT", false, ttl));
    hm_jw_close(&body, ']');
    hm_jw_close(&body, '}');
    err = cli_send_change(c, cmd, cmd->path, &body);
out:
    hm_buf_free(&body);
    return err;
}

// Posts the list of records that is in the buffer.
static hm_err send_records(cli *c, const cli_command *cmd, hm_buf *records)
{
    hm_buf path = {0}, body = {0};
    hm_err err = cli_put_path(c, cmd, &path);
    hm_buf_puts(&path, "/records");
    hm_jw_open(&body, NULL, '{');
    hm_jw_raw(&body, "records", hm_buf_bytes(records));
    hm_jw_close(&body, '}');
    if (err == HM_OK)
        err = hm_buf_status(records);
    if (err == HM_OK)
        err = cli_send_change(c, cmd, hm_buf_cstr(&path), &body);
    hm_buf_free(&path);
    hm_buf_free(&body);
    return err;
}

static bool is_given(cli *c, const char *type)
{
    return hm_config_get(&c->cfg, strcmp(type, "AAAA") == 0 ? "aaaa" : "txt") != NULL;
}

// Those that stay: AAAA and TXT of which nothing else is said.
static void put_kept(cli *c, hm_buf *b, yyjson_val *name)
{
    size_t at, max;
    yyjson_val *r;
    yyjson_arr_foreach(yyjson_obj_get(name, "records"), at, max, r)
    {
        const char *type = cli_str(r, "type");
        if ((strcmp(type, "AAAA") != 0 && strcmp(type, "TXT") != 0) || is_given(c, type))
            continue;
        hm_jw_open(b, NULL, '{');
        hm_jw_str(b, "type", type);
        hm_jw_u64(b, "ttl", cli_u64(r, "ttl"));
        hm_jw_str(b, "data", cli_str(r, "data"));
        hm_jw_close(b, '}');
    }
}

static hm_err ask_name(cli *c, const cli_command *cmd, yyjson_doc **doc)
{
    hm_buf path = {0};
    hm_err err = cli_put_path(c, cmd, &path);
    if (err == HM_OK)
        err = cli_ask(&c->client, "GET", hm_buf_cstr(&path), (hm_bytes){0}, doc);
    if (err == HM_OK)
        err = cli_need(c, yyjson_doc_get_root(*doc), "asset records[");
    hm_buf_free(&path);
    return err;
}

hm_err cli_dns_set(cli *c, const cli_command *cmd)
{
    hm_buf records = {0};
    yyjson_doc *doc = NULL;
    uint64_t ttl;
    hm_err err;
    if (!is_given(c, "AAAA") && !is_given(c, "TXT"))
        return hm_fail(HM_E_USAGE, "give --aaaa or --txt, or both");
    HM_TRY(hm_config_u64(&c->cfg, "ttl", 0, UINT32_MAX, &ttl));
    HM_TRY_OUT(ask_name(c, cmd, &doc));
    hm_jw_open(&records, NULL, '[');
    put_kept(c, &records, yyjson_doc_get_root(doc));
    HM_TRY_OUT(put_option(c, &records, "aaaa", "AAAA", true, ttl));
    HM_TRY_OUT(put_option(c, &records, "txt", "TXT", false, ttl));
    hm_jw_close(&records, ']');
    err = send_records(c, cmd, &records);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&records);
    return err;
}

hm_err cli_dns_delegate(cli *c, const cli_command *cmd)
{
    hm_buf records = {0};
    uint64_t ttl;
    hm_err err;
    HM_TRY(hm_config_u64(&c->cfg, "ttl", 0, UINT32_MAX, &ttl));
    hm_jw_open(&records, NULL, '[');
    HM_TRY_OUT(put_option(c, &records, "ns", "NS", true, ttl));
    HM_TRY_OUT(put_option(c, &records, "ds", "DS", true, ttl));
    HM_TRY_OUT(put_option(c, &records, "aaaa", "AAAA", true, ttl));
    hm_jw_close(&records, ']');
    err = send_records(c, cmd, &records);
out:
    hm_buf_free(&records);
    return err;
}

hm_err cli_dns_renew(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, body = {0};
    hm_err err;
    HM_TRY_OUT(cli_put_path(c, cmd, &path));
    hm_jw_open(&body, NULL, '{');
    HM_TRY_OUT(put_days(c, &body));
    hm_jw_close(&body, '}');
    err = cli_send_change(c, cmd, hm_buf_cstr(&path), &body);
out:
    hm_buf_free(&path);
    hm_buf_free(&body);
    return err;
}

hm_err cli_dns_transfer(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, body = {0};
    yyjson_doc *doc = NULL;
    char to[65];
    hm_err err;
    HM_TRY_OUT(ask_name(c, cmd, &doc));
    HM_TRY_OUT(cli_find_node(c, hm_config_get(&c->cfg, "to"), to));
    hm_buf_printf(&path, "/v1/assets/%s/transfer", cli_str(yyjson_doc_get_root(doc), "asset"));
    hm_jw_open(&body, NULL, '{');
    hm_jw_str(&body, "to", to);
    hm_jw_close(&body, '}');
    err = cli_send_change(c, cmd, hm_buf_cstr(&path), &body);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&path);
    hm_buf_free(&body);
    return err;
}
