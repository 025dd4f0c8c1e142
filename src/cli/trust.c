// hypermesh trust: whom the mesh believes.
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "cli/cli.h"
#include "trustchain/foreign.h"

#define ID_BEGINNING_MIN 4u
#define PEM_FILE_MAX 32768u // what the API takes

// ---- what people see ----------------------------------------------------------------------------

static bool is_authority(yyjson_val *x)
{
    return strcmp(cli_str(x, "kind"), "authority") == 0;
}

static bool is_in_force(yyjson_val *x)
{
    return is_authority(x) || strcmp(cli_str(x, "kind"), "foreign") == 0;
}

static void put_state(hm_buf *b, yyjson_val *x)
{
    unsigned long long total = cli_u64(x, "total");
    if (is_in_force(x))
        hm_buf_printf(b, "in force since %s%llu", cli_u64(x, "since_height") ? "block " : "",
                      (unsigned long long)cli_u64(x, "since_height"));
    else
        hm_buf_printf(b, "%llu of %llu approve", (unsigned long long)cli_u64(x, "power"), total);
}

// What a foreign root is believed for; "" of anything else.
static void put_scope(hm_buf *b, yyjson_val *x)
{
    const char *zone = cli_str(x, "zone"), *prefix = cli_str(x, "prefix");
    hm_buf_printf(b, "%s%s%s", zone, *zone && *prefix ? " " : "", prefix);
}

hm_err cli_trust_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *x;
    (void)c;
    cli_table_begin(&t, "WHAT|NAME|FOR|STATE|ENDS|ID");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, x)
    {
        hm_buf state = {0}, scope = {0};
        cli_cell(&t, cli_str(x, "kind"));
        cli_cell(&t, cli_str(x, "name"));
        put_scope(&scope, x);
        cli_cell_buf(&t, &scope);
        put_state(&state, x);
        cli_cell_buf(&t, &state);
        cli_cell_of(&t, cli_put_time, cli_u64(x, is_in_force(x) ? "not_after_ms" : "ends_ms"));
        cli_cell(&t, cli_str(x, "id"));
    }
    return cli_table_end(&t);
}

static void show_time(const char *label, uint64_t ms)
{
    hm_buf b = {0};
    cli_put_time(&b, ms);
    cli_fact_buf(label, &b);
}

static void show_cert(yyjson_val *x)
{
    if (!*cli_str(x, "certificate"))
        return;
    cli_fact("name", "%s", cli_str(x, "name"));
    show_time("valid from", cli_u64(x, "not_before_ms"));
    show_time("valid until", cli_u64(x, "not_after_ms"));
    cli_fact("SHA-256", "%s", cli_str(x, "sha256"));
}

static void show_proposal(yyjson_val *x)
{
    size_t at, max;
    yyjson_val *m;
    const char *of = *cli_str(x, "foreign") ? "foreign" : "authority";
    cli_fact(of[0] == 'f' ? "foreign root" : of, "%s", cli_str(x, of));
    cli_fact("proposed by", "%s, block %llu", cli_str(x, "proposer_name"),
             (unsigned long long)cli_u64(x, "height"));
    show_time("open until", cli_u64(x, "ends_ms"));
    cli_fact("power", "%llu of %llu; done with more than two thirds",
             (unsigned long long)cli_u64(x, "power"), (unsigned long long)cli_u64(x, "total"));
    yyjson_arr_foreach(yyjson_obj_get(x, "approvals"), at, max, m)
        cli_fact(at ? "" : "approved by", "%s, power %llu", cli_str(m, "name"),
                 (unsigned long long)cli_u64(m, "power"));
}

hm_err cli_trust_facts(cli *c, yyjson_val *x)
{
    hm_buf scope = {0};
    (void)c;
    cli_fact(cli_str(x, "kind"), "%s", cli_str(x, "id"));
    if (is_in_force(x)) {
        if (cli_u64(x, "since_height"))
            cli_fact("in force", "since block %llu",
                     (unsigned long long)cli_u64(x, "since_height"));
        else
            cli_fact("in force", "%s", "since the genesis");
    }
    if (is_authority(x)) {
        cli_fact("revocations", "list %llu", (unsigned long long)cli_u64(x, "crl_number"));
        cli_fact("without it", "%llu of %llu of the power stand on others",
                 (unsigned long long)cli_u64(x, "power_apart"),
                 (unsigned long long)cli_u64(x, "total"));
    } else if (!is_in_force(x)) {
        show_proposal(x);
    }
    put_scope(&scope, x);
    if (scope.len > 0)
        cli_fact("believed for", "%s", hm_buf_cstr(&scope));
    hm_buf_free(&scope);
    show_cert(x);
    return HM_OK;
}

// ---- what is meant ------------------------------------------------------------------------------

hm_err cli_find_trust(cli *c, const char *what, char id[65])
{
    yyjson_doc *doc = NULL;
    yyjson_val *item;
    size_t at, max, several = 0, len = strlen(what);
    hm_err err;
    if (len < ID_BEGINNING_MIN || len > 64 || strspn(what, "0123456789abcdefABCDEF") != len)
        return hm_fail(HM_E_USAGE,
                       "\"%.80s\" is no id, nor the beginning of one with %u digits or "
                       "more",
                       what, ID_BEGINNING_MIN);
    HM_TRY(cli_ask(&c->client, "GET", "/v1/trust", (hm_bytes){0}, &doc));
    HM_TRY_OUT(cli_need_items(c, yyjson_doc_get_root(doc), "id"));
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "items"), at, max, item)
    {
        if (strncasecmp(cli_str(item, "id"), what, len) != 0)
            continue;
        snprintf(id, 65, "%s", cli_str(item, "id"));
        several++;
    }
    if (several == 0)
        err = hm_fail(HM_E_NOTFOUND,
                      "no authority or foreign root in force and no open proposal has this id: %s",
                      what);
    else if (several > 1)
        err = hm_fail(HM_E_USAGE, "%zu ids begin with %s", several, what);
out:
    yyjson_doc_free(doc);
    return err;
}

// ---- changes ------------------------------------------------------------------------------------

static void put_option(const cli *c, hm_buf *body, const char *name)
{
    const char *value = hm_config_get(&c->cfg, name);
    if (value && *value)
        hm_jw_str(body, name, value);
}

hm_err cli_trust_propose(cli *c, const cli_command *cmd)
{
    hm_buf pem = {0}, body = {0};
    bool foreign = cmd->options != NULL;
    tc_scope scope;
    if (foreign && tc_scope_parse(hm_config_get(&c->cfg, "zone"), hm_config_get(&c->cfg, "prefix"),
                                  &scope) != HM_OK)
        return hm_fail(HM_E_USAGE, "%s", hm_err_detail());
    hm_err err = cli_read_file(c->arg, PEM_FILE_MAX, &pem);
    if (err == HM_OK) {
        hm_jw_open(&body, NULL, '{');
        hm_jw_text(&body, "certificate", hm_buf_bytes(&pem));
        if (foreign) {
            put_option(c, &body, "zone");
            put_option(c, &body, "prefix");
        }
        hm_jw_close(&body, '}');
        err = cli_send_change(c, cmd, cmd->path, &body);
    }
    hm_buf_free(&pem);
    hm_buf_free(&body);
    return err;
}

hm_err cli_trust_say(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, body = {0};
    hm_err err = cli_put_path(c, cmd, &path);
    hm_buf_puts(&body, "{}");
    if (err == HM_OK)
        err = cli_send_change(c, cmd, hm_buf_cstr(&path), &body);
    hm_buf_free(&path);
    hm_buf_free(&body);
    return err;
}
