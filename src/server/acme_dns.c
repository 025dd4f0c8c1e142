#include "server/acme_dns.h"

#include <ctype.h>

#define HEADER_BYTES 12u
#define EDNS_BYTES 11u
#define CLASS_IN 1u
#define TYPE_OPT 41u

hm_err acme_dns_question(const char *name, uint16_t type, uint16_t id, hm_buf *out)
{
    if (strlen(name) == 0 || strlen(name) > 253)
        return hm_fail(HM_E_INVALID, "a name has 1 to 253 characters");
    hm_wr_u16(out, id);
    hm_wr_u16(out, 0x0100); // recursion desired
    hm_wr_u16(out, 1);
    hm_wr_u16(out, 0);
    hm_wr_u16(out, 0);
    hm_wr_u16(out, 1);
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, ".");
        if (n == 0 || n > 63)
            return hm_fail(HM_E_INVALID, "a label of a name has 1 to 63 characters");
        hm_wr_u8(out, (uint8_t)n);
        hm_wr_raw(out, p, n);
        p += n + (p[n] == '.');
    }
    hm_wr_u8(out, 0);
    hm_wr_u16(out, type);
    hm_wr_u16(out, CLASS_IN);
    hm_wr_u8(out, 0); // EDNS: root, size, no flags, no options
    hm_wr_u16(out, TYPE_OPT);
    hm_wr_u16(out, ACME_DNS_UDP_BYTES);
    hm_wr_u32(out, 0);
    hm_wr_u16(out, 0);
    return hm_buf_status(out);
}

// Past a name, which may end in a pointer.
static void skip_name(hm_rd *r)
{
    for (;;) {
        uint8_t n = hm_rd_u8(r);
        if ((n & 0xc0) == 0xc0) {
            (void)hm_rd_u8(r);
            return;
        }
        if (n & 0xc0)
            hm_rd_refuse(r, HM_E_PARSE);
        if (n == 0 || !hm_rd_ok(r))
            return;
        (void)hm_rd_raw(r, n);
    }
}

// The question with type and class, as it was asked; letters may change their case on the way.
static bool same_question(hm_rd *r, hm_bytes question)
{
    hm_rd q = hm_rd_of(question);
    (void)hm_rd_raw(&q, HEADER_BYTES);
    const uint8_t *from = q.ptr;
    skip_name(&q);
    (void)hm_rd_u32(&q);
    if (!hm_rd_ok(&q))
        return false;
    size_t len = (size_t)(q.ptr - from);
    hm_bytes asked = hm_rd_raw(r, len);
    for (size_t i = 0; i < asked.len; i++)
        if (tolower(asked.ptr[i]) != tolower(from[i]))
            return false;
    return hm_rd_ok(r);
}

hm_err acme_dns_read(hm_bytes question, hm_bytes message, acme_dns_answer *out)
{
    hm_rd r = hm_rd_of(message), q = hm_rd_of(question);
    acme_dns_answer a = {0};
    uint16_t id = hm_rd_u16(&r), flags = hm_rd_u16(&r), questions = hm_rd_u16(&r);
    uint16_t answers = hm_rd_u16(&r);
    (void)hm_rd_u32(&r);
    if (!hm_rd_ok(&r) || id != hm_rd_u16(&q) || !(flags & 0x8000) || questions != 1 ||
        !same_question(&r, question))
        return hm_fail(HM_E_PARSE, "not an answer to the question");
    const uint8_t *asked = question.ptr + question.len - EDNS_BYTES - 4;
    uint16_t type = (uint16_t)(asked[0] << 8 | asked[1]);
    a.code = flags & 15;
    a.truncated = flags & 0x0200;
    for (uint16_t i = 0; i < answers && a.count < ACME_DNS_RECORDS_MAX && !a.truncated; i++) {
        skip_name(&r);
        uint16_t got = hm_rd_u16(&r), class = hm_rd_u16(&r);
        (void)hm_rd_u32(&r);
        hm_bytes data = hm_rd_raw(&r, hm_rd_u16(&r));
        if (!hm_rd_ok(&r))
            return hm_fail(HM_E_PARSE, "the answer is cut off or damaged");
        if (got == type && class == CLASS_IN)
            a.data[a.count++] = data;
    }
    *out = a;
    return HM_OK;
}

bool acme_dns_text_is(hm_bytes data, const char *text)
{
    hm_rd r = hm_rd_of(data);
    size_t at = 0, len = strlen(text);
    while (hm_rd_ok(&r) && r.left) {
        hm_bytes part = hm_rd_raw(&r, hm_rd_u8(&r));
        if (!hm_rd_ok(&r) || part.len > len - at ||
            (part.len && memcmp(text + at, part.ptr, part.len) != 0))
            return false;
        at += part.len;
    }
    return at == len;
}
