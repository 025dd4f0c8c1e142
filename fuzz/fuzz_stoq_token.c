// Retry tokens. The input is a token that nobody made (never valid), or, with a first byte of 0xff,
// says how a good one is changed: two bytes of place, one to xor. Any change makes it void, and so
// does another address, another id, another time.
#include "stoq/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MADE_US UINT64_C(5000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[32] = {1}, id[STOQ_MAX_CID] = {2};
    struct sockaddr_in6 from = {.sin6_family = AF_INET6, .sin6_port = htons(4433)};
    stoq_cid original = stoq_cid_of(id, 1 + size % STOQ_MAX_CID);
    stoq_cid retry = stoq_cid_of(id, STOQ_LOCAL_CID), got;
    if (size == 0 || data[0] != 0xff) {
        hm_assert(!token_check(secret, &from, hm_bytes_of(data, size), &retry, MADE_US, &got));
        return 0;
    }
    uint8_t token[STOQ_TOKEN_MAX];
    size_t len = token_make(secret, &from, &original, &retry, MADE_US, token);
    hm_bytes t = hm_bytes_of(token, len);
    hm_assert(token_check(secret, &from, t, &retry, MADE_US + STOQ_TOKEN_LIFE_US, &got));
    hm_assert(stoq_cid_eq(&got, &original));
    hm_assert(!token_check(secret, &from, t, &retry, MADE_US + STOQ_TOKEN_LIFE_US + 1, &got));
    hm_assert(!token_check(secret, &from, t, &retry, MADE_US - 1, &got));
    hm_assert(!token_check(secret, &from, hm_bytes_of(token, len - 1), &retry, MADE_US, &got));
    if (size < 4 || data[3] == 0)
        return 0;
    size_t at = ((size_t)data[1] << 8 | data[2]) % (len + 16 + 2 + STOQ_LOCAL_CID);
    if (at < len)
        token[at] ^= data[3];
    else if (at < len + 16)
        from.sin6_addr.s6_addr[at - len] ^= data[3];
    else if (at < len + 18)
        from.sin6_port ^= (in_port_t)(data[3] << (8 * (at - len - 16)));
    else
        retry.id[at - len - 18] ^= data[3];
    hm_assert(!token_check(secret, &from, t, &retry, MADE_US, &got));
    return 0;
}
