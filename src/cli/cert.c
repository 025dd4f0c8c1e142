// hypermesh cert: what the authority gives, and checks that need nobody.
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "server/enroll.h"
#include "trustchain/renew.h"

#define FILE_MAX 65536u

// ---- files --------------------------------------------------------------------------------------

void cli_chain_free(cli_chain *c)
{
    X509_free(c->leaf);
    X509_free(c->issuing);
}

hm_err cli_chain_read(const char *path, cli_chain *out)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return hm_fail(HM_E_IO, "%s cannot be read: %s", path, strerror(errno));
    out->leaf = PEM_read_X509(f, NULL, NULL, NULL);
    out->issuing = out->leaf ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
    fclose(f);
    ERR_clear_error();
    return out->leaf ? HM_OK : hm_fail(HM_E_PARSE, "%s holds no certificate in PEM", path);
}

hm_err cli_cert_der(const X509 *x, hm_buf *out)
{
    uint8_t *der = NULL;
    int len = i2d_X509(x, &der);
    if (len <= 0)
        return hm_crypto_fail(HM_E_CRYPTO, "a certificate cannot be encoded");
    hm_buf_append(out, der, (size_t)len);
    OPENSSL_free(der);
    return hm_buf_status(out);
}

static hm_bytes serial_of(const X509 *x)
{
    const ASN1_INTEGER *n = X509_get0_serialNumber(x);
    return hm_bytes_of(ASN1_STRING_get0_data(n), (size_t)ASN1_STRING_length(n));
}

static void put_time(hm_buf *b, const char *name, const ASN1_TIME *t)
{
    struct tm tm;
    time_t s = ASN1_TIME_to_tm(t, &tm) ? timegm(&tm) : 0;
    hm_jw_u64(b, name, s > 0 ? (uint64_t)s * 1000 : 0);
}

static void put_name(hm_buf *b, const char *name, const X509_NAME *n)
{
    char *text = NULL;
    BIO *mem = BIO_new(BIO_s_mem());
    long len = 0;
    if (mem && X509_NAME_print_ex(mem, n, 0, XN_FLAG_RFC2253) >= 0)
        len = BIO_get_mem_data(mem, &text);
    hm_jw_text(b, name, hm_bytes_of(text, len > 0 ? (size_t)len : 0));
    BIO_free(mem);
}

static void put_alt_names(hm_buf *b, const X509 *x)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    hm_jw_open(b, "names", '[');
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) { // -1 for NULL
        char *text = NULL;
        BIO *mem = BIO_new(BIO_s_mem());
        long len = 0;
        if (mem && GENERAL_NAME_print(mem, sk_GENERAL_NAME_value(names, i)) == 1)
            len = BIO_get_mem_data(mem, &text);
        hm_jw_text(b, NULL, hm_bytes_of(text, len > 0 ? (size_t)len : 0));
        BIO_free(mem);
    }
    hm_jw_close(b, ']');
    GENERAL_NAMES_free(names);
}

void cli_put_cert(hm_buf *b, const X509 *x)
{
    hm_bytes serial = serial_of(x);
    EVP_PKEY *key = X509_get0_pubkey(x);
    hm_jw_hex(b, "serial", serial.ptr, serial.len);
    put_name(b, "subject", X509_get_subject_name(x));
    put_name(b, "issuer", X509_get_issuer_name(x));
    put_alt_names(b, x);
    put_time(b, "not_before_ms", X509_get0_notBefore(x));
    put_time(b, "not_after_ms", X509_get0_notAfter(x));
    hm_jw_str(b, "key", key ? EVP_PKEY_get0_type_name(key) : NULL);
}

// ---- what people see ----------------------------------------------------------------------------

hm_err cli_certs_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *x;
    (void)c;
    cli_table_begin(&t, "SERIAL|FAMILY|STATE|VALID UNTIL|SUBJECT");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, x)
    {
        cli_cell(&t, cli_str(x, "serial"));
        cli_cell(&t, cli_str(x, "family"));
        cli_cell(&t, cli_str(x, "state"));
        cli_cell_of(&t, cli_put_time, cli_u64(x, "not_after_ms"));
        cli_cell(&t, cli_str(x, "subject"));
    }
    return cli_table_end(&t);
}

static void show_word(yyjson_val *x, const char *name, const char *label)
{
    if (cli_str(x, name)[0])
        cli_fact(label, "%s", cli_str(x, name));
}

static void show_time(yyjson_val *x, const char *name, const char *label)
{
    hm_buf b = {0};
    if (!cli_u64(x, name))
        return;
    cli_put_time(&b, cli_u64(x, name));
    cli_fact_buf(label, &b);
}

// Whom the mesh believes, and for what.
static void show_by(yyjson_val *by)
{
    const char *zone = cli_str(by, "zone"), *prefix = cli_str(by, "prefix");
    if (!by)
        return;
    cli_fact("vouched by", "%s %s", cli_str(by, "kind"), cli_str(by, "name"));
    if (*zone || *prefix)
        cli_fact("for", "%s%s%s", zone, *zone && *prefix ? " " : "", prefix);
}

// Of the authority and of a file: each says what it knows.
hm_err cli_cert_facts(cli *c, yyjson_val *x)
{
    size_t at, max;
    yyjson_val *name;
    (void)c;
    if (cli_true(x, "good"))
        cli_fact("good", "it reaches the root, is in its time and %s; checked here",
                 cli_true(x, "revocation_checked") ? "is not revoked"
                                                   : "fits its use (revocation: not asked, --crl)");
    show_by(yyjson_obj_get(x, "by"));
    show_word(x, "serial", "serial");
    show_word(x, "profile", "profile");
    show_word(x, "node", "node");
    show_word(x, "family", "family");
    show_word(x, "state", "state");
    show_word(x, "subject", "subject");
    show_word(x, "issuer", "issuer");
    yyjson_arr_foreach(yyjson_obj_get(x, "names"), at, max, name)
    {
        cli_fact(at ? "" : "names", "%s", yyjson_get_str(name) ? yyjson_get_str(name) : "");
    }
    show_time(x, "not_before_ms", "valid from");
    show_time(x, "not_after_ms", "valid until");
    show_time(x, "revoked_ms", "revoked");
    show_word(x, "reason", "reason");
    show_word(x, "key", "key");
    show_word(x, "chain", "chain");
    return HM_OK;
}

// ---- commands -----------------------------------------------------------------------------------

hm_err cli_cert_show(cli *c, const cli_command *cmd)
{
    cli_chain x = {0};
    hm_buf b = {0};
    hm_err err;
    HM_TRY(hm_crypto_init());
    if (access(c->arg, F_OK) != 0) { // no file of that name: a serial
        tc_serial serial;
        if (tc_serial_parse(hm_bytes_str(c->arg), &serial) != HM_OK)
            return hm_fail(HM_E_USAGE, "%s is neither a file nor a serial of 32 hex digits",
                           c->arg);
        return cli_get(c, cmd);
    }
    HM_TRY_OUT(cli_chain_read(c->arg, &x));
    hm_jw_open(&b, NULL, '{');
    cli_put_cert(&b, x.leaf);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    HM_TRY_OUT(hm_buf_status(&b));
    err = cli_answer(c, cmd, hm_buf_bytes(&b));
out:
    cli_chain_free(&x);
    hm_buf_free(&b);
    return err;
}

// 0: neither was given.
static hm_err issue_life(const cli *c, uint64_t *life_s)
{
    bool hours = hm_config_get(&c->cfg, "hours"), days = hm_config_get(&c->cfg, "days");
    uint64_t n = 0;
    if (hours && days)
        return hm_fail(HM_E_USAGE, "--hours or --days, not both");
    if (hours || days)
        HM_TRY(hm_config_u64(&c->cfg, hours ? "hours" : "days", 1, 10000, &n));
    *life_s = n * (hours ? 3600 : 86400);
    return HM_OK;
}

// What was issued, and the file that has it.
static hm_err issued(cli *c, const cli_command *cmd, const char *serial, const char *path,
                     hm_bytes chain_pem)
{
    hm_buf b = {0};
    hm_err err;
    HM_TRY_OUT(hm_file_write(path, chain_pem, 0644));
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "serial", serial);
    hm_jw_str(&b, "chain", path);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    err = cli_answer(c, cmd, hm_buf_bytes(&b));
out:
    hm_buf_free(&b);
    return err;
}

hm_err cli_cert_issue(cli *c, const cli_command *cmd)
{
    const char *profile = hm_config_get(&c->cfg, "profile");
    const char *to = hm_config_get(&c->cfg, "output");
    char serial[33];
    uint64_t life_s = 0;
    hm_buf csr = {0}, pem = {0};
    hm_err err;
    HM_TRY(issue_life(c, &life_s));
    HM_TRY_OUT(cli_read_file(c->arg, FILE_MAX, &csr));
    HM_TRY_OUT(enroll_issue(&c->authority, profile, life_s, hm_buf_bytes(&csr), &pem, serial));
    err = issued(c, cmd, serial, to, hm_buf_bytes(&pem));
out:
    hm_buf_free(&csr);
    hm_buf_free(&pem);
    return err;
}

hm_err cli_cert_renew(cli *c, const cli_command *cmd)
{
    const char *key = hm_config_get(&c->cfg, "key"), *csr_path = hm_config_get(&c->cfg, "csr");
    const char *to = hm_config_get(&c->cfg, "output");
    uint64_t from_ms, until_ms;
    char serial[33];
    tc_serial old;
    hm_buf csr = {0}, pem = {0};
    hm_err err;
    HM_TRY(hm_crypto_init());
    HM_TRY_OUT(cli_read_file(c->arg, FILE_MAX, &pem)); // says what is wrong with the file
    hm_buf_free(&pem);
    if (access(key, R_OK) != 0)
        HM_TRY_OUT(hm_fail(HM_E_IO, "%s cannot be read: %s", key, strerror(errno)));
    HM_TRY_OUT(tc_renewal_look(c->arg, &old, &from_ms, &until_ms));
    if (csr_path)
        HM_TRY_OUT(cli_read_file(csr_path, FILE_MAX, &csr));
    else
        HM_TRY_OUT(tc_renewal_csr(c->arg, key, &csr));
    HM_TRY_OUT(enroll_renew(&c->authority, key, &old, hm_buf_bytes(&csr), &pem, serial));
    err = issued(c, cmd, serial, to ? to : c->arg, hm_buf_bytes(&pem));
out:
    hm_buf_free(&csr);
    hm_buf_free(&pem);
    return err;
}

hm_err cli_cert_revoke(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, body = {0}, answer = {0};
    hm_err err;
    HM_TRY_OUT(cli_put_path(c, cmd, &path));
    hm_jw_open(&body, NULL, '{');
    hm_jw_str(&body, "reason", hm_config_get(&c->cfg, "reason"));
    hm_jw_close(&body, '}');
    HM_TRY_OUT(hm_client_request(&c->authority, "POST", hm_buf_cstr(&path), hm_buf_bytes(&body),
                                 NULL, &answer));
    HM_TRY_OUT(cli_need_answer(c, cmd, hm_buf_bytes(&answer)));
    err = cli_answer(c, cmd, hm_buf_bytes(&answer));
out:
    hm_buf_free(&path);
    hm_buf_free(&body);
    hm_buf_free(&answer);
    return err;
}

// ---- verify -------------------------------------------------------------------------------------

cli_cert_use cli_cert_use_of(X509 *leaf)
{
    uint32_t use = X509_get_extended_key_usage(leaf); // all of them when it says none
    if (use & XKU_SSL_SERVER)
        return (cli_cert_use){"server", X509_PURPOSE_SSL_SERVER};
    if (use & XKU_SSL_CLIENT)
        return (cli_cert_use){"client", X509_PURPOSE_SSL_CLIENT};
    if (use & XKU_CODE_SIGN)
        return (cli_cert_use){"code", X509_PURPOSE_CODE_SIGN};
    return (cli_cert_use){"server", X509_PURPOSE_SSL_SERVER};
}

// A chain of the edge family, by the rules of RFC 5280 as OpenSSL has them.
static hm_err edge_path(const cli_chain *x, X509 *root, uint64_t now_ms)
{
    hm_err err = HM_OK;
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *more = sk_X509_new_null();
    if (!store || !ctx || !more || !X509_STORE_add_cert(store, root) ||
        !sk_X509_push(more, x->issuing) || !X509_STORE_CTX_init(ctx, store, x->leaf, more)) {
        err = hm_crypto_fail(HM_E_NOMEM, "cannot check a certificate");
        goto out;
    }
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)(now_ms / 1000));
    X509_VERIFY_PARAM_set_depth(param, 1);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    X509_VERIFY_PARAM_set_purpose(param, cli_cert_use_of(x->leaf).purpose);
    if (X509_verify_cert(ctx) <= 0) {
        int code = X509_STORE_CTX_get_error(ctx);
        bool time = code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID;
        err = hm_fail(time ? HM_E_CERT_EXPIRED : HM_E_CERT_UNTRUSTED, "%s",
                      X509_verify_cert_error_string(code));
    }
out:
    ERR_clear_error();
    sk_X509_free(more);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return err;
}

hm_err cli_cert_not_revoked(X509 *leaf, hm_bytes issuing, hm_bytes crl, uint64_t now_ms)
{
    tc_crl_info info;
    bool revoked = false;
    HM_TRY(tc_crl_verify(crl, issuing, &info));
    HM_TRY(tc_crl_contains(crl, serial_of(leaf), &revoked));
    if (revoked)
        return hm_fail(HM_E_CERT_REVOKED, "the certificate is in revocation list %llu",
                       (unsigned long long)info.number);
    if (now_ms > info.next_update_ms)
        return hm_fail(HM_E_CRL_STALE, "revocation list %llu is older than it says it may be",
                       (unsigned long long)info.number);
    return HM_OK;
}

static hm_err edge_verify(const cli_chain *x, X509 *root, hm_bytes issuing, hm_bytes crl,
                          uint64_t now_ms)
{
    HM_TRY(edge_path(x, root, now_ms));
    return crl.len == 0 ? HM_OK : cli_cert_not_revoked(x->leaf, issuing, crl, now_ms);
}

bool cli_cert_is_node(const X509 *leaf)
{
    EVP_PKEY *key = X509_get0_pubkey(leaf);
    return key && EVP_PKEY_is_a(key, HM_FALCON_NAME);
}

hm_err cli_cert_verify(cli *c, const cli_command *cmd)
{
    const char *root_path = hm_config_get(&c->cfg, "root");
    const char *crl_path = hm_config_get(&c->cfg, "crl");
    uint64_t now_ms = hm_clock_wall_ms(&hm_clock_system);
    cli_chain x = {0}, root = {0};
    hm_buf leaf = {0}, issuing = {0}, root_der = {0}, crl = {0}, b = {0};
    tc_node_cert node;
    hm_err err;
    if (hm_config_on(&c->cfg, "mesh") == (root_path != NULL))
        return hm_fail(HM_E_USAGE, "--root FILE, or --mesh to ask the node whom the mesh believes");
    HM_TRY(hm_crypto_init());
    if (!root_path)
        return cli_cert_verify_mesh(c, cmd);
    HM_TRY_OUT(cli_chain_read(c->arg, &x));
    HM_TRY_OUT(cli_chain_read(root_path, &root));
    if (!x.issuing) {
        err = hm_fail(HM_E_PARSE, "%s lacks the issuing CA behind the certificate", c->arg);
        goto out;
    }
    if (crl_path)
        HM_TRY_OUT(cli_read_file(crl_path, TC_CRL_MAX, &crl));
    if (crl_path && crl.len == 0) { // to the checks that follow, none was given
        err = hm_fail(HM_E_PARSE, "%s is empty, not a revocation list", crl_path);
        goto out;
    }
    HM_TRY_OUT(cli_cert_der(x.leaf, &leaf));
    HM_TRY_OUT(cli_cert_der(x.issuing, &issuing));
    HM_TRY_OUT(cli_cert_der(root.leaf, &root_der));
    bool is_node = cli_cert_is_node(x.leaf);
    if (is_node)
        HM_TRY_OUT(tc_node_cert_verify(hm_buf_bytes(&leaf), hm_buf_bytes(&issuing),
                                       hm_buf_bytes(&root_der), hm_buf_bytes(&crl), now_ms, &node));
    else
        HM_TRY_OUT(edge_verify(&x, root.leaf, hm_buf_bytes(&issuing), hm_buf_bytes(&crl), now_ms));
    hm_jw_open(&b, NULL, '{');
    hm_jw_bool(&b, "good", true);
    hm_jw_str(&b, "profile", is_node ? "node" : cli_cert_use_of(x.leaf).profile);
    if (is_node)
        hm_jw_hex(&b, "node", node.node.b, HM_HASH_BYTES);
    hm_jw_bool(&b, "revocation_checked", crl_path != NULL);
    cli_put_cert(&b, x.leaf);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    err = cli_answer(c, cmd, hm_buf_bytes(&b));
out:
    cli_chain_free(&x);
    cli_chain_free(&root);
    hm_buf_free(&leaf);
    hm_buf_free(&issuing);
    hm_buf_free(&root_der);
    hm_buf_free(&crl);
    hm_buf_free(&b);
    return err;
}
