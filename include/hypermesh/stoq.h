// STOQ: QUIC versions 1 and 2 (RFC 9000, 9001, 9002, 9369) over IPv6, with post-quantum TLS 1.3.
//
// An endpoint is a single-threaded object that an outer loop drives: it owns a UDP socket (or none:
// see stoq_net), its connections and their streams. The loop waits for stoq_endpoint_fd() to become
// readable or for stoq_endpoint_next_timeout_us() to pass and then calls stoq_endpoint_process().
// All other calls only change state and never do I/O; after a call made outside a callback the next
// timeout is "now", so ask for it (or call process) before going back to wait. Nothing here reads a
// clock: times are monotonic microseconds given by the caller.
//
// Callbacks run only inside stoq_endpoint_process() (and stoq_endpoint_wait(), which calls it) and
// stoq_endpoint_receive(). Every call of this header may be made inside a callback, except those
// three and stoq_endpoint_destroy().
//
// Life times: a connection lives from stoq_connect() or the conn_open callback until its
// conn_closed callback returns, a stream from stoq_stream_open() or stream_open until its
// stream_closed callback returns. Before conn_closed, stream_closed is called for every stream that
// is left. Destroying the endpoint calls both for all that is left.
//
// Threads: an endpoint belongs to one thread; different endpoints share nothing, but for the
// tickets of a group's (stoq_group.h).
#ifndef HYPERMESH_STOQ_H
#define HYPERMESH_STOQ_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "hypermesh/base.h"

#pragma GCC visibility push(default)

typedef struct stoq_endpoint stoq_endpoint;
typedef struct stoq_conn stoq_conn;
typedef struct stoq_stream stoq_stream;

#define STOQ_ALPN_MESH "stoq/1"
#define STOQ_MAX_ALPN 8
#define STOQ_TICKETS_MAX 8u                // that a server gives to a connection
#define STOQ_TICKET_LIFETIME_MAX_S 604800u // RFC 8446, section 4.6.1
#define STOQ_SESSIONS_MAX 4u               // that a client keeps of a connection

// Versions of QUIC by their numbers on the wire.
#define STOQ_VERSION_1 1u
#define STOQ_VERSION_2 0x6b3343cfu
#define STOQ_MAX_VERSIONS 2
// "1", "2", "1,2" or "2,1"; else HM_E_CONFIG. Unused places are 0.
HM_CHECK hm_err stoq_versions_of(const char *text, uint32_t out[STOQ_MAX_VERSIONS]);

// Transport error codes of RFC 9000, section 20.1; TLS alerts are STOQ_CRYPTO_ERROR + alert.
enum {
    STOQ_NO_ERROR = 0x0,
    STOQ_INTERNAL_ERROR = 0x1,
    STOQ_CONNECTION_REFUSED = 0x2,
    STOQ_FLOW_CONTROL_ERROR = 0x3,
    STOQ_STREAM_LIMIT_ERROR = 0x4,
    STOQ_STREAM_STATE_ERROR = 0x5,
    STOQ_FINAL_SIZE_ERROR = 0x6,
    STOQ_FRAME_ENCODING_ERROR = 0x7,
    STOQ_TRANSPORT_PARAMETER_ERROR = 0x8,
    STOQ_CONNECTION_ID_LIMIT_ERROR = 0x9,
    STOQ_PROTOCOL_VIOLATION = 0xa,
    STOQ_INVALID_TOKEN = 0xb,
    STOQ_APPLICATION_ERROR = 0xc,
    STOQ_CRYPTO_BUFFER_EXCEEDED = 0xd,
    STOQ_KEY_UPDATE_ERROR = 0xe,
    STOQ_AEAD_LIMIT_REACHED = 0xf,
    STOQ_NO_VIABLE_PATH = 0x10,
    STOQ_VERSION_NEGOTIATION_ERROR = 0x11, // RFC 9368
    STOQ_CRYPTO_ERROR = 0x100,
};

// Codes of conn_closed that never were on the wire (is_app is false).
#define STOQ_CLOSED_IDLE (UINT64_C(1) << 62)           // idle timeout or handshake timeout
#define STOQ_CLOSED_RESET ((UINT64_C(1) << 62) + 1)    // stateless reset by the peer
#define STOQ_CLOSED_VERSION ((UINT64_C(1) << 62) + 2)  // the server speaks no version of ours
#define STOQ_CLOSED_ENDPOINT ((UINT64_C(1) << 62) + 3) // this endpoint was destroyed

// Data that a client sends with its first packets, before the server has answered (0-RTT).
typedef enum stoq_early {
    STOQ_EARLY_NONE,
    STOQ_EARLY_OFFERED,  // on a client, until the server has answered
    STOQ_EARLY_REJECTED, // it is sent again
    STOQ_EARLY_ACCEPTED,
} stoq_early;

typedef struct stoq_callbacks {
    // The handshake is complete (both roles); on a server this is the first sight of a connection.
    // On one that accepts early data it comes before: stoq_conn_is_open() is false until then.
    void (*conn_open)(void *user, stoq_conn *conn);
    // The end of a connection, once for each that was opened or that stoq_connect() made. code is
    // a transport code, or an application code if is_app. The reason may come from the peer.
    void (*conn_closed)(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason);
    // An incoming connection that ends before conn_open. why: HM_E_STOQ_GROUP, HM_E_STOQ_ALPN,
    // HM_E_CERT_* (what was wrong with the client's certificate), HM_E_STOQ_TLS, or
    // HM_E_STOQ_TRANSPORT are refusals of ours; HM_E_CLOSED: the client gave up, with the code and
    // the reason (do not trust it); HM_E_TIMEOUT. The connection is over when this returns.
    void (*conn_failed)(void *user, stoq_conn *conn, hm_err why, uint64_t code, hm_bytes reason);
    void (*stream_open)(void *user, stoq_stream *stream); // opened by the peer
    // New bytes, the end or a reset can be read; called again only after something new came.
    void (*stream_readable)(void *user, stoq_stream *stream);
    // There is room again after a send that was not accepted whole, or the peer sent STOP_SENDING
    // (then stoq_stream_send() says HM_E_STOQ_RESET; stoq_stream_stop_code() has the code).
    void (*stream_writable)(void *user, stoq_stream *stream);
    // Both directions are finished: all sent bytes acknowledged or reset, all received bytes read
    // or reset.
    void (*stream_closed)(void *user, stoq_stream *stream);
    // Bytes of stoq_stream_lend() are the application's own again; in the order they were lent.
    void (*stream_returned)(void *user, stoq_stream *stream, void *tag);
    // A datagram (RFC 9221) came; the bytes are borrowed for the call.
    void (*datagram)(void *user, stoq_conn *conn, hm_bytes bytes);
    // On a client: the server gave a ticket. Who keeps these bytes, secret, may hand them to
    // stoq_resume() once; borrowed for the call. Without this callback no ticket is kept.
    void (*session)(void *user, stoq_conn *conn, hm_bytes session);
    // What became of stoq_conn_migrate(): the connection is at its new local address, or nobody
    // answered there and it stays where it was.
    void (*conn_moved)(void *user, stoq_conn *conn, bool moved);
} stoq_callbacks; // any may be NULL

// A network in place of the endpoint's own UDP socket, for tests and simulators. send hands over
// len bytes which are datagrams of segment_bytes each, the last one maybe shorter; the bytes are
// borrowed for the call. ecn is the two bits of the IP header. Arriving datagrams come in by
// stoq_endpoint_receive().
typedef struct stoq_net {
    void (*send)(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                 size_t segment_bytes, uint8_t ecn);
    void *ctx; // borrowed
    // From the preferred address of a server; needed if it has one.
    void (*send_preferred)(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes,
                           size_t len, size_t segment_bytes, uint8_t ecn);
    // From an address of stoq_conn_migrate(); needed for that.
    void (*send_from)(void *ctx, const struct sockaddr_in6 *from, const struct sockaddr_in6 *to,
                      const uint8_t *bytes, size_t len, size_t segment_bytes, uint8_t ecn);
} stoq_net;

// Limits: zero means the default in brackets.
typedef struct stoq_limits {
    uint32_t max_connections;      // [4096] including those in handshake
    uint32_t max_half_open;        // [256] server connections in handshake, or failed just now
    uint32_t retry_from_half_open; // [64] from so many on, new clients must pass a Retry
    uint32_t max_streams_bidi;     // [256] of the peer, open at a time
    uint32_t max_streams_uni;      // [256]
    // Receive windows begin with 256 KiB and 512 KiB, and double when the application reads so fast
    // that they hold the peer up, to no more than this.
    uint32_t stream_window_bytes; // [16 MiB] of a stream, rounded to a power of 2
    uint32_t conn_window_bytes;   // [24 MiB] of a connection
    // Unacknowledged bytes kept for a stream: 1 MiB, more where the path carries more in a round
    // trip, to no more than this.
    uint32_t stream_send_bytes;  // [16 MiB]
    uint32_t max_idle_ms;        // [30000]
    uint32_t max_handshake_ms;   // [10000]
    uint32_t max_datagram_bytes; // [0: none is taken] largest datagram (RFC 9221) of the peer, to
                                 // within the 5 bytes of its header
    uint32_t max_udp_payload_bytes; // [65527] largest datagram that path MTU discovery tries, and
                                    // that the peer is told to send; at least 1200
} stoq_limits;

// How much is sent: docs/stoq.md says which one is for what.
typedef enum stoq_congestion {
    STOQ_CONGESTION_DEFAULT,
    STOQ_CONGESTION_CUBIC, // RFC 9438 with HyStart++ (RFC 9406)
    STOQ_CONGESTION_BBR,   // BBRv3, draft-ietf-ccwg-bbr
} stoq_congestion;
// "cubic" or "bbr"; else HM_E_CONFIG.
HM_CHECK hm_err stoq_congestion_of(const char *name, stoq_congestion *out);

// One of several endpoints with one address, each driven by its own thread: the kernel gives each
// the packets of its connections, told by the first byte of the connection id (SO_REUSEPORT with a
// filter). Make them in order of `index`, the last one before any is processed, all with one
// stoq_config.secret and with the port that the first one has.
#define STOQ_SHARE_MAX 128u
typedef struct stoq_share {
    uint16_t count; // at most STOQ_SHARE_MAX; 0: alone
    uint16_t index;
    // A datagram of another one's connection came here all the same (a device put segments of two
    // connections together): hand it to that one's stoq_endpoint_receive(), or with preferred to
    // its stoq_endpoint_receive_preferred(). Borrowed.
    void (*pass_on)(void *ctx, unsigned index, bool preferred, const struct sockaddr_in6 *from,
                    const uint8_t *bytes, size_t len, uint8_t ecn);
    void *ctx; // borrowed
} stoq_share;

typedef struct stoq_config {
    struct sockaddr_in6 bind; // address and port (0: any) of the UDP socket
    // A server's: where clients are to go once the handshake is over (RFC 9000, section 9.6), with
    // a socket of its own; port 0: none. Not the address that they first come to, which may be one
    // of many machines'.
    struct sockaddr_in6 preferred;
    bool ignore_preferred; // a client's: stay with the address that was asked
    const stoq_net *net;   // NULL: own socket. Copied.
    SSL_CTX *server_tls;   // NULL: no incoming connections. A reference is kept.
    SSL_CTX *client_tls;   // NULL: no outgoing connections. Both prepared by the caller
                           // (certificates, verification, groups); TLS 1.3 is enforced here.
    const char *alpn[STOQ_MAX_ALPN]; // in order of preference, NULL ends; one at least. Copied.
    const hm_random *random;         // NULL: the kernel's. Copied.
    stoq_callbacks callbacks;
    void *user; // first argument of the callbacks
    stoq_limits limits;
    stoq_congestion congestion; // of all connections
    stoq_share share;           // Copied.
    // Versions of QUIC in order of preference, 0 ends; none: 1, then 2. A client begins with the
    // first one and offers the others; a server changes to the first one that is offered
    // (RFC 9368).
    uint32_t versions[STOQ_MAX_VERSIONS];
    // A folder for logs of all connections in qlog's form, a file each; NULL: none. It must be
    // there. Copied.
    const char *qlog_dir;
    // An interface whose packets go past the kernel's network stack (AF_XDP), where this process
    // may do that and the interface can; else the socket carries all, and the log says why. Needs
    // CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF; not with a stoq_share of several or a stoq_net.
    // NULL: none. docs/stoq.md says what filters do not see then.
    const char *xdp;
    bool always_retry; // every new client must pass a Retry
    // Session tickets. A server that demands certificates of its clients gives none, whatever is
    // said here: a resumed session shows no certificate, and would outlive what revokes it.
    uint32_t tickets;           // that a server gives to a client, at most STOQ_TICKETS_MAX [0]
    uint32_t ticket_lifetime_s; // [7200], at most STOQ_TICKET_LIFETIME_MAX_S
    // A server takes early data (needs tickets), with each ticket once: who records a client's
    // first packets and sends them again gets a handshake without them. Of 262,144 tickets that
    // came so within a lifetime this is remembered; then none comes with early data until some have
    // ended.
    bool early_data;
    uint32_t sessions;  // that a client keeps of a connection, at most STOQ_SESSIONS_MAX [1]; until
                        // they came TLS is kept, 28 KiB
    uint8_t secret[32]; // keys stateless resets and tokens; all zero: random, so tokens and
                        // resets of an earlier run are not recognised
} stoq_config;

typedef struct stoq_conn_stats {
    uint64_t packets_sent, packets_received, packets_lost, packets_dropped;
    uint64_t bytes_sent, bytes_received;               // UDP payload
    uint64_t stream_bytes_sent, stream_bytes_received; // without retransmissions
    uint64_t rtt_us, rtt_var_us, min_rtt_us;
    uint64_t cwnd_bytes, in_flight_bytes;
    uint64_t pacing_bytes_s; // the rate that it sends at, at most
    const char *congestion;  // "cubic" or "bbr"
    uint64_t ce_marked;      // packets sent that the peer got with a mark of congestion
    bool ecn;                // marks come through: packets are sent with ECT(0)
    uint64_t datagrams_sent, datagrams_received;
    uint64_t datagrams_dropped; // before they were sent, or because too many came at once
    uint32_t mtu_bytes;         // largest UDP payload that is known to get through
    uint32_t key_updates;
    uint32_t streams_open;
    bool at_preferred; // it has moved to the server's preferred address
} stoq_conn_stats;

typedef struct stoq_endpoint_stats {
    uint64_t datagrams_received;
    uint64_t datagrams_dropped; // belong to no connection and cannot start one, or are malformed
    uint64_t retries_sent, resets_sent, versions_sent; // stateless answers
    uint64_t passed_on; // datagrams of other endpoints of a stoq_share
    uint64_t accepted, refused, handshake_failed, closed;
    uint64_t resumed, early; // connections of clients with a ticket, and with early data taken
    uint32_t connections, half_open;
    uint32_t xdp_queues; // of the interface whose packets come by AF_XDP; 0: the socket carries all
    uint64_t xdp_received, xdp_sent; // datagrams that did
} stoq_endpoint_stats;

// Binds the socket. HM_E_CONFIG and HM_E_IO leave a detail line.
HM_CHECK hm_err stoq_endpoint_create(const stoq_config *config, stoq_endpoint **out);
// Sends CONNECTION_CLOSE once on every connection and frees everything. NULL is harmless.
void stoq_endpoint_destroy(stoq_endpoint *ep);
// Connections that come from now on use this context (a reference is kept): for renewed
// certificates and revocation lists. NULL: none is taken any more. Tickets given before are void.
// In a group each worker gets it; those that have not yet give and take no tickets meanwhile.
void stoq_endpoint_set_server_tls(stoq_endpoint *ep, SSL_CTX *tls);
// What to wait on for reading: a socket, or what waits for several; -1 with a stoq_net. Owned by
// the endpoint. The first stoq_conn_migrate() may change it, nothing else does.
int stoq_endpoint_fd(const stoq_endpoint *ep);
// The bound address (with the port that the kernel chose).
void stoq_endpoint_address(const stoq_endpoint *ep, struct sockaddr_in6 *out);
// Absolute monotonic time of the next call of process: 0 = at once, HM_TIME_NEVER = none.
uint64_t stoq_endpoint_next_timeout_us(const stoq_endpoint *ep);
// Receives (if readable), runs the timers that are due, sends what may be sent. Bounded work: when
// more is to be done the next timeout is 0.
void stoq_endpoint_process(stoq_endpoint *ep, uint64_t now_us, bool readable);
// Datagrams that arrived by other ways than the socket: len bytes that are datagrams of
// segment_bytes each, the last one maybe shorter; they are decrypted in place. ecn is the two bits
// of the IP header. What they bring to be read is told before this returns; answers leave at the
// next process.
void stoq_endpoint_receive(stoq_endpoint *ep, const struct sockaddr_in6 *from, uint8_t *bytes,
                           size_t len, size_t segment_bytes, uint8_t ecn, uint64_t now_us);
void *stoq_endpoint_user(const stoq_endpoint *ep); // of its callbacks
// The same for datagrams that came to the preferred address.
void stoq_endpoint_receive_preferred(stoq_endpoint *ep, const struct sockaddr_in6 *from,
                                     uint8_t *bytes, size_t len, size_t segment_bytes, uint8_t ecn,
                                     uint64_t now_us);
// The same for datagrams that came to an address of stoq_conn_migrate().
void stoq_endpoint_receive_at(stoq_endpoint *ep, const struct sockaddr_in6 *at,
                              const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                              size_t segment_bytes, uint8_t ecn, uint64_t now_us);
void stoq_endpoint_get_stats(const stoq_endpoint *ep, stoq_endpoint_stats *out);

// A loop for programs that have none: waits until something arrives or is due, but no longer than
// until_us, and processes it. May return early, as after a signal. Not with a stoq_net.
void stoq_endpoint_wait(stoq_endpoint *ep, uint64_t until_us);
uint64_t stoq_now_us(void); // the clock of stoq_endpoint_wait(): CLOCK_MONOTONIC

// Starts a connection. server_name is the TLS server name (SNI and, where the SSL_CTX verifies
// names, the name to verify) or an IPv6 address to verify; NULL for none. alpn: NULL for the
// configured list, else only this one. user is the connection's user pointer. HM_E_LIMIT,
// HM_E_CONFIG.
HM_CHECK hm_err stoq_connect(stoq_endpoint *ep, const struct sockaddr_in6 *to,
                             const char *server_name, const char *alpn, void *user,
                             stoq_conn **out);
// The same with a session that an earlier connection told, of the same server_name, whose protocol
// is asked for. It saves the proof of the server's certificate, and is to be handed in only where
// the same roots are believed; each one once, or the two connections can be linked. One that is
// damaged, another name's or over, and with a client_tls that has a certificate of its own or
// checks revocation lists every one, is passed over: then this is stoq_connect() with the
// configured protocols. A session is over with its ticket, with the server's certificate, or a day
// after the last handshake that proved it.
//
// With early, and a ticket that allows it, stoq_conn_early() is STOQ_EARLY_OFFERED after this call:
// streams may be opened and written at once, and what fits the server's limits of then leaves with
// the first packets. When the server rejects it all is sent again by itself, in the same streams.
// Nothing is received before conn_open. Otherwise it is STOQ_EARLY_NONE, and streams wait for
// conn_open.
HM_CHECK hm_err stoq_resume(stoq_endpoint *ep, const struct sockaddr_in6 *to,
                            const char *server_name, hm_bytes session, bool early, void *user,
                            stoq_conn **out);
stoq_early stoq_conn_early(const stoq_conn *conn);
bool stoq_conn_resumed(const stoq_conn *conn); // once it is open: the server took the session
// Ends the connection with an application code; the peer learns it and the reason (cut at 256
// bytes). conn_closed follows in the next process. Unsent stream bytes are discarded.
void stoq_conn_close(stoq_conn *conn, uint64_t app_code, const char *reason);
// Why it ended, for conn_closed: the codes of conn_failed, or HM_OK when this side closed it.
hm_err stoq_conn_why(const stoq_conn *conn);
bool stoq_conn_is_open(const stoq_conn *conn); // handshake complete, not closing
// The peer is known to have completed the handshake too, and with that to accept this side's
// certificate (RFC 9001, section 4.1.2).
bool stoq_conn_is_confirmed(const stoq_conn *conn);
bool stoq_conn_is_server(const stoq_conn *conn);
stoq_endpoint *stoq_conn_endpoint(stoq_conn *conn);
void *stoq_conn_user(const stoq_conn *conn);
void stoq_conn_set_user(stoq_conn *conn, void *user);
// The peer's certificate, or NULL. Borrowed, lives as long as the connection. After stoq_resume()
// the one that was proven then.
X509 *stoq_conn_peer_cert(const stoq_conn *conn);
// Negotiated protocol, "" before. Lives as long as the connection.
const char *stoq_conn_alpn(const stoq_conn *conn);
// TLS group, such as "X25519MLKEM768", which lives as long as the connection, and cipher, a static
// string; "" before.
const char *stoq_conn_group(const stoq_conn *conn);
const char *stoq_conn_cipher(const stoq_conn *conn);
// A secret of the two ends of a connection alone, to bind other things to it: an exporter of TLS
// (RFC 8446, section 7.5), label "EXPORTER-hypermesh-stoq". HM_E_AGAIN before the handshake is
// complete.
#define STOQ_EXPORT_BYTES 32u
HM_CHECK hm_err stoq_conn_export(const stoq_conn *conn, uint8_t out[STOQ_EXPORT_BYTES]);
uint32_t stoq_conn_version(const stoq_conn *conn); // of QUIC; may change until it is open
void stoq_conn_peer_address(const stoq_conn *conn, struct sockaddr_in6 *out);
// Of the socket that it goes by.
void stoq_conn_local_address(const stoq_conn *conn, struct sockaddr_in6 *out);
// Moves a client's connection to another address of this host (RFC 9000, section 9): a socket is
// bound there (port 0: any; connections may share it), the way to the server is proven under
// another connection id, and then all goes by it; congestion control and round trips begin anew.
// Where three challenges are not answered, within three seconds at least, all stays as it was.
// conn_moved tells which it was; with another call before that, only of the last one. The address
// that the endpoint is bound to leads back to its own socket. Which interface packets leave by is
// for the kernel's routes to say. Ask for stoq_endpoint_fd() again afterwards.
// HM_E_AGAIN: the handshake is not confirmed, the server's preferred address is being tried, or
// the server has given no id to spare yet; HM_E_EXISTS: it is there; HM_E_UNSUPPORTED: the server
// forbids it (disable_active_migration) or has no ids; HM_E_INVALID: on a server; HM_E_CLOSED;
// HM_E_CONFIG: the address is not this host's, or its port is taken; HM_E_IO, HM_E_NOMEM.
HM_CHECK hm_err stoq_conn_migrate(stoq_conn *conn, const struct sockaddr_in6 *local);
void stoq_conn_get_stats(const stoq_conn *conn, stoq_conn_stats *out);
// The congestion window alone (cwnd_bytes), for who asks often.
uint64_t stoq_conn_window(const stoq_conn *conn);
// Changes the 1-RTT keys of both directions (RFC 9001, section 6). HM_E_AGAIN while the previous
// update is not confirmed or the handshake is not.
HM_CHECK hm_err stoq_conn_update_keys(stoq_conn *conn);
// Sends a PING, so that an idle connection stays open.
void stoq_conn_ping(stoq_conn *conn);

// Sends bytes once, in a packet of its own or with others, unordered, and does not care whether
// they arrive (RFC 9221). Copied. HM_E_STOQ_BLOCKED: so much waits already that these would only be
// late; HM_E_RANGE: more than stoq_conn_datagram_max(); HM_E_CLOSED.
HM_CHECK hm_err stoq_conn_send_datagram(stoq_conn *conn, hm_bytes bytes);
// How long one may be now: it grows and may shrink with the path's MTU. 0: the peer takes none, or
// its parameters are not known yet.
size_t stoq_conn_datagram_max(const stoq_conn *conn);

// Opens a stream. HM_E_STOQ_BLOCKED when the peer allows no more at present, HM_E_CLOSED.
HM_CHECK hm_err stoq_stream_open(stoq_conn *conn, bool unidirectional, stoq_stream **out);
// Copies up to the send-buffer limit; *accepted says how many bytes. fin counts only when all were
// accepted. HM_E_CLOSED after fin, HM_E_STOQ_RESET after a reset or STOP_SENDING; a partial accept
// is HM_OK, and stream_writable follows.
HM_CHECK hm_err stoq_stream_send(stoq_stream *stream, hm_bytes bytes, bool fin, size_t *accepted);
// Sends bytes without copying them: they must stay as they are until stream_returned gives the tag
// back, or stream_closed is called, which gives back all that is left. 1 to 2^32-1 bytes, of which
// all are taken. HM_E_STOQ_BLOCKED when the send buffer is full (stream_writable follows);
// otherwise errors as of stoq_stream_send().
HM_CHECK hm_err stoq_stream_lend(stoq_stream *stream, hm_bytes bytes, bool fin, void *tag);
// Bytes that stoq_stream_send() would accept now.
size_t stoq_stream_send_room(const stoq_stream *stream);
// Keeps at most so many unacknowledged bytes for this stream, within stream_send_bytes: for one who
// serves many streams out of one store. What is kept above it already stays.
void stoq_stream_set_send_bytes(stoq_stream *stream, uint32_t bytes);
// The bytes that can be read next, in place; *fin when the stream ends after them. An empty view
// without fin means nothing is there now. The view lives until the next consume or the end of the
// callback. There may be more behind the view: consume and peek again. HM_E_STOQ_RESET when the
// peer reset the stream (stoq_stream_reset_code() has the code).
HM_CHECK hm_err stoq_stream_peek(stoq_stream *stream, hm_bytes *view, bool *fin);
// Gives back n bytes of the view (asserted: no more than it had), which opens the window.
// Consuming the last byte (or 0 bytes when only the end is left) ends the receiving side.
void stoq_stream_consume(stoq_stream *stream, size_t n);
// Abandons sending (RESET_STREAM). Harmless after the end.
void stoq_stream_reset(stoq_stream *stream, uint64_t app_code);
// Asks the peer to stop sending (STOP_SENDING) and discards what comes. Harmless after the end.
void stoq_stream_stop(stoq_stream *stream, uint64_t app_code);
uint64_t stoq_stream_id(const stoq_stream *stream);
bool stoq_stream_is_local(const stoq_stream *stream); // opened by this side
// On a server: the client opened it in early data, which may have been recorded by somebody else
// and which comes before the handshake proves that there is a client at all.
bool stoq_stream_is_early(const stoq_stream *stream);
bool stoq_stream_is_uni(const stoq_stream *stream);
uint64_t stoq_stream_reset_code(const stoq_stream *stream); // of the peer's reset
uint64_t stoq_stream_stop_code(const stoq_stream *stream);  // of its STOP_SENDING
stoq_conn *stoq_stream_conn(stoq_stream *stream);
void *stoq_stream_user(const stoq_stream *stream);
void stoq_stream_set_user(stoq_stream *stream, void *user);

#pragma GCC visibility pop

#endif
