// A zone in memory: names and their records, found by name. A name may end at a time; names above
// those that are there exist too, with nothing (RFC 8020).
//
// One thread. What a member can make it keep: DNS_ZONE_NAMES names of DNS_RECORDS_BYTES_MAX.
#ifndef HM_DNS_ZONE_H
#define HM_DNS_ZONE_H

#include "dns/record.h"

#define DNS_ZONE_NAMES (1u << 20)

typedef struct dns_zone dns_zone;

// random is borrowed for the call.
HM_CHECK hm_err dns_zone_open(const dns_name *apex, const hm_random *random, dns_zone **out);
void dns_zone_close(dns_zone *z); // NULL is fine
const dns_name *dns_zone_apex(const dns_zone *z);
// The name, which is within the zone, has these records (copied) until expires_ms (HM_TIME_NEVER).
// HM_E_LIMIT, HM_E_NOMEM.
HM_CHECK hm_err dns_zone_set(dns_zone *z, const dns_name *name, hm_bytes records,
                             uint64_t expires_ms);
void dns_zone_remove(dns_zone *z, const dns_name *name);
void dns_zone_set_time(dns_zone *z, uint64_t now_ms);
// Is there a name? Its records (borrowed until the next change) may be empty.
bool dns_zone_get(const dns_zone *z, const dns_name *name, hm_bytes *records);
size_t dns_zone_count(const dns_zone *z); // with those that exist for names below them

#endif
