#include "stoq_ids.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

static void must(hm_err err)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "identities: %s: %s\n", hm_err_text(err), hm_err_detail());
    abort();
}

static hm_err any_peer(void *ctx, hm_bytes leaf)
{
    (void)ctx, (void)leaf;
    return HM_OK;
}

static void make_one(tc_authority *authority, bool is_server, uint64_t now, SSL_CTX **out,
                     SSL_CTX **open)
{
    hm_key *key;
    hm_buf csr = {0}, chain = {0};
    must(hm_key_generate(&key));
    must(tc_node_csr(key, is_server ? "server" : "client", &csr));
    must(tc_issue_node(authority, hm_buf_bytes(&csr), now, &chain, NULL));
    must(tc_node_tls(is_server, key, hm_buf_bytes(&chain), any_peer, NULL, out));
    if (is_server)
        must(tc_node_tls(is_server, key, hm_buf_bytes(&chain), any_peer, NULL, open));
    else
        *open = SSL_CTX_new(TLS_client_method());
    if (*open == NULL || SSL_CTX_set1_groups_list(*open, "X25519MLKEM768") != 1 ||
        SSL_CTX_set1_sigalgs_list(*open, HM_FALCON_NAME) != 1)
        abort();
    SSL_CTX_set_verify(*open, SSL_VERIFY_NONE, NULL);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
    hm_key_free(key);
}

void stoq_ids_make(stoq_ids *ids)
{
    char dir[] = "/tmp/hm-stoq-XXXXXX", path[64], command[64];
    tc_authority *authority;
    uint64_t now = hm_clock_wall_ms(&hm_clock_system);
    must(hm_crypto_init());
    if (mkdtemp(dir) == NULL)
        abort();
    snprintf(path, sizeof path, "%s/authority", dir);
    must(tc_authority_init(path, "test", now));
    must(tc_authority_open(path, &authority));
    make_one(authority, true, now, &ids->server, &ids->open_server);
    make_one(authority, false, now, &ids->client, &ids->open_client);
    tc_authority_close(authority);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0)
        abort();
}

void stoq_ids_make_plain(stoq_ids *ids)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    *ids = (stoq_ids){.server = SSL_CTX_new(TLS_server_method()),
                      .client = SSL_CTX_new(TLS_client_method())};
    if (key == NULL || cert == NULL || ids->server == NULL || ids->client == NULL ||
        X509_gmtime_adj(X509_getm_notBefore(cert), 0) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(cert), 86400) == NULL ||
        X509_set_pubkey(cert, key) != 1 || X509_sign(cert, key, EVP_sha256()) <= 0 ||
        SSL_CTX_use_certificate(ids->server, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ids->server, key) != 1)
        abort();
    X509_free(cert);
    EVP_PKEY_free(key);
}

void stoq_ids_free(stoq_ids *ids)
{
    SSL_CTX_free(ids->server);
    SSL_CTX_free(ids->client);
    SSL_CTX_free(ids->open_server);
    SSL_CTX_free(ids->open_client);
}
