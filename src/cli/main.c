// hypermesh: the command line.
#include <arpa/inet.h>
#include <curl/curl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

static int exit_code(const cli *c, hm_err err)
{
    if (err != HM_OK && c->alarm)
        return CLI_EXIT_ALARM;
    switch (err) {
    case HM_OK:
        return CLI_EXIT_DONE;
    case HM_E_USAGE:
    case HM_E_CONFIG:
        return CLI_EXIT_USAGE;
    case HM_E_UNREACHABLE:
        return CLI_EXIT_UNREACHABLE;
    case HM_E_CERT_UNTRUSTED: // the server's, but for the command that looks at one itself
        return c->cmd->run == cli_cert_verify ? CLI_EXIT_FAILED : CLI_EXIT_UNREACHABLE;
    case HM_E_HTTP:
    case HM_E_EXISTS:
        return CLI_EXIT_REFUSED;
    case HM_E_NOTFOUND:
        return CLI_EXIT_NOTFOUND;
    case HM_E_DENIED: // for want of a file, when there was one to read
        return c->token_trouble[0] ? CLI_EXIT_FAILED : CLI_EXIT_DENIED;
    case HM_E_BUSY:
    case HM_E_TIMEOUT:
        return CLI_EXIT_AGAIN;
    default:
        return CLI_EXIT_FAILED;
    }
}

static const char *stoq_hint(hm_err err)
{
    return err == HM_E_CERT_UNTRUSTED ? "--ca names the root, --server-name who is expected there"
           : err == HM_E_DENIED       ? "--cert and --key show a certificate"
                                      : "";
}

// What to do about it; "" when the line says it or nobody knows.
static const char *hint(const cli *c, hm_err err, int code)
{
    const hm_client_refusal *r = hm_client_refused();
    if (err == HM_E_USAGE)
        return "--help tells more";
    if (c->group && strcmp(c->group, "stoq") == 0)
        return stoq_hint(err);
    if (err == HM_E_CERT_UNTRUSTED && code == CLI_EXIT_UNREACHABLE)
        return "--ca or HYPERMESH_CA names the edge root";
    if (err == HM_E_UNREACHABLE && !c->cmd->path && !c->authority.url)
        return "does it run?";
    if (err == HM_E_UNREACHABLE)
        return c->authority.url ? "does it run? --authority or HYPERMESH_AUTHORITY names another"
                                : "does it run? --node or HYPERMESH_NODE names another";
    if (err == HM_E_NOTFOUND && r && r->detail[0] == '/') // who answers is no server of this API
        return c->authority.url ? "--authority or HYPERMESH_AUTHORITY names the authority"
                                : "--node or HYPERMESH_NODE names the node";
    if (err == HM_E_TIMEOUT)
        return "what was asked for may come to pass all the same";
    if (err == HM_E_DENIED && c->token_trouble[0])
        return c->token_trouble;
    if (err == HM_E_DENIED && !c->client.token && (r || c->cmd->run == cli_import))
        return "--token-file or HYPERMESH_TOKEN_FILE names the file of the token";
    return "";
}

// What happened, in a word or two before the line itself.
static const char *what_kind(hm_err err, bool refused)
{
    switch (err) {
    case HM_E_USAGE:
    case HM_E_CONFIG:
    case HM_E_NOTFOUND:
        return "";
    case HM_E_UNREACHABLE:
        return "no answer: ";
    case HM_E_DENIED:
        return "not allowed: ";
    case HM_E_BUSY:
    case HM_E_TIMEOUT:
        return "not now: ";
    default:
        return refused ? "refused: " : "";
    }
}

// A code of the modules says more than its detail line does.
static bool tells_more(hm_err err)
{
    return err >= HM_E_CRYPTO && err < HM_E_HTTP;
}

static void print_error_json(hm_err err, const hm_client_refusal *r, const char *detail)
{
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "error", '{');
    hm_jw_str(&b, "code", r ? r->code : hm_err_name(err));
    hm_jw_str(&b, "message", r ? r->message : hm_err_text(err));
    hm_jw_str(&b, "detail", r ? r->detail : detail);
    hm_jw_close(&b, '}');
    hm_jw_close(&b, '}');
    puts(hm_buf_cstr(&b));
    hm_buf_free(&b);
}

// One line: where, what, why, what to do. With --json the same as the API's Error, on stdout.
static void report(const cli *c, hm_err err)
{
    const hm_client_refusal *r = hm_client_refused();
    const char *detail = hm_err_detail()[0] ? hm_err_detail() : hm_err_text(err);
    if (r && strcmp(detail, r->line) != 0)
        r = NULL; // it was something else that failed after it
    const char *todo = hint(c, err, exit_code(c, err));
    hm_buf b = {0};
    hm_buf_printf(&b, "hypermesh%s%s%s%s: %s", c->group ? " " : "", c->group ? c->group : "",
                  c->cmd && c->cmd->name ? " " : "", c->cmd && c->cmd->name ? c->cmd->name : "",
                  c->alarm ? "ALARM: " : what_kind(err, r != NULL));
    if (!r && tells_more(err) && hm_err_detail()[0])
        hm_buf_printf(&b, "%s: ", hm_err_text(err));
    cli_put_text(&b, detail);
    hm_buf_printf(&b, "%s%s\n", todo[0] ? "; " : "", todo);
    fputs(hm_buf_cstr(&b), stderr);
    hm_buf_free(&b);
    if (c->json && !c->answered)
        print_error_json(err, r, hm_err_detail());
}

static void read_token(cli *c)
{
    const char *path = hm_config_get(&c->cfg, "token-file");
    hm_buf token = {0};
    if (!path)
        return;
    hm_err err = hm_file_read(path, 255, &token);
    if (err == HM_OK)
        c->client.token = strndup(hm_buf_cstr(&token), strcspn(hm_buf_cstr(&token), "\r\n"));
    else // matters only when the server asks for it
        snprintf(c->token_trouble, sizeof(c->token_trouble), "the token file %.100s: %s", path,
                 hm_err_text(err));
    hm_buf_free_secret(&token);
}

// A token must not go out in clear text, so there is no http, not even to this machine.
static hm_err check_url(const char *option, const char *url)
{
    struct in_addr v4;
    char *host = NULL, *scheme = NULL, *path = NULL;
    CURLU *u = curl_url();
    bool good = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                strcmp(scheme, "https") == 0 &&
                curl_url_get(u, CURLUPART_PATH, &path, 0) == CURLUE_OK;
    hm_err err = HM_OK;
    if (!good)
        err = hm_fail(HM_E_CONFIG, "--%s is \"%.100s\"; a URL such as https://[::1]:8444 is needed",
                      option, url);
    else if (strcmp(path, "/") != 0 || strpbrk(url, "?#"))
        err = hm_fail(HM_E_CONFIG,
                      "--%s is \"%.100s\"; nothing follows the port, as in https://[::1]:8444",
                      option, url);
    else if (inet_pton(AF_INET, host, &v4) == 1)
        err = hm_fail(HM_E_CONFIG, "--%s is \"%.100s\"; only IPv6 is spoken", option, url);
    curl_free(host);
    curl_free(scheme);
    curl_free(path);
    curl_url_cleanup(u);
    return err;
}

static hm_err run(cli *c)
{
    c->client.url = hm_config_get(&c->cfg, "node");
    c->client.ca_path = hm_config_get(&c->cfg, "ca");
    read_token(c);
    c->authority = c->client;
    c->authority.url = NULL;
    for (const cli_option *o = c->cmd->options; o && o->name; o++)
        if (strcmp(o->name, "authority") == 0)
            c->authority.url = hm_config_get(&c->cfg, "authority");
    HM_TRY(check_url("node", c->client.url));
    if (c->authority.url)
        HM_TRY(check_url("authority", c->authority.url));
    return c->cmd->run(c, c->cmd);
}

static hm_err print_text(hm_buf *b)
{
    hm_err err = hm_buf_status(b);
    if (err == HM_OK && fwrite(b->ptr, 1, b->len, stdout) != b->len)
        err = hm_fail(HM_E_IO, "the output cannot be written");
    hm_buf_free(b);
    return err;
}

int main(int argc, char **argv)
{
    cli c = {0};
    hm_buf text = {0};
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1)
        (void)setlocale(LC_CTYPE, "C.UTF-8"); // for the width of characters
    curl_global_init(CURL_GLOBAL_DEFAULT);
    hm_err err = cli_parse(&c, argc, argv);
    if (err == HM_OK && c.help) {
        cli_put_help(&text, c.group, c.cmd);
        err = print_text(&text);
    } else if (err == HM_OK && c.version) {
        hm_buf_puts(&text, "hypermesh " HM_CLI_VERSION "\n");
        err = print_text(&text);
    } else if (err == HM_OK) {
        err = run(&c);
    }
    // What was too long for the buffer has failed before.
    if ((fflush(stdout) != 0 || ferror(stdout)) && err == HM_OK)
        err = hm_fail(HM_E_IO, "the output cannot be written");
    if (err != HM_OK)
        report(&c, err);
    if (c.client.token)
        hm_zero(c.client.token, strlen(c.client.token));
    free(c.client.token);
    hm_config_free(&c.cfg);
    curl_global_cleanup();
    if (c.interrupted) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT);
    }
    return exit_code(&c, err);
}
