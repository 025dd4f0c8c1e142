#include "crypto/falcon/stream.h"

#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the words of the stream are little-endian: build with -Dfalcon=integer"
#endif

#define BLOCKS 8 // of ChaCha20 at once, whose words lie beside one another in the stream
#define WORDS 16
#define KEY_WORDS 12 // and nonce, which the counter of 64 bits is added to by exclusive or

typedef uint32_t lanes __attribute__((vector_size(4 * BLOCKS)));

#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define QUARTER(a, b, c, d)                                                                        \
    do {                                                                                           \
        a += b, d ^= a, d = ROTATE(d, 16);                                                         \
        c += d, b ^= c, b = ROTATE(b, 12);                                                         \
        a += b, d ^= a, d = ROTATE(d, 8);                                                          \
        c += d, b ^= c, b = ROTATE(b, 7);                                                          \
    } while (0)

// Compiled for each kind.
static inline __attribute__((always_inline)) void blocks(uint8_t state[FALCON_STREAM_STATE],
                                                         uint8_t out[FALCON_STREAM_BYTES])
{
    static const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    uint32_t key[KEY_WORDS];
    uint64_t number;
    lanes first[WORDS], x[WORDS];

    memcpy(key, state, sizeof key);
    memcpy(&number, state + sizeof key, sizeof number);
    for (int i = 0; i < WORDS; i++)
        first[i] = (lanes){0} + (i < 4 ? constants[i] : key[i - 4]);
    for (unsigned b = 0; b < BLOCKS; b++) {
        first[14][b] ^= (uint32_t)(number + b);
        first[15][b] ^= (uint32_t)((number + b) >> 32);
    }
    memcpy(x, first, sizeof x);
    for (int i = 0; i < 10; i++) {
        QUARTER(x[0], x[4], x[8], x[12]);
        QUARTER(x[1], x[5], x[9], x[13]);
        QUARTER(x[2], x[6], x[10], x[14]);
        QUARTER(x[3], x[7], x[11], x[15]);
        QUARTER(x[0], x[5], x[10], x[15]);
        QUARTER(x[1], x[6], x[11], x[12]);
        QUARTER(x[2], x[7], x[8], x[13]);
        QUARTER(x[3], x[4], x[9], x[14]);
    }
    for (int i = 0; i < WORDS; i++)
        x[i] += first[i];
    _Static_assert(sizeof x == FALCON_STREAM_BYTES, "one word of all blocks after the other");
    memcpy(out, x, sizeof x);
    number += BLOCKS;
    memcpy(state + sizeof key, &number, sizeof number);
}

static void blocks_any(uint8_t state[FALCON_STREAM_STATE], uint8_t out[FALCON_STREAM_BYTES])
{
    blocks(state, out);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void blocks_avx2(uint8_t state[FALCON_STREAM_STATE],
                                                        uint8_t out[FALCON_STREAM_BYTES])
{
    blocks(state, out);
}

// Rotations, and twice the registers.
__attribute__((target("avx2,avx512vl"))) static void
blocks_avx512(uint8_t state[FALCON_STREAM_STATE], uint8_t out[FALCON_STREAM_BYTES])
{
    blocks(state, out);
}
#else
#define blocks_avx2 blocks_any
#define blocks_avx512 blocks_any
#endif

bool falcon_stream_has(falcon_stream_kind k)
{
#ifdef __x86_64__
    return k == FALCON_STREAM_ANY || (k == FALCON_STREAM_AVX2 && __builtin_cpu_supports("avx2")) ||
           (k == FALCON_STREAM_AVX512 && __builtin_cpu_supports("avx512vl"));
#else
    return k == FALCON_STREAM_ANY;
#endif
}

void falcon_stream(falcon_stream_kind k, uint8_t state[FALCON_STREAM_STATE],
                   uint8_t out[FALCON_STREAM_BYTES])
{
    (k == FALCON_STREAM_AVX512 ? blocks_avx512
     : k == FALCON_STREAM_AVX2 ? blocks_avx2
                               : blocks_any)(state, out);
}
