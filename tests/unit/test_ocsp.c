#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "trustchain/authority.h"
#include "trustchain/ocsp_text.h"

#define NOW UINT64_C(1800000000000)
#define LATE UINT64_C(4000000000000) // a rested bucket

static char base[] = "/tmp/hm-ocsp-XXXXXX";
static tc_authority *authority;
static tc_issued mesh_issued, edge_issued;
static X509 *issuing[2];

static void serial_of(const tc_issued *i, ASN1_INTEGER *out)
{
    assert_true(ASN1_STRING_set(out, i->serial.b, TC_SERIAL_BYTES));
}

typedef struct request {
    OCSP_REQUEST *r;
    OCSP_CERTID *id; // borrowed
    hm_buf der;
} request;

// A request for a serial under an issuer, as clients make it; nonce_len 0: none.
static request ask_for(const X509 *issuer, const ASN1_INTEGER *serial, int nonce_len)
{
    request q = {.r = OCSP_REQUEST_new()};
    uint8_t nonce[64];
    assert_non_null(q.r);
    q.id = OCSP_cert_id_new(EVP_sha1(), X509_get_subject_name(issuer),
                            X509_get0_pubkey_bitstr(issuer), serial);
    assert_non_null(q.id);
    assert_non_null(OCSP_request_add0_id(q.r, q.id));
    if (nonce_len > 0) {
        assert_int_equal(RAND_bytes(nonce, nonce_len), 1);
        assert_int_equal(OCSP_request_add1_nonce(q.r, nonce, nonce_len), 1);
    }
    int len = i2d_OCSP_REQUEST(q.r, NULL);
    uint8_t *at = hm_buf_reserve(&q.der, (size_t)len);
    assert_non_null(at);
    q.der.len = (size_t)i2d_OCSP_REQUEST(q.r, &at);
    return q;
}

static request ask_about(const tc_issued *i, int nonce_len)
{
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    serial_of(i, serial);
    request q = ask_for(issuing[i->family], serial, nonce_len);
    ASN1_INTEGER_free(serial);
    return q;
}

static request ask_number(tc_family f, uint64_t number)
{
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    assert_int_equal(ASN1_INTEGER_set_uint64(serial, number), 1);
    request q = ask_for(issuing[f], serial, 0);
    ASN1_INTEGER_free(serial);
    return q;
}

static void request_free(request *q)
{
    OCSP_REQUEST_free(q->r);
    hm_buf_free(&q->der);
}

static int status_of(const hm_buf *der)
{
    const uint8_t *at = der->ptr;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &at, (long)der->len);
    assert_non_null(r);
    int status = OCSP_response_status(r);
    OCSP_RESPONSE_free(r);
    return status;
}

typedef struct state_told {
    int status, reason, nonce; // nonce: as OCSP_check_nonce() says
} state_told;

// Read and verified by OpenSSL against the issuing certificate.
static state_told read_answer(const request *q, tc_family f, const hm_buf *der)
{
    state_told out;
    const uint8_t *at = der->ptr;
    ASN1_GENERALIZEDTIME *when, *from, *until;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &at, (long)der->len);
    assert_non_null(r);
    assert_int_equal(OCSP_response_status(r), OCSP_RESPONSE_STATUS_SUCCESSFUL);
    OCSP_BASICRESP *b = OCSP_response_get1_basic(r);
    STACK_OF(X509) *signers = sk_X509_new_null();
    assert_true(b && signers && sk_X509_push(signers, issuing[f]));
    assert_int_equal(OCSP_basic_verify(b, signers, NULL, OCSP_TRUSTOTHER), 1);
    assert_int_equal(
        OCSP_resp_find_status(b, q->id, &out.status, &out.reason, &when, &from, &until), 1);
    out.nonce = OCSP_check_nonce(q->r, b);
    sk_X509_free(signers);
    OCSP_BASICRESP_free(b);
    OCSP_RESPONSE_free(r);
    return out;
}

static void give(tc_ocsp *o, const request *q, uint64_t now_ms, hm_buf *der)
{
    hm_buf_reset(der);
    assert_int_equal(tc_ocsp_answer(o, hm_buf_bytes(&q->der), now_ms, der), HM_OK);
}

static uint64_t answers(const tc_ocsp *o, tc_ocsp_result r)
{
    tc_ocsp_counters c;
    tc_ocsp_get_counters(o, &c);
    return c.answers[r];
}

static void check_made_and_kept(const tc_ocsp *o, uint64_t made, uint64_t kept)
{
    tc_ocsp_counters c;
    tc_ocsp_get_counters(o, &c);
    assert_int_equal(c.made, made);
    assert_int_equal(c.kept, kept);
}

static void issue(bool mesh, tc_issued *out)
{
    static const char *const names[] = {"web.test"};
    hm_buf key = {0}, csr = {0}, chain = {0};
    hm_key *node = NULL;
    if (mesh) {
        assert_int_equal(hm_key_generate(&node), HM_OK);
        assert_int_equal(tc_node_csr(node, "node-1", &csr), HM_OK);
        assert_int_equal(tc_issue_node(authority, hm_buf_bytes(&csr), NOW, &chain, out), HM_OK);
    } else {
        assert_int_equal(tc_server_csr(names, 1, &key, &csr), HM_OK);
        assert_int_equal(tc_issue_server(authority, hm_buf_bytes(&csr), NOW, &chain, out), HM_OK);
    }
    hm_key_free(node);
    hm_buf_free(&key);
    hm_buf_free(&csr);
    hm_buf_free(&chain);
}

// As libwebsockets leaves it in the address of a GET: true when slashes were lost.
static bool address_of(const request *q, char text[OCSP_TEXT_MAX + 8])
{
    size_t n = 0;
    int len = EVP_EncodeBlock((uint8_t *)text, q->der.ptr, (int)q->der.len);
    assert_true(len > 0 && (size_t)len < OCSP_TEXT_MAX);
    for (int i = 0; i < len; i++)
        if (text[i] != '/' || n == 0 || text[n - 1] != '/')
            text[n++] = text[i] == '+' ? ' ' : text[i];
    text[n] = 0;
    return n < (size_t)len;
}

static bool setup_one(unsigned n)
{
    char dir[64], text[OCSP_TEXT_MAX + 8];
    snprintf(dir, sizeof dir, "%s/authority%u", base, n);
    if (tc_authority_init(dir, "testmesh", NOW) != HM_OK ||
        tc_authority_open(dir, &authority) != HM_OK)
        return false;
    for (int f = 0; f < 2; f++)
        issuing[f] = authority->family[f].issuing[0]->cert;
    issue(true, &mesh_issued);
    issue(false, &edge_issued);
    request q = ask_about(&edge_issued, 0);
    bool whole = !address_of(&q, text);
    request_free(&q);
    if (!whole)
        tc_authority_close(authority);
    return whole;
}

// An authority, and a certificate of it about which can be asked without slashes side by side.
static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(base) || hm_crypto_init() != HM_OK)
        return -1;
    for (unsigned n = 0; n < 20; n++)
        if (setup_one(n))
            return 0;
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    tc_authority_close(authority);
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}

static void states_are_told_of_both_families(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    hm_buf der = {0};
    tc_issued gone[2];
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    for (int f = 0; f < 2; f++) {
        issue(f == TC_MESH, &gone[f]);
        assert_int_equal(tc_revoke(authority, &gone[f].serial, f == TC_MESH ? 1 : 0, NOW), HM_OK);
        request good = ask_about(f == TC_MESH ? &mesh_issued : &edge_issued, 0);
        request revoked = ask_about(&gone[f], 0), unknown = ask_number((tc_family)f, 77);
        give(o, &good, NOW, &der);
        assert_int_equal(read_answer(&good, (tc_family)f, &der).status, V_OCSP_CERTSTATUS_GOOD);
        give(o, &revoked, NOW, &der);
        state_told told = read_answer(&revoked, (tc_family)f, &der);
        assert_int_equal(told.status, V_OCSP_CERTSTATUS_REVOKED);
        // Unspecified is said by saying nothing.
        assert_int_equal(told.reason, f == TC_MESH ? OCSP_REVOKED_STATUS_KEYCOMPROMISE
                                                   : OCSP_REVOKED_STATUS_NOSTATUS);
        give(o, &unknown, NOW, &der);
        assert_int_equal(read_answer(&unknown, (tc_family)f, &der).status,
                         V_OCSP_CERTSTATUS_UNKNOWN);
        request_free(&good);
        request_free(&revoked);
        request_free(&unknown);
    }
    assert_int_equal(answers(o, TC_OCSP_GOOD), 2);
    assert_int_equal(answers(o, TC_OCSP_REVOKED), 2);
    assert_int_equal(answers(o, TC_OCSP_UNKNOWN), 2);
    check_made_and_kept(o, 6, 0);
    hm_buf_free(&der);
    tc_ocsp_close(o);
}

static void a_serial_of_the_other_family_is_unknown(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    hm_buf der = {0};
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    serial_of(&mesh_issued, serial);
    request q = ask_for(issuing[TC_EDGE], serial, 0);
    give(o, &q, NOW, &der);
    assert_int_equal(read_answer(&q, TC_EDGE, &der).status, V_OCSP_CERTSTATUS_UNKNOWN);
    ASN1_INTEGER_free(serial);
    request_free(&q);
    hm_buf_free(&der);
    tc_ocsp_close(o);
}

static void errors_are_told_and_counted(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    hm_buf der = {0};
    char dir[64];
    tc_authority *other = NULL;
    request q = ask_about(&edge_issued, 0);
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    for (size_t len = 0; len < q.der.len; len++) { // cut short anywhere
        hm_buf_reset(&der);
        assert_int_equal(tc_ocsp_answer(o, hm_bytes_of(q.der.ptr, len), NOW, &der), HM_OK);
        assert_int_equal(status_of(&der), OCSP_RESPONSE_STATUS_MALFORMEDREQUEST);
    }
    assert_int_equal(answers(o, TC_OCSP_MALFORMED), q.der.len);
    snprintf(dir, sizeof dir, "%s/other", base);
    assert_int_equal(tc_authority_init(dir, "othermesh", NOW), HM_OK);
    assert_int_equal(tc_authority_open(dir, &other), HM_OK);
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    serial_of(&edge_issued, serial);
    request stranger = ask_for(other->family[TC_EDGE].issuing[0]->cert, serial, 0);
    give(o, &stranger, NOW, &der);
    assert_int_equal(status_of(&der), OCSP_RESPONSE_STATUS_UNAUTHORIZED);
    assert_int_equal(answers(o, TC_OCSP_UNAUTHORIZED), 1);
    check_made_and_kept(o, 0, 0);
    ASN1_INTEGER_free(serial);
    tc_authority_close(other);
    request_free(&stranger);
    request_free(&q);
    hm_buf_free(&der);
    tc_ocsp_close(o);
}

static void an_answer_is_kept_for_half_its_life_and_as_long_as_it_is_true(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    tc_issued i;
    hm_buf first = {0}, again = {0};
    issue(false, &i);
    request q = ask_about(&i, 0);
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    give(o, &q, NOW, &first);
    give(o, &q, NOW + OCSP_LIFE_MS / 2 - 1, &again);
    assert_true(hm_bytes_eq(hm_buf_bytes(&first), hm_buf_bytes(&again)));
    check_made_and_kept(o, 1, 1);
    give(o, &q, NOW + OCSP_LIFE_MS / 2, &again); // ECDSA never signs twice the same
    assert_false(hm_bytes_eq(hm_buf_bytes(&first), hm_buf_bytes(&again)));
    give(o, &q, NOW, &first); // the clock was set back: not from the future
    check_made_and_kept(o, 3, 1);
    assert_int_equal(tc_revoke(authority, &i.serial, 4, NOW), HM_OK);
    give(o, &q, NOW, &again);
    assert_int_equal(read_answer(&q, TC_EDGE, &again).status, V_OCSP_CERTSTATUS_REVOKED);
    check_made_and_kept(o, 4, 1);
    request_free(&q);
    hm_buf_free(&first);
    hm_buf_free(&again);
    tc_ocsp_close(o);
}

static void a_nonce_comes_back_as_long_as_there_are_signatures(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    hm_buf der = {0};
    request plain = ask_about(&edge_issued, 0), nonce = ask_about(&edge_issued, 32);
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    give(o, &plain, LATE, &der);
    for (unsigned n = 1; n < 2 * OCSP_SIGN_RATE; n++) {
        give(o, &nonce, LATE, &der);
        if (n == 1)
            assert_int_equal(read_answer(&nonce, TC_EDGE, &der).nonce, 1);
    }
    check_made_and_kept(o, 2 * OCSP_SIGN_RATE, 0);
    // Beyond the rate: the kept answer without the nonce (RFC 9654), and for others tryLater.
    give(o, &nonce, LATE, &der);
    assert_int_equal(read_answer(&nonce, TC_EDGE, &der).nonce, -1);
    request other = ask_number(TC_EDGE, 5);
    give(o, &other, LATE, &der);
    assert_int_equal(status_of(&der), OCSP_RESPONSE_STATUS_TRYLATER);
    assert_int_equal(answers(o, TC_OCSP_TRY_LATER), 1);
    check_made_and_kept(o, 2 * OCSP_SIGN_RATE, 1);
    // A hundredth of a second later one more is signed.
    give(o, &other, LATE + 1000 / OCSP_SIGN_RATE, &der);
    assert_int_equal(read_answer(&other, TC_EDGE, &der).status, V_OCSP_CERTSTATUS_UNKNOWN);
    check_made_and_kept(o, 2 * OCSP_SIGN_RATE + 1, 1);
    request_free(&plain);
    request_free(&nonce);
    request_free(&other);
    hm_buf_free(&der);
    tc_ocsp_close(o);
}

// ---- by GET, as libwebsockets leaves the address ------------------------------------------------

static void give_text(tc_ocsp *o, const char *text, uint64_t now_ms, hm_buf *der)
{
    hm_buf_reset(der);
    assert_int_equal(tc_ocsp_answer_text(o, text, now_ms, der), HM_OK);
}

static void a_get_is_answered_as_a_post(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    char text[OCSP_TEXT_MAX + 8];
    hm_buf posted = {0}, got = {0};
    request q;
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    for (int f = 0; f < 2; f++) {
        q = ask_about(f == TC_MESH ? &mesh_issued : &edge_issued, 0);
        (void)address_of(&q, text);
        give(o, &q, NOW, &posted);
        give_text(o, text, NOW, &got);
        assert_true(hm_bytes_eq(hm_buf_bytes(&posted), hm_buf_bytes(&got)));
        request_free(&q);
    }
    // A nonce comes back when no slash is missing.
    q = ask_about(&edge_issued, 16);
    for (unsigned n = 0; address_of(&q, text) && n < 1000; n++) {
        request_free(&q);
        q = ask_about(&edge_issued, 16);
    }
    give_text(o, text, NOW, &got);
    assert_int_equal(read_answer(&q, TC_EDGE, &got).nonce, 1);
    request_free(&q);
    hm_buf_free(&posted);
    hm_buf_free(&got);
    tc_ocsp_close(o);
}

static void lost_slashes_are_found_by_the_certificate(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    char text[OCSP_TEXT_MAX + 8];
    hm_buf der = {0};
    unsigned seen = 0;
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    for (unsigned n = 0; n < 20000 && seen < 3; n++) {
        tc_issued i;
        if (n % 256 == 0)
            assert_int_equal(tc_batch_begin(authority), HM_OK);
        issue(false, &i);
        if (n % 256 != 255)
            continue;
        assert_int_equal(tc_batch_commit(authority), HM_OK);
        for (size_t k = tc_issued_count(authority) - 256; k < tc_issued_count(authority); k++) {
            i = *tc_issued_at(authority, k);
            request q = ask_about(&i, 0);
            if (address_of(&q, text)) {
                seen++;
                give_text(o, text, NOW, &der);
                assert_int_equal(read_answer(&q, TC_EDGE, &der).status, V_OCSP_CERTSTATUS_GOOD);
                assert_int_equal(tc_revoke(authority, &i.serial, 1, NOW), HM_OK);
                give_text(o, text, NOW, &der);
                assert_int_equal(read_answer(&q, TC_EDGE, &der).status, V_OCSP_CERTSTATUS_REVOKED);
            }
            request_free(&q);
        }
    }
    assert_true(seen >= 3);
    hm_buf_free(&der);
    tc_ocsp_close(o);
}

// Of a serial that was not issued: unknown when one place alone fits, and never for another serial.
static void lost_slashes_of_what_was_not_issued(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    char text[OCSP_TEXT_MAX + 8];
    hm_buf der = {0};
    uint8_t b[TC_SERIAL_BYTES];
    unsigned told = 0, not_told = 0;
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    for (unsigned n = 0; n < 20000 && (told < 5 || not_told < 5); n++) {
        assert_int_equal(RAND_bytes(b, sizeof b), 1);
        b[0] = (b[0] & 0x7f) | 0x40;
        memset(b + 4 + n % 4, 0xff, 3 + n % 3); // slashes side by side
        if (n % 2)
            b[12] = b[13] = 0xff; // and others elsewhere
        assert_true(ASN1_STRING_set(serial, b, sizeof b));
        request q = ask_for(issuing[TC_EDGE], serial, 0);
        if (address_of(&q, text)) {
            give_text(o, text, NOW + n * 1000, &der);
            if (status_of(&der) == OCSP_RESPONSE_STATUS_SUCCESSFUL) {
                assert_int_equal(read_answer(&q, TC_EDGE, &der).status, V_OCSP_CERTSTATUS_UNKNOWN);
                told++;
            } else {
                assert_int_equal(status_of(&der), OCSP_RESPONSE_STATUS_MALFORMEDREQUEST);
                not_told++;
            }
        }
        request_free(&q);
    }
    assert_true(told >= 5 && not_told >= 5);
    ASN1_INTEGER_free(serial);
    hm_buf_free(&der);
    tc_ocsp_close(o);
}

static void a_nonce_that_lost_slashes_is_left_out(void **state)
{
    (void)state;
    tc_ocsp *o = NULL;
    char text[OCSP_TEXT_MAX + 8];
    hm_buf der = {0};
    assert_int_equal(tc_ocsp_open(authority, &o), HM_OK);
    request q = ask_about(&edge_issued, 32);
    for (unsigned n = 0; !address_of(&q, text) && n < 100000; n++) {
        request_free(&q);
        q = ask_about(&edge_issued, 32);
    }
    give_text(o, text, NOW, &der);
    state_told told = read_answer(&q, TC_EDGE, &der);
    assert_int_equal(told.status, V_OCSP_CERTSTATUS_GOOD);
    assert_int_equal(told.nonce, -1);
    request_free(&q);
    hm_buf_free(&der);
    tc_ocsp_close(o);
}

static bool count_one(void *ctx, hm_bytes der)
{
    assert_true(der.len <= OCSP_REQUEST_MAX);
    ++*(unsigned *)ctx;
    return false;
}

static void what_is_tried_has_a_limit(void **state)
{
    (void)state;
    static char text[4 * OCSP_TEXT_MAX];
    ocsp_text t;
    unsigned tries = 0;
    static const char *const bad[] = {
        "",       "AAA",          "!!!!",         "MEMwQTA/",    "MEMwQTA=MEMw",
        "M=====", "MIIIATCCB/0w", "////////////", "MAAAAAAAAAAA"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hm_err err = ocsp_text_read(bad[i], &t);
        if (err == HM_OK)
            assert_false(ocsp_text_each(&t, count_one, &tries));
        tries = 0;
    }
    // 2048 bytes are announced (30 82 07 fc) and 2700 characters of them are there, or 8.
    strcpy(text, "MIIH/DCC");
    assert_int_equal(ocsp_text_read(text, &t), HM_E_PARSE); // 2731 characters want one = behind
    strcat(text, "=");
    assert_int_equal(ocsp_text_read(text, &t), HM_OK);
    assert_false(ocsp_text_each(&t, count_one, &tries));
    assert_int_equal(tries, 1);
    strcpy(text, "MIIH/DCC");
    for (size_t n = 8; n < 100; n++)
        text[n] = n % 2 ? '/' : 'A';
    strcpy(text + 100, "=");
    tries = 0;
    assert_int_equal(ocsp_text_read(text, &t), HM_OK);
    assert_false(ocsp_text_each(&t, count_one, &tries));
    assert_int_equal(tries, OCSP_TEXT_TRIES_MAX);
    for (size_t n = 8; n < 400; n++)
        text[n] = n % 2 ? '/' : 'A';
    strcpy(text + 400, "=");
    tries = 0;
    assert_int_equal(ocsp_text_read(text, &t), HM_OK);
    assert_false(ocsp_text_each(&t, count_one, &tries));
    assert_int_equal(tries, 0); // too many places
    memset(text, 'A', sizeof text - 1);
    assert_int_equal(ocsp_text_read(text, &t), HM_E_PARSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_are_told_of_both_families),
        cmocka_unit_test(a_serial_of_the_other_family_is_unknown),
        cmocka_unit_test(errors_are_told_and_counted),
        cmocka_unit_test(an_answer_is_kept_for_half_its_life_and_as_long_as_it_is_true),
        cmocka_unit_test(a_nonce_comes_back_as_long_as_there_are_signatures),
        cmocka_unit_test(a_get_is_answered_as_a_post),
        cmocka_unit_test(lost_slashes_are_found_by_the_certificate),
        cmocka_unit_test(lost_slashes_of_what_was_not_issued),
        cmocka_unit_test(a_nonce_that_lost_slashes_is_left_out),
        cmocka_unit_test(what_is_tried_has_a_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
