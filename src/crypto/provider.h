// The FALCON-1024 provider for OpenSSL 3 (provider(7)), built into our programs and, as falcon.so,
// for everybody else's. Private to src/crypto. Read provider.c, provider_key.c, provider_sign.c,
// provider_encode.c, provider_decode.c.
#ifndef HM_CRYPTO_PROVIDER_H
#define HM_CRYPTO_PROVIDER_H

#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <stdatomic.h>

#include "crypto/falcon.h"

#define FALCON_PROPS "provider=falcon"

// What a loaded provider knows; one for each load.
typedef struct falcon_provider {
    const OSSL_CORE_HANDLE *handle;
    OSSL_FUNC_BIO_read_ex_fn *bio_read;
    OSSL_FUNC_BIO_write_ex_fn *bio_write;
} falcon_provider;

// A key as OpenSSL holds it, shared by reference count.
typedef struct falcon_key {
    atomic_uint refs;
    bool has_public;
    uint8_t pub[HM_FALCON_PUBLIC_BYTES];
    uint8_t *priv; // HM_FALCON_PRIVATE_BYTES of falcon_pages(), owned; NULL without a private half
    _Atomic(falcon_signer *) signer; // owned; NULL until the first signature
} falcon_key;

falcon_key *falcon_key_new(void); // one reference; NULL for want of memory
// Sets the private half, of a key that nobody else has yet. False for want of memory.
bool falcon_key_private(falcon_key *k, const uint8_t priv[HM_FALCON_PRIVATE_BYTES]);
// The private half made ready to sign, by whoever asks first; borrowed from the key. NULL without a
// private half and for want of memory.
const falcon_signer *falcon_key_signer(falcon_key *k);
falcon_key *falcon_key_ref(falcon_key *k);
void falcon_key_unref(falcon_key *k); // zeroes with the last reference

extern const OSSL_DISPATCH falcon_keymgmt_functions[];
extern const OSSL_DISPATCH falcon_signature_functions[];
extern const OSSL_ALGORITHM falcon_encoders[];
extern const OSSL_ALGORITHM falcon_decoders[];

int falcon_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provctx);

#endif
