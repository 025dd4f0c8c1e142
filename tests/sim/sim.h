// A mesh of validators in one thread, around the real consensus core, the real log of votes and,
// when asked for, the real ledger. The simulator owns time, network, disks and chance: one seed is
// one run, and the same seed is the same run, bit for bit (sim_report.trace_hash).
//
//   sim.c         life of a run, events, trace         sim_net.c     links, weather, partitions
//   sim_node.c    a node: carries out what the core    sim_disk.c    what a crash leaves of a file
//                 asks, crashes, starts again          sim_check.c   the invariants
//   sim_light.c   a small ledger in memory             sim_byz.c     those who lie
//   sim_lmdb.c    the real ledger                      sim_params.c  what a seed draws
//   sim_main.c    the program mesh_sim
#ifndef SIM_H
#define SIM_H

#include <stdio.h>

#include "mesh/simplex.h"

#define SIM_VALIDATORS_MAX 10u
#define SIM_NODES_MAX (2u * SIM_VALIDATORS_MAX) // a twin is a second node of one validator
#define SIM_TRACE_LINES 400u
#define SIM_NEVER UINT64_MAX

// ---- what a run is ------------------------------------------------------------------------------

// How a validator misbehaves: a set of these; 0 = honest.
enum {
    SIM_BYZ_TWINS = 1 << 0,       // runs twice with one key, each for its side of the network
    SIM_BYZ_AMNESIA = 1 << 1,     // forgets its votes and falls often
    SIM_BYZ_CONTRADICT = 1 << 2,  // signs the opposite of each vote too, for some
    SIM_BYZ_MUTATE = 1 << 3,      // changes, cuts and lengthens messages
    SIM_BYZ_REPLAY = 1 << 4,      // sends what anybody sent once
    SIM_BYZ_WITHHOLD = 1 << 5,    // keeps kinds of messages from some
    SIM_BYZ_STATUS = 1 << 6,      // lies about where it is
    SIM_BYZ_JUNK_BLOCKS = 1 << 7, // gives blocks that nobody asked for, or wrong ones
    SIM_BYZ_FORGE = 1 << 8,       // makes certificates of signatures that nobody made
    SIM_BYZ_BAD_BLOCKS = 1 << 9,  // proposes what cannot be executed, or on a wrong parent
    SIM_BYZ_SILENT = 1 << 10,     // says nothing
    SIM_BYZ_KINDS = 11,
};

typedef struct sim_params {
    uint64_t seed;
    uint32_t n;
    uint64_t power[SIM_VALIDATORS_MAX];
    uint32_t byz[SIM_VALIDATORS_MAX];
    bool falcon; // real signatures
    bool lmdb;   // the real ledger with real operations; of four validators
    uint64_t delta_us, delta_min_us, delta_max_us, idle_us;
    uint32_t skew_ppm;          // clocks run so much slower or faster, at most
    uint64_t delay_us;          // of a link in calm weather
    bool batch;                 // a node takes several messages before it acts
    uint64_t answer_us;         // BUILD and VALIDATE are answered within this; 0 = at once
    uint64_t wal_rewrite_bytes; // the log is rewritten when it is longer; 0 = never
    uint64_t op_every_us;       // a client's operation; 0 = none
    uint64_t weather_us;        // mean time between changes of the network; 0 = always calm
    uint64_t fault_us;          // mean time between crashes, pauses and disk errors; 0 = none
    uint32_t blackout_ppm;      // of these, so many are of all nodes at once
    uint32_t down;              // validators (a bit each) that stay down until the others went on
    uint64_t chaos_us;          // then all heals; also after chaos_steps
    uint64_t chaos_steps;
    uint32_t heights;       // to finalise after healing
    uint64_t heal_limit_us; // within this
    bool verbose;           // the trace goes to stderr as it comes
} sim_params;

// Draws a run from its seed. kinds: SIM_KIND_*.
enum { SIM_KIND_FALCON = 1, SIM_KIND_LMDB = 2 };
// What a seed uses when nobody says.
uint32_t sim_kinds_of_seed(uint64_t seed);
void sim_params_draw(sim_params *p, uint64_t seed, uint32_t kinds);
// Four honest nodes of equal power, calm weather, no faults: for tests to change.
void sim_params_calm(sim_params *p, uint64_t seed);

typedef struct sim_report {
    bool failed;
    char invariant[64], detail[400];
    uint64_t steps, time_us, trace_lines, trace_hash;
    uint64_t heights, views; // greatest reached
    uint64_t ops;            // in final blocks
    uint64_t heal_us;        // from healing to the last node's last height
    uint64_t crashes, torn, equivocations, evidence, refused, fetches;
} sim_report;

// Runs and judges one seed; what failed, and the end of its trace, goes to out.
void sim_run_seed(const sim_params *p, sim_report *r, FILE *out);

// ---- a world, for tests -------------------------------------------------------------------------

typedef struct sim sim;

sim *sim_new(const sim_params *p);
void sim_free(sim *s);
// Runs until the time, or until the invariants are broken (false).
bool sim_run(sim *s, uint64_t until_us);
// Runs until every honest node that is up has finalised this height; false when time runs out.
bool sim_run_to_height(sim *s, uint64_t height, uint64_t until_us);
uint64_t sim_now(const sim *s);
void sim_crash(sim *s, uint32_t validator);
void sim_restart(sim *s, uint32_t validator);
void sim_cut(sim *s, uint32_t from, uint32_t to, bool cut); // one direction
hm_simplex *sim_core(sim *s, uint32_t validator);           // NULL when it is down
uint64_t sim_height(const sim *s, uint32_t validator);
// A message to a node, as if a validator had sent it; gives the core's answer.
hm_err sim_inject(sim *s, uint32_t from, uint32_t to, hm_bytes message);
// Signs as a validator.
void sim_sign(sim *s, uint32_t validator, uint64_t view, hm_simplex_kind kind, const hm_hash *id,
              hm_buf *sig);
void sim_get_report(const sim *s, sim_report *r);
void sim_print_trace(const sim *s, FILE *out);

#endif
