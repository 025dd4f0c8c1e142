// The entry point of falcon.so: `openssl ... -provider-path DIR -provider falcon`.
#include "crypto/provider.h"

__attribute__((visibility("default"))) OSSL_provider_init_fn OSSL_provider_init;

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx)
{
    return falcon_provider_init(handle, in, out, provctx);
}
