#include "dns/record.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#define HEAD 8u

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}
static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

// ---- sets ---------------------------------------------------------------------------------------

bool dns_records_next(hm_bytes records, size_t *at, dns_record *out)
{
    if (records.len - *at < HEAD)
        return false;
    const uint8_t *p = records.ptr + *at;
    *out = (dns_record){get16(p), get32(p + 2), hm_bytes_of(p + HEAD, get16(p + 6))};
    if (records.len - *at - HEAD < out->rdata.len)
        return false;
    *at += HEAD + out->rdata.len;
    return true;
}

bool dns_records_have(hm_bytes records, uint16_t type)
{
    dns_record r;
    for (size_t at = 0; dns_records_next(records, &at, &r);)
        if (r.type == type)
            return true;
    return false;
}

static int order(const dns_record *a, const dns_record *b)
{
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    return hm_bytes_cmp(a->rdata, b->rdata);
}

hm_err dns_records_add(hm_buf *records, const dns_record *r)
{
    dns_record have;
    size_t at = 0, place = records->len, before = 0;
    while (dns_records_next(hm_buf_bytes(records), &at, &have)) {
        int way = order(r, &have);
        if (have.type == r->type && have.ttl != r->ttl)
            return hm_fail(HM_E_RANGE, "records of one type have one TTL, here %u and %u", have.ttl,
                           r->ttl);
        if (way == 0)
            return HM_OK;
        if (way < 0 && place == records->len)
            place = before;
        before = at;
    }
    size_t len = HEAD + r->rdata.len;
    if (r->rdata.len > UINT16_MAX)
        return hm_fail(HM_E_LIMIT, "the data of a record have at most 65535 bytes");
    if (hm_buf_reserve(records, len) == NULL)
        return HM_E_NOMEM;
    uint8_t *p = records->ptr + place;
    memmove(p + len, p, records->len - place);
    records->len += len;
    hm_buf head = hm_buf_fixed(p, HEAD);
    hm_wr_u16(&head, r->type);
    hm_wr_u32(&head, r->ttl);
    hm_wr_u16(&head, (uint16_t)r->rdata.len);
    if (r->rdata.len > 0)
        memcpy(p + HEAD, r->rdata.ptr, r->rdata.len);
    return HM_OK;
}

void dns_records_drop(hm_buf *records, uint16_t type)
{
    dns_record r;
    size_t at = 0, kept = 0;
    for (size_t from = 0; dns_records_next(hm_buf_bytes(records), &at, &r); from = at)
        if (r.type != type) {
            memmove(records->ptr + kept, records->ptr + from, at - from);
            kept += at - from;
        }
    records->len = kept;
}

bool dns_rrset_of(hm_bytes records, const dns_name *owner, uint16_t type, dns_rrset *out)
{
    dns_record r;
    out->count = 0;
    for (size_t at = 0; dns_records_next(records, &at, &r);)
        if (r.type == type && out->count < DNS_RRSET_MAX) {
            out->ttl = r.ttl;
            out->rdata[out->count++] = r.rdata;
        }
    out->owner = *owner;
    out->type = type;
    return out->count > 0;
}

// ---- rules --------------------------------------------------------------------------------------

static hm_err txt_check(hm_bytes rdata)
{
    size_t at = 0;
    while (at < rdata.len)
        at += rdata.ptr[at] + 1u;
    return rdata.len > 0 && at == rdata.len ? HM_OK
                                            : hm_fail(HM_E_PARSE, "a TXT record is malformed");
}

static hm_err ns_check(hm_bytes rdata, const dns_name *name, bool *inside)
{
    dns_name server, lower;
    HM_TRY(dns_name_read(rdata, &server, NULL));
    lower = server;
    dns_name_lower(&lower);
    if (memcmp(lower.wire, server.wire, server.len) != 0)
        return hm_fail(HM_E_NONCANONICAL, "the name of a server is written in lower case");
    if (server.len == 1)
        return hm_fail(HM_E_PARSE, "the root is no name server");
    *inside |= dns_name_eq(&server, name);
    if (dns_name_within(&server, name) && !dns_name_eq(&server, name))
        return hm_fail(HM_E_PARSE, "a server below the delegated name cannot be reached: use the "
                                   "name itself, with AAAA records, or one elsewhere");
    return HM_OK;
}

static hm_err ds_check(hm_bytes rdata)
{
    uint8_t kind = rdata.len > 4 ? rdata.ptr[3] : 0;
    size_t want = kind == 2 ? 32 : kind == 4 ? 48 : 0;
    if (want == 0 || rdata.len != 4 + want)
        return hm_fail(HM_E_PARSE, "a DS record has a digest of type 2 (32 bytes) or 4 (48 bytes)");
    return HM_OK;
}

typedef struct seen {
    bool ns, ds, aaaa, txt, inside;
    unsigned count;
} seen;

static hm_err record_check(const dns_record *r, const dns_name *name, seen *s)
{
    if (r->ttl > DNS_TTL_MAX)
        return hm_fail(HM_E_LIMIT, "a TTL is at most %u seconds", DNS_TTL_MAX);
    if (++s->count > DNS_RECORDS_COUNT_MAX)
        return hm_fail(HM_E_LIMIT, "a name has at most %u records", DNS_RECORDS_COUNT_MAX);
    switch (r->type) {
    case DNS_TYPE_AAAA:
        s->aaaa = true;
        return r->rdata.len == 16 ? HM_OK : hm_fail(HM_E_PARSE, "an AAAA record has 16 bytes");
    case DNS_TYPE_TXT:
        s->txt = true;
        return txt_check(r->rdata);
    case DNS_TYPE_NS:
        s->ns = true;
        return ns_check(r->rdata, name, &s->inside);
    case DNS_TYPE_DS:
        s->ds = true;
        return ds_check(r->rdata);
    default:
        return hm_fail(HM_E_UNSUPPORTED, "a name carries AAAA, TXT, NS and DS records, not type %u",
                       r->type);
    }
}

hm_err dns_records_check(hm_bytes records, const dns_name *name)
{
    seen s = {0};
    dns_record r, last = {0};
    size_t at = 0;
    if (records.len > DNS_RECORDS_BYTES_MAX)
        return hm_fail(HM_E_LIMIT, "the records of a name have at most %u bytes",
                       DNS_RECORDS_BYTES_MAX);
    while (dns_records_next(records, &at, &r)) {
        HM_TRY(record_check(&r, name, &s));
        if (s.count > 1 && order(&last, &r) >= 0)
            return hm_fail(HM_E_NONCANONICAL, "records stand in rising order, each once");
        if (s.count > 1 && last.type == r.type && last.ttl != r.ttl)
            return hm_fail(HM_E_NONCANONICAL, "records of one type have one TTL");
        last = r;
    }
    if (at != records.len)
        return hm_fail(HM_E_PARSE, "a record is cut off");
    if (s.ds && !s.ns)
        return hm_fail(HM_E_PARSE, "DS records stand beside NS records");
    if (s.ns && s.txt)
        return hm_fail(HM_E_PARSE, "what a delegated name says is its servers' to say, not TXT");
    if (s.ns && s.aaaa != s.inside)
        return hm_fail(HM_E_PARSE, "a delegation has AAAA records if, and only if, the name itself "
                                   "is one of the servers");
    return HM_OK;
}

// ---- text ---------------------------------------------------------------------------------------

static hm_err parse_ds(hm_bytes text, hm_buf *out)
{
    char copy[160], *p = copy, *end;
    unsigned long n[3];
    static const unsigned long max[3] = {65535, 255, 255};
    if (text.len >= sizeof copy)
        return hm_fail(HM_E_PARSE, "a DS record is too long");
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = 0;
    for (unsigned i = 0; i < 3; i++) {
        n[i] = strtoul(p, &end, 10);
        if (end == p || n[i] > max[i] || *end != ' ')
            return hm_fail(HM_E_PARSE, "a DS record is \"TAG ALGORITHM DIGEST-TYPE HEX\"");
        p = end + 1;
    }
    uint8_t digest[64];
    size_t len = strlen(p) / 2;
    for (char *c = p; *c; c++)
        *c = *c >= 'A' && *c <= 'F' ? (char)(*c + 32) : *c;
    if (len > sizeof digest || hm_unhex(digest, len, p, strlen(p)) != HM_OK)
        return hm_fail(HM_E_PARSE, "the digest of a DS record is hexadecimal digits");
    hm_wr_u16(out, (uint16_t)n[0]);
    hm_wr_u8(out, (uint8_t)n[1]);
    hm_wr_u8(out, (uint8_t)n[2]);
    hm_buf_append(out, digest, len);
    return ds_check(hm_bytes_of(out->ptr + out->len - 4 - len, 4 + len));
}

// Cut into strings of 255 bytes.
static hm_err put_strings(hm_bytes text, hm_buf *out)
{
    size_t at = 0;
    do {
        size_t len = text.len - at < 255 ? text.len - at : 255;
        hm_wr_u8(out, (uint8_t)len);
        hm_buf_append(out, text.ptr + at, len);
        at += len;
    } while (at < text.len);
    return hm_buf_status(out);
}

static hm_err parse_quoted(hm_bytes text, hm_buf *out)
{
    for (size_t at = 0; at < text.len;) {
        uint8_t one[255];
        size_t len = 0;
        if (text.ptr[at++] != '"')
            return hm_fail(HM_E_PARSE, "a text in quotes is followed by something else");
        for (; at < text.len && text.ptr[at] != '"' && len < sizeof one; len++) {
            one[len] = text.ptr[at++];
            if (one[len] == '\\')
                HM_TRY(dns_escape(text, &at, &one[len]));
        }
        if (at >= text.len || text.ptr[at++] != '"')
            return hm_fail(HM_E_PARSE, "a text in quotes does not end, or is over 255 bytes");
        hm_wr_u8(out, (uint8_t)len);
        hm_buf_append(out, one, len);
        while (at < text.len && text.ptr[at] == ' ')
            at++;
    }
    return hm_buf_status(out);
}

// As it is, or as zone files have it, in quotes.
static hm_err parse_txt(hm_bytes text, hm_buf *out)
{
    return text.len > 0 && text.ptr[0] == '"' ? parse_quoted(text, out) : put_strings(text, out);
}

hm_err dns_rdata_parse(uint16_t type, hm_bytes text, hm_buf *out)
{
    char addr[INET6_ADDRSTRLEN];
    struct in6_addr a;
    dns_name n;
    switch (type) {
    case DNS_TYPE_AAAA:
        snprintf(addr, sizeof addr, "%.*s", (int)text.len, (const char *)text.ptr);
        if (text.len >= sizeof addr || inet_pton(AF_INET6, addr, &a) != 1)
            return hm_fail(HM_E_PARSE, "\"%.*s\" is no IPv6 address", (int)text.len,
                           (const char *)text.ptr);
        hm_buf_append(out, &a, sizeof a);
        return hm_buf_status(out);
    case DNS_TYPE_TXT:
        return parse_txt(text, out);
    case DNS_TYPE_NS:
        HM_TRY(dns_name_parse(text, &n));
        dns_name_lower(&n);
        hm_buf_append(out, n.wire, n.len);
        return hm_buf_status(out);
    case DNS_TYPE_DS:
        return parse_ds(text, out);
    default:
        return hm_fail(HM_E_PARSE, "a record is AAAA, TXT, NS or DS; there is no IPv4 here");
    }
}

static bool put_name(hm_bytes *left, hm_buf *out)
{
    dns_name n;
    size_t used;
    char text[DNS_NAME_TEXT_MAX];
    if (dns_name_read(*left, &n, &used) != HM_OK)
        return false;
    hm_buf_printf(out, "%s%s", dns_name_text(&n, text), n.len > 1 ? "." : "");
    *left = hm_bytes_of(left->ptr + used, left->len - used);
    return true;
}

static bool put_base64(hm_bytes s, hm_buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < s.len; i += 3) {
        size_t n = s.len - i < 3 ? s.len - i : 3;
        uint32_t v = (uint32_t)s.ptr[i] << 16 | (n > 1 ? (uint32_t)s.ptr[i + 1] << 8 : 0) |
                     (n > 2 ? s.ptr[i + 2] : 0);
        char four[5] = {digits[v >> 18], digits[v >> 12 & 63], n > 1 ? digits[v >> 6 & 63] : '=',
                        n > 2 ? digits[v & 63] : '=', 0};
        hm_buf_puts(out, four);
    }
    return true;
}

static bool put_txt(hm_bytes s, hm_buf *out)
{
    for (size_t at = 0; at < s.len;) {
        size_t len = s.ptr[at];
        if (s.len - at - 1 < len)
            return false;
        hm_buf_puts(out, at ? " \"" : "\"");
        for (size_t i = 1; i <= len; i++) {
            uint8_t c = s.ptr[at + i];
            if (c == '"' || c == '\\')
                hm_buf_printf(out, "\\%c", c);
            else if (c >= ' ' && c < 0x7f)
                hm_buf_printf(out, "%c", c);
            else
                hm_buf_printf(out, "\\%03u", c);
        }
        hm_buf_puts(out, "\"");
        at += len + 1;
    }
    return true;
}

static bool put_types(hm_bytes s, hm_buf *out)
{
    char word[16];
    for (size_t at = 0; at < s.len; at += 2u + s.ptr[at + 1]) {
        if (s.len - at < 2 || s.len - at - 2 < s.ptr[at + 1])
            return false;
        for (unsigned bit = 0; bit < 8u * s.ptr[at + 1]; bit++)
            if (s.ptr[at + 2 + bit / 8] & 0x80 >> bit % 8)
                hm_buf_printf(out, " %s", dns_type_text((uint16_t)(s.ptr[at] << 8 | bit), word));
    }
    return true;
}

static bool put_rrsig(hm_bytes s, hm_buf *out)
{
    char word[16];
    if (s.len < 18)
        return false;
    const uint8_t *p = s.ptr;
    hm_buf_printf(out, "%s %u %u %u %u %u %u ", dns_type_text(get16(p), word), p[2], p[3],
                  get32(p + 4), get32(p + 8), get32(p + 12), get16(p + 16));
    s = hm_bytes_of(p + 18, s.len - 18);
    if (!put_name(&s, out))
        return false;
    hm_buf_puts(out, " ");
    return put_base64(s, out);
}

static bool put_known(uint16_t type, hm_bytes s, hm_buf *out)
{
    char addr[INET6_ADDRSTRLEN];
    switch (type) {
    case DNS_TYPE_A:
    case DNS_TYPE_AAAA:
        if (s.len != (type == DNS_TYPE_A ? 4 : 16))
            return false;
        inet_ntop(type == DNS_TYPE_A ? AF_INET : AF_INET6, s.ptr, addr, sizeof addr);
        hm_buf_puts(out, addr);
        return true;
    case DNS_TYPE_NS:
    case DNS_TYPE_CNAME:
    case DNS_TYPE_PTR:
        return put_name(&s, out) && s.len == 0;
    case DNS_TYPE_MX:
        if (s.len < 3)
            return false;
        hm_buf_printf(out, "%u ", get16(s.ptr));
        s = hm_bytes_of(s.ptr + 2, s.len - 2);
        return put_name(&s, out) && s.len == 0;
    case DNS_TYPE_SOA:
        if (!put_name(&s, out))
            return false;
        hm_buf_puts(out, " ");
        if (!put_name(&s, out) || s.len != 20)
            return false;
        for (unsigned i = 0; i < 20; i += 4)
            hm_buf_printf(out, " %u", get32(s.ptr + i));
        return true;
    case DNS_TYPE_TXT:
        return put_txt(s, out);
    case DNS_TYPE_DS:
    case DNS_TYPE_CDS:
    case DNS_TYPE_DNSKEY:
    case DNS_TYPE_CDNSKEY:
        if (s.len < 5)
            return false;
        hm_buf_printf(out, "%u %u %u ", get16(s.ptr), s.ptr[2], s.ptr[3]);
        s = hm_bytes_of(s.ptr + 4, s.len - 4);
        if (type == DNS_TYPE_DNSKEY || type == DNS_TYPE_CDNSKEY)
            return put_base64(s, out);
        hm_buf_hex(out, s);
        return true;
    case DNS_TYPE_NSEC:
        return put_name(&s, out) && put_types(s, out);
    case DNS_TYPE_RRSIG:
        return put_rrsig(s, out);
    default:
        return false;
    }
}

void dns_rdata_text(uint16_t type, hm_bytes rdata, hm_buf *out)
{
    size_t start = out->len;
    if (put_known(type, rdata, out))
        return;
    out->len = start;
    hm_buf_printf(out, "\\# %zu%s", rdata.len, rdata.len ? " " : "");
    hm_buf_hex(out, rdata);
}
