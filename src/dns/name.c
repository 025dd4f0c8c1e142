#include "dns/name.h"

#include <stdio.h>

hm_err dns_escape(hm_bytes text, size_t *at, uint8_t *out)
{
    const uint8_t *p = text.ptr + *at;
    size_t left = text.len - *at;
    if (left >= 3 && p[0] >= '0' && p[0] <= '9') {
        unsigned n = 0;
        for (unsigned i = 0; i < 3; i++) {
            if (p[i] < '0' || p[i] > '9')
                return hm_fail(HM_E_PARSE, "an escape is \\DDD, three digits");
            n = n * 10 + (p[i] - '0');
        }
        if (n > 255)
            return hm_fail(HM_E_PARSE, "an escape goes up to \\255");
        *out = (uint8_t)n;
        *at += 3;
        return HM_OK;
    }
    if (left == 0 || (p[0] >= '0' && p[0] <= '9'))
        return hm_fail(HM_E_PARSE, "the text ends in the middle of an escape");
    *out = p[0];
    *at += 1;
    return HM_OK;
}

hm_err dns_name_parse(hm_bytes text, dns_name *out)
{
    dns_name n = {0};
    size_t label = 0; // where its length stands
    unsigned len = 1; // of what is written, with the length of this label
    if (text.len == 1 && text.ptr[0] == '.') {
        *out = (dns_name){.len = 1};
        return HM_OK;
    }
    if (text.len == 0)
        return hm_fail(HM_E_PARSE, "a domain name is empty");
    for (size_t at = 0; at < text.len;) {
        uint8_t c = text.ptr[at++];
        bool dot = c == '.';
        if (c == '\\')
            HM_TRY(dns_escape(text, &at, &c));
        size_t so_far = len - label - 1;
        if (dot && so_far == 0)
            return hm_fail(HM_E_PARSE, "a domain name has an empty label");
        if (!dot && so_far == DNS_LABEL_MAX)
            return hm_fail(HM_E_PARSE, "a label of a domain name has at most %u bytes",
                           DNS_LABEL_MAX);
        if (len + 1 >= DNS_NAME_MAX)
            return hm_fail(HM_E_PARSE, "a domain name has at most %u bytes", DNS_NAME_MAX - 2);
        if (dot) {
            n.wire[label] = (uint8_t)so_far;
            label = len++;
        } else {
            n.wire[len++] = c;
        }
    }
    if (len - label - 1 > 0) { // no dot at the end
        n.wire[label] = (uint8_t)(len - label - 1);
        label = len++;
    }
    n.wire[label] = 0;
    n.len = (uint8_t)len;
    *out = n;
    return HM_OK;
}

const char *dns_name_text(const dns_name *n, char out[DNS_NAME_TEXT_MAX])
{
    size_t len = 0;
    for (unsigned at = 0; n->wire[at] != 0; at += n->wire[at] + 1u) {
        if (at > 0)
            out[len++] = '.';
        for (unsigned i = 1; i <= n->wire[at]; i++) {
            uint8_t c = n->wire[at + i];
            if (c == '.' || c == '\\' || c == '"' || c == ';') {
                out[len++] = '\\';
                out[len++] = (char)c;
            } else if (c > ' ' && c < 0x7f) {
                out[len++] = (char)c;
            } else {
                len += (size_t)snprintf(out + len, 5, "\\%03u", c);
            }
        }
    }
    if (len == 0)
        out[len++] = '.';
    out[len] = 0;
    return out;
}

void dns_name_lower(dns_name *n)
{
    for (unsigned i = 0; i < n->len; i++)
        n->wire[i] = dns_lower(n->wire[i]); // no length of a label is a letter
}

static bool bytes_same(const uint8_t *a, const uint8_t *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (dns_lower(a[i]) != dns_lower(b[i]))
            return false;
    return true;
}

bool dns_name_eq(const dns_name *a, const dns_name *b)
{
    return a->len == b->len && bytes_same(a->wire, b->wire, a->len);
}

bool dns_name_within(const dns_name *n, const dns_name *apex)
{
    if (n->len < apex->len)
        return false;
    unsigned skip = n->len - apex->len, at = 0;
    while (at < skip)
        at += n->wire[at] + 1u;
    return at == skip && bytes_same(n->wire + at, apex->wire, apex->len);
}

unsigned dns_name_labels(const dns_name *n)
{
    unsigned count = 0;
    for (unsigned at = 0; n->wire[at] != 0; at += n->wire[at] + 1u)
        count++;
    return count;
}

dns_name dns_name_up(const dns_name *n, unsigned labels)
{
    dns_name up = {0};
    unsigned at = 0;
    for (unsigned i = 0; i < labels; i++) {
        hm_assert(n->wire[at] != 0);
        at += n->wire[at] + 1u;
    }
    up.len = (uint8_t)(n->len - at);
    memcpy(up.wire, n->wire + at, up.len);
    return up;
}

hm_err dns_name_join(const dns_name *a, const dns_name *b, dns_name *out)
{
    dns_name n = *a;
    if (a->len - 1u + b->len > DNS_NAME_MAX)
        return hm_fail(HM_E_RANGE, "the whole domain name would have more than %u bytes",
                       DNS_NAME_MAX);
    memcpy(n.wire + a->len - 1, b->wire, b->len);
    n.len = (uint8_t)(a->len - 1u + b->len);
    *out = n;
    return HM_OK;
}

dns_name dns_name_next(const dns_name *n)
{
    dns_name next = *n;
    if (n->len + 2u <= DNS_NAME_MAX) { // a label of one zero byte in front
        next.wire[0] = 1;
        next.wire[1] = 0;
        memcpy(next.wire + 2, n->wire, n->len);
        next.len = (uint8_t)(n->len + 2);
        return next;
    }
    unsigned label = n->wire[0];
    if (n->len < DNS_NAME_MAX && label < DNS_LABEL_MAX) { // nothing fits below it: a zero behind
        next.wire[0] = (uint8_t)(label + 1);
        next.wire[label + 1] = 0;
        memcpy(next.wire + label + 2, n->wire + label + 1, n->len - label - 1u);
        next.len = (uint8_t)(n->len + 1);
        return next;
    }
    uint8_t *last = &next.wire[label]; // nothing is longer either
    *last = *last == '@' ? '[' : *last == 0xff ? 0xff : (uint8_t)(*last + 1);
    return next;
}

hm_err dns_name_read(hm_bytes wire, dns_name *out, size_t *used)
{
    size_t at = 0;
    while (at < wire.len && wire.ptr[at] != 0) {
        if (wire.ptr[at] > DNS_LABEL_MAX)
            return hm_fail(HM_E_PARSE, "a domain name has a label of an unknown kind");
        at += wire.ptr[at] + 1u;
    }
    if (at >= wire.len || at + 1 > DNS_NAME_MAX || (used == NULL && at + 1 != wire.len))
        return hm_fail(HM_E_PARSE, "a domain name is cut off, too long, or followed by something");
    memset(out, 0, sizeof *out);
    memcpy(out->wire, wire.ptr, at + 1);
    out->len = (uint8_t)(at + 1);
    if (used != NULL)
        *used = at + 1;
    return HM_OK;
}
