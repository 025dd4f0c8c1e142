#include "stoq/io.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/config.h"
#include "stoq/xdp.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define SOCKET_BUFFER (4 << 20)

static hm_err fail(stoq_io *io, const char *what)
{
    int e = errno;
    stoq_io_close(io);
    return hm_fail(HM_E_IO, "UDP socket: %s: %s", what, strerror(e));
}

// Which of the sockets with one address gets a datagram: a program that the kernel runs on the UDP
// payload. In a long header (RFC 8999, section 5.1) the id is after flags, version and length.
static int steer(int fd, unsigned count)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x80, 0, 2),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6), BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1), BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
}

hm_err stoq_io_open(stoq_io *io, const struct sockaddr_in6 *bind_to, unsigned count, unsigned index,
                    struct sockaddr_in6 *bound)
{
    const int one = 1, size = SOCKET_BUFFER, probe = IPV6_PMTUDISC_PROBE;
    *io = (stoq_io){.fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (io->fd < 0)
        return fail(io, "socket");
    struct sockaddr_in6 addr = *bind_to;
    addr.sin6_family = AF_INET6;
    if (setsockopt(io->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) != 0)
        return fail(io, "IPV6_V6ONLY");
    if (setsockopt(io->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &one, sizeof one) != 0)
        return fail(io, "IPV6_RECVTCLASS");
    if (hm_udp_local_ask(io->fd, &addr) != 0)
        return fail(io, "IPV6_RECVPKTINFO");
    // Never fragment (RFC 9000, section 14). The rest only makes things faster.
    if (setsockopt(io->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe, sizeof probe) != 0)
        return fail(io, "IPV6_MTU_DISCOVER");
    (void)setsockopt(io->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    (void)setsockopt(io->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    (void)setsockopt(io->fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one);
    // The first one binds alone, so that an address in use is told; then it lets the others in.
    if (index > 0 && setsockopt(io->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0)
        return fail(io, "SO_REUSEPORT");
    if (bind(io->fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        int e = errno;
        stoq_io_close(io);
        return hm_addr_fail(&addr, "UDP", e);
    }
    if (count > 1 && index == 0 &&
        setsockopt(io->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0)
        return fail(io, "SO_REUSEPORT");
    if (count > 1 && index + 1 == count && steer(io->fd, count) != 0)
        return fail(io, "SO_ATTACH_REUSEPORT_CBPF");
    socklen_t len = sizeof *bound;
    if (getsockname(io->fd, (struct sockaddr *)bound, &len) != 0)
        return fail(io, "getsockname");
    io->buffer = malloc(STOQ_IO_DATAGRAM_MAX);
    if (io->buffer == NULL) {
        errno = ENOMEM;
        return fail(io, "buffer");
    }
    return HM_OK;
}

void stoq_io_close(stoq_io *io)
{
    stoq_xdp_close(io->xdp);
    if (io->fd >= 0)
        close(io->fd);
    free(io->buffer);
    *io = (stoq_io){.fd = -1};
}

static bool send_once(stoq_io *io, const hm_udp_local *local, const struct sockaddr_in6 *to,
                      const uint8_t *bytes, size_t len, size_t segment, uint8_t ecn)
{
    union {
        char buf[CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(int)) + HM_UDP_LOCAL_SPACE];
        struct cmsghdr align;
    } control = {0};
    struct cmsghdr *c = &control.align;
    struct iovec iov = {(void *)bytes, len};
    struct msghdr m = {
        .msg_name = (void *)to, .msg_namelen = sizeof *to, .msg_iov = &iov, .msg_iovlen = 1};
    if (len > segment) {
        uint16_t s = (uint16_t)segment;
        *c = (struct cmsghdr){CMSG_LEN(sizeof s), IPPROTO_UDP, UDP_SEGMENT};
        memcpy(CMSG_DATA(c), &s, sizeof s);
        m.msg_controllen += CMSG_SPACE(sizeof s);
        c = (struct cmsghdr *)(control.buf + m.msg_controllen);
    }
    if (ecn != 0) {
        int tclass = ecn;
        *c = (struct cmsghdr){CMSG_LEN(sizeof tclass), IPPROTO_IPV6, IPV6_TCLASS};
        memcpy(CMSG_DATA(c), &tclass, sizeof tclass);
        m.msg_controllen += CMSG_SPACE(sizeof tclass);
        c = (struct cmsghdr *)(control.buf + m.msg_controllen);
    }
    m.msg_controllen += hm_udp_local_write(local, c);
    if (m.msg_controllen > 0)
        m.msg_control = control.buf;
    ssize_t n;
    do
        n = sendmsg(io->fd, &m, 0);
    while (n < 0 && errno == EINTR);
    return n >= 0 || (errno != EIO && errno != EINVAL && errno != EMSGSIZE);
}

bool stoq_io_send(stoq_io *io, const hm_udp_local *local, const struct sockaddr_in6 *to,
                  const uint8_t *bytes, size_t len, size_t segment, uint8_t ecn)
{
    if (io->xdp != NULL && stoq_xdp_send(io->xdp, to, bytes, len, segment, ecn))
        return true;
    if (len <= segment)
        return send_once(io, local, to, bytes, len, segment, ecn);
    if (!io->no_gso) {
        if (send_once(io, local, to, bytes, len, segment, ecn))
            return true;
        // Where one goes alone, this kernel or device does not segment; else the route has changed.
        io->no_gso = send_once(io, local, to, bytes, segment, segment, ecn);
        if (!io->no_gso)
            return true;
        bytes += segment;
        len -= segment;
    }
    for (size_t at = 0; at < len; at += segment)
        (void)send_once(io, local, to, bytes + at, len - at < segment ? len - at : segment, segment,
                        ecn);
    return true;
}

bool stoq_io_receive(stoq_io *io, hm_udp_local *local, struct sockaddr_in6 *from, size_t *len,
                     size_t *segment, uint8_t *ecn)
{
    *local = (hm_udp_local){0};
    if (io->xdp != NULL && stoq_xdp_receive(io->xdp, io->buffer, from, len, segment, ecn))
        return true;
    union {
        char buf[CMSG_SPACE(sizeof(int)) * 2 + HM_UDP_LOCAL_SPACE];
        struct cmsghdr align;
    } control;
    struct iovec iov = {io->buffer, STOQ_IO_DATAGRAM_MAX};
    struct msghdr m = {.msg_name = from,
                       .msg_namelen = sizeof *from,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.buf,
                       .msg_controllen = sizeof control.buf};
    ssize_t n;
    do
        n = recvmsg(io->fd, &m, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return false;
    *len = *segment = (size_t)n;
    *ecn = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
        int value;
        if (hm_udp_local_read(c, local))
            continue;
        if (c->cmsg_len < CMSG_LEN(sizeof value))
            continue;
        memcpy(&value, CMSG_DATA(c), sizeof value);
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && value > 0)
            *segment = (size_t)value;
        else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
            *ecn = (uint8_t)(value & 3);
    }
    return true;
}
