// hypermesh cert verify --mesh: a chain held against what the ledger says whom the mesh believes.
// The node is asked for that; the checks are made here.
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "mesh/trust_module.h"

#define BELIEVED_MAX (HM_TRUST_AUTHORITIES_MAX + HM_TRUST_FOREIGN_MAX)

typedef struct judged {
    hm_buf chain[TC_FOREIGN_CHAIN_MAX]; // DER, the leaf first
    size_t count;
    X509 *leaf;        // owned
    yyjson_doc *trust; // the node's answer
    hm_buf certs[BELIEVED_MAX];
    yyjson_val *items[BELIEVED_MAX]; // of these certificates, in trust
    size_t believed;
    hm_buf genesis_bytes;
    hm_genesis genesis;
    yyjson_val *by; // the item that vouches
    hm_bytes by_cert;
    const char *profile;
    tc_node_cert node; // of a member
} judged;

static void judged_free(judged *j)
{
    for (size_t i = 0; i < j->count; i++)
        hm_buf_free(&j->chain[i]);
    for (size_t i = 0; i < j->believed; i++)
        hm_buf_free(&j->certs[i]);
    X509_free(j->leaf);
    yyjson_doc_free(j->trust);
    hm_genesis_free(&j->genesis);
    hm_buf_free(&j->genesis_bytes);
}

static hm_err read_chain(const char *path, judged *j)
{
    X509 *x;
    hm_err err = HM_OK;
    FILE *f = fopen(path, "r");
    if (!f)
        return hm_fail(HM_E_IO, "%s cannot be read: %s", path, strerror(errno));
    while (err == HM_OK && (x = PEM_read_X509(f, NULL, NULL, NULL)) != NULL) {
        if (j->count < TC_FOREIGN_CHAIN_MAX)
            err = cli_cert_der(x, &j->chain[j->count++]);
        else
            err = hm_fail(HM_E_PARSE, "%s holds more than %u certificates", path,
                          TC_FOREIGN_CHAIN_MAX);
        if (j->leaf)
            X509_free(x);
        else
            j->leaf = x;
    }
    fclose(f);
    ERR_clear_error();
    if (err == HM_OK && j->count == 0)
        err = hm_fail(HM_E_PARSE, "%s holds no certificate in PEM", path);
    return err;
}

static bool is_kind(yyjson_val *item, const char *kind)
{
    return strcmp(cli_str(item, "kind"), kind) == 0;
}

static hm_err ask_node(cli *c, judged *j)
{
    size_t at, max;
    yyjson_val *item;
    HM_TRY(cli_ask(&c->client, "GET", "/v1/trust", (hm_bytes){0}, &j->trust));
    HM_TRY(cli_need_items(c, yyjson_doc_get_root(j->trust), "id kind"));
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(j->trust), "items"), at, max, item)
    {
        if (!is_kind(item, "authority") && !is_kind(item, "foreign"))
            continue;
        HM_TRY(cli_need(c, item, "certificate name"));
        if (j->believed == BELIEVED_MAX)
            return hm_fail(HM_E_PARSE, "the node's answer has more than %u authorities and roots",
                           BELIEVED_MAX);
        j->items[j->believed] = item;
        HM_TRY(tc_pem_to_der(hm_bytes_str(cli_str(item, "certificate")), &j->certs[j->believed++]));
    }
    return HM_OK;
}

// A node's certificate, by one of the mesh's own authorities.
static hm_err check_member(cli *c, judged *j, uint64_t now_ms)
{
    hm_err err = hm_fail(HM_E_CERT_UNTRUSTED, "no authority of the mesh is in force");
    HM_TRY(hm_client_request(&c->client, "GET", "/v1/genesis", (hm_bytes){0}, NULL,
                             &j->genesis_bytes));
    HM_TRY(hm_genesis_decode(hm_buf_bytes(&j->genesis_bytes), &j->genesis));
    for (size_t i = 0; i < j->believed; i++) {
        if (!is_kind(j->items[i], "authority"))
            continue;
        err = tc_node_cert_verify(hm_buf_bytes(&j->chain[0]), hm_buf_bytes(&j->certs[i]),
                                  j->genesis.root_cert, (hm_bytes){0}, now_ms, &j->node);
        if (err == HM_OK) {
            j->by = j->items[i];
            j->by_cert = hm_buf_bytes(&j->certs[i]);
            j->profile = "node";
        }
        if (err != HM_E_CERT_UNTRUSTED)
            break;
    }
    return err;
}

// Another's, by a foreign root for names of its own.
static hm_err check_foreign(judged *j, uint64_t now_ms)
{
    tc_foreign roots[HM_TRUST_FOREIGN_MAX];
    size_t which[HM_TRUST_FOREIGN_MAX], n = 0, by;
    hm_bytes chain[TC_FOREIGN_CHAIN_MAX];
    const cli_cert_use use = cli_cert_use_of(j->leaf);
    const tc_foreign_ask ask = {
        .use = use.purpose == X509_PURPOSE_SSL_CLIENT ? TC_CLIENT : TC_SERVER, .time_ms = now_ms};
    for (size_t i = 0; i < j->believed; i++) {
        yyjson_val *item = j->items[i];
        if (!is_kind(item, "foreign") || n == HM_TRUST_FOREIGN_MAX)
            continue;
        HM_TRY(tc_scope_parse(cli_str(item, "zone"), cli_str(item, "prefix"), &roots[n].scope));
        roots[n].root = hm_buf_bytes(&j->certs[i]);
        which[n++] = i;
    }
    for (size_t i = 0; i < j->count; i++)
        chain[i] = hm_buf_bytes(&j->chain[i]);
    HM_TRY(tc_foreign_verify(roots, n, chain, j->count, &ask, &by));
    j->by = j->items[which[by]];
    j->by_cert = roots[by].root;
    j->profile = use.profile;
    return HM_OK;
}

static hm_err check_revocation(const judged *j, const char *crl_path, uint64_t now_ms)
{
    hm_buf crl = {0};
    bool member = is_kind(j->by, "authority") || j->count < 2;
    hm_err err = cli_read_file(crl_path, TC_CRL_MAX, &crl);
    if (err == HM_OK)
        err = cli_cert_not_revoked(j->leaf, member ? j->by_cert : hm_buf_bytes(&j->chain[1]),
                                   hm_buf_bytes(&crl), now_ms);
    hm_buf_free(&crl);
    return err;
}

static void put_by(hm_buf *b, yyjson_val *by)
{
    static const char *const names[] = {"kind", "id", "name", "zone", "prefix"};
    hm_jw_open(b, "by", '{');
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (*cli_str(by, names[i]))
            hm_jw_str(b, names[i], cli_str(by, names[i]));
    hm_jw_close(b, '}');
}

hm_err cli_cert_verify_mesh(cli *c, const cli_command *cmd)
{
    const char *crl_path = hm_config_get(&c->cfg, "crl");
    uint64_t now_ms = hm_clock_wall_ms(&hm_clock_system);
    judged j = {0};
    hm_buf b = {0};
    hm_err err;
    HM_TRY_OUT(read_chain(c->arg, &j));
    HM_TRY_OUT(ask_node(c, &j));
    err = cli_cert_is_node(j.leaf) ? check_member(c, &j, now_ms) : HM_E_CERT_UNTRUSTED;
    if (err == HM_E_CERT_UNTRUSTED) // by none of ours
        err = check_foreign(&j, now_ms);
    HM_TRY_OUT(err);
    if (crl_path)
        HM_TRY_OUT(check_revocation(&j, crl_path, now_ms));
    hm_jw_open(&b, NULL, '{');
    hm_jw_bool(&b, "good", true);
    hm_jw_str(&b, "profile", j.profile);
    if (is_kind(j.by, "authority"))
        hm_jw_hex(&b, "node", j.node.node.b, HM_HASH_BYTES);
    put_by(&b, j.by);
    hm_jw_bool(&b, "revocation_checked", crl_path != NULL);
    cli_put_cert(&b, j.leaf);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    err = cli_answer(c, cmd, hm_buf_bytes(&b));
out:
    judged_free(&j);
    hm_buf_free(&b);
    return err;
}
