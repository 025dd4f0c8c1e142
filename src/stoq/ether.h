// Private: a UDP datagram over IPv6 as an Ethernet frame (RFC 2464, 8200, 768), read and written.
// No state, no I/O.
#ifndef HM_STOQ_ETHER_H
#define HM_STOQ_ETHER_H

#include <netinet/in.h>

#include "base/bytes.h"

#define STOQ_ETHER_HEADERS 62u // Ethernet 14, IPv6 40, UDP 8

typedef struct stoq_ether {
    uint8_t to_mac[6], from_mac[6];
    struct in6_addr to, from;
    in_port_t to_port, from_port; // network order
    uint8_t ecn;                  // the two bits of the IP header
    hm_bytes payload;             // at least a byte; borrowed
} stoq_ether;

// The payload lies in the frame, which may be longer (Ethernet pads). False: no UDP over IPv6
// without extension headers, cut off, empty, or without a checksum, which IPv6 demands (RFC 8200,
// section 8.1). The checksum itself is not verified: what it would find, the packet protection
// finds.
bool stoq_ether_parse(hm_bytes frame, stoq_ether *out);
// Writes the frame, with its checksum, to STOQ_ETHER_HEADERS + payload.len bytes, which are
// returned. The payload has at most 65,527 bytes.
size_t stoq_ether_write(uint8_t *out, const stoq_ether *e);

#endif
