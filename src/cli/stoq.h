// Private to src/cli: one connection to a STOQ server, several or a bundle of them, driven by
// whoever waits for something on it.
#ifndef HM_CLI_STOQ_H
#define HM_CLI_STOQ_H

#include "cli/cli.h"
#include "hypermesh/stoq_bundle.h"

typedef struct session {
    stoq_endpoint *ep; // owned
    stoq_conn *conn;   // NULL once closed
    SSL_CTX *tls;      // owned
    const char *roots; // whom to believe
    struct sockaddr_in6 to;
    char name[256]; // what the server's certificate must say
    char target[HM_ADDR_TEXT_MAX];
    char peer[200]; // who answered, from its certificate
    char group[48];
    const char *cipher;
    uint32_t version; // of QUIC
    uint64_t started_us, handshake_us;
    bool open, printed;
    bool resumed, kept;
    stoq_early early;
    hm_hash roots_digest;
    const char *file; // of the session that is kept, NULL: none
    hm_err end;       // why it was closed, with the detail line
    char detail[512];
    void (*readable)(void *ctx, stoq_stream *s);
    void (*writable)(void *ctx, stoq_stream *s);
    void (*stream_closed)(void *ctx, stoq_stream *s);
    void *ctx;
    // Of a bundle: conn is one that carries it.
    stoq_bundles *set;   // owned; NULL: none
    stoq_bundle *bundle; // NULL before it is opened and after
    stoq_bundle_callbacks on_bundle;
    unsigned connections; // that are wanted; each has a socket of its own, and so a flow
    stoq_config config;   // of the endpoints
    stoq_endpoint *more[STOQ_BUNDLE_CONNS_MAX - 1]; // owned
    unsigned more_count;
    stoq_conn *beside[STOQ_BUNDLE_CONNS_MAX - 1]; // of session_widen(), by endpoint
    unsigned joined;                              // of these are open
    unsigned tried, failed;
    uint64_t ping_us;
} session;

// Connects to the command's argument with the options ca, cert, key, server-name, session and
// early, and waits for the handshake, unless data may be sent before it is over. End with
// session_close() also after a failure. The callbacks may be set after it.
HM_CHECK hm_err session_open(session *s, cli *c, const char *alpn);
// More connections to the same server, each by a socket of its own, until there are so many, and
// waits for their handshakes. The session ends with the first of them that ends.
HM_CHECK hm_err session_widen(session *s, unsigned connections);
// From 0 on, which is conn.
stoq_conn *session_conn(const session *s, unsigned index);
// Only the endpoint, for a command that connects by itself; the callbacks' user is the session.
HM_CHECK hm_err session_prepare(session *s, cli *c, const char *alpn,
                                const stoq_callbacks *callbacks);
// The other side: takes connections at the option listen, at most SESSION_PEERS; target and to are
// the address. Here session_turn() is false always.
#define SESSION_PEERS 64u
HM_CHECK hm_err session_listen(session *s, cli *c, const char *alpn, const char *bundle_alpn,
                               const stoq_callbacks *callbacks);
// What such a command tells of its connections: who answered (sets open), how one ended.
void session_note_peer(session *s, stoq_conn *conn);
void session_note_end(session *s, const stoq_conn *conn, uint64_t code, bool is_app,
                      hm_bytes reason);
void session_close(session *s);
// stoq_bundle.c: the same with a bundle of so many connections, and waits until all that can have
// joined it. The callbacks' user is the session's ctx, which is to be set before; opened and closed
// are this module's.
HM_CHECK hm_err session_open_bundle(session *s, cli *c, const char *alpn, void *ctx,
                                    const stoq_bundle_callbacks *callbacks);
// Where session_listen() takes bundles too. The endpoint's callbacks hand connections of that
// protocol on to the stoq_bundles.
HM_CHECK hm_err session_take_bundles(session *s, const cli *c, void *ctx,
                                     const stoq_bundle_callbacks *callbacks);
// Of the option connections, 0: it is not there.
HM_CHECK hm_err session_connections(const cli *c, unsigned *out);
// Waits for the network, at most until the time, and does what is due. False when the connection
// is over (s->end and the detail line say why) or the person interrupted.
bool session_turn(session *s, uint64_t until_us);
bool session_interrupted(void);
HM_CHECK hm_err session_end(const session *s);
// connections where they are counted, target, peer, quic, group, cipher, handshake_us, resumed,
// early.
void session_json(const session *s, hm_buf *b);
void session_print(session *s); // once, when it is open

// stoq_times.c: how long things took.
typedef struct times {
    uint64_t *us; // owned
    size_t count, cap;
} times;
HM_CHECK hm_err times_add(times *t, uint64_t us);
void times_free(times *t);
// min_us, avg_us, p50_us, p99_us, p999_us, max_us; nothing when there are none. Sorts.
void times_json(times *t, hm_buf *b);
// The same for a person, with a newline.
void times_print(times *t);

// stoq_perf.c: "4096", "10M": K, M and G are powers of 1024.
HM_CHECK hm_err stoq_size_of(const cli *c, const char *name, uint64_t *out);
// stoq_handshakes.c
HM_CHECK hm_err stoq_handshakes(cli *c, const cli_command *cmd);

// A file's way from stoq_send.c to stoq_recv.c, a stream of two directions for each:
//   there  length of the name (1 byte), name, length of the file (8 bytes, big endian), the file,
//          SHA-256 of it
//   back   one byte, FILE_STORED or FILE_REFUSED, and with the latter a text that says why
#define FILE_ALPN "hypermesh-file/1"
#define FILE_BUNDLE_ALPN "hypermesh-file-bundle/1" // a bundle for each, of the same bytes
#define FILE_NAME_MAX 255u
#define FILE_REASON_MAX 200u
enum { FILE_STORED = 0, FILE_REFUSED = 1 };

#endif
