#include "trustchain/authority.h"
#include "trustchain/ceremony.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const tc_family_names[2] = {"mesh", "edge"};

hm_err authority_path(const char *dir, const char *family, const char *what, char out[TC_PATH_MAX])
{
    int n = snprintf(out, TC_PATH_MAX, "%s/%s%s%s", dir, family, family[0] ? "-" : "", what);
    if (n < 0 || n >= TC_PATH_MAX)
        return hm_fail(HM_E_LIMIT, "the path %.60s... is too long", dir);
    return HM_OK;
}

hm_err authority_key_file(const char *dir, const char *family, const char *what, EVP_PKEY **key)
{
    char path[TC_PATH_MAX];
    HM_TRY(authority_path(dir, family, what, path));
    return x509_key_load(path, key);
}

// ---- life cycle ---------------------------------------------------------------------------------

static hm_err pem_load(const tc_authority *a, const char *family, const char *what, hm_buf *pem)
{
    char path[TC_PATH_MAX];
    HM_TRY(authority_path(a->dir, family, what, path));
    return hm_file_read(path, 16 * TC_CERT_MAX, pem);
}

static hm_err cross_load(const tc_authority *a, hm_buf *pem)
{
    hm_err err = pem_load(a, "edge", "root-cross.crt", pem);
    return err == HM_E_NOTFOUND ? HM_OK : err; // its roots may have been made without one
}

static hm_err family_load(tc_authority *a, tc_family f)
{
    HM_TRY(pem_load(a, tc_family_names[f], "root.crt", &a->family[f].root_pem));
    return authority_issuing_load(a, f);
}

hm_err tc_authority_reload(tc_authority *a)
{
    hm_buf cross = {0};
    hm_err err = cross_load(a, &cross);
    if (err == HM_OK)
        err = authority_issuing_load(a, TC_EDGE);
    if (err == HM_OK)
        err = authority_issuing_load(a, TC_MESH);
    if (err != HM_OK) {
        hm_buf_free(&cross);
        return err;
    }
    hm_buf_free(&a->cross_pem);
    a->cross_pem = cross;
    return HM_OK;
}

static hm_err issuing_check(const char *dir)
{
    char path[TC_PATH_MAX];
    for (int f = 0; f < 2; f++) {
        HM_TRY(authority_path(dir, tc_family_names[f], "ca.csr", path));
        if (access(path, F_OK) == 0 && !tc_authority_installed(dir, (tc_family)f))
            return hm_fail(HM_E_CONFIG,
                           "the %s family has no issuing certificate yet: have %s signed by its "
                           "root, then install-issuing",
                           tc_family_names[f], path);
    }
    return HM_OK;
}

hm_err tc_authority_open(const char *dir, tc_authority **out)
{
    hm_err err;
    char path[TC_PATH_MAX];
    tc_authority *a = calloc(1, sizeof *a);
    if (!a)
        return HM_E_NOMEM;
    a->lock_fd = -1;
    a->found = calloc(1, sizeof *a->found);
    if (!a->found) {
        err = HM_E_NOMEM;
        goto out;
    }
    if (strlen(dir) >= sizeof a->dir) {
        err = hm_fail(HM_E_LIMIT, "the path of the directory is too long");
        goto out;
    }
    memcpy(a->dir, dir, strlen(dir) + 1);
    HM_TRY_OUT(hm_dir_lock(a->dir, &a->lock_fd));
    HM_TRY_OUT(issuing_check(a->dir));
    HM_TRY_OUT(authority_token_open(a->dir, &a->hsm));
    HM_TRY_OUT(cross_load(a, &a->cross_pem));
    HM_TRY_OUT(authority_path(dir, "", "journal", path));
    if (access(path, F_OK) == 0) {
        err = hm_fail(HM_E_CONFIG,
                      "%s was made before there was a transparency log, which would lack what it "
                      "issued: make the authority anew",
                      dir);
        goto out;
    }
    HM_TRY_OUT(authority_path(dir, "", "store", path));
    HM_TRY_OUT(tc_store_open(path, &a->store));
    HM_TRY_OUT(authority_totals_load(a));
    HM_TRY_OUT(authority_log_open(a));
    HM_TRY_OUT(family_load(a, TC_MESH));
    HM_TRY_OUT(family_load(a, TC_EDGE));
    *out = a;
    a = NULL;
out:
    tc_authority_close(a);
    return err;
}

void tc_authority_close(tc_authority *a)
{
    if (!a)
        return;
    tc_store_close(a->store);
    EVP_PKEY_free(a->log_key);
    hm_buf_free(&a->log_origin);
    hm_buf_free(&a->checkpoint.note);
    free(a->found);
    for (int f = 0; f < 2; f++) {
        hm_buf_free(&a->family[f].root_pem);
        authority_issuing_free(&a->family[f]);
    }
    hsm_close(a->hsm);
    hm_buf_free(&a->cross_pem);
    if (a->lock_fd >= 0)
        close(a->lock_fd);
    free(a);
}

hm_bytes tc_authority_root(const tc_authority *a, tc_family family)
{
    return hm_buf_bytes(&a->family[family].root_pem);
}

hm_bytes tc_authority_issuing(const tc_authority *a, tc_family family)
{
    return hm_buf_bytes(&a->family[family].issuing[0]->pem);
}

hm_bytes tc_authority_cross(const tc_authority *a)
{
    return hm_buf_bytes(&a->cross_pem);
}

hm_err tc_serial_parse(hm_bytes hex, tc_serial *out)
{
    if (hex.len != 2 * TC_SERIAL_BYTES ||
        hm_unhex(out->b, TC_SERIAL_BYTES, (const char *)hex.ptr, hex.len) != HM_OK)
        return hm_fail(HM_E_PARSE, "a serial has %u hexadecimal digits", 2 * TC_SERIAL_BYTES);
    return HM_OK;
}
