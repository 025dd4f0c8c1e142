// A loop for those who have none.
#include <poll.h>

#include "base/clock.h"
#include "stoq/endpoint.h"

uint64_t stoq_now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

bool endpoint_wait(stoq_endpoint *ep, uint64_t until_us, int other_fd)
{
    struct pollfd fds[2] = {{.fd = stoq_endpoint_fd(ep), .events = POLLIN},
                            {.fd = other_fd, .events = POLLIN}};
    uint64_t next = stoq_endpoint_next_timeout_us(ep), now = stoq_now_us();
    if (until_us < next)
        next = until_us;
    uint64_t us = next > now ? next - now : 0;
    struct timespec wait = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    if (ppoll(fds, 2, next == HM_TIME_NEVER ? NULL : &wait, NULL) < 0)
        fds[0].revents = fds[1].revents = 0; // a signal
    stoq_endpoint_process(ep, stoq_now_us(), fds[0].revents != 0);
    return fds[1].revents != 0;
}

void stoq_endpoint_wait(stoq_endpoint *ep, uint64_t until_us)
{
    (void)endpoint_wait(ep, until_us, -1);
}
