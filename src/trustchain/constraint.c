// What an issuing CA may name at most (RFC 5280, 4.2.1.10): whoever checks a chain refuses what its
// key, stolen or misused, signs for other names. A constraint binds the forms of names that it
// speaks of: the URI that names a node is not among them.
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "trustchain/authority.h"
#include "trustchain/csr.h"
#include "trustchain/foreign.h"

#define NAMES_TEXT_MAX 4096u
#define MESH_ZONE "%s.internal"                  // docs/dns.md
#define MESH_ADDRESSES "fd48:4d00::/ffff:ffff::" // of the mesh's assets
#define MESH_PREFIX "fd48:4d00::/32"             // the same

hm_err x509_prefix_parse(const char *text, uint8_t addr[16], unsigned *bits)
{
    char host[INET6_ADDRSTRLEN], none[1] = "", *end = none;
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    unsigned long n = 128;
    uint8_t a[16];
    if (slash && slash[1] >= '0' && slash[1] <= '9')
        n = strtoul(slash + 1, &end, 10);
    else if (slash)
        n = 129;
    snprintf(host, sizeof host, "%.*s", (int)len, text);
    if (len >= sizeof host || inet_pton(AF_INET6, host, a) != 1 || *end || n > 128)
        return hm_fail(HM_E_CONFIG, "\"%.60s\" is neither an IPv6 address nor a prefix", text);
    for (unsigned i = (unsigned)n; i < 128; i++)
        if (a[i / 8] >> (7 - i % 8) & 1)
            return hm_fail(HM_E_CONFIG, "\"%.60s\" has bits beyond the length of its prefix", text);
    memcpy(addr, a, sizeof a);
    *bits = (unsigned)n;
    return HM_OK;
}

static hm_err put_prefix(const char *text, hm_buf *out)
{
    uint8_t addr[16], mask[16] = {0};
    char host[INET6_ADDRSTRLEN], ones[INET6_ADDRSTRLEN];
    unsigned bits;
    HM_TRY(x509_prefix_parse(text, addr, &bits));
    for (unsigned i = 0; i < bits; i++)
        mask[i / 8] |= (uint8_t)(0x80 >> i % 8);
    inet_ntop(AF_INET6, addr, host, sizeof host);
    inet_ntop(AF_INET6, mask, ones, sizeof ones);
    hm_buf_printf(out, ",permitted;IP:%s/%s", host, ones);
    return HM_OK;
}

static hm_err edge_constraints(const char *names, hm_buf *out)
{
    char text[NAMES_TEXT_MAX], *rest = text, *item;
    unsigned dns = 0, prefixes = 0;
    if (strlen(names) >= sizeof text)
        return hm_fail(HM_E_CONFIG, "the names of the edge CA have more than %u characters",
                       NAMES_TEXT_MAX - 1);
    strcpy(text, names);
    hm_buf_puts(out, "critical");
    while ((item = strtok_r(rest, ", ", &rest)) != NULL) {
        if (dns + prefixes == TC_SERVER_NAMES_MAX)
            return hm_fail(HM_E_CONFIG, "the edge CA has at most %u names", TC_SERVER_NAMES_MAX);
        if (strchr(item, ':')) {
            HM_TRY(put_prefix(item, out));
            prefixes++;
        } else if (csr_dns_name_ok((const uint8_t *)item, (int)strlen(item))) {
            hm_buf_printf(out, ",permitted;DNS:%s", item);
            dns++;
        } else {
            return hm_fail(HM_E_CONFIG, "\"%.60s\" is neither a host name nor an IPv6 prefix",
                           item);
        }
    }
    if (dns == 0)
        return hm_fail(HM_E_CONFIG, "the edge CA's names have no DNS name among them");
    if (prefixes == 0) // or any address would do
        hm_buf_puts(out, ",excluded;IP:::/::,excluded;IP:0.0.0.0/0.0.0.0");
    return HM_OK;
}

hm_err authority_constraints(tc_family f, const char *mesh, const char *edge_names, hm_buf *out)
{
    if (f == TC_MESH)
        hm_buf_printf(out, "critical,permitted;DNS:" MESH_ZONE ",permitted;IP:" MESH_ADDRESSES,
                      mesh);
    else if (edge_names)
        HM_TRY(edge_constraints(edge_names, out));
    return hm_buf_status(out);
}

hm_err tc_scope_of_mesh(const char *mesh, tc_scope *out)
{
    char zone[TC_NAME_MAX + sizeof MESH_ZONE];
    snprintf(zone, sizeof zone, MESH_ZONE, mesh);
    return tc_scope_parse(zone, MESH_PREFIX, out);
}

static bool has_dns_name(const X509 *x)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) // -1 for NULL
        found = found || sk_GENERAL_NAME_value(names, i)->type == GEN_DNS;
    GENERAL_NAMES_free(names);
    return found;
}

hm_err authority_constraints_check(const X509 *issuing, X509 *cert)
{
    int critical, code;
    NAME_CONSTRAINTS *nc = X509_get_ext_d2i(issuing, NID_name_constraints, &critical, NULL);
    if (!nc)
        return critical == -1 ? HM_OK // there is none
                              : hm_crypto_fail(HM_E_CORRUPT, "the issuing CA's name constraints");
    // Looks at what a first look at the certificate keeps: without it, at no names.
    code = X509_check_purpose(cert, -1, 0) == 1 ? NAME_CONSTRAINTS_check(cert, nc)
                                                : X509_V_ERR_UNSPECIFIED;
    // As verifiers do, to which a common name with dots is a DNS name when there is none.
    if (code == X509_V_OK && !has_dns_name(cert))
        code = NAME_CONSTRAINTS_check_CN(cert, nc);
    NAME_CONSTRAINTS_free(nc);
    if (code != X509_V_OK)
        return hm_fail(HM_E_DENIED, "a name is outside the issuing CA's name constraints: %s",
                       X509_verify_cert_error_string(code));
    return HM_OK;
}
