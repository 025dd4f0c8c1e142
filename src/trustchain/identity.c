// A data directory with an identity in each family: keys, requests, and the certificates that come
// back.
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <unistd.h>

#include "trustchain/x509.h"

#define FILE_MAX (1u << 20)

typedef char dir_path[4200];

static const char *in_dir(dir_path out, const char *dir, const char *name)
{
    snprintf(out, sizeof(dir_path), "%s/%s", dir, name);
    return out;
}

// ---- keys and requests --------------------------------------------------------------------------

static hm_err make_node_key(const char *dir, const char *name, hm_key **key)
{
    dir_path p;
    hm_buf csr = {0};
    hm_err err = hm_key_load(in_dir(p, dir, "node.key"), key);
    if (err == HM_E_NOTFOUND) {
        HM_TRY(hm_key_generate(key));
        err = hm_key_save(*key, p);
    }
    if (err == HM_OK && access(in_dir(p, dir, "node.csr"), F_OK) != 0) {
        HM_TRY_OUT(tc_node_csr(*key, name, &csr));
        err = hm_file_write(p, hm_buf_bytes(&csr), 0644);
    }
out:
    hm_buf_free(&csr);
    return err;
}

static hm_err make_edge_key(const char *dir, const char *const *hosts, size_t count)
{
    dir_path p;
    hm_buf pem = {0}, csr = {0};
    hm_err err;
    if (access(in_dir(p, dir, "edge.csr"), F_OK) == 0)
        return HM_OK;
    HM_TRY_OUT(tc_server_csr(hosts, count, &pem, &csr));
    HM_TRY_OUT(hm_file_write(in_dir(p, dir, "edge.key"), hm_buf_bytes(&pem), 0600));
    err = hm_file_write(in_dir(p, dir, "edge.csr"), hm_buf_bytes(&csr), 0644);
out:
    hm_buf_free_secret(&pem);
    hm_buf_free(&csr);
    return err;
}

hm_err tc_dir_make(const char *dir, const char *name, const char *const *hosts, size_t host_count,
                   hm_key **out)
{
    hm_key *key = NULL;
    if (strlen(dir) > sizeof(dir_path) - 64)
        return hm_fail(HM_E_LIMIT, "the path of the data directory is too long");
    HM_TRY(hm_dir_make(dir));
    hm_err err = make_node_key(dir, name, &key);
    if (err == HM_OK)
        err = make_edge_key(dir, hosts, host_count);
    if (err == HM_OK && out) {
        *out = key;
        key = NULL;
    }
    hm_key_free(key);
    return err;
}

// ---- certificates -------------------------------------------------------------------------------

static hm_err edge_matches(const char *dir, hm_bytes chain)
{
    dir_path p;
    EVP_PKEY *key = NULL;
    HM_TRY(x509_key_load(in_dir(p, dir, "edge.key"), &key));
    BIO *mem = BIO_new_mem_buf(chain.ptr, (int)chain.len);
    X509 *cert = mem ? PEM_read_bio_X509(mem, NULL, NULL, NULL) : NULL;
    bool ok = cert && X509_check_private_key(cert, key) == 1;
    X509_free(cert);
    BIO_free(mem);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (!ok)
        return hm_fail(HM_E_CERT_PROFILE, "the server certificate is not for %s", p);
    return HM_OK;
}

// The second certificate of a chain, as DER.
static hm_err second_of(hm_bytes chain, hm_buf *der)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----";
    const uint8_t *first = memmem(chain.ptr, chain.len, begin, sizeof begin - 1);
    if (!first)
        return hm_fail(HM_E_PARSE, "no certificate in PEM");
    size_t at = (size_t)(first - chain.ptr) + sizeof begin - 1;
    const uint8_t *second = memmem(chain.ptr + at, chain.len - at, begin, sizeof begin - 1);
    if (!second)
        return hm_fail(HM_E_PARSE, "the chain lacks the issuing certificate");
    return tc_pem_to_der(hm_bytes_of(second, chain.len - (size_t)(second - chain.ptr)), der);
}

static hm_err node_matches(const char *dir, hm_bytes chain, hm_bytes root_pem, uint64_t now_ms)
{
    dir_path p;
    hm_key *key = NULL;
    hm_buf leaf = {0}, issuing = {0}, root = {0};
    tc_node_cert cert;
    hm_node_id id;
    hm_err err = hm_key_load(in_dir(p, dir, "node.key"), &key);
    if (err == HM_E_NOTFOUND)
        return hm_fail(err, "%s is missing: run init first", p);
    HM_TRY_OUT(err);
    HM_TRY_OUT(hm_node_id_of_public(hm_key_public(key), &id));
    HM_TRY_OUT(tc_pem_to_der(chain, &leaf));
    HM_TRY_OUT(second_of(chain, &issuing));
    HM_TRY_OUT(tc_pem_to_der(root_pem, &root));
    HM_TRY_OUT(tc_node_cert_verify(hm_buf_bytes(&leaf), hm_buf_bytes(&issuing), hm_buf_bytes(&root),
                                   (hm_bytes){0}, now_ms, &cert));
    if (!hm_hash_eq(&cert.node, &id))
        err = hm_fail(HM_E_CERT_PROFILE, "the node certificate is not for %s", p);
out:
    hm_key_free(key);
    hm_buf_free(&leaf);
    hm_buf_free(&issuing);
    hm_buf_free(&root);
    return err;
}

hm_err tc_dir_install(const char *dir, hm_bytes node_chain_pem, hm_bytes edge_chain_pem,
                      hm_bytes mesh_root_pem, hm_bytes edge_root_pem, uint64_t now_ms)
{
    dir_path p;
    hm_buf der = {0};
    HM_TRY(node_matches(dir, node_chain_pem, mesh_root_pem, now_ms));
    HM_TRY(edge_matches(dir, edge_chain_pem));
    hm_err err = tc_pem_to_der(edge_root_pem, &der);
    hm_buf_free(&der);
    HM_TRY(err);
    HM_TRY(hm_file_write(in_dir(p, dir, "mesh-root.crt"), mesh_root_pem, 0644));
    HM_TRY(hm_file_write(in_dir(p, dir, "edge-root.crt"), edge_root_pem, 0644));
    HM_TRY(hm_file_write(in_dir(p, dir, "edge.crt"), edge_chain_pem, 0644));
    return hm_file_write(in_dir(p, dir, "node.crt"), node_chain_pem, 0644);
}

hm_err tc_dir_renewed(const char *dir, tc_family f, hm_bytes chain_pem, uint64_t now_ms)
{
    dir_path p;
    hm_buf root = {0};
    hm_err err;
    if (f == TC_EDGE) {
        HM_TRY(edge_matches(dir, chain_pem));
        return hm_file_write(in_dir(p, dir, "edge.crt"), chain_pem, 0644);
    }
    HM_TRY_OUT(hm_file_read(in_dir(p, dir, "mesh-root.crt"), FILE_MAX, &root));
    HM_TRY_OUT(node_matches(dir, chain_pem, hm_buf_bytes(&root), now_ms));
    err = hm_file_write(in_dir(p, dir, "node.crt"), chain_pem, 0644);
out:
    hm_buf_free(&root);
    return err;
}
