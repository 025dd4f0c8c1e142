// SHA-256 through OpenSSL's low-level calls: no allocation and no fetch, which matters for the
// many small inputs of trees and identifiers. They are deprecated in favour of EVP only for the
// sake of FIPS modules; the assembly behind both is the same.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/crypto.h"

void hm_sha256_init(hm_sha256_ctx *c)
{
    SHA256_Init(&c->sha);
}

void hm_sha256_update(hm_sha256_ctx *c, hm_bytes data)
{
    if (data.len > 0)
        SHA256_Update(&c->sha, data.ptr, data.len);
}

hm_hash hm_sha256_final(hm_sha256_ctx *c)
{
    hm_hash h;
    SHA256_Final(h.b, &c->sha);
    return h;
}

hm_hash hm_sha256(hm_bytes data)
{
    hm_sha256_ctx c;
    hm_sha256_init(&c);
    hm_sha256_update(&c, data);
    return hm_sha256_final(&c);
}

hm_hash hm_sha256_2(hm_bytes a, hm_bytes b)
{
    hm_sha256_ctx c;
    hm_sha256_init(&c);
    hm_sha256_update(&c, a);
    hm_sha256_update(&c, b);
    return hm_sha256_final(&c);
}
