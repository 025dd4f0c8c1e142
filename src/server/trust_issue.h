// Requests for certificates: those that are there are issued together, with one commit, and
// answered after it. While a commit waits for the disk the next ones gather (gather.h).
//
// All calls belong to the loop's thread.
#ifndef HM_SERVER_TRUST_ISSUE_H
#define HM_SERVER_TRUST_ISSUE_H

#include "base/clock.h"
#include "server/api_json.h"
#include "server/http.h"
#include "trustchain/trustchain.h"

#define TRUST_ISSUE_BATCH 64u // certificates in a commit

typedef struct trust_issue trust_issue;

typedef struct trust_issue_result {
    hm_http_req *r;    // to be answered; NULL: the peer went while others were answered
    hm_http_actor who; // who asked
    struct sockaddr_in6 from;
    hm_err err; // why it was not issued, with its line
    const char *detail;
    char profile[API_PROFILE_MAX + 1];
    tc_issued issued;
    hm_buf chain; // PEM
} trust_issue_result;

typedef struct trust_issue_config {
    uv_loop_t *loop;                 // borrowed until close is done
    tc_authority *authority;         // borrowed until close is done
    const hm_clock *clock;           // borrowed until close is done
    uint64_t (*progress)(void *ctx); // gather.h
    // For each request once, unless its peer went before its turn came.
    void (*answer)(void *ctx, trust_issue_result *result);
    void *ctx; // borrowed
} trust_issue_config;

HM_CHECK hm_err trust_issue_open(const trust_issue_config *cfg, trust_issue **out);
// The server must be closed before. closed(ctx) comes from the loop.
void trust_issue_close(trust_issue *t, void (*closed)(void *ctx), void *ctx);
// A request with a body {"profile", "csr", "life_seconds"}.
void trust_issue_push(trust_issue *t, hm_http_req *r);
uint64_t trust_issue_commits(const trust_issue *t);

#endif
