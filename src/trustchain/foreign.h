// Another organisation's root, believed for names of its own and nothing else: the constraints of a
// trust anchor (RFC 5937), held against every certificate below it (RFC 5280, 6.1), however the
// root itself or its CAs are made.
//
// A scope is a DNS zone and an IPv6 prefix, or one of the two:
//   zone    two labels or more, all names that are the zone or below it
//   prefix  TC_SCOPE_BITS_MIN bits or more, of global unicast (2000::/3) or unique local addresses
//           (fc00::/7), and not where IPv4 addresses of anybody stand in for IPv6 ones
// Without a zone no DNS name is in the scope, without a prefix no address.
//
// Pure, any thread, times are the caller's.
#ifndef HM_TRUSTCHAIN_FOREIGN_H
#define HM_TRUSTCHAIN_FOREIGN_H

#include "trustchain/trustchain.h"

#define TC_SCOPE_ZONE_MAX 253u
#define TC_SCOPE_BITS_MIN 32u   // what a provider has of a regional registry
#define TC_FOREIGN_CHAIN_MAX 5u // certificates below the root

typedef struct tc_scope {
    char zone[TC_SCOPE_ZONE_MAX + 1]; // lower case, no last dot; "": none
    uint8_t prefix[16];               // nothing set beyond the bits
    uint8_t bits;                     // 0: no prefix
} tc_scope;

// From text: zone in any case, with or without the last dot; prefix as ADDRESS/BITS. NULL or empty:
// none of it, but not of both. HM_E_INVALID says what is wrong.
HM_CHECK hm_err tc_scope_parse(const char *zone, const char *prefix, tc_scope *out);
// What a mesh of that name has for itself: its zone and the addresses of its assets.
HM_CHECK hm_err tc_scope_of_mesh(const char *mesh, tc_scope *out);
#define TC_SCOPE_PREFIX_TEXT_MAX 64u
// "" when there is none; returns out.
const char *tc_scope_prefix_text(const tc_scope *s, char out[TC_SCOPE_PREFIX_TEXT_MAX]);
bool tc_scope_eq(const tc_scope *a, const tc_scope *b);
// Is one zone the other or below it? False when one has none.
bool tc_scope_zones_meet(const tc_scope *a, const tc_scope *b);
bool tc_scope_prefixes_meet(const tc_scope *a, const tc_scope *b);
// Is it a host name in the zone? Letters in any case, a whole "*" as the first label counts as one
// there, a last dot is none of a certificate's (RFC 5280, 4.2.1.6).
bool tc_scope_has_name(const tc_scope *s, hm_bytes name);
bool tc_scope_has_addr(const tc_scope *s, hm_bytes addr); // 16 bytes, else it has it not

typedef struct tc_foreign_root {
    hm_hash key_id; // SHA-256 of its SubjectPublicKeyInfo
    char name[192]; // CN, or the whole subject when there is none that fits
    uint64_t not_before_ms, not_after_ms;
} tc_foreign_root;

// What the certificate (DER) says of itself; nothing is verified. HM_E_PARSE.
HM_CHECK hm_err tc_foreign_root_read(hm_bytes der, tc_foreign_root *out);
// Could it be a root? Self-signed, a CA that signs certificates, with a FALCON-1024 or ECDSA P-256
// or P-384 key, in force at time_ms, strictly by RFC 5280. HM_E_PARSE, HM_E_CERT_PROFILE,
// HM_E_CERT_EXPIRED, HM_E_CERT_UNTRUSTED.
HM_CHECK hm_err tc_foreign_root_verify(hm_bytes der, uint64_t time_ms, tc_foreign_root *out);

typedef struct tc_foreign_ask {
    tc_profile use;   // TC_SERVER or TC_CLIENT
    const char *host; // a DNS name or an IPv6 address that the certificate must have; NULL: any
    uint64_t time_ms;
} tc_foreign_ask;

// A root that is believed, tc_foreign_root_verify() was asked, and for what.
typedef struct tc_foreign {
    hm_bytes root; // DER, borrowed
    tc_scope scope;
} tc_foreign;

// Does the chain, the leaf first, reach one of the roots by RFC 5280, and is every name of every
// certificate below that root in the scope of that root? Names are
//   - those in subjectAltName: DNS names and IPv6 addresses; another kind is refused, also an IPv4
//     address;
//   - a common name that could be taken for one of these. One label alone is a word for people,
//     but in a leaf without a DNS name, where programs look at it;
//   - an e-mail address in the subject, which is refused.
// The leaf has a name in subjectAltName, and is no CA. Revocation is not looked at. At most
// TC_FOREIGN_CHAIN_MAX certificates, each in DER; ones that lead nowhere do no harm. *by, which may
// be NULL: whose it is. HM_E_CERT_UNTRUSTED, HM_E_CERT_EXPIRED, HM_E_CERT_PROFILE (also a name out
// of the scope), HM_E_PARSE.
HM_CHECK hm_err tc_foreign_verify(const tc_foreign *roots, size_t root_count, const hm_bytes *chain,
                                  size_t count, const tc_foreign_ask *ask, size_t *by);

#endif
