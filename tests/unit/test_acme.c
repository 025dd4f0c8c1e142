// ACME's core and what belongs to it, without a network: known answers of RFC 8555, limits, and
// that what was committed is there after a restart. Each fault a client can make is asked for over
// HTTP by tests/integration/acme_faults.py; signed requests are test_jose.c's.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ecdsa.h>
#include <openssl/x509v3.h>

#include "server/acme_dns.h"
#include "trustchain/acme/internal.h"

#define NOW UINT64_C(1790000000000)

// ---- a client -----------------------------------------------------------------------------------

typedef struct world {
    char dir[64], path[96];
    tc_authority *authority;
    acme *server;
    acme_config cfg;
    EVP_PKEY *key; // of the account, P-256
    char jwk[400], kid[ACME_URL_MAX];
    acme_answer answer;
} world;

static void reopen(world *w)
{
    acme_close(w->server);
    w->server = NULL;
    assert_int_equal(acme_open(&w->cfg, &w->server), HM_OK);
}

static void new_key(world *w)
{
    uint8_t point[65];
    size_t len;
    hm_buf x = {0}, y = {0};
    EVP_PKEY_free(w->key);
    w->key = EVP_EC_gen("P-256");
    assert_int_equal(EVP_PKEY_get_octet_string_param(w->key, "encoded-pub-key", point, 65, &len),
                     1);
    jose_base64(hm_bytes_of(point + 1, 32), &x);
    jose_base64(hm_bytes_of(point + 33, 32), &y);
    snprintf(w->jwk, sizeof w->jwk, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}",
             hm_buf_cstr(&x), hm_buf_cstr(&y));
    w->kid[0] = 0;
    hm_buf_free(&x);
    hm_buf_free(&y);
}

static int setup(void **state)
{
    world *w = calloc(1, sizeof *w);
    char path[80];
    assert_int_equal(hm_crypto_init(), HM_OK);
    snprintf(w->dir, sizeof w->dir, "/tmp/hm-acme-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(path, sizeof path, "%s/authority", w->dir);
    snprintf(w->path, sizeof w->path, "%s/acme", w->dir);
    assert_int_equal(tc_authority_init(path, "test", NOW), HM_OK);
    assert_int_equal(tc_authority_open(path, &w->authority), HM_OK);
    w->cfg =
        (acme_config){.dir = w->path, .authority = w->authority, .dns_01 = true, .now_ms = NOW};
    new_key(w);
    reopen(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world *w = *state;
    char command[128];
    acme_answer_free(&w->answer);
    acme_close(w->server);
    tc_authority_close(w->authority);
    EVP_PKEY_free(w->key);
    snprintf(command, sizeof command, "rm -rf '%s'", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static void sign(world *w, hm_bytes text, hm_buf *out)
{
    uint8_t der[80], raw[64];
    size_t len = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const uint8_t *at = der;
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, w->key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &len, text.ptr, text.len), 1);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)len);
    BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32);
    jose_base64(hm_bytes_of(raw, 64), out);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

// Sends a signed request with that nonce; the answer is in w->answer.
static unsigned post_nonce(world *w, acme_op op, const char *path, const char *id, const char *sub,
                           const char *payload, const char *nonce, uint64_t at_ms)
{
    char header[1200];
    hm_buf p = {0}, b = {0}, text = {0}, s = {0}, body = {0};
    snprintf(header, sizeof header,
             "{\"alg\":\"ES256\",\"nonce\":\"%s\",\"url\":\"https://[::1]%s\",%s%s%s}", nonce, path,
             w->kid[0] ? "\"kid\":\"" : "\"jwk\":", w->kid[0] ? w->kid : w->jwk,
             w->kid[0] ? "\"" : "");
    jose_base64(hm_bytes_str(header), &p);
    jose_base64(hm_bytes_str(payload), &b);
    hm_buf_printf(&text, "%s.%s", hm_buf_cstr(&p), hm_buf_cstr(&b));
    sign(w, hm_buf_bytes(&text), &s);
    hm_buf_printf(&body, "{\"protected\":\"%s\",\"payload\":\"%s\",\"signature\":\"%s\"}",
                  hm_buf_cstr(&p), hm_buf_cstr(&b), hm_buf_cstr(&s));
    const acme_request rq = {.op = op,
                             .id = id,
                             .sub = sub,
                             .base = "https://[::1]",
                             .path = path,
                             .content_type = "application/jose+json",
                             .body = hm_buf_bytes(&body),
                             .now_ms = at_ms};
    acme_answer_free(&w->answer);
    acme_handle(w->server, &rq, &w->answer);
    hm_buf *all[] = {&p, &b, &text, &s, &body};
    for (size_t i = 0; i < 5; i++)
        hm_buf_free(all[i]);
    return w->answer.status;
}

static unsigned post(world *w, acme_op op, const char *path, const char *id, const char *sub,
                     const char *payload)
{
    char nonce[32];
    acme_nonce_make(w->server, nonce);
    return post_nonce(w, op, path, id, sub, payload, nonce, NOW);
}

static void account(world *w)
{
    assert_int_equal(post(w, ACME_OP_NEW_ACCOUNT, "/acme/new-account", "", "", "{}"), 201);
    snprintf(w->kid, sizeof w->kid, "%s", w->answer.location);
    assert_int_equal(acme_commit(w->server), HM_OK);
}

static unsigned order(world *w)
{
    return post(w, ACME_OP_NEW_ORDER, "/acme/new-order", "", "",
                "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}]}");
}

static bool says(world *w, const char *words)
{
    return strstr(hm_buf_cstr(&w->answer.body), words) != NULL;
}

// ---- the core -----------------------------------------------------------------------------------

static void test_nonces(void **state)
{
    world *w = *state;
    char first[32], other[32];
    acme_nonce_make(w->server, first);
    assert_true(acme_nonce_take(w->server, hm_bytes_str(first)));
    assert_false(acme_nonce_take(w->server, hm_bytes_str(first)));
    acme_nonce_make(w->server, first);
    snprintf(other, sizeof other, "%s", first);
    other[3] = other[3] == 'A' ? 'B' : 'A';
    assert_false(acme_nonce_take(w->server, hm_bytes_str(other)));
    // The oldest goes when there are ACME_NONCES newer ones.
    for (uint32_t i = 0; i < ACME_NONCES - 1; i++)
        acme_nonce_make(w->server, other);
    acme_nonce_make(w->server, other);
    assert_false(acme_nonce_take(w->server, hm_bytes_str(first)));
    assert_true(acme_nonce_take(w->server, hm_bytes_str(other)));
    // Another start, other nonces.
    acme_nonce_make(w->server, other);
    reopen(w);
    assert_false(acme_nonce_take(w->server, hm_bytes_str(other)));
}

// A validation that was under way is a task again after a restart, and its result counts.
static void test_restart(void **state)
{
    world *w = *state;
    acme_task task, again;
    account(w);
    assert_int_equal(order(w), 201);
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     200);
    assert_true(says(w, "processing"));
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_true(acme_next_task(w->server, &task));
    assert_false(acme_next_task(w->server, &again));
    reopen(w);
    assert_true(acme_next_task(w->server, &again));
    assert_string_equal(task.key_auth, again.key_auth);
    assert_string_equal(task.name.value, "a.test");
    assert_int_equal(acme_task_done(w->server, again.authorization, again.token, ACME_OK, "", NOW),
                     HM_OK);
    assert_int_equal(acme_commit(w->server), HM_OK);
    reopen(w);
    assert_false(acme_next_task(w->server, &again));
    assert_int_equal(post(w, ACME_OP_ORDER, "/acme/order/1", "1", "", ""), 200);
    assert_true(says(w, "\"ready\""));
}

static void fail_commit(world *w)
{
    w->server->spoilt = true;
    assert_int_equal(acme_commit(w->server), HM_E_IO);
}

// A validation begins beside the commit. When that fails, its result is no authorization's: neither
// the one's of before, nor another's that has its number since.
static void test_early(void **state)
{
    world *w = *state;
    acme_task task, other, none;
    account(w);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(order(w), 201);
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     200);
    assert_true(acme_next_task(w->server, &task));
    assert_int_equal(task.authorization, 1);
    fail_commit(w);
    assert_int_equal(order(w), 201);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     200);
    assert_true(acme_next_task(w->server, &other));
    assert_int_equal(other.authorization, 1);
    assert_string_not_equal(task.token, other.token);
    assert_int_equal(acme_task_done(w->server, 1, task.token, ACME_OK, "", NOW), HM_OK);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(post(w, ACME_OP_AUTHORIZATION, "/acme/authorization/1", "1", "", ""), 200);
    assert_false(says(w, "\"valid\""));
    // A result that is not stored is asked for again after the next start.
    assert_int_equal(acme_task_done(w->server, 1, other.token, ACME_OK, "", NOW), HM_OK);
    fail_commit(w);
    assert_int_equal(acme_commit(w->server), HM_OK);
    reopen(w);
    assert_true(acme_next_task(w->server, &other)); // resumed
    assert_false(acme_next_task(w->server, &none));
    assert_int_equal(acme_task_done(w->server, 1, other.token, ACME_OK, "", NOW), HM_OK);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(post(w, ACME_OP_AUTHORIZATION, "/acme/authorization/1", "1", "", ""), 200);
    assert_true(says(w, "\"valid\""));
}

// What is not committed is not there.
static void test_uncommitted(void **state)
{
    world *w = *state;
    account(w);
    assert_int_equal(order(w), 201);
    reopen(w);
    assert_int_equal(post(w, ACME_OP_ORDER, "/acme/order/1", "1", "", ""), 404);
    assert_int_equal(w->answer.error, ACME_MALFORMED);
}

static void test_limits(void **state)
{
    world *w = *state;
    acme_task task;
    w->cfg.accounts_an_hour = 3;
    w->cfg.orders_an_hour = 2;
    reopen(w);
    for (int i = 0; i < 3; i++) {
        new_key(w);
        account(w);
    }
    char kid[ACME_URL_MAX];
    snprintf(kid, sizeof kid, "%s", w->kid);
    EVP_PKEY *kept = w->key;
    EVP_PKEY_up_ref(kept);
    new_key(w);
    assert_int_equal(post(w, ACME_OP_NEW_ACCOUNT, "/acme/new-account", "", "", "{}"), 429);
    assert_int_equal(w->answer.error, ACME_RATE_LIMITED);
    assert_int_equal(w->answer.retry_after_s, 3601);
    EVP_PKEY_free(w->key);
    w->key = kept;
    snprintf(w->kid, sizeof w->kid, "%s", kid);
    assert_int_equal(order(w), 201);
    assert_int_equal(order(w), 201);
    assert_int_equal(order(w), 429);
    // An hour later it may go on.
    char nonce[32];
    acme_nonce_make(w->server, nonce);
    assert_int_equal(post_nonce(w, ACME_OP_NEW_ORDER, "/acme/new-order", "", "",
                                "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}]}",
                                nonce, NOW + ACME_HOUR_MS),
                     201);
    // Validations at a time.
    w->server->validating = ACME_VALIDATIONS_MAX;
    assert_int_equal(post(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01", "{}"),
                     429);
    assert_int_equal(w->answer.error, ACME_RATE_LIMITED);
    assert_int_equal(w->answer.retry_after_s, 5);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_false(acme_next_task(w->server, &task));
}

// Rates of more accounts than are told apart: they share one.
static void test_crowd(void **state)
{
    world *w = *state;
    acme_answer answer = {0};
    const acme_request rq = {.now_ms = NOW, .op = ACME_OP_NEW_ACCOUNT};
    acme_call c = {.a = w->server, .rq = &rq, .out = &answer};
    for (uint64_t i = 0; i < ACME_WINDOWS_MAX; i++)
        assert_int_equal(acme_rate(&c, 'c', &i, 1, "x"), ACME_OK);
    uint64_t more = ACME_WINDOWS_MAX;
    assert_int_equal(acme_rate(&c, 'c', &more, 1, "x"), ACME_OK);
    more++;
    assert_int_equal(acme_rate(&c, 'c', &more, 1, "x"), ACME_RATE_LIMITED);
    const acme_request later = {.now_ms = NOW + ACME_HOUR_MS, .op = ACME_OP_NEW_ACCOUNT};
    c.rq = &later;
    assert_int_equal(acme_rate(&c, 'c', &more, 1, "x"), ACME_OK);
}

// Orders that have ended go, with everything of theirs.
static void test_sweep(void **state)
{
    world *w = *state;
    uint64_t left = 9;
    acme_authz z;
    account(w);
    for (int i = 0; i < 5; i++)
        assert_int_equal(order(w), 201);
    assert_int_equal(acme_sweep(w->server, NOW + ACME_ORDER_MS - 1, 100), HM_OK);
    assert_int_equal(acme_record_count(w->server->store, 'o', 0, &left), HM_OK);
    assert_int_equal(left, 5);
    assert_int_equal(acme_sweep(w->server, NOW + ACME_ORDER_MS, 3), HM_OK);
    assert_int_equal(acme_record_count(w->server->store, 'o', 0, &left), HM_OK);
    assert_int_equal(left, 2);
    assert_int_equal(acme_sweep(w->server, NOW + ACME_ORDER_MS, 3), HM_OK);
    assert_int_equal(acme_record_authz_get(w->server->store, 5, &z), HM_E_NOTFOUND);
    assert_int_equal(post(w, ACME_OP_ORDERS, "/acme/account/1/orders", "1", "", ""), 200);
    assert_true(says(w, "\"orders\":[]"));
}

static void test_expired_order(void **state)
{
    world *w = *state;
    char nonce[32];
    account(w);
    assert_int_equal(order(w), 201);
    acme_nonce_make(w->server, nonce);
    assert_int_equal(
        post_nonce(w, ACME_OP_ORDER, "/acme/order/1", "1", "", "", nonce, NOW + ACME_ORDER_MS),
        200);
    assert_true(says(w, "\"status\":\"invalid\""));
    acme_nonce_make(w->server, nonce);
    assert_int_equal(post_nonce(w, ACME_OP_CHALLENGE, "/acme/challenge/1/http-01", "1", "http-01",
                                "{}", nonce, NOW + ACME_ORDER_MS),
                     400);
}

// Half of a change is never stored: the whole commit fails, and says so.
static void test_spoilt(void **state)
{
    world *w = *state;
    account(w);
    assert_int_equal(order(w), 201);
    acme_call c = {.a = w->server, .out = &w->answer};
    (void)acme_fail_err(&c, HM_E_IO);
    w->server->spoilt = true;
    assert_int_equal(acme_commit(w->server), HM_E_IO);
    assert_int_equal(acme_commit(w->server), HM_OK);
    const acme_request rq = {.op = ACME_OP_NEW_ORDER, .base = "https://[::1]"};
    acme_answer_failed(w->server, &rq, &w->answer);
    assert_int_equal(w->answer.status, 500);
    assert_true(says(w, "urn:ietf:params:acme:error:serverInternal"));
    assert_int_equal(post(w, ACME_OP_ORDER, "/acme/order/1", "1", "", ""), 404);
}

static void test_eab(void **state)
{
    world *w = *state;
    acme_eab_key k;
    acme_eab e;
    assert_int_equal(acme_eab_make(w->path, NOW, &k), HM_OK); // beside the server
    assert_int_equal(strlen(k.id), ACME_EAB_ID_CHARS);
    assert_int_equal(strlen(k.secret), 43);
    assert_int_equal(acme_record_eab_get(w->server->store, hm_bytes_str(k.id), &e), HM_OK);
    assert_int_equal(e.account, 0);
    assert_int_equal(acme_record_eab_get(w->server->store, hm_bytes_str("x"), &e), HM_E_NOTFOUND);
    w->cfg.eab_required = true;
    reopen(w);
    assert_int_equal(post(w, ACME_OP_NEW_ACCOUNT, "/acme/new-account", "", "", "{}"), 403);
    assert_int_equal(w->answer.error, ACME_EXTERNAL_ACCOUNT_REQUIRED);
}

// ---- the end of an order ------------------------------------------------------------------------

// The payload that finalizes: a request for a.test, signed by a key of its own.
static void csr_payload(char *out, size_t room)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_REQ *req = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *all = sk_X509_EXTENSION_new_null();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:a.test");
    uint8_t *der = NULL;
    hm_buf text = {0};
    assert_true(sk_X509_EXTENSION_push(all, names) > 0);
    assert_int_equal(X509_REQ_add_extensions(req, all), 1);
    assert_int_equal(X509_REQ_set_pubkey(req, key), 1);
    assert_true(X509_REQ_sign(req, key, EVP_sha256()) > 0);
    int len = i2d_X509_REQ(req, &der);
    assert_true(len > 0);
    jose_base64(hm_bytes_of(der, (size_t)len), &text);
    snprintf(out, room, "{\"csr\":\"%s\"}", hm_buf_cstr(&text));
    hm_buf_free(&text);
    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    X509_REQ_free(req);
    EVP_PKEY_free(key);
}

static unsigned finalize(world *w, const char *id)
{
    char path[64], payload[2048];
    csr_payload(payload, sizeof payload);
    snprintf(path, sizeof path, "/acme/order/%s/finalize", id);
    return post(w, ACME_OP_FINALIZE, path, id, "", payload);
}

static unsigned see_order(world *w, const char *id)
{
    char path[64];
    snprintf(path, sizeof path, "/acme/order/%s", id);
    return post(w, ACME_OP_ORDER, path, id, "", "");
}

// An order whose name is validated; its number is that of its authorization too.
static void ready_order(world *w, const char *id)
{
    char path[64];
    acme_task task;
    assert_int_equal(order(w), 201);
    snprintf(path, sizeof path, "/acme/challenge/%s/http-01", id);
    assert_int_equal(post(w, ACME_OP_CHALLENGE, path, id, "http-01", "{}"), 200);
    assert_true(acme_next_task(w->server, &task));
    assert_int_equal(acme_task_done(w->server, task.authorization, task.token, ACME_OK, "", NOW),
                     HM_OK);
    assert_int_equal(see_order(w, id), 200);
    assert_true(says(w, "\"ready\""));
}

static size_t kept(world *w)
{
    hm_bytes key = hm_bytes_str("acme/"), value;
    size_t n = 0;
    while (tc_kept_next(w->authority, hm_bytes_str("acme/"), key, &key, &value) == HM_OK)
        n++;
    return n;
}

// The pages that a commit of the ACME store changes, always.
static void meta_pages(world *w, hm_hash *out)
{
    char path[120];
    hm_buf b = {0};
    snprintf(path, sizeof path, "%s/data.mdb", w->path);
    assert_int_equal(hm_file_read(path, 1u << 26, &b), HM_OK);
    assert_true(b.len >= 8192);
    *out = hm_sha256(hm_bytes_of(b.ptr, 8192));
    hm_buf_free(&b);
}

// What answers that an order has its certificate is on disk with that, in one commit, the
// authority's; a server that ends at any instant since finds it.
static void test_ended(void **state)
{
    world *w = *state;
    hm_hash before, after;
    acme_cert cert;
    hm_buf chain = {0};
    account(w);
    ready_order(w, "1");
    assert_int_equal(acme_commit(w->server), HM_OK);
    meta_pages(w, &before);
    assert_int_equal(finalize(w, "1"), 200);
    assert_true(says(w, "\"status\":\"valid\""));
    tc_issued issued = w->answer.certificate;
    assert_int_equal(acme_commit(w->server), HM_OK);
    meta_pages(w, &after);
    assert_true(hm_hash_eq(&before, &after));
    assert_int_equal(post(w, ACME_OP_CERTIFICATE, "/acme/order/1/certificate", "1", "", ""), 200);
    hm_buf_put(&chain, hm_buf_bytes(&w->answer.body));
    assert_int_equal(finalize(w, "1"), 403);
    assert_int_equal(kept(w), 1);

    reopen(w); // as after kill -9: nothing was committed since
    for (int i = 0; i < 2; i++) {
        assert_int_equal(see_order(w, "1"), 200);
        assert_true(says(w, "\"status\":\"valid\""));
        assert_int_equal(post(w, ACME_OP_CERTIFICATE, "/acme/order/1/certificate", "1", "", ""),
                         200);
        assert_true(hm_bytes_eq(hm_buf_bytes(&chain), hm_buf_bytes(&w->answer.body)));
        assert_int_equal(finalize(w, "1"), 403);
        assert_int_equal(acme_record_cert_get(w->server->store, &issued.serial, &cert), HM_OK);
        assert_true(cert.account == 1 && cert.order == 1 && !cert.replaced);
        reopen(w); // and again, of what was taken in
    }
    ready_order(w, "2");
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(finalize(w, "2"), 200); // the first one's goes with this one
    assert_int_equal(kept(w), 1);
    hm_buf_free(&chain);
}

// It is taken in with the next change. When that is not committed, it is still there, and is taken
// in with the one after it.
static void test_ended_uncommitted(void **state)
{
    world *w = *state;
    hm_bytes pem;
    account(w);
    ready_order(w, "1");
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(finalize(w, "1"), 200);
    assert_int_equal(order(w), 201);
    assert_int_equal(acme_record_chain_get(w->server->store, 1, &pem), HM_OK);
    fail_commit(w);
    assert_int_equal(acme_record_chain_get(w->server->store, 1, &pem), HM_E_NOTFOUND);
    assert_int_equal(see_order(w, "1"), 200);
    assert_true(says(w, "\"status\":\"valid\""));
    ready_order(w, "2");
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(finalize(w, "2"), 200);
    assert_int_equal(kept(w), 1);
    assert_int_equal(acme_record_chain_get(w->server->store, 1, &pem), HM_OK);
    // And by the sweep, where no order comes.
    assert_int_equal(acme_sweep(w->server, NOW + ACME_ORDER_MS, 100), HM_OK);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(acme_record_chain_get(w->server->store, 2, &pem), HM_OK);
    assert_int_equal(see_order(w, "2"), 200);
}

// An order that is not stored yet has a number that may become another's: it gets no certificate.
static void test_ended_early(void **state)
{
    world *w = *state;
    account(w);
    ready_order(w, "1");
    assert_int_equal(finalize(w, "1"), 403);
    assert_int_equal(w->answer.error, ACME_ORDER_NOT_READY);
    assert_int_equal(kept(w), 0);
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(finalize(w, "1"), 200);
}

// The authority's store has the end of an order that this store knows another by the number of: one
// of them was put back from another day.
static void test_ended_other(void **state)
{
    world *w = *state;
    account(w);
    ready_order(w, "1");
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(finalize(w, "1"), 200);
    acme_close(w->server);
    w->server = NULL;
    snprintf(w->path, sizeof w->path, "%s/acme-2", w->dir);
    w->kid[0] = 0;
    reopen(w);
    account(w);
    char nonce[32];
    acme_nonce_make(w->server, nonce);
    assert_int_equal(post_nonce(w, ACME_OP_NEW_ORDER, "/acme/new-order", "", "",
                                "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}]}",
                                nonce, NOW + 1),
                     201);
    assert_int_equal(acme_commit(w->server), HM_OK);
    reopen(w);
    assert_int_equal(see_order(w, "1"), 200);
    assert_true(says(w, "\"status\":\"pending\""));
}

// More orders end than are kept apart, in one commit: they are taken in.
static void test_ended_many(void **state)
{
    world *w = *state;
    char id[16];
    hm_bytes pem;
    account(w);
    for (unsigned i = 1; i <= ACME_ENDED_MAX + 2; i++) {
        snprintf(id, sizeof id, "%u", i);
        ready_order(w, id);
    }
    assert_int_equal(acme_commit(w->server), HM_OK);
    for (unsigned i = 1; i <= ACME_ENDED_MAX + 1; i++) {
        snprintf(id, sizeof id, "%u", i);
        assert_int_equal(finalize(w, id), 200);
    }
    assert_int_equal(acme_commit(w->server), HM_OK);
    assert_int_equal(acme_record_chain_get(w->server->store, ACME_ENDED_MAX, &pem), HM_OK);
    snprintf(id, sizeof id, "%u", ACME_ENDED_MAX + 2);
    assert_int_equal(finalize(w, id), 200);
    assert_int_equal(kept(w), 2);
}

// An answer about a challenge may wait for the end of its validation.
static void test_decided(void **state)
{
    world *w = *state;
    acme_task task;
    const acme_request rq = {.op = ACME_OP_CHALLENGE, .base = "https://[::1]", .now_ms = NOW};
    account(w);
    for (int i = 0; i < 2; i++) {
        const char *id = i == 0 ? "1" : "2";
        char path[64];
        snprintf(path, sizeof path, "/acme/challenge/%s/http-01", id);
        assert_int_equal(order(w), 201);
        assert_int_equal(post(w, ACME_OP_CHALLENGE, path, id, "http-01", "{}"), 200);
        assert_int_equal(w->answer.deciding, i + 1);
        assert_int_equal(w->answer.retry_after_s, 1);
        assert_false(acme_answer_decided(w->server, &rq, &w->answer));
        assert_true(says(w, "\"processing\""));
        assert_true(acme_next_task(w->server, &task));
        assert_int_equal(acme_task_done(w->server, task.authorization, task.token,
                                        i == 0 ? ACME_OK : ACME_CONNECTION, "why", NOW),
                         HM_OK);
        assert_true(acme_answer_decided(w->server, &rq, &w->answer));
        assert_true(says(w, i == 0 ? "\"status\":\"valid\"" : "\"status\":\"invalid\""));
        assert_true(w->answer.status == 200 && w->answer.deciding == 0);
        assert_int_equal(w->answer.retry_after_s, 0);
        assert_true(w->answer.nonce[0] && w->answer.link[0][0] && w->answer.link[1][0]);
    }
}

// ---- validations --------------------------------------------------------------------------------

static void test_addresses(void **state)
{
    static const struct {
        uint8_t addr[16];
        bool ok;
    } all[] = {
        {{0}, false},
        {{[15] = 1}, false},
        {{[10] = 0xff, 0xff, 127, 0, 0, 1}, false},
        {{0xfe, 0x80, [15] = 1}, false},
        {{0xff, 0x02, [15] = 1}, false},
        {{0, 0x64, 0xff, 0x9b, [12] = 127, 0, 0, 1}, false},
        {{0xfd, 0x48, 0x4d, [15] = 1}, true},
        {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        assert_int_equal(acme_address_ok(all[i].addr), all[i].ok);
}

static void test_expected(void **state)
{
    // RFC 8738, 6.
    const acme_identifier ip = {ACME_IP, "2001:db8::1"}, dns = {ACME_DNS, "a.test"};
    char sni[ACME_NAME_MAX + 1], value[44];
    (void)state;
    acme_alpn_sni(&ip, sni);
    assert_string_equal(sni,
                        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    acme_alpn_sni(&dns, sni);
    assert_string_equal(sni, "a.test");
    acme_dns_value("foo", value); // SHA-256 of "foo"
    assert_string_equal(value, "LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564");
    assert_true(acme_http_body_is(hm_bytes_str("a.b"), "a.b"));
    assert_true(acme_http_body_is(hm_bytes_str("a.b \r\n"), "a.b"));
    assert_false(acme_http_body_is(hm_bytes_str(" a.b"), "a.b"));
    assert_false(acme_http_body_is(hm_bytes_str("a.bc"), "a.b"));
    assert_false(acme_http_body_is(hm_bytes_of("a.b\0", 4), "a.b"));
    assert_int_equal(acme_alpn_check(hm_bytes_str("x"), &dns, "a.b"), HM_E_CERT_PROFILE);
}

static void test_dns(void **state)
{
    hm_buf q = {0}, m = {0};
    acme_dns_answer a;
    (void)state;
    assert_int_equal(acme_dns_question("", ACME_DNS_TXT, 1, &q), HM_E_INVALID);
    hm_buf_reset(&q);
    assert_int_equal(acme_dns_question("a..b", ACME_DNS_TXT, 1, &q), HM_E_INVALID);
    hm_buf_reset(&q);
    assert_int_equal(acme_dns_question("a.test", ACME_DNS_TXT, 0x1234, &q), HM_OK);
    // Answer: an alias, then the text in two parts.
    static const uint8_t head[] = {0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0};
    static const uint8_t rest[] = {0xc0, 12, 0,  5, 0, 1, 0, 0, 0, 0, 0, 3, 1,   'b', 0,   0xc0,
                                   12,   0,  16, 0, 1, 0, 0, 0, 0, 0, 5, 1, 'x', 2,   'y', 'z'};
    hm_buf_append(&m, head, sizeof head);
    hm_buf_append(&m, q.ptr + 12, q.len - 12 - 11);
    hm_buf_append(&m, rest, sizeof rest);
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_OK);
    assert_int_equal(a.count, 1);
    assert_true(acme_dns_text_is(a.data[0], "xyz"));
    assert_false(acme_dns_text_is(a.data[0], "xy"));
    assert_false(acme_dns_text_is(a.data[0], "xyzz"));
    for (size_t n = 0; n < m.len; n++)
        assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_bytes_of(m.ptr, n), &a), HM_E_PARSE);
    m.ptr[13] = 'A'; // letters may change their case, and nothing else
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_OK);
    m.ptr[13] = 'c';
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_E_PARSE);
    m.ptr[13] = 'a';
    m.ptr[0] = 0; // another question's
    assert_int_equal(acme_dns_read(hm_buf_bytes(&q), hm_buf_bytes(&m), &a), HM_E_PARSE);
    hm_buf_free(&q);
    hm_buf_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nonces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uncommitted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crowd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expired_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_spoilt, setup, teardown),
        cmocka_unit_test_setup_teardown(test_eab, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended_uncommitted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended_early, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ended_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decided, setup, teardown),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_expected),
        cmocka_unit_test(test_dns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
