// DER of FALCON-1024 keys (RFC 5280 SubjectPublicKeyInfo, RFC 5208 PrivateKeyInfo). All lengths are
// fixed, so an encoding is a fixed head with the raw key behind it, and DER being canonical, any
// other head is not ours.
#include "crypto/falcon.h"

// AlgorithmIdentifier { 1.3.9999.3.14 }
#define ALGORITHM 0x30, 0x07, 0x06, 0x05, 0x2b, 0xce, 0x0f, 0x03, 0x0e

static const uint8_t spki_head[] = {0x30, 0x82, 0x07, 0x0f, ALGORITHM,
                                    0x03, 0x82, 0x07, 0x02, 0x00};
static const uint8_t pkcs8_head[] = {0x30, 0x82, 0x10, 0x16, 0x02, 0x01, 0x00, ALGORITHM,
                                     0x04, 0x82, 0x10, 0x06, 0x04, 0x82, 0x10, 0x02};
_Static_assert(sizeof spki_head + HM_FALCON_PUBLIC_BYTES == HM_FALCON_SPKI_BYTES, "");
_Static_assert(sizeof pkcs8_head + HM_FALCON_PRIVATE_BYTES + HM_FALCON_PUBLIC_BYTES ==
                   FALCON_PKCS8_BYTES,
               "");

void falcon_spki_write(const uint8_t pub[HM_FALCON_PUBLIC_BYTES], uint8_t out[HM_FALCON_SPKI_BYTES])
{
    memcpy(out, spki_head, sizeof spki_head);
    memcpy(out + sizeof spki_head, pub, HM_FALCON_PUBLIC_BYTES);
}

hm_err falcon_spki_read(hm_bytes der, hm_bytes *pub)
{
    if (der.len != HM_FALCON_SPKI_BYTES || memcmp(der.ptr, spki_head, sizeof spki_head) != 0)
        return hm_fail(HM_E_PARSE, "not a SubjectPublicKeyInfo of FALCON-1024");
    *pub = hm_bytes_of(der.ptr + sizeof spki_head, HM_FALCON_PUBLIC_BYTES);
    return HM_OK;
}

void falcon_pkcs8_write(const uint8_t priv[HM_FALCON_PRIVATE_BYTES],
                        const uint8_t pub[HM_FALCON_PUBLIC_BYTES], uint8_t out[FALCON_PKCS8_BYTES])
{
    memcpy(out, pkcs8_head, sizeof pkcs8_head);
    memcpy(out + sizeof pkcs8_head, priv, HM_FALCON_PRIVATE_BYTES);
    memcpy(out + sizeof pkcs8_head + HM_FALCON_PRIVATE_BYTES, pub, HM_FALCON_PUBLIC_BYTES);
}

hm_err falcon_pkcs8_read(hm_bytes der, hm_bytes *priv, hm_bytes *pub)
{
    if (der.len != FALCON_PKCS8_BYTES || memcmp(der.ptr, pkcs8_head, sizeof pkcs8_head) != 0)
        return hm_fail(HM_E_PARSE, "not a PKCS#8 PrivateKeyInfo of FALCON-1024");
    *priv = hm_bytes_of(der.ptr + sizeof pkcs8_head, HM_FALCON_PRIVATE_BYTES);
    *pub = hm_bytes_of(priv->ptr + HM_FALCON_PRIVATE_BYTES, HM_FALCON_PUBLIC_BYTES);
    return HM_OK;
}
