// Known answers of FALCON-1024: the round-3 submission's generator (NIST's AES-256-CTR DRBG) drives
// PQClean's code, and the SHA-256 of the first record of the answer file is compared with the one
// that PQClean publishes (crypto_sign/falcon-1024/META.yml, nistkat-sha256, at c0af8c1e). The test
// is built over both kinds of arithmetic (src/crypto/falcon), which must agree bit for bit.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "api.h"
#include "base/bytes.h"
#include "crypto/falcon.h"
#include "randombytes.h"

static const char expected[] = "e699d88eb214fef30597385f40814baeb84ac505d5f05f5c257b0726fc4530b8";

// CTR_DRBG with AES-256 and no derivation function (NIST SP 800-90A, 10.2.1), as the submissions'
// rng.c uses it.
static struct {
    uint8_t key[32];
    uint8_t v[16];
} drbg;

static void drbg_block(uint8_t out[16])
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    for (int i = 15; i >= 0 && ++drbg.v[i] == 0; i--)
        ;
    assert_non_null(ctx);
    assert_int_equal(EVP_EncryptInit_ex2(ctx, EVP_aes_256_ecb(), drbg.key, NULL, NULL), 1);
    assert_int_equal(EVP_EncryptUpdate(ctx, out, &n, drbg.v, 16), 1);
    assert_int_equal(n, 16);
    EVP_CIPHER_CTX_free(ctx);
}

static void drbg_update(const uint8_t *data)
{
    uint8_t temp[48];
    for (int i = 0; i < 3; i++)
        drbg_block(temp + 16 * i);
    for (int i = 0; data && i < 48; i++)
        temp[i] ^= data[i];
    memcpy(drbg.key, temp, 32);
    memcpy(drbg.v, temp + 32, 16);
}

static void drbg_init(const uint8_t entropy[48])
{
    memset(&drbg, 0, sizeof drbg);
    drbg_update(entropy);
}

int randombytes(uint8_t *output, size_t n)
{
    uint8_t block[16];
    while (n > 0) {
        size_t take = n < 16 ? n : 16;
        drbg_block(block);
        memcpy(output, block, take);
        output += take;
        n -= take;
    }
    drbg_update(NULL);
    return 0;
}

static void digest_hex(hm_bytes text, char hex[65])
{
    uint8_t digest[32];
    assert_int_equal(EVP_Digest(text.ptr, text.len, digest, NULL, EVP_sha256(), NULL), 1);
    hm_hex(hex, digest, sizeof digest);
}

static void line(hm_buf *b, const char *name, const uint8_t *ptr, size_t len)
{
    hm_buf_printf(b, "%s = ", name);
    for (size_t i = 0; i < len; i++)
        hm_buf_printf(b, "%02X", ptr[i]);
    hm_buf_puts(b, "\n");
}

static void test_first_record(void **state)
{
    uint8_t entropy[48], seed[48], msg[33];
    static uint8_t pk[PQCLEAN_FALCON1024_CLEAN_CRYPTO_PUBLICKEYBYTES];
    static uint8_t sk[PQCLEAN_FALCON1024_CLEAN_CRYPTO_SECRETKEYBYTES];
    static uint8_t sm[sizeof msg + PQCLEAN_FALCON1024_CLEAN_CRYPTO_BYTES];
    size_t sm_len = 0;
    hm_buf text = {0};
    char hex[65];
    (void)state;

    for (int i = 0; i < 48; i++)
        entropy[i] = (uint8_t)i;
    drbg_init(entropy);
    randombytes(seed, sizeof seed);
    hm_buf_puts(&text, "count = 0\n");
    line(&text, "seed", seed, sizeof seed);
    hm_buf_puts(&text, "mlen = 33\n");
    randombytes(msg, sizeof msg);
    line(&text, "msg", msg, sizeof msg);
    drbg_init(seed);
    assert_int_equal(PQCLEAN_FALCON1024_CLEAN_crypto_sign_keypair(pk, sk), 0);
    line(&text, "pk", pk, sizeof pk);
    line(&text, "sk", sk, sizeof sk);
    assert_int_equal(PQCLEAN_FALCON1024_CLEAN_crypto_sign(sm, &sm_len, msg, sizeof msg, sk), 0);
    hm_buf_printf(&text, "smlen = %zu\n", sm_len);
    line(&text, "sm", sm, sm_len);
    assert_int_equal(hm_buf_status(&text), HM_OK);
    digest_hex(hm_buf_bytes(&text), hex);
    assert_string_equal(hex, expected);
    hm_buf_free(&text);
}

// The digest of what the integer arithmetic makes of this seed.
static void test_many(void **state)
{
    static uint8_t pk[PQCLEAN_FALCON1024_CLEAN_CRYPTO_PUBLICKEYBYTES];
    static uint8_t sk[PQCLEAN_FALCON1024_CLEAN_CRYPTO_SECRETKEYBYTES];
    static uint8_t sig[PQCLEAN_FALCON1024_CLEAN_CRYPTO_BYTES];
    uint8_t entropy[48] = {1}, msg[100];
    size_t sig_len = 0;
    hm_buf all = {0};
    char hex[65];
    (void)state;

    drbg_init(entropy);
    for (int key = 0; key < 12; key++) {
        assert_int_equal(PQCLEAN_FALCON1024_CLEAN_crypto_sign_keypair(pk, sk), 0);
        hm_buf_put(&all, hm_bytes_of(pk, sizeof pk));
        hm_buf_put(&all, hm_bytes_of(sk, sizeof sk));
        for (int i = 0; i < 20; i++) {
            randombytes(msg, sizeof msg);
            assert_int_equal(
                PQCLEAN_FALCON1024_CLEAN_crypto_sign_signature(sig, &sig_len, msg, sizeof msg, sk),
                0);
            assert_int_equal(
                PQCLEAN_FALCON1024_CLEAN_crypto_sign_verify(sig, sig_len, msg, sizeof msg, pk), 0);
            hm_buf_put(&all, hm_bytes_of(sig, sig_len));
        }
    }
    assert_int_equal(hm_buf_status(&all), HM_OK);
    digest_hex(hm_buf_bytes(&all), hex);
    assert_string_equal(hex, "39b8d9bf5a4195ef38cefef2f2e1adf3fee4228a3e496bdde8b6ab859e60c855");
    hm_buf_free(&all);
}

// A key made ready once signs what PQClean signs with the same random bytes, which derives the
// basis and the tree anew for each.
static void test_signer(void **state)
{
    static uint8_t pub[HM_FALCON_PUBLIC_BYTES], priv[HM_FALCON_PRIVATE_BYTES];
    static uint8_t want[HM_FALCON_SIGNATURE_MAX], have[HM_FALCON_SIGNATURE_MAX];
    uint8_t entropy[48] = {2}, msg[300];
    size_t want_len = 0, have_len = 0;
    falcon_signer *s = NULL;
    (void)state;

    for (int key = 0; key < 4; key++) {
        entropy[1] = (uint8_t)key;
        drbg_init(entropy);
        assert_int_equal(falcon_keypair(pub, priv), HM_OK);
        assert_int_equal(falcon_signer_new(priv, &s), HM_OK);
        for (int i = 0; i < 40; i++) {
            entropy[2] = (uint8_t)i;
            drbg_init(entropy);
            randombytes(msg, sizeof msg);
            assert_int_equal(PQCLEAN_FALCON1024_CLEAN_crypto_sign_signature(want, &want_len, msg,
                                                                            (size_t)i * 7, priv),
                             0);
            drbg_init(entropy);
            randombytes(msg, sizeof msg);
            assert_int_equal(falcon_sign(s, hm_bytes_of(msg, (size_t)i * 7), have, &have_len),
                             HM_OK);
            assert_int_equal(have_len, want_len);
            assert_memory_equal(have, want, want_len);
            assert_int_equal(
                falcon_verify(pub, hm_bytes_of(msg, (size_t)i * 7), hm_bytes_of(have, have_len)),
                HM_OK);
        }
        falcon_signer_free(s);
    }
    // What is no private key: another header, and a coefficient that no encoder writes.
    for (int at = 0; at < 2; at++) {
        uint8_t before = priv[at];
        priv[at] = at == 0 ? 0x59 : 0x80;
        assert_int_equal(falcon_signer_new(priv, &s), HM_E_KEY);
        priv[at] = before;
    }
    assert_int_equal(falcon_signer_new(priv, &s), HM_OK);
    falcon_signer_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_record),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_signer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
