// The authority's HTTP API over trustchain/trustchain.h. docs/api/trustchain.yaml is its
// definition, served at /openapi.yaml. Everything belongs to the loop's thread.
#ifndef HM_SERVER_TRUST_API_H
#define HM_SERVER_TRUST_API_H

#include "base/clock.h"
#include "server/http.h"
#include "trustchain/trustchain.h"

#define HM_TRUST_PAGE_MAX 500u // items of a listing

typedef struct hm_trust_api hm_trust_api;

typedef struct hm_trust_api_config {
    uv_loop_t *loop;         // borrowed until close is done
    tc_authority *authority; // borrowed until close is done
    const hm_clock *clock;   // borrowed until close is done
    const char *token;
    hm_http_limits limits;
    hm_http_listen_config api;
} hm_trust_api_config;

HM_CHECK hm_err hm_trust_api_open(const hm_trust_api_config *cfg, hm_trust_api **out);
// closed(ctx) is called from the loop once nothing of the API is left.
void hm_trust_api_close(hm_trust_api *a, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx);
// The server's certificate was renewed in its files: new connections get the new one.
HM_CHECK hm_err hm_trust_api_renewed(hm_trust_api *a);
// One line in the log for each act of the authority.
void hm_trust_audit(const char *act, const tc_issued *i);

// The table of routes, for the test that compares it with the definition.
const hm_http_route *hm_trust_api_routes(size_t *count);

#endif
