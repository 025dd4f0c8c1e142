// Private to xdp.c: the XDP program and its maps, as descriptors of the kernel.
#ifndef HM_STOQ_XDP_PROG_H
#define HM_STOQ_XDP_PROG_H

#include <netinet/in.h>

#include "base/bytes.h"

#define STOQ_XDP_ADDRESSES_MAX 64u

typedef struct stoq_xdp_prog {
    int ours;  // map: an address and a port -> the MAC that frames for it must have
    int rings; // map: a queue -> its AF_XDP socket
    int prog, link;
} stoq_xdp_prog; // -1: none

#define STOQ_XDP_PROG_NONE ((stoq_xdp_prog){-1, -1, -1, -1})

// Makes maps and program, not attached yet. End with stoq_xdp_prog_unload() also after a failure.
HM_CHECK hm_err stoq_xdp_prog_load(stoq_xdp_prog *p, unsigned queues);
// Frames to this address, port (network order) and MAC are taken.
HM_CHECK hm_err stoq_xdp_prog_take(stoq_xdp_prog *p, const struct in6_addr *addr, in_port_t port,
                                   const uint8_t mac[6]);
// From now on. The kernel detaches it when the process ends.
HM_CHECK hm_err stoq_xdp_prog_attach(stoq_xdp_prog *p, unsigned interface, const char *name);
void stoq_xdp_prog_unload(stoq_xdp_prog *p);
// A system call's error number as ours, with a detail line.
hm_err stoq_xdp_fail(int error, const char *what);

#endif
