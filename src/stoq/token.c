#include <openssl/hmac.h>

#include "base/wire.h"
#include "stoq/endpoint.h"

#define MAC_BYTES 16

static void mac(const uint8_t secret[32], const struct sockaddr_in6 *from, const uint8_t *body,
                size_t len, uint8_t out[MAC_BYTES])
{
    uint8_t mem[18 + STOQ_TOKEN_MAX], full[EVP_MAX_MD_SIZE];
    memcpy(mem, &from->sin6_addr, 16);
    memcpy(mem + 16, &from->sin6_port, 2);
    memcpy(mem + 18, body, len);
    hm_assert(HMAC(EVP_sha256(), secret, 32, mem, 18 + len, full, NULL) != NULL);
    memcpy(out, full, MAC_BYTES);
}

size_t token_make(const uint8_t secret[32], const struct sockaddr_in6 *from, const stoq_cid *odcid,
                  const stoq_cid *retry_scid, uint64_t now_us, uint8_t out[STOQ_TOKEN_MAX])
{
    hm_buf b = hm_buf_fixed(out, STOQ_TOKEN_MAX);
    hm_wr_u64(&b, now_us);
    hm_wr_u8(&b, odcid->len);
    hm_wr_raw(&b, odcid->id, odcid->len);
    hm_wr_raw(&b, retry_scid->id, STOQ_LOCAL_CID);
    uint8_t tag[MAC_BYTES];
    mac(secret, from, out, b.len, tag);
    hm_wr_raw(&b, tag, sizeof tag);
    hm_assert(hm_buf_status(&b) == HM_OK);
    return b.len;
}

bool token_check(const uint8_t secret[32], const struct sockaddr_in6 *from, hm_bytes token,
                 const stoq_cid *dcid, uint64_t now_us, stoq_cid *odcid)
{
    if (token.len <= MAC_BYTES || token.len > STOQ_TOKEN_MAX)
        return false;
    size_t body = token.len - MAC_BYTES;
    uint8_t tag[MAC_BYTES];
    mac(secret, from, token.ptr, body, tag);
    if (!hm_equal_ct(tag, token.ptr + body, MAC_BYTES))
        return false;
    hm_rd r = hm_rd_of(hm_bytes_of(token.ptr, body));
    uint64_t made = hm_rd_u64(&r);
    uint8_t len = hm_rd_u8(&r);
    if (len > STOQ_MAX_CID)
        return false;
    hm_bytes id = hm_rd_raw(&r, len), scid = hm_rd_raw(&r, STOQ_LOCAL_CID);
    if (hm_rd_end(&r) != HM_OK || made > now_us || now_us - made > STOQ_TOKEN_LIFE_US ||
        dcid->len != STOQ_LOCAL_CID || memcmp(scid.ptr, dcid->id, STOQ_LOCAL_CID) != 0)
        return false;
    *odcid = stoq_cid_of(id.ptr, id.len);
    return true;
}
