// Validations of ACME challenges side by side: threads that each make one at a time (acme_probe.h),
// beside the loop that everything else belongs to.
#ifndef HM_SERVER_ACME_VALIDATE_H
#define HM_SERVER_ACME_VALIDATE_H

#include <uv.h>

#include "server/acme_probe.h"

#define ACME_VALIDATE_THREADS 16u

typedef struct acme_validate acme_validate;

typedef struct acme_validate_config {
    uv_loop_t *loop; // borrowed until closed
    acme_probe_config probe;
    void (*done)(void *ctx, const acme_probe_result *result); // from the loop
    void *ctx;
} acme_validate_config;

HM_CHECK hm_err acme_validate_open(const acme_validate_config *cfg, acme_validate **out);
// At most ACME_VALIDATIONS_MAX are under way, which the core sees to (asserted).
void acme_validate_push(acme_validate *v, const acme_task *task);
// Breaks off what is under way; no result comes any more. closed(ctx) is called from the loop.
void acme_validate_close(acme_validate *v, void (*closed)(void *ctx), void *ctx);

#endif
