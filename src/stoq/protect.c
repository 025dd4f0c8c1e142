#include "stoq/protect.h"

#include <openssl/hmac.h>
#include <stdlib.h>

static const EVP_MD *cipher_md(hm_aead_cipher c)
{
    return c == HM_AES_256_GCM ? EVP_sha384() : EVP_sha256();
}

hm_err stoq_cipher_of_suite(unsigned suite, hm_aead_cipher *out)
{
    switch (suite & 0xffff) {
    case 0x1301:
        *out = HM_AES_128_GCM;
        return HM_OK;
    case 0x1302:
        *out = HM_AES_256_GCM;
        return HM_OK;
    case 0x1303:
        *out = HM_CHACHA20_POLY1305;
        return HM_OK;
    default:
        return hm_fail(HM_E_UNSUPPORTED, "TLS cipher suite 0x%04x", suite);
    }
}

uint64_t stoq_cipher_seal_limit(hm_aead_cipher c)
{
    return c == HM_CHACHA20_POLY1305 ? UINT64_C(1) << 62 : UINT64_C(1) << 23;
}

uint64_t stoq_cipher_open_limit(hm_aead_cipher c)
{
    return c == HM_CHACHA20_POLY1305 ? UINT64_C(1) << 36 : UINT64_C(1) << 52;
}

// HKDF-Expand (RFC 5869) for one output block, which is all that QUIC needs.
hm_err stoq_expand_label(const EVP_MD *md, const uint8_t *secret, size_t secret_len,
                         const char *label, uint8_t *out, size_t out_len)
{
    uint8_t info[2 + 1 + 6 + 32 + 1 + 1], block[EVP_MAX_MD_SIZE];
    size_t label_len = strlen(label), n = 0;
    hm_assert(label_len <= 32 && out_len <= (size_t)EVP_MD_get_size(md));
    info[n++] = (uint8_t)(out_len >> 8);
    info[n++] = (uint8_t)out_len;
    info[n++] = (uint8_t)(6 + label_len);
    memcpy(info + n, "tls13 ", 6);
    n += 6;
    memcpy(info + n, label, label_len);
    n += label_len;
    info[n++] = 0; // no context
    info[n++] = 1; // the block's number
    if (HMAC(md, secret, (int)secret_len, info, n, block, NULL) == NULL)
        return hm_fail(HM_E_CRYPTO, "HMAC failed");
    memcpy(out, block, out_len);
    hm_zero(block, sizeof block);
    return HM_OK;
}

void stoq_aead_free(stoq_aead *a)
{
    if (a->key != NULL)
        hm_aead_clear(a->key);
    free(a->key);
    *a = (stoq_aead){0};
}

static hm_err aead_init(stoq_aead *a, const stoq_version *v, hm_aead_cipher cipher,
                        const uint8_t *secret, size_t secret_len)
{
    uint8_t key[32], iv[HM_AEAD_IV];
    const EVP_MD *md = cipher_md(cipher);
    stoq_aead t = {.key = calloc(1, sizeof(hm_aead))};
    hm_err err = HM_E_NOMEM;
    if (t.key == NULL)
        goto out;
    HM_TRY_OUT(stoq_expand_label(md, secret, secret_len, v->key, key, hm_aead_key_len(cipher)));
    HM_TRY_OUT(stoq_expand_label(md, secret, secret_len, v->iv, iv, sizeof iv));
    HM_TRY_OUT(hm_aead_init(t.key, cipher, HM_AEAD_BEST, key, iv));
    *a = t;
    t.key = NULL;
out:
    hm_zero(key, sizeof key);
    stoq_aead_free(&t);
    return err;
}

static hm_err hp_init(hm_hp *hp, const stoq_version *v, hm_aead_cipher cipher,
                      const uint8_t *secret, size_t secret_len)
{
    uint8_t key[32];
    hm_err err;
    HM_TRY_OUT(stoq_expand_label(cipher_md(cipher), secret, secret_len, v->hp, key,
                                 hm_aead_key_len(cipher)));
    HM_TRY_OUT(hm_hp_init(hp, cipher, HM_AEAD_BEST, key));
out:
    hm_zero(key, sizeof key);
    return err;
}

hm_err stoq_keys_init(stoq_keys *k, const stoq_version *version, hm_aead_cipher cipher,
                      const uint8_t *secret, size_t secret_len)
{
    stoq_keys t = {.cipher = cipher, .version = version, .secret_len = secret_len};
    if (secret_len != (size_t)EVP_MD_get_size(cipher_md(cipher)))
        return hm_fail(HM_E_CRYPTO, "traffic secret of %zu bytes", secret_len);
    memcpy(t.secret, secret, secret_len);
    hm_err err;
    HM_TRY_OUT(aead_init(&t.aead, version, cipher, secret, secret_len));
    HM_TRY_OUT(hp_init(&t.hp, version, cipher, secret, secret_len));
    stoq_keys_free(k);
    *k = t;
    hm_zero(t.secret, sizeof t.secret);
    return HM_OK;
out:
    stoq_keys_free(&t);
    return err;
}

hm_err stoq_keys_init_initial(stoq_keys *client, stoq_keys *server, const stoq_version *version,
                              const stoq_cid *dcid)
{
    uint8_t initial[32], secret[32];
    if (HMAC(EVP_sha256(), version->salt, sizeof version->salt, dcid->id, dcid->len, initial,
             NULL) == NULL)
        return hm_fail(HM_E_CRYPTO, "HMAC failed");
    HM_TRY(stoq_expand_label(EVP_sha256(), initial, 32, "client in", secret, 32));
    HM_TRY(stoq_keys_init(client, version, HM_AES_128_GCM, secret, 32));
    HM_TRY(stoq_expand_label(EVP_sha256(), initial, 32, "server in", secret, 32));
    return stoq_keys_init(server, version, HM_AES_128_GCM, secret, 32);
}

void stoq_keys_free(stoq_keys *k)
{
    stoq_aead_free(&k->aead);
    hm_hp_clear(&k->hp);
    hm_zero(k, sizeof *k);
}

static hm_err next_secret(const stoq_keys *k, uint8_t out[STOQ_MAX_SECRET])
{
    return stoq_expand_label(cipher_md(k->cipher), k->secret, k->secret_len, k->version->ku, out,
                             k->secret_len);
}

hm_err stoq_keys_next(const stoq_keys *k, stoq_aead *out)
{
    uint8_t secret[STOQ_MAX_SECRET];
    hm_err err;
    HM_TRY_OUT(next_secret(k, secret));
    HM_TRY_OUT(aead_init(out, k->version, k->cipher, secret, k->secret_len));
out:
    hm_zero(secret, sizeof secret);
    return err;
}

hm_err stoq_keys_update(stoq_keys *k, stoq_aead *old)
{
    stoq_aead next = {0};
    HM_TRY(stoq_keys_next(k, &next));
    uint8_t secret[STOQ_MAX_SECRET];
    hm_err err = next_secret(k, secret);
    if (err != HM_OK) {
        stoq_aead_free(&next);
        return err;
    }
    memcpy(k->secret, secret, k->secret_len);
    hm_zero(secret, sizeof secret);
    if (old != NULL)
        *old = k->aead;
    else
        stoq_aead_free(&k->aead);
    k->aead = next;
    return HM_OK;
}

static void mask_first_byte(uint8_t *first, uint8_t mask)
{
    *first ^= mask & (*first & 0x80 ? 0x0f : 0x1f);
}

static hm_err seal(hm_aead *key, const stoq_seal *batch, size_t count)
{
    hm_aead_seal seals[STOQ_BATCH_MAX];
    hm_bytes pieces[STOQ_BATCH_MAX][2];
    hm_assert(count > 0 && count <= STOQ_BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        const stoq_seal *s = &batch[i];
        pieces[i][0] = hm_bytes_of(NULL, s->payload_len - s->tail.len);
        pieces[i][1] = s->tail;
        seals[i] = (hm_aead_seal){.aad = hm_bytes_of(s->packet, s->header_len),
                                  .text = s->packet + s->header_len,
                                  .len = s->payload_len,
                                  .pn = s->pn,
                                  .pieces = pieces[i],
                                  .piece_count = s->tail.len > 0 ? 2 : 0};
    }
    return hm_aead_seal_batch(key, seals, count);
}

hm_err stoq_seal_batch(stoq_keys *k, const stoq_seal *batch, size_t count)
{
    const uint8_t *samples[STOQ_BATCH_MAX];
    uint8_t masks[STOQ_BATCH_MAX][HM_AEAD_SAMPLE];
    hm_assert(count > 0 && count <= STOQ_BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        const stoq_seal *s = &batch[i];
        hm_assert(s->pn_len + s->payload_len >= 4);
        samples[i] = s->packet + s->header_len - s->pn_len + 4;
    }
    HM_TRY(seal(k->aead.key, batch, count));
    k->aead.packets += count;
    HM_TRY(hm_hp_masks(&k->hp, samples, masks, count));
    for (size_t i = 0; i < count; i++) {
        const stoq_seal *s = &batch[i];
        uint8_t *pn = s->packet + s->header_len - s->pn_len;
        mask_first_byte(s->packet, masks[i][0]);
        for (size_t j = 0; j < s->pn_len; j++)
            pn[j] ^= masks[i][1 + j];
    }
    return HM_OK;
}

hm_err stoq_unmask_headers(hm_hp *hp, uint8_t *packets, size_t stride, size_t count,
                           size_t pn_offset, uint32_t *truncated, uint8_t *pn_len)
{
    const uint8_t *samples[STOQ_BATCH_MAX] = {NULL};
    uint8_t masks[STOQ_BATCH_MAX][HM_AEAD_SAMPLE];
    hm_assert(count > 0 && count <= STOQ_BATCH_MAX);
    for (size_t i = 0; i < count; i++)
        samples[i] = packets + i * stride + pn_offset + 4;
    HM_TRY(hm_hp_masks(hp, samples, masks, count));
    for (size_t i = 0; i < count; i++) {
        uint8_t *first = packets + i * stride, *pn = first + pn_offset;
        mask_first_byte(first, masks[i][0]);
        pn_len[i] = (uint8_t)((*first & 3) + 1);
        truncated[i] = 0;
        for (unsigned j = 0; j < pn_len[i]; j++) {
            pn[j] ^= masks[i][1 + j];
            truncated[i] = truncated[i] << 8 | pn[j];
        }
    }
    return HM_OK;
}

hm_err stoq_unmask_header(hm_hp *hp, uint8_t *packet, size_t pn_offset, uint32_t *truncated,
                          size_t *pn_len)
{
    uint8_t n = 0;
    HM_TRY(stoq_unmask_headers(hp, packet, 0, 1, pn_offset, truncated, &n));
    *pn_len = n;
    return HM_OK;
}

void stoq_open_batch(stoq_aead *a, stoq_open *batch, size_t count)
{
    hm_aead_open opens[STOQ_BATCH_MAX];
    hm_assert(count > 0 && count <= STOQ_BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        const stoq_open *o = &batch[i];
        hm_assert(o->payload_len >= STOQ_AEAD_TAG); // the parser saw to it
        opens[i] = (hm_aead_open){.aad = hm_bytes_of(o->packet, o->header_len),
                                  .text = o->packet + o->header_len,
                                  .len = o->payload_len - STOQ_AEAD_TAG,
                                  .pn = o->pn};
    }
    hm_aead_open_batch(a->key, opens, count);
    for (size_t i = 0; i < count; i++) {
        batch[i].ok = opens[i].ok;
        a->packets += !opens[i].ok;
    }
}

hm_err stoq_retry_tag(const stoq_version *version, const stoq_cid *original_dcid, hm_bytes retry,
                      uint8_t out[STOQ_RETRY_TAG])
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;
    hm_err err = HM_E_CRYPTO;
    if (ctx != NULL &&
        EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, version->retry_key,
                           version->retry_nonce) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, &original_dcid->len, 1) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, original_dcid->id, original_dcid->len) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, retry.ptr, (int)retry.len) == 1 &&
        EVP_EncryptFinal_ex(ctx, out, &n) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, STOQ_RETRY_TAG, out) == 1)
        err = HM_OK;
    EVP_CIPHER_CTX_free(ctx);
    return err;
}
