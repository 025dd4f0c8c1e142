// hypermesh: the command line. One table makes the commands, --help, the man page and completion.
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <yyjson.h>

#include "cli/cli.h"

static const hm_option options[] = {
    {"node", "HYPERMESH_NODE", NULL, "URL", "https://[::1]:8444", "the node to ask"},
    {"ca", "HYPERMESH_CA", NULL, "FILE", NULL, "edge root that the node's certificate must reach"},
    {"token-file", "HYPERMESH_TOKEN_FILE", NULL, "FILE", NULL, "bearer token, for changes"},
    {"json", NULL, NULL, NULL, NULL, "print the answer as JSON", 'j'},
    {"kind", NULL, NULL, "KIND", NULL, "asset register, list: kind of asset"},
    {"name", NULL, NULL, "NAME", NULL, "asset register, list: name"},
    {"file", NULL, NULL, "FILE", NULL, "asset register: its content"},
    {"policy", NULL, NULL, "WORD", NULL, "asset register: public or private"},
    {"state", NULL, NULL, "STATE", NULL, "asset list: state"},
    {"owner", NULL, NULL, "NODE", NULL, "asset list: owner's id or name"},
    {"q", NULL, NULL, "TEXT", NULL, "asset list: text in the name"},
    {"cursor", NULL, NULL, "CURSOR", NULL, "asset list: where to go on"},
    {"limit", NULL, NULL, "N", NULL, "lists: items of a page, at most 500"},
    {"to", NULL, NULL, "NODE", NULL, "asset transfer: the new owner's id"},
    {"output", NULL, NULL, "FILE", NULL, "asset get, cert issue: the file to write", 'o'},
    {"jobs", NULL, NULL, "N", "48", "asset import: files in flight"},
    {"patience", NULL, NULL, "SECONDS", "600",
     "asset import: how long to try again while the node does not answer"},
    {"authority", "HYPERMESH_AUTHORITY", NULL, "URL", "https://[::1]:8443",
     "cert: the authority to ask"},
    {"profile", NULL, NULL, "WORD", "node", "cert issue: node or server"},
    {"reason", NULL, NULL, "WORD", "unspecified",
     "cert revoke: keyCompromise, superseded, cessationOfOperation, ..."},
    {"family", NULL, NULL, "WORD", NULL, "cert list: mesh or edge"},
    {"root", NULL, NULL, "FILE", NULL, "cert verify: the root to reach, PEM"},
    {"crl", NULL, NULL, "FILE", NULL, "cert verify: revocation list, DER"},
    {"cert", NULL, NULL, "FILE", NULL, "stoq: certificate chain to show, PEM"},
    {"key", NULL, NULL, "FILE", NULL, "stoq: the key of --cert, PEM"},
    {"server-name", NULL, NULL, "NAME", NULL,
     "stoq: what the server's certificate must name, unless it is the host"},
    {"count", NULL, NULL, "N", "10", "stoq ping: requests"},
    {"interval", NULL, NULL, "MS", "200", "stoq ping: milliseconds from one to the next"},
    {"down", NULL, NULL, "BYTES", NULL, "stoq perf: receive so many; K, M, G are understood"},
    {"up", NULL, NULL, "BYTES", NULL, "stoq perf: send so many"},
    {"seconds", NULL, NULL, "N", NULL, "stoq perf: each direction for so long, 5 unless given"},
    {"streams", NULL, NULL, "N", "1", "stoq perf: streams at a time"},
    {"help", NULL, NULL, NULL, NULL, "this text", 'h'},
};
#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

// ---- printing -----------------------------------------------------------------------------------

static void print_value(yyjson_val *v, int depth);

static void print_object(yyjson_val *v, int depth)
{
    size_t at, max;
    yyjson_val *key, *val;
    yyjson_obj_foreach(v, at, max, key, val)
    {
        printf("%*s%-20s ", depth * 2, "", yyjson_get_str(key));
        if (yyjson_is_ctn(val))
            putchar('\n');
        print_value(val, depth + 1);
    }
}

static void print_text(const char *s)
{
    for (; *s; s++) // nothing from the network drives the terminal
        putchar((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

static void print_value(yyjson_val *v, int depth)
{
    size_t at, max;
    yyjson_val *item;
    if (yyjson_is_obj(v)) {
        print_object(v, depth);
    } else if (yyjson_is_arr(v)) {
        yyjson_arr_foreach(v, at, max, item)
        {
            if (at && yyjson_is_obj(item))
                putchar('\n');
            if (!yyjson_is_ctn(item))
                printf("%*s", depth * 2, "");
            print_value(item, depth);
        }
    } else {
        if (yyjson_is_str(v))
            print_text(yyjson_get_str(v));
        else if (yyjson_is_bool(v))
            fputs(yyjson_get_bool(v) ? "yes" : "no", stdout);
        else if (yyjson_is_uint(v))
            printf("%llu", (unsigned long long)yyjson_get_uint(v));
        else
            putchar('-');
        putchar('\n');
    }
}

hm_err cli_print(const cli *c, hm_bytes body)
{
    if (c->json) {
        fwrite(body.ptr, 1, body.len, stdout);
        return ferror(stdout) ? hm_fail(HM_E_IO, "the output cannot be written") : HM_OK;
    }
    yyjson_doc *doc = yyjson_read((const char *)body.ptr, body.len, 0);
    if (!doc)
        return hm_fail(HM_E_PARSE, "the answer is no JSON");
    print_value(yyjson_doc_get_root(doc), 0);
    yyjson_doc_free(doc);
    return HM_OK;
}

hm_err cli_send_and_print(cli *c, const hm_client *to, const char *method, const char *path,
                          hm_bytes body)
{
    hm_buf answer = {0};
    hm_err err = hm_client_request(to, method, path, body, NULL, &answer);
    if (err == HM_OK)
        err = cli_print(c, hm_buf_bytes(&answer));
    hm_buf_free(&answer);
    return err;
}

// ---- commands -----------------------------------------------------------------------------------

void cli_put_path(hm_buf *b, const char *pattern, const char *arg)
{
    const char *at = strstr(pattern, "%s");
    if (!at) {
        hm_buf_puts(b, pattern);
        return;
    }
    hm_buf_append(b, pattern, (size_t)(at - pattern));
    hm_client_escape(b, arg);
    hm_buf_puts(b, at + 2);
}

// What is asked about certificates is the authority's to answer.
static const hm_client *client_of(const cli *c, const cli_command *cmd)
{
    return strcmp(cmd->group, "cert") == 0 ? &c->authority : &c->client;
}

static hm_err run_get(cli *c, const cli_command *cmd)
{
    hm_buf path = {0};
    cli_put_path(&path, cmd->path, c->arg);
    hm_err err = cli_send_and_print(c, client_of(c, cmd), "GET", hm_buf_cstr(&path), (hm_bytes){0});
    hm_buf_free(&path);
    return err;
}

static hm_err run_list(cli *c, const cli_command *cmd)
{
    static const char *const names[] = {"q",    "kind",   "state", "owner",
                                        "name", "cursor", "limit", "family"};
    hm_buf path = {0};
    hm_buf_puts(&path, cmd->path);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *v = hm_config_get(&c->cfg, names[i]);
        if (v) {
            hm_buf_printf(&path, "%c%s=", strchr(hm_buf_cstr(&path), '?') ? '&' : '?', names[i]);
            hm_client_escape(&path, v);
        }
    }
    hm_err err = cli_send_and_print(c, client_of(c, cmd), "GET", hm_buf_cstr(&path), (hm_bytes){0});
    hm_buf_free(&path);
    return err;
}

hm_err cli_need(cli *c, const char *name, const char **out)
{
    *out = hm_config_get(&c->cfg, name);
    return *out ? HM_OK : hm_fail(HM_E_USAGE, "--%s is needed", name);
}

// The content goes first; what it is then stands in the registration.
static hm_err run_register(cli *c, const cli_command *cmd)
{
    const char *kind, *name, *file = hm_config_get(&c->cfg, "file");
    const char *policy = hm_config_get(&c->cfg, "policy");
    hm_buf content = {0}, body = {0};
    hm_err err;
    HM_TRY(cli_need(c, "kind", &kind));
    HM_TRY(cli_need(c, "name", &name));
    if (file) {
        HM_TRY_OUT(
            hm_client_request(&c->client, "POST", "/v1/content", (hm_bytes){0}, file, &content));
        while (content.len && content.ptr[content.len - 1] == '\n')
            content.len--;
    }
    hm_jw_open(&body, NULL, '{');
    hm_jw_str(&body, "kind", kind);
    hm_jw_str(&body, "name", name);
    if (policy)
        hm_jw_str(&body, "policy", policy);
    if (file)
        hm_jw_raw(&body, "content", hm_buf_bytes(&content));
    hm_jw_close(&body, '}');
    err = cli_send_and_print(c, &c->client, "POST", cmd->path, hm_buf_bytes(&body));
out:
    hm_buf_free(&content);
    hm_buf_free(&body);
    return err;
}

static hm_err run_post(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, body = {0};
    const char *value = NULL;
    if (strcmp(cmd->name, "transfer") == 0)
        HM_TRY(cli_need(c, "to", &value));
    if (strcmp(cmd->name, "set-state") == 0)
        HM_TRY(cli_need(c, "state", &value));
    hm_jw_open(&body, NULL, '{');
    if (value)
        hm_jw_str(&body, strcmp(cmd->name, "transfer") == 0 ? "to" : "state", value);
    hm_jw_close(&body, '}');
    cli_put_path(&path, cmd->path, c->arg);
    hm_err err =
        cli_send_and_print(c, client_of(c, cmd), "POST", hm_buf_cstr(&path), hm_buf_bytes(&body));
    hm_buf_free(&path);
    hm_buf_free(&body);
    return err;
}

static hm_err run_download(cli *c, const cli_command *cmd)
{
    const char *to;
    hm_buf path = {0};
    HM_TRY(cli_need(c, "output", &to));
    cli_put_path(&path, cmd->path, c->arg);
    hm_err err = hm_client_download(&c->client, hm_buf_cstr(&path), to);
    hm_buf_free(&path);
    return err;
}

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

static hm_err run_verify(cli *c, const cli_command *cmd)
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
    HM_TRY_OUT(cli_print(c, hm_buf_bytes(&last)));
    if (!good)
        err = hm_fail(HM_E_CORRUPT, "the node's ledger is not good");
out:
    yyjson_doc_free(doc);
    hm_buf_free(&last);
    return err;
}

static hm_err run_help(cli *c, const cli_command *cmd);
static hm_err run_man(cli *c, const cli_command *cmd);
static hm_err run_completion(cli *c, const cli_command *cmd);

static const cli_command commands[] = {
    {"status", NULL, NULL, "the node now", run_get, "/v1/status"},
    {"node", "list", NULL, "all nodes of the mesh", run_get, "/v1/nodes"},
    {"node", "show", "NODE", "one node, by id or name", run_get, "/v1/nodes/%s"},
    {"asset", "list", NULL, "assets, newest first", run_list, "/v1/assets"},
    {"asset", "show", "ID", "one asset", run_get, "/v1/assets/%s"},
    {"asset", "history", "ID", "what happened to it", run_get, "/v1/assets/%s/history"},
    {"asset", "get", "ID", "write its content to --output", run_download, "/v1/assets/%s/content"},
    {"asset", "register", NULL, "register --kind, --name, with --file its content", run_register,
     "/v1/assets"},
    {"asset", "transfer", "ID", "give it to another node, --to", run_post,
     "/v1/assets/%s/transfer"},
    {"asset", "set-state", "ID", "change its state to --state", run_post, "/v1/assets/%s/state"},
    {"asset", "retire", "ID", "retire it for good", run_post, "/v1/assets/%s/retire"},
    {"asset", "import", "DIR", "register every file below DIR as a data asset", cli_import,
     "/v1/assets"},
    {"cert", "list", NULL, "certificates of the authority, newest first", run_list,
     "/v1/certificates"},
    {"cert", "show", "FILE|SERIAL", "a certificate, of a PEM file or the authority's",
     cli_cert_show, "/v1/certificates/%s"},
    {"cert", "issue", "CSR", "get a certificate for the request, write the chain to --output",
     cli_cert_issue, NULL},
    {"cert", "verify", "FILE", "check a chain against --root, and --crl, without asking anybody",
     cli_cert_verify, NULL},
    {"cert", "revoke", "SERIAL", "revoke for good, with --reason", cli_cert_revoke,
     "/v1/certificates/%s/revoke"},
    {"proof", "show", "OP", "the four proofs of an operation", run_get, "/v1/operations/%s/proofs"},
    {"ledger", "block", "HEIGHT", "one block", run_get, "/v1/blocks/%s"},
    {"ledger", "verify", NULL, "let the node walk its ledger from the genesis", run_verify,
     "/v1/ledger/verify"},
    {"ledger", "op", "OP", "one operation", run_get, "/v1/operations/%s"},
    {"stoq", "ping", "HOST[:PORT]", "round trips to a STOQ server that --ca vouches for",
     cli_stoq_ping, NULL},
    {"stoq", "perf", "HOST[:PORT]", "throughput from and to a STOQ server that --ca vouches for",
     cli_stoq_perf, NULL},
    {"help", NULL, NULL, "this text", run_help, NULL},
    {"man", NULL, NULL, "print the man page", run_man, NULL},
    {"completion", NULL, "SHELL", "print completion for bash", run_completion, NULL},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

#define EXIT_TEXT                                                                                  \
    "0 done; 1 failed here; 2 wrong usage; 3 the node cannot be reached; 4 refused by "            \
    "the other side; 5 not found; 6 not allowed"

static int exit_code(hm_err err)
{
    switch (err) {
    case HM_OK:
        return 0;
    case HM_E_USAGE:
    case HM_E_CONFIG:
        return 2;
    case HM_E_UNREACHABLE:
        return 3;
    case HM_E_HTTP:
    case HM_E_EXISTS:
    case HM_E_BUSY:
    case HM_E_TIMEOUT:
        return 4;
    case HM_E_NOTFOUND:
        return 5;
    case HM_E_DENIED:
        return 6;
    default:
        return 1;
    }
}

static void put_usage(hm_buf *b, const cli_command *cmd)
{
    hm_buf_printf(b, "%s%s%s%s%s", cmd->group, cmd->name ? " " : "", cmd->name ? cmd->name : "",
                  cmd->arg ? " " : "", cmd->arg ? cmd->arg : "");
}

static hm_err run_help(cli *c, const cli_command *cmd)
{
    (void)c;
    (void)cmd;
    hm_buf b = {0};
    hm_buf_puts(&b, "hypermesh COMMAND [OPTIONS]\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        hm_buf u = {0};
        put_usage(&u, &commands[i]);
        hm_buf_printf(&b, "  %-24s %s\n", hm_buf_cstr(&u), commands[i].help);
        hm_buf_free(&u);
    }
    hm_buf_puts(&b, "\nOptions, with [default] and ($environment variable):\n");
    hm_config_help(options, OPTION_COUNT, &b);
    hm_buf_puts(&b, "\nExit codes: " EXIT_TEXT "\n");
    fputs(hm_buf_cstr(&b), stdout);
    hm_buf_free(&b);
    return HM_OK;
}

static hm_err run_man(cli *c, const cli_command *cmd)
{
    hm_buf b = {0};
    (void)c;
    (void)cmd;
    hm_buf_puts(&b, ".TH HYPERMESH 1\n.SH NAME\nhypermesh \\- the command line of a mesh\n.SH "
                    "SYNOPSIS\nhypermesh COMMAND [OPTIONS]\n.SH COMMANDS\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        hm_buf_puts(&b, ".TP\n.B ");
        put_usage(&b, &commands[i]);
        hm_buf_printf(&b, "\n%s\n", commands[i].help);
    }
    hm_buf_puts(&b, ".SH OPTIONS\n");
    for (size_t i = 0; i < OPTION_COUNT; i++)
        hm_buf_printf(&b, ".TP\n.B %s%.1s%s\\-\\-%s %s\n%s\n", options[i].letter ? "\\-" : "",
                      &options[i].letter, options[i].letter ? ", " : "", options[i].name,
                      options[i].arg ? options[i].arg : "", options[i].help);
    hm_buf_puts(&b, ".SH EXIT STATUS\n" EXIT_TEXT "\n");
    fputs(hm_buf_cstr(&b), stdout);
    hm_buf_free(&b);
    return HM_OK;
}

static hm_err run_completion(cli *c, const cli_command *cmd)
{
    (void)cmd;
    if (strcmp(c->arg, "bash") != 0)
        return hm_fail(HM_E_USAGE, "completion is made for bash only");
    puts("_hypermesh() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
         "  case \"$COMP_CWORD:${COMP_WORDS[1]}\" in");
    fputs("  1:*) words=\"", stdout);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (i == 0 || strcmp(commands[i].group, commands[i - 1].group) != 0)
            printf("%s ", commands[i].group);
    puts("\" ;;");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (!commands[i].name)
            continue;
        if (i == 0 || strcmp(commands[i].group, commands[i - 1].group) != 0)
            printf("  2:%s) words=\"", commands[i].group);
        printf("%s ", commands[i].name);
        if (i + 1 == COMMAND_COUNT || strcmp(commands[i].group, commands[i + 1].group) != 0)
            puts("\" ;;");
    }
    fputs("  *) words=\"", stdout);
    for (size_t i = 0; i < OPTION_COUNT; i++)
        printf("--%s ", options[i].name);
    puts("\" ;;\n  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
         "complete -o default -F _hypermesh hypermesh");
    return HM_OK;
}

// ---- main ---------------------------------------------------------------------------------------

static hm_err find_command(cli *c, const cli_command **out)
{
    const hm_config *f = &c->cfg;
    for (size_t i = 0; f->positional_count && i < COMMAND_COUNT; i++) {
        const cli_command *cmd = &commands[i];
        size_t words = cmd->name ? 2 : 1;
        if (strcmp(f->positional[0], cmd->group) != 0 ||
            (cmd->name && (f->positional_count < 2 || strcmp(f->positional[1], cmd->name) != 0)))
            continue;
        if (f->positional_count != words + (cmd->arg ? 1 : 0))
            return hm_fail(HM_E_USAGE, "%s %s takes %s", cmd->group, cmd->name ? cmd->name : "",
                           cmd->arg ? cmd->arg : "no argument");
        c->arg = cmd->arg ? f->positional[words] : NULL;
        *out = cmd;
        return HM_OK;
    }
    return hm_fail(HM_E_USAGE, "unknown command; --help lists them");
}

static hm_err run(cli *c)
{
    const cli_command *cmd = NULL;
    const char *token_file = hm_config_get(&c->cfg, "token-file");
    hm_buf token = {0};
    if (hm_config_on(&c->cfg, "help")) {
        return run_help(c, NULL);
    }
    HM_TRY(find_command(c, &cmd));
    c->json = hm_config_on(&c->cfg, "json");
    c->client.url = hm_config_get(&c->cfg, "node");
    c->client.ca_path = hm_config_get(&c->cfg, "ca");
    if (token_file) {
        hm_err err = hm_file_read(token_file, 255, &token);
        if (err != HM_OK)
            return hm_fail(HM_E_CONFIG, "token file %s: %s", token_file, hm_err_text(err));
        c->client.token = strndup(hm_buf_cstr(&token), strcspn(hm_buf_cstr(&token), "\r\n"));
        hm_buf_free_secret(&token);
    }
    c->authority = c->client;
    c->authority.url = hm_config_get(&c->cfg, "authority");
    return cmd->run(c, cmd);
}

int main(int argc, char **argv)
{
    cli c = {0};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    hm_err err = hm_config_load(&c.cfg, options, OPTION_COUNT, argc, argv);
    if (err == HM_OK)
        err = run(&c);
    if (err != HM_OK)
        fprintf(stderr, "hypermesh: %s: %s\n", hm_err_text(err), hm_err_detail());
    if (c.client.token)
        hm_zero(c.client.token, strlen(c.client.token));
    free(c.client.token);
    hm_config_free(&c.cfg);
    curl_global_cleanup();
    return exit_code(err);
}
