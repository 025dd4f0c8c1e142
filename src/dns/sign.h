// DNSSEC with keys that are at hand when a question comes (RFC 4033 to 4035), ECDSA P-256 with
// SHA-256 alone (algorithm 13, RFC 6605).
//
// Every member of the mesh answers for the zone with a key of its own; the zone's DNSKEY set has
// all their keys, and a DS record for each is what others trust (RFC 8901, model 2). So no secret
// is shared, and an answer says who signed it.
//
// A signature is made once for all who ask within DNS_SIGN_STEP_S and is kept in a table of fixed
// size; that of a name that is not there in another one, as there is no end of such names: whoever
// makes some up takes nothing from those that are there. One thread owns a signer.
#ifndef HM_DNS_SIGN_H
#define HM_DNS_SIGN_H

#include <openssl/evp.h>

#include "dns/record.h"

#define DNS_ALGORITHM 13u
#define DNS_PUBLIC_BYTES 64u // x and y
#define DNS_DNSKEY_BYTES (4u + DNS_PUBLIC_BYTES)
#define DNS_DS_BYTES 36u
#define DNS_RRSIG_MAX (18u + DNS_NAME_MAX + 64u)
#define DNS_SIGN_STEP_S 14400u // signatures begin at multiples of it, an hour earlier
#define DNS_SIGN_LIFE_S 172800u
#define DNS_SIGN_KEPT 16384u // in each of the two

// Loads DIR/dns.key (PKCS#8, PEM, mode 0600), or makes it. HM_E_KEY, HM_E_DENIED when others may
// read it, HM_E_IO.
HM_CHECK hm_err dns_key_open(const char *path, EVP_PKEY **out);
HM_CHECK hm_err dns_key_public(const EVP_PKEY *key, uint8_t out[DNS_PUBLIC_BYTES]);
// HM_E_KEY when it is no point of the curve.
HM_CHECK hm_err dns_public_check(hm_bytes public_key);
// Flags 257: each key signs itself and everything else.
void dns_dnskey_rdata(const uint8_t public_key[DNS_PUBLIC_BYTES], uint8_t out[DNS_DNSKEY_BYTES]);
uint16_t dns_key_tag(hm_bytes dnskey);
void dns_ds_rdata(const dns_name *apex, const uint8_t dnskey[DNS_DNSKEY_BYTES],
                  uint8_t out[DNS_DS_BYTES]);

typedef struct dns_signer dns_signer;
// The key is taken over on success.
HM_CHECK hm_err dns_signer_open(EVP_PKEY *key, const dns_name *apex, dns_signer **out);
void dns_signer_close(dns_signer *s); // NULL is fine
// The data of the RRSIG record for a set of the zone, or for the NSEC record of a name that is
// absent; out has DNS_RRSIG_MAX bytes. HM_E_CRYPTO.
HM_CHECK hm_err dns_sign(dns_signer *s, const dns_rrset *set, bool absent, uint64_t now_s,
                         uint8_t *out, size_t *len);
uint64_t dns_signer_made(const dns_signer *s); // signatures, not out of a table

// Does the RRSIG (its data) hold for the set under this key (a DNSKEY's data)? HM_E_SIGNATURE with
// the reason.
HM_CHECK hm_err dns_verify(const dns_rrset *set, hm_bytes rrsig, hm_bytes dnskey, uint64_t now_s);

#endif
