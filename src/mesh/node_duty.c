// What a member owes the mesh: answers for its sector, and beacons in turn with the others.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/node_internal.h"

typedef struct duty_job {
    uv_work_t work;
    hm_node *node;
    bool beacon;
    uint64_t number; // epoch, or index of the beacon
    hm_hash seed;    // of the answer, or input of the beacon
    hm_time_progress progress;
    hm_buf proof;
    hm_err err;
    char detail[200];
} duty_job;

hm_err duty_open(hm_node *n)
{
    char path[4100];
    snprintf(path, sizeof path, "%s/sector-%u", n->dir, n->genesis->validators[n->self].sector);
    hm_err err = hm_space_open(path, &n->sector);
    if (err == HM_E_NOTFOUND)
        return hm_fail(err, "the sealed sector %s is missing", path);
    HM_TRY(err);
    const hm_space_info *info = hm_space_sector_info(n->sector);
    if (!hm_hash_eq(&info->commitment.labels, &n->genesis->validators[n->self].commitment.labels))
        return hm_fail(HM_E_CONFIG, "%s is another sector than the genesis names", path);
    return HM_OK;
}

void duty_close(hm_node *n)
{
    hm_space_close(n->sector);
    n->sector = NULL;
}

// ---- jobs ---------------------------------------------------------------------------------------

static void job_run(uv_work_t *w)
{
    duty_job *j = w->data;
    hm_time_group group;
    hm_err_clear();
    if (!j->beacon) {
        j->err = hm_space_answer(j->node->sector, &j->seed, &j->proof);
    } else {
        j->err = hm_proof_time_group(j->node->genesis, &group);
        if (j->err == HM_OK)
            j->err = hm_time_eval(&group, &j->seed, &j->progress, &j->proof);
    }
    snprintf(j->detail, sizeof j->detail, "%.190s", hm_err_detail());
}

static void on_recorded(void *ctx, hm_err err, const char *detail, const hm_node_receipt *receipt)
{
    (void)receipt;
    const char *what = ctx;
    // Another member was quicker with a beacon, or the node is going down: nothing to tell.
    if (err != HM_OK && err != HM_E_OP_STATE && err != HM_E_OP_DUPLICATE && err != HM_E_CLOSED)
        hm_log(HM_LOG_WARN, "mesh", "a duty was not recorded", "what=%s reason=\"%s: %s\"", what,
               hm_err_text(err), detail);
}

static bool still_due(const duty_job *j)
{
    hm_node *n = j->node;
    hm_view *tip = hm_ledger_tip(n->ledger);
    uint64_t number = 0, since;
    hm_hash seed;
    hm_err err = j->beacon ? hm_proof_beacon_due(tip, &number, &seed, &since)
                           : hm_proof_answer_due(tip, &n->id, &number, &seed);
    return err == HM_OK && number == j->number;
}

static void job_submit(duty_job *j)
{
    hm_node *n = j->node;
    hm_buf payload = {0};
    if (j->beacon)
        hm_proof_beacon_encode(j->number, hm_buf_bytes(&j->proof), &payload);
    else
        hm_proof_answer_encode(n->genesis->validators[n->self].sector, j->number,
                               hm_buf_bytes(&j->proof), &payload);
    hm_err err = hm_buf_status(&payload);
    if (err == HM_OK)
        err = pool_submit(n, HM_MODULE_PROOF, j->beacon ? HM_PROOF_BEACON : HM_PROOF_SPACE_ANSWER,
                          hm_buf_bytes(&payload), on_recorded,
                          (void *)(j->beacon ? "beacon" : "answer"));
    if (err != HM_OK)
        hm_log(HM_LOG_WARN, "mesh", "a duty was not submitted", "reason=\"%s\"", hm_err_detail());
    hm_buf_free(&payload);
}

static void job_done(uv_work_t *w, int status)
{
    duty_job *j = w->data;
    hm_node *n = j->node;
    n->works--;
    if (j->beacon) {
        n->proving = false;
        n->proving_job = NULL;
    } else {
        n->answering = false;
    }
    if (!n->closing && status == 0) {
        if (j->err != HM_OK)
            hm_log(HM_LOG_ERROR, "mesh", "a proof cannot be made", "what=%s reason=\"%s: %s\"",
                   j->beacon ? "time" : "space", hm_err_text(j->err), j->detail);
        else if (still_due(j))
            job_submit(j);
    }
    hm_buf_free(&j->proof);
    free(j);
}

static bool job_start(hm_node *n, bool beacon, uint64_t number, const hm_hash *seed)
{
    duty_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return false;
    j->node = n;
    j->beacon = beacon;
    j->number = number;
    j->seed = *seed;
    j->work.data = j;
    if (uv_queue_work(n->loop, &j->work, job_run, job_done) != 0) {
        free(j);
        return false;
    }
    if (beacon)
        n->proving_job = &j->progress;
    n->works++;
    return true;
}

// ---- what is due --------------------------------------------------------------------------------

// Each beacon has one member who begins at once; the others follow in turn, should it fail to come.
static bool my_turn(const hm_node *n, uint64_t index, uint64_t since_height)
{
    uint64_t rank = (n->self + n->count - index % n->count) % n->count;
    uint64_t wait = (n->genesis->params.beacon_blocks + 1) / 2;
    return hm_ledger_height(n->ledger) >= since_height + rank * wait;
}

void duty_committed(hm_node *n)
{
    hm_view *tip = hm_ledger_tip(n->ledger);
    uint64_t number, since;
    hm_hash seed;
    if (n->closing)
        return;
    if (!n->answering && hm_proof_answer_due(tip, &n->id, &number, &seed) == HM_OK &&
        number != n->answer_epoch && job_start(n, false, number, &seed)) {
        n->answering = true;
        n->answer_epoch = number;
    }
    if (hm_proof_beacon_due(tip, &number, &seed, &since) != HM_OK)
        return;
    if (n->proving && number > n->beacon_index)
        atomic_store(&n->proving_job->cancel, true); // another member's came first
    if (!n->proving && number != n->beacon_index && my_turn(n, number, since) &&
        job_start(n, true, number, &seed)) {
        n->proving = true;
        n->beacon_index = number;
    }
}

void duty_cancel(hm_node *n)
{
    if (n->proving)
        atomic_store(&n->proving_job->cancel, true);
}
