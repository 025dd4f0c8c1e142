// Plain DNS by UDP (RFC 1035, section 4.2.1), for this machine's own programs alone: an answer that
// does not fit says TC, and is to be had by TCP. Nobody else can be sent anything, so that forged
// senders gain nothing.
//
// One thread: the loop's.
#ifndef HM_SERVER_DNS_UDP_H
#define HM_SERVER_DNS_UDP_H

#include "server/dns_core.h"

typedef struct dns_udp dns_udp;
HM_CHECK hm_err dns_udp_open(dns_core *core, const struct sockaddr_in6 *at, dns_udp **out);
void dns_udp_address(const dns_udp *d, struct sockaddr_in6 *out);
void dns_udp_close(dns_udp *d); // NULL is fine
void dns_udp_free(dns_udp *d);  // once the loop has run out

#endif
