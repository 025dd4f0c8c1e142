// Private to node_api*.c.
#ifndef HM_SERVER_NODE_API_INTERNAL_H
#define HM_SERVER_NODE_API_INTERNAL_H

#include "mesh/proof_module.h"
#include "server/api_json.h"
#include "server/json.h"
#include "server/node_api.h"

typedef struct api_verify api_verify;
typedef struct tc_witness tc_witness;

typedef struct api_found_op {
    hm_hash id;
    hm_op_location at;
    hm_block_header header;
    hm_op op;
    hm_op_digests digests;
} api_found_op;

struct hm_node_api {
    uv_loop_t *loop;
    hm_http *http;
    hm_node *node;
    char version[32];
    char data_dir[3072];
    api_verify *verify; // NULL when none runs
    uint64_t subscription;
    hm_list streams; // of api_stream
    uint32_t stream_count;
    uint32_t work; // requests that wait for the node
    uint64_t proofs_second;
    uint32_t proofs_count; // checked in that second
    void (*more_metrics)(void *ctx, hm_metrics *m);
    void *more_ctx;
    tc_witness *witness;             // borrowed; NULL: it is none
    uint64_t cosigned, not_cosigned; // checkpoints; not: no continuation of the last
    bool http_closed;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

// The ledger's newest final state; borrowed until control goes back to the loop.
hm_view *api_tip(const hm_node_api *a);
// That the rules of the ledger go by: of the newest block, or of the genesis.
uint64_t api_block_time(const hm_view *v);
// Answers with the code and this thread's detail line.
void api_refuse(hm_http_req *r, hm_err err);
// 200 with the JSON, or that; the buffer is emptied.
void api_reply_or_refuse(hm_http_req *r, hm_err err, hm_buf *b);
// A 32-byte id in the n-th parameter; answers 400 and gives false when it is none.
bool api_param_id(hm_http_req *r, size_t n, hm_hash *out);
// A decimal query parameter, or def when absent; answers 400 and gives false when it is none.
bool api_query_u64(hm_http_req *r, const char *name, uint64_t def, uint64_t max, uint64_t *out);
// The parameter "limit", at least 1.
bool api_query_limit(hm_http_req *r, uint64_t def, uint64_t max, uint64_t *out);
// The parameter "cursor" as a place among operations, "HEIGHT.INDEX"; *out stays when absent.
bool api_query_place(hm_http_req *r, hm_op_location *out);
// The asset or operation that the first parameter names; answers and gives false when it is none.
bool api_find_asset(const hm_node_api *a, hm_http_req *r, hm_asset *out);
bool api_find_op(const hm_node_api *a, hm_http_req *r, api_found_op *out);
// An operation of the node: the answer comes when it is final. asset NULL: it names none.
void api_submit(hm_node_api *a, hm_http_req *r, uint8_t module, uint8_t kind, const hm_hash *asset,
                const hm_buf *payload);
// One on an asset, or, without one, that begins one.
void api_asset_submit(hm_node_api *a, hm_http_req *r, uint8_t kind, const hm_hash *asset,
                      const hm_buf *payload);
void api_policy_of(const api_policy *in, hm_asset_policy *out);
// The parameter "owner", an id or a name; answers 400 and gives false when it is none.
bool api_query_owner(const hm_node_api *a, hm_http_req *r, hm_node_id *id, bool *given);
void api_put_commitment(hm_buf *b, const char *name, const hm_commitment *c);
// The name of a member; its id's first 8 digits when unknown.
void api_node_name(const hm_node_api *a, const hm_node_id *id, char out[64]);
// Ends the wait of one request for the node.
void api_work_done(hm_node_api *a);
const char *api_addr_text(const uint8_t addr[16], char out[46]);

void api_status(void *ctx, hm_http_req *r);
void api_nodes(void *ctx, hm_http_req *r);
void api_node(void *ctx, hm_http_req *r);
void api_assets_list(void *ctx, hm_http_req *r);
void api_assets_register(void *ctx, hm_http_req *r);
void api_asset_get(void *ctx, hm_http_req *r);
void api_asset_history(void *ctx, hm_http_req *r);
void api_asset_transfer(void *ctx, hm_http_req *r);
void api_asset_state(void *ctx, hm_http_req *r);
void api_asset_retire(void *ctx, hm_http_req *r);
void api_asset_policy(void *ctx, hm_http_req *r);
void api_zone(void *ctx, hm_http_req *r);
void api_names_list(void *ctx, hm_http_req *r);
void api_names_register(void *ctx, hm_http_req *r);
void api_name_get(void *ctx, hm_http_req *r);
void api_name_records(void *ctx, hm_http_req *r);
void api_name_renew(void *ctx, hm_http_req *r);
// node_api_trust.c
void api_trust_list(void *ctx, hm_http_req *r);
void api_trust_get(void *ctx, hm_http_req *r);
void api_trust_propose(void *ctx, hm_http_req *r);
void api_trust_approve(void *ctx, hm_http_req *r);
void api_trust_withdraw(void *ctx, hm_http_req *r);
// node_api_witness.c
void api_witness_add(void *ctx, hm_http_req *r);
void api_witness_key(void *ctx, hm_http_req *r);
void api_witness_checkpoint(void *ctx, hm_http_req *r);
void api_content_put(void *ctx, hm_http_req *r);
void api_content_get(void *ctx, hm_http_req *r);
void api_asset_chunks(void *ctx, hm_http_req *r);
void api_operations(void *ctx, hm_http_req *r);
void api_operation(void *ctx, hm_http_req *r);
void api_operation_proofs(void *ctx, hm_http_req *r);
void api_blocks(void *ctx, hm_http_req *r);
void api_block(void *ctx, hm_http_req *r);
void api_block_operations(void *ctx, hm_http_req *r);
void api_block_raw(void *ctx, hm_http_req *r);
void api_genesis(void *ctx, hm_http_req *r);
void api_ledger_verify(void *ctx, hm_http_req *r);
// Ends a verification soon; its answer says so.
void api_verify_cancel(hm_node_api *a);

#endif
