// Another organisation's root: what it may be, what scopes are, and that it vouches for nothing
// else, whatever it signs.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "ok.h"
#include "trustchain/authority.h"
#include "trustchain/foreign.h"

#define NOW UINT64_C(1800000000000)

// ---- certificates -------------------------------------------------------------------------------

typedef struct ca {
    EVP_PKEY *key;
    X509 *cert;
} ca;

static ca root, issuing, other;
static EVP_PKEY *leaf_key;
static tc_scope scope, other_scope;

typedef struct like {
    const char *cn;  // NULL: none
    const char *alt; // subjectAltName in OpenSSL's words; NULL: none
    bool ca;
    const char *key_usage, *ext_key_usage;
    uint64_t not_before_ms, not_after_ms; // 0: around NOW
    const char *email;                    // in the subject
    const char *second_cn;
    int cn_len;         // of a common name with bytes of its own; 0: as text
    EVP_PKEY *signer;   // another than the issuer's
    EVP_PKEY *key;      // another than leaf_key
    const char *extra;  // a critical extension, as DER text for OID 1.2.3.4
    const char *policy; // nameConstraints
} like;

static GENERAL_NAMES *names_of(const char *text)
{
    X509V3_CTX v3;
    X509V3_set_ctx_nodb(&v3);
    X509_EXTENSION *e = X509V3_EXT_nconf_nid(NULL, &v3, NID_subject_alt_name, text);
    assert_non_null(e);
    GENERAL_NAMES *names = X509V3_EXT_d2i(e);
    X509_EXTENSION_free(e);
    return names;
}

static X509 *make(const ca *by, const like *l)
{
    X509 *x = NULL;
    GENERAL_NAMES *names = l->alt ? names_of(l->alt) : NULL;
    EVP_PKEY *key = l->key ? l->key : leaf_key, *signer = by ? by->key : key;
    x509_template t = {.cn = l->cn_len ? NULL : l->cn,
                       .subject_key = key,
                       .issuer = by ? by->cert : NULL,
                       .issuer_key = l->signer ? l->signer : signer,
                       .serial = {{0x40}},
                       .not_before_ms = l->not_before_ms ? l->not_before_ms : NOW - TC_DAY_MS,
                       .not_after_ms = l->not_after_ms ? l->not_after_ms : NOW + TC_DAY_MS,
                       .ca = l->ca,
                       .path_len = l->ca ? 2 : 0,
                       .names = names,
                       .name_constraints = l->policy,
                       .key_usage = l->key_usage ? l->key_usage
                                    : l->ca      ? "critical,keyCertSign,cRLSign"
                                                 : "critical,digitalSignature",
                       .ext_key_usage = l->ext_key_usage};
    OK(x509_cert_make(&t, &x));
    X509_NAME *subject = X509_get_subject_name(x);
    if (l->cn_len)
        X509_NAME_add_entry_by_NID(subject, NID_commonName, V_ASN1_UTF8STRING,
                                   (const uint8_t *)l->cn, l->cn_len, -1, 0);
    if (l->second_cn)
        X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC,
                                   (const uint8_t *)l->second_cn, -1, -1, 0);
    if (l->email)
        X509_NAME_add_entry_by_NID(subject, NID_pkcs9_emailAddress, MBSTRING_ASC,
                                   (const uint8_t *)l->email, -1, -1, 0);
    if (l->extra) {
        ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
        ASN1_OBJECT *oid = OBJ_txt2obj("1.2.3.4", 1);
        ASN1_OCTET_STRING_set(s, (const uint8_t *)l->extra, (int)strlen(l->extra));
        X509_EXTENSION *e = X509_EXTENSION_create_by_OBJ(NULL, oid, 1, s);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
        ASN1_OBJECT_free(oid);
        ASN1_OCTET_STRING_free(s);
    }
    if (l->cn_len || l->second_cn || l->email || l->extra)
        OK(x509_cert_sign(x, t.issuer_key));
    GENERAL_NAMES_free(names);
    return x;
}

static void der_of(const X509 *x, hm_buf *der)
{
    hm_buf_reset(der);
    OK(x509_cert_der(x, der));
}

#define CHAIN 8
// Of a chain, the leaf first, NULL at the end, under both roots.
static hm_err ask_as(X509 *const chain[], const tc_foreign_ask *ask, size_t *by)
{
    hm_buf der[CHAIN] = {0}, roots[2] = {0};
    hm_bytes bytes[CHAIN];
    size_t n = 0;
    for (; chain[n]; n++) {
        der_of(chain[n], &der[n]);
        bytes[n] = hm_buf_bytes(&der[n]);
    }
    der_of(root.cert, &roots[0]);
    der_of(other.cert, &roots[1]);
    const tc_foreign believed[] = {{hm_buf_bytes(&roots[0]), scope},
                                   {hm_buf_bytes(&roots[1]), other_scope}};
    hm_err err = tc_foreign_verify(believed, 2, bytes, n, ask, by);
    for (size_t i = 0; i < n; i++)
        hm_buf_free(&der[i]);
    hm_buf_free(&roots[0]);
    hm_buf_free(&roots[1]);
    return err;
}

static hm_err ask(X509 *const chain[])
{
    const tc_foreign_ask as_server = {.use = TC_SERVER, .time_ms = NOW};
    return ask_as(chain, &as_server, NULL);
}

// A leaf that the issuing CA of the root signs.
static hm_err verdict(const like *l)
{
    X509 *x = make(&issuing, l);
    hm_err err = ask((X509 *const[]){x, issuing.cert, NULL});
    X509_free(x);
    return err;
}

static int setup(void **state)
{
    (void)state;
    if (hm_crypto_init() != HM_OK || !(leaf_key = EVP_EC_gen("P-256")))
        return -1;
    root.key = EVP_EC_gen("P-384");
    other.key = EVP_EC_gen("P-256");
    issuing.key = EVP_EC_gen("P-256");
    root.cert = make(NULL, &(like){.cn = "b root", .ca = true, .key = root.key});
    other.cert = make(NULL, &(like){.cn = "c root", .ca = true, .key = other.key});
    issuing.cert = make(&root, &(like){.cn = "b issuing", .ca = true, .key = issuing.key});
    OK(tc_scope_parse("b.example", "2001:db8:b::/48", &scope));
    OK(tc_scope_parse("c.example", NULL, &other_scope));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ca *all[] = {&root, &issuing, &other};
    for (size_t i = 0; i < 3; i++) {
        EVP_PKEY_free(all[i]->key);
        X509_free(all[i]->cert);
    }
    EVP_PKEY_free(leaf_key);
    return 0;
}

// ---- scopes -------------------------------------------------------------------------------------

static void scopes_are_one_organisations(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"b.example", ""},
        {"B.Example.", ""},
        {"x.y.b.example", "2001:db8::/32"},
        {"b2.internal", ""},
        {"", "fd12:3456:789a::/48"},
        {"", "2001:db8::1/128"},
        {"xn--bcher-kva.example", "2001:db8:1::/48"},
        {"", "2001:db8::1"},
    };
    static const char *const bad[][2] = {
        {"", ""},
        {"internal", ""}, // everybody's
        {".", ""},
        {"example.", ""},
        {"b..example", ""},
        {".b.example", ""},
        {"*.b.example", ""},
        {"-b.example", ""},
        {"b_c.example", ""},
        {"b.example..", ""},
        {"b\xc3\xbc.example", ""},
        {"192.0.2", ""}, // a name that programs read as an address
        {"b.0x1f", ""},
        {"b.example", "2001:db8::/31"}, // too wide
        {"", "::/0"},
        {"", "2000::/3"},
        {"", "fd48:4d00:1::/32"}, // bits beyond
        {"", "::1/128"},
        {"", "::ffff:192.0.2.0/120"},
        {"", "64:ff9b::/96"},
        {"", "fe80::/64"},
        {"", "ff02::/64"},
        {"", "2002:c000:200::/40"},
        {"", "2001:0:1::/48"},
        {"", "192.0.2.0/24"},
        {"", "2001:db8::/129"},
        {"", "2001:db8::/48x"},
        {"", "2001:db8::/"},
        {"", "/48"},
    };
    char long_zone[300];
    tc_scope s, same;
    char text[TC_SCOPE_PREFIX_TEXT_MAX];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        OK(tc_scope_parse(good[i][0], good[i][1], &s));
        OK(tc_scope_parse(s.zone, tc_scope_prefix_text(&s, text), &same));
        assert_true(tc_scope_eq(&s, &same));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (tc_scope_parse(bad[i][0], bad[i][1], &s) != HM_E_INVALID)
            fail_msg("taken: \"%s\" \"%s\"", bad[i][0], bad[i][1]);
    memset(long_zone, 'a', sizeof long_zone);
    for (size_t i = 50; i < 253; i += 50)
        long_zone[i] = '.';
    long_zone[254] = 0;
    assert_int_equal(tc_scope_parse(long_zone, NULL, &s), HM_E_INVALID);
    long_zone[253] = 0;
    OK(tc_scope_parse(long_zone, NULL, &s));

    OK(tc_scope_of_mesh("dev", &s));
    assert_string_equal(s.zone, "dev.internal");
    assert_string_equal(tc_scope_prefix_text(&s, text), "fd48:4d00::/32");
}

static void scopes_meet(void **state)
{
    (void)state;
    const struct {
        const char *a_zone, *a_prefix, *b_zone, *b_prefix;
        bool zones, prefixes;
    } cases[] = {
        {"b.example", NULL, "b.example", NULL, true, false},
        {"b.example", NULL, "x.b.example", NULL, true, false},
        {"b.example", NULL, "xb.example", NULL, false, false},
        {"b.example", NULL, "c.example", NULL, false, false},
        {"b.example", NULL, NULL, "2001:db8::/32", false, false},
        {NULL, "2001:db8:1::/48", NULL, "2001:db8::/32", false, true},
        {NULL, "2001:db8:1::/48", NULL, "2001:db8:1::/48", false, true},
        {NULL, "2001:db8:1::/48", NULL, "2001:db8:2::/48", false, false},
        {NULL, "2001:db8:1::/48", NULL, "2001:db8:1:8000::/49", false, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tc_scope a, b;
        OK(tc_scope_parse(cases[i].a_zone, cases[i].a_prefix, &a));
        OK(tc_scope_parse(cases[i].b_zone, cases[i].b_prefix, &b));
        assert_int_equal(tc_scope_zones_meet(&a, &b), cases[i].zones);
        assert_int_equal(tc_scope_zones_meet(&b, &a), cases[i].zones);
        assert_int_equal(tc_scope_prefixes_meet(&a, &b), cases[i].prefixes);
        assert_int_equal(tc_scope_prefixes_meet(&b, &a), cases[i].prefixes);
    }
}

// ---- roots --------------------------------------------------------------------------------------

static hm_err root_verdict(const like *l, const ca *by)
{
    hm_buf der = {0};
    tc_foreign_root r;
    X509 *x = make(by, l);
    der_of(x, &der);
    hm_err err = tc_foreign_root_verify(hm_buf_bytes(&der), NOW, &r);
    if (err == HM_OK) {
        tc_foreign_root again;
        OK(tc_foreign_root_read(hm_buf_bytes(&der), &again));
        assert_memory_equal(r.key_id.b, again.key_id.b, 32);
        assert_string_equal(r.name, l->cn ? l->cn : "");
    }
    hm_buf_free(&der);
    X509_free(x);
    return err;
}

static void roots_are_roots(void **state)
{
    (void)state;
    hm_key *falcon = NULL;
    EVP_PKEY *rsa = EVP_RSA_gen(2048), *p521 = EVP_EC_gen("P-521");
    tc_foreign_root r;
    hm_node_id id;
    OK(hm_key_generate(&falcon));
    assert_int_equal(root_verdict(&(like){.cn = "r", .ca = true}, NULL), HM_OK);
    assert_int_equal(root_verdict(&(like){.cn = "r", .ca = true, .key = root.key}, NULL), HM_OK);
    assert_int_equal(root_verdict(&(like){.cn = "r", .ca = true, .key = hm_key_evp(falcon)}, NULL),
                     HM_OK);
    const struct {
        like l;
        const ca *by;
        hm_err want;
    } bad[] = {
        {{.cn = "r"}, NULL, HM_E_CERT_PROFILE}, // no CA
        {{.cn = "r", .ca = true, .key_usage = "critical,cRLSign"}, NULL, HM_E_CERT_PROFILE},
        {{.cn = "r", .ca = true, .key = rsa}, NULL, HM_E_CERT_PROFILE},
        {{.cn = "r", .ca = true, .key = p521}, NULL, HM_E_CERT_PROFILE},
        {{.cn = "r", .ca = true}, &root, HM_E_CERT_PROFILE}, // signed by another
        // Its own name as that of its issuer, and another's signature.
        {{.cn = "r", .ca = true, .signer = other.key}, NULL, HM_E_CERT_UNTRUSTED},
        {{.cn = "b root", .ca = true}, &root, HM_E_CERT_PROFILE},
        {{.cn = "r", .ca = true, .not_before_ms = NOW + 1000}, NULL, HM_E_CERT_EXPIRED},
        {{.cn = "r", .ca = true, .not_after_ms = NOW - 1000}, NULL, HM_E_CERT_EXPIRED},
        {{.cn = "r", .ca = true, .extra = "\x05"}, NULL, HM_E_CERT_UNTRUSTED}, // unknown, critical
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hm_err got = root_verdict(&bad[i].l, bad[i].by);
        if (got != bad[i].want)
            fail_msg("case %zu: %s (%s)", i, hm_err_name(got), hm_err_detail());
    }
    assert_int_equal(tc_foreign_root_verify(hm_bytes_str("none"), NOW, &r), HM_E_PARSE);
    assert_int_equal(tc_foreign_root_verify((hm_bytes){0}, NOW, &r), HM_E_PARSE);

    // Its id is what a node of that key would be called, and an authority.
    hm_buf der = {0};
    X509 *x = make(NULL, &(like){.cn = "line\nbreak", .ca = true, .key = hm_key_evp(falcon)});
    der_of(x, &der);
    OK(tc_foreign_root_read(hm_buf_bytes(&der), &r));
    OK(hm_node_id_of_public(hm_key_public(falcon), &id));
    assert_memory_equal(r.key_id.b, id.b, 32);
    assert_null(strchr(r.name, '\n')); // nothing that a terminal obeys
    hm_buf_free(&der);
    X509_free(x);
    hm_key_free(falcon);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(p521);
}

// ---- names --------------------------------------------------------------------------------------

static void names_in_the_scope_are_believed(void **state)
{
    (void)state;
    static const like good[] = {
        {.alt = "DNS:www.b.example"},
        {.alt = "DNS:b.example"},
        {.alt = "DNS:WWW.B.EXAMPLE"},
        {.alt = "DNS:*.b.example"},
        {.alt = "DNS:*.x.b.example,DNS:y.b.example"},
        {.alt = "IP:2001:db8:b::1"},
        {.alt = "IP:2001:db8:b:ffff:ffff:ffff:ffff:ffff,DNS:www.b.example"},
        {.cn = "www", .alt = "DNS:www.b.example"},
        {.cn = "www.b.example", .alt = "DNS:www.b.example"},
        {.cn = "The web server", .alt = "IP:2001:db8:b::1"},
        {.cn = "2001:db8:b::1", .alt = "IP:2001:db8:b::1"},
        {.alt = "DNS:www.b.example", .ext_key_usage = "serverAuth,clientAuth"},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (verdict(&good[i]) != HM_OK)
            fail_msg("refused: %s %s: %s", good[i].cn ? good[i].cn : "-", good[i].alt,
                     hm_err_detail());
}

static void names_out_of_the_scope_are_not(void **state)
{
    (void)state;
    static const like bad[] = {
        {.alt = "DNS:www.dev.internal"},                // ours
        {.alt = "DNS:www.c.example"},                   // the other's
        {.alt = "DNS:www.b.example,DNS:www.c.example"}, // one of two
        {.alt = "DNS:evilb.example"},
        {.alt = "DNS:b.example.evil.org"},
        {.alt = "DNS:example"},
        {.alt = "DNS:*.example"},
        {.alt = "DNS:*"},
        {.alt = "DNS:w*.b.example"},
        {.alt = "DNS:*.*.b.example"},
        {.alt = "DNS:www.*.b.example"},
        {.alt = "DNS:.b.example"},
        {.alt = "DNS:www.b.example."},
        {.alt = "DNS:www..b.example"},
        {.alt = "DNS:www.b.example/x.c.example"},
        {.alt = "DNS:localhost"},
        {.alt = "IP:2001:db8:c::1"},
        {.alt = "IP:192.0.2.1"},
        {.alt = "IP:::ffff:192.0.2.1"},
        {.alt = "IP:::1"},
        {.alt = "IP:2001:db8:b::1,IP:192.0.2.1"},
        {.alt = "URI:https://www.b.example/"},
        {.alt = "URI:hypermesh:node:00,DNS:www.b.example"},
        {.alt = "email:me@b.example"},
        {.alt = "RID:1.2.3.4,DNS:www.b.example"},
        {.alt = "otherName:1.2.3.4;UTF8:x,DNS:www.b.example"},
        {.cn = "www.b.example"}, // no names but the subject's
        {.cn = "alice"},
        {.cn = "www.c.example", .alt = "DNS:www.b.example"},
        {.cn = "www.c.example.", .alt = "DNS:www.b.example"},
        {.cn = "*.c.example", .alt = "DNS:www.b.example"},
        {.cn = "www_1.c.example", .alt = "DNS:www.b.example"},
        {.cn = "www", .alt = "DNS:www.b.example", .second_cn = "www.c.example"},
        {.cn = "localhost", .alt = "IP:2001:db8:b::1"}, // a host's, where no DNS name is
        {.cn = "::1", .alt = "DNS:www.b.example"},
        {.cn = "192.0.2.1", .alt = "DNS:www.b.example"},
        {.cn = "www.c.example\0.b.example", .cn_len = 24, .alt = "DNS:www.b.example"},
        {.cn = "www", .alt = "DNS:www.b.example", .email = "root@c.example"},
        {.cn = "ca", .alt = "DNS:www.b.example", .ca = true},
        {.alt = "DNS:www.b.example", .ext_key_usage = "clientAuth"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hm_err got = verdict(&bad[i]);
        if (got != HM_E_CERT_PROFILE)
            fail_msg("case %zu, %s %s: %s", i, bad[i].cn ? bad[i].cn : "-",
                     bad[i].alt ? bad[i].alt : "-", hm_err_name(got));
    }
    // A zero byte in a DNS name.
    X509 *x = make(&issuing, &(like){.cn = "x"});
    GENERAL_NAMES *names = names_of("DNS:www.b.example");
    ASN1_STRING_set(sk_GENERAL_NAME_value(names, 0)->d.dNSName, "www.c.example\0.b.example", 24);
    assert_int_equal(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0), 1);
    OK(x509_cert_sign(x, issuing.key));
    assert_int_equal(ask((X509 *const[]){x, issuing.cert, NULL}), HM_E_CERT_PROFILE);
    GENERAL_NAMES_free(names);
    X509_free(x);
    // subjectAltName that is none.
    x = make(&issuing, &(like){.cn = "x"});
    names = GENERAL_NAMES_new();
    assert_int_equal(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, 0), 1);
    OK(x509_cert_sign(x, issuing.key));
    assert_int_not_equal(ask((X509 *const[]){x, issuing.cert, NULL}), HM_OK);
    GENERAL_NAMES_free(names);
    X509_free(x);
}

// Without a zone no DNS name is believed, without a prefix no address.
static void half_a_scope(void **state)
{
    (void)state;
    X509 *x = make(&other, &(like){.alt = "DNS:www.c.example"});
    X509 *y = make(&other, &(like){.alt = "IP:2001:db8:c::1"});
    size_t by = 0;
    OK(ask_as((X509 *const[]){x, NULL}, &(tc_foreign_ask){.use = TC_SERVER, .time_ms = NOW}, &by));
    assert_int_equal(by, 1);
    assert_int_equal(ask((X509 *const[]){y, NULL}), HM_E_CERT_PROFILE);
    X509_free(x);
    X509_free(y);
}

// ---- chains -------------------------------------------------------------------------------------

static void chains_reach_their_own_root(void **state)
{
    (void)state;
    const like www = {.alt = "DNS:www.b.example"};
    EVP_PKEY *weak = EVP_RSA_gen(1024);
    ca evil = {.key = EVP_EC_gen("P-256")}, mid = {.key = EVP_EC_gen("P-256")}, low = {.key = weak};
    evil.cert = make(NULL, &(like){.cn = "b root", .ca = true, .key = evil.key}); // by its name
    X509 *good = make(&issuing, &www), *by_root = make(&root, &www);
    X509 *by_other = make(&other, &www), *by_evil = make(&evil, &www);
    X509 *x;
    OK(ask((X509 *const[]){good, issuing.cert, NULL}));
    OK(ask((X509 *const[]){by_root, NULL}));
    OK(ask((X509 *const[]){good, issuing.cert, root.cert, NULL}));
    OK(ask((X509 *const[]){good, other.cert, evil.cert, issuing.cert, NULL})); // more than needed
    assert_int_equal(ask((X509 *const[]){good, NULL}), HM_E_CERT_UNTRUSTED);
    assert_int_equal(ask((X509 *const[]){by_evil, evil.cert, NULL}), HM_E_CERT_UNTRUSTED);
    assert_int_equal(ask((X509 *const[]){by_evil, NULL}), HM_E_CERT_UNTRUSTED);
    // The other's root vouches for b's names.
    assert_int_equal(ask((X509 *const[]){by_other, NULL}), HM_E_CERT_PROFILE);
    // A root as a leaf, and as one of another's.
    assert_int_equal(ask((X509 *const[]){root.cert, NULL}), HM_E_CERT_PROFILE);
    assert_int_equal(ask((X509 *const[]){NULL}), HM_E_PARSE);
    assert_int_equal(ask((X509 *const[]){good, good, good, good, good, good, NULL}), HM_E_PARSE);

    // Names of CAs count as those of leaves do.
    const like cas[] = {{.cn = "ca.c.example", .ca = true, .key = mid.key},
                        {.cn = "ca", .alt = "DNS:ca.c.example", .ca = true, .key = mid.key},
                        {.cn = "ca", .alt = "URI:x:y", .ca = true, .key = mid.key},
                        {.cn = "ca", .email = "a@b.example", .ca = true, .key = mid.key}};
    for (size_t i = 0; i < sizeof cas / sizeof cas[0]; i++) {
        mid.cert = make(&root, &cas[i]);
        x = make(&mid, &www);
        assert_int_equal(ask((X509 *const[]){x, mid.cert, NULL}), HM_E_CERT_PROFILE);
        X509_free(x);
        X509_free(mid.cert);
    }
    // Nor does a self-issued CA go free, to which name constraints do not apply (RFC 5280, 6.1.4).
    mid.cert =
        make(&root, &(like){.cn = "b root", .alt = "DNS:c.example", .ca = true, .key = mid.key});
    x = make(&mid, &www);
    assert_int_equal(ask((X509 *const[]){x, mid.cert, NULL}), HM_E_CERT_PROFILE);
    X509_free(x);
    X509_free(mid.cert);
    // A CA with names of the scope is one.
    mid.cert =
        make(&root, &(like){.cn = "ca", .alt = "DNS:ca.b.example", .ca = true, .key = mid.key});
    x = make(&mid, &www);
    OK(ask((X509 *const[]){x, mid.cert, NULL}));
    X509_free(x);
    X509_free(mid.cert);
    // Name constraints of a CA itself hold, too.
    mid.cert = make(&root, &(like){.cn = "ca",
                                   .ca = true,
                                   .key = mid.key,
                                   .policy = "critical,permitted;DNS:x.b.example"});
    x = make(&mid, &www);
    assert_int_equal(ask((X509 *const[]){x, mid.cert, NULL}), HM_E_CERT_UNTRUSTED);
    X509_free(x);
    X509_free(mid.cert);
    // A leaf that signs.
    mid.cert = make(&root, &(like){.alt = "DNS:mid.b.example", .key = mid.key});
    x = make(&mid, &www);
    assert_int_not_equal(ask((X509 *const[]){x, mid.cert, NULL}), HM_OK);
    X509_free(x);
    X509_free(mid.cert);
    // Keys of less than 112 bits.
    low.cert = make(&root, &(like){.cn = "low", .ca = true, .key = weak});
    x = make(&low, &www);
    assert_int_not_equal(ask((X509 *const[]){x, low.cert, NULL}), HM_OK);
    X509_free(x);
    X509_free(low.cert);
    // Another signature, other times.
    assert_int_equal(verdict(&(like){.alt = "DNS:www.b.example", .signer = other.key}),
                     HM_E_CERT_UNTRUSTED);
    assert_int_equal(verdict(&(like){.alt = "DNS:www.b.example", .not_after_ms = NOW - 1000}),
                     HM_E_CERT_EXPIRED);
    assert_int_equal(verdict(&(like){.alt = "DNS:www.b.example", .extra = "\x05"}),
                     HM_E_CERT_UNTRUSTED);
    // No root is believed.
    hm_buf der = {0};
    der_of(by_root, &der);
    const hm_bytes one = hm_buf_bytes(&der);
    assert_int_equal(tc_foreign_verify(NULL, 0, &one, 1,
                                       &(tc_foreign_ask){.use = TC_SERVER, .time_ms = NOW}, NULL),
                     HM_E_CERT_UNTRUSTED);
    hm_buf_free(&der);
    X509 *all[] = {good, by_root, by_other, by_evil, evil.cert};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        X509_free(all[i]);
    EVP_PKEY_free(evil.key);
    EVP_PKEY_free(mid.key);
    EVP_PKEY_free(weak);
}

static void uses_and_hosts(void **state)
{
    (void)state;
    X509 *x = make(&issuing, &(like){.cn = "other",
                                     .alt = "DNS:*.b.example,IP:2001:db8:b::1",
                                     .ext_key_usage = "serverAuth"});
    X509 *y = make(&issuing, &(like){.alt = "DNS:me.b.example", .ext_key_usage = "clientAuth"});
    X509 *const server[] = {x, issuing.cert, NULL}, *const client[] = {y, issuing.cert, NULL};
    const struct {
        X509 *const *chain;
        tc_foreign_ask ask;
        hm_err want;
    } cases[] = {
        {server, {TC_SERVER, "ns.b.example", NOW}, HM_OK},
        {server, {TC_SERVER, "NS.B.example", NOW}, HM_OK},
        {server, {TC_SERVER, "2001:db8:b::1", NOW}, HM_OK},
        {server, {TC_SERVER, "2001:db8:b:0::1", NOW}, HM_OK},
        {server, {TC_SERVER, "2001:db8:b::2", NOW}, HM_E_CERT_UNTRUSTED},
        {server, {TC_SERVER, "b.example", NOW}, HM_E_CERT_UNTRUSTED},
        {server, {TC_SERVER, "x.y.b.example", NOW}, HM_E_CERT_UNTRUSTED},
        {server, {TC_SERVER, "other", NOW}, HM_E_CERT_UNTRUSTED}, // the subject is for people
        {server, {TC_CLIENT, NULL, NOW}, HM_E_CERT_PROFILE},
        {server, {TC_SERVER, NULL, NOW + 2 * TC_DAY_MS}, HM_E_CERT_EXPIRED},
        {client, {TC_CLIENT, NULL, NOW}, HM_OK},
        {client, {TC_SERVER, NULL, NOW}, HM_E_CERT_PROFILE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hm_err got = ask_as(cases[i].chain, &cases[i].ask, NULL);
        if (got != cases[i].want)
            fail_msg("case %zu: %s (%s)", i, hm_err_name(got), hm_err_detail());
    }
    X509_free(x);
    X509_free(y);
}

// What our own authority of another mesh issues: its edge root, and its mesh root by way of the
// cross-signature.
static void certificates_of_an_authority(void **state)
{
    (void)state;
    char base[] = "/tmp/hm-foreign-XXXXXX", dir[64], command[80];
    static const char *const names[] = {"www.bmesh.internal"}, *const evil[] = {"www.dev.internal"};
    tc_authority *a = NULL;
    hm_buf key = {0}, csr = {0}, pem = {0}, leaf = {0}, bad = {0}, roots[2] = {0}, more[2] = {0};
    tc_scope zone;
    tc_foreign_root r;
    const tc_foreign_ask ask_now = {.use = TC_SERVER, .time_ms = NOW};
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/a", base);
    OK(tc_authority_init(dir, "bmesh", NOW));
    OK(tc_authority_open(dir, &a));
    OK(tc_server_csr(names, 1, &key, &csr));
    OK(tc_issue_server(a, hm_buf_bytes(&csr), NOW, &pem, NULL));
    OK(tc_pem_to_der(hm_buf_bytes(&pem), &leaf));
    hm_buf_reset(&csr);
    hm_buf_reset(&pem);
    OK(tc_server_csr(evil, 1, &key, &csr));
    OK(tc_issue_server(a, hm_buf_bytes(&csr), NOW, &pem, NULL));
    OK(tc_pem_to_der(hm_buf_bytes(&pem), &bad));
    OK(tc_pem_to_der(tc_authority_root(a, TC_EDGE), &roots[0]));
    OK(tc_pem_to_der(tc_authority_root(a, TC_MESH), &roots[1]));
    OK(tc_pem_to_der(tc_authority_issuing(a, TC_EDGE), &more[0]));
    OK(tc_pem_to_der(tc_authority_cross(a), &more[1]));
    OK(tc_scope_of_mesh("bmesh", &zone));
    for (size_t i = 0; i < 2; i++) {
        OK(tc_foreign_root_verify(hm_buf_bytes(&roots[i]), NOW, &r));
        const tc_foreign f = {hm_buf_bytes(&roots[i]), zone};
        hm_bytes chain[] = {hm_buf_bytes(&leaf), hm_buf_bytes(&more[0]), hm_buf_bytes(&more[1])};
        OK(tc_foreign_verify(&f, 1, chain, 2 + i, &ask_now, NULL));
        chain[0] = hm_buf_bytes(&bad);
        assert_int_equal(tc_foreign_verify(&f, 1, chain, 2 + i, &ask_now, NULL), HM_E_CERT_PROFILE);
        if (i == 1)
            assert_int_equal(tc_foreign_verify(&f, 1, chain, 2, &ask_now, NULL),
                             HM_E_CERT_UNTRUSTED);
    }
    // A member of that mesh is named by its key, which is in nobody's zone.
    hm_key *member = NULL;
    OK(hm_key_generate(&member));
    hm_buf_reset(&csr);
    hm_buf_reset(&pem);
    hm_buf_reset(&leaf);
    hm_buf_reset(&more[0]);
    OK(tc_node_csr(member, "node-1", &csr));
    OK(tc_issue_node(a, hm_buf_bytes(&csr), NOW, &pem, NULL));
    OK(tc_pem_to_der(hm_buf_bytes(&pem), &leaf));
    OK(tc_pem_to_der(tc_authority_issuing(a, TC_MESH), &more[0]));
    const tc_foreign f = {hm_buf_bytes(&roots[1]), zone};
    const hm_bytes chain[] = {hm_buf_bytes(&leaf), hm_buf_bytes(&more[0])};
    assert_int_equal(tc_foreign_verify(&f, 1, chain, 2, &ask_now, NULL), HM_E_CERT_PROFILE);
    hm_key_free(member);
    tc_authority_close(a);
    hm_buf *all[] = {&key, &csr, &pem, &leaf, &bad, &roots[0], &roots[1], &more[0], &more[1]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        hm_buf_free(all[i]);
    snprintf(command, sizeof command, "rm -rf %s", base);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scopes_are_one_organisations),
        cmocka_unit_test(scopes_meet),
        cmocka_unit_test(roots_are_roots),
        cmocka_unit_test(names_in_the_scope_are_believed),
        cmocka_unit_test(names_out_of_the_scope_are_not),
        cmocka_unit_test(half_a_scope),
        cmocka_unit_test(chains_reach_their_own_root),
        cmocka_unit_test(uses_and_hosts),
        cmocka_unit_test(certificates_of_an_authority),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
