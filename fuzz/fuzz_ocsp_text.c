// An OCSP request in base64 out of an address, with slashes missing: what is tried for it is it but
// for slashes beside slashes, and within its limits.
#include <openssl/evp.h>
#include <stdlib.h>

#include "trustchain/ocsp_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct seen {
    const ocsp_text *t;
    size_t tries;
} seen;

static size_t squeeze(char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] != '/' || n == 0 || text[n - 1] != '/')
            text[n++] = text[i];
    return n;
}

static bool look(void *ctx, hm_bytes der)
{
    seen *s = ctx;
    static char again[OCSP_TEXT_MAX + 8], asked[OCSP_TEXT_MAX];
    ocsp_question q = {0};
    if (der.len > OCSP_REQUEST_MAX || ++s->tries > OCSP_TEXT_TRIES_MAX)
        abort();
    (void)EVP_EncodeBlock((uint8_t *)again, der.ptr, (int)der.len);
    size_t len = der.len * 4 / 3; // whole characters; bits of the last may be lost
    memcpy(asked, s->t->text, s->t->len);
    size_t a = squeeze(again, len), b = squeeze(asked, s->t->len);
    if (a > b || b - a > 1 || memcmp(again, asked, a) != 0)
        abort();
    if (ocsp_question_read(der, &q) == HM_OK)
        ocsp_question_free(&q);
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[2 * OCSP_TEXT_MAX];
    ocsp_text t;
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    if (ocsp_text_read(text, &t) != HM_OK)
        return 0;
    seen s = {&t, 0};
    (void)ocsp_text_each(&t, look, &s);
    return 0;
}
