// What a validation must see.
#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdio.h>

#include "trustchain/acme/acme.h"
#include "trustchain/acme/jose.h"
#include "trustchain/x509.h"

#define ACME_IDENTIFIER_OID "1.3.6.1.5.5.7.1.31" // id-pe-acmeIdentifier, RFC 8737, 3

void acme_dns_value(const char *key_auth, char out[44])
{
    hm_hash digest = hm_sha256(hm_bytes_str(key_auth));
    hm_buf text = hm_buf_fixed(out, 43);
    jose_base64(hm_hash_bytes(&digest), &text);
    out[text.len] = 0;
}

bool acme_http_body_is(hm_bytes body, const char *key_auth)
{
    while (body.len && strchr(" \t\r\n", body.ptr[body.len - 1]) && body.ptr[body.len - 1])
        body.len--;
    return hm_bytes_eq(body, hm_bytes_str(key_auth));
}

static bool names_are(X509 *x, const acme_identifier *name)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool good = names && sk_GENERAL_NAME_num(names) == 1;
    if (good) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, 0);
        uint8_t addr[16];
        if (name->type == ACME_DNS)
            good = n->type == GEN_DNS &&
                   ASN1_STRING_length(n->d.dNSName) == (int)strlen(name->value) &&
                   strncasecmp((const char *)ASN1_STRING_get0_data(n->d.dNSName), name->value,
                               strlen(name->value)) == 0;
        else
            good = n->type == GEN_IPADD && ASN1_STRING_length(n->d.iPAddress) == 16 &&
                   inet_pton(AF_INET6, name->value, addr) == 1 &&
                   memcmp(ASN1_STRING_get0_data(n->d.iPAddress), addr, 16) == 0;
    }
    GENERAL_NAMES_free(names);
    return good;
}

// A critical OCTET STRING with the digest of the key authorization.
static bool digest_is(X509 *x, const char *key_auth)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(ACME_IDENTIFIER_OID, 1);
    int at = oid ? X509_get_ext_by_OBJ(x, oid, -1) : -1;
    hm_hash digest = hm_sha256(hm_bytes_str(key_auth));
    bool good = false;
    if (at >= 0 && X509_get_ext_by_OBJ(x, oid, at) < 0) {
        X509_EXTENSION *e = X509_get_ext(x, at);
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(e);
        const uint8_t *p = ASN1_STRING_get0_data(value);
        good = X509_EXTENSION_get_critical(e) == 1 && ASN1_STRING_length(value) == 34 &&
               p[0] == 4 && p[1] == 32 && memcmp(p + 2, digest.b, 32) == 0;
    }
    ASN1_OBJECT_free(oid);
    return good;
}

hm_err acme_alpn_check(hm_bytes cert_der, const acme_identifier *name, const char *key_auth)
{
    X509 *x = NULL;
    hm_err err = HM_OK;
    if (x509_cert_parse(cert_der, &x) != HM_OK)
        return hm_fail(HM_E_CERT_PROFILE, "the server shows no certificate that can be read");
    if (X509_self_signed(x, 1) != 1)
        err = hm_fail(HM_E_CERT_PROFILE, "the server's certificate is not self-signed");
    else if (!names_are(x, name))
        err = hm_fail(HM_E_CERT_PROFILE, "the server's certificate is not for the name alone");
    else if (!digest_is(x, key_auth))
        err = hm_fail(HM_E_CERT_PROFILE, "the server's certificate lacks a critical "
                                         "acmeIdentifier with this challenge's digest");
    X509_free(x);
    ERR_clear_error();
    return err;
}

void acme_alpn_sni(const acme_identifier *name, char out[ACME_NAME_MAX + 1])
{
    uint8_t addr[16];
    if (name->type == ACME_DNS || inet_pton(AF_INET6, name->value, addr) != 1) {
        snprintf(out, ACME_NAME_MAX + 1, "%s", name->value);
        return;
    }
    char *at = out;
    for (int i = 15; i >= 0; i--)
        at += sprintf(at, "%x.%x.", addr[i] & 15, addr[i] >> 4);
    strcpy(at, "ip6.arpa");
}

bool acme_address_ok(const uint8_t addr[16])
{
    static const uint8_t zeros[16];
    bool low = memcmp(addr, zeros, 10) == 0;        // ::, ::1, IPv4 in IPv6
    bool link = addr[0] == 0xfe && addr[1] >= 0x80; // fe80::/10 and the old fec0::/10
    bool nat64 = addr[0] == 0 && addr[1] == 0x64 && addr[2] == 0xff && addr[3] == 0x9b;
    return !low && !link && !nat64 && addr[0] != 0xff;
}
