// DNS over QUIC (RFC 9250) on a STOQ endpoint: a query a stream, ALPN "doq", as many at a time as
// the client's streams allow. Early data are taken: a query changes nothing, so that one which is
// sent again does no harm.
//
// Limits: DOQ_CONNECTIONS, of one client (a /64) what dns_limit allows; DOQ_STREAMS of a
// connection. A client that asks too often has its stream reset with DOQ_EXCESSIVE_LOAD; one that
// breaks the protocol has its connection closed.
//
// One thread: the loop's.
#ifndef HM_SERVER_DNS_DOQ_H
#define HM_SERVER_DNS_DOQ_H

#include "server/dns_core.h"
#include "server/stoq_uv.h"

#define DOQ_ALPN "doq"
#define DOQ_CONNECTIONS 1024u
#define DOQ_STREAMS 256u
#define DOQ_IDLE_MS 30000u

enum { // RFC 9250, section 8.4
    DOQ_NO_ERROR = 0,
    DOQ_INTERNAL_ERROR = 1,
    DOQ_PROTOCOL_ERROR = 2,
    DOQ_REQUEST_CANCELLED = 3,
    DOQ_EXCESSIVE_LOAD = 4,
};

typedef struct dns_doq dns_doq;
// tls has the certificate; a reference is kept.
HM_CHECK hm_err dns_doq_open(dns_core *core, const struct sockaddr_in6 *at, SSL_CTX *tls,
                             dns_doq **out);
void dns_doq_address(const dns_doq *d, struct sockaddr_in6 *out);
void dns_doq_renew(dns_doq *d, SSL_CTX *tls);
// Ends the connections and closes the handles; free it once the loop has run out. NULL is fine.
void dns_doq_close(dns_doq *d);
void dns_doq_free(dns_doq *d);

#endif
