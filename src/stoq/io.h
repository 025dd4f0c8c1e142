// Private: a UDP socket over IPv6 with segmentation offload (UDP_SEGMENT, UDP_GRO) and ECN, and
// beside it, where one is given, AF_XDP's rings (stoq/xdp.h), which are asked first.
#ifndef HM_STOQ_IO_H
#define HM_STOQ_IO_H

#include <netinet/in.h>

#include "base/bytes.h"
#include "base/udp_local.h"

#define STOQ_IO_DATAGRAM_MAX 65536u

typedef struct stoq_io {
    int fd; // -1: none
    bool no_gso;
    struct stoq_xdp *xdp; // owned; NULL: the socket alone
    uint8_t *buffer;      // STOQ_IO_DATAGRAM_MAX bytes, owned
} stoq_io;

// Binds; AF_INET6 with IPV6_V6ONLY. *bound is the address with the kernel's port. With `count`
// above 1 it is socket `index` of so many with one address, opened in that order: each is given the
// QUIC packets whose destination id's first byte, divided by count, leaves index.
HM_CHECK hm_err stoq_io_open(stoq_io *io, const struct sockaddr_in6 *bind_to, unsigned count,
                             unsigned index, struct sockaddr_in6 *bound);
void stoq_io_close(stoq_io *io);
// Datagrams of `segment` bytes each, the last one maybe shorter. Loss by a full socket is as good
// as loss on the way. False when a single datagram is longer than the route's device carries, or
// cannot go from there.
bool stoq_io_send(stoq_io *io, const hm_udp_local *local, const struct sockaddr_in6 *to,
                  const uint8_t *bytes, size_t len, size_t segment, uint8_t ecn);
// One receive: bytes (in io->buffer) that are datagrams of *segment each. False when there is none.
// *local is zero unless the socket is bound to all addresses.
bool stoq_io_receive(stoq_io *io, hm_udp_local *local, struct sockaddr_in6 *from, size_t *len,
                     size_t *segment, uint8_t *ecn);

#endif
