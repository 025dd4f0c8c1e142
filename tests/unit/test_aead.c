// Packet protection: known answers, and each version that this machine has against OpenSSL's EVP.
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "crypto/aead.h"

#define TEXT_MAX 65535u

static const hm_aead_cipher ciphers[] = {HM_AES_128_GCM, HM_AES_256_GCM, HM_CHACHA20_POLY1305};
static const hm_aead_version versions[] = {HM_AEAD_BEST, HM_AEAD_AVX512, HM_AEAD_VAES,
                                           HM_AEAD_AESNI, HM_AEAD_OPENSSL};
static uint8_t key_bytes[32], iv_bytes[HM_AEAD_IV];
static uint8_t plain[TEXT_MAX], expected[TEXT_MAX + HM_AEAD_TAG], got[TEXT_MAX + HM_AEAD_TAG + 64];
static uint8_t header[512];

// The next pair that this machine has; both start at 0.
static bool next(size_t *c, size_t *v)
{
    for (; *c < 3; ++*c, *v = 0)
        for (; *v < 4; ++*v)
            if (hm_aead_available(versions[*v], ciphers[*c]))
                return true;
    return false;
}
#define EACH_VERSION(c, v) for (size_t c = 0, v = 0; next(&c, &v); v++)

static const EVP_CIPHER *evp_cipher(hm_aead_cipher c)
{
    return c == HM_AES_128_GCM   ? EVP_aes_128_gcm()
           : c == HM_AES_256_GCM ? EVP_aes_256_gcm()
                                 : EVP_chacha20_poly1305();
}

// What OpenSSL makes of it: text and tag to out.
static void reference(hm_aead_cipher c, hm_bytes aad, const uint8_t *text, size_t len, uint64_t pn,
                      uint8_t *out)
{
    uint8_t nonce[HM_AEAD_IV];
    int n = 0, m = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    memcpy(nonce, iv_bytes, sizeof nonce);
    for (unsigned i = 0; i < 8; i++)
        nonce[11 - i] ^= (uint8_t)(pn >> (8 * i));
    assert_int_equal(EVP_EncryptInit_ex(ctx, evp_cipher(c), NULL, key_bytes, nonce), 1);
    if (aad.len > 0)
        assert_int_equal(EVP_EncryptUpdate(ctx, NULL, &n, aad.ptr, (int)aad.len), 1);
    if (len > 0)
        assert_int_equal(EVP_EncryptUpdate(ctx, out, &m, text, (int)len), 1);
    assert_int_equal(EVP_EncryptFinal_ex(ctx, out + m, &n), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, HM_AEAD_TAG, out + len), 1);
    EVP_CIPHER_CTX_free(ctx);
}

static hm_aead *key_of(size_t c, size_t v)
{
    static hm_aead a;
    assert_int_equal(hm_aead_init(&a, ciphers[c], versions[v], key_bytes, iv_bytes), HM_OK);
    assert_true(hm_aead_ready(&a));
    return &a;
}

// Seals and opens what lies at text (len bytes, then room for the tag) against the reference.
static void check(hm_aead *a, hm_bytes aad, uint8_t *text, size_t len, uint64_t pn)
{
    memcpy(text, plain, len);
    assert_int_equal(hm_aead_seal_one(a, aad, text, len, pn), HM_OK);
    assert_memory_equal(text, expected, len + HM_AEAD_TAG);
    assert_true(hm_aead_open_one(a, aad, text, len, pn));
    assert_true(len == 0 || memcmp(text, plain, len) == 0);
    assert_memory_equal(text + len, expected + len, HM_AEAD_TAG);
}

static void fill(hm_prng *r, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)hm_prng_next(r);
}

static int setup(void **state)
{
    hm_prng r;
    (void)state;
    hm_prng_seed(&r, 1);
    fill(&r, key_bytes, sizeof key_bytes);
    fill(&r, iv_bytes, sizeof iv_bytes);
    fill(&r, plain, sizeof plain);
    fill(&r, header, sizeof header);
    return 0;
}

// ---- known answers -----------------------------------------------------------------------------

typedef struct answer {
    hm_aead_cipher cipher;
    const char *key, *iv, *aad, *text, *sealed;
    uint64_t pn;
} answer;

static const answer answers[] = {
// D. McGrew and J. Viega, "The Galois/Counter Mode of Operation (GCM)", appendix B, as
// submitted to NIST: test cases 1 to 4 and 13 to 16.
#define ZEROS16 "00000000000000000000000000000000"
#define ZEROS12 "000000000000000000000000"
#define KEY "feffe9928665731c6d6a8f9467308308"
#define IV "cafebabefacedbaddecaf888"
#define AAD "feedfacedeadbeeffeedfacedeadbeefabaddad2"
#define TEXT60                                                                                     \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6" \
    "b525b16aedf5aa0de657ba637b39"
#define SEALED_128                                                                                 \
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84" \
    "aa051ba30b396a0aac973d58e091"
#define SEALED_256                                                                                 \
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b105682" \
    "8838c5f61e6393ba7a0abcc9f662"
    {HM_AES_128_GCM, ZEROS16, ZEROS12, "", "", "58e2fccefa7e3061367f1d57a4e7455a", 0},
    {HM_AES_128_GCM, ZEROS16, ZEROS12, "", ZEROS16,
     "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf", 0},
    {HM_AES_128_GCM, KEY, IV, "", TEXT60 "1aafd255",
     SEALED_128 "473f59854d5c2af327cd64a62cf35abd2ba6fab4", 0},
    {HM_AES_128_GCM, KEY, IV, AAD, TEXT60, SEALED_128 "5bc94fbc3221a5db94fae95ae7121a47", 0},
    {HM_AES_256_GCM, ZEROS16 ZEROS16, ZEROS12, "", "", "530f8afbc74536b9a963b4f1c4cb738b", 0},
    {HM_AES_256_GCM, ZEROS16 ZEROS16, ZEROS12, "", ZEROS16,
     "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919", 0},
    {HM_AES_256_GCM, KEY KEY, IV, "", TEXT60 "1aafd255",
     SEALED_256 "898015adb094dac5d93471bdec1a502270e3cc6c", 0},
    {HM_AES_256_GCM, KEY KEY, IV, AAD, TEXT60, SEALED_256 "76fc6ece0f4e1768cddf8853bb2d551b", 0},
    // RFC 9001, appendices A.3 and A.5.
    {HM_AES_128_GCM, "cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e",
     "c1000000010008f067a5502a4262b50040750001",
     "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a"
     "1200130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da"
     "1a002b00020304",
     "5a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcb"
     "a3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f"
     "58891850abbdca3d20398c276456cbc42158407dd074ee",
     1},
    {HM_CHACHA20_POLY1305, "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
     "e0459b3474bdd0e44a41c144", "4200bff4", "01", "655e5cd55c41f69080575d7999c25a5bfb", 654360564},
};

static size_t unhex(uint8_t *out, const char *hex)
{
    assert_int_equal(hm_unhex(out, strlen(hex) / 2, hex, strlen(hex)), HM_OK);
    return strlen(hex) / 2;
}

static void test_known_answers(void **state)
{
    (void)state;
    EACH_VERSION(c, v) for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
    {
        const answer *t = &answers[i];
        uint8_t key[32], iv[12], aad[64], text[256], sealed[256];
        hm_aead a = {0};
        if (t->cipher != ciphers[c])
            continue;
        assert_int_equal(unhex(key, t->key), hm_aead_key_len(t->cipher));
        assert_int_equal(unhex(iv, t->iv), HM_AEAD_IV);
        hm_bytes header_bytes = hm_bytes_of(aad, unhex(aad, t->aad));
        size_t len = unhex(text, t->text);
        assert_int_equal(unhex(sealed, t->sealed), len + HM_AEAD_TAG);
        assert_int_equal(hm_aead_init(&a, t->cipher, versions[v], key, iv), HM_OK);
        assert_int_equal(hm_aead_seal_one(&a, header_bytes, text, len, t->pn), HM_OK);
        assert_memory_equal(text, sealed, len + HM_AEAD_TAG);
        assert_true(hm_aead_open_one(&a, header_bytes, text, len, t->pn));
        hm_aead_clear(&a);
    }
}

// RFC 9001, appendices A.2, A.3 and A.5.
static void test_known_masks(void **state)
{
    static const struct {
        hm_aead_cipher cipher;
        const char *key, *sample, *mask;
    } known[] = {
        {HM_AES_128_GCM, "9f50449e04a0e810283a1e9933adedd2", "d1b1c98dd7689fb8ec11d242b123dc9b",
         "437b9aec36"},
        {HM_AES_128_GCM, "c206b8d9b9f0f37644430b490eeaa314", "2cd0991cd25b0aac406a5816b6394100",
         "2ec0d8356a"},
        {HM_CHACHA20_POLY1305, "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
         "5e5cd55c41f69080575d7999c25a5bfb", "aefefe7d03"},
    };
    (void)state;
    EACH_VERSION(c, v) for (size_t i = 0; i < 3; i++)
    {
        uint8_t key[32], sample[16], mask[5], out[1][HM_AEAD_SAMPLE];
        const uint8_t *samples[1] = {sample};
        hm_hp hp = {0};
        if (known[i].cipher != ciphers[c])
            continue;
        unhex(key, known[i].key);
        unhex(sample, known[i].sample);
        unhex(mask, known[i].mask);
        assert_int_equal(hm_hp_init(&hp, ciphers[c], versions[v], key), HM_OK);
        assert_true(hm_hp_ready(&hp));
        assert_int_equal(hm_hp_masks(&hp, samples, out, 1), HM_OK);
        assert_memory_equal(out[0], mask, sizeof mask);
        hm_hp_clear(&hp);
        assert_false(hm_hp_ready(&hp));
    }
}

// ---- against OpenSSL ---------------------------------------------------------------------------

static void test_lengths(void **state)
{
    (void)state;
    EACH_VERSION(c, v)
    {
        hm_aead *a = key_of(c, v);
        for (size_t len = 0; len <= 2000; len++) {
            hm_bytes aad = hm_bytes_of(header, len % 47);
            uint64_t pn = len * UINT64_C(0x123456789abcd);
            reference(ciphers[c], aad, plain, len, pn, expected);
            check(a, aad, got + len % 64, len, pn);
        }
        hm_aead_clear(a);
    }
}

static void test_headers(void **state)
{
    static const size_t lens[] = {0, 1, 15, 16, 31, 32, 33, 223, 224, 225, 700, 735, 1452};
    (void)state;
    EACH_VERSION(c, v)
    {
        hm_aead *a = key_of(c, v);
        for (size_t aad_len = 0; aad_len <= 300; aad_len++)
            for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
                hm_bytes aad = hm_bytes_of(header + aad_len % 33, aad_len);
                reference(ciphers[c], aad, plain, lens[i], i, expected);
                check(a, aad, got + i, lens[i], i);
            }
        hm_aead_clear(a);
    }
}

static void test_long_texts(void **state)
{
    hm_prng r;
    (void)state;
    hm_prng_seed(&r, 2);
    for (unsigned i = 0; i < 60; i++) {
        size_t len = i == 0 ? TEXT_MAX : (size_t)hm_prng_below(&r, TEXT_MAX + 1);
        hm_bytes aad = hm_bytes_of(header, (size_t)hm_prng_below(&r, 30));
        uint64_t pn = hm_prng_next(&r);
        size_t at = (size_t)hm_prng_below(&r, 64);
        for (size_t c = 0; c < 3; c++) {
            reference(ciphers[c], aad, plain, len, pn, expected);
            for (size_t v = 0; v < 4; v++)
                if (hm_aead_available(versions[v], ciphers[c]))
                    check(key_of(c, v), aad, got + at, len, pn);
        }
    }
}

// The block counter carries into its third byte from 65,536 blocks on.
static void test_counter_carries(void **state)
{
    size_t len = 65600 * 16 + 5;
    uint8_t *in = calloc(1, len), *want = malloc(len + HM_AEAD_TAG), *out;
    (void)state;
    assert_non_null(in);
    assert_non_null(want);
    EACH_VERSION(c, v)
    {
        out = calloc(1, len + HM_AEAD_TAG);
        assert_non_null(out);
        reference(ciphers[c], (hm_bytes){0}, in, len, 7, want);
        assert_int_equal(hm_aead_seal_one(key_of(c, v), (hm_bytes){0}, out, len, 7), HM_OK);
        assert_memory_equal(out, want, len + HM_AEAD_TAG);
        free(out);
    }
    free(in);
    free(want);
}

// A text put together from pieces, some of them in place, is the text.
static void test_pieces(void **state)
{
    hm_prng r;
    (void)state;
    hm_prng_seed(&r, 3);
    EACH_VERSION(c, v)
    {
        hm_aead *a = key_of(c, v);
        for (unsigned i = 0; i < 3000; i++) {
            size_t len = (size_t)hm_prng_below(&r, 1600), left = len, count = 0;
            uint8_t *text = got + hm_prng_below(&r, 64);
            hm_bytes aad = hm_bytes_of(header, (size_t)hm_prng_below(&r, 40)), pieces[80];
            memset(text, 0xee, len);
            while (left > 0 && count < 80) {
                size_t most = hm_prng_below(&r, 2) ? 40 : 1600, at = len - left;
                size_t n = (size_t)hm_prng_below(&r, most);
                n = n > left || count == 79 ? left : n;
                pieces[count] = hm_bytes_of(plain + at, n);
                if (hm_prng_below(&r, 3) == 0) {
                    memcpy(text + at, plain + at, n);
                    pieces[count].ptr = NULL;
                }
                left -= n, count++;
            }
            hm_aead_seal s = {aad, text, len, i, pieces, count};
            reference(ciphers[c], aad, plain, len, i, expected);
            assert_int_equal(hm_aead_seal_batch(a, &s, 1), HM_OK);
            assert_memory_equal(text, expected, len + HM_AEAD_TAG);
        }
        hm_aead_clear(a);
    }
}

static void test_batches(void **state)
{
    enum { MOST = 40 };
    static uint8_t packets[MOST][1600];
    (void)state;
    EACH_VERSION(c, v)
    {
        hm_aead *a = key_of(c, v);
        hm_aead_seal seal[MOST];
        hm_aead_open open[MOST];
        for (size_t count = 0; count <= MOST; count += 1 + count / 4) {
            for (size_t i = 0; i < count; i++) {
                size_t len = (i * 397 + count) % 1500;
                memcpy(packets[i], header, 20);
                memcpy(packets[i] + 20, plain, len);
                seal[i] = (hm_aead_seal){
                    .aad = {packets[i], 20}, .text = packets[i] + 20, .len = len, .pn = i};
                open[i] = (hm_aead_open){
                    .aad = {packets[i], 20}, .text = packets[i] + 20, .len = len, .pn = i};
            }
            assert_int_equal(hm_aead_seal_batch(a, seal, count), HM_OK);
            for (size_t i = 0; i < count; i++) {
                reference(ciphers[c], seal[i].aad, plain, seal[i].len, i, expected);
                assert_memory_equal(seal[i].text, expected, seal[i].len + HM_AEAD_TAG);
            }
            if (count > 1) // one of them was damaged on the way
                packets[1][20 + open[1].len + 3] ^= 4;
            hm_aead_open_batch(a, open, count);
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(open[i].ok, i != 1);
                for (size_t j = 0; j < open[i].len; j++)
                    assert_int_equal(open[i].text[j], i != 1 ? plain[j] : 0);
            }
        }
        hm_aead_clear(a);
    }
}

static void test_masks(void **state)
{
    enum { MOST = 40 };
    (void)state;
    EACH_VERSION(c, v)
    {
        if (ciphers[c] == HM_CHACHA20_POLY1305)
            continue; // the known answers say it
        EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
        const EVP_CIPHER *ecb =
            ciphers[c] == HM_AES_128_GCM ? EVP_aes_128_ecb() : EVP_aes_256_ecb();
        assert_int_equal(EVP_EncryptInit_ex(ctx, ecb, NULL, key_bytes, NULL), 1);
        hm_hp hp = {0};
        assert_int_equal(hm_hp_init(&hp, ciphers[c], versions[v], key_bytes), HM_OK);
        for (size_t count = 0; count <= MOST; count++) {
            const uint8_t *samples[MOST];
            uint8_t masks[MOST + 1][HM_AEAD_SAMPLE], one[32];
            memset(masks, 0xee, sizeof masks);
            for (size_t i = 0; i < count; i++)
                samples[i] = plain + 100 * count + 7 * i;
            assert_int_equal(hm_hp_masks(&hp, samples, masks, count), HM_OK);
            for (size_t i = 0; i < count; i++) {
                int n;
                assert_int_equal(EVP_EncryptUpdate(ctx, one, &n, samples[i], 16), 1);
                assert_memory_equal(masks[i], one, 16);
            }
            assert_int_equal(masks[count][0], 0xee);
        }
        hm_hp_clear(&hp);
        EVP_CIPHER_CTX_free(ctx);
    }
}

// ---- refusals and borders ----------------------------------------------------------------------

static void refuse(hm_aead *a, hm_bytes aad, uint8_t *text, size_t len, uint64_t pn)
{
    uint8_t tag[HM_AEAD_TAG];
    memcpy(tag, text + len, sizeof tag);
    assert_false(hm_aead_open_one(a, aad, text, len, pn));
    for (size_t i = 0; i < len; i++)
        assert_int_equal(text[i], 0);
    assert_memory_equal(tag, text + len, sizeof tag);
}

// A bit changed anywhere, in text, tag, header or packet number, and the packet does not open:
// nothing of its text is left, and its tag is as it was.
static void test_tampered(void **state)
{
    static const size_t lens[] = {0, 1, 16, 100, 224, 600};
    (void)state;
    EACH_VERSION(c, v)
    {
        hm_aead *a = key_of(c, v);
        for (size_t l = 0; l < sizeof lens / sizeof lens[0]; l++)
            for (size_t aad_len = 0; aad_len < 60; aad_len += 13) {
                size_t len = lens[l], all = len + HM_AEAD_TAG;
                hm_bytes aad = hm_bytes_of(header, aad_len);
                reference(ciphers[c], aad, plain, len, 9, expected);
                for (size_t i = 0; i < all; i++) {
                    memcpy(got, expected, all);
                    got[i] ^= (uint8_t)(1 << i % 8);
                    refuse(a, aad, got, len, 9);
                }
                for (size_t i = 0; i < aad_len; i++) {
                    header[i] ^= (uint8_t)(1 << i % 8);
                    memcpy(got, expected, all);
                    refuse(a, aad, got, len, 9);
                    header[i] ^= (uint8_t)(1 << i % 8);
                }
                for (unsigned bit = 0; bit < 64; bit++) {
                    memcpy(got, expected, all);
                    refuse(a, aad, got, len, 9 ^ UINT64_C(1) << bit);
                }
                memcpy(got, expected, all);
                refuse(a, hm_bytes_of(header, aad_len + 1), got, len, 9);
            }
        hm_aead_clear(a);
    }
}

// A page with pages on both sides that nobody may touch.
static uint8_t *guarded(size_t page)
{
    uint8_t *p = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(mprotect(p + page, page, PROT_READ | PROT_WRITE), 0);
    return p + page;
}

// Text, tag, header, pieces and samples that begin or end with their page: no load or store goes
// beyond them.
static void test_guard_pages(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *area[3] = {guarded(page), guarded(page), guarded(page)};
    (void)state;
    EACH_VERSION(c, v) for (unsigned at_end = 0; at_end < 2; at_end++)
    {
        hm_aead *a = key_of(c, v);
        hm_hp hp = {0};
        for (size_t len = 0; len < 560; len++) {
            size_t aad_len = len % 70;
            uint8_t *text = area[0] + (at_end ? page - len - HM_AEAD_TAG : 0);
            uint8_t *aad = area[1] + (at_end ? page - aad_len : 0);
            uint8_t *from = area[2] + (at_end ? page - len : 0);
            hm_bytes h = hm_bytes_of(aad, aad_len);
            hm_bytes pieces[2] = {{from, len / 3}, {from + len / 3, len - len / 3}};
            memcpy(aad, header, aad_len);
            memcpy(from, plain, len);
            reference(ciphers[c], h, plain, len, len, expected);
            check(a, h, text, len, len);
            hm_aead_seal s = {h, text, len, len, pieces, 2};
            assert_int_equal(hm_aead_seal_batch(a, &s, 1), HM_OK);
            assert_memory_equal(text, expected, len + HM_AEAD_TAG);
        }
        const uint8_t *samples[9];
        uint8_t masks[9][HM_AEAD_SAMPLE];
        for (size_t i = 0; i < 9; i++)
            samples[i] = area[0] + (at_end ? page - HM_AEAD_SAMPLE : 0);
        assert_int_equal(hm_hp_init(&hp, ciphers[c], versions[v], key_bytes), HM_OK);
        assert_int_equal(hm_hp_masks(&hp, samples, masks, 9), HM_OK);
        hm_hp_clear(&hp);
        hm_aead_clear(a);
    }
    for (int i = 0; i < 3; i++)
        munmap(area[i] - page, 3 * page);
}

static void test_life(void **state)
{
    static const hm_aead none;
    hm_aead a = {0}, moved;
    hm_hp hp = {0};
    (void)state;
    hm_aead_clear(&a); // of nothing
    assert_int_equal(hm_aead_init(&a, HM_CHACHA20_POLY1305, HM_AEAD_AVX512, key_bytes, iv_bytes),
                     HM_E_UNSUPPORTED);
    assert_int_equal(hm_hp_init(&hp, HM_CHACHA20_POLY1305, HM_AEAD_AESNI, key_bytes),
                     HM_E_UNSUPPORTED);
    assert_false(hm_aead_ready(&a) || hm_hp_ready(&hp));
    assert_string_equal(hm_aead_version_name(HM_AEAD_AVX512, HM_CHACHA20_POLY1305), "none");
    assert_string_equal(hm_aead_version_name(HM_AEAD_BEST, HM_CHACHA20_POLY1305), "openssl");
    EACH_VERSION(c, v) // one key after the other in the same place
    {
        assert_int_equal(hm_aead_init(&a, ciphers[c], versions[v], key_bytes, iv_bytes), HM_OK);
        reference(ciphers[c], (hm_bytes){0}, plain, 100, 1, expected);
        memcpy(&moved, &a, sizeof a);
        check(&moved, (hm_bytes){0}, got, 100, 1);
    }
    hm_aead_clear(&a);
    assert_memory_equal(&a, &none, sizeof a);
    // A version that is not there leaves the key as it was.
    assert_int_equal(hm_aead_init(&a, HM_AES_128_GCM, HM_AEAD_BEST, key_bytes, iv_bytes), HM_OK);
    assert_int_equal(hm_aead_init(&a, HM_CHACHA20_POLY1305, HM_AEAD_AVX512, key_bytes, iv_bytes),
                     HM_E_UNSUPPORTED);
    reference(HM_AES_128_GCM, (hm_bytes){0}, plain, 100, 1, expected);
    check(&a, (hm_bytes){0}, got, 100, 1);
    hm_aead_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_known_masks),
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_headers),
        cmocka_unit_test(test_long_texts),    cmocka_unit_test(test_counter_carries),
        cmocka_unit_test(test_pieces),        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_masks),         cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_guard_pages),   cmocka_unit_test(test_life),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
