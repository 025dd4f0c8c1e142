// Private: a connection of a bundle that another worker of the group serves. The bundle, its
// members, its application's calls and callbacks are of one worker, `home`; the connection and its
// stream are of `away`. The leg is between them: a pipe that carries the stream's bytes to home,
// where frames are parsed, and frames and lent pieces to the stream. Away parses nothing but the
// JOIN that makes the leg on a server.
//
//     home: bundle_member --leg--> bundle_leg <--leg-- bundle_member (BUNDLE_AWAY) --> stream
//
// Each side changes what is shared under the leg's lock, and then posts the other side's job, which
// leaves after the turn (group.h) and stands in its queue once. The lock is held for a few lines,
// or while a batch of pieces is lent to the stream, and inside of it nothing calls back.
//
// Who owns what, and when it is freed:
//   leg      both sides and each job that was posted hold a reference; the last one frees it. Away
//            lets go when its stream is closed, home when the bundle is freed.
//   pieces   the bundle, as ever: they stay in their member's `sent`. Away reads one from when it
//            is in `pieces` until it is counted in `returned` or the leg is `closed`. A bundle that
//            is freed before, because its worker ends, leaves the leg those that are not returned.
//   chunks   the leg: what came, at most LEG_CHUNKS_MAX of them; without one to fill away leaves
//            what comes in the stream, whose window then holds the peer.
//   out      BUNDLE_OUT bytes of frames; without room home keeps them as numbers and bits.
// A worker that ends closes its connections and with them its legs; the other one is told by its
// job, or if that is too late, finds `closed` or `home_gone` set.
#ifndef HM_STOQ_BUNDLE_LEG_H
#define HM_STOQ_BUNDLE_LEG_H

#include <pthread.h>

#include "stoq/bundle.h"
#include "stoq/group.h"

#define LEG_CHUNK 65536u
#define LEG_CHUNKS_MAX 16u
#define LEG_REASON 128u

typedef struct leg_chunk {
    hm_list link;
    size_t len;
    uint8_t bytes[LEG_CHUNK];
} leg_chunk;

struct bundle_leg {
    stoq_group *group; // outlives its workers
    stoq_bundle_hub *hub;
    unsigned home, away;
    // What it asks to join, set by away before home is told.
    bool is_server;
    bundle_frame join;                 // on a server
    uint64_t number;                   // on a client, of the bundle
    uint8_t secret[STOQ_EXPORT_BYTES]; // of its connection
    X509 *peer;                        // a reference; NULL: it shows none
    // Away's alone.
    stoq_stream *stream; // NULL: closed
    stoq_bundles *set;   // the stream's
    // Home's alone.
    bool asked;
    bundle_member *member; // NULL: not yet, refused, or no more
    // Of both.
    pthread_mutex_t lock; // of what follows
    unsigned refs;
    group_job to_home, to_away;
    bool home_due, away_due; // the job is posted
    // to home
    hm_list come, spare; // chunks, owned
    unsigned chunks;     // made
    uint64_t window;     // bytes that it may be given; 0: its stream is full
    uint64_t returned, returned_bytes;
    bool ended, closed; // the stream, before its connection; the connection
    // to away
    uint8_t out[BUNDLE_OUT];
    size_t out_len;
    hm_list pieces; // by leg_link
    bool ping, close, refused;
    bool closing; // close was asked for, once
    uint64_t code;
    char reason[LEG_REASON];
    // who waits for the other
    bool home_waits; // for room in out
    bool away_waits; // for chunks
    // at the end
    bool home_gone;
    hm_list orphans; // pieces
};

// What home takes out of the leg at a time.
typedef struct leg_mail {
    hm_list come;
    uint64_t window, returned, returned_bytes;
    bool ended, closed;
} leg_mail;

// ---- away's -------------------------------------------------------------------------------------

// Makes the stream's member one of another worker's bundle, and asks that worker: with the client's
// frame on a server, else with the number of the bundle.
HM_CHECK hm_err leg_ask(bundle_member *m, unsigned home, const bundle_frame *join, uint64_t number);
void leg_on_readable(bundle_leg *l);
void leg_on_writable(bundle_leg *l);
void leg_on_returned(bundle_leg *l, const bundle_piece *p);
void leg_on_closed(bundle_leg *l);

// ---- home's -------------------------------------------------------------------------------------

// The member has the leg from now on.
void leg_join(bundle_leg *l, bundle_member *m);
void leg_refuse(bundle_leg *l, uint64_t code, const char *reason);
// As stoq_stream_send(), of whole frames; the rest, when there is room.
size_t leg_send(bundle_leg *l, hm_bytes bytes);
void leg_lend(bundle_leg *l, bundle_piece *p);
void leg_close(bundle_leg *l, uint64_t code, const char *reason);
void leg_ping(bundle_leg *l);
// The member goes. Takes those of its pieces that the connection has.
void leg_let_go(bundle_leg *l, bundle_member *m);

#endif
