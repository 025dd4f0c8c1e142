#include "crypto/falcon.h"

#include <sys/mman.h>

#include "api.h"
#include "inner.h"
#include "randombytes.h"

_Static_assert(HM_FALCON_PUBLIC_BYTES == PQCLEAN_FALCON1024_CLEAN_CRYPTO_PUBLICKEYBYTES, "");
_Static_assert(HM_FALCON_PRIVATE_BYTES == PQCLEAN_FALCON1024_CLEAN_CRYPTO_SECRETKEYBYTES, "");
_Static_assert(HM_FALCON_SIGNATURE_MAX == PQCLEAN_FALCON1024_CLEAN_CRYPTO_BYTES, "");

#define LOGN 10u
#define N (1u << LOGN)
#define Q 12289u
#define RATE 136u // bytes that SHAKE256 gives at a time

struct falcon_signer {
    fpr expanded[((8 * LOGN + 40) << LOGN) / sizeof(fpr)]; // its size: inner.h
};

void *falcon_pages(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    // Both refuse only for want of a right or of room: the key is then as good as in other memory.
    (void)!mlock(p, n);
    (void)!madvise(p, n, MADV_DONTDUMP);
    return p;
}

void falcon_pages_free(void *p, size_t n)
{
    if (!p)
        return;
    hm_zero(p, n);
    munmap(p, n);
}

hm_err falcon_keypair(uint8_t pub[HM_FALCON_PUBLIC_BYTES], uint8_t priv[HM_FALCON_PRIVATE_BYTES])
{
    if (PQCLEAN_FALCON1024_CLEAN_crypto_sign_keypair(pub, priv) != 0)
        return hm_fail(HM_E_CRYPTO, "FALCON-1024 key generation failed");
    return HM_OK;
}

// One of the small polynomials of a private key, of `bits` each; true while they are all there.
static bool small_read(int8_t out[N], uint8_t bits, hm_bytes *rest)
{
    size_t n = PQCLEAN_FALCON1024_CLEAN_trim_i8_decode(out, LOGN, bits, rest->ptr, rest->len);
    *rest = hm_bytes_of(rest->ptr + n, rest->len - n);
    return n > 0;
}

hm_err falcon_signer_new(const uint8_t priv[HM_FALCON_PRIVATE_BYTES], falcon_signer **out)
{
    struct {
        fpr tmp[6 * N];
        int8_t f[N], g[N], F[N], G[N];
    } *w = falcon_pages(sizeof *w);
    falcon_signer *s = falcon_pages(sizeof *s);
    hm_bytes rest = hm_bytes_of(priv + 1, HM_FALCON_PRIVATE_BYTES - 1);
    uint8_t small = PQCLEAN_FALCON1024_CLEAN_max_fg_bits[LOGN];
    hm_err err = HM_E_NOMEM;

    if (!w || !s)
        goto out;
    if (priv[0] != 0x50 + LOGN || !small_read(w->f, small, &rest) ||
        !small_read(w->g, small, &rest) ||
        !small_read(w->F, PQCLEAN_FALCON1024_CLEAN_max_FG_bits[LOGN], &rest) || rest.len > 0 ||
        !PQCLEAN_FALCON1024_CLEAN_complete_private(w->G, w->f, w->g, w->F, LOGN,
                                                   (uint8_t *)w->tmp)) {
        err = hm_fail(HM_E_KEY, "the FALCON-1024 private key is malformed");
        goto out;
    }
    PQCLEAN_FALCON1024_CLEAN_expand_privkey(s->expanded, w->f, w->g, w->F, w->G, LOGN,
                                            (uint8_t *)w->tmp);
    *out = s;
    s = NULL;
    err = HM_OK;
out:
    falcon_pages_free(w, sizeof *w);
    falcon_signer_free(s);
    return err;
}

void falcon_signer_free(falcon_signer *s)
{
    falcon_pages_free(s, sizeof *s);
}

// A message and the signature's nonce as a polynomial (round-3 specification, algorithm 3).
static void hash_to_point(const uint8_t nonce[FALCON_NONCE_BYTES], hm_bytes msg, uint16_t out[N])
{
    inner_shake256_context shake;
    uint8_t block[RATE];

    inner_shake256_init(&shake);
    inner_shake256_inject(&shake, nonce, FALCON_NONCE_BYTES);
    inner_shake256_inject(&shake, msg.ptr, msg.len);
    inner_shake256_flip(&shake);
    for (size_t n = 0, at = RATE; n < N; at += 2) {
        if (at == RATE) {
            inner_shake256_extract(&shake, block, RATE);
            at = 0;
        }
        unsigned drawn = (unsigned)block[at] << 8 | block[at + 1];
        if (drawn < 5 * Q)
            out[n++] = (uint16_t)(drawn % Q);
    }
    inner_shake256_ctx_release(&shake);
}

hm_err falcon_sign(const falcon_signer *s, hm_bytes msg, uint8_t *sig, size_t *sig_len)
{
    struct {
        fpr tmp[6 * N];
        uint16_t hashed[N];
        int16_t s2[N];
        uint8_t seed[48];
    } w;
    inner_shake256_context shake;
    size_t n = 0;

    // A signature whose compressed form is too long is drawn again; the specification's bound makes
    // even one such draw unlikely (below 2^-20).
    for (int i = 0; i < 8 && n == 0; i++) {
        randombytes(sig + 1, FALCON_NONCE_BYTES);
        hash_to_point(sig + 1, msg, w.hashed);

        randombytes(w.seed, sizeof w.seed);
        inner_shake256_init(&shake);
        inner_shake256_inject(&shake, w.seed, sizeof w.seed);
        inner_shake256_flip(&shake);
        PQCLEAN_FALCON1024_CLEAN_sign_tree(w.s2, &shake, s->expanded, w.hashed, LOGN,
                                           (uint8_t *)w.tmp);
        inner_shake256_ctx_release(&shake);
        n = PQCLEAN_FALCON1024_CLEAN_comp_encode(sig + 1 + FALCON_NONCE_BYTES,
                                                 HM_FALCON_SIGNATURE_MAX - 1 - FALCON_NONCE_BYTES,
                                                 w.s2, LOGN);
    }
    hm_zero(&w, sizeof w);
    if (n == 0)
        return hm_fail(HM_E_KEY, "the private key does not sign");
    sig[0] = 0x30 + LOGN;
    *sig_len = 1 + FALCON_NONCE_BYTES + n;
    return HM_OK;
}

static hm_err public_read(hm_bytes pub, uint16_t h[N])
{
    if (pub.len != HM_FALCON_PUBLIC_BYTES)
        return hm_fail(HM_E_KEY, "a FALCON-1024 public key has %d bytes, this has %zu",
                       HM_FALCON_PUBLIC_BYTES, pub.len);
    if (pub.ptr[0] != LOGN)
        return hm_fail(HM_E_KEY, "not a FALCON-1024 public key: it begins with 0x%02x", pub.ptr[0]);
    if (PQCLEAN_FALCON1024_CLEAN_modq_decode(h, LOGN, pub.ptr + 1, pub.len - 1) != pub.len - 1)
        return hm_fail(HM_E_KEY, "the FALCON-1024 public key has a coefficient out of range");
    return HM_OK;
}

hm_err falcon_verify(const uint8_t pub[HM_FALCON_PUBLIC_BYTES], hm_bytes msg, hm_bytes sig)
{
    union {
        uint8_t b[2 * N];
        uint64_t align;
    } tmp;
    uint16_t h[N], hashed[N];
    int16_t s2[N];
    if (sig.len <= 1 + FALCON_NONCE_BYTES || sig.len > HM_FALCON_SIGNATURE_MAX)
        return hm_fail(HM_E_SIGNATURE, "a FALCON-1024 signature has 42 to %d bytes, this has %zu",
                       HM_FALCON_SIGNATURE_MAX, sig.len);
    const uint8_t *packed = sig.ptr + 1 + FALCON_NONCE_BYTES;
    size_t packed_len = sig.len - 1 - FALCON_NONCE_BYTES;
    // Each coefficient ends with a 1 bit, so the last byte of a signature that is not padded is
    // never 0, and what is decoded is all of it: one signature, one encoding.
    if (sig.ptr[sig.len - 1] == 0)
        return hm_fail(HM_E_SIGNATURE, "the signature is padded");
    if (public_read(hm_bytes_of(pub, HM_FALCON_PUBLIC_BYTES), h) != HM_OK)
        return HM_E_SIGNATURE;
    if (sig.ptr[0] != 0x30 + LOGN ||
        PQCLEAN_FALCON1024_CLEAN_comp_decode(s2, LOGN, packed, packed_len) != packed_len)
        return hm_fail(HM_E_SIGNATURE, "this is no encoding of a FALCON-1024 signature");
    PQCLEAN_FALCON1024_CLEAN_to_ntt_monty(h, LOGN);
    hash_to_point(sig.ptr + 1, msg, hashed);
    if (!PQCLEAN_FALCON1024_CLEAN_verify_raw(hashed, s2, h, LOGN, tmp.b))
        return hm_fail(HM_E_SIGNATURE, "the signature is not this key's over these bytes");
    return HM_OK;
}

hm_err falcon_public_check(hm_bytes pub)
{
    uint16_t h[N];
    return public_read(pub, h);
}

hm_err falcon_public_of_private(const uint8_t priv[HM_FALCON_PRIVATE_BYTES],
                                uint8_t pub[HM_FALCON_PUBLIC_BYTES])
{
    union {
        uint8_t b[4 * N];
        uint64_t align;
    } tmp;
    int8_t f[N], g[N];
    uint16_t h[N];
    hm_bytes rest = hm_bytes_of(priv + 1, HM_FALCON_PRIVATE_BYTES - 1);
    uint8_t small = PQCLEAN_FALCON1024_CLEAN_max_fg_bits[LOGN];
    hm_err err = HM_E_KEY;

    if (priv[0] != 0x50 + LOGN || !small_read(f, small, &rest) || !small_read(g, small, &rest) ||
        !PQCLEAN_FALCON1024_CLEAN_compute_public(h, f, g, LOGN, tmp.b))
        goto out;
    pub[0] = LOGN;
    if (PQCLEAN_FALCON1024_CLEAN_modq_encode(pub + 1, HM_FALCON_PUBLIC_BYTES - 1, h, LOGN) ==
        HM_FALCON_PUBLIC_BYTES - 1)
        err = HM_OK;
out:
    hm_zero(f, sizeof f);
    hm_zero(g, sizeof g);
    hm_zero(tmp.b, sizeof tmp.b);
    return err == HM_OK ? HM_OK : hm_fail(err, "the FALCON-1024 private key is malformed");
}
