// TLS 1.3 for QUIC through OpenSSL's callbacks (SSL_set_quic_tls_cbs). Knows nothing of packets.
//
// OpenSSL's object is kept as long as it is of use: it is freed when the handshake is confirmed and
// no ticket is wanted any more (stoq_tls_end), and what the peer may still say after that is looked
// at here.
//
// Sessions are resumed with a new key exchange each (psk_dhe_ke). Who shows or demands a
// certificate of the client resumes nothing: stoq_tls_may_resume().
#ifndef HM_STOQ_TLS_H
#define HM_STOQ_TLS_H

#include <openssl/ssl.h>

#include "stoq/protect.h"
#include "stoq/ticket.h"

// Encryption levels; Initial, Handshake and 1-RTT are also the packet number spaces.
typedef enum stoq_level {
    STOQ_LEVEL_INITIAL,
    STOQ_LEVEL_HANDSHAKE,
    STOQ_LEVEL_APP,
    STOQ_LEVELS,
} stoq_level;

// What TLS asks of the connection; a failure ends the handshake.
typedef struct stoq_tls_host {
    // CRYPTO bytes to send. Borrowed.
    hm_err (*send)(void *ctx, stoq_level level, hm_bytes data);
    // CRYPTO bytes received in order, and giving them back.
    hm_bytes (*peek)(void *ctx, stoq_level level);
    void (*consume)(void *ctx, stoq_level level, size_t n);
    hm_err (*secret)(void *ctx, stoq_level level, bool seal, hm_aead_cipher cipher,
                     hm_bytes secret);
    // Of early data: to be sealed on a client, which has offered it; opened on a server, which has
    // accepted it.
    hm_err (*early_secret)(void *ctx, bool seal, hm_aead_cipher cipher, hm_bytes secret);
    hm_err (*params)(void *ctx, hm_bytes encoded);    // the peer's transport parameters
    void (*session)(void *ctx, SSL_SESSION *session); // to a client: a ticket. Borrowed.
} stoq_tls_host;

typedef struct stoq_tls_config {
    const char *server_name; // of a client; may be NULL
    hm_bytes alpn_wire;      // names, each after its length, by preference; the caller keeps them
    hm_bytes params;         // ours
    uint32_t version;        // of QUIC, whose tickets are of no other (RFC 9369, section 5)
    stoq_tickets *tickets;   // of a server, NULL: it gives none and takes none. Borrowed.
    unsigned ticket_count;   // that it gives
    unsigned sessions;       // of a client: how many are wanted
    SSL_SESSION *session;    // of a client: to be resumed, or NULL. Borrowed for the call.
    bool early; // a server accepts early data, each ticket once; a client offers it if it may
} stoq_tls_config;

typedef struct stoq_tls {
    SSL *ssl;                  // owned; NULL once ended
    const stoq_tls_host *host; // set by the caller, with ctx and is_server, before all calls
    void *ctx;
    bool is_server;
    stoq_level read_level, write_level;
    uint8_t head[4]; // of a message after the handshake, so far
    uint32_t head_len, skip;
    uint8_t alert; // TLS alert to close with, after a failure
    hm_err why;    // what the failure comes to
    bool complete; // handshake complete
    bool failed;
    hm_bytes alpn_wire;                 // borrowed from the endpoint
    uint8_t *params;                    // ours, owned; OpenSSL borrows them
    uint32_t version, original_version; // of QUIC: in use, and of the first packets
    stoq_tickets *tickets;
    unsigned sessions_wanted; // still
} stoq_tls;

// Makes a context select the protocol and seal the tickets of each connection, or tell a client's
// tickets. Harmless twice.
void stoq_tls_prepare(SSL_CTX *ctx, bool is_server);
// A resumed session shows no certificate, so it is neither looked up in a revocation list nor asked
// for its time. False where that matters: on a server that demands a certificate, and on a client
// that has one or checks against a revocation list.
bool stoq_tls_may_resume(const SSL_CTX *ctx, bool is_server);
// Makes the TLS object.
HM_CHECK hm_err stoq_tls_init(stoq_tls *t, SSL_CTX *ctx, const stoq_tls_config *config);
// Our transport parameters, as long as they have not been sent, and the version that goes with
// them: a server's go with its answer, after the host got the client's.
HM_CHECK hm_err stoq_tls_set_params(stoq_tls *t, hm_bytes params, uint32_t version);
// Goes on with what peek() has. HM_E_STOQ_TLS: t->alert and t->why tell more. After the end tickets
// that a server sends are thrown away, and anything else is a failure: keys are updated by packets
// (RFC 9001, section 6), and a client has nothing to say.
HM_CHECK hm_err stoq_tls_advance(stoq_tls *t);
// Frees OpenSSL's object; also of one that was never made.
// A client, from the peer's transport parameters on: the server has accepted early data.
bool stoq_tls_early_accepted(const stoq_tls *t);
void stoq_tls_end(stoq_tls *t);

#endif
