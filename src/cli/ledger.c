// hypermesh ledger, proof.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"

// ---- what people see ----------------------------------------------------------------------------

hm_err cli_block_show(cli *c, yyjson_val *b)
{
    hm_buf time = {0};
    size_t at, max;
    yyjson_val *op;
    (void)c;
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
    yyjson_arr_foreach(yyjson_obj_get(b, "ops"), at, max, op)
    {
        char name[40];
        snprintf(name, sizeof(name), "  %llu/%zu", (unsigned long long)cli_u64(b, "height"), at);
        cli_fact(name, "%s", yyjson_get_str(op) ? yyjson_get_str(op) : "");
    }
    return HM_OK;
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
    cli_fact("owner", "%s", cli_str(op, "owner"));
    cli_fact("nonce", "%llu", (unsigned long long)cli_u64(op, "nonce"));
    cli_fact("asset", "%s", cli_str(op, "asset"));
    if (yyjson_is_obj(yyjson_obj_get(op, "payload"))) {
        cli_fact("says", "%s", "");
        show_payload(yyjson_obj_get(op, "payload"));
    }
    return HM_OK;
}

// ---- proofs -------------------------------------------------------------------------------------

static void show_proof(yyjson_val *p)
{
    size_t at, max;
    yyjson_val *check;
    cli_fact(cli_str(p, "name"), "%s  %s", cli_true(p, "passed") ? "passed" : "FAILED",
             cli_str(p, "summary"));
    yyjson_arr_foreach(yyjson_obj_get(p, "checks"), at, max, check)
    {
        const char *detail = cli_str(check, "detail");
        cli_fact("", "%s %s%s%s", cli_true(check, "passed") ? "ok    " : "FAILED",
                 cli_str(check, "what"), detail[0] ? ": " : "", detail);
    }
}

hm_err cli_proof_show(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, answer = {0};
    yyjson_doc *doc = NULL;
    size_t at, max, passed = 0, count = 0;
    yyjson_val *p;
    hm_err err;
    HM_TRY_OUT(cli_put_path(c, cmd, &path));
    HM_TRY_OUT(
        hm_client_request(&c->client, "GET", hm_buf_cstr(&path), (hm_bytes){0}, NULL, &answer));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&answer), &doc));
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "items"), at, max, p)
    {
        if (!c->json)
            show_proof(p);
        passed += cli_true(p, "passed");
        count++;
    }
    if (c->json)
        fwrite(answer.ptr, 1, answer.len, stdout);
    if (passed != count || count != 4)
        err = hm_fail(HM_E_CORRUPT, "%zu of 4 proofs pass", passed);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&path);
    hm_buf_free(&answer);
    return err;
}

// ---- verify -------------------------------------------------------------------------------------

// The node tells how far it is; the last line is the result.
static void on_verify_line(void *ctx, hm_bytes line)
{
    hm_buf *last = ctx;
    uint64_t done, total;
    yyjson_doc *doc = yyjson_read((const char *)line.ptr, line.len, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    hm_buf_reset(last);
    hm_buf_put(last, line);
    if (hm_json_u64(root, "done", 0, UINT64_MAX, &done) == HM_OK &&
        hm_json_u64(root, "total", 0, UINT64_MAX, &total) == HM_OK)
        fprintf(stderr,
                isatty(STDERR_FILENO) ? "\r\033[Kblock %llu of %llu" : "block %llu of %llu\n",
                (unsigned long long)done, (unsigned long long)total);
    yyjson_doc_free(doc);
}

hm_err cli_verify_show(cli *c, yyjson_val *v)
{
    (void)c;
    cli_fact("ledger", "%s", cli_true(v, "good") ? "good" : "NOT GOOD");
    if (!cli_true(v, "good"))
        return HM_OK;
    cli_fact("blocks", "%llu", (unsigned long long)cli_u64(v, "blocks"));
    cli_fact("operations", "%llu", (unsigned long long)cli_u64(v, "ops"));
    cli_fact("state root", "%s", cli_str(v, "state_root"));
    return HM_OK;
}

hm_err cli_ledger_verify(cli *c, const cli_command *cmd)
{
    hm_buf last = {0};
    yyjson_doc *doc = NULL;
    bool good = false;
    hm_err err;
    HM_TRY_OUT(hm_client_lines(&c->client, "POST", cmd->path, on_verify_line, &last));
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    hm_buf_puts(&last, "\n");
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&last), &doc));
    HM_TRY_OUT(hm_json_bool(yyjson_doc_get_root(doc), "good", &good));
    HM_TRY_OUT(cli_answer(c, cmd, hm_buf_bytes(&last)));
    if (!good)
        err = hm_fail(HM_E_CORRUPT, "the node's ledger is not good");
out:
    yyjson_doc_free(doc);
    hm_buf_free(&last);
    return err;
}
