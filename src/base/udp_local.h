// The local address of UDP over IPv6 where a socket is bound to all of them (RFC 3542, section 6):
// an answer must come from the address that was asked, and not from the one that the kernel would
// choose for the way back.
#ifndef HM_BASE_UDP_LOCAL_H
#define HM_BASE_UDP_LOCAL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#define HM_UDP_LOCAL_SPACE CMSG_SPACE(sizeof(struct in6_pktinfo))

// All zero: the kernel chooses.
typedef struct hm_udp_local {
    struct in6_pktinfo info;
} hm_udp_local;

// From now on each datagram says where it came to, if the socket is bound to all addresses. 0, or
// -1 with errno.
static inline int hm_udp_local_ask(int fd, const struct sockaddr_in6 *bound)
{
    const int one = 1;
    return IN6_IS_ADDR_UNSPECIFIED(&bound->sin6_addr)
               ? setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one)
               : 0;
}

// From what came with a datagram; false when this message says something else. The interface counts
// only where the address needs it, so that the way back may be another one; and nothing is sent
// from a multicast address.
static inline bool hm_udp_local_read(const struct cmsghdr *c, hm_udp_local *out)
{
    if (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_PKTINFO ||
        c->cmsg_len < CMSG_LEN(sizeof out->info))
        return false;
    memcpy(&out->info, CMSG_DATA(c), sizeof out->info);
    if (!IN6_IS_ADDR_LINKLOCAL(&out->info.ipi6_addr))
        out->info.ipi6_ifindex = 0;
    if (IN6_IS_ADDR_MULTICAST(&out->info.ipi6_addr))
        *out = (hm_udp_local){0};
    return true;
}

// Into HM_UDP_LOCAL_SPACE bytes that go with a datagram; the bytes used, 0 where the kernel
// chooses.
static inline size_t hm_udp_local_write(const hm_udp_local *l, struct cmsghdr *c)
{
    if (IN6_IS_ADDR_UNSPECIFIED(&l->info.ipi6_addr))
        return 0;
    *c = (struct cmsghdr){CMSG_LEN(sizeof l->info), IPPROTO_IPV6, IPV6_PKTINFO};
    memcpy(CMSG_DATA(c), &l->info, sizeof l->info);
    return HM_UDP_LOCAL_SPACE;
}

#endif
