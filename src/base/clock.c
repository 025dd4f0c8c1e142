#include "base/clock.h"

#include <time.h>

static uint64_t read_clock_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t system_mono_us(void *ctx)
{
    (void)ctx;
    return read_clock_ns(CLOCK_MONOTONIC) / 1000;
}

static uint64_t system_wall_ms(void *ctx)
{
    (void)ctx;
    return read_clock_ns(CLOCK_REALTIME) / 1000000;
}

const hm_clock hm_clock_system = {system_mono_us, system_wall_ms, 0};
