#include "mesh_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "trustchain/authority.h"
#include "trustchain/ceremony.h"

#define NOW UINT64_C(1800000000000)

static void must(hm_err err)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "fixture: %s: %s\n", hm_err_text(err), hm_err_detail());
    abort();
}

static void make_member(mesh_fixture *f, unsigned i, const hm_genesis_params *params,
                        uint64_t now_ms, hm_genesis_validator *v, hm_buf *cert, hm_buf parts[])
{
    char path[128];
    hm_buf csr = {0};
    must(hm_key_generate(&f->keys[i]));
    must(hm_node_id_of_public(hm_key_public(f->keys[i]), &f->ids[i]));
    snprintf(v->name, sizeof v->name, "node-%u", i + 1);
    must(tc_node_csr(f->keys[i], v->name, &csr));
    must(tc_issue_node(f->authority, hm_buf_bytes(&csr), now_ms, &f->chains[i], &f->issued[i]));
    must(tc_pem_to_der(hm_buf_bytes(&f->chains[i]), cert));
    hm_buf_free(&csr);
    snprintf(path, sizeof path, "%s/sector-%u", f->dir, i);
    must(hm_space_seal(&params->space, &f->ids[i], 0, path, NULL, &v->commitment));
    must(hm_space_open(path, &f->sectors[i]));
    v->public_key = hm_key_public(f->keys[i]);
    v->cert = hm_buf_bytes(cert);
    v->stake = 100;
    v->host[15] = 1; // ::1
    v->port = (uint16_t)(40000 + i);
    v->seal_count = hm_space_seal_parts(&params->space);
    for (uint32_t p = 0; p < v->seal_count; p++) {
        must(hm_space_sector_seal_part(f->sectors[i], p, &parts[p]));
        v->seal_parts[p] = hm_buf_bytes(&parts[p]);
    }
}

void mesh_fixture_make(mesh_fixture *f)
{
    mesh_fixture_make_for(f, &(mesh_fixture_options){0});
}

void mesh_fixture_make_for(mesh_fixture *f, const mesh_fixture_options *o)
{
    uint64_t now_ms = o->now_ms != 0 ? o->now_ms : NOW;
    *f = (mesh_fixture){.time_ms = now_ms + 1000};
    must(hm_crypto_init());
    snprintf(f->dir, sizeof f->dir, "/tmp/hm-mesh-XXXXXX");
    if (mkdtemp(f->dir) == NULL)
        abort();
    char path[128];
    snprintf(path, sizeof path, "%s/authority", f->dir);
    must(tc_authority_init(path, "test", now_ms));
    must(tc_authority_open(path, &f->authority));
    hm_buf root = {0}, issuing = {0}, certs[FIXTURE_MEMBERS] = {0};
    must(tc_pem_to_der(tc_authority_root(f->authority, TC_MESH), &root));
    must(tc_pem_to_der(tc_authority_issuing(f->authority, TC_MESH), &issuing));
    hm_genesis_validator validators[FIXTURE_MEMBERS] = {0};
    hm_genesis g = {.name = "test", .time_ms = f->time_ms, .count = FIXTURE_MEMBERS};
    g.root_cert = hm_buf_bytes(&root);
    g.issuing_cert = hm_buf_bytes(&issuing);
    g.validators = validators;
    g.params = hm_genesis_params_default();
    g.params.epoch_blocks = o->epoch_blocks != 0 ? o->epoch_blocks : 8;
    g.params.beacon_blocks = o->beacon_blocks != 0 ? o->beacon_blocks : 2;
    g.params.time_bits = 256;
    g.params.time_iterations = 200;
    g.params.time_max_age = 3;
    g.params.chunk_bytes = o->chunk_bytes != 0 ? o->chunk_bytes : 4096;
    g.params.space = hm_space_params_default(8);
    static hm_buf parts[FIXTURE_MEMBERS][HM_SPACE_PARTS_MAX];
    static hm_bytes views[FIXTURE_MEMBERS][HM_SPACE_PARTS_MAX];
    for (unsigned i = 0; i < FIXTURE_MEMBERS; i++) {
        validators[i].seal_parts = views[i];
        make_member(f, i, &g.params, now_ms, &validators[i], &certs[i], parts[i]);
        if (o->ports[i] != 0)
            validators[i].port = o->ports[i];
        if (o->stakes[i] != 0)
            validators[i].stake = o->stakes[i];
    }
    must(hm_genesis_encode(&g, &f->genesis, &f->chain_id));
    for (unsigned i = 0; i < FIXTURE_MEMBERS; i++) {
        hm_buf_free(&certs[i]);
        for (uint32_t p = 0; p < validators[i].seal_count; p++)
            hm_buf_free(&parts[i][p]);
    }
    hm_buf_free(&root);
    hm_buf_free(&issuing);
}

static X509 *read_cert(const char *dir, const char *name)
{
    char path[256];
    X509 *x = NULL;
    hm_buf pem = {0}, der = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    must(hm_file_read(path, 1u << 20, &pem));
    must(tc_pem_to_der(hm_buf_bytes(&pem), &der));
    must(x509_cert_parse(hm_buf_bytes(&der), &x));
    hm_buf_free(&pem);
    hm_buf_free(&der);
    return x;
}

void mesh_fixture_issuing(const mesh_fixture *f, const char *name, const char *key,
                          const fixture_issuing *i, hm_buf *issuing_der)
{
    char mine[160], root_dir[160];
    const char *constraints = i->constraints;
    EVP_PKEY *subject = NULL, *root_key = NULL;
    X509 *x = NULL;
    hm_buf own = {0};
    uint64_t now_ms = i->now_ms ? i->now_ms : f->time_ms;
    snprintf(mine, sizeof mine, "%s/%s", f->dir, name);
    snprintf(root_dir, sizeof root_dir, "%s/authority", f->dir);
    must(authority_key_file(mine, "", key, &subject));
    must(authority_key_file(root_dir, "mesh", "root.key", &root_key));
    X509 *root = read_cert(root_dir, "mesh-root.crt");
    must(authority_constraints(TC_MESH, "test", NULL, &own));
    if (constraints == NULL)
        constraints = hm_buf_cstr(&own);
    x509_template t = {.cn = i->cn ? i->cn : "test mesh issuing",
                       .subject_key = subject,
                       .issuer = root,
                       .issuer_key = root_key,
                       .not_before_ms = now_ms - TC_SKEW_MS,
                       .not_after_ms =
                           now_ms + (i->days ? i->days : TC_ISSUING_DAYS + 1) * TC_DAY_MS,
                       .ca = true,
                       .path_len = i->path_len,
                       .name_constraints = constraints[0] ? constraints : NULL,
                       .key_usage = i->key_usage ? i->key_usage : "critical,keyCertSign,cRLSign"};
    must(authority_serial(NULL, &t.serial));
    must(x509_cert_make(&t, &x));
    must(x509_cert_der(x, issuing_der));
    if (strcmp(key, "mesh-ca.key") == 0)
        must(authority_cert_write(mine, "mesh", "ca.crt", x));
    X509_free(x);
    X509_free(root);
    EVP_PKEY_free(subject);
    EVP_PKEY_free(root_key);
    hm_buf_free(&own);
}

void mesh_fixture_authority(const mesh_fixture *f, const char *name, const fixture_issuing *i,
                            tc_authority **out, hm_buf *issuing_der)
{
    char mine[160], root_dir[160];
    snprintf(mine, sizeof mine, "%s/%s", f->dir, name);
    snprintf(root_dir, sizeof root_dir, "%s/authority", f->dir);
    must(tc_authority_init(mine, "test", i->now_ms ? i->now_ms : f->time_ms));
    X509 *root = read_cert(root_dir, "mesh-root.crt");
    must(authority_cert_write(mine, "mesh", "root.crt", root));
    X509_free(root);
    mesh_fixture_issuing(f, name, "mesh-ca.key", i, issuing_der);
    must(tc_authority_open(mine, out));
}

void mesh_fixture_free(mesh_fixture *f)
{
    for (unsigned i = 0; i < FIXTURE_MEMBERS; i++) {
        hm_key_free(f->keys[i]);
        hm_buf_free(&f->chains[i]);
        hm_space_close(f->sectors[i]);
    }
    tc_authority_close(f->authority);
    hm_buf_free(&f->genesis);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    if (system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", f->dir);
}
