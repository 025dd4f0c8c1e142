// A loop for those who have none.
#include <poll.h>

#include "base/clock.h"
#include "hypermesh/stoq.h"

uint64_t stoq_now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

void stoq_endpoint_wait(stoq_endpoint *ep, uint64_t until_us)
{
    struct pollfd fd = {.fd = stoq_endpoint_fd(ep), .events = POLLIN};
    uint64_t next = stoq_endpoint_next_timeout_us(ep), now = stoq_now_us();
    if (until_us < next)
        next = until_us;
    uint64_t us = next > now ? next - now : 0;
    struct timespec wait = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    int n = ppoll(&fd, 1, next == HM_TIME_NEVER ? NULL : &wait, NULL);
    stoq_endpoint_process(ep, stoq_now_us(), n > 0);
}
