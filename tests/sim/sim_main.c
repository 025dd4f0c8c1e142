#include <getopt.h>

#include "sim_internal.h"

int main(int argc, char **argv)
{
    (void)argc;
    uint64_t a = strtoull(argv[1], NULL, 10), b = strtoull(argv[2], NULL, 10);
    int bad = 0;
    hm_log_set_level(HM_LOG_ERROR);
    for (uint64_t seed = a; seed <= b; seed++) {
        sim_params p;
        sim_report r;
        sim_params_draw(&p, seed, 0);
        p.verbose = argc > 3;
        sim_run_seed(&p, &r, stderr);
        printf("seed %llu n %u steps %llu time %.3f s heights %llu views %llu heal %.3f s crashes "
               "%llu torn %llu hash %llx\n",
               (unsigned long long)seed, p.n, (unsigned long long)r.steps, (double)r.time_us / 1e6,
               (unsigned long long)r.heights, (unsigned long long)r.views, (double)r.heal_us / 1e6,
               (unsigned long long)r.crashes, (unsigned long long)r.torn,
               (unsigned long long)r.trace_hash);
        bad += r.failed;
        if (bad)
            break;
    }
    return bad != 0;
}
