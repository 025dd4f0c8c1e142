// The authority's HTTP API over trustchain/trustchain.h. docs/api/trustchain.yaml is its
// definition, served at /openapi.yaml. Everything belongs to the loop's thread.
#ifndef HM_SERVER_TRUST_API_H
#define HM_SERVER_TRUST_API_H

#include "base/clock.h"
#include "server/acme_api.h"
#include "server/audit.h"
#include "server/http.h"
#include "trustchain/ocsp.h"

#define HM_TRUST_PAGE_MAX 500u   // items of a listing
#define HM_TRUST_SCAN_MAX 20000u // certificates that one request looks at

typedef struct hm_trust_api hm_trust_api;

typedef struct hm_trust_api_config {
    uv_loop_t *loop;         // borrowed until close is done
    tc_authority *authority; // borrowed until close is done
    const hm_clock *clock;   // borrowed until close is done
    const char *token;       // of the role authority
    const char *tokens_path; // of the others (tokens.h); borrowed until close is done
    audit_log *audit;        // borrowed until close is done
    const tc_ocsp *ocsp;     // for /metrics; borrowed until close is done; NULL: off
    hm_http_limits limits;
    hm_http_listen_config api;
    const char *witnesses_path; // trust_witness.h; NULL: none cosign the log
    const char *edge_root_path; // that the witnesses' servers must reach
    const char *acme_dir;       // of what ACME remembers
    acme_api_options acme;
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
