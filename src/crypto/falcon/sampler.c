// FALCON's stream of random bytes and its base sampler, in place of PQClean's (rng.c whole, and
// gaussian0_sampler() of sign.c): the same bytes and the same numbers, bit for bit
// (tests/unit/test_falcon_kat.c runs over both), in a third of the time. Nothing here takes time
// that depends on what is drawn. docs/decisions/0001 has the figures.
#include "crypto/falcon/stream.h"

#include "inner.h"

void PQCLEAN_FALCON1024_CLEAN_prng_init(prng *p, inner_shake256_context *src)
{
    inner_shake256_extract(src, p->state.d, FALCON_STREAM_STATE);
    PQCLEAN_FALCON1024_CLEAN_prng_refill(p);
}

void PQCLEAN_FALCON1024_CLEAN_prng_refill(prng *p)
{
    falcon_stream_kind k = FALCON_STREAM_KINDS - 1;
    while (!falcon_stream_has(k))
        k--;
    _Static_assert(sizeof p->buf.d == FALCON_STREAM_BYTES, "");
    falcon_stream(k, p->state.d, p->buf.d);
    p->ptr = 0;
}

// How often a number of 72 bits that is drawn lies below one of these (round-3 specification, table
// 3.1, from the second on; all but the first five have no bits above 64).
int PQCLEAN_FALCON1024_CLEAN_gaussian0_sampler(prng *p)
{
    static const struct {
        uint64_t high, low;
    } wide[] = {
        {163, UINT64_C(17866957108348000258)}, {84, UINT64_C(15216282288489618306)},
        {34, UINT64_C(9065130955956142591)},   {10, UINT64_C(15093043907930966756)},
        {2, UINT64_C(10773855707238178671)},
    };
    static const uint64_t narrow[] = {
        UINT64_C(8595902006365044063),
        UINT64_C(1163297957344668388),
        UINT64_C(117656387352093658),
        UINT64_C(8867391802663976),
        UINT64_C(496969357462633),
        UINT64_C(20680885154299),
        UINT64_C(638331848991),
        UINT64_C(14602316184),
        UINT64_C(247426747),
        UINT64_C(3104126),
        UINT64_C(28824),
        UINT64_C(198),
        UINT64_C(1),
    };
    uint64_t low = prng_get_u64(p), high = prng_get_u8(p);
    unsigned below = 0, n = 0;
    for (unsigned i = 0; i < sizeof wide / sizeof wide[0]; i++)
        n += (unsigned)((high - wide[i].high - (low < wide[i].low)) >> 63);
    for (unsigned i = 0; i < sizeof narrow / sizeof narrow[0]; i++)
        below += low < narrow[i];
    return (int)(n + (below & ((unsigned)(high > 0) - 1)));
}
