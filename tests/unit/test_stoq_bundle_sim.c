// Bundles over seeded paths: loss, reordering, one path that is cut, one that is slow, readers that
// are late, windows of a few pieces. For every seed all bytes arrive in both directions, each once,
// in order where that is asked for, and both sides come to their end.
//
//   test_stoq_bundle_sim               seeds 1 to 60
//   test_stoq_bundle_sim FIRST COUNT   others
#include <stdio.h>
#include <stdlib.h>

#include "stoq_bundle_world.h"

#define SECOND UINT64_C(1000000)

static bw w;
static stoq_ids ids;

static bool two_carry(const bw *x)
{
    stoq_bundle_stats s;
    if (x->side[0].bundle == NULL || x->side[1].bundle == NULL)
        return false;
    stoq_bundle_get_stats(x->side[0].bundle, &s);
    return s.connections >= 2;
}

static bool cut_was_seen(const bw *x)
{
    stoq_bundle_stats a, b;
    if (x->side[0].bundle == NULL || x->side[1].bundle == NULL)
        return true; // the test says so
    stoq_bundle_get_stats(x->side[0].bundle, &a);
    stoq_bundle_get_stats(x->side[1].bundle, &b);
    return a.connections == x->count - 1 && b.connections == x->count - 1;
}

static bool over(const bw *x)
{
    return bw_both_ended(x) || x->side[0].closed || x->side[1].closed;
}

static void make_paths(bool hard)
{
    for (unsigned i = 0; i < w.count; i++) {
        w.paths[i].delay_us = 1000 + hm_prng_below(&w.prng, 40000);
        w.paths[i].loss = hard ? (unsigned)hm_prng_below(&w.prng, 50) : 0;
        w.paths[i].jitter_us = hard ? hm_prng_below(&w.prng, 10000) : 0;
        w.paths[i].rate = 2000 + (uint32_t)hm_prng_below(&w.prng, 8000);
    }
    if (hard)
        w.paths[hm_prng_below(&w.prng, w.count)].rate = 50; // 400 kbit/s
}

static bool run(uint64_t seed)
{
    hm_prng draw;
    hm_prng_seed(&draw, seed);
    bw_config k = {.seed = seed,
                   .paths = 1 + (unsigned)hm_prng_below(&draw, 8),
                   .ordered = hm_prng_below(&draw, 2),
                   .lazy = hm_prng_below(&draw, 2),
                   .up = hm_prng_below(&draw, 4) == 0 ? 0 : hm_prng_below(&draw, 3000000),
                   .down = hm_prng_below(&draw, 4) == 0 ? 0 : hm_prng_below(&draw, 1000000),
                   .server_tls = ids.server,
                   .client_tls = ids.client};
    bool cut = k.paths > 1 && hm_prng_below(&draw, 2), hard = hm_prng_below(&draw, 4) != 0;
    unsigned at = (unsigned)hm_prng_below(&draw, k.paths);
    if (hm_prng_below(&draw, 2))
        k.window_bytes = k.send_bytes = 65536;
    bw_begin(&w, &k);
    make_paths(hard);
    bw_open(&w);
    const char *wrong = NULL;
    stoq_bundle_stats up = {0}, down = {0};
    if (cut) {
        if (!bw_run_until(&w, two_carry, 20 * SECOND))
            wrong = "no second connection";
        w.paths[at].cut = true;
    }
    if (wrong == NULL && !bw_run_until(&w, over, 300 * SECOND))
        wrong = "not all of it came";
    uint64_t took = w.now - SECOND;
    if (w.side[0].bundle != NULL && w.side[1].bundle != NULL) {
        stoq_bundle_get_stats(w.side[0].bundle, &up);
        stoq_bundle_get_stats(w.side[1].bundle, &down);
        stoq_bundle_close(w.side[0].bundle);
    } else if (wrong == NULL) {
        wrong = "a side was closed";
    }
    if (wrong == NULL && !bw_run_until(&w, bw_both_closed, 30 * SECOND))
        wrong = "a side does not end";
    if (wrong == NULL && (w.side[0].why != HM_OK || w.side[1].why != HM_E_CLOSED))
        wrong = "another end than the one that was asked for";
    printf("# seed %llu: %u paths%s%s%s, window %u, up %llu down %llu, %.2f s, again %llu + "
           "%llu%s%s\n",
           (unsigned long long)seed, k.paths, k.ordered ? ", ordered" : "", cut ? ", one cut" : "",
           hard ? ", one slow" : "", k.window_bytes, (unsigned long long)k.up,
           (unsigned long long)k.down, (double)took / 1e6, (unsigned long long)up.pieces_again,
           (unsigned long long)down.pieces_again, wrong != NULL ? ": " : "",
           wrong != NULL ? wrong : "");
    bw_end(&w);
    return wrong == NULL;
}

// Of a transfer in mid-flight one path of three is cut: pieces that it carried go again.
static bool run_cut(void)
{
    bw_config k = {.seed = 7,
                   .paths = 3,
                   .ordered = true,
                   .up = 6000000,
                   .server_tls = ids.server,
                   .client_tls = ids.client};
    bw_begin(&w, &k);
    for (unsigned i = 0; i < 3; i++)
        w.paths[i].rate = 1000;
    bw_open(&w);
    stoq_bundle_stats s;
    bool ok =
        bw_run_until(&w, two_carry, 20 * SECOND) && !bw_run_until(&w, bw_both_closed, SECOND / 2);
    w.paths[0].cut = true;
    ok = ok && bw_run_until(&w, cut_was_seen, 60 * SECOND) &&
         bw_run_until(&w, bw_both_ended, 60 * SECOND);
    if (ok)
        stoq_bundle_get_stats(w.side[0].bundle, &s);
    ok = ok && s.pieces_again > 0 && s.connections == 2;
    printf("# one path cut: %s\n", ok ? "its pieces went by the others" : "wrong");
    bw_end(&w);
    return ok;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 60;
    unsigned bad = 0;
    stoq_ids_make_plain(&ids);
    printf("1..2\n");
    for (uint64_t i = 0; i < count; i++)
        bad += !run(first + i);
    printf("%s 1 - seeds %llu to %llu\n", bad ? "not ok" : "ok", (unsigned long long)first,
           (unsigned long long)(first + count - 1));
    bool cut = run_cut();
    printf("%s 2 - a path that is cut\n", cut ? "ok" : "not ok");
    stoq_ids_free(&ids);
    return bad > 0 || !cut;
}
