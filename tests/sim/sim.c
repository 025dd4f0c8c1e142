// Life of a run: events in order of time, the trace, keys, and the judgement.
#include <stdarg.h>
#include <unistd.h>

#include "sim_internal.h"

// ---- small things -------------------------------------------------------------------------------

void sim_must(hm_err err, const char *what)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "simulator: %s: %s: %s\n", what, hm_err_text(err), hm_err_detail());
    abort();
}

sim_blob *sim_blob_new(hm_bytes bytes)
{
    sim_blob *b = malloc(sizeof *b + bytes.len);
    hm_assert(b != NULL);
    b->refs = 1;
    b->len = bytes.len;
    if (bytes.len > 0)
        memcpy(b->b, bytes.ptr, bytes.len);
    return b;
}

sim_blob *sim_blob_ref(sim_blob *b)
{
    b->refs++;
    return b;
}

void sim_blob_unref(sim_blob *b)
{
    if (b != NULL && --b->refs == 0)
        free(b);
}

uint64_t sim_between(sim *s, uint64_t lo, uint64_t hi)
{
    return lo + hm_prng_below(&s->rng, hi - lo + 1);
}

bool sim_chance(sim *s, uint32_t ppm)
{
    return ppm > 0 && hm_prng_below(&s->rng, 1000000) < ppm;
}

// A geometric distribution in eighths of the mean, without floating point.
uint64_t sim_around(sim *s, uint64_t mean)
{
    uint64_t t = hm_prng_below(&s->rng, mean / 8 + 1);
    for (int i = 0; i < 63 && hm_prng_below(&s->rng, 8) != 0; i++)
        t += mean / 8;
    return t + 1;
}

const char *sim_dir(sim *s)
{
    if (s->dir[0] == '\0') {
        const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(s->dir, sizeof s->dir, "%s/hm-sim-XXXXXX", base);
        hm_assert(mkdtemp(s->dir) != NULL);
    }
    return s->dir;
}

// ---- trace --------------------------------------------------------------------------------------

static void print_line(FILE *out, const sim_line *l)
{
    fprintf(out, "%8llu %12.3f ms  node %-2u %-14s %2d  %llu %llu %08x\n",
            (unsigned long long)l->step, (double)l->time_us / 1000, l->node, l->what,
            l->other == UINT32_MAX ? -1 : (int)l->other, (unsigned long long)l->a,
            (unsigned long long)l->b, l->id);
}

static void mix(uint64_t *h, uint64_t x)
{
    *h = (*h ^ x) * UINT64_C(0x9e3779b97f4a7c15);
    *h ^= *h >> 29;
}

void sim_note(sim *s, const char *what, uint32_t node, uint32_t other, uint64_t a, uint64_t b,
              const hm_hash *id)
{
    sim_line *l = &s->lines[s->r.trace_lines++ % SIM_TRACE_LINES];
    *l = (sim_line){
        .step = s->step, .time_us = s->now, .node = node, .other = other, .a = a, .b = b};
    snprintf(l->what, sizeof l->what, "%s", what);
    if (id != NULL)
        memcpy(&l->id, id->b, sizeof l->id);
    uint64_t *h = &s->r.trace_hash;
    mix(h, s->now);
    mix(h, (uint64_t)node << 32 | other);
    mix(h, a);
    mix(h, b);
    mix(h, l->id ^ (uint64_t)(uint8_t)what[0] << 40);
    if (s->p.verbose)
        print_line(stderr, l);
}

void sim_print_trace(const sim *s, FILE *out)
{
    uint64_t n = s->r.trace_lines;
    for (uint64_t i = n > SIM_TRACE_LINES ? n - SIM_TRACE_LINES : 0; i < n; i++)
        print_line(out, &s->lines[i % SIM_TRACE_LINES]);
}

void sim_fail(sim *s, const char *invariant, const char *fmt, ...)
{
    if (s->failed)
        return; // the first one is the cause
    va_list args;
    s->failed = s->r.failed = true;
    snprintf(s->r.invariant, sizeof s->r.invariant, "%s", invariant);
    va_start(args, fmt);
    vsnprintf(s->r.detail, sizeof s->r.detail, fmt, args);
    va_end(args);
}

// ---- events -------------------------------------------------------------------------------------

sim_event *sim_at(sim *s, uint64_t time_us, sim_what what, uint32_t node)
{
    sim_event *e = calloc(1, sizeof *e);
    hm_assert(e != NULL);
    e->what = what;
    e->node = node;
    e->life = s->nodes[node].life;
    sim_must(hm_heap_set(&s->heap, &e->heap, time_us), "event");
    return e;
}

static void event_free(sim_event *e)
{
    if (e->what == SIM_WAKE)
        return; // lives in its node
    sim_blob_unref(e->blob);
    free(e);
}

static sim_node *random_node(sim *s)
{
    return &s->nodes[sim_between(s, 0, s->node_count - 1)];
}

// Something breaks: one node, or all at once.
static void fault(sim *s)
{
    sim_node *nd = random_node(s);
    uint64_t what = sim_between(s, 0, 9);
    switch (sim_chance(s, s->p.blackout_ppm) ? (what < 3 ? 0 : 6) : what) {
    case 0: // the lights go out
        for (uint32_t i = 0; i < s->node_count; i++)
            if (s->nodes[i].up)
                sim_node_crash(s, &s->nodes[i], sim_between(s, 1000, 10 * s->p.delay_us + 100000));
        break;
    case 1:
    case 2:
    case 3:
        if (nd->up)
            sim_node_crash(s, nd, sim_around(s, 300000));
        break;
    case 4:
    case 5:
        nd->crash_in = (uint32_t)sim_between(s, 1, 40); // in the middle of what it does
        break;
    case 6: // the lights go out, and each gets a little further
        for (uint32_t i = 0; i < s->node_count; i++)
            s->nodes[i].crash_in = (uint32_t)sim_between(s, 1, 20);
        break;
    case 7:
        nd->disk_fails = true;
        break;
    default:
        nd->paused_until = s->now + sim_around(s, 200000);
        break;
    }
    sim_at(s, s->now + sim_around(s, s->p.fault_us), SIM_FAULT, 0);
}

static void client(sim *s)
{
    sim_at(s, s->now + sim_around(s, s->p.op_every_us), SIM_CLIENT, 0);
    sim_node *at = random_node(s);
    hm_buf op = {0};
    if (!at->up || at->byz != 0)
        return;
    if (s->ledger->client(s, at, &op))
        sim_node_submit(s, at, hm_buf_bytes(&op));
    hm_buf_free(&op);
}

static void dispatch(sim *s, sim_event *e)
{
    sim_node *nd = &s->nodes[e->node];
    switch (e->what) {
    case SIM_WEATHER:
        if (s->chaos) {
            sim_net_weather(s);
            sim_at(s, s->now + sim_around(s, s->p.weather_us), SIM_WEATHER, 0);
        }
        return;
    case SIM_FAULT:
        if (s->chaos)
            fault(s);
        return;
    case SIM_CLIENT:
        client(s);
        return;
    case SIM_RESTART:
        if (!nd->up && e->life == nd->life)
            sim_node_start(s, nd);
        return;
    case SIM_EVIDENCE_DUE:
        if (e->life == nd->life)
            sim_check_evidence_due(s, nd, e);
        return;
    case SIM_LIE:
        sim_byz_lie(s, nd);
        return;
    case SIM_MESSAGE:
    case SIM_OPS:
    case SIM_BLOCKS_GET:
    case SIM_BLOCKS: // from outside: they find whatever runs there now
        if (nd->up)
            sim_node_event(s, nd, e);
        return;
    default:
        if (nd->up && e->life == nd->life)
            sim_node_event(s, nd, e);
        return;
    }
}

// One event. A node that is paused gets its own when it goes on.
static bool step(sim *s, uint64_t until_us)
{
    hm_heap_node *min = hm_heap_min(&s->heap);
    if (min == NULL || min->key > until_us)
        return false;
    sim_event *e = hm_container_of(min, sim_event, heap);
    sim_node *nd = &s->nodes[e->node];
    bool global = e->what == SIM_WEATHER || e->what == SIM_FAULT || e->what == SIM_CLIENT;
    s->now = min->key;
    if (!global && nd->paused_until > s->now && nd->up) {
        sim_must(hm_heap_set(&s->heap, min, nd->paused_until), "event");
        return true;
    }
    hm_heap_remove(&s->heap, min);
    s->step++;
    dispatch(s, e);
    if (nd->up && nd->byz == 0 && !global)
        sim_check_core(s, nd);
    event_free(e);
    return true;
}

// ---- keys ---------------------------------------------------------------------------------------

// Signatures for most runs: SipHash under a key that only its owner uses.
static void cheap(const sim *s, uint32_t v, hm_bytes message, uint8_t out[16])
{
    const uint64_t other[2] = {s->secret[v][1], ~s->secret[v][0]};
    uint64_t h[2] = {hm_siphash(s->secret[v], message.ptr, message.len),
                     hm_siphash(other, message.ptr, message.len)};
    memcpy(out, h, 16);
}

static hm_err cheap_verify(void *ctx, uint32_t v, hm_bytes message, hm_bytes sig)
{
    uint8_t want[16];
    cheap(ctx, v, message, want);
    return hm_bytes_eq(sig, hm_bytes_of(want, 16)) ? HM_OK : HM_E_SIGNATURE;
}

void sim_sign(sim *s, uint32_t v, uint64_t view, hm_simplex_kind kind, const hm_hash *id,
              hm_buf *sig)
{
    hm_buf b = {0};
    hm_simplex_vote_bytes(&s->set, view, kind, id, &b);
    if (s->p.falcon) {
        sim_must(hm_sign(s->keys[v], HM_SIMPLEX_DOMAIN, hm_buf_bytes(&b), sig), "sign");
    } else {
        uint8_t mac[16];
        cheap(s, v, hm_buf_bytes(&b), mac);
        hm_buf_append(sig, mac, sizeof mac);
    }
    hm_buf_free(&b);
}

static void setup_validators(sim *s)
{
    static hm_key *falcon[SIM_VALIDATORS_MAX]; // made once a process, always the same
    if (s->p.falcon && falcon[0] == NULL) {
        sim_os_seed(1);
        for (uint32_t v = 0; v < SIM_VALIDATORS_MAX; v++)
            sim_must(hm_key_generate(&falcon[v]), "key");
    }
    s->set = (hm_simplex_set){.chain_id = hm_sha256(hm_bytes_str("the simulated chain")),
                              .count = s->p.n,
                              .validators = s->validators,
                              .verify = s->p.falcon ? NULL : cheap_verify,
                              .ctx = s};
    for (uint32_t v = 0; v < s->p.n; v++) {
        s->secret[v][0] = hm_prng_next(&s->rng);
        s->secret[v][1] = hm_prng_next(&s->rng);
        s->validators[v].id = hm_sha256(hm_bytes_of(&v, sizeof v));
        s->validators[v].power = s->p.power[v];
        s->total += s->p.power[v];
        s->keys[v] = falcon[v];
        if (s->p.falcon)
            s->validators[v].public_key = hm_key_public(falcon[v]);
    }
    if (s->ledger->setup != NULL)
        s->ledger->setup(s); // may put its own in
}

// ---- life ---------------------------------------------------------------------------------------

static sim *current;

const sim *sim_current(void)
{
    return current;
}

sim *sim_new(const sim_params *p)
{
    sim *s = current = calloc(1, sizeof *s);
    hm_assert(s != NULL && p->n > 0 && p->n <= SIM_VALIDATORS_MAX);
    s->p = *p;
    s->chaos = true;
    s->ledger = p->lmdb ? &sim_lmdb : &sim_light;
    hm_prng_seed(&s->rng, p->seed);
    hm_map_init(&s->blocks, HM_HASH_BYTES, 0, &hm_random_system);
    if (p->falcon || p->lmdb)
        sim_must(hm_crypto_init(), "crypto");
    setup_validators(s);
    sim_os_seed(p->seed);
    s->seed = hm_sha256(hm_bytes_of(&p->seed, sizeof p->seed));
    for (uint32_t v = 0; v < p->n; v++)
        sim_node_init(s, s->node_count++, v);
    for (uint32_t v = 0; v < p->n; v++)
        if ((p->byz[v] & SIM_BYZ_TWINS) != 0) {
            sim_node_init(s, s->node_count, v);
            s->nodes[s->node_count++].sides = true;
        }
    sim_net_calm(s);
    for (uint32_t i = 0; i < s->node_count; i++)
        if ((p->down >> s->nodes[i].index & 1) == 0)
            sim_node_start(s, &s->nodes[i]);
    if (p->weather_us > 0)
        sim_at(s, sim_around(s, p->weather_us), SIM_WEATHER, 0);
    if (p->fault_us > 0)
        sim_at(s, sim_around(s, p->fault_us), SIM_FAULT, 0);
    if (p->op_every_us > 0)
        sim_at(s, sim_around(s, p->op_every_us), SIM_CLIENT, 0);
    for (uint32_t i = 0; i < s->node_count; i++)
        if (s->nodes[i].byz != 0)
            sim_at(s, sim_around(s, 50000), SIM_LIE, i);
    return s;
}

void sim_free(sim *s)
{
    if (s == NULL)
        return;
    current = NULL;
    for (hm_heap_node *n; (n = hm_heap_min(&s->heap)) != NULL;) {
        hm_heap_remove(&s->heap, n);
        event_free(hm_container_of(n, sim_event, heap));
    }
    hm_heap_free(&s->heap);
    for (uint32_t i = 0; i < s->node_count; i++)
        sim_node_free(s, &s->nodes[i]);
    for (uint32_t i = 0; i < SIM_RECENT; i++)
        sim_blob_unref(s->recent[i]);
    for (uint32_t v = 0; v < s->p.n; v++)
        free(s->signed_views[v]);
    if (s->ledger->cleanup != NULL)
        s->ledger->cleanup(s);
    sim_check_free(s);
    free(s->finals);
    if (s->dir[0] != '\0')
        sim_disk_remove(s->dir);
    free(s);
}

uint64_t sim_now(const sim *s)
{
    return s->now;
}

hm_simplex *sim_core(sim *s, uint32_t v)
{
    return s->nodes[v].core;
}

uint64_t sim_height(const sim *s, uint32_t v)
{
    return s->nodes[v].told.height;
}

void sim_crash(sim *s, uint32_t v)
{
    if (s->nodes[v].up)
        sim_node_crash(s, &s->nodes[v], SIM_NEVER);
}

void sim_restart(sim *s, uint32_t v)
{
    if (!s->nodes[v].up)
        sim_node_start(s, &s->nodes[v]);
}

void sim_cut(sim *s, uint32_t from, uint32_t to, bool cut)
{
    s->links[from][to].cut = cut;
}

hm_err sim_inject(sim *s, uint32_t from, uint32_t to, hm_bytes message)
{
    sim_node *nd = &s->nodes[to];
    sim_event e = {.what = SIM_MESSAGE, .node = to, .from = from, .life = nd->life};
    e.blob = sim_blob_new(message);
    hm_err err = hm_simplex_message(nd->core, sim_node_clock(s, nd), from, message);
    sim_check_delivered(s, nd, &e, err);
    sim_blob_unref(e.blob);
    sim_node_settle(s, nd);
    return err;
}

bool sim_run(sim *s, uint64_t until_us)
{
    while (!s->failed && step(s, until_us))
        ;
    if (!s->failed)
        s->now = until_us;
    return !s->failed;
}

static uint64_t lowest(const sim *s, uint32_t except)
{
    uint64_t h = UINT64_MAX;
    for (uint32_t v = 0; v < s->p.n; v++)
        if (sim_honest(s, v) && (except >> v & 1) == 0 && s->nodes[v].told.height < h)
            h = s->nodes[v].told.height;
    return h;
}

static bool run_to(sim *s, uint64_t height, uint64_t until_us, uint32_t except)
{
    while (!s->failed && lowest(s, except) < height)
        if (!step(s, until_us))
            return false;
    return !s->failed;
}

bool sim_run_to_height(sim *s, uint64_t height, uint64_t until_us)
{
    uint32_t except = 0;
    for (uint32_t v = 0; v < s->p.n; v++)
        if (!s->nodes[v].up)
            except |= 1u << v;
    return run_to(s, height, until_us, except);
}

void sim_get_report(const sim *s, sim_report *r)
{
    *r = s->r;
    r->steps = s->step;
    r->time_us = s->now;
    r->heights = s->final_count;
}

// ---- a seed -------------------------------------------------------------------------------------

// Everything works again; liars go on lying.
static void heal(sim *s)
{
    s->chaos = false;
    sim_net_calm(s);
    for (uint32_t i = 0; i < s->node_count; i++) {
        sim_node *nd = &s->nodes[i];
        nd->crash_in = 0;
        nd->disk_fails = false;
        nd->paused_until = 0;
        if (!nd->up && (s->p.down >> nd->index & 1) == 0)
            sim_node_start(s, nd);
    }
    sim_note(s, "healed", 0, UINT32_MAX, s->final_count, 0, NULL);
}

static void stalled(sim *s, uint64_t height, const char *who)
{
    char where[300] = "";
    size_t at = 0;
    for (uint32_t v = 0; v < s->p.n && at + 40 < sizeof where; v++)
        if (sim_honest(s, v))
            at += (size_t)snprintf(
                where + at, sizeof where - at, " %u: %llu/%llu", v,
                (unsigned long long)s->nodes[v].told.height,
                s->nodes[v].core == NULL ? 0ULL : (unsigned long long)s->nodes[v].core->view);
    sim_fail(s, "liveness", "%s did not reach height %llu in time; height/view of%s", who,
             (unsigned long long)height, where);
}

static bool all_slashed(const sim *s)
{
    for (uint32_t v = 0; v < s->p.n; v++)
        for (uint32_t i = 0; i < s->p.n; i++)
            if ((s->accused >> v & 1) != 0 && s->nodes[i].byz == 0 &&
                !s->ledger->slashed(&s->nodes[i], v))
                return false;
    return true;
}

// What was proven since the healing is in a block in the end; and all is there, from the first.
static void judge_ledgers(sim *s)
{
    if (s->ledger->verify == NULL)
        return;
    for (uint64_t until = s->now + s->p.heal_limit_us; !s->failed && !all_slashed(s);)
        if (!step(s, until)) {
            sim_fail(s, "proven faults cost the stake", "accused: %x", s->accused);
            return;
        }
    for (uint32_t i = 0; i < s->p.n && !s->failed; i++)
        if (s->nodes[i].byz == 0)
            s->ledger->verify(s, &s->nodes[i]);
}

void sim_run_seed(const sim_params *p, sim_report *r, FILE *out)
{
    sim *s = sim_new(p);
    while (!s->failed && s->step < p->chaos_steps && step(s, p->chaos_us))
        ;
    if (!s->failed) {
        heal(s);
        uint64_t healed = s->now;
        uint64_t height = s->final_count + p->heights;
        if (!run_to(s, height, healed + p->heal_limit_us, p->down) && !s->failed)
            stalled(s, height, "an honest node");
        s->r.heal_us = s->now - healed;
        // Those that were away all the time catch up.
        height = s->final_count;
        for (uint32_t v = 0; v < p->n && !s->failed; v++)
            if ((p->down >> v & 1) != 0)
                sim_restart(s, v);
        if (!s->failed && !run_to(s, height, s->now + p->heal_limit_us, 0) && !s->failed)
            stalled(s, height, "a node that came back");
        if (!s->failed)
            judge_ledgers(s);
    }
    sim_get_report(s, r);
    if (s->failed) {
        fprintf(out, "seed %llu, step %llu: %s: %s\n", (unsigned long long)p->seed,
                (unsigned long long)s->step, r->invariant, r->detail);
        if (!p->verbose)
            sim_print_trace(s, out);
        sim_print_cores(s, out);
    }
    sim_free(s);
}
