// hypermesh log: head, show, verify. What is said here was computed here.
#include <stdio.h>
#include <stdlib.h>

#include "cli/log_source.h"

// ---- what people see ----------------------------------------------------------------------------

static void fact_time(yyjson_val *x, const char *name, const char *label)
{
    hm_buf b = {0};
    cli_put_time(&b, cli_u64(x, name));
    cli_fact_buf(label, &b);
}

hm_err cli_log_head_facts(cli *c, yyjson_val *x)
{
    (void)c;
    cli_fact("log", "%s", cli_str(x, "origin"));
    cli_fact("entries", "%llu", (unsigned long long)cli_u64(x, "size"));
    cli_fact("root", "%s", cli_str(x, "root"));
    fact_time(x, "time_ms", "signed at");
    if (yyjson_obj_get(x, "witnesses"))
        cli_fact("witnesses", "%llu of the policy cosigned",
                 (unsigned long long)cli_u64(x, "witnesses"));
    return HM_OK;
}

hm_err cli_log_entry_facts(cli *c, yyjson_val *x)
{
    cli_fact("entry", "%llu of %s, of %llu", (unsigned long long)cli_u64(x, "index"),
             cli_str(x, "origin"), (unsigned long long)cli_u64(x, "size"));
    fact_time(x, "logged_ms", "logged at");
    cli_fact("of", cli_true(x, "precert") ? "a precertificate" : "a certificate");
    return cli_cert_facts(c, yyjson_obj_get(x, "certificate"));
}

hm_err cli_log_verify_facts(cli *c, yyjson_val *x)
{
    if (yyjson_obj_get(x, "index")) {
        cli_fact("certificate", "in the log: entry %llu, proven to its root",
                 (unsigned long long)cli_u64(x, "index"));
        fact_time(x, "logged_ms", "SCT");
    } else {
        cli_fact("good", "every entry and tile, up to the signed root; checked here");
        cli_fact("read", "%llu tiles", (unsigned long long)cli_u64(x, "tiles"));
    }
    if (yyjson_obj_get(x, "from"))
        cli_fact("goes on from", "the kept checkpoint of %llu entries",
                 (unsigned long long)cli_u64(x, "from"));
    cli_fact("key", "%s",
             strcmp(cli_str(x, "trust"), "file") == 0
                 ? "that of --key"
                 : "the authority's word for it; --key would be yours");
    return cli_log_head_facts(c, x);
}

// ---- head ---------------------------------------------------------------------------------------

static void put_head(cli *c, const log_source *s, hm_buf *b)
{
    hm_jw_text(b, "origin", s->checkpoint.origin);
    hm_jw_u64(b, "size", s->checkpoint.size);
    hm_jw_hex(b, "root", s->checkpoint.root.b, HM_HASH_BYTES);
    hm_jw_u64(b, "time_ms", s->time_ms);
    hm_jw_hex(b, "log_id", s->key.id.b, HM_HASH_BYTES);
    hm_jw_str(b, "trust", hm_config_get(&c->cfg, "key") ? "file" : "authority");
    if (s->policy.count)
        hm_jw_u64(b, "witnesses", s->witnesses);
}

static hm_err answer(cli *c, const cli_command *cmd, hm_buf *b)
{
    hm_jw_close(b, '}');
    hm_buf_puts(b, "\n");
    HM_TRY(hm_buf_status(b));
    return cli_answer(c, cmd, hm_buf_bytes(b));
}

hm_err cli_log_head(cli *c, const cli_command *cmd)
{
    const char *to = hm_config_get(&c->cfg, "output");
    log_source s;
    hm_buf b = {0};
    hm_err err;
    HM_TRY_OUT(log_source_open(c, &s));
    if (to)
        HM_TRY_OUT(hm_file_write(to, hm_buf_bytes(&s.note), 0644));
    hm_jw_open(&b, NULL, '{');
    put_head(c, &s, &b);
    err = answer(c, cmd, &b);
out:
    log_source_close(&s);
    hm_buf_free(&b);
    return err;
}

// ---- a certificate's place ----------------------------------------------------------------------

static hm_err find_cert(const log_source *s, const char *path, tc_logged *out)
{
    cli_chain x = {0};
    hm_err err;
    HM_TRY_OUT(cli_chain_read(path, &x));
    if (!x.issuing)
        err = hm_fail(HM_E_PARSE,
                      "%s lacks the issuing CA behind the certificate, which its SCT covers", path);
    else
        err = tc_cert_logged(x.leaf, x.issuing, &s->key, out);
    if (err == HM_E_NOTFOUND) // said of what the authority does not have
        err = HM_E_PARSE;
out:
    cli_chain_free(&x);
    return err;
}

static hm_err show_entry(cli *c, const cli_command *cmd, log_source *s, uint64_t index)
{
    hm_buf data = {0}, b = {0};
    tc_leaf leaf;
    X509 *x = NULL;
    hm_err err;
    HM_TRY_OUT(log_source_entry(s, index, &data, &leaf));
    HM_TRY_OUT(tc_leaf_cert(&leaf, &x));
    hm_jw_open(&b, NULL, '{');
    hm_jw_u64(&b, "index", index);
    hm_jw_u64(&b, "logged_ms", leaf.time_ms);
    hm_jw_bool(&b, "precert", leaf.precert);
    hm_jw_hex(&b, "leaf", leaf.hash.b, HM_HASH_BYTES);
    hm_jw_open(&b, "issuers", '[');
    for (size_t i = 0; i < leaf.chain.len; i += HM_HASH_BYTES)
        hm_jw_hex(&b, NULL, leaf.chain.ptr + i, HM_HASH_BYTES);
    hm_jw_close(&b, ']');
    hm_jw_open(&b, "certificate", '{');
    cli_put_cert(&b, x);
    hm_jw_close(&b, '}');
    put_head(c, s, &b);
    err = answer(c, cmd, &b);
out:
    X509_free(x);
    hm_buf_free(&data);
    hm_buf_free(&b);
    return err;
}

hm_err cli_log_show(cli *c, const cli_command *cmd)
{
    const char *cert = hm_config_get(&c->cfg, "cert");
    log_source s = {0};
    tc_logged logged = {0};
    hm_err err;
    if (!c->arg == !cert)
        return hm_fail(HM_E_USAGE, "INDEX or --cert is needed, one of them");
    if (c->arg && tc_decimal_read(hm_bytes_str(c->arg), &logged.index) != HM_OK)
        return hm_fail(HM_E_USAGE, "\"%.80s\" is no number of an entry", c->arg);
    HM_TRY_OUT(log_source_open(c, &s));
    if (cert)
        HM_TRY_OUT(find_cert(&s, cert, &logged));
    if (cert)
        HM_TRY_OUT(log_source_included(&s, logged.index, &logged.leaf));
    err = show_entry(c, cmd, &s, logged.index);
out:
    log_source_close(&s);
    return err;
}

// ---- verify -------------------------------------------------------------------------------------

typedef struct kept {
    hm_buf note;
    tc_checkpoint checkpoint;
    bool met; // in the walk
} kept;

static hm_err meet(void *ctx, uint64_t index, const tc_leaf *leaf, const tc_log_tree *tree)
{
    kept *k = ctx;
    (void)index;
    (void)leaf;
    if (tree->size != k->checkpoint.size)
        return HM_OK;
    hm_hash root = tc_log_root(tree);
    k->met = hm_hash_eq(&root, &k->checkpoint.root);
    return k->met ? HM_OK
                  : hm_fail(HM_E_CORRUPT,
                            "the log's first %llu entries are others than those of --from",
                            (unsigned long long)tree->size);
}

static hm_err verify_all(log_source *s, kept *k, bool from)
{
    tc_log_tree tree = {0};
    if (from && k->checkpoint.size > s->checkpoint.size)
        return hm_fail(HM_E_CORRUPT, "the log has %llu entries, fewer than the %llu of --from",
                       (unsigned long long)s->checkpoint.size,
                       (unsigned long long)k->checkpoint.size);
    HM_TRY(log_source_walk(s, &tree, from ? meet : NULL, k));
    hm_hash empty = tc_log_root(&(tc_log_tree){0});
    k->met |= k->checkpoint.size == 0 && hm_hash_eq(&k->checkpoint.root, &empty);
    return !from || k->met ? HM_OK : hm_fail(HM_E_CORRUPT, "--from has a root of no tree");
}

static hm_err verify_cert(log_source *s, const char *path, kept *k, bool from, tc_logged *logged)
{
    tc_log_tree tree;
    HM_TRY(find_cert(s, path, logged));
    HM_TRY(log_source_included(s, logged->index, &logged->leaf));
    if (!from)
        return HM_OK;
    if (k->checkpoint.size > s->checkpoint.size)
        return hm_fail(HM_E_CORRUPT, "the log has fewer entries than --from");
    return log_source_tree(s, k->checkpoint.size, &k->checkpoint.root, &tree);
}

hm_err cli_log_verify(cli *c, const cli_command *cmd)
{
    const char *cert = hm_config_get(&c->cfg, "cert"), *from = hm_config_get(&c->cfg, "from");
    log_source s;
    kept k = {0};
    tc_logged logged = {0};
    hm_buf b = {0};
    uint64_t time_ms;
    hm_err err;
    HM_TRY_OUT(log_source_open(c, &s));
    if (from)
        HM_TRY_OUT(log_source_kept(&s, from, &k.note, &k.checkpoint, &time_ms));
    HM_TRY_OUT(cert ? verify_cert(&s, cert, &k, from != NULL, &logged)
                    : verify_all(&s, &k, from != NULL));
    hm_jw_open(&b, NULL, '{');
    hm_jw_bool(&b, "good", true);
    if (cert) {
        hm_jw_u64(&b, "index", logged.index);
        hm_jw_u64(&b, "logged_ms", logged.time_ms);
    }
    if (from)
        hm_jw_u64(&b, "from", k.checkpoint.size);
    hm_jw_u64(&b, "tiles", s.tiles);
    put_head(c, &s, &b);
    err = answer(c, cmd, &b);
out:
    log_source_close(&s);
    hm_buf_free(&k.note);
    hm_buf_free(&b);
    return err;
}
