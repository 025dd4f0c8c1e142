// The node's HTTP API over mesh/node.h: what the page, the command line and other programs use.
// docs/api/openapi.yaml is its definition, served at /v1/openapi.yaml. Everything belongs to the
// loop's thread.
#ifndef HM_SERVER_NODE_API_H
#define HM_SERVER_NODE_API_H

#include "mesh/node.h"
#include "server/http.h"

#define HM_API_CONTENT_MAX (UINT64_C(1) << 40) // bytes of an upload
#define HM_API_PAGE_MAX 500u                   // items of a listing
#define HM_API_EVENT_STREAMS_MAX 256u
// Operations whose proofs are checked again: each costs the node's thread some 10 ms.
#define HM_API_PROOFS_PER_SECOND 16u

typedef struct hm_metrics hm_metrics;
typedef struct tc_witness tc_witness;
typedef struct hm_node_api hm_node_api;

typedef struct hm_node_api_config {
    uv_loop_t *loop;      // borrowed until close is done
    hm_node *node;        // borrowed until close is done
    const char *data_dir; // for what a verification of the ledger writes meanwhile
    const char *token;
    const char *version;
    tc_witness *witness; // borrowed until close is done; NULL: the node is no witness of a log
    // Adds what others of this process count, such as its DNS service; may be NULL.
    void (*more_metrics)(void *ctx, hm_metrics *m);
    void *more_ctx; // borrowed
    hm_http_limits limits;
    hm_http_listen_config api;  // HTTPS
    hm_http_listen_config page; // plain, local, reads only; left out when static_dir is NULL
} hm_node_api_config;

HM_CHECK hm_err hm_node_api_open(const hm_node_api_config *cfg, hm_node_api **out);
// closed(ctx) is called from the loop once nothing of the API is left; the node must outlive it.
void hm_node_api_close(hm_node_api *a, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx);
// The API's certificate was renewed in its files: new connections get the new one.
HM_CHECK hm_err hm_node_api_cert_renewed(hm_node_api *a);

// The table of routes, for the test that compares it with the definition.
const hm_http_route *hm_node_api_routes(size_t *count);

#endif
