#include "trustchain/log_read.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#define ENTRY_X509 0u // RFC 6962, 3.1
#define ENTRY_PRECERT 1u

// ---- pieces -------------------------------------------------------------------------------------

static uint32_t rd_u24(hm_rd *r)
{
    uint32_t high = hm_rd_u8(r);
    return high << 16 | hm_rd_u16(r);
}

static hm_bytes rd_u16_bytes(hm_rd *r)
{
    return hm_rd_raw(r, hm_rd_u16(r));
}

// CtExtensions: leaf_index once at most, the others are anybody's.
static bool extensions_read(hm_bytes extensions, bool *has_index, uint64_t *index)
{
    bool seen[256] = {false};
    hm_rd r = hm_rd_of(extensions);
    *has_index = false;
    while (hm_rd_ok(&r) && r.left > 0) {
        uint8_t type = hm_rd_u8(&r);
        hm_bytes data = rd_u16_bytes(&r);
        if (seen[type] || (type == 0 && data.len != 5))
            return false;
        seen[type] = true;
        if (type != 0)
            continue;
        hm_rd d = hm_rd_of(data);
        *index = (uint64_t)hm_rd_u8(&d) << 32;
        *index |= hm_rd_u32(&d);
        *has_index = true;
    }
    return hm_rd_ok(&r);
}

// A MerkleTreeLeaf's hash; both of its first bytes are zero: v1, timestamped_entry.
static hm_hash leaf_hash(hm_bytes timestamped)
{
    static const uint8_t before[3] = {0, 0, 0}; // the first is RFC 6962's prefix of a leaf
    hm_sha256_ctx sha;
    hm_sha256_init(&sha);
    hm_sha256_update(&sha, hm_bytes_of(before, sizeof before));
    hm_sha256_update(&sha, timestamped);
    return hm_sha256_final(&sha);
}

// ---- entries ------------------------------------------------------------------------------------

hm_err tc_leaf_next(hm_bytes *tile, tc_leaf *out)
{
    hm_rd r = hm_rd_of(*tile);
    tc_leaf l = {.time_ms = hm_rd_u64(&r)};
    bool has_index = false;
    uint16_t type = hm_rd_u16(&r);
    l.precert = type == ENTRY_PRECERT;
    if (l.precert)
        l.issuer_key_hash = hm_rd_raw(&r, HM_HASH_BYTES);
    l.cert = hm_rd_raw(&r, rd_u24(&r));
    hm_bytes extensions = rd_u16_bytes(&r);
    hm_bytes stamped = hm_bytes_of(tile->ptr, tile->len - r.left);
    if (l.precert)
        l.precert_der = hm_rd_raw(&r, rd_u24(&r));
    l.chain = rd_u16_bytes(&r);
    if (!hm_rd_ok(&r) || type > ENTRY_PRECERT || l.cert.len == 0 ||
        l.chain.len % HM_HASH_BYTES != 0 || !extensions_read(extensions, &has_index, &l.index) ||
        !has_index || tile->len - r.left > TC_ENTRY_MAX)
        return hm_fail(HM_E_PARSE, "an entry of the log is not as static-ct-api has it");
    l.hash = leaf_hash(stamped);
    *tile = hm_bytes_of(r.ptr, r.left);
    *out = l;
    return HM_OK;
}

static hm_err x509_read(hm_bytes der, X509 **out)
{
    const uint8_t *at = der.ptr;
    X509 *x = d2i_X509(NULL, &at, (long)der.len);
    if (x && at == der.ptr + der.len) {
        *out = x;
        return HM_OK;
    }
    X509_free(x);
    ERR_clear_error();
    return hm_fail(HM_E_PARSE, "an entry of the log holds no certificate");
}

hm_err tc_leaf_cert(const tc_leaf *l, X509 **out)
{
    // An algorithm (Ed25519, which has no parameters) and an empty signature.
    static const uint8_t unsigned_end[] = {0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 1, 0};
    hm_buf b = {0};
    hm_err err;
    if (!l->precert)
        return x509_read(l->cert, out);
    size_t len = l->cert.len + sizeof unsigned_end;
    hm_wr_u8(&b, 0x30); // SEQUENCE
    if (len < 0x80) {
        hm_wr_u8(&b, (uint8_t)len);
    } else {
        uint8_t bytes = len < 0x100 ? 1 : len < 0x10000 ? 2 : 3;
        hm_wr_u8(&b, 0x80 | bytes);
        for (unsigned i = bytes; i-- > 0;)
            hm_wr_u8(&b, (uint8_t)(len >> (8 * i)));
    }
    hm_buf_put(&b, l->cert);
    hm_wr_raw(&b, unsigned_end, sizeof unsigned_end);
    HM_TRY_OUT(hm_buf_status(&b));
    err = x509_read(hm_buf_bytes(&b), out);
out:
    hm_buf_free(&b);
    return err;
}

void tc_tile_path(unsigned level, uint64_t index, unsigned width, char out[TC_TILE_PATH_MAX])
{
    char number[24];
    size_t n = 0;
    if (level == TC_TILE_DATA)
        n = (size_t)snprintf(out, TC_TILE_PATH_MAX, "tile/data");
    else
        n = (size_t)snprintf(out, TC_TILE_PATH_MAX, "tile/%u", level % 10);
    int digits = snprintf(number, sizeof number, "%llu", (unsigned long long)index);
    int parts = (digits + 2) / 3;
    for (int i = parts - 1; i >= 0; i--) {
        uint64_t part = index;
        for (int k = 0; k < i; k++)
            part /= 1000;
        n += (size_t)snprintf(out + n, TC_TILE_PATH_MAX - n, "/%s%03u", i > 0 ? "x" : "",
                              (unsigned)(part % 1000));
    }
    if (width < TC_TILE_WIDTH)
        snprintf(out + n, TC_TILE_PATH_MAX - n, ".p/%u", width);
}

unsigned tc_tile_width(unsigned level, uint64_t index, uint64_t size)
{
    unsigned shift = level == TC_TILE_DATA ? 0 : level * TC_TILE_HEIGHT;
    uint64_t count = shift < 64 ? size >> shift : 0;
    if (index > count / TC_TILE_WIDTH)
        return 0;
    uint64_t left = count - index * TC_TILE_WIDTH;
    return left < TC_TILE_WIDTH ? (unsigned)left : TC_TILE_WIDTH;
}

// ---- SCTs ---------------------------------------------------------------------------------------

hm_err tc_sct_list(hm_bytes list, tc_sct out[TC_SCTS_MAX], size_t *count)
{
    hm_rd all = hm_rd_of(list);
    hm_rd items = hm_rd_of(rd_u16_bytes(&all));
    size_t n = 0;
    if (hm_rd_end(&all) != HM_OK || items.left == 0)
        return hm_fail(HM_E_PARSE, "the certificate's list of SCTs is malformed");
    while (items.left > 0) {
        hm_rd r = hm_rd_of(rd_u16_bytes(&items));
        tc_sct s = {0};
        if (n == TC_SCTS_MAX)
            return hm_fail(HM_E_LIMIT, "a certificate with more than %u SCTs", TC_SCTS_MAX);
        bool v1 = hm_rd_u8(&r) == 0;
        hm_rd_copy(&r, s.log_id.b, HM_HASH_BYTES);
        s.time_ms = hm_rd_u64(&r);
        s.extensions = rd_u16_bytes(&r);
        s.signature = hm_rd_raw(&r, r.left);
        if (!hm_rd_ok(&items) || !hm_rd_ok(&r) || !v1 || s.signature.len < 4 ||
            !extensions_read(s.extensions, &s.has_index, &s.index))
            return hm_fail(HM_E_PARSE, "the certificate's list of SCTs is malformed");
        out[n++] = s;
    }
    *count = n;
    return HM_OK;
}

// The certificate without its SCTs, as the log has it.
static hm_err tbs_without_scts(const X509 *cert, hm_buf *tbs)
{
    X509 *x = X509_dup(cert);
    int at = x ? X509_get_ext_by_NID(x, NID_ct_precert_scts, -1) : -1;
    hm_err err = HM_OK;
    if (at >= 0)
        X509_EXTENSION_free(X509_delete_ext(x, at));
    int len = at >= 0 ? i2d_re_X509_tbs(x, NULL) : 0;
    uint8_t *to = len > 0 ? hm_buf_reserve(tbs, (size_t)len) : NULL;
    if (to)
        tbs->len += (size_t)i2d_re_X509_tbs(x, &to);
    else
        err = hm_crypto_fail(HM_E_CRYPTO, "the certificate cannot be encoded");
    X509_free(x);
    return err;
}

static hm_hash key_hash(const X509 *issuer)
{
    uint8_t *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(issuer), &der);
    hm_hash h = hm_sha256(hm_bytes_of(der, len > 0 ? (size_t)len : 0));
    OPENSSL_free(der);
    return h;
}

static hm_err check_sct(const tc_sct *s, const X509 *cert, const X509 *issuer, const tc_log_pub *k,
                        tc_logged *out)
{
    hm_buf tbs = {0}, b = {0};
    hm_hash issuer_key = key_hash(issuer);
    hm_err err;
    HM_TRY_OUT(tbs_without_scts(cert, &tbs));
    hm_wr_u16(&b, 0); // v1, and certificate_timestamp: as a leaf begins, v1, timestamped_entry
    hm_wr_u64(&b, s->time_ms);
    hm_wr_u16(&b, ENTRY_PRECERT);
    hm_wr_raw(&b, issuer_key.b, HM_HASH_BYTES);
    hm_wr_u8(&b, (uint8_t)(tbs.len >> 16));
    hm_wr_u16(&b, (uint16_t)tbs.len);
    hm_buf_put(&b, hm_buf_bytes(&tbs));
    hm_wr_u16(&b, (uint16_t)s->extensions.len);
    hm_buf_put(&b, s->extensions);
    HM_TRY_OUT(hm_buf_status(&b));
    if (tc_log_signature_verify(k, hm_buf_bytes(&b), s->signature) != HM_OK) {
        err =
            hm_fail(HM_E_SIGNATURE, "the log did not sign the certificate's SCT, for this issuer");
        goto out;
    }
    *out = (tc_logged){.index = s->index,
                       .time_ms = s->time_ms,
                       .leaf = leaf_hash(hm_bytes_of(b.ptr + 2, b.len - 2))};
out:
    hm_buf_free(&tbs);
    hm_buf_free(&b);
    return err;
}

hm_err tc_cert_logged(const X509 *cert, const X509 *issuer, const tc_log_pub *k, tc_logged *out)
{
    tc_sct scts[TC_SCTS_MAX];
    size_t count = 0;
    int at = X509_get_ext_by_NID(cert, NID_ct_precert_scts, -1);
    hm_err err;
    if (at < 0)
        return hm_fail(HM_E_NOTFOUND, "the certificate has no SCT: no log is named in it");
    const ASN1_OCTET_STRING *outer = X509_EXTENSION_get_data(X509_get_ext(cert, at));
    const uint8_t *der = ASN1_STRING_get0_data(outer);
    ASN1_OCTET_STRING *inner = d2i_ASN1_OCTET_STRING(NULL, &der, ASN1_STRING_length(outer));
    ERR_clear_error();
    if (!inner)
        return hm_fail(HM_E_PARSE, "the certificate's list of SCTs is malformed");
    HM_TRY_OUT(
        tc_sct_list(hm_bytes_of(ASN1_STRING_get0_data(inner), (size_t)ASN1_STRING_length(inner)),
                    scts, &count));
    err = HM_E_NOTFOUND;
    for (size_t i = 0; i < count && err == HM_E_NOTFOUND; i++)
        if (hm_hash_eq(&scts[i].log_id, &k->id))
            err = scts[i].has_index ? check_sct(&scts[i], cert, issuer, k, out)
                                    : hm_fail(HM_E_PARSE, "the SCT does not say which entry");
    if (err == HM_E_NOTFOUND)
        err = hm_fail(HM_E_NOTFOUND, "the certificate has SCTs of other logs, not of this one");
out:
    ASN1_OCTET_STRING_free(inner);
    return err;
}
