// Private: datagrams by AF_XDP, past the kernel's network stack, beside a UDP socket.
//
// An XDP program on one interface gives the frames that are UDP over IPv6 to the socket's port, and
// to an address of that interface, to rings that this process shares with the kernel; everything
// else goes on as ever. The socket stays: it holds the port, gets what comes by other interfaces,
// and sends to every peer of whom no frame came lately. So the kernel finds routes and neighbours,
// and here is only remembered where a peer's frames come from: the answers go there, from the
// address that was asked.
//
// Life cycle: stoq_xdp_open() after the socket is bound, stoq_xdp_close(). The program goes with
// the process, however that ends. Threads: one. Where the build has no libxdp, open says so.
// Source: Documentation/networking/af_xdp.rst of Linux; docs/decisions/0007-af-xdp.md.
#ifndef HM_STOQ_XDP_H
#define HM_STOQ_XDP_H

#include <netinet/in.h>

#include "base/bytes.h"

#define STOQ_XDP_QUEUES_MAX 16u   // of the interface; what comes by others goes to the socket
#define STOQ_XDP_PEERS_MAX 4096u  // that are remembered; others are sent to by the socket
#define STOQ_XDP_PEER_US 2000000u // without a frame of a peer, until the kernel is asked again

typedef struct stoq_xdp stoq_xdp;

// For a socket bound so. HM_E_DENIED, HM_E_BUSY, HM_E_UNSUPPORTED, HM_E_CONFIG (no such interface),
// HM_E_IO, HM_E_NOMEM; the detail line says what was wrong.
HM_CHECK hm_err stoq_xdp_open(const char *interface, const struct sockaddr_in6 *bound,
                              stoq_xdp **out);
void stoq_xdp_close(stoq_xdp *x); // NULL is harmless
unsigned stoq_xdp_queues(const stoq_xdp *x);
// What to wait on for reading, one for each queue.
int stoq_xdp_fd(const stoq_xdp *x, unsigned queue);
// Datagrams of `segment` bytes each, the last one maybe shorter. False, and nothing is sent, when
// the socket is to send them: the peer is not known, or the interface carries no such length.
bool stoq_xdp_send(stoq_xdp *x, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                   size_t segment, uint8_t ecn);
// Copies datagrams of one peer, which arrived one after another, to `buffer` of
// STOQ_IO_DATAGRAM_MAX bytes, as stoq_io_receive() gives them. False when there is none.
bool stoq_xdp_receive(stoq_xdp *x, uint8_t *buffer, struct sockaddr_in6 *from, size_t *len,
                      size_t *segment, uint8_t *ecn);
// Datagrams by the rings since the start.
void stoq_xdp_counts(const stoq_xdp *x, uint64_t *received, uint64_t *sent);

#endif
