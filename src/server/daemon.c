#include "server/daemon.h"

#include <stdio.h>
#include <time.h>

#include "base/base.h"

hm_err daemon_need(const hm_config *c, const char *name, const char **out)
{
    *out = hm_config_get(c, name);
    return *out && **out ? HM_OK : hm_fail(HM_E_USAGE, "--%s is needed", name);
}

size_t daemon_names(const char *list, char *text, size_t text_size, const char **out, size_t max)
{
    size_t n = 0;
    snprintf(text, text_size, "%s", list);
    for (char *save, *word = strtok_r(text, ", ", &save); word && n < max;
         word = strtok_r(NULL, ", ", &save))
        out[n++] = word;
    return n;
}

hm_err daemon_token_file(const char *path, char out[DAEMON_TOKEN_MAX])
{
    hm_buf text = {0};
    hm_err err = hm_file_read(path, DAEMON_TOKEN_MAX - 1, &text);
    if (err == HM_OK) {
        snprintf(out, DAEMON_TOKEN_MAX, "%s", hm_buf_cstr(&text));
        out[strcspn(out, "\r\n")] = 0;
        if (!out[0])
            err = hm_fail(HM_E_CONFIG, "%s is empty", path);
    } else {
        hm_fail(err, "token file %s: %s", path, hm_err_text(err));
    }
    hm_buf_free_secret(&text);
    return err;
}

hm_err daemon_token_read(const char *dir, char out[DAEMON_TOKEN_MAX])
{
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/api.token", dir) >= (int)sizeof(path))
        return hm_fail(HM_E_LIMIT, "the directory's name is too long");
    return daemon_token_file(path, out);
}

static void print_help(const daemon_program *p)
{
    hm_buf b = {0};
    hm_buf_printf(&b, "%s COMMAND [OPTIONS]\n\nCommands:\n", p->name);
    for (size_t i = 0; i < p->command_count; i++)
        hm_buf_printf(&b, "  %-10s %s\n", p->commands[i].name, p->commands[i].help);
    hm_buf_puts(&b, "\nOptions, with [default] and ($environment variable):\n");
    hm_config_help(p->options, p->option_count, &b);
    fputs(hm_buf_cstr(&b), stdout);
    hm_buf_free(&b);
}

static hm_err run_command(const daemon_program *p, const hm_config *c)
{
    hm_log_level level;
    HM_TRY(hm_log_level_parse(hm_config_get(c, "log-level"), &level));
    hm_log_set_level(level);
    if (hm_config_on(c, "help")) {
        print_help(p);
        return HM_OK;
    }
    for (size_t i = 0; c->positional_count && i < p->command_count; i++)
        if (strcmp(c->positional[0], p->commands[i].name) == 0)
            return p->commands[i].run(c);
    return hm_fail(HM_E_USAGE, "a command is needed; --help lists them");
}

int daemon_main(const daemon_program *p, int argc, char **argv)
{
    hm_config c;
    hm_err err = hm_config_load(&c, p->options, p->option_count, argc, argv);
    if (err == HM_OK)
        err = run_command(p, &c);
    if (err != HM_OK)
        fprintf(stderr, "%s: %s%s%s\n", p->name, hm_err_text(err), hm_err_detail()[0] ? ": " : "",
                hm_err_detail());
    hm_config_free(&c);
    return err == HM_OK ? 0 : err == HM_E_USAGE || err == HM_E_CONFIG ? 2 : 1;
}

hm_err daemon_http_limits(const hm_config *c, hm_http_limits *out)
{
    uint64_t connections, client, rate;
    HM_TRY(hm_config_u64(c, "max-connections", 4, 100000, &connections));
    HM_TRY(hm_config_u64(c, "client-connections", 0, 100000, &client));
    HM_TRY(hm_config_u64(c, "client-rate", 0, 1000000, &rate));
    *out = (hm_http_limits){.connections = (uint32_t)connections,
                            .client_connections = (uint32_t)client,
                            .client_rate = (uint32_t)rate};
    return HM_OK;
}

const char *daemon_time_text(uint64_t wall_ms, char out[DAEMON_TIME_MAX])
{
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (wall_ms == 0)
        return "never";
    strftime(out, DAEMON_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&s, &tm));
    return out;
}
