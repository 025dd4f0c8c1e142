// Bundles: one channel of bytes, in both directions, over 1 to 32 connections to the same peer.
// What is sent is cut into pieces, each of which goes by the connection with the most free
// congestion window. Connections may come by different addresses and may die: what the peer did
// not take from one that is gone goes by the others, and every byte is handed on once. The bundle
// ends with its last connection. docs/stoq.md has the frames.
//
// Nothing here does I/O: a stoq_bundles is fed by the callbacks of the endpoint, and acts by the
// calls of stoq.h. A connection that is in a bundle is the bundle's: its streams and its stream's
// user pointer are not for the application.
//
// Joining: the first connection learns a random 128-bit id. The others show it with a proof that
// is keyed by the first connection's exporter secret (RFC 8446, section 7.5) and covers their own,
// so that only the two ends of the first connection can make it, and only for this connection. The
// certificates of the peer must be the same on all.
//
// Life: a bundle is from stoq_bundle_open() or the opened callback until its closed callback
// returns. Destroy the endpoints before stoq_bundles_free(), which calls closed for bundles that
// only connections of other workers still carry.
//
// Threads: a stoq_bundles belongs to one thread, with all of its bundles and their callbacks. In a
// group of workers (stoq_group.h) each has a set of its own, made in worker_begin and freed in
// worker_end. Sets that share a stoq_bundle_hub let each other's connections join: a bundle stays
// with the worker of its first connection, and what other workers' connections carry is handed to
// that one, and from it. Its callbacks then run between turns of the endpoint too. On a server this
// needs nothing more than the hub: connections of a bundle may come to whichever worker. On a
// client see stoq_bundles_add(). Without a hub all connections of a bundle must come to one worker:
// stoq_connect_beside().
#ifndef HYPERMESH_STOQ_BUNDLE_H
#define HYPERMESH_STOQ_BUNDLE_H

#include "hypermesh/stoq.h"

#pragma GCC visibility push(default)

#define STOQ_ALPN_BUNDLE "hypermesh-bundle/1" // for whoever has no protocol of his own
#define STOQ_BUNDLE_CONNS_MAX 32u             // of a bundle, from its beginning to its end
#define STOQ_BUNDLE_PIECE_MAX 16384u          // bytes of a piece
#define STOQ_BUNDLE_GAPS_MAX 1024u            // between what came, at a time

typedef struct stoq_bundles stoq_bundles; // those of a thread
typedef struct stoq_bundle stoq_bundle;
typedef struct stoq_bundle_hub stoq_bundle_hub; // of the sets of one group

// Application codes with which its connections are closed.
enum {
    STOQ_BUNDLE_DONE = 0,
    STOQ_BUNDLE_MALFORMED = 0x62,   // a frame that is none, or not here or not now
    STOQ_BUNDLE_TWICE = 0x63,       // a piece with bytes that came before
    STOQ_BUNDLE_WINDOW = 0x64,      // a piece beyond the limit or the end, or too many gaps
    STOQ_BUNDLE_DENIED = 0x65,      // no such bundle, or not for this peer
    STOQ_BUNDLE_LIMIT = 0x66,       // too many bundles, or connections of this one
    STOQ_BUNDLE_LEFT = 0x67,        // the other side holds the connection for dead
    STOQ_BUNDLE_UNSUPPORTED = 0x68, // another version
    STOQ_BUNDLE_MEMORY = 0x69,
};

typedef struct stoq_bundle_callbacks {
    // On a client: the server has made the bundle, so connections may be added. On a server: a
    // client has.
    void (*opened)(void *user, stoq_bundle *b);
    // Bytes of the channel, borrowed for the call. In order, or with `ordered` off as they come.
    // Those that stoq_bundle_consume() has not given back count against the window.
    void (*data)(void *user, stoq_bundle *b, uint64_t offset, hm_bytes bytes);
    void (*end)(void *user, stoq_bundle *b); // the peer's last byte was handed on
    // There is room again after a send that was not accepted whole.
    void (*writable)(void *user, stoq_bundle *b);
    // It is over. HM_OK: this side closed it; HM_E_CLOSED: the peer did, or the last connection is
    // gone; else what was wrong with what the peer sent.
    void (*closed)(void *user, stoq_bundle *b, hm_err why);
} stoq_bundle_callbacks; // any may be NULL

typedef struct stoq_bundles_config {
    bool ordered;             // what comes is put in order
    uint32_t window_bytes;    // [8 MiB] that the peer may be ahead of stoq_bundle_consume(); with
                              // ordered, what a bundle may keep
    uint32_t send_bytes;      // [8 MiB] kept of a bundle until the peer took them
    uint32_t max_bundles;     // [64] that clients may open
    uint32_t max_connections; // [32] of a bundle that clients may bring
    const hm_random *random;  // NULL: the kernel's. Copied.
    stoq_bundle_hub *hub;     // borrowed; NULL: connections of other workers cannot join
    stoq_bundle_callbacks callbacks;
    void *user;
} stoq_bundles_config; // zero means the default in brackets

typedef struct stoq_bundle_stats {
    uint32_t connections;             // that carry it now
    uint32_t joined;                  // since the beginning
    uint64_t bytes_sent, bytes_taken; // of the channel: given to a connection; taken by the peer
    uint64_t bytes_received;          // handed on, or waiting for what is before them
    uint64_t pieces_again;            // that went a second time because their connection died
} stoq_bundle_stats;

HM_CHECK hm_err stoq_bundles_create(const stoq_bundles_config *config, stoq_bundles **out);
void stoq_bundles_free(stoq_bundles *set); // NULL is harmless
// Sends a PING on every connection of every bundle. Called several times in an idle timeout, it
// keeps those that have nothing to carry while another one's death is waited for.
void stoq_bundles_ping(stoq_bundles *set);
uint64_t stoq_bundles_refused(const stoq_bundles *set); // connections that were not let in

// Made before its group is started, freed after the group was stopped. HM_E_NOMEM.
HM_CHECK hm_err stoq_bundle_hub_create(stoq_bundle_hub **out);
void stoq_bundle_hub_free(stoq_bundle_hub *hub); // NULL is harmless

// ---- from the endpoint's callbacks, for connections that are of bundles -------------------------

void stoq_bundles_stream_open(stoq_bundles *set, stoq_stream *stream);
// These may stand in stoq_callbacks as they are: what user is does not matter.
void stoq_bundles_stream_readable(void *user, stoq_stream *stream);
void stoq_bundles_stream_writable(void *user, stoq_stream *stream);
void stoq_bundles_stream_returned(void *user, stoq_stream *stream, void *tag);
void stoq_bundles_stream_closed(void *user, stoq_stream *stream);

// ---- a client's ---------------------------------------------------------------------------------

// A bundle over this open connection. HM_E_LIMIT, HM_E_NOMEM, errors as of stoq_stream_open().
HM_CHECK hm_err stoq_bundle_open(stoq_bundles *set, stoq_conn *conn, void *user, stoq_bundle **out);
// One more, once opened was called. HM_E_AGAIN before that; HM_E_DENIED: the peer has another
// certificate; HM_E_LIMIT: it had 32; HM_E_CLOSED. The connection stays the caller's on failure.
HM_CHECK hm_err stoq_bundle_add(stoq_bundle *b, stoq_conn *conn);
// A client's bundle by name: good on every thread, also when the bundle is no more.
typedef struct stoq_bundle_ref {
    unsigned worker;
    uint64_t number;
} stoq_bundle_ref;
stoq_bundle_ref stoq_bundle_ref_of(const stoq_bundle *b);
// stoq_bundle_add() on the thread of the connection, whichever worker's that is; the set is that
// worker's. What the bundle's own worker does not let in is closed, with a code of those above.
HM_CHECK hm_err stoq_bundles_add(stoq_bundles *set, stoq_bundle_ref ref, stoq_conn *conn);
// As stoq_connect(), with the protocol that `first` has: where workers share the server's address,
// it comes to that which has `first`, whereas stoq_connect() leaves it to chance.
HM_CHECK hm_err stoq_connect_beside(stoq_endpoint *ep, const stoq_conn *first,
                                    const struct sockaddr_in6 *to, const char *server_name,
                                    void *user, stoq_conn **out);

// ---- of both sides ------------------------------------------------------------------------------

// Copies up to what send_bytes allows; *accepted says how many. fin counts only when all were
// accepted. HM_E_CLOSED after fin or the end. A partial accept is HM_OK, and writable follows.
HM_CHECK hm_err stoq_bundle_send(stoq_bundle *b, hm_bytes bytes, bool fin, size_t *accepted);
// The application is done with n bytes of what data gave it (asserted: no more than that).
void stoq_bundle_consume(stoq_bundle *b, uint64_t n);
// Closes all of its connections; closed follows.
void stoq_bundle_close(stoq_bundle *b);
void stoq_bundle_get_stats(const stoq_bundle *b, stoq_bundle_stats *out);
void *stoq_bundle_user(const stoq_bundle *b);
void stoq_bundle_set_user(stoq_bundle *b, void *user);
// A connection of its own worker that carries it now; NULL: none.
stoq_conn *stoq_bundle_conn(const stoq_bundle *b);

#pragma GCC visibility pop

#endif
