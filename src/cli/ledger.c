// hypermesh ledger: blocks and operations as people see them.
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

// ---- what people see ----------------------------------------------------------------------------

hm_err cli_block_show(cli *c, yyjson_val *b)
{
    hm_buf time = {0};
    hm_buf path = {0}, ops = {0};
    yyjson_doc *doc = NULL;
    bool more;
    hm_err err;
    cli_fact("block", "%llu", (unsigned long long)cli_u64(b, "height"));
    cli_fact("id", "%s", cli_str(b, "id"));
    cli_fact("parent", "%s", cli_str(b, "parent"));
    cli_put_time(&time, cli_u64(b, "time_ms"));
    cli_fact_buf("time", &time);
    cli_fact("view", "%llu, epoch %llu", (unsigned long long)cli_u64(b, "view"),
             (unsigned long long)cli_u64(b, "epoch"));
    cli_fact("proposer", "%s, %s", cli_str(b, "proposer_name"), cli_str(b, "proposer"));
    cli_fact("state root", "%s", cli_str(b, "state_root"));
    cli_fact("operations", "%llu, root %s", (unsigned long long)cli_u64(b, "ops_count"),
             cli_str(b, "ops_root"));
    if (!cli_u64(b, "ops_count"))
        return HM_OK;
    hm_buf_printf(&path, "/v1/blocks/%llu/operations", (unsigned long long)cli_u64(b, "height"));
    HM_TRY_OUT(cli_pages(c, hm_buf_cstr(&path), "", CLI_NEEDS_OP, 100, UINT64_MAX, &ops, &more));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&ops), &doc));
    putchar('\n');
    err = cli_ops_show(c, yyjson_doc_get_root(doc));
out:
    yyjson_doc_free(doc);
    hm_buf_free(&path);
    hm_buf_free(&ops);
    return err;
}

hm_err cli_ops_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *op;
    (void)c;
    cli_table_begin(&t, "OP|TIME|WHAT|OWNER|ID");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, op)
    {
        hm_buf b = {0};
        hm_buf_printf(&b, "%llu/%llu", (unsigned long long)cli_u64(op, "height"),
                      (unsigned long long)cli_u64(op, "index"));
        cli_cell_buf(&t, &b);
        cli_cell_of(&t, cli_put_time, cli_u64(op, "time_ms"));
        hm_buf_printf(&b, "%s %s", cli_str(op, "module"), cli_str(op, "kind"));
        cli_cell_buf(&t, &b);
        cli_cell(&t, cli_str(op, "owner_name"));
        cli_cell(&t, cli_str(op, "id"));
    }
    return cli_table_end(&t);
}

hm_err cli_blocks_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *b;
    (void)c;
    cli_table_begin(&t, "HEIGHT>|TIME|OPS>|PROPOSER|ID");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, b)
    {
        cli_cell_u64(&t, cli_u64(b, "height"));
        cli_cell_of(&t, cli_put_time, cli_u64(b, "time_ms"));
        cli_cell_u64(&t, cli_u64(b, "ops_count"));
        cli_cell(&t, cli_str(b, "proposer_name"));
        cli_cell(&t, cli_str(b, "id"));
    }
    return cli_table_end(&t);
}

// What the operation says, field by field; what is nested is shown as it is.
static void show_payload(yyjson_val *payload)
{
    size_t at, max;
    yyjson_val *key, *value;
    yyjson_obj_foreach(payload, at, max, key, value)
    {
        char label[64];
        const char *name = yyjson_get_str(key);
        char *text = yyjson_is_str(value) ? NULL : yyjson_val_write(value, 0, NULL);
        snprintf(label, sizeof(label), "  %s", name ? name : "");
        cli_fact(label, "%s", text ? text : yyjson_is_str(value) ? yyjson_get_str(value) : "");
        free(text);
    }
}

hm_err cli_op_show(cli *c, yyjson_val *op)
{
    hm_buf b = {0};
    (void)c;
    cli_fact("operation", "%s", cli_str(op, "id"));
    cli_fact("what", "%s %s", cli_str(op, "module"), cli_str(op, "kind"));
    hm_buf_printf(&b, "%llu/%llu: block %llu, ", (unsigned long long)cli_u64(op, "height"),
                  (unsigned long long)cli_u64(op, "index"),
                  (unsigned long long)cli_u64(op, "height"));
    cli_put_time(&b, cli_u64(op, "time_ms"));
    cli_fact_buf("final", &b);
    cli_fact("owner", "%s, %s", cli_str(op, "owner_name"), cli_str(op, "owner"));
    cli_fact("nonce", "%llu", (unsigned long long)cli_u64(op, "nonce"));
    cli_fact("asset", "%s", cli_str(op, "asset"));
    if (yyjson_is_obj(yyjson_obj_get(op, "payload"))) {
        cli_fact("says", "%s", "");
        show_payload(yyjson_obj_get(op, "payload"));
    }
    return HM_OK;
}
