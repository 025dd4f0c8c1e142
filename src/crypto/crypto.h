// crypto: hashes, Merkle trees, FALCON-1024 keys and signatures, ML-KEM sealing.
//
// Call hm_crypto_init() once before anything else of this layer (or of OpenSSL) that touches keys.
// Hashes and Merkle trees need no initialisation. Everything here may be called by any thread; an
// hm_key may be used by several threads at once.
//
// What is constant-time and what is not stands in src/crypto/README.md.
#ifndef HM_CRYPTO_CRYPTO_H
#define HM_CRYPTO_CRYPTO_H

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/base.h"

// Loads OpenSSL's default provider and the built-in FALCON provider into the default library
// context; the key type is then "falcon1024" for every call of OpenSSL. Repeated calls are cheap.
HM_CHECK hm_err hm_crypto_init(void);

// Sets the detail line from OpenSSL's error queue, empties the queue and returns err.
hm_err hm_crypto_fail(hm_err err, const char *what);

// ---- hashes ------------------------------------------------------------------------------------

#define HM_HASH_BYTES 32
typedef struct hm_hash {
    uint8_t b[HM_HASH_BYTES];
} hm_hash;

hm_hash hm_sha256(hm_bytes data);
// Of a followed by b, without joining them in memory.
hm_hash hm_sha256_2(hm_bytes a, hm_bytes b);

// Streaming: init, update any number of times, final once.
typedef struct hm_sha256_ctx {
    SHA256_CTX sha;
} hm_sha256_ctx;
void hm_sha256_init(hm_sha256_ctx *c);
void hm_sha256_update(hm_sha256_ctx *c, hm_bytes data);
hm_hash hm_sha256_final(hm_sha256_ctx *c);

static inline bool hm_hash_eq(const hm_hash *a, const hm_hash *b)
{
    return memcmp(a->b, b->b, HM_HASH_BYTES) == 0;
}
static inline bool hm_hash_is_zero(const hm_hash *a)
{
    static const hm_hash zero;
    return hm_hash_eq(a, &zero);
}
static inline hm_bytes hm_hash_bytes(const hm_hash *a)
{
    return hm_bytes_of(a->b, HM_HASH_BYTES);
}

// ---- Merkle trees (RFC 9162 section 2.1, SHA-256) ----------------------------------------------
// Leaves are hashed with prefix 0x00, inner nodes with 0x01; the root of no leaves is SHA-256("").

#define HM_MERKLE_PATH_MAX 64 // entries of an inclusion path: a tree has fewer than 2^64 leaves

hm_hash hm_merkle_leaf(hm_bytes data);
hm_hash hm_merkle_node(const hm_hash *left, const hm_hash *right);
// leaves are leaf hashes (of hm_merkle_leaf()). Takes O(log count) memory on the stack.
hm_hash hm_merkle_root(const hm_hash *leaves, size_t count);
// The audit path of leaves[index], lowest first; *path_len entries of path (HM_MERKLE_PATH_MAX
// room). index < count. Costs one pass over the leaves.
void hm_merkle_path(const hm_hash *leaves, size_t count, size_t index, hm_hash *path,
                    size_t *path_len);
// True when leaf stands at index in the tree of count leaves with this root.
bool hm_merkle_verify(const hm_hash *root, uint64_t count, uint64_t index, const hm_hash *leaf,
                      const hm_hash *path, size_t path_len);

// ---- FALCON-1024 (round 3, compressed signatures) ----------------------------------------------

#define HM_FALCON_PUBLIC_BYTES 1793
#define HM_FALCON_PRIVATE_BYTES 2305
#define HM_FALCON_SIGNATURE_MAX 1462
#define HM_FALCON_SPKI_BYTES 1811 // length of every SubjectPublicKeyInfo in DER
#define HM_FALCON_NAME "falcon1024"
#define HM_FALCON_OID "1.3.9999.3.14"
#define HM_FALCON_TLS 0xfeda // TLS SignatureScheme

// A key pair of FALCON-1024 with its private half.
typedef struct hm_key hm_key;

HM_CHECK hm_err hm_key_generate(hm_key **out);
// PKCS#8 in PEM, not encrypted; the file is made with mode 0600, replaced atomically. Loading
// refuses a file that others may read (HM_E_DENIED).
HM_CHECK hm_err hm_key_save(const hm_key *key, const char *path);
HM_CHECK hm_err hm_key_load(const char *path, hm_key **out);
// From a PKCS#8 DER of FALCON-1024.
HM_CHECK hm_err hm_key_of_der(hm_bytes pkcs8, hm_key **out);
// Zeroes and releases; NULL is fine.
void hm_key_free(hm_key *key);
// HM_FALCON_PUBLIC_BYTES raw bytes that live as long as the key.
hm_bytes hm_key_public(const hm_key *key);
// The same key for OpenSSL; borrowed, lives as long as the key (EVP_PKEY_up_ref() to keep it).
EVP_PKEY *hm_key_evp(const hm_key *key);

// Signs domain || 0x00 || msg and appends the signature to sig. domain is ASCII text naming the use
// ("hypermesh op v1"), so that a signature for one use is none for another.
HM_CHECK hm_err hm_sign(const hm_key *key, const char *domain, hm_bytes msg, hm_buf *sig);
// HM_E_SIGNATURE when it is not that key's, HM_E_KEY when public_raw is no public key. Padded
// signatures and other non-canonical encodings are refused: one signature has one encoding.
HM_CHECK hm_err hm_verify(hm_bytes public_raw, const char *domain, hm_bytes msg, hm_bytes sig);

// The SubjectPublicKeyInfo of a raw public key (HM_E_KEY when it has the wrong length or header).
HM_CHECK hm_err hm_falcon_spki(hm_bytes public_raw, uint8_t out[HM_FALCON_SPKI_BYTES]);
// The raw public key of an OpenSSL key; HM_E_KEY when it is not FALCON-1024.
HM_CHECK hm_err hm_falcon_public_of_evp(const EVP_PKEY *pkey, uint8_t out[HM_FALCON_PUBLIC_BYTES]);

// A node's identity is the SHA-256 of its SubjectPublicKeyInfo in DER.
typedef hm_hash hm_node_id;
HM_CHECK hm_err hm_node_id_of_public(hm_bytes public_raw, hm_node_id *out);

// ---- sealing to an ML-KEM-768 key --------------------------------------------------------------
// sealed = ML-KEM ciphertext (1088) || AES-256-GCM(key, data) || tag (16), where the key and nonce
// are HKDF-SHA256(shared secret, salt = SHA-256(ciphertext), info = "hypermesh seal v1" || 0x00 ||
// public key hash) and the caller's aad is authenticated with it.

#define HM_SEAL_PUBLIC_BYTES 1184
#define HM_SEAL_SEED_BYTES 64 // the private key as FIPS 203 seed d || z
#define HM_SEAL_OVERHEAD (1088 + 16)

// A fresh key pair: the public key and the private seed, which the caller zeroes.
HM_CHECK hm_err hm_seal_keygen(uint8_t public_out[HM_SEAL_PUBLIC_BYTES],
                               uint8_t seed_out[HM_SEAL_SEED_BYTES]);
// Appends data.len + HM_SEAL_OVERHEAD bytes to out.
HM_CHECK hm_err hm_seal(hm_bytes public_raw, hm_bytes aad, hm_bytes data, hm_buf *out);
// Appends the data to out; HM_E_UNSEAL when anything differs from what was sealed.
HM_CHECK hm_err hm_open(hm_bytes seed, hm_bytes aad, hm_bytes sealed, hm_buf *out);

#endif
