// A server that renews its own certificates, of the data directory that `enroll` filled: asks the
// authority for the next one before the last third of the life begins, with the old one's key as
// its proof, and puts it in the place of the old one. A token is not needed.
//
// One libuv loop's thread; the question runs on a worker thread.
#ifndef HM_SERVER_RENEW_H
#define HM_SERVER_RENEW_H

#include <uv.h>

#include "trustchain/trustchain.h"

typedef struct renewal renewal;

typedef struct renewal_config {
    uv_loop_t *loop;       // borrowed until it runs no more
    const char *dir;       // copied
    const char *authority; // URL; copied
    // The family's file has the next certificate: connections from now on are to show it.
    void (*renewed)(void *ctx, tc_family f);
    void *ctx; // borrowed until closed
} renewal_config;

// A family without a certificate in the directory is left alone. HM_E_NOMEM, HM_E_LIMIT.
HM_CHECK hm_err renewal_open(const renewal_config *cfg, renewal **out);
// Ends by itself once no question is out; until then the loop has something to wait for. NULL is
// harmless.
void renewal_close(renewal *r);

#endif
