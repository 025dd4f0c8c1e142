// What was sealed to a key: the input is a sealed message, or (first byte 0xff) how a true one is
// changed: two bytes of place, one to xor. Only the true one opens.
#include <stdlib.h>

#include "crypto/crypto.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t public_key[HM_SEAL_PUBLIC_BYTES], seed[HM_SEAL_SEED_BYTES];
static hm_buf sealed;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (hm_crypto_init() != HM_OK || hm_seal_keygen(public_key, seed) != HM_OK ||
        hm_seal(hm_bytes_of(public_key, sizeof public_key), hm_bytes_str("aad"),
                hm_bytes_str("a message"), &sealed) != HM_OK)
        abort();
    return 0;
}

static void check(hm_bytes in)
{
    hm_buf out = {0};
    hm_err err = hm_open(hm_bytes_of(seed, sizeof seed), hm_bytes_str("aad"), in, &out);
    hm_assert((err == HM_OK) == hm_bytes_eq(in, hm_buf_bytes(&sealed)));
    if (err == HM_OK)
        hm_assert(hm_bytes_eq(hm_buf_bytes(&out), hm_bytes_str("a message")));
    hm_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t copy[HM_SEAL_OVERHEAD + 16];
    if (size == 0 || data[0] != 0xff) {
        check(hm_bytes_of(data, size));
        return 0;
    }
    memcpy(copy, sealed.ptr, sealed.len);
    for (size_t i = 1; i + 2 < size; i += 3)
        copy[((size_t)data[i] << 8 | data[i + 1]) % sealed.len] ^= data[i + 2];
    check(hm_bytes_of(copy, sealed.len));
    return 0;
}
