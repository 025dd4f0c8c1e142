// An INI file of some options, and addresses: what is taken lies within its bounds, and an address
// reads back from its text.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const hm_option options[] = {
    {.name = "config", .arg = "FILE"},
    {.name = "listen", .ini = "node.listen", .arg = "ADDR", .def = "[::]:1"},
    {.name = "count", .ini = "node.count", .arg = "N", .def = "3"},
    {.name = "quiet", .ini = "log.quiet"},
};

static void check(hm_config *c)
{
    struct sockaddr_in6 a, b;
    char text[HM_ADDR_TEXT_MAX];
    uint64_t n;
    (void)hm_config_on(c, "quiet");
    if (hm_config_u64(c, "count", 2, 1000, &n) == HM_OK)
        hm_assert(n >= 2 && n <= 1000);
    if (hm_config_addr(c, "listen", &a) != HM_OK)
        return;
    hm_assert(a.sin6_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&a.sin6_addr));
    hm_assert(hm_addr_parse(hm_addr_text(&a, text), &b) == HM_OK);
    hm_assert(a.sin6_port == b.sin6_port && memcmp(&a.sin6_addr, &b.sin6_addr, 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char flag[64], name[] = "fuzz";
    char *argv[] = {name, flag, NULL};
    hm_config c;
    int fd = memfd_create("ini", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(flag, sizeof flag, "--config=/proc/self/fd/%d", fd);
    if (hm_config_load(&c, options, sizeof options / sizeof options[0], 2, argv) == HM_OK)
        check(&c);
    hm_config_free(&c);
    close(fd);
    return 0;
}
