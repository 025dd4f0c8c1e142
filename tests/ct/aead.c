// Constant time of packet protection, after A. Langley's ctgrind, with clang's MemorySanitizer,
// which knows AVX-512: keys and text are made "uninitialised", so that a branch or an address that
// depends on them is reported. Run by scripts/check-ct.sh.
//
// What comes out must be as uninitialised, byte for byte: else secrets were lost sight of on the
// way and silence would prove nothing.
#include <sanitizer/msan_interface.h>
#include <stdio.h>
#include <stdlib.h>

#include "crypto/aead_internal.h"

static unsigned checks;

static void secret_still(const void *p, size_t len, const char *what)
{
    for (size_t i = 0; i < len; i++)
        if (__msan_test_shadow((const uint8_t *)p + i, 1) != 0) {
            printf("ct: byte %zu of %s is not known to be secret\n", i, what);
            exit(1);
        }
    checks++;
}

static void packet(hm_aead *a, size_t aad_len, size_t len)
{
    static uint8_t aad[100], text[5000], elsewhere[5000];
    hm_bytes pieces[2] = {{NULL, len / 3}, {elsewhere, len - len / 3}};
    hm_aead_seal s = {{aad, aad_len}, text, len, 7, NULL, 0};
    __msan_poison(text, len);
    __msan_poison(elsewhere, len);
    hm_assert(hm_aead_seal_batch(a, &s, 1) == HM_OK);
    secret_still(text, len + HM_AEAD_TAG, "a sealed packet");
    s.pieces = pieces, s.piece_count = 2;
    hm_assert(hm_aead_seal_batch(a, &s, 1) == HM_OK);
    secret_still(text, len + HM_AEAD_TAG, "a packet sealed from pieces");
    // Below hm_aead_open_batch(), which may tell that a packet did not open.
    hm_aead_open o = {{aad, aad_len}, text, len, 7, false};
    a->ops->open(a, &o, 1);
    secret_still(&o.ok, sizeof o.ok, "whether a packet opens");
    secret_still(text, len, "an opened packet");
}

static void version(hm_aead_version v, hm_aead_cipher c)
{
    static hm_aead a;
    static hm_hp hp;
    uint8_t key[32] = {0}, iv[HM_AEAD_IV] = {0}, masks[9][HM_AEAD_SAMPLE] = {{0}};
    uint8_t samples[9 * HM_AEAD_SAMPLE] = {0};
    const uint8_t *at[9];
    if (!hm_aead_available(v, c)) {
        printf("ct: this processor lacks version %d\n", (int)v);
        return;
    }
    __msan_poison(key, sizeof key);
    __msan_poison(iv, sizeof iv);
    hm_assert(hm_aead_init(&a, c, v, key, iv) == HM_OK);
    secret_still(a.powers, HM_AEAD_POWERS * sizeof a.powers[0], "the hash key");
    for (size_t len = 0; len < 1500; len += 1 + len / 40)
        packet(&a, len % 77, len);
    packet(&a, 20, sizeof(uint8_t[4900]));
    hm_assert(hm_hp_init(&hp, c, v, key) == HM_OK);
    for (size_t i = 0; i < 9; i++)
        at[i] = samples + HM_AEAD_SAMPLE * i;
    hm_assert(hm_hp_masks(&hp, at, masks, 9) == HM_OK);
    secret_still(masks, sizeof masks, "a mask");
    hm_aead_clear(&a);
    hm_hp_clear(&hp);
    printf("ct: %s, %zu-byte key: nothing found\n", hm_aead_version_name(v, c), hm_aead_key_len(c));
}

int main(int argc, char **argv)
{
    if (argc > 1) { // what must be found
        volatile uint8_t table[256] = {0};
        uint8_t byte = (uint8_t)argc;
        __msan_poison(&byte, 1);
        return table[byte];
    }
    (void)argv;
    for (int v = HM_AEAD_AVX512; v <= HM_AEAD_AESNI; v++)
        for (int c = HM_AES_128_GCM; c <= HM_AES_256_GCM; c++)
            version((hm_aead_version)v, (hm_aead_cipher)c);
    printf("ct: %u results, all of them secret\n", checks);
    return checks == 0;
}
