// The authority without HTTP: what a certificate costs from its request to being logged, signed and
// on disk, and how a store of many behaves. Prints one JSON line a figure. The many are one
// certificate of each family, logged and recorded under other serials, a thousand a transaction: as
// large as real ones, with an SCT signed for each, without the two signatures of the issuing CA.
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "server/json.h"
#include "trustchain/authority.h"

#define RUNS 200u
#define BATCH 1000u
#define LOOK_UPS 1000u

static void must(hm_err err, const char *what)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "trustchain: %s: %s: %s\n", what, hm_err_text(err), hm_err_detail());
    exit(1);
}

static uint64_t now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

static uint64_t now_ms(void)
{
    return hm_clock_wall_ms(&hm_clock_system);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void tell(const char *what, const char *unit, uint64_t value, uint64_t n)
{
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "trustchain");
    hm_jw_str(&b, "what", what);
    hm_jw_u64(&b, unit, value);
    hm_jw_u64(&b, "n", n);
    hm_jw_close(&b, '}');
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    fflush(stdout);
    hm_buf_free(&b);
}

static void tell_spread(const char *name, uint64_t *us, unsigned n)
{
    char what[64];
    qsort(us, n, sizeof *us, by_value);
    snprintf(what, sizeof what, "%s p50", name);
    tell(what, "us", us[n / 2], n);
    snprintf(what, sizeof what, "%s p99", name);
    tell(what, "us", us[n * 99 / 100], n);
}

static void issue(tc_authority *a, tc_family f, tc_serial *last)
{
    static const char *const host[] = {"web.bench.test"};
    uint64_t us[RUNS];
    hm_buf csr = {0}, key_pem = {0}, chain = {0};
    hm_key *key = NULL;
    tc_issued info;
    if (f == TC_MESH) {
        must(hm_key_generate(&key), "key");
        must(tc_node_csr(key, "bench", &csr), "request");
    } else {
        must(tc_server_csr(host, 1, &key_pem, &csr), "request");
    }
    for (unsigned i = 0; i < RUNS; i++) {
        uint64_t start = now_us();
        hm_buf_reset(&chain);
        must(f == TC_MESH ? tc_issue_node(a, hm_buf_bytes(&csr), now_ms(), &chain, &info)
                          : tc_issue_server(a, hm_buf_bytes(&csr), now_ms(), &chain, &info),
             "issue");
        us[i] = now_us() - start;
    }
    *last = info.serial;
    tell_spread(f == TC_MESH ? "issue FALCON-1024" : "issue ECDSA", us, RUNS);
    hm_key_free(key);
    hm_buf_free(&csr);
    hm_buf_free_secret(&key_pem);
    hm_buf_free(&chain);
}

typedef struct sample {
    tc_issued info;
    hm_buf der;
    X509 *precert;
} sample;

// A certificate that was issued, and its precertificate made again.
static void take(tc_authority *a, const tc_serial *serial, sample *s)
{
    hm_bytes der;
    ASN1_NULL *null = ASN1_NULL_new();
    must(tc_issued_der(a, serial, &der), "look up");
    s->info = *tc_issued_find(a, serial);
    hm_buf_put(&s->der, der);
    must(x509_cert_parse(hm_buf_bytes(&s->der), &s->precert), "parse");
    int at = X509_get_ext_by_NID(s->precert, NID_ct_precert_scts, -1);
    X509_EXTENSION_free(X509_delete_ext(s->precert, at));
    if (X509_add1_ext_i2d(s->precert, NID_ct_precert_poison, null, 1, 0) != 1)
        exit(1);
    ASN1_NULL_free(null);
    (void)i2d_re_X509_tbs(s->precert, NULL); // a copy would be made of what was parsed
}

static void fill(tc_authority *a, sample s[2], uint64_t count)
{
    uint64_t start = now_us();
    for (uint64_t i = 0; i < count; i++) {
        sample *one = &s[i % 2];
        X509 *x = NULL;
        if (i % BATCH == 0)
            must(authority_begin(a), "begin");
        must(authority_serial(a, &one->info.serial), "serial");
        snprintf(one->info.subject, sizeof one->info.subject, "host-%llu.bench.test",
                 (unsigned long long)i);
        must(authority_log_precert(a, a->family[one->info.family].issuing[0], one->precert,
                                   now_ms(), &x),
             "log");
        X509_free(x);
        must(authority_record_issued(a, &one->info, hm_buf_bytes(&one->der)), "record");
        if (i % BATCH == BATCH - 1 || i == count - 1)
            must(authority_commit(a), "commit");
    }
    uint64_t took_us = now_us() - start;
    tell("log and record, a thousand a commit", "per_second", count * 1000000 / (took_us + 1),
         count);
}

static void look_up(tc_authority *a, uint64_t count)
{
    uint64_t name_us[LOOK_UPS], serial_us[LOOK_UPS], index;
    for (unsigned i = 0; i < LOOK_UPS; i++) {
        char name[64];
        uint64_t random = hm_random_u64(&hm_random_system) % count;
        snprintf(name, sizeof name, "host-%llu.bench.test", (unsigned long long)random);
        uint64_t start = now_us();
        must(tc_issued_named(a, name, UINT64_MAX, &index), "name");
        name_us[i] = now_us() - start;
        tc_serial serial = tc_issued_at(a, (size_t)index)->serial;
        start = now_us();
        if (!tc_issued_find(a, &serial))
            exit(1);
        serial_us[i] = now_us() - start;
    }
    tell_spread("find by name", name_us, LOOK_UPS);
    tell_spread("find by serial", serial_us, LOOK_UPS);
}

// Edge certificates alone, into the authority that `trustchain-server init --dir DIR` made.
static int fill_server(const char *data, uint64_t count)
{
    char dir[TC_PATH_MAX];
    tc_authority *a = NULL;
    tc_serial serial;
    sample s[2] = {0};
    snprintf(dir, sizeof dir, "%s/authority", data);
    must(tc_authority_open(dir, &a), "open");
    issue(a, TC_EDGE, &serial);
    for (unsigned i = 0; i < 2; i++)
        take(a, &serial, &s[i]);
    fill(a, s, count);
    for (unsigned i = 0; i < 2; i++) {
        hm_buf_free(&s[i].der);
        X509_free(s[i].precert);
    }
    issue(a, TC_EDGE, &serial); // as it is with so many
    tc_authority_close(a);
    return 0;
}

int main(int argc, char **argv)
{
    char dir[TC_PATH_MAX - 64], path[TC_PATH_MAX];
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    tc_authority *a = NULL;
    tc_serial serial[2];
    sample s[2] = {0};
    struct stat st;
    if (argc < 2) {
        fprintf(stderr,
                "usage: trustchain DIR [CERTIFICATES] | trustchain DIR CERTIFICATES fill\n");
        return 2;
    }
    must(hm_crypto_init(), "crypto");
    if (argc > 3)
        return fill_server(argv[1], count);
    snprintf(dir, sizeof dir, "%s/bench-authority", argv[1]);
    must(tc_authority_init(dir, "bench", now_ms()), "init");
    must(tc_authority_open(dir, &a), "open");
    for (tc_family f = TC_MESH; f <= TC_EDGE; f++) {
        issue(a, f, &serial[f]);
        take(a, &serial[f], &s[f]);
    }
    if (count > 0) {
        fill(a, s, count);
        tc_authority_close(a);
        uint64_t start = now_us();
        must(tc_authority_open(dir, &a), "open");
        tell("open", "us", now_us() - start, tc_issued_count(a));
        look_up(a, count);
        snprintf(path, sizeof path, "%s/store/data.mdb", dir);
        if (stat(path, &st) == 0)
            tell("on disk", "bytes_a_certificate", (uint64_t)st.st_size / tc_issued_count(a),
                 tc_issued_count(a));
    }
    for (int f = 0; f < 2; f++) {
        hm_buf_free(&s[f].der);
        X509_free(s[f].precert);
    }
    tc_authority_close(a);
    return 0;
}
