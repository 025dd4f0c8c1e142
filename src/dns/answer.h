// Authoritative answers as a pure function: a query and a zone in, an answer out (RFC 1034, section
// 4.3.2; DNSSEC: RFC 4035, section 3.1, with compact denial of existence, RFC 9824: an answer about
// a name that is not there says that it is there with nothing, and is signed for this name alone,
// so that nobody can walk the zone).
//
// The zone's apex holds its SOA, NS, DNSKEY, CDS and CDNSKEY like any other records. A name with NS
// below the apex is delegated. There are no wildcards and no CNAMEs.
#ifndef HM_DNS_ANSWER_H
#define HM_DNS_ANSWER_H

#include "dns/sign.h"

// Where names are looked up.
typedef struct dns_source {
    dns_name apex;
    // Is there a name (lower case)? Its records stay as they are until the answer is made.
    bool (*get)(void *ctx, const dns_name *name, hm_bytes *records);
    void *ctx;          // borrowed
    dns_signer *signer; // NULL: nothing is signed
} dns_source;

// How a query came, which bounds its answer.
typedef enum dns_way {
    DNS_BY_UDP, // up to DNS_UDP_MAX bytes, or what the client takes; else TC
    DNS_BY_TCP,
    DNS_ENCRYPTED, // by TLS or QUIC: padded for who pads
} dns_way;

#define DNS_PAD_ANSWER 468u

// Fit for any query that dns_msg_read() took, and for one of which it took the header alone.
// out has room for dns_answer_room() bytes. The length; 0: no answer is due (the message is an
// answer itself).
size_t dns_answer(const dns_source *zone, const dns_msg *query, dns_way way, uint64_t now_s,
                  uint8_t *out);
// An answer that only says so; ede < 0: no extended error (RFC 8914).
size_t dns_refuse(const dns_msg *query, dns_way way, uint16_t rcode, int ede, uint8_t *out);
// Room for the answer to this query.
size_t dns_answer_room(const dns_msg *query, dns_way way);
// What is wrong with a query before anybody looks at its name, as a code; DNS_NOERROR.
uint16_t dns_query_check(const dns_msg *query);

enum { // extended errors
    DNS_EDE_PROHIBITED = 18,
    DNS_EDE_NOT_AUTHORITATIVE = 20,
    DNS_EDE_NETWORK = 23,
    DNS_EDE_INVALID_TYPE = 30,
};

#endif
