// The stream of random bytes that FALCON signs with: ChaCha20's blocks (RFC 8439, section 2.3) of a
// key and nonce of 48 bytes, whose last eight the number of the block, little-endian, is added to
// by exclusive or. The words of eight blocks lie beside one another, as in FALCON's reference code.
#ifndef HM_CRYPTO_FALCON_STREAM_H
#define HM_CRYPTO_FALCON_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#define FALCON_STREAM_STATE 56u // key and nonce, number of the next block
#define FALCON_STREAM_BYTES 512u

typedef enum falcon_stream_kind {
    FALCON_STREAM_ANY, // processor
    FALCON_STREAM_AVX2,
    FALCON_STREAM_AVX512,
    FALCON_STREAM_KINDS,
} falcon_stream_kind;

// Whether this processor has what the kind needs; of the bytes all kinds give the same.
bool falcon_stream_has(falcon_stream_kind k);
void falcon_stream(falcon_stream_kind k, uint8_t state[FALCON_STREAM_STATE],
                   uint8_t out[FALCON_STREAM_BYTES]);

#endif
