#include "trustchain/ocsp_text.h"

#include <openssl/evp.h>

#define HEAD_CHARS 8u // of them the first six bytes, in which the DER's length is

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// len characters, any number of them, to bytes; 0 when it is not base64.
static size_t decode(const char *text, size_t len, uint8_t der[OCSP_TEXT_MAX])
{
    char padded[OCSP_TEXT_MAX + 4] = {0};
    size_t pad = (4 - len % 4) % 4;
    if (pad == 3)
        return 0;
    memcpy(padded, text, len);
    memset(padded + len, '=', pad);
    int n = EVP_DecodeBlock(der, (const uint8_t *)padded, (int)(len + pad));
    return n > (int)pad ? (size_t)n - pad : 0;
}

// Bytes of the SEQUENCE that begins so; 0 when none does. The two characters that could be slashes
// beside each other do not occur in here: the lengths of X.690, 8.1.3, are followed by the tag
// 0x30.
static size_t der_length(const uint8_t head[6])
{
    if (head[0] != 0x30)
        return 0;
    if (head[1] < 0x80)
        return 2u + head[1];
    if (head[1] == 0x81)
        return 3u + head[2];
    return head[1] == 0x82 ? 4u + ((size_t)head[2] << 8) + head[3] : 0;
}

hm_err ocsp_text_read(const char *text, ocsp_text *out)
{
    ocsp_text t = {0};
    uint8_t head[OCSP_TEXT_MAX];
    size_t len = strlen(text), pad = 0;
    while (pad < 2 && pad < len && text[len - 1 - pad] == '=')
        pad++;
    t.len = len - pad;
    if (t.len < HEAD_CHARS || t.len >= OCSP_TEXT_MAX)
        return hm_fail(HM_E_PARSE, "no OCSP request has %zu characters", len);
    for (size_t i = 0; i < t.len; i++)
        t.text[i] = text[i] == ' ' ? '+' : text[i];
    t.text[t.len] = 0;
    size_t bytes = strspn(t.text, alphabet) == t.len && decode(t.text, HEAD_CHARS, head) > 0
                       ? der_length(head)
                       : 0;
    size_t want = (bytes * 4 + 2) / 3;
    if (bytes == 0 || bytes > OCSP_REQUEST_MAX || want < t.len || pad != (4 - want % 4) % 4)
        return hm_fail(HM_E_PARSE, "not an OCSP request in base64");
    t.missing = want - t.len;
    *out = t;
    return HM_OK;
}

typedef struct search {
    const ocsp_text *t;
    bool (*fits)(void *ctx, hm_bytes der);
    void *ctx;
    size_t sites, tries;
    size_t more[OCSP_TEXT_SITES_MAX]; // slashes after that of each site
    bool found;
} search;

static bool try_one(search *s)
{
    char text[OCSP_TEXT_MAX];
    uint8_t der[OCSP_TEXT_MAX];
    size_t n = 0, site = 0;
    for (size_t i = 0; i < s->t->len; i++) {
        text[n++] = s->t->text[i];
        if (s->t->text[i] != '/')
            continue;
        memset(text + n, '/', s->more[site]);
        n += s->more[site++];
    }
    s->tries++;
    size_t len = decode(text, n, der);
    s->found = len > 0 && s->fits(s->ctx, hm_bytes_of(der, len));
    return s->found || s->tries == OCSP_TEXT_TRIES_MAX;
}

// In all ways that left slashes can stand at this site and those behind; true ends it.
static bool spread(search *s, size_t site, size_t left)
{
    if (site + 1 == s->sites) {
        s->more[site] = left;
        return try_one(s);
    }
    for (size_t n = 0; n <= left; n++) {
        s->more[site] = n;
        if (spread(s, site + 1, left - n))
            return true;
    }
    return false;
}

bool ocsp_text_each(const ocsp_text *t, bool (*fits)(void *ctx, hm_bytes der), void *ctx)
{
    search s = {.t = t, .fits = fits, .ctx = ctx};
    for (size_t i = 0; i < t->len; i++)
        s.sites += t->text[i] == '/';
    if (t->missing == 0) {
        uint8_t der[OCSP_TEXT_MAX];
        size_t len = decode(t->text, t->len, der);
        return len > 0 && fits(ctx, hm_bytes_of(der, len));
    }
    if (s.sites > 0 && s.sites <= OCSP_TEXT_SITES_MAX)
        (void)spread(&s, 0, t->missing);
    return s.found;
}
