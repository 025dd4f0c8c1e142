#include "trustchain/authority.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const tc_family_names[2] = {"mesh", "edge"};

enum { RECORD_ISSUED = 1, RECORD_REVOKED = 2 };

hm_err authority_path(const char *dir, const char *family, const char *what, char out[TC_PATH_MAX])
{
    int n = snprintf(out, TC_PATH_MAX, "%s/%s%s%s", dir, family, family[0] ? "-" : "", what);
    if (n < 0 || n >= TC_PATH_MAX)
        return hm_fail(HM_E_LIMIT, "the path %.60s... is too long", dir);
    return HM_OK;
}

// ---- journal ------------------------------------------------------------------------------------

issued_cert *authority_find(const tc_authority *a, const tc_serial *serial)
{
    uintptr_t index = (uintptr_t)hm_map_get(&a->by_serial, serial->b);
    return index ? &a->issued[index - 1] : NULL;
}

tc_serial authority_serial(const tc_authority *a)
{
    tc_serial s;
    do {
        hm_random_fill(&hm_random_system, s.b, sizeof s.b);
        s.b[0] = (s.b[0] & 0x7f) | 0x40;
    } while (authority_find(a, &s));
    return s;
}

static hm_err issued_add(tc_authority *a, const tc_issued *info, hm_bytes der)
{
    if (authority_find(a, &info->serial))
        return hm_fail(HM_E_CORRUPT, "%s: the journal names a serial twice", a->dir);
    if (a->count == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 64;
        issued_cert *more = cap <= TC_ISSUED_MAX ? realloc(a->issued, cap * sizeof *more) : NULL;
        if (!more)
            return hm_fail(HM_E_LIMIT, "the authority holds as many certificates as it can");
        a->issued = more;
        a->cap = cap;
    }
    issued_cert i = {.info = *info, .der = malloc(der.len), .der_len = (uint32_t)der.len};
    if (!i.der)
        return HM_E_NOMEM;
    memcpy(i.der, der.ptr, der.len);
    hm_err err = hm_map_put(&a->by_serial, info->serial.b, (void *)(uintptr_t)(a->count + 1));
    if (err != HM_OK) {
        free(i.der);
        return err;
    }
    a->issued[a->count++] = i;
    return HM_OK;
}

hm_err authority_record_issued(tc_authority *a, const tc_issued *info, hm_bytes der)
{
    hm_buf b = {0};
    hm_err err;
    hm_wr_u8(&b, RECORD_ISSUED);
    hm_wr_u8(&b, info->family);
    hm_wr_raw(&b, info->serial.b, TC_SERIAL_BYTES);
    hm_wr_bytes(&b, hm_bytes_str(info->subject));
    hm_wr_u64(&b, info->not_before_ms);
    hm_wr_u64(&b, info->not_after_ms);
    hm_wr_bytes(&b, der);
    HM_TRY_OUT(hm_buf_status(&b));
    HM_TRY_OUT(hm_wal_append(a->journal, hm_buf_bytes(&b)));
    err = issued_add(a, info, der);
out:
    hm_buf_free(&b);
    return err;
}

hm_err authority_record_revoked(tc_authority *a, issued_cert *i, uint8_t reason, uint64_t now_ms)
{
    hm_buf b = {0};
    hm_err err;
    hm_wr_u8(&b, RECORD_REVOKED);
    hm_wr_raw(&b, i->info.serial.b, TC_SERIAL_BYTES);
    hm_wr_u8(&b, reason);
    hm_wr_u64(&b, now_ms);
    HM_TRY_OUT(hm_buf_status(&b));
    HM_TRY_OUT(hm_wal_append(a->journal, hm_buf_bytes(&b)));
    i->info.revoked = true;
    i->info.reason = reason;
    i->info.revoked_ms = now_ms;
    a->family[i->info.family].crl_dirty = true;
out:
    hm_buf_free(&b);
    return err;
}

static hm_err replay_issued(tc_authority *a, hm_rd *r)
{
    tc_issued info = {0};
    info.family = (tc_family)hm_rd_enum(r, TC_EDGE);
    hm_rd_copy(r, info.serial.b, TC_SERIAL_BYTES);
    hm_bytes subject = hm_rd_bytes(r, sizeof info.subject - 1);
    info.not_before_ms = hm_rd_u64(r);
    info.not_after_ms = hm_rd_u64(r);
    hm_bytes der = hm_rd_bytes(r, TC_CERT_MAX);
    HM_TRY(hm_rd_end(r));
    memcpy(info.subject, subject.ptr, subject.len);
    return issued_add(a, &info, der);
}

static hm_err replay_revoked(tc_authority *a, hm_rd *r)
{
    tc_serial serial;
    hm_rd_copy(r, serial.b, TC_SERIAL_BYTES);
    uint8_t reason = hm_rd_enum(r, TC_REASON_MAX);
    uint64_t at_ms = hm_rd_u64(r);
    HM_TRY(hm_rd_end(r));
    issued_cert *i = authority_find(a, &serial);
    if (!i)
        return hm_fail(HM_E_CORRUPT, "the journal revokes what it never issued");
    i->info.revoked = true;
    i->info.reason = reason;
    i->info.revoked_ms = at_ms;
    return HM_OK;
}

static hm_err replay(void *ctx, hm_bytes record)
{
    tc_authority *a = ctx;
    hm_rd r = hm_rd_of(record);
    switch (hm_rd_u8(&r)) {
    case RECORD_ISSUED:
        return replay_issued(a, &r);
    case RECORD_REVOKED:
        return replay_revoked(a, &r);
    default:
        return hm_fail(HM_E_CORRUPT, "%s: the journal has a record of unknown kind", a->dir);
    }
}

// ---- life cycle ---------------------------------------------------------------------------------

static hm_err pem_load(const tc_authority *a, const char *family, const char *what, hm_buf *pem)
{
    char path[TC_PATH_MAX];
    HM_TRY(authority_path(a->dir, family, what, path));
    return hm_file_read(path, 16 * TC_CERT_MAX, pem);
}

// The stored list; one that is not there yet or older than the journal is signed anew when asked.
static hm_err family_crl_load(tc_authority *a, tc_family f)
{
    family_ca *ca = &a->family[f];
    char path[TC_PATH_MAX];
    hm_buf issuing = {0};
    uint32_t revoked = 0;
    HM_TRY(authority_path(a->dir, tc_family_names[f], "crl.der", path));
    hm_err err = hm_file_read(path, TC_CRL_MAX, &ca->crl);
    if (err == HM_E_NOTFOUND) {
        ca->crl_dirty = true;
        return HM_OK;
    }
    HM_TRY_OUT(err);
    HM_TRY_OUT(x509_cert_der(ca->issuing, &issuing));
    HM_TRY_OUT(tc_crl_verify(hm_buf_bytes(&ca->crl), hm_buf_bytes(&issuing), &ca->crl_info));
    for (size_t i = 0; i < a->count; i++)
        revoked += a->issued[i].info.family == f && a->issued[i].info.revoked;
    ca->crl_dirty = revoked != ca->crl_info.count;
out:
    hm_buf_free(&issuing);
    return err;
}

static hm_err family_load(tc_authority *a, tc_family f)
{
    family_ca *ca = &a->family[f];
    const char *name = tc_family_names[f];
    char path[TC_PATH_MAX];
    hm_buf der = {0};
    hm_err err;
    HM_TRY_OUT(pem_load(a, name, "root.crt", &ca->root_pem));
    HM_TRY_OUT(pem_load(a, name, "ca.crt", &ca->issuing_pem));
    HM_TRY_OUT(tc_pem_to_der(hm_buf_bytes(&ca->issuing_pem), &der));
    HM_TRY_OUT(x509_cert_parse(hm_buf_bytes(&der), &ca->issuing));
    HM_TRY_OUT(authority_path(a->dir, name, "ca.key", path));
    HM_TRY_OUT(x509_key_load(path, &ca->issuing_key));
    if (X509_check_private_key(ca->issuing, ca->issuing_key) != 1)
        err = hm_crypto_fail(HM_E_CORRUPT, "an issuing certificate is not for its key");
out:
    hm_buf_free(&der);
    return err;
}

hm_err tc_authority_open(const char *dir, tc_authority **out)
{
    hm_err err;
    char path[TC_PATH_MAX];
    tc_authority *a = calloc(1, sizeof *a);
    if (!a)
        return HM_E_NOMEM;
    a->lock_fd = -1;
    hm_map_init(&a->by_serial, TC_SERIAL_BYTES, TC_ISSUED_MAX, &hm_random_system);
    if (strlen(dir) >= sizeof a->dir) {
        err = hm_fail(HM_E_LIMIT, "the path of the directory is too long");
        goto out;
    }
    memcpy(a->dir, dir, strlen(dir) + 1);
    HM_TRY_OUT(hm_dir_lock(a->dir, &a->lock_fd));
    HM_TRY_OUT(family_load(a, TC_MESH));
    HM_TRY_OUT(family_load(a, TC_EDGE));
    HM_TRY_OUT(pem_load(a, "edge", "root-cross.crt", &a->cross_pem));
    HM_TRY_OUT(authority_path(dir, "", "journal", path));
    HM_TRY_OUT(hm_wal_open(path, replay, a, &a->journal));
    HM_TRY_OUT(family_crl_load(a, TC_MESH));
    HM_TRY_OUT(family_crl_load(a, TC_EDGE));
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
    if (a->journal)
        hm_wal_close(a->journal);
    for (int f = 0; f < 2; f++) {
        family_ca *ca = &a->family[f];
        EVP_PKEY_free(ca->issuing_key);
        X509_free(ca->issuing);
        hm_buf_free(&ca->root_pem);
        hm_buf_free(&ca->issuing_pem);
        hm_buf_free(&ca->crl);
    }
    hm_buf_free(&a->cross_pem);
    for (size_t i = 0; i < a->count; i++)
        free(a->issued[i].der);
    free(a->issued);
    hm_map_free(&a->by_serial);
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
    return hm_buf_bytes(&a->family[family].issuing_pem);
}

hm_bytes tc_authority_cross(const tc_authority *a)
{
    return hm_buf_bytes(&a->cross_pem);
}

size_t tc_issued_count(const tc_authority *a)
{
    return a->count;
}

const tc_issued *tc_issued_at(const tc_authority *a, size_t index)
{
    return index < a->count ? &a->issued[index].info : NULL;
}

const tc_issued *tc_issued_find(const tc_authority *a, const tc_serial *serial)
{
    issued_cert *i = authority_find(a, serial);
    return i ? &i->info : NULL;
}

hm_err tc_issued_der(const tc_authority *a, const tc_serial *serial, hm_bytes *der)
{
    issued_cert *i = authority_find(a, serial);
    if (!i)
        return hm_fail(HM_E_NOTFOUND, "no certificate of this authority has that serial");
    *der = hm_bytes_of(i->der, i->der_len);
    return HM_OK;
}

hm_err tc_serial_parse(hm_bytes hex, tc_serial *out)
{
    if (hex.len != 2 * TC_SERIAL_BYTES ||
        hm_unhex(out->b, TC_SERIAL_BYTES, (const char *)hex.ptr, hex.len) != HM_OK)
        return hm_fail(HM_E_PARSE, "a serial has %u hexadecimal digits", 2 * TC_SERIAL_BYTES);
    return HM_OK;
}
