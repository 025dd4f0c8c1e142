// The issuing CAs of a family: their files, which of them are in force, and loading them.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "trustchain/authority.h"
#include "trustchain/ceremony.h"

#define INDEX_FILE "issuing"
#define INDEX_BYTES 256u
#define ORIGIN_MAX 256u
#define MESH_BIT 128u  // of the number of each but the first of the mesh's
#define COUNT_MAX 127u // of the one that comes; so 126 there can be

const char *const tc_issuing_state_names[3] = {"present", "ready", "older"};

// ---- numbers and names --------------------------------------------------------------------------

tc_family issuing_family(unsigned number)
{
    return number == 0 || number >= MESH_BIT ? TC_MESH : TC_EDGE;
}

static unsigned number_of(tc_family f, unsigned count)
{
    return f == TC_EDGE ? count : count == 1 ? 0 : MESH_BIT + count;
}

static unsigned count_of(unsigned number)
{
    return number == 0 ? 1 : number % MESH_BIT;
}

void issuing_name(unsigned number, const char *stem, const char *end, char out[ISSUING_NAME_MAX])
{
    const unsigned count = count_of(number);
    if (count == 1)
        snprintf(out, ISSUING_NAME_MAX, "%s%s", stem, end);
    else
        snprintf(out, ISSUING_NAME_MAX, "%s-%u%s", stem, count, end);
}

hm_err issuing_path(const char *dir, unsigned number, const char *stem, const char *end,
                    char out[TC_PATH_MAX])
{
    char name[ISSUING_NAME_MAX];
    issuing_name(number, stem, end, name);
    return authority_path(dir, tc_family_names[issuing_family(number)], name, out);
}

// As in the log's entries (RFC 6962, 3.2: issuer_key_hash), of which it is the beginning.
hm_err issuing_key_hash(const X509 *cert, hm_hash *out)
{
    uint8_t *spki = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki);
    if (len <= 0)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot encode the issuing key");
    *out = hm_sha256(hm_bytes_of(spki, (size_t)len));
    OPENSSL_free(spki);
    return HM_OK;
}

hm_err issuing_id_of(const X509 *cert, tc_issuing_id *out)
{
    hm_hash h;
    HM_TRY(issuing_key_hash(cert, &h));
    hm_hex(out->hex, h.b, (sizeof out->hex - 1) / 2);
    return HM_OK;
}

issuing_label authority_issuing_label(const issuing_ca *ca)
{
    issuing_label l;
    snprintf(l.text, sizeof l.text, "%s-%s", tc_family_names[ca->family], ca->id.hex);
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

// "3\n" or "3 ready\n"; returns how long it was, 0 for anything else.
static int line_parse(const char *text, unsigned *count, bool *ready)
{
    int used = 0;
    *ready = sscanf(text, "%3u ready%n", count, &used) == 1 && used > 0;
    if (!*ready && (sscanf(text, "%3u%n", count, &used) != 1 || used == 0))
        return 0;
    return text[used] == '\n' ? used + 1 : 0;
}

// "next 4", and a line with the count of each, first of the one that issues. One of the mesh's, and
// not the first, may be ready.
static bool index_parse(const char *text, tc_family f, issuing_index *out)
{
    issuing_index ix = {.family = f};
    int used = 0;
    unsigned next, n;
    bool ready;
    if (sscanf(text, "next %3u\n%n", &next, &used) != 1 || used == 0 || next < 2 ||
        next > COUNT_MAX)
        return false;
    ix.next = number_of(f, next);
    for (text += used; *text; text += used) {
        used = line_parse(text, &n, &ready);
        if (used == 0 || n < 1 || n >= next || ix.count == TC_ISSUING_MAX ||
            index_has(&ix, number_of(f, n)) ||
            (ready && (f == TC_EDGE || n == 1 || ix.count == 0 || ix.ready != 0)))
            return false;
        if (ready)
            ix.ready = number_of(f, n);
        ix.number[ix.count++] = (uint8_t)number_of(f, n);
    }
    *out = ix;
    return ix.count > 0;
}

hm_err issuing_index_read(const char *dir, tc_family f, issuing_index *out)
{
    char path[TC_PATH_MAX];
    hm_buf file = {0};
    *out = (issuing_index){
        .family = f, .next = number_of(f, 2), .count = 1, .number = {(uint8_t)number_of(f, 1)}};
    HM_TRY(authority_path(dir, tc_family_names[f], INDEX_FILE, path));
    hm_err err = hm_file_read(path, INDEX_BYTES, &file);
    if (err == HM_OK && !index_parse(hm_buf_cstr(&file), f, out))
        err = hm_fail(HM_E_CORRUPT, "%s does not say which issuing CAs there are", path);
    hm_buf_free(&file);
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err issuing_index_write(const char *dir, const issuing_index *ix)
{
    char path[TC_PATH_MAX], mem[INDEX_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_buf_printf(&b, "next %u\n", count_of(ix->next));
    for (size_t i = 0; i < ix->count; i++)
        hm_buf_printf(&b, "%u%s\n", count_of(ix->number[i]),
                      issuing_state(ix, ix->number[i]) == TC_ISSUING_READY ? " ready" : "");
    HM_TRY(hm_buf_status(&b));
    HM_TRY(authority_path(dir, tc_family_names[ix->family], INDEX_FILE, path));
    return hm_file_write(path, hm_buf_bytes(&b), 0644);
}

tc_issuing_state issuing_state(const issuing_index *ix, unsigned number)
{
    if (number == ix->number[0])
        return TC_ISSUING_PRESENT;
    return ix->ready != 0 && number == ix->ready ? TC_ISSUING_READY : TC_ISSUING_OLDER;
}

bool issuing_index_there(const char *dir, tc_family f)
{
    char path[TC_PATH_MAX];
    return authority_path(dir, tc_family_names[f], INDEX_FILE, path) == HM_OK &&
           access(path, F_OK) == 0;
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
                       "the %s family has %u issuing CAs, which is as many as it may: remove one "
                       "that no certificate is under any more",
                       tc_family_names[ix->family], TC_ISSUING_MAX);
    if (count_of(ix->next) >= COUNT_MAX)
        return hm_fail(HM_E_LIMIT, "the %s family has had %u issuing CAs, the last there can be",
                       tc_family_names[ix->family], COUNT_MAX - 1);
    return HM_OK;
}

hm_err issuing_activate(const char *dir, const issuing_index *ix, const X509 *cert)
{
    char name[ISSUING_NAME_MAX];
    issuing_index now = *ix;
    HM_TRY(issuing_room(ix));
    if (ix->family == TC_EDGE) {
        now.number[0] = (uint8_t)ix->next;
        memcpy(now.number + 1, ix->number, ix->count);
    } else {
        now.number[ix->count] = (uint8_t)ix->next;
        now.ready = ix->next;
    }
    now.count++;
    now.next++;
    issuing_name(ix->next, "ca", ".crt", name);
    HM_TRY(authority_cert_write(dir, tc_family_names[ix->family], name, cert));
    return issuing_index_write(dir, &now);
}

hm_err issuing_cert_load(const char *dir, unsigned number, X509 **out)
{
    char path[TC_PATH_MAX];
    HM_TRY(issuing_path(dir, number, "ca", ".crt", path));
    return x509_cert_load(path, out);
}

hm_err issuing_mesh_name(const char *dir, char out[TC_NAME_MAX + 1])
{
    char path[TC_PATH_MAX];
    hm_buf line = {0};
    HM_TRY(authority_path(dir, "log", "origin", path));
    hm_err err = hm_file_read(path, ORIGIN_MAX, &line);
    if (err == HM_OK)
        snprintf(out, TC_NAME_MAX + 1, "%.*s", (int)strcspn(hm_buf_cstr(&line), "/"),
                 hm_buf_cstr(&line));
    hm_buf_free(&line);
    return err;
}

hm_err issuing_last_end(const char *dir, const issuing_index *ix, uint64_t *end_ms)
{
    uint64_t end;
    X509 *x = NULL;
    *end_ms = 0;
    for (size_t i = 0; i < ix->count; i++) {
        HM_TRY(issuing_cert_load(dir, ix->number[i], &x));
        hm_err err = x509_time_ms(X509_get0_notAfter(x), &end);
        X509_free(x);
        HM_TRY(err);
        if (end > *end_ms)
            *end_ms = end;
    }
    return HM_OK;
}

static hm_err ends_no_sooner(const char *dir, const issuing_index *ix, const X509 *cert)
{
    uint64_t end = 0, last = 0;
    HM_TRY(x509_time_ms(X509_get0_notAfter(cert), &end));
    HM_TRY(issuing_last_end(dir, ix, &last));
    if (end < last)
        return hm_fail(HM_E_CERT_PROFILE,
                       "the new issuing certificate ends before one of the mesh that is here, "
                       "and the members take none that does: have it signed for longer");
    return HM_OK;
}

hm_err issuing_may_follow(const char *dir, const issuing_index *ix, const X509 *cert,
                          uint64_t now_ms)
{
    char path[TC_PATH_MAX], mesh[TC_NAME_MAX + 1];
    X509 *root = NULL, *present = NULL;
    hm_buf der = {0}, root_der = {0}, present_der = {0};
    tc_issuing_cert facts;
    hm_err err;
    HM_TRY_OUT(issuing_mesh_name(dir, mesh));
    HM_TRY_OUT(authority_path(dir, tc_family_names[ix->family], "root.crt", path));
    HM_TRY_OUT(x509_cert_load(path, &root));
    HM_TRY_OUT(issuing_cert_load(dir, ix->number[0], &present));
    HM_TRY_OUT(x509_cert_der(cert, &der));
    HM_TRY_OUT(x509_cert_der(root, &root_der));
    HM_TRY_OUT(x509_cert_der(present, &present_der));
    HM_TRY_OUT(tc_issuing_verify(hm_buf_bytes(&der), hm_buf_bytes(&root_der),
                                 hm_buf_bytes(&present_der), mesh, now_ms, &facts));
    err = ends_no_sooner(dir, ix, cert);
out:
    X509_free(root);
    X509_free(present);
    hm_buf_free(&der);
    hm_buf_free(&root_der);
    hm_buf_free(&present_der);
    return err;
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
        // What wraps a key of the mesh wraps the others, too; with the file the key is gone.
        if (issuing_family(number) == TC_EDGE) {
            HM_TRY(authority_token_id(dir, number, &id));
            HM_TRY(hsm_destroy(h, &id));
        }
        HM_TRY(file_remove(dir, number, "ca", ".hsm"));
    }
    return file_remove(dir, number, "ca", ".key");
}

// What issuing.h's remove took out of the index. What cannot be done now is done another time.
static void sweep(const tc_authority *a, const issuing_index *ix)
{
    char key[TC_PATH_MAX], token[TC_PATH_MAX], why[300];
    for (unsigned count = 1; count < count_of(ix->next); count++) {
        const unsigned n = number_of(ix->family, count);
        if (index_has(ix, n) || issuing_path(a->dir, n, "ca", ".key", key) != HM_OK ||
            issuing_path(a->dir, n, "ca", ".hsm", token) != HM_OK ||
            (access(key, F_OK) != 0 && access(token, F_OK) != 0))
            continue;
        if (issuing_files_remove(a->dir, a->hsm, n) == HM_OK)
            hm_log(HM_LOG_INFO, "authority", "removed an issuing key", "family=%s number=%u",
                   tc_family_names[ix->family], count);
        else
            hm_log(HM_LOG_WARN, "authority", "an issuing key is not removed yet",
                   "family=%s number=%u why=%s", tc_family_names[ix->family], count,
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

static hm_err ca_load(const tc_authority *a, const issuing_index *ix, size_t at, issuing_ca **out)
{
    const uint8_t number = ix->number[at];
    char path[TC_PATH_MAX];
    hm_buf der = {0};
    hm_err err;
    issuing_ca *ca = calloc(1, sizeof *ca);
    if (!ca)
        return HM_E_NOMEM;
    ca->number = number;
    ca->family = ix->family;
    ca->state = issuing_state(ix, number);
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

// From the old family into the new one: what is in memory of a CA stays, its certificate and what
// it does may change.
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
        was->state = now->state;
        now->cert = cert;
        now->pem = pem;
        *fresh = was;
        old->issuing[i] = NULL;
        ca_free(now);
        return;
    }
}

// Who follows the present lists sees their numbers grow, also when one that was ready, and has
// lists, took over from another.
static void present_crl_leads(family_ca *f)
{
    issuing_ca *present = f->issuing[0];
    for (size_t i = 1; i < f->count; i++)
        present->crl_dirty |= f->issuing[i]->crl_info.number > present->crl_info.number;
}

hm_err authority_issuing_load(tc_authority *a, tc_family f)
{
    family_ca *old = &a->family[f], fresh = {0};
    issuing_index ix;
    hm_err err;
    HM_TRY(issuing_index_read(a->dir, f, &ix));
    for (size_t i = 0; i < ix.count; i++) {
        HM_TRY_OUT(ca_load(a, &ix, i, &fresh.issuing[i]));
        fresh.count++;
        HM_TRY_OUT(ca_complete(a, fresh.issuing[i]));
    }
    HM_TRY_OUT(issued_present_put(a, f, &fresh));
    for (size_t i = 0; i < fresh.count; i++)
        ca_keep(old, &fresh.issuing[i]);
    authority_issuing_free(old);
    memcpy(old->issuing, fresh.issuing, sizeof fresh.issuing);
    old->count = fresh.count;
    fresh.count = 0;
    present_crl_leads(old);
    sweep(a, &ix);
out:
    authority_issuing_free(&fresh);
    return err;
}

// ---- looking ------------------------------------------------------------------------------------

issuing_ca *authority_issuing_numbered(const tc_authority *a, uint8_t number)
{
    const family_ca *f = &a->family[issuing_family(number)];
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

tc_issuing_state tc_issuing_state_at(const tc_authority *a, tc_family f, size_t n)
{
    hm_assert(n < a->family[f].count);
    return a->family[f].issuing[n]->state;
}
