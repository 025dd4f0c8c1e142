#include "trustchain/foreign.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdio.h>

#include "trustchain/csr.h"
#include "trustchain/x509.h"

#define STRENGTH 2 // of OpenSSL's levels: 112 bits or more in every key and signature

// ---- scopes -------------------------------------------------------------------------------------

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

// Is the name the zone or below it? Both without a last dot.
static bool within(hm_bytes name, const char *zone)
{
    size_t len = strlen(zone);
    if (len == 0 || name.len < len)
        return false;
    const uint8_t *tail = name.ptr + (name.len - len);
    for (size_t i = 0; i < len; i++)
        if (lower(tail[i]) != (uint8_t)zone[i])
            return false;
    return name.len == len || tail[-1] == '.';
}

static bool prefix_has(const uint8_t prefix[16], unsigned bits, const uint8_t addr[16])
{
    for (unsigned i = 0; i < bits; i++)
        if ((prefix[i / 8] ^ addr[i / 8]) >> (7 - i % 8) & 1)
            return false;
    return true;
}

static hm_err zone_parse(const char *text, char zone[TC_SCOPE_ZONE_MAX + 1])
{
    size_t len = strlen(text);
    const char *top;
    if (len > 0 && text[len - 1] == '.')
        len--;
    if (len > TC_SCOPE_ZONE_MAX || !csr_dns_name_ok((const uint8_t *)text, (int)len))
        return hm_fail(HM_E_INVALID, "\"%.80s\" is not a DNS zone", text);
    for (size_t i = 0; i < len; i++)
        zone[i] = (char)lower((uint8_t)text[i]);
    zone[len] = 0;
    top = strrchr(zone, '.');
    if (top == NULL)
        return hm_fail(HM_E_INVALID, "\"%.80s\" is a top-level name, not one organisation's zone",
                       zone);
    if (top[1] < 'a' || top[1] > 'z') // or an IPv4 address would be a name in it
        return hm_fail(HM_E_INVALID,
                       "\"%.80s\" is not a DNS zone: the last label of one begins "
                       "with a letter",
                       zone);
    return HM_OK;
}

// Where an address is one machine's, and its organisation's alone.
static hm_err prefix_check(const char *text, const uint8_t prefix[16], unsigned bits)
{
    static const uint8_t global[16] = {0x20}, local[16] = {0xfc};
    static const uint8_t teredo[16] = {0x20, 0x01}, six_to_four[16] = {0x20, 0x02};
    if (bits < TC_SCOPE_BITS_MIN)
        return hm_fail(HM_E_INVALID, "%.80s is too wide: a prefix has %u bits or more", text,
                       TC_SCOPE_BITS_MIN);
    if (!prefix_has(global, 3, prefix) && !prefix_has(local, 7, prefix))
        return hm_fail(HM_E_INVALID,
                       "%.80s has neither global unicast (2000::/3) nor unique local addresses "
                       "(fc00::/7)",
                       text);
    if (prefix_has(teredo, 32, prefix) || prefix_has(six_to_four, 16, prefix))
        return hm_fail(HM_E_INVALID, "%.80s stands for IPv4 addresses of anybody", text);
    return HM_OK;
}

hm_err tc_scope_parse(const char *zone, const char *prefix, tc_scope *out)
{
    tc_scope s = {0};
    unsigned bits = 0;
    bool has_zone = zone && *zone, has_prefix = prefix && *prefix;
    if (!has_zone && !has_prefix)
        return hm_fail(HM_E_INVALID, "a foreign root is for a DNS zone, an IPv6 prefix or both");
    if (has_zone)
        HM_TRY(zone_parse(zone, s.zone));
    if (has_prefix) {
        if (x509_prefix_parse(prefix, s.prefix, &bits) != HM_OK)
            return hm_fail(HM_E_INVALID, "%s", hm_err_detail());
        HM_TRY(prefix_check(prefix, s.prefix, bits));
        s.bits = (uint8_t)bits;
    }
    *out = s;
    return HM_OK;
}

const char *tc_scope_prefix_text(const tc_scope *s, char out[TC_SCOPE_PREFIX_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN];
    out[0] = 0;
    if (s->bits > 0)
        snprintf(out, TC_SCOPE_PREFIX_TEXT_MAX, "%s/%u",
                 inet_ntop(AF_INET6, s->prefix, host, sizeof host), s->bits);
    return out;
}

bool tc_scope_eq(const tc_scope *a, const tc_scope *b)
{
    return strcmp(a->zone, b->zone) == 0 && a->bits == b->bits &&
           memcmp(a->prefix, b->prefix, sizeof a->prefix) == 0;
}

bool tc_scope_zones_meet(const tc_scope *a, const tc_scope *b)
{
    return within(hm_bytes_str(a->zone), b->zone) || within(hm_bytes_str(b->zone), a->zone);
}

bool tc_scope_prefixes_meet(const tc_scope *a, const tc_scope *b)
{
    unsigned bits = a->bits < b->bits ? a->bits : b->bits;
    return bits > 0 && prefix_has(a->prefix, bits, b->prefix);
}

bool tc_scope_has_name(const tc_scope *s, hm_bytes name)
{
    if (name.len > 2 && name.ptr[0] == '*' && name.ptr[1] == '.')
        name = hm_bytes_of(name.ptr + 2, name.len - 2);
    return name.len <= TC_SCOPE_ZONE_MAX && csr_dns_name_ok(name.ptr, (int)name.len) &&
           within(name, s->zone);
}

bool tc_scope_has_addr(const tc_scope *s, hm_bytes addr)
{
    return addr.len == 16 && s->bits > 0 && prefix_has(s->prefix, s->bits, addr.ptr);
}

// ---- roots --------------------------------------------------------------------------------------

static void root_name(const X509 *x, char *out, size_t size)
{
    bool plain = x509_common_name(X509_get_subject_name(x), out, size) == HM_OK;
    for (const char *c = out; plain && *c; c++)
        plain = (unsigned char)*c >= ' ' && *c != 0x7f;
    if (!plain && X509_NAME_oneline(X509_get_subject_name(x), out, (int)size) == NULL)
        snprintf(out, size, "?");
}

static hm_err root_facts(const X509 *x, tc_foreign_root *out)
{
    uint8_t *spki = NULL;
    tc_foreign_root r;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki);
    if (len <= 0)
        return hm_crypto_fail(HM_E_PARSE, "the certificate's key");
    r.key_id = hm_sha256(hm_bytes_of(spki, (size_t)len));
    OPENSSL_free(spki);
    root_name(x, r.name, sizeof r.name);
    HM_TRY(x509_time_ms(X509_get0_notBefore(x), &r.not_before_ms));
    HM_TRY(x509_time_ms(X509_get0_notAfter(x), &r.not_after_ms));
    *out = r;
    return HM_OK;
}

hm_err tc_foreign_root_read(hm_bytes der, tc_foreign_root *out)
{
    X509 *x = NULL;
    HM_TRY(x509_cert_parse(der, &x));
    hm_err err = root_facts(x, out);
    ERR_clear_error();
    X509_free(x);
    return err;
}

static hm_err root_profile(X509 *x)
{
    EVP_PKEY *key = X509_get0_pubkey(x);
    if (X509_check_ca(x) != 1)
        return hm_fail(HM_E_CERT_PROFILE, "it is no certificate of an authority (CA)");
    if (!(X509_get_extension_flags(x) & EXFLAG_KUSAGE) ||
        !(X509_get_key_usage(x) & KU_KEY_CERT_SIGN))
        return hm_fail(HM_E_CERT_PROFILE, "its key does not sign certificates (key usage)");
    if (!key || !(EVP_PKEY_is_a(key, HM_FALCON_NAME) || x509_key_is_ec(key, "prime256v1") ||
                  x509_key_is_ec(key, "secp384r1")))
        return hm_fail(HM_E_CERT_PROFILE,
                       "a foreign root has a FALCON-1024, ECDSA P-256 or ECDSA P-384 key");
    if (X509_check_issued(x, x) != X509_V_OK)
        return hm_fail(HM_E_CERT_PROFILE, "it is no root: another authority signed it");
    if (X509_verify(x, key) != 1)
        return hm_crypto_fail(HM_E_CERT_UNTRUSTED, "its signature is not by its own key");
    return HM_OK;
}

hm_err tc_foreign_root_verify(hm_bytes der, uint64_t time_ms, tc_foreign_root *out)
{
    hm_err err;
    X509 *x = NULL;
    const x509_path_rules rules = {.time_ms = time_ms, .level = STRENGTH, .leaf = "the root"};
    HM_TRY_OUT(x509_cert_parse(der, &x));
    HM_TRY_OUT(root_profile(x));
    HM_TRY_OUT(x509_path_check(x, NULL, x, &rules, NULL));
    err = root_facts(x, out);
out:
    ERR_clear_error();
    X509_free(x);
    return err;
}

// ---- names --------------------------------------------------------------------------------------

static hm_bytes string_of(const ASN1_STRING *s)
{
    return hm_bytes_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

static hm_err outside(const char *what, hm_bytes name)
{
    char shown[80];
    size_t n = 0;
    for (; n < name.len && n < sizeof shown - 1; n++)
        shown[n] = name.ptr[n] > ' ' && name.ptr[n] < 0x7f ? (char)name.ptr[n] : '?';
    shown[n] = 0;
    return hm_fail(HM_E_CERT_PROFILE, "%s %s is not in the zone that its root is believed for",
                   what, shown);
}

// One of subjectAltName.
static hm_err alt_name_check(const GENERAL_NAME *n, const tc_scope *scope)
{
    char text[INET6_ADDRSTRLEN] = "?";
    hm_bytes s;
    switch (n->type) {
    case GEN_DNS:
        s = string_of(n->d.dNSName);
        return tc_scope_has_name(scope, s) ? HM_OK : outside("the name", s);
    case GEN_IPADD:
        s = string_of(n->d.iPAddress);
        if (tc_scope_has_addr(scope, s))
            return HM_OK;
        if (s.len == 16 || s.len == 4)
            inet_ntop(s.len == 16 ? AF_INET6 : AF_INET, s.ptr, text, sizeof text);
        return hm_fail(HM_E_CERT_PROFILE,
                       "the address %s is not in the prefix that its root is believed for", text);
    default:
        return hm_fail(HM_E_CERT_PROFILE, "a certificate names something that is neither a DNS "
                                          "name nor an address");
    }
}

// What programs may read as a host name: letters, digits, "-", "_", "*" and dots.
static bool looks_like_name(hm_bytes s, bool *dots)
{
    *dots = false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = lower(s.ptr[i]);
        *dots = *dots || c == '.';
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              c == '*' || c == '.'))
            return false;
    }
    return s.len > 0;
}

// alone: no DNS name says whose the certificate is, so that one label may be taken for a host.
static hm_err common_name_check(hm_bytes cn, const tc_scope *scope, bool alone)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t addr[16];
    bool dots;
    if (memchr(cn.ptr, 0, cn.len))
        return hm_fail(HM_E_CERT_PROFILE, "a common name has a zero byte in it");
    if (cn.len > 0 && cn.len < sizeof text) {
        snprintf(text, sizeof text, "%.*s", (int)cn.len, (const char *)cn.ptr);
        if (inet_pton(AF_INET6, text, addr) == 1)
            return tc_scope_has_addr(scope, hm_bytes_of(addr, 16)) ? HM_OK
                                                                   : outside("the common name", cn);
    }
    if (!looks_like_name(cn, &dots) || (!dots && !alone) || tc_scope_has_name(scope, cn))
        return HM_OK;
    return outside("the common name", cn);
}

static hm_err subject_check(const X509_NAME *subject, const tc_scope *scope, bool alone)
{
    for (int i = 0; i < X509_NAME_entry_count(subject); i++) {
        const X509_NAME_ENTRY *e = X509_NAME_get_entry(subject, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(e)), len;
        uint8_t *utf8 = NULL;
        if (nid == NID_pkcs9_emailAddress)
            return hm_fail(HM_E_CERT_PROFILE, "a certificate names an e-mail address");
        if (nid != NID_commonName)
            continue;
        len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(e));
        hm_err err = len < 0 ? hm_crypto_fail(HM_E_CERT_PROFILE, "a common name")
                             : common_name_check(hm_bytes_of(utf8, (size_t)len), scope, alone);
        OPENSSL_free(utf8);
        HM_TRY(err);
    }
    return HM_OK;
}

static hm_err names_check(const X509 *x, const tc_scope *scope, bool leaf)
{
    int critical = -1, count;
    bool dns = false;
    hm_err err = HM_OK;
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, &critical, NULL);
    if (!names && critical != -1) // -1: there is none
        return hm_crypto_fail(HM_E_CERT_PROFILE, "the names of a certificate cannot be read");
    count = sk_GENERAL_NAME_num(names); // -1 for NULL
    for (int i = 0; err == HM_OK && i < count; i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
        dns = dns || n->type == GEN_DNS;
        err = alt_name_check(n, scope);
    }
    GENERAL_NAMES_free(names);
    HM_TRY(err);
    if (leaf && count <= 0)
        return hm_fail(HM_E_CERT_PROFILE, "the certificate has neither a DNS name nor an "
                                          "address, so that nothing says whose it is");
    return subject_check(X509_get_subject_name(x), scope, leaf && !dns);
}

// ---- a chain ------------------------------------------------------------------------------------

static hm_err chain_parse(const hm_bytes *chain, size_t count, X509 **leaf, STACK_OF(X509) * more)
{
    if (count == 0 || count > TC_FOREIGN_CHAIN_MAX)
        return hm_fail(HM_E_PARSE, "a chain has 1 to %u certificates, this has %zu",
                       TC_FOREIGN_CHAIN_MAX, count);
    HM_TRY(x509_cert_parse(chain[0], leaf));
    for (size_t i = 1; i < count; i++) {
        X509 *x = NULL;
        HM_TRY(x509_cert_parse(chain[i], &x));
        if (!sk_X509_push(more, x)) {
            X509_free(x);
            return HM_E_NOMEM;
        }
    }
    return HM_OK;
}

// The others than the leaf are borrowed.
static hm_err verify_under(const tc_foreign *f, X509 *leaf, STACK_OF(X509) * more,
                           const tc_foreign_ask *ask)
{
    hm_err err;
    X509 *root = NULL;
    STACK_OF(X509) *path = NULL;
    const x509_path_rules rules = {
        .time_ms = ask->time_ms,
        .depth = TC_FOREIGN_CHAIN_MAX - 1,
        .level = STRENGTH,
        .purpose = ask->use == TC_CLIENT ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER,
        .host = ask->host,
        .leaf = "the certificate itself",
    };
    HM_TRY_OUT(x509_cert_parse(f->root, &root));
    HM_TRY_OUT(x509_path_check(leaf, more, root, &rules, &path));
    if (X509_check_ca(leaf) != 0) {
        err = hm_fail(HM_E_CERT_PROFILE, "it is a certificate of an authority, which is none of a "
                                         "server or a client");
        goto out;
    }
    for (int i = 0; err == HM_OK && i < sk_X509_num(path) - 1; i++)
        err = names_check(sk_X509_value(path, i), &f->scope, i == 0);
out:
    ERR_clear_error();
    sk_X509_pop_free(path, X509_free);
    X509_free(root);
    return err;
}

hm_err tc_foreign_verify(const tc_foreign *roots, size_t root_count, const hm_bytes *chain,
                         size_t count, const tc_foreign_ask *ask, size_t *by)
{
    char why[300] = "no root of another organisation is believed";
    hm_err err, said = HM_E_CERT_UNTRUSTED;
    X509 *leaf = NULL;
    STACK_OF(X509) *more = sk_X509_new_null();
    hm_assert(ask->use == TC_SERVER || ask->use == TC_CLIENT);
    if (!more)
        return HM_E_NOMEM;
    err = chain_parse(chain, count, &leaf, more);
    for (size_t i = 0; err == HM_OK && i < root_count; i++) {
        hm_err one = verify_under(&roots[i], leaf, more, ask);
        if (one == HM_OK) {
            if (by)
                *by = i;
            goto out;
        }
        // "Not signed by this one" says least.
        if (i == 0 || (said == HM_E_CERT_UNTRUSTED && one != HM_E_CERT_UNTRUSTED)) {
            said = one;
            snprintf(why, sizeof why, "%s", hm_err_detail());
        }
    }
    if (err == HM_OK)
        err = hm_fail(said, "%s", why);
out:
    sk_X509_pop_free(more, X509_free);
    X509_free(leaf);
    return err;
}
