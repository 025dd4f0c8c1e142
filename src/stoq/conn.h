// Private: one connection as a state machine. conn.c has its life and timers, conn_params.c the
// transport parameters, conn_path.c its ids and addresses, conn_other.c a path besides the
// one in use, conn_mtu.c the length of UDP datagrams, conn_datagram.c those of RFC 9221,
// conn_session.c resumes sessions, conn_version.c the versions of QUIC, conn_send.c builds packets,
// conn_recv.c takes them apart, conn_loss.c is RFC 9002, stream.c the streams. What happens is told
// by CONN_EVENT().
#ifndef HM_STOQ_CONN_H
#define HM_STOQ_CONN_H

#include "base/heap.h"
#include "base/list.h"
#include "base/map.h"
#include "base/udp_local.h"
#include "hypermesh/stoq.h"
#include "stoq/cc.h"
#include "stoq/ecn.h"
#include "stoq/event.h"
#include "stoq/frame.h"
#include "stoq/ranges.h"
#include "stoq/recvbuf.h"
#include "stoq/sendbuf.h"
#include "stoq/session.h"
#include "stoq/tls.h"
#include "stoq/transport_params.h"
#include "stoq/window.h"

#define STOQ_SENT_FRAMES 6
#define STOQ_SENT_MAX 65536u          // packets of a space that are under way
#define STOQ_RETIRED_MAX 4            // ids of ours that stay a while
#define STOQ_CIDS_MAX 8               // of each side
#define STOQ_GONE_MAX 16              // ranges of lost packets that may turn up after all
#define STOQ_CRYPTO_WINDOW (1u << 16) // a handshake with FALCON certificates fits
#define STOQ_REASON_MAX 256
#define STOQ_HELD_MAX 16 // 0-RTT packets of a connection that wait for their keys
#define STOQ_HELD_BYTES (1u << 14)
#define STOQ_PENDING_PATH_MAX 4 // PATH_RESPONSE frames that wait
// How late an acknowledgement may be: as every peer expects, and as one may ask for at least, which
// is what our timers keep.
#define STOQ_MAX_ACK_DELAY_US 25000u
#define STOQ_MIN_ACK_DELAY_US 1000u

// What was in a sent packet and must be sent again when it is lost.
typedef struct stoq_sent_frame {
    uint8_t type;
    bool fin;
    uint32_t len;
    uint64_t id; // stream, or sequence number
    uint64_t offset;
} stoq_sent_frame;

typedef struct stoq_sent {
    uint64_t pn;
    cc_packet cc;
    bool outstanding, acked, eliciting, mtu_probe;
    uint8_t frame_count;
    stoq_sent_frame frames[STOQ_SENT_FRAMES];
} stoq_sent;

// A packet number space.
typedef struct stoq_space {
    stoq_keys rx, tx;
    uint64_t next_pn;
    // Packets under way, by number: records [sent_head, sent_tail) in a ring. Acknowledgements
    // alone leave none, so a peer that answers nothing cannot fill it.
    stoq_sent *sent; // owned
    uint32_t sent_cap;
    uint64_t sent_head, sent_tail;
    uint64_t largest_acked; // UINT64_MAX: none
    uint64_t loss_time_us;  // 0: none
    uint64_t last_eliciting_us;
    uint32_t eliciting_out; // outstanding and ack-eliciting
    uint8_t probes;         // to be sent whatever the window says
    bool discarded;
    // Received packets
    stoq_ranges received;
    uint64_t largest_received; // UINT64_MAX: none
    uint64_t largest_time_us;
    uint32_t unacked; // ack-eliciting packets since the last ACK
    bool ack_now;
    uint64_t ack_deadline_us; // 0: none
    uint64_t ecn[3];
    stoq_ecn_space ecn_sent;
    // CRYPTO bytes
    stoq_sendbuf crypto_out;
    stoq_recvbuf crypto_in;
} stoq_space;

// How often 1-RTT packets are acknowledged (draft-ietf-quic-ack-frequency, whose names these are).
typedef struct stoq_acks {
    // As the peer asked us.
    uint64_t next_seq;     // of its frames; what is before is old
    uint64_t told_largest; // Largest Acked of the ACK sent last
    uint32_t threshold;    // ack-eliciting packets that may wait for one
    uint32_t delay_us, reordering;
    uint8_t strays; // packets out of order since then
    bool gap;       // something is missing that the peer may not know of
    bool ce;        // the packet before was marked
    // As we asked it.
    bool pending, asking; // to be written; not acknowledged yet
    uint32_t seq, asked_threshold, asked_delay_us;
} stoq_acks;

typedef struct stoq_local_cid {
    uint64_t seq;
    stoq_cid cid;
    bool active, to_send;
} stoq_local_cid;

typedef struct stoq_peer_cid {
    uint64_t seq;
    stoq_cid cid;
    uint8_t token[STOQ_RESET_TOKEN];
    bool has_token, active;
} stoq_peer_cid;

typedef struct stoq_socket stoq_socket; // endpoint.h

typedef enum stoq_conn_state {
    STOQ_CONN_HANDSHAKE,
    STOQ_CONN_OPEN,
    STOQ_CONN_CLOSING,  // we said CONNECTION_CLOSE
    STOQ_CONN_DRAINING, // the peer did, or it is gone
    STOQ_CONN_DEAD,     // to be freed
} stoq_conn_state;

// Where a connection was before the path that is being validated, and what was known of that path.
typedef struct stoq_proven {
    struct sockaddr_in6 peer;
    stoq_cc cc;
    uint64_t rtt_us;
} stoq_proven;

// A path besides the one in use: it is proven before all goes by it. Afterwards it is the one
// before, by which late packets may come.
typedef struct stoq_other {
    enum { STOQ_PATH_PROBED, STOQ_PATH_PROVEN, STOQ_PATH_LEFT } state;
    bool challenge_pending, response_pending;
    bool moved;        // a server's: the client is there
    bool at_preferred; // a server's packets for it come to its preferred address; a client's go
                       // there
    bool used;         // something was sent there
    bool asked;        // by stoq_conn_migrate()
    uint8_t tries;
    struct sockaddr_in6 to;
    stoq_socket *via;    // NULL: one of the endpoint's own
    uint64_t remote_seq; // of the peer's id there
    uint8_t challenge[8], response[8];
    uint64_t until_us; // 0: nothing is waited for
    uint64_t credit;   // bytes that a server may send there
} stoq_other;

struct stoq_conn {
    stoq_endpoint *ep;
    hm_list link;  // in ep->conns
    hm_list ready; // in ep->ready: has something to send or to tell
    hm_heap_node timer;
    void *user;
    struct stoq_qlog *log; // NULL: none is kept; ep->on_event has it
    bool is_server;
    bool counted_half_open; // a server's until the handshake is complete or has failed
    bool counted_failed;    // and from then on
    stoq_conn_state state;
    struct sockaddr_in6 peer;
    struct stoq_proven *proven; // owned; NULL unless a new path is being validated
    uint64_t created_us;

    // identity
    stoq_cid original_dcid, initial_dcid; // the client's first; what Initial keys come from
    stoq_cid peer_initial_scid, retry_scid;
    bool has_peer_scid, has_retry;
    // Of QUIC: that of what we send, and that of the client's first packets.
    const stoq_version *version, *original;
    stoq_keys *original_rx; // owned; a server's for Initial packets of the latter, NULL: the same
    bool began_anew;        // a client, after a Version Negotiation packet
    stoq_local_cid local[STOQ_CIDS_MAX];
    // The ids that the peer retired last are still ours: a packet that it sent before, and that
    // comes late, is taken and not answered with a stateless reset.
    uint8_t retired[STOQ_RETIRED_MAX][STOQ_LOCAL_CID];
    uint32_t retired_count; // since the beginning; a ring
    uint64_t next_local_seq;
    bool ids_to_send; // perhaps: some of them have to_send
    bool watching;    // the token `watched`
    stoq_peer_cid remote[STOQ_CIDS_MAX];
    unsigned remote_at; // in use
    // The last ones of the peer that were retired before older ones; a ring.
    uint64_t spent[STOQ_CIDS_MAX];
    uint32_t spent_count; // since the beginning
    uint64_t retire_prior_to;
    uint8_t watched[STOQ_RESET_TOKEN];  // in ep->by_token
    uint64_t retire[2 * STOQ_CIDS_MAX]; // RETIRE_CONNECTION_ID to send
    unsigned retire_count;
    hm_buf token; // for our Initial packets

    // handshake
    stoq_tls tls;
    X509 *peer_cert;
    char *alpn;     // owned
    char group[48]; // whose name is its SSL_CTX's
    const char *cipher;
    uint8_t exported[STOQ_EXPORT_BYTES]; // TLS is gone when it is asked for
    int beside;                          // first byte of a client's first id; -1: any
    hm_buf client_alpn;                  // if one was named in stoq_connect()
    bool handshake_complete, confirmed, done_pending, told_open;
    bool resumed;
    // Early data: under keys of their own in the space of 1-RTT. On a client spaces[].tx has them
    // while early_tx is set.
    stoq_early early;
    bool early_tx;
    bool rx_early;       // what is being received came early
    stoq_keys *early_rx; // owned, NULL: none
    uint64_t early_rx_until_us;
    uint64_t one_rtt_pn; // the first number of a client that was sent under 1-RTT keys
    hm_list held;        // 0-RTT packets that came before the keys
    uint32_t held_count;
    size_t held_bytes;
    char *server_name; // of a client, owned; NULL: none
    uint64_t proven_s; // the last handshake without a ticket
    hm_buf *sessions;  // to be told, STOQ_SESSIONS_MAX; owned, NULL: none
    unsigned session_count;
    stoq_transport_params theirs;
    bool has_params;
    bool address_validated, peer_may_be_blocked;
    uint64_t amp_received, amp_sent; // while the address is not validated

    stoq_space spaces[STOQ_LEVELS];
    stoq_acks acks;

    // key update
    bool phase_rx, phase_tx;
    stoq_aead rx_next, rx_old;
    bool has_rx_next;
    uint64_t rx_phase_first_pn; // first number of the current receive phase
    bool rx_phase_acked;        // a packet of it was acknowledged, so the peer may begin the next
    uint64_t rx_old_until_us;
    uint64_t tx_phase_first_pn;
    uint32_t key_updates;
    uint64_t forged_packets; // 1-RTT packets that did not open, over all keys

    // recovery
    uint64_t path_pn; // 1-RTT packets before it went by another path
    uint64_t rtt_latest_us, rtt_smooth_us, rtt_var_us, rtt_min_us, first_rtt_us;
    uint32_t pto_count;
    unsigned gone_count; // 0: none, or more than are kept
    // Of 1-RTT packets: the number that will be left out next, and the last that was. Who
    // acknowledges it acknowledges what it never got (RFC 9000, section 21.4).
    uint64_t skip_pn, skipped_pn;
    stoq_cc cc;
    uint64_t pace_wait_us; // 0: not waiting
    stoq_ecn ecn;
    uint8_t ecn_mark; // of what is being sent
    // 1-RTT packets that the last recovery took for lost, newest ranges last.
    struct {
        uint64_t lo, hi;
    } gone[STOQ_GONE_MAX];
    uint64_t gone_recovery_us;

    struct stoq_other *other; // owned; NULL unless another path is being proven, or was in use
    bool at_preferred;        // all goes to or from a server's preferred address
    stoq_socket *via;         // of a client that moved; NULL: one of the endpoint's own
    hm_udp_local own;         // of a server: where the client came to first; else zero
    enum { STOQ_MOVE_NONE, STOQ_MOVE_FAILED, STOQ_MOVE_DONE } move; // to be told

    // path MTU: of the UDP payload
    uint16_t mtu;        // proven
    uint16_t mtu_probe;  // under way, 0: none
    uint16_t mtu_failed; // bits of sizes that do not get through
    uint8_t mtu_tries;   // of the size
    uint64_t mtu_probe_pn;
    uint32_t mtu_losses; // of long packets since one was acknowledged
    uint64_t mtu_lost_since_us;
    uint64_t mtu_again_us; // when those are tried again, 0: none has failed

    // flow control
    uint64_t tx_max, tx_used; // connection, what the peer allows, what was sent
    stoq_window rx;           // connection, what we allowed
    uint64_t rx_seen, rx_taken;
    uint64_t streams_opened[2], streams_allowed[2];         // ours; [1] = unidirectional
    uint64_t peer_streams_opened[2], peer_streams_limit[2]; // theirs
    uint32_t peer_streams_open[2];
    bool max_streams_pending[2], max_data_pending;

    // streams
    hm_map streams;           // id -> stream
    stoq_stream *last_stream; // found last, NULL: none
    hm_list sending;          // streams with something to send, in turn
    hm_list telling;          // streams with something to tell
    hm_list ended;            // streams to be closed and freed

    // datagrams that wait to be sent
    hm_list datagrams;
    size_t datagram_bytes;

    // paths
    uint8_t challenge[8];
    bool challenge_pending, challenge_out;
    uint64_t challenge_until_us;
    uint8_t challenge_tries;
    uint8_t responses[STOQ_PENDING_PATH_MAX][8];
    unsigned response_count;
    bool ping_pending;

    // end
    uint64_t idle_at_us, close_until_us;
    uint64_t close_code, close_frame;
    bool close_app, close_pending, told_closed;
    unsigned close_packets; // received since we said it
    char close_reason[STOQ_REASON_MAX];
    size_t close_reason_len;

    stoq_conn_stats stats;
};

struct stoq_stream {
    stoq_conn *conn;
    uint64_t id;
    void *user;
    hm_list sending, telling, ended;
    hm_list lending;     // in ep->lending: received bytes are still in their datagrams
    bool has_tx, has_rx; // directions that exist
    bool app_blocked;    // a send was not accepted whole: tell when there is room
    bool stop_received;
    uint32_t send_most; // bytes that are kept to be sent, at most
    // sending
    stoq_sendbuf out;
    uint64_t tx_max; // what the peer allows
    bool fin, fin_sent, fin_lost;
    bool fin_seen;  // the frame with the end was acknowledged
    bool fin_acked; // and all before it
    bool reset, reset_pending, reset_acked;
    uint64_t reset_code;
    // receiving
    stoq_recvbuf in;
    stoq_window rx;
    uint64_t rx_highest;
    uint64_t final_size; // UINT64_MAX: not known
    bool max_pending;
    bool rx_done; // the end or a reset was given to the application
    bool reset_received;
    bool stopped, stop_pending;
    uint64_t stop_code; // ours
    uint64_t peer_reset_code, peer_stop_code;
    bool tell_readable, tell_writable, tell_open;
    bool early; // opened by the peer in a 0-RTT packet
};

// ---- conn.c -------------------------------------------------------------------------------------

// A server connection for a client's first Initial packet, or a client's. The ids are registered.
HM_CHECK hm_err conn_make(stoq_endpoint *ep, bool is_server, const struct sockaddr_in6 *peer,
                          stoq_conn **out);
HM_CHECK hm_err conn_start_server(stoq_conn *c, const stoq_packet *first, const stoq_cid *odcid,
                                  const stoq_cid *retry_scid);
HM_CHECK hm_err conn_start_client(stoq_conn *c, const char *server_name, const char *alpn,
                                  const stoq_session *session, bool early);
// A client's first packet in this version, with which everything begins; session may be NULL.
HM_CHECK hm_err conn_first_flight(stoq_conn *c, const stoq_version *version,
                                  const stoq_session *session, bool early);
void conn_init_space(stoq_space *s);
void conn_free(stoq_conn *c);
// Something is to be sent or told.
void conn_wake(stoq_conn *c);
// Tells what happens, where a log is kept.
#define CONN_EVENT(c, ...)                                                                         \
    do {                                                                                           \
        if ((c)->log != NULL)                                                                      \
            conn_event((c), &(stoq_event){__VA_ARGS__});                                           \
    } while (0)
void conn_event(const stoq_conn *c, const stoq_event *e);
void conn_set_timer(stoq_conn *c);
void conn_on_timer(stoq_conn *c, uint64_t now);
// Ends the connection with an error of ours.
void conn_fail(stoq_conn *c, uint64_t code, uint64_t frame, const char *reason);
void conn_drain(stoq_conn *c, uint64_t code, bool app, hm_bytes reason);
void conn_tls_advance(stoq_conn *c);
void conn_discard_space(stoq_conn *c, stoq_level level);
void conn_confirmed(stoq_conn *c);
void conn_touch_idle(stoq_conn *c, uint64_t now);
// Sets what counts from the first process call after a connection was made or closed.
void conn_begin(stoq_conn *c, uint64_t now);
// Callbacks that wait. May close and open streams and connections.
void conn_tell(stoq_conn *c);
// A packet of the current keys was acknowledged, which the next update needs (RFC 9001,
// section 6.1).
static inline bool conn_keys_acked(const stoq_conn *c)
{
    uint64_t acked = c->spaces[STOQ_LEVEL_APP].largest_acked;
    return acked != UINT64_MAX && acked >= c->tx_phase_first_pn;
}
HM_CHECK hm_err conn_prepare_rx_next(stoq_conn *c);
uint64_t conn_pto_us(const stoq_conn *c, stoq_level level);
const stoq_limits *conn_limits(const stoq_conn *c);
uint32_t conn_stream_window(const stoq_conn *c); // that a stream begins with
const stoq_callbacks *conn_callbacks(const stoq_conn *c);
void *conn_endpoint_user(const stoq_conn *c);
static inline const stoq_cid *conn_dcid(const stoq_conn *c)
{
    return &c->remote[c->remote_at].cid;
}

static inline bool conn_same_address(const struct sockaddr_in6 *a, const struct sockaddr_in6 *b)
{
    return a->sin6_port == b->sin6_port && memcmp(&a->sin6_addr, &b->sin6_addr, 16) == 0;
}

// ---- conn_params.c ------------------------------------------------------------------------------

HM_CHECK hm_err conn_encode_params(const stoq_conn *c, hm_buf *out); // ours
HM_CHECK hm_err conn_on_params(void *conn, hm_bytes encoded);        // the peer's, for TLS
// ---- conn_session.c -----------------------------------------------------------------------------

// TLS is done with: nothing more is wanted of it, and the handshake is confirmed.
void conn_tls_end(stoq_conn *c);
void session_on_ticket(stoq_conn *c, SSL_SESSION *s);
// HM_E_STOQ_TLS: no secret could be exported.
HM_CHECK hm_err session_on_complete(stoq_conn *c);
void sessions_tell(stoq_conn *c);
void sessions_free(stoq_conn *c);

// Application data may be sent.
static inline bool conn_usable(const stoq_conn *c)
{
    return c->handshake_complete || c->early_tx ||
           (c->is_server && c->early == STOQ_EARLY_ACCEPTED);
}
// What the handshake has chosen; false: the connection was ended for it.
bool conn_learn_names(stoq_conn *c);
HM_CHECK hm_err early_on_secret(stoq_conn *c, bool seal, hm_aead_cipher cipher, hm_bytes secret);
// A client may send under what it remembers.
void early_begin(stoq_conn *c, const stoq_transport_params *remembered);
// The peer's parameters came to a client that had offered early data; HM_E_STOQ_TRANSPORT: they
// break what the server said when it gave the ticket.
HM_CHECK hm_err early_on_params(stoq_conn *c, const stoq_transport_params *p);
void early_reject(stoq_conn *c); // if it was offered: it goes when the handshake is over
void early_on_complete(stoq_conn *c, uint64_t now);
// Keeps a 0-RTT packet whose keys may come; false: it is dropped.
bool early_hold(stoq_conn *c, const struct sockaddr_in6 *from, hm_bytes packet, uint8_t ecn);
void early_forget_keys(stoq_conn *c);
void early_free(stoq_conn *c);
void early_free_list(hm_list *held);
typedef struct stoq_held {
    hm_list link;
    struct sockaddr_in6 from;
    uint8_t ecn;
    size_t len;
    uint8_t bytes[];
} stoq_held;

// ---- conn_path.c --------------------------------------------------------------------------------

HM_CHECK hm_err conn_new_local_cid(stoq_conn *c);
void conn_retire_remote(stoq_conn *c, uint64_t seq);
void conn_watch_token(stoq_conn *c); // of the id in use, which may be another one now
HM_CHECK hm_err path_on_frame(stoq_conn *c, const stoq_frame *f, const stoq_cid *dcid,
                              uint64_t *code);
// A packet that moves the connection came in a datagram of this length.
void path_on_move(stoq_conn *c, const struct sockaddr_in6 *from, size_t len, uint64_t now);
void path_on_timer(stoq_conn *c, uint64_t now);
// Everything that is known of the path is void; the peer has this id on the next one.
void path_leave(stoq_conn *c, unsigned remote);

// ---- conn_other.c -------------------------------------------------------------------------------

void preferred_begin(stoq_conn *c); // the handshake is confirmed
// Is a packet from there the other path's? asks: it has a PATH_CHALLENGE.
bool other_takes(const stoq_conn *c, const struct sockaddr_in6 *from, bool probing, bool asks);
// One that is, with the data of a PATH_CHALLENGE or NULL; `moves`: it is the newest, and not only
// a probe. True: all goes by that path now.
bool other_on_arrival(stoq_conn *c, const struct sockaddr_in6 *from, size_t len,
                      const uint8_t *response, bool moves, uint64_t now);
void other_forget(stoq_conn *c); // the peer was followed to where it is now
bool other_on_response(stoq_conn *c, const uint8_t data[8]); // false: to no challenge of it
void other_on_timer(stoq_conn *c, uint64_t now);
// A datagram for that path; returns its length, 0 for none.
size_t other_send(stoq_conn *c, uint8_t *out, uint64_t now);
void other_free(stoq_conn *c);

// ---- conn_version.c -----------------------------------------------------------------------------

void version_on_packet(stoq_conn *c, const stoq_packet *pkt); // of Version Negotiation
// Checks the peer's parameters, and a server chooses. *code says with what the connection is to be
// closed.
HM_CHECK hm_err version_on_params(stoq_conn *c, const stoq_transport_params *p, uint64_t *code);
// The keys that may open a long packet of this level; NULL: none. When they are fresh, which are
// zero before, version_settle() is told whether they did.
stoq_keys *version_keys(stoq_conn *c, const stoq_packet *pkt, stoq_level level, stoq_keys fresh[2]);
void version_settle(stoq_conn *c, const stoq_packet *pkt, bool opened, stoq_keys fresh[2]);

// ---- conn_mtu.c ---------------------------------------------------------------------------------

void mtu_begin(stoq_conn *c); // on a new path
// The size of a probe that is to be sent now into so much of a window, 0: none.
size_t mtu_probe_due(stoq_conn *c, uint64_t window, uint64_t now);
void mtu_on_acked(stoq_conn *c, const stoq_sent *p);
void mtu_on_lost(stoq_conn *c, const stoq_sent *p, uint64_t now);
void mtu_on_timeout(stoq_conn *c);
// The probe that conn_send() built just now is too long for this host.
void mtu_unsendable(stoq_conn *c, uint64_t now);

// ---- conn_datagram.c ----------------------------------------------------------------------------

HM_CHECK hm_err datagram_on_frame(stoq_conn *c, const stoq_frame *f, size_t frame_bytes,
                                  uint64_t *code);
// Writes those that fit; returns the end.
uint8_t *datagrams_write(stoq_conn *c, uint8_t *p, uint8_t *end, bool *any);
void datagrams_free(stoq_conn *c);
void datagrams_tell(stoq_endpoint *ep); // those of this receive

// ---- conn_recv.c --------------------------------------------------------------------------------

void conn_receive(stoq_conn *c, const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                  uint8_t ecn, uint64_t now);
// Datagrams of `segment` bytes each (the last one maybe shorter, none shorter than
// STOQ_SHORT_MIN), two to STOQ_RUN_MAX, that are 1-RTT packets for the same id.
#define STOQ_RUN_MAX STOQ_BATCH_MAX
void conn_receive_run(stoq_conn *c, const struct sockaddr_in6 *from, uint8_t *bytes, size_t len,
                      size_t segment, uint8_t ecn, uint64_t now);

// Ends the connection if this is a stateless reset of it (RFC 9000, section 10.3.1).
bool conn_take_reset(stoq_conn *c, const struct sockaddr_in6 *from, const uint8_t *bytes,
                     size_t len);

// ---- conn_ack.c ---------------------------------------------------------------------------------

void ack_init(stoq_conn *c);
HM_CHECK hm_err ack_on_frequency(stoq_conn *c, const stoq_frame *f, uint64_t *code);
// Must a 1-RTT packet be acknowledged at once for the order of numbers? For all that are out of
// order, and while acks.gap is set for all.
bool ack_out_of_order(stoq_conn *c, uint64_t pn, bool in_order);
void ack_ask(stoq_conn *c); // an ACK came: is another frequency wanted?
// Writes the frame that is pending, of at most STOQ_ACK_FREQUENCY_BYTES.
#define STOQ_ACK_FREQUENCY_BYTES 19u
uint8_t *ack_write_frequency(stoq_conn *c, uint8_t *p);

// ---- conn_send.c --------------------------------------------------------------------------------

// Builds datagrams into out: equal in length but for the last. Returns the bytes, 0 for nothing;
// *segment is the length of each. When it is c->mtu_probe, mtu_unsendable() may follow.
size_t conn_send(stoq_conn *c, uint8_t *out, size_t cap, uint64_t now, size_t *segment);
// A datagram with what is pending for the other path, to this id of the peer. 0: no room.
size_t conn_send_path(stoq_conn *c, unsigned remote, uint8_t *out, size_t room, uint64_t now);

// ---- conn_loss.c --------------------------------------------------------------------------------

// A record for the next packet, which counts once it is kept; NULL: too much is out.
stoq_sent *loss_record(stoq_conn *c, stoq_level level);
void loss_record_keep(stoq_conn *c, stoq_level level);
// On to the next packet number.
void loss_next_pn(stoq_conn *c, stoq_level level);
HM_CHECK hm_err loss_on_ack(stoq_conn *c, stoq_level level, const stoq_frame *ack, uint64_t now,
                            uint64_t *code);
// The packet sent last was never sent.
void loss_take_back(stoq_conn *c, stoq_level level);
uint64_t loss_timer_us(const stoq_conn *c, stoq_level *level, bool *is_pto);
// When the ring of a burst is to be given back: some time after nothing of it is under way.
uint64_t loss_shrink_us(const stoq_conn *c);
void loss_on_timer(stoq_conn *c, uint64_t now);
void loss_discard(stoq_conn *c, stoq_level level);
void loss_send_again(stoq_conn *c, stoq_level level); // all that is under way

// ---- stream.c -----------------------------------------------------------------------------------

stoq_stream *stream_find(stoq_conn *c, uint64_t id);
HM_CHECK hm_err stream_on_frame(stoq_conn *c, const stoq_frame *f, uint64_t *code);
// Writes as much of what streams have as fits; returns the end. The data of the last frame may stay
// where they are: then *tail has them, and the bytes before the end are room for them.
uint8_t *streams_write(stoq_conn *c, uint8_t *p, uint8_t *end, stoq_sent *sent, hm_bytes *tail,
                       bool *any);
bool streams_pending(const stoq_conn *c);
void stream_on_acked(stoq_conn *c, const stoq_sent_frame *f); // STREAM or RESET_STREAM
void stream_on_lost(stoq_conn *c, const stoq_sent_frame *f);
void streams_on_params(stoq_conn *c);
void streams_tell(stoq_conn *c);
void streams_close_all(stoq_conn *c);
void streams_unblock(stoq_conn *c); // the connection's window has grown
void streams_rewind(stoq_conn *c);  // nothing of what was sent was taken

#endif
