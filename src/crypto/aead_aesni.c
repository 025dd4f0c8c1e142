// AES-GCM with AES-NI and PCLMULQDQ on 128-bit registers, eight blocks at a time; and the key
// set-up and header protection that the version for AVX-512 has in common with it.
#include <immintrin.h>

#include "crypto/aead_internal.h"

#define AESNI __attribute__((target("aes,pclmul,avx")))
#define INLINE static inline __attribute__((always_inline)) AESNI

INLINE __m128i load(const void *p)
{
    return _mm_loadu_si128(p);
}
INLINE void store(void *p, __m128i v)
{
    _mm_storeu_si128(p, v);
}

// ---- key schedule (FIPS 197, section 5.2) ------------------------------------------------------

// Four times SubWord() of the last word of k, rotated by RotWord() if so asked, with the round
// constant. AESENCLAST substitutes bytes, shifts rows, which equal columns do not notice, and adds.
INLINE __m128i key_word(__m128i k, bool rotated, int constant)
{
    __m128i last = rotated ? _mm_set1_epi32(0x0c0f0e0d) : _mm_set1_epi32(0x0f0e0d0c);
    return _mm_aesenclast_si128(_mm_shuffle_epi8(k, last), _mm_set1_epi32(constant));
}

// The round key a key's length behind k: each word is the xor of all of k's up to it and of word.
INLINE __m128i key_mix(__m128i k, __m128i word)
{
    k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
    k = _mm_xor_si128(k, _mm_slli_si128(k, 8));
    return _mm_xor_si128(k, word);
}

static const uint8_t round_constants[10] = {0x01, 0x02, 0x04, 0x08, 0x10,
                                            0x20, 0x40, 0x80, 0x1b, 0x36};

AESNI static void expand_128(uint8_t out[15][16], const uint8_t *key)
{
    __m128i k = load(key);
    store(out[0], k);
    for (int i = 0; i < 10; i++) {
        k = key_mix(k, key_word(k, true, round_constants[i]));
        store(out[i + 1], k);
    }
}

AESNI static void expand_256(uint8_t out[15][16], const uint8_t *key)
{
    __m128i a = load(key), b = load(key + 16);
    store(out[0], a);
    store(out[1], b);
    for (int i = 0; i < 7; i++) {
        a = key_mix(a, key_word(b, true, round_constants[i]));
        store(out[2 * i + 2], a);
        if (i == 6)
            break;
        b = key_mix(b, key_word(a, false, 0));
        store(out[2 * i + 3], b);
    }
}

INLINE __m128i encrypt_block(const uint8_t (*keys)[16], int rounds, __m128i b)
{
    b = _mm_xor_si128(b, load(keys[0]));
    for (int r = 1; r < rounds; r++)
        b = _mm_aesenc_si128(b, load(keys[r]));
    return _mm_aesenclast_si128(b, load(keys[rounds]));
}

// ---- GHASH in the terms of POLYVAL (RFC 8452, section 3 and appendix A) ------------------------

// A 256-bit product without carries: lo + (mid + lo + hi) * x^64 + hi * x^128, by Karatsuba, for
// these processors multiply slower than they add.
typedef struct product {
    __m128i lo, mid, hi;
} product;

INLINE __m128i swap_bytes(__m128i v)
{
    return _mm_shuffle_epi8(v, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

INLINE void multiply_add(product *p, __m128i a, __m128i b)
{
    __m128i as = _mm_xor_si128(a, _mm_shuffle_epi32(a, 0x4e));
    __m128i bs = _mm_xor_si128(b, _mm_shuffle_epi32(b, 0x4e));
    p->lo = _mm_xor_si128(p->lo, _mm_clmulepi64_si128(a, b, 0x00));
    p->hi = _mm_xor_si128(p->hi, _mm_clmulepi64_si128(a, b, 0x11));
    p->mid = _mm_xor_si128(p->mid, _mm_clmulepi64_si128(as, bs, 0x00));
}

// p * x^-128 modulo x^128 + x^127 + x^126 + x^121 + 1. Adding lo.low64 times the polynomial clears
// the lowest 64 bits; what it adds above them is the 64 bits themselves, 128 bits up, and their
// product with 0xc2 << 56, 64 bits up. Twice that, and the upper half is the answer. The halves of
// mid come in where the swaps of the halves bring them to their places.
INLINE __m128i reduce(const product *p)
{
    __m128i poly = _mm_set_epi64x(0, (long long)0xc200000000000000);
    __m128i mid = _mm_xor_si128(p->mid, _mm_xor_si128(p->lo, p->hi));
    __m128i t = _mm_xor_si128(_mm_shuffle_epi32(p->lo, 0x4e), mid);
    t = _mm_xor_si128(t, _mm_clmulepi64_si128(p->lo, poly, 0x00));
    __m128i u = _mm_xor_si128(_mm_shuffle_epi32(t, 0x4e), p->hi);
    return _mm_xor_si128(u, _mm_clmulepi64_si128(t, poly, 0x00));
}

// The product of a field element and x: a shift by one, and the polynomial when a bit falls out.
INLINE __m128i times_x(__m128i v)
{
    __m128i top = _mm_srai_epi32(_mm_shuffle_epi32(v, 0xff), 31); // all ones or zero
    __m128i carry = _mm_slli_si128(_mm_srli_epi64(v, 63), 8);
    __m128i poly = _mm_set_epi64x((long long)0xc200000000000000, 1);
    v = _mm_or_si128(_mm_slli_epi64(v, 1), carry);
    return _mm_xor_si128(v, _mm_and_si128(top, poly));
}

AESNI static void init_powers(hm_aead *a, int rounds)
{
    __m128i zero = _mm_setzero_si128();
    __m128i h = times_x(swap_bytes(encrypt_block(a->round_keys, rounds, zero))), p = h;
    for (size_t n = 1;; n++) {
        store(a->powers[HM_AEAD_POWERS - n], p);
        if (n == HM_AEAD_POWERS)
            break;
        product t = {zero, zero, zero};
        multiply_add(&t, p, h);
        p = reduce(&t);
    }
}

hm_err hm_aesni_init_128(hm_aead *a, const uint8_t *key)
{
    expand_128(a->round_keys, key);
    init_powers(a, 10);
    return HM_OK;
}

hm_err hm_aesni_init_256(hm_aead *a, const uint8_t *key)
{
    expand_256(a->round_keys, key);
    init_powers(a, 14);
    return HM_OK;
}

hm_err hm_aesni_hp_init_128(hm_hp *hp, const uint8_t *key)
{
    expand_128(hp->round_keys, key);
    return HM_OK;
}

hm_err hm_aesni_hp_init_256(hm_hp *hp, const uint8_t *key)
{
    expand_256(hp->round_keys, key);
    return HM_OK;
}

// ---- header protection -------------------------------------------------------------------------

// n blocks at once, to fill the pipeline: an AES round takes several cycles, and one or two of them
// begin in each.
INLINE void encrypt_blocks(const uint8_t (*keys)[16], int rounds, __m128i *b, int n)
{
    __m128i k = load(keys[0]);
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        b[i] = _mm_xor_si128(b[i], k);
#pragma GCC unroll 16
    for (int r = 1; r < rounds; r++) {
        k = load(keys[r]);
#pragma GCC unroll 8
        for (int i = 0; i < n; i++)
            b[i] = _mm_aesenc_si128(b[i], k);
    }
    k = load(keys[rounds]);
#pragma GCC unroll 8
    for (int i = 0; i < n; i++)
        b[i] = _mm_aesenclast_si128(b[i], k);
}

INLINE void masks(const hm_hp *hp, int rounds, const uint8_t *const *samples,
                  uint8_t (*out)[HM_AEAD_SAMPLE], size_t count)
{
    __m128i b[8];
    size_t at = 0;
    for (; count - at >= 8; at += 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            b[i] = load(samples[at + (size_t)i]);
        encrypt_blocks(hp->round_keys, rounds, b, 8);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            store(out[at + (size_t)i], b[i]);
    }
    for (; at < count; at++)
        store(out[at], encrypt_block(hp->round_keys, rounds, load(samples[at])));
}

AESNI hm_err hm_aesni_masks_128(hm_hp *hp, const uint8_t *const *samples,
                                uint8_t (*out)[HM_AEAD_SAMPLE], size_t count)
{
    masks(hp, 10, samples, out, count);
    return HM_OK;
}

AESNI hm_err hm_aesni_masks_256(hm_hp *hp, const uint8_t *const *samples,
                                uint8_t (*out)[HM_AEAD_SAMPLE], size_t count)
{
    masks(hp, 14, samples, out, count);
    return HM_OK;
}

// ---- GCM ---------------------------------------------------------------------------------------

// A packet on its way.
typedef struct packet {
    const hm_aead *a;
    int rounds;
    bool seal;
    __m128i counter; // the nonce and, as a number of this machine, the block counter
    __m128i hash;
} packet;

INLINE __m128i nonce_of(const hm_aead *a, uint64_t pn)
{
    uint64_t be = __builtin_bswap64(pn); // stands in bytes 4 to 11
    __m128i n = _mm_set_epi64x((long long)(be >> 32), (long long)(be << 32));
    return _mm_xor_si128(n, load(a->iv));
}

// The next counter block (SP 800-38D, section 6.5: inc32, big endian).
INLINE __m128i next_counter(packet *p)
{
    __m128i big = _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m128i b = _mm_shuffle_epi8(p->counter, big);
    p->counter = _mm_add_epi32(p->counter, _mm_set_epi32(1, 0, 0, 0));
    return b;
}

// Hashes n blocks.
INLINE void hash_blocks(packet *p, const __m128i *blocks, int n)
{
    __m128i zero = _mm_setzero_si128();
    product t = {zero, zero, zero};
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        __m128i x = swap_bytes(blocks[i]);
        if (i == 0)
            x = _mm_xor_si128(x, p->hash);
        multiply_add(&t, x, load(hm_aead_power(p->a, (size_t)(n - i))));
    }
    p->hash = reduce(&t);
}

// Seals or opens n whole blocks.
INLINE void crypt_blocks(packet *p, uint8_t *to, const uint8_t *from, int n)
{
    __m128i b[8], text[8];
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        text[i] = load(from + 16 * i);
        b[i] = next_counter(p);
    }
    if (!p->seal)
        hash_blocks(p, text, n);
    encrypt_blocks(p->a->round_keys, p->rounds, b, n);
#pragma GCC unroll 8
    for (int i = 0; i < n; i++) {
        text[i] = _mm_xor_si128(text[i], b[i]);
        store(to + 16 * i, text[i]);
    }
    if (p->seal)
        hash_blocks(p, text, n);
}

// n bytes, less than a block, followed by zeros.
INLINE __m128i load_part(const uint8_t *from, size_t n)
{
    uint8_t part[16] = {0};
    memcpy(part, from, n);
    return load(part);
}

INLINE void crypt_part(packet *p, uint8_t *to, const uint8_t *from, size_t n)
{
    uint8_t part[16];
    __m128i text = load_part(from, n), b = next_counter(p);
    if (!p->seal)
        hash_blocks(p, &text, 1);
    encrypt_blocks(p->a->round_keys, p->rounds, &b, 1);
    store(part, _mm_xor_si128(text, b));
    memcpy(to, part, n);
    if (p->seal) {
        text = load_part(part, n);
        hash_blocks(p, &text, 1);
    }
}

INLINE void hash_aad(packet *p, hm_bytes aad)
{
    __m128i b;
    while (aad.len > 0) {
        size_t n = aad.len < 16 ? aad.len : 16;
        b = n == 16 ? load(aad.ptr) : load_part(aad.ptr, n);
        hash_blocks(p, &b, 1);
        aad = hm_bytes_of(aad.ptr + n, aad.len - n);
    }
}

// Eight blocks of text, while eight of ciphertext are hashed in the gaps between rounds.
INLINE void crypt_and_hash(packet *p, uint8_t *to, const uint8_t *from, const uint8_t *hashed)
{
    const uint8_t(*keys)[16] = p->a->round_keys;
    __m128i b[8], zero = _mm_setzero_si128();
    product t = {zero, zero, zero};
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        b[i] = _mm_xor_si128(next_counter(p), load(keys[0]));
#pragma GCC unroll 16
    for (int r = 1; r < p->rounds; r++) {
        __m128i k = load(keys[r]);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            b[i] = _mm_aesenc_si128(b[i], k);
        if (r > 8)
            continue;
        __m128i x = swap_bytes(load(hashed + 16 * (r - 1)));
        if (r == 1)
            x = _mm_xor_si128(x, p->hash);
        multiply_add(&t, x, load(hm_aead_power(p->a, (size_t)(9 - r))));
    }
    p->hash = reduce(&t);
    __m128i last = load(keys[p->rounds]);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        store(to + 16 * i, _mm_aesenclast_si128(b[i], _mm_xor_si128(last, load(from + 16 * i))));
}

// Runs of eight blocks: opening hashes what it is about to decrypt, sealing what it encrypted
// before.
INLINE void crypt_eights(packet *p, uint8_t *to, const uint8_t *from, size_t eights)
{
    if (!p->seal) {
        for (; eights > 0; to += 128, from += 128, eights--)
            crypt_and_hash(p, to, from, from);
        return;
    }
    __m128i b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        b[i] = next_counter(p);
    encrypt_blocks(p->a->round_keys, p->rounds, b, 8);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        store(to + 16 * i, _mm_xor_si128(b[i], load(from + 16 * i)));
    while (--eights > 0) {
        to += 128, from += 128;
        crypt_and_hash(p, to, from, to - 128);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        b[i] = load(to + 16 * i);
    hash_blocks(p, b, 8);
}

// A run of text. Only the last run of a packet may end within a block.
INLINE void crypt_run(packet *p, uint8_t *to, const uint8_t *from, size_t len)
{
    if (len >= 128) {
        size_t whole = len & ~(size_t)127;
        crypt_eights(p, to, from, len / 128);
        to += whole, from += whole, len -= whole;
    }
    if (len >= 64) {
        crypt_blocks(p, to, from, 4);
        to += 64, from += 64, len -= 64;
    }
    for (; len >= 16; to += 16, from += 16, len -= 16)
        crypt_blocks(p, to, from, 1);
    if (len > 0)
        crypt_part(p, to, from, len);
}

// A piece is run straight from where it stands, but for blocks that two pieces share: these are
// put together in text.
INLINE void crypt_pieces(packet *p, const hm_aead_seal *s)
{
    uint8_t *to = s->text; // what is before it is sealed
    size_t have = 0;       // bytes of a block behind it, copied there
    for (size_t i = 0; i < s->piece_count; i++) {
        const uint8_t *from = s->pieces[i].ptr;
        size_t len = s->pieces[i].len;
        if (from == NULL)
            from = to + have;
        if (have > 0 || len < 16) {
            size_t n = 16 - have < len ? 16 - have : len;
            memmove(to + have, from, n);
            have += n, from += n, len -= n;
            if (have == 16) {
                crypt_blocks(p, to, to, 1);
                to += 16, have = 0;
            }
        }
        if (len == 0)
            continue;
        size_t whole = len & ~(size_t)15;
        crypt_run(p, to, from, whole);
        to += whole;
        have = len - whole;
        memmove(to, from + whole, have);
    }
    crypt_run(p, to, to, have);
}

// The tag of a packet whose text is done: the hash with the lengths, encrypted with counter 1.
INLINE __m128i tag_of(packet *p, __m128i first, size_t aad_len, size_t len)
{
    __m128i bits = _mm_set_epi64x((long long)(aad_len * 8), (long long)(len * 8));
    bits = swap_bytes(bits);
    hash_blocks(p, &bits, 1);
    return _mm_xor_si128(swap_bytes(p->hash), encrypt_block(p->a->round_keys, p->rounds, first));
}

INLINE packet begin(const hm_aead *a, int rounds, bool seal, uint64_t pn, hm_bytes aad,
                    __m128i *first)
{
    packet p = {.a = a, .rounds = rounds, .seal = seal, .hash = _mm_setzero_si128()};
    p.counter = _mm_or_si128(nonce_of(a, pn), _mm_set_epi32(1, 0, 0, 0));
    *first = next_counter(&p);
    hash_aad(&p, aad);
    return p;
}

INLINE hm_err seal_batch(const hm_aead *a, int rounds, const hm_aead_seal *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const hm_aead_seal *s = &batch[i];
        __m128i first;
        packet p = begin(a, rounds, true, s->pn, s->aad, &first);
        if (s->piece_count == 0)
            crypt_run(&p, s->text, s->text, s->len);
        else
            crypt_pieces(&p, s);
        store(s->text + s->len, tag_of(&p, first, s->aad.len, s->len));
    }
    return HM_OK;
}

INLINE void open_batch(const hm_aead *a, int rounds, hm_aead_open *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        hm_aead_open *o = &batch[i];
        __m128i first;
        packet p = begin(a, rounds, false, o->pn, o->aad, &first);
        crypt_run(&p, o->text, o->text, o->len);
        __m128i diff = _mm_xor_si128(tag_of(&p, first, o->aad.len, o->len), load(o->text + o->len));
        o->ok = (_mm_extract_epi64(diff, 0) | _mm_extract_epi64(diff, 1)) == 0;
    }
}

AESNI static hm_err seal_128(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    return seal_batch(a, 10, batch, count);
}
AESNI static hm_err seal_256(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    return seal_batch(a, 14, batch, count);
}
AESNI static void open_128(hm_aead *a, hm_aead_open *batch, size_t count)
{
    open_batch(a, 10, batch, count);
}
AESNI static void open_256(hm_aead *a, hm_aead_open *batch, size_t count)
{
    open_batch(a, 14, batch, count);
}

const hm_aead_ops hm_aead_aesni[2] = {
    [HM_AES_128_GCM] = {"aesni", hm_aesni_init_128, seal_128, open_128, hm_aesni_hp_init_128,
                        hm_aesni_masks_128},
    [HM_AES_256_GCM] = {"aesni", hm_aesni_init_256, seal_256, open_256, hm_aesni_hp_init_256,
                        hm_aesni_masks_256},
};
