// The issuing CAs of a family: their files, which of them are in force, and loading them.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "trustchain/authority.h"
#include "trustchain/ceremony.h"

#define INDEX_FILE "issuing"
#define INDEX_BYTES 256u

// ---- names --------------------------------------------------------------------------------------

void issuing_name(unsigned number, const char *stem, const char *end, char out[ISSUING_NAME_MAX])
{
    if (number <= 1)
        snprintf(out, ISSUING_NAME_MAX, "%s%s", stem, end);
    else
        snprintf(out, ISSUING_NAME_MAX, "%s-%u%s", stem, number, end);
}

hm_err issuing_path(const char *dir, unsigned number, const char *stem, const char *end,
                    char out[TC_PATH_MAX])
{
    char name[ISSUING_NAME_MAX];
    issuing_name(number, stem, end, name);
    return authority_path(dir, tc_family_names[number == 0 ? TC_MESH : TC_EDGE], name, out);
}

// As in the log's entries (RFC 6962, 3.2: issuer_key_hash), of which it is the beginning.
hm_err issuing_id_of(const X509 *cert, tc_issuing_id *out)
{
    uint8_t *spki = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki);
    if (len <= 0)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot encode the issuing key");
    hm_hash h = hm_sha256(hm_bytes_of(spki, (size_t)len));
    OPENSSL_free(spki);
    hm_hex(out->hex, h.b, (sizeof out->hex - 1) / 2);
    return HM_OK;
}

issuing_label authority_issuing_label(const issuing_ca *ca)
{
    issuing_label l;
    snprintf(l.text, sizeof l.text, "%s%s%s", tc_family_names[ca->family],
             ca->family == TC_EDGE ? "-" : "", ca->family == TC_EDGE ? ca->id.hex : "");
    return l;
}

void authority_places(const tc_authority *a, const issuing_ca *ca, public_places *p,
                      x509_template *t)
{
    const char *url = a->public_url;
    const issuing_label name = authority_issuing_label(ca);
    if (!url[0])
        return;
    snprintf(p->crl, sizeof p->crl, "URI:%s/crl/%s.crl", url, name.text);
    snprintf(p->delta, sizeof p->delta, "URI:%s/crl/%s-delta.crl", url, name.text);
    snprintf(p->info, sizeof p->info, "OCSP;URI:%s/ocsp,caIssuers;URI:%s/ca/%s.crt", url, url,
             name.text);
    t->crl_url = p->crl;
    t->delta_url = p->delta;
    t->info_access = p->info;
}

// ---- the index ----------------------------------------------------------------------------------

static bool index_has(const issuing_index *ix, unsigned number)
{
    for (size_t i = 0; i < ix->count; i++)
        if (ix->number[i] == number)
            return true;
    return false;
}

// "next 4", and a line with the number of each, first of the one that issues.
static bool index_parse(const char *text, issuing_index *out)
{
    issuing_index ix = {0};
    int used = 0;
    unsigned n;
    if (sscanf(text, "next %3u\n%n", &ix.next, &used) != 1 || used == 0 || ix.next < 2 ||
        ix.next > TC_ISSUING_NUMBERS)
        return false;
    for (text += used; *text; text += used) {
        used = 0;
        if (sscanf(text, "%3u\n%n", &n, &used) != 1 || used == 0 || n < 1 || n >= ix.next ||
            ix.count == TC_ISSUING_MAX || index_has(&ix, n))
            return false;
        ix.number[ix.count++] = (uint8_t)n;
    }
    *out = ix;
    return ix.count > 0;
}

hm_err issuing_index_read(const char *dir, tc_family f, issuing_index *out)
{
    char path[TC_PATH_MAX];
    hm_buf file = {0};
    *out = (issuing_index){.next = 2, .count = 1, .number = {f == TC_MESH ? 0 : 1}};
    if (f == TC_MESH)
        return HM_OK;
    HM_TRY(authority_path(dir, tc_family_names[f], INDEX_FILE, path));
    hm_err err = hm_file_read(path, INDEX_BYTES, &file);
    if (err == HM_OK && !index_parse(hm_buf_cstr(&file), out))
        err = hm_fail(HM_E_CORRUPT, "%s does not say which issuing CAs there are", path);
    hm_buf_free(&file);
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err issuing_index_write(const char *dir, const issuing_index *ix)
{
    char path[TC_PATH_MAX], mem[INDEX_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_buf_printf(&b, "next %u\n", ix->next);
    for (size_t i = 0; i < ix->count; i++)
        hm_buf_printf(&b, "%u\n", ix->number[i]);
    HM_TRY(hm_buf_status(&b));
    HM_TRY(authority_path(dir, "edge", INDEX_FILE, path));
    return hm_file_write(path, hm_buf_bytes(&b), 0644);
}

bool issuing_index_there(const char *dir)
{
    char path[TC_PATH_MAX];
    return authority_path(dir, "edge", INDEX_FILE, path) == HM_OK && access(path, F_OK) == 0;
}

bool issuing_pending(const char *dir, const issuing_index *ix)
{
    char path[TC_PATH_MAX];
    return issuing_path(dir, ix->next, "ca", ".csr", path) == HM_OK && access(path, F_OK) == 0;
}

hm_err issuing_room(const issuing_index *ix)
{
    if (ix->count == TC_ISSUING_MAX)
        return hm_fail(HM_E_LIMIT,
                       "the edge family has %u issuing CAs, which is as many as it may: remove one "
                       "that no certificate is under any more",
                       TC_ISSUING_MAX);
    if (ix->next >= TC_ISSUING_NUMBERS)
        return hm_fail(HM_E_LIMIT, "the edge family has had %u issuing CAs, the last there can be",
                       TC_ISSUING_NUMBERS - 1);
    return HM_OK;
}

hm_err issuing_activate(const char *dir, const issuing_index *ix, const X509 *cert)
{
    char name[ISSUING_NAME_MAX];
    issuing_index now = {.next = ix->next + 1, .count = ix->count + 1};
    HM_TRY(issuing_room(ix));
    now.number[0] = (uint8_t)ix->next;
    memcpy(now.number + 1, ix->number, ix->count);
    issuing_name(ix->next, "ca", ".crt", name);
    HM_TRY(authority_cert_write(dir, "edge", name, cert));
    return issuing_index_write(dir, &now);
}

// ---- files of those that are gone ---------------------------------------------------------------

static hm_err file_remove(const char *dir, unsigned number, const char *stem, const char *end)
{
    char path[TC_PATH_MAX];
    HM_TRY(issuing_path(dir, number, stem, end, path));
    if (unlink(path) != 0 && errno != ENOENT)
        return hm_fail(HM_E_IO, "cannot remove %s: %s", path, strerror(errno));
    return HM_OK;
}

// The key goes last: as long as its file is there the rest is looked for again.
hm_err issuing_files_remove(const char *dir, hsm *h, unsigned number)
{
    static const char *const what[][2] = {{"crl", ".der"},
                                          {"crl-base", ".der"},
                                          {"crl-delta", ".der"},
                                          {"ca", ".crt"},
                                          {"ca", ".csr"}};
    char path[TC_PATH_MAX];
    hsm_id id;
    for (size_t i = 0; i < sizeof what / sizeof what[0]; i++)
        HM_TRY(file_remove(dir, number, what[i][0], what[i][1]));
    HM_TRY(issuing_path(dir, number, "ca", ".hsm", path));
    if (h && access(path, F_OK) == 0) {
        HM_TRY(authority_token_id(dir, number, &id));
        HM_TRY(hsm_destroy(h, &id));
        HM_TRY(file_remove(dir, number, "ca", ".hsm"));
    }
    return file_remove(dir, number, "ca", ".key");
}

// What issuing.h's remove took out of the index. What cannot be done now is done another time.
static void sweep(const tc_authority *a, const issuing_index *ix)
{
    char key[TC_PATH_MAX], token[TC_PATH_MAX], why[300];
    for (unsigned n = 1; n < ix->next; n++) {
        if (index_has(ix, n) || issuing_path(a->dir, n, "ca", ".key", key) != HM_OK ||
            issuing_path(a->dir, n, "ca", ".hsm", token) != HM_OK ||
            (access(key, F_OK) != 0 && access(token, F_OK) != 0))
            continue;
        if (issuing_files_remove(a->dir, a->hsm, n) == HM_OK)
            hm_log(HM_LOG_INFO, "authority", "removed an issuing key", "number=%u", n);
        else
            hm_log(HM_LOG_WARN, "authority", "an issuing key is not removed yet",
                   "number=%u why=%s", n,
                   hm_log_quote(why, sizeof why, hm_bytes_str(hm_err_detail())));
    }
}

// ---- loading ------------------------------------------------------------------------------------

static void ca_free(issuing_ca *ca)
{
    if (!ca)
        return;
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
    hm_buf_free(&ca->pem);
    hm_buf_free(&ca->wrapped);
    hm_buf_free(&ca->crl);
    hm_buf_free(&ca->crl_base);
    hm_buf_free(&ca->crl_delta);
    free(ca);
}

void authority_issuing_free(family_ca *f)
{
    for (size_t i = 0; i < f->count; i++)
        ca_free(f->issuing[i]);
    f->count = 0;
}

static hm_err ca_load(const tc_authority *a, uint8_t number, issuing_ca **out)
{
    char path[TC_PATH_MAX];
    hm_buf der = {0};
    hm_err err;
    issuing_ca *ca = calloc(1, sizeof *ca);
    if (!ca)
        return HM_E_NOMEM;
    ca->number = number;
    ca->family = number == 0 ? TC_MESH : TC_EDGE;
    HM_TRY_OUT(issuing_path(a->dir, number, "ca", ".crt", path));
    HM_TRY_OUT(hm_file_read(path, 16 * TC_CERT_MAX, &ca->pem));
    HM_TRY_OUT(tc_pem_to_der(hm_buf_bytes(&ca->pem), &der));
    HM_TRY_OUT(x509_cert_parse(hm_buf_bytes(&der), &ca->cert));
    HM_TRY_OUT(issuing_id_of(ca->cert, &ca->id));
    *out = ca;
    ca = NULL;
out:
    ca_free(ca);
    hm_buf_free(&der);
    return err;
}

// Of one that is there already the certificate alone may be another.
static hm_err ca_complete(tc_authority *a, issuing_ca *ca)
{
    const issuing_ca *was = authority_issuing_numbered(a, ca->number);
    if (!was) {
        HM_TRY(authority_key_load(a, ca));
        return authority_crl_load(a, ca);
    }
    if (EVP_PKEY_eq(X509_get0_pubkey(ca->cert), X509_get0_pubkey(was->cert)) != 1)
        return hm_crypto_fail(HM_E_CORRUPT, "the issuing certificate is not for its key");
    return HM_OK;
}

// From the old family into the new one: what is in memory of a CA stays, its certificate changes.
static void ca_keep(family_ca *old, issuing_ca **fresh)
{
    for (size_t i = 0; i < old->count; i++) {
        issuing_ca *was = old->issuing[i], *now = *fresh;
        if (!was || was->number != now->number)
            continue;
        X509 *cert = was->cert;
        hm_buf pem = was->pem;
        was->cert = now->cert;
        was->pem = now->pem;
        now->cert = cert;
        now->pem = pem;
        *fresh = was;
        old->issuing[i] = NULL;
        ca_free(now);
        return;
    }
}

hm_err authority_issuing_load(tc_authority *a, tc_family f)
{
    family_ca *old = &a->family[f], fresh = {0};
    issuing_index ix;
    hm_err err;
    HM_TRY(issuing_index_read(a->dir, f, &ix));
    for (size_t i = 0; i < ix.count; i++) {
        HM_TRY_OUT(ca_load(a, ix.number[i], &fresh.issuing[i]));
        fresh.count++;
        HM_TRY_OUT(ca_complete(a, fresh.issuing[i]));
    }
    if (f == TC_EDGE)
        HM_TRY_OUT(issued_present_put(a, &fresh));
    for (size_t i = 0; i < fresh.count; i++)
        ca_keep(old, &fresh.issuing[i]);
    authority_issuing_free(old);
    memcpy(old->issuing, fresh.issuing, sizeof fresh.issuing);
    old->count = fresh.count;
    fresh.count = 0;
    if (f == TC_EDGE)
        sweep(a, &ix);
out:
    authority_issuing_free(&fresh);
    return err;
}

// ---- looking ------------------------------------------------------------------------------------

issuing_ca *authority_issuing_numbered(const tc_authority *a, uint8_t number)
{
    const family_ca *f = &a->family[number == 0 ? TC_MESH : TC_EDGE];
    for (size_t i = 0; i < f->count; i++)
        if (f->issuing[i]->number == number)
            return f->issuing[i];
    return NULL;
}

hm_err authority_issuing_find(const tc_authority *a, tc_family f, const char *id, issuing_ca **out)
{
    for (size_t i = 0; i < a->family[f].count; i++)
        if (!id || !*id || strcmp(a->family[f].issuing[i]->id.hex, id) == 0) {
            *out = a->family[f].issuing[i];
            return HM_OK;
        }
    return hm_fail(HM_E_NOTFOUND, "the %s family has no issuing CA of that id", tc_family_names[f]);
}

hm_err tc_issuing_pem(const tc_authority *a, tc_family f, const char *id, hm_bytes *pem)
{
    issuing_ca *ca = NULL;
    HM_TRY(authority_issuing_find(a, f, id, &ca));
    *pem = hm_buf_bytes(&ca->pem);
    return HM_OK;
}

size_t tc_issuing_count(const tc_authority *a, tc_family f)
{
    return a->family[f].count;
}

tc_issuing_id tc_issuing_id_at(const tc_authority *a, tc_family f, size_t n)
{
    hm_assert(n < a->family[f].count);
    return a->family[f].issuing[n]->id;
}
