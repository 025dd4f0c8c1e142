// Questions to a resolver and its answers (RFC 1035, EDNS by RFC 6891), as far as validations of
// ACME need them: TXT and AAAA. Pure; fuzzed.
#ifndef HM_SERVER_ACME_DNS_H
#define HM_SERVER_ACME_DNS_H

#include "base/base.h"

#define ACME_DNS_MESSAGE_MAX 65535u
#define ACME_DNS_UDP_BYTES 1232u // that an answer by UDP may have
#define ACME_DNS_RECORDS_MAX 32u // of an answer are looked at

enum { ACME_DNS_TXT = 16, ACME_DNS_AAAA = 28 };

typedef struct acme_dns_answer {
    unsigned code;  // RCODE
    bool truncated; // ask again by TCP
    uint32_t count;
    hm_bytes data[ACME_DNS_RECORDS_MAX]; // as they stand in the message: text with its lengths
} acme_dns_answer;

// The name has labels of 1 to 63 bytes and at most 253. HM_E_INVALID.
HM_CHECK hm_err acme_dns_question(const char *name, uint16_t type, uint16_t id, hm_buf *out);
// The records of the question's type in the answer to that very question, whatever aliases lead to
// them: the resolver is believed. They point into the message. HM_E_PARSE: not an answer to it.
HM_CHECK hm_err acme_dns_read(hm_bytes question, hm_bytes message, acme_dns_answer *out);
// Is the text of a TXT record this?
bool acme_dns_text_is(hm_bytes data, const char *text);

#endif
