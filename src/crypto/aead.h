// Packet protection for QUIC (RFC 9001, sections 5.3 and 5.4): AES-128-GCM, AES-256-GCM and
// ChaCha20-Poly1305 over many packets at once, and the masks of header protection.
//
// AES-GCM is our own where the processor has the instructions, because one EVP call a packet costs
// more than the cipher (docs/decisions/0004-aes-gcm.md): a version for VAES and VPCLMULQDQ on
// 512-bit registers, one for AES-NI and PCLMULQDQ. The best one is chosen as a key is set up.
// ChaCha20-Poly1305, and AES on other processors, are OpenSSL's with contexts that are kept.
//
// Sources: FIPS 197 (AES); NIST SP 800-38D (GCM); RFC 5116; S. Gueron and M. Kounavis, "Intel
// Carry-Less Multiplication Instruction and its Usage for Computing the GCM Mode" (aggregated
// reduction); RFC 8452, appendix A (GHASH in the terms of POLYVAL).
//
// Our versions are constant time: no branch and no address depends on a key, on text or on a tag,
// only on lengths and versions. What a key may protect (RFC 9001, section 6.6) is the caller's to
// count. A key object is used by one thread at a time: OpenSSL's version changes its context.
#ifndef HM_CRYPTO_AEAD_H
#define HM_CRYPTO_AEAD_H

#include <openssl/evp.h>
#include <stdalign.h>

#include "base/base.h"

#define HM_AEAD_TAG 16
#define HM_AEAD_IV 12
#define HM_AEAD_SAMPLE 16
#define HM_AEAD_TEXT_MAX ((size_t)1 << 30) // longest text and longest header, asserted
#define HM_AEAD_POWERS 49                  // of the hash key; see aead_internal.h

typedef enum hm_aead_cipher {
    HM_AES_128_GCM,
    HM_AES_256_GCM,
    HM_CHACHA20_POLY1305,
} hm_aead_cipher;

typedef enum hm_aead_version {
    HM_AEAD_BEST, // what everybody but tests and benchmarks asks for
    HM_AEAD_AVX512,
    HM_AEAD_VAES,
    HM_AEAD_AESNI,
    HM_AEAD_OPENSSL,
} hm_aead_version;

// Whether this machine has a version for a cipher (HM_AEAD_BEST and HM_AEAD_OPENSSL: always).
bool hm_aead_available(hm_aead_version version, hm_aead_cipher cipher);
// "avx512", "vaes", "aesni", "openssl"; of HM_AEAD_BEST the one that it stands for. Static.
const char *hm_aead_version_name(hm_aead_version version, hm_aead_cipher cipher);
// Bytes of a key: 16 or 32.
size_t hm_aead_key_len(hm_aead_cipher cipher);

// A key of packet protection, which both seals and opens. The memory is the caller's and holds
// secrets; zero-initialised is "none". It may be moved, not copied: OpenSSL's version owns a
// context. The fields are the module's own.
typedef struct hm_aead {
    // Powers of the hash key, the highest first, so that a run of blocks finds its powers in order;
    // three more of no meaning, for four blocks are read where one counts.
    alignas(16) uint8_t powers[HM_AEAD_POWERS + 3][16];
    uint8_t round_keys[15][16];
    uint8_t iv[16]; // the last four bytes are zero
    const struct hm_aead_ops *ops;
    EVP_CIPHER_CTX *ctx; // owned; OpenSSL's version only
} hm_aead;

// Sets a key and its IV up, clearing what was there. HM_E_UNSUPPORTED for a version that is not
// available, HM_E_NOMEM, HM_E_CRYPTO (only OpenSSL's version can fail otherwise). The AES versions
// of our own allocate nothing.
HM_CHECK hm_err hm_aead_init(hm_aead *a, hm_aead_cipher cipher, hm_aead_version version,
                             const uint8_t *key, const uint8_t iv[HM_AEAD_IV]);
// Wipes the key and makes it "none"; fine on "none".
void hm_aead_clear(hm_aead *a);
static inline bool hm_aead_ready(const hm_aead *a)
{
    return a->ops != NULL;
}

// One packet to seal. The ciphertext goes to text (len bytes) and its tag right behind it. The
// plain text is what stands in text, or the concatenation of pieces from elsewhere, len bytes
// together, which is read once and thus costs no copy; a piece with ptr NULL stands in text
// already, such as the frame header before an application's bytes. Pieces do not overlap text.
typedef struct hm_aead_seal {
    hm_bytes aad; // the header; does not overlap text
    uint8_t *text;
    size_t len;
    uint64_t pn; // packet number: the nonce is the IV xor it, so never twice under one key
    const hm_bytes *pieces;
    size_t piece_count; // 0: all in place
} hm_aead_seal;

// One packet to open, in place.
typedef struct hm_aead_open {
    hm_bytes aad;
    uint8_t *text; // followed by the tag, which is only read
    size_t len;    // without the tag
    uint64_t pn;
    bool ok; // out: authentic, and text is plain; else text is zeros
} hm_aead_open;

// Seals count packets. HM_E_CRYPTO when OpenSSL fails: what was to be sent must not be.
HM_CHECK hm_err hm_aead_seal_batch(hm_aead *a, const hm_aead_seal *batch, size_t count);
// Opens count packets, each for itself. Text is decrypted while its tag is computed: nothing may
// look at it before this returns. A packet that does not open loses its ciphertext, not its tag.
void hm_aead_open_batch(hm_aead *a, hm_aead_open *batch, size_t count);

static inline HM_CHECK hm_err hm_aead_seal_one(hm_aead *a, hm_bytes aad, uint8_t *text, size_t len,
                                               uint64_t pn)
{
    hm_aead_seal s = {.aad = aad, .text = text, .len = len, .pn = pn};
    return hm_aead_seal_batch(a, &s, 1);
}
static inline HM_CHECK bool hm_aead_open_one(hm_aead *a, hm_bytes aad, uint8_t *text, size_t len,
                                             uint64_t pn)
{
    hm_aead_open o = {.aad = aad, .text = text, .len = len, .pn = pn};
    hm_aead_open_batch(a, &o, 1);
    return o.ok;
}

// A key of header protection; the same rules.
typedef struct hm_hp {
    alignas(16) uint8_t round_keys[15][16];
    const struct hm_aead_ops *ops;
    EVP_CIPHER_CTX *ctx; // owned; OpenSSL's version only
} hm_hp;

HM_CHECK hm_err hm_hp_init(hm_hp *hp, hm_aead_cipher cipher, hm_aead_version version,
                           const uint8_t *key);
void hm_hp_clear(hm_hp *hp);
static inline bool hm_hp_ready(const hm_hp *hp)
{
    return hp->ops != NULL;
}
// The masks of count samples of HM_AEAD_SAMPLE bytes each: masks[i] of samples[i]. The first five
// bytes count; with AES the mask is the whole block, with ChaCha20 the rest is zero.
HM_CHECK hm_err hm_hp_masks(hm_hp *hp, const uint8_t *const *samples,
                            uint8_t (*masks)[HM_AEAD_SAMPLE], size_t count);

#endif
