#include "server/enroll.h"

#include <stdio.h>

#include "crypto/crypto.h"
#include "server/daemon.h"
#include "server/json.h"
#include "trustchain/renew.h"

#define PEM_MAX 65536u

void enroll_answer_free(enroll_answer *a)
{
    hm_buf_free(&a->node_chain);
    hm_buf_free(&a->edge_chain);
    hm_buf_free(&a->mesh_root);
    hm_buf_free(&a->edge_root);
}

// Posts what asks for a certificate; the chain of the answer appended, its serial kept.
static hm_err post(const hm_client *c, const char *path, const hm_buf *body, hm_buf *chain_pem,
                   char serial[33])
{
    hm_buf answer = {0};
    yyjson_doc *doc = NULL;
    hm_bytes chain, number;
    hm_err err;
    HM_TRY_OUT(hm_buf_status(body));
    HM_TRY_OUT(hm_client_request(c, "POST", path, hm_buf_bytes(body), NULL, &answer));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&answer), &doc));
    if (hm_json_text(yyjson_doc_get_root(doc), "chain", 1, PEM_MAX, &chain) != HM_OK ||
        hm_json_text(yyjson_doc_get_root(doc), "serial", 32, 32, &number) != HM_OK) {
        char why[200];
        snprintf(why, sizeof(why), "%s", hm_err_detail());
        err = hm_fail(HM_E_PARSE, "the authority's answer lacks the certificate: %s", why);
        goto out;
    }
    hm_buf_put(chain_pem, chain);
    if (serial)
        snprintf(serial, 33, "%.32s", (const char *)number.ptr);
    err = hm_buf_status(chain_pem);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&answer);
    return err;
}

hm_err enroll_issue(const hm_client *c, const char *profile, uint64_t life_s, hm_bytes csr_pem,
                    hm_buf *chain_pem, char serial[33])
{
    hm_buf body = {0};
    hm_jw_open(&body, NULL, '{');
    hm_jw_str(&body, "profile", profile);
    hm_jw_text(&body, "csr", csr_pem);
    if (life_s)
        hm_jw_u64(&body, "life_seconds", life_s);
    hm_jw_close(&body, '}');
    hm_err err = post(c, "/v1/certificates", &body, chain_pem, serial);
    hm_buf_free(&body);
    return err;
}

hm_err enroll_renew(const hm_client *c, const char *key_path, const tc_serial *old,
                    hm_bytes csr_pem, hm_buf *chain_pem, char serial[33])
{
    hm_buf body = {0}, signature = {0};
    const uint64_t now_ms = hm_clock_wall_ms(&hm_clock_system);
    const tc_renewal request = {.serial = *old, .time_ms = now_ms, .csr_pem = csr_pem};
    hm_err err;
    HM_TRY_OUT(tc_renewal_sign(key_path, &request, &signature));
    hm_jw_open(&body, NULL, '{');
    hm_jw_hex(&body, "serial", old->b, TC_SERIAL_BYTES);
    hm_jw_u64(&body, "time_ms", now_ms);
    hm_jw_text(&body, "csr", csr_pem);
    hm_jw_hex(&body, "signature", signature.ptr, signature.len);
    hm_jw_close(&body, '}');
    err = post(c, "/v1/certificates/renew", &body, chain_pem, serial);
out:
    hm_buf_free(&body);
    hm_buf_free(&signature);
    return err;
}

static hm_err issue_file(const hm_client *c, const char *dir, const char *name, const char *profile,
                         hm_buf *chain_pem, char serial[33])
{
    char path[4096];
    hm_buf csr = {0};
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    hm_err err = hm_file_read(path, PEM_MAX, &csr);
    if (err != HM_OK)
        hm_fail(err, "%s: %s; was init run?", path, hm_err_text(err));
    else
        err = enroll_issue(c, profile, 0, hm_buf_bytes(&csr), chain_pem, serial);
    hm_buf_free(&csr);
    return err;
}

hm_err enroll_ask(const hm_client *c, const char *dir, enroll_answer *out)
{
    hm_err err = hm_file_read(c->ca_path, PEM_MAX, &out->edge_root);
    if (err != HM_OK)
        return hm_fail(err, "%s: %s", c->ca_path, hm_err_text(err));
    HM_TRY(
        hm_client_request(c, "GET", "/v1/roots?name=mesh", (hm_bytes){0}, NULL, &out->mesh_root));
    HM_TRY(issue_file(c, dir, "node.csr", "node", &out->node_chain, out->node_serial));
    return issue_file(c, dir, "edge.csr", "server", &out->edge_chain, out->edge_serial);
}

hm_err enroll_command(const hm_config *c)
{
    const char *dir, *root, *token_file;
    char token[DAEMON_TOKEN_MAX];
    enroll_answer a = {0};
    hm_err err;
    HM_TRY(daemon_need(c, "dir", &dir));
    HM_TRY(daemon_need(c, "root", &root));
    HM_TRY(daemon_need(c, "token-file", &token_file));
    HM_TRY(daemon_token_file(token_file, token));
    hm_client client = {.url = hm_config_get(c, "authority"), .ca_path = root, .token = token};
    HM_TRY_OUT(hm_crypto_init());
    HM_TRY_OUT(enroll_ask(&client, dir, &a));
    HM_TRY_OUT(tc_dir_install(dir, hm_buf_bytes(&a.node_chain), hm_buf_bytes(&a.edge_chain),
                              hm_buf_bytes(&a.mesh_root), hm_buf_bytes(&a.edge_root),
                              hm_clock_wall_ms(&hm_clock_system)));
    printf("node certificate %s, server certificate %s\n", a.node_serial, a.edge_serial);
out:
    enroll_answer_free(&a);
    hm_zero(token, sizeof(token));
    return err;
}
