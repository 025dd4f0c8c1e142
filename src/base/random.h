// Random bytes behind an interface: the kernel's for secrets, a seeded generator for simulation.
#ifndef HM_BASE_RANDOM_H
#define HM_BASE_RANDOM_H

#include "hypermesh/base.h"

// getrandom(2). Any thread. The only one for keys, nonces and connection ids.
extern const hm_random hm_random_system;

// xoshiro256** (Blackman and Vigna, 2018), seeded through SplitMix64: fast, repeatable, not secret.
typedef struct hm_prng {
    uint64_t s[4];
} hm_prng;

void hm_prng_seed(hm_prng *p, uint64_t seed);
uint64_t hm_prng_next(hm_prng *p);
// Uniform in [0, bound), bound > 0.
uint64_t hm_prng_below(hm_prng *p, uint64_t bound);
// An hm_random over a generator that the caller keeps alive. One thread.
hm_random hm_random_prng(hm_prng *p);

static inline void hm_random_fill(const hm_random *r, void *out, size_t len)
{
    r->fill(r->ctx, out, len);
}
uint64_t hm_random_u64(const hm_random *r);

#endif
