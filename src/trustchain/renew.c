#include "trustchain/renew.h"

#include <openssl/err.h>

#include "trustchain/authority.h"
#include "trustchain/csr.h"

#define DOMAIN "hypermesh renewal v1"

// ---- the signature ------------------------------------------------------------------------------

static hm_err message(const tc_renewal *r, hm_buf *out)
{
    hm_wr_raw(out, DOMAIN, sizeof DOMAIN); // with its NUL, which ends it
    hm_wr_raw(out, r->serial.b, TC_SERIAL_BYTES);
    hm_wr_u64(out, r->time_ms);
    hm_buf_put(out, r->csr_pem);
    return hm_buf_status(out);
}

// FALCON brings its own hash.
static const EVP_MD *md_of(const EVP_PKEY *key)
{
    return EVP_PKEY_is_a(key, HM_FALCON_NAME) ? NULL : EVP_sha256();
}

hm_err tc_renewal_sign(const char *key_path, const tc_renewal *r, hm_buf *signature)
{
    hm_buf msg = {0};
    uint8_t sig[TC_RENEW_SIGNATURE_MAX];
    size_t len = sizeof sig;
    EVP_PKEY *key = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    hm_err err;
    HM_TRY_OUT(message(r, &msg));
    HM_TRY_OUT(x509_key_load(key_path, &key));
    if (!ctx || EVP_DigestSignInit(ctx, NULL, md_of(key), NULL, key) <= 0 ||
        EVP_DigestSign(ctx, sig, &len, msg.ptr, msg.len) <= 0)
        HM_TRY_OUT(hm_crypto_fail(HM_E_CRYPTO, "cannot sign the request to renew"));
    hm_buf_append(signature, sig, len);
    err = hm_buf_status(signature);
out:
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    hm_buf_free(&msg);
    return err;
}

static hm_err signature_check(const tc_renewal *r, EVP_PKEY *key)
{
    hm_buf msg = {0};
    hm_err err = message(r, &msg);
    if (err == HM_OK && !x509_signature_good(key, md_of(key), hm_buf_bytes(&msg), r->signature))
        err = hm_fail(HM_E_DENIED, "the request is not signed by the certificate's key");
    hm_buf_free(&msg);
    return err;
}

// ---- what is noted ------------------------------------------------------------------------------

#define NOTE_PREFIX "renewal/"
#define NOTE_KEY_BYTES (sizeof NOTE_PREFIX - 1 + TC_SERIAL_BYTES)

static hm_bytes note_key(const tc_serial *serial, uint8_t mem[NOTE_KEY_BYTES])
{
    memcpy(mem, NOTE_PREFIX, sizeof NOTE_PREFIX - 1);
    memcpy(mem + sizeof NOTE_PREFIX - 1, serial->b, TC_SERIAL_BYTES);
    return hm_bytes_of(mem, NOTE_KEY_BYTES);
}

hm_err authority_record_renewal(tc_authority *a, const renewal_note *note)
{
    uint8_t key[NOTE_KEY_BYTES], mem[16];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u32(&b, note->life_s);
    hm_wr_u8(&b, note->count);
    hm_wr_u64(&b, note->asked_ms);
    HM_TRY(hm_buf_status(&b));
    return tc_store_put(a->store, TC_KV, note_key(&note->serial, key), hm_buf_bytes(&b));
}

static hm_err note_load(tc_authority *a, const tc_serial *serial, renewal_note *out)
{
    uint8_t key[NOTE_KEY_BYTES];
    hm_bytes value;
    hm_err err = tc_store_get(a->store, TC_KV, note_key(serial, key), &value);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_DENIED, "the certificate was not issued to be renewed by its key: ask "
                                    "as it was asked for, by ACME or with a token");
    HM_TRY(err);
    renewal_note note = {.serial = *serial};
    hm_rd r = hm_rd_of(value);
    note.life_s = hm_rd_u32(&r);
    note.count = hm_rd_u8(&r);
    note.asked_ms = hm_rd_u64(&r);
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_CORRUPT, "%s: a note of a renewal in the store is damaged", a->dir);
    *out = note;
    return HM_OK;
}

// ---- when ---------------------------------------------------------------------------------------

hm_err tc_renewal_look(const char *path, tc_serial *serial, uint64_t *not_before_ms,
                       uint64_t *not_after_ms)
{
    X509 *x = NULL;
    tc_serial s;
    uint64_t from, until;
    hm_err err;
    HM_TRY_OUT(x509_cert_load(path, &x));
    HM_TRY_OUT(x509_serial(x, &s));
    HM_TRY_OUT(x509_time_ms(X509_get0_notBefore(x), &from));
    HM_TRY_OUT(x509_time_ms(X509_get0_notAfter(x), &until));
    *serial = s;
    *not_before_ms = from;
    *not_after_ms = until;
out:
    X509_free(x);
    return err;
}

hm_err tc_renewal_csr(const char *cert_path, const char *key_path, hm_buf *csr_pem)
{
    X509 *x = NULL;
    EVP_PKEY *key = NULL;
    hm_err err;
    HM_TRY_OUT(x509_cert_load(cert_path, &x));
    HM_TRY_OUT(x509_key_load(key_path, &key));
    if (EVP_PKEY_eq(X509_get0_pubkey(x), key) != 1)
        HM_TRY_OUT(hm_crypto_fail(HM_E_KEY, "it is the key of another certificate"));
    err = csr_make_again(x, key, csr_pem);
out:
    EVP_PKEY_free(key);
    X509_free(x);
    return err;
}

uint64_t tc_life_ms(uint64_t not_before_ms, uint64_t not_after_ms)
{
    uint64_t life = not_after_ms > not_before_ms ? not_after_ms - not_before_ms : 0;
    return life > TC_SKEW_MS ? life - TC_SKEW_MS : life;
}

uint64_t tc_renewal_due_ms(uint64_t not_before_ms, uint64_t not_after_ms, uint64_t random)
{
    uint64_t life = tc_life_ms(not_before_ms, not_after_ms);
    return not_after_ms - life / 2 + random % (life / 6 + 1);
}

static hm_err times_check(const tc_renewal *r, const tc_issued *old, const renewal_note *note,
                          uint64_t now_ms)
{
    uint64_t life = tc_life_ms(old->not_before_ms, old->not_after_ms);
    uint64_t apart = r->time_ms > now_ms ? r->time_ms - now_ms : now_ms - r->time_ms;
    if (apart > TC_RENEW_CLOCKS_MS)
        return hm_fail(HM_E_INVALID,
                       "the request's time is %llu s from the authority's: set the "
                       "clock",
                       (unsigned long long)(apart / 1000));
    if (r->time_ms <= note->asked_ms)
        return hm_fail(HM_E_EXISTS, "a request of that time or a later one was answered before");
    if (note->count >= TC_RENEWALS_MAX)
        return hm_fail(HM_E_EXISTS,
                       "the certificate was renewed %u times already: renew its "
                       "newest successor",
                       TC_RENEWALS_MAX);
    if (now_ms + life - life / 3 < old->not_after_ms)
        return hm_fail(HM_E_EXISTS, "more than two thirds of the certificate's life are left");
    return HM_OK;
}

// ---- renewing -----------------------------------------------------------------------------------

static bool same_names(X509 *cert, const csr *c)
{
    uint8_t *was = NULL, *is = NULL;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    int was_len = names ? i2d_GENERAL_NAMES(names, &was) : -1;
    int is_len = c->names ? i2d_GENERAL_NAMES(c->names, &is) : -1;
    bool same = was_len == is_len && (is_len <= 0 || memcmp(was, is, (size_t)is_len) == 0);
    OPENSSL_free(was);
    OPENSSL_free(is);
    GENERAL_NAMES_free(names);
    return same;
}

// A node is its key, which its certificate's names follow from; a server may change its own.
static hm_err csr_check(const tc_issued *old, X509 *cert, const csr *c)
{
    if (old->family == TC_EDGE && !same_names(cert, c))
        return hm_fail(HM_E_CSR, "the request has other names than the certificate");
    if (old->family == TC_EDGE && strcmp(old->subject, c->subject) != 0)
        return hm_fail(HM_E_CSR, "the request names %.100s, the certificate %.100s", c->subject,
                       old->subject);
    if (old->family == TC_MESH && EVP_PKEY_eq(X509_get0_pubkey(cert), c->key) != 1)
        return hm_fail(HM_E_CSR, "the request has another key than the node's certificate");
    if (old->family == TC_MESH && strcmp(old->subject, c->name) != 0)
        return hm_fail(HM_E_CSR, "the request names %s, the certificate %.63s", c->name,
                       old->subject);
    return HM_OK;
}

// The certificate says it itself.
static tc_profile profile_of(tc_family f, X509 *cert)
{
    uint32_t use = X509_get_extended_key_usage(cert);
    return f == TC_MESH           ? TC_NODE
           : use & XKU_CODE_SIGN  ? TC_CODE
           : use & XKU_SSL_CLIENT ? TC_CLIENT
                                  : TC_SERVER;
}

static hm_err in_force(const tc_issued *old, uint64_t now_ms)
{
    if (old->revoked)
        return hm_fail(HM_E_CERT_REVOKED, "the certificate is revoked: enroll anew");
    if (now_ms < old->not_before_ms || now_ms > old->not_after_ms)
        return hm_fail(HM_E_CERT_EXPIRED, "the certificate is not in force: enroll anew");
    return HM_OK;
}

hm_err tc_renew(tc_authority *a, const tc_renewal *r, uint64_t now_ms, hm_buf *chain_pem,
                tc_issued *issued)
{
    const tc_issued *found = tc_issued_find(a, &r->serial);
    X509 *cert = NULL;
    csr c = {0};
    hm_bytes der;
    renewal_note note;
    hm_err err;
    if (!found)
        return hm_fail(HM_E_NOTFOUND, "no certificate of this authority has that serial");
    const tc_issued old = *found;
    HM_TRY_OUT(in_force(&old, now_ms));
    HM_TRY_OUT(note_load(a, &r->serial, &note));
    HM_TRY_OUT(tc_issued_der(a, &r->serial, &der));
    HM_TRY_OUT(x509_cert_parse(der, &cert));
    HM_TRY_OUT(signature_check(r, X509_get0_pubkey(cert)));
    HM_TRY_OUT(times_check(r, &old, &note, now_ms));
    const tc_profile p = profile_of(old.family, cert);
    HM_TRY_OUT(csr_read(r->csr_pem, p, &c));
    HM_TRY_OUT(csr_check(&old, cert, &c));
    const tc_terms terms = {.life_s = note.life_s, .renewable = true};
    note.count++;
    note.asked_ms = r->time_ms;
    err = authority_issue(a, p, &c, &terms, &note, now_ms, chain_pem, issued);
out:
    csr_free(&c);
    X509_free(cert);
    return err;
}
