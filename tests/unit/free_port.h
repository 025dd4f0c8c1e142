// A port of ::1 that nobody has now. It is below those that the kernel gives to whoever asks for
// any, so that it is most likely free a moment later too.
#ifndef FREE_PORT_H
#define FREE_PORT_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static inline struct sockaddr_in6 free_port(int type)
{
    for (;;) {
        struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        uint16_t n = 0;
        int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0 && getrandom(&n, sizeof n, 0) == sizeof n);
        at.sin6_port = htons((uint16_t)(10000 + n % 22000));
        int rc = bind(fd, (const struct sockaddr *)&at, sizeof at);
        close(fd);
        if (rc == 0)
            return at;
    }
}

#endif
