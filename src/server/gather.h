// Work that is done for many requests at once, such as a commit: in the turn of the loop that finds
// nothing more to read or to write, but never more than GATHER_TURNS_MAX turns after it was wanted.
// So the rest of a body that is there already, and of an answer that is ready, does not wait as
// long as the work of others takes. While work is wanted the loop looks and does not wait.
//
// All calls belong to the loop's thread.
#ifndef HM_SERVER_GATHER_H
#define HM_SERVER_GATHER_H

#include <uv.h>

#include "base/base.h"

#define GATHER_TURNS_MAX 16u

typedef struct gather {
    uv_prepare_t before;
    uv_check_t after;
    uv_idle_t again;                 // active: the loop does not wait
    uint64_t (*progress)(void *ctx); // a number that changes with what is read or written
    void (*work)(void *ctx);
    void *ctx;     // borrowed
    uint64_t seen; // progress, in the last turn
    unsigned turns;
    bool wanted;
    unsigned handles; // to be closed
    void (*closed)(void *ctx);
} gather;

void gather_open(gather *g, uv_loop_t *loop, uint64_t (*progress)(void *ctx),
                 void (*work)(void *ctx), void *ctx);
void gather_want(gather *g);
// No work is done any more. closed(ctx) comes from the loop, then the memory is the caller's again.
void gather_close(gather *g, void (*closed)(void *ctx));

#endif
