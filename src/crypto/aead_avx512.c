// AES-GCM with VAES and VPCLMULQDQ on 512-bit registers.
//
// A packet is laid out by its counters (SP 800-38D, section 7.1): block 1 masks the tag, blocks 2
// and on belong to the text, and the places of blocks 0 and 1 hold the last two blocks of the
// header, which are hashed in front of the text. So four blocks of a register are encrypted and
// hashed at once from the first on, and the mask of the tag comes by the way. The block of lengths
// takes the place behind the text.
//
// This goes in steps of sixteen blocks: four registers of keystream are made round by round while
// the multiplications of GHASH for sixteen blocks of ciphertext run in the gaps: the step's own
// when opening, the step's before when sealing. Products are added up over as many blocks as there
// are powers of the hash key, and reduced once. The rest of less than a step is read and written
// under masks, so that no byte beyond the text is touched. Branches depend on nothing but lengths,
// so that the processor begins a packet while the tag of the one before is still under way.
#include <immintrin.h>

#include "crypto/aead_internal.h"

// Not under AddressSanitizer: its stack frames do not align registers that are put aside (GCC bug
// 110027), and it sees nothing of masked loads. The unit test has guard pages around everything.
#define AVX512                                                                                     \
    __attribute__((target("aes,pclmul,avx512f,avx512bw,avx512dq,avx512vl,vaes,vpclmulqdq"),        \
                   no_sanitize("address")))
#define INLINE static inline __attribute__((always_inline)) AVX512

#define STEP_BLOCKS 16
#define STEP ((size_t)256) // bytes
#define HEAD ((size_t)32)  // bytes of a header in front of the text
// What one reduction has room for: so many steps, or all that is left, which is a rest of up to 16
// blocks and the lengths behind the last steps.
#define RUN_BLOCKS (HM_AEAD_POWERS - 1)
_Static_assert(RUN_BLOCKS % STEP_BLOCKS == 0 && RUN_BLOCKS > 0, "powers");

INLINE __mmask64 first_bytes(size_t n) // n at most 64
{
    return n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0;
}

INLINE __m512i broadcast(const uint8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m512i xor3(__m512i a, __m512i b, __m512i c)
{
#ifdef HM_AEAD_CT_CHECK // MemorySanitizer takes the instruction for a use (scripts/check-ct.sh)
    return _mm512_xor_si512(a, _mm512_xor_si512(b, c));
#else
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
#endif
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
    return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
                                                                      10, 11, 12, 13, 14, 15)));
}

// Begins a run: as many steps as there is room for, or all that is left.
INLINE void run_begin(ghash *g)
{
    size_t blocks = STEP_BLOCKS * g->steps + g->rest_blocks;
    if (blocks > HM_AEAD_POWERS)
        blocks = RUN_BLOCKS;
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
    g->mid =
        xor3(g->mid, _mm512_clmulepi64_epi128(x, h, 0x01), _mm512_clmulepi64_epi128(x, h, 0x10));
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
    __m512i t = xor3(_mm512_shuffle_epi32(g->lo, 0x4e), g->mid,
                     _mm512_clmulepi64_epi128(g->lo, poly, 0x00));
    __m512i u = xor3(_mm512_shuffle_epi32(t, 0x4e), g->hi, _mm512_clmulepi64_epi128(t, poly, 0x00));
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
        run_begin(g);
    }
}

// Begins the hash of a packet. Returns what is to be added to its first four blocks before they
// are hashed: a header of up to two blocks in their places, or the hash of a longer one, which
// concerns the third.
INLINE __m512i hash_begin(ghash *g, const hm_aead *a, hm_bytes aad, size_t len)
{
    __m512i head;
    g->a = a;
    g->y = _mm_setzero_si128();
    if (aad.len <= HEAD) {
        size_t room = HEAD - (aad.len + 15) / 16 * 16;
        const void *from = (const void *)((uintptr_t)aad.ptr - room);
        head = _mm512_maskz_loadu_epi8(first_bytes(room + aad.len) & ~first_bytes(room), from);
    } else {
        while (aad.len > 0) {
            size_t n = aad.len < 64 ? aad.len : 64;
            g->steps = 0, g->rest_blocks = (n + 15) / 16;
            run_begin(g);
            hash_4(g, _mm512_maskz_loadu_epi8(first_bytes(n), aad.ptr), 0);
            run_reduce(g);
            aad = hm_bytes_of(aad.ptr + n, aad.len - n);
        }
        head = swap_bytes(_mm512_maskz_broadcast_i32x4(0x0f00, g->y));
        g->y = _mm_setzero_si128();
    }
    g->steps = (HEAD + len) / STEP;
    g->rest_blocks = ((HEAD + len) % STEP + 15) / 16 + 1;
    run_begin(g);
    return head;
}

INLINE __m128i lengths(size_t aad_len, size_t len)
{
    return _mm_set_epi64x((long long)__builtin_bswap64(len * 8),
                          (long long)__builtin_bswap64(aad_len * 8));
}

INLINE __m128i hash_end(ghash *g)
{
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

// Zeros for at bytes, then the next ones up to byte n, then zeros. Masked loads touch only what
// their masks name, so each piece is read straight to its place in the register.
INLINE __m512i source_take(source *s, size_t at, size_t n)
{
    __m512i v = _mm512_setzero_si512();
    if (n == at)
        return v;
    if (s->left >= n - at) {
        const void *from = (const void *)((uintptr_t)s->ptr - at);
        s->ptr += n - at, s->left -= n - at;
        return at == 0 && n == 64
                   ? _mm512_loadu_si512(from)
                   : _mm512_maskz_loadu_epi8(first_bytes(n) & ~first_bytes(at), from);
    }
    while (at < n) {
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
        text[i] = source_take(s, 0, 64);
}

// ---- counter mode ------------------------------------------------------------------------------

typedef struct cipher {
    __m512i key[15];
    int rounds;
    __m512i nonce;  // four times, with key[0] added
    uint32_t block; // counter of the next step's first block: its last four bits are zero
} cipher;

INLINE void cipher_load(cipher *c, const hm_aead *a, int rounds)
{
    c->rounds = rounds;
#pragma GCC unroll 16
    for (int r = 0; r <= rounds; r++)
        c->key[r] = broadcast(a->round_keys[r]);
}

INLINE void cipher_begin(cipher *c, const hm_aead *a, uint64_t pn)
{
    uint64_t be = __builtin_bswap64(pn); // stands in bytes 4 to 11
    __m128i nonce = _mm_xor_si128(_mm_set_epi64x((long long)(be >> 32), (long long)(be << 32)),
                                  _mm_loadu_si128((const __m128i *)a->iv));
    c->nonce = _mm512_xor_si512(_mm512_broadcast_i32x4(nonce), c->key[0]);
    c->block = 0;
}

// Encrypts or decrypts n registers of text, n a constant: a step, or the beginning of one. With
// hashed, one of its four registers is hashed in every second round. The last round adds the text
// together with its key.
INLINE void cipher_text(cipher *c, __m512i *text, int n, ghash *g, const __m512i *hashed)
{
    __m512i b[4];
    // The counter is big endian in the last four bytes of a block.
    __m512i step = _mm512_maskz_set1_epi32(0x8888, (int)__builtin_bswap32(c->block));
    c->block += STEP_BLOCKS;
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        int j = 4 << 24, k = 1 << 24;
        __m512i within = _mm512_set_epi32(i * j + 3 * k, 0, 0, 0, i * j + 2 * k, 0, 0, 0, i * j + k,
                                          0, 0, 0, i * j, 0, 0, 0);
        b[i] = xor3(c->nonce, step, within);
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
        text[i] = _mm512_aesenclast_epi128(b[i], _mm512_xor_si512(c->key[c->rounds], text[i]));
}

// ---- packets -----------------------------------------------------------------------------------

// A packet on its way.
typedef struct packet {
    cipher *c;
    ghash g;
    uint8_t *at;  // where block 0 of the next step has its place in memory
    __m512i head; // to be added to the first four blocks before they are hashed
    __m128i mask; // of the tag
    __m128i bits; // block of lengths
    bool seal;
    source from; // when sealing
} packet;

#define TEXT_OF_FIRST (~(__mmask64)0 << HEAD)

INLINE void packet_begin(packet *p, cipher *c, const hm_aead *a, uint64_t pn, hm_bytes aad,
                         uint8_t *text, size_t len)
{
    p->c = c;
    p->at = (uint8_t *)((uintptr_t)text - HEAD);
    p->bits = lengths(aad.len, len);
    cipher_begin(c, a, pn);
    p->head = hash_begin(&p->g, a, aad, len);
}

// The first register of a packet was encrypted or decrypted: block 1 of zeros masks the tag.
INLINE void take_mask(packet *p, __m512i first)
{
    p->mask = _mm512_extracti32x4_epi32(first, 1);
}

// What to hash of the first register: its text with the header in front.
INLINE __m512i with_head(const packet *p, __m512i first)
{
    return _mm512_xor_si512(_mm512_maskz_mov_epi8(TEXT_OF_FIRST, first), p->head);
}

// The rest of a packet: len bytes with those before the text, less than a step, in n registers, n a
// constant. first: no step was before it.
INLINE void rest(packet *p, bool first, size_t len, int n)
{
    __m512i text[4], hashed[4];
    __mmask64 start = first ? TEXT_OF_FIRST : ~(__mmask64)0;
    size_t last = len - 64 * (size_t)(n - 1), blocks = (len + 15) / 16;
    __mmask64 end = first_bytes(last);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        size_t from = i == 0 && first ? HEAD : 0, to = i == n - 1 ? last : 64;
        __mmask64 m = (i == 0 ? start : ~(__mmask64)0) & (i == n - 1 ? end : ~(__mmask64)0);
        text[i] =
            p->seal ? source_take(&p->from, from, to) : _mm512_maskz_loadu_epi8(m, p->at + 64 * i);
        hashed[i] = text[i];
    }
    cipher_text(p->c, text, n, &p->g, NULL);
    if (first)
        take_mask(p, text[0]);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        __mmask64 m = (i == 0 ? start : ~(__mmask64)0) & (i == n - 1 ? end : ~(__mmask64)0);
        _mm512_mask_storeu_epi8(p->at + 64 * i, m, text[i]);
        if (p->seal)
            hashed[i] = _mm512_maskz_mov_epi8(m, text[i]);
    }
    if (first)
        hashed[0] = _mm512_xor_si512(hashed[0], p->head);
    // The lengths, when the last register has a place free. They are added to what is there:
    // without a text it is their place that takes the hash of a long header.
    __mmask16 place = (__mmask16)(blocks % 4 != 0 ? 0xf << 4 * (blocks % 4) : 0);
    hashed[n - 1] = _mm512_xor_si512(hashed[n - 1], _mm512_maskz_broadcast_i32x4(place, p->bits));
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
        hash_4(&p->g, hashed[i], (size_t)i);
    p->g.h += 16 * blocks;
}

// What is left of a packet, and its tag.
INLINE __m128i packet_end(packet *p, size_t len)
{
    bool first = HEAD + len < STEP;
    size_t left = (HEAD + len) % STEP;
    if (left > 192)
        rest(p, first, left, 4);
    else if (left > 128)
        rest(p, first, left, 3);
    else if (left > 64)
        rest(p, first, left, 2);
    else if (left > 0)
        rest(p, first, left, 1);
    if ((left + 15) / 16 % 4 == 0)
        hash_4(&p->g, _mm512_zextsi128_si512(p->bits), 0);
    return _mm_xor_si128(p->mask, hash_end(&p->g));
}

INLINE void store_step(packet *p, const __m512i text[4], bool first)
{
    if (first)
        _mm512_mask_storeu_epi8(p->at, TEXT_OF_FIRST, text[0]);
    else
        _mm512_storeu_si512(p->at, text[0]);
#pragma GCC unroll 4
    for (int i = 1; i < 4; i++)
        _mm512_storeu_si512(p->at + 64 * i, text[i]);
    p->at += STEP;
}

INLINE void seal_packet(cipher *c, const hm_aead *a, const hm_aead_seal *s)
{
    packet p = {.seal = true, .from = source_begin(s)};
    __m512i text[4];
    packet_begin(&p, c, a, s->pn, s->aad, s->text, s->len);
    size_t steps = (HEAD + s->len) / STEP;
    if (steps > 0) {
        text[0] = source_take(&p.from, HEAD, 64);
#pragma GCC unroll 4
        for (int i = 1; i < 4; i++)
            text[i] = source_take(&p.from, 0, 64);
        cipher_text(c, text, 4, &p.g, NULL);
        store_step(&p, text, true);
        take_mask(&p, text[0]);
        text[0] = with_head(&p, text[0]);
        while (--steps > 0) {
            __m512i before[4] = {text[0], text[1], text[2], text[3]};
            source_step(&p.from, text);
            cipher_text(c, text, 4, &p.g, before);
            store_step(&p, text, false);
        }
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++)
            hash_4(&p.g, text[i], i);
        step_hashed(&p.g);
    }
    __m128i tag = packet_end(&p, s->len);
    _mm_storeu_si128((__m128i *)(s->text + s->len), tag);
}

// A step of a packet to open.
INLINE void open_step(packet *p, bool first)
{
    __m512i text[4], hashed[4];
    text[0] = first ? _mm512_maskz_loadu_epi8(TEXT_OF_FIRST, p->at) : _mm512_loadu_si512(p->at);
#pragma GCC unroll 4
    for (int i = 1; i < 4; i++)
        text[i] = _mm512_loadu_si512(p->at + 64 * i);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        hashed[i] = text[i];
    if (first)
        hashed[0] = with_head(p, text[0]);
    cipher_text(p->c, text, 4, &p->g, hashed);
    if (first)
        take_mask(p, text[0]);
    store_step(p, text, first);
}

INLINE bool open_packet(cipher *c, const hm_aead *a, const hm_aead_open *o)
{
    packet p = {.seal = false};
    packet_begin(&p, c, a, o->pn, o->aad, o->text, o->len);
    size_t steps = (HEAD + o->len) / STEP;
    if (steps > 0) {
        open_step(&p, true);
        while (--steps > 0)
            open_step(&p, false);
    }
    __m128i tag = packet_end(&p, o->len);
    __m128i diff = _mm_xor_si128(tag, _mm_loadu_si128((const __m128i *)(o->text + o->len)));
    return (_mm_extract_epi64(diff, 0) | _mm_extract_epi64(diff, 1)) == 0;
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
