// What an authority's certificates point at, for everybody, over plain HTTP: what is fetched here
// is signed, and fetching it over HTTPS would need the same check first (RFC 5280, 8).
//   POST /ocsp, GET /ocsp/BASE64                   trustchain/ocsp.h (RFC 6960, appendix A)
//   GET /crl/mesh.crl, /crl/edge.crl               revocation lists, DER
//   GET /crl/mesh-delta.crl, /crl/edge-delta.crl   what they have beyond the day's first, DER
//   GET /ca/mesh.crt, /ca/edge.crt                 issuing certificates, DER
//   GET /crl/edge-ID.crl and so on                 the same of one issuing CA of the edge family,
//                                                  also after another took over
// Everything belongs to the loop's thread.
#ifndef HM_SERVER_OCSP_API_H
#define HM_SERVER_OCSP_API_H

#include "server/http.h"
#include "trustchain/ocsp.h"

typedef struct ocsp_api ocsp_api;

typedef struct ocsp_api_config {
    uv_loop_t *loop;         // borrowed until close is done
    tc_authority *authority; // borrowed until close is done
    tc_ocsp *ocsp;           // of that authority; borrowed until close is done
    const hm_clock *clock;   // borrowed until close is done
    hm_http_limits limits;
    struct sockaddr_in6 addr;
} ocsp_api_config;

HM_CHECK hm_err ocsp_api_open(const ocsp_api_config *cfg, ocsp_api **out);
// closed(ctx) is called from the loop once nothing of it is left.
void ocsp_api_close(ocsp_api *a, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx);

#endif
