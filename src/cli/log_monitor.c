// hypermesh log monitor: follows a log from checkpoint to checkpoint, for the owners of names.
#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "cli/log_source.h"

#define FOLLOW_S 10u
#define EXPECTED_MAX (16u << 20) // bytes of the list of serials

typedef struct monitor {
    cli *c;
    const char *state, *names;
    hm_buf expected; // serials, a line each; meaningless without has_expected
    bool has_expected;
    uint64_t surprises, watched;
    char first[160]; // of the surprises
} monitor;

static hm_err alarm_at(cli *c, const char *state, const log_source *s, const hm_buf *kept)
{
    char why[400], path[4096];
    hm_buf both = {0};
    snprintf(why, sizeof why, "%s", hm_err_detail());
    c->alarm = true;
    if (snprintf(path, sizeof path, "%s.alarm", state) >= (int)sizeof path)
        return hm_fail(HM_E_CORRUPT, "%s", why);
    hm_buf_put(&both, hm_buf_bytes(kept));
    hm_buf_puts(&both, "\n");
    hm_buf_put(&both, hm_buf_bytes(&s->note));
    hm_err err = hm_buf_status(&both);
    if (err == HM_OK)
        err = hm_file_write(path, hm_buf_bytes(&both), 0644);
    hm_buf_free(&both);
    return hm_fail(HM_E_CORRUPT, "%s; both checkpoints are%s in %s", why,
                   err == HM_OK ? "" : " NOT, it cannot be written,", path);
}

// ---- names --------------------------------------------------------------------------------------

// Is the certificate's name one of the watched: the same, below ".example", or a wildcard that
// stands for it (RFC 6125, 6.4.3)?
static bool watches(const char *watched, size_t len, const char *name)
{
    size_t n = strlen(name);
    if (len > 0 && watched[0] == '.')
        return n > len ? strncasecmp(name + n - len, watched, len) == 0
                       : n == len - 1 && strncasecmp(name, watched + 1, n) == 0;
    if (n == len && strncasecmp(name, watched, len) == 0)
        return true;
    const char *dot = len ? memchr(watched, '.', len) : NULL;
    size_t rest = dot ? (size_t)(watched + len - dot) : 0;
    return dot && n == rest + 1 && name[0] == '*' && strncasecmp(name + 1, dot, rest) == 0;
}

static bool watched(const monitor *m, const char *name)
{
    for (const char *p = m->names; *p;) {
        size_t len = strcspn(p, ",");
        if (watches(p, len, name))
            return true;
        p += len + (p[len] == ',');
    }
    return false;
}

static void put_name(hm_buf *names, const char *text, size_t len)
{
    hm_buf_append(names, text, len);
    hm_buf_append(names, "", 1);
}

// The names that a certificate is for: its CN and alternative names, each with a NUL behind it; one
// that holds a NUL is as many names.
static hm_err names_of(X509 *x, hm_buf *out)
{
    GENERAL_NAMES *alt = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    X509_NAME *subject = X509_get_subject_name(x);
    for (int at = -1; (at = X509_NAME_get_index_by_NID(subject, NID_commonName, at)) >= 0;) {
        uint8_t *text = NULL;
        int len =
            ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
        if (len > 0)
            put_name(out, (const char *)text, (size_t)len);
        OPENSSL_free(text);
    }
    for (int i = 0; i < sk_GENERAL_NAME_num(alt); i++) { // -1 for NULL
        int type = 0;
        const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(alt, i), &type);
        if (type == GEN_DNS || type == GEN_URI)
            put_name(out, (const char *)ASN1_STRING_get0_data(value),
                     (size_t)ASN1_STRING_length(value));
        char text[INET6_ADDRSTRLEN];
        if (type == GEN_IPADD && ASN1_STRING_length(value) == 16 &&
            inet_ntop(AF_INET6, ASN1_STRING_get0_data(value), text, sizeof text))
            put_name(out, text, strlen(text));
    }
    GENERAL_NAMES_free(alt);
    return hm_buf_status(out);
}

static bool is_expected(const monitor *m, const char *serial)
{
    hm_bytes rest = hm_buf_bytes(&m->expected), line;
    while (tc_line_next(&rest, &line))
        if (line.len == strlen(serial) &&
            strncasecmp((const char *)line.ptr, serial, line.len) == 0)
            return true;
    return false;
}

static void say(monitor *m, uint64_t index, const tc_leaf *leaf, const char *serial,
                const hm_buf *names, bool surprise)
{
    hm_buf b = {0};
    const char *all = (const char *)names->ptr;
    if (m->c->json) {
        hm_jw_open(&b, NULL, '{');
        hm_jw_u64(&b, "index", index);
        hm_jw_u64(&b, "logged_ms", leaf->time_ms);
        hm_jw_str(&b, "serial", serial);
        hm_jw_open(&b, "names", '[');
        for (size_t at = 0; at < names->len; at += strlen(all + at) + 1)
            hm_jw_str(&b, NULL, all + at);
        hm_jw_close(&b, ']');
        hm_jw_bool(&b, "expected", !surprise);
        hm_jw_close(&b, '}');
    } else {
        cli_put_time(&b, leaf->time_ms);
        hm_buf_printf(&b, "  entry %llu  %s ", (unsigned long long)index, serial);
        for (size_t at = 0; at < names->len; at += strlen(all + at) + 1) {
            hm_buf_puts(&b, " ");
            cli_put_text(&b, all + at);
        }
        hm_buf_puts(&b, surprise ? "  NOT EXPECTED" : "");
    }
    puts(hm_buf_cstr(&b));
    hm_buf_free(&b);
}

static hm_err on_entry(void *ctx, uint64_t index, const tc_leaf *leaf, const tc_log_tree *tree)
{
    monitor *m = ctx;
    hm_buf names = {0}, serial = {0};
    X509 *x = NULL;
    bool found = false;
    hm_err err;
    (void)tree;
    if (!m->names)
        return HM_OK;
    HM_TRY_OUT(tc_leaf_cert(leaf, &x));
    HM_TRY_OUT(names_of(x, &names));
    const char *all = (const char *)names.ptr;
    for (size_t at = 0; at < names.len; at += strlen(all + at) + 1)
        found |= watched(m, all + at);
    if (!found)
        goto out;
    const ASN1_INTEGER *n = X509_get0_serialNumber(x);
    hm_buf_hex(&serial, hm_bytes_of(ASN1_STRING_get0_data(n), (size_t)ASN1_STRING_length(n)));
    HM_TRY_OUT(hm_buf_status(&serial));
    bool surprise = m->has_expected && !is_expected(m, hm_buf_cstr(&serial));
    say(m, index, leaf, hm_buf_cstr(&serial), &names, surprise);
    m->watched++;
    if (surprise && m->surprises++ == 0)
        snprintf(m->first, sizeof m->first, "entry %llu, serial %s", (unsigned long long)index,
                 hm_buf_cstr(&serial));
out:
    X509_free(x);
    hm_buf_free(&names);
    hm_buf_free(&serial);
    return err;
}

// ---- from checkpoint to checkpoint --------------------------------------------------------------

// The tree of the kept checkpoint, which the newest must go on from.
static hm_err go_on(log_source *s, const tc_checkpoint *old, uint64_t old_ms, tc_log_tree *tree)
{
    const tc_checkpoint *now = &s->checkpoint;
    unsigned long long n = now->size, m = old->size;
    if (now->size < old->size && s->time_ms <= old_ms)
        return hm_fail(HM_E_BUSY, "%s gives a checkpoint of %llu entries, older than the one kept",
                       s->where, n);
    if (now->size < old->size)
        return hm_fail(HM_E_CORRUPT, "the log was set back, from %llu entries to %llu", m, n);
    if (now->size == old->size && !hm_hash_eq(&now->root, &old->root))
        return hm_fail(HM_E_CORRUPT, "the log is split: two trees of %llu entries are signed", m);
    return log_source_tree(s, old->size, &old->root, tree);
}

static hm_err step(monitor *m)
{
    log_source s;
    hm_buf note = {0};
    tc_checkpoint old = {0};
    tc_log_tree tree = {0};
    uint64_t old_ms = 0;
    bool begun = access(m->state, F_OK) == 0;
    hm_err err;
    m->surprises = m->watched = 0;
    HM_TRY_OUT(log_source_open(m->c, &s));
    if (begun)
        HM_TRY_OUT(log_source_kept(&s, m->state, &note, &old, &old_ms));
    if (begun)
        err = go_on(&s, &old, old_ms, &tree);
    if (err == HM_OK)
        err = log_source_walk(&s, &tree, on_entry, m);
    if (err == HM_E_CORRUPT)
        err = alarm_at(m->c, m->state, &s, &note);
    HM_TRY_OUT(err);
    if (m->surprises > 0) {
        m->c->alarm = true;
        err = hm_fail(HM_E_CORRUPT, "%llu certificates that nobody expected: %s%s",
                      (unsigned long long)m->surprises, m->first, m->surprises > 1 ? " first" : "");
        goto out;
    }
    HM_TRY_OUT(hm_file_write(m->state, hm_buf_bytes(&s.note), 0644));
    if (!m->c->json && (!begun || s.checkpoint.size > old.size))
        fprintf(stderr, "%llu new entries, %llu for watched names; the log has %llu\n",
                (unsigned long long)(s.checkpoint.size - old.size), (unsigned long long)m->watched,
                (unsigned long long)s.checkpoint.size);
out:
    log_source_close(&s);
    hm_buf_free(&note);
    return err;
}

static hm_err read_expected(const char *what, monitor *m)
{
    if (access(what, F_OK) == 0)
        HM_TRY(cli_read_file(what, EXPECTED_MAX, &m->expected));
    else
        hm_buf_puts(&m->expected, what);
    for (size_t i = 0; i < m->expected.len; i++) {
        uint8_t *at = &m->expected.ptr[i];
        if (*at == ',' || *at == '\r')
            *at = '\n';
        if (*at != '\n' && !strchr("0123456789abcdefABCDEF", *at))
            return hm_fail(HM_E_USAGE, "--expected: %.80s is neither a file nor a list of serials",
                           what);
    }
    hm_buf_puts(&m->expected, "\n");
    m->has_expected = true;
    return hm_buf_status(&m->expected);
}

hm_err cli_log_monitor(cli *c, const cli_command *cmd)
{
    const char *expected = hm_config_get(&c->cfg, "expected");
    monitor m = {
        .c = c, .state = hm_config_get(&c->cfg, "state"), .names = hm_config_get(&c->cfg, "names")};
    hm_err err = HM_OK;
    (void)cmd;
    if (expected && !m.names)
        return hm_fail(HM_E_USAGE, "--expected belongs to --names");
    if (expected)
        HM_TRY_OUT(read_expected(expected, &m));
    for (;;) {
        err = step(&m);
        fflush(stdout);
        bool passing = err == HM_E_UNREACHABLE || err == HM_E_BUSY || err == HM_E_TIMEOUT ||
                       err == HM_E_QUORUM;
        if (hm_config_on(&c->cfg, "once") || (err != HM_OK && !passing))
            break;
        if (err != HM_OK)
            fprintf(stderr, "hypermesh log monitor: not now: %s; it is tried again\n",
                    hm_err_detail());
        sleep(FOLLOW_S);
    }
out:
    hm_buf_free(&m.expected);
    return err;
}
