// FALCON-1024 on raw bytes, over PQClean's C. Private to src/crypto; everybody else uses crypto.h.
//
// Public key: header 0x0a and 1024 coefficients of 14 bits. Private key: header 0x5a and f, g, F.
// Signature: header 0x3a, 40 bytes of nonce, the compressed vector (round-3 specification, 3.11).
// All functions: any thread, no state but a signer's, which no function changes. Signing and
// verifying take time that depends on the hash of nonce and message, which is public where the
// signature is (PQClean: hash_to_point_vartime), and on no secret but as docs/decisions/0001 says.
#ifndef HM_CRYPTO_FALCON_H
#define HM_CRYPTO_FALCON_H

#include "crypto/crypto.h"

#define FALCON_NONCE_BYTES 40
#define FALCON_PKCS8_BYTES 4122 // length of every PKCS#8 encoding of ours
#define FALCON_SECURITY_BITS 256

// A fresh key pair from OpenSSL's private random generator.
HM_CHECK hm_err falcon_keypair(uint8_t pub[HM_FALCON_PUBLIC_BYTES],
                               uint8_t priv[HM_FALCON_PRIVATE_BYTES]);
// A private key made ready to sign: the basis and the tree that FALCON otherwise derives again for
// every signature (round-3 specification, 3.8.3 and algorithm 9), 120 KiB. The signatures are the
// same bit for bit. Made in about 0.2 ms, a third of a signature without it.
typedef struct falcon_signer falcon_signer;
// Owned by the caller; HM_E_KEY when the private key is malformed, HM_E_NOMEM.
HM_CHECK hm_err falcon_signer_new(const uint8_t priv[HM_FALCON_PRIVATE_BYTES], falcon_signer **out);
void falcon_signer_free(falcon_signer *s); // zeroes; NULL is fine
// About 0.2 ms. sig has room for HM_FALCON_SIGNATURE_MAX bytes.
HM_CHECK hm_err falcon_sign(const falcon_signer *s, hm_bytes msg, uint8_t *sig, size_t *sig_len);
// Pages of their own for what is secret: no core dump holds them, and they are not swapped out as
// far as RLIMIT_MEMLOCK lets. NULL for want of memory; zeroed before they go.
void *falcon_pages(size_t n);
void falcon_pages_free(void *p, size_t n); // NULL is fine
// HM_E_SIGNATURE for anything but the one compressed encoding of a good signature.
HM_CHECK hm_err falcon_verify(const uint8_t pub[HM_FALCON_PUBLIC_BYTES], hm_bytes msg,
                              hm_bytes sig);
// Is it a public key: length, header, coefficients below q, no bit left over? HM_E_KEY.
HM_CHECK hm_err falcon_public_check(hm_bytes pub);
// The public key that belongs to a private key. HM_E_KEY when the private key is malformed.
HM_CHECK hm_err falcon_public_of_private(const uint8_t priv[HM_FALCON_PRIVATE_BYTES],
                                         uint8_t pub[HM_FALCON_PUBLIC_BYTES]);

// DER. A SubjectPublicKeyInfo has the OID without parameters and the raw public key. A PKCS#8
// PrivateKeyInfo holds an OCTET STRING of private || public, as the oqs-provider writes it.
void falcon_spki_write(const uint8_t pub[HM_FALCON_PUBLIC_BYTES],
                       uint8_t out[HM_FALCON_SPKI_BYTES]);
// The raw public key, borrowed from der; HM_E_PARSE when it is not our SubjectPublicKeyInfo.
HM_CHECK hm_err falcon_spki_read(hm_bytes der, hm_bytes *pub);
void falcon_pkcs8_write(const uint8_t priv[HM_FALCON_PRIVATE_BYTES],
                        const uint8_t pub[HM_FALCON_PUBLIC_BYTES], uint8_t out[FALCON_PKCS8_BYTES]);
// Both halves, borrowed from der; HM_E_PARSE. Whether they belong together is not checked here.
HM_CHECK hm_err falcon_pkcs8_read(hm_bytes der, hm_bytes *priv, hm_bytes *pub);

#endif
