// Packet protection (RFC 9001, section 5): initial secrets, keys and their update, packets in
// batches, Retry integrity. The arithmetic is crypto/aead.h's.
#ifndef HM_STOQ_PROTECT_H
#define HM_STOQ_PROTECT_H

#include <openssl/evp.h>

#include "crypto/aead.h"
#include "stoq/packet.h"

#define STOQ_MAX_SECRET 48

// The cipher of a TLS 1.3 suite (0x1301, 0x1302, 0x1303); HM_E_UNSUPPORTED for others.
HM_CHECK hm_err stoq_cipher_of_suite(unsigned suite, hm_aead_cipher *out);

// The packet-protection key of one direction in one key phase. Zero-initialised is "none".
typedef struct stoq_aead {
    hm_aead *key;     // owned
    uint64_t packets; // sealed, or failed to open: counted against the AEAD's limits
} stoq_aead;

// One direction of one encryption level.
typedef struct stoq_keys {
    stoq_aead aead;
    hm_hp hp; // the same over key updates
    hm_aead_cipher cipher;
    const stoq_version *version;
    uint8_t secret[STOQ_MAX_SECRET]; // for the next key update
    size_t secret_len;
} stoq_keys;

// Sets keys from a traffic secret.
HM_CHECK hm_err stoq_keys_init(stoq_keys *k, const stoq_version *version, hm_aead_cipher cipher,
                               const uint8_t *secret, size_t secret_len);
// The Initial keys for a client's first destination connection id.
HM_CHECK hm_err stoq_keys_init_initial(stoq_keys *client, stoq_keys *server,
                                       const stoq_version *version, const stoq_cid *dcid);
void stoq_keys_free(stoq_keys *k); // zeroes the secrets
static inline bool stoq_keys_ready(const stoq_keys *k)
{
    return k->aead.key != NULL;
}
// Advances k to the next key phase and hands the AEAD of the old one to *old (if not NULL), to be
// freed by the caller; header protection stays.
HM_CHECK hm_err stoq_keys_update(stoq_keys *k, stoq_aead *old);
// The AEAD of the phase after k's, without changing k.
HM_CHECK hm_err stoq_keys_next(const stoq_keys *k, stoq_aead *out);
void stoq_aead_free(stoq_aead *a);
// How many packets one key may seal, and how many forgeries it may meet (RFC 9001, section 6.6).
uint64_t stoq_cipher_seal_limit(hm_aead_cipher cipher);
uint64_t stoq_cipher_open_limit(hm_aead_cipher cipher);

// One packet to protect, in place: header (with the plain packet number), payload, then room for
// the tag. The last bytes of the payload may still be elsewhere.
typedef struct stoq_seal {
    uint8_t *packet;
    uint32_t header_len;  // including the packet number
    uint32_t payload_len; // without the tag; with pn_len at least 4
    uint64_t pn;
    uint8_t pn_len;
    hm_bytes tail; // where they are; they do not overlap the packet
} stoq_seal;

// Protects a batch of packets of one key: all AEADs, then all header protections.
HM_CHECK hm_err stoq_seal_batch(stoq_keys *k, const stoq_seal *batch, size_t count);

// Removes header protection in place: *truncated is the packet number as sent, *pn_len its
// length. The packet has at least 4 + STOQ_AEAD_TAG bytes from pn_offset on (the parser saw to it).
HM_CHECK hm_err stoq_unmask_header(hm_hp *hp, uint8_t *packet, size_t pn_offset,
                                   uint32_t *truncated, size_t *pn_len);
// The same for packets of one length, `stride` bytes apart, at most STOQ_BATCH_MAX; the last one
// may be shorter.
#define STOQ_BATCH_MAX 64u
HM_CHECK hm_err stoq_unmask_headers(hm_hp *hp, uint8_t *packets, size_t stride, size_t count,
                                    size_t pn_offset, uint32_t *truncated, uint8_t *pn_len);
// One packet to open, in place, after its header was unmasked.
typedef struct stoq_open {
    uint8_t *packet;
    uint32_t header_len;
    uint32_t payload_len; // with the tag
    uint64_t pn;
    bool ok; // out: authentic; the payload is plain, payload_len - STOQ_AEAD_TAG bytes
} stoq_open;
void stoq_open_batch(stoq_aead *a, stoq_open *batch, size_t count);

// The integrity tag of a Retry packet (without its tag) that answers original_dcid.
HM_CHECK hm_err stoq_retry_tag(const stoq_version *version, const stoq_cid *original_dcid,
                               hm_bytes retry, uint8_t out[STOQ_RETRY_TAG]);
// HKDF-Expand-Label of TLS 1.3 with an empty context; out_len at most the hash's length.
HM_CHECK hm_err stoq_expand_label(const EVP_MD *md, const uint8_t *secret, size_t secret_len,
                                  const char *label, uint8_t *out, size_t out_len);

#endif
