// AES-GCM on registers of 128 bits, eight blocks at a time, and with HM_AEAD_WIDE also on those of
// 256 bits, sixteen at a time. Each version includes this once, and says before for which
// processor: HM_AEAD_TARGET, an attribute of functions.
#ifndef HM_CRYPTO_AEAD_GCM_H
#define HM_CRYPTO_AEAD_GCM_H

#include <immintrin.h>

#include "crypto/aead_internal.h"

#define INLINE static inline __attribute__((always_inline)) HM_AEAD_TARGET

INLINE __m128i load(const void *p)
{
    return _mm_loadu_si128(p);
}
INLINE void store(void *p, __m128i v)
{
    _mm_storeu_si128(p, v);
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

// For PSHUFB: all bytes of a block in reverse.
INLINE __m128i reversed(void)
{
    return _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

INLINE __m128i swap_bytes(__m128i v)
{
    return _mm_shuffle_epi8(v, reversed());
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

// For PSHUFB: the counter of a block, its last four bytes, from this machine's order to big endian.
INLINE __m128i counter_reversed(void)
{
    return _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

// The next counter block (SP 800-38D, section 6.5: inc32, big endian).
INLINE __m128i next_counter(packet *p)
{
    __m128i b = _mm_shuffle_epi8(p->counter, counter_reversed());
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

#ifdef HM_AEAD_WIDE
// ---- sixteen blocks in eight registers ----------------------------------------------------------

INLINE __m256i load_2(const void *p)
{
    return _mm256_loadu_si256(p);
}
INLINE __m256i both(const void *p)
{
    return _mm256_broadcastsi128_si256(load(p));
}

// Encrypts the next sixteen counter blocks but for the last round. With hashed, the blocks there
// are hashed in the gaps between rounds.
INLINE void keystream_16(packet *p, __m256i b[8], const uint8_t *hashed)
{
    const uint8_t(*keys)[16] = p->a->round_keys;
    const __m256i swap = _mm256_broadcastsi128_si256(reversed());
    const __m256i big = _mm256_broadcastsi128_si256(counter_reversed());
    __m256i k = both(keys[0]), lo = _mm256_setzero_si256(), mid = lo, hi = lo;
    __m256i counter = _mm256_add_epi32(_mm256_broadcastsi128_si256(p->counter),
                                       _mm256_set_epi32(1, 0, 0, 0, 0, 0, 0, 0));
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        b[i] = _mm256_xor_si256(_mm256_shuffle_epi8(counter, big), k);
        counter = _mm256_add_epi32(counter, _mm256_set_epi32(2, 0, 0, 0, 2, 0, 0, 0));
    }
    p->counter = _mm256_castsi256_si128(counter);
#pragma GCC unroll 16
    for (int r = 1; r < p->rounds; r++) {
        k = both(keys[r]);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            b[i] = _mm256_aesenc_epi128(b[i], k);
        if (hashed == NULL || r > 8)
            continue;
        __m256i x = _mm256_shuffle_epi8(load_2(hashed + 32 * (r - 1)), swap);
        __m256i h = load_2(hm_aead_power(p->a, (size_t)(18 - 2 * r)));
        if (r == 1)
            x = _mm256_xor_si256(x, _mm256_zextsi128_si256(p->hash));
        lo = _mm256_xor_si256(lo, _mm256_clmulepi64_epi128(x, h, 0x00));
        hi = _mm256_xor_si256(hi, _mm256_clmulepi64_epi128(x, h, 0x11));
        x = _mm256_xor_si256(x, _mm256_shuffle_epi32(x, 0x4e));
        h = _mm256_xor_si256(h, _mm256_shuffle_epi32(h, 0x4e));
        mid = _mm256_xor_si256(mid, _mm256_clmulepi64_epi128(x, h, 0x00));
    }
    if (hashed == NULL)
        return;
    const product sum = {
        _mm_xor_si128(_mm256_castsi256_si128(lo), _mm256_extracti128_si256(lo, 1)),
        _mm_xor_si128(_mm256_castsi256_si128(mid), _mm256_extracti128_si256(mid, 1)),
        _mm_xor_si128(_mm256_castsi256_si128(hi), _mm256_extracti128_si256(hi, 1))};
    p->hash = reduce(&sum);
}

INLINE void crypt_16(packet *p, uint8_t *to, const uint8_t *from, const uint8_t *hashed)
{
    __m256i b[8];
    keystream_16(p, b, hashed);
    __m256i last = both(p->a->round_keys[p->rounds]);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256(
            (__m256i *)(to + 32 * i),
            _mm256_aesenclast_epi128(b[i], _mm256_xor_si256(last, load_2(from + 32 * i))));
}

// Hashes sixteen blocks.
INLINE void hash_16(packet *p, const uint8_t *blocks)
{
    for (int half = 0; half < 2; half++) {
        __m128i b[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            b[i] = load(blocks + 128 * half + 16 * i);
        hash_blocks(p, b, 8);
    }
}

INLINE void crypt_sixteens(packet *p, uint8_t *to, const uint8_t *from, size_t sixteens)
{
    if (!p->seal) {
        for (; sixteens > 0; to += 256, from += 256, sixteens--)
            crypt_16(p, to, from, from);
        return;
    }
    crypt_16(p, to, from, NULL);
    while (--sixteens > 0) {
        to += 256, from += 256;
        crypt_16(p, to, from, to - 256);
    }
    hash_16(p, to);
}
#endif

// A run of text. Only the last run of a packet may end within a block.
INLINE void crypt_run(packet *p, uint8_t *to, const uint8_t *from, size_t len)
{
#ifdef HM_AEAD_WIDE
    if (len >= 256) {
        size_t whole = len & ~(size_t)255;
        crypt_sixteens(p, to, from, len / 256);
        to += whole, from += whole, len -= whole;
    }
#endif
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

HM_AEAD_TARGET static hm_err seal_128(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    return seal_batch(a, 10, batch, count);
}
HM_AEAD_TARGET static hm_err seal_256(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    return seal_batch(a, 14, batch, count);
}
HM_AEAD_TARGET static void open_128(hm_aead *a, hm_aead_open *batch, size_t count)
{
    open_batch(a, 10, batch, count);
}
HM_AEAD_TARGET static void open_256(hm_aead *a, hm_aead_open *batch, size_t count)
{
    open_batch(a, 14, batch, count);
}

#endif
