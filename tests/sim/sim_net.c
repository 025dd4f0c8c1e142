// The network: links between validators, weather that changes, partitions that heal.
#include "sim_internal.h"

void sim_net_calm(sim *s)
{
    for (uint32_t a = 0; a < s->p.n; a++)
        for (uint32_t b = 0; b < s->p.n; b++)
            s->links[a][b] = (sim_link){.delay_us = s->p.delay_us, .jitter_us = s->p.delay_us / 4};
    s->hold = false;
}

static void partition(sim *s)
{
    uint32_t side = (uint32_t)sim_between(s, 1, (1u << s->p.n) - 2);
    switch (sim_between(s, 0, 3)) {
    case 0: // one alone
        side = 1u << sim_between(s, 0, s->p.n - 1);
        break;
    case 1: // along the sides that twins see: they alone speak to both
        side = s->side;
        break;
    default:
        break;
    }
    bool both = !sim_chance(s, 200000); // or in one direction
    for (uint32_t a = 0; a < s->p.n; a++)
        for (uint32_t b = 0; b < s->p.n; b++) {
            bool across = (side >> a & 1) != (side >> b & 1);
            if (across && (both || (side >> a & 1) != 0) && sim_honest(s, a) && sim_honest(s, b))
                s->links[a][b].cut = true;
        }
    s->hold = sim_chance(s, 500000);
}

void sim_net_weather(sim *s)
{
    uint64_t kind = sim_between(s, 0, 9);
    sim_net_calm(s);
    s->side = (uint32_t)sim_between(s, 0, (1u << s->p.n) - 1);
    sim_note(s, "weather", 0, UINT32_MAX, kind, s->side, NULL);
    if (kind == 0)
        return;
    uint64_t slow = sim_around(s, s->p.delay_us * 4);
    for (uint32_t a = 0; a < s->p.n; a++)
        for (uint32_t b = 0; b < s->p.n; b++) {
            sim_link *l = &s->links[a][b];
            if (kind == 1 || kind == 2) { // some are far away, not the same in both directions
                l->delay_us = sim_around(s, s->p.delay_us * 3);
            } else if (kind == 3) {
                l->jitter_us = slow * 2;
            } else if (kind == 4) {
                l->loss_ppm = (uint32_t)sim_between(s, 0, 300000);
                l->dup_ppm = (uint32_t)sim_between(s, 0, 100000);
            } else if (kind == 5) { // all at once
                l->delay_us = sim_around(s, s->p.delay_us * 2);
                l->jitter_us = slow;
                l->loss_ppm = (uint32_t)sim_between(s, 0, 150000);
                l->dup_ppm = 50000;
                l->spike_ppm = 20000;
            }
        }
    if (kind >= 6)
        partition(s);
}

static uint64_t delay(sim *s, const sim_link *l)
{
    uint64_t t = l->delay_us;
    if (l->jitter_us > 0)
        t += hm_prng_below(&s->rng, l->jitter_us);
    if (sim_chance(s, l->spike_ppm))
        t += sim_around(s, 500000);
    return t + 1;
}

static void deliver(sim *s, const sim_node *from, uint32_t node, sim_what what, sim_blob *blob,
                    bool honest)
{
    const sim_link *l = &s->links[from->index][s->nodes[node].index];
    uint64_t t = delay(s, l);
    if (l->cut) {
        if (!s->hold || sim_chance(s, 500000))
            return;
        t += sim_around(s, s->p.weather_us > 0 ? s->p.weather_us : 1000000);
    }
    if (sim_chance(s, l->loss_ppm))
        return;
    for (int copies = sim_chance(s, l->dup_ppm) ? 2 : 1; copies > 0; copies--) {
        sim_event *e = sim_at(s, s->now + t, what, node);
        e->from = from->index;
        e->blob = sim_blob_ref(blob);
        e->honest = honest;
        t += sim_around(s, 20000);
    }
}

void sim_net_send(sim *s, const sim_node *from, uint32_t to, sim_what what, sim_blob *blob,
                  bool honest)
{
    uint32_t twin = UINT32_MAX;
    for (uint32_t i = s->p.n; i < s->node_count; i++)
        if (s->nodes[i].index == to)
            twin = i;
    if (what == SIM_MESSAGE && from->byz == 0 && sim_chance(s, 100000)) {
        sim_blob_unref(s->recent[s->recent_at]);
        s->recent[s->recent_at] = sim_blob_ref(blob);
        s->recent_at = (s->recent_at + 1) % SIM_RECENT;
    }
    // A twin hears its own side, and now and then the other one too.
    bool second = (s->side >> from->index & 1) != 0, both = from->byz != 0 || sim_chance(s, 50000);
    if (twin == UINT32_MAX || !second || both)
        deliver(s, from, to, what, blob, honest);
    if (twin != UINT32_MAX && (second || both))
        deliver(s, from, twin, what, blob, honest);
}
