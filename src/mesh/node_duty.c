// What a member owes the mesh: answers for its sector, beacons in turn with the others, and its
// certificate, when it started with another than the ledger has.
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "mesh/node_internal.h"
#include "mesh/node_module.h"

// How long a member lets the one before it try alone for a beacon, a squaring: about three times
// what one takes at 1024 bits on a core of 2024.
#define TURN_US_SQUARING 30u
#define BEACON_NICE 15 // an evaluation takes all of a core, which others need more

typedef struct duty_job {
    uv_work_t work;     // an answer
    uv_thread_t thread; // a beacon: its own, so that it can be slow
    uv_async_t made;
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

static void answer_run(uv_work_t *w)
{
    duty_job *j = w->data;
    hm_err_clear();
    j->err = hm_space_answer(j->node->sector, &j->seed, &j->proof);
    snprintf(j->detail, sizeof j->detail, "%.190s", hm_err_detail());
}

static void beacon_run(void *ctx)
{
    duty_job *j = ctx;
    hm_time_group group;
    (void)setpriority(PRIO_PROCESS, 0, BEACON_NICE); // of this thread only, on Linux
    hm_err_clear();
    j->err = hm_proof_time_group(j->node->genesis, &group);
    if (j->err == HM_OK)
        j->err = hm_time_eval(&group, &j->seed, &j->progress, &j->proof);
    snprintf(j->detail, sizeof j->detail, "%.190s", hm_err_detail());
    uv_async_send(&j->made);
}

// Failures that pass by themselves: then it is worth doing again.
static bool passes(hm_err err)
{
    return err == HM_E_BUSY || err == HM_E_NOMEM || err == HM_E_OP_NONCE || err == HM_E_PROOF_WORK;
}

static void recorded(hm_node *n, bool beacon, hm_err err, const char *detail)
{
    // Another member was quicker with a beacon, or the node is going down: nothing to tell.
    if (err == HM_OK || err == HM_E_OP_STATE || err == HM_E_OP_DUPLICATE || err == HM_E_CLOSED)
        return;
    hm_log(HM_LOG_WARN, "mesh", "a duty was not recorded", "what=%s reason=\"%s: %s\"",
           beacon ? "beacon" : "answer", hm_err_text(err), detail);
    if (passes(err) && beacon && !n->proving)
        n->beacon_index = 0;
    if (passes(err) && !beacon && !n->answering)
        n->answer_epoch = 0;
}

static void answer_recorded(void *ctx, hm_err err, const char *detail, const hm_node_receipt *r)
{
    (void)r;
    recorded(ctx, false, err, detail);
}

static void beacon_recorded(void *ctx, hm_err err, const char *detail, const hm_node_receipt *r)
{
    (void)r;
    recorded(ctx, true, err, detail);
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
                          hm_buf_bytes(&payload), j->beacon ? beacon_recorded : answer_recorded, n);
    if (err != HM_OK)
        recorded(n, j->beacon, err, hm_err_detail());
    hm_buf_free(&payload);
}

static void job_result(duty_job *j)
{
    if (j->node->closing || atomic_load(&j->progress.cancel))
        return; // another member's beacon came first, or the node ends
    if (j->err != HM_OK)
        hm_log(HM_LOG_ERROR, "mesh", "a proof cannot be made", "what=%s reason=\"%s: %s\"",
               j->beacon ? "time" : "space", hm_err_text(j->err), j->detail);
    else if (still_due(j))
        job_submit(j);
}

static void job_free(duty_job *j)
{
    j->node->works--;
    hm_buf_free(&j->proof);
    free(j);
}

static void answer_done(uv_work_t *w, int status)
{
    duty_job *j = w->data;
    j->node->answering = false;
    if (status == 0)
        job_result(j);
    job_free(j);
}

static void beacon_closed(uv_handle_t *h)
{
    job_free(h->data);
}

static void beacon_done(uv_async_t *made)
{
    duty_job *j = made->data;
    uv_thread_join(&j->thread);
    j->node->proving = false;
    j->node->proving_job = NULL;
    job_result(j);
    uv_close((uv_handle_t *)made, beacon_closed);
}

static duty_job *job_new(hm_node *n, bool beacon, uint64_t number, const hm_hash *seed)
{
    duty_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return NULL;
    *j = (duty_job){.node = n, .beacon = beacon, .number = number, .seed = *seed};
    j->work.data = j;
    j->made.data = j;
    n->works++;
    return j;
}

static bool answer_start(hm_node *n, uint64_t epoch, const hm_hash *seed)
{
    duty_job *j = job_new(n, false, epoch, seed);
    if (j == NULL)
        return false;
    if (uv_queue_work(n->loop, &j->work, answer_run, answer_done) != 0) {
        job_free(j);
        return false;
    }
    return true;
}

static bool beacon_start(hm_node *n, uint64_t index, const hm_hash *input)
{
    duty_job *j = job_new(n, true, index, input);
    if (j == NULL)
        return false;
    if (uv_async_init(n->loop, &j->made, beacon_done) != 0) {
        job_free(j);
        return false;
    }
    if (uv_thread_create(&j->thread, beacon_run, j) != 0) {
        uv_close((uv_handle_t *)&j->made, beacon_closed);
        return false;
    }
    n->proving_job = &j->progress;
    return true;
}

// ---- the certificate ----------------------------------------------------------------------------

static void cert_done(void *ctx, hm_err err, const char *detail, const hm_node_receipt *r)
{
    hm_node *n = ctx;
    (void)r;
    n->cert_bringing = false;
    // Otherwise it is looked at again after the next block: the file may have another by then.
    n->cert_recorded = err != HM_OK && !passes(err);
    if (err != HM_OK && err != HM_E_CLOSED && err != HM_E_OP_DUPLICATE)
        hm_log(HM_LOG_WARN, "mesh", "this node's certificate was not recorded", "reason=\"%s: %s\"",
               hm_err_text(err), detail);
}

static hm_err cert_bring(hm_node *n)
{
    char path[4100];
    hm_buf pem = {0}, der = {0}, payload = {0};
    hm_member_cert known;
    snprintf(path, sizeof path, "%s/node.crt", n->dir);
    hm_err err = hm_file_read(path, 1u << 20, &pem);
    if (err == HM_OK)
        err = tc_pem_to_der(hm_buf_bytes(&pem), &der);
    if (err != HM_OK)
        goto out;
    hm_hash hash = hm_sha256(hm_buf_bytes(&der));
    err = hm_member_cert_find(hm_ledger_tip(n->ledger), &hash, &known);
    if (err != HM_E_NOTFOUND) {
        n->cert_recorded = err == HM_OK;
        goto out;
    }
    hm_node_payload_encode(hm_buf_bytes(&der), &payload);
    HM_TRY_OUT(hm_buf_status(&payload));
    err = pool_submit(n, HM_MODULE_NODE, HM_NODE_CERT, hm_buf_bytes(&payload), cert_done, n);
    n->cert_bringing = err == HM_OK;
out:
    hm_buf_free(&pem);
    hm_buf_free(&der);
    hm_buf_free(&payload);
    return err;
}

hm_err hm_node_cert_renewed(hm_node *n)
{
    if (n->closing)
        return HM_OK;
    HM_TRY(peers_cert_renewed(n));
    n->cert_recorded = false;
    return n->cert_bringing ? HM_OK : cert_bring(n); // else after the next block
}

// ---- what is due --------------------------------------------------------------------------------

// Each beacon has one member who begins at once; the others follow in turn, should it fail to come.
static bool my_turn(hm_node *n, uint64_t index)
{
    uint64_t now = node_now_us();
    uint64_t rank = (n->self + n->count - index % n->count) % n->count;
    if (n->beacon_due != index) {
        n->beacon_due = index;
        n->beacon_due_us = now;
    }
    return now - n->beacon_due_us >= rank * TURN_US_SQUARING * n->genesis->params.time_iterations;
}

void duty_committed(hm_node *n)
{
    hm_view *tip = hm_ledger_tip(n->ledger);
    uint64_t number, since;
    hm_hash seed;
    if (n->closing)
        return;
    if (!n->cert_recorded && !n->cert_bringing && cert_bring(n) != HM_OK)
        hm_log(HM_LOG_WARN, "mesh", "this node's certificate cannot be recorded", "reason=\"%s\"",
               hm_err_detail());
    if (!n->answering && hm_proof_answer_due(tip, &n->id, &number, &seed) == HM_OK &&
        number != n->answer_epoch && answer_start(n, number, &seed)) {
        n->answering = true;
        n->answer_epoch = number;
    }
    if (n->proving && hm_proof_beacon_newest(tip, &number, NULL) == HM_OK &&
        number >= n->beacon_index)
        atomic_store(&n->proving_job->cancel, true); // another member's came first
    if (hm_proof_beacon_due(tip, &number, &seed, &since) == HM_OK && my_turn(n, number) &&
        !n->proving && number != n->beacon_index && beacon_start(n, number, &seed)) {
        n->proving = true;
        n->beacon_index = number;
    }
}

void duty_cancel(hm_node *n)
{
    if (n->proving)
        atomic_store(&n->proving_job->cancel, true);
}
