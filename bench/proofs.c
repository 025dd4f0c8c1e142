// What the four proofs cost to make and to check, at the parameters of ./deploy-dev.sh. Prints one
// JSON line a figure: median of the thread's processor time.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "mesh/genesis.h"
#include "mesh/proof_space.h"
#include "mesh/proof_time.h"
#include "mesh/proof_work.h"
#include "server/json.h"

#define RUNS_MAX 200u

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void must(hm_err err, const char *what)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "proofs: %s: %s: %s\n", what, hm_err_text(err), hm_err_detail());
    exit(1);
}

static double samples[RUNS_MAX];
static unsigned sample_count;
static double began;

static void start(void)
{
    began = cpu_us();
}
static void stop(void)
{
    if (sample_count < RUNS_MAX)
        samples[sample_count++] = cpu_us() - began;
}
static void tell(const char *what, size_t bytes)
{
    qsort(samples, sample_count, sizeof *samples, by_value);
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "proofs");
    hm_jw_str(&b, "what", what);
    hm_jw_u64(&b, "runs", sample_count);
    hm_jw_u64(&b, "median_ns", (uint64_t)(samples[sample_count / 2] * 1e3));
    hm_jw_u64(&b, "bytes", bytes);
    hm_jw_close(&b, '}');
    must(hm_buf_status(&b), "out");
    puts(hm_buf_cstr(&b));
    fflush(stdout);
    hm_buf_free(&b);
    sample_count = 0;
}

static void space(const hm_genesis_params *g, const char *dir)
{
    const hm_space_params *p = &g->space;
    hm_node_id node = {{1}};
    hm_space_commitment c;
    hm_space_sector *s;
    char path[200];
    snprintf(path, sizeof path, "%s/sector", dir);
    start();
    must(hm_space_seal(p, &node, 0, path, NULL, &c), "seal");
    stop();
    tell("space: seal a sector", (size_t)hm_space_size_bytes(p));
    must(hm_space_open(path, &s), "open");
    hm_buf parts = {0};
    uint32_t count = hm_space_seal_parts(p);
    hm_buf part[HM_SPACE_PARTS_MAX] = {{0}};
    for (uint32_t i = 0; i < count; i++) {
        must(hm_space_sector_seal_part(s, i, &part[i]), "part");
        hm_buf_put(&parts, hm_buf_bytes(&part[i]));
    }
    for (unsigned run = 0; run < 20; run++) {
        start();
        for (uint32_t i = 0; i < count; i++)
            must(hm_space_seal_part_verify(p, &node, 0, &c, i, hm_buf_bytes(&part[i])), "seal");
        stop();
    }
    tell("space: check a seal proof", parts.len);
    hm_buf answer = {0};
    hm_hash seed = {{0}};
    for (unsigned run = 0; run < 100; run++) {
        seed.b[0] = (uint8_t)run;
        hm_buf_reset(&answer);
        start();
        must(hm_space_answer(s, &seed, &answer), "answer");
        stop();
    }
    tell("space: answer", answer.len);
    for (unsigned run = 0; run < 100; run++) {
        start();
        must(hm_space_answer_verify(p, &node, 0, &c, &seed, hm_buf_bytes(&answer)), "verify");
        stop();
    }
    tell("space: check an answer", answer.len);
    for (uint32_t i = 0; i < count; i++)
        hm_buf_free(&part[i]);
    hm_buf_free(&parts);
    hm_buf_free(&answer);
    hm_space_close(s);
    unlink(path);
}

static void delay(const hm_genesis_params *g)
{
    hm_time_group group;
    hm_hash input = {{7}}, value;
    hm_buf proof = {0};
    must(hm_time_group_make(hm_bytes_str("bench"), g->time_bits, g->time_iterations, &group),
         "group");
    for (unsigned run = 0; run < 3; run++) {
        hm_buf_reset(&proof);
        input.b[1] = (uint8_t)run;
        start();
        must(hm_time_eval(&group, &input, NULL, &proof), "evaluation");
        stop();
    }
    tell("time: make a beacon", proof.len);
    for (unsigned run = 0; run < 30; run++) {
        start();
        must(hm_time_verify(&group, &input, hm_buf_bytes(&proof), &value), "beacon");
        stop();
    }
    tell("time: check a beacon", proof.len);
    hm_buf_free(&proof);
}

static void work(void)
{
    uint64_t nonce = 0;
    for (unsigned run = 0; run < RUNS_MAX; run++) {
        hm_hash digest = {{(uint8_t)run, 3}};
        start();
        must(hm_work_solve(&digest, HM_WORK_DIFFICULTY_MIN, NULL, &nonce, NULL), "puzzle");
        stop();
    }
    tell("work: solve at the least difficulty", 8);
    for (unsigned run = 0; run < RUNS_MAX; run++) {
        hm_hash digest = {{(uint8_t)run, 3}};
        start();
        (void)hm_work_check(&digest, HM_WORK_DIFFICULTY_MIN, nonce);
        stop();
    }
    tell("work: check", 8);
}

static void stake(void)
{
    hm_key *key = NULL;
    hm_buf sig = {0};
    hm_bytes message = hm_bytes_str("an operation of some hundred bytes, more or less");
    must(hm_key_generate(&key), "key");
    for (unsigned run = 0; run < 100; run++) {
        hm_buf_reset(&sig);
        start();
        must(hm_sign(key, "bench", message, &sig), "sign");
        stop();
    }
    tell("stake: sign", sig.len);
    for (unsigned run = 0; run < 100; run++) {
        start();
        must(hm_verify(hm_key_public(key), "bench", message, hm_buf_bytes(&sig)), "verify");
        stop();
    }
    tell("stake: check a signature", sig.len);
    hm_buf_free(&sig);
    hm_key_free(key);
}

int main(void)
{
    char dir[] = "/tmp/hm-proofs-XXXXXX";
    hm_genesis_params g = hm_genesis_params_default();
    must(hm_crypto_init(), "crypto");
    if (mkdtemp(dir) == NULL) {
        perror(dir);
        return 1;
    }
    space(&g, dir);
    stake();
    work();
    delay(&g);
    rmdir(dir);
    return 0;
}
