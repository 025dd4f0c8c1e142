// DNS messages (RFC 1035, section 4; EDNS: RFC 6891). Reading takes one question and checks every
// record; writing compresses names. Nothing is allocated.
//
// Reading: dns_msg_read(), then dns_msg_next() for record after record. A pointer of a compressed
// name only goes backwards, so that no name loops.
// Writing: dns_writer_begin(), dns_writer_rr() in the order of the sections, dns_writer_opt() last,
// dns_writer_end(). What no longer fits is left out whole and sets TC.
//
// Pure, any thread.
#ifndef HM_DNS_MSG_H
#define HM_DNS_MSG_H

#include "dns/name.h"

#define DNS_MSG_MAX 65535u
#define DNS_HEADER_BYTES 12u
#define DNS_UDP_MIN 512u  // what a client without EDNS takes by UDP
#define DNS_UDP_MAX 1232u // what is sent and asked for by UDP at most: it fits every path's MTU
#define DNS_RECORDS_MAX 4096u

enum { // types of records
    DNS_TYPE_A = 1,
    DNS_TYPE_NS = 2,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_SOA = 6,
    DNS_TYPE_PTR = 12,
    DNS_TYPE_MX = 15,
    DNS_TYPE_TXT = 16,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_OPT = 41,
    DNS_TYPE_DS = 43,
    DNS_TYPE_RRSIG = 46,
    DNS_TYPE_NSEC = 47,
    DNS_TYPE_DNSKEY = 48,
    DNS_TYPE_CDS = 59,
    DNS_TYPE_CDNSKEY = 60,
    DNS_TYPE_NXNAME = 128, // RFC 9824
    DNS_TYPE_IXFR = 251,
    DNS_TYPE_AXFR = 252,
    DNS_TYPE_ANY = 255,
    DNS_CLASS_IN = 1,
};

enum { // codes of answers
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16,
};

enum { // bits of the header's second word
    DNS_QR = 0x8000,
    DNS_OPCODE = 0x7800,
    DNS_AA = 0x0400,
    DNS_TC = 0x0200,
    DNS_RD = 0x0100,
    DNS_RA = 0x0080,
    DNS_AD = 0x0020,
    DNS_CD = 0x0010,
    DNS_RCODE = 0x000f,
};

enum { // options of EDNS
    DNS_OPT_KEEPALIVE = 11,
    DNS_OPT_PADDING = 12,
    DNS_OPT_EDE = 15,
};

// The word of a type such as "AAAA", or "TYPE65280" in out.
const char *dns_type_text(uint16_t type, char out[16]);
// A word, or TYPE and a number; 0 when it is none.
uint16_t dns_type_parse(hm_bytes word);
const char *dns_rcode_text(uint16_t rcode);

typedef enum dns_section {
    DNS_ANSWER,
    DNS_AUTHORITY,
    DNS_ADDITIONAL,
    DNS_SECTIONS,
} dns_section;

typedef struct dns_msg {
    hm_bytes bytes; // borrowed
    uint16_t id, flags;
    uint16_t counts[DNS_SECTIONS];
    bool has_question;
    dns_name name; // of the question, in its letters
    uint16_t type, klass;
    size_t records_at;
    bool has_edns;
    bool dnssec_ok, compact_ok; // DO; CO of RFC 9824
    bool padding, keepalive;    // options that are there
    uint8_t edns_version, rcode_high;
    uint16_t udp_bytes; // what the sender takes
} dns_msg;

// Reads and checks a whole message. HM_E_PARSE says what is wrong; when at least the header could
// be read, id and flags are set all the same and bytes.len is not 0.
HM_CHECK hm_err dns_msg_read(hm_bytes bytes, dns_msg *out);
static inline uint16_t dns_msg_rcode(const dns_msg *m)
{
    return (uint16_t)(m->rcode_high << 4 | (m->flags & DNS_RCODE));
}

typedef struct dns_rr {
    dns_section section;
    dns_name name;
    uint16_t type, klass;
    uint32_t ttl;
    hm_bytes rdata; // as it stands in the message
} dns_rr;

typedef struct dns_cursor {
    size_t at;
    unsigned index;
} dns_cursor;

// The next record of a message that dns_msg_read() took; *cursor is zero at first. False at the
// end.
bool dns_msg_next(const dns_msg *m, dns_cursor *cursor, dns_rr *out);
// The record's data with its names uncompressed (the types of RFC 1035, which alone may compress:
// RFC 3597, section 4), appended. HM_E_PARSE.
HM_CHECK hm_err dns_rdata_expand(const dns_msg *m, const dns_rr *rr, hm_buf *out);

#define DNS_WRITER_NAMES 64u // suffixes that later names can point to

typedef struct dns_writer {
    uint8_t *out; // the caller's
    size_t cap, len;
    size_t limit; // for records: room is kept behind it for OPT
    size_t question_end;
    uint16_t flags;
    uint16_t counts[DNS_SECTIONS];
    uint16_t at[DNS_WRITER_NAMES];
    unsigned names;
    bool question;
} dns_writer;

// flags as they are to stand in the header, without TC. cap is at least DNS_UDP_MIN; opt_bytes is
// what dns_writer_opt() will need. name NULL: no question.
void dns_writer_begin(dns_writer *w, uint8_t *out, size_t cap, size_t opt_bytes, uint16_t id,
                      uint16_t flags, const dns_name *name, uint16_t type, uint16_t klass);
// False when it does not fit.
bool dns_writer_rr(dns_writer *w, dns_section section, const dns_name *name, uint16_t type,
                   uint16_t klass, uint32_t ttl, hm_bytes rdata);
// Takes all records away again and says TC: the client is to come by a stream.
void dns_writer_truncate(dns_writer *w);
#define DNS_OPT_BYTES 11u
#define DNS_EDE_BYTES 6u
// OPT; ede >= 0: an option with that extended error (RFC 8914); pad_to > 0: padding to a multiple
// of that many bytes, within cap (RFC 8467).
void dns_writer_opt(dns_writer *w, uint16_t udp_bytes, uint16_t rcode, bool dnssec_ok, int ede,
                    size_t pad_to);
// The message's length.
size_t dns_writer_end(dns_writer *w, uint16_t rcode);

// ---- asking -------------------------------------------------------------------------------------

// A query with OPT. Returns its length.
#define DNS_QUERY_MAX (DNS_HEADER_BYTES + DNS_NAME_MAX + 4u + 16u + 128u)
size_t dns_query_write(uint8_t out[DNS_QUERY_MAX], uint16_t id, uint16_t flags,
                       const dns_name *name, uint16_t type, bool dnssec_ok, bool padded);

#endif
