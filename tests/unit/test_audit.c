// The audit log and the tokens with roles.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/audit.h"
#include "server/tokens.h"

static char dir[] = "/tmp/hm-audit-XXXXXX", path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/file", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static int fresh(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static void says(const char *words)
{
    if (!strstr(hm_err_detail(), words))
        fail_msg("\"%s\" does not say \"%s\"", hm_err_detail(), words);
}

static audit_log *opened(void)
{
    audit_log *a;
    assert_int_equal(audit_open(path, &a), HM_OK);
    return a;
}

static void act(audit_log *a, const char *subject)
{
    audit_entry e = {.at_ms = 1764158400000, .who = "alice", .from = "::1", .act = "issued"};
    snprintf(e.subject, sizeof e.subject, "%s", subject);
    assert_int_equal(audit_add(a, &e, false), HM_OK);
}

static hm_buf content(void)
{
    hm_buf b = {0};
    assert_int_equal(hm_file_read(path, 1 << 20, &b), HM_OK);
    return b;
}

typedef struct seen {
    unsigned count;
    uint64_t n[16];
    hm_hash prev[16], hash[16];
} seen;

static hm_err see(void *ctx, hm_bytes line)
{
    seen *s = ctx;
    audit_entry e;
    HM_TRY(audit_line_read(line, &e));
    s->n[s->count] = e.n;
    s->prev[s->count] = e.prev;
    s->hash[s->count++] = hm_sha256(line);
    return HM_OK;
}

static void test_chain(void **state)
{
    (void)state;
    audit_log *a = opened();
    uint64_t n, next;
    hm_hash head;
    audit_head(a, &n, &head);
    assert_int_equal(n, 0);
    assert_true(hm_hash_is_zero(&head));
    act(a, "one");
    act(a, "t\"w\no\xff"); // quoted; what is no UTF-8 is replaced
    audit_close(a);
    a = opened(); // goes on where it was
    act(a, "three");
    seen s = {0};
    assert_int_equal(audit_page(a, 0, 2, see, &s, &next), HM_OK);
    assert_int_equal(s.count, 2);
    assert_true(next > 0);
    assert_int_equal(audit_page(a, next, 2, see, &s, &next), HM_OK);
    assert_int_equal(s.count, 3);
    assert_int_equal(next, 0);
    audit_head(a, &n, &head);
    assert_int_equal(n, 3);
    assert_true(hm_hash_eq(&head, &s.hash[0]));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(s.n[i], 3 - i);
    assert_true(hm_hash_eq(&s.prev[0], &s.hash[1]) && hm_hash_eq(&s.prev[1], &s.hash[2]));
    assert_true(hm_hash_is_zero(&s.prev[2]));
    // Cursors that are none.
    assert_int_equal(audit_page(a, 1, 1, see, &s, &next), HM_E_RANGE);
    assert_int_equal(audit_page(a, 1 << 20, 1, see, &s, &next), HM_E_RANGE);
    audit_close(a);
}

// A crash in the middle of a line, at each of its bytes: the line is gone, the ones before it stay.
static void test_torn(void **state)
{
    (void)state;
    audit_log *a = opened();
    act(a, "one");
    act(a, "two");
    audit_close(a);
    hm_buf whole = content();
    size_t first = (size_t)((uint8_t *)memchr(whole.ptr, '\n', whole.len) - whole.ptr) + 1;
    for (size_t cut = first; cut < whole.len; cut++) {
        uint64_t n;
        hm_hash head, wanted = hm_sha256(hm_bytes_of(whole.ptr, first - 1));
        assert_int_equal(hm_file_write(path, hm_bytes_of(whole.ptr, cut), 0600), HM_OK);
        a = opened();
        audit_head(a, &n, &head);
        assert_int_equal(n, 1);
        assert_true(hm_hash_eq(&head, &wanted));
        act(a, "two");
        audit_close(a);
        hm_buf again = content();
        assert_int_equal(again.len, whole.len);
        assert_memory_equal(again.ptr, whole.ptr, whole.len);
        hm_buf_free(&again);
    }
    hm_buf_free(&whole);
}

static void test_damage(void **state)
{
    (void)state;
    audit_log *a;
    const char *const bad[] = {
        "hello\n",
        "{}\n",
        ("{\"n\":1,\"at_ms\":0,\"who\":\"\",\"from\":\"\",\"act\":\"\",\"subject\":\"\",\"serial\":"
         "\"\",\"detail\":\"\",\"prev\":\"00\"}\n"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(hm_file_write(path, hm_bytes_str(bad[i]), 0600), HM_OK);
        assert_int_equal(audit_open(path, &a), HM_E_CORRUPT);
        says("none of the audit log");
    }
    unlink(path);
    a = opened();
    act(a, "one");
    audit_close(a);
    hm_buf b = content();
    audit_entry e;
    assert_int_equal(audit_line_read(hm_bytes_of(b.ptr, b.len - 1), &e), HM_OK);
    // The same fields, written otherwise.
    hm_buf_reset(&b);
    hm_buf_puts(&b, "{ \"n\":1,\"at_ms\":1764158400000,\"who\":\"alice\",\"from\":\"::1\",\"act\":"
                    "\"issued\",\"subject\":\"one\",\"serial\":\"\",\"detail\":\"\",\"prev\":\"");
    for (int i = 0; i < 64; i++)
        hm_buf_puts(&b, "0");
    hm_buf_puts(&b, "\"}");
    assert_int_equal(audit_line_read(hm_buf_bytes(&b), &e), HM_E_CORRUPT);
    says("not as the audit log writes it");
    hm_buf_free(&b);
    // A line longer than any.
    char *much = calloc(1, 3 * AUDIT_LINE_MAX);
    memset(much, 'x', 3 * AUDIT_LINE_MAX - 2);
    assert_int_equal(hm_file_write(path, hm_bytes_str(much), 0600), HM_OK);
    assert_int_equal(audit_open(path, &a), HM_E_CORRUPT);
    free(much);
}

// A disk that is full, as the limit of a file's size has it: nothing of the line stays.
static void test_full(void **state)
{
    (void)state;
    audit_log *a = opened();
    act(a, "one");
    hm_buf before = content();
    struct rlimit was, now;
    getrlimit(RLIMIT_FSIZE, &was);
    now = was;
    now.rlim_cur = before.len + 20;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &now);
    audit_entry e = {.act = "two"};
    hm_err err = audit_add(a, &e, true);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_not_equal(err, HM_OK);
    hm_buf after = content();
    assert_int_equal(after.len, before.len);
    act(a, "two");
    uint64_t n;
    hm_hash head;
    audit_head(a, &n, &head);
    assert_int_equal(n, 2);
    audit_close(a);
    audit_close(opened());
    hm_buf_free(&before);
    hm_buf_free(&after);
}

typedef struct syncer {
    audit_log *a;
    atomic_bool stop;
    hm_err err;
} syncer;

static void *sync_always(void *arg)
{
    syncer *s = arg;
    while (!atomic_load(&s->stop) && s->err == HM_OK)
        s->err = audit_sync(s->a);
    return NULL;
}

// Another thread waits for the disk, so that the one that adds need not; TSan looks on.
static void test_sync_beside(void **state)
{
    (void)state;
    syncer s = {.a = opened()};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, sync_always, &s), 0);
    for (int i = 0; i < 100; i++) {
        const audit_entry e = {.act = "issued"};
        assert_int_equal(audit_add(s.a, &e, i % 10 == 0), HM_OK);
    }
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(s.err, HM_OK);
    uint64_t n;
    hm_hash head;
    audit_head(s.a, &n, &head);
    assert_int_equal(n, 100);
    audit_close(s.a);
    audit_close(opened()); // the chain is whole
}

// ---- tokens -------------------------------------------------------------------------------------

static void test_tokens(void **state)
{
    (void)state;
    char alice[TOKEN_TEXT_MAX], bob[TOKEN_TEXT_MAX];
    token_list l;
    assert_int_equal(tokens_load(path, &l), HM_OK); // no file, nobody
    assert_int_equal(l.count, 0);
    assert_int_equal(tokens_add(path, "alice", HM_HTTP_OPERATOR, 0, 1000, alice), HM_OK);
    assert_int_equal(tokens_add(path, "bob", HM_HTTP_VIEWER, 2, 1000, bob), HM_OK);
    assert_int_equal(tokens_add(path, "bob", HM_HTTP_VIEWER, 2, 1000, bob), HM_E_EXISTS);
    assert_int_equal(tokens_add(path, "api.token", HM_HTTP_VIEWER, 2, 1000, bob), HM_E_EXISTS);
    assert_int_equal(tokens_add(path, "two words", HM_HTTP_VIEWER, 2, 1000, bob), HM_E_INVALID);
    assert_int_equal(tokens_add(path, "", HM_HTTP_VIEWER, 2, 1000, bob), HM_E_INVALID);
    hm_buf text = content();
    assert_null(strstr(hm_buf_cstr(&text), alice)); // the file does not hold it
    hm_buf_free(&text);
    assert_int_equal(tokens_load(path, &l), HM_OK);
    const token_info *t = tokens_find(&l, hm_bytes_str(alice), UINT64_MAX);
    assert_non_null(t);
    assert_string_equal(t->name, "alice");
    assert_int_equal(t->role, HM_HTTP_OPERATOR);
    assert_non_null(tokens_find(&l, hm_bytes_str(bob), 1000 + 2 * 86400000 - 1));
    assert_null(tokens_find(&l, hm_bytes_str(bob), 1000 + 2 * 86400000));
    assert_null(tokens_find(&l, hm_bytes_str("x"), 0));
    assert_null(tokens_find(&l, hm_bytes_str(""), 0));
    tokens_free(&l);
    assert_int_equal(tokens_remove(path, "alice"), HM_OK);
    assert_int_equal(tokens_remove(path, "alice"), HM_E_NOTFOUND);
    assert_int_equal(tokens_load(path, &l), HM_OK);
    assert_int_equal(l.count, 1);
    assert_null(tokens_find(&l, hm_bytes_str(alice), 0));
    tokens_free(&l);
}

static void test_tokens_follow(void **state)
{
    (void)state;
    char token[TOKEN_TEXT_MAX];
    tokens_file f = {.path = path};
    assert_false(tokens_follow(&f));
    assert_int_equal(tokens_add(path, "alice", HM_HTTP_VIEWER, 0, 1000, token), HM_OK);
    assert_true(tokens_follow(&f));
    assert_false(tokens_follow(&f));
    assert_int_equal(f.list.count, 1);
    assert_int_equal(hm_file_write(path, hm_bytes_str("broken\n"), 0600), HM_OK);
    assert_true(tokens_follow(&f));
    assert_int_equal(f.list.count, 0); // nobody gets in
    unlink(path);
    assert_true(tokens_follow(&f));
    tokens_free(&f.list);
}

#define ZERO "0000000000000000000000000000000000000000000000000000000000000000"

static void test_tokens_refused(void **state)
{
    (void)state;
    const struct {
        const char *text, *says;
    } bad[] = {
        {"alice operator " ZERO " 1\n", "line 1: five words"},
        {"alice operator " ZERO " 1 2 3\n", "line 1: five words"},
        {"# a comment\n\nal/ice operator " ZERO " 1 2\n", "line 3: no name"},
        {"alice king " ZERO " 1 2\n", "a role is viewer"},
        {"alice viewer 00 1 2\n", "no SHA-256"},
        {"alice viewer " ZERO " -1 2\n", "no time"},
        {"alice viewer " ZERO " 1 2x\n", "no time"},
        {"a viewer " ZERO " 1 2\na viewer " ZERO " 1 2\n", "line 2: a is there twice"},
    };
    token_list l;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(tokens_parse(hm_bytes_str(bad[i].text), &l), HM_OK);
        says(bad[i].says);
    }
    assert_int_equal(tokens_parse(hm_bytes_str("a viewer " ZERO " 1 0"), &l), HM_OK);
    assert_int_equal(l.count, 1);
    tokens_free(&l);
    hm_buf many = {0};
    for (unsigned i = 0; i <= TOKENS_MAX; i++)
        hm_buf_printf(&many, "t%u viewer " ZERO " 1 0\n", i);
    assert_int_equal(tokens_parse(hm_buf_bytes(&many), &l), HM_E_LIMIT);
    hm_buf_free(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_chain, fresh),
        cmocka_unit_test_setup(test_torn, fresh),
        cmocka_unit_test_setup(test_damage, fresh),
        cmocka_unit_test_setup(test_full, fresh),
        cmocka_unit_test_setup(test_sync_beside, fresh),
        cmocka_unit_test_setup(test_tokens, fresh),
        cmocka_unit_test_setup(test_tokens_follow, fresh),
        cmocka_unit_test_setup(test_tokens_refused, fresh),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
