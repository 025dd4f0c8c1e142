// Witnesses of a transparency log (C2SP tlog-witness, tlog-policy): one of our own, which cosigns
// the checkpoints of one log as long as each is the continuation of the last, and the list of those
// whom somebody believes.
#ifndef HM_TRUSTCHAIN_WITNESS_H
#define HM_TRUSTCHAIN_WITNESS_H

#include "trustchain/log.h"
#include "trustchain/note.h"

// ---- whom to believe: pure functions ------------------------------------------------------------

#define TC_WITNESS_POLICY_MAX 65536u // bytes of the file
#define TC_WITNESSES_MAX 16u
#define TC_WITNESS_URL_MAX 255u

typedef struct tc_witness_policy {
    size_t count;
    struct {
        tc_witness_key key;
        char url[TC_WITNESS_URL_MAX + 1]; // submission prefix, or ""
    } witness[TC_WITNESSES_MAX];
} tc_witness_policy;

// Lines "witness NAME VKEY [URL]", and comments with # (C2SP tlog-policy). A key stands there once.
// Other lines of that format are refused rather than passed over: a quorum that is written there is
// not the one that would be checked. HM_E_PARSE, HM_E_LIMIT.
HM_CHECK hm_err tc_witness_policy_parse(hm_bytes text, tc_witness_policy *out);

// ---- add-checkpoint: pure functions -------------------------------------------------------------

#define TC_WITNESS_PROOF_MAX 63u // hashes
#define TC_WITNESS_BODY_MAX (TC_NOTE_MAX + 4096u)

typedef struct tc_add_checkpoint {
    uint64_t old_size;
    hm_hash proof[TC_WITNESS_PROOF_MAX];
    size_t count;
    tc_checkpoint checkpoint; // borrowed from the body
} tc_add_checkpoint;

HM_CHECK hm_err tc_add_checkpoint_parse(hm_bytes body, tc_add_checkpoint *out);
HM_CHECK hm_err tc_add_checkpoint_put(uint64_t old_size, const hm_hash *proof, size_t count,
                                      hm_bytes note, hm_buf *body);

// ---- a witness: one thread ----------------------------------------------------------------------

typedef struct tc_witness tc_witness;

// Its key (Ed25519, made when it is missing) and the last checkpoint that it cosigned are in
// dir/witness.key and dir/witness.checkpoint. origin and log_pem say which log. HM_E_CORRUPT when
// what is there is damaged or of another log: it has to be somebody's decision to forget it.
HM_CHECK hm_err tc_witness_open(const char *dir, const char *name, const char *origin,
                                hm_bytes log_pem, tc_witness **out);
void tc_witness_close(tc_witness *w); // NULL is fine
const tc_witness_key *tc_witness_public(const tc_witness *w);
// SHA-256 of the log's origin, by which it is asked for.
hm_hash tc_witness_origin_hash(const tc_witness *w);
// The last checkpoint with the log's signature and its own, or nothing; until the next add.
hm_bytes tc_witness_checkpoint(const tc_witness *w);

typedef struct tc_witness_answer {
    unsigned status;  // of HTTP; 200: body is the cosignature, 409: the size to go on from
    const char *type; // of the body
    const char *why;  // of a refusal, static; NULL: none
    hm_buf body;      // owned by the caller
} tc_witness_answer;

// What to answer to the body of an add-checkpoint. What it cosigned is on disk before.
void tc_witness_add(tc_witness *w, hm_bytes body, uint64_t now_ms, tc_witness_answer *out);

#endif
