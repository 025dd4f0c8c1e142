#include "stoq/version.h"

#include "base/err.h"

#include <string.h>

const stoq_version stoq_versions[STOQ_MAX_VERSIONS] = {
    {.number = STOQ_VERSION_1,
     .first_type = 0,
     .salt = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
              0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a},
     .retry_key = {0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3,
                   0x68, 0xc8, 0x4e},
     .retry_nonce = {0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb},
     .key = "quic key",
     .iv = "quic iv",
     .hp = "quic hp",
     .ku = "quic ku"},
    {.number = STOQ_VERSION_2,
     .first_type = 1,
     .salt = {0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93,
              0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9},
     .retry_key = {0x8f, 0xb4, 0xb0, 0x1b, 0x56, 0xac, 0x48, 0xe2, 0x60, 0xfb, 0xcb, 0xce, 0xad,
                   0x7c, 0xcc, 0x92},
     .retry_nonce = {0xd8, 0x69, 0x69, 0xbc, 0x2d, 0x7c, 0x6d, 0x99, 0x90, 0xef, 0xb0, 0x4a},
     .key = "quicv2 key",
     .iv = "quicv2 iv",
     .hp = "quicv2 hp",
     .ku = "quicv2 ku"},
};

const stoq_version *stoq_version_of(uint32_t number)
{
    for (int i = 0; i < STOQ_MAX_VERSIONS; i++)
        if (stoq_versions[i].number == number)
            return &stoq_versions[i];
    return NULL;
}

static bool has(const uint32_t *list, size_t count, uint32_t number)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == number)
            return true;
    return false;
}

hm_err stoq_versions_of(const char *text, uint32_t out[STOQ_MAX_VERSIONS])
{
    uint32_t list[STOQ_MAX_VERSIONS] = {0};
    size_t count = 0;
    for (const char *p = text; count < STOQ_MAX_VERSIONS; p += 2) {
        if ((p[0] != '1' && p[0] != '2') || (p[1] != ',' && p[1] != '\0'))
            break;
        uint32_t number = stoq_versions[p[0] - '1'].number;
        if (has(list, count, number))
            break;
        list[count++] = number;
        if (p[1] == '\0') {
            memcpy(out, list, sizeof list);
            return HM_OK;
        }
    }
    return hm_fail(HM_E_CONFIG,
                   "versions of QUIC: \"%.40s\"; they are 1 and 2, the preferred one "
                   "first, with a comma between",
                   text);
}
