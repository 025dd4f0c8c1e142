// The authority's own certificates, for its API: roots, the cross-signature, issuing CAs. Each call
// answers the request. The loop's thread.
#ifndef HM_SERVER_TRUST_ROOTS_H
#define HM_SERVER_TRUST_ROOTS_H

#include "server/http.h"
#include "trustchain/trustchain.h"

// Parameter name; without it both roots. PEM.
void trust_roots_tell(const tc_authority *a, hm_http_req *r);
// All issuing CAs, the mesh's first, then the edge family's, the present one first of these.
void trust_issuing_tell(const tc_authority *a, hm_http_req *r);

#endif
