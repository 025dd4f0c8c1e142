// A session as the application keeps it: what a client must know to resume it. The bytes are
// secret, carry a check sum (of a ticket that is damaged a server says only that the handshake
// fails), and are of this version of the library alone.
//
// Kept are the server's name, the protocol, the server's transport parameters as far as they may be
// remembered (RFC 9000, section 7.4.1), when its certificate was last proven by a handshake without
// a ticket, and OpenSSL's session with that certificate.
#ifndef HM_STOQ_SESSION_H
#define HM_STOQ_SESSION_H

#include <openssl/ssl.h>

#include "stoq/transport_params.h"

#define STOQ_SESSION_MAX 65536u // bytes
// Tickets beget tickets; so long after the last full handshake another one is due.
#define STOQ_SESSION_LIFE_S 86400u

typedef struct stoq_session {
    SSL_SESSION *tls; // owned
    uint64_t proven_s;
    hm_bytes server_name; // none: an empty one. Borrowed, as is alpn.
    hm_bytes alpn;
    stoq_transport_params params;
} stoq_session;

// Appends the bytes.
HM_CHECK hm_err stoq_session_encode(const stoq_session *s, hm_buf *out);
// HM_E_INVALID: not for this name (NULL: none), over at this time, or no session. The certificate's
// own time and that of the ticket count too. out borrows from the bytes.
HM_CHECK hm_err stoq_session_decode(hm_bytes in, const char *server_name, uint64_t now_s,
                                    stoq_session *out);
static inline void stoq_session_free(stoq_session *s)
{
    SSL_SESSION_free(s->tls);
    s->tls = NULL;
}

#endif
