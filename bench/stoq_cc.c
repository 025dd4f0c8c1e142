// Congestion control over a simulated bottleneck (tests/unit/stoq_link.h): the whole transport in
// simulated time, so the figures depend on the seed alone. One JSON line a figure.
//
//   stoq_cc                                    the table of
//                                              docs/decisions/0005-congestion-control.md
//   stoq_cc ALGORITHMS MBIT RTT_MS QUEUE_BDP LOSS_PERCENT SECONDS [SEEDS [MARK_BDP [WARM_S]]]
//                                              runs of one case; ALGORITHMS: a flow a letter, c
//                                              or b; SECONDS of each count, after WARM_S (2);
//                                              SEEDS: 3, or 1-16
#include <stdio.h>
#include <stdlib.h>

#include "server/json.h"
#include "stoq_link.h"

typedef struct run {
    const char *name, *flows;
    double mbit, rtt_ms, queue_bdp, mark_bdp, loss_percent; // BDP: of what the path holds
    double warm_s, seconds;                                 // before the measurement, and of it
    uint64_t seed, last_seed;                               // a run each; 0: one run
    bool default_limits; // of the endpoints, so that windows begin small and grow
} run;

static void print(const link_sim *l, const run *r, uint64_t seed)
{
    hm_buf b = {0};
    char text[64];
    double sum = 0, squares = 0;
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "stoq-cc");
    hm_jw_str(&b, "case", r->name);
    hm_jw_u64(&b, "link_kbit", (uint64_t)(r->mbit * 1000));
    hm_jw_u64(&b, "rtt_us", (uint64_t)(r->rtt_ms * 1000));
    hm_jw_u64(&b, "queue_bytes", l->config.queue_bytes);
    hm_jw_u64(&b, "mark_bytes", l->config.mark_bytes);
    hm_jw_u64(&b, "loss_ppm", l->config.loss_ppm);
    hm_jw_u64(&b, "seconds", (uint64_t)r->seconds);
    hm_jw_u64(&b, "seed", seed);
    hm_jw_open(&b, "flows", '[');
    for (unsigned i = 0; i < l->count; i++) {
        double rate = (double)link_rate(l, &l->flows[i]);
        stoq_conn_stats st;
        stoq_conn_get_stats(l->flows[i].conn, &st);
        sum += rate;
        squares += rate * rate;
        hm_jw_open(&b, NULL, '{');
        hm_jw_str(&b, "congestion", st.congestion);
        hm_jw_u64(&b, "kbit", (uint64_t)(rate * 8 / 1000));
        hm_jw_u64(&b, "min_rtt_us", st.min_rtt_us);
        hm_jw_u64(&b, "rtt_us", st.rtt_us);
        hm_jw_close(&b, '}');
    }
    hm_jw_close(&b, ']');
    snprintf(text, sizeof text, "%.4f", sum / (double)l->config.rate_bytes_s);
    hm_jw_str(&b, "used", text);
    snprintf(text, sizeof text, "%.4f", sum * sum / ((double)l->count * squares));
    hm_jw_str(&b, "jain", text);
    hm_jw_u64(&b, "queue_mean_us", (uint64_t)link_mean_queue_us(l));
    hm_jw_u64(&b, "queue_max_us", l->queue_max_bytes * 1000000 / l->config.rate_bytes_s);
    hm_jw_u64(&b, "dropped_ppm", l->dropped * 1000000 / (l->arrived + 1));
    hm_jw_u64(&b, "marked_ppm", l->marked * 1000000 / (l->arrived + 1));
    hm_jw_close(&b, '}');
    hm_assert(hm_buf_status(&b) == HM_OK);
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    fflush(stdout);
    hm_buf_free(&b);
}

static void one(const run *r, uint64_t seed)
{
    static link_sim l;
    double bdp = r->mbit * 1e6 / 8 * r->rtt_ms / 1e3;
    link_config k = {.rate_bytes_s = (uint64_t)(r->mbit * 1e6 / 8),
                     .rtt_us = (uint64_t)(r->rtt_ms * 1000),
                     .queue_bytes = (uint64_t)(r->queue_bdp * bdp),
                     .mark_bytes = (uint64_t)(r->mark_bdp * bdp),
                     .loss_ppm = (uint32_t)(r->loss_percent * 10000),
                     .default_limits = r->default_limits,
                     .seed = seed};
    link_begin(&l, &k);
    for (const char *f = r->flows; *f != '\0'; f++) {
        link_add(&l, *f == 'b' ? STOQ_CONGESTION_BBR : STOQ_CONGESTION_CUBIC);
        link_run(&l, 100000); // they do not begin in step
    }
    link_run(&l, (uint64_t)(r->warm_s * 1e6));
    link_measure(&l);
    link_run(&l, (uint64_t)(r->seconds * 1e6));
    print(&l, r, seed);
    link_end(&l);
}

static void all(const run *r)
{
    uint64_t seed = r->seed;
    do
        one(r, seed);
    while (seed++ < r->last_seed);
}

// Each with one flow or more; "cb" is one of each.
static const run table[] = {
    {"full link", "c", 1000, 50, 1, 0, 0, 2, 20, 1},
    {"full link", "b", 1000, 50, 1, 0, 0, 2, 20, 1},
    {"random loss", "c", 1000, 50, 1, 0, 1, 20, 100, 1},
    {"random loss", "b", 1000, 50, 1, 0, 1, 2, 20, 1},
    {"random loss", "c", 1000, 50, 1, 0, 0.01, 20, 100, 1},
    {"random loss", "b", 1000, 50, 1, 0, 0.01, 2, 20, 1},
    {"shallow queue", "c", 100, 30, 0.05, 0, 0, 5, 60, 1},
    {"shallow queue", "b", 100, 30, 0.05, 0, 0, 5, 60, 1},
    {"deep queue", "c", 100, 50, 10, 0, 0, 5, 60, 1},
    {"deep queue", "b", 100, 50, 10, 0, 0, 5, 60, 1},
    {"marking queue", "c", 100, 20, 2, 0.3, 0, 5, 60, 1},
    {"marking queue", "b", 100, 20, 2, 0.3, 0, 5, 60, 1},
    {"two flows", "cc", 50, 20, 0.5, 0, 0, 20, 120, 1},
    {"two flows", "bb", 50, 20, 0.5, 0, 0, 20, 120, 1},
    {"two flows", "cc", 100, 50, 1, 0, 0, 20, 120, 1},
    {"two flows", "bb", 100, 50, 1, 0, 0, 20, 120, 1},
    {"two flows, later", "cc", 100, 50, 1, 0, 0, 300, 600, 1, 16},
    {"two flows, later", "bb", 100, 50, 1, 0, 0, 300, 600, 1, 16},
    {"side by side", "cb", 100, 20, 0.5, 0, 0, 20, 120, 1},
    {"side by side", "cb", 100, 50, 1, 0, 0, 20, 120, 1},
    {"side by side", "cb", 100, 50, 4, 0, 0, 20, 120, 1},
    {"side by side, marking", "cb", 100, 20, 2, 0.3, 0, 20, 120, 1},
    {"slow", "c", 1, 50, 2, 0, 0, 5, 60, 1},
    {"slow", "b", 1, 50, 2, 0, 0, 5, 60, 1},
    {"near", "c", 10000, 1, 1, 0, 0, 1, 2, 1},
    {"near", "b", 10000, 1, 1, 0, 0, 1, 2, 1},
    {"default limits", "b", 1000, 100, 1, 0, 0, 3, 20, 1, .default_limits = true},
    {"default limits", "c", 1000, 100, 1, 0, 0, 3, 20, 1, .default_limits = true},
    {"default limits", "b", 1000, 10, 1, 0, 0, 3, 20, 1, .default_limits = true},
};

int main(int argc, char **argv)
{
    if (argc > 6) {
        char *end = NULL;
        uint64_t seed = argc > 7 ? strtoull(argv[7], &end, 10) : 1;
        all(&(run){.name = "one",
                   .flows = argv[1],
                   .mbit = atof(argv[2]),
                   .rtt_ms = atof(argv[3]),
                   .queue_bdp = atof(argv[4]),
                   .loss_percent = atof(argv[5]),
                   .warm_s = argc > 9 ? atof(argv[9]) : 2,
                   .seconds = atof(argv[6]),
                   .seed = seed,
                   .last_seed = end != NULL && *end == '-' ? strtoull(end + 1, NULL, 10) : 0,
                   .mark_bdp = argc > 8 ? atof(argv[8]) : 0});
        return 0;
    }
    if (argc > 1) {
        fputs("usage: stoq_cc [ALGORITHMS MBIT RTT_MS QUEUE_BDP LOSS_PERCENT SECONDS "
              "[SEEDS [MARK_BDP [WARM_S]]]]\n",
              stderr);
        return 2;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        all(&table[i]);
    return 0;
}
