// ACME over HTTP: requests to the core (trustchain/acme/acme.h) and its answers back, many of them
// with one commit; validations to their threads. Everything belongs to the loop's thread.
#ifndef HM_SERVER_ACME_API_H
#define HM_SERVER_ACME_API_H

#include "server/acme_validate.h"
#include "server/http.h"

typedef struct acme_api acme_api;

typedef struct acme_api_options { // what the daemon's options say
    bool on;
    bool eab_required;
    uint32_t accounts_an_hour, orders_an_hour;
    acme_probe_config probe;
} acme_api_options;

typedef struct acme_api_config {
    uv_loop_t *loop;         // borrowed until closed
    tc_authority *authority; // borrowed until closed
    const hm_clock *clock;   // borrowed until closed
    const char *dir;         // of the store
    acme_api_options options;
    uint64_t (*progress)(void *ctx); // gather.h
    // A certificate was issued, or revoked, on the order of a client; from the loop.
    void (*changed)(void *ctx, const tc_issued *certificate);
    void *ctx;
} acme_api_config;

typedef struct acme_api_counters { // since start
    uint64_t requests, refused, commits, validations, validations_failed;
    uint64_t under_way; // validations
} acme_api_counters;

HM_CHECK hm_err acme_api_open(const acme_api_config *cfg, acme_api **out);
// No request comes any more; those that wait for their commit are answered. closed(ctx) is called
// from the loop.
void acme_api_close(acme_api *a, void (*closed)(void *ctx), void *ctx);
void acme_api_get_counters(const acme_api *a, acme_api_counters *out);

// Answers a request, or refuses it with 404 when a is NULL: ACME is off.
void acme_api_handle(acme_api *a, hm_http_req *r, acme_op op);

#endif
