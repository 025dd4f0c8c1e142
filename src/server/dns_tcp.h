// DNS over streams: TLS (RFC 7858, ALPN "dot"), and plain TCP (RFC 7766) for this machine's own
// programs. Queries are answered as they come, also out of order.
//
// Limits: DNS_TCP_CONNECTIONS, of one client (a /64) what dns_limit allows; DNS_TCP_WAITS queries
// of a connection that wait for other servers; a connection that does not take its answers is read
// no further, and one that rests for DNS_TCP_IDLE_MS is closed.
//
// One thread: the loop's.
#ifndef HM_SERVER_DNS_TCP_H
#define HM_SERVER_DNS_TCP_H

#include <openssl/ssl.h>

#include "server/dns_core.h"

#define DNS_TCP_CONNECTIONS 512u
#define DNS_TCP_WAITS 64u
#define DNS_TCP_IDLE_MS 10000u
#define DNS_TCP_QUEUE (256u << 10) // bytes of answers that wait to be taken

typedef struct dns_tcp dns_tcp;
// tls: a reference is kept; NULL: plain. When the address cannot be had, *out is there all the
// same, to be closed.
HM_CHECK hm_err dns_tcp_open(dns_core *core, const struct sockaddr_in6 *at, SSL_CTX *tls,
                             dns_tcp **out);
void dns_tcp_renew(dns_tcp *d, SSL_CTX *tls); // for connections that come from now on
void dns_tcp_close(dns_tcp *d);               // NULL is fine
void dns_tcp_free(dns_tcp *d);                // once the loop has run out

#endif
