#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/x509.h>

#include "crypto/crypto.h"
#include "crypto/falcon/stream.h"

#define DOMAIN "hypermesh/test/1"

static hm_key *key; // one for all tests: making one takes half a second under sanitizers

static int setup(void **state)
{
    (void)state;
    return hm_crypto_init() == HM_OK && hm_key_generate(&key) == HM_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    hm_key_free(key);
    return 0;
}

static void sha256_is_sha256(void **state)
{
    (void)state;
    char hex[65];
    hm_hash h = hm_sha256(hm_bytes_str("abc")); // FIPS 180-4, example
    hm_hex(hex, h.b, 32);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hm_hash joined = hm_sha256_2(hm_bytes_str("a"), hm_bytes_str("bc"));
    assert_true(hm_hash_eq(&h, &joined));
    hm_sha256_ctx c;
    hm_sha256_init(&c);
    hm_sha256_update(&c, hm_bytes_str("ab"));
    hm_sha256_update(&c, hm_bytes_of(NULL, 0));
    hm_sha256_update(&c, hm_bytes_str("c"));
    hm_hash streamed = hm_sha256_final(&c);
    assert_true(hm_hash_eq(&h, &streamed));
}

// The definition of RFC 9162, 2.1.1, written as it stands there.
static hm_hash naive_root(const hm_hash *leaves, size_t n)
{
    if (n == 1)
        return leaves[0];
    size_t k = 1;
    while (k * 2 < n)
        k *= 2;
    hm_hash left = naive_root(leaves, k), right = naive_root(leaves + k, n - k);
    return hm_merkle_node(&left, &right);
}

static void merkle_trees_of_all_small_sizes(void **state)
{
    (void)state;
    hm_hash leaves[70], path[HM_MERKLE_PATH_MAX], empty = hm_sha256(hm_bytes_of(NULL, 0));
    for (size_t i = 0; i < 70; i++)
        leaves[i] = hm_merkle_leaf(hm_bytes_of(&i, sizeof i));
    hm_hash root0 = hm_merkle_root(NULL, 0);
    assert_true(hm_hash_eq(&root0, &empty));
    for (size_t n = 1; n <= 70; n++) {
        hm_hash root = hm_merkle_root(leaves, n), naive = naive_root(leaves, n);
        assert_true(hm_hash_eq(&root, &naive));
        for (size_t i = 0; i < n; i++) {
            size_t len;
            hm_merkle_path(leaves, n, i, path, &len);
            assert_true(hm_merkle_verify(&root, n, i, &leaves[i], path, len));
            assert_false(hm_merkle_verify(&root, n, i, &leaves[(i + 1) % 70], path, len));
            assert_false(hm_merkle_verify(&root, n, n, &leaves[i], path, len));
            if (len > 0) {
                assert_false(hm_merkle_verify(&root, n, i, &leaves[i], path, len - 1));
                path[0].b[5] ^= 1;
                assert_false(hm_merkle_verify(&root, n, i, &leaves[i], path, len));
            }
        }
    }
}

static void signatures_are_bound_to_key_domain_and_message(void **state)
{
    (void)state;
    hm_buf sig = {0}, again = {0};
    hm_bytes pub = hm_key_public(key), msg = hm_bytes_str("the message");
    assert_int_equal(hm_sign(key, DOMAIN, msg, &sig), HM_OK);
    assert_int_equal(hm_sign(key, DOMAIN, msg, &again), HM_OK);
    assert_false(hm_bytes_eq(hm_buf_bytes(&sig), hm_buf_bytes(&again))); // a fresh nonce each
    assert_int_equal(hm_verify(pub, DOMAIN, msg, hm_buf_bytes(&sig)), HM_OK);
    assert_int_equal(hm_verify(pub, DOMAIN, msg, hm_buf_bytes(&again)), HM_OK);
    assert_int_equal(hm_verify(pub, "hypermesh/test/2", msg, hm_buf_bytes(&sig)), HM_E_SIGNATURE);
    assert_int_equal(hm_verify(pub, DOMAIN, hm_bytes_str("the messagf"), hm_buf_bytes(&sig)),
                     HM_E_SIGNATURE);
    assert_int_equal(hm_verify(pub, DOMAIN, hm_bytes_of(NULL, 0), hm_buf_bytes(&sig)),
                     HM_E_SIGNATURE);

    for (size_t len = 0; len < sig.len; len += len < 50 ? 1 : 97)
        assert_int_equal(hm_verify(pub, DOMAIN, msg, hm_bytes_of(sig.ptr, len)), HM_E_SIGNATURE);
    for (size_t bit = 0; bit < 8 * sig.len; bit += 7) {
        sig.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(hm_verify(pub, DOMAIN, msg, hm_buf_bytes(&sig)), HM_E_SIGNATURE);
        sig.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    // One signature, one encoding: the padded form is refused, of any length.
    hm_buf padded = {0};
    hm_buf_put(&padded, hm_buf_bytes(&sig));
    while (padded.len < HM_FALCON_SIGNATURE_MAX) {
        hm_buf_append(&padded, "", 1);
        assert_int_equal(hm_verify(pub, DOMAIN, msg, hm_buf_bytes(&padded)), HM_E_SIGNATURE);
    }
    hm_buf_free(&padded);
    hm_buf_free(&sig);
    hm_buf_free(&again);
}

static void malformed_public_keys_are_refused(void **state)
{
    (void)state;
    uint8_t pub[HM_FALCON_PUBLIC_BYTES + 1] = {0}, spki[HM_FALCON_SPKI_BYTES];
    hm_bytes good = hm_key_public(key);
    hm_node_id id;
    memcpy(pub, good.ptr, good.len);
    assert_int_equal(hm_falcon_spki(hm_bytes_of(pub, good.len - 1), spki), HM_E_KEY);
    assert_int_equal(hm_falcon_spki(hm_bytes_of(pub, good.len + 1), spki), HM_E_KEY);
    pub[0] = 9; // FALCON-512
    assert_int_equal(hm_falcon_spki(hm_bytes_of(pub, good.len), spki), HM_E_KEY);
    pub[0] = 10;
    pub[1] = pub[2] = 0xff; // a coefficient of 16383, above q = 12289
    assert_int_equal(hm_node_id_of_public(hm_bytes_of(pub, good.len), &id), HM_E_KEY);
    assert_int_equal(hm_verify(hm_bytes_of(pub, good.len), DOMAIN, good, good), HM_E_KEY);
}

static void key_files_come_back_and_are_guarded(void **state)
{
    (void)state;
    char dir[] = "/tmp/hm-crypto-XXXXXX", path[64];
    hm_key *back = NULL;
    struct stat st;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/k.key", dir);
    assert_int_equal(hm_key_load(path, &back), HM_E_NOTFOUND);
    assert_int_equal(hm_key_save(key, path), HM_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(hm_key_load(path, &back), HM_OK);
    assert_true(hm_bytes_eq(hm_key_public(key), hm_key_public(back)));
    hm_buf sig = {0};
    assert_int_equal(hm_sign(back, DOMAIN, hm_bytes_str("x"), &sig), HM_OK);
    assert_int_equal(hm_verify(hm_key_public(key), DOMAIN, hm_bytes_str("x"), hm_buf_bytes(&sig)),
                     HM_OK);
    hm_buf_free(&sig);
    hm_key_free(back);
    back = NULL;
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(hm_key_load(path, &back), HM_E_DENIED);
    assert_int_equal(hm_file_write(path, hm_bytes_str("not a key\n"), 0600), HM_OK);
    assert_int_equal(hm_key_load(path, &back), HM_E_PARSE);
    assert_null(back);
    unlink(path);
    rmdir(dir);
}

static EVP_PKEY *decode_private(hm_bytes der)
{
    const uint8_t *at = der.ptr;
    EVP_PKEY *k = d2i_AutoPrivateKey(NULL, &at, (long)der.len);
    ERR_clear_error();
    return k;
}

static void openssl_encodes_and_decodes(void **state)
{
    (void)state;
    EVP_PKEY *evp = hm_key_evp(key);
    uint8_t *priv = NULL, *pub = NULL, spki[HM_FALCON_SPKI_BYTES], raw[HM_FALCON_PUBLIC_BYTES];
    int priv_len = i2d_PrivateKey(evp, &priv), pub_len = i2d_PUBKEY(evp, &pub);
    assert_int_equal(pub_len, HM_FALCON_SPKI_BYTES);
    assert_int_equal(hm_falcon_spki(hm_key_public(key), spki), HM_OK);
    assert_memory_equal(pub, spki, sizeof spki);
    hm_node_id id, by_hash = hm_sha256(hm_bytes_of(pub, (size_t)pub_len));
    assert_int_equal(hm_node_id_of_public(hm_key_public(key), &id), HM_OK);
    assert_true(hm_hash_eq(&id, &by_hash));

    const uint8_t *at = pub;
    EVP_PKEY *decoded = d2i_PUBKEY(NULL, &at, pub_len);
    assert_non_null(decoded);
    assert_int_equal(EVP_PKEY_eq(decoded, evp), 1);
    assert_int_equal(hm_falcon_public_of_evp(decoded, raw), HM_OK);
    assert_memory_equal(raw, hm_key_public(key).ptr, sizeof raw);
    EVP_PKEY_free(decoded);

    decoded = decode_private(hm_bytes_of(priv, (size_t)priv_len));
    assert_non_null(decoded);
    assert_int_equal(EVP_PKEY_eq(decoded, evp), 1);
    EVP_PKEY_free(decoded);
    hm_key *ours = NULL;
    assert_int_equal(hm_key_of_der(hm_bytes_of(priv, (size_t)priv_len), &ours), HM_OK);
    hm_key_free(ours);
    ours = NULL;

    // Wrong, truncated and bit-flipped encodings; the public half of another key.
    assert_null(decode_private(hm_bytes_of(priv, (size_t)priv_len - 1)));
    assert_int_equal(hm_key_of_der(hm_bytes_of(priv, (size_t)priv_len - 1), &ours), HM_E_PARSE);
    priv[priv_len - 1] ^= 1;
    assert_null(decode_private(hm_bytes_of(priv, (size_t)priv_len)));
    assert_int_equal(hm_key_of_der(hm_bytes_of(priv, (size_t)priv_len), &ours), HM_E_KEY);
    priv[priv_len - 1] ^= 1;
    priv[12] ^= 1; // in the OID
    assert_null(decode_private(hm_bytes_of(priv, (size_t)priv_len)));
    assert_int_equal(hm_key_of_der(hm_bytes_of(priv, (size_t)priv_len), &ours), HM_E_PARSE);
    priv[12] ^= 1;
    priv[24] = 0x59; // a private key of FALCON-512
    assert_int_equal(hm_key_of_der(hm_bytes_of(priv, (size_t)priv_len), &ours), HM_E_KEY);
    assert_null(ours);
    pub[20] = pub[19] = 0xff;
    at = pub;
    assert_null(d2i_PUBKEY(NULL, &at, pub_len));
    ERR_clear_error();
    OPENSSL_free(priv);
    OPENSSL_free(pub);
}

static void openssl_signs_and_verifies(void **state)
{
    (void)state;
    EVP_PKEY *evp = hm_key_evp(key);
    uint8_t sig[HM_FALCON_SIGNATURE_MAX];
    size_t len = 0;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit_ex(c, NULL, NULL, NULL, NULL, evp, NULL), 1);
    assert_int_equal(EVP_DigestSign(c, NULL, &len, (const uint8_t *)"abc", 3), 1);
    assert_int_equal(len, sizeof sig);
    assert_int_equal(EVP_DigestSign(c, sig, &len, (const uint8_t *)"abc", 3), 1);
    EVP_MD_CTX_free(c);
    c = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestVerifyInit_ex(c, NULL, NULL, NULL, NULL, evp, NULL), 1);
    assert_int_equal(EVP_DigestVerify(c, sig, len, (const uint8_t *)"abc", 3), 1);
    assert_int_not_equal(EVP_DigestVerify(c, sig, len, (const uint8_t *)"abd", 3), 1);
    EVP_MD_CTX_free(c);
    // A digest in front is refused: FALCON hashes by itself.
    c = EVP_MD_CTX_new();
    assert_int_not_equal(EVP_DigestSignInit_ex(c, NULL, "SHA256", NULL, NULL, evp, NULL), 1);
    EVP_MD_CTX_free(c);
    ERR_clear_error();
}

static void certificates_are_signed_and_verified(void **state)
{
    (void)state;
    X509 *x = X509_new();
    EVP_PKEY *evp = hm_key_evp(key);
    assert_non_null(x);
    assert_int_equal(X509_set_version(x, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 3600));
    assert_int_equal(X509_set_pubkey(x, evp), 1);
    assert_true(X509_sign(x, evp, NULL) > 0);
    uint8_t *der = NULL;
    int len = i2d_X509(x, &der);
    const uint8_t *at = der;
    X509 *back = d2i_X509(NULL, &at, len);
    assert_non_null(back);
    EVP_PKEY *pub = X509_get_pubkey(back);
    assert_int_equal(X509_verify(back, pub), 1);
    EVP_PKEY_free(pub);
    X509_free(back);
    der[60] ^= 1; // in the validity
    at = der;
    back = d2i_X509(NULL, &at, len);
    if (back)
        assert_int_not_equal(X509_verify(back, evp), 1);
    X509_free(back);
    ERR_clear_error();
    OPENSSL_free(der);
    X509_free(x);
}

static void sealed_data_open_only_as_they_were_sealed(void **state)
{
    (void)state;
    uint8_t pub[HM_SEAL_PUBLIC_BYTES], seed[HM_SEAL_SEED_BYTES], other_pub[HM_SEAL_PUBLIC_BYTES],
        other[HM_SEAL_SEED_BYTES];
    hm_buf sealed = {0}, open = {0};
    hm_bytes aad = hm_bytes_str("for this use"), data = hm_bytes_str("secret");
    assert_int_equal(hm_seal_keygen(pub, seed), HM_OK);
    assert_int_equal(hm_seal_keygen(other_pub, other), HM_OK);
    assert_int_equal(hm_seal(hm_bytes_of(pub, sizeof pub), aad, data, &sealed), HM_OK);
    assert_int_equal(sealed.len, data.len + HM_SEAL_OVERHEAD);
    hm_bytes s = hm_bytes_of(seed, sizeof seed);
    assert_int_equal(hm_open(s, aad, hm_buf_bytes(&sealed), &open), HM_OK);
    assert_true(hm_bytes_eq(hm_buf_bytes(&open), data));
    hm_buf_reset(&open);
    assert_int_equal(hm_open(s, hm_bytes_str("for that use"), hm_buf_bytes(&sealed), &open),
                     HM_E_UNSEAL);
    assert_int_equal(hm_open(hm_bytes_of(other, sizeof other), aad, hm_buf_bytes(&sealed), &open),
                     HM_E_UNSEAL);
    for (size_t i = 0; i < sealed.len; i += i < 1088 ? 109 : 1) {
        sealed.ptr[i] ^= 0x40;
        assert_int_equal(hm_open(s, aad, hm_buf_bytes(&sealed), &open), HM_E_UNSEAL);
        sealed.ptr[i] ^= 0x40;
    }
    assert_int_equal(hm_open(s, aad, hm_bytes_of(sealed.ptr, sealed.len - 1), &open), HM_E_UNSEAL);
    assert_int_equal(hm_open(s, aad, hm_bytes_of(sealed.ptr, 100), &open), HM_E_UNSEAL);
    assert_int_equal(hm_open(hm_bytes_of(seed, 63), aad, hm_buf_bytes(&sealed), &open), HM_E_KEY);
    assert_int_equal(open.len, 0);
    assert_int_equal(hm_seal(hm_bytes_of(pub, 100), aad, data, &open), HM_E_KEY);
    // Nothing to hide is sealed as well.
    hm_buf_reset(&sealed);
    assert_int_equal(
        hm_seal(hm_bytes_of(pub, sizeof pub), hm_bytes_of(NULL, 0), hm_bytes_of(NULL, 0), &sealed),
        HM_OK);
    assert_int_equal(hm_open(s, hm_bytes_of(NULL, 0), hm_buf_bytes(&sealed), &open), HM_OK);
    assert_int_equal(open.len, 0);
    hm_buf_free(&sealed);
    hm_buf_free(&open);
}

// ---- a key that several threads have ------------------------------------------------------------

typedef struct signing {
    const hm_key *key;
    pthread_barrier_t *all_here;
    hm_buf sig[2];
    hm_err err;
} signing;

static void *sign_twice(void *arg)
{
    signing *s = arg;
    pthread_barrier_wait(s->all_here);
    for (int i = 0; i < 2 && s->err == HM_OK; i++)
        s->err = hm_sign(s->key, DOMAIN, hm_bytes_str("the first, by all at once"), &s->sig[i]);
    return NULL;
}

static void threads_share_a_key_that_never_signed(void **state)
{
    enum { THREADS = 4 };
    pthread_barrier_t all_here;
    pthread_t t[THREADS];
    signing s[THREADS] = {{0}};
    hm_key *fresh = NULL;
    (void)state;
    assert_int_equal(hm_key_generate(&fresh), HM_OK);
    assert_int_equal(pthread_barrier_init(&all_here, NULL, THREADS), 0);
    for (int i = 0; i < THREADS; i++) {
        s[i].key = fresh;
        s[i].all_here = &all_here;
        assert_int_equal(pthread_create(&t[i], NULL, sign_twice, &s[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(t[i], NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(s[i].err, HM_OK);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(hm_verify(hm_key_public(fresh), DOMAIN,
                                       hm_bytes_str("the first, by all at once"),
                                       hm_buf_bytes(&s[i].sig[k])),
                             HM_OK);
            hm_buf_free(&s[i].sig[k]);
        }
    }
    pthread_barrier_destroy(&all_here);
    hm_key_free(fresh);
}

// The stream that signatures are drawn with, against OpenSSL's ChaCha20, by every kind of
// instruction that this processor has, also where the number of the block carries into its upper
// half.
static void test_falcon_stream(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0, 1, 0xfffffffc, UINT64_MAX - 3};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint8_t begin[FALCON_STREAM_STATE], want[FALCON_STREAM_BYTES];
        for (unsigned k = 0; k < sizeof begin; k++)
            begin[k] = (uint8_t)(37 * k + 11);
        memcpy(begin + 48, &numbers[i], 8);
        for (uint64_t b = 0; b < 8; b++) {
            uint8_t iv[16], block[64] = {0};
            uint64_t last;
            int n;
            memcpy(iv, begin + 32, sizeof iv);
            memcpy(&last, iv + 8, sizeof last);
            last ^= numbers[i] + b;
            memcpy(iv + 8, &last, sizeof last);
            EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
            assert_non_null(c);
            assert_int_equal(EVP_EncryptInit_ex2(c, EVP_chacha20(), begin, iv, NULL), 1);
            assert_int_equal(EVP_EncryptUpdate(c, block, &n, block, sizeof block), 1);
            EVP_CIPHER_CTX_free(c);
            for (size_t w = 0; w < 16; w++)
                memcpy(want + 32 * w + 4 * b, block + 4 * w, 4);
        }
        for (falcon_stream_kind k = 0; k < FALCON_STREAM_KINDS; k++) {
            uint8_t now[FALCON_STREAM_STATE], got[FALCON_STREAM_BYTES];
            uint64_t next;
            if (!falcon_stream_has(k))
                continue;
            memcpy(now, begin, sizeof now);
            falcon_stream(k, now, got);
            assert_memory_equal(got, want, sizeof want);
            assert_memory_equal(now, begin, 48);
            memcpy(&next, now + 48, sizeof next);
            assert_true(next == numbers[i] + 8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_falcon_stream),
        cmocka_unit_test(sha256_is_sha256),
        cmocka_unit_test(merkle_trees_of_all_small_sizes),
        cmocka_unit_test(signatures_are_bound_to_key_domain_and_message),
        cmocka_unit_test(malformed_public_keys_are_refused),
        cmocka_unit_test(key_files_come_back_and_are_guarded),
        cmocka_unit_test(openssl_encodes_and_decodes),
        cmocka_unit_test(openssl_signs_and_verifies),
        cmocka_unit_test(certificates_are_signed_and_verified),
        cmocka_unit_test(sealed_data_open_only_as_they_were_sealed),
        cmocka_unit_test(threads_share_a_key_that_never_signed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
