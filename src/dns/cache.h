// Answers of other servers, kept for as long as they say (RFC 1035, section 7.4; what is not there:
// RFC 2308). A table of at most DNS_CACHE_ANSWERS answers and DNS_CACHE_BYTES; the one that was
// used longest ago goes first.
//
// Pure but for memory; one thread.
#ifndef HM_DNS_CACHE_H
#define HM_DNS_CACHE_H

#include "dns/answer.h"

#define DNS_CACHE_ANSWERS 16384u
#define DNS_CACHE_BYTES (16u << 20)
#define DNS_CACHE_TTL_MAX 86400u
#define DNS_CACHE_NEGATIVE_MAX 3600u
#define DNS_CACHE_FAILURE_S 5u // RFC 9520

typedef struct dns_cache dns_cache;

HM_CHECK hm_err dns_cache_open(const hm_random *random, dns_cache **out); // borrowed for the call
void dns_cache_close(dns_cache *c);                                       // NULL is fine
void dns_cache_clear(dns_cache *c);
// Takes an answer to this question in, and writes the one for the asker (out as of dns_answer()).
// HM_E_PARSE when it does not answer the question.
HM_CHECK hm_err dns_cache_take(dns_cache *c, const dns_msg *query, hm_bytes answer, dns_way way,
                               uint64_t now_s, uint8_t *out, size_t *len);
// The answer that is kept, 0 when there is none.
size_t dns_cache_get(dns_cache *c, const dns_msg *query, dns_way way, uint64_t now_s, uint8_t *out);
size_t dns_cache_count(const dns_cache *c);
size_t dns_cache_bytes(const dns_cache *c);

#endif
