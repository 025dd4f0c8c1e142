// What a seed draws.
#include "sim_internal.h"

void sim_params_calm(sim_params *p, uint64_t seed)
{
    *p = (sim_params){.seed = seed,
                      .n = 4,
                      .delta_us = 50000,
                      .delta_min_us = 20000,
                      .delta_max_us = 2000000,
                      .idle_us = 200000,
                      .delay_us = 5000,
                      .heights = 5,
                      .heal_limit_us = 60000000};
    for (uint32_t v = 0; v < SIM_VALIDATORS_MAX; v++)
        p->power[v] = 1;
}

uint32_t sim_kinds_of_seed(uint64_t seed)
{
    return (seed % 50 == 25 ? SIM_KIND_LMDB : 0) | (seed % 100 == 75 ? SIM_KIND_FALCON : 0);
}

void sim_params_draw(sim_params *p, uint64_t seed, uint32_t kinds)
{
    hm_prng r;
    hm_prng_seed(&r, seed ^ UINT64_C(0x706172616d73));
    sim_params_calm(p, seed);
    uint64_t size = hm_prng_below(&r, 10);
    p->n = size < 5 ? 4 : size < 8 ? 7 : (uint32_t)(4 + hm_prng_below(&r, 7));
    p->falcon = (kinds & SIM_KIND_FALCON) != 0;
    p->lmdb = (kinds & SIM_KIND_LMDB) != 0;
    if (p->lmdb)
        p->n = 4;
    uint64_t total = 0;
    bool equal = hm_prng_below(&r, 10) < 7;
    for (uint32_t v = 0; v < p->n; v++) {
        p->power[v] = equal ? 1 : 1 + hm_prng_below(&r, 20);
        total += p->power[v];
    }
    // Liars and those who stay away have less than a third together.
    uint64_t left = (total - 1) / 3;
    uint32_t liars = hm_prng_below(&r, 10) < 7 ? (uint32_t)hm_prng_below(&r, 4) + 1 : 0;
    for (uint32_t tries = 0; tries < 3 * p->n && liars > 0; tries++) {
        uint32_t v = (uint32_t)hm_prng_below(&r, p->n);
        if (p->byz[v] != 0 || p->power[v] > left)
            continue;
        left -= p->power[v];
        liars--;
        for (uint64_t k = 1 + hm_prng_below(&r, 4); k > 0; k--)
            p->byz[v] |= 1u << hm_prng_below(&r, SIM_BYZ_KINDS);
    }
    for (uint32_t v = 0; v < p->n && hm_prng_below(&r, 4) == 0; v++)
        if (p->byz[v] == 0 && p->power[v] <= left) {
            left -= p->power[v];
            p->down |= 1u << v;
        }
    static const uint64_t delays[] = {300, 2000, 5000, 20000, 60000};
    p->delay_us = delays[hm_prng_below(&r, 5)];
    p->delta_us = 10000 + hm_prng_below(&r, 300000);
    p->delta_min_us = 5000 + hm_prng_below(&r, 40000);
    p->delta_max_us = 500000 + hm_prng_below(&r, 3000000);
    p->idle_us = 10000 + hm_prng_below(&r, 500000);
    p->skew_ppm = hm_prng_below(&r, 3) == 0 ? 0 : (uint32_t)hm_prng_below(&r, 200000);
    p->batch = hm_prng_below(&r, 2) == 0;
    p->answer_us = hm_prng_below(&r, 2) == 0 ? 0 : 1 + hm_prng_below(&r, 20000);
    p->wal_rewrite_bytes = hm_prng_below(&r, 2) == 0 ? 0 : 2000 + hm_prng_below(&r, 20000);
    p->op_every_us = 5000 + hm_prng_below(&r, 200000);
    // In the measure of what happens: a view takes some three delays.
    uint64_t pace = 3 * p->delay_us + 2000;
    p->weather_us = pace * (3 + hm_prng_below(&r, 60));
    p->fault_us = hm_prng_below(&r, 4) == 0 ? 0 : pace * (5 + hm_prng_below(&r, 100));
    if (hm_prng_below(&r, 5) == 0) { // the power fails again and again, and a liar profits
        p->blackout_ppm = 800000;
        p->fault_us = pace * (5 + hm_prng_below(&r, 20));
    }
    p->chaos_us = 60000000;
    p->chaos_steps = p->falcon || p->lmdb ? 1500 : 2000 + hm_prng_below(&r, 20000);
    p->heights = 5;
    p->heal_limit_us = 300000000;
}
