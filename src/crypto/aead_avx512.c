// AES-GCM with VAES and VPCLMULQDQ on 512-bit registers.
//
// Text goes in steps of sixteen blocks: four registers of keystream are made round by round while
// the multiplications of GHASH for sixteen blocks of ciphertext run in the gaps: the step's own
// when opening, the step's before when sealing. Products are added up over up to HM_AEAD_POWERS
// blocks, header and lengths included, and reduced once. The rest of less than a step is read and
// written under masks, so that no byte beyond the text is touched. Packets follow one another
// without a branch that depends on more than lengths, so that the processor begins one while the
// chain of the last one's tag is still under way.
#include <immintrin.h>

#include "crypto/aead_internal.h"

#define AVX512                                                                                     \
    __attribute__((target("aes,pclmul,avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq")))
#define INLINE static inline __attribute__((always_inline)) AVX512

#define STEP_BLOCKS 16
#define STEP ((size_t)256) // bytes
// Steps that one reduction has room for, with four blocks of a header before them. What is over
// the room in powers is more than a rest (16 blocks and the lengths), and so these many steps.
#define STEPS_MAX ((HM_AEAD_POWERS - 20) / STEP_BLOCKS)
_Static_assert(HM_AEAD_POWERS == 16 * STEPS_MAX + 20 && STEPS_MAX >= 1, "powers");

INLINE __mmask64 first_bytes(size_t n) // n at most 64
{
    return n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0;
}

INLINE __m512i broadcast(const uint8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
}

// ---- GHASH in the terms of POLYVAL (RFC 8452, section 3 and appendix A) ------------------------

// Products of a run of blocks, four lanes of lo + mid * x^64 + hi * x^128, not reduced.
typedef struct ghash {
    __m512i lo, mid, hi;
    __m128i y;        // the hash of what was reduced; to be added to the next block
    const uint8_t *h; // power of the next block
    const hm_aead *a;
    size_t steps, rest_blocks; // still to come
} ghash;

INLINE __m512i swap_bytes(__m512i v)
{
    return _mm512_shuffle_epi8(
        v, _mm512_broadcast_i32x4(
               _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

// Begins a run: before blocks, then as many whole steps as there is room for, or all that is left.
INLINE void run_begin(ghash *g, size_t before)
{
    size_t blocks = before + STEP_BLOCKS * g->steps + g->rest_blocks;
    if (blocks > HM_AEAD_POWERS)
        blocks = before + STEP_BLOCKS * STEPS_MAX;
    g->h = hm_aead_power(g->a, blocks);
    g->lo = g->mid = g->hi = _mm512_setzero_si512();
}

INLINE bool run_ended(const ghash *g)
{
    return g->h == hm_aead_power(g->a, 0);
}

INLINE void multiply_add(ghash *g, __m512i x, __m512i h)
{
    g->lo = _mm512_xor_si512(g->lo, _mm512_clmulepi64_epi128(x, h, 0x00));
    g->hi = _mm512_xor_si512(g->hi, _mm512_clmulepi64_epi128(x, h, 0x11));
    g->mid = _mm512_ternarylogic_epi64(g->mid, _mm512_clmulepi64_epi128(x, h, 0x01),
                                       _mm512_clmulepi64_epi128(x, h, 0x10), 0x96);
}

// Four blocks as they stand in memory; at: 64-byte place of their powers behind g->h. The first
// blocks after a reduction take its result.
INLINE void hash_4(ghash *g, __m512i blocks, size_t at)
{
    __m512i x = swap_bytes(blocks);
    if (at == 0) {
        x = _mm512_xor_si512(x, _mm512_zextsi128_si512(g->y));
        g->y = _mm_setzero_si128();
    }
    multiply_add(g, x, _mm512_loadu_si512(g->h + 64 * at));
}

// The sum of the lanes' products times x^-128 (as in aead_aesni.c), which ends the run.
INLINE void run_reduce(ghash *g)
{
    __m512i poly = _mm512_set1_epi64((long long)0xc200000000000000);
    __m512i t = _mm512_ternarylogic_epi64(_mm512_shuffle_epi32(g->lo, 0x4e), g->mid,
                                          _mm512_clmulepi64_epi128(g->lo, poly, 0x00), 0x96);
    __m512i u = _mm512_ternarylogic_epi64(_mm512_shuffle_epi32(t, 0x4e), g->hi,
                                          _mm512_clmulepi64_epi128(t, poly, 0x00), 0x96);
    __m256i v = _mm256_xor_si256(_mm512_castsi512_si256(u), _mm512_extracti64x4_epi64(u, 1));
    g->y = _mm_xor_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

// The blocks of a step have been hashed.
INLINE void step_hashed(ghash *g)
{
    g->h += STEP;
    g->steps--;
    if (run_ended(g)) {
        run_reduce(g);
        run_begin(g, 0);
    }
}

// Begins the hash of a packet with its header.
INLINE void hash_begin(ghash *g, const hm_aead *a, hm_bytes aad, size_t len)
{
    g->a = a;
    g->y = _mm_setzero_si128();
    while (aad.len > 64) { // not a header of QUIC with short ids
        g->steps = 0, g->rest_blocks = 4;
        run_begin(g, 0);
        hash_4(g, _mm512_loadu_si512(aad.ptr), 0);
        run_reduce(g);
        aad = hm_bytes_of(aad.ptr + 64, aad.len - 64);
    }
    size_t before = (aad.len + 15) / 16;
    g->steps = len / STEP;
    g->rest_blocks = (len % STEP + 15) / 16 + 1;
    run_begin(g, before);
    if (before > 0) {
        hash_4(g, _mm512_maskz_loadu_epi8(first_bytes(aad.len), aad.ptr), 0);
        g->h += 16 * before;
    }
}

INLINE __m128i hash_end(ghash *g, size_t aad_len, size_t len)
{
    __m128i bits = _mm_set_epi64x((long long)(aad_len * 8), (long long)(len * 8));
    multiply_add(g, _mm512_zextsi128_si512(_mm_xor_si128(bits, g->y)),
                 _mm512_zextsi128_si512(_mm_loadu_si128((const __m128i *)g->h)));
    run_reduce(g);
    return _mm512_castsi512_si128(swap_bytes(_mm512_castsi128_si512(g->y)));
}

// ---- where plain text comes from ---------------------------------------------------------------

typedef struct source {
    const uint8_t *ptr; // of the piece at hand
    size_t left;        // of it
    const hm_bytes *next;
    const uint8_t *next_in_text; // where the next piece belongs
} source;

INLINE source source_begin(const hm_aead_seal *s)
{
    if (s->piece_count == 0)
        return (source){s->text, s->len, NULL, s->text + s->len};
    return (source){NULL, 0, s->pieces, s->text};
}

// The next n bytes, at most 64, then zeros. Masked loads touch only what their masks name, so
// each piece is read straight to its place in the register.
INLINE __m512i source_take(source *s, size_t n)
{
    __m512i v = _mm512_setzero_si512();
    for (size_t at = 0; at < n;) {
        while (s->left == 0) {
            s->ptr = s->next->ptr != NULL ? s->next->ptr : s->next_in_text;
            s->left = s->next->len;
            s->next_in_text += s->next->len;
            s->next++;
        }
        size_t k = s->left < n - at ? s->left : n - at;
        const void *from = (const void *)((uintptr_t)s->ptr - at);
        v = _mm512_mask_loadu_epi8(v, first_bytes(at + k) & ~first_bytes(at), from);
        s->ptr += k, s->left -= k, at += k;
    }
    return v;
}

INLINE void source_step(source *s, __m512i text[4])
{
    if (s->left >= STEP) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            text[i] = _mm512_loadu_si512(s->ptr + 64 * i);
        s->ptr += STEP, s->left -= STEP;
        return;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        text[i] = source_take(s, 64);
}

// ---- counter mode ------------------------------------------------------------------------------

typedef struct cipher {
    __m512i key[15];
    int rounds;
    __m512i counter; // four times the nonce and, as a number of this machine, the block counter
} cipher;

INLINE void cipher_load(cipher *c, const hm_aead *a, int rounds)
{
    c->rounds = rounds;
#pragma GCC unroll 16
    for (int r = 0; r <= rounds; r++)
        c->key[r] = broadcast(a->round_keys[r]);
}

// The block counter is big endian in the block (SP 800-38D, section 6.5: inc32).
INLINE __m512i big_counter(__m512i v)
{
    return _mm512_shuffle_epi8(
        v, _mm512_broadcast_i32x4(
               _mm_set_epi8(12, 13, 14, 15, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)));
}

// Begins a packet: its text counts from 2, and what masks its tag is the block of 1.
INLINE __m128i cipher_begin(cipher *c, const hm_aead *a, uint64_t pn)
{
    uint64_t be = __builtin_bswap64(pn); // stands in bytes 4 to 11
    __m128i nonce = _mm_xor_si128(_mm_set_epi64x((long long)(be >> 32), (long long)(be << 32)),
                                  _mm_loadu_si128((const __m128i *)a->iv));
    c->counter = _mm512_add_epi32(
        _mm512_broadcast_i32x4(nonce),
        _mm512_set_epi32(5, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0));
    __m128i b = _mm_xor_si128(nonce, _mm_set_epi32(1 << 24, 0, 0, 0));
    b = _mm_xor_si128(b, _mm512_castsi512_si128(c->key[0]));
#pragma GCC unroll 16
    for (int r = 1; r < c->rounds; r++)
        b = _mm_aesenc_si128(b, _mm512_castsi512_si128(c->key[r]));
    return _mm_aesenclast_si128(b, _mm512_castsi512_si128(c->key[c->rounds]));
}

// Encrypts or decrypts n registers of text, n a constant. With hashed, one of its four registers is
// hashed in every second round. The last round adds the text together with its key.
INLINE void cipher_text(cipher *c, __m512i *text, int n, ghash *g, const __m512i *hashed)
{
    __m512i b[4];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        b[i] = _mm512_xor_si512(big_counter(c->counter), c->key[0]);
        c->counter = _mm512_add_epi32(
            c->counter, _mm512_set_epi32(4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0));
    }
#pragma GCC unroll 16
    for (int r = 1; r < c->rounds; r++) {
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            b[i] = _mm512_aesenc_epi128(b[i], c->key[r]);
        if (hashed != NULL && r % 2 == 1 && r < 8)
            hash_4(g, hashed[r / 2], (size_t)r / 2);
    }
    if (hashed != NULL)
        step_hashed(g);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        text[i] = _mm512_aesenclast_epi128(
            b[i], _mm512_xor_si512(c->key[c->rounds], text[i]));
}

// ---- packets -----------------------------------------------------------------------------------

// The rest of a packet: len bytes, less than a step, in n registers, n a constant.
INLINE void rest(cipher *c, ghash *g, bool seal, source *from, uint8_t *to, size_t len, int n)
{
    __m512i text[4];
    size_t last = len - 64 * (size_t)(n - 1);
    __mmask64 mask = first_bytes(last);
#pragma GCC unroll 4
    for (int i = 0; i < n - 1; i++)
        text[i] = seal ? source_take(from, 64) : _mm512_loadu_si512(to + 64 * i);
    text[n - 1] = seal ? source_take(from, last) : _mm512_maskz_loadu_epi8(mask, to + 64 * (n - 1));
    if (!seal)
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            hash_4(g, text[i], (size_t)i);
    cipher_text(c, text, n, g, NULL);
#pragma GCC unroll 4
    for (int i = 0; i < n - 1; i++)
        _mm512_storeu_si512(to + 64 * i, text[i]);
    _mm512_mask_storeu_epi8(to + 64 * (n - 1), mask, text[n - 1]);
    if (seal) {
        text[n - 1] = _mm512_maskz_mov_epi8(mask, text[n - 1]);
#pragma GCC unroll 4
        for (int i = 0; i < n; i++)
            hash_4(g, text[i], (size_t)i);
    }
    g->h += 16 * ((len + 15) / 16);
}

INLINE void rest_of(cipher *c, ghash *g, bool seal, source *from, uint8_t *to, size_t len)
{
    if (len > 192)
        rest(c, g, seal, from, to, len, 4);
    else if (len > 128)
        rest(c, g, seal, from, to, len, 3);
    else if (len > 64)
        rest(c, g, seal, from, to, len, 2);
    else if (len > 0)
        rest(c, g, seal, from, to, len, 1);
}

INLINE void store_step(uint8_t *to, const __m512i text[4])
{
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        _mm512_storeu_si512(to + 64 * i, text[i]);
}

INLINE void seal_packet(cipher *c, const hm_aead *a, const hm_aead_seal *s)
{
    ghash g;
    __m512i text[4];
    source from = source_begin(s);
    uint8_t *to = s->text, *end = to + s->len / STEP * STEP;
    __m128i mask = cipher_begin(c, a, s->pn);
    hash_begin(&g, a, s->aad, s->len);
    if (to != end) {
        source_step(&from, text);
        cipher_text(c, text, 4, &g, NULL);
        store_step(to, text);
        for (to += STEP; to != end; to += STEP) {
            __m512i before[4] = {text[0], text[1], text[2], text[3]};
            source_step(&from, text);
            cipher_text(c, text, 4, &g, before);
            store_step(to, text);
        }
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++)
            hash_4(&g, text[i], i);
        step_hashed(&g);
    }
    rest_of(c, &g, true, &from, to, s->len % STEP);
    __m128i tag = _mm_xor_si128(mask, hash_end(&g, s->aad.len, s->len));
    _mm_storeu_si128((__m128i *)(s->text + s->len), tag);
}

INLINE bool open_packet(cipher *c, const hm_aead *a, const hm_aead_open *o)
{
    ghash g;
    __m512i text[4];
    uint8_t *to = o->text, *end = to + o->len / STEP * STEP;
    __m128i mask = cipher_begin(c, a, o->pn);
    hash_begin(&g, a, o->aad, o->len);
    for (; to != end; to += STEP) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            text[i] = _mm512_loadu_si512(to + 64 * i);
        __m512i sealed[4] = {text[0], text[1], text[2], text[3]};
        cipher_text(c, text, 4, &g, sealed);
        store_step(to, text);
    }
    rest_of(c, &g, false, NULL, to, o->len % STEP);
    __m128i tag = _mm_xor_si128(mask, hash_end(&g, o->aad.len, o->len));
    __m128i diff = _mm_xor_si128(tag, _mm_loadu_si128((const __m128i *)(o->text + o->len)));
    return _mm_testz_si128(diff, diff);
}

AVX512 static hm_err seal_128(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    cipher c;
    cipher_load(&c, a, 10);
    for (size_t i = 0; i < count; i++)
        seal_packet(&c, a, &batch[i]);
    return HM_OK;
}

AVX512 static hm_err seal_256(hm_aead *a, const hm_aead_seal *batch, size_t count)
{
    cipher c;
    cipher_load(&c, a, 14);
    for (size_t i = 0; i < count; i++)
        seal_packet(&c, a, &batch[i]);
    return HM_OK;
}

AVX512 static void open_128(hm_aead *a, hm_aead_open *batch, size_t count)
{
    cipher c;
    cipher_load(&c, a, 10);
    for (size_t i = 0; i < count; i++)
        batch[i].ok = open_packet(&c, a, &batch[i]);
}

AVX512 static void open_256(hm_aead *a, hm_aead_open *batch, size_t count)
{
    cipher c;
    cipher_load(&c, a, 14);
    for (size_t i = 0; i < count; i++)
        batch[i].ok = open_packet(&c, a, &batch[i]);
}

const hm_aead_ops hm_aead_avx512[2] = {
    [HM_AES_128_GCM] = {"avx512", hm_aesni_init_128, seal_128, open_128, hm_aesni_hp_init_128,
                        hm_aesni_masks_128},
    [HM_AES_256_GCM] = {"avx512", hm_aesni_init_256, seal_256, open_256, hm_aesni_hp_init_256,
                        hm_aesni_masks_256},
};
