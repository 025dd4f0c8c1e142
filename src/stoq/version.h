// The versions of QUIC that are spoken here: 1 (RFC 9000, 9001) and 2 (RFC 9369), which differ in
// these constants and in nothing else.
#ifndef HM_STOQ_VERSION_H
#define HM_STOQ_VERSION_H

#include "hypermesh/stoq.h"

typedef struct stoq_version {
    uint32_t number;
    uint8_t first_type; // that an Initial packet has in its first byte; the others follow in turn
    uint8_t salt[20];   // of Initial secrets
    uint8_t retry_key[16], retry_nonce[12];
    const char *key, *iv, *hp, *ku; // labels
} stoq_version;

// By its number on the wire, or its place: 0 and 1. NULL: not spoken.
const stoq_version *stoq_version_of(uint32_t number);
extern const stoq_version stoq_versions[STOQ_MAX_VERSIONS];

#endif
