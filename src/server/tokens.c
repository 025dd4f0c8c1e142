#include "server/tokens.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/json.h"

#define LINE_MAX_BYTES 256u
#define DAY_MS UINT64_C(86400000)

static bool name_ok(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return n > 0 && n <= HM_HTTP_ACTOR_MAX && !name[n];
}

hm_err token_role_parse(const char *word, hm_http_role *out)
{
    for (hm_http_role r = HM_HTTP_VIEWER; r <= HM_HTTP_AUTHORITY; r++)
        if (strcmp(word, hm_http_role_word(r)) == 0) {
            *out = r;
            return HM_OK;
        }
    return hm_fail(HM_E_USAGE, "a role is viewer, operator or authority, not %s", word);
}

static bool number(const char *text, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*text) || strlen(text) > 19)
        return false;
    *out = strtoull(text, &end, 10);
    return !*end;
}

static hm_err parse_line(const char *line, token_info *out)
{
    char name[64], role[16], hash[80], made[24], ends[24], more[2];
    *out = (token_info){0};
    if (sscanf(line, "%63s %15s %79s %23s %23s %1s", name, role, hash, made, ends, more) != 5)
        return hm_fail(HM_E_CONFIG, "five words are needed");
    if (!name_ok(name))
        return hm_fail(HM_E_CONFIG, "no name of a token");
    HM_TRY(token_role_parse(role, &out->role));
    if (hm_unhex(out->hash.b, HM_HASH_BYTES, hash, strlen(hash)) != HM_OK)
        return hm_fail(HM_E_CONFIG, "no SHA-256");
    if (!number(made, &out->made_ms) || !number(ends, &out->ends_ms))
        return hm_fail(HM_E_CONFIG, "no time");
    memcpy(out->name, name, strlen(name) + 1);
    return HM_OK;
}

static hm_err push(token_list *l, const token_info *t)
{
    if (l->count == TOKENS_MAX)
        return hm_fail(HM_E_LIMIT, "%u tokens at most", TOKENS_MAX);
    token_info *at = realloc(l->at, (l->count + 1) * sizeof *at);
    if (!at)
        return HM_E_NOMEM;
    l->at = at;
    l->at[l->count++] = *t;
    return HM_OK;
}

static const token_info *by_name(const token_list *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->at[i].name, name) == 0)
            return &l->at[i];
    return NULL;
}

hm_err tokens_parse(hm_bytes text, token_list *out)
{
    token_list l = {0};
    unsigned number_of_line = 0;
    const char *p = (const char *)text.ptr, *end = p + text.len;
    hm_err err = HM_OK;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p);
        char line[LINE_MAX_BYTES], why[128];
        token_info t;
        number_of_line++;
        if (n >= sizeof line || memchr(p, 0, n))
            HM_TRY_OUT(hm_fail(HM_E_CONFIG, "line %u is none", number_of_line));
        memcpy(line, p, n);
        line[n] = 0;
        p += n + 1;
        if (line[0] == '#' || line[strspn(line, " \t\r")] == 0)
            continue;
        err = parse_line(line, &t);
        if (err != HM_OK) {
            snprintf(why, sizeof why, "%s", hm_err_detail());
            HM_TRY_OUT(hm_fail(HM_E_CONFIG, "line %u: %s", number_of_line, why));
        }
        if (by_name(&l, t.name))
            HM_TRY_OUT(hm_fail(HM_E_CONFIG, "line %u: %s is there twice", number_of_line, t.name));
        HM_TRY_OUT(push(&l, &t));
    }
    *out = l;
    return HM_OK;
out:
    tokens_free(&l);
    return err;
}

void tokens_free(token_list *l)
{
    free(l->at);
    *l = (token_list){0};
}

const token_info *tokens_find(const token_list *l, hm_bytes token, uint64_t now_ms)
{
    hm_hash hash = hm_sha256(token);
    for (size_t i = 0; i < l->count; i++)
        if (hm_equal_ct(l->at[i].hash.b, hash.b, HM_HASH_BYTES))
            return l->at[i].ends_ms == 0 || now_ms < l->at[i].ends_ms ? &l->at[i] : NULL;
    return NULL;
}

hm_err tokens_load(const char *path, token_list *out)
{
    hm_buf text = {0};
    char why[256];
    hm_err err = hm_file_read(path, TOKENS_MAX * LINE_MAX_BYTES, &text);
    if (err == HM_E_NOTFOUND) {
        *out = (token_list){0};
        return HM_OK;
    }
    if (err == HM_OK) {
        err = tokens_parse(hm_buf_bytes(&text), out);
        snprintf(why, sizeof why, "%s", hm_err_detail());
        if (err != HM_OK)
            err = hm_fail(err, "%s: %s", path, why);
    }
    hm_buf_free(&text);
    return err;
}

static hm_err save(const char *path, const token_list *l)
{
    hm_buf b = {0};
    char hash[2 * HM_HASH_BYTES + 1];
    hm_buf_puts(&b, "# name role sha256 made_ms ends_ms; made by trustchain-server token\n");
    for (size_t i = 0; i < l->count; i++) {
        const token_info *t = &l->at[i];
        hm_hex(hash, t->hash.b, HM_HASH_BYTES);
        hm_buf_printf(&b, "%s %s %s %llu %llu\n", t->name, hm_http_role_word(t->role), hash,
                      (unsigned long long)t->made_ms, (unsigned long long)t->ends_ms);
    }
    hm_err err = hm_buf_status(&b);
    if (err == HM_OK)
        err = hm_file_write(path, hm_buf_bytes(&b), 0600);
    hm_buf_free(&b);
    return err;
}

hm_err tokens_add(const char *path, const char *name, hm_http_role role, uint64_t days,
                  uint64_t now_ms, char token[TOKEN_TEXT_MAX])
{
    uint8_t secret[32];
    token_list l = {0};
    token_info t = {.role = role, .made_ms = now_ms, .ends_ms = days ? now_ms + days * DAY_MS : 0};
    hm_err err;
    if (!name_ok(name))
        return hm_fail(HM_E_INVALID, "the name of a token has 1 to %u of A-Z a-z 0-9 . _ -",
                       HM_HTTP_ACTOR_MAX);
    HM_TRY(tokens_load(path, &l));
    if (by_name(&l, name) || strcmp(name, "api.token") == 0)
        HM_TRY_OUT(hm_fail(HM_E_EXISTS, "there is a token named %s", name));
    hm_random_fill(&hm_random_system, secret, sizeof secret);
    hm_hex(token, secret, sizeof secret);
    snprintf(t.name, sizeof t.name, "%s", name);
    t.hash = hm_sha256(hm_bytes_str(token));
    HM_TRY_OUT(push(&l, &t));
    err = save(path, &l);
out:
    hm_zero(secret, sizeof secret);
    tokens_free(&l);
    return err;
}

hm_err tokens_remove(const char *path, const char *name)
{
    token_list l = {0};
    hm_err err;
    HM_TRY(tokens_load(path, &l));
    const token_info *t = by_name(&l, name);
    if (!t)
        HM_TRY_OUT(hm_fail(HM_E_NOTFOUND, "no token is named %s", name));
    size_t i = (size_t)(t - l.at);
    memmove(&l.at[i], &l.at[i + 1], (l.count - i - 1) * sizeof *l.at);
    l.count--;
    err = save(path, &l);
out:
    tokens_free(&l);
    return err;
}

bool tokens_follow(tokens_file *f)
{
    struct stat st = {0};
    token_list now = {0};
    (void)stat(f->path, &st); // absent: all zeros, as at the start
    if (st.st_ino == f->inode && st.st_mtim.tv_sec == f->changed.tv_sec &&
        st.st_mtim.tv_nsec == f->changed.tv_nsec)
        return false;
    f->inode = st.st_ino;
    f->changed = st.st_mtim;
    if (tokens_load(f->path, &now) != HM_OK) {
        char why[512];
        hm_log(HM_LOG_ERROR, "server", "tokens not read: none is taken", "why=%s",
               hm_log_quote(why, sizeof why, hm_bytes_str(hm_err_detail())));
    }
    tokens_free(&f->list);
    f->list = now;
    return true;
}

// ---- what the API tells of them -----------------------------------------------------------------

void tokens_tell_actor(hm_http_req *r)
{
    const hm_http_actor *actor = hm_http_actor_of(r);
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "name", actor->name);
    hm_jw_str(&b, "role", hm_http_role_word(actor->role));
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 200, &b);
}

void tokens_tell(const token_list *l, hm_http_req *r)
{
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (size_t i = 0; i < l->count; i++) {
        hm_jw_open(&b, NULL, '{');
        hm_jw_str(&b, "name", l->at[i].name);
        hm_jw_str(&b, "role", hm_http_role_word(l->at[i].role));
        hm_jw_u64(&b, "made_ms", l->at[i].made_ms);
        hm_jw_u64(&b, "ends_ms", l->at[i].ends_ms);
        hm_jw_close(&b, '}');
    }
    hm_jw_close(&b, ']');
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 200, &b);
}
