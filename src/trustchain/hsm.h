// Private to src/trustchain: the authority's keys in a hardware security module, by PKCS#11.
//
// ECDSA keys are made in the token and never leave it; OpenSSL signs with them through Debian's
// pkcs11-provider. Tokens know no FALCON: such a key is wrapped (AES-256-GCM) by an AES key that is
// made in the token and never leaves it, and is unwrapped for each signature into the page of a
// falcon_key, which is locked, in no core dump, and zeroed when the signature is made.
//
// Life cycle: hsm_open() logs in; when a call finds the token gone, the connection is dropped and
// the call fails with HM_E_BUSY and the reason; every later call tries a new connection, so the
// token may come back at any time. A PIN that the token refuses is not tried again by this process:
// tokens lock themselves after a few.
//
// One thread. Source: PKCS #11 v2.40; RFC 7512 (URIs); SP 800-38D (GCM).
#ifndef HM_TRUSTCHAIN_HSM_H
#define HM_TRUSTCHAIN_HSM_H

#include <openssl/evp.h>

#include "base/base.h"

#define HSM_URI_MAX 1024u
#define HSM_WRAP_OVERHEAD (12u + 16u) // nonce and tag

// How the token's objects are named: CKA_ID, random, so that what an interrupted init left in the
// token is never taken for ours.
typedef struct hsm_id {
    uint8_t b[16];
} hsm_id;

typedef struct hsm hsm;

// uri: pkcs11:token=NAME?module-path=FILE&pin-source=file:FILE. Without pin-source the PIN is in
// the credential hsm-pin ($CREDENTIALS_DIRECTORY/hsm-pin, systemd.exec(5)). HM_E_CONFIG for a URI
// that lacks these or holds the PIN itself, HM_E_DENIED for a refused PIN or a file of it that
// others may read, HM_E_BUSY when the token cannot be reached.
HM_CHECK hm_err hsm_open(const char *uri, hsm **out);
void hsm_close(hsm *h); // NULL is fine

// Is the token there, and does it have the object?
HM_CHECK hm_err hsm_check(hsm *h, const hsm_id *id);

// A fresh ECDSA P-384 key in the token; label is for people.
HM_CHECK hm_err hsm_ec_make(hsm *h, const char *label, hsm_id *id);
// Its public half, for the caller to free; it belongs to OpenSSL's default provider.
HM_CHECK hm_err hsm_ec_public(hsm *h, const hsm_id *id, EVP_PKEY **out);
// The key to sign with, for the caller to free, after the token showed that it has it. When signing
// fails all the same, hsm_lost() drops the connection and gives HM_E_BUSY.
HM_CHECK hm_err hsm_ec_signer(hsm *h, const hsm_id *id, EVP_PKEY **out);
hm_err hsm_lost(hsm *h);

// Takes the key out of the token for good, both halves; absent is fine.
HM_CHECK hm_err hsm_destroy(hsm *h, const hsm_id *id);

// A fresh AES-256 key in the token.
HM_CHECK hm_err hsm_aes_make(hsm *h, const char *label, hsm_id *id);
// Appends plain.len + HSM_WRAP_OVERHEAD bytes: nonce, ciphertext, tag.
HM_CHECK hm_err hsm_wrap(hsm *h, const hsm_id *id, hm_bytes plain, hm_buf *out);
// len is wrapped.len - HSM_WRAP_OVERHEAD, but out has room for wrapped.len: modules use more of it
// than they give. HM_E_UNSEAL when a byte differs from what was wrapped.
HM_CHECK hm_err hsm_unwrap(hsm *h, const hsm_id *id, hm_bytes wrapped, uint8_t *out, size_t len);

#endif
