// Time behind an interface, so that the simulator can own it. Protocol cores take a time as an
// argument and never read a clock; only daemons hold an hm_clock.
#ifndef HM_BASE_CLOCK_H
#define HM_BASE_CLOCK_H

#include "hypermesh/base.h"

typedef struct hm_clock {
    uint64_t (*mono_us)(void *ctx); // microseconds, never goes back, any origin
    uint64_t (*wall_ms)(void *ctx); // milliseconds since 1970-01-01 UTC
    void *ctx;                      // borrowed
} hm_clock;

// The machine's clocks. Any thread.
extern const hm_clock hm_clock_system;

static inline uint64_t hm_clock_mono_us(const hm_clock *c)
{
    return c->mono_us(c->ctx);
}
static inline uint64_t hm_clock_wall_ms(const hm_clock *c)
{
    return c->wall_ms(c->ctx);
}

#endif
