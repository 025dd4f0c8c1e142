#include "trustchain/policy.h"

#include <arpa/inet.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "trustchain/authority.h"

#define RULE_TEXT_MAX 253u
#define INI_LINE_MAX 199u // longer ones inih would cut

typedef enum rule_kind {
    RULE_ALL,
    RULE_NAME,
    RULE_END,
    RULE_PREFIX,
} rule_kind;

typedef struct rule {
    tc_profile profile;
    bool deny;
    rule_kind kind;
    char text[RULE_TEXT_MAX + 1]; // of a name or its end
    uint8_t addr[16];
    unsigned bits;
} rule;

struct tc_policy {
    size_t count;
    rule *rules; // owned
};

// ---- reading ------------------------------------------------------------------------------------

static hm_err rule_parse(const char *text, rule *out)
{
    static const char chars[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-";
    uint8_t v4[4];
    if (strcmp(text, "*") == 0) {
        out->kind = RULE_ALL;
        return HM_OK;
    }
    if (strchr(text, ':')) {
        out->kind = RULE_PREFIX;
        return x509_prefix_parse(text, out->addr, &out->bits);
    }
    bool is_end = text[0] == '.' || text[0] == '@';
    size_t len = strlen(text);
    if (len > RULE_TEXT_MAX || strspn(text, chars) != len || len <= is_end || text[len - 1] == '.')
        return hm_fail(HM_E_CONFIG,
                       "\"%.60s\" is no name, end of names (.example.org), IPv6 prefix or *", text);
    if (inet_pton(AF_INET, text, v4) == 1)
        return hm_fail(HM_E_CONFIG, "\"%.60s\" is an IPv4 address; there are only IPv6 ones", text);
    out->kind = is_end ? RULE_END : RULE_NAME;
    memcpy(out->text, text, len + 1);
    return HM_OK;
}

static hm_err rule_add(tc_policy *p, const rule *r)
{
    if (p->count == TC_POLICY_RULES_MAX)
        return hm_fail(HM_E_CONFIG, "more than %u rules", TC_POLICY_RULES_MAX);
    if ((p->count & (p->count - 1)) == 0) { // a power of two, and full
        rule *more = realloc(p->rules, (p->count ? 2 * p->count : 1) * sizeof *more);
        if (!more)
            return HM_E_NOMEM;
        p->rules = more;
    }
    p->rules[p->count++] = *r;
    return HM_OK;
}

// inih goes on behind a line that it cannot read, and tells the first of these alone at its end: so
// that a reason stands with its own line, lines are counted here.
typedef struct reading {
    tc_policy *policy;
    const char *at; // borrowed
    int line;       // that was read last
    hm_err err;
    int err_line;
} reading;

static char *next_line(char *out, int size, void *ctx)
{
    reading *r = ctx;
    const char *end = strchrnul(r->at, '\n');
    size_t len = (size_t)(end - r->at) + (*end == '\n');
    if (len == 0)
        return NULL;
    hm_assert(len < (size_t)size); // bad_line() has looked
    memcpy(out, r->at, len);
    out[len] = 0;
    r->at += len;
    r->line++;
    return out;
}

static hm_err read_key(tc_policy *p, const char *section, const char *key, const char *value)
{
    rule r = {0};
    char text[INI_LINE_MAX + 1], *rest = text, *item;
    size_t before = p->count;
    if (tc_profile_named(section, &r.profile) != HM_OK)
        return hm_fail(HM_E_CONFIG,
                       "section [%.40s] is no profile: node, server, client or code is one",
                       section);
    r.deny = strcmp(key, "deny") == 0;
    if (!r.deny && strcmp(key, "allow") != 0)
        return hm_fail(HM_E_CONFIG, "unknown key \"%.40s\"; there are allow and deny", key);
    snprintf(text, sizeof text, "%s", value);
    while ((item = strtok_r(rest, ", \t", &rest)) != NULL) {
        HM_TRY(rule_parse(item, &r));
        HM_TRY(rule_add(p, &r));
    }
    return p->count > before ? HM_OK : hm_fail(HM_E_CONFIG, "%s names nothing", key);
}

static int on_ini(void *user, const char *section, const char *key, const char *value)
{
    reading *r = user;
    if (r->err != HM_OK)
        return 0;
    r->err = read_key(r->policy, section, key, value);
    r->err_line = r->line;
    return r->err == HM_OK;
}

// The line that inih would take for something else; 0: none.
static size_t bad_line(hm_bytes text)
{
    size_t line = 1, len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == 0 || (text.ptr[i] != '\n' && ++len > INI_LINE_MAX - 1))
            return line;
        if (text.ptr[i] == '\n') {
            line++;
            len = 0;
        }
    }
    return 0;
}

static hm_err policy_parse(const char *path, hm_buf *text, tc_policy *p)
{
    reading r = {.policy = p, .at = hm_buf_cstr(text)};
    char why[400];
    size_t bad = bad_line(hm_buf_bytes(text));
    if (bad)
        return hm_fail(HM_E_CONFIG, "%s, line %zu: longer than %u characters, or no text", path,
                       bad, INI_LINE_MAX - 1);
    int line = ini_parse_stream(next_line, &r, on_ini, &r);
    if (r.err != HM_OK && r.err_line == line) {
        snprintf(why, sizeof why, "%s", hm_err_detail());
        return hm_fail(r.err, "%s, line %d: %s", path, line, why);
    }
    if (line != 0)
        return hm_fail(HM_E_CONFIG, "%s, line %d: not of the form key = value", path, line);
    return HM_OK;
}

hm_err tc_policy_read(const char *path, tc_policy **out)
{
    hm_buf text = {0};
    tc_policy *p = calloc(1, sizeof *p);
    hm_err err = p ? hm_file_read(path, TC_POLICY_FILE_MAX, &text) : HM_E_NOMEM;
    if (err != HM_OK)
        err = hm_fail(HM_E_CONFIG, "policy %s: %s", path, hm_err_text(err));
    else
        err = policy_parse(path, &text, p);
    hm_buf_free(&text);
    if (err == HM_OK)
        *out = p;
    else
        tc_policy_free(p);
    return err;
}

void tc_policy_free(tc_policy *p)
{
    if (p)
        free(p->rules);
    free(p);
}

// ---- asking -------------------------------------------------------------------------------------

static bool same_bits(const uint8_t a[16], const uint8_t b[16], unsigned bits)
{
    unsigned rest = bits % 8;
    return memcmp(a, b, bits / 8) == 0 &&
           (rest == 0 || (a[bits / 8] ^ b[bits / 8]) >> (8 - rest) == 0);
}

// addr is NULL when the name is none.
static bool covers(const rule *r, const char *name, const uint8_t *addr)
{
    size_t n = strlen(name), e = strlen(r->text);
    switch (r->kind) {
    case RULE_ALL:
        return true;
    case RULE_NAME:
        return strcasecmp(r->text, name) == 0;
    case RULE_END:
        return n > e && strcasecmp(name + n - e, r->text) == 0;
    case RULE_PREFIX:
        return addr && same_bits(addr, r->addr, r->bits);
    }
    return false;
}

hm_err tc_policy_check(const tc_policy *policy, tc_profile p, const char *name)
{
    uint8_t mem[16];
    const uint8_t *addr = inet_pton(AF_INET6, name, mem) == 1 ? mem : NULL;
    bool listed = false, allowed = false, denied = false;
    for (size_t i = 0; policy && i < policy->count; i++) {
        const rule *r = &policy->rules[i];
        if (r->profile != p)
            continue;
        bool hit = covers(r, name, addr);
        listed = listed || !r->deny;
        allowed = allowed || (hit && !r->deny);
        denied = denied || (hit && r->deny);
    }
    if (denied || (listed && !allowed))
        return hm_fail(HM_E_DENIED, "the authority's policy gives no %s the name %.253s",
                       tc_profile_of(p)->name, name);
    return HM_OK;
}

void tc_authority_set_policy(tc_authority *a, const tc_policy *policy)
{
    a->policy = policy;
}

hm_err tc_authority_allows(const tc_authority *a, tc_profile p, const char *name)
{
    return tc_policy_check(a->policy, p, name);
}
