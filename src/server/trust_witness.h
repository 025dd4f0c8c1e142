// Cosignatures for the authority's log: as soon as there is a new checkpoint, the configured
// witnesses are asked over HTTPS to cosign it (C2SP tlog-witness), all at a time, in threads of the
// loop's pool. What is published is the newest checkpoint that they were asked about, with the
// cosignatures that came: a witness that is away holds nothing up for longer than its time limit,
// and is asked again.
//
// All calls belong to the loop's thread.
#ifndef HM_SERVER_TRUST_WITNESS_H
#define HM_SERVER_TRUST_WITNESS_H

#include <uv.h>

#include "base/clock.h"
#include "trustchain/trustchain.h"

typedef struct trust_witness trust_witness;

typedef struct trust_witness_config {
    uv_loop_t *loop;         // borrowed until close is done
    tc_authority *authority; // borrowed until close is done
    const hm_clock *clock;   // borrowed until close is done
    const char *policy_path; // a file of witnesses: tc_witness_policy_parse()
    const char *root_path;   // PEM that the witnesses' servers must reach
} trust_witness_config;

// HM_E_CONFIG names what is wrong with the file; every witness needs a URL there.
HM_CHECK hm_err trust_witness_open(const trust_witness_config *cfg, trust_witness **out);
// closed(ctx) comes from the loop when no request is under way any more.
void trust_witness_close(trust_witness *w, void (*closed)(void *ctx), void *ctx);
// The checkpoint to publish; empty before the first round is over. Until the next turn of the loop.
hm_bytes trust_witness_note(const trust_witness *w);

typedef struct trust_witness_counters {
    uint64_t cosignatures, failures;
    uint32_t witnesses, cosigned; // configured; that cosigned the published checkpoint
} trust_witness_counters;
void trust_witness_get_counters(const trust_witness *w, trust_witness_counters *out);

#endif
