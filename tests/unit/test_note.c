// Checkpoints, cosignatures, entries, SCTs and witnesses, as bytes from outside.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "trustchain/log_read.h"
#include "trustchain/trustchain.h"
#include "trustchain/witness.h"

#define NOW_MS UINT64_C(1800000000000)

static char folder[] = "/tmp/hm-note-XXXXXX";
static tc_authority *authority;
static tc_log_pub key;
static hm_buf key_pem, chain;

static void issue(unsigned count)
{
    static const char *const host[] = {"web.test"};
    hm_buf key_text = {0}, csr = {0};
    assert_int_equal(tc_server_csr(host, 1, &key_text, &csr), HM_OK);
    for (unsigned i = 0; i < count; i++) {
        hm_buf_reset(&chain);
        assert_int_equal(tc_issue_server(authority, hm_buf_bytes(&csr), NOW_MS, &chain, NULL),
                         HM_OK);
    }
    hm_buf_free_secret(&key_text);
    hm_buf_free(&csr);
}

static int setup(void **state)
{
    char dir[64];
    (void)state;
    assert_int_equal(hm_crypto_init(), HM_OK);
    assert_non_null(mkdtemp(folder));
    snprintf(dir, sizeof dir, "%s/authority", folder);
    assert_int_equal(tc_authority_init(dir, "test", NOW_MS), HM_OK);
    assert_int_equal(tc_authority_open(dir, &authority), HM_OK);
    assert_int_equal(tc_log_key(authority, &key_pem), HM_OK);
    assert_int_equal(tc_log_pub_read(hm_buf_bytes(&key_pem), &key), HM_OK);
    issue(3);
    return 0;
}

static int teardown(void **state)
{
    char command[64];
    (void)state;
    tc_authority_close(authority);
    tc_log_pub_free(&key);
    hm_buf_free(&key_pem);
    hm_buf_free(&chain);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

// The log's checkpoint, at a time when a new one is due.
static void checkpoint(hm_buf *note, tc_checkpoint *c)
{
    static uint64_t at_ms = NOW_MS;
    at_ms += 2 * TC_LOG_NEWS_MS;
    assert_int_equal(tc_log_checkpoint(authority, at_ms, note), HM_OK);
    assert_int_equal(tc_checkpoint_parse(hm_buf_bytes(note), c), HM_OK);
}

static void base64_has_one_text_for_each_value(void **state)
{
    static const char *const bad[] = {"",     "A",    "AA",   "AAA",   "AA=A",     "A===", "AB==",
                                      "AAB=", "AA-A", "AA A", "AAA\n", "AAAA====", "=AAA", "AAAAA"};
    (void)state;
    for (size_t n = 0; n < 50; n++) {
        uint8_t data[50], mem[64];
        hm_buf text = {0}, back = hm_buf_fixed(mem, sizeof mem);
        memset(data, (int)(0xf0 + n), sizeof data);
        tc_base64_put(&text, hm_bytes_of(data, n));
        if (n > 0) {
            assert_int_equal(tc_base64_read(hm_buf_bytes(&text), &back), HM_OK);
            assert_int_equal(back.len, n);
            assert_memory_equal(mem, data, n);
        }
        hm_buf_free(&text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hm_buf back = {0};
        assert_int_equal(tc_base64_read(hm_bytes_str(bad[i]), &back), HM_E_PARSE);
        assert_int_equal(back.len, 0);
        hm_buf_free(&back);
    }
}

static void what_is_no_checkpoint_is_refused(void **state)
{
#define ROOT "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
#define SIG "\xe2\x80\x94 test/log AAAAAAAA\n"
    static const char *const bad[] = {
        "",
        "test/log\n0\n" ROOT,
        "test/log\n0\n" ROOT "\n",
        "test/log\n0\n" ROOT "\nx test/log AAAAAAAA\n",
        "test/log\n0\n" ROOT "\n" SIG "x",
        "test/log\n0\n" ROOT "extension\n\n" SIG,
        "test/log\n00\n" ROOT "\n" SIG,
        "test/log\n-1\n" ROOT "\n" SIG,
        "test/log\n99999999999999999999\n" ROOT "\n" SIG,
        "test/log\n0\n47DE\n\n" SIG,
        "\n0\n" ROOT "\n" SIG,
        "test log\n0\n" ROOT "\n" SIG,
        "test+log\n0\n" ROOT "\n" SIG,
        "test/log\n0\n" ROOT "\n\xe2\x80\x94 test/log AAAA\n",
        "test/log\n0\n" ROOT "\n\xe2\x80\x94 test/log\n",
        "test/log\n0\n" ROOT "\n\xe2\x80\x94  AAAAAAAA\n",
    };
    tc_checkpoint c = {0};
    hm_buf many = {0};
    (void)state;
    assert_int_equal(tc_checkpoint_parse(hm_bytes_str("test/log\n0\n" ROOT "\n" SIG SIG), &c), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tc_checkpoint_parse(hm_bytes_str(bad[i]), &c), HM_E_PARSE);
    hm_buf_puts(&many, "test/log\n0\n" ROOT "\n");
    for (unsigned i = 0; i < TC_NOTE_SIGNATURES_MAX; i++)
        hm_buf_puts(&many, SIG);
    assert_int_equal(tc_checkpoint_parse(hm_buf_bytes(&many), &c), HM_OK);
    hm_buf_puts(&many, SIG);
    assert_int_equal(tc_checkpoint_parse(hm_buf_bytes(&many), &c), HM_E_LIMIT);
    while (many.len <= TC_NOTE_MAX)
        hm_buf_puts(&many, SIG);
    assert_int_equal(tc_checkpoint_parse(hm_buf_bytes(&many), &c), HM_E_LIMIT);
    hm_buf_free(&many);
}

static void a_changed_checkpoint_does_not_verify(void **state)
{
    hm_buf note = {0};
    tc_checkpoint c;
    uint64_t time_ms;
    (void)state;
    checkpoint(&note, &c);
    assert_int_equal(tc_checkpoint_verify(&c, &key, &time_ms), HM_OK);
    assert_true(time_ms > NOW_MS);
    for (size_t i = 0; i < note.len; i++) {
        note.ptr[i] ^= 1;
        tc_checkpoint d;
        // Its origin is not signed, but names the key.
        if (tc_checkpoint_parse(hm_buf_bytes(&note), &d) == HM_OK)
            assert_int_equal(tc_checkpoint_verify(&d, &key, &time_ms), HM_E_SIGNATURE);
        note.ptr[i] ^= 1;
    }
    hm_buf_free(&note);
}

static void an_entry_and_its_sct_agree(void **state)
{
    hm_buf data = {0}, note = {0};
    tc_checkpoint c;
    tc_leaf leaf;
    tc_logged logged;
    X509 *x = NULL;
    BIO *mem = BIO_new_mem_buf(chain.ptr, (int)chain.len);
    X509 *cert = PEM_read_bio_X509(mem, NULL, NULL, NULL);
    X509 *issuing = PEM_read_bio_X509(mem, NULL, NULL, NULL);
    (void)state;
    checkpoint(&note, &c);
    assert_int_equal(tc_cert_logged(cert, issuing, &key, &logged), HM_OK);
    assert_int_equal(tc_cert_logged(cert, cert, &key, &logged), HM_E_SIGNATURE);
    assert_int_equal(tc_cert_logged(issuing, issuing, &key, &logged), HM_E_NOTFOUND);
    assert_int_equal(logged.index, c.size - 1);
    assert_int_equal(tc_log_entries(authority, 0, (unsigned)c.size, &data), HM_OK);
    hm_bytes rest = hm_buf_bytes(&data);
    size_t first = 0; // entries differ in length, as signatures do
    for (uint64_t i = 0; i < c.size; i++) {
        assert_int_equal(tc_leaf_next(&rest, &leaf), HM_OK);
        assert_int_equal(leaf.index, i);
        if (i == 0)
            first = data.len - rest.len;
    }
    assert_int_equal(rest.len, 0);
    assert_int_equal(tc_leaf_next(&rest, &leaf), HM_E_PARSE);
    assert_true(hm_hash_eq(&leaf.hash, &logged.leaf));
    assert_int_equal(tc_leaf_cert(&leaf, &x), HM_OK);
    assert_int_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(x), X509_get0_serialNumber(cert)), 0);
    X509_free(x);
    for (size_t cut = 1; cut < first; cut++) { // nothing is read beyond the end
        rest = hm_bytes_of(data.ptr, cut);
        assert_int_equal(tc_leaf_next(&rest, &leaf), HM_E_PARSE);
    }
    X509_free(cert);
    X509_free(issuing);
    BIO_free(mem);
    hm_buf_free(&data);
    hm_buf_free(&note);
}

static void lists_of_scts_have_a_limit(void **state)
{
    hm_buf list = {0};
    tc_sct scts[TC_SCTS_MAX];
    size_t count;
    (void)state;
    for (unsigned n = 1; n <= TC_SCTS_MAX + 1; n++) {
        hm_buf_reset(&list);
        hm_wr_u16(&list, (uint16_t)(n * 49));
        for (unsigned i = 0; i < n; i++) {
            uint8_t body[47] = {0};
            hm_wr_u16(&list, sizeof body);
            hm_wr_raw(&list, body, sizeof body);
        }
        hm_err err = tc_sct_list(hm_buf_bytes(&list), scts, &count);
        assert_int_equal(err, n <= TC_SCTS_MAX ? HM_OK : HM_E_LIMIT);
        assert_int_equal(count, n <= TC_SCTS_MAX ? n : TC_SCTS_MAX);
    }
    hm_buf_free(&list);
}

static void tiles_have_the_paths_of_the_specification(void **state)
{
    static const struct {
        unsigned level;
        uint64_t index;
        unsigned width;
        const char *path;
    } is[] = {{0, 0, 256, "tile/0/000"},
              {1, 67, 12, "tile/1/067.p/12"},
              {TC_TILE_DATA, 1234067, 256, "tile/data/x001/x234/067"},
              {2, 1000, 1, "tile/2/x001/000.p/1"},
              {5, UINT64_C(1) << 32, 255, "tile/5/x004/x294/x967/296.p/255"}};
    char path[TC_TILE_PATH_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof is / sizeof is[0]; i++) {
        tc_tile_path(is[i].level, is[i].index, is[i].width, path);
        assert_string_equal(path, is[i].path);
    }
    // The example of static-ct-api: a tree of 70000.
    assert_int_equal(tc_tile_width(0, 272, 70000), 256);
    assert_int_equal(tc_tile_width(TC_TILE_DATA, 273, 70000), 112);
    assert_int_equal(tc_tile_width(0, 274, 70000), 0);
    assert_int_equal(tc_tile_width(1, 0, 70000), 256);
    assert_int_equal(tc_tile_width(1, 1, 70000), 17);
    assert_int_equal(tc_tile_width(2, 0, 70000), 1);
    assert_int_equal(tc_tile_width(3, 0, 70000), 0);
}

// ---- witnesses ----------------------------------------------------------------------------------

static unsigned add(tc_witness *w, uint64_t old, hm_bytes note, hm_buf *line)
{
    hm_hash proof[TC_PROOF_MAX];
    size_t count = 0;
    tc_checkpoint c;
    hm_buf body = {0};
    tc_witness_answer a;
    assert_int_equal(tc_checkpoint_parse(note, &c), HM_OK);
    if (old > 0 && old <= c.size)
        assert_int_equal(tc_log_prove_consistency(authority, old, c.size, proof, &count), HM_OK);
    assert_int_equal(tc_add_checkpoint_put(old, proof, count, note, &body), HM_OK);
    tc_witness_add(w, hm_buf_bytes(&body), NOW_MS, &a);
    if (line) {
        hm_buf_reset(line);
        hm_buf_put(line, hm_buf_bytes(&a.body));
    }
    hm_buf_free(&a.body);
    hm_buf_free(&body);
    return a.status;
}

static void cosigned_by(hm_bytes note, hm_bytes line, const tc_witness_key *k, hm_err expected)
{
    hm_buf both = {0};
    tc_checkpoint c;
    uint64_t time_s = 0;
    hm_buf_put(&both, note);
    hm_buf_put(&both, line);
    assert_int_equal(tc_checkpoint_parse(hm_buf_bytes(&both), &c), HM_OK);
    assert_int_equal(tc_cosignature_verify(&c, k, &time_s), expected);
    if (expected == HM_OK)
        assert_int_equal(time_s, NOW_MS / 1000);
    hm_buf_free(&both);
}

static void a_witness_goes_on_from_what_it_cosigned(void **state)
{
    hm_buf first = {0}, second = {0}, line = {0}, vkey = {0};
    tc_checkpoint c, d;
    tc_witness *w;
    tc_witness_key k;
    (void)state;
    assert_int_equal(tc_witness_open(folder, "w1.test", "test/log", hm_buf_bytes(&key_pem), &w),
                     HM_OK);
    checkpoint(&first, &c);
    issue(5);
    checkpoint(&second, &d);
    assert_int_equal(add(w, 0, hm_buf_bytes(&first), &line), 200);
    tc_witness_key_put(tc_witness_public(w), &vkey);
    assert_int_equal(tc_witness_key_parse(hm_buf_bytes(&vkey), &k), HM_OK);
    cosigned_by(hm_buf_bytes(&first), hm_buf_bytes(&line), &k, HM_OK);
    cosigned_by(hm_buf_bytes(&second), hm_buf_bytes(&line), &k, HM_E_SIGNATURE);
    cosigned_by(hm_buf_bytes(&second), (hm_bytes){0}, &k, HM_E_NOTFOUND);
    assert_int_equal(add(w, 0, hm_buf_bytes(&second), &line), 409);
    assert_int_equal(strtoull(hm_buf_cstr(&line), NULL, 10), c.size);
    assert_int_equal(add(w, c.size + 9, hm_buf_bytes(&second), NULL), 400);
    char path[80];
    struct stat before, after;
    snprintf(path, sizeof path, "%s/witness.checkpoint", folder);
    assert_int_equal(stat(path, &before), 0);
    for (unsigned i = 0; i < 3; i++) // the same again, without a write
        assert_int_equal(add(w, c.size, hm_buf_bytes(&first), NULL), 200);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    assert_int_equal(add(w, c.size, hm_buf_bytes(&second), &line), 200);
    cosigned_by(hm_buf_bytes(&second), hm_buf_bytes(&line), &k, HM_OK);
    // It remembers, and what it keeps is a checkpoint with both signatures.
    tc_witness_close(w);
    assert_int_equal(tc_witness_open(folder, "w1.test", "test/log", hm_buf_bytes(&key_pem), &w),
                     HM_OK);
    assert_int_equal(add(w, c.size, hm_buf_bytes(&first), &line), 409);
    assert_int_equal(strtoull(hm_buf_cstr(&line), NULL, 10), d.size);
    cosigned_by(tc_witness_checkpoint(w), (hm_bytes){0}, &k, HM_OK);
    tc_witness_close(w);
    assert_int_equal(tc_witness_open(folder, "w1.test", "other/log", hm_buf_bytes(&key_pem), &w),
                     HM_E_CORRUPT);
    hm_buf_free(&first);
    hm_buf_free(&second);
    hm_buf_free(&line);
    hm_buf_free(&vkey);
}

static void a_witness_refuses_what_is_no_continuation(void **state)
{
    char dir[64];
    hm_buf note = {0}, body = {0}, forged = {0};
    tc_checkpoint c;
    tc_witness *w;
    tc_witness_answer a;
    hm_hash proof[TC_PROOF_MAX] = {{{1}}};
    size_t count;
    (void)state;
    snprintf(dir, sizeof dir, "%s/w2", folder);
    assert_int_equal(hm_dir_make(dir), HM_OK);
    assert_int_equal(tc_witness_open(dir, "w2.test", "test/log", hm_buf_bytes(&key_pem), &w),
                     HM_OK);
    checkpoint(&note, &c);
    assert_int_equal(tc_add_checkpoint_put(0, proof, 1, hm_buf_bytes(&note), &body), HM_OK);
    tc_witness_add(w, hm_buf_bytes(&body), NOW_MS, &a);
    assert_int_equal(a.status, 422); // a proof where none is needed
    assert_int_equal(add(w, 0, hm_buf_bytes(&note), NULL), 200);
    uint64_t old = c.size;
    issue(4);
    hm_buf_reset(&note);
    checkpoint(&note, &c);
    assert_int_equal(tc_log_prove_consistency(authority, old, c.size, proof, &count), HM_OK);
    for (size_t i = 0; i < count; i++) { // each hash of the proof matters
        proof[i].b[7] ^= 1;
        hm_buf_reset(&body);
        assert_int_equal(tc_add_checkpoint_put(old, proof, count, hm_buf_bytes(&note), &body), 0);
        tc_witness_add(w, hm_buf_bytes(&body), NOW_MS, &a);
        assert_int_equal(a.status, 422);
        assert_int_equal(a.body.len, 0);
        proof[i].b[7] ^= 1;
    }
    hm_buf_put(&forged, hm_buf_bytes(&note));
    size_t at = forged.len - 3;
    for (forged.ptr[at] ^= 1; tc_checkpoint_parse(hm_buf_bytes(&forged), &c) != HM_OK;) {
        forged.ptr[at] ^= 1; // it was base64 no more
        forged.ptr[--at] ^= 1;
    }
    assert_true(at > forged.len - 40); // in the signature
    assert_int_equal(add(w, old, hm_buf_bytes(&forged), NULL), 403);
    hm_buf_reset(&forged);
    hm_buf_puts(&forged, "old 0\n\nelse/log\n0\n" ROOT "\n" SIG);
    tc_witness_add(w, hm_buf_bytes(&forged), NOW_MS, &a);
    assert_int_equal(a.status, 404);
    tc_witness_add(w, hm_bytes_str("old 0\n"), NOW_MS, &a);
    assert_int_equal(a.status, 400);
    assert_int_equal(add(w, old, hm_buf_bytes(&note), NULL), 200);
    tc_witness_close(w);
    hm_buf_free(&note);
    hm_buf_free(&body);
    hm_buf_free(&forged);
}

static void an_add_checkpoint_has_limits(void **state)
{
    hm_hash proof[TC_WITNESS_PROOF_MAX + 1] = {0};
    tc_add_checkpoint a;
    hm_buf body = {0};
    const hm_bytes note = hm_bytes_str("test/log\n0\n" ROOT "\n" SIG);
    (void)state;
    assert_int_equal(tc_add_checkpoint_put(7, proof, TC_WITNESS_PROOF_MAX, note, &body), HM_OK);
    assert_int_equal(tc_add_checkpoint_parse(hm_buf_bytes(&body), &a), HM_OK);
    assert_int_equal(a.old_size, 7);
    assert_int_equal(a.count, TC_WITNESS_PROOF_MAX);
    hm_buf_reset(&body);
    assert_int_equal(tc_add_checkpoint_put(7, proof, TC_WITNESS_PROOF_MAX + 1, note, &body), HM_OK);
    assert_int_equal(tc_add_checkpoint_parse(hm_buf_bytes(&body), &a), HM_E_LIMIT);
    hm_buf_free(&body);
}

static void policies(void **state)
{
    tc_witness *w;
    tc_witness_policy p;
    char dir[64];
    hm_buf vkey = {0}, text = {0};
    (void)state;
    snprintf(dir, sizeof dir, "%s/w3", folder);
    assert_int_equal(hm_dir_make(dir), HM_OK);
    assert_int_equal(tc_witness_open(dir, "w3.test", "test/log", hm_buf_bytes(&key_pem), &w),
                     HM_OK);
    tc_witness_key_put(tc_witness_public(w), &vkey);
    hm_buf_printf(&text, "# ours\n\n\twitness w3  %s  https://[::1]:8444/witness \n",
                  hm_buf_cstr(&vkey));
    assert_int_equal(tc_witness_policy_parse(hm_buf_bytes(&text), &p), HM_OK);
    assert_int_equal(p.count, 1);
    assert_string_equal(p.witness[0].key.name, "w3.test");
    assert_string_equal(p.witness[0].url, "https://[::1]:8444/witness");
    size_t one = text.len;
    hm_buf_printf(&text, "witness again %s\n", hm_buf_cstr(&vkey));
    assert_int_equal(tc_witness_policy_parse(hm_buf_bytes(&text), &p), HM_E_PARSE); // the same key
    text.len = one;
    hm_buf_puts(&text, "quorum w3\n");
    assert_int_equal(tc_witness_policy_parse(hm_buf_bytes(&text), &p), HM_E_PARSE);
    text.len = one - 1; // without the last newline
    assert_int_equal(tc_witness_policy_parse(hm_buf_bytes(&text), &p), HM_E_PARSE);
    assert_int_equal(tc_witness_policy_parse(hm_bytes_str("# nobody\n"), &p), HM_E_PARSE);
    vkey.ptr[10] ^= 1; // in its id
    tc_witness_key k;
    assert_int_equal(tc_witness_key_parse(hm_buf_bytes(&vkey), &k), HM_E_PARSE);
    tc_witness_close(w);
    hm_buf_free(&vkey);
    hm_buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_has_one_text_for_each_value),
        cmocka_unit_test(what_is_no_checkpoint_is_refused),
        cmocka_unit_test(a_changed_checkpoint_does_not_verify),
        cmocka_unit_test(an_entry_and_its_sct_agree),
        cmocka_unit_test(lists_of_scts_have_a_limit),
        cmocka_unit_test(tiles_have_the_paths_of_the_specification),
        cmocka_unit_test(a_witness_goes_on_from_what_it_cosigned),
        cmocka_unit_test(a_witness_refuses_what_is_no_continuation),
        cmocka_unit_test(an_add_checkpoint_has_limits),
        cmocka_unit_test(policies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
