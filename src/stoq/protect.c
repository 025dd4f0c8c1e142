#include "stoq/protect.h"

#include <openssl/hmac.h>

static const EVP_MD *cipher_md(stoq_cipher c)
{
    return c == STOQ_AES_256_GCM ? EVP_sha384() : EVP_sha256();
}

static size_t cipher_key_len(stoq_cipher c)
{
    return c == STOQ_AES_128_GCM ? 16 : 32;
}

static const EVP_CIPHER *cipher_aead(stoq_cipher c)
{
    return c == STOQ_AES_128_GCM   ? EVP_aes_128_gcm()
           : c == STOQ_AES_256_GCM ? EVP_aes_256_gcm()
                                   : EVP_chacha20_poly1305();
}

static const EVP_CIPHER *cipher_hp(stoq_cipher c)
{
    return c == STOQ_AES_128_GCM   ? EVP_aes_128_ecb()
           : c == STOQ_AES_256_GCM ? EVP_aes_256_ecb()
                                   : EVP_chacha20();
}

hm_err stoq_cipher_of_suite(unsigned suite, stoq_cipher *out)
{
    switch (suite & 0xffff) {
    case 0x1301:
        *out = STOQ_AES_128_GCM;
        return HM_OK;
    case 0x1302:
        *out = STOQ_AES_256_GCM;
        return HM_OK;
    case 0x1303:
        *out = STOQ_CHACHA20_POLY1305;
        return HM_OK;
    default:
        return hm_fail(HM_E_UNSUPPORTED, "TLS cipher suite 0x%04x", suite);
    }
}

uint64_t stoq_cipher_seal_limit(stoq_cipher c)
{
    return c == STOQ_CHACHA20_POLY1305 ? UINT64_C(1) << 62 : UINT64_C(1) << 23;
}

uint64_t stoq_cipher_open_limit(stoq_cipher c)
{
    return c == STOQ_CHACHA20_POLY1305 ? UINT64_C(1) << 36 : UINT64_C(1) << 52;
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
    EVP_CIPHER_CTX_free(a->ctx);
    *a = (stoq_aead){0};
}

static hm_err aead_init(stoq_aead *a, stoq_cipher cipher, const uint8_t *secret, size_t secret_len,
                        bool seal)
{
    uint8_t key[32];
    const EVP_MD *md = cipher_md(cipher);
    stoq_aead t = {.ctx = EVP_CIPHER_CTX_new()};
    hm_err err = HM_E_NOMEM;
    if (t.ctx == NULL)
        goto out;
    HM_TRY_OUT(stoq_expand_label(md, secret, secret_len, "quic key", key, cipher_key_len(cipher)));
    HM_TRY_OUT(stoq_expand_label(md, secret, secret_len, "quic iv", t.iv, sizeof t.iv));
    if (EVP_CipherInit_ex(t.ctx, cipher_aead(cipher), NULL, key, t.iv, seal) != 1) {
        err = hm_fail(HM_E_CRYPTO, "AEAD key setup failed");
        goto out;
    }
    *a = t;
    t.ctx = NULL;
out:
    hm_zero(key, sizeof key);
    EVP_CIPHER_CTX_free(t.ctx);
    return err;
}

static hm_err hp_init(stoq_hp *hp, stoq_cipher cipher, const uint8_t *secret, size_t secret_len)
{
    uint8_t key[32];
    stoq_hp t = {.ctx = EVP_CIPHER_CTX_new(), .chacha = cipher == STOQ_CHACHA20_POLY1305};
    hm_err err = HM_E_NOMEM;
    if (t.ctx == NULL)
        goto out;
    HM_TRY_OUT(stoq_expand_label(cipher_md(cipher), secret, secret_len, "quic hp", key,
                                 cipher_key_len(cipher)));
    if (EVP_EncryptInit_ex(t.ctx, cipher_hp(cipher), NULL, key, NULL) != 1) {
        err = hm_fail(HM_E_CRYPTO, "header protection key setup failed");
        goto out;
    }
    EVP_CIPHER_CTX_set_padding(t.ctx, 0);
    *hp = t;
    t.ctx = NULL;
out:
    hm_zero(key, sizeof key);
    EVP_CIPHER_CTX_free(t.ctx);
    return err;
}

hm_err stoq_keys_init(stoq_keys *k, stoq_cipher cipher, const uint8_t *secret, size_t secret_len,
                      bool seal)
{
    stoq_keys t = {.cipher = cipher, .secret_len = secret_len};
    if (secret_len != (size_t)EVP_MD_get_size(cipher_md(cipher)))
        return hm_fail(HM_E_CRYPTO, "traffic secret of %zu bytes", secret_len);
    memcpy(t.secret, secret, secret_len);
    hm_err err;
    HM_TRY_OUT(aead_init(&t.aead, cipher, secret, secret_len, seal));
    HM_TRY_OUT(hp_init(&t.hp, cipher, secret, secret_len));
    stoq_keys_free(k);
    *k = t;
    hm_zero(t.secret, sizeof t.secret);
    return HM_OK;
out:
    stoq_keys_free(&t);
    return err;
}

hm_err stoq_keys_init_initial(stoq_keys *client, stoq_keys *server, const stoq_cid *dcid,
                              bool is_server)
{
    static const uint8_t salt[20] = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
                                     0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
    uint8_t initial[32], secret[32];
    if (HMAC(EVP_sha256(), salt, sizeof salt, dcid->id, dcid->len, initial, NULL) == NULL)
        return hm_fail(HM_E_CRYPTO, "HMAC failed");
    HM_TRY(stoq_expand_label(EVP_sha256(), initial, 32, "client in", secret, 32));
    HM_TRY(stoq_keys_init(client, STOQ_AES_128_GCM, secret, 32, !is_server));
    HM_TRY(stoq_expand_label(EVP_sha256(), initial, 32, "server in", secret, 32));
    return stoq_keys_init(server, STOQ_AES_128_GCM, secret, 32, is_server);
}

void stoq_keys_free(stoq_keys *k)
{
    stoq_aead_free(&k->aead);
    EVP_CIPHER_CTX_free(k->hp.ctx);
    hm_zero(k, sizeof *k);
}

static hm_err next_secret(const stoq_keys *k, uint8_t out[STOQ_MAX_SECRET])
{
    return stoq_expand_label(cipher_md(k->cipher), k->secret, k->secret_len, "quic ku", out,
                             k->secret_len);
}

hm_err stoq_keys_next(const stoq_keys *k, bool seal, stoq_aead *out)
{
    uint8_t secret[STOQ_MAX_SECRET];
    hm_err err;
    HM_TRY_OUT(next_secret(k, secret));
    HM_TRY_OUT(aead_init(out, k->cipher, secret, k->secret_len, seal));
out:
    hm_zero(secret, sizeof secret);
    return err;
}

hm_err stoq_keys_update(stoq_keys *k, bool seal, stoq_aead *old)
{
    stoq_aead next = {0};
    HM_TRY(stoq_keys_next(k, seal, &next));
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

static void make_nonce(const stoq_aead *a, uint64_t pn, uint8_t out[12])
{
    memcpy(out, a->iv, 12);
    for (int i = 11; i >= 4; i--, pn >>= 8)
        out[i] ^= (uint8_t)pn;
}

static bool seal_one(stoq_aead *a, const stoq_seal *s)
{
    uint8_t nonce[12];
    int n;
    uint8_t *payload = s->packet + s->header_len;
    size_t here = s->payload_len - s->tail.len;
    make_nonce(a, s->pn, nonce);
    return EVP_EncryptInit_ex(a->ctx, NULL, NULL, NULL, nonce) == 1 &&
           EVP_EncryptUpdate(a->ctx, NULL, &n, s->packet, (int)s->header_len) == 1 &&
           EVP_EncryptUpdate(a->ctx, payload, &n, payload, (int)here) == 1 &&
           (s->tail.len == 0 ||
            EVP_EncryptUpdate(a->ctx, payload + here, &n, s->tail.ptr, (int)s->tail.len) == 1) &&
           EVP_EncryptFinal_ex(a->ctx, payload + s->payload_len, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, STOQ_AEAD_TAG,
                               payload + s->payload_len) == 1;
}

#define SAMPLE 16

// The masks of samples, in place: AES blocks, or ChaCha20 with the sample as counter and nonce.
static hm_err hp_masks(stoq_hp *hp, uint8_t *samples, size_t count)
{
    static const uint8_t zeros[SAMPLE];
    bool ok = true;
    int n;
    if (!hp->chacha)
        ok = EVP_EncryptUpdate(hp->ctx, samples, &n, samples, (int)(count * SAMPLE)) == 1;
    for (size_t i = 0; hp->chacha && ok && i < count; i++) {
        uint8_t *s = samples + i * SAMPLE;
        ok = EVP_EncryptInit_ex(hp->ctx, NULL, NULL, NULL, s) == 1 &&
             EVP_EncryptUpdate(hp->ctx, s, &n, zeros, SAMPLE) == 1;
    }
    return ok ? HM_OK : hm_fail(HM_E_CRYPTO, "header protection failed");
}

static void mask_first_byte(uint8_t *first, uint8_t mask)
{
    *first ^= mask & (*first & 0x80 ? 0x0f : 0x1f);
}

hm_err stoq_seal_batch(stoq_keys *k, const stoq_seal *batch, size_t count)
{
    uint8_t masks[STOQ_BATCH_MAX * SAMPLE];
    hm_assert(count <= STOQ_BATCH_MAX);
    for (size_t i = 0; i < count; i++)
        if (!seal_one(&k->aead, &batch[i]))
            return hm_fail(HM_E_CRYPTO, "packet protection failed");
    k->aead.packets += count;
    for (size_t i = 0; i < count; i++) {
        const stoq_seal *s = &batch[i];
        hm_assert(s->pn_len + s->payload_len >= 4);
        memcpy(masks + i * SAMPLE, s->packet + s->header_len - s->pn_len + 4, SAMPLE);
    }
    HM_TRY(hp_masks(&k->hp, masks, count));
    for (size_t i = 0; i < count; i++) {
        const stoq_seal *s = &batch[i];
        const uint8_t *mask = masks + i * SAMPLE;
        uint8_t *pn = s->packet + s->header_len - s->pn_len;
        mask_first_byte(s->packet, mask[0]);
        for (size_t j = 0; j < s->pn_len; j++)
            pn[j] ^= mask[1 + j];
    }
    return HM_OK;
}

hm_err stoq_unmask_headers(stoq_hp *hp, uint8_t *packets, size_t stride, size_t count,
                           size_t pn_offset, uint32_t *truncated, uint8_t *pn_len)
{
    uint8_t masks[STOQ_BATCH_MAX * SAMPLE];
    hm_assert(count <= STOQ_BATCH_MAX);
    for (size_t i = 0; i < count; i++)
        memcpy(masks + i * SAMPLE, packets + i * stride + pn_offset + 4, SAMPLE);
    HM_TRY(hp_masks(hp, masks, count));
    for (size_t i = 0; i < count; i++) {
        uint8_t *first = packets + i * stride, *pn = first + pn_offset;
        mask_first_byte(first, masks[i * SAMPLE]);
        pn_len[i] = (uint8_t)((*first & 3) + 1);
        truncated[i] = 0;
        for (unsigned j = 0; j < pn_len[i]; j++) {
            pn[j] ^= masks[i * SAMPLE + 1 + j];
            truncated[i] = truncated[i] << 8 | pn[j];
        }
    }
    return HM_OK;
}

hm_err stoq_unmask_header(stoq_hp *hp, uint8_t *packet, size_t pn_offset, uint32_t *truncated,
                          size_t *pn_len)
{
    uint8_t n = 0;
    HM_TRY(stoq_unmask_headers(hp, packet, 0, 1, pn_offset, truncated, &n));
    *pn_len = n;
    return HM_OK;
}

static bool open_one(stoq_aead *a, stoq_open *o)
{
    uint8_t nonce[12];
    int n;
    uint8_t *payload = o->packet + o->header_len;
    uint32_t len = o->payload_len - STOQ_AEAD_TAG;
    make_nonce(a, o->pn, nonce);
    return EVP_DecryptInit_ex(a->ctx, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(a->ctx, NULL, &n, o->packet, (int)o->header_len) == 1 &&
           EVP_DecryptUpdate(a->ctx, payload, &n, payload, (int)len) == 1 &&
           EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, STOQ_AEAD_TAG, payload + len) == 1 &&
           EVP_DecryptFinal_ex(a->ctx, payload + len, &n) == 1;
}

void stoq_open_batch(stoq_aead *a, stoq_open *batch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        batch[i].ok = batch[i].payload_len >= STOQ_AEAD_TAG && open_one(a, &batch[i]);
        if (!batch[i].ok)
            a->packets++;
    }
}

hm_err stoq_retry_tag(const stoq_cid *original_dcid, hm_bytes retry, uint8_t out[STOQ_RETRY_TAG])
{
    static const uint8_t key[16] = {0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a,
                                    0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e};
    static const uint8_t nonce[12] = {0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63,
                                      0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb};
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n;
    hm_err err = HM_E_CRYPTO;
    if (ctx != NULL && EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, nonce) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, &original_dcid->len, 1) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, original_dcid->id, original_dcid->len) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, retry.ptr, (int)retry.len) == 1 &&
        EVP_EncryptFinal_ex(ctx, out, &n) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, STOQ_RETRY_TAG, out) == 1)
        err = HM_OK;
    EVP_CIPHER_CTX_free(ctx);
    return err;
}
