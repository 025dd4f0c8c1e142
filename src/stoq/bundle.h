// Private: a bundle and its connections. bundle.c has their life, bundle_join.c how a connection
// comes into one, bundle_send.c what is sent and what becomes of it when a connection dies,
// bundle_recv.c takes frames, bundle_frame.c is the wire format, bundle_rx.c the receiving side of
// the channel, bundle_leg.c connections of other workers.
#ifndef HM_STOQ_BUNDLE_H
#define HM_STOQ_BUNDLE_H

#include "base/list.h"
#include "hypermesh/stoq_bundle.h"
#include "stoq/bundle_frame.h"
#include "stoq/bundle_rx.h"

#define BUNDLE_OUT 512u // bytes of frames that wait for room in a stream
#define BUNDLE_SECRET 32u

// Bytes of the channel on their way, with the header that they are sent with.
typedef struct bundle_piece {
    hm_list link;     // in the queue, in a connection's `sent`, or in the pool
    hm_list leg_link; // beside `sent`: in bundle_leg's `pieces`
    uint64_t offset;
    uint32_t len;
    uint8_t bytes[BUNDLE_PIECE_HEAD + STOQ_BUNDLE_PIECE_MAX];
} bundle_piece;

typedef enum bundle_state {
    BUNDLE_NEW, // has not said, or not heard, what it is for
    BUNDLE_LIVE,
    BUNDLE_LOST, // nothing more is taken from it or sent by it
    BUNDLE_AWAY, // its bundle is another worker's; only leg, set and stream count
} bundle_state;

typedef struct bundle_leg bundle_leg;

// A connection, from its stream's beginning. It stays until its bundle is freed, or if it has none,
// until its stream is closed.
typedef struct bundle_member {
    stoq_bundles *set;
    struct stoq_bundle *bundle; // NULL: none yet
    stoq_stream *stream;        // NULL: closed, or another worker's
    bundle_leg *leg;            // NULL: it and its bundle are of one worker
    bool open;                  // it is not closed
    bundle_state state;
    uint8_t index;
    // what comes
    uint8_t head[BUNDLE_FRAME_MAX];
    size_t head_len;
    bundle_frame piece; // len > 0: its bytes are coming
    uint8_t *body;      // of such a piece, when it comes in parts; owned
    size_t body_len;
    uint64_t taken, taken_told; // pieces
    // what goes
    hm_list sent;           // pieces, in order; the first is number `released`
    uint64_t sent_count;    // pieces
    uint64_t released;      // pieces that the peer has, and whose bytes the transport gave back
    uint64_t returned;      // that the transport gave back
    uint64_t taken_by_peer; // that the peer has
    uint64_t lent_bytes;    // that the transport holds
    uint64_t leg_window;    // with a leg: what it may hold
    uint8_t out[BUNDLE_OUT];
    size_t out_len, out_at;
    bool greet_due, allow_due, end_due;
    uint32_t gone_due, answer_due; // by index
    // after its end
    bool answered, settled; // the peer said what it took; the rest goes by others
} bundle_member;

struct stoq_bundle {
    hm_list link; // in set->bundles
    stoq_bundles *set;
    void *user;
    uint64_t number; // of stoq_bundle_ref
    bool is_server, opened, closing;
    hm_err why; // it ends
    uint8_t id[BUNDLE_ID], secret[BUNDLE_SECRET];
    X509 *peer;                                    // owned; NULL: it shows none
    bundle_member *members[STOQ_BUNDLE_CONNS_MAX]; // owned
    uint32_t never;                                // indexes that were given up before they joined
    uint32_t live, joined, streams;                // streams: that are not closed yet
    bundle_rx rx;
    // what goes
    hm_list queue, pool;
    uint32_t pieces, pieces_max; // made; at most
    uint32_t in_pool;
    uint64_t end, allowed; // of what was accepted; what the peer allows
    uint64_t sent_bytes, taken_bytes, again;
    bool fin, blocked, pumping;
};

struct stoq_bundles {
    stoq_bundles_config config;
    hm_random random;
    hm_list bundles;
    uint32_t count;  // that clients opened
    uint64_t number; // of the last one that was made
    unsigned worker; // of a group: whose connections they are
    bool in_hub;     // it stands there, since its first bundle
    uint64_t refused;
};

struct stoq_bundle_hub {
    stoq_bundles *sets[STOQ_SHARE_MAX]; // by worker; each is that worker's alone
};

// ---- bundle.c -----------------------------------------------------------------------------------

hm_err bundle_make(stoq_bundles *set, stoq_conn *conn, stoq_bundle **out);
void bundle_discard(stoq_bundle *b); // of which nobody knows yet
hm_err bundle_make_member(stoq_bundles *set, stoq_stream *st, bundle_member **out);
void bundle_attach(stoq_bundle *b, bundle_member *m, uint8_t index);
// It carries the channel from now on, and tells what the others were told before.
void bundle_enliven(bundle_member *m);
// Closes this connection with the code; the detail line is the reason.
void bundle_refuse(bundle_member *m, uint64_t code);
// The peer broke the rules: all of the bundle ends.
void bundle_break(stoq_bundle *b, hm_err why, uint64_t code);
// Nothing more goes by it.
void bundle_lose(bundle_member *m);
// Of a connection with a leg: what it may hold and gave back; and, when what it brought was taken,
// whether its stream or all of it is over.
void bundle_on_window(bundle_member *m, uint64_t window, uint64_t returned, uint64_t bytes);
void bundle_on_turn(bundle_member *m, bool ended, bool closed);

// ---- bundle_join.c ------------------------------------------------------------------------------

// First frames of a client's connection, and a server's answers.
void bundle_on_open(bundle_member *m, const bundle_frame *f);
void bundle_on_join(bundle_member *m, const bundle_frame *f);
void bundle_on_greeting(bundle_member *m, const bundle_frame *f);
// Another worker's connection asks to join. NULL: there are no bundles here.
void bundle_on_ask(stoq_bundles *set, bundle_leg *leg);

// ---- bundle_recv.c ------------------------------------------------------------------------------

// Bytes of its stream. Returns how many were looked at: all of them, but for a connection that is
// over or another worker's.
size_t bundle_take(bundle_member *m, hm_bytes bytes);
void bundle_on_stream_end(bundle_member *m);

// ---- bundle_send.c ------------------------------------------------------------------------------

void bundle_pump(stoq_bundle *b); // sends what may be sent
// Bytes that the stream's connection may hold: its congestion window, and `ahead` beyond it, but no
// more than the window again, or a slow one would hold what the others wait for; 0: it is full.
uint64_t bundle_may_hold(stoq_stream *st, uint64_t ahead);
// Frees what the peer has; after the connection's end and the peer's answer the rest goes back into
// the queue.
void bundle_release(bundle_member *m);
void bundle_drop_pieces(stoq_bundle *b);

#endif
