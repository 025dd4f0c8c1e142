#include "base/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ini.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

static int find_option(const hm_config *c, const char *name, size_t len)
{
    for (size_t i = 0; i < c->count; i++)
        if (strlen(c->options[i].name) == len && memcmp(c->options[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

static hm_err set_value(hm_config *c, size_t i, const char *value, hm_config_source from)
{
    if (c->from[i] > from)
        return HM_OK; // something stronger stands
    char *copy = strdup(value);
    if (!copy)
        return HM_E_NOMEM;
    free(c->values[i]);
    c->values[i] = copy;
    c->from[i] = (uint8_t)from;
    return HM_OK;
}

static hm_err read_flag(hm_config *c, int argc, char *const *argv, int *at)
{
    const char *flag = argv[*at] + 2;
    const char *eq = strchr(flag, '=');
    size_t len = eq ? (size_t)(eq - flag) : strlen(flag);
    int i = find_option(c, flag, len);
    if (i < 0)
        return hm_fail(HM_E_USAGE, "unknown option --%.*s; --help lists them", (int)len, flag);
    if (!c->options[i].arg)
        return eq ? hm_fail(HM_E_USAGE, "--%.*s takes no value", (int)len, flag)
                  : set_value(c, (size_t)i, "1", HM_CONFIG_FLAG);
    if (eq)
        return set_value(c, (size_t)i, eq + 1, HM_CONFIG_FLAG);
    if (*at + 1 >= argc)
        return hm_fail(HM_E_USAGE, "--%s needs a value: %s", flag, c->options[i].arg);
    *at += 1;
    return set_value(c, (size_t)i, argv[*at], HM_CONFIG_FLAG);
}

// "-o FILE" or "-oFILE"; letters are not joined.
static hm_err read_letter(hm_config *c, int argc, char *const *argv, int *at)
{
    const char *flag = argv[*at];
    for (size_t i = 0; i < c->count; i++) {
        const hm_option *o = &c->options[i];
        if (!o->letter || o->letter != flag[1])
            continue;
        if (!o->arg)
            return flag[2] ? hm_fail(HM_E_USAGE, "-%c takes no value", o->letter)
                           : set_value(c, i, "1", HM_CONFIG_FLAG);
        if (flag[2])
            return set_value(c, i, flag + 2, HM_CONFIG_FLAG);
        if (*at + 1 >= argc)
            return hm_fail(HM_E_USAGE, "-%c needs a value: %s", o->letter, o->arg);
        *at += 1;
        return set_value(c, i, argv[*at], HM_CONFIG_FLAG);
    }
    return hm_fail(HM_E_USAGE, "unknown option %.64s; --help lists them", flag);
}

static hm_err read_flags(hm_config *c, int argc, char *const *argv)
{
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        if (!ended && strcmp(argv[i], "--") == 0) {
            ended = true;
        } else if (!ended && strncmp(argv[i], "--", 2) == 0) {
            HM_TRY(read_flag(c, argc, argv, &i));
        } else if (!ended && argv[i][0] == '-' && argv[i][1]) {
            HM_TRY(read_letter(c, argc, argv, &i));
        } else {
            if (c->positional_count == HM_CONFIG_OPTIONS_MAX)
                return hm_fail(HM_E_USAGE, "more than %u arguments", HM_CONFIG_OPTIONS_MAX);
            c->positional[c->positional_count++] = argv[i];
        }
    }
    return HM_OK;
}

struct ini_ctx {
    hm_config *c;
    hm_err err;
};

static int on_ini(void *user, const char *section, const char *key, const char *value)
{
    struct ini_ctx *x = user;
    size_t slen = strlen(section);
    if (x->err != HM_OK)
        return 0;
    for (size_t i = 0; i < x->c->count; i++) {
        const char *ini = x->c->options[i].ini;
        if (!ini)
            continue;
        bool hit = slen ? strncmp(ini, section, slen) == 0 && ini[slen] == '.' &&
                              strcmp(ini + slen + 1, key) == 0
                        : strcmp(ini, key) == 0;
        if (hit) {
            x->err = set_value(x->c, i, value, HM_CONFIG_FILE);
            return x->err == HM_OK;
        }
    }
    x->err = hm_fail(HM_E_CONFIG, "unknown key \"%s\" in section [%s]", key, section);
    return 0;
}

static hm_err read_file(hm_config *c)
{
    int i = find_option(c, "config", 6);
    if (i < 0 || !c->values[i])
        return HM_OK;
    hm_buf text = {0};
    struct ini_ctx x = {c, HM_OK};
    hm_err err = hm_file_read(c->values[i], HM_CONFIG_FILE_MAX, &text);
    if (err == HM_E_NOTFOUND && c->from[i] == HM_CONFIG_DEFAULT) {
        err = HM_OK;
        goto out;
    }
    if (err != HM_OK) {
        hm_fail(err, "configuration file %s: %s", c->values[i], hm_err_text(err));
        goto out;
    }
    int line = ini_parse_string(hm_buf_cstr(&text), on_ini, &x);
    if (x.err != HM_OK) {
        char detail[512];
        snprintf(detail, sizeof(detail), "%s", hm_err_detail());
        err = hm_fail(x.err, "%s, line %d: %.300s", c->values[i], line, detail);
    } else if (line != 0) {
        err = hm_fail(HM_E_CONFIG, "%s, line %d: not of the form key = value", c->values[i], line);
    }
out:
    hm_buf_free(&text);
    return err;
}

hm_err hm_config_load(hm_config *c, const hm_option *options, size_t count, int argc,
                      char *const *argv)
{
    hm_assert(count <= HM_CONFIG_OPTIONS_MAX);
    *c = (hm_config){.options = options, .count = count};
    HM_TRY(read_flags(c, argc, argv));
    for (size_t i = 0; i < count; i++) {
        const char *env = options[i].env ? getenv(options[i].env) : NULL;
        if (env && *env)
            HM_TRY(set_value(c, i, env, HM_CONFIG_ENV));
        if (c->from[i] == HM_CONFIG_UNSET && options[i].def)
            HM_TRY(set_value(c, i, options[i].def, HM_CONFIG_DEFAULT));
    }
    return read_file(c);
}

void hm_config_free(hm_config *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free(c->values[i]);
        c->values[i] = NULL;
    }
    c->count = 0;
}

const char *hm_config_get(const hm_config *c, const char *name)
{
    int i = find_option(c, name, strlen(name));
    hm_assert(i >= 0);
    return c->values[i];
}

bool hm_config_on(const hm_config *c, const char *name)
{
    static const char *const off[] = {"", "0", "false", "no", "off"};
    const char *v = hm_config_get(c, name);
    if (!v)
        return false;
    for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++)
        if (strcmp(v, off[i]) == 0)
            return false;
    return true;
}

hm_err hm_config_u64(const hm_config *c, const char *name, uint64_t min, uint64_t max,
                     uint64_t *out)
{
    const char *v = hm_config_get(c, name);
    char *end;
    if (!v)
        return hm_fail(HM_E_CONFIG, "--%s is missing", name);
    errno = 0;
    unsigned long long n = strtoull(v, &end, 10);
    if (errno || end == v || *end || v[0] < '0' || v[0] > '9' || n < min || n > max)
        return hm_fail(HM_E_CONFIG, "--%s is \"%.40s\"; a number from %llu to %llu is needed", name,
                       v, (unsigned long long)min, (unsigned long long)max);
    *out = n;
    return HM_OK;
}

static bool looks_like_ipv4(const char *text)
{
    unsigned a, b, c, d;
    return sscanf(text, "%u.%u.%u.%u", &a, &b, &c, &d) == 4;
}

hm_err hm_addr_parse(const char *text, struct sockaddr_in6 *out)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6};
    char host[HM_ADDR_TEXT_MAX];
    const char *close = strrchr(text, ']');
    if (looks_like_ipv4(text))
        return hm_fail(HM_E_CONFIG, "\"%.60s\" is an IPv4 address; only IPv6 is spoken", text);
    if (text[0] != '[' || !close || close[1] != ':' || (size_t)(close - text) > sizeof(host))
        return hm_fail(HM_E_CONFIG, "\"%.60s\" is not of the form [IPv6 address]:port", text);
    size_t len = (size_t)(close - text) - 1;
    memcpy(host, text + 1, len);
    host[len] = 0;
    char *zone = strchr(host, '%');
    if (zone) {
        *zone++ = 0;
        a.sin6_scope_id = if_nametoindex(zone);
        if (!a.sin6_scope_id)
            return hm_fail(HM_E_CONFIG, "\"%.60s\": no interface %s", text, zone);
    }
    char *end;
    const char *port = close + 2;
    unsigned long n = strtoul(port, &end, 10);
    if (*port < '0' || *port > '9' || *end || n > 65535)
        return hm_fail(HM_E_CONFIG, "\"%.60s\": the port is a number from 0 to 65535", text);
    if (inet_pton(AF_INET6, host, &a.sin6_addr) != 1)
        return hm_fail(HM_E_CONFIG, "\"%.60s\": no IPv6 address in the brackets", text);
    if (IN6_IS_ADDR_V4MAPPED(&a.sin6_addr))
        return hm_fail(HM_E_CONFIG, "\"%.60s\" is an IPv4 address; only IPv6 is spoken", text);
    a.sin6_port = htons((uint16_t)n);
    *out = a;
    return HM_OK;
}

hm_err hm_config_addr(const hm_config *c, const char *name, struct sockaddr_in6 *out)
{
    const char *v = hm_config_get(c, name);
    if (!v)
        return hm_fail(HM_E_CONFIG, "--%s is missing", name);
    return hm_addr_parse(v, out);
}

hm_err hm_addr_fail(const struct sockaddr_in6 *a, const char *protocol, int err_no)
{
    char text[HM_ADDR_TEXT_MAX];
    bool choice = err_no == EADDRINUSE || err_no == EADDRNOTAVAIL || err_no == EACCES;
    return hm_fail(choice ? HM_E_CONFIG : HM_E_IO, "cannot listen on %s %s: %s", protocol,
                   hm_addr_text(a, text),
                   err_no == EADDRINUSE ? "another program has this port" : strerror(err_no));
}

const char *hm_addr_text(const struct sockaddr_in6 *a, char out[HM_ADDR_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN];
    if (!inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof(host)))
        host[0] = 0;
    snprintf(out, HM_ADDR_TEXT_MAX, "[%s]:%u", host, ntohs(a->sin6_port));
    return out;
}

void hm_config_help(const hm_option *options, size_t count, hm_buf *out)
{
    for (size_t i = 0; i < count; i++) {
        const hm_option *o = &options[i];
        char left[64], letter[8] = "";
        if (o->letter)
            snprintf(letter, sizeof(letter), "-%c, ", o->letter);
        snprintf(left, sizeof(left), "%s--%s%s%s", letter, o->name, o->arg ? " " : "",
                 o->arg ? o->arg : "");
        hm_buf_printf(out, "  %-26s %s", left, o->help);
        if (o->def && *o->def)
            hm_buf_printf(out, " [%s]", o->def);
        if (o->env)
            hm_buf_printf(out, " ($%s)", o->env);
        hm_buf_puts(out, "\n");
    }
}

void hm_config_markdown(const hm_option *options, size_t count, hm_buf *out)
{
    hm_buf_puts(out, "| flag | environment | file | default | meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        const hm_option *o = &options[i];
        hm_buf_printf(out, "| `--%s%s%s` | %s | %s | %s | %s |\n", o->name, o->arg ? " " : "",
                      o->arg ? o->arg : "", o->env ? o->env : "", o->ini ? o->ini : "",
                      o->def ? o->def : "", o->help);
    }
}
