#include "server/trust_witness.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/client.h"
#include "trustchain/log.h"
#include "trustchain/witness.h"

#define LOOK_MS 250u            // for a new checkpoint
#define AGAIN_MS UINT64_C(5000) // after a failure
#define ANSWER_S 5u

typedef struct ask { // one witness
    uv_work_t work;
    trust_witness *w;
    const tc_witness_key *key;
    hm_client client;
    uint64_t size;     // that it cosigned last, as far as is known
    bool done;         // with the note of the round
    bool size_told;    // by a conflict, in this round
    bool failing;      // said so in the log
    uint64_t again_ms; // not before
    // Of the thread while it works.
    hm_buf body, answer;
    hm_err err;
    char why[200], text[32];
} ask;

struct trust_witness {
    trust_witness_config cfg;
    char root[4096];
    tc_witness_policy policy;
    uv_timer_t timer;
    ask asks[TC_WITNESSES_MAX];
    unsigned running;
    bool closing, timer_closed;
    hm_buf note;   // of the round
    uint64_t size; // of it
    bool is_published;
    hm_buf lines;     // cosignatures of it
    hm_buf published; // a note and the lines that had come by then
    trust_witness_counters counters;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static uint64_t now_ms(const trust_witness *w)
{
    return hm_clock_wall_ms(w->cfg.clock);
}

static void finish_close(trust_witness *w)
{
    void (*closed)(void *) = w->closed;
    void *ctx = w->closed_ctx;
    if (!w->closing || !w->timer_closed || w->running > 0)
        return;
    hm_buf_free(&w->note);
    hm_buf_free(&w->lines);
    hm_buf_free(&w->published);
    free(w);
    closed(ctx);
}

// ---- a round ------------------------------------------------------------------------------------

static void publish(trust_witness *w)
{
    hm_buf b = {0};
    hm_buf_put(&b, hm_buf_bytes(&w->note));
    hm_buf_put(&b, hm_buf_bytes(&w->lines));
    if (hm_buf_status(&b) != HM_OK) { // the one before stays
        hm_buf_free(&b);
        return;
    }
    hm_buf_free(&w->published);
    w->published = b;
    w->is_published = true;
    w->counters.cosigned = 0;
    for (size_t i = 0; i < w->policy.count; i++)
        w->counters.cosigned += w->asks[i].done;
}

static void failed(ask *a, const char *why)
{
    trust_witness *w = a->w;
    char quoted[512];
    w->counters.failures++;
    a->again_ms = now_ms(w) + AGAIN_MS;
    if (!a->failing)
        hm_log(HM_LOG_WARN, "log", "not cosigned", "witness=%s why=%s", a->key->name,
               hm_log_quote(quoted, sizeof quoted, hm_bytes_str(why)));
    a->failing = true;
}

// The cosignature among the lines that came; lines of other keys are passed over (tlog-witness).
static hm_err take(ask *a)
{
    trust_witness *w = a->w;
    hm_buf both = {0};
    tc_checkpoint c;
    uint64_t time_s;
    hm_err err;
    hm_buf_put(&both, hm_buf_bytes(&w->note));
    hm_buf_put(&both, hm_buf_bytes(&a->answer));
    HM_TRY_OUT(hm_buf_status(&both));
    HM_TRY_OUT(tc_checkpoint_parse(hm_buf_bytes(&both), &c));
    err = tc_cosignature_verify(&c, a->key, &time_s);
    if (err == HM_E_NOTFOUND)
        err = hm_fail(err, "the answer has no cosignature by the key that is configured");
    HM_TRY_OUT(err);
    hm_buf_put(&w->lines, tc_cosignature_line(&c, a->key));
    err = hm_buf_status(&w->lines);
out:
    hm_buf_free(&both);
    return err;
}

static void work(uv_work_t *job)
{
    ask *a = job->data;
    const hm_client_refusal *r;
    a->err = hm_client_request(&a->client, "POST", "/add-checkpoint", hm_buf_bytes(&a->body), NULL,
                               &a->answer);
    snprintf(a->why, sizeof a->why, "%s", a->err == HM_OK ? "" : hm_err_detail());
    r = a->err == HM_E_EXISTS ? hm_client_refused() : NULL;
    snprintf(a->text, sizeof a->text, "%.*s", r ? (int)strcspn(r->text, "\n") : 0,
             r ? r->text : "");
}

static void on_worked(uv_work_t *job, int status);

static hm_err begin(ask *a)
{
    trust_witness *w = a->w;
    hm_hash proof[TC_PROOF_MAX];
    size_t count = 0;
    if (a->size > w->size)
        return hm_fail(HM_E_CORRUPT,
                       "it has cosigned %llu entries, and the log has %llu: was an older copy of "
                       "the store put in its place?",
                       (unsigned long long)a->size, (unsigned long long)w->size);
    if (a->size > 0)
        HM_TRY(tc_log_prove_consistency(w->cfg.authority, a->size, w->size, proof, &count));
    hm_buf_reset(&a->body);
    hm_buf_reset(&a->answer);
    HM_TRY(tc_add_checkpoint_put(a->size, proof, count, hm_buf_bytes(&w->note), &a->body));
    if (uv_queue_work(w->cfg.loop, &a->work, work, on_worked) != 0)
        return HM_E_NOMEM;
    w->running++;
    return HM_OK;
}

static void on_worked(uv_work_t *job, int status)
{
    ask *a = job->data;
    trust_witness *w = a->w;
    uint64_t size;
    hm_err err = status == 0 ? a->err : HM_E_CLOSED;
    w->running--;
    // It says how far it is: it has forgotten, or this program was started anew.
    if (err == HM_E_EXISTS && !a->size_told && !w->closing &&
        tc_decimal_read(hm_bytes_str(a->text), &size) == HM_OK) {
        a->size_told = true;
        a->size = size;
        err = begin(a);
        if (err == HM_OK)
            return;
        snprintf(a->why, sizeof a->why, "%s", hm_err_detail());
    } else if (err == HM_OK) {
        err = take(a);
        snprintf(a->why, sizeof a->why, "%s", err == HM_OK ? "" : hm_err_detail());
    }
    if (err == HM_OK) {
        a->done = true;
        a->failing = false;
        a->size = w->size;
        w->counters.cosignatures++;
    } else if (status == 0) {
        failed(a, a->why);
    }
    hm_buf_free(&a->body);
    hm_buf_free(&a->answer);
    if (w->running == 0 && !w->closing)
        publish(w);
    finish_close(w);
}

// Is there a newer checkpoint? Then all are to be asked about it.
static hm_err refresh(trust_witness *w)
{
    hm_buf note = {0};
    tc_checkpoint c;
    hm_err err;
    HM_TRY_OUT(tc_log_checkpoint(w->cfg.authority, now_ms(w), &note));
    if (hm_bytes_eq(hm_buf_bytes(&note), hm_buf_bytes(&w->note)))
        goto out;
    HM_TRY_OUT(tc_checkpoint_parse(hm_buf_bytes(&note), &c));
    w->size = c.size;
    hm_buf_free(&w->note);
    w->note = note;
    note = (hm_buf){0};
    w->is_published = false;
    hm_buf_reset(&w->lines);
    for (size_t i = 0; i < w->policy.count; i++)
        w->asks[i].done = false;
out:
    hm_buf_free(&note);
    return err;
}

static void on_timer(uv_timer_t *t)
{
    trust_witness *w = t->data;
    char why[512];
    if (w->running > 0)
        return;
    if (refresh(w) != HM_OK) {
        hm_log(HM_LOG_ERROR, "log", "no checkpoint", "why=%s",
               hm_log_quote(why, sizeof why, hm_bytes_str(hm_err_detail())));
        return;
    }
    for (size_t i = 0; i < w->policy.count; i++) {
        ask *a = &w->asks[i];
        if (a->done || now_ms(w) < a->again_ms)
            continue;
        a->size_told = false;
        if (begin(a) != HM_OK)
            failed(a, hm_err_detail());
    }
    if (w->running == 0 && !w->is_published) // all are away, and the log goes on
        publish(w);
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err read_policy(trust_witness *w)
{
    char why[300];
    hm_buf text = {0};
    const char *path = w->cfg.policy_path;
    hm_err err = hm_file_read(path, TC_WITNESS_POLICY_MAX, &text);
    if (err == HM_OK)
        err = tc_witness_policy_parse(hm_buf_bytes(&text), &w->policy);
    snprintf(why, sizeof why, "%s", hm_err_detail());
    hm_buf_free(&text);
    if (err != HM_OK)
        return hm_fail(HM_E_CONFIG, "--witnesses, %s: %s", path, why);
    for (size_t i = 0; i < w->policy.count; i++)
        if (strncmp(w->policy.witness[i].url, "https://", 8) != 0)
            return hm_fail(HM_E_CONFIG, "--witnesses, %s: %s needs a URL, https://HOST/witness",
                           path, w->policy.witness[i].key.name);
    return HM_OK;
}

hm_err trust_witness_open(const trust_witness_config *cfg, trust_witness **out)
{
    trust_witness *w = calloc(1, sizeof *w);
    hm_err err;
    if (!w)
        return HM_E_NOMEM;
    w->cfg = *cfg;
    (void)curl_global_init(CURL_GLOBAL_DEFAULT); // before the threads
    snprintf(w->root, sizeof w->root, "%s", cfg->root_path);
    err = read_policy(w);
    if (err == HM_OK && uv_timer_init(cfg->loop, &w->timer) != 0)
        err = HM_E_NOMEM;
    if (err != HM_OK) {
        free(w);
        return err;
    }
    for (size_t i = 0; i < w->policy.count; i++) {
        ask *a = &w->asks[i];
        a->work.data = a;
        a->w = w;
        a->key = &w->policy.witness[i].key;
        a->client =
            (hm_client){.url = w->policy.witness[i].url, .ca_path = w->root, .timeout_s = ANSWER_S};
    }
    w->counters.witnesses = (uint32_t)w->policy.count;
    w->timer.data = w;
    uv_timer_start(&w->timer, on_timer, 0, LOOK_MS);
    *out = w;
    return HM_OK;
}

static void on_timer_closed(uv_handle_t *h)
{
    trust_witness *w = h->data;
    w->timer_closed = true;
    finish_close(w);
}

void trust_witness_close(trust_witness *w, void (*closed)(void *ctx), void *ctx)
{
    w->closed = closed;
    w->closed_ctx = ctx;
    w->closing = true;
    for (size_t i = 0; i < w->policy.count; i++)
        (void)uv_cancel((uv_req_t *)&w->asks[i].work); // one that works is waited for
    uv_close((uv_handle_t *)&w->timer, on_timer_closed);
}

hm_bytes trust_witness_note(const trust_witness *w)
{
    return hm_buf_bytes(&w->published);
}

void trust_witness_get_counters(const trust_witness *w, trust_witness_counters *out)
{
    *out = w->counters;
}
