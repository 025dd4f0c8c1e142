#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/err.h"

static void system_fill(void *ctx, void *out, size_t len)
{
    (void)ctx;
    uint8_t *p = out;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        hm_assert(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

const hm_random hm_random_system = {system_fill, NULL};

void hm_prng_seed(hm_prng *p, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        p->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t hm_prng_next(hm_prng *p)
{
    uint64_t *s = p->s;
    uint64_t out = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint64_t hm_prng_below(hm_prng *p, uint64_t bound)
{
    hm_assert(bound > 0);
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound; // reject the uneven rest
    uint64_t v;
    do
        v = hm_prng_next(p);
    while (v >= limit);
    return v % bound;
}

static void prng_fill(void *ctx, void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        uint64_t v = hm_prng_next(ctx);
        size_t n = len < sizeof v ? len : sizeof v;
        memcpy(p, &v, n);
        p += n;
        len -= n;
    }
}

hm_random hm_random_prng(hm_prng *p)
{
    return (hm_random){prng_fill, p};
}

uint64_t hm_random_u64(const hm_random *r)
{
    uint64_t v;
    hm_random_fill(r, &v, sizeof v);
    return v;
}
