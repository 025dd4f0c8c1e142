#include "dns/msg.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    uint16_t type;
    const char *word;
} words[] = {
    {DNS_TYPE_A, "A"},         {DNS_TYPE_NS, "NS"},           {DNS_TYPE_CNAME, "CNAME"},
    {DNS_TYPE_SOA, "SOA"},     {DNS_TYPE_PTR, "PTR"},         {DNS_TYPE_MX, "MX"},
    {DNS_TYPE_TXT, "TXT"},     {DNS_TYPE_AAAA, "AAAA"},       {DNS_TYPE_DS, "DS"},
    {DNS_TYPE_RRSIG, "RRSIG"}, {DNS_TYPE_NSEC, "NSEC"},       {DNS_TYPE_DNSKEY, "DNSKEY"},
    {DNS_TYPE_CDS, "CDS"},     {DNS_TYPE_CDNSKEY, "CDNSKEY"}, {DNS_TYPE_NXNAME, "NXNAME"},
    {DNS_TYPE_IXFR, "IXFR"},   {DNS_TYPE_AXFR, "AXFR"},       {DNS_TYPE_ANY, "ANY"},
};
#define WORDS (sizeof words / sizeof words[0])

const char *dns_type_text(uint16_t type, char out[16])
{
    for (size_t i = 0; i < WORDS; i++)
        if (words[i].type == type)
            return words[i].word;
    snprintf(out, 16, "TYPE%u", type);
    return out;
}

uint16_t dns_type_parse(hm_bytes word)
{
    char text[16];
    if (word.len >= sizeof text)
        return 0;
    for (size_t i = 0; i < word.len; i++)
        text[i] =
            word.ptr[i] >= 'a' && word.ptr[i] <= 'z' ? (char)(word.ptr[i] - 32) : (char)word.ptr[i];
    text[word.len] = 0;
    for (size_t i = 0; i < WORDS; i++)
        if (strcmp(words[i].word, text) == 0)
            return words[i].type;
    if (strncmp(text, "TYPE", 4) != 0 || text[4] < '0' || text[4] > '9')
        return 0;
    char *end;
    unsigned long n = strtoul(text + 4, &end, 10);
    return *end == 0 && n <= 65535 ? (uint16_t)n : 0;
}

const char *dns_rcode_text(uint16_t rcode)
{
    static const char *const texts[] = {"NOERROR",  "FORMERR", "SERVFAIL",
                                        "NXDOMAIN", "NOTIMP",  "REFUSED"};
    return rcode < sizeof texts / sizeof texts[0] ? texts[rcode]
           : rcode == DNS_BADVERS                 ? "BADVERS"
                                                  : "other";
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}
static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

// ---- reading ------------------------------------------------------------------------------------

// Each pointer must go further back than the last one, so this ends.
static bool name_read(hm_bytes msg, size_t *at, dns_name *out)
{
    size_t p = *at, lowest = *at, after = 0;
    unsigned len = 0;
    for (;;) {
        if (p >= msg.len)
            return false;
        uint8_t c = msg.ptr[p];
        if (c == 0) {
            out->wire[len] = 0;
            out->len = (uint8_t)(len + 1);
            *at = after ? after : p + 1;
            return true;
        }
        if (c >= 0xc0) {
            if (p + 2 > msg.len)
                return false;
            size_t to = get16(msg.ptr + p) & 0x3fffu;
            if (to >= lowest)
                return false;
            after = after ? after : p + 2;
            p = lowest = to;
            continue;
        }
        if (c > DNS_LABEL_MAX || p + 1 + c > msg.len || len + 1u + c + 1 > DNS_NAME_MAX)
            return false;
        memcpy(out->wire + len, msg.ptr + p, c + 1u);
        len += c + 1u;
        p += c + 1u;
    }
}

static bool rr_read(hm_bytes msg, size_t *at, dns_rr *rr)
{
    if (!name_read(msg, at, &rr->name) || msg.len - *at < 10)
        return false;
    const uint8_t *p = msg.ptr + *at;
    rr->type = get16(p);
    rr->klass = get16(p + 2);
    rr->ttl = get32(p + 4);
    size_t len = get16(p + 8);
    if (msg.len - *at - 10 < len)
        return false;
    rr->rdata = hm_bytes_of(p + 10, len);
    *at += 10 + len;
    return true;
}

static hm_err take_opt(dns_msg *m, const dns_rr *rr)
{
    if (m->has_edns || rr->name.len != 1 || rr->section != DNS_ADDITIONAL)
        return hm_fail(HM_E_PARSE, "the OPT record is there twice or out of place");
    m->has_edns = true;
    m->udp_bytes = rr->klass;
    m->rcode_high = (uint8_t)(rr->ttl >> 24);
    m->edns_version = (uint8_t)(rr->ttl >> 16);
    m->dnssec_ok = rr->ttl & 0x8000;
    m->compact_ok = rr->ttl & 0x4000;
    for (size_t at = 0; at < rr->rdata.len;) {
        size_t left = rr->rdata.len - at;
        const uint8_t *p = rr->rdata.ptr + at;
        if (left < 4 || left - 4 < get16(p + 2))
            return hm_fail(HM_E_PARSE, "an option of EDNS is cut off");
        m->padding |= get16(p) == DNS_OPT_PADDING;
        m->keepalive |= get16(p) == DNS_OPT_KEEPALIVE;
        at += 4u + get16(p + 2);
    }
    return HM_OK;
}

hm_err dns_msg_read(hm_bytes bytes, dns_msg *out)
{
    memset(out, 0, sizeof *out);
    if (bytes.len < DNS_HEADER_BYTES || bytes.len > DNS_MSG_MAX)
        return hm_fail(HM_E_PARSE, "a DNS message has %u to %u bytes", DNS_HEADER_BYTES,
                       DNS_MSG_MAX);
    out->bytes = bytes;
    out->id = get16(bytes.ptr);
    out->flags = get16(bytes.ptr + 2);
    unsigned questions = get16(bytes.ptr + 4), records = 0;
    for (unsigned i = 0; i < DNS_SECTIONS; i++) {
        out->counts[i] = get16(bytes.ptr + 6 + 2 * i);
        records += out->counts[i];
    }
    if (questions > 1 || records > DNS_RECORDS_MAX)
        return hm_fail(HM_E_PARSE, "%u questions and %u records; 1 and %u are the most", questions,
                       records, DNS_RECORDS_MAX);
    size_t at = DNS_HEADER_BYTES;
    if (questions == 1) {
        if (!name_read(bytes, &at, &out->name) || bytes.len - at < 4)
            return hm_fail(HM_E_PARSE, "the question is malformed");
        out->type = get16(bytes.ptr + at);
        out->klass = get16(bytes.ptr + at + 2);
        out->has_question = true;
        at += 4;
    }
    out->records_at = at;
    dns_cursor c = {at, 0};
    dns_rr rr;
    while (dns_msg_next(out, &c, &rr))
        if (rr.type == DNS_TYPE_OPT)
            HM_TRY(take_opt(out, &rr));
    if (c.index != records)
        return hm_fail(HM_E_PARSE, "record %u is malformed", c.index + 1);
    if (c.at != bytes.len)
        return hm_fail(HM_E_PARSE, "%zu bytes follow the last record", bytes.len - c.at);
    return HM_OK;
}

bool dns_msg_next(const dns_msg *m, dns_cursor *c, dns_rr *out)
{
    unsigned end = 0, section = 0;
    if (c->at == 0)
        c->at = m->records_at;
    while (section < DNS_SECTIONS && c->index >= (end += m->counts[section]))
        section++;
    if (section == DNS_SECTIONS)
        return false;
    out->section = (dns_section)section;
    if (!rr_read(m->bytes, &c->at, out))
        return false;
    c->index++;
    return true;
}

// Names and fixed bytes of the data that RFC 1035 lets compress.
static bool layout(uint16_t type, unsigned *before, unsigned *names)
{
    *before = type == DNS_TYPE_MX ? 2 : 0;
    *names = type == DNS_TYPE_SOA ? 2 : 1;
    return type == DNS_TYPE_NS || type == DNS_TYPE_CNAME || type == DNS_TYPE_PTR ||
           type == DNS_TYPE_MX || type == DNS_TYPE_SOA;
}

hm_err dns_rdata_expand(const dns_msg *m, const dns_rr *rr, hm_buf *out)
{
    unsigned before, names;
    if (!layout(rr->type, &before, &names)) {
        hm_buf_put(out, rr->rdata);
        return hm_buf_status(out);
    }
    size_t at = (size_t)(rr->rdata.ptr - m->bytes.ptr), end = at + rr->rdata.len;
    hm_bytes msg = hm_bytes_of(m->bytes.ptr, end);
    if (rr->rdata.len < before)
        return hm_fail(HM_E_PARSE, "the data of a record is too short");
    hm_buf_append(out, msg.ptr + at, before);
    at += before;
    for (unsigned i = 0; i < names; i++) {
        dns_name n;
        if (!name_read(msg, &at, &n))
            return hm_fail(HM_E_PARSE, "a name in the data of a record is malformed");
        hm_buf_append(out, n.wire, n.len);
    }
    if (end - at != (rr->type == DNS_TYPE_SOA ? 20 : 0))
        return hm_fail(HM_E_PARSE, "the data of a record has a wrong length");
    hm_buf_append(out, msg.ptr + at, end - at);
    return hm_buf_status(out);
}

// ---- writing ------------------------------------------------------------------------------------

// Does the name at `at` in what is written equal these labels?
static bool stands_at(const dns_writer *w, size_t at, const uint8_t *labels)
{
    for (;;) {
        while (w->out[at] >= 0xc0)
            at = get16(w->out + at) & 0x3fffu;
        uint8_t len = w->out[at];
        if (len != labels[0])
            return false;
        if (len == 0)
            return true;
        for (unsigned i = 1; i <= len; i++)
            if (dns_lower(w->out[at + i]) != dns_lower(labels[i]))
                return false;
        at += len + 1u;
        labels += len + 1u;
    }
}

static bool name_write(dns_writer *w, size_t limit, const dns_name *n)
{
    unsigned known = w->names; // of names that are whole: this one's own end is not written yet
    for (unsigned at = 0;; at += n->wire[at] + 1u) {
        uint8_t len = n->wire[at];
        for (unsigned i = 0; len != 0 && i < known; i++)
            if (stands_at(w, w->at[i], n->wire + at)) {
                if (w->len + 2 > limit)
                    return false;
                put16(w->out + w->len, 0xc000u | w->at[i]);
                w->len += 2;
                return true;
            }
        if (w->len + len + 1u > limit)
            return false;
        if (len != 0 && w->names < DNS_WRITER_NAMES && w->len < 0x4000)
            w->at[w->names++] = (uint16_t)w->len;
        memcpy(w->out + w->len, n->wire + at, len + 1u);
        w->len += len + 1u;
        if (len == 0)
            return true;
    }
}

void dns_writer_begin(dns_writer *w, uint8_t *out, size_t cap, size_t opt_bytes, uint16_t id,
                      uint16_t flags, const dns_name *name, uint16_t type, uint16_t klass)
{
    hm_assert(cap >= DNS_UDP_MIN && opt_bytes <= 64);
    w->out = out;
    w->cap = cap < DNS_MSG_MAX ? cap : DNS_MSG_MAX;
    w->limit = w->cap - opt_bytes;
    w->len = DNS_HEADER_BYTES;
    w->flags = flags;
    w->names = 0;
    w->question = name != NULL;
    memset(w->counts, 0, sizeof w->counts);
    memset(out, 0, DNS_HEADER_BYTES);
    put16(out, id);
    if (name != NULL) {
        bool fits = name_write(w, w->limit, name);
        hm_assert(fits);
        put16(out + w->len, type);
        put16(out + w->len + 2, klass);
        w->len += 4;
    }
    w->question_end = w->len;
}

bool dns_writer_rr(dns_writer *w, dns_section section, const dns_name *name, uint16_t type,
                   uint16_t klass, uint32_t ttl, hm_bytes rdata)
{
    size_t start = w->len;
    unsigned names = w->names;
    if (w->counts[section] == UINT16_MAX || !name_write(w, w->limit, name) ||
        w->limit - w->len < 10 || w->limit - w->len - 10 < rdata.len || rdata.len > UINT16_MAX) {
        w->len = start;
        w->names = names;
        return false;
    }
    uint8_t *p = w->out + w->len;
    put16(p, type);
    put16(p + 2, klass);
    put32(p + 4, ttl);
    put16(p + 8, (unsigned)rdata.len);
    if (rdata.len > 0)
        memcpy(p + 10, rdata.ptr, rdata.len);
    w->len += 10 + rdata.len;
    w->counts[section]++;
    return true;
}

void dns_writer_truncate(dns_writer *w)
{
    w->len = w->question_end;
    w->names = w->question ? w->names : 0;
    while (w->names > 0 && w->at[w->names - 1] >= w->question_end)
        w->names--;
    memset(w->counts, 0, sizeof w->counts);
    w->flags |= DNS_TC;
}

void dns_writer_opt(dns_writer *w, uint16_t udp_bytes, uint16_t rcode, bool dnssec_ok, int ede,
                    size_t pad_to)
{
    uint8_t *p = w->out + w->len;
    size_t len = 0, room = w->cap - w->len;
    hm_assert(room >= DNS_OPT_BYTES + (ede >= 0 ? DNS_EDE_BYTES : 0));
    if (ede >= 0) {
        put16(p + 11, DNS_OPT_EDE);
        put16(p + 13, 2);
        put16(p + 15, (unsigned)ede);
        len = DNS_EDE_BYTES;
    }
    size_t whole = w->len + DNS_OPT_BYTES + len + 4;
    if (pad_to > 0 && room >= DNS_OPT_BYTES + len + 4) {
        size_t pad = (pad_to - whole % pad_to) % pad_to;
        if (pad > w->cap - whole)
            pad = w->cap - whole;
        put16(p + 11 + len, DNS_OPT_PADDING);
        put16(p + 13 + len, (unsigned)pad);
        memset(p + 15 + len, 0, pad);
        len += 4 + pad;
    }
    p[0] = 0;
    put16(p + 1, DNS_TYPE_OPT);
    put16(p + 3, udp_bytes);
    put32(p + 5, (uint32_t)(rcode >> 4) << 24 | (dnssec_ok ? 0x8000u : 0));
    put16(p + 9, (unsigned)len);
    w->len += DNS_OPT_BYTES + len;
    w->counts[DNS_ADDITIONAL]++;
}

size_t dns_writer_end(dns_writer *w, uint16_t rcode)
{
    put16(w->out + 2, w->flags | (rcode & DNS_RCODE));
    put16(w->out + 4, w->question);
    for (unsigned i = 0; i < DNS_SECTIONS; i++)
        put16(w->out + 6 + 2 * i, w->counts[i]);
    return w->len;
}

// Queries are padded to multiples of 128 bytes, answers of 468 (RFC 8467, section 4.1).
size_t dns_query_write(uint8_t out[DNS_QUERY_MAX], uint16_t id, uint16_t flags,
                       const dns_name *name, uint16_t type, bool dnssec_ok, bool padded)
{
    uint8_t mem[DNS_UDP_MIN];
    dns_writer w;
    dns_writer_begin(&w, mem, sizeof mem, DNS_OPT_BYTES, id, flags, name, type, DNS_CLASS_IN);
    dns_writer_opt(&w, DNS_UDP_MAX, 0, dnssec_ok, -1, padded ? 128 : 0);
    size_t len = dns_writer_end(&w, 0);
    hm_assert(len <= DNS_QUERY_MAX);
    memcpy(out, mem, len);
    return len;
}
