// The records of one name: what a name asset carries on the ledger and what a zone holds. Bytes:
// for each record u16 type, u32 TTL, u16 length, data in wire form without compression; in rising
// order of type, then of data (RFC 4034, section 6.3), each once, one TTL for a type. One set of
// records has one encoding.
//
// Pure, any thread.
#ifndef HM_DNS_RECORD_H
#define HM_DNS_RECORD_H

#include "dns/msg.h"

#define DNS_RECORDS_BYTES_MAX 8192u
#define DNS_RECORDS_COUNT_MAX 64u // of a name asset
#define DNS_TTL_MAX 604800u
#define DNS_TTL_DEFAULT 60u
#define DNS_RRSET_MAX 128u // records of one type that a zone may give a name (each member's key)

typedef struct dns_record {
    uint16_t type;
    uint32_t ttl;
    hm_bytes rdata; // borrowed
} dns_record;

// The record behind *at, which is 0 at first; false at the end. The bytes are sound (they are
// checked, or made by dns_records_add()).
bool dns_records_next(hm_bytes records, size_t *at, dns_record *out);
bool dns_records_have(hm_bytes records, uint16_t type);
// Puts one in where it belongs; the same data again are left as they are. HM_E_RANGE when another
// TTL stands for that type, HM_E_LIMIT, HM_E_NOMEM.
HM_CHECK hm_err dns_records_add(hm_buf *records, const dns_record *r);
// Takes all records of a type away.
void dns_records_drop(hm_buf *records, uint16_t type);
// May a name asset called `name` (whole, with the zone) carry these? AAAA, TXT, and for a
// delegation NS and DS, with AAAA as the addresses of a server of that very name; canonical, within
// the limits. A records there are none: the mesh is IPv6 alone. HM_E_PARSE, HM_E_NONCANONICAL,
// HM_E_LIMIT.
HM_CHECK hm_err dns_records_check(hm_bytes records, const dns_name *name);

// The data of a record from text as zone files have it: an address, a text, a name, or "TAG
// ALGORITHM DIGEST-TYPE HEX". Appended. HM_E_PARSE.
HM_CHECK hm_err dns_rdata_parse(uint16_t type, hm_bytes text, hm_buf *out);
// The other way, and for all the types that an answer may bring (others: RFC 3597's form).
void dns_rdata_text(uint16_t type, hm_bytes rdata, hm_buf *out);

// All records of one type at one name.
typedef struct dns_rrset {
    dns_name owner; // lower case
    uint16_t type;
    uint32_t ttl;
    unsigned count;
    hm_bytes rdata[DNS_RRSET_MAX]; // in rising order; borrowed
} dns_rrset;

// False when the name has none of that type. Beyond DNS_RRSET_MAX they are left out.
bool dns_rrset_of(hm_bytes records, const dns_name *owner, uint16_t type, dns_rrset *out);

#endif
