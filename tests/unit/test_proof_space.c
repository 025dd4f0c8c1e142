#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mesh/proof_space_file.h"

static char dir[] = "/tmp/hm-space-XXXXXX";
static char path[PATH_MAX];
static const hm_node_id node = {{0xaa, 0xbb}};

// 2^8 labels with parts small enough that there are several.
static hm_space_params small(void)
{
    hm_space_params p = hm_space_params_default(8);
    p.seal_challenges = 40;
    p.seal_grind_bits = 6;
    return p;
}

static void sealed(const hm_space_params *p, hm_space_commitment *c)
{
    unlink(path);
    assert_int_equal(hm_space_seal(p, &node, 3, path, NULL, c), HM_OK);
}

static hm_space_sector *opened(void)
{
    hm_space_sector *s = NULL;
    assert_int_equal(hm_space_open(path, &s), HM_OK);
    return s;
}

static void flip(off_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t b;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, at), 1);
    b ^= 0x10;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    close(fd);
}

static void parents_come_before_and_the_expander_is_regular(void **state)
{
    (void)state;
    for (uint8_t n = HM_SPACE_NODES_LOG2_MIN; n <= 12; n += 3) {
        hm_space_params p = hm_space_params_default(n);
        uint32_t nodes = 1u << n;
        uint32_t *out_degree = calloc(nodes, sizeof *out_degree);
        assert_non_null(out_degree);
        for (uint32_t v = 0; v < nodes; v++) {
            space_parents x;
            space_parents_of(&p, v, &x);
            assert_int_equal(x.drg_count, v == 0 ? 0 : p.drg_parents);
            assert_int_equal(x.exp_count, 8);
            if (v > 0)
                assert_int_equal(x.node[0], v - 1);
            for (uint32_t k = 0; k < x.drg_count; k++)
                assert_true(x.node[k] < v);
            for (uint32_t k = 0; k < x.exp_count; k++)
                out_degree[x.node[x.drg_count + k]]++;
        }
        for (uint32_t v = 0; v < nodes; v++)
            assert_int_equal(out_degree[v], 8);
        free(out_degree);
    }
}

static void seal_answer_and_check(void **state)
{
    (void)state;
    hm_space_params p = small();
    hm_space_commitment c;
    sealed(&p, &c);
    hm_space_sector *s = opened();
    const hm_space_info *info = hm_space_sector_info(s);
    assert_memory_equal(info->node.b, node.b, 32);
    assert_int_equal(info->sector, 3);
    assert_memory_equal(info->commitment.labels.b, c.labels.b, 32);
    assert_true(hm_space_seal_parts(&p) > 1);
    hm_node_id other = {{1}};
    hm_buf part = {0};
    for (uint32_t i = 0; i < hm_space_seal_parts(&p); i++) {
        hm_buf_reset(&part);
        assert_int_equal(hm_space_sector_seal_part(s, i, &part), HM_OK);
        assert_true(part.len <= HM_SPACE_PART_MAX);
        hm_bytes b = hm_buf_bytes(&part);
        assert_int_equal(hm_space_seal_part_verify(&p, &node, 3, &c, i, b), HM_OK);
        uint32_t next = (i + 1) % hm_space_seal_parts(&p);
        assert_int_equal(hm_space_seal_part_verify(&p, &node, 3, &c, next, b), HM_E_PROOF_SPACE);
        assert_int_equal(hm_space_seal_part_verify(&p, &other, 3, &c, i, b), HM_E_PROOF_SPACE);
        assert_int_equal(hm_space_seal_part_verify(&p, &node, 4, &c, i, b), HM_E_PROOF_SPACE);
        hm_space_params q = p;
        q.layers++;
        assert_int_equal(hm_space_seal_part_verify(&q, &node, 3, &c, i, b), HM_E_PROOF_SPACE);
    }
    assert_int_equal(hm_space_sector_seal_part(s, 99, &part), HM_E_RANGE);
    assert_int_equal(hm_space_seal_part_verify(&p, &node, 3, &c, 99, hm_buf_bytes(&part)),
                     HM_E_PROOF_SPACE);
    hm_buf a = {0};
    for (int i = 0; i < 50; i++) {
        hm_hash seed = {{(uint8_t)i}}, wrong = {{(uint8_t)i, 1}};
        hm_buf_reset(&a);
        assert_int_equal(hm_space_answer(s, &seed, &a), HM_OK);
        hm_bytes b = hm_buf_bytes(&a);
        assert_int_equal(hm_space_answer_verify(&p, &node, 3, &c, &seed, b), HM_OK);
        assert_int_equal(hm_space_answer_verify(&p, &node, 3, &c, &wrong, b), HM_E_PROOF_SPACE);
        assert_int_equal(hm_space_answer_verify(&p, &other, 3, &c, &seed, b), HM_E_PROOF_SPACE);
    }
    assert_int_equal(hm_space_scrub(s), HM_OK);
    hm_buf_free(&a);
    hm_buf_free(&part);
    hm_space_close(s);
}

static void every_changed_byte_is_refused(void **state)
{
    (void)state;
    hm_space_params p = small();
    hm_space_commitment c;
    sealed(&p, &c);
    hm_space_sector *s = opened();
    hm_hash seed = {{1}};
    hm_buf a = {0}, part = {0};
    assert_int_equal(hm_space_answer(s, &seed, &a), HM_OK);
    assert_int_equal(hm_space_sector_seal_part(s, 0, &part), HM_OK);
    for (size_t i = 0; i < a.len; i++) {
        a.ptr[i] ^= 1;
        assert_int_equal(hm_space_answer_verify(&p, &node, 3, &c, &seed, hm_buf_bytes(&a)),
                         HM_E_PROOF_SPACE);
        a.ptr[i] ^= 1;
    }
    for (size_t i = 0; i < part.len; i += 37) {
        part.ptr[i] ^= 0x80;
        assert_int_equal(hm_space_seal_part_verify(&p, &node, 3, &c, 0, hm_buf_bytes(&part)),
                         HM_E_PROOF_SPACE);
        part.ptr[i] ^= 0x80;
    }
    for (size_t n = 0; n < part.len; n += 41)
        assert_int_equal(hm_space_seal_part_verify(&p, &node, 3, &c, 0, hm_bytes_of(part.ptr, n)),
                         HM_E_PROOF_SPACE);
    for (size_t n = 0; n < a.len; n += 41)
        assert_int_equal(hm_space_answer_verify(&p, &node, 3, &c, &seed, hm_bytes_of(a.ptr, n)),
                         HM_E_PROOF_SPACE);
    hm_buf_append(&part, "", 1);
    hm_buf_append(&a, "", 1);
    assert_int_equal(hm_space_seal_part_verify(&p, &node, 3, &c, 0, hm_buf_bytes(&part)),
                     HM_E_PROOF_SPACE);
    assert_int_equal(hm_space_answer_verify(&p, &node, 3, &c, &seed, hm_buf_bytes(&a)),
                     HM_E_PROOF_SPACE);
    hm_space_commitment bad = c;
    bad.nonce++;
    part.len--;
    assert_int_equal(hm_space_seal_part_verify(&p, &node, 3, &bad, 0, hm_buf_bytes(&part)),
                     HM_E_PROOF_SPACE);
    hm_buf_free(&a);
    hm_buf_free(&part);
    hm_space_close(s);
}

static void params_out_of_range_are_named(void **state)
{
    (void)state;
    hm_space_params p = small();
    uint8_t bytes[HM_SPACE_PARAMS_BYTES];
    hm_buf b = hm_buf_fixed(bytes, sizeof bytes);
    hm_space_params_write(&b, &p);
    assert_int_equal(b.len, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        uint8_t kept = bytes[i];
        for (int v = 0; v < 256; v++) {
            bytes[i] = (uint8_t)v;
            hm_space_params q;
            hm_rd r = hm_rd_of(hm_buf_bytes(&b));
            hm_space_params_read(&r, &q);
            if (hm_rd_ok(&r)) // within all limits: sizes must be computable
                assert_true(hm_space_seal_parts(&q) <= HM_SPACE_PARTS_MAX &&
                            hm_space_answer_bytes(&q) <= HM_SPACE_ANSWER_MAX);
        }
        bytes[i] = kept;
    }
    for (uint8_t n = HM_SPACE_NODES_LOG2_MIN; n <= HM_SPACE_NODES_LOG2_MAX; n++) {
        p = hm_space_params_default(n);
        assert_int_equal(hm_space_params_check(&p), HM_OK);
    }
    p.nodes_log2 = HM_SPACE_NODES_LOG2_MAX + 1;
    assert_int_equal(hm_space_params_check(&p), HM_E_RANGE);
    assert_non_null(strstr(hm_err_detail(), "nodes_log2"));
}

static void damage_is_found(void **state)
{
    (void)state;
    hm_space_params p = small();
    hm_space_commitment c;
    sealed(&p, &c);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    hm_space_sector *s = NULL;
    // header: each byte before the checksum's end
    for (off_t i = 0; i < 8 + 9 + 32 + 4 + 72 + 8 + 32 + 32; i += 5) {
        flip(i);
        assert_int_equal(hm_space_open(path, &s), HM_E_CORRUPT);
        flip(i);
    }
    flip((off_t)space_seal_offset(&p) + 100);
    assert_int_equal(hm_space_open(path, &s), HM_E_CORRUPT);
    flip((off_t)space_seal_offset(&p) + 100);
    // labels and rows
    for (off_t i = SPACE_HEADER_BYTES; i < (off_t)space_seal_offset(&p); i += 331) {
        flip(i);
        s = opened();
        assert_int_equal(hm_space_scrub(s), HM_E_CORRUPT);
        // an answer that needs the damaged place is withheld, never sent wrong
        for (uint8_t k = 0; k < 10; k++) {
            hm_hash seed = {{k}};
            hm_buf a = {0};
            hm_err err = hm_space_answer(s, &seed, &a);
            if (err == HM_OK)
                assert_int_equal(hm_space_answer_verify(&p, &node, 3, &c, &seed, hm_buf_bytes(&a)),
                                 HM_OK);
            else
                assert_int_equal(err, HM_E_CORRUPT);
            hm_buf_free(&a);
        }
        hm_space_close(s);
        flip(i);
    }
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    assert_int_equal(hm_space_open(path, &s), HM_E_CORRUPT);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(hm_space_open(path, &s), HM_E_CORRUPT);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(hm_space_open(path, &s), HM_E_CORRUPT);
    unlink(path);
    assert_int_equal(hm_space_open(path, &s), HM_E_NOTFOUND);
}

// With a part e of the labels gone, an answer of c challenges comes out with chance (1-e)^c.
static void missing_labels_are_noticed_as_often_as_stated(void **state)
{
    (void)state;
    hm_space_params p = small();
    p.answer_challenges = 4;
    hm_space_commitment c;
    sealed(&p, &c);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    uint8_t zero[8 * 32] = {0};
    // groups of 8 share their lowest path nodes, so delete whole groups: 8 of 32
    for (off_t g = 0; g < 32; g += 4)
        assert_int_equal(pwrite(fd, zero, sizeof zero, SPACE_HEADER_BYTES + 256 * g), 256);
    close(fd);
    hm_space_sector *s = opened();
    int ok = 0, tries = 4000;
    hm_buf a = {0};
    for (int i = 0; i < tries; i++) {
        hm_hash seed = {{(uint8_t)i, (uint8_t)(i >> 8)}};
        hm_buf_reset(&a);
        ok += hm_space_answer(s, &seed, &a) == HM_OK;
    }
    // (3/4)^4 = 0.316; 5 sigma of 4000 draws is 0.037
    assert_in_range(ok, 0.279 * tries, 0.353 * tries);
    hm_buf_free(&a);
    hm_space_close(s);
}

static void existing_sector_is_kept_and_leftovers_are_replaced(void **state)
{
    (void)state;
    hm_space_params p = small();
    hm_space_commitment c, again;
    sealed(&p, &c);
    assert_int_equal(hm_space_seal(&p, &node, 3, path, NULL, &again), HM_E_EXISTS);
    unlink(path);
    char tmp[PATH_MAX + 8];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    int fd = open(tmp, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "leftover", 8), 8);
    close(fd);
    assert_int_equal(hm_space_seal(&p, &node, 3, path, NULL, &again), HM_OK);
    assert_memory_equal(&c, &again, sizeof c); // sealing is deterministic
    assert_int_equal(access(tmp, F_OK), -1);
    hm_space_close(opened());
}

struct seal_run {
    hm_space_params p;
    hm_space_progress progress;
    hm_err err;
};

static void *seal_thread(void *arg)
{
    struct seal_run *r = arg;
    hm_space_commitment c;
    r->err = hm_space_seal(&r->p, &node, 3, path, &r->progress, &c);
    return NULL;
}

static void sealing_is_cancelled_from_another_thread(void **state)
{
    (void)state;
    unlink(path);
    struct seal_run r = {.p = hm_space_params_default(20)};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, seal_thread, &r), 0);
    while (atomic_load(&r.progress.done) < 4096)
        sched_yield();
    atomic_store(&r.progress.cancel, true);
    pthread_join(t, NULL);
    assert_int_equal(r.err, HM_E_CLOSED);
    assert_int_equal(access(path, F_OK), -1);
}

// Killed at any moment, the file is absent or whole.
static void killed_sealing_leaves_nothing_half_done(void **state)
{
    (void)state;
    hm_space_params p = hm_space_params_default(12);
    hm_space_commitment c;
    hm_prng r;
    hm_prng_seed(&r, 1);
    for (int i = 0; i < 12; i++) {
        unlink(path);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            hm_err err = hm_space_seal(&p, &node, 3, path, NULL, &c);
            _exit(err != HM_OK);
        }
        usleep((useconds_t)hm_prng_below(&r, 40000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        hm_space_sector *s = NULL;
        hm_err err = hm_space_open(path, &s);
        assert_true(err == HM_OK || err == HM_E_NOTFOUND);
        if (err == HM_OK)
            assert_int_equal(hm_space_scrub(s), HM_OK);
        hm_space_close(s);
    }
    sealed(&p, &c);
}

static void full_disk_is_said_and_cleaned_up(void **state)
{
    (void)state;
    unlink(path);
    hm_space_params p = hm_space_params_default(12);
    hm_space_commitment c;
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 50000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    hm_err err = hm_space_seal(&p, &node, 3, path, NULL, &c);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, HM_E_IO);
    assert_non_null(strstr(hm_err_detail(), "cannot write"));
    char tmp[PATH_MAX + 8];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    assert_int_equal(access(tmp, F_OK), -1);
    assert_int_equal(access(path, F_OK), -1);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/sector-3", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char tmp[PATH_MAX + 8];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    unlink(tmp);
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parents_come_before_and_the_expander_is_regular),
        cmocka_unit_test(seal_answer_and_check),
        cmocka_unit_test(every_changed_byte_is_refused),
        cmocka_unit_test(params_out_of_range_are_named),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(missing_labels_are_noticed_as_often_as_stated),
        cmocka_unit_test(existing_sector_is_kept_and_leftovers_are_replaced),
        cmocka_unit_test(sealing_is_cancelled_from_another_thread),
        cmocka_unit_test(killed_sealing_leaves_nothing_half_done),
        cmocka_unit_test(full_disk_is_said_and_cleaned_up),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
