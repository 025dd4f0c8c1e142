// A node as a witness of a transparency log (C2SP tlog-witness): /witness is its submission and its
// monitoring prefix. Nobody needs a token: the log's signature on what is submitted is what counts.
#include "server/node_api_internal.h"
#include "trustchain/witness.h"

static bool is_witness(const hm_node_api *a, hm_http_req *r)
{
    if (!a->witness)
        hm_http_reply_err(r, HM_E_NOTFOUND, "this node is no witness of a log: --witness-log");
    return a->witness != NULL;
}

void api_witness_add(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    tc_witness_answer w;
    if (!is_witness(a, r))
        return;
    tc_witness_add(a->witness, hm_http_body(r), hm_clock_wall_ms(&hm_clock_system), &w);
    if (w.why)
        hm_http_reply_error(r, w.status, "WITNESS", "not cosigned", w.why);
    else
        hm_http_reply(r, w.status, w.type, hm_buf_bytes(&w.body));
    if (w.status == 422 || w.status == 503)
        hm_log(HM_LOG_ERROR, "witness", "not cosigned", "status=%u why=\"%s\"", w.status, w.why);
    a->cosigned += w.status == 200;
    a->not_cosigned += w.status == 422;
    hm_buf_free(&w.body);
}

void api_witness_key(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_buf b = {0};
    if (!is_witness(a, r))
        return;
    tc_witness_key_put(tc_witness_public(a->witness), &b);
    hm_buf_puts(&b, "\n");
    if (hm_buf_status(&b) == HM_OK)
        hm_http_reply(r, 200, "text/plain; charset=utf-8", hm_buf_bytes(&b));
    else
        hm_http_reply_err(r, hm_buf_status(&b), NULL);
    hm_buf_free(&b);
}

void api_witness_checkpoint(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_hash origin;
    if (!is_witness(a, r) || !api_param_id(r, 0, &origin))
        return;
    hm_bytes note = tc_witness_checkpoint(a->witness);
    hm_hash mine = tc_witness_origin_hash(a->witness);
    if (note.len == 0 || !hm_hash_eq(&origin, &mine)) {
        hm_http_reply_err(r, HM_E_NOTFOUND, "no checkpoint of a log of that origin was cosigned");
        return;
    }
    hm_http_cache_control(r, "no-cache");
    hm_http_reply(r, 200, "text/plain; charset=utf-8", note);
}
