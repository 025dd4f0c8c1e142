#include "dns/sign.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "crypto/crypto.h"

#define SIG_BYTES 64u
#define WAYS 2u

typedef struct kept {
    hm_hash digest; // of what was signed
    uint8_t sig[SIG_BYTES];
} kept;

struct dns_signer {
    EVP_PKEY *key;
    EVP_PKEY_CTX *ctx;
    dns_name apex;
    uint16_t tag;
    uint64_t made;
    kept there[DNS_SIGN_KEPT], absent[DNS_SIGN_KEPT];
};

// ---- keys ---------------------------------------------------------------------------------------

static hm_err key_make(const char *path, EVP_PKEY **out)
{
    hm_err err = HM_OK;
    char *text;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_secmem());
    if (key == NULL || bio == NULL ||
        PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        err = hm_crypto_fail(HM_E_CRYPTO, "a key for DNSSEC cannot be made");
    } else {
        long len = BIO_get_mem_data(bio, &text);
        err = hm_file_write(path, hm_bytes_of(text, (size_t)len), 0600);
    }
    BIO_free(bio);
    if (err == HM_OK)
        *out = key;
    else
        EVP_PKEY_free(key);
    return err;
}

hm_err dns_key_open(const char *path, EVP_PKEY **out)
{
    uint8_t public_key[DNS_PUBLIC_BYTES];
    hm_buf pem = {0};
    hm_err err = hm_file_read_secret(path, 65536, &pem);
    if (err == HM_E_NOTFOUND)
        return key_make(path, out);
    HM_TRY(err);
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    hm_buf_free_secret(&pem);
    if (key == NULL)
        return hm_crypto_fail(HM_E_KEY, path);
    err = dns_key_public(key, public_key);
    if (err == HM_OK)
        *out = key;
    else
        EVP_PKEY_free(key);
    return err;
}

hm_err dns_key_public(const EVP_PKEY *key, uint8_t out[DNS_PUBLIC_BYTES])
{
    uint8_t point[1 + DNS_PUBLIC_BYTES];
    size_t len = 0;
    char group[32] = "";
    if (EVP_PKEY_get_group_name(key, group, sizeof group, NULL) != 1 ||
        strcmp(group, SN_X9_62_prime256v1) != 0 ||
        EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point,
                                        sizeof point, &len) != 1 ||
        len != sizeof point || point[0] != 4)
        return hm_fail(HM_E_KEY, "a key for DNSSEC is of ECDSA over P-256");
    memcpy(out, point + 1, DNS_PUBLIC_BYTES);
    return HM_OK;
}

static EVP_PKEY *key_of_public(hm_bytes public_key)
{
    uint8_t point[1 + DNS_PUBLIC_BYTES] = {4};
    EVP_PKEY *key = NULL;
    if (public_key.len != DNS_PUBLIC_BYTES)
        return NULL;
    memcpy(point + 1, public_key.ptr, DNS_PUBLIC_BYTES);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){"P-256"}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
        OSSL_PARAM_construct_end()};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

hm_err dns_public_check(hm_bytes public_key)
{
    EVP_PKEY *key = key_of_public(public_key);
    if (key == NULL)
        return hm_crypto_fail(HM_E_KEY, "64 bytes that are no point of P-256");
    EVP_PKEY_free(key);
    return HM_OK;
}

void dns_dnskey_rdata(const uint8_t public_key[DNS_PUBLIC_BYTES], uint8_t out[DNS_DNSKEY_BYTES])
{
    const uint8_t head[4] = {1, 1, 3, DNS_ALGORITHM}; // 257: zone key, secure entry point
    memcpy(out, head, sizeof head);
    memcpy(out + sizeof head, public_key, DNS_PUBLIC_BYTES);
}

uint16_t dns_key_tag(hm_bytes dnskey) // RFC 4034, appendix B
{
    uint32_t sum = 0;
    for (size_t i = 0; i < dnskey.len; i++)
        sum += i & 1 ? dnskey.ptr[i] : (uint32_t)dnskey.ptr[i] << 8;
    return (uint16_t)(sum + (sum >> 16));
}

void dns_ds_rdata(const dns_name *apex, const uint8_t dnskey[DNS_DNSKEY_BYTES],
                  uint8_t out[DNS_DS_BYTES])
{
    uint16_t tag = dns_key_tag(hm_bytes_of(dnskey, DNS_DNSKEY_BYTES));
    dns_name lower = *apex;
    dns_name_lower(&lower);
    hm_hash h =
        hm_sha256_2(hm_bytes_of(lower.wire, lower.len), hm_bytes_of(dnskey, DNS_DNSKEY_BYTES));
    const uint8_t head[4] = {(uint8_t)(tag >> 8), (uint8_t)tag, DNS_ALGORITHM, 2};
    memcpy(out, head, sizeof head);
    memcpy(out + sizeof head, h.b, sizeof h.b);
}

// ---- signing ------------------------------------------------------------------------------------

hm_err dns_signer_open(EVP_PKEY *key, const dns_name *apex, dns_signer **out)
{
    uint8_t public_key[DNS_PUBLIC_BYTES], dnskey[DNS_DNSKEY_BYTES];
    HM_TRY(dns_key_public(key, public_key));
    dns_signer *s = calloc(1, sizeof *s);
    if (s == NULL)
        return HM_E_NOMEM;
    s->ctx = EVP_PKEY_CTX_new(key, NULL);
    if (s->ctx == NULL || EVP_PKEY_sign_init(s->ctx) != 1) {
        EVP_PKEY_CTX_free(s->ctx);
        free(s);
        return hm_crypto_fail(HM_E_CRYPTO, "the key for DNSSEC cannot sign");
    }
    dns_dnskey_rdata(public_key, dnskey);
    s->key = key;
    s->apex = *apex;
    dns_name_lower(&s->apex);
    s->tag = dns_key_tag(hm_bytes_of(dnskey, sizeof dnskey));
    *out = s;
    return HM_OK;
}

void dns_signer_close(dns_signer *s)
{
    if (s == NULL)
        return;
    EVP_PKEY_CTX_free(s->ctx);
    EVP_PKEY_free(s->key);
    free(s);
}

uint64_t dns_signer_made(const dns_signer *s)
{
    return s->made;
}

// A "*" in front is not counted (RFC 4034, section 3.1.3).
static uint8_t labels_of(const dns_name *owner)
{
    bool star = owner->wire[0] == 1 && owner->wire[1] == '*';
    return (uint8_t)(dns_name_labels(owner) - star);
}

// RFC 4034, section 3.1.8.1; the set is in canonical order and form already.
static hm_hash digest_of(hm_bytes head, const dns_rrset *set, uint32_t ttl)
{
    hm_sha256_ctx sha;
    uint8_t mem[DNS_NAME_MAX + 10];
    hm_buf fixed = hm_buf_fixed(mem, sizeof mem);
    hm_buf_append(&fixed, set->owner.wire, set->owner.len);
    hm_wr_u16(&fixed, set->type);
    hm_wr_u16(&fixed, DNS_CLASS_IN);
    hm_wr_u32(&fixed, ttl);
    hm_sha256_init(&sha);
    hm_sha256_update(&sha, head);
    for (unsigned i = 0; i < set->count; i++) {
        const uint8_t len[2] = {(uint8_t)(set->rdata[i].len >> 8), (uint8_t)set->rdata[i].len};
        hm_sha256_update(&sha, hm_buf_bytes(&fixed));
        hm_sha256_update(&sha, hm_bytes_of(len, 2));
        hm_sha256_update(&sha, set->rdata[i]);
    }
    return hm_sha256_final(&sha);
}

static hm_err make(dns_signer *s, const hm_hash *digest, uint8_t sig[SIG_BYTES])
{
    uint8_t der[80];
    size_t len = sizeof der;
    const uint8_t *p = der;
    if (EVP_PKEY_sign(s->ctx, der, &len, digest->b, sizeof digest->b) != 1)
        return hm_crypto_fail(HM_E_CRYPTO, "an answer cannot be signed");
    ECDSA_SIG *e = d2i_ECDSA_SIG(NULL, &p, (long)len);
    bool ok = e != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(e), sig, 32) == 32 &&
              BN_bn2binpad(ECDSA_SIG_get0_s(e), sig + 32, 32) == 32;
    ECDSA_SIG_free(e);
    s->made++;
    return ok ? HM_OK : hm_crypto_fail(HM_E_CRYPTO, "an answer cannot be signed");
}

hm_err dns_sign(dns_signer *s, const dns_rrset *set, bool absent, uint64_t now_s, uint8_t *out,
                size_t *len)
{
    uint64_t begin = now_s - now_s % DNS_SIGN_STEP_S;
    hm_buf b = hm_buf_fixed(out, DNS_RRSIG_MAX);
    hm_wr_u16(&b, set->type);
    hm_wr_u8(&b, DNS_ALGORITHM);
    hm_wr_u8(&b, labels_of(&set->owner));
    hm_wr_u32(&b, set->ttl);
    hm_wr_u32(&b, (uint32_t)(begin + DNS_SIGN_LIFE_S));
    hm_wr_u32(&b, (uint32_t)(begin - 3600));
    hm_wr_u16(&b, s->tag);
    hm_buf_append(&b, s->apex.wire, s->apex.len);
    hm_hash digest = digest_of(hm_buf_bytes(&b), set, set->ttl);
    size_t number = ((size_t)digest.b[0] << 8 | digest.b[1]) % (DNS_SIGN_KEPT / WAYS);
    kept *row = (absent ? s->absent : s->there) + number * WAYS, *k = NULL;
    for (size_t i = 0; i < WAYS; i++)
        if (hm_hash_eq(&row[i].digest, &digest))
            k = &row[i];
    if (k == NULL) {
        uint8_t sig[SIG_BYTES];
        HM_TRY(make(s, &digest, sig));
        k = &row[digest.b[2] & (WAYS - 1)];
        k->digest = digest;
        memcpy(k->sig, sig, sizeof sig);
    }
    hm_buf_append(&b, k->sig, SIG_BYTES);
    hm_assert(hm_buf_status(&b) == HM_OK);
    *len = b.len;
    return HM_OK;
}

// ---- verifying ----------------------------------------------------------------------------------

static bool signature_holds(const hm_hash *digest, const uint8_t sig[SIG_BYTES], hm_bytes dnskey)
{
    uint8_t *der = NULL;
    int len = -1;
    EVP_PKEY *key = key_of_public(hm_bytes_of(dnskey.ptr + 4, dnskey.len - 4));
    ECDSA_SIG *e = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(sig, 32, NULL), *x = BN_bin2bn(sig + 32, 32, NULL);
    if (e != NULL && r != NULL && x != NULL && ECDSA_SIG_set0(e, r, x) == 1)
        len = i2d_ECDSA_SIG(e, &der);
    else
        BN_free(r), BN_free(x);
    EVP_PKEY_CTX *ctx = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    bool ok = len > 0 && ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
              EVP_PKEY_verify(ctx, der, (size_t)len, digest->b, sizeof digest->b) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    ECDSA_SIG_free(e);
    OPENSSL_free(der);
    return ok;
}

hm_err dns_verify(const dns_rrset *set, hm_bytes rrsig, hm_bytes dnskey, uint64_t now_s)
{
    dns_name signer;
    size_t used = 0;
    if (rrsig.len < 18 + 1 + SIG_BYTES || dnskey.len != DNS_DNSKEY_BYTES)
        return hm_fail(HM_E_SIGNATURE, "an RRSIG or DNSKEY record is of another algorithm");
    hm_rd r = hm_rd_of(rrsig);
    uint16_t type = hm_rd_u16(&r);
    uint8_t algorithm = hm_rd_u8(&r), labels = hm_rd_u8(&r);
    uint32_t ttl = hm_rd_u32(&r), end = hm_rd_u32(&r), begin = hm_rd_u32(&r);
    uint16_t tag = hm_rd_u16(&r);
    HM_TRY(dns_name_read(hm_bytes_of(rrsig.ptr + 18, rrsig.len - 18), &signer, &used));
    if (type != set->type || algorithm != DNS_ALGORITHM || dnskey.ptr[3] != DNS_ALGORITHM ||
        tag != dns_key_tag(dnskey) || labels != labels_of(&set->owner) ||
        rrsig.len != 18 + used + SIG_BYTES || !dns_name_within(&set->owner, &signer))
        return hm_fail(HM_E_SIGNATURE, "the RRSIG record is not of this set and key");
    if ((int32_t)((uint32_t)now_s - begin) < 0 || (int32_t)(end - (uint32_t)now_s) < 0)
        return hm_fail(HM_E_SIGNATURE, "the signature is not in force now");
    hm_hash digest = digest_of(hm_bytes_of(rrsig.ptr, 18 + used), set, ttl);
    if (!signature_holds(&digest, rrsig.ptr + 18 + used, dnskey))
        return hm_fail(HM_E_SIGNATURE, "the signature is not that key's");
    return HM_OK;
}
