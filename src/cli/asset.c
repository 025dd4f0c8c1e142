// hypermesh asset: all of it but import.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

#define PATIENCE_S 3
#define NAME_MAX_BYTES 255u
#define NODES_MAX 100u // validators of a mesh

// ---- what people see ----------------------------------------------------------------------------

static void put_content_size(hm_buf *b, yyjson_val *asset)
{
    yyjson_val *content = yyjson_obj_get(asset, "content");
    if (yyjson_is_obj(content))
        cli_put_size(b, cli_u64(content, "size"));
    else
        hm_buf_puts(b, "-");
}

hm_err cli_assets_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *a;
    (void)c;
    cli_table_begin(&t, "ID|KIND|STATE|POLICY|OWNER|SIZE>|NAME");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, a)
    {
        hm_buf size = {0};
        cli_cell_id(&t, cli_str(a, "id"));
        cli_cell(&t, cli_str(a, "kind"));
        cli_cell(&t, cli_str(a, "state"));
        cli_cell(&t, cli_str(a, "policy"));
        cli_cell(&t, cli_str(a, "owner_name"));
        put_content_size(&size, a);
        cli_cell_buf(&t, &size);
        cli_cell(&t, cli_str(a, "name"));
    }
    return cli_table_end(&t);
}

static void show_grants(yyjson_val *a)
{
    size_t at, max, k, words;
    yyjson_val *g, *right;
    yyjson_arr_foreach(yyjson_obj_get(a, "grants"), at, max, g)
    {
        hm_buf b = {0};
        yyjson_arr_foreach(yyjson_obj_get(g, "rights"), k, words, right)
        {
            hm_buf_printf(&b, "%s%s", k ? ", " : "", yyjson_get_str(right));
        }
        hm_buf_printf(&b, " to %s", cli_str(g, "node"));
        cli_fact_buf("grant", &b);
    }
}

static void show_when(const char *label, uint64_t height, uint64_t time_ms)
{
    hm_buf b = {0};
    hm_buf_printf(&b, "block %llu, ", (unsigned long long)height);
    cli_put_time(&b, time_ms);
    cli_fact_buf(label, &b);
}

// Where the chunks should be by placement, and who says that it holds them.
static void show_kept(yyjson_val *kept, uint64_t chunks)
{
    size_t at, max;
    yyjson_val *n;
    if (!yyjson_is_obj(kept)) {
        cli_fact("kept", "unknown: the content may not be read here without the right and a token");
        return;
    }
    yyjson_arr_foreach(yyjson_obj_get(kept, "placed"), at, max, n)
    {
        hm_buf b = {0};
        hm_buf_printf(&b, "%s: ", cli_str(n, "name"));
        if (cli_true(n, "answered"))
            hm_buf_printf(&b, "holds %llu of %llu chunks, ", (unsigned long long)cli_u64(n, "held"),
                          (unsigned long long)chunks);
        else
            hm_buf_puts(&b, "does not answer, ");
        hm_buf_printf(&b, "should hold %llu", (unsigned long long)cli_u64(n, "chunks"));
        cli_fact_buf(at ? "" : "kept", &b);
    }
}

hm_err cli_asset_facts(cli *c, yyjson_val *a)
{
    (void)c;
    hm_buf b = {0};
    yyjson_val *content = yyjson_obj_get(a, "content");
    cli_fact("asset", "%s", cli_str(a, "name"));
    cli_fact("id", "%s", cli_str(a, "id"));
    cli_fact("kind", "%s", cli_str(a, "kind"));
    cli_fact("state", "%s%s%s", cli_str(a, "state"), cli_str(a, "holder")[0] ? ", held by " : "",
             cli_str(a, "holder"));
    cli_fact("owner", "%s, %s", cli_str(a, "owner_name"), cli_str(a, "owner"));
    cli_fact("policy", "%s", cli_str(a, "policy"));
    show_grants(a);
    cli_fact("address", "%s", cli_str(a, "addr"));
    show_when("registered", cli_u64(a, "registered_height"), cli_u64(a, "registered_ms"));
    cli_fact("by operation", "%s", cli_str(a, "registered_op"));
    show_when("changed", cli_u64(a, "updated_height"), cli_u64(a, "updated_ms"));
    cli_fact("revision", "%llu", (unsigned long long)cli_u64(a, "revision"));
    if (!yyjson_is_obj(content)) {
        cli_fact("content", "none");
        return HM_OK;
    }
    cli_put_size(&b, cli_u64(content, "size"));
    hm_buf_printf(&b, " (%llu bytes) in %llu chunks of at most ",
                  (unsigned long long)cli_u64(content, "size"),
                  (unsigned long long)cli_u64(content, "chunks"));
    cli_put_size(&b, cli_u64(content, "chunk_bytes"));
    cli_fact_buf("content", &b);
    cli_fact("content root", "%s", cli_str(content, "root"));
    show_kept(yyjson_obj_get(a, "kept"), cli_u64(content, "chunks"));
    return HM_OK;
}

hm_err cli_history_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *e;
    (void)c;
    cli_table_begin(&t, "TIME|OP|ACTION|BY|STATE AND OWNER AFTER IT");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, e)
    {
        hm_buf op = {0};
        cli_cell_of(&t, cli_put_time, cli_u64(e, "time_ms"));
        hm_buf_printf(&op, "%llu/%llu", (unsigned long long)cli_u64(e, "height"),
                      (unsigned long long)cli_u64(e, "index"));
        cli_cell_buf(&t, &op);
        cli_cell(&t, cli_str(e, "action"));
        cli_cell(&t, cli_str(e, "actor_name"));
        cli_cell(&t, cli_str(e, "detail"));
    }
    return cli_table_end(&t);
}

hm_err cli_receipt_show(cli *c, yyjson_val *r)
{
    hm_buf b = {0};
    (void)c;
    cli_fact("asset", "%s", cli_str(r, "asset"));
    cli_fact("operation", "%s", cli_str(r, "op"));
    hm_buf_printf(&b, "in block %llu as %llu/%llu, ", (unsigned long long)cli_u64(r, "height"),
                  (unsigned long long)cli_u64(r, "height"),
                  (unsigned long long)cli_u64(r, "index"));
    cli_put_micros(&b, cli_u64(r, "finality_us"));
    hm_buf_puts(&b, " after it was submitted");
    cli_fact_buf("final", &b);
    return HM_OK;
}

// ---- commands -----------------------------------------------------------------------------------

typedef struct kept {
    struct {
        char name[64];
        uint64_t placed, held; // chunks
        bool answered;
    } nodes[NODES_MAX];
    size_t count;
    uint64_t here;
} kept;

// The place of a node's name, NODES_MAX when there is no room for one more.
static size_t place_of(kept *k, yyjson_val *text)
{
    const char *name = yyjson_get_str(text) ? yyjson_get_str(text) : "?";
    size_t i = 0;
    while (i < k->count && strcmp(k->nodes[i].name, name) != 0)
        i++;
    if (i == k->count && i < NODES_MAX)
        snprintf(k->nodes[k->count++].name, sizeof(k->nodes[0].name), "%s", name);
    return i;
}

static void count_chunks(kept *k, yyjson_val *page)
{
    size_t at, max, i, n;
    yyjson_val *chunk, *name;
    yyjson_arr_foreach(yyjson_obj_get(page, "items"), at, max, chunk)
    {
        k->here += cli_true(chunk, "here");
        yyjson_arr_foreach(yyjson_obj_get(chunk, "nodes"), i, n, name)
        {
            size_t place = place_of(k, name);
            if (place < NODES_MAX)
                k->nodes[place].placed++;
        }
        yyjson_arr_foreach(yyjson_obj_get(chunk, "held_by"), i, n, name)
        {
            size_t place = place_of(k, name);
            if (place < NODES_MAX)
                k->nodes[place].held++;
        }
    }
    yyjson_arr_foreach(yyjson_obj_get(page, "answered"), at, max, name)
    {
        size_t place = place_of(k, name);
        if (place < NODES_MAX)
            k->nodes[place].answered = true;
    }
}

static hm_err ask_chunks(cli *c, const char *path, kept *k)
{
    char next[24] = "0";
    hm_err err = HM_OK;
    while (err == HM_OK && next[0]) {
        hm_buf page = {0};
        yyjson_doc *doc = NULL;
        hm_buf_printf(&page, "%s/chunks?limit=500&cursor=%s", path, next);
        err = cli_ask(&c->client, "GET", hm_buf_cstr(&page), (hm_bytes){0}, &doc);
        if (err == HM_OK)
            err = cli_need(c, yyjson_doc_get_root(doc), "next~ answered[");
        if (err == HM_OK)
            err = cli_need_items(c, yyjson_doc_get_root(doc), "index# here? nodes[ held_by[");
        if (err == HM_OK)
            count_chunks(k, yyjson_doc_get_root(doc));
        snprintf(next, sizeof(next), "%s", cli_str(yyjson_doc_get_root(doc), "next"));
        yyjson_doc_free(doc);
        hm_buf_free(&page);
    }
    return err;
}

static void put_kept(hm_buf *b, const kept *k)
{
    hm_jw_open(b, "kept", '{');
    hm_jw_u64(b, "here", k->here);
    hm_jw_open(b, "placed", '[');
    for (size_t i = 0; i < k->count; i++) {
        hm_jw_open(b, NULL, '{');
        hm_jw_str(b, "name", k->nodes[i].name);
        hm_jw_u64(b, "chunks", k->nodes[i].placed);
        hm_jw_u64(b, "held", k->nodes[i].held);
        hm_jw_bool(b, "answered", k->nodes[i].answered);
        hm_jw_close(b, '}');
    }
    hm_jw_close(b, ']');
    hm_jw_close(b, '}');
}

// The asset as the node gives it, and "kept": null when there is no content to be read here.
hm_err cli_asset_show(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, asset = {0};
    yyjson_doc *doc = NULL;
    kept k = {.count = 0};
    hm_err err;
    HM_TRY_OUT(cli_put_path(c, cmd, &path));
    HM_TRY_OUT(
        hm_client_request(&c->client, "GET", hm_buf_cstr(&path), (hm_bytes){0}, NULL, &asset));
    HM_TRY_OUT(cli_need_answer(c, cmd, hm_buf_bytes(&asset)));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&asset), &doc));
    hm_err found = HM_E_NOTFOUND;
    if (yyjson_is_obj(yyjson_obj_get(yyjson_doc_get_root(doc), "content")))
        found = ask_chunks(c, hm_buf_cstr(&path), &k);
    if (found != HM_OK && found != HM_E_NOTFOUND && found != HM_E_DENIED) {
        err = found;
        goto out;
    }
    while (asset.len && asset.ptr[asset.len - 1] != '}')
        asset.len--;
    asset.len--; // the object goes on
    if (found == HM_OK)
        put_kept(&asset, &k);
    else
        hm_jw_str(&asset, "kept", NULL);
    hm_buf_puts(&asset, "}\n");
    HM_TRY_OUT(hm_buf_status(&asset));
    err = cli_answer(c, cmd, hm_buf_bytes(&asset));
out:
    yyjson_doc_free(doc);
    hm_buf_free(&path);
    hm_buf_free(&asset);
    return err;
}

static void on_alarm(int number)
{
    static const char text[] =
        "waiting until it is final; is a quorum up? hypermesh status tells\n";
    ssize_t told = write(STDERR_FILENO, text, sizeof(text) - 1);
    (void)told;
    (void)number;
}

hm_err cli_send_change(cli *c, const cli_command *cmd, const char *path, hm_buf *body)
{
    const struct sigaction act = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    hm_buf answer = {0};
    hm_err err = hm_buf_status(body);
    sigaction(SIGALRM, &act, NULL);
    alarm(PATIENCE_S);
    if (err == HM_OK)
        err = hm_client_request(&c->client, "POST", path, hm_buf_bytes(body), NULL, &answer);
    alarm(0);
    if (err == HM_OK)
        err = cli_need_answer(c, cmd, hm_buf_bytes(&answer));
    if (err == HM_OK)
        err = cli_answer(c, cmd, hm_buf_bytes(&answer));
    hm_buf_free(&answer);
    return err;
}

hm_err cli_check_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MAX_BYTES)
        return hm_fail(HM_E_RANGE, "the name has %zu bytes; 1 to %u are allowed", len,
                       NAME_MAX_BYTES);
    return hm_json_name_check(hm_bytes_str(name));
}

// The content goes first; what it is then stands in the registration.
hm_err cli_asset_register(cli *c, const cli_command *cmd)
{
    const char *file = hm_config_get(&c->cfg, "file");
    const char *policy = hm_config_get(&c->cfg, "policy");
    hm_buf content = {0}, body = {0};
    yyjson_doc *doc = NULL;
    bool same = false;
    hm_err err;
    HM_TRY(cli_check_name(hm_config_get(&c->cfg, "name")));
    if (file) {
        HM_TRY_OUT(
            hm_client_request(&c->client, "POST", "/v1/content", (hm_bytes){0}, file, &content));
        HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&content), &doc));
        HM_TRY_OUT(cli_need(c, yyjson_doc_get_root(doc), CLI_NEEDS_CONTENT));
        HM_TRY_OUT(cli_same_content(file, yyjson_doc_get_root(doc), &same));
        if (!same)
            HM_TRY_OUT(hm_fail(HM_E_CHUNK_HASH, "the node took another content than %s has", file));
        while (content.len && content.ptr[content.len - 1] == '\n')
            content.len--;
    }
    hm_jw_open(&body, NULL, '{');
    hm_jw_str(&body, "kind", hm_config_get(&c->cfg, "kind"));
    hm_jw_str(&body, "name", hm_config_get(&c->cfg, "name"));
    if (policy)
        hm_jw_str(&body, "policy", policy);
    if (file)
        hm_jw_raw(&body, "content", hm_buf_bytes(&content));
    hm_jw_close(&body, '}');
    err = cli_send_change(c, cmd, cmd->path, &body);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&content);
    hm_buf_free(&body);
    return err;
}

// The command's options are the fields of the request.
hm_err cli_asset_change(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, body = {0};
    char id[65];
    hm_err err;
    HM_TRY_OUT(cli_put_path(c, cmd, &path));
    hm_jw_open(&body, NULL, '{');
    for (const cli_option *o = cmd->options; o && o->name; o++) {
        const char *value = hm_config_get(&c->cfg, o->name);
        if (strcmp(o->name, "to") == 0) {
            HM_TRY_OUT(cli_find_node(c, value, id));
            value = id;
        }
        hm_jw_str(&body, o->name, value);
    }
    hm_jw_close(&body, '}');
    err = cli_send_change(c, cmd, hm_buf_cstr(&path), &body);
out:
    hm_buf_free(&path);
    hm_buf_free(&body);
    return err;
}

hm_err cli_got_show(cli *c, yyjson_val *got)
{
    hm_buf b = {0};
    (void)c;
    cli_put_size(&b, cli_u64(got, "size"));
    hm_buf_printf(&b, ", the content that the ledger names (root %.12s)", cli_str(got, "root"));
    cli_fact_buf(cli_str(got, "file"), &b);
    return HM_OK;
}

// The file is what the asset's record commits to, not only what came over the wire.
static hm_err check_file(const char *file, yyjson_val *content, hm_buf *answer)
{
    struct stat st;
    uint64_t size, chunk_bytes;
    hm_hash want, have;
    HM_TRY(hm_json_u64(content, "size", 0, UINT64_MAX, &size));
    HM_TRY(hm_json_u64(content, "chunk_bytes", 1, UINT32_MAX, &chunk_bytes));
    HM_TRY(hm_json_hex(content, "root", want.b, HM_HASH_BYTES));
    if (stat(file, &st) != 0)
        return hm_fail(HM_E_IO, "%s cannot be read", file);
    hm_err err = (uint64_t)st.st_size == size ? cli_content_root(file, chunk_bytes, size, &have)
                                              : HM_E_CHUNK_HASH;
    if (err != HM_OK || !hm_hash_eq(&have, &want))
        return hm_fail(HM_E_CHUNK_HASH, "%s is not what the ledger names; it is left as it came",
                       file);
    hm_jw_open(answer, NULL, '{');
    hm_jw_str(answer, "file", file);
    hm_jw_u64(answer, "size", size);
    hm_jw_hex(answer, "root", want.b, HM_HASH_BYTES);
    hm_jw_close(answer, '}');
    hm_buf_puts(answer, "\n");
    return hm_buf_status(answer);
}

hm_err cli_asset_get(cli *c, const cli_command *cmd)
{
    const char *file = hm_config_get(&c->cfg, "output");
    hm_buf path = {0}, answer = {0};
    yyjson_doc *doc = NULL;
    struct stat st;
    hm_err err;
    HM_TRY_OUT(cli_put_path(c, cmd, &path));
    HM_TRY_OUT(cli_ask(&c->client, "GET", hm_buf_cstr(&path), (hm_bytes){0}, &doc));
    HM_TRY_OUT(cli_need(c, yyjson_doc_get_root(doc), "id content~"));
    hm_buf_puts(&path, "/content");
    HM_TRY_OUT(hm_client_download(&c->client, hm_buf_cstr(&path), file));
    if (strcmp(file, "-") == 0 || lstat(file, &st) != 0 || !S_ISREG(st.st_mode))
        goto out; // what was written to a pipe cannot be read again
    HM_TRY_OUT(check_file(file, yyjson_obj_get(yyjson_doc_get_root(doc), "content"), &answer));
    err = cli_answer(c, cmd, hm_buf_bytes(&answer));
out:
    yyjson_doc_free(doc);
    hm_buf_free(&path);
    hm_buf_free(&answer);
    return err;
}
