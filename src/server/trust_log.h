// The transparency log of the authority over HTTP: the files of C2SP static-ct-api below /log,
// proofs as JSON below /v1/log. Each call answers one request; everything belongs to the loop's
// thread.
#ifndef HM_SERVER_TRUST_LOG_H
#define HM_SERVER_TRUST_LOG_H

#include "server/http.h"
#include "trustchain/trustchain.h"

void trust_log_checkpoint(tc_authority *a, uint64_t now_ms, hm_http_req *r);
// A checkpoint as it is.
void trust_log_note(hm_bytes note, hm_http_req *r);
// The parameters are the level, or "data" for entries, then the parts of the tile's index, `parts`
// of them: x001, 067, or 067.p and a width.
void trust_log_tile(tc_authority *a, hm_http_req *r, size_t parts);
void trust_log_issuer(tc_authority *a, hm_http_req *r);
void trust_log_key(tc_authority *a, hm_http_req *r);
// Query parameters index and size; from and size.
void trust_log_inclusion(tc_authority *a, hm_http_req *r);
void trust_log_consistency(tc_authority *a, hm_http_req *r);

#endif
