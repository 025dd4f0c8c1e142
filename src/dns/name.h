// Domain names in wire form (RFC 1035, section 3.1): labels behind their lengths, the root at the
// end, uncompressed. At most 255 bytes; compared without regard to the case of A to Z (RFC 4343).
//
// Pure, any thread.
#ifndef HM_DNS_NAME_H
#define HM_DNS_NAME_H

#include "base/base.h"

#define DNS_NAME_MAX 255u
#define DNS_LABEL_MAX 63u
#define DNS_NAME_TEXT_MAX 1024u // every byte as \DDD, and the dots

typedef struct dns_name {
    uint8_t len; // of wire, 1 for the root
    uint8_t wire[DNS_NAME_MAX];
} dns_name;

// From text, with or without the last dot; "." is the root. \. and \DDD are understood.
// HM_E_PARSE says what is wrong.
HM_CHECK hm_err dns_name_parse(hm_bytes text, dns_name *out);
// As text, without the last dot ("." for the root); returns out.
const char *dns_name_text(const dns_name *n, char out[DNS_NAME_TEXT_MAX]);
void dns_name_lower(dns_name *n);
bool dns_name_eq(const dns_name *a, const dns_name *b);
// Is n the apex or below it?
bool dns_name_within(const dns_name *n, const dns_name *apex);
unsigned dns_name_labels(const dns_name *n); // without the root
// The name that is left when the first `labels` labels are gone; they are there (asserted).
dns_name dns_name_up(const dns_name *n, unsigned labels);
// a in front of b. HM_E_RANGE when that is too long.
HM_CHECK hm_err dns_name_join(const dns_name *a, const dns_name *b, dns_name *out);
// The first name after n in the order of RFC 4034, section 6.1 (RFC 9824, section 3.1).
dns_name dns_name_next(const dns_name *n);
// Reads an uncompressed name that ends exactly where the bytes do, or (used not NULL) says how many
// it took. HM_E_PARSE.
HM_CHECK hm_err dns_name_read(hm_bytes wire, dns_name *out, size_t *used);

// What stands for one byte behind a backslash, \C or \DDD; *at is behind the backslash and moves
// on.
HM_CHECK hm_err dns_escape(hm_bytes text, size_t *at, uint8_t *out);

static inline uint8_t dns_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

#endif
