// A certificate that a foreign root signed, with any common name and any subjectAltName, as a peer
// or a person brings it. First byte: the length of the name, then the name, then the extension's
// bytes. What is believed is looked at here a second time, in another way. The input is tried as a
// zone and as a prefix, too.
#include <stdlib.h>
#include <strings.h>

#include "trustchain/foreign.h"
#include "trustchain/x509.h"

#define NOW UINT64_C(1800000000000)
#define ZONE "b.example"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *key;
static X509 *root;
static hm_buf root_der;
static tc_scope scope;

static void must(bool ok)
{
    if (!ok)
        abort();
}

static X509 *make(const char *cn, X509 *by)
{
    X509 *x = NULL;
    x509_template t = {.cn = cn,
                       .subject_key = key,
                       .issuer = by,
                       .issuer_key = key,
                       .serial = {{0x40}},
                       .not_before_ms = 0,
                       .not_after_ms = UINT64_C(4000000000000),
                       .ca = by == NULL,
                       .path_len = by == NULL ? 1 : 0,
                       .key_usage = by == NULL ? "critical,keyCertSign,cRLSign"
                                               : "critical,digitalSignature"};
    must(x509_cert_make(&t, &x) == HM_OK);
    return x;
}

static void setup(void)
{
    tc_foreign_root r;
    must(hm_crypto_init() == HM_OK && (key = EVP_EC_gen("P-256")) != NULL);
    root = make("root", NULL);
    must(x509_cert_der(root, &root_der) == HM_OK);
    must(tc_foreign_root_verify(hm_buf_bytes(&root_der), NOW, &r) == HM_OK);
    must(tc_scope_parse(ZONE, "2001:db8:b::/48", &scope) == HM_OK);
}

static bool in_zone(const char *s, int len)
{
    int zone = (int)strlen(ZONE);
    return len >= zone && strncasecmp(s + len - zone, ZONE, (size_t)zone) == 0 &&
           (len == zone || s[len - zone - 1] == '.') && memchr(s, 0, (size_t)len) == NULL;
}

static void look_again(X509 *x)
{
    static const uint8_t prefix[] = {0x20, 0x01, 0x0d, 0xb8, 0x00, 0x0b};
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    must(sk_GENERAL_NAME_num(names) > 0);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int type;
        const ASN1_STRING *s = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        const uint8_t *at = ASN1_STRING_get0_data(s);
        must(type == GEN_DNS || type == GEN_IPADD);
        if (type == GEN_DNS)
            must(in_zone((const char *)at, ASN1_STRING_length(s)));
        else
            must(ASN1_STRING_length(s) == 16 && memcmp(at, prefix, sizeof prefix) == 0);
    }
    GENERAL_NAMES_free(names);
    // Nothing that OpenSSL's own look at names takes for another host.
    must(X509_check_host(x, "www.c.example", 0, X509_CHECK_FLAG_ALWAYS_CHECK_SUBJECT, NULL) != 1);
    must(X509_check_host(x, "localhost", 0, 0, NULL) != 1);
}

static void check_text(const char *text)
{
    char prefix[TC_SCOPE_PREFIX_TEXT_MAX];
    for (int i = 0; i < 2; i++) {
        tc_scope s, same;
        if (tc_scope_parse(i ? text : NULL, i ? NULL : text, &s) != HM_OK)
            continue;
        must(tc_scope_parse(s.zone, tc_scope_prefix_text(&s, prefix), &same) == HM_OK);
        must(tc_scope_eq(&s, &same));
        must(i ? strchr(s.zone, '.') != NULL : s.bits >= TC_SCOPE_BITS_MIN);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hm_buf der = {0}, text = {0};
    if (!key)
        setup();
    if (size == 0 || size > 4096)
        return 0;
    size_t cn = data[0] < size - 1 ? data[0] : size - 1;
    hm_buf_append(&text, data + 1, size - 1);
    check_text(hm_buf_cstr(&text));
    X509 *x = make(NULL, root);
    if (cn > 0) // one that OpenSSL does not take is left out
        X509_NAME_add_entry_by_NID(X509_get_subject_name(x), NID_commonName, V_ASN1_UTF8STRING,
                                   data + 1, (int)cn, -1, 0);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    must(value && ASN1_OCTET_STRING_set(value, data + 1 + cn, (int)(size - 1 - cn)) == 1);
    X509_EXTENSION *e = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, cn == 0, value);
    must(e && X509_add_ext(x, e, -1) == 1);
    if (x509_cert_sign(x, key) != HM_OK) // a name that is no UTF-8
        goto out;
    must(x509_cert_der(x, &der) == HM_OK);
    const tc_foreign f = {.root = hm_buf_bytes(&root_der), .scope = scope};
    const tc_foreign_ask ask = {.use = TC_SERVER, .time_ms = NOW};
    const hm_bytes chain = hm_buf_bytes(&der);
    X509 *seen = NULL;
    if (tc_foreign_verify(&f, 1, &chain, 1, &ask, NULL) == HM_OK) {
        must(x509_cert_parse(chain, &seen) == HM_OK);
        look_again(seen);
        X509_free(seen);
    }
out:
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(value);
    X509_free(x);
    hm_buf_free(&der);
    hm_buf_free(&text);
    return 0;
}
